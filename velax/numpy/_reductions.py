"""Reductions over axes, and cumulative ones."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import true_divide
from velax.numpy._selecting import _where
from velax.numpy._shaping import axis_index, no_out, ravel, spread
from velax.numpy._util import (
    check_arraylike,
    check_arraylike_or_none,
    compiled,
    promote_dtypes_inexact,
    to_array,
)

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "max", "mean", "min", "prod",
    "ptp", "std", "sum", "var",
]  # fmt: skip


# -- the reduction -------------------------------------------------------------------------------


def static_axes(axis):
    """An axis argument as something hashable: None, an int or a tuple of ints."""
    if axis is None or type(axis) is int:
        return axis
    if isinstance(axis, (tuple, list)):
        return tuple(concrete_or_error(int, a, "The axis of a reduction must be static.") for a in axis)
    if isinstance(axis, np.ndarray) and axis.ndim:
        return tuple(int(a) for a in axis)
    try:
        return concrete_or_error(lambda a: a.__index__(), axis, "The axis of a reduction must be static.")
    except AttributeError:
        raise TypeError(
            f"the axis of a reduction must be None, an integer or a tuple of integers, got {axis!r}"
        ) from None


def reduced_axes(axis, ndim: int) -> tuple[int, ...]:
    """The axes of a reduction, non-negative."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis_index(a, ndim) for a in axis) if isinstance(axis, tuple) else (axis_index(axis, ndim),)
    if len(set(axes)) != len(axes):
        raise ValueError(f"duplicate value in 'axis': {axis}")
    return axes


def mask_of(name: str, where):
    """A ``where`` argument as an array.

    Raises:
      ValueError: if it is not of booleans.
    """
    check_arraylike(name, where)
    where = to_array(where)
    dtype = get_aval(where).dtype
    if dtype != np.bool_:
        raise ValueError(
            f"jnp.{name}: where must be None or a boolean array; got where.dtype={dtype!r}. Compare it: where != 0"
        )
    return where


def wide_dtype(dtype):
    """The dtype in which float16 and bfloat16 (and narrower floats) are accumulated: float32."""
    return np.dtype(np.float32) if dtypes.is_floating(dtype) and dtypes.itemsize_bits(dtype) < 32 else dtype


def integer_sum_dtype(dtype):
    """The default integer dtype of the kind: what sums and products of integers and booleans have."""
    if dtypes.is_unsigned_integer(dtype):
        default = dtypes.default_uint_dtype()
    elif dtype == np.bool_ or dtypes.is_integer(dtype):
        default = dtypes.default_int_dtype()
    else:
        return dtype
    return default if dtypes.itemsize_bits(dtype) < dtypes.itemsize_bits(default) or dtype == np.bool_ else dtype


def _reduce(
    name: str, a, axis, dtype, keepdims, initial, where, operation: Callable, combine: Callable, identity, *,
    promote: bool = False,
    upcast: bool = False,
):  # fmt: skip
    """One reduction; ``identity`` (of a dtype) is what masked elements count as; ``combine``
    joins the result and ``initial``.
    """
    check_arraylike(name, a)
    check_arraylike_or_none(name, initial, where)
    aval = get_aval(a)
    axes = reduced_axes(axis, aval.ndim)
    has_identity = name not in ("max", "min")
    if initial is None and not has_identity:
        if where is not None:
            raise ValueError(
                f"reduction operation {name} does not have an identity, so to use a where mask one has to specify "
                "'initial'"
            )
        if builtins.any(aval.shape[d] == 0 for d in axes):
            raise ValueError(
                f"zero-size array to reduction operation {name} which has no identity: shape {aval.shape}, axis {axis}"
            )
    if dtypes.is_extended(aval.dtype):
        raise TypeError(f"jnp.{name} does not accept dtype {aval.dtype}")
    result = aval.dtype if dtype is None else dtypes.check_user_dtype_supported(dtype, name)
    if dtype is None and (promote or (result == np.bool_ and name in ("sum", "prod"))):
        result = integer_sum_dtype(result)
    computation = wide_dtype(result) if upcast else result
    a = convert_type(a, computation, False)
    if where is not None:
        where = mask_of(name, where)
        a = _where(where, a, computation.type(identity(computation)))
    out = operation(a, axes)
    if initial is not None:
        start = (
            computation.type(initial)
            if isinstance(initial, (bool, int, float))
            else convert_type(initial, computation, False)
        )
        if get_aval(start).shape:
            raise ValueError(f"initial value must be a scalar. Got array of shape {get_aval(start).shape}")
        out = combine(start, out)
    if keepdims:
        out = lax.expand_dims(out, axes)
    return convert_type(out, result, False)


