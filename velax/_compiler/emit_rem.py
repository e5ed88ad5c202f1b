"""The exact remainder of floats, for scalars and vectors: x86 has no vector instruction for it, and no import
is wanted.
"""

from __future__ import annotations

from velax._compiler.emit_core import Value
from velax._compiler.emit_narrow import Narrow

__all__ = ["Remainder"]

#: bits of the quotient that are taken off in one step; quotient bits times divisor bits stay exact in one
#: fused multiply-add
_STEP = 40


class Remainder(Narrow):
    """``float_rem``."""

    def float_rem(self, x: Value, y: Value) -> Value:
        """``x - trunc(x / y) * y`` without rounding, with the sign of ``x``; NaN for an infinite ``x`` or a zero ``y``.

        Long division in double precision: each step subtracts the leading bits of the quotient. The estimate
        of the quotient may be one unit too large, which shows as a negative remainder and is added back;
        every step is exact.
        """
        key = f"float_rem {x}, {y}"
        found = self.numbered.get(key)
        if found is not None:
            return found
        wide = x.elem == "double"
        a, b = (x, y) if wide else (self.convert("fpext", x, "double"), self.convert("fpext", y, "double"))
        a, b = self.intrinsic("fabs", a), self.intrinsic("fabs", b)
        finite = self.compare("fcmp olt", a, self.like(float("inf"), a))
        valid = self.simple("and", finite, self.compare("fcmp ogt", b, self.like(0.0, b)))
        dividend = self.choose(valid, a, self.like(0.0, a))
        divisor = self.choose(valid, b, self.like(1.0, b))
        rest = self._divide_long(dividend, divisor, wide)
        rest = self.choose(valid, rest, self.like(float("nan"), rest))
        result = self.intrinsic("copysign", rest if wide else self.convert("fptrunc", rest, x.elem), x)
        scope = self.placed(result.depth)
        self.numbered[key] = result
        scope.keys.append(key)
        return result

    def _divide_long(self, dividend: Value, divisor: Value, wide: bool) -> Value:
        """The loop, written where its operands exist."""
        ty, lanes = dividend.ty, dividend.lanes
        flag = f"<{lanes} x i1>" if lanes else "i1"
        integer = f"<{lanes} x i64>" if lanes else "i64"
        number = lambda value: self.like(value, dividend).ref
        bits = lambda value: f"splat (i64 {value})" if lanes else str(value)
        for base in ("fma", "trunc", "maxnum"):
            name = f"llvm.{base}.{f'v{lanes}' if lanes else ''}f64"
            self.declare(name, ty, ", ".join([ty] * {"fma": 3, "trunc": 1, "maxnum": 2}[base]))
        kind = f"{f'v{lanes}' if lanes else ''}f64"
        scope = self.placed(max(dividend.depth, divisor.depth))
        lines = scope.out.lines
        entry, head, step, done = scope.out.block, self.label("rem"), self.label("remstep"), self.label("remdone")

        def put(text: str) -> str:
            name = self.name()
            lines.append(f"  {name} = {text}")
            return name

        rest, following = self.name(), self.name()
        lines.append(f"  br label %{head}\n{head}:")
        lines.append(f"  {rest} = phi {ty} [{dividend.ref}, %{entry}], [{following}, %{step}]")
        active = put(f"fcmp oge {ty} {rest}, {divisor.ref}")
        more = active
        if lanes:
            more = put(f"icmp ne i{lanes} {put(f'bitcast {flag} {active} to i{lanes}')}, 0")
        lines.append(f"  br i1 {more}, label %{step}, label %{done}\n{step}:")
        unit_of = divisor.ref
        quotient = put(f"fdiv {ty} {rest}, {unit_of}")
        if wide:
            # The quotient of a huge and a tiny number overflows: divide by a multiple of the divisor first.
            for _ in range(2):
                over = put(f"fcmp oeq {ty} {quotient}, {number(float('inf'))}")
                larger = put(f"fmul {ty} {unit_of}, {number(2.0**600)}")
                unit_of = put(f"select {flag} {over}, {ty} {larger}, {ty} {unit_of}")
                quotient = put(f"fdiv {ty} {rest}, {unit_of}")
        raw = put(f"bitcast {ty} {quotient} to {integer}")
        leading = put(f"and {integer} {raw}, {bits(-(1 << 53 - _STEP))}")
        leading = put(f"bitcast {integer} {leading} to {ty}")
        leading = put(f"call {ty} @llvm.trunc.{kind}({ty} {leading})")
        negative = put(f"fneg {ty} {leading}")
        left = put(f"call {ty} @llvm.fma.{kind}({ty} {negative}, {ty} {unit_of}, {ty} {rest})")
        power = put(f"and {integer} {raw}, {bits(0x7FF << 52)}")
        power = put(f"bitcast {integer} {power} to {ty}")
        unit = put(f"fmul {ty} {power}, {number(2.0 ** -(_STEP - 1))}")
        unit = put(f"call {ty} @llvm.maxnum.{kind}({ty} {unit}, {ty} {number(1.0)})")
        back = put(f"call {ty} @llvm.fma.{kind}({ty} {unit}, {ty} {unit_of}, {ty} {left})")
        below = put(f"fcmp olt {ty} {left}, {number(0.0)}")
        left = put(f"select {flag} {below}, {ty} {back}, {ty} {left}")
        lines.append(f"  {following} = select {flag} {active}, {ty} {left}, {ty} {rest}")
        lines.append(f"  br label %{head}\n{done}:")
        scope.out.block = done
        return Value(rest, "double", lanes, scope.depth)
