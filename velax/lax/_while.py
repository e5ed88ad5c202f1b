"""``while_loop`` and ``fori_loop``: loops whose number of steps depends on values."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import ShapedArray, aval_of_scalar
from velax._lang.config import config
from velax._lang.effects import JaxprInputEffect
from velax._lang.jaxpr import ClosedJaxpr, DropVar, Var, join_effects
from velax._lang.primitive import define
from velax._lang.trace import get_aval, to_concrete_value
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.calls import dce_closed
from velax._transforms.discharge import check_no_aliases, discharge, has_refs
from velax._transforms.evaluate import dependent_outputs, eval_jaxpr, jaxpr_as_fun, move_consts_to_inputs
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import UndefinedPrimal, Zero, instantiate_zeros, ops
from velax.lax._arithmetic import add
from velax.lax._comparison import lt
from velax.lax._loop_tools import (
    argument_tree,
    check_carry,
    check_no_refs,
    flatten_values,
    forwarded,
    give_result,
    group,
    permuted,
    promote_carry,
    shift_input_effects,
    trace_body,
    values_of,
)
from velax.lax._reductions import reduce_or
from velax.lax._scan import scan
from velax.lax._structural import broadcast_in_dim, convert_type, select_n
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = ["fori_loop", "while_loop", "while_p"]


def _while_type(*avals, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    expected = [*cond_jaxpr.in_avals[:cond_nconsts], *body_jaxpr.in_avals]
    for i, (a, b) in enumerate(zip(avals, expected, strict=True)):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(f"while: operand {i} has type {a.str_short()}, but the body takes {b.str_short()}")
    pred = cond_jaxpr.out_avals[0]
    outs = body_jaxpr.out_avals
    if any(a.shape[: pred.ndim] != pred.shape for a in outs if isinstance(a, ShapedArray)):
        raise TypeError(
            f"while: the predicate has shape {pred.shape}, which is no prefix of the shapes of the "
            f"carry, {[a.shape for a in outs]}"
        )
    cond_effects = shift_input_effects(cond_jaxpr.effects, lambda i: i if i < cond_nconsts else i + body_nconsts)
    body_effects = shift_input_effects(body_jaxpr.effects, lambda i: i + cond_nconsts)
    return outs, join_effects(cond_effects, body_effects)


def _apply(operands: Sequence, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts) -> list:
    """Bind the primitive; what predicate and body have captured becomes the first of their constants."""
    cond_jaxpr, cond_captured = move_consts_to_inputs(cond_jaxpr)
    body_jaxpr, body_captured = move_consts_to_inputs(body_jaxpr)
    return while_p.bind(
        *cond_captured,
        *operands[:cond_nconsts],
        *body_captured,
        *operands[cond_nconsts:],
        cond_jaxpr=cond_jaxpr,
        cond_nconsts=cond_nconsts + len(cond_captured),
        body_jaxpr=body_jaxpr,
        body_nconsts=body_nconsts + len(body_captured),
    )


def _grow(carry, step):
    """Grow the carry's flags until ``step(carry) -> (result, out flags)`` adds none."""
    carry = list(carry)
    while True:
        result, out = step(carry)
        grown = [a or b for a, b in zip(carry, out, strict=True)]
        if grown == carry:
            return result, carry
        carry = grown


def _with_ignored(cond_jaxpr: ClosedJaxpr, avals) -> ClosedJaxpr:
    """The predicate of a larger carry: further inputs that it does not read."""
    j = cond_jaxpr.jaxpr
    return ClosedJaxpr(j.replace(invars=[*j.invars, *map(Var, avals)]), cond_jaxpr.consts)


def _tangent_flags(nonzeros, body_jaxpr, cond_nconsts, body_nconsts):
    """The derived body and which carries have a tangent."""
    _, consts, carry = group(list(nonzeros), cond_nconsts, body_nconsts)
    return _grow(carry, lambda carry: jvp_jaxpr(body_jaxpr, [*consts, *carry], carry))


