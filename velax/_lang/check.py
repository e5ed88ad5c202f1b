"""The type checker of jaxprs: every transformation's output can be checked against the primitives' type rules."""

from __future__ import annotations

from velax._lang.avals import typematch
from velax._lang.jaxpr import ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, Var, effects_of, jaxprs_in_params
from velax._lang.primitive import CallPrimitive
from velax._lang.trace import get_aval

__all__ = ["JaxprTypeError", "check_jaxpr"]


class JaxprTypeError(TypeError):
    """A jaxpr that breaks the rules of the language."""


def check_jaxpr(jaxpr: Jaxpr) -> None:
    """Check scoping, single assignment, types and effects, also in nested jaxprs.

    Raises:
      JaxprTypeError: with the offending equation and the jaxpr around it.
    """
    if isinstance(jaxpr, ClosedJaxpr):
        for var, const in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True):
            if not typematch(var.aval, get_aval(const)):
                raise JaxprTypeError(f"constant of type {get_aval(const)} bound to {var!r}")
        jaxpr = jaxpr.jaxpr
    defined: set[Var] = set()

    def fail(message: str, eqn: JaxprEqn | None = None):
        where = f"\n\nin equation:\n\n{eqn!r}\n(from {eqn.source_info})" if eqn is not None else ""
        raise JaxprTypeError(f"{message}{where}\n\nof jaxpr:\n\n{jaxpr!r}")

    def define(v, eqn=None):
        if not isinstance(v, Var):
            fail(f"{v!r} stands where a variable must", eqn)
        if v in defined:
            fail(f"variable {v!r} is bound twice", eqn)
        if not isinstance(v, DropVar):
            defined.add(v)

    def read(atom, eqn=None):
        if isinstance(atom, Literal):
            if not typematch(atom.aval, get_aval(atom.val)) and atom.aval.shape != ():
                fail(f"literal {atom.val!r} has type {get_aval(atom.val)}, not {atom.aval}", eqn)
        elif atom not in defined:
            fail(f"variable {atom!r} is not in scope", eqn)
        return atom.aval

    for v in (*jaxpr.constvars, *jaxpr.invars):
        define(v)
    for eqn in jaxpr.eqns:
        in_avals = [read(a, eqn) for a in eqn.invars]
        for sub in jaxprs_in_params(eqn.params):
            try:
                check_jaxpr(sub)
            except JaxprTypeError as e:
                fail(str(e), eqn)
        if not isinstance(eqn.primitive, CallPrimitive):
            _check_eqn(eqn, in_avals, fail)
        for v in eqn.outvars:
            define(v, eqn)
    for atom in jaxpr.outvars:
        read(atom)
    undeclared = effects_of((*jaxpr.constvars, *jaxpr.invars), jaxpr.eqns) - jaxpr.effects
    if undeclared:
        fail(f"effects {sorted(map(repr, undeclared))} of the equations are not declared by the jaxpr")


def _check_eqn(eqn: JaxprEqn, in_avals, fail) -> None:
    try:
        out, _ = eqn.primitive.abstract_eval(*in_avals, **eqn.params)
    except JaxprTypeError:
        raise
    except Exception as e:
        fail(f"the type rule of {eqn.primitive} rejects its operands: {e}", eqn)
    outs = out if eqn.primitive.multiple_results else [out]
    if len(outs) != len(eqn.outvars):
        fail(f"{eqn.primitive} has {len(outs)} results but {len(eqn.outvars)} variables are bound", eqn)
    for v, aval in zip(eqn.outvars, outs, strict=True):
        if not typematch(v.aval, aval):
            fail(f"{eqn.primitive} gives {aval} but the variable has type {v.aval}", eqn)
