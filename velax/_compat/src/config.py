"""``jax._src.config``."""

from velax._lang.config import *
