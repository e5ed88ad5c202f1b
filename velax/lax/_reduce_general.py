"""`reduce` with any associative function, and `reduce_precision`."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from velax._lang import config, dtypes
from velax._lang.array import ArrayImpl
from velax._lang.avals import shaped_array
from velax._lang.jaxpr import ClosedJaxpr, Literal
from velax._lang.primitive import define
from velax._lang.trace import Tracer, get_aval
from velax._lang.traceback import without_boundary
from velax._transforms.batching import AxisData, batch_flat, matchaxis
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.jvp import jvp_flat
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import Zero
from velax.lax import _arithmetic as arithmetic, _comparison as comparison, _reductions as reductions
from velax.lax._rules import linear_jvp
from velax.lax._slicing import concatenate, slice_in_dim
from velax.lax._structural import broadcast_in_dim, canonical_axis, convert_type, reshape, squeeze, transpose
from velax.lax._values import core_args
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = ["reduce", "reduce_p", "reduce_precision", "reduce_precision_p"]


# -- reduce --------------------------------------------------------------------------------------


def _reduce_type(*avals, computation, jaxpr, dimensions):
    operands, inits = avals[: len(avals) // 2], avals[len(avals) // 2 :]
    if any(a.shape != operands[0].shape for a in operands):
        raise ValueError(f"reduce requires operands of one shape, got {', '.join(str(a.shape) for a in operands)}")
    if any(a.shape for a in inits):
        raise ValueError(f"reduce found non-scalar initial value: {[a.shape for a in inits]}")
    kept = tuple(n for i, n in enumerate(operands[0].shape) if i not in dimensions)
    return [shaped_array(kept, a.dtype, a.weak_type) for a in operands]


def _as_rows(x, dimensions):
    """``x`` as (product of the kept axes, product of the reduced ones)."""
    shape = get_aval(x).shape
    kept = [d for d in range(len(shape)) if d not in dimensions]
    rows = (math.prod(shape[d] for d in kept), math.prod(shape[d] for d in dimensions))
    return reshape(transpose(x, (*kept, *dimensions)), rows)


def _columns(rows, start: int, stop: int) -> list:
    return [slice_in_dim(x, start, stop, 1, 1) for x in rows]


def _apply(jaxpr: ClosedJaxpr, xs: list, ys: list) -> list:
    """A scalar function of two groups of scalars, on arrays of one shape, elementwise."""
    shape = get_aval(xs[0]).shape
    size = math.prod(shape)
    flat = [reshape(v, (size,)) for v in (*xs, *ys)]
    outs, dims = batch_flat(jaxpr_as_fun(jaxpr), AxisData(None, size), flat, [0] * len(flat))
    return [reshape(matchaxis(size, d, 0, v), shape) for v, d in zip(outs, dims, strict=True)]


def _reduce_tree(operands: Sequence, inits: Sequence, *, jaxpr: ClosedJaxpr, dimensions) -> list:
    """The reduction by halving: neighbours ``n/2`` apart are combined, until one element a row is left, which
    meets the initial value.
    """
    shape = get_aval(operands[0]).shape
    kept = tuple(n for i, n in enumerate(shape) if i not in dimensions)
    rows = [_as_rows(x, dimensions) for x in operands]
    count, n = get_aval(rows[0]).shape
    inits = [
        broadcast_in_dim(convert_type(v, get_aval(x).dtype), (count,), ()) for v, x in zip(inits, operands, strict=True)
    ]
    if n == 0 or count == 0:
        return [reshape(v, kept) for v in inits]
    while n > 1:
        half = n // 2
        first, second = _columns(rows, 0, half), _columns(rows, half, 2 * half)
        combined = _apply(jaxpr, first, second)
        rows = (
            [concatenate([x, y], 1) for x, y in zip(combined, _columns(rows, 2 * half, n), strict=True)]
            if n % 2
            else combined
        )
        n = half + n % 2
    outs = _apply(jaxpr, inits, [squeeze(x, (1,)) for x in rows])
    return [reshape(x, kept) for x in outs]


_MONOIDS = {"add": "add", "mul": "mul", "min": "min", "max": "max", "and": "and", "or": "or", "xor": "xor"}


def _monoid(jaxpr: ClosedJaxpr) -> str | None:
    """The graph's reduction of the same name, if the function is one operation on its two arguments."""
    inner = jaxpr.jaxpr
    if len(inner.eqns) != 1 or len(inner.invars) != 2 or inner.constvars:
        return None
    (eqn,) = inner.eqns
    if (
        any(type(x) is Literal for x in eqn.invars)
        or set(eqn.invars) != set(inner.invars)
        or list(inner.outvars) != list(eqn.outvars)
    ):
        return None
    return _MONOIDS.get(eqn.primitive.name)


