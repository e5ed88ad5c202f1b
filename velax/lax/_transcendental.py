"""Exponentials, logarithms, trigonometric, hyperbolic and error functions; parts of complex numbers."""

from __future__ import annotations

import math

import numpy as np

from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax._transforms.zero import Zero
from velax.lax._arithmetic import add, div, mul, neg, rsqrt, sqrt, square, sub
from velax.lax._rules import COMPLEX, FLOAT, INEXACT, elementwise, is_linear, jvp_from, unbroadcast
from velax.lax._values import core_args, full_like

__all__ = [
    "acos", "acos_p", "acosh", "acosh_p", "asin", "asin_p", "asinh", "asinh_p", "atan", "atan2", "atan2_p", "atan_p",
    "atanh", "atanh_p", "complex", "complex_p", "conj", "conj_p", "cos", "cos_p", "cosh", "cosh_p", "digamma",
    "digamma_p", "erf", "erf_inv", "erf_inv_p", "erf_p", "erfc", "erfc_p", "exp", "exp2", "exp2_p", "exp_p", "expm1",
    "expm1_p", "imag", "imag_p", "lgamma", "lgamma_p", "log", "log1p", "log1p_p", "log_p", "logistic", "logistic_p",
    "real", "real_p", "sin", "sin_p", "sinh", "sinh_p", "tan", "tan_p", "tanh", "tanh_p",
]  # fmt: skip


def _unary(name, derivative, classes=INEXACT):
    """A function of one operand with ``derivative(out, x)``."""
    return elementwise(name, classes, jvp=jvp_from(lambda t, out, x, **_: mul(t, derivative(out, x))), lower=name)


def _one(x):
    return full_like(x, 1)


exp_p = _unary("exp", lambda out, x: out)
exp2_p = _unary("exp2", lambda out, x: mul(full_like(x, math.log(2)), out))
expm1_p = _unary("expm1", lambda out, x: add(out, _one(x)))
log_p = elementwise("log", INEXACT, jvp=jvp_from(lambda t, out, x, **_: div(t, x)), lower="log")
log1p_p = elementwise("log1p", INEXACT, jvp=jvp_from(lambda t, out, x, **_: div(t, add(x, _one(x)))), lower="log1p")
tanh_p = _unary("tanh", lambda out, x: mul(sub(_one(x), out), add(_one(x), out)))
logistic_p = _unary("logistic", lambda out, x: mul(out, sub(_one(x), out)))
sin_p = _unary("sin", lambda out, x: cos(x))
cos_p = _unary("cos", lambda out, x: neg(sin(x)))
tan_p = _unary("tan", lambda out, x: add(_one(x), square(out)))
asin_p = _unary("asin", lambda out, x: rsqrt(sub(_one(x), square(x))))
acos_p = _unary("acos", lambda out, x: neg(rsqrt(sub(_one(x), square(x)))))
atan_p = _unary("atan", lambda out, x: div(_one(x), add(_one(x), square(x))))
sinh_p = _unary("sinh", lambda out, x: cosh(x))
cosh_p = _unary("cosh", lambda out, x: sinh(x))
asinh_p = _unary("asinh", lambda out, x: rsqrt(add(square(x), _one(x))))
acosh_p = _unary("acosh", lambda out, x: rsqrt(mul(sub(x, _one(x)), add(x, _one(x)))))
atanh_p = _unary("atanh", lambda out, x: div(_one(x), mul(sub(_one(x), x), add(_one(x), x))))
erf_p = _unary("erf", lambda out, x: mul(full_like(x, 2 / math.sqrt(math.pi)), exp(neg(square(x)))), FLOAT)
erfc_p = _unary("erfc", lambda out, x: mul(full_like(x, -2 / math.sqrt(math.pi)), exp(neg(square(x)))), FLOAT)
erf_inv_p = _unary("erf_inv", lambda out, x: mul(full_like(x, math.sqrt(math.pi) / 2), exp(square(out))), FLOAT)
lgamma_p = _unary("lgamma", lambda out, x: digamma(x), FLOAT)


def _trigamma(x):
    from velax.lax._special import polygamma  # made of the functions defined here

    return polygamma(_one(x), x)


digamma_p = _unary("digamma", lambda out, x: _trigamma(x), FLOAT)


def _make(name, primitive, text):
    def f(x):
        return primitive.bind(*core_args(name, x))

    f.__name__ = f.__qualname__ = name
    kind = "floats" if "floats" in text else "floats or complex numbers"
    f.__doc__ = (
        f"Elementwise {text}\n\n    Args:\n      x: an array of {kind}.\n\n"
        "    Returns:\n      An array of the same shape and dtype.\n    "
    )
    return f


