"""What an index selects: from NumPy's index forms to slices, gathers and scatters.

An index expression is read into a *plan* and its *operands*. The plan is static and hashable, a tuple with one item for each axis of the indexed array and
each new axis; the operands are the numbers and arrays it needs, in order. So eager indexing compiles one program for each plan, with integers and the
starts of slices as arguments of the program, and staged indexing writes the same operations with them as literals.

=====================  ==========================================================  ============
item                   meaning                                                     operands
=====================  ==========================================================  ============
``"full"``             the whole axis                                              none
``"new"``              a new axis of size 1                                        none
``"gap"``              an ellipsis for no axes; it parts index arrays              none
``"at"``               an index that counts from the start                         one
``"wrap"``             an index that counts from the end where it is negative      one
``"flag"``             a scalar boolean: an index 0 into a new axis, or none       one
``("part", n, k)``     n elements from a start, k apart                            the start
``("window", n, k)``   the same of a `Slice`, whose start may lie outside          the start
=====================  ==========================================================  ============
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from velax import lax
from velax._lang import dtypes
from velax._lang.array import Array, ArrayImpl
from velax._lang.errors import NonConcreteBooleanIndexError
from velax._lang.trace import Tracer, get_aval
from velax.lax._structural import convert_type
from velax.tree_util import register_pytree_node

__all__ = ["Gather", "Slice", "broadcast_to", "ds", "gather_at", "is_static", "make_gather", "make_plan", "static_part"]

_INT32 = np.iinfo(np.int32)
_ADVANCED = ("at", "wrap", "flag")


class Slice:
    """A slice of static size whose start may be traced; usable in an index.

    Attributes:
      start: the first index, an integer or a scalar array. It is clamped as by `lax.dynamic_slice`.
      size: how many elements.
      stride: how far apart they are.
    """

    __slots__ = ("size", "start", "stride")

    def __init__(self, start, size: int, stride: int = 1):
        if not isinstance(stride, Tracer) and stride < 0:
            raise ValueError(f"`stride` must be >= 0. Found: {stride}")
        if not isinstance(size, Tracer) and size < 0:
            raise ValueError(f"`size` must not be negative. Found: {size}")
        self.start, self.size, self.stride = start, size, stride

    @property
    def is_dynamic_start(self) -> bool:
        return not isinstance(self.start, int)

    @property
    def is_dynamic_size(self) -> bool:
        return not isinstance(self.size, int)

    @classmethod
    def from_slice(cls, given: slice, size: int) -> Slice:
        """The slice of an axis with ``size`` elements that a Python slice with a positive step means."""
        start, stop, step = given.indices(size)
        if step < 1:
            raise ValueError(f"slice must have a step >= 1 (found: {step})")
        return cls(start, max((stop - start + step - 1) // step, 0), step)

    def __eq__(self, other):
        return isinstance(other, Slice) and (self.start, self.size, self.stride) == (other.start, other.size, other.stride)

    def __hash__(self):
        return hash((self.start, self.size, self.stride))

    def __repr__(self):
        return f"Slice(start={self.start!r}, size={self.size!r}, stride={self.stride!r})"


def _flatten_slice(x: Slice):
    static_start = isinstance(x.start, int)
    return (() if static_start else (x.start,)), (x.start if static_start else None, x.size, x.stride)


def _unflatten_slice(aux, children) -> Slice:
    start, size, stride = aux
    out = object.__new__(Slice)
    out.start, out.size, out.stride = (children[0] if children else start), size, stride
    return out


register_pytree_node(Slice, _flatten_slice, _unflatten_slice)


def ds(start, size: int | None = None, stride: int | None = None):
    """A slice for indexing, of static size and possibly traced start.

    Args:
      start: the first index; without ``size``, how many elements from 0 (None: all of them).
      size: how many elements.
      stride: how far apart they are; 1 by default.

    Returns:
      A `Slice`, or for ``ds(None)`` the Python slice of everything.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.jit(lambda x, i: x[velax.ds(i, 2)])(jnp.arange(5), 3)
      Array([3, 4], dtype=int32)
    """
    if start is None:
        if size is not None or stride is not None:
            raise ValueError("ds: size and stride need a start; for the whole axis write ds(None)")
        return slice(None)
    if size is None:
        if not isinstance(start, (int, np.integer)):
            raise ValueError("ds: without size, start is the number of elements and must be a static integer")
        start, size = 0, start
    return Slice(start, size, 1 if stride is None else stride)


# -- reading an index -----------------------------------------------------------------------------------------------------


def make_plan(shape: tuple[int, ...], index, wrap: bool = True) -> tuple[tuple, list]:
    """The plan and operands of ``index`` into an array of ``shape``.

    Args:
      shape: of the indexed array.
      index: anything that NumPy takes, and `Slice`.
      wrap: whether negative integers count from the end.

    Returns:
      ``(plan, operands)``; operands are Python ints, NumPy arrays, arrays and tracers of integers.

    Raises:
      IndexError: for too many indices, repeated ellipses, masks of the wrong shape, slices with traced bounds.
      TypeError: for lists, strings, floats and other things that are no index.
    """
    if type(index) is int:
        if shape:
            return ("at", *("full",) * (len(shape) - 1)), [_static_index(index, shape[0], wrap)]
        raise _too_many(shape, 1)
    if not isinstance(index, tuple):
        if isinstance(index, str):
            raise TypeError(f"JAX does not support string indexing; got idx={index!r}")
        if isinstance(index, Sequence) and not isinstance(index, (Array, np.ndarray)):
            raise TypeError(
                "Using a non-tuple sequence for multidimensional indexing is not allowed; use `arr[array(seq)]` instead of `arr[seq]`. "
                "See https://github.com/jax-ml/jax/issues/4564 for more information."
            )
        index = (index,)
    entries = [_entry(e) for e in index]
    used, ellipses = 0, 0
    for e in entries:
        if e is Ellipsis:
            ellipses += 1
        elif e is None:
            pass
        elif isinstance(e, (int, slice, Slice)):
            used += not isinstance(e, bool)
        else:
            used += _mask_rank(e)
    if used > len(shape):
        raise _too_many(shape, used)
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    plan: list = []
    operands: list = []
    axis = 0
    for position, e in enumerate(entries):
        if e is Ellipsis:
            plan += ["full"] * (len(shape) - used) or ["gap"]
            axis += len(shape) - used
        elif e is None:
            plan.append("new")
        elif isinstance(e, bool):
            plan.append("flag")
            operands.append(np.zeros((int(e),), np.int32))
        elif isinstance(e, int):
            plan.append("at")
            operands.append(_static_index(e, shape[axis], wrap))
            axis += 1
        elif isinstance(e, slice):
            _read_slice(e, shape[axis], position, plan, operands)
            axis += 1
        elif isinstance(e, Slice):
            _read_window(e, shape[axis], plan, operands)
            axis += 1
        elif e.dtype == np.bool_:
            _read_mask(e, shape, axis, position, plan, operands)
            axis += len(e.shape)
        else:
            signed = not dtypes.issubdtype(e.dtype, np.unsignedinteger)
            plan.append("wrap" if wrap and signed else "at")
            operands.append(e)
            axis += 1
    plan += ["full"] * (len(shape) - axis)
    return tuple(plan), operands


def _too_many(shape, used: int) -> IndexError:
    return IndexError(f"Too many indices: array is {len(shape)}-dimensional, but {used} were indexed")


def _entry(e):
    """One entry of an index as None, Ellipsis, bool, int, slice, Slice, or an array of integers or booleans."""
    if e is None or e is Ellipsis or isinstance(e, (int, slice, Slice)):
        return e
    if isinstance(e, np.bool_):
        return bool(e)
    if isinstance(e, np.integer):
        return int(e)
    if isinstance(e, str):
        raise TypeError(f"JAX does not support string indexing; got idx={e!r}")
    if isinstance(e, (list, tuple)):
        e = _array_of(e)
    if not isinstance(e, (ArrayImpl, Tracer, np.ndarray)):
        if hasattr(e, "__jax_array__"):
            e = e.__jax_array__()
        elif isinstance(e, (float, complex, np.generic)) or hasattr(e, "__array__"):
            e = np.asarray(e)
        else:
            raise TypeError(f"Indexer must have integer or boolean type, got {e!r} of type {type(e)}")
    dtype = e.dtype
    if dtype != np.bool_ and not dtypes.is_integer(dtype):
        raise TypeError(f"Indexer must have integer or boolean type, got indexer with type {dtype}")
    if not e.shape and not isinstance(e, Tracer) and dtype == np.bool_:
        return bool(e)
    if type(e) is np.ndarray and not e.shape:
        return int(e)
    return e


def _array_of(sequence):
    from velax.numpy._creation import asarray  # creation imports this package's core first

    if not sequence:
        return np.zeros((0,), np.int32)
    if any(isinstance(v, (Tracer, ArrayImpl)) for v in sequence):
        return asarray(sequence)
    return np.asarray(sequence)


def _mask_rank(e) -> int:
    return len(e.shape) if e.dtype == np.bool_ else 1


def _static_index(i: int, size: int, wrap: bool) -> int:
    if not _INT32.min <= i <= _INT32.max and size <= _INT32.max:
        raise OverflowError(f"Python int {i} too large to convert to int32")
    return i + size if wrap and i < 0 else i


def _read_slice(e: slice, size: int, position: int, plan: list, operands: list) -> None:
    bounds = []
    for bound in (e.start, e.stop, e.step):
        if bound is not None and not isinstance(bound, int):
            if isinstance(bound, Tracer) and not bound.is_concrete():
                raise IndexError(
                    f"Slice entries must be static integers. Got {e} at position {position}. A slice decides the shape of the result, which must be known "
                    "when the function is traced: mark the bounds as static, or use x[ds(start, size)] or lax.dynamic_slice with a static size."
                )
            try:
                bound = operator.index(bound)
            except TypeError:
                raise IndexError(f"Slice entries must be static integers. Got {e} at position {position}") from None
        bounds.append(bound)
    if bounds[2] == 0:
        raise ValueError("slice step cannot be zero")
    start, stop, step = slice(*bounds).indices(size)
    count = max(0, (stop - start + step - (1 if step > 0 else -1)) // step)
    if count == size and step == 1:
        plan.append("full")
    else:
        if count <= 1:
            step = 1
        plan.append(("part", count, step))
        operands.append(start)


def _read_window(e: Slice, size: int, plan: list, operands: list) -> None:
    count, stride = operator.index(e.size), operator.index(e.stride)
    if count > size:
        raise IndexError(f"Slice size {count} is larger than the axis it indexes, which has {size} elements")
    start = e.start
    if isinstance(start, np.integer):
        start = int(start)
    if not isinstance(start, int):
        aval = get_aval(start)
        if aval.shape or not dtypes.is_integer(aval.dtype):
            raise TypeError(f"the start of a Slice must be a scalar integer, got {aval.str_short()}")
    plan.append(("window", count, stride))
    operands.append(start)


def _read_mask(mask, shape, axis: int, position: int, plan: list, operands: list) -> None:
    """A boolean array as the integer arrays of its true positions: their number, a shape, must be known."""
    if isinstance(mask, Tracer):
        concrete = mask.to_concrete_value()
        if concrete is None:
            raise NonConcreteBooleanIndexError(mask)
        mask = concrete
    if not mask.shape:
        plan.append("flag")
        operands.append(np.zeros((int(bool(mask)),), np.int32))
        return
    expected = shape[axis : axis + len(mask.shape)]
    if mask.shape != expected:
        shown = list(expected) if len(expected) > 1 else [expected[0]]
        raise IndexError(f"boolean index did not match shape of indexed array in index {position}: got {mask.shape}, expected {shown}")
    for found in np.asarray(mask).nonzero():
        plan.append("at")
        operands.append(found.astype(np.int32) if max(shape, default=0) <= _INT32.max else found)


def is_static(operands: list) -> bool:
    return all(type(x) is int for x in operands)


# -- slices ---------------------------------------------------------------------------------------------------------------


def static_part(x, shape, plan: tuple, operands: list):
    """The indexed part by slicing, reversing and reshaping, or None where that does not express it: all operands are ints inside the array."""
    given = iter(operands)
    starts, limits, strides, reverse, drop, new = [], [], [], [], [], []
    for item in plan:
        if item == "new":
            new.append(len(starts) + len(new) - len(drop))
            continue
        if item == "gap":
            continue
        axis = len(starts)
        n = shape[axis]
        if item == "full":
            start, limit, stride = 0, n, 1
        elif item == "at":
            start = next(given)
            if n == 0:
                raise IndexError(f"index is out of bounds for axis {axis} with size 0")
            if not 0 <= start < n:
                return None
            limit, stride = start + 1, 1
            drop.append(axis)
        else:
            kind, count, stride = item
            start = next(given)
            if stride < 0:
                start, stride = start + max(count - 1, 0) * stride, -stride
                reverse.append(axis)
            limit = start + (count - 1) * stride + 1 if count else start
            if kind == "window" and not (start >= 0 and limit <= n):
                return None
            if count:
                limit = min(n, start + count * stride)  # one past a whole last step, as slices are usually written
            else:
                start = limit = min(max(start, 0), n)
        starts.append(start)
        limits.append(limit)
        strides.append(stride)
    if any(starts) or tuple(limits) != shape or any(s != 1 for s in strides):
        x = lax.slice(x, starts, limits, strides if any(s != 1 for s in strides) else None)
    if reverse:
        x = lax.rev(x, reverse)
    if drop:
        x = lax.squeeze(x, drop)
    return lax.expand_dims(x, new) if new else x


def dynamic_part(x, shape, plan: tuple, operands: list):
    """The indexed part by `lax.dynamic_slice`, or None where that does not express it: all operands are scalars, and no step is other than 1."""
    given = iter(operands)
    starts, sizes, negative, drop, new = [], [], [], [], []
    for item in plan:
        if item == "new":
            new.append(len(starts) + len(new) - len(drop))
            continue
        if item == "gap":
            continue
        start, size, wraps = 0, shape[len(starts)], False
        if item == "flag" or (isinstance(item, tuple) and item[2] != 1):
            return None
        if item != "full":
            start = next(given)
            if type(start) is not int and get_aval(start).shape:
                return None
            if isinstance(item, tuple):
                size, wraps = item[1], item[0] == "window"
            else:
                if size == 0:
                    raise IndexError(f"index is out of bounds for axis {len(starts)} with size 0")
                drop.append(len(starts))
                size, wraps = 1, item == "wrap"
        starts.append(start)
        sizes.append(size)
        negative.append(wraps)
    narrow = lambda s, n: type(s) is not int and n > dtypes.iinfo(get_aval(s).dtype).max
    if len(starts) > 1 or any(map(narrow, starts, shape)):  # the starts must have one dtype, which holds the axis sizes
        dtype = index_dtype(shape)
        starts = [s if type(s) is int else convert_type(s, dtype, False) for s in starts]
    x = lax.dynamic_slice(x, starts, sizes, allow_negative_indices=negative)
    if drop:
        x = lax.squeeze(x, drop)
    return lax.expand_dims(x, new) if new else x


def index_dtype(shape) -> np.dtype:
    return np.dtype(np.int32) if max(shape, default=0) <= _INT32.max else np.dtype(np.int64)


# -- gathers --------------------------------------------------------------------------------------------------------------


class Gather(NamedTuple):
    """An index as index vectors and dimension numbers, for gather and scatter alike.

    Attributes:
      operand_shape: the indexed array's shape with a new axis for each scalar boolean.
      flags: these axes.
      indices: the index vectors, along the last axis.
      offset_dims, collapsed, start_index_map, slice_sizes: see `lax.GatherDimensionNumbers`.
      shape: of the gathered windows.
      reversed_axes: axes of these that are in opposite order to the result's.
      new_axes: axes of the result that the gathered windows do not have.
      scalar: whether no index is an array: then the index vectors are sorted and unique.
    """

    operand_shape: tuple[int, ...]
    flags: tuple[int, ...]
    indices: Any
    offset_dims: tuple[int, ...]
    collapsed: tuple[int, ...]
    start_index_map: tuple[int, ...]
    slice_sizes: tuple[int, ...]
    shape: tuple[int, ...]
    reversed_axes: tuple[int, ...]
    new_axes: tuple[int, ...]
    scalar: bool

    @property
    def result_shape(self) -> tuple[int, ...]:
        sizes = iter(self.shape)
        return tuple(1 if i in self.new_axes else next(sizes) for i in range(len(self.shape) + len(self.new_axes)))


def _wrapped(index, size: int):
    """An index array with negative entries counted from the end."""
    if isinstance(index, np.ndarray):
        index = index.astype(np.int64 if size > _INT32.max else np.int32)
        return np.where(index < 0, index + index.dtype.type(size), index)
    dtype = get_aval(index).dtype
    if size > dtypes.iinfo(dtype).max:
        index = convert_type(index, np.dtype(np.int32 if size <= _INT32.max else np.int64), False)
        dtype = index.dtype
    zero = dtype.type(0)
    return lax.select(lax.lt(index, zero), lax.add(index, dtype.type(size)), index)


def broadcast_to(x, shape: tuple[int, ...]):
    """``x`` repeated to ``shape`` by NumPy's rules."""
    have = get_aval(x).shape
    if have == shape:
        return x
    if len(have) > len(shape):
        raise ValueError(f"Cannot broadcast to shape with fewer dimensions: arr_shape={have} shape={shape}")
    if any(a not in (1, b) for a, b in zip(reversed(have), reversed(shape))):
        dtype = get_aval(x).dtype
        raise ValueError(f"Incompatible types for broadcasting: input type={_typed(dtype, have)} and requested type={_typed(dtype, shape)}")
    return lax.broadcast_in_dim(x, shape, tuple(range(len(shape) - len(have), len(shape))))


