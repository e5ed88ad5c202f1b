"""From a closed jaxpr to something that runs: graph building, the pipeline, object code, loading, and the
caches around them.

A program known under its key (canonical jaxpr, donation, target) skips every pass and LLVM, in this process
or from disk; otherwise each kernel known under its text skips code generation. So a warm start reads files
and loads machine code, and imports neither the passes nor llvmlite. Kernels that do little work are encoded
directly (`velax._compiler.encode`), so that small programs never wait for LLVM.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from velax import _native
from velax._compiler.build_graph import build_graph, physical_array, physical_aval
from velax._compiler.cache import disk_cache, key_hash
from velax._compiler.target import Target, host_target
from velax._ir.graph import Graph
from velax._ir.program import Launch, Program, encode as encode_program
from velax._lang import dtypes
from velax._lang.canonical import NotCanonicalError, canonical_bytes
from velax._lang.collector import collector_paused
from velax._lang.config import config
from velax._lang.jaxpr import ClosedJaxpr
from velax._lang.logs import log
from velax._lang.record import Record, factory, replace
from velax._transforms.discharge import discharge_internal

__all__ = [
    "CompileRecord", "CompiledJaxpr", "clear_memory_cache", "compile_jaxpr", "graph_of", "on_compile", "program_of",
]  # fmt: skip

#: called with a `CompileRecord` after each compilation
on_compile: list[Callable[[CompileRecord], None]] = []


class CompileRecord(Record):
    """What a compilation did and how long each part took, in seconds.

    Attributes:
      name: of the function.
      n_equations: of its jaxpr, outermost level.
      kernels: the program's kernels.
      compiled: those that code was generated for now.
      seconds: phase -> seconds.
      source: where the program came from: "compiled", "disk" or "memory".
    """

    name: str
    n_equations: int
    kernels: list[str] = factory(list)
    compiled: list[str] = factory(list)
    seconds: dict[str, float] = factory(dict)
    source: str = "compiled"

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class CompiledJaxpr(Record, eq=False):
    """An executable with what is needed to call it on the jaxpr's arguments.

    Attributes:
      executable: takes the arguments, then the constants.
      consts: captured arrays that it reads.
      record: what was done.
    """

    executable: Any
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
_MAX_KERNELS = 16384
# Locks are re-entrant: a finalizer that the garbage collector runs inside may call a compiled function.
_guard = threading.RLock()  # of these tables; held for look-ups alone
_turns: WeakValueDictionary[str, Any] = WeakValueDictionary()  # key -> lock, while a thread makes the program or waits


def clear_memory_cache() -> None:
    """Forget the programs of this process (entries on disk stay)."""
    with _guard:
        _executables.clear()
        _loaded_kernels.clear()


def compile_jaxpr(closed: ClosedJaxpr, donated: Sequence[bool] = (), name: str = "") -> CompiledJaxpr:
    """Compile a closed jaxpr for this machine.

    Args:
      closed: the function; its constants become inputs of the program.
      donated: for each argument, whether its memory may be reused.
      name: of the function, for records.

    Returns:
      The `CompiledJaxpr`.
    """
    _check_captured(closed, name)
    if config.jax_dump_ir_to:
        from velax._compiler.dump import dump_program  # only needed to look

        dump_program(closed, name, lambda: graph_of(closed))
    closed = discharge_internal(closed)
    record = CompileRecord(name, len(closed.jaxpr.eqns))
    _log_start(record, closed)
    clock = _Clock(record)
    target = host_target()
    key = _program_key(closed, donated, target)
    clock.lap("key")
    with _turn(key):
        executable, consts = _find_or_compile(closed, donated, key, target, record, clock)
    _log_end(record, key)
    for observer in tuple(on_compile):
        observer(record)
    return CompiledJaxpr(executable, [as_array(c) for c in consts], record)


def _check_captured(closed: ClosedJaxpr, name: str) -> None:
    total, limit = sum(getattr(c, "nbytes", 0) for c in closed.consts), config.jax_captured_constants_warn_bytes
    if limit != -1 and total >= limit:
        from velax._compiler.captured import warn_of_captured  # hardly ever needed

        warn_of_captured(closed, name, total, config.jax_captured_constants_report_frames != 0)


def _log_start(record: CompileRecord, closed: ClosedJaxpr) -> None:
    types = tuple(v.aval for v in (*closed.jaxpr.constvars, *closed.jaxpr.invars))
    log(__name__, config.jax_log_compiles, "Compiling jit(%s) with global shapes and types %s.", record.name, types)


def _log_end(record: CompileRecord, key: str | None) -> None:
    """What was done, and where the program came from. Not while it is done, as records may go through users' code."""
    wanted, name = config.jax_log_compiles, f"jit({record.name})"
    origin = ""
    if record.source == "compiled":
        seconds = record.seconds["graph"]
        log(__name__, wanted, "Finished jaxpr to array graph conversion %s in %.9f sec", name, seconds)
        if key and disk_cache() is not None:
            # Velax keeps programs on disk unasked: only those who named a folder ask why one is not there.
            asked = config.jax_explain_cache_misses and config.jax_compilation_cache_dir is not None
            log(__name__, asked, "PERSISTENT COMPILATION CACHE MISS for %s with key %r", name, key)
    elif record.source == "disk":
        origin = ", from the cache on disk"
        log(__name__, wanted, "Persistent compilation cache hit for %s with key %r", name, key)
    else:
        origin = ", from this process's memory"
    log(__name__, wanted, "Finished compilation of %s in %.9f sec%s", name, record.total, origin)


