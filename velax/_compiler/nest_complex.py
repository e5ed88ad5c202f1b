"""Complex elementwise functions on pairs ``(re, im)`` of real expressions."""

from __future__ import annotations

from velax._ir import loops_build as lb

__all__ = ["lower"]


def lower(fn: str, args: list, dtype: str):
    """The value of ``fn``: a pair, or one expression where the result is real.

    Raises:
        NotImplementedError: for functions that are not defined on complex numbers.
    """
    build = _FUNCTIONS.get(fn)
    if build is None:
        raise NotImplementedError(f"map {fn}: not defined for complex operands ({dtype})")
    return build(*args)


def _real(fn: str, *args):
    # heavy to import, and only complex transcendental functions need it
    from velax._compiler import math

    return math.lower_map(fn, list(args))


def _c(x, value):
    return lb.c(float(value), x.dtype)


def _add(x, y):
    return lb.add(x[0], y[0]), lb.add(x[1], y[1])


def _sub(x, y):
    return lb.sub(x[0], y[0]), lb.sub(x[1], y[1])


def _mul(x, y):
    return (
        lb.sub(lb.mul(x[0], y[0]), lb.mul(x[1], y[1])),
        lb.add(lb.mul(x[0], y[1]), lb.mul(x[1], y[0])),
    )


def _scale(x, k):
    return lb.mul(x[0], k), lb.mul(x[1], k)


def _div(x, y):
    """Smith's algorithm: the ratio of the smaller to the larger part of the divisor, so that nothing overflows early."""
    swap = lb.lt(lb.abs_(y[0]), lb.abs_(y[1]))
    big, small = lb.select(swap, y[1], y[0]), lb.select(swap, y[0], y[1])
    ratio = lb.div(small, big)
    scale = lb.add(big, lb.mul(small, ratio))
    a, b = lb.select(swap, x[1], x[0]), lb.select(swap, x[0], x[1])
    re = lb.div(lb.add(a, lb.mul(b, ratio)), scale)
    im_same = lb.sub(x[1], lb.mul(x[0], ratio))
    im_swap = lb.sub(lb.mul(x[1], ratio), x[0])
    im = lb.div(lb.select(swap, im_swap, im_same), scale)
    zero = lb.and_(lb.eq(y[0], _c(y[0], 0)), lb.eq(y[1], _c(y[1], 0)))
    return lb.select(zero, lb.div(x[0], y[0]), re), lb.select(zero, lb.div(x[1], y[0]), im)


def _abs(x):
    """``hypot``: scaled by the larger part."""
    a, b = lb.abs_(x[0]), lb.abs_(x[1])
    big, small = lb.max_(a, b), lb.min_(a, b)
    zero, one, inf = _c(a, 0), _c(a, 1), _c(a, float("inf"))
    ratio = lb.div(small, lb.select(lb.eq(big, zero), one, big))
    size = lb.mul(big, lb.sqrt(lb.add(one, lb.mul(ratio, ratio))))
    infinite = lb.or_(lb.eq(a, inf), lb.eq(b, inf))
    return lb.select(infinite, inf, lb.select(lb.eq(big, zero), zero, size))


def _neg(x):
    return lb.neg(x[0]), lb.neg(x[1])


def _sign(x):
    size = _abs(x)
    zero = lb.eq(size, _c(size, 0))
    safe = lb.select(zero, _c(size, 1), size)
    return tuple(lb.select(zero, _c(size, 0), lb.div(part, safe)) for part in x)


def _exp(x):
    size = _real("exp", x[0])
    real_only = lb.eq(x[1], _c(x[1], 0))
    # exp(inf + 0i) is inf + 0i, not inf + nan i
    im = lb.select(real_only, x[1], lb.mul(size, _real("sin", x[1])))
    return lb.mul(size, _real("cos", x[1])), im


def _log(x):
    return _real("log", _abs(x)), _real("atan2", x[1], x[0])


def _sqrt(x):
    """From ``t = sqrt((|z| + |re|) / 2)``: the other part is ``im / (2 t)``."""
    half, zero = _c(x[0], 0.5), _c(x[0], 0)
    t = lb.sqrt(lb.mul(half, lb.add(_abs(x), lb.abs_(x[0]))))
    none = lb.eq(t, zero)
    other = lb.div(lb.mul(half, x[1]), lb.select(none, _c(t, 1), t))
    right = lb.ge(x[0], zero)
    re = lb.select(right, t, lb.abs_(other))
    im = lb.select(right, other, lb.copysign(t, x[1]))
    return lb.select(none, zero, re), lb.select(none, x[1], im)


def _sinh_cosh(x):
    return _real("sinh", x), _real("cosh", x)


def _sin(x):
    sinh, cosh = _sinh_cosh(x[1])
    return lb.mul(_real("sin", x[0]), cosh), lb.mul(_real("cos", x[0]), sinh)


def _cos(x):
    sinh, cosh = _sinh_cosh(x[1])
    return lb.mul(_real("cos", x[0]), cosh), lb.neg(lb.mul(_real("sin", x[0]), sinh))


def _times_i(x):
    return lb.neg(x[1]), x[0]


def _over_i(x):
    return x[1], lb.neg(x[0])


def _sinh(x):
    return _over_i(_sin(_times_i(x)))


def _cosh(x):
    return _cos(_times_i(x))


