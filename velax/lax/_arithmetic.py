"""Arithmetic: neg, sign, abs, add, sub, mul, div, rem, max, min, pow, integer_pow, square, and the roots."""

from __future__ import annotations

import numpy as np

from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.zero import UndefinedPrimal, Zero, ops
from velax.lax._rules import (
    ARITH,
    FLOAT,
    INEXACT,
    NUM,
    ORDERED,
    broadcast_node,
    check_dtype,
    elementwise,
    elementwise_type,
    jvp_from,
    unbroadcast,
    zero_derivative,
)  # fmt: skip
from velax.lax._values import core_args, full_like, is_complex

__all__ = [
    "abs", "abs_p", "add", "add_p", "cbrt", "cbrt_p", "div", "div_p", "integer_pow", "integer_pow_p", "max", "max_p",
    "min", "min_p", "mul",
    "mul_p", "neg", "neg_p", "pow", "pow_p", "reciprocal", "rem", "rem_p", "rsqrt", "rsqrt_p", "sign", "sign_p",
    "sqrt", "sqrt_p", "square",
    "square_p", "sub", "sub_p",
]  # fmt: skip


# -- linear: neg, add, sub -----------------------------------------------------------------------

neg_p = elementwise(
    "neg",
    ARITH,
    jvp=jvp_from(lambda t, out, x: neg(t)),
    transpose=lambda ct, x: [ct if type(ct) is Zero else neg(ct)],
    linear_in=(0,),
    lower="neg",
)


def neg(x):
    """Elementwise negation, ``-x``.

    Args:
      x: an array of integers, floats or complex numbers.

    Returns:
      An array of the same shape and dtype; integers wrap.

    Example:
      >>> from velax import lax
      >>> float(lax.neg(2.0))
      -2.0
    """
    return neg_p.bind(*core_args("neg", x))


def _add_transpose(ct, x, y):
    return [unbroadcast(a.aval, ct) if type(a) is UndefinedPrimal else None for a in (x, y)]


add_p = elementwise(
    "add",
    ARITH,
    jvp=jvp_from(lambda t, out, x, y: t, lambda t, out, x, y: t),
    transpose=_add_transpose,
    linear_in=(0, 1),
    lower="add",
)


def add(x, y):
    """Elementwise sum, ``x + y``.

    Args:
      x, y: arrays of one dtype, of one shape or broadcastable without a change of rank.

    Returns:
      The sum; integers wrap.

    Example:
      >>> from velax import lax
      >>> float(lax.add(1.0, 2.0))
      3.0
    """
    return add_p.bind(*core_args("add", x, y))


def _sub_transpose(ct, x, y):
    if type(ct) is Zero:
        return [Zero(a.aval.to_tangent_aval()) if type(a) is UndefinedPrimal else None for a in (x, y)]
    return [
        unbroadcast(x.aval, ct) if type(x) is UndefinedPrimal else None,
        unbroadcast(y.aval, neg(ct)) if type(y) is UndefinedPrimal else None,
    ]


sub_p = elementwise(
    "sub",
    ARITH,
    jvp=jvp_from(lambda t, out, x, y: t, lambda t, out, x, y: neg(t)),
    transpose=_sub_transpose,
    linear_in=(0, 1),
    lower="sub",
)


def sub(x, y):
    """Elementwise difference, ``x - y``; operands as in `add`."""
    return sub_p.bind(*core_args("sub", x, y))


# -- bilinear and quotients ----------------------------------------------------------------------


def _mul_transpose(ct, x, y):
    if type(x) is UndefinedPrimal and type(y) is UndefinedPrimal:
        raise TypeError("mul is linear in one operand at a time; both are linear here")
    if type(x) is UndefinedPrimal:
        return [Zero(x.aval) if type(ct) is Zero else unbroadcast(x.aval, mul(ct, y)), None]
    return [None, Zero(y.aval) if type(ct) is Zero else unbroadcast(y.aval, mul(x, ct))]


mul_p = elementwise(
    "mul",
    ARITH,
    jvp=jvp_from(lambda t, out, x, y: mul(t, y), lambda t, out, x, y: mul(x, t)),
    transpose=_mul_transpose,
    linear_in=(0, 1),
    lower="mul",
)


def mul(x, y):
    """Elementwise product, ``x * y``; operands as in `add`."""
    return mul_p.bind(*core_args("mul", x, y))


def _div_transpose(ct, x, y):
    if type(y) is UndefinedPrimal:
        raise TypeError("div is not linear in its second operand")
    return [Zero(x.aval) if type(ct) is Zero else unbroadcast(x.aval, div(ct, y)), None]


div_p = elementwise(
    "div",
    ARITH,
    jvp=jvp_from(lambda t, out, x, y: div(t, y), lambda t, out, x, y: mul(mul(neg(t), x), integer_pow(y, -2))),
    transpose=_div_transpose,
    linear_in=(0,),
    lower="div",
)


