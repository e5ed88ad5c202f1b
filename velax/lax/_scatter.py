"""Scatter: slices written or combined at computed positions, as `velax.lax._indexing` describes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from velax._ir.graph import GatherDims
from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.jaxpr import ClosedJaxpr, Jaxpr
from velax._lang.primitive import Primitive, define
from velax._lang.trace import Tracer, get_aval
from velax._transforms.batching import AxisData, batch_jaxpr, matchaxis
from velax._transforms.evaluate import eval_jaxpr
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import UndefinedPrimal, Zero, add_tangents, instantiate_zeros, zeros_like_aval
from velax.lax._arithmetic import add, add_p, div, max_p, min_p, mul, mul_p, neg, sub, sub_p
from velax.lax._comparison import eq, gt, ne
from velax.lax._gather import gather_p
from velax.lax._indexing import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    check_batching,
    check_index_type,
    check_indices,
    check_mode,
    increasing,
    inside,
    plain_dims,
    shift,
)
from velax.lax._reductions import reduce_max
from velax.lax._structural import broadcast_in_dim, canonical_shape, full, iota, reshape, select
from velax.lax._transcendental import complex as complex_, imag, real
from velax.lax._values import core_args

__all__ = [
    "scatter", "scatter_add", "scatter_add_p", "scatter_apply", "scatter_max", "scatter_max_p", "scatter_min",
    "scatter_min_p", "scatter_mul", "scatter_mul_p", "scatter_p", "scatter_sub", "scatter_sub_p",
]  # fmt: skip


# -- scatter: types, batching, lowering ------------------------------------------------------------


def _scatter_type(
    x, indices, updates, *, dimension_numbers, indices_are_sorted, unique_indices, mode, update_jaxpr, update_consts
):
    dims, rank = dimension_numbers, len(x.shape)
    check_mode("scatter", mode)
    if x.dtype != updates.dtype:
        raise TypeError(f"lax.scatter requires arguments to have the same dtypes, got {x.dtype}, {updates.dtype}.")
    check_index_type("scatter", indices)
    check_indices("scatter", indices, dims.scatter_dims_to_operand_dims, "scatter_dims_to_operand_dims", rank)
    expected = len(dims.update_window_dims) + len(indices.shape) - 1
    if len(updates.shape) != expected:
        raise TypeError(f"Updates tensor must be of rank {expected}; got {len(updates.shape)}.")
    increasing(dims.update_window_dims, "scatter", "update_window_dims")
    inside(dims.update_window_dims, len(updates.shape), "scatter", "update_window_dims")
    increasing(dims.inserted_window_dims, "scatter", "inserted_window_dims")
    inside(dims.inserted_window_dims, rank, "scatter", "inserted_window_dims")
    check_batching(
        "scatter",
        "scatter_indices_batching_dims",
        x.shape,
        indices.shape,
        dims.operand_batching_dims,
        dims.scatter_indices_batching_dims,
        dims.inserted_window_dims,
        "inserted_window_dims",
        dims.scatter_dims_to_operand_dims,
        "scatter_dims_to_operand_dims",
    )
    window_rank = len(dims.update_window_dims) + len(dims.inserted_window_dims) + len(dims.operand_batching_dims)
    if window_rank != rank:
        raise TypeError(f"Scatter op has window of size {window_rank}; doesn't match operand of rank {rank}.")
    window_axes = [d for d in range(rank) if d not in dims.inserted_window_dims and d not in dims.operand_batching_dims]
    for u, d in zip(dims.update_window_dims, window_axes, strict=True):
        if updates.shape[u] > x.shape[d]:
            raise TypeError(
                "Bounds of the window dimensions of updates must not exceed the bounds "
                "of the corresponding dimensions of operand. "
                f"For dimension {u}, updates bound is {updates.shape[u]}, operand bound is {x.shape[d]}."
            )
    positions = [n for d, n in enumerate(updates.shape) if d not in dims.update_window_dims]
    for i, (n, m) in enumerate(zip(positions, indices.shape[:-1], strict=True)):
        if n != m:
            raise TypeError(
                "Bounds of the scatter dimensions of updates must be the same as the "
                "bounds of the corresponding dimensions of scatter indices. "
                f"For scatter dimension {i}, updates bound is {n}, indices bound is {m}."
            )
    return shaped_array(x.shape, x.dtype, x.weak_type)


def _scatter_batch(primitive: Callable[[], Primitive]):
    def rule(args, dims, *, dimension_numbers, **params):
        (x, indices, updates), (dx, di, du) = args, dims
        size = next(get_aval(a).shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        x, updates = matchaxis(size, dx, 0, x), matchaxis(size, du, 0, updates)
        numbers = dimension_numbers
        moved = ScatterDimensionNumbers(*map(shift, numbers))
        if di is None:  # the mapped axis is a window axis that is written whole
            moved = moved._replace(
                update_window_dims=(0, *moved.update_window_dims),
                scatter_indices_batching_dims=numbers.scatter_indices_batching_dims,
            )
        else:
            indices = matchaxis(size, di, 0, indices)
            moved = moved._replace(
                operand_batching_dims=(0, *moved.operand_batching_dims),
                scatter_indices_batching_dims=(0, *moved.scatter_indices_batching_dims),
            )
        return primitive().bind(x, indices, updates, dimension_numbers=moved, **params), 0

    return rule


_SCATTER_MODE = {
    GatherScatterMode.CLIP: "clip",
    GatherScatterMode.FILL_OR_DROP: "drop",
    GatherScatterMode.PROMISE_IN_BOUNDS: "promise",
}


def _scatter_lower(fn: str):
    def lower(ctx, x, indices, updates, *, dimension_numbers, mode, unique_indices, indices_are_sorted, **_):
        dims = GatherDims(*dimension_numbers)
        return ctx.builder.scatter(
            fn, x, indices, updates, dims, _SCATTER_MODE[mode], unique_indices, indices_are_sorted
        )

    return lower


@functools.lru_cache(maxsize=256)
def combiner(name: str, dtype) -> Jaxpr:
    """The scalar jaxpr ``(old, update) -> new`` of a scatter with arithmetic."""
    primitive = {
        "scatter-add": add_p,
        "scatter-sub": sub_p,
        "scatter-mul": mul_p,
        "scatter-min": min_p,
        "scatter-max": max_p,
    }[name]
    scalar = shaped_array((), dtype)
    return trace_to_jaxpr(lambda x, y: [primitive.bind(x, y)], [scalar, scalar]).jaxpr


def _window_sizes(dims: ScatterDimensionNumbers, operand_shape, updates_shape) -> tuple[int, ...]:
    """The window's size along each axis of the operand."""
    window = iter(dims.update_window_dims)
    dropped = (*dims.inserted_window_dims, *dims.operand_batching_dims)
    return tuple(min(n, 1) if d in dropped else updates_shape[next(window)] for d, n in enumerate(operand_shape))


