"""Reductions over axes, argmin/argmax, and cumulative operations."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.config import config
from velax._lang.primitive import Primitive, define
from velax._lang.trace import get_aval
from velax._transforms.batching import reducer_batcher
from velax._transforms.zero import Zero, ops
from velax.lax._rules import ARITH, BITS, ORDERED, check_dtype, linear_jvp
from velax.lax._values import core_args, full_like

__all__ = [
    "argmax", "argmax_p", "argmin", "argmin_p", "cumlogsumexp", "cumlogsumexp_p", "cummax", "cummax_p", "cummin",
    "cummin_p", "cumprod", "cumprod_p", "cumsum", "cumsum_p", "reduce_and", "reduce_and_p", "reduce_max",
    "reduce_max_p", "reduce_min", "reduce_min_p", "reduce_or", "reduce_or_p", "reduce_prod", "reduce_prod_p",
    "reduce_sum", "reduce_sum_p", "reduce_xor", "reduce_xor_p",
]  # fmt: skip


def _is_16_bit_float(dtype) -> bool:
    return dtypes.is_floating(dtype) and dtype.itemsize == 2


def _reduction_type(name, classes):
    def rule(x, *, axes, out_sharding=None):
        if classes is BITS and not (x.dtype == np.bool_ or dtypes.is_integer(x.dtype)):
            raise TypeError(f"logical reduction requires operand dtype bool or int, got {x.dtype}.")
        check_dtype(name, x, classes)
        if name == "reduce_sum" and axes and _is_16_bit_float(x.dtype) and not config.jax_allow_f16_reductions:
            raise ValueError(
                f"reduce_sum on operand {x.str_short(True)} is not allowed when jax_allow_f16_reductions=False. "
                "jnp.sum(x) without a dtype adds in float32, as does a sum of x.astype('float32')."
            )
        if len(set(axes)) != len(axes):
            raise ValueError(f"duplicate value in 'axes' of reduction: {axes}")
        if not all(0 <= a < len(x.shape) for a in axes):
            raise ValueError(f"{name}: axes {axes} out of bounds for shape {x.shape}")
        return shaped_array(tuple(n for i, n in enumerate(x.shape) if i not in axes), x.dtype, x.weak_type)

    return rule


def _define_reduction(name, fn, classes, jvp, transpose=None, linear_in=None) -> Primitive:
    p = define(
        name,
        abstract_eval=_reduction_type(name, classes),
        lower=lambda ctx, x, *, axes, **_: ctx.builder.reduce(fn, x, axes),
        jvp=jvp,
        transpose=transpose,
        batch=None,
        linear_in=linear_in,
    )
    p.rules["batch"] = reducer_batcher(p)
    return p


def _keepdims(x, reduced, axes):
    """A reduced value broadcast back over the operand's shape."""
    shape = get_aval(x).shape
    return ops.broadcast_in_dim(reduced, shape, tuple(i for i in range(len(shape)) if i not in axes))


def _sum_transpose(ct, x, *, axes, **_):
    if type(ct) is Zero:
        return [Zero(x.aval)]
    shape = x.aval.shape
    return [ops.broadcast_in_dim(ct, shape, tuple(i for i in range(len(shape)) if i not in axes))]


reduce_sum_p = _define_reduction("reduce_sum", "add", ARITH, linear_jvp(lambda: reduce_sum_p), _sum_transpose, (0,))


def _prod_jvp(primals, tangents, *, axes, **params):
    """The derivative by element is the product of all others, which exclusive cumulative products from both
    ends give without division.
    """
    (x,), (t,) = primals, tangents
    out = reduce_prod_p.bind(x, axes=axes, **params)
    if type(t) is Zero:
        return out, Zero.from_primal_value(out)
    shape = get_aval(x).shape
    kept = [i for i in range(len(shape)) if i not in axes]
    rows = (*(shape[i] for i in kept), math.prod(shape[i] for i in axes))
    flat = ops.reshape(ops.transpose(x, (*kept, *axes)), rows)
    others = ops.mul(_exclusive_product(flat, False), _exclusive_product(flat, True))
    flat_t = ops.reshape(ops.transpose(t, (*kept, *axes)), rows)
    return out, reduce_sum(ops.mul(flat_t, others), (len(kept),))


def _exclusive_product(x, reverse):
    """Along the last axis, the product of the elements before (or after) each one."""
    axis = get_aval(x).ndim - 1
    n = get_aval(x).shape[axis]
    if n == 0:
        return x
    shifted = ops.shift(x, axis, -1 if reverse else 1, full_like(x, 1))
    return cumprod(shifted, axis, reverse)


reduce_prod_p = _define_reduction("reduce_prod", "mul", ARITH, _prod_jvp)


def _extremum_jvp(primitive):
    def rule(primals, tangents, *, axes, **params):
        (x,), (t,) = primals, tangents
        out = primitive().bind(x, axes=axes, **params)
        if type(t) is Zero:
            return out, Zero.from_primal_value(out)
        mask = ops.convert(ops.eq(x, _keepdims(x, out, axes)), get_aval(x).dtype)
        count = reduce_sum(mask, axes)
        return out, ops.div(reduce_sum(ops.mul(t, mask), axes), count)

    return rule


