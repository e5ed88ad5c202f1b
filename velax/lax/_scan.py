"""``scan`` and what is built on it: loops with a known number of steps."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np

from velax._lang.avals import AbstractRef, ShapedArray, shaped_array
from velax._lang.config import config
from velax._lang.effects import JaxprInputEffect
from velax._lang.jaxpr import ClosedJaxpr, DropVar, Jaxpr, Literal, Var
from velax._lang.primitive import define
from velax._lang.trace import concrete_or_error, get_aval
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.calls import dce_closed
from velax._transforms.discharge import check_no_aliases, discharge, has_refs
from velax._transforms.evaluate import dependent_outputs, eval_jaxpr, move_consts_to_inputs
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.linearize import linearize_jaxpr
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.transpose import backward_pass
from velax._transforms.vectorize import vmap
from velax._transforms.zero import UndefinedPrimal, Zero, add_tangents, instantiate_zeros, ops, zeros_like_aval
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
    trace_body,
    values_of,
)
from velax.lax._slicing import concatenate, index_in_dim, slice_in_dim
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = ["map", "scan", "scan_p"]


def _scan_type(*avals, jaxpr, length, num_consts, num_carry, reverse, unroll):
    expected = jaxpr.in_avals
    for i, (a, b) in enumerate(zip(avals, expected, strict=True)):
        shape = a.shape[1:] if i >= num_consts + num_carry else a.shape
        if (shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(f"scan: operand {i} has type {a.str_short()}, but the body takes {b.str_short()}")
    outs = jaxpr.out_avals
    ys = [shaped_array((length, *a.shape), a.dtype, a.weak_type) for a in outs[num_carry:]]
    return [*outs[:num_carry], *ys], jaxpr.effects


def _carry_fixpoint(num_consts, num_carry, flags, step):
    """Grow the carry's flags until ``step(flags) -> out flags`` adds none."""
    consts, carry, xs = group(list(flags), num_consts, num_carry)
    for _ in range(num_carry + 1):
        result, out = step([*consts, *carry, *xs], carry)
        grown = [a or b for a, b in zip(carry, out[:num_carry], strict=True)]
        if grown == carry:
            return result, carry, out
        carry = grown
    raise AssertionError("the carry's flags did not settle")


def _apply(operands: Sequence, *, jaxpr, num_consts, **params) -> list:
    """Bind the primitive; what the body has captured becomes the first constants."""
    jaxpr, captured = move_consts_to_inputs(jaxpr)
    return scan_p.bind(*captured, *operands, jaxpr=jaxpr, num_consts=num_consts + len(captured), **params)


def _jvp(primals, tangents, *, jaxpr, length, num_consts, num_carry, reverse, unroll):
    nonzeros = [type(t) is not Zero for t in tangents]
    n_ys = len(jaxpr.out_avals) - num_carry

    def step(flags, carry):
        derived, out = jvp_jaxpr(jaxpr, flags, [*carry, *[False] * n_ys])
        return (derived, flags), out

    (derived, flags), _, out = _carry_fixpoint(num_consts, num_carry, nonzeros, step)
    n = len(primals)
    groups = (num_consts, num_carry, n - num_consts - num_carry)
    in_primal, in_tangent, start, t = [], [], 0, n
    for size in groups:
        in_primal.append(list(range(start, start + size)))
        live = sum(flags[start : start + size])
        in_tangent.append(list(range(t, t + live)))
        start, t = start + size, t + live
    n_outs = len(jaxpr.out_avals)
    n_carry_t, n_ys_t = sum(out[:num_carry]), sum(out[num_carry:])
    order_in = [i for p, q in zip(in_primal, in_tangent, strict=True) for i in (*p, *q)]
    order_out = [
        *range(num_carry), *range(n_outs, n_outs + n_carry_t), *range(num_carry, n_outs),
        *range(n_outs + n_carry_t, n_outs + n_carry_t + n_ys_t),
    ]  # fmt: skip
    body = jaxpr.memo(("scan jvp", tuple(flags), tuple(out)), lambda: permuted(derived, order_in, order_out))
    values = [*primals, *(instantiate_zeros(tan) for tan, f in zip(tangents, flags, strict=True) if f)]
    outs = _apply(
        [values[i] for i in order_in], jaxpr=body, length=length, num_consts=num_consts + len(in_tangent[0]),
        num_carry=num_carry + n_carry_t, reverse=reverse, unroll=unroll,
    )  # fmt: skip
    carry, carry_t, ys, ys_t = group(outs, num_carry, n_carry_t, n_ys)
    primal_outs = [*carry, *ys]
    given = iter([*carry_t, *ys_t])
    return primal_outs, [next(given) if f else Zero.from_primal_value(x) for f, x in zip(out, primal_outs, strict=True)]


