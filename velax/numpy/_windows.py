"""Window functions of signal processing, and the Bessel function that one of them needs."""

from __future__ import annotations

import math
import operator

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import concrete_or_error, get_aval
from velax._transforms.custom_jvp import custom_jvp
from velax.numpy._creation import ones
from velax.numpy._ranges import arange
from velax.numpy._util import compiled, promote_args_inexact

__all__ = ["bartlett", "blackman", "hamming", "hanning", "i0", "kaiser"]


def i0(x):
    """The modified Bessel function of the first kind, of order 0.

    Args:
      x: an array of real numbers.

    Returns:
      An array of floats, of the shape of ``x``.

    Raises:
      ValueError: for complex numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.i0(jnp.array([0., 1.])).round(4)
      Array([1.    , 1.2661], dtype=float32)

    Reference: NIST Handbook of Mathematical Functions, 10.25.
    """
    (x,) = promote_args_inexact("i0", x)
    if dtypes.is_complex(get_aval(x).dtype):
        raise ValueError(f"Unsupported input type to jax.numpy.i0: {get_aval(x).dtype}; it takes real numbers")
    return _i0(x)


@custom_jvp
@compiled
def _i0(x):
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i0e(x))


@_i0.defjvp
def _i0_jvp(primals, tangents):
    # the derivative of the scaled function has a jump at zero, which this one does not have
    (x,), (t,) = primals, tangents
    return _i0(x), lax.mul(t, lax.mul(lax.exp(lax.abs(x)), lax.bessel_i1e(x)))


def _positions(name: str, M):
    """``M`` numbers from -1 to 1, equally spaced; None where the window is all ones."""
    M = concrete_or_error(operator.index, M, f"M argument of jnp.{name}")
    return None if M <= 1 else (2.0 * arange(M, dtype=float) - (M - 1)) / (M - 1)


def _cosines(name: str, M, *weights: float):
    """The sum of ``weights[k] * cos(pi * k * t)`` at the positions."""
    t = _positions(name, M)
    if t is None:
        return ones(M)
    total = weights[1] * lax.cos(math.pi * t) + weights[0]
    return total if len(weights) == 2 else total + weights[2] * lax.cos(2 * math.pi * t)


def bartlett(M: int):
    """The triangular window that is zero at both ends.

    Args:
      M: how many points.

    Returns:
      An array of ``M`` floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.bartlett(5)
      Array([0. , 0.5, 1. , 0.5, 0. ], dtype=float32)
    """
    t = _positions("bartlett", M)
    return ones(M) if t is None else 1.0 - lax.abs(t)


def blackman(M: int):
    """Blackman's window, a sum of three cosines.

    Args:
      M: how many points.

    Returns:
      An array of ``M`` floats.

    Example:
      >>> import velax.numpy as jnp
      >>> abs(jnp.blackman(5)).round(2)
      Array([0.  , 0.34, 1.  , 0.34, 0.  ], dtype=float32)
    """
    return _cosines("blackman", M, 0.42, 0.5, 0.08)


def hamming(M: int):
    """Hamming's window, a raised cosine.

    Args:
      M: how many points.

    Returns:
      An array of ``M`` floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.hamming(5).round(2)
      Array([0.08, 0.54, 1.  , 0.54, 0.08], dtype=float32)
    """
    return _cosines("hamming", M, 0.54, 0.46)


def hanning(M: int):
    """Von Hann's window, a raised cosine that is zero at both ends.

    Args:
      M: how many points.

    Returns:
      An array of ``M`` floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.hanning(5).round(2)
      Array([0. , 0.5, 1. , 0.5, 0. ], dtype=float32)
    """
    return _cosines("hanning", M, 0.5, 0.5)


def kaiser(M: int, beta):
    """Kaiser's window, of Bessel functions.

    Args:
      M: how many points.
      beta: how narrow the window is; 0 is a rectangle.

    Returns:
      An array of ``M`` floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.kaiser(5, 2.).round(2)
      Array([0.44, 0.83, 1.  , 0.83, 0.44], dtype=float32)
    """
    t = _positions("kaiser", M)
    return ones(M) if t is None else i0(beta * lax.sqrt(1.0 - t * t)) / i0(beta)
