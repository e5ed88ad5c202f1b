"""`velax.scipy`: functions of SciPy on arrays of Velax."""

from velax.scipy import special as special

__all__ = ["special"]
