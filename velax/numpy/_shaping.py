"""Rearranging an array: shape, axes, order of elements."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np

from velax import _native, lax
from velax._lang.array import ArrayImpl
from velax._lang.trace import concrete_or_error, get_aval
from velax.lax._index_parts import broadcast_to as spread
from velax.lax._structural import shape_type_error
from velax.numpy._util import check_arraylike, common_shape, compiled, promote_dtypes, to_array

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_shapes", "broadcast_to", "diagonal",
    "expand_dims", "matrix_transpose", "moveaxis", "permute_dims", "ravel", "reshape", "resize", "rollaxis",
    "squeeze", "swapaxes", "trace", "transpose",
]  # fmt: skip


# -- arguments -----------------------------------------------------------------------------------


def axis_index(axis, ndim: int) -> int:
    """A possibly negative axis as one in ``[0, ndim)``."""
    try:
        axis = operator.index(axis)
    except TypeError:
        axis = operator.index(concrete_or_error(None, axis, "The axis of an array function must be static."))
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return axis + ndim if axis < 0 else axis


def axis_tuple(axis, ndim: int) -> tuple[int, ...]:
    """One axis or several as a tuple of distinct non-negative ones."""
    axes = (
        tuple(axis_index(a, ndim) for a in axis)
        if isinstance(axis, (tuple, list, np.ndarray))
        else (axis_index(axis, ndim),)
    )
    if len(set(axes)) != len(axes):
        raise ValueError(f"repeated axis: {axis}")
    return axes


def static_shape(shape) -> tuple[int, ...]:
    """A shape argument as Python integers; negative ones are kept."""
    sizes = (
        shape
        if isinstance(shape, (tuple, list))
        else tuple(shape)
        if isinstance(shape, (np.ndarray, ArrayImpl)) and shape.ndim
        else (shape,)
    )
    try:
        return tuple(operator.index(n) for n in sizes)
    except TypeError:
        raise shape_type_error(sizes) from None


def no_out(name: str, out) -> None:
    """NotImplementedError for an ``out`` argument: arrays are immutable."""
    if out is not None:
        raise NotImplementedError(
            f"The 'out' argument to jnp.{name} is not supported: arrays are immutable; assign the result instead."
        )


def is_eager(x) -> bool:
    """Whether ``x`` is a concrete array outside of any trace, so that its memory can be seen under another shape."""
    return type(x) is ArrayImpl and _native.get_trace() is None


def gather_axis(x, indices, axis: int):
    """The elements of ``x`` at integer indices along an axis, which becomes the axes of
    ``indices``; indices must be in bounds.
    """
    aval, index = get_aval(x), get_aval(indices)
    sizes = tuple(1 if i == axis else n for i, n in enumerate(aval.shape))
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(*range(axis), *range(axis + index.ndim, aval.ndim - 1 + index.ndim)),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
    )
    if not aval.shape[axis] or 0 in index.shape:  # nothing to read, or nothing to read from
        return lax.full((*aval.shape[:axis], *index.shape, *aval.shape[axis + 1 :]), 0, aval.dtype)
    rows = lax.broadcast_in_dim(indices, (*index.shape, 1), range(index.ndim))
    return lax.gather(x, rows, numbers, sizes, mode="clip")


# -- shape ---------------------------------------------------------------------------------------


def reshape(a, shape, order: str = "C", *, copy: bool | None = None, out_sharding=None):
    """Give an array another shape with as many elements.

    Args:
      a: an array.
      shape: an integer or a tuple of them; one may be -1 and is computed from the others.
      order: "C": rows first; "F": columns first.
      copy: accepted for compatibility: whether memory is shared is the compiler's choice.

    Returns:
      An array of the shape.

    Raises:
      TypeError: if the sizes do not match.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.reshape(jnp.arange(6), (2, -1))
      Array([[0, 1, 2],
             [3, 4, 5]], dtype=int32)
    """
    check_arraylike("reshape", a)
    return _reshape(to_array(a), shape, order)


def _reshape(a, shape, order="C"):
    sizes = new_shape(get_aval(a).shape, static_shape(shape))
    if order == "C":
        return _native.array_reshaped(a, sizes) if is_eager(a) else lax.reshape(a, sizes)
    if order == "F":
        return lax.transpose(
            lax.reshape(lax.transpose(a, range(get_aval(a).ndim)[::-1]), sizes[::-1]), range(len(sizes))[::-1]
        )
    if order == "A":
        raise NotImplementedError("np.reshape order=A is not implemented.")
    raise ValueError(f"Unexpected value for 'order' argument: {order}.")


def new_shape(old: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that ``reshape`` gives, with -1 computed."""
    total = math.prod(old)
    unknown = sizes.count(-1)
    if unknown > 1:
        raise TypeError(f"can only specify one unknown axis size with a `-1` value, got {sizes}")
    if unknown:
        known = math.prod(n for n in sizes if n != -1)
        if known == 0 or total % known:
            raise TypeError(
                f"cannot reshape array of shape {old} (size {total}) into shape {sizes} because the product of "
                f"specified axis sizes ({known}) does not "
                f"evenly divide {total}"
            )
        return tuple(total // known if n == -1 else n for n in sizes)
    if any(n < 0 for n in sizes):
        raise TypeError(f"shape must have every element be nonnegative, or one -1, got {sizes}.")
    if math.prod(sizes) != total:
        raise TypeError(
            f"cannot reshape array of shape {old} (size {total}) into shape {sizes} (size {math.prod(sizes)})"
        )
    return sizes


def ravel(a, order: str = "C", *, out_sharding=None):
    """All elements, in one axis.

    Args:
      a: an array.
      order: "C": rows first; "F": columns first.

    Returns:
      An array of one axis.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.ravel(jnp.array([[1, 2], [3, 4]]))
      Array([1, 2, 3, 4], dtype=int32)
    """
    check_arraylike("ravel", a)
    if order == "K":
        raise NotImplementedError("Ravel not implemented for order='K'.")
    return _reshape(to_array(a), (get_aval(to_array(a)).size,), order)


def squeeze(a, axis: int | Sequence[int] | None = None):
    """Remove axes of size 1.

    Args:
      a: an array.
      axis: the axes to remove; None: all of size 1.

    Returns:
      An array.

    Raises:
      ValueError: if an axis has another size.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.squeeze(jnp.ones((1, 2, 1))).shape
      (2,)
    """
    check_arraylike("squeeze", a)
    a = to_array(a)
    shape = get_aval(a).shape
    dims = tuple(i for i, n in enumerate(shape) if n == 1) if axis is None else axis_tuple(axis, len(shape))
    if is_eager(a) and all(shape[d] == 1 for d in dims):
        return _native.array_reshaped(a, tuple(n for i, n in enumerate(shape) if i not in dims))
    return lax.squeeze(a, dims)


def expand_dims(a, axis: int | Sequence[int]):
    """Insert axes of size 1.

    Args:
      a: an array.
      axis: where they are in the result.

    Returns:
      An array with more axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.expand_dims(jnp.array([1, 2]), 0)
      Array([[1, 2]], dtype=int32)
    """
    check_arraylike("expand_dims", a)
    a = to_array(a)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    shape = get_aval(a).shape
    ndim = len(shape) + len(axes)
    axes = tuple(axis_index(d, ndim) for d in axes)
    if is_eager(a) and len(set(axes)) == len(axes):
        sizes = iter(shape)
        return _native.array_reshaped(a, tuple(1 if i in axes else next(sizes) for i in range(ndim)))
    return lax.expand_dims(a, axes)


def _at_least(name: str, n: int, arys: tuple):
    check_arraylike(name, *arys)
    outs = []
    for x in arys:
        x = to_array(x)
        shape = get_aval(x).shape
        if len(shape) < n:
            wide = {0: (1,) * n, 1: (1, *shape) if n == 2 else (1, *shape, 1), 2: (*shape, 1)}[len(shape)]
            x = _reshape(x, wide)
        outs.append(x)
    return outs[0] if len(outs) == 1 else outs


def atleast_1d(*arys):
    """Arrays with at least one axis: scalars become arrays of one element.

    Args:
      *arys: arrays.

    Returns:
      An array, or a list of them if several were given.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.atleast_1d(3)
      Array([3], dtype=int32, weak_type=True)
    """
    return _at_least("atleast_1d", 1, arys)


def atleast_2d(*arys):
    """Arrays with at least two axes, new ones in front; see `atleast_1d`.

    Args:
      *arys: arrays.

    Returns:
      An array, or a list of them for several.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.atleast_2d(jnp.array([1, 2]))
      Array([[1, 2]], dtype=int32)
    """
    return _at_least("atleast_2d", 2, arys)


def atleast_3d(*arys):
    """Arrays with at least three axes: shapes (), (n,), (m, n) become (1, 1, 1), (1, n, 1), (m,
    n, 1); see `atleast_1d`.

    Args:
      *arys: arrays.

    Returns:
      An array, or a list of them for several.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.atleast_3d(jnp.array([1, 2])).shape
      (1, 2, 1)
    """
    return _at_least("atleast_3d", 3, arys)


# -- broadcasting --------------------------------------------------------------------------------


def broadcast_shapes(*shapes):
    """The shape that these shapes broadcast to.

    Args:
      *shapes: tuples of integers, or integers.

    Returns:
      A tuple of ints.

    Raises:
      ValueError: if they do not broadcast.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.broadcast_shapes((2, 1), (3,))
      (2, 3)
    """
    return common_shape("broadcast_shapes", [tuple(s) if isinstance(s, (tuple, list)) else (s,) for s in shapes])


def broadcast_arrays(*args):
    """Arrays broadcast to their common shape.

    Args:
      *args: arrays.

    Returns:
      A list of arrays of one shape; dtypes are kept.

    Raises:
      ValueError: if the shapes do not broadcast.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.broadcast_arrays(jnp.array([1, 2]), 3)
      [Array([1, 2], dtype=int32), Array([3, 3], dtype=int32, weak_type=True)]
    """
    check_arraylike("broadcast_arrays", *args)
    args = [to_array(x) for x in args]
    shape = broadcast_shapes(*(get_aval(x).shape for x in args))
    return [spread(x, shape) for x in args]


def broadcast_to(array, shape, *, out_sharding=None):
    """Broadcast an array to a shape.

    Args:
      array: an array.
      shape: an integer or a tuple of them.

    Returns:
      An array of the shape.

    Raises:
      ValueError: if the array's shape does not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.broadcast_to(jnp.array([1, 2]), (2, 2))
      Array([[1, 2],
             [1, 2]], dtype=int32)
    """
    check_arraylike("broadcast_to", array)
    return _broadcast_to(array, static_shape(shape))


@compiled(static=("shape",), inline=True)
def _broadcast_to(array, shape):
    return spread(to_array(array), shape)


# -- axes ----------------------------------------------------------------------------------------


def transpose(a, axes: Sequence[int] | None = None):
    """Permute axes.

    Args:
      a: an array.
      axes: axis ``i`` of the result is axis ``axes[i]`` of ``a``; None: in reverse.

    Returns:
      An array.

    Raises:
      TypeError: if ``axes`` is no permutation.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.transpose(jnp.array([[1, 2], [3, 4]]))
      Array([[1, 3],
             [2, 4]], dtype=int32)
    """
    check_arraylike("transpose", a)
    a = to_array(a)
    ndim = get_aval(a).ndim
    if axes is None:
        return lax.transpose(a, range(ndim)[::-1])
    axes = tuple(axis_index(i, ndim) for i in axes)
    if sorted(axes) != list(range(ndim)):
        raise TypeError(
            f"transpose permutation isn't a permutation of operand dimensions, got permutation {axes} for operand "
            f"shape {get_aval(a).shape}."
        )
    return lax.transpose(a, axes)


def permute_dims(a, /, axes):
    """`transpose` under the name of the array API standard.

    Args:
      a: an array.
      axes: the axes of ``a`` in the order of the result.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.permute_dims(jnp.ones((2, 3)), (1, 0)).shape
      (3, 2)
    """
    check_arraylike("permute_dims", a)
    return transpose(a, axes)


def matrix_transpose(x, /):
    """Exchange the last two axes.

    Args:
      x: an array of at least two axes.

    Returns:
      An array.

    Raises:
      ValueError: for fewer than two axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.matrix_transpose(jnp.array([[1, 2], [3, 4]]))
      Array([[1, 3],
             [2, 4]], dtype=int32)
    """
    check_arraylike("matrix_transpose", x)
    x = to_array(x)
    ndim = get_aval(x).ndim
    if ndim < 2:
        raise ValueError(f"x must be at least two-dimensional for matrix_transpose; got ndim={ndim}")
    return lax.transpose(x, (*range(ndim - 2), ndim - 1, ndim - 2))


def swapaxes(a, axis1: int, axis2: int):
    """Exchange two axes.

    Args:
      a: an array.
      axis1, axis2: the axes.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.swapaxes(jnp.ones((2, 3, 4)), 0, 2).shape
      (4, 3, 2)
    """
    check_arraylike("swapaxes", a)
    a = to_array(a)
    order = list(range(get_aval(a).ndim))
    i, j = axis_index(axis1, len(order)), axis_index(axis2, len(order))
    order[i], order[j] = j, i
    return lax.transpose(a, order)


def moveaxis(a, source: int | Sequence[int], destination: int | Sequence[int]):
    """Move axes elsewhere; the others keep their order.

    Args:
      a: an array.
      source: the axes to move.
      destination: where each goes in the result.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.moveaxis(jnp.ones((2, 3, 4)), 0, -1).shape
      (3, 4, 2)
    """
    check_arraylike("moveaxis", a)
    a = to_array(a)
    ndim = get_aval(a).ndim
    listed = lambda axes: tuple(axes) if isinstance(axes, (tuple, list, np.ndarray)) else (axes,)
    sources = tuple(axis_index(i, ndim) for i in listed(source))
    targets = tuple(axis_index(i, ndim) for i in listed(destination))
    if len(sources) != len(targets):
        raise ValueError(f"Inconsistent number of elements: {len(sources)} vs {len(targets)}")
    order = [i for i in range(ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return transpose(a, order)


def rollaxis(a, axis: int, start: int = 0):
    """Move one axis back until it lies before ``start``; `moveaxis` says the same more plainly.

    Args:
      a: an array.
      axis: the axis to move.
      start: where it goes: in front of the axis that is there.

    Returns:
      An array.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.rollaxis(jnp.ones((2, 3, 4)), 2).shape
      (4, 2, 3)
    """
    check_arraylike("rollaxis", a)
    ndim = get_aval(a).ndim
    axis = axis_index(axis, ndim)
    if not -ndim <= start <= ndim:
        raise ValueError(f"start={start} must satisfy {-ndim}<=start<={ndim}")
    start = start + ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if start > axis else start)


# -- diagonals, resize ---------------------------------------------------------------------------


@compiled(static=("offset", "axis1", "axis2"))
def diagonal(a, offset: int = 0, axis1: int = 0, axis2: int = 1):
    """The diagonal of matrices.

    Args:
      a: an array of at least two axes.
      offset: how far the diagonal lies above the main one.
      axis1, axis2: the axes of the matrices.

    Returns:
      An array without these axes and with the diagonal as last axis.

    Raises:
      ValueError: for fewer than two axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.diagonal(jnp.array([[1, 2], [3, 4]]))
      Array([1, 4], dtype=int32)
    """
    check_arraylike("diagonal", a)
    if get_aval(a).ndim < 2:
        raise ValueError(f"diagonal requires an array of at least two dimensions, got shape {get_aval(a).shape}")
    a = moveaxis(a, (axis1, axis2), (-2, -1))
    *lead, m, n = get_aval(a).shape
    offset = operator.index(offset)
    rows, columns = max(0, -offset), max(0, offset)
    size = max(0, min(m - rows, n - columns))
    if not size:
        return lax.full((*lead, 0), 0, get_aval(a).dtype)
    # in row-major order the diagonal is every (n + 1)-th element
    flat = lax.reshape(a, (*lead, m * n))
    start = rows * n + columns
    return lax.slice_in_dim(flat, start, start + (size - 1) * (n + 1) + 1, n + 1, axis=len(lead))


def trace(a, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype=None, out=None):
    """The sum along the diagonal of matrices.

    Args:
      a: an array of at least two axes.
      offset: how far the diagonal lies above the main one.
      axis1, axis2: the axes of the matrices.
      dtype: the dtype of the sum, or None.
      out: not supported.

    Returns:
      An array without the two axes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.trace(jnp.array([[1, 2], [3, 4]]))
      Array(5, dtype=int32)
    """
    no_out("trace", out)
    check_arraylike("trace", a)
    if get_aval(a).ndim < 2:
        raise ValueError(f"trace requires an array of at least two dimensions, got {get_aval(a).ndim}.")
    return _trace(a, offset, axis1, axis2, dtype)


@compiled(static=("offset", "axis1", "axis2", "dtype"))
def _trace(a, offset, axis1, axis2, dtype):
    from velax.numpy._reductions import sum  # reductions use this module

    return sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


def resize(a, new_shape):
    """An array of any shape with the elements of ``a`` repeated as often as needed, in row-major order.

    Args:
      a: an array.
      new_shape: an integer or a tuple of them.

    Returns:
      An array of the new shape.

    Raises:
      ValueError: for negative sizes.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.resize(jnp.array([1, 2, 3]), (2, 2))
      Array([[1, 2],
             [3, 1]], dtype=int32)
    """
    check_arraylike("resize", a)
    sizes = static_shape(new_shape)
    if any(n < 0 for n in sizes):
        raise ValueError(f"all elements of `new_shape` must be non-negative in resize, got {sizes}")
    return _resize(a, sizes)


@compiled(static=("sizes",))
def _resize(a, sizes):
    (a,) = promote_dtypes(a)
    flat = lax.reshape(a, (get_aval(a).size,))
    total, n = math.prod(sizes), get_aval(a).size
    if total == 0 or n == 0:
        return lax.full(sizes, 0, get_aval(a).dtype)
    repeats = -(-total // n)
    if repeats > 1:
        flat = lax.reshape(lax.broadcast_in_dim(flat, (repeats, n), (1,)), (repeats * n,))
    return lax.reshape(lax.slice_in_dim(flat, 0, total), sizes)