def _linearize(nonzeros, *primals, jaxpr, length, num_consts, num_carry, reverse, unroll):
    n_ys = len(jaxpr.out_avals) - num_carry

    def step(flags, carry):
        split = linearize_jaxpr(jaxpr, flags, [*carry, *[False] * n_ys])
        return (split, flags), split.out_nonzeros

    (split, flags), _, out_nonzeros = _carry_fixpoint(num_consts, num_carry, nonzeros, step)
    key = (tuple(flags), tuple(out_nonzeros), num_consts, num_carry)
    plan = jaxpr.memo(("scan linearize", *key), lambda: _ResidualPlan(split, flags, num_consts, num_carry))
    operands = [*split.primal.consts, *primals]
    n_fixed = len(operands) - len(primals) + num_consts
    early = eval_jaxpr(plan.early, [], *operands[:n_fixed])
    consts = [early[i] if computed else operands[i] for computed, i in plan.consts]
    outs = scan_p.bind(
        *consts,
        *operands[n_fixed:],
        jaxpr=plan.body,
        length=length,
        num_consts=len(consts),
        num_carry=num_carry,
        reverse=reverse,
        unroll=unroll,
    )
    results, stacked = outs[: split.n_outs], outs[split.n_outs :]
    fixed = [early[i] if computed else operands[i] for computed, i in plan.fixed]
    sliced = [operands[i] if given else stacked[i] for given, i in plan.sliced]

    def linear(*tangents):
        given = iter(tangents)
        full = [
            (next(given) if nz else zeros_like_aval(get_aval(p).to_tangent_aval())) if f else None
            for f, nz, p in zip(flags, nonzeros, primals, strict=True)
        ]
        consts, carry, xs = ([t for t in part if t is not None] for part in group(full, num_consts, num_carry))
        return _apply(
            [*fixed, *consts, *carry, *sliced, *xs], jaxpr=plan.tangent, length=length, num_consts=len(fixed) + len(consts),
            num_carry=len(carry), reverse=reverse, unroll=unroll,
        )  # fmt: skip

    return results, out_nonzeros, linear


