"""The elementwise functions of `velax._compiler.math`, compiled, against mpmath, NumPy and SciPy.

`BOUNDS` is the promise: the largest error in units in the last place (of the correctly rounded result's
  binade) over all arguments.
"""

import functools
import importlib.util
import sys
import zlib
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
import scipy.special
from loops_harness import awkward, call, check, compile_and_load

from velax._compiler.math import lower_complex, lower_map, tables
from velax._ir.graph import MAP_FNS
from velax._ir.interpret import numpy_dtype
from velax._ir.loops import DTYPES, FLOATS, HI, LO, SIGNED, UNSIGNED, WIDTH, Buffer, Expr, For, Kernel, Load, Store, Var

INF, NAN = float("inf"), float("nan")

#: function: (largest ULP error in f32, in f64, argument ranges beside random bit patterns)
BOUNDS = {
    "exp": (1.1, 1.1, [(-104, 89), (-746, 710), (-0.4, 0.4)]),
    "exp2": (1.0, 1.0, [(-150, 128), (-1075, 1024), (-1, 1)]),
    "expm1": (1.6, 2.0, [(-20, 89), (-2, 2), (-0.5, 0.5)]),
    "log": (1.0, 1.0, [(0, 100), (0.5, 2)]),
    "log1p": (1.5, 1.0, [(-1, 100), (-0.5, 1)]),
    "tanh": (1.5, 1.5, [(-20, 20), (-1, 1)]),
    "logistic": (2.4, 2.4, [(-104, 90), (-745, 700), (-5, 5)]),
    "sin": (1.6, 1.0, [(-100, 100), (-1, 1), (-1e9, 1e9), (1e20, 1e38)]),
    "cos": (1.6, 1.0, [(-100, 100), (-1, 1), (-1e9, 1e9), (1e20, 1e38)]),
    "tan": (2.1, 2.3, [(-100, 100), (-1, 1), (-1e9, 1e9), (1e20, 1e38)]),
    "sqrt": (0.5, 0.5, [(0, 100), (1, 4)]),
    "rsqrt": (1.5, 1.5, [(0, 100), (1, 4)]),
    "cbrt": (1.0, 1.0, [(-100, 100), (1, 8)]),
    "erf": (1.4, 1.0, [(-6, 6), (-1, 1)]),
    "erfc": (1.0, 4.0, [(-6, 10.1), (-3, 27.3), (-1, 2)]),
    "erf_inv": (2.3, 3.0, [(-1, 1), (-0.2, 0.2), (0.99, 1), (0.99999, 1)]),
    "asin": (2.0, 2.1, [(-1, 1), (0.4, 0.6)]),
    "acos": (1.5, 1.5, [(-1, 1), (0.4, 0.6), (0.99, 1)]),
    "atan": (1.5, 2.0, [(-3, 3), (-1, 1), (-0.5, 0.5)]),
    "sinh": (1.8, 1.8, [(-89, 89), (-710, 710), (-2, 2)]),
    "cosh": (1.6, 1.6, [(-89, 89), (-710, 710), (-2, 2)]),
    "asinh": (2.0, 2.0, [(-100, 100), (-1, 1)]),
    "acosh": (2.0, 2.0, [(1, 100), (1, 1.1)]),
    "atanh": (2.0, 2.0, [(-1, 1), (-0.1, 0.1)]),
    # for negative arguments see test_gamma_functions_on_the_left
    "lgamma": (1.0, 6.0, [(0, 10), (0.9, 2.1), (5, 1000)]),
    "digamma": (1.0, 4.0, [(0.01, 10), (1.4, 1.5), (5, 1000)]),
}
EXACT_OF = {
    "exp": mp.exp, "exp2": lambda x: mp.power(2, x), "expm1": mp.expm1, "log": mp.log, "log1p": mp.log1p, "tanh": mp.tanh,
    "logistic": lambda x: 1 / (1 + mp.exp(-x)), "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "sqrt": mp.sqrt,
    "rsqrt": lambda x: 1 / mp.sqrt(x), "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)), "erf": mp.erf, "erfc": mp.erfc,
    "erf_inv": mp.erfinv, "asin": mp.asin, "acos": mp.acos, "atan": mp.atan, "sinh": mp.sinh, "cosh": mp.cosh,
    "asinh": mp.asinh, "acosh": mp.acosh, "atanh": mp.atanh, "lgamma": lambda x: mp.log(abs(mp.gamma(x))), "digamma": mp.digamma,
}  # fmt: skip
#: in double precision, for values at special arguments and for exhaustive sweeps in f32
DOUBLE_OF = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "logistic": scipy.special.expit, "sin": np.sin, "cos": np.cos, "tan": np.tan, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt, "erf": scipy.special.erf, "erfc": scipy.special.erfc, "erf_inv": scipy.special.erfinv,
    "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "lgamma": scipy.special.gammaln, "digamma": scipy.special.psi,
}  # fmt: skip
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1.5, -1.5, 3.0, INF, -INF, NAN, 1000.0, -1000.0, 30.0, -30.0]


