"""Arguments of samplers: shapes, dtypes and parameters that broadcast to the shape of the result."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import get_aval
from velax.lax._structural import canonical_shape, convert_type
from velax.random._keys import check_key, check_out_sharding
from velax.random._primitives import random_split_p

__all__ = [
    "broadcast_shapes",
    "check_parameters",
    "constant",
    "float_dtype",
    "fresh_keys",
    "result_shape",
    "shape_of",
    "to_rank",
    "widen",
]


def prepare(name: str, key, out_sharding=None):
    """The typed key of a sampler's call."""
    check_out_sharding(name, out_sharding)
    return check_key(name, key)[0]


def float_dtype(name: str, dtype, like: str = "a float"):
    """The float dtype of the result, by default the configured one."""
    dtype = dtypes.default_float_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, name)
    accepted = dtypes.is_floating(dtype) or (like != "a float" and dtypes.is_complex(dtype))
    if not accepted:
        raise ValueError(f"dtype argument to `{name}` must be {like} dtype, got {dtype}")
    return dtype


def int_dtype(name: str, dtype):
    return dtypes.default_int_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, name)


def shape_of(x) -> tuple[int, ...]:
    return get_aval(x).shape if isinstance(x, Array) else np.shape(x)


def broadcast_shapes(*shapes) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"Incompatible shapes for broadcasting: shapes={list(shapes)}") from None


def check_parameters(name: str, shape, *parameter_shapes) -> None:
    """ValueError unless parameters of these shapes broadcast to the result's shape."""
    found = broadcast_shapes(shape, *parameter_shapes)
    if found != tuple(shape):
        raise ValueError(
            f"{name} parameter shapes must be broadcast-compatible with shape argument, and the result of "
            "broadcasting the shapes must equal the shape "
            f"argument, but got result {found} for shape argument {shape}."
        )


def result_shape(name: str, shape, *parameters) -> tuple[int, ...]:
    """The shape argument, checked against the parameters; without one, their common shape."""
    shapes = [shape_of(p) for p in parameters]
    if shape is None:
        return broadcast_shapes(*shapes)
    shape = canonical_shape(shape, name)
    check_parameters(name, shape, *shapes)
    return shape


def to_rank(x, rank: int):
    """``x`` with leading axes of size 1 up to ``rank``."""
    shape = get_aval(x).shape
    missing = rank - len(shape)
    return x if missing <= 0 else lax.broadcast_in_dim(x, (*(1,) * missing, *shape), range(missing, rank))


def widen(x, shape):
    """``x`` broadcast to ``shape``, aligned at the last axis."""
    have = get_aval(x).shape
    return x if have == tuple(shape) else lax.broadcast_in_dim(x, shape, range(len(shape) - len(have), len(shape)))


def constant(dtype, value):
    """A scalar of a dtype, as an operand of `velax.lax` functions."""
    return np.asarray(value).astype(dtype)[()] if dtypes.is_complex(dtype) else dtype.type(value)


def parameter(x, dtype, shape=None):
    """A parameter in the sampler's dtype, of rank 0 or of the rank of ``shape``."""
    x = convert_type(x, dtype)
    return x if shape is None or not get_aval(x).shape else to_rank(x, len(shape))


def fresh_keys(key, n: int = 2):
    """``n`` keys derived from a typed key."""
    keys = random_split_p.bind(key, shape=(n,))
    return [lax.index_in_dim(keys, i, 0, keepdims=False) for i in range(n)]
