"""Initializers of the parameters of neural networks: functions ``(key, shape, dtype) -> array``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

import velax.numpy as jnp
from velax import random
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary

__all__ = [
    "Initializer", "constant", "delta_orthogonal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform",
    "kaiming_normal",
    "kaiming_uniform", "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal", "truncated_normal",
    "uniform", "variance_scaling",
    "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip


@runtime_checkable
class Initializer(Protocol):
    """What initializers are: ``init(key, shape, dtype=..., out_sharding=None)`` gives an array."""

    def __call__(self, key, shape, dtype: Any = None, out_sharding: Any = None) -> Any: ...


def _dtype(dtype, default):
    """The dtype of a call: its own, else the initializer's, else the configured float."""
    dtype = default if dtype is None else dtype
    dtype = dtypes.default_float_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "initializer")
    return dtype


def _number(value, dtype):
    """A Python number as a scalar of a dtype; arrays are converted."""
    return np.asarray(value).astype(dtype)[()] if np.isscalar(value) else jnp.asarray(value, dtype)


def zeros(key, shape, dtype=None, out_sharding=None):
    """Zeros; the key is not used."""
    return jnp.zeros(shape, _dtype(dtype, None))


def ones(key, shape, dtype=None, out_sharding=None):
    """Ones; the key is not used."""
    return jnp.ones(shape, _dtype(dtype, None))


def constant(value, dtype=None) -> Initializer:
    """An initializer that fills with ``value``.

    Example:
      >>> from velax import nn, random
      >>> nn.initializers.constant(-7)(random.key(42), (2,))
      Array([-7., -7.], dtype=float32)
    """

    def init(key, shape, dtype=dtype, out_sharding=None):
        return jnp.full(shape, value, dtype=_dtype(dtype, None))

    return api_boundary(init)


def uniform(scale=1e-2, dtype=None) -> Initializer:
    """An initializer that draws from ``[0, scale)``."""

    def init(key, shape, dtype=dtype, out_sharding=None):
        dtype = _dtype(dtype, None)
        return random.uniform(key, shape, dtype) * _number(scale, dtype)

    return api_boundary(init)


def normal(stddev=1e-2, dtype=None) -> Initializer:
    """An initializer that draws from the normal distribution of mean 0.

    Args:
      stddev: standard deviation.
      dtype: dtype of results, unless given in the call.

    Example:
      >>> from velax import nn, random
      >>> nn.initializers.normal(5.0)(random.key(42), (2, 3)).shape
      (2, 3)
    """

    def init(key, shape, dtype=dtype, out_sharding=None):
        dtype = _dtype(dtype, None)
        return random.normal(key, shape, dtype) * _number(stddev, dtype)

    return api_boundary(init)


def truncated_normal(stddev=1e-2, dtype=None, lower=-2.0, upper=2.0) -> Initializer:
    """An initializer that draws from the normal distribution cut off at ``lower`` and ``upper``, then scaled
    by ``stddev``.
    """

    def init(key, shape, dtype=dtype, out_sharding=None):
        dtype = _dtype(dtype, None)
        return random.truncated_normal(key, lower, upper, shape, dtype) * _number(stddev, dtype)

    return api_boundary(init)


# -- variance scaling ----------------------------------------------------------------------------


def _size(shape, axes) -> int:
    return shape[axes] if isinstance(axes, int) else math.prod(shape[i] for i in axes)


def _fans(shape, in_axis, out_axis, batch_axis) -> tuple[float, float]:
    """How many inputs and outputs a unit has."""
    if len(shape) <= 1 and in_axis == -2:
        raise ValueError(
            f"Can't compute input and output sizes of a {len(shape)}-dimensional weights tensor with default "
            "in_axis. Must be at least 2D or specify in_axis "
            "explicitly."
        )
    inputs, outputs, batch = (_size(shape, axes) for axes in (in_axis, out_axis, batch_axis))
    field = math.prod(shape) / inputs / outputs / batch
    return inputs * field, outputs * field


