"""Loop IR kernels -> object code, through LLVM.

Kernels are cached one by one, but LLVM has a price for each module and each run of its passes. So kernels of
one optimisation level are compiled as modules of several, every function in a section of its own, and the
object is then cut into one small ELF file a kernel. Where there is more than one module, threads share them:
code is generated for the first while Python still writes the text of the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from velax import _native
from velax._compiler.dump import dump, dump_kernel
from velax._compiler.elf import external_symbols, split_object
from velax._compiler.emit import ATTRIBUTES, emit_function, emit_kernel
from velax._compiler.target import Target, host_target
from velax._ir.loops import Alloc, For, If, Kernel, Reduce, While

__all__ = ["assembly", "codegen_level", "compile_kernels", "target_machine"]

#: what generated code may import: LLVM turns copying loops into the first three, lacking instructions into the others
_IMPORTS = frozenset(
    ["memcpy", "memmove", "memset", "__extendhfsf2", "__truncsfhf2"]
    + [f"{name}{kind}" for name in ("fma", "floor", "ceil", "trunc", "rint") for kind in ("", "f")]
)


def codegen_level(kernel: Kernel) -> int:
    """LLVM's code generation level for ``kernel``: its ``codegen`` attribute, else by what its loops do.

    Straight vector loops lose a few percent at level 0 and compile in a third of the time. Loops that carry
    values in registers need a register allocator that sees the whole loop.
    """
    level = kernel.attributes.get("codegen")
    if level is not None:
        return level
    return 2 if _carries_values(kernel.body) else 0


def _carries_values(stmts) -> bool:
    for s in stmts:
        kind = type(s)
        if kind is Reduce or kind is While or (kind is Alloc and s.buffer.space == "register"):
            return True
        if kind is For:
            inner = any(type(t) is For for t in s.body)
            # A nest, a loop that carries values, or one element at a time: what is spilled is spilled in
            # every iteration.
            if _carries_values(s.body) or (inner and s.kind != "unrolled") or (s.kind == "serial" and not inner):
                return True
        if kind is If and (_carries_values(s.then) or _carries_values(s.orelse)):
            return True
    return False


#: characters of LLVM's text in a module: some 20 ms of code generation, a tenth of which is the module's own price
_MODULE_TEXT = 24 << 10


class _Module:
    """A module to make code of: its kernels' names, their optimisation level, the text, and the time it took."""

    __slots__ = ("emit_ms", "level", "names", "source")

    def __init__(self, level: int, names: list[str], source: str, emit_ms: float):
        self.level, self.names, self.source, self.emit_ms = level, names, source, emit_ms


def compile_kernels(
    kernels: Sequence[Kernel], target: Target | None = None, stats: list[dict] | None = None
) -> dict[str, bytes]:
    """Compile ``kernels`` (of different names) to relocatable ELF objects.

    Args:
        kernels: verified kernels.
        target: the CPU; this machine's if None.
        stats: receives a record for each module: ``kernels`` (names), ``level``, ``emit_ms``, ``parse_ms``,
            ``codegen_ms``, ``split_ms``.

    Returns:
        An object file for each kernel name, with one symbol of that name and no imports but `memcpy` and its like.

    Raises:
        RuntimeError: if LLVM rejects the text (an error of emission) or an object imports something else.

    ``VELAX_DUMP=loops,llvm,asm`` prints what goes in and out.
    """
    target = target or host_target()
    levels: dict[int, list[Kernel]] = {}
    for kernel in kernels:
        levels.setdefault(codegen_level(kernel), []).append(kernel)
    objects: dict[str, bytes] = {}
    _start_llvm()
    with _Crew(lambda module: objects.update(_objects_of(module, target, stats)), _native.num_threads()) as crew:
        left = len(kernels)
        for level, group in levels.items():
            for module in _modules(group, target, level):
                left -= len(module.names)
                crew.share(module, more=left > 0)
    return objects


def _modules(kernels: list[Kernel], target: Target, level: int) -> Iterator[_Module]:
    """The kernels' text in modules of about `_MODULE_TEXT`."""
    names: list[str] = []
    functions: list[str] = []
    declarations: dict[str, None] = {}
    start = time.perf_counter()
    for kernel in kernels:
        dump_kernel(kernel)
        function, needed = emit_function(kernel, target, f".text.{kernel.name}")
        names.append(kernel.name)
        functions.append(function)
        declarations.update(dict.fromkeys(needed))
        if kernel is kernels[-1] or sum(map(len, functions)) > _MODULE_TEXT:
            source = "\n".join([*functions, *declarations, ATTRIBUTES, ""])
            dump("llvm", lambda: source)  # noqa: B023
            yield _Module(level, names, source, (time.perf_counter() - start) * 1e3)
            names, functions, declarations = [], [], {}
            start = time.perf_counter()


