"""Comparison, bit operations, rounding and clamping."""

from __future__ import annotations

import enum

import numpy as np

from velax._ir.narrow_integers import is_narrow, sign_extended, zero_extended
from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import Zero, instantiate_zeros, ops
from velax.lax._rules import (
    ANY,
    BITS,
    FLOAT,
    INT,
    ORDERED,
    broadcast_node,
    dtype_mismatch,
    elementwise,
    zero_derivative,
)
from velax.lax._values import core_args

__all__ = [
    "RoundingMethod", "and_p", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "ceil_p", "clamp",
    "clamp_p", "clz", "clz_p", "eq", "eq_p", "floor", "floor_p", "ge", "ge_p", "gt", "gt_p", "is_finite",
    "is_finite_p", "le", "le_p", "lt", "lt_p", "ne", "ne_p", "nextafter", "nextafter_p", "not_p", "or_p",
    "population_count", "population_count_p", "round", "round_p", "shift_left", "shift_left_p",
    "shift_right_arithmetic", "shift_right_arithmetic_p", "shift_right_logical", "shift_right_logical_p", "xor_p",
]  # fmt: skip


# -- comparison ----------------------------------------------------------------------------------


def _comparison(name, classes):
    return elementwise(name, classes, jvp=zero_derivative, lower=name, result=lambda dtype: np.dtype(bool))


eq_p, ne_p = (_comparison(n, ANY) for n in ("eq", "ne"))
lt_p, le_p, gt_p, ge_p = (_comparison(n, ORDERED) for n in ("lt", "le", "gt", "ge"))


def eq(x, y):
    """Elementwise ``x == y``, a boolean array; operands as in `add`. NaN equals nothing."""
    return eq_p.bind(*core_args("eq", x, y))


def ne(x, y):
    """Elementwise ``x != y``; operands as in `add`. NaN differs from everything."""
    return ne_p.bind(*core_args("ne", x, y))


def lt(x, y):
    """Elementwise ``x < y``; operands as in `add`."""
    return lt_p.bind(*core_args("lt", x, y))


def le(x, y):
    """Elementwise ``x <= y``; operands as in `add`."""
    return le_p.bind(*core_args("le", x, y))


def gt(x, y):
    """Elementwise ``x > y``; operands as in `add`."""
    return gt_p.bind(*core_args("gt", x, y))


def ge(x, y):
    """Elementwise ``x >= y``; operands as in `add`."""
    return ge_p.bind(*core_args("ge", x, y))


is_finite_p = elementwise(
    "is_finite", FLOAT, jvp=zero_derivative, lower="is_finite", result=lambda dtype: np.dtype(bool)
)


def is_finite(x):
    """Elementwise whether a float is neither infinite nor NaN."""
    return is_finite_p.bind(*core_args("is_finite", x))


# -- bits ----------------------------------------------------------------------------------------

not_p = elementwise("not", BITS, jvp=zero_derivative, lower="not")
and_p, or_p, xor_p = (elementwise(n, BITS, jvp=zero_derivative, lower=n) for n in ("and", "or", "xor"))


def _bits_lower(fn, extend):
    """``fn`` of the operand's own bits: `extend` says what is above those of an integer of 4 bits, which a
    byte holds.
    """

    def lower(ctx, x, *rest):
        b, shape = ctx.builder, ctx.avals_out[0].shape
        x = extend(b, x, ctx.avals_in[0].dtype)
        return b.map(fn, *(broadcast_node(b, operand, shape) for operand in (x, *rest)))

    return lower


def _clz_lower(ctx, x):
    b, dtype = ctx.builder, ctx.avals_in[0].dtype
    if not is_narrow(dtype):
        return b.map("clz", x)
    return b.map(
        "sub", b.map("clz", zero_extended(b, x, dtype)), b.full(x.shape, 8 - dtypes.itemsize_bits(dtype), x.dtype)
    )


population_count_p = elementwise(
    "population_count", INT, jvp=zero_derivative, lower=_bits_lower("popcount", zero_extended), arity=1
)
clz_p = elementwise("clz", INT, jvp=zero_derivative, lower=_clz_lower, arity=1)
shift_left_p = elementwise("shift_left", INT, jvp=zero_derivative, lower="shl")
shift_right_arithmetic_p = elementwise(
    "shift_right_arithmetic", INT, jvp=zero_derivative, lower=_bits_lower("shra", sign_extended), arity=2
)
shift_right_logical_p = elementwise(
    "shift_right_logical", INT, jvp=zero_derivative, lower=_bits_lower("shrl", zero_extended), arity=2
)


def bitwise_not(x):
    """Elementwise complement of integers or booleans."""
    return not_p.bind(*core_args("bitwise_not", x))


def bitwise_and(x, y):
    """Elementwise AND of integers or booleans; operands as in `add`."""
    return and_p.bind(*core_args("bitwise_and", x, y))


def bitwise_or(x, y):
    """Elementwise OR of integers or booleans; operands as in `add`."""
    return or_p.bind(*core_args("bitwise_or", x, y))


def bitwise_xor(x, y):
    """Elementwise exclusive OR of integers or booleans; operands as in `add`."""
    return xor_p.bind(*core_args("bitwise_xor", x, y))


def population_count(x):
    """Elementwise number of set bits of integers."""
    return population_count_p.bind(*core_args("population_count", x))


def clz(x):
    """Elementwise number of leading zero bits of integers."""
    return clz_p.bind(*core_args("clz", x))