class _ResidualPlan:
    """How the residuals of a scan's body reach the tangent scan.

    One computed from the constants alone is computed once, before the scan; one that is an input of
    the body is read from the scan's operand; the others are stacked as results. What the body has
    captured counts as the first of its constants and of the scan's operands.

    Attributes:
      early: ``consts -> values`` that the body and the tangent body take as constants.
      body: ``(*consts, *carry, *xs) -> (*carry, *ys, *stacked residuals)``.
      consts: of the body, as ``fixed``.
      tangent: ``(*fixed residuals, *consts', *carry', *sliced residuals, *xs') -> (*carry', *ys')``.
      fixed: residuals that do not change: (whether early, position there or among the scan's operands).
      sliced: residuals of each step: (whether an operand, its position or that among the stacked ones).
    """

    def __init__(self, split, flags, num_consts, num_carry):
        primal = move_consts_to_inputs(split.primal)[0].jaxpr
        n_captured = len(split.primal.consts)
        num_inner = n_captured + num_consts
        consts = primal.invars[:num_inner]
        input_of = {v: i for i, v in enumerate(consts[:n_captured])}
        invariant, early_eqns, late_eqns = set(consts), [], []
        wanted = {v for v in primal.outvars[split.n_outs :] if isinstance(v, Var)}
        for eqn in primal.eqns:
            if not eqn.effects and all(isinstance(x, Literal) or x in invariant for x in eqn.invars):
                early_eqns.append(eqn)
                invariant.update(eqn.outvars)
            else:
                late_eqns.append(eqn)
        # only what residuals need moves out of the body, with what it is computed from
        needed = wanted & (invariant - set(consts))
        moved = []
        for eqn in reversed(early_eqns):
            if any(v in needed for v in eqn.outvars):
                moved.append(eqn)
                needed.update(x for x in eqn.invars if isinstance(x, Var))
        moved_ids = {id(e) for e in moved}
        made = {v for e in moved for v in e.outvars}
        kept_eqns = [e for e in primal.eqns if id(e) not in moved_ids]
        read = {x for e in kept_eqns for x in e.invars} | set(primal.outvars[: split.n_outs])
        read = {x for x in read if isinstance(x, Var)}
        early_vars = [v for e in reversed(moved) for v in e.outvars if v in read or v in wanted]
        self.early = Jaxpr([], consts, early_vars, moved[::-1])
        early_position = {v: i for i, v in enumerate(early_vars)}
        self.consts = [(True, i) for v, i in early_position.items() if v in read]

        computed = iter(primal.outvars[split.n_outs :])
        stacked, self.fixed, self.sliced, fixed_at, sliced_at = [], [], [], [], []
        for k, i in enumerate(split.forwarded):
            var = next(computed) if i is None else primal.invars[n_captured + i]
            if i is not None:
                i += n_captured
            elif isinstance(var, Var):
                i = input_of.get(var)
            if i is not None and i < num_inner:
                self.fixed.append((False, i))
                fixed_at.append(k)
            elif i is None and isinstance(var, Var) and var in made:
                self.fixed.append((True, early_position[var]))
                fixed_at.append(k)
            elif i is not None and i >= num_inner + num_carry:
                self.sliced.append((True, i))
                sliced_at.append(k)
            else:
                self.sliced.append((False, len(stacked)))
                stacked.append(var)
                sliced_at.append(k)
        read.update(v for v in stacked if isinstance(v, Var))
        self.consts += [(False, i) for i, v in enumerate(consts) if v in read]
        const_vars = [early_vars[i] if computed else consts[i] for computed, i in self.consts]
        outvars = [*primal.outvars[: split.n_outs], *stacked]
        body = primal.replace(invars=[*const_vars, *primal.invars[num_inner:]], outvars=outvars, eqns=kept_eqns)
        self.body = ClosedJaxpr(body, [])

        n_res = len(split.forwarded)
        c_t, carry_t, x_t = (sum(f) for f in group(flags, num_consts, num_carry))
        starts = (n_res, n_res + c_t, n_res + c_t + carry_t)
        order = [*fixed_at, *range(starts[0], starts[2]), *sliced_at, *range(starts[2], starts[2] + x_t)]
        self.tangent = permuted(split.tangent, order)


def _transpose(cts, *args, jaxpr, length, num_consts, num_carry, reverse, unroll):
    linear = [type(x) is UndefinedPrimal for x in args]
    if all(type(ct) is Zero for ct in cts):
        return [Zero(x.aval.to_tangent_aval()) if lin else None for x, lin in zip(args, linear, strict=True)]
    known = _known_carries(jaxpr, linear, num_consts, num_carry)
    if known:
        return _transpose_beside_known_carries(known, cts, args, jaxpr, length, num_consts, num_carry, reverse, unroll)
    has_ct = tuple(type(ct) is not Zero for ct in cts[num_carry:])
    if not all(has_ct):
        smaller, used = dce_closed(jaxpr, [*[True] * num_carry, *has_ct])
        if not all(used):
            return _transpose_used(smaller, used, cts, args, linear, length, num_consts, num_carry, reverse, unroll)
    c_lin, _, x_lin = group(linear, num_consts, num_carry)
    ct_carry = [instantiate_zeros(ct) for ct in cts[:num_carry]]
    ct_ys = [ct for ct in cts[num_carry:] if type(ct) is not Zero]
    consts, _, xs = group(list(args), num_consts, num_carry)
    c_res = [x for x, lin in zip(consts, c_lin, strict=True) if not lin]
    x_res = [x for x, lin in zip(xs, x_lin, strict=True) if not lin]
    ct_consts = [zeros_like_aval(x.aval.to_tangent_aval()) for x, lin in zip(consts, c_lin, strict=True) if lin]
    values = [*c_res, *ct_consts, *ct_carry, *ct_ys, *x_res]
    n_whole = len(c_res) + len(ct_consts) + num_carry
    # a cotangent need not be as weak as its primal: the types are those of the values
    avals = tuple(get_aval(x) if i < n_whole else _slice_aval(get_aval(x)) for i, x in enumerate(values))
    key = ("scan transpose", tuple(c_lin), tuple(x_lin), has_ct, num_carry, avals)
    body = jaxpr.memo(key, lambda: _transposed_body(jaxpr, c_lin, x_lin, has_ct, num_consts, num_carry, avals))
    outs = _apply(
        values,
        jaxpr=body,
        length=length,
        num_consts=len(c_res),
        num_carry=len(ct_consts) + num_carry,
        reverse=not reverse,
        unroll=unroll,
    )
    given_consts, given_carry, given_xs = group(outs, len(ct_consts), num_carry)
    given_consts, given_xs = iter(given_consts), iter(given_xs)
    return [
        *(next(given_consts) if lin else None for lin in c_lin),
        *(ct if lin else None for ct, lin in zip(given_carry, linear[num_consts:], strict=False)),
        *(next(given_xs) if lin else None for lin in x_lin),
    ]


