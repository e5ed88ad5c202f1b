"""Special functions made of other operations: zeta, polygamma, incomplete gamma and beta functions, Bessel functions.

Each is computed in float64 whatever the operands are: the lowering traces a function of float64 arrays and
inlines its jaxpr. Functions of float32 and narrower are then correctly rounded but for rare ties; those of
float64 are exact to a few units in the last place, times the condition of their exponential factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from velax._lang.config import enable_x64
from velax._lang.trace import get_aval
from velax._transforms.staging import trace_to_jaxpr
from velax.lax import _comparison as cmp
from velax.lax._arithmetic import (
    abs,
    add,
    cbrt,
    div,
    max,
    mul,
    neg,
    pow,
    reciprocal,
    rem,
    sign,
    sqrt,
    square,
    sub,
)
from velax.lax._reductions import reduce_or, reduce_prod, reduce_sum
from velax.lax._rules import FLOAT, elementwise, jvp_from
from velax.lax._structural import broadcast_in_dim, broadcasted_iota, convert_type, full, select
from velax.lax._transcendental import digamma, erfc, exp, lgamma, log, log1p
from velax.lax._values import core_args, full_like
from velax.lax._while import while_loop

__all__ = [
    "bessel_i0e", "bessel_i0e_p", "bessel_i1e", "bessel_i1e_p", "betainc", "igamma", "igamma_grad_a",
    "igamma_grad_a_p", "igamma_p", "igammac",
    "igammac_p", "polygamma", "polygamma_p", "random_gamma_grad", "random_gamma_grad_p",
    "regularized_incomplete_beta_p", "zeta", "zeta_p",
]  # fmt: skip

_F64 = np.dtype("float64")
_EPS = 2.0**-53


def _in_f64(fun: Callable) -> Callable:
    """The lowering of an elementwise function that is given float64 arrays of one shape."""

    def lower(ctx, *nodes, **params):
        (out,) = ctx.avals_out
        wide = lambda x: broadcast_in_dim(x, out.shape, range(len(x.shape)) if x.shape else ())

        def whole(*xs):
            return [convert_type(fun(*(convert_type(wide(x), _F64) for x in xs), **params), out.dtype)]

        with enable_x64(True):
            closed = trace_to_jaxpr(whole, ctx.avals_in)
        return ctx.inline(closed, nodes)

    return lower


def _define(name: str, fun: Callable, arity: int, *terms: Callable | None):
    return elementwise(name, FLOAT, jvp=jvp_from(*terms), lower=_in_f64(fun), arity=arity)


def _where(*cases):
    """``_where(condition, value, condition, value, ..., value)``: the first that holds; values may be numbers."""
    *pairs, out = cases
    shape = get_aval(cases[0]).shape
    wide = lambda v: full(shape, float(v), _F64) if isinstance(v, (int, float)) else v
    out = wide(out)
    for condition, value in reversed(list(zip(pairs[::2], pairs[1::2], strict=True))):
        out = select(condition, wide(value), out)
    return out


def _both(*conditions):
    out = conditions[0]
    for c in conditions[1:]:
        out = cmp.bitwise_and(out, c)
    return out


def _polynomial(x, coefficients):
    """``sum(c[k] * x**k)`` by Horner's rule, lowest order first."""
    total = full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = add(mul(total, x), full_like(x, float(c)))
    return total


def _some(condition):
    return reduce_or(condition, tuple(range(get_aval(condition).ndim)))


def _unsupported(message: str) -> Callable:
    def term(t, out, *primals):
        raise ValueError(message)

    return term


# -- the Hurwitz zeta function -------------------------------------------------------------------

_DIRECT_TERMS = 10


def _bernoulli_numbers(count: int) -> list[Fraction]:
    """B0, B1, ... by their recurrence."""
    numbers = [Fraction(1)]
    for n in range(1, count):
        numbers.append(-sum(math.comb(n + 1, k) * numbers[k] for k in range(n)) / (n + 1))
    return numbers


#: B(2j) / (2j)!
_EULER_MACLAURIN = [float(b / math.factorial(2 * j)) for j, b in enumerate(_bernoulli_numbers(26)[::2]) if j]


