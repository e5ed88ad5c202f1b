"""``scan`` and what is built on it: loops with a known number of steps."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from velax._lang.avals import ShapedArray, shaped_array
from velax._lang.config import config
from velax._lang.effects import JaxprInputEffect, no_effects
from velax._lang.jaxpr import ClosedJaxpr, DropVar, Jaxpr, Literal, Var
from velax._lang.primitive import define
from velax._lang.trace import get_aval
from velax._transforms.batching import batch_jaxpr, matchaxis
from velax._transforms.calls import dce_closed
from velax._transforms.evaluate import eval_jaxpr
from velax._transforms.jvp import jvp_jaxpr
from velax._transforms.linearize import linearize_jaxpr
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.transpose import backward_pass
from velax._transforms.vectorize import vmap
from velax._transforms.zero import UndefinedPrimal, Zero, add_tangents, instantiate_zeros, ops, zeros_like_aval
from velax.lax._loop_tools import (
    argument_tree,
    check_carry,
    flatten_values,
    give_result,
    group,
    permuted,
    promote_carry,
    trace_body,
)
from velax.tree_util import tree_flatten, tree_map, tree_unflatten

__all__ = ["map", "scan", "scan_p"]


def _scan_type(*avals, jaxpr, length, num_consts, num_carry, reverse, unroll):
    consts, carry, xs = group(avals, num_consts, num_carry)
    expected = jaxpr.in_avals
    for i, (a, b) in enumerate(zip(avals, expected, strict=True)):
        shape = a.shape[1:] if i >= num_consts + num_carry else a.shape
        if (shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(f"scan: operand {i} has type {a.str_short()}, but the body takes {b.str_short()}")
    outs = jaxpr.out_avals
    ys = [shaped_array((length, *a.shape), a.dtype, a.weak_type) for a in outs[num_carry:]]
    return [*outs[:num_carry], *ys], jaxpr.effects


def _carry_fixpoint(num_consts, num_carry, flags, step):
    """Grow the carry's flags until ``step(flags) -> out flags`` adds none."""
    consts, carry, xs = group(list(flags), num_consts, num_carry)
    for _ in range(num_carry + 1):
        result, out = step([*consts, *carry, *xs], carry)
        grown = [a or b for a, b in zip(carry, out[:num_carry], strict=True)]
        if grown == carry:
            return result, carry, out
        carry = grown
    raise AssertionError("the carry's flags did not settle")


def _jvp(primals, tangents, *, jaxpr, length, num_consts, num_carry, reverse, unroll):
    nonzeros = [type(t) is not Zero for t in tangents]
    n_ys = len(jaxpr.out_avals) - num_carry

    def step(flags, carry):
        derived, out = jvp_jaxpr(jaxpr, flags, [*carry, *[False] * n_ys])
        return (derived, flags), out

    (derived, flags), carry_flags, out = _carry_fixpoint(num_consts, num_carry, nonzeros, step)
    n = len(primals)
    groups = (num_consts, num_carry, n - num_consts - num_carry)
    in_primal, in_tangent, start, t = [], [], 0, n
    for size in groups:
        in_primal.append(list(range(start, start + size)))
        live = sum(flags[start : start + size])
        in_tangent.append(list(range(t, t + live)))
        start, t = start + size, t + live
    n_outs = len(jaxpr.out_avals)
    n_carry_t, n_ys_t = sum(out[:num_carry]), sum(out[num_carry:])
    order_in = [i for p, q in zip(in_primal, in_tangent, strict=True) for i in (*p, *q)]
    order_out = [
        *range(num_carry), *range(n_outs, n_outs + n_carry_t), *range(num_carry, n_outs), *range(n_outs + n_carry_t, n_outs + n_carry_t + n_ys_t),
    ]  # fmt: skip
    body = jaxpr.memo(("scan jvp", tuple(flags), tuple(out)), lambda: permuted(derived, order_in, order_out))
    values = [*primals, *(instantiate_zeros(tan) for tan, f in zip(tangents, flags, strict=True) if f)]
    outs = scan_p.bind(
        *(values[i] for i in order_in), jaxpr=body, length=length, num_consts=num_consts + len(in_tangent[0]),
        num_carry=num_carry + n_carry_t, reverse=reverse, unroll=unroll,
    )  # fmt: skip
    carry, carry_t, ys, ys_t = group(outs, num_carry, n_carry_t, n_ys)
    primal_outs = [*carry, *ys]
    given = iter([*carry_t, *ys_t])
    return primal_outs, [next(given) if f else Zero(get_aval(x).to_tangent_aval()) for f, x in zip(out, primal_outs, strict=True)]


