"""Staging and dead code elimination: rule tables and tools."""

from __future__ import annotations

from velax._lang.primitive import RuleTable
from velax._transforms.evaluate import dce_jaxpr as dce_jaxpr
from velax._transforms.staging import (
    DynamicJaxprTrace as DynamicJaxprTrace,
    DynamicJaxprTracer as DynamicJaxprTracer,
    trace_to_jaxpr as _trace_to_jaxpr,
)

__all__ = ["DynamicJaxprTrace", "DynamicJaxprTracer", "dce_jaxpr", "dce_rules", "trace_to_jaxpr_dynamic"]

#: primitive -> rule ``(used_outputs, eqn) -> (used_inputs, eqn or None)``
dce_rules = RuleTable("dce")


def trace_to_jaxpr_dynamic(fun, in_avals, **_):
    """Trace a flat function: ``(jaxpr, out_avals, consts)``."""
    closed = _trace_to_jaxpr(fun.call_wrapped if hasattr(fun, "call_wrapped") else fun, in_avals)
    return closed.jaxpr, closed.out_avals, closed.consts
