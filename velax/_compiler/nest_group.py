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

A level is one walk over the row: the reductions whose operands are known, and the full roots that
become known with them. Values that several levels need are kept in a row buffer if computing them
again costs more than a load.
"""

from __future__ import annotations

import itertools
import math

from velax._compiler import schedule
from velax._compiler.fuse import FULL, INLINE, Group, extent_of
from velax._compiler.index import Affine, Space
from velax._compiler.nest_reduce import Columns, accumulate, accumulator, finish
from velax._compiler.nests import Evaluator, Memory, Misaligned
from velax._ir import loops
from velax._ir import loops_build as lb
from velax._ir.graph import COMPLEX_PART, Node

__all__ = ["Nest", "build_group", "levels_of", "make_dims"]

_KEEP_COST = 6  #: arithmetic of a value above which a row buffer beats computing it again
_KEEP_BYTES = 1 << 20
_STACK_BYTES = 1 << 14
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
    cuts = _first_cuts(group, plan.roots) | cuts
    for attempt in range(5):
        if attempt and restart is not None:
            restart()
        builder = _Builder(group, plan, place, target, cuts, alone, point)
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
        builder = _Builder(group, plan, place, target, builder.cuts, alone, point, tile)
        body = builder.build(lo, hi)
    early = any(level.full for level in builder.levels[:-1])
    return Nest(body, builder.total, builder.grain, builder.work, not early)


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


class _Builder:
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
        self.scalar = any(
            n.op in ("reduce", "partial_reduce") and n.dtype in COMPLEX_PART and n.attrs["fn"] == "mul"
            for n in group.roots
        )
        self.width = schedule.vector_width(target, dtypes, self.full_cost)
        self.levels = levels_of(group)
        self.tile = tile  # stride of the dimension that is walked in tiles together with the lanes' one
        self.lane_atoms: list = []
        self.total = 1
        self.grain = 1
        self.work = group.size * schedule.element_ns(self.full_cost, self.nbytes)

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

        if self._by_columns(lanes, reduced, blocked):
            return self._build_columns(lanes, outer, reduced, blocked, lo, hi)
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

    def _by_columns(self, lanes: _Dim, reduced, blocked) -> bool:
        """Whether this is the first stage of a column reduction: large, so the order of memory
        matters more than registers."""
        if blocked is None or len(self.levels) > 1 or not self.alone:
            return False
        at = self.dims.index(lanes)
        return lanes.stride == 1 and lanes.extent > self.width and all(self.dims.index(d) < at for d in reduced)

    def _build_columns(self, lanes: _Dim, outer, reduced, blocked, lo, hi) -> list[loops.Stmt]:
        """Reductions over outer dimensions, walked in the order of memory: one accumulator for each
        column, all in the first-level cache."""
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

    # -- levels -----------------------------------------------------------------------------------------------------

    def _levels_over(self, bound: dict, block, reduced, blocked, in_lanes: bool) -> list[loops.Stmt]:
        """All levels of one row (or of one row a lane)."""
        row = self._row(bound, block)
        result: list[loops.Stmt] = []
        if not reduced:
            return self._stores(self.levels[0].full, self._linear(bound))
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

    def _values_to_keep(self) -> list[tuple[Node, int, int]]:
        """Nodes at the domain's own position that more than one level needs and that are costly:
        (node, first level, last level)."""
        if len(self.levels) < 2:
            return []
        first_seen: dict[Node, int] = {}
        keep: dict[Node, list[int]] = {}
        for n, level in enumerate(self.levels):
            stack = [(root.inputs[0], False) for root in level.reductions]
            stack += [(root if root in self.group.full else root.inputs[1], False) for root in level.full]
            done = set()
            while stack:
                node, _ = stack.pop()
                if node in done:
                    continue
                done.add(node)
                if node.op not in INLINE or (node in self.plan.roots and node not in self.group.full):
                    continue
                first = first_seen.setdefault(node, n)
                if first < n:
                    if self._own_cost(node) >= _KEEP_COST:
                        keep.setdefault(node, [first, n])[1] = n
                        continue
                elif node.op not in ("map", "convert", "bitcast", "reshape"):
                    continue
                if node.op in ("map", "convert", "bitcast", "reshape"):
                    stack.extend((x, False) for x in node.inputs)
        return [(node, first, last) for node, (first, last) in keep.items()]

    def _own_cost(self, node: Node) -> float:
        return self.plan.cost.get(node, 0)


class _Level:
    """One walk over the row: reductions, full roots stored during it, row roots stored after it."""

    __slots__ = ("full", "reductions", "rows")

    def __init__(self):
        self.reductions: list[Node] = []
        self.full: list[Node] = []
        self.rows: list[Node] = []


def levels_of(group: Group) -> list[_Level]:
    """Distribute the roots over as few walks as their dependences allow."""
    known: dict[Node, int] = {}  # the first walk in which a root's value can be used
    levels: list[_Level] = []

    def level(n: int) -> _Level:
        while len(levels) <= n:
            levels.append(_Level())
        return levels[n]

    for root in group.roots:
        n = 0
        for x in _members_below(root, group):
            n = max(n, known[x])
        if root.op in ("reduce", "partial_reduce"):
            level(n).reductions.append(root)
            known[root] = n + 1
        elif root in group.full or (root in group.stacks and extent_of(root) == group.size):
            level(n).full.append(root)
            known[root] = n
        else:
            # a row root is stored after the walk that makes its last operand known
            level(max(n - 1, 0)).rows.append(root)
            known[root] = n
    return levels or [_Level()]


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
