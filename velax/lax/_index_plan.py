"""What an index selects: NumPy's index forms read into a form that is quick to compare and to run.

An index is read into a *plan* and its *operands*. The plan is static and hashable, a tuple with one
item for each axis of the indexed array and each new axis; the operands are the numbers and arrays
it needs, in order. So eager indexing compiles one program for each plan, with integers and the
starts of slices as arguments of the program, and staged indexing writes the same operations with
them as literals. `velax.lax._index_parts` reads and writes by plans; arrays and references share it.

=====================  ================================================  ============
item                   meaning                                           operands
=====================  ================================================  ============
``"full"``             the whole axis                                    none
``"new"``              a new axis of size 1                              none
``"gap"``              an ellipsis for no axes; it parts index arrays    none
``"at"``               an index that counts from the start               one
``"wrap"``             an index that, negative, counts from the end      one
``"flag"``             a scalar boolean: an index 0 into a new axis,     one
                       or none
``("part", n, k)``     n elements from a start, k apart                  the start
``("window", n, k)``   the same of a `Slice`, whose start may lie        the start
                       outside; negative, it counts from the end
``("span", n, k)``     the same, counting from the start only            the start
=====================  ================================================  ============
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from velax._lang import dtypes, promotion
from velax._lang.array import Array, ArrayImpl
from velax._lang.errors import NonConcreteBooleanIndexError
from velax._lang.trace import Tracer, get_aval
from velax.lax._slicing import concatenate
from velax.lax._structural import convert_type, expand_dims
from velax.tree_util import register_pytree_node

__all__ = ["ADVANCED", "Slice", "check_static_indices", "ds", "index_dtype", "make_plan"]

ADVANCED = ("at", "wrap", "flag")  #: items that index arrays become

_INT32 = np.iinfo(np.int32)


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
        if not isinstance(other, Slice):
            return False
        return (self.start, self.size, self.stride) == (other.start, other.size, other.stride)

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


# -- reading an index ----------------------------------------------------------------------------


def make_plan(shape: tuple[int, ...], index, wrap: bool = True) -> tuple[tuple, list]:
    """The plan and operands of ``index`` into an array of ``shape``.

    Args:
      shape: of the indexed array.
      index: anything that NumPy takes, and `Slice`.
      wrap: whether negative integers count from the end.

    Returns:
      ``(plan, operands)``; operands are Python ints, NumPy arrays, arrays and tracers of integers.

    Raises:
      IndexError: for too many indices, repeated ellipses, masks of the wrong shape, slices with
        traced bounds, and objects that are no index.
      TypeError: for lists, strings and numbers that are no integers.
    """
    if type(index) is int:
        if shape:
            return ("at", *("full",) * (len(shape) - 1)), [_static_index(index, shape[0], wrap)]
        raise _too_many(shape, 1)
    entries = [_entry(e) for e in _as_tuple(index)]
    used = sum(map(_axes_of, entries))
    if used > len(shape):
        raise _too_many(shape, used)
    if sum(e is Ellipsis for e in entries) > 1:
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
        elif isinstance(e, slice):
            _read_slice(e, shape[axis], position, plan, operands)
        elif isinstance(e, Slice):
            _read_window(e, shape[axis], wrap, plan, operands)
        elif e.dtype == np.bool_:
            _read_mask(e, shape, axis, position, plan, operands)
        else:
            signed = not dtypes.issubdtype(e.dtype, np.unsignedinteger)
            plan.append("wrap" if wrap and signed else "at")
            operands.append(e)
        axis += _axes_of(e)
    plan += ["full"] * (len(shape) - axis)
    return tuple(plan), operands


def check_static_indices(shape: tuple[int, ...], index, wrap: bool) -> None:
    """IndexError if an integer in an index that `make_plan` takes lies outside of its axis, under
    ``jax_check_static_indices``; integers in arrays, and scalar arrays, are not looked at.
    """
    entries = _as_tuple(index)
    left = len(shape) - sum(_axes_of(_entry(e)) for e in entries)
    axis = 0
    for e in entries:
        if isinstance(e, (int, np.integer)) and not isinstance(e, bool):
            size = shape[axis]
            if not (-size if wrap else 0) <= e < size:
                raise IndexError(
                    f"index {e} out of bounds for axis {axis} with size {size} (normalize_indices={wrap}). Where that is "
                    "meant, write x.at[index].get(mode='clip') or (mode='fill'), or turn jax_check_static_indices off."
                )
        axis += left if e is Ellipsis else _axes_of(_entry(e))


def _as_tuple(index) -> tuple:
    if isinstance(index, tuple):
        return index
    if isinstance(index, Sequence) and not isinstance(index, (Array, np.ndarray, str)):
        raise TypeError(
            "Using a non-tuple sequence for multidimensional indexing is not allowed; use `arr[array(seq)]` instead "
            "of `arr[seq]`. See https://github.com/jax-ml/jax/issues/4564 for more information."
        )
    return (index,)


def _axes_of(entry) -> int:
    """How many axes of the indexed array an entry takes; an ellipsis none but those that are left."""
    if entry is None or entry is Ellipsis or isinstance(entry, bool):
        return 0
    if isinstance(entry, (int, slice, Slice)):
        return 1
    return len(entry.shape) if entry.dtype == np.bool_ else 1


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
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), newaxis (`None`), `ds` and integer or boolean arrays "
                f"are valid indices. Got {e!r}"
            )
    dtype = e.dtype
    if dtype != np.bool_ and not dtypes.is_integer(dtype):
        raise TypeError(f"Indexer must have integer or boolean type, got indexer with type {dtype}")
    if not e.shape and not isinstance(e, Tracer) and dtype == np.bool_:
        return bool(e)
    if type(e) is np.ndarray and not e.shape:
        return int(e)
    return e


def _array_of(sequence):
    """A list of indices: NumPy's array if it holds only numbers, else stacked."""
    if not sequence:
        return np.zeros((0,), np.int32)
    parts = [_array_of(v) if isinstance(v, (list, tuple)) else v for v in sequence]
    if not any(isinstance(v, (Tracer, ArrayImpl)) for v in parts):
        return np.asarray(sequence)
    dtype, _ = promotion.lattice_result_type(*parts)
    return concatenate([expand_dims(convert_type(v, dtype), (0,)) for v in parts], 0)


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
                    f"Slice entries must be static integers. Got {e} at position {position}. A slice decides the "
                    "shape of the result, which must be known when the function is traced: mark the bounds as static, "
                    "or use x[ds(start, size)] or lax.dynamic_slice with a static size."
                )
            try:
                bound = operator.index(bound)
            except TypeError:
                raise TypeError(f"Slice entries must be static integers. Got {e} at position {position}") from None
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


def _read_window(e: Slice, size: int, wrap: bool, plan: list, operands: list) -> None:
    count, stride = operator.index(e.size), operator.index(e.stride)
    if count > size:
        raise TypeError(f"Slice size {count} is larger than the axis it indexes, which has {size} elements")
    start = e.start
    if isinstance(start, np.integer):
        start = int(start)
    if not isinstance(start, int):
        aval = get_aval(start)
        if aval.shape or not dtypes.is_integer(aval.dtype):
            raise TypeError(f"the start of a Slice must be a scalar integer, got {aval.str_short()}")
    plan.append(("window" if wrap else "span", count, stride))
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
        raise IndexError(
            f"boolean index did not match shape of indexed array in index {position}: got {mask.shape}, expected "
            f"{shown}"
        )
    for found in np.asarray(mask).nonzero():
        plan.append("at")
        operands.append(found.astype(index_dtype(shape)))


def index_dtype(shape) -> np.dtype:
    """The dtype of index vectors into an array of ``shape``."""
    return np.dtype(np.int32) if max(shape, default=0) <= _INT32.max else np.dtype(np.int64)
