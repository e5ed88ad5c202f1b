"""Elementwise functions of the parts of numbers: exponents, signs, neighbours, divisors."""

from __future__ import annotations

import math

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._ufuncs import _wide, absolute, signbit
from velax.numpy._util import (
    check_arraylike,
    compiled,
    promote_args,
    promote_args_inexact,
    promote_dtypes_inexact,
    promote_shapes,
)

__all__ = [
    "copysign", "frexp", "gcd", "heaviside", "hypot", "lcm", "ldexp", "nextafter", "spacing",
]  # fmt: skip


@compiled
def hypot(x1, x2, /):
    """Elementwise ``sqrt(x1**2 + x2**2)`` without overflow in between."""
    x1, x2 = promote_args_inexact("hypot", x1, x2)
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
    """Elementwise magnitude of ``x1`` with the sign of ``x2``."""
    x1, x2 = promote_args_inexact("copysign", x1, x2)
    negative_ = signbit(x2)
    magnitude = lax.abs(x1)
    shape = np.broadcast_shapes(get_aval(x1).shape, get_aval(x2).shape)
    full = lambda v: lax.broadcast_in_dim(v, shape, range(len(shape) - get_aval(v).ndim, len(shape)))
    return lax.select(full(negative_), full(lax.neg(magnitude)), full(magnitude))


@compiled
def heaviside(x1, x2, /):
    """Elementwise step function: 0 below zero, ``x2`` at zero, 1 above."""
    x1, x2 = promote_args_inexact("heaviside", x1, x2)
    zero = lax.full_like(x1, 0)
    step = lax.select(lax.lt(x1, zero), zero, lax.full_like(x1, 1))
    step, x2 = _wide(step, lax.add(x1, x2)), _wide(x2, lax.add(x1, x2))
    x1 = _wide(x1, step)
    return lax.select(lax.ne(x1, x1), x1, lax.select(lax.eq(x1, 0), x2, step))


@compiled
def nextafter(x, y, /):
    """Elementwise next float after ``x`` towards ``y``."""
    return lax.nextafter(*promote_args_inexact("nextafter", x, y))


@compiled
def spacing(x, /):
    """Elementwise distance to the next float away from zero."""
    (x,) = promote_args_inexact("spacing", x)
    inf = lax.full_like(x, math.inf)
    return lax.sub(lax.nextafter(x, lax.select(lax.lt(x, 0), lax.neg(inf), inf)), x)


@compiled
def ldexp(x1, x2, /):
    """Elementwise ``x1 * 2**x2`` for integers ``x2``."""
    check_arraylike("ldexp", x1, x2)
    if not dtypes.is_integer(get_aval(x2).dtype) and get_aval(x2).dtype != np.bool_:
        raise ValueError(f"ldexp not supported for input types {(get_aval(x1).dtype, get_aval(x2).dtype)}: the exponents must be integers")
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
    """Elementwise mantissa in ``[0.5, 1)`` and exponent, with ``x == mantissa * 2**exponent``."""
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
    field = lax.bitwise_and(lax.shift_right_logical(bits, bits_type.type(info.nmant)), bits_type.type((1 << info.nexp) - 1))
    bias = (1 << (info.nexp - 1)) - 2
    exponent = lax.sub(convert_type(field, np.dtype("int32")), np.int32(bias))
    exponent = lax.select(small, lax.sub(exponent, np.int32(info.nmant + 1)), exponent)
    mask = ~(((1 << info.nexp) - 1) << info.nmant)
    mantissa_bits = lax.bitwise_or(lax.bitwise_and(bits, bits_type.type(mask)), bits_type.type(bias << info.nmant))
    mantissa = lax.bitcast_convert_type(mantissa_bits, get_aval(wide).dtype)
    special = lax.bitwise_or(lax.eq(wide, 0), lax.bitwise_not(lax.is_finite(wide)))
    return convert_type(lax.select(special, wide, mantissa), dtype), lax.select(special, lax.full_like(exponent, 0), exponent)


@compiled
def gcd(x1, x2, /):
    """Elementwise greatest common divisor of integers."""
    return _gcd("gcd", x1, x2)


def _gcd(name, x1, x2):
    x1, x2 = promote_args(name, x1, x2)
    if not dtypes.is_integer(get_aval(x1).dtype):
        raise ValueError(f"Arguments to jax.numpy.{name} must be integers, got {get_aval(x1).dtype}")
    shape = np.broadcast_shapes(get_aval(x1).shape, get_aval(x2).shape)
    a, b = (_wide_to(absolute(v), shape) for v in (x1, x2))

    def step(state):
        a, b = state
        zero = lax.eq(b, 0)
        safe = lax.select(zero, lax.full_like(b, 1), b)
        return lax.select(zero, a, b), lax.select(zero, b, lax.rem(a, safe))

    return lax.while_loop(lambda state: lax.reduce_or(lax.ne(state[1], 0), tuple(range(len(shape)))), step, (a, b))[0]


@compiled
def lcm(x1, x2, /):
    """Elementwise least common multiple of integers."""
    divisor = _gcd("lcm", x1, x2)
    x1, x2 = promote_args("lcm", x1, x2)
    shape = get_aval(divisor).shape
    x1, x2 = _wide_to(absolute(x1), shape), _wide_to(absolute(x2), shape)
    safe = lax.select(lax.eq(divisor, 0), lax.full_like(divisor, 1), divisor)
    return lax.mul(x1, lax.div(x2, safe))


def _wide_to(x, shape):
    return lax.broadcast_in_dim(x, shape, range(len(shape) - get_aval(x).ndim, len(shape)))
