"""``jax._src.ad_util``."""

from velax._transforms.zero import *