def _along(x, n: int):
    """``x`` repeated along a new last axis."""
    shape = get_aval(x).shape
    return broadcast_in_dim(x, (*shape, n), range(len(shape)))


def _zeta_right(s, q):
    """Zeta for s > 1 and q > 0: ten terms, and the Euler-Maclaurin formula for the rest of the sum."""
    shape = (*get_aval(q).shape, _DIRECT_TERMS)
    # the terms lie along an axis, so that the power is one instruction sequence
    steps = broadcasted_iota(_F64, shape, len(shape) - 1)
    terms = pow(add(_along(q, _DIRECT_TERMS), steps), neg(_along(s, _DIRECT_TERMS)))
    direct = reduce_sum(terms, (len(shape) - 1,))
    a = add(q, 10.0)
    power = pow(a, neg(s))
    rest = add(div(mul(power, a), sub(s, 1.0)), mul(power, 0.5))
    # each factor s (s+1) ... (s+2j-2) a**-(s+2j-1) follows from the one before
    inverse = square(reciprocal(a))
    factor = div(mul(s, power), a)
    for j, c in enumerate(_EULER_MACLAURIN, 1):
        rest = add(rest, mul(factor, c))
        factor = mul(factor, mul(mul(add(s, 2.0 * j - 1), add(s, 2.0 * j)), inverse))
    # beyond, the first term is all that is left, and the factors overflow
    far = cmp.bitwise_or(cmp.gt(s, 1e6), cmp.eq(a, np.inf))
    return add(direct, _where(far, 0.0, rest))


def _zeta_value(s, q):
    """Zeta at q < 0, for whole s, from the sum of ``(q + k)**-s`` over all integers k, which has the period 1 in q.

    With r = q less the nearest integer, that sum is ``r**-s + zeta(s, 1 + r) + (-1)**s zeta(s, 1 - r)``, and
    its part left of q is ``(-1)**s zeta(s, 1 - q)``.
    """
    negative = cmp.lt(q, 0.0)
    even = cmp.eq(rem(s, 2.0), 0.0)
    r = sub(q, cmp.round(q, cmp.RoundingMethod.TO_NEAREST_EVEN))
    # the three values lie along an axis; right of 0 the first alone is used
    axis = get_aval(q).ndim
    place = broadcasted_iota(np.dtype("int32"), (*get_aval(q).shape, 3), axis)
    at = lambda k: cmp.eq(place, k)
    first, below, above = (_along(x, 3) for x in (_where(negative, sub(1.0, q), q), sub(1.0, r), add(1.0, r)))
    values = _zeta_right(_along(s, 3), select(at(0), first, select(at(1), below, above)))
    sign_of_s = _along(_where(even, 1.0, -1.0), 3)
    weights = select(at(0), neg(sign_of_s), select(at(1), sign_of_s, full(get_aval(place).shape, 1.0, _F64)))
    left = add(reduce_sum(mul(values, weights), (axis,)), pow(r, neg(s)))
    right = reduce_sum(select(at(0), values, full(get_aval(place).shape, 0.0, _F64)), (axis,))
    return _where(
        cmp.eq(s, 1.0), np.inf,
        cmp.bitwise_not(cmp.gt(s, 1.0)), np.nan,
        _both(cmp.le(q, 0.0), cmp.eq(q, cmp.floor(q))), _where(even, np.inf, np.nan),
        _both(negative, cmp.ne(s, cmp.floor(s))), np.nan,
        negative, left,
        right,
    )  # fmt: skip


def _zeta_order(t, out, x, q):
    raise NotImplementedError(
        "zeta: the derivative in its first argument is not available; wrap that in lax.stop_gradient"
    )


zeta_p = _define(
    "zeta", _zeta_value, 2, _zeta_order, lambda t, out, x, q: mul(t, mul(neg(x), zeta(add(x, full_like(x, 1)), q)))
)


