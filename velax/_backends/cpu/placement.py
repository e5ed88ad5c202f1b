"""Moving values to devices and back. There is one CPU device, so placing is checking, and making arrays of
what is not.
"""

from __future__ import annotations

import numpy as np

from velax import _native
from velax._lang import dtypes
from velax._lang.array import Array, ArrayImpl
from velax._lang.devices import local_devices
from velax._lang.trace import Tracer, as_array
from velax._tree_prefix import flatten_axis_prefix
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = [
    "block_until_ready", "copy_to_host_async", "device_get", "device_put", "effects_barrier", "make_array_from_callback",
    "make_array_from_process_local_data", "make_array_from_single_device_arrays",
]  # fmt: skip


def device_put(x, device=None, *, src=None, donate=False, may_alias=None):
    """Put the arrays of a pytree on a device.

    Args:
      x: a pytree of arrays, NumPy arrays and numbers.
      device: a device or a sharding (or a tree of these); None: the default device.
      src, donate, may_alias: hints.

    Returns:
      The pytree with arrays of Velax.

    Raises:
      ValueError: if ``device`` names more than the one device there is.
    """
    leaves, tree = tree_flatten(x)
    if device is None:
        return tree_unflatten(tree, [as_array(leaf) for leaf in leaves])
    devices = flatten_axis_prefix("device_put device", tree, device)
    for d in devices:
        if d is not None:
            _check_device(d)
    return tree_unflatten(tree, [_placed(leaf, d) for leaf, d in zip(leaves, devices, strict=True)])


def _placed(x, device):
    """The value as an array, which stays where it is put if it is said where."""
    array = as_array(x)
    if device is None or type(array) is not ArrayImpl:
        return array
    return _native.array_with_device(array, local_devices()[0], True)


def _check_device(device) -> None:
    devices = getattr(device, "device_set", None) or {device}
    if not set(devices) <= set(local_devices()):
        raise ValueError(
            f"device_put: {device!r} names devices that are not available here; there is "
            f"{', '.join(map(repr, local_devices()))}"
        )


def make_array_from_single_device_arrays(shape, sharding, arrays, *, dtype=None):
    """An array from its parts on each device: from one, as there is one device.

    Args:
      shape: of the array.
      sharding: where it is.
      arrays: a sequence of one array, of this shape.
      dtype: of the array; None: that of the part.

    Raises:
      ValueError: if the part is not the whole.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> where = velax.sharding.SingleDeviceSharding(velax.devices()[0])
      >>> velax.make_array_from_single_device_arrays((2,), where, [jnp.arange(2)])
      Array([0, 1], dtype=int32)
    """
    _check_device(sharding)
    arrays = list(arrays)
    if len(arrays) != 1 or tuple(arrays[0].shape) != tuple(shape) or (dtype is not None and arrays[0].dtype != dtype):
        parts = ", ".join(f"{x.dtype}{list(x.shape)}" for x in arrays)
        raise ValueError(
            f"make_array_from_single_device_arrays: there is one device, which holds all of an array of shape "
            f"{tuple(shape)} and dtype {dtype or 'of its part'}; got [{parts}]"
        )
    return _placed(arrays[0], sharding)


def make_array_from_callback(shape, sharding, data_callback, dtype=None):
    """An array whose parts a function makes, one for each device: it is called once, for the whole array.

    Args:
      shape: of the array.
      sharding: where it is.
      data_callback: from an index, a tuple of slices, to that part of the array.
      dtype: of the array; None: that of the part.

    Example:
      >>> import numpy as np, velax
      >>> where = velax.sharding.SingleDeviceSharding(velax.devices()[0])
      >>> velax.make_array_from_callback((3,), where, lambda index: np.arange(3)[index])
      Array([0, 1, 2], dtype=int32)
    """
    part = as_array(data_callback((slice(None),) * len(shape)))
    return make_array_from_single_device_arrays(shape, sharding, [part], dtype=dtype)


def make_array_from_process_local_data(sharding, local_data, global_shape=None):
    """An array from what this process has of it: all of it, as there is one process.

    Args:
      sharding: where it is.
      local_data: a pytree of arrays.
      global_shape: of the array; None: that of the data.
    """
    make = lambda x: make_array_from_single_device_arrays(global_shape or np.shape(x), sharding, [as_array(x)])
    return tree_map(make, local_data)


def device_get(x):
    """The arrays of a pytree as NumPy arrays; traced values, and typed keys, which NumPy has no dtype for, stay."""
    numeric = lambda leaf: isinstance(leaf, Array) and not (isinstance(leaf, Tracer) or dtypes.is_extended(leaf.dtype))
    return tree_map(lambda leaf: np.asarray(leaf) if numeric(leaf) else leaf, x)


def block_until_ready(x):
    """Wait until the arrays of a pytree are computed, and return it. CPU execution is synchronous: they are."""
    return x


def copy_to_host_async(x):
    """Start copying the arrays of a pytree to the host, and return it. They are there."""
    return x


def effects_barrier() -> None:
    """Wait until all side effects have happened. CPU execution is synchronous: they have."""