@functools.cache
def compiled(fn, dtypes, parts=1):
    """``fn`` as a function of arrays: a vector kernel; ``parts=2`` for complex operands, given and returned
    as separate parts.
    """
    params = [Buffer(f"x{k}", d) for k, d in enumerate(dtypes)]
    i = Var("i")
    loads: list[Expr] = [Load(b, i) for b in params]
    values = lower_map(fn, loads) if parts == 1 else lower_complex(fn, list(zip(loads[::2], loads[1::2], strict=True)))
    values = values if isinstance(values, tuple) else (values,)
    outs = [Buffer(f"o{k}", v.dtype) for k, v in enumerate(values)]
    stores = tuple(Store(o, i, v) for o, v in zip(outs, values, strict=True))
    name = f"k_{fn}_{'_'.join(dtypes)}_{parts}"
    kernel = Kernel(name, (*params, *outs), 0, (For(i, LO, HI, stores, "vector", 16),))
    function = compile_and_load([kernel])[name]

    def run(*arrays):
        arrays = [np.ascontiguousarray(a, numpy_dtype(d)) for a, d in zip(arrays, dtypes, strict=True)]
        results = [np.empty(arrays[0].shape, numpy_dtype(o.dtype)) for o in outs]
        assert call(function, [*arrays, *results], [], 0, arrays[0].size) == 0
        return results[0] if len(results) == 1 else tuple(results)

    run.kernel, run.function = kernel, function
    return run


