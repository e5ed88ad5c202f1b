"""What the definitions of primitives share: type rules, batching rules and lowering of elementwise
operations, derivative forms.

Elementwise operations of several operands accept equal shapes, rank-0 operands, and size-1 axes that stretch;
dtypes must be equal (`velax.numpy` promotes, `velax.lax` does not).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from velax._ir.graph import MAP_FNS
from velax._lang import dtypes
from velax._lang.avals import ShapedArray, shaped_array
from velax._lang.primitive import Primitive, define
from velax._lang.trace import get_aval
from velax._transforms.batching import matchaxis
from velax._transforms.zero import UndefinedPrimal, Zero, add_tangents, ops

__all__ = [
    "ANY", "ARITH", "BITS", "COMPLEX", "FLOAT", "INEXACT", "INT", "NUM", "ORDERED", "elementwise",
    "elementwise_type", "jvp_from", "linear_jvp",
    "shape_error", "unbroadcast", "zero_derivative",
]  # fmt: skip

# dtype classes as np abstract types, in the words of the error messages
INT = (np.integer,)
FLOAT = (np.floating,)
COMPLEX = (np.complexfloating,)
INEXACT = (np.floating, np.complexfloating)
NUM = (np.integer, np.floating, np.complexfloating)
ARITH = NUM
BITS = (np.integer, np.bool_)
ORDERED = (np.integer, np.floating, np.bool_)
ANY = (np.number, np.bool_)

_NAMES = {
    np.integer: "integer", np.floating: "floating", np.complexfloating: "complexfloating", np.bool_: "bool",
    np.number: "number",
    np.signedinteger: "signedinteger", np.unsignedinteger: "unsignedinteger", np.float32: "float32",
    np.float64: "float64",
}  # fmt: skip


def _accepts(dtype, classes) -> bool:
    return any(dtypes.issubdtype(dtype, c) for c in classes)


def check_dtype(name: str, aval, classes, position: int | None = None) -> None:
    if not _accepts(aval.dtype, classes):
        if aval.dtype == dtypes.float0:
            raise TypeError(f"Called {name} with a float0 array. {dtypes.float0_message}")
        accepted = ", ".join(_NAMES[c] for c in classes)
        at = "" if position is None else f" at position {position}"
        raise TypeError(
            f"{name} does not accept dtype {aval.dtype}{at}. Accepted dtypes{at} are subtypes of {accepted}."
        )


_PROMOTING = {
    "add": "add", "atan2": "arctan2", "div": "divide", "eq": "equal", "max": "maximum", "min": "minimum",
    "mul": "multiply", "ne": "not_equal", "nextafter": "nextafter", "select": "where", "shift_left": "left_shift",
    "shift_right_arithmetic": "right_shift", "shift_right_logical": "right_shift", "sub": "subtract",
}  # fmt: skip


def dtype_mismatch(name: str, avals) -> TypeError:
    """The error for operands of different dtypes; it names the function of `velax.numpy` that promotes them."""
    names, promoting = ", ".join(str(a.dtype) for a in avals), _PROMOTING.get(name)
    tip = f" (Tip: jnp.{promoting} is a similar function that does automatic type promotion on inputs)."
    return TypeError(f"lax.{name} requires arguments to have the same dtypes, got {names}.{tip if promoting else ''}")


def broadcast_shapes(name: str, shapes: Sequence[tuple]) -> tuple:
    """The common shape: rank-0 ones adapt, size-1 axes stretch."""
    ranked = [s for s in shapes if s]
    if not ranked:
        return ()
    first = ranked[0]
    if all(s == first for s in ranked):
        return first
    if len({len(s) for s in ranked}) != 1:
        raise TypeError(
            f"{name}: arrays must have the same number of dimensions, got {', '.join(map(str, ranked))}. "
            "velax.lax does not broadcast ranks; use the function of velax.numpy, or lax.broadcast_in_dim."
        )
    out = []
    for sizes in zip(*ranked, strict=True):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise TypeError(f"{name} got incompatible shapes for broadcasting: {', '.join(map(str, ranked))}.")
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def elementwise_type(name: str, classes: Sequence, result: Callable | None = None) -> Callable:
    """The type rule of an elementwise operation.

    Args:
      name: for messages.
      classes: accepted dtype classes: one tuple for every operand.
      result: dtype of the result from the operands' (default: the same).
    """

    def rule(*avals, **params):
        many = len(avals) > 1
        for i, a in enumerate(avals):
            if not isinstance(a, ShapedArray):
                raise TypeError(f"{name} expects arrays, got an argument of type {a} at position {i}")
            check_dtype(name, a, classes, i if many else None)
        dtype = avals[0].dtype
        if many and any(a.dtype != dtype for a in avals):
            raise dtype_mismatch(name, avals)
        shape = broadcast_shapes(name, [a.shape for a in avals]) if many else avals[0].shape
        weak = all(a.weak_type for a in avals)
        return shaped_array(shape, result(dtype) if result else dtype, weak)

    return rule


def broadcast_node(builder, node, shape):
    """A graph operand of an elementwise operation at the common shape."""
    if node.shape == tuple(shape):
        return node
    dims = () if not node.shape else tuple(range(len(shape)))
    return builder.broadcast(node, shape, dims)


def elementwise_lower(fn: str) -> Callable:
    def lower(ctx, *nodes, **_):
        shape = ctx.avals_out[0].shape
        return ctx.builder.map(fn, *(broadcast_node(ctx.builder, x, shape) for x in nodes))

    return lower


def elementwise_batch(primitive: Callable[[], Primitive]) -> Callable:
    """The batching rule of elementwise operations: mapped axes are aligned; unmapped operands get a size-1
    axis, or stay if rank 0.
    """

    def rule(args, dims, **params):
        p = primitive()
        if len(args) == 1:
            return p.bind(*args, **params), dims[0]
        avals = [get_aval(x) for x in args]
        rank = max(len(a.shape) - (d is not None) for a, d in zip(avals, dims, strict=True))
        mapped = [d for d in dims if d is not None]
        # all mapped operands of full rank and aligned: nothing to move
        if len(set(mapped)) == 1 and all(
            len(a.shape) == rank + 1 if d is not None else not a.shape for a, d in zip(avals, dims, strict=True)
        ):
            return p.bind(*args, **params), mapped[0]
        moved = []
        for x, a, d in zip(args, avals, dims, strict=True):
            if d is None:
                moved.append(ops.reshape(x, (1, *a.shape)) if a.shape else x)
                continue
            x = matchaxis(a.shape[d], d, 0, x)
            shape = (a.shape[d], *(n for i, n in enumerate(a.shape) if i != d))
            if len(shape) == 1 and rank:  # a scalar an example, against arrays
                x = ops.reshape(x, (*shape, *(1,) * rank))
            moved.append(x)
        return p.bind(*moved, **params), 0

    return rule


def unbroadcast(aval, ct):
    """Sum a cotangent over the axes along which an operand of type ``aval`` was broadcast."""
    if type(ct) is Zero:
        return Zero(aval.to_tangent_aval())
    shape = get_aval(ct).shape
    if shape == aval.shape:
        return ct
    if not aval.shape:
        return ops.reduce_sum(ct, tuple(range(len(shape))))
    axes = tuple(i for i, (n, m) in enumerate(zip(aval.shape, shape, strict=True)) if n != m)
    return ops.reshape(ops.reduce_sum(ct, axes), aval.shape)


def jvp_from(*terms: Callable | None) -> Callable:
    """The JVP rule from one term an operand: ``term(t, out, *primals, **params)`` is that operand's
    contribution; None is zero.

    A contribution must have the result's shape: ``t`` is broadcast where the operand was.
    """

    def rule(primals, tangents, *, _primitive, **params):
        out = _primitive.bind(*primals, **params)
        total = None
        for term, t in zip(terms, tangents, strict=True):
            if term is None or type(t) is Zero:
                continue
            contribution = term(t, out, *primals, **params)
            total = contribution if total is None else add_tangents(_expand(total, out), _expand(contribution, out))
        if total is None:
            return out, Zero.from_primal_value(out)
        return out, _expand(total, out)

    return rule


def _expand(t, out):
    if type(t) is Zero:
        return t
    shape = get_aval(out).shape
    have = get_aval(t).shape
    if have == shape:
        return t
    return ops.broadcast_in_dim(t, shape, () if not have else tuple(range(len(shape))))


def linear_jvp(primitive: Callable[[], Primitive]) -> Callable:
    """The JVP rule of a primitive that is linear in its only operand."""

    def rule(primals, tangents, **params):
        p, (t,) = primitive(), tangents
        out = p.bind(*primals, **params)
        return out, Zero.from_primal_value(out) if type(t) is Zero else p.bind(t, **params)

    return rule


def zero_derivative(primals, tangents, *, _primitive, **params):
    """The JVP rule of operations whose derivative is zero almost everywhere (rounding, comparison, bits)."""
    out = _primitive.bind(*primals, **params)
    return out, Zero.from_primal_value(out)


def elementwise(
    name: str,
    classes: Sequence,
    *,
    jvp: Callable | None,
    lower: str | Callable,
    transpose: Callable | None = None,
    linear_in: tuple[int, ...] | None = None,
    result: Callable | None = None,
    arity: int | None = None,
) -> Primitive:
    """Define an elementwise primitive.

    Args:
      name: the primitive's name.
      classes: accepted dtype classes.
      jvp: `jvp_from(...)` or `zero_derivative`.
      lower: the graph's map function, or a lowering rule.
      transpose: for those linear in an operand.
      linear_in: which.
      result: dtype of the result.
      arity: number of operands; that of the graph's function if ``lower`` names one.
    """
    arity = MAP_FNS[lower] if isinstance(lower, str) else arity
    holder: list[Primitive] = []

    def jvp_rule(primals, tangents, **params):
        return jvp(primals, tangents, _primitive=holder[0], **params)

    p = define(
        name,
        abstract_eval=elementwise_type(name, classes, result),
        lower=elementwise_lower(lower) if isinstance(lower, str) else lower,
        jvp=jvp_rule if jvp is not None else None,
        transpose=transpose,
        batch=elementwise_batch(lambda: holder[0]),
        elementwise=True,
        linear_in=linear_in,
    )
    p.arity = arity
    holder.append(p)
    return p


def is_linear(x) -> bool:
    return type(x) is UndefinedPrimal


def shape_error(name: str, message: str) -> TypeError:
    return TypeError(f"{name}: {message}")
