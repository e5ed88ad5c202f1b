"""Products that sum over axes: dot_general, dot, batch_matmul; precision and algorithms."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from velax._lang import config, dtypes
from velax._lang.avals import shaped_array
from velax._lang.primitive import define
from velax._lang.promotion import promote_types
from velax._lang.trace import get_aval
from velax._transforms.zero import UndefinedPrimal, Zero, add_tangents
from velax.lax._structural import convert_type, transpose
from velax.lax._values import core_args, python_scalar

__all__ = [
    "DotAlgorithm", "DotAlgorithmPreset", "DotDimensionNumbers", "Precision", "PrecisionLike", "batch_matmul", "dot",
    "dot_general", "dot_general_p",
]  # fmt: skip

#: ((lhs contracted axes, rhs contracted axes), (lhs batch axes, rhs batch axes))
DotDimensionNumbers = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


# -- precision -----------------------------------------------------------------------------------


class Precision(enum.Enum):
    """How precisely a product of float32 arrays is computed where hardware offers a choice.

    On the CPU all are full precision. `dot_general` also accepts the names ``'default'``, ``'high'``,
    ``'highest'`` and their synonyms ``'bfloat16'``, ``'tensorfloat32'``, ``'float32'``.
    """

    DEFAULT = 0
    HIGH = 1
    HIGHEST = 2

    def __repr__(self):
        return str(self)


_PRECISION_NAMES: dict[Any, Precision | None] = {
    "highest": Precision.HIGHEST, "float32": Precision.HIGHEST, "high": Precision.HIGH, "bfloat16_3x": Precision.HIGH,
    "tensorfloat32": Precision.HIGH, "default": Precision.DEFAULT, "bfloat16": Precision.DEFAULT,
    "fastest": Precision.DEFAULT,
}  # fmt: skip


class DotAlgorithm(NamedTuple):
    """A product's arithmetic, spelled out.

    Attributes:
      lhs_precision_type, rhs_precision_type: the dtypes to which the operands are rounded.
      accumulation_type: the dtype of the sums.
      lhs_component_count, rhs_component_count: in how many parts of that dtype each operand is split.
      num_primitive_operations: how many products of parts are summed.
      allow_imprecise_accumulation: whether sums may be rounded further.
    """

    lhs_precision_type: Any
    rhs_precision_type: Any
    accumulation_type: Any
    lhs_component_count: int = 1
    rhs_component_count: int = 1
    num_primitive_operations: int = 1
    allow_imprecise_accumulation: bool = False


class DotAlgorithmPreset(enum.Enum):
    """Names of common algorithms: ``LHS_RHS_ACCUMULATION`` dtypes, and ``Xn`` for n products of parts.

    The CPU computes those whose accumulation dtype is float16, float32 or float64 and whose operands are no
    narrower than bfloat16, at the named precision or a higher one; the others raise.
    """

    DEFAULT = enum.auto()
    ANY_F8_ANY_F8_F32 = enum.auto()
    ANY_F8_ANY_F8_F32_FAST_ACCUM = enum.auto()
    ANY_F8_ANY_F8_ANY = enum.auto()
    ANY_F8_ANY_F8_ANY_FAST_ACCUM = enum.auto()
    F16_F16_F16 = enum.auto()
    F16_F16_F32 = enum.auto()
    BF16_BF16_BF16 = enum.auto()
    BF16_BF16_F32 = enum.auto()
    BF16_BF16_F32_X3 = enum.auto()
    BF16_BF16_F32_X6 = enum.auto()
    BF16_BF16_F32_X9 = enum.auto()
    TF32_TF32_F32 = enum.auto()
    TF32_TF32_F32_X3 = enum.auto()
    F32_F32_F32 = enum.auto()
    F64_F64_F64 = enum.auto()

    def __str__(self):
        return self.name

    def __repr__(self):
        return self.name


PrecisionLike = (
    None | str | Precision | tuple[str, str] | tuple[Precision, Precision] | DotAlgorithm | DotAlgorithmPreset
)

#: algorithm -> the dtype in which it is computed here
_COMPUTED = {
    DotAlgorithmPreset.F16_F16_F16: np.dtype(np.float16), DotAlgorithmPreset.BF16_BF16_F32: np.dtype(np.float32),
    DotAlgorithmPreset.BF16_BF16_F32_X3: np.dtype(np.float32), DotAlgorithmPreset.BF16_BF16_F32_X6: np.dtype(np.float32),
    DotAlgorithmPreset.F32_F32_F32: np.dtype(np.float32), DotAlgorithmPreset.F64_F64_F64: np.dtype(np.float64),
}  # fmt: skip


def canonicalize_precision(precision):
    """What a ``precision`` argument means: None, a pair of `Precision`, or an algorithm.

    None takes the configuration ``jax_default_matmul_precision``.

    Raises:
      ValueError: for anything else.
    """
    if precision is None:
        default = config.default_matmul_precision.value
        return None if default is None else canonicalize_precision(default)
    if isinstance(precision, Precision):
        return (precision, precision)
    if isinstance(precision, str):
        named = _PRECISION_NAMES.get(precision)
        if named is not None:
            return (named, named)
        if precision in DotAlgorithmPreset.__members__:
            return DotAlgorithmPreset[precision]
    elif isinstance(precision, (DotAlgorithmPreset, DotAlgorithm)):
        return precision
    elif isinstance(precision, (tuple, list)) and len(precision) == 2:
        pair = tuple(
            p if isinstance(p, Precision) else _PRECISION_NAMES.get(p) if isinstance(p, str) else None
            for p in precision
        )
        if None not in pair:
            return pair
        if all(p is None for p in precision):
            return None
    raise ValueError(
        f"Precision argument must be one of:\n- None,\n- a string in {[*_PRECISION_NAMES, None]},\n- a "
        "lax.Precision value,\n- a tuple of two "
        "lax.Precision values or strings,\n- a lax.DotAlgorithmPreset or the name of one of these presets, or\n- "
        "a lax.DotAlgorithm value;\n"
        f"but got {precision}."
    )


def _computation_dtype(algorithm) -> np.dtype | None:
    """The dtype in which an algorithm's product is computed; None: the one that the operands suggest."""
    if algorithm is None or type(algorithm) is tuple or algorithm is DotAlgorithmPreset.DEFAULT:
        return None
    if isinstance(algorithm, DotAlgorithm):
        accumulation = np.dtype(algorithm.accumulation_type)
        parts = [np.dtype(algorithm.lhs_precision_type), np.dtype(algorithm.rhs_precision_type)]
        if accumulation in (np.float32, np.float64) and all(dtypes.is_floating(p) and p.itemsize >= 2 for p in parts):
            return accumulation
    elif algorithm in _COMPUTED:
        return _COMPUTED[algorithm]
    raise ValueError(
        f"The precision '{algorithm}' is not supported by dot_general on CPU; use one of "
        f"{', '.join(a.name for a in _COMPUTED)}, or precision=None"
    )


