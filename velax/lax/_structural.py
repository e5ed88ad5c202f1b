"""Operations that make, convert and rearrange arrays without arithmetic: convert, broadcast, reshape,
transpose, select, iota, full, ...
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence

import numpy as np

from velax._ir.narrow_integers import zero_extended
from velax._lang import dtypes
from velax._lang.array import Array
from velax._lang.avals import ShapedArray, shaped_array
from velax._lang.primitive import define
from velax._lang.trace import Tracer, get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import UndefinedPrimal, Zero, instantiate_zeros, ops
from velax.lax._rules import broadcast_node, dtype_mismatch, linear_jvp, shape_error
from velax.lax._values import constant, core_args, is_number
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = [
    "bitcast_convert_type", "bitcast_convert_type_p", "broadcast", "broadcast_in_dim", "broadcast_in_dim_p",
    "broadcast_shapes", "broadcasted_iota", "collapse",
    "convert_element_type", "convert_element_type_p", "copy_p", "expand_dims", "full", "full_like", "iota", "iota_p",
    "optimization_barrier",
    "optimization_barrier_p", "reshape", "reshape_p", "rev", "rev_p", "select", "select_n", "select_n_p", "squeeze",
    "squeeze_p",
    "stop_gradient", "stop_gradient_p", "transpose", "transpose_p",
]  # fmt: skip


def canonical_axis(axis, ndim: int, name: str) -> int:
    """A possibly negative axis as one in ``[0, ndim)``."""
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: axis {axis} is out of bounds for array of dimension {ndim}")
    return axis + ndim if axis < 0 else axis


def shape_type_error(shape, where: str = "") -> TypeError:
    """The error for what is no shape; of a traced size it says where it comes from."""
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    tracer = next((n for n in sizes if isinstance(n, Tracer)), None)
    text = f"Shapes must be 1D sequences of concrete values of integer type, got {sizes}{where}."
    if tracer is None:
        return TypeError(text)
    lines = (
        text,
        tracer._origin_msg(),
        "Shapes must be known while tracing: compute them from x.shape and Python integers, or mark the argument "
        "static (static_argnums, static_argnames).",
    )
    return TypeError("\n".join(filter(None, lines)))


def canonical_shape(shape, name: str) -> tuple[int, ...]:
    """A shape as a tuple of non-negative Python integers."""
    if isinstance(shape, (int, np.integer)) or (isinstance(shape, (Array, np.ndarray)) and not shape.shape):
        shape = (shape,)
    try:
        sizes = tuple(operator.index(n) for n in shape)
    except TypeError:
        raise shape_type_error(shape, f" in {name}") from None
    if any(n < 0 for n in sizes):
        raise TypeError(f"{name} shape must have every element be nonnegative, got {sizes}.")
    return sizes


# -- convert_element_type ------------------------------------------------------------------------


def _convert_type(x, *, new_dtype, weak_type, sharding=None):
    return shaped_array(x.shape, new_dtype, weak_type)


def _convert_lower(ctx, x, *, new_dtype, **_):
    return ctx.builder.convert(x, dtypes.ir_name(new_dtype))


def _convert_jvp(primals, tangents, *, new_dtype, weak_type, **_):
    (x,), (t,) = primals, tangents
    out = convert_element_type_p.bind(x, new_dtype=new_dtype, weak_type=weak_type)
    tangent_dtype = dtypes.tangent_dtype(new_dtype)
    if type(t) is Zero or tangent_dtype == dtypes.float0 or get_aval(t).dtype == dtypes.float0:
        return out, Zero.from_primal_value(out)
    return out, convert_element_type_p.bind(t, new_dtype=tangent_dtype, weak_type=weak_type)


def _convert_transpose(ct, x, *, new_dtype, weak_type, **_):
    aval = x.aval
    if type(ct) is Zero:
        return [Zero(aval)]
    if dtypes.is_complex(get_aval(ct).dtype) and not dtypes.is_complex(aval.dtype):
        ct = ops.real(ct)
    return [convert_type(ct, aval.dtype, aval.weak_type)]


convert_element_type_p = define(
    "convert_element_type",
    abstract_eval=_convert_type,
    lower=_convert_lower,
    jvp=_convert_jvp,
    transpose=_convert_transpose,
    batch=lambda args, dims, **p: (convert_element_type_p.bind(*args, **p), dims[0]),
    elementwise=True,
    linear_in=(0,),
)


def convert_element_type(operand, new_dtype):
    """Convert the elements of an array.

    Args:
      operand: an array or scalar.
      new_dtype: a dtype; a Python scalar type (``int``, ``float``, ...) means the default one of that kind.

    Returns:
      The array in the new dtype, not weakly typed. Floats become integers by truncation, saturating,
      NaN as 0; complex numbers lose the imaginary part.

    Example:
      >>> from velax import lax
      >>> lax.convert_element_type(2.7, 'int32')
      Array(2, dtype=int32)
    """
    return convert_type(operand, dtypes.check_user_dtype_supported(new_dtype, "convert_element_type"), weak_type=False)


def convert_type(operand, new_dtype=None, weak_type: bool | None = None):
    """`convert_element_type` with control of the weak type; no operation if nothing changes."""
    (operand,) = core_args("convert_element_type", operand)
    aval = get_aval(operand)
    dtype = aval.dtype if new_dtype is None else new_dtype
    weak = False if weak_type is None else weak_type
    if (
        aval.dtype == dtype
        and aval.weak_type == weak
        and not isinstance(operand, (builtins.int, builtins.float, builtins.complex, np.ndarray, np.generic))
    ):
        return operand
    if dtypes.is_extended(dtype) or dtypes.is_extended(aval.dtype):
        raise TypeError(
            f"convert_element_type: cannot convert {aval.dtype} to {dtype}; use random.key_data and "
            "random.wrap_key_data"
        )
    return convert_element_type_p.bind(operand, new_dtype=dtype, weak_type=builtins.bool(weak))


# -- bitcast_convert_type ------------------------------------------------------------------------


def _bitcast_type(x, *, new_dtype):
    if x.dtype == new_dtype:
        return shaped_array(x.shape, new_dtype)
    old, new = dtypes.itemsize_bits(x.dtype), dtypes.itemsize_bits(new_dtype)
    if old < new and (not x.shape or x.shape[-1] * old != new):
        raise ValueError(
            f"Attempting to convert array of shape {x.shape} from {x.dtype} of size {old} bits to {new_dtype} of size "
            f"{new}, bits but {x.shape[-1] if x.shape else 1} * {old} != {new}: lax.bitcast_convert_type to a wider "
            f"dtype needs a last axis of size {new // old}"
        )
    if any(d == np.bool_ or dtypes.is_complex(d) for d in (x.dtype, new_dtype)):
        raise TypeError(
            "lax.bitcast_convert_type does not support bool or complex values unless the operand and destination types "
            f"match. Got operand dtype={x.dtype}, new_dtype={new_dtype!r}. Consider using astype, lax.real and "
            "lax.imag, or the arr.view() method instead."
        )
    shape = x.shape if old == new else (*x.shape, old // new) if old > new else x.shape[:-1]
    return shaped_array(shape, new_dtype)


def _bitcast_lower(ctx, x, *, new_dtype):
    b, new = ctx.builder, dtypes.ir_name(new_dtype)
    old_dtype = ctx.avals_in[0].dtype
    old_bits, new_bits = map(dtypes.itemsize_bits, (old_dtype, new_dtype))
    if old_bits == new_bits:
        return b.bitcast(x, new)
    # Integers of 4 bits are in bytes: an unsigned dtype of the width in memory, with no bits but the element's own.
    old_uint, new_uint = (f"u{max(8, bits)}" for bits in (old_bits, new_bits))
    if old_bits > new_bits:
        bits = b.bitcast(x, old_uint)
        parts = []
        for i in range(old_bits // new_bits):
            part = b.convert(b.map("shrl", bits, b.full(x.shape, i * new_bits, old_uint)), new_uint)
            parts.append(b.reshape(b.bitcast(part, new), (*x.shape, 1)))
        return b.concatenate(parts, len(x.shape))
    total = None
    for i in range(new_bits // old_bits):
        starts = (*(0 for _ in x.shape[:-1]), i)
        limits = (*x.shape[:-1], i + 1)
        part = b.reshape(b.slice(x, starts, limits), x.shape[:-1])
        part = b.convert(b.bitcast(zero_extended(b, part, old_dtype), old_uint), new_uint)
        part = b.map("shl", part, b.full(part.shape, i * old_bits, new_uint))
        total = part if total is None else b.map("or", total, part)
    return b.bitcast(total, new)


def _bitcast_batch(args, dims, **params):
    (x,), (d,) = args, dims
    return bitcast_convert_type_p.bind(matchaxis(x.shape[d], d, 0, x), **params), 0


bitcast_convert_type_p = define(
    "bitcast_convert_type",
    abstract_eval=_bitcast_type,
    lower=_bitcast_lower,
    jvp=lambda primals, tangents, **p: (lambda out: (out, Zero.from_primal_value(out)))(
        bitcast_convert_type_p.bind(*primals, **p)
    ),
    transpose=None,
    batch=_bitcast_batch,
)


def bitcast_convert_type(operand, new_dtype):
    """Reinterpret the bits of the elements as another dtype.

    Args:
      operand: an array of a real dtype.
      new_dtype: if narrower, the result has a new last axis; if wider, the operand's last axis is
        consumed (low bits first).
    """
    (operand,) = core_args("bitcast_convert_type", operand)
    return bitcast_convert_type_p.bind(operand, new_dtype=dtypes.canonicalize_dtype(new_dtype))


# -- broadcast_in_dim ----------------------------------------------------------------------------


def _broadcast_in_dim_type(x, *, shape, broadcast_dimensions, sharding=None):
    name = "broadcast_in_dim"
    if len(broadcast_dimensions) != len(x.shape):
        raise TypeError(
            f"{name} broadcast_dimensions must have length equal to operand ndim; got broadcast_dimensions "
            f"{broadcast_dimensions} for operand ndim {x.ndim}."
        )
    if len(shape) < x.ndim:
        raise TypeError(
            f"{name} target broadcast shape must have equal or higher rank to the operand shape; got operand ndim "
            f"{x.ndim} and target broadcast ndim {len(shape)}."
        )
    if not all(0 <= d < len(shape) for d in broadcast_dimensions):
        raise TypeError(
            f"{name} broadcast_dimensions must be a subset of output dimensions, got {broadcast_dimensions} for "
            f"operand ndim {x.ndim} and shape {shape}."
        )
    if any(n not in (1, shape[d]) for n, d in zip(x.shape, broadcast_dimensions, strict=True)):
        raise TypeError(
            f"{name} operand dimension sizes must either be 1, or be equal to their corresponding dimensions in the "
            f"target broadcast shape; got operand of shape {x.shape}, target broadcast shape {shape}, "
            f"broadcast_dimensions {broadcast_dimensions}"
        )
    if list(broadcast_dimensions) != sorted(set(broadcast_dimensions)):
        problem = "be increasing" if len(set(broadcast_dimensions)) == x.ndim else "not contain duplicates"
        raise TypeError(f"{name} broadcast_dimensions must {problem}, got broadcast_dimensions {broadcast_dimensions}")
    return shaped_array(tuple(shape), x.dtype, x.weak_type)


def _broadcast_in_dim_transpose(ct, x, *, shape, broadcast_dimensions, sharding=None):
    if type(ct) is Zero:
        return [Zero(x.aval)]
    stretched = [d for n, d in zip(x.aval.shape, broadcast_dimensions, strict=True) if n == 1 and shape[d] != 1]
    axes = tuple(d for d in range(len(shape)) if d not in broadcast_dimensions or d in stretched)
    total = ops.reduce_sum(ct, axes)
    return [reshape(total, x.aval.shape) if stretched else total]


def _broadcast_in_dim_batch(args, dims, *, shape, broadcast_dimensions, **params):
    (x,), (d,) = args, dims
    x = matchaxis(x.shape[d], d, 0, x)
    dims_out = (0, *(i + 1 for i in broadcast_dimensions))
    return broadcast_in_dim_p.bind(x, shape=(x.shape[0], *shape), broadcast_dimensions=dims_out, **params), 0


broadcast_in_dim_p = define(
    "broadcast_in_dim",
    abstract_eval=_broadcast_in_dim_type,
    lower=lambda ctx, x, *, shape, broadcast_dimensions, **_: ctx.builder.broadcast(x, shape, broadcast_dimensions),
    jvp=linear_jvp(lambda: broadcast_in_dim_p),
    transpose=_broadcast_in_dim_transpose,
    batch=_broadcast_in_dim_batch,
    linear_in=(0,),
)


def broadcast_in_dim(operand, shape, broadcast_dimensions: Sequence[int], *, out_sharding=None):
    """Broadcast an array along new axes and axes of size 1.

    Args:
      operand: an array.
      shape: the shape of the result.
      broadcast_dimensions: for each axis of the operand, the axis of the result that it becomes; strictly increasing.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.broadcast_in_dim(jnp.array([1, 2]), (2, 3), (0,))
      Array([[1, 1, 1],
             [2, 2, 2]], dtype=int32)
    """
    (operand,) = core_args("broadcast_in_dim", operand)
    shape = canonical_shape(shape, "broadcast_in_dim")
    dims = tuple(operator.index(d) for d in broadcast_dimensions)
    aval = get_aval(operand)
    if (
        aval.shape == shape
        and dims == tuple(range(len(shape)))
        and isinstance(aval, ShapedArray)
        and not np.isscalar(operand)
    ):
        return operand
    if len(dims) == aval.ndim and list(dims) != sorted(dims):  # the primitive keeps the order of the axes
        operand, dims = transpose(operand, np.argsort(dims)), tuple(sorted(dims))
    return broadcast_in_dim_p.bind(operand, shape=shape, broadcast_dimensions=dims, sharding=None)


def broadcast(operand, sizes: Sequence[int], *, out_sharding=None):
    """Broadcast along new leading axes of these sizes."""
    (operand,) = core_args("broadcast", operand)
    sizes, shape = canonical_shape(sizes, "broadcast"), get_aval(operand).shape
    if not sizes:
        return operand
    return broadcast_in_dim(operand, (*sizes, *shape), range(len(sizes), len(sizes) + len(shape)))


def broadcast_shapes(*shapes) -> tuple[int, ...]:
    """The shape to which shapes broadcast by NumPy's rules.

    Raises:
      ValueError: if they do not.
    """
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise ValueError(f"Incompatible shapes for broadcasting: shapes={list(map(tuple, shapes))}") from None


# -- reshape, squeeze, transpose, rev ------------------------------------------------------------


def _reshape_type(x, *, new_sizes, dimensions=None, sharding=None):
    if math.prod(x.shape) != math.prod(new_sizes):
        raise shape_error(
            "reshape",
            f"total size of new array must be unchanged, got new_sizes={new_sizes} (size {math.prod(new_sizes)}) "
            f"for shape {x.shape} (size {math.prod(x.shape)})",
        )
    return shaped_array(tuple(new_sizes), x.dtype, x.weak_type)


def _reshape_batch(args, dims, *, new_sizes, **params):
    (x,), (d,) = args, dims
    x = matchaxis(x.shape[d], d, 0, x)
    return reshape_p.bind(x, new_sizes=(x.shape[0], *new_sizes), **params), 0


reshape_p = define(
    "reshape",
    abstract_eval=_reshape_type,
    lower=lambda ctx, x, *, new_sizes, **_: ctx.builder.reshape(x, new_sizes),
    jvp=linear_jvp(lambda: reshape_p),
    transpose=lambda ct, x, **_: [Zero(x.aval) if type(ct) is Zero else reshape(ct, x.aval.shape)],
    batch=_reshape_batch,
    linear_in=(0,),
)


def reshape(operand, new_sizes, dimensions: Sequence[int] | None = None, *, out_sharding=None):
    """Give an array another shape of the same size, in row-major order.

    Args:
      operand: an array.
      new_sizes: the shape; -1 is not interpreted here (`velax.numpy.reshape` does).
      dimensions: a permutation applied first, or None.
    """
    (operand,) = core_args("reshape", operand)
    if isinstance(new_sizes, (tuple, list)) and any(isinstance(n, int) and n < 0 for n in new_sizes):
        raise TypeError(f"reshape new_sizes must all be positive, got {tuple(new_sizes)}; -1 is for jnp.reshape.")
    new_sizes = canonical_shape(new_sizes, "reshape")
    if dimensions is not None and sorted(dimensions) != list(range(get_aval(operand).ndim)):
        raise TypeError(
            f"reshape dimensions must be a permutation of operand dimensions, got dimensions {tuple(dimensions)} for "
            f"shape {get_aval(operand).shape}."
        )
    if dimensions is not None and tuple(dimensions) != tuple(range(get_aval(operand).ndim)):
        operand = transpose(operand, dimensions)
    if get_aval(operand).shape == new_sizes and not np.isscalar(operand):
        return operand
    return reshape_p.bind(operand, new_sizes=new_sizes, dimensions=None, sharding=None)


def _squeeze_type(x, *, dimensions):
    for d in dimensions:
        if x.shape[d] != 1:
            raise ValueError(
                f"cannot select an axis to squeeze out which has size not equal to one, got shape={x.shape} and "
                f"dimensions={dimensions}"
            )
    return shaped_array(tuple(n for i, n in enumerate(x.shape) if i not in dimensions), x.dtype, x.weak_type)


def _squeeze_batch(args, dims, *, dimensions):
    (x,), (d,) = args, dims
    x = matchaxis(x.shape[d], d, 0, x)
    return squeeze_p.bind(x, dimensions=tuple(i + 1 for i in dimensions)), 0


squeeze_p = define(
    "squeeze",
    abstract_eval=_squeeze_type,
    lower=lambda ctx, x, **_: ctx.builder.reshape(x, ctx.avals_out[0].shape),
    jvp=linear_jvp(lambda: squeeze_p),
    transpose=lambda ct, x, **_: [Zero(x.aval) if type(ct) is Zero else reshape(ct, x.aval.shape)],
    batch=_squeeze_batch,
    linear_in=(0,),
)


def squeeze(array, dimensions: Sequence[int]):
    """Remove axes of size 1.

    Args:
      array: an array.
      dimensions: the axes, all of size 1.
    """
    (array,) = core_args("squeeze", array)
    ndim = get_aval(array).ndim
    dims = tuple(sorted(canonical_axis(d, ndim, "squeeze") for d in dimensions))
    if len(set(dims)) != len(dims):
        raise ValueError(f"squeeze: dimensions are not unique: {tuple(dimensions)}")
    return array if not dims else squeeze_p.bind(array, dimensions=dims)


def expand_dims(array, dimensions: Sequence[int]):
    """Insert axes of size 1 at these positions of the result."""
    (array,) = core_args("expand_dims", array)
    shape = get_aval(array).shape
    ndim = len(shape) + len(dimensions)
    new = {canonical_axis(d, ndim, "expand_dims") for d in dimensions}
    if len(new) != len(dimensions):
        raise ValueError(f"repeated axis in lax.expand_dims: {tuple(dimensions)}")
    if not new:
        return array
    kept = [i for i in range(ndim) if i not in new]
    sizes = iter(shape)
    return broadcast_in_dim(array, tuple(1 if i in new else next(sizes) for i in range(ndim)), kept)


def collapse(operand, start_dimension: int, stop_dimension: int | None = None):
    """Merge the axes ``[start_dimension, stop_dimension)`` into one."""
    (operand,) = core_args("collapse", operand)
    shape = get_aval(operand).shape
    lo, hi, _ = builtins.slice(start_dimension, stop_dimension).indices(len(shape))
    if hi < lo:
        raise ValueError(
            f"Invalid dimension range passed to collapse: [{start_dimension}, {stop_dimension}) for shape {shape}"
        )
    return reshape(operand, (*shape[:lo], math.prod(shape[lo:hi]), *shape[hi:]))


def _transpose_type(x, *, permutation):
    if sorted(permutation) != list(range(len(x.shape))):
        raise TypeError(
            f"transpose permutation isn't a permutation of operand dimensions, got permutation {permutation} for "
            f"operand shape {x.shape}."
        )
    return shaped_array(tuple(x.shape[p] for p in permutation), x.dtype, x.weak_type)


def _transpose_batch(args, dims, *, permutation):
    (x,), (d,) = args, dims
    return transpose_p.bind(x, permutation=(d, *(p + (p >= d) for p in permutation))), 0


transpose_p = define(
    "transpose",
    abstract_eval=_transpose_type,
    lower=lambda ctx, x, *, permutation: ctx.builder.transpose(x, permutation),
    jvp=linear_jvp(lambda: transpose_p),
    transpose=lambda ct, x, *, permutation: [
        Zero(x.aval) if type(ct) is Zero else transpose(ct, np.argsort(permutation))
    ],
    batch=_transpose_batch,
    linear_in=(0,),
)


def transpose(operand, permutation: Sequence[int]):
    """Permute axes: axis ``i`` of the result is axis ``permutation[i]`` of the operand."""
    (operand,) = core_args("transpose", operand)
    permutation = tuple(operator.index(p) for p in permutation)
    if permutation == tuple(range(get_aval(operand).ndim)) and not np.isscalar(operand):
        return operand
    return transpose_p.bind(operand, permutation=permutation)


def _rev_type(x, *, dimensions):
    if len(set(dimensions)) != len(dimensions):
        raise TypeError(f"rev dimensions must be unique, got {dimensions}.")
    if not all(0 <= d < x.ndim for d in dimensions):
        problem = "have every element be nonnegative" if min(dimensions) < 0 else "all be less than operand ndim"
        raise TypeError(f"rev dimensions must {problem}, got {dimensions} for operand ndim {x.ndim}.")
    return x


rev_p = define(
    "rev",
    abstract_eval=_rev_type,
    lower=lambda ctx, x, *, dimensions: ctx.builder.rev(x, dimensions),
    jvp=linear_jvp(lambda: rev_p),
    transpose=lambda ct, x, *, dimensions: [Zero(x.aval) if type(ct) is Zero else rev(ct, dimensions)],
    batch=lambda args, dims, *, dimensions: (
        rev_p.bind(args[0], dimensions=tuple(i + (i >= dims[0]) for i in dimensions)),
        dims[0],
    ),
    linear_in=(0,),
)


def rev(operand, dimensions: Sequence[int]):
    """Reverse the order of elements along axes."""
    (operand,) = core_args("rev", operand)
    return rev_p.bind(operand, dimensions=tuple(operator.index(d) for d in dimensions))


# -- select_n ------------------------------------------------------------------------------------


def _select_n_type(which, *cases):
    if not cases:
        raise TypeError("select_n must have at least one case")
    if which.dtype != np.bool_ and not dtypes.is_integer(which.dtype):
        raise TypeError(f"select `which` must be boolean or integer type, got {which.dtype}.")
    if which.dtype == np.bool_ and len(cases) > 2:
        raise TypeError(f"select with boolean `which` cannot have > 2 cases, got {len(cases)}.")
    if any(c.shape != cases[0].shape for c in cases):
        raise TypeError(f"select cases must have the same shapes, got [{', '.join(str(c.shape) for c in cases)}].")
    if any(c.dtype != cases[0].dtype for c in cases):
        raise dtype_mismatch("select", cases)
    if which.shape and which.shape != cases[0].shape:
        raise TypeError(
            f"select `which` must be scalar or have the same shape as cases, got `which` shape {which.shape} but "
            f"case shape {cases[0].shape}."
        )
    return shaped_array(cases[0].shape, cases[0].dtype, all(c.weak_type for c in cases))


def _select_n_lower(ctx, which, *cases):
    b = ctx.builder
    if len(cases) == 1:
        return cases[0]
    which = broadcast_node(b, which, cases[0].shape)
    if which.dtype == "bool":
        return b.map("select", which, cases[1], cases[0])
    out = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        out = b.map("select", b.map("le", which, b.full(which.shape, i, which.dtype)), cases[i], out)
    return out


def _select_n_jvp(primals, tangents):
    which, *cases = primals
    _, *ts = tangents
    out = select_n_p.bind(which, *cases)
    if all(type(t) is Zero for t in ts):
        return out, Zero.from_primal_value(out)
    return out, select_n_p.bind(which, *map(instantiate_zeros, ts))


def _select_n_transpose(ct, which, *cases):
    if type(ct) is Zero:
        return [None, *(Zero(c.aval) if type(c) is UndefinedPrimal else None for c in cases)]
    zeros = full_like(ct, 0)
    return [
        None,
        *(
            select_n(which, *(ct if i == j else zeros for j in range(len(cases))))
            if type(c) is UndefinedPrimal
            else None
            for i, c in enumerate(cases)
        ),
    ]


def _select_n_batch(args, dims):
    which, *cases = args
    bw, *bcs = dims
    which_rank = get_aval(which).ndim - (bw is not None)
    rank = get_aval(cases[0]).ndim - (bcs[0] is not None)
    if bw is None and not which_rank:  # one scalar for the whole batch
        size = next(c.shape[d] for c, d in zip(cases, bcs, strict=True) if d is not None)
        cases = [matchaxis(size, d, 0, c) for c, d in zip(cases, bcs, strict=True)]
        return select_n_p.bind(which, *cases), 0
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    cases = [matchaxis(size, d, 0, c) for c, d in zip(cases, bcs, strict=True)]
    which = matchaxis(size, bw, 0, which)
    if not which_rank and rank:
        which = broadcast_in_dim(which, get_aval(cases[0]).shape, (0,))
    return select_n_p.bind(which, *cases), 0


select_n_p = define(
    "select_n",
    abstract_eval=_select_n_type,
    lower=_select_n_lower,
    jvp=_select_n_jvp,
    transpose=_select_n_transpose,
    batch=_select_n_batch,
    elementwise=True,
)


def select_n(which, *cases):
    """Choose elementwise among arrays.

    Args:
      which: booleans (two cases: False chooses the first) or integers, rank 0 or of the cases' shape;
        out of range integers choose the nearest case.
      *cases: arrays of one shape and dtype.
    """
    if not cases:
        raise ValueError("select_n() must have at least one case")
    (which,) = core_args("select_n", which)
    return select_n_p.bind(which, *core_args("select_n", *cases))


def select(pred, on_true, on_false):
    """``on_true`` where ``pred`` (boolean) holds, else ``on_false``.

    Raises:
      TypeError: if the cases differ in shape or dtype, or ``pred`` fits neither rank 0 nor their shape.
    """
    return select_n(pred, on_false, on_true)


# -- iota, full ----------------------------------------------------------------------------------

iota_p = define(
    "iota",
    abstract_eval=lambda *, dtype, shape, dimension, sharding=None: shaped_array(tuple(shape), dtype),
    lower=lambda ctx, *, dtype, shape, dimension, **_: ctx.builder.iota(shape, dtypes.ir_name(dtype), dimension),
    jvp=None,
    transpose=None,
    batch=None,
)


def iota(dtype, size: int):
    """``[0, 1, ..., size - 1]``."""
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype, shape, dimension: int, *, out_sharding=None):
    """The index along ``dimension``, over ``shape``.

    Example:
      >>> from velax import lax
      >>> lax.broadcasted_iota('int32', (2, 3), 1)
      Array([[0, 1, 2],
             [0, 1, 2]], dtype=int32)
    """
    dtype = dtypes.check_user_dtype_supported(dtype, "iota")
    shape = canonical_shape(shape, "iota")
    dimension = operator.index(dimension)
    if not 0 <= dimension < len(shape):
        raise ValueError(f"iota dimension must be between 0 and len(shape), got {dimension=} for {shape=}")
    if dtype == np.bool_:
        raise TypeError(
            "iota does not accept dtype bool. Accepted dtypes are subtypes of integer, floating, complexfloating."
        )
    return iota_p.bind(dtype=dtype, shape=shape, dimension=dimension, sharding=None)


def full(shape, fill_value, dtype=None, *, sharding=None):
    """An array of one repeated value.

    Args:
      shape: the shape.
      fill_value: a scalar.
      dtype: the dtype; None: the value's, weak if a Python scalar.
    """
    shape = canonical_shape(shape, "full")
    (fill_value,) = core_args("full", fill_value)
    if np.ndim(fill_value):
        raise TypeError(f"full must be called with scalar fill_value, got fill_value.shape {np.shape(fill_value)}.")
    weak = False
    if dtype is None:
        aval = get_aval(fill_value)
        dtype, weak = aval.dtype, aval.weak_type
    else:
        dtype = dtypes.check_user_dtype_supported(dtype, "full")
        if type(fill_value) is complex and (dtypes.is_integer(dtype) or dtypes.is_floating(dtype)):
            raise TypeError(f"full: cannot convert the complex number {fill_value} to {dtype}; give its real part")
    if dtypes.is_extended(dtype):
        return dtype.full(shape, fill_value)
    if not is_number(fill_value):
        value = convert_type(fill_value, dtype, weak)
    else:  # converted here, so that no operation is staged for it
        value = fill_value if weak else constant(fill_value, dtype)
    if not shape:
        return convert_type(value, dtype, weak)
    return broadcast_in_dim_p.bind(value, shape=shape, broadcast_dimensions=(), sharding=None)


def full_like(x, fill_value, dtype=None, shape=None, sharding=None):
    """`full` with the shape and dtype of ``x``, unless given."""
    aval = (
        x if isinstance(x, ShapedArray) else get_aval(x) if not hasattr(x, "shape") or isinstance(x, Tracer) else None
    )
    have_shape = aval.shape if aval is not None else x.shape
    have_dtype = aval.dtype if aval is not None else dtypes.canonicalize_dtype(x.dtype, allow_extended_dtype=True)
    weak = dtype is None and (aval.weak_type if aval is not None else getattr(x, "weak_type", False))
    shape = have_shape if shape is None else canonical_shape(shape, "full_like")
    dtype = have_dtype if dtype is None else dtypes.check_user_dtype_supported(dtype, "full_like")
    if dtypes.is_extended(dtype):
        return dtype.full(shape, fill_value)
    value = full(shape, fill_value, dtype)
    return convert_type(value, dtype, weak_type=True) if weak else value


# -- identities ----------------------------------------------------------------------------------

copy_p = define(
    "copy",
    abstract_eval=lambda x: x,
    lower=lambda ctx, x: x,
    jvp=linear_jvp(lambda: copy_p),
    transpose=lambda ct, x: [ct],
    batch=lambda args, dims: (copy_p.bind(*args), dims[0]),
    elementwise=True,
    linear_in=(0,),
)

stop_gradient_p = define(
    "stop_gradient",
    abstract_eval=lambda x: x,
    lower=lambda ctx, x: x,
    jvp=lambda primals, tangents: (stop_gradient_p.bind(*primals), Zero(get_aval(primals[0]).to_tangent_aval())),
    transpose=None,
    batch=lambda args, dims: (stop_gradient_p.bind(*args), dims[0]),
    elementwise=True,
)


def stop_gradient(x):
    """The identity, with derivative zero.

    Args:
      x: a pytree of arrays.

    Example:
      >>> import velax
      >>> float(velax.grad(lambda x: x * velax.lax.stop_gradient(x))(3.0))
      3.0
    """

    def stop(leaf):
        aval = get_aval(leaf)
        return stop_gradient_p.bind(leaf) if dtypes.tangent_dtype(aval.dtype) != dtypes.float0 else leaf

    return tree_map(stop, x)


def _barrier_jvp(primals, tangents):
    outs = optimization_barrier_p.bind(*primals)
    live = [t for t in tangents if type(t) is not Zero]
    given = iter(optimization_barrier_p.bind(*live) if live else [])
    return outs, [t if type(t) is Zero else next(given) for t in tangents]


optimization_barrier_p = define(
    "optimization_barrier",
    abstract_eval=lambda *xs: list(xs),
    lower=lambda ctx, *xs: ctx.builder.barrier(xs),
    jvp=_barrier_jvp,
    transpose=lambda cts, *xs: cts,
    batch=lambda args, dims: (optimization_barrier_p.bind(*args), list(dims)),
    multiple_results=True,
)


def optimization_barrier(operand, /):
    """The identity on a pytree, across which the compiler moves nothing: all inputs are computed before any
    output is used.
    """
    leaves, tree = tree_flatten(operand)
    return tree_unflatten(tree, optimization_barrier_p.bind(*leaves)) if leaves else operand