def _tanh(x):
    """With ``t = tanh re``, ``s = tan im``: ``(t (1 + s^2) + i s (1 - t^2)) / (1 + t^2 s^2)``, in a form that saturates cleanly."""
    t, s = _real("tanh", x[0]), _real("tan", x[1])
    one = _c(t, 1)
    sech2 = lb.mul(lb.sub(one, t), lb.add(one, t))
    cos = _real("cos", x[1])
    # cos^2 keeps the quotient finite where tan overflows
    den = lb.add(lb.mul(cos, cos), lb.mul(lb.mul(t, t), lb.mul(lb.mul(s, cos), lb.mul(s, cos))))
    return lb.div(t, den), lb.div(lb.mul(lb.mul(lb.mul(s, cos), cos), sech2), den)


def _tan(x):
    return _over_i(_tanh(_times_i(x)))


def _expm1(x):
    """``expm1(re) - exp(re) * 2 sin(im/2)^2 + i exp(re) sin(im)`` without cancellation near 0."""
    half = _real("sin", lb.mul(x[1], _c(x[1], 0.5)))
    e1 = _real("expm1", x[0])
    e = lb.add(e1, _c(e1, 1))
    cosm1 = lb.mul(_c(e1, -2), lb.mul(half, half))
    return lb.add(lb.mul(e1, lb.add(cosm1, _c(e1, 1))), cosm1), lb.mul(e, _real("sin", x[1]))


def _log1p(x):
    """``log(1 + z)``; the real part as ``log1p(2 re + |z|^2) / 2`` where 1 + z is near 1."""
    one = _c(x[0], 1)
    z = lb.add(x[0], one), x[1]
    near = lb.lt(lb.max_(lb.abs_(x[0]), lb.abs_(x[1])), _c(one, 0.5))
    square = lb.add(lb.mul(x[0], lb.add(x[0], _c(one, 2))), lb.mul(x[1], x[1]))
    re, im = _log(z)
    return lb.select(near, lb.mul(_c(one, 0.5), _real("log1p", lb.select(near, square, _c(one, 0)))), re), im


def _logistic(x):
    one = (_c(x[0], 1), _c(x[0], 0))
    return _div(one, _add(one, _exp(_neg(x))))


def _rsqrt(x):
    return _div((_c(x[0], 1), _c(x[0], 0)), _sqrt(x))


def _pow(x, y):
    """``exp(y log x)``; ``0 ** y`` is 0, ``x ** 0`` is 1."""
    result = _exp(_mul(y, _log(x)))
    zero, one = _c(x[0], 0), _c(x[0], 1)
    x_zero = lb.and_(lb.eq(x[0], zero), lb.eq(x[1], zero))
    y_zero = lb.and_(lb.eq(y[0], zero), lb.eq(y[1], zero))
    re = lb.select(y_zero, one, lb.select(x_zero, zero, result[0]))
    im = lb.select(y_zero, zero, lb.select(x_zero, zero, result[1]))
    return re, im


def _asinh(x):
    """``log(z + sqrt(z^2 + 1))`` with the sign taken out, so that the sum does not cancel."""
    negative = lb.lt(lb.copysign(_c(x[0], 1), x[0]), _c(x[0], 0))
    z = tuple(lb.select(negative, lb.neg(part), part) for part in x)
    one = (_c(x[0], 1), _c(x[0], 0))
    i = (_c(x[0], 0), _c(x[0], 1))
    root = _mul(_sqrt(_add(z, i)), _sqrt(_sub(z, i)))
    value = _log(_add(z, root))
    return tuple(lb.select(negative, lb.neg(part), part) for part in value)


def _asin(x):
    return _over_i(_asinh(_times_i(x)))


def _acos(x):
    re, im = _asin(x)
    return lb.sub(_c(re, 1.5707963267948966), re), lb.neg(im)


def _acosh(x):
    one = (_c(x[0], 1), _c(x[0], 0))
    return _log(_add(x, _mul(_sqrt(_add(x, one)), _sqrt(_sub(x, one)))))


def _atanh(x):
    one = (_c(x[0], 1), _c(x[0], 0))
    return _scale(_sub(_log1p(x), _log1p(_neg(x))), _c(one[0], 0.5))


def _atan(x):
    return _over_i(_atanh(_times_i(x)))


def _select(cond, x, y):
    return lb.select(cond, x[0], y[0]), lb.select(cond, x[1], y[1])


_FUNCTIONS = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "neg": _neg, "abs": _abs, "sign": _sign, "select": _select,
    "eq": lambda x, y: lb.and_(lb.eq(x[0], y[0]), lb.eq(x[1], y[1])),
    "ne": lambda x, y: lb.or_(lb.ne(x[0], y[0]), lb.ne(x[1], y[1])),
    "complex": lambda re, im: (re, im), "real": lambda x: x[0], "imag": lambda x: x[1], "conj": lambda x: (x[0], lb.neg(x[1])),
    "is_finite": lambda x: lb.and_(*(lb.lt(lb.abs_(p), _c(p, float("inf"))) for p in x)),
    "exp": _exp, "log": _log, "sqrt": _sqrt, "rsqrt": _rsqrt, "sin": _sin, "cos": _cos, "tan": _tan,
    "sinh": _sinh, "cosh": _cosh, "tanh": _tanh, "expm1": _expm1, "log1p": _log1p, "logistic": _logistic, "pow": _pow,
    "asin": _asin, "acos": _acos, "atan": _atan, "asinh": _asinh, "acosh": _acosh, "atanh": _atanh,
}  # fmt: skip
