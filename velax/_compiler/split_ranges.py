"""Cuts vector loops where a comparison of their variable with a constant changes its answer.

A roll, a pad or a concatenation along the lanes is a choice between loads whose indexes are
clamped, lane by lane: a gather and a blend for every element, though the choice differs at the
borders alone. Before::

    for j in 0 .. 64 vector 64:
      y[j] = select(lt(j, 63), x[add(min(j, 62), 1)], x[0])

after::

    for j in 0 .. 63 vector 64:
      y[j] = x[add(j, 1)]
    for j in 63 .. 64 serial:
      y[j] = x[0]

It runs once on the statements of a kernel, which is known by its text from before. Legality: pieces run in
order, and the iterations of a vector loop are independent, so any order of them means the same; a reduction
into a buffer outside the loop is one over all pieces (of floats, in another order, as `Reduce` allows).
"""

from __future__ import annotations

import itertools

from velax._ir import loops_build as lb
from velax._ir.loops import (
    Alloc,
    Binary,
    Buffer,
    Cast,
    Const,
    Expr,
    Fma,
    For,
    Let,
    Load,
    Reduce,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)
from velax._ir.loops_walk import expressions, leaves_first

__all__ = ["split_ranges"]

#: a loop with more borders, or shorter than this, stays whole
MOST_CUTS = 4
LEAST_EXTENT = 16
#: a piece of fewer iterations runs one after the other
SHORT = 3

_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne", "min": "min", "max": "max"}
_BUILD = {
    "add": lb.add, "sub": lb.sub, "mul": lb.mul, "and": lb.and_, "or": lb.or_, "min": lb.min_, "max": lb.max_,
    "xor": lb.xor,
}  # fmt: skip


