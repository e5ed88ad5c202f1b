"""``x.at[index]``: updated copies of arrays, and indexing with a choice of what happens outside the array."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from velax import _native, lax
from velax._lang import dtypes, promotion
from velax._lang.array import ArrayImpl
from velax._lang.config import config
from velax._lang.trace import get_aval
from velax._lang.traceback import public_class
from velax._transforms.jit import jit
from velax.lax._index_parts import broadcast_to, write_part
from velax.lax._index_plan import make_plan
from velax.lax._structural import convert_type
from velax.numpy._arithmetic import divide, power
from velax.numpy._indexing import index_array
from velax.numpy._util import promote_dtypes, to_array

__all__ = ["IndexUpdateHelper", "IndexUpdateRef"]

_get_trace = _native.get_trace
_SCALARS = (bool, int, float, complex)

# -- scatters ------------------------------------------------------------------------------------


def _scattered(x, operands, y, spec):
    """A copy of ``x`` with ``y`` put, added, ... where the plan says, in the dtype of ``x``."""
    aval = get_aval(x)
    if dtypes.is_extended(aval.dtype):
        return write_part(x, operands, y, spec)
    wide, y = promote_dtypes(x, y)
    return _restored(write_part(wide, operands, y, spec), aval.dtype, aval.weak_type)


def _restored(out, dtype, weak):
    """A result in the array's own dtype; of complex numbers the real part where it is real."""
    if dtypes.is_complex(get_aval(out).dtype) and not dtypes.is_complex(dtype):
        out = lax.real(out)
    return convert_type(out, dtype, weak)


_scatter_call = jit(_scattered, static_argnums=(3,))


def _applied(x, operands, spec):
    return write_part(x, operands, None, spec)


_apply_call = jit(_applied, static_argnums=(2,))

_MASKED: dict[str, Callable] = {
    "set": lambda x, y: y, "add": lax.add, "sub": lax.sub, "mul": lax.mul, "min": lax.min, "max": lax.max,
}  # fmt: skip


def _masked(x, mask, y, op):
    """The update under a mask by one value, as a selection: a program whatever the mask holds."""
    aval = get_aval(x)
    x, y = promote_dtypes(x, y)
    new = _MASKED[op](x, broadcast_to(y, aval.shape))
    mask = lax.broadcast_in_dim(mask, aval.shape, range(get_aval(mask).ndim))
    return _restored(lax.select(mask, new, x), aval.dtype, aval.weak_type)


_masked_call = jit(_masked, static_argnums=(3,))


def _is_mask_of(index, x) -> bool:
    kind = type(index)
    return (
        (kind is ArrayImpl or kind is np.ndarray)
        and index.dtype == np.bool_
        and index.ndim > 0
        and index.shape == x.shape[: index.ndim]
    )


_safe: dict[tuple, bool] = {}


def _check_cast(x, y) -> None:
    """A FutureWarning if writing ``y`` into ``x`` may lose more than precision of a Python scalar."""
    kind = type(y)
    if kind in _SCALARS:
        key = (x.dtype, x.weak_type, kind)
    else:
        aval = get_aval(y)
        key = (x.dtype, x.weak_type, aval.dtype, aval.weak_type)
    safe = _safe.get(key)
    if safe is None:
        safe = _safe[key] = dtypes.is_extended(x.dtype) or promotion.safe_to_cast(y, x)
    if not safe:
        dtype = promotion.dtype_and_weak_type(y)[0]
        warnings.warn(
            f"scatter inputs have incompatible types: cannot safely cast value from dtype={dtype} to dtype={x.dtype} "
            f"with jax_numpy_dtype_promotion={config.jax_numpy_dtype_promotion}. In future JAX releases this will "
            "result in an error.",
            FutureWarning,
            stacklevel=4,
        )
        if dtypes.is_complex(dtype) and not dtypes.is_complex(x.dtype):
            warnings.warn(
                "Casting complex values to real discards the imaginary part", np.exceptions.ComplexWarning, stacklevel=4
            )


def update(x, index, y, op: str, indices_are_sorted: bool, unique_indices: bool, mode, wrap: bool):
    """A copy of ``x`` with ``y`` put, added, ... at ``index``."""
    kind = type(y)
    if kind not in _SCALARS and kind is not ArrayImpl:
        y = to_array(y)
    if mode is not None:
        mode = lax.GatherScatterMode.from_any(mode)
    _check_cast(x, y)
    eager = type(x) is ArrayImpl and _get_trace() is None
    if eager and mode is None and _is_mask_of(index, x) and (kind in _SCALARS or not y.shape):
        return _masked_call(x, index, y, op)
    plan, operands = make_plan(x.shape, index, wrap)
    spec = (op, plan, indices_are_sorted, unique_indices, mode)
    return (_scatter_call if eager else _scattered)(x, tuple(operands), y, spec)


# -- the interface -------------------------------------------------------------------------------


