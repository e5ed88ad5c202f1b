"""The public derivative functions: jvp, linearize, vjp, grad, value_and_grad, jacfwd, jacrev,
hessian, linear_transpose.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.jaxpr import ClosedJaxpr
from velax._lang.trace import Tracer, as_array, get_aval, shaped_abstractify
from velax._lang.traceback import api_boundary, boundary, leave_boundary
from velax._transforms.arguments import (
    argnums_partial,
    check_callable,
    check_results,
    debug_info_of,
    function_name,
    leaf_name,
    normalize_argnums,
)
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.jit import jit
from velax._transforms.jvp import jvp_flat
from velax._transforms.linearize import linearize_flat
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.transpose import backward_pass
from velax._transforms.vectorize import vmap
from velax._transforms.zero import UndefinedPrimal, Zero, instantiate_zeros, ops
from velax.tree_util import (
    Partial,
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_map,
    tree_structure,
    tree_transpose,
    tree_unflatten,
)

__all__ = [
    "fwd_and_bwd",
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linear_transpose",
    "linearize",
    "value_and_grad",
    "vjp",
]


def _flat_with_aux(fun: Callable, in_tree, has_aux: bool, what: str):
    """``fun`` of flat leaves. When it runs, the list receives the tree of the output, a function
    that makes the aux of the leaves of the result after the output's, and the number of these. Aux
    values leave the trace with the results."""
    info: list = []

    def flat(*leaves):
        result = fun(*tree_unflatten(in_tree, leaves))
        aux_leaves: list = []
        aux_tree = None
        if has_aux:
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise TypeError(
                    f"{what} with has_aux=True: expected function with aux output to return a two-element tuple, but "
                    f"got type {type(result)} with value {result}. Return (output, aux) from {function_name(fun)}."
                )
            result, aux = result
            aux, aux_tree = tree_flatten(aux)
            aux_leaves = [x for x in aux if isinstance(x, Tracer)]  # the others need not be values of the language
        outs, out_tree = tree_flatten(result)
        check_results(outs, what, fun)

        def restore_aux(leaves):
            given = iter(leaves)
            return tree_unflatten(aux_tree, [next(given) if isinstance(x, Tracer) else x for x in aux])

        info[:] = [out_tree, restore_aux if has_aux else None, len(outs)]
        return [*outs, *aux_leaves]

    return flat, info


@api_boundary
def jvp(fun: Callable, primals, tangents, has_aux: bool = False):
    """Evaluate a function and its directional derivative (forward mode).

    Args:
      fun: a function of arrays or pytrees of them.
      primals: a tuple or list of arguments.
      tangents: a tuple or list of the same structure, of the primals' tangent types (floats have
        their own dtype, integers float0).
      has_aux: whether ``fun`` returns ``(output, aux)``, with only the output differentiated.

    Returns:
      ``(primals_out, tangents_out)``, and ``aux`` if asked for.

    Raises:
      TypeError: if primals and tangents do not fit.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> y, t = velax.jvp(jnp.sin, (0.0,), (2.0,))
      >>> float(y), float(t)
      (0.0, 2.0)
    """
    check_callable(fun, "jvp")
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(
            "primal and tangent arguments to jax.jvp must be tuples or lists; found "
            f"{type(primals).__name__} and {type(tangents).__name__}."
        )
    leaves, in_tree = tree_flatten(tuple(primals))
    tangent_leaves, tangent_tree = tree_flatten(tuple(tangents))
    if in_tree != tangent_tree:
        raise TypeError(
            "primal and tangent arguments to jax.jvp must have the same tree structure; primals have "
            f"tree structure {in_tree} whereas tangents have tree structure {tangent_tree}."
        )
    for x, t in zip(leaves, tangent_leaves, strict=True):
        _check_tangent("jax.jvp", x, t)
    flat, info = _flat_with_aux(fun, in_tree, has_aux, "jvp")
    given = [Zero.from_primal_value(x) if _is_float0(t) else t for x, t in zip(leaves, tangent_leaves, strict=True)]
    outs, out_tangents = jvp_flat(flat, leaves, given)
    out_tree, restore_aux, n = info
    tangents_out = tree_unflatten(out_tree, [_public_tangent(t) for t in out_tangents[:n]])
    primals_out = tree_unflatten(out_tree, outs[:n])
    return (primals_out, tangents_out, restore_aux(outs[n:])) if has_aux else (primals_out, tangents_out)


def _is_float0(t) -> bool:
    return getattr(t, "dtype", None) == dtypes.float0


def _public_tangent(t):
    """A tangent as users see it: an array, also where a rule made do with a number."""
    if type(t) is Zero and t.aval.dtype == dtypes.float0:
        return np.zeros(t.aval.shape, dtypes.float0)
    return as_array(instantiate_zeros(t))


def _check_tangent(what: str, x, t) -> None:
    primal, tangent = get_aval(x), _tangent_aval(t)
    expected = primal.to_tangent_aval()
    if tangent.dtype != expected.dtype:
        raise TypeError(
            f"primal and tangent arguments to {what} do not match; dtypes must be equal, or in case of int/bool "
            "primal dtype the tangent dtype must be float0. "
            f"Got primal dtype {primal.dtype} and so expected tangent dtype {expected.dtype}, but got tangent dtype "
            f"{tangent.dtype} instead."
        )
    if tangent.shape != expected.shape:
        raise ValueError(
            f"jvp called with different primal and tangent shapes; Got primal shape {primal.shape} and "
            f"tangent shape as {tangent.shape}"
        )


def _tangent_aval(t):
    return shaped_abstractify(t) if not _is_float0(t) else get_aval(np.zeros(t.shape, bool)).update(dtype=dtypes.float0)


@api_boundary
def linearize(fun: Callable, *primals, has_aux: bool = False):
    """Evaluate a function and return its derivative at that point as a linear function.

    Args:
      fun: a function of arrays or pytrees.
      *primals: the point.
      has_aux: whether ``fun`` returns ``(output, aux)``.

    Returns:
      ``(out, f_jvp)`` with ``f_jvp(*tangents)`` the directional derivative, computed without
      evaluating ``fun`` again; and ``aux`` if asked for.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> y, f_jvp = velax.linearize(jnp.sin, 0.0)
      >>> float(f_jvp(3.0))
      3.0
    """
    check_callable(fun, "linearize")
    leaves, in_tree = tree_flatten(primals)
    flat, info = _flat_with_aux(fun, in_tree, has_aux, "linearize")
    outs, linear = linearize_flat(flat, leaves, None, debug_info_of("linearize", fun, primals))
    out_tree, restore_aux, n = info
    f_jvp = Partial(
        functools.partial(
            _apply_linear,
            linear.jaxpr.jaxpr,
            linear.out_nonzeros[:n],
            in_tree,
            out_tree,
            [get_aval(x) for x in outs[:n]],
            [get_aval(x) for x in leaves],
        ),
        *[linear.jaxpr.consts],
    )
    out = tree_unflatten(out_tree, outs[:n])
    return (out, f_jvp, restore_aux(outs[n:])) if has_aux else (out, f_jvp)


@api_boundary
def _apply_linear(jaxpr, out_nonzeros, in_tree, out_tree, out_avals, in_avals, consts, *tangents):
    leaves, tree = tree_flatten(tangents)
    if tree != in_tree:
        raise TypeError(
            f"linearized function called on tangent values whose tree structure {tree} differs from that "
            f"of the primal values, {in_tree}."
        )
    for aval, t in zip(in_avals, leaves, strict=True):
        got, expected = _tangent_aval(t), aval.to_tangent_aval()
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise ValueError(
                "linearized function called on tangent values inconsistent with the original primal values: got "
                f"tangent aval {got.str_short()} for primal aval {aval.str_short()} "
                f"but expected {expected.str_short()}"
            )
    given = iter(jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*leaves))
    outs = [
        next(given) if nz else _public_tangent(Zero(a.to_tangent_aval()))
        for nz, a in zip(out_nonzeros, out_avals, strict=True)
    ]
    return tree_unflatten(out_tree, outs)


@api_boundary
def vjp(fun: Callable, *primals, has_aux: bool = False, reduce_axes=()):
    """Evaluate a function and return its reverse-mode derivative at that point.

    Args:
      fun: a function of arrays or pytrees.
      *primals: the point.
      has_aux: whether ``fun`` returns ``(output, aux)``.

    Returns:
      ``(out, vjp_fun)`` with ``vjp_fun(cotangent) -> tuple of cotangents``, one for each primal;
      and ``aux`` if asked for.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> y, vjp_fun = velax.vjp(lambda x, y: x * y, 2.0, 3.0)
      >>> [float(g) for g in vjp_fun(1.0)]
      [3.0, 2.0]
    """
    check_callable(fun, "vjp")
    if reduce_axes:
        raise NotImplementedError("reduce_axes argument to vjp is deprecated; use collectives in the function")
    leaves, in_tree = tree_flatten(primals)
    out, vjp_fun, aux = _vjp(fun, leaves, in_tree, has_aux)
    return (out, vjp_fun, aux) if has_aux else (out, vjp_fun)


def _vjp(fun, leaves, in_tree, has_aux, what="vjp", nonzeros=None):
    flat, info = _flat_with_aux(fun, in_tree, has_aux, what)
    outs, linear = linearize_flat(flat, leaves, nonzeros, debug_info_of(what, fun))
    out_tree, restore_aux, n = info
    avals = [get_aval(x) for x in outs[:n]]
    in_avals = [get_aval(x) for x in leaves]
    jaxpr = linear.jaxpr.jaxpr
    n_live = sum(linear.out_nonzeros[:n])
    if len(jaxpr.outvars) != n_live:  # aux results are not differentiated
        jaxpr = jaxpr.replace(outvars=jaxpr.outvars[:n_live])
    out_nonzeros = linear.out_nonzeros[:n]

    @boundary
    def pull_back(consts, *cotangents):
        try:
            return _apply_vjp(jaxpr, out_nonzeros, in_tree, out_tree, avals, in_avals, consts, *cotangents)
        except Exception as error:
            leave_boundary(error)
            raise

    vjp_fun = Partial(pull_back, linear.jaxpr.consts)
    return tree_unflatten(out_tree, outs[:n]), vjp_fun, restore_aux(outs[n:]) if has_aux else None


def _apply_vjp(jaxpr, out_nonzeros, in_tree, out_tree, out_avals, in_avals, consts, *cotangents):
    if len(cotangents) != 1:
        raise TypeError(
            "The function returned by vjp takes one argument, the cotangent in the structure of the output "
            f"{out_tree}, but was called with {len(cotangents)}. "
            "Pass the cotangents of several results as one tuple."
        )
    leaves, tree = tree_flatten(cotangents[0])
    if tree != out_tree:
        raise ValueError(
            f"unexpected tree structure of argument to vjp function: got {tree}, but expected to match {out_tree}"
        )
    for aval, ct in zip(out_avals, leaves, strict=True):
        got, expected = _tangent_aval(ct), aval.to_tangent_aval()
        # integers have no cotangent: whatever is given in its place is not read
        if expected.dtype == dtypes.float0 and got.dtype == aval.dtype:
            expected = aval
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise ValueError(
                f"unexpected JAX type (e.g. shape/dtype) for argument to VJP function: got {got.str_short()}, but "
                f"expected {expected.str_short()} because the corresponding output "
                f"of the differentiated function had JAX type {aval.str_short()}"
            )
    cts = [ct for ct, nz in zip(leaves, out_nonzeros, strict=True) if nz]
    cts_in = backward_pass(jaxpr, consts, [UndefinedPrimal(v.aval) for v in jaxpr.invars], cts)
    return tree_unflatten(
        in_tree,
        [
            _public_tangent(Zero(a.to_tangent_aval()) if type(ct) is Zero else ct)
            for a, ct in zip(in_avals, cts_in, strict=True)
        ],
    )


def grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes=(),
) -> Callable:
    """The gradient of a scalar function.

    Args:
      fun: a function returning a scalar (or ``(scalar, aux)``).
      argnums: which positional arguments to differentiate by; an int, or a tuple for a tuple of gradients.
      has_aux: whether ``fun`` returns ``(scalar, aux)``.
      holomorphic: whether ``fun`` is complex differentiable, with complex inputs and output.
      allow_int: whether integer arguments may be differentiated by (their gradient is float0).

    Returns:
      A function of the same arguments returning the gradient, in the structure of the argument;
      ``(gradient, aux)`` with aux.

    Raises:
      TypeError: when called, if the result is no real scalar or an argument is no float.

    Example:
      >>> import velax
      >>> float(velax.grad(lambda x: x**2 + 2*x + 1)(3.0))
      8.0
    """
    value_and_grad_f = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int, reduce_axes)
    described = f"Gradient of {function_name(fun)} with respect to positional argument(s) {argnums}."

    @api_boundary
    @_wraps(fun, described)
    def grad_f(*args, **kwargs):
        value, gradient = value_and_grad_f(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_f


def _wraps(fun, doc: str):
    def decorate(f):
        try:
            functools.update_wrapper(f, fun)
        except (AttributeError, TypeError):  # a callable without metadata
            return f
        f.__doc__ = f"{doc}\n\n{fun.__doc__}" if getattr(fun, "__doc__", None) else doc
        return f

    return decorate


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes=(),
) -> Callable:
    """As `grad`, returning ``(value, gradient)``; the value is ``(scalar, aux)`` with aux."""
    check_callable(fun, "grad")
    if reduce_axes:
        raise NotImplementedError("reduce_axes argument to grad is deprecated; use collectives in the function")
    described = f"Value and gradient of {function_name(fun)} with respect to positional argument(s) {argnums}."

    @api_boundary
    @_wraps(fun, described)
    def value_and_grad_f(*args, **kwargs):
        nums = normalize_argnums(argnums, len(args), "grad")
        partial, chosen = argnums_partial(functools.partial(fun, **kwargs) if kwargs else fun, nums, args)
        _check_inputs(lambda aval: _check_grad_input("grad", aval, holomorphic, allow_int), "grad", fun, args, nums)
        leaves, in_tree = tree_flatten(tuple(chosen))
        out, vjp_fun, aux = _vjp(partial, leaves, in_tree, has_aux, "grad")
        _check_scalar(fun, out)
        aval = get_aval(out)
        _check_grad_output("grad", aval, holomorphic)
        gradients = vjp_fun(_one(aval))
        gradient = gradients[0] if hasattr(argnums, "__index__") else tuple(gradients)
        return ((out, aux) if has_aux else out), gradient

    return value_and_grad_f


def _one(aval):
    """The cotangent 1; a literal, so that the backward pass of a scalar carries no array for it."""
    return ops.full(aval, 1)


def _check_inputs(check: Callable, what: str, fun, args, nums) -> None:
    """``check(aval)`` of each leaf that is differentiated by; its TypeError gets the name of the leaf."""
    for k, x in enumerate(tree_leaves([args[i] for i in nums])):
        try:
            aval = shaped_abstractify(x)
        except TypeError:
            name = leaf_name(fun, args, nums, k)
            raise TypeError(
                f"Argument '{x}' of type {type(x)} is not a valid JAX type. {what} differentiates by `{name}` of "
                f"{function_name(fun)}, which must be an "
                "array, a number or a container of them; name other arguments with argnums."
            ) from None
        try:
            check(aval)
        except TypeError as error:
            raise TypeError(
                f"{error} The argument is `{leaf_name(fun, args, nums, k)}` of {function_name(fun)}, of "
                f"type {aval.str_short()}."
            ) from None


def _check_grad_input(what, aval, holomorphic, allow_int) -> None:
    if holomorphic:
        if not dtypes.is_complex(aval.dtype):
            raise TypeError(f"{what} with holomorphic=True requires inputs with complex dtype, but got {aval.dtype}.")
        return
    if dtypes.is_inexact(aval.dtype) or allow_int:
        return
    raise TypeError(
        f"{what} requires real- or complex-valued inputs (input dtype that is a sub-dtype of np.inexact), but got "
        f"{aval.dtype}. "
        "If you want to use Boolean- or integer-valued inputs, use vjp or set allow_int to True."
    )


def _check_scalar(fun, out) -> None:
    message = "Gradient only defined for scalar-output functions. Output "
    try:
        aval = get_aval(out)
    except TypeError:
        raise TypeError(
            f"{message}was {_describe_output(out)}. Return one number from {function_name(fun)}, or use "
            "has_aux=True, vjp or jacrev."
        ) from None
    if aval.shape != ():
        raise TypeError(
            f"{message}had shape: {aval.shape}. Sum or average the result of {function_name(fun)}, or "
            "use jacrev or vjp."
        )


def _describe_output(out) -> str:
    leaves = tree_flatten_with_path(out)[0]
    if len(leaves) == 1 and not leaves[0][0]:
        return f"a value of type {get_aval(out).str_short()}"
    return (
        f"a {type(out).__name__} with leaves {', '.join(keystr(path) for path, _ in leaves[:5])}"
        if leaves
        else repr(out)
    )


def _check_grad_output(what, aval, holomorphic) -> None:
    if holomorphic:
        if not dtypes.is_complex(aval.dtype):
            raise TypeError(f"{what} with holomorphic=True requires outputs with complex dtype, but got {aval.dtype}.")
    elif dtypes.is_complex(aval.dtype):
        raise TypeError(
            f"{what} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
            f"{aval.dtype}. For holomorphic differentiation, pass holomorphic=True. For differentiation of "
            "non-holomorphic functions involving complex outputs, use jax.vjp directly."
        )
    elif not dtypes.is_floating(aval.dtype):
        raise TypeError(
            f"{what} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
            f"{aval.dtype}. "
            "For differentiation of functions with integer outputs, use jax.vjp directly."
        )


# -- Jacobians -------------------------------------------------------------------------------------


def jacfwd(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """The Jacobian, column by column in forward mode: good for tall ones.

    Args:
      fun: a function of arrays or pytrees.
      argnums: which positional arguments to differentiate by.
      has_aux: whether ``fun`` returns ``(output, aux)``.
      holomorphic: whether ``fun`` is complex differentiable.

    Returns:
      A function of the same arguments returning, for each leaf of the output and each leaf of the
      argument, an array of shape output + argument.
    """
    check_callable(fun, "jacfwd")

    @api_boundary
    @_wraps(fun, f"Jacobian of {function_name(fun)} with respect to positional argument(s) {argnums}.")
    def jacfun(*args, **kwargs):
        nums = normalize_argnums(argnums, len(args), "jacfwd")
        partial, chosen = argnums_partial(functools.partial(fun, **kwargs) if kwargs else fun, nums, args)
        _check_inputs(lambda aval: _check_jac_input("jacfwd", aval, holomorphic), "jacfwd", fun, args, nums)
        single = hasattr(argnums, "__index__")
        target = chosen[0] if single else tuple(chosen)
        call = partial if single else (lambda xs: partial(*xs))

        def pushforward(t):
            result = jvp(call, (target,), (t,), has_aux=has_aux)
            return result[0], result[1], result[2] if has_aux else None

        y, jac, aux = vmap(pushforward, out_axes=(None, -1, None))(_standard_basis(target))
        if holomorphic:
            for leaf in tree_leaves(y):
                _check_grad_output("jacfwd", get_aval(leaf), holomorphic)
        jac_tree = tree_map(lambda out, j: _split_axis(target, j, -1, out), y, jac)
        return (jac_tree, aux) if has_aux else jac_tree

    return jacfun


def jacrev(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable:
    """The Jacobian, row by row in reverse mode: good for wide ones. Arguments and result as in `jacfwd`."""
    check_callable(fun, "jacrev")

    @api_boundary
    @_wraps(fun, f"Jacobian of {function_name(fun)} with respect to positional argument(s) {argnums}.")
    def jacfun(*args, **kwargs):
        nums = normalize_argnums(argnums, len(args), "jacrev")
        partial, chosen = argnums_partial(functools.partial(fun, **kwargs) if kwargs else fun, nums, args)
        _check_inputs(lambda aval: _check_grad_input("jacrev", aval, holomorphic, allow_int), "jacrev", fun, args, nums)
        single = hasattr(argnums, "__index__")
        target = chosen[0] if single else tuple(chosen)
        call = partial if single else (lambda xs: partial(*xs))
        leaves, in_tree = tree_flatten((target,))
        y, pullback, aux = _vjp(call, leaves, in_tree, has_aux, "jacrev")
        for leaf in tree_leaves(y):
            _check_grad_output("jacrev", get_aval(leaf), holomorphic)
        jac = vmap(pullback)(_standard_basis(y))[0]
        per_input = tree_map(lambda x, j: _split_axis(y, j, 0, x), target, jac)
        jac_tree = tree_transpose(tree_structure(target), tree_structure(y), per_input)
        return (jac_tree, aux) if has_aux else jac_tree

    return jacfun


jacobian = jacrev


def hessian(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """The Hessian: forward over reverse mode. Arguments as in `jacfwd`."""
    return jacfwd(jacrev(fun, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)


def _check_jac_input(what, aval, holomorphic) -> None:
    dtype = aval.dtype
    if holomorphic:
        if not dtypes.is_complex(dtype):
            raise TypeError(f"{what} with holomorphic=True requires inputs with complex dtype, but got {dtype}.")
    elif not dtypes.is_floating(dtype):
        raise TypeError(
            f"{what} requires real-valued inputs (input dtype that is a sub-dtype of np.floating), but got {dtype}. "
            "For holomorphic differentiation, pass holomorphic=True. "
            "For differentiation of non-holomorphic functions involving complex inputs or integer inputs, use "
            "jax.jvp directly."
        )


def _standard_basis(tree):
    """A batch of the unit vectors of a tree's leaves, concatenated; each of its leaf's type."""
    leaves, structure = tree_flatten(tree)
    avals = [shaped_abstractify(x) for x in leaves]
    total, start, blocks = sum(a.size for a in avals), 0, []
    for aval in avals:
        if dtypes.is_inexact(aval.dtype):
            rows = ops.reshape(ops.eye_rows(total, aval.size, start, aval.dtype), (total, *aval.shape))
            blocks.append(ops.convert(rows, aval.dtype, aval.weak_type))
        else:
            blocks.append(np.zeros((total, *aval.shape), dtypes.float0))
        start += aval.size
    return tree_unflatten(structure, blocks)


def _split_axis(tree, x, axis, example):
    """Split an axis of stacked unit directions into the leaves of ``tree``; the parts get the type
    of ``example``, the other side's leaf.
    """
    leaves, structure = tree_flatten(tree)
    axis, aval = axis % x.ndim, shaped_abstractify(example)
    parts = []
    sizes = [math.prod(np.shape(leaf)) for leaf in leaves]
    pieces = [x] * len(leaves) if _is_float0(x) or len(leaves) == 1 else ops.split(x, sizes, axis)
    for leaf, piece in zip(leaves, pieces, strict=True):
        shape = np.shape(leaf)
        shape = (*x.shape[:axis], *shape, *x.shape[axis + 1 :])
        if _is_float0(x):  # the Jacobian of or by integers is zero, of a dtype that can be computed with
            parts.append(ops.full(shaped_array(shape, aval.dtype, aval.weak_type), 0))
        else:
            part = ops.reshape(piece, shape)
            if dtypes.is_complex(part.dtype) and not dtypes.is_complex(aval.dtype):
                part = ops.real(part)
            parts.append(ops.convert(part, aval.dtype, aval.weak_type))
    return tree_unflatten(structure, parts)


# -- transposition ---------------------------------------------------------------------------------


@api_boundary
def linear_transpose(fun: Callable, *primals, reduce_axes=()) -> Callable:
    """The transpose of a linear function.

    Args:
      fun: a function linear in all its arguments.
      *primals: arguments, or `ShapeDtypeStruct`s, that give the types.

    Returns:
      A function from the output's cotangent to a tuple of the arguments', which is a pytree, too.

    Raises:
      TypeError: if ``fun`` turns out not to be linear.
    """
    leaves, in_tree = tree_flatten(primals)
    avals = [shaped_abstractify(x) for x in leaves]
    flat, info = _flat_with_aux(fun, in_tree, False, "linear_transpose")
    closed = trace_to_jaxpr(flat, avals, debug_info_of("linear_transpose", fun))
    out_tree = info[0]
    out_avals = closed.out_avals
    for kind in (dtypes.is_inexact, dtypes.is_integer):
        if all(kind(a.dtype) for a in (*avals, *out_avals)):
            break
    else:
        shown = lambda avals: ", ".join(a.dtype.name for a in avals)
        raise TypeError(
            "linear_transpose only supports [float or complex] -> [float or complex], and integer -> integer "
            "functions, but got "
            f"{shown(avals)} -> {shown(out_avals)}."
        )

    @api_boundary
    def transposed(consts, cotangent):
        cts, tree = tree_flatten(cotangent)
        if tree != out_tree:
            raise TypeError(f"cotangent tree does not match function output, expected {out_tree} but got {tree}")
        for a, ct in zip(out_avals, cts, strict=True):
            if get_aval(ct).shape != a.shape or get_aval(ct).dtype != a.dtype:
                raise TypeError(
                    f"cotangent type does not match function output, expected {a.str_short()} but got "
                    f"{get_aval(ct).str_short()}"
                )
        results = backward_pass(closed.jaxpr, consts, [UndefinedPrimal(v.aval) for v in closed.jaxpr.invars], cts)
        return tree_unflatten(in_tree, [_public_tangent(ct) for ct in results])

    return Partial(transposed, closed.consts)


def fwd_and_bwd(
    fun: Callable, argnums: int | Sequence[int], has_aux: bool = False, jitted: bool = True
) -> tuple[Callable, Callable]:
    """Split differentiation in two functions.

    Args:
      fun: a function of arrays or pytrees.
      argnums: which arguments to differentiate by.
      has_aux: whether ``fun`` returns ``(output, aux)``.
      jitted: whether both are compiled.

    Returns:
      ``fwd(*args) -> (out, vjp_fun)`` (and aux), and ``bwd(vjp_fun, cotangent) -> cotangents``.
    """

    def fwd(*args, **kwargs):
        nums = normalize_argnums(argnums, len(args), "fwd_and_bwd")
        partial, chosen = argnums_partial(functools.partial(fun, **kwargs) if kwargs else fun, nums, args)
        return vjp(partial, *chosen, has_aux=has_aux)

    def bwd(vjp_fun, cotangent):
        results = vjp_fun(cotangent)
        return results[0] if hasattr(argnums, "__index__") else results

    return (jit(fwd), jit(bwd)) if jitted else (fwd, bwd)
