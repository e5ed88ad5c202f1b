"""Special functions."""

from __future__ import annotations

import numpy as np

import velax.numpy as jnp
from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.custom_jvp import custom_jvp
from velax.numpy._reductions import reduced_axes, static_axes
from velax.numpy._util import check_arraylike, compiled, inlined, promote_args_inexact
from velax.random._parameters import constant

__all__ = [
    "beta", "betainc", "betaln", "boxcox", "boxcox1p", "digamma", "entr", "erf", "erfc", "erfinv", "expit",
    "factorial", "gamma", "gammainc", "gammaincc", "gammaln", "gammasgn", "i0", "i0e", "i1", "i1e", "kl_div",
    "log_ndtr", "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "poch", "polygamma", "rel_entr",
    "softmax", "xlog1py", "xlogy", "zeta",
]  # fmt: skip


# -- log-sum-exp ---------------------------------------------------------------------------------


def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False, where=None):
    """``log(sum(b * exp(a)))`` along axes, without overflow.

    Args:
      a: an array.
      axis: an axis, several, or None for all.
      b: factors that broadcast against ``a``.
      keepdims: whether the reduced axes stay, with size 1.
      return_sign: whether to return the logarithm of the sum's magnitude and its sign (for complex numbers, its phase).
      where: booleans that broadcast against ``a``: the elements that count.

    Returns:
      The array of logarithms, NaN where the sum is negative; with ``return_sign`` a pair of arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax.scipy.special import logsumexp
      >>> bool(logsumexp(jnp.array([1000.0, 1000.0])) > 1000.0)
      True
    """
    return _logsumexp(a, static_axes(axis), b, bool(keepdims), bool(return_sign), where)


@compiled(static=("axis", "keepdims", "return_sign"), inline=True)
def _logsumexp(a, axis, b, keepdims, return_sign, where):
    check_arraylike("logsumexp", a)
    if where is not None:
        a = jnp.where(where, a, 0)
    if b is not None:
        a, b = promote_args_inexact("logsumexp", a, b)
        a = jnp.where(b != 0, a, -jnp.inf)
    else:
        (a,) = promote_args_inexact("logsumexp", a)
    aval = get_aval(a)
    dims = reduced_axes(axis, aval.ndim)
    top = jnp.max(lax.stop_gradient(jnp.real(a)), axis=dims, keepdims=True, where=where, initial=-np.inf)
    top = lax.select(lax.is_finite(top), top, jnp.zeros_like(top))
    terms = lax.exp(lax.sub(a, jnp.astype(top, aval.dtype)))
    if b is not None:
        terms = lax.mul(*jnp.broadcast_arrays(terms, b))
    total = jnp.sum(terms, axis=dims, keepdims=keepdims, where=where)
    top = top if keepdims else lax.squeeze(top, dims)
    sign = lax.sign(total)
    is_complex = dtypes.is_complex(aval.dtype)
    if return_sign or not is_complex:
        total = lax.abs(total)
    out = lax.add(lax.log(total), jnp.astype(top, get_aval(total).dtype))
    if return_sign:
        return out, sign
    return jnp.where(sign < 0, jnp.nan, out) if b is not None and not is_complex else out


def softmax(x, /, *, axis=None):
    """``exp(x) / sum(exp(x))`` along an axis, several, or (None) all."""
    from velax.nn import softmax as nn_softmax  # velax.nn uses this module

    return nn_softmax(x, axis=axis)


def log_softmax(x, /, *, axis=None):
    """The logarithm of `softmax`."""
    from velax.nn import log_softmax as nn_log_softmax  # as in `softmax`

    return nn_log_softmax(x, axis=axis)


# -- error function and normal distribution ------------------------------------------------------


@inlined
def erf(x):
    """The error function."""
    return lax.erf(*promote_args_inexact("erf", x))


@inlined
def erfc(x):
    """The complementary error function, ``1 - erf(x)``."""
    return lax.erfc(*promote_args_inexact("erfc", x))


