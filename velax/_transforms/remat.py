"""``checkpoint`` (rematerialisation): recompute intermediate values in the backward pass instead of keeping them.

The call is one ``checkpoint`` equation. Its linearization keeps only its inputs, and what the
policy allows to be saved; the linear part recomputes the rest, behind an optimization barrier so
that the recomputation is not merged with the forward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from velax import _native
from velax._lang import dtypes
from velax._lang.config import config
from velax._lang.errors import ConcretizationTypeError
from velax._lang.jaxpr import ClosedJaxpr, Jaxpr, JaxprEqn, Var
from velax._lang.logs import log
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import Static, check_callable, debug_info_of, flatten_call, normalize_argnums
from velax._transforms.batching import axes_key, batch_jaxpr, matchaxis
from velax._transforms.calls import dce_closed, inline_calls
from velax._transforms.discharge import apply_discharged, has_refs
from velax._transforms.evaluate import dce_jaxpr, dependent_outputs, eval_jaxpr, move_consts_to_inputs
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.linearize import linearize_jaxpr
from velax._transforms.staging import keep_trace, trace_to_jaxpr, traces_of
from velax._transforms.transpose import transpose_jaxpr
from velax._transforms.zero import UndefinedPrimal, Zero
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = [
    "checkpoint",
    "checkpoint_name",
    "checkpoint_p",
    "checkpoint_policies",
    "name_p",
    "print_saved_residuals",
    "saved_residuals",
]


def checkpoint(
    fun: Callable | None = None, *, prevent_cse: bool | Sequence[bool] = True, policy: Callable[..., bool] | None = None,
    static_argnums: int | tuple[int, ...] = (), concrete: bool = False,
) -> Callable:  # fmt: skip
    """Make a function recompute its intermediate values when differentiated in reverse mode, to save memory.

    Args:
      fun: the function.
      prevent_cse: whether the compiler must not merge the recomputation with the forward pass.
      policy: ``policy(primitive, *avals, **params) -> bool`` says which values to save; see
        `checkpoint_policies`. None saves only the inputs.
      static_argnums: arguments that are Python constants.

    Returns:
      A function with the same values and derivatives.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> f = velax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))
      >>> bool(velax.grad(f)(1.0) == velax.grad(lambda x: jnp.sin(jnp.sin(x)))(1.0))
      True
    """
    if fun is None:
        return functools.partial(checkpoint, prevent_cse=prevent_cse, policy=policy, static_argnums=static_argnums)
    check_callable(fun, "checkpoint")
    if concrete:
        raise NotImplementedError(
            "checkpoint: the option `concrete` was removed; use static_argnums for arguments whose values Python needs"
        )

    @api_boundary
    @functools.wraps(fun, updated=())
    def checkpointed(*args, **kwargs):
        call, dynamic, named, statics = fun, args, args, ()
        if static_argnums != ():
            nums = normalize_argnums(static_argnums, len(args), "checkpoint", "static_argnums")
            free = [i for i in range(len(args)) if i not in nums]
            dynamic = tuple(args[i] for i in free)
            statics = tuple((i, Static(args[i])) for i in sorted(nums))
            named = tuple(Static(x) if i in nums else x for i, x in enumerate(args))

            def call(*xs, **kw):
                full = list(args)
                for i, x in zip(free, xs, strict=True):
                    full[i] = x
                return fun(*full, **kw)

        leaves, in_tree = tree_flatten((dynamic, kwargs))
        avals = tuple(get_aval(x) for x in leaves)
        key = ("checkpoint", in_tree, avals, statics, _native.config_key(), axes_key())
        traces = traces_of(fun if type(fun) is FunctionType else checkpointed)
        try:
            found = traces.get(key)
        except TypeError:  # a static argument that is not hashable
            traces, found = None, None
        if found is None:
            found = _trace(call, in_tree, avals, debug_info_of("checkpoint / remat", fun, named, kwargs))
            if traces is not None:
                keep_trace(traces, key, found, found[1])
        hoisted, consts, out_tree = found
        apply = lambda pure, values: _bind(pure, values, bool(prevent_cse), False, policy)
        if has_refs(hoisted):
            outs = apply_discharged("a rematerialised function", hoisted, [*consts, *leaves], apply)
        else:
            outs = apply(hoisted, [*consts, *leaves])
        return tree_unflatten(out_tree, outs)

    return checkpointed


def _trace(call: Callable, in_tree, avals, info) -> tuple[ClosedJaxpr, list, Any]:
    """The jaxpr of a call, its constants as first inputs; their values; and the structure of its result."""
    flat, out_tree = flatten_call(call, in_tree)
    try:
        closed = trace_to_jaxpr(flat, avals, info, out_tree)
    except ConcretizationTypeError as error:
        if info.func_src_info in str(error):
            advice = "Consider using the `static_argnums` parameter for `jax.remat` or `jax.checkpoint`."
            error.args = (f"{error}\n{advice}",)
        raise
    hoisted, consts = move_consts_to_inputs(closed)
    return hoisted, consts, out_tree[0]


# -- the primitive -------------------------------------------------------------------------------

_closed_of: dict[int, tuple[Jaxpr, ClosedJaxpr]] = {}


def _closed(jaxpr: Jaxpr) -> ClosedJaxpr:
    """The closed form of an equation's jaxpr, one object for each, as derived jaxprs are memoised on it."""
    found = _closed_of.get(id(jaxpr))
    if found is None or found[0] is not jaxpr:
        found = _closed_of[id(jaxpr)] = (jaxpr, ClosedJaxpr(jaxpr, []))
        if len(_closed_of) > 1024:
            _closed_of.pop(next(iter(_closed_of)))
    return found[1]


