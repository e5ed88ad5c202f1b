"""``custom_vjp``: functions with a reverse derivative rule of their own.

Tracing stages them as ``custom_vjp_call`` equations that hold the function's jaxpr and the user's
rules; linearization runs the forward rule and writes a ``custom_lin`` equation, whose transpose is the backward rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from velax._lang import dtypes
from velax._lang.config import config
from velax._lang.errors import UnexpectedTracerError
from velax._lang.primitive import define
from velax._lang.source import swap_equation
from velax._lang.trace import Tracer, TraceTag, as_array, get_aval, set_current_trace, valid_jaxtype
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import resolve_kwargs
from velax._transforms.batching import batch_fun, matchaxis, unmapped_aval
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
from velax._transforms.custom_jvp import custom_jvp
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.zero import SymbolicZero, Zero, instantiate_zeros, ops
from velax.tree_util import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_map,
    tree_structure,
    tree_unflatten,
    treedef_is_leaf,
)  # fmt: skip

__all__ = ["CustomVJPPrimal", "batch_bwd", "custom_vjp", "custom_vjp_call_p", "custom_vjp_primal_tree_values"]

custom_vjp_call_p = CustomCall("custom_vjp_call", 3, "process_custom_vjp_call")
custom_vjp_call_p.irrelevant_params = frozenset({"fwd_jaxpr_thunk", "bwd", "num_consts", "out_trees", "symbolic_zeros"})


def _stage_custom_vjp(trace, fun, rules, args, params):
    fwd, bwd = rules
    closed, num_consts, atoms = stage_function(trace, fun, args)
    eqn_params = {
        "call_jaxpr": closed, "fwd_jaxpr_thunk": fwd, "bwd": bwd, "num_consts": num_consts,
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
custom_vjp_call_p.def_effectful_abstract_eval(
    lambda *avals, call_jaxpr, **_: (call_jaxpr.out_avals, call_jaxpr.effects)
)


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
    raise TypeError(
        "can't apply forward-mode autodiff (jvp) to a custom_vjp function. Use grad or vjp, or give the "
        "function a rule with custom_jvp."
    )


def _custom_lin_batch(axis_data, args, dims, *, bwd, num_res, out_avals, **params):
    size = axis_data.size
    args = [matchaxis(size, d, 0, x) for x, d in zip(args, dims, strict=True)]
    batched_bwd = batch_bwd(bwd, axis_data, [0] * num_res, [0] * (len(args) - num_res), num_res)
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


def batch_bwd(bwd, axis_data, res_dims, in_dims, num_res):
    """The backward rule over a batch: cotangents of unmapped inputs are summed over it."""

    def batched(*args):
        in_axes = [*res_dims, *(None if isinstance(a, SymbolicZero) else 0 for a in args[num_res:])]
        run = lambda *values: [instantiate_zeros(ct) for ct in bwd(*values)]
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
        outs = [
            *outs[:n_res],
            *(matchaxis(axis_data.size, d, 0, x) for x, d in zip(outs[n_res:], dims_out[n_res:], strict=True)),
        ]
        res_dims[:], fwd_out_dims[:] = dims_out[:n_res], [0] * (len(outs) - n_res)
        return outs

    def batched_bwd(*args):
        return batch_bwd(bwd, axis_data, list(res_dims), dims, len(res_dims))(*args)

    with set_current_trace(trace.parent_trace):
        outs = custom_vjp_call_p.bind(fun, batched_fwd, batched_bwd, *values, **params)
    dims_out = fwd_out_dims or out_dims
    return [trace.box(x, d) for x, d in zip(outs, dims_out, strict=True)]


custom_vjp_call_p.rules.update(
    stage_call=_stage_custom_vjp, lower=inline_lower, run_forward=_run_forward,
    linear_primitive=custom_lin_p, batch_call=_batch_custom_vjp_call,
    physical=True,
)  # fmt: skip
custom_vjp_call_p.defined_lower = inline_lower


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
        self.nondiff_argnums = nondiff_positions(fun, nondiff_argnums, nondiff_argnames)
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
        if symbolic_zeros and optimize_remat:
            raise NotImplementedError("remat optimization for custom_vjp does not support symbolic zeros")
        self.fwd, self.bwd, self.symbolic_zeros, self.optimize_remat = fwd, bwd, symbolic_zeros, optimize_remat

    @api_boundary
    def __call__(self, *args, **kwargs):
        if self.fwd is None or self.bwd is None:
            raise AttributeError(
                f"No VJP defined for custom_vjp function {name_of(self.fun)} using defvjp. Call "
                f"{name_of(self.fun)}.defvjp(fwd, bwd) first."
            )
        args = resolve_kwargs(self.fun, args, kwargs, "custom_vjp")
        for i in self.nondiff_argnums:
            if any(isinstance(x, Tracer) for x in tree_leaves(args[i])):
                raise _traced_nondiff_error(self.fun, i)
        nondiff = [args[i] for i in self.nondiff_argnums]
        fun, dynamic = fix_arguments(self.fun, self.nondiff_argnums, args)
        fwd, _ = fix_arguments(self.fwd, self.nondiff_argnums, args)
        leaves, in_tree = call_leaves(dynamic)
        flat_fun, known = typed_call(fun, in_tree, description("custom_vjp fun", self.fun, args, self.nondiff_argnums))
        trees: list = []
        name = name_of(self.fun)
        flat_fwd = _flat_fwd(fwd, in_tree, name, known, trees)
        in_avals = [get_aval(x) for x in leaves]
        flat_bwd = _flat_bwd(self.bwd, nondiff, in_tree, in_avals, name, trees)
        outs = custom_vjp_call_p.bind(
            flat_fun, flat_fwd, flat_bwd, *leaves, out_trees=lambda: trees[0], symbolic_zeros=self.symbolic_zeros
        )
        return tree_unflatten(known[0][0] if known else trees[0][0], outs)


def _traced_nondiff_error(fun, i) -> Exception:
    return UnexpectedTracerError(
        f"Found a JAX Tracer object passed as an argument to a custom_vjp function {name_of(fun)} in a position "
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


def _flat_fwd(fwd, in_tree, name, known, trees):
    def flat(*leaves, pairs=1):
        if pairs == 2:
            leaves = [CustomVJPPrimal(v, p) for v, p in zip(leaves[::2], leaves[1::2], strict=True)]
        args, _ = tree_unflatten(in_tree, leaves)
        result = fwd(*args)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"Custom VJP fwd rule {name_of(fwd)} for function {name} must produce a pair (list or tuple of length "
                "two) where the first element "
                f"represents the primal output (equal to those of the custom_vjp-decorated function {name}) and the "
                "second element represents "
                "residuals (i.e. values stored from the forward pass for use on the backward pass), but instead of "
                f"a pair the fwd rule {name_of(fwd)} produced {result}."
            )
        out, res = result
        outs, out_tree = tree_flatten(out)
        residuals, res_tree = tree_flatten(res)
        for what, values in (("output", outs), ("residual", residuals)):
            for i, x in enumerate(values):
                if not valid_jaxtype(x):
                    raise TypeError(
                        f"Custom VJP fwd rule {name_of(fwd)} for function {name} must produce arrays, numbers and "
                        f"containers of them, but its {what} {i} is "
                        f"{x!r} of type {type(x)}. Fixed Python values belong in nondiff_argnums."
                    )
        check_primal_output("VJP fwd", name_of(fwd), name, out_tree, outs, known)
        trees[:] = [(out_tree, res_tree)]
        return [*residuals, *outs]

    flat.__name__ = name_of(fwd)
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
        cts_in: list = [None] * len(in_avals)
        matches = isinstance(result, tuple) and len(result) == len(dummy)
        if not matches or not all([_match_cotangent(x, ct, cts_in) for x, ct in zip(dummy, result, strict=True)]):
            got = tree_structure(result, is_leaf=_is_zero)
            raise TypeError(
                "Custom VJP bwd rule must produce an output with the same container (pytree) structure as the args "
                "tuple of the primal function, and in particular must produce a tuple of length equal to the number "
                f"of arguments to the primal function, but got bwd output structure {got} for primal input structure "
                f"{in_treedef}. It is {name_of(bwd)} of {name}; None stands for the zero cotangent of an argument."
            )
        return [
            _checked_cotangent(i, aval, ct, name, bwd, in_treedef)
            for i, (aval, ct) in enumerate(zip(in_avals, cts_in, strict=True))
        ]

    flat.__name__ = name_of(bwd)
    return flat


def _is_zero(x) -> bool:
    return x is None or isinstance(x, SymbolicZero)


def _match_cotangent(arg, ct, cts_in) -> bool:
    """Spread one argument's cotangent (None for zero, also inside) over its leaves, given as their flat positions;
    False if it has another structure.
    """
    if ct is None:
        return True
    positions, tree = tree_flatten(arg)
    try:
        leaves = tree.flatten_up_to(ct)
    except (ValueError, TypeError):
        return False
    if any(not _is_zero(x) and not treedef_is_leaf(tree_structure(x)) for x in leaves):
        return False
    for i, leaf in zip(positions, leaves, strict=True):
        cts_in[i] = leaf
    return True


def _checked_cotangent(i, aval, ct, name, bwd, in_treedef):
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
            f"Custom VJP bwd rule {name_of(bwd)} for function {name} must produce arrays, numbers and None (for zero) "
            f"but produced {ct!r} of type {type(ct)} "
            f"for the argument's leaf {i}, of type {aval.str_short()}."
        ) from None
    if got.shape == expected.shape and expected.dtype == dtypes.float0:
        return Zero(expected)  # an integer has none; what stands there is not read
    if config.jax_disable_bwd_checks:
        return ct
    if (
        got.shape == expected.shape
        and not dtypes.is_extended(got.dtype)
        and (dtypes.is_complex(expected.dtype) or not dtypes.is_complex(got.dtype))
    ):
        return ct if got.dtype == expected.dtype else ops.convert(ct, expected.dtype, False)
    paths = tree_flatten_with_path(tree_unflatten(in_treedef, list(range(in_treedef.num_leaves))))[0]
    path = keystr(paths[i][0])
    why = "shapes" if got.shape != expected.shape else "dtypes"
    raise ValueError(
        "Custom VJP bwd rule must produce an output with the same type as the args tuple of the primal function, but "
        f"at output{path} the bwd rule produced an output of type {got.str_short()} corresponding to an input of type "
        f"{aval.str_short()}, so the {why} do not match. It is {name_of(bwd)} of {name}."
    )


def custom_vjp_primal_tree_values(tree):
    """The values in a tree of `CustomVJPPrimal`."""
    return tree_map(lambda x: x.value, tree, is_leaf=lambda x: isinstance(x, CustomVJPPrimal))
