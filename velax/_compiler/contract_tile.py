"""The outer-product kernel of contractions: a tile of C in registers, rows of A broadcast against
vectors of B.

One task computes a block of rows and columns of one batch entry. Within it, in this order::

    for each block of K                          (one, unless K is very long)
      pack B[block of K, columns] into scratch   (where B's rows are far apart or are its columns)
      for each group of `rows` rows
        for each panel of `vectors` vectors of columns
          accumulators = 0                       (then: what the blocks before left in C)
          for k: load the vectors of B, broadcast `rows` elements of A, fused multiply-adds
          store, or hand to the epilogue

Rows beyond the last one are computed as copies of it and stored again over it: no branch in the
tile. Columns that do not fill a panel are done in masked vectors. Sizes, strides and offsets are
extents of the launch, so that one kernel serves all shapes with the same `Tile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from velax._compiler.nest_dot import At, DotSpec
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART
from velax._ir.loops import Alloc, Buffer, Expr, For, If, Let, Stmt, Store, Var
from velax._lang.record import Record

__all__ = [
    "ACCUMULATE",
    "Epilogue",
    "Extents",
    "Problem",
    "Sizes",
    "Tile",
    "TileBuilder",
    "accumulator",
    "build_row_panels",
    "decode",
    "result_at",
    "row_panels_size",
]

#: the dtype in which sums are kept, where it is not that of the result
ACCUMULATE = {
    "f16": "f32",
    "bf16": "f32",
    "f8e4m3fn": "f32",
    "f8e5m2": "f32",
    "i8": "i32",
    "u8": "u32",
    "bool": "i32",
}


def accumulator(dtype: str) -> str:
    """The real dtype in which sums of a result of ``dtype`` are kept."""
    part = COMPLEX_PART.get(dtype, dtype)
    return ACCUMULATE.get(part, part)


#: columns that are packed side by side where they are far apart: as many lines as a set of the
#: first-level cache holds, which is where all of them are if they are a power of two apart
_COLUMNS_AT_ONCE = 8

#: from the contraction's value (of C's dtype; (re, im) for complex ones) and its place to
#: statements that store what is wanted
Epilogue = Callable[[Expr | tuple[Expr, Expr], At], Sequence[Stmt]]


class Extents:
    """The run-time sizes of a launch, in the order in which a kernel under construction asks for
    them."""

    def __init__(self):
        self.values: list[int] = []

    def size(self, value: int) -> Expr:
        """An extent of this value."""
        self.values.append(value)
        return loops.Extent(len(self.values) - 1)

    def stride(self, value: int) -> Expr:
        """A stride: one is a constant, since contiguous access is other code."""
        return lb.c(1) if value == 1 else self.size(value)

    def offset(self, value: int) -> Expr:
        return lb.c(0) if value == 0 else self.size(value)


class Problem(Record):
    """A contraction with its memory: ``c`` receives the result unless ``epilogue`` stores it,
    ``sums`` those of blocks of K before the last."""

    spec: DotSpec
    a: Buffer
    b: Buffer
    c: Buffer
    sums: Buffer
    epilogue: Epilogue | None = None


class Tile(Record):
    """The choices that make the kernel's text.

    Attributes:
        rows, vectors: of the register tile; ``lanes`` elements a vector.
        tail: vectors of a masked group of columns at the end, 0 if panels cover all columns.
        full: whether there are whole panels.
        exact_rows: whether ``rows`` is all of M.
        row_blocks, column_blocks: whether rows or columns are cut between tasks.
        pack: elements of scratch memory for packed columns of B, 0 to read B where it lies.
        packed_rows: whether A comes in panels made by `build_row_panels`.
        staged: results go through the stack, row by row, into the epilogue, whose code then exists
            once and not once a register.
        block: "" (K whole), "add" (blocks of K one after the other, sums in C), "split" (blocks of
            K are tasks with a C each).
        k_cut: the dimension of K that is cut in blocks; those before it are walked element by
            element.
    """

    rows: int
    vectors: int
    lanes: int
    tail: int
    full: bool
    exact_rows: bool
    row_blocks: bool
    column_blocks: bool
    pack: int
    staged: bool
    block: str = ""
    k_cut: int = 0
    packed_rows: bool = False


class Sizes(Record):
    """The choices that are extents: rows and columns of a task, indices of the cut dimension of K
    in a block, and the counts of these."""

    row_block: int
    row_blocks: int
    column_block: int
    column_blocks: int
    k_block: int
    k_blocks: int


def decode(index: Expr, extents: Sequence[Expr], statements: list[Stmt], name: str) -> list[Expr]:
    """The digits of ``index`` in the mixed radix ``extents``, outermost first; bound in
    ``statements``."""
    digits: list[Expr] = []
    for extent in reversed(extents[1:]):
        var = Var(name)
        statements.append(Let(var, lb.rem(index, extent)))
        digits.append(var)
        rest = Var(name)
        statements.append(Let(rest, lb.div(index, extent)))
        index = rest
    return [index, *reversed(digits)] if extents else []


def result_at(spec: DotSpec, extents: Extents, entry: Sequence[Expr], m: Expr, n: Expr) -> Callable[[Expr, Expr], At]:
    """``at(row, column)`` in C for the batch entry with these digits; ``m`` and ``n`` are extents of
    these sizes."""
    batch = tuple((index, d.extent, d.c) for index, d in zip(entry, spec.batch))
    columns, apart = spec.size("n"), spec.row_stride
    stride = n if apart == columns else extents.stride(apart)
    start = lb.c(0)
    for index, _, c in batch:
        whole = len(batch) == 1 and c == spec.size("m") * columns
        start = lb.add(start, lb.mul(index, lb.mul(m, n) if whole else extents.stride(c)))

    def at(row: Expr, column: Expr) -> At:
        digits = (*batch, (row, spec.size("m"), apart), (column, columns, 1))
        return At(lb.add_n(start, lb.mul(row, stride), column), digits)

    return at


class TileBuilder:
    """Writes the loop nest of one `Problem` with one `Tile`."""

    def __init__(self, problem: Problem, tile: Tile, sizes: Sizes, fused: bool):
        self.problem, self.tile, self.sizes, self.fused = problem, tile, sizes, fused
        spec = self.spec = problem.spec
        self.acc_dtype = accumulator(spec.dtype)
        self.parts_a = 2 if spec.a_dtype in COMPLEX_PART else 1
        self.parts_b = 2 if spec.b_dtype in COMPLEX_PART else 1
        self.parts = 2 if spec.dtype in COMPLEX_PART else 1
        self.panel = tile.vectors * tile.lanes
        self.extents = Extents()
        size, stride = self.extents.size, self.extents.stride
        self.m, self.n = size(spec.size("m")), size(spec.size("n"))
        self.m_dims = [(size(d.extent) if len(spec.m) > 1 else self.m, stride(d.a)) for d in spec.m]
        self.n_dims = [(size(d.extent) if len(spec.n) > 1 else self.n, stride(d.b)) for d in spec.n]
        self.k_dims = [(size(d.extent), stride(d.a), stride(d.b)) for d in spec.k]
        self.batch_dims = [(size(d.extent), stride(d.a), stride(d.b)) for d in spec.batch]
        if tile.packed_rows:
            self.k = size(spec.size("k"))
            self.row_groups = size(-(-spec.size("m") // tile.rows))
        self.offsets = self.extents.offset(spec.a_offset), self.extents.offset(spec.b_offset)

    # The task.

    def body(self) -> list[Stmt]:
        """The kernel's statements over tasks ``[LO, HI)``."""
        task = Var("task")
        return [For(task, loops.LO, loops.HI, tuple(self._task(task)))]

    def _task(self, task: Expr) -> list[Stmt]:
        tile, sizes, size = self.tile, self.sizes, self.extents.size
        into: list[Stmt] = []
        radix: list[tuple[str, Expr]] = []
        if tile.block == "split":
            radix.append(("split", size(sizes.k_blocks)))
        radix += [("batch", extent) for extent, _, _ in self.batch_dims]
        if tile.column_blocks:
            radix.append(("column", size(sizes.column_blocks)))
        if tile.row_blocks:
            radix.append(("row", size(sizes.row_blocks)))
        digits = decode(task, [extent for _, extent in radix], into, "part")
        named = dict(zip([name for name, _ in radix], digits))
        batch = [digit for (name, _), digit in zip(radix, digits) if name == "batch"]
        a_at, b_at = self.offsets
        number = lb.c(0)
        for index, (extent, sa, sb) in zip(batch, self.batch_dims):
            a_at, b_at = lb.add(a_at, lb.mul(index, sa)), lb.add(b_at, lb.mul(index, sb))
            number = lb.add(lb.mul(number, extent), index)
        self.a_at, self.b_at = self._bind("a_at", a_at, into), self._bind("b_at", b_at, into)
        self.batch = number = self._bind("batch", number, into)
        self._at = result_at(self.spec, self.extents, batch, self.m, self.n)
        if tile.block == "split":
            whole = size(math.prod(d.extent for d in self.spec.batch))
            number = lb.add(lb.mul(named["split"], whole), number)
            self.copy_at = self._bind("copy_at", lb.mul(number, lb.mul(self.m, self.n)), into)
        self.row0, self.row1 = lb.c(0), self.m
        if tile.row_blocks:
            block = size(sizes.row_block)
            self.row0 = self._bind("row0", lb.mul(named["row"], block), into)
            self.row1 = self._bind("row1", lb.min_(lb.add(self.row0, block), self.m), into)
        self.column0, self.column1 = lb.c(0), self.n
        if tile.column_blocks:
            block = size(sizes.column_block)
            self.column0 = self._bind("column0", lb.mul(named["column"], block), into)
            self.column1 = self._bind("column1", lb.min_(lb.add(self.column0, block), self.n), into)
        span = lb.sub(self.column1, self.column0)
        self.panels = self._bind("panels", lb.div(span, self.panel), into) if tile.full else lb.c(0)
        into += self._k_blocks(named.get("split"))
        return into

    def _bind(self, name: str, value: Expr, into: list[Stmt]) -> Expr:
        if isinstance(value, (loops.Const, Var, loops.Extent)):
            return value
        var = Var(name, value.dtype)
        into.append(Let(var, value))
        return var

    # K.

    def _k_blocks(self, split: Expr | None) -> list[Stmt]:
        """The loops over blocks of K around `_block`."""
        cut = self.tile.k_cut
        if not self.tile.block:
            self.first = self.last = None
            return self._block([(lb.c(0), extent) for extent, _, _ in self.k_dims])
        before = self.k_dims[:cut]
        into: list[Stmt] = []
        if split is not None:
            counts = [*(extent for extent, _, _ in before), self.extents.size(self.sizes.k_blocks)]
            *outer, number = decode(split, counts, into, "block") if before else [split]
            self.first = self.last = None
        else:
            outer = [Var("k_outer") for _ in before]
            number = Var("k_block")
            zero, end = lb.eq(number, 0), lb.eq(number, lb.sub(self.extents.size(self.sizes.k_blocks), 1))
            for var, (extent, _, _) in zip(outer, before):
                zero, end = lb.and_(zero, lb.eq(var, 0)), lb.and_(end, lb.eq(var, lb.sub(extent, 1)))
            self.first, self.last = self._bind("first", zero, into), self._bind("last", end, into)
        ranges = [(var, lb.add(var, 1)) for var in outer]
        length = self.extents.size(self.sizes.k_block)
        start = self._bind("k_start", lb.mul(number, length), into)
        ranges.append((start, self._bind("k_stop", lb.min_(lb.add(start, length), self.k_dims[cut][0]), into)))
        ranges += [(lb.c(0), extent) for extent, _, _ in self.k_dims[cut + 1 :]]
        into += self._block(ranges)
        if split is not None:
            return into
        into = [For(number, lb.c(0), self.extents.size(self.sizes.k_blocks), tuple(into))]
        for var, (extent, _, _) in reversed(list(zip(outer, before))):
            into = [For(var, lb.c(0), extent, tuple(into))]
        return into

    def _block(self, ranges) -> list[Stmt]:
        """One block of K, as ranges of its dimensions: pack, then all tiles."""
        self.ranges = ranges
        into: list[Stmt] = []
        if self.tile.pack:
            depth = lb.c(1)
            for start, stop in ranges:
                depth = lb.mul(depth, lb.sub(stop, start))
            self.depth = self._bind("depth", depth, into)
            dtype = self.acc_dtype
            self.packed = Buffer("packed", dtype, "scratch", self.tile.pack * self.parts_b)
            into.append(Alloc(self.packed))
            into += self._pack()
        if self.tile.exact_rows:
            return into + self._row_group(lb.c(0))
        row = Var("row")
        return [*into, For(row, self.row0, self.row1, tuple(self._row_group(row)), step=self.tile.rows)]

    def _over_k(self, make: Callable[[Expr, Expr, Expr], list[Stmt]]) -> list[Stmt]:
        """Loops over the block of K; ``make(a, b, flat)`` gets offsets in A and B and the position
        in the block."""
        variables = [Var("k") for _ in self.k_dims]
        a, b, flat = lb.c(0), lb.c(0), lb.c(0)
        for var, (extent, sa, sb), (start, stop) in zip(variables, self.k_dims, self.ranges):
            a = lb.add(lb.mul(a, extent), var) if self.tile.packed_rows else lb.add(a, lb.mul(var, sa))
            b = lb.add(b, lb.mul(var, sb))
            flat = lb.add(lb.mul(flat, lb.sub(stop, start)), lb.sub(var, start))
        body = make(a, b, flat)
        for var, (start, stop) in reversed(list(zip(variables, self.ranges))):
            body = [For(var, start, stop, tuple(body))]
        return body

    # Operands.

    def _column_offset(self, column: Expr, into: list[Stmt]) -> Expr:
        """The offset in B of a column."""
        digits = decode(column, [extent for extent, _ in self.n_dims], into, "n")
        return lb.add_n(lb.c(0), *(lb.mul(digit, stride) for digit, (_, stride) in zip(digits, self.n_dims)))

    def _read(self, buffer: Buffer, index: Expr, parts: int) -> list[Expr]:
        if parts == 1:
            return [lb.cast(self.acc_dtype, lb.load(buffer, index))]
        index = lb.mul(index, 2)
        return [lb.cast(self.acc_dtype, lb.load(buffer, lb.add(index, k))) for k in range(2)]

    def _packed_at(self, panel: Expr, flat: Expr, part: int) -> Expr:
        """Where vector 0 of a row of a packed panel begins."""
        row = lb.add(lb.mul(lb.add(lb.mul(panel, self.depth), flat), self.parts_b), part)
        return lb.mul(row, self.panel)

    def _pack(self) -> list[Stmt]:
        """Copy the columns of this task into panels ``[panel][k][part][column]``."""
        contiguous = len(self.spec.n) <= 1 and (not self.spec.n or self.spec.n[0].b == 1)
        loads, lanes, vectors = self.problem.b, self.tile.lanes, self.tile.vectors
        if not contiguous and lanes > _COLUMNS_AT_ONCE:
            lanes, vectors = _COLUMNS_AT_ONCE, vectors * lanes // _COLUMNS_AT_ONCE

        def copy(column: Expr, panel: Expr, within: Expr, into: list[Stmt]) -> Callable[..., list[Stmt]]:
            offset = lb.add(self.b_at, self._column_offset(column, into))

            def one(_a, b, flat):
                values = self._read(loads, lb.add(offset, b), self.parts_b)
                return [
                    Store(self.packed, lb.add(self._packed_at(panel, flat, k), within), x) for k, x in enumerate(values)
                ]

            return one

        def panels(vector: Callable[[Expr, Expr, Expr], list[Stmt]]) -> list[Stmt]:
            """``vector(column, panel, column within it)`` for every vector of the task."""
            result: list[Stmt] = []
            if self.tile.full:
                panel, lane, part = Var("panel"), Var("lane"), Var("part")
                within = lb.add(lb.mul(part, lanes), lane)
                column = lb.add_n(self.column0, lb.mul(panel, self.panel), within)
                one = For(lane, lb.c(0), lb.c(lanes), tuple(vector(column, panel, within)), "vector", lanes)
                each = For(part, lb.c(0), lb.c(vectors), (one,), "unrolled" if contiguous else "serial")
                result.append(For(panel, lb.c(0), self.panels, (each,)))
            if self.tile.tail:
                column = Var("column")
                start = lb.add(self.column0, lb.mul(self.panels, self.panel))
                body = vector(column, self.panels, lb.sub(column, start))
                result.append(For(column, start, self.column1, tuple(body), "vector", lanes))
            return result

        if contiguous:
            return self._over_k(lambda a, b, flat: panels(lambda *where: copy(*where, [])(a, b, flat)))

        def gathered(column, panel, within):
            into: list[Stmt] = []
            one = copy(column, panel, within, into)
            return [*into, *self._over_k(one)]

        return panels(gathered)

    # Tiles.

    def _row_group(self, row: Expr) -> list[Stmt]:
        """All panels of the group of rows that starts at ``row``."""
        tile = self.tile
        into: list[Stmt] = []
        if tile.full:
            panel, lane = Var("panel"), Var("lane")
            column = lb.add(self.column0, lb.mul(panel, self.panel))
            body = self._tile(row, lb.add(column, lane), panel, lane, tile.vectors, tile.lanes)
            inner = For(lane, lb.c(0), lb.c(tile.lanes), tuple(body), "vector", tile.lanes)
            into.append(For(panel, lb.c(0), self.panels, (inner,)))
        if tile.tail:
            column = Var("column")
            start = lb.add(self.column0, lb.mul(self.panels, self.panel))
            body = self._tile(row, column, self.panels, lb.sub(column, start), 1, tile.lanes * tile.tail)
            into.append(For(column, start, self.column1, tuple(body), "vector", tile.lanes * tile.tail))
        return into

    def _rows(self, row: Expr, i: Expr) -> Expr:
        row = lb.add(row, i)
        return row if self.tile.exact_rows else lb.min_(row, lb.sub(self.row1, 1))

    def _tile(self, row: Expr, column: Expr, panel: Expr, within: Expr, vectors: int, lanes: int) -> list[Stmt]:
        """One register tile, inside the vector loop over ``column``."""
        tile, parts = self.tile, self.parts
        acc = Buffer("acc", self.acc_dtype, "register", tile.rows * vectors * parts)
        into: list[Stmt] = [Alloc(acc)]
        into += self._start(acc, row, column, vectors, lanes)

        def step(a, b, flat):
            body: list[Stmt] = []
            vector_values = []
            for v in range(vectors):
                if tile.pack:
                    shift = lb.add(within, v * lanes)
                    values = [
                        lb.load(self.packed, lb.add(self._packed_at(panel, flat, k), shift))
                        for k in range(self.parts_b)
                    ]
                else:
                    at = lb.add_n(self.b_at, b, self._column_offset(lb.add(column, v * lanes), body))
                    values = self._read(self.problem.b, at, self.parts_b)
                vector_values.append([self._named("b", x, body) for x in values])
            i = Var("i")
            rows: list[Stmt] = []
            scalars = [self._named("a", x, rows) for x in self._scalars(row, i, a, rows)]
            for v, y in enumerate(vector_values):
                first = lb.mul(lb.add(lb.mul(i, vectors), v), parts)
                rows += self._multiply(acc, first, scalars, y)
            body.append(For(i, lb.c(0), lb.c(tile.rows), tuple(rows), "unrolled"))
            return body

        into += self._over_k(step)
        return into + self._finish(acc, row, column, vectors, lanes)

    def _scalars(self, row: Expr, i: Expr, a: Expr, into: list[Stmt]) -> list[Expr]:
        """The element of A in row ``row + i`` at offset ``a`` (its number along K where A is
        packed)."""
        if self.tile.packed_rows:
            width = _padded(self.tile.rows)
            group = lb.add(lb.mul(self.batch, self.row_groups), lb.div(row, self.tile.rows))
            at = lb.mul(lb.add(lb.mul(group, self.k), a), width * self.parts_a)
            return [lb.load(self.problem.a, lb.add_n(at, part * width, i)) for part in range(self.parts_a)]
        digits = decode(self._rows(row, i), [extent for extent, _ in self.m_dims], into, "m")
        offset = lb.add_n(self.a_at, *(lb.mul(digit, stride) for digit, (_, stride) in zip(digits, self.m_dims)))
        return self._read(self.problem.a, lb.add(offset, a), self.parts_a)

    def _named(self, name: str, value: Expr, into: list[Stmt]) -> Expr:
        var = Var(name, value.dtype)
        into.append(Let(var, value))
        return var

    def _multiply(self, acc: Buffer, first: Expr, x: list[Expr], y: list[Expr]) -> list[Stmt]:
        """``acc += x * y`` for one row and vector: a real product, or the two to four of complex
        numbers."""

        def add(part: int, p: Expr, q: Expr) -> Stmt:
            at = lb.add(first, part)
            old = lb.load(acc, at)
            if self.spec.dtype == "bool":
                return Store(acc, at, lb.or_(old, lb.and_(p, q)))
            if self.acc_dtype in loops.FLOATS and self.fused:
                return Store(acc, at, lb.fma(p, q, old))
            return Store(acc, at, lb.add(old, lb.mul(p, q)))

        result = [add(0, x[0], y[0])]
        if self.parts == 2:
            if len(y) == 2:
                result.append(add(1, x[0], y[1]))
            if len(x) == 2:
                result.append(add(1, x[1], y[0]))
            if len(x) == len(y) == 2:
                result.append(add(0, lb.neg(x[1]), y[1]))
        return result

    # The result.

    def _start(self, acc: Buffer, row: Expr, column: Expr, vectors: int, lanes: int) -> list[Stmt]:
        """Accumulators of zero, or of what is in C already."""
        zero = lb.c(0, self.acc_dtype)
        i = Var("i")
        if self.first is None:
            return [For(i, lb.c(0), lb.c(acc.size), (Store(acc, i, zero),), "unrolled")]
        body: list[Stmt] = []
        for v in range(vectors):
            at = self._at(self._rows(row, i), lb.add(column, v * lanes)).linear
            for k, x in enumerate(self._read(self.problem.sums, at, self.parts)):
                where = lb.add(lb.mul(lb.add(lb.mul(i, vectors), v), self.parts), k)
                body.append(Store(acc, where, lb.select(self.first, zero, x)))
        return [For(i, lb.c(0), lb.c(self.tile.rows), tuple(body), "unrolled")]

    def _finish(self, acc: Buffer, row: Expr, column: Expr, vectors: int, lanes: int) -> list[Stmt]:
        """Store the tile as it is, or through the epilogue."""
        if self.tile.block == "split" or (self.problem.epilogue is None and not self.tile.staged):
            return [self._store_tile(acc, row, column, vectors, lanes)]
        final = self._staged(acc, row, column, vectors, lanes)
        if self.last is None:
            return final
        return [If(self.last, tuple(final), (self._store_tile(acc, row, column, vectors, lanes),))]

    def _values(self, buffer: Buffer, first: Expr, dtype: str | None) -> list[Expr]:
        values = [lb.load(buffer, lb.add(first, k)) for k in range(self.parts)]
        return values if dtype is None else [lb.cast(COMPLEX_PART.get(dtype, dtype), x) for x in values]

    def store(self, values: Sequence[Expr], at: Expr, to: Buffer) -> list[Stmt]:
        if self.parts == 1:
            return [Store(to, at, values[0])]
        index = lb.mul(at, 2)
        return [Store(to, lb.add(index, k), x) for k, x in enumerate(values)]

    def _store_tile(self, acc: Buffer, row: Expr, column: Expr, vectors: int, lanes: int) -> Stmt:
        to = self.problem.sums if self.tile.block else self.problem.c
        i = Var("i")
        body: list[Stmt] = []
        for v in range(vectors):
            place = self._rows(row, i), lb.add(column, v * lanes)
            if self.tile.block == "split":
                at = lb.add_n(self.copy_at, lb.mul(place[0], self.n), place[1])
            else:
                at = self._at(*place).linear
            first = lb.mul(lb.add(lb.mul(i, vectors), v), self.parts)
            values = [lb.cast(to.dtype, x) for x in self._values(acc, first, None)]
            body += self.store(values, at, to)
        return For(i, lb.c(0), lb.c(self.tile.rows), tuple(body), "unrolled")

    def _staged(self, acc: Buffer, row: Expr, column: Expr, vectors: int, lanes: int) -> list[Stmt]:
        """The tile on the stack, then a loop over its rows and vectors that holds the epilogue
        once."""
        staged = Buffer("staged", self.acc_dtype, "stack", acc.size)
        k, i, v = Var("i"), Var("i"), Var("v")
        put = For(k, lb.c(0), lb.c(acc.size), (Store(staged, k, lb.load(acc, k)),), "unrolled")
        rows = lb.c(self.tile.rows)
        if not self.tile.exact_rows:
            rows = lb.min_(rows, lb.sub(self.row1, row))
        at = self._at(lb.add(row, i), lb.add(column, lb.mul(v, lanes)))
        first = lb.mul(lb.add(lb.mul(i, vectors), v), self.parts)
        body: list[Stmt] = []
        values = [self._named("value", x, body) for x in self._values(staged, first, self.spec.dtype)]
        if self.problem.epilogue is None:
            body += self.store(values, at.linear, self.problem.c)
        else:
            body += self.problem.epilogue(values[0] if self.parts == 1 else tuple(values), at)
        inner = For(v, lb.c(0), lb.c(vectors), tuple(body)) if vectors > 1 else None
        if inner is None:
            body.insert(0, Let(v, lb.c(0)))
        return [Alloc(staged), put, For(i, lb.c(0), rows, (inner,) if inner else tuple(body))]


