"""Simplification of the array graph: rebuilt bottom-up through a `Builder`, which folds and shares, with
algebraic rules on top.

Only rules that keep every bit are here, so that a traced function gives what its operations give one by one.
Runs first; also brings operations to the few forms that later passes know: ``argreduce`` becomes two
reductions, a large reduction a partial and a final one (`schedule.reduction_block`), ``scan`` a counted loop
(`control`).

Each rule is ``rule(builder, node, inputs) -> Node | None``; the first that answers wins.
"""

from __future__ import annotations

import math
from collections import Counter

from velax._compiler import schedule
from velax._compiler.fuse import pattern_of, topological_order
from velax._compiler.nest_reduce import reduction_identity
from velax._compiler.nests import value_range
from velax._ir import loops
from velax._ir import loops_build as lb
from velax._ir.graph import Builder, GatherDims, Graph, Node

__all__ = ["simplify"]


def simplify(graph: Graph) -> Graph:
    """The simplified graph, nested graphs included."""
    builder = Builder()
    new: dict[Node, Node] = {}
    for node in graph.inputs:
        new[node] = new_input(builder, node)
    order = topological_order((*graph.outputs, *graph.effects))
    builder.uses = Counter(x for nodes in (graph.outputs, *(node.inputs for node in order)) for x in nodes)
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


# -- index-moving --------------------------------------------------------------------------------


def _broadcast(builder: Builder, node: Node, inputs):
    """broadcast of a broadcast is one; of a reshape that adds axes of extent 1, of the reshape's operand."""
    x, dims = inputs[0], node.attrs["dims"]
    if x.size == node.size:
        return rebuild_reshape(builder, x, node.shape)
    if x.op == "broadcast":
        inner = x.attrs["dims"]
        if all(n == 1 or x.shape[d] == n for d, n in zip(inner, x.inputs[0].shape)):
            return rebuild_broadcast(builder, x.inputs[0], node.shape, tuple(dims[d] for d in inner))
    if 1 in x.shape and node.size:
        # drop extents 1: one form for all of them
        long = [k for k, n in enumerate(x.shape) if n != 1]
        small = rebuild_reshape(builder, x, tuple(x.shape[k] for k in long))
        return rebuild_broadcast(builder, small, node.shape, tuple(dims[k] for k in long))
    return None


def rebuild_broadcast(builder: Builder, x: Node, shape, dims) -> Node:
    if x.shape == tuple(shape):
        return x
    node = Node("broadcast", (x,), {"dims": tuple(dims)}, tuple(shape), x.dtype, builder.source)
    return rebuild(builder, node, (x,))


def rebuild_reshape(builder: Builder, x: Node, shape) -> Node:
    if x.shape == tuple(shape):
        return x
    return rebuild(builder, Node("reshape", (x,), {}, tuple(shape), x.dtype, builder.source), (x,))


def _reshape(builder: Builder, node: Node, inputs):
    """reshapes merge; a reshape that only inserts or drops extents 1 of a broadcast is a broadcast."""
    x = inputs[0]
    while x.op == "reshape":
        x = x.inputs[0]
    if x.shape == node.shape:
        return x
    if x.op == "broadcast":
        long_from = [n for n in x.shape if n != 1]
        long_to = [n for n in node.shape if n != 1]
        if x.inputs[0].ndim == 0:
            return rebuild_broadcast(builder, x.inputs[0], node.shape, ())
        if long_from == long_to and all(n != 1 for n in x.inputs[0].shape):
            where = [d for d, n in enumerate(node.shape) if n != 1]
            position = {d: where[k] for k, d in enumerate(d for d, n in enumerate(x.shape) if n != 1)}
            return rebuild_broadcast(builder, x.inputs[0], node.shape, tuple(position[d] for d in x.attrs["dims"]))
    return builder.reshape(x, node.shape)


def _transpose(builder: Builder, node: Node, inputs):
    """transposes merge; of a contraction, one that stores it so; that moves only extents 1, a reshape; of a
    scalar's broadcast, a broadcast.
    """
    x, perm = inputs[0], node.attrs["perm"]
    if x.op == "dot" and builder.uses[node.inputs[0]] == 1:
        found = _transposed_dot(builder, x, perm)
        if found is not None:
            return found
    if x.op == "transpose":
        inner = x.attrs["perm"]
        x, perm = x.inputs[0], tuple(inner[p] for p in perm)
        if perm == tuple(range(len(perm))):
            return x
    long = [p for p in perm if x.shape[p] != 1]
    if long == sorted(long):
        return rebuild_reshape(builder, x, node.shape)
    if x.op == "broadcast":
        place = {p: i for i, p in enumerate(perm)}
        dims = [place[d] for d in x.attrs["dims"]]
        if dims == sorted(dims):
            return rebuild_broadcast(builder, x.inputs[0], node.shape, dims)
    return builder.transpose(x, perm)


