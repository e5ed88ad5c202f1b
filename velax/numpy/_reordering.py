"""The elements of arrays in another order: reversed, rotated, rolled."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._index_parts import broadcast_to as spread
from velax.numpy._creation import asarray
from velax.numpy._indexing import modulo
from velax.numpy._shaping import _reshape, axis_index, axis_tuple, swapaxes
from velax.numpy._util import check_arraylike, compiled, to_array

__all__ = [
    "flip", "fliplr", "flipud", "roll", "rot90",
]  # fmt: skip


# -- order of elements ---------------------------------------------------------------------------


def flip(m, axis: int | Sequence[int] | None = None):
    """Reverse the order of elements along axes.

    Args:
      m: an array.
      axis: the axes; None: all.

    Returns:
      An array of the shape of ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.flip(jnp.array([1, 2, 3]))
      Array([3, 2, 1], dtype=int32)
    """
    check_arraylike("flip", m)
    m = to_array(m)
    ndim = get_aval(m).ndim
    return _flip(m, tuple(range(ndim)) if axis is None else axis_tuple(axis, ndim))


@compiled(static=("axes",))
def _flip(m, axes):
    return lax.rev(m, axes)


def fliplr(m):
    """`flip` along axis 1.

    Args:
      m: an array of at least two axes.

    Returns:
      An array of the shape of ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fliplr(jnp.array([[1, 2], [3, 4]]))
      Array([[2, 1],
             [4, 3]], dtype=int32)
    """
    check_arraylike("fliplr", m)
    return flip(m, 1)


def flipud(m):
    """`flip` along axis 0.

    Args:
      m: an array of at least one axis.

    Returns:
      An array of the shape of ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.flipud(jnp.array([[1, 2], [3, 4]]))
      Array([[3, 4],
             [1, 2]], dtype=int32)
    """
    check_arraylike("flipud", m)
    return flip(m, 0)


@compiled(static=("k", "axes"))
def rot90(m, k: int = 1, axes: tuple[int, int] = (0, 1)):
    """Rotate by 90 degrees, ``k`` times, in the plane of two axes, from the first towards the second.

    Args:
      m: an array of at least two axes.
      k: how often; negative turns the other way.
      axes: two different axes.

    Returns:
      An array.

    Raises:
      ValueError: if the axes are equal.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.rot90(jnp.array([[1, 2], [3, 4]]))
      Array([[2, 4],
             [1, 3]], dtype=int32)
    """
    check_arraylike("rot90", m)
    if len(axes) != 2:
        raise ValueError(f"len(axes) must be 2 in rot90, got axes={axes}")
    ndim = get_aval(m).ndim
    i, j = (axis_index(a, ndim) for a in axes)
    if i == j:
        raise ValueError(f"Axes must be different in rot90, got axes={axes} for an array with {ndim} dimensions")
    if k % 4 == 0:
        return m
    if k % 4 == 2:
        return lax.rev(m, (i, j))
    if k % 4 == 1:
        return swapaxes(lax.rev(m, (j,)), i, j)
    return lax.rev(swapaxes(m, i, j), (j,))


def roll(a, shift, axis: int | Sequence[int] | None = None):
    """Move the elements cyclically along axes.

    Args:
      a: an array.
      shift: by how much, towards higher indices; one for each axis. May be traced.
      axis: the axes; None: roll all elements in row-major order.

    Returns:
      An array of the shape of ``a``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.roll(jnp.arange(4), 1)
      Array([3, 0, 1, 2], dtype=int32)
    """
    check_arraylike("roll", a)
    a = to_array(a)
    if axis is None:
        shape = get_aval(a).shape
        return _reshape(roll(_reshape(a, (-1,) if get_aval(a).size else (0,)), shift, 0), shape)
    axes = (axis,) if not isinstance(axis, (tuple, list, np.ndarray)) else tuple(axis)
    axes = tuple(axis_index(i, get_aval(a).ndim) for i in axes)
    if isinstance(shift, (int, np.integer, np.ndarray, tuple, list)):
        try:
            shifts = tuple(operator.index(s) for s in np.ravel(shift).tolist())
        except TypeError:
            pass
        else:
            n = max(len(shifts), len(axes))
            if {len(shifts), len(axes)} <= {1, n}:
                return _roll_static(
                    a, shifts * (n // len(shifts)) if shifts else (), axes * (n // len(axes)) if axes else ()
                )
            raise ValueError(
                f"shift and axis of jnp.roll must have equal lengths or length one, got {shift=} and {axis=}"
            )
    return _roll_dynamic(a, asarray(shift), axes)


@compiled(static=("shift", "axis"))
def _roll_static(a, shift, axis):
    for s, d in zip(shift, axis, strict=True):
        n = get_aval(a).shape[d]
        s = s % n if n else 0
        if s:
            a = lax.concatenate([lax.slice_in_dim(a, n - s, n, axis=d), lax.slice_in_dim(a, 0, n - s, axis=d)], d)
    return a


@compiled(static=("axis",))
def _roll_dynamic(a, shift, axis):
    if not dtypes.is_integer(get_aval(shift).dtype):
        raise TypeError(f"the shift of jnp.roll must be of an integer dtype, got {get_aval(shift).dtype}")
    if get_aval(shift).ndim > 1:
        raise ValueError(
            f"the shift of jnp.roll must be a scalar or one-dimensional, got shape {get_aval(shift).shape}"
        )
    count = max(len(axis), get_aval(shift).size)
    shift = spread(shift, (count,))
    for i, d in enumerate(axis * (count // len(axis))):
        n = get_aval(a).shape[d]
        if n < 2:
            continue
        by = modulo(lax.index_in_dim(shift, i, keepdims=False), n)
        a = lax.dynamic_slice_in_dim(lax.concatenate([a, a], d), lax.sub(get_aval(by).dtype.type(n), by), n, d)
    return a
