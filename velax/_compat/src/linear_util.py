"""``jax._src.linear_util``."""

from velax.extend.linear_util import *
