"""Float formats as numbers: one correctly rounded conversion for every consumer that computes with Python floats."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["FORMATS", "FloatFormat", "round_float"]


class FloatFormat(NamedTuple):
    """``precision`` counts the hidden bit; ``min_exponent`` is that of the smallest normal number
    ``2**min_exponent``.
    """

    precision: int
    min_exponent: int
    largest: float
    has_infinity: bool = True


FORMATS = {
    "f64": FloatFormat(53, -1022, 1.7976931348623157e308),
    "f32": FloatFormat(24, -126, float.fromhex("0x1.fffffep127")),
    "bf16": FloatFormat(8, -126, float.fromhex("0x1.fep127")),
    "f16": FloatFormat(11, -14, 65504.0),
    "f8e5m2": FloatFormat(3, -14, 57344.0),
    "f8e4m3fn": FloatFormat(4, -6, 448.0, False),
}


def round_float(x: float, dtype: str) -> float:
    """``x`` rounded to the nearest value of ``dtype``, ties to even; overflow gives infinity (NaN where there is none).

    >>> round_float(0.1, "f16")
    0.0999755859375
    >>> round_float(1e6, "f8e4m3fn")
    nan
    """
    if dtype == "f64" or x == 0.0 or x != x:
        return x
    precision, min_exponent, largest, has_infinity = FORMATS[dtype]
    if not math.isinf(x):
        ulp = max(math.frexp(x)[1] - precision, min_exponent - precision + 1)
        y = math.ldexp(float(round(math.ldexp(x, -ulp))), ulp)
        if abs(y) <= largest:
            return math.copysign(y, x)
    return math.copysign(math.inf, x) if has_infinity else math.nan
