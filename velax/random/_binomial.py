"""The binomial and the multinomial distribution."""

from __future__ import annotations

import math

import numpy as np

from velax import lax
from velax._lang.trace import get_aval
from velax.lax._structural import canonical_shape, convert_type
from velax.numpy import take
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact
from velax.random._parameters import (
    check_parameters,
    constant,
    float_dtype,
    fresh_keys,
    prepare,
    result_shape,
    shape_of,
    widen,
)
from velax.random._primitives import random_split_p
from velax.random._rejection import some, transformed_rejection
from velax.random._samplers import _uniform

__all__ = ["binomial", "multinomial"]


def binomial(key, n, p, shape=None, dtype=None):
    """Draw from the binomial distribution: the number of successes of probability ``p`` among ``n`` trials.

    Args:
      key: a key.
      n: the number of trials, not negative; broadcasts to ``shape``.
      p: the probability; broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``n`` and ``p`` broadcast together.
      dtype: a float dtype.

    Returns:
      Whole numbers in an array of this shape and dtype; NaN where ``n`` or ``p`` is NaN or out of its range.

    Raises:
      ValueError: if ``dtype`` is no float or the shapes do not fit.

    Example:
      >>> from velax import random
      >>> float(random.binomial(random.key(0), 3, 1.0))
      3.0
    """
    key = prepare("binomial", key)
    check_arraylike("binomial", n, p)
    dtype = float_dtype("binomial", dtype)
    return _binomial(key, n, p, result_shape("binomial", shape, n, p), dtype)


@compiled(static=("shape", "dtype"))
def _binomial(key, n, p, shape, dtype):
    n, p = (widen(x, shape) for x in promote_dtypes_inexact(n, p))
    drawn = get_aval(n).dtype
    number = lambda v: lax.full_like(n, v)
    rare = lax.lt(p, number(0.5))
    q = lax.select(rare, p, lax.sub(number(1), p))
    # NaN fails every comparison, so these are written as what must hold
    valid_n, valid_q = lax.ge(n, number(0)), lax.ge(q, number(0))
    endless = lax.eq(n, number(np.inf))
    safe_q = lax.select(valid_q, q, number(0.01))
    few = lax.bitwise_not(lax.bitwise_and(valid_n, lax.gt(lax.mul(n, safe_q), number(10))))
    # each method sees parameters that it is made for
    counted = _by_counting(key, lax.select(few, lax.floor(n), number(0)), safe_q, shape, drawn)
    other = lax.bitwise_or(few, endless)
    rejection = _by_rejection(
        key, lax.select(other, number(1e4), n), lax.select(other, number(0.5), safe_q), shape, drawn
    )
    out = lax.select(few, counted, rejection)
    out = lax.select(endless, number(np.inf), out)
    out = lax.select(lax.bitwise_or(rare, endless), out, lax.sub(n, out))
    return convert_type(lax.select(lax.bitwise_and(valid_n, valid_q), out, number(np.nan)), dtype)


def _by_counting(key, n, q, shape, dtype):
    """Waiting times from success to success, of the geometric distribution, are summed until they exceed the trials."""
    log_rest = lax.log1p(lax.neg(q))

    def body(state):
        count, total, key = state
        subkey, key = fresh_keys(key)
        count = lax.select(lax.le(total, n), lax.add(count, constant(dtype, 1)), count)
        wait = lax.ceil(lax.div(lax.log(_uniform(subkey, shape, dtype, 0.0, 1.0)), log_rest))
        return count, lax.add(total, wait), key

    zero = lax.full(shape, 0, dtype)
    count, _, _ = lax.while_loop(lambda s: some(lax.le(s[1], n)), body, (zero, zero, key))
    return lax.sub(count, constant(dtype, 1))


#: ``log k! - (log(2 pi)/2 + (k + 1/2) log(k + 1) - (k + 1))`` of the first k, where the series is not exact enough
_STIRLING_ERRORS = [
    math.lgamma(k + 1) - (0.5 * math.log(2 * math.pi) + (k + 0.5) * math.log(k + 1) - (k + 1)) for k in range(10)
]


def _stirling_error(k, dtype):
    c = lambda v: constant(dtype, v)
    last = len(_STIRLING_ERRORS) - 1
    clipped = lax.clamp(c(0), k, c(last))
    listed = take(np.asarray(_STIRLING_ERRORS).astype(dtype), convert_type(clipped, np.dtype("int32")), 0)
    successor = lax.add(lax.max(k, c(0)), c(1))
    square = lax.mul(successor, successor)
    series = lax.div(lax.sub(c(1 / 12), lax.div(lax.sub(c(1 / 360), lax.div(c(1 / 1260), square)), square)), successor)
    return lax.select(lax.le(k, c(last)), listed, series)


