"""Lowering rules of libraries' own primitives.

Velax compiles through its own graph, not MLIR: a rule that is a Python function made with
  `lower_fun` works; one that writes MLIR operations cannot.
"""

from __future__ import annotations

from collections.abc import Callable

from velax._compiler.build_graph import LoweringContext
from velax._lang.primitive import Primitive
from velax._transforms.staging import trace_to_jaxpr

__all__ = ["LoweringRuleContext", "lower_fun", "register_lowering"]

LoweringRuleContext = LoweringContext


class _LowerFun:
    """A lowering rule that traces a Python function of the operands and inlines its operations."""

    def __init__(self, fun: Callable, multiple_results: bool):
        self.fun, self.multiple_results = fun, multiple_results

    def __call__(self, ctx: LoweringContext, *nodes, **params):
        def flat(*xs):
            out = self.fun(*xs, **params)
            return list(out) if self.multiple_results else [out]

        return ctx.inline(trace_to_jaxpr(flat, ctx.avals_in), nodes)


def lower_fun(fun: Callable, multiple_results: bool = True) -> Callable:
    """A lowering rule from a Python function of Velax's operations.

    Args:
      fun: takes the operands and parameters of the primitive.
      multiple_results: whether it returns a sequence.
    """
    return _LowerFun(fun, multiple_results)


def register_lowering(
    prim: Primitive, rule: Callable, platform: str | None = None, inline: bool = True, cacheable: bool = True
):
    """Set the lowering rule of a primitive; on the CPU a rule for another platform is ignored."""
    if platform is None or platform == "cpu":
        prim.rules["lower"] = rule if isinstance(rule, _LowerFun) else _MlirRule(prim, rule)
    return rule


class _MlirRule:
    """A rule written for MLIR: reported when something compiles the primitive. Rules for Velax's
    graph take a `LoweringContext` too and run.
    """

    def __init__(self, prim: Primitive, rule: Callable):
        self.prim, self.rule = prim, rule

    def __call__(self, ctx: LoweringContext, *nodes, **params):
        try:
            return self.rule(ctx, *nodes, **params)
        except AttributeError as e:
            raise NotImplementedError(
                f"the lowering of '{self.prim}' does not fit Velax's LoweringContext ({e}). Velax has no MLIR; "
                "register mlir.lower_fun(python_function) instead."
            ) from e
