"""log, log1p and the inverse hyperbolic functions in binary32 and binary64.

``x = 2^e m`` with ``m`` in [sqrt(1/2), sqrt(2)), split by integer arithmetic on the bits. ``log m`` is a
polynomial in ``f = m - 1`` (binary32) or in ``s = f/(2 + f)``, arranged so that the error of the division is
damped (binary64, after the FreeBSD mathematical library's layout).
"""

from __future__ import annotations

import math

from velax._compiler.math import tables
from velax._compiler.math.formats import INF, NAN, Format, format_of
from velax._compiler.math.value import Value, cap, const, fast_two_sum, floor_at, fma, horner, select, sqrt, two_product

__all__ = ["acosh", "asinh", "atanh", "log", "log1p", "log_of_normal", "log_of_sum", "split_normal"]

_SQRT_HALF_BITS = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}


def split_normal(x: Value, form: Format) -> tuple[Value, Value]:
    """``x = 2^e m`` for a positive normal ``x``: m in [sqrt(1/2), sqrt(2)), and e as an integer in the
    exponent field.
    """
    bits = x.bits()
    exponent = (bits - _SQRT_HALF_BITS[x.dtype]) & form.exponent_mask
    return (bits - exponent).as_(x.dtype), exponent


def _log_near_one(f: Value, e: Value, form: Format) -> Value:
    """``log(1 + f) + e log 2`` for 1 + f in [sqrt(1/2), sqrt(2))."""
    f2 = f * f
    hi, lo = form.ln2
    if form.dtype == "f32":
        tail = fma(horner(f, tables.LOG_F32) * f, f2, e * lo)
        return fma(e, hi, fma(f2, -0.5, tail) + f)
    half = f2 * 0.5
    s = f / (f + 2.0)
    s2 = s * s
    tail = fma(s, fma(horner(s2, tables.LOG_F64), s2, half), e * lo)
    return fma(e, hi, f - (half - tail))


def log(x: Value) -> Value:
    form = format_of(x.dtype)
    denormal = x < form.tiny
    scaled = select(denormal, x * 2.0**form.mantissa, x)
    m, exponent = split_normal(scaled, form)
    e = exponent.shra(form.mantissa).to(x.dtype) - select(denormal, const(form.mantissa, x.dtype), 0.0)
    return _special(x, _log_near_one(m - 1.0, e, form))


def _special(x: Value, y: Value) -> Value:
    """log's values at 0, below it, at infinity and NaN."""
    y = select(x < INF, y, x)
    y = select(x < 0.0, NAN, y)
    return select(x.eq(0.0), -INF, y)


def log_of_normal(x: Value) -> Value:
    """``log(x)`` for a positive normal ``x``; anything else gives no particular value."""
    form = format_of(x.dtype)
    m, exponent = split_normal(x, form)
    return _log_near_one(m - 1.0, exponent.shra(form.mantissa).to(x.dtype), form)


def log_of_sum(hi: Value, lo: Value) -> Value:
    """``log(hi + lo)`` for a positive normal ``hi`` and ``lo`` within an ulp of it, below infinity."""
    form = format_of(hi.dtype)
    m, exponent = split_normal(hi, form)
    e = exponent.shra(form.mantissa).to(hi.dtype)
    # 2^-e; for the largest exponent it would be denormal, and lo is then far below an ulp: 0 does
    inverse = form.one - exponent
    inverse = select(inverse > 0, inverse, 0).as_(hi.dtype)
    return _log_near_one(fma(lo, inverse, m - 1.0), e, form)


def log1p(x: Value) -> Value:
    """``log(hi + lo)`` where ``hi + lo = 1 + x`` exactly."""
    hi, lo = fast_two_sum(floor_at(x, 1.0), cap(x, 1.0))
    y = log_of_sum(hi, lo)
    y = select(x < INF, y, x)
    y = select(x < -1.0, NAN, y)
    return select(x.eq(-1.0), -INF, y).copysign(x)


#: above it the square's neighbour 1 no longer matters
_HUGE = 2.0**28


def _sqrt_of_sum(hi: Value, lo: Value) -> tuple[Value, Value]:
    """The square root of ``hi + lo`` as an unevaluated sum, for a positive ``hi`` above 2^-100."""
    root = sqrt(hi)
    return root, (fma(-root, root, hi) + lo) * (0.5 / root)


def asinh(x: Value) -> Value:
    """``log(a + sqrt(a^2 + 1))`` of an unevaluated sum: near 0 it is ``1 + a + ...`` and the low part keeps
    a's relative accuracy.
    """
    a = abs(x)
    huge = a > _HUGE
    moderate = select(huge, 1.0, a)
    square, square_lo = two_product(moderate, moderate)
    h, h_lo = fast_two_sum(floor_at(square, 1.0), cap(square, 1.0))
    root, root_lo = _sqrt_of_sum(h, h_lo + square_lo)
    hi, lo = fast_two_sum(root, moderate)
    y = log_of_sum(select(huge, a, hi), select(huge, 0.0, lo + root_lo)) + _log2_if(huge, x.dtype)
    return select(a < INF, y, a).copysign(x)


def _log2_if(cond: Value, dtype: str) -> Value:
    return select(cond, const(math.log(2.0), dtype), 0.0)


def acosh(x: Value) -> Value:
    """``log(x + sqrt(x^2 - 1))``; NaN below 1."""
    huge = x > _HUGE
    moderate = select(huge, 2.0, x)
    square, square_lo = two_product(moderate, moderate)
    h, h_lo = fast_two_sum(*fast_two_sum(square, const(-1.0, x.dtype)))
    h, h_lo = fast_two_sum(h, h_lo + square_lo)
    one = x.eq(1.0)
    root, root_lo = _sqrt_of_sum(select(one, 1.0, h), h_lo)
    hi, lo = fast_two_sum(moderate, root)
    y = log_of_sum(select(huge, x, hi), select(huge, 0.0, lo + root_lo)) + _log2_if(huge, x.dtype)
    y = select(one, 0.0, select(x < INF, y, x))
    return select(x < 1.0, NAN, y)


def atanh(x: Value) -> Value:
    """``log((1 + a)/(1 - a))/2``, the quotient as an unevaluated sum."""
    a = abs(x)
    one = const(1.0, x.dtype)
    num, num_lo = fast_two_sum(one, a)
    den, den_lo = fast_two_sum(one, -a)
    inverse = 1.0 / den
    ratio = num * inverse
    ratio_lo = (fma(-ratio, den, num) + fma(-ratio, den_lo, num_lo)) * inverse
    y = log_of_sum(*fast_two_sum(ratio, ratio_lo)) * 0.5
    y = select(a < 1.0, y, select(a.eq(1.0), const(INF, x.dtype), NAN))
    # halving a denormal would round
    return select(a < format_of(x.dtype).tiny * 4.0, a, select(a.ne(a), a, y)).copysign(x)
