"""Exchange of arrays through DLPack."""

from velax.numpy import from_dlpack as from_dlpack

__all__ = ["from_dlpack"]