reduce_max_p = _define_reduction("reduce_max", "max", ORDERED, _extremum_jvp(lambda: reduce_max_p))
reduce_min_p = _define_reduction("reduce_min", "min", ORDERED, _extremum_jvp(lambda: reduce_min_p))


def _no_tangent(primitive):
    def rule(primals, tangents, **params):
        out = primitive().bind(*primals, **params)
        return out, Zero.from_primal_value(out)

    return rule


reduce_and_p = _define_reduction("reduce_and", "and", BITS, _no_tangent(lambda: reduce_and_p))
reduce_or_p = _define_reduction("reduce_or", "or", BITS, _no_tangent(lambda: reduce_or_p))
reduce_xor_p = _define_reduction("reduce_xor", "xor", BITS, _no_tangent(lambda: reduce_xor_p))


def _bind_reduction(name, primitive, operand, axes):
    (operand,) = core_args(name, operand)
    ndim = get_aval(operand).ndim
    axes = tuple(operator.index(a) for a in axes)
    if not all(0 <= a < ndim for a in axes):
        raise ValueError(
            f"{name}: reduction axes {axes} contains out-of-bounds indices for {get_aval(operand).str_short()}."
        )
    if primitive is reduce_sum_p or primitive is reduce_prod_p:
        return (
            primitive.bind(operand, axes=axes, out_sharding=None)
            if primitive is reduce_sum_p
            else primitive.bind(operand, axes=axes)
        )
    return primitive.bind(operand, axes=axes)


def reduce_sum(operand, axes: Sequence[int], *, out_sharding=None):
    """Sum over axes.

    Args:
      operand: an array of numbers.
      axes: the axes to sum over.
      out_sharding: placement; None, as there is one device.

    Returns:
      An array without these axes, of the same dtype; float16 and bfloat16 accumulate in float32.
    """
    if out_sharding is not None:
        raise NotImplementedError("lax.reduce_sum: out_sharding is not available yet; there is one device")
    return _bind_reduction("reduce_sum", reduce_sum_p, operand, axes)


def reduce_prod(operand, axes: Sequence[int]):
    """Product over axes; as `reduce_sum`."""
    return _bind_reduction("reduce_prod", reduce_prod_p, operand, axes)


def reduce_max(operand, axes: Sequence[int]):
    """Maximum over axes; NaN wins; of nothing, the least value of the dtype (-inf for floats that have it)."""
    return _bind_reduction("reduce_max", reduce_max_p, operand, axes)


def reduce_min(operand, axes: Sequence[int]):
    """Minimum over axes; NaN wins; of nothing, the greatest value of the dtype (inf for floats that have it)."""
    return _bind_reduction("reduce_min", reduce_min_p, operand, axes)


def reduce_and(operand, axes: Sequence[int]):
    """Bitwise (or logical) AND over axes."""
    return _bind_reduction("reduce_and", reduce_and_p, operand, axes)


def reduce_or(operand, axes: Sequence[int]):
    """Bitwise (or logical) OR over axes."""
    return _bind_reduction("reduce_or", reduce_or_p, operand, axes)


def reduce_xor(operand, axes: Sequence[int]):
    """Bitwise (or logical) exclusive OR over axes."""
    return _bind_reduction("reduce_xor", reduce_xor_p, operand, axes)


# -- argmin, argmax ------------------------------------------------------------------------------


def _arg_type(name):
    def rule(x, *, axes, index_dtype):
        check_dtype(name, x, ORDERED)
        (axis,) = axes
        if not 0 <= axis < len(x.shape):
            raise ValueError(f"Invalid axis {axis} for operand shape {x.shape} in {name}")
        if x.shape[axis] == 0:
            raise ValueError(f"argmin and argmax require non-empty reduced dimension. operand.shape={x.shape} {axis=}")
        if not dtypes.is_integer(index_dtype):
            raise TypeError(f"{name}: index_dtype must be an integer type, but got {index_dtype}")
        return shaped_array(x.shape[:axis] + x.shape[axis + 1 :], index_dtype)

    return rule


def _define_arg(name) -> Primitive:
    p = define(
        name,
        abstract_eval=_arg_type(name),
        lower=lambda ctx, x, *, axes, index_dtype: ctx.builder.argreduce(name, x, axes[0], dtypes.ir_name(index_dtype)),
        jvp=None,
        transpose=None,
        batch=None,
    )
    p.rules["jvp"] = _no_tangent(lambda: p)
    p.rules["batch"] = reducer_batcher(p)
    return p


argmin_p, argmax_p = _define_arg("argmin"), _define_arg("argmax")


def _bind_arg(name, primitive, operand, axis, index_dtype):
    (operand,) = core_args(name, operand)
    return primitive.bind(operand, axes=(operator.index(axis),), index_dtype=dtypes.canonicalize_dtype(index_dtype))


