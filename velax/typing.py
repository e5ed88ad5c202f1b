"""Types for annotations.

``Array`` (in `velax`) is the type of arrays; `ArrayLike` is what functions accept in place of one.
"""

from __future__ import annotations

from typing import Any, Protocol, Union

import numpy as np

from velax._lang.array import Array

__all__ = ["ArrayLike", "DTypeLike"]


class _HasDType(Protocol):
    """An object with a dtype, which stands for it."""

    @property
    def dtype(self) -> np.dtype: ...


#: what can be used where an array is asked for: arrays, NumPy arrays and scalars, Python numbers
ArrayLike = Union[Array, np.ndarray, np.bool_, np.number, bool, int, float, complex]  # noqa: UP007  (a union of types with metaclasses)
#: what names a dtype
DTypeLike = Union[str, type[Any], np.dtype, _HasDType]  # noqa: UP007
