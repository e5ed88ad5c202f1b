"""exp, exp2, expm1, logistic, tanh, sinh, cosh in binary32 and binary64.

``x = n log 2 + r`` with ``|r| <= log(2)/2``: ``n`` comes from adding a constant whose last mantissa bits
become the integer, ``r`` from a two-part ``log 2`` and fused multiply-adds (Cody and Waite 1980), ``exp r``
from a polynomial. Multiplying by ``2^n`` goes in two steps, each a normal number, so that results round once
and correctly into the denormals and into infinity.
"""

from __future__ import annotations

from velax._compiler.math import tables
from velax._compiler.math.formats import Format, format_of
from velax._compiler.math.value import Value, cap, floor_at, fma, horner, select

__all__ = ["cosh", "exp", "exp2", "exp_times_power", "expm1", "logistic", "scale", "sinh", "tanh"]

#: below the first exp rounds to 0; above the second it is infinite, also halved, and 2^n still splits into
#: two normal factors
_EXP_RANGE = {"f32": (-103.97208, 90.0), "f64": (-745.1332191019412, 711.0)}
_EXP2_RANGE = {"f32": (-150.0, 129.0), "f64": (-1075.0, 1025.0)}
#: expm1 is infinite above; not beyond the range of n = bias + 1
_EXPM1_TOP = {"f32": 88.8, "f64": 709.9}
_EXP = {"f32": tables.EXP_F32, "f64": tables.EXP_F64}
_EXP2 = {"f32": tables.EXP2_F32, "f64": tables.EXP2_F64}
_TANH = {"f32": tables.TANH_F32, "f64": tables.TANH_F64}
_SINH = {"f32": tables.SINH_F32, "f64": tables.SINH_F64}
#: beyond this tanh rounds to 1
_TANH_ONE = {"f32": 9.1, "f64": 19.1}
_TANH_POLYNOMIAL = 0.625
_SINH_POLYNOMIAL = 1.0


def _reduce(x: Value, form: Format, offset: int) -> tuple[Value, Value, Value]:
    """``x = n log 2 + r``: r, n as a float, and ``n + offset`` as an integer shifted into the exponent field
    (modulo the width).
    """
    magic = form.round_magic + offset
    shifted = fma(x, form.log2e, magic)
    n = shifted - magic
    r = fma(n, -form.ln2[1], fma(n, -form.ln2[0], x))
    return r, n, shifted.bits().shl(form.mantissa)


def scale(p: Value, biased: Value, form: Format) -> Value:
    """``p * 2^n`` where ``biased`` holds ``n + 2 bias`` above the mantissa field; rounds once, keeps NaN."""
    first = biased.shrl(1) & (((1 << (form.bias.bit_length() + 1)) - 1) << form.mantissa)
    return p * first.as_(form.dtype) * (biased - first).as_(form.dtype)


def _exp_polynomial(r: Value, form: Format) -> Value:
    return fma(horner(r, _EXP[form.dtype]), r * r, r) + 1.0


def exp_times_power(x: Value, power: int = 0, nonpositive: bool = False, low_part: Value | None = None) -> Value:
    """``exp(x + low_part) * 2**power`` for a moderate power; ``nonpositive`` promises ``x <= 0``. About 20 operations.

    Arguments whose result is 0 are replaced before and zeroed after: a product that underflows takes a slow
    path in many processors.
    """
    form = format_of(x.dtype)
    low, high = _EXP_RANGE[x.dtype]
    vanishes = x < low
    x = select(vanishes, 0.0, x)
    r, _, biased = _reduce(x if nonpositive else cap(x, high), form, 2 * form.bias + power)
    if low_part is not None:
        r = r + low_part
    return select(vanishes, 0.0, scale(_exp_polynomial(r, form), biased, form))


def exp(x: Value) -> Value:
    return exp_times_power(x)


def exp2(x: Value) -> Value:
    """``2**x``: the reduction is exact."""
    form = format_of(x.dtype)
    low, high = _EXP2_RANGE[x.dtype]
    vanishes = x <= low
    x = cap(select(vanishes, 0.0, x), high)
    magic = form.round_magic + 2 * form.bias
    shifted = x + magic
    r = x - (shifted - magic)
    p = fma(horner(r, _EXP2[x.dtype]), r, 1.0)
    return select(vanishes, 0.0, scale(p, shifted.bits().shl(form.mantissa), form))


def expm1(x: Value) -> Value:
    """``2^n (exp(r) - 1) + (2^n - 1)``, computed at half size so that ``n = bias + 1`` does not overflow early."""
    form = format_of(x.dtype)
    bounded = cap(floor_at(x, -2.0 * form.mantissa), _EXPM1_TOP[x.dtype])
    r, n, biased = _reduce(bounded, form, form.bias - 1)
    e = fma(horner(r, _EXP[x.dtype]), r * r, r)
    half_power = biased.as_(x.dtype)
    half = fma(e, half_power, half_power - 0.5)
    # halving e would round a denormal; at -0 the sum loses the sign
    return select(n.eq(0.0), e, half + half).copysign(x)


def logistic(x: Value) -> Value:
    """``1/(1 + exp(-x))`` from ``e = exp(-|x|) <= 1``: relative accuracy down to the denormals on the left."""
    e = exp_times_power(-abs(x), nonpositive=True)
    return select(x < 0.0, e, 1.0) / (e + 1.0)


def tanh(x: Value) -> Value:
    """An odd polynomial near 0, ``1 - 2/(exp(2|x|) + 1)`` beyond."""
    form = format_of(x.dtype)
    a = cap(abs(x), _TANH_ONE[x.dtype])
    r, _, biased = _reduce(a + a, form, form.bias)
    e = _exp_polynomial(r, form) * biased.as_(x.dtype)
    far = 1.0 - 2.0 / (e + 1.0)
    a2 = a * a
    near = fma(horner(a2, _TANH[x.dtype]) * a2, a, a)
    return select(a < _TANH_POLYNOMIAL, near, far).copysign(x)


def _half_exponentials(a: Value) -> tuple[Value, Value]:
    """``exp(a)/2`` and ``exp(-a)/2`` for ``a >= 0``; the second stops falling long after it has ceased to
    matter to their sum.
    """
    half = exp_times_power(a, -1)
    return half, 0.25 / cap(half, 2.0 ** (format_of(a.dtype).mantissa + 10))


def sinh(x: Value) -> Value:
    a = abs(x)
    a2 = a * a
    near = fma(horner(a2, _SINH[x.dtype]) * a2, a, a)
    rising, falling = _half_exponentials(a)
    return select(a < _SINH_POLYNOMIAL, near, rising - falling).copysign(x)


def cosh(x: Value) -> Value:
    rising, falling = _half_exponentials(abs(x))
    return rising + falling
