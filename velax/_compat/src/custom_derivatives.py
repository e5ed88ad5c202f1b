"""``jax._src.custom_derivatives``."""

from velax.custom_derivatives import *
