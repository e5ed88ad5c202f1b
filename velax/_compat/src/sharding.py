"""``jax._src.sharding``."""

from velax.sharding import *
