"""``vmap``: map a function over axes of its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import (
    argnames_of,
    check_callable,
    check_results,
    flatten_call,
    function_name,
    parameters_of,
)  # fmt: skip
from velax._transforms.batching import AxisData, batch_flat, matchaxis
from velax._tree_prefix import flatten_axis_prefix
from velax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

__all__ = ["vmap"]


def vmap(
    fun: Callable, in_axes: int | Any | None = 0, out_axes: Any = 0, axis_name=None, axis_size: int | None = None, spmd_axis_name=None,
    sum_match: bool = False,
) -> Callable:  # fmt: skip
    """Vectorize a function: the loop over examples becomes operations on whole arrays.

    Args:
      fun: a function of one example.
      in_axes: for each positional argument the axis to map over, or None for the same value in
        every example; an int for all, or a tree prefix of the arguments. Keyword arguments are
        mapped over axis 0.
      out_axes: where the mapped axis goes in the results; None for a result that is the same in every example.
      axis_name: a name of the mapped axis for collectives such as `lax.psum`.
      axis_size: the size of the axis, if no argument is mapped.
      spmd_axis_name: a mesh axis that the mapped axis is partitioned over.

    Returns:
      The function of a batch.

    Raises:
      ValueError: when called, if the axes do not fit the arguments or their sizes differ.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.vmap(jnp.dot, in_axes=(0, None))(jnp.ones((3, 2)), jnp.ones(2)).shape
      (3,)
    """
    check_callable(fun, "vmap")
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if not (in_axes is None or type(in_axes) in (int, tuple) or hasattr(in_axes, "__index__")):
        raise TypeError(
            "vmap in_axes must be an int, None, or a tuple of entries corresponding to the positional "
            f"arguments passed to the function, but got {in_axes}."
        )
    for axis in tree_flatten(in_axes)[0]:
        if not isinstance(axis, int):
            raise TypeError(
                "vmap in_axes must be an int, None, or (nested) container with those types as leaves, "
                f"but got {in_axes}."
            )
    for axis in tree_flatten(out_axes)[0]:
        if not isinstance(axis, int):
            raise TypeError(
                "vmap out_axes must be an int, None, or (nested) container with those types as leaves, "
                f"but got {out_axes}."
            )

    @api_boundary
    @functools.wraps(fun, updated=())
    def vmap_f(*args, **kwargs):
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise ValueError(
                "vmap in_axes must be an int, None, or a tuple of entries corresponding to the positional arguments "
                "passed to the function, "
                f"but got {len(in_axes)=}, {len(args)=}"
            )
        leaves, in_tree = tree_flatten((args, kwargs))
        axes = flatten_axis_prefix("vmap in_axes", in_tree, (in_axes, 0), kws=True)
        axes = [_canonical(axis, x, i, fun, args, kwargs) for i, (axis, x) in enumerate(zip(axes, leaves, strict=True))]
        size = _axis_size(fun, axes, leaves, args, kwargs, axis_size)
        flat, out_tree = flatten_call(fun, in_tree)

        def checked(*values):
            outs = flat(*values)
            check_results(outs, "vmap", fun)
            return outs

        axis_data = AxisData(axis_name, size, spmd_axis_name)
        outs, dims = batch_flat(checked, axis_data, leaves, axes)
        result_axes = flatten_axis_prefix("vmap out_axes", out_tree[0], out_axes)
        placed = []
        for i, (x, d, axis) in enumerate(zip(outs, dims, result_axes, strict=True)):
            if axis is None:
                if d is not None:
                    path = _out_path(out_tree[0], i)
                    raise ValueError(
                        f"at vmap out_axes, got axis spec None but output{path} was batched on axis {d}: the result "
                        "differs from example to example. Give it an axis in out_axes, "
                        f"or reduce over the axis (e.g. with lax.psum)."
                    )
                placed.append(x)
                continue
            ndim = get_aval(x).ndim + (d is None)
            if not -ndim <= axis < ndim:
                raise ValueError(
                    f"vmap out_axes: axis {axis} is out of bounds for an output with {ndim} dimensions "
                    f"(the mapped axis included){_out_path(out_tree[0], i)}"
                )
            placed.append(matchaxis(size, d, axis % ndim, x))
        return tree_unflatten(out_tree[0], placed)

    described = f"Vectorized version of {function_name(fun)}: over axes {in_axes} of its arguments, to axes {out_axes}."
    vmap_f.__doc__ = f"{described}\n\n{vmap_f.__doc__}" if vmap_f.__doc__ else described
    return vmap_f


def _out_path(out_tree, i) -> str:
    dummy = tree_unflatten(out_tree, list(range(out_tree.num_leaves)))
    path = keystr(tree_flatten_with_path(dummy)[0][i][0])
    return f" at {path}" if path else ""


def _canonical(axis, x, i, fun, args, kwargs):
    if axis is None:
        return None
    try:
        ndim = get_aval(x).ndim
    except TypeError:
        raise TypeError(
            f"vmap: argument {argnames_of(fun, args, kwargs)[i]} of type {type(x)} is not a valid JAX "
            "type. Map over arrays; close over other values: vmap(lambda x: f(x, value))."
        ) from None
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"vmap was requested to map its argument along axis {axis}, which implies that its rank should be at "
            f"least {axis + 1 if axis >= 0 else -axis}, "
            f"but is only {ndim} (its shape is {get_aval(x).shape}); the argument is "
            f"{argnames_of(fun, args, kwargs)[i]}"
        )
    return axis % ndim


def _argument_names(fun, args, kwargs) -> list[str]:
    """How each leaf of a call is written by the caller: those beyond the named parameters by their places."""
    positional = (parameters_of(fun) or ((),))[0]
    names = []
    for i, x in enumerate(args):
        root = f"argument {positional[i]}" if i < len(positional) else f"args[{i}]"
        names += [root + keystr(path) for path, _ in tree_flatten_with_path(x)[0]]
    return names + [f"kwargs{keystr(path)}" for path, _ in tree_flatten_with_path(kwargs)[0]]


def _axis_size(fun, axes, leaves, args, kwargs, given) -> int:
    sizes = [(get_aval(x).shape[d], i) for i, (x, d) in enumerate(zip(leaves, axes, strict=True)) if d is not None]
    if given is not None:
        sizes = [(given, -1), *sizes]
    if not sizes:
        if axes:
            raise ValueError("vmap must have at least one non-None value in in_axes")
        raise ValueError(
            "vmap wrapped function must be passed at least one argument containing an array, got empty "
            f"*args={args} and **kwargs={kwargs}"
        )
    size = sizes[0][0]
    if all(n == size for n, _ in sizes):
        return size
    names = _argument_names(fun, args, kwargs)
    of_size: dict[int, list[str]] = {}
    for n, i in sizes:
        what = "axis_size"
        if i >= 0:
            what = f"axis {axes[i]} of {names[i]} of type {get_aval(leaves[i]).str_short()}"
        of_size.setdefault(n, []).append(what)
    lines, some = [], "most"
    for n, found in sorted(of_size.items(), key=lambda item: -len(item[1])):
        if len(found) == 1:
            lines.append(f"  * one axis had size {n}: {found[0]}")
        else:
            lines.append(f"  * {some} axes ({len(found)} of them) had size {n}, e.g. {found[0]}")
            some = "some"
    raise ValueError(
        "vmap got inconsistent sizes for array axes to be mapped:\n" + ";\n".join(lines) + "\nMapped axes of "
        f"{function_name(fun)} must have one size; give None in in_axes for arguments that are not mapped over."
    )
