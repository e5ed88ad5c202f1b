"""Sets: distinct elements, unions, intersections, differences, membership."""

from __future__ import annotations

import operator
from typing import NamedTuple

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._joining import concatenate
from velax.numpy._selecting import _where
from velax.numpy._shaping import axis_index, gather_axis, moveaxis, ravel, spread
from velax.numpy._sorting_searching import searchsorted
from velax.numpy._util import check_arraylike, compiled, promote_dtypes, to_array

__all__ = [
    "intersect1d", "isin", "setdiff1d", "setxor1d", "union1d", "unique", "unique_all", "unique_counts",
    "unique_inverse", "unique_values",
]  # fmt: skip


def _size_hint(name: str) -> str:
    return (
        f"The size of the result of jnp.{name} depends on the values of its arguments, so that it cannot be traced "
        "without the argument size: pass a static "
        "size=, to which the result is cut or filled."
    )


def _static_size(size):
    return (
        None
        if size is None
        else concrete_or_error(
            operator.index, size, "The error arose for the size argument of a function on sets; it must be static."
        )
    )


# -- unique --------------------------------------------------------------------------------------


def unique(
    ar, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
    axis: int | None = None, *,
    equal_nan: bool = True, size: int | None = None, fill_value=None, sorted: bool = True,
):  # fmt: skip
    """The distinct elements of an array, sorted.

    Args:
      ar: an array.
      return_index: whether to return where each occurs first.
      return_inverse: whether to return which of the results each element of ``ar`` is.
      return_counts: whether to return how often each occurs.
      axis: the axis along which parts are compared; None: elements.
      equal_nan: whether NaNs count as one.
      size: the static number of results, needed while tracing; cut or filled to it.
      fill_value: with ``size``, what is filled in; None: the first result.
      sorted: ignored: the result is always sorted.

    Returns:
      An array, or a tuple of it and the further results asked for.

    Raises:
      ConcretizationTypeError: while tracing without ``size``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unique(jnp.array([3, 1, 3]))
      Array([1, 3], dtype=int32)
    """
    check_arraylike("unique", ar)
    ar = to_array(ar)
    size = _static_size(size)
    if size is None:
        concrete_or_error(None, ar, _size_hint("unique"))
    shape = get_aval(ar).shape
    along = (
        None
        if axis is None
        else axis_index(concrete_or_error(operator.index, axis, "The axis of jnp.unique must be static."), len(shape))
    )
    if along is None:
        rows = ravel(ar)
    else:
        rows = moveaxis(ar, along, 0)
    wanted = (True, return_index, return_inverse, return_counts)
    if get_aval(rows).shape[0] == 0 or 0 in get_aval(rows).shape:
        parts = _unique_of_nothing(rows, size, fill_value)
    else:
        ordered, mask, order = _sort_rows(rows, bool(equal_nan))
        count = int(np.asarray(mask).sum()) if size is None else size
        parts = _unique_parts(ordered, mask, order, fill_value, count)
    values, index, inverse, counts = parts
    if along is None:
        inverse = lax.reshape(inverse, shape)
    else:
        values = moveaxis(values, 0, along)
    out = tuple(x for x, want in zip((values, index, inverse, counts), wanted, strict=True) if want)
    return out[0] if len(out) == 1 else out


def _unique_of_nothing(rows, size, fill_value):
    """Of an array without elements: nothing, or what is filled in."""
    aval = get_aval(rows)
    n, index = aval.shape[0], dtypes.default_int_dtype()
    count = size if size is not None else min(n, 1)
    if count and n == 0 and fill_value is None:
        raise ValueError("jnp.unique: for zero-sized input with nonzero size argument, fill_value must be specified")
    values = lax.full((count, *aval.shape[1:]), 0 if fill_value is None else fill_value, aval.dtype)
    ones = lax.full((count,), 0, index) if n == 0 else convert_type(asarray([n] + [0] * (count - 1))[:count], index)
    return values, lax.full((count,), 0, index), lax.full((n,), 0, index), ones


