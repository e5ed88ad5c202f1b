"""Making arrays."""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Sequence

import numpy as np

from velax import _native, lax
from velax._backends.cpu.placement import device_put
from velax._lang import dtypes, promotion
from velax._lang.array import Array, ArrayImpl
from velax._lang.avals import shaped_array
from velax._lang.trace import Tracer, get_aval
from velax._lang.transfers import check_implicit_transfer, transfers_are_guarded
from velax.lax._index_parts import broadcast_to as spread
from velax.lax._structural import canonical_axis, canonical_shape, convert_type, copy_p
from velax.numpy._util import check_arraylike
from velax.tree_util import tree_leaves, tree_map

__all__ = [
    "array", "asarray", "astype", "copy", "empty", "empty_like", "from_dlpack", "frombuffer",
    "fromiter", "fromstring", "full", "full_like", "ndim", "ones", "ones_like", "shape", "size",
    "zeros", "zeros_like",
]  # fmt: skip


def place(x, device):
    """``x`` on ``device``: there is one, so this only checks."""
    if device is None:
        return x
    return device_put(x, device)


# -- array ---------------------------------------------------------------------------------------


def array(
    object,
    dtype=None,
    *args,
    copy: bool = True,
    order: str | None = "K",
    ndmin: int = 0,
    device=None,
    out_sharding=None,
):
    """Make an array.

    Args:
      object: a number, an array of Velax, NumPy or anything with ``__jax_array__``, ``__array__``,
        the buffer protocol or DLPack, or nested sequences of these.
      dtype: the dtype; by default that of the data, with 64-bit types narrowed unless
        ``enable_x64``, and weak for Python numbers.
      copy: whether to copy; arrays are immutable, so False saves memory only.
      order: "K" or "C".
      ndmin: the least number of dimensions; leading axes of size 1 are added.
      device: a device or sharding.

    Returns:
      An array.

    Raises:
      TypeError: for data that are no numbers.
      ValueError: for ragged sequences.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.array([1, 2, 3])
      Array([1, 2, 3], dtype=int32)
    """
    if args:
        raise TypeError(
            f"array() takes from 1 to 2 positional arguments but {2 + len(args)} were given; name the others"
        )
    if order is not None and order not in ("K", "C", "A"):
        raise NotImplementedError("Only implemented for order='K' or 'C': arrays are stored in row-major order")
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "array")
    out = _to_array(object, target, copy)
    if ndmin > get_aval(out).ndim:
        out = lax.broadcast_in_dim(
            out, (1,) * (ndmin - get_aval(out).ndim) + get_aval(out).shape, range(ndmin - get_aval(out).ndim, ndmin)
        )
    return place(out, device if device is not None else out_sharding)


def _to_array(x, dtype, copy):
    kind = type(x)
    if kind in (bool, int, float, complex):
        return _from_scalar(x, dtype)
    if isinstance(x, (ArrayImpl, Tracer)):
        return _from_array(x, dtype, copy)
    if isinstance(x, np.ndarray):
        return _from_numpy(x, dtype, copy)
    if isinstance(x, np.generic):
        return _from_numpy(np.asarray(x), dtype, copy)
    for base in (int, float, complex):  # enumerations, for one
        if isinstance(x, base):
            return _from_scalar(base(x), dtype)
    if isinstance(x, Array):  # typed keys and other arrays of Python classes
        if dtype is not None and dtype != x.dtype:
            raise ValueError(f"cannot make an array of dtype {dtype} from one of dtype {x.dtype}")
        return x
    if hasattr(x, "__jax_array__"):
        return _to_array(x.__jax_array__(), dtype, copy)
    if x is None:
        raise ValueError("None is not a valid value for jnp.array")
    if isinstance(x, (list, tuple)):
        return _from_sequence(x, dtype)
    if isinstance(x, (str, bytes)):
        raise TypeError(
            f"Value {x!r} with dtype {np.asarray(x).dtype.str} is not a valid JAX array type. Only arrays of numeric "
            "types are supported by JAX."
        )
    if hasattr(x, "__array__"):
        return _from_numpy(np.asarray(x), dtype, True)
    if hasattr(x, "__dlpack__"):
        return _from_array(from_dlpack(x), dtype, copy)
    try:
        view = memoryview(x)
    except TypeError:
        pass
    else:
        return _from_numpy(np.asarray(view), dtype, True)
    if isinstance(x, (range, builtins.map, filter, zip)) or (
        hasattr(x, "__len__") and hasattr(x, "__getitem__") and not isinstance(x, dict)
    ):
        return _from_sequence(list(x), dtype)
    raise TypeError(
        f"Value {x!r} of type {kind} is not a valid JAX array type. Arrays are made of numbers, of arrays, and of "
        "(nested) lists and tuples of them."
    )