def _gather_at(x, indices, dims: ScatterDimensionNumbers, updates_shape, mode, *, sorted_=False, unique=False):
    """What lies where a scatter with these numbers writes, 0 where ``mode`` drops."""
    return gather_p.bind(
        x,
        indices,
        dimension_numbers=GatherDimensionNumbers(*dims),
        slice_sizes=_window_sizes(dims, get_aval(x).shape, updates_shape),
        indices_are_sorted=sorted_,
        unique_indices=unique,
        mode=mode,
        fill_value=0 if mode is GatherScatterMode.FILL_OR_DROP else None,
    )


def _define_scatter(
    name: str, fn: str, jvp: Callable, transpose: Callable | None, linear_in=None, lower: Callable | None = None
) -> Primitive:
    holder: list[Primitive] = []
    p = define(
        name,
        abstract_eval=_scatter_type,
        lower=lower or _scatter_lower(fn),
        jvp=lambda primals, tangents, **params: jvp(holder[0], primals, tangents, **params),
        transpose=transpose,
        batch=_scatter_batch(lambda: holder[0]),
        linear_in=linear_in,
    )
    holder.append(p)
    return p


# -- scatter_add, scatter_sub ----------------------------------------------------------------------


def _additive_jvp(primitive, primals, tangents, **params):
    x, indices, updates = primals
    tx, _, tu = tangents
    out = primitive.bind(x, indices, updates, **params)
    if type(tx) is Zero and type(tu) is Zero:
        return out, Zero.from_primal_value(out)
    return out, primitive.bind(instantiate_zeros(tx), indices, instantiate_zeros(tu), **params)


def _undefined(*args) -> list[bool]:
    return [type(a) is UndefinedPrimal for a in args]


