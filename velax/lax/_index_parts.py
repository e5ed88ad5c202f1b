"""Parts of arrays by index plans (`velax.lax._index_plan`): read, and replaced or combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from velax._lang import dtypes
from velax._lang.record import Record
from velax._lang.trace import get_aval
from velax._transforms.jit import jit
from velax.lax._arithmetic import add, mul
from velax.lax._comparison import lt
from velax.lax._dynamic_slicing import dynamic_slice
from velax.lax._gather import gather
from velax.lax._index_plan import ADVANCED, index_dtype
from velax.lax._indexing import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers
from velax.lax._scatter import (
    scatter,
    scatter_add,
    scatter_apply,
    scatter_max,
    scatter_min,
    scatter_mul,
    scatter_sub,
)
from velax.lax._slicing import concatenate, slice as slice_
from velax.lax._structural import broadcast_in_dim, convert_type, expand_dims, full_like, iota, rev, select, squeeze

__all__ = [
    "Gather", "Window", "broadcast_to", "make_gather", "make_window", "read_part", "read_part_call", "write_part",
]  # fmt: skip


def read_part(x, operands, spec):
    """The part of ``x`` that a plan selects, by the cheapest operations that express it.

    Args:
      x: an array.
      operands: those of the plan.
      spec: ``(plan, indices_are_sorted, unique_indices, mode, fill_value)``, static.
    """
    plan, indices_are_sorted, unique_indices, mode, fill_value = spec
    shape = get_aval(x).shape
    if mode is not GatherScatterMode.FILL_OR_DROP:
        out = static_part(x, shape, plan, operands)
        if out is None:
            out = dynamic_part(x, shape, plan, operands)
        if out is not None:
            return out
    g = make_gather(shape, plan, operands)
    return _gathered(x, g, indices_are_sorted, unique_indices, mode, fill_value)


read_part_call = jit(read_part, static_argnums=(2,))


# -- slices --------------------------------------------------------------------------------------


def static_part(x, shape, plan: tuple, operands: list):
    """The indexed part by slicing, reversing and reshaping; None where that does not express it.

    It does where all operands are integers inside the array.
    """
    if "flag" in plan or any(type(i) is not int for i in operands):
        return None
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
            if kind != "part" and not (start >= 0 and limit <= n):
                return None
            if count:
                limit = min(n, start + count * stride)  # a whole last step, as slices are written
            else:
                start = limit = min(max(start, 0), n)
        starts.append(start)
        limits.append(limit)
        strides.append(stride)
    if any(starts) or tuple(limits) != shape or any(s != 1 for s in strides):
        x = slice_(x, starts, limits, strides if any(s != 1 for s in strides) else None)
    if reverse:
        x = rev(x, reverse)
    if drop:
        x = squeeze(x, drop)
    return expand_dims(x, new) if new else x


class Window(Record):
    """An index made of scalars and slices without steps: a box, whose start is clamped.

    Attributes:
      starts, sizes: for each axis of the array.
      wraps: where a negative start counts from the end.
      dropped: axes of the array that the result does not have.
      new: axes of the result that the array does not have.
    """

    starts: list
    sizes: list[int]
    wraps: list[bool]
    dropped: list[int]
    new: list[int]


def make_window(shape, plan: tuple, operands: Sequence) -> Window | None:
    """The window that a plan selects; None where index arrays, steps or booleans make it none."""
    given = iter(operands)
    starts, sizes, wraps, dropped, new = [], [], [], [], []
    for item in plan:
        if item == "new":
            new.append(len(starts) + len(new) - len(dropped))
            continue
        if item == "gap":
            continue
        if item == "flag" or (isinstance(item, tuple) and item[2] != 1):
            return None
        start, size, from_end = 0, shape[len(starts)], False
        if item != "full":
            start = next(given)
            if type(start) is not int and get_aval(start).shape:
                return None
            if isinstance(item, tuple):
                size, from_end = item[1], item[0] == "window"
            else:
                if size == 0:
                    raise IndexError(f"index is out of bounds for axis {len(starts)} with size 0")
                dropped.append(len(starts))
                size, from_end = 1, item == "wrap"
        starts.append(start)
        sizes.append(size)
        wraps.append(from_end)
    narrow = lambda s, n: type(s) is not int and n > dtypes.iinfo(get_aval(s).dtype).max
    if len(starts) > 1 or any(map(narrow, starts, shape)):
        # the starts must have one dtype, which holds the sizes of the axes
        dtype = index_dtype(shape)
        starts = [s if type(s) is int else convert_type(s, dtype, False) for s in starts]
    return Window(starts, sizes, wraps, dropped, new)


def dynamic_part(x, shape, plan: tuple, operands: Sequence):
    """The indexed part by `lax.dynamic_slice`; None where that does not express it."""
    window = make_window(shape, plan, operands)
    if window is None:
        return None
    x = dynamic_slice(x, window.starts, window.sizes, allow_negative_indices=window.wraps)
    if window.dropped:
        x = squeeze(x, window.dropped)
    return expand_dims(x, window.new) if window.new else x


# -- gathers and scatters ------------------------------------------------------------------------


class Gather(Record):
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
        index = index.astype(np.int64 if size > np.iinfo(np.int32).max else np.int32)
        return np.where(index < 0, index + index.dtype.type(size), index)
    dtype = get_aval(index).dtype
    if size > dtypes.iinfo(dtype).max:
        index = convert_type(index, np.dtype(np.int32 if size <= np.iinfo(np.int32).max else np.int64), False)
        dtype = index.dtype
    zero = dtype.type(0)
    return select(lt(index, zero), add(index, dtype.type(size)), index)


def broadcast_to(x, shape: tuple[int, ...]):
    """``x`` repeated to ``shape`` by NumPy's rules."""
    have = get_aval(x).shape
    if have == shape:
        return x
    if len(have) > len(shape):
        raise ValueError(f"Cannot broadcast to shape with fewer dimensions: arr_shape={have} shape={shape}")
    if any(a not in (1, b) for a, b in zip(reversed(have), reversed(shape))):
        dtype = get_aval(x).dtype
        raise ValueError(
            f"Incompatible types for broadcasting: input type={_typed(dtype, have)} and requested "
            f"type={_typed(dtype, shape)}"
        )
    return broadcast_in_dim(x, shape, tuple(range(len(shape) - len(have), len(shape))))