def _linearize(nonzeros, *primals, jaxpr, length, num_consts, num_carry, reverse, unroll):
    n_ys = len(jaxpr.out_avals) - num_carry

    def step(flags, carry):
        split = linearize_jaxpr(jaxpr, flags, [*carry, *[False] * n_ys])
        return (split, flags), split.out_nonzeros

    (split, flags), _, out_nonzeros = _carry_fixpoint(num_consts, num_carry, nonzeros, step)
    n_fixed = num_consts + num_carry
    # a residual that is a constant stays one; one that is a slice of xs is read from xs; the others are stacked as results
    stacked = [i is None or num_consts <= i < n_fixed for i in split.forwarded]
    primal = split.primal.jaxpr
    computed = iter(primal.outvars[split.n_outs :])
    extra = []
    for i, s in zip(split.forwarded, stacked, strict=True):
        var = next(computed) if i is None else primal.invars[i]
        if s:
            extra.append(var)
    body = jaxpr.memo(
        ("scan primal", tuple(flags), tuple(out_nonzeros)),
        lambda: split.primal.replace(jaxpr=primal.replace(outvars=[*primal.outvars[: split.n_outs], *extra])),
    )
    outs = scan_p.bind(
        *primals, jaxpr=body, length=length, num_consts=num_consts, num_carry=num_carry, reverse=reverse, unroll=unroll
    )
    results, residual_ys = outs[: split.n_outs], iter(outs[split.n_outs :])
    residuals = [next(residual_ys) if s else primals[i] for i, s in zip(split.forwarded, stacked, strict=True)]
    invariant = [not s and i < num_consts for i, s in zip(split.forwarded, stacked, strict=True)]
    n_res = len(residuals)
    c_t, carry_t, x_t = (sum(f) for f in group(flags, num_consts, num_carry))
    fixed = [k for k in range(n_res) if invariant[k]]
    sliced = [k for k in range(n_res) if not invariant[k]]
    order = [*fixed, *range(n_res, n_res + c_t), *range(n_res + c_t, n_res + c_t + carry_t), *sliced, *range(n_res + c_t + carry_t, n_res + c_t + carry_t + x_t)]
    linear_body = jaxpr.memo(("scan tangent", tuple(flags), tuple(out_nonzeros)), lambda: permuted(split.tangent, order))

    def linear(*tangents):
        given = iter(tangents)
        full = [
            (next(given) if nz else zeros_like_aval(get_aval(p).to_tangent_aval())) if f else None
            for f, nz, p in zip(flags, nonzeros, primals, strict=True)
        ]
        consts, carry, xs = ([t for t in part if t is not None] for part in group(full, num_consts, num_carry))
        args = [*(residuals[k] for k in fixed), *consts, *carry, *(residuals[k] for k in sliced), *xs]
        return scan_p.bind(
            *args, jaxpr=linear_body, length=length, num_consts=len(fixed) + len(consts), num_carry=len(carry), reverse=reverse, unroll=unroll
        )

    return results, out_nonzeros, linear


