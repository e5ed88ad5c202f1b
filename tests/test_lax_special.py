"""Special functions made of other operations: against mpmath in both precisions, their edges, their
derivatives; the derivatives of gamma samples.
"""

import jax
import mpmath as mp
import numpy as np
import pytest
import scipy.special
from both_libraries import both_raise
from lax_differential import assert_same, compare

import velax
from velax import lax, random
from velax.scipy import special

RNG = np.random.default_rng(7)
N = 12


def spread(low, high, n=N):
    """Numbers between powers of ten."""
    return 10.0 ** RNG.uniform(low, high, n)


def zeta(s, q):
    """Left of 0, the terms up to there and the function right of it."""
    steps = int(max(0, mp.ceil(-q)))
    return mp.fsum((q + k) ** (-int(s)) for k in range(steps)) + mp.zeta(s, q + steps)


def inverse_slope(a, x):
    """The derivative in ``a`` of x where ``gammainc(a, x)`` is constant."""
    slope = mp.diff(lambda t: mp.gammainc(t, 0, x, regularized=True), a, h=mp.mpf(10) ** -12)
    return -slope / (x ** (a - 1) * mp.exp(-x) / mp.gamma(a))


SHAPES = np.concatenate([spread(-2, 1), spread(1, 2.5)])
DRAWS = RNG.gamma(SHAPES) + 1e-6
#: name -> (reference, largest error in float64 in units in the last place, arguments)
CASES = {
    "zeta": (zeta, 4, [np.concatenate([RNG.uniform(1.01, 9, N), RNG.integers(2, 9, N)]), np.concatenate([spread(-2, 3), -RNG.uniform(0, 30, N)])]),
    "polygamma": (lambda n, x: mp.polygamma(int(n), x), 16, [RNG.integers(0, 25, 2 * N).astype(float), spread(-2, 3, 2 * N)]),
    "igamma": (lambda a, x: mp.gammainc(a, 0, x, regularized=True), 300, [SHAPES, SHAPES * RNG.uniform(0.3, 2, 2 * N)]),
    "igammac": (lambda a, x: mp.gammainc(a, x, regularized=True), 6000, [SHAPES, SHAPES * RNG.uniform(0.3, 2, 2 * N)]),
    "random_gamma_grad": (inverse_slope, 100, [SHAPES, DRAWS]),
    "betainc": (lambda a, b, x: mp.betainc(a, b, 0, x, regularized=True), 300, [spread(-1, 1.3), spread(-1, 1.3), RNG.uniform(0, 1, N)]),
    "bessel_i0e": (lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), 12, [np.concatenate([RNG.uniform(-40, 40, N), spread(-3, 5)])]),
    "bessel_i1e": (lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), 12, [np.concatenate([RNG.uniform(-40, 40, N), spread(-3, 5)])]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_accuracy(name):
    reference, bound, arguments = CASES[name]
    for dtype, limit in (("float32", 0.51), ("float64", bound)):
        xs = [x.astype(dtype) for x in arguments]
        with velax.enable_x64(dtype == "float64"):
            got = np.asarray(velax.jit(getattr(lax, name))(*xs))
        assert got.dtype == dtype
        with mp.workdps(60):
            for value, *point in zip(got, *xs, strict=True):
                exact = reference(*(mp.mpf(float(v)) for v in point))
                if np.finfo(dtype).tiny <= abs(exact) <= np.finfo(dtype).max:
                    error = abs(mp.mpf(float(value)) - exact) / mp.mpf(
                        float(np.spacing(abs(got.dtype.type(float(exact)))))
                    )
                    assert error <= limit, (dtype, point, value, float(error))


def test_trigamma():
    """The derivative of digamma, on both sides of 0."""
    x = np.concatenate([spread(-2, 3), -RNG.uniform(0, 20, N)]).astype(np.float32)
    slope = velax.vmap(velax.grad(lax.digamma))
    np.testing.assert_allclose(slope(x), [float(mp.polygamma(1, float(v))) for v in x], rtol=1.5e-7)
    np.testing.assert_allclose(velax.vmap(velax.grad(velax.grad(lax.lgamma)))(x), slope(x), rtol=1e-6)