def _numeric_sum(a, axes):
    return lax.reduce_or(a, axes) if get_aval(a).dtype == np.bool_ else lax.reduce_sum(a, axes)


def _numeric_prod(a, axes):
    return lax.reduce_and(a, axes) if get_aval(a).dtype == np.bool_ else lax.reduce_prod(a, axes)


def _or_add(x, y):
    return lax.bitwise_or(x, y) if get_aval(x).dtype == np.bool_ else lax.add(x, y)


def _and_mul(x, y):
    return lax.bitwise_and(x, y) if get_aval(x).dtype == np.bool_ else lax.mul(x, y)


_sum_names = ("axis", "dtype", "keepdims", "promote_integers")


@compiled(static=_sum_names, inline=True)
def _reduce_sum(a, axis=None, dtype=None, keepdims=False, initial=None, where=None, promote_integers=True):
    return _reduce(
        "sum",
        a,
        axis,
        dtype,
        keepdims,
        initial,
        where,
        _numeric_sum,
        _or_add,
        lambda d: d.type(0),
        promote=promote_integers,
        upcast=True,
    )


def sum(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None, promote_integers=True):
    """Sum of elements over axes.

    Args:
      a: an array.
      axis: an axis or a tuple of them; None: all.
      dtype: the dtype of the sum; None: that of ``a``, small integers and booleans becoming the default integer.
      out: not supported.
      keepdims: whether summed axes stay, with size 1.
      initial: a number added to the sum.
      where: which elements to include; broadcasts against ``a``.
      promote_integers: False: sums of integers keep their dtype.

    Returns:
      An array without the summed axes; float16 and bfloat16 accumulate in float32.

    Raises:
      ValueError: for an axis out of bounds.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.sum(jnp.array([[1, 2], [3, 4]]), axis=0)
      Array([4, 6], dtype=int32)
    """
    no_out("sum", out)
    return _reduce_sum(a, static_axes(axis), dtype, bool(keepdims), initial, where, bool(promote_integers))


@compiled(static=_sum_names, inline=True)
def _reduce_prod(a, axis=None, dtype=None, keepdims=False, initial=None, where=None, promote_integers=True):
    return _reduce(
        "prod",
        a,
        axis,
        dtype,
        keepdims,
        initial,
        where,
        _numeric_prod,
        _and_mul,
        lambda d: d.type(1),
        promote=promote_integers,
        upcast=True,
    )


def prod(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None, promote_integers=True):
    """Product of elements over axes; arguments as `sum`.

    Args:
      a: an array.
      axis, keepdims, where, promote_integers: as in `sum`.
      dtype: the dtype of the product, or None.
      out: not supported.
      initial: a number that the product starts with.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.prod(jnp.array([[1, 2], [3, 4]]), axis=0)
      Array([3, 8], dtype=int32)
    """
    no_out("prod", out)
    return _reduce_prod(a, static_axes(axis), dtype, bool(keepdims), initial, where, bool(promote_integers))


# -- extrema -------------------------------------------------------------------------------------


