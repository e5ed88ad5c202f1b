"""Ranges, grids, triangles and diagonal matrices."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes, promotion
from velax._lang.array import ArrayImpl
from velax._lang.trace import Tracer, concrete_or_error, get_aval
from velax._transforms.vectorize import vmap
from velax.lax._index_parts import broadcast_to as spread
from velax.lax._structural import canonical_shape, convert_type
from velax.numpy._arithmetic import divide, multiply, power, sign
from velax.numpy._creation import _dtype, asarray, place, zeros
from velax.numpy._float_functions import log10
from velax.numpy._joining import stack
from velax.numpy._shaping import diagonal, moveaxis
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact

__all__ = [
    "arange", "diag", "diagflat", "eye", "fromfunction", "geomspace", "identity", "indices", "linspace", "logspace",
    "meshgrid", "tri", "tril", "triu",
]  # fmt: skip


# -- ranges --------------------------------------------------------------------------------------


def arange(start, stop=None, step=None, dtype=None, *, device=None, out_sharding=None):
    """Evenly spaced values in ``[start, stop)``.

    Args:
      start: the first value; the end if ``stop`` is None.
      stop: the end, not included.
      step: the spacing.
      dtype: the dtype; by default that of the arguments.

    Returns:
      An array of one axis.

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
    if any(isinstance(v, complex) for v in values):
        raise ValueError(
            "Passing complex start/stop/step to jnp.arange is not supported: there is no order of complex numbers. "
            "Make real numbers and combine them with lax.complex."
        )
    given = [v for v in (start, stop, step) if v is not None]
    if target is None:
        target = dtypes.canonicalize_dtype(promotion.lattice_result_type(*given)[0])
        if target == np.bool_:
            target = dtypes.default_int_dtype()
    start_, stop_, step_ = values
    if stop_ is None and step_ is None:
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
        raise ValueError(f"jax.numpy.arange: arguments must be scalars; got {name}={v}")
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

    Returns:
      An array with an axis more than the arguments; with ``retstep`` a pair of it and the spacing.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linspace(0., 1., 5)
      Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    num = operator.index(concrete_or_error(None, num, "'num' argument of jnp.linspace"))
    check_arraylike("linspace", start, stop)
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "linspace")
    result = _linspace(
        start, stop, num=num, endpoint=bool(endpoint), retstep=bool(retstep), dtype=target, axis=operator.index(axis)
    )
    return (place(result[0], device), result[1]) if retstep else place(result, device)


@compiled(static=("num", "endpoint", "retstep", "dtype", "axis"))
def _linspace(start, stop, *, num, endpoint, retstep, dtype, axis):
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    dtype = dtypes.to_inexact_dtype(promotion.lattice_result_type(start, stop)[0]) if dtype is None else dtype
    computation = dtypes.to_inexact_dtype(dtype)
    start, stop = (convert_type(v, computation, False) for v in (start, stop))
    shape = np.broadcast_shapes(get_aval(start).shape, get_aval(stop).shape)
    start, stop = spread(start, shape), spread(stop, shape)
    divisions = num - 1 if endpoint else num
    row = lambda v: lax.reshape(v, (1, *shape))
    if num > 1:
        real = dtypes.real_dtype(computation)
        t = lax.reshape(lax.iota(real, divisions), (divisions,) + (1,) * len(shape))
        t = convert_type(lax.div(t, real.type(divisions)), computation)
        out = lax.add(lax.mul(row(start), lax.sub(computation.type(1), t)), lax.mul(row(stop), t))
        if endpoint:
            out = lax.concatenate([out, row(stop)], 0)
    else:
        out = row(start) if num else lax.full((0, *shape), 0, computation)
    out = moveaxis(out, 0, axis)
    if dtypes.is_integer(dtype):
        out = lax.floor(out)
    out = convert_type(out, dtype, False)
    if not retstep:
        return out
    if divisions <= 0:  # no two points
        return out, lax.full((), math.nan, computation)
    return out, lax.div(lax.sub(stop, start), computation.type(divisions))


