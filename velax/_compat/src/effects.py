"""``jax._src.effects``."""

from velax._lang.effects import *