def div(x, y):
    """Elementwise quotient, ``x / y``; operands as in `add`.

    Integer division truncates toward zero; an integer divided by zero gives -1 (all bits set), and the
    smallest integer divided by -1 itself.
    """
    return div_p.bind(*core_args("div", x, y))


def _rem_quotient(x, y):
    """``trunc(x / y)`` as a value of the operands' dtype."""
    q = div(x, y)
    zero = full_like(q, 0)
    return ops.select(ops.lt(q, zero), ops.ceil(q), ops.floor(q))


rem_p = elementwise(
    "rem",
    (*ORDERED[:2],),
    jvp=jvp_from(lambda t, out, x, y: t, lambda t, out, x, y: mul(neg(t), _rem_quotient(x, y))),
    lower="rem",
)


def rem(x, y):
    """Elementwise remainder of truncated division, with the sign of ``x``; operands as in `add`. An integer's
    remainder by zero is itself.
    """
    return rem_p.bind(*core_args("rem", x, y))


# -- order ---------------------------------------------------------------------------------------


def share(x, other, out):
    """1 where ``x`` is the extremum alone, 1/2 where both are equal, 0 elsewhere."""
    one, two, zero = (full_like(out, v) for v in (1, 2, 0))
    return div(ops.select(ops.eq(x, out), one, zero), ops.select(ops.eq(other, out), two, one))


def _extremum(name):
    return elementwise(
        name,
        (*ARITH, *ORDERED[2:]),
        jvp=jvp_from(lambda t, out, x, y: mul(t, share(x, y, out)), lambda t, out, x, y: mul(t, share(y, x, out))),
        lower=_extremum_lower(name),
        arity=2,
    )


def _extremum_lower(name):
    def lower(ctx, x, y):
        b, shape = ctx.builder, ctx.avals_out[0].shape
        x, y = broadcast_node(b, x, shape), broadcast_node(b, y, shape)
        if x.dtype not in ("c64", "c128"):
            return b.map(name, x, y)
        # lexicographic in (real, imaginary)
        order = "gt" if name == "max" else "lt"
        real_x, real_y, imag_x, imag_y = b.map("real", x), b.map("real", y), b.map("imag", x), b.map("imag", y)
        first = b.map("select", b.map("eq", real_x, real_y), b.map(order, imag_x, imag_y), b.map(order, real_x, real_y))
        return b.map("select", first, x, y)

    return lower


max_p = _extremum("max")
min_p = _extremum("min")


def max(x, y):
    """Elementwise maximum; NaN if either is NaN; complex numbers in lexicographic order. Operands as in `add`."""
    return max_p.bind(*core_args("max", x, y))


def min(x, y):
    """Elementwise minimum; NaN if either is NaN; complex numbers in lexicographic order. Operands as in `add`."""
    return min_p.bind(*core_args("min", x, y))


def _real_dtype(dtype):
    return dtypes.real_dtype(dtype) if dtypes.is_complex(dtype) else dtype


def _abs_jvp(t, out, x):
    if is_complex(x):
        safe = ops.select(ops.eq(out, full_like(out, 0)), full_like(out, 1), out)
        scaled = div(x, ops.complex(safe, get_aval(safe).dtype.type(0)))  # not of weak type, whatever x is
        return ops.real(mul(t, ops.conj(scaled)))
    return ops.select(ops.ge(x, full_like(x, 0)), t, neg(t))


abs_p = elementwise(
    "abs", (np.signedinteger, np.floating, np.complexfloating), jvp=jvp_from(_abs_jvp), lower="abs", result=_real_dtype
)


def abs(x):
    """Elementwise absolute value; of complex numbers the modulus, without overflow in between.

    The derivative at 0 is 1, as it is for positive numbers.
    """
    return abs_p.bind(*core_args("abs", x))


sign_p = elementwise("sign", ARITH, jvp=zero_derivative, lower="sign")


def sign(x):
    """Elementwise sign: -1, 0 or 1 (NaN for NaN, signed zero for zero; ``x / abs(x)`` for complex numbers)."""
    return sign_p.bind(*core_args("sign", x))


# -- powers and roots ----------------------------------------------------------------------------


def _pow_type(x, y):
    if dtypes.is_integer(y.dtype) and dtypes.is_inexact(x.dtype):
        check_dtype("pow", x, INEXACT, 0)
        return elementwise_type("pow", INEXACT)(x, y.update(dtype=x.dtype, weak_type=x.weak_type))
    if x.dtype != y.dtype and dtypes.is_inexact(x.dtype):
        check_dtype("pow", y, NUM, 1)
        raise TypeError(
            "the first argument to pow must have an inexact dtype (float or complex), and the second argument must "
            f"have an inexact or integer dtype, and two inexact dtypes must match, but got {x.dtype} and {y.dtype} "
            "respectively."
        )
    return elementwise_type("pow", INEXACT)(x, y)