def _transpose(cts, *args, jaxpr, length, num_consts, num_carry, reverse, unroll):
    linear = [type(x) is UndefinedPrimal for x in args]
    c_lin, carry_lin, x_lin = group(linear, num_consts, num_carry)
    if not all(carry_lin):
        return _transpose_with_known_carry(cts, args, linear, jaxpr, length, num_consts, num_carry, reverse, unroll)
    ct_carry = [instantiate_zeros(ct) for ct in cts[:num_carry]]
    ct_ys = [instantiate_zeros(ct) for ct in cts[num_carry:]]
    consts, _, xs = group(list(args), num_consts, num_carry)
    c_res = [x for x, lin in zip(consts, c_lin, strict=True) if not lin]
    x_res = [x for x, lin in zip(xs, x_lin, strict=True) if not lin]
    ct_consts = [zeros_like_aval(x.aval.to_tangent_aval()) for x, lin in zip(consts, c_lin, strict=True) if lin]
    body = jaxpr.memo(("scan transpose", tuple(linear)), lambda: _transposed_body(jaxpr, c_lin, x_lin, num_consts, num_carry))
    outs = scan_p.bind(
        *c_res, *ct_consts, *ct_carry, *ct_ys, *x_res, jaxpr=body, length=length, num_consts=len(c_res),
        num_carry=len(ct_consts) + num_carry, reverse=not reverse, unroll=unroll,
    )  # fmt: skip
    given_consts, given_carry, given_xs = (iter(part) for part in _fold(outs, (len(ct_consts), num_carry)))
    return [
        *(next(given_consts) if lin else None for lin in c_lin),
        *given_carry,
        *(next(given_xs) if lin else None for lin in x_lin),
    ]


def _transposed_body(jaxpr, c_lin, x_lin, num_consts, num_carry):
    """``(c_res, ct_consts, ct_carry, ct_ys, x_res) -> (ct_consts, ct_carry, ct_xs)`` of one step."""
    in_avals = jaxpr.in_avals
    c_avals, carry_avals, x_avals = group(in_avals, num_consts, num_carry)
    out_avals = jaxpr.out_avals
    n_c_res, n_c_lin = c_lin.count(False), c_lin.count(True)
    n_ys = len(out_avals) - num_carry

    def run(*args):
        c_res, ct_consts, ct_carry, ct_ys, x_res = group(list(args), n_c_res, n_c_lin, num_carry, n_ys)
        c_given, x_given = iter(c_res), iter(x_res)
        operands = [
            *(UndefinedPrimal(a) if lin else next(c_given) for lin, a in zip(c_lin, c_avals, strict=True)),
            *(UndefinedPrimal(a) for a in carry_avals),
            *(UndefinedPrimal(a) if lin else next(x_given) for lin, a in zip(x_lin, x_avals, strict=True)),
        ]
        results = backward_pass(jaxpr.jaxpr, jaxpr.consts, operands, [*ct_carry, *ct_ys])
        d_consts, d_carry, d_xs = group(results, num_consts, num_carry)
        d_consts = [ct for ct, lin in zip(d_consts, c_lin, strict=True) if lin]
        summed = [old if type(new) is Zero else ops.add(old, new) for old, new in zip(ct_consts, d_consts, strict=True)]
        return [*summed, *map(instantiate_zeros, d_carry), *(instantiate_zeros(ct) for ct, lin in zip(d_xs, x_lin, strict=True) if lin)]

    pick = lambda avals, flags, want: [a for a, f in zip(avals, flags, strict=True) if f == want]
    tangent = lambda avals: [a.to_tangent_aval() for a in avals]
    avals = [
        *pick(c_avals, c_lin, False), *tangent(pick(c_avals, c_lin, True)), *tangent(out_avals[:num_carry]), *tangent(out_avals[num_carry:]),
        *pick(x_avals, x_lin, False),
    ]  # fmt: skip
    return trace_to_jaxpr(run, [a.strip_weak_type() for a in avals])