# -- dot_general ---------------------------------------------------------------------------------


def _check_side(side: str, aval, batch, contract) -> None:
    rank = len(aval.shape)
    if not all(0 <= d < rank for d in (*batch, *contract)):
        raise TypeError(
            f"dot_general requires {side} dimension numbers to be nonnegative and less than the number of axes of "
            f"the {side} value, got "
            f"{side}_batch of {batch} and {side}_contracting of {contract} for {side} of rank {rank}"
        )
    if len(set(batch)) != len(batch):
        raise TypeError(f"dot_general requires {side} batch dimensions to be distinct, got {side}_batch {batch}.")
    if len(set(contract)) != len(contract):
        raise TypeError(
            f"dot_general requires {side} contracting dimensions to be distinct, got {side}_contracting {contract}."
        )
    if set(batch) & set(contract):
        raise TypeError(
            f"dot_general requires {side} batch dimensions to be disjoint from contracting dimensions, got "
            f"{side}_batch {batch} and "
            f"{side}_contracting {contract}."
        )


def _dot_general_type(lhs, rhs, *, dimension_numbers, precision, preferred_element_type, out_sharding=None):
    (lc, rc), (lb, rb) = dimension_numbers
    _check_side("lhs", lhs, lb, lc)
    _check_side("rhs", rhs, rb, rc)
    if len(lb) != len(rb):
        raise TypeError(
            f"dot_general requires equal numbers of lhs_batch and rhs_batch dimensions, got lhs_batch {lb} and "
            f"rhs_batch {rb}."
        )
    sizes = lambda aval, dims: tuple(aval.shape[d] for d in dims)
    if sizes(lhs, lb) != sizes(rhs, rb):
        raise TypeError(
            "dot_general requires lhs batch dimensions and rhs batch dimensions to have the same shape, got "
            f"{sizes(lhs, lb)} and {sizes(rhs, rb)}."
        )
    if sizes(lhs, lc) != sizes(rhs, rc):
        raise TypeError(
            f"dot_general requires contracting dimensions to have the same shape, got {sizes(lhs, lc)} and "
            f"{sizes(rhs, rc)}. The operands have the "
            f"shapes {lhs.shape} and {rhs.shape}, and axes {lc} of the first are summed with axes {rc} of the second."
        )
    for position, aval in enumerate((lhs, rhs)):
        if dtypes.is_extended(aval.dtype):
            raise TypeError(
                f"dot_general does not accept dtype {aval.dtype} at position {position}; it takes numbers and booleans."
            )
    shape = (*sizes(lhs, lb), *sizes(lhs, _free(lhs.ndim, lb, lc)), *sizes(rhs, _free(rhs.ndim, rb, rc)))
    return shaped_array(
        shape, _result_dtype(lhs.dtype, rhs.dtype, preferred_element_type), lhs.weak_type and rhs.weak_type
    )


