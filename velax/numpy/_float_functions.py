"""Elementwise functions of floats and complex numbers: exponentials, trigonometry, rounding, parts."""

from __future__ import annotations

import functools
import math

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.custom_jvp import custom_jvp
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import positive
from velax.numpy._shaping import no_out
from velax.numpy._util import (
    check_arraylike,
    compiled,
    inlined,
    promote_args_inexact,
    settled,
)

__all__ = [
    "acos", "acosh", "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh",
    "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "conj", "conjugate", "cos", "cosh", "deg2rad",
    "degrees", "exp", "exp2", "expm1", "floor", "imag", "log", "log1p", "log2", "log10", "modf", "rad2deg",
    "radians", "real", "rint", "sin", "sinc", "sinh", "sqrt", "tan", "tanh", "trunc",
]  # fmt: skip


# -- functions of one float ----------------------------------------------------------------------


def _float_function(name, op, text, at, value):
    """A function of floats, with its value at one number for the example."""

    def f(x, /):
        return op(*promote_args_inexact(name, x))

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"""Elementwise {text}; integers become floats.

    Args:
      x: an array of numbers.

    Returns:
      An array of floats or complex numbers, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.{name}(jnp.array([{at}])).round(3)
      Array([{value}], dtype=float32)
    """
    return inlined(f)


sqrt = _float_function("sqrt", lax.sqrt, "square root", "4.", "2.")
cbrt = _float_function("cbrt", lax.cbrt, "cube root", "8.", "2.")
exp = _float_function("exp", lax.exp, "exponential", "1.", "2.718")
exp2 = _float_function("exp2", lax.exp2, "power of two", "3.", "8.")
expm1 = _float_function("expm1", lax.expm1, "``exp(x) - 1``", "1.", "1.718")
log = _float_function("log", lax.log, "natural logarithm", "10.", "2.303")
log1p = _float_function("log1p", lax.log1p, "``log(1 + x)``", "1.", "0.693")
sin = _float_function("sin", lax.sin, "sine", "1.", "0.841")
cos = _float_function("cos", lax.cos, "cosine", "1.", "0.54")
tan = _float_function("tan", lax.tan, "tangent", "1.", "1.557")
arcsin = _float_function("arcsin", lax.asin, "inverse sine", "0.5", "0.524")
asin = _float_function("asin", lax.asin, "inverse sine", "0.5", "0.524")
arccos = _float_function("arccos", lax.acos, "inverse cosine", "0.5", "1.047")
acos = _float_function("acos", lax.acos, "inverse cosine", "0.5", "1.047")
arctan = _float_function("arctan", lax.atan, "inverse tangent", "1.", "0.785")
atan = _float_function("atan", lax.atan, "inverse tangent", "1.", "0.785")
sinh = _float_function("sinh", lax.sinh, "hyperbolic sine", "1.", "1.175")
cosh = _float_function("cosh", lax.cosh, "hyperbolic cosine", "1.", "1.543")
tanh = _float_function("tanh", lax.tanh, "hyperbolic tangent", "1.", "0.762")
arcsinh = _float_function("arcsinh", lax.asinh, "inverse hyperbolic sine", "1.", "0.881")
asinh = _float_function("asinh", lax.asinh, "inverse hyperbolic sine", "1.", "0.881")
arccosh = _float_function("arccosh", lax.acosh, "inverse hyperbolic cosine", "2.", "1.317")
acosh = _float_function("acosh", lax.acosh, "inverse hyperbolic cosine", "2.", "1.317")
arctanh = _float_function("arctanh", lax.atanh, "inverse hyperbolic tangent", "0.5", "0.549")
atanh = _float_function("atanh", lax.atanh, "inverse hyperbolic tangent", "0.5", "0.549")


@compiled
def log2(x, /):
    """Elementwise base-2 logarithm.

    Args:
      x: an array of numbers.

    Returns:
      An array of floats or complex numbers, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.log2(jnp.array([1., 8.]))
      Array([0., 3.], dtype=float32)
    """
    return _logarithm("log2", x, 2)


