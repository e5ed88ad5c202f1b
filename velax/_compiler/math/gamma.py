"""lgamma and digamma, in binary64 for every precision.

Arguments below 8 are moved into [1, 2] by the recurrence (six conditional steps), where a polynomial has the
functions' zeros as factors; from 8 on Stirling's series takes over, its tail a polynomial in ``1/z^2``.
Negative arguments go through the reflection formulas. A few ULP of error, but near the zeros of lgamma and
digamma on the negative axis the error is relative to the terms that cancel.
"""

from __future__ import annotations

import math

from velax._compiler.math import tables
from velax._compiler.math.formats import INF, NAN
from velax._compiler.math.logarithm import log
from velax._compiler.math.trigonometric import cosine_and_sine_of_half_turns
from velax._compiler.math.value import Value, const, fma, horner, rint, select

__all__ = ["digamma", "lgamma"]

_STEPS = 6
_STIRLING = 8.0
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
#: the positive zero of digamma, as an unevaluated sum
_PSI_ROOT = (1.4616321449683622, 9.549995429965697e-17)


def _in_f64(fn):
    def wrapped(x: Value) -> Value:
        return fn(x.to("f64")).to(x.dtype)

    wrapped.__name__, wrapped.__doc__ = fn.__name__, fn.__doc__
    return wrapped


@_in_f64
def lgamma(x: Value) -> Value:
    """``log |gamma(x)|``: infinite at 0, at the negative integers and at both infinities."""
    negative = x < 0.0
    z = select(negative, 1.0 - x, x)
    large, small = z >= _STIRLING, z < 1.0
    t = select(large, 2.0, z)
    product = const(1.0, "f64")
    for _ in range(_STEPS):
        above = t > 2.0
        t = select(above, t - 1.0, t)
        product = select(above, product * t, product)
    t = select(small, z + 1.0, t)
    log_z = log(select(large | small, z, product))
    # for small z the factors are taken from z itself: z + 1 rounds
    core = select(small, z, t - 1.0) * select(small, z - 1.0, t - 2.0) * horner(t - 1.5, tables.LGAMMA_F64)
    inverse = 1.0 / z
    series = fma(horner(inverse * inverse, tables.STIRLING_F64), inverse, _HALF_LOG_TWO_PI - 0.5)
    value = select(large, fma(z - 0.5, log_z - 1.0, series), core + select(small, -log_z, log_z))
    # log gamma(x) = log(pi/|sin(pi x)|) - log gamma(1 - x)
    _, sine = cosine_and_sine_of_half_turns(x - rint(x))
    sine = abs(sine)
    value = select(negative, -log(sine * (1.0 / math.pi)) - value, value)
    value = select(negative & sine.eq(0.0), INF, value)
    return select(abs(x).eq(INF), INF, value)


@_in_f64
def digamma(x: Value) -> Value:
    """The derivative of lgamma: NaN at 0, the negative integers and minus infinity."""
    negative = x < 0.0
    z = select(negative, 1.0 - x, x)
    large, small = z >= _STIRLING, z < 1.0
    t = select(large, 2.0, z)
    # the sum of 1/t over the steps, as one fraction
    num, den = const(0.0, "f64"), const(1.0, "f64")
    for _ in range(_STEPS):
        above = t > 2.0
        t = select(above, t - 1.0, t)
        num = select(above, fma(num, t, den), num)
        den = select(above, den * t, den)
    t = select(small, z + 1.0, t)
    num, den = select(small, -1.0, num), select(small, z, den)
    core = ((t - _PSI_ROOT[0]) - _PSI_ROOT[1]) * horner(t - 1.5, tables.DIGAMMA_F64)
    inverse = 1.0 / select(large, z, den)
    square = inverse * inverse
    far = (log(z) - inverse * 0.5) - square * horner(square, tables.DIGAMMA_TAIL_F64)
    value = select(large, far, fma(num, inverse, core))
    # digamma(x) = digamma(1 - x) - pi/tan(pi x)
    cosine, sine = cosine_and_sine_of_half_turns(x - rint(x))
    value = select(negative, value - math.pi * cosine / sine, value)
    return select(x.eq(0.0) | (negative & sine.eq(0.0)), NAN, value)
