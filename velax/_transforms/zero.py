"""Symbolic zeros and sums of tangents, and the functions of the instruction set that transformations need.

A tangent or cotangent that is known to be zero is a `Zero`, never an array: rules skip work for it.
`instantiate_zeros` makes the array where one is needed. Array operations belong to `velax.lax`, a
layer below this one; it registers the few that transformations use in `ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from velax._lang.avals import AbstractValue
from velax._lang.primitive import define
from velax._lang.trace import get_aval

__all__ = [
    "SymbolicZero",
    "UndefinedPrimal",
    "Zero",
    "add_any_p",
    "add_tangents",
    "instantiate_zeros",
    "is_undefined_primal",
    "ops",
    "zeros_like_aval",
]


class _Ops:
    """Registered by `velax.lax`: ``full(aval, fill)``, ``broadcast(x, size, axis)``, ``moveaxis(x,
    source, destination)``.
    """

    full: Callable[[AbstractValue, Any], Any]
    broadcast: Callable[[Any, int, int], Any]
    moveaxis: Callable[[Any, int, int], Any]


ops = _Ops()


class Zero:
    """The zero of a (tangent) type."""

    __slots__ = ("aval",)

    def __init__(self, aval: AbstractValue):
        self.aval = aval

    @staticmethod
    def from_primal_value(value) -> Zero:
        return Zero(get_aval(value).to_tangent_aval())

    def __repr__(self):
        return f"Zero({self.aval})"


class SymbolicZero:
    """A zero handed to user code that asked for symbolic zeros
    (``custom_jvp(symbolic_zeros=True)``); has the aval's attributes.
    """

    __slots__ = ("aval",)

    def __init__(self, aval: AbstractValue):
        self.aval = aval

    def __getattr__(self, name):
        return getattr(self.aval, name)

    @staticmethod
    def from_primal_value(value) -> SymbolicZero:
        return SymbolicZero(get_aval(value).to_tangent_aval())

    def __repr__(self):
        return f"SymbolicZero({self.aval})"


class UndefinedPrimal:
    """A linear argument in a transpose rule: only its type is known."""

    __slots__ = ("aval",)

    def __init__(self, aval: AbstractValue):
        self.aval = aval

    def __repr__(self):
        return f"UndefinedPrimal({self.aval})"


def is_undefined_primal(x) -> bool:
    return type(x) is UndefinedPrimal


def zeros_like_aval(aval: AbstractValue):
    """An array of zeros of this type."""
    return ops.full(aval, 0)


def instantiate_zeros(tangent):
    """The tangent as an array: a `Zero` becomes one of zeros."""
    if type(tangent) is Zero or isinstance(tangent, SymbolicZero):
        return zeros_like_aval(tangent.aval)
    return tangent


def add_tangents(x, y):
    """``x + y`` of tangents or cotangents, either of which may be a `Zero`."""
    if type(x) is Zero:
        return y
    if type(y) is Zero:
        return x
    return add_any_p.bind(x, y)


def add_jaxvals(x, y):
    return add_any_p.bind(x, y)


def _add_any_batch(args, dims):
    (x, y), (bx, by) = args, dims
    if bx == by:
        return add_any_p.bind(x, y), bx
    if bx is None:
        return add_any_p.bind(ops.broadcast(x, y.shape[by], by), y), by
    if by is None:
        return add_any_p.bind(x, ops.broadcast(y, x.shape[bx], bx)), bx
    return add_any_p.bind(x, ops.moveaxis(y, by, bx)), bx


add_any_p = define(
    "add_any",
    abstract_eval=lambda x, y: x,
    impl=lambda x, y: ops.add(x, y),  # evaluated, a sum is weak only if both are, as any other
    lower=lambda ctx, x, y: ctx.builder.map("or" if x.dtype == "bool" else "add", x, y),
    jvp=lambda primals, tangents: (add_any_p.bind(*primals), add_tangents(*tangents)),
    transpose=lambda ct, x, y: [ct, ct],
    batch=_add_any_batch,
    elementwise=True,
    linear_in=(0, 1),
)
