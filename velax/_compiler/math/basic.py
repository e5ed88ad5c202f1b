"""Functions whose result is exact: sign, rounding, neighbours, order; on every dtype on which they are defined."""

from __future__ import annotations

from velax._compiler.math.formats import INF
from velax._compiler.math.value import Value, const, maximum, minimum, select, trunc
from velax._ir.loops import FLOATS, UNSIGNED, WIDTH

__all__ = ["clamp", "eq_total", "is_finite", "le_total", "lt_total", "nextafter", "round_away", "sign"]


def sign(x: Value) -> Value:
    """-1, 0 or 1; zeros keep their sign and NaN stays NaN."""
    if x.dtype in UNSIGNED:
        return x.ne(0).to(x.dtype)
    if x.dtype in FLOATS:
        return select(abs(x) > 0.0, const(1.0, x.dtype).copysign(x), x)
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


def is_finite(x: Value) -> Value:
    if x.dtype == "f8e4m3fn":  # has no infinity
        return x.eq(x)
    return abs(x) < INF if x.dtype in FLOATS else const(True, "bool")


def clamp(low: Value, x: Value, high: Value) -> Value:
    """``min(max(x, low), high)``: ``high`` wins over ``low``, a NaN over all."""
    return minimum(maximum(x, low), high)


def round_away(x: Value) -> Value:
    """To the nearest integer, halves away from zero; the sign of zero stays."""
    whole = trunc(x)
    one = const(1.0, x.dtype).copysign(x)
    return select(abs(x - whole) >= 0.5, whole + one, whole)


def nextafter(x: Value, y: Value) -> Value:
    """The neighbour of ``x`` on the way to ``y``: the bits of a float count up with its size."""
    bits = x.bits()
    integer = f"i{WIDTH[x.dtype]}"
    outward = (y > x).eq(x > 0.0)
    moved = select(outward, bits + 1, bits - 1).as_(x.dtype)
    smallest = const(1, integer).as_(x.dtype).copysign(y)
    moved = select(x.eq(0.0), smallest, moved)
    moved = select(x.eq(y), y, moved)
    return select(x.ne(x) | y.ne(y), x + y, moved)


def lt_total(x: Value, y: Value) -> Value:
    """The order of ``lax.sort``: zeros equal, NaN equal to one another and after everything else."""
    return (x < y) | (y.ne(y) & x.eq(x)) if x.dtype in FLOATS else x < y


def le_total(x: Value, y: Value) -> Value:
    return (x <= y) | y.ne(y) if x.dtype in FLOATS else x <= y


def eq_total(x: Value, y: Value) -> Value:
    return x.eq(y) | (x.ne(x) & y.ne(y)) if x.dtype in FLOATS else x.eq(y)
