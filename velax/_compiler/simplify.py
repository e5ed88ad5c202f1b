"""Simplification of the array graph: rebuilt bottom-up through a `Builder`, which folds and shares, with
algebraic rules on top.

Only rules that keep every bit are here, so that a traced function gives what its operations give one by one;
but for sums over a transposed operand, which are added in the operand's own order.
Runs first; also brings operations to the few forms that later passes know: ``argreduce`` becomes two
reductions, a large reduction a partial and a final one (`schedule.reduction_block`), ``scan`` a counted loop
(`control`).

Each rule is ``rule(builder, node, inputs) -> Node | None``; the first that answers wins.
"""

from __future__ import annotations

import importlib
import math

from velax._compiler.fuse import topological_order
from velax._compiler.nests import value_range
from velax._ir import loops, loops_build as lb
from velax._ir.graph import Builder, Graph, Node

__all__ = ["simplify"]


def simplify(graph: Graph) -> Graph:
    """The simplified graph, nested graphs included."""
    builder = Builder()
    new: dict[Node, Node] = {}
    for node in graph.inputs:
        new[node] = new_input(builder, node)
    order = topological_order((*graph.outputs, *graph.effects))
    builder.uses = uses = dict.fromkeys((*graph.inputs, *order), 0)
    for nodes in (graph.outputs, *(node.inputs for node in order)):
        for x in nodes:
            uses[x] += 1
    for node in order:
        if node not in new:
            inputs = tuple(new[x] for x in node.inputs)
            builder.source = node.source
            new[node] = rebuild(builder, node, inputs)
    inputs, outputs = (tuple(new[node] for node in nodes) for nodes in (graph.inputs, graph.outputs))
    return Graph(inputs, outputs, kept_effects(new, graph))


def kept_effects(new: dict[Node, Node], graph: Graph) -> tuple[Node, ...]:
    """What became of the graph's effects; a loop that runs no iteration has none."""
    return tuple(new[node] for node in graph.effects if new[node].op != "results")


def new_input(builder: Builder, node: Node) -> Node:
    """An input of a new graph like ``node`` of an old one."""
    found = builder.input(node.shape, node.dtype)
    if "range" in node.attrs:
        found.attrs["range"] = node.attrs["range"]
    return found


def rebuild(builder: Builder, node: Node, inputs: tuple[Node, ...]) -> Node:
    """``node`` with simplified ``inputs``, made simpler where a rule applies."""
    for rule in RULES.get(node.op, ()):
        found = rule(builder, node, inputs)
        if found is not None:
            return found
    return share(builder, node, inputs)


def share(builder: Builder, node: Node, inputs) -> Node:
    """``node`` over ``inputs``, one object for equal ones (effects and sub-graphs excepted)."""
    if node.op in ("while", "cond", "scan", "loop", "callback", "barrier"):
        return Node(node.op, inputs, node.attrs, node.shape, node.dtype, node.source)
    if node.op == "literal":
        return builder.literal(node.attrs["value"], node.dtype)
    key = tuple(repr(v) if k == "fill" else v for k, v in node.attrs.items())
    return builder._share(node.op, inputs, node.attrs, node.shape, node.dtype, key=key)


# -- helpers -------------------------------------------------------------------------------------


def scalar_of(x: Node):
    """The Python value that every element of ``x`` has, None if unknown."""
    while x.op in ("broadcast", "reshape", "transpose", "slice", "rev"):
        x = x.inputs[0]
    return x.attrs["value"] if x.op == "literal" else None


def _is(x: Node, value) -> bool:
    found = scalar_of(x)
    # tells -0.0 from 0.0
    return found is not None and found == value and math.copysign(1, _real(found)) == math.copysign(1, value)


def _real(value) -> float:
    return value.real if isinstance(value, complex) else float(value)


def _is_int(dtype: str) -> bool:
    return dtype in loops.SIGNED or dtype in loops.UNSIGNED


# -- elementwise ---------------------------------------------------------------------------------


