"""Loop IR kernels -> object code, through LLVM.

Kernels are cached one by one, but LLVM has a price for each module and each run of its passes. So the kernels
of one optimisation level are compiled as one module, every function in a section of its own, and the object
is then cut into one small ELF file a kernel.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
from collections.abc import Sequence

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


@functools.cache
def target_machine(target: Target, level: int):
    """LLVM's code generator for ``target``; made once a level."""
    import llvmlite.binding as llvm  # 0.15 s to import: only what compiles pays for it

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(
        cpu=target.cpu, features=target.feature_string, opt=level, reloc="pic", codemodel="small"
    )


def compile_kernels(
    kernels: Sequence[Kernel], target: Target | None = None, stats: list[dict] | None = None
) -> dict[str, bytes]:
    """Compile ``kernels`` (of different names) to relocatable ELF objects.

    Args: kernels: verified kernels. target: the CPU; this machine's if None. stats: receives a record for
        each module: ``kernels`` (names), ``level``, ``emit_ms``, ``parse_ms``, ``codegen_ms``,
            ``split_ms``.

    Returns:
        An object file for each kernel name, with one symbol of that name and no imports but `memcpy` and its like.

    Raises:
        RuntimeError: if LLVM rejects the text (an error of emission) or an object imports something else.

    ``VELAX_DUMP=llvm,asm`` prints what goes in and out.
    """
    target = target or host_target()
    levels: dict[int, dict[str, Kernel]] = {}
    for kernel in kernels:
        levels.setdefault(codegen_level(kernel), {})[kernel.name] = kernel
    objects: dict[str, bytes] = {}
    for level, group in levels.items():
        objects.update(_compile_level(list(group.values()), target, level, stats))
    return objects


def _compile_level(kernels: list[Kernel], target: Target, level: int, stats: list[dict] | None) -> dict[str, bytes]:
    times = [time.perf_counter()]
    alone = len(kernels) == 1
    functions, declarations = [], {}
    for kernel in kernels:
        function, needed = emit_function(kernel, target, "" if alone else f".text.{kernel.name}")
        functions.append(function)
        declarations.update(dict.fromkeys(needed))
    source = "\n".join([*functions, *declarations, ATTRIBUTES, ""])
    dump = os.environ.get("VELAX_DUMP", "").split(",")
    if "loops" in dump:
        from velax._ir.loops_text import print_kernel

        for kernel in kernels:
            print(print_kernel(kernel), file=sys.stderr)
    if "llvm" in dump:
        print(source, file=sys.stderr)
    times.append(time.perf_counter())
    machine = target_machine(target, level)
    module = _parse(source, machine, kernels)
    times.append(time.perf_counter())
    if "asm" in dump:
        print(machine.emit_assembly(_parse(source, machine, kernels)), file=sys.stderr)
    image = machine.emit_object(module)
    times.append(time.perf_counter())
    if alone:
        objects = {kernels[0].name: image}
    else:
        objects = split_object(image, [kernel.name for kernel in kernels])
    for name, one in objects.items():
        unknown = set(external_symbols(one)) - _IMPORTS
        if unknown:
            raise RuntimeError(
                f"kernel {name}: generated code imports {', '.join(sorted(unknown))}, which nothing provides"
            )
    times.append(time.perf_counter())
    if stats is not None:
        steps = [round((b - a) * 1e3, 3) for a, b in itertools.pairwise(times)]
        record = dict(zip(("emit_ms", "parse_ms", "codegen_ms", "split_ms"), steps))
        stats.append({"kernels": list(objects), "level": level, **record})
    return objects


def _parse(source: str, machine, kernels: list[Kernel]):
    import llvmlite.binding as llvm

    try:
        module = llvm.parse_assembly(source)
    except RuntimeError as error:
        names = ", ".join(kernel.name for kernel in kernels)
        raise RuntimeError(f"LLVM rejects the text emitted for {names}: {error}") from error
    module.triple = machine.triple
    return module


def assembly(kernel: Kernel, target: Target | None = None) -> str:
    """The assembly of one kernel, for people."""
    target = target or host_target()
    machine = target_machine(target, codegen_level(kernel))
    return machine.emit_assembly(_parse(emit_kernel(kernel, target), machine, [kernel]))