def _from_scalar(x, dtype):
    if dtype is None:
        found = dtypes.dtype_of_python_scalar(type(x))
        if type(x) is int:
            dtypes.check_python_int(x)
        return _constant(x, found, type(x) is not bool)
    if dtypes.is_extended(dtype):
        raise TypeError(f"cannot make an array of dtype {dtype} from a number; use random.key")
    return _constant(x, dtype, False)


def _constant(x, dtype, weak):
    """A number as an array; while tracing it is a constant of the program."""
    if type(x) is complex and not dtypes.is_complex(dtype):
        raise TypeError(f"cannot convert the complex number {x} to {dtype}")
    _check_fit((x,), dtype)
    if type(x) is float and dtypes.is_integer(dtype):
        x = int(x) if math.isfinite(x) else 0
    if transfers_are_guarded():
        check_implicit_transfer(shaped_array((), dtype, weak))
    return _native.array_from_scalar(x, dtype, weak)


def _check_fit(xs, dtype) -> None:
    """Raises for a Python int beyond an integer dtype; in those of 4 bits and fewer it wraps, as in NumPy."""
    if not dtypes.is_integer(dtype) or dtype in dtypes.narrow_integer_dtypes:
        return
    info = dtypes.iinfo(dtype)
    for x in xs:
        if type(x) is int and not info.min <= x <= info.max:
            raise OverflowError(f"Python integer {x} out of bounds for {dtype.name}")


def _from_array(x, dtype, copy):
    aval = get_aval(x)
    if dtype is not None and (dtype != aval.dtype or aval.weak_type):
        return convert_type(x, dtype, False)
    if not copy:
        return x
    return _native.array_copy(x) if isinstance(x, ArrayImpl) and _native.get_trace() is None else copy_p.bind(x)


def _from_numpy(x, dtype, copy):
    if x.dtype.kind in "OUSMm" or (x.dtype.kind == "V" and x.dtype not in dtypes.all_dtypes):
        raise TypeError(
            f"Value {x!r} with dtype {x.dtype} is not a valid JAX array type. Only arrays of numeric types are "
            "supported by JAX."
        )
    if type(x) is not np.ndarray:
        get_aval(x)  # refuses masked arrays
    target = dtypes.canonicalize_dtype(x.dtype) if dtype is None else dtype
    if target != x.dtype:
        x = _numpy_convert(x, target)
    if transfers_are_guarded():
        check_implicit_transfer(get_aval(x))
    return _native.array_from_numpy(np.asarray(x, order="C"), False, True if copy else None)


def _numpy_convert(x, target):
    """NumPy's conversion, with floats to integers saturating as arrays convert everywhere.

    Only to integers of 4 bits and fewer they wrap, as they do in JAX when the host converts.
    """
    if dtypes.is_integer(target) and target not in dtypes.narrow_integer_dtypes and dtypes.is_inexact(x.dtype):
        return np.asarray(
            convert_type(
                _native.array_from_numpy(np.asarray(x, order="C", dtype=dtypes.canonicalize_dtype(x.dtype)), False),
                target,
            )
        )
    return x.astype(target)


