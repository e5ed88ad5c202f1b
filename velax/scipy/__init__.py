"""`velax.scipy`: functions of SciPy on arrays of Velax."""

from velax.scipy import special as special, stats as stats

__all__ = ["special", "stats"]