def _jvp(primals, tangents, *, jaxpr, prevent_cse, differentiated, policy):
    nonzeros = [type(t) is not Zero for t in tangents]
    derived, out_nonzeros = jvp_jaxpr(_closed(jaxpr), nonzeros, False)
    outs = _bind(
        derived, [*primals, *(t for t in tangents if type(t) is not Zero)], prevent_cse, differentiated, policy
    )
    n = len(jaxpr.outvars)
    given = iter(outs[n:])
    return outs[:n], [
        next(given) if nz else Zero(v.aval.to_tangent_aval()) for nz, v in zip(out_nonzeros, jaxpr.outvars, strict=True)
    ]


def _bind(closed: ClosedJaxpr, args, prevent_cse, differentiated, policy):
    """Bind a derived jaxpr, its constants as arguments."""
    closed, consts = move_consts_to_inputs(closed)
    return checkpoint_p.bind(
        *consts,
        *args,
        jaxpr=closed.jaxpr,
        prevent_cse=prevent_cse,
        differentiated=differentiated,
        policy=policy,
    )


def _linearize(nonzeros, *primals, jaxpr, prevent_cse, differentiated, policy):
    split = linearize_jaxpr(_closed(jaxpr), nonzeros)
    forward, recompute = _split_saved(split, policy)
    if config.jax_log_checkpoint_residuals:
        _log_residuals(split, forward, recompute)
    results = eval_jaxpr(forward, split.primal.consts, *primals)
    saved = results[split.n_outs :]
    n_args = len(primals)

    def linear(*tangents):
        # recompute the residuals from inputs and saved values, then apply the linear part: one
        # equation, differentiated=True
        n_res = len(split.forwarded)

        def body(*args):
            ins, rest, ts = args[:n_args], args[n_args : n_args + len(saved)], args[n_args + len(saved) :]
            computed = eval_jaxpr(recompute, split.primal.consts, *ins, *rest)
            residuals = split.residuals(ins, [*[None] * split.n_outs, *computed])
            assert len(residuals) == n_res
            return eval_jaxpr(split.tangent.jaxpr, split.tangent.consts, *residuals, *ts)

        args = [*primals, *saved, *tangents]
        closed = trace_to_jaxpr(body, [get_aval(x) for x in args])
        return _bind(closed, args, prevent_cse, True, policy)

    return results[: split.n_outs], split.out_nonzeros, linear


def _split_saved(split, policy) -> tuple[Jaxpr, Jaxpr]:
    """The forward jaxpr ``ins -> (outs, saved)`` and the recomputing one ``(ins, saved) -> residuals``."""
    jaxpr = split.primal.jaxpr
    outs, residuals = jaxpr.outvars[: split.n_outs], jaxpr.outvars[split.n_outs :]
    saved: list[Var] = []
    if policy is not None:
        jaxpr = inline_calls(jaxpr)
        outs, residuals = jaxpr.outvars[: split.n_outs], jaxpr.outvars[split.n_outs :]
        allowed: list[Var] = []
        for eqn in jaxpr.eqns:
            if policy(eqn.primitive, *(x.aval for x in eqn.invars), **eqn.params):
                allowed += eqn.outvars
        allowed_set = set(allowed)
        # only the saved values that the recomputation would read
        trial = _without(jaxpr, allowed_set)
        needed = {x for e in trial for x in e.invars if isinstance(x, Var)} | {
            x for x in residuals if isinstance(x, Var)
        }
        saved = [v for v in allowed if v in needed]
    forward, _ = dce_jaxpr(jaxpr.replace(outvars=[*outs, *saved]), [True] * (len(outs) + len(saved)), instantiate=True)
    body = _without(jaxpr, set(saved))
    recompute = jaxpr.replace(invars=[*jaxpr.invars, *saved], outvars=residuals, eqns=body)
    recompute, _ = dce_jaxpr(recompute, [True] * len(residuals), instantiate=True)
    return forward, recompute