def _padded(rows: int) -> int:
    """Elements of one row of a panel of A: a power of two, so that vectors fill it."""
    return 1 << (rows - 1).bit_length()


def row_panels_size(spec: DotSpec, rows: int) -> int:
    """Elements of A in panels (see `build_row_panels`)."""
    parts = 2 if spec.a_dtype in COMPLEX_PART else 1
    return spec.size("batch") * -(-spec.size("m") // rows) * spec.size("k") * _padded(rows) * parts


def build_row_panels(spec: DotSpec, rows: int, a: Buffer, panels: Buffer) -> tuple[list[Stmt], list[int], int]:
    """Copy A into panels ``[batch][group of rows][k][part][row]`` of the accumulator's dtype; the
    last row fills up the last group.

    Returns:
        Statements over tasks ``[LO, HI)``, their extents, and how many tasks there are (each a
        block of groups of one batch entry).
    """
    return _RowPanels(spec, rows, a, panels).build()


class _RowPanels:
    #: rows that one task copies: a few cache lines side by side where rows are contiguous
    BLOCK = 64

    def __init__(self, spec: DotSpec, rows: int, a: Buffer, panels: Buffer):
        self.spec, self.rows, self.width, self.a, self.panels = spec, rows, _padded(rows), a, panels
        self.parts = 2 if spec.a_dtype in COMPLEX_PART else 1

    def build(self) -> tuple[list[Stmt], list[int], int]:
        spec, rows = self.spec, self.rows
        extents = Extents()
        m, k = extents.size(spec.size("m")), extents.size(spec.size("k"))
        m_dims = [(extents.size(d.extent), extents.stride(d.a)) for d in spec.m]
        k_dims = [(extents.size(d.extent), extents.stride(d.a)) for d in spec.k]
        batch_dims = [(extents.size(d.extent), extents.stride(d.a)) for d in spec.batch]
        groups = -(-spec.size("m") // rows)
        per_task = max(1, self.BLOCK // rows)
        blocks = -(-groups // per_task)
        group_extent, whole = extents.size(groups), extents.size(spec.size("m") // rows)
        task = Var("task")
        body: list[Stmt] = []
        digits = decode(task, [*(extent for extent, _ in batch_dims), extents.size(blocks)], body, "part")
        block = digits.pop()
        at, number = extents.offset(spec.a_offset), lb.c(0)
        for index, (extent, stride) in zip(digits, batch_dims):
            at, number = lb.add(at, lb.mul(index, stride)), lb.add(lb.mul(number, extent), index)
        first = lb.mul(block, per_task)
        stop = lb.min_(lb.add(first, per_task), group_extent)
        contiguous = len(m_dims) == 1 and spec.m[0].a == 1

        def over_k(make) -> list[Stmt]:
            variables = [Var("k") for _ in k_dims]
            offset, flat = lb.c(0), lb.c(0)
            for var, (extent, stride) in zip(variables, k_dims):
                offset, flat = lb.add(offset, lb.mul(var, stride)), lb.add(lb.mul(flat, extent), var)
            inner = make(offset, flat)
            for var, (extent, _) in reversed(list(zip(variables, k_dims))):
                inner = [For(var, lb.c(0), extent, tuple(inner))]
            return inner

        def copy(group: Expr, lane: Expr, source: Expr, flat: Expr) -> list[Stmt]:
            row = lb.mul(lb.add(lb.mul(lb.add(lb.mul(number, group_extent), group), k), flat), self.width * self.parts)
            result = []
            for part in range(self.parts):
                index = lb.add(lb.mul(source, 2), part) if self.parts == 2 else source
                value = lb.cast(self.panels.dtype, lb.load(self.a, index))
                result.append(Store(self.panels, lb.add_n(row, part * self.width, lane), value))
            return result

        def lanes(make) -> Stmt:
            lane = Var("lane")
            return For(lane, lb.c(0), lb.c(rows), tuple(make(lane)), "vector", self.width)

        def anywhere(group: Expr) -> Stmt:
            def make(lane):
                into: list[Stmt] = []
                row = lb.min_(lb.add(lb.mul(group, rows), lane), lb.sub(m, 1))
                parts = decode(row, [extent for extent, _ in m_dims], into, "m")
                offset = lb.add_n(at, *(lb.mul(digit, stride) for digit, (_, stride) in zip(parts, m_dims)))
                return [*into, *over_k(lambda k_offset, flat: copy(group, lane, lb.add(offset, k_offset), flat))]

            return lanes(make)

        group = Var("group")
        if contiguous:
            aligned = lambda k_offset, flat: lanes(
                lambda lane: copy(group, lane, lb.add_n(at, k_offset, lb.mul(group, rows), lane), flat)
            )
            full_stop = lb.min_(stop, whole)
            body += over_k(lambda *k: [For(group, first, full_stop, (aligned(*k),))])
            rest = Var("group")
            body.append(For(rest, lb.max_(first, whole), stop, (anywhere(rest),)))
        else:
            body.append(For(group, first, stop, (anywhere(group),)))
        return [For(task, loops.LO, loops.HI, tuple(body))], extents.values, spec.size("batch") * blocks