def logspace(start, stop, num: int = 50, endpoint: bool = True, base=10.0, dtype=None, axis: int = 0):
    """Values evenly spaced on a logarithmic scale, from ``base**start`` to ``base**stop``.

    Args:
      start, stop: the first and the last exponent: numbers or arrays that broadcast.
      num: how many values.
      endpoint: whether ``stop`` is the last exponent.
      base: the base.
      dtype: the dtype; None: that of the arguments.
      axis: where the new axis goes.

    Returns:
      An array with an axis more than the arguments.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.logspace(0., 2., 3, base=2.)
      Array([1., 2., 4.], dtype=float32)
    """
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "logspace")
    computation = None if target is None else dtypes.to_inexact_dtype(target)
    exponents = linspace(start, stop, num, endpoint, dtype=computation, axis=axis)
    out = power(asarray(base, get_aval(exponents).dtype), exponents)
    return out if target is None else convert_type(out, target, False)


def geomspace(start, stop, num: int = 50, endpoint: bool = True, dtype=None, axis: int = 0):
    """Values in geometric progression from ``start`` to ``stop``.

    Args:
      start, stop: the first and the last value: numbers or arrays that broadcast.
      num: how many values.
      endpoint: whether ``stop`` is the last value.
      dtype: the dtype; None: that of the arguments.
      axis: where the new axis goes.

    Returns:
      An array with an axis more than the arguments.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.geomspace(1., 8., 4).round(3)
      Array([1., 2., 4., 8.], dtype=float32)
    """
    target = None if dtype is None else dtypes.check_user_dtype_supported(dtype, "geomspace")
    start, stop = promote_dtypes_inexact(start, stop)
    if target is not None:
        start, stop = (convert_type(v, dtypes.to_inexact_dtype(target), False) for v in (start, stop))
    phase = sign(start)
    values = logspace(log10(divide(start, phase)), log10(divide(stop, phase)), num, endpoint, 10.0, None, 0)
    out = moveaxis(multiply(values, phase), 0, axis)
    return out if target is None else convert_type(out, target, False)


# -- grids and triangles -------------------------------------------------------------------------


