"""``cond`` and ``switch``: run one of several branches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import ShapedArray
from velax._lang.config import config
from velax._lang.effects import IOEffect, JaxprInputEffect, ordered_effects
from velax._lang.jaxpr import ClosedJaxpr, Literal, Var, join_effects
from velax._lang.primitive import define
from velax._lang.trace import get_aval, to_concrete_value
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.calls import dce_closed
from velax._transforms.discharge import check_no_aliases, discharge, has_refs
from velax._transforms.evaluate import dependent_outputs, eval_jaxpr
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.linearize import linearize_jaxpr
from velax._transforms.transpose import transpose_jaxpr
from velax._transforms.zero import UndefinedPrimal, Zero, ops
from velax.lax._comparison import clamp, eq, ne
from velax.lax._loop_tools import (
    argument_tree,
    describe,
    fill_outputs,
    flatten_values,
    forwarded,
    give_result,
    message_lines,
    path_of,
    shift_input_effects,
    structure_errors,
    trace_body,
    type_errors,
    values_of,
)
from velax.lax._structural import broadcast_in_dim, convert_element_type, convert_type, select_n, stop_gradient
from velax.tree_util import keystr, tree_unflatten

__all__ = ["cond", "cond_p", "platform_dependent", "switch"]


def _cond_type(index, *avals, branches):
    if index.shape or index.dtype != np.int32:
        raise TypeError(f"cond: the index must be an int32 scalar, got {index.str_short()}")
    for k, branch in enumerate(branches):
        for i, (a, b) in enumerate(zip(avals, branch.in_avals, strict=True)):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                raise TypeError(f"cond: operand {i} has type {a.str_short()}, but branch {k} takes {b.str_short()}")
    return branches[0].out_avals, join_effects(*(shift_input_effects(b.effects, lambda i: i + 1) for b in branches))


def _any(flags: Sequence[Sequence[bool]]) -> list[bool]:
    return [any(f) for f in zip(*flags, strict=True)]


def _apply(index, operands: Sequence, branches) -> list:
    """Bind the primitive; what the branches have captured becomes operands of all of them."""
    captured = [c for b in branches for c in b.consts]
    if captured:
        branches = branches[0].memo(("cond hoisted", branches), lambda: _hoisted(branches))
    return cond_p.bind(index, *captured, *operands, branches=branches)


def _hoisted(branches) -> tuple[ClosedJaxpr, ...]:
    """The branches with what all of them captured as first inputs."""
    variables = [b.jaxpr.constvars for b in branches]
    derived = []
    for k, b in enumerate(branches):
        mine = [v if i == k else Var(v.aval) for i, group in enumerate(variables) for v in group]
        derived.append(ClosedJaxpr(b.jaxpr.replace(constvars=[], invars=[*mine, *b.jaxpr.invars]), []))
    return tuple(derived)


def _jvp(primals, tangents, *, branches):
    index, *ops = primals
    _, *ts = tangents
    nonzeros = [type(t) is not Zero for t in ts]
    out_nonzeros = _any([jvp_jaxpr(b, nonzeros, False)[1] for b in branches])
    derived = tuple(jvp_jaxpr(b, nonzeros, out_nonzeros)[0] for b in branches)
    outs = _apply(index, [*ops, *(t for t in ts if type(t) is not Zero)], derived)
    n = len(out_nonzeros)
    given = iter(outs[n:])
    return outs[:n], [
        next(given) if nz else Zero.from_primal_value(x) for nz, x in zip(out_nonzeros, outs, strict=False)
    ]


def _linearize(nonzeros, index, *ops, branches):
    key = ("cond linearize", tuple(nonzeros[1:]), branches)
    plan = branches[0].memo(key, lambda: _LinearBranches(branches, nonzeros[1:]))
    outs = _apply(index, ops, plan.primal)
    results, residuals = outs[: plan.n_outs], outs[plan.n_outs :]

    def linear(*tangents):
        return _apply(index, [*(ops[i] for i in plan.forwarded), *residuals, *tangents], plan.tangent)

    return results, plan.out_nonzeros, linear


class _LinearBranches:
    """The branches split into what runs now and what is linear, with one layout of residuals.

    A residual that is an operand is read from the operand. The others go through slots, each of one
    type and shared by the branches; a branch that does not use a slot returns zeros in it.

    Attributes:
      primal: branches ``operands -> (*outs, *slots)``.
      tangent: branches ``(*forwarded operands, *slots, *tangents) -> nonzero out tangents``.
      forwarded: positions of the operands that are residuals.
    """

    def __init__(self, branches, nonzeros):
        self.out_nonzeros = _any([linearize_jaxpr(b, nonzeros).out_nonzeros for b in branches])
        splits = [linearize_jaxpr(b, nonzeros, self.out_nonzeros) for b in branches]
        self.n_outs = n_outs = splits[0].n_outs
        self.forwarded = sorted({i for s in splits for i in s.forwarded if i is not None})
        slots: list = []
        slot_of: list[list[int]] = []  # for each branch, the slot of each computed residual
        for s in splits:
            free = list(range(len(slots)))
            mine = []
            for aval in s.primal.out_avals[n_outs:]:
                aval = aval.strip_weak_type()
                slot = next((k for k in free if slots[k] == aval), None)
                if slot is None:
                    slot = len(slots)
                    slots.append(aval)
                else:
                    free.remove(slot)
                mine.append(slot)
            slot_of.append(mine)
        primal, tangent = [], []
        for s, mine in zip(splits, slot_of, strict=True):
            layout = [*range(n_outs), *(n_outs + mine.index(k) if k in mine else aval for k, aval in enumerate(slots))]
            primal.append(fill_outputs(s.primal, layout))
            j = s.tangent.jaxpr
            n_res = len(s.forwarded)
            computed = iter(mine)
            by_operand, by_slot = {}, {}
            for var, i in zip(j.invars[:n_res], s.forwarded, strict=True):
                if i is None:
                    by_slot[next(computed)] = var
                else:
                    by_operand[i] = var
            invars = [
                *(by_operand.get(i) or Var(branches[0].in_avals[i]) for i in self.forwarded),
                *(by_slot.get(k) or Var(aval) for k, aval in enumerate(slots)),
                *j.invars[n_res:],
            ]
            tangent.append(s.tangent.replace(jaxpr=j.replace(invars=invars)))
        self.primal, self.tangent = tuple(primal), tuple(tangent)


def _transpose(cts, index, *ops, branches):
    linear = [type(x) is UndefinedPrimal for x in ops]
    if all(type(ct) is Zero for ct in cts):
        return [None, *(Zero(x.aval.to_tangent_aval()) if lin else None for x, lin in zip(ops, linear, strict=True))]
    zero_cts = [type(ct) is Zero for ct in cts]
    key = ("cond transpose", tuple(linear), tuple(zero_cts), branches)
    derived, nonzero = branches[0].memo(key, lambda: _transposed(branches, linear, zero_cts))
    known = [x for x, lin in zip(ops, linear, strict=True) if not lin]
    outs = _apply(index, [*known, *(ct for ct in cts if type(ct) is not Zero)], derived)
    given, flags = iter(outs), iter(nonzero)
    return [
        None,
        *(
            (next(given) if next(flags) else Zero(x.aval.to_tangent_aval())) if lin else None
            for x, lin in zip(ops, linear, strict=True)
        ),
    ]


def _transposed(branches, linear, zero_cts):
    """The transposed branches, all with the results that any has."""
    pairs = [transpose_jaxpr(b, linear, zero_cts) for b in branches]
    nonzero = _any([[not z for z in zero] for _, zero in pairs])
    avals = [a.to_tangent_aval() for a, lin in zip(branches[0].in_avals, linear, strict=True) if lin]
    derived = []
    for closed, zero in pairs:
        position = iter(range(len(closed.out_avals)))
        layout = [aval if z else next(position) for z, nz, aval in zip(zero, nonzero, avals, strict=True) if nz]
        derived.append(fill_outputs(closed, layout))
    return tuple(derived), nonzero


def _batch(axis_data, args, dims, *, branches):
    (index, *ops), (index_dim, *op_dims) = args, dims
    size = axis_data.size
    if index_dim is not None:
        return _batch_index(axis_data, matchaxis(size, index_dim, 0, index), ops, op_dims, branches)
    batched = [d is not None for d in op_dims]
    out_batched = _any([batch_jaxpr(b, axis_data, batched)[1] for b in branches])
    derived = tuple(batch_jaxpr(b, axis_data, batched, out_batched)[0] for b in branches)
    ops = [x if d is None else matchaxis(size, d, 0, x) for x, d in zip(ops, op_dims, strict=True)]
    outs = _apply(index, ops, derived)
    return outs, [0 if b else None for b in out_batched]


def _batch_index(axis_data, index, ops, op_dims, branches):
    """A branch for each example: all of them run, and each example selects. A branch sees the
    operands of examples that choose another one without their gradient, so that what they would
    make undefined there does not spread."""
    effects = join_effects(*(b.effects for b in branches))
    if any(isinstance(e, IOEffect) or e in ordered_effects for e in effects):
        raise NotImplementedError(
            "IO effect not supported in vmap-of-cond: every branch would run for every "
            "example. Move the effect out of the cond."
        )
    if any(isinstance(e, JaxprInputEffect) for e in effects):
        raise NotImplementedError(
            "vmap of a cond whose branches read or write references, with a predicate that "
            "differs from example to example"
        )
    ops = [matchaxis(axis_data.size, d, 0, x) for x, d in zip(ops, op_dims, strict=True)]
    outs = []
    for k, branch in enumerate(branches):
        chosen = eq(index, np.int32(k))
        derived, _ = batch_jaxpr(branch, axis_data, [True] * len(ops), True)
        outs.append(eval_jaxpr(derived.jaxpr, derived.consts, *(_where_chosen(chosen, x) for x in ops)))
    return [select_n(_along(index, get_aval(cases[0]).shape), *cases) for cases in zip(*outs, strict=True)], [0] * len(
        outs[0]
    )


def _where_chosen(chosen, x):
    aval = get_aval(x)
    if dtypes.is_extended(aval.dtype) or aval.dtype == dtypes.float0:
        return x
    return select_n(_along(chosen, aval.shape), stop_gradient(x), x)


def _along(x, shape):
    return x if len(shape) == 1 else broadcast_in_dim(x, shape, (0,))


def _dce(used_outputs, eqn):
    if any(isinstance(e, JaxprInputEffect) for e in eqn.effects):  # effects name inputs by position
        return [True] * len(eqn.invars), eqn
    if not any(used_outputs) and not eqn.effects:
        return [False] * len(eqn.invars), None
    branches = eqn.params["branches"]
    smaller = [dce_closed(b, used_outputs) for b in branches]
    used = _any([u for _, u in smaller])
    derived = []
    for closed, mine in smaller:
        given = iter(closed.jaxpr.invars)
        names = [next(given) if u else None for u in mine]
        invars = [v or Var(a) for v, a, u in zip(names, branches[0].in_avals, used, strict=True) if u]
        derived.append(closed.replace(jaxpr=closed.jaxpr.replace(invars=invars)))
    outvars = [v for v, u in zip(eqn.outvars, used_outputs, strict=True) if u]
    keep = [True, *used]
    invars = [x for x, k in zip(eqn.invars, keep, strict=True) if k]
    effects = join_effects(*(c.effects for c in derived))
    return keep, eqn.replace(
        invars=invars, outvars=outvars, params=dict(eqn.params, branches=tuple(derived)), effects=effects
    )


def _depends(flags, *, branches):
    if flags[0]:
        return [True] * len(branches[0].out_avals)
    return _any([dependent_outputs(b, flags[1:]) for b in branches])


def _replay(index, *ops, branches):
    branch = branches[min(max(int(index), 0), len(branches) - 1)]
    eval_jaxpr(branch.jaxpr, branch.consts, *ops)


def _lower(ctx, index, *ops, branches):
    dummy = not branches[0].out_avals
    if dummy:
        branches = [give_result(b, None) for b in branches]
    graphs, captured = ctx.subgraphs(branches)
    outs = ctx.builder.cond(index, graphs, [*captured, *ops])
    ctx.keep(outs, graphs)
    return outs[1:] if dummy else outs


cond_p = define(
    "cond",
    abstract_eval=_cond_type,
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
cond_p.rules["physical"] = True


# -- the functions ---------------------------------------------------------------------------------


def _trace_branches(what: str, names: Sequence[str], funs: Sequence[Callable], operands) -> tuple:
    """Jaxprs of the branches on common inputs (what any of them closes over, then the operands),
    the closed-over values, the operands, and the structure of the result."""
    leaves, tree = flatten_values(operands)
    avals = [get_aval(x) for x in leaves]
    in_tree = argument_tree(*tree.children())
    traced = [trace_body(what, f, in_tree, avals) for f in funs]
    _check_branches(what, names, funs, traced)
    consts: list = []
    position: dict[int, int] = {}
    for _, own, _ in traced:
        for c in own:
            if id(c) not in position:
                position[id(c)] = len(consts)
                consts.append(c)
    weak = [
        all(a.weak_type for a in outs) if hasattr(outs[0], "weak_type") else False
        for outs in zip(*(t[0].out_avals for t in traced), strict=True)
    ]
    branches = []
    for jaxpr, own, _ in traced:
        mine = {position[id(c)]: v for c, v in zip(own, jaxpr.jaxpr.invars, strict=False)}
        if [*mine] == list(range(len(consts))) and [getattr(a, "weak_type", False) for a in jaxpr.out_avals] == weak:
            branches.append(jaxpr)
            continue
        invars = [*(mine.get(k) or Var(get_aval(c)) for k, c in enumerate(consts)), *jaxpr.jaxpr.invars[len(own) :]]
        unified = jaxpr.replace(jaxpr=jaxpr.jaxpr.replace(invars=invars))
        branches.append(_with_weak_types(unified, weak))
    return tuple(branches), consts, leaves, traced[0][2]


def _with_weak_types(jaxpr: ClosedJaxpr, weak: Sequence[bool]) -> ClosedJaxpr:
    """The jaxpr whose results are strong where not ``weak``; literals become strong in place."""
    layout = []
    j = jaxpr.jaxpr
    eqns = list(j.eqns)
    for v, w in zip(j.outvars, weak, strict=True):
        if w or not getattr(v.aval, "weak_type", False):
            layout.append(v)
        elif isinstance(v, Literal):
            layout.append(Literal(v.val, v.aval.strip_weak_type()))
        else:
            layout.append(v)
    return jaxpr.replace(jaxpr=j.replace(outvars=layout, eqns=eqns))


def _check_branches(what, names, funs, traced) -> None:
    first, _, tree = traced[0]
    for name, fun, (jaxpr, _, other) in zip(names[1:], funs[1:], traced[1:], strict=True):
        head = f"{names[0]} is {describe(funs[0])}\n{name} is {describe(fun)}"
        if other != tree:
            lines = [
                f"{names[0]} output{_at(keystr(path))} is a {_kind(this)} but {name} output{_at(keystr(path))} is a "
                f"{_kind(that)}, so {why}"
                for path, this, that, why in structure_errors(tree, first.out_avals, other, jaxpr.out_avals)
            ] or [f"{names[0]} output has structure {tree} but {name} output has structure {other}"]
            detail = f"{lines[0]}." if len(lines) == 1 else ";\n".join(f"  * {line}" for line in lines) + "."
            raise TypeError(
                f"{what} branch outputs must have the same pytree structure, but they differ:\n\n{head}\n\n{detail}\n\n"
                f"Revise {names[0]} and/or {name} so that they have the same pytree structure."
            )
        lines = [
            f"output of {names[0]}{_at(path_of(tree, i))} has type {first.out_avals[i].str_short()} but the "
            f"corresponding output of {name} has type "
            f"{jaxpr.out_avals[i].str_short()}, so {why}"
            for i, why in type_errors(first.out_avals, jaxpr.out_avals)
        ]
        if lines:
            raise TypeError(
                f"{what} branches must have equal output types but they differ.\n\n{head}\n\n{message_lines(lines)}\n\n"
                f"Revise {names[0]} and/or {name} so that all output types match."
            )


def _kind(what: str) -> str:
    return "pytree leaf" if what == str(ShapedArray) else what


def _at(path: str) -> str:
    return f" at path {path}" if path else ""


def _bind_cond(index, branches, consts, operands) -> list:
    """All results; those that are the same operand in every branch are taken from it."""
    if any(has_refs(b) for b in branches):
        return _bind_cond_with_refs(index, branches, [*consts, *operands])
    inputs = [*consts, *operands]
    positions = [{v: i for i, v in enumerate(b.jaxpr.invars)} for b in branches]
    taken = {}
    for k, outs in enumerate(zip(*(b.jaxpr.outvars for b in branches), strict=True)):
        sources = {p.get(v) if isinstance(v, Var) else None for p, v in zip(positions, outs, strict=True)}
        if len(sources) == 1 and None not in sources:
            taken[k] = forwarded(inputs[sources.pop()])
    n = len(branches[0].jaxpr.outvars)
    if taken:
        kept = [k for k in range(n) if k not in taken]
        key = ("cond kept", tuple(kept))
        branches = tuple(b.memo(key, functools.partial(fill_outputs, b, kept)) for b in branches)
    if len(taken) < n or any(b.effects for b in branches):
        outs = iter(cond_p.bind(index, *inputs, branches=branches))
    else:
        outs = iter(())
    return [taken[k] if k in taken else next(outs) for k in range(n)]


def _bind_cond_with_refs(index, branches, inputs) -> list:
    """Every branch returns the values of the references that any of them writes."""
    check_no_aliases("the branches of cond", inputs)
    pures = [discharge(b) for b in branches]
    written = sorted({i for _, mine in pures for i in mine})
    n = len(branches[0].out_avals)
    complete = []
    for pure, mine in pures:
        j = pure.jaxpr
        final = dict(zip(mine, j.outvars[n:], strict=True))
        outvars = [*j.outvars[:n], *(final.get(i) or j.invars[i] for i in written)]
        complete.append(pure.replace(jaxpr=j.replace(outvars=outvars)))
    outs = _bind_cond(index, tuple(complete), [], values_of(inputs))
    for i, value in zip(written, outs[n:], strict=True):
        ops.ref_set(inputs[i], value)
    return outs[:n]


_NO_OPERAND = object()  # None is an operand


def cond(pred, true_fun, false_fun, *operands, operand=_NO_OPERAND, **named):
    """Apply ``true_fun`` or ``false_fun``.

    Only the chosen one runs, except under a `vmap` that maps ``pred``: then both run and each
    example selects its result.

    Args:
      pred: a boolean or number scalar (nonzero means True).
      true_fun: applied to ``*operands`` if ``pred`` holds.
      false_fun: applied otherwise; its result has the same structure and types.
      *operands: pytrees of arrays.
      operand: the operand, in the older form with a single one.

    Returns:
      The result of the chosen function.

    Raises:
      TypeError: if ``pred`` is no scalar, a branch is no function, or the branches' results differ
        in structure or type.

    Example:
      >>> from velax import lax
      >>> float(lax.cond(True, lambda x: x + 1.0, lambda x: x * 2.0, 3.0))
      4.0
    """
    if "linear" in named:
        named.pop("linear")
    if named:
        raise TypeError(f"cond() got unexpected keyword arguments: {', '.join(named)}")
    if not callable(true_fun) and callable(false_fun) and len(operands) == 2 and callable(operands[1]):
        # the five-argument form cond(pred, true_operand, true_fun, false_operand, false_fun)
        true_operand, true_branch, (false_operand, false_branch) = true_fun, false_fun, operands
        return cond(pred, lambda x, _: true_branch(x), lambda _, y: false_branch(y), true_operand, false_operand)
    if not (callable(true_fun) and callable(false_fun)):
        raise TypeError("lax.cond: true_fun and false_fun arguments should be callable.")
    if operand is not _NO_OPERAND:
        if operands:
            raise TypeError(
                "if 'operand' keyword is passed then no positional operands can be passed, got operand "
                "and positional operands"
            )
        operands = (operand,)
    pred, aval = _predicate(pred)
    if config.jax_disable_jit and (known := to_concrete_value(pred)) is not None:
        return true_fun(*operands) if known else false_fun(*operands)
    traced = _trace_branches("cond", ("true_fun", "false_fun"), (true_fun, false_fun), operands)
    (true_jaxpr, false_jaxpr), consts, leaves, out_tree = traced
    known = pred if isinstance(pred, (bool, int, float, np.generic)) else None
    if known is not None:
        index = np.int32(bool(known))
    else:
        if aval.dtype != np.bool_:
            pred = ne(pred, aval.dtype.type(0))
        index = convert_element_type(pred, np.dtype(np.int32))
    return tree_unflatten(out_tree, _bind_cond(index, (false_jaxpr, true_jaxpr), consts, leaves))


def _predicate(pred):
    """The predicate as a value, and its type."""
    try:
        aval = get_aval(pred)
    except TypeError:
        raise TypeError(f"Pred must be a scalar, got {pred} of type {type(pred)}") from None
    if aval.shape:
        raise TypeError(f"Pred must be a scalar, got {pred} of shape {aval.shape}")
    if dtypes.is_extended(aval.dtype) or not (
        aval.dtype == np.bool_ or dtypes.is_integer(aval.dtype) or dtypes.is_floating(aval.dtype)
    ):
        raise TypeError(f"Pred type must be either boolean or number, got {aval.dtype.name}.")
    return pred, aval


def switch(index, branches: Sequence[Callable], *operands, operand=_NO_OPERAND):
    """Apply the branch that an index names.

    Only the chosen one runs, except under a `vmap` that maps ``index``: then all run and each
    example selects its result.

    Args:
      index: an integer scalar; out of range, the nearest branch is chosen.
      branches: functions of ``*operands`` whose results have one structure and types.
      *operands: pytrees of arrays.
      operand: the operand, in the older form with a single one.

    Returns:
      The result of the chosen branch.

    Raises:
      TypeError: if ``index`` is no integer scalar, or the branches' results differ in structure or type.
      ValueError: if there are no branches.

    Example:
      >>> from velax import lax
      >>> float(lax.switch(1, [lambda x: x, lambda x: -x], 3.0))
      -3.0
    """
    if not all(callable(b) for b in branches):
        raise TypeError("lax.switch: branches argument should be a sequence of callables.")
    if operand is not _NO_OPERAND:
        if operands:
            raise TypeError(
                "if 'operand' keyword is passed then no positional operands can be passed, got operand "
                "and positional operands"
            )
        operands = (operand,)
    try:
        aval = get_aval(index)
    except TypeError:
        raise TypeError(f"Index type must be an integer, got {index} of type {type(index)}") from None
    if aval.shape:
        raise TypeError(f"Branch index must be scalar, got {index} of shape {aval.shape}.")
    if dtypes.is_extended(aval.dtype) or not dtypes.is_integer(aval.dtype):
        raise TypeError(f"Index type must be an integer, got {index} as {aval.dtype.name}")
    branches = tuple(branches)
    if not branches:
        raise ValueError("Empty branch sequence: lax.switch needs at least one branch")
    if len(branches) == 1:
        return branches[0](*operands)
    last = len(branches) - 1
    if config.jax_disable_jit and (known := to_concrete_value(index)) is not None:
        return branches[min(max(int(known), 0), last)](*operands)
    if isinstance(index, (int, np.generic)):
        index = np.int32(min(max(int(index), 0), last))
    else:
        if aval.dtype != np.int32 or aval.weak_type:
            if aval.dtype.itemsize > 4 or aval.dtype == np.uint32:  # large values must not wrap around
                index = clamp(aval.dtype.type(0), index, aval.dtype.type(min(last, np.iinfo(aval.dtype).max)))
            index = convert_type(index, np.dtype(np.int32), False)
        index = clamp(np.int32(0), index, np.int32(last))
    names = ["branch 0", *(f"branch{i}" for i in range(1, len(branches)))]
    jaxprs, consts, leaves, out_tree = _trace_branches("switch", names, branches, operands)
    return tree_unflatten(out_tree, _bind_cond(index, jaxprs, consts, leaves))


def platform_dependent(*args, default: Callable | None = None, **per_platform: Callable):
    """Apply the function for the platform that the program is compiled for.

    Args:
      *args: operands.
      default: for platforms without a function of their own.
      **per_platform: functions by platform: ``cpu``, ``cuda``, ``tpu``, ...

    Returns:
      The result of the function for this platform.

    Raises:
      NotImplementedError: if no function fits.

    Example:
      >>> from velax import lax
      >>> float(lax.platform_dependent(2.0, cpu=lambda x: x + 1.0, default=lambda x: x))
      3.0
    """
    chosen = per_platform.get("cpu", default)
    if chosen is None:
        known = ", ".join(per_platform) or "none"
        raise NotImplementedError(
            f"platform_dependent: no function for the platform cpu and no default (there is one for: {known})"
        )
    return chosen(*args)
