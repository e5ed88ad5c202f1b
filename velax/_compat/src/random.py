"""``jax._src.random``."""

from velax.random import *
