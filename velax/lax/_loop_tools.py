"""What the control-flow operations share: tracing their functions, hoisting constants, checking that types agree, permuting jaxprs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from velax import _native
from velax._lang import dtypes
from velax._lang.avals import typematch
from velax._lang.jaxpr import ClosedJaxpr
from velax._lang.source import line_of
from velax._lang.trace import Tracer, get_aval
from velax._transforms.arguments import debug_info_of, flatten_fun, function_name
from velax._transforms.batching import axis_names
from velax._transforms.evaluate import move_consts_to_inputs
from velax._transforms.staging import trace_to_jaxpr
from velax.lax._structural import convert_type
from velax.tree_util import equality_errors, keystr, tree_flatten, tree_unflatten

__all__ = ["body_arguments", "check_carry", "flatten_values", "permuted", "strengthen", "trace_body"]

_traced: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def flatten_values(what: str, tree) -> tuple[list, object]:
    """Leaves and structure; TypeError naming the path of what is no value."""
    leaves, structure = tree_flatten(tree)
    for x in leaves:
        try:
            get_aval(x)
        except TypeError as e:
            raise TypeError(f"{what}: {e}") from None
    return leaves, structure


def trace_body(what: str, fun: Callable, in_tree, in_avals) -> tuple[ClosedJaxpr, list, object]:
    """Trace ``fun`` (positional arguments of structure ``in_tree``).

    Returns:
      The jaxpr without constants, what it closes over (its first inputs), and the structure of its result. Kept for functions seen again.
    """
    key = (in_tree, tuple(in_avals), _native.config_key(), axis_names())
    try:
        known = _traced.setdefault(fun, {})
        found = known.get(key)
    except TypeError:  # not weakly referenceable or unhashable
        known, found = None, None
    if found is None:
        flat, out_tree = flatten_fun(fun, in_tree)
        closed = trace_to_jaxpr(flat, in_avals, debug_info_of(what, fun))
        hoisted, consts = move_consts_to_inputs(closed)
        found = (hoisted, consts, out_tree[0])
        if known is not None and not any(isinstance(c, Tracer) for c in consts):
            known[key] = found
    return found


def body_arguments(jaxpr: ClosedJaxpr, n_consts: int):
    return jaxpr.jaxpr.invars[:n_consts], jaxpr.jaxpr.invars[n_consts:]


def permuted(jaxpr: ClosedJaxpr, ins: Sequence[int] | None = None, outs: Sequence[int] | None = None) -> ClosedJaxpr:
    """The jaxpr with inputs and outputs in another order (old positions in the new order)."""
    j = jaxpr.jaxpr
    invars = j.invars if ins is None else [j.invars[i] for i in ins]
    outvars = j.outvars if outs is None else [j.outvars[i] for i in outs]
    return ClosedJaxpr(j.replace(invars=invars, outvars=outvars), jaxpr.consts)


def check_carry(what: str, in_tree, in_avals, out_tree, out_avals, part: str = "body function") -> None:
    """TypeError unless the carry that comes out of a loop's body has the structure and types of the one that goes in."""
    if in_tree != out_tree:
        lines = []
        expected, got = (tree_unflatten(t, list(a)) for t, a in ((in_tree, in_avals), (out_tree, out_avals)))
        for path, this, that, why in equality_errors(expected, got):
            lines.append(f"  * the input carry component c{keystr(path)} is {this} but the corresponding component of the carry output is {that}, so {why}")
        detail = "\n".join(lines) or f"  * the input carry has structure {in_tree}, the output {out_tree}"
        raise TypeError(
            f"{what} {part} carry input and carry output must have the same pytree structure, but they differ:\n\n{detail}\n\n"
            "Revise the function so that the carry output has the same pytree structure as the carry input."
        )
    lines = []
    for i, (a, b) in enumerate(zip(in_avals, out_avals, strict=True)):
        if typematch(a, b):
            continue
        why = []
        if a.shape != b.shape:
            why.append("the shapes do not match")
        if a.dtype != b.dtype:
            why.append("the dtypes do not match")
        path = _path_of(in_tree, i)
        lines.append(
            f"The input carry {'component ' if path else ''}c{path} has type {a.str_short()} but the corresponding output carry component has type {b.str_short()}, so {' and '.join(why)}."
        )
    if lines:
        raise TypeError(
            f"{what} {part} carry input and carry output must have equal types, but they differ:\n\n" + "\n".join(lines)
            + "\n\nRevise the function so that all output types match the corresponding input types (e.g. with x.astype, or a start value of the right dtype)."
        )


def _path_of(tree, i) -> str:
    from velax.tree_util import tree_flatten_with_path

    return keystr(tree_flatten_with_path(tree_unflatten(tree, list(range(tree.num_leaves))))[0][i][0])


def strengthen(leaves, in_avals, out_avals):
    """Start values made strong where the body returns strong types of the same shape and dtype, and promoted where weak ones meet wider ones.

    Returns:
      The values, and whether anything changed (then the body is traced again).
    """
    changed = False
    result = []
    for x, a, b in zip(leaves, in_avals, out_avals, strict=True):
        if a.weak_type and hasattr(b, "weak_type") and (not b.weak_type or a.dtype != b.dtype) and a.shape == b.shape:
            if a.dtype != b.dtype and not _widens(a, b):
                result.append(x)
                continue
            result.append(convert_type(x, b.dtype, b.weak_type))
            changed = True
        else:
            result.append(x)
    return result, changed


def _widens(a, b) -> bool:
    from velax._lang.promotion import promote_types

    try:
        return promote_types(a.dtype, b.dtype) == b.dtype or (dtypes.is_integer(a.dtype) and dtypes.is_inexact(b.dtype))
    except (TypeError, ValueError):
        return False


def describe(fun) -> str:
    return f"{function_name(fun)} at {line_of(fun)}"
