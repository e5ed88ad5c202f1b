"""Polynomials as arrays of their coefficients, from the highest power, and phases without jumps."""

from __future__ import annotations

import math
import operator

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import divmod as _divmod, mod, power
from velax.numpy._correlation import convolve
from velax.numpy._creation import asarray, ones
from velax.numpy._cumulative import cumsum
from velax.numpy._ranges import arange
from velax.numpy._selecting import _where, diff
from velax.numpy._shaping import atleast_1d
from velax.numpy._util import check_arraylike, compiled, promote_dtypes, promote_dtypes_inexact, to_array

__all__ = ["poly", "polyadd", "polyder", "polydiv", "polyint", "polymul", "polysub", "unwrap", "vander"]


def poly(seq_of_zeros):
    """The coefficients of the polynomial with given zeros, whose highest coefficient is one.

    Args:
      seq_of_zeros: an array of one axis.

    Returns:
      An array with one element more.

    Raises:
      ValueError: for arrays of more axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.poly(jnp.array([1., 2.]))
      Array([ 1., -3.,  2.], dtype=float32)
    """
    check_arraylike("poly", seq_of_zeros)
    (zeros,) = promote_dtypes_inexact(to_array(seq_of_zeros))
    zeros = atleast_1d(zeros)
    if zeros.ndim != 1:
        raise ValueError(
            f"jnp.poly takes zeros as an array of one axis, got shape {zeros.shape}; of a matrix, pass its eigenvalues"
        )
    one = ones((1,), zeros.dtype)
    if not zeros.size:
        return one[0]
    out = one
    for i in range(zeros.size):
        out = convolve(out, lax.concatenate([one, -zeros[i : i + 1]], 0))
    return out


def _padded(name: str, a1, a2):
    """Both operands in one dtype and of one length, zeros before the shorter one; further axes are of coefficients."""
    check_arraylike(name, a1, a2)
    a1, a2 = promote_dtypes(to_array(a1), to_array(a2))
    first, second = get_aval(a1).shape, get_aval(a2).shape
    if not first or not second or first[1:] != second[1:]:
        raise ValueError(
            f"{name} takes coefficients along the first axes, with equal further axes, got shapes {first} and {second}"
        )
    size = max(first[0], second[0])
    pad = lambda a, n: lax.pad(a, get_aval(a).dtype.type(0), [(size - n, 0, 0)] + [(0, 0, 0)] * (len(first) - 1))
    return [pad(a1, first[0]), pad(a2, second[0])]


@compiled
def polyadd(a1, a2):
    """The sum of two polynomials.

    Args:
      a1, a2: coefficients, from the highest power.

    Returns:
      An array as long as the longer one.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polyadd(jnp.array([1, 2]), jnp.array([1, 0, 0]))
      Array([1, 1, 2], dtype=int32)
    """
    return lax.add(*_padded("polyadd", a1, a2))


@compiled
def polysub(a1, a2):
    """The difference of two polynomials.

    Args:
      a1, a2: coefficients, from the highest power.

    Returns:
      An array as long as the longer one.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polysub(jnp.array([1, 2]), jnp.array([1, 0, 0]))
      Array([-1,  1,  2], dtype=int32)
    """
    return lax.sub(*_padded("polysub", a1, a2))


def _without_leading_zeros(p):
    """``p`` from its first coefficient that is not zero."""
    values = np.asarray(concrete_or_error(None, p, "Trimming leading zeros makes a shape of values."))
    return p[int(np.argmax(values != 0)) if values.any() else len(values) :]


def polymul(a1, a2, *, trim_leading_zeros: bool = False):
    """The product of two polynomials.

    Args:
      a1, a2: coefficients, from the highest power.
      trim_leading_zeros: whether leading zeros of the operands are dropped first; not under `jit`.

    Returns:
      An array of floats.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polymul(jnp.array([1., 2.]), jnp.array([1., -2.]))
      Array([ 1.,  0., -4.], dtype=float32)
    """
    check_arraylike("polymul", a1, a2)
    a1, a2 = promote_dtypes_inexact(to_array(a1), to_array(a2))
    if trim_leading_zeros:
        a1, a2 = _without_leading_zeros(a1), _without_leading_zeros(a2)
    return convolve(*(v if get_aval(v).size else lax.full((1,), 0, get_aval(v).dtype) for v in (a1, a2)))


def polydiv(u, v, *, trim_leading_zeros: bool = False):
    """The quotient and the remainder of two polynomials.

    Args:
      u, v: coefficients of dividend and divisor, from the highest power.
      trim_leading_zeros: whether leading zeros of the remainder are dropped; not under `jit`.

    Returns:
      Two arrays of floats; without trimming the remainder is as long as ``u``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polydiv(jnp.array([1., 0., -3.]), jnp.array([1., 2.]))
      (Array([ 1., -2.], dtype=float32), Array([0., 0., 1.], dtype=float32))
    """
    check_arraylike("polydiv", u, v)
    quotient, rest = _polydiv(u, v)
    return quotient, _without_leading_zeros(rest) if trim_leading_zeros else rest


