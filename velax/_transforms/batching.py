"""Vectorization: the batch trace behind `vmap`.

A value is an array with a mapped axis, or unmapped. A primitive's batching rule computes on the whole arrays
under the parent trace. Axis names are bound in a thread-local environment for collectives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from velax._lang import config, dtypes
from velax._lang.avals import AbstractRef, ShapedArray
from velax._lang.jaxpr import ClosedJaxpr, jaxprs_in_params
from velax._lang.primitive import Primitive
from velax._lang.trace import Trace, Tracer, TraceTag, current_trace, get_aval, set_current_trace
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.jvp import missing_rule
from velax._transforms.staging import check_leaks, trace_to_jaxpr
from velax._transforms.zero import ops

__all__ = [
    "AxisData", "BatchTrace", "BatchTracer", "axis_env", "axis_names", "axis_size", "batch_flat", "batch_jaxpr",
    "bdim_at_front", "broadcast_batcher",
    "extend_axis_env", "mapped_aval", "matchaxis", "not_mapped", "reducer_batcher", "unmapped_aval",
    "vectorized_batcher",
]  # fmt: skip

not_mapped = None


class AxisData:
    """The axis of one `vmap`: its name (None if unnamed), size, and the mesh axis it is partitioned over, if any."""

    __slots__ = ("name", "size", "spmd_name")

    def __init__(self, name, size: int, spmd_name=None):
        self.name, self.size, self.spmd_name = name, size, spmd_name

    def __eq__(self, other):
        return type(other) is AxisData and (self.name, self.size, self.spmd_name) == (
            other.name,
            other.size,
            other.spmd_name,
        )

    def __hash__(self):
        return hash((self.name, self.size, self.spmd_name))


# -- named axes ----------------------------------------------------------------------------------

_local = threading.local()


def axis_env() -> dict[Any, int]:
    """The named axes in scope, innermost last: name -> size."""
    return getattr(_local, "axes", {})


def axis_names() -> tuple:
    return tuple(axis_env())


def axes_key() -> tuple:
    """The named axes with their sizes: what a trace under them depends on."""
    return tuple(axis_env().items())


def axis_size(name) -> int:
    env = axis_env()
    if name not in env:
        known = f"the axes in scope are {', '.join(map(repr, env))}" if env else "no named axis is in scope"
        raise NameError(
            f"Found an unbound axis name: {name}. {known[0].upper() + known[1:]}; bind one with vmap(..., axis_name={name!r})."
        )
    return env[name]


class extend_axis_env:
    """Context manager that binds axis names."""

    __slots__ = ("_axes", "_old")

    def __init__(self, axes: Sequence[tuple[Any, int]]):
        self._axes = axes

    def __enter__(self):
        self._old = axis_env()
        _local.axes = {**self._old, **dict(self._axes)}

    def __exit__(self, *exc):
        _local.axes = self._old


# -- avals ---------------------------------------------------------------------------------------


def mapped_aval(size: int, axis: int | None, aval):
    """The type of one element along the mapped axis."""
    if axis is None:
        return aval
    if isinstance(aval, AbstractRef):
        return AbstractRef(mapped_aval(size, axis, aval.inner_aval), aval.memory_space, aval.kind)
    if not isinstance(aval, ShapedArray):
        return aval
    shape = aval.shape
    return ShapedArray(shape[:axis] + shape[axis + 1 :], aval.dtype, aval.weak_type)


def unmapped_aval(size: int, axis: int | None, aval):
    """The type with the mapped axis put back."""
    if axis is None:
        return aval
    if isinstance(aval, AbstractRef):
        return AbstractRef(unmapped_aval(size, axis, aval.inner_aval), aval.memory_space, aval.kind)
    if not isinstance(aval, ShapedArray):
        return aval
    axis = axis + aval.ndim + 1 if axis < 0 else axis
    return ShapedArray((*aval.shape[:axis], size, *aval.shape[axis:]), aval.dtype, aval.weak_type)


def _mentions_axis(params: dict, name) -> bool:
    """Whether parameters, or the equations of a jaxpr among them, name an axis."""
    axes = params.get("axes", params.get("axis_name", ()))
    if name in axes if isinstance(axes, (tuple, list)) else name == axes:
        return True
    return any(_mentions_axis(eqn.params, name) for jaxpr in jaxprs_in_params(params) for eqn in jaxpr.eqns)


# -- the trace -----------------------------------------------------------------------------------


class BatchTracer(Tracer):
    """An array with a mapped axis ``batch_dim``, seen without it."""

    __slots__ = ("_aval", "batch_dim", "val")

    def __init__(self, trace: BatchTrace, val, batch_dim: int | None):
        self._trace, self.val, self.batch_dim = trace, val, batch_dim
        self._aval = None

    @property
    def aval(self):
        if self._aval is None:
            aval = get_aval(self.val)
            self._aval = mapped_aval(0, self.batch_dim, aval)
        return self._aval

    def full_lower(self):
        return self.val if self.batch_dim is None else self

    def to_concrete_value(self):
        if self.batch_dim is not None:
            return None
        return self.val.to_concrete_value() if isinstance(self.val, Tracer) else self.val

    def _origin_msg(self):
        return (
            "This value is mapped over by vmap: it stands for one value in each example of the batch, "
            "so it has no single concrete value."
        )

    def _contents(self):
        return [("val", self.val), ("batch_dim", self.batch_dim)]

    def get_referent(self):
        return self.val if self.batch_dim is None else self

    def __repr__(self):
        return f"VmapTracer(aval={self.aval}, batched={get_aval(self.val)})"


class BatchTrace(Trace):
    __slots__ = ("axis_data", "parent_trace", "tag")

    def __init__(self, parent_trace: Trace, tag: TraceTag, axis_data: AxisData):
        super().__init__()
        self.parent_trace, self.tag, self.axis_data = parent_trace, tag, axis_data

    def unbox(self, x):
        if isinstance(x, BatchTracer) and x._trace.tag is self.tag:
            return x.val, x.batch_dim
        return x, None

    def box(self, value, dim):
        return value if dim is None else BatchTracer(self, value, dim)

    def process_primitive(self, primitive: Primitive, args, params):
        values, dims, active = [], [], False
        tag = self.tag
        for x in args:
            if isinstance(x, BatchTracer) and x._trace.tag is tag:
                values.append(x.val)
                dims.append(x.batch_dim)
                active = True
            else:
                values.append(x)
                dims.append(None)
        rules = primitive.rules
        axis_rule = rules.get("batch_axis")
        if not active and not primitive.ref_primitive and not (axis_rule is not None and self._names_axis(params)):
            return primitive.bind_with_trace(self.parent_trace, values, params)
        try:
            with set_current_trace(self.parent_trace):
                if axis_rule is not None:
                    out, out_dim = axis_rule(self.axis_data, values, dims, **params)
                else:
                    rule = rules.get("batch")
                    if rule is None:
                        raise missing_rule("Batching rule", primitive)
                    out, out_dim = rule(values, dims, **params)
        except (TypeError, ValueError):
            clearer = _error_of_one_example(primitive, args, params)
            if clearer is None:
                raise
            raise clearer from None
        if primitive.multiple_results:
            out_dims = out_dim if isinstance(out_dim, (list, tuple)) else [out_dim] * len(out)
            return [self.box(x, d) for x, d in zip(out, out_dims, strict=True)]
        return self.box(out, out_dim)

    def _names_axis(self, params) -> bool:
        """Whether the equation names this trace's axis (collectives do, also of unmapped values)."""
        name = self.axis_data.name
        if name is None:
            return False
        return _mentions_axis(params, name)

    def process_custom_jvp_call(self, primitive, fun, jvp, args, **params):
        values, dims = self._unzip(args)
        fun, out_dims = batch_fun(fun, self.tag, self.axis_data, dims)
        jvp, jvp_out_dims = batch_fun(jvp, self.tag, self.axis_data, [*dims, *dims], pair_results=True)
        with set_current_trace(self.parent_trace):
            outs = primitive.bind(fun, jvp, *values, **params)
        return self._rezip(outs, out_dims or jvp_out_dims)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, **params):
        values, dims = self._unzip(args)
        return primitive.rules["batch_call"](self, fun, fwd, bwd, values, dims, params)

    def _unzip(self, args):
        pairs = [self.unbox(x) for x in args]
        return [v for v, _ in pairs], [d for _, d in pairs]

    def _rezip(self, outs, out_dims):
        return [self.box(x, d) for x, d in zip(outs, out_dims[: len(outs)], strict=True)]