def _result_dtype(lhs, rhs, preferred):
    natural = _common_dtype(lhs, rhs)
    if preferred is None:
        return natural
    width = lambda d: dtypes.itemsize_bits(d) // (2 if dtypes.is_complex(d) else 1)
    if not dtypes.is_floating(natural) and natural != np.bool_ and width(preferred) < width(natural):
        raise TypeError(
            "`preferred_element_type` must not be narrower than the original type, got preferred_element_type of "
            f"{preferred} for result type "
            f"of {natural}."
        )
    return preferred


def _common_dtype(x, y):
    """The dtype of a product: of two of one kind the wider, of two as wide the signed integer or the float
    with more exponent bits.
    """
    if x == y:
        return x
    for same_kind in (dtypes.is_integer, dtypes.is_floating):
        if same_kind(x) and same_kind(y):
            preferred = dtypes.is_signed_integer if same_kind is dtypes.is_integer else lambda d: dtypes.finfo(d).nexp
            return max(x, y, key=lambda d: (dtypes.itemsize_bits(d), preferred(d)))
    return _join(x, y)


_YIELDING = frozenset((*dtypes.narrow_float_dtypes, *dtypes.narrow_integer_dtypes))


def _join(x, y):
    """The dtype to which both promote; floats of 8 bits and integers of 4, which promote to nothing by
    themselves, give way to any other inexact dtype.
    """
    for narrow, other in ((x, y), (y, x)):
        if narrow in _YIELDING and dtypes.is_inexact(other):
            return other
    return promote_types(x, y)


def _free(rank: int, batch, contract) -> tuple[int, ...]:
    """The axes that are neither batch nor contracted."""
    return tuple(d for d in range(rank) if d not in batch and d not in contract)


_HALVES = frozenset({"f16", "bf16", "f8e4m3fn", "f8e5m2"})


def _dot_general_lower(ctx, lhs, rhs, *, dimension_numbers, precision, preferred_element_type, **_):
    """Choose the dtype of the sums.

    The graph's ``dot`` multiplies in the dtype of its result, float16 and narrower in float32. It may be
    given narrower operands than that.
    """
    contract, batch = dimension_numbers
    b = ctx.builder
    if not lhs.size or not rhs.size:  # sums of nothing, or no sums
        aval = ctx.avals_out[0]
        return b.full(aval.shape, python_scalar(0, aval.dtype), dtypes.ir_name(aval.dtype))
    (x, y), out = (a.dtype for a in ctx.avals_in), ctx.avals_out[0].dtype
    natural = _common_dtype(x, y)
    algorithm = _computation_dtype(precision)
    if algorithm is not None and dtypes.is_floating(natural):
        compute, operands = algorithm, algorithm
    elif natural == out:
        compute, operands = out, natural
    elif dtypes.is_inexact(natural):
        # wider results are summed in the wider type; narrower ones rounded at the end, or after a sum in
        # float32 by the dot itself
        compute = _join(natural, out) if dtypes.is_inexact(out) else natural
        operands = compute if dtypes.is_complex(compute) else natural
        if dtypes.ir_name(out) in _HALVES and dtypes.ir_name(compute) == "f32":
            compute = out
    else:
        compute = operands = out
    lhs, rhs = (b.convert(v, dtypes.ir_name(operands)) for v in (lhs, rhs))
    return b.convert(b.dot(lhs, rhs, contract, batch, dtypes.ir_name(compute)), dtypes.ir_name(out))


