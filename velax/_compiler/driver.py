"""From a closed jaxpr to something that runs: graph building, the pipeline, object code, loading.

`compile_jaxpr` reads as the recipe. The caches stand around it: a program that is known under its key (canonical jaxpr, donation, configuration, target)
skips every pass and LLVM; otherwise each kernel that is known under its text skips LLVM.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from velax import _native
from velax._compiler.build_graph import build_graph, physical_aval
from velax._compiler.pipeline import CompiledProgram, Options, compile_graph
from velax._compiler.target import Target, host_target
from velax._ir.loops import Kernel
from velax._ir.loops_text import canonical_text
from velax._ir.program import encode
from velax._lang import dtypes
from velax._lang.jaxpr import ClosedJaxpr

__all__ = ["CompiledJaxpr", "compile_jaxpr", "on_compile"]

#: called with a `CompileRecord` after each compilation
on_compile: list[Callable[[CompileRecord], None]] = []

_loaded_kernels: dict[tuple[str, Target], Any] = {}


@dataclass(slots=True)
class CompileRecord:
    """What a compilation did and how long each part took, in seconds."""

    name: str
    n_equations: int
    kernels: list[str]
    compiled: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    from_cache: bool = False

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(slots=True, eq=False)
class CompiledJaxpr:
    """An executable with what is needed to call it on the jaxpr's arguments.

    Attributes:
      executable: takes the kept arguments, then the constants.
      kept: positions of the arguments that the program reads.
      consts: captured arrays that it reads.
      program: the compiled program, for inspection.
      record: times.
    """

    executable: Any
    kept: list[int]
    consts: list[Any]
    program: CompiledProgram | None
    record: CompileRecord


class _Clock:
    def __init__(self, record: CompileRecord):
        self._record, self._last = record, time.perf_counter()

    def lap(self, what: str) -> None:
        now = time.perf_counter()
        self._record.seconds[what] = self._record.seconds.get(what, 0.0) + now - self._last
        self._last = now


def compile_jaxpr(closed: ClosedJaxpr, donated: Sequence[bool] = (), name: str = "", keep_unused: bool = False) -> CompiledJaxpr:
    """Compile a closed jaxpr for this machine.

    Args:
      closed: the function; its constants become inputs of the program.
      donated: for each argument, whether its memory may be reused.
      name: of the function, for records.
      keep_unused: whether arguments that the program does not read are inputs all the same.

    Returns:
      The `CompiledJaxpr`.
    """
    record = CompileRecord(name, len(closed.jaxpr.eqns), [], [])
    clock = _Clock(record)
    target = host_target()
    graph, module = build_graph(closed)
    n_args = len(closed.in_avals)
    clock.lap("graph")
    donated_inputs = frozenset(i for i, d in enumerate(donated) if d)
    compiled = compile_graph(graph, target, Options(donated_inputs))
    clock.lap("passes")
    kernels = _load(compiled, target, record)
    clock.lap("llvm")
    avals = [physical_aval(a) for a in closed.in_avals]
    in_avals = [(a.shape, a.dtype, a.weak_type) for a in avals]
    in_avals += [(node.shape, dtypes.dtype_of_ir_name(node.dtype), False) for node in graph.inputs[n_args:]]
    out_avals = [(a.shape, a.dtype, a.weak_type) for a in map(physical_aval, closed.out_avals)]
    executable = _native.Executable(
        encode(compiled.program), kernels, module.callbacks, in_avals, out_avals, sorted(donated_inputs)
    )
    clock.lap("load")
    for observer in on_compile:
        observer(record)
    return CompiledJaxpr(executable, list(range(n_args)), [as_array(c) for c in module.consts], compiled, record)


def _load(compiled: CompiledProgram, target: Target, record: CompileRecord) -> list[Any]:
    """The program's kernels, loaded. A kernel is known by its text; those not seen before are compiled, all of them together."""
    names = {name: kernel_name(k) for name, k in compiled.kernels.items()}
    missing = {names[n]: k for n, k in compiled.kernels.items() if (names[n], target) not in _loaded_kernels}
    if missing:
        from velax._compiler.objects import compile_kernels  # a warm start does not need emission and LLVM

        for name, image in compile_kernels([replace(k, name=n) for n, k in missing.items()], target).items():
            _loaded_kernels[name, target] = _native.load_object(image).symbol(name)
    record.kernels = [names[n] for n in compiled.program.kernels]
    record.compiled = list(missing)
    return [_loaded_kernels[name, target] for name in record.kernels]


def kernel_name(kernel: Kernel) -> str:
    """The name of a kernel by its content, the same in every process."""
    return "k_" + hashlib.blake2b(canonical_text(kernel).encode(), digest_size=12).hexdigest()


def as_array(x):
    """A captured value as a native array."""
    if isinstance(x, _native.ArrayImpl):
        return x
    dtype = dtypes.canonicalize_dtype(x.dtype)
    return _native.array_from_numpy(x.astype(dtype, copy=False), False)