def split_ranges(stmts: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """``stmts`` with every vector loop cut that is better cut."""
    result: list[Stmt] = []
    for s in stmts:
        kind = type(s)
        if kind is For:
            pieces = _pieces(s) if s.kind == "vector" else None
            if pieces is not None:
                result += pieces
                continue
            body = split_ranges(s.body)
            same = all(a is b for a, b in zip(body, s.body)) and len(body) == len(s.body)
            result.append(s if same else For(s.var, s.start, s.stop, body, s.kind, s.width, s.step))
        else:
            result.append(s)
    return tuple(result)


def _pieces(loop: For) -> list[Stmt] | None:
    """The pieces of ``loop``, or None to leave it."""
    if type(loop.start) is not Const or type(loop.stop) is not Const:
        return None
    start, stop = loop.start.value, loop.stop.value
    if stop - start < LEAST_EXTENT or any(type(s) not in (Let, Store, Reduce, Alloc) for s in loop.body):
        return None
    order = leaves_first([e for s in loop.body for e in expressions(s)])
    cuts, clamped = set(), set()
    for e in order:
        if type(e) is Binary:
            found = _compared(e, loop.var)
            if found is not None:
                op, border = found
                if op in ("min", "max"):
                    clamped.add(e)
                cuts.update(_borders(op, border))
    cuts = sorted(c for c in cuts if start < c < stop)
    if not cuts or len(cuts) > MOST_CUTS or not _guards_loads(order, clamped):
        return None
    edges = [start, *cuts, stop]
    pieces: list[Stmt] = []
    for low, high in itertools.pairwise(edges):
        pieces.append(_Piece(loop, low, high).loop())
    return pieces


def _offset(e: Expr, var: Var) -> int | None:
    """``k`` where ``e`` is ``var + k``."""
    if e is var:
        return 0
    if type(e) is Binary and e.op in ("add", "sub") and e.x is var and type(e.y) is Const:
        return e.y.value if e.op == "add" else -e.y.value
    return None


def _compared(e: Binary, var: Var) -> tuple[str, int] | None:
    """(operation, border) where ``e`` relates ``var`` to a constant: ``var op border``."""
    if e.op not in _MIRRORED or e.x.dtype != "i64":
        return None
    if type(e.y) is Const:
        k = _offset(e.x, var)
        return None if k is None else (e.op, e.y.value - k)
    if type(e.x) is Const:
        k = _offset(e.y, var)
        return None if k is None else (_MIRRORED[e.op], e.x.value - k)
    return None


def _borders(op: str, border: int) -> tuple[int, ...]:
    """The first values of ``var`` from which on ``var op border`` has another answer."""
    if op in ("lt", "ge"):
        return (border,)
    if op in ("le", "gt"):
        return (border + 1,)
    if op in ("eq", "ne"):
        return (border, border + 1)
    return ()  # of min and max, either side may be taken at the border: comparisons say where it matters


def _guards_loads(order: list[Expr], clamped: set[Expr]) -> bool:
    """Whether an index of a load is clamped, so that its lanes are no neighbours."""
    depends = set(clamped)
    for e in order:
        if type(e) is Binary and (e.x in depends or e.y in depends):
            depends.add(e)
        elif type(e) is Load and e.index in depends:
            return True
    return False


class _Piece:
    """The iterations ``low .. high - 1`` of a loop."""

    def __init__(self, loop: For, low: int, high: int):
        self.source, self.low, self.high = loop, low, high
        self.var = Var(loop.var.name)
        self.memo: dict[Expr, Expr] = {loop.var: self.var}
        self.buffers: dict[Buffer, Buffer] = {}

    def loop(self) -> For:
        body: list[Stmt] = []
        for s in self.source.body:
            kind = type(s)
            if kind is Alloc:
                b = s.buffer
                self.buffers[b] = Buffer(b.name, b.dtype, b.space, b.size)
                body.append(Alloc(self.buffers[b]))
            elif kind is Let:
                value = self.expr(s.value)
                self.memo[s.var] = Var(s.var.name, s.var.dtype)
                body.append(Let(self.memo[s.var], value))
            else:
                target, index, value = self.buffers.get(s.buffer, s.buffer), self.expr(s.index), self.expr(s.value)
                body.append(Store(target, index, value) if kind is Store else Reduce(s.op, target, index, value))
        n = self.high - self.low
        if n <= SHORT:
            return For(self.var, lb.c(self.low), lb.c(self.high), tuple(body))
        width = self.source.width
        while width > 2 and width >= 2 * n:
            width //= 2
        return For(self.var, lb.c(self.low), lb.c(self.high), tuple(body), "vector", width)

    def expr(self, root: Expr) -> Expr:
        for e in leaves_first([root], self.memo):
            self.memo[e] = self._rebuilt(e)
        return self.memo[root]

    def _rebuilt(self, e: Expr) -> Expr:
        kind, memo = type(e), self.memo
        if kind is Binary:
            found = _compared(e, self.source.var)
            decided = None if found is None else self._decided(*found)
            x, y = memo[e.x], memo[e.y]
            if decided is not None:
                if e.op not in ("min", "max"):
                    return lb.c(decided, "bool")
                first = decided if type(e.y) is Const else not decided
                return x if first else y
            if x is e.x and y is e.y:
                return e
            build = _BUILD.get(e.op)
            return build(x, y) if build is not None and x.dtype not in ("f32", "f64") else Binary(e.op, x, y)
        if kind is Load:
            buffer, index = self.buffers.get(e.buffer, e.buffer), memo[e.index]
            return e if buffer is e.buffer and index is e.index else Load(buffer, index)
        if kind is Select:
            cond = memo[e.cond]
            if type(cond) is Const:
                return memo[e.x] if cond.value else memo[e.y]
            return e if self._same(e.cond, e.x, e.y) else Select(cond, memo[e.x], memo[e.y])
        if kind is Fma:
            return e if self._same(e.x, e.y, e.z) else Fma(memo[e.x], memo[e.y], memo[e.z])
        if kind is Unary:
            x = memo[e.x]
            return e if x is e.x else lb.not_(x) if e.op == "not" else Unary(e.op, x)
        if hasattr(e, "x"):
            x = memo[e.x]
            if x is e.x:
                return e
            return lb.cast(e.dtype, x) if kind is Cast else kind(e.dtype, x)
        return e

    def _same(self, *parts: Expr) -> bool:
        return all(self.memo[p] is p for p in parts)

    def _decided(self, op: str, border: int) -> bool | None:
        """Whether ``var op border`` holds in the whole piece (for ``min`` and ``max``: whether ``var`` is the
        one), None if that differs.
        """
        first, last = self.low, self.high - 1
        if op in ("lt", "min"):
            return True if last < border or (op == "min" and last <= border) else False if first >= border else None
        if op in ("gt", "max"):
            return True if first > border or (op == "max" and first >= border) else False if last <= border else None
        if op == "le":
            return True if last <= border else False if first > border else None
        if op == "ge":
            return True if first >= border else False if last < border else None
        inside = first <= border <= last
        if inside and first != last:
            return None
        return inside == (op == "eq")
