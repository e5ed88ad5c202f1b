"""The canonical text of a kernel: what caches know it by."""

from __future__ import annotations

import itertools

from velax._ir.loops import (
    HI,
    LO,
    Alloc,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Expr,
    Extent,
    Fma,
    For,
    If,
    Kernel,
    Let,
    Load,
    Reduce,
    Select,
    Store,
    Unary,
    While,
)
from velax._ir.loops_walk import operands

__all__ = ["canonical_text"]


def canonical_text(kernel: Kernel) -> str:
    """A text equal for kernels that differ only in names and in how equal expressions are shared: what caches hash.

    Variables, buffers and expressions are numbered in order of appearance. The kernel's own name is left out.
    """
    lines = [f"{kernel.n_extents} {sorted(kernel.attributes.items())}"]
    put = lines.append
    #: the token of each expression object, and of each line that defines an expression
    tokens: dict[object, str] = {LO: "lo", HI: "hi"}
    defined: dict[str, str] = {}
    buffers: dict[Buffer, str] = {}
    numbers = itertools.count()
    for buffer in kernel.params:
        buffers[buffer] = f"p{len(buffers)}"
        put(f"{buffer.dtype} {buffer.size}")

    def token(e: Expr) -> str:
        found = tokens.get(e)
        if found is not None:
            return found
        kind = type(e)
        if kind is Binary:
            x, y = e.x, e.y
            line = f"{e.op} {tokens.get(x) or token(x)} {tokens.get(y) or token(y)}"
        elif kind is Const:
            found = tokens[e] = f"{e.value!r}:{e.dtype}"
            return found
        elif kind is Load:
            line = f"[] {buffers[e.buffer]} {token(e.index)}"
        elif kind is Unary:
            line = f"{e.op} {token(e.x)}"
        elif kind is Fma:
            line = f"fma {token(e.x)} {token(e.y)} {token(e.z)}"
        elif kind is Select:
            line = f"select {token(e.cond)} {token(e.x)} {token(e.y)}"
        elif kind is Cast:
            line = f"cast {e.dtype} {token(e.x)}"
        elif kind is Bitcast:
            line = f"bits {e.dtype} {token(e.x)}"
        elif kind is Extent:
            found = tokens[e] = f"n{e.k}"
            return found
        else:
            raise ValueError(f"kernel {kernel.name}: variable {e.name} is used outside the block that binds it")
        found = defined.get(line)
        if found is None:
            found = defined[line] = f"%{len(defined)}"
            put(line)
        tokens[e] = found
        return found

    def prepare(e: Expr) -> str:
        """`token` where ``e`` may be nested deeper than Python's stack."""
        stack = [e]
        while stack:
            top = stack[-1]
            missing = [x for x in operands(top) if x not in tokens]
            if missing:
                stack.extend(missing)
            else:
                stack.pop()
                token(top)
        return tokens[e]

    def name(e: Expr) -> str:
        try:
            return tokens.get(e) or token(e)
        except RecursionError:
            return prepare(e)

    def block(stmts) -> None:
        for s in stmts:
            kind = type(s)
            if kind is Store:
                put(f"{buffers[s.buffer]} {name(s.index)} = {name(s.value)}")
            elif kind is Let:
                value = name(s.value)
                tokens[s.var] = f"v{next(numbers)}"
                put(f"{tokens[s.var]} let {value}")
            elif kind is Reduce:
                put(f"{buffers[s.buffer]} {name(s.index)} {s.op}= {name(s.value)}")
            elif kind is For:
                start, stop = name(s.start), name(s.stop)
                tokens[s.var] = f"v{next(numbers)}"
                put(f"{tokens[s.var]} for {start} {stop} {s.step} {s.kind} {s.width}")
                block(s.body)
                put("end")
            elif kind is Alloc:
                buffers[s.buffer] = f"p{len(buffers)}"
                put(f"{buffers[s.buffer]} {s.buffer.space} {s.buffer.dtype} {s.buffer.size}")
            elif kind is If:
                put(f"if {name(s.cond)}")
                block(s.then)
                put("else")
                block(s.orelse)
                put("end")
            elif kind is While:
                put("while")
                block(s.cond_block)
                put(f"test {name(s.cond)}")
                block(s.body)
                put("end")
            else:
                raise TypeError(f"{s!r} is not a statement of the loop IR")

    block(kernel.body)
    return "\n".join(lines)
