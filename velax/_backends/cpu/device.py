"""The CPU as a back end, and the device attributes of its arrays."""

from __future__ import annotations

from typing import Any

from velax import _native
from velax._backends.cpu import dispatch as dispatch
from velax._backends.cpu.placement import device_put
from velax._compiler.driver import compile_jaxpr
from velax._lang.devices import Backend, Device, register_backend
from velax._lang.shardings import SingleDeviceSharding

__all__ = ["CpuBackend"]


class CpuBackend(Backend):
    """One device: all cores that this process may use."""

    platform = "cpu"

    def __init__(self):
        self._device = Device(self, 0)
        self.sharding = SingleDeviceSharding(self._device)

    def devices(self) -> list[Device]:
        return [self._device]

    def put(self, value: Any, device: Device, memory_kind: str | None = None) -> Any:
        return device_put(value, device)

    def compile(self, closed_jaxpr: Any, **options: Any) -> Any:
        return compile_jaxpr(closed_jaxpr, **options)

    def memory_stats(self, device: Device) -> dict[str, int]:
        return _native.allocator_stats()


_cpu: CpuBackend | None = None


def _make() -> CpuBackend:
    global _cpu
    if _cpu is None:
        _cpu = CpuBackend()
    return _cpu


register_backend("cpu", _make)
_native.set_device_hooks(
    lambda array: _make().devices()[0], lambda array: {_make().devices()[0]}, lambda array: _make().sharding,
)  # fmt: skip