def _error_of_one_example(primitive: Primitive, args, params) -> Exception | None:
    """An error about the operands with the shapes that the user's function sees, without the mapped axis."""
    try:
        primitive.abstract_eval(*map(get_aval, args), **params)
    except (TypeError, ValueError) as error:
        return error
    return None


def batch_fun(
    fun: Callable, tag: TraceTag, axis_data: AxisData, in_dims: Sequence[int | None], pair_results: bool = False
):
    """The batched flat function and a list that receives its results' dims when it runs.

    ``pair_results``: the results are values and their tangents, which must be mapped alike; an unmapped one
      of a pair is broadcast.
    """
    out_dims: list[int | None] = []

    def batched(*values):
        parent = current_trace()
        trace = BatchTrace(parent, tag, axis_data)
        args = [trace.box(v, d) for v, d in zip(values, in_dims, strict=True)]
        try:
            with set_current_trace(trace), _axis_scope(axis_data):
                outs = fun(*args)
            pairs = [trace.unbox(x) for x in outs]
        finally:
            trace.invalidate()
        if config.check_tracer_leaks.value:
            del args, outs
            check_leaks(trace)
        if pair_results:
            n = len(pairs) // 2
            with set_current_trace(parent):
                for i in range(n):
                    (x, dx), (t, dt) = pairs[i], pairs[n + i]
                    if dx != dt:
                        dim = dt if dx is None else dx
                        pairs[i] = (matchaxis(axis_data.size, dx, dim, x), dim)
                        pairs[n + i] = (matchaxis(axis_data.size, dt, dim, t), dim)
        out_dims[:] = [d for _, d in pairs]
        return [v for v, _ in pairs]

    return batched, out_dims