def _identity_operand(builder: Builder, node: Node, inputs):
    """x * 1, x + 0 (integers), x - 0, x / 1, x + -0.0, x & all ones, ... -> x."""
    fn = node.attrs["fn"]
    if len(inputs) != 2 or node.dtype != inputs[0].dtype:
        return None
    x, y = inputs
    whole = _is_int(node.dtype)
    if fn == "mul":
        if _is(y, 1):
            return x if node.dtype not in ("c64", "c128") else None
        if _is(x, 1):
            return y if node.dtype not in ("c64", "c128") else None
        if whole and (_is(x, 0) or _is(y, 0)):
            return builder.full(node.shape, 0, node.dtype)
    elif fn == "add":
        zero = 0 if whole else -0.0
        if node.dtype in ("c64", "c128", "bool"):
            return None
        if _is(y, zero):
            return x
        if _is(x, zero):
            return y
    elif (fn == "sub" and _is(y, 0) and node.dtype not in ("c64", "c128")) or (
        fn == "div" and _is(y, 1) and node.dtype not in ("c64", "c128")
    ):
        return x
    elif fn in ("and", "or", "xor") and (whole or node.dtype == "bool"):
        ones = True if node.dtype == "bool" else lb.wrap(-1, node.dtype)
        for a, b in ((x, y), (y, x)):
            value = scalar_of(b)
            if value is None:
                continue
            if fn == "and":
                if value == ones:
                    return a
                if value == 0:
                    return builder.full(node.shape, value, node.dtype)
            elif value == 0:
                return a
        if fn != "xor" and x is y:
            return x
    elif (fn in ("min", "max") and x is y) or (fn in ("shl", "shrl", "shra") and _is(y, 0)):
        return x
    return None


def _double_negation(builder: Builder, node: Node, inputs):
    """-(-x), not not x -> x."""
    fn, x = node.attrs["fn"], inputs[0]
    if fn in ("neg", "not") and x.op == "map" and x.attrs["fn"] == fn:
        return x.inputs[0]
    return None


def _select(builder: Builder, node: Node, inputs):
    """select(True, x, y) -> x; select(p, x, x) -> x; select(not p, x, y) -> select(p, y, x)."""
    if node.attrs["fn"] != "select":
        return None
    p, x, y = inputs
    value = scalar_of(p)
    if value is not None:
        return x if value else y
    if x is y:
        return x
    if p.op == "map" and p.attrs["fn"] == "not":
        return rebuild(builder, node, (p.inputs[0], y, x))
    return None


def _known_comparison(builder: Builder, node: Node, inputs):
    """i < 0 where the range of i decides it."""
    fn = node.attrs["fn"]
    if fn not in ("lt", "le", "gt", "ge") or not _is_int(inputs[0].dtype):
        return None
    a = value_range(inputs[0])
    if a is None:
        return None
    b = value_range(inputs[1])
    if b is None:
        return None
    if fn in ("gt", "ge"):
        a, b = b, a
        fn = {"gt": "lt", "ge": "le"}[fn]
    if fn == "lt":
        answer = True if a[1] < b[0] else False if a[0] >= b[1] else None
    else:
        answer = True if a[1] <= b[0] else False if a[0] > b[1] else None
    return None if answer is None else builder.full(node.shape, answer, "bool")


_FOLDED_MAPS = frozenset({
    "add", "sub", "mul", "div", "rem", "min", "max", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "shl",
    "shrl", "shra",
})  # fmt: skip


def _sum_of_pads(builder: Builder, node: Node, inputs):
    """pad(x, 0) + pad(y, 0) with x and y side by side -> pad(concatenate(x + 0, y + 0), 0): the derivative of
    taking an array apart.
    """
    x, y = inputs[0], inputs[-1]
    if node.attrs["fn"] != "add" or x.op != "pad" or y.op != "pad" or not (_is(x.inputs[1], 0) and _is(y.inputs[1], 0)):
        return None
    if any(x.attrs["interior"]) or any(y.attrs["interior"]):
        return None
    if any(n < 0 for p in (x, y) for n in (*p.attrs["lo"], *p.attrs["hi"])):
        return None
    spans = [[(a, a + n) for a, n in zip(p.attrs["lo"], p.inputs[0].shape)] for p in (x, y)]
    differ = [d for d, (p, q) in enumerate(zip(*spans)) if p != q]
    if len(differ) != 1:
        return None
    (axis,) = differ
    first, second = (x, y) if spans[0][axis][0] < spans[1][axis][0] else (y, x)
    if first.attrs["lo"][axis] + first.inputs[0].shape[axis] != second.attrs["lo"][axis]:
        return None
    parts = []
    for p in (first, second):
        part = p.inputs[0]
        # -0 + 0 is 0; what was added to zeros before has no -0
        pieces = part.inputs if part.op == "concatenate" and part.attrs["dim"] == axis else (part,)
        for piece in pieces:
            zero = builder.full(piece.shape, 0, piece.dtype)
            done = piece.op == "map" and piece.attrs["fn"] == "add" and piece.inputs[1] is zero
            parts.append(piece if done or _is_int(piece.dtype) else builder.map("add", piece, zero))
    whole = builder.concatenate(parts, axis)
    lo = first.attrs["lo"]
    hi = [b - a - n for a, n, b in zip(lo, whole.shape, node.shape)]
    return builder.pad(whole, first.inputs[1], lo, hi, (0,) * whole.ndim)