@compiled
def log10(x, /):
    """Elementwise base-10 logarithm.

    Args:
      x: an array of numbers.

    Returns:
      An array of floats or complex numbers, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.log10(jnp.array([1., 1000.])).round(4)
      Array([0., 3.], dtype=float32)
    """
    return _logarithm("log10", x, 10)


def _logarithm(name, x, base):
    (x,) = promote_args_inexact(name, x)
    value = lax.log(x)
    dtype = get_aval(value).dtype
    if not dtypes.is_complex(dtype):
        return lax.div(value, lax.log(lax.full((), base, dtype)))
    # each part by itself: a complex quotient makes NaN of an infinite part
    scale = lax.log(lax.full((), base, dtypes.real_dtype(dtype)))
    return lax.complex(lax.div(lax.real(value), scale), lax.div(lax.imag(value), scale))


def _has_fraction(name: str, x) -> bool:
    """Whether rounding an argument may change it."""
    check_arraylike(name, x)
    dtype = get_aval(x).dtype
    if dtypes.is_extended(dtype):
        raise TypeError(f"{name} does not accept dtype {dtype}; it takes numbers")
    return dtypes.is_inexact(dtype)


@inlined
def floor(x, /):
    """Elementwise largest integer not above; integers stay.

    Args:
      x: an array of real numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.floor(jnp.array([-1.5, 1.5]))
      Array([-2.,  1.], dtype=float32)
    """
    return lax.floor(x) if _has_fraction("floor", x) else positive(x)


@inlined
def ceil(x, /):
    """Elementwise smallest integer not below; integers stay.

    Args:
      x: an array of real numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ceil(jnp.array([-1.5, 1.5]))
      Array([-1.,  2.], dtype=float32)
    """
    return lax.ceil(x) if _has_fraction("ceil", x) else positive(x)


@compiled
def trunc(x):
    """Elementwise integer part, toward zero; integers stay.

    Args:
      x: an array of real numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.trunc(jnp.array([-1.5, 1.5]))
      Array([-1.,  1.], dtype=float32)
    """
    if not _has_fraction("trunc", x):
        return positive(x)
    return lax.select(lax.lt(x, 0), lax.ceil(x), lax.floor(x))


@compiled
def modf(x, /, out=None):
    """Fractional and integral parts, both with the sign of ``x``.

    Args:
      x: an array of real numbers.
      out: not supported.

    Returns:
      Two arrays of floats, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.modf(jnp.array([1.5, -2.25]))
      (Array([ 0.5 , -0.25], dtype=float32), Array([ 1., -2.], dtype=float32))
    """
    no_out("modf", out)
    (x,) = promote_args_inexact("modf", x)
    whole = trunc(x)
    return lax.sub(x, whole), whole


@compiled
def rint(x, /):
    """Elementwise nearest integer, halves to even, as a float.

    Args:
      x: an array of numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.rint(jnp.array([0.5, 1.5, 2.6]))
      Array([0., 2., 3.], dtype=float32)
    """
    check_arraylike("rint", x)
    dtype = get_aval(x).dtype
    if dtypes.is_integer(dtype) or dtype == np.bool_:
        return convert_type(x, dtypes.default_float_dtype(), False)
    if dtypes.is_complex(get_aval(x).dtype):
        return lax.complex(rint(lax.real(x)), rint(lax.imag(x)))
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


@compiled
def deg2rad(x, /):
    """Elementwise degrees to radians.

    Args:
      x: an array of real numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.deg2rad(180.).round(4).item()
      3.1415998935699463
    """
    (x,) = settled(*promote_args_inexact("deg2rad", x))
    return lax.mul(x, math.pi / 180)


@compiled
def rad2deg(x, /):
    """Elementwise radians to degrees.

    Args:
      x: an array of real numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.rad2deg(jnp.pi).round(2).item()
      180.0
    """
    (x,) = settled(*promote_args_inexact("rad2deg", x))
    return lax.mul(x, 180 / math.pi)


radians, degrees = deg2rad, rad2deg


