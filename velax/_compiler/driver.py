"""From a closed jaxpr to something that runs: graph building, the pipeline, object code, loading, and the caches around them.

A program known under its key (canonical jaxpr, donation, target) skips every pass and LLVM, in this process or from disk; otherwise each kernel known under its
text skips LLVM. So a warm start reads files and loads machine code, and imports neither the passes nor llvmlite.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from velax import _native
from velax._compiler.build_graph import build_graph, physical_aval
from velax._compiler.cache import disk_cache, key_hash
from velax._compiler.target import Target, host_target
from velax._lang import dtypes
from velax._lang.canonical import NotCanonicalError, canonical_bytes
from velax._lang.jaxpr import ClosedJaxpr

__all__ = ["CompileRecord", "CompiledJaxpr", "clear_memory_cache", "compile_jaxpr", "on_compile"]

#: called with a `CompileRecord` after each compilation
on_compile: list[Callable[[CompileRecord], None]] = []


@dataclass(slots=True)
class CompileRecord:
    """What a compilation did and how long each part took, in seconds.

    Attributes:
      name: of the function.
      n_equations: of its jaxpr, outermost level.
      kernels: the program's kernels.
      compiled: those that LLVM compiled now.
      seconds: phase -> seconds.
      source: where the program came from: "compiled", "disk" or "memory".
    """

    name: str
    n_equations: int
    kernels: list[str] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    source: str = "compiled"

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(slots=True, eq=False)
class CompiledJaxpr:
    """An executable with what is needed to call it on the jaxpr's arguments.

    Attributes:
      executable: takes the kept arguments, then the constants.
      kept: positions of the arguments that the program reads; None for all.
      consts: captured arrays that it reads.
      record: what was done.
    """

    executable: Any
    kept: list[int] | None
    consts: list[Any]
    record: CompileRecord


class _Clock:
    def __init__(self, record: CompileRecord):
        self._record, self._last = record, time.perf_counter()

    def lap(self, what: str) -> None:
        now = time.perf_counter()
        self._record.seconds[what] = self._record.seconds.get(what, 0.0) + now - self._last
        self._last = now


_executables: OrderedDict[str, Any] = OrderedDict()
_loaded_kernels: dict[tuple[str, Target], Any] = {}
_MAX_EXECUTABLES = 2048


def clear_memory_cache() -> None:
    """Forget the programs of this process (entries on disk stay)."""
    _executables.clear()
    _loaded_kernels.clear()


def compile_jaxpr(closed: ClosedJaxpr, donated: Sequence[bool] = (), name: str = "", keep_unused: bool = False) -> CompiledJaxpr:
    """Compile a closed jaxpr for this machine.

    Args:
      closed: the function; its constants become inputs of the program.
      donated: for each argument, whether its memory may be reused.
      name: of the function, for records.
      keep_unused: accepted; arguments that the program does not read cost nothing as inputs.

    Returns:
      The `CompiledJaxpr`.
    """
    record = CompileRecord(name, len(closed.jaxpr.eqns))
    clock = _Clock(record)
    target = host_target()
    key = _program_key(closed, donated, target)
    consts = list({id(c): c for c in closed.consts if _is_array(c)}.values())
    clock.lap("key")
    executable = _executables.get(key) if key else None
    if executable is not None:
        _executables.move_to_end(key)
        record.source = "memory"
    if executable is None and key:
        executable = _from_disk(key, closed, consts, donated, target, record)
        clock.lap("disk")
    if executable is None:
        executable, consts, callbacks = _compile(closed, consts, donated, key, target, record, clock)
        if callbacks:
            key = None  # it holds Python functions of this call
    if key:
        _executables[key] = executable
        if len(_executables) > _MAX_EXECUTABLES:
            _executables.popitem(last=False)
    for observer in on_compile:
        observer(record)
    return CompiledJaxpr(executable, None if not consts else list(range(len(closed.in_avals))), [as_array(c) for c in consts], record)


def _is_array(const) -> bool:
    return not isinstance(const, (bool, int, float, complex, np.generic))


def _program_key(closed: ClosedJaxpr, donated: Sequence[bool], target: Target) -> str | None:
    """The program's hash, or None for one that holds Python functions."""
    try:
        text = canonical_bytes(closed)
    except NotCanonicalError:
        return None
    return key_hash("program", text, repr(tuple(donated)), repr(target))


