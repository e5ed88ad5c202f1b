"""Gives the transformations the array operations they use (`velax._transforms.zero.ops`): the one upward link
from this layer.
"""

from __future__ import annotations

import numpy as np

from velax._lang import dtypes
from velax._lang.avals import ShapedArray
from velax._lang.trace import get_aval
from velax._transforms.zero import ops
from velax.lax import (
    _arithmetic as arithmetic,
    _comparison as comparison,
    _reductions as reductions,
    _structural as structural,
    _transcendental as transcendental,
)
from velax.lax._associative import associative_scan
from velax.lax._slicing import pad, split
from velax.lax._values import scalar_of

__all__: list[str] = []


def _full(aval, value):
    """An array of this type, filled."""
    if not isinstance(aval, ShapedArray):
        raise TypeError(f"no array of type {aval} can be made")
    if aval.dtype == dtypes.float0:
        return np.zeros(aval.shape, dtypes.float0)
    if dtypes.is_extended(aval.dtype):
        return aval.dtype.full(aval.shape, value)
    number = scalar_of(aval.dtype, value, aval.weak_type)
    return (
        structural.full(aval.shape, number, None if isinstance(number, (int, float, complex)) else aval.dtype)
        if aval.shape
        else number
    )


def _broadcast(x, size, axis):
    shape = get_aval(x).shape
    out = (*shape[:axis], size, *shape[axis:])
    return structural.broadcast_in_dim_p.bind(
        x, shape=out, broadcast_dimensions=tuple(i for i in range(len(out)) if i != axis), sharding=None
    )


def _moveaxis(x, source, destination):
    ndim = get_aval(x).ndim
    order = [i for i in range(ndim) if i != source]
    order.insert(destination, source)
    return structural.transpose(x, order)


def _eye_rows(total, n, start, dtype):
    """``total`` rows, the ones from ``start`` being the unit vectors of size ``n``."""
    row = structural.broadcasted_iota("int32", (total, n), 0)
    column = structural.broadcasted_iota("int32", (total, n), 1)
    return structural.convert_type(comparison.eq(row, arithmetic.add(column, start)), np.dtype(dtype))


def _select(which, on_true, on_false):
    """`lax.select` whose cases may be of rank 0 next to arrays."""
    shapes = [get_aval(v).shape for v in (which, on_true, on_false)]
    shape = max(shapes, key=len)
    cases = [
        v if s == shape else structural.broadcast_in_dim(v, shape, ())
        for v, s in zip((on_true, on_false), shapes[1:], strict=True)
    ]
    return structural.select(which, *cases)


def _shift(x, axis, offset, fill):
    """``x`` moved by one along an axis, with ``fill`` coming in."""
    config = [(0, 0, 0)] * get_aval(x).ndim
    config[axis] = (offset, -offset, 0)
    return pad(x, fill, config)


def _associative_scan_tangent(combine, x, t, axis, reverse):
    """The tangent of a cumulative product or extremum: an associative scan over (value, tangent) pairs."""

    def product(a, b):
        (x, dx), (y, dy) = a, b
        return arithmetic.mul(x, y), arithmetic.add(arithmetic.mul(dx, y), arithmetic.mul(x, dy))

    def extremum(a, b):
        (x, dx), (y, dy) = a, b
        out = (arithmetic.max if combine == "max" else arithmetic.min)(x, y)
        # equal elements share, as in the derivative of `max`
        shares = arithmetic.mul(dx, arithmetic.share(x, y, out)), arithmetic.mul(dy, arithmetic.share(y, x, out))
        return out, arithmetic.add(*shares)

    return associative_scan(product if combine == "mul" else extremum, (x, t), reverse=reverse, axis=axis)[1]


for _name, _f in {
    "full": _full, "broadcast": _broadcast, "moveaxis": _moveaxis, "eye_rows": _eye_rows, "split": split,
    "shift": _shift,
    "associative_scan_tangent": _associative_scan_tangent, "broadcast_in_dim": structural.broadcast_in_dim,
    "reshape": structural.reshape,
    "transpose": structural.transpose, "select": _select, "convert": structural.convert_type,
    "reduce_sum": reductions.reduce_sum,
    "add": arithmetic.add, "sub": arithmetic.sub, "mul": arithmetic.mul, "div": arithmetic.div, "neg": arithmetic.neg,
    "eq": comparison.eq, "lt": comparison.lt, "ge": comparison.ge, "floor": comparison.floor, "ceil": comparison.ceil,
    "is_finite": comparison.is_finite, "exp": transcendental.exp, "log": transcendental.log,
    "real": transcendental.real,
    "conj": transcendental.conj, "complex": transcendental.complex,
}.items():  # fmt: skip
    setattr(ops, _name, _f)
