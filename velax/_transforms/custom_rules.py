"""``custom_jvp`` and ``custom_vjp``: functions with derivative rules of their own.

Tracing stages them as ``custom_jvp_call`` / ``custom_vjp_call`` equations that hold the function's
jaxpr and the user's rules; differentiation runs the rules, evaluation and compilation the function.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from velax._lang import dtypes
from velax._lang.jaxpr import ClosedJaxpr, Literal
from velax._lang.primitive import Primitive, define
from velax._lang.source import swap_equation
from velax._lang.trace import Tracer, as_array, current_trace, eval_trace, get_aval, set_current_trace, valid_jaxtype
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import check_results, debug_info_of, flatten_call, resolve_kwargs
from velax._transforms.batching import batch_fun, batch_jaxpr, matchaxis
from velax._transforms.evaluate import eval_jaxpr, jaxpr_as_fun
from velax._transforms.jvp import call_custom_jvp
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import SymbolicZero, Zero, instantiate_zeros, ops, zeros_like_aval
from velax.tree_util import (
    register_static,
    tree_flatten,
    tree_leaves,
    tree_map,
    tree_structure,
    tree_unflatten,
    treedef_is_leaf,
)

__all__ = ["closure_convert", "custom_gradient", "custom_jvp", "custom_jvp_call_p", "custom_vjp", "custom_vjp_call_p", "linear_call"]


# -- custom_jvp: the primitive
# --------------------------------------------------------------------------------------------


class _CustomCall(Primitive):
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


def _inline_lower(ctx, *args, call_jaxpr, **_):
    return ctx.inline(call_jaxpr, args)


custom_jvp_call_p = _CustomCall("custom_jvp_call", 2, "process_custom_jvp_call")
custom_jvp_call_p.irrelevant_params = frozenset({"jvp_jaxpr_fun", "num_consts", "symbolic_zeros"})


def _stage_custom_jvp(trace, fun, rules, args, params):
    """Write a ``custom_jvp_call`` equation. The rule is traced lazily, when something differentiates."""
    (jvp,) = rules
    tracers = [trace.to_tracer(x) for x in args]
    in_avals = [t.aval for t in tracers]
    closed = trace_to_jaxpr(fun, in_avals)
    consts = [trace.to_tracer(c) for c in closed.consts]
    body = closed.jaxpr
    closed = ClosedJaxpr(body.replace(constvars=[], invars=[*body.constvars, *body.invars]), [])
    atoms = [t if isinstance(t, Literal) else t.val for t in (*consts, *tracers)]
    eqn_params = {
        "call_jaxpr": closed, "jvp_jaxpr_fun": jvp, "num_consts": len(consts), "symbolic_zeros": params.get("symbolic_zeros", False),
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
custom_jvp_call_p.rules.update(stage_call=_stage_custom_jvp, lower=_inline_lower, jvp=_custom_jvp_of_eqn, physical=True)
custom_jvp_call_p.defined_lower = _inline_lower
custom_jvp_call_p.def_effectful_abstract_eval(lambda *avals, call_jaxpr, **_: (call_jaxpr.out_avals, call_jaxpr.effects))


# -- custom_jvp: the decorator
# --------------------------------------------------------------------------------------------


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
        self.nondiff_argnums = _nondiff_positions(fun, nondiff_argnums, nondiff_argnames)
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
            raise TypeError("defjvps is not for functions with nondiff_argnums; use defjvp")

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
                f"No JVP defined for custom_jvp function {_name(self.fun)} using defjvp: decorate the rule with "
                f"@{_name(self.fun)}.defjvp before calling it."
            )
        args = resolve_kwargs(self.fun, args, kwargs)
        nondiff = [args[i] for i in self.nondiff_argnums]
        fun, dynamic = _fix_arguments(self.fun, self.nondiff_argnums, args)
        leaves, in_tree = _call_leaves(dynamic)
        flat_fun, out_tree = flatten_call(fun, in_tree)
        flat_jvp = _flat_jvp(self.jvp, nondiff, in_tree, _name(self.fun), out_tree)
        outs = custom_jvp_call_p.bind(flat_fun, flat_jvp, *leaves, symbolic_zeros=self.symbolic_zeros)
        return tree_unflatten(out_tree[0], outs)


def _call_leaves(dynamic) -> tuple[list, Any]:
    """Leaves and tree of the differentiable arguments. NumPy arrays become arrays: rules index them
    by traced values.
    """
    leaves, in_tree = tree_flatten((dynamic, {}))
    return [as_array(x) if isinstance(x, np.ndarray) else x for x in leaves], in_tree


def _name(fun) -> str:
    return getattr(fun, "__name__", str(fun))


def _nondiff_positions(fun, argnums, argnames) -> tuple[int, ...]:
    nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if argnames:
        names = list(inspect.signature(fun).parameters)
        nums += tuple(names.index(n) for n in argnames)
    return tuple(sorted(set(nums)))


def _fix_arguments(fun, argnums, args):
    """``fun`` of the other arguments, with ``argnums`` fixed to what ``args`` has there."""
    if not argnums:
        return fun, tuple(args)
    for i in argnums:
        if i >= len(args):
            raise TypeError(f"nondiff_argnums names argument {i} but {_name(fun)} was called with {len(args)} "
                            "arguments")
    dynamic_positions = [i for i in range(len(args)) if i not in argnums]

    def fixed(*dynamic):
        full = list(args)
        for i, x in zip(dynamic_positions, dynamic, strict=True):
            full[i] = x
        return fun(*full)

    return fixed, tuple(args[i] for i in dynamic_positions)


def _flat_jvp(jvp, nondiff, in_tree, name, out_tree):
    def flat(*args):
        n = len(args) // 2
        primals, _ = tree_unflatten(in_tree, args[:n])
        tangents, _ = tree_unflatten(in_tree, args[n:])
        result = jvp(*nondiff, primals, tangents)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"Custom JVP rule {_name(jvp)} for function {name} must produce a pair (list or tuple of length two) "
                "representing primal and "
                f"tangent outputs, but got {result}."
            )
        out, tangent_out = result
        outs, tree = tree_flatten(out)
        check_results(outs, "custom_jvp", jvp)
        out_tangents, tangent_tree = tree_flatten(tangent_out, is_leaf=lambda x: isinstance(x, SymbolicZero))
        if tree != tangent_tree:
            raise TypeError(
                f"Custom JVP rule {_name(jvp)} for function {name} must produce primal and tangent outputs with "
                "equal container (pytree) structures, "
                f"but got {tree} and {tangent_tree} respectively."
            )
        for i, (x, t) in enumerate(zip(outs, out_tangents, strict=True)):
            if isinstance(t, SymbolicZero):
                continue
            expected, got = get_aval(x).to_tangent_aval(), get_aval(t)
            if expected.shape != got.shape or (expected.dtype != got.dtype):
                raise TypeError(
                    f"Custom JVP rule {_name(jvp)} must produce primal and tangent outputs with corresponding shapes "
                    "and dtypes. Expected "
                    f"{expected.str_short()} (tangent type of {get_aval(x).str_short()}) but got {got.str_short()} "
                    f"at output component {i}."
                )
        out_tree[:] = [tree]
        return [*outs, *out_tangents]

    flat.__name__ = _name(jvp)  # as the jaxpr prints it
    return flat


# -- custom_vjp: the primitives
# -------------------------------------------------------------------------------------------

custom_vjp_call_p = _CustomCall("custom_vjp_call", 3, "process_custom_vjp_call")
custom_vjp_call_p.irrelevant_params = frozenset({"fwd_jaxpr_thunk", "bwd", "num_consts", "out_trees", "symbolic_zeros"})


def _stage_custom_vjp(trace, fun, rules, args, params):
    fwd, bwd = rules
    tracers = [trace.to_tracer(x) for x in args]
    closed = trace_to_jaxpr(fun, [t.aval for t in tracers])
    consts = [trace.to_tracer(c) for c in closed.consts]
    body = closed.jaxpr
    closed = ClosedJaxpr(body.replace(constvars=[], invars=[*body.constvars, *body.invars]), [])
    atoms = [t if isinstance(t, Literal) else t.val for t in (*consts, *tracers)]
    eqn_params = {
        "call_jaxpr": closed, "fwd_jaxpr_thunk": fwd, "bwd": bwd, "num_consts": len(consts),
        "out_trees": params["out_trees"], "symbolic_zeros": params.get("symbolic_zeros", False),
    }  # fmt: skip
    return trace.add_eqn(custom_vjp_call_p, atoms, closed.out_avals, eqn_params, closed.effects)


def _custom_vjp_bind_params(params):
    params = dict(params)
    call_jaxpr, num_consts = params.pop("call_jaxpr"), params.pop("num_consts")
    fwd, bwd = params.pop("fwd_jaxpr_thunk"), params.pop("bwd")
    if num_consts:
        inner_fwd, inner_bwd = fwd, bwd
        fwd = _keep_pairs(inner_fwd, num_consts)
        const_avals = call_jaxpr.in_avals[:num_consts]
        bwd = lambda *args: [*(Zero(a.to_tangent_aval()) for a in const_avals), *inner_bwd(*args)]
    return [jaxpr_as_fun(call_jaxpr), fwd, bwd], params


def _keep_pairs(fwd, num_consts):
    """A forward rule that ignores the first arguments; with symbolic zeros its arguments are
    (value, perturbed) pairs in sequence.
    """
    return lambda *args, pairs=1: fwd(*args[num_consts * pairs :], pairs=pairs)


custom_vjp_call_p.get_bind_params = _custom_vjp_bind_params
custom_vjp_call_p.def_effectful_abstract_eval(lambda *avals, call_jaxpr, **_: (call_jaxpr.out_avals, call_jaxpr.effects))


def _run_forward(fwd, primals, tangents, out_trees, symbolic_zeros):
    """Run the forward rule: residuals, results and what the linear equation must remember."""
    if symbolic_zeros:
        flags = [type(t) is not Zero for t in tangents]
        args = [x for p, f in zip(primals, flags, strict=True) for x in (p, f)]
        results = fwd(*args, pairs=2)
    else:
        results = fwd(*primals, pairs=1)
    _, res_tree = out_trees()
    n_res = res_tree.num_leaves
    return results[:n_res], results[n_res:], {"num_res": n_res}


def _custom_lin_type(*avals, out_avals, **_):
    return list(out_avals)


def _custom_lin_transpose(cts, *args, bwd, num_res, symbolic_zeros, **_):
    residuals = args[:num_res]
    if symbolic_zeros:
        cts = [SymbolicZero(ct.aval) if type(ct) is Zero else as_array(ct) for ct in cts]
    else:
        cts = [as_array(instantiate_zeros(ct)) for ct in cts]  # not a number: the rule may ask for its shape
    outer = swap_equation(None)  # what the rule traces is at its own lines
    try:
        return [*[None] * num_res, *bwd(*residuals, *cts)]
    finally:
        swap_equation(outer)


def _no_forward_mode(*args, **_):
    raise TypeError("can't apply forward-mode autodiff (jvp) to a custom_vjp function. Use grad or vjp, or give the "
                    "function a rule with custom_jvp.")


def _custom_lin_batch(axis_data, args, dims, *, bwd, num_res, out_avals, **params):
    from velax._transforms.batching import unmapped_aval

    size = axis_data.size
    args = [matchaxis(size, d, 0, x) for x, d in zip(args, dims, strict=True)]
    batched_bwd = _batched_bwd(bwd, axis_data, [0] * num_res, [0] * (len(args) - num_res), num_res)
    out_avals = tuple(unmapped_aval(size, 0, a) for a in out_avals)
    outs = custom_lin_p.bind(*args, bwd=batched_bwd, num_res=num_res, out_avals=out_avals, **params)
    return outs, [0] * len(outs)


custom_lin_p = define(
    "custom_lin",
    abstract_eval=_custom_lin_type,
    lower=None,
    impl=_no_forward_mode,
    jvp=lambda primals, tangents, **_: _no_forward_mode(),
    transpose=_custom_lin_transpose,
    batch=None,
    batch_axis=_custom_lin_batch,
    multiple_results=True,
)


def _batched_bwd(bwd, axis_data, res_dims, in_dims, num_res):
    """The backward rule over a batch: cotangents of unmapped inputs are summed over it."""

    def batched(*args):
        in_axes = [*res_dims, *(None if isinstance(a, SymbolicZero) else 0 for a in args[num_res:])]
        cts_dims: list = []

        def run(*values):
            outs = bwd(*values)
            cts_dims[:] = [type(ct) is Zero or ct is None for ct in outs]
            return [instantiate_zeros(ct) for ct in outs]

        from velax._lang.trace import TraceTag

        fun, out_dims = batch_fun(run, TraceTag(), axis_data, in_axes)
        outs = fun(*args)
        results = []
        for ct, d, want in zip(outs, out_dims, in_dims, strict=True):
            if want is None:
                results.append(ct if d is None else ct.sum(d))
            else:
                results.append(matchaxis(axis_data.size, d, want, ct))
        return results

    return batched


def _batch_custom_vjp_call(trace, fun, fwd, bwd, values, dims, params):
    axis_data, tag = trace.axis_data, trace.tag
    out_trees = params["out_trees"]
    fun, out_dims = batch_fun(fun, tag, axis_data, dims)
    res_dims: list = []
    fwd_out_dims: list = []

    def batched_fwd(*args, pairs=1):
        in_dims = dims if pairs == 1 else [x for d in dims for x in (d, None)]
        run, dims_out = batch_fun(lambda *a: fwd(*a, pairs=pairs), tag, axis_data, in_dims)
        outs = run(*args)
        n_res = out_trees()[1].num_leaves
        # results of the forward rule are mapped, so that cotangents are
        outs = [*outs[:n_res], *(matchaxis(axis_data.size, d, 0, x) for x, d in zip(outs[n_res:], dims_out[n_res:], strict=True))]
        res_dims[:], fwd_out_dims[:] = dims_out[:n_res], [0] * (len(outs) - n_res)
        return outs

    def batched_bwd(*args):
        return _batched_bwd(bwd, axis_data, list(res_dims), dims, len(res_dims))(*args)

    with set_current_trace(trace.parent_trace):
        outs = custom_vjp_call_p.bind(fun, batched_fwd, batched_bwd, *values, **params)
    dims_out = fwd_out_dims or out_dims
    return [trace.box(x, d) for x, d in zip(outs, dims_out, strict=True)]


custom_vjp_call_p.rules.update(
    stage_call=_stage_custom_vjp, lower=_inline_lower, run_forward=_run_forward, linear_primitive=custom_lin_p, batch_call=_batch_custom_vjp_call,
    physical=True,
)  # fmt: skip
custom_vjp_call_p.defined_lower = _inline_lower


# -- custom_vjp: the decorator
# --------------------------------------------------------------------------------------------


class custom_vjp:
    """A function with a reverse-mode rule of its own.

    Args:
      fun: the function; its arguments and results are pytrees of arrays.
      nondiff_argnums: positions of arguments that are not differentiated.
      nondiff_argnames: the same by name.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> @velax.custom_vjp
      ... def clip_gradient(x):
      ...     return x
      >>> def fwd(x):
      ...     return x, None
      >>> def bwd(_, g):
      ...     return (jnp.clip(g, -1.0, 1.0),)
      >>> clip_gradient.defvjp(fwd, bwd)
      >>> float(velax.grad(lambda x: 5.0 * clip_gradient(x))(2.0))
      1.0
    """

    def __init__(self, fun: Callable, nondiff_argnums: Sequence[int] = (), nondiff_argnames: Sequence[str] = ()):
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.nondiff_argnums = _nondiff_positions(fun, nondiff_argnums, nondiff_argnames)
        self.fwd: Callable | None = None
        self.bwd: Callable | None = None
        self.symbolic_zeros = False
        self.optimize_remat = False

    __getattr__ = custom_jvp.custom_getattr

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def defvjp(self, fwd: Callable, bwd: Callable, symbolic_zeros: bool = False, optimize_remat: bool = False) -> None:
        """Set the rules.

        Args:
          fwd: takes the function's arguments and returns ``(out, residuals)``.
          bwd: ``bwd(*nondiff args, residuals, cotangent) -> tuple of cotangents``, one for each
            differentiable argument, None for zero.
          symbolic_zeros: the forward rule gets (value, perturbed) objects, and zero cotangents
            reach ``bwd`` as `SymbolicZero`.
          optimize_remat: accepted; the compiler removes unused parts of the forward rule in any case.
        """
        self.fwd, self.bwd, self.symbolic_zeros, self.optimize_remat = fwd, bwd, symbolic_zeros, optimize_remat

    @api_boundary
    def __call__(self, *args, **kwargs):
        if self.fwd is None or self.bwd is None:
            raise AttributeError(f"No VJP defined for custom_vjp function {_name(self.fun)} using defvjp: call "
                                 f"{_name(self.fun)}.defvjp(fwd, bwd) first.")
        args = resolve_kwargs(self.fun, args, kwargs)
        for i in self.nondiff_argnums:
            if any(isinstance(x, Tracer) for x in tree_leaves(args[i])):
                raise errors_unexpected(self.fun, i)
        nondiff = [args[i] for i in self.nondiff_argnums]
        fun, dynamic = _fix_arguments(self.fun, self.nondiff_argnums, args)
        fwd, _ = _fix_arguments(self.fwd, self.nondiff_argnums, args)
        leaves, in_tree = _call_leaves(dynamic)
        flat_fun, out_tree = flatten_call(fun, in_tree)
        trees: list = []
        name = _name(self.fun)
        flat_fwd = _flat_fwd(fwd, in_tree, name, trees)
        in_avals = [get_aval(x) for x in leaves]
        flat_bwd = _flat_bwd(self.bwd, nondiff, in_tree, in_avals, name, trees)
        outs = custom_vjp_call_p.bind(
            flat_fun, flat_fwd, flat_bwd, *leaves, out_trees=lambda: trees[0], symbolic_zeros=self.symbolic_zeros
        )
        return tree_unflatten(out_tree[0] if out_tree else trees[0][0], outs)


def errors_unexpected(fun, i):
    from velax._lang.errors import UnexpectedTracerError

    return UnexpectedTracerError(
        f"Found a JAX Tracer object passed as an argument to a custom_vjp function {_name(fun)} in a position "
        "indicated by nondiff_argnums as "
        f"non-differentiable (argument {i}). Tracers cannot be passed as non-differentiable arguments to custom_vjp "
        "functions; instead, "
        "nondiff_argnums should only be used for arguments that can't be or contain tracers, e.g. function-valued "
        "arguments."
    )


class CustomVJPPrimal:
    """What a forward rule with symbolic zeros gets for each argument: ``value`` and whether it is ``perturbed``."""

    __slots__ = ("perturbed", "value")

    def __init__(self, value, perturbed: bool):
        self.value, self.perturbed = value, perturbed


def _flat_fwd(fwd, in_tree, name, trees):
    def flat(*leaves, pairs=1):
        if pairs == 2:
            leaves = [CustomVJPPrimal(v, p) for v, p in zip(leaves[::2], leaves[1::2], strict=True)]
        args, _ = tree_unflatten(in_tree, leaves)
        result = fwd(*args)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"Custom VJP fwd rule {_name(fwd)} for function {name} must produce a pair (list or tuple of length "
                "two) where the first element "
                f"represents the primal output (equal to those of the custom_vjp-decorated function {name}) and the "
                "second element represents "
                "residuals (i.e. values stored from the forward pass for use on the backward pass), but instead of "
                f"a pair the fwd rule produced {result}."
            )
        out, res = result
        outs, out_tree = tree_flatten(out)
        residuals, res_tree = tree_flatten(res)
        for what, values in (("output", outs), ("residual", residuals)):
            for i, x in enumerate(values):
                if not valid_jaxtype(x):
                    raise TypeError(
                        f"Custom VJP fwd rule {_name(fwd)} for function {name} must produce arrays, numbers and "
                        f"containers of them, but its {what} {i} is "
                        f"{x!r} of type {type(x)}. Fixed Python values belong in nondiff_argnums."
                    )
        trees[:] = [(out_tree, res_tree)]
        return [*residuals, *outs]

    flat.__name__ = _name(fwd)
    return flat


def _flat_bwd(bwd, nondiff, in_tree, in_avals, name, trees):
    in_treedef = in_tree.children()[0]

    def flat(*args):
        out_tree, res_tree = trees[0]
        n_res = res_tree.num_leaves
        res = tree_unflatten(res_tree, args[:n_res])
        cts = tree_unflatten(out_tree, args[n_res:])
        result = bwd(*nondiff, res, cts)
        if isinstance(result, list):
            result = tuple(result)
        dummy = tree_unflatten(in_treedef, list(range(len(in_avals))))
        if not isinstance(result, tuple) or len(result) != len(dummy):
            got = f"a tuple of length {len(result)}" if isinstance(result, tuple) else f"{result}"
            raise TypeError(
                f"Custom VJP bwd rule {_name(bwd)} for function {name} must produce a tuple of length equal to the "
                f"primal args tuple ({len(dummy)}), one cotangent (or None) for each argument "
                f"that is differentiated, but got {got}."
            )
        cts_in: list = [None] * len(in_avals)
        for arg, ct in zip(dummy, result, strict=True):
            _match_cotangent(arg, ct, cts_in, name, bwd)
        return [_checked_cotangent(i, a, ct, name, bwd) for i, (a, ct) in enumerate(zip(in_avals, cts_in, strict=True))]

    flat.__name__ = _name(bwd)
    return flat


def _match_cotangent(arg, ct, cts_in, name, bwd) -> None:
    """Spread one argument's cotangent (None for zero, also inside) over its leaves, given as their flat positions."""
    if ct is None:
        return
    positions, tree = tree_flatten(arg)
    is_leaf = lambda x: x is None or isinstance(x, SymbolicZero)
    try:
        leaves = tree.flatten_up_to(ct)
    except (ValueError, TypeError):
        leaves = None
    if leaves is None or any(not is_leaf(x) and not treedef_is_leaf(tree_structure(x)) for x in leaves):
        raise TypeError(
            f"Custom VJP bwd rule {_name(bwd)} for function {name} must produce an output with the same container "
            "(pytree) structure as the args tuple of "
            f"the primal function, but for an argument of structure {tree} it produced "
            f"{tree_structure(ct, is_leaf=is_leaf)}."
        )
    for i, leaf in zip(positions, leaves, strict=True):
        cts_in[i] = leaf