def _transposed_dot(builder: Builder, dot: Node, perm) -> Node | None:
    """transpose(dot(x, y)) -> dot(x, y) or dot(y, x) with the result in that order, if all columns
    (of either operand) come last, and rows stay side by side.

    Operands are read in any order of dimensions, and batch entries are stored anywhere.
    """
    (lc, rc), (lb_, rb) = dot.attrs["contract"], dot.attrs["batch"]
    perm = [dot.attrs["order"][p] for p in perm] if "order" in dot.attrs else list(perm)
    operands, contract, batch = list(dot.inputs), [lc, rc], [lb_, rb]
    free = [[d for d in range(x.ndim) if d not in c and d not in b] for x, c, b in zip(operands, contract, batch)]
    n, m = len(lb_), len(lb_) + len(free[0])
    orders = [[p - n for p in perm if n <= p < m], [p - m for p in perm if p >= m]]
    kept = [p for p in perm if p < n]
    rows, columns = ([p + at for p in order] for at, order in zip((n, m), orders))
    shape = [*(dot.inputs[0].shape[d] for d in lb_), *(x.shape[d] for x, own in zip(operands, free) for d in own)]
    long, long_rows, long_columns = ([p for p in axes if shape[p] != 1] for axes in (perm, rows, columns))
    swap = bool(long_rows) and long[-1] in long_rows
    if swap:
        rows, columns, long_rows, long_columns = columns, rows, long_columns, long_rows
    first = long.index(long_rows[0]) if long_rows else 0
    if long_rows and not long_columns:
        return None
    if long[len(long) - len(long_columns) :] != long_columns or long[first : first + len(long_rows)] != long_rows:
        return None
    for side, order in enumerate(orders):
        batch[side] = tuple(batch[side][p] for p in kept)
        if order != sorted(order):
            axes = (*batch[side], *(free[side][p] for p in order), *contract[side])
            operands[side] = _rule_transpose(builder, operands[side], axes)
            batch[side] = tuple(range(n))
            contract[side] = tuple(range(len(axes) - len(contract[side]), len(axes)))
    if swap:
        operands, contract, batch = operands[::-1], contract[::-1], batch[::-1]
    made = [*kept, *rows, *columns]
    order = [made.index(p) for p in perm]
    return builder.dot(*operands, contract, batch, dot.dtype, None if order == sorted(order) else order)


def _slice(builder: Builder, node: Node, inputs):
    """A slice of a slice is one; of a broadcast, a broadcast of a slice."""
    x = inputs[0]
    if x.shape == node.shape:
        return x
    starts, limits, strides = (node.attrs[k] for k in ("starts", "limits", "strides"))
    if x.op == "slice":
        a, s = x.attrs["starts"], x.attrs["strides"]
        begin = tuple(p + b * q for p, b, q in zip(a, starts, s))
        step = tuple(p * q for p, q in zip(strides, s))
        end = tuple(b + (n - 1) * q + 1 if n else b for b, n, q in zip(begin, node.shape, step))
        return builder.slice(x.inputs[0], begin, end, step)
    if x.op == "broadcast":
        y, dims = x.inputs[0], x.attrs["dims"]
        keep = [n != 1 for n in y.shape]
        y = builder.slice(
            y,
            [starts[d] if k else 0 for d, k in zip(dims, keep)],
            [limits[d] if k else 1 for d, k in zip(dims, keep)],
            [strides[d] if k else 1 for d, k in zip(dims, keep)],
        )
        return rebuild_broadcast(builder, y, node.shape, dims)
    return None


def _dynamic_slice(builder: Builder, node: Node, inputs):
    """All of the operand is the operand; known starts make a plain slice."""
    x, *starts = inputs
    if x.shape == node.shape:
        return x
    if all(s.op == "literal" for s in starts):
        at = [min(max(int(s.attrs["value"]), 0), n - m) for s, n, m in zip(starts, x.shape, node.shape)]
        plain = builder.slice(x, at, [a + m for a, m in zip(at, node.shape)])
        return rebuild(builder, plain, plain.inputs) if plain.op == "slice" else plain
    return None


def _dynamic_update_slice(builder: Builder, node: Node, inputs):
    """An update of everything is the update; an empty one changes nothing."""
    x, update = inputs[:2]
    if update.shape == x.shape:
        return update
    return x if update.size == 0 else None


def _concatenate(builder: Builder, node: Node, inputs):
    """Empty operands are dropped."""
    dim = node.attrs["dim"]
    kept = tuple(x for x in inputs if x.shape[dim])
    if len(kept) == 1:
        return kept[0]
    return builder.concatenate(kept, dim) if kept and len(kept) < len(inputs) else None


# -- reductions ----------------------------------------------------------------------------------