def zeta(x, q):
    """Elementwise Hurwitz zeta function, ``sum((q + k)**-x for k in 0, 1, ...)``; operands as in `add`.

    Args:
      x: floats; NaN below 1, inf at 1.
      q: floats. At the poles 0, -1, ... the result is inf for even ``x`` and NaN for others;
        elsewhere left of 0 it is NaN unless ``x`` is whole.

    Example:
      >>> from velax import lax
      >>> f"{float(lax.zeta(2.0, 1.0)):.4f}"
      '1.6449'
    """
    return zeta_p.bind(*core_args("zeta", x, q))


# -- polygamma -----------------------------------------------------------------------------------

#: the largest n whose factorial is a float64
_LAST_FACTORIAL = 170


def _factorial(n):
    """``n!`` for whole n, as a product along an axis: logarithms would lose digits."""
    shape = (*get_aval(n).shape, _LAST_FACTORIAL)
    k = add(broadcasted_iota(_F64, shape, len(shape) - 1), 1.0)
    product = reduce_prod(select(cmp.le(k, _along(n, _LAST_FACTORIAL)), k, full(shape, 1.0, _F64)), (len(shape) - 1,))
    return _where(cmp.gt(n, float(_LAST_FACTORIAL)), np.inf, product)


def _polygamma_value(n, x):
    odd = cmp.ne(rem(n, 2.0), 0.0)
    size = mul(_factorial(n), _zeta_value(add(n, 1.0), x))
    return _where(
        cmp.eq(n, 0.0), digamma(x),
        cmp.bitwise_or(cmp.bitwise_not(cmp.gt(n, 0.0)), cmp.ne(n, cmp.floor(n))), np.nan,
        odd, size,
        neg(size),
    )  # fmt: skip


polygamma_p = _define(
    "polygamma", _polygamma_value, 2, _unsupported("polygamma gradient with respect to m is not supported"),
    lambda t, out, n, x: mul(t, polygamma(add(n, full_like(n, 1)), x)),
)  # fmt: skip


def polygamma(m, x):
    """Elementwise derivative of order ``m`` of `digamma`; operands as in `add`.

    Args:
      m: floats that are whole and not negative; NaN for others.
      x: floats.

    Example:
      >>> from velax import lax
      >>> f"{float(lax.polygamma(1.0, 1.0)):.4f}"
      '1.6449'
    """
    return polygamma_p.bind(*core_args("polygamma", m, x))


# -- incomplete gamma functions ------------------------------------------------------------------

#: from here on expansions in 1/a are exact enough, and the series would need thousands of terms
_LARGE = 1e6
_STIRLING = [float(b / (2 * j * (2 * j - 1))) for j, b in enumerate(_bernoulli_numbers(18)[::2]) if j]


def _relative_entropy(mu):
    """``mu - log1p(mu)``, which is ``mu**2 / 2`` near 0."""
    series = mul(square(mu), _polynomial(mu, [(-1) ** k / (k + 2) for k in range(10)]))
    return _where(cmp.lt(abs(mu), 0.02), series, sub(mu, log1p(mu)))


def _log_power(a, x, log_x):
    """The logarithm of ``x**a exp(-x) / gamma(a + 1)``; for large a without the cancellation of its terms."""
    direct = sub(sub(mul(a, log_x), x), lgamma(add(a, 1.0)))
    inverse = reciprocal(a)
    correction = mul(inverse, _polynomial(square(inverse), _STIRLING))
    scaled = neg(mul(a, _relative_entropy(div(sub(x, a), a))))
    near = sub(sub(scaled, correction), mul(log(mul(a, 2 * math.pi)), 0.5))
    return _where(_both(cmp.gt(a, 10.0), cmp.gt(x, mul(a, 0.1)), cmp.lt(x, mul(a, 10.0))), near, direct)


