"""Operands: from what users pass to values a primitive takes."""

from __future__ import annotations

import numpy as np

from velax._lang import dtypes
from velax._lang.array import ArrayImpl
from velax._lang.trace import Tracer, get_aval
from velax._transforms.zero import ops

__all__ = ["constant", "core_args", "full_like", "is_complex", "is_number", "python_scalar"]

_SCALARS = (bool, int, float, complex)


def core_args(name: str, *args, same_dtype: bool = True) -> list:
    """The operands of a `velax.lax` function, as arrays, tracers, NumPy values or Python scalars of one dtype.

    A Python scalar next to an array takes the array's dtype if its kind allows it (an int may become a float,
    not the reverse).

    Raises:
      TypeError: for what is no array, naming the function and the position.
    """
    out = []
    target = None
    has_scalar = False
    for i, x in enumerate(args):
        if isinstance(x, (ArrayImpl, Tracer)):
            if target is None:
                target = x.dtype
        elif type(x) in _SCALARS:
            has_scalar = True
        elif isinstance(x, (np.ndarray, np.generic)):
            if target is None:
                target = dtypes.canonicalize_dtype(x.dtype)
        elif hasattr(x, "__jax_array__"):
            x = x.__jax_array__()
            target = get_aval(x).dtype if target is None else target
        else:
            try:
                get_aval(x)
            except TypeError:
                raise TypeError(
                    f"Error interpreting argument to {name} as a JAX value. The problematic value is of type {type(x)} "
                    f"and was passed to {name} at position {i}."
                ) from None
        out.append(x)
    if has_scalar and target is not None and same_dtype and len(args) > 1:
        out = [_scalar_as(x, target) if type(x) in _SCALARS else x for x in out]
    return out


def _scalar_as(x, dtype):
    """A Python scalar as a NumPy scalar of an array operand's dtype, where that loses nothing of its kind;
    else unchanged.
    """
    if not isinstance(dtype, np.dtype):
        return x
    kind = type(x)
    if kind is bool:
        fits = dtype == np.bool_
    elif kind is int:
        fits = dtypes.issubdtype(dtype, np.number)
    elif kind is float:
        fits = dtypes.is_inexact(dtype)
    else:
        fits = dtypes.is_complex(dtype)
    if not fits:
        return x
    if kind is int:
        dtypes.check_python_int(x)
    if kind is int and dtypes.is_integer(dtype):
        info = dtypes.iinfo(dtype)
        if not info.min <= x <= info.max:
            raise OverflowError(f"Python int {x} too large to convert to {dtype.name}")
    return scalar_of(dtype, x, weak=True)


def scalar_of(dtype, x, weak: bool):
    """A number as a scalar of a dtype: weak ones are Python's, where the dtype is the default one of a Python type."""
    if weak:
        for python in _SCALARS[1:]:
            if dtypes.dtype_of_python_scalar(python) == dtype:
                return python(x)
    return dtype.type(x)


def is_number(x) -> bool:
    """Whether ``x`` is a number of Python or NumPy, whose value is known."""
    return type(x) in _SCALARS or isinstance(x, np.generic) or (isinstance(x, np.ndarray) and not x.shape)


def constant(x, dtype):
    """A number as a scalar of a dtype, converted as arrays are: floats to integers saturate, NaN is 0.

    Raises:
      OverflowError: for a Python int as an integer, if the default integer dtype does not hold it.
    """
    if type(x) is int and dtypes.is_integer(dtype):
        get_aval(x)  # raises
    value = np.asarray(float(x) if type(x) is int and dtypes.is_inexact(dtype) else x)
    if dtypes.is_complex(value.dtype) and not dtypes.is_complex(dtype) and dtype != np.bool_:
        value = value.real
    if dtypes.is_integer(dtype) and dtypes.is_inexact(value.dtype):
        info, number = dtypes.iinfo(dtype), float(value)
        value = np.asarray(0 if number != number else int(min(max(number, info.min), info.max)))
    return value.astype(dtype)[()]


def full_like(x, value):
    """``value`` with the type of ``x``, as a rank-0 operand where elementwise operations broadcast it."""
    aval = get_aval(x)
    return scalar_of(aval.dtype, value, aval.weak_type) if isinstance(aval.dtype, np.dtype) else ops.full(aval, value)


def is_complex(x) -> bool:
    return dtypes.is_complex(get_aval(x).dtype)


def python_scalar(value, dtype):
    """A number as the Python scalar that the graph's literals of a dtype hold."""
    if dtypes.is_complex(dtype):
        return complex(value)
    if dtypes.is_inexact(dtype):
        return float(value)
    return bool(value) if dtype == np.bool_ else int(value)
