"""Tools on function arguments that libraries import."""

from velax._lang.trace import shaped_abstractify as shaped_abstractify
from velax._transforms.arguments import argnums_partial as argnums_partial
from velax._transforms.arguments import debug_info_of as debug_info

__all__ = ["argnums_partial", "debug_info", "shaped_abstractify"]
