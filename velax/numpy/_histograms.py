"""Counting: bincount and histograms."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._joining import stack
from velax.numpy._ranges import linspace
from velax.numpy._reductions import max as _max, min as _min, sum as _sum
from velax.numpy._selecting import _where, diff
from velax.numpy._shaping import ravel
from velax.numpy._sorting_searching import searchsorted
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact, to_array

__all__ = ["bincount", "histogram", "histogram2d", "histogram_bin_edges", "histogramdd"]


def _add_at(size: int, index, values):
    """Sums of ``values`` by index; indices outside ``[0, size)`` are dropped."""
    zeros = lax.full((size,), 0, get_aval(values).dtype)
    if get_aval(index).size == 0:
        return zeros
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,)
    )
    return lax.scatter_add(
        zeros,
        lax.reshape(index, (get_aval(index).size, 1)),
        lax.reshape(values, (get_aval(values).size,)),
        numbers,
        mode="drop",
    )


def bincount(x, weights=None, minlength: int = 0, *, length: int | None = None, out_sharding=None):
    """How often each integer occurs.

    Args:
      x: integers of one axis; negative ones count as 0.
      weights: what to add up instead of ones.
      minlength: the least length of the result.
      length: the static length of the result, needed while tracing; greater integers are dropped.

    Returns:
      An array whose element ``i`` counts the integers equal to ``i``.

    Raises:
      TypeError: for other dtypes.
      ConcretizationTypeError: while tracing without ``length``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bincount(jnp.array([1, 1, 3]))
      Array([0, 2, 0, 1], dtype=int32)
    """
    check_arraylike("bincount", x)
    x = to_array(x)
    aval = get_aval(x)
    if aval.dtype == np.bool_:
        x = convert_type(x, np.dtype(np.int32))
    elif not dtypes.is_integer(aval.dtype):
        raise TypeError(f"x argument to bincount must have an integer type; got {aval.dtype}")
    if aval.ndim != 1:
        raise ValueError(f"only 1-dimensional input supported; jnp.bincount got shape {aval.shape}")
    minlength = concrete_or_error(
        operator.index, minlength, "The error occurred because of argument 'minlength' of jnp.bincount."
    )
    if length is None:
        values = concrete_or_error(
            np.asarray,
            x,
            "The error occurred because of argument 'x' of jnp.bincount. To avoid this error, pass a static `length` "
            "argument.",
        )
        length = max(minlength, int(values.max()) + 1) if values.size else minlength
    else:
        length = concrete_or_error(
            operator.index, length, "The error occurred because of argument 'length' of jnp.bincount."
        )
    if weights is not None:
        check_arraylike("bincount", weights)
        if get_aval(weights).shape != aval.shape:
            raise ValueError(
                f"type of weights must match type of x: jnp.bincount got shapes {get_aval(weights).shape} and "
                f"{aval.shape}"
            )
    return _bincount(x, weights, length)


@compiled(static=("length",), inline=True)
def _bincount(x, weights, length):
    values = lax.full(get_aval(x).shape, 1, dtypes.default_int_dtype()) if weights is None else to_array(weights)
    return _add_at(length, lax.max(x, get_aval(x).dtype.type(0)), values)


# -- histograms ----------------------------------------------------------------------------------


def histogram_bin_edges(a, bins=10, range=None, weights=None):
    """The edges of the bins that `histogram` counts in.

    Args:
      a: the values.
      bins: how many bins of equal width, or their edges.
      range: the least and greatest edge; None: the least and greatest value.
      weights: ignored.

    Returns:
      An array of one axis.

    Raises:
      NotImplementedError: for the name of a rule.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.histogram_bin_edges(jnp.array([0., 1., 4.]), bins=2)
      Array([0., 2., 4.], dtype=float32)
    """
    del weights
    if isinstance(bins, str):
        raise NotImplementedError(
            f"string values for `bins` not implemented in jnp.histogram_bin_edges, got {bins!r}; give a number of "
            "bins, or edges such as those of numpy.histogram_bin_edges"
        )
    check_arraylike("histogram_bin_edges", a, bins)
    (a,) = promote_dtypes_inexact(to_array(a))
    dtype = get_aval(a).dtype
    if get_aval(to_array(bins)).ndim == 1:
        return convert_type(to_array(bins), dtype)
    count = concrete_or_error(operator.index, bins, "bins argument of histogram_bin_edges")
    if range is None:
        return _edges(a, None, count)
    low_high = asarray(range, dtype) if not isinstance(range, Array) else range
    if get_aval(low_high).shape != (2,):
        raise ValueError(f"`range` must be either None or a sequence of scalars, got shape {get_aval(low_high).shape}")
    return _edges(a, low_high, count)


@compiled(static=("count",))
def _edges(a, bounds, count):
    dtype = get_aval(a).dtype
    if bounds is not None:
        low, high = (convert_type(lax.index_in_dim(bounds, i, keepdims=False), dtype) for i in (0, 1))
    elif get_aval(a).size == 0:
        low, high = lax.full((), 0, dtype), lax.full((), 1, dtype)
    else:
        low, high = _min(a), _max(a)
    empty = lax.eq(high, low)
    half = dtype.type(0.5)
    low, high = lax.select(empty, lax.sub(low, half), low), lax.select(empty, lax.add(high, half), high)
    return linspace(low, high, count + 1, dtype=dtype)


def histogram(a, bins=10, range=None, weights=None, density: bool | None = None):
    """How many values lie in each bin.

    Args:
      a: the values.
      bins: how many bins of equal width, or their edges.
      range: the least and greatest edge; None: the least and greatest value.
      weights: what to add up instead of ones, of the shape of ``a``.
      density: whether to divide by the total and the width of the bins.

    Returns:
      A pair of the counts (floats) and the edges. The last bin contains its right edge.

    Raises:
      ValueError: if the shape of ``weights`` differs.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.histogram(jnp.array([1., 2., 2.]), bins=2)[0]
      Array([1., 2.], dtype=float32)
    """
    if weights is None:
        check_arraylike("histogram", a, bins)
        (a,) = promote_dtypes_inexact(to_array(a))
        weights = lax.full_like(a, 1)
    else:
        check_arraylike("histogram", a, bins, weights)
        if get_aval(a).shape != get_aval(weights).shape:
            raise ValueError(
                "weights should have the same shape as a in jnp.histogram, got shapes "
                f"{get_aval(weights).shape} and {get_aval(a).shape}"
            )
        a, weights = promote_dtypes_inexact(to_array(a), to_array(weights))
    edges = histogram_bin_edges(a, bins, range)
    return _histogram(a, weights, edges, bool(density)), edges


@compiled(static=("density",))
def _histogram(a, weights, edges, density):
    index = _bin_of(ravel(a), edges)
    counts = _add_at(get_aval(edges).size - 1, index, ravel(weights))
    if density:
        counts = lax.div(lax.div(counts, diff(edges)), _sum(counts))
    return counts


def _bin_of(values, edges):
    """The bin of each value; out of range for values outside. The last bin contains its right edge."""
    n = get_aval(edges).size - 1
    place = searchsorted(edges, values, side="right")
    dtype = get_aval(place).dtype
    last = lax.index_in_dim(edges, n, keepdims=False)
    place = lax.select(lax.eq(values, last), lax.full_like(place, n), place)
    # values before the first edge have place 0: they become an index beyond the end, which is dropped
    return lax.select(lax.eq(place, dtype.type(0)), lax.full_like(place, n + 1), lax.sub(place, dtype.type(1)))


def histogramdd(sample, bins=10, range: Sequence | None = None, weights=None, density: bool | None = None):
    """How many points lie in each cell of a grid.

    Args:
      sample: points, of shape (n, d), or a sequence of d arrays of shape (n,).
      bins: as in `histogram`, one for all axes or one for each.
      range: a pair or None for each axis, or None.
      weights: what to add up instead of ones, of shape (n,).
      density: whether to divide by the total and the volume of the cells.

    Returns:
      A pair of the counts, of d axes, and the list of edges.

    Raises:
      ValueError: if ``bins`` or ``range`` do not fit the number of axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.histogramdd(jnp.array([[0., 0.], [1., 1.]]), bins=2)[0]
      Array([[1, 0],
             [0, 1]], dtype=int32)
    """
    if isinstance(sample, (list, tuple)):
        check_arraylike("histogramdd", *sample)
        sample = stack(list(sample), axis=-1)
    if weights is None:
        check_arraylike("histogramdd", sample)
        (sample,) = promote_dtypes_inexact(to_array(sample))
    else:
        check_arraylike("histogramdd", sample, weights)
        sample, weights = promote_dtypes_inexact(to_array(sample), to_array(weights))
    if get_aval(sample).ndim != 2:
        raise ValueError(f"jnp.histogramdd: the sample must have shape (n, d), got {get_aval(sample).shape}")
    n, d = get_aval(sample).shape
    if weights is not None and get_aval(weights).shape != (n,):
        raise ValueError(
            "should have one weight for each sample in jnp.histogramdd, got weights of shape "
            f"{get_aval(weights).shape} for {n} samples"
        )
    if range is not None and (len(range) != d or any(r is not None and len(r) != 2 for r in range)):
        raise ValueError(f"For sample.shape={(n, d)}, range must be a sequence of {d} pairs or Nones; got {range=}")
    listed = list(bins) if isinstance(bins, (list, tuple)) or getattr(bins, "ndim", 0) >= 1 else [bins] * d
    if len(listed) != d:
        raise ValueError(f"should be a bin for each dimension in jnp.histogramdd, got {len(listed)} for {d} dimensions")
    edges = [
        histogram_bin_edges(lax.index_in_dim(sample, i, 1, keepdims=False), b, None if range is None else range[i])
        for i, b in enumerate(listed)
    ]
    return _histogramdd(sample, weights, edges, bool(density)), edges


@compiled(static=("density",))
def _histogramdd(sample, weights, edges, density):
    n, d = get_aval(sample).shape
    sizes = tuple(get_aval(e).size - 1 for e in edges)
    total = math.prod(sizes)
    flat, outside = None, None
    for i, e in enumerate(edges):
        index = _bin_of(lax.index_in_dim(sample, i, 1, keepdims=False), e)
        beyond = lax.ge(index, get_aval(index).dtype.type(sizes[i]))
        outside = beyond if outside is None else lax.bitwise_or(outside, beyond)
        flat = index if flat is None else lax.add(lax.mul(flat, get_aval(index).dtype.type(sizes[i])), index)
    flat = _where(outside, total, flat)
    weights = lax.full((n,), 1, dtypes.default_int_dtype()) if weights is None else weights
    counts = lax.reshape(_add_at(total, flat, weights), sizes)
    if density:
        (counts,) = promote_dtypes_inexact(counts)
        counts = lax.div(counts, _sum(counts))
        for i, e in enumerate(edges):
            counts = lax.div(counts, lax.expand_dims(diff(e), [j for j in range(d) if j != i]))
    return counts


def histogram2d(x, y, bins=10, range=None, weights=None, density: bool | None = None):
    """`histogramdd` of points in the plane.

    Args:
      x, y: coordinates, of shape (n,).
      bins: as in `histogramdd`; an array of edges serves both axes.
      range, weights, density: as in `histogramdd`.

    Returns:
      A triple of the counts and the edges along x and y.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.histogram2d(jnp.array([0., 1., 1.]), jnp.array([0., 0., 1.]), bins=2)[0]
      Array([[1, 0],
             [1, 1]], dtype=int32)
    """
    check_arraylike("histogram2d", x, y)
    if isinstance(bins, (list, tuple, Array, np.ndarray)) and getattr(bins, "ndim", 1):
        count = len(bins)
        if count not in (1, 2):
            bins = [asarray(bins), asarray(bins)]
        elif count == 1:
            bins = [bins[0], bins[0]]
    counts, (edges_x, edges_y) = histogramdd(stack([to_array(x), to_array(y)], axis=-1), bins, range, weights, density)
    return counts, edges_x, edges_y