def _transpose_used(smaller, used, cts, args, linear, length, num_consts, num_carry, reverse, unroll):
    """Transpose what the results with cotangents need."""
    keep = [u or num_consts <= i < num_consts + num_carry for i, u in enumerate(used)]
    given = iter(smaller.jaxpr.invars)
    names = [next(given) if u else None for u in used]
    invars = [
        v or Var(get_aval(x) if not lin else x.aval)
        for v, x, lin, k in zip(names, args, linear, keep, strict=True)
        if k
    ]
    body = smaller.memo(
        ("scan transpose used", num_consts), lambda: smaller.replace(jaxpr=smaller.jaxpr.replace(invars=invars))
    )
    results = iter(
        _transpose(
            [ct for i, ct in enumerate(cts) if i < num_carry or type(ct) is not Zero], *(x for x, k in zip(args, keep, strict=True) if k),
            jaxpr=body, length=length, num_consts=sum(keep[:num_consts]), num_carry=num_carry, reverse=reverse, unroll=unroll,
        )
    )  # fmt: skip
    return [
        next(results) if k else Zero(x.aval.to_tangent_aval()) if lin else None
        for x, lin, k in zip(args, linear, keep, strict=True)
    ]


def _transposed_body(jaxpr, c_lin, x_lin, has_ct, num_consts, num_carry, avals):
    """``(c_res, ct_consts, ct_carry, nonzero ct_ys, x_res) -> (ct_consts, ct_carry, ct_xs)`` of one
    step, on arguments of the types ``avals``.
    """
    c_avals, _, x_avals = group(jaxpr.in_avals, num_consts, num_carry)
    out_ys = jaxpr.out_avals[num_carry:]
    n_c_res, n_c_lin = c_lin.count(False), c_lin.count(True)

    def run(*args):
        c_res, ct_consts, ct_carry, ct_ys, x_res = group(list(args), n_c_res, n_c_lin, num_carry, sum(has_ct))
        c_given, x_given, y_given = iter(c_res), iter(x_res), iter(ct_ys)
        operands = [
            *(UndefinedPrimal(a) if lin else next(c_given) for lin, a in zip(c_lin, c_avals, strict=True)),
            *(UndefinedPrimal(get_aval(ct)) for ct in ct_carry),
            *(UndefinedPrimal(a) if lin else next(x_given) for lin, a in zip(x_lin, x_avals, strict=True)),
        ]
        ct_ys = [next(y_given) if has else Zero(a.to_tangent_aval()) for has, a in zip(has_ct, out_ys, strict=True)]
        results = backward_pass(jaxpr.jaxpr, jaxpr.consts, operands, [*ct_carry, *ct_ys])
        d_consts, d_carry, d_xs = group(results, num_consts, num_carry)
        d_consts = [ct for ct, lin in zip(d_consts, c_lin, strict=True) if lin]
        summed = [add_tangents(old, new) for old, new in zip(ct_consts, d_consts, strict=True)]
        d_xs = [ct for ct, lin in zip(d_xs, x_lin, strict=True) if lin]
        return [*summed, *(instantiate_zeros(ct) for ct in (*d_carry, *d_xs))]

    return trace_to_jaxpr(run, avals)


