"""Indexing: what ``x[index]`` computes, and the functions that take, put, choose and find elements."""

from __future__ import annotations

import math
import operator

import numpy as np

from velax import _native, lax
from velax._lang import dtypes
from velax._lang.array import ArrayImpl
from velax._lang.avals import AbstractRef
from velax._lang.config import config
from velax._lang.trace import Tracer, concrete_or_error, get_aval
from velax._lang.traceback import boundary, leave_boundary
from velax._lang.transfers import check_implicit_transfer, transfers_are_guarded
from velax._transforms.jit import jit
from velax.lax._index_parts import broadcast_to, read_part, read_part_call
from velax.lax._index_plan import check_static_indices, make_plan
from velax.lax._structural import canonical_axis, convert_type
from velax.numpy._creation import asarray
from velax.numpy._shaping import no_out, ravel
from velax.numpy._util import check_arraylike, common_shape, compiled, promote_dtypes, to_array

__all__ = [
    "argwhere", "choose", "compress", "extract", "fill_diagonal", "flatnonzero", "nonzero", "place", "put",
    "put_along_axis", "take", "take_along_axis",
]  # fmt: skip

_get_trace = _native.get_trace


# -- x[index] ------------------------------------------------------------------------------------


def index_array(x, index, *, indices_are_sorted=False, unique_indices=False, mode=None, fill_value=None, wrap=True):
    """``x[index]``, with what `IndexUpdateRef.get` takes."""
    if mode is not None:
        mode = lax.GatherScatterMode.from_any(mode)
    if mode is not lax.GatherScatterMode.FILL_OR_DROP:
        fill_value = None
    elif fill_value is not None:
        fill_value = _static_scalar(fill_value)
    eager = type(x) is ArrayImpl and _get_trace() is None
    if eager and _is_mask(index):
        return _select_by_mask(x, index)
    plan, operands = make_plan(x.shape, index, wrap)
    if config.jax_check_static_indices and (mode is None or mode is lax.GatherScatterMode.PROMISE_IN_BOUNDS):
        check_static_indices(x.shape, index, wrap)
    spec = (plan, indices_are_sorted, unique_indices, mode, fill_value)
    return (read_part_call if eager else read_part)(x, tuple(operands), spec)


def _static_scalar(value):
    value = concrete_or_error(None, value, "fill_value of an index must be static")
    if type(value) in (bool, int, float, complex):
        return value
    check_arraylike("fill_value of an index", value)
    if np.shape(value):
        raise ValueError(f"fill_value must be a scalar, got shape {np.shape(value)}")
    return np.asarray(value).item()


def _is_mask(index) -> bool:
    kind = type(index)
    return (kind is ArrayImpl or kind is np.ndarray) and index.dtype == np.bool_ and index.ndim > 0


def _select_by_mask(x, mask):
    """Elements under a mask, outside of programs: the size of the result is data, so that a
    compiled program would serve once.
    """
    if mask.shape != x.shape[: mask.ndim]:
        make_plan(x.shape, mask)  # raises
    found = np.asarray(x)[np.asarray(mask)]
    if transfers_are_guarded():
        check_implicit_transfer(get_aval(found))
    return _with_weak_type(_native.array_from_numpy(found, x.weak_type), x)


def _with_weak_type(out, x):
    return out if out.weak_type == x.weak_type else _native.array_with_weak_type(out, x.weak_type)


@boundary
def getitem(x, index):
    try:
        if type(x) is not ArrayImpl and isinstance(get_aval(x), AbstractRef):
            return get_aval(x)._getitem(x, index)
        return index_array(x, index)
    except Exception as error:
        leave_boundary(error)
        raise


def iterate(x):
    """The rows of an array, staged where it is traced."""
    shape = get_aval(x).shape
    if not shape:
        raise TypeError("iteration over a 0-d array")
    return (lax.index_in_dim(x, i, keepdims=False) for i in range(shape[0]))


# -- choose --------------------------------------------------------------------------------------