def seed(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def random_bits(dtype, n, rng):
    return rng.integers(0, 256, n * WIDTH[dtype] // 8, dtype=np.uint8).view(numpy_dtype(dtype))


def arguments(fn, dtype, n):
    """Random bit patterns and values from the ranges of ``BOUNDS``, ``n`` of each."""
    rng = seed(fn, dtype)
    target = numpy_dtype(dtype)
    limit = np.finfo(target).max
    values = [rng.uniform(low, high, n).astype(target) for low, high in BOUNDS[fn][2] if abs(high) < limit]
    return np.concatenate([random_bits(dtype, n, rng), *values])


def exact(fn, x):
    """The real value of ``fn(x)`` in many digits, None where it is not a finite real number."""
    with mp.workdps(60):
        value = mp.mpf(float(x))
        if (fn == "erfc" and value > 100) or (
            fn in ("exp", "exp2", "expm1", "sinh", "cosh", "logistic") and abs(value) > 20000
        ):
            return None
        if (fn == "tanh" and abs(value) > 1000) or (fn in ("lgamma", "digamma") and (value < 0 or value > 1e100)):
            return None
        try:
            result = EXACT_OF[fn](value)
        except (ValueError, ZeroDivisionError):
            return None
        return None if isinstance(result, mp.mpc) or not mp.isfinite(result) else result


def ulp_error(got, want, dtype):
    """``|got - want|`` in units of the last place that ``want`` has in ``dtype``; an overflow that rounds to
    infinity counts as right.
    """
    info = np.finfo(numpy_dtype(dtype))
    _, exponent = mp.frexp(want)
    spacing = (
        mp.ldexp(1, max(int(exponent) - info.nmant - 1, info.minexp - info.nmant))
        if want
        else mp.mpf(float(info.smallest_subnormal))
    )
    if np.isinf(got):
        beyond = mp.ldexp(1, info.maxexp) * (1 - mp.ldexp(1, -info.nmant - 2))
        return (
            0.0
            if abs(want) >= beyond and (got > 0) == (want > 0)
            else 0.99
            if abs(want) > beyond * (1 - mp.ldexp(1, -info.nmant))
            else INF
        )
    return float(abs(mp.mpf(float(got)) - want) / spacing) if not np.isnan(got) else INF


def assert_close(fn, dtype, x, got, bound):
    with mp.workdps(60):
        for value, result in zip(x, got, strict=True):
            want = exact(fn, value)
            if want is not None:
                error = ulp_error(result, want, dtype)
                assert error <= bound, (
                    f"{fn}({value!r}) = {result!r} in {dtype}, exact {mp.nstr(want, 20)}: {error:.3f} ULP"
                )


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("fn", BOUNDS)
def test_accuracy(fn, dtype):
    x = arguments(fn, dtype, 60 if fn in ("erf_inv", "lgamma", "digamma") else 120)
    assert_close(fn, dtype, x, compiled(fn, (dtype,))(x), BOUNDS[fn][dtype == "f64"])


@pytest.mark.parametrize("fn", BOUNDS)
def test_accuracy_f32_against_double(fn):
    x = arguments(fn, "f32", 20000)
    sweep(fn, x)


def sweep(fn, x):
    """Many f32 values at once: the reference in double precision is itself right to 2^-28 ULP or so."""
    if fn in ("lgamma", "digamma"):
        x = x[x > 0]
    with np.errstate(all="ignore"):
        want = DOUBLE_OF[fn](x.astype(np.float64))
        rounded = want.astype(np.float32)
        got = compiled(fn, ("f32",))(x)
        spacing = np.ldexp(1.0, np.maximum(np.frexp(want)[1] - 24, -149))
        error = np.abs(got.astype(np.float64) - want) / spacing
    fine = (got == rounded) | (np.isnan(got) & np.isnan(rounded)) | (error <= BOUNDS[fn][0])
    # one side of the overflow threshold or the other
    fine |= np.isinf(got) & (np.abs(want) > 3.4028232e38) & np.isfinite(want)
    worst = int(np.argmin(fine))
    assert fine.all(), (
        f"{fn}({x[worst]!r}) = {got[worst]!r}, exact {want[worst]!r}: {error[worst]:.3f} ULP; {(~fine).sum()} such"
    )


@pytest.mark.slow
@pytest.mark.parametrize("fn", BOUNDS)
def test_every_f32(fn, request):
    if "slow" not in (request.config.getoption("markexpr") or ""):
        pytest.skip("a minute or two a function: select with -m slow")
    for start in range(0, 2**32, 2**22):
        sweep(fn, np.arange(start, start + 2**22, dtype=np.uint64).astype(np.uint32).view(np.float32))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("fn", BOUNDS)
def test_special_values(fn, dtype):
    """Zeros with their signs, infinities, NaN with any payload, and arguments outside the domain."""
    target = numpy_dtype(dtype)
    x = np.array(SPECIAL, target)
    got = compiled(fn, (dtype,))(x)
    with np.errstate(all="ignore"):
        want = DOUBLE_OF[fn](x.astype(np.float64)).astype(target)
    # not SciPy's choices: the sign of erf_inv(-0), lgamma at -inf, digamma at the poles
    want = np.where((fn == "erf_inv") & (x == 0), x, want)
    want = np.where((fn == "lgamma") & np.isinf(x), INF, want)
    want = np.where((fn == "digamma") & ((x == 0) | (x == -INF)), NAN, want)
    telling = np.isnan(want) | np.isinf(want) | (want == 0)
    same = (np.isnan(got) & np.isnan(want)) | ((got == want) & (np.signbit(got) == np.signbit(want)))
    bad = telling & ~same
    assert not bad.any(), f"{fn}: at {x[bad]} got {got[bad]}, expected {want[bad]}"
    bits = f"u{WIDTH[dtype] // 8}"
    ones = (1 << WIDTH[dtype]) - 1
    infinity, quiet = (np.array(v, target).view(bits).item() for v in (INF, NAN))
    payloads = np.array([ones, ones >> 1, quiet | 0x123, infinity + 1], bits).view(target)
    assert np.isnan(compiled(fn, (dtype,))(payloads)).all()


def test_thresholds_of_exp():
    """The last arguments before overflow and before 0, and their neighbours."""
    exp = compiled("exp", ("f32",))
    assert list(exp(np.array([88.72283, 88.72284], np.float32))) == [np.float32(3.4027985e38), INF]
    assert list(exp(np.array([-103.97208, -103.97209], np.float32))) == [np.float32(1e-45), 0]
    exp = compiled("exp", ("f64",))
    assert list(exp(np.array([709.782712893384, 709.7827128933841]))) == [1.7976931348622732e308, INF]
    assert list(exp(np.array([-745.1332191019411, -745.1332191019412]))) == [5e-324, 0]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("fn", ["sin", "cos", "tan"])
def test_worst_cases_of_argument_reduction(fn, dtype):
    """The numbers closest to multiples of pi/2 in each format, and huge ones."""
    hard = {
        "f32": [1.6367933e34, 2.2e35, 16367173.0 * 2**72, 3.4028235e38, 1.5707964, 3.1415927, 355.0, 103993.0, 5.2e7, 2.0**45, 2.0**66],
        "f64": [6381956970095103.0 * 2.0**797, 1.7976931348623157e308, 2.0**1000, 1.5707963267948966, 3.141592653589793, 355.0,
                5.319372648326541e255, 2.0**24, 2.0**24 - 1e-9, 2.0**22 * 355, 1e22],
    }[dtype]  # fmt: skip
    x = np.array([*hard, *(-v for v in hard)], numpy_dtype(dtype))
    got = compiled(fn, (dtype,))(x)
    with mp.workdps(400):
        for value, result in zip(x, got, strict=True):
            error = ulp_error(result, EXACT_OF[fn](mp.mpf(float(value))), dtype)
            assert error <= BOUNDS[fn][dtype == "f64"], f"{fn}({value!r}) = {result!r}: {error:.3f} ULP"


@pytest.mark.parametrize("fn", ["lgamma", "digamma"])
def test_gamma_functions_on_the_left(fn):
    """Between the poles the error is relative to the terms of the reflection formula, not to a sum that may vanish."""
    x = seed(fn).uniform(-20, 0, 150)
    got = compiled(fn, ("f64",))(x)
    for value, result in zip(x, got, strict=True):
        want = EXACT_OF[fn](mp.mpf(value))
        size = 1 + abs(want) + abs(EXACT_OF[fn](1 - mp.mpf(value)))
        assert abs(mp.mpf(result) - want) <= 8 * size * mp.mpf(2) ** -53, (fn, value, result)
    assert (compiled("lgamma", ("f64",))(np.array([-1.0, -2.0, -1e17, 0.0])) == INF).all()


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f8e4m3fn", "f8e5m2"])
@pytest.mark.parametrize("fn", ["exp", "log", "tanh", "sin", "erf", "rsqrt", "lgamma", "cbrt"])
def test_narrow_floats(fn, dtype):
    """Every value: the f32 result rounded, so off by one in the last place at most."""
    target = numpy_dtype(dtype)
    x = np.arange(2 ** WIDTH[dtype], dtype=np.uint32).astype(f"u{WIDTH[dtype] // 8}").view(target)
    got = compiled(fn, (dtype,))(x)
    wide = compiled(fn, ("f32",))(x.astype(np.float32))
    with np.errstate(all="ignore"):
        want = wide.astype(target)
    same = (got == want) | (np.isnan(got.astype(np.float32)) & np.isnan(want.astype(np.float32)))
    assert same.all(), (x[~same][:5], got[~same][:5], want[~same][:5])


def pairs(dtype, n, rng):
    special = np.array([*SPECIAL, 7.0, -8.0, 1e30, 1e-30, 0.1, 2.5], numpy_dtype(dtype))
    x, y = (g.ravel() for g in np.meshgrid(special, special))
    near = [rng.uniform(-20, 20, n).astype(numpy_dtype(dtype)) for _ in range(2)]
    return np.concatenate([x, random_bits(dtype, n, rng), near[0]]), np.concatenate(
        [y, random_bits(dtype, n, rng), near[1]]
    )


def agree(got, want):
    return (np.isnan(got) & np.isnan(want)) | ((got == want) & (np.signbit(got) == np.signbit(want)))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_rem_is_exact(dtype):
    rng = seed("rem", dtype)
    x, y = pairs(dtype, 4000, rng)
    if dtype == "f64":  # quotients of up to 2098 bits, and denormal divisors
        y = np.concatenate([y, rng.integers(1, 2**52, 2000).view(np.float64)])
        x = np.concatenate([x, random_bits("f64", 2000, rng)])
    with np.errstate(all="ignore"):
        want = np.fmod(x, y)
    got = compiled("rem", (dtype, dtype))(x, y)
    bad = ~agree(got, want)
    assert not bad.any(), (x[bad][:4], y[bad][:4], got[bad][:4], want[bad][:4])


@pytest.mark.parametrize("fn, reference", [("nextafter", np.nextafter), ("copysign", np.copysign)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_exact_binary_functions(fn, reference, dtype):
    x, y = pairs(dtype, 500, seed(fn, dtype))
    with np.errstate(all="ignore"):
        want = reference(x, y)
    assert agree(compiled(fn, (dtype, dtype))(x, y), want).all()


def pow_exact(x, y):
    return mp.power(x, y)


def atan2_exact(y, x):
    return mp.atan2(y, x)


@pytest.mark.parametrize(
    "fn, reference, exactly, bounds",
    [("pow", np.power, pow_exact, (0.6, 1.0)), ("atan2", np.arctan2, atan2_exact, (1.6, 2.0))],
)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_pow_and_atan2(fn, reference, exactly, bounds, dtype):
    rng = seed(fn, dtype)
    target = numpy_dtype(dtype)
    x, y = pairs(dtype, 150, rng)
    if fn == "pow":
        near_one = (1 + rng.uniform(-1, 1, 100) * 2.0 ** rng.uniform(-20, -3, 100)).astype(target)
        x = np.concatenate([x, near_one, rng.uniform(0, 3, 200).astype(target)])
        y = np.concatenate(
            [
                y,
                (rng.uniform(-40, 40, 100) / np.log(near_one.astype(float))).astype(target),
                rng.integers(-60, 60, 200).astype(target),
            ]
        )
    got = compiled(fn, (dtype, dtype))(x, y)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64), y.astype(np.float64)).astype(target)
    telling = ~np.isfinite(want) | (want == 0) | (x == 0) | ~np.isfinite(x) | ~np.isfinite(y)
    loose = np.isclose(got, want, rtol=1e-6, equal_nan=True) & (np.signbit(got) == np.signbit(want)) | np.isnan(
        got
    ) & np.isnan(want)
    bad = telling & ~loose
    assert not bad.any(), (fn, x[bad][:4], y[bad][:4], got[bad][:4], want[bad][:4])
    with mp.workdps(60):
        for a, b, result, hint in zip(x, y, got, want, strict=True):
            # a zero first operand is special, and its sign matters, which mpmath does not know
            if a != 0 and np.isfinite(a) and np.isfinite(b) and np.isfinite(hint) and hint != 0:
                error = ulp_error(result, exactly(mp.mpf(float(a)), mp.mpf(float(b))), dtype)
                assert error <= bounds[dtype == "f64"], f"{fn}({a!r}, {b!r}) = {result!r}: {error:.3f} ULP"


@pytest.mark.parametrize("dtype", FLOATS)
def test_rounding_sign_and_order(dtype):
    target = numpy_dtype(dtype)
    x = awkward(dtype, 300, seed("basic", dtype))
    y = awkward(dtype, 300, seed("other", dtype))
    with np.errstate(all="ignore"):
        wide, other = x.astype(np.float64), y.astype(np.float64)
        away = np.where(np.abs(wide - np.trunc(wide)) >= 0.5, np.trunc(wide) + np.copysign(1.0, wide), np.trunc(wide))
        expected = {
            "floor": np.floor(wide), "ceil": np.ceil(wide), "trunc": np.trunc(wide), "round_even": np.rint(wide),
            "round_away": np.copysign(np.where(np.isfinite(wide), away, wide), wide), "sign": np.where(wide == 0, wide, np.sign(wide)),
        }  # fmt: skip
        for fn, want in expected.items():
            got = compiled(fn, (dtype,))(x).astype(np.float64)
            assert agree(got, want.astype(target).astype(np.float64)).all(), fn
    assert (compiled("is_finite", (dtype,))(x) == np.isfinite(wide)).all()
    lost_x, lost_y = np.isnan(wide), np.isnan(other)
    assert (compiled("lt_total", (dtype, dtype))(x, y) == ((wide < other) | (lost_y & ~lost_x))).all()
    assert (compiled("le_total", (dtype, dtype))(x, y) == ((wide <= other) | lost_y)).all()
    assert (compiled("eq_total", (dtype, dtype))(x, y) == ((wide == other) | (lost_x & lost_y))).all()
    clamped = compiled("clamp", (dtype, dtype, dtype))(np.full_like(x, -1), x, np.full_like(x, 2)).astype(np.float64)
    assert agree(clamped, np.clip(wide, -1, 2)).all()


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED])
def test_integers(dtype):
    rng = seed("integers", dtype)
    x, y, z = (awkward(dtype, 200, rng) for _ in range(3))
    with np.errstate(all="ignore"):
        assert (compiled("sign", (dtype,))(x) == np.sign(x)).all()
        assert (compiled("abs", (dtype,))(x) == np.abs(x)).all()
        assert (
            compiled("clamp", (dtype,) * 3)(np.minimum(x, z), y, np.maximum(x, z))
            == np.clip(y, np.minimum(x, z), np.maximum(x, z))
        ).all()
        assert (compiled("fma", (dtype,) * 3)(x, y, z) == x * y + z).all()
        assert (compiled("popcount", (dtype,))(x) == np.bitwise_count(x.view(f"u{x.itemsize}"))).all()
    assert compiled("is_finite", (dtype,))(x).all()