def _extremum(reduce: Callable, worst: float) -> Callable:
    def operation(a, axes):
        if not dtypes.is_complex(get_aval(a).dtype):
            return reduce(a, axes)
        # lexicographic: the extreme imaginary part among those with the extreme real part
        re, im = lax.real(a), lax.imag(a)
        top = reduce(re, axes)
        kept = [i for i in range(get_aval(a).ndim) if i not in axes]
        tied = lax.eq(re, lax.broadcast_in_dim(top, get_aval(a).shape, kept))
        side = reduce(lax.select(tied, im, lax.full_like(im, worst)), axes)
        lost = lax.reduce_or(lax.ne(a, a), axes)
        nan = lax.full_like(top, np.nan)
        return lax.complex(lax.select(lost, nan, top), lax.select(lost, nan, side))

    return operation


def _complex_pair(pick: Callable) -> Callable:
    def combine(x, y):
        if not dtypes.is_complex(get_aval(x).dtype):
            return pick(x, y)
        shape = get_aval(y).shape
        both = lax.concatenate(
            [
                lax.broadcast_in_dim(v, (1, *shape), range(1, len(shape) + 1) if get_aval(v).shape else ())
                for v in (x, y)
            ],
            0,
        )
        return (_greatest_of if pick is lax.max else _least_of)(both, (0,))

    return combine


_greatest_of, _least_of = _extremum(lax.reduce_max, -np.inf), _extremum(lax.reduce_min, np.inf)
_max_pair, _min_pair = _complex_pair(lax.max), _complex_pair(lax.min)
_extremum_names = ("axis", "keepdims")


@compiled(static=_extremum_names, inline=True)
def _reduce_max(a, axis=None, keepdims=False, initial=None, where=None):
    return _reduce("max", a, axis, None, keepdims, initial, where, _greatest_of, _max_pair, dtypes.least)


@compiled(static=_extremum_names, inline=True)
def _reduce_min(a, axis=None, keepdims=False, initial=None, where=None):
    return _reduce("min", a, axis, None, keepdims, initial, where, _least_of, _min_pair, dtypes.greatest)


def max(a, axis=None, out=None, keepdims=False, initial=None, where=None):
    """Maximum over axes; NaN if there is one.

    Args:
      a: an array; complex numbers are ordered by real part, then imaginary part.
      axis: an axis or a tuple of them; None: all.
      out: not supported.
      keepdims: whether reduced axes stay, with size 1.
      initial: the least the maximum may be.
      where: which elements to include; needs ``initial``.

    Returns:
      An array without the axes.

    Raises:
      ValueError: for no elements without ``initial``, or ``where`` without ``initial``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.max(jnp.array([[1, 5], [3, 4]]), axis=0)
      Array([3, 5], dtype=int32)
    """
    no_out("max", out)
    return _reduce_max(a, static_axes(axis), bool(keepdims), initial, where)


def min(a, axis=None, out=None, keepdims=False, initial=None, where=None):
    """Minimum over axes; arguments as `max`.

    Args:
      a: an array.
      axis, keepdims, initial, where: as in `max`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.min(jnp.array([[1, 5], [3, 4]]), axis=0)
      Array([1, 4], dtype=int32)
    """
    no_out("min", out)
    return _reduce_min(a, static_axes(axis), bool(keepdims), initial, where)


amax, amin = max, min


def ptp(a, axis=None, out=None, keepdims=False):
    """The difference of maximum and minimum over axes; arguments as `max`.

    Args:
      a: an array.
      axis, keepdims: as in `max`.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ptp(jnp.array([[1, 5], [3, 4]]), axis=1)
      Array([4, 1], dtype=int32)
    """
    no_out("ptp", out)
    return _ptp(a, static_axes(axis), bool(keepdims))