def _log_residuals(split, forward: Jaxpr, recompute: Jaxpr) -> None:
    """Write what the backward pass is given: arguments, and values that the policy saves."""
    read = {x for e in recompute.eqns for x in e.invars if isinstance(x, Var)}
    read |= {x for x in recompute.outvars if isinstance(x, Var)}
    arguments = len(split.primal.jaxpr.invars)
    inputs = [
        f"  {x.aval.str_short()}"
        for i, x in enumerate(recompute.invars[:arguments])
        if x in read or i in split.forwarded
    ]
    saved = [f"  {x.aval.str_short()} from {_origin(x, forward)}" for x in recompute.invars[arguments:]]
    parts = [["saving inputs with shapes:", *inputs]] if inputs else []
    parts += [["saving these intermediates:", *saved]] if saved else []
    text = "\nand ".join("\n".join(part) for part in parts)
    log(__name__, True, "remat-decorated function %s", f"{text}\n" if parts else "")


def _origin(x: Var, jaxpr: Jaxpr) -> str:
    """What computes a variable, and where."""
    (eqn,) = (e for e in jaxpr.eqns if x in e.outvars)
    what = f"named {eqn.params['name']!r}" if eqn.primitive is name_p else f"output of {eqn.primitive}"
    return f"{what} from {eqn.source_info}"


def _without(jaxpr: Jaxpr, known: set[Var]) -> list[JaxprEqn]:
    """The equations that do not only compute known values."""
    return [e for e in jaxpr.eqns if not e.outvars or not all(v in known for v in e.outvars)]


def _transpose(cts, *args, jaxpr, prevent_cse, differentiated, policy):
    linear = [type(x) is UndefinedPrimal for x in args]
    derived, zero_out = transpose_jaxpr(_closed(jaxpr), linear, [type(ct) is Zero for ct in cts])
    operands = [*(x for x in args if type(x) is not UndefinedPrimal), *(ct for ct in cts if type(ct) is not Zero)]
    given = iter(_bind(derived, operands, prevent_cse, differentiated, policy))
    zero = iter(zero_out)
    return [
        (Zero(x.aval.to_tangent_aval()) if next(zero) else next(given)) if type(x) is UndefinedPrimal else None
        for x in args
    ]


def _batch(axis_data, args, dims, *, jaxpr, prevent_cse, differentiated, policy):
    derived, out_batched = batch_jaxpr(_closed(jaxpr), axis_data, [d is not None for d in dims])
    args = [matchaxis(axis_data.size, d, 0, x) if d is not None else x for x, d in zip(args, dims, strict=True)]
    outs = _bind(derived, args, prevent_cse, differentiated, policy)
    return outs, [0 if b else None for b in out_batched]


def _dce(used_outputs, eqn):
    smaller, used_inputs = dce_closed(_closed(eqn.params["jaxpr"]), used_outputs)
    if not any(used_outputs) and not smaller.effects:
        return [False] * len(eqn.invars), None
    invars = [x for x, u in zip(eqn.invars, used_inputs, strict=True) if u]
    outvars = [v for v, u in zip(eqn.outvars, used_outputs, strict=True) if u]
    return used_inputs, eqn.replace(invars=invars, outvars=outvars, params=dict(eqn.params, jaxpr=smaller.jaxpr))


def _lower(ctx, *args, jaxpr, prevent_cse, differentiated, **_):
    if differentiated and prevent_cse:
        args = ctx.builder.barrier(args)
    return ctx.inline(ClosedJaxpr(jaxpr, []), args)


checkpoint_p = define(
    "remat2",
    abstract_eval=lambda *avals, jaxpr, **_: (jaxpr.out_avals, jaxpr.effects),
    effectful=True,
    lower=_lower,
    impl=lambda *args, jaxpr, **_: eval_jaxpr(jaxpr, (), *args),
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=None,
    batch_axis=_batch,
    dce=_dce,
    depends=lambda flags, *, jaxpr, **_: dependent_outputs(_closed(jaxpr), flags),
    multiple_results=True,
    irrelevant_params=("policy",),
)
checkpoint_p.rules["physical"] = True  # the body sees keys as keys


# -- names and policies --------------------------------------------------------------------------

name_p = define(
    "name",
    abstract_eval=lambda x, *, name: x,
    lower=lambda ctx, x, *, name: x,
    jvp=lambda primals, tangents, *, name: (name_p.bind(*primals, name=name), tangents[0]),
    transpose=lambda ct, x, *, name: [ct],
    batch=lambda args, dims, *, name: (name_p.bind(*args, name=name), dims[0]),
    elementwise=True,
    linear_in=(0,),
    irrelevant_params=("name",),
)


def checkpoint_name(x: Any, name: str):
    """Name the arrays of a pytree, for policies that save by name."""
    leaves, tree = tree_flatten(x)
    return tree_unflatten(tree, [name_p.bind(leaf, name=name) for leaf in leaves])


