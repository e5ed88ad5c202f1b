"""Control flow: ``while``, ``cond`` and ``scan`` as blocks of the program.

``scan`` becomes a counted ``loop`` over a body that indexes: a slice of xs is a ``dynamic_slice``
at the counter, which later passes inline into the kernels that use it, and a y is a
``dynamic_update_slice`` of the stacked result, which the memory planner does in place. So the body
needs no copies of slices, and nothing below this file knows of ``scan``.

A carry is one value for the whole loop: initialised by a copy, replaced at the end of the body by a
copy. The planner makes copies vanish or turns them into pointer swaps.
"""

from __future__ import annotations

import math

from velax._compiler.fuse import topological_order
from velax._compiler.memory import CondStep, CopyStep, LoopStep, Value, WhileStep
from velax._compiler.nest_steps import LOWERINGS, BlockLowering, bind_results, copy, new_value
from velax._compiler.simplify import kept_effects, rebuild, scalar_of, simplify
from velax._ir.graph import Builder, Graph, Node

__all__ = ["inline_graph", "simplify_cond", "simplify_scan", "simplify_while"]

#: operations of a scan that is written out because the program asks for it: more would take long to compile
_UNROLLED_NODES = 1000


# -- graph to graph --------------------------------------------------------------------------------


def inline_graph(builder: Builder, graph: Graph, inputs) -> tuple[list[Node], tuple[Node, ...]]:
    """The outputs and effects of ``graph`` applied to ``inputs``, as nodes of ``builder``."""
    new = dict(zip(graph.inputs, inputs, strict=True))
    for node in topological_order((*graph.effects, *graph.outputs)):
        if node not in new:
            builder.source = node.source
            new[node] = rebuild(builder, node, tuple(new[x] for x in node.inputs))
    return [new[node] for node in graph.outputs], kept_effects(new, graph)


def simplify_scan(builder: Builder, node: Node, inputs):
    """``scan`` -> ``loop``, without the contractions that need not be done step by step (`scan_motion`)."""
    from velax._compiler.scan_motion import move_contractions  # most programs have no loop

    body = simplify(node.attrs["body"])
    node = Node("scan", inputs, {**node.attrs, "body": body}, None, None, node.source)
    return move_contractions(builder, node, inputs, _to_loop) or _to_loop(builder, node, inputs)


def _to_loop(builder: Builder, node: Node, inputs):
    """``scan`` -> ``loop``: body (counter, consts and xs, carry and ys) -> (carry, ys)."""
    n_consts, n_carry, n_xs = node.attrs["counts"]
    body, length = node.attrs["body"], node.attrs["length"]
    consts, init, xs = inputs[:n_consts], inputs[n_consts : n_consts + n_carry], inputs[n_consts + n_carry :]
    ys = node.attrs["results"][n_carry:]
    if length == 0:
        empties = [builder.full(shape, 0, dtype) for shape, dtype in ys]
        return Node("results", (*init, *empties), {}, None, None, node.source)
    asked = length <= node.attrs["unroll"] and _n_nodes(body) * length <= _UNROLLED_NODES
    if (asked or length == 1) and not body.effects:
        return _written_out(builder, node, consts, init, xs)

    inner = Builder()
    counter = inner.input((), "i64")
    counter.attrs["range"] = (0, max(length - 1, 0))
    new_consts = [inner.input(x.shape, x.dtype) for x in consts]
    new_xs = [inner.input(x.shape, x.dtype) for x in xs]
    carry = [inner.input(x.shape, x.dtype) for x in init]
    stacks = [inner.input(shape, dtype) for shape, dtype in ys]
    zero = inner.literal(0, "i64")
    slices = []
    for x in new_xs:
        part = inner.dynamic_slice(x, (counter, *[zero] * (x.ndim - 1)), (1, *x.shape[1:]))
        slices.append(inner.reshape(part, x.shape[1:]))
    outs, effects = inline_graph(inner, body, [*new_consts, *carry, *slices])
    stacked = []
    for stack, y in zip(stacks, outs[n_carry:]):
        row = inner.reshape(y, (1, *y.shape))
        stacked.append(inner.dynamic_update_slice(stack, row, (counter, *[zero] * y.ndim)))
    loop_body = Graph(tuple(inner.inputs), (*outs[:n_carry], *stacked), effects)
    empties = [builder._share("empty", (), {}, shape, dtype, key=(id(node), k)) for k, (shape, dtype) in enumerate(ys)]
    attrs = {
        "body": loop_body, "length": length, "reverse": node.attrs["reverse"],
        "counts": (n_consts + n_xs, n_carry + len(ys)), "results": node.attrs["results"],
    }  # fmt: skip
    return Node("loop", (*consts, *xs, *init, *empties), attrs, None, None, node.source)


def _n_nodes(graph: Graph) -> int:
    """The nodes of ``graph`` and of the graphs in it."""
    total = 0
    for node in topological_order(graph.outputs):
        nested = [node.attrs[name] for name in ("body", "cond") if name in node.attrs]
        total += 1 + sum(map(_n_nodes, (*nested, *node.attrs.get("branches", ()))))
    return total


