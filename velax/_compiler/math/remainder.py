"""The remainder of C's ``fmod``, exact for every pair of floats, without a loop.

binary32 runs in binary64: there one step ``r - rint(r/y) y`` is exact (the quotient, 53 bits, times a 24-bit
  ``y`` fits the fused multiply-add) and
takes 51 bits off a quotient of at most 278 bits.

binary64 has quotients of up to 2098 bits, so the steps are replaced by modular exponentiation: with both
significands as integers, ``x mod y`` follows from ``2^k mod y``, built from the bits of ``k`` by squaring and
doubling. Each product is an unevaluated sum of two floats, reduced modulo ``y`` by one quotient; every
intermediate value is an integer below 2^53 and exact.
"""

from __future__ import annotations

from velax._compiler.math.formats import F64, INF, NAN
from velax._compiler.math.value import Value, const, fma, rint, select, two_product

__all__ = ["rem"]

_STEPS_F32 = 6


def rem(x: Value, y: Value) -> Value:
    """``x - trunc(x/y) y``, exactly, with the sign of ``x``; NaN for infinite ``x`` or ``y = 0``."""
    size = _rem_f32(abs(x), abs(y)) if x.dtype == "f32" else _rem_f64(abs(x), abs(y))
    size = select(abs(x) < abs(y), abs(x), size)
    valid = (abs(x) < INF) & y.ne(0.0) & y.eq(y)
    return select(valid, size, NAN).copysign(x)


def _rem_f32(x: Value, y: Value) -> Value:
    r, y = x.to("f64"), y.to("f64")
    inverse = 1.0 / y
    for _ in range(_STEPS_F32):
        r = fma(-rint(r * inverse), y, r)
    # between -y/2 and y/2, or an ulp of the quotient beyond
    return select(r < 0.0, r + y, r).to("f32")


def _significand_and_exponent(x: Value) -> tuple[Value, Value]:
    """``x = significand 2^exponent`` with an integer significand in [2^52, 2^53), also for denormals (positive x)."""
    denormal = x < F64.tiny
    bits = select(denormal, x * 2.0**54, x).bits()
    exponent = bits.shrl(52) - select(denormal, const(1075 + 54, "i64"), 1075)
    return ((bits & (2**52 - 1)) | (1075 << 52)).as_("f64"), exponent


def _rem_f64(x: Value, y: Value) -> Value:
    mx, ex = _significand_and_exponent(x)
    my, ey = _significand_and_exponent(y)
    shift = ex - ey
    shift = select(shift < 0, 0, shift)  # then |x| < |y|, decided by the caller
    inverse = 1.0 / my

    def near(r: Value) -> Value:
        """``r mod my`` in about [-my/2, my/2], exact for ``|r| <= my^2/4``: the quotient's error is at most
        1/2 beyond rounding.
        """
        return fma(-rint(r * inverse), my, r)

    def times(a: Value, b: Value) -> Value:
        """``a b mod my``; both at most my/2. Sums stay below 2^53 because each part is reduced before it is added."""
        hi, lo = two_product(a, b)
        return near(near(near(hi)) + lo)

    # the leading bits of a 12-bit exponent give a power far below my at once; each later bit squares, and
    # doubles if set
    power = (shift.shrl(6) + F64.bias).shl(52).as_("f64")
    for bit in range(5, -1, -1):
        power = times(power, power)
        power = near(select((shift.shrl(bit) & 1).ne(0), power + power, power))
    r = times(near(mx), power)
    r = select(r < 0.0, r + my, r)
    # scaled back by 2^ey in two exact steps: ey may be as low as -1074 - 52
    half = ey.shra(1)
    first = (half + F64.bias).shl(52).as_("f64")
    second = (ey - half + F64.bias).shl(52).as_("f64")
    return r * first * second
