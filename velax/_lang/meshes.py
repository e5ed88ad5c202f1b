"""Meshes: devices arranged along named axes, and the mesh that is in force.

A `Mesh` has devices; an `AbstractMesh` has only the axes, and is what types (`velax.typeof`) and traced
programs refer to.
"""

from __future__ import annotations

import collections
import enum
import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from velax._lang import config
from velax._lang.devices import Device, devices, process_index
from velax._lang.record import Record

__all__ = [
    "AbstractDevice", "AbstractMesh", "AxisType", "Mesh", "empty_abstract_mesh", "empty_mesh", "get_abstract_mesh",
    "get_mesh",
    "make_mesh", "set_mesh", "use_abstract_mesh",
]  # fmt: skip

AxisName = Hashable


class AxisType(enum.Enum):
    """Who decides how arrays are laid out along a mesh axis.

    ``Auto``: the compiler. ``Explicit``: the types of the program. ``Manual``: the program, shard by shard.
    """

    Auto = enum.auto()
    Explicit = enum.auto()
    Manual = enum.auto()

    def __repr__(self):
        return self.name


class AbstractDevice(Record, frozen=True):
    """The kind of device that an abstract mesh is meant for.

    Args:
      device_kind: as `Device.device_kind`.
      num_cores: the cores of one device, where it matters.
      platform: the platform.
    """

    device_kind: str
    num_cores: int | None
    platform: str


def _names_tuple(names: AxisName | Sequence[AxisName]) -> tuple[AxisName, ...]:
    return (names,) if isinstance(names, str) or not isinstance(names, Sequence) else tuple(names)


def _check_types(axis_types: Any, names: tuple[AxisName, ...]) -> tuple[AxisType, ...]:
    if axis_types is None:
        return (AxisType.Auto,) * len(names)
    types = (axis_types,) if isinstance(axis_types, AxisType) else tuple(axis_types)
    for t in types:
        if not isinstance(t, AxisType):
            raise TypeError(
                f"axis_types must be AxisType.Auto, Explicit or Manual, got {t!r} of type {type(t).__name__}"
            )
    if len(types) != len(names):
        raise ValueError(f"axis_types {types} must have one entry for each of the axis names {names}")
    return types


class _MeshAxes:
    """What meshes with and without devices have in common."""

    __slots__ = ()
    axis_names: tuple[AxisName, ...]
    axis_sizes: tuple[int, ...]
    axis_types: tuple[AxisType, ...]

    @property
    def shape(self) -> collections.OrderedDict[AxisName, int]:
        """Axis name to size."""
        return collections.OrderedDict(self.shape_tuple)

    @property
    def shape_tuple(self) -> tuple[tuple[AxisName, int], ...]:
        """Pairs of axis name and size."""
        return tuple(zip(self.axis_names, self.axis_sizes))

    @property
    def size(self) -> int:
        """How many devices the mesh has."""
        return math.prod(self.axis_sizes) if self.axis_names else 0

    @property
    def empty(self) -> bool:
        """Whether the mesh has no axes."""
        return not self.axis_names

    def _of_type(self, kind: AxisType) -> tuple[AxisName, ...]:
        return tuple(name for name, t in zip(self.axis_names, self.axis_types) if t is kind)

    @property
    def auto_axes(self) -> tuple[AxisName, ...]:
        """The names of the axes of type Auto."""
        return self._of_type(AxisType.Auto)

    @property
    def explicit_axes(self) -> tuple[AxisName, ...]:
        """The names of the axes of type Explicit."""
        return self._of_type(AxisType.Explicit)

    @property
    def manual_axes(self) -> tuple[AxisName, ...]:
        """The names of the axes of type Manual."""
        return self._of_type(AxisType.Manual)

    @property
    def are_all_axes_auto(self) -> bool:
        """Whether there are axes and all are of type Auto."""
        return not self.empty and len(self.auto_axes) == len(self.axis_names)

    @property
    def are_all_axes_explicit(self) -> bool:
        """Whether there are axes and all are of type Explicit."""
        return not self.empty and len(self.explicit_axes) == len(self.axis_names)

    @property
    def are_all_axes_manual(self) -> bool:
        """Whether there are axes and all are of type Manual."""
        return not self.empty and len(self.manual_axes) == len(self.axis_names)

    def _axes_text(self) -> str:
        sizes = ", ".join(f"{name!r}: {size}" for name, size in self.shape_tuple)
        return f"{sizes or '()'}, axis_types={self.axis_types}"