def _complex_direction(key, shape, real_dtype, dtype):
    """Complex numbers of magnitude 1."""
    theta = (2 * np.pi * random.uniform(key, shape, real_dtype)).astype(dtype)
    return jnp.exp(_number(1j, dtype) * theta)


def _complex_uniform(key, shape, dtype):
    """Uniform in the unit disk."""
    key_r, key_theta = random.split(key)
    real_dtype = dtypes.real_dtype(dtype)
    r = jnp.sqrt(random.uniform(key_r, shape, real_dtype)).astype(dtype)
    return r * _complex_direction(key_theta, shape, real_dtype, dtype)


def _complex_truncated_normal(key, upper, shape, dtype):
    """Normal in the complex plane, magnitudes below ``upper``."""
    key_r, key_theta = random.split(key)
    real_dtype = dtypes.real_dtype(dtype)
    t = (_number(1 - np.exp(-(upper**2)), real_dtype) * random.uniform(key_r, shape, real_dtype)).astype(dtype)
    r = jnp.sqrt(-jnp.log(1 - t))
    return r * _complex_direction(key_theta, shape, real_dtype, dtype)


def variance_scaling(
    scale,
    mode: Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"],
    distribution: Literal["truncated_normal", "normal", "uniform"],
    in_axis: int | Sequence[int] = -2,
    out_axis: int | Sequence[int] = -1,
    batch_axis: int | Sequence[int] = (),
    dtype=None,
) -> Initializer:
    """An initializer whose variance adapts to the shape: ``scale / n``.

    Args:
      scale: a positive number.
      mode: what ``n`` is: "fan_in", "fan_out", "fan_avg" (their mean) or "fan_geo_avg" (their
        geometric mean).
      distribution: "truncated_normal", "normal" or "uniform".
      in_axis, out_axis, batch_axis: axes of inputs, of outputs, and those that are ignored; the
        others are the receptive field.
      dtype: dtype of results, unless given in the call.

    Returns:
      An initializer. It raises `ValueError` for shapes of fewer than two axes, and unknown modes and distributions.

    Example:
      >>> from velax import nn, random
      >>> init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
      >>> init(random.key(0), (3, 4)).shape
      (3, 4)
    """

    def init(key, shape, dtype=dtype, out_sharding=None):
        dtype = _dtype(dtype, None)
        shape = tuple(shape)
        fan_in, fan_out = _fans(shape, in_axis, out_axis, batch_axis)
        denominators = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": (fan_in * fan_out) ** 0.5,
        }
        if mode not in denominators:
            raise ValueError(f"invalid mode for variance scaling initializer: {mode}")
        is_complex = dtypes.is_complex(dtype)
        real_dtype = dtypes.real_dtype(dtype)
        variance = _number(scale / denominators[mode], real_dtype)
        root = lambda x: _number(jnp.sqrt(x) if hasattr(x, "aval") else np.sqrt(x), real_dtype).astype(dtype)
        if distribution == "truncated_normal":
            # the standard deviation of the truncated distribution, by which it is rescaled
            if is_complex:
                return _complex_truncated_normal(key, 2, shape, dtype) * (
                    root(variance) / _number(0.95311164380491208, dtype)
                )
            return random.truncated_normal(key, -2, 2, shape, dtype) * (
                root(variance) / _number(0.87962566103423978, dtype)
            )
        if distribution == "normal":
            return random.normal(key, shape, dtype) * root(variance)
        if distribution == "uniform":
            if is_complex:
                return _complex_uniform(key, shape, dtype) * root(_number(2, real_dtype) * variance)
            return random.uniform(key, shape, dtype, -1) * root(_number(3, real_dtype) * variance)
        raise ValueError(f"invalid distribution for variance scaling initializer: {distribution}")

    return api_boundary(init)


