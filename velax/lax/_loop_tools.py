"""What the control-flow operations share: tracing their functions, hoisting constants, checking
that types agree, rearranging jaxprs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from velax import _native
from velax._lang import dtypes
from velax._lang.avals import AbstractRef, shaped_array, typematch
from velax._lang.effects import JaxprInputEffect
from velax._lang.jaxpr import ClosedJaxpr, Literal, Var
from velax._lang.source import line_of
from velax._lang.trace import as_array, get_aval
from velax._transforms.arguments import argnames_of, debug_info_of, flatten_fun, function_name
from velax._transforms.batching import axes_key
from velax._transforms.discharge import returned_ref_message
from velax._transforms.evaluate import jaxpr_as_fun, move_consts_to_inputs
from velax._transforms.staging import keep_trace, trace_to_jaxpr, traces_of
from velax._transforms.zero import ops, zeros_like_aval
from velax.lax._structural import convert_type
from velax.tree_util import (
    equality_errors,
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_structure,
    tree_unflatten,
)

__all__ = [
    "argument_tree", "check_carry", "check_no_refs", "describe", "fill_outputs", "flatten_values",
    "forwarded", "give_result", "group", "is_ref", "message_lines",
    "path_of", "permuted", "promote_carry", "shift_input_effects", "structure_errors", "trace_body", "type_errors",
    "values_of",
]  # fmt: skip


def group(items: Sequence, *sizes: int) -> list:
    """``items`` cut into runs of the given sizes and the rest."""
    parts, start = [], 0
    for n in sizes:
        parts.append(items[start : start + n])
        start += n
    return [*parts, items[start:]]


def flatten_values(tree) -> tuple[list, object]:
    """Leaves and structure; TypeError for what is no value."""
    leaves, structure = tree_flatten(tree)
    for x in leaves:
        try:
            get_aval(x)
        except TypeError:
            raise TypeError(f"Argument '{x}' of type {type(x)} is not a valid JAX type") from None
    return leaves, structure


def argument_tree(*trees):
    """The structure of positional arguments with these structures."""
    return tree_structure(tuple(tree_unflatten(t, [0] * t.num_leaves) for t in trees))


def trace_body(what: str, fun: Callable, in_tree, in_avals) -> tuple[ClosedJaxpr, list, object]:
    """Trace ``fun`` (positional arguments of structure ``in_tree``).

    Returns:
      The jaxpr without constants, what it closes over (its first inputs), and the structure of its
      result. Kept for functions seen again.
    """
    key = (what, in_tree, tuple(in_avals), _native.config_key(), axes_key())
    traces = traces_of(fun)
    found = traces.get(key)
    if found is None:
        flat, out_tree = flatten_fun(fun, in_tree)

        def checked(*leaves):
            outs = flat(*leaves)
            _check_outputs(what, fun, outs, out_tree[0])
            return outs

        closed = trace_to_jaxpr(
            checked, in_avals, debug_info_of(what, fun, tree_unflatten(in_tree, [0] * len(in_avals))), out_tree
        )
        hoisted, consts = move_consts_to_inputs(closed)
        found = (hoisted, consts, out_tree[0])
        keep_trace(traces, key, found, consts)
    return found


def _check_outputs(what, fun, outs, tree) -> None:
    for i, x in enumerate(outs):
        try:
            aval = get_aval(x)
            if isinstance(aval, AbstractRef):
                raise ValueError(returned_ref_message(debug_info_of(what, fun), aval))
        except TypeError:
            path = path_of(tree, i)
            where = f" at output component {path}" if path else ""
            raise TypeError(
                f"function {describe(fun)} traced for {what} returned a value of type {type(x)}{where}, "
                "which is not a valid JAX type"
            ) from None


def describe(fun) -> str:
    return f"{function_name(fun)} at {line_of(fun)}"


def path_of(tree, i) -> str:
    """Where leaf ``i`` of a structure is, as a suffix."""
    return keystr(tree_flatten_with_path(tree_unflatten(tree, list(range(tree.num_leaves))))[0][i][0])


def check_no_refs(what: str, leaves) -> None:
    """TypeError for references in a carry: they are captured, not carried."""
    for x in leaves:
        aval = get_aval(x)
        if isinstance(aval, AbstractRef):
            raise TypeError(
                f"{what} cannot carry a mutable array reference ({aval.str_short()}): let the function "
                "close over it instead."
            )


def is_ref(x) -> bool:
    return isinstance(get_aval(x), AbstractRef)


def values_of(args) -> list:
    """Arguments with references read."""
    return [ops.ref_get(x) if is_ref(x) else x for x in args]


def forwarded(x):
    """An operand that is a result as well. Results of evaluation are arrays; while tracing a number
    stays the literal it is.
    """
    return as_array(x) if _native.get_trace() is None else x


# -- jaxprs --------------------------------------------------------------------------------------


def permuted(jaxpr: ClosedJaxpr, ins: Sequence[int] | None = None, outs: Sequence[int] | None = None) -> ClosedJaxpr:
    """The jaxpr with inputs and outputs in another order (old positions in the new order)."""
    j = jaxpr.jaxpr
    invars = j.invars if ins is None else [j.invars[i] for i in ins]
    outvars = j.outvars if outs is None else [j.outvars[i] for i in outs]
    effects = j.effects
    if ins is not None and any(isinstance(e, JaxprInputEffect) for e in effects):
        position = {old: new for new, old in enumerate(ins)}
        effects = shift_input_effects(effects, position.__getitem__)
    return ClosedJaxpr(j.replace(invars=invars, outvars=outvars, effects=effects), jaxpr.consts)


def shift_input_effects(effects, position: Callable[[int], int]) -> frozenset:
    """Effects with those on inputs moved to other positions."""
    return frozenset(
        e.replace(input_index=position(e.input_index)) if isinstance(e, JaxprInputEffect) else e for e in effects
    )


def give_result(jaxpr: ClosedJaxpr, position: int | None) -> ClosedJaxpr:
    """The jaxpr with a dummy boolean as first result, and as input ``position`` where that is not
    None: for control flow run for its effects.
    """
    j = jaxpr.jaxpr
    aval = shaped_array((), np.dtype(bool))
    if position is None:
        return ClosedJaxpr(j.replace(outvars=[Literal(False, aval), *j.outvars]), jaxpr.consts)
    var = Var(aval)
    invars = [*j.invars[:position], var, *j.invars[position:]]
    return ClosedJaxpr(j.replace(invars=invars, outvars=[var, *j.outvars]), jaxpr.consts)


def fill_outputs(jaxpr: ClosedJaxpr, layout: Sequence) -> ClosedJaxpr:
    """The jaxpr with results rearranged: an int of ``layout`` is an old position, an aval a result
    of zeros of that type.
    """
    if all(isinstance(x, int) for x in layout):
        return permuted(jaxpr, outs=layout)

    def run(*args):
        outs = jaxpr_as_fun(jaxpr)(*args)
        return [outs[x] if isinstance(x, int) else zeros_like_aval(x) for x in layout]

    return trace_to_jaxpr(run, jaxpr.in_avals, jaxpr.jaxpr._debug_info)


# -- types ---------------------------------------------------------------------------------------


def message_lines(lines: Sequence[str], article: str = "The") -> str:
    """One complaint as a sentence, several as a list."""
    if len(lines) == 1:
        return f"{article} {lines[0]}."
    return ";\n".join(f"  * {article.lower()} {line}" for line in lines) + "."


def _type_difference(a, b) -> str:
    why = []
    if a.shape != b.shape:
        why.append("the shapes do not match")
    if a.dtype != b.dtype:
        why.append("the dtypes do not match")
    return " and ".join(why) or "the types do not match"


def type_errors(avals_a, avals_b):
    """Positions at which types differ beyond weakness, and why."""
    return [
        (i, _type_difference(a, b))
        for i, (a, b) in enumerate(zip(avals_a, avals_b, strict=True))
        if not typematch(a, b)
    ]


def structure_errors(tree_a, avals_a, tree_b, avals_b):
    """``(path, this, that, why)`` of each difference of two structures."""
    return list(equality_errors(tree_unflatten(tree_a, list(avals_a)), tree_unflatten(tree_b, list(avals_b))))


def check_carry(what: str, fun: Callable, in_tree, in_avals, out_tree, out_avals) -> None:
    """TypeError unless the carry that comes out of a loop's body has the structure and types of the one that goes in.

    Args:
      what: the operation, with the name of the function (``scan body function``).
      fun: the body, whose first argument is the carry.
    """
    name = _carry_name(fun)

    def component(path: str) -> str:
        return f"input carry {'component ' if path else ''}{name}{path}"

    if in_tree != out_tree:
        lines = [
            f"{component(keystr(path))} is a {this} but the corresponding component of the carry output is a {that}, "
            f"so {why}"
            for path, this, that, why in structure_errors(in_tree, in_avals, out_tree, out_avals)
        ] or [f"input carry {name} has structure {in_tree} but the carry output has structure {out_tree}"]
        raise TypeError(
            f"{what} carry input and carry output must have the same pytree structure, but they "
            f"differ:\n\n{message_lines(lines)}\n\n"
            "Revise the function so that the carry output has the same pytree structure as the carry input."
        )
    lines = [
        f"{component(path_of(in_tree, i))} has type {in_avals[i].str_short()} but the corresponding output carry "
        "component has type "
        f"{out_avals[i].str_short()}, so {why}"
        for i, why in type_errors(in_avals, out_avals)
    ]
    if lines:
        raise TypeError(
            f"{what} carry input and carry output must have equal types, but they differ:\n\n{message_lines(lines)}\n\n"
            "Revise the function so that all output types match the corresponding input types."
        )


def _carry_name(fun) -> str:
    names = argnames_of(fun, (0,), {})
    return names[0] if names else "c"


def promote_carry(leaves, in_avals, out_avals):
    """Start values of weak type taken to the dtype that the body returns, where Python's rules of promotion allow it.

    Returns:
      The values, and whether any dtype changed (then the body is to be traced again).
    """
    result = list(leaves)
    for i, (a, b) in enumerate(zip(in_avals, out_avals, strict=True)):
        if getattr(a, "weak_type", False) and a.shape == b.shape and a.dtype != b.dtype and _yields(a.dtype, b.dtype):
            x = leaves[i]
            result[i] = b.dtype.type(x) if isinstance(x, (int, float, complex)) else convert_type(x, b.dtype, False)
    return result, any(x is not y for x, y in zip(result, leaves, strict=True))


def _yields(weak, other) -> bool:
    """Whether a weak value of dtype ``weak`` next to one of dtype ``other`` takes its dtype."""
    if dtypes.is_extended(other):
        return False
    if dtypes.is_integer(weak):
        return dtypes.is_integer(other) or dtypes.is_inexact(other)
    if dtypes.is_complex(weak):
        return dtypes.is_complex(other)
    return dtypes.is_inexact(weak) and dtypes.is_inexact(other)