@inlined
def erfinv(x):
    """The inverse of the error function."""
    return lax.erf_inv(*promote_args_inexact("erfinv", x))


def _real_float(name: str, x):
    """An argument of the normal distribution's functions: these are for two dtypes, and do not promote."""
    check_arraylike(name, x)
    x = jnp.asarray(x)
    dtype = get_aval(x).dtype
    if dtype not in (np.float32, np.float64):
        raise TypeError(
            f"x.dtype={dtype} is not supported, see docstring for supported types. It is computed in float32 and "
            "float64; convert with astype."
        )
    return x, dtype


@inlined
def ndtr(x):
    """The cumulative distribution function of the normal distribution.

    Raises:
      TypeError: unless ``x`` is of dtype float32 or float64.
    """
    x, dtype = _real_float("ndtr", x)
    return _ndtr(x, dtype)


def _ndtr(x, dtype):
    half, one, two = (constant(dtype, v) for v in (0.5, 1, 2))
    w = lax.mul(x, constant(dtype, 0.5 * np.sqrt(2.0)))
    z = lax.abs(w)
    outer = lax.select(lax.gt(w, constant(dtype, 0)), lax.sub(two, lax.erfc(z)), lax.erfc(z))
    y = lax.select(lax.lt(z, constant(dtype, 0.5 * np.sqrt(2.0))), lax.add(one, lax.erf(w)), outer)
    return lax.mul(half, y)


@inlined
def ndtri(p):
    """The inverse of `ndtr`.

    Raises:
      TypeError: as `ndtr`.
    """
    p, dtype = _real_float("ndtri", p)
    x = lax.sub(lax.mul(constant(dtype, 2), p), constant(dtype, 1))
    return lax.mul(constant(dtype, np.sqrt(2)), lax.erf_inv(x))


#: below these the asymptotic series is used, by dtype
_LOG_NDTR_BOUND = {np.dtype("float32"): -10.0, np.dtype("float64"): -20.0}


def log_ndtr(x, series_order: int = 3):
    """The logarithm of `ndtr`, accurate far into the lower tail.

    Args:
      x: floats.
      series_order: terms of the asymptotic series used in the tail, at most 30.

    Raises:
      TypeError: if ``series_order`` is no integer; as `ndtr` for ``x``.
      ValueError: if ``series_order`` is negative or greater than 30.
    """
    if not isinstance(series_order, int):
        raise TypeError("series_order must be a Python integer.")
    if not 0 <= series_order <= 30:
        raise ValueError("series_order must be non-negative and at most 30.")
    return _log_ndtr_call(x, series_order)


@compiled(static=("series_order",), inline=True)
def _log_ndtr_call(x, series_order):
    x, _ = _real_float("log_ndtr", x)
    return _log_ndtr(x, series_order)


def _log_ndtr_value(x, series_order):
    dtype = get_aval(x).dtype
    low, zero = constant(dtype, _LOG_NDTR_BOUND[dtype]), constant(dtype, 0)
    # each branch sees arguments of its own range only, so that none overflows
    upper = lax.log1p(lax.neg(_ndtr(lax.neg(lax.max(x, zero)), dtype)))
    middle = lax.log(_ndtr(lax.min(lax.max(x, low), zero), dtype))
    lower = _log_ndtr_tail(lax.min(x, low), dtype, series_order)
    return lax.select(lax.gt(x, zero), upper, lax.select(lax.gt(x, low), middle, lower))


def _log_ndtr_tail(x, dtype, series_order):
    x2 = lax.square(x)
    scale = lax.sub(lax.mul(constant(dtype, -0.5), x2), lax.log(lax.neg(x)))
    series, factor = constant(dtype, 1), 1.0
    power = lax.full_like(x, 1)
    for n in range(1, series_order + 1):
        factor *= -(2 * n - 1)
        power = lax.mul(power, x2)
        series = lax.add(series, lax.div(constant(dtype, factor), power))
    tail = lax.sub(scale, constant(dtype, 0.5 * np.log(2 * np.pi)))
    return lax.add(tail, lax.log(series)) if series_order else tail


