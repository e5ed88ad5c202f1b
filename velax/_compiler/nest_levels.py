"""Nests of groups with reductions: one walk over the row for each level.

A level is the reductions whose operands are known, and the full roots that become known with them. Values
that several levels need are kept in a row buffer if computing them again costs more than a load.
"""

from __future__ import annotations

import math

from velax._compiler import schedule
from velax._compiler.fuse import INLINE, Group
from velax._compiler.nest_group import GroupBuilder, Level, is_full
from velax._compiler.nest_reduce import Columns, accumulate, accumulator, finish
from velax._compiler.nests import Memory
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART, Node

__all__ = ["LevelBuilder", "levels_of"]

_KEEP_COST = 6  #: arithmetic of a value above which a row buffer beats computing it again
_KEEP_BYTES = 1 << 20
_STACK_BYTES = 1 << 14


class LevelBuilder(GroupBuilder):
    """Builds the nest of any group."""

    def __init__(self, group: Group, *rest):
        super().__init__(group, *rest)
        self.scalar = any(
            n.op in ("reduce", "partial_reduce") and n.dtype in COMPLEX_PART and n.attrs["fn"] == "mul"
            for n in group.roots
        )

    def _levels(self) -> list[Level]:
        return levels_of(self.group)

    def _by_columns(self, lanes, reduced) -> bool:
        """Whether this is the first stage of a column reduction: large, so the order of memory
        matters more than registers."""
        if len(self.levels) > 1 or not self.alone:
            return False
        at = self.dims.index(lanes)
        return lanes.stride == 1 and lanes.extent > self.width and all(self.dims.index(d) < at for d in reduced)

    def _build_columns(self, lanes, outer, reduced, blocked, lo, hi) -> list[loops.Stmt] | None:
        """Reductions over outer dimensions, walked in the order of memory: one accumulator for each
        column, all in the first-level cache."""
        if not self._by_columns(lanes, reduced):
            return None
        breadth = min(lanes.extent, schedule.COLUMN_BLOCK)
        level = self.levels[0]
        space = self.space
        dims: list = ([None] if blocked else []) + outer + [None]
        counts = [-(-blocked.extent // blocked.block)] if blocked else []
        counts += [*(d.extent for d in outer), -(-lanes.extent // breadth)]

        def body(indexes):
            indexes = list(indexes)
            first = lb.mul(space.expr(indexes.pop()), breadth)
            last = lb.min_(lb.add(first, breadth), lanes.extent)
            block = indexes.pop(0) if blocked else None
            bound = dict(zip(outer, indexes))
            result: list[loops.Stmt] = []
            columns = [(root, Columns(root, breadth)) for root in level.reductions]
            j = self._var("j", lanes)
            fill: list[loops.Stmt] = []
            for _, column in columns:
                result += column.declare()
                fill += column.start(lb.sub(space.expr(j), first))
            result.append(self._loop(j, first, last, fill, breadth))
            here = dict(bound)
            around = []
            for dim in reduced:
                var = self._var("r", dim) if dim.extent > 1 else space.zero
                here[dim] = var
                start, stop = lb.c(0), lb.c(dim.extent)
                if dim is blocked:
                    start = lb.mul(space.expr(block), dim.block)
                    stop = lb.min_(lb.add(start, dim.block), dim.extent)
                around.append((var, start, stop))

            def step(j):
                linear = self._linear({**here, lanes: j})
                stores = self._stores(level.full, linear)
                statements = [s for s in stores if isinstance(s, loops.Let)]
                for root, column in columns:
                    statements += column.step(lb.sub(space.expr(j), first), self.ev.at(root.inputs[0], linear))
                return [*statements, *(s for s in stores if not isinstance(s, loops.Let))]

            inner = self._vector(lanes, first, last, step)
            for var, start, stop in reversed(around):
                if var.terms:
                    inner = [loops.For(var.terms[0][0].arg, start, stop, tuple(inner))]
            result += inner
            j = self._var("j", lanes)
            row = self._row({**bound, lanes: j}, block)
            lets: list[loops.Stmt] = []
            for root, column in columns:
                more, value = column.finish(lb.sub(space.expr(j), first))
                lets += more
                self.ev.memo[root, row] = value
            lets += self._stores([*level.reductions, *level.rows], row)
            result.append(self._loop(j, first, last, lets, breadth))
            return result

        result = self._outer(dims, counts, lo, hi, body)
        per_lane = math.prod(d.extent for d in reduced)
        if blocked:
            per_lane = per_lane * blocked.block // blocked.extent
        self._set_grain(breadth * per_lane * schedule.element_ns(self.full_cost, self.nbytes) + 10, 1)
        return result

    def _levels_over(self, bound: dict, block, reduced, blocked, in_lanes: bool) -> list[loops.Stmt]:
        """All levels of one row (or of one row a lane)."""
        if not reduced:
            return super()._levels_over(bound, block, reduced, blocked, in_lanes)
        row = self._row(bound, block)
        result: list[loops.Stmt] = []
        kept_values = self._values_to_keep()
        buffers: dict[Node, tuple[loops.Buffer, Memory]] = {}
        extents = [min(d.block, d.extent) if d is blocked else d.extent for d in reduced]
        inner_size = math.prod(extents)
        for n, level in enumerate(self.levels):
            if not level.reductions and not level.full:
                result += self._stores(level.rows, row)
                continue
            accumulators = []
            for root in level.reductions:
                allocs, acc = accumulator(root)
                result += allocs
                accumulators.append((root, acc))
            here = dict(bound)
            variables = []
            local, stride = self.space.zero, inner_size
            for dim, count in zip(reduced, extents):
                stride //= max(count, 1)
                if dim is blocked:
                    base = self.space.scale(block, dim.block)
                    var = self._var("r", dim)
                    start = self.space.expr(base)
                    stop = lb.min_(lb.add(start, dim.block), dim.extent)
                    within = self.space.add(var, self.space.scale(base, -1))
                    local = self.space.add(local, self.space.scale(within, stride))
                else:
                    var = self._var("r", dim) if dim.extent > 1 else self.space.zero
                    start, stop = lb.c(0), lb.c(dim.extent)
                    local = self.space.add(local, self.space.scale(var, stride))
                here[dim] = var
                variables.append((var, dim, start, stop))
            linear = self._linear(here)
            statements: list[loops.Stmt] = []
            for node, first, last in kept_values:
                if first < n <= last and node in buffers:
                    self.ev.memo[node, linear] = buffers[node][1].load(self.space, local)
            for node, first, _ in kept_values:
                if first == n and not in_lanes:
                    part = COMPLEX_PART.get(node.dtype)
                    count = inner_size * (2 if part else 1)
                    nbytes = count * loops.WIDTH[part or node.dtype] // 8
                    if nbytes > _KEEP_BYTES:
                        continue
                    where = "stack" if nbytes <= _STACK_BYTES else "scratch"
                    buffer = loops.Buffer("row", part or node.dtype, where, count)
                    buffers[node] = buffer, Memory(buffer, part is not None)
                    result.append(loops.Alloc(buffer))
                    statements += buffers[node][1].store(self.space, local, self.ev.at(node, linear))
            stores = self._stores(level.full, linear)
            reductions: list[loops.Stmt] = []
            for root, acc in accumulators:
                reductions += accumulate(root, acc, self.ev.at(root.inputs[0], linear), self.scalar)
            # an output may lie over an input: everything is read before the first store
            lets = [s for s in stores if isinstance(s, loops.Let)]
            statements += [*lets, *reductions, *(s for s in stores if not isinstance(s, loops.Let))]
            last_var = len(variables) - 1
            for k in range(last_var, -1, -1):
                var, dim, start, stop = variables[k]
                if not var.terms:
                    continue
                if k == last_var and not in_lanes:
                    statements = [self._loop(var, start, stop, statements, extents[k])]
                else:
                    kind = "unrolled" if dim is not blocked and dim.extent <= 4 and in_lanes else "serial"
                    statements = [loops.For(var.terms[0][0].arg, start, stop, tuple(statements), kind)]
            result += statements
            for root, acc in accumulators:
                value, lets = finish(root, acc)
                result += lets
                self.ev.memo[root, row] = value
            result += self._stores([*level.reductions, *level.rows], row)
        return result

    def _values_to_keep(self) -> list[tuple[Node, int, int]]:
        """Nodes at the domain's own position that more than one level needs and that are costly:
        (node, first level, last level)."""
        if len(self.levels) < 2:
            return []
        first_seen: dict[Node, int] = {}
        keep: dict[Node, list[int]] = {}
        for n, level in enumerate(self.levels):
            stack = [root.inputs[0] for root in level.reductions]
            stack += [root if root in self.group.full else root.inputs[1] for root in level.full]
            done = set()
            while stack:
                node = stack.pop()
                if node in done:
                    continue
                done.add(node)
                if node.op not in INLINE or (node in self.plan.roots and node not in self.group.full):
                    continue
                first = first_seen.setdefault(node, n)
                if first < n and self.plan.cost.get(node, 0) >= _KEEP_COST:
                    keep.setdefault(node, [first, n])[1] = n
                elif node.op in ("map", "convert", "bitcast", "reshape"):
                    stack.extend(node.inputs)
        return [(node, first, last) for node, (first, last) in keep.items()]


def levels_of(group: Group) -> list[Level]:
    """Distribute the roots over as few walks as their dependences allow."""
    known: dict[Node, int] = {}  # the first walk in which a root's value can be used
    levels: list[Level] = []

    def level(n: int) -> Level:
        while len(levels) <= n:
            levels.append(Level())
        return levels[n]

    for root in group.roots:
        n = 0
        for x in _members_below(root, group):
            n = max(n, known[x])
        if root.op in ("reduce", "partial_reduce"):
            level(n).reductions.append(root)
            known[root] = n + 1
        elif is_full(root, group):
            level(n).full.append(root)
            known[root] = n
        else:
            # a row root is stored after the walk that makes its last operand known
            level(max(n - 1, 0)).rows.append(root)
            known[root] = n
    return levels or [Level()]


def _members_below(root: Node, group: Group):
    """The roots of the group that ``root`` is computed from, through inlined nodes."""
    members = group.full | group.rows
    seen: set[Node] = set()
    stack = list(root.inputs)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in members:
            yield node
        elif node.op in INLINE:
            stack.extend(node.inputs)