def operands(fn, dtype):
    """Operand dtypes of ``fn`` on ``dtype``, and variables of them."""
    dtypes = [dtype] * MAP_FNS[fn]
    if fn == "select":
        dtypes[0] = "bool"
    return [Var(f"x{k}", d) for k, d in enumerate(dtypes)]


@pytest.mark.parametrize("fn", [fn for fn in MAP_FNS if fn != "complex"])
def test_every_function_on_every_dtype(fn):
    """An expression of the right dtype, or a TypeError that names the function and the dtype."""
    defined = []
    for dtype in DTYPES:
        try:
            result = lower_map(fn, operands(fn, dtype))
        except TypeError as error:
            assert f"map {fn}: not defined for {dtype}" in str(error)
            continue
        assert result.dtype == ("bool" if fn in ("eq", "ne", "lt", "le", "gt", "ge", "is_finite") else dtype)
        defined.append(dtype)
    assert defined


def test_errors_teach():
    x, i = Var("x", "f32"), Var("i", "i32")
    with pytest.raises(TypeError, match="map exp: not defined for i32; convert the operand to a float dtype first"):
        lower_map("exp", [i])
    with pytest.raises(TypeError, match="map add: operands of different dtypes: f32, i32"):
        lower_map("add", [x, i])
    with pytest.raises(TypeError, match="map pow: takes 2 operands, got 1"):
        lower_map("pow", [x])
    with pytest.raises(TypeError, match="map shl: not defined for f32; it takes integers"):
        lower_map("shl", [x, x])
    with pytest.raises(TypeError, match="no such elementwise function"):
        lower_map("sinc", [x])
    with pytest.raises(TypeError, match="map erf: not defined for complex operands"):
        lower_complex("erf", [(x, x)])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("fn", [*BOUNDS, "pow", "atan2", "rem"])
