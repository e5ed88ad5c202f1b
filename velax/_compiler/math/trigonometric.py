"""sin, cos, tan for every finite argument, and the reduction modulo pi/2.

``x 2/pi = n + f`` with an integer ``n`` (its last two bits choose the quadrant) and ``|f| <= 1/2``. Huge
arguments need many digits of 2/pi but few at a time: digits that contribute only multiples of 4 may be
dropped (Payne and Hanek 1983). For binary32 the reduction runs in binary64, with one of five pairs of
constants chosen by the magnitude of x; there is no slow path. For binary64 moderate arguments subtract a
multiple of pi/2 in three parts, large ones multiply by a window of 2/pi in fixed point, and both are
computed.
"""

from __future__ import annotations

import itertools
import math

from velax._compiler.math import tables
from velax._compiler.math.formats import F64, INF, NAN
from velax._compiler.math.value import Value, const, fast_two_sum, fma, horner, select, two_product, two_sum

__all__ = ["cos", "cosine_and_sine_of_half_turns", "sin", "tan"]

#: what the two parts of pi/2 leave out
_HALF_PI_THIRD = -1.4973849048591698e-33


def _reduce_f32(x: Value) -> tuple[Value, Value]:
    """The quadrant (i32; only its last two bits count) and ``f`` times pi/2, an f64 good to 2^-30 relative
    even next to multiples of pi/2.
    """
    size = abs(x)
    *_, (_, hi, lo) = tables.TWO_OVER_PI_F32
    hi, lo = const(hi, "f64"), const(lo, "f64")
    for limit, group_hi, group_lo in tables.TWO_OVER_PI_F32[-2::-1]:
        below = size < limit
        hi, lo = select(below, group_hi, hi), select(below, group_lo, lo)
    wide = x.to("f64")
    shifted = fma(wide, hi, F64.round_magic)
    f = fma(wide, lo, fma(wide, hi, -(shifted - F64.round_magic)))
    return shifted.bits().to("i32"), f * F64.half_pi[0]


def _sine(r: Value, coefficients) -> Value:
    r2 = r * r
    return fma(horner(r2, coefficients) * r2, r, r)


def _cosine(r: Value, coefficients) -> Value:
    r2 = r * r
    return fma(horner(r2, coefficients), r2 * r2, fma(r2, -0.5, 1.0))


def _sin_or_cos_f32(x: Value, quarter_turns: int) -> Value:
    quadrant, wide = _reduce_f32(x)
    quadrant = quadrant + quarter_turns
    r = wide.to("f32")
    size = select((quadrant & 1).ne(0), _cosine(r, tables.COS_F32), _sine(r, tables.SIN_F32))
    return (size.bits() ^ (quadrant & 2).shl(30)).as_("f32")


def _words(index: Value) -> list[Value]:
    """Words ``index .. index + 3`` of 2/pi, for an index in 0..15: a barrel shifter, one bit of the index a stage."""
    words = [const(w, "u64") for w in tables.TWO_OVER_PI_WORDS]
    for bit in (3, 2, 1, 0):
        step = 1 << bit
        taken = (index & step).ne(0)
        words = [select(taken, words[i + step], words[i]) for i in range(3 + step)]
    return words


def _reduce_large_f64(x: Value) -> tuple[Value, Value, Value]:
    """The quadrant (i64) and the reduced argument as an unevaluated sum, for finite ``x >= 2^22``:
    fixed-point arithmetic modulo 4.

    The 53-bit significand times a window of 192 bits of 2/pi, whose first bits are those that still matter
    modulo 4; 128 bits of the product are kept, which leaves 64 significant ones even for the binary64 number
    nearest to a multiple of pi/2.
    """
    bits = x.bits().as_("u64")
    significand = (bits & (2**52 - 1)) | 2**52
    skip = bits.shrl(52) - (1077 - 32)
    offset = skip & 63
    words = _words(skip.shrl(6))
    back = 63 - offset
    a, b, c = (w.shl(offset) | following.shrl(1).shrl(back) for w, following in itertools.pairwise(words))
    middle = significand * b
    low = middle + significand.mulhi(c)
    high = significand * a + significand.mulhi(b) + (low < middle).to("u64")
    quadrant = (high + 2**61).shrl(62).as_("i64")
    # what is left of the quadrant's middle is a signed 128-bit fraction; its size in two floats, both exact
    # or full precision
    fraction = high.shl(2) | low.shrl(62)
    negative = fraction.as_("i64").shra(63).as_("u64")
    fraction = fraction ^ negative
    rest = low.shl(2) ^ negative
    f = fraction.shrl(11).as_("i64").to("f64") * 2.0**-53
    f_lo = ((fraction & 0x7FF).shl(52) | rest.shrl(12)).as_("i64").to("f64") * 2.0**-116
    hi, lo = F64.half_pi
    r, r_lo = two_product(f, hi)
    r, r_lo = fast_two_sum(r, fma(f, lo, fma(f_lo, hi, r_lo)))
    sign = negative.shl(63).as_("i64")
    return quadrant, (r.bits() ^ sign).as_("f64"), (r_lo.bits() ^ sign).as_("f64")


