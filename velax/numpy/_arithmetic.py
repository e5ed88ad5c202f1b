"""Elementwise arithmetic: sums, products, quotients, powers, extrema."""

from __future__ import annotations

import numpy as np

from velax import _native, lax
from velax._lang import dtypes
from velax._lang.array import ArrayImpl
from velax._lang.trace import get_aval
from velax.lax._index_parts import broadcast_to as spread
from velax.lax._structural import convert_type
from velax.numpy._logic import greater, less
from velax.numpy._ufunc import library_ufunc
from velax.numpy._util import (
    check_arraylike,
    compiled,
    inlined,
    promote_args,
    promote_args_inexact,
    promote_args_numeric,
)

__all__ = [
    "abs", "absolute", "add", "divide", "divmod", "fabs", "float_power", "floor_divide", "fmax", "fmin",
    "fmod", "maximum", "minimum", "mod", "multiply", "negative", "positive", "pow", "power", "reciprocal",
    "remainder", "sign", "square", "subtract", "true_divide",
]  # fmt: skip


# -- arithmetic ----------------------------------------------------------------------------------


@library_ufunc(identity=0)
def add(x, y, /):
    """Elementwise sum with promotion and broadcasting, ``x + y``; logical OR of booleans.

    Args:
      x, y: arrays or numbers.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.add(jnp.arange(3), 1.5)
      Array([1.5, 2.5, 3.5], dtype=float32, weak_type=True)
    """
    x, y = promote_args("add", x, y)
    return lax.add(x, y) if get_aval(x).dtype != np.bool_ else lax.bitwise_or(x, y)


@library_ufunc()
def subtract(x, y, /):
    """Elementwise difference with promotion and broadcasting, ``x - y``.

    Args:
      x, y: arrays of numbers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.subtract(jnp.arange(3), 1)
      Array([-1,  0,  1], dtype=int32)
    """
    return lax.sub(*promote_args("subtract", x, y))


@library_ufunc(identity=1)
def multiply(x, y, /):
    """Elementwise product with promotion and broadcasting, ``x * y``; logical AND of booleans.

    Args:
      x, y: arrays of numbers or booleans that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.multiply(jnp.arange(3), 2)
      Array([0, 2, 4], dtype=int32)
    """
    x, y = promote_args("multiply", x, y)
    return lax.mul(x, y) if get_aval(x).dtype != np.bool_ else lax.bitwise_and(x, y)


@inlined
def true_divide(x, y, /):
    """Elementwise quotient, ``x / y``; integers become floats.

    Args:
      x, y: arrays of numbers that broadcast.

    Returns:
      An array of floats or complex numbers, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.true_divide(jnp.array([1, 2]), 4)
      Array([0.25, 0.5 ], dtype=float32)
    """
    return lax.div(*promote_args_inexact("true_divide", x, y))


divide = true_divide


@compiled
def floor_divide(x, y, /):
    """Elementwise quotient rounded down, ``x // y``; of integers exact.

    Args:
      x, y: arrays of real numbers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.floor_divide(jnp.array([-3, 3]), 2)
      Array([-2,  1], dtype=int32)
    """
    x, y = promote_args_numeric("floor_divide", x, y)
    dtype = get_aval(x).dtype
    if dtypes.issubdtype(dtype, np.unsignedinteger):
        return lax.div(x, y)
    if dtypes.is_integer(dtype):
        q = lax.div(x, y)
        down = lax.bitwise_and(lax.ne(lax.sign(x), lax.sign(y)), lax.ne(lax.rem(x, y), 0))
        return lax.select(down, lax.sub(q, 1), q)
    if dtypes.is_complex(dtype):
        raise TypeError("floor_divide does not support complex-valued inputs")
    return _float_divmod(x, y)[0]


def _float_divmod(x, y):
    """Quotient rounded down and remainder with the divisor's sign, of floats."""
    mod = lax.rem(x, y)
    div = lax.div(lax.sub(x, mod), y)
    infinite = lax.eq(y, 0)
    div = lax.select(_wide(infinite, div), lax.div(x, y), div)
    adjust = lax.bitwise_and(lax.ne(mod, 0), lax.ne(_wide(lax.sign(y), mod), lax.sign(mod)))
    mod_out = lax.select(adjust, lax.add(mod, y), mod)
    div = lax.select(_wide(adjust, div), lax.sub(div, 1), div)
    return lax.round(div), mod_out


def _wide(x, like):
    """``x`` at the shape of ``like`` (selection does not broadcast)."""
    return spread(x, get_aval(like).shape)


@compiled
def remainder(x, y, /):
    """Elementwise remainder with the sign of the divisor, ``x % y``.

    Args:
      x, y: arrays of real numbers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.remainder(jnp.array([-3, 3]), 2)
      Array([1, 1], dtype=int32)
    """
    x, y = promote_args_numeric("remainder", x, y)
    mod = _rem(x, y)
    if dtypes.issubdtype(get_aval(x).dtype, np.unsignedinteger):
        return mod
    nonzero = lax.ne(mod, 0)
    adjust = lax.bitwise_and(lax.ne(lax.lt(mod, 0), _wide(lax.lt(y, 0), mod)), nonzero)
    return lax.select(adjust, lax.add(mod, y), mod)


