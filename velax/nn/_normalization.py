"""Functions that normalize along axes, and one-hot encoding."""

from __future__ import annotations

import warnings

import numpy as np

import velax.numpy as jnp
from velax import lax
from velax._lang import dtypes
from velax._lang.config import config
from velax._lang.trace import concrete_or_error, get_aval
from velax._transforms.custom_jvp import custom_jvp
from velax.lax._structural import convert_type
from velax.numpy._reductions import reduced_count
from velax.numpy._util import check_arraylike, compiled, promote_args
from velax.scipy.special import logsumexp

__all__ = ["log_softmax", "logmeanexp", "logsumexp", "one_hot", "softmax", "standardize"]


def _axes(axis):
    return tuple(axis) if isinstance(axis, list) else axis


# -- softmax -------------------------------------------------------------------------------------


def softmax(x, axis=-1, where=None):
    """``exp(x) / sum(exp(x))`` along axes, without overflow.

    Args:
      x: an array.
      axis: an axis, several, or None for all.
      where: booleans that broadcast against ``x``: the elements that count; the result is 0 elsewhere.

    Returns:
      An array of the shape of ``x`` whose sums along the axes are 1.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import nn
      >>> nn.softmax(jnp.zeros(4))
      Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _softmax(x, _axes(axis), where, bool(config.jax_softmax_custom_jvp))


@compiled(static=("axis", "short_derivative"), inline=True)
def _softmax(x, axis, where, short_derivative):
    check_arraylike("max", x)
    return _softmax_short(x, axis, where) if short_derivative else _softmax_value(x, axis, where)


def _shifted(x, axis, where):
    """``x`` less its maximum along the axes, where it counts."""
    x = jnp.asarray(x)
    top = jnp.max(lax.stop_gradient(x), axis=axis, keepdims=True, where=where, initial=_least(get_aval(x).dtype))
    return lax.sub(*promote_args("sub", x if where is None else jnp.where(where, x, -jnp.inf), top))


def _least(dtype):
    """The least value of a dtype: the maximum of nothing."""
    if dtype == np.bool_:
        return False
    return int(dtypes.iinfo(dtype).min) if dtypes.is_integer(dtype) else -np.inf


def _softmax_value(x, axis, where):
    terms = jnp.exp(_shifted(x, axis, where))
    total = jnp.sum(terms, axis=axis, where=where, keepdims=True)
    out = terms / total
    return out if where is None else jnp.where(where, out, 0)


_softmax_short = custom_jvp(_softmax_value, nondiff_argnums=(1,))


@_softmax_short.defjvp
def _softmax_jvp(axis, primals, tangents):
    (x, where), (t, _) = primals, tangents
    y = _softmax_value(x, axis, where)
    return y, y * (t - jnp.sum(y * t, axis=axis, where=where, keepdims=True))


def log_softmax(x, axis=-1, where=None):
    """The logarithm of `softmax`, ``x - logsumexp(x)``.

    Args:
      x: an array.
      axis: an axis, several, or None for all.
      where: booleans that broadcast against ``x``: the elements that count; the result is minus infinity elsewhere.

    Returns:
      An array of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import nn
      >>> bool(jnp.allclose(nn.log_softmax(jnp.zeros(2)), jnp.log(0.5)))
      True
    """
    return _log_softmax(x, _axes(axis), where)


def _log_softmax_value(x, axis, where):
    check_arraylike("log_softmax", x)
    shifted = _shifted(x, axis, where)
    total = jnp.log(jnp.sum(jnp.exp(shifted), axis=axis, where=where, keepdims=True))
    out = shifted - total
    return out if where is None else jnp.where(where, out, -jnp.inf)


_log_softmax_value.__name__ = "log_softmax"
_log_softmax = compiled(_log_softmax_value, static=("axis",))


def logmeanexp(x, axis=None, where=None, keepdims=False):
    """``log(mean(exp(x)))`` along axes, without overflow; arguments as in `logsumexp`."""
    return _logmeanexp(x, _axes(axis), where, bool(keepdims))


def _logmeanexp_value(x, axis, where, keepdims):
    total = logsumexp(x, axis=axis, where=where, keepdims=keepdims)
    count = _count(x, axis, where, keepdims)
    return total - jnp.log(count)


_logmeanexp_value.__name__ = "logmeanexp"
_logmeanexp = compiled(_logmeanexp_value, static=("axis", "keepdims"))


def _count(x, axis, where, keepdims):
    """How many elements a reduction takes in, as a float."""
    dtype = dtypes.to_floating_dtype(get_aval(x).dtype)
    if where is None:
        return dtype.type(reduced_count(x, axis))
    return jnp.sum(jnp.broadcast_to(where, get_aval(x).shape), axis=axis, keepdims=keepdims, dtype=dtype)


# -- standardize ---------------------------------------------------------------------------------


def standardize(x, axis=-1, mean=None, variance=None, epsilon=1e-5, where=None, *, algorithm: str = "fast"):
    """``(x - mean) / sqrt(variance + epsilon)`` along axes.

    Args:
      x: an array.
      axis: an axis, several, or None for all.
      mean, variance: known moments that broadcast against ``x``; by default those of ``x``.
      epsilon: a small number.
      where: booleans that broadcast against ``x``: the elements that count in the moments.
      algorithm: "fast" takes the variance as the mean square less the squared mean; "stable" from
        the differences to the mean.

    Raises:
      ValueError: for an unknown algorithm.
    """
    if algorithm not in ("fast", "stable"):
        raise ValueError(f"Unknown algorithm {algorithm!r}. Expected 'fast' or 'stable'.")
    return _standardize(x, _axes(axis), mean, variance, epsilon, where, algorithm)


def _standardize_value(x, axis, mean, variance, epsilon, where, algorithm):
    check_arraylike("standardize", x)
    if mean is None:
        mean = jnp.mean(x, axis=axis, keepdims=True, where=where)
    if variance is None:
        if algorithm == "fast":
            variance = jnp.clip(jnp.mean(jnp.square(x), axis=axis, keepdims=True, where=where) - jnp.square(mean), 0)
        else:
            variance = jnp.mean(jnp.square(x - mean), axis=axis, keepdims=True, where=where)
    return jnp.subtract(x, mean) * lax.rsqrt(variance + epsilon)


_standardize_value.__name__ = "standardize"
_standardize = compiled(_standardize_value, static=("axis", "algorithm"))


# -- one-hot -------------------------------------------------------------------------------------


def one_hot(x, num_classes: int, *, dtype=None, axis=-1):
    """Vectors that are 1 at one position and 0 elsewhere.

    Args:
      x: integers; those outside of ``[0, num_classes)`` give zeros.
      num_classes: size of the vectors.
      dtype: dtype of the result, by default the float.
      axis: where the new axis goes; the name of a mapped axis: the vectors lie along it.

    Returns:
      An array with one more axis than ``x``.

    Raises:
      ValueError: for an axis out of bounds.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import nn
      >>> nn.one_hot(jnp.array([0, 2]), 3)
      Array([[1., 0., 0.],
             [0., 0., 1.]], dtype=float32)
    """
    num_classes = concrete_or_error(int, num_classes, "The error arose in jax.nn.one_hot argument `num_classes`.")
    dtype = dtypes.default_float_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "one_hot")
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    if not dtypes.is_integer(dtypes.dtype(x)):
        warnings.warn(
            f"jax.nn.one_hot input should be integer-typed; got dtype={dtypes.dtype(x)}",
            DeprecationWarning,
            stacklevel=2,
        )
    if not isinstance(axis, (int, np.integer)):
        return _one_hot_named(jnp.asarray(x), num_classes, dtype, axis)
    return _one_hot(x, num_classes, dtype, int(axis))


def _one_hot_named(x, num_classes, dtype, axis):
    size = lax.axis_size(axis)
    if num_classes != size:
        raise ValueError(f"Expected num_classes to match the size of axis {axis}, but {num_classes} != {size}")
    return jnp.astype(x == lax.axis_index(axis), dtype)


@compiled(static=("num_classes", "dtype", "axis"))
def _one_hot(x, num_classes, dtype, axis):
    x = jnp.asarray(x)
    aval = get_aval(x)
    rank = aval.ndim + 1
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {rank}")
    axis %= rank
    shape = [1] * aval.ndim
    shape.insert(axis, num_classes)
    classes = lax.broadcasted_iota(aval.dtype, shape, axis)
    return convert_type(lax.eq(lax.expand_dims(x, (axis,)), classes), dtype)
