"""Making arrays."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from velax import _native, lax
from velax._lang import dtypes, promotion
from velax._lang.array import Array, ArrayImpl
from velax._lang.trace import Tracer, concrete_or_error, get_aval
from velax.lax._index_parts import broadcast_to as spread
from velax.lax._structural import canonical_axis, canonical_shape, convert_type, copy_p
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact
from velax.tree_util import tree_leaves, tree_map

__all__ = [
    "arange",
    "array",
    "array_copy",
    "asarray",
    "astype",
    "copy",
    "diag",
    "diagflat",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "frombuffer",
    "fromfunction",
    "fromiter",
    "fromstring",
    "full",
    "full_like",
    "geomspace",
    "identity",
    "indices",
    "linspace",
    "logspace",
    "meshgrid",
    "ndim",
    "ones",
    "ones_like",
    "shape",
    "size",
    "tri",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]  # fmt: skip


def place(x, device):
    """``x`` on ``device``: there is one, so this only checks."""
    if device is None:
        return x
    from velax._backends.cpu.placement import device_put

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
    if isinstance(x, (range, builtins.map, filter, zip)) or (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        return _from_sequence(list(x), dtype)
    raise TypeError(f"Unexpected input type for array: {kind}")


def _from_scalar(x, dtype):
    if dtype is None:
        found = dtypes.dtype_of_python_scalar(type(x))
        if type(x) is int and not np.iinfo(found).min <= x <= np.iinfo(found).max:
            raise OverflowError(f"Python int {x} too large to convert to {found.name}")
        return _constant(x, found, type(x) is not bool)
    if dtypes.is_extended(dtype):
        raise TypeError(f"cannot make an array of dtype {dtype} from a number; use random.key")
    return _constant(x, dtype, False)


def _constant(x, dtype, weak):
    """A number as an array; while tracing it is a constant of the program."""
    if type(x) is complex and not dtypes.is_complex(dtype):
        raise TypeError(f"cannot convert the complex number {x} to {dtype}")
    if type(x) is int and dtypes.is_integer(dtype):
        info = dtypes.iinfo(dtype)
        if not info.min <= x <= info.max:
            raise OverflowError(f"Python integer {x} out of bounds for {dtype.name}")
    if type(x) is float and dtypes.is_integer(dtype):
        x = int(x) if math.isfinite(x) else 0
    return _native.array_from_scalar(x, dtype, weak)


def _from_array(x, dtype, copy):
    aval = get_aval(x)
    if dtype is not None and (dtype != aval.dtype or aval.weak_type):
        return convert_type(x, dtype, False)
    if not copy:
        return x
    return _native.array_copy(x) if isinstance(x, ArrayImpl) and _native.get_trace() is None else copy_p.bind(x)


def _from_numpy(x, dtype, copy):
    if x.dtype.kind in "OUSMm" or (x.dtype.kind == "V" and x.dtype not in dtypes.all_dtypes):
        if x.dtype.kind == "O" and any(e is None for e in x.flat):
            raise ValueError("None is not a valid value for jnp.array")
        raise TypeError(
            f"Value {x!r} with dtype {x.dtype} is not a valid JAX array type. Only arrays of numeric types are "
            "supported by JAX."
        )
    if type(x) is not np.ndarray:
        get_aval(x)  # refuses masked arrays
    target = dtypes.canonicalize_dtype(x.dtype) if dtype is None else dtype
    if target != x.dtype:
        if (
            x.dtype.kind == "i"
            and target.kind == "i"
            and x.size
            and target.itemsize < x.dtype.itemsize
            and dtype is None
        ):
            return _native.array_from_numpy(x.astype(target), False)
        x = _numpy_convert(x, target)
    return _native.array_from_numpy(np.asarray(x, order="C"), False, True if copy else None)


def _numpy_convert(x, target):
    """NumPy's conversion, with floats to integers saturating as arrays convert everywhere."""
    if dtypes.is_integer(target) and dtypes.is_inexact(x.dtype):
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
        xs = tree_map(
            lambda v: np.asarray(v) if isinstance(v, ArrayImpl) else v,
            xs,
            is_leaf=lambda v: not isinstance(v, (list, tuple)),
        )
    if any(type(v) is int for v in leaves) and dtypes.is_integer(dtype):
        info = dtypes.iinfo(dtype)
        for v in leaves:
            if type(v) is int and not info.min <= v <= info.max:
                raise OverflowError(f"Python integer {v} out of bounds for {dtype.name}")
    plain = np.asarray(xs)
    if plain.dtype == object:
        raise TypeError(f"Unexpected input type for array: {type(leaves[0])}; expected numbers in nested sequences")
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
      copy: True to copy, False to raise where a copy is needed.
    """
    if isinstance(a, (ArrayImpl, Tracer)) and dtype is None and not copy and device is None:
        return a
    if copy is False and isinstance(a, np.ndarray) and a.flags.writeable:
        raise ValueError(
            "jnp.asarray with copy=False cannot share the memory of a writable NumPy array, as arrays are immutable; "
            "use copy=None"
        )
    return array(a, dtype, copy=bool(copy), order=order or "K", device=device, out_sharding=out_sharding)


def copy(a, order: str | None = None):
    """A copy of an array."""
    check_arraylike("copy", a)
    return array(a, copy=True, order=order or "K")


array_copy = copy


def astype(x, dtype, /, *, copy: bool = False, device=None):
    """Convert to a dtype.

    Args:
      x: an array.
      dtype: the dtype; None: the default float.
      copy: whether to copy if the dtype is already right.
      device: a device, or None.

    Returns:
      The converted array; complex numbers lose their imaginary part with a warning; floats become booleans by ``!= 0``.
    """
    check_arraylike("astype", x)
    target = dtypes.default_float_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "astype")
    aval = get_aval(x)
    if dtypes.is_extended(aval.dtype) or dtypes.is_extended(target):
        if aval.dtype == target:
            return x
        raise TypeError(f"astype: cannot convert {aval.dtype} to {target}; use random.key_data")
    if dtypes.is_complex(aval.dtype) and not dtypes.is_complex(target) and target != np.bool_:
        import warnings

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
    """
    return place(_native.from_dlpack(x, copy=copy), device)