def shift_left(x, y):
    """Elementwise ``x << y``; shifts by the width or more, or negative ones, give 0."""
    return shift_left_p.bind(*core_args("shift_left", x, y))


def shift_right_arithmetic(x, y):
    """Elementwise ``x >> y`` that repeats the sign; shifts by the width or more give the sign in every bit."""
    return shift_right_arithmetic_p.bind(*core_args("shift_right_arithmetic", x, y))


def shift_right_logical(x, y):
    """Elementwise ``x >> y`` that fills with zeros; shifts by the width or more give 0."""
    return shift_right_logical_p.bind(*core_args("shift_right_logical", x, y))


# -- rounding ------------------------------------------------------------------------------------

floor_p = elementwise("floor", FLOAT, jvp=zero_derivative, lower="floor")
ceil_p = elementwise("ceil", FLOAT, jvp=zero_derivative, lower="ceil")


class RoundingMethod(enum.IntEnum):
    """How `round` treats halves: ``AWAY_FROM_ZERO`` or ``TO_NEAREST_EVEN``."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


def _round_lower(ctx, x, *, rounding_method):
    return ctx.builder.map("round_even" if rounding_method == RoundingMethod.TO_NEAREST_EVEN else "round_away", x)


round_p = elementwise("round", FLOAT, jvp=zero_derivative, lower=_round_lower, arity=1)
nextafter_p = elementwise("nextafter", FLOAT, jvp=zero_derivative, lower="nextafter")


def floor(x):
    """Elementwise largest integer not above ``x``, as a float."""
    return floor_p.bind(*core_args("floor", x))


def ceil(x):
    """Elementwise smallest integer not below ``x``, as a float."""
    return ceil_p.bind(*core_args("ceil", x))


def round(x, rounding_method: int = RoundingMethod.AWAY_FROM_ZERO):
    """Elementwise nearest integer, as a float; halves go away from zero, or to even with
    ``RoundingMethod.TO_NEAREST_EVEN``.
    """
    return round_p.bind(*core_args("round", x), rounding_method=int(RoundingMethod(rounding_method)))


def nextafter(x1, x2):
    """Elementwise next representable float after ``x1`` towards ``x2``."""
    return nextafter_p.bind(*core_args("nextafter", x1, x2))


# -- clamp ---------------------------------------------------------------------------------------


def _clamp_type(lo, x, hi):
    for a, what in ((lo, "min"), (hi, "max")):
        if a.shape and a.shape != x.shape:
            raise TypeError(
                f"clamp requires {what}.shape == operand.shape or {what}.shape == (), got {what}.shape={a.shape}, "
                f"operand.shape={x.shape}."
            )
        if a.dtype != x.dtype:
            raise dtype_mismatch("clamp", (lo, x, hi))
    return shaped_array(x.shape, x.dtype, lo.weak_type and x.weak_type and hi.weak_type)


def _clamp_jvp(primals, tangents):
    lo, x, hi = primals
    dlo, dx, dhi = tangents
    out = clamp_p.bind(lo, x, hi)
    if all(type(t) is Zero for t in tangents):
        return out, Zero.from_primal_value(out)
    shape = get_aval(x).shape
    wide = lambda t: ops.broadcast_in_dim(t, shape, ()) if get_aval(t).shape != shape else t
    dx, dlo, dhi = (wide(instantiate_zeros(t)) for t in (dx, dlo, dhi))
    # at a bound the derivative is that of neither side: 0, as in JAX; where the bounds cross, the upper one
    # is the result
    zero = instantiate_zeros(Zero.from_primal_value(out))
    below, above = bitwise_and(lt(x, lo), lt(lo, hi)), gt(x, hi)
    inside = bitwise_and(gt(x, lo), lt(x, hi))
    return out, ops.select(above, dhi, ops.select(below, dlo, ops.select(inside, dx, zero)))


def _clamp_batch(args, dims):
    lo, x, hi = args
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    x_ = matchaxis(size, dims[1], 0, x)
    bounds = []
    for a, d in ((lo, dims[0]), (hi, dims[2])):
        if d is None and not get_aval(a).shape:
            bounds.append(a)
            continue
        a = matchaxis(size, d, 0, a)
        rank, full = get_aval(a).ndim, get_aval(x_).ndim
        bounds.append(a if rank == full else ops.broadcast_in_dim(a, get_aval(x_).shape, tuple(range(rank))))
    return clamp_p.bind(bounds[0], x_, bounds[1]), 0


def _clamp_lower(ctx, lo, x, hi):
    b = ctx.builder
    lo, hi = (broadcast_node(b, v, x.shape) for v in (lo, hi))
    if x.dtype in ("c64", "c128"):
        # by the real parts alone, as XLA compares here
        raised = b.map("select", b.map("gt", b.map("real", x), b.map("real", lo)), x, lo)
        return b.map("select", b.map("le", b.map("real", raised), b.map("real", hi)), raised, hi)
    return b.map("clamp", lo, x, hi)


clamp_p = define(
    "clamp",
    abstract_eval=_clamp_type,
    lower=_clamp_lower,
    jvp=_clamp_jvp,
    transpose=None,
    batch=_clamp_batch,
    elementwise=True,
)


def clamp(min, x, max):
    """Elementwise ``x`` limited to ``[min, max]``, complex numbers by their real parts.

    Args:
      min, max: the bounds, of the dtype of ``x``, of rank 0 or of its shape. Where they cross, the result is ``max``.
      x: an array.

    Raises:
      TypeError: if dtypes or shapes differ.
    """
    return clamp_p.bind(*core_args("clamp", min, x, max, same_dtype=False))