def _checked_cotangent(i, aval, ct, name, bwd):
    expected = aval.to_tangent_aval()
    if ct is None:
        return Zero(expected)
    if isinstance(ct, SymbolicZero):
        return Zero(expected)
    if type(ct) is Zero:
        return ct
    try:
        got = get_aval(ct)
    except TypeError:
        raise TypeError(
            f"Custom VJP bwd rule {_name(bwd)} for function {name} must produce arrays, numbers and None (for zero) "
            f"but produced {ct!r} of type {type(ct)} "
            f"for the argument's leaf {i}, of type {aval.str_short()}."
        ) from None
    if got.shape == expected.shape and expected.dtype == dtypes.float0:
        return Zero(expected)  # an integer has none; what stands there is not read
    if got.shape == expected.shape and not dtypes.is_extended(got.dtype) and (dtypes.is_complex(expected.dtype) or not dtypes.is_complex(got.dtype)):
        return ct if got.dtype == expected.dtype else ops.convert(ct, expected.dtype, False)
    why = "shapes" if got.shape != expected.shape else "dtypes"
    raise ValueError(
        f"Custom VJP bwd rule {_name(bwd)} for function {name} must produce an output with the same type as the args "
        "tuple of the primal function, but "
        f"produced a cotangent of type {got.str_short()} at input component {i} for an argument of type "
        f"{aval.str_short()}, whose cotangent type is "
        f"{expected.str_short()}: the {why} do not match."
    )


