"""Functions with a batching rule of their own: ``custom_vmap``.

A call is one equation with the function's jaxpr and the user's rule. `vmap` runs the rule; forward
mode keeps the equation, with the derivative of the jaxpr and that of the rule; reverse mode
differentiates the jaxpr, whose derivative is batched like any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import check_callable, check_results, debug_info_of, function_name, resolve_kwargs
from velax._transforms.batching import matchaxis
from velax._transforms.evaluate import eval_jaxpr, move_consts_to_inputs
from velax._transforms.jvp import jvp_flat, jvp_jaxpr
from velax._transforms.linearize import linearize_jaxpr
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import Zero, instantiate_zeros
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = ["custom_vmap", "custom_vmap_p"]


class custom_vmap:
    """A function with a batching rule of its own.

    Args:
      fun: the function; its arguments and results are pytrees of arrays.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> from velax.custom_batching import custom_vmap
      >>> @custom_vmap
      ... def solve(a, b):
      ...     return b / a
      >>> @solve.def_vmap
      ... def solve_batch(axis_size, in_batched, a, b):
      ...     a_batched, b_batched = in_batched
      ...     return b / a, a_batched or b_batched
      >>> velax.vmap(solve, in_axes=(None, 0))(2.0, jnp.arange(3.0)).tolist()
      [0.0, 0.5, 1.0]
    """

    def __init__(self, fun: Callable):
        check_callable(fun, "custom_vmap")
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.vmap_rule: Callable | None = None

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def def_vmap(self, vmap_rule: Callable) -> Callable:
        """Set the rule; a decorator.

        Args:
          vmap_rule: ``rule(axis_size, in_batched, *args) -> (out, out_batched)``. ``in_batched`` is
            a list with the structure of the arguments, of whether each leaf is mapped; mapped ones
            have the batch as leading axis. ``out_batched`` says the same of the result.
        """
        self.vmap_rule = vmap_rule
        return vmap_rule

    @api_boundary
    def __call__(self, *args, **kwargs):
        name = function_name(self.fun)
        if self.vmap_rule is None:
            raise AttributeError(
                f"No batching rule defined for custom_vmap function {name} using def_vmap: decorate the rule with "
                f"@{name}.def_vmap before calling it."
            )
        args = resolve_kwargs(self.fun, args, kwargs, "custom_vmap")
        leaves, in_tree = tree_flatten(tuple(args))
        trees: list = []

        def flat(*leaves):
            outs, tree = tree_flatten(self.fun(*tree_unflatten(in_tree, leaves)))
            check_results(outs, "custom_vmap", self.fun)
            trees[:] = [tree]
            return outs

        closed = trace_to_jaxpr(flat, [get_aval(x) for x in leaves], debug_info_of("custom_vmap", self.fun, args))
        call, consts = move_consts_to_inputs(closed)
        rule = _flat_rule(self.vmap_rule, name, in_tree, trees[0], len(consts))
        return tree_unflatten(trees[0], custom_vmap_p.bind(*consts, *leaves, call=call, rule=rule))


def _flat_rule(rule: Callable, name: str, in_tree, out_tree, n_consts: int) -> Callable:
    """``(axis_size, flags, *leaves) -> (flat outs, flags)`` of a user's rule, checked."""
    who = f"the vmap rule {function_name(rule)} of the custom_vmap function {name}"

    def flat(axis_size, batched, *leaves):
        if any(batched[:n_consts]):
            raise NotImplementedError(
                f"{name} is a custom_vmap function that closes over a value which vmap maps over; its rule knows of "
                "arguments only. Pass the value as an argument."
            )
        args = tree_unflatten(in_tree, leaves[n_consts:])
        in_batched = list(tree_unflatten(in_tree, batched[n_consts:]))
        result = rule(axis_size, in_batched, *args)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ValueError(f"{who} must return a pair (out, out_batched), but returned {result!r}.")
        outs, tree = tree_flatten(result[0])
        flags, flags_tree = tree_flatten(result[1])
        if tree != flags_tree:
            raise ValueError(
                f"structure of output value and output batching specification returned by {who} do not match.\n"
                f"Output values: {tree}\nBatching spec: {flags_tree}"
            )
        if tree != out_tree:
            raise ValueError(f"{who} returned the structure {tree}, but the function returns {out_tree}.")
        for i, (x, b) in enumerate(zip(outs, flags, strict=True)):
            aval = get_aval(x)
            if b and (not aval.shape or aval.shape[0] != axis_size):
                raise ValueError(
                    f"{who} says that its output {i} is batched, but it has type {aval.str_short()}: it needs a "
                    f"leading axis of size {axis_size}."
                )
        return outs, [bool(b) for b in flags]

    return flat


