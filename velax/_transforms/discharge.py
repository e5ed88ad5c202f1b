"""References to values: a jaxpr that reads and writes references as one that takes and returns values.

References exist while a function is traced and in eager code. Where a jaxpr becomes the parameter
of an equation (a call, a loop, a branch), is compiled or is transposed, it is discharged first: a
reference among its inputs becomes the value it holds, and the values at the end of those that it
writes become further results. So nested jaxprs are always pure, and no transformation but the
interpreters of eager code knows of references.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from velax._lang.avals import AbstractRef
from velax._lang.effects import Effect, JaxprInputEffect
from velax._lang.jaxpr import ClosedJaxpr, Literal
from velax._lang.trace import get_aval
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import ops

__all__ = [
    "MakesRef",
    "apply_discharged",
    "check_no_aliases",
    "discharge",
    "discharge_internal",
    "has_refs",
    "returned_ref_message",
]


class MakesRef(Effect):
    """The effect of making a reference, which marks a jaxpr that has references of its own."""

    __slots__ = ()

    def __repr__(self):
        return "MakesRef"


makes_ref = MakesRef()


def has_refs(jaxpr: ClosedJaxpr) -> bool:
    """Whether a closed jaxpr takes, closes over or makes references."""
    return jaxpr.memo("has refs", lambda: _has_refs(jaxpr.jaxpr))


def _has_refs(jaxpr) -> bool:
    if any(isinstance(e, (JaxprInputEffect, MakesRef)) for e in jaxpr.effects):
        return True
    return any(isinstance(v.aval, AbstractRef) for v in (*jaxpr.constvars, *jaxpr.invars))


def discharge(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[int]]:
    """The pure form of a jaxpr.

    Args:
      closed: a jaxpr whose references are inputs or its own (not among its constants).

    Returns:
      The jaxpr of the values, which returns after the results the values at the end of the
      references it writes, and the positions of these among the inputs.

    Raises:
      ValueError: if it returns a reference.
      NotImplementedError: if an operation with a reference has no rule.
    """
    return closed.memo("discharged", lambda: _discharge(closed))


def _discharge(closed):
    jaxpr = closed.jaxpr
    written: list[int] = []

    def run(*values):
        env = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        env.update(zip(jaxpr.invars, values, strict=True))
        read = lambda x: x.val if type(x) is Literal else env[x]
        changed = set()
        for eqn in jaxpr.eqns:
            args = [read(x) for x in eqn.invars]
            primitive = eqn.primitive
            if any(isinstance(x.aval, AbstractRef) for x in (*eqn.invars, *eqn.outvars)):
                rule = primitive.rules.get("discharge")
                if rule is None:
                    raise NotImplementedError(
                        f"{primitive} with a reference as operand (at {eqn.source_info}); read "
                        "it with ref[...] and pass the value"
                    )
                new, outs = rule([x.aval for x in eqn.invars], [v.aval for v in eqn.outvars], *args, **eqn.params)
                for x, value in zip(eqn.invars, new, strict=False):
                    if value is not None:
                        env[x] = value
                        changed.add(x)
            else:
                callables, params = primitive.get_bind_params(eqn.params)
                outs = primitive.bind(*callables, *args, **params)
                outs = outs if primitive.multiple_results else [outs]
            env.update(zip(eqn.outvars, outs, strict=True))
        written[:] = [i for i, v in enumerate(jaxpr.invars) if v in changed]
        for v in jaxpr.outvars:
            if isinstance(v.aval, AbstractRef):
                raise ValueError(returned_ref_message(closed.debug_info, v.aval))
        return [*map(read, jaxpr.outvars), *(env[jaxpr.invars[i]] for i in written)]

    avals = [a.inner_aval if isinstance(a, AbstractRef) else a for a in closed.in_avals]
    return trace_to_jaxpr(run, avals, jaxpr._debug_info), written


def returned_ref_message(info, aval) -> str:
    return (
        f"function {info.func_src_info} traced for {info.traced_for} returned a mutable array reference of type "
        f"{aval.str_short()}, "
        "but mutable array references cannot be returned. Return its value, ref[...], or make the reference outside."
    )


def discharge_internal(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The pure form of a jaxpr whose references are all its own."""
    return discharge(closed)[0] if has_refs(closed) else closed


def check_no_aliases(what: str, args: Sequence) -> None:
    """ValueError if one reference is given twice: writes through one name would have to show in the other."""
    seen = set()
    for x in args:
        aval = get_aval(x)
        if isinstance(aval, AbstractRef):
            if id(x) in seen:
                raise ValueError(
                    "only one reference to a mutable array may be passed as an argument to a function, but when "
                    f"tracing {what} the mutable array reference of type {aval.str_short()} appeared twice: among its "
                    "arguments, or both closed over and passed as an argument. Pass it once."
                )
            seen.add(id(x))


def apply_discharged(
    what: str, closed: ClosedJaxpr, args: Sequence, apply: Callable[[ClosedJaxpr, list], list]
) -> list:
    """Apply a jaxpr with references among its inputs: read them, ``apply`` the pure form to values,
    and write what it has written.

    Args:
      what: the operation, for messages.
      closed: the jaxpr.
      args: its arguments.
      apply: from the pure jaxpr and values to its results.
    """
    check_no_aliases(what, args)
    pure, written = discharge(closed)
    outs = apply(pure, [ops.ref_get(x) if isinstance(get_aval(x), AbstractRef) else x for x in args])
    n = len(outs) - len(written)
    for i, value in zip(written, outs[n:], strict=True):
        ops.ref_set(args[i], value)
    return outs[:n]