def _written_out(builder: Builder, node: Node, consts, init, xs) -> Node:
    """A scan whose steps follow one another in the program."""
    body, length = node.attrs["body"], node.attrs["length"]
    carry, rows = init, {}
    for t in range(length)[:: -1 if node.attrs["reverse"] else 1]:
        slices = [
            builder.reshape(builder.slice(x, (t, *[0] * (x.ndim - 1)), (t + 1, *x.shape[1:])), x.shape[1:]) for x in xs
        ]
        outs, _ = inline_graph(builder, body, [*consts, *carry, *slices])
        carry, rows[t] = outs[: len(init)], outs[len(init) :]
    stacked = []
    for k, (shape, _) in enumerate(node.attrs["results"][len(init) :]):
        pieces = [builder.reshape(rows[t][k], (1, *shape[1:])) for t in range(length)]
        stacked.append(builder.concatenate(pieces, 0) if length > 1 else pieces[0])
    return Node("results", (*carry, *stacked), {}, None, None, node.source)


def simplify_while(builder: Builder, node: Node, inputs):
    attrs = {**node.attrs, "cond": simplify(node.attrs["cond"]), "body": simplify(node.attrs["body"])}
    return Node("while", inputs, attrs, None, None, node.source)


def simplify_cond(builder: Builder, node: Node, inputs):
    """A known branch is inlined."""
    index = scalar_of(inputs[0])
    branches = node.attrs["branches"]
    if index is not None:
        branch = branches[min(max(int(index), 0), len(branches) - 1)]
        if not branch.effects:
            outs, _ = inline_graph(builder, branch, inputs[1:])
            return Node("results", tuple(outs), {}, None, None, node.source)
    attrs = {**node.attrs, "branches": tuple(simplify(branch) for branch in branches)}
    return Node("cond", inputs, attrs, None, None, node.source)


# -- graph to steps --------------------------------------------------------------------------------


def _start_carries(block, init) -> list[Value]:
    return [copy(block, block.value(x)) for x in init]


def _body(block, graph: Graph, inputs: list[Value], carries: list[Value]) -> list:
    """The steps of a loop's body: compute the new carries, then put them where the old ones are."""
    inner = BlockLowering(block.context, graph, inputs)
    results = inner.run()
    made = []
    seen: set[Value] = set(carries)
    for carry, new in zip(carries, results):
        if new is carry:
            continue
        if new in seen:
            # another carry's old value, or one new value for two carries: it must survive the exchange
            new = copy(inner, new)
        seen.add(new)
        made.append((carry, new))
    inner.steps.extend(CopyStep(carry, new, carry=True) for carry, new in made)
    return inner.steps


def lower_while(block, group) -> None:
    from velax._compiler.nest_inline import inline_loop  # large, and most programs have no loop

    node = group.roots[0]
    if inline_loop(block, node):
        return
    n_cond, n_body = node.attrs["counts"]
    operands = node.inputs
    cond_consts = [block.value(x) for x in operands[:n_cond]]
    body_consts = [block.value(x) for x in operands[n_cond : n_cond + n_body]]
    carries = _start_carries(block, operands[n_cond + n_body :])
    test = BlockLowering(block.context, node.attrs["cond"], [*cond_consts, *carries])
    (pred,) = test.run()
    body = _body(block, node.attrs["body"], [*body_consts, *carries], carries)
    block.steps.append(WhileStep(test.steps, pred, body))
    bind_results(block, node, carries)


def lower_loop(block, group) -> None:
    from velax._compiler.nest_inline import inline_loop  # large, and most programs have no loop

    node = group.roots[0]
    if node.attrs["length"] and inline_loop(block, node):
        return
    n_consts, _ = node.attrs["counts"]
    consts = [block.value(x) for x in node.inputs[:n_consts]]
    carries = _start_carries(block, node.inputs[n_consts:])
    bind_results(block, node, carries)
    if node.attrs["length"] == 0:
        return
    counter = new_value(1, "i64")
    body = _body(block, node.attrs["body"], [counter, *consts, *carries], carries)
    block.steps.append(LoopStep(node.attrs["length"], counter, body, node.attrs["reverse"]))


def lower_cond(block, group) -> None:
    node = group.roots[0]
    index, *operands = (block.value(x) for x in node.inputs)
    results = [new_value(math.prod(shape), dtype) for shape, dtype in node.attrs["results"]]
    branches = []
    for graph in node.attrs["branches"]:
        inner = BlockLowering(block.context, graph, operands)
        values = inner.run()
        inner.steps.extend(CopyStep(result, value) for result, value in zip(results, values))
        branches.append(inner.steps)
    block.steps.append(CondStep(index, branches, tuple(results)))
    bind_results(block, node, results)


LOWERINGS.update({"while": lower_while, "loop": lower_loop, "cond": lower_cond})