def _known_carries(jaxpr, linear, num_consts, num_carry) -> list[int]:
    """Carries that do not depend on linear inputs, such as counters. One that starts from a known
    value (a zero tangent) but takes up linear values on the way is linear all the same."""
    candidates = [i for i in range(num_carry) if not linear[num_consts + i]]
    if not candidates:
        return []
    n_outs = len(jaxpr.out_avals)
    reads = {}
    for i in candidates:
        _, used = dce_closed(jaxpr, [k == i for k in range(n_outs)])
        reads[i] = [k for k, u in enumerate(used) if u]
    known = set(candidates)
    while True:
        lost = {
            i for i in known
            if any(k - num_consts not in known if num_consts <= k < num_consts + num_carry else linear[k] for k in reads[i])
        }  # fmt: skip
        if not lost:
            return sorted(known)
        known -= lost


def _transpose_beside_known_carries(known, cts, args, jaxpr, length, num_consts, num_carry, reverse, unroll):
    """Run the known carries on their own, saving each step's value, then transpose with these as slices."""
    n_outs, n_fixed = len(jaxpr.out_avals), num_consts + num_carry
    smaller, used = dce_closed(jaxpr, [i in known for i in range(n_outs)])
    position = {i: v for i, v in zip((i for i, u in enumerate(used) if u), smaller.jaxpr.invars, strict=True)}
    inputs = sorted({*position, *(num_consts + i for i in known)})
    invars = [position.get(i) or Var(jaxpr.in_avals[i]) for i in inputs]
    carry_vars = [v for i, v in zip(inputs, invars, strict=True) if num_consts <= i < n_fixed]
    body = smaller.replace(jaxpr=smaller.jaxpr.replace(invars=invars, outvars=[*smaller.jaxpr.outvars, *carry_vars]))
    outs = _apply(
        [args[i] for i in inputs], jaxpr=body, length=length, num_consts=sum(i < num_consts for i in inputs), num_carry=len(known),
        reverse=reverse, unroll=unroll,
    )  # fmt: skip
    histories = outs[len(known) :]
    rest = [i for i in range(num_carry) if i not in known]
    order = [*range(num_consts), *(num_consts + i for i in rest), *range(n_fixed, len(args))]
    reduced = permuted(jaxpr, [*order, *(num_consts + i for i in known)], [*rest, *range(num_carry, n_outs)])
    results = _transpose(
        [*(cts[i] for i in rest), *cts[num_carry:]], *(args[i] for i in order), *histories, jaxpr=reduced, length=length,
        num_consts=num_consts, num_carry=len(rest), reverse=reverse, unroll=unroll,
    )  # fmt: skip
    full: list = [None] * len(args)
    for i, ct in zip(order, results, strict=False):
        full[i] = ct
    return full


def _batch(axis_data, args, dims, *, jaxpr, length, num_consts, num_carry, reverse, unroll):
    n_ys = len(jaxpr.out_avals) - num_carry

    def step(flags, carry):
        derived, out = batch_jaxpr(jaxpr, axis_data, flags, [*carry, *[False] * n_ys])
        return derived, out

    flags = [d is not None for d in dims]
    derived, carry, out = _carry_fixpoint(num_consts, num_carry, flags, step)
    placed = []
    for i, (x, d) in enumerate(zip(args, dims, strict=True)):
        if num_consts <= i < num_consts + num_carry:
            placed.append(matchaxis(axis_data.size, d, 0, x) if carry[i - num_consts] else x)
        elif d is None:
            placed.append(x)
        else:
            placed.append(matchaxis(axis_data.size, d, 0 if i < num_consts else 1, x))
    outs = _apply(
        placed,
        jaxpr=derived,
        length=length,
        num_consts=num_consts,
        num_carry=num_carry,
        reverse=reverse,
        unroll=unroll,
    )
    return outs, [(0 if i < num_carry else 1) if b else None for i, b in enumerate(out)]


