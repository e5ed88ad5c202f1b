"""Rewrites a vector loop whose width is no power of two into one of power-of-two parts.

LLVM takes vectors of 48 elements apart into scalars, but three registers of 16 are what a GEMM microkernel
wants. Before::

    for j in 0 .. n vector 48:
      let t: f32 = x[j]
      acc[0] = fma(t, a[k], acc[0])

after, with the accumulators of the parts side by side::

    for base in 0 .. n / 48 * 48 step 48 serial:
      for lane in 0 .. 16 vector 16:
        let t_0: f32 = x[base + lane]
        let t_1: f32 = x[base + lane + 16]
        let t_2: f32 = x[base + lane + 32]
        acc[0] = fma(t_0, a[k], acc[0])
        acc[1] = ...
    for j in n / 48 * 48 .. n vector 16:
      (the body as it was)

It runs while a kernel is emitted, before the loop is written; bodies with control flow that differs from lane
to lane, or with reductions into outer buffers, are left to the caller.
"""

from __future__ import annotations

from velax._ir.loops import (
    Alloc,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Expr,
    For,
    Let,
    Load,
    Stmt,
    Store,
    Unary,
    Var,
)
from velax._ir.loops_build import add, c, div, max_, mul, sub
from velax._ir.loops_walk import operands

__all__ = ["split_lanes"]

#: a part narrower than this is not worth a vector
_NARROWEST = 4


def split_lanes(loop: For) -> tuple[Stmt, ...] | None:
    """Statements equivalent to the vector loop ``loop``, all widths powers of two; None if its body is not of
    the simple form.
    """
    part = loop.width & -loop.width
    if part < _NARROWEST or not _simple(loop.body):
        return None
    count = loop.width // part
    base, lane = Var(f"{loop.var.name}_base"), Var(f"{loop.var.name}_lane")
    span = max_(sub(loop.stop, loop.start), 0)
    middle = add(loop.start, mul(div(span, loop.width), loop.width))
    parts = _Parts(loop.var, [add(add(base, lane), k * part) for k in range(count)])
    body = parts.block(loop.body)
    if body is None:
        return None
    whole = For(lane, c(0), c(part), body, "vector", part)
    return (
        For(base, loop.start, middle, (whole,), "serial", 1, loop.width),
        For(loop.var, middle, loop.stop, loop.body, "vector", part),
    )


def _simple(stmts) -> bool:
    for s in stmts:
        kind = type(s)
        if kind is Alloc:
            if s.buffer.space != "register":
                return False
        elif kind is For:
            if not _simple(s.body):
                return False
        elif kind is not Let and kind is not Store:
            return False
    return True


class _Parts:
    """The copies of a body, one for each value of the loop variable in ``values``."""

    def __init__(self, var: Var, values: list[Expr]):
        self.count = len(values)
        self.memos: list[dict[Expr, Expr]] = [{var: value} for value in values]
        self.buffers: dict[Buffer, Buffer] = {}

    def block(self, stmts) -> tuple[Stmt, ...] | None:
        made: list[Stmt] = []
        for s in stmts:
            kind = type(s)
            if kind is Alloc:
                wide = Buffer(s.buffer.name, s.buffer.dtype, "register", s.buffer.size * self.count)
                self.buffers[s.buffer] = wide
                made.append(Alloc(wide))
            elif kind is Let:
                for k, memo in enumerate(self.memos):
                    var = Var(f"{s.var.name}_{k}", s.var.dtype)
                    made.append(Let(var, self.expr(s.value, k)))
                    memo[s.var] = var
            elif kind is Store:
                for k in range(self.count):
                    buffer, index = self.place(s.buffer, self.expr(s.index, k), k)
                    made.append(Store(buffer, index, self.expr(s.value, k)))
            else:
                if self.expr(s.start, 0) is not s.start or self.expr(s.stop, 0) is not s.stop:
                    return None
                body = self.block(s.body)
                if body is None:
                    return None
                made.append(For(s.var, s.start, s.stop, body, s.kind, s.width, s.step))
        return tuple(made)

    def place(self, buffer: Buffer, index: Expr, k: int) -> tuple[Buffer, Expr]:
        wide = self.buffers.get(buffer)
        return (buffer, index) if wide is None else (wide, add(mul(index, self.count), k))

    def expr(self, root: Expr, k: int) -> Expr:
        """``root`` in copy ``k``; what does not depend on the lane stays the same object."""
        memo = self.memos[k]
        stack = [root]
        while stack:
            e = stack[-1]
            if e in memo:
                stack.pop()
                continue
            parts = operands(e)
            missing = [x for x in parts if x not in memo]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            memo[e] = self.rebuilt(e, [memo[x] for x in parts], parts, k)
        return memo[root]

    def rebuilt(self, e: Expr, new: list[Expr], old: tuple[Expr, ...], k: int) -> Expr:
        kind = type(e)
        if kind is Load:
            buffer, index = self.place(e.buffer, new[0], k)
            return e if buffer is e.buffer and index is e.index else Load(buffer, index)
        if all(a is b for a, b in zip(new, old)):
            return e
        if kind is Binary:
            return Binary(e.op, *new)
        if kind is Unary:
            return Unary(e.op, *new)
        if kind is Cast or kind is Bitcast:
            return kind(e.dtype, *new)
        return kind(*new)
