"""Continuous distributions that are functions of uniform or normal numbers."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.config import config
from velax.lax._structural import canonical_shape, convert_type
from velax.numpy._util import compiled
from velax.random._keys import draw_bits
from velax.random._parameters import (
    constant,
    float_dtype,
    fresh_keys,
    parameter,
    prepare,
    result_shape,
    shape_of,
    to_rank,
    widen,
)

__all__ = [
    "cauchy", "double_sided_maxwell", "exponential", "gumbel", "laplace", "logistic", "lognormal", "maxwell",
    "normal", "pareto", "rayleigh",
    "triangular", "truncated_normal", "uniform", "wald", "weibull_min",
]  # fmt: skip


# -- uniform -------------------------------------------------------------------------------------


def uniform(key, shape=(), dtype=None, minval=0.0, maxval=1.0, *, out_sharding=None):
    """Draw floats uniformly from ``[minval, maxval)``.

    Args:
      key: a key.
      shape: the shape of the result.
      dtype: a float dtype.
      minval: lower bound, included; broadcasts to ``shape``.
      maxval: upper bound, excluded; broadcasts to ``shape``.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of this shape and dtype.

    Raises:
      ValueError: if ``dtype`` is no float, or for an array of keys.

    Example:
      >>> from velax import random
      >>> random.uniform(random.key(0), (2,)).shape
      (2,)
    """
    key = prepare("uniform", key, out_sharding)
    return _uniform(key, canonical_shape(shape, "uniform"), float_dtype("uniform", dtype), minval, maxval)


@compiled(static=("shape", "dtype"))
def _uniform(key, shape, dtype, minval, maxval):
    bounds = [convert_type(x, dtype) for x in (minval, maxval)]
    minval, maxval = (to_rank(x, len(shape)) for x in bounds)
    info = dtypes.finfo(dtype)
    drawn = 8 if info.nmant < 8 else info.bits
    bits = draw_bits(key, drawn, shape)
    unsigned = np.dtype(f"uint{info.bits}")
    bits = convert_type(bits, unsigned)
    # random bits as the fraction of a number in [1, 2)
    one = unsigned.type(np.asarray(1.0, dtype).view(unsigned))
    bits = lax.bitwise_or(lax.shift_right_logical(bits, unsigned.type(drawn - info.nmant)), one)
    floats = lax.sub(lax.bitcast_convert_type(bits, dtype), constant(dtype, 1))
    return lax.max(minval, lax.add(lax.mul(floats, lax.sub(maxval, minval)), minval))


# -- normal --------------------------------------------------------------------------------------


def normal(key, shape=(), dtype=None, *, out_sharding=None):
    """Draw from the normal distribution of mean 0 and variance 1.

    Args:
      key: a key.
      shape: the shape of the result.
      dtype: a float or complex dtype; the parts of complex numbers have variance 1/2.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of this shape and dtype.

    Raises:
      ValueError: if ``dtype`` is neither float nor complex, or for an array of keys.

    Example:
      >>> from velax import random
      >>> random.normal(random.key(0), (3, 2)).shape
      (3, 2)
    """
    key = prepare("normal", key, out_sharding)
    return _normal(key, canonical_shape(shape, "normal"), float_dtype("normal", dtype, "a float or complex"))


@compiled(static=("shape", "dtype"))
def _normal(key, shape, dtype):
    if not dtypes.is_complex(dtype):
        return _normal_real(key, shape, dtype)
    real_dtype = dtypes.real_dtype(dtype)
    re, im = (convert_type(_normal_real(k, shape, real_dtype), dtype) for k in fresh_keys(key))
    return lax.div(lax.add(re, lax.mul(constant(dtype, 1j), im)), constant(dtype, np.sqrt(2)))


@compiled(static=("shape", "dtype"))
def _normal_real(key, shape, dtype):
    u = _uniform(key, shape, dtype, _above(dtype, -1), constant(dtype, 1))
    return lax.mul(constant(dtype, np.sqrt(2)), lax.erf_inv(u))


def _above(dtype, value):
    """The next number of a dtype above ``value``, towards 0."""
    unsigned = np.dtype(f"uint{dtypes.finfo(dtype).bits}")
    return (np.asarray(value, dtype).view(unsigned) - unsigned.type(1)).view(dtype)[()]


def truncated_normal(key, lower, upper, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the normal distribution restricted to ``(lower, upper)``.

    Args:
      key: a key.
      lower, upper: bounds; they broadcast to ``shape``.
      shape: the shape of the result; by default that of the bounds.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.

    Raises:
      ValueError: if ``dtype`` is no float or the bounds do not broadcast to ``shape``.
    """
    key = prepare("truncated_normal", key, out_sharding)
    dtype = float_dtype("truncated_normal", dtype)
    return _truncated_normal(key, lower, upper, result_shape("truncated_normal", shape, lower, upper), dtype)