def eye(N: int, M: int | None = None, k: int = 0, dtype=None, *, device=None):
    """A matrix with ones on a diagonal.

    Args:
      N: rows.
      M: columns; ``N`` by default.
      k: which diagonal, counted upward.
      dtype: the dtype.

    Returns:
      An array of shape ``(N, M)``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.eye(2, 3)
      Array([[1., 0., 0.],
             [0., 1., 0.]], dtype=float32)
    """
    if any(isinstance(size, (int, np.integer)) and size < 0 for size in (N, M)):
        raise ValueError(f"negative dimensions are not allowed, got {N} and {M}")
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
    """The identity matrix of size ``n``.

    Args:
      n: the number of rows and columns.
      dtype: the dtype; the default float by default.

    Returns:
      An array of shape ``(n, n)``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.identity(2)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype=None):
    """A matrix with ones at and below a diagonal.

    Args:
      N, M: the numbers of rows and columns; M by default as N.
      k: the diagonal; positive ones are above the main one.
      dtype: the dtype; the default float by default.

    Returns:
      An array of shape ``(N, M)``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.tri(2, 3)
      Array([[1., 0., 0.],
             [1., 1., 0.]], dtype=float32)
    """
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
    """The lower triangle of matrices, zeros above diagonal ``k``.

    Args:
      m: an array; the last two axes are the matrices.
      k: the diagonal; positive ones are above the main one.

    Returns:
      An array of the shape and dtype of ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.tril(jnp.ones((2, 2)))
      Array([[1., 0.],
             [1., 1.]], dtype=float32)
    """
    check_arraylike("tril", m)
    return _triangle("tril", m, k, True)


@compiled(static=("k",))
def triu(m, k: int = 0):
    """The upper triangle of matrices, zeros below diagonal ``k``.

    Args:
      m: an array; the last two axes are the matrices.
      k: the diagonal; positive ones are above the main one.

    Returns:
      An array of the shape and dtype of ``m``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.triu(jnp.ones((2, 2)))
      Array([[1., 1.],
             [0., 1.]], dtype=float32)
    """
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

    Returns:
      An array with one axis less, or one more.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.diag(jnp.array([[1, 2], [3, 4]]))
      Array([1, 4], dtype=int32)
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
        return diagonal(v, offset=k)
    raise ValueError(f"diag input must be 1d or 2d, got shape {shape}")


@compiled(static=("k",))
def diagflat(v, k: int = 0):
    """A matrix with the elements of ``v`` on a diagonal.

    Args:
      v: an array, which is flattened.
      k: which diagonal; positive ones are above the main one.

    Returns:
      A square matrix.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.diagflat(jnp.array([1, 2]))
      Array([[1, 0],
             [0, 2]], dtype=int32)
    """
    check_arraylike("diagflat", v)
    return diag(lax.reshape(v, (math.prod(get_aval(v).shape),)), k)


def meshgrid(*xi, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list:
    """Coordinate arrays from coordinate vectors.

    Args:
      *xi: vectors.
      copy: must be True.
      sparse: whether to leave the other axes at size 1.
      indexing: "xy" (the first two axes swapped, as for images) or "ij".

    Returns:
      A list of arrays, one for each vector.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.meshgrid(jnp.array([1, 2]), jnp.array([3, 4]))
      [Array([[1, 2],
             [1, 2]], dtype=int32), Array([[3, 3],
             [4, 4]], dtype=int32)]
    """
    check_arraylike("meshgrid", *xi)
    if not copy:
        raise ValueError("jax.numpy.meshgrid only supports copy=True")
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Valid values for indexing are 'xy' and 'ij', got {indexing}")
    arrays = [asarray(x) for x in xi]
    for a in arrays:
        if get_aval(a).ndim != 1:
            shapes = [get_aval(x).shape for x in arrays]
            raise ValueError(f"Arguments to jax.numpy.meshgrid must be 1D, got shapes {shapes}")
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
    """The indices of a grid: for each axis an array over the grid.

    Args:
      dimensions: the size along each axis.
      dtype: the dtype; the default integer by default.
      sparse: whether each array has size 1 along the other axes.

    Returns:
      An array with a leading axis for the axes of the grid; if ``sparse``, a tuple of arrays.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.indices((2, 2))[1]
      Array([[0, 1],
             [0, 1]], dtype=int32)
    """
    dtype = dtypes.default_int_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "indices")
    dimensions = canonical_shape(dimensions, "indices")
    n = len(dimensions)
    grids = []
    for i, size_ in enumerate(dimensions):
        target = tuple(size_ if i == j else 1 for j in range(n)) if sparse else dimensions
        grids.append(lax.broadcast_in_dim(lax.iota(dtype, size_), target, (i,)))
    if sparse:
        return tuple(grids)
    return stack(grids) if grids else zeros((0,), dtype)


def fromfunction(function: Callable, shape, *, dtype=float, **kwargs):
    """The array of ``function(i, j, ...)`` over the indices of ``shape``; the function is vectorized with `vmap`.

    Args:
      function: a function of as many numbers as there are axes.
      shape: a sequence of ints.
      dtype: the dtype of the indices.
      **kwargs: passed on to the function.

    Returns:
      The array, or what pytree of arrays the function returns.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.fromfunction(lambda i, j: 10 * i + j, (2, 3), dtype=int)
      Array([[ 0,  1,  2],
             [10, 11, 12]], dtype=int32)
    """
    shape = canonical_shape(shape, "fromfunction")
    for i in range(len(shape)):
        in_axes = [0 if i == j else None for j in range(len(shape))]
        function = vmap(function, in_axes=tuple(reversed(in_axes)))
    return function(*(arange(n, dtype=dtype) for n in shape), **kwargs)
