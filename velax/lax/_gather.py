"""Gather: slices read at computed positions, as `velax.lax._indexing` describes them."""

from __future__ import annotations

import numpy as np

from velax._ir.graph import GatherDims
from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import Zero, zeros_like_aval
from velax.lax._indexing import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    check_batching,
    check_index_type,
    check_indices,
    check_mode,
    increasing,
    inside,
    plain_dims,
    shift,
)
from velax.lax._values import core_args, python_scalar

__all__ = ["gather", "gather_p"]


# -- gather ----------------------------------------------------------------------------------------


def _gather_type(x, indices, *, dimension_numbers, slice_sizes, unique_indices, indices_are_sorted, mode, fill_value):
    dims, rank = dimension_numbers, len(x.shape)
    check_mode("gather", mode)
    check_index_type("gather", indices)
    result_rank = len(dims.offset_dims) + len(indices.shape) - 1
    increasing(dims.offset_dims, "gather", "offset_dims")
    for i, d in enumerate(dims.offset_dims):
        if not 0 <= d < result_rank:
            raise TypeError(
                f"Offset dimension {i} in gather op is out of bounds; got {d}, but "
                f"should have been in [0, {result_rank})"
            )
    check_indices("gather", indices, dims.start_index_map, "start_index_map", rank)
    increasing(dims.collapsed_slice_dims, "gather", "collapsed_slice_dims")
    inside(dims.collapsed_slice_dims, rank, "gather", "collapsed_slice_dims")
    check_batching(
        "gather", "start_indices_batching_dims", x.shape, indices.shape, dims.operand_batching_dims,
        dims.start_indices_batching_dims,
        dims.collapsed_slice_dims, "collapsed_slice_dims", dims.start_index_map, "start_index_map",
    )  # fmt: skip
    if len(slice_sizes) != rank:
        raise TypeError(
            "Gather op must have one slice size for every input dimension; got: "
            f"len(slice_sizes)={len(slice_sizes)}, input_shape.rank={rank}"
        )
    kept = rank - len(dims.collapsed_slice_dims) - len(dims.operand_batching_dims)
    if len(dims.offset_dims) != kept:
        raise TypeError(
            "All components of the offset index in a gather op must either be a offset "
            "dimension or explicitly collapsed/batching; got "
            f"len(slice_sizes)={len(slice_sizes)}, "
            f"output_slice_sizes={dims.offset_dims}, "
            f"collapsed_slice_dims={dims.collapsed_slice_dims}, "
            f"operand_batching_dims={dims.operand_batching_dims}."
        )
    for i, (size, n) in enumerate(zip(slice_sizes, x.shape, strict=True)):
        if not 0 <= size <= n:
            raise TypeError(
                f"Slice size at index {i} in gather op is out of range, must be within [0, {n} + 1), got {size}."
            )
    for what, field in (
        ("collapse slice dims with bound 1", dims.collapsed_slice_dims),
        ("have operand batching dims with bound 0/1", dims.operand_batching_dims),
    ):
        for i, d in enumerate(field):
            if slice_sizes[d] > 1:
                raise TypeError(
                    f"Gather op can only {what}, but bound is {slice_sizes[d]} for index {d} at position {i}."
                )
    dropped = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    window = iter(n for i, n in enumerate(slice_sizes) if i not in dropped)
    positions = iter(indices.shape[:-1])
    shape = tuple(next(window) if i in dims.offset_dims else next(positions) for i in range(result_rank))
    return shaped_array(shape, x.dtype, x.weak_type)


def _gather_lower(ctx, x, indices, *, dimension_numbers, slice_sizes, mode, fill_value, **_):
    fill = None
    if fill_value is not None:
        dtype = ctx.avals_out[0].dtype
        fill = python_scalar(fill_value, dtype)
    name = {
        GatherScatterMode.CLIP: "clip",
        GatherScatterMode.FILL_OR_DROP: "fill",
        GatherScatterMode.PROMISE_IN_BOUNDS: "promise",
    }[mode]
    return ctx.builder.gather(
        x, indices, GatherDims(*dimension_numbers), slice_sizes, name, fill, ctx.avals_out[0].shape
    )


def _gather_jvp(primals, tangents, *, fill_value, **params):
    x, indices = primals
    out = gather_p.bind(x, indices, fill_value=fill_value, **params)
    t = tangents[0]
    if type(t) is Zero:
        return out, Zero.from_primal_value(out)
    return out, gather_p.bind(t, indices, fill_value=None if fill_value is None else 0, **params)


