"""Operators on loop IR expressions, so that the elementwise functions read as formulas.

A `Value` wraps one `Expr`; Python numbers beside it become constants of its dtype. The algorithms
in this package are straight-line code over `Value`: no loads, no branches, every choice a `Select`,
so they vectorise as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from velax._ir import loops_build as build
from velax._ir.loops import WIDTH, Expr

__all__ = [
    "Number", "Value", "cap", "const", "fast_two_sum", "floor_at", "fma", "horner", "maximum", "minimum", "rint",
    "select", "sqrt",
    "trunc", "two_product", "two_sum",
]  # fmt: skip

Number = bool | int | float


class Value:
    """An expression with arithmetic, bit and ordering operators (``eq``/``ne`` are methods: values hash by
    identity).
    """

    __slots__ = ("expr",)

    def __init__(self, expr: Expr):
        self.expr = expr

    @property
    def dtype(self) -> str:
        return self.expr.dtype

    def _binary(fn: Callable[[Expr, Expr], Expr], swapped: bool = False) -> Callable[[Value, Value | Number], Value]:
        if swapped:
            return lambda self, other: Value(fn(_of(other, self).expr, self.expr))
        return lambda self, other: Value(fn(self.expr, _of(other, self).expr))

    __add__, __radd__ = _binary(build.add), _binary(build.add, True)
    __sub__, __rsub__ = _binary(build.sub), _binary(build.sub, True)
    __mul__, __rmul__ = _binary(build.mul), _binary(build.mul, True)
    __truediv__, __rtruediv__ = _binary(build.div), _binary(build.div, True)
    __and__, __or__, __xor__ = _binary(build.and_), _binary(build.or_), _binary(build.xor)
    __lt__, __le__, __gt__, __ge__ = _binary(build.lt), _binary(build.le), _binary(build.gt), _binary(build.ge)
    eq, ne = _binary(build.eq), _binary(build.ne)
    shl, shrl, shra, mulhi = _binary(build.shl), _binary(build.shrl), _binary(build.shra), _binary(build.mulhi)
    copysign = _binary(build.copysign)

    def __neg__(self) -> Value:
        return Value(build.neg(self.expr))

    def __abs__(self) -> Value:
        return Value(build.abs_(self.expr))

    def __invert__(self) -> Value:
        return Value(build.not_(self.expr))

    def to(self, dtype: str) -> Value:
        """Value conversion."""
        return Value(build.cast(dtype, self.expr))

    def bits(self) -> Value:
        """The bits of a float as a signed integer of its width."""
        return Value(build.bitcast(f"i{WIDTH[self.dtype]}", self.expr))

    def as_(self, dtype: str) -> Value:
        """The same bits as ``dtype``."""
        return Value(build.bitcast(dtype, self.expr))


def const(value: Number, dtype: str) -> Value:
    """A constant; floats are rounded to ``dtype`` here so that printed kernels show the number that is used."""
    return Value(build.c(float(np.float32(value)) if dtype == "f32" else value, dtype))


def _of(x: Value | Number, like: Value) -> Value:
    return x if isinstance(x, Value) else const(x, like.dtype)


def fma(x: Value, y: Value | Number, z: Value | Number) -> Value:
    """``x * y + z`` with one rounding."""
    return Value(build.fma(x.expr, _of(y, x).expr, _of(z, x).expr))


def select(cond: Value, x: Value | Number, y: Value | Number) -> Value:
    """``x`` where ``cond`` else ``y`` (at least one is a `Value`)."""
    like = x if isinstance(x, Value) else y
    return Value(build.select(cond.expr, _of(x, like).expr, _of(y, like).expr))


def cap(x: Value, limit: Value | Number) -> Value:
    """The smaller of ``x`` and ``limit``; NaN in ``x`` stays. This shape of compare and select is one ``minps``."""
    limit = _of(limit, x)
    return select(limit < x, limit, x)


def floor_at(x: Value, limit: Value | Number) -> Value:
    """The larger of ``x`` and ``limit``; NaN in ``x`` stays."""
    limit = _of(limit, x)
    return select(limit > x, limit, x)


def sqrt(x: Value) -> Value:
    return Value(build.sqrt(x.expr))


def rint(x: Value) -> Value:
    return Value(build.rint(x.expr))


def trunc(x: Value) -> Value:
    return Value(build.trunc(x.expr))


def horner(x: Value, coefficients: Sequence[float]) -> Value:
    """``sum(c[k] * x**k)``, lowest order first."""
    total = const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        total = fma(total, x, c)
    return total


def minimum(x: Value, y: Value | Number) -> Value:
    """The loop IR's ``min``: NaN if either is NaN, ``-0 < +0``."""
    return Value(build.min_(x.expr, _of(y, x).expr))


def maximum(x: Value, y: Value | Number) -> Value:
    """The loop IR's ``max``: NaN if either is NaN, ``-0 < +0``."""
    return Value(build.max_(x.expr, _of(y, x).expr))


def fast_two_sum(a: Value, b: Value | Number) -> tuple[Value, Value]:
    """``a + b`` as an unevaluated sum (hi, lo), exact when ``|a| >= |b|`` or ``a`` is 0 (Dekker 1971)."""
    hi = a + b
    return hi, b - (hi - a)


def two_sum(a: Value, b: Value | Number) -> tuple[Value, Value]:
    """``a + b`` as an unevaluated sum (hi, lo), exact (Knuth)."""
    hi = a + b
    rest = hi - a
    return hi, (a - (hi - rest)) + (b - rest)


def two_product(a: Value, b: Value | Number) -> tuple[Value, Value]:
    """``a * b`` as an unevaluated sum (hi, lo), exact barring underflow."""
    hi = a * b
    return hi, fma(a, b, -hi)
