"""Views of the names that published libraries import from ``jax._src``."""