@compiled(static=_extremum_names, inline=True)
def _ptp(a, axis, keepdims):
    check_arraylike("ptp", a)
    return lax.sub(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


# -- logic ---------------------------------------------------------------------------------------


@compiled(static=_extremum_names, inline=True)
def _reduce_any(a, axis=None, keepdims=False, where=None):
    return _reduce("any", a, axis, np.bool_, keepdims, None, where, lax.reduce_or, lax.bitwise_or, lambda d: np.False_)


@compiled(static=_extremum_names, inline=True)
def _reduce_all(a, axis=None, keepdims=False, where=None):
    return _reduce("all", a, axis, np.bool_, keepdims, None, where, lax.reduce_and, lax.bitwise_and, lambda d: np.True_)


def any(a, axis=None, out=None, keepdims=False, *, where=None):
    """Whether some element over the axes is not zero; arguments as `sum`.

    Args:
      a: an array.
      axis, keepdims, where: as in `sum`.
      out: not supported.

    Returns:
      An array of booleans.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.any(jnp.array([[1, 0], [0, 0]]), axis=1)
      Array([ True, False], dtype=bool)
    """
    no_out("any", out)
    return _reduce_any(a, static_axes(axis), bool(keepdims), where)


def all(a, axis=None, out=None, keepdims=False, *, where=None):
    """Whether all elements over the axes are not zero; arguments as `sum`.

    Args:
      a: an array.
      axis, keepdims, where: as in `sum`.
      out: not supported.

    Returns:
      An array of booleans.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.all(jnp.array([[1, 0], [1, 1]]), axis=1)
      Array([False,  True], dtype=bool)
    """
    no_out("all", out)
    return _reduce_all(a, static_axes(axis), bool(keepdims), where)


def count_nonzero(a, axis=None, keepdims=False):
    """How many elements over the axes are not zero.

    Args:
      a: an array.
      axis: an axis or a tuple of them; None: all.
      keepdims: whether reduced axes stay, with size 1.

    Returns:
      An array of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.count_nonzero(jnp.array([[1, 0], [1, 1]]), axis=1)
      Array([1, 2], dtype=int32)
    """
    check_arraylike("count_nonzero", a)
    return _count_nonzero(a, static_axes(axis), bool(keepdims))


@compiled(static=_extremum_names, inline=True)
def _count_nonzero(a, axis, keepdims):
    return sum(lax.ne(a, get_aval(a).dtype.type(0)), axis=axis, dtype=dtypes.default_int_dtype(), keepdims=keepdims)


# -- mean, variance ------------------------------------------------------------------------------


def reduced_count(a, axis) -> int:
    """How many elements a reduction of ``a`` over ``axis`` takes in."""
    shape = get_aval(a).shape
    return math.prod(shape[d] for d in reduced_axes(axis, len(shape)))


def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=None):
    """Arithmetic mean over axes; NaN of no elements.

    Args:
      a: an array; integers give floats.
      axis, keepdims, where: as `sum`.
      dtype: the dtype of the result; None: that of ``a``, or a float.
      out: not supported.

    Returns:
      An array without the axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.mean(jnp.array([[1., 2.], [3., 4.]]), axis=0)
      Array([2., 3.], dtype=float32)
    """
    no_out("mean", out)
    return _mean(a, static_axes(axis), dtype, bool(keepdims), where)


@compiled(static=("axis", "dtype", "keepdims"), inline=True)
def _mean(a, axis, dtype, keepdims, where):
    check_arraylike("mean", a)
    check_arraylike_or_none("mean", where)
    own = get_aval(a).dtype
    result = dtypes.to_inexact_dtype(own) if dtype is None else dtypes.check_user_dtype_supported(dtype, "mean")
    computation = wide_dtype(result)
    if where is None:
        size = computation.type(reduced_count(a, axis))
    else:
        size = sum(spread(mask_of("mean", where), get_aval(a).shape), axis, dtype=computation, keepdims=keepdims)
    total = sum(a, axis, dtype=computation, keepdims=keepdims, where=where)
    return convert_type(_true_divide(total, size), result, False)


