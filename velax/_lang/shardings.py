"""Shardings: how an array is laid out over devices."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from velax._lang.devices import Device
from velax._lang.meshes import AbstractMesh, Mesh
from velax._lang.record import Record
from velax._lang.traceback import api_boundary

__all__ = [
    "DuplicateSpecError", "IndivisibleError", "ManualAxisType", "NamedSharding", "P", "PartitionSpec", "Sharding",
    "SingleDeviceSharding", "make_single_device_sharding",
]  # fmt: skip

Index = tuple[slice, ...]


class IndivisibleError(ValueError):
    """A dimension that its sharding cannot divide evenly."""


class DuplicateSpecError(ValueError):
    """A partition spec that uses a mesh axis twice."""


class _Unconstrained:
    """Leaves the layout of a dimension to the compiler."""

    __slots__ = ()

    def __repr__(self):
        return "UNCONSTRAINED"

    def __reduce__(self):
        return "UNCONSTRAINED"


UNCONSTRAINED = _Unconstrained()


class PartitionSpec:
    """Which mesh axes divide each dimension of an array.

    Args:
      *partitions: for each dimension the name of a mesh axis, a tuple of names, ``None`` for an undivided dimension, or
        ``PartitionSpec.UNCONSTRAINED``; dimensions beyond the last are undivided.
      unreduced: axes over which the array is a sum yet to be done.
      reduced: axes over which the array has been summed.

    Example:
      >>> from velax.sharding import PartitionSpec as P
      >>> P("x", None, ("y", "z"))
      P('x', None, ('y', 'z'))
    """

    __slots__ = ("_hash", "partitions", "reduced", "unreduced")

    UNCONSTRAINED = UNCONSTRAINED

    def __init__(self, *partitions: Any, unreduced: Iterable[Any] = frozenset(), reduced: Iterable[Any] = frozenset()):
        self.partitions = tuple(map(_normal_partition, partitions))
        self.unreduced, self.reduced = frozenset(unreduced), frozenset(reduced)
        if None in self.unreduced or None in self.reduced:
            raise ValueError("unreduced and reduced hold names of mesh axes, got None")
        if both := self.unreduced & self.reduced:
            raise ValueError(f"the axes {sorted(map(str, both))} cannot be both unreduced and reduced")
        self._hash = hash((PartitionSpec, self.partitions, self.unreduced, self.reduced))

    def update(self, **changes: Any) -> PartitionSpec:
        """The spec with ``partitions``, ``unreduced`` or ``reduced`` replaced."""
        partitions = changes.pop("partitions", self.partitions)
        return PartitionSpec(*partitions, **{"unreduced": self.unreduced, "reduced": self.reduced, **changes})

    def index(self, value: Any) -> int:
        """The first dimension whose partition is `value`."""
        return self.partitions.index(_normal_partition(value))

    def count(self, value: Any) -> int:
        """The number of dimensions whose partition is `value`."""
        return self.partitions.count(_normal_partition(value))

    def __len__(self):
        return len(self.partitions)

    def __getitem__(self, index):
        return self.partitions[index]

    def __iter__(self):
        return iter(self.partitions)

    def __add__(self, other):
        if isinstance(other, PartitionSpec):
            return PartitionSpec(
                *self.partitions, *other.partitions,
                unreduced=self.unreduced | other.unreduced, reduced=self.reduced | other.reduced,
            )  # fmt: skip
        if isinstance(other, tuple):
            return self.update(partitions=(*self.partitions, *other))
        return NotImplemented

    def __radd__(self, other):
        if not isinstance(other, tuple):
            return NotImplemented
        return self.update(partitions=(*other, *self.partitions))

    def __eq__(self, other):
        return self is other or (
            isinstance(other, PartitionSpec)
            and self.partitions == other.partitions
            and self.unreduced == other.unreduced
            and self.reduced == other.reduced
        )

    def __hash__(self):
        return self._hash

    def __repr__(self):
        sets = "".join(
            f", {name}={{{', '.join(sorted(map(repr, axes)))}}}"
            for name, axes in (("unreduced", self.unreduced), ("reduced", self.reduced))
            if axes
        )
        if not sets:
            return f"P{self.partitions!r}"
        return f"P({', '.join([*map(repr, self.partitions), sets[2:]])})"

    def __reduce__(self):
        make = functools.partial(PartitionSpec, unreduced=self.unreduced, reduced=self.reduced)
        return make, self.partitions


P = PartitionSpec


def _normal_partition(partition: Any) -> Any:
    if not isinstance(partition, tuple | list):
        return partition
    names = tuple(partition)
    if any(n is UNCONSTRAINED for n in names):
        raise ValueError(f"UNCONSTRAINED cannot be combined with axis names in one dimension: {names}")
    return None if not names else names[0] if len(names) == 1 else names


def _names_of(partition: Any) -> tuple[Any, ...]:
    if partition is None or partition is UNCONSTRAINED:
        return ()
    return partition if isinstance(partition, tuple) else (partition,)


class ManualAxisType(Record, frozen=True):
    """How a value relates to the mesh axes of type Manual.

    Args:
      varying: axes along which shards may differ.
      unreduced: axes over which the value is a sum yet to be done.
      reduced: axes over which it has been summed.
    """

    varying: frozenset = frozenset()
    unreduced: frozenset = frozenset()
    reduced: frozenset = frozenset()


class Sharding(abc.ABC):
    """How an array is laid out over devices. Shardings are immutable, hashable values."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def _device_assignment(self) -> tuple[Device, ...]: ...

    @property
    @abc.abstractmethod
    def memory_kind(self) -> str | None:
        """The kind of memory that holds the shards."""

    @abc.abstractmethod
    def with_memory_kind(self, kind: str) -> Sharding:
        """The same layout in another kind of memory."""

    @abc.abstractmethod
    def _tiles(self, ndim: int) -> tuple[tuple[int, ...], dict[Device, tuple[int, ...]]]:
        """How many tiles each dimension is cut into, and which tile each device holds."""

    @property
    def device_set(self) -> set[Device]:
        """The devices."""
        return set(self._device_assignment)

    @property
    def num_devices(self) -> int:
        """How many devices there are."""
        return len(self._device_assignment)

    @property
    def addressable_devices(self) -> set[Device]:
        """The devices of this process."""
        return {d for d in self._device_assignment if d.process_index == d.client.process_index()}

    @property
    def is_fully_addressable(self) -> bool:
        """Whether all devices are of this process."""
        return len(self.addressable_devices) == len(self.device_set)

    @property
    def has_addressable_devices(self) -> bool:
        """Whether some device is of this process."""
        return bool(self.addressable_devices)

    @property
    @abc.abstractmethod
    def is_fully_replicated(self) -> bool:
        """Whether every device holds the whole array."""

    def shard_shape(self, global_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the part that each device holds.

        Args:
          global_shape: the shape of the array.

        Raises:
          IndivisibleError: a dimension is not divided evenly.
        """
        counts, _ = self._tiles(len(global_shape))
        for axis, (size, count) in enumerate(zip(global_shape, counts)):
            if size % count:
                raise IndivisibleError(
                    f"Sharding {self} implies that array axis {axis} is partitioned {count} times, but the "
                    "dimension size is "
                    f"{size} (full shape: {tuple(global_shape)}, per-dimension tiling factors: {list(counts)} "
                    "should evenly "
                    "divide the shape)"
                )
        return tuple(size // count for size, count in zip(global_shape, counts))

    def devices_indices_map(self, global_shape: Sequence[int]) -> Mapping[Device, Index]:
        """The part of the array that each device holds.

        Args:
          global_shape: the shape of the array.

        Returns:
          For each device a tuple of slices, one for each dimension.

        Raises:
          IndivisibleError: a dimension is not divided evenly.
        """
        shape = self.shard_shape(global_shape)
        counts, tiles = self._tiles(len(global_shape))
        return {
            device: tuple(
                slice(tile * size, (tile + 1) * size) if count > 1 else slice(None)
                for tile, size, count in zip(tile_of, shape, counts)
            )
            for device, tile_of in tiles.items()
        }

    def addressable_devices_indices_map(self, global_shape: Sequence[int]) -> Mapping[Device, Index]:
        """As `devices_indices_map`, for the devices of this process."""
        mine = self.addressable_devices
        return {d: index for d, index in self.devices_indices_map(global_shape).items() if d in mine}

    def is_equivalent_to(self, other: Sharding, ndim: int) -> bool:
        """Whether two shardings lay out arrays with `ndim` dimensions alike."""
        return (
            self._device_assignment == other._device_assignment
            and self.memory_kind == other.memory_kind
            and self._tiles(ndim) == other._tiles(ndim)
        )


def _checked_kind(devices: Iterable[Device], kind: str | None) -> str | None:
    """The kind of memory in which arrays on `devices` live: `kind` if they address it, their default when it
    is ``None``.
    """
    first = next(iter(devices), None)
    if first is None or not hasattr(first, "default_memory"):
        return kind
    return first.default_memory().kind if kind is None else first.memory(kind).kind


class SingleDeviceSharding(Sharding):
    """The whole array on one device.

    Args:
      device: the device.
      memory_kind: the kind of memory; the device's default when omitted.

    Example:
      >>> import velax
      >>> velax.sharding.SingleDeviceSharding(velax.devices()[0])
      SingleDeviceSharding(device=CpuDevice(id=0), memory_kind=device)
    """

    __slots__ = ("_device", "_hash", "_memory_kind")

    def __init__(self, device: Device, *, memory_kind: str | None = None):
        self._device = device
        self._memory_kind = _checked_kind([device], memory_kind)
        self._hash = hash((SingleDeviceSharding, device, self._memory_kind))

    @property
    def _device_assignment(self):
        return (self._device,)

    @property
    def memory_kind(self) -> str | None:
        return self._memory_kind

    @property
    def is_fully_replicated(self) -> bool:
        return True

    def with_memory_kind(self, kind: str) -> SingleDeviceSharding:
        return SingleDeviceSharding(self._device, memory_kind=kind)

    def _tiles(self, ndim):
        return (1,) * ndim, {self._device: (0,) * ndim}

    def __eq__(self, other):
        return self is other or (
            isinstance(other, SingleDeviceSharding)
            and self._device == other._device
            and self._memory_kind == other._memory_kind
        )

    def __hash__(self):
        return self._hash

    def __repr__(self):
        kind = f", memory_kind={self._memory_kind}" if self._memory_kind is not None else ""
        return f"SingleDeviceSharding(device={self._device!r}{kind})"

    def __reduce__(self):
        return functools.partial(SingleDeviceSharding, memory_kind=self._memory_kind), (self._device,)


def make_single_device_sharding(device: Device, *, memory_kind: str | None = None) -> Sharding:
    """The sharding that puts the whole array on `device`."""
    return SingleDeviceSharding(device, memory_kind=memory_kind)


class NamedSharding(Sharding):
    """An array whose dimensions are divided along the axes of a mesh.

    Args:
      mesh: the mesh, with devices or abstract.
      spec: which axes divide each dimension.
      memory_kind: the kind of memory; the devices' default when omitted.

    Raises:
      TypeError: `spec` is no `PartitionSpec`.
      ValueError: the spec names an axis that the mesh does not have.
      DuplicateSpecError: the spec uses an axis twice.

    Example:
      >>> import velax
      >>> from velax.sharding import NamedSharding, PartitionSpec as P
      >>> mesh = velax.make_mesh((1,), ("x",))
      >>> NamedSharding(mesh, P("x")).shard_shape((8, 2))
      (8, 2)
    """

    __slots__ = ("_hash", "_memory_kind", "mesh", "spec")

    @api_boundary
    def __init__(self, mesh: Mesh | AbstractMesh, spec: PartitionSpec, *, memory_kind: str | None = None, **_internal):
        if not isinstance(mesh, Mesh | AbstractMesh):
            raise TypeError(f"NamedSharding: mesh must be a Mesh or an AbstractMesh, got {type(mesh).__name__}")
        if not isinstance(spec, PartitionSpec):
            raise TypeError(
                f"NamedSharding: spec must be a PartitionSpec, got {spec!r}; write NamedSharding(mesh, P(...))"
            )
        _check_spec(mesh, spec)
        self.mesh, self.spec = mesh, spec
        self._memory_kind = _checked_kind(mesh.devices.flat, memory_kind) if isinstance(mesh, Mesh) else memory_kind
        self._hash = hash((NamedSharding, mesh, spec, self._memory_kind))

    @property
    def _device_assignment(self):
        if isinstance(self.mesh, AbstractMesh):
            raise ValueError("device_set is not implemented for `velax.sharding.AbstractMesh`, which has no devices.")
        return tuple(self.mesh.devices.flat)

    @property
    def memory_kind(self) -> str | None:
        return self._memory_kind

    @property
    def is_fully_replicated(self) -> bool:
        sizes = self.mesh.shape
        return all(sizes[name] == 1 for partition in self.spec for name in _names_of(partition))

    @property
    def replicated_axes(self) -> frozenset:
        """The mesh axes that divide no dimension."""
        used = {name for partition in self.spec for name in _names_of(partition)} | self.spec.unreduced
        return frozenset(self.mesh.axis_names) - used

    def with_memory_kind(self, kind: str) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec, memory_kind=kind)

    def update(self, **changes: Any) -> NamedSharding:
        """The sharding with ``mesh``, ``spec`` or ``memory_kind`` replaced."""
        kind = changes.pop("memory_kind", self._memory_kind)
        return NamedSharding(**{"mesh": self.mesh, "spec": self.spec, **changes}, memory_kind=kind)

    def check_compatible_aval(self, shape: Sequence[int]) -> None:
        """Checks that the spec has no more entries than an array of this shape has dimensions.

        Raises:
          ValueError: it has more.
        """
        if len(shape) < len(self.spec):
            raise ValueError(
                f"Sharding {self} is only valid for values of rank at least {len(self.spec)}, but was applied to a "
                "value of rank "
                f"{len(shape)} (shape {tuple(shape)})"
            )

    def _tiles(self, ndim):
        self.check_compatible_aval((0,) * ndim)
        sizes = self.mesh.shape
        names = [_names_of(p) for p in self.spec] + [()] * (ndim - len(self.spec))
        counts = tuple(math.prod(sizes[n] for n in dim) for dim in names)
        position = {name: i for i, name in enumerate(self.mesh.axis_names)}
        tiles: dict[Device, tuple[int, ...]] = {}
        if isinstance(self.mesh, Mesh):
            for coordinates, device in _enumerate(self.mesh):
                tile = []
                for dim in names:
                    number = 0
                    for name in dim:
                        number = number * sizes[name] + coordinates[position[name]]
                    tile.append(number)
                tiles[device] = tuple(tile)
        return counts, tiles

    def __eq__(self, other):
        return self is other or (
            isinstance(other, NamedSharding)
            and self._hash == other._hash
            and self.mesh == other.mesh
            and self.spec == other.spec
            and self._memory_kind == other._memory_kind
        )

    def __hash__(self):
        return self._hash

    def __repr__(self):
        kind = f", memory_kind={self._memory_kind}" if self._memory_kind is not None else ""
        return f"NamedSharding(mesh={self.mesh}, spec={self.spec}{kind})"

    def __reduce__(self):
        return functools.partial(NamedSharding, memory_kind=self._memory_kind), (self.mesh, self.spec)


def _enumerate(mesh: Mesh) -> Iterable[tuple[tuple[int, ...], Device]]:
    return ((index, mesh.devices[index]) for index in np.ndindex(*mesh.devices.shape))


def _check_spec(mesh: Mesh | AbstractMesh, spec: PartitionSpec) -> None:
    seen: set[Any] = set()
    for partition in (*spec, tuple(spec.unreduced), tuple(spec.reduced)):
        for name in _names_of(partition):
            if name not in mesh.axis_names:
                raise ValueError(f"Resource axis: {name} of {spec} is not found in mesh: {mesh.axis_names}.")
            if name in seen:
                raise DuplicateSpecError(
                    "A single NamedSharding spec specification can map every mesh axis to at most one positional "
                    "dimension, but "
                    f"{spec} has duplicate entries for `{name}`"
                )
            seen.add(name)


for _public in (ManualAxisType, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding):
    _public.__module__ = "velax.sharding"
