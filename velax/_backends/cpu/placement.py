"""Moving values to devices and back. There is one CPU device, so placing is checking, and making arrays of
what is not.
"""

from __future__ import annotations

import numpy as np

from velax import _native
from velax._lang import dtypes
from velax._lang.array import Array, ArrayImpl
from velax._lang.devices import Device, local_devices
from velax._lang.shardings import Sharding
from velax._lang.trace import Tracer, as_array
from velax._lang.transfers import check_explicit_transfer
from velax._tree_prefix import flatten_axis_prefix
from velax.tree_util import broadcast_prefix, tree_flatten, tree_map, tree_unflatten

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
      ValueError: if ``device`` is neither, or names another device than the one there is.
    """
    leaves, tree = tree_flatten(x)
    if device is None:
        return tree_unflatten(tree, [_placed(leaf, None) for leaf in leaves])
    devices = flatten_axis_prefix("device_put device", tree, device)
    for d in devices:
        if isinstance(d, (Device, Sharding)):
            _check_device("device_put", d)
        elif d is not None:
            raise ValueError(
                f"device_put: device must be None, a device, a sharding or a tree of these; got {d!r}. "
                "velax.devices() lists the devices."
            )
    return tree_unflatten(tree, [_placed(leaf, d) for leaf, d in zip(leaves, devices, strict=True)])


def _placed(x, device):
    """The value as an array, which stays where it is put if it is said where."""
    check_explicit_transfer(x)
    array = as_array(x)
    if device is None or type(array) is not ArrayImpl:
        return array
    return _native.array_with_device(array, local_devices()[0], True)


def _check_device(name: str, device: Device | Sharding) -> None:
    devices = {device} if isinstance(device, Device) else device.device_set
    if not devices <= set(local_devices()):
        raise ValueError(
            f"{name}: {device!r} names devices that are not available here; there is "
            f"{', '.join(map(repr, local_devices()))}"
        )


def _check_sharding(name: str, sharding) -> None:
    if not isinstance(sharding, Sharding):
        raise TypeError(
            f"{name}: sharding must be an instance of `velax.sharding.Sharding`; got {sharding!r} of type "
            f"{type(sharding)}. The one of a device is velax.sharding.SingleDeviceSharding(device)."
        )
    _check_device(name, sharding)


def make_array_from_single_device_arrays(shape, sharding, arrays, *, dtype=None):
    """An array from its parts on each device: from one, as there is one device.

    Args:
      shape: of the array.
      sharding: where it is.
      arrays: a sequence of one array, of this shape.
      dtype: of the array; None: that of the part.

    Raises:
      TypeError: if a part is no array of Velax, or ``sharding`` no sharding.
      ValueError: if the part is not the whole.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> where = velax.sharding.SingleDeviceSharding(velax.devices()[0])
      >>> velax.make_array_from_single_device_arrays((2,), where, [jnp.arange(2)])
      Array([0, 1], dtype=int32)
    """
    name, shape = "make_array_from_single_device_arrays", tuple(shape)
    _check_sharding(name, sharding)
    for x in arrays:
        if not isinstance(x, Array):
            raise TypeError(f"{name}: arrays must hold arrays of Velax; got {type(x)}: put it on the device first")
    if len(arrays) != 1 or arrays[0].shape != shape or (dtype is not None and arrays[0].dtype != dtype):
        parts = ", ".join(f"{x.dtype}{list(x.shape)}" for x in arrays)
        raise ValueError(
            f"{name}: there is one device, which holds all of an array of shape {shape} and dtype "
            f"{dtype or 'of its part'}; got [{parts}]"
        )
    return _placed(arrays[0], sharding)


def make_array_from_callback(shape, sharding, data_callback, dtype=None):
    """An array whose parts a function makes, one for each device: it is called once, for the whole array.

    Args:
      shape: of the array.
      sharding: where it is.
      data_callback: from an index, a tuple of slices, to that part of the array.
      dtype: of the array; None: that of the part.

    Raises:
      TypeError: if ``sharding`` is no sharding.
      ValueError: if the part is not the whole.

    Example:
      >>> import numpy as np, velax
      >>> where = velax.sharding.SingleDeviceSharding(velax.devices()[0])
      >>> velax.make_array_from_callback((3,), where, lambda index: np.arange(3)[index])
      Array([0, 1, 2], dtype=int32)
    """
    _check_sharding("make_array_from_callback", sharding)
    part = as_array(data_callback((slice(None),) * len(shape)))
    return make_array_from_single_device_arrays(shape, sharding, [part], dtype=dtype)


def make_array_from_process_local_data(sharding, local_data, global_shape=None):
    """An array from what this process has of it: all of it, as there is one process.

    Args:
      sharding: where it is; or a tree of shardings, a prefix of the data's.
      local_data: a pytree of arrays.
      global_shape: of the array, or a tree of shapes; None: that of the data.

    Raises:
      TypeError: if ``sharding`` is no sharding.
      ValueError: if the data's shape is another one.

    Example:
      >>> import numpy as np, velax
      >>> where = velax.sharding.SingleDeviceSharding(velax.devices()[0])
      >>> velax.make_array_from_process_local_data(where, {"a": np.arange(3)})
      {'a': Array([0, 1, 2], dtype=int32)}
    """
    leaves, tree = tree_flatten(local_data)
    name = "make_array_from_process_local_data"
    shardings = flatten_axis_prefix(f"{name} sharding", tree, sharding)
    shapes = broadcast_prefix(global_shape, local_data, is_leaf=lambda x: x is None or isinstance(x, tuple))
    return tree_unflatten(tree, [
        make_array_from_single_device_arrays(np.shape(x) if shape is None else shape, where, [as_array(x)])
        for x, where, shape in zip(leaves, shardings, shapes, strict=True)
    ])  # fmt: skip


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
