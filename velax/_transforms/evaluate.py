"""Evaluating jaxprs under the current trace, and rebuilding them: the tools every jaxpr-to-jaxpr transformation uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from velax._lang.jaxpr import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, Var, join_effects

__all__ = ["close_over_consts", "dce_jaxpr", "eval_jaxpr", "jaxpr_as_fun", "move_consts_to_inputs"]


def eval_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any], *args, propagate_source_info: bool = True) -> list[Any]:
    """Evaluate a jaxpr equation by equation under the current trace.

    Args:
      jaxpr: the function.
      consts: values of its constvars.
      *args: values of its invars.

    Returns:
      The list of results.
    """
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    if len(args) != len(jaxpr.invars):
        raise TypeError(f"eval_jaxpr: the jaxpr has {len(jaxpr.invars)} inputs, got {len(args)}")
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        primitive = eqn.primitive
        values = [x.val if type(x) is Literal else env[x] for x in eqn.invars]
        callables, params = primitive.get_bind_params(eqn.params)
        out = primitive.bind(*callables, *values, **params)
        if primitive.multiple_results:
            env.update(zip(eqn.outvars, out, strict=True))
        else:
            env[eqn.outvars[0]] = out
    return [x.val if type(x) is Literal else env[x] for x in jaxpr.outvars]


def jaxpr_as_fun(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """The flat Python function of a closed jaxpr."""
    jaxpr, consts = closed.jaxpr, closed.consts
    return lambda *args: eval_jaxpr(jaxpr, consts, *args)


def move_consts_to_inputs(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Any]]:
    """The same function with its constants as first inputs, and their values."""
    jaxpr = closed.jaxpr
    if not jaxpr.constvars:
        return closed, []
    moved = Jaxpr([], [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars, jaxpr.eqns, jaxpr.effects, jaxpr._debug_info)
    return ClosedJaxpr(moved, []), list(closed.consts)


def close_over_consts(jaxpr: Jaxpr, n: int, consts: Sequence[Any]) -> ClosedJaxpr:
    """The inverse: the first ``n`` inputs bound to ``consts``."""
    rest = Jaxpr([*jaxpr.constvars, *jaxpr.invars[:n]], jaxpr.invars[n:], jaxpr.outvars, jaxpr.eqns, jaxpr.effects, jaxpr._debug_info)
    return ClosedJaxpr(rest, list(consts))


def dce_jaxpr(jaxpr: Jaxpr, used_outputs: Sequence[bool], instantiate: bool | Sequence[bool] = False) -> tuple[Jaxpr, list[bool]]:
    """Remove what the used outputs and the effects do not need.

    Args:
      jaxpr: the jaxpr.
      used_outputs: which outputs stay.
      instantiate: inputs to keep although unused.

    Returns:
      The smaller jaxpr and which inputs it still has.
    """
    outvars = [v for v, used in zip(jaxpr.outvars, used_outputs, strict=True) if used]
    live: set[Var] = {v for v in outvars if isinstance(v, Var)}
    kept: list[JaxprEqn] = []
    for eqn in reversed(jaxpr.eqns):
        used = [not isinstance(v, DropVar) and v in live for v in eqn.outvars]
        if not any(used) and not eqn.effects:
            continue
        rule = eqn.primitive.rules.get("dce")
        if rule is not None and not all(used):
            used_inputs, new_eqn = rule(used, eqn)
            if new_eqn is None:
                continue
            eqn = new_eqn
        elif not all(used):
            eqn = eqn.replace(outvars=[v if u else DropVar(v.aval) for u, v in zip(used, eqn.outvars, strict=True)])
        live.update(v for v in eqn.invars if isinstance(v, Var))
        kept.append(eqn)
    kept.reverse()
    keep = [instantiate] * len(jaxpr.invars) if isinstance(instantiate, bool) else list(instantiate)
    used_inputs = [k or v in live for k, v in zip(keep, jaxpr.invars, strict=True)]
    invars = [v for v, used in zip(jaxpr.invars, used_inputs, strict=True) if used]
    effects = join_effects(*(e.effects for e in kept)) & jaxpr.effects
    return Jaxpr(jaxpr.constvars, invars, outvars, kept, effects, jaxpr._debug_info), used_inputs
