"""erf, erfc and erf_inv in binary32 and binary64.

``erf`` is an odd polynomial near 0 and ``1 - erfc`` beyond. ``erfc(t) = exp(-t^2) P(u)/(t + k)`` with ``u =
(t - k)/(t + k)`` serves all ``t >= 0`` (the variable of Schonfelder 1978), ``t^2`` taken as an unevaluated
sum. ``erf_inv(x) = x P(w)`` with ``w = -log(1 - x^2)`` in pieces (the approach of Giles 2010).
"""

from __future__ import annotations

from velax._compiler.math import tables
from velax._compiler.math.exponential import exp_times_power
from velax._compiler.math.formats import F32, F64, INF, NAN
from velax._compiler.math.logarithm import log_of_normal
from velax._compiler.math.value import Value, cap, fma, horner, select, sqrt, two_product

__all__ = ["erf", "erf_inv", "erfc"]

_ERF = {"f32": tables.ERF_F32, "f64": tables.ERF_F64}
_ERF_POLYNOMIAL = {"f32": 0.9375, "f64": 1.0}
#: beyond, erf rounds to 1
_ERF_ONE = {"f32": 3.95, "f64": 6.0}


def _exp2_wide(t: Value) -> Value:
    """``2^t`` as an f64 to binary32 accuracy, for |t| < 1000."""
    magic = F64.round_magic + F64.bias
    shifted = t + magic
    r = t - (shifted - magic)
    return fma(horner(r, tables.POW_EXP2_F32), r, 1.0) * shifted.bits().shl(F64.mantissa).as_("f64")


def _erfc_of_size(a: Value) -> Value:
    """erfc of ``a >= 0``."""
    return _erfc_of_size_f32(a) if a.dtype == "f32" else _erfc_of_size_f64(a)


def _erfc_of_size_f32(a: Value) -> Value:
    """In binary64, whose range and precision leave nothing to compensate."""
    vanishes = a > 10.06
    wide = select(vanishes, 0.0, a).to("f64")
    v = 1.0 / (wide + 3.0)
    y = horner((wide - 3.0) * v, tables.ERFCX_F32) * v * _exp2_wide(wide * wide * -F64.log2e)
    return select(vanishes, 0.0, y).to("f32")


def _erfc_of_size_f64(a: Value) -> Value:
    """Carried 2^53 too large until the last product, which alone rounds into the denormals."""
    power = F64.mantissa + 1
    vanishes = a > 27.3
    a = select(vanishes, 0.0, a)
    hi, lo = two_product(a, a)
    e = exp_times_power(-hi, power, nonpositive=True, low_part=-lo)
    # two divisions: through a shared reciprocal the error of u would grow by half
    den = a + 4.0
    y = e * horner((a - 4.0) / den, tables.ERFCX_F64) / den
    return select(vanishes, 0.0, y * 2.0**-power)


def erfc(x: Value) -> Value:
    a = abs(x)
    y = _erfc_of_size(a)
    y = select(x < 0.0, 2.0 - y, y)
    if x.dtype == "f64":
        # P is worst conditioned at 0, where 1 - erf loses nothing
        y = select(a < 0.625, 1.0 - fma(horner(x * x, tables.ERF_F64), x, x), y)
    return y


def erf(x: Value) -> Value:
    a = cap(abs(x), _ERF_ONE[x.dtype])
    near = fma(horner(a * a, _ERF[x.dtype]), a, a)
    far = 1.0 - (_erfc_tail_f32(a) if x.dtype == "f32" else _erfc_of_size(a))
    return select(a < _ERF_POLYNOMIAL[x.dtype], near, far).copysign(x)


def _erfc_tail_f32(a: Value) -> Value:
    """``2^P(a)``: erfc to an absolute error, which is all that 1 - erfc needs."""
    t = horner(a, tables.ERF_TAIL_F32)
    magic = F32.round_magic + F32.bias
    shifted = t + magic
    r = t - (shifted - magic)
    return fma(horner(r, tables.EXP2_F32), r, 1.0) * shifted.bits().shl(F32.mantissa).as_("f32")


def erf_inv(x: Value) -> Value:
    """NaN outside [-1, 1], infinite at its ends."""
    w = -log_of_normal(fma(-x, x, 1.0))
    if x.dtype == "f32":
        p = select(w < 5.0, horner(w - 1.0, tables.ERFINV_F32), horner(sqrt(w) - 2.5, tables.ERFINV_TAIL_F32))
    else:
        root = sqrt(w)
        p = select(w < 16.0, horner(root - 3.25, tables.ERFINV_MID_F64), horner(root - 5.0, tables.ERFINV_TAIL_F64))
        p = select(w < 6.25, horner(w - 3.125, tables.ERFINV_F64), p)
    size = abs(x)
    p = select(size < 1.0, p, INF)
    return x * select(size <= 1.0, p, NAN)
