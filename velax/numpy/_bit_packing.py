"""Booleans as the bits of bytes."""

from __future__ import annotations

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax.numpy._creation import asarray
from velax.numpy._util import check_arraylike, compiled

__all__ = ["packbits", "unpackbits"]


def _shifts(bitorder: str):
    """By how much each of eight bits is shifted in its byte."""
    if bitorder not in ("little", "big"):
        raise ValueError("'order' must be either 'little' or 'big'")
    return np.arange(8, dtype=np.uint8) if bitorder == "little" else np.arange(8, dtype=np.uint8)[::-1]


@compiled(static=("axis", "bitorder"))
def packbits(a, axis: int | None = None, bitorder: str = "big"):
    """Packs eight truth values into each byte.

    Args:
      a: an array of integers or booleans.
      axis: the axis to pack along; None: flatten first.
      bitorder: ``"big"``: the first of eight is the highest bit; ``"little"``: the lowest.

    Returns:
      An array of uint8; missing values at the end count as zero.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.packbits(jnp.array([1, 0, 0, 0, 0, 0, 0, 1, 1]))
      Array([129, 128], dtype=uint8)
    """
    check_arraylike("packbits", a)
    a = asarray(a)
    if not (dtypes.is_integer(a.dtype) or a.dtype == np.bool_):
        raise TypeError("Expected an input array of integer or boolean data type")
    shifts = _shifts(bitorder)
    a = a.reshape(-1) if axis is None else a.swapaxes(axis, -1)
    bits = (a != 0).astype(np.uint8)
    bits = lax.pad(bits, np.uint8(0), [(0, 0, 0)] * (a.ndim - 1) + [(0, -a.shape[-1] % 8, 0)])
    packed = (bits.reshape(*a.shape[:-1], -1, 8) << shifts).sum(-1, dtype=np.uint8)
    return packed if axis is None else packed.swapaxes(axis, -1)


@compiled(static=("axis", "count", "bitorder"))
def unpackbits(a, axis: int | None = None, count: int | None = None, bitorder: str = "big"):
    """The bits of bytes.

    Args:
      a: an array of uint8.
      axis: the axis to unpack along; None: flatten first.
      count: how many bits of the axis to keep; a negative number drops as many, and beyond the end are zeros.
      bitorder: as in `packbits`.

    Returns:
      An array of uint8 of zeros and ones.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unpackbits(jnp.array([129], dtype='uint8'))
      Array([1, 0, 0, 0, 0, 0, 0, 1], dtype=uint8)
    """
    check_arraylike("unpackbits", a)
    a = asarray(a)
    if a.dtype != np.uint8:
        raise TypeError("Expected an input array of unsigned byte data type")
    shifts = _shifts(bitorder)
    a = a.reshape(-1) if axis is None else a.swapaxes(axis, -1)
    bits = ((a[..., None] >> shifts) & np.uint8(1)).reshape(*a.shape[:-1], -1)
    if count is not None:
        have = bits.shape[-1]
        extra = (count if count >= 0 else have + count) - have
        bits = lax.pad(bits, np.uint8(0), [(0, 0, 0)] * (a.ndim - 1) + [(0, extra, 0)])
    return bits if axis is None else bits.swapaxes(axis, -1)
