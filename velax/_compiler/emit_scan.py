"""Questions that emission asks about a kernel before it writes it."""

from __future__ import annotations

from velax._compiler.emit_memory import value_operands
from velax._ir.loops import Alloc, Binary, Buffer, Const, Expr, Extent, For, If, Let, Load, Reduce, While

__all__ = ["constant_offset", "loaded_buffers", "operation_count", "outer_reductions"]


def constant_offset(e: Expr, base: Expr) -> int | None:
    """``e - base`` where both are one expression plus a constant."""
    if e is base:
        return 0
    x, a = (e.x, e.y.value) if type(e) is Binary and e.op == "add" and type(e.y) is Const else (e, 0)
    y, b = (base.x, base.y.value) if type(base) is Binary and base.op == "add" and type(base.y) is Const else (base, 0)
    return a - b if _equal(x, y) else None


def _equal(x: Expr, y: Expr) -> bool:
    """Whether two indexes are built alike from the same variables."""
    if x is y:
        return True
    if type(x) is not type(y):
        return False
    if type(x) is Const:
        return x.value == y.value and x.dtype == y.dtype
    if type(x) is Binary:
        return x.op == y.op and _equal(x.x, y.x) and _equal(x.y, y.y)
    return type(x) is Extent and x.k == y.k


def loaded_buffers(stmts) -> set[Buffer]:
    """Buffers that any expression of ``stmts`` reads."""
    found: set[Buffer] = set()
    seen: set[Expr] = set()

    def walk(*roots: Expr) -> None:
        stack = list(roots)
        while stack:
            e = stack.pop()
            if e not in seen:
                seen.add(e)
                if type(e) is Load:
                    found.add(e.buffer)
                    stack.append(e.index)
                else:
                    stack.extend(value_operands(e))

    def block(stmts) -> None:
        for s in stmts:
            kind = type(s)
            if kind is For:
                walk(s.start, s.stop)
                block(s.body)
            elif kind is If:
                walk(s.cond)
                block(s.then)
                block(s.orelse)
            elif kind is While:
                block(s.cond_block)
                walk(s.cond)
                block(s.body)
            elif kind is Let:
                walk(s.value)
            elif kind is not Alloc:
                walk(s.index, s.value)
                if kind is Reduce:
                    found.add(s.buffer)

    block(stmts)
    return found


def operation_count(stmts) -> int:
    """Distinct operations in ``stmts``, those of unrolled loops once for each copy."""
    count, seen = 0, set()
    for s in stmts:
        kind = type(s)
        if kind is For:
            copies = 1
            if s.kind == "unrolled":
                copies = len(range(s.start.value, s.stop.value, s.step))
            count += copies * operation_count(s.body)
            continue
        if kind is If:
            count += operation_count(s.then) + operation_count(s.orelse)
            continue
        if kind is While:
            count += operation_count(s.cond_block) + operation_count(s.body)
            continue
        stack = [s.value] if kind is not Alloc else []
        while stack:
            e = stack.pop()
            if e not in seen:
                seen.add(e)
                parts = value_operands(e)
                count += bool(parts) or type(e) is Load
                stack.extend(parts)
    return count


def outer_reductions(stmts, local: frozenset = frozenset()):
    """The reductions in ``stmts`` into buffers allocated outside."""
    local = local | {s.buffer for s in stmts if type(s) is Alloc}
    for s in stmts:
        kind = type(s)
        if kind is Reduce:
            if s.buffer not in local:
                yield s
        elif kind is For:
            yield from outer_reductions(s.body, local)
        elif kind is If:
            yield from outer_reductions(s.then, local)
            yield from outer_reductions(s.orelse, local)
        elif kind is While:
            yield from outer_reductions((*s.cond_block, *s.body), local)
