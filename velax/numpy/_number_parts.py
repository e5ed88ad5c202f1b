"""Elementwise functions of the parts of numbers: exponents, signs, neighbours, divisors."""

from __future__ import annotations

import math

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._index_parts import broadcast_to as spread
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import absolute
from velax.numpy._logic import signbit
from velax.numpy._util import (
    check_arraylike,
    compiled,
    promote_args,
    promote_args_inexact,
    promote_dtypes_inexact,
    promote_shapes,
    settled,
)

__all__ = [
    "copysign", "frexp", "gcd", "heaviside", "hypot", "lcm", "ldexp", "nextafter", "spacing",
]  # fmt: skip


@compiled
def hypot(x1, x2, /):
    """Elementwise ``sqrt(x1**2 + x2**2)`` without overflow in between.

    Args:
      x1, x2: arrays of real numbers that broadcast.

    Returns:
      An array of floats, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.hypot(jnp.array([3., 5.]), jnp.array([4., 12.]))
      Array([ 5., 13.], dtype=float32)
    """
    x1, x2 = settled(*promote_args_inexact("hypot", x1, x2))
    if dtypes.is_complex(get_aval(x1).dtype):
        raise ValueError("jnp.hypot is not well defined for complex-valued inputs; pass abs(x)")
    x1, x2 = lax.abs(x1), lax.abs(x2)
    low, high = lax.min(x1, x2), lax.max(x1, x2)
    zero = lax.eq(high, 0)
    safe = lax.select(zero, lax.full_like(high, 1), high)
    ratio = lax.div(low, safe)
    inf = get_aval(high).dtype.type(math.inf)
    value = lax.select(zero, high, lax.mul(high, lax.sqrt(lax.add(lax.square(ratio), 1))))
    return lax.select(lax.eq(high, inf), lax.full_like(high, math.inf), value)


@compiled
def copysign(x1, x2, /):
    """Elementwise magnitude of ``x1`` with the sign of ``x2``.

    Args:
      x1, x2: arrays of real numbers that broadcast.

    Returns:
      An array of floats, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.copysign(jnp.array([1., 2.]), -1)
      Array([-1., -2.], dtype=float32)
    """
    x1, x2 = promote_args_inexact("copysign", x1, x2)
    if dtypes.is_complex(get_aval(x1).dtype):
        raise TypeError("copysign does not support complex-valued inputs; apply it to real and imag")
    shape = np.broadcast_shapes(get_aval(x1).shape, get_aval(x2).shape)
    magnitude = spread(lax.abs(x1), shape)
    return lax.select(spread(signbit(x2), shape), lax.neg(magnitude), magnitude)


@compiled
def heaviside(x1, x2, /):
    """Elementwise step function: 0 below zero, ``x2`` at zero, 1 above.

    Args:
      x1, x2: arrays of real numbers that broadcast.

    Returns:
      An array of floats, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.heaviside(jnp.array([-1., 0., 1.]), 0.5)
      Array([0. , 0.5, 1. ], dtype=float32)
    """
    x1, x2 = settled(*promote_args_inexact("heaviside", x1, x2))
    shape = np.broadcast_shapes(get_aval(x1).shape, get_aval(x2).shape)
    x1, x2 = spread(x1, shape), spread(x2, shape)
    zero = lax.full_like(x1, 0)
    step = lax.select(lax.lt(x1, zero), zero, lax.full_like(x1, 1))
    return lax.select(lax.ne(x1, x1), x1, lax.select(lax.eq(x1, 0), x2, step))


@compiled
def nextafter(x, y, /):
    """Elementwise next float after ``x`` towards ``y``.

    Args:
      x, y: arrays of real numbers that broadcast.

    Returns:
      An array of floats, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> bool(jnp.nextafter(1., 2.) > 1.)
      True
    """
    return lax.nextafter(*promote_args_inexact("nextafter", x, y))


@compiled
def spacing(x, /):
    """Elementwise distance to the next float away from zero, with the sign of ``x``.

    Args:
      x: an array of real numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.spacing(jnp.array([1., 2.]))
      Array([1.1920929e-07, 2.3841858e-07], dtype=float32)
    """
    (x,) = promote_args_inexact("spacing", x)
    if dtypes.is_complex(get_aval(x).dtype):
        raise ValueError("jnp.spacing is not defined for complex inputs; apply it to real and imag")
    if dtypes.itemsize_bits(get_aval(x).dtype) < 16:
        raise NotImplementedError(
            f"jax.numpy.spacing only supports 16, 32, and 64-bit types, not {get_aval(x).dtype}; widen it with astype"
        )
    x = convert_type(x, get_aval(x).dtype, False)
    return lax.sub(lax.nextafter(x, copysign(lax.full_like(x, math.inf), x)), x)