def frombuffer(buffer, dtype=float, count: int = -1, offset: int = 0):
    """An array from the bytes of a buffer."""
    return asarray(np.frombuffer(buffer, dtype=dtype, count=count, offset=offset))


def fromstring(string: str, dtype=float, count: int = -1, *, sep: str):
    """An array from numbers in a text, separated by ``sep``."""
    return asarray(np.fromstring(string, dtype=dtype, count=count, sep=sep))


def fromiter(*args, **kwargs):
    """Not available: arrays are not made element by element."""
    raise NotImplementedError(
        "jnp.fromiter() is not implemented because it may be non-pure and thus unsafe for use with JIT and other "
        "transformations. Use jnp.asarray(np.fromiter(...)) instead."
    )


def fromfunction(function: Callable, shape, *, dtype=float, **kwargs):
    """The array of ``function(i, j, ...)`` over the indices of ``shape``; the function is vectorized with `vmap`."""
    from velax._transforms.vectorize import vmap

    shape = canonical_shape(shape, "fromfunction")
    for i in range(len(shape)):
        in_axes = [0 if i == j else None for j in range(len(shape))]
        function = vmap(function, in_axes=tuple(reversed(in_axes)))
    return function(*(arange(n, dtype=dtype) for n in shape), **kwargs)


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

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.zeros((2, 2))
      Array([[0., 0.],
             [0., 0.]], dtype=float32)
    """
    return place(lax.full(_shape(shape, "zeros"), 0, _dtype(dtype, "zeros")), device)


def ones(shape, dtype=None, *, device=None, out_sharding=None):
    """An array of ones; arguments as in `zeros`."""
    return place(lax.full(_shape(shape, "ones"), 1, _dtype(dtype, "ones")), device)


def empty(shape, dtype=None, *, device=None, out_sharding=None):
    """An array of zeros (memory is never handed out uninitialised); arguments as in `zeros`."""
    return zeros(shape, dtype, device=device)


def full(shape, fill_value, dtype=None, *, device=None, out_sharding=None):
    """An array filled with a value, which may be an array that broadcasts to the shape."""
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
    """Zeros with the shape and dtype of ``a``, unless given."""
    dtype, shape = _like(a, dtype, shape, "zeros_like")
    return place(lax.full_like(a, 0, dtype, shape), device)


def ones_like(a, dtype=None, shape=None, *, device=None, out_sharding=None):
    """Ones with the shape and dtype of ``a``, unless given."""
    dtype, shape = _like(a, dtype, shape, "ones_like")
    return place(lax.full_like(a, 1, dtype, shape), device)


def empty_like(prototype, dtype=None, shape=None, *, device=None, out_sharding=None):
    """Zeros with the shape and dtype of ``prototype``, unless given."""
    return zeros_like(prototype, dtype, shape, device=device)


def full_like(a, fill_value, dtype=None, shape=None, *, device=None, out_sharding=None):
    """A value repeated with the shape and dtype of ``a``, unless given."""
    dtype, shape = _like(a, dtype, shape, "full_like")
    check_arraylike("full_like", fill_value)
    if not get_aval(fill_value).shape:
        return place(lax.full_like(a, fill_value, dtype, shape), device)
    target_shape = np.shape(a) if shape is None else shape
    target = dtypes.dtype(a) if dtype is None else dtype
    return place(spread(asarray(fill_value, target), target_shape), device)


# -- ranges --------------------------------------------------------------------------------------


def arange(start, stop=None, step=None, dtype=None, *, device=None, out_sharding=None):
    """Evenly spaced values in ``[start, stop)``.

    Args:
      start: the first value; the end if ``stop`` is None.
      stop: the end, not included.
      step: the spacing.
      dtype: the dtype; by default that of the arguments.

    Raises:
      ConcretizationTypeError: for traced arguments, as the size must be known.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.arange(2, 8, 2)
      Array([2, 4, 6], dtype=int32)
    """
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "arange")
    named = [("start" if stop is not None else "stop", start), ("stop", stop), ("step", step)]
    values = [None if v is None else _concrete_number(v, n) for n, v in named]
    given = [v for v in (start, stop, step) if v is not None]
    if target is None:
        target = dtypes.canonicalize_dtype(promotion.lattice_result_type(*given)[0])
        if target == np.bool_:
            target = dtypes.default_int_dtype()
    start_, stop_, step_ = values
    if stop_ is None and step_ is None and not isinstance(start_, complex):
        n = max(0, math.ceil(start_))
        return place(lax.iota(target, n), device)
    if stop_ is None:
        start_, stop_ = 0, start_
    step_ = 1 if step_ is None else step_
    if step_ == 0:
        raise ZeroDivisionError("arange: step must not be zero")
    if dtypes.is_integer(target) and step_ == 1 and all(isinstance(v, int) for v in (start_, stop_)):
        n = max(0, stop_ - start_)
        out = lax.iota(target, n)
        return place(lax.add(out, target.type(start_)) if start_ else out, device)
    return asarray(np.arange(start_, stop_, step_, dtype=target), device=device)


def _concrete_number(v, name):
    v = concrete_or_error(None, v, f"It arose in the jnp.arange argument '{name}'")
    if hasattr(v, "shape") and v.shape != ():
        raise TypeError(f"arange: argument '{name}' must be a scalar, got an array of shape {v.shape}")
    return v.item() if hasattr(v, "item") else v


def linspace(
    start, stop, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype=None, axis: int = 0, *, device=None
):
    """Evenly spaced values over an interval.

    Args:
      start, stop: the ends, arrays allowed.
      num: how many values.
      endpoint: whether ``stop`` is among them.
      retstep: whether to return the spacing too.
      dtype: the dtype.
      axis: where the new axis goes.
    """
    num = operator.index(concrete_or_error(None, num, "'num' argument of jnp.linspace"))
    check_arraylike("linspace", start, stop)
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "linspace")
    result = _linspace(
        start, stop, num=num, endpoint=bool(endpoint), retstep=bool(retstep), dtype=target, axis=operator.index(axis)
    )
    return (place(result[0], device), result[1]) if retstep else place(result, device)


def _linspace_impl(start, stop, *, num, endpoint, retstep, dtype, axis):
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    computation, _ = promotion.lattice_result_type(start, stop)
    computation = dtypes.to_inexact_dtype(computation)
    dtype = computation if dtype is None else dtype
    if dtypes.is_integer(dtype) and dtypes.itemsize_bits(computation) < 32:
        computation = np.dtype("float32")
    start, stop = (convert_type(v, computation, False) for v in (start, stop))
    shape = np.broadcast_shapes(get_aval(start).shape, get_aval(stop).shape)
    start, stop = spread(start, shape), spread(stop, shape)
    divisions = num - 1 if endpoint else num
    delta = lax.full(shape, math.nan, computation)
    steps = lambda v: lax.reshape(v, (1, *shape))
    if num > 1:
        delta = lax.div(lax.sub(stop, start), computation.type(divisions))
        t = lax.reshape(
            lax.iota(dtypes.real_dtype(computation), num if not endpoint else divisions),
            (num if not endpoint else divisions,) + (1,) * len(shape),
        )
        t = lax.div(t, dtypes.real_dtype(computation).type(divisions))
        t = convert_type(t, computation)
        out = lax.add(lax.mul(steps(start), lax.sub(computation.type(1), t)), lax.mul(steps(stop), t))
        if endpoint:
            out = lax.concatenate([out, lax.broadcast_in_dim(stop, (1, *shape), range(1, len(shape) + 1))], 0)
    elif num == 1:
        delta = lax.full(shape, math.nan, computation) if endpoint else lax.sub(stop, start)
        out = steps(start)
    else:
        out = lax.full((0, *shape), 0, computation)
    axis = canonical_axis(axis, len(shape) + 1, "linspace")
    if axis:
        order = list(range(1, len(shape) + 1))
        order.insert(axis, 0)
        out = lax.transpose(out, order)
    if dtypes.is_integer(dtype) and not dtypes.is_integer(computation):
        out = lax.floor(out)
    out = convert_type(out, dtype, False)
    return (out, delta) if retstep else out


_linspace_impl.__name__ = "_linspace"
_linspace = compiled(_linspace_impl, static=("num", "endpoint", "retstep", "dtype", "axis"))


def logspace(start, stop, num: int = 50, endpoint: bool = True, base=10.0, dtype=None, axis: int = 0):
    """Values evenly spaced on a logarithmic scale, from ``base**start`` to ``base**stop``."""
    from velax.numpy._arithmetic import power

    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "logspace")
    exponents = linspace(start, stop, num, endpoint, dtype=None, axis=axis)
    out = power(asarray(base, get_aval(exponents).dtype), exponents)
    return out if target is None else convert_type(out, target, False)


def geomspace(start, stop, num: int = 50, endpoint: bool = True, dtype=None, axis: int = 0):
    """Values in geometric progression from ``start`` to ``stop``."""
    from velax.numpy._arithmetic import multiply, sign
    from velax.numpy._float_functions import log10

    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "geomspace")
    start, stop = promote_dtypes_inexact(start, stop)
    signs = lax.div(lax.add(sign(start), sign(stop)), get_aval(start).dtype.type(2))
    values = logspace(log10(multiply(start, signs)), log10(multiply(stop, signs)), num, endpoint, 10.0, None, 0)
    out = multiply(values, signs)
    n = get_aval(out).ndim
    axis = canonical_axis(axis, n, "geomspace")
    if axis:
        order = list(range(1, n))
        order.insert(axis, 0)
        out = lax.transpose(out, order)
    return out if target is None else convert_type(out, target, False)


# -- grids and triangles -------------------------------------------------------------------------


def eye(N: int, M: int | None = None, k: int = 0, dtype=None, *, device=None):
    """A matrix with ones on a diagonal.

    Args:
      N: rows.
      M: columns; ``N`` by default.
      k: which diagonal, counted upward.
      dtype: the dtype.
    """
    n = canonical_shape((N,), "eye")[0]
    m = n if M is None else canonical_shape((M,), "eye")[0]
    if not isinstance(k, (Tracer, ArrayImpl)):
        k = np.int32(operator.index(k))
    rows, columns = lax.broadcasted_iota("int32", (n, m), 0), lax.broadcasted_iota("int32", (n, m), 1)
    return place(
        convert_type(lax.eq(lax.add(rows, convert_type(k, np.dtype("int32"))), columns), _dtype(dtype, "eye"), False),
        device,
    )


def identity(n: int, dtype=None):
    """The identity matrix of size ``n``."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype=None):
    """A matrix with ones at and below a diagonal."""
    n = canonical_shape((N,), "tri")[0]
    m = n if M is None else canonical_shape((M,), "tri")[0]
    return convert_type(
        _lower_mask(n, m, k),
        np.dtype("float32") if dtype is None else dtypes.check_user_dtype_supported(dtype, "tri"),
        False,
    )


