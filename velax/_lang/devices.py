"""Devices, the back ends that provide them, and the registry that finds them.

A back end is registered by name with a function that makes it, and made when a device is first asked for.
What a back end has to provide is the class `Backend`; everything about devices above this layer goes through
it.
"""

from __future__ import annotations

import abc
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from velax._lang import config

__all__ = [
    "Backend",
    "Device",
    "Memory",
    "backend_of",
    "backends",
    "clear_backends",
    "current_device",
    "default_backend",
    "device_count",
    "devices",
    "host_count",
    "host_id",
    "host_ids",
    "local_device_count",
    "local_devices",
    "process_count",
    "process_index",
    "process_indices",
    "register_backend",
]


class Memory:
    """A memory that a device can address.

    Args:
      device: the device.
      kind: ``"device"``, ``"pinned_host"`` or ``"unpinned_host"``.
    """

    __slots__ = ("device", "kind")

    def __init__(self, device: Device, kind: str):
        self.device, self.kind = device, kind

    @property
    def platform(self) -> str:
        """The platform of the device."""
        return self.device.platform

    @property
    def process_index(self) -> int:
        """The process that the device belongs to."""
        return self.device.process_index

    def addressable_by_devices(self) -> list[Device]:
        """The devices that can address this memory."""
        return [self.device]

    def __eq__(self, other):
        return isinstance(other, Memory) and (self.device, self.kind) == (other.device, other.kind)

    def __hash__(self):
        return hash((Memory, self.device, self.kind))

    def __repr__(self):
        return f"{self.kind.upper()}_{self.device.id}"


class Device:
    """One device: what arrays live on and programs run on. Devices are made by back ends, one object each.

    Args:
      client: the back end.
      id: its number, unique among the devices of the platform over all processes.
      process_index: the process that can use it.
      device_kind: what it is, e.g. ``"cpu"``.
      memory_kinds: the memories that it addresses, the default one first.
      local_hardware_id: its number among the devices of this process.

    Example:
      >>> import velax
      >>> velax.devices()[0]
      CpuDevice(id=0)
    """

    __slots__ = ("__weakref__", "_memories", "client", "device_kind", "id", "local_hardware_id", "process_index")

    def __init__(
        self,
        client: Backend,
        id: int,
        *,
        process_index: int = 0,
        device_kind: str = "cpu",
        memory_kinds: Sequence[str] = ("device", "pinned_host", "unpinned_host"),
        local_hardware_id: int | None = None,
    ):
        self.client = client
        self.id = id
        self.process_index = process_index
        self.device_kind = device_kind
        self.local_hardware_id = id if local_hardware_id is None else local_hardware_id
        self._memories = tuple(Memory(self, kind) for kind in memory_kinds)

    @property
    def platform(self) -> str:
        """The name of the platform, e.g. ``"cpu"``."""
        return self.client.platform

    @property
    def host_id(self) -> int:
        """Older name of `process_index`."""
        return self.process_index

    @property
    def task_id(self) -> int:
        """Older name of `process_index`."""
        return self.process_index

    def memory(self, kind: str) -> Memory:
        """The memory of this kind.

        Raises:
          ValueError: the device addresses no such memory.
        """
        for memory in self._memories:
            if memory.kind == kind:
                return memory
        kinds = ", ".join(m.kind for m in self._memories)
        raise ValueError(
            f"Could not find memory addressable by device {self.device_kind}. Device {self.device_kind} can "
            "address the "
            f"following memory kinds: {kinds}. Got memory kind: {kind}"
        )

    def default_memory(self) -> Memory:
        """The memory that arrays live in unless told otherwise."""
        return self._memories[0]

    def addressable_memories(self) -> list[Memory]:
        """All memories that the device can address."""
        return list(self._memories)

    def memory_stats(self) -> dict[str, int] | None:
        """What the allocator of the device reports (bytes in use, limits, ...), or ``None`` where it reports
        nothing.
        """
        return self.client.memory_stats(self)

    def live_buffers(self) -> list[Any]:
        """The arrays that live on the device."""
        return self.client.live_arrays(self)

    def __repr__(self):
        return f"{self.platform.capitalize()}Device(id={self.id})"

    def __str__(self):
        return f"{self.platform}:{self.id}"

    def __reduce__(self):
        # Another process has a device of that name of its own.
        return _device_by_id, (self.platform, self.id)


def _device_by_id(platform: str, id: int) -> Device:
    for device in devices(platform):
        if device.id == id:
            return device
    raise ValueError(f"this process sees no device {id} of the platform {platform!r}")


class Backend(abc.ABC):
    """What a platform provides: its devices, and how arrays reach them and programs run on them.

    A subclass sets ``platform`` (``"cpu"``) and implements the abstract methods.
    """

    platform: str
    platform_version: str = ""

    @abc.abstractmethod
    def devices(self) -> list[Device]:
        """All devices of the platform, over all processes."""

    def local_devices(self) -> list[Device]:
        """The devices of this process."""
        return [d for d in self.devices() if d.process_index == self.process_index()]

    def process_index(self) -> int:
        """The number of this process among those that share the platform."""
        return 0

    def process_count(self) -> int:
        """How many processes share the platform."""
        return 1 + max((d.process_index for d in self.devices()), default=0)

    def device_count(self) -> int:
        """How many devices there are over all processes."""
        return len(self.devices())

    def local_device_count(self) -> int:
        """How many devices this process has."""
        return len(self.local_devices())

    @abc.abstractmethod
    def put(self, value: Any, device: Device, memory_kind: str | None = None) -> Any:
        """An array on `device` with the contents of `value` (a NumPy array, or an array on any device)."""

    @abc.abstractmethod
    def compile(self, closed_jaxpr: Any, **options: Any) -> Any:
        """An executable of a program for the devices of this platform."""

    def memory_stats(self, device: Device) -> dict[str, int] | None:
        """What the allocator of `device` reports, or ``None``."""
        del device
        return None

    def live_arrays(self, device: Device) -> list[Any]:
        """The arrays that live on `device`."""
        raise NotImplementedError(f"the {self.platform} back end keeps no list of the arrays on {device}")

    def __repr__(self):
        return f"<{type(self).__name__} of platform {self.platform!r}>"