def _pow_jvp_x(t, out, x, y):
    if dtypes.is_integer(get_aval(y).dtype):
        yf = ops.convert(y, get_aval(x).dtype)
        factor = ops.select(ops.eq(y, full_like(y, 0)), full_like(y, 1), y)
        return mul(t, mul(yf, pow(x, sub(factor, full_like(factor, 1)))))
    one, zero = full_like(y, 1), full_like(y, 0)
    exponent = ops.select(ops.eq(y, zero), one, sub(y, one))
    return mul(t, mul(y, pow(x, exponent)))


def _pow_jvp_y(t, out, x, y):
    if dtypes.is_integer(get_aval(y).dtype):
        return Zero.from_primal_value(out)
    safe = ops.select(ops.eq(x, full_like(x, 0)), full_like(x, 1), x)
    return mul(t, mul(ops.log(safe), out))


def _pow_lower(ctx, x, y):
    shape, b = ctx.avals_out[0].shape, ctx.builder
    x, y = broadcast_node(b, x, shape), broadcast_node(b, y, shape)
    return b.map("pow", x, b.convert(y, x.dtype))


pow_p = elementwise("pow", INEXACT, jvp=jvp_from(_pow_jvp_x, _pow_jvp_y), lower=_pow_lower, arity=2)
pow_p.def_abstract_eval(_pow_type)


def pow(x, y):
    """Elementwise power ``x ** y``.

    Args:
      x: floats or complex numbers.
      y: the same dtype, or integers.

    Returns:
      The power, with the special cases of IEEE 754 (``pow(x, 0) == 1``, ``pow(1, y) == 1``).
    """
    x_, y_ = core_args("pow", x, y, same_dtype=False)
    return pow_p.bind(x_, y_)


def _integer_pow_lower(ctx, x, *, y):
    """Repeated squaring; a negative power is the reciprocal of the positive one."""
    b = ctx.builder
    one = b.full(x.shape, 1, x.dtype)
    n, result, square = (-y if y < 0 else y), None, x
    while n:
        if n & 1:
            result = square if result is None else b.map("mul", result, square)
        n >>= 1
        if n:
            square = b.map("mul", square, square)
    result = one if result is None else result
    return b.map("div", one, result) if y < 0 else result


def _integer_pow_jvp(t, out, x, *, y):
    if y == 0:
        return Zero.from_primal_value(out)
    return mul(t, mul(full_like(x, y), integer_pow(x, y - 1)))


integer_pow_p = elementwise("integer_pow", ARITH, jvp=jvp_from(_integer_pow_jvp), lower=_integer_pow_lower, arity=1)


def integer_pow(x, y: int):
    """Elementwise power by a Python integer, ``x ** y``, by repeated squaring.

    Raises:
      TypeError: if ``x`` is of an integer dtype and ``y`` negative.
    """
    (x,) = core_args("integer_pow", x)
    if y == 1:
        return x
    if y < 0 and dtypes.is_integer(get_aval(x).dtype):
        raise TypeError(
            f"Integers cannot be raised to negative powers, got integer_pow({get_aval(x).str_short()}, {y})"
        )
    return integer_pow_p.bind(x, y=y)


square_p = elementwise(
    "square",
    ARITH,
    jvp=jvp_from(lambda t, out, x: mul(t, mul(full_like(x, 2), x))),
    lower=lambda ctx, x: ctx.builder.map("mul", x, x),
    arity=1,
)


def square(x):
    """Elementwise square, ``x * x``."""
    return square_p.bind(*core_args("square", x))


sqrt_p = elementwise("sqrt", INEXACT, jvp=jvp_from(lambda t, out, x: mul(t, div(full_like(x, 0.5), out))), lower="sqrt")


def sqrt(x):
    """Elementwise square root, correctly rounded; NaN for negative numbers; the principal root of complex ones."""
    return sqrt_p.bind(*core_args("sqrt", x))


rsqrt_p = elementwise(
    "rsqrt", INEXACT, jvp=jvp_from(lambda t, out, x: mul(t, mul(full_like(x, -0.5), div(out, x)))), lower="rsqrt"
)


def rsqrt(x):
    """Elementwise reciprocal square root, ``1 / sqrt(x)``."""
    return rsqrt_p.bind(*core_args("rsqrt", x))


cbrt_p = elementwise(
    "cbrt", FLOAT, jvp=jvp_from(lambda t, out, x: mul(t, mul(full_like(x, 1 / 3), integer_pow(out, -2)))), lower="cbrt"
)


def cbrt(x):
    """Elementwise real cube root."""
    return cbrt_p.bind(*core_args("cbrt", x))


def reciprocal(x):
    """Elementwise ``1 / x``."""
    return integer_pow(x, -1)