exp = _make("exp", exp_p, "exponential, ``e ** x``.")
exp2 = _make("exp2", exp2_p, "power of two, ``2 ** x``.")
expm1 = _make("expm1", expm1_p, "``exp(x) - 1``, accurate near zero.")
log = _make("log", log_p, "natural logarithm; NaN for negative numbers, -inf at zero.")
log1p = _make("log1p", log1p_p, "``log(1 + x)``, accurate near zero.")
tanh = _make("tanh", tanh_p, "hyperbolic tangent.")
logistic = _make("logistic", logistic_p, "logistic function, ``1 / (1 + exp(-x))``.")
sin = _make("sin", sin_p, "sine of ``x`` in radians.")
cos = _make("cos", cos_p, "cosine of ``x`` in radians.")
tan = _make("tan", tan_p, "tangent of ``x`` in radians.")
asin = _make("asin", asin_p, "inverse sine, in ``[-pi/2, pi/2]``.")
acos = _make("acos", acos_p, "inverse cosine, in ``[0, pi]``.")
atan = _make("atan", atan_p, "inverse tangent, in ``[-pi/2, pi/2]``.")
sinh = _make("sinh", sinh_p, "hyperbolic sine.")
cosh = _make("cosh", cosh_p, "hyperbolic cosine.")
asinh = _make("asinh", asinh_p, "inverse hyperbolic sine.")
acosh = _make("acosh", acosh_p, "inverse hyperbolic cosine.")
atanh = _make("atanh", atanh_p, "inverse hyperbolic tangent.")
erf = _make("erf", erf_p, "error function of floats, ``2/sqrt(pi) * integral of exp(-t**2) from 0 to x``.")
erfc = _make("erfc", erfc_p, "complementary error function of floats, ``1 - erf(x)``, accurate for large ``x``.")
erf_inv = _make("erf_inv", erf_inv_p, "inverse error function of floats in ``[-1, 1]``.")
lgamma = _make("lgamma", lgamma_p, "logarithm of the absolute value of the gamma function of floats.")
digamma = _make("digamma", digamma_p, "derivative of `lgamma` of floats.")

atan2_p = elementwise(
    "atan2",
    FLOAT,
    jvp=jvp_from(
        lambda t, out, x, y: mul(t, div(y, add(square(x), square(y)))),
        lambda t, out, x, y: mul(t, div(neg(x), add(square(x), square(y)))),
    ),
    lower="atan2",
)


def atan2(x, y):
    """Elementwise angle of the point with ordinate ``x`` and abscissa ``y``, in ``[-pi, pi]``; operands as in `add`.

    Of complex numbers it is ``-i log((y + i x) / sqrt(x**2 + y**2))``.
    """
    x, y = core_args("atan2", x, y)
    if not dtypes.is_complex(get_aval(x).dtype):
        return atan2_p.bind(x, y)
    unit = div(add(y, mul(x, full_like(x, 1j))), sqrt(add(square(x), square(y))))
    return mul(log(unit), full_like(unit, -1j))


# -- complex numbers -----------------------------------------------------------------------------


def _zero(like):
    """Zero of the dtype of ``like``, never of weak type."""
    return get_aval(like).dtype.type(0)


def _complex_of(dtype):
    return dtypes.to_complex_dtype(dtype)


real_p = elementwise(
    "real", COMPLEX, jvp=jvp_from(lambda t, out, x: real(t)), lower="real", result=dtypes.real_dtype, linear_in=(0,),
    transpose=lambda ct, x: [Zero(x.aval) if type(ct) is Zero else complex(ct, _zero(ct))],
)  # fmt: skip
imag_p = elementwise(
    "imag", COMPLEX, jvp=jvp_from(lambda t, out, x: imag(t)), lower="imag", result=dtypes.real_dtype, linear_in=(0,),
    transpose=lambda ct, x: [Zero(x.aval) if type(ct) is Zero else complex(_zero(ct), neg(ct))],
)  # fmt: skip


def _complex_transpose(ct, x, y):
    zero = type(ct) is Zero
    return [
        (Zero(x.aval) if zero else unbroadcast(x.aval, real(ct))) if is_linear(x) else None,
        (Zero(y.aval) if zero else unbroadcast(y.aval, imag(neg(ct)))) if is_linear(y) else None,
    ]


complex_p = elementwise(
    "complex",
    (np.float32, np.float64),
    jvp=jvp_from(lambda t, out, x, y: complex(t, _zero(t)), lambda t, out, x, y: complex(_zero(t), t)),
    lower="complex",
    result=_complex_of,
    linear_in=(0, 1),
    transpose=_complex_transpose,
)


def _conj_lower(ctx, x, **_):
    if x.dtype in ("c64", "c128"):
        return ctx.builder.map("conj", x)
    return ctx.builder.map("complex", x, ctx.builder.full(x.shape, 0.0, x.dtype))


def _conj_transpose(ct, x, *, input_dtype):
    if type(ct) is Zero:
        return [Zero(x.aval)]
    return [conj(ct) if dtypes.is_complex(x.aval.dtype) else real(conj(ct))]


conj_p = elementwise(
    "conj", (np.float32, np.float64, np.complexfloating), jvp=jvp_from(lambda t, out, x, **p: conj_p.bind(t, **p)),
    lower=_conj_lower, result=_complex_of, linear_in=(0,), arity=1,
    transpose=_conj_transpose,
)  # fmt: skip


def real(x):
    """Elementwise real part of complex numbers."""
    return real_p.bind(*core_args("real", x))


def imag(x):
    """Elementwise imaginary part of complex numbers."""
    return imag_p.bind(*core_args("imag", x))


def complex(x, y):
    """Complex numbers from real and imaginary parts, float32 or float64; operands as in `add`."""
    return complex_p.bind(*core_args("complex", x, y))


def conj(x):
    """Elementwise complex conjugate; real numbers become complex."""
    (x,) = core_args("conj", x)
    return conj_p.bind(x, input_dtype=get_aval(x).dtype)
