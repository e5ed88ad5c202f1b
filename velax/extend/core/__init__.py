"""The language: jaxprs, primitives, traces."""

from velax._lang.avals import (
    AbstractToken as AbstractToken,
    AbstractValue as AbstractValue,
    ShapedArray as ShapedArray,
    abstract_token as abstract_token,
)
from velax._lang.check import JaxprTypeError as JaxprTypeError, check_jaxpr as check_jaxpr
from velax._lang.dtypes import tangent_dtype as _tangent_dtype
from velax._lang.effects import Effect as Effect, Effects as Effects, no_effects as no_effects
from velax._lang.jaxpr import (
    ClosedJaxpr as ClosedJaxpr,
    DebugInfo as DebugInfo,
    DropVar as DropVar,
    Jaxpr as Jaxpr,
    JaxprEqn as JaxprEqn,
    Literal as Literal,
    Var as Var,
    jaxprs_in_params as jaxprs_in_params,
    new_jaxpr_eqn as new_jaxpr_eqn,
    subjaxprs as subjaxprs,
)
from velax._lang.primitive import CallPrimitive as CallPrimitive, Primitive as Primitive
from velax._lang.trace import (
    Trace as Trace,
    Tracer as Tracer,
    TraceTag as TraceTag,
    concrete_or_error as concrete_or_error,
    current_trace as _current_trace,
    set_current_trace as set_current_trace,
    take_current_trace as take_current_trace,
    valid_jaxtype as valid_jaxtype,
)
from velax._transforms.batching import (
    BatchTrace as _BatchTrace,
    axis_names as _axis_names,
    mapped_aval as mapped_aval,
    unmapped_aval as unmapped_aval,
)
from velax._transforms.evaluate import jaxpr_as_fun as _jaxpr_as_fun
from velax._transforms.staging import DynamicJaxprTrace as _StagingTrace
from velax.extend.core import primitives as primitives


def jaxpr_as_fun(closed_jaxpr, *args):
    """Evaluate a closed jaxpr; without arguments, its Python function."""
    fun = _jaxpr_as_fun(closed_jaxpr)
    return fun(*args) if args or not closed_jaxpr.in_avals else fun


def primal_dtype_to_tangent_dtype(primal_dtype):
    """The dtype of tangents of values of a dtype."""
    return _tangent_dtype(primal_dtype)


def find_top_trace(_):
    """The trace that operations on the given values go to: the current one."""
    return _current_trace()


def get_opaque_trace_state(convention=None):
    """The current trace, for comparison: equal at two moments if values may pass from one to the other."""
    return OpaqueTraceState(_current_trace())


class OpaqueTraceState:
    """What `get_opaque_trace_state` returns; compares by the trace."""

    __slots__ = ("_trace",)

    def __init__(self, trace):
        self._trace = trace

    def __eq__(self, other):
        return isinstance(other, OpaqueTraceState) and self._trace is other._trace

    def __hash__(self):
        return id(self._trace)


def nonempty_axis_env_DO_NOT_USE() -> bool:
    """Whether a named axis is in scope."""
    return bool(_axis_names())


def unsafe_get_axis_names_DO_NOT_USE() -> list:
    """The names of the axes in scope."""
    return list(_axis_names())


def unsafe_am_i_under_a_jit_DO_NOT_USE() -> bool:
    """Whether a staging trace is current or below the current one."""
    return any(isinstance(t, _StagingTrace) for t in _traces_below())


def unsafe_am_i_under_a_vmap_DO_NOT_USE() -> bool:
    """Whether a batching trace is current or below the current one."""
    return any(isinstance(t, _BatchTrace) for t in _traces_below())


def _traces_below():
    trace = _current_trace()
    while trace is not None:
        yield trace
        trace = getattr(trace, "parent_trace", None)