@compiled(static=("shape", "dtype"))
def _truncated_normal(key, lower, upper, shape, dtype):
    lower, upper = convert_type(lower, dtype), convert_type(upper, dtype)
    root2 = constant(dtype, np.sqrt(2))
    a, b = lax.erf(lax.div(lower, root2)), lax.erf(lax.div(upper, root2))
    out = lax.mul(root2, lax.erf_inv(_uniform(key, shape, dtype, a, b)))
    # rounding must not reach the bounds, which are excluded
    lo = lax.nextafter(lax.stop_gradient(lower), constant(dtype, np.inf))
    hi = lax.nextafter(lax.stop_gradient(upper), constant(dtype, -np.inf))
    lo, hi = (parameter(x, dtype, shape) for x in (lo, hi))
    return lax.min(hi, lax.max(lo, out))


def lognormal(key, sigma=1.0, shape=None, dtype=None, *, out_sharding=None):
    """Draw numbers whose logarithm is normal with mean 0 and standard deviation ``sigma``.

    Args:
      key: a key.
      sigma: broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``sigma``.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("lognormal", key, out_sharding)
    dtype = float_dtype("lognormal", dtype)
    return _lognormal(key, sigma, result_shape("lognormal", shape, sigma), dtype)


@compiled(static=("shape", "dtype"), inline=True)
def _lognormal(key, sigma, shape, dtype):
    return lax.exp(lax.mul(_normal(key, shape, dtype), parameter(sigma, dtype, shape)))


# -- from one uniform number ---------------------------------------------------------------------


def _from_shape(name: str, sample, summary: str):
    """The public function of a sampler without parameters."""

    def draw(key, shape=(), dtype=None, *, out_sharding=None):
        key = prepare(name, key, out_sharding)
        return sample(key, canonical_shape(shape, name), float_dtype(name, dtype))

    draw.__name__ = draw.__qualname__ = name
    draw.__doc__ = f"""{summary}

    Args:
      key: a key.
      shape: the shape of the result.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of this shape and dtype.

    Raises:
      ValueError: if ``dtype`` is no float, or for an array of keys.
    """
    return draw


@compiled(static=("shape", "dtype"))
def _exponential(key, shape, dtype):
    return lax.neg(lax.log1p(lax.neg(_uniform(key, shape, dtype, 0.0, 1.0))))


@compiled(static=("shape", "dtype"))
def _laplace(key, shape, dtype):
    u = _uniform(key, shape, dtype, _above(dtype, -1), 1.0)
    return lax.mul(lax.sign(u), lax.log1p(lax.neg(lax.abs(u))))


@compiled(static=("shape", "dtype"))
def _logistic(key, shape, dtype):
    x = _uniform(key, shape, dtype, dtypes.finfo(dtype).tiny, 1.0)
    return lax.sub(lax.log(x), lax.log1p(lax.neg(x)))


@compiled(static=("shape", "dtype"))
def _cauchy(key, shape, dtype):
    u = _uniform(key, shape, dtype, dtypes.finfo(dtype).eps, 1.0)
    return lax.tan(lax.mul(constant(dtype, np.pi), lax.sub(u, constant(dtype, 0.5))))


@compiled(static=("shape", "dtype"))
def _maxwell(key, shape, dtype):
    norm = _normal(key, (*shape, 3), dtype)
    return lax.sqrt(lax.reduce_sum(lax.mul(norm, norm), (len(shape),)))


exponential = _from_shape("exponential", _exponential, "Draw from the exponential distribution of mean 1.")
laplace = _from_shape("laplace", _laplace, "Draw from the Laplace distribution of mean 0 and scale 1.")
logistic = _from_shape("logistic", _logistic, "Draw from the logistic distribution of mean 0 and scale 1.")
cauchy = _from_shape("cauchy", _cauchy, "Draw from the Cauchy distribution around 0 of scale 1.")
maxwell = _from_shape(
    "maxwell", _maxwell, "Draw from the Maxwell distribution of scale 1: lengths of normal vectors of three dimensions."
)


def gumbel(key, shape=(), dtype=None, mode=None, *, out_sharding=None):
    """Draw from the standard Gumbel distribution.

    Args:
      key: a key.
      shape: the shape of the result.
      dtype: a float dtype.
      mode: "low" draws one uniform number each; "high" two, for a finer upper tail. By default
        "low", or "high" under ``jax_high_dynamic_range_gumbel``.
      out_sharding: placement; None, as there is one device.

    Raises:
      ValueError: if ``dtype`` is no float or ``mode`` unknown.
    """
    key = prepare("gumbel", key, out_sharding)
    return _gumbel(key, canonical_shape(shape, "gumbel"), float_dtype("gumbel", dtype), _gumbel_mode(mode))


def _gumbel_mode(mode) -> str:
    if mode is None:
        mode = "high" if config.jax_high_dynamic_range_gumbel else "low"
    if mode not in ("high", "low"):
        raise ValueError(f"Must provide valid mode for gumbel got: {mode}")
    return mode


@compiled(static=("shape", "dtype", "mode"))
def _gumbel(key, shape, dtype, mode):
    info = dtypes.finfo(dtype)
    if mode == "low":
        u = _uniform(key, shape, dtype, info.tiny, 1.0)
        return lax.neg(lax.log(lax.neg(lax.log(u))))
    high, low = halves(_uniform(key, (2, *shape), dtype, 0.0, 1.0))
    fine = lax.add(lax.add(high, lax.mul(constant(dtype, info.eps), low)), constant(dtype, info.tiny))
    x = lax.select(lax.ge(high, constant(dtype, 0.5)), high, fine)
    return lax.neg(lax.log(lax.neg(lax.log1p(lax.neg(x)))))


def halves(x):
    """The two parts of an array along its first axis of size 2."""
    return lax.index_in_dim(x, 0, 0, keepdims=False), lax.index_in_dim(x, 1, 0, keepdims=False)


# -- with parameters -----------------------------------------------------------------------------


def double_sided_maxwell(key, loc, scale, shape=(), dtype=None):
    """Draw from the Maxwell distribution reflected at 0, scaled and shifted.

    Args:
      key: a key.
      loc, scale: location and scale; they broadcast against each other.
      shape: how many draws of their shape: the leading axes of the result.
      dtype: a float dtype.
    """
    key = prepare("double_sided_maxwell", key)
    return _double_sided_maxwell(
        key, loc, scale, canonical_shape(shape, "double_sided_maxwell"), float_dtype("double_sided_maxwell", dtype)
    )


@compiled(static=("shape", "dtype"))
def _double_sided_maxwell(key, loc, scale, shape, dtype):
    from velax.random._discrete import _rademacher  # the discrete samplers use this module

    whole = (*shape, *np.broadcast_shapes(shape_of(loc), shape_of(scale)))
    loc, scale = (parameter(x, dtype, whole) for x in (loc, scale))
    k1, k2 = fresh_keys(key)
    draws = lax.mul(_rademacher(k2, whole, dtype), _maxwell(k1, whole, dtype))
    return lax.add(lax.mul(draws, scale), loc)


def weibull_min(key, scale, concentration, shape=(), dtype=None):
    """Draw from the Weibull distribution.

    Args:
      key: a key.
      scale: of the distribution.
      concentration: its shape parameter.
      shape: the shape of the result.
      dtype: a float dtype.
    """
    key = prepare("weibull_min", key)
    return _weibull_min(
        key, scale, concentration, canonical_shape(shape, "weibull_min"), float_dtype("weibull_min", dtype)
    )


@compiled(static=("shape", "dtype"))
def _weibull_min(key, scale, concentration, shape, dtype):
    u = _uniform(key, shape, dtype, 0, 1)
    power = convert_type(lax.div(1.0, convert_type(concentration, dtype)), dtype)
    return lax.mul(lax.pow(lax.neg(lax.log1p(lax.neg(u))), widen(power, shape)), parameter(scale, dtype, shape))


def pareto(key, b, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the Pareto distribution of shape ``b``, from 1 up.

    Args:
      key: a key.
      b: broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``b``.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("pareto", key, out_sharding)
    return _pareto(key, b, result_shape("pareto", shape, b), float_dtype("pareto", dtype))


@compiled(static=("shape", "dtype"))
def _pareto(key, b, shape, dtype):
    return lax.exp(lax.div(_exponential(key, shape, dtype), parameter(b, dtype, shape)))


def rayleigh(key, scale, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the Rayleigh distribution.

    Args:
      key: a key.
      scale: broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``scale``.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("rayleigh", key, out_sharding)
    return _rayleigh(key, scale, result_shape("rayleigh", shape, scale), float_dtype("rayleigh", dtype))


@compiled(static=("shape", "dtype"))
def _rayleigh(key, scale, shape, dtype):
    root = lax.sqrt(lax.mul(lax.log(_uniform(key, shape, dtype, 0.0, 1.0)), constant(dtype, -2)))
    return lax.mul(widen(convert_type(scale, dtype), shape), root)


def triangular(key, left, mode, right, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the triangular distribution on ``[left, right]`` with its peak at ``mode``.

    Args:
      key: a key.
      left, mode, right: they broadcast to ``shape``.
      shape: the shape of the result; by default that of the parameters.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("triangular", key, out_sharding)
    dtype = float_dtype("triangular", dtype)
    return _triangular(key, left, mode, right, result_shape("triangular", shape, left, mode, right), dtype)


@compiled(static=("shape", "dtype"), inline=True)
def _triangular(key, left, mode, right, shape, dtype):
    left, mode, right = (widen(convert_type(x, dtype), shape) for x in (left, mode, right))
    split = lax.div(lax.sub(mode, left), lax.sub(right, left))
    u = _uniform(key, shape, dtype, 0.0, 1.0)
    width = lax.sub(right, left)
    low = lax.add(left, lax.sqrt(lax.mul(lax.mul(u, width), lax.sub(mode, left))))
    high = lax.sub(right, lax.sqrt(lax.mul(lax.mul(lax.sub(constant(dtype, 1), u), width), lax.sub(right, mode))))
    return lax.select(lax.lt(u, split), low, high)


def wald(key, mean, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the Wald (inverse Gaussian) distribution of scale 1.

    Args:
      key: a key.
      mean: broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``mean``.
      dtype: a float dtype.
      out_sharding: placement; None, as there is one device.
    """
    key = prepare("wald", key, out_sharding)
    return _wald(key, mean, result_shape("wald", shape, mean), float_dtype("wald", dtype))


@compiled(static=("shape", "dtype"))
def _wald(key, mean, shape, dtype):
    k1, k2 = fresh_keys(key)
    mean = widen(convert_type(mean, dtype), shape)
    v, z = _normal(k1, shape, dtype), _uniform(k2, shape, dtype, 0.0, 1.0)
    y, mean2, two = lax.integer_pow(v, 2), lax.integer_pow(mean, 2), constant(dtype, 2)
    root = lax.sqrt(lax.add(lax.mul(lax.mul(constant(dtype, 4), mean), y), lax.mul(mean2, lax.integer_pow(y, 2))))
    x = lax.sub(lax.add(mean, lax.div(lax.mul(mean2, y), two)), lax.mul(lax.div(mean, two), root))
    return lax.select(lax.le(z, lax.div(mean, lax.add(mean, x))), x, lax.div(mean2, x))
