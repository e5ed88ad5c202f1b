"""Indexing: what ``x[index]`` computes, and the functions that take, put, choose and find elements."""

from __future__ import annotations

import numpy as np

from velax import _native, lax
from velax._lang.array import ArrayImpl
from velax._lang.trace import concrete_or_error, get_aval
from velax._transforms.jit import jit
from velax.numpy._index_plan import (
    dynamic_part,
    gather_at,
    is_static,
    make_gather,
    make_plan,
    static_part,
)

__all__: list[str] = []

_get_trace = _native.get_trace


# -- x[index] -------------------------------------------------------------------------------------------------------------


def _indexed(x, operands, spec):
    """The part of ``x`` that a plan selects, by the cheapest operations that express it."""
    plan, indices_are_sorted, unique_indices, mode, fill_value = spec
    shape = get_aval(x).shape
    if mode is not lax.GatherScatterMode.FILL_OR_DROP and "flag" not in plan:
        out = static_part(x, shape, plan, operands) if is_static(operands) else None
        if out is None:
            out = dynamic_part(x, shape, plan, operands)
        if out is not None:
            return out
    g = make_gather(shape, plan, operands)
    return gather_at(x, g, indices_are_sorted=indices_are_sorted, unique_indices=unique_indices, mode=mode, fill_value=fill_value)


_indexed_call = jit(_indexed, static_argnums=(2,))


def index_array(x, index, *, indices_are_sorted=False, unique_indices=False, mode=None, fill_value=None, wrap=True):
    """``x[index]``, with what `IndexUpdateRef.get` takes."""
    if mode is not None:
        mode = lax.GatherScatterMode.from_any(mode)
    elif fill_value is not None:
        mode = lax.GatherScatterMode.FILL_OR_DROP
    if mode is not lax.GatherScatterMode.FILL_OR_DROP:
        fill_value = None
    elif fill_value is not None:
        fill_value = _static_scalar(fill_value)
    eager = type(x) is ArrayImpl and _get_trace() is None
    if eager and _is_mask(index):
        return _select_by_mask(x, index)
    plan, operands = make_plan(x.shape, index, wrap)
    spec = (plan, indices_are_sorted, unique_indices, mode, fill_value)
    return (_indexed_call if eager else _indexed)(x, tuple(operands), spec)


def _static_scalar(value):
    value = concrete_or_error(None, value, "fill_value of an index must be static")
    if type(value) in (bool, int, float, complex):
        return value
    if np.shape(value):
        raise ValueError(f"fill_value must be a scalar, got shape {np.shape(value)}")
    return np.asarray(value).item()


def _is_mask(index) -> bool:
    kind = type(index)
    return (kind is ArrayImpl or kind is np.ndarray) and index.dtype == np.bool_ and index.ndim > 0


def _select_by_mask(x, mask):
    """Elements under a mask, outside of programs: the size of the result is data, so that a compiled program would serve once."""
    if mask.shape != x.shape[: mask.ndim]:
        make_plan(x.shape, mask)  # raises
    found = np.asarray(x)[np.asarray(mask)]
    return _with_weak_type(_native.array_from_numpy(found, x.weak_type), x)


def _with_weak_type(out, x):
    return out if out.weak_type == x.weak_type else _native.array_with_weak_type(out, x.weak_type)


def getitem(x, index):
    return index_array(x, index)


def iterate(x):
    """The rows of an array, staged where it is traced."""
    shape = get_aval(x).shape
    if not shape:
        raise TypeError("iteration over a 0-d array")
    return (lax.index_in_dim(x, i, keepdims=False) for i in range(shape[0]))
