"""Batching: rule tables and tools."""

from __future__ import annotations

from velax._lang.primitive import Primitive, RuleTable
from velax._transforms.batching import (
    AxisData as AxisData,
    BatchTrace as BatchTrace,
    BatchTracer as BatchTracer,
    bdim_at_front as bdim_at_front,
    broadcast_batcher as broadcast_batcher,
    matchaxis as matchaxis,
    not_mapped as not_mapped,
    reducer_batcher as _reducer_batcher,
    vectorized_batcher as _vectorized_batcher,
)
from velax._transforms.zero import ops as _ops

__all__ = [
    "AxisData", "BatchTrace", "BatchTracer", "axis_primitive_batchers", "bdim_at_front", "broadcast",
    "broadcast_batcher", "defbroadcasting",
    "defreducer", "defvectorized", "fancy_primitive_batchers", "matchaxis", "moveaxis", "not_mapped",
    "primitive_batchers",
]  # fmt: skip

#: primitive -> batching rule ``(args, dims, **params) -> (out, out_dim)``
primitive_batchers = RuleTable("batch")
#: primitive -> batching rule with the axis: ``(axis_data, args, dims, **params) -> (out, out_dim)``
fancy_primitive_batchers = RuleTable("batch_axis")
axis_primitive_batchers = fancy_primitive_batchers


def defvectorized(prim: Primitive) -> None:
    """Declare that a primitive works elementwise on operands mapped alike."""
    primitive_batchers[prim] = _vectorized_batcher(prim)


def defbroadcasting(prim: Primitive) -> None:
    """Declare that a primitive works elementwise; unmapped operands are broadcast."""
    primitive_batchers[prim] = broadcast_batcher(prim)


def defreducer(prim: Primitive) -> None:
    """Declare that a primitive reduces over its parameter ``axes``."""
    primitive_batchers[prim] = _reducer_batcher(prim)


def broadcast(x, sz: int, axis: int, mesh_axis=None):
    """``x`` repeated ``sz`` times along a new axis."""
    return _ops.broadcast(x, sz, axis)


def moveaxis(x, src: int, dst: int):
    """``x`` with an axis moved."""
    return x if src == dst else _ops.moveaxis(x, src, dst)
