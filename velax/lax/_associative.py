"""Parallel prefix sums of any associative function."""

from __future__ import annotations

from collections.abc import Callable

from velax._lang.trace import get_aval
from velax.lax._slicing import concatenate, slice_in_dim
from velax.lax._structural import canonical_axis, convert_type, expand_dims, reshape, rev
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = ["associative_scan"]


def associative_scan(fn: Callable, elems, reverse: bool = False, axis: int = 0):
    """All prefixes of a sequence under an associative function, with O(n) applications in O(log n) steps.

    Args:
      fn: an associative function ``fn(a, b) -> c`` of pytrees like ``elems``, vectorized along
        ``axis``: it is called on arrays that hold several elements.
      elems: a pytree of arrays of one size along ``axis``.
      reverse: whether to combine from the end (``fn`` gets the later elements first).
      axis: the axis.

    Returns:
      A pytree like ``elems``: element i is ``fn(fn(elems[0], elems[1]), ... elems[i])``.

    Raises:
      TypeError: if ``fn`` is no function, or returns other shapes than it was given.
      ValueError: if the sizes along the axis differ.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.associative_scan(jnp.add, jnp.arange(4))
      Array([0, 1, 3, 6], dtype=int32)
    """
    if not callable(fn):
        raise TypeError("lax.associative_scan: fn argument should be callable.")
    leaves, tree = tree_flatten(elems)
    if not leaves:
        raise ValueError("lax.associative_scan: elems must hold at least one array")
    axes = [_axis_of(x, axis) for x in leaves]
    sizes = [get_aval(x).shape[a] for x, a in zip(leaves, axes, strict=True)]
    if any(n != sizes[0] for n in sizes):
        shapes = [get_aval(x).shape for x in leaves]
        raise ValueError(f"Array inputs to associative_scan must have the same first dimension. (saw: {shapes})")

    def combine(a, b):
        out, out_tree = tree_flatten(fn(tree_unflatten(tree, a), tree_unflatten(tree, b)))
        if out_tree != tree:
            raise TypeError(f"lax.associative_scan: fn must return a pytree like its arguments, {tree}, got {out_tree}")
        for x, y in zip(a, out, strict=True):
            if get_aval(x).shape != get_aval(y).shape:
                raise TypeError(
                    "lax.associative_scan: fn must return arrays of the shapes it is given (it is applied to many "
                    "elements at once, along axis "
                    f"{axis}), got {get_aval(y).shape} from {get_aval(x).shape}"
                )
        return out

    flip = lambda xs: [rev(x, (a,)) for x, a in zip(xs, axes, strict=True)] if reverse else xs
    found = flip(_scan(combine, flip(leaves), axes, sizes[0]))
    if sizes[0] > 1:  # as in JAX, whose results are never weak where elements have been combined
        found = [convert_type(x, get_aval(x).dtype, False) for x in found]
    return tree_unflatten(tree, found)


def _axis_of(x, axis: int) -> int:
    ndim = get_aval(x).ndim
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return canonical_axis(axis, ndim, "associative_scan")


def _scan(combine: Callable, xs: list, axes: list[int], n: int) -> list:
    """Prefixes of n elements: those that end at odd positions by recursion on the sums of pairs, the others
    from these by one step more.

    ``x0 x1 x2 x3 x4  ->  pairs x01 x23  ->  their prefixes p01 p03  ->  x0 p01 (p01 x2) p03 (p03 x4)``
    """
    if n < 2:
        return xs
    part = lambda vs, start, stop, stride=1: [
        slice_in_dim(v, start, stop, stride, a) for v, a in zip(vs, axes, strict=True)
    ]
    pairs = n // 2
    odd = _scan(combine, combine(part(xs, 0, 2 * pairs, 2), part(xs, 1, 2 * pairs, 2)), axes, pairs)
    even = part(xs, 0, 1)
    if n > 2:
        rest = combine(part(odd, 0, (n - 1) // 2), part(xs, 2, n, 2))
        even = [concatenate([x, y], a) for x, y, a in zip(even, rest, axes, strict=True)]
    return [_interleave(x, y, a) for x, y, a in zip(even, odd, axes, strict=True)]


def _interleave(even, odd, axis: int):
    """``even[0], odd[0], even[1], ...``; there are as many even elements as odd ones, or one more."""
    shape = list(get_aval(odd).shape)
    n = shape[axis]
    whole = slice_in_dim(even, 0, n, 1, axis) if get_aval(even).shape[axis] > n else even
    shape[axis] = 2 * n
    woven = reshape(concatenate([expand_dims(whole, (axis + 1,)), expand_dims(odd, (axis + 1,))], axis + 1), shape)
    return woven if whole is even else concatenate([woven, slice_in_dim(even, n, n + 1, 1, axis)], axis)
