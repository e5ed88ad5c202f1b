"""A pure-Python interpreter of the loop IR: the oracle that generated code is compared with.

It runs vector loops one lane after the other, computes integers with Python's, and floats exactly (one
rounding an operation), so its results are those that the semantics in `velax._ir.loops` state. One freedom
remains: a float ``Reduce`` (``add``, ``mul``) over a vector loop may be reassociated by other consumers; here
partial results are combined in order of iteration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import ml_dtypes
import numpy as np

from velax._ir.floats import FORMATS, round_float
from velax._ir.loops import (
    FLOATS,
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
    Var,
    While,
)
from velax._ir.loops_build import fold_binary, fold_cast, fold_unary, wrap
from velax._ir.loops_walk import leaves_first

__all__ = ["interpret", "numpy_dtype"]

_FLOATS = frozenset(FLOATS)
_NUMPY = {"bool": "bool", "f16": "float16", "f32": "float32", "f64": "float64"}
_ML_DTYPES = {"bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}


def numpy_dtype(dtype: str) -> np.dtype:
    """The NumPy dtype of a loop IR dtype (bf16 and f8 from ml_dtypes)."""
    if dtype in _ML_DTYPES:
        return np.dtype(getattr(ml_dtypes, _ML_DTYPES[dtype]))
    name = _NUMPY.get(dtype) or f"{'uint' if dtype[0] == 'u' else 'int'}{dtype[1:]}"
    return np.dtype(name)


def interpret(kernel: Kernel, buffers: Sequence[np.ndarray], extents: Sequence[int], lo: int, hi: int) -> None:
    """Run ``kernel`` on the chunk ``[lo, hi)``, changing ``buffers`` in place.

    Args:
        buffers: one 1-D array for each parameter, of its dtype (see `numpy_dtype`).
        extents: the ``n_extents`` run-time extents.

    Raises:
        IndexError: for an access outside a buffer.
        ValueError: for a read of a local element that was never written, or arguments that do not fit the kernel.

    Example:
        >>> from velax._ir.loops_build import load, add
        >>> x, i = Buffer("x", "i32"), Var("i")
        >>> body = (For(i, LO, HI, (Store(x, i, add(load(x, i), 1)),), "vector", 8),)
        >>> data = np.arange(3, dtype=np.int32)
        >>> interpret(Kernel("increment", (x,), 0, body), [data], [], 0, 3)
        >>> data
        array([1, 2, 3], dtype=int32)
    """
    if len(buffers) != len(kernel.params) or len(extents) != kernel.n_extents:
        raise ValueError(
            f"kernel {kernel.name} takes {len(kernel.params)} buffers and {kernel.n_extents} extents, "
            f"got {len(buffers)} and {len(extents)}"
        )
    for buffer, array in zip(kernel.params, buffers):
        if array.dtype != numpy_dtype(buffer.dtype) or array.ndim != 1:
            raise ValueError(
                f"buffer {buffer.name}: expected a 1-D {buffer.dtype} array, got {array.dtype}{list(array.shape)}"
            )
    _Interpreter(kernel, buffers, extents, lo, hi).block(kernel.body)


class _Interpreter:
    def __init__(self, kernel, buffers, extents, lo, hi):
        self.kernel, self.extents = kernel, extents
        self.memory: dict[Buffer, np.ndarray | list] = dict(zip(kernel.params, buffers))
        self.variables: dict[Var, object] = {LO: int(lo), HI: int(hi)}
        self.orders: dict[Expr, list[Expr]] = {}

    # Statements.

    def block(self, stmts) -> None:
        for s in stmts:
            kind = type(s)
            if kind is Let:
                self.variables[s.var] = self.value(s.value)
            elif kind is Store:
                self.write(s.buffer, *self.values(s.index, s.value))
            elif kind is Reduce:
                index, value = self.values(s.index, s.value)
                dtype = s.buffer.dtype
                old = self.read(s.buffer, index)
                self.write(s.buffer, index, _binary(s.op, dtype, old, value))
            elif kind is For:
                for k in range(self.value(s.start), self.value(s.stop), s.step):
                    self.variables[s.var] = k
                    self.block(s.body)
            elif kind is If:
                self.block(s.then if self.value(s.cond) else s.orelse)
            elif kind is While:
                while True:
                    self.block(s.cond_block)
                    if not self.value(s.cond):
                        break
                    self.block(s.body)
            elif kind is Alloc:
                self.memory[s.buffer] = [None] * s.buffer.size
            else:
                raise TypeError(f"{s!r} is not a statement of the loop IR")

    def _place(self, buffer: Buffer, index: int, verb: str):
        memory = self.memory.get(buffer)
        if memory is None:
            raise ValueError(f"kernel {self.kernel.name}: {buffer.name} is {verb} before it is allocated")
        if not 0 <= index < len(memory):
            raise IndexError(
                f"kernel {self.kernel.name}: {buffer.name}[{index}] is {verb}, but it has {len(memory)} elements"
            )
        return memory

    def read(self, buffer: Buffer, index: int):
        value = self._place(buffer, index, "read")[index]
        if value is None:
            raise ValueError(f"kernel {self.kernel.name}: {buffer.name}[{index}] is read but was never written")
        if buffer.dtype in _FLOATS:
            return float(value)
        return bool(value) if buffer.dtype == "bool" else int(value)

    def write(self, buffer: Buffer, index: int, value) -> None:
        self._place(buffer, index, "written")[index] = value

    # Expressions: evaluated leaves first, so that depth is no limit.

    def value(self, e: Expr):
        return self.values(e)[0]

    def values(self, *roots: Expr) -> list:
        """The values of expressions of one statement; a shared object is evaluated once."""
        done: dict[Expr, object] = {}
        for root in roots:
            order = self.orders.get(root)
            if order is None:
                order = self.orders[root] = leaves_first((root,))
            for e in order:
                if e not in done:
                    done[e] = self._evaluate(e, done)
        return [done[root] for root in roots]

    def _evaluate(self, e: Expr, done: dict):
        kind = type(e)
        if kind is Const:
            return round_float(float(e.value), e.dtype) if e.dtype in _FLOATS else fold_cast(e.dtype, e.value)
        if kind is Var:
            if e not in self.variables:
                raise ValueError(f"kernel {self.kernel.name}: variable {e.name} is used before it is bound")
            return self.variables[e]
        if kind is Extent:
            return int(self.extents[e.k])
        if kind is Load:
            return self.read(e.buffer, done[e.index])
        if kind is Unary:
            return _unary(e.op, e.dtype, done[e.x])
        if kind is Binary:
            return _binary(e.op, e.x.dtype, done[e.x], done[e.y])
        if kind is Fma:
            return _fma(e.dtype, done[e.x], done[e.y], done[e.z])
        if kind is Select:
            return done[e.x] if done[e.cond] else done[e.y]
        if kind is Cast:
            return _cast(e.dtype, done[e.x])
        if kind is Bitcast:
            return _bitcast(e.dtype, e.x.dtype, done[e.x])
        raise TypeError(f"{e!r} is not an expression of the loop IR")


def _unary(op: str, dtype: str, x):
    if dtype not in _FLOATS:
        return fold_unary(op, x, dtype)
    if op == "neg":
        return -x
    if op == "abs":
        return abs(x)
    if op == "sqrt":
        return math.nan if x < 0 else round_float(math.sqrt(x), dtype) if x == x else x
    if not math.isfinite(x):
        return x
    if op == "floor":
        y = math.floor(x)
    elif op == "ceil":
        y = math.ceil(x)
    elif op == "trunc":
        y = math.trunc(x)
    elif op == "rint":
        y = round(x)
    else:
        raise TypeError(f"{op} is not defined for {dtype}")
    return math.copysign(float(y), x) if y == 0 else float(y)


def _binary(op: str, dtype: str, x, y):
    if dtype not in _FLOATS:
        return fold_binary(op, x, y, dtype)
    if op == "add":
        return round_float(x + y, dtype)
    if op == "sub":
        return round_float(x - y, dtype)
    if op == "mul":
        return round_float(x * y, dtype)
    if op == "div":
        if y == 0:
            if x == 0 or x != x:
                return math.nan
            return round_float(math.copysign(math.inf, x) * math.copysign(1.0, y), dtype)
        return round_float(x / y, dtype)
    if op == "rem":
        if math.isinf(x) or y == 0 or x != x or y != y:
            return math.nan
        return math.fmod(x, y)
    if op in ("min", "max"):
        if x != x or y != y:
            return math.nan
        if x == y == 0:
            signs = math.copysign(1.0, x), math.copysign(1.0, y)
            return math.copysign(0.0, min(signs) if op == "min" else max(signs))
        return min(x, y) if op == "min" else max(x, y)
    if op == "copysign":
        return math.copysign(x, y)
    return fold_binary(op, x, y, dtype)


def _fma(dtype: str, x: float, y: float, z: float) -> float:
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        product = math.nan if (math.isinf(x) and y == 0) or (math.isinf(y) and x == 0) else x * y
        # A finite product cannot turn an infinite addend, even where it overflows as a float.
        return z if math.isfinite(x) and math.isfinite(y) and math.isinf(z) else round_float(product + z, dtype)
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    return _round_fraction(exact, dtype) if exact else x * y + z


def _round_fraction(exact: Fraction, dtype: str) -> float:
    precision, min_exponent, largest, has_infinity = FORMATS[dtype]
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    ulp = max(exponent, min_exponent) - precision + 1
    steps = round(magnitude / Fraction(2) ** ulp)
    rounded = steps * Fraction(2) ** ulp
    if rounded > Fraction(largest):
        value = math.inf if has_infinity else math.nan
    else:
        value = float(rounded)
    return -value if exact < 0 else value


def _cast(dtype: str, x):
    if dtype not in _FLOATS:
        return fold_cast(dtype, x)
    if isinstance(x, float):
        return round_float(x, dtype)
    return _round_fraction(Fraction(int(x)), dtype) if x else 0.0


def _bitcast(to: str, dtype: str, x):
    value = np.array([x], numpy_dtype(dtype)).view(numpy_dtype(to))[0]
    return float(value) if to in _FLOATS else wrap(int(value), to)
