"""Norms and products of matrices. Decompositions and solvers are not here yet; a missing name raises AttributeError."""

from __future__ import annotations

import operator

import numpy as np

from velax import numpy as jnp
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.numpy._linear import matmul as _matmul, vecdot
from velax.numpy._ranges import eye as _eye
from velax.numpy._reductions import reduced_axes, static_axes
from velax.numpy._shaping import matrix_transpose
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact

__all__ = [
    "cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "matrix_transpose", "multi_dot", "norm", "outer",
    "tensordot", "trace",
    "vecdot", "vector_norm",
]  # fmt: skip


# -- products of the array API standard, whose signatures differ from those of `velax.numpy` --------


def cross(x1, x2, /, *, axis: int = -1):
    """The cross product of vectors along an axis; see `velax.numpy.cross`.

    Args:
      x1, x2: arrays of size 3 along the axis.
      axis: the axis.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.cross(jnp.array([1, 0, 0]), jnp.array([0, 1, 0]))
      Array([0, 0, 1], dtype=int32)
    """
    return jnp.cross(x1, x2, axis=axis)


def diagonal(x, /, *, offset: int = 0):
    """The diagonals of matrices, along the last two axes; see `velax.numpy.diagonal`.

    Args:
      x: an array (..., m, n).
      offset: which diagonal; positive ones are above the main one.

    Returns:
      An array (..., k).

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.diagonal(jnp.array([[1, 2], [3, 4]]))
      Array([1, 4], dtype=int32)
    """
    return jnp.diagonal(x, offset=offset, axis1=-2, axis2=-1)


def matmul(x1, x2, /, *, precision=None, preferred_element_type=None):
    """The matrix product; see `velax.numpy.matmul`.

    Args:
      x1, x2: arrays, as in `velax.numpy.matmul`.
      precision, preferred_element_type: as there.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.matmul(jnp.ones((2, 3)), jnp.ones((3, 1)))
      Array([[3.],
             [3.]], dtype=float32)
    """
    return _matmul(x1, x2, precision=precision, preferred_element_type=preferred_element_type)


def outer(x1, x2, /):
    """The outer product of two vectors.

    Args:
      x1, x2: arrays of one axis.

    Returns:
      An array of two axes.

    Raises:
      ValueError: for arrays that are no vectors.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.outer(jnp.array([1, 2]), jnp.array([3, 4]))
      Array([[3, 4],
             [6, 8]], dtype=int32)
    """
    check_arraylike("jnp.linalg.outer", x1, x2)
    shapes = get_aval(x1).shape, get_aval(x2).shape
    if any(len(shape) != 1 for shape in shapes):
        raise ValueError(
            f"Input arrays must be one-dimensional, but they are {len(shapes[0])}-D and {len(shapes[1])}-D."
        )
    return jnp.outer(x1, x2)


def tensordot(x1, x2, /, *, axes=2, precision=None, preferred_element_type=None, out_sharding=None):
    """The product summed over pairs of axes; see `velax.numpy.tensordot`.

    Args:
      x1, x2, axes: as in `velax.numpy.tensordot`.
      precision, preferred_element_type: as there.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.tensordot(jnp.ones((2, 3)), jnp.ones((3, 2)), axes=1)
      Array([[3., 3.],
             [3., 3.]], dtype=float32)
    """
    return jnp.tensordot(x1, x2, axes, precision=precision, preferred_element_type=preferred_element_type)


def trace(x, /, *, offset: int = 0, dtype=None):
    """The sums of the diagonals of matrices, along the last two axes; see `velax.numpy.trace`.

    Args:
      x: an array (..., m, n).
      offset: which diagonal; positive ones are above the main one.
      dtype: the dtype of the sum, or None.

    Returns:
      An array (...).

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.trace(jnp.array([[1, 2], [3, 4]]))
      Array(5, dtype=int32)
    """
    return jnp.trace(x, offset=offset, axis1=-2, axis2=-1, dtype=dtype)


# -- norms ---------------------------------------------------------------------------------------