mod = remainder


@compiled
def fmod(x, y, /):
    """Elementwise remainder with the sign of the dividend, as C's ``fmod``.

    Args:
      x, y: arrays of real numbers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fmod(jnp.array([-3, 3]), 2)
      Array([-1,  1], dtype=int32)
    """
    return _rem(*promote_args_numeric("fmod", x, y))


def _rem(x, y):
    """`lax.rem`, but zero for an integer divisor of zero, as NumPy has it."""
    rem = lax.rem(x, y)
    if not dtypes.is_integer(get_aval(rem).dtype):
        return rem
    return lax.select(_wide(lax.eq(y, 0), rem), lax.full_like(rem, 0), rem)


@compiled
def divmod(x, y, /):
    """``(x // y, x % y)``.

    Args:
      x, y: arrays of real numbers that broadcast.

    Returns:
      Two arrays of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.divmod(jnp.array([-3, 3]), 2)
      (Array([-2,  1], dtype=int32), Array([1, 1], dtype=int32))
    """
    x, y = promote_args_numeric("divmod", x, y)
    if dtypes.is_integer(get_aval(x).dtype):
        return floor_divide(x, y), remainder(x, y)
    return _float_divmod(x, y)


def power(x, y, /):
    """Elementwise power, ``x ** y``, with promotion and broadcasting.

    Args:
      x: an array of numbers, the base.
      y: an array of numbers that broadcasts with it, the exponent. A single integer whose value is known is applied by
        repeated squaring, and the result has the dtype of ``x``.

    Returns:
      An array of the common shape and dtype.

    Raises:
      TypeError: for an integer ``x`` with a known negative integer ``y``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.power(jnp.arange(4), 2)
      Array([0, 1, 4, 9], dtype=int32)
    """
    check_arraylike("power", x, y)
    base = get_aval(x).dtype
    exponent = _known_integer(y, base)
    if exponent is None:
        return _power(x, y)
    if base == np.bool_:
        x = convert_type(x, np.dtype(np.int32), False)
    elif dtypes.is_integer(base) and exponent < 0:
        raise TypeError(
            f"Integers cannot be raised to negative powers, got integer_pow({get_aval(x).str_short()}, {exponent}). "
            "Convert the base to float first."
        )
    return _integer_power(x, exponent=exponent)


def _known_integer(y, base) -> int | None:
    """The value of an exponent that is a single known integer.

    An array counts outside of transformations only, and where the result's dtype hangs on it: for each value a
    program is compiled.
    """
    if isinstance(y, (int, np.integer, np.bool_)):
        return int(y)
    known = isinstance(y, np.ndarray) or (
        type(y) is ArrayImpl and not dtypes.is_inexact(base) and _native.get_trace() is None
    )
    return int(y) if known and not y.shape and (y.dtype == np.bool_ or dtypes.is_integer(y.dtype)) else None


@compiled(static=("exponent",), inline=True)
def _integer_power(x, *, exponent):
    if not hasattr(x, "aval"):
        x = convert_type(x, get_aval(x).dtype, get_aval(x).weak_type)
    return lax.integer_pow(x, exponent)


@inlined
def _power(x, y):
    base, exponent, weak_exponent = get_aval(x).dtype, get_aval(y).dtype, get_aval(y).weak_type
    if dtypes.is_inexact(base) and dtypes.is_integer(exponent):
        y = convert_type(y, np.result_type(exponent, np.int32) if exponent.itemsize < 4 else exponent)
        weak = get_aval(x).weak_type and weak_exponent
        x, y = promote_args("power", x, y)
        return lax.pow(convert_type(x, get_aval(x).dtype, weak), y)
    x, y = promote_args_numeric("power", x, y)
    if dtypes.is_integer(get_aval(x).dtype):
        return _integer_array_power(x, y)
    return lax.pow(x, y)


def _integer_array_power(x, y):
    """Integers to integer powers by squaring over the exponent's bits; negative powers are those
    of the truncated reciprocal.
    """
    dtype = get_aval(x).dtype
    shape = np.broadcast_shapes(get_aval(x).shape, get_aval(y).shape)
    x, y = spread(x, shape), spread(y, shape)
    result = lax.full_like(x, 1)
    base, exponent = x, y
    for _ in range(dtypes.iinfo(dtype).bits if dtype.itemsize else 8):
        odd = lax.ne(lax.bitwise_and(exponent, 1), 0)
        result = lax.select(odd, lax.mul(result, base), result)
        base, exponent = lax.mul(base, base), lax.shift_right_logical(exponent, 1)
    if dtypes.issubdtype(dtype, np.signedinteger):
        negative = lax.lt(y, 0)
        inverse = lax.select(lax.eq(x, 1), lax.full_like(x, 1), lax.full_like(x, 0))
        parity = lax.select(lax.ne(lax.bitwise_and(y, 1), 0), lax.full_like(x, -1), lax.full_like(x, 1))
        inverse = lax.select(lax.eq(x, -1), parity, inverse)
        result = lax.select(negative, inverse, result)
    return result


