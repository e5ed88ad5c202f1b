"""Sorting: sort, sort_key_val, top_k."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import Zero
from velax.lax._structural import broadcasted_iota
from velax.lax._take import take_along
from velax.lax._values import core_args

__all__ = ["sort", "sort_key_val", "sort_p", "top_k", "top_k_p"]


def _axis_in(axis, ndim: int) -> int:
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return axis % ndim


# -- sort ----------------------------------------------------------------------------------------


def _sort_type(*avals, dimension, is_stable, num_keys):
    if not avals:
        raise TypeError("Sort requires at least one operand")
    if any(a.shape != avals[0].shape for a in avals):
        raise TypeError(f"Arguments to sort must have equal shapes, got: {' '.join(str(a.shape) for a in avals)}")
    if not 1 <= num_keys <= len(avals):
        raise ValueError(f"{num_keys=} must be between 1 and len(operand)={len(avals)}")
    if not 0 <= dimension < len(avals[0].shape):
        raise ValueError(f"axis {dimension} is out of bounds for array of dimension {len(avals[0].shape)}")
    for i, a in enumerate(avals[:num_keys]):
        if dtypes.is_extended(a.dtype):
            raise TypeError(
                f"sort does not accept dtype {a.dtype} as a key at position {i}; sort numbers, and pass these as "
                "further operands"
            )
    return list(avals)


def _sort_jvp(primals, tangents, *, dimension, **params):
    if all(type(t) is Zero for t in tangents):
        outs = sort_p.bind(*primals, dimension=dimension, **params)
        return outs, [Zero.from_primal_value(o) for o in outs]
    positions = broadcasted_iota(np.uint32, get_aval(primals[0]).shape, dimension)
    *outs, order = sort_p.bind(*primals, positions, dimension=dimension, **params)
    return outs, [
        Zero.from_primal_value(o) if type(t) is Zero else take_along(t, order, dimension)
        for o, t in zip(outs, tangents, strict=True)
    ]


def _sort_batch(args, dims, *, dimension, **params):
    d = next(d for d in dims if d is not None)
    size = next(get_aval(x).shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    moved = [matchaxis(size, dim, d, x) for x, dim in zip(args, dims, strict=True)]
    return sort_p.bind(*moved, dimension=dimension + (d <= dimension), **params), [d] * len(args)


def _sort_lower(ctx, *xs, dimension, is_stable, num_keys):
    """Complex operands are pairs of real ones: keys are compared by real part, then imaginary part."""
    b = ctx.builder
    parts, keys = [], 0
    for i, x in enumerate(xs):
        own = [b.map("real", x), b.map("imag", x)] if x.dtype in ("c64", "c128") else [x]
        parts += own
        keys += len(own) if i < num_keys else 0
    results = iter(b.sort(parts, dimension, keys))
    return [b.map("complex", next(results), next(results)) if x.dtype in ("c64", "c128") else next(results) for x in xs]


sort_p = define(
    "sort",
    abstract_eval=_sort_type,
    lower=_sort_lower,
    jvp=_sort_jvp,
    transpose=None,
    batch=_sort_batch,
    multiple_results=True,
)


def sort(operand, dimension: int = -1, is_stable: bool = True, num_keys: int = 1):
    """Sort along an axis, ascending.

    Args:
      operand: an array, or a sequence of arrays of one shape that are permuted together.
      dimension: the axis.
      is_stable: whether equal keys keep their order (they always do).
      num_keys: how many of the operands, from the first, are keys; they are compared lexicographically.

    Returns:
      An array, or a tuple of arrays. NaNs come last; -0.0 and 0.0 are equal; complex numbers are
      compared by real part, then imaginary part.

    Raises:
      TypeError: if the shapes differ.
      ValueError: for an axis or ``num_keys`` out of range.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.sort(jnp.array([3, 1, 2]))
      Array([1, 2, 3], dtype=int32)
    """
    single = not isinstance(operand, (tuple, list))
    operands: Sequence = (operand,) if single else operand
    if not operands:
        raise TypeError("Sort requires at least one operand")
    if not 1 <= num_keys <= len(operands):
        raise ValueError(f"{num_keys=} must be between 1 and len(operand)={len(operands)}")
    operands = core_args("sort", *operands, same_dtype=False)
    dimension = _axis_in(dimension, get_aval(operands[0]).ndim)
    outs = sort_p.bind(*operands, dimension=dimension, is_stable=bool(is_stable), num_keys=operator.index(num_keys))
    return outs[0] if single else tuple(outs)


def sort_key_val(keys, values, dimension: int = -1, is_stable: bool = True):
    """``keys`` sorted along an axis, and ``values`` permuted alike."""
    keys_out, values_out = sort((keys, values), dimension, is_stable, 1)
    return keys_out, values_out


# -- top_k ---------------------------------------------------------------------------------------


def _top_k_type(x, *, k, axis):
    if dtypes.is_complex(x.dtype):
        raise ValueError(f"top_k is not compatible with complex inputs. Got {x.str_short()}; take those of its abs.")
    if dtypes.is_extended(x.dtype):
        raise TypeError(f"top_k does not accept dtype {x.dtype}; it takes real numbers and booleans.")
    if k < 0:
        raise ValueError(f"k argument to top_k must be nonnegative, got {k}")
    if not 0 <= axis < len(x.shape):
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {len(x.shape)}")
    if x.shape[axis] < k:
        raise ValueError(
            f"k argument to top_k must be no larger than size along axis; got {k=} with shape={list(x.shape)} and "
            f"{axis=}"
        )
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [shaped_array(shape, x.dtype, x.weak_type), shaped_array(shape, np.dtype(np.int32))]


def _descending_key(b, x):
    """Integers whose ascending order is the descending order of ``x``; of floats the total order, in which
    NaN is above inf and 0.0 above -0.0.
    """
    if x.dtype in ("bool",) or x.dtype[0] in "iu":
        return b.map("not", x)
    bits = dtypes.itemsize_bits(dtypes.dtype_of_ir_name(x.dtype))
    name = f"i{bits}"
    raw = b.bitcast(x, name)
    full = lambda value: b.full(x.shape, value, name)
    # negative floats have descending bit patterns: flip all bits but the sign's
    ordered = b.map("xor", raw, b.map("and", b.map("shra", raw, full(bits - 1)), full((1 << bits - 1) - 1)))
    return b.map("not", ordered)


def _top_k_lower(ctx, x, *, k, axis):
    b = ctx.builder
    keys, positions = _descending_key(b, x), b.iota(x.shape, "i32", axis)
    return b.sort([keys, x, positions], axis, 1, first=k)[1:]


def _top_k_jvp(primals, tangents, *, k, axis):
    (x,), (t,) = primals, tangents
    values, indices = top_k_p.bind(x, k=k, axis=axis)
    no_tangent = Zero.from_primal_value(indices)
    if type(t) is Zero:
        return [values, indices], [Zero.from_primal_value(values), no_tangent]
    return [values, indices], [take_along(t, indices, axis), no_tangent]


def _top_k_batch(args, dims, *, k, axis):
    (x,), (d,) = args, dims
    return top_k_p.bind(x, k=k, axis=axis + (d <= axis)), [d, d]


top_k_p = define(
    "top_k",
    abstract_eval=_top_k_type,
    lower=_top_k_lower,
    jvp=_top_k_jvp,
    transpose=None,
    batch=_top_k_batch,
    multiple_results=True,
)


def top_k(operand, k: int, *, axis: int = -1):
    """The ``k`` greatest elements along an axis, in descending order, and their indices.

    Args:
      operand: an array of real numbers or booleans.
      k: how many.
      axis: the axis.

    Returns:
      A pair (values, int32 indices). Of equal elements the first comes first; NaN counts as greatest.

    Raises:
      ValueError: if ``k`` is negative or larger than the axis, or the operand complex.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.top_k(jnp.array([1., 3., 2.]), 2)
      [Array([3., 2.], dtype=float32), Array([1, 2], dtype=int32)]
    """
    (operand,) = core_args("top_k", operand)
    try:
        k = operator.index(k)
    except TypeError:
        raise TypeError(f"top_k: k must be a Python integer, as it is the size of the result; got {k!r}") from None
    if k < 0:
        raise ValueError(f"k argument to top_k must be nonnegative, got {k}")
    return top_k_p.bind(operand, k=k, axis=_axis_in(axis, get_aval(operand).ndim))