def _bind_jvp(primals, tangents, flags, derived, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    """Bind the loop over carries and the tangents of those with ``flags``; ``tangents`` are those
    of the body's constants and the carries, None for none.
    """
    n_carry = len(flags)
    cond_consts, body_consts, init = group(list(primals), cond_nconsts, body_nconsts)
    consts_t, init_t = group(list(tangents), body_nconsts)
    consts_t = [t for t in consts_t if t is not None]
    init_t = [t for t in init_t if t is not None]
    n = body_nconsts + n_carry
    order = [
        *range(body_nconsts), *range(n, n + len(consts_t)), *range(body_nconsts, n),
        *range(n + len(consts_t), n + len(consts_t) + len(init_t)),
    ]  # fmt: skip
    key = (tuple(flags), len(consts_t))
    body = derived.memo(("while jvp", *key), lambda: permuted(derived, order))
    tangent_avals = tuple(a.to_tangent_aval() for a, f in zip(body_jaxpr.out_avals, flags, strict=True) if f)
    cond = cond_jaxpr.memo(("while jvp", tangent_avals), lambda: _with_ignored(cond_jaxpr, tangent_avals))
    operands = [*cond_consts, *body_consts, *consts_t, *init, *init_t]
    outs = _apply(operands, cond, cond_nconsts, body, body_nconsts + len(consts_t))
    return outs[:n_carry], outs[n_carry:]


def _jvp(primals, tangents, *, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    nonzeros = [type(t) is not Zero for t in tangents]
    derived, flags = _tangent_flags(nonzeros, body_jaxpr, cond_nconsts, body_nconsts)
    needed = [*nonzeros[cond_nconsts : cond_nconsts + body_nconsts], *flags]
    given = [instantiate_zeros(t) if f else None for t, f in zip(tangents[cond_nconsts:], needed, strict=True)]
    outs, tangents_out = _bind_jvp(primals, given, flags, derived, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts)
    given = iter(tangents_out)
    return outs, [next(given) if f else Zero.from_primal_value(x) for f, x in zip(flags, outs, strict=True)]


def _linearize(nonzeros, *primals, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    """The number of steps is not known, so no residuals can be stored: the tangent loop runs the primal loop along."""
    params = dict(cond_jaxpr=cond_jaxpr, cond_nconsts=cond_nconsts, body_jaxpr=body_jaxpr, body_nconsts=body_nconsts)
    outs = while_p.bind(*primals, **params)
    derived, flags = _tangent_flags(nonzeros, body_jaxpr, cond_nconsts, body_nconsts)
    needed = [*nonzeros[cond_nconsts : cond_nconsts + body_nconsts], *flags]

    def linear(*tangents):
        if not any(flags):
            return []
        given = iter(tangents)
        all_tangents = [
            next(given) if nz else Zero.from_primal_value(p) for nz, p in zip(nonzeros, primals, strict=True)
        ]
        chosen = [instantiate_zeros(t) if f else None for t, f in zip(all_tangents[cond_nconsts:], needed, strict=True)]
        return _bind_jvp(primals, chosen, flags, derived, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts)[1]

    return outs, flags, linear


def _transpose(cts, *args, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    if all(type(ct) is Zero for ct in cts):
        return [Zero(x.aval.to_tangent_aval()) if type(x) is UndefinedPrimal else None for x in args]
    raise ValueError(
        "Reverse-mode differentiation does not work for lax.while_loop or lax.fori_loop with dynamic start/stop "
        "values. "
        "Try using lax.scan, or using fori_loop with static start/stop."
    )


def _batch(axis_data, args, dims, *, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    cond_flags, body_flags, carry_flags = group([d is not None for d in dims], cond_nconsts, body_nconsts)
    n_carry = len(carry_flags)
    # a predicate that has a shape is that of an outer vmap: its axes lead those of the carry, so
    # the new axis must lead it too
    batched_pred = bool(cond_jaxpr.out_avals[0].shape)

    def step(carry):
        nonlocal batched_pred
        cond, (pred,) = batch_jaxpr(cond_jaxpr, axis_data, [*cond_flags, *carry], batched_pred)
        if pred:  # examples end at different steps, so every carry is that of its example
            batched_pred, carry = True, [True] * n_carry
            cond, _ = batch_jaxpr(cond_jaxpr, axis_data, [*cond_flags, *carry], True)
        body, out = batch_jaxpr(body_jaxpr, axis_data, [*body_flags, *carry], carry)
        return (cond, body), out

    (cond, body), carry = _grow(carry_flags, step)
    consts, init = group(list(args), cond_nconsts + body_nconsts)
    const_dims, init_dims = group(list(dims), cond_nconsts + body_nconsts)
    consts = [x if d is None else matchaxis(axis_data.size, d, 0, x) for x, d in zip(consts, const_dims, strict=True)]
    init = [matchaxis(axis_data.size, d, 0, x) if c else x for x, d, c in zip(init, init_dims, carry, strict=True)]
    outs = _apply([*consts, *init], cond, cond_nconsts, body, body_nconsts)
    return outs, [0 if c else None for c in carry]


def _dce(used_outputs, eqn):
    p = eqn.params
    cond_jaxpr, body_jaxpr, n_cond, n_body = p["cond_jaxpr"], p["body_jaxpr"], p["cond_nconsts"], p["body_nconsts"]
    effects = eqn.effects
    if any(isinstance(e, JaxprInputEffect) for e in effects):  # effects name inputs by position
        return [True] * len(eqn.invars), eqn
    if not any(used_outputs) and not effects:
        return [False] * len(eqn.invars), None
    cond, cond_used = dce_closed(cond_jaxpr, [True])
    carry = [a or b for a, b in zip(used_outputs, cond_used[n_cond:], strict=True)]

    def step(carry):
        body, used = dce_closed(body_jaxpr, carry)
        return (body, used), used[n_body:]

    (body, body_used), carry = _grow(carry, step)

    def trimmed(closed, used, keep):
        """``closed``, whose inputs are the ``used`` ones, with the inputs ``keep``."""
        given = iter(closed.jaxpr.invars)
        names = [next(given) if u else None for u in used]
        avals = (
            [*body_jaxpr.in_avals[:n_body], *body_jaxpr.in_avals[n_body:]] if closed is body else cond_jaxpr.in_avals
        )
        return closed.replace(
            jaxpr=closed.jaxpr.replace(invars=[v or Var(a) for v, a, k in zip(names, avals, keep, strict=True) if k])
        )

    cond_keep, body_keep = [*cond_used[:n_cond], *carry], [*body_used[:n_body], *carry]
    params = dict(
        p, cond_jaxpr=trimmed(cond, cond_used, cond_keep), body_jaxpr=trimmed(body, body_used, body_keep),
        cond_nconsts=sum(cond_used[:n_cond]), body_nconsts=sum(body_used[:n_body]),
    )  # fmt: skip
    keep = [*cond_keep[:n_cond], *body_keep]
    outvars = [v if u else DropVar(v.aval) for v, u, c in zip(eqn.outvars, used_outputs, carry, strict=True) if c]
    invars = [x for x, k in zip(eqn.invars, keep, strict=True) if k]
    return keep, eqn.replace(
        invars=invars, outvars=outvars, params=params, effects=join_effects(cond.effects, body.effects)
    )


def _for_each_example(cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    """A loop with a predicate for each example as one that runs while any holds and leaves the
    carries of finished examples alone.

    The new body takes the predicate's constants before its own.
    """
    pred = cond_jaxpr.out_avals[0]
    axes = tuple(range(pred.ndim))
    test, step = jaxpr_as_fun(cond_jaxpr), jaxpr_as_fun(body_jaxpr)

    def any_left(*args):
        return [reduce_or(test(*args)[0], axes)]

    def advance(*args):
        cond_consts, body_consts, carry = group(args, cond_nconsts, body_nconsts)
        going = test(*cond_consts, *carry)[0]
        moved = step(*body_consts, *carry)
        return [
            select_n(broadcast_in_dim(going, get_aval(new).shape, axes), old, new)
            for old, new in zip(carry, moved, strict=True)
        ]

    cond = trace_to_jaxpr(any_left, cond_jaxpr.in_avals)
    body = trace_to_jaxpr(advance, [*cond_jaxpr.in_avals[:cond_nconsts], *body_jaxpr.in_avals])
    return cond, body


def _depends(flags, *, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    cond_consts, consts, carry = group(list(flags), cond_nconsts, body_nconsts)
    _, carry = _grow(carry, lambda carry: (None, dependent_outputs(body_jaxpr, [*consts, *carry])))
    return [True] * len(carry) if any(dependent_outputs(cond_jaxpr, [*cond_consts, *carry])) else carry


def _replay(*args, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    if cond_jaxpr.out_avals[0].shape:
        return  # of a batch, the body also runs for examples that have ended, where an invalid value does no harm
    cond_consts, body_consts, carry = group(list(args), cond_nconsts, body_nconsts)
    goes_on = lambda: eval_jaxpr(cond_jaxpr.jaxpr, cond_jaxpr.consts, *cond_consts, *carry)[0]
    while goes_on():
        carry = eval_jaxpr(body_jaxpr.jaxpr, body_jaxpr.consts, *body_consts, *carry)


def _lower(ctx, *args, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    cond_consts, body_consts, init = group(list(args), cond_nconsts, body_nconsts)
    if cond_jaxpr.out_avals[0].shape:
        closed = cond_jaxpr
        cond_jaxpr, body_jaxpr = closed.memo(
            ("while of examples", body_jaxpr), lambda: _for_each_example(closed, cond_nconsts, body_jaxpr, body_nconsts)
        )
        body_consts = [*cond_consts, *body_consts]
        body_nconsts += cond_nconsts
    dummy = not init
    if dummy:
        body_jaxpr, init = give_result(body_jaxpr, body_nconsts), [ctx.builder.literal(False, "bool")]
        cond_jaxpr = _with_ignored(cond_jaxpr, body_jaxpr.out_avals)
    cond, cond_captured = ctx.subgraph(cond_jaxpr)
    body, body_captured = ctx.subgraph(body_jaxpr)
    outs = ctx.builder.while_(cond, body, [*cond_captured, *cond_consts], [*body_captured, *body_consts], init)
    ctx.keep(outs, [cond, body])
    return [] if dummy else outs


while_p = define(
    "while",
    abstract_eval=_while_type,
    effectful=True,
    lower=_lower,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=None,
    batch_axis=_batch,
    dce=_dce,
    depends=_depends,
    replay=_replay,
    multiple_results=True,
)
while_p.rules["physical"] = True


def while_loop(cond_fun: Callable, body_fun: Callable, init_val):
    """Repeat ``x = body_fun(x)`` while ``cond_fun(x)`` holds.

    Args:
      cond_fun: from the carry to a boolean scalar.
      body_fun: from the carry to the next one, of unchanged structure and types.
      init_val: the first carry, a pytree.

    Returns:
      The last carry.

    Raises:
      TypeError: if ``cond_fun`` returns no boolean scalar, or the carry changes structure or type.
      ValueError: under reverse-mode differentiation, as the number of steps is unknown: use `scan`,
        or `fori_loop` with static bounds.

    Example:
      >>> from velax import lax
      >>> int(lax.while_loop(lambda x: x < 100, lambda x: x * 2, 3))
      192
    """
    if not (callable(body_fun) and callable(cond_fun)):
        raise TypeError("lax.while_loop: body_fun and cond_fun arguments should be callable.")
    if config.jax_disable_jit:
        try:
            return tree_map(forwarded, _while_in_python(cond_fun, body_fun, init_val))
        except _NotConcrete:
            pass  # a traced predicate (vmap, jit inside out): the loop is staged after all
    init, tree = flatten_values(init_val)
    check_no_refs("while_loop", init)
    arg_tree = argument_tree(tree)
    for _ in range(2):
        avals = [get_aval(x) for x in init]
        cond_jaxpr, cond_consts, cond_tree = trace_body("while_cond", cond_fun, arg_tree, avals)
        body_jaxpr, body_consts, body_tree = trace_body("while_body", body_fun, arg_tree, avals)
        if body_tree != tree:
            break
        init, changed = promote_carry(init, avals, body_jaxpr.out_avals)
        if not changed:
            break
    _check_predicate(cond_jaxpr, cond_tree)
    check_carry("while_loop body function", body_fun, tree, avals, body_tree, body_jaxpr.out_avals)
    return tree_unflatten(body_tree, _bind_while(cond_jaxpr, cond_consts, body_jaxpr, body_consts, init))


def _check_predicate(cond_jaxpr, cond_tree) -> None:
    if cond_tree != tree_flatten(0)[1]:
        raise TypeError(f"cond_fun must return a boolean scalar, but got pytree {cond_tree}.")
    (aval,) = cond_jaxpr.out_avals
    if not isinstance(aval, ShapedArray) or aval.shape or aval.dtype != np.bool_:
        raise TypeError(f"cond_fun must return a boolean scalar, but got output type(s) [{aval!r}].")


def _bind_while(cond_jaxpr, cond_consts, body_jaxpr, body_consts, init) -> list:
    """All results; carries that never change and that the predicate does not read become constants of the body."""
    if has_refs(cond_jaxpr) or has_refs(body_jaxpr):
        return _bind_while_with_refs(cond_jaxpr, cond_consts, body_jaxpr, body_consts, init)
    n_cond, n_body = len(cond_consts), len(body_consts)
    invars, outvars = body_jaxpr.jaxpr.invars[n_body:], body_jaxpr.jaxpr.outvars
    fixed = [i for i, (v, w) in enumerate(zip(invars, outvars, strict=True)) if v is w]
    if fixed:
        _, used = dce_closed(cond_jaxpr, [True])
        fixed = [i for i in fixed if not used[n_cond + i]]
    kept = [i for i in range(len(init)) if i not in fixed]
    if fixed and (kept or body_jaxpr.effects or cond_jaxpr.effects):
        cond, body = cond_jaxpr, body_jaxpr
        order = [*(n_body + i for i in fixed), *range(n_body), *(n_body + i for i in kept)]
        cond_order = [*range(n_cond), *(n_cond + i for i in kept)]
        body_jaxpr = body.memo(("while trimmed", n_body, tuple(fixed)), lambda: permuted(body, order, kept))
        cond_jaxpr = cond.memo(("while trimmed", n_cond, tuple(fixed)), lambda: permuted(cond, cond_order))
        body_consts = [*(init[i] for i in fixed), *body_consts]
    else:
        fixed, kept = [], list(range(len(init)))
    outs = while_p.bind(
        *cond_consts, *body_consts, *(init[i] for i in kept), cond_jaxpr=cond_jaxpr, cond_nconsts=n_cond, body_jaxpr=body_jaxpr,
        body_nconsts=len(body_consts),
    )  # fmt: skip
    results = dict(zip(kept, outs, strict=True))
    return [results[i] if i in results else forwarded(init[i]) for i in range(len(init))]


def _bind_while_with_refs(cond_jaxpr, cond_consts, body_jaxpr, body_consts, init) -> list:
    """References that the body writes are carried, also for the predicate."""
    check_no_aliases("the predicate of while_loop", cond_consts)
    check_no_aliases("the body of while_loop", body_consts)
    cond, written = discharge(cond_jaxpr)
    if written:
        raise ValueError("while_loop: cond_fun writes a mutable array reference; only body_fun may")
    body, written = discharge(body_jaxpr)
    n_cond, n_body = len(cond_consts), len(body_consts)
    carried = {id(body_consts[i]): i for i in written}
    read = [i for i in range(n_body) if i not in written]
    n_outs = len(init)
    order = [*read, *written, *range(n_body, n_body + n_outs)]
    body = permuted(body, order, [*range(n_outs, n_outs + len(written)), *range(n_outs)])
    j = cond.jaxpr
    position = {id(x): k for k, x in enumerate(cond_consts)}
    cond_read = [k for k, x in enumerate(cond_consts) if id(x) not in carried]
    seen = [
        j.invars[position[key]] if key in position else Var(body_jaxpr.in_avals[i].inner_aval)
        for key, i in carried.items()
    ]
    cond = cond.replace(jaxpr=j.replace(invars=[*(j.invars[k] for k in cond_read), *seen, *j.invars[n_cond:]]))
    values = values_of(body_consts)
    outs = _bind_while(
        cond,
        values_of([cond_consts[k] for k in cond_read]),
        body,
        [values[i] for i in read],
        [*(values[i] for i in written), *init],
    )
    for i, value in zip(written, outs, strict=False):
        ops.ref_set(body_consts[i], value)
    return outs[len(written) :]


class _NotConcrete(Exception):
    """The predicate of a loop in Python is traced."""


def _while_in_python(cond_fun, body_fun, value):
    while True:
        pred = to_concrete_value(cond_fun(value))
        if pred is None:
            raise _NotConcrete
        if not pred:
            return value
        value = body_fun(value)


def fori_loop(lower, upper, body_fun: Callable, init_val, *, unroll: int | bool | None = None):
    """Apply ``x = body_fun(i, x)`` for each ``i`` from ``lower`` to ``upper - 1``.

    With bounds known while tracing it is a `scan`, which has a reverse-mode derivative; otherwise a `while_loop`.

    Args:
      lower: the first ``i``, an integer scalar.
      upper: the end, of the same type.
      body_fun: ``body_fun(i, x)`` returns the next ``x``, of unchanged structure and types.
      init_val: the first ``x``, a pytree.
      unroll: how many steps to put together (a hint), for bounds known while tracing.

    Returns:
      The last ``x``.

    Raises:
      TypeError: if the bounds differ in type, or the carry changes structure or type.

    Example:
      >>> from velax import lax
      >>> int(lax.fori_loop(1, 5, lambda i, x: x * i, 1))
      24
    """
    if not callable(body_fun):
        raise TypeError("lax.fori_loop: body_fun argument should be callable.")
    dtype = _bound_dtype(get_aval(lower), get_aval(upper))
    static = to_concrete_value(lower) is not None and to_concrete_value(upper) is not None
    if static:
        lower, upper = _static_bound(lower, "lower"), _static_bound(upper, "upper")
        if config.jax_disable_jit:
            for i in range(lower, upper):
                init_val = body_fun(i, init_val)
            return tree_map(forwarded, init_val)

        step = _loop_functions(body_fun)[0]
        (_, result), _ = scan(
            step, (lower, init_val), None, length=max(upper - lower, 0), unroll=1 if unroll is None else unroll
        )
        return result
    if unroll is not None and unroll is not False and unroll != 1:
        raise ValueError("Can only use `unroll` in `fori_loop` if the loop bounds are statically known.")

    bounds = [
        x if get_aval(x).dtype == dtype else convert_type(x, dtype, False)
        for x in map(_as_scalar, (lower, upper), (dtype, dtype))
    ]
    return while_loop(_below, _loop_functions(body_fun)[1], (*bounds, init_val))[2]


def _below(loop_carry):
    i, end, _ = loop_carry
    return lt(i, end)


_functions: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _loop_functions(body_fun):
    """The bodies of the `scan` and of the `while_loop` that a `fori_loop` becomes: the same for the
    same function, so that a function seen again is not traced again. They refer to it weakly, as
    they live as long as it does."""
    try:
        known = _functions.get(body_fun)
    except TypeError:  # not weakly referenceable or unhashable
        return _make_loop_functions(lambda: body_fun)
    if known is None:
        known = _functions[body_fun] = _make_loop_functions(weakref.ref(body_fun))
    return known


def _make_loop_functions(body_fun):
    def scanned_fun(loop_carry, _):
        i, x = loop_carry
        return (add(i, 1), body_fun()(i, x)), None

    def while_fun(loop_carry):
        i, end, x = loop_carry
        return add(i, 1), end, body_fun()(i, x)

    return scanned_fun, while_fun


def _as_scalar(x, dtype):
    """A Python number as a NumPy scalar of the other bound's dtype."""
    return dtype.type(x) if isinstance(x, (int, float)) and aval_of_scalar(x).dtype != dtype else x


def _static_bound(x, which: str) -> int:
    """A concrete bound as a Python integer."""
    x = to_concrete_value(x)
    x = x if isinstance(x, int) or np.ndim(x) else np.asarray(x).item()
    if isinstance(x, float) and x.is_integer():
        x = int(x)
    try:
        return operator.index(x)
    except TypeError:
        raise TypeError(
            f"fori_loop: the {which} bound must be an integer scalar, got {x!r}. Round it, e.g. by // instead of /."
        ) from None


def _bound_dtype(lower, upper):
    """The dtype of the counter: that of both bounds, or of the one that is not a Python number."""
    if lower.dtype == upper.dtype:
        return lower.dtype
    if (
        dtypes.is_signed_integer(lower.dtype)
        and dtypes.is_signed_integer(upper.dtype)
        and lower.weak_type != upper.weak_type
    ):
        return upper.dtype if lower.weak_type else lower.dtype
    raise TypeError(
        f"lower and upper arguments to fori_loop must have equal types, got {lower.dtype.name} and {upper.dtype.name}"
    )