def _series(a, x, active):
    """``S = sum(x**k / ((a+1) ... (a+k)))`` and its derivative in a; ``x**a exp(-x) S / gamma(a+1)`` is the
    lower function.
    """

    def body(state):
        k, term, term_a, total, total_a, _ = state
        k = add(k, 1.0)
        inverse = reciprocal(add(a, k))
        ratio = mul(x, inverse)
        term = mul(term, ratio)
        term_a = sub(mul(term_a, ratio), mul(term, inverse))
        total, total_a = add(total, term), add(total_a, term_a)
        more = cmp.bitwise_or(cmp.gt(term, mul(total, _EPS)), cmp.gt(abs(term_a), mul(abs(total_a), _EPS)))
        return k, term, term_a, total, total_a, _both(more, active)

    one, zero = full_like(x, 1.0), full_like(x, 0.0)
    one, zero = (broadcast_in_dim(v, get_aval(x).shape, ()) for v in (one, zero))
    out = while_loop(lambda s: _some(s[5]), body, (np.float64(0), one, zero, one, zero, active))
    return out[3], out[4]


def _fraction(a, x, active):
    """The continued fraction h, and its derivative in a, where ``x**a exp(-x) h / gamma(a)`` is the upper function.

    By the modified method of Lentz (Applied Optics 15, 1976), each step with its derivative.
    """

    def body(state):
        i, b, c, c_a, d, d_a, h, h_a, _ = state
        i, b = add(i, 1.0), add(b, 2.0)
        # the numerator -i (i - a) has the derivative i, the denominator -1
        numerator = mul(neg(i), sub(i, a))
        d_next = reciprocal(add(mul(numerator, d), b))
        d_a = neg(mul(square(d_next), sub(add(mul(i, d), mul(numerator, d_a)), 1.0)))
        quotient = div(numerator, c)
        c_a = sub(div(sub(i, mul(quotient, c_a)), c), 1.0)
        c = add(b, quotient)
        delta = mul(c, d_next)
        h_a_next = add(mul(h_a, delta), mul(h, add(mul(c_a, d_next), mul(c, d_a))))
        settled = cmp.le(abs(sub(h_a_next, h_a)), mul(abs(h_a_next), 2 * _EPS))
        more = cmp.bitwise_not(_both(cmp.le(abs(sub(delta, 1.0)), 2 * _EPS), settled))
        return i, b, c, c_a, d_next, d_a, mul(h, delta), h_a_next, _both(more, active, cmp.lt(i, 20000.0))

    b = sub(add(x, 1.0), a)
    d = reciprocal(b)
    # c starts at infinity
    wide = lambda v: broadcast_in_dim(np.float64(v), get_aval(x).shape, ())
    start = (np.float64(0), b, wide(np.inf), wide(0), d, square(d), d, square(d), active)
    out = while_loop(lambda s: _some(s[8]), body, start)
    return out[6], out[7]


def _incomplete_gamma(upper: bool) -> Callable:
    def value(a, x):
        log_x = log(x)
        valid = _both(cmp.gt(a, 0.0), cmp.gt(x, 0.0), cmp.lt(a, _LARGE), cmp.lt(x, np.inf))
        left = cmp.le(x, max(a, full_like(a, 1.0)))
        total, _ = _series(a, x, _both(valid, left))
        fraction, _ = _fraction(a, x, _both(valid, cmp.bitwise_not(left)))
        power = exp(_log_power(a, x, log_x))
        low, high = mul(power, total), mul(mul(power, a), fraction)
        near, far = (sub(1.0, low), high) if upper else (low, sub(1.0, high))
        one, zero = (0.0, 1.0) if upper else (1.0, 0.0)
        return _where(
            cmp.bitwise_not(_both(cmp.ge(a, 0.0), cmp.ge(x, 0.0), cmp.gt(add(a, x), 0.0))), np.nan,
            cmp.bitwise_or(cmp.eq(a, 0.0), cmp.eq(x, np.inf)), one,
            cmp.bitwise_or(cmp.eq(x, 0.0), cmp.eq(a, np.inf)), zero,
            cmp.ge(a, _LARGE), _uniform_expansion(a, x, upper),
            left, near,
            far,
        )  # fmt: skip

    return value