@functools.partial(custom_jvp, nondiff_argnums=(0,))
def _sinc_derivative_at_zero(order: int, x):
    """The derivative of `sinc` of an order where ``x`` is zero; its own derivative is that of the next order."""
    return lax.full_like(x, 0 if order % 2 else (-1) ** (order // 2) * math.pi**order / (order + 1))


@_sinc_derivative_at_zero.defjvp
def _sinc_derivative_at_zero_jvp(order, primals, tangents):
    ((x,), (t,)) = primals, tangents
    return _sinc_derivative_at_zero(order, x), lax.mul(_sinc_derivative_at_zero(order + 1, x), t)


@compiled
def sinc(x, /):
    """Elementwise ``sin(pi x) / (pi x)``, 1 at zero.

    Args:
      x: an array of numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.sinc(jnp.array([0., 0.5]))
      Array([1.        , 0.63661975], dtype=float32)
    """
    (x,) = settled(*promote_args_inexact("sinc", x))
    zero = lax.eq(x, 0)
    pi_x = lax.mul(x, math.pi)
    safe = lax.select(zero, lax.full_like(x, 1), pi_x)
    return lax.select(zero, _sinc_derivative_at_zero(0, x), lax.div(lax.sin(safe), safe))


# -- functions of two floats ---------------------------------------------------------------------


@inlined
def arctan2(x1, x2, /):
    """Elementwise angle of the point ``(x2, x1)``, in ``[-pi, pi]``.

    Args:
      x1, x2: arrays of numbers that broadcast.

    Returns:
      An array of floats, of the common shape; of complex numbers ``-i log((x2 + i x1) / sqrt(x1**2 + x2**2))``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.arctan2(jnp.array([0., 1.]), 1.)
      Array([0.       , 0.7853981], dtype=float32)
    """
    return lax.atan2(*promote_args_inexact("arctan2", x1, x2))


atan2 = arctan2


# -- complex numbers -----------------------------------------------------------------------------


@inlined
def conjugate(x, /):
    """Elementwise complex conjugate; real numbers stay.

    Args:
      x: an array of numbers.

    Returns:
      An array of the shape and dtype of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.conjugate(jnp.array([1 + 2j]))
      Array([1.-2.j], dtype=complex64)
    """
    check_arraylike("conjugate", x)
    return lax.conj(x) if dtypes.is_complex(get_aval(x).dtype) else positive(x)


conj = conjugate


@inlined
def real(val, /):
    """Elementwise real part.

    Args:
      val: an array of numbers.

    Returns:
      An array of real numbers, of the shape of ``val``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.real(jnp.array([1 + 2j]))
      Array([1.], dtype=float32)
    """
    check_arraylike("real", val)
    return lax.real(val) if dtypes.is_complex(get_aval(val).dtype) else positive(val)


@inlined
def imag(val, /):
    """Elementwise imaginary part, zero for real numbers.

    Args:
      val: an array of numbers.

    Returns:
      An array of real numbers, of the shape of ``val``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.imag(jnp.array([1 + 2j]))
      Array([2.], dtype=float32)
    """
    check_arraylike("imag", val)
    return lax.imag(val) if dtypes.is_complex(get_aval(val).dtype) else lax.full_like(val, 0)


@compiled(static=("deg",))
def angle(z, deg: bool = False):
    """Elementwise angle of complex numbers, in radians, or degrees if ``deg``.

    Args:
      z: an array of numbers.
      deg: whether in degrees.

    Returns:
      An array of floats, of the shape of ``z``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.angle(jnp.array([1j, -1.]), deg=True)
      Array([ 90., 180.], dtype=float32)
    """
    check_arraylike("angle", z)
    aval = get_aval(z)
    if not dtypes.is_complex(aval.dtype):  # as in JAX, a number becomes one of the default float
        keep = aval.shape and dtypes.is_floating(aval.dtype)
        z = convert_type(z, aval.dtype if keep else dtypes.default_float_dtype(), False)
    result = lax.atan2(imag(z), real(z))
    return rad2deg(result) if deg else result