@compiled
def ldexp(x1, x2, /):
    """Elementwise ``x1 * 2**x2`` for integers ``x2``.

    Args:
      x1: an array of real numbers.
      x2: an array of integers or booleans that broadcasts with it.

    Returns:
      An array of floats.

    Raises:
      ValueError: for complex ``x1`` and exponents that are no integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ldexp(jnp.array([1., 3.]), 2)
      Array([ 4., 12.], dtype=float32)
    """
    check_arraylike("ldexp", x1, x2)
    of, exponent = get_aval(x1).dtype, get_aval(x2).dtype
    if dtypes.is_complex(of) or not (dtypes.is_integer(exponent) or exponent == np.bool_):
        raise ValueError(
            f"ldexp not supported for input types {(of, exponent)}: it takes real numbers and exponents that are "
            "integers"
        )
    if exponent == np.bool_:
        x2 = convert_type(x2, np.dtype(np.int32), False)
    (x1,) = promote_dtypes_inexact(x1)
    dtype = get_aval(x1).dtype
    x1, x2 = promote_shapes("ldexp", x1, x2)
    # in two steps, so that neither power overflows where the product does not
    half = lax.div(x2, get_aval(x2).dtype.type(2))
    rest = lax.sub(x2, half)
    power_of = lambda n: lax.exp2(convert_type(n, dtype))
    return lax.mul(lax.mul(x1, power_of(half)), power_of(rest))


@compiled
def frexp(x, /):
    """Elementwise mantissa in ``[0.5, 1)`` and exponent, with ``x == mantissa * 2**exponent``.

    Args:
      x: an array of real numbers.

    Returns:
      The mantissas, floats, and the exponents, int32, of the shape of ``x``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.frexp(jnp.array([8., 0.75]))
      (Array([0.5 , 0.75], dtype=float32), Array([4, 0], dtype=int32))
    """
    (x,) = promote_args_inexact("frexp", x)
    dtype = get_aval(x).dtype
    if dtypes.is_complex(dtype):
        raise TypeError("frexp does not support complex-valued inputs")
    wide = x if dtype.itemsize >= 4 else convert_type(x, np.dtype("float32"))
    info = dtypes.finfo(get_aval(wide).dtype)
    bits_type = np.dtype(f"int{info.bits}")
    small = lax.lt(lax.abs(wide), info.tiny)
    scaled = lax.select(small, lax.mul(wide, 2.0 ** (info.nmant + 1)), wide)
    bits = lax.bitcast_convert_type(scaled, bits_type)
    field = lax.bitwise_and(
        lax.shift_right_logical(bits, bits_type.type(info.nmant)), bits_type.type((1 << info.nexp) - 1)
    )
    bias = (1 << (info.nexp - 1)) - 2
    exponent = lax.sub(convert_type(field, np.dtype("int32")), np.int32(bias))
    exponent = lax.select(small, lax.sub(exponent, np.int32(info.nmant + 1)), exponent)
    mask = ~(((1 << info.nexp) - 1) << info.nmant)
    mantissa_bits = lax.bitwise_or(lax.bitwise_and(bits, bits_type.type(mask)), bits_type.type(bias << info.nmant))
    mantissa = lax.bitcast_convert_type(mantissa_bits, get_aval(wide).dtype)
    special = lax.bitwise_or(lax.eq(wide, 0), lax.bitwise_not(lax.is_finite(wide)))
    return convert_type(lax.select(special, wide, mantissa), dtype), lax.select(
        special, lax.full_like(exponent, 0), exponent
    )


@compiled
def gcd(x1, x2):
    """Elementwise greatest common divisor of integers.

    Args:
      x1, x2: arrays of integers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.gcd(jnp.array([12, 18]), 8)
      Array([4, 2], dtype=int32)
    """
    return _gcd(*_magnitudes("gcd", x1, x2))


def _magnitudes(name, x1, x2):
    """The absolute values of integers, of one dtype and shape."""
    x1, x2 = settled(*promote_args(name, x1, x2))
    if not dtypes.is_integer(get_aval(x1).dtype):
        raise ValueError(f"Arguments to jax.numpy.{name} must be integers, got {get_aval(x1).dtype}")
    shape = np.broadcast_shapes(get_aval(x1).shape, get_aval(x2).shape)
    return spread(absolute(x1), shape), spread(absolute(x2), shape)


def _gcd(a, b):
    def step(state):
        a, b = state
        zero = lax.eq(b, 0)
        safe = lax.select(zero, lax.full_like(b, 1), b)
        return lax.select(zero, a, b), lax.select(zero, b, lax.rem(a, safe))

    axes = range(get_aval(a).ndim)
    return lax.while_loop(lambda state: lax.reduce_or(lax.ne(state[1], 0), axes), step, (a, b))[0]


@compiled
def lcm(x1, x2):
    """Elementwise least common multiple of integers.

    Args:
      x1, x2: arrays of integers that broadcast.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.lcm(jnp.array([4, 6]), 10)
      Array([20, 30], dtype=int32)
    """
    a, b = _magnitudes("lcm", x1, x2)
    divisor = _gcd(a, b)
    safe = lax.select(lax.eq(divisor, 0), lax.full_like(divisor, 1), divisor)
    return lax.mul(a, lax.div(b, safe))