def saved_residuals(f: Callable, *args, **kwargs) -> list[tuple[Any, str]]:
    """What reverse mode keeps of ``f(*args, **kwargs)`` for the backward pass.

    Returns:
      For each residual its type and where it comes from.
    """
    leaves, in_tree = tree_flatten((args, kwargs))
    flat, _ = flatten_call(f, in_tree)
    closed = trace_to_jaxpr(flat, [get_aval(x) for x in leaves], debug_info_of("saved_residuals", f, args, kwargs))
    split = linearize_jaxpr(closed, [dtypes.is_inexact(a.dtype) for a in closed.in_avals])
    names = closed.jaxpr._debug_info.arg_names or ()
    primal = inline_calls(split.primal.jaxpr)
    made = {v: eqn for eqn in primal.eqns for v in eqn.outvars}
    computed = iter(primal.outvars[split.n_outs :])
    found = []
    for i in split.forwarded:
        x = None if i is not None else next(computed)
        if i is not None:
            found.append((closed.in_avals[i], f"from the argument {names[i] if i < len(names) else i}"))
        elif x in made if isinstance(x, Var) else False:
            eqn = made[x]
            named = f"named '{eqn.params['name']}'" if eqn.primitive is name_p else f"output of {eqn.primitive}"
            found.append((x.aval, f"{named} from {eqn.source_info}"))
        else:
            found.append((x.aval, "from a constant"))
    return found


def print_saved_residuals(f: Callable, *args, **kwargs) -> None:
    """Print what reverse mode keeps of ``f(*args, **kwargs)`` for the backward pass, a line each;
    to choose what `checkpoint` is for.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> from velax.ad_checkpoint import print_saved_residuals
      >>> print_saved_residuals(velax.checkpoint(jnp.sin), 1.0)
      f32[] from the argument x
    """
    for aval, where in saved_residuals(f, *args, **kwargs):
        print(f"{aval.str_short(short_dtypes=True)} {where}")


_DOTS = ("dot_general", "conv_general_dilated")


class checkpoint_policies:
    """Which intermediate values `checkpoint` saves."""

    @staticmethod
    def everything_saveable(prim, *_, **__) -> bool:
        """Save all."""
        return True

    @staticmethod
    def nothing_saveable(prim, *_, **__) -> bool:
        """Save none: recompute all."""
        return False

    @staticmethod
    def dots_saveable(prim, *_, **__) -> bool:
        """Save the results of contractions."""
        return prim.name in _DOTS

    checkpoint_dots = dots_saveable

    @staticmethod
    def dots_with_no_batch_dims_saveable(prim, *_, **params) -> bool:
        """Save the results of contractions without batch dimensions."""
        if prim.name != "dot_general":
            return False
        (_, _), (lhs_batch, rhs_batch) = params["dimension_numbers"]
        return not lhs_batch and not rhs_batch

    checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable

    @staticmethod
    def save_anything_except_these_names(*names_not_to_save) -> Callable[..., bool]:
        """Save every value but those named so with `checkpoint_name`."""
        hidden = frozenset(names_not_to_save)
        return lambda prim, *_, **params: not (prim is name_p and params["name"] in hidden)

    @staticmethod
    def save_any_names_but_these(*names_not_to_save) -> Callable[..., bool]:
        """Save the values with names but these."""
        hidden = frozenset(names_not_to_save)
        return lambda prim, *_, **params: prim is name_p and params["name"] not in hidden

    @staticmethod
    def save_only_these_names(*names_which_can_be_saved) -> Callable[..., bool]:
        """Save the values with these names."""
        shown = frozenset(names_which_can_be_saved)
        return lambda prim, *_, **params: prim is name_p and params["name"] in shown

    @staticmethod
    def offload_dot_with_no_batch_dims(offload_src: str, offload_dst: str) -> Callable[..., bool]:
        """Save the results of contractions without batch dimensions in another memory. There is one
        memory on a CPU: they are saved.
        """
        return checkpoint_policies.dots_with_no_batch_dims_saveable

    @staticmethod
    def save_and_offload_only_these_names(
        *,
        names_which_can_be_saved: Sequence[str],
        names_which_can_be_offloaded: Sequence[str],
        offload_src: str,
        offload_dst: str,
    ) -> Callable[..., bool]:
        """Save the values with these names, some in another memory. There is one memory on a CPU: they are saved."""
        return checkpoint_policies.save_only_these_names(*names_which_can_be_saved, *names_which_can_be_offloaded)

    @staticmethod
    def save_from_both_policies(policy_1, policy_2) -> Callable[..., bool]:
        """Save what either policy saves."""
        return lambda prim, *args, **params: policy_1(prim, *args, **params) or policy_2(prim, *args, **params)
