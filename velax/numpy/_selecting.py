"""Choosing, limiting and rounding elements; comparison of arrays; interpolation and differences."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import concrete_or_error, get_aval
from velax._transforms.vectorize import vmap
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import remainder
from velax.numpy._creation import asarray
from velax.numpy._indexing import nonzero, truth
from velax.numpy._joining import concatenate
from velax.numpy._shaping import axis_index, gather_axis, no_out, ravel, spread
from velax.numpy._sorting_searching import argsort, searchsorted
from velax.numpy._util import (
    check_arraylike,
    common_shape,
    compiled,
    promote_args,
    promote_args_inexact,
    promote_dtypes,
    promote_dtypes_inexact,
    promote_shapes,
    settled,
    to_array,
)

__all__ = [
    "allclose", "around", "array_equal", "array_equiv", "clip", "diff", "ediff1d", "gradient", "interp", "isclose",
    "nan_to_num", "piecewise",
    "round", "select", "where",
]  # fmt: skip


# -- where, select, piecewise --------------------------------------------------------------------


def where(condition, x=None, y=None, /, *, size: int | None = None, fill_value=None):
    """Choose elementwise: ``x`` where the condition holds, else ``y``; with one argument, the indices where it holds.

    Args:
      condition: booleans (other numbers count as true unless zero).
      x, y: arrays or numbers; the three broadcast.
      size: with one argument, the static number of indices to return, needed while tracing.
      fill_value: with one argument, what further indices are.

    Returns:
      An array of the common dtype of ``x`` and ``y``; or a tuple of index arrays, one an axis.

    Raises:
      ValueError: if the shapes do not broadcast.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.where(jnp.array([True, False]), 1, 2)
      Array([1, 2], dtype=int32, weak_type=True)
    """
    if x is None and y is None:
        check_arraylike("where", condition)
        return nonzero(condition, size=size, fill_value=fill_value)
    check_arraylike("where", condition, x, y)
    if size is not None or fill_value is not None:
        raise ValueError("size and fill_value arguments cannot be used in three-term where function.")
    return _where(condition, x, y)


@compiled
def _where(condition, x, y):
    condition = truth(to_array(condition))
    x, y = promote_dtypes(x, y)
    shape = common_shape("where", [get_aval(v).shape for v in (condition, x, y)])
    if get_aval(condition).shape != shape and get_aval(condition).shape:
        condition = spread(condition, shape)
    return lax.select(condition, spread(x, shape), spread(y, shape))


def select(condlist: Sequence, choicelist: Sequence, default=0):
    """Choose elementwise, from the first choice whose condition holds.

    Args:
      condlist: boolean arrays.
      choicelist: as many arrays.
      default: what is taken where no condition holds.

    Returns:
      An array of the common shape and dtype.

    Raises:
      ValueError: if the lists are empty or of different length.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.select([jnp.array([True, False]), jnp.array([True, True])], [1, 2])
      Array([1, 2], dtype=int32, weak_type=True)
    """
    if len(condlist) != len(choicelist):
        raise ValueError(f"condlist must have length equal to choicelist ({len(condlist)} vs {len(choicelist)})")
    if len(condlist) == 0:
        raise ValueError("condlist must be non-empty")
    check_arraylike("select", *condlist, *choicelist, default)
    *choices, out = promote_dtypes(*choicelist, default)
    shape = common_shape("select", [get_aval(v).shape for v in (*condlist, *choices, out)])
    out = spread(out, shape)
    for c, x in zip(reversed(condlist), reversed(choices), strict=True):
        out = lax.select(spread(truth(to_array(c)), shape), spread(x, shape), out)
    return out


def piecewise(x, condlist, funclist: Sequence, *args, **kw):
    """Evaluate a function defined by pieces.

    Args:
      x: an array.
      condlist: boolean arrays of the shape of ``x`` or that broadcast to it, or a stack of them.
      funclist: a function or number for each condition, and optionally one more for where none
        holds (default 0). Functions take and return scalars.
      *args, **kw: further arguments of the functions.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      ValueError: if the number of functions does not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.piecewise(jnp.array([-1., 2.]), [jnp.array([False, True])], [lambda v: v * v])
      Array([0., 4.], dtype=float32)
    """
    check_arraylike("piecewise", x)
    conditions = [asarray(c) for c in condlist]
    functions = list(funclist)
    n, m = len(conditions), len(functions)
    if n == m - 1:
        functions = [functions[-1], *functions[:-1]]
    elif n == m:
        functions = [0, *functions]
    else:
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected; got {m}")
    x = to_array(x)
    pieces = tuple(f if callable(f) else asarray(f, dtype=get_aval(x).dtype) for f in functions)
    return _piecewise(x, conditions, pieces, args, kw)


def _piecewise(x, conditions, pieces, args, kw):
    aval = get_aval(x)
    shape = common_shape("piecewise", [aval.shape, *(get_aval(c).shape for c in conditions)])
    # which piece applies: the last condition that holds, 0 if none
    which = lax.full(shape, 0, np.int32)
    for i, c in enumerate(conditions, 1):
        which = lax.select(spread(truth(c), shape), lax.full_like(which, i), which)

    def branch(f: Callable | object):
        if not callable(f):
            return lambda v: convert_type(f, aval.dtype)
        return lambda v: convert_type(asarray(f(v, *args, **kw)), aval.dtype)

    branches = [branch(f) for f in pieces]
    out = vmap(lambda i, v: lax.switch(i, branches, v))(ravel(which), ravel(spread(x, shape)))
    return lax.reshape(out, shape)


# -- clip, round, nan_to_num ---------------------------------------------------------------------


@compiled
def clip(arr=None, /, min=None, max=None):
    """Limit the elements to a range.

    Args:
      arr: an array of real numbers.
      min: the least value, or None; broadcasts.
      max: the greatest value, or None; broadcasts. Where ``min > max`` the result is ``max``.

    Returns:
      An array of the common shape and dtype.

    Raises:
      ValueError: for complex numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.clip(jnp.array([-1., 0.5, 3.]), 0., 1.)
      Array([0. , 0.5, 1. ], dtype=float32)
    """
    if arr is None:
        raise ValueError("No input was provided to the clip function.")
    check_arraylike("clip", arr, *(v for v in (min, max) if v is not None))
    if any(v is not None and dtypes.is_complex(get_aval(v).dtype) for v in (arr, min, max)):
        raise ValueError(
            "Clip received a complex value either through the input or the min/max keywords. Complex values have no "
            "ordering and cannot be clipped. Please "
            "convert to a real value or array by taking the real or imaginary components via jax.numpy.real/imag "
            "respectively."
        )
    if min is not None:
        arr = lax.max(*promote_args("maximum", min, arr))
    if max is not None:
        arr = lax.min(*promote_args("minimum", max, arr))
    return to_array(arr)


def round(a, decimals: int = 0, out=None):
    """Round to decimals, halves to even.

    Args:
      a: an array.
      decimals: how many; negative rounds to tens, hundreds, ...
      out: not supported.

    Returns:
      An array of the shape and dtype of ``a``.

    Raises:
      NotImplementedError: for integers and negative ``decimals``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.round(jnp.array([0.5, 1.25, 1.75]), 1)
      Array([0.5, 1.2, 1.8], dtype=float32)
    """
    no_out("round", out)
    check_arraylike("round", a)
    return _round(a, operator.index(decimals))


@compiled(static=("decimals",))
def _round(a, decimals):
    dtype = get_aval(a).dtype
    if dtypes.is_integer(dtype):
        if decimals < 0:
            raise NotImplementedError("integer np.round not implemented for decimals < 0")
        return to_array(a)
    if dtype == np.bool_:
        raise ValueError("jnp.round: booleans cannot be rounded; convert them to numbers")
    if dtypes.is_complex(dtype):
        return lax.complex(_round_float(lax.real(a), decimals), _round_float(lax.imag(a), decimals))
    return _round_float(a, decimals)


def _round_float(x, decimals):
    nearest = lambda v: lax.round(v, lax.RoundingMethod.TO_NEAREST_EVEN)
    if decimals == 0:
        return nearest(x)
    (x,) = settled(x)
    dtype, weak = get_aval(x).dtype, get_aval(x).weak_type
    narrow = dtype.itemsize < 4  # ten to a power is inexact in these
    wide = convert_type(x, np.dtype(np.float32)) if narrow else x
    factor = 10.0**decimals
    out = lax.div(nearest(lax.mul(wide, factor)), factor)
    out = convert_type(out, dtype, weak) if narrow else out
    # huge values overflow when scaled, and are round already
    return lax.select(lax.is_finite(out), out, x)


around = round


@compiled(static=("copy",))
def nan_to_num(x, copy: bool = True, nan=0.0, posinf=None, neginf=None):
    """Replace NaN and infinities by numbers.

    Args:
      x: an array.
      copy: ignored: arrays are immutable.
      nan: what NaN becomes.
      posinf, neginf: what the infinities become; None: the greatest and least finite values of the dtype.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.nan_to_num(jnp.array([1., jnp.nan]))
      Array([1., 0.], dtype=float32)
    """
    del copy
    check_arraylike("nan_to_num", x)
    dtype = get_aval(x).dtype
    if not dtypes.is_inexact(dtype):
        return to_array(x)
    if dtypes.is_complex(dtype):
        return lax.complex(
            *(nan_to_num(part, nan=nan, posinf=posinf, neginf=neginf) for part in (lax.real(x), lax.imag(x)))
        )
    info = dtypes.finfo(dtype)
    posinf = info.max if posinf is None else posinf
    neginf = info.min if neginf is None else neginf
    replace = lambda found, value, x: _where(found, convert_type(asarray(value), dtype), x)
    x = replace(lax.ne(x, x), nan, x)
    x = replace(lax.eq(x, dtype.type(np.inf)), posinf, x)
    return replace(lax.eq(x, dtype.type(-np.inf)), neginf, x)


# -- equality ------------------------------------------------------------------------------------


@compiled(static=("equal_nan",))
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan: bool = False):
    """Elementwise: whether ``|a - b| <= atol + rtol * |b|``.

    Args:
      a, b: arrays.
      rtol: relative tolerance.
      atol: absolute tolerance.
      equal_nan: whether NaN equals NaN.

    Returns:
      Booleans; infinities of the same sign are close.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isclose(jnp.array([1., 2.]), jnp.array([1., 2.1]))
      Array([ True, False], dtype=bool)
    """
    a, b = promote_args("isclose", a, b)
    dtype = get_aval(a).dtype
    shape = common_shape("isclose", [get_aval(a).shape, get_aval(b).shape])
    a, b = spread(a, shape), spread(b, shape)
    if dtypes.is_extended(dtype) or dtype == np.bool_:
        return lax.eq(a, b)
    if dtypes.is_integer(dtype):
        a, b = promote_dtypes_inexact(a, b)
        dtype = get_aval(a).dtype
    real = dtypes.real_dtype(dtype)
    rtol, atol = (convert_type(asarray(v), real, False) for v in (rtol, atol))
    magnitude = lax.abs(b)
    tolerance = lax.add(atol, lax.mul(rtol, magnitude))
    finite = lax.bitwise_and(lax.is_finite(lax.abs(a)), lax.is_finite(magnitude))
    out = lax.bitwise_or(lax.bitwise_and(lax.le(lax.abs(lax.sub(a, b)), tolerance), finite), lax.eq(a, b))
    if equal_nan:
        out = lax.bitwise_or(out, lax.bitwise_and(lax.ne(a, a), lax.ne(b, b)))
    return out


@compiled(static=("equal_nan",))
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan: bool = False):
    """Whether all elements are close, as a boolean array of rank 0; see `isclose`.

    Args:
      a, b, rtol, atol, equal_nan: as in `isclose`.

    Returns:
      An array of one boolean.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.allclose(jnp.array([1., 2.]), jnp.array([1., 2.0000001]))
      Array(True, dtype=bool)
    """
    close = isclose(a, b, rtol, atol, equal_nan)
    return lax.reduce_and(close, range(get_aval(close).ndim))


def array_equal(a1, a2, equal_nan: bool = False):
    """Whether two arrays have the same shape and elements.

    Args:
      a1, a2: arrays, or sequences of numbers.
      equal_nan: whether NaN equals NaN.

    Returns:
      A boolean array of rank 0.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.array_equal(jnp.array([1, 2]), jnp.array([1, 2]))
      Array(True, dtype=bool)
    """
    a1, a2 = asarray(a1), asarray(a2)
    if get_aval(a1).shape != get_aval(a2).shape:
        return asarray(False)
    return _all_equal(a1, a2, bool(equal_nan))


@compiled(static=("equal_nan",), inline=True)
def _all_equal(a, b, equal_nan):
    a, b = promote_dtypes(a, b)
    out = convert_type(lax.eq(a, b), np.dtype(np.bool_), False)
    if equal_nan:
        out = lax.bitwise_or(out, lax.bitwise_and(lax.ne(a, a), lax.ne(b, b)))
    return lax.reduce_and(out, range(get_aval(out).ndim))


def array_equiv(a1, a2):
    """Whether two arrays are equal after broadcasting them to a common shape; as `array_equal`.

    Args:
      a1, a2: arrays.

    Returns:
      An array of one boolean.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.array_equiv(jnp.array([1, 1]), 1)
      Array(True, dtype=bool)
    """
    a1, a2 = asarray(a1), asarray(a2)
    try:
        shape = common_shape("array_equiv", [get_aval(a1).shape, get_aval(a2).shape])
    except ValueError:
        return asarray(False)
    return _all_equal(spread(a1, shape), spread(a2, shape), False)


# -- differences, interpolation ------------------------------------------------------------------


@compiled(static=("n", "axis"))
def diff(a, n: int = 1, axis: int = -1, prepend=None, append=None):
    """Differences of neighbours along an axis, ``n`` times over.

    Args:
      a: an array of at least one axis.
      n: how often.
      axis: the axis.
      prepend, append: values put before and after along the axis first; numbers count as one element.

    Returns:
      An array, shorter by ``n`` along the axis.

    Raises:
      ValueError: if ``a`` has rank 0 or ``n`` is negative.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.diff(jnp.array([1, 4, 9]))
      Array([3, 5], dtype=int32)
    """
    check_arraylike("diff", a)
    aval = get_aval(a)
    n = concrete_or_error(operator.index, n, "The order of jnp.diff must be static.")
    if n == 0:
        return to_array(a)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if aval.ndim == 0:
        raise ValueError(f"diff requires input that is at least one dimensional; got {a}")
    axis = axis_index(axis, aval.ndim)
    parts = []
    for v in (prepend, append):
        if v is not None:
            check_arraylike("diff", v)
            v = to_array(v)
            if get_aval(v).ndim == 0:
                v = lax.broadcast_in_dim(v, (*aval.shape[:axis], 1, *aval.shape[axis + 1 :]), ())
        parts.append(v)
    if parts[0] is not None or parts[1] is not None:
        a = concatenate([v for v in (parts[0], a, parts[1]) if v is not None], axis)
    for _ in range(n):
        size = get_aval(a).shape[axis]
        if size == 0:
            break
        high, low = lax.slice_in_dim(a, 1, None, axis=axis), lax.slice_in_dim(a, 0, size - 1, axis=axis)
        a = lax.bitwise_xor(high, low) if get_aval(a).dtype == np.bool_ else lax.sub(high, low)
    return a


@compiled
def ediff1d(ary, to_end=None, to_begin=None):
    """Differences of neighbours of the flattened array.

    Args:
      ary: an array.
      to_end, to_begin: values appended and prepended to the result.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ediff1d(jnp.array([1, 4, 9]))
      Array([3, 5], dtype=int32)
    """
    check_arraylike("ediff1d", ary)
    flat = ravel(ary)
    dtype = get_aval(flat).dtype
    n = get_aval(flat).shape[0]
    out = lax.sub(lax.slice_in_dim(flat, min(n, 1), n), lax.slice_in_dim(flat, 0, max(n - 1, 0)))
    if to_begin is not None:
        check_arraylike("ediff1d", to_begin)
        out = concatenate([convert_type(ravel(to_begin), dtype), out])
    if to_end is not None:
        check_arraylike("ediff1d", to_end)
        out = concatenate([out, convert_type(ravel(to_end), dtype)])
    return out


@compiled(static=("axis", "edge_order"))
def gradient(f, *varargs, axis: int | Sequence[int] | None = None, edge_order: int | None = None):
    """The derivative of sampled values: central differences inside, one-sided ones at the ends.

    Args:
      f: an array.
      *varargs: the spacing: one number for all axes, one for each axis, or the coordinates along each.
      axis: the axes to differentiate along; None: all.
      edge_order: not supported.

    Returns:
      An array, or a list of them, one for each axis.

    Raises:
      ValueError: if an axis has fewer than two elements.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.gradient(jnp.array([1., 4., 9.]))
      Array([3., 4., 5.], dtype=float32)
    """
    if edge_order is not None:
        raise NotImplementedError("The 'edge_order' argument to jnp.gradient is not supported.")
    f, *spacings = promote_args_inexact("gradient", f) + [promote_args_inexact("gradient", v)[0] for v in varargs]
    ndim = get_aval(f).ndim
    axes = (
        tuple(range(ndim))
        if axis is None
        else tuple(axis_index(a, ndim) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    )
    if any(get_aval(f).shape[a] < 2 for a in axes):
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, at least 2 elements are required."
        )
    if not spacings:
        spacings = [1.0] * len(axes)
    elif len(spacings) == 1:
        spacings = spacings * len(axes)
    elif len(spacings) != len(axes):
        raise TypeError(f"Invalid number of spacing arguments {len(varargs)} for axis={axis}")
    outs = [_gradient_along(f, h, a) for h, a in zip(spacings, axes, strict=True)]
    return outs[0] if len(axes) == 1 else outs


def _gradient_along(f, h, axis):
    n = get_aval(f).shape[axis]
    at = lambda start, stop: lax.slice_in_dim(f, start, stop, axis=axis)
    dtype = get_aval(f).dtype
    if not isinstance(h, float) and get_aval(h).ndim == 1:
        if get_aval(h).size != n:
            raise ValueError(
                f"Spacing arrays must have the same length as the dimension of the array: got {get_aval(h).size} for "
                f"axis {axis} of size {n}"
            )
        steps = lax.sub(lax.slice_in_dim(h, 1, None), lax.slice_in_dim(h, 0, n - 1))
        steps = lax.broadcast_in_dim(steps, tuple(n - 1 if i == axis else 1 for i in range(get_aval(f).ndim)), (axis,))
        step = lambda start, stop: lax.slice_in_dim(steps, start, stop, axis=axis)
        slopes = lax.div(*promote_shapes("gradient", *promote_dtypes(lax.sub(at(1, n), at(0, n - 1)), steps)))
        slope = lambda start, stop: lax.slice_in_dim(slopes, start, stop, axis=axis)
        if n == 2:
            return lax.concatenate([slopes, slopes], axis)
        before, after = step(0, n - 2), step(1, n - 1)
        total = lax.add(before, after)
        inner = lax.div(lax.add(lax.mul(slope(0, n - 2), after), lax.mul(slope(1, n - 1), before)), total)
        return lax.concatenate([slope(0, 1), inner, slope(n - 2, n - 1)], axis)
    h = dtype.type(h) if isinstance(h, float) else convert_type(h, dtype)
    first, last = lax.sub(at(1, 2), at(0, 1)), lax.sub(at(n - 1, n), at(n - 2, n - 1))
    inner = lax.mul(lax.sub(at(2, n), at(0, n - 2)), dtype.type(0.5))
    return lax.div(lax.concatenate([first, inner, last], axis), h)


def interp(x, xp, fp, left=None, right=None, period=None):
    """Piecewise linear interpolation.

    Args:
      x: where to evaluate.
      xp: the sample points, increasing, of shape (n,).
      fp: the values there, of shape (n,).
      left, right: the values below and above the sample points: numbers, None for the first and
        last of ``fp``, or "extrapolate".
      period: the period of the function, if periodic; then ``left`` and ``right`` are ignored.

    Returns:
      An array of the shape of ``x``.

    Raises:
      ValueError: if ``xp`` and ``fp`` are not of one size and axis, or ``period`` is zero.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.interp(jnp.array([0.5]), jnp.array([0., 1.]), jnp.array([2., 4.]))
      Array([3.], dtype=float32)
    """
    modes = tuple(v if isinstance(v, str) else None for v in (left, right))
    if any(m not in (None, "extrapolate") for m in modes):
        raise ValueError(
            f"the only valid string value of `left` and `right` is 'extrapolate', but got: {left=} {right=}"
        )
    left, right = (None if isinstance(v, str) else v for v in (left, right))
    return _interp(x, xp, fp, left, right, period, modes)


@compiled(static=("modes",))
def _interp(x, xp, fp, left, right, period, modes):
    check_arraylike("interp", x, xp, fp)
    if get_aval(xp).shape != get_aval(fp).shape or get_aval(xp).ndim != 1:
        raise ValueError(
            "xp and fp must be one-dimensional arrays of equal size in jnp.interp, got shapes "
            f"{get_aval(xp).shape} and {get_aval(fp).shape}"
        )
    x, xp = promote_dtypes_inexact(x, xp)
    (fp,) = promote_dtypes_inexact(fp)
    if dtypes.is_complex(get_aval(x).dtype):
        raise ValueError("jnp.interp: complex x or xp are not supported")
    if period is not None:
        if get_aval(period).ndim != 0:
            raise ValueError(f"period must be a scalar; got {period}")
        period = lax.abs(convert_type(period, get_aval(x).dtype))
        x, xp = remainder(x, period), remainder(xp, period)
        order = argsort(xp)
        xp, fp = gather_axis(xp, order, 0), gather_axis(fp, order, 0)
        n = get_aval(xp).size
        xp = lax.concatenate(
            [lax.sub(lax.slice_in_dim(xp, n - 1, n), period), xp, lax.add(lax.slice_in_dim(xp, 0, 1), period)], 0
        )
        fp = lax.concatenate([lax.slice_in_dim(fp, n - 1, n), fp, lax.slice_in_dim(fp, 0, 1)], 0)
    n = get_aval(xp).size
    i = lax.clamp(
        np.int32(1), convert_type(searchsorted(xp, x, side="right"), np.dtype(np.int32)), np.int32(max(n - 1, 1))
    )
    low = lax.sub(i, np.int32(1))
    at = lambda v, k: gather_axis(v, k, 0)
    f0, x0 = at(fp, low), at(xp, low)
    df, dx = lax.sub(at(fp, i), f0), lax.sub(at(xp, i), x0)
    delta = lax.sub(x, x0)
    tiny = dtypes.finfo(get_aval(dx).dtype).tiny
    flat = lax.le(lax.abs(dx), get_aval(dx).dtype.type(tiny))
    safe = lax.select(flat, lax.full_like(dx, 1), dx)
    ratio, f0, df = promote_dtypes(lax.div(delta, safe), f0, df)
    f = lax.select(flat, f0, lax.add(f0, lax.mul(ratio, df)))
    first, last = (lax.index_in_dim(xp, k, keepdims=False) for k in (0, n - 1))
    value = lambda given, k: lax.index_in_dim(fp, k, keepdims=False) if given is None else given
    if period is None:
        if modes[0] is None:
            f = _where(lax.lt(x, first), value(left, 0), f)
        if modes[1] is None:
            f = _where(lax.gt(x, last), value(right, n - 1), f)
    return f
