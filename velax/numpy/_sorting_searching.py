"""Sorting, and searching in sorted arrays."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._shaping import axis_index, gather_axis, ravel
from velax.numpy._util import check_arraylike, compiled, promote_dtypes, to_array

__all__ = ["argpartition", "argsort", "digitize", "lexsort", "partition", "searchsorted", "sort", "sort_complex"]


def _check_kind(name: str, kind, order) -> None:
    if kind is not None:
        raise TypeError(
            f"'kind' argument to {name} is not supported. Use stable=True or stable=False to specify sort stability."
        )
    if order is not None:
        raise TypeError(f"'order' argument to {name} is not supported.")


@compiled(static=("axis", "kind", "order", "stable", "descending"))
def sort(a, axis: int | None = -1, *, kind=None, order=None, stable: bool = True, descending: bool = False):
    """Sort along an axis.

    Args:
      a: an array.
      axis: the axis; None: flatten first.
      kind, order: not supported.
      stable: whether equal elements keep their order (they always do).
      descending: whether to sort from the greatest.

    Returns:
      The sorted array; NaNs are last (first if ``descending``).

    Raises:
      ValueError: for an axis out of bounds.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.sort(jnp.array([3, 1, 2]))
      Array([1, 2, 3], dtype=int32)
    """
    check_arraylike("sort", a)
    _check_kind("sort", kind, order)
    if axis is None:
        a, axis = ravel(a), 0
    axis = axis_index(axis, get_aval(a).ndim)
    out = lax.sort(a, dimension=axis, is_stable=stable)
    return lax.rev(out, (axis,)) if descending else out


@compiled(static=("axis", "kind", "order", "stable", "descending", "dtype"))
def argsort(
    a, axis: int | None = -1, *, kind=None, order=None, stable: bool = True, descending: bool = False, dtype=None
):
    """The indices that sort an array along an axis.

    Args:
      a: an array.
      axis: the axis; None: flatten first.
      kind, order: not supported.
      stable: whether equal elements keep their order (they always do).
      descending: whether to sort from the greatest.
      dtype: the dtype of the indices; None: the default integer.

    Returns:
      An array of integers, of the shape of ``a``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.argsort(jnp.array([3, 1, 2]))
      Array([1, 2, 0], dtype=int32)
    """
    check_arraylike("argsort", a)
    _check_kind("argsort", kind, order)
    if axis is None:
        a, axis = ravel(a), 0
    axis = axis_index(axis, get_aval(a).ndim)
    shape = get_aval(a).shape
    index = dtypes.default_int_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "argsort")
    iota = lax.broadcasted_iota(index, shape, axis)
    if descending:  # from the end, so that equal elements keep their order when the result is turned around
        a, iota = lax.rev(a, (axis,)), lax.rev(iota, (axis,))
    _, indices = lax.sort((a, iota), dimension=axis, is_stable=stable, num_keys=1)
    return lax.rev(indices, (axis,)) if descending else indices


@compiled(static=("axis",))
def lexsort(keys, axis: int = -1):
    """The indices that sort by several keys, the last one first.

    Args:
      keys: a sequence of arrays of one shape, or an array whose parts along the first axis are the keys.
      axis: the axis to sort along.

    Returns:
      An array of integers.

    Raises:
      TypeError: without keys.
      ValueError: if the shapes differ.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.lexsort((jnp.array([1, 0, 2]), jnp.array([1, 1, 0])))
      Array([2, 1, 0], dtype=int32)
    """
    key_list = (
        [lax.index_in_dim(keys, i, keepdims=False) for i in range(get_aval(keys).shape[0])]
        if isinstance(keys, (Array, np.ndarray))
        else list(keys)
    )
    if not key_list:
        raise TypeError("need sequence of keys with len > 0 in lexsort")
    check_arraylike("lexsort", *key_list)
    key_list = [to_array(k) for k in key_list]
    if len({get_aval(k).shape for k in key_list}) > 1:
        raise ValueError(
            f"all keys need to be the same shape in lexsort, got {', '.join(str(get_aval(k).shape) for k in key_list)}"
        )
    index = dtypes.default_int_dtype()
    if get_aval(key_list[0]).ndim == 0:
        return lax.full((), 0, index)
    axis = axis_index(axis, get_aval(key_list[0]).ndim)
    iota = lax.broadcasted_iota(index, get_aval(key_list[0]).shape, axis)
    return lax.sort((*key_list[::-1], iota), dimension=axis, num_keys=len(key_list))[-1]


@compiled
def sort_complex(a):
    """The elements as complex numbers, sorted along the last axis by real, then imaginary part.

    Args:
      a: an array.

    Returns:
      An array of complex numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.sort_complex(jnp.array([2, 1 + 1j, 1]))
      Array([1.+0.j, 1.+1.j, 2.+0.j], dtype=complex64)
    """
    check_arraylike("sort_complex", a)
    return lax.sort(convert_type(a, dtypes.to_complex_dtype(get_aval(a).dtype), False), dimension=-1)


def _check_kth(name: str, a, kth, axis):
    check_arraylike(name, a)
    if dtypes.is_complex(get_aval(a).dtype):
        raise NotImplementedError(f"jnp.{name} for complex dtype is not implemented.")
    axis = axis_index(axis, get_aval(a).ndim)
    return axis, axis_index(kth, get_aval(a).shape[axis])


@compiled(static=("kth", "axis"))
def partition(a, kth: int, axis: int = -1):
    """Rearrange along an axis: before the element that would be at ``kth`` if sorted are those not
    greater, after it those not less.

    Args:
      a: an array of real numbers.
      kth: the position.
      axis: the axis.

    Returns:
      The array with the elements in such an order (here: sorted).

    Raises:
      ValueError: for a position or axis out of bounds.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.partition(jnp.array([3, 1, 2]), 0)[0]
      Array(1, dtype=int32)
    """
    axis, _ = _check_kth("partition", a, kth, axis)
    return lax.sort(a, dimension=axis)


@compiled(static=("kth", "axis"))
def argpartition(a, kth: int, axis: int = -1):
    """The indices that partition an array; see `partition`.

    Args:
      a: an array.
      kth: the place that is right.
      axis: the axis.

    Returns:
      An array of integers, of the shape of ``a``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.argpartition(jnp.array([3, 1, 2]), 0)[0]
      Array(1, dtype=int32)
    """
    axis, _ = _check_kth("argpartition", a, kth, axis)
    iota = lax.broadcasted_iota(dtypes.default_int_dtype(), get_aval(a).shape, axis)
    return lax.sort((a, iota), dimension=axis, num_keys=1)[1]


# -- searchsorted --------------------------------------------------------------------------------

_METHODS = ("compare_all", "scan", "scan_unrolled", "sort")


def searchsorted(a, v, side: str = "left", sorter=None, *, method: str = "scan"):
    """Where to insert values into a sorted array.

    Args:
      a: a sorted array of one axis; NaNs last.
      v: the values.
      side: "left": before equal elements, "right": after them.
      sorter: the indices that sort ``a``, if it is not sorted.
      method: how: "scan" and "scan_unrolled" (binary search), "compare_all" (compares every pair) or "sort".

    Returns:
      Integers of the shape of ``v``.

    Raises:
      ValueError: if ``a`` has not one axis, for an unknown side or method.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.searchsorted(jnp.array([1, 3, 5]), jnp.array([3, 4]))
      Array([1, 2], dtype=int32)
    """
    check_arraylike("searchsorted", a, v, *(() if sorter is None else (sorter,)))
    if side not in ("left", "right"):
        raise ValueError(f"invalid argument {side=}, expected 'left' or 'right'")
    if method not in _METHODS:
        raise ValueError(f"invalid argument {method=}, expected one of {list(_METHODS)}")
    if get_aval(to_array(a)).ndim != 1:
        raise ValueError(f"a should be 1-dimensional in searchsorted, got shape {get_aval(to_array(a)).shape}")
    return _searchsorted(a, v, sorter, side, method)


def before(a, b, *, equal: bool):
    """Elementwise ``a < b`` (``a <= b`` if ``equal``) in sorting order: NaNs last, complex
    numbers by real, then imaginary part.
    """
    dtype = get_aval(a).dtype
    if dtypes.is_complex(dtype):
        # any part NaN makes a number the last
        nan_a, nan_b = lax.ne(a, a), lax.ne(b, b)
        (ra, ia), (rb, ib) = ((lax.real(z), lax.imag(z)) for z in (a, b))
        inside = lax.bitwise_or(
            lax.lt(ra, rb), lax.bitwise_and(lax.eq(ra, rb), lax.le(ia, ib) if equal else lax.lt(ia, ib))
        )
        beyond = nan_b if equal else lax.bitwise_and(nan_b, lax.bitwise_not(nan_a))
        return lax.bitwise_or(lax.bitwise_and(inside, lax.bitwise_not(lax.bitwise_or(nan_a, nan_b))), beyond)
    out = lax.le(a, b) if equal else lax.lt(a, b)
    if dtypes.is_floating(dtype):
        nan_b = lax.ne(b, b)
        out = lax.bitwise_or(out, nan_b if equal else lax.bitwise_and(nan_b, lax.eq(a, a)))
    return out


@compiled(static=("side", "method"))
def _searchsorted(a, v, sorter, side, method):
    a, v = promote_dtypes(to_array(a), to_array(v))
    if sorter is not None:
        a = gather_axis(a, sorter, 0)
    n, shape = get_aval(a).size, get_aval(v).shape
    index = np.dtype(np.int32 if n <= np.iinfo(np.int32).max else np.int64)
    if n == 0 or 0 in shape:
        return lax.full(shape, 0, index)
    equal = side == "right"
    if method == "compare_all":
        wide = (*shape, n)
        below = before(
            lax.broadcast_in_dim(a, wide, (len(shape),)), lax.broadcast_in_dim(v, wide, range(len(shape))), equal=equal
        )
        return lax.reduce_sum(convert_type(below, index), (len(shape),))
    if method == "sort":
        return _by_sorting(a, v, equal, index)
    return _binary_search(a, v, equal, index, method == "scan_unrolled")


def _by_sorting(a, v, equal, index):
    """The rank of each value in the sorted union, less the values before it."""
    flat = lax.reshape(v, (get_aval(v).size,))
    n, m = get_aval(a).size, get_aval(flat).size
    both = lax.concatenate([a, flat] if equal else [flat, a], 0)
    _, order = lax.sort((both, lax.iota(index, n + m)), num_keys=1)
    start = n if equal else 0
    is_value = lax.bitwise_and(lax.ge(order, start), lax.lt(order, start + m))
    count = lax.cumsum(convert_type(lax.bitwise_not(is_value), index))
    # back into the order of the values: sort by where each came from
    _, ranks = lax.sort((order, count), num_keys=1)
    return lax.reshape(lax.slice_in_dim(ranks, start, start + m), get_aval(v).shape)


def _binary_search(a, v, equal, index, unrolled):
    n, shape = get_aval(a).size, get_aval(v).shape

    def step(_, bounds):
        low, high = bounds
        middle = lax.div(lax.add(low, high), index.type(2))
        go_right = before(gather_axis(a, lax.min(middle, index.type(n - 1)), 0), v, equal=equal)
        live = lax.lt(low, high)
        right = lax.bitwise_and(go_right, live)
        left = lax.bitwise_and(lax.bitwise_not(go_right), live)
        return lax.select(right, lax.add(middle, index.type(1)), low), lax.select(left, middle, high)

    bounds = lax.full(shape, 0, index), lax.full(shape, n, index)
    steps = n.bit_length()  # enough to narrow [0, n] to one place
    if unrolled:
        for i in range(steps):
            bounds = step(i, bounds)
        return bounds[0]
    return lax.fori_loop(0, steps, step, bounds)[0]


def digitize(x, bins, right: bool = False, *, method: str | None = None):
    """The bin of each value.

    Args:
      x: the values.
      bins: the edges, increasing or decreasing, of one axis.
      right: whether bins contain their right edge rather than their left one.
      method: of `searchsorted`.

    Returns:
      Integers: the number of edges before each value.

    Raises:
      ValueError: if ``bins`` has not one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.digitize(jnp.array([0.5, 2.5]), jnp.array([1., 2., 3.]))
      Array([0, 2], dtype=int32)
    """
    check_arraylike("digitize", x, bins)
    if get_aval(to_array(bins)).ndim != 1:
        raise ValueError(f"digitize: bins must be a 1-dimensional array; got {bins=}")
    return _digitize(x, bins, bool(right), method or "scan")


@compiled(static=("right", "method"))
def _digitize(x, bins, right, method):
    n = get_aval(bins).size
    if n == 0:
        return lax.full(get_aval(x).shape, 0, np.int32)
    first, last = (lax.index_in_dim(bins, i, keepdims=False) for i in (0, n - 1))
    increasing = lax.ge(last, first)
    side = "left" if right else "right"
    up = searchsorted(bins, x, side=side, method=method)
    down = searchsorted(lax.rev(bins, (0,)), x, side=side, method=method)
    return lax.select(increasing, up, lax.sub(get_aval(up).dtype.type(n), down))
