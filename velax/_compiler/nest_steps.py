"""From fusion groups to steps: every group becomes kernels and the steps that run them.

`BlockLowering` holds what is known while one graph (the program, or a body of a loop) is lowered: where each
materialised node lies. The kinds of groups are dispatched by `LOWERINGS`; control flow is added by `control`.
The builders of rarer kinds are imported when a program has one: the first call of a small program should not
wait for them.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from velax._compiler import fuse, schedule
from velax._compiler.index import Space
from velax._compiler.memory import CallbackStep, CallStep, CopyStep, LaunchStep, Step, Value
from velax._compiler.nest_group import Nest, build_group
from velax._compiler.nests import Evaluator, Memory, bind
from velax._compiler.scratch import scratch_bytes
from velax._ir import loops
from velax._ir.graph import COMPLEX_PART, Graph, Node
from velax._ir.loops_canonical import canonical_text
from velax._lang.record import replace

__all__ = ["BlockLowering", "Context", "new_value"]


class Context:
    """What all blocks of one program share: the target and the kernels made so far."""

    def __init__(self, target):
        self.target = target
        self.kernels: dict[str, loops.Kernel] = {}
        self.texts: dict[str, str] = {}  # canonical text -> name
        self.scratch_bytes = 0
        self.callbacks = 0

    def add_kernel(self, params, body, n_extents: int = 0) -> str:
        """Keep one kernel of each text, named by it."""
        kernel = loops.Kernel("k", tuple(params), n_extents, tuple(body))
        text = canonical_text(kernel)
        name = self.texts.get(text)
        if name is None:
            name = self.texts[text] = f"k{len(self.texts)}"
            self.kernels[name] = replace(kernel, name=name, body=_split_ranges(kernel.body, text))
            self.scratch_bytes = max(self.scratch_bytes, scratch_bytes(kernel))
        return name


def _split_ranges(body, text: str):
    """``body`` with its ranges split, if its canonical ``text`` clamps anything, as those do that profit by it."""
    if "\nmin " not in text and "\nmax " not in text:
        return body
    from velax._compiler.split_ranges import split_ranges  # most small programs do without

    return split_ranges(body)


def new_value(node_or_shape, dtype: str | None = None, kind: str = "temp", index: int = 0) -> Value:
    """A value for a node's elements (or ``size`` elements of ``dtype``)."""
    if isinstance(node_or_shape, Node):
        size, dtype = node_or_shape.size, node_or_shape.dtype
    else:
        size = node_or_shape
    return Value(size, dtype, size * schedule.element_bytes(dtype), kind, index)


def literal_value(node: Node) -> Value:
    """The value of a rank-0 literal, in the program's constant pool."""
    names = {
        "bf16": ml_dtypes.bfloat16,
        "f8e4m3fn": ml_dtypes.float8_e4m3fn,
        "f8e5m2": ml_dtypes.float8_e5m2,
        "bool": np.bool_,
    }
    dtype = names.get(node.dtype) or node.dtype.replace("c64", "c8").replace("c128", "c16")
    if isinstance(dtype, str) and dtype[0] in "iuf":
        dtype = f"{dtype[0]}{int(dtype[1:]) // 8}"
    data = np.array(node.attrs["value"]).astype(dtype).tobytes()
    return Value(1, node.dtype, len(data), "literal", data=data)


class Params:
    """The parameters of a kernel under construction, in order of first use."""

    def __init__(self, values: dict[Node, Value]):
        self.values = values
        self.buffers: dict[Value, loops.Buffer] = {}
        self.writes: set[Value] = set()

    def buffer(self, value: Value) -> loops.Buffer:
        found = self.buffers.get(value)
        if found is None:
            dtype = COMPLEX_PART.get(value.dtype, value.dtype)
            found = self.buffers[value] = loops.Buffer(f"b{len(self.buffers)}", dtype)
        return found

    def memory(self, value: Value) -> Memory:
        return Memory(self.buffer(value), value.dtype in COMPLEX_PART)

    def place(self, node: Node) -> Memory | None:
        """Where a materialised node lies; None for nodes to inline."""
        value = self.values.get(node)
        return None if value is None else self.memory(value)

    def written(self, value: Value) -> Memory:
        self.writes.add(value)
        return self.memory(value)