@contextlib.contextmanager
def _turn(key: str | None):
    """One thread at a time makes a program; those that come meanwhile find it made. No code of users runs inside, but
    for finalizers: what these compile while their thread compiles waits for nobody.
    """
    if key is None or getattr(_this_thread, "compiles", False):
        yield
        return
    with _guard:
        lock = _turns.setdefault(key, threading.RLock())
    with lock:
        yield


def _after_fork() -> None:
    """Nobody in the child holds what threads of the parent held."""
    global _guard, _turns
    _guard, _turns = threading.RLock(), WeakValueDictionary()
    _compiler_gate.release()


# LLVM's own locks, and those of modules being imported, must be free at a fork: it waits for the thread that compiles.
_compiler_gate = threading.RLock()
_this_thread = threading.local()
os.register_at_fork(before=_compiler_gate.acquire, after_in_parent=_compiler_gate.release, after_in_child=_after_fork)


def _find_or_compile(closed, donated, key, target, record, clock):
    """The executable, and the arrays it takes after the arguments."""
    consts = list({id(c): c for c in closed.consts if _is_array(c)}.values())
    executable = None
    if key:
        with _guard:
            executable = _executables.get(key)
            if executable is not None:
                _executables.move_to_end(key)
    if executable is not None:
        record.source = "memory"
        record.kernels = [kernel.name for kernel in executable.kernels]
        return executable, consts
    if key:
        executable = _from_disk(key, closed, consts, donated, target, record)
        clock.lap("disk")
    if executable is None:
        try:
            with _compiling():
                executable, consts, storable = _compile(closed, consts, donated, key, target, record, clock)
        except Exception as e:
            e.add_note(f"(while Velax compiled the function {record.name!r})")
            raise
        if not storable:
            return executable, consts
    if key:
        with _guard:
            _executables[key] = executable
            if len(_executables) > _MAX_EXECUTABLES:
                _executables.popitem(last=False)
    return executable, consts


@contextlib.contextmanager
def _compiling():
    """Nobody forks, and no other thread compiles, inside."""
    with collector_paused(), _compiler_gate:
        outer, _this_thread.compiles = getattr(_this_thread, "compiles", False), True
        try:
            yield
        finally:
            _this_thread.compiles = outer


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
    in_avals += [
        (tuple(c.shape), np.dtype(dtypes.canonicalize_dtype(c.dtype)), False) for c in map(physical_array, consts)
    ]
    return in_avals, [(a.shape, a.dtype, a.weak_type) for a in map(physical_aval, closed.out_avals)]


def _executable(program: bytes, kernels, callbacks, closed, consts, donated):
    in_avals, out_avals = _avals(closed, consts)
    return _native.Executable(program, kernels, callbacks, in_avals, out_avals, _positions(donated))


def _positions(flags: Sequence[bool]) -> list[int]:
    """Those of the flags that are set."""
    return [i for i, flag in enumerate(flags) if flag]


# -- compiling -----------------------------------------------------------------------------------


def _compile(closed, consts, donated, key, target, record, clock):
    graph, module = build_graph(closed)
    clock.lap("graph")
    compiled = _run_passes(graph, donated, target)
    clock.lap("passes")
    kernels, names = _load_kernels(compiled, target, record)
    clock.lap("codegen")
    program = encode_program(compiled.program)
    # Functions of Python, and constants of nested jaxprs, are of this call: the key does not tell which they are.
    storable = not module.callbacks and len(module.consts) == len(consts)
    callbacks = module.callbacks[: compiled.program.callbacks]  # those after the last one used were dead code
    executable = _executable(program, kernels, callbacks, closed, module.consts, donated)
    if key and storable:
        cache = disk_cache()
        if cache is not None:
            head = "\n".join(names).encode()
            cache.store("program", key, len(head).to_bytes(8, "little") + head + program)
    clock.lap("load")
    return executable, module.consts, storable


def _run_passes(graph: Graph, donated: Sequence[bool], target: Target):
    from velax._compiler.pipeline import Options, compile_graph  # a warm start needs no passes

    return compile_graph(graph, target, Options(frozenset(_positions(donated))))


def graph_of(closed: ClosedJaxpr) -> Graph:
    """What `compile_jaxpr` compiles, for people."""
    return build_graph(discharge_internal(closed))[0]


def program_of(closed: ClosedJaxpr, donated: Sequence[bool] = ()) -> Program:
    """What `compile_jaxpr` makes for the executor, for people."""
    with _compiling():
        return _run_passes(graph_of(closed), donated, host_target()).program


