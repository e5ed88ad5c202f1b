"""Slices at starts computed at run time, and updates of such slices."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.jit import jit
from velax._transforms.zero import UndefinedPrimal, Zero, instantiate_zeros, zeros_like_aval
from velax.lax._arithmetic import add
from velax.lax._comparison import lt
from velax.lax._gather import gather_p
from velax.lax._indexing import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers
from velax.lax._scatter import scatter_p
from velax.lax._slicing import concatenate, index_in_dim, integers, mapped_size
from velax.lax._structural import broadcast_in_dim, canonical_axis, convert_type, expand_dims, select, squeeze
from velax.lax._values import core_args

__all__ = [
    "dynamic_index_in_dim", "dynamic_slice", "dynamic_slice_in_dim", "dynamic_slice_p", "dynamic_update_index_in_dim",
    "dynamic_update_slice", "dynamic_update_slice_in_dim", "dynamic_update_slice_p",
]  # fmt: skip


# -- dynamic_slice -------------------------------------------------------------------------------


def _check_start_indices(name: str, operand, starts) -> None:
    if len(starts) != len(operand.shape):
        raise TypeError(
            f"{name} start_indices must have length equal to the number of dimensions of the operand, got "
            f"{len(starts)} for operand shape {operand.shape}."
        )
    if any(s.shape for s in starts):
        raise TypeError(f"start_indices arguments to {name} must be scalars,  got indices {tuple(starts)}")
    if not all(dtypes.is_integer(s.dtype) and s.dtype == starts[0].dtype for s in starts):
        raise TypeError(
            f"index arguments to {name} must be integers of the same type, got: "
            f"{', '.join(str(s.dtype) for s in starts)}"
        )


def _dynamic_slice_type(x, *starts, slice_sizes):
    if len(slice_sizes) != len(x.shape):
        raise TypeError(
            "slice slice_sizes must have length equal to the number of dimensions of the operand, got sizes "
            f"{slice_sizes} for operand shape {x.shape}."
        )
    if any(size > n for size, n in zip(slice_sizes, x.shape, strict=True)):
        raise TypeError(
            f"slice slice_sizes must be less than or equal to operand shape, got slice_sizes {slice_sizes} for "
            f"operand shape {x.shape}."
        )
    if any(size < 0 for size in slice_sizes):
        raise TypeError(f"slice slice_sizes must be greater than or equal to zero, got slice_sizes of {slice_sizes}.")
    _check_start_indices("dynamic_slice", x, starts)
    return shaped_array(tuple(slice_sizes), x.dtype, x.weak_type)


def _dynamic_slice_jvp(primals, tangents, *, slice_sizes):
    x, *starts = primals
    out = dynamic_slice_p.bind(x, *starts, slice_sizes=slice_sizes)
    t = tangents[0]
    if type(t) is Zero:
        return out, Zero.from_primal_value(out)
    return out, dynamic_slice_p.bind(t, *starts, slice_sizes=slice_sizes)


def _dynamic_slice_transpose(ct, x, *starts, slice_sizes):
    if type(ct) is Zero:
        return [Zero(x.aval), *(None for _ in starts)]
    return [dynamic_update_slice_p.bind(zeros_like_aval(x.aval), ct, *starts), *(None for _ in starts)]


def _index_vectors(starts, dims, axes, size):
    """The starts along ``axes`` as index vectors, of shape (size, len(axes))."""
    columns = []
    for a in axes:
        s, d = starts[a], dims[a]
        columns.append(broadcast_in_dim(s, (size, 1), () if d is None else (0,)))
    return concatenate(columns, 1)


def _dynamic_slice_batch(args, dims, *, slice_sizes):
    (x, *starts), (d, *start_dims) = args, dims
    if all(sd is None for sd in start_dims):
        n, zero = get_aval(x).shape[d], get_aval(starts[0]).dtype.type(0) if starts else np.int32(0)
        sizes = (*slice_sizes[:d], n, *slice_sizes[d:])
        return dynamic_slice_p.bind(x, *starts[:d], zero, *starts[d:], slice_sizes=sizes), d
    size = mapped_size(args, dims)
    shape = [n for i, n in enumerate(get_aval(x).shape) if i != d]
    # along an axis taken whole, every start is clamped to 0
    axes = tuple(i for i, (n, m) in enumerate(zip(shape, slice_sizes, strict=True)) if m != n)
    if not axes or 0 in (size, *slice_sizes):
        part = (
            x
            if not axes
            else zeros_like_aval(shaped_array((*((size,) if d is not None else ()), *slice_sizes), get_aval(x).dtype))
        )
        return part, d if not axes else (0 if d is not None else None)
    if d is not None:
        x = matchaxis(size, d, 0, x)
    dnums = GatherDimensionNumbers(
        offset_dims=tuple(range(1, len(shape) + 1)),
        collapsed_slice_dims=(),
        start_index_map=tuple(a + (d is not None) for a in axes),
        operand_batching_dims=() if d is None else (0,),
        start_indices_batching_dims=() if d is None else (0,),
    )
    out = gather_p.bind(
        x, _index_vectors(starts, start_dims, axes, size), dimension_numbers=dnums,
        slice_sizes=tuple(slice_sizes) if d is None else (1, *slice_sizes), indices_are_sorted=d is not None, unique_indices=d is not None,
        mode=GatherScatterMode.CLIP, fill_value=None,
    )  # fmt: skip
    return out, 0


dynamic_slice_p = define(
    "dynamic_slice",
    abstract_eval=_dynamic_slice_type,
    lower=lambda ctx, x, *starts, slice_sizes: ctx.builder.dynamic_slice(x, starts, slice_sizes),
    jvp=_dynamic_slice_jvp,
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
    linear_in=(0,),
)


def _start_indices(name: str, operand, starts, allow_negative) -> list:
    """Start indices as scalars of one integer dtype; negative ones count from the end where that is allowed."""
    shape = get_aval(operand).shape
    if not isinstance(starts, (tuple, list)):
        aval = get_aval(starts)
        if len(aval.shape) != 1:
            raise ValueError(f"Slice indices must be a 1D sequence, got {aval.shape}")
        count = aval.shape[0]
        starts = (
            list(starts)
            if isinstance(starts, np.ndarray)
            else [index_in_dim(starts, i, keepdims=False) for i in range(count)]
        )
    if len(starts) != len(shape):
        raise ValueError(f"Length of slice indices must match number of operand dimensions ({len(starts)} vs {shape})")
    allowed = [allow_negative] * len(shape) if isinstance(allow_negative, (bool, np.bool_)) else list(allow_negative)
    if len(allowed) != len(shape):
        raise ValueError(
            f"{name}: allow_negative_indices must have one entry an axis, got {len(allowed)} for operand shape {shape}"
        )
    starts = core_args(name, *starts, same_dtype=False)
    avals = [get_aval(s) for s in starts]
    strong = next((a.dtype for s, a in zip(starts, avals, strict=True) if type(s) is not int), None)
    target = strong if strong is not None and dtypes.is_integer(strong) else dtypes.default_int_dtype()
    result = []
    for start, aval, n, negative in zip(starts, avals, shape, allowed, strict=True):
        if type(start) is int:
            start = start + n if negative and start < 0 else start
            # saturating loses nothing: the index is clamped to the operand anyway
            info = dtypes.iinfo(target)
            start = target.type(max(info.min, min(info.max, start)))
        elif isinstance(start, (np.generic, np.ndarray)) and not aval.shape and dtypes.is_integer(aval.dtype):
            value = int(start)
            start = aval.dtype.type(value + n if negative and value < 0 else value)
        elif negative and not aval.shape and dtypes.is_signed_integer(aval.dtype):
            # in a dtype that holds the size of the axis as well
            wide = next(d for d in (aval.dtype, np.dtype(np.int32), np.dtype(np.int64)) if n <= dtypes.iinfo(d).max)
            start = convert_type(start, wide, False)
            start = select(lt(start, wide.type(0)), add(start, wide.type(n)), start)
        result.append(start)
    return result


def dynamic_slice(operand, start_indices, slice_sizes, *, allow_negative_indices: bool | Sequence[bool] = True):
    """A part of an array, of static size, at a start computed at run time.

    Args:
      operand: an array.
      start_indices: a scalar integer for each axis, or a 1D array of them. Starts are clamped so
        that the part lies inside the operand.
      slice_sizes: the static size of the part along each axis.
      allow_negative_indices: whether negative starts count from the end; one for all axes or one
        for each. False saves the test.

    Returns:
      An array of shape ``slice_sizes``.

    Raises:
      TypeError: for sizes larger than the operand, and starts that are not scalar integers of one dtype.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.dynamic_slice(jnp.arange(6), (4,), (3,))
      Array([3, 4, 5], dtype=int32)
    """
    (operand,) = core_args("dynamic_slice", operand)
    starts = _start_indices("dynamic_slice", operand, start_indices, allow_negative_indices)
    sizes = integers(slice_sizes, "dynamic_slice slice_sizes")
    return dynamic_slice_p.bind(operand, *starts, slice_sizes=sizes)


def _one_axis(operand, index, axis: int, name: str) -> tuple[list, int]:
    """Starts that are ``index`` along ``axis`` and 0 elsewhere."""
    ndim = get_aval(operand).ndim
    axis = canonical_axis(axis, ndim, name)
    starts = [0] * ndim
    starts[axis] = index
    return starts, axis


def dynamic_slice_in_dim(operand, start_index, slice_size: int, axis: int = 0, *, allow_negative_indices: bool = True):
    """`dynamic_slice` along one axis; the others are taken whole."""
    (operand,) = core_args("dynamic_slice_in_dim", operand)
    starts, axis = _one_axis(operand, start_index, axis, "dynamic_slice_in_dim")
    sizes = list(get_aval(operand).shape)
    sizes[axis] = operator.index(slice_size)
    return dynamic_slice(operand, starts, sizes, allow_negative_indices=allow_negative_indices)


def _dynamic_index_in_dim(operand, index, axis, keepdims, allow_negative_indices):
    part = dynamic_slice_in_dim(operand, index, 1, axis, allow_negative_indices=allow_negative_indices)
    return part if keepdims else squeeze(part, (axis,))


_dynamic_index_in_dim.__name__ = "dynamic_index_in_dim"
_jit_index = jit(_dynamic_index_in_dim, static_argnums=(2, 3, 4))


def dynamic_index_in_dim(operand, index, axis: int = 0, keepdims: bool = True, *, allow_negative_indices: bool = True):
    """The elements at one index of an axis, computed at run time.

    Args:
      operand: an array.
      index: a scalar integer; clamped into the axis, after counting from the end if it is negative and that is allowed.
      axis: the axis.
      keepdims: whether the axis stays, with size 1.
      allow_negative_indices: see `dynamic_slice`.
    """
    (operand,) = core_args("dynamic_index_in_dim", operand)
    axis = canonical_axis(axis, get_aval(operand).ndim, "dynamic_index_in_dim")
    return _jit_index(operand, index, axis, bool(keepdims), bool(allow_negative_indices))


# -- dynamic_update_slice ------------------------------------------------------------------------


def _dynamic_update_slice_type(x, update, *starts):
    if x.dtype != update.dtype:
        raise TypeError(
            f"lax.dynamic_update_slice requires arguments to have the same dtypes, got {x.dtype}, {update.dtype}."
        )
    if len(x.shape) != len(update.shape):
        raise TypeError(
            f"dynamic_update_slice update must have the same rank as operand, got update shape {update.shape} for "
            f"operand shape {x.shape}."
        )
    if any(m > n for m, n in zip(update.shape, x.shape, strict=True)):
        raise TypeError(
            "dynamic_update_slice update shape must be smaller than operand shape, got update shape "
            f"{update.shape} for operand shape {x.shape}."
        )
    _check_start_indices("dynamic_update_slice", x, starts)
    return shaped_array(x.shape, x.dtype, x.weak_type and update.weak_type and all(s.weak_type for s in starts))


def _dynamic_update_slice_jvp(primals, tangents):
    x, update, *starts = primals
    tx, tu = tangents[:2]
    out = dynamic_update_slice_p.bind(x, update, *starts)
    if type(tx) is Zero and type(tu) is Zero:
        return out, Zero.from_primal_value(out)
    return out, dynamic_update_slice_p.bind(instantiate_zeros(tx), instantiate_zeros(tu), *starts)


def _dynamic_update_slice_transpose(ct, x, update, *starts):
    none = [None] * len(starts)
    if type(ct) is Zero:
        return [*(Zero(a.aval) if type(a) is UndefinedPrimal else None for a in (x, update)), *none]
    update_aval = get_aval(update) if type(update) is not UndefinedPrimal else update.aval
    ct_x = ct_update = None
    if type(x) is UndefinedPrimal:
        zeros = zeros_like_aval(shaped_array(update_aval.shape, get_aval(ct).dtype))
        ct_x = dynamic_update_slice_p.bind(ct, zeros, *starts)
    if type(update) is UndefinedPrimal:
        ct_update = dynamic_slice_p.bind(ct, *starts, slice_sizes=update_aval.shape)
    return [ct_x, ct_update, *none]


def _dynamic_update_slice_batch(args, dims):
    (x, update, *starts), (dx, du, *start_dims) = args, dims
    size = mapped_size(args, dims)
    update_shape = tuple(n for i, n in enumerate(get_aval(update).shape) if i != du)
    if all(sd is None for sd in start_dims):
        d = 0 if dx is None else dx
        x, update = matchaxis(size, dx, d, x), matchaxis(size, du, d, update)
        zero = get_aval(starts[0]).dtype.type(0) if starts else np.int32(0)
        return dynamic_update_slice_p.bind(x, update, *starts[:d], zero, *starts[d:]), d
    shape = tuple(n for i, n in enumerate(get_aval(x).shape) if i != dx)
    axes = tuple(i for i, (n, m) in enumerate(zip(shape, update_shape, strict=True)) if m != n)
    if 0 in (size, *update_shape):
        return x, dx
    update = matchaxis(size, du, 0, update)
    if not axes:
        return update, 0
    dnums = ScatterDimensionNumbers(
        update_window_dims=tuple(range(1, len(shape) + 1)),
        inserted_window_dims=(),
        scatter_dims_to_operand_dims=tuple(a + 1 for a in axes),
        operand_batching_dims=(0,),
        scatter_indices_batching_dims=(0,),
    )
    out = scatter_p.bind(
        matchaxis(size, dx, 0, x), _index_vectors(starts, start_dims, axes, size), update, dimension_numbers=dnums, indices_are_sorted=True,
        unique_indices=True, mode=GatherScatterMode.CLIP, update_jaxpr=None, update_consts=(),
    )  # fmt: skip
    return out, 0


dynamic_update_slice_p = define(
    "dynamic_update_slice",
    abstract_eval=_dynamic_update_slice_type,
    lower=lambda ctx, x, update, *starts: ctx.builder.dynamic_update_slice(x, update, starts),
    jvp=_dynamic_update_slice_jvp,
    transpose=_dynamic_update_slice_transpose,
    batch=_dynamic_update_slice_batch,
    linear_in=(0, 1),
)


def dynamic_update_slice(operand, update, start_indices, *, allow_negative_indices: bool | Sequence[bool] = True):
    """A copy of an array with a part replaced, at a start computed at run time.

    Args:
      operand: an array.
      update: the new part: an array of the operand's rank and dtype, along no axis larger.
      start_indices, allow_negative_indices: as in `dynamic_slice`; starts are clamped so that the
        part lies inside the operand.

    Returns:
      An array of the operand's shape and dtype. Inside `jit`, and if the operand is used nowhere
      else, it is written in place.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.dynamic_update_slice(jnp.zeros(4), jnp.ones(2), (1,))
      Array([0., 1., 1., 0.], dtype=float32)
    """
    operand, update = core_args("dynamic_update_slice", operand, update)
    starts = _start_indices("dynamic_update_slice", operand, start_indices, allow_negative_indices)
    return dynamic_update_slice_p.bind(operand, update, *starts)


def dynamic_update_slice_in_dim(operand, update, start_index, axis: int, *, allow_negative_indices: bool = True):
    """`dynamic_update_slice` with a start along one axis and 0 along the others."""
    operand, update = core_args("dynamic_update_slice_in_dim", operand, update)
    starts, _ = _one_axis(operand, start_index, axis, "dynamic_update_slice_in_dim")
    return dynamic_update_slice(operand, update, starts, allow_negative_indices=allow_negative_indices)


def _dynamic_update_index_in_dim(operand, update, index, axis, allow_negative_indices):
    if get_aval(update).ndim != get_aval(operand).ndim:
        update = expand_dims(update, (axis,))
    return dynamic_update_slice_in_dim(operand, update, index, axis, allow_negative_indices=allow_negative_indices)


_dynamic_update_index_in_dim.__name__ = "dynamic_update_index_in_dim"
_jit_update_index = jit(_dynamic_update_index_in_dim, static_argnums=(3, 4))


def dynamic_update_index_in_dim(operand, update, index, axis: int, *, allow_negative_indices: bool = True):
    """A copy of an array with the elements at one index of an axis replaced.

    Args:
      operand: an array.
      update: the new elements: an array of the operand's shape without the axis, or with size 1 there.
      index: a scalar integer, as in `dynamic_index_in_dim`.
      axis: the axis.
      allow_negative_indices: see `dynamic_slice`.
    """
    operand, update = core_args("dynamic_update_index_in_dim", operand, update)
    x, u = get_aval(operand), get_aval(update)
    axis = canonical_axis(axis, x.ndim, "dynamic_update_index_in_dim")
    if u.ndim not in (x.ndim, x.ndim - 1):
        raise TypeError(
            "dynamic_update_index_in_dim update must have the operand's rank or one axis less, got update shape "
            f"{u.shape} for operand shape {x.shape}."
        )
    return _jit_update_index(operand, update, index, axis, bool(allow_negative_indices))
