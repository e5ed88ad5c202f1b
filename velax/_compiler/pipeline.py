"""The compiler's recipe: array graph in, program and kernels out."""

from __future__ import annotations

from velax._compiler import schedule
from velax._compiler.memory import CopyStep, plan_memory
from velax._compiler.nest_steps import BlockLowering, Context, new_value
from velax._compiler.program_build import build_program
from velax._compiler.simplify import simplify
from velax._compiler.target import Target
from velax._ir import loops
from velax._ir.graph import Graph
from velax._ir.program import Program
from velax._lang.record import Record

__all__ = ["CompiledProgram", "Options", "compile_graph"]


class Options(Record):
    """``donated``: inputs (by position) whose memory the program may reuse for outputs."""

    donated: frozenset[int] = frozenset()


class CompiledProgram(Record):
    """``program`` launches ``kernels`` by name, whose canonical texts are ``texts``; ``graph`` is what was
    compiled, simplified.
    """

    program: Program
    kernels: dict[str, loops.Kernel]
    texts: dict[str, str]
    graph: Graph = None


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
    results = _as_one_kernel(block) or block.run()
    outputs = [new_value(node, kind="output", index=k) for k, node in enumerate(graph.outputs)]
    steps = [*block.steps, *(CopyStep(out, value) for out, value in zip(outputs, results))]
    layout = plan_memory(steps, options.donated)
    program = build_program(
        steps, layout, inputs, outputs, tuple(context.kernels), context.scratch_bytes, context.callbacks
    )
    texts = {name: text for text, name in context.texts.items()}
    return CompiledProgram(program, context.kernels, texts, graph)


def _as_one_kernel(block: BlockLowering) -> list | None:
    """The values of the outputs of a program of several small groups, or None for one that is better cut into
    kernels.
    """
    if not 2 <= len(block.plan.groups) <= schedule.INLINE_GROUPS or block.graph.effects:
        return None
    from velax._compiler.nest_inline import inline_program  # large, and a program of one group does not need it

    return inline_program(block)
