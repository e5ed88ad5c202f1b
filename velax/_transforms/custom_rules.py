"""Derivative rules given along with a function: `custom_gradient`, `closure_convert`, `linear_call`."""

from __future__ import annotations

from collections.abc import Callable

from velax._lang.primitive import define
from velax._lang.trace import Tracer, get_aval
from velax._transforms.arguments import debug_info_of, flatten_call
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.custom_vjp import batch_bwd, custom_vjp
from velax._transforms.evaluate import eval_jaxpr
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import Zero, instantiate_zeros
from velax.tree_util import register_static, tree_flatten, tree_unflatten

__all__ = ["closure_convert", "custom_gradient", "linear_call"]


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
            raise TypeError(
                f"closure_convert: the converted function was made for arguments of structure {in_tree}, got {tree}"
            )
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
            raise TypeError(
                "linear_call: the transpose must return the structure of the linear arguments, "
                f"{lin_tree}, but returned {tree}"
            )
        return leaves

    outs = linear_call_p.bind(*res_leaves, *lin_leaves, callee=closed, transpose_fun=transposed, num_res=n_res)
    return tree_unflatten(out_tree[0], outs)


def _linear_call_transpose(cts, *args, callee, transpose_fun, num_res):
    return [*[None] * num_res, *transpose_fun(*args[:num_res], *map(instantiate_zeros, cts))]


def _linear_call_batch(axis_data, args, dims, *, callee, transpose_fun, num_res):
    derived, out_batched = batch_jaxpr(callee, axis_data, [d is not None for d in dims])
    args = [matchaxis(axis_data.size, d, 0, x) if d is not None else x for x, d in zip(args, dims, strict=True)]
    bwd = batch_bwd(
        transpose_fun,
        axis_data,
        [0 if d is not None else None for d in dims[:num_res]],
        [0 if d is not None else None for d in dims[num_res:]],
        num_res,
    )
    outs = linear_call_p.bind(*args, callee=derived, transpose_fun=bwd, num_res=num_res)
    return outs, [0 if b else None for b in out_batched]


def _linear_call_jvp(primals, tangents, *, num_res, **params):
    if any(type(t) is not Zero for t in tangents[:num_res]):
        raise NotImplementedError(
            "linear_call: differentiation with respect to residual_args is not supported; make "
            "them part of linear_args or stop their gradient"
        )
    outs = linear_call_p.bind(*primals, num_res=num_res, **params)
    return outs, linear_call_p.bind(
        *primals[:num_res], *map(instantiate_zeros, tangents[num_res:]), num_res=num_res, **params
    )


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
