"""Simplification of operations that move elements: broadcasts, reshapes, transposes, slices, concatenations."""

from __future__ import annotations

from velax._compiler.simplify import rebuild
from velax._ir.graph import Builder, Node

__all__ = [
    "rebuild_broadcast", "rebuild_reshape", "rebuild_transpose", "simplify_broadcast", "simplify_concatenate",
    "simplify_dynamic_slice", "simplify_dynamic_update_slice", "simplify_reshape", "simplify_slice",
    "simplify_transpose",
]  # fmt: skip


def simplify_broadcast(builder: Builder, node: Node, inputs):
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


def simplify_reshape(builder: Builder, node: Node, inputs):
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


def simplify_transpose(builder: Builder, node: Node, inputs):
    """transposes merge; of a contraction, one that stores it so; that moves only extents 1, a reshape; of a
    scalar's broadcast, a broadcast.
    """
    x, perm = inputs[0], node.attrs["perm"]
    if x.op == "dot" and builder.uses.get(node.inputs[0]) == 1:
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
            operands[side] = rebuild_transpose(builder, operands[side], axes)
            batch[side] = tuple(range(n))
            contract[side] = tuple(range(len(axes) - len(contract[side]), len(axes)))
    if swap:
        operands, contract, batch = operands[::-1], contract[::-1], batch[::-1]
    made = [*kept, *rows, *columns]
    order = [made.index(p) for p in perm]
    return builder.dot(*operands, contract, batch, dot.dtype, None if order == sorted(order) else order)


def simplify_slice(builder: Builder, node: Node, inputs):
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


def simplify_dynamic_slice(builder: Builder, node: Node, inputs):
    """All of the operand is the operand; known starts make a plain slice."""
    x, *starts = inputs
    if x.shape == node.shape:
        return x
    if all(s.op == "literal" for s in starts):
        at = [min(max(int(s.attrs["value"]), 0), n - m) for s, n, m in zip(starts, x.shape, node.shape)]
        plain = builder.slice(x, at, [a + m for a, m in zip(at, node.shape)])
        return rebuild(builder, plain, plain.inputs) if plain.op == "slice" else plain
    return None


def simplify_dynamic_update_slice(builder: Builder, node: Node, inputs):
    """An update of everything is the update; an empty one changes nothing."""
    x, update = inputs[:2]
    if update.shape == x.shape:
        return update
    return x if update.size == 0 else None


def simplify_concatenate(builder: Builder, node: Node, inputs):
    """Empty operands are dropped."""
    dim = node.attrs["dim"]
    kept = tuple(x for x in inputs if x.shape[dim])
    if len(kept) == 1:
        return kept[0]
    return builder.concatenate(kept, dim) if kept and len(kept) < len(inputs) else None


def rebuild_transpose(builder: Builder, x: Node, perm) -> Node:
    if tuple(perm) == tuple(range(x.ndim)):
        return x
    shape = tuple(x.shape[p] for p in perm)
    return rebuild(builder, Node("transpose", (x,), {"perm": tuple(perm)}, shape, x.dtype, builder.source), (x,))
