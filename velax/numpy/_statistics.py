"""Order statistics, and reductions that ignore NaNs."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._cumulative import cumprod, cumsum
from velax.numpy._reductions import (
    _argmax,
    _argmin,
    _reduce_max,
    _reduce_min,
    _var,
    all,
    mask_of,
    mean,
    prod,
    reduced_axes,
    static_axes,
    sum,
    wide_dtype,
)
from velax.numpy._selecting import _where
from velax.numpy._shaping import gather_axis, no_out, spread
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact, to_array

__all__ = [
    "median", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin",
    "nanpercentile", "nanprod",
    "nanquantile", "nanstd", "nansum", "nanvar", "percentile", "quantile",
]  # fmt: skip


# -- quantiles -----------------------------------------------------------------------------------

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest", "inverted_cdf")


def quantile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights=None,
):
    """The values below which given fractions of the elements lie.

    Args:
      a: an array of real numbers.
      q: the fractions in [0, 1]: a number or an array of one axis.
      axis: an axis or a tuple of them; None: all.
      out, overwrite_input: not supported.
      method: what to do between two elements: "linear", "lower", "higher", "midpoint", "nearest"; or "inverted_cdf".
      keepdims: whether reduced axes stay, with size 1.
      weights: weights of the elements, with method "inverted_cdf" only.

    Returns:
      An array with the axis of ``q``, if it has one, in front; NaN where an element is NaN.

    Raises:
      ValueError: for complex numbers, an unknown method, or ``q`` of more than one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.quantile(jnp.array([1., 2., 3., 4.]), 0.5)
      Array(2.5, dtype=float32)
    """
    return _checked("quantile", a, q, axis, out, overwrite_input, method, keepdims, weights)


def nanquantile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights=None,
):
    """`quantile` of the elements that are not NaN; NaN where there are none.

    Args:
      a: an array of real numbers.
      q, axis, method, keepdims, weights: as in `quantile`.
      out, overwrite_input: not supported.

    Returns:
      An array of floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanquantile(jnp.array([2., jnp.nan, 3.]), 0.5)
      Array(2.5, dtype=float32)
    """
    return _checked("nanquantile", a, q, axis, out, overwrite_input, method, keepdims, weights)


def percentile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights=None,
    out_sharding=None,
):
    """`quantile` with the fractions given in percent.

    Args:
      a: an array of real numbers.
      q: percentages: a number or an array of one axis.
      axis, method, keepdims, weights: as in `quantile`.
      out, overwrite_input: not supported.

    Returns:
      An array of floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.percentile(jnp.array([1., 2., 3.]), 50)
      Array(2., dtype=float32)
    """
    return _checked("percentile", a, q, axis, out, overwrite_input, method, keepdims, weights)


def nanpercentile(
    a,
    q,
    axis=None,
    out=None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights=None,
):
    """`percentile` of the elements that are not NaN.

    Args:
      a: an array of real numbers.
      q: percentages: a number or an array of one axis.
      axis, method, keepdims, weights: as in `quantile`.
      out, overwrite_input: not supported.

    Returns:
      An array of floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanpercentile(jnp.array([2., jnp.nan, 3.]), 50)
      Array(2.5, dtype=float32)
    """
    return _checked("nanpercentile", a, q, axis, out, overwrite_input, method, keepdims, weights)


def median(a, axis=None, out=None, overwrite_input: bool = False, keepdims: bool = False):
    """The middle element, or the mean of the two middle ones; arguments as `quantile`.

    Args:
      a: an array of real numbers.
      axis, keepdims: as in `quantile`.
      out, overwrite_input: not supported.

    Returns:
      An array of floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.median(jnp.array([1., 4., 2.]))
      Array(2., dtype=float32)
    """
    return _checked("median", a, 0.5, axis, out, overwrite_input, "midpoint", keepdims, None)


def nanmedian(a, axis=None, out=None, overwrite_input: bool = False, keepdims: bool = False):
    """`median` of the elements that are not NaN.

    Args:
      a: an array of real numbers.
      axis, keepdims: as in `quantile`.
      out, overwrite_input: not supported.

    Returns:
      An array of floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanmedian(jnp.array([2., jnp.nan, 3.]))
      Array(2.5, dtype=float32)
    """
    return _checked("nanmedian", a, 0.5, axis, out, overwrite_input, "midpoint", keepdims, None)


def _checked(name: str, a, q, axis, out, overwrite_input, method, keepdims, weights):
    check_arraylike(name, a, q)
    if overwrite_input or out is not None:
        # JAX names the function that it calls for a median
        lead = f"jax.numpy.{name.replace('median', 'quantile')} does not support overwrite_input=True or out != None"
        raise ValueError(f"{lead}: jnp.{name} returns a new array")
    if method not in _METHODS:
        raise ValueError("method can only be 'linear', 'lower', 'higher', 'midpoint', 'nearest' or 'inverted_cdf'")
    if weights is not None and method != "inverted_cdf":
        raise NotImplementedError(
            f"{method} doesn't support weights. Only method 'inverted_cdf' supports weights: pass it to jnp.{name}."
        )
    return _quantile(a, q, static_axes(axis), method, bool(keepdims), weights, name)


@compiled(static=("axis", "method", "keepdims", "name"))
def _quantile(a, q, axis, method, keepdims, weights, name):
    (a,) = promote_dtypes_inexact(to_array(a))
    q, dtype = to_array(q), get_aval(a).dtype
    if dtypes.is_complex(dtype):
        raise ValueError(f"{name} does not support complex input, as the operation is poorly defined.")
    if get_aval(q).ndim > 1:
        raise ValueError(f"q must be have rank <= 1, got shape {get_aval(q).shape}")
    shape = get_aval(a).shape
    axes = reduced_axes(axis, len(shape))
    # the elements to sort go into one last axis
    kept = [i for i in range(len(shape)) if i not in axes]
    lead = tuple(shape[i] for i in kept)
    n = int(np.prod([shape[i] for i in axes], dtype=np.int64))
    if n == 0:
        raise ValueError(f"jnp.{name} of no elements: shape {shape}, axis {axis}")
    rows = lambda x: lax.reshape(lax.transpose(x, [*kept, *axes]), (*lead, n))
    if weights is not None:
        weights = rows(_spread_weights(asarray(weights), shape, axes))
    a = rows(a)
    work = wide_dtype(dtype)
    isnan, skip_nans = _isnan(a), name.startswith("nan")
    last = len(lead)
    if skip_nans:
        count = lax.reduce_sum(convert_type(lax.bitwise_not(isnan), work), (last,))
    else:
        lost = lax.broadcast_in_dim(lax.reduce_or(isnan, (last,)), (*lead, n), range(last))
        a = lax.select(lost, lax.full_like(a, np.nan), a)
        count = lax.full(lead, n, work)
    vector = get_aval(q).ndim == 1
    q = lax.reshape(convert_type(q, work), (get_aval(q).size,))
    if name.endswith("percentile"):
        q = lax.div(q, work.type(100))
    m = get_aval(q).size
    # along the last axis from here on: m results for each row
    q = lax.broadcast_in_dim(q, (*lead, m), (last,))
    count = lax.broadcast_in_dim(count, (*lead, m), range(last))
    if weights is not None:
        out = _weighted(a, weights, q, isnan if skip_nans else None, last)
    else:
        out = _interpolated(lax.sort(a, dimension=last), q, count, method, last, work)
    out = convert_type(out, dtype, False)
    # axes of the result: q, then those of a
    out = lax.transpose(out, (last, *range(last)))
    if keepdims:
        out = lax.reshape(out, (m, *(1 if i in axes else size for i, size in enumerate(shape))))
    return out if vector else lax.squeeze(out, (0,))


def _take_rows(x, index, last: int):
    """``x`` at indices along the last axis, row by row."""
    if last == 0:
        return gather_axis(x, index, 0)
    shape = get_aval(index).shape
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(), collapsed_slice_dims=(last,), start_index_map=(last,), operand_batching_dims=tuple(range(last)),
        start_indices_batching_dims=tuple(range(last)),
    )  # fmt: skip
    vectors = lax.broadcast_in_dim(index, (*shape, 1), range(len(shape)))
    if 0 in shape:
        return lax.full(shape, 0, get_aval(x).dtype)
    return lax.gather(x, vectors, numbers, (1,) * (last + 1), mode="clip")


def _interpolated(ordered, q, count, method, last, work):
    top = lax.max(lax.sub(count, work.type(1)), work.type(0))
    index = lambda v: convert_type(
        lax.clamp(work.type(0), v, top) if get_aval(v).shape == () else lax.max(lax.min(v, top), work.type(0)),
        np.dtype(np.int32),
    )
    at = lambda v: convert_type(_take_rows(ordered, index(v), last), work)
    if method == "inverted_cdf":
        return at(lax.sub(lax.ceil(lax.mul(q, count)), work.type(1)))
    place = lax.mul(q, lax.sub(count, work.type(1)))
    low, high = lax.floor(place), lax.ceil(place)
    if method == "lower":
        return at(low)
    if method == "higher":
        return at(high)
    part = lax.sub(place, low)
    if method == "nearest":  # as in JAX, the lower of two that are as near
        return at(lax.select(lax.le(part, work.type(0.5)), low, high))
    below, above = at(low), at(high)
    if method == "midpoint":
        return lax.mul(lax.add(below, above), work.type(0.5))
    return lax.add(lax.mul(below, lax.sub(work.type(1), part)), lax.mul(above, part))


def _spread_weights(weights, shape, axes):
    have = get_aval(weights).shape
    if have == shape:
        return weights
    if have != tuple(shape[i] for i in axes):
        raise ValueError(
            f"jnp.quantile: weights must have the shape of a or its sizes along axis; got {have}, a has shape "
            f"{shape}, axis is {axes}"
        )
    return lax.broadcast_in_dim(lax.transpose(weights, np.argsort(axes)), shape, sorted(axes))


def _weighted(a, weights, q, skipped, last):
    """The first element at which the cumulative share of weights reaches ``q``."""
    work = get_aval(q).dtype
    weights = convert_type(weights, work)
    if skipped is not None:
        weights = lax.select(skipped, lax.full_like(weights, 0), weights)
    ordered, weights = lax.sort((a, weights), dimension=last, num_keys=1)
    total = lax.cumsum(weights, last)
    n, m = get_aval(a).shape[-1], get_aval(q).shape[-1]
    lead = get_aval(a).shape[:-1]
    goal = lax.mul(
        q, lax.broadcast_in_dim(lax.index_in_dim(total, n - 1, last, keepdims=False), get_aval(q).shape, range(last))
    )
    wide = (*lead, m, n)
    below = lax.lt(
        lax.broadcast_in_dim(total, wide, (*range(last), last + 1)), lax.broadcast_in_dim(goal, wide, range(last + 1))
    )
    index = lax.reduce_sum(convert_type(below, np.dtype(np.int32)), (last + 1,))
    # elements of no weight at the front are never reached
    empty = lax.le(lax.broadcast_in_dim(total, wide, (*range(last), last + 1)), work.type(0))
    index = lax.max(index, lax.reduce_sum(convert_type(empty, np.dtype(np.int32)), (last + 1,)))
    return convert_type(_take_rows(ordered, lax.min(index, np.int32(n - 1)), last), work)


# -- without NaNs --------------------------------------------------------------------------------


def _isnan(a):
    return lax.ne(a, a)


def _can_be_nan(a) -> bool:
    return dtypes.is_inexact(get_aval(a).dtype)


_names = ("axis", "dtype", "keepdims")


def nansum(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None):
    """`sum` of the elements that are not NaN.

    Args:
      a: an array.
      axis, dtype, keepdims, initial, where: as in `sum`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nansum(jnp.array([2., jnp.nan, 3.]))
      Array(5., dtype=float32)
    """
    no_out("nansum", out)
    return _nan_total(a, static_axes(axis), dtype, bool(keepdims), initial, where, "nansum")


def nanprod(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None):
    """`prod` of the elements that are not NaN.

    Args:
      a: an array.
      axis, dtype, keepdims, initial, where: as in `prod`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanprod(jnp.array([2., jnp.nan, 3.]))
      Array(6., dtype=float32)
    """
    no_out("nanprod", out)
    return _nan_total(a, static_axes(axis), dtype, bool(keepdims), initial, where, "nanprod")


@compiled(static=(*_names, "name"), inline=True)
def _nan_total(a, axis, dtype, keepdims, initial, where, name):
    check_arraylike(name, a)
    total, neutral = (sum, 0) if name == "nansum" else (prod, 1)
    if _can_be_nan(a):
        a = _where(_isnan(a), neutral, a)
    return total(a, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where)


def nanmax(a, axis=None, out=None, keepdims=False, initial=None, where=None):
    """`max` of the elements that are not NaN; NaN where there are none.

    Args:
      a: an array.
      axis, keepdims, initial, where: as in `max`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanmax(jnp.array([2., jnp.nan, 3.]))
      Array(3., dtype=float32)
    """
    no_out("nanmax", out)
    return _nan_extremum(a, static_axes(axis), bool(keepdims), initial, where, "nanmax")


def nanmin(a, axis=None, out=None, keepdims=False, initial=None, where=None):
    """`min` of the elements that are not NaN; NaN where there are none.

    Args:
      a: an array.
      axis, keepdims, initial, where: as in `max`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanmin(jnp.array([2., jnp.nan, 3.]))
      Array(2., dtype=float32)
    """
    no_out("nanmin", out)
    return _nan_extremum(a, static_axes(axis), bool(keepdims), initial, where, "nanmin")


@compiled(static=("axis", "keepdims", "name"), inline=True)
def _nan_extremum(a, axis, keepdims, initial, where, name):
    check_arraylike(name, a)
    reduce, start = (_reduce_max, dtypes.least) if name == "nanmax" else (_reduce_min, dtypes.greatest)
    if not _can_be_nan(a):
        return reduce(a, axis, keepdims, initial, where)
    a = to_array(a)
    lost = _isnan(a)
    out = reduce(
        _where(lost, convert_type(asarray(start(get_aval(a).dtype)), get_aval(a).dtype), a),
        axis,
        keepdims,
        initial,
        where,
    )
    if initial is not None:
        return out
    none = (
        all(lost, axis=axis, keepdims=keepdims)
        if where is None
        else all(lost, axis=axis, keepdims=keepdims, where=where)
    )
    return _where(none, convert_type(asarray(np.nan), get_aval(a).dtype), out)


def nanargmax(a, axis=None, out=None, keepdims=None):
    """`argmax` of the elements that are not NaN; -1 where there are none.

    Args:
      a: an array.
      axis, keepdims: as in `argmax`.
      out: not supported.

    Returns:
      An array of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanargmax(jnp.array([1., jnp.nan, 3.]))
      Array(2, dtype=int32)
    """
    no_out("nanargmax", out)
    return _nan_arg(a, None if axis is None else static_axes(axis), bool(keepdims), "nanargmax")


def nanargmin(a, axis=None, out=None, keepdims=None):
    """`argmin` of the elements that are not NaN; -1 where there are none.

    Args:
      a: an array.
      axis, keepdims: as in `argmin`.
      out: not supported.

    Returns:
      An array of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanargmin(jnp.array([2., jnp.nan, 1.]))
      Array(2, dtype=int32)
    """
    no_out("nanargmin", out)
    return _nan_arg(a, None if axis is None else static_axes(axis), bool(keepdims), "nanargmin")


@compiled(static=("axis", "keepdims", "name"), inline=True)
def _nan_arg(a, axis, keepdims, name):
    check_arraylike(name, a)
    find, start = (_argmax, -np.inf) if name == "nanargmax" else (_argmin, np.inf)
    if not _can_be_nan(a):
        return find(a, axis, keepdims)
    lost = _isnan(a)
    index = find(_where(lost, start, a), axis, keepdims)
    return _where(all(lost, axis=axis, keepdims=keepdims), -1, index)


def nanmean(a, axis=None, dtype=None, out=None, keepdims=False, where=None):
    """`mean` of the elements that are not NaN; NaN where there are none.

    Args:
      a: an array.
      axis, dtype, keepdims, where: as in `mean`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanmean(jnp.array([2., jnp.nan, 3.]))
      Array(2.5, dtype=float32)
    """
    no_out("nanmean", out)
    return _nanmean(a, static_axes(axis), dtype, bool(keepdims), where)


@compiled(static=_names, inline=True)
def _nanmean(a, axis, dtype, keepdims, where):
    check_arraylike("nanmean", a)
    own = get_aval(a).dtype
    if own == np.bool_ or dtypes.is_integer(own):
        return mean(a, axis, dtype, keepdims=keepdims, where=where)
    valid = _valid("nanmean", a, where)
    return mean(_where(valid, a, 0), axis, dtype, keepdims=keepdims, where=valid)


def _valid(name, a, where):
    """Which elements count: those not NaN, and in ``where``."""
    valid = lax.bitwise_not(_isnan(a))
    if where is None:
        return valid
    return lax.bitwise_and(valid, spread(mask_of(name, where), get_aval(a).shape))


def nanvar(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, where=None, mean=None):
    """`var` of the elements that are not NaN; NaN where too few are left.

    Args:
      a: an array.
      axis, dtype, ddof, keepdims, where, mean: as in `var`.
      out: not supported.

    Returns:
      An array of real numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanvar(jnp.array([1., jnp.nan, 3.]))
      Array(1., dtype=float32)
    """
    no_out("nanvar", out)
    dtype = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "nanvar")
    return _nanvar(a, static_axes(axis), dtype, ddof, bool(keepdims), where, mean)


@compiled(static=_names)
def _nanvar(a, axis, dtype, ddof, keepdims, where, mean):
    check_arraylike("nanvar", a)
    if _can_be_nan(a):
        where = _valid("nanvar", a, where)
        a = _where(where, a, 0)
    out = _var(a, axis, dtype, ddof, keepdims, where, mean)
    return out if dtype is None else convert_type(out, dtype, False)


def nanstd(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, where=None, mean=None):
    """The square root of `nanvar`.

    Args:
      a: an array.
      axis, dtype, ddof, keepdims, where, mean: as in `var`.
      out: not supported.

    Returns:
      An array of real numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nanstd(jnp.array([1., jnp.nan, 3.]))
      Array(1., dtype=float32)
    """
    no_out("nanstd", out)
    dtype = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "nanstd")
    return _nanstd(a, static_axes(axis), dtype, ddof, bool(keepdims), where, mean)


@compiled(static=_names)
def _nanstd(a, axis, dtype, ddof, keepdims, where, mean):
    return lax.sqrt(_nanvar(a, axis, dtype, ddof, keepdims, where, mean))


@compiled(static=("axis", "dtype"))
def nancumsum(a, axis=None, dtype=None, out=None):
    """`cumsum`, NaNs counting as zero.

    Args:
      a: an array.
      axis, dtype: as in `cumsum`.
      out: not supported.

    Returns:
      An array of the shape of ``a``, or of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nancumsum(jnp.array([2., jnp.nan, 3.]))
      Array([2., 2., 5.], dtype=float32)
    """
    no_out("nancumsum", out)
    check_arraylike("nancumsum", a)
    return cumsum(_where(_isnan(a), 0, a) if _can_be_nan(a) else a, axis, dtype)


@compiled(static=("axis", "dtype"))
def nancumprod(a, axis=None, dtype=None, out=None):
    """`cumprod`, NaNs counting as one.

    Args:
      a: an array.
      axis, dtype: as in `cumsum`.
      out: not supported.

    Returns:
      An array of the shape of ``a``, or of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nancumprod(jnp.array([2., jnp.nan, 3.]))
      Array([2., 2., 6.], dtype=float32)
    """
    no_out("nancumprod", out)
    check_arraylike("nancumprod", a)
    return cumprod(_where(_isnan(a), 1, a) if _can_be_nan(a) else a, axis, dtype)