_log_ndtr = custom_jvp(_log_ndtr_value, nondiff_argnums=(1,))


@_log_ndtr.defjvp
def _log_ndtr_jvp(series_order, primals, tangents):
    (x,), (t,) = primals, tangents
    dtype = get_aval(x).dtype
    out = _log_ndtr(x, series_order)
    log_pdf = lax.neg(lax.add(lax.div(lax.square(x), constant(dtype, 2)), constant(dtype, 0.5 * np.log(2 * np.pi))))
    return out, lax.mul(t, lax.exp(lax.sub(log_pdf, out)))


# -- logistic function ---------------------------------------------------------------------------


@inlined
def expit(x):
    """The logistic function, ``1 / (1 + exp(-x))``."""
    return lax.logistic(*promote_args_inexact("expit", x))


@inlined
def logit(x):
    """The inverse of `expit`, ``log(x / (1 - x))``."""
    (x,) = promote_args_inexact("logit", x)
    return _logit(x)


@custom_jvp
def _logit(x):
    return lax.log(lax.div(x, lax.sub(_one(x), x)))


_logit.defjvps(lambda t, out, x: lax.div(t, lax.mul(x, lax.sub(_one(x), x))))


def _one(x):
    return constant(get_aval(x).dtype, 1)


# -- entropy -------------------------------------------------------------------------------------


@inlined
def xlogy(x, y):
    """``x * log(y)``, 0 where ``x`` is 0."""
    return _xlogy(*jnp.broadcast_arrays(*promote_args_inexact("xlogy", x, y)))


@custom_jvp
def _xlogy(x, y):
    zero = lax.eq(x, constant(get_aval(x).dtype, 0))
    return lax.select(zero, jnp.zeros_like(x), lax.mul(x, lax.log(y)))


_xlogy.defjvps(
    lambda t, out, x, y: lax.mul(t, lax.log(y)),
    lambda t, out, x, y: lax.mul(t, _safe_ratio(x, y)),
)


@inlined
def xlog1py(x, y):
    """``x * log1p(y)``, 0 where ``x`` is 0."""
    return _xlog1py(*jnp.broadcast_arrays(*promote_args_inexact("xlog1py", x, y)))


@custom_jvp
def _xlog1py(x, y):
    zero = lax.eq(x, constant(get_aval(x).dtype, 0))
    return lax.select(zero, jnp.zeros_like(x), lax.mul(x, lax.log1p(y)))


_xlog1py.defjvps(
    lambda t, out, x, y: lax.mul(t, lax.log1p(y)),
    lambda t, out, x, y: lax.mul(t, _safe_ratio(x, lax.add(_one(y), y))),
)


def _safe_ratio(x, y):
    """``x / y``, 0 where ``x`` is 0."""
    zero = lax.eq(x, constant(get_aval(x).dtype, 0))
    return lax.select(zero, jnp.zeros_like(x), lax.div(x, y))


@inlined
def entr(x):
    """``-x * log(x)``: 0 at 0, minus infinity below."""
    (x,) = promote_args_inexact("entr", x)
    zero = constant(get_aval(x).dtype, 0)
    return lax.select(lax.lt(x, zero), jnp.full_like(x, -np.inf), lax.neg(xlogy(x, x)))


@inlined
def rel_entr(p, q):
    """``p * log(p / q)``: 0 where ``p`` is 0 and ``q`` not negative, infinity outside of the domain."""
    p, q = jnp.broadcast_arrays(*promote_args_inexact("rel_entr", p, q))
    zero = constant(get_aval(p).dtype, 0)
    both = lax.bitwise_and(lax.gt(p, zero), lax.gt(q, zero))
    at_zero = lax.bitwise_and(lax.eq(p, zero), lax.ge(q, zero))
    safe_p, safe_q = (lax.select(both, v, jnp.ones_like(v)) for v in (p, q))
    value = lax.sub(xlogy(safe_p, safe_p), xlogy(safe_p, safe_q))
    return lax.select(both, value, lax.select(at_zero, jnp.zeros_like(p), jnp.full_like(p, np.inf)))