def _shape_of(x):
    return x.aval.shape if type(x) is UndefinedPrimal else get_aval(x).shape


def _additive_transpose(sign: Callable):
    def rule(ct, x, indices, updates, *, dimension_numbers, indices_are_sorted, unique_indices, mode, **_):
        linear_x, _, linear_updates = _undefined(x, indices, updates)
        if type(ct) is Zero:
            return [Zero(x.aval) if linear_x else None, None, Zero(updates.aval) if linear_updates else None]
        ct_updates = None
        if linear_updates:
            ct_updates = sign(
                _gather_at(
                    ct,
                    indices,
                    dimension_numbers,
                    _shape_of(updates),
                    mode,
                    sorted_=indices_are_sorted,
                    unique=unique_indices,
                )
            )
        return [ct if linear_x else None, None, ct_updates]

    return rule


scatter_add_p = _define_scatter("scatter-add", "add", _additive_jvp, _additive_transpose(lambda ct: ct), (0, 2))
scatter_sub_p = _define_scatter("scatter-sub", "sub", _additive_jvp, _additive_transpose(neg), (0, 2))


# -- scatter_mul -----------------------------------------------------------------------------------

_MUL_GRADIENT = "scatter_mul gradients are only implemented if `unique_indices=True`"


def _mul_jvp(primitive, primals, tangents, *, unique_indices, **params):
    x, indices, updates = primals
    tx, _, tu = tangents
    params["unique_indices"] = unique_indices
    out = primitive.bind(x, indices, updates, **params)
    tangent = Zero.from_primal_value(out)
    if type(tx) is not Zero:
        tangent = primitive.bind(tx, indices, updates, **params)
    if type(tu) is not Zero:
        if not unique_indices:
            raise NotImplementedError(_MUL_GRADIENT)
        add_params = {**params, "update_jaxpr": combiner("scatter-add", get_aval(tu).dtype)}
        placed = scatter_add_p.bind(zeros_like_aval(get_aval(out)), indices, tu, **add_params)
        tangent = add_tangents(tangent, mul(x, placed))
    return out, tangent


def _mul_transpose(ct, x, indices, updates, *, dimension_numbers, indices_are_sorted, unique_indices, mode, **params):
    linear_x, _, linear_updates = _undefined(x, indices, updates)
    if type(ct) is Zero:
        return [Zero(x.aval) if linear_x else None, None, Zero(updates.aval) if linear_updates else None]
    if linear_x:
        if linear_updates:
            raise TypeError("scatter_mul is linear in one operand at a time; both are linear here")
        out = scatter_mul_p.bind(
            ct,
            indices,
            updates,
            dimension_numbers=dimension_numbers,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=mode,
            **params,
        )
        return [out, None, None]
    if not unique_indices:
        raise NotImplementedError(_MUL_GRADIENT)
    return [None, None, _gather_at(mul(ct, x), indices, dimension_numbers, _shape_of(updates), mode)]


scatter_mul_p = _define_scatter("scatter-mul", "mul", _mul_jvp, _mul_transpose, (0,))


# -- scatter_min, scatter_max ----------------------------------------------------------------------


def _extremal_jvp(
    primitive, primals, tangents, *, dimension_numbers, indices_are_sorted, unique_indices, mode, **params
):
    """The cotangent of an element is shared equally by all that equal the extremum: the updates
    there, and the operand's own element.

    The tangent is written as ``scatter_add`` onto the operand's tangent. An element that n updates
    address is corrected n times, so its correction is divided by n.
    """
    x, indices, updates = primals
    tx, _, tu = tangents
    numbers = dict(dimension_numbers=dimension_numbers, indices_are_sorted=indices_are_sorted, mode=mode)
    out = primitive.bind(x, indices, updates, unique_indices=unique_indices, **numbers, **params)
    if type(tx) is Zero and type(tu) is Zero:
        return out, Zero.from_primal_value(out)
    tx, tu = instantiate_zeros(tx), instantiate_zeros(tu)
    aval, shape = get_aval(x), get_aval(updates).shape
    add_jaxpr = combiner("scatter-add", aval.dtype)
    at = lambda v: _gather_at(v, indices, dimension_numbers, shape, GatherScatterMode.PROMISE_IN_BOUNDS)
    value = lambda v: full(shape, v, aval.dtype)

    def count(marks):
        zeros = zeros_like_aval(shaped_array(aval.shape, aval.dtype))
        return at(
            scatter_add_p.bind(
                zeros, indices, marks, unique_indices=False, update_jaxpr=add_jaxpr, update_consts=(), **numbers
            )
        )

    extremum = at(out)
    update_wins, operand_wins = eq(updates, extremum), eq(at(x), extremum)
    one, zero = value(1), value(0)
    winners = add(count(select(update_wins, one, zero)), select(operand_wins, one, zero))
    share = div(one, winners)
    from_update = select(update_wins, share, zero)
    from_operand = div(sub(select(operand_wins, share, zero), one), count(one))
    correction = add(mul(at(tx), from_operand), mul(tu, from_update))
    tangent = scatter_add_p.bind(
        tx, indices, correction, unique_indices=unique_indices, update_jaxpr=add_jaxpr, update_consts=(), **numbers
    )
    return out, tangent


