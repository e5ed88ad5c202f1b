"""Functions with batching rules of their own."""

from __future__ import annotations

from collections.abc import Callable

from velax._transforms.custom_batch import custom_vmap as custom_vmap
from velax.lax import map as _map
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = ["custom_vmap", "sequential_vmap"]


def sequential_vmap(f: Callable) -> custom_vmap:
    """A function that `vmap` applies to one example after the other.

    Args:
      f: the function; its arguments and results are pytrees of arrays.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> f = velax.custom_batching.sequential_vmap(lambda x: x * 2.0)
      >>> velax.vmap(f)(jnp.arange(3.0)).tolist()
      [0.0, 2.0, 4.0]
    """
    f = custom_vmap(f)

    @f.def_vmap
    def rule(axis_size, in_batched, *args):
        leaves, tree = tree_flatten(args)
        flags = tree_flatten(tuple(in_batched))[0]

        def one(mapped):
            given = iter(mapped)
            return f(*tree_unflatten(tree, [next(given) if b else x for x, b in zip(leaves, flags, strict=True)]))

        out = _map(one, [x for x, b in zip(leaves, flags, strict=True) if b])
        return out, tree_map(lambda _: True, out)

    return f