class AbstractMesh(_MeshAxes):
    """Named axes with sizes, without devices.

    Args:
      axis_sizes: the size of each axis.
      axis_names: the name of each axis.
      axis_types: the `AxisType` of each axis; Auto when omitted.
      abstract_device: the kind of device that it is meant for.

    Example:
      >>> from velax.sharding import AbstractMesh
      >>> AbstractMesh((4, 2), ("x", "y"))
      AbstractMesh('x': 4, 'y': 2, axis_types=(Auto, Auto))
    """

    __slots__ = ("__weakref__", "_hash", "abstract_device", "axis_names", "axis_sizes", "axis_types")

    def __init__(
        self,
        axis_sizes: Sequence[int],
        axis_names: AxisName | Sequence[AxisName],
        axis_types: AxisType | Sequence[AxisType] | None = None,
        *,
        abstract_device: AbstractDevice | None = None,
    ):
        self.axis_sizes = tuple(int(n) for n in axis_sizes)
        self.axis_names = _names_tuple(axis_names)
        if len(self.axis_sizes) != len(self.axis_names):
            raise ValueError(
                f"AbstractMesh: {len(self.axis_sizes)} axis sizes but the axis names are {self.axis_names}"
            )
        self.axis_types = _check_types(axis_types, self.axis_names)
        self.abstract_device = abstract_device
        self._hash = hash((AbstractMesh, self.axis_sizes, self.axis_names, self.axis_types, abstract_device))

    def __eq__(self, other):
        return self is other or (
            isinstance(other, AbstractMesh)
            and self._hash == other._hash
            and self.shape_tuple == other.shape_tuple
            and self.axis_types == other.axis_types
            and self.abstract_device == other.abstract_device
        )

    def __hash__(self):
        return self._hash

    def __repr__(self):
        device = self.abstract_device
        kind = (
            f", device_kind={device.device_kind}, num_cores={device.num_cores}, platform={device.platform}"
            if device
            else ""
        )
        return f"AbstractMesh({self._axes_text()}{kind})"

    def __reduce__(self):
        make = functools.partial(AbstractMesh, abstract_device=self.abstract_device)
        return make, (self.axis_sizes, self.axis_names, self.axis_types)

    @property
    def abstract_mesh(self) -> AbstractMesh:
        """The mesh itself."""
        return self

    def update(self, axis_sizes=None, axis_names=None, axis_types=None, **more) -> AbstractMesh:
        """The mesh with some fields replaced."""
        return AbstractMesh(
            self.axis_sizes if axis_sizes is None else axis_sizes,
            self.axis_names if axis_names is None else axis_names,
            self.axis_types if axis_types is None else axis_types,
            abstract_device=more.get("abstract_device", self.abstract_device),
        )

    def update_axis_types(self, name_to_type: Mapping[AxisName, AxisType]) -> AbstractMesh:
        """The mesh with the types of some axes replaced."""
        return self.update(axis_types=tuple(name_to_type.get(n, t) for n, t in zip(self.axis_names, self.axis_types)))

    def _no_devices(self, what: str):
        raise ValueError(f"{what} is not implemented for `velax.sharding.AbstractMesh`, which has no devices.")

    @property
    def devices(self):
        self._no_devices("devices")

    @property
    def device_ids(self):
        self._no_devices("device_ids")

    @property
    def local_devices(self):
        self._no_devices("local_devices")

    @property
    def local_mesh(self):
        self._no_devices("local_mesh")

    @property
    def is_multi_process(self):
        self._no_devices("is_multi_process")