def _from_sequence(xs, dtype):
    leaves = tree_leaves(xs, is_leaf=lambda v: v is None or not isinstance(v, (list, tuple)))
    if any(v is None for v in leaves):
        raise ValueError("None is not a valid value for jnp.array")
    leaves = [
        v.__jax_array__() if hasattr(v, "__jax_array__") and not isinstance(v, (ArrayImpl, Tracer)) else v
        for v in leaves
    ]
    if not leaves:
        shape_ = np.shape(np.asarray(xs, dtype=np.float32))
        return zeros(shape_, dtype or dtypes.default_float_dtype())
    if any(isinstance(v, Tracer) or (isinstance(v, Array) and not isinstance(v, ArrayImpl)) for v in leaves):
        return _stack_sequence(xs, dtype)
    if dtype is None:
        if any(isinstance(v, (str, bytes)) for v in leaves):
            raise TypeError(
                f"Value {xs!r} is not a valid JAX array type. Only arrays of numeric types are supported by JAX."
            )
        dtype, _ = promotion.lattice_result_type(*leaves)
        dtype = dtypes.canonicalize_dtype(dtype)
    if any(isinstance(v, ArrayImpl) for v in leaves):
        shapes = dict.fromkeys(np.shape(v) for v in leaves)
        if len(shapes) > 1 and isinstance(xs, (list, tuple)) and len(leaves) == len(xs):
            raise TypeError(
                f"Cannot make one array of parts with different shapes: {', '.join(map(str, shapes))}. Pad them to one "
                "shape, or keep them in a list."
            )
        xs = tree_map(
            lambda v: np.asarray(v) if isinstance(v, ArrayImpl) else v,
            xs,
            is_leaf=lambda v: not isinstance(v, (list, tuple)),
        )
    _check_fit(leaves, dtype)
    plain = np.asarray(xs)
    if plain.dtype == object:
        raise TypeError(f"Unexpected input type for array: {type(leaves[0])}; expected numbers in nested sequences")
    if transfers_are_guarded() and not all(isinstance(v, ArrayImpl) for v in leaves):
        check_implicit_transfer(shaped_array(plain.shape, dtype))
    return _native.array_from_numpy(
        np.asarray(_numpy_convert(plain, dtype) if plain.dtype != dtype else plain, order="C"), False
    )


def _stack_sequence(xs, dtype):
    """Nested sequences with traced values: stacked by operations."""
    if not isinstance(xs, (list, tuple)):
        return asarray(xs, dtype)
    if not xs:
        return zeros((0,), dtype)
    parts = [_stack_sequence(x, None) for x in xs]
    shapes = {get_aval(p).shape for p in parts}
    if len(shapes) > 1:
        raise ValueError(f"array: the elements of a sequence must have one shape, got {sorted(shapes)}")
    target = promotion.lattice_result_type(*parts)[0] if dtype is None else dtype
    if not dtypes.is_extended(target):
        parts = [convert_type(p, target, False) for p in parts]
    return lax.concatenate(
        [lax.broadcast_in_dim(p, (1, *get_aval(p).shape), range(1, get_aval(p).ndim + 1)) for p in parts], 0
    )


def asarray(a, dtype=None, order: str | None = None, *, copy: bool | None = None, device=None, out_sharding=None):
    """As `array`, without a copy where none is needed.

    Args:
      a: data as in `array`.
      dtype: the dtype, or None.
      copy: True to copy; otherwise memory is shared where it can be.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.asarray([1, 2, 3])
      Array([1, 2, 3], dtype=int32)
    """
    if isinstance(a, (ArrayImpl, Tracer)) and dtype is None and not copy and device is None:
        return a
    return array(a, dtype, copy=bool(copy), order=order or "K", device=device, out_sharding=out_sharding)


def copy(a, order: str | None = None):
    """A copy of an array.

    Args:
      a: an array.
      order: "K" or "C".

    Returns:
      An array with memory of its own.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.copy(jnp.array([1, 2]))
      Array([1, 2], dtype=int32)
    """
    check_arraylike("copy", a)
    return array(a, copy=True, order=order or "K")


def astype(x, dtype, /, *, copy: bool = False, device=None):
    """Convert to a dtype.

    Args:
      x: an array.
      dtype: the dtype; None: the default float.
      copy: whether to copy if the dtype is already right.
      device: a device, or None.

    Returns:
      The converted array; complex numbers lose their imaginary part with a warning; floats become booleans by ``!= 0``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.astype(jnp.array([1.7, -1.7]), int)
      Array([ 1, -1], dtype=int32)
    """
    check_arraylike("astype", x)
    target = dtypes.default_float_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "astype")
    aval = get_aval(x)
    if dtypes.is_extended(aval.dtype) or dtypes.is_extended(target):
        if aval.dtype == target:
            return x
        raise TypeError(f"astype: cannot convert {aval.dtype} to {target}; use random.key_data")
    if dtypes.is_complex(aval.dtype) and not dtypes.is_complex(target) and target != np.bool_:
        warnings.warn(
            "Casting from complex to real dtypes will soon raise a ValueError. Take the part that is meant first, by "
            "jnp.real or jnp.imag.",
            DeprecationWarning,
            stacklevel=3,
        )
        x = lax.real(x)
    if aval.dtype == target and not aval.weak_type and isinstance(x, (ArrayImpl, Tracer)):
        return place(copy_p.bind(x) if copy else x, device)
    if target == np.bool_ and aval.dtype != np.bool_:
        return lax.ne(x, aval.dtype.type(0))
    return place(convert_type(x, target, False), device)


