"""Walks over the loop IR: the parts of expressions and statements."""

from __future__ import annotations

from collections.abc import Container, Iterable

from velax._ir.loops import (
    Binary,
    Bitcast,
    Cast,
    Expr,
    Fma,
    For,
    If,
    Let,
    Load,
    Reduce,
    Select,
    Stmt,
    Store,
    Unary,
    While,
)

__all__ = ["blocks", "expressions", "leaves_first", "operands"]


def operands(e: Expr) -> tuple[Expr, ...]:
    """The expressions that ``e`` is made of."""
    kind = type(e)
    if kind is Binary:
        return e.x, e.y
    if kind is Load:
        return (e.index,)
    if kind is Unary or kind is Cast or kind is Bitcast:
        return (e.x,)
    if kind is Fma:
        return e.x, e.y, e.z
    return (e.cond, e.x, e.y) if kind is Select else ()


def expressions(s: Stmt) -> tuple[Expr, ...]:
    """The expressions that stand in ``s`` itself; those in its blocks are not among them."""
    kind = type(s)
    if kind is Let:
        return (s.value,)
    if kind is Store or kind is Reduce:
        return s.index, s.value
    if kind is For:
        return s.start, s.stop
    return (s.cond,) if kind is If or kind is While else ()


def blocks(s: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    """The blocks of ``s``."""
    kind = type(s)
    if kind is For:
        return (s.body,)
    if kind is If:
        return s.then, s.orelse
    return (s.cond_block, s.body) if kind is While else ()


def leaves_first(roots: Iterable[Expr], known: Container[Expr] = ()) -> list[Expr]:
    """``roots`` and all that they are made of, operands before what uses them, each once; nothing that is ``known``."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack = [(root, False) for root in reversed(tuple(roots))]
    while stack:
        e, ready = stack.pop()
        if ready:
            order.append(e)
        elif e not in seen and e not in known:
            seen.add(e)
            stack.append((e, True))
            stack.extend((x, False) for x in operands(e))
    return order