def _true_divide(x, y):
    """Division of a sum by a count, in the result's dtype even if that is one of integers."""
    return lax.div(x, y) if dtypes.is_inexact(get_aval(x).dtype) else true_divide(x, y)


def average(a, axis=None, weights=None, returned=False, keepdims=False):
    """Weighted mean over axes.

    Args:
      a: an array.
      axis: an axis or a tuple of them; None: all.
      weights: an array of the shape of ``a``, or of its size along ``axis``; None: all one.
      returned: whether to return the sum of weights too.
      keepdims: whether reduced axes stay, with size 1.

    Returns:
      The average, or a pair of it and the sum of weights.

    Raises:
      TypeError, ValueError: if the weights' shape does not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.average(jnp.array([1., 2.]), weights=jnp.array([3., 1.]))
      Array(1.25, dtype=float32)
    """
    return _average(a, static_axes(axis), weights, bool(returned), bool(keepdims))


@compiled(static=("axis", "returned", "keepdims"), inline=True)
def _average(a, axis, weights, returned, keepdims):
    if weights is None:
        check_arraylike("average", a)
        (a,) = promote_dtypes_inexact(a)
        out = mean(a, axis, keepdims=keepdims)
        total = lax.full_like(out, reduced_count(a, axis))
        return (out, total) if returned else out
    check_arraylike("average", a, weights)
    a, weights = promote_dtypes_inexact(a, weights)
    shape, have = get_aval(a).shape, get_aval(weights).shape
    axes = reduced_axes(axis, len(shape))
    if have != shape:
        if axis is None:
            raise ValueError(
                f"Axis must be specified when shapes of a and weights differ in average, got {shape} and {have}."
            )
        if have != tuple(shape[d] for d in axes):
            raise ValueError(
                f"Shape of weights must be consistent with shape of a along specified axis: weights {have}, a "
                f"{shape}, axis {axis}."
            )
        order = np.argsort(axes)
        weights = lax.broadcast_in_dim(lax.transpose(weights, order), shape, sorted(axes))
    total = sum(weights, axes, keepdims=keepdims)
    out = lax.div(sum(lax.mul(a, weights), axes, keepdims=keepdims), total)
    return (out, spread(total, get_aval(out).shape)) if returned else out


def _degrees(name: str, ddof, correction):
    if correction is None:
        return ddof
    if not isinstance(ddof, int) or ddof != 0:
        raise ValueError(f"ddof and correction can't be provided simultaneously: jnp.{name} got both.")
    return correction


def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=None, mean=None, correction=None):
    """Variance over axes.

    Args:
      a: an array.
      axis, keepdims, where: as `sum`.
      dtype: the dtype of the result, or None.
      out: not supported.
      ddof: the sum of squares is divided by the number of elements minus this.
      mean: the mean, if known, with reduced axes kept.
      correction: another name of ``ddof``.

    Returns:
      An array of real numbers; NaN where ``ddof`` leaves no degree of freedom.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.var(jnp.array([1., 3.]))
      Array(1., dtype=float32)
    """
    no_out("var", out)
    dtype = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "var")
    return _var(a, static_axes(axis), dtype, _degrees("var", ddof, correction), bool(keepdims), where, mean)