def _typed(dtype, shape) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


class _Layout:
    """A plan by what it says of each side.

    Attributes:
      axes, window: for each axis of the operand (flags included) its size and that of the gathered window.
      flags, collapsed: axes of the operand that stand for scalar booleans; that the windows do not keep.
      entries: for each axis of the result, ``"new"`` or ``(operand axis, size, start, step)``; ``"advanced"`` stands where index arrays are.
      advanced: ``(operand axis, index)`` of these and of integers.
    """

    def __init__(self, shape, plan: tuple, operands: Sequence):
        self.axes, self.window, self.flags, self.collapsed, self.entries, self.advanced = [], [], [], [], [], []
        given, source = iter(operands), iter(shape)
        previous = None
        for item in plan:
            if item == "new":
                self.entries.append("new")
            elif item in _ADVANCED:
                self._add_index(item, 1 if item == "flag" else next(source), next(given), new_run=previous not in _ADVANCED)
            elif item != "gap":
                self._add_part(next(source), *((None, None, 1) if item == "full" else (next(given), *item[1:])))
            previous = item

    def _add_index(self, item, n: int, index, new_run: bool) -> None:
        axis = len(self.axes)
        if n == 0 and type(index) is int:
            raise IndexError(f"index is out of bounds for axis {axis} with size 0")
        if item == "flag":
            self.flags.append(axis)
        elif item == "wrap":
            index = _wrapped(index, n)
        if new_run:
            self.entries.append("advanced")
        self.advanced.append((axis, index))
        self.collapsed.append(axis)
        self.axes.append(n)
        self.window.append(1)

    def _add_part(self, n: int, start, count: int | None, step: int) -> None:
        axis = len(self.axes)
        count = n if count is None else count
        self.entries.append((axis, count, start, step))
        self.axes.append(n)
        self.window.append(count if step == 1 else 1)
        if step != 1:
            self.collapsed.append(axis)

    def array_shape(self) -> tuple[int, ...] | None:
        """The common shape of the index arrays; None if all indices are scalars."""
        shapes = [() if type(i) is int else get_aval(i).shape for _, i in self.advanced]
        if not any(shapes):
            return None
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            raise ValueError(f"Incompatible shapes for broadcasting: shapes={shapes}") from None


