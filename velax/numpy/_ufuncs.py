"""Elementwise functions: arithmetic, comparison, logic, bits, rounding, exponentials, trigonometry."""

from __future__ import annotations

import math
import operator

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._util import (
    check_arraylike,
    compiled,
    inlined,
    promote_args,
    promote_args_inexact,
    promote_args_numeric,
    promote_dtypes_inexact,
)  # fmt: skip

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan",
    "arctan2", "arctanh", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_count",
    "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "cbrt", "ceil", "conj", "conjugate", "cos", "cosh", "deg2rad", "degrees", "divide", "divmod", "equal", "exp",
    "exp2", "expm1", "fabs", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "greater",
    "greater_equal", "imag", "invert", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "left_shift", "less",
    "less_equal", "log", "log1p", "log2", "log10", "logical_and", "logical_not", "logical_or", "logical_xor",
    "maximum", "minimum", "mod", "modf", "multiply", "negative", "not_equal", "positive", "pow", "power", "rad2deg",
    "radians", "real", "reciprocal", "remainder", "right_shift", "rint", "sign", "signbit", "sin", "sinc", "sinh",
    "sqrt", "square", "subtract", "tan", "tanh", "true_divide", "trunc",
]  # fmt: skip

# -- arithmetic -----------------------------------------------------------------------------------------------------------


@inlined
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


@inlined
def subtract(x, y, /):
    """Elementwise difference with promotion and broadcasting, ``x - y``."""
    return lax.sub(*promote_args("subtract", x, y))


@inlined
def multiply(x, y, /):
    """Elementwise product with promotion and broadcasting, ``x * y``; logical AND of booleans."""
    x, y = promote_args("multiply", x, y)
    return lax.mul(x, y) if get_aval(x).dtype != np.bool_ else lax.bitwise_and(x, y)


@inlined
def true_divide(x, y, /):
    """Elementwise quotient, ``x / y``; integers become floats."""
    return lax.div(*promote_args_inexact("true_divide", x, y))


divide = true_divide


@compiled
def floor_divide(x, y, /):
    """Elementwise quotient rounded down, ``x // y``; of integers exact."""
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
    shape, target = get_aval(x).shape, get_aval(like).shape
    return x if shape == target else lax.broadcast_in_dim(x, target, range(len(target) - len(shape), len(target)))


@compiled
def remainder(x, y, /):
    """Elementwise remainder with the sign of the divisor, ``x % y``."""
    x, y = promote_args_numeric("remainder", x, y)
    mod = lax.rem(x, y)
    if dtypes.issubdtype(get_aval(x).dtype, np.unsignedinteger):
        return mod
    nonzero = lax.ne(mod, 0)
    adjust = lax.bitwise_and(lax.ne(lax.lt(mod, 0), _wide(lax.lt(y, 0), mod)), nonzero)
    return lax.select(adjust, lax.add(mod, y), mod)


mod = remainder


@compiled
def fmod(x, y, /):
    """Elementwise remainder with the sign of the dividend, as C's ``fmod``."""
    return lax.rem(*promote_args_numeric("fmod", x, y))


@compiled
def divmod(x, y, /):
    """``(x // y, x % y)``."""
    x, y = promote_args_numeric("divmod", x, y)
    if dtypes.is_integer(get_aval(x).dtype):
        return floor_divide(x, y), remainder(x, y)
    return _float_divmod(x, y)


@compiled
def modf(x, /):
    """Fractional and integral parts, both with the sign of ``x``."""
    (x,) = promote_args_inexact("modf", x)
    whole = trunc(x)
    return lax.sub(x, whole), whole