def from_dlpack(x, /, *, device=None, copy: bool | None = None):
    """An array from anything that speaks DLPack, sharing its memory where possible.

    Args:
      x: an object with ``__dlpack__`` and ``__dlpack_device__``.
      device: a device, or None.
      copy: True to copy, False to raise where a copy is needed.

    Returns:
      An array.

    Example:
      >>> import numpy as np
      >>> import velax.numpy as jnp
      >>> jnp.from_dlpack(np.array([1., 2.], np.float32))
      Array([1., 2.], dtype=float32)
    """
    return place(_native.from_dlpack(x, copy=copy), device)


def frombuffer(buffer, dtype=float, count: int = -1, offset: int = 0):
    r"""An array from the bytes of a buffer.

    Args:
      buffer: an object with the buffer protocol.
      dtype: how to read the bytes.
      count: the number of elements; -1: all there are.
      offset: where to start, in bytes.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.frombuffer(b"\x01\x02", dtype="uint8")
      Array([1, 2], dtype=uint8)
    """
    return asarray(np.frombuffer(buffer, dtype=dtype, count=count, offset=offset))


def fromstring(string: str, dtype=float, count: int = -1, *, sep: str):
    """An array from numbers in a text, separated by ``sep``.

    Args:
      string: the text.
      dtype: the dtype.
      count: how many numbers; -1: all.
      sep: what separates them.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fromstring("1 2 3", dtype=int, sep=" ")
      Array([1, 2, 3], dtype=int32)
    """
    return asarray(np.fromstring(string, dtype=dtype, count=count, sep=sep))


def fromiter(*args, **kwargs):
    """Not available: arrays are not made element by element."""
    raise NotImplementedError(
        "jnp.fromiter() is not implemented because it may be non-pure and thus unsafe for use with JIT and other "
        "transformations. Use jnp.asarray(np.fromiter(...)) instead."
    )


# -- filled arrays -------------------------------------------------------------------------------


def _dtype(dtype, name):
    return dtypes.default_float_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, name)


def _shape(shape, name):
    try:
        return canonical_shape(shape, name)
    except ValueError:
        raise TypeError(f"{name} shape must have every element be nonnegative, got {shape}.") from None


def zeros(shape, dtype=None, *, device=None, out_sharding=None):
    """An array of zeros.

    Args:
      shape: an int or a sequence of ints.
      dtype: the dtype; float32 (float64 with ``enable_x64``) by default.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.zeros((2, 2))
      Array([[0., 0.],
             [0., 0.]], dtype=float32)
    """
    return place(lax.full(_shape(shape, "zeros"), 0, _dtype(dtype, "zeros")), device)


def ones(shape, dtype=None, *, device=None, out_sharding=None):
    """An array of ones; arguments as in `zeros`.

    Args:
      shape: an int or a sequence of ints.
      dtype: the dtype; the default float by default.
      device, out_sharding: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ones(2)
      Array([1., 1.], dtype=float32)
    """
    return place(lax.full(_shape(shape, "ones"), 1, _dtype(dtype, "ones")), device)


def empty(shape, dtype=None, *, device=None, out_sharding=None):
    """An array of zeros (memory is never handed out uninitialised); arguments as in `zeros`.

    Args:
      shape: an int or a sequence of ints.
      dtype: the dtype; the default float by default.
      device, out_sharding: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.empty(2)
      Array([0., 0.], dtype=float32)
    """
    return zeros(shape, dtype, device=device)