def choose(a, choices, out: None = None, mode: str = "raise"):
    """Elements of the choice that an index array names.

    Args:
      a: integers, which of the choices to take.
      choices: a sequence of arrays that broadcast with ``a``, or an array of them along the first axis.
      out: must be None.
      mode: for integers outside ``[0, len(choices))``: "raise" (only outside of `jit`), "wrap" around or "clip".

    Returns:
      An array of the common shape of ``a`` and the choices.

    Raises:
      ValueError: in mode "raise", if an integer is outside.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.choose(jnp.array([1, 0]), [jnp.array([1, 2]), jnp.array([10, 20])])
      Array([10,  2], dtype=int32)
    """
    no_out("choose", out)
    check_arraylike("choose", a, *choices)
    a = to_array(a)
    if not dtypes.is_integer(get_aval(a).dtype) and get_aval(a).dtype != np.bool_:
        raise ValueError(f"`a` array must be integer typed in choose, got {get_aval(a).dtype}")
    n = len(choices)
    if mode == "raise":
        concrete = concrete_or_error(
            np.asarray, a,
            "The error occurred because jnp.choose was jit-compiled with mode='raise'. Use mode='wrap' or "
            "mode='clip' instead.",
        )  # fmt: skip
        if ((concrete < 0) | (concrete >= n)).any():
            raise ValueError("invalid entry in choice array")
    elif mode not in ("wrap", "clip"):
        raise ValueError(f"mode={mode!r} not understood. Must be 'raise', 'wrap', or 'clip'")
    return _choose(a, [choices[i] for i in range(n)], mode)


@compiled(static=("mode",))
def _choose(a, choices, mode):
    n = len(choices)
    a = convert_type(a, np.dtype(np.int32), False)
    if mode == "wrap":
        a = modulo(a, n)
    elif mode == "clip":
        a = lax.clamp(np.int32(0), a, np.int32(n - 1))
    choices = promote_dtypes(*choices)
    shape = common_shape("choose", [get_aval(v).shape for v in (a, *choices)])
    return lax.select_n(broadcast_to(a, shape), *(broadcast_to(c, shape) for c in choices))


def modulo(index, n: int):
    """The remainder of integers by a positive Python integer, non-negative."""
    dtype = get_aval(index).dtype
    rest = lax.rem(index, dtype.type(n))
    if dtypes.issubdtype(dtype, np.unsignedinteger):
        return rest
    return lax.select(lax.lt(rest, dtype.type(0)), lax.add(rest, dtype.type(n)), rest)


# -- take ----------------------------------------------------------------------------------------


def take(
    a, indices, axis: int | None = None, out: None = None, mode: str | None = None, unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value=None,
):  # fmt: skip
    """Elements along an axis at the given indices.

    Args:
      a: an array.
      indices: integers of any shape.
      axis: the axis; None: of the flattened array.
      out: must be None.
      mode: for indices outside the array: "fill" (the default) gives ``fill_value``; "clip" takes
        the nearest, negative indices included; "wrap"
        counts around.
      unique_indices, indices_are_sorted: promises that save work.
      fill_value: by default NaN, the least signed or greatest unsigned integer, True.

    Returns:
      An array with the axes of ``indices`` in place of ``axis``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.take(jnp.array([[1., 2.], [3., 4.]]), jnp.array([1, 5]), axis=1)
      Array([[ 2., nan],
             [ 4., nan]], dtype=float32)
    """
    no_out("take", out)
    check_arraylike("take", a, indices)
    if mode == "raise":
        raise NotImplementedError("The 'raise' mode to jnp.take is not supported.")
    if mode not in (None, "fill", "clip", "wrap", "promise_in_bounds"):
        raise ValueError(f"Invalid mode '{mode}' for np.take; expected 'fill', 'clip', 'wrap' or 'promise_in_bounds'")
    axis = None if axis is None else operator.index(axis)
    return _take(
        a,
        indices,
        axis,
        mode,
        bool(unique_indices),
        bool(indices_are_sorted),
        None if fill_value is None else _static_scalar(fill_value),
    )


