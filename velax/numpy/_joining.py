"""Joining, splitting and repeating arrays; inserting and removing elements."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import Tracer, concrete_or_error, get_aval
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._indexing import count_from_end
from velax.numpy._shaping import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    axis_index,
    expand_dims,
    gather_axis,
    moveaxis,
    no_out,
    ravel,
    reshape,
    spread,
)
from velax.numpy._util import check_arraylike, compiled, promote_dtypes, to_array

__all__ = [
    "append", "array_split", "block", "column_stack", "concat", "concatenate", "delete", "dsplit", "dstack", "hsplit",
    "hstack", "insert", "repeat",
    "split", "stack", "tile", "trim_zeros", "unstack", "vsplit", "vstack",
]  # fmt: skip


# -- join ----------------------------------------------------------------------------------------


def _operands(name: str, arrays) -> list:
    """The arrays of a sequence, or the parts of an array along its first axis."""
    arrays = _checked(name, arrays)
    if not arrays:
        raise ValueError(f"Need at least one array to {name}.")
    return arrays


def _of_one_dtype(name: str, arrays, dtype) -> list:
    arrays = [to_array(x) for x in arrays]
    if dtype is None:
        return promote_dtypes(*arrays)
    target = dtypes.check_user_dtype_supported(dtype, name)
    return [convert_type(x, target, False) for x in arrays]


def concatenate(arrays: Sequence, axis: int | None = 0, dtype=None):
    """Join arrays along an axis they have.

    Args:
      arrays: a sequence of arrays whose shapes differ along ``axis`` only (or an array, whose parts
        along the first axis are joined).
      axis: the axis; None: flatten the arrays first.
      dtype: the dtype of the result; None: the common one.

    Returns:
      An array.

    Raises:
      ValueError: without arrays, or for arrays of rank 0.
      TypeError: if the shapes do not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.concatenate([jnp.array([1, 2]), jnp.array([3.])])
      Array([1., 2., 3.], dtype=float32)
    """
    return _concatenate(_operands("concatenate", arrays), _static_axis("concatenate", axis), dtype)


def _static_axis(name: str, axis) -> int | None:
    """An axis as a Python integer. An array in its place is one that should have been joined."""
    if isinstance(axis, (np.ndarray, Array)) and get_aval(axis).ndim:
        raise TypeError(
            f"{name} takes the arrays as one sequence, jnp.{name}([a, b], axis=0), but got an array of shape "
            f"{get_aval(axis).shape} as its axis."
        )
    return None if axis is None else concrete_or_error(operator.index, axis, f"The axis of jnp.{name} must be static.")


@compiled(static=("axis", "dtype"), inline=True)
def _concatenate(arrays, axis, dtype):
    arrays = _of_one_dtype("concatenate", arrays, dtype)
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    if get_aval(arrays[0]).ndim == 0:
        raise ValueError("Zero-dimensional arrays cannot be concatenated; join scalars with jnp.stack.")
    return lax.concatenate(arrays, axis_index(axis, get_aval(arrays[0]).ndim))


def concat(arrays: Sequence, /, *, axis: int | None = 0):
    """`concatenate` under the name of the array API standard.

    Args:
      arrays: a sequence of arrays of one rank.
      axis: the axis; None: flatten first.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.concat([jnp.array([1, 2]), jnp.array([3])])
      Array([1, 2, 3], dtype=int32)
    """
    return concatenate(arrays, axis)


def stack(arrays: Sequence, axis: int = 0, out=None, dtype=None):
    """Join arrays of one shape along a new axis.

    Args:
      arrays: a sequence of arrays.
      axis: where the new axis is in the result.
      out: not supported.
      dtype: the dtype of the result; None: the common one.

    Returns:
      An array with an axis more.

    Raises:
      ValueError: without arrays, or if the shapes differ.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.stack([jnp.array([1, 2]), jnp.array([3, 4])], axis=1)
      Array([[1, 3],
             [2, 4]], dtype=int32)
    """
    no_out("stack", out)
    return _stack(_operands("stack", arrays), _static_axis("stack", axis), dtype)


@compiled(static=("axis", "dtype"), inline=True)
def _stack(arrays, axis, dtype):
    arrays = _of_one_dtype("stack", arrays, dtype)
    shapes = [get_aval(a).shape for a in arrays]
    if any(len(s) != len(shapes[0]) for s in shapes):
        raise ValueError(
            f"Cannot stack arrays with different numbers of dimensions: got {', '.join(map(str, shapes))}."
        )
    if any(s != shapes[0] for s in shapes):
        raise ValueError(f"All input arrays must have the same shape: stack got {', '.join(map(str, shapes))}.")
    axis = axis_index(axis, len(shapes[0]) + 1)
    return lax.concatenate([expand_dims(a, axis) for a in arrays], axis)


def vstack(tup: Sequence, dtype=None):
    """Join along the first axis; vectors count as rows.

    Args:
      tup: a sequence of arrays.
      dtype: the dtype of the result, or None.

    Returns:
      An array of at least two axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.vstack([jnp.array([1, 2]), jnp.array([3, 4])])
      Array([[1, 2],
             [3, 4]], dtype=int32)
    """
    arrays = _checked("vstack", tup)
    return concatenate([atleast_2d(x) for x in arrays], 0, dtype)


def hstack(tup: Sequence, dtype=None):
    """Join along the second axis, vectors along the first; as `vstack`.

    Args:
      tup: a sequence of arrays.
      dtype: the dtype of the result, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.hstack([jnp.array([1, 2]), jnp.array([3])])
      Array([1, 2, 3], dtype=int32)
    """
    arrays = [atleast_1d(x) for x in _checked("hstack", tup)]
    return concatenate(arrays, 0 if arrays and get_aval(arrays[0]).ndim == 1 else 1, dtype)


def dstack(tup: Sequence, dtype=None):
    """Join along the third axis; as `vstack`.

    Args:
      tup: a sequence of arrays.
      dtype: the dtype of the result, or None.

    Returns:
      An array of at least three axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.dstack([jnp.array([1, 2]), jnp.array([3, 4])])
      Array([[[1, 3],
              [2, 4]]], dtype=int32)
    """
    return concatenate([atleast_3d(x) for x in _checked("dstack", tup)], 2, dtype)


def column_stack(tup: Sequence):
    """Join vectors as columns, and matrices, along the second axis.

    Args:
      tup: a sequence of arrays.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.column_stack([jnp.array([1, 2]), jnp.array([3, 4])])
      Array([[1, 3],
             [2, 4]], dtype=int32)
    """
    arrays = [to_array(x) for x in _checked("column_stack", tup)]
    return concatenate([x if get_aval(x).ndim >= 2 else reshape(x, (-1, 1)) for x in arrays], 1)


def _checked(name: str, tup) -> list:
    arrays = list(unstack(to_array(tup))) if isinstance(tup, (Array, np.ndarray)) else list(tup)
    check_arraylike(name, *arrays)
    return arrays


def block(arrays):
    """Assemble an array from nested lists of blocks: the innermost are joined along the last axis,
    the next along the one before, and so on.

    Args:
      arrays: an array, or nested lists of arrays of equal depth.

    Returns:
      An array.

    Raises:
      ValueError: for tuples, lists of unequal depths, or empty ones.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.block([[jnp.ones((1, 1)), jnp.zeros((1, 2))]])
      Array([[1., 0., 0.]], dtype=float32)
    """
    depth = _block_depth(arrays)
    leaves = _block_leaves(arrays)
    check_arraylike("block", *leaves)
    ndim = max(depth, max(get_aval(to_array(x)).ndim for x in leaves))
    return _block(arrays, 0, depth, ndim)


def _block_depth(arrays) -> int:
    if isinstance(arrays, tuple):
        raise ValueError(f"jax.numpy.block does not allow tuples, got {arrays}; use lists")
    if not isinstance(arrays, list):
        return 0
    if not arrays:
        raise ValueError("jnp.block does not allow empty list arguments")
    depths = {_block_depth(x) for x in arrays}
    if len(depths) > 1:
        raise ValueError(
            f"Mismatched list depths in jnp.block: the entries of a list are lists of the depths {sorted(depths)}"
        )
    return depths.pop() + 1


def _block_leaves(arrays) -> list:
    return [leaf for x in arrays for leaf in _block_leaves(x)] if isinstance(arrays, list) else [arrays]


def _block(arrays, level: int, depth: int, ndim: int):
    if level == depth:
        x = to_array(arrays)
        return reshape(x, (1,) * (ndim - get_aval(x).ndim) + get_aval(x).shape)
    return concatenate([_block(x, level + 1, depth, ndim) for x in arrays], ndim - depth + level)


@compiled(static=("axis",))
def append(arr, values, axis: int | None = None):
    """Join two arrays.

    Args:
      arr, values: arrays.
      axis: the axis; None: flatten both.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.append(jnp.array([1, 2]), jnp.array([3]))
      Array([1, 2, 3], dtype=int32)
    """
    if axis is None:
        return concatenate([ravel(arr), ravel(values)], 0)
    return concatenate([arr, values], axis)


# -- split ---------------------------------------------------------------------------------------


def unstack(x, /, *, axis: int = 0):
    """The parts of an array at each index of an axis.

    Args:
      x: an array.
      axis: the axis.

    Returns:
      A tuple of arrays without that axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unstack(jnp.array([[1, 2], [3, 4]]))
      (Array([1, 2], dtype=int32), Array([3, 4], dtype=int32))
    """
    check_arraylike("unstack", x)
    x = to_array(x)
    axis = axis_index(axis, get_aval(x).ndim)
    return _unstack(x, axis)


@compiled(static=("axis",), inline=True)
def _unstack(x, axis):
    return tuple(lax.index_in_dim(x, i, axis, keepdims=False) for i in range(get_aval(x).shape[axis]))


def _split(name: str, ary, indices_or_sections, axis: int):
    check_arraylike(name, ary)
    ary = to_array(ary)
    axis = axis_index(
        concrete_or_error(operator.index, axis, f"The axis of jnp.{name} must be static."), get_aval(ary).ndim
    )
    size = get_aval(ary).shape[axis]
    if isinstance(indices_or_sections, (tuple, list)) or (
        isinstance(indices_or_sections, (np.ndarray, Array)) and indices_or_sections.ndim
    ):
        indices = indices_or_sections
        cuts = [
            concrete_or_error(operator.index, i, f"The split points of jnp.{name} must be static.")
            for i in (
                indices if isinstance(indices, (tuple, list)) else concrete_or_error(np.asarray, indices, "").tolist()
            )
        ]
        # cuts may be negative or beyond the end, as the bounds of a slice may
        bounds = [0, *(slice(c, None).indices(size)[0] for c in cuts), size]
        return list(_slices(ary, tuple((a, max(a, b)) for a, b in itertools.pairwise(bounds)), axis))
    context = f"The number of sections of jnp.{name} must be static."
    sections = int(concrete_or_error(None, indices_or_sections, context))
    if sections <= 0:
        raise ValueError(f"number of sections must be larger than 0, got {sections} for jnp.{name}")
    part, rest = divmod(size, sections)
    if rest and name != "array_split":
        raise ValueError(f"array split does not result in an equal division: rest is {rest}")
    sizes = (part + 1,) * rest + (part,) * (sections - rest)
    return list(lax.split(ary, sizes, axis)) if sections > 1 else [ary]


@compiled(static=("bounds", "axis"), inline=True)
def _slices(ary, bounds, axis):
    if all(a[1] == b[0] for a, b in itertools.pairwise(bounds)):
        return lax.split(ary, tuple(b - a for a, b in bounds), axis)
    return [lax.slice_in_dim(ary, a, b, axis=axis) for a, b in bounds]


def split(ary, indices_or_sections, axis: int = 0):
    """Cut an array along an axis.

    Args:
      ary: an array.
      indices_or_sections: a number of equal parts, or the indices before which to cut.
      axis: the axis.

    Returns:
      A list of arrays.

    Raises:
      ValueError: if the parts would not be equal.

    Example:
      >>> import velax.numpy as jnp
      >>> [x.shape for x in jnp.split(jnp.arange(6), [1, 3])]
      [(1,), (2,), (3,)]
    """
    return _split("split", ary, indices_or_sections, axis)


def array_split(ary, indices_or_sections, axis: int = 0):
    """As `split`, with parts that may differ by one in size.

    Args:
      ary: an array.
      indices_or_sections: the number of parts, or the indices where to cut.
      axis: the axis.

    Returns:
      A list of arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.array_split(jnp.arange(3), 2)
      [Array([0, 1], dtype=int32), Array([2], dtype=int32)]
    """
    return _split("array_split", ary, indices_or_sections, axis)


def vsplit(ary, indices_or_sections):
    """`split` along axis 0.

    Args:
      ary: an array of at least two axes.
      indices_or_sections: as in `split`.

    Returns:
      A list of arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> [x.shape for x in jnp.vsplit(jnp.ones((4, 2)), 2)]
      [(2, 2), (2, 2)]
    """
    return _split("vsplit", ary, indices_or_sections, 0)


def hsplit(ary, indices_or_sections):
    """`split` along axis 1, of vectors along axis 0.

    Args:
      ary: an array.
      indices_or_sections: as in `split`.

    Returns:
      A list of arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.hsplit(jnp.arange(4), 2)
      [Array([0, 1], dtype=int32), Array([2, 3], dtype=int32)]
    """
    check_arraylike("hsplit", ary)
    return _split("hsplit", ary, indices_or_sections, 0 if get_aval(to_array(ary)).ndim == 1 else 1)


def dsplit(ary, indices_or_sections):
    """`split` along axis 2.

    Args:
      ary: an array of at least three axes.
      indices_or_sections: as in `split`.

    Returns:
      A list of arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> [x.shape for x in jnp.dsplit(jnp.ones((1, 2, 4)), 2)]
      [(1, 2, 2), (1, 2, 2)]
    """
    return _split("dsplit", ary, indices_or_sections, 2)


# -- repeat --------------------------------------------------------------------------------------


def tile(A, reps):
    """Repeat an array as a whole.

    Args:
      A: an array.
      reps: how often along each axis; missing ones are in front.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.tile(jnp.array([1, 2]), 2)
      Array([1, 2, 1, 2], dtype=int32)
    """
    check_arraylike("tile", A)
    reps = tuple(reps) if isinstance(reps, (tuple, list)) or np.ndim(reps) else (reps,)
    reps = tuple(concrete_or_error(operator.index, r, "The repetitions of jnp.tile must be static.") for r in reps)
    if any(r < 0 for r in reps):
        raise ValueError(f"jnp.tile: repetitions must not be negative, got {reps}")
    return _tile(A, reps)


@compiled(static=("reps",), inline=True)
def _tile(A, reps):
    A = to_array(A)
    shape = get_aval(A).shape
    rank = max(len(shape), len(reps))
    shape, reps = (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(reps)) + reps
    A = lax.reshape(A, shape)
    if all(r == 1 for r in reps):
        return A
    wide = tuple(n for pair in zip(reps, shape, strict=True) for n in pair)
    A = lax.broadcast_in_dim(A, wide, range(1, 2 * rank, 2))
    return lax.reshape(A, tuple(r * n for r, n in zip(reps, shape, strict=True)))


def repeat(a, repeats, axis: int | None = None, *, total_repeat_length: int | None = None, out_sharding=None):
    """Repeat elements.

    Args:
      a: an array.
      repeats: how often: an integer, or an array of them, one for each index of the axis.
      axis: the axis; None: flatten first.
      total_repeat_length: the static size of the result along the axis, needed where ``repeats`` is
        traced. If it is less than the sum of ``repeats`` the
        rest is dropped, if more the last element is repeated.

    Returns:
      An array.

    Raises:
      ConcretizationTypeError: if ``repeats`` is traced and no total is given.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.repeat(jnp.array([1, 2]), jnp.array([2, 1]))
      Array([1, 1, 2], dtype=int32)
    """
    check_arraylike("repeat", a, repeats)
    a = to_array(a)
    if axis is None:
        a, axis = ravel(a), 0
    if get_aval(a).ndim == 0:
        a = reshape(a, (1,))
    axis = axis_index(
        concrete_or_error(operator.index, axis, "The axis of jnp.repeat must be static."), get_aval(a).ndim
    )
    size = get_aval(a).shape[axis]
    if total_repeat_length is None:
        hint = (
            "When jit-compiling jnp.repeat, the total number of repeats must be static. To fix this, either specify "
            "a static value for `repeats`, or pass "
            "a static value to `total_repeat_length`."
        )
        counts = concrete_or_error(np.asarray, repeats, hint)
        _check_counts(counts.dtype, counts.shape, size)
        if counts.size == 1:
            n = int(counts.reshape(()))
            if n < 0:
                raise TypeError(
                    f"broadcast_in_dim shape must have every element be nonnegative, got {(size, n)}: jnp.repeat got "
                    f"repeats={n}."
                )
            return _repeat_each(a, n, axis)
        if (counts < 0).any():
            raise ValueError(f"jnp.repeat: repeats must not be negative, got {counts}")
        return gather_axis(a, np.repeat(np.arange(size, dtype=np.int32), counts), axis)
    total = concrete_or_error(
        operator.index, total_repeat_length, "The total_repeat_length of jnp.repeat must be static."
    )
    repeats = to_array(repeats)
    _check_counts(get_aval(repeats).dtype, get_aval(repeats).shape, size)
    return _repeat_counts(a, repeats, axis, total)


def _check_counts(dtype, shape, size: int) -> None:
    if not dtypes.is_integer(dtype) and dtype != np.bool_:
        raise TypeError(f"jnp.repeat: repeats must be of an integer dtype, got {dtype}")
    if len(shape) > 1:
        raise ValueError(f"jnp.repeat: repeats must be a scalar or one-dimensional, got shape {shape}")
    if shape and shape[0] not in (1, size):
        raise ValueError(
            f"jnp.repeat: operands could not be broadcast together: repeats has shape {shape}, the axis has size {size}"
        )


@compiled(static=("n", "axis"), inline=True)
def _repeat_each(a, n, axis):
    shape = get_aval(a).shape
    wide = (*shape[: axis + 1], n, *shape[axis + 1 :])
    a = lax.broadcast_in_dim(a, wide, [i for i in range(len(wide)) if i != axis + 1])
    return lax.reshape(a, (*shape[:axis], shape[axis] * n, *shape[axis + 1 :]))


@compiled(static=("axis", "total"))
def _repeat_counts(a, repeats, axis, total):
    size = get_aval(a).shape[axis]
    if total == 0 or size == 0:
        shape = get_aval(a).shape
        return lax.full((*shape[:axis], total if size else 0, *shape[axis + 1 :]), 0, get_aval(a).dtype)
    repeats = spread(lax.reshape(convert_type(repeats, np.dtype(np.int32)), (get_aval(repeats).size,)), (size,))
    # element i goes on to the end of its block: position p belongs to as many blocks as end at or before it
    ends = lax.cumsum(repeats)
    position = lax.broadcasted_iota(np.int32, (total, size), 0)
    done = lax.le(lax.broadcast_in_dim(ends, (total, size), (1,)), position)
    index = lax.reduce_sum(convert_type(done, np.dtype(np.int32)), (1,))
    return gather_axis(a, lax.min(index, np.int32(size - 1)), axis)


# -- insert, delete, trim ------------------------------------------------------------------------


def delete(arr, obj, axis: int | None = None, *, assume_unique_indices: bool = False):
    """Remove elements along an axis.

    Args:
      arr: an array.
      obj: static: an index, a slice, an array of indices or of booleans; a traced integer scalar,
        or an array of unique traced ones with
        ``assume_unique_indices``.
      axis: the axis; None: flatten first.
      assume_unique_indices: that an array of indices holds none twice.

    Returns:
      The array without these elements.

    Raises:
      ValueError: if an index is out of bounds.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.delete(jnp.array([1, 2, 3]), 1)
      Array([1, 3], dtype=int32)
    """
    check_arraylike("delete", arr)
    arr = to_array(arr)
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = axis_index(axis, get_aval(arr).ndim)
    size = get_aval(arr).shape[axis]
    if isinstance(obj, slice):
        return _take_static(arr, np.delete(np.arange(size), obj), axis)
    check_arraylike("delete", obj)
    aval = get_aval(obj)
    if aval.dtype == np.bool_:
        mask = concrete_or_error(np.asarray, obj, "jnp.delete requires a concrete array of booleans")
        return _take_static(arr, np.delete(np.arange(size), mask), axis)
    if not dtypes.is_integer(aval.dtype):
        raise ValueError(f"np.delete(arr, obj): got obj.dtype={aval.dtype}; must be integer or bool.")
    if not isinstance(obj, Tracer):
        indices = np.asarray(obj)
        if indices.ndim == 0 and not -size <= int(indices) < size:
            raise ValueError(
                f"axis {int(indices)} is out of bounds for array of dimension {size}: jnp.delete got an index "
                "outside the axis"
            )
        return _take_static(arr, np.delete(np.arange(size), indices), axis)
    if aval.ndim and not assume_unique_indices:
        concrete_or_error(
            None,
            obj,
            "jnp.delete needs concrete indices, unless assume_unique_indices=True says that none occurs twice",
        )
    return _delete_traced(arr, obj, axis)


def _take_static(arr, indices, axis):
    return gather_axis(arr, np.asarray(indices, np.int32), axis)


@compiled(static=("axis",))
def _delete_traced(arr, obj, axis):
    size = get_aval(arr).shape[axis]
    flat = count_from_end(convert_type(ravel(obj), np.dtype(np.int32)), size)
    count = get_aval(flat).size
    # the kept element number p lies beyond all removed ones whose rank among the removed allows it
    gaps = lax.sub(lax.sort(flat), lax.iota(np.int32, count))
    position = lax.broadcasted_iota(np.int32, (size - count, count), 0)
    passed = lax.le(lax.broadcast_in_dim(gaps, (size - count, count), (1,)), position)
    index = lax.add(lax.iota(np.int32, size - count), lax.reduce_sum(convert_type(passed, np.dtype(np.int32)), (1,)))
    return gather_axis(arr, index, axis)


def insert(arr, obj, values, axis: int | None = None):
    """Insert values before positions.

    Args:
      arr: an array.
      obj: an index, a slice, or an array of indices (of the original array).
      values: what to insert; broadcast against the places.
      axis: the axis; None: flatten first.

    Returns:
      The longer array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.insert(jnp.array([1, 2, 3]), 1, 9)
      Array([1, 9, 2, 3], dtype=int32)
    """
    check_arraylike("insert", arr, *(() if isinstance(obj, slice) else (obj,)), values)
    arr, values = to_array(arr), to_array(values)
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = axis_index(axis, get_aval(arr).ndim)
    size = get_aval(arr).shape[axis]
    if isinstance(obj, slice):
        obj = np.arange(*obj.indices(size), dtype=np.int32)
    if get_aval(obj).ndim > 1:
        raise ValueError("insert(): obj must be a slice, a one-dimensional array, or a scalar.")
    scalar = get_aval(obj).ndim == 0
    if isinstance(obj, np.ndarray) and obj.dtype == np.bool_:
        obj = np.flatnonzero(obj).astype(np.int32)
    values = convert_type(values, get_aval(arr).dtype, False)
    return _insert(arr, asarray(obj), values, axis, scalar)


@compiled(static=("axis", "scalar"))
def _insert(arr, obj, values, axis, scalar):
    arr = convert_type(arr, get_aval(arr).dtype, False)
    shape, size = get_aval(arr).shape, get_aval(arr).shape[axis]
    ndim = len(shape)
    if get_aval(values).ndim < ndim:
        values = lax.reshape(values, (1,) * (ndim - get_aval(values).ndim) + get_aval(values).shape)
    if scalar:
        # as NumPy: a scalar position takes the first axis of the values as the inserted one
        values = moveaxis(values, 0, axis)
    flat = count_from_end(convert_type(ravel(obj), np.dtype(np.int32)), size)
    count = get_aval(values).shape[axis] if get_aval(flat).size == 1 else get_aval(flat).size
    flat = spread(flat, (count,))
    values = spread(values, (*shape[:axis], count, *shape[axis + 1 :]))
    # sort the union of old and new elements by position, new ones first
    both = lax.concatenate([arr, values], axis)
    keys = lax.concatenate([lax.add(lax.mul(lax.iota(np.int32, size), 2), 1), lax.mul(flat, 2)], 0)
    _, order = lax.sort((keys, lax.iota(np.int32, size + count)), num_keys=1)
    return gather_axis(both, order, axis)


def trim_zeros(filt, trim: str = "fb", axis: int | Sequence[int] | None = None):
    """Remove zeros at the ends of a concrete array.

    Args:
      filt: an array, not traced: the size of the result depends on its values.
      trim: "f": at the front, "b": at the back, "fb": both.
      axis: the axes to trim; None: all.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.trim_zeros(jnp.array([0, 1, 2, 0]))
      Array([1, 2], dtype=int32)
    """
    check_arraylike("trim_zeros", filt)
    values = concrete_or_error(np.asarray, filt, "Error arose in the `filt` argument of trim_zeros()")
    x = to_array(filt)
    if not values.ndim:
        return x
    axes = (
        range(values.ndim)
        if axis is None
        else [axis_index(a, values.ndim) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    )
    nonzero = np.nonzero(values)
    for a in axes:
        n = values.shape[a]
        low, high = (int(nonzero[a].min()), int(nonzero[a].max()) + 1) if nonzero[a].size else (n, n)
        if not nonzero[a].size and "f" not in trim.lower():
            low, high = 0, 0
        x = lax.slice_in_dim(x, low if "f" in trim.lower() else 0, high if "b" in trim.lower() else n, axis=a)
    return x