def _dot_general_jvp(primals, tangents, **params):
    lhs, rhs = primals
    tl, tr = tangents
    out = dot_general_p.bind(lhs, rhs, **params)
    tangent = Zero.from_primal_value(out)
    if type(tl) is not Zero:
        tangent = add_tangents(tangent, dot_general_p.bind(tl, rhs, **params))
    if type(tr) is not Zero:
        tangent = add_tangents(tangent, dot_general_p.bind(lhs, tr, **params))
    return out, tangent


def _transposed_side(ct, other, aval, own, others, free_axes_of_ct, params):
    """The cotangent of one operand: the cotangent contracted with the other operand over the other's free axes.

    Args:
      own, others: (contract, batch) of the operand and of the other.
      free_axes_of_ct: the axes of ``ct`` that are the other's free axes.
    """
    (contract, batch), (other_contract, other_batch) = own, others
    other_free = _free(get_aval(other).ndim, other_batch, other_contract)
    numbers = ((free_axes_of_ct, other_free), (tuple(range(len(batch))), other_batch))
    out = dot_general_p.bind(ct, other, dimension_numbers=numbers, **params)
    # its axes: batch, the operand's free axes, and the contracted ones in the order in which the other operand has them
    by_other = tuple(c for _, c in sorted(zip(other_contract, contract, strict=True)))
    axes = (*batch, *_free(aval.ndim, batch, contract), *by_other)
    out = transpose(out, tuple(int(i) for i in np.argsort(axes)))
    return convert_type(out, aval.dtype, aval.weak_type) if get_aval(out).dtype != aval.dtype else out


def _dot_general_transpose(ct, lhs, rhs, *, dimension_numbers, **params):
    (lc, rc), (lb, rb) = dimension_numbers
    linear_lhs, linear_rhs = type(lhs) is UndefinedPrimal, type(rhs) is UndefinedPrimal
    if linear_lhs and linear_rhs:
        raise TypeError("dot_general is linear in one operand at a time; both are linear here")
    if type(ct) is Zero:
        return [Zero(lhs.aval) if linear_lhs else None, Zero(rhs.aval) if linear_rhs else None]
    n_batch, rank = len(lb), get_aval(ct).ndim
    n_lhs_free = (lhs.aval if linear_lhs else get_aval(lhs)).ndim - len(lb) - len(lc)
    if linear_lhs:
        axes = tuple(range(n_batch + n_lhs_free, rank))
        return [_transposed_side(ct, rhs, lhs.aval, (lc, lb), (rc, rb), axes, params), None]
    axes = tuple(range(n_batch, n_batch + n_lhs_free))
    return [None, _transposed_side(ct, lhs, rhs.aval, (rc, rb), (lc, lb), axes, params)]


def _dot_general_batch(args, dims, *, dimension_numbers, **params):
    lhs, rhs = args
    dl, dr = dims
    (lc, rc), (lb, rb) = dimension_numbers
    after = lambda axes, d: axes if d is None else tuple(a + (a >= d) for a in axes)
    contract, batch = (after(lc, dl), after(rc, dr)), (after(lb, dl), after(rb, dr))
    if dl is not None and dr is not None:
        batch = ((dl, *batch[0]), (dr, *batch[1]))
        return dot_general_p.bind(lhs, rhs, dimension_numbers=(contract, batch), **params), 0
    # a mapped axis of one operand is one more free axis
    out = dot_general_p.bind(lhs, rhs, dimension_numbers=(contract, batch), **params)
    lhs_free = _free(get_aval(lhs).ndim, batch[0], contract[0])
    if dl is not None:
        return out, len(lb) + lhs_free.index(dl)
    return out, len(lb) + len(lhs_free) + _free(get_aval(rhs).ndim, batch[1], contract[1]).index(dr)