def _reduce_f64(x: Value) -> tuple[Value, Value, Value]:
    """The quadrant (i64) and the reduced argument as an unevaluated sum, for ``x >= 0``."""
    large = x >= 2.0**24
    hi, lo = F64.half_pi
    shifted = fma(x, 2 / math.pi, F64.round_magic)
    n = shifted - F64.round_magic
    # exact: the difference is a multiple of 2^-53 and below 1
    r = fma(n, -hi, x)
    w, w_lo = two_product(n, lo)
    r, r_lo = two_sum(r, -w)
    r_lo = fma(n, -_HALF_PI_THIRD, r_lo - w_lo)
    quadrant, large_r, large_r_lo = _reduce_large_f64(x)
    r = select(x < INF, select(large, large_r, r), NAN)
    return select(large, quadrant, shifted.bits()), r, select(large, large_r_lo, r_lo)


def _sine_double(r: Value, r_lo: Value) -> Value:
    r2 = r * r
    return fma(horner(r2, tables.SIN_F64) * r2, r, fma(r2 * -0.5, r_lo, r_lo)) + r


def _cosine_double(r: Value, r_lo: Value) -> Value:
    r2 = r * r
    half = r2 * 0.5
    near = 1.0 - half
    return near + (((1.0 - near) - half) + fma(horner(r2, tables.COS_F64), r2 * r2, -(r * r_lo)))


def sin(x: Value) -> Value:
    if x.dtype == "f32":
        y = _sin_or_cos_f32(x, 0)
        return select(x.eq(0.0), x, y)
    quadrant, r, r_lo = _reduce_f64(abs(x))
    y = select((quadrant & 1).ne(0), _cosine_double(r, r_lo), _sine_double(r, r_lo))
    return (y.bits() ^ (quadrant & 2).shl(62) ^ (x.bits() & -(2**63))).as_("f64")


def cos(x: Value) -> Value:
    if x.dtype == "f32":
        return _sin_or_cos_f32(x, 1)
    quadrant, r, r_lo = _reduce_f64(abs(x))
    y = select((quadrant & 1).ne(0), _sine_double(r, r_lo), _cosine_double(r, r_lo))
    return (y.bits() ^ ((quadrant + 1) & 2).shl(62)).as_("f64")


def tan(x: Value) -> Value:
    """sin/cos; for binary32 both polynomials run in binary64, so the quotient rounds three times."""
    if x.dtype == "f32":
        quadrant, r = _reduce_f32(x)
        s, c = _sine(r, tables.SIN_F32).to("f32"), _cosine(r, tables.COS_F32).to("f32")
    else:
        quadrant, r, r_lo = _reduce_f64(abs(x))
        s, c = _sine_double(r, r_lo), _cosine_double(r, r_lo)
    odd = (quadrant & 1).ne(0)
    y = select(odd, -c, s) / select(odd, s, c)
    if x.dtype == "f32":
        return select(x.eq(0.0), x, y)
    return (y.bits() ^ (x.bits() & -(2**63))).as_("f64")


def cosine_and_sine_of_half_turns(f: Value) -> tuple[Value, Value]:
    """``cos(pi f)`` and ``sin(pi f)`` of an f64 in [-1/2, 1/2]."""
    a = abs(f)
    swap = a > 0.25
    r = select(swap, 0.5 - a, a) * math.pi
    s, c = _sine(r, tables.SIN_F64), _cosine(r, tables.COS_F64)
    return select(swap, s, c), select(swap, c, s).copysign(f)