def _avals(closed: ClosedJaxpr, consts):
    """The types of the program's inputs and outputs, as the executable takes them."""
    ins = [physical_aval(a) for a in closed.in_avals]
    in_avals = [(a.shape, a.dtype, a.weak_type) for a in ins]
    in_avals += [(tuple(c.shape), np.dtype(dtypes.canonicalize_dtype(c.dtype)), False) for c in map(_physical, consts)]
    return in_avals, [(a.shape, a.dtype, a.weak_type) for a in map(physical_aval, closed.out_avals)]


def _physical(const):
    return const._base_array if hasattr(const, "_base_array") else const


def _executable(program: bytes, kernels, callbacks, closed, consts, donated):
    in_avals, out_avals = _avals(closed, consts)
    return _native.Executable(program, kernels, callbacks, in_avals, out_avals, [i for i, d in enumerate(donated) if d])


# -- compiling --------------------------------------------------------------------------------------------------------------


def _compile(closed, consts, donated, key, target, record, clock):
    from velax._compiler.pipeline import Options, compile_graph  # a warm start needs no passes
    from velax._ir.program import encode

    graph, module = build_graph(closed)
    clock.lap("graph")
    compiled = compile_graph(graph, target, Options(frozenset(i for i, d in enumerate(donated) if d)))
    clock.lap("passes")
    kernels, names = _load_kernels(compiled, target, record)
    clock.lap("llvm")
    program = encode(compiled.program)
    nested = len(module.consts) != len(consts)
    callbacks = module.callbacks[: compiled.program.callbacks]  # those after the last one used were dead code
    executable = _executable(program, kernels, callbacks, closed, module.consts, donated)
    if key and not module.callbacks and not nested:
        cache = disk_cache()
        if cache is not None:
            head = json.dumps({"kernels": names}).encode()
            cache.store("program", key, len(head).to_bytes(8, "little") + head + program)
    clock.lap("load")
    return executable, module.consts, module.callbacks


def _load_kernels(compiled, target: Target, record: CompileRecord):
    """The program's kernels, loaded. A kernel is known by its text; those not seen before are compiled, all of them together."""
    from velax._ir.loops_text import canonical_text

    texts = {name: canonical_text(k) for name, k in compiled.kernels.items()}
    names = {name: "k_" + key_hash("kernel", text, repr(target))[:32] for name, text in texts.items()}
    cache = disk_cache()
    missing = {}
    for name, kernel in compiled.kernels.items():
        hashed = names[name]
        if (hashed, target) not in _loaded_kernels and hashed not in missing and not _load_stored(hashed, target, cache):
            missing[hashed] = kernel
    if missing:
        from velax._compiler.objects import compile_kernels  # imports llvmlite

        for name, image in compile_kernels([replace(k, name=n) for n, k in missing.items()], target).items():
            _loaded_kernels[name, target] = _native.load_object(image).symbol(name)
            if cache is not None:
                cache.store("kernel", name, image)
    record.kernels = [names[n] for n in compiled.program.kernels]
    record.compiled = list(missing)
    return [_loaded_kernels[n, target] for n in record.kernels], record.kernels


def _load_stored(name: str, target: Target, cache) -> bool:
    """Load a kernel's object code from disk, if it is there and whole."""
    if cache is None:
        return False
    image = cache.load("kernel", name)
    if image is None:
        return False
    try:
        _loaded_kernels[name, target] = _native.load_object(image).symbol(name)
    except (ValueError, KeyError):
        cache.drop("kernel", name)
        return False
    return True


def _from_disk(key, closed, consts, donated, target, record):
    """The executable of a stored program whose kernels are all there, or None."""
    cache = disk_cache()
    payload = cache.load("program", key) if cache is not None else None
    if payload is None:
        return None
    try:
        n = int.from_bytes(payload[:8], "little")
        names = json.loads(payload[8 : 8 + n])["kernels"]
        kernels = []
        for name in names:
            if (name, target) not in _loaded_kernels and not _load_stored(name, target, cache):
                return None
            kernels.append(_loaded_kernels[name, target])
        executable = _executable(payload[8 + n :], kernels, [], closed, consts, donated)
    except (ValueError, KeyError, TypeError):
        cache.drop("program", key)
        return None
    record.kernels, record.source = names, "disk"
    return executable


def as_array(x):
    """A captured value as a native array."""
    x = _physical(x)
    if isinstance(x, _native.ArrayImpl):
        return x
    dtype = dtypes.canonicalize_dtype(x.dtype)
    return _native.array_from_numpy(np.asarray(x, dtype=dtype, order="C"), False)