#: operations of a launch up to which a kernel is encoded directly: fewer than a microsecond's
SMALL_LAUNCH = 512


def _load_kernels(compiled, target: Target, record: CompileRecord):
    """The program's kernels, loaded, and their names. A kernel is known by its text; those not seen before
    are compiled, all of them together.
    """
    cache = disk_cache()
    small = _small_kernels(compiled, target)
    names: dict[str, str] = {}  # the program's name of a kernel -> the name under which it is kept
    loaded: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    for name, kernel in compiled.kernels.items():
        text = compiled.texts[name]
        if name in small:
            names[name] = hashed = "s_" + key_hash("small kernel", text, repr(target))[:32]
            if hashed not in loaded:
                found = _known_kernel(hashed, target, cache) or _encoded(hashed, kernel, target, cache, record)
                if found is not None:
                    loaded[hashed] = found
            if hashed in loaded:
                continue
        names[name] = hashed = "k_" + key_hash("kernel", text, repr(target))[:32]
        if hashed in loaded or hashed in missing:
            continue
        found = _known_kernel(hashed, target, cache)
        if found is None:
            missing[hashed] = kernel
        else:
            loaded[hashed] = found
    if missing:
        try:
            from velax._compiler.objects import compile_kernels  # small programs never need LLVM

            images = compile_kernels([replace(k, name=n) for n, k in missing.items()], target)
        except RuntimeError as e:
            raise RuntimeError(
                f"the function {record.name!r} cannot be compiled; this is an error in Velax. {e}"
            ) from e
        for name, image in images.items():
            loaded[name] = _made_kernel(name, image, target, cache, record)
    record.kernels = [names[n] for n in compiled.program.kernels]
    return [loaded[n] for n in record.kernels], record.kernels


def _small_kernels(compiled, target: Target) -> set[str]:
    """The kernels that do little each time the program runs."""
    from velax._compiler.encode import encodable_target, operations  # as in `_run_passes`

    if not encodable_target(target):
        return set()
    program = compiled.program
    small, large = set(), set()
    for number, block in enumerate(program.blocks):
        for step in block:
            if type(step) is Launch:
                name = program.kernels[step.kernel]
                # What a loop launches may run any number of times.
                once = number == 0 and operations(compiled.kernels[name], step.total, step.extents) <= SMALL_LAUNCH
                (small if once else large).add(name)
    return small - large


def _encoded(name: str, kernel, target: Target, cache, record: CompileRecord):
    """The kernel, encoded without LLVM, or None for one that uses what only LLVM makes code for."""
    from velax._compiler.dump import dump, dump_kernel  # as in `_run_passes`
    from velax._compiler.elf_write import write_object
    from velax._compiler.encode import NotEncodable, encode

    try:
        code = encode(kernel)
    except NotEncodable:
        return None
    dump_kernel(replace(kernel, name=name))
    dump("asm", lambda: f"{name}: {code.hex()}")
    return _made_kernel(name, write_object(name, code), target, cache, record)


def _made_kernel(name: str, image: bytes, target: Target, cache, record: CompileRecord):
    kernel = _keep_kernel(name, target, image)
    record.compiled.append(name)
    if cache is not None:
        cache.store("kernel", name, image)
    return kernel


def _keep_kernel(name: str, target: Target, image: bytes):
    kernel = _native.load_object(image).symbol(name)
    with _guard:
        if len(_loaded_kernels) >= _MAX_KERNELS:
            _loaded_kernels.clear()  # executables hold their own
        return _loaded_kernels.setdefault((name, target), kernel)


def _known_kernel(name: str, target: Target, cache):
    """A kernel of this process, or from disk if it is there and whole, or None."""
    kernel = _loaded_kernels.get((name, target))
    if kernel is not None or cache is None:
        return kernel
    image = cache.load("kernel", name)
    if image is None:
        return None
    try:
        return _keep_kernel(name, target, image)
    except (ValueError, KeyError):
        cache.drop("kernel", name)
        return None


def _from_disk(key, closed, consts, donated, target, record):
    """The executable of a stored program whose kernels are all there, or None."""
    cache = disk_cache()
    payload = cache.load("program", key) if cache is not None else None
    if payload is None:
        return None
    try:
        n = int.from_bytes(payload[:8], "little")
        names = payload[8 : 8 + n].decode().split("\n") if n else []
        kernels = []
        for name in names:
            kernel = _known_kernel(name, target, cache)
            if kernel is None:
                return None
            kernels.append(kernel)
        executable = _executable(payload[8 + n :], kernels, [], closed, consts, donated)
    except (ValueError, KeyError, TypeError):
        cache.drop("program", key)
        return None
    record.kernels, record.source = names, "disk"
    return executable


def as_array(x):
    """A captured value as a native array."""
    x = physical_array(x)
    if isinstance(x, _native.ArrayImpl):
        return x
    dtype = dtypes.canonicalize_dtype(x.dtype)
    return _native.array_from_numpy(np.asarray(x, dtype=dtype, order="C"), False)
