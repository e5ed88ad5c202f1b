"""What the code generator knows about a CPU: instruction set, vector width, caches.

The host is read from the operating system's own tables, without LLVM: a warm start takes kernels from the cache by this
description and never loads a compiler.
"""

from __future__ import annotations

import functools
import os

from velax._ir.loops import WIDTH
from velax._lang.record import Record

__all__ = ["Target", "host_target"]

# /proc/cpuinfo's names of instruction sets -> LLVM's. What is not listed is never used by generated code.
_FEATURES = {
    "sse4_1": "sse4.1", "sse4_2": "sse4.2", "ssse3": "ssse3", "pni": "sse3", "cx16": "cx16", "popcnt": "popcnt",
    "lahf_lm": "sahf",
    "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi1": "bmi", "bmi2": "bmi2", "abm": "lzcnt",
    "movbe": "movbe",
    "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd", "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512_vbmi2": "avx512vbmi2", "avx512_vnni": "avx512vnni",
    "avx512_bitalg": "avx512bitalg", "avx512_vpopcntdq": "avx512vpopcntdq", "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16", "avx_vnni": "avxvnni", "gfni": "gfni", "vaes": "vaes", "vpclmulqdq": "vpclmulqdq",
}  # fmt: skip

_LEVEL_2 = {"cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"}
_LEVEL_3 = _LEVEL_2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
_LEVEL_4 = _LEVEL_3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


class Target(Record):
    """A CPU to generate code for.

    Args:
        cpu: LLVM's name of the architecture level (``x86-64-v4``).
        features: LLVM's names of the instruction sets in use, sorted.
        vector_bytes: width of the native vector registers.
        caches: bytes of a core's first-level data and second-level cache.
    """

    cpu: str
    features: tuple[str, ...]
    vector_bytes: int
    caches: tuple[int, int]

    @property
    def feature_string(self) -> str:
        """LLVM's feature list: what is used, and wide registers without splitting them in halves."""
        return ",".join([f"+{name}" for name in self.features] + ["-prefer-256-bit"])

    def has(self, feature: str) -> bool:
        return feature in self.features

    def lanes(self, dtype: str) -> int:
        """Elements of ``dtype`` in one native vector register."""
        return self.vector_bytes * 8 // WIDTH[dtype]


def make_target(features, caches=(32 << 10, 1 << 20)) -> Target:
    """A target with LLVM feature names ``features``; level and vector width follow from them."""
    features = set(features)
    level = next((n for n, need in ((4, _LEVEL_4), (3, _LEVEL_3), (2, _LEVEL_2)) if need <= features), 1)
    cpu = f"x86-64-v{level}" if level > 1 else "x86-64"
    vector_bytes = 64 if level == 4 else 32 if "avx2" in features else 16
    if vector_bytes < 64:
        features = {name for name in features if not name.startswith("avx512")}
    return Target(cpu, tuple(sorted(features)), vector_bytes, tuple(caches))


@functools.cache
def host_target() -> Target:
    """The machine that runs this process.

    Raises:
        NotImplementedError: on anything but Linux on x86-64.
    """
    machine = os.uname() if hasattr(os, "uname") else None
    if machine is None or machine.machine not in ("x86_64", "AMD64") or not os.path.exists("/proc/cpuinfo"):
        system = f"{machine.sysname} on {machine.machine}" if machine else os.name
        raise NotImplementedError(f"code generation supports Linux on x86-64, this is {system}")
    with open("/proc/cpuinfo", "rb") as file:
        text = file.read(8192)  # the first processor; the kernel writes the text of each when it is read
    _, _, flags = text.partition(b"\nflags")
    names = set(flags.partition(b":")[2].partition(b"\n")[0].decode().split())
    features = {llvm for name, llvm in _FEATURES.items() if name in names}
    return make_target(features, _host_caches())


#: glibc's numbers of the sizes of the first-level data and the second-level cache, which `os` has no names for; and
#: what they usually are
_CACHES = ((188, 32 << 10), (191, 1 << 20))


def _host_caches() -> tuple[int, ...]:
    return tuple(_system_value(number) or usual for number, usual in _CACHES)


def _system_value(number: int) -> int:
    """``sysconf``'s answer; 0 where the system does not know."""
    try:
        return max(os.sysconf(number), 0)
    except (OSError, ValueError):
        return 0
