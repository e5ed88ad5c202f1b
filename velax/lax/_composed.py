"""Operations made of others: stacking, tiling, broadcasting to a given type, and the largest or smallest elements."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._arithmetic import neg
from velax.lax._slicing import concatenate, index_in_dim
from velax.lax._sorting import top_k
from velax.lax._structural import broadcast_in_dim, expand_dims, full, reshape, transpose
from velax.lax._values import core_args

__all__ = [
    "approx_max_k", "approx_min_k", "broadcast_like", "broadcast_to_rank", "empty", "padtype_to_pads", "stack", "tile",
    "unstack",
]  # fmt: skip


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return operator.index(axis) % ndim


def broadcast_like(arr, like_arr):
    """``arr`` broadcast, as NumPy does it, to the shape of ``like_arr``.

    Args:
      arr, like_arr: arrays; the shape of the first broadcasts to that of the second.

    Returns:
      An array of the shape of ``like_arr`` and the dtype of ``arr``.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import lax
      >>> lax.broadcast_like(jnp.array([1, 2]), jnp.zeros((2, 2)))
      Array([[1, 2],
             [1, 2]], dtype=int32)
    """
    (arr,) = core_args("broadcast_like", arr)
    (like_arr,) = core_args("broadcast_like", like_arr)
    shape = get_aval(like_arr).shape
    return broadcast_in_dim(arr, shape, range(len(shape) - get_aval(arr).ndim, len(shape)))


def broadcast_to_rank(x, rank: int):
    """``x`` with leading axes of size 1 up to a rank.

    Args:
      x: an array.
      rank: the least number of axes; ``x`` is returned as it is if it has as many.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import lax
      >>> lax.broadcast_to_rank(jnp.arange(2), 3).shape
      (1, 1, 2)
    """
    return expand_dims(x, range(max(rank - get_aval(x).ndim, 0)))


def empty(shape, dtype, *, out_sharding=None):
    """An array whose elements do not matter: zeros, since memory is never handed out unwritten.

    Args:
      shape: a size or a sequence of sizes.
      dtype: the dtype.
      out_sharding: placement; None, as there is one device.
    """
    if out_sharding is not None:
        raise NotImplementedError("lax.empty: out_sharding is not available yet; there is one device")
    return full((shape,) if hasattr(shape, "__index__") else shape, 0, dtype)


def stack(operands: Sequence, axis: int = 0):
    """Arrays of one shape and dtype along a new axis.

    Args:
      operands: the arrays.
      axis: where the new axis is in the result.

    Raises:
      ValueError: if there are none, or their shapes differ.
      TypeError: if their dtypes differ.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import lax
      >>> lax.stack([jnp.array([1, 2]), jnp.array([3, 4])], axis=1)
      Array([[1, 3],
             [2, 4]], dtype=int32)
    """
    if not len(operands):
        raise ValueError("lax.stack needs at least one array")
    operands = core_args("stack", *operands)
    avals = [get_aval(x) for x in operands]
    if len({a.shape for a in avals}) > 1:
        raise ValueError(f"All input arrays must have the same shape. Got {', '.join(str(a.shape) for a in avals)}.")
    if len({a.dtype for a in avals}) > 1:
        found = ", ".join(str(a.dtype) for a in avals)
        raise TypeError(f"lax.stack requires arguments to have the same dtypes, got {found}; jnp.stack promotes them")
    axis = _axis(axis, avals[0].ndim + 1)
    return concatenate([expand_dims(x, (axis,)) for x in operands], axis)


def unstack(x, axis: int = 0) -> tuple:
    """The slices of an array along an axis, without it.

    Args:
      x: an array.
      axis: the axis.

    Returns:
      A tuple of as many arrays as the axis has elements.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import lax
      >>> [float(s) for s in lax.unstack(jnp.array([1.0, 2.0]))]
      [1.0, 2.0]
    """
    (x,) = core_args("unstack", x)
    aval = get_aval(x)
    axis = _axis(axis, aval.ndim)
    return tuple(index_in_dim(x, i, axis, keepdims=False) for i in range(aval.shape[axis]))


def tile(operand, reps: Sequence[int]):
    """An array repeated along its axes.

    Args:
      operand: the array.
      reps: how often, for each axis.

    Raises:
      TypeError: if there is not one number for each axis.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import lax
      >>> lax.tile(jnp.array([1, 2]), (2,))
      Array([1, 2, 1, 2], dtype=int32)
    """
    (operand,) = core_args("tile", operand)
    shape = get_aval(operand).shape
    if len(reps) != len(shape):
        raise TypeError(
            f"reps length must be equal to the ndim of x, got len(reps)={len(reps)} and x.ndim={len(shape)}."
        )
    if any(r < 0 for r in reps):
        raise ValueError(f"lax.tile: reps must not be negative, got {tuple(reps)}")
    split = [n for pair in zip(reps, shape, strict=True) for n in pair]
    spread = broadcast_in_dim(operand, split, range(1, len(split), 2))
    return reshape(spread, [r * n for r, n in zip(reps, shape, strict=True)])


def approx_max_k(
    operand,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
):
    """The ``k`` largest elements along an axis and where they are; on a CPU exactly these, so any recall is met.

    Args:
      operand: an array of floats.
      k: how many.
      reduction_dimension: the axis.
      recall_target, reduction_input_size_override: what an approximation could make use of.
      aggregate_to_topk: if False, all elements of the axis are returned, in the same order.

    Returns:
      A list of the elements, in descending order, and of their indices.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import lax
      >>> lax.approx_max_k(jnp.array([1.0, 3.0, 2.0]), 2)[1].tolist()
      [1, 2]
    """
    (operand,) = core_args("approx_max_k", operand)
    aval = get_aval(operand)
    if not dtypes.is_floating(aval.dtype):
        raise ValueError(f"operand must be a floating type, got {aval.dtype}")
    axis = _axis(reduction_dimension, aval.ndim)
    if k > aval.shape[axis]:
        raise ValueError(f"k must be smaller than the size of reduction_dim {aval.shape[axis]}, got {k}")
    order = [*(d for d in range(aval.ndim) if d != axis), axis]
    back = [order.index(d) for d in range(aval.ndim)]
    found = top_k(transpose(operand, order), k if aggregate_to_topk else aval.shape[axis])
    return [transpose(x, back) for x in found]


def approx_min_k(
    operand,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
):
    """The ``k`` smallest elements along an axis and where they are; arguments and result as of `approx_max_k`."""
    (operand,) = core_args("approx_min_k", operand)
    values, indices = approx_max_k(
        neg(operand), k, reduction_dimension, recall_target, reduction_input_size_override, aggregate_to_topk
    )
    return [neg(values), indices]


def padtype_to_pads(in_shape, window_shape, window_strides, padding: str) -> list:
    """The padding before and after each axis that a name of a padding stands for.

    Args:
      in_shape: sizes of what a window moves over.
      window_shape: sizes of the window.
      window_strides: its steps.
      padding: "VALID" (none), "SAME" or "SAME_LOWER" (so that there are ``size / stride`` positions, rounded up,
        an odd element being padded at the end or at the beginning).

    Example:
      >>> from velax import lax
      >>> lax.padtype_to_pads((10, 8), (3, 3), (2, 1), "SAME")
      [(0, 1), (1, 1)]
    """
    if not isinstance(padding, str):
        raise TypeError(
            f"padtype_to_pads takes the name of a padding, 'VALID', 'SAME' or 'SAME_LOWER', got {padding!r}"
        )
    name = padding.upper()
    if name == "VALID":
        return [(0, 0)] * len(in_shape)
    if name not in ("SAME", "SAME_LOWER"):
        raise RuntimeError(f"Unrecognized padding type: expected 'VALID', 'SAME', or 'SAME_LOWER', got {padding}.")
    pads = []
    for size, window, stride in zip(in_shape, window_shape, window_strides, strict=True):
        positions = -(-size // stride)
        total = max((positions - 1) * stride + window - size, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if name == "SAME" else (more, less))
    return pads
