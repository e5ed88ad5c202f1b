"""The call primitive ``jit`` and its rules: a named, separately compiled sub-program.

Under transformations the rules transform its jaxpr once (memoised on the jaxpr object) and bind
``jit`` again, so a function used many times is traced, differentiated and batched once. The
compiler inlines it.
"""

from __future__ import annotations

from collections.abc import Sequence

from velax._lang.jaxpr import ClosedJaxpr, Literal, Var
from velax._lang.primitive import define
from velax._lang.transfers import as_operands
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.discharge import apply_discharged, has_refs
from velax._transforms.evaluate import dce_jaxpr, dependent_outputs, eval_jaxpr, move_consts_to_inputs
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.linearize import linearize_jaxpr
from velax._transforms.transpose import transpose_jaxpr
from velax._transforms.zero import UndefinedPrimal, Zero

__all__ = ["bind_jit", "dce_closed", "jit_p"]


def bind_jit(
    jaxpr: ClosedJaxpr, args: Sequence, *, name: str, donated_invars=None, inline=False, keep_unused=False
) -> list:
    """Apply ``jit``; the jaxpr's constants become arguments."""
    if inline:
        return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)
    donated = tuple(donated_invars) if donated_invars is not None else (False,) * len(args)
    jaxpr, consts = move_consts_to_inputs(jaxpr)
    consts = as_operands(consts)
    args, donated = [*consts, *args], (*(False,) * len(consts), *donated)
    apply = lambda pure, values: jit_p.bind(
        *values, jaxpr=pure, name=name, donated_invars=donated, inline=False, keep_unused=keep_unused
    )
    if has_refs(jaxpr):
        return apply_discharged(f"{name} for jit", jaxpr, args, apply)
    return apply(jaxpr, args)


def _call(jaxpr, args, params) -> list:
    """Apply a derived jaxpr; nothing is donated."""
    return bind_jit(jaxpr, args, name=params["name"], keep_unused=params["keep_unused"])


def _type(*avals, jaxpr, **_):
    return jaxpr.out_avals, jaxpr.effects


def _jvp(primals, tangents, *, jaxpr, **params):
    nonzeros = [type(t) is not Zero for t in tangents]
    derived, out_nonzeros = jvp_jaxpr(jaxpr, nonzeros, False)
    args = [*primals, *(t for t in tangents if type(t) is not Zero)]
    results = _call(derived, args, params)
    n = len(jaxpr.out_avals)
    given = iter(results[n:])
    return results[:n], [
        next(given) if nz else Zero(a.to_tangent_aval()) for nz, a in zip(out_nonzeros, jaxpr.out_avals, strict=True)
    ]


def _linearize(nonzeros, *primals, jaxpr, **params):
    split = linearize_jaxpr(jaxpr, nonzeros)
    results = _call(split.primal, primals, params)
    residuals = split.residuals(primals, results)

    def linear(*tangents):
        return _call(split.tangent, [*residuals, *tangents], params)

    return results[: split.n_outs], split.out_nonzeros, linear


def _transpose(cts, *args, jaxpr, **params):
    linear = [type(x) is UndefinedPrimal for x in args]
    zero_cts = [type(ct) is Zero for ct in cts]
    derived, zero_out = transpose_jaxpr(jaxpr, linear, zero_cts)
    operands = [*(x for x in args if type(x) is not UndefinedPrimal), *(ct for ct in cts if type(ct) is not Zero)]
    given = iter(_call(derived, operands, params))
    zero = iter(zero_out)
    return [
        (Zero(x.aval.to_tangent_aval()) if next(zero) else next(given)) if type(x) is UndefinedPrimal else None
        for x in args
    ]


def _batch(axis_data, args, dims, *, jaxpr, **params):
    batched = [d is not None for d in dims]
    derived, out_batched = batch_jaxpr(jaxpr, axis_data, batched)
    args = [matchaxis(axis_data.size, d, 0, x) if d is not None else x for x, d in zip(args, dims, strict=True)]
    outs = _call(derived, args, params)
    return outs, [0 if b else None for b in out_batched]


def dce_closed(jaxpr: ClosedJaxpr, used_outputs: Sequence[bool]) -> tuple[ClosedJaxpr, list[bool]]:
    """`dce_jaxpr` of a closed jaxpr, memoised on it."""

    def make():
        smaller, used_inputs = dce_jaxpr(jaxpr.jaxpr, used_outputs)
        return ClosedJaxpr(smaller, jaxpr.consts), used_inputs

    return jaxpr.memo(("dce", tuple(used_outputs)), make)


def _dce(used_outputs, eqn):
    smaller, used_inputs = dce_closed(eqn.params["jaxpr"], used_outputs)
    if not any(used_outputs) and not smaller.effects:
        return [False] * len(eqn.invars), None
    params = dict(eqn.params, jaxpr=smaller)
    params["donated_invars"] = tuple(d for d, u in zip(eqn.params["donated_invars"], used_inputs, strict=True) if u)
    invars = [x for x, u in zip(eqn.invars, used_inputs, strict=True) if u]
    outvars = [v for v, u in zip(eqn.outvars, used_outputs, strict=True) if u]
    return used_inputs, eqn.replace(invars=invars, outvars=outvars, params=params, effects=smaller.effects)


def _lower(ctx, *args, jaxpr, **_):
    return ctx.inline(jaxpr, args)


jit_p = define(
    "jit",
    abstract_eval=_type,
    effectful=True,
    lower=_lower,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=None,
    batch_axis=_batch,
    dce=_dce,
    depends=lambda flags, *, jaxpr, **_: dependent_outputs(jaxpr, flags),
    replay=lambda *args, jaxpr, **_: eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args),
    multiple_results=True,
    irrelevant_params=("name", "keep_unused", "inline", "donated_invars"),
)
jit_p.rules["physical"] = True  # the body sees keys as keys


def inline_calls(jaxpr):
    """The jaxpr with its ``jit`` equations replaced by their bodies (for policies and passes that
    look at every operation).
    """
    if not any(e.primitive is jit_p for e in jaxpr.eqns):
        return jaxpr
    eqns, rename, constvars, effects = [], {}, list(jaxpr.constvars), jaxpr.effects
    read = lambda x: rename.get(x, x) if isinstance(x, Var) else x
    for eqn in jaxpr.eqns:
        invars = [read(x) for x in eqn.invars]
        if eqn.primitive is not jit_p or eqn.params["jaxpr"].consts:
            eqns.append(eqn.replace(invars=invars))
            continue
        body = inline_calls(eqn.params["jaxpr"].jaxpr)
        inner = dict(zip(body.invars, invars, strict=True))
        get = lambda x, inner=inner: x if isinstance(x, Literal) else inner[x]
        for e in body.eqns:
            outvars = [Var(v.aval) for v in e.outvars]
            inner.update(zip(e.outvars, outvars, strict=True))
            eqns.append(e.replace(invars=[get(x) for x in e.invars], outvars=outvars))
        rename.update(zip(eqn.outvars, [get(x) for x in body.outvars], strict=True))
    return jaxpr.replace(constvars=constvars, eqns=eqns, outvars=[read(x) for x in jaxpr.outvars], effects=effects)
