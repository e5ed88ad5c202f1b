"""Cumulative operations along one axis: serial along it, in lanes across the others."""

from __future__ import annotations

import math

from velax._compiler import nest_map, schedule
from velax._compiler.index import Space
from velax._compiler.nest_group import Nest
from velax._compiler.nest_reduce import reduction_identity
from velax._compiler.nests import Evaluator, bind
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART, Node

__all__ = ["build_cumulate"]

#: float sums add up blocks of this many elements, and the blocks: the error grows with the block, not with
#: the whole axis
_BLOCK = 1024


def build_cumulate(node: Node, place, result, target, lo=loops.LO, hi=loops.HI) -> Nest:
    """The nest of a ``cumulate`` node: rows (outer axes) in parallel, the inner axes in lanes, the axis
    itself one element after another.
    """
    x = node.inputs[0]
    axis, fn = node.attrs["axis"], node.attrs["fn"]
    n = x.shape[axis]
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    space = Space()
    ev = Evaluator(space, place)
    narrow = node.dtype in ("f16", "bf16", "f8e4m3fn", "f8e5m2") and fn in ("add", "mul", "logaddexp")
    acc_dtype = "f32" if narrow else COMPLEX_PART.get(node.dtype, node.dtype)
    parts = 2 if node.dtype in COMPLEX_PART else 1
    accs = [loops.Buffer("acc", acc_dtype, "register", 1) for _ in range(parts)]
    start = nest_map.constant(
        float("-inf") if fn == "logaddexp" else reduction_identity(fn, node.dtype if parts == 2 else acc_dtype),
        node.dtype if parts == 2 else acc_dtype,
    )
    starts = start if type(start) is tuple else (start,)
    init = [s for acc, v in zip(accs, starts) for s in (loops.Alloc(acc), loops.Store(acc, lb.c(0), v))]

    row = space.var("t", outer) if outer > 1 else space.zero
    lane = space.var("j", inner) if inner > 1 else space.zero
    step = space.var("k", n)
    along = space.shift(space.scale(step, -1), n - 1) if node.attrs["reverse"] else step
    at = space.linear((row, along, lane), (outer, n, inner))
    old = tuple(lb.load(acc) for acc in accs)
    value = ev.at(x, at)
    if narrow:
        value = lb.cast("f32", value)
    lets, new = bind(combine(fn, old if parts == 2 else old[0], value, node.dtype))
    news = new if type(new) is tuple else (new,)
    blocked = fn == "add" and node.dtype in (*loops.FLOATS, *COMPLEX_PART) and n > _BLOCK
    carries = [loops.Buffer("carry", acc_dtype, "register", 1) for _ in accs] if blocked else []
    sums = tuple(lb.add(lb.load(c), v) for c, v in zip(carries, news)) if blocked else news
    stored = tuple(lb.cast(COMPLEX_PART.get(node.dtype, node.dtype), v) for v in sums)
    body = [
        *lets,
        *(loops.Store(acc, lb.c(0), v) for acc, v in zip(accs, news)),
        *result().store(space, at, stored if parts == 2 else stored[0]),
    ]
    k = step.terms[0][0].arg
    if blocked:
        block = loops.Var("block")
        walk = loops.For(k, block, lb.min_(lb.add(block, lb.c(_BLOCK)), lb.c(n)), tuple(body))
        advance = [loops.Store(c, lb.c(0), lb.add(lb.load(c), lb.load(acc))) for c, acc in zip(carries, accs)]
        first = [s for c, v in zip(carries, starts) for s in (loops.Alloc(c), loops.Store(c, lb.c(0), v))]
        body = [*first, loops.For(block, lb.c(0), lb.c(n), (*init, walk, *advance), step=_BLOCK)]
    else:
        body = [*init, loops.For(k, lb.c(0), lb.c(n), tuple(body))]
    width = schedule.vector_width(target, [node.dtype, acc_dtype], 4)
    unit = n * 1.5
    if inner > 1:
        while width > 2 and width >= 2 * inner:
            width //= 2
        j = lane.terms[0][0].arg
        if outer == 1:
            nest = [loops.For(j, lo, lb.c(inner) if hi is None else hi, tuple(body), "vector", width)]
            total, unit = inner, n * 0.15
            return Nest(nest, total, schedule.grain_for(total, unit, width), total * unit)
        body = [loops.For(j, lb.c(0), lb.c(inner), tuple(body), "vector", width)]
        unit = n * inner * 0.15 + 5
    if outer > 1:
        body = [loops.For(row.terms[0][0].arg, lo, lb.c(outer) if hi is None else hi, tuple(body))]
    return Nest(body, outer, schedule.grain_for(outer, unit), outer * unit)


def combine(fn: str, a, b, dtype: str):
    """One step of the recurrence."""
    if fn != "logaddexp":
        return nest_map.lower(fn, [a, b], dtype)
    # max + log1p(exp(-|a - b|)); equal infinities have no difference
    gap = lb.sub(a, b)
    big = lb.max_(a, b)
    tail = nest_map.lower("log1p", [nest_map.lower("exp", [lb.neg(lb.abs_(gap))], a.dtype)], a.dtype)
    return lb.select(lb.ne(gap, gap), lb.add(a, b), lb.add(big, tail))