class BlockLowering:
    """Lowers one graph to steps.

    Args:
        inputs: where the graph's inputs lie.
    """

    def __init__(self, context: Context, graph: Graph, inputs: list[Value]):
        self.context = context
        self.graph = graph
        self.steps: list[Step] = []
        self.values: dict[Node, Value] = dict(zip(graph.inputs, inputs, strict=True))
        self.plan = fuse.fuse(graph)
        self.needed: set[Node] = {fuse.storage(node) for node in graph.outputs}
        for group in self.plan.groups:
            self.needed.update(group.reads)

    def run(self) -> list[Value]:
        """Lower every group; the values of the graph's outputs."""
        for group in self.plan.groups:
            lowering = LOWERINGS.get(group.kind)
            if lowering is None:
                raise NotImplementedError(f"no lowering for {group.roots[0]!r}")
            lowering(self, group)
        return [self.value(node) for node in self.graph.outputs]

    def value(self, node: Node) -> Value:
        """Where a materialised node (or a reshape of one) lies."""
        return self.values[fuse.storage(node)]

    def result(self, node: Node) -> Value:
        """A new value for a root."""
        value = self.values[node] = new_value(node)
        return value

    def launch(self, params: Params, nest: Nest, aligned=frozenset()) -> None:
        if nest.total == 0:
            return
        name = self.context.add_kernel(params.buffers.values(), nest.body, len(nest.extents))
        step = LaunchStep(
            name,
            tuple(params.buffers),
            frozenset(params.writes),
            nest.total,
            nest.grain,
            nest.extents,
            frozenset(aligned),
            nest.work,
        )
        self.steps.append(step)


def _lower_nest(block: BlockLowering, group: fuse.Group) -> None:
    if group.roots[0].op == "literal":
        node = group.roots[0]
        block.values[node] = literal_value(node)
        return
    stored = _results(block, group)
    if not stored:
        return
    if group.size == 0 and (not group.rows or group.row_size == 0):
        return
    params: list[Params] = []

    def fresh():
        params.append(Params(block.values))
        return params[-1].place

    members = set(group.roots)

    def place(node):
        if node in members:
            value = stored.get(node)
            return None if value is None else params[-1].written(value)
        return params[-1].place(node)

    fresh()
    nest = build_group(group, block.plan, place, block.context.target, restart=fresh)
    aligned = _aligned(block, group, {root: stored[root] for root in group.full & set(stored)})
    block.launch(params[-1], nest, aligned if nest.last_level_stores else frozenset())


def _aligned(block: BlockLowering, group: fuse.Group, stored: dict[Node, Value]) -> frozenset[tuple[Value, Value]]:
    """(written, read) pairs: the group reads the second at the positions alone where it then writes the first."""
    # Two nodes may lie in one value: it is aligned if all reads of it are.
    reads: dict[Value, set] = {}
    for leaf, states in group.reads.items():
        if leaf in block.values:
            reads.setdefault(block.values[leaf], set()).update(states)
    same = [value for value, states in reads.items() if states == {fuse.FULL}]
    return frozenset(
        (written, value)
        for root, written in stored.items()
        if root not in group.stacks
        for value in same
        if schedule.element_bytes(value.dtype) == schedule.element_bytes(root.dtype)
    )


def _results(block: BlockLowering, group: fuse.Group) -> dict[Node, Value]:
    """The values of the roots that are needed outside of the group: new ones, or stacks to put a row into."""
    found = {}
    for root in group.roots:
        if root in block.needed:
            if root in group.stacks:
                found[root] = block.values[root] = copy(block, block.value(root.inputs[0]))
            else:
                found[root] = block.result(root)
    return found