def full(shape, fill_value, dtype=None, *, device=None, out_sharding=None):
    """An array filled with a value, which may be an array that broadcasts to the shape.

    Args:
      shape: an int or a sequence of ints.
      fill_value: a number or an array.
      dtype: the dtype; None: that of the value.
      device, out_sharding: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.full((2, 2), 7)
      Array([[7, 7],
             [7, 7]], dtype=int32, weak_type=True)
    """
    check_arraylike("full", fill_value)
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "full")
    shape = _shape(shape, "full")
    aval = get_aval(fill_value)
    if not aval.shape:
        return place(lax.full(shape, fill_value, target), device)
    value = asarray(fill_value, target)
    return place(spread(value, shape), device)


def _like(a, dtype, shape, name):
    if not hasattr(a, "shape") or not hasattr(a, "dtype"):
        check_arraylike(name, a)
    if dtype is not None:
        dtype = dtypes.check_user_dtype_supported(dtype, name)
    if shape is not None:
        shape = _shape(shape, name)
    return dtype, shape


def zeros_like(a, dtype=None, shape=None, *, device=None, out_sharding=None):
    """Zeros with the shape and dtype of ``a``, unless given.

    Args:
      a: an array.
      dtype, shape: in place of those of ``a``, or None.
      device, out_sharding: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.zeros_like(jnp.arange(2))
      Array([0, 0], dtype=int32)
    """
    dtype, shape = _like(a, dtype, shape, "zeros_like")
    return place(lax.full_like(a, 0, dtype, shape), device)


def ones_like(a, dtype=None, shape=None, *, device=None, out_sharding=None):
    """Ones with the shape and dtype of ``a``, unless given.

    Args:
      a: an array.
      dtype, shape: in place of those of ``a``, or None.
      device, out_sharding: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ones_like(jnp.arange(2))
      Array([1, 1], dtype=int32)
    """
    dtype, shape = _like(a, dtype, shape, "ones_like")
    return place(lax.full_like(a, 1, dtype, shape), device)


def empty_like(prototype, dtype=None, shape=None, *, device=None):
    """Zeros with the shape and dtype of ``prototype``, unless given.

    Args:
      prototype: an array.
      dtype, shape: in place of those of ``prototype``, or None.
      device: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.empty_like(jnp.arange(2))
      Array([0, 0], dtype=int32)
    """
    return zeros_like(prototype, dtype, shape, device=device)


def full_like(a, fill_value, dtype=None, shape=None, *, device=None, out_sharding=None):
    """A value repeated with the shape and dtype of ``a``, unless given.

    Args:
      a: an array.
      fill_value: a number or an array that broadcasts.
      dtype, shape: in place of those of ``a``, or None.
      device, out_sharding: a device or sharding, or None.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.full_like(jnp.zeros(2), 7)
      Array([7., 7.], dtype=float32)
    """
    dtype, shape = _like(a, dtype, shape, "full_like")
    check_arraylike("full_like", fill_value)
    if not get_aval(fill_value).shape:
        return place(lax.full_like(a, fill_value, dtype, shape), device)
    target_shape = np.shape(a) if shape is None else shape
    target = dtypes.dtype(a) if dtype is None else dtype
    return place(spread(asarray(fill_value, target), target_shape), device)


# -- questions -----------------------------------------------------------------------------------


def shape(a) -> tuple[int, ...]:
    """The shape of an array.

    Args:
      a: an array.

    Returns:
      A tuple of ints.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.shape(jnp.ones((2, 3)))
      (2, 3)
    """
    return _sizes_of("shape", a)


def ndim(a) -> int:
    """The number of axes of an array.

    Args:
      a: an array.

    Returns:
      An int.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ndim(jnp.ones((2, 3)))
      2
    """
    return len(_sizes_of("ndim", a))


def size(a, axis: int | Sequence[int] | None = None) -> int:
    """The number of elements of an array, or along axes.

    Args:
      a: an array.
      axis: the axes to count along; None: all.

    Returns:
      An int.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.size(jnp.ones((2, 3)))
      6
    """
    sizes = _sizes_of("size", a)
    if axis is None:
        return math.prod(sizes)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return math.prod(sizes[canonical_axis(i, len(sizes), "size")] for i in axes)


def _sizes_of(name: str, a) -> tuple[int, ...]:
    check_arraylike(name, a, emit_warning=True)  # sequences of numbers have a shape too, for now
    return a.shape if hasattr(a, "shape") else np.shape(a)
