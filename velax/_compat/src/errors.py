"""``jax._src.errors``."""

from velax.errors import *
