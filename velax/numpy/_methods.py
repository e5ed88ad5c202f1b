"""Operators, methods and properties of arrays.

Operators of concrete arrays are native slots that call the functions registered here; tracers get
the same functions as Python methods. Everything else is
installed once for both. Functions of modules that are imported later are looked up in `velax.numpy`
when a method is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import velax.numpy as jnp
from velax import _native, lax
from velax._lang import dtypes
from velax._lang.array import Array, ArrayImpl, install
from velax._lang.trace import Tracer, get_aval
from velax._lang.traceback import api_boundary, boundary, leave_boundary
from velax._transforms.jit import jit
from velax.numpy import _arithmetic as arithmetic, _float_functions as floats, _logic as logic
from velax.numpy._at import IndexUpdateHelper
from velax.numpy._creation import astype, place
from velax.numpy._indexing import getitem, iterate

__all__: list[str] = []

# -- operators -----------------------------------------------------------------------------------


def _reflected(f):
    """``f`` with its operands exchanged, for ``other + array``."""

    def reflected(x, y):
        return f(y, x)

    reflected.__name__ = reflected.__qualname__ = "r" + f.__name__
    return jit(reflected, inline=True)


@api_boundary
def _matmul(x, y):
    return jnp.matmul(x, y)


@api_boundary
def _rmatmul(x, y):
    return jnp.matmul(y, x)


@boundary
def _pow(x, y):
    try:
        return arithmetic.power(x, y)
    except Exception as error:
        leave_boundary(error)
        raise


@boundary
def _rpow(x, y):
    try:
        return arithmetic.power(y, x)
    except Exception as error:
        leave_boundary(error)
        raise


_BINARY = {
    "add": (arithmetic.add, "+"), "sub": (arithmetic.subtract, "-"), "mul": (arithmetic.multiply, "*"),
    "truediv": (arithmetic.true_divide, "/"),
    "floordiv": (arithmetic.floor_divide, "//"), "mod": (arithmetic.remainder, "%"),
    "divmod": (arithmetic.divmod, "divmod"), "lshift": (logic.left_shift, "<<"),
    "rshift": (logic.right_shift, ">>"), "and": (logic.bitwise_and, "&"), "or": (logic.bitwise_or, "|"),
    "xor": (logic.bitwise_xor, "^"),
}  # fmt: skip
_COMPARISONS = {
    "lt": (logic.less, "<"), "le": (logic.less_equal, "<="), "eq": (logic.equal, "=="), "ne": (logic.not_equal, "!="),
    "gt": (logic.greater, ">"),
    "ge": (logic.greater_equal, ">="),
}  # fmt: skip
_UNARY = {
    "neg": arithmetic.negative,
    "pos": arithmetic.positive,
    "abs": arithmetic.absolute,
    "invert": logic.bitwise_not,
}

_operators: dict[str, Any] = {name: f for name, (f, _) in (_BINARY | _COMPARISONS).items()}
_operators |= {"r" + name: _reflected(f) for name, (f, _) in _BINARY.items()}
_operators |= _UNARY
_operators |= {
    "pow": _pow,
    "rpow": _rpow,
    "matmul": _matmul,
    "rmatmul": _rmatmul,
    "getitem": getitem,
    "iter": iterate,
}
_native.set_array_operators(_operators)

_KNOWN = (int, float, complex, np.generic, np.ndarray)
_REJECTED = (list, tuple, set, dict)


def _deferring(f, symbol: str, swapped: bool = False):
    """A binary operator of tracers: NotImplemented for operands of unknown types, so that these get their turn."""

    @boundary
    def op(self, other):
        if isinstance(other, (Array, *_KNOWN)) or hasattr(other, "__jax_array__"):
            try:
                return f(self, other)
            except Exception as error:
                leave_boundary(error)
                raise
        if type(other) in _REJECTED:
            names = (
                (type(other).__name__, type(self).__name__) if swapped else (type(self).__name__, type(other).__name__)
            )
            raise TypeError(
                f"unsupported operand type(s) for {symbol}: {names[0]!r} and {names[1]!r}; convert it with "
                "jnp.asarray first"
            )
        return NotImplemented

    return op


def _method_of(f):
    def method(self, *args):
        return f(self, *args)

    return method


def _install_tracer_operators() -> None:
    symbols = {name: symbol for name, (_, symbol) in (_BINARY | _COMPARISONS).items()} | {"pow": "**", "matmul": "@"}
    for name, symbol in symbols.items():
        setattr(Tracer, f"__{name}__", _deferring(_operators[name], symbol))
        if "r" + name in _operators:
            setattr(Tracer, f"__r{name}__", _deferring(_operators["r" + name], symbol, swapped=True))
    for name in (*_UNARY, "getitem", "iter"):
        setattr(Tracer, f"__{name}__", _method_of(_operators[name]))


_install_tracer_operators()


# -- methods -------------------------------------------------------------------------------------


class _Methods:
    """What all arrays have; each function is documented in `velax.numpy` under its name."""

    # reductions

    def all(self, axis=None, out=None, keepdims=False, *, where=None):
        """Whether all elements are true: `velax.numpy.all`."""
        return jnp.all(self, axis=axis, out=out, keepdims=keepdims, where=where)

    def any(self, axis=None, out=None, keepdims=False, *, where=None):
        """Whether any element is true: `velax.numpy.any`."""
        return jnp.any(self, axis=axis, out=out, keepdims=keepdims, where=where)

    def argmax(self, axis=None, out=None, keepdims=None):
        """The index of the greatest element: `velax.numpy.argmax`."""
        return jnp.argmax(self, axis=axis, out=out, keepdims=keepdims)

    def argmin(self, axis=None, out=None, keepdims=None):
        """The index of the least element: `velax.numpy.argmin`."""
        return jnp.argmin(self, axis=axis, out=out, keepdims=keepdims)

    def cumprod(self, axis=None, dtype=None, out=None):
        """Cumulative products: `velax.numpy.cumprod`."""
        return jnp.cumprod(self, axis=axis, dtype=dtype, out=out)

    def cumsum(self, axis=None, dtype=None, out=None):
        """Cumulative sums: `velax.numpy.cumsum`."""
        return jnp.cumsum(self, axis=axis, dtype=dtype, out=out)

    def max(self, axis=None, out=None, keepdims=False, initial=None, where=None):
        """The greatest element: `velax.numpy.max`."""
        return jnp.max(self, axis=axis, out=out, keepdims=keepdims, initial=initial, where=where)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False, *, where=None):
        """The mean: `velax.numpy.mean`."""
        return jnp.mean(self, axis=axis, dtype=dtype, out=out, keepdims=keepdims, where=where)

    def min(self, axis=None, out=None, keepdims=False, initial=None, where=None):
        """The least element: `velax.numpy.min`."""
        return jnp.min(self, axis=axis, out=out, keepdims=keepdims, initial=initial, where=where)

    def prod(self, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None, promote_integers=True):
        """The product: `velax.numpy.prod`."""
        return jnp.prod(
            self,
            axis=axis,
            dtype=dtype,
            out=out,
            keepdims=keepdims,
            initial=initial,
            where=where,
            promote_integers=promote_integers,
        )

    def ptp(self, axis=None, out=None, keepdims=False):
        """The greatest element less the least: `velax.numpy.ptp`."""
        return jnp.ptp(self, axis=axis, out=out, keepdims=keepdims)

    def std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=None, correction=None):
        """The standard deviation: `velax.numpy.std`."""
        return jnp.std(
            self, axis=axis, dtype=dtype, out=out, ddof=ddof, keepdims=keepdims, where=where, correction=correction
        )

    def sum(self, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None, promote_integers=True):
        """The sum: `velax.numpy.sum`."""
        return jnp.sum(
            self,
            axis=axis,
            dtype=dtype,
            out=out,
            keepdims=keepdims,
            initial=initial,
            where=where,
            promote_integers=promote_integers,
        )

    def var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=None, correction=None):
        """The variance: `velax.numpy.var`."""
        return jnp.var(
            self, axis=axis, dtype=dtype, out=out, ddof=ddof, keepdims=keepdims, where=where, correction=correction
        )

    # shape

    def diagonal(self, offset=0, axis1=0, axis2=1):
        """A diagonal: `velax.numpy.diagonal`."""
        return jnp.diagonal(self, offset=offset, axis1=axis1, axis2=axis2)

    def flatten(self, order="C", *, out_sharding=None):
        """The elements as a vector: `velax.numpy.ravel`."""
        return jnp.ravel(self, order=order)

    def ravel(self, order="C", *, out_sharding=None):
        """The elements as a vector: `velax.numpy.ravel`."""
        return jnp.ravel(self, order=order)

    def repeat(self, repeats, axis=None, *, total_repeat_length=None, out_sharding=None):
        """Elements repeated: `velax.numpy.repeat`."""
        return jnp.repeat(self, repeats, axis=axis, total_repeat_length=total_repeat_length)

    def reshape(self, *args: Any, order="C", out_sharding=None):
        """The same elements under another shape, given as a sequence or as integers: `velax.numpy.reshape`."""
        return jnp.reshape(self, _one_or_many(args, "reshape"), order=order)

    def squeeze(self, axis=None):
        """Without axes of size 1: `velax.numpy.squeeze`."""
        return jnp.squeeze(self, axis=axis)

    def swapaxes(self, axis1, axis2):
        """With two axes exchanged: `velax.numpy.swapaxes`."""
        return jnp.swapaxes(self, axis1=axis1, axis2=axis2)

    def trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None):
        """The sum along a diagonal: `velax.numpy.trace`."""
        return jnp.trace(self, offset=offset, axis1=axis1, axis2=axis2, dtype=dtype, out=out)

    def transpose(self, *args: Any):
        """With permuted axes, given as a sequence or as integers; reversed by default: `velax.numpy.transpose`."""
        return jnp.transpose(self, None if not args else _one_or_many(args, "transpose"))

    @property
    def T(self):
        """The transposed array."""
        return jnp.transpose(self)

    @property
    def mT(self):
        """The array with its last two axes exchanged."""
        if get_aval(self).ndim < 2:
            raise ValueError(f"x must be at least two-dimensional for matrix_transpose; got ndim={get_aval(self).ndim}")
        return jnp.swapaxes(self, -1, -2)

    # elements

    def argpartition(self, kth, axis=-1):
        """Indices that partition: `velax.numpy.argpartition`."""
        return jnp.argpartition(self, kth, axis=axis)

    def argsort(self, axis=-1, *, kind=None, order=None, stable=True, descending=False):
        """Indices that sort: `velax.numpy.argsort`."""
        return jnp.argsort(self, axis=axis, kind=kind, order=order, stable=stable, descending=descending)

    def choose(self, choices, out=None, mode="raise"):
        """Elements of the choices that these integers name: `velax.numpy.choose`."""
        return jnp.choose(self, choices, out=out, mode=mode)

    def clip(self, min=None, max=None):
        """Limited to an interval: `velax.numpy.clip`."""
        return jnp.clip(self, min=min, max=max)

    def compress(self, condition, axis=None, *, out=None, size=None, fill_value=0):
        """Parts whose condition holds: `velax.numpy.compress`."""
        return jnp.compress(condition, self, axis=axis, out=out, size=size, fill_value=fill_value)

    def conj(self):
        """The complex conjugate: `velax.numpy.conj`."""
        return floats.conjugate(self)

    def conjugate(self):
        """The complex conjugate: `velax.numpy.conjugate`."""
        return floats.conjugate(self)

    def copy(self):
        """A copy: `velax.numpy.copy`."""
        return jnp.array(self, copy=True)

    def clone(self):
        """A copy."""
        return jnp.array(self, copy=True)

    def dot(self, b, *, precision=None, preferred_element_type=None):
        """The dot product: `velax.numpy.dot`."""
        return jnp.dot(self, b, precision=precision, preferred_element_type=preferred_element_type)

    def nonzero(self, *, fill_value=None, size=None):
        """Positions of nonzero elements: `velax.numpy.nonzero`."""
        return jnp.nonzero(self, size=size, fill_value=fill_value)

    def round(self, decimals=0, out=None):
        """Rounded to decimals: `velax.numpy.round`."""
        return jnp.round(self, decimals=decimals, out=out)

    def searchsorted(self, v, side="left", sorter=None, *, method="scan"):
        """Where to insert to keep the order: `velax.numpy.searchsorted`."""
        return jnp.searchsorted(self, v, side=side, sorter=sorter, method=method)

    def sort(self, axis=-1, *, kind=None, order=None, stable=True, descending=False):
        """Sorted: `velax.numpy.sort`."""
        return jnp.sort(self, axis=axis, kind=kind, order=order, stable=stable, descending=descending)

    def take(
        self, indices, axis=None, out=None, mode=None, unique_indices=False, indices_are_sorted=False, fill_value=None
    ):
        """Elements at indices: `velax.numpy.take`."""
        return jnp.take(
            self,
            indices,
            axis=axis,
            out=out,
            mode=mode,
            unique_indices=unique_indices,
            indices_are_sorted=indices_are_sorted,
            fill_value=fill_value,
        )

    @property
    def at(self):
        """Updated copies and indexing with modes: ``x.at[index].set(y)``; see `IndexUpdateHelper`."""
        return IndexUpdateHelper(self)

    @property
    def flat(self):
        raise NotImplementedError("JAX Arrays do not implement the arr.flat property: consider arr.flatten() instead.")

    @property
    def real(self):
        """The real part."""
        return floats.real(self)

    @property
    def imag(self):
        """The imaginary part."""
        return floats.imag(self)

    # dtype and device

    def astype(self, dtype, copy=False, device=None):
        """Converted to a dtype: `velax.numpy.astype`."""
        return astype(self, dtype, copy=copy, device=device)

    def byteswap(self):
        """With the bytes of each element in reverse order."""
        dtype = get_aval(self).dtype
        width = dtype.itemsize
        if width == 1:
            return self
        if dtypes.is_complex(dtype):
            part = lambda x: _Methods.byteswap(x)
            return lax.complex(part(lax.real(self)), part(lax.imag(self)))
        shape = get_aval(self).shape
        parts = lax.rev(lax.bitcast_convert_type(self, np.dtype(np.uint8)), (len(shape),))
        return lax.bitcast_convert_type(parts, dtype)

    def to_device(self, device, *, stream=None):
        """On a device or with a sharding: `velax.device_put`."""
        if stream is not None:
            raise NotImplementedError("stream argument of array.to_device(): arrays are ready when the call returns")
        return place(self, device)

    def view(self, dtype=None, type=None):
        """The same bits read as another dtype.

        Args:
          dtype: a dtype; None: this array's own.
          type: must be None.

        Raises:
          ValueError: if the last axis does not divide into elements of the dtype.
        """
        if type is not None:
            raise NotImplementedError("`type` argument of array.view() is not supported.")
        if dtype is None:
            return self
        return _view(self, dtypes.check_user_dtype_supported(dtype, "view"))

    # protocols

    def __array_namespace__(self, *, api_version=None):
        """The namespace of the Python array API standard: `velax.numpy`."""
        known = ["2024.12"]
        if api_version is not None and api_version not in known:
            raise ValueError(f"{api_version=} is not available; available versions are: {known}")
        return jnp

    def __round__(self, ndigits=None):
        out = jnp.round(self, decimals=ndigits or 0)
        return out if ndigits is not None else astype(out, dtypes.default_int_dtype())

    def __contains__(self, item):
        shape = get_aval(self).shape
        if len(shape) != 1:
            raise ValueError(f"Array.__contains__: search array must be one-dimensional, got arr.shape={shape}.")
        return bool(jnp.any(logic.equal(self, item)))


def _one_or_many(args: tuple, name: str):
    """The argument of ``x.reshape((2, 3))`` and ``x.reshape(2, 3)``."""
    if len(args) == 1:
        return args[0]
    if not args:
        return ()
    for a in args:
        if isinstance(a, (tuple, list)):
            raise TypeError(f"{name}: give the integers as one sequence or as separate arguments, got {args}")
    return args


def _uneven_view(aval, dtype) -> ValueError:
    return ValueError(
        "When changing to a larger dtype, its size must be a divisor of the total size in bytes of the last axis of "
        f"the array; got {aval.str_short()} "
        f"and {dtype}."
    )


def _view(x, dtype):
    aval = get_aval(x)
    if dtype == np.bool_ or aval.dtype == np.bool_:
        if dtype == aval.dtype:
            return x
        if aval.dtype == np.bool_:
            return _view(lax.convert_element_type(x, np.dtype(np.uint8)), dtype)
        return lax.ne(_view(x, np.dtype(np.uint8)), np.uint8(0))
    old, new = dtypes.itemsize_bits(aval.dtype), dtypes.itemsize_bits(dtype)
    if not aval.shape:
        if old != new:
            raise ValueError(
                f"view() of a 0d array is only supported if the itemsize is unchanged; got {aval.dtype} and {dtype}."
            )
        return lax.reshape(_view(lax.reshape(x, (1,)), dtype), ())
    if dtypes.is_complex(aval.dtype):
        if dtype == aval.dtype:
            return x
        part = lax.concatenate([lax.reshape(p, (*aval.shape, 1)) for p in (lax.real(x), lax.imag(x))], len(aval.shape))
        return _view(lax.reshape(part, (*aval.shape[:-1], 2 * aval.shape[-1])), dtype)
    if dtypes.is_complex(dtype):
        halves = _view(x, dtypes.real_dtype(dtype))
        shape = get_aval(halves).shape
        if shape[-1] % 2:
            raise _uneven_view(aval, dtype)
        pairs = lax.reshape(halves, (*shape[:-1], shape[-1] // 2, 2))
        pick = lambda k: lax.index_in_dim(pairs, k, len(shape), keepdims=False)
        return lax.complex(pick(0), pick(1))
    if old == new:
        return lax.bitcast_convert_type(x, dtype)
    *leading, last = aval.shape
    if old > new:
        return lax.reshape(lax.bitcast_convert_type(x, dtype), (*leading, last * (old // new)))
    if last * old % new:
        raise _uneven_view(aval, dtype)
    return lax.bitcast_convert_type(lax.reshape(x, (*leading, last * old // new, new // old)), dtype)


# -- placement, of concrete arrays ---------------------------------------------------------------


class Shard:
    """The part of an array that one device holds.

    Attributes:
      device: the device.
      index: which part of the array, a tuple of slices.
      replica_id: which of the copies of that part.
      data: it, as an array.
    """

    __slots__ = ("data", "device", "index", "replica_id")

    def __init__(self, device, index, replica_id: int, data):
        self.device, self.index, self.replica_id, self.data = device, index, replica_id, data

    def __repr__(self):
        return f"Shard(device={self.device!r}, index={self.index}, replica_id={self.replica_id}, data={self.data})"


def _shards(x) -> list[Shard]:
    (device,) = x.devices()
    return [Shard(device, (slice(None),) * x.ndim, 0, x)]


def _addressable_data(x, index: int):
    """The array of one of this process's shards."""
    return _shards(x)[index].data


def _platform(x) -> str:
    """The name of the kind of device that holds the array."""
    (device,) = x.devices()
    return device.platform


def _install_placement() -> None:
    ArrayImpl.addressable_shards = property(_shards)
    ArrayImpl.global_shards = property(_shards)
    ArrayImpl.addressable_data = _addressable_data
    ArrayImpl.platform = _platform
    ArrayImpl.traceback = property(lambda self: None)


_install_placement()


def _install_methods() -> None:
    for name, attribute in vars(_Methods).items():
        if not name.startswith("__") or name in ("__array_namespace__", "__contains__", "__round__"):
            install(name, attribute)


_install_methods()
