"""pow, cbrt and rsqrt in binary32 and binary64."""

from __future__ import annotations

import math

from velax._compiler.math import tables
from velax._compiler.math.exponential import scale
from velax._compiler.math.formats import F64, INF, NAN, format_of
from velax._compiler.math.logarithm import split_normal
from velax._compiler.math.value import (
    Value,
    cap,
    const,
    fast_two_sum,
    floor_at,
    fma,
    horner,
    rint,
    select,
    sqrt,
    trunc,
    two_product,
)  # fmt: skip

__all__ = ["cbrt", "pow", "rsqrt"]


def rsqrt(x: Value) -> Value:
    return 1.0 / sqrt(x)


def cbrt(x: Value) -> Value:
    """The real cube root. ``m^(-1/3)`` from a polynomial, refined without divisions; the last step uses an
    exact residual.
    """
    form = format_of(x.dtype)
    a = abs(x)
    denormal = a < form.tiny
    lift = 3 * (form.mantissa // 3 + 1)
    m, exponent = split_normal(select(denormal, a * 2.0**lift, a), form)
    e = exponent.shra(form.mantissa).to(x.dtype)
    # e = 3 third + rest, rest in -1, 0, 1
    third = rint(e * (1.0 / 3.0))
    rest = fma(third, -3.0, e)
    up, down = rest > 0.0, rest < 0.0
    g = horner(m - 1.0, tables.CBRT) * select(
        up, const(2.0 ** (-1 / 3), x.dtype), select(down, const(2.0 ** (1 / 3), x.dtype), 1.0)
    )
    m = m * select(up, const(2.0, x.dtype), select(down, const(0.5, x.dtype), 1.0))
    if x.dtype == "f64":
        h = fma(-(m * g), g * g, 1.0)
        g = fma(g * h, fma(h, fma(h, 14 / 81, 2 / 9), 1 / 3), g)
    g2 = g * g
    y = m * g2
    square, square_lo = two_product(y, y)
    residual = fma(-square, y, m) - square_lo * y
    y = fma(residual * g2, 1 / 3, y)
    third = third - select(denormal, const(lift // 3, x.dtype), 0.0)
    # 2^third: its integer appears in the low bits
    power = (third + (form.round_magic + form.bias)).bits().shl(form.mantissa).as_(x.dtype)
    return select((a > 0.0) & (a < INF), (y * power).copysign(x), x)


def pow(x: Value, y: Value) -> Value:
    """IEEE 754 ``pow``: ``2^(y log2 |x|)``, then the sign and the special cases."""
    return _special_cases(x, y, _pow_f32(x, y) if x.dtype == "f32" else _pow_f64(x, y))


def _pow_f32(x: Value, y: Value) -> Value:
    """``|x|**y`` through binary64, with logarithm and power of two just good enough for binary32."""
    size = abs(x).to("f64")
    m, exponent = split_normal(size, F64)
    f = m - 1.0
    f2 = f * f
    log = fma(horner(f, tables.POW_LOG_F32) * f, f2, fma(f2, -0.5, f))
    log2 = fma(log, F64.log2e, exponent.shra(52).to("f64"))
    log2 = select(size.eq(0.0), -INF, select(size < INF, log2, size))
    # an infinite y at |x| = 1 gives 1
    t = select(size.eq(1.0), 0.0, log2 * y.to("f64"))
    t = cap(floor_at(t, -160.0), 130.0)
    magic = F64.round_magic + F64.bias
    shifted = t + magic
    r = t - (shifted - magic)
    return (fma(horner(r, tables.POW_EXP2_F32), r, 1.0) * shifted.bits().shl(52).as_("f64")).to("f32")


def _log2_double(x: Value) -> tuple[Value, Value]:
    """``log2 x`` of a positive finite f64 as an unevaluated sum, to about 2^-64: ``log m = 2 atanh s``, ``s =
    (m - 1)/(m + 1)``.
    """
    denormal = x < F64.tiny
    m, exponent = split_normal(select(denormal, x * 2.0**54, x), F64)
    e = exponent.shra(52).to("f64") - select(denormal, const(54.0, "f64"), 0.0)
    num = m - 1.0
    den = m + 1.0
    den_lo = m - (den - 1.0)
    inverse = 1.0 / den
    s = num * inverse
    s_lo = fma(-s, den_lo, fma(-s, den, num)) * inverse
    z, z_lo = two_product(s, s)
    z_lo = fma(s + s, s_lo, z_lo)
    # u = 2/3 + z (2/5 + z P(z)), then the cubic term s z u
    zv = z * fma(horner(z, tables.POW_LOG_F64), z, 0.4)
    two_thirds = 2 / 3
    u = zv + two_thirds
    u_lo = (two_thirds - u) + zv + 3.700743415417188e-17
    cube, cube_lo = two_product(s, z)
    cube_lo = fma(s, z_lo, fma(s_lo, z, cube_lo))
    t, t_lo = two_product(cube, u)
    t_lo = fma(cube, u_lo, fma(cube_lo, u, t_lo))
    log, log_lo = fast_two_sum(s + s, t)
    log_lo = log_lo + (s_lo + s_lo + t_lo)
    b, b_lo = two_product(log, F64.log2e)
    b_lo = fma(log, 2.0355273740931033e-17, fma(log_lo, F64.log2e, b_lo))
    hi, lo = fast_two_sum(e, b)
    return fast_two_sum(hi, lo + b_lo)


def _pow_f64(x: Value, y: Value) -> Value:
    size = abs(x)
    ordinary = (size > 0.0) & (size < INF)
    log2, log2_lo = _log2_double(select(ordinary, size, 1.0))
    # beyond 2^65 every base but 1 overflows or vanishes already
    bounded = cap(floor_at(y, -(2.0**65)), 2.0**65)
    t, t_lo = two_product(bounded, log2)
    t_lo = fma(bounded, log2_lo, t_lo)
    within = abs(t) < 2000.0
    t_lo = select(within, t_lo, 0.0)
    t = cap(floor_at(t, -1080.0), 1025.0)
    magic = F64.round_magic + 2 * F64.bias
    shifted = t + magic
    r, t_lo = fast_two_sum(t - (shifted - magic), t_lo)
    a, a_lo = two_product(r, math.log(2.0))
    a_lo = fma(r, 2.3190468138462996e-17, fma(t_lo, math.log(2.0), a_lo))
    # exp(a + a_lo) = 1 + a + a_lo (1 + a) + a^2 P(a)
    p = (fma(horner(a, tables.EXP_F64), a * a, fma(a_lo, a, a_lo)) + a) + 1.0
    result = scale(p, shifted.bits().shl(52), F64)
    grows = size.eq(0.0).eq(y < 0.0)
    result = select(ordinary, result, select(grows, const(INF, "f64"), 0.0))
    return select(size.ne(size) | y.ne(y), NAN, result)


def _special_cases(x: Value, y: Value, size: Value) -> Value:
    integral = y.eq(trunc(y))
    half = y * 0.5
    odd = integral & half.ne(trunc(half))
    result = select(odd, size.copysign(x), size)
    result = select((x < 0.0) & (x > -INF) & ~integral, NAN, result)
    return select(x.eq(1.0) | y.eq(0.0), 1.0, result)