def power(x, y, /):
    """Elementwise power, ``x ** y``, with promotion and broadcasting.

    A Python integer exponent is applied by repeated squaring.

    Raises:
      TypeError: for an integer ``x`` with a negative Python integer ``y``.
    """
    check_arraylike("power", x, y)
    if isinstance(y, (bool, np.bool_)):
        y = int(y)
    if isinstance(y, (int, np.integer)) and not isinstance(y, np.generic):
        dtype = dtypes.dtype(x)
        if dtype != np.bool_ and not (dtypes.is_integer(dtype) and y < 0):
            return _integer_power(x, exponent=operator.index(y))
        if dtypes.is_integer(dtype) and y < 0:
            raise TypeError(
                f"Integers cannot be raised to negative powers, got integer_pow({get_aval(x).str_short()}, {y}). "
                "Convert the base to float first."
            )
    return _power(x, y)


def _integer_power_of(x, *, exponent):
    if not hasattr(x, "aval"):
        (x,) = (convert_type(x, get_aval(x).dtype, get_aval(x).weak_type),)
    return lax.integer_pow(x, exponent)


_integer_power = compiled(_integer_power_of, static=("exponent",), inline=True)


@inlined
def _power(x, y):
    base, exponent = get_aval(x).dtype, get_aval(y).dtype
    if dtypes.is_inexact(base) and dtypes.is_integer(exponent):
        x, y = promote_args("power", x, convert_type(y, np.result_type(exponent, np.int32) if exponent.itemsize < 4 else exponent))
        return lax.pow(x, y)
    x, y = promote_args_numeric("power", x, y)
    if dtypes.is_integer(get_aval(x).dtype):
        return _integer_array_power(x, y)
    return lax.pow(x, y)


def _integer_array_power(x, y):
    """Integers to integer powers by squaring over the exponent's bits; negative powers are those of the truncated reciprocal."""
    dtype = get_aval(x).dtype
    shape = np.broadcast_shapes(get_aval(x).shape, get_aval(y).shape)
    x, y = (lax.broadcast_in_dim(v, shape, range(len(shape) - get_aval(v).ndim, len(shape))) for v in (x, y))
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
    """Alias of `power`."""
    return power(x, y)


@compiled
def float_power(x, y, /):
    """Elementwise power in floating point."""
    return lax.pow(*promote_args_inexact("float_power", x, y))


@inlined
def negative(x, /):
    """Elementwise ``-x``."""
    check_arraylike("negative", x)
    return lax.neg(x)


@inlined
def positive(x, /):
    """Elementwise ``+x``: ``x`` itself."""
    return promote_args("positive", x)[0]


@inlined
def absolute(x, /):
    """Elementwise absolute value, ``abs(x)``; the modulus of complex numbers."""
    check_arraylike("absolute", x)
    dtype = get_aval(x).dtype
    return x if dtype == np.bool_ or dtypes.issubdtype(dtype, np.unsignedinteger) else lax.abs(x)


abs = absolute


@compiled
def fabs(x, /):
    """Elementwise absolute value as a float."""
    return lax.abs(*promote_args_inexact("fabs", x))


@inlined
def sign(x, /):
    """Elementwise sign, -1, 0 or 1."""
    return lax.sign(*promote_args_numeric("sign", x))


@inlined
def square(x, /):
    """Elementwise ``x * x``."""
    check_arraylike("square", x)
    (x,) = promote_args_numeric("square", x)
    return lax.square(x)


@inlined
def reciprocal(x, /):
    """Elementwise ``1 / x`` in floating point."""
    (x,) = promote_args_inexact("reciprocal", x)
    return lax.integer_pow(x, -1)


@inlined
def maximum(x, y, /):
    """Elementwise maximum with promotion and broadcasting; NaN if either is NaN."""
    return lax.max(*promote_args("maximum", x, y))


@inlined
def minimum(x, y, /):
    """Elementwise minimum with promotion and broadcasting; NaN if either is NaN."""
    return lax.min(*promote_args("minimum", x, y))


@compiled
def fmax(x1, x2, /):
    """Elementwise maximum that ignores NaN where the other is a number."""
    x, y = promote_args("fmax", x1, x2)
    return _ignore_nan(x, y, lax.gt)


