"""Loop nests of fused groups: a domain, rows of it, and a sequence of steps over each row.

The domain is a list of dimensions in linear order, each kept (K) or reduced (R), as coarse as the
index arithmetic of the group allows: one flat dimension for elementwise groups. The nest is first
built on the domain that the group's pattern and broadcasts suggest; where an index still needs a
division of a loop variable, that variable becomes two dimensions and the nest is built again.

Two loop structures serve every group:

* *rows*: ``for row in lo..hi: for each level: for (reduced dims): vector innermost``. The lanes run
  along a reduced dimension; softmax.
* *lanes*: ``for outer in lo..hi: vector for kept: for each level: for (reduced dims)``. Every lane
  is a row; column sums, and elementwise groups, which have no reduced dimension.

A level is one walk over the row; a group without reductions has one, the others are the matter of
`velax._compiler.nest_levels`.
"""

from __future__ import annotations

import itertools
import math

from velax._compiler import schedule
from velax._compiler.fuse import FULL, INLINE, Group, extent_of
from velax._compiler.index import Affine, Space
from velax._compiler.nests import Evaluator, Misaligned
from velax._ir import loops, loops_build as lb
from velax._ir.graph import Node

__all__ = ["GroupBuilder", "Level", "Nest", "build_group", "is_full", "make_dims"]

_MAX_SEGMENTS = 6


class Nest:
    """What a builder of nests returns: statements over ``[lo, hi)`` and how the range may be cut."""

    __slots__ = ("body", "grain", "last_level_stores", "total", "work")
    extents = ()  #: sizes that are given at run time

    def __init__(self, body: list[loops.Stmt], total: int, grain: int, work: float, last_level_stores: bool = False):
        self.body, self.total, self.grain, self.work = body, total, grain, work
        #: whether each row is read completely before its full roots are stored
        self.last_level_stores = last_level_stores


class _Dim:
    """One dimension: ``extent``, ``label``, ``stride`` in the linear order; ``block``: length of
    the blocks of a two-stage reduction."""

    __slots__ = ("block", "extent", "label", "stride")

    def __init__(self, extent: int, label: str, stride: int, block: int | None = None):
        self.extent, self.label, self.stride, self.block = extent, label, stride, block


