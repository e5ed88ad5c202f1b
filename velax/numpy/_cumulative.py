"""Cumulative sums and products."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._reductions import integer_sum_dtype
from velax.numpy._shaping import axis_index, no_out, ravel
from velax.numpy._util import check_arraylike, compiled, to_array

__all__ = [
    "cumprod", "cumsum", "cumulative_prod", "cumulative_sum",
]  # fmt: skip


# -- cumulative ----------------------------------------------------------------------------------


def _cumulate(name, operation, a, axis, dtype):
    check_arraylike(name, a)
    own = get_aval(a).dtype
    if axis is None or (
        not get_aval(a).ndim and get_aval(a).weak_type
    ):  # a Python number has one element along any axis
        a, axis = ravel(a), axis or 0
    axis = axis_index(axis, get_aval(a).ndim)
    if dtype is None:
        result = integer_sum_dtype(own) if own == np.bool_ else own
    else:
        result = dtypes.check_user_dtype_supported(dtype, name)
    if result == np.bool_:
        # truth values accumulate as integers, then count as truth
        truth = convert_type(convert_type(a, result, False), np.dtype(np.int32), False)
        return convert_type(operation(truth, axis), result, False)
    return operation(convert_type(a, result, False), axis)


@compiled(static=("axis", "dtype"))
def cumsum(a, axis=None, dtype=None, out=None):
    """Cumulative sum along an axis.

    Args:
      a: an array.
      axis: the axis; None: flatten first.
      dtype: the dtype of the result; None: that of ``a``, the default integer for booleans.
      out: not supported.

    Returns:
      An array of the shape of ``a``, or of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.cumsum(jnp.array([1, 2, 3]))
      Array([1, 3, 6], dtype=int32)
    """
    no_out("cumsum", out)
    return _cumulate("cumsum", lax.cumsum, a, axis, dtype)


@compiled(static=("axis", "dtype"))
def cumprod(a, axis=None, dtype=None, out=None):
    """Cumulative product along an axis; arguments as `cumsum`.

    Args:
      a: an array.
      axis, dtype: as in `cumsum`.
      out: not supported.

    Returns:
      An array of the shape of ``a``, or of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.cumprod(jnp.array([1, 2, 3]))
      Array([1, 2, 6], dtype=int32)
    """
    no_out("cumprod", out)
    return _cumulate("cumprod", lax.cumprod, a, axis, dtype)


def cumulative_sum(x, /, *, axis: int | None = None, dtype=None, include_initial: bool = False):
    """`cumsum` as the array API standard has it.

    Args:
      x: an array.
      axis: the axis; None for one-dimensional arrays only.
      dtype: the dtype of the result, or None.
      include_initial: whether the result starts with 0, being longer by one.

    Returns:
      An array of the shape of ``x``, or longer by one.

    Raises:
      ValueError: for rank 0, or if ``axis`` is missing.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.cumulative_sum(jnp.array([1, 2, 3]), include_initial=True)
      Array([0, 1, 3, 6], dtype=int32)
    """
    check_arraylike("cumulative_sum", x)
    if dtype is None:  # narrow integers are summed in the default one, unlike by `cumsum`
        dtype = integer_sum_dtype(get_aval(to_array(x)).dtype)
    return _cumulative("cumulative_sum", cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(x, /, *, axis: int | None = None, dtype=None, include_initial: bool = False):
    """`cumprod` as the array API standard has it; as `cumulative_sum`, starting with 1.

    Args:
      x: an array.
      axis: the axis; None for arrays of one.
      dtype: the dtype of the result, or None.
      include_initial: whether to begin with 1.

    Returns:
      An array of the shape of ``x``, or longer by one.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.cumulative_prod(jnp.array([1, 2, 3]), include_initial=True)
      Array([1, 1, 2, 6], dtype=int32)
    """
    return _cumulative("cumulative_prod", cumprod, 1, x, axis, dtype, include_initial)


def _cumulative(name, operation, first, x, axis, dtype, include_initial):
    check_arraylike(name, x)
    x = to_array(x)
    ndim = get_aval(x).ndim
    if ndim == 0:
        raise ValueError(
            f"The input must be non-scalar to take a cumulative {'sum' if first == 0 else 'product'}, however a "
            "scalar value or scalar array was given."
        )
    if axis is None:
        if ndim > 1:
            raise ValueError(
                f"The input array has rank {ndim}, however axis was not set to an explicit value. The axis argument "
                "is only optional for one-dimensional arrays."
            )
        axis = 0
    axis = axis_index(axis, ndim)
    out = operation(x, axis=axis, dtype=dtype)
    if include_initial:
        shape = list(get_aval(out).shape)
        shape[axis] = 1
        out = lax.concatenate([lax.full(shape, first, get_aval(out).dtype), out], axis)
    return out
