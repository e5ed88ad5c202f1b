"""Evaluating jaxprs under the current trace, and rebuilding them: the tools every jaxpr-to-jaxpr
transformation uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from velax._lang.jaxpr import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, Var, effects_of
from velax._lang.source import swap_equation

__all__ = [
    "dce_jaxpr",
    "dependent_outputs",
    "eval_jaxpr",
    "jaxpr_as_fun",
    "move_consts_to_inputs",
    "split_known",
]


def eval_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any], *args, propagate_source_info: bool = True) -> list[Any]:
    """Evaluate a jaxpr equation by equation under the current trace. What is traced anew keeps the
    source locations of the equations.

    Args:
      jaxpr: the function.
      consts: values of its constvars.
      *args: values of its invars.
      propagate_source_info: whether it does keep them.

    Returns:
      The list of results.
    """
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    if len(args) != len(jaxpr.invars):
        raise TypeError(f"eval_jaxpr: the jaxpr has {len(jaxpr.invars)} inputs, got {len(args)}")
    env.update(zip(jaxpr.invars, args, strict=True))
    outer = swap_equation(None)
    try:
        for eqn in jaxpr.eqns:
            primitive = eqn.primitive
            values = [x.val if type(x) is Literal else env[x] for x in eqn.invars]
            callables, params = primitive.get_bind_params(eqn.params)
            # a rule that the user wrote has lines of its own
            swap_equation(eqn.source_info if propagate_source_info and not callables else None)
            out = primitive.bind(*callables, *values, **params)
            if primitive.multiple_results:
                env.update(zip(eqn.outvars, out, strict=True))
            else:
                env[eqn.outvars[0]] = out
    finally:
        swap_equation(outer)
    return [x.val if type(x) is Literal else env[x] for x in jaxpr.outvars]


def jaxpr_as_fun(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """The flat Python function of a closed jaxpr."""
    jaxpr, consts = closed.jaxpr, closed.consts

    def fun(*args):
        return eval_jaxpr(jaxpr, consts, *args)

    fun.describe = lambda: jaxpr._debug_info  # where it is staged again
    return fun


def move_consts_to_inputs(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Any]]:
    """The same function with its constants as first inputs, and their values. Memoised on the jaxpr object.

    Whoever binds a jaxpr as a parameter calls this: equations hold no values, so that equal programs are equal text.
    Derived jaxprs have constants where the rule of a user captures an array.
    """
    if not closed.consts:
        return closed, []

    def make():
        jaxpr = closed.jaxpr
        return ClosedJaxpr(jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars]), [])

    return closed.memo("hoisted", make), list(closed.consts)


def dependent_outputs(jaxpr: ClosedJaxpr, flags: Sequence[bool]) -> list[bool]:
    """Which results depend on the flagged inputs; memoised on the jaxpr."""
    return jaxpr.memo(("depends", tuple(flags)), lambda: _dependent_outputs(jaxpr.jaxpr, flags))


def _dependent_outputs(jaxpr, flags):
    dependent = {v for v, f in zip(jaxpr.invars, flags, strict=True) if f}
    for eqn in jaxpr.eqns:
        ins = [isinstance(x, Var) and x in dependent for x in eqn.invars]
        if any(ins):
            dependent.update(v for v, f in zip(eqn.outvars, _flagged_results(eqn, ins), strict=True) if f)
    return [isinstance(v, Var) and v in dependent for v in jaxpr.outvars]


def _flagged_results(eqn, flags) -> list[bool]:
    rule = eqn.primitive.rules.get("depends")
    return [True] * len(eqn.outvars) if rule is None else rule(flags, **eqn.params)


def split_known(eqn: JaxprEqn, known: Sequence[bool]) -> tuple[JaxprEqn, JaxprEqn] | None:
    """Cut a call, a loop or a branch that gives some results from its known operands alone.

    Args:
      eqn: an equation with unknown operands.
      known: which operands are known.

    Returns:
      An equation for the results that depend on known operands alone, and one for the others. None
      if there is nothing to cut.
    """
    rules = eqn.primitive.rules
    if rules.get("depends") is None or rules.get("dce") is None or eqn.effects:
        return None
    unknown = _flagged_results(eqn, [not k for k in known])
    wanted = [not u and type(v) is not DropVar for u, v in zip(unknown, eqn.outvars, strict=True)]
    if not any(wanted) or not any(unknown):
        return None
    return rules["dce"](wanted, eqn)[1], rules["dce"](unknown, eqn)[1]


def dce_jaxpr(
    jaxpr: Jaxpr, used_outputs: Sequence[bool], instantiate: bool | Sequence[bool] = False
) -> tuple[Jaxpr, list[bool]]:
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
        if not any(used) and not any(e.keeps_equation for e in eqn.effects):
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
    effects = effects_of((*jaxpr.constvars, *invars), kept)
    return Jaxpr(jaxpr.constvars, invars, outvars, kept, effects, jaxpr._debug_info), used_inputs