def make_gather(shape: tuple[int, ...], plan: tuple, operands: Sequence) -> Gather:
    """The index vectors and dimension numbers of a plan."""
    dtype = index_dtype(shape)
    layout = _Layout(shape, plan, operands)
    array_shape = layout.array_shape()
    entries = layout.entries
    if array_shape is None:
        entries = [e for e in entries if e != "advanced"]
    elif entries.count("advanced") > 1:  # index arrays apart from each other: their axes come first
        entries = ["advanced", *(e for e in entries if e != "advanced")]
    columns: list = []  # (operand axis, index, its axes among the positions): the components of the index vectors
    positions: list[int] = []  # sizes of the index array's axes, without the last
    offset, out_shape, new, reverse = [], [], [], []
    for entry in entries:
        if entry == "new":
            new.append(len(out_shape) + len(new))
        elif entry == "advanced":
            dims = tuple(range(len(positions), len(positions) + len(array_shape)))
            columns += [(axis, _spread(index, array_shape, dtype), dims) for axis, index in layout.advanced]
            positions += array_shape
            out_shape += array_shape
        else:
            axis, count, start, step = entry
            if step == 1:
                offset.append(len(out_shape))
                if start is not None:
                    columns.append((axis, start, ()))
            else:
                index = lax.add(_as_index(start, dtype), lax.mul(dtype.type(step), lax.iota(dtype, count)))
                if step < 0:
                    index = lax.rev(index, (0,))
                    reverse.append(len(out_shape))
                columns.append((axis, index, (len(positions),)))
                positions.append(count)
            out_shape.append(count)
    if array_shape is None:
        columns = sorted([*columns, *((axis, index, ()) for axis, index in layout.advanced)], key=lambda c: c[0])
    vectors = [_column(index, dims, positions, dtype) for _, index, dims in columns]
    if not vectors:
        indices = np.zeros((*positions, 0), np.int32)
    else:
        indices = vectors[0] if len(vectors) == 1 else lax.concatenate(vectors, len(positions))
    return Gather(
        operand_shape=tuple(layout.axes), flags=tuple(layout.flags), indices=indices, offset_dims=tuple(offset), collapsed=tuple(layout.collapsed),
        start_index_map=tuple(c[0] for c in columns), slice_sizes=tuple(layout.window), shape=tuple(out_shape), reversed_axes=tuple(reverse),
        new_axes=tuple(new), scalar=array_shape is None,
    )  # fmt: skip