def _by_rejection(key, n, q, shape, dtype):
    """Transformed rejection: Hörmann, "The generation of binomial random variates" (1993)."""
    c = lambda v: constant(dtype, v)
    rest = lax.sub(c(1), q)
    deviation = lax.sqrt(lax.mul(lax.mul(n, q), rest))
    b = lax.add(c(1.15), lax.mul(c(2.53), deviation))
    a = lax.add(lax.add(c(-0.0873), lax.mul(c(0.0248), b)), lax.mul(c(0.01), q))
    centre = lax.add(lax.mul(n, q), c(0.5))
    v_r = lax.sub(c(0.92), lax.div(c(4.2), b))
    odds = lax.div(q, rest)
    alpha = lax.mul(lax.add(c(2.83), lax.div(c(5.1), b)), deviation)
    mode = lax.floor(lax.mul(lax.add(n, c(1)), q))
    plus = lambda x: lax.add(x, c(1))
    half = lambda x: lax.add(x, c(0.5))
    error = lambda k: _stirling_error(k, dtype)

    def log_ratio(k):
        """The logarithm of the probability of k over that of the mode."""
        off_mode, off_k = plus(lax.sub(n, mode)), plus(lax.sub(n, k))
        out = lax.mul(half(mode), lax.log(lax.div(plus(mode), lax.mul(odds, off_mode))))
        out = lax.add(out, lax.mul(plus(n), lax.log(lax.div(off_mode, off_k))))
        out = lax.add(out, lax.mul(half(k), lax.log(lax.div(lax.mul(odds, off_k), plus(k)))))
        out = lax.add(lax.add(out, error(mode)), error(lax.sub(n, mode)))
        return lax.sub(lax.sub(out, error(k)), error(lax.sub(n, k)))

    def propose(u, v, shifted):
        k = lax.floor(lax.add(lax.mul(lax.add(lax.div(lax.mul(c(2), a), shifted), b), u), centre))
        at_once = lax.bitwise_and(lax.ge(shifted, c(0.07)), lax.le(v, v_r))
        outside = lax.bitwise_or(lax.lt(k, c(0)), lax.gt(k, n))
        s = lax.log(lax.div(lax.mul(v, alpha), lax.add(lax.div(a, lax.mul(shifted, shifted)), b)))
        return k, lax.bitwise_or(at_once, lax.bitwise_and(lax.bitwise_not(outside), lax.le(s, log_ratio(k))))

    return transformed_rejection(key, shape, dtype, propose)


def multinomial(key, n, p, *, shape=None, dtype=None, unroll: int | bool = 1):
    """Draw from the multinomial distribution: how often each of several outcomes occurs among ``n`` trials.

    Args:
      key: a key.
      n: the number of trials; broadcasts to the shape of the result without its last axis.
      p: the probabilities of the outcomes along the last axis; broadcasts to the shape of the result.
      shape: the shape of the result, which ends in the number of outcomes; by default that of ``p``.
      dtype: a float dtype.
      unroll: how many outcomes a step of the loop over them takes.

    Returns:
      Whole numbers whose sums along the last axis are ``n``.

    Raises:
      ValueError: if ``dtype`` is no float, ``p`` is of rank 0, or the shapes do not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import random
      >>> float(random.multinomial(random.key(0), 10, jnp.array([0.2, 0.3, 0.5])).sum())
      10.0
    """
    key = prepare("multinomial", key)
    check_arraylike("multinomial", n, p)
    dtype = float_dtype("multinomial", dtype)
    shape = shape_of(p) if shape is None else canonical_shape(shape, "multinomial")
    if not shape:
        raise ValueError("multinomial: p must have an axis of outcomes, got an array of rank 0")
    check_parameters("multinomial", shape, shape_of(p))
    check_parameters("multinomial", shape[:-1], shape_of(n))
    return _multinomial(key, n, p, shape, dtype, unroll)


@compiled(static=("shape", "dtype", "unroll"))
def _multinomial(key, n, p, shape, dtype, unroll):
    n, p = promote_dtypes_inexact(n, p)
    drawn = get_aval(p).dtype
    rank = len(shape)
    n, p = widen(n, shape[:-1]), widen(p, shape)
    p = lax.transpose(p, (rank - 1, *range(rank - 1)))
    # the probability of an outcome, given that those before did not occur
    rest = lax.cumsum(p, 0, reverse=True)
    nothing = lax.eq(rest, lax.full_like(rest, 0))
    conditional = lax.clamp(
        constant(drawn, 0), lax.div(p, lax.select(nothing, lax.full_like(rest, 1), rest)), constant(drawn, 1)
    )

    def step(left, inputs):
        ratio, subkey = inputs
        count = _binomial(subkey, left, ratio, shape[:-1], drawn)
        return lax.sub(left, count), count

    keys = random_split_p.bind(key, shape=(shape[-1],))
    _, counts = lax.scan(step, n, (conditional, keys), unroll=unroll)
    return convert_type(lax.transpose(counts, (*range(1, rank), 0)), dtype)
