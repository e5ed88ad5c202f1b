"""The compiler's recipe: array graph in, program and kernels out."""

from __future__ import annotations

from dataclasses import dataclass, field

import velax._compiler.control  # noqa: F401 - registers the passes for control flow
from velax._compiler.memory import CopyStep, plan_memory
from velax._compiler.nest_inline import inline_program
from velax._compiler.nest_steps import BlockLowering, Context, new_value
from velax._compiler.program_build import build_program
from velax._compiler.simplify import simplify
from velax._compiler.target import Target
from velax._ir import loops
from velax._ir.graph import Graph
from velax._ir.program import Program

__all__ = ["CompiledProgram", "Options", "compile_graph"]


@dataclass(frozen=True, slots=True)
class Options:
    """``donated``: inputs (by position) whose memory the program may reuse for outputs."""

    donated: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """``program`` launches ``kernels`` by name; ``graph`` is what was compiled, simplified."""

    program: Program
    kernels: dict[str, loops.Kernel]
    graph: Graph = field(repr=False, default=None)


def compile_graph(graph: Graph, target: Target, options: Options | None = None) -> CompiledProgram:
    """Compile ``graph`` for ``target``.

    Args:
        graph: what to compute.
        target: the machine (`velax._compiler.target`).
        options: see `Options`.

    Returns:
        The program and the loop IR of its kernels. `emit` and `objects` make machine code of these.
    """
    options = options or Options()
    graph = simplify(graph)
    context = Context(target)
    inputs = [new_value(node, kind="input", index=k) for k, node in enumerate(graph.inputs)]
    block = BlockLowering(context, graph, inputs)
    results = inline_program(block) or block.run()
    outputs = [new_value(node, kind="output", index=k) for k, node in enumerate(graph.outputs)]
    steps = [*block.steps, *(CopyStep(out, value) for out, value in zip(outputs, results))]
    layout = plan_memory(steps, options.donated)
    program = build_program(steps, layout, inputs, outputs, tuple(context.kernels), context.scratch_bytes, context.callbacks)
    return CompiledProgram(program, context.kernels, graph)
