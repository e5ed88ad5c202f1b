"""``jax._src.flatten_util``."""

from velax.flatten_util import *