def pow(x, y, /):
    """Alias of `power`.

    Args:
      x: the base.
      y: the exponent.

    Returns:
      As `power`.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.pow(jnp.arange(4), 2)
      Array([0, 1, 4, 9], dtype=int32)
    """
    return power(x, y)


@compiled
def float_power(x, y, /):
    """Elementwise power in floating point.

    Args:
      x, y: arrays of numbers that broadcast.

    Returns:
      An array of floats or complex numbers, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.float_power(jnp.array([1, 2]), 2)
      Array([1., 4.], dtype=float32)
    """
    return lax.pow(*promote_args_inexact("float_power", x, y))


@library_ufunc(nin=1)
def negative(x, /):
    """Elementwise ``-x``.

    Args:
      x: an array of numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.negative(jnp.array([1, -2]))
      Array([-1,  2], dtype=int32)
    """
    check_arraylike("negative", x)
    return lax.neg(x)


@inlined
def positive(x, /):
    """Elementwise ``+x``: ``x`` itself.

    Args:
      x: an array of numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.positive(jnp.array([1, -2]))
      Array([ 1, -2], dtype=int32)
    """
    return promote_args("positive", x)[0]


@inlined
def absolute(x, /):
    """Elementwise absolute value, ``abs(x)``; the modulus of complex numbers.

    Args:
      x: an array of numbers.

    Returns:
      An array of real numbers, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.absolute(jnp.array([-1, 2]))
      Array([1, 2], dtype=int32)
    """
    check_arraylike("absolute", x)
    dtype = get_aval(x).dtype
    return x if dtype == np.bool_ or dtypes.issubdtype(dtype, np.unsignedinteger) else lax.abs(x)


abs = absolute


@compiled
def fabs(x, /):
    """Elementwise absolute value as a float.

    Args:
      x: an array of real numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Raises:
      TypeError: for complex numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fabs(jnp.array([-1, 2]))
      Array([1., 2.], dtype=float32)
    """
    check_arraylike("fabs", x)
    if dtypes.is_complex(get_aval(x).dtype):
        raise TypeError("ufunc 'fabs' does not support complex dtypes; use abs")
    return lax.abs(*promote_args_inexact("fabs", x))


@inlined
def sign(x, /):
    """Elementwise sign, -1, 0 or 1; of complex numbers ``x / abs(x)``.

    Args:
      x: an array of numbers; booleans have no sign.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.sign(jnp.array([-2., 0., 3.]))
      Array([-1.,  0.,  1.], dtype=float32)
    """
    return lax.sign(*promote_args("sign", x))


@inlined
def square(x, /):
    """Elementwise ``x * x``.

    Args:
      x: an array of numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.square(jnp.array([1, -2]))
      Array([1, 4], dtype=int32)
    """
    check_arraylike("square", x)
    (x,) = promote_args_numeric("square", x)
    return lax.square(x)


@inlined
def reciprocal(x, /):
    """Elementwise ``1 / x`` in floating point.

    Args:
      x: an array of numbers.

    Returns:
      An array of the shape of ``x``, of floats or complex numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.reciprocal(jnp.array([1., 4.]))
      Array([1.  , 0.25], dtype=float32)
    """
    (x,) = promote_args_inexact("reciprocal", x)
    return lax.integer_pow(x, -1)


@library_ufunc()
def maximum(x, y, /):
    """Elementwise maximum with promotion and broadcasting; NaN if either is NaN.

    Args:
      x, y: arrays of numbers or booleans that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.maximum(jnp.array([1, 5]), 3)
      Array([3, 5], dtype=int32)
    """
    return lax.max(*promote_args("maximum", x, y))


@library_ufunc()
def minimum(x, y, /):
    """Elementwise minimum with promotion and broadcasting; NaN if either is NaN.

    Args:
      x, y: arrays of numbers or booleans that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.minimum(jnp.array([1, 5]), 3)
      Array([1, 3], dtype=int32)
    """
    return lax.min(*promote_args("minimum", x, y))


@compiled
def fmax(x1, x2):
    """Elementwise maximum that ignores NaN where the other is a number.

    Args:
      x1, x2: arrays of numbers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fmax(jnp.array([1., jnp.nan]), 0.)
      Array([1., 0.], dtype=float32)
    """
    x, y = promote_args("fmax", x1, x2)
    return _ignore_nan(x, y, greater)


@compiled
def fmin(x1, x2):
    """Elementwise minimum that ignores NaN where the other is a number.

    Args:
      x1, x2: arrays of numbers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fmin(jnp.array([1., jnp.nan]), 2.)
      Array([1., 2.], dtype=float32)
    """
    x, y = promote_args("fmin", x1, x2)
    return _ignore_nan(x, y, less)


def _ignore_nan(x, y, better):
    first = better(x, y)
    if dtypes.is_inexact(get_aval(y).dtype):
        first = lax.bitwise_or(first, lax.ne(_wide(y, first), _wide(y, first)))
    return lax.select(first, _wide(x, first), _wide(y, first))