def _dce(used_outputs, eqn):
    p = eqn.params
    num_consts, num_carry = p["num_consts"], p["num_carry"]
    if any(isinstance(e, JaxprInputEffect) for e in eqn.effects):  # effects name inputs by position
        return [True] * len(eqn.invars), eqn
    used_carry, used_ys = list(used_outputs[:num_carry]), list(used_outputs[num_carry:])
    while True:
        smaller, used_inputs = dce_closed(p["jaxpr"], [*used_carry, *used_ys])
        grown = [a or b for a, b in zip(used_carry, used_inputs[num_consts : num_consts + num_carry], strict=True)]
        if grown == used_carry:
            break
        used_carry = grown
    if not any(used_carry) and not any(used_ys) and not smaller.effects:
        return [False] * len(eqn.invars), None
    # a carry may be needed although its start value is not read in the body: it stays an input
    keep = [*used_inputs[:num_consts], *used_carry, *used_inputs[num_consts + num_carry :]]
    given = iter(smaller.jaxpr.invars)
    names = [next(given) if u else None for u in used_inputs]
    invars = [v or Var(a) for v, a, k in zip(names, p["jaxpr"].in_avals, keep, strict=True) if k]
    body = smaller.replace(jaxpr=smaller.jaxpr.replace(invars=invars))
    params = dict(p, jaxpr=body, num_consts=sum(keep[:num_consts]), num_carry=sum(used_carry))
    outvars = [
        v if w else DropVar(v.aval)
        for v, u, w in zip(eqn.outvars, [*used_carry, *used_ys], used_outputs, strict=True)
        if u
    ]
    invars = [x for x, k in zip(eqn.invars, keep, strict=True) if k]
    return keep, eqn.replace(invars=invars, outvars=outvars, params=params, effects=smaller.effects)


def _depends(flags, *, jaxpr, num_consts, num_carry, **_):
    def step(flags, carry):
        return None, dependent_outputs(jaxpr, flags)

    _, carry, out = _carry_fixpoint(num_consts, num_carry, flags, step)
    return [*carry, *out[num_carry:]]


def _replay(*args, jaxpr, length, num_consts, num_carry, reverse, unroll):
    consts, carry, xs = group(list(args), num_consts, num_carry)
    for i in reversed(range(length)) if reverse else range(length):
        slices = [index_in_dim(x, i, keepdims=False) for x in xs]
        carry = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *consts, *carry, *slices)[:num_carry]


def _lower(ctx, *args, jaxpr, length, num_consts, num_carry, reverse, unroll):
    consts, init, xs = group(list(args), num_consts, num_carry)
    dummy = not jaxpr.out_avals
    if dummy:
        jaxpr, init = give_result(jaxpr, num_consts), [ctx.builder.literal(False, "bool")]
    body, captured = ctx.subgraph(jaxpr)
    outs = ctx.builder.scan(body, [*captured, *consts], init, xs, length, reverse, unroll)
    ctx.keep(outs, [body])
    return outs[1:] if dummy else outs


