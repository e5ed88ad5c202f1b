"""Simplification of reductions and sorts, which work on rows."""

from __future__ import annotations

from velax._compiler import schedule
from velax._compiler.fuse import pattern_of
from velax._compiler.nest_reduce import reduction_identity
from velax._compiler.simplify import rebuild
from velax._compiler.simplify_index import rebuild_broadcast, rebuild_reshape, rebuild_transpose
from velax._ir import loops
from velax._ir.graph import Builder, GatherDims, Node

__all__ = ["simplify_argreduce", "simplify_reduce", "simplify_sort"]


def simplify_reduce(builder: Builder, node: Node, inputs):
    """Extents 1 are not reduced; reduce of reduce by one exact function is one; a large one goes in two stages."""
    x, fn, axes = inputs[0], node.attrs["fn"], node.attrs["axes"]
    if x.size == 0:
        return builder.full(node.shape, reduction_identity(fn, node.dtype), node.dtype)
    long = tuple(d for d in axes if x.shape[d] != 1)
    if not long:
        return rebuild_reshape(builder, x, node.shape)
    if x.op == "transpose":
        return _reduce_before_transpose(builder, fn, x, axes)
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


def _reduce_before_transpose(builder: Builder, fn: str, x: Node, axes) -> Node:
    """reduce(transpose(x)) -> transpose(reduce(x)): what is left is smaller, and lanes run along x's own last axis."""
    source, perm = x.inputs[0], x.attrs["perm"]
    inner = sorted(perm[d] for d in axes)
    kept = [d for d in range(source.ndim) if d not in inner]
    wanted = [p for d, p in enumerate(perm) if d not in axes]
    return rebuild_transpose(builder, _rule_reduce(builder, fn, source, inner), [kept.index(p) for p in wanted])


def simplify_argreduce(builder: Builder, node: Node, inputs):
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


def simplify_sort(builder: Builder, node: Node, inputs):
    """Along the last axis; several operands, or keys apart from values, by the sorting permutation, of which the
    elements that are wanted are made where there is one key.
    """
    dim, num_keys, first = node.attrs["dim"], node.attrs["num_keys"], node.attrs["first"]
    x = inputs[0]
    n = x.shape[dim]
    perm = (*(d for d in range(x.ndim) if d != dim), dim)
    back = tuple(perm.index(d) for d in range(x.ndim))
    rows = x.size // n if n else 0
    flat = [rebuild_reshape(builder, rebuild_transpose(builder, v, perm), (rows, n)) for v in inputs]
    moved = (*(x.shape[p] for p in perm[:-1]), first)
    if n < 2 or not rows or not first:
        results = [builder.slice(v, (0, 0), (rows, first)) for v in flat]
    elif len(inputs) == 1:
        results = [
            builder.slice(builder._share("sort_rows", (flat[0],), {}, (rows, n), x.dtype), (0, 0), (rows, first))
        ]
    else:
        known = first if num_keys == 1 else n
        order = builder._share("argsort_rows", tuple(flat[:num_keys]), {}, (rows, known), "i32")
        order = builder.slice(order, (0, 0), (rows, first))
        results = [
            _in_order(builder, order, v, inputs[k].op == "iota" and inputs[k].attrs["dim"] == dim)
            for k, v in enumerate(flat)
        ]
    results = tuple(rebuild_transpose(builder, rebuild_reshape(builder, v, moved), back) for v in results)
    return Node("results", results, {}, None, None, node.source)


def _in_order(builder: Builder, order: Node, rows: Node, positions: bool) -> Node:
    """The elements of ``rows`` that ``order`` names; ``positions``: whether they are their own positions."""
    if positions:
        return builder.convert(order, rows.dtype)
    shape = order.shape
    dims = GatherDims((), (1,), (1,), (0,), (0,))
    return builder.gather(rows, rebuild_reshape(builder, order, (*shape, 1)), dims, (1, 1), "promise", None, shape)