@compiled(static=("equal_nan",))
def _sort_rows(rows, equal_nan):
    """Rows sorted, whether each differs from the one before it, and where it came from."""
    n = get_aval(rows).shape[0]
    index = dtypes.default_int_dtype()
    flat = lax.reshape(rows, (n, get_aval(rows).size // n))
    columns = [lax.index_in_dim(flat, i, 1, keepdims=False) for i in range(get_aval(flat).shape[1])]
    *columns, order = lax.sort((*columns, lax.iota(index, n)), dimension=0, num_keys=len(columns))
    changed = None
    for c in columns:
        now, last = lax.slice_in_dim(c, 1, n), lax.slice_in_dim(c, 0, n - 1)
        differs = lax.ne(now, last)
        if equal_nan and dtypes.is_inexact(get_aval(c).dtype):
            differs = lax.bitwise_and(differs, lax.bitwise_not(lax.bitwise_and(lax.ne(now, now), lax.ne(last, last))))
        changed = differs if changed is None else lax.bitwise_or(changed, differs)
    mask = lax.concatenate([lax.full((1,), True, np.bool_), changed], 0)
    ordered = lax.reshape(columns[0], (n,)) if get_aval(rows).ndim == 1 else gather_axis(rows, order, 0)
    return ordered, mask, order


def _positions(mask, count: int):
    """The first ``count`` positions where a mask holds; the mask's size where there are no more."""
    n = get_aval(mask).size
    index = dtypes.default_int_dtype()
    places = lax.sort(lax.select(mask, lax.iota(index, n), lax.full((n,), n, index)))
    if count <= n:
        return lax.slice_in_dim(places, 0, count)
    return lax.concatenate([places, lax.full((count - n,), n, index)], 0)


@compiled(static=("count",))
def _unique_parts(ordered, mask, order, fill_value, count):
    n = get_aval(mask).size
    index = dtypes.default_int_dtype()
    places = _positions(mask, count + 1)
    starts, ends = lax.slice_in_dim(places, 0, count), lax.slice_in_dim(places, 1, count + 1)
    missing = lax.eq(starts, index.type(n))
    safe = lax.select(missing, lax.full_like(starts, 0), starts)
    values = gather_axis(ordered, safe, 0)
    if fill_value is not None:
        fill = convert_type(asarray(fill_value), get_aval(values).dtype)
        shape = get_aval(values).shape
        values = lax.select(lax.broadcast_in_dim(missing, shape, (0,)), spread(fill, shape), values)
    groups = lax.sub(lax.cumsum(convert_type(mask, index)), index.type(1))
    inverse = lax.sort((order, groups), num_keys=1)[1]
    return values, gather_axis(order, safe, 0), inverse, lax.sub(ends, starts)


class _UniqueAllResult(NamedTuple):
    """What `unique_all` returns."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class _UniqueCountsResult(NamedTuple):
    """What `unique_counts` returns."""

    values: Array
    counts: Array


class _UniqueInverseResult(NamedTuple):
    """What `unique_inverse` returns."""

    values: Array
    inverse_indices: Array


def unique_all(x, /, *, size: int | None = None, fill_value=None):
    """The distinct elements, where each occurs first, which one each element is, and how often
    each occurs; NaNs all count. See `unique`.

    Args:
      x: an array.
      size, fill_value: as in `unique`.

    Returns:
      A named tuple of ``values``, ``indices``, ``inverse_indices`` and ``counts``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unique_all(jnp.array([3, 1, 3])).counts
      Array([1, 2], dtype=int32)
    """
    check_arraylike("unique_all", x)
    return _UniqueAllResult(*unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value))


def unique_counts(x, /, *, size: int | None = None, fill_value=None):
    """The distinct elements and how often each occurs; NaNs all count. See `unique`.

    Args:
      x: an array.
      size, fill_value: as in `unique`.

    Returns:
      A named tuple of ``values`` and ``counts``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unique_counts(jnp.array([3, 1, 3])).counts
      Array([1, 2], dtype=int32)
    """
    check_arraylike("unique_counts", x)
    return _UniqueCountsResult(*unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_inverse(x, /, *, size: int | None = None, fill_value=None):
    """The distinct elements and which one each element is; NaNs all count. See `unique`.

    Args:
      x: an array.
      size, fill_value: as in `unique`.

    Returns:
      A named tuple of ``values`` and ``inverse_indices``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unique_inverse(jnp.array([3, 1, 3])).inverse_indices
      Array([1, 0, 1], dtype=int32)
    """
    check_arraylike("unique_inverse", x)
    return _UniqueInverseResult(*unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_values(x, /, *, size: int | None = None, fill_value=None):
    """The distinct elements; NaNs all count. See `unique`.

    Args:
      x: an array.
      size, fill_value: as in `unique`.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unique_values(jnp.array([3, 1, 3]))
      Array([1, 3], dtype=int32)
    """
    check_arraylike("unique_values", x)
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


# -- membership ----------------------------------------------------------------------------------


def isin(element, test_elements, assume_unique: bool = False, invert: bool = False, *, method: str = "auto"):
    """Elementwise: whether an element is among others.

    Args:
      element: an array.
      test_elements: the elements to look for.
      assume_unique: ignored.
      invert: whether to ask for the opposite.
      method: "compare_all" (every pair), "binary_search" or "sort" (both in the sorted ``test_elements``), or "auto".

    Returns:
      Booleans of the shape of ``element``.

    Raises:
      ValueError: for an unknown method.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isin(jnp.array([1, 2, 3]), jnp.array([1, 3]))
      Array([ True, False,  True], dtype=bool)
    """
    check_arraylike("isin", element, test_elements)
    if method not in ("compare_all", "binary_search", "sort", "auto"):
        raise ValueError(
            f"{method=} is not implemented; options are 'compare_all', 'binary_search', 'sort', and 'auto'"
        )
    return _isin(element, test_elements, bool(invert), method)


@compiled(static=("invert", "method"))
def _isin(element, test_elements, invert, method):
    element, others = promote_dtypes(to_array(element), to_array(test_elements))
    others = ravel(others)
    shape, n = get_aval(element).shape, get_aval(others).size
    if n == 0 or 0 in shape:
        return lax.full(shape, invert, np.bool_)
    if method == "compare_all" or (method == "auto" and n <= 32):
        wide = (*shape, n)
        equal = lax.eq(
            lax.broadcast_in_dim(element, wide, range(len(shape))), lax.broadcast_in_dim(others, wide, (len(shape),))
        )
        found = lax.reduce_or(equal, (len(shape),))
    else:
        others = lax.sort(others)
        place = searchsorted(others, element, method="sort" if method == "sort" else "scan")
        found = lax.eq(gather_axis(others, lax.min(place, get_aval(place).dtype.type(n - 1)), 0), element)
    found = convert_type(found, np.dtype(np.bool_), False)
    return lax.bitwise_not(found) if invert else found


# -- operations on sets --------------------------------------------------------------------------


def union1d(ar1, ar2, *, size: int | None = None, fill_value=None):
    """The distinct elements of two arrays together, sorted; ``size`` and ``fill_value`` as in `unique`.

    Args:
      ar1, ar2: arrays.
      size, fill_value: as in `unique`.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.union1d(jnp.array([1, 2]), jnp.array([2, 3]))
      Array([1, 2, 3], dtype=int32)
    """
    check_arraylike("union1d", ar1, ar2)
    size = _static_size(size)
    if size is None:
        for x in (ar1, ar2):
            concrete_or_error(None, x, _size_hint("union1d"))
    both = concatenate([ravel(ar1), ravel(ar2)])
    return unique(both, size=size, fill_value=fill_value)


def _chosen(values, mask, size, fill, name: str):
    """The values where a mask holds, cut or filled to ``size``."""
    if size is None:
        indices = np.flatnonzero(concrete_or_error(np.asarray, mask, _size_hint(name)))
        return gather_axis(values, indices.astype(np.int32), 0)
    return _chosen_sized(values, mask, fill, size)


@compiled(static=("size",))
def _chosen_sized(values, mask, fill, size):
    n = get_aval(mask).size
    if n == 0:
        return lax.full((size,), fill, get_aval(values).dtype)
    places = _positions(mask, size)
    missing = lax.eq(places, get_aval(places).dtype.type(n))
    taken = gather_axis(values, lax.min(places, get_aval(places).dtype.type(n - 1)), 0)
    return _where(missing, convert_type(asarray(fill), get_aval(values).dtype), taken)


def setdiff1d(ar1, ar2, assume_unique: bool = False, *, size: int | None = None, fill_value=None):
    """The distinct elements of the first array that are not in the second, sorted.

    Args:
      ar1, ar2: arrays.
      assume_unique: that ``ar1`` has distinct elements: these are then kept in order.
      size, fill_value: a static size of the result, and what it is filled with (0 by default).

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.setdiff1d(jnp.array([1, 2, 3]), jnp.array([2]))
      Array([1, 3], dtype=int32)
    """
    check_arraylike("setdiff1d", ar1, ar2)
    size = _static_size(size)
    if size is None:
        for x in (ar1, ar2):
            concrete_or_error(None, x, _size_hint("setdiff1d"))
    values = ravel(ar1)
    fill = 0 if fill_value is None else fill_value
    if size is None:
        values = values if assume_unique else unique(values)
        return _chosen(values, isin(values, ar2, invert=True), None, fill, "setdiff1d")
    if get_aval(values).size == 0:
        return lax.full((size,), fill, get_aval(values).dtype)
    fresh = lax.full(get_aval(values).shape, True, np.bool_)
    if not assume_unique:
        values, fresh, _ = _sort_rows(values, True)
    return _chosen(values, lax.bitwise_and(fresh, isin(values, ar2, invert=True)), size, fill, "setdiff1d")


def setxor1d(ar1, ar2, assume_unique: bool = False, *, size: int | None = None, fill_value=None):
    """The distinct elements that are in one of two arrays but not both, sorted; ``size`` and
    ``fill_value`` as in `setdiff1d`.

    Args:
      ar1, ar2: arrays.
      assume_unique: whether both are without repetitions.
      size, fill_value: as in `unique`.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.setxor1d(jnp.array([1, 2]), jnp.array([2, 3]))
      Array([1, 3], dtype=int32)
    """
    check_arraylike("setxor1d", ar1, ar2)
    size = _static_size(size)
    if size is None:
        for x in (ar1, ar2):
            concrete_or_error(None, x, _size_hint("setxor1d"))
    a, b = promote_dtypes(ravel(ar1), ravel(ar2))
    fill = 0 if fill_value is None else fill_value
    if get_aval(a).size + get_aval(b).size == 0:
        return lax.full((size or 0,), fill, get_aval(a).dtype)
    everything = concatenate([a, b])
    ordered, mask, _ = _sort_rows(everything, True)
    alone = lax.bitwise_xor(isin(ordered, a), isin(ordered, b))
    if dtypes.is_inexact(get_aval(ordered).dtype):  # NaN is in neither, and stays
        alone = lax.bitwise_or(alone, lax.ne(ordered, ordered))
    return _chosen(ordered, lax.bitwise_and(mask, alone), size, fill, "setxor1d")


def intersect1d(
    ar1, ar2, assume_unique: bool = False, return_indices: bool = False, *, size: int | None = None, fill_value=None
):
    """The distinct elements that are in both arrays, sorted.

    Args:
      ar1, ar2: arrays.
      assume_unique: that both have distinct elements.
      return_indices: whether to return where each occurs first in both.
      size: the static number of results, or None.
      fill_value: with ``size``, what is filled in; None: the first result.

    Returns:
      An array, or a tuple of it and the indices into both arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.intersect1d(jnp.array([1, 2, 3]), jnp.array([3, 2, 5]))
      Array([2, 3], dtype=int32)
    """
    check_arraylike("intersect1d", ar1, ar2)
    size = _static_size(size)
    if size is None:
        for x in (ar1, ar2):
            concrete_or_error(None, x, _size_hint("intersect1d"))
    a, b = promote_dtypes(ravel(ar1), ravel(ar2))
    na, nb = get_aval(a).size, get_aval(b).size
    index = dtypes.default_int_dtype()
    if na == 0 or nb == 0:
        values = lax.full((size or 0,), 0 if fill_value is None else fill_value, get_aval(a).dtype)
        return (
            (values, lax.full((size or 0,), na, index), lax.full((size or 0,), nb, index)) if return_indices else values
        )
    ordered, mask, order = _sort_rows(a, True)
    other, _, other_order = _sort_rows(b, True)
    place = searchsorted(other, ordered)
    at = lax.min(place, get_aval(place).dtype.type(nb - 1))
    both = lax.bitwise_and(mask, lax.eq(gather_axis(other, at, 0), ordered))
    if size is None:
        where = np.flatnonzero(np.asarray(both)).astype(np.int32)
        values = gather_axis(ordered, where, 0)
        if not return_indices:
            return values
        return values, gather_axis(order, where, 0), gather_axis(other_order, gather_axis(at, where, 0), 0)
    places = _positions(both, size)
    missing = lax.eq(places, get_aval(places).dtype.type(na))
    safe = lax.min(places, get_aval(places).dtype.type(na - 1))
    values = gather_axis(ordered, safe, 0)
    first = lax.slice_in_dim(values, 0, 1) if size else values
    nothing = lax.slice_in_dim(missing, 0, 1) if size else missing
    if fill_value is None:
        fill = _where(nothing, convert_type(asarray(0), get_aval(values).dtype), first)
    else:
        fill = convert_type(asarray(fill_value), get_aval(values).dtype)
    values = _where(missing, fill, values)
    if not return_indices:
        return values
    ia = _where(missing, index.type(na), gather_axis(order, safe, 0))
    ib = _where(missing, index.type(nb), gather_axis(other_order, gather_axis(at, safe, 0), 0))
    return values, ia, ib
