"""Arrays of typed random keys, outside of traced programs."""

from __future__ import annotations

import math
import operator

import numpy as np

from velax import _native, lax
from velax._backends.cpu.dispatch import wrap_keys
from velax._lang import dtypes
from velax._lang.array import Array, ArrayImpl
from velax._lang.avals import aval_factories, shaped_array
from velax._lang.dtypes import KeyTy
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax.random._threefry import PRNGImpl, key_dtype_of, threefry_impl

__all__ = ["PRNGKeyArray"]

_IMPLS = {threefry_impl.name: threefry_impl}


class PRNGKeyArray(Array):
    """An array of random keys: the words of the keys, seen as elements of dtype ``key<...>``.

    Make one with `velax.random.key` and `velax.random.split`. It has the methods of arrays that move
    elements; there is no arithmetic on keys.

    Args:
      impl: the generator.
      key_data: uint32 array whose last axes are the words of a key.
    """

    __slots__ = ("__weakref__", "_aval", "_base_array", "_impl", "_leaf")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, impl: PRNGImpl, key_data: ArrayImpl):
        self._impl, self._base_array, self._aval = impl, key_data, None
        self._leaf = (
            key_data,
            impl.tag,
        )  # what compiled calls take: the words, and what distinguishes them from plain integers

    # -- attributes -------------------------------------------------------------------------------

    @property
    def aval(self):
        if self._aval is None:
            self._aval = shaped_array(self.shape, key_dtype_of(self._impl))
        return self._aval

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self._base_array.shape
        return shape[: len(shape) - len(self._impl.key_shape)]

    @property
    def dtype(self) -> KeyTy:
        return key_dtype_of(self._impl)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._base_array.nbytes

    weak_type = property(lambda self: False)
    sharding = property(lambda self: self._base_array.sharding)
    device = property(lambda self: self._base_array.device)
    committed = property(lambda self: self._base_array.committed)
    is_fully_addressable = property(lambda self: self._base_array.is_fully_addressable)
    is_fully_replicated = property(lambda self: self._base_array.is_fully_replicated)

    @property
    def real(self):
        raise NotImplementedError("random keys have no real and imaginary parts")

    imag = real

    def devices(self):
        return self._base_array.devices()

    def on_device_size_in_bytes(self) -> int:
        return self._base_array.on_device_size_in_bytes()

    def unsafe_buffer_pointer(self) -> int:
        return self._base_array.unsafe_buffer_pointer()

    def block_until_ready(self):
        return self

    def copy_to_host_async(self) -> None:
        self._base_array.copy_to_host_async()

    def is_deleted(self) -> bool:
        return self._base_array.is_deleted()

    def is_ready(self) -> bool:
        return self._base_array.is_ready()

    def delete(self) -> None:
        self._base_array.delete()

    def copy(self):
        return PRNGKeyArray(self._impl, _native.array_copy(self._base_array))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return _restore, (self._impl.name, np.asarray(self._base_array))

    # -- elements ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise TypeError("iteration over a 0-d key array")
        # the words lie in this process's memory: rows are copied out of it, without a compiled program for each
        words = np.asarray(self._base_array)
        return (PRNGKeyArray(self._impl, _native.array_from_numpy(row, False, True)) for row in words)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        words = (slice(None),) * len(self._impl.key_shape)
        rest = () if any(i is Ellipsis for i in index) else (Ellipsis,)
        return _wrap(self._impl, self._base_array[(*index, *rest, *words)])

    def __setitem__(self, index, value):
        raise TypeError(
            "JAX arrays are immutable and do not support in-place item assignment. Instead of x[idx] = y, use x = "
            "x.at[idx].set(y) or another .at[] method."
        )

    # -- comparison, and what keys do not do ------------------------------------------------------

    def _equals(self, other, name: str):
        from velax.random._primitives import random_unwrap_p  # primitives on keys use the class of keys

        if not isinstance(getattr(other, "dtype", None), KeyTy):
            raise _no_arithmetic(name, self, other)
        a, b = random_unwrap_p.bind(self), random_unwrap_p.bind(other)
        rank = max(a.ndim, b.ndim)
        a, b = (
            lax.broadcast_in_dim(x, (*(1,) * (rank - x.ndim), *x.shape), range(rank - x.ndim, rank)) for x in (a, b)
        )
        return lax.reduce_and(lax.eq(a, b), (rank - 1,))

    def __eq__(self, other):
        return self._equals(other, "equal")

    def __ne__(self, other):
        return lax.bitwise_not(self._equals(other, "not_equal"))

    @api_boundary
    def __bool__(self):
        raise TypeError("key array cannot be converted to boolean.")

    @api_boundary
    def __array__(self, *args, **kwargs):
        raise TypeError(
            "JAX array with PRNGKey dtype cannot be converted to a NumPy array. Use jax.random.key_data(arr) if "
            "you wish to extract the underlying integer array."
        )

    def __repr__(self):
        return f"Array({self.shape}, dtype={self.dtype.name}) overlaying:\n{np.asarray(self._base_array)}"

    __str__ = __repr__

    def __format__(self, spec):
        return format(repr(self), spec)


def _no_arithmetic(name: str, *operands) -> TypeError:
    names = ", ".join(str(get_aval(x).dtype) for x in operands)
    return TypeError(
        f"{name} does not accept dtype{'s' if len(operands) > 1 else ''} {names}. Random keys are drawn from "
        "(random.normal, random.split, ...), not computed with."
    )


def _refuse(name: str):
    @api_boundary
    def refuse(*operands):
        raise _no_arithmetic(name, *operands)

    return refuse


for _name, _function in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power",
    "lshift": "left_shift", "rshift": "right_shift", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "matmul": "matmul",
}.items():  # fmt: skip
    setattr(PRNGKeyArray, f"__{_name}__", _refuse(_function))
    setattr(PRNGKeyArray, f"__r{_name}__", _refuse(_function))
for _name, _function in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}.items():
    setattr(PRNGKeyArray, f"__{_name}__", _refuse(_function))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(PRNGKeyArray, f"__{_name}__", _refuse(_name))


def _wrap(impl: PRNGImpl, words):
    """Keys of their words, concrete or traced."""
    if isinstance(words, ArrayImpl):
        return PRNGKeyArray(impl, words)
    from velax.random._primitives import random_wrap_p  # as in `_equals`

    return random_wrap_p.bind(words, impl=impl)


def _restore(impl_name: str, words: np.ndarray) -> PRNGKeyArray:
    return PRNGKeyArray(_IMPLS[impl_name], _native.array_from_numpy(words, False, True))


def _full(self, shape, fill_value):
    """Keys of this dtype, all alike: ``fill_value``, or zero words."""
    if isinstance(getattr(fill_value, "dtype", None), KeyTy):
        return lax.broadcast(fill_value, tuple(shape))
    words = lax.full((*shape, *self.base_shape), int(fill_value), self.base_dtype)
    return _wrap(self._impl, words)


KeyTy.full = _full
Array.register_kind(PRNGKeyArray)
aval_factories[PRNGKeyArray] = operator.attrgetter("aval")
dtypes.register_dtype_rule(PRNGKeyArray, operator.attrgetter("dtype"))
_native.register_leaf_type(PRNGKeyArray, operator.attrgetter("_leaf"))
wrap_keys[KeyTy] = lambda aval, base: PRNGKeyArray(aval.dtype._impl, base)