def _gather_transpose(
    ct, x, indices, *, dimension_numbers, slice_sizes, unique_indices, indices_are_sorted, mode, fill_value
):
    if type(ct) is Zero:
        return [Zero(x.aval), None]
    from velax.lax._scatter import combiner, scatter_add_p  # whose derivatives gather

    out = scatter_add_p.bind(
        zeros_like_aval(x.aval),
        indices,
        ct,
        dimension_numbers=ScatterDimensionNumbers(*dimension_numbers),
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
        update_jaxpr=combiner("scatter-add", x.aval.dtype),
        update_consts=(),
    )
    return [out, None]


def _gather_batch(args, dims, *, dimension_numbers, slice_sizes, **params):
    (x, indices), (dx, di) = args, dims
    size = get_aval(x).shape[dx] if dx is not None else get_aval(indices).shape[di]
    numbers = dimension_numbers
    if dx is not None:
        x = matchaxis(size, dx, 0, x)
    if di is not None:
        indices = matchaxis(size, di, 0, indices)
    moved = numbers
    if dx is not None:
        moved = moved._replace(
            collapsed_slice_dims=shift(numbers.collapsed_slice_dims),
            start_index_map=shift(numbers.start_index_map),
            operand_batching_dims=shift(numbers.operand_batching_dims),
        )
    if di is not None:
        moved = moved._replace(start_indices_batching_dims=shift(numbers.start_indices_batching_dims))
    if dx is None:
        moved, sizes = moved._replace(offset_dims=shift(numbers.offset_dims)), slice_sizes
    elif di is None:  # the mapped axis is a window axis that is taken whole
        moved, sizes = moved._replace(offset_dims=(0, *shift(numbers.offset_dims))), (size, *slice_sizes)
    else:
        moved = moved._replace(
            offset_dims=shift(numbers.offset_dims),
            operand_batching_dims=(0, *moved.operand_batching_dims),
            start_indices_batching_dims=(0, *moved.start_indices_batching_dims),
        )
        sizes = (min(size, 1), *slice_sizes)
    return gather_p.bind(x, indices, dimension_numbers=moved, slice_sizes=sizes, **params), 0


gather_p = define(
    "gather",
    abstract_eval=_gather_type,
    lower=_gather_lower,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
    linear_in=(0,),
)


def gather(
    operand,
    start_indices,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes,
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value=None,
):
    """Windows of an array at computed positions.

    Args:
      operand: an array.
      start_indices: integers; the last axis holds index vectors.
      dimension_numbers: which axes correspond; see `GatherDimensionNumbers`.
      slice_sizes: the window's size along each axis of the operand.
      unique_indices: a promise that no element is read twice, which makes the derivative cheaper.
      indices_are_sorted: a promise that the index vectors are in lexicographic order.
      mode: for windows outside the operand: ``'clip'``, ``'fill'``, or ``'promise_in_bounds'`` (the
        default, and then clipped).
      fill_value: what ``'fill'`` gives; None: NaN, the least signed or greatest unsigned integer,
        True.

    Raises:
      TypeError: if the dimension numbers do not fit the shapes.
      ValueError: for indices that are not integers.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> numbers = lax.GatherDimensionNumbers((), collapsed_slice_dims=(0,), start_index_map=(0,))
      >>> lax.gather(jnp.array([10, 20, 30]), jnp.array([[2], [0]]), numbers, (1,))
      Array([30, 10], dtype=int32)
    """
    operand, start_indices = core_args("gather", operand, start_indices, same_dtype=False)
    mode = GatherScatterMode.PROMISE_IN_BOUNDS if mode is None else GatherScatterMode.from_any(mode)
    if mode is not GatherScatterMode.FILL_OR_DROP:
        fill_value = None
    elif fill_value is None:
        fill_value = _default_fill(get_aval(operand).dtype)
    return gather_p.bind(
        operand,
        start_indices,
        dimension_numbers=plain_dims(dimension_numbers),
        slice_sizes=canonical_slice_sizes(slice_sizes),
        indices_are_sorted=bool(indices_are_sorted),
        unique_indices=bool(unique_indices),
        mode=mode,
        fill_value=fill_value,
    )


def canonical_slice_sizes(sizes) -> tuple[int, ...]:
    return tuple(int(n) for n in sizes)


def _default_fill(dtype):
    if dtypes.is_extended(dtype):
        return None
    if dtypes.is_inexact(dtype):
        return float("nan")
    if dtype == np.bool_:
        return True
    info = dtypes.iinfo(dtype)
    return int(info.min) if dtypes.is_signed_integer(dtype) else int(info.max)