def _uniform_expansion(a, x, upper: bool):
    """The leading terms of Temme's expansion ("Uniform asymptotic expansions of the incomplete gamma
    functions", 1979).
    """
    mu = div(sub(x, a), a)
    entropy = _relative_entropy(mu)
    eta = mul(sign(mu), sqrt(mul(entropy, 2.0)))
    middle = _polynomial(eta, [-1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835])
    c0 = _where(cmp.lt(abs(eta), 0.03), middle, sub(reciprocal(mu), reciprocal(eta)))
    density = div(exp(neg(mul(a, entropy))), sqrt(mul(a, 2 * math.pi)))
    correction = mul(density, sub(c0, div(full_like(a, 1 / 540), a)))
    z = mul(eta, sqrt(mul(a, 0.5)))
    return add(mul(erfc(z), 0.5), correction) if upper else sub(mul(erfc(neg(z)), 0.5), correction)


def _log_gamma_rate(a, x, log_x):
    """The derivative in a of the logarithm of a gamma-distributed number x, at a constant value of its
    distribution function.

    By the implicit function theorem it is minus the derivative in a of that function, over x times the
    density (Figurnov, Mohamed and Mnih, "Implicit reparameterization gradients", 2018). The common factor
    ``x**a exp(-x)`` cancels.
    """
    moderate = cmp.lt(a, 1e8)
    left = cmp.le(x, max(a, full_like(a, 1.0)))
    # outside of the domain the series need not converge, and what comes of it is not used
    steps = _both(moderate, cmp.gt(a, 0.0), cmp.ge(x, 0.0), cmp.lt(x, np.inf))
    total, total_a = _series(a, x, _both(steps, left))
    fraction, fraction_a = _fraction(a, x, _both(steps, cmp.bitwise_not(left)))
    below = neg(div(add(total_a, mul(total, sub(log_x, digamma(add(a, 1.0))))), a))
    above = add(fraction_a, mul(fraction, sub(log_x, digamma(a))))
    return _where(cmp.bitwise_not(moderate), _cube_root_rate(a, x), left, below, above)


def _cube_root_rate(a, x):
    """For large a: ``cbrt(x / a)`` is nearly normal, of mean ``1 - 1/(9a)`` and variance ``1/(9a)`` (Wilson
    and Hilferty, 1931).
    """
    root = cbrt(div(x, a))
    ninth = div(full_like(a, 1 / 9), a)
    root_a = div(sub(ninth, mul(add(sub(root, 1.0), ninth), 0.5)), a)
    return add(reciprocal(a), div(mul(root_a, 3.0), root))


def _gamma_grad_value(a, x):
    rate = mul(x, _log_gamma_rate(a, x, log(x)))
    valid = _both(cmp.gt(a, 0.0), cmp.ge(x, 0.0), cmp.lt(a, np.inf), cmp.lt(x, np.inf))
    return _where(cmp.bitwise_not(valid), np.nan, cmp.eq(x, 0.0), 0.0, rate)


def _log_gamma_grad_value(a, log_x):
    """As `_gamma_grad_value`, of the logarithm of x: x itself may be 0."""
    return _log_gamma_rate(a, exp(log_x), log_x)


def _igamma_grad_a_value(a, x):
    density = mul(div(exp(_log_power(a, x, log(x))), x), a)
    return _where(cmp.eq(x, 0.0), _gamma_grad_value(a, x), neg(mul(_gamma_grad_value(a, x), density)))


def _density(a, x):
    """The derivative of `igamma` in x."""
    return exp(sub(sub(mul(sub(a, full_like(a, 1)), log(x)), x), lgamma(a)))


def _no_second(name: str) -> tuple[Callable, Callable]:
    message = f"{name}: its derivative is not available; wrap its arguments in lax.stop_gradient"

    def term(t, out, *primals):
        raise NotImplementedError(message)

    return term, term


igamma_p = _define(
    "igamma",
    _incomplete_gamma(False),
    2,
    lambda t, out, a, x: mul(t, igamma_grad_a(a, x)),
    lambda t, out, a, x: mul(t, _density(a, x)),
)
igammac_p = _define(
    "igammac",
    _incomplete_gamma(True),
    2,
    lambda t, out, a, x: neg(mul(t, igamma_grad_a(a, x))),
    lambda t, out, a, x: neg(mul(t, _density(a, x))),
)
igamma_grad_a_p = _define("igamma_grad_a", _igamma_grad_a_value, 2, *_no_second("igamma_grad_a"))
random_gamma_grad_p = _define("random_gamma_grad", _gamma_grad_value, 2, *_no_second("random_gamma_grad"))
random_log_gamma_grad_p = _define(
    "random_log_gamma_grad", _log_gamma_grad_value, 2, *_no_second("random_log_gamma_grad")
)