def _lower_dot(block: BlockLowering, group: fuse.Group) -> None:
    from velax._compiler.contract import plan_contraction  # large, and many programs have no contraction
    from velax._compiler.nest_dot import dot_spec  # as above

    node = group.roots[0]
    stored = _results(block, group)
    if node.size == 0 or not stored:
        return
    spec, a, b = dot_spec(node)
    members = set(group.roots)
    plain = list(stored) == [node]
    plan = plan_contraction(spec, block.context.target, not plain)
    sums = new_value(plan.sums, plan.sums_dtype) if plan.sums else None

    def finish(params: Params):
        """C and the epilogue of the launch that makes the results."""
        places = {root: params.written(value) for root, value in stored.items()}
        if plain:
            return places[node].buffer, None
        return None, epilogue(group, lambda x: None if x in members else params.place(x), places)

    lhs = block.values[a]
    if plan.panels:
        params, panels = Params(block.values), new_value(plan.panels, plan.panels_dtype)
        block.launch(params, plan.pack(params.buffer(lhs), params.written(panels).buffer))
        lhs = panels
    params = Params(block.values)
    operands = [params.buffer(value) for value in (lhs, block.values[b])]
    partial = params.written(sums).buffer if sums else None
    result = (None, None) if plan.copies else finish(params)
    aligned = _aligned(block, group, stored)
    block.launch(params, plan.launch(*operands, partial, *result), frozenset() if plan.copies else aligned)
    if plan.copies:
        params = Params(block.values)
        partial = params.buffer(sums)
        block.launch(params, plan.finish(partial, *finish(params)), aligned)


def epilogue(group: fuse.Group, place, places):
    """What a contraction does with its results: ``epilogue(value, at)`` computes the elementwise roots of its
    group and stores them.
    """
    node = group.roots[0]
    space = Space()
    ev = Evaluator(space, place)

    def store(value, at):
        index = space.zero
        for x, extent, stride in at.digits:
            index = space.add(index, space.scale(space.opaque(x, 0, extent - 1), stride))
        if index.terms and index.expr is None:
            index.expr = at.linear
        ev.memo[node, index] = value
        statements, values = [], []
        for root in places:
            result, where = ev.stored(root, index)
            lets, found = bind(ev.at(result, index)) if len(places) > 1 else ([], ev.at(result, index))
            statements += lets
            values.append((where, found))
        for memory, (where, found) in zip(places.values(), values):
            statements += memory.store(space, where, found)
        return statements

    return store


def _lower_callback(block: BlockLowering, group: fuse.Group) -> None:
    node = group.roots[0]
    results = [new_value(_size(shape), dtype) for shape, dtype in node.attrs["results"]]
    bind_results(block, node, results)
    block.context.callbacks = max(block.context.callbacks, node.attrs["id"] + 1)
    block.steps.append(CallbackStep(node.attrs["id"], tuple(block.value(x) for x in node.inputs), tuple(results)))


def _size(shape) -> int:
    n = 1
    for extent in shape:
        n *= extent
    return n


def bind_results(block: BlockLowering, node: Node, results: list[Value]) -> None:
    """Say where the ``get`` nodes of a multi-result node lie."""
    for user in block.plan.users.get(node, ()):
        if user.op == "get":
            block.values[user] = results[user.attrs["k"]]


def copy(block: BlockLowering, source: Value, size: int | None = None) -> Value:
    """A new value with the contents of ``source``; shares its memory if the planner finds that nobody else needs it."""
    target = Value(source.size, source.dtype, source.nbytes)
    block.steps.append(CopyStep(target, source))
    return target


def _lower_update(block: BlockLowering, group: fuse.Group) -> None:
    from velax._compiler.nest_update import build_update  # most programs update nothing in place

    node = group.roots[0]
    value = copy(block, block.value(node.inputs[0]))
    block.values[node] = value
    if node.inputs[1].size == 0:
        return
    params, base = _Restartable(block), fuse.storage(node.inputs[0])
    written = lambda: params.current.written(value)
    build = lambda place: build_update(node, block.plan, place, written, block.context.target, params.restart)
    # reads what it replaces from the copy, which is one memory with the operand if nothing reads that afterwards
    nest, in_place = build(lambda x: written() if x is base else params.place(x))
    if not in_place:
        params.restart()
        nest, _ = build(params.place)
    block.launch(params.current, nest)