# What users may call a platform that has another name.
_ALIASES = {"gpu": ("cuda", "rocm"), "tpu": ("tpu",)}

_lock = threading.RLock()
_factories: dict[str, tuple[int, Callable[[], Backend]]] = {}
_backends: dict[str, Backend] = {}


def register_backend(platform: str, factory: Callable[[], Backend], *, priority: int = 0) -> None:
    """Makes a platform known.

    Args:
      platform: its name.
      factory: a function that makes the back end, called when a device is first asked for.
      priority: of several platforms the one of the highest priority is the default.
    """
    with _lock:
        _factories[platform] = (priority, factory)
        _backends.pop(platform, None)


def backends() -> dict[str, Backend]:
    """The back ends in use, the default one first. They are made on first use.

    Raises:
      RuntimeError: ``jax_platforms`` names a platform that is not registered, or none is.
    """
    with _lock:
        names = _wanted_platforms()
        for name in names:
            if name not in _backends:
                _backends[name] = _factories[name][1]()
        return {name: _backends[name] for name in names}


def _wanted_platforms() -> list[str]:
    by_priority = sorted(_factories, key=lambda name: -_factories[name][0])
    wanted = config.config.jax_platforms or config.config.jax_platform_name
    if not wanted:
        if not by_priority:
            raise RuntimeError("no back end is registered; `import velax` registers the CPU's")
        return by_priority
    names: list[str] = []
    for name in filter(None, wanted.split(",")):
        found = [n for n in _ALIASES.get(name, (name,)) if n in _factories]
        if not found:
            raise RuntimeError(
                f"Unable to initialize backend '{name}': jax_platforms={wanted!r} names it, but only {by_priority} "
                "are available"
            )
        names += found
    return names


def clear_backends() -> None:
    """Forgets the back ends that were made; the next use makes them anew."""
    with _lock:
        _backends.clear()


def backend_of(platform: str | Backend | None = None) -> Backend:
    """The back end of a platform, or the default one.

    Raises:
      RuntimeError: there is no such platform.
    """
    if isinstance(platform, Backend):
        return platform
    available = backends()
    if platform is None:
        chosen = config.default_device.value
        platform = chosen if isinstance(chosen, str) else getattr(chosen, "platform", None)
        if platform is None:
            return next(iter(available.values()))
    for name in _ALIASES.get(platform, (platform,)):
        if name in available:
            return available[name]
    if platform in _ALIASES:
        raise RuntimeError(
            f"Unknown backend: '{platform}' requested, but no platforms that are instances of {platform} are present. "
            f"Platforms present are: {','.join(available)}"
        )
    raise RuntimeError(f"Unknown backend {platform}. Available backends are {list(available)}")


def devices(backend: str | Backend | None = None) -> list[Device]:
    """All devices of a back end, over all processes.

    Args:
      backend: a platform (``"cpu"``, ``"gpu"``) or back end; the default one when omitted.

    Raises:
      RuntimeError: there is no such platform.

    Example:
      >>> import velax
      >>> velax.devices()
      [CpuDevice(id=0)]
    """
    return backend_of(backend).devices()


def local_devices(
    process_index: int | None = None, backend: str | Backend | None = None, host_id: int | None = None
) -> list[Device]:
    """The devices of one process.

    Args:
      process_index: the process; this one when omitted.
      backend: a platform or back end; the default one when omitted.
      host_id: older name of `process_index`.

    Raises:
      ValueError: there is no such process.
    """
    found = backend_of(backend)
    process = host_id if process_index is None else process_index
    if process is None:
        return found.local_devices()
    if process not in range(found.process_count()):
        raise ValueError(f"Unknown process_index {process}")
    return [d for d in found.devices() if d.process_index == process]


def device_count(backend: str | Backend | None = None) -> int:
    """How many devices a back end has over all processes."""
    return backend_of(backend).device_count()


def local_device_count(backend: str | Backend | None = None) -> int:
    """How many devices a back end has in this process."""
    return backend_of(backend).local_device_count()


def default_backend() -> str:
    """The platform of the default back end, e.g. ``"cpu"``."""
    return backend_of().platform


def process_index(backend: str | Backend | None = None) -> int:
    """The number of this process; 0 where there is one."""
    return backend_of(backend).process_index()


def process_count(backend: str | Backend | None = None) -> int:
    """How many processes work together."""
    return backend_of(backend).process_count()


def process_indices(backend: str | Backend | None = None) -> list[int]:
    """The numbers of all processes."""
    return list(range(process_count(backend)))


def current_device() -> Device:
    """The device of computations on no committed array: `velax.default_device`, or the first device of this process."""
    chosen = config.default_device.value
    if isinstance(chosen, Device):
        return chosen
    return backend_of(chosen).local_devices()[0]


def _renamed(old: str, new: Callable) -> Callable:
    def alias(backend: str | Backend | None = None):
        warnings.warn(f"{old} is now {new.__name__}", DeprecationWarning, stacklevel=2)
        return new(backend)

    alias.__name__ = alias.__qualname__ = old
    alias.__doc__ = f"Older name of `{new.__name__}`."
    return alias


host_id = _renamed("host_id", process_index)
host_count = _renamed("host_count", process_count)
host_ids = _renamed("host_ids", process_indices)

Device.__module__ = Backend.__module__ = "velax"