def _extremal_lower(fn: str):
    def lower(ctx, x, indices, updates, **params):
        if not dtypes.is_complex(ctx.avals_in[0].dtype):
            return _scatter_lower(fn)(ctx, x, indices, updates, **params)
        lexicographic = trace_to_jaxpr(lambda *args: [_lexicographic(fn, *args, **params)], ctx.avals_in)
        return ctx.inline(lexicographic, [x, indices, updates])[0]

    return lower


def _lexicographic(fn: str, x, indices, updates, *, dimension_numbers, mode, update_jaxpr, **params):
    """The extremum of complex numbers: of the real parts, then of the imaginary parts that go with
    it.
    """
    primitive, worst = (scatter_min_p, np.inf) if fn == "min" else (scatter_max_p, -np.inf)
    jaxpr = combiner(primitive.name, dtypes.real_dtype(get_aval(x).dtype))
    bind = lambda a, b: primitive.bind(
        a, indices, b, dimension_numbers=dimension_numbers, mode=mode, update_jaxpr=jaxpr, **params
    )
    first = bind(real(x), real(updates))
    there = _gather_at(first, indices, dimension_numbers, get_aval(updates).shape, mode)
    # what is NaN stays as it is
    among = lambda part, of, at: select(
        eq(real(of), at), part, select(ne(at, at), part, full(at.shape, worst, at.dtype))
    )
    return complex_(first, bind(among(imag(x), x, first), among(imag(updates), updates, there)))


scatter_min_p = _define_scatter("scatter-min", "min", _extremal_jvp, None, lower=_extremal_lower("min"))
scatter_max_p = _define_scatter("scatter-max", "max", _extremal_jvp, None, lower=_extremal_lower("max"))


# -- scatter ---------------------------------------------------------------------------------------


def _set_jvp(
    primitive,
    primals,
    tangents,
    *,
    dimension_numbers,
    indices_are_sorted,
    unique_indices,
    mode,
    update_jaxpr,
    update_consts,
):
    if update_jaxpr is not None:
        raise NotImplementedError(
            "scatter_apply JVP not implemented; gather the elements, apply the function, and scatter the results instead"
        )
    x, indices, updates = primals
    tx, _, tu = tangents
    params = dict(
        dimension_numbers=dimension_numbers,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
        update_jaxpr=None,
        update_consts=(),
    )
    out = primitive.bind(x, indices, updates, **params)
    if type(tx) is Zero and type(tu) is Zero:
        return out, Zero.from_primal_value(out)
    tx, tu = instantiate_zeros(tx), instantiate_zeros(tu)
    if unique_indices:
        return out, primitive.bind(tx, indices, tu, **params)
    # Which of several updates of an element stays is known only when they are written: number them,
    # scatter the numbers, and see which are there.
    updates_shape = get_aval(updates).shape
    position_axes = [d for d in range(len(updates_shape)) if d not in dimension_numbers.update_window_dims]
    positions = [updates_shape[d] for d in position_axes]
    count = int(np.prod(positions, dtype=np.int64))
    numbers = add(iota(np.uint32, count), np.uint32(1))
    numbers = broadcast_in_dim(reshape(numbers, positions), updates_shape, position_axes)
    nothing = full(get_aval(x).shape, np.uint32(0))
    written = primitive.bind(nothing, indices, numbers, **params)
    found = _gather_at(written, indices, dimension_numbers, updates_shape, GatherScatterMode.PROMISE_IN_BOUNDS)
    kept = select(eq(written, nothing), tx, zeros_like_aval(get_aval(tx)))
    effective = select(eq(numbers, found), tu, zeros_like_aval(get_aval(tu)))
    params["update_jaxpr"] = combiner("scatter-add", get_aval(tx).dtype)
    return out, scatter_add_p.bind(kept, indices, effective, **params)