@compiled(static=("axis", "mode", "unique_indices", "indices_are_sorted", "fill_value"))
def _take(a, indices, axis, mode, unique_indices, indices_are_sorted, fill_value):
    a, indices = to_array(a), to_array(indices)
    shape = get_aval(a).shape
    if not dtypes.is_integer(get_aval(indices).dtype) and get_aval(indices).dtype != np.bool_:
        raise ValueError(f"take: indices must have an integer type, got {get_aval(indices).str_short()}")
    if axis is None:
        a, axis, shape = lax.reshape(a, (math.prod(shape),)), 0, (math.prod(shape),)
    axis = canonical_axis(axis, len(shape), "take")
    n, index_shape = shape[axis], get_aval(indices).shape
    indices = _wide_index(indices, n)
    if mode in (None, "fill"):
        gather_mode = "fill"
        indices = count_from_end(indices, n)
    elif mode == "wrap":
        gather_mode, indices = "promise_in_bounds", modulo(indices, max(n, 1))
    else:
        gather_mode = mode
    if n == 0 and math.prod(index_shape):
        raise IndexError("Cannot do a non-empty jnp.take() from an empty axis.")
    rank = len(index_shape)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(*range(axis), *range(axis + rank, len(shape) + rank - 1)),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
    )
    if n == 0:
        return lax.full((*shape[:axis], *index_shape, *shape[axis + 1 :]), 0, get_aval(a).dtype)
    sizes = tuple(1 if i == axis else m for i, m in enumerate(shape))
    return lax.gather(
        a, lax.broadcast_in_dim(indices, (*index_shape, 1), range(rank)), numbers, sizes, mode=gather_mode,
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted, fill_value=fill_value,
    )  # fmt: skip


def _wide_index(indices, n: int):
    """Indices as int32, or wider if they are or the axis asks for it."""
    dtype = get_aval(indices).dtype
    wide = dtypes.itemsize_bits(dtype) == 64 or n > np.iinfo(np.int32).max
    return convert_type(indices, np.dtype(np.int64 if wide else np.int32), False)


def count_from_end(indices, n: int):
    """Indices into ``n`` elements, negative ones counted from the end."""
    dtype = get_aval(indices).dtype
    return lax.select(lax.lt(indices, dtype.type(0)), lax.add(indices, dtype.type(n)), indices)


def take_along_axis(
    arr, indices, axis: int | None = -1, mode=None, fill_value=None, *, wrap_negative_indices: bool | None = None
):
    """Elements along an axis, for each position along the other axes its own.

    Args:
      arr: an array.
      indices: integers; their shape broadcasts with that of ``arr`` along the other axes.
      axis: the axis; None: of the flattened array, by 1D indices.
      mode, fill_value: for indices outside the array, as in `take`; "fill" by default.
      wrap_negative_indices: whether negative indices count from the end; True by default.

    Returns:
      An array of the dtype of ``arr``.

    Example:
      >>> import velax.numpy as jnp
      >>> x = jnp.array([[3, 1, 2], [4, 6, 5]])
      >>> jnp.take_along_axis(x, jnp.array([[1, 0, 0], [0, 0, 1]]), axis=1)
      Array([[1, 3, 3],
             [4, 4, 6]], dtype=int32)
    """
    check_arraylike("take_along_axis", arr, indices)
    mode = lax.GatherScatterMode.from_any(mode)
    fill_value = None if fill_value is None else _static_scalar(fill_value)
    axis = None if axis is None else operator.index(axis)
    return _take_along_axis(
        arr, indices, axis, mode, fill_value, wrap_negative_indices is None or bool(wrap_negative_indices)
    )


