"""Names that older libraries import."""

from velax._lang.trace import get_aval as abstractify

__all__ = ["abstractify"]
