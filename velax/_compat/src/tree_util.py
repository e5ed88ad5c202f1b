"""``jax._src.tree_util``."""

from velax.tree_util import *
