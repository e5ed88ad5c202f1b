"""``custom_jvp``: functions with a forward derivative rule of their own.

Tracing stages them as ``custom_jvp_call`` equations that hold the function's jaxpr and the user's rule;
differentiation runs the rule, evaluation and compilation the function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import check_results, resolve_kwargs
from velax._transforms.custom_call import (
    CustomCall,
    call_leaves,
    check_primal_output,
    description,
    fix_arguments,
    inline_lower,
    name_of,
    nondiff_positions,
    stage_function,
    typed_call,
)
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.jvp import call_custom_jvp
from velax._transforms.zero import SymbolicZero, zeros_like_aval
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = ["custom_jvp", "custom_jvp_call_p"]

custom_jvp_call_p = CustomCall("custom_jvp_call", 2, "process_custom_jvp_call")
custom_jvp_call_p.irrelevant_params = frozenset({"jvp_jaxpr_fun", "num_consts", "symbolic_zeros"})


def _stage_custom_jvp(trace, fun, rules, args, params):
    """Write a ``custom_jvp_call`` equation. The rule is traced lazily, when something differentiates."""
    (jvp,) = rules
    closed, num_consts, atoms = stage_function(trace, fun, args)
    eqn_params = {
        "call_jaxpr": closed, "jvp_jaxpr_fun": jvp, "num_consts": num_consts, "symbolic_zeros": params.get("symbolic_zeros", False),
    }  # fmt: skip
    return trace.add_eqn(custom_jvp_call_p, atoms, closed.out_avals, eqn_params, closed.effects)


def _custom_jvp_of_eqn(primals, tangents, *, call_jaxpr, jvp_jaxpr_fun, num_consts, symbolic_zeros):
    """Differentiating a staged equation: run the user's rule on the arguments; constants have no say in it."""
    outs, out_tangents = call_custom_jvp(jvp_jaxpr_fun, primals[num_consts:], tangents[num_consts:], symbolic_zeros)
    return outs, out_tangents


def _custom_jvp_bind_params(params):
    params = dict(params)
    call_jaxpr, num_consts = params.pop("call_jaxpr"), params.pop("num_consts")
    rule = params.pop("jvp_jaxpr_fun")

    def jvp(*args):
        n = len(args) // 2
        return rule(*args[num_consts:n], *args[n + num_consts :])

    return [jaxpr_as_fun(call_jaxpr), jvp], params


custom_jvp_call_p.get_bind_params = _custom_jvp_bind_params
custom_jvp_call_p.rules.update(stage_call=_stage_custom_jvp, lower=inline_lower, jvp=_custom_jvp_of_eqn, physical=True)
custom_jvp_call_p.defined_lower = inline_lower
custom_jvp_call_p.def_effectful_abstract_eval(
    lambda *avals, call_jaxpr, **_: (call_jaxpr.out_avals, call_jaxpr.effects)
)