def _axis_scope(axis_data: AxisData):
    return extend_axis_env([] if axis_data.name is None else [(axis_data.name, axis_data.size)])


def batch_flat(
    fun: Callable, axis_data: AxisData, values: Sequence, in_dims: Sequence[int | None]
) -> tuple[list, list[int | None]]:
    """Run a flat function on mapped values; returns the whole results and their mapped axes."""
    batched, out_dims = batch_fun(fun, TraceTag(), axis_data, in_dims)
    outs = batched(*values)
    return outs, out_dims


def batch_jaxpr(
    jaxpr: ClosedJaxpr, axis_data: AxisData, in_batched: Sequence[bool], instantiate: bool | Sequence[bool] = False
) -> tuple[ClosedJaxpr, list[bool]]:
    """The jaxpr over whole arrays, mapped axes in front.

    Args:
      jaxpr: the function of one example.
      axis_data: the axis.
      in_batched: which inputs are mapped (along axis 0).
      instantiate: outputs that must be mapped; the others are mapped only if they depend on a mapped input.

    Returns:
      The jaxpr and which outputs are mapped (along axis 0). Memoised on the jaxpr object.
    """
    force = instantiate if isinstance(instantiate, bool) else tuple(instantiate)
    key = ("batch", axis_data, tuple(in_batched), force, axes_key())
    return jaxpr.memo(key, lambda: _batch_jaxpr(jaxpr, axis_data, list(in_batched), instantiate))


def _batch_jaxpr(jaxpr, axis_data, in_batched, instantiate):
    fun = jaxpr_as_fun(jaxpr)
    force = [instantiate] * len(jaxpr.out_avals) if isinstance(instantiate, bool) else instantiate
    out_batched: list[bool] = []

    def run(*args):
        outs, dims = batch_flat(fun, axis_data, args, [0 if b else None for b in in_batched])
        out_batched[:] = [f or d is not None for f, d in zip(force, dims, strict=True)]
        return [matchaxis(axis_data.size, d, 0, x) if b else x for x, d, b in zip(outs, dims, out_batched, strict=True)]

    avals = [unmapped_aval(axis_data.size, 0, a) if b else a for b, a in zip(in_batched, jaxpr.in_avals, strict=True)]
    closed = trace_to_jaxpr(run, avals, jaxpr.jaxpr._debug_info)
    return closed, out_batched


# -- tools for rules -----------------------------------------------------------------------------


def matchaxis(size: int, src: int | None, dst: int | None, x):
    """``x`` with its mapped axis at ``dst``: moved, or broadcast if unmapped."""
    if src == dst:
        return x
    if src is None:
        if getattr(x, "dtype", None) == dtypes.float0:  # no array operation takes it
            shape = list(x.shape)
            shape.insert(dst, size)
            return np.zeros(shape, dtypes.float0)
        return ops.broadcast(x, size, dst)
    if dst is None:
        raise ValueError(
            "vmap: a result is mapped but out_axes says None; return something that does not depend on the mapped "
            "inputs, or give it an axis"
        )
    return ops.moveaxis(x, src, dst)


def bdim_at_front(x, bdim: int | None, size: int, mesh_axis=None):
    return matchaxis(size, bdim, 0, x)


def vectorized_batcher(primitive: Primitive) -> Callable:
    """The batching rule of elementwise primitives of one operand, or of operands mapped alike."""

    def rule(args, dims, **params):
        if any(d != dims[0] for d in dims):
            return broadcast_batcher(primitive)(args, dims, **params)
        out = primitive.bind(*args, **params)
        return (out, [dims[0]] * len(out)) if primitive.multiple_results else (out, dims[0])

    return rule


def broadcast_batcher(primitive: Primitive) -> Callable:
    """The batching rule of elementwise primitives of several operands of one shape: unmapped operands are broadcast."""

    def rule(args, dims, **params):
        size, dim = next((x.shape[d], d) for x, d in zip(args, dims, strict=True) if d is not None)
        if not all(d == dim for d in dims):
            args = [matchaxis(size, d, 0, x) for x, d in zip(args, dims, strict=True)]
            dim = 0
        out = primitive.bind(*args, **params)
        return (out, [dim] * len(out)) if primitive.multiple_results else (out, dim)

    return rule


def reducer_batcher(primitive: Primitive) -> Callable:
    """The batching rule of reductions with an ``axes`` parameter."""

    def rule(args, dims, axes, **params):
        (x,), (d,) = args, dims
        out = primitive.bind(x, axes=tuple(a + (a >= d) for a in axes), **params)
        return out, d - sum(a < d for a in axes)

    return rule
