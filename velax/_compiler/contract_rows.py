"""The inner-product kernel of contractions: vectors along K, a few rows of one operand against a
few of the other.

Matrix-vector products with K contiguous in both operands read every element of the larger one once;
a tile of accumulators, one vector each, keeps several rows in flight and reuses the loads of the
smaller operand.
"""

from __future__ import annotations

import math

from velax._compiler.contract_tile import Extents, Problem, accumulator, decode, result_at
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART
from velax._ir.loops import Alloc, Buffer, Expr, For, Let, Reduce, Stmt, Store, Var
from velax._lang.record import Record

__all__ = ["RowsTile", "build_rows"]


class RowsTile(Record):
    """The choices that make the text of an inner-product kernel.

    Attributes:
        columns, rows: columns and rows of C in one register tile; ``exact_rows``: whether ``rows``
            is all of M.
        width: lanes of the loop over K, a multiple of a register's.
        depth: K, where it is short, 0 for one that is given at run time.
        exact_columns: whether ``columns`` divide the columns of a task.
        column_blocks: whether columns are cut between tasks.
        split: whether blocks of K are tasks with a C each.
    """

    columns: int
    rows: int
    exact_rows: bool
    width: int
    depth: int
    exact_columns: bool
    column_blocks: bool
    split: bool


def build_rows(problem: Problem, tile: RowsTile, column_block: int, column_blocks: int, k_block: int, k_blocks: int):
    """Statements over tasks ``[LO, HI)`` and the extents that they ask for."""
    return _Rows(problem, tile, column_block, column_blocks, k_block, k_blocks).build()


