"""What JAX still calls experimental, as far as Velax has it."""

from velax.lax._callbacks import io_callback as io_callback

__all__ = ["io_callback"]