def igamma(a, x):
    """Elementwise regularized lower incomplete gamma function; operands as in `add`.

    Args:
      a: floats that are not negative.
      x: floats that are not negative.

    Returns:
      The integral of ``t**(a-1) exp(-t)`` from 0 to ``x``, over ``gamma(a)``; NaN outside of the domain.

    Example:
      >>> from velax import lax
      >>> f"{float(lax.igamma(1.0, 1.0)):.4f}"
      '0.6321'
    """
    return igamma_p.bind(*core_args("igamma", a, x))


def igammac(a, x):
    """Elementwise ``1 - igamma(a, x)``, accurate where that is small."""
    return igammac_p.bind(*core_args("igammac", a, x))


def igamma_grad_a(a, x):
    """Elementwise derivative of `igamma` in its first argument; operands as in `add`."""
    return igamma_grad_a_p.bind(*core_args("igamma_grad_a", a, x))


def random_gamma_grad(a, x):
    """Elementwise derivative in ``a`` of numbers ``x`` drawn from the gamma distribution of shape ``a``;
    operands as in `add`.

    It is that of the inverse of `igamma` in its second argument, at the value ``igamma(a, x)``.
    """
    return random_gamma_grad_p.bind(*core_args("random_gamma_grad", a, x))


def random_log_gamma_grad(a, log_x):
    """As `random_gamma_grad`, for the logarithms of such numbers."""
    return random_log_gamma_grad_p.bind(*core_args("random_log_gamma_grad", a, log_x))


# -- the incomplete beta function ----------------------------------------------------------------


def _log_beta(a, b):
    return sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))


def _beta_fraction(a, b, x, active):
    """The continued fraction of the incomplete beta function, two steps at a time, by the modified method of Lentz."""
    tiny = 1e-300
    guard = lambda v: _where(cmp.lt(abs(v), tiny), tiny, v)
    total = add(a, b)

    def step(numerator, c, d, h):
        d = reciprocal(guard(add(1.0, mul(numerator, d))))
        c = guard(add(1.0, div(numerator, c)))
        delta = mul(c, d)
        return c, d, mul(h, delta), delta

    def body(state):
        m, c, d, h, _ = state
        m = add(m, 1.0)
        am = add(a, mul(m, 2.0))
        even = div(mul(mul(m, sub(b, m)), x), mul(sub(am, 1.0), am))
        odd = neg(div(mul(mul(add(a, m), add(total, m)), x), mul(am, add(am, 1.0))))
        c, d, h, _ = step(even, c, d, h)
        c, d, h, delta = step(odd, c, d, h)
        return m, c, d, h, _both(cmp.gt(abs(sub(delta, 1.0)), 2 * _EPS), active, cmp.lt(m, 20000.0))

    one = broadcast_in_dim(np.float64(1), get_aval(x).shape, ())
    d = reciprocal(guard(sub(1.0, div(mul(total, x), add(a, 1.0)))))
    return while_loop(lambda s: _some(s[4]), body, (np.float64(0), one, d, d, active))[3]


def _betainc_value(a, b, x):
    inside = _both(cmp.gt(a, 0.0), cmp.gt(b, 0.0), cmp.gt(x, 0.0), cmp.lt(x, 1.0), cmp.lt(add(a, b), np.inf))
    # the fraction converges fast left of the mean; from the right it is taken of the mirrored function
    mirrored = cmp.gt(x, div(add(a, 1.0), add(add(a, b), 2.0)))
    rest = sub(1.0, x)
    p, q, y = select(mirrored, b, a), select(mirrored, a, b), select(mirrored, rest, x)
    fraction = _beta_fraction(p, q, y, inside)
    log_front = sub(add(mul(a, log(x)), mul(b, log1p(neg(x)))), _log_beta(a, b))
    part = div(mul(exp(log_front), fraction), p)
    return _where(
        cmp.bitwise_not(_both(cmp.gt(a, 0.0), cmp.gt(b, 0.0), cmp.ge(x, 0.0), cmp.le(x, 1.0))), np.nan,
        cmp.eq(x, 0.0), 0.0,
        cmp.eq(x, 1.0), 1.0,
        cmp.bitwise_not(inside), np.nan,
        mirrored, sub(1.0, part),
        part,
    )  # fmt: skip