def argmin(operand, axis: int, index_dtype):
    """The index of the first minimum along an axis (of the first NaN, if there is one)."""
    return _bind_arg("argmin", argmin_p, operand, axis, index_dtype)


def argmax(operand, axis: int, index_dtype):
    """The index of the first maximum along an axis (of the first NaN, if there is one)."""
    return _bind_arg("argmax", argmax_p, operand, axis, index_dtype)


# -- cumulative operations -----------------------------------------------------------------------


def _cumulative_type(name, classes):
    def rule(x, *, axis, reverse):
        check_dtype(name, x, classes)
        if not 0 <= axis < len(x.shape):
            raise ValueError(f"axis {axis} is out of bounds for array of shape {x.shape} in {name}")
        return shaped_array(x.shape, x.dtype, x.weak_type)

    return rule


def _define_cumulative(name, fn, classes, jvp, transpose=None, linear_in=None) -> Primitive:
    p = define(
        name,
        abstract_eval=_cumulative_type(name, classes),
        lower=lambda ctx, x, *, axis, reverse: ctx.builder.cumulate(fn, x, axis, reverse),
        jvp=jvp,
        transpose=transpose,
        batch=None,
        linear_in=linear_in,
    )
    p.rules["batch"] = lambda args, dims, *, axis, reverse: (
        p.bind(args[0], axis=axis + (axis >= dims[0]), reverse=reverse), dims[0],
    )  # fmt: skip
    return p


cumsum_p = _define_cumulative(
    "cumsum",
    "add",
    ARITH,
    linear_jvp(lambda: cumsum_p),
    lambda ct, x, *, axis, reverse: [Zero(x.aval) if type(ct) is Zero else cumsum(ct, axis, not reverse)],
    (0,),
)


def _cumulative_jvp(primitive, combine):
    """Differentiate through an associative scan of the same operation."""

    def rule(primals, tangents, *, axis, reverse):
        (x,), (t,) = primals, tangents
        out = primitive().bind(x, axis=axis, reverse=reverse)
        if type(t) is Zero:
            return out, Zero.from_primal_value(out)
        return out, ops.associative_scan_tangent(combine, x, t, axis, reverse)

    return rule


cumprod_p = _define_cumulative("cumprod", "mul", ARITH, _cumulative_jvp(lambda: cumprod_p, "mul"))
cummax_p = _define_cumulative("cummax", "max", ORDERED[:2], _cumulative_jvp(lambda: cummax_p, "max"))
cummin_p = _define_cumulative("cummin", "min", ORDERED[:2], _cumulative_jvp(lambda: cummin_p, "min"))


def _cumlogsumexp_jvp(primals, tangents, *, axis, reverse):
    (x,), (t,) = primals, tangents
    out = cumlogsumexp_p.bind(x, axis=axis, reverse=reverse)
    if type(t) is Zero:
        return out, Zero.from_primal_value(out)
    # d out_i = sum_{j<=i} exp(x_j - out_i) t_j, kept in range by the total
    axis_max = _keepdims(x, reduce_max(x, (axis,)), (axis,))
    safe = ops.select(ops.is_finite(axis_max), axis_max, ops.full(get_aval(x), 0))
    weighted = cumsum(ops.mul(ops.exp(ops.sub(x, safe)), t), axis, reverse)
    return out, ops.mul(weighted, ops.exp(ops.sub(safe, out)))


cumlogsumexp_p = _define_cumulative("cumlogsumexp", "logaddexp", (np.floating,), _cumlogsumexp_jvp)


def _bind_cumulative(name, primitive, operand, axis, reverse):
    (operand,) = core_args(name, operand)
    axis = operator.index(axis)
    if axis < 0:
        raise ValueError(f"{name}: XLA operations do not allow negative axes, got {axis}; add the number of axes")
    return primitive.bind(operand, axis=axis, reverse=bool(reverse))


def cumsum(operand, axis: int = 0, reverse: bool = False):
    """Cumulative sum along an axis, from the end if ``reverse``."""
    return _bind_cumulative("cumsum", cumsum_p, operand, axis, reverse)


def cumprod(operand, axis: int = 0, reverse: bool = False):
    """Cumulative product along an axis; as `cumsum`."""
    return _bind_cumulative("cumprod", cumprod_p, operand, axis, reverse)


def cummax(operand, axis: int = 0, reverse: bool = False):
    """Cumulative maximum along an axis; as `cumsum`."""
    return _bind_cumulative("cummax", cummax_p, operand, axis, reverse)


def cummin(operand, axis: int = 0, reverse: bool = False):
    """Cumulative minimum along an axis; as `cumsum`."""
    return _bind_cumulative("cummin", cummin_p, operand, axis, reverse)


def cumlogsumexp(operand, axis: int = 0, reverse: bool = False):
    """Cumulative logarithm of the sum of exponentials along an axis; as `cumsum`."""
    return _bind_cumulative("cumlogsumexp", cumlogsumexp_p, operand, axis, reverse)