def _typed(dtype, shape) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


class _Layout:
    """A plan by what it says of each side.

    Attributes:
      axes, window: for each axis of the operand (flags included) its size and that of the gathered window.
      flags, collapsed: axes of the operand that stand for scalar booleans; that the windows do not keep.
      entries: for each axis of the result, ``"new"`` or ``(operand axis, size, start, step)``;
        ``"advanced"`` stands where index arrays are.
      advanced: ``(operand axis, index)`` of these and of integers.
    """

    def __init__(self, shape, plan: tuple, operands: Sequence):
        self.axes, self.window, self.flags, self.collapsed, self.entries, self.advanced = [], [], [], [], [], []
        given, source = iter(operands), iter(shape)
        previous = None
        for item in plan:
            if item == "new":
                self.entries.append("new")
            elif item in ADVANCED:
                self._add_index(
                    item, 1 if item == "flag" else next(source), next(given), new_run=previous not in ADVANCED
                )
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
                index = add(_as_index(start, dtype), mul(dtype.type(step), iota(dtype, count)))
                if step < 0:
                    index = rev(index, (0,))
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
        indices = vectors[0] if len(vectors) == 1 else concatenate(vectors, len(positions))
    return Gather(
        operand_shape=tuple(layout.axes), flags=tuple(layout.flags), indices=indices, offset_dims=tuple(offset),
        collapsed=tuple(layout.collapsed),
        start_index_map=tuple(c[0] for c in columns), slice_sizes=tuple(layout.window), shape=tuple(out_shape),
        reversed_axes=tuple(reverse),
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
    return broadcast_in_dim(index, (*positions, 1), dims if get_aval(index).shape else ())


def _gathered(x, g: Gather, indices_are_sorted, unique_indices, mode, fill_value):
    numbers = GatherDimensionNumbers(g.offset_dims, g.collapsed, g.start_index_map)
    if 0 in g.shape:  # nothing is read, so an indexed axis may be of size 0, which no window fits
        x = full_like(x, 0, shape=g.shape)
    else:
        x = gather(
            expand_dims(x, g.flags) if g.flags else x, g.indices, numbers, g.slice_sizes, mode=mode,
            fill_value=fill_value, unique_indices=unique_indices or g.scalar,
            indices_are_sorted=indices_are_sorted or g.scalar,
        )  # fmt: skip
    if g.reversed_axes:
        x = rev(x, g.reversed_axes)
    return expand_dims(x, g.new_axes) if g.new_axes else x


_SCATTER: dict[str, Callable] = {
    "set": scatter, "add": scatter_add, "sub": scatter_sub, "mul": scatter_mul, "min": scatter_min, "max": scatter_max,
}  # fmt: skip


def write_part(x, operands, y, spec):
    """A copy of ``x`` with a part replaced or combined.

    Args:
      x: an array.
      operands: those of the plan.
      y: an array of the same dtype that broadcasts to the part.
      spec: ``(op, plan, indices_are_sorted, unique_indices, mode)``, static; ``op`` is "set", "add",
        "sub", "mul", "min", "max" or a function of a scalar, which is applied to the part (``y`` is
        None then).
    """
    op, plan, indices_are_sorted, unique_indices, mode = spec
    g = make_gather(get_aval(x).shape, plan, operands)
    if 0 in g.shape:
        return x
    if g.flags:
        x = expand_dims(x, g.flags)
    numbers = ScatterDimensionNumbers(g.offset_dims, g.collapsed, g.start_index_map)
    promises = {
        "indices_are_sorted": indices_are_sorted or g.scalar, "unique_indices": unique_indices or g.scalar,
        "mode": mode,
    }  # fmt: skip
    if y is None:
        out = scatter_apply(x, g.indices, op, numbers, update_shape=g.shape, **promises)
    else:
        y = broadcast_to(y, g.result_shape)
        if g.new_axes:
            y = squeeze(y, g.new_axes)
        if g.reversed_axes:
            y = rev(y, g.reversed_axes)
        out = _SCATTER[op](x, g.indices, y, numbers, **promises)
    return squeeze(out, g.flags) if g.flags else out
