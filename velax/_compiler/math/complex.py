"""Elementwise functions of complex numbers as pairs (re, im) of expressions.

Magnitudes are scaled by one of three powers of two before they are squared, so nothing overflows or vanishes
on the way; logarithms of sums of squares keep the sum in two parts, which holds their accuracy where the
modulus is near 1. The inverse functions follow Kahan ("Branch cuts for complex elementary functions", 1987),
with signed zeros telling the sides of the cuts apart. Multiplication and addition are the textbook formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from velax._compiler.math.exponential import exp_times_power, expm1, sinh
from velax._compiler.math.formats import INF, NAN, format_of
from velax._compiler.math.inverse_trigonometric import atan2
from velax._compiler.math.logarithm import asinh, log1p, log_of_sum
from velax._compiler.math.trigonometric import cos, sin
from velax._compiler.math.value import (
    Value,
    cap,
    const,
    fast_two_sum,
    fma,
    select,
    sqrt,
    two_product,
)  # fmt: skip
from velax._ir.loops import Expr

__all__ = ["lower_complex"]

Pair = tuple[Value, Value]

#: (above this size, scale down by 2^k), (below this size, scale up by 2^k): squares of scaled values are normal numbers
_SCALES = {"f32": ((2.0**62, -66), (2.0**-40, 100)), "f64": ((2.0**510, -520), (2.0**-400, 600))}
#: from here exp is taken of x less a shift that is exact, and the product with a sine or cosine makes up for it
_EXP_SHIFT = {"f32": (88.0, 64.0), "f64": (700.0, 512.0)}
#: beyond, tanh of a real number rounds to 1
_TANH_ONE = {"f32": 11.0, "f64": 22.0}
_LN2 = math.log(2.0)


def _scaling(size: Value) -> tuple[Value, Value, Value]:
    """For the larger part's ``size``: a power of two to multiply with, its inverse, its exponent."""
    (top, down), (bottom, up) = _SCALES[size.dtype]
    large, small = size > top, size < bottom
    pick = lambda a, b, c: select(large, const(a, size.dtype), select(small, const(b, size.dtype), c))
    return pick(2.0**down, 2.0**up, 1.0), pick(2.0**-down, 2.0**-up, 1.0), pick(down, up, 0.0)


