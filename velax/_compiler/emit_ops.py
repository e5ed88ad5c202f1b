"""Lowering of scalar operations to LLVM instructions, for scalars and vectors alike.

Each method meets the semantics stated in `velax._ir.loops` exactly. Narrow floats (bf16, f8, and f16 without native
arithmetic) live in registers as the equal ``float`` and are rounded after each operation that can leave their format.
"""

from __future__ import annotations

from velax._compiler.emit_core import Value
from velax._compiler.emit_rem import Remainder
from velax._ir.loops import FLOATS, SIGNED, WIDTH
from velax._ir.loops_build import fold_binary, fold_cast, fold_unary, wrap

__all__ = ["Operations"]

_FLOATS = frozenset(FLOATS)
_SIGNED = frozenset(SIGNED)
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOAT_COMPARE = {
    "eq": "fcmp oeq",
    "ne": "fcmp une",
    "lt": "fcmp olt",
    "le": "fcmp ole",
    "gt": "fcmp ogt",
    "ge": "fcmp oge",
}
_INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_ORDER = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_ROUNDING = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint"}


class Operations(Remainder):
    """``unary``, ``binary``, ``fma``, ``select``, ``cast``, ``bitcast`` on `Value`s of a stated dtype."""

    def unary(self, op: str, dtype: str, x: Value) -> Value:
        if dtype in _FLOATS:
            if op == "neg":
                return self.inst(f"fneg {x}", x.elem, x.lanes, x.depth)
            if op == "abs":
                return self.intrinsic("fabs", x)
            if op == "sqrt":
                return self.round_narrow(self.intrinsic("sqrt", x), dtype)
            if op in _ROUNDING:
                return self.intrinsic(_ROUNDING[op], x)
            raise TypeError(f"{op} is not defined for {dtype}")
        if op in _ROUNDING or op == "sqrt" or (dtype == "bool" and op != "not"):
            raise TypeError(f"{op} is not defined for {dtype}")
        if x.const is not None:
            return self.splat(self.literal(fold_unary(op, x.const, dtype), dtype), x.lanes)
        if op == "neg":
            return self.simple("sub", self.like(0, x), x)
        if op == "not":
            return self.simple("xor", x, self.like(True if dtype == "bool" else -1, x))
        if op == "abs":
            return self._flagged("abs", x) if dtype in _SIGNED else x
        if op == "clz":
            return self._flagged("ctlz", x)
        return self.intrinsic("ctpop", x)

    def _flagged(self, base: str, x: Value) -> Value:
        """``llvm.abs`` and ``llvm.ctlz``, whose flag says that the extreme operand is defined."""
        name = f"llvm.{base}.{f'v{x.lanes}' if x.lanes else ''}{x.elem}"
        self.declare(name, x.ty, f"{x.ty}, i1 immarg")
        return self.inst(f"call {x.ty} @{name}({x}, i1 false)", x.elem, x.lanes, x.depth)

    def binary(self, op: str, dtype: str, x: Value, y: Value) -> Value:
        x, y = self.same(x, y)
        if dtype in _FLOATS:
            return self._float_binary(op, dtype, x, y)
        return self._int_binary(op, dtype, x, y)

    def _float_binary(self, op: str, dtype: str, x: Value, y: Value) -> Value:
        opcode = _FLOAT_OPS.get(op)
        if opcode is not None:
            return self.round_narrow(self.simple(opcode, x, y), dtype)
        opcode = _FLOAT_COMPARE.get(op)
        if opcode is not None:
            return self.compare(opcode, x, y)
        if op == "min":
            return self.intrinsic("minimum", x, y)
        if op == "max":
            return self.intrinsic("maximum", x, y)
        if op == "copysign":
            return self.intrinsic("copysign", x, y)
        if op == "rem":
            return self.float_rem(x, y)
        raise TypeError(f"{op} is not defined for {dtype}")

    def _int_binary(self, op: str, dtype: str, x: Value, y: Value) -> Value:
        if op == "copysign":
            raise TypeError(f"copysign is not defined for {dtype}")
        a, b = x.const, y.const
        if a is not None and b is not None:
            value = fold_binary(op, a, b, dtype)
            return self.splat(self.literal(value, "bool" if type(value) is bool else dtype), x.lanes)
        opcode = _INT_OPS.get(op)
        if opcode is not None:
            if dtype == "bool" and op not in ("and", "or", "xor"):
                raise TypeError(f"{op} is not defined for bool")
            if b is not None:
                if (op in ("add", "sub", "or", "xor") and b == 0) or (op == "mul" and b == 1):
                    return x
                if op in ("mul", "and") and b == 0:
                    return y
            if a is not None:
                if (op in ("add", "or", "xor") and a == 0) or (op == "mul" and a == 1):
                    return y
                if op in ("mul", "and") and a == 0:
                    return x
            return self.simple(opcode, x, y)
        if op in ("eq", "ne"):
            return self.compare(f"icmp {op}", x, y)
        sign = "s" if dtype in _SIGNED else "u"
        order = _ORDER.get(op)
        if order is not None:
            return self.compare(f"icmp {sign}{order}", x, y)
        if op in ("min", "max"):
            if dtype == "bool":
                return self.simple("and" if op == "min" else "or", x, y)
            return self.intrinsic(f"{sign}{op}", x, y)
        if dtype == "bool":
            raise TypeError(f"{op} is not defined for bool")
        if op in ("div", "rem"):
            return self._int_divide(op, dtype, x, y)
        if op == "mulhi":
            return self._mulhi(dtype, x, y)
        return self._shift(op, dtype, x, y)

    def _shift(self, op: str, dtype: str, x: Value, y: Value) -> Value:
        bits = WIDTH[dtype]
        opcode = {"shl": "shl", "shrl": "lshr", "shra": "ashr"}[op]
        if y.const is not None:
            amount = y.const & ((1 << bits) - 1)
            if amount >= bits:
                if op != "shra":
                    return self.like(0, x)
                amount = bits - 1
            return x if amount == 0 else self.simple(opcode, x, self.like(amount, x))
        if op == "shra":
            return self.simple(opcode, x, self.intrinsic("umin", y, self.like(bits - 1, y)))
        inside = self.compare("icmp ult", y, self.like(bits, y))
        return self.choose(inside, self.simple(opcode, x, y), self.like(0, x))

    def _int_divide(self, op: str, dtype: str, x: Value, y: Value) -> Value:
        signed = dtype in _SIGNED
        opcode = ("s" if signed else "u") + op
        d = y.const
        if d is not None:
            if d == 0:
                return self.like(wrap(-1, dtype), x) if op == "div" else x
            if d == 1:
                return x if op == "div" else self.like(0, x)
            if d == -1 and signed:
                return self.simple("sub", self.like(0, x), x) if op == "div" else self.like(0, x)
            if x.lanes and WIDTH[dtype] == 64 and abs(d) & (abs(d) - 1) and self.target.has("avx512dq"):
                quotient = self.vector_quotient(dtype, x, y)
                return quotient if op == "div" else self.simple("sub", x, self.simple("mul", quotient, y))
            return self.simple(opcode, x, self.like(d, x)) if signed else self._divide_unsigned(op, x, d)
        zero = self.compare("icmp eq", y, self.like(0, y))
        unsafe = zero
        if signed:
            lowest = self.compare("icmp eq", x, self.like(-(1 << WIDTH[dtype] - 1), x))
            unsafe = self.simple("or", zero, self.simple("and", lowest, self.compare("icmp eq", y, self.like(-1, y))))
        safe = self.choose(unsafe, self.like(1, y), y)
        if x.lanes:
            quotient = self.vector_quotient(dtype, x, safe)
            if op == "div":
                return self.choose(zero, self.like(wrap(-1, dtype), x), quotient)
            return self.choose(zero, x, self.simple("sub", x, self.simple("mul", quotient, safe)))
        result = self.simple(opcode, x, safe)
        return self.choose(zero, self.like(wrap(-1, dtype), x) if op == "div" else x, result)

    def _divide_unsigned(self, op: str, x: Value, d: int) -> Value:
        if d & (d - 1) == 0:
            if op == "div":
                return self.simple("lshr", x, self.like(d.bit_length() - 1, x))
            return self.simple("and", x, self.like(d - 1, x))
        return self.simple("u" + op, x, self.like(d, x))

    def vector_quotient(self, dtype: str, x: Value, y: Value) -> Value:
        """``x / y`` toward zero for vectors without zero divisors or overflow: x86 divides only floats in vectors.

        The float quotient of integers of ``n`` bits truncates right when its precision exceeds ``n``: a
        quotient below an integer is below it by at least ``2**-n`` relatively.
        """
        bits = WIDTH[dtype]
        sign = "s" if dtype in _SIGNED else "u"
        if bits < 64:
            elem = "float" if bits <= 16 else "double"
            quotient = self.simple("fdiv", self.convert(f"{sign}itofp", x, elem), self.convert(f"{sign}itofp", y, elem))
            return self.convert(f"fpto{sign}i", quotient, x.elem)
        if not self.target.has("avx512dq"):
            return self.simple(f"{sign}div", x, y)
        if sign == "u":
            return self._quotient_words(x, y)
        zero = self.like(0, x)
        quotient = self._quotient_words(self._flagged("abs", x), self._magnitude(y))
        negative = self.compare("icmp slt", self.simple("xor", x, y), zero)
        return self.choose(negative, self.simple("sub", zero, quotient), quotient)

    def _magnitude(self, y: Value) -> Value:
        return self._flagged("abs", y) if y.const is None else self.like(abs(y.const), y)

    def _quotient_words(self, x: Value, y: Value) -> Value:
        """The quotient of unsigned 64-bit integers, as floats in two steps.

        The reciprocal is made smaller by more than its rounding errors (five of ``2**-53``), so that an
        estimate is never too large. The first leaves a remainder of less than ``2**16`` divisors; the second
        is short by one at most.
        """
        shrink = 1.0 - 2.0**-50
        if y.const is not None:
            one = self.convert("uitofp", x, "double")
            inverse = self.like(1.0 / y.const * shrink, one)
        else:
            divisor = self.convert("uitofp", y, "double")
            inverse = self.simple(
                "fmul", self.simple("fdiv", self.like(1.0, divisor), divisor), self.like(shrink, divisor)
            )

        def estimate(v: Value) -> Value:
            return self.convert("fptoui", self.simple("fmul", self.convert("uitofp", v, "double"), inverse), "i64")

        first = estimate(x)
        rest = self.simple("sub", x, self.simple("mul", first, y))
        second = estimate(rest)
        rest = self.simple("sub", rest, self.simple("mul", second, y))
        quotient = self.simple("add", first, second)
        short = self.compare("icmp uge", rest, y)
        return self.choose(short, self.simple("add", quotient, self.like(1, quotient)), quotient)

    def _mulhi(self, dtype: str, x: Value, y: Value) -> Value:
        bits = WIDTH[dtype]
        if bits == 64 and x.lanes:
            return self._mulhi_words(dtype, x, y)
        extend = "sext" if dtype in _SIGNED else "zext"
        wide = f"i{2 * bits}"
        product = self.simple("mul", self.convert(extend, x, wide), self.convert(extend, y, wide))
        return self.convert("trunc", self.simple("lshr", product, self.like(bits, product)), x.elem)

    def _mulhi_words(self, dtype: str, x: Value, y: Value) -> Value:
        """High 64 bits of 64 x 64 from four products of 32-bit halves; signed operands then take back what
        wrapping added.
        """
        low = lambda v: self.simple("and", v, self.like(0xFFFFFFFF, v))
        high = lambda v: self.simple("lshr", v, self.like(32, v))
        add = lambda a, b: self.simple("add", a, b)
        x0, x1, y0, y1 = low(x), high(x), low(y), high(y)
        mixed = add(self.simple("mul", x1, y0), high(self.simple("mul", x0, y0)))
        other = add(self.simple("mul", x0, y1), low(mixed))
        result = add(add(self.simple("mul", x1, y1), high(mixed)), high(other))
        if dtype in _SIGNED:
            for a, b in ((x, y), (y, x)):
                sign = self.simple("ashr", a, self.like(63, a))
                result = self.simple("sub", result, self.simple("and", sign, b))
        return result

    def fma(self, dtype: str, x: Value, y: Value, z: Value) -> Value:
        lanes = max(x.lanes, y.lanes, z.lanes)
        x, y, z = self.splat(x, lanes), self.splat(y, lanes), self.splat(z, lanes)
        if dtype in ("f32", "f64") or x.elem == "half":
            return self.intrinsic("fma", x, y, z)
        return self.narrow_fma(dtype, x, y, z)

    def select(self, cond: Value, x: Value, y: Value) -> Value:
        if cond.const is not None:
            return x if cond.const else y
        lanes = max(cond.lanes, x.lanes, y.lanes)
        # A uniform condition stays scalar: one branch-free blend of whole registers.
        return self.choose(cond, self.splat(x, lanes), self.splat(y, lanes))

    def cast(self, to: str, dtype: str, x: Value) -> Value:
        if to == dtype:
            return x
        if x.const is not None and to not in _FLOATS:
            return self.splat(self.literal(fold_cast(to, x.const), to), x.lanes)
        if dtype in _FLOATS:
            if to in _FLOATS:
                return self.cast_float(to, dtype, x)
            if to == "bool":
                return self.compare("fcmp une", x, self.like(0.0, x))
            return self._saturate(to, x)
        if to in _FLOATS:
            return self.int_to_float(to, dtype, x)
        if to == "bool":
            return self.compare("icmp ne", x, self.like(0, x))
        elem = self.elem(to)
        if elem == x.elem:
            return x
        if dtype == "bool":
            return self.convert("zext", x, elem)
        if WIDTH[to] < WIDTH[dtype]:
            return self.convert("trunc", x, elem)
        return self.convert("sext" if dtype in _SIGNED else "zext", x, elem)

    def _saturate(self, to: str, x: Value) -> Value:
        """Float to integer: out of range to the nearest end, NaN to 0. (LLVM's own saturating conversion is
        scalar code for most types.)
        """
        if x.elem == "half":
            # LLVM 22 turns NaN into the lowest integer when it converts halves directly.
            x = self.convert("fpext", x, "float")
        bits, signed = WIDTH[to], to in _SIGNED
        opcode = "fptosi" if signed else "fptoui"
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if bits < (24 if x.elem == "float" else 53):
            # Both ends are floats: clamp first, convert by the 32-bit instruction.
            below = self.compare("fcmp ole", x, self.like(float(low), x))
            above = self.compare("fcmp oge", x, self.like(float(high), x))
            x = self.choose(above, self.like(float(high), x), self.choose(below, self.like(float(low), x), x))
            x = self.choose(self.compare("fcmp uno", x, x), self.like(0.0, x), x)
            result = self.convert(opcode if bits == 32 else "fptosi", x, "i32")
            return result if bits == 32 else self.convert("trunc", result, self.elem(to))
        above = self.compare("fcmp oge", x, self.like(float(high + 1), x))
        result = self.convert(opcode, x, self.elem(to))
        result = self.choose(above, self.like(high, result), result)
        if not signed:
            # Not "less than": NaN too becomes 0.
            return self.choose(self.compare("fcmp ult", x, self.like(0.0, x)), self.like(0, result), result)
        below = self.compare("fcmp olt", x, self.like(float(low), x))
        result = self.choose(below, self.like(low, result), result)
        return self.choose(self.compare("fcmp uno", x, x), self.like(0, result), result)

    def bitcast(self, to: str, dtype: str, x: Value) -> Value:
        return self.from_bits(to, self.to_bits(dtype, x))