def _betainc_x(t, out, a, b, x):
    one = full_like(x, 1)
    power = add(mul(sub(b, one), log1p(neg(x))), mul(sub(a, one), log(x)))
    return mul(t, exp(sub(power, _log_beta(a, b))))


_NO_BETA_PARAMETERS = _unsupported("Betainc gradient with respect to a and b not supported.")
regularized_incomplete_beta_p = _define(
    "regularized_incomplete_beta", _betainc_value, 3, _NO_BETA_PARAMETERS, _NO_BETA_PARAMETERS, _betainc_x
)


def betainc(a, b, x):
    """Elementwise regularized incomplete beta function; operands as in `add`.

    Args:
      a, b: positive floats.
      x: floats in ``[0, 1]``.

    Returns:
      The integral of ``t**(a-1) (1-t)**(b-1)`` from 0 to ``x``, over that to 1; NaN outside of the domain.

    Example:
      >>> from velax import lax
      >>> float(lax.betainc(1.0, 1.0, 0.25))
      0.25
    """
    return regularized_incomplete_beta_p.bind(*core_args("betainc", a, b, x))


# -- modified Bessel functions -------------------------------------------------------------------

#: up to here by the power series, whose terms are positive; beyond by the asymptotic series
_BESSEL_FAR = 22.0
_BESSEL_TERMS = (60, 26)


def _bessel_coefficients(order: int) -> tuple[list[float], list[float]]:
    near = [float(Fraction(1, math.factorial(k) * math.factorial(k + order))) for k in range(_BESSEL_TERMS[0])]
    far, c = [], Fraction(1)
    for k in range(_BESSEL_TERMS[1]):
        far.append(float(c))
        c *= Fraction((2 * k + 1) ** 2 - 4 * order * order, 8 * (k + 1))
    return near, far


def _bessel_value(order: int) -> Callable:
    near, far = _bessel_coefficients(order)

    def value(x):
        z = abs(x)
        inside = cmp.lt(z, _BESSEL_FAR)
        half = mul(_where(inside, z, 0.0), 0.5)
        series = mul(_polynomial(square(half), near), exp(neg(mul(half, 2.0))))
        beyond = _where(inside, _BESSEL_FAR, z)
        tail = div(_polynomial(reciprocal(beyond), far), sqrt(mul(beyond, 2 * math.pi)))
        out = _where(inside, mul(series, half) if order else series, tail)
        out = mul(sign(x), out) if order else out
        return _where(cmp.ne(x, x), x, out)

    return value


bessel_i0e_p = _define(
    "bessel_i0e", _bessel_value(0), 1, lambda t, out, x: mul(t, sub(bessel_i1e(x), mul(sign(x), out)))
)


def _i1e_jvp(t, out, x):
    zero = cmp.eq(x, full_like(x, 0))
    safe = select(zero, add(x, full_like(x, 1)), x)
    slope = sub(bessel_i0e(safe), mul(out, add(sign(safe), reciprocal(safe))))
    return mul(t, select(zero, add(mul(x, full_like(x, 0)), full_like(x, 0.5)), slope))


bessel_i1e_p = _define("bessel_i1e", _bessel_value(1), 1, _i1e_jvp)


def bessel_i0e(x):
    """Elementwise modified Bessel function of order 0 of floats, times ``exp(-abs(x))``."""
    return bessel_i0e_p.bind(*core_args("bessel_i0e", x))


def bessel_i1e(x):
    """Elementwise modified Bessel function of order 1 of floats, times ``exp(-abs(x))``."""
    return bessel_i1e_p.bind(*core_args("bessel_i1e", x))