def test_interpreter_agrees(fn, dtype):
    """The same bits from the loop IR's interpreter."""
    dtypes = (dtype,) * MAP_FNS[fn]
    run = compiled(fn, dtypes)
    rng = seed("interpreter", fn, dtype)
    x = [awkward(dtype, 6, rng) for _ in dtypes]
    check(run.kernel, run.function, [*x, np.zeros(6, numpy_dtype(dtype))], [], 0, 6, note=fn)


COMPLEX_OF = {
    "exp": mp.exp, "log": mp.log, "sqrt": mp.sqrt, "rsqrt": lambda z: 1 / mp.sqrt(z), "sin": mp.sin, "cos": mp.cos, "tan": mp.tan,
    "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "asin": mp.asin, "acos": mp.acos, "atan": mp.atan,
    "asinh": mp.asinh,
    "acosh": mp.acosh, "atanh": mp.atanh, "log1p": lambda z: mp.log(1 + z), "expm1": mp.expm1, "abs": abs,
    "logistic": lambda z: 1 / (1 + mp.exp(-z)), "sign": lambda z: z / abs(z),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("fn", COMPLEX_OF)
def test_complex_accuracy(fn, dtype):
    """Error relative to the modulus, at most 6 ULP: around the unit circle, near the axes, and (where defined
    there) over all magnitudes.
    """
    rng = seed("complex", fn, dtype)
    target = numpy_dtype(dtype)
    signs = lambda n: rng.choice([-1.0, 1.0], n)
    re = [rng.uniform(-3, 3, 40), signs(40) * 10 ** rng.uniform(-12, 1, 40), np.cos(np.arange(20) + 0.5)]
    im = [rng.uniform(-3, 3, 40), signs(40) * 10 ** rng.uniform(-12, 1, 40), np.sin(np.arange(20) + 0.5)]
    if fn in ("log", "sqrt", "rsqrt", "abs", "sign", "asin", "acos", "atan", "asinh", "acosh", "atanh"):
        reach = 37 if dtype == "f32" else 300
        re.append(signs(40) * 10 ** rng.uniform(-reach, reach, 40))
        im.append(signs(40) * 10 ** rng.uniform(-reach, reach, 40))
    re, im = np.concatenate(re).astype(target), np.concatenate(im).astype(target)
    got = compiled(fn, (dtype, dtype), 2)(re, im)
    got = got if isinstance(got, tuple) else (got, np.zeros_like(got))
    unit = float(np.finfo(target).eps) / 2
    for a, b, c, d in zip(re, im, *got, strict=True):
        with mp.workdps(700 if max(abs(a), abs(b)) > 100 or min(abs(a), abs(b)) < 1e-12 else 80):
            want = COMPLEX_OF[fn](mp.mpc(float(a), float(b)))
            error = abs(mp.mpc(float(c), float(d)) - want) / max(abs(want), mp.mpf(float(np.finfo(target).tiny))) / unit
        assert error <= 6, f"{fn}({a!r}, {b!r}) = ({c!r}, {d!r}), exact {mp.nstr(want, 17)}: {float(error):.2f}"


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_complex_division(dtype):
    rng = seed("complex division", dtype)
    target = numpy_dtype(dtype)
    reach = 37 if dtype == "f32" else 300
    a, b, c, d = ((rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(-reach, reach, 300)).astype(target) for _ in range(4))
    re, im = compiled("div", (dtype,) * 4, 2)(a, b, c, d)
    info = np.finfo(target)
    for k in range(300):
        want = mp.mpc(float(a[k]), float(b[k])) / mp.mpc(float(c[k]), float(d[k]))
        if float(info.tiny) / float(info.eps) < abs(want) < float(info.max) / 4:
            assert abs(mp.mpc(float(re[k]), float(im[k])) - want) <= 3 * float(info.eps) * abs(want)


@pytest.mark.parametrize("fn, reference", [("log", np.log), ("sqrt", np.sqrt), ("abs", np.abs), ("log1p", np.log1p)])
def test_complex_special_values(fn, reference):
    special = np.array([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 2.5, -3e200])
    re, im = (g.ravel() for g in np.meshgrid(special, special))
    z = np.empty(re.size, np.complex128)
    z.real, z.imag = re, im
    with np.errstate(all="ignore"):
        want = reference(z)
    got = compiled(fn, ("f64", "f64"), 2)(re, im)
    parts = zip(got, (want.real, want.imag), strict=True) if isinstance(got, tuple) else [(got, want)]
    for mine, theirs in parts:
        same = np.isclose(mine, theirs, rtol=1e-14, atol=0, equal_nan=True) & (
            (np.signbit(mine) == np.signbit(theirs)) | np.isnan(mine)
        )
        assert same.all(), (z[~same], mine[~same], theirs[~same])


@pytest.mark.parametrize("name", ["EXP_F32", "SIN_F64", "TWO_OVER_PI_F32"])
def test_tables_come_from_the_tool(name):
    """The committed constants are what ``tools/minimax.py`` computes."""
    path = Path(__file__).resolve().parent.parent / "tools/minimax.py"
    spec = importlib.util.spec_from_file_location("minimax", path)
    minimax = importlib.util.module_from_spec(spec)
    sys.modules["minimax"] = minimax
    with mp.workdps(60):
        spec.loader.exec_module(minimax)
        text = minimax.CONSTANTS[name]() if name in minimax.CONSTANTS else minimax.table(name)
    assert text in Path(tables.__file__).read_text()
