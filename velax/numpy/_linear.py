"""Products of vectors, matrices and tensors."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from velax import lax
from velax._lang import dtypes, promotion
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import add, multiply
from velax.numpy._reductions import sum
from velax.numpy._selecting import diff
from velax.numpy._shaping import axis_index, moveaxis, no_out, ravel, spread
from velax.numpy._util import (
    check_arraylike,
    common_shape,
    compiled,
    promote_args_numeric,
    promote_dtypes,
    promote_dtypes_inexact,
    to_array,
)

__all__ = [
    "cross", "dot", "inner", "kron", "matmul", "matvec", "outer", "polyval", "tensordot", "trapezoid", "vdot", "vecdot",
    "vecmat",
]  # fmt: skip


def product_operands(name: str, preferred, *args):
    """Operands of one dtype, the dtype of their product, and whether that is weak."""
    if preferred is not None:
        preferred, weak = dtypes.check_user_dtype_supported(preferred, name), False
    else:
        preferred, weak = promotion.result_type(*args, return_weak_type_flag=True)
    return promote_dtypes(*args), preferred, weak


_static = ("precision", "preferred_element_type")


def dot(a, b, *, precision=None, preferred_element_type=None, out_sharding=None):
    """The product of two arrays, summed over the last axis of the first and the last but one of the second.

    Args:
      a: an array.
      b: an array; of a vector, the only axis is summed over.
      precision: None, a `lax.Precision`, a pair of them, or their names.
      preferred_element_type: the dtype to accumulate in and to return, or None.

    Returns:
      An array with the other axes of ``a``, then those of ``b``; rank-0 operands multiply.

    Raises:
      TypeError: if the summed axes differ in size.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.dot(jnp.array([1., 2.]), jnp.array([3., 4.]))
      Array(11., dtype=float32)
    """
    return _dot(a, b, precision=precision, preferred_element_type=preferred_element_type)


@compiled(static=_static, inline=True)
def _dot(a, b, *, precision, preferred_element_type):
    check_arraylike("dot", a, b)
    (a, b), dtype, weak = product_operands("dot", preferred_element_type, to_array(a), to_array(b))
    m, n = get_aval(a).ndim, get_aval(b).ndim
    contract = ((), ()) if m == 0 or n == 0 else ((m - 1,), (max(0, n - 2),))
    out = lax.dot_general(a, b, (contract, ((), ())), precision=precision, preferred_element_type=dtype)
    return convert_type(out, dtype, weak)


def matmul(a, b, *, precision=None, preferred_element_type=None, out_sharding=None):
    """The matrix product over the last two axes; the others broadcast.

    Args:
      a: an array of shape (n,) or (..., m, n).
      b: an array of shape (n,) or (..., n, k).
      precision, preferred_element_type: as `dot`.

    Returns:
      An array of shape (..., m, k), without the axes that vector operands lack.

    Raises:
      ValueError: for rank 0, or if leading axes do not broadcast.
      TypeError: if the summed axes differ in size.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.matmul(jnp.eye(2), jnp.array([[1., 2.], [3., 4.]]))
      Array([[1., 2.],
             [3., 4.]], dtype=float32)
    """
    return _matmul(a, b, precision=precision, preferred_element_type=preferred_element_type)


@compiled(static=_static, inline=True)
def _matmul(a, b, *, precision, preferred_element_type):
    check_arraylike("matmul", a, b)
    a, b = to_array(a), to_array(b)
    for i, x in enumerate((a, b)):
        if get_aval(x).ndim < 1:
            raise ValueError(f"matmul input operand {i} must have ndim at least 1, but it has ndim {get_aval(x).ndim}")
    (a, b), dtype, weak = product_operands("matmul", preferred_element_type, a, b)
    shape_a, shape_b = get_aval(a).shape, get_aval(b).shape
    lead_a, lead_b = shape_a[:-2], shape_b[:-2]
    vector_a, vector_b = len(shape_a) == 1, len(shape_b) == 1
    rank = max(len(lead_a), len(lead_b))
    full_a, full_b = (1,) * (rank - len(lead_a)) + lead_a, (1,) * (rank - len(lead_b)) + lead_b
    if any(m != n and 1 not in (m, n) for m, n in zip(full_a, full_b, strict=True)):
        name = lambda x: f"{get_aval(x).dtype}[{','.join(map(str, get_aval(x).shape))}]"
        raise ValueError(f"Incompatible types for matmul arguments: {name(a)} and {name(b)}")
    # axes on which both have a size are batch axes; those of one operand only are free axes of it,
    # moved in place afterwards
    batch, free_a, free_b, drop_a, drop_b = [], [], [], [], []
    kept_a, kept_b = [], []
    for i, (m, n) in enumerate(zip(full_a, full_b, strict=True)):
        own_a, own_b = i - (rank - len(lead_a)), i - (rank - len(lead_b))
        if own_a >= 0 and own_b >= 0 and m == n and (m != 1):
            batch.append(i)
            kept_a.append(own_a)
            kept_b.append(own_b)
        elif m != 1 or (own_b < 0 and own_a >= 0):
            free_a.append(i)
            kept_a.append(own_a)
            drop_b += [own_b] if own_b >= 0 else []
        elif n != 1 or (own_a < 0 and own_b >= 0):
            free_b.append(i)
            kept_b.append(own_b)
            drop_a += [own_a] if own_a >= 0 else []
        else:  # both of size 1: a free axis of the first
            free_a.append(i)
            kept_a.append(own_a)
            drop_b.append(own_b)
    a, b = lax.squeeze(a, drop_a), lax.squeeze(b, drop_b)
    at_a, at_b = {d: i for i, d in enumerate(sorted(kept_a))}, {d: i for i, d in enumerate(sorted(kept_b))}
    batch_a = tuple(at_a[i - (rank - len(lead_a))] for i in batch)
    batch_b = tuple(at_b[i - (rank - len(lead_b))] for i in batch)
    contract = ((get_aval(a).ndim - 1,), (get_aval(b).ndim - 1 if vector_b else get_aval(b).ndim - 2,))
    out = lax.dot_general(a, b, (contract, (batch_a, batch_b)), precision=precision, preferred_element_type=dtype)
    # the result's axes are: batch, free of a, row of a, free of b, column of b
    order = [*batch, *free_a, *([] if vector_a else ["row"]), *free_b, *([] if vector_b else ["column"])]
    wanted = [*range(rank), *([] if vector_a else ["row"]), *([] if vector_b else ["column"])]
    out = lax.transpose(out, [order.index(axis) for axis in wanted])
    return convert_type(out, dtype, weak)


def vdot(a, b, *, precision=None, preferred_element_type=None):
    """The sum of products of all elements, those of ``a`` conjugated.

    Args:
      a, b: arrays with as many elements.
      precision, preferred_element_type: as `dot`.

    Returns:
      An array of rank 0.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.vdot(jnp.array([1j, 2]), jnp.array([1j, 2]))
      Array(5.+0.j, dtype=complex64)
    """
    return _vdot(a, b, precision=precision, preferred_element_type=preferred_element_type)


@compiled(static=_static, inline=True)
def _vdot(a, b, *, precision, preferred_element_type):
    check_arraylike("vdot", a, b)
    if dtypes.is_complex(get_aval(a).dtype):
        a = lax.conj(a)
    return dot(ravel(a), ravel(b), precision=precision, preferred_element_type=preferred_element_type)


def vecdot(x1, x2, /, *, axis: int = -1, precision=None, preferred_element_type=None):
    """Scalar products of vectors along an axis, the first conjugated; the other axes broadcast.

    Args:
      x1, x2: arrays of one size along ``axis``.
      axis: the axis, counted from the end after broadcasting.
      precision, preferred_element_type: as `dot`.

    Returns:
      An array of the other axes.

    Raises:
      ValueError: if the sizes differ.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.vecdot(jnp.array([[1, 2], [3, 4]]), jnp.array([1, 1]))
      Array([3, 7], dtype=int32)
    """
    check_arraylike("vecdot", x1, x2)
    x1, x2 = to_array(x1), to_array(x2)
    s1, s2 = get_aval(x1).shape, get_aval(x2).shape
    if not s1 or not s2 or s1[axis_index(axis, len(s1))] != s2[axis_index(axis, len(s2))]:
        raise ValueError(f"axes must match; got shapes {s1} and {s2} with {axis=}")
    return _vecdot(
        moveaxis(x1, axis, -1),
        moveaxis(x2, axis, -1),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


@compiled(static=_static, inline=True)
def _vecdot(x1, x2, *, precision, preferred_element_type):
    if dtypes.is_complex(get_aval(x1).dtype):
        x1 = lax.conj(x1)
    row, column = lax.expand_dims(x1, (get_aval(x1).ndim - 1,)), lax.expand_dims(x2, (get_aval(x2).ndim,))
    out = matmul(row, column, precision=precision, preferred_element_type=preferred_element_type)
    return lax.squeeze(out, (-1, -2))


def _check_core(name: str, n: int, m: int, signature: str) -> None:
    if n != m:
        raise ValueError(
            f"inconsistent size for core dimension 'n': {m} vs {n} on vectorized function with excluded=frozenset() "
            f"and signature={signature!r} ({name})"
        )


def matvec(x1, x2, /):
    """Products of matrices (..., m, n) and vectors (..., n); leading axes broadcast.

    Args:
      x1: an array (..., m, n).
      x2: an array (..., n).

    Returns:
      An array (..., m).

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.matvec(jnp.array([[1, 2], [3, 4]]), jnp.array([1, 1]))
      Array([3, 7], dtype=int32)
    """
    check_arraylike("matvec", x1, x2)
    x1, x2 = to_array(x1), to_array(x2)
    if get_aval(x1).ndim < 2 or get_aval(x2).ndim < 1:
        raise ValueError(
            f"matvec requires shapes (..., m, n) and (..., n), got {get_aval(x1).shape} and {get_aval(x2).shape}"
        )
    _check_core("matvec", get_aval(x1).shape[-1], get_aval(x2).shape[-1], "(m,n),(n)->(m)")
    return _matvec(x1, x2)


@compiled(inline=True)
def _matvec(x1, x2):
    out = matmul(x1, lax.expand_dims(x2, (get_aval(x2).ndim,)))
    return lax.squeeze(out, (-1,))


def vecmat(x1, x2, /):
    """Products of conjugated vectors (..., n) and matrices (..., n, m); leading axes broadcast.

    Args:
      x1: an array (..., n).
      x2: an array (..., n, m).

    Returns:
      An array (..., m).

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.vecmat(jnp.array([1, 1]), jnp.array([[1, 2], [3, 4]]))
      Array([4, 6], dtype=int32)
    """
    check_arraylike("vecmat", x1, x2)
    x1, x2 = to_array(x1), to_array(x2)
    if get_aval(x1).ndim < 1 or get_aval(x2).ndim < 2:
        raise ValueError(
            f"vecmat requires shapes (..., n) and (..., n, m), got {get_aval(x1).shape} and {get_aval(x2).shape}"
        )
    _check_core("vecmat", get_aval(x1).shape[-1], get_aval(x2).shape[-2], "(n),(n,m)->(m)")
    return _vecmat(x1, x2)


@compiled(inline=True)
def _vecmat(x1, x2):
    if dtypes.is_complex(get_aval(x1).dtype):
        x1 = lax.conj(x1)
    return lax.squeeze(matmul(lax.expand_dims(x1, (get_aval(x1).ndim - 1,)), x2), (-2,))


def inner(a, b, *, precision=None, preferred_element_type=None):
    """The product summed over the last axes of both operands; rank-0 operands multiply.

    Args:
      a, b: arrays whose last axes have the same size.
      precision: see `dot`.
      preferred_element_type: the dtype of sum and result, or None.

    Returns:
      An array with the other axes of ``a``, then those of ``b``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.inner(jnp.array([1, 2]), jnp.array([3, 4]))
      Array(11, dtype=int32)
    """
    return _inner(a, b, precision=precision, preferred_element_type=preferred_element_type)


@compiled(static=_static, inline=True)
def _inner(a, b, *, precision, preferred_element_type):
    check_arraylike("inner", a, b)
    if get_aval(a).ndim == 0 or get_aval(b).ndim == 0:
        out = multiply(a, b)
        return (
            out if preferred_element_type is None else convert_type(out, dtypes.as_dtype(preferred_element_type), False)
        )
    return tensordot(a, b, (-1, -1), precision=precision, preferred_element_type=preferred_element_type)


@compiled(inline=True)
def _outer(a, b):
    check_arraylike("outer", a, b)
    return multiply(lax.expand_dims(ravel(a), (1,)), lax.expand_dims(ravel(b), (0,)))


def outer(a, b, out=None):
    """All products of an element of ``a`` and one of ``b``, as a matrix; the operands are flattened.

    Args:
      a, b: arrays.
      out: not supported.

    Returns:
      An array of shape ``(a.size, b.size)``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.outer(jnp.array([1, 2]), jnp.array([3, 4]))
      Array([[3, 4],
             [6, 8]], dtype=int32)
    """
    no_out("outer", out)
    return _outer(a, b)


def tensordot(a, b, axes: int | Sequence = 2, *, precision=None, preferred_element_type=None, out_sharding=None):
    """The product of two arrays, summed over pairs of axes.

    Args:
      a, b: arrays.
      axes: an integer n: the last n axes of ``a`` and the first n of ``b``; or a pair of axes or of lists of axes.
      precision, preferred_element_type: as `dot`.

    Returns:
      An array with the other axes of ``a``, then those of ``b``.

    Raises:
      TypeError: if the axes do not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.tensordot(jnp.ones((2, 3)), jnp.ones((3, 2)), axes=1)
      Array([[3., 3.],
             [3., 3.]], dtype=float32)
    """
    if isinstance(axes, (tuple, list, np.ndarray)):
        axes = tuple(
            tuple(operator.index(i) for i in x) if isinstance(x, (tuple, list, np.ndarray)) else x for x in axes
        )
    return _tensordot(a, b, axes, precision=precision, preferred_element_type=preferred_element_type)


@compiled(static=("axes", *_static), inline=True)
def _tensordot(a, b, axes, *, precision, preferred_element_type):
    check_arraylike("tensordot", a, b)
    m, n = get_aval(a).ndim, get_aval(b).ndim
    if isinstance(axes, (int, np.integer)):
        if axes > min(m, n):
            raise TypeError(
                f"Number of tensordot axes (axes {axes}) exceeds input ranks ({get_aval(a).shape} and "
                f"{get_aval(b).shape})"
            )
        contract = tuple(range(m - axes, m)), tuple(range(axes))
    elif isinstance(axes, tuple) and len(axes) == 2 and all(isinstance(x, (tuple, int, np.integer)) for x in axes):
        one, two = (x if isinstance(x, tuple) else (x,) for x in axes)
        if len(one) != len(two):
            raise TypeError(f"tensordot requires axes lists to have equal length, got {one} and {two}.")
        contract = tuple(axis_index(i, m) for i in one), tuple(axis_index(i, n) for i in two)
    else:
        raise TypeError("tensordot axes argument must be an int, a pair of ints, or a pair of lists/tuples of ints.")
    (a, b), dtype, weak = product_operands("tensordot", preferred_element_type, a, b)
    out = lax.dot_general(a, b, (contract, ((), ())), precision=precision, preferred_element_type=dtype)
    return convert_type(out, dtype, weak)


@compiled
def kron(a, b):
    """The Kronecker product: ``b`` in blocks, scaled by the elements of ``a``.

    Args:
      a, b: arrays.

    Returns:
      An array whose sizes are the products of the operands'.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.kron(jnp.array([1, 10]), jnp.array([1, 2]))
      Array([ 1,  2, 10, 20], dtype=int32)
    """
    check_arraylike("kron", a, b)
    a, b = promote_dtypes(to_array(a), to_array(b))
    m, n = get_aval(a).ndim, get_aval(b).ndim
    rank = max(m, n)
    a = lax.reshape(a, (1,) * (rank - m) + get_aval(a).shape)
    b = lax.reshape(b, (1,) * (rank - n) + get_aval(b).shape)
    sizes = tuple(i * j for i, j in zip(get_aval(a).shape, get_aval(b).shape, strict=True))
    a = lax.expand_dims(a, range(1, 2 * rank, 2))
    b = lax.expand_dims(b, range(0, 2 * rank, 2))
    return lax.reshape(lax.mul(a, b), sizes)


@compiled(static=("axisa", "axisb", "axisc", "axis"))
def cross(a, b, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None):
    """The vector product along an axis of size 2 or 3.

    Args:
      a, b: arrays; vectors of size 2 have a third component 0.
      axisa, axisb: where the vectors are.
      axisc: where they are in the result.
      axis: sets the three, if given.

    Returns:
      An array of vectors; of numbers (the third component) if both have size 2.

    Raises:
      ValueError: for other sizes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.cross(jnp.array([1, 0, 0]), jnp.array([0, 1, 0]))
      Array([0, 0, 1], dtype=int32)
    """
    a, b = promote_dtypes(*_checked_pair("cross", a, b))
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if get_aval(a).shape[-1] not in (2, 3) or get_aval(b).shape[-1] not in (2, 3):
        raise ValueError(
            "Dimension must be either 2 or 3 for cross product, got vectors of sizes "
            f"{get_aval(a).shape[-1]} and {get_aval(b).shape[-1]}"
        )
    lead = common_shape("cross", [get_aval(a).shape[:-1], get_aval(b).shape[:-1]])
    part = lambda v, i: spread(lax.index_in_dim(v, i, -1, keepdims=False), lead) if i < get_aval(v).shape[-1] else None

    def minus(p, q):
        """The difference of two products; a factor None is the zero third component of a vector of size 2."""
        first, second = (None if x is None or y is None else lax.mul(x, y) for x, y in (p, q))
        if first is None:
            return lax.neg(second)
        return first if second is None else lax.sub(first, second)

    a0, a1, a2 = (part(a, i) for i in range(3))
    b0, b1, b2 = (part(b, i) for i in range(3))
    third = minus((a0, b1), (a1, b0))
    if a2 is None and b2 is None:
        return third
    parts = [minus((a1, b2), (a2, b1)), minus((a2, b0), (a0, b2)), third]
    out = lax.concatenate([lax.expand_dims(v, (len(lead),)) for v in parts], len(lead))
    return moveaxis(out, -1, axisc)


def _checked_pair(name, a, b):
    check_arraylike(name, a, b)
    return to_array(a), to_array(b)


@compiled(static=("unroll",))
def polyval(p, x, *, unroll: int = 16):
    """The value of a polynomial, by Horner's rule.

    Args:
      p: coefficients along the first axis, from the highest power.
      x: where to evaluate; broadcasts with the other axes of ``p``.
      unroll: how many steps of the loop to unroll.

    Returns:
      An array of the common shape and dtype.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.polyval(jnp.array([1, 0, -1]), jnp.arange(4))
      Array([-1,  0,  3,  8], dtype=int32)
    """
    check_arraylike("polyval", p, x)
    p, x = promote_dtypes(to_array(p), to_array(x))
    if not get_aval(p).ndim:
        raise ValueError("polyval: the coefficients must have an axis, got a number")
    p, x = (convert_type(v, get_aval(x).dtype, False) for v in (p, x))
    shape = common_shape("polyval", [get_aval(p).shape[1:], get_aval(x).shape])
    x, zero = spread(x, shape), lax.full(shape, get_aval(x).dtype.type(0))
    step = lambda y, c: (add(multiply(y, x), c), None)
    return lax.scan(step, zero, p, unroll=unroll)[0]


def trapezoid(y, x=None, dx=1.0, axis: int = -1):
    """The integral of sampled values by the trapezoidal rule.

    Args:
      y: the values.
      x: the points, of the size of ``y`` along ``axis``, or of its shape; None: equally spaced.
      dx: the spacing, where ``x`` is None.
      axis: the axis to integrate along.

    Returns:
      An array without the axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.trapezoid(jnp.array([1., 2., 3.]))
      Array(4., dtype=float32)
    """
    return _trapezoid(y, x, dx, operator.index(axis))


@compiled(static=("axis",))
def _trapezoid(y, x, dx, axis):
    if x is None:
        check_arraylike("trapezoid", y)
        y, dx = promote_dtypes_inexact(*promote_dtypes_inexact(y), dx)
        y = moveaxis(y, axis, -1)
    else:
        check_arraylike("trapezoid", y, x)
        y, x = promote_dtypes_inexact(y, x)
        y = moveaxis(y, axis, -1)
        dx = diff(x) if get_aval(x).ndim == 1 else diff(moveaxis(x, axis, -1))
    n = get_aval(y).shape[-1]
    pairs = lax.add(lax.slice_in_dim(y, 1, n, axis=-1), lax.slice_in_dim(y, 0, n - 1, axis=-1)) if n else y
    return lax.mul(sum(lax.mul(*promote_args_numeric("trapezoid", dx, pairs)), axis=-1), get_aval(y).dtype.type(0.5))
