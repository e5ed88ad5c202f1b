"""How the constants of ``velax/_compiler/math/tables.py`` were obtained: weighted minimax polynomials by the
Remez exchange.

Every table is a polynomial ``P`` in some variable ``t`` that appears in a formula for a function (say
``exp(r) = 1 + r + r^2 P(r)``). `minimax` finds the coefficients that minimise the largest weighted error over
an interval, where the weight turns an error of ``P`` into a relative error of the function. The leading
coefficients, whose rounding to the working precision matters most, are rounded one at a time, lowest order
first, and the remaining ones are fitted again (so they make up for the rounding).

Run ``python tools/minimax.py`` to write the file of tables anew (a few minutes), ``python tools/minimax.py
NAME...`` to print some. Needs mpmath.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath as mp
import numpy as np

mp.mp.dps = 60


@dataclass(frozen=True)
class Spec:
    """``target(t) ~ P(t)`` on ``[lo, hi]`` with ``n`` coefficients; errors are multiplied by ``weight(t)``."""

    doc: str
    target: Callable
    weight: Callable
    lo: object
    hi: object
    n: int
    dtype: str
    exact: int = 3  #: leading coefficients rounded one at a time


def minimax(target, weight, lo, hi, n: int, dtype: str, exact: int = 3) -> tuple[list[float], float]:
    """The coefficients (lowest order first, rounded to ``dtype``) and the weighted error of the rounded
    polynomial, as a float.
    """
    grid = [(lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * 24 * n)) for k in range(24 * n)]
    # The variable is scaled to [-1, 1]-like size for the linear systems only through the working precision
    # (60 digits), not explicitly.
    values = [target(t) for t in grid]
    weights = [abs(weight(t)) for t in grid]
    powers = [[mp.mpf(1)] for _ in grid]
    for row, t in zip(powers, grid, strict=True):
        for _ in range(n - 1):
            row.append(row[-1] * t)
    fixed: list[mp.mpf] = []
    for k in range(min(exact, n)):
        free = _remez(values, weights, powers, fixed, n)
        fixed.append(mp.mpf(round_to(free[k], dtype)))
        if len(fixed) == n:
            break
    coefficients = fixed + (_remez(values, weights, powers, fixed, n)[len(fixed) :] if len(fixed) < n else [])
    rounded = [round_to(c, dtype) for c in coefficients]
    error = max(
        abs(mp.fdot(zip(rounded, row, strict=True)) - v) * w for row, v, w in zip(powers, values, weights, strict=True)
    )
    return rounded, float(error)


def _remez(values, weights, powers, fixed, n):
    """All ``n`` coefficients, the first ``len(fixed)`` given; exchange on the grid."""
    k = len(fixed)
    rest = [v - mp.fdot(zip(fixed, row[:k], strict=True)) for v, row in zip(values, powers, strict=True)]
    usable = [i for i, w in enumerate(weights) if w > 0]
    m = n - k + 1
    reference = [
        usable[round((len(usable) - 1) * (1 - mp.cos(mp.pi * j / (m - 1))) / 2)] if m > 1 else usable[0]
        for j in range(m)
    ]
    for _ in range(40):
        system = mp.matrix(m, m)
        right = mp.matrix(m, 1)
        for row, i in enumerate(reference):
            for col in range(m - 1):
                system[row, col] = powers[i][k + col]
            system[row, m - 1] = (-1) ** row / weights[i]
            right[row] = rest[i]
        solution = mp.lu_solve(system, right)
        found = [solution[j] for j in range(m - 1)]
        level = abs(solution[m - 1])
        errors = [(rest[i] - mp.fdot(zip(found, powers[i][k:], strict=True))) * weights[i] for i in usable]
        reference = _alternation(errors, usable, m)
        if max(map(abs, errors)) <= level * mp.mpf("1.01"):
            break
    return fixed + found


def _alternation(errors, usable, m):
    """The ``m`` grid points where the error alternates in sign and is largest."""
    peaks: list[int] = []
    for j, e in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[peaks[-1]]):
                peaks[-1] = j
        else:
            peaks.append(j)
    while len(peaks) > m:
        # drop the smaller end, or the smallest neighbouring pair, so that signs keep alternating
        if len(peaks) == m + 1:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        else:
            j = min(range(len(peaks) - 1), key=lambda j: max(abs(errors[peaks[j]]), abs(errors[peaks[j + 1]])))
            del peaks[j : j + 2]
    if len(peaks) < m:
        raise ArithmeticError(
            f"{len(peaks)} alternations where {m} are needed: the grid or the working precision is too coarse"
        )
    return [usable[j] for j in peaks]


def round_to(c, dtype: str) -> float:
    # f32 through a f64 would round twice; a coefficient does not mind
    return float(np.float32(float(c))) if dtype == "f32" else float(c)


# -- the functions behind the tables -------------------------------------------------------------

LN2 = mp.log(2)


def _series_safe(f: Callable, at_zero) -> Callable:
    """``f`` with its limit at 0; near 0 the quotient cancels, so it is taken with more digits."""

    def g(t):
        if t == 0:
            return mp.mpf(at_zero)
        with mp.workdps(120):
            return +f(t)

    return g


def _root(f: Callable) -> Callable:
    """``f(x)`` as a function of ``t = x^2``."""
    return lambda t: f(mp.sqrt(t))


def _erfcx(t):
    return mp.exp(t * t) * mp.erfc(t)


def _erfcx_variable(k):
    """``u = (t - k)/(t + k)`` back to ``t``."""
    return lambda u: k * (1 + u) / (1 - u)


def _erfinv_of_w(w):
    """erf_inv(x)/x where ``w = -log(1 - x^2)``."""
    if w == 0:
        return mp.sqrt(mp.pi) / 2
    with mp.workdps(60 + int(2 * w / mp.log(10)) + 10):
        x = mp.sqrt(-mp.expm1(-w))
        # erfinv for x near 1 from erfc: Newton on log(erfc(y)) converges from any start on the concave side
        y = mp.sqrt(w) if w > 1 else x
        for _ in range(60):
            step = (mp.erf(y) - x) * mp.sqrt(mp.pi) / 2 * mp.exp(y * y)
            step = step / (1 + y * step)
            y -= step
            if abs(step) < mp.mpf(10) ** -45 * y:
                break
        return y / x


def _lgamma_core(t):
    """lgamma(z)/((z-1)(z-2)) at z = t + 3/2."""
    z = t + mp.mpf(3) / 2
    if z == 1:
        return mp.euler
    if z == 2:
        return 1 - mp.euler
    with mp.workdps(120):
        return +(mp.loggamma(z) / ((z - 1) * (z - 2)))


PSI_ROOT = mp.findroot(mp.digamma, mp.mpf("1.46163214496836234"))


def _digamma_core(t):
    """digamma(z)/(z - root) at z = t + 3/2."""
    z = t + mp.mpf(3) / 2
    with mp.workdps(120):
        return +(mp.digamma(z) / (z - PSI_ROOT))


def _stirling(t):
    """z*(lgamma(z) - ((z-1/2)log z - z + log(2 pi)/2)) with t = 1/z^2."""
    if t == 0:
        return mp.mpf(1) / 12
    z = 1 / mp.sqrt(t)
    with mp.workdps(120):
        return +(z * (mp.loggamma(z) - ((z - mp.mpf(1) / 2) * mp.log(z) - z + mp.log(2 * mp.pi) / 2)))


def _digamma_tail(t):
    """z^2 (log z - 1/(2z) - digamma(z)) with t = 1/z^2."""
    if t == 0:
        return mp.mpf(1) / 12
    z = 1 / mp.sqrt(t)
    with mp.workdps(120):
        return +(z * z * (mp.log(z) - 1 / (2 * z) - mp.digamma(z)))


def _exp_spec(n, dtype):
    f = _series_safe(lambda r: (mp.expm1(r) - r) / r**2, mp.mpf(1) / 2)
    return Spec("exp(r) = 1 + r + r^2 P(r)", f, lambda r: r**2 / mp.exp(r), -LN2 * 0.501, LN2 * 0.501, n, dtype)


def _exp2_spec(n, dtype):
    f = _series_safe(lambda r: (mp.expm1(r * LN2)) / r, LN2)
    return Spec("2^r = 1 + r P(r)", f, lambda r: r / mp.power(2, r), mp.mpf("-0.501"), mp.mpf("0.501"), n, dtype)


def _log_spec(n, dtype):
    f = _series_safe(lambda t: (mp.log1p(t) - t + t * t / 2) / t**3, mp.mpf(1) / 3)
    weight = lambda t: t**3 / mp.log1p(t) if t else mp.mpf(0)
    return Spec("log(1+t) = t - t^2/2 + t^3 P(t)", f, weight, mp.sqrt("0.5") - 1, mp.sqrt(2) - 1, n, dtype)


def _odd_spec(name, f, at_zero, limit, n, dtype):
    """f(x) = x + x^3 P(x^2)."""
    g = _series_safe(_root(lambda x: (f(x) - x) / x**3), at_zero)
    weight = _root(lambda x: x**3 / f(x) if x else mp.mpf(0))
    return Spec(
        f"{name}(x) = x + x^3 P(x^2), |x| <= {mp.nstr(mp.mpf(limit), 5)}",
        g,
        weight,
        mp.mpf(0),
        mp.mpf(limit) ** 2,
        n,
        dtype,
    )


def _cos_spec(limit, n, dtype):
    g = _series_safe(_root(lambda x: (mp.cos(x) - 1 + x * x / 2) / x**4), mp.mpf(1) / 24)
    doc = f"cos(x) = 1 - x^2/2 + x^4 P(x^2), |x| <= {mp.nstr(mp.mpf(limit), 5)}"
    return Spec(doc, g, _root(lambda x: x**4 / mp.cos(x)), mp.mpf(0), mp.mpf(limit) ** 2, n, dtype)


def _erf_spec(limit, n, dtype):
    g = _series_safe(_root(lambda x: mp.erf(x) / x - 1), 2 / mp.sqrt(mp.pi) - 1)
    doc = f"erf(x) = x + x P(x^2), |x| <= {limit}"
    return Spec(doc, g, _root(lambda x: x / mp.erf(x) if x else mp.mpf(1)), mp.mpf(0), mp.mpf(limit) ** 2, n, dtype)


def _erfcx_spec(k, top, n, dtype):
    t = _erfcx_variable(mp.mpf(k))
    f = lambda u: (t(u) + k) * _erfcx(t(u))
    hi = (mp.mpf(top) - k) / (mp.mpf(top) + k)
    doc = f"erfc(t) exp(t^2) (t + {k}) = P((t-{k})/(t+{k})), 0 <= t <= {top}"
    return Spec(doc, f, lambda u: 1 / f(u), mp.mpf(-1), hi, n, dtype, 0)


def _erfinv_spec(lo, hi, centre, root: bool, n, dtype, exact=0):
    """In w - centre, or in sqrt(w) - centre."""
    w = (lambda t: (t + centre) ** 2) if root else (lambda t: t + centre)
    f = lambda t: _erfinv_of_w(w(t))
    ends = (mp.sqrt(lo), mp.sqrt(hi)) if root else (mp.mpf(lo), mp.mpf(hi))
    doc = f"erf_inv(x) = x P({'sqrt(w)' if root else 'w'} - {centre}), w = -log(1 - x^2) in [{lo}, {hi}]"
    return Spec(doc, f, lambda t: 1 / f(t), ends[0] - centre, ends[1] - centre, n, dtype, exact)


def _atanh2_spec(n, dtype):
    g = _series_safe(_root(lambda s: (2 * mp.atanh(s) - 2 * s) / s**3), mp.mpf(2) / 3)
    limit = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    weight = _root(lambda s: s**3 / (2 * mp.atanh(s)) if s else mp.mpf(0))
    return Spec(
        "log((1+s)/(1-s)) = 2s + s^3 P(s^2), |s| <= 0.17158", g, weight, mp.mpf(0), limit**2 * mp.mpf("1.001"), n, dtype
    )


def _pow_tail_spec(n):
    g = _series_safe(_root(lambda s: (2 * mp.atanh(s) - 2 * s - 2 * s**3 / 3 - 2 * s**5 / 5) / s**7), mp.mpf(2) / 7)
    limit = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    weight = _root(lambda s: s**7 / (2 * mp.atanh(s)) if s else mp.mpf(0))
    doc = "log((1+s)/(1-s)) = 2s + 2s^3/3 + 2s^5/5 + s^7 P(s^2), |s| <= 0.17158"
    return Spec(doc, g, weight, mp.mpf(0), limit**2 * mp.mpf("1.001"), n, "f64")


def _log_erfc_spec(lo, hi, n, dtype):
    # an error of P is an absolute error of erf ~ 1 where it is used
    f = lambda t: mp.log(mp.erfc(t), 2)
    doc = f"1 - erf(t) = 2^P(t), {lo} <= t <= {hi}"
    return Spec(doc, f, lambda t: mp.erfc(t) * LN2, mp.mpf(lo), mp.mpf(hi), n, dtype)


QUARTER_PI = mp.pi / 4 * mp.mpf("1.001")
SPECS: dict[str, Callable[[], Spec]] = {
    "EXP_F32": lambda: _exp_spec(5, "f32"),
    "EXP_F64": lambda: _exp_spec(10, "f64"),
    "EXP2_F32": lambda: _exp2_spec(6, "f32"),
    "EXP2_F64": lambda: _exp2_spec(12, "f64"),
    "LOG_F32": lambda: _log_spec(8, "f32"),
    "LOG_F64": lambda: _atanh2_spec(7, "f64"),
    "POW_LOG_F32": lambda: _log_spec(12, "f64"),
    "POW_EXP2_F32": lambda: _exp2_spec(7, "f64"),
    "POW_LOG_F64": lambda: _pow_tail_spec(8),
    "SIN_F32": lambda: _odd_spec("sin", mp.sin, mp.mpf(-1) / 6, QUARTER_PI, 3, "f32"),
    "COS_F32": lambda: _cos_spec(QUARTER_PI, 3, "f32"),
    "SIN_F64": lambda: _odd_spec("sin", mp.sin, mp.mpf(-1) / 6, QUARTER_PI, 6, "f64"),
    "COS_F64": lambda: _cos_spec(QUARTER_PI, 6, "f64"),
    "TANH_F32": lambda: _odd_spec("tanh", mp.tanh, mp.mpf(-1) / 3, mp.mpf("0.625"), 5, "f32"),
    "TANH_F64": lambda: _odd_spec("tanh", mp.tanh, mp.mpf(-1) / 3, mp.mpf("0.625"), 11, "f64"),
    "SINH_F32": lambda: _odd_spec("sinh", mp.sinh, mp.mpf(1) / 6, mp.mpf(1), 4, "f32"),
    "SINH_F64": lambda: _odd_spec("sinh", mp.sinh, mp.mpf(1) / 6, mp.mpf(1), 7, "f64"),
    "ATAN_F32": lambda: _odd_spec("atan", mp.atan, mp.mpf(-1) / 3, mp.mpf(1), 9, "f32"),
    "ATAN_F64": lambda: _odd_spec("atan", mp.atan, mp.mpf(-1) / 3, (mp.sqrt(2) - 1) * mp.mpf("1.001"), 11, "f64"),
    "ASIN_F32": lambda: _odd_spec("asin", mp.asin, mp.mpf(1) / 6, mp.mpf("0.5"), 5, "f32"),
    "ASIN_F64": lambda: _odd_spec("asin", mp.asin, mp.mpf(1) / 6, mp.mpf("0.5"), 13, "f64"),
    "ERF_F32": lambda: _erf_spec("0.9375", 7, "f32"),
    "ERF_F64": lambda: _erf_spec("1", 13, "f64"),
    "ERF_TAIL_F32": lambda: _log_erfc_spec("0.9375", "4", 7, "f32"),
    "ERFCX_F32": lambda: _erfcx_spec(3, "10.5", 11, "f64"),
    "ERFCX_F64": lambda: _erfcx_spec(4, "28", 23, "f64"),
    "ERFINV_F32": lambda: _erfinv_spec(0, 5, mp.mpf(1), False, 10, "f32"),
    "ERFINV_TAIL_F32": lambda: _erfinv_spec(5, 17, mp.mpf("2.5"), True, 10, "f32", 3),
    "ERFINV_F64": lambda: _erfinv_spec(0, mp.mpf("6.25"), mp.mpf("3.125"), False, 24, "f64"),
    "ERFINV_MID_F64": lambda: _erfinv_spec(mp.mpf("6.25"), 16, mp.mpf("3.25"), True, 20, "f64"),
    "ERFINV_TAIL_F64": lambda: _erfinv_spec(16, 37, mp.mpf(5), True, 18, "f64"),
    "CBRT": lambda: Spec(
        "m^(-1/3) = P(m - 1), 0.70710 <= m <= 1.41422 (a start for both precisions)", lambda t: (1 + t) ** (-mp.mpf(1) / 3),
        lambda t: (1 + t) ** (mp.mpf(1) / 3), mp.sqrt("0.5") - 1, mp.sqrt(2) - 1, 6, "f32", 0),
    "LGAMMA_F64": lambda: Spec(
        "lgamma(z) = (z-1)(z-2) P(z - 3/2), 1 <= z <= 2", _lgamma_core, lambda t: 1 / _lgamma_core(t),
        mp.mpf("-0.5"), mp.mpf("0.5"), 20, "f64", 0),
    "STIRLING_F64": lambda: Spec(
        "lgamma(z) = (z-1/2) log z - z + log(2 pi)/2 + P(1/z^2)/z, z >= 8", _stirling, lambda t: 1 / _stirling(t),
        mp.mpf(0), mp.mpf(1) / 64, 7, "f64"),
    "DIGAMMA_F64": lambda: Spec(
        "digamma(z) = (z - root) P(z - 3/2), 1 <= z <= 2", _digamma_core, lambda t: 1 / _digamma_core(t),
        mp.mpf("-0.5"), mp.mpf("0.5"), 22, "f64", 0),
    "DIGAMMA_TAIL_F64": lambda: Spec(
        "digamma(z) = log z - 1/(2z) - P(1/z^2)/z^2, z >= 8", _digamma_tail, lambda t: 1 / _digamma_tail(t),
        mp.mpf(0), mp.mpf(1) / 64, 8, "f64"),
}  # fmt: skip


def table(name: str) -> str:
    spec = SPECS[name]()
    coefficients, error = minimax(
        spec.target, spec.weight, mp.mpf(spec.lo), mp.mpf(spec.hi), spec.n, spec.dtype, spec.exact
    )
    lines = [
        f"#: {spec.doc};",
        f"#: degree {spec.n - 1} on [{mp.nstr(mp.mpf(spec.lo), 6)}, {mp.nstr(mp.mpf(spec.hi), 6)}], "
        f"relative error 2^{float(mp.log(error, 2)):.1f} after rounding to {spec.dtype}",
        f"{name} = (",
        *(f"    {c!r}," for c in coefficients),
        ")  # fmt: skip",
    ]
    return "\n".join(lines) + "\n"


TWO_OVER_PI_GROUPS_F32 = (45, 66, 87, 108, 129)


def two_over_pi_f32() -> str:
    """2/pi without the bits that only add multiples of 4 to its product with a binary32 number of at least
    2^(previous limit).
    """
    rows = []
    floor = None
    for limit in TWO_OVER_PI_GROUPS_F32:
        value = 2 / mp.pi
        if floor is not None:
            unit = mp.mpf(2) ** (2 - (floor - 23))
            value -= mp.nint(value / unit) * unit
        hi = float(value)
        rows.append(f"    ({2.0**limit!r}, {hi!r}, {float(value - hi)!r}),")
        floor = limit
    return (
        "#: (limit, hi, lo): for a binary32 x with |x| below the limit (and not below the one before), x (hi + lo) "
        "is x 2/pi modulo 4;\n"
        "#: hi + lo is good to 106 bits, the reduced argument to an absolute 2^-60\n"
        "TWO_OVER_PI_F32 = (\n" + "\n".join(rows) + "\n)  # fmt: skip\n"
    )


def two_over_pi_words() -> str:
    """The binary digits of 2/pi in 64-bit words, for exact reduction of binary64 arguments."""
    count = 19
    with mp.workdps(450):
        digits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (64 * count - 32)))
    words = [(digits >> (64 * (count - 1 - k))) & (2**64 - 1) for k in range(count)]
    return (
        "#: 2^-32 2/pi = sum of word k times 2^(-64 (k + 1))\nTWO_OVER_PI_WORDS = (\n"
        + "\n".join(f"    0x{w:016X}," for w in words)
        + "\n)  # fmt: skip\n"
    )


CONSTANTS = {"TWO_OVER_PI_F32": two_over_pi_f32, "TWO_OVER_PI_WORDS": two_over_pi_words}

HEADER = '''"""Minimax polynomials of the elementwise functions, lowest order first: written by ``tools/minimax.py``, do not edit.

Each table states its formula, degree, interval and the largest relative error that its use adds to the function.
"""

'''


def main(names: list[str]) -> None:
    if names:
        for name in names:
            print(CONSTANTS[name]() if name in CONSTANTS else table(name))
        return
    path = Path(__file__).resolve().parent.parent / "velax/_compiler/math/tables.py"
    path.write_text(HEADER + "\n".join([*map(table, SPECS), *(make() for make in CONSTANTS.values())]))


if __name__ == "__main__":
    main(sys.argv[1:])