def make_dims(size: int, pattern, cuts) -> list[_Dim]:
    """The domain's dimensions, outermost first: the pattern's items, cut where ``cuts`` (strides) divide evenly."""
    items = pattern if pattern else ((size, "K"),) if size != 1 else ()
    dims: list[_Dim] = []
    stride = 1
    for item in reversed(items):
        extent, label = item[0], item[1]
        block = item[2] if len(item) == 3 else None
        start, stop = stride, stride * extent
        for cut in sorted(cuts):
            whole = cut % start == 0 and stop % cut == 0 and (block is None or block * stride % cut == 0)
            if start < cut < stop and whole:
                dims.append(_Dim(cut // start, label, start))
                start = cut
        if block is not None:
            block = block * stride // start
        dims.append(_Dim(stop // start, label, start, block))
        stride = stop
    dims.reverse()
    return dims


def build_group(
    group: Group, plan, place, target, lo: loops.Expr = loops.LO, hi: loops.Expr = loops.HI, alone: bool = True,
    restart=None, point=None, cuts=frozenset(),
) -> Nest:  # fmt: skip
    """The nest of ``group`` over ``[lo, hi)`` of its parallel range.

    Args:
        place: ``place(node)`` gives the `Memory` of nodes that live outside the group and of stored
            roots (see ``stored``).
        lo, hi: the range; ``hi`` None means up to the total, for a nest inside a larger kernel.
        alone: whether the nest is a kernel of its own, whose range is cut in chunks.
        restart: called before the nest is built again on a finer domain.
        point: for nests that are no plain groups: ``point(evaluator, linear index) -> statements``
            for each point of the domain.
        cuts: strides at which the domain is to be cut in any case.
    """
    kind = _builder_of(group)
    cuts = _first_cuts(group, plan.roots) | cuts
    for attempt in range(5):
        if attempt and restart is not None:
            restart()
        builder = kind(group, plan, place, target, cuts, alone, point)
        try:
            body = builder.build(lo, hi)
            wished = builder.new_cuts(builder.space.cuts)
        except Misaligned:
            body = None
            wished = builder.new_cuts(builder.space.possible_cuts)
        if not wished:
            break
        cuts = cuts | wished
    if body is None:
        builder.build(lo, hi)  # raises
    tile = builder.tile_wish() if body is not None and alone else None
    if tile is not None:
        if restart is not None:
            restart()
        builder = kind(group, plan, place, target, builder.cuts, alone, point, tile)
        body = builder.build(lo, hi)
    early = any(level.full for level in builder.levels[:-1])
    return Nest(body, builder.total, builder.grain, builder.work, not early)


def is_full(root: Node, group: Group) -> bool:
    return root in group.full or (root in group.stacks and extent_of(root) == group.size)


def _builder_of(group: Group) -> type[GroupBuilder]:
    """The class that builds the nest of ``group``."""
    if all(is_full(root, group) for root in group.roots) and all(item[1] == "K" for item in group.pattern or ()):
        return GroupBuilder
    from velax._compiler.nest_levels import LevelBuilder  # many small programs reduce nothing

    return LevelBuilder


def _first_cuts(group: Group, roots) -> set[int]:
    """Cuts that broadcasts and other index-moving operations at the domain's own position will need."""
    cuts: set[int] = set()
    seen: set[Node] = set()
    stack = []
    for root in group.roots:
        if root.op in ("reduce", "partial_reduce"):
            stack.append(root.inputs[0])
        elif root in group.full:
            stack.append(root)
        elif root in group.stacks and extent_of(root) == group.size:
            stack.append(root.inputs[1])
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        op = node.op
        if op not in INLINE or (node in roots and node not in group.full):
            continue
        if op in ("map", "convert", "bitcast", "reshape"):
            stack.extend(node.inputs)
            continue
        if op == "broadcast":
            x = node.inputs[0]
            if x.size == node.size:
                stack.append(x)
                continue
            covered = {d for d, n in zip(node.attrs["dims"], x.shape) if n != 1}
            labels = ["c" if d in covered else "r" for d in range(len(node.shape))]
        elif op == "transpose":
            labels, run = [], 0
            perm = node.attrs["perm"]
            for i, p in enumerate(perm):
                run += bool(i and p != perm[i - 1] + 1)
                labels.append(run)
        elif op in ("slice", "pad"):
            x = node.inputs[0]
            labels = [d if n != m else "same" for d, (n, m) in enumerate(zip(node.shape, x.shape))]
        elif op in ("iota", "concatenate"):
            labels = [d == node.attrs["dim"] for d in range(len(node.shape))]
        elif op == "rev":
            labels = [d if d in node.attrs["dims"] else "same" for d in range(len(node.shape))]
        else:
            labels = list(range(len(node.shape)))
        stride = 1
        last = None
        for n, label in zip(reversed(node.shape), reversed(labels)):
            if n == 1:
                continue
            if last is not None and label != last:
                cuts.add(stride)
            last = label
            stride *= n
    return cuts


class Level:
    """One walk over the row: reductions, full roots stored during it, row roots stored after it."""

    __slots__ = ("full", "reductions", "rows")

    def __init__(self):
        self.reductions: list[Node] = []
        self.full: list[Node] = []
        self.rows: list[Node] = []


class GroupBuilder:
    """Builds the nest of a group without reductions; `velax._compiler.nest_levels` adds what those need."""

    def __init__(self, group: Group, plan, place, target, cuts, alone, point, tile: int | None = None):
        self.group, self.plan, self.target, self.alone, self.point = group, plan, target, alone, point
        self.space = Space()
        members = set(group.roots)
        self.stored_place = place
        self.ev = Evaluator(self.space, lambda node: None if node in members else place(node))
        self.dims = make_dims(group.size, group.pattern, cuts)
        self.cuts = cuts
        self.strides: dict = {}  # variable atoms -> (stride, extent) in the domain
        self.full_cost = group.cost
        dtypes = [n.dtype for n in group.roots] + [n.dtype for n in group.reads]
        self.nbytes = sum(schedule.element_bytes(n.dtype) for n in group.full) + sum(
            schedule.element_bytes(n.dtype)
            for n, states in group.reads.items()
            if FULL in states or n.size >= group.size
        )
        self.scalar = False  # whether a reduction cannot be spread over lanes
        self.width = schedule.vector_width(target, dtypes, self.full_cost)
        self.levels = self._levels()
        self.tile = tile  # stride of the dimension that is walked in tiles together with the lanes' one
        self.lane_atoms: list = []
        self.total = 1
        self.grain = 1
        self.work = group.size * schedule.element_ns(self.full_cost, self.nbytes)

    def _levels(self) -> list[Level]:
        level = Level()
        level.full = self.group.roots
        return [level]

    # -- domain ---------------------------------------------------------------------------------------------------

    def new_cuts(self, wishes) -> set[int]:
        """Strides at which the domain should be cut, learnt from divisions that remained."""
        found = set()
        for atom, divisors in wishes.items():
            known = self.strides.get(atom)
            if known is None:
                continue
            stride, extent = known
            for c in divisors:
                if extent % c == 0 and 1 < c < extent and stride * c not in self.cuts:
                    found.add(stride * c)
        if found:
            refined = make_dims(self.group.size, self.group.pattern, self.cuts | found)
            if len(refined) == len(self.dims):
                return set()
        return found

    def _var(self, name: str, dim: _Dim, start: int = 0, extent: int | None = None, expr=None) -> Affine:
        var = self.space.var(name, dim.extent if extent is None else extent, start, expr)
        self.strides[var.terms[0][0]] = (dim.stride, dim.extent)
        return var

    def _linear(self, bound: dict) -> Affine:
        """The domain's linear index from the index along each dimension."""
        total = self.space.zero
        for dim in self.dims:
            total = self.space.add(total, self.space.scale(bound[dim], dim.stride))
        return total

    def _row(self, bound: dict, block: Affine | None) -> Affine:
        """The linear index of the row: kept dimensions in order, after the block of a two-stage reduction."""
        space, total, stride = self.space, self.space.zero, 1
        for dim in reversed(self.dims):
            if dim.label == "K":
                total = space.add(total, space.scale(bound[dim], stride))
                stride *= dim.extent
        return space.add(total, space.scale(block, stride)) if block is not None else total

    # -- loop structures --------------------------------------------------------------------------------------------

    def build(self, lo, hi) -> list[loops.Stmt]:
        kept = [dim for dim in self.dims if dim.label == "K"]
        reduced = [dim for dim in self.dims if dim.label == "R"]
        blocked = next((dim for dim in reduced if dim.block), None)
        lanes = None
        if self.dims and not self.scalar:
            lanes = self._lane_dimension(kept, reduced)
        if lanes is None:
            return self._build_rows(kept, reduced, blocked, lo, hi)
        return self._build_lanes(lanes, kept, reduced, blocked, lo, hi)

    def _lane_dimension(self, kept, reduced) -> _Dim | None:
        """The kept dimension to run the lanes along, None to run them along the innermost reduced one."""
        if not kept:
            return None
        last = self.dims[-1]
        if not reduced:
            if last.extent >= 8 or len(kept) == 1:
                return last
            return kept[-2] if kept[-2].extent > 2 * last.extent and last.extent <= 8 else last
        if last.label == "K":
            return last if last.extent >= 4 or last.extent >= math.prod(d.extent for d in reduced) else None
        n_reduced = math.prod(d.extent for d in reduced)
        return kept[-1] if n_reduced <= 8 and kept[-1].extent >= 16 else None

    def _outer(self, dims: list[_Dim], counts: list[int], lo, hi, body) -> list[loops.Stmt]:
        """Loop over ``[lo, hi)`` of the flattened ``dims``; ``body(indexes)`` gives the statements."""
        total = math.prod(counts)
        self.total = total
        if total == 1:
            return body([self.space.zero for _ in dims])
        t = loops.Var("t")
        lets: list[loops.Stmt] = []
        indexes = []
        stride = total
        long = [n for n in counts if n != 1]
        for dim, n in zip(dims, counts):
            stride //= max(n, 1)
            if n == 1:
                indexes.append(self.space.zero)
                continue
            if len(long) == 1:
                expr = t
            else:
                expr = lb.div(t, stride)
                if stride * n != total:
                    expr = lb.rem(expr, n)
                var = loops.Var(f"p{len(lets)}")
                lets.append(loops.Let(var, expr))
                expr = var
            if dim is None:
                indexes.append(self.space.var("block", n, 0, expr))
            else:
                indexes.append(self._var("t", dim, 0, n, expr))
        return [loops.For(t, lo, lb.c(total) if hi is None else hi, (*lets, *body(indexes)))]

    def _build_rows(self, kept, reduced, blocked, lo, hi) -> list[loops.Stmt]:
        dims = [None, *kept] if blocked else kept
        counts = ([-(-blocked.extent // blocked.block)] if blocked else []) + [d.extent for d in kept]
        inner = max(1, self.group.size // max(1, math.prod(d.extent for d in kept)))
        if blocked:
            inner = blocked.block * inner // blocked.extent

        def body(indexes):
            block = indexes[0] if blocked else None
            bound = dict(zip(kept, indexes[1:] if blocked else indexes))
            return self._levels_over(bound, block, reduced, blocked, in_lanes=False)

        result = self._outer(dims, counts, lo, hi, body)
        n_levels = max(1, len(self.levels))
        self._set_grain(inner * schedule.element_ns(self.full_cost, self.nbytes) * (0.5 + 0.5 * n_levels) + 5, 1)
        return result

    def _build_lanes(self, lanes: _Dim, kept, reduced, blocked, lo, hi) -> list[loops.Stmt]:
        outer = [d for d in kept if d is not lanes]
        tail = []
        if not reduced:
            # kept dimensions inside the lanes' one are short: loop over them in each lane
            at = self.dims.index(lanes)
            tail = self.dims[at + 1 :]
            outer = [d for d in outer if d not in tail]
        per_lane = math.prod(d.extent for d in (*reduced, *tail))
        if blocked:
            per_lane = per_lane * blocked.block // blocked.extent
        unit = per_lane * schedule.element_ns(self.full_cost, self.nbytes)

        def inside(bound, block, j):
            bound = {**bound, lanes: j}
            if tail:
                return self._tail_loops(bound, tail)
            return self._levels_over(bound, block, reduced, blocked, in_lanes=True)

        columns = self._build_columns(lanes, outer, reduced, blocked, lo, hi) if blocked else None
        if columns is not None:
            return columns
        if not outer and not blocked:
            self.total = lanes.extent
            body = self._vector(lanes, lo, lb.c(lanes.extent) if hi is None else hi, lambda j: inside({}, None, j))
            self._set_grain(unit, self.width)
            return body

        tiled = next((d for d in outer if d.stride == self.tile), None)
        if tiled is not None and not tail:
            return self._build_tiled(lanes, tiled, [d for d in outer if d is not tiled], lo, hi)
        rows = math.prod(d.extent for d in outer)
        size = schedule.inner_block(rows, lanes.extent) if self.alone else lanes.extent
        dims: list = ([None] if blocked else []) + outer
        counts = ([-(-blocked.extent // blocked.block)] if blocked else []) + [d.extent for d in outer]
        if size < lanes.extent:
            dims.append(None)
            counts.append(-(-lanes.extent // size))

        def body(indexes):
            indexes = list(indexes)
            start, stop = lb.c(0), lb.c(lanes.extent)
            if size < lanes.extent:
                start = lb.mul(self.space.expr(indexes.pop()), size)
                stop = lb.min_(lb.add(start, size), lanes.extent)
            block = indexes.pop(0) if blocked else None
            bound = dict(zip(outer, indexes))
            return self._vector(lanes, start, stop, lambda j: inside(bound, block, j))

        result = self._outer(dims, counts, lo, hi, body)
        self._set_grain(size * unit + 3, 1)
        return result

    def tile_wish(self) -> int | None:
        """The stride of an outer dimension along which a load is contiguous that the lanes'
        dimension strides over; None if there is none."""
        if not self.lane_atoms or self.group.pattern or self.group.size < schedule.TILE_ELEMENTS:
            return None
        for index in self.ev.loads:
            if any(abs(index.coefficient(atom)) >= 8 for atom in self.lane_atoms):
                for atom, k in index.terms:
                    known = self.strides.get(atom)
                    if abs(k) == 1 and known is not None and known[1] >= 8 and atom not in self.lane_atoms:
                        return known[0]
        return None

    def _build_tiled(self, lanes: _Dim, tiled: _Dim, outer: list[_Dim], lo, hi) -> list[loops.Stmt]:
        """Two dimensions in tiles, so that what one of them strides over stays in the first-level
        cache for the other."""
        height, breadth = schedule.TILE

        def body(indexes):
            *indexes, block = indexes
            bound = dict(zip(outer, indexes))
            first = lb.mul(self.space.expr(block), height)
            row = self._var("i", tiled)
            base = loops.Var("jb")
            inner = self._vector(
                lanes, base, lb.min_(lb.add(base, breadth), lanes.extent),
                lambda j: self._stores(self.levels[0].full, self._linear({**bound, tiled: row, lanes: j})),
            )  # fmt: skip
            rows = loops.For(row.terms[0][0].arg, first, lb.min_(lb.add(first, height), tiled.extent), tuple(inner))
            return [loops.For(base, lb.c(0), lb.c(lanes.extent), (rows,), step=breadth)]

        counts = [*(d.extent for d in outer), -(-tiled.extent // height)]
        result = self._outer([*outer, None], counts, lo, hi, body)
        self._set_grain(height * lanes.extent * (schedule.element_ns(self.full_cost, self.nbytes) + 0.3), 1)
        return result

    def _set_grain(self, unit_ns: float, multiple: int) -> None:
        self.grain = schedule.grain_for(self.total, unit_ns, multiple)

    def _vector(self, dim: _Dim, start, stop, body) -> list[loops.Stmt]:
        """A vector loop over ``dim``; cut in ranges where conditions of pads and concatenations change."""
        if dim.extent == 1:
            return body(self.space.zero)
        var = self._var("j", dim)
        atom = var.terms[0][0]
        self.lane_atoms.append(atom)
        statements = body(var)
        breaks = sorted(self.space.breaks.get(atom, ()))
        if not breaks or len(breaks) >= _MAX_SEGMENTS:
            return [self._loop(var, start, stop, statements, dim.extent)]
        result = []
        edges = [0, *breaks, dim.extent]
        for low, high in itertools.pairwise(edges):
            part = self._var("j", dim, low, high - low)
            result.append(self._loop(part, lb.max_(start, low), lb.min_(stop, high), body(part), high - low))
        return result

    def _loop(self, var: Affine, start, stop, statements, extent: int) -> loops.Stmt:
        if self.scalar:
            return loops.For(var.terms[0][0].arg, start, stop, tuple(statements))
        width = self.width
        lanes = max(2, width // 4)
        while width > lanes and width >= 2 * extent:
            width //= 2
        return loops.For(var.terms[0][0].arg, start, stop, tuple(statements), "vector", max(2, width))

    def _tail_loops(self, bound, tail) -> list[loops.Stmt]:
        bound = dict(bound)
        variables = []
        for dim in tail:
            var = self._var("u", dim)
            bound[dim] = var
            variables.append((var, dim))
        statements = self._stores(self.levels[0].full, self._linear(bound))
        for var, dim in reversed(variables):
            statements = [loops.For(var.terms[0][0].arg, lb.c(0), lb.c(dim.extent), tuple(statements), "unrolled")]
        return statements

    def _build_columns(self, lanes: _Dim, outer, reduced, blocked, lo, hi) -> list[loops.Stmt] | None:
        """The first stage of a column reduction, None for one that is built like all others."""
        return None

    def _levels_over(self, bound: dict, block, reduced, blocked, in_lanes: bool) -> list[loops.Stmt]:
        """All levels of one row (or of one row a lane)."""
        return self._stores(self.levels[0].full, self._linear(bound))

    def _stores(self, roots, linear: Affine) -> list[loops.Stmt]:
        if self.point is not None:
            return self.point(self.ev, linear)
        values = []
        for root in roots:
            place = self.stored_place(root)
            if place is not None:
                node, where = self.ev.stored(root, linear)
                values.append((place, where, self.ev.at(node, linear)))
        result: list[loops.Stmt] = []
        if len(values) > 1 or (values and values[0][0].complex) or self.levels[0].reductions:
            # an output may lie over an input: everything is read before the first store
            for k, (place, where, value) in enumerate(values):
                parts = value if type(value) is tuple else (value,)
                names = tuple(loops.Var("v", part.dtype) for part in parts)
                result += [loops.Let(name, part) for name, part in zip(names, parts)]
                values[k] = place, where, names if type(value) is tuple else names[0]
        for place, where, value in values:
            result += place.store(self.space, where, value)
        return result
