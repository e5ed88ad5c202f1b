"""The Poisson distribution."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax.lax._structural import convert_type
from velax.numpy._util import compiled
from velax.random._parameters import constant, fresh_keys, int_dtype, prepare, result_shape, widen
from velax.random._rejection import some, transformed_rejection
from velax.random._samplers import _uniform

__all__ = ["poisson"]

_F32 = np.dtype("float32")


def poisson(key, lam, shape=None, dtype=None, *, out_sharding=None):
    """Draw from the Poisson distribution.

    Args:
      key: a key.
      lam: the mean, not negative; broadcasts to ``shape``.
      shape: the shape of the result; by default that of ``lam``.
      dtype: an integer dtype.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array of this shape and dtype; -1 where ``lam`` is negative or NaN.

    Raises:
      ValueError: if ``dtype`` is no integer or the shapes do not fit.
    """
    key = prepare("poisson", key, out_sharding)
    dtype = int_dtype("poisson", dtype)
    if not dtypes.is_integer(dtype):
        raise ValueError(
            f"Invalid integer data type {dtype.kind!r}. The counts of poisson are integers, got dtype={dtype}."
        )
    return _poisson(key, lam, result_shape("poisson", shape, lam), dtype)


@compiled(static=("shape", "dtype"))
def _poisson(key, lam, shape, dtype):
    lam = widen(convert_type(lam, _F32), shape)
    number = lambda v: lax.full_like(lam, v)
    small = lax.bitwise_or(lax.ne(lam, lam), lax.lt(lam, _F32.type(10)))
    # each method sees means that it is made for
    multiplied = _by_multiplication(key, lax.select(small, lam, number(0)), shape, dtype)
    rejection = _by_rejection(key, lax.select(small, number(1e5), lam), shape, dtype)
    out = lax.select(small, multiplied, rejection)
    return lax.select(lax.eq(lam, _F32.type(0)), lax.full_like(out, 0), out)


def _by_multiplication(key, lam, shape, dtype):
    """Knuth's method: uniform numbers are multiplied until the product falls below ``exp(-lam)``."""
    low = lax.neg(lam)

    def body(state):
        k, key, log_product = state
        key, subkey = fresh_keys(key)
        k = lax.select(lax.gt(log_product, low), lax.add(k, constant(dtype, 1)), k)
        return k, key, lax.add(log_product, lax.log(_uniform(subkey, shape, _F32, 0.0, 1.0)))

    start = (lax.full(shape, 0, dtype), key, lax.full(shape, 0, _F32))
    k, _, _ = lax.while_loop(lambda s: some(lax.gt(s[2], low)), body, start)
    return lax.sub(k, constant(dtype, 1))


def _by_rejection(key, lam, shape, dtype):
    """Transformed rejection: Hörmann, "The transformed rejection method for generating Poisson random
    variables" (1993).
    """
    c = _F32.type
    log_lam = lax.log(lam)
    b = lax.add(c(0.931), lax.mul(c(2.53), lax.sqrt(lam)))
    a = lax.add(c(-0.059), lax.mul(c(0.02483), b))
    inverse_alpha = lax.add(c(1.1239), lax.div(c(1.1328), lax.sub(b, c(3.4))))
    v_r = lax.sub(c(0.9277), lax.div(c(3.6224), lax.sub(b, c(2))))

    def propose(u, v, shifted):
        k = lax.floor(lax.add(lax.add(lax.mul(lax.add(lax.div(lax.mul(c(2), a), shifted), b), u), lam), c(0.43)))
        s = lax.log(lax.div(lax.mul(v, inverse_alpha), lax.add(lax.div(a, lax.mul(shifted, shifted)), b)))
        t = lax.sub(lax.add(lax.neg(lam), lax.mul(k, log_lam)), lax.lgamma(lax.add(k, c(1))))
        at_once = lax.bitwise_and(lax.ge(shifted, c(0.07)), lax.le(v, v_r))
        reject = lax.bitwise_or(lax.lt(k, c(0)), lax.bitwise_and(lax.lt(shifted, c(0.013)), lax.gt(v, shifted)))
        return k, lax.bitwise_or(at_once, lax.bitwise_and(lax.bitwise_not(reject), lax.le(s, t)))

    return convert_type(transformed_rejection(key, shape, _F32, propose), dtype)