# -- built on them ---------------------------------------------------------------------------------
# -----------------------


def custom_gradient(fun: Callable) -> Callable:
    """A `custom_vjp` for the simple case: ``fun`` returns ``(value, vjp)``.

    Args:
      fun: returns its value and a function from the value's cotangent to the arguments' cotangents
        (a tuple, or one for one argument).

    Example:
      >>> import velax
      >>> f = velax.custom_gradient(lambda x: (x**2, lambda g: (g * x,)))
      >>> float(velax.grad(f)(3.0))
      3.0
    """

    @custom_vjp
    def wrapped(*args, **kwargs):
        return fun(*args, **kwargs)[0]

    def fwd(*args, **kwargs):
        out, vjp = fun(*args, **kwargs)
        closed, consts = closure_convert(vjp, out)
        return out, (_Static(closed), consts)

    def bwd(residuals, cts):
        closed, consts = residuals
        result = closed.value(cts, *consts)
        return result if isinstance(result, tuple) else (result,)

    wrapped.defvjp(fwd, bwd)
    return wrapped


@register_static
class _Static:
    """A leafless pytree holding a Python value."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is _Static and self.value is other.value

    def __hash__(self):
        return id(self.value)


def closure_convert(fun: Callable, *example_args) -> tuple[Callable, list]:
    """Turn the traced values that ``fun`` closes over into arguments.

    Args:
      fun: a function.
      *example_args: arguments with the types it will be called on.

    Returns:
      ``(converted, consts)`` with ``converted(*args, *consts) == fun(*args)``; ``consts`` are the
      floating point values closed over.
    """
    leaves, in_tree = tree_flatten((example_args, {}))
    flat, out_tree = flatten_call(fun, in_tree)
    closed = trace_to_jaxpr(flat, [get_aval(x) for x in leaves], debug_info_of("closure_convert", fun))
    is_diff = [isinstance(c, Tracer) and get_aval(c).dtype.kind in "fcV" for c in closed.consts]
    hoisted = [c for c, d in zip(closed.consts, is_diff, strict=True) if d]
    n = len(hoisted)

    def converted(*args):
        args, consts = (args[: len(args) - n], args[len(args) - n :]) if n else (args, ())
        given = iter(consts)
        values = [next(given) if d else c for c, d in zip(closed.consts, is_diff, strict=True)]
        leaves, tree = tree_flatten((args, {}))
        if tree != in_tree:
            raise TypeError(f"closure_convert: the converted function was made for arguments of structure {in_tree}, "
                            f"got {tree}")
        return tree_unflatten(out_tree[0], eval_jaxpr(closed.jaxpr, values, *leaves))

    return converted, hoisted


def linear_call(fun: Callable, fun_transpose: Callable, residual_args, linear_args):
    """Call a linear function with a transpose of its own.

    Args:
      fun: ``fun(residual_args, linear_args)``, linear in the second.
      fun_transpose: ``fun_transpose(residual_args, cotangent)``, a cotangent of ``linear_args``.
    """
    res_leaves, res_tree = tree_flatten(residual_args)
    lin_leaves, lin_tree = tree_flatten(linear_args)
    n_res = len(res_leaves)
    out_tree: list = []

    def flat(*args):
        outs, tree = tree_flatten(fun(tree_unflatten(res_tree, args[:n_res]), tree_unflatten(lin_tree, args[n_res:])))
        out_tree[:] = [tree]
        return outs

    avals = [get_aval(x) for x in (*res_leaves, *lin_leaves)]
    closed = trace_to_jaxpr(flat, avals)

    def transposed(*args):
        ct = fun_transpose(tree_unflatten(res_tree, args[:n_res]), tree_unflatten(out_tree[0], args[n_res:]))
        leaves, tree = tree_flatten(ct)
        if tree != lin_tree:
            raise TypeError("linear_call: the transpose must return the structure of the linear arguments, "
                            f"{lin_tree}, but returned {tree}")
        return leaves

    outs = linear_call_p.bind(*res_leaves, *lin_leaves, callee=closed, transpose_fun=transposed, num_res=n_res)
    return tree_unflatten(out_tree[0], outs)


def _linear_call_transpose(cts, *args, callee, transpose_fun, num_res):
    return [*[None] * num_res, *transpose_fun(*args[:num_res], *map(instantiate_zeros, cts))]


def _linear_call_batch(axis_data, args, dims, *, callee, transpose_fun, num_res):
    derived, out_batched = batch_jaxpr(callee, axis_data, [d is not None for d in dims])
    args = [matchaxis(axis_data.size, d, 0, x) if d is not None else x for x, d in zip(args, dims, strict=True)]
    bwd = _batched_bwd(transpose_fun, axis_data, [0 if d is not None else None for d in dims[:num_res]], [0 if d is not None else None for d in dims[num_res:]], num_res)
    outs = linear_call_p.bind(*args, callee=derived, transpose_fun=bwd, num_res=num_res)
    return outs, [0 if b else None for b in out_batched]


def _linear_call_jvp(primals, tangents, *, num_res, **params):
    if any(type(t) is not Zero for t in tangents[:num_res]):
        raise NotImplementedError("linear_call: differentiation with respect to residual_args is not supported; make "
                                  "them part of linear_args or stop their gradient")
    outs = linear_call_p.bind(*primals, num_res=num_res, **params)
    return outs, linear_call_p.bind(*primals[:num_res], *map(instantiate_zeros, tangents[num_res:]), num_res=num_res, **params)


linear_call_p = define(
    "linear_call",
    abstract_eval=lambda *avals, callee, **_: callee.out_avals,
    lower=lambda ctx, *args, callee, **_: ctx.inline(callee, args),
    jvp=_linear_call_jvp,
    transpose=_linear_call_transpose,
    batch=None,
    batch_axis=_linear_call_batch,
    multiple_results=True,
    irrelevant_params=("transpose_fun", "num_res"),
)
linear_call_p.irrelevant_params = frozenset({"transpose_fun", "num_res"})
linear_call_p.rules["physical"] = True


def zero_from_primal(value, symbolic_zeros: bool = False):
    """The zero tangent of a value: a `SymbolicZero`, or an array of zeros."""
    aval = get_aval(value).to_tangent_aval()
    return SymbolicZero(aval) if symbolic_zeros else zeros_like_aval(aval)


def custom_vjp_primal_tree_values(tree):
    """The values in a tree of `CustomVJPPrimal`."""
    return tree_map(lambda x: x.value, tree, is_leaf=lambda x: isinstance(x, CustomVJPPrimal))