def _lower_mask(n, m, k):
    rows, columns = lax.broadcasted_iota("int32", (n, m), 0), lax.broadcasted_iota("int32", (n, m), 1)
    return lax.ge(lax.add(rows, np.int32(operator.index(k))), columns)


@compiled(static=("k",))
def tril(m, k: int = 0):
    """The lower triangle of matrices, zeros above diagonal ``k``."""
    check_arraylike("tril", m)
    return _triangle("tril", m, k, True)


@compiled(static=("k",))
def triu(m, k: int = 0):
    """The upper triangle of matrices, zeros below diagonal ``k``."""
    check_arraylike("triu", m)
    return _triangle("triu", m, k - 1, False)


def _triangle(name, m, k, lower):
    shape = get_aval(m).shape
    if len(shape) < 2:
        raise ValueError(f"Argument to jax.numpy.{name} must be at least 2D, got shape {shape}")
    mask = lax.broadcast_in_dim(_lower_mask(*shape[-2:], k), shape, (len(shape) - 2, len(shape) - 1))
    zero = lax.full_like(m, 0, shape=shape)
    return lax.select(mask, m, zero) if lower else lax.select(mask, zero, m)


@compiled(static=("k",))
def diag(v, k: int = 0):
    """A diagonal of a matrix, or the matrix with a given diagonal.

    Args:
      v: a vector or a matrix.
      k: which diagonal, counted upward.
    """
    check_arraylike("diag", v)
    shape = get_aval(v).shape
    if len(shape) == 1:
        n = shape[0] + builtins.abs(k)
        padded = lax.pad(v, get_aval(v).dtype.type(0), [(max(0, k), max(0, -k), 0)])
        on = eye(n, k=k, dtype=bool)
        column = lax.broadcast_in_dim(padded, (n, n), (1,))
        return lax.select(on, column, lax.full_like(column, 0))
    if len(shape) == 2:
        from velax.numpy._shaping import diagonal

        return diagonal(v, offset=k)
    raise ValueError(f"diag input must be 1d or 2d, got shape {shape}")