@compiled
def fmin(x1, x2, /):
    """Elementwise minimum that ignores NaN where the other is a number."""
    x, y = promote_args("fmin", x1, x2)
    return _ignore_nan(x, y, lax.lt)


def _ignore_nan(x, y, better):
    first = better(x, y)
    if dtypes.is_inexact(get_aval(y).dtype):
        first = lax.bitwise_or(first, lax.ne(_wide(y, first), _wide(y, first)))
    return lax.select(first, _wide(x, first), _wide(y, first))


# -- comparison and logic -------------------------------------------------------------------------------------------------


def _comparison(name, op, text):
    def f(x, y, /):
        x, y = promote_args(name, x, y)
        dtype = get_aval(x).dtype
        if dtypes.is_complex(dtype) and op not in (lax.eq, lax.ne):
            real_x, real_y = lax.real(x), lax.real(y)
            strict = lax.lt if op in (lax.lt, lax.le) else lax.gt
            return lax.select(lax.eq(real_x, real_y), op(lax.imag(x), lax.imag(y)), strict(real_x, real_y))
        return op(x, y)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"Elementwise ``{text}`` with promotion and broadcasting, as booleans."
    return inlined(f)


equal = _comparison("equal", lax.eq, "x == y")
not_equal = _comparison("not_equal", lax.ne, "x != y")
less = _comparison("less", lax.lt, "x < y")
less_equal = _comparison("less_equal", lax.le, "x <= y")
greater = _comparison("greater", lax.gt, "x > y")
greater_equal = _comparison("greater_equal", lax.ge, "x >= y")


def _truth(name, *xs):
    """The arguments as booleans of one rank."""
    from velax.numpy._util import promote_shapes

    check_arraylike(name, *xs)
    as_bool = [x if get_aval(x).dtype == np.bool_ else lax.ne(x, get_aval(x).dtype.type(0)) for x in xs]
    return promote_shapes(name, *as_bool)


@inlined
def logical_and(x, y, /):
    """Elementwise logical AND of truth values."""
    return lax.bitwise_and(*_truth("logical_and", x, y))


@inlined
def logical_or(x, y, /):
    """Elementwise logical OR of truth values."""
    return lax.bitwise_or(*_truth("logical_or", x, y))


@inlined
def logical_xor(x, y, /):
    """Elementwise logical exclusive OR of truth values."""
    return lax.bitwise_xor(*_truth("logical_xor", x, y))


@inlined
def logical_not(x, /):
    """Elementwise logical NOT of truth values."""
    return lax.bitwise_not(*_truth("logical_not", x))


@inlined
def bitwise_and(x, y, /):
    """Elementwise ``x & y``."""
    return lax.bitwise_and(*promote_args("bitwise_and", x, y))


@inlined
def bitwise_or(x, y, /):
    """Elementwise ``x | y``."""
    return lax.bitwise_or(*promote_args("bitwise_or", x, y))


@inlined
def bitwise_xor(x, y, /):
    """Elementwise ``x ^ y``."""
    return lax.bitwise_xor(*promote_args("bitwise_xor", x, y))


@inlined
def bitwise_not(x, /):
    """Elementwise ``~x``."""
    return lax.bitwise_not(*promote_args("bitwise_not", x))


invert = bitwise_invert = bitwise_not


@inlined
def left_shift(x, y, /):
    """Elementwise ``x << y``; shifts by the width or more give 0."""
    return lax.shift_left(*promote_args_numeric("left_shift", x, y))


bitwise_left_shift = left_shift


@inlined
def right_shift(x1, x2, /):
    """Elementwise ``x1 >> x2``; signed integers keep their sign."""
    x, y = promote_args_numeric("right_shift", x1, x2)
    signed = dtypes.issubdtype(get_aval(x).dtype, np.signedinteger)
    return lax.shift_right_arithmetic(x, y) if signed else lax.shift_right_logical(x, y)


bitwise_right_shift = right_shift


