"""Moving values to devices and back. There is one CPU device, so placing is checking, and making arrays of
what is not.
"""

from __future__ import annotations

import numpy as np

from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.devices import local_devices
from velax._lang.trace import as_array
from velax.tree_util import tree_leaves, tree_map

__all__ = ["block_until_ready", "copy_to_host_async", "device_get", "device_put", "effects_barrier"]


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
    for d in tree_leaves(device):
        _check_device(d)
    return tree_map(as_array, x)


def _check_device(device) -> None:
    devices = getattr(device, "device_set", None) or {device}
    if not set(devices) <= set(local_devices()):
        raise ValueError(
            f"device_put: {device!r} names devices that are not available here; there is "
            f"{', '.join(map(repr, local_devices()))}"
        )


def device_get(x):
    """The arrays of a pytree as NumPy arrays; typed keys, which NumPy has no dtype for, stay."""
    numeric = lambda leaf: isinstance(leaf, Array) and not dtypes.is_extended(leaf.dtype)
    return tree_map(lambda leaf: np.asarray(leaf) if numeric(leaf) else leaf, x)


def block_until_ready(x):
    """Wait until the arrays of a pytree are computed, and return it. CPU execution is synchronous: they are."""
    return x


def copy_to_host_async(x):
    """Start copying the arrays of a pytree to the host, and return it. They are there."""
    return x


def effects_barrier() -> None:
    """Wait until all side effects have happened. CPU execution is synchronous: they have."""