@compiled(static=("ord", "axis", "keepdims"))
def norm(x, ord=None, axis: int | tuple[int, ...] | None = None, keepdims: bool = False):
    """The norm of vectors or matrices.

    Args:
      x: an array.
      ord: which norm: of vectors any number, inf, -inf or 0 (how many are not zero); of matrices
        "fro", 1, -1, inf or -inf; None: the 2-norm of vectors, the Frobenius
        norm of matrices.
      axis: an axis for vector norms, two for matrix norms; None: all (with ``ord`` None: of the flattened array).
      keepdims: whether reduced axes stay with size 1.

    Returns:
      The norms, real.

    Raises:
      NotImplementedError: for the matrix norms 2, -2 and "nuc", which need singular values.

    Example:
      >>> import velax.numpy as jnp
      >>> float(jnp.linalg.norm(jnp.array([3.0, 4.0])))
      5.0
    """
    check_arraylike("jnp.linalg.norm", x)
    (x,) = promote_dtypes_inexact(x)
    ndim = get_aval(x).ndim
    if axis is None and ord is None:
        return _euclidean(x, None, keepdims)
    axes = reduced_axes(axis, ndim)
    if len(axes) == 1:
        return _vector(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(
            f"Improper number of axes for norm: {axis=}. Pass one axis to compute a vector-norm, or two axes to "
            "compute a matrix-norm."
        )
    return _matrix(x, "fro" if ord is None else ord, axes, keepdims)


def _euclidean(x, axis, keepdims):
    if dtypes.is_complex(get_aval(x).dtype):
        square = jnp.real(x) ** 2 + jnp.imag(x) ** 2
    else:
        square = x * x
    return jnp.sqrt(jnp.sum(square, axis=axis, keepdims=keepdims))


def _vector(x, ord, axes, keepdims):
    if ord == 2:
        return _euclidean(x, axes, keepdims)
    size = jnp.abs(x)
    if isinstance(ord, str):
        raise ValueError(f"Invalid order '{ord}' for vector norm.")
    if ord == np.inf:
        return jnp.max(size, axis=axes, keepdims=keepdims)
    if ord == -np.inf:
        return jnp.min(size, axis=axes, keepdims=keepdims)
    if ord == 0:
        return jnp.sum((size != 0).astype(get_aval(size).dtype), axis=axes, keepdims=keepdims)
    if ord == 1:
        return jnp.sum(size, axis=axes, keepdims=keepdims)
    return jnp.sum(size**ord, axis=axes, keepdims=keepdims) ** (1.0 / ord)


def _matrix(x, ord, axes, keepdims):
    row, column = axes
    if ord == "fro":
        return _euclidean(x, axes, keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        first, second = (row, column) if ord in (1, -1) else (column, row)
        sums = jnp.sum(jnp.abs(x), axis=first, keepdims=True)
        result = (jnp.max if ord > 0 else jnp.min)(sums, axis=second, keepdims=True)
        return result if keepdims else jnp.squeeze(result, axes)
    if ord in (2, -2, "nuc"):
        raise NotImplementedError(
            f"the matrix norm {ord!r} needs singular values, which are not available yet; use 'fro', 1, -1, inf or -inf"
        )
    raise ValueError(f"Invalid order '{ord}' for matrix norm.")


def vector_norm(x, /, *, axis=None, keepdims: bool = False, ord=2):
    """The vector norm over an axis, several, or the whole array; ``ord`` as in `norm`.

    Args:
      x: an array.
      axis: an axis or a tuple of them; None: all.
      keepdims: whether the axes stay, with size 1.
      ord: which norm.

    Returns:
      An array of real numbers.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.vector_norm(jnp.array([3., 4.]))
      Array(5., dtype=float32)
    """
    check_arraylike("jnp.linalg.vector_norm", x)
    (x,) = promote_dtypes_inexact(x)
    return _vector(x, ord, reduced_axes(static_axes(axis), get_aval(x).ndim), keepdims)


def matrix_norm(x, /, *, keepdims: bool = False, ord="fro"):
    """The matrix norm over the last two axes; ``ord`` as in `norm`.

    Args:
      x: an array (..., m, n).
      keepdims: whether the two axes stay, with size 1.
      ord: which norm.

    Returns:
      An array (...).

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.matrix_norm(jnp.array([[3., 0.], [0., 4.]]))
      Array(5., dtype=float32)
    """
    return norm(x, ord=ord, axis=(-2, -1), keepdims=keepdims)


def matrix_power(a, n: int):
    """A square matrix to a non-negative integer power, by repeated squaring.

    Args:
      a: an array (..., n, n).
      n: the power.

    Returns:
      An array (..., n, n).

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.matrix_power(jnp.array([[1, 1], [0, 1]]), 3)
      Array([[1, 3],
             [0, 1]], dtype=int32)
    """
    check_arraylike("jnp.linalg.matrix_power", a)
    shape = get_aval(a).shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise TypeError(f"Last 2 dimensions of the array must be square, got shape {shape}")
    n = operator.index(n)
    if n < 0:
        raise NotImplementedError(f"matrix_power: the negative power {n} needs an inverse, which is not available yet")
    result = None
    while n:
        if n & 1:
            result = a if result is None else matmul(result, a)
        n >>= 1
        if n:
            a = matmul(a, a)
    return jnp.broadcast_to(_eye(shape[-1], dtype=get_aval(a).dtype), shape) if result is None else result


def multi_dot(arrays, *, precision=None):
    """The product of several matrices, in the cheapest order (found by `opt_einsum`); the first
    and last may be vectors.

    Args:
      arrays: a sequence of at least two arrays.
      precision: as in `velax.numpy.dot`.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.linalg.multi_dot([jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.ones((4, 1))])
      Array([[12.],
             [12.]], dtype=float32)
    """
    arrays = list(arrays)
    check_arraylike("jnp.linalg.multi_dot", *arrays)
    if len(arrays) < 2:
        raise ValueError(f"multi_dot requires at least two arrays; got len(arrays)={len(arrays)}")
    letters = iter("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    terms, last = [], next(letters)
    out = "" if get_aval(arrays[0]).ndim == 1 else last
    for i, a in enumerate(arrays):
        if get_aval(a).ndim == 1 and i == 0:
            terms.append(last)
            continue
        if get_aval(a).ndim == 1:
            terms.append(last)
            break
        following = next(letters)
        terms.append(last + following)
        last = following
    if get_aval(arrays[-1]).ndim == 2:
        out += last
    return jnp.einsum(f"{','.join(terms)}->{out}", *arrays, optimize="optimal", precision=precision)