def _batch(axis_data, args, dims, *, call, rule):
    args = [x if d is None else matchaxis(axis_data.size, d, 0, x) for x, d in zip(args, dims, strict=True)]
    outs, flags = rule(axis_data.size, [d is not None for d in dims], *args)
    return outs, [0 if b else None for b in flags]


def _jvp(primals, tangents, *, call, rule):
    nonzeros = [type(t) is not Zero for t in tangents]
    derived, out_nonzeros = jvp_jaxpr(call, nonzeros, False)
    given = [t for t in tangents if type(t) is not Zero]
    results = custom_vmap_p.bind(*primals, *given, call=derived, rule=_jvp_of_rule(rule, nonzeros, out_nonzeros))
    n = len(call.out_avals)
    out_tangents = iter(results[n:])
    return results[:n], [
        next(out_tangents) if nz else Zero(a.to_tangent_aval())
        for nz, a in zip(out_nonzeros, call.out_avals, strict=True)
    ]


def _jvp_of_rule(rule: Callable, nonzeros, out_nonzeros) -> Callable:
    """The rule of ``(*primals, *nonzero tangents)``: the derivative of the rule. A primal and its
    tangent are mapped together.
    """

    def flat(axis_size, batched, *leaves):
        n = len(nonzeros)
        primals, given = list(leaves[:n]), iter(zip(leaves[n:], batched[n:], strict=True))
        flags, tangents = list(batched[:n]), []
        for i, nz in enumerate(nonzeros):
            if not nz:
                tangents.append(None)
                continue
            tangent, mapped = next(given)
            if mapped and not flags[i]:
                primals[i] = matchaxis(axis_size, None, 0, primals[i])
            elif flags[i] and not mapped:
                tangent = matchaxis(axis_size, None, 0, tangent)
            flags[i] = flags[i] or mapped
            tangents.append(tangent)
        tangents = [Zero.from_primal_value(p) if t is None else t for p, t in zip(primals, tangents, strict=True)]
        out_flags: list[bool] = []

        def run(*values):
            outs, found = rule(axis_size, flags, *values)
            out_flags[:] = found
            return outs

        outs, out_tangents = jvp_flat(run, primals, tangents)
        kept = [instantiate_zeros(t) for t, nz in zip(out_tangents, out_nonzeros, strict=True) if nz]
        return [*outs, *kept], [*out_flags, *(f for f, nz in zip(out_flags, out_nonzeros, strict=True) if nz)]

    return flat


def _linearize(nonzeros, *primals, call, rule):
    split = linearize_jaxpr(call, nonzeros)
    results = eval_jaxpr(split.primal.jaxpr, split.primal.consts, *primals)
    residuals = split.residuals(primals, results)
    linear = lambda *tangents: eval_jaxpr(split.tangent.jaxpr, split.tangent.consts, *residuals, *tangents)
    return results[: split.n_outs], split.out_nonzeros, linear


custom_vmap_p = define(
    "custom_vmap_call",
    abstract_eval=lambda *avals, call, rule: (call.out_avals, call.effects),
    effectful=True,
    impl=lambda *args, call, rule: eval_jaxpr(call.jaxpr, call.consts, *args),
    lower=lambda ctx, *args, call, rule: ctx.inline(call, args),
    jvp=_jvp,
    linearize=_linearize,
    transpose=None,
    batch=None,
    batch_axis=_batch,
    multiple_results=True,
    irrelevant_params=("rule",),
)
custom_vmap_p.rules["physical"] = True  # the body sees keys as keys
