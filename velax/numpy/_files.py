"""Arrays as files and as text: NumPy's functions, which take arrays of Velax."""

from __future__ import annotations

import numpy as np
from numpy import (
    array_repr,
    array_str,
    get_printoptions,
    printoptions,
    save,
    savez,
    set_printoptions,
)  # fmt: skip

from velax.numpy._creation import asarray

__all__ = [
    "array_repr", "array_str", "fromfile", "get_printoptions", "load", "printoptions", "save", "savez",
    "set_printoptions",
]  # fmt: skip


def fromfile(*args, **kwargs):
    """Not available, as reading has effects: read with NumPy and convert.

    Raises:
      NotImplementedError: always.

    Example:
      >>> import tempfile, numpy as np, velax.numpy as jnp
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     np.arange(3, dtype=np.int32).tofile(file.name)
      ...     jnp.asarray(np.fromfile(file.name, np.int32))
      Array([0, 1, 2], dtype=int32)
    """
    raise NotImplementedError(
        "jnp.fromfile() is not implemented because it may be non-pure and thus unsafe for use with JIT and other "
        "transformations. Use jnp.asarray(np.fromfile(...)) instead"
    )


def load(file, *args, **kwargs):
    """The array that a file of `save` holds.

    Args:
      file: a path, or a file open for reading in binary mode.
      args, kwargs: as of `numpy.load`.

    Returns:
      An array; of a file of `savez`, what `numpy.load` gives.

    Example:
      >>> import io, velax.numpy as jnp
      >>> file = io.BytesIO()
      >>> jnp.save(file, jnp.arange(3))
      >>> _ = file.seek(0)
      >>> jnp.load(file)
      Array([0, 1, 2], dtype=int32)
    """
    out = np.load(file, *args, **kwargs)
    if not isinstance(out, np.ndarray):
        return out
    if out.dtype.kind == "V" and out.dtype.itemsize == 2:
        out = out.view("bfloat16")  # NumPy writes the dtypes that it does not know as bytes
    return asarray(out)
