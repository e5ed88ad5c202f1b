"""Slices at static starts, padding, concatenation and splitting."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from velax._lang.array import ArrayImpl
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import UndefinedPrimal, Zero, instantiate_zeros, zeros_like_aval
from velax.lax._arithmetic import sub
from velax.lax._reductions import reduce_sum
from velax.lax._rules import linear_jvp
from velax.lax._structural import broadcast_in_dim, canonical_axis, full, select, squeeze
from velax.lax._values import core_args

__all__ = [
    "concatenate", "concatenate_p", "index_in_dim", "pad", "pad_p", "slice", "slice_in_dim", "slice_p", "split",
    "split_p",
]  # fmt: skip


def integers(values, what: str) -> tuple[int, ...]:
    """A sequence of Python integers."""
    try:
        return tuple(operator.index(v) for v in values)
    except TypeError:
        types = tuple(type(v) for v in values)
        raise TypeError(f"{what} must have every element be an integer type, got {types}.") from None


def mapped_size(args, dims) -> int:
    """The number of examples of a batch: the size of a mapped operand along its mapped axis."""
    return next(get_aval(x).shape[d] for x, d in zip(args, dims, strict=True) if d is not None)


# -- slice ---------------------------------------------------------------------------------------


def _slice_type(x, *, start_indices, limit_indices, strides):
    shape = x.shape
    if len(start_indices) != len(shape):
        raise TypeError(
            "slice start_indices must have length equal to the number of dimensions of the operand, got indices "
            f"{start_indices} "
            f"for operand shape {shape}."
        )
    if len(start_indices) != len(limit_indices):
        raise TypeError(
            f"slice limit_indices must have the same length as start_indices, got start_indices {start_indices} "
            f"and limit_indices {limit_indices}."
        )
    if any(b > n for b, n in zip(limit_indices, shape, strict=True)):
        raise TypeError(
            f"slice limit_indices must be less than or equal to operand shape, got limit_indices {limit_indices} "
            f"for operand shape {shape}."
        )
    if any(a < 0 for a in start_indices):
        raise TypeError(f"slice start_indices must have every element be nonnegative, got {start_indices}.")
    if any(b < 0 for b in limit_indices):
        raise TypeError(f"slice limit_indices must have every element be nonnegative, got {limit_indices}.")
    if any(b < a for a, b in zip(start_indices, limit_indices, strict=True)):
        raise TypeError(
            "slice limit_indices must be greater than or equal to start_indices, got start_indices "
            f"{start_indices} and limit_indices {limit_indices}."
        )
    if strides is None:
        return shaped_array(
            tuple(b - a for a, b in zip(start_indices, limit_indices, strict=True)), x.dtype, x.weak_type
        )
    if len(strides) != len(shape):
        raise TypeError(
            "slice strides must have length equal to the number of dimensions of the operand, got strides "
            f"{strides} for operand shape {shape}."
        )
    if any(s <= 0 for s in strides):
        raise TypeError(f"slice strides must be positive, got {strides}. Reverse with lax.rev.")
    sizes = tuple(-(-(b - a) // s) for a, b, s in zip(start_indices, limit_indices, strides, strict=True))
    return shaped_array(sizes, x.dtype, x.weak_type)


def _slice_transpose(ct, x, *, start_indices, limit_indices, strides):
    if type(ct) is Zero:
        return [Zero(x.aval)]
    shape, taken = x.aval.shape, get_aval(ct).shape
    config = []
    for n, m, start, stride in zip(shape, taken, start_indices, strides or (1,) * len(shape), strict=True):
        end = start + (m - 1) * stride + 1 if m else start  # one past the last element taken
        config.append((start, n - end, stride - 1))
    return [pad(ct, _scalar_zero(ct), config)]


def _scalar_zero(x):
    """A rank-0 zero of the type of ``x``."""
    return zeros_like_aval(shaped_array((), get_aval(x).dtype))


def _slice_batch(args, dims, *, start_indices, limit_indices, strides):
    (x,), (d,) = args, dims
    insert = lambda values, new: (*values[:d], new, *values[d:])
    out = slice_p.bind(
        x,
        start_indices=insert(start_indices, 0),
        limit_indices=insert(limit_indices, get_aval(x).shape[d]),
        strides=None if strides is None else insert(strides, 1),
    )
    return out, d


slice_p = define(
    "slice",
    abstract_eval=_slice_type,
    lower=lambda ctx, x, *, start_indices, limit_indices, strides: ctx.builder.slice(
        x, start_indices, limit_indices, strides
    ),
    jvp=linear_jvp(lambda: slice_p),
    transpose=_slice_transpose,
    batch=_slice_batch,
    linear_in=(0,),
)


def slice(operand, start_indices: Sequence[int], limit_indices: Sequence[int], strides: Sequence[int] | None = None):
    """A rectangular part of an array, with static bounds.

    Args:
      operand: an array.
      start_indices: for each axis, the first index taken; non-negative.
      limit_indices: for each axis, the end; at most the axis size.
      strides: for each axis, the positive step; None: 1.

    Raises:
      TypeError: if an index is out of bounds (nothing is clamped or counted from the end here;
        `slice_in_dim` counts from the end).

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.slice(jnp.arange(6), (1,), (6,), (2,))
      Array([1, 3, 5], dtype=int32)
    """
    (operand,) = core_args("slice", operand)
    start_indices = integers(start_indices, "slice start_indices")
    limit_indices = integers(limit_indices, "slice limit_indices")
    strides = None if strides is None else integers(strides, "slice strides")
    whole = isinstance(operand, ArrayImpl) and start_indices == (0,) * operand.ndim and limit_indices == operand.shape
    if whole and strides is None:
        return operand
    return slice_p.bind(operand, start_indices=start_indices, limit_indices=limit_indices, strides=strides)


def slice_in_dim(operand, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0):
    """`slice` along one axis.

    Args:
      operand: an array.
      start_index: the first index; None is 0, negative counts from the end.
      limit_index: the end; None is the axis size, negative counts from the end.
      stride: the positive step.
      axis: the axis; negative counts from the end.
    """
    (operand,) = core_args("slice_in_dim", operand)
    shape = get_aval(operand).shape
    axis = canonical_axis(axis, len(shape), "slice_in_dim")
    n = shape[axis]
    start = 0 if start_index is None else operator.index(start_index)
    limit = n if limit_index is None else operator.index(limit_index)
    starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis] = start + n if start < 0 else start
    limits[axis] = limit + n if limit < 0 else limit
    strides[axis] = operator.index(stride)
    return slice_p.bind(operand, start_indices=tuple(starts), limit_indices=tuple(limits), strides=tuple(strides))


def index_in_dim(operand, index: int, axis: int = 0, keepdims: bool = True):
    """The elements at one static index of an axis.

    Args:
      operand: an array.
      index: the index; negative counts from the end.
      axis: the axis.
      keepdims: whether the axis stays, with size 1.

    Raises:
      IndexError: if the index is out of bounds.
    """
    (operand,) = core_args("index_in_dim", operand)
    index, ndim = operator.index(index), get_aval(operand).ndim
    axis = canonical_axis(axis, ndim, "index_in_dim")
    n = get_aval(operand).shape[axis]
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {n}")
    index = index + n if index < 0 else index
    part = slice_in_dim(operand, index, index + 1, 1, axis)
    return part if keepdims else squeeze(part, (axis,))


# -- pad -----------------------------------------------------------------------------------------


def _pad_type(x, value, *, padding_config):
    if x.dtype != value.dtype:
        raise TypeError(f"pad operand and padding_value must be same dtype: got {x.dtype} and {value.dtype}.")
    if value.shape:
        raise ValueError(f"padding_value must be a scalar; got np.shape(padding_value)={value.shape}")
    if len(padding_config) != len(x.shape):
        raise ValueError(
            "length of padding_config must equal the number of axes of operand, got padding_config "
            f"{padding_config} for operand shape {x.shape}"
        )
    if any(interior < 0 for _, _, interior in padding_config):
        raise ValueError(f"interior padding in padding_config must be nonnegative, got padding_config {padding_config}")
    shape = tuple(
        lo + hi + n + max(n - 1, 0) * interior for n, (lo, hi, interior) in zip(x.shape, padding_config, strict=True)
    )
    if any(n < 0 for n in shape):
        raise ValueError(
            f"Dimension size after padding is not at least 0, got result shape {shape}, for padding_config "
            f"{padding_config} "
            f"and operand shape {x.shape}"
        )
    return shaped_array(shape, x.dtype, x.weak_type and value.weak_type)


def _pad_jvp(primals, tangents, **params):
    out = pad_p.bind(*primals, **params)
    if all(type(t) is Zero for t in tangents):
        return out, Zero.from_primal_value(out)
    return out, pad_p.bind(*map(instantiate_zeros, tangents), **params)


def _pad_transpose(ct, x, value, *, padding_config):
    if type(ct) is Zero:
        return [Zero(a.aval) if type(a) is UndefinedPrimal else None for a in (x, value)]
    shape = x.aval.shape if type(x) is UndefinedPrimal else get_aval(x).shape
    cropped = pad(ct, _scalar_zero(ct), [(-lo, -hi, 0) for lo, hi, _ in padding_config])
    ct_x = slice(
        cropped, [0] * len(shape), get_aval(cropped).shape, [interior + 1 for _, _, interior in padding_config]
    )
    axes = tuple(range(len(shape)))
    return [
        ct_x if type(x) is UndefinedPrimal else None,
        sub(reduce_sum(ct, axes), reduce_sum(ct_x, axes)) if type(value) is UndefinedPrimal else None,
    ]


def _pad_batch(args, dims, *, padding_config):
    (x, value), (dx, dv) = args, dims
    size = mapped_size(args, dims)
    d = 0 if dx is None else dx
    x = matchaxis(size, dx, d, x)
    config = (*padding_config[:d], (0, 0, 0), *padding_config[d:])
    if dv is None:
        return pad_p.bind(x, value, padding_config=config), d
    # a value for each example: pad with zeros, and choose the value where the operand's mask has been padded
    aval = get_aval(x)
    padded = pad_p.bind(x, _scalar_zero(x), padding_config=config)
    inside = pad_p.bind(full(aval.shape, True, np.bool_), np.bool_(False), padding_config=config)
    return select(inside, padded, broadcast_in_dim(value, get_aval(padded).shape, (d,))), d


def _pad_lower(ctx, x, value, *, padding_config):
    lo, hi, interior = zip(*padding_config, strict=True) if padding_config else ((), (), ())
    return ctx.builder.pad(x, value, lo, hi, interior)


pad_p = define(
    "pad",
    abstract_eval=_pad_type,
    lower=_pad_lower,
    jvp=_pad_jvp,
    transpose=_pad_transpose,
    batch=_pad_batch,
    linear_in=(0, 1),
)


def pad(operand, padding_value, padding_config: Sequence[tuple[int, int, int]]):
    """Pad an array at its edges and between its elements.

    Args:
      operand: an array.
      padding_value: a scalar of the same dtype.
      padding_config: for each axis ``(low, high, interior)``: how many elements to add before the
        first, after the last and between neighbours. Negative ``low`` and ``high`` remove elements.

    Raises:
      TypeError: if the dtypes differ.
      ValueError: if the configuration does not fit the operand.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.pad(jnp.array([1., 2.]), 0., [(1, 0, 1)])
      Array([0., 1., 0., 2.], dtype=float32)
    """
    operand, padding_value = core_args("pad", operand, padding_value, same_dtype=False)
    config = []
    for entry in padding_config:
        if len(entry) != 3:
            raise ValueError(f"pad: padding_config must have (low, high, interior) for each axis, got {padding_config}")
        config.append(integers(entry, "pad padding_config"))
    return pad_p.bind(operand, padding_value, padding_config=tuple(config))


# -- concatenate, split --------------------------------------------------------------------------


def _concatenate_type(*avals, dimension):
    if not avals:
        raise TypeError("concatenate expects at least one operand, got 0.")
    shapes = [a.shape for a in avals]
    named = ", ".join(map(str, shapes))
    if len({len(s) for s in shapes}) != 1:
        raise TypeError(f"Cannot concatenate arrays with different numbers of dimensions: got {named}.")
    if not 0 <= dimension < len(shapes[0]):
        raise TypeError(f"concatenate dimension out of bounds: dimension {dimension} for shapes {named}.")
    rest = [s[:dimension] + s[dimension + 1 :] for s in shapes]
    if any(r != rest[0] for r in rest):
        raise TypeError(
            "Cannot concatenate arrays with shapes that differ in dimensions other than the one being concatenated: "
            f"concatenating along dimension {dimension} for shapes {named}."
        )
    if any(a.dtype != avals[0].dtype for a in avals):
        names = ", ".join(str(a.dtype) for a in avals)
        raise TypeError(
            f"lax.concatenate requires arguments to have the same dtypes, got {names}. "
            "(Tip: jnp.concatenate is a similar function that does automatic type promotion on inputs)."
        )
    shape = list(shapes[0])
    shape[dimension] = sum(s[dimension] for s in shapes)
    return shaped_array(tuple(shape), avals[0].dtype, all(a.weak_type for a in avals))


def _concatenate_jvp(primals, tangents, *, dimension):
    out = concatenate_p.bind(*primals, dimension=dimension)
    if all(type(t) is Zero for t in tangents):
        return out, Zero.from_primal_value(out)
    return out, concatenate_p.bind(*map(instantiate_zeros, tangents), dimension=dimension)


def _concatenate_transpose(ct, *args, dimension):
    if type(ct) is Zero:
        return [Zero(x.aval) if type(x) is UndefinedPrimal else None for x in args]
    avals = [x.aval if type(x) is UndefinedPrimal else get_aval(x) for x in args]
    parts = split(ct, [a.shape[dimension] for a in avals], dimension)
    return [part if type(x) is UndefinedPrimal else None for part, x in zip(parts, args, strict=True)]


def _concatenate_batch(args, dims, *, dimension):
    d = next(d for d in dims if d is not None)
    size = mapped_size(args, dims)
    moved = [matchaxis(size, dim, d, x) for x, dim in zip(args, dims, strict=True)]
    return concatenate_p.bind(*moved, dimension=dimension + (d <= dimension)), d


concatenate_p = define(
    "concatenate",
    abstract_eval=_concatenate_type,
    lower=lambda ctx, *xs, dimension: ctx.builder.concatenate(xs, dimension),
    jvp=_concatenate_jvp,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
)


def concatenate(operands: Sequence, dimension: int):
    """Join arrays along an axis.

    Args:
      operands: arrays of one dtype, whose shapes differ along ``dimension`` only.
      dimension: the axis; non-negative.

    Raises:
      ValueError: without operands.
      TypeError: if ranks, shapes or dtypes do not fit.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.concatenate([jnp.array([1, 2]), jnp.array([3])], 0)
      Array([1, 2, 3], dtype=int32)
    """
    operands = list(operands)
    if not operands:
        raise ValueError("concatenate requires a non-empty sequences of arrays")
    operands = core_args("concatenate", *operands)
    if len(operands) == 1:
        _concatenate_type(get_aval(operands[0]), dimension=operator.index(dimension))
        return operands[0]
    return concatenate_p.bind(*operands, dimension=operator.index(dimension))


def _split_type(x, *, sizes, axis):
    if not 0 <= axis < len(x.shape):
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {len(x.shape)}")
    if any(n < 0 for n in sizes):
        raise ValueError(f"Sizes passed to split must be nonnegative, got {list(sizes)}")
    if sum(sizes) != x.shape[axis]:
        raise ValueError(
            f"Sum of sizes {sum(sizes)} must be equal to dimension {axis} of the operand shape {list(x.shape)}"
        )
    return [shaped_array((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype, x.weak_type) for n in sizes]


def _split_jvp(primals, tangents, **params):
    (x,), (t,) = primals, tangents
    outs = split_p.bind(x, **params)
    return outs, [Zero.from_primal_value(o) for o in outs] if type(t) is Zero else split_p.bind(t, **params)


def _split_transpose(cts, x, *, sizes, axis):
    if all(type(ct) is Zero for ct in cts):
        return [Zero(x.aval)]
    return [concatenate(list(map(instantiate_zeros, cts)), axis)]


def _split_batch(args, dims, *, sizes, axis):
    (x,), (d,) = args, dims
    return split_p.bind(x, sizes=sizes, axis=axis + (d <= axis)), [d] * len(sizes)


def _split_lower(ctx, x, *, sizes, axis):
    parts, start = [], 0
    for n in sizes:
        starts, limits = [0] * x.ndim, list(x.shape)
        starts[axis], limits[axis] = start, start + n
        parts.append(ctx.builder.slice(x, starts, limits))
        start += n
    return parts


split_p = define(
    "split",
    abstract_eval=_split_type,
    lower=_split_lower,
    jvp=_split_jvp,
    transpose=_split_transpose,
    batch=_split_batch,
    multiple_results=True,
    linear_in=(0,),
)


def split(operand, sizes: Sequence[int], axis: int = 0):
    """Cut an array along an axis.

    Args:
      operand: an array.
      sizes: the sizes of the parts; they sum to the axis size.
      axis: the axis.

    Returns:
      The parts, a list.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.split(jnp.arange(3), (1, 2))
      [Array([0], dtype=int32), Array([1, 2], dtype=int32)]
    """
    (operand,) = core_args("split", operand)
    ndim = get_aval(operand).ndim
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return list(split_p.bind(operand, sizes=integers(sizes, "split sizes"), axis=axis % ndim))