scan_p = define(
    "scan",
    abstract_eval=_scan_type,
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
scan_p.rules["physical"] = True


def scan(
    f: Callable,
    init,
    xs=None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    _split_transpose: bool = False,
):
    """Loop over the leading axis of arrays, carrying state along.

    Args:
      f: ``f(carry, x) -> (carry, y)``, with the carry's structure and types unchanged.
      init: the first carry, a pytree.
      xs: a pytree of arrays with one leading axis size; ``x`` is one slice; None for no slices.
      length: the number of steps; needed if there are no ``xs``.
      reverse: whether to go from the last slice to the first.
      unroll: how many steps to put together, True for all. A loop of no more steps than that is
        written out if it is not too long; for the others, the compiler decides.

    Returns:
      ``(carry, ys)``: the last carry, and the ``y`` of all steps stacked along a new leading axis.

    Raises:
      TypeError: if the carry changes structure or type, or ``f`` returns no pair.
      ValueError: if the leading sizes differ.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> carry, ys = lax.scan(lambda c, x: (c + x, c), 0.0, jnp.arange(4.0))
      >>> float(carry), ys.tolist()
      (6.0, [0.0, 0.0, 1.0, 3.0])
    """
    if not callable(f):
        raise TypeError("lax.scan: f argument should be a callable.")
    x_leaves, x_tree = flatten_values(xs)
    length = _scan_length(x_leaves, length)
    if config.jax_disable_jit:
        return _scan_in_python(f, init, xs, length, reverse)
    init_leaves, init_tree = flatten_values(init)
    check_no_refs("scan", init_leaves)
    x_avals = [_slice_aval(get_aval(x)) for x in x_leaves]
    arg_tree = argument_tree(init_tree, x_tree)
    for _ in range(2):
        init_avals = [get_aval(x) for x in init_leaves]
        jaxpr, consts, out_tree = trace_body("scan", f, arg_tree, [*init_avals, *x_avals])
        carry_tree, _ = _pair(out_tree, jaxpr.out_avals)
        carry_avals = jaxpr.out_avals[: carry_tree.num_leaves]
        if carry_tree != init_tree:
            break
        init_leaves, changed = promote_carry(init_leaves, init_avals, carry_avals)
        if not changed:
            break
    check_carry("scan body function", f, init_tree, init_avals, carry_tree, carry_avals)
    steps = operator.index(unroll) if not isinstance(unroll, bool) else (length if unroll else 1)
    if steps < 0:
        raise ValueError(f"`unroll` must be a `bool` or a positive `int` in lax.scan, got {unroll}.")
    outs = _bind_scan(jaxpr, consts, init_leaves, x_leaves, length, bool(reverse), max(1, steps))
    return tree_unflatten(out_tree, outs)


def _pair(out_tree, out_avals):
    children = out_tree.children()
    if len(children) != 2:
        raise TypeError(f"scan body output must be a pair, got {tree_unflatten(out_tree, out_avals)}.")
    return children


def _bind_scan(jaxpr, consts, init, xs, length, reverse, unroll) -> list:
    """All results, with what needs no loop taken out of it: carries that never change become
    constants, ys that are slices of xs are those.
    """
    if has_refs(jaxpr):
        return _bind_scan_with_refs(jaxpr, consts, init, xs, length, reverse, unroll)
    n_consts, n_carry = len(consts), len(init)
    invars, outvars = jaxpr.jaxpr.invars, jaxpr.jaxpr.outvars
    fixed = [i for i in range(n_carry) if outvars[i] is invars[n_consts + i]]
    x_position = {v: i for i, v in enumerate(invars[n_consts + n_carry :])}
    taken = {i: forwarded(init[i]) for i in fixed}
    for i, v in enumerate(outvars[n_carry:], n_carry):
        if isinstance(v, Var) and v in x_position:
            taken[i] = forwarded(xs[x_position[v]])
    kept = [i for i in range(len(outvars)) if i not in taken]
    changing = [i for i in range(n_carry) if i not in taken]
    order = [
        *(n_consts + i for i in fixed), *range(n_consts), *(n_consts + i for i in changing), *range(n_consts + n_carry, len(invars)),
    ]  # fmt: skip
    if taken:
        closed = jaxpr
        jaxpr = closed.memo(("scan trimmed", n_consts, n_carry), lambda: permuted(closed, order, kept))
    outs = scan_p.bind(
        *(init[i] for i in fixed), *consts, *(init[i] for i in changing), *xs, jaxpr=jaxpr, length=length, num_consts=n_consts + len(fixed),
        num_carry=len(changing), reverse=reverse, unroll=unroll,
    ) if kept or jaxpr.effects else []  # fmt: skip
    taken.update(zip(kept, outs, strict=True))
    return [taken[i] for i in range(len(outvars))]


def _bind_scan_with_refs(jaxpr, consts, init, xs, length, reverse, unroll) -> list:
    """References that the body closes over are carried, those that are scanned over give a slice of
    their new value each step.
    """
    check_no_aliases("the body of scan", [*consts, *xs])
    pure, written = discharge(jaxpr)
    n_consts, n_carry = len(consts), len(init)
    carried = [i for i in written if i < n_consts]
    read = [i for i in range(n_consts) if i not in carried]
    n_outs = len(jaxpr.out_avals)
    order = [*read, *carried, *range(n_consts, len(jaxpr.in_avals))]
    order_out = [
        *range(n_outs, n_outs + len(carried)),
        *range(n_outs),
        *range(n_outs + len(carried), n_outs + len(written)),
    ]
    body = pure.memo(("scan with refs", n_consts, n_carry), lambda: permuted(pure, order, order_out))
    values = values_of(consts)
    outs = _bind_scan(
        body, [values[i] for i in read], [*(values[i] for i in carried), *init], values_of(xs), length, reverse, unroll
    )
    finals, outs, slices = group(outs, len(carried), n_outs)
    args = [*consts, *init, *xs]
    for i, value in zip(written, [*finals, *slices], strict=True):
        ops.ref_set(args[i], value)
    return outs


def _scan_length(leaves, length) -> int:
    sizes = []
    for x in leaves:
        aval = get_aval(x)
        if not isinstance(aval, (ShapedArray, AbstractRef)) or not aval.shape:
            raise ValueError(
                f"scan got value with no leading axis to scan over: {aval}. Scan over arrays with one entry a step; "
                "close over the others or carry them."
            )
        sizes.append(aval.shape[0])
    if length is not None:
        length = concrete_or_error(
            None, length, "The `length` argument to `scan` expects a concrete `int` value. For a number of steps "
                          "that is not known while tracing use "
            "`while_loop` or `fori_loop`."
        )  # fmt: skip
        try:
            length = int(length) if isinstance(length, float) and length.is_integer() else operator.index(length)
        except TypeError:
            raise TypeError(f"scan: the `length` argument must be an integer, got {length!r}") from None
        if any(n != length for n in sizes):
            raise ValueError(f"scan got `length` argument of {length} which disagrees with leading axis sizes {sizes}.")
        return length
    if not sizes:
        raise ValueError("scan got no values to scan over and `length` not provided.")
    if len(set(sizes)) > 1:
        raise ValueError(f"scan got values with different leading axis sizes: {', '.join(str(n) for n in sizes)}.")
    return sizes[0]


def _slice_aval(aval):
    if isinstance(aval, AbstractRef):
        return AbstractRef(_slice_aval(aval.inner_aval), aval.memory_space, aval.kind)
    return shaped_array(aval.shape[1:], aval.dtype, aval.weak_type)


def _scan_in_python(f, init, xs, length, reverse):
    """With jit disabled, the loop runs in Python."""
    carry, ys = init, []
    for i in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, tree_map(lambda x, i=i: index_in_dim(x, i, keepdims=False), xs))
        ys.append(y)
    if not ys:
        raise ValueError("zero-length scan is not supported in disable_jit() mode because the output type is unknown.")
    if reverse:
        ys.reverse()
    return carry, tree_map(lambda *parts: concatenate([ops.broadcast(p, 1, 0) for p in parts], 0), *ys)


