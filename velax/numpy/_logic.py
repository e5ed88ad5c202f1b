"""Elementwise comparison, logic, bits and classification."""

from __future__ import annotations

import math

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.lax._values import full_like
from velax.numpy._shaping import no_out
from velax.numpy._ufunc import library_ufunc
from velax.numpy._util import (
    check_arraylike,
    compiled,
    inlined,
    promote_args,
    promote_args_numeric,
)

__all__ = [
    "bitwise_and", "bitwise_count", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "equal", "greater", "greater_equal", "invert", "isfinite", "isinf",
    "isnan", "isneginf", "isposinf", "left_shift", "less", "less_equal", "logical_and", "logical_not",
    "logical_or", "logical_xor", "not_equal", "right_shift", "signbit",
]  # fmt: skip


# -- comparison and logic ------------------------------------------------------------------------


def _comparison(name, op, text, example):
    def f(x, y, /):
        x, y = promote_args(name, x, y)
        dtype = get_aval(x).dtype
        if dtypes.is_complex(dtype) and op not in (lax.eq, lax.ne):
            real_x, real_y = lax.real(x), lax.real(y)
            strict = lax.lt if op in (lax.lt, lax.le) else lax.gt
            return lax.select(lax.eq(real_x, real_y), op(lax.imag(x), lax.imag(y)), strict(real_x, real_y))
        return op(x, y)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"""Elementwise ``{text}`` with promotion and broadcasting.

    Args:
      x, y: arrays of numbers or booleans that broadcast; complex numbers are ordered by real, then imaginary part.

    Returns:
      An array of booleans, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.{name}(jnp.array([1, 2, 3]), 2)
      Array([{example}], dtype=bool)
    """
    return inlined(f)


equal = _comparison("equal", lax.eq, "x == y", "False,  True, False")
not_equal = _comparison("not_equal", lax.ne, "x != y", " True, False,  True")
less = _comparison("less", lax.lt, "x < y", " True, False, False")
less_equal = _comparison("less_equal", lax.le, "x <= y", " True,  True, False")
greater = _comparison("greater", lax.gt, "x > y", "False, False,  True")
greater_equal = _comparison("greater_equal", lax.ge, "x >= y", "False,  True,  True")


def _truth(name, *xs):
    """The arguments as booleans of one rank; weak ones are of weak numbers without axes."""
    xs = promote_args(name, *xs)
    dtype = get_aval(xs[0]).dtype
    if dtypes.is_extended(dtype):
        raise TypeError(f"{name} does not accept dtype {dtype}")
    return xs if dtype == np.bool_ else [lax.ne(x, dtype.type(0) if get_aval(x).shape else full_like(x, 0)) for x in xs]


@library_ufunc(identity=True)
def logical_and(x, y, /):
    """Elementwise logical AND of truth values.

    Args:
      x, y: arrays of numbers or booleans; what is not 0 is true; they broadcast.

    Returns:
      An array of booleans, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.logical_and(jnp.array([0, 2]), True)
      Array([False,  True], dtype=bool)
    """
    return lax.bitwise_and(*_truth("logical_and", x, y))


@library_ufunc(identity=False)
def logical_or(x, y, /):
    """Elementwise logical OR of truth values.

    Args:
      x, y: arrays of numbers or booleans; what is not 0 is true; they broadcast.

    Returns:
      An array of booleans, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.logical_or(jnp.array([0, 2]), False)
      Array([False,  True], dtype=bool)
    """
    return lax.bitwise_or(*_truth("logical_or", x, y))


@library_ufunc(identity=False)
def logical_xor(x, y, /):
    """Elementwise logical exclusive OR of truth values.

    Args:
      x, y: arrays of numbers or booleans; what is not 0 is true; they broadcast.

    Returns:
      An array of booleans, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.logical_xor(jnp.array([0, 2]), True)
      Array([ True, False], dtype=bool)
    """
    return lax.bitwise_xor(*_truth("logical_xor", x, y))


@inlined
def logical_not(x, /):
    """Elementwise logical NOT of truth values.

    Args:
      x: an array of numbers or booleans; what is not 0 is true.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.logical_not(jnp.array([0, 2]))
      Array([ True, False], dtype=bool)
    """
    return lax.bitwise_not(*_truth("logical_not", x))


@library_ufunc(identity=-1)
def bitwise_and(x, y, /):
    """Elementwise ``x & y``.

    Args:
      x, y: arrays of integers or booleans that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bitwise_and(jnp.array([6, 1]), 3)
      Array([2, 1], dtype=int32)
    """
    return lax.bitwise_and(*promote_args("bitwise_and", x, y))


@library_ufunc(identity=0)
def bitwise_or(x, y, /):
    """Elementwise ``x | y``.

    Args:
      x, y: arrays of integers or booleans that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bitwise_or(jnp.array([6, 1]), 3)
      Array([7, 3], dtype=int32)
    """
    return lax.bitwise_or(*promote_args("bitwise_or", x, y))


@library_ufunc(identity=0)
def bitwise_xor(x, y, /):
    """Elementwise ``x ^ y``.

    Args:
      x, y: arrays of integers or booleans that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bitwise_xor(jnp.array([6, 1]), 3)
      Array([5, 2], dtype=int32)
    """
    return lax.bitwise_xor(*promote_args("bitwise_xor", x, y))


@inlined
def bitwise_not(x, /):
    """Elementwise ``~x``.

    Args:
      x: an array of integers or booleans.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bitwise_not(jnp.array([0, 5]))
      Array([-1, -6], dtype=int32)
    """
    return lax.bitwise_not(*promote_args("bitwise_not", x))