def _half_power(exponent: Value) -> Value:
    """``2^(exponent/2)`` for an exponent from `_scaling`."""
    (_, down), (_, up) = _SCALES[exponent.dtype]
    half = lambda k: const(2.0 ** (k // 2), exponent.dtype)
    return select(exponent < 0.0, half(down), select(exponent > 0.0, half(up), 1.0))


def _sorted_sizes(z: Pair) -> tuple[Value, Value]:
    a, b = abs(z[0]), abs(z[1])
    swap = b > a
    return select(swap, b, a), select(swap, a, b)


def _is_inf(x: Value) -> Value:
    return abs(x).eq(INF)


def _is_nan(x: Value) -> Value:
    return x.ne(x)


def _abs(z: Pair) -> Value:
    """The modulus; infinite if a part is, even beside NaN."""
    large, small = _sorted_sizes(z)
    scale, inverse, _ = _scaling(large)
    large, small = large * scale, small * scale
    size = sqrt(fma(large, large, small * small)) * inverse
    return select(_is_inf(z[0]) | _is_inf(z[1]), INF, size)


def _add(x: Pair, y: Pair) -> Pair:
    return x[0] + y[0], x[1] + y[1]


def _sub(x: Pair, y: Pair) -> Pair:
    return x[0] - y[0], x[1] - y[1]


def _neg(x: Pair) -> Pair:
    return -x[0], -x[1]


def _conj(x: Pair) -> Pair:
    return x[0], -x[1]


def _mul(x: Pair, y: Pair) -> Pair:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _products(a: Value, b: Value, c: Value, d: Value) -> Value:
    """``a b + c d`` with the error of one product compensated (Kahan); infinities as in the plain sum."""
    w = c * d
    plain = fma(a, b, w)
    error = fma(c, d, -w)
    return select(error.eq(0.0) | _is_nan(error), plain, plain + error)


def _div(x: Pair, y: Pair) -> Pair:
    """Both operands scaled to squares without overflow; quotients with infinities and zeros as in C's Annex G."""
    scale_x, _, exponent_x = _scaling(_sorted_sizes(x)[0])
    scale_y, _, exponent_y = _scaling(_sorted_sizes(y)[0])
    a, b, c, d = x[0] * scale_x, x[1] * scale_x, y[0] * scale_y, y[1] * scale_y
    den = fma(c, c, d * d)
    # x/y = (a + ib)/(c + id) scale_y/scale_x, in two equal steps: the whole factor may be out of range when
    # the quotient is not
    back = _half_power(exponent_y) / _half_power(exponent_x)
    re = _products(a, c, b, d) / den * back * back
    im = _products(b, c, -a, d) / den * back * back
    lost = _is_nan(re) & _is_nan(im)
    # nonzero / 0
    by_zero = lost & y[0].eq(0.0) & y[1].eq(0.0) & ~(_is_nan(x[0]) & _is_nan(x[1]))
    pole = const(INF, x[0].dtype).copysign(y[0])
    # infinite / finite
    x_infinite = _is_inf(x[0]) | _is_inf(x[1])
    y_infinite = _is_inf(y[0]) | _is_inf(y[1])
    y_finite = (abs(y[0]) < INF) & (abs(y[1]) < INF)
    p, q = _box(x[0]), _box(x[1])
    grown = (p * c + q * d) * INF, (q * c - p * d) * INF
    # finite / infinite
    r, s = _box(y[0]), _box(y[1])
    x_finite = (abs(x[0]) < INF) & (abs(x[1]) < INF)
    vanished = (a * r + b * s) * 0.0, (b * r - a * s) * 0.0
    out = []
    for value, over_zero, big, small in zip((re, im), (pole * x[0], pole * x[1]), grown, vanished, strict=True):
        value = select(lost & x_infinite & y_finite, big, value)
        value = select(y_infinite & x_finite, small, value)
        out.append(select(by_zero, over_zero, value))
    return out[0], out[1]


def _sign(z: Pair) -> Pair:
    """``z/|z|``; 0 at 0."""
    scale, _, _ = _scaling(_sorted_sizes(z)[0])
    z = z[0] * scale, z[1] * scale
    size = _abs(z)
    size = select(size.eq(0.0), 1.0, size)
    return z[0] / size, z[1] / size


def _sqrt(z: Pair) -> Pair:
    """``t = sqrt((|z| + |re|)/2)`` and ``im/(2t)``, of z scaled by an even power of two."""
    x, y = z
    size = _sorted_sizes(z)[0]
    scale, _, exponent = _scaling(size)
    a, b = x * scale, y * scale
    t = sqrt((_abs((a, b)) + abs(a)) * 0.5) / _half_power(exponent)
    other = y / select(t.eq(0.0), 1.0, t + t)
    right = x.bits() >= 0
    re = select(right, t, abs(other))
    im = select(right, other, t.copysign(y))
    # an infinite part
    side = _is_inf(x) & ~_is_inf(y)
    re = select(side, select(right, x, select(_is_nan(y), y, 0.0)), re)
    im = select(side, select(right, select(_is_nan(y), y, const(0.0, x.dtype).copysign(y)), abs(x).copysign(y)), im)
    re = select(_is_inf(y), INF, re)
    return re, select(_is_inf(y), y, im)


def _rsqrt(z: Pair) -> Pair:
    one = const(1.0, z[0].dtype)
    return _div((one, const(0.0, z[0].dtype)), _sqrt(z))


def _exp(z: Pair) -> Pair:
    x, y = z
    threshold, shift = _EXP_SHIFT[x.dtype]
    shifted = x > threshold
    e = exp_times_power(select(shifted, x - shift, x))
    factor = select(shifted, const(math.exp(shift), x.dtype), 1.0)
    part = lambda trig: select(e.eq(0.0), select(_is_nan(trig), 0.0, e.copysign(trig)), e * trig * factor)
    im = select(y.eq(0.0), y, part(sin(y)))
    return part(cos(y)), im


def _log_size(u: Value, u_lo: Value, y: Value) -> Value:
    """``log |u + u_lo + iy|``, accurate also where the modulus is near 1."""
    dtype = u.dtype
    size = _sorted_sizes((u, y))[0]
    scale, _, exponent = _scaling(size)
    u, u_lo, y = u * scale, u_lo * scale, y * scale
    p, p_lo = two_product(u, u)
    q, q_lo = two_product(y, y)
    swap = q > p
    hi, lo = fast_two_sum(select(swap, q, p), select(swap, p, q))
    lo = lo + (p_lo + q_lo) + u_lo * (u + u + u_lo)
    hi, lo = fast_two_sum(hi, lo)
    value = fma(exponent, -_LN2, log_of_sum(hi, lo) * 0.5)
    value = select(size.eq(0.0), const(-INF, dtype), value)
    return select(_is_inf(u) | _is_inf(y), INF, select(_is_nan(u) | _is_nan(y), NAN, value))


def _log(z: Pair) -> Pair:
    return _log_size(z[0], z[0] * 0.0, z[1]), atan2(z[1], z[0])


def _log1p(z: Pair) -> Pair:
    x, y = z
    one = const(1.0, x.dtype)
    swap = abs(x) > 1.0
    u, u_lo = fast_two_sum(select(swap, x, one), select(swap, one, x))
    infinite = _is_inf(u)
    return _log_size(u, select(infinite, 0.0, u_lo), y), atan2(y, u)


def _expm1(z: Pair) -> Pair:
    """``expm1(x) cos y - 2 sin(y/2)^2`` and ``exp(x) sin y``."""
    x, y = z
    half = sin(y * 0.5)
    re, im = _exp(z)
    near = fma(expm1(x), cos(y), half * half * -2.0)
    return select(abs(x) < 1.0, near, re - 1.0), im


def _hyperbolic(x: Value) -> tuple[Value, Value, Value]:
    """``cosh x / f``, ``sinh x / f`` and ``f``, finite wherever the product with a sine may be."""
    threshold, shift = _EXP_SHIFT[x.dtype]
    a = abs(x)
    shifted = a > threshold
    half = exp_times_power(select(shifted, a - shift, a), -1)
    falling = select(shifted, 0.0, 0.25 / cap(half, 2.0 ** (format_of(x.dtype).mantissa + 10)))
    s = select(shifted, half.copysign(x), sinh(x))
    return half + falling, s, select(shifted, const(math.exp(shift), x.dtype), 1.0)


def _times(trig: Value, size: Value, factor: Value) -> Value:
    """``trig * size * factor``; 0 where one of the first two is 0, whatever the other."""
    product = select(trig.eq(0.0), trig * const(1.0, trig.dtype).copysign(size), trig * size * factor)
    return select(size.eq(0.0) & _is_nan(trig), size, product)


def _sinh(z: Pair) -> Pair:
    c, s, f = _hyperbolic(z[0])
    return _times(cos(z[1]), s, f), _times(sin(z[1]), c, f)


def _cosh(z: Pair) -> Pair:
    c, s, f = _hyperbolic(z[0])
    return _times(cos(z[1]), c, f), _times(sin(z[1]), s, f)


def _tanh(z: Pair) -> Pair:
    """``(sinh x cosh x + i sin y cos y)/(sinh^2 x + cos^2 y)``; far out ``+-1 + 4i exp(-2|x|) sin y cos y``."""
    x, y = z
    far = abs(x) > _TANH_ONE[x.dtype]
    near_x = select(far, 1.0, x)
    c, s, _ = _hyperbolic(near_x)
    cos_y, sin_y = cos(y), sin(y)
    den = fma(s, s, cos_y * cos_y)
    swing = sin_y * cos_y
    swing = select(_is_inf(x) & _is_nan(swing), 0.0, swing)
    re = select(far, const(1.0, x.dtype).copysign(x), s * c / den)
    a = select(far, abs(x), 0.0)
    im = select(far, swing * 4.0 * exp_times_power(-(a + a), nonpositive=True), swing / den)
    return re, im


def _turn(fn: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    """``-i fn(iz)``: sin from sinh, asin from asinh."""

    def turned(z: Pair) -> Pair:
        re, im = fn((-z[1], z[0]))
        return im, -re

    return turned


def _cos(z: Pair) -> Pair:
    return _cosh((-z[1], z[0]))


def _logistic(z: Pair) -> Pair:
    """``1/(1 + exp(-z))``, or ``exp(z)/(1 + exp(z))`` on the left, so that the exponential never exceeds 1."""
    x, y = z
    right = x >= 0.0
    e = _exp((-abs(x), select(right, -y, y)))
    return _div((select(right, 1.0, e[0]), select(right, 0.0, e[1])), (e[0] + 1.0, e[1]))


def _pow(x: Pair, y: Pair) -> Pair:
    """``exp(y log x)``; 1 for ``y = 0``, 0 for ``x = 0`` and a positive real part of ``y``."""
    re, im = _exp(_mul(y, _log(x)))
    base_zero = x[0].eq(0.0) & x[1].eq(0.0)
    one = y[0].eq(0.0) & y[1].eq(0.0)
    vanishes = base_zero & (y[0] > 0.0)
    re, im = select(vanishes, 0.0, re), select(vanishes, 0.0, im)
    return select(one, 1.0, re), select(one, 0.0, im)


def _around_one(z: Pair) -> tuple[Pair, Pair]:
    """``sqrt(1 - z)`` and ``sqrt(1 + z)``."""
    return _sqrt((1.0 - z[0], -z[1])), _sqrt((z[0] + 1.0, z[1]))


def _box(x: Value) -> Value:
    """An infinity as a unit, anything else finite as 0, signs kept."""
    return select(_is_inf(x), const(1.0, x.dtype), x * 0.0).copysign(x)


def _finite(z: Pair) -> tuple[Pair, Value]:
    """A finite number in the direction of an infinite ``z``, else ``z``; whether it was infinite."""
    infinite = _is_inf(z[0]) | _is_inf(z[1])
    far = 2.0**60
    return (select(infinite, _box(z[0]) * far, z[0]), select(infinite, _box(z[1]) * far, z[1])), infinite


def _asin(z: Pair) -> Pair:
    z, infinite = _finite(z)
    minus, plus = _around_one(z)
    re = atan2(z[0], _products(minus[0], plus[0], -minus[1], plus[1]))
    im = select(infinite, INF, asinh(_products(minus[0], plus[1], -minus[1], plus[0])))
    return re, im.copysign(z[1])


def _acos(z: Pair) -> Pair:
    z, infinite = _finite(z)
    minus, plus = _around_one(z)
    turn = atan2(minus[0], plus[0])
    im = select(infinite, INF, asinh(_products(plus[0], minus[1], -plus[1], minus[0])))
    return turn + turn, im.copysign(-z[1])


def _acosh(z: Pair) -> Pair:
    z, infinite = _finite(z)
    below = _sqrt((z[0] - 1.0, z[1]))
    above = _sqrt((z[0] + 1.0, z[1]))
    turn = atan2(below[1], above[0])
    re = abs(asinh(_products(below[0], above[0], below[1], above[1])))
    return select(infinite, INF, re), turn + turn


def _asinh(z: Pair) -> Pair:
    re, im = _asin((-z[1], z[0]))
    return im, -re


def _atanh(z: Pair) -> Pair:
    """``log1p(4x/((1 - x)^2 + y^2))/4`` and half the angle of ``(1 - x)(1 + x) - y^2 + 2iy``, with x made positive."""
    x, y = abs(z[0]), z[1]
    dtype = x.dtype
    large = _sorted_sizes(z)[0] > 2.0 ** (format_of(dtype).mantissa + 2)
    near_x, near_y = select(large, 0.0, x), select(large, 1.0, y)
    gap = 1.0 - near_x
    re = log1p(near_x * 4.0 / fma(gap, gap, near_y * near_y)) * 0.25
    angle = atan2(near_y + near_y, _products(gap, near_x + 1.0, -near_y, near_y)) * 0.5
    # far out 1/z: x/|z|^2, and a quarter turn
    size = _abs(z)
    re = select(large, x / size / size, re)
    re = select(_is_inf(x) | _is_inf(y), 0.0, re)
    angle = select(large, const(math.pi / 2, dtype).copysign(y), angle)
    return re.copysign(z[0]), angle


def _select(cond: Value, x: Pair, y: Pair) -> Pair:
    return select(cond, x[0], y[0]), select(cond, x[1], y[1])


_FUNCTIONS: dict[str, tuple[int, Callable]] = {
    "add": (2, _add), "sub": (2, _sub), "mul": (2, _mul), "div": (2, _div), "neg": (1, _neg), "abs": (1, _abs),
    "sign": (1, _sign),
    "eq": (2, lambda x, y: x[0].eq(y[0]) & x[1].eq(y[1])), "ne": (2, lambda x, y: x[0].ne(y[0]) | x[1].ne(y[1])),
    "fma": (3, lambda x, y, z: _add(_mul(x, y), z)), "select": (3, _select),
    "is_finite": (1, lambda z: (abs(z[0]) < INF) & (abs(z[1]) < INF)),
    "real": (1, lambda z: z[0]), "imag": (1, lambda z: z[1]), "conj": (1, _conj), "complex": (2, lambda re, im: (re, im)),
    "exp": (1, _exp), "exp2": (1, lambda z: _exp((z[0] * _LN2, z[1] * _LN2))), "expm1": (1, _expm1),
    "log": (1, _log), "log1p": (1, _log1p), "logistic": (1, _logistic),
    "sqrt": (1, _sqrt), "rsqrt": (1, _rsqrt), "pow": (2, _pow),
    "sinh": (1, _sinh), "cosh": (1, _cosh), "tanh": (1, _tanh), "sin": (1, _turn(_sinh)), "cos": (1, _cos), "tan": (1, _turn(_tanh)),
    "asinh": (1, _asinh), "acosh": (1, _acosh), "atanh": (1, _atanh),
    "asin": (1, _asin), "acos": (1, _acos), "atan": (1, _turn(_atanh)),
}  # fmt: skip


def lower_complex(fn: str, args: list) -> Expr | tuple[Expr, Expr]:
    """The expression, or the pair of expressions, of an elementwise function on complex operands.

    Args:
        fn: a name in `velax._ir.graph.MAP_FNS`.
        args: its operands: pairs (re, im) of f32 or f64 expressions; for ``complex`` two real
            expressions, for ``select`` a bool first.

    Returns:
        A pair, or one expression where the result is real (``abs``, ``real``, ``imag``) or a bool
        (``eq``, ``ne``, ``is_finite``).

    Raises:
        TypeError: if ``fn`` is not defined on complex numbers or is given another number of operands.
    """
    entry = _FUNCTIONS.get(fn)
    if entry is None:
        raise TypeError(f"map {fn}: not defined for complex operands; take the real and imaginary parts")
    count, build = entry
    if len(args) != count:
        raise TypeError(f"map {fn}: takes {count} operands, got {len(args)}")
    result = build(*(tuple(map(Value, x)) if isinstance(x, tuple) else Value(x) for x in args))
    return (result[0].expr, result[1].expr) if isinstance(result, tuple) else result.expr