@compiled(static=("axis", "dtype", "keepdims"))
def _var(a, axis=None, dtype=None, ddof=0, keepdims=False, where=None, mean=None):
    check_arraylike("var", a)
    check_arraylike_or_none("var", where, mean)
    own = get_aval(a).dtype
    if dtype is None:
        computation = wide_dtype(dtypes.to_inexact_dtype(own))
        result = dtypes.real_dtype(dtypes.to_inexact_dtype(own))
    else:
        result = dtype
        if dtypes.is_complex(own) and not dtypes.is_complex(result):
            raise ValueError(
                "jax.numpy.var does not yet support real dtype parameters when computing the variance of an array "
                f"of complex values, got {own} and dtype {result}."
            )
        computation = wide_dtype(np.promote_types(own, result) if dtypes.is_complex(own) else result)
    a = convert_type(a, computation, False)
    centre = _mean(a, axis, computation, True, where) if mean is None else convert_type(mean, computation, False)
    centred = lax.sub(a, spread(centre, get_aval(a).shape) if get_aval(centre).ndim != get_aval(a).ndim else centre)
    if dtypes.is_complex(computation):
        square = lax.real(lax.mul(centred, lax.conj(centred)))
    else:
        square = lax.square(centred)
    real = dtypes.real_dtype(computation)
    if where is None:
        count = real.type(reduced_count(a, axis))
    else:
        count = sum(spread(mask_of("var", where), get_aval(a).shape), axis, dtype=real, keepdims=keepdims)
    freedom = lax.sub(count, convert_type(ddof, real, False))
    total = sum(square, axis, keepdims=keepdims, where=where, promote_integers=False)
    out = convert_type(lax.div(total, freedom), result, False)
    return _where(lax.gt(freedom, real.type(0)), out, np.nan)


def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=None, mean=None, correction=None):
    """Standard deviation over axes: the square root of `var`; arguments as there.

    Args:
      a: an array.
      axis, dtype, ddof, keepdims, where, mean, correction: as in `var`.
      out: not supported.

    Returns:
      An array of real numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.std(jnp.array([1., 3.]))
      Array(1., dtype=float32)
    """
    no_out("std", out)
    dtype = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "std")
    return _std(a, static_axes(axis), dtype, _degrees("std", ddof, correction), bool(keepdims), where, mean)


@compiled(static=("axis", "dtype", "keepdims"))
def _std(a, axis=None, dtype=None, ddof=0, keepdims=False, where=None, mean=None):
    check_arraylike("std", a)
    if dtype is not None and not dtypes.is_inexact(dtype):
        raise ValueError(f"dtype argument to jnp.std must be inexact; got {dtype}")
    return lax.sqrt(_var(a, axis, dtype, ddof, keepdims, where, mean))


# -- argmax, argmin ------------------------------------------------------------------------------


def argmax(a, axis=None, out=None, keepdims=None):
    """The index of the first maximum (or of the first NaN).

    Args:
      a: an array of real numbers or booleans.
      axis: an axis; None: the index into the flattened array.
      out: not supported.
      keepdims: whether the axis stays, with size 1.

    Returns:
      An array of integers.

    Raises:
      ValueError: if there are no elements.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.argmax(jnp.array([[1, 5], [3, 4]]), axis=1)
      Array([1, 1], dtype=int32)
    """
    no_out("argmax", out)
    return _argmax(a, None if axis is None else static_axes(axis), bool(keepdims))


def argmin(a, axis=None, out=None, keepdims=None):
    """The index of the first minimum (or of the first NaN); arguments as `argmax`.

    Args:
      a: an array.
      axis, keepdims: as in `argmax`.
      out: not supported.

    Returns:
      An array of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.argmin(jnp.array([[1, 5], [3, 4]]), axis=0)
      Array([0, 1], dtype=int32)
    """
    no_out("argmin", out)
    return _argmin(a, None if axis is None else static_axes(axis), bool(keepdims))


@compiled(static=_extremum_names, inline=True)
def _argmax(a, axis, keepdims):
    return _arg("argmax", lax.argmax, a, axis, keepdims)


@compiled(static=_extremum_names, inline=True)
def _argmin(a, axis, keepdims):
    return _arg("argmin", lax.argmin, a, axis, keepdims)


def _arg(name, operation, a, axis, keepdims):
    check_arraylike(name, a)
    ndim = get_aval(a).ndim
    if axis is None:
        dims = tuple(range(ndim))
        a, axis = ravel(a), 0
    else:
        axis = axis_index(axis, ndim)
        dims = (axis,)
    if get_aval(a).shape[axis] == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    out = operation(a, axis, dtypes.default_int_dtype())
    return lax.expand_dims(out, dims) if keepdims else out
