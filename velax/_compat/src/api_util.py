"""``jax._src.api_util``."""

from velax.api_util import *
