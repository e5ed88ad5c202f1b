"""Float formats narrower than ``float``, and float conversions: integer arithmetic that rounds once, to nearest even.

A value of bf16, f8e5m2, f8e4m3fn (and f16 where the CPU has no arithmetic of it) is kept as the
``float`` of equal value. Its four basic operations and square root computed in ``float`` and
rounded are correct, since 24 >= 2 p + 2 bits. Where one ``float`` operation would round a first
time (f64 or 64-bit integers to a narrow format, fused multiply-add) the first rounding is *to odd*:
truncate and set the last bit if anything was lost, after which the second rounding is exact (Boldo
and Melquiond, 2008).
"""

from __future__ import annotations

from velax._compiler.emit_core import Value, Writer
from velax._ir.floats import FORMATS
from velax._ir.loops import SIGNED, WIDTH

__all__ = ["Narrow"]

_SIGNED = frozenset(SIGNED)


class Narrow(Writer):
    """Rounding, encoding and decoding of narrow floats; conversions between floats and from integers."""

    def memory_elem(self, dtype: str) -> str:
        """The LLVM type of one element in memory."""
        if dtype == "bool":
            return "i8"
        if dtype in ("bf16", "f8e5m2", "f8e4m3fn") or (dtype == "f16" and not self.native_half):
            return f"i{WIDTH[dtype]}"
        return self.elem(dtype)

    def from_memory(self, dtype: str, x: Value) -> Value:
        """The register value of a loaded memory value."""
        if dtype == "bool":
            return self.compare("icmp ne", x, self.like(0, x))
        return self.from_bits(dtype, x) if self.memory_elem(dtype) != self.elem(dtype) else x

    def to_memory(self, dtype: str, x: Value) -> Value:
        """The memory value of a register value."""
        if dtype == "bool":
            return self.convert("zext", x, "i8") if x.const is None else self.like_int(int(x.const), "i8", x.lanes)
        return self.to_bits(dtype, x) if self.memory_elem(dtype) != x.elem else x

    def like_int(self, value: int, elem: str, lanes: int) -> Value:
        return self.splat(self.int_literal(value, elem), lanes)

    def from_bits(self, dtype: str, x: Value) -> Value:
        """The value of ``dtype`` whose bits are the integer ``x``."""
        elem = self.elem(dtype)
        if dtype == "bf16":
            bits = self.convert("zext", x, "i32")
            return self.convert("bitcast", self.simple("shl", bits, self.like(16, bits)), "float")
        if dtype == "f16" and elem == "float":
            return self.convert("fpext", self.convert("bitcast", x, "half"), "float")
        if dtype == "f8e5m2":
            bits = self.convert("zext", x, "i16")
            bits = self.simple("shl", bits, self.like(8, bits))
            return self.convert("fpext", self.convert("bitcast", bits, "half"), "float")
        if dtype == "f8e4m3fn":
            return self._decode_e4m3fn(x)
        return x if elem == x.elem else self.convert("bitcast", x, elem)

    def to_bits(self, dtype: str, x: Value) -> Value:
        """The bits of a value of ``dtype`` as an integer."""
        integer = f"i{WIDTH[dtype]}"
        if x.elem == integer:
            return x
        if dtype == "bf16":
            bits = self.convert("bitcast", x, "i32")
            return self.convert("trunc", self.simple("lshr", bits, self.like(16, bits)), "i16")
        if dtype == "f16" and x.elem == "float":
            return self.convert("bitcast", self.convert("fptrunc", x, "half"), "i16")
        if dtype == "f8e5m2":
            bits = self.convert("bitcast", self.convert("fptrunc", x, "half"), "i16")
            return self.convert("trunc", self.simple("lshr", bits, self.like(8, bits)), "i8")
        if dtype == "f8e4m3fn":
            return self._encode_e4m3fn(x)
        return self.convert("bitcast", x, integer)

    def _decode_e4m3fn(self, x: Value) -> Value:
        """Exponent and mantissa moved into place make the value times 2**-120, subnormal numbers included."""
        wide = self.convert("zext", x, "i32")
        magnitude = self.simple("and", wide, self.like(0x7F, wide))
        scaled = self.convert("bitcast", self.simple("shl", magnitude, self.like(20, wide)), "float")
        value = self.simple("fmul", scaled, self.like(2.0**120, scaled))
        nan = self.compare("icmp eq", magnitude, self.like(0x7F, wide))
        value = self.choose(nan, self.like(float("nan"), value), value)
        sign = self.simple("shl", wide, self.like(24, wide))
        return self.intrinsic("copysign", value, self.convert("bitcast", sign, "float"))

    def _encode_e4m3fn(self, x: Value) -> Value:
        scaled = self.simple("fmul", self.intrinsic("fabs", x), self.like(2.0**-120, x))
        bits = self.convert("bitcast", scaled, "i32")
        bits = self.simple("lshr", bits, self.like(20, bits))
        bits = self.choose(self.compare("fcmp uno", x, x), self.like(0x7F, bits), bits)
        sign = self.convert("bitcast", x, "i32")
        sign = self.simple("and", self.simple("lshr", sign, self.like(24, sign)), self.like(0x80, sign))
        return self.convert("trunc", self.simple("or", bits, sign), "i8")

    def round_narrow(self, x: Value, dtype: str) -> Value:
        """A ``float`` rounded to the nearest value of ``dtype``; what is no narrow format passes unchanged."""
        if dtype == "bf16":
            rounded = self._round_bits(x, 16)
            return self.choose(self.compare("fcmp uno", x, x), self.like(float("nan"), x), rounded)
        if dtype == "f16" and x.elem == "float":
            return self.convert("fpext", self.convert("fptrunc", x, "half"), "float")
        if dtype in ("f8e5m2", "f8e4m3fn"):
            return self._round_f8(x, dtype)
        return x

    def _round_bits(self, x: Value, drop: int) -> Value:
        """Round to nearest even at bit ``drop`` of the representation, which also carries into the exponent."""
        bits = self.convert("bitcast", x, "i32")
        odd = self.simple("and", self.simple("lshr", bits, self.like(drop, bits)), self.like(1, bits))
        bits = self.simple("add", bits, self.simple("add", odd, self.like((1 << drop - 1) - 1, bits)))
        bits = self.simple("and", bits, self.like(-(1 << drop), bits))
        return self.convert("bitcast", bits, "float")

    def _round_f8(self, x: Value, dtype: str) -> Value:
        form = FORMATS[dtype]
        magnitude = self.intrinsic("fabs", x)
        normal = self._round_bits(magnitude, 24 - form.precision)
        # Adding and subtracting this number rounds at the spacing of the subnormal numbers.
        shift = self.like(2.0 ** (form.min_exponent + 24 - form.precision), x)
        subnormal = self.simple("fsub", self.simple("fadd", magnitude, shift), shift)
        small = self.compare("fcmp olt", magnitude, self.like(2.0**form.min_exponent, x))
        rounded = self.choose(small, subnormal, normal)
        over = self.compare("fcmp ogt", rounded, self.like(form.largest, x))
        rounded = self.choose(over, self.like(float("inf") if form.has_infinity else float("nan"), x), rounded)
        rounded = self.choose(self.compare("fcmp uno", x, x), self.like(float("nan"), x), rounded)
        return self.intrinsic("copysign", rounded, x)

    def _odd_float(self, x: Value) -> Value:
        """A ``double`` rounded to odd as ``float``."""
        near = self.convert("fptrunc", x, "float")
        back = self.convert("fpext", near, "double")
        bits = self.convert("bitcast", near, "i32")
        beyond = self.compare("fcmp ogt", self.intrinsic("fabs", back), self.intrinsic("fabs", x))
        toward_zero = self.choose(beyond, self.simple("sub", bits, self.like(1, bits)), bits)
        inexact = self.compare("fcmp one", back, x)
        odd = self.choose(inexact, self.simple("or", toward_zero, self.like(1, bits)), bits)
        return self.convert("bitcast", odd, "float")

    def cast_float(self, to: str, dtype: str, x: Value) -> Value:
        """One float dtype to another, rounded once."""
        elem = self.elem(to)
        if x.elem == "half" and elem != "half":
            x = self.convert("fpext", x, "double" if elem == "double" else "float")
        if elem == "half":
            if dtype == "f64" or x.elem == "float":
                return self.convert("fptrunc", x, "half")
            return x
        if elem == "double":
            return x if x.elem == "double" else self.convert("fpext", x, "double")
        if to == "f32":
            return self.convert("fptrunc", x, "float") if x.elem == "double" else x
        if x.elem == "double":
            return self.round_narrow(self._odd_float(x), to)
        precision, low = FORMATS[to][0], FORMATS[to][1] - FORMATS[to][0]
        source = FORMATS[dtype]
        if (
            source.precision <= precision
            and source.min_exponent - source.precision >= low
            and source.largest <= FORMATS[to].largest
        ):
            return x
        return self.round_narrow(x, to)

    def int_to_float(self, to: str, dtype: str, x: Value) -> Value:
        """An integer or bool rounded once to a float dtype."""
        elem = self.elem(to)
        opcode = "sitofp" if dtype in _SIGNED else "uitofp"
        bits = WIDTH[dtype]
        if to in ("f32", "f64") or elem == "half":
            return self.convert(opcode, x, elem)
        if bits <= 16:
            return self.round_narrow(self.convert(opcode, x, "float"), to)
        if bits == 64:
            # Fold the bits that a double cannot hold into its last one.
            lost = self.simple("and", x, self.like(2047, x))
            sticky = self.choose(self.compare("icmp ne", lost, self.like(0, x)), self.like(2048, x), self.like(0, x))
            odd = self.simple("or", self.simple("and", x, self.like(-2048, x)), sticky)
            magnitude = self.intrinsic("umin", x, self.simple("sub", self.like(0, x), x)) if dtype in _SIGNED else x
            small = self.compare("icmp ult", magnitude, self.like(1 << 53, x))
            x = self.choose(small, x, odd)
        return self.round_narrow(self._odd_float(self.convert(opcode, x, "double")), to)

    def narrow_fma(self, dtype: str, x: Value, y: Value, z: Value) -> Value:
        """``x * y + z`` of narrow values: the product is exact as ``double``, the sum is rounded to odd."""
        x, y, z = (self.convert("fpext", v, "double") for v in (x, y, z))
        product = self.simple("fmul", x, y)
        total = self.simple("fadd", product, z)
        # The exact error of the sum (Knuth's two-sum) says on which side of it the true value lies.
        part = self.simple("fsub", total, product)
        error = self.simple(
            "fadd", self.simple("fsub", product, self.simple("fsub", total, part)), self.simple("fsub", z, part)
        )
        bits = self.convert("bitcast", total, "i64")
        zero = self.like(0.0, error)
        beyond = self.simple(
            "xor", self.compare("fcmp olt", error, zero), self.compare("icmp slt", bits, self.like(0, bits))
        )
        toward_zero = self.choose(beyond, self.simple("sub", bits, self.like(1, bits)), bits)
        inexact = self.compare("fcmp one", error, zero)
        odd = self.choose(inexact, self.simple("or", toward_zero, self.like(1, bits)), bits)
        return self.round_narrow(self._odd_float(self.convert("bitcast", odd, "double")), dtype)