def _family(name: str, scale: float, mode: str, distribution: str, summary: str):
    def make(
        in_axis: int | Sequence[int] = -2,
        out_axis: int | Sequence[int] = -1,
        batch_axis: int | Sequence[int] = (),
        dtype=None,
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""{summary}

    Args:
      in_axis, out_axis, batch_axis: axes of inputs, of outputs, and those that are ignored, as in `variance_scaling`.
      dtype: dtype of results, unless given in the call.

    Returns:
      ``variance_scaling({scale}, "{mode}", "{distribution}")``.
    """
    return make


glorot_uniform = _family(
    "glorot_uniform", 1.0, "fan_avg", "uniform", "Glorot and Bengio's uniform initializer (also called Xavier's)."
)
glorot_normal = _family(
    "glorot_normal",
    1.0,
    "fan_avg",
    "truncated_normal",
    "Glorot and Bengio's normal initializer (also called Xavier's).",
)
lecun_uniform = _family("lecun_uniform", 1.0, "fan_in", "uniform", "LeCun's uniform initializer.")
lecun_normal = _family("lecun_normal", 1.0, "fan_in", "truncated_normal", "LeCun's normal initializer.")
he_uniform = _family("he_uniform", 2.0, "fan_in", "uniform", "He's uniform initializer (also called Kaiming's).")
he_normal = _family("he_normal", 2.0, "fan_in", "truncated_normal", "He's normal initializer (also called Kaiming's).")
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


# -- orthogonal matrices -------------------------------------------------------------------------


def _qr(matrix):
    linalg = getattr(jnp, "linalg", None)
    if linalg is None or not hasattr(linalg, "qr"):
        raise NotImplementedError(
            "orthogonal initializers need the QR decomposition, which is not implemented; use variance_scaling instead"
        )
    return linalg.qr(matrix)


def orthogonal(scale=1.0, column_axis: int = -1, dtype=None) -> Initializer:
    """An initializer of uniformly distributed orthogonal matrices.

    Args:
      scale: factor of the matrices.
      column_axis: the axis of the columns; the others together are the rows.
      dtype: dtype of results, unless given in the call.
    """

    def init(key, shape, dtype=dtype, out_sharding=None):
        dtype = _dtype(dtype, None)
        if len(shape) < 2:
            raise ValueError(f"orthogonal initializer requires at least a 2D shape, got {tuple(shape)}")
        rows, columns = math.prod(shape) // shape[column_axis], shape[column_axis]
        tall = (rows, columns) if rows > columns else (columns, rows)
        q, r = _qr(random.normal(key, tall, dtype))
        diagonal = jnp.diag(r)
        q = q * (diagonal / jnp.abs(diagonal))[None, :]
        if rows < columns:
            q = jnp.conj(q.T)
        others = tuple(n for i, n in enumerate(shape) if i != column_axis % len(shape))
        return _number(scale, dtype) * jnp.moveaxis(q.reshape((*others, columns)), -1, column_axis)

    return api_boundary(init)


def delta_orthogonal(scale=1.0, column_axis: int = -1, dtype=None) -> Initializer:
    """An initializer of convolution kernels that are orthogonal at their centre and zero elsewhere (Xiao et al., 2018).

    Args:
      scale: factor of the matrices.
      column_axis: the axis of the columns of the orthogonal matrix.
      dtype: dtype of results, unless given in the call.
    """

    def init(key, shape, dtype=dtype, out_sharding=None):
        dtype = _dtype(dtype, None)
        if len(shape) not in (3, 4, 5):
            raise ValueError(f"Delta orthogonal initializer requires a 3D, 4D or 5D shape, got {tuple(shape)}.")
        if shape[-1] < shape[-2]:
            raise ValueError(
                f"`fan_in` must be less or equal than `fan_out` in the delta orthogonal initializer, got {tuple(shape)}."
            )
        matrix = orthogonal(scale, column_axis, dtype)(key, shape[-2:])
        centre = tuple((n - 1) // 2 for n in shape[:-2])
        out = jnp.zeros(shape, get_aval(matrix).dtype)
        return out.at[(*centre, ...)].set(matrix)

    return api_boundary(init)
