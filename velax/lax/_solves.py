"""Solutions of equations with derivatives by the implicit function theorem: `custom_linear_solve` and `custom_root`.

The solver is the user's; derivatives do not look inside of it. For ``A x = b`` they solve the same system
again, with ``db - dA x`` (forward) or the transposed system (reverse); for ``f(x, theta) = 0`` they solve
with the Jacobian of ``f``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from velax._lang.avals import typematch
from velax._lang.primitive import define
from velax._lang.trace import as_array, get_aval
from velax._transforms.arguments import check_callable
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.custom_jvp import custom_jvp
from velax._transforms.differentiate import jvp, linear_transpose, linearize
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.zero import Zero, instantiate_zeros, zeros_like_aval
from velax.lax._arithmetic import neg, sub
from velax.lax._loop_tools import argument_tree, flatten_values, group, trace_body
from velax.tree_util import tree_unflatten

__all__ = ["custom_linear_solve", "custom_linear_solve_p", "custom_root"]


def _check_result(operation: str, what: str, expected_tree, expected_avals, tree, avals, reference: str) -> None:
    """TypeError or ValueError unless a function's result has the structure and the types of ``reference``."""
    if tree != expected_tree:
        raise TypeError(
            f"{operation}: {what}() output pytree structure must match that of {reference}, got {tree} where "
            f"{reference} has {expected_tree}."
        )
    if not all(map(typematch, avals, expected_avals)):
        show = lambda avals: ", ".join(a.str_short() for a in avals)
        raise ValueError(
            f"{operation}: {what}() output shapes and dtypes must match those of {reference}, got {show(avals)} "
            f"where {reference} has {show(expected_avals)}."
        )


def _trace(
    operation: str,
    what: str,
    fun: Callable,
    in_tree,
    in_avals,
    out_tree,
    out_avals,
    reference: str,
    has_aux: bool = False,
):
    """Trace a function whose result, without ``aux``, is like ``reference``; its jaxpr, captured values and
    result's tree.
    """
    closed, consts, tree = trace_body(f"{operation} {what}", fun, in_tree, in_avals)
    result, avals = tree, closed.out_avals
    if has_aux:
        parts = tree.children()
        if tree.num_nodes == 1 or len(parts) != 2 or not isinstance(tree_unflatten(tree, avals), tuple):
            raise TypeError(
                f"{operation}: {what}() must return a pair (solution, aux) with has_aux=True, got a result of "
                f"structure {tree}."
            )
        result, avals = parts[0], avals[: parts[0].num_leaves]
    _check_result(operation, what, out_tree, out_avals, result, avals, reference)
    return closed, consts, tree


# -- linear systems ------------------------------------------------------------------------------