def test_large_parameters():
    a, x = np.array([2e6, 1e7, 2e6, 1e12]), np.array([2.001e6, 0.9999e7, 1.996e6, 1e12 + 1e5])
    with velax.enable_x64(True):
        np.testing.assert_allclose(lax.igamma(a, x), scipy.special.gammainc(a, x), rtol=1e-12)
        np.testing.assert_allclose(lax.igammac(a, x), scipy.special.gammaincc(a, x), rtol=1e-12)
        # the two forms meet
        rates = np.asarray(lax.random_gamma_grad(np.array([0.99e8, 1.01e8]), np.array([0.99e8, 1.01e8]) + 1e4))
    np.testing.assert_allclose(rates, 1 + 1e4 / 2e8, rtol=1e-6)


@pytest.mark.parametrize("name", ["igamma", "igammac", "zeta", "polygamma"])
def test_edges(name):
    inf, nan = np.inf, np.nan
    table = {
        "igamma": [
            (0, 1, 1),
            (0, 0, nan),
            (1, 0, 0),
            (1, inf, 1),
            (inf, 1, 0),
            (-1, 1, nan),
            (1, -1, nan),
            (nan, 1, nan),
            (1, nan, nan),
        ],
        "igammac": [
            (0, 1, 0),
            (0, 0, nan),
            (1, 0, 1),
            (1, inf, 0),
            (inf, 1, 1),
            (-1, 1, nan),
            (1, -1, nan),
            (nan, 1, nan),
            (1, nan, nan),
        ],
        "zeta": [
            (1, 2, inf),
            (0.5, 2, nan),
            (2, 0, inf),
            (2, -3, inf),
            (3, 0, nan),
            (1.5, -0.5, nan),
            (2, inf, 0),
            (nan, 1, nan),
            (2, nan, nan),
        ],
        "polygamma": [
            (1, 0, inf),
            (1, -2, inf),
            (2, 0, nan),
            (-1, 1, nan),
            (1.5, 1, nan),
            (0, 1, -np.euler_gamma),
            (1, inf, 0),
            (1, nan, nan),
        ],
    }
    a, x, expected = np.array(table[name], np.float32).T
    np.testing.assert_allclose(getattr(lax, name)(a, x), expected, rtol=1e-6)


F = lambda *points: np.array(points, np.float32)


@pytest.mark.parametrize(
    ("f", "args", "second"),
    [
        (lambda lib, x: lib.lax.digamma(x), (F(0.3, 1.5, 4),), True),
        (lambda lib, x: lib.lax.polygamma(lib.lax.full_like(x, 2), x), (F(0.5, 1.5, 4),), True),
        (lambda lib, a, x: lib.lax.igamma(a, x), (F(0.5, 1.5, 9), F(0.4, 2, 7)), False),
        (lambda lib, a, x: lib.lax.igammac(a, x), (F(0.5, 1.5, 9), F(0.4, 2, 7)), False),
        (
            lambda lib, x: lib.lax.betainc(lib.lax.full_like(x, 2), lib.lax.full_like(x, 3), x),
            (F(0.1, 0.5, 0.8),),
            True,
        ),
        (lambda lib, x: lib.lax.bessel_i0e(x), (F(-2, 0.5, 30),), True),
        (lambda lib, x: lib.lax.bessel_i1e(x), (F(-2, 0, 30),), False),
        (lambda lib, x, p: lib.scipy.special.boxcox(x, p), (F(0.2, 1.5, 4), F(0, 0.5, -1)), False),
        (lambda lib, x, p: lib.scipy.special.boxcox1p(x, p), (F(0.2, 1.5, 4), F(0, 0.5, -1)), False),
    ],
)
def test_derivatives(f, args, second):
    compare(f, *args, second=second, axes=(None, 0), rtol=2e-5)


