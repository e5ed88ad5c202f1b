"""Abstract values: the types of the language.

An aval says what a value is without holding it. `ShapedArray` is the type of arrays; `AbstractToken` and
`AbstractRef` are the others. Avals are immutable, hashable and compared by value: they are the keys of every
memo table of the system.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np

from velax._lang import dtypes

__all__ = [
    "AbstractRef",
    "AbstractToken",
    "AbstractValue",
    "ShapeDtypeStruct",
    "ShapedArray",
    "abstract_token",
    "aval_factories",
    "aval_of_scalar",
    "typematch",
]  # fmt: skip


class AbstractValue:
    """The base of all types."""

    __slots__ = ()

    def to_tangent_aval(self) -> AbstractValue:
        raise NotImplementedError(f"{type(self).__name__} has no tangent type")

    def strip_weak_type(self) -> AbstractValue:
        return self

    def str_short(self, short_dtypes: bool = False) -> str:
        return str(self)


class ShapedArray(AbstractValue):
    """The type of an array: shape, dtype and weak type (and, for a partitioned array, its sharding and memory space).

    Args:
      shape: a tuple of dimensions, integers or symbolic.
      dtype: anything NumPy reads as a dtype, or an extended dtype (typed random keys).
      weak_type: whether the dtype yields to others in promotion, as Python scalars do.
      sharding: a sharding, or None for unpartitioned.
      memory_space: where the array lives, or None for the device's default memory.
    """

    __slots__ = ("_hash", "dtype", "memory_space", "shape", "sharding", "weak_type")

    def __init__(self, shape, dtype, weak_type=False, *, sharding=None, memory_space=None, **_ignored):
        self.shape = tuple(shape)
        self.dtype = dtype if isinstance(dtype, (np.dtype, dtypes.ExtendedDType)) else np.dtype(dtype)
        self.weak_type = bool(weak_type)
        self.sharding = sharding
        self.memory_space = memory_space
        self._hash = hash((self.shape, self.dtype, self.weak_type, sharding, memory_space))

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        if self is other:
            return True
        return (
            type(self) is type(other)
            and self._hash == other._hash
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak_type == other.weak_type
            and self.sharding == other.sharding
            and self.memory_space == other.memory_space
        )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def update(self, **changes) -> ShapedArray:
        fields = {n: getattr(self, n) for n in ("shape", "dtype", "weak_type", "sharding", "memory_space")}
        return ShapedArray(**{**fields, **changes})

    def strip_weak_type(self) -> ShapedArray:
        return shaped_array(self.shape, self.dtype) if self.weak_type else self

    def to_tangent_aval(self) -> ShapedArray:
        dtype = dtypes.tangent_dtype(self.dtype)
        return self if dtype == self.dtype else ShapedArray(self.shape, dtype, self.weak_type)

    def str_short(self, short_dtypes: bool = False) -> str:
        name = dtypes.short_name(self.dtype) if short_dtypes else self.dtype.name
        return f"{name}[{','.join(map(str, self.shape))}]"

    def __repr__(self):
        weak = ", weak_type=True" if self.weak_type else ""
        return f"ShapedArray({self.str_short()}{weak})"

    def __str__(self):
        return f"{'~' if self.weak_type else ''}{self.str_short()}"

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __reduce__(self):
        return _rebuild_shaped_array, (self.shape, self.dtype, self.weak_type, self.sharding, self.memory_space)


def _rebuild_shaped_array(shape, dtype, weak_type, sharding, memory_space):
    return ShapedArray(shape, dtype, weak_type, sharding=sharding, memory_space=memory_space)


@functools.lru_cache(maxsize=65536)
def shaped_array(shape: tuple, dtype, weak_type: bool = False) -> ShapedArray:
    """The interned `ShapedArray` of these: hot paths compare it by identity first."""
    return ShapedArray(shape, dtype, weak_type)


class AbstractToken(AbstractValue):
    """The type of tokens, which order effects."""

    __slots__ = ()

    def to_tangent_aval(self):
        return self

    def str_short(self, short_dtypes: bool = False) -> str:
        return "Tok"

    def __repr__(self):
        return "Tok"


abstract_token = AbstractToken()


class AbstractRef(AbstractValue):
    """The type of a mutable reference to a value of ``inner_aval``."""

    __slots__ = ("inner_aval", "kind", "memory_space")

    def __init__(self, inner_aval: ShapedArray, memory_space=None, kind=None):
        self.inner_aval, self.memory_space, self.kind = inner_aval, memory_space, kind

    shape = property(lambda self: self.inner_aval.shape)
    dtype = property(lambda self: self.inner_aval.dtype)
    ndim = property(lambda self: self.inner_aval.ndim)
    size = property(lambda self: self.inner_aval.size)
    weak_type = property(lambda self: self.inner_aval.weak_type)

    def __eq__(self, other):
        return type(other) is AbstractRef and (self.inner_aval, self.memory_space, self.kind) == (
            other.inner_aval, other.memory_space, other.kind)  # fmt: skip

    def __hash__(self):
        return hash((AbstractRef, self.inner_aval, self.memory_space, self.kind))

    def to_tangent_aval(self):
        return AbstractRef(self.inner_aval.to_tangent_aval(), self.memory_space, self.kind)

    def str_short(self, short_dtypes: bool = False) -> str:
        return f"Ref{{{self.inner_aval.str_short(short_dtypes)}}}"

    def __repr__(self):
        return self.str_short()


class ShapeDtypeStruct:
    """Shape and dtype of an array without its data, as `eval_shape` returns and accepts.

    Args:
      shape: a sequence of integers.
      dtype: a dtype.
      sharding: an optional sharding.
      weak_type: whether the dtype is weak.

    Example:
      >>> import velax
      >>> velax.eval_shape(lambda x: x @ x, velax.ShapeDtypeStruct((3, 3), 'float32')).shape
      (3, 3)
    """

    __slots__ = ("_dll", "dtype", "is_ref", "manual_axis_type", "shape", "sharding", "weak_type")

    def __init__(self, shape, dtype, *, sharding=None, weak_type=False, manual_axis_type=None, is_ref=False):
        if dtype is None:
            raise ValueError("ShapeDtypeStruct: dtype must be specified")
        self.shape = tuple(shape)
        self.dtype = dtype if isinstance(dtype, dtypes.ExtendedDType) else np.dtype(dtype)
        self.sharding, self.weak_type, self.is_ref, self._dll = sharding, weak_type, is_ref, None
        self.manual_axis_type = manual_axis_type

    size = property(lambda self: math.prod(self.shape))
    ndim = property(lambda self: len(self.shape))

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def update(self, **changes) -> ShapeDtypeStruct:
        names = ("shape", "dtype", "sharding", "weak_type", "manual_axis_type", "is_ref")
        return ShapeDtypeStruct(**{**{n: getattr(self, n) for n in names}, **changes})

    @staticmethod
    def like(x) -> ShapeDtypeStruct:
        """The shape and dtype of a value: an array, a number, or another `ShapeDtypeStruct`."""
        if isinstance(x, ShapeDtypeStruct):
            return x
        found = aval_factories.get(type(x))
        aval = found(x) if found is not None else x.aval
        return ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)

    def __repr__(self):
        weak = ", weak_type=True" if self.weak_type else ""
        sharding = f", sharding={self.sharding}" if self.sharding is not None else ""
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype.name}{sharding}{weak})"

    def __eq__(self, other):
        return isinstance(other, ShapeDtypeStruct) and (self.shape, self.dtype, self.sharding, self.weak_type) == (
            other.shape, other.dtype, other.sharding, other.weak_type)  # fmt: skip

    def __hash__(self):
        return hash((self.shape, self.dtype, self.sharding, self.weak_type))


def typematch(t1: AbstractValue, t2: AbstractValue) -> bool:
    """Whether two avals are one type up to weak types."""
    return t1 is t2 or t1.strip_weak_type() == t2.strip_weak_type()


#: type of a concrete value -> function to its aval. Rooms that own value types add theirs (arrays, typed
#: keys, refs, tokens).
aval_factories: dict[type, Any] = {}


def aval_of_scalar(x) -> ShapedArray:
    """The weak aval of a Python scalar under the current x64 setting; bool is not weak, since there is one
    bool dtype.
    """
    return shaped_array((), dtypes.dtype_of_python_scalar(type(x)), type(x) is not bool)


for _scalar in (bool, int, float, complex):
    aval_factories[_scalar] = aval_of_scalar


def _aval_of_numpy(x) -> ShapedArray:
    return shaped_array(x.shape, dtypes.canonicalize_dtype(x.dtype))


def _aval_of_ndarray(x) -> ShapedArray:
    masked = sys.modules.get("numpy.ma")  # without it nobody has made one
    if masked is not None and isinstance(x, masked.MaskedArray):
        raise ValueError(
            "numpy masked arrays are not supported as direct inputs to JAX functions. Use arr.filled() to convert "
            "the value to a standard numpy array."
        )
    if x.dtype.kind in "OSUMm":
        raise TypeError(
            f"Error interpreting an array of dtype {x.dtype} as a JAX value: arrays hold numbers and booleans"
        )
    return _aval_of_numpy(x)


aval_factories[np.ndarray] = _aval_of_ndarray
for _scalar in dtypes.numpy_scalar_types:
    aval_factories[_scalar] = _aval_of_numpy
aval_factories[np.void] = _aval_of_numpy  # an element of a float0 array