@compiled
def _polydiv(u, v):
    u, v = promote_dtypes_inexact(to_array(u), to_array(v))
    n, digits, lead = len(v), [], 1.0 / v[0]
    for k in range(len(u) - n + 1):
        digit = u[k] * lead
        digits.append(digit)
        u = u.at[k : k + n].add(-digit * v)
    return asarray(digits or [0], dtype=u.dtype), u


def polyder(p, m: int = 1):
    """The derivative of a polynomial.

    Args:
      p: coefficients, from the highest power.
      m: how often to differentiate.

    Returns:
      An array of floats, shorter by ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polyder(jnp.array([1., 2., 3.]))
      Array([2., 2.], dtype=float32)
    """
    check_arraylike("polyder", p)
    m = concrete_or_error(operator.index, m, "'m' argument of jnp.polyder")
    if m < 0:
        raise ValueError("Order of derivative must be positive")
    (p,) = promote_dtypes_inexact(to_array(p))
    for _ in range(min(m, len(p))):
        p = p[:-1] * arange(len(p) - 1, 0, -1, dtype=p.dtype)
    return p


def polyint(p, m: int = 1, k=None):
    """An antiderivative of a polynomial.

    Args:
      p: coefficients, from the highest power.
      m: how often to integrate.
      k: the constants of integration, one for each time or one for all; None: zeros.

    Returns:
      An array of floats, longer by ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polyint(jnp.array([2., 2.]), k=3.)
      Array([1., 2., 3.], dtype=float32)
    """
    m = concrete_or_error(operator.index, m, "'m' argument of jnp.polyint")
    k = 0 if k is None else k
    check_arraylike("polyint", p, k)
    p, k = promote_dtypes_inexact(to_array(p), to_array(k))
    if m < 0:
        raise ValueError("Order of integral must be positive")
    k = asarray(k).reshape(-1)
    if k.shape[0] not in (1, m):
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or m.")
    for i in range(m):
        constant = k[i % k.shape[0]].reshape(1)
        p = lax.concatenate([p / arange(len(p), 0, -1, dtype=p.dtype), constant], 0)
    return p


def vander(x, N: int | None = None, increasing: bool = False):
    """The matrix of powers of numbers, as least squares fits of polynomials need it.

    Args:
      x: an array of one axis.
      N: how many powers; None: as many as numbers.
      increasing: whether powers grow along a row.

    Returns:
      An array with a row for each number.

    Raises:
      ValueError: for other ranks, and for negative ``N``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.vander(jnp.array([1, 2, 3]))
      Array([[1, 1, 1],
             [4, 2, 1],
             [9, 3, 1]], dtype=int32)
    """
    check_arraylike("vander", x)
    x = asarray(x)
    if x.ndim != 1:
        raise ValueError("x must be a one-dimensional array")
    N = x.shape[0] if N is None else concrete_or_error(operator.index, N, "'N' argument of jnp.vander()")
    if N < 0:
        raise ValueError("N must be nonnegative")
    powers = lax.iota(x.dtype, N)
    return power(x[:, None], powers if increasing else N - 1 - powers)


@compiled(static=("axis",))
def unwrap(p, discont=None, axis: int = -1, period=2 * math.pi):
    """Phases along an axis with whole periods added, so that no step is longer than half a period.

    Args:
      p: an array of real numbers.
      discont: only steps of at least this length change; None: half a period.
      axis: the axis.
      period: the length of a period.

    Returns:
      An array of the shape of ``p``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unwrap(jnp.array([0, 3, 6, 1, 4]), period=8)
      Array([ 0,  3,  6,  9, 12], dtype=int32)
    """
    check_arraylike("unwrap", p)
    p, period = promote_dtypes(to_array(p), to_array(period))
    p = asarray(p)
    if dtypes.issubdtype(p.dtype, np.complexfloating):
        raise ValueError("jnp.unwrap does not support complex inputs.")
    if not p.shape[axis]:
        return p
    step = diff(p, axis=axis)
    if dtypes.is_integer(p.dtype):
        half, odd = _divmod(period, 2)
        ambiguous = odd == 0
    else:
        half, ambiguous = period / 2, True
    wrapped = mod(step + half, period) - half
    # half a period is the same step in both directions: it keeps its sign
    wrapped = _where((wrapped == -half) & (step > 0) & ambiguous, half, wrapped)
    change = _where(abs(step) < (period / 2 if discont is None else discont), 0, wrapped - step)
    first = lax.slice_in_dim(p, 0, 1, axis=axis)
    rest = lax.slice_in_dim(p, 1, None, axis=axis) + convert_type(cumsum(change, axis), p.dtype, False)
    return lax.concatenate([first, rest], axis % p.ndim)