def _transpose_with_known_carry(cts, args, linear, jaxpr, length, num_consts, num_carry, reverse, unroll):
    """Some carries are not linear (counters): run their part first, saving each step's value, then transpose with these as slices."""
    carry_lin = linear[num_consts : num_consts + num_carry]
    known_carry = [i for i, lin in enumerate(carry_lin) if not lin]
    used = [i in known_carry for i in range(num_carry)] + [False] * (len(jaxpr.out_avals) - num_carry)
    smaller, used_inputs = dce_closed(jaxpr, used)
    wanted = [*range(num_consts), *(num_consts + i for i in known_carry), *range(num_consts + num_carry, len(args))]
    if any(u and (linear[i] or i not in wanted) for i, u in enumerate(used_inputs)):
        raise NotImplementedError("scan: a carry that is not linear depends on linear inputs, so the scan cannot be transposed")
    invars = smaller.jaxpr.invars
    given = iter(invars)
    by_position = {i: next(given) for i, u in enumerate(used_inputs) if u}
    body_in = [by_position.get(i) or Var(jaxpr.in_avals[i]) for i in wanted if not linear[i]]
    carry_vars = [v for i, v in zip([i for i in wanted if not linear[i]], body_in, strict=True) if num_consts <= i < num_consts + num_carry]
    body = smaller.replace(jaxpr=smaller.jaxpr.replace(invars=body_in, outvars=[*smaller.jaxpr.outvars, *carry_vars]))
    operands = [args[i] for i in wanted if not linear[i]]
    n_c = sum(not lin for lin in linear[:num_consts])
    outs = scan_p.bind(*operands, jaxpr=body, length=length, num_consts=n_c, num_carry=len(known_carry), reverse=reverse, unroll=unroll)
    histories = outs[len(known_carry) :]
    # the known carries become slices of xs
    n_fixed = num_consts + num_carry
    lin_carry = [i for i in range(num_carry) if carry_lin[i]]
    order = [*range(num_consts), *(num_consts + i for i in lin_carry), *range(n_fixed, len(args)), *(num_consts + i for i in known_carry)]
    order_out = [*lin_carry, *range(num_carry, len(jaxpr.out_avals))]
    reduced = permuted(jaxpr, order, order_out)
    new_args = [*(args[i] for i in order[: len(order) - len(known_carry)]), *histories]
    results = _transpose(
        [*(cts[i] for i in lin_carry), *cts[num_carry:]], *new_args, jaxpr=reduced, length=length, num_consts=num_consts,
        num_carry=len(lin_carry), reverse=reverse, unroll=unroll,
    )  # fmt: skip
    full: list = [None] * len(args)
    for i, ct in zip(order[: len(order) - len(known_carry)], results, strict=False):
        full[i] = ct
    return full


def _batch(axis_data, args, dims, *, jaxpr, length, num_consts, num_carry, reverse, unroll):
    n_ys = len(jaxpr.out_avals) - num_carry

    def step(flags, carry):
        derived, out = batch_jaxpr(jaxpr, axis_data, flags, [*carry, *[False] * n_ys])
        return derived, out

    flags = [d is not None for d in dims]
    derived, carry, out = _carry_fixpoint(num_consts, num_carry, flags, step)
    placed = []
    for i, (x, d) in enumerate(zip(args, dims, strict=True)):
        if num_consts <= i < num_consts + num_carry:
            placed.append(matchaxis(axis_data.size, d, 0, x) if carry[i - num_consts] else x)
        elif d is None:
            placed.append(x)
        else:
            placed.append(matchaxis(axis_data.size, d, 0 if i < num_consts else 1, x))
    outs = scan_p.bind(
        *placed, jaxpr=derived, length=length, num_consts=num_consts, num_carry=num_carry, reverse=reverse, unroll=unroll
    )
    return outs, [(0 if i < num_carry else 1) if b else None for i, b in enumerate(out)]