@pytest.mark.parametrize(
    "name",
    ["polygamma", "zeta", "gammainc", "gammaincc", "poch", "i0", "i1", "i0e", "i1e", "boxcox", "boxcox1p", "betainc"],
)
def test_scipy_names(name):
    first, second = np.array([[1], [2], [4]]) if name == "polygamma" else F(1.5, 2.5, 4).reshape(3, 1), F(0.2, 0.7)
    args = {"betainc": (first, second, second)}.get(name, (second,) if name.startswith("i") else (first, second))
    expected = getattr(scipy.special, name)(*(a.astype(np.float64) if a.dtype == np.float32 else a for a in args))
    np.testing.assert_allclose(getattr(special, name)(*args), expected, rtol=1e-5)


def test_zeta_derivative():
    compute = velax.grad(lambda q: lax.zeta(np.float32(2.5), q))
    np.testing.assert_allclose(compute(np.float32(1.5)), -2.5 * scipy.special.zeta(3.5, 1.5), rtol=1e-6)
    with pytest.raises(NotImplementedError, match="derivative in its first argument"):
        velax.grad(lax.zeta)(2.0, 1.0)


@pytest.mark.parametrize(
    ("f", "kind", "lead"),
    [
        (
            lambda lib: lib.grad(lib.lax.polygamma)(1.0, 2.0),
            "ValueError",
            "polygamma gradient with respect to m is not supported",
        ),
        (
            lambda lib: lib.grad(lib.lax.betainc)(1.0, 2.0, 0.5),
            "ValueError",
            "Betainc gradient with respect to a and b not supported.",
        ),
        (
            lambda lib: lib.lax.igamma(np.ones(2, np.int32), np.ones(2, np.int32)),
            "TypeError",
            "igamma does not accept dtype int32",
        ),
        (
            lambda lib: lib.scipy.special.polygamma(1.5, 2.0),
            "ValueError",
            "Argument `n` to polygamma must be of integer type.",
        ),
        (lambda lib: lib.scipy.special.zeta(2.0), "NotImplementedError", "Riemann zeta function not implemented"),
    ],
)
def test_errors(f, kind, lead):
    both_raise(f, kind, lead)


ALPHA = F(0.05, 0.3, 1, 2.5, 20)


@pytest.mark.parametrize(
    "f",
    [
        lambda lib, a: lib.random.gamma(lib.random.key(5), a, (5,)),
        lambda lib, a: lib.random.loggamma(lib.random.key(5), a, (5,)),
        lambda lib, a: lib.random.beta(lib.random.key(5), a, a + 1, (5,)),
        lambda lib, a: lib.random.dirichlet(lib.random.key(5), a),
        lambda lib, a: lib.random.chisquare(lib.random.key(5), a, (5,)),
    ],
)
def test_derivatives_of_gamma_samples(f):
    ours, theirs = (lib.jvp(lambda a, lib=lib: f(lib, a), (ALPHA,), (np.ones_like(ALPHA),)) for lib in (velax, jax))
    assert_same(ours, theirs, rtol=2e-4)


def test_derivative_of_small_gamma_samples():
    """Of the logarithm, where the number itself is 0: ``-log(x) / a`` and little else."""
    key, a = random.key(5), 1e-4
    draw, slope = velax.value_and_grad(lambda a: random.loggamma(key, a))(a)
    np.testing.assert_allclose(slope, -draw / a, rtol=2e-3)
    assert draw < -200


@pytest.mark.parametrize("name", ["igamma_grad_a", "random_gamma_grad"])
def test_gamma_derivatives_outside_of_the_domain_end(name):
    a, x = (
        np.ravel(v) for v in np.meshgrid(np.float32([-1.5, -0.5, 0, 2, np.inf, np.nan]), np.float32([-1, -0.5, np.nan]))
    )
    assert np.isnan(getattr(velax.lax, name)(a, x)).all()