def custom_linear_solve(
    matvec: Callable,
    b: Any,
    solve: Callable,
    transpose_solve: Callable | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
):
    """Solve ``A x = b`` by a given solver, with derivatives of any order by ``matvec`` and ``b``.

    Args:
      matvec: the linear function ``x -> A x``; what it closes over is differentiated by.
      b: the right-hand side, an array or a pytree.
      solve: ``solve(matvec, b) -> x``, e.g. an iteration; it need not be differentiable.
      transpose_solve: ``transpose_solve(vecmat, b) -> x``, the solver of the transposed system,
        needed by reverse mode unless ``symmetric``.
      symmetric: whether ``A`` is its own transpose, so that ``solve`` serves for both.
      has_aux: whether the solvers return ``(x, aux)``; ``aux`` has no derivative.

    Returns:
      ``x``, in the structure of ``b``; ``(x, aux)`` with aux.

    Raises:
      TypeError: if ``matvec`` or a solver returns another structure than that of ``b``.
      ValueError: if the shapes or dtypes differ.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> def divide(a, b):
      ...     return velax.lax.custom_linear_solve(lambda x: a * x, b, lambda _, b: b / a, lambda _, b: b / a)
      >>> [float(g) for g in velax.grad(divide, argnums=(0, 1))(2.0, 6.0)]
      [-1.5, 0.5]
    """
    name = "custom_linear_solve"
    for f in (matvec, solve) if transpose_solve is None else (matvec, solve, transpose_solve):
        check_callable(f, name)
    if symmetric and transpose_solve is not None:
        raise TypeError(
            f"{name}: transpose_solve is for systems that are not symmetric; give symmetric=True or "
            "transpose_solve, not both."
        )
    leaves, tree = flatten_values(b)
    leaves = [as_array(x) for x in leaves]
    avals, in_tree = [get_aval(x) for x in leaves], argument_tree(tree)
    product, product_consts, _ = _trace(name, "matvec", matvec, in_tree, avals, tree, avals, "b")
    solver, solver_consts, out_tree = _trace(
        name, "solve", lambda b: solve(matvec, b), in_tree, avals, tree, avals, "b", has_aux
    )
    jaxprs, consts = [product, solver], [product_consts, solver_consts]
    if symmetric:
        jaxprs, consts = 2 * jaxprs, 2 * consts
    elif transpose_solve is not None:
        vecmat = lambda ct: linear_transpose(matvec, tree_unflatten(tree, avals))(ct)[0]
        tr_product, tr_product_consts, _ = _trace(name, "vecmat", vecmat, in_tree, avals, tree, avals, "b")
        tr_solve = lambda b: transpose_solve(vecmat, b)
        tr_solver, tr_solver_consts, _ = _trace(
            name, "transpose_solve", tr_solve, in_tree, avals, tree, avals, "b", has_aux
        )
        jaxprs, consts = [*jaxprs, tr_product, tr_solver], [*consts, tr_product_consts, tr_solver_consts]
    params = {"jaxprs": tuple(jaxprs), "const_lengths": tuple(map(len, consts))}
    outs = custom_linear_solve_p.bind(*itertools.chain(*consts), *leaves, **params)
    return tree_unflatten(out_tree, outs)


# The parameters: `jaxprs` are the product and the solver, and where the transposed system is known, its
# product and its solver. The first inputs of each, as many as `const_lengths` says, are what it closes over;
# these come first among the operands.


def _solve_jvp(primals, tangents, *, const_lengths, **params):
    product_consts, *_, b = group(primals, *const_lengths)
    product_dots, *_, b_dots = group(tangents, *const_lengths)
    consts, n = primals[: len(primals) - len(b)], len(b)
    outs = custom_linear_solve_p.bind(*primals, const_lengths=const_lengths, **params)
    rhs = [instantiate_zeros(t) for t in b_dots]
    nonzeros = [type(t) is not Zero for t in product_dots]
    if any(nonzeros):
        derived, _ = jvp_jaxpr(params["jaxprs"][0], nonzeros + [False] * n, True)
        dots = [t for t in product_dots if type(t) is not Zero]
        change = jaxpr_as_fun(derived)(*product_consts, *outs[:n], *dots)[n:]
        rhs = [sub(r, c) for r, c in zip(rhs, change, strict=True)]
    dots = custom_linear_solve_p.bind(*consts, *rhs, const_lengths=const_lengths, **params)
    return outs, [*dots[:n], *(Zero.from_primal_value(aux) for aux in outs[n:])]


def _solve_transpose(cts, *args, jaxprs, const_lengths):
    if len(jaxprs) == 2:
        raise TypeError(
            "transpose_solve required for backwards mode automatic differentiation of custom_linear_solve; pass it, or "
            "symmetric=True."
        )
    *consts, b = group(args, *const_lengths)
    swapped = [x for i in (2, 3, 0, 1) for x in consts[i]]
    params = {"jaxprs": jaxprs[2:] + jaxprs[:2], "const_lengths": const_lengths[2:] + const_lengths[:2]}
    outs = custom_linear_solve_p.bind(*swapped, *map(instantiate_zeros, cts[: len(b)]), **params)
    return [*[None] * (len(args) - len(b)), *outs[: len(b)]]


