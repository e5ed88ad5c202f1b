"""``jax._src.typing``."""

from velax.typing import *
