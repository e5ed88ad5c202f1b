"""What the algorithms need to know about binary32 and binary64."""

from __future__ import annotations

from velax._lang.record import Record

__all__ = ["F32", "F64", "INF", "NAN", "Format", "format_of"]

INF = float("inf")
NAN = float("nan")


class Format(Record):
    """A binary floating-point format and the constants split to its precision (``hi + lo`` is twice as
    precise as ``hi``).
    """

    dtype: str
    integer: str  #: the signed integer of its width
    mantissa: int  #: stored bits of the significand
    bias: int
    log2e: float
    ln2: tuple[float, float]  #: hi has trailing zeros: times any exponent it is exact
    half_pi: tuple[float, float]

    @property
    def round_magic(self) -> float:
        """Adding it rounds to an integer, found in the low bits of the sum."""
        return 1.5 * 2.0**self.mantissa

    @property
    def exponent_mask(self) -> int:
        """The exponent field, and with it the sign bit: as a signed integer."""
        return -(1 << self.mantissa)

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.mantissa

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next number."""
        return 2.0**-self.mantissa


F32 = Format(
    "f32", "i32", 23, 127, 1.4426950216293335,
    (0.693145751953125, 1.428606765330187e-06),
    (1.5707963705062866, -4.371138828673793e-08),
)  # fmt: skip
F64 = Format(
    "f64", "i64", 52, 1023, 1.4426950408889634,
    (0.6931471805598903, 5.497923018708371e-14),
    (1.5707963267948966, 6.123233995736766e-17),
)  # fmt: skip


def format_of(dtype: str) -> Format:
    return F32 if dtype == "f32" else F64