def _dce(used_outputs, eqn):
    p = eqn.params
    num_consts, num_carry = p["num_consts"], p["num_carry"]
    used_carry, used_ys = list(used_outputs[:num_carry]), list(used_outputs[num_carry:])
    while True:
        smaller, used_inputs = dce_closed(p["jaxpr"], [*used_carry, *used_ys])
        grown = [a or b for a, b in zip(used_carry, used_inputs[num_consts : num_consts + num_carry], strict=True)]
        if grown == used_carry:
            break
        used_carry = grown
    if not any(used_carry) and not any(used_ys) and not smaller.effects:
        return [False] * len(eqn.invars), None
    # a carry may be needed although its start value is not read in the body: it stays an input
    keep = [*used_inputs[:num_consts], *used_carry, *used_inputs[num_consts + num_carry :]]
    given = iter(smaller.jaxpr.invars)
    names = [next(given) if u else None for u in used_inputs]
    invars = [v or Var(a) for v, a, k in zip(names, p["jaxpr"].in_avals, keep, strict=True) if k]
    body = smaller.replace(jaxpr=smaller.jaxpr.replace(invars=invars))
    params = dict(p, jaxpr=body, num_consts=sum(keep[:num_consts]), num_carry=sum(used_carry))
    outvars = [
        v if w else DropVar(v.aval)
        for v, u, w in zip(eqn.outvars, [*used_carry, *used_ys], used_outputs, strict=True)
        if u
    ]
    return keep, eqn.replace(invars=[x for x, k in zip(eqn.invars, keep, strict=True) if k], outvars=outvars, params=params)


def _lower(ctx, *args, jaxpr, length, num_consts, num_carry, reverse, unroll):
    consts, init, xs = group(list(args), num_consts, num_carry)
    body = ctx.subgraph(jaxpr)
    outs = ctx.builder.scan(body, consts, init, xs, length, reverse)
    ctx.keep(outs, [body])
    return outs


scan_p = define(
    "scan",
    abstract_eval=_scan_type,
    effectful=True,
    lower=_lower,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=None,
    batch_axis=_batch,
    dce=_dce,
    multiple_results=True,
    irrelevant_params=("unroll",),
)
scan_p.rules["physical"] = True


def scan(f: Callable, init, xs=None, length: int | None = None, reverse: bool = False, unroll: int | bool = 1, _split_transpose: bool = False):
    """Loop over the leading axis of arrays, carrying state along.

    Args:
      f: ``f(carry, x) -> (carry, y)``, with the carry's structure and types unchanged.
      init: the first carry, a pytree.
      xs: a pytree of arrays with one leading axis size; ``x`` is one slice; None for no slices.
      length: the number of steps; needed if there are no ``xs``.
      reverse: whether to go from the last slice to the first.
      unroll: how many steps to put together (a hint).

    Returns:
      ``(carry, ys)``: the last carry, and the ``y`` of all steps stacked along a new leading axis.

    Raises:
      TypeError: if the carry changes structure or type, or ``f`` returns no pair.
      ValueError: if the leading sizes differ.

    Example:
      >>> from velax import lax
      >>> import velax.numpy as jnp
      >>> carry, ys = lax.scan(lambda c, x: (c + x, c), 0.0, jnp.arange(4.0))
      >>> float(carry), ys.tolist()
      (6.0, [0.0, 0.0, 1.0, 3.0])
    """
    if not callable(f):
        raise TypeError("lax.scan: f argument should be a callable.")
    x_leaves, x_tree = flatten_values("scan", xs)
    length = _scan_length(x_leaves, length)
    if config.jax_disable_jit:
        return _scan_in_python(f, init, xs, length, reverse)
    init_leaves, init_tree = flatten_values("scan", init)
    x_avals = [_slice_aval(get_aval(x)) for x in x_leaves]
    arg_tree = tree_structure((tree_unflatten(init_tree, [0] * len(init_leaves)), tree_unflatten(x_tree, [0] * len(x_leaves))))
    for _ in range(3):
        init_avals = [get_aval(x) for x in init_leaves]
        jaxpr, consts, out_tree = trace_body("scan", f, arg_tree, [*init_avals, *x_avals])
        out = out_tree.children()
        if len(out) != 2 or out_tree.node_data()[0] not in (tuple, list):
            raise TypeError(f"scan body output must be a pair, got {tree_unflatten(out_tree, jaxpr.out_avals)}. Return (carry, y); y may be None.")
        carry_tree, y_tree = out
        n_carry = carry_tree.num_leaves
        carry_avals = jaxpr.out_avals[:n_carry]
        if carry_tree == init_tree:
            init_leaves, changed = strengthen(init_leaves, init_avals, carry_avals)
            if changed:
                continue
        break
    check_carry("scan", init_tree, init_avals, carry_tree, carry_avals, part="body function")
    steps = operator.index(unroll) if not isinstance(unroll, bool) else (length if unroll else 1)
    outs = scan_p.bind(
        *consts, *init_leaves, *x_leaves, jaxpr=jaxpr, length=length, num_consts=len(consts), num_carry=n_carry, reverse=bool(reverse),
        unroll=max(1, steps),
    )  # fmt: skip
    return tree_unflatten(carry_tree, outs[:n_carry]), tree_unflatten(y_tree, outs[n_carry:])