class _Rows:
    def __init__(self, problem: Problem, tile: RowsTile, column_block, column_blocks, k_block, k_blocks):
        self.problem, self.tile = problem, tile
        self.column_block, self.column_blocks, self.k_block, self.k_blocks = (
            column_block,
            column_blocks,
            k_block,
            k_blocks,
        )
        spec = self.spec = problem.spec
        self.acc_dtype = accumulator(spec.dtype)
        self.parts = 2 if spec.dtype in COMPLEX_PART else 1
        self.extents = Extents()

    def build(self) -> tuple[list[Stmt], list[int]]:
        spec, tile = self.spec, self.tile
        size, stride = self.extents.size, self.extents.stride
        m, n = size(spec.size("m")), size(spec.size("n"))
        self.m_dims = [(size(d.extent), stride(d.a)) for d in spec.m]
        self.n_dims = [(size(d.extent), stride(d.b)) for d in spec.n]
        k_dims = [(lb.c(d.extent) if tile.depth else size(d.extent), stride(d.a), stride(d.b)) for d in spec.k]
        batch_dims = [(size(d.extent), stride(d.a), stride(d.b)) for d in spec.batch]
        a_at, b_at = self.extents.offset(spec.a_offset), self.extents.offset(spec.b_offset)
        task = Var("task")
        body: list[Stmt] = []
        radix = [size(self.k_blocks)] if tile.split else []
        radix += [extent for extent, _, _ in batch_dims]
        if tile.column_blocks:
            radix.append(size(self.column_blocks))
        digits = decode(task, radix, body, "part")
        split = digits.pop(0) if tile.split else None
        column0, column1 = lb.c(0), n
        if tile.column_blocks:
            block = size(self.column_block)
            column0 = lb.mul(digits.pop(), block)
            column1 = lb.min_(lb.add(column0, block), n)
        number = lb.c(0)
        for index, (extent, sa, sb) in zip(digits, batch_dims):
            a_at, b_at = lb.add(a_at, lb.mul(index, sa)), lb.add(b_at, lb.mul(index, sb))
            number = lb.add(lb.mul(number, extent), index)
        if split is None:
            self.at = result_at(spec, self.extents, digits, m, n)
        else:
            number = lb.add(lb.mul(split, size(math.prod(d.extent for d in spec.batch))), number)
            self.copy_at = lb.mul(number, lb.mul(m, n))
        self.a_at, self.b_at, self.m, self.n = a_at, b_at, m, n
        self.column_end = column1
        ranges = [(lb.c(0), extent) for extent, _, _ in k_dims]
        if split is not None:
            start = lb.mul(split, size(self.k_block))
            ranges[0] = (start, lb.min_(lb.add(start, size(self.k_block)), k_dims[0][0]))
        column, row = Var("column"), Var("row")
        if tile.exact_rows:
            inner = self._tile(column, lb.c(0), k_dims, ranges)
        else:
            inner = [For(row, lb.c(0), m, tuple(self._tile(column, row, k_dims, ranges)), step=tile.rows)]
        body.append(For(column, column0, column1, tuple(inner), step=tile.columns))
        return [For(task, loops.LO, loops.HI, tuple(body))], self.extents.values

    def _row(self, row: Expr, i: Expr) -> Expr:
        row = lb.add(row, i)
        return row if self.tile.exact_rows else lb.min_(row, lb.sub(self.m, 1))

    def _column(self, column: Expr, j: Expr) -> Expr:
        column = lb.add(column, j)
        return column if self.tile.exact_columns else lb.min_(column, lb.sub(self.column_end, 1))

    def _read(self, buffer: Buffer, index: Expr, dtype: str, body: list[Stmt]) -> list[Expr]:
        is_complex = dtype in COMPLEX_PART
        index = lb.mul(index, 2) if is_complex else index
        values = []
        for k in range(1 + is_complex):
            var = Var("x", self.acc_dtype)
            body.append(Let(var, lb.cast(self.acc_dtype, lb.load(buffer, lb.add(index, k)))))
            values.append(var)
        return values

    def _tile(self, column: Expr, row: Expr, k_dims, ranges) -> list[Stmt]:
        """One tile of C: allocate, accumulate along K, store."""
        tile, spec, parts = self.tile, self.spec, self.parts
        count = tile.columns * tile.rows * parts
        acc = Buffer("acc", self.acc_dtype, "register", count)
        k = Var("k")
        zero = For(k, lb.c(0), lb.c(count), (Store(acc, k, lb.c(0, self.acc_dtype)),), "unrolled")
        variables = [Var("k") for _ in k_dims]
        a, b = self.a_at, self.b_at
        for var, (_, sa, sb) in zip(variables, k_dims):
            a, b = lb.add(a, lb.mul(var, sa)), lb.add(b, lb.mul(var, sb))
        body: list[Stmt] = []
        rows = []
        for i in range(tile.rows):
            digits = decode(self._row(row, lb.c(i)), [extent for extent, _ in self.m_dims], body, "m")
            at = lb.add_n(a, *(lb.mul(digit, s) for digit, (_, s) in zip(digits, self.m_dims)))
            rows.append(self._read(self.problem.a, at, spec.a_dtype, body))
        for j in range(tile.columns):
            digits = decode(self._column(column, lb.c(j)), [extent for extent, _ in self.n_dims], body, "n")
            at = lb.add_n(b, *(lb.mul(digit, s) for digit, (_, s) in zip(digits, self.n_dims)))
            y = self._read(self.problem.b, at, spec.b_dtype, body)
            for i, x in enumerate(rows):
                for part, value in enumerate(self._product(x, y)):
                    body.append(
                        Reduce(
                            "or" if spec.dtype == "bool" else "add",
                            acc,
                            lb.c((j * tile.rows + i) * parts + part),
                            value,
                        )
                    )
        for position, (var, (start, stop)) in reversed(list(enumerate(zip(variables, ranges)))):
            vector = position == len(variables) - 1 and tile.width > 1
            if vector:
                body = [For(var, start, stop, tuple(body), "vector", tile.width)]
            else:
                body = [For(var, start, stop, tuple(body), "unrolled" if 0 < tile.depth < 4 else "serial")]
        return [Alloc(acc), zero, *body, *self._store(acc, column, row)]

    def _product(self, x: list[Expr], y: list[Expr]) -> list[Expr]:
        if self.spec.dtype == "bool":
            return [lb.and_(x[0], y[0])]
        if self.parts == 1:
            return [lb.mul(x[0], y[0])]
        if len(x) == len(y) == 1:
            return [lb.mul(x[0], y[0]), lb.c(0, self.acc_dtype)]
        if len(x) == 1:
            return [lb.mul(x[0], y[0]), lb.mul(x[0], y[1])]
        if len(y) == 1:
            return [lb.mul(x[0], y[0]), lb.mul(x[1], y[0])]
        return [
            lb.sub(lb.mul(x[0], y[0]), lb.mul(x[1], y[1])),
            lb.add(lb.mul(x[0], y[1]), lb.mul(x[1], y[0])),
        ]

    def _store(self, acc: Buffer, column: Expr, row: Expr) -> list[Stmt]:
        tile, parts, epilogue = self.tile, self.parts, self.problem.epilogue
        to = self.problem.sums if tile.split else self.problem.c
        if epilogue is not None and not tile.split:
            return self._staged(acc, column, row)
        result: list[Stmt] = []
        for j in range(tile.columns):
            for i in range(tile.rows):
                place = self._row(row, lb.c(i)), self._column(column, lb.c(j))
                if tile.split:
                    linear = lb.add_n(self.copy_at, lb.mul(place[0], self.n), place[1])
                else:
                    linear = self.at(*place).linear
                for part in range(parts):
                    value = lb.cast(to.dtype, lb.load(acc, lb.c((j * tile.rows + i) * parts + part)))
                    result.append(Store(to, lb.add(lb.mul(linear, parts), part), value))
        return result

    def _staged(self, acc: Buffer, column: Expr, row: Expr) -> list[Stmt]:
        """Results on the stack, then loops that hold the epilogue once."""
        tile, parts = self.tile, self.parts
        staged = Buffer("staged", self.acc_dtype, "stack", acc.size)
        k, i, j = Var("i"), Var("i"), Var("j")
        put = For(k, lb.c(0), lb.c(acc.size), (Store(staged, k, lb.load(acc, k)),), "unrolled")
        rows = lb.c(tile.rows) if tile.exact_rows else lb.min_(tile.rows, lb.sub(self.m, row))
        columns = lb.c(tile.columns)
        if not tile.exact_columns:
            columns = lb.min_(columns, lb.sub(self.column_end, column))
        r, q = lb.add(row, i), lb.add(column, j)
        at = self.at(r, q)
        body: list[Stmt] = []
        values = []
        for part in range(parts):
            x = lb.load(staged, lb.add(lb.mul(lb.add(lb.mul(j, tile.rows), i), parts), part))
            var = Var("value", COMPLEX_PART.get(self.spec.dtype, self.spec.dtype))
            body.append(Let(var, lb.cast(var.dtype, x)))
            values.append(var)
        body += self.problem.epilogue(values[0] if parts == 1 else tuple(values), at)
        return [Alloc(staged), put, For(i, lb.c(0), rows, (For(j, lb.c(0), columns, tuple(body)),))]