class _Crew:
    """Up to ``size`` threads, this one included: the others work on what it shares with them while
    it makes more, and it joins them at the end of the ``with`` statement. One item alone is left to it.
    """

    def __init__(self, work: Callable[[_Module], None], size: int):
        self._work, self._size = work, size
        self._threads: list[threading.Thread] = []
        self._items: deque[_Module] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._errors: list[BaseException] = []

    def share(self, item: _Module, more: bool) -> None:
        """Hand over ``item``; ``more``: whether another one will follow."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()
            worth_it = more or len(self._items) > 1
        if worth_it and len(self._threads) < self._size - 1:
            thread = threading.Thread(target=self._run, name="velax-codegen")
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # no more threads: a limit of the system, or the interpreter ends
                self._threads.pop()
                self._size = 0  # this one does what is shared

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        with self._changed:
            if kind is not None:
                self._items.clear()
            self._closed = True
            self._changed.notify_all()
        try:
            self._run()
        finally:
            self._items.clear()  # where the wait was interrupted
            for thread in self._threads:
                thread.join()
        if kind is None and self._errors:
            raise self._errors[0]

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._work(item)
            except BaseException as error:  # raised by the one that waits
                with self._changed:
                    self._errors.append(error)
                    self._items.clear()

    def _next(self) -> _Module | None:
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            return self._items.popleft() if self._items else None


@functools.cache
def _start_llvm() -> None:
    import llvmlite.binding as llvm  # 30 ms to import: only what compiles pays for it

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


_idle_machines: dict[tuple[Target, int], list] = {}


@contextlib.contextmanager
def _machine(target: Target, level: int):
    """LLVM's code generator for ``target``, for one thread at a time."""
    idle = _idle_machines.setdefault((target, level), [])
    try:
        machine = idle.pop()
    except IndexError:
        machine = target_machine(target, level)
    yield machine
    idle.append(machine)


def target_machine(target: Target, level: int):
    """A new code generator of LLVM's for ``target``."""
    import llvmlite.binding as llvm  # as in `_start_llvm`

    _start_llvm()
    return llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(
        cpu=target.cpu, features=target.feature_string, opt=level, reloc="pic", codemodel="small"
    )


def _objects_of(module: _Module, target: Target, stats: list[dict] | None) -> dict[str, bytes]:
    """An object file for each kernel of ``module``."""
    times = [time.perf_counter()]
    with _machine(target, module.level) as machine:
        parsed = _parse(module.source, machine, module.names)
        times.append(time.perf_counter())
        dump("asm", lambda: machine.emit_assembly(_parse(module.source, machine, module.names)))
        image = _emit_object(machine, parsed)
    times.append(time.perf_counter())
    objects = split_object(image, module.names)
    for name, one in objects.items():
        unknown = set(external_symbols(one)) - _IMPORTS
        if unknown:
            raise RuntimeError(
                f"kernel {name}: generated code imports {', '.join(sorted(unknown))}, which nothing provides"
            )
    times.append(time.perf_counter())
    if stats is not None:
        steps = [module.emit_ms, *((b - a) * 1e3 for a, b in itertools.pairwise(times))]
        record = dict(zip(("emit_ms", "parse_ms", "codegen_ms", "split_ms"), (round(ms, 3) for ms in steps)))
        stats.append({"kernels": list(objects), "level": module.level, **record})
    return objects


def _parse(source: str, machine, names: Sequence[str]):
    """LLVM's module of ``source``, in a context of its own: modules that share none are independent of each other."""
    import llvmlite.binding as llvm  # as in `_start_llvm`

    try:
        module = llvm.parse_assembly(source, llvm.create_context())
    except RuntimeError as error:
        raise RuntimeError(f"LLVM rejects the text emitted for {', '.join(names)}: {error}") from error
    module.triple = machine.triple
    return module


def _emit_object(machine, module) -> bytes:
    """``machine.emit_object(module)`` without the lock that llvmlite holds around every call into LLVM."""
    from llvmlite.binding import ffi  # as in `_start_llvm`

    with ffi.OutputString() as error:
        buffer = _unlocked_emission()(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


@functools.cache
def _unlocked_emission():
    from llvmlite.binding import ffi  # as in `_start_llvm`

    locked = ffi.lib.LLVMPY_TargetMachineEmitToMemory
    unlocked = ctypes.CDLL(ffi.lib._name, handle=ffi.lib._handle).LLVMPY_TargetMachineEmitToMemory
    unlocked.argtypes, unlocked.restype = locked.argtypes, locked.restype
    return unlocked


def assembly(kernel: Kernel, target: Target | None = None) -> str:
    """The assembly of one kernel, for people."""
    target = target or host_target()
    machine = target_machine(target, codegen_level(kernel))
    return machine.emit_assembly(_parse(emit_kernel(kernel, target), machine, [kernel.name]))