def _solve_batch(axis_data, args, dims, *, jaxprs, const_lengths):
    """The right-hand side and all results are mapped; what the functions close over only where it is."""
    *_, b = group(args, *const_lengths)
    n = len(args) - len(b)
    values = [
        x if d is None and i < n else matchaxis(axis_data.size, d, 0, x)
        for i, (x, d) in enumerate(zip(args, dims, strict=True))
    ]
    mapped = group([d is not None for d in dims], *const_lengths)
    batched = (
        batch_jaxpr(j, axis_data, [*flags, *[True] * len(b)], True)[0] for j, flags in zip(jaxprs, mapped, strict=False)
    )
    outs = custom_linear_solve_p.bind(*values, jaxprs=tuple(batched), const_lengths=const_lengths)
    return outs, [0] * len(outs)


def _solve_lower(ctx, *args, jaxprs, const_lengths):
    parts = group(args, *const_lengths)
    return ctx.inline(jaxprs[1], [*parts[1], *parts[-1]])


custom_linear_solve_p = define(
    "custom_linear_solve",
    abstract_eval=lambda *avals, jaxprs, **_: (jaxprs[1].out_avals, jaxprs[1].effects),
    lower=_solve_lower,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=None,
    batch_axis=_solve_batch,
    multiple_results=True,
    effectful=True,
)


# -- roots ---------------------------------------------------------------------------------------


def custom_root(f: Callable, initial_guess: Any, solve: Callable, tangent_solve: Callable, has_aux: bool = False):
    """Find a root of a function by a given solver, with derivatives of any order by what the function closes over.

    Args:
      f: the function whose root is wanted; its result has the structure of its argument.
      initial_guess: where the search begins, an array or a pytree. The root's derivative by it is
        zero.
      solve: ``solve(f, initial_guess) -> root``; it need not be differentiable.
      tangent_solve: ``tangent_solve(g, y) -> x`` with ``g(x) == y`` for the linear ``g``, the
        derivative of ``f`` at the root. For reverse mode it must be linear in ``y``: ``y / g(1.0)``
        for numbers, a matrix solve, `custom_linear_solve`.
      has_aux: whether ``solve`` returns ``(root, aux)``; ``aux`` has no derivative.

    Returns:
      The root; ``(root, aux)`` with aux.

    Raises:
      TypeError: if a function returns another structure than that of the guess.
      ValueError: if the shapes or dtypes differ.

    Example:
      >>> import velax
      >>> def sqrt(a):
      ...     newton = lambda f, x: velax.lax.fori_loop(0, 20, lambda _, x: x - f(x) / (2 * x), x)
      ...     return velax.lax.custom_root(lambda x: x**2 - a, a, newton, lambda g, y: y / g(1.0))
      >>> float(velax.grad(sqrt)(4.0))
      0.25
    """
    name = "custom_root"
    for function in (f, solve, tangent_solve):
        check_callable(function, name)
    leaves, tree = flatten_values(initial_guess)
    leaves = [as_array(x) for x in leaves]
    avals, n = [get_aval(x) for x in leaves], len(leaves)
    guess = (argument_tree(tree), avals, tree, avals, "initial_guess")
    f_jaxpr, f_consts, _ = _trace(name, "f", f, *guess)
    solve_jaxpr, solve_consts, out_tree = _trace(name, "solve", lambda x: solve(f, x), *guess, has_aux)
    at_root = lambda x, y: tangent_solve(linearize(f, x)[1], y)
    tangent_jaxpr, tangent_consts, _ = _trace(
        name, "tangent_solve", at_root, argument_tree(tree, tree), [*avals, *avals], *guess[2:]
    )

    # What is closed over is passed in, so that its tangents reach the rule.
    @custom_jvp
    def root(f_consts, solve_consts, tangent_consts, guess):
        return jaxpr_as_fun(solve_jaxpr)(*solve_consts, *guess)

    @root.defjvp
    def root_jvp(primals, tangents):
        f_consts, _, tangent_consts, _ = primals
        outs = root(*primals)
        x = outs[:n]
        _, change = jvp(lambda *consts: jaxpr_as_fun(f_jaxpr)(*consts, *x), tuple(f_consts), tuple(tangents[0]))
        dots = jaxpr_as_fun(tangent_jaxpr)(*tangent_consts, *x, *change)
        return outs, [*map(neg, dots), *(zeros_like_aval(get_aval(a).to_tangent_aval()) for a in outs[n:])]

    return tree_unflatten(out_tree, root(list(f_consts), list(solve_consts), list(tangent_consts), leaves))
