"""`velax.scipy`: functions of SciPy on arrays of Velax."""

from velax.scipy import special as special
from velax.scipy import stats as stats

__all__ = ["special", "stats"]
