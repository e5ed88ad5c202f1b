"""Partial writes: ``dynamic_update_slice``, ``scatter``, and long concatenations written piece by piece.

All of them write into a copy of the operand (or fresh memory). The copy is a step of its own, which
the memory planner removes when the operand is not needed afterwards: then the update happens in
place.
"""

from __future__ import annotations

import math

from velax._compiler import nest_map, schedule
from velax._compiler.fuse import Group, storage
from velax._compiler.index import Affine, Space
from velax._compiler.nest_group import Nest, build_group
from velax._compiler.nests import Evaluator, Memory, bind, gather_index
from velax._ir import loops, loops_build as lb
from velax._ir.graph import Node

__all__ = ["build_piece", "build_scatter", "build_update"]


class _Watched:
    """A place that notes at which indexes it is read."""

    __slots__ = ("memory", "reads")

    def __init__(self, memory):
        self.memory, self.reads = memory, set()

    def load(self, space: Space, index: Affine):
        self.reads.add(index)
        return self.memory.load(space, index)


def build_update(
    node: Node, plan, place, result, target, restart=None, alone=True, lo=loops.LO, hi=loops.HI
) -> tuple[Nest, bool]:
    """The nest that writes the update of a ``dynamic_update_slice`` over ``result()``, which holds the operand already.

    Returns:
        The nest, and whether it reads the operand at most where it then writes (so that it may run in place).
    """
    x, update, *starts = node.inputs
    base = storage(x)
    watched: list[_Watched] = []
    stores: list[Affine] = []

    def again():
        if restart is not None:
            restart()
        watched.clear()
        stores.clear()

    def watching(other: Node):
        found = place(other)
        if other is base and found is not None:
            watched.append(_Watched(found))
            return watched[-1]
        return found

    def point(ev: Evaluator, linear: Affine):
        space = ev.space
        axes = space.axes(linear, update.shape)
        index = []
        for a, s, n, size in zip(axes, starts, x.shape, update.shape):
            ev.at(s, space.zero)
            index.append(space.add(a, ev.scalar_index(s, 0, n - size, [])))
        at = space.linear(tuple(index), x.shape)
        stores.append(at)
        lets, value = bind(ev.at(update, linear))
        return [*lets, *result().store(space, at, value)]

    group = _domain(update)
    nest = build_group(
        group, plan, watching, target, lo, hi, alone, again, point,
        _cuts(update.shape, [n == m for n, m in zip(update.shape, x.shape)]),
    )  # fmt: skip
    reads = {index for w in watched for index in w.reads}
    return nest, update.size == 1 or reads <= set(stores[-1:])


def build_piece(
    node: Node, piece: Node, offset: int, plan, place, result, target, restart=None, alone=True, lo=loops.LO,
    hi=loops.HI,
) -> Nest:  # fmt: skip
    """The nest that writes one operand of a ``concatenate`` at ``offset`` along its dimension of ``result()``."""
    dim = node.attrs["dim"]

    def point(ev: Evaluator, linear: Affine):
        space = ev.space
        axes = list(space.axes(linear, piece.shape))
        axes[dim] = space.shift(axes[dim], offset)
        at = space.linear(tuple(axes), node.shape)
        lets, value = bind(ev.at(piece, linear))
        return [*lets, *result().store(space, at, value)]

    same = [n == m for n, m in zip(piece.shape, node.shape)]
    return build_group(_domain(piece), plan, place, target, lo, hi, alone, restart, point, _cuts(piece.shape, same))


def _domain(node: Node) -> Group:
    group = Group("nest", node.size)
    group.roots = []
    group.reads = {node: {"full"}}
    return group


def _cuts(shape, same) -> frozenset[int]:
    """Strides between axes that are taken whole and axes that are not."""
    cuts, stride, last = set(), 1, None
    for n, label in zip(reversed(shape), reversed([None if whole else d for d, whole in enumerate(same)])):
        if n == 1:
            continue
        if last is not None and last != (label,):
            cuts.add(stride)
        last = (label,)
        stride *= n
    return frozenset(cuts)


def build_scatter(node: Node, place, result, target, lo=loops.LO, hi=loops.HI) -> Nest:
    """The nest of a ``scatter`` into ``result()``, which holds the operand: positions one after
    another, lanes along the window."""
    x, indices, updates = node.inputs
    dims, fn, mode = node.attrs["dims"], node.attrs["fn"], node.attrs["mode"]
    space = Space()
    ev = Evaluator(space, place)
    window_dims = dims.offset_dims
    batch_dims = [d for d in range(updates.ndim) if d not in window_dims]
    skipped = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    window = iter([updates.shape[d] for d in window_dims])
    sizes = tuple(1 if d in skipped else next(window) for d in range(x.ndim))

    parallel = node.attrs["unique"] and bool(batch_dims)
    variables: dict[int, Affine] = {}
    total = math.prod(updates.shape[d] for d in batch_dims) if parallel else 1
    statements: list[loops.Stmt] = []
    t = loops.Var("t")
    stride = total
    for d in batch_dims:
        n = updates.shape[d]
        if parallel:
            stride //= max(n, 1)
            var = loops.Var("p")
            statements.append(loops.Let(var, lb.rem(lb.div(t, stride), n)))
            variables[d] = space.var("p", n, 0, var)
        else:
            variables[d] = space.var("p", n) if n != 1 else space.zero
    for d in window_dims:
        variables[d] = space.var("w", updates.shape[d]) if updates.shape[d] != 1 else space.zero
    batch = tuple(variables[d] for d in batch_dims)
    checked = mode != "clip"
    missing: list = []
    while True:
        found = gather_index(ev, dims, indices, batch, x.shape, sizes, missing, checked, guarded=True)
        if found is not None:
            break
        for child, at in missing:
            ev.at(child, at)
        missing.clear()
    starts, inside = found
    offsets = iter([variables[d] for d in window_dims])
    index = tuple(s if d in skipped else space.add(s, next(offsets)) for d, s in enumerate(starts))
    at = space.linear(index, x.shape)
    position = space.linear(tuple(variables[d] for d in range(updates.ndim)), updates.shape)
    memory: Memory = result()
    lets, value = bind(ev.at(updates, position))
    if fn != "set":
        old = memory.load(space, at)
        more, value = bind(nest_map.lower(fn, [old, value], x.dtype))
        lets += more
    body: list[loops.Stmt] = [*lets, *memory.store(space, at, value)]
    width = schedule.vector_width(target, [x.dtype], 4)
    for k, d in reversed(list(enumerate(window_dims))):
        if not variables[d].terms:
            continue
        var = variables[d].terms[0][0].arg
        n = updates.shape[d]
        if k == len(window_dims) - 1:
            lanes = width
            while lanes > 2 and lanes >= 2 * n:
                lanes //= 2
            body = [loops.For(var, lb.c(0), lb.c(n), tuple(body), "vector", lanes)]
        else:
            body = [loops.For(var, lb.c(0), lb.c(n), tuple(body))]
    if inside is not None:
        body = [loops.If(inside, tuple(body))]
    if parallel:
        body = [loops.For(t, lo, lb.c(total) if hi is None else hi, (*statements, *body))]
    else:
        for d in reversed(batch_dims):
            if variables[d].terms:
                body = [loops.For(variables[d].terms[0][0].arg, lb.c(0), lb.c(updates.shape[d]), tuple(body))]
    per = updates.size / max(total, 1) * 0.5 + 3
    return Nest(body, total, schedule.grain_for(total, per), total * per)