def _set_transpose(ct, x, indices, updates, *, unique_indices, update_jaxpr, **params):
    linear_x, _, linear_updates = _undefined(x, indices, updates)
    if update_jaxpr is not None or not unique_indices:
        raise NotImplementedError("the transpose of scatter is only implemented if `unique_indices=True`")
    if type(ct) is Zero:
        return [Zero(x.aval) if linear_x else None, None, Zero(updates.aval) if linear_updates else None]
    ct_x = ct_updates = None
    if linear_x:
        zeros = zeros_like_aval(shaped_array(_shape_of(updates), get_aval(ct).dtype))
        ct_x = scatter_p.bind(ct, indices, zeros, unique_indices=True, update_jaxpr=None, **params)
    if linear_updates:
        ct_updates = _gather_at(ct, indices, params["dimension_numbers"], _shape_of(updates), params["mode"])
    return [ct_x, None, ct_updates]


def _set_lower(ctx, x, indices, updates, *, update_jaxpr, update_consts, **params):
    if update_jaxpr is None:
        return _scatter_lower("set")(ctx, x, indices, updates, **params)
    return _apply_lower(ctx, x, indices, updates, update_jaxpr, update_consts, **params)


def _apply_lower(
    ctx,
    x,
    indices,
    updates,
    update_jaxpr,
    update_consts,
    *,
    dimension_numbers,
    mode,
    unique_indices,
    indices_are_sorted,
):
    """Count how often each element is addressed, and apply the function to those whose count is not
    used up, until all are.

    ``x, n -> while any(n > 0): x, n = where(n > 0, f(x), x), n - 1``; with unique indices it is one
    step.
    """
    if not x.size or not updates.size:
        return x
    b = ctx.builder
    ones, zeros = b.full(updates.shape, 1, "i32"), b.full(x.shape, 0, "i32")
    count = b.scatter(
        "add",
        zeros,
        indices,
        ones,
        GatherDims(*dimension_numbers),
        _SCATTER_MODE[mode],
        unique_indices,
        indices_are_sorted,
    )
    dtype = ctx.avals_in[0].dtype
    scalar = ClosedJaxpr(update_jaxpr, update_consts)
    mapped, _ = batch_jaxpr(scalar, AxisData(None, x.size), [True, False], instantiate=True)

    def step(x, n):
        (new,) = eval_jaxpr(mapped.jaxpr, mapped.consts, x, dtype.type(0))
        return [select(gt(n, np.int32(0)), new, x), sub(n, np.int32(1))]

    flat, counts = shaped_array((x.size,), dtype), shaped_array((x.size,), np.dtype(np.int32))
    body = trace_to_jaxpr(step, [flat, counts])
    init = [b.reshape(x, (x.size,)), b.reshape(count, (x.size,))]
    if unique_indices:
        out = ctx.inline(body, init)[0]
    else:
        condition = trace_to_jaxpr(lambda x, n: [gt(reduce_max(n, (0,)), np.int32(0))], [flat, counts])
        (condition, _), (body, captured) = ctx.subgraph(condition), ctx.subgraph(body)
        out = b.while_(condition, body, [], captured, init)[0]
    return b.reshape(out, x.shape)


scatter_p = _define_scatter("scatter", "set", _set_jvp, _set_transpose, lower=_set_lower)


# -- public functions ------------------------------------------------------------------------------


def _bind_scatter(primitive: Primitive, operand, scatter_indices, updates, dimension_numbers, sorted_, unique, mode):
    name = primitive.name.replace("-", "_")
    (operand, updates), (indices,) = core_args(name, operand, updates), core_args(name, scatter_indices)
    jaxpr = None if primitive is scatter_p else combiner(primitive.name, get_aval(operand).dtype)
    return primitive.bind(
        operand,
        indices,
        updates,
        dimension_numbers=plain_dims(dimension_numbers),
        indices_are_sorted=bool(sorted_),
        unique_indices=bool(unique),
        mode=GatherScatterMode.from_any(mode),
        update_jaxpr=jaxpr,
        update_consts=(),
    )