def _take_along(arr, indices, axis, mode, fill_value, wrap):
    arr, indices = to_array(arr), to_array(indices)
    shape, index_shape = get_aval(arr).shape, get_aval(indices).shape
    if not dtypes.is_integer(get_aval(indices).dtype):
        raise TypeError(f"take_along_axis indices must be of integer type, got {get_aval(indices).dtype}")
    if axis is None:
        if len(index_shape) != 1:
            raise ValueError(f"take_along_axis indices must be 1D if axis=None, got shape {index_shape}")
        arr, axis = lax.reshape(arr, (math.prod(shape),)), 0
        shape = get_aval(arr).shape
    if len(shape) != len(index_shape):
        raise ValueError(
            f"indices and arr must have the same number of dimensions; {len(index_shape)} vs. {len(shape)}"
        )
    axis = canonical_axis(axis, len(shape), "take_along_axis")
    n = shape[axis]
    out_shape = []
    for i, (m, k) in enumerate(zip(shape, index_shape, strict=True)):
        if i != axis and m != k and 1 not in (m, k):
            raise ValueError(
                f"Incompatible shapes for broadcasting: take_along_axis of shape {shape} and indices of shape "
                f"{index_shape}, along axis {axis}"
            )
        out_shape.append(k if i == axis else m if k == 1 else k)
    if 0 in out_shape:
        return lax.full(out_shape, 0, get_aval(arr).dtype)
    indices = _wide_index(indices, n)
    if wrap:
        indices = count_from_end(indices, n)
    # axes where the array has one row for all indices, where the indices have one for all rows, and
    # where both run together
    windows = [i for i, (m, k) in enumerate(zip(shape, index_shape, strict=True)) if i != axis and k == 1]
    constant = [i for i, (m, k) in enumerate(zip(shape, index_shape, strict=True)) if i != axis and m == 1 and k != 1]
    together = [i for i in range(len(shape)) if i != axis and i not in windows and i not in constant]
    positions = [i for i in range(len(shape)) if i not in windows]
    vectors = lax.reshape(indices, (*(index_shape[i] for i in positions), 1))
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(windows), collapsed_slice_dims=tuple(sorted((axis, *constant))), start_index_map=(axis,),
        operand_batching_dims=tuple(together),
        start_indices_batching_dims=tuple(positions.index(i) for i in together),
    )  # fmt: skip
    sizes = tuple(m if i in windows else 1 for i, m in enumerate(shape))
    return lax.gather(arr, vectors, numbers, sizes, mode=mode, fill_value=fill_value)


_take_along.__name__ = "take_along_axis"
_take_along_axis = jit(_take_along, static_argnums=(2, 3, 4, 5))


# -- put -----------------------------------------------------------------------------------------


def put(a, ind, v, mode: str | None = None, *, inplace: bool = True):
    """A copy of an array with elements of the flattened array replaced.

    Args:
      a: an array.
      ind: integers, flat positions.
      v: the new elements, repeated or cut to the number of positions.
      mode: for positions outside: "clip", "wrap", "drop"; None clips after counting negative ones from the end.
      inplace: must be False, as arrays are immutable.

    Returns:
      An array of the shape and dtype of ``a``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.put(jnp.arange(4), jnp.array([0, 2]), 9, inplace=False)
      Array([9, 1, 9, 3], dtype=int32)
    """
    if inplace:
        raise ValueError(
            "jax.numpy.put cannot modify arrays in-place, because JAX arrays are immutable. Pass inplace=False to "
            "instead return an updated array."
        )
    check_arraylike("put", a, ind, v)
    a, ind, v = to_array(a), ravel(ind), ravel(v)
    shape = get_aval(a).shape
    size, count = math.prod(shape), get_aval(ind).shape[0]
    if not size or not count or not get_aval(v).shape[0]:
        return a
    v = _cycled(v, count)
    if mode in (None, "clip", "wrap"):
        ind = _wide_index(ind, size)
        dtype = get_aval(ind).dtype
        if mode is None:
            ind = count_from_end(ind, size)
        ind = modulo(ind, size) if mode == "wrap" else lax.clamp(dtype.type(0), ind, dtype.type(size - 1))
        scatter_mode = "promise_in_bounds"
    elif mode == "drop":
        scatter_mode = "drop"
    else:
        raise ValueError(
            f"mode should be one of 'wrap' or 'clip'; got {mode=}"
            if mode != "raise"
            else "The 'raise' mode to jnp.put is not supported."
        )
    return lax.reshape(lax.reshape(a, (size,)).at[ind].set(v, mode=scatter_mode), shape)