@inlined
def kl_div(p, q):
    """``p * log(p / q) - p + q``, the elementwise Kullback-Leibler divergence."""
    p, q = jnp.broadcast_arrays(*promote_args_inexact("kl_div", p, q))
    return lax.add(lax.sub(rel_entr(p, q), p), q)


# -- gamma function ------------------------------------------------------------------------------


@inlined
def gammaln(x):
    """The logarithm of the magnitude of the gamma function."""
    return lax.lgamma(*promote_args_inexact("gammaln", x))


@inlined
def digamma(x):
    """The derivative of `gammaln`."""
    return lax.digamma(*promote_args_inexact("digamma", x))


@inlined
def gammasgn(x):
    """The sign of the gamma function: NaN at the negative integers, that of zero at zero."""
    (x,) = promote_args_inexact("gammasgn", x)
    zero, one = constant(get_aval(x).dtype, 0), jnp.ones_like(x)
    floor = lax.floor(x)
    odd = lax.ne(lax.rem(floor, constant(get_aval(x).dtype, 2)), zero)
    sign = lax.select(odd, lax.neg(one), one)
    at_zero = jnp.copysign(one, x)
    negative = lax.select(lax.eq(x, floor), jnp.full_like(x, np.nan), sign)
    below = lax.select(lax.eq(x, constant(get_aval(x).dtype, -np.inf)), jnp.full_like(x, np.nan), negative)
    return lax.select(lax.eq(x, zero), at_zero, lax.select(lax.lt(x, zero), below, one))


@inlined
def gamma(x):
    """The gamma function; NaN at the negative integers."""
    (x,) = promote_args_inexact("gamma", x)
    return lax.mul(gammasgn(x), lax.exp(lax.lgamma(x)))


@inlined
def betaln(a, b):
    """The logarithm of the magnitude of the beta function."""
    a, b = jnp.broadcast_arrays(*promote_args_inexact("betaln", a, b))
    return lax.sub(lax.add(lax.lgamma(a), lax.lgamma(b)), lax.lgamma(lax.add(a, b)))


@inlined
def beta(a, b):
    """The beta function."""
    a, b = jnp.broadcast_arrays(*promote_args_inexact("beta", a, b))
    sign = lax.mul(lax.mul(gammasgn(a), gammasgn(b)), gammasgn(lax.add(a, b)))
    return lax.mul(sign, lax.exp(betaln(a, b)))


def factorial(n, exact=False):
    """``n!`` as a float, 0 for negative numbers.

    Raises:
      NotImplementedError: with ``exact``.
    """
    if exact:
        raise NotImplementedError("factorial with exact=True")
    return _factorial(n)


@inlined
def _factorial(n):
    (n,) = promote_args_inexact("factorial", n)
    zero = constant(get_aval(n).dtype, 0)
    return lax.select(lax.lt(n, zero), jnp.zeros_like(n), lax.exp(lax.lgamma(lax.add(n, _one(n)))))


def multigammaln(a, d):
    """The logarithm of the multivariate gamma function of dimension ``d``."""
    return _multigammaln(a, int(d))


@compiled(static=("d",), inline=True)
def _multigammaln(a, d):
    (a,) = promote_args_inexact("multigammaln", a)
    dtype = get_aval(a).dtype
    offsets = constant(np.dtype("float64"), 0.5) * np.arange(d)
    terms = lax.lgamma(jnp.expand_dims(a, -1) - jnp.asarray(offsets, dtype))
    return jnp.sum(terms, axis=-1) + constant(dtype, 0.25 * d * (d - 1) * np.log(np.pi))


