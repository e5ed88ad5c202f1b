"""Rearranging an array: shape, axes, order of elements."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np

from velax import _native, lax
from velax._lang import dtypes
from velax._lang.array import ArrayImpl
from velax._lang.trace import Tracer, concrete_or_error, get_aval
from velax.lax._index_parts import broadcast_to as spread
from velax.numpy._util import check_arraylike, compiled, promote_dtypes, to_array

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_shapes", "broadcast_to", "diagonal",
    "expand_dims", "flip", "fliplr",
    "flipud", "matrix_transpose", "moveaxis", "permute_dims", "ravel", "reshape", "resize", "roll", "rollaxis",
    "rot90", "squeeze", "swapaxes",
    "trace", "transpose",
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
        traced = any(isinstance(n, Tracer) for n in sizes)
        hint = (
            " Shapes must be known while tracing: compute them from x.shape and Python integers, or mark the "
            "argument static (static_argnums)."
            if traced else ""
        )  # fmt: skip
        raise TypeError(
            f"Shapes must be 1D sequences of concrete values of integer type, got {list(sizes)}.{hint}"
        ) from None


def no_out(name: str, out) -> None:
    """Arrays are immutable: an ``out`` argument cannot be written."""
    if out is not None:
        raise NotImplementedError(f"The 'out' argument to jnp.{name} is not supported.")


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
      copy: True to copy; False is not possible while tracing.

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
    if copy is False:
        raise NotImplementedError(
            "jnp.reshape with copy=False is not supported: whether memory is shared is the compiler's choice"
        )
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

    Raises:
      ValueError: if an axis has another size.
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
    """
    return _at_least("atleast_1d", 1, arys)


def atleast_2d(*arys):
    """Arrays with at least two axes, new ones in front; see `atleast_1d`."""
    return _at_least("atleast_2d", 2, arys)


def atleast_3d(*arys):
    """Arrays with at least three axes: shapes (), (n,), (m, n) become (1, 1, 1), (1, n, 1), (m,
    n, 1); see `atleast_1d`.
    """
    return _at_least("atleast_3d", 3, arys)


# -- broadcasting --------------------------------------------------------------------------------


