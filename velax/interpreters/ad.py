"""Differentiation: rule tables and tools."""

from __future__ import annotations

from collections.abc import Callable

from velax._lang.primitive import Primitive, RuleTable
from velax._transforms.jvp import JVPTrace as JVPTrace, JVPTracer as JVPTracer, jvp_flat as _jvp_flat
from velax._transforms.zero import (
    SymbolicZero as SymbolicZero,
    UndefinedPrimal as UndefinedPrimal,
    Zero as Zero,
    add_any_p as add_jaxvals_p,
    add_jaxvals as add_jaxvals,
    add_tangents as add_tangents,
    instantiate_zeros as instantiate_zeros,
    is_undefined_primal as is_undefined_primal,
    zeros_like_aval as zeros_like_aval,
)

__all__ = [
    "JVPTrace", "JVPTracer", "SymbolicZero", "UndefinedPrimal", "Zero", "add_jaxvals", "add_jaxvals_p",
    "add_tangents", "defbilinear", "defjvp",
    "defjvp2", "deflinear", "deflinear2", "get_primitive_transpose", "instantiate_zeros", "is_undefined_primal",
    "jvp", "primitive_jvps",
    "primitive_transposes", "zeros_like_aval",
]  # fmt: skip

#: primitive -> JVP rule ``(primals, tangents, **params) -> (primals_out, tangents_out)``
primitive_jvps = RuleTable("jvp")
#: primitive -> transpose rule ``(cotangent, *args, **params) -> cotangents``
primitive_transposes = RuleTable("transpose")


def get_primitive_transpose(p: Primitive) -> Callable:
    """The transpose rule of a primitive.

    Raises:
      NotImplementedError: if it has none.
    """
    try:
        return primitive_transposes[p]
    except KeyError:
        raise NotImplementedError(
            f"Transpose rule (for reverse-mode differentiation) for '{p}' not implemented"
        ) from None


def deflinear2(primitive: Primitive, transpose_rule: Callable) -> None:
    """Declare a primitive linear: its JVP is itself; ``transpose_rule(cotangent, *args, **params)``."""

    def jvp_rule(primals, tangents, **params):
        out = primitive.bind(*primals, **params)
        if all(type(t) is Zero for t in tangents):
            if primitive.multiple_results:
                return out, [Zero.from_primal_value(o) for o in out]
            return out, Zero.from_primal_value(out)
        return out, primitive.bind(*map(instantiate_zeros, tangents), **params)

    primitive_jvps[primitive] = jvp_rule
    primitive_transposes[primitive] = transpose_rule


def deflinear(primitive: Primitive, transpose_rule: Callable) -> None:
    """As `deflinear2`, with a rule that gets no arguments: ``transpose_rule(cotangent, **params)``."""

    def rule(cotangent, *args, **params):
        if type(cotangent) is Zero:
            return [Zero(x.aval) if is_undefined_primal(x) else None for x in args]
        return transpose_rule(cotangent, **params)

    deflinear2(primitive, rule)


def defjvp(primitive: Primitive, *jvprules: Callable | None) -> None:
    """Give a rule for each operand: ``rule(tangent, *primals, **params)`` is its contribution; None is zero."""
    wrapped = [
        None if r is None else (lambda t, out, *primals, r=r, **params: r(t, *primals, **params)) for r in jvprules
    ]
    defjvp2(primitive, *wrapped)


def defjvp2(primitive: Primitive, *jvprules: Callable | None) -> None:
    """As `defjvp`, with the result too: ``rule(tangent, out, *primals, **params)``."""

    def jvp_rule(primals, tangents, **params):
        out = primitive.bind(*primals, **params)
        total = None
        for rule, t in zip(jvprules, tangents, strict=True):
            if rule is not None and type(t) is not Zero:
                term = rule(t, out, *primals, **params)
                total = term if total is None else add_tangents(total, term)
        return out, Zero.from_primal_value(out) if total is None else total

    primitive_jvps[primitive] = jvp_rule


def defbilinear(prim: Primitive, lhs_rule: Callable, rhs_rule: Callable) -> None:
    """Declare a primitive of two operands linear in each: the rules give the cotangents
    ``lhs_rule(ct, x, y, **params)`` and ``rhs_rule(ct, x, y, **params)``.
    """
    defjvp(
        prim, lambda t, x, y, **params: prim.bind(t, y, **params), lambda t, x, y, **params: prim.bind(x, t, **params)
    )

    def transpose(cotangent, x, y, **params):
        if is_undefined_primal(x):
            return [Zero(x.aval) if type(cotangent) is Zero else lhs_rule(cotangent, x, y, **params), None]
        return [None, Zero(y.aval) if type(cotangent) is Zero else rhs_rule(cotangent, x, y, **params)]

    primitive_transposes[prim] = transpose


def jvp(fun, primals, tangents, has_aux: bool = False, instantiate: bool = True):
    """The directional derivative of a flat function (values -> list of values)."""
    call = fun.call_wrapped if hasattr(fun, "call_wrapped") else fun
    outs, out_tangents = _jvp_flat(call, primals, tangents)
    return outs, [instantiate_zeros(t) for t in out_tangents] if instantiate else out_tangents