invert = bitwise_invert = bitwise_not


@inlined
def left_shift(x, y, /):
    """Elementwise ``x << y``; shifts by the width or more give 0.

    Args:
      x, y: arrays of integers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.left_shift(jnp.array([1, 3]), 2)
      Array([ 4, 12], dtype=int32)
    """
    return lax.shift_left(*promote_args_numeric("left_shift", x, y))


bitwise_left_shift = left_shift


@inlined
def right_shift(x1, x2, /):
    """Elementwise ``x1 >> x2``; signed integers keep their sign.

    Args:
      x1, x2: arrays of integers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.right_shift(jnp.array([8, -8]), 2)
      Array([ 2, -2], dtype=int32)
    """
    x, y = promote_args_numeric("right_shift", x1, x2)
    signed = dtypes.issubdtype(get_aval(x).dtype, np.signedinteger)
    return lax.shift_right_arithmetic(x, y) if signed else lax.shift_right_logical(x, y)


bitwise_right_shift = right_shift


@compiled
def bitwise_count(x, /):
    """Elementwise number of set bits of ``abs(x)``, as uint8.

    Args:
      x: an array of integers or booleans.

    Returns:
      An array of uint8, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bitwise_count(jnp.array([7, -8]))
      Array([3, 1], dtype=uint8)
    """
    (x,) = promote_args_numeric("bitwise_count", x)
    if dtypes.issubdtype(get_aval(x).dtype, np.signedinteger):
        x = lax.abs(x)
    return convert_type(lax.population_count(x), np.dtype("uint8"))


# -- classification ------------------------------------------------------------------------------


@inlined
def isfinite(x, /):
    """Elementwise whether neither infinite nor NaN.

    Args:
      x: an array of numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isfinite(jnp.array([1., jnp.inf, jnp.nan]))
      Array([ True, False, False], dtype=bool)
    """
    check_arraylike("isfinite", x)
    dtype = get_aval(x).dtype
    if dtypes.is_floating(dtype):
        return lax.is_finite(x)
    if dtypes.is_complex(dtype):
        return lax.bitwise_and(lax.is_finite(lax.real(x)), lax.is_finite(lax.imag(x)))
    return lax.full_like(x, True, dtype=np.bool_)


@inlined
def isinf(x, /):
    """Elementwise whether infinite.

    Args:
      x: an array of numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isinf(jnp.array([1., jnp.inf, jnp.nan]))
      Array([False,  True, False], dtype=bool)
    """
    check_arraylike("isinf", x)
    dtype = get_aval(x).dtype
    if dtypes.is_floating(dtype):
        return lax.eq(lax.abs(x), dtype.type(math.inf))
    if dtypes.is_complex(dtype):
        part = dtypes.real_dtype(dtype).type(math.inf)
        return lax.bitwise_or(lax.eq(lax.abs(lax.real(x)), part), lax.eq(lax.abs(lax.imag(x)), part))
    return lax.full_like(x, False, dtype=np.bool_)


@inlined
def isnan(x, /):
    """Elementwise whether NaN.

    Args:
      x: an array of numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isnan(jnp.array([1., jnp.inf, jnp.nan]))
      Array([False, False,  True], dtype=bool)
    """
    check_arraylike("isnan", x)
    return lax.ne(x, x)


@compiled
def isposinf(x, /, out=None):
    """Elementwise whether positive infinity; ``out`` must be None.

    Args:
      x: an array of real numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isposinf(jnp.array([1., jnp.inf, -jnp.inf]))
      Array([False,  True, False], dtype=bool)
    """
    return _is_infinity("isposinf", x, math.inf, out)


@compiled
def isneginf(x, /, out=None):
    """Elementwise whether negative infinity; ``out`` must be None.

    Args:
      x: an array of real numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.isneginf(jnp.array([1., jnp.inf, -jnp.inf]))
      Array([False, False,  True], dtype=bool)
    """
    return _is_infinity("isneginf", x, -math.inf, out)


def _is_infinity(name, x, infinity, out):
    no_out(name, out)
    check_arraylike(name, x)
    dtype = get_aval(x).dtype
    if dtypes.is_complex(dtype):
        raise ValueError(f"isposinf/isneginf are not well defined for complex types; apply {name} to real and imag")
    if dtypes.is_floating(dtype):
        return lax.eq(x, dtype.type(infinity))
    return lax.full_like(x, False, dtype=np.bool_)


@compiled
def signbit(x, /):
    """Elementwise whether the sign bit is set (true for -0.0).

    Args:
      x: an array of real numbers.

    Returns:
      An array of booleans, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.signbit(jnp.array([-1., -0., 0.]))
      Array([ True,  True, False], dtype=bool)
    """
    check_arraylike("signbit", x)
    dtype = get_aval(x).dtype
    if dtypes.is_complex(dtype) or dtypes.is_extended(dtype):
        raise ValueError(f"jax.numpy.signbit is not well defined for {dtype}; apply it to real and imag")
    if dtypes.is_floating(dtype):
        bits = np.dtype(f"int{dtypes.itemsize_bits(dtype)}")
        return lax.lt(lax.bitcast_convert_type(x, bits), bits.type(0))
    if dtypes.issubdtype(dtype, np.signedinteger):
        return lax.lt(x, dtype.type(0))
    return lax.full_like(x, False, dtype=np.bool_)