def _lower_scatter(block: BlockLowering, group: fuse.Group) -> None:
    from velax._compiler.nest_update import build_scatter  # as in `_lower_update`

    node = group.roots[0]
    value = copy(block, block.value(node.inputs[0]))
    block.values[node] = value
    if node.inputs[2].size == 0 or node.size == 0:
        return
    params = Params(block.values)
    nest = build_scatter(node, params.place, lambda: params.written(value), block.context.target)
    block.launch(params, nest)


def _lower_cumulate(block: BlockLowering, group: fuse.Group) -> None:
    from velax._compiler.nest_cumulate import build_cumulate  # rarely needed

    node = group.roots[0]
    value = block.result(node)
    if node.size == 0:
        return
    params = Params(block.values)
    block.launch(params, build_cumulate(node, params.place, lambda: params.written(value), block.context.target))


def _lower_concatenate(block: BlockLowering, group: fuse.Group) -> None:
    from velax._compiler.nest_update import build_piece  # concatenations are mostly fused into what reads them

    node = group.roots[0]
    value = block.result(node)
    offset = 0
    for piece in node.inputs:
        if piece.size:
            params = _Restartable(block)
            nest = build_piece(
                node,
                piece,
                offset,
                block.plan,
                params.place,
                lambda: params.current.written(value),  # noqa: B023
                block.context.target,
                params.restart,
            )
            block.launch(params.current, nest)
        offset += piece.shape[node.attrs["dim"]]


def _lower_sort_rows(block: BlockLowering, group: fuse.Group) -> None:
    node = group.roots[0]
    value = block.result(node)
    source = block.value(node.inputs[0])
    rows, n = node.shape
    work = node.size * 6.0
    block.steps.append(CallStep(f"velax_sort_{node.dtype}", (source, value), frozenset((value,)), (rows, n), work))


def _lower_argsort_rows(block: BlockLowering, group: fuse.Group) -> None:
    node = group.roots[0]
    value = block.result(node)
    rows, n = node.inputs[0].shape
    if node.shape[1] < n:
        (key,) = node.inputs
        params = (rows, n, node.shape[1])
        block.steps.append(
            CallStep(
                f"velax_argfirst_{key.dtype}", (block.value(key), value), frozenset((value,)), params, key.size * 2.0
            )
        )
        return
    for refine, key in enumerate(reversed(node.inputs)):
        values = (block.value(key), value)
        function = f"velax_argsort_{key.dtype}"
        block.steps.append(
            CallStep(function, values, frozenset((value,)), (rows, n, int(refine > 0)), node.size * 30.0)
        )


def _lower_empty(block: BlockLowering, group: fuse.Group) -> None:
    """Memory whose contents do not matter."""
    node = group.roots[0]
    block.values[node] = Value(node.size, node.dtype, node.size * schedule.element_bytes(node.dtype), "empty")


def _lower_barrier(block: BlockLowering, group: fuse.Group) -> None:
    node = group.roots[0]
    bind_results(block, node, [block.value(x) for x in node.inputs])


class _Restartable:
    """Parameters that are collected anew when a nest is built again."""

    def __init__(self, block: BlockLowering):
        self.values = block.values
        self.current = Params(self.values)

    def place(self, node: Node):
        return self.current.place(node)

    def restart(self) -> None:
        self.current = Params(self.values)


#: kind of group -> ``lowering(block, group)``; `control` adds control flow
LOWERINGS = {
    "nest": _lower_nest, "dot": _lower_dot, "callback": _lower_callback, "dynamic_update_slice": _lower_update,
    "scatter": _lower_scatter,
    "cumulate": _lower_cumulate, "concatenate": _lower_concatenate, "sort_rows": _lower_sort_rows,
    "argsort_rows": _lower_argsort_rows,
    "empty": _lower_empty,
    "barrier": _lower_barrier,
}  # fmt: skip

__all__ += ["Params", "bind_results", "copy", "epilogue"]