def _scan_length(leaves, length) -> int:
    sizes = []
    for x in leaves:
        aval = get_aval(x)
        if not isinstance(aval, ShapedArray) or not aval.shape:
            raise ValueError(f"scan got value with no leading axis to scan over: {aval}. Scan over arrays with one entry a step; close over the others or carry them.")
        sizes.append(aval.shape[0])
    if length is not None:
        try:
            length = operator.index(length)
        except TypeError:
            raise TypeError(f"scan: the `length` argument must be a concrete integer, got {length}") from None
        if any(n != length for n in sizes):
            raise ValueError(f"scan got `length` argument of {length} which disagrees with leading axis sizes {sizes}.")
        return length
    if not sizes:
        raise ValueError("scan got no values to scan over and `length` not provided.")
    if len(set(sizes)) > 1:
        raise ValueError(f"scan got values with different leading axis sizes: {', '.join(str(n) for n in sizes)}.")
    return sizes[0]


def _slice_aval(aval):
    return shaped_array(aval.shape[1:], aval.dtype, aval.weak_type)


def _scan_in_python(f, init, xs, length, reverse):
    """With jit disabled, the loop runs in Python."""
    from velax.lax._slicing import concatenate, index_in_dim

    carry, ys = init, []
    for i in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, tree_map(lambda x, i=i: index_in_dim(x, i, keepdims=False), xs))
        ys.append(y)
    if not ys:
        raise ValueError("zero-length scan is not supported in disable_jit() mode because the output type is unknown.")
    if reverse:
        ys.reverse()
    return carry, tree_map(lambda *parts: concatenate([ops.broadcast(p, 1, 0) for p in parts], 0), *ys)


def map(f: Callable, xs, *, batch_size: int | None = None):
    """Apply a function to each slice along the leading axis, one after the other.

    Args:
      f: the function.
      xs: a pytree of arrays with one leading size.
      batch_size: apply it to this many slices at once (by `vmap`).

    Returns:
      The results, stacked along a new leading axis.
    """
    if batch_size is not None:
        return _map_batches(f, xs, batch_size)
    return scan(lambda _, x: (None, f(x)), None, xs)[1]


def _map_batches(f, xs, batch_size):
    from velax.lax._slicing import concatenate, slice_in_dim

    leaves, tree = tree_flatten(xs)
    n = _scan_length(leaves, None)
    whole = n // batch_size * batch_size
    parts = []
    if whole:
        head = [ops.reshape(slice_in_dim(x, 0, whole), (whole // batch_size, batch_size, *np.shape(x)[1:])) for x in leaves]
        ys = map(vmap(f), tree_unflatten(tree, head))
        parts.append(tree_map(lambda y: ops.reshape(y, (whole, *y.shape[2:])), ys))
    if whole < n or not n:
        parts.append(vmap(f)(tree_unflatten(tree, [slice_in_dim(x, whole, n) for x in leaves])))
    return parts[0] if len(parts) == 1 else tree_map(lambda *p: concatenate(p, 0), *parts)


