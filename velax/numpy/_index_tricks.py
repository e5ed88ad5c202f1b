"""Arithmetic on indices, index arrays of diagonals and triangles, and the objects that are
indexed to make arrays (``r_``, ``mgrid``, ``s_``, ...).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._index_parts import broadcast_to
from velax.lax._structural import convert_type
from velax.numpy._creation import asarray
from velax.numpy._indexing import count_from_end, modulo, nonzero
from velax.numpy._joining import concatenate, stack
from velax.numpy._ranges import arange, linspace, meshgrid
from velax.numpy._shaping import expand_dims
from velax.numpy._util import check_arraylike, common_shape, compiled, promote_dtypes, to_array

__all__ = [
    "c_", "diag_indices", "diag_indices_from", "index_exp", "ix_", "mask_indices", "mgrid", "ogrid", "r_",
    "ravel_multi_index", "s_", "tril_indices",
    "tril_indices_from", "triu_indices", "triu_indices_from", "unravel_index",
]  # fmt: skip


# -- index arithmetic ----------------------------------------------------------------------------


def unravel_index(indices, shape) -> tuple:
    """The indices along each axis of flat positions.

    Args:
      indices: integers, flat positions in an array of ``shape``; negative ones count from the end, others are clipped.
      shape: the shape.

    Returns:
      A tuple of arrays of integers, one for each axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.unravel_index(jnp.array([5, 1]), (2, 3))
      (Array([1, 0], dtype=int32), Array([2, 1], dtype=int32))
    """
    check_arraylike("unravel_index", indices)
    indices = to_array(indices)
    aval = get_aval(indices)
    if not dtypes.is_integer(aval.dtype):
        raise TypeError(f"unravel_index requires integer indices, got dtype {aval.dtype}")
    shape = tuple(operator.index(n) for n in ((shape,) if isinstance(shape, (int, np.integer)) else shape))
    if any(n < 0 for n in shape):
        raise ValueError(f"unravel_index: shape must not be negative, got {shape}")
    return tuple(convert_type(i, None, aval.weak_type) for i in _unravel_index(indices, shape))


@compiled(static=("shape",))
def _unravel_index(indices, shape):
    total = math.prod(shape)
    dtype = get_aval(indices).dtype
    if total > dtypes.iinfo(dtype).max:
        indices, dtype = convert_type(indices, np.dtype(np.int32), False), np.dtype(np.int32)
    if not total:
        return [lax.full_like(indices, 0) for _ in shape]
    flat = count_from_end(indices, total)
    flat = lax.clamp(dtype.type(0), flat, dtype.type(total - 1))
    out, stride = [], total
    for n in shape:
        stride //= n
        out.append(lax.rem(lax.div(flat, dtype.type(stride)), dtype.type(n)))
    return out


def ravel_multi_index(multi_index: Sequence, dims: Sequence[int], mode: str = "raise", order: str = "C", *, dtype=None):
    """The flat positions of indices along each axis.

    Args:
      multi_index: for each axis an array of integers.
      dims: the shape.
      mode: for indices outside: "raise" (only outside of `jit`), "wrap" or "clip".
      order: "C" (the last axis fastest) or "F".
      dtype: of the result.

    Returns:
      An array of integers.

    Raises:
      ValueError: in mode "raise", if an index is outside.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ravel_multi_index((jnp.array([1, 0]), jnp.array([2, 1])), (2, 3))
      Array([5, 1], dtype=int32)
    """
    if len(multi_index) != len(dims):
        raise ValueError(f"len(multi_index)={len(multi_index)} != len(dims)={len(dims)}")
    dims = tuple(operator.index(d) for d in dims)
    if math.prod(dims) > dtypes.iinfo(dtypes.default_int_dtype()).max:
        raise ValueError("invalid dims: array size defined by dims is larger than the maximum possible size")
    if order not in ("C", "F"):
        raise ValueError(f"invalid order={order!r}. Expected 'C' or 'F'")
    check_arraylike("ravel_multi_index", *multi_index)
    indices = [to_array(i) for i in multi_index]
    for i in indices:
        if not dtypes.is_integer(get_aval(i).dtype):
            raise ValueError(f"dtype={get_aval(i).dtype!r} is not an integer type; ravel_multi_index takes integers.")
    if mode == "raise":
        for i, d in zip(indices, dims, strict=True):
            concrete = concrete_or_error(
                np.asarray, i,
                "The error occurred because ravel_multi_index was jit-compiled with mode='raise'. Use mode='wrap' or "
                "mode='clip' instead.",
            )  # fmt: skip
            if ((concrete < 0) | (concrete >= d)).any():
                raise ValueError("invalid entry in coordinates array")
    elif mode == "clip":
        indices = [
            lax.clamp(get_aval(i).dtype.type(0), i, get_aval(i).dtype.type(d - 1))
            for i, d in zip(indices, dims, strict=True)
        ]
    elif mode == "wrap":
        indices = [modulo(i, d) for i, d in zip(indices, dims, strict=True)]
    else:
        raise ValueError(f"invalid mode={mode!r}. Expected 'raise', 'wrap', or 'clip'")
    target = (
        dtypes.default_int_dtype() if dtype is None else dtypes.check_user_dtype_supported(dtype, "ravel_multi_index")
    )
    shape = common_shape("ravel_multi_index", [get_aval(i).shape for i in indices])
    strides = [math.prod(dims[k + 1 :]) if order == "C" else math.prod(dims[:k]) for k in range(len(dims))]
    result = lax.full(shape, 0, target)
    for i, s in zip(indices, strides, strict=True):
        result = lax.add(result, lax.mul(broadcast_to(convert_type(i, target, False), shape), target.type(s)))
    return result


def ix_(*args) -> tuple:
    """Vectors of indices as arrays whose combination indexes a grid: ``x[ix_([0, 2], [1, 3])]``
    takes rows 0, 2 of columns 1, 3.

    Args:
      *args: arrays of one axis, of integers or booleans.

    Returns:
      A tuple of arrays of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ones((3, 4))[jnp.ix_(jnp.array([0, 2]), jnp.array([1, 3]))].shape
      (2, 2)
    """
    check_arraylike("ix_", *(np.asarray(a) if isinstance(a, (list, tuple)) else a for a in args))
    out = []
    for i, a in enumerate(args):
        a = asarray(a)
        aval = get_aval(a)
        if aval.ndim != 1:
            raise ValueError(f"Arguments to jax.numpy.ix_ must be 1-dimensional, got shape {aval.shape}")
        if aval.dtype == np.bool_:
            raise NotImplementedError("Boolean arguments to jax.numpy.ix_ are not implemented")
        if not aval.size:
            a = convert_type(a, dtypes.default_int_dtype(), False)
        out.append(lax.broadcast_in_dim(a, tuple(aval.shape[0] if j == i else 1 for j in range(len(args))), (i,)))
    return tuple(out)


def diag_indices(n: int, ndim: int = 2) -> tuple:
    """The indices of the diagonal of an array with ``ndim`` axes of size ``n``.

    Args:
      n: the size of the axes.
      ndim: the number of axes.

    Returns:
      A tuple of arrays of integers, one for each axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.diag_indices(2)
      (Array([0, 1], dtype=int32), Array([0, 1], dtype=int32))
    """
    n = concrete_or_error(operator.index, n, "'n' argument of jnp.diag_indices()")
    ndim = concrete_or_error(operator.index, ndim, "'ndim' argument of jnp.diag_indices()")
    for name, value in (("n", n), ("ndim", ndim)):
        if value < 0:
            raise ValueError(f"{name} argument to diag_indices must be nonnegative, got {value}")
    return (lax.iota(dtypes.default_int_dtype(), n),) * ndim


def diag_indices_from(arr) -> tuple:
    """The indices of the diagonal of an array whose axes are equal.

    Args:
      arr: an array with all axes equal, at least two.

    Returns:
      A tuple of arrays of integers, one for each axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.diag_indices_from(jnp.ones((2, 2)))
      (Array([0, 1], dtype=int32), Array([0, 1], dtype=int32))
    """
    check_arraylike("diag_indices_from", arr)
    shape = get_aval(arr).shape
    if len(shape) < 2:
        raise ValueError(f"input array must be at least 2-d in diag_indices_from, got shape {shape}")
    if len(set(shape)) != 1:
        raise ValueError(f"All dimensions of input must be of equal length in diag_indices_from, got shape {shape}")
    return diag_indices(shape[0], len(shape))


def _triangle_indices(mask) -> tuple:
    return tuple(asarray(i.astype(dtypes.default_int_dtype())) for i in mask.nonzero())


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple:
    """The indices of the lower triangle of an ``n`` by ``m`` matrix, at and below diagonal ``k``.

    Args:
      n, m: the numbers of rows and columns; m by default as n.
      k: the diagonal; positive ones are above the main one.

    Returns:
      A tuple of two arrays of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.tril_indices(2)
      (Array([0, 1, 1], dtype=int32), Array([0, 0, 1], dtype=int32))
    """
    return _triangle_indices(np.tri(n, m, k, dtype=bool))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple:
    """The indices of the upper triangle of an ``n`` by ``m`` matrix, at and above diagonal ``k``.

    Args:
      n, m: the numbers of rows and columns; m by default as n.
      k: the diagonal; positive ones are above the main one.

    Returns:
      A tuple of two arrays of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.triu_indices(2)
      (Array([0, 0, 1], dtype=int32), Array([0, 1, 1], dtype=int32))
    """
    return _triangle_indices(~np.tri(n, m, k - 1, dtype=bool))


def tril_indices_from(arr, k: int = 0) -> tuple:
    """`tril_indices` for the shape of a matrix.

    Args:
      arr: a matrix.
      k: the diagonal; positive ones are above the main one.

    Returns:
      A tuple of two arrays of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.tril_indices_from(jnp.ones((2, 2)))
      (Array([0, 1, 1], dtype=int32), Array([0, 0, 1], dtype=int32))
    """
    shape = _matrix_shape("tril_indices_from", arr)
    return tril_indices(shape[0], k, shape[1])


def triu_indices_from(arr, k: int = 0) -> tuple:
    """`triu_indices` for the shape of a matrix.

    Args:
      arr: a matrix.
      k: the diagonal; positive ones are above the main one.

    Returns:
      A tuple of two arrays of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.triu_indices_from(jnp.ones((2, 2)))
      (Array([0, 0, 1], dtype=int32), Array([0, 1, 1], dtype=int32))
    """
    shape = _matrix_shape("triu_indices_from", arr)
    return triu_indices(shape[0], k, shape[1])


def _matrix_shape(name: str, arr) -> tuple[int, int]:
    shape = arr.shape if hasattr(arr, "shape") else np.shape(arr)
    if len(shape) != 2:
        raise ValueError(f"Only 2-D inputs are accepted by {name}, got an array of shape {tuple(shape)}")
    return shape


def mask_indices(n: int, mask_func: Callable, k: int = 0, *, size: int | None = None) -> tuple:
    """The indices that ``mask_func(m, k)`` (such as `triu`) leaves nonzero in an ``n`` by ``n`` matrix of ones.

    Args:
      n: the number of rows and columns.
      mask_func: a function of a matrix and ``k``.
      k: passed on to it.
      size: the static number of results, needed while tracing.

    Returns:
      A tuple of two arrays of integers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.mask_indices(2, jnp.triu)
      (Array([0, 0, 1], dtype=int32), Array([0, 1, 1], dtype=int32))
    """
    return nonzero(mask_func(lax.full((n, n), 1, dtypes.default_float_dtype()), k), size=size)


# -- objects to index ----------------------------------------------------------------------------


class _IndexExpression:
    """Gives back the index it is indexed with; as a tuple always, if made so."""

    def __init__(self, maketuple: bool):
        self.maketuple = maketuple

    def __getitem__(self, index):
        return (index,) if self.maketuple and not isinstance(index, tuple) else index


s_ = _IndexExpression(maketuple=False)
index_exp = _IndexExpression(maketuple=True)


def _range_of(entry: slice, name: str):
    """The values that a slice with static bounds means: an imaginary step is a number of points,
    with the stop included.
    """
    for which, bound in (("start", entry.start), ("stop", entry.stop), ("step", entry.step)):
        concrete_or_error(None, bound, f"slice {which} of jnp.{name}")
    start = 0 if entry.start is None else entry.start
    step = 1 if entry.step is None else entry.step
    if entry.stop is None:
        raise ValueError(f"jnp.{name}: a slice needs a stop, got {entry}")
    if isinstance(step, (complex, np.complexfloating)):
        return linspace(start, entry.stop, int(abs(step)))
    return arange(start, entry.stop, step)


class _Mgrid:
    """Dense grids: ``mgrid[0:2, 0:3]`` stacks the coordinates along each axis of a 2 by 3 grid.

    An imaginary step ``n*1j`` means n points with the stop included.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.mgrid[0:2, 0:2]
      Array([[[0, 0],
              [1, 1]],
      <BLANKLINE>
             [[0, 1],
              [0, 1]]], dtype=int32)
    """

    def __getitem__(self, key):
        if isinstance(key, slice):
            return _range_of(key, "mgrid")
        axes = promote_dtypes(*(_range_of(k, "mgrid") for k in key))
        if not axes:
            return lax.full((0,), 0, dtypes.default_int_dtype())
        return stack(meshgrid(*axes, indexing="ij"))


class _Ogrid:
    """Open grids: ``ogrid[0:2, 0:3]`` gives a 2 by 1 and a 1 by 3 array of coordinates; steps as in `mgrid`."""

    def __getitem__(self, key):
        if isinstance(key, slice):
            return _range_of(key, "ogrid")
        return meshgrid(*promote_dtypes(*(_range_of(k, "ogrid") for k in key)), indexing="ij", sparse=True)


mgrid = _Mgrid()
ogrid = _Ogrid()


class _AxisConcatenator:
    """Joins what it is indexed with: arrays, numbers, and slices meaning ranges.

    A leading string ``"axis,ndim,trans1d"`` says along which axis, the least number of axes, and
    where the axis of a vector goes among these; "r" and "c"
    make a row or column matrix of vectors.
    """

    def __init__(self, name: str, axis: int, ndmin: int, trans1d: int):
        self.name, self.axis, self.ndmin, self.trans1d = name, axis, ndmin, trans1d

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        axis, ndmin, trans1d, matrix = self.axis, self.ndmin, self.trans1d, None
        if isinstance(key[0], str):
            directive, key = key[0], key[1:]
            if directive in ("r", "c"):
                matrix = directive
            else:
                axis, ndmin, trans1d = self._directive(directive, axis, ndmin, trans1d)
        parts = []
        for item in key:
            if isinstance(item, str):
                raise ValueError("string directive must be placed at the beginning")
            part = _range_of(item, self.name) if isinstance(item, slice) else asarray(item)
            parts.append(self._placed(part, ndmin, trans1d))
        out = concatenate(parts, axis=axis)
        if matrix and get_aval(out).ndim == 1:  # as a row, or as a column
            return expand_dims(out, 0 if matrix == "r" else 1)
        return out

    @staticmethod
    def _directive(directive: str, axis: int, ndmin: int, trans1d: int) -> tuple[int, int, int]:
        fields = directive.split(",")
        try:
            given = [int(f) for f in fields]
        except ValueError:
            raise ValueError(f"could not understand directive {directive!r}") from None
        if len(given) > 3:
            raise ValueError(f"could not understand directive {directive!r}")
        return tuple((given + [axis, ndmin, trans1d][len(given) :])[:3])  # type: ignore[return-value]

    @staticmethod
    def _placed(part, ndmin: int, trans1d: int):
        """``part`` with at least ``ndmin`` axes, its own ones starting at ``trans1d``."""
        shape = get_aval(part).shape
        if not shape:
            part, shape = lax.reshape(part, (1,)), (1,)
        new = ndmin - len(shape)
        if new <= 0:
            return part
        start = trans1d if trans1d >= 0 else new + 1 + trans1d
        axes = range(start, start + len(shape)) if 0 <= start <= new else range(new, ndmin)
        sizes = [1] * ndmin
        for a, n in zip(axes, shape, strict=True):
            sizes[a] = n
        return lax.broadcast_in_dim(part, sizes, axes)


r_ = _AxisConcatenator("r_", 0, 1, -1)
c_ = _AxisConcatenator("c_", -1, 2, 0)