class Mesh(_MeshAxes):
    """Devices arranged along named axes.

    Args:
      devices: an array (or nested list) of devices; its dimensions are the axes.
      axis_names: the name of each axis.
      axis_types: the `AxisType` of each axis; Auto when omitted.

    Raises:
      ValueError: the number of names is not the number of dimensions.

    Example:
      >>> import velax
      >>> velax.sharding.Mesh(velax.devices(), ("x",))
      Mesh(axis_sizes=(1,), axis_names=('x',), axis_types=(Auto,))
    """

    __slots__ = (
        "__weakref__",
        "_hash",
        "_restore",
        "abstract_mesh",
        "axis_names",
        "axis_sizes",
        "axis_types",
        "devices",
    )

    def __init__(
        self,
        devices: np.ndarray | Sequence[Device] | Device,
        axis_names: AxisName | Sequence[AxisName],
        axis_types: AxisType | Sequence[AxisType] | None = None,
    ):
        array = np.array(devices, dtype=object)
        array.flags.writeable = False
        self.devices = array
        self.axis_names = _names_tuple(axis_names)
        if array.ndim != len(self.axis_names):
            raise ValueError(
                "Mesh requires the ndim of its first argument (`devices`) to equal the length of its second argument "
                f"(`axis_names`), but got devices.ndim == {array.ndim} and len(axis_names) == {len(self.axis_names)}."
            )
        self.axis_sizes = array.shape
        self.axis_types = _check_types(axis_types, self.axis_names)
        kind = None
        if array.size:
            first = array.flat[0]
            kind = AbstractDevice(getattr(first, "device_kind", "unknown"), None, getattr(first, "platform", "unknown"))
        self.abstract_mesh = AbstractMesh(self.axis_sizes, self.axis_names, self.axis_types, abstract_device=kind)
        self._hash = hash((Mesh, tuple(array.flat), self.axis_sizes, self.axis_names, self.axis_types))
        self._restore: list[Any] = []

    def __eq__(self, other):
        return self is other or (
            isinstance(other, Mesh)
            and self._hash == other._hash
            and self.shape_tuple == other.shape_tuple
            and self.axis_types == other.axis_types
            and tuple(self.devices.flat) == tuple(other.devices.flat)
        )

    def __hash__(self):
        return self._hash

    def __repr__(self):
        types = "" if self.empty else f", axis_types={self.axis_types}"
        return f"Mesh(axis_sizes={self.axis_sizes if self.axis_names else ()}, axis_names={self.axis_names}{types})"

    def __str__(self):
        return f"Mesh({self._axes_text()})"

    def __reduce__(self):
        return Mesh, (np.array(self.devices), self.axis_names, self.axis_types)

    @property
    def device_ids(self) -> np.ndarray:
        """The numbers of the devices, in the shape of the mesh."""
        return np.vectorize(lambda d: d.id, otypes=[int])(self.devices)

    @property
    def local_devices(self) -> list[Device]:
        """The devices of this process."""
        here = process_index(self.devices.flat[0].client) if self.devices.size else 0
        return [d for d in self.devices.flat if d.process_index == here]

    @property
    def local_mesh(self) -> Mesh:
        """The part of the mesh that holds the devices of this process.

        Raises:
          ValueError: these devices form no box in the mesh.
        """
        if not self.is_multi_process:
            return self
        here = process_index(self.devices.flat[0].client)
        mine = np.vectorize(lambda d: d.process_index == here, otypes=[bool])(self.devices)
        box = self.devices[np.ix_(*[np.flatnonzero(mine.any(axis=_others(mine.ndim, i))) for i in range(mine.ndim)])]
        if box.size != mine.sum():
            raise ValueError(f"the devices of process {here} form no box in {self}")
        return Mesh(box, self.axis_names, self.axis_types)

    @property
    def is_multi_process(self) -> bool:
        """Whether the mesh has devices of several processes."""
        return len({d.process_index for d in self.devices.flat}) > 1

    @property
    def is_scalar(self) -> bool:
        """Whether the mesh has one device and no axes."""
        return self.devices.ndim == 0

    def update(self, devices=None, axis_names=None, axis_types=None) -> Mesh:
        """The mesh with some fields replaced."""
        return Mesh(
            self.devices if devices is None else devices,
            self.axis_names if axis_names is None else axis_names,
            self.axis_types if axis_types is None else axis_types,
        )

    def __enter__(self):
        if config.disallow_mesh_context_manager.value:
            raise RuntimeError("jax_disallow_mesh_context_manager is on: write `with velax.set_mesh(mesh):`")
        setting = _legacy_mesh(self)
        setting.__enter__()
        self._restore.append(setting)
        return self

    def __exit__(self, *exception):
        self._restore.pop().__exit__(*exception)