@compiled
def bitwise_count(x, /):
    """Elementwise number of set bits of ``abs(x)``, as uint8."""
    (x,) = promote_args_numeric("bitwise_count", x)
    return convert_type(lax.population_count(lax.abs(x)), np.dtype("uint8"))


# -- classification -------------------------------------------------------------------------------------------------------


@inlined
def isfinite(x, /):
    """Elementwise whether neither infinite nor NaN."""
    check_arraylike("isfinite", x)
    dtype = get_aval(x).dtype
    if dtypes.is_floating(dtype):
        return lax.is_finite(x)
    if dtypes.is_complex(dtype):
        return lax.bitwise_and(lax.is_finite(lax.real(x)), lax.is_finite(lax.imag(x)))
    return lax.full_like(x, True, dtype=np.bool_)


@inlined
def isinf(x, /):
    """Elementwise whether infinite."""
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
    """Elementwise whether NaN."""
    check_arraylike("isnan", x)
    return lax.ne(x, x)


@compiled
def isposinf(x, /, out=None):
    """Elementwise whether positive infinity."""
    check_arraylike("isposinf", x)
    return lax.eq(x, get_aval(x).dtype.type(math.inf)) if dtypes.is_floating(get_aval(x).dtype) else lax.full_like(x, False, dtype=np.bool_)


@compiled
def isneginf(x, /, out=None):
    """Elementwise whether negative infinity."""
    check_arraylike("isneginf", x)
    return lax.eq(x, get_aval(x).dtype.type(-math.inf)) if dtypes.is_floating(get_aval(x).dtype) else lax.full_like(x, False, dtype=np.bool_)


@compiled
def signbit(x, /):
    """Elementwise whether the sign bit is set (true for -0.0)."""
    check_arraylike("signbit", x)
    dtype = get_aval(x).dtype
    if dtypes.is_floating(dtype):
        bits = np.dtype(f"int{dtypes.itemsize_bits(dtype)}")
        return lax.lt(lax.bitcast_convert_type(x, bits), bits.type(0))
    return lax.lt(x, dtype.type(0)) if dtypes.issubdtype(dtype, np.signedinteger) else lax.full_like(x, False, dtype=np.bool_)


# -- functions of one float -----------------------------------------------------------------------------------------------


def _float_function(name, op, text):
    def f(x, /):
        return op(*promote_args_inexact(name, x))

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"Elementwise {text}; integers become floats.\n\n    Args:\n      x: an array or number.\n\n    Returns:\n      An array of the same shape.\n    "
    return inlined(f)


sqrt = _float_function("sqrt", lax.sqrt, "square root")
cbrt = _float_function("cbrt", lax.cbrt, "cube root")
exp = _float_function("exp", lax.exp, "exponential")
exp2 = _float_function("exp2", lax.exp2, "power of two")
expm1 = _float_function("expm1", lax.expm1, "``exp(x) - 1``")
log = _float_function("log", lax.log, "natural logarithm")
log1p = _float_function("log1p", lax.log1p, "``log(1 + x)``")
sin = _float_function("sin", lax.sin, "sine")
cos = _float_function("cos", lax.cos, "cosine")
tan = _float_function("tan", lax.tan, "tangent")
arcsin = asin = _float_function("arcsin", lax.asin, "inverse sine")
arccos = acos = _float_function("arccos", lax.acos, "inverse cosine")
arctan = atan = _float_function("arctan", lax.atan, "inverse tangent")
sinh = _float_function("sinh", lax.sinh, "hyperbolic sine")
cosh = _float_function("cosh", lax.cosh, "hyperbolic cosine")
tanh = _float_function("tanh", lax.tanh, "hyperbolic tangent")
arcsinh = asinh = _float_function("arcsinh", lax.asinh, "inverse hyperbolic sine")
arccosh = acosh = _float_function("arccosh", lax.acosh, "inverse hyperbolic cosine")
arctanh = atanh = _float_function("arctanh", lax.atanh, "inverse hyperbolic tangent")


