"""Gathers in common forms."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._arithmetic import add, rem
from velax.lax._comparison import lt
from velax.lax._gather import gather, gather_p
from velax.lax._indexing import GatherDimensionNumbers, GatherScatterMode
from velax.lax._slicing import concatenate
from velax.lax._structural import broadcast_in_dim, expand_dims, select
from velax.lax._values import core_args

__all__ = ["index_take"]


def take_along(x, indices, axis: int):
    """``x`` at distinct indices along an axis; the other axes run along."""
    shape = get_aval(indices).shape
    others = tuple(d for d in range(len(shape)) if d != axis)
    numbers = GatherDimensionNumbers((), (axis,), (axis,), others, others)
    vectors = broadcast_in_dim(indices, (*shape, 1), tuple(range(len(shape))))
    sizes = tuple(min(n, 1) for n in get_aval(x).shape)
    return gather_p.bind(
        x, vectors, dimension_numbers=numbers, slice_sizes=sizes, indices_are_sorted=False, unique_indices=True,
        mode=GatherScatterMode.PROMISE_IN_BOUNDS, fill_value=None,
    )  # fmt: skip


def index_take(src, idxs: Sequence, axes: Sequence[int]):
    """The elements of an array at indices along some axes.

    Args:
      src: an array.
      idxs: for each of the axes a 1D array of integers, all of one length n; they count modulo the axis size.
      axes: distinct axes, increasing.

    Returns:
      An array of shape (n, the other axes of ``src``): element i is ``src`` at the i-th index of every array.

    Raises:
      TypeError: if indices and axes do not match, or indices are no 1D integer arrays of one length.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.index_take(jnp.array([10, 20, 30]), (jnp.array([-1, 0]),), (0,))
      Array([30, 10], dtype=int32)
    """
    (src,) = core_args("index_take", src)
    idxs = core_args("index_take", *idxs)
    shape = get_aval(src).shape
    axes = tuple(operator.index(a) for a in axes)
    avals = [get_aval(i) for i in idxs]
    if len(idxs) != len(axes) or not axes:
        raise TypeError(f"index_take: got {len(idxs)} index arrays for the axes {axes}; give one for each axis")
    if any(a.ndim != 1 or a.shape != avals[0].shape or not dtypes.is_integer(a.dtype) for a in avals):
        raise TypeError(
            f"index_take: indices must be 1D integer arrays of one length, got {', '.join(map(str, avals))}"
        )
    columns = []
    for index, aval, axis in zip(idxs, avals, axes, strict=True):
        if not 0 <= axis < len(shape):
            raise TypeError(
                f"Invalid collapsed_slice_dims set in gather op; valid range is [0, {len(shape)}); got: {axis}."
            )
        size = aval.dtype.type(shape[axis])
        index = rem(index, broadcast_in_dim(size, aval.shape, ()))
        negative = lt(index, broadcast_in_dim(aval.dtype.type(0), aval.shape, ()))
        columns.append(expand_dims(select(negative, add(index, size), index), (1,)))
    numbers = GatherDimensionNumbers(tuple(range(1, 1 + len(shape) - len(axes))), axes, axes)
    sizes = tuple(1 if d in axes else n for d, n in enumerate(shape))
    return gather(src, concatenate(columns, 1), numbers, sizes, mode=GatherScatterMode.PROMISE_IN_BOUNDS)