def scatter(
    operand,
    scatter_indices,
    updates,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
):
    """A copy of an array with windows at computed positions replaced.

    Args:
      operand: an array.
      scatter_indices: integers; the last axis holds index vectors.
      updates: the windows: an array of the operand's dtype.
      dimension_numbers: which axes correspond; see `ScatterDimensionNumbers`.
      indices_are_sorted: a promise that the index vectors are in lexicographic order.
      unique_indices: a promise that no element is written twice. Without it, which of several
        updates of an element stays is unspecified.
      mode: for windows outside the operand: ``'drop'`` (the default), ``'clip'`` or
        ``'promise_in_bounds'``.

    Raises:
      TypeError: if the dimension numbers, shapes or dtypes do not fit.
      ValueError: for indices that are not integers.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
      >>> lax.scatter(jnp.zeros(3), jnp.array([[2], [0]]), jnp.array([7., 8.]), numbers)
      Array([8., 0., 7.], dtype=float32)
    """
    return _bind_scatter(
        scatter_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_add(
    operand, scatter_indices, updates, dimension_numbers, *, indices_are_sorted=False, unique_indices=False, mode=None
):
    """A copy of an array with updates added at computed positions; arguments as `scatter`."""
    return _bind_scatter(
        scatter_add_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_sub(
    operand, scatter_indices, updates, dimension_numbers, *, indices_are_sorted=False, unique_indices=False, mode=None
):
    """A copy of an array with updates subtracted at computed positions; arguments as `scatter`."""
    return _bind_scatter(
        scatter_sub_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_mul(
    operand, scatter_indices, updates, dimension_numbers, *, indices_are_sorted=False, unique_indices=False, mode=None
):
    """A copy of an array multiplied by updates at computed positions; arguments as `scatter`.

    The derivative with respect to the updates needs ``unique_indices=True``.
    """
    return _bind_scatter(
        scatter_mul_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_min(
    operand, scatter_indices, updates, dimension_numbers, *, indices_are_sorted=False, unique_indices=False, mode=None
):
    """A copy of an array with the minimum of element and updates at computed positions; arguments
    as `scatter`.
    """
    return _bind_scatter(
        scatter_min_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_max(
    operand, scatter_indices, updates, dimension_numbers, *, indices_are_sorted=False, unique_indices=False, mode=None
):
    """A copy of an array with the maximum of element and updates at computed positions; arguments
    as `scatter`.
    """
    return _bind_scatter(
        scatter_max_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_apply(
    operand,
    scatter_indices,
    func: Callable[[Any], Any],
    dimension_numbers,
    *,
    update_shape=(),
    indices_are_sorted=False,
    unique_indices=False,
    mode=None,
):
    """A copy of an array with a function applied to the elements at computed positions.

    Args:
      operand: an array.
      scatter_indices: integers; the last axis holds index vectors.
      func: a function of a scalar. An element that is addressed several times has it applied as
        often.
      dimension_numbers: which axes correspond, if there were updates of shape ``update_shape``.
      update_shape: that shape.
      indices_are_sorted, unique_indices, mode: as in `scatter`.

    Raises:
      NotImplementedError: if ``func`` closes over traced values; and when differentiated.
    """
    operand, indices = core_args("scatter_apply", operand, scatter_indices, same_dtype=False)
    dtype = get_aval(operand).dtype
    scalar = shaped_array((), dtype)
    closed = trace_to_jaxpr(lambda x, _: [func(x)], [scalar, scalar])
    if any(isinstance(c, Tracer) for c in closed.consts):
        raise NotImplementedError(
            "scatter_apply: func closes over traced values; gather the elements, apply "
            "func, and scatter the results instead"
        )
    (result,) = closed.out_avals
    if result.shape or result.dtype != dtype:
        raise TypeError(f"scatter_apply: func must return a scalar of the operand's dtype {dtype}, got {result}")
    return scatter_p.bind(
        operand,
        indices,
        full(canonical_shape(update_shape, "scatter_apply"), 0, dtype),
        dimension_numbers=plain_dims(dimension_numbers),
        indices_are_sorted=bool(indices_are_sorted),
        unique_indices=bool(unique_indices),
        mode=GatherScatterMode.from_any(mode),
        update_jaxpr=closed.jaxpr,
        update_consts=tuple(closed.consts),
    )