def _reduce(builder: Builder, node: Node, inputs):
    """Extents 1 are not reduced; reduce of reduce by one exact function is one; a large one goes in two stages."""
    x, fn, axes = inputs[0], node.attrs["fn"], node.attrs["axes"]
    if x.size == 0:
        return builder.full(node.shape, reduction_identity(fn, node.dtype), node.dtype)
    long = tuple(d for d in axes if x.shape[d] != 1)
    if not long:
        return rebuild_reshape(builder, x, node.shape)
    pattern = pattern_of(x.shape, long)
    block = schedule.reduction_block(x, pattern)
    if block is not None:
        digit, length = block
        extent = pattern[digit][0]
        count = -(-extent // length)
        kept = tuple(n for n, label in pattern if label == "K")
        attrs = {"fn": fn, "axes": axes, "digit": digit, "block": length}
        # partial sums of narrow floats stay wide until the end
        wide = "f32" if node.dtype in ("f16", "bf16", "f8e4m3fn", "f8e5m2") else node.dtype
        partial = builder._share("partial_reduce", (x,), attrs, (count, *kept), wide)
        whole = rebuild_reshape(builder, builder.reduce(fn, partial, (0,)), node.shape)
        return builder.convert(whole, node.dtype)
    return None


def _argreduce(builder: Builder, node: Node, inputs):
    """The least position whose element is the extremum (or NaN): two reductions, both in vectors."""
    x, axis, dtype = inputs[0], node.attrs["axis"], node.dtype
    length = x.shape[axis]
    extremum = "min" if node.attrs["fn"] == "argmin" else "max"
    best = _rule_reduce(builder, extremum, x, (axis,))
    kept = tuple(d for d in range(x.ndim) if d != axis)
    wide = rebuild_broadcast(builder, best, x.shape, kept)
    hit = builder.map("eq", x, wide)
    if x.dtype in loops.FLOATS:
        hit = builder.map("or", hit, builder.map("ne", x, x))
    position = "i32" if length < 1 << 31 else "i64"
    if loops.WIDTH.get(dtype, 64) < 32 and length <= (1 << loops.WIDTH[dtype] - 1):
        position = dtype
    where = builder.iota(x.shape, position, axis)
    found = builder.map("select", hit, where, builder.full(x.shape, max(length - 1, 0), position))
    result = _rule_reduce(builder, "min", found, (axis,))
    return builder.convert(result, dtype)


def _rule_reduce(builder: Builder, fn: str, x: Node, axes) -> Node:
    shape = tuple(n for d, n in enumerate(x.shape) if d not in axes)
    node = Node("reduce", (x,), {"fn": fn, "axes": tuple(axes)}, shape, x.dtype, builder.source)
    return rebuild(builder, node, (x,))


def _sort(builder: Builder, node: Node, inputs):
    """Along the last axis; several operands, or keys apart from values, by the sorting permutation."""
    dim, num_keys = node.attrs["dim"], node.attrs["num_keys"]
    x = inputs[0]
    n = x.shape[dim]
    perm = (*(d for d in range(x.ndim) if d != dim), dim)
    back = tuple(perm.index(d) for d in range(x.ndim))
    rows = x.size // n if n else 0
    flat = [rebuild_reshape(builder, _rule_transpose(builder, v, perm), (rows, n)) for v in inputs]
    moved = tuple(x.shape[p] for p in perm)
    if n < 2 or not rows:
        results = flat
    elif len(inputs) == 1:
        results = [builder._share("sort_rows", (flat[0],), {}, (rows, n), x.dtype)]
    else:
        order = builder._share("argsort_rows", tuple(flat[:num_keys]), {}, (rows, n), "i32")
        dims = GatherDims((), (1,), (1,), (0,), (0,))
        at = rebuild_reshape(builder, order, (rows, n, 1))
        results = [builder.gather(v, at, dims, (1, 1), "promise", None, (rows, n)) for v in flat]
    results = tuple(_rule_transpose(builder, rebuild_reshape(builder, v, moved), back) for v in results)
    return Node("results", results, {}, None, None, node.source)


def _rule_transpose(builder: Builder, x: Node, perm) -> Node:
    if tuple(perm) == tuple(range(x.ndim)):
        return x
    shape = tuple(x.shape[p] for p in perm)
    return rebuild(builder, Node("transpose", (x,), {"perm": tuple(perm)}, shape, x.dtype, builder.source), (x,))


def _get(builder: Builder, node: Node, inputs):
    """A result of an operation that was rewritten into several nodes."""
    return inputs[0].inputs[node.attrs["k"]] if inputs[0].op == "results" else None


def _control_flow(builder: Builder, node: Node, inputs):
    """The rules of control flow, and its lowerings, are in `control`, which puts them in the place of this one."""
    from velax._compiler import control  # noqa: F401 - imported when a program has some

    return RULES[node.op][0](builder, node, inputs)


#: operation -> rules, tried in order
RULES = {
    "scan": (_control_flow,),
    "while": (_control_flow,),
    "cond": (_control_flow,),
    "get": (_get,),
    "sort": (_sort,),
    "map": (_select, _identity_operand, _double_negation, _known_comparison, _sum_of_pads, _fold_scalars),
    "convert": (_convert,),
    "broadcast": (_broadcast,),
    "reshape": (_reshape,),
    "transpose": (_transpose,),
    "slice": (_slice,),
    "dynamic_slice": (_dynamic_slice,),
    "dynamic_update_slice": (_dynamic_update_slice,),
    "concatenate": (_concatenate,),
    "reduce": (_reduce,),
    "argreduce": (_argreduce,),
}
