"""``pmap``: a function mapped over the devices, one part of its arguments on each.

There is one device, so that the mapped axis has size 1: the function is that of the axis, compiled.
Collectives over its name work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from velax._lang.devices import Device, local_devices
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import argnames_of, check_callable, function_name
from velax._transforms.jit import jit
from velax._transforms.vectorize import vmap
from velax._tree_prefix import flatten_axis_prefix
from velax.tree_util import tree_flatten

__all__ = ["pmap"]


def pmap(
    fun: Callable, axis_name=None, *, in_axes: Any = 0, out_axes: Any = 0, static_broadcasted_argnums: int | Sequence[int] = (),
    devices: Sequence[Device] | None = None, backend: str | None = None, axis_size: int | None = None,
    donate_argnums: int | Sequence[int] = (),
) -> Callable:  # fmt: skip
    """Map a function over devices, compiled.

    Args:
      fun: a function of one device's part of the arguments.
      axis_name: a name of the mapped axis, for collectives such as `lax.psum`.
      in_axes: for each positional argument the axis that is spread over the devices, or None for
        one that all devices get; an int for all, or a tree prefix of the arguments. Keyword
        arguments are spread over axis 0.
      out_axes: where the axis of the devices goes in the results.
      static_broadcasted_argnums: positions of arguments that are constants of the program,
        hashable.
      devices: the devices, of those that there are.
      backend: the platform.
      axis_size: the size of the mapped axis.
      donate_argnums: positions of arguments whose memory the results may reuse.

    Returns:
      The mapped function. Its arguments have the number of devices, 1, as the size of the mapped axes.

    Raises:
      ValueError: when called, if the size of a mapped axis is not the number of devices.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.pmap(lambda x: x / velax.lax.psum(x, "i"), axis_name="i")(jnp.ones((1, 2)))
      Array([[1., 1.]], dtype=float32)
    """
    check_callable(fun, "pmap")
    statics = (
        (static_broadcasted_argnums,)
        if isinstance(static_broadcasted_argnums, int)
        else tuple(static_broadcasted_argnums)
    )
    available = local_devices(backend=backend) if devices is None else list(devices)
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)

    def split(args):
        """The positions of the arguments that are mapped or broadcast, and the axes of these."""
        static = {i % len(args) for i in statics if -len(args) <= i < len(args)}
        positions = [i for i in range(len(args)) if i not in static]
        if isinstance(in_axes, tuple) and len(in_axes) == len(args):
            return positions, tuple(in_axes[i] for i in positions)
        return positions, in_axes

    @functools.wraps(fun)
    def run(*args, **kwargs):
        positions, axes = split(args)

        def of_one_device(*dynamic, **kwargs):
            full = list(args)
            for i, x in zip(positions, dynamic, strict=True):
                full[i] = x
            return fun(*full, **kwargs)

        mapped = vmap(of_one_device, in_axes=axes, out_axes=out_axes, axis_name=axis_name, axis_size=len(available))
        return mapped(*(args[i] for i in positions), **kwargs)

    compiled = jit(run, static_argnums=statics, donate_argnums=donate_argnums)

    @api_boundary
    @functools.wraps(fun)
    def mapped_over_devices(*args, **kwargs):
        positions, axes = split(args)
        _check_sizes(fun, [args[i] for i in positions], kwargs, axes, axis_size, available)
        return compiled(*args, **kwargs)

    mapped_over_devices.lower = compiled.lower  # type: ignore[attr-defined]
    return mapped_over_devices


def _check_sizes(fun, args, kwargs, in_axes, axis_size, devices) -> None:
    leaves, tree = tree_flatten((tuple(args), kwargs))
    axes = flatten_axis_prefix("pmap in_axes", tree, (in_axes, 0), kws=True)
    found = [] if axis_size is None else [(axis_size, "axis_size")]
    for i, (x, axis) in enumerate(zip(leaves, axes, strict=True)):
        if axis is None:
            continue
        shape = get_aval(x).shape
        where = f"argument {argnames_of(fun, args, kwargs)[i]} of shape {shape}"
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"pmap was requested to map its argument along axis {axis}, which {where} does not have.")
        found.append((shape[axis], f"axis {axis} of {where}"))
    if not found:
        raise ValueError("pmap must have at least one non-None value in in_axes, or an axis_size")
    for size, where in found:
        if size != len(devices):
            raise ValueError(
                f"pmap of {function_name(fun)}: {where} is {size}, but the mapped axis has one entry for each "
                "device, of which there "
                f"{'is' if len(devices) == 1 else 'are'} {len(devices)}: {', '.join(map(str, devices))}. To map "
                "over examples on one "
                "device, use jit(vmap(f))."
            )