def map(f: Callable, xs, *, batch_size: int | None = None):
    """Apply a function to each slice along the leading axis, one after the other.

    Args:
      f: the function.
      xs: a pytree of arrays with one leading size.
      batch_size: apply it to this many slices at once (by `vmap`).

    Returns:
      The results, stacked along a new leading axis.
    """
    if batch_size is not None and operator.index(batch_size) < 0:
        raise ValueError(f"map: batch_size must be positive, got {batch_size}")
    if batch_size:
        return _map_batches(f, xs, batch_size)
    return scan(lambda _, x: (None, f(x)), None, xs)[1]


def _map_batches(f, xs, batch_size):
    leaves, tree = tree_flatten(xs)
    n = _scan_length(leaves, None)
    whole = n // batch_size * batch_size
    parts = []
    if whole:
        head = [
            ops.reshape(slice_in_dim(x, 0, whole), (whole // batch_size, batch_size, *np.shape(x)[1:])) for x in leaves
        ]
        ys = map(vmap(f), tree_unflatten(tree, head))
        parts.append(tree_map(lambda y: ops.reshape(y, (whole, *y.shape[2:])), ys))
    if whole < n or not n:
        parts.append(vmap(f)(tree_unflatten(tree, [slice_in_dim(x, whole, n) for x in leaves])))
    return parts[0] if len(parts) == 1 else tree_map(lambda *p: concatenate(p, 0), *parts)
