"""The loop that samplers by transformed rejection share (Hörmann, 1993)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from velax import lax
from velax._lang.trace import get_aval
from velax.random._parameters import constant, fresh_keys
from velax.random._samplers import _uniform

__all__ = ["some", "transformed_rejection"]


def some(x):
    """Whether any element is true."""
    return lax.reduce_or(x, tuple(range(get_aval(x).ndim)))


def transformed_rejection(key, shape, dtype, propose: Callable):
    """Numbers of the first accepted proposals.

    Args:
      key: a key.
      shape, dtype: of the result.
      propose: ``propose(u, v, distance) -> (number, accepted)``, for u uniform in ``[-1/2, 1/2)``,
        v in ``[0, 1)``, and the distance of u from the nearer end of its range.
    """
    half = constant(dtype, 0.5)

    def body(state):
        out, accepted, key = state
        key, u_key, v_key = fresh_keys(key, 3)
        u = lax.sub(_uniform(u_key, shape, dtype, 0.0, 1.0), half)
        v = _uniform(v_key, shape, dtype, 0.0, 1.0)
        number, accept = propose(u, v, lax.sub(half, lax.abs(u)))
        return lax.select(accept, number, out), lax.bitwise_or(accepted, accept), key

    start = (lax.full(shape, -1, dtype), lax.full(shape, False, np.dtype("bool")), key)
    out, _, _ = lax.while_loop(lambda s: some(lax.bitwise_not(s[1])), body, start)
    return out