dot_general_p = define(
    "dot_general",
    abstract_eval=_dot_general_type,
    lower=_dot_general_lower,
    jvp=_dot_general_jvp,
    transpose=_dot_general_transpose,
    batch=_dot_general_batch,
    linear_in=(0, 1),
)


def _axes(dims) -> tuple[int, ...]:
    return tuple(int(d) for d in dims)


def dot_general(lhs, rhs, dimension_numbers, precision=None, preferred_element_type=None, *, out_sharding=None):
    """The sum of products over any axes of two arrays.

    Args:
      lhs, rhs: arrays; of different dtypes, the product has the one to which they promote.
      dimension_numbers: ``((lhs_contract, rhs_contract), (lhs_batch, rhs_batch))``: the axes to sum
        over, pairwise, and those that run along, pairwise.
      precision: a `Precision`, its name, a pair of either, a `DotAlgorithmPreset`, its name, or a
        `DotAlgorithm`.
      preferred_element_type: the dtype of the result and, if it is wider than the operands, of the
        sums.

    Returns:
      An array whose axes are the batch axes, the remaining axes of ``lhs``, and those of ``rhs``.
      Float16 and bfloat16 accumulate in float32; integers wrap in the result's dtype.

    Raises:
      TypeError: if the dimension numbers or shapes do not fit.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.dot_general(jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5)), (((2,), (1,)), ((0,), (0,)))).shape
      (2, 3, 5)
    """
    if out_sharding is not None:
        raise NotImplementedError(
            f"dot_general: {out_sharding=} asks for a partitioned result, which is not available; leave it out"
        )
    lhs, rhs = core_args("dot_general", lhs, rhs, same_dtype=False)
    (lc, rc), (lb, rb) = dimension_numbers
    numbers = ((_axes(lc), _axes(rc)), (_axes(lb), _axes(rb)))
    if preferred_element_type is not None:
        preferred_element_type = dtypes.check_user_dtype_supported(preferred_element_type, "dot_general")
    return dot_general_p.bind(
        lhs, rhs, dimension_numbers=numbers, precision=canonicalize_precision(precision), preferred_element_type=preferred_element_type,
        out_sharding=None,
    )  # fmt: skip


def dot(lhs, rhs, *, dimension_numbers=None, precision=None, preferred_element_type=None, out_sharding=None):
    """The product of vectors and matrices, or `dot_general` with ``dimension_numbers``.

    Args:
      lhs, rhs: arrays of rank 1 or 2, the last axis of ``lhs`` and the first of ``rhs`` of one size.
      dimension_numbers, precision, preferred_element_type: as in `dot_general`.

    Raises:
      ValueError: without ``dimension_numbers``, for other shapes.
    """
    lhs, rhs = core_args("dot", lhs, rhs, same_dtype=False)
    if dimension_numbers is None:
        left, right = get_aval(lhs).shape, get_aval(rhs).shape
        if not (1 <= len(left) <= 2 and 1 <= len(right) <= 2 and left[-1] == right[0]):
            raise ValueError(
                "jax.lax.dot: dimension_numbers must be specified when not performing simple un-batched "
                "matrix-matrix, matrix-vector, or "
                f"vector-vector products; got lhs_shape={left} rhs_shape={right}"
            )
        dimension_numbers = (((len(left) - 1,), (0,)), ((), ()))
    return dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type, out_sharding=out_sharding)


def batch_matmul(lhs, rhs, precision=None):
    """The matrix products of two stacks of matrices.

    Args:
      lhs: an array of shape (..., m, k).
      rhs: an array of shape (..., k, n), with the same leading axes.
      precision: as in `dot_general`.

    Returns:
      An array of shape (..., m, n).
    """
    lhs, rhs = core_args("batch_matmul", lhs, rhs, same_dtype=False)
    ranks: Sequence[int] = (get_aval(lhs).ndim, get_aval(rhs).ndim)
    if min(ranks) < 2:
        raise ValueError(f"Arguments to batch_matmul must be at least 2D, got {ranks[0]}, {ranks[1]}")
    if ranks[0] != ranks[1]:
        raise ValueError(f"Arguments to batch_matmul must have same ndim, got {ranks[0]}, {ranks[1]}")
    leading = tuple(range(ranks[0] - 2))
    return dot_general(lhs, rhs, (((ranks[0] - 1,), (ranks[0] - 2,)), (leading, leading)), precision)
