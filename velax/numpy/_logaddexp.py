"""Sums in the logarithmic domain, with derivatives that hold where the terms are equal or infinite."""

from __future__ import annotations

import math

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.custom_jvp import custom_jvp
from velax.lax._values import full_like
from velax.numpy._ufunc import library_ufunc
from velax.numpy._util import promote_args_inexact, settled

__all__ = ["logaddexp", "logaddexp2"]


@library_ufunc(identity=-math.inf)
def logaddexp(x1, x2, /):
    """Elementwise ``log(exp(x1) + exp(x2))`` without overflow.

    Args:
      x1, x2: arrays or numbers.

    Returns:
      An array of floats or complex numbers, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> bool(jnp.logaddexp(1000.0, 1000.0) > 1000.0)
      True
    """
    return _logaddexp(*promote_args_inexact("logaddexp", x1, x2))


@library_ufunc(identity=-math.inf)
def logaddexp2(x1, x2, /):
    """Elementwise ``log2(2**x1 + 2**x2)`` without overflow.

    Args:
      x1, x2: arrays of numbers that broadcast.

    Returns:
      An array of floats, of the common shape.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.logaddexp2(jnp.array([3.]), jnp.array([3.]))
      Array([4.], dtype=float32)
    """
    return _logaddexp2(*settled(*promote_args_inexact("logaddexp2", x1, x2)))


def _sum(x1, x2, exp, scale: float):
    """``high + log1p(exp(low - high)) / scale``; where the difference is no number, ``x1 + x2``
    is infinite or NaN as it should be.
    """
    high = lax.max(x1, x2)
    dtype = get_aval(high).dtype
    if dtypes.is_complex(dtype):
        delta = lax.sub(lax.add(x1, x2), lax.mul(high, full_like(high, 2)))
        out = lax.add(high, lax.div(lax.log1p(exp(delta)), full_like(delta, scale)))
        return lax.complex(lax.real(out), _wrap(lax.imag(out), math.pi / scale))
    delta = lax.sub(x1, x2)
    tail = lax.log1p(exp(lax.neg(lax.abs(delta))))
    tail = tail if scale == 1 else lax.div(tail, full_like(tail, scale))
    return lax.select(lax.ne(delta, delta), lax.add(x1, x2), lax.add(high, tail))


def _wrap(x, bound: float):
    """An angle brought into ``[-bound, bound)``."""
    dtype = get_aval(x).dtype
    period, bound = full_like(x, 2 * bound), full_like(x, bound)
    rest = lax.rem(lax.add(x, bound), period)
    rest = lax.select(lax.lt(rest, dtype.type(0)), lax.add(rest, period), rest)
    return lax.sub(rest, bound)


def _finite(x):
    """``x`` with 0 in place of infinity, so that differences to an infinite result are numbers."""
    dtype = get_aval(x).dtype
    if dtypes.is_complex(dtype):
        return x
    return lax.select(lax.eq(x, dtype.type(np.inf)), lax.full_like(x, 0), x)


@custom_jvp
def _logaddexp(x1, x2):
    return _sum(x1, x2, lax.exp, 1)


@custom_jvp
def _logaddexp2(x1, x2):
    return _sum(x1, x2, lax.exp2, math.log(2))


def _share(exp):
    """The derivative by one term: its share of the sum."""
    return lambda t, out, x: lax.mul(t, exp(lax.sub(_finite(x), _finite(out))))


_logaddexp.defjvps(
    lambda t, out, x1, x2: _share(lax.exp)(t, out, x1), lambda t, out, x1, x2: _share(lax.exp)(t, out, x2)
)
_logaddexp2.defjvps(
    lambda t, out, x1, x2: _share(lax.exp2)(t, out, x1), lambda t, out, x1, x2: _share(lax.exp2)(t, out, x2)
)