def _others(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


empty_mesh = Mesh(np.empty((), dtype=object).reshape(()), ())
empty_abstract_mesh = AbstractMesh((), ())

_mesh = config.context_state("mesh")
_legacy_mesh = config.context_state("legacy_mesh")
_abstract_mesh = config.context_state("abstract_mesh")


def get_mesh() -> Mesh:
    """The mesh set by `set_mesh`; one without axes when none is."""
    return _mesh.value or empty_mesh


def get_legacy_mesh() -> Mesh:
    """The mesh entered by ``with mesh:``, else the one set by `set_mesh`."""
    return _legacy_mesh.value or get_mesh()


def get_abstract_mesh() -> AbstractMesh:
    """The abstract mesh in force: of `use_abstract_mesh`, else of `set_mesh`, else one without axes."""
    return _abstract_mesh.value or empty_abstract_mesh


class set_mesh:
    """Makes a mesh the one in force, for the rest of this thread or, as a context manager, for a block.

    Args:
      mesh: the mesh, or ``None`` for none.

    Example:
      >>> import velax
      >>> with velax.set_mesh(velax.make_mesh((1,), ("x",))):
      ...   velax.sharding.get_mesh().axis_names
      ('x',)
    """

    __slots__ = ("_old", "_old_abstract", "mesh")

    def __init__(self, mesh: Mesh | None):
        if mesh is not None and not isinstance(mesh, Mesh):
            raise ValueError(f"set_mesh takes a velax.sharding.Mesh, got {type(mesh).__name__}")
        self.mesh = mesh
        chosen = mesh if mesh is not None and not mesh.empty else None
        self._old = _mesh.swap_local(chosen)
        self._old_abstract = _abstract_mesh.swap_local(None if chosen is None else chosen.abstract_mesh)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exception) -> None:
        for state, old in ((_mesh, self._old), (_abstract_mesh, self._old_abstract)):
            if old is None:
                state.unset_local()
            else:
                state.set_local(old)


class use_abstract_mesh:
    """Makes an abstract mesh the one in force inside the block.

    Args:
      mesh: the abstract mesh.
    """

    __slots__ = ("_setting", "mesh")

    def __init__(self, mesh: AbstractMesh):
        if not isinstance(mesh, AbstractMesh):
            raise ValueError(f"use_abstract_mesh takes a velax.sharding.AbstractMesh, got {type(mesh).__name__}")
        self.mesh = mesh
        self._setting = _abstract_mesh(None if mesh.empty else mesh)

    def __enter__(self) -> None:
        self._setting.__enter__()

    def __exit__(self, *exception) -> None:
        self._setting.__exit__(*exception)


def make_mesh(
    axis_shapes: Sequence[int],
    axis_names: Sequence[AxisName],
    axis_types: Sequence[AxisType] | None = None,
    *,
    devices: Sequence[Device] | None = None,
) -> Mesh:
    """A mesh of the first devices, in their order.

    Args:
      axis_shapes: the size of each axis.
      axis_names: the name of each axis.
      axis_types: the `AxisType` of each axis; Explicit when omitted.
      devices: the devices to take; all when omitted.

    Raises:
      ValueError: there are fewer devices than the axes need.

    Example:
      >>> import velax
      >>> velax.make_mesh((1, 1), ("x", "y"))
      Mesh(axis_sizes=(1, 1), axis_names=('x', 'y'), axis_types=(Explicit, Explicit))
    """
    shape = tuple(axis_shapes)
    names = _names_tuple(axis_names)
    if len(shape) != len(names):
        raise ValueError(f"make_mesh: {len(shape)} axis shapes {shape} but {len(names)} axis names {names}")
    available = list(_all_devices() if devices is None else devices)
    needed = math.prod(shape)
    if needed > len(available):
        raise ValueError(f"Number of devices {len(available)} must be >= the product of mesh_shape {shape}")
    array = np.array(available[:needed], dtype=object).reshape(shape)
    return Mesh(array, names, (AxisType.Explicit,) * len(names) if axis_types is None else axis_types)


_all_devices = devices

for _public in (AbstractDevice, AbstractMesh, AxisType, Mesh, set_mesh, use_abstract_mesh):
    _public.__module__ = "velax.sharding"
