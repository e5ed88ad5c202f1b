"""Flattening pytrees of arrays into one vector."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import velax.numpy as jnp
from velax._lang import dtypes
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = ["ravel_pytree"]


def ravel_pytree(pytree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Flatten a pytree of arrays into one vector.

    Args:
      pytree: a pytree of arrays and numbers.

    Returns:
      The vector of all elements, in the common dtype, and a function from such a vector back to a
      pytree of the original shapes and dtypes.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax.flatten_util import ravel_pytree
      >>> vector, unravel = ravel_pytree({'a': jnp.ones(2), 'b': 3.0})
      >>> vector
      Array([1., 1., 3.], dtype=float32)
      >>> unravel(2 * vector)['b']
      Array(6., dtype=float32)
    """
    leaves, tree = tree_flatten(pytree)
    flat, unravel = _ravel(leaves)
    return flat, lambda vector: tree_unflatten(tree, unravel(vector))


def _ravel(leaves):
    if not leaves:
        return jnp.zeros(0, jnp.float32), lambda vector: []
    from_dtypes = [dtypes.dtype(x) for x in leaves]
    to_dtype = dtypes.canonicalize_dtype(jnp.result_type(*from_dtypes))
    shapes = [np.shape(x) for x in leaves]
    sizes = [math.prod(s) for s in shapes]
    limits = np.cumsum(sizes)[:-1].tolist()
    same = all(d == to_dtype for d in from_dtypes)
    flat = jnp.concatenate([jnp.ravel(x if same else jnp.asarray(x).astype(to_dtype)) for x in leaves])

    def unravel(vector):
        found, shape = dtypes.dtype(vector), np.shape(vector)
        if found != to_dtype:
            raise TypeError(f"unravel function given array of dtype {found}, but expected dtype {to_dtype}")
        if shape != (sum(sizes),):
            raise ValueError(f"unravel function given array of shape {shape}, expected shape {(sum(sizes),)}")
        chunks = [c.reshape(s) for c, s in zip(jnp.split(vector, limits), shapes, strict=True)]
        if same:
            return chunks
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # complex to real casts lose the imaginary parts that padding to the common dtype added
            return [c.astype(d) for c, d in zip(chunks, from_dtypes, strict=True)]

    return flat, unravel