@compiled(static=("k",))
def diagflat(v, k: int = 0):
    """A matrix with the elements of ``v`` on a diagonal."""
    check_arraylike("diagflat", v)
    return diag(lax.reshape(v, (math.prod(get_aval(v).shape),)), k)


def meshgrid(*xi, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list:
    """Coordinate arrays from coordinate vectors.

    Args:
      *xi: vectors.
      copy: must be True.
      sparse: whether to leave the other axes at size 1.
      indexing: "xy" (the first two axes swapped, as for images) or "ij".
    """
    check_arraylike("meshgrid", *xi)
    if not copy:
        raise ValueError("jax.numpy.meshgrid only supports copy=True")
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Valid values for indexing are 'xy' and 'ij', got {indexing}")
    arrays = [asarray(x) for x in xi]
    for a in arrays:
        if get_aval(a).ndim > 1:
            raise ValueError(f"Arguments to jax.numpy.meshgrid must be 1D, got shape {get_aval(a).shape}")
    arrays = [lax.reshape(a, (1,)) if not get_aval(a).ndim else a for a in arrays]
    if indexing == "xy" and len(arrays) >= 2:
        arrays[0], arrays[1] = arrays[1], arrays[0]
    sizes = [get_aval(a).shape[0] for a in arrays]
    out = []
    for i, a in enumerate(arrays):
        target = [n if not sparse or i == j else 1 for j, n in enumerate(sizes)]
        out.append(lax.broadcast_in_dim(a, target, (i,)))
    if indexing == "xy" and len(arrays) >= 2:
        out[0], out[1] = out[1], out[0]
    return out


def indices(dimensions: Sequence[int], dtype=None, sparse: bool = False):
    """The indices of a grid: for each axis an array over the grid."""
    dtype = dtypes.default_int_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "indices")
    dimensions = canonical_shape(dimensions, "indices")
    n = len(dimensions)
    grids = []
    for i, size_ in enumerate(dimensions):
        target = tuple(size_ if i == j else 1 for j in range(n)) if sparse else dimensions
        grids.append(lax.broadcast_in_dim(lax.iota(dtype, size_), target, (i,)))
    if sparse:
        return tuple(grids)
    return (
        lax.concatenate([lax.broadcast_in_dim(g, (1, *dimensions), range(1, n + 1)) for g in grids], 0)
        if grids
        else zeros((0,), dtype)
    )


# -- questions -----------------------------------------------------------------------------------


def shape(a) -> tuple[int, ...]:
    """The shape of an array."""
    check_arraylike("shape", a)
    return get_aval(a).shape


def ndim(a) -> int:
    """The number of axes of an array."""
    check_arraylike("ndim", a)
    return get_aval(a).ndim


def size(a, axis: int | Sequence[int] | None = None) -> int:
    """The number of elements of an array, or along axes."""
    check_arraylike("size", a)
    aval = get_aval(a)
    if axis is None:
        return math.prod(aval.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return math.prod(aval.shape[canonical_axis(i, aval.ndim, "size")] for i in axes)
