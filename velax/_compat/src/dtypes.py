"""``jax._src.dtypes``."""

from velax._lang.dtypes import *
