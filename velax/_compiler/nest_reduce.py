"""The parts of a reduction: its neutral element, accumulators, one step, and the finished value."""

from __future__ import annotations

from velax._compiler import nest_map
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART, Node

__all__ = ["Columns", "accumulate", "accumulator", "accumulator_dtype", "bool_fn", "finish", "reduction_identity"]

_WIDE_ACCUMULATOR = {"f16": "f32", "bf16": "f32", "f8e4m3fn": "f32", "f8e5m2": "f32"}


def reduction_identity(fn: str, dtype: str):
    """The neutral element of a reduction, as a Python value."""
    if fn in ("add", "or", "xor"):
        return 0
    if fn == "mul":
        return 1
    if dtype == "bool":
        return fn in ("and", "min")
    if dtype in loops.FLOATS:
        from velax._ir.floats import FORMATS  # the largest floats are needed here alone

        form = FORMATS[dtype]
        greatest = float("inf") if form.has_infinity else form.largest
        return greatest if fn == "min" else -greatest
    signed, bits = dtype in loops.SIGNED, loops.WIDTH[dtype]
    if fn == "and":
        return -1 if signed else (1 << bits) - 1
    if fn == "min":
        return (1 << bits - signed) - 1
    return -(1 << bits - 1) if signed else 0


def bool_fn(fn: str, dtype: str) -> str:
    return {"min": "and", "mul": "and", "max": "or", "add": "or"}.get(fn, fn) if dtype == "bool" else fn


def accumulator_dtype(root: Node) -> str:
    part = COMPLEX_PART.get(root.dtype, root.dtype)
    return _WIDE_ACCUMULATOR.get(part, part) if root.attrs["fn"] in ("add", "mul") else part


def _starts(root: Node) -> tuple:
    """The neutral element for each real accumulator."""
    fn, dtype = root.attrs["fn"], accumulator_dtype(root)
    if root.dtype in COMPLEX_PART:
        return nest_map.constant(reduction_identity(fn, root.dtype), root.dtype)
    return (lb.c(reduction_identity(fn, dtype), dtype),)


def accumulator(root: Node):
    """Declare and initialise the accumulator(s) of a reduction: (statements, buffers)."""
    dtype = accumulator_dtype(root)
    starts = _starts(root)
    buffers = [loops.Buffer("acc", dtype, "register", 1) for _ in starts]
    statements: list[loops.Stmt] = []
    for buffer, start in zip(buffers, starts):
        statements += [loops.Alloc(buffer), loops.Store(buffer, lb.c(0), start)]
    return statements, buffers


def accumulate(root: Node, buffers, value, scalar: bool) -> list[loops.Stmt]:
    fn = bool_fn(root.attrs["fn"], root.dtype)
    values = value if type(value) is tuple else (value,)
    if scalar:
        current = tuple(lb.load(b) for b in buffers)
        old = current if root.dtype in COMPLEX_PART else current[0]
        new = nest_map.lower(fn, [old, value], root.dtype)
        new = new if type(new) is tuple else (new,)
        names = [loops.Var("n", b.dtype) for b in buffers]
        return [loops.Let(n, v) for n, v in zip(names, new)] + [
            loops.Store(b, lb.c(0), n) for b, n in zip(buffers, names)
        ]
    return [loops.Reduce(fn, b, lb.c(0), lb.cast(b.dtype, v)) for b, v in zip(buffers, values)]


def finish(root: Node, buffers):
    """The value of a finished reduction (variables bound by the returned statements)."""
    part = COMPLEX_PART.get(root.dtype, root.dtype)
    lets, names = [], []
    for buffer in buffers:
        name = loops.Var("s", part)
        lets.append(loops.Let(name, lb.cast(part, lb.load(buffer))))
        names.append(name)
    return (tuple(names) if root.dtype in COMPLEX_PART else names[0]), lets


class Columns:
    """Accumulators of one reduction for ``count`` columns, on the stack."""

    def __init__(self, root: Node, count: int):
        self.root = root
        dtype = accumulator_dtype(root)
        parts = 2 if root.dtype in COMPLEX_PART else 1
        self.buffers = [loops.Buffer("columns", dtype, "stack", count) for _ in range(parts)]

    def declare(self) -> list[loops.Stmt]:
        return [loops.Alloc(buffer) for buffer in self.buffers]

    def start(self, at) -> list[loops.Stmt]:
        """Store the neutral element at column ``at``."""
        return [loops.Store(b, at, start) for b, start in zip(self.buffers, _starts(self.root))]

    def step(self, at, value) -> list[loops.Stmt]:
        """Take ``value`` into column ``at``."""
        fn = bool_fn(self.root.attrs["fn"], self.root.dtype)
        part = self.buffers[0].dtype
        values = value if type(value) is tuple else (value,)
        return [
            loops.Store(b, at, nest_map.lower(fn, [lb.load(b, at), lb.cast(part, v)], part))
            for b, v in zip(self.buffers, values)
        ]

    def finish(self, at):
        """Statements that bind the finished value of column ``at``, and that value."""
        part = COMPLEX_PART.get(self.root.dtype, self.root.dtype)
        names = [loops.Var("s", part) for _ in self.buffers]
        lets = [loops.Let(name, lb.cast(part, lb.load(b, at))) for name, b in zip(names, self.buffers)]
        return lets, tuple(names) if self.root.dtype in COMPLEX_PART else names[0]