class custom_jvp:
    """A function with a JVP rule of its own.

    Args:
      fun: the function; its arguments and results are pytrees of arrays.
      nondiff_argnums: positions of arguments that are not differentiated and reach the rule first, as they are.
      nondiff_argnames: the same by name.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> @velax.custom_jvp
      ... def f(x):
      ...     return jnp.sin(x)
      >>> @f.defjvp
      ... def f_jvp(primals, tangents):
      ...     (x,), (t,) = primals, tangents
      ...     return f(x), 2.0 * t
      >>> float(velax.grad(f)(1.0))
      2.0
    """

    def __init__(self, fun: Callable, nondiff_argnums: Sequence[int] = (), nondiff_argnames: Sequence[str] = ()):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.nondiff_argnums = nondiff_positions(fun, nondiff_argnums, nondiff_argnames)
        self.jvp: Callable | None = None
        self.symbolic_zeros = False

    __getattr__ = custom_getattr = lambda self, name: getattr(object.__getattribute__(self, "fun"), name)

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def defjvp(self, jvp: Callable, symbolic_zeros: bool = False) -> Callable:
        """Set the rule ``jvp(*nondiff args, primals, tangents) -> (primal_out, tangent_out)``; returns it.

        Args:
          jvp: the rule; the tangents have the structure of the primals.
          symbolic_zeros: whether zero tangents reach the rule as `SymbolicZero` rather than arrays.
        """
        self.jvp, self.symbolic_zeros = jvp, symbolic_zeros
        return jvp

    def defjvps(self, *jvps: Callable | None) -> None:
        """Set a rule for each argument: ``jvps[i](t, primal_out, *primals)`` is its contribution; None means zero."""
        if self.nondiff_argnums:
            raise TypeError("Can't use ``defjvps`` with ``nondiff_argnums``: use defjvp")

        def jvp(primals, tangents):
            out = self(*primals)
            terms = [f(t, out, *primals) for f, t in zip(jvps, tangents, strict=True) if f is not None]
            if not terms:
                return out, tree_map(lambda x: zeros_like_aval(get_aval(x).to_tangent_aval()), out)
            total = terms[0]
            for term in terms[1:]:
                total = tree_map(lambda a, b: a + b, total, term)
            return out, total

        self.defjvp(jvp)

    @api_boundary
    def __call__(self, *args, **kwargs):
        if self.jvp is None:
            raise AttributeError(
                f"No JVP defined for custom_jvp function {name_of(self.fun)} using defjvp. Decorate the rule with "
                f"@{name_of(self.fun)}.defjvp before calling it."
            )
        args = resolve_kwargs(self.fun, args, kwargs, "custom_jvp")
        nondiff = [args[i] for i in self.nondiff_argnums]
        fun, dynamic = fix_arguments(self.fun, self.nondiff_argnums, args)
        leaves, in_tree = call_leaves(dynamic)
        flat_fun, known = typed_call(fun, in_tree, description("custom_jvp fun", self.fun, args, self.nondiff_argnums))
        flat_jvp = _flat_jvp(self.jvp, nondiff, in_tree, name_of(self.fun), known)
        outs = custom_jvp_call_p.bind(flat_fun, flat_jvp, *leaves, symbolic_zeros=self.symbolic_zeros)
        return tree_unflatten(known[0][0], outs)


def _flat_jvp(jvp, nondiff, in_tree, name, known):
    def flat(*args):
        n = len(args) // 2
        primals, _ = tree_unflatten(in_tree, args[:n])
        tangents, _ = tree_unflatten(in_tree, args[n:])
        result = jvp(*nondiff, primals, tangents)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"Custom JVP rule {name_of(jvp)} for function {name} must produce a pair (list or tuple of length two) "
                "representing primal and "
                f"tangent outputs, but got {result}."
            )
        out, tangent_out = result
        outs, tree = tree_flatten(out)
        check_results(outs, "custom_jvp", jvp)
        check_primal_output("JVP", name_of(jvp), name, tree, outs, known)
        out_tangents, tangent_tree = tree_flatten(tangent_out, is_leaf=lambda x: isinstance(x, SymbolicZero))
        if tree != tangent_tree:
            raise TypeError(
                f"Custom JVP rule {name_of(jvp)} for function {name} must produce primal and tangent outputs with "
                "equal container (pytree) structures, "
                f"but got {tree} and {tangent_tree} respectively."
            )
        for i, (x, t) in enumerate(zip(outs, out_tangents, strict=True)):
            if isinstance(t, SymbolicZero):
                continue
            expected, got = get_aval(x).to_tangent_aval(), get_aval(t)
            if expected.shape != got.shape or (expected.dtype != got.dtype):
                raise TypeError(
                    "Custom JVP rule must produce primal and tangent outputs with corresponding shapes and dtypes. "
                    f"Expected {expected.str_short()} (tangent type of {get_aval(x).str_short()}) but got "
                    f"{got.str_short()}. It is {name_of(jvp)} of {name}, at output component {i}."
                )
        known[:] = [(tree, [get_aval(x) for x in outs])]
        return [*outs, *out_tangents]

    flat.__name__ = name_of(jvp)  # as the jaxpr prints it
    return flat