def polygamma(n, x):
    """The derivative of order ``n`` of `digamma`.

    Args:
      n: integers, not negative; NaN for others.
      x: floats.

    Raises:
      ValueError: if ``n`` is no integer.

    Example:
      >>> from velax.scipy.special import polygamma
      >>> round(float(polygamma(1, 1.0)), 4)
      1.6449
    """
    check_arraylike("polygamma", n, x)
    if not dtypes.is_integer(dtypes.dtype(n)):
        raise ValueError(f"Argument `n` to polygamma must be of integer type. Got dtype {dtypes.dtype(n)}.")
    return _polygamma(n, x)


@inlined
def _polygamma(n, x):
    return lax.polygamma(*jnp.broadcast_arrays(*promote_args_inexact("polygamma", n, x)))


def zeta(x, q=None):
    """The Hurwitz zeta function, ``sum((q + k)**-x for k in 0, 1, ...)``.

    Raises:
      NotImplementedError: without ``q``.
    """
    if q is None:
        raise NotImplementedError(
            "Riemann zeta function not implemented; pass q != None to compute the Hurwitz Zeta function."
        )
    return _zeta(x, q)


@inlined
def _zeta(x, q):
    return lax.zeta(*jnp.broadcast_arrays(*promote_args_inexact("zeta", x, q)))


@inlined
def gammainc(a, x):
    """The regularized lower incomplete gamma function."""
    return lax.igamma(*jnp.broadcast_arrays(*promote_args_inexact("gammainc", a, x)))


@inlined
def gammaincc(a, x):
    """The regularized upper incomplete gamma function, ``1 - gammainc(a, x)``."""
    return lax.igammac(*jnp.broadcast_arrays(*promote_args_inexact("gammaincc", a, x)))


@inlined
def betainc(a, b, x):
    """The regularized incomplete beta function."""
    return lax.betainc(*jnp.broadcast_arrays(*promote_args_inexact("betainc", a, b, x)))


@inlined
def poch(z, m):
    """The rising factorial, ``gamma(z + m) / gamma(z)``; 1 where ``m`` is 0."""
    z, m = jnp.broadcast_arrays(*promote_args_inexact("poch", z, m))
    end = lax.add(z, m)
    size = lax.exp(lax.sub(lax.lgamma(end), lax.lgamma(z)))
    nothing = lax.eq(m, constant(get_aval(m).dtype, 0))
    return lax.select(nothing, jnp.ones_like(m), lax.mul(lax.mul(gammasgn(z), gammasgn(end)), size))


# -- modified Bessel functions -------------------------------------------------------------------


@inlined
def i0e(x):
    """The modified Bessel function of order 0, times ``exp(-abs(x))``."""
    return lax.bessel_i0e(*promote_args_inexact("i0e", x))


@inlined
def i0(x):
    """The modified Bessel function of order 0."""
    (x,) = promote_args_inexact("i0", x)
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i0e(x))


@inlined
def i1e(x):
    """The modified Bessel function of order 1, times ``exp(-abs(x))``."""
    return lax.bessel_i1e(*promote_args_inexact("i1e", x))


@inlined
def i1(x):
    """The modified Bessel function of order 1."""
    (x,) = promote_args_inexact("i1", x)
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i1e(x))


# -- power transformations -----------------------------------------------------------------------


def _power_transform(log_x, power):
    """``(x**power - 1) / power``, the logarithm where the power is 0."""
    zero = lax.eq(power, constant(get_aval(power).dtype, 0))
    safe = lax.select(zero, jnp.ones_like(power), power)
    return lax.select(zero, log_x, lax.div(lax.expm1(lax.mul(safe, log_x)), safe))


@inlined
def boxcox(x, lmbda):
    """The Box-Cox transformation ``(x**lmbda - 1) / lmbda``, ``log(x)`` where ``lmbda`` is 0."""
    x, lmbda = jnp.broadcast_arrays(*promote_args_inexact("boxcox", x, lmbda))
    return _power_transform(lax.log(x), lmbda)


@inlined
def boxcox1p(x, lmbda):
    """`boxcox` of ``1 + x``, accurate near 0."""
    x, lmbda = jnp.broadcast_arrays(*promote_args_inexact("boxcox1p", x, lmbda))
    return _power_transform(lax.log1p(x), lmbda)
