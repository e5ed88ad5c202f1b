"""What functions with rules of their own share: the primitives that carry a function with its rules, and the
user's arguments.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from velax._lang.avals import typematch
from velax._lang.jaxpr import ClosedJaxpr, Literal
from velax._lang.primitive import Primitive
from velax._lang.trace import Tracer, as_array, current_trace, eval_trace, get_aval
from velax._transforms.arguments import Static, debug_info_of, flatten_call
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import SymbolicZero, zeros_like_aval
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = [
    "CustomCall", "call_leaves", "check_primal_output", "description", "fix_arguments", "inline_lower", "name_of", "nondiff_positions",
    "stage_function", "typed_call", "zero_from_primal",
]  # fmt: skip


class CustomCall(Primitive):
    """Binds ``(functions..., *args)``; each trace decides which function to use."""

    def __init__(self, name: str, n_functions: int, process: str):
        super().__init__(name, multiple_results=True)
        self._n_functions, self._process = n_functions, process

    def bind(self, *args, **params):
        return self.bind_with_trace(current_trace(), args, params)

    def bind_with_trace(self, trace, args, params):
        functions, values = args[: self._n_functions], args[self._n_functions :]
        if trace is eval_trace:
            for x in values:
                if isinstance(x, Tracer):
                    return trace.process_primitive(self, values, params)
            return functions[0](*values)
        return getattr(trace, self._process)(self, *functions, values, **params)


def inline_lower(ctx, *args, call_jaxpr, **_):
    return ctx.inline(call_jaxpr, args)


def stage_function(trace, fun, args) -> tuple[ClosedJaxpr, int, list]:
    """Trace the function of a call that ``trace`` writes down: its jaxpr, how many of whose first inputs are what it
    closes over, and the operands of the equation.
    """
    tracers = [trace.to_tracer(x) for x in args]
    describe = getattr(fun, "describe", None)
    closed = trace_to_jaxpr(fun, [t.aval for t in tracers], describe() if describe is not None else None)
    consts = [trace.to_tracer(c) for c in closed.consts]
    body = closed.jaxpr
    closed = ClosedJaxpr(body.replace(constvars=[], invars=[*body.constvars, *body.invars]), [])
    return closed, len(consts), [t if isinstance(t, Literal) else t.val for t in (*consts, *tracers)]


def call_leaves(dynamic) -> tuple[list, Any]:
    """Leaves and tree of the differentiable arguments. NumPy arrays become arrays: rules index them
    by traced values.
    """
    leaves, in_tree = tree_flatten((dynamic, {}))
    return [as_array(x) if isinstance(x, np.ndarray) else x for x in leaves], in_tree


def name_of(fun) -> str:
    return getattr(fun, "__name__", str(fun))


def nondiff_positions(fun, argnums, argnames) -> tuple[int, ...]:
    nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if argnames:
        names = list(inspect.signature(fun).parameters)
        nums += tuple(names.index(n) for n in argnames)
    return tuple(sorted(set(nums)))


def fix_arguments(fun, argnums, args):
    """``fun`` of the other arguments, with ``argnums`` fixed to what ``args`` has there."""
    if not argnums:
        return fun, tuple(args)
    for i in argnums:
        if i >= len(args):
            raise TypeError(
                f"nondiff_argnums names argument {i} but {name_of(fun)} was called with {len(args)} arguments"
            )
    dynamic_positions = [i for i in range(len(args)) if i not in argnums]

    def fixed(*dynamic):
        full = list(args)
        for i, x in zip(dynamic_positions, dynamic, strict=True):
            full[i] = x
        return fun(*full)

    return fixed, tuple(args[i] for i in dynamic_positions)


def typed_call(fun, in_tree, describe: Callable) -> tuple[Callable[..., list], list]:
    """``fun`` as a function of leaves; when it runs, the list receives the structure and the types of its result.
    ``describe()`` says whose function it is, where it is staged.
    """
    flat, out_tree = flatten_call(fun, in_tree)
    known: list = []

    def typed(*leaves):
        outs = flat(*leaves)
        known[:] = [(out_tree[0], [get_aval(x) for x in outs])]
        return outs

    typed.describe = describe
    return typed, known


def description(what: str, fun, args, nondiff: Sequence[int]) -> Callable:
    """What gives the `DebugInfo` of a call, made only where the call is staged."""
    named = [Static(x) if i in nondiff else x for i, x in enumerate(args)]
    return functools.partial(debug_info_of, what, fun, named)


def check_primal_output(kind: str, rule: str, name: str, tree, outs, known: list) -> None:
    """TypeError if a rule's primal output has not the structure and types of the function's, where these are known.

    ``kind`` is "JVP" or "VJP fwd".
    """
    if not known:
        return
    expected_tree, expected = known[0]
    got = [get_aval(x) for x in outs]
    if tree != expected_tree:
        same, what, show = "of the same container/pytree structure", "container/pytree structure", _show_tree
    elif not all(map(typematch, got, expected)):
        same, what, show = "with leaves of the same shape/dtype", "shapes/dtypes", _show_leaves
    else:
        return
    if kind == "JVP":
        role = (
            f"(equal in value to the output of the custom_jvp-decorated function {name}, and in particular {same}), "
            "but instead the JVP"
        )
        decorator = "custom_jvp"
    else:
        role = (
            f"(equal to the output of the custom_vjp-decorated function {name}) and the second element represents "
            "residuals (i.e. values stored from the forward pass for use on the backward pass), but instead the fwd"
        )
        decorator = "custom_vjp"
    of, dot = ("", ".") if what.startswith("container") else (" of", "")
    raise TypeError(
        f"Custom {kind} rule {rule} for function {name} must produce a pair (list or tuple of length two) where the "
        f"first element represents the primal output {role} rule output's first element had {what}{of}:\n"
        f"    {show(tree, got)}\n"
        f"while the {decorator}-decorated function {name} had output {what}{of}:\n"
        f"    {show(expected_tree, expected)}{dot}"
    )


def _show_tree(tree, avals) -> str:
    return str(tree_unflatten(tree, [_Shown(a.str_short()) for a in avals]))


def _show_leaves(tree, avals) -> str:
    return ", ".join(a.str_short() for a in avals)


class _Shown:
    """Prints as a text without quotes, in the print of a container."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self):
        return self._text


def zero_from_primal(value, symbolic_zeros: bool = False):
    """The zero tangent of a value: a `SymbolicZero`, or an array of zeros."""
    aval = get_aval(value).to_tangent_aval()
    return SymbolicZero(aval) if symbolic_zeros else zeros_like_aval(aval)