@compiled
def log2(x, /):
    """Elementwise base-2 logarithm."""
    (x,) = promote_args_inexact("log2", x)
    return lax.div(lax.log(x), lax.log(lax.full_like(x, 2)))


@compiled
def log10(x, /):
    """Elementwise base-10 logarithm."""
    (x,) = promote_args_inexact("log10", x)
    return lax.div(lax.log(x), lax.log(lax.full_like(x, 10)))


@inlined
def floor(x, /):
    """Elementwise largest integer not above; integers stay."""
    check_arraylike("floor", x)
    return lax.floor(x) if dtypes.is_inexact(get_aval(x).dtype) else positive(x)


@inlined
def ceil(x, /):
    """Elementwise smallest integer not below; integers stay."""
    check_arraylike("ceil", x)
    return lax.ceil(x) if dtypes.is_inexact(get_aval(x).dtype) else positive(x)


@compiled
def trunc(x, /):
    """Elementwise integer part, toward zero; integers stay."""
    check_arraylike("trunc", x)
    if not dtypes.is_inexact(get_aval(x).dtype):
        return positive(x)
    return lax.select(lax.lt(x, 0), lax.ceil(x), lax.floor(x))


@compiled
def rint(x, /):
    """Elementwise nearest integer, halves to even, as a float."""
    (x,) = promote_args_inexact("rint", x)
    if dtypes.is_complex(get_aval(x).dtype):
        return lax.complex(rint(lax.real(x)), rint(lax.imag(x)))
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


@compiled
def deg2rad(x, /):
    """Elementwise degrees to radians."""
    (x,) = promote_args_inexact("deg2rad", x)
    return lax.mul(x, math.pi / 180)


@compiled
def rad2deg(x, /):
    """Elementwise radians to degrees."""
    (x,) = promote_args_inexact("rad2deg", x)
    return lax.mul(x, 180 / math.pi)


radians, degrees = deg2rad, rad2deg


@compiled
def sinc(x, /):
    """Elementwise ``sin(pi x) / (pi x)``, 1 at zero."""
    (x,) = promote_args_inexact("sinc", x)
    zero = lax.eq(x, 0)
    pi_x = lax.mul(x, math.pi)
    safe = lax.select(zero, lax.full_like(x, 1), pi_x)
    # around zero the series, whose derivatives are right there too
    series = lax.sub(lax.full_like(x, 1), lax.div(lax.square(pi_x), 6.0))
    return lax.select(zero, series, lax.div(lax.sin(safe), safe))


# -- functions of two floats ----------------------------------------------------------------------------------------------


@inlined
def arctan2(x1, x2, /):
    """Elementwise angle of the point ``(x2, x1)``, in ``[-pi, pi]``."""
    return lax.atan2(*promote_args_inexact("arctan2", x1, x2))


atan2 = arctan2


# -- complex numbers ------------------------------------------------------------------------------------------------------


@inlined
def conjugate(x, /):
    """Elementwise complex conjugate; real numbers stay."""
    check_arraylike("conjugate", x)
    return lax.conj(x) if dtypes.is_complex(get_aval(x).dtype) else positive(x)


conj = conjugate


@inlined
def real(val, /):
    """Elementwise real part."""
    check_arraylike("real", val)
    return lax.real(val) if dtypes.is_complex(get_aval(val).dtype) else positive(val)


@inlined
def imag(val, /):
    """Elementwise imaginary part, zero for real numbers."""
    check_arraylike("imag", val)
    return lax.imag(val) if dtypes.is_complex(get_aval(val).dtype) else lax.full_like(val, 0)


@compiled(static=("deg",))
def angle(z, deg: bool = False):
    """Elementwise angle of complex numbers, in radians, or degrees if ``deg``."""
    check_arraylike("angle", z)
    re, im = promote_dtypes_inexact(real(z), imag(z))
    result = lax.atan2(im, re)
    return rad2deg(result) if deg else result