def _cycled(v, count: int):
    """The first ``count`` elements of a vector that repeats."""
    n = get_aval(v).shape[0]
    if n < count:
        times = -(-count // n)
        v = lax.reshape(lax.broadcast_in_dim(v, (times, n), (1,)), (times * n,))
    return v if get_aval(v).shape[0] == count else lax.slice(v, (0,), (count,))


def put_along_axis(arr, indices, values, axis: int | None, inplace: bool = True, *, mode: str | None = None):
    """A copy of an array with elements along an axis replaced, for each position along the other axes its own.

    Args:
      arr: an array.
      indices: integers; their shape broadcasts with that of ``arr`` along the other axes.
      values: the new elements; they broadcast with the indices.
      axis: the axis; None: of the flattened array.
      inplace: must be False, as arrays are immutable.
      mode: as for ``x.at[...].set``.

    Returns:
      An array of the shape and dtype of ``arr``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.put_along_axis(jnp.zeros((2, 2)), jnp.array([[1], [0]]), 5., axis=1, inplace=False)
      Array([[0., 5.],
             [5., 0.]], dtype=float32)
    """
    if inplace:
        raise ValueError(
            "jax.numpy.put_along_axis cannot modify arrays in-place, because JAX arrays are immutable. Pass "
            "inplace=False to instead return an updated array."
        )
    check_arraylike("put_along_axis", arr, indices, values)
    return _put_along_axis(arr, indices, values, None if axis is None else operator.index(axis), mode)


def _put_along(arr, indices, values, axis, mode):
    arr, indices, values = to_array(arr), to_array(indices), to_array(values)
    shape = get_aval(arr).shape
    if axis is None:
        arr, axis = ravel(arr), 0
    work = get_aval(arr).shape
    axis = canonical_axis(axis, len(work), "put_along_axis")
    if get_aval(indices).ndim != len(work):
        raise ValueError(
            f"put_along_axis arguments 'arr' and 'indices' must have same ndim. Got {len(work)} and "
            f"{get_aval(indices).ndim}."
        )
    values = broadcast_to(
        convert_type(values, get_aval(arr).dtype, False),
        common_shape("put_along_axis", [get_aval(indices).shape, get_aval(values).shape]),
    )
    index = []
    for i, n in enumerate(work):
        if i == axis:
            index.append(indices)
        else:
            where_ = lax.iota(np.int32, n)
            index.append(lax.broadcast_in_dim(where_, tuple(n if j == i else 1 for j in range(len(work))), (i,)))
    return lax.reshape(arr.at[tuple(index)].set(values, mode=mode), shape)


_put_along.__name__ = "put_along_axis"
_put_along_axis = jit(_put_along, static_argnums=(3, 4))


def place(arr, mask, vals, *, inplace: bool = True):
    """A copy of an array with elements under a mask replaced, in order, by those of a vector that repeats.

    Args:
      arr: an array.
      mask: booleans, as many.
      vals: the new elements.
      inplace: must be False, as arrays are immutable.

    Returns:
      An array of the shape and dtype of ``arr``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.place(jnp.arange(4), jnp.array([True, False, True, True]), jnp.array([7, 8]),
      ...  inplace=False)
      Array([7, 1, 8, 7], dtype=int32)
    """
    if inplace:
        raise ValueError(
            "jax.numpy.place cannot modify arrays in-place, because JAX arrays are immutable. Pass inplace=False to "
            "instead return an updated array."
        )
    check_arraylike("place", arr, mask, vals)
    arr, mask, vals = to_array(arr), to_array(mask), ravel(vals)
    if get_aval(arr).size != get_aval(mask).size:
        raise ValueError(
            f"place: arr and mask must be the same size, got shapes {get_aval(arr).shape} and {get_aval(mask).shape}"
        )
    if not get_aval(vals).size:
        raise ValueError("Cannot place values from an empty array: vals of jnp.place has none")
    if not get_aval(arr).size:
        return arr
    return _place(arr, mask, vals)


@compiled
def _place(arr, mask, vals):
    shape = get_aval(arr).shape
    flat = truth(ravel(mask))
    # the number of true elements before this one is its place in vals
    before = lax.sub(lax.cumsum(convert_type(flat, np.dtype(np.int32))), np.int32(1))
    new = lax.gather(
        vals, lax.broadcast_in_dim(modulo(before, get_aval(vals).shape[0]), (*get_aval(flat).shape, 1), (0,)),
        lax.GatherDimensionNumbers((), (0,), (0,)), (1,), mode="clip",
    )  # fmt: skip
    return lax.reshape(lax.select(flat, convert_type(new, get_aval(arr).dtype), ravel(arr)), shape)


def fill_diagonal(a, val, wrap: bool = False, *, inplace: bool = True):
    """A copy of a matrix, or of an array with all axes equal, with its diagonal replaced.

    Args:
      a: an array with two or more axes.
      val: the new elements; they repeat.
      wrap: must be False.
      inplace: must be False, as arrays are immutable.

    Returns:
      An array of the shape and dtype of ``a``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fill_diagonal(jnp.zeros((2, 2)), 1., inplace=False)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    if inplace:
        raise NotImplementedError("JAX arrays are immutable, must use inplace=False")
    if wrap:
        raise NotImplementedError("wrap=True is not implemented, must use wrap=False")
    check_arraylike("fill_diagonal", a, val)
    a, val = to_array(a), to_array(val)
    shape = get_aval(a).shape
    if len(shape) < 2:
        raise ValueError(f"array must be at least 2-d in fill_diagonal, got shape {shape}")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise ValueError(f"All dimensions of input must be of equal length in fill_diagonal, got shape {shape}")
    n = min(shape)
    if not n:
        return a
    val = _cycled(ravel(val), n) if get_aval(val).shape else val
    i = lax.iota(np.int32, n)
    return a.at[(i,) * len(shape)].set(val)


# -- nonzero -------------------------------------------------------------------------------------


def truth(a):
    """Where an array is not zero."""
    dtype = get_aval(a).dtype
    return a if dtype == np.bool_ else lax.ne(a, dtype.type(0))


def nonzero(a, *, size: int | None = None, fill_value=None) -> tuple:
    """The positions of nonzero elements.

    Args:
      a: an array with at least one axis.
      size: the static number of positions to return; needed inside `jit`, as otherwise the shape
        would depend on values.
      fill_value: what pads the result if there are fewer; 0 by default; one for each axis if a tuple.

    Returns:
      For each axis an array of indices.

    Raises:
      ConcretizationTypeError: for a traced array without ``size``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nonzero(jnp.array([0, 5, 0, 7]))
      (Array([1, 3], dtype=int32),)
    """
    check_arraylike("nonzero", a)
    a = to_array(a)
    shape = get_aval(a).shape
    if not shape:
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use jnp.atleast_1d(scalar).nonzero() instead.")
    if size is None:
        concrete = concrete_or_error(
            np.asarray, a,
            "The size argument of jnp.nonzero must be statically specified to use jnp.nonzero within JAX "
            "transformations.",
        )  # fmt: skip
        return tuple(asarray(i.astype(dtypes.default_int_dtype())) for i in concrete.nonzero())
    size = concrete_or_error(
        operator.index,
        size,
        "The size argument of jnp.nonzero must be statically specified to use jnp.nonzero within JAX transformations.",
    )
    fills = fill_value if isinstance(fill_value, tuple) else (fill_value,) * len(shape)
    if len(fills) != len(shape):
        raise ValueError(f"fill_value must be a scalar or a tuple of length {len(shape)}, got {fill_value}")
    fills = tuple(0 if f is None else f for f in fills)
    if any(np.shape(f) for f in fills):
        raise ValueError(f"fill_value must be a scalar, or a tuple of scalars, got {fill_value}")
    return _nonzero(a, fills, size)


def _nonzero_of_size(a, fills, size):
    """The position of the k-th true element, scattered to place k."""
    shape = get_aval(a).shape
    dtype = dtypes.default_int_dtype()
    total = math.prod(shape)
    if not total or not size:
        return tuple(lax.full((size,), f, dtype) for f in fills)
    flat = truth(ravel(a))
    order = lax.cumsum(convert_type(flat, np.dtype(np.int32)))
    target = lax.select(flat, lax.sub(order, np.int32(1)), lax.full_like(order, size))  # beyond the end: dropped
    found = lax.scatter(
        lax.full((size,), total, np.int32), lax.broadcast_in_dim(target, (total, 1), (0,)), lax.iota(np.int32, total),
        lax.ScatterDimensionNumbers((), (0,), (0,)), mode="drop", unique_indices=False,
    )  # fmt: skip
    missing = lax.eq(found, np.int32(total))
    out = []
    stride = total
    for n, f in zip(shape, fills, strict=True):
        stride //= n
        index = lax.rem(lax.div(found, np.int32(stride)), np.int32(n))
        out.append(lax.select(missing, lax.full((size,), f, dtype), convert_type(index, dtype, False)))
    return tuple(out)


_nonzero_of_size.__name__ = "nonzero"
_nonzero = jit(_nonzero_of_size, static_argnums=(2,))


def flatnonzero(a, *, size: int | None = None, fill_value=None):
    """The positions of nonzero elements in the flattened array; arguments as `nonzero`.

    Args:
      a: an array.
      size: the static number of results, needed while tracing.
      fill_value: with ``size``, what is filled in.

    Returns:
      An array of integers of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.flatnonzero(jnp.array([[0, 3], [5, 0]]))
      Array([1, 2], dtype=int32)
    """
    check_arraylike("flatnonzero", a)
    return nonzero(ravel(a), size=size, fill_value=fill_value)[0]


def argwhere(a, *, size: int | None = None, fill_value=None):
    """The positions of nonzero elements, one a row; arguments as `nonzero`.

    Args:
      a: an array.
      size: the static number of results, needed while tracing.
      fill_value: with ``size``, what is filled in.

    Returns:
      An array of integers, of shape ``(count, a.ndim)``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.argwhere(jnp.array([[0, 3], [5, 0]]))
      Array([[0, 1],
             [1, 0]], dtype=int32)
    """
    check_arraylike("argwhere", a)
    a = to_array(a)
    ndim = get_aval(a).ndim
    columns = nonzero(a if ndim else lax.reshape(a, (1,)), size=size, fill_value=fill_value)
    count = get_aval(columns[0]).shape[0]
    if not ndim:
        return lax.full((count, 0), 0, dtypes.default_int_dtype())
    return lax.concatenate([lax.broadcast_in_dim(c, (count, 1), (0,)) for c in columns], 1)


def compress(condition, a, axis: int | None = None, *, size: int | None = None, fill_value=0, out: None = None):
    """The parts of an array along an axis whose condition holds.

    Args:
      condition: a vector of booleans.
      a: an array.
      axis: the axis; None: of the flattened array.
      size: the static number of parts; needed inside `jit`.
      fill_value: what pads the result if fewer conditions hold.
      out: must be None.

    Returns:
      An array; with ``size`` of that size along the axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.compress(jnp.array([True, False, True]), jnp.array([1, 2, 3]))
      Array([1, 3], dtype=int32)
    """
    no_out("compress", out)
    check_arraylike("compress", condition, a, fill_value)
    condition, a = to_array(condition), to_array(a)
    if get_aval(condition).ndim != 1:
        raise ValueError(f"condition must be a 1D array in compress, got shape {get_aval(condition).shape}")
    if axis is None:
        a, axis = ravel(a), 0
    axis = canonical_axis(axis, get_aval(a).ndim, "compress")
    n, count = get_aval(a).shape[axis], get_aval(condition).shape[0]
    condition = truth(condition)
    if count > n:
        rest = lax.slice(condition, (n,), (count,))
        if not isinstance(rest, Tracer) and np.asarray(rest).any():
            raise ValueError("condition contains entries that are out of bounds")
        condition = lax.slice(condition, (0,), (n,))
    (index,) = nonzero(condition, size=size, fill_value=n)
    return take(a, index, axis=axis, mode="fill", fill_value=fill_value)


def extract(condition, arr, *, size: int | None = None, fill_value=0):
    """The elements of an array whose condition holds, as a vector; ``size`` and ``fill_value`` as in `compress`.

    Args:
      condition: an array of booleans or numbers.
      arr: an array of the same size.
      size: the static number of results, needed while tracing.
      fill_value: with ``size``, what is filled in.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.extract(jnp.array([True, False, True]), jnp.array([1, 2, 3]))
      Array([1, 3], dtype=int32)
    """
    check_arraylike("extract", condition, arr, fill_value)
    return compress(ravel(condition), arr, size=size, fill_value=fill_value)