def _reduce_lower(ctx, *nodes, computation, jaxpr, dimensions):
    count = len(nodes) // 2
    fn = _monoid(jaxpr)
    if fn is not None and not dtypes.is_complex(ctx.avals_in[0].dtype):
        b = ctx.builder
        total = b.reduce(fn, nodes[0], dimensions)
        return [b.map(fn, b.broadcast(nodes[1], total.shape, ()), total)]
    run = lambda *values: _reduce_tree(values[:count], values[count:], jaxpr=jaxpr, dimensions=dimensions)
    return ctx.inline(trace_to_jaxpr(run, ctx.avals_in), nodes)


def _reduce_jvp(primals, tangents, *, computation, jaxpr, dimensions):
    count = len(primals) // 2
    if all(type(t) is Zero for t in tangents):
        outs = reduce_p.bind(*primals, computation=computation, jaxpr=jaxpr, dimensions=dimensions)
        return outs, [Zero.from_primal_value(o) for o in outs]
    run = lambda *values: _reduce_tree(values[:count], values[count:], jaxpr=jaxpr, dimensions=dimensions)
    return jvp_flat(run, primals, tangents)


def _reduce_batch(args, dims, *, computation, jaxpr, dimensions):
    count = len(args) // 2
    size = next(get_aval(x).shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    if any(d is not None for d in dims[count:]):  # an initial value for each example
        run = lambda *values: _reduce_tree(values[:count], values[count:], jaxpr=jaxpr, dimensions=dimensions)
        return batch_flat(run, AxisData(None, size), args, dims)
    d = next(d for d in dims if d is not None)
    operands = [matchaxis(size, dim, d, x) for x, dim in zip(args[:count], dims[:count], strict=True)]
    moved = tuple(a + (a >= d) for a in dimensions)
    outs = reduce_p.bind(*operands, *args[count:], computation=computation, jaxpr=jaxpr, dimensions=moved)
    return outs, [d - sum(a < d for a in moved)] * count


reduce_p = define(
    "reduce",
    abstract_eval=_reduce_type,
    lower=_reduce_lower,
    jvp=_reduce_jvp,
    transpose=None,
    batch=_reduce_batch,
    multiple_results=True,
    irrelevant_params=("computation",),
)

#: operation -> (reduction, its initial value for a dtype), for which `reduce` has a primitive of its own
_REDUCERS: dict[Callable, tuple[Callable, Callable]] = {
    arithmetic.add: (reductions.reduce_sum, lambda dtype: 0),
    arithmetic.mul: (reductions.reduce_prod, lambda dtype: 1),
    arithmetic.max: (reductions.reduce_max, dtypes.least),
    arithmetic.min: (reductions.reduce_min, dtypes.greatest),
    comparison.bitwise_and: (
        reductions.reduce_and,
        lambda dtype: True if dtype == np.bool_ else dtype.type(0) ^ ~dtype.type(0),
    ),
    comparison.bitwise_or: (reductions.reduce_or, lambda dtype: 0),
    comparison.bitwise_xor: (reductions.reduce_xor, lambda dtype: 0),
}


def _own_reduction(computation, operands, inits):
    """The reduction that ``reduce`` amounts to for a known operation with its neutral initial value, else None."""
    if len(operands) != 1 or not _hashable(computation):
        return None
    found = _REDUCERS.get(computation)
    init = inits[0]
    if found is None or isinstance(init, Tracer):
        return None
    reduction, neutral = found
    dtype = get_aval(operands[0]).dtype
    if dtypes.is_extended(dtype) or (dtypes.is_complex(dtype) and computation in (arithmetic.max, arithmetic.min)):
        return None
    if computation in (arithmetic.add, arithmetic.mul) and dtype == np.bool_:
        return None
    value = np.asarray(init)
    return reduction if value.shape == () and value.astype(dtype) == np.asarray(neutral(dtype)).astype(dtype) else None


@functools.lru_cache(maxsize=512)
def _cached_computation(computation: Callable, tree, avals: tuple, config_key) -> ClosedJaxpr:
    return _trace_computation(computation, tree, avals)


def _trace_computation(computation: Callable, tree, avals: tuple) -> ClosedJaxpr:
    n = len(avals)

    def flat(*args):
        out, out_tree = tree_flatten(computation(tree_unflatten(tree, args[:n]), tree_unflatten(tree, args[n:])))
        if out_tree != tree:
            raise ValueError(f"reduce: computation must return a pytree like its arguments, {tree}, got {out_tree}")
        return out

    closed = trace_to_jaxpr(flat, [*avals, *avals])
    for given, found in zip(avals, closed.out_avals, strict=True):
        if found.shape or found.dtype != given.dtype:
            raise TypeError(
                f"reduce: computation must return scalars of the dtypes it is given; got {found} from {given}"
            )
    if any(isinstance(c, Tracer) for c in closed.consts):
        raise NotImplementedError(
            "Reduction computations can't close over Tracers: pass such values as operands, broadcast to the "
            "operands' shape"
        )
    return closed


def _hashable(x) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def reduce(operands, init_values, computation: Callable, dimensions: Sequence[int], out_sharding=None):
    """Reduce arrays over axes by any associative function.

    Args:
      operands: a pytree of arrays of one shape.
      init_values: a pytree of scalars like it: what the reduction starts from. It should be
        neutral: how often it enters is unspecified, except that it is the result of reducing
        nothing.
      computation: an associative function of two pytrees of scalars like ``init_values``, to one.
        The order in which elements are combined is unspecified.
      dimensions: the axes to reduce.

    Returns:
      A pytree of arrays without the axes.

    Raises:
      ValueError: if the pytrees, shapes or axes do not fit.
      NotImplementedError: if ``computation`` closes over traced values.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> lax.reduce(jnp.arange(4), 0, lambda x, y: x + y, (0,))
      Array(6, dtype=int32)
    """
    if out_sharding is not None:
        raise NotImplementedError(
            f"reduce: {out_sharding=} asks for a partitioned result, which is not available; leave it out"
        )
    flat, tree = tree_flatten(operands)
    inits, init_tree = tree_flatten(init_values)
    if tree != init_tree:
        raise ValueError(f"Operands must have the same tree structure as init_values: {tree} vs. {init_tree}")
    if not flat:
        raise ValueError("reduce requires at least one operand")
    flat = core_args("reduce", *flat, same_dtype=False)
    inits = core_args("reduce", *inits, same_dtype=False)
    shapes = [get_aval(x).shape for x in inits]
    if any(shapes):
        raise ValueError(f"reduce found non-scalar initial value: {shapes}")
    avals = [get_aval(x) for x in flat]
    ndim = avals[0].ndim
    if not all(-ndim <= d < ndim for d in dimensions):
        raise ValueError(
            f"reduction axes {tuple(dimensions)} contains out-of-bounds indices for {avals[0].str_short()}."
        )
    dimensions = tuple(canonical_axis(d, ndim, "reduce") for d in dimensions)
    if len(set(dimensions)) != len(dimensions):
        raise ValueError(f"duplicate value in 'axes' of reduction: {dimensions}")
    computation = without_boundary(computation)
    own = _own_reduction(computation, flat, inits)
    if own is not None:
        return tree_unflatten(tree, [own(flat[0], dimensions)])
    scalars = tuple(shaped_array((), a.dtype) for a in avals)
    if _hashable(computation):
        jaxpr = _cached_computation(computation, tree, scalars, config.config_key())
    else:
        jaxpr = _trace_computation(computation, tree, scalars)
    inits = [
        convert_type(v, a.dtype) if isinstance(v, (Tracer, ArrayImpl)) else a.dtype.type(v)
        for v, a in zip(inits, avals, strict=True)
    ]
    return tree_unflatten(
        tree, reduce_p.bind(*flat, *inits, computation=computation, jaxpr=jaxpr, dimensions=dimensions)
    )


# -- reduce_precision ----------------------------------------------------------------------------

_FORMATS = {"f16": (5, 10), "bf16": (8, 7), "f32": (8, 23), "f64": (11, 52)}  # (exponent bits, mantissa bits)


def _reduce_precision_type(x, *, exponent_bits, mantissa_bits):
    if not dtypes.is_floating(x.dtype):
        raise TypeError(f"reduce_precision does not accept dtype {x.dtype}. Accepted dtypes are subtypes of floating.")
    if exponent_bits < 1:
        raise ValueError(f"reduce_precision: exponent_bits must be positive; got {exponent_bits}")
    if mantissa_bits < 0:
        raise ValueError(f"reduce_precision: mantissa_bits must be non-negative; got {mantissa_bits}")
    return x


def _reduce_precision_lower(ctx, x, *, exponent_bits, mantissa_bits):
    """On the bits: round the mantissa half to even; exponents above the narrow format's become infinity,
    those below its least normal one zero.
    """
    b = ctx.builder
    if x.dtype not in _FORMATS:  # float8: by way of float16, which holds all of its values
        wide = _reduce_precision_lower(
            ctx, b.convert(x, "f16"), exponent_bits=exponent_bits, mantissa_bits=mantissa_bits
        )
        return b.convert(wide, x.dtype)
    own_exponent, own_mantissa = _FORMATS[x.dtype]
    if exponent_bits >= own_exponent and mantissa_bits >= own_mantissa:
        return x
    width = dtypes.itemsize_bits(dtypes.dtype_of_ir_name(x.dtype))
    name = f"u{width}"
    full = lambda value: b.full(x.shape, value, name)
    original = bits = b.bitcast(x, name)
    dropped = own_mantissa - mantissa_bits
    if dropped > 0:
        # half of the last kept bit, less one, plus that bit: carries exactly where half-to-even rounds up
        last = b.map("and", b.map("shrl", bits, full(dropped)), full(1))
        rounded = b.map("add", bits, b.map("add", last, full((1 << dropped - 1) - 1)))
        bits = b.map("and", rounded, full((1 << width) - (1 << dropped)))
    sign_bit = 1 << width - 1
    sign, magnitude = b.map("and", original, full(sign_bit)), b.map("and", bits, full(sign_bit - 1))
    infinity = ((1 << own_exponent) - 1) << own_mantissa
    if exponent_bits < own_exponent:
        bias, narrow_bias = (1 << own_exponent - 1) - 1, (1 << exponent_bits - 1) - 1
        least, beyond = (bias - narrow_bias + 1) << own_mantissa, (bias + narrow_bias + 1) << own_mantissa
        magnitude = b.map("select", b.map("ge", magnitude, full(beyond)), full(infinity), magnitude)
        magnitude = b.map("select", b.map("lt", magnitude, full(least)), full(0), magnitude)
    result = b.bitcast(b.map("or", sign, magnitude), x.dtype)
    return b.map("select", b.map("ne", x, x), x, result)


reduce_precision_p = define(
    "reduce_precision",
    abstract_eval=_reduce_precision_type,
    lower=_reduce_precision_lower,
    jvp=linear_jvp(lambda: reduce_precision_p),
    transpose=lambda ct, x, **params: [Zero(x.aval) if type(ct) is Zero else reduce_precision_p.bind(ct, **params)],
    batch=lambda args, dims, **params: (reduce_precision_p.bind(*args, **params), dims[0]),
    elementwise=True,
    linear_in=(0,),
)


def reduce_precision(operand, exponent_bits: int, mantissa_bits: int):
    """Round to what a narrower floating-point format can hold, keeping the dtype.

    Args:
      operand: an array of floats.
      exponent_bits: the format's exponent bits; at least 1.
      mantissa_bits: its mantissa bits, without the implicit one.

    Returns:
      The nearest numbers of the format, ties to even; too large ones are infinite, those below its
      least normal number are zero, NaN stays.

    Example:
      >>> from velax import lax
      >>> float(lax.reduce_precision(1.2345, 5, 4))
      1.25
    """
    (operand,) = core_args("reduce_precision", operand)
    return reduce_precision_p.bind(
        operand, exponent_bits=operator.index(exponent_bits), mantissa_bits=operator.index(mantissa_bits)
    )
