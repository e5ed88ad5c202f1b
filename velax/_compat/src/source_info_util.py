"""``jax._src.source_info_util``."""

from velax.extend.source_info_util import *
