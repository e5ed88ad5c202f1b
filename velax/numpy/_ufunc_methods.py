"""What the methods of ufuncs do: a walk over the elements, or a shorter way of the library's own."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

import velax.numpy as jnp
from velax import lax
from velax._lang import dtypes
from velax._lang.avals import ShapeDtypeStruct
from velax._lang.trace import get_aval
from velax._transforms.inspecting import eval_shape
from velax.lax._structural import convert_type
from velax.numpy._reductions import reduced_axes, static_axes
from velax.numpy._util import check_arraylike, compiled, promote_dtypes_inexact

__all__ = ["LIBRARY", "accumulate", "at", "reduce", "reduceat"]


# -- any function: a walk over the elements ------------------------------------------------------


def _first_axis(a, axis: int, dtype):
    """``a`` with the axis first, in a dtype."""
    return convert_type(jnp.moveaxis(a, axis, 0), dtype, False)


def _result_dtype(f, method: str, dtype, a, *rest):
    """A dtype argument, by default the dtype of ``f`` of elements of arrays."""
    if dtype is not None:
        return dtypes.check_user_dtype_supported(dtype, f"{f.__name__}.{method}")
    scalars = [ShapeDtypeStruct((), get_aval(x).dtype, weak_type=get_aval(x).weak_type) for x in (a, *rest)]
    return eval_shape(f, *scalars).dtype


def reduce(f, a, *, axis, dtype, keepdims, initial, where):
    if isinstance(axis, (tuple, list)):
        raise NotImplementedError(
            f"{f.__name__}.reduce: a tuple of axes, {axis}, is not supported; reduce one axis, or all with None"
        )
    axis = None if axis is None else operator.index(axis)
    return _reduce_of(a, initial, where, f=f, axis=axis, dtype=dtype, keepdims=bool(keepdims))


@compiled(static=("f", "axis", "dtype", "keepdims"))
def _reduce_of(a, initial, where, *, f, axis, dtype, keepdims):
    ndim = get_aval(a).ndim
    if where is not None:
        where = jnp.broadcast_to(where, get_aval(a).shape)
    if axis is None:
        a, where, axis, kept = jnp.ravel(a), None if where is None else jnp.ravel(where), 0, (1,) * ndim
    else:
        kept = None
    of = _result_dtype(f, "reduce", dtype, a, a)
    a = _first_axis(a, axis, of)
    where = None if where is None else jnp.moveaxis(where, axis, 0)
    n, *shape = get_aval(a).shape
    start = f.identity if initial is None else initial
    if start is None and not n:
        raise ValueError(f"zero-size array to reduction operation {f.__name__} which has no identity")
    if start is None:
        start, a = a[0], a[1:]

    def step(carry, x):
        element, count = x
        joined = f(carry, element)
        return joined if count is None else jnp.where(count, joined, carry), None

    out, _ = lax.scan(step, jnp.broadcast_to(jnp.asarray(start, of), shape), (a, where))
    if not keepdims:
        return out
    return jnp.expand_dims(out, axis) if kept is None else jnp.reshape(out, kept)


def accumulate(f, a, *, axis, dtype):
    check_arraylike(f"{f.__name__}.accumulate", a)
    if axis is None or isinstance(axis, (tuple, list)):
        raise ValueError(f"accumulate does not allow multiple axes, got {axis}; pass one")
    return _accumulate_of(a, f=f, axis=operator.index(axis), dtype=dtype)


@compiled(static=("f", "axis", "dtype"))
def _accumulate_of(a, *, f, axis, dtype):
    a = _first_axis(a, axis, _result_dtype(f, "accumulate", dtype, a, a))
    if not get_aval(a).shape[0]:
        return jnp.moveaxis(a, 0, axis)

    def step(carry, x):
        joined = f(carry, x)
        return joined, joined

    _, rest = lax.scan(step, a[0], a[1:])
    return jnp.moveaxis(jnp.concatenate([a[:1], rest]), 0, axis)


def reduceat(f, a, indices, *, axis, dtype):
    if axis is None or isinstance(axis, (tuple, list)):
        raise ValueError(f"reduceat requires a single integer axis, got {axis}")
    return _reduceat_of(a, indices, f=f, axis=operator.index(axis), dtype=dtype)


@compiled(static=("f", "axis", "dtype"))
def _reduceat_of(a, indices, *, f, axis, dtype):
    for what, x, right in (("a must have 1 or more dimension", a, get_aval(a).ndim > 0),
                           ("indices must be one-dimensional", indices, get_aval(indices).ndim == 1)):  # fmt: skip
        if not right:
            raise ValueError(f"reduceat: {what}, got shape {get_aval(x).shape}")
    if not dtypes.is_integer(get_aval(indices).dtype):
        raise ValueError(f"indices must have an integer type in reduceat, got {get_aval(indices).dtype}")
    a = _first_axis(a, axis, dtypes.check_user_dtype_supported(get_aval(a).dtype if dtype is None else dtype))
    n, *shape = get_aval(a).shape
    if not get_aval(indices).shape[0]:
        return jnp.moveaxis(jnp.take(a, indices, axis=0), 0, axis)
    ends = jnp.append(indices[1:], n)

    def step(joined, x):
        place, element = x
        inside = jnp.reshape((indices < place) & (place < ends), (-1,) + (1,) * len(shape))
        return jnp.where(inside, f(joined, element), joined), None

    places = jnp.arange(n, dtype=get_aval(ends).dtype)
    out, _ = lax.scan(step, jnp.take(a, indices, axis=0), (places, a))
    return jnp.moveaxis(out, 0, axis)


def at(f, a, indices, *rest):
    a, rest = jnp.asarray(a), tuple(map(jnp.asarray, rest))
    of = _result_dtype(f, "at", None, a, *rest)
    # indexing the elements' numbers makes one list of any kind of index; what lies outside has the
    # number of none
    places = jnp.arange(a.size).reshape(a.shape).at[indices].get(mode="fill", fill_value=a.size)
    rest = tuple(jnp.broadcast_to(x, places.shape).ravel() for x in rest)
    return _update(a.astype(of).ravel(), places.ravel(), *rest, f=f).reshape(a.shape)


@compiled(static=("f",))
def _update(a, places, *rest, f):
    def step(a, x):
        place, *values = x
        return a.at[place].set(f(a.at[place].get(mode="clip"), *values), mode="drop"), None

    return lax.scan(step, a, (places, *rest))[0] if get_aval(a).shape[0] else a


# -- the library's functions ---------------------------------------------------------------------


def _reduced_by(reduction: Callable) -> Callable:
    """``reduce`` as a reduction of `velax.numpy`."""

    def reduce(a, *, axis, dtype, keepdims, initial, where):
        return reduction(
            a if dtype is None else jnp.astype(a, dtype), axis=axis, keepdims=keepdims, initial=initial, where=where
        )

    return reduce


def _folded_by(reducer: Callable, combine: Callable, identity, truth: bool = False) -> Callable:
    """``reduce`` of an associative function, with several axes at once.

    Args:
      reducer: ``reducer(a, axes)`` joins the elements along axes.
      combine: joins two arrays.
      identity: what elements that are left out count as.
      truth: whether it is a function of truth values.
    """

    @compiled(static=("axis", "dtype", "keepdims"))
    def folded(a, initial, where, *, axis, dtype, keepdims):
        a = jnp.asarray(a) != 0 if truth else jnp.asarray(a, dtype)
        if combine in _BITWISE and not (a.dtype == np.bool_ or dtypes.is_integer(a.dtype)):
            raise ValueError(f"integer argument required by {combine.__name__}.reduce; got dtype={a.dtype}")
        axes = reduced_axes(axis, a.ndim)
        if where is not None:
            a = jnp.where(where, a, np.asarray(identity).astype(a.dtype))
        out = reducer(a, axes)
        if initial is not None:
            out = combine(jnp.asarray(initial, None if truth else out.dtype), out)
        if keepdims:
            out = jnp.expand_dims(out, axes)
        return out.astype(out.dtype if dtype is None else dtype)

    def reduce(a, *, axis, dtype, keepdims, initial, where):
        return folded(a, initial, where, axis=static_axes(axis), dtype=dtype, keepdims=bool(keepdims))

    return reduce


def _log_sum(exp: Callable, log: Callable) -> Callable:
    """The reducer of sums in the logarithmic domain."""

    def reducer(a, axes):
        (a,) = promote_dtypes_inexact(a)
        top = lax.stop_gradient(jnp.max(jnp.real(a), axis=axes, keepdims=True, initial=-np.inf))
        top = jnp.where(jnp.isfinite(top), top, 0).astype(a.dtype)
        return log(jnp.sum(exp(a - top), axis=axes)) + lax.squeeze(top, axes)

    return reducer


def _updated_by(name: str) -> Callable:
    """``at`` as the method of this name of ``x.at``."""

    def at(a, indices, b):
        return getattr(jnp.asarray(a).at[indices], name)(b)

    return at


_BITWISE = (jnp.bitwise_and, jnp.bitwise_or, jnp.bitwise_xor)

LIBRARY: dict[str, dict[str, Callable]] = {
    "add": {"reduce": jnp.sum, "accumulate": jnp.cumsum, "at": _updated_by("add")},
    "subtract": {"at": _updated_by("subtract")},
    "multiply": {"reduce": jnp.prod, "accumulate": jnp.cumprod, "at": _updated_by("multiply")},
    "maximum": {"reduce": _reduced_by(jnp.max), "at": _updated_by("max")},
    "minimum": {"reduce": _reduced_by(jnp.min), "at": _updated_by("min")},
    "negative": {},
    "logical_and": {"reduce": _folded_by(lax.reduce_and, jnp.logical_and, True, truth=True)},
    "logical_or": {"reduce": _folded_by(lax.reduce_or, jnp.logical_or, False, truth=True)},
    "logical_xor": {"reduce": _folded_by(lax.reduce_xor, jnp.logical_xor, False, truth=True)},
    "bitwise_and": {"reduce": _folded_by(lax.reduce_and, jnp.bitwise_and, -1)},
    "bitwise_or": {"reduce": _folded_by(lax.reduce_or, jnp.bitwise_or, 0)},
    "bitwise_xor": {"reduce": _folded_by(lax.reduce_xor, jnp.bitwise_xor, 0)},
    "logaddexp": {"reduce": _folded_by(_log_sum(jnp.exp, jnp.log), jnp.logaddexp, -np.inf)},
    "logaddexp2": {"reduce": _folded_by(_log_sum(jnp.exp2, jnp.log2), jnp.logaddexp2, -np.inf)},
}
