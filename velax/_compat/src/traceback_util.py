"""``jax._src.traceback_util``."""

from velax._lang.traceback import *