class IndexUpdateHelper:
    """What ``x.at`` is: index it to say where, then call `set`, `add`, `multiply`, ... or `get` of the result.

    The methods return new arrays, as arrays are immutable; inside `jit` an array that is used
    nowhere else is written in place. All of them take

    * ``mode``: what happens to indices outside the array: "drop" them (writing; "fill": reading
    gives ``fill_value``), "clip" them to the last
      element, or "promise_in_bounds"; by default writes are dropped and reads clipped;
    * ``indices_are_sorted``, ``unique_indices``: promises that save work;
    * ``wrap_negative_indices``: whether negative indices count from the end.

    Example:
      >>> import velax.numpy as jnp
      >>> x = jnp.arange(4)
      >>> x.at[1].set(10)
      Array([ 0, 10,  2,  3], dtype=int32)
      >>> x.at[jnp.array([0, 0])].add(1)
      Array([2, 1, 2, 3], dtype=int32)
    """

    __slots__ = ("array",)

    def __init__(self, array):
        self.array = array

    def __getitem__(self, index) -> IndexUpdateRef:
        return IndexUpdateRef(self.array, index)

    def __repr__(self):
        return f"_IndexUpdateHelper({self.array!r})"


@public_class
class IndexUpdateRef:
    """``x.at[index]``: see `IndexUpdateHelper`."""

    __slots__ = ("array", "index")

    def __init__(self, array, index):
        self.array, self.index = array, index

    def __repr__(self):
        return f"_IndexUpdateRef({self.array!r}, {self.index!r})"

    def get(
        self, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, fill_value=None,
        out_sharding=None,
        wrap_negative_indices: bool = True,
    ):  # fmt: skip
        """``x[index]`` with a choice of mode.

        Args:
          indices_are_sorted, unique_indices, mode, wrap_negative_indices: see `IndexUpdateHelper`.
          fill_value: what the mode "fill" gives outside; by default NaN, the least signed or
            greatest unsigned integer, True.
        """
        return index_array(
            self.array, self.index, indices_are_sorted=indices_are_sorted, unique_indices=unique_indices, mode=mode,
            fill_value=fill_value,
            wrap=wrap_negative_indices,
        )  # fmt: skip

    def set(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] = values``."""
        return update(
            self.array, self.index, values, "set", indices_are_sorted, unique_indices, mode, wrap_negative_indices
        )

    def add(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] += values``; repeated indices add repeatedly."""
        return update(
            self.array, self.index, values, "add", indices_are_sorted, unique_indices, mode, wrap_negative_indices
        )

    def subtract(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] -= values``; repeated indices subtract repeatedly."""
        return update(
            self.array, self.index, values, "sub", indices_are_sorted, unique_indices, mode, wrap_negative_indices
        )

    def multiply(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] *= values``; repeated indices multiply repeatedly."""
        return update(
            self.array, self.index, values, "mul", indices_are_sorted, unique_indices, mode, wrap_negative_indices
        )

    mul = multiply

    def min(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] = minimum(x[index], values)``."""
        return update(
            self.array, self.index, values, "min", indices_are_sorted, unique_indices, mode, wrap_negative_indices
        )

    def max(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] = maximum(x[index], values)``."""
        return update(
            self.array, self.index, values, "max", indices_are_sorted, unique_indices, mode, wrap_negative_indices
        )

    def divide(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] /= values``."""
        ones = lax.full_like(self.array, 1)
        return divide(
            self.array,
            update(ones, self.index, values, "mul", indices_are_sorted, unique_indices, mode, wrap_negative_indices),
        )

    def power(
        self, values, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode=None, out_sharding=None,
        wrap_negative_indices: bool = True
    ):  # fmt: skip
        """The array after ``x[index] **= values``."""
        ones = lax.full_like(self.array, 1)
        return power(
            self.array,
            update(ones, self.index, values, "mul", indices_are_sorted, unique_indices, mode, wrap_negative_indices),
        )

    def apply(
        self,
        func: Callable,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode=None,
        wrap_negative_indices: bool = True,
    ):
        """The array after ``x[index] = func(x[index])``, ``func`` being a function of a scalar;
        repeated indices apply it repeatedly.
        """
        x = self.array
        if mode is not None:
            mode = lax.GatherScatterMode.from_any(mode)
        plan, operands = make_plan(x.shape, self.index, wrap_negative_indices)
        spec = (func, plan, indices_are_sorted, unique_indices, mode)
        eager = type(x) is ArrayImpl and _get_trace() is None
        return (_apply_call if eager else _applied)(x, tuple(operands), spec)

    def _cannot(self, name: str, method: str):
        raise TypeError(
            f"x.at[idx] {name} y has no effect on x, as arrays are immutable: use x = x.at[idx].{method}(y)"
        )

    def __iadd__(self, other):
        self._cannot("+=", "add")

    def __isub__(self, other):
        self._cannot("-=", "subtract")

    def __imul__(self, other):
        self._cannot("*=", "multiply")

    def __itruediv__(self, other):
        self._cannot("/=", "divide")
