"""Transposition of linear jaxprs: the backward pass.

Walks the equations in reverse, accumulating cotangents. Equations that do not depend on a linear
input are evaluated first, in order. Each equation's transpose rule gets the cotangents of its
results and its operands, linear ones as `UndefinedPrimal`, and returns cotangents of the linear
operands.
"""

from __future__ import annotations

from collections.abc import Sequence

from velax._lang.jaxpr import ClosedJaxpr, Jaxpr, Literal, Var
from velax._lang.source import swap_equation
from velax._transforms.discharge import discharge_internal
from velax._transforms.evaluate import split_known
from velax._transforms.jvp import missing_rule
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import UndefinedPrimal, Zero, add_tangents

__all__ = ["backward_pass", "transpose_jaxpr"]


def backward_pass(jaxpr: Jaxpr, consts: Sequence, args: Sequence, cotangents: Sequence) -> list:
    """Transpose at work.

    Args:
      jaxpr: linear in the inputs given as `UndefinedPrimal`.
      consts: values of the constvars.
      args: values, or `UndefinedPrimal` for linear inputs.
      cotangents: one for each output, maybe `Zero`.

    Returns:
      A cotangent (maybe `Zero`) for each input; None for the ones that are not linear.
    """
    if all(type(ct) is Zero for ct in cotangents):
        return [
            Zero(v.aval.to_tangent_aval()) if type(x) is UndefinedPrimal else None
            for v, x in zip(jaxpr.invars, args, strict=True)
        ]
    if jaxpr.effects:
        closed = discharge_internal(ClosedJaxpr(jaxpr, consts))
        jaxpr, consts = closed.jaxpr, closed.consts
    known: dict[Var, object] = dict(zip(jaxpr.constvars, consts, strict=True))
    linear_inputs = {}
    for v, x in zip(jaxpr.invars, args, strict=True):
        if type(x) is UndefinedPrimal:
            linear_inputs[v] = x
        else:
            known[v] = x
    linear_eqns = []
    for eqn in jaxpr.eqns:
        if all(type(x) is Literal or x in known for x in eqn.invars):
            values = [x.val if type(x) is Literal else known[x] for x in eqn.invars]
            callables, params = eqn.primitive.get_bind_params(eqn.params)
            out = eqn.primitive.bind(*callables, *values, **params)
            known.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
            continue
        parts = split_known(eqn, [type(x) is Literal or x in known for x in eqn.invars])
        if parts is not None:
            now, eqn = parts
            values = [x.val if type(x) is Literal else known[x] for x in now.invars]
            known.update(zip(now.outvars, now.primitive.bind(*values, **now.params), strict=True))
        linear_eqns.append(eqn)

    ct_of: dict[Var, object] = {}

    def accumulate(x, ct):
        if ct is None or type(ct) is Zero or type(x) is Literal or x in known:
            return
        ct_of[x] = add_tangents(ct_of[x], ct) if x in ct_of else ct

    for x, ct in zip(jaxpr.outvars, cotangents, strict=True):
        accumulate(x, ct)
    outer = swap_equation(None)
    try:
        for eqn in reversed(linear_eqns):
            cts = [ct_of.pop(v, None) for v in eqn.outvars]
            if all(ct is None for ct in cts):
                continue
            cts = [Zero(v.aval.to_tangent_aval()) if ct is None else ct for v, ct in zip(eqn.outvars, cts, strict=True)]
            operands = [
                x.val
                if type(x) is Literal
                else known[x]
                if x in known
                else linear_inputs.get(x) or UndefinedPrimal(x.aval)
                for x in eqn.invars
            ]
            rule = eqn.primitive.rules.get("transpose")
            if rule is None:
                raise missing_rule("Transpose rule (for reverse-mode differentiation)", eqn.primitive)
            swap_equation(eqn.source_info)
            results = rule(cts if eqn.primitive.multiple_results else cts[0], *operands, **eqn.params)
            for x, ct in zip(eqn.invars, results, strict=True):
                accumulate(x, ct)
    finally:
        swap_equation(outer)
    return [
        ct_of.get(v, Zero(v.aval.to_tangent_aval())) if type(x) is UndefinedPrimal else None
        for v, x in zip(jaxpr.invars, args, strict=True)
    ]


def transpose_jaxpr(
    jaxpr: ClosedJaxpr, linear: Sequence[bool], zero_cts: Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    """The jaxpr ``(*non-linear inputs, *nonzero cotangents) -> nonzero cotangents of the linear inputs``.

    Args:
      jaxpr: the function, linear in the inputs ``linear``.
      linear: which inputs are linear.
      zero_cts: which outputs' cotangents are zero.

    Returns:
      The jaxpr and, for each linear input, whether its cotangent is zero (and so not returned).
      Memoised on the jaxpr object.
    """
    return jaxpr.memo(
        ("transpose", tuple(linear), tuple(zero_cts)), lambda: _transpose_jaxpr(jaxpr, list(linear), list(zero_cts))
    )


def _transpose_jaxpr(jaxpr, linear, zero_cts):
    n_known = linear.count(False)
    zero_out: list[bool] = []

    def run(*args):
        known, cts = iter(args[:n_known]), iter(args[n_known:])
        operands = [UndefinedPrimal(a) if lin else next(known) for lin, a in zip(linear, jaxpr.in_avals, strict=True)]
        cotangents = [
            Zero(a.to_tangent_aval()) if z else next(cts) for z, a in zip(zero_cts, jaxpr.out_avals, strict=True)
        ]
        results = backward_pass(jaxpr.jaxpr, jaxpr.consts, operands, cotangents)
        results = [ct for ct, lin in zip(results, linear, strict=True) if lin]
        zero_out[:] = [type(ct) is Zero for ct in results]
        return [ct for ct in results if type(ct) is not Zero]

    known_avals = [a for lin, a in zip(linear, jaxpr.in_avals, strict=True) if not lin]
    ct_avals = [a.to_tangent_aval() for z, a in zip(zero_cts, jaxpr.out_avals, strict=True) if not z]
    closed = trace_to_jaxpr(run, [*known_avals, *ct_avals], jaxpr.jaxpr._debug_info)
    return closed, zero_out
