"""atan, atan2, asin, acos in binary32 and binary64."""

from __future__ import annotations

from velax._compiler.math import tables
from velax._compiler.math.formats import format_of
from velax._compiler.math.value import Value, const, fma, horner, select, sqrt

__all__ = ["acos", "asin", "atan", "atan2"]

_ATAN = {"f32": tables.ATAN_F32, "f64": tables.ATAN_F64}
_ASIN = {"f32": tables.ASIN_F32, "f64": tables.ASIN_F64}


def _odd(q: Value, coefficients) -> Value:
    q2 = q * q
    return fma(horner(q2, coefficients) * q2, q, q)


def _turned(turn: Value | float, turn_lo: Value | float, angle: Value) -> Value:
    """``turn - angle`` for a double-length turn."""
    return (turn - angle) + turn_lo


def _atan_of_quotient(num: Value, den: Value) -> Value:
    """``atan(num/den)`` for ``0 <= num <= den``, den not 0; both infinite is pi/4."""
    dtype = num.dtype
    if dtype == "f32":
        return _odd(select(num.eq(den), 1.0, num / den), _ATAN[dtype])
    # a second reduction: atan q = pi/4 - atan((1 - q)/(1 + q)); huge operands are scaled so that the sum stays finite
    scale = select(den > 2.0**1000, const(0.5, dtype), 1.0)
    num, den = num * scale, den * scale
    beyond = (num > den * 0.41421356237309503) | num.eq(den)
    difference = select(num.eq(den), 0.0, den - num)
    near = _odd(select(beyond, difference, num) / select(beyond, den + num, den), _ATAN[dtype])
    form = format_of(dtype)
    return select(beyond, _turned(form.half_pi[0] * 0.5, form.half_pi[1] * 0.5, near), near)


def atan(x: Value) -> Value:
    a = abs(x)
    one = const(1.0, x.dtype)
    steep = a > 1.0
    hi, lo = format_of(x.dtype).half_pi
    p = _atan_of_quotient(select(steep, one, a), select(steep, a, one))
    return select(steep, _turned(hi, lo, p), p).copysign(x)


def atan2(y: Value, x: Value) -> Value:
    """The angle of (x, y), with the signs of zeros as in IEEE 754."""
    size_y, size_x = abs(y), abs(x)
    steep = size_y > size_x
    num, den = select(steep, size_x, size_y), select(steep, size_y, size_x)
    p = _atan_of_quotient(num, select(den.eq(0.0), 1.0, den))
    hi, lo = format_of(x.dtype).half_pi
    p = select(steep, _turned(hi, lo, p), p)
    left = x.bits() < 0
    return select(left, _turned(2.0 * hi, 2.0 * lo, p), p).copysign(y)


def _asin_parts(x: Value) -> tuple[Value, Value, Value]:
    """(beyond 1/2?, asin|x| below 1/2, asin(sqrt((1-|x|)/2)) above)."""
    a = abs(x)
    beyond = a > 0.5
    z = select(beyond, fma(a, -0.5, 0.5), a * a)
    s = select(beyond, sqrt(z), a)
    return beyond, s, fma(horner(z, _ASIN[x.dtype]) * z, s, s)


def asin(x: Value) -> Value:
    beyond, _, p = _asin_parts(x)
    hi, lo = format_of(x.dtype).half_pi
    return select(beyond, _turned(hi, lo, p + p), p).copysign(x)


def acos(x: Value) -> Value:
    beyond, _, p = _asin_parts(x)
    hi, lo = format_of(x.dtype).half_pi
    twice = p + p
    far = select(x < 0.0, _turned(2.0 * hi, 2.0 * lo, twice), twice)
    return select(beyond, far, _turned(hi, lo, p.copysign(x)))