def _fold_scalars(builder: Builder, node: Node, inputs):
    """A function of constants is a constant (integers and bools); of repeated values, the repeated function
    of the values.
    """
    fn = node.attrs["fn"]
    if node.shape == ():
        if len(inputs) == 2 and fn in _FOLDED_MAPS and all(x.op == "literal" for x in inputs):
            dtype = inputs[0].dtype
            if _is_int(dtype):
                value = lb.fold_binary(fn, int(inputs[0].attrs["value"]), int(inputs[1].attrs["value"]), dtype)
                return builder.literal(bool(value) if node.dtype == "bool" else value, node.dtype)
        return None
    first = inputs[0]
    if first.op != "broadcast" or any(x.op != "broadcast" for x in inputs):
        return None
    shape, dims = first.inputs[0].shape, first.attrs["dims"]
    if any(x.inputs[0].shape != shape or x.attrs["dims"] != dims for x in inputs):
        return None
    small = Node("map", tuple(x.inputs[0] for x in inputs), node.attrs, shape, node.dtype, node.source)
    return builder.broadcast(rebuild(builder, small, small.inputs), node.shape, dims)


def _convert(builder: Builder, node: Node, inputs):
    """Constants are converted; a widening followed by a conversion is one conversion."""
    x = inputs[0]
    if x.dtype == node.dtype:
        return x
    if x.op == "broadcast":
        small = Node("convert", (x.inputs[0],), {}, x.inputs[0].shape, node.dtype, node.source)
        return builder.broadcast(rebuild(builder, small, small.inputs), node.shape, x.attrs["dims"])
    if x.op == "literal" and not isinstance(x.attrs["value"], complex):
        value = x.attrs["value"]
        if _is_int(node.dtype) or node.dtype == "bool":
            return builder.literal(lb.fold_cast(node.dtype, value), node.dtype)
        if node.dtype in ("f32", "f64") and isinstance(value, (bool, int)) and abs(value) < 1 << 24:
            return builder.literal(float(value), node.dtype)
    if x.op == "convert":
        source = x.inputs[0].dtype
        if _exact(source, x.dtype) and node.dtype not in ("c64", "c128"):
            return builder.convert(x.inputs[0], node.dtype)
    return None


_EXACT = {
    "bf16": ("f32", "f64"),
    "f16": ("f32", "f64"),
    "f32": ("f64",),
    "f8e4m3fn": ("f32", "f64"),
    "f8e5m2": ("f32", "f64"),
}


def _exact(source: str, target: str) -> bool:
    if source in _EXACT:
        return target in _EXACT[source]
    if _is_int(source) and _is_int(target):
        signed = source in loops.SIGNED
        return loops.WIDTH[source] < loops.WIDTH[target] and (not signed or target in loops.SIGNED)
    return source == "bool" and (_is_int(target) or target in ("f32", "f64"))


def _get(builder: Builder, node: Node, inputs):
    """A result of an operation that was rewritten into several nodes."""
    return inputs[0].inputs[node.attrs["k"]] if inputs[0].op == "results" else None


def _imported(module: str, op: str):
    """The rule ``simplify_<op>`` of a module that is imported when there is such an operation: programs
    need few."""

    def rule(builder: Builder, node: Node, inputs):
        found = getattr(importlib.import_module(f"velax._compiler.{module}"), f"simplify_{op}")
        RULES[op] = (found,)
        return found(builder, node, inputs)

    return (rule,)


_MODULES = {
    "control": ("scan", "while", "cond"),
    "simplify_index": (
        "broadcast", "reshape", "transpose", "slice", "dynamic_slice", "dynamic_update_slice", "concatenate",
    ),
    "simplify_rows": ("reduce", "argreduce", "sort"),
}  # fmt: skip

#: operation -> rules, tried in order
RULES = {
    "get": (_get,),
    "map": (_select, _identity_operand, _double_negation, _known_comparison, _sum_of_pads, _fold_scalars),
    "convert": (_convert,),
    **{op: _imported(module, op) for module, ops in _MODULES.items() for op in ops},
}