def broadcast_shapes(*shapes):
    """The shape that these shapes broadcast to.

    Args:
      *shapes: tuples of integers, or integers.

    Raises:
      ValueError: if they do not broadcast.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.broadcast_shapes((2, 1), (3,))
      (2, 3)
    """
    if not shapes:
        return ()
    shapes = [tuple(s) if isinstance(s, (tuple, list)) else (s,) for s in shapes]
    rank = max(map(len, shapes))
    out = []
    for sizes in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise ValueError(f"Incompatible shapes for broadcasting: shapes={list(shapes)}")
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def broadcast_arrays(*args):
    """Arrays broadcast to their common shape.

    Args:
      *args: arrays.

    Returns:
      A list of arrays of one shape; dtypes are kept.

    Raises:
      ValueError: if the shapes do not broadcast.
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

    Raises:
      TypeError: if ``axes`` is no permutation.
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
    """`transpose` under the name of the array API standard."""
    check_arraylike("permute_dims", a)
    return transpose(a, axes)


def matrix_transpose(x, /):
    """Exchange the last two axes.

    Raises:
      ValueError: for fewer than two axes.
    """
    check_arraylike("matrix_transpose", x)
    x = to_array(x)
    ndim = get_aval(x).ndim
    if ndim < 2:
        raise ValueError(f"x must be at least two-dimensional for matrix_transpose; got ndim={ndim}")
    return lax.transpose(x, (*range(ndim - 2), ndim - 1, ndim - 2))


def swapaxes(a, axis1: int, axis2: int):
    """Exchange two axes."""
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
    """Move one axis back until it lies before ``start``; `moveaxis` says the same more plainly."""
    check_arraylike("rollaxis", a)
    ndim = get_aval(a).ndim
    axis = axis_index(axis, ndim)
    if not -ndim <= start <= ndim:
        raise ValueError(f"start={start} must satisfy {-ndim}<=start<={ndim}")
    start = start + ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if start > axis else start)


# -- order of elements ---------------------------------------------------------------------------


def flip(m, axis: int | Sequence[int] | None = None):
    """Reverse the order of elements along axes.

    Args:
      m: an array.
      axis: the axes; None: all.
    """
    check_arraylike("flip", m)
    m = to_array(m)
    ndim = get_aval(m).ndim
    return _flip(m, tuple(range(ndim)) if axis is None else axis_tuple(axis, ndim))


@compiled(static=("axes",))
def _flip(m, axes):
    return lax.rev(m, axes)


def fliplr(m):
    """`flip` along axis 1."""
    check_arraylike("fliplr", m)
    return flip(m, 1)


def flipud(m):
    """`flip` along axis 0."""
    check_arraylike("flipud", m)
    return flip(m, 0)


@compiled(static=("k", "axes"))
def rot90(m, k: int = 1, axes: tuple[int, int] = (0, 1)):
    """Rotate by 90 degrees, ``k`` times, in the plane of two axes, from the first towards the second.

    Args:
      m: an array of at least two axes.
      k: how often; negative turns the other way.
      axes: two different axes.

    Raises:
      ValueError: if the axes are equal.
    """
    check_arraylike("rot90", m)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2")
    ndim = get_aval(m).ndim
    i, j = (axis_index(a, ndim) for a in axes)
    if i == j:
        raise ValueError("Axes must be different")
    if k % 4 == 0:
        return m
    if k % 4 == 2:
        return lax.rev(m, (i, j))
    if k % 4 == 1:
        return swapaxes(lax.rev(m, (j,)), i, j)
    return lax.rev(swapaxes(m, i, j), (j,))


def roll(a, shift, axis: int | Sequence[int] | None = None):
    """Move the elements cyclically along axes.

    Args:
      a: an array.
      shift: by how much, towards higher indices; one for each axis. May be traced.
      axis: the axes; None: roll all elements in row-major order.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.roll(jnp.arange(4), 1)
      Array([3, 0, 1, 2], dtype=int32)
    """
    check_arraylike("roll", a)
    a = to_array(a)
    if axis is None:
        shape = get_aval(a).shape
        return _reshape(roll(_reshape(a, (-1,) if get_aval(a).size else (0,)), shift, 0), shape)
    axes = (axis,) if not isinstance(axis, (tuple, list, np.ndarray)) else tuple(axis)
    axes = tuple(axis_index(i, get_aval(a).ndim) for i in axes)
    if isinstance(shift, (int, np.integer, np.ndarray, tuple, list)):
        try:
            shifts = tuple(operator.index(s) for s in np.ravel(shift).tolist())
        except TypeError:
            pass
        else:
            n = max(len(shifts), len(axes))
            if {len(shifts), len(axes)} <= {1, n}:
                return _roll_static(
                    a, shifts * (n // len(shifts)) if shifts else (), axes * (n // len(axes)) if axes else ()
                )
            raise ValueError(
                f"shift and axis of jnp.roll must have equal lengths or length one, got {shift=} and {axis=}"
            )
    from velax.numpy._creation import asarray

    return _roll_dynamic(a, asarray(shift), axes)


@compiled(static=("shift", "axis"))
def _roll_static(a, shift, axis):
    for s, d in zip(shift, axis, strict=True):
        n = get_aval(a).shape[d]
        s = s % n if n else 0
        if s:
            a = lax.concatenate([lax.slice_in_dim(a, n - s, n, axis=d), lax.slice_in_dim(a, 0, n - s, axis=d)], d)
    return a


@compiled(static=("axis",))
def _roll_dynamic(a, shift, axis):
    if not dtypes.is_integer(get_aval(shift).dtype):
        raise TypeError(f"the shift of jnp.roll must be of an integer dtype, got {get_aval(shift).dtype}")
    if get_aval(shift).ndim > 1:
        raise ValueError(
            f"the shift of jnp.roll must be a scalar or one-dimensional, got shape {get_aval(shift).shape}"
        )
    count = max(len(axis), get_aval(shift).size)
    shift = spread(shift, (count,))
    for i, d in enumerate(axis * (count // len(axis))):
        n = get_aval(a).shape[d]
        if n < 2:
            continue
        by = lax.rem(lax.index_in_dim(shift, i, keepdims=False), get_aval(shift).dtype.type(n))
        by = lax.select(lax.lt(by, 0), lax.add(by, n), by)
        a = lax.dynamic_slice_in_dim(lax.concatenate([a, a], d), lax.sub(get_aval(by).dtype.type(n), by), n, d)
    return a


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
    """
    check_arraylike("diagonal", a)
    if get_aval(a).ndim < 2:
        raise ValueError("diagonal requires an array of at least two dimensions.")
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

    Raises:
      ValueError: for negative sizes.
    """
    check_arraylike("resize", a)
    sizes = static_shape(new_shape)
    if any(n < 0 for n in sizes):
        raise ValueError("all elements of `new_shape` must be non-negative")
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