def _spread(index, shape: tuple[int, ...], dtype):
    """An index array at the common shape of all; scalars as they are."""
    if type(index) is int or get_aval(index).shape in ((), shape):
        return index
    return broadcast_to(_as_index(index, dtype), shape)


def _as_index(index, dtype):
    if type(index) is int:
        return dtype.type(index)
    return index.astype(dtype) if isinstance(index, np.ndarray) else convert_type(index, dtype, False)


def _column(index, dims: tuple[int, ...], positions: Sequence[int], dtype):
    """One component of the index vectors, over all positions."""
    index = _as_index(index, dtype)
    return lax.broadcast_in_dim(index, (*positions, 1), dims if get_aval(index).shape else ())


def gather_at(x, g: Gather, *, indices_are_sorted=False, unique_indices=False, mode=None, fill_value=None):
    """Gather by a `Gather`."""
    if g.flags:
        x = lax.expand_dims(x, g.flags)
    numbers = lax.GatherDimensionNumbers(g.offset_dims, g.collapsed, g.start_index_map)
    x = lax.gather(
        x, g.indices, numbers, g.slice_sizes, unique_indices=unique_indices or g.scalar, indices_are_sorted=indices_are_sorted or g.scalar, mode=mode,
        fill_value=fill_value,
    )  # fmt: skip
    if g.reversed_axes:
        x = lax.rev(x, g.reversed_axes)
    return lax.expand_dims(x, g.new_axes) if g.new_axes else x
