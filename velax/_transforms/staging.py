"""Staging: tracing a Python function into a jaxpr.

`trace_to_jaxpr` runs the function on tracers that only know their types; each primitive applied
appends an equation. Values that are concrete, or that belong to an enclosing trace, become
constants of the jaxpr (scalars: literals).
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from velax import _native
from velax._lang import config, source
from velax._lang.avals import AbstractValue, ShapedArray
from velax._lang.effects import no_effects
from velax._lang.errors import LeakedTracerError, UnexpectedTracerError
from velax._lang.jaxpr import ClosedJaxpr, DebugInfo, DropVar, Jaxpr, JaxprEqn, Literal, Var, effects_of
from velax._lang.trace import Trace, Tracer, escaped_tracer_error, get_aval, set_current_trace

__all__ = [
    "DynamicJaxprTrace", "DynamicJaxprTracer", "check_leaks", "clear_traces", "drop_traces", "keep_trace",
    "trace_to_jaxpr", "traces_of",
]  # fmt: skip


class DynamicJaxprTracer(Tracer):
    """A variable of the jaxpr that is being built."""

    __slots__ = ("_aval", "_line_info", "val")  # `var` is a method of arrays

    def __init__(self, trace: DynamicJaxprTrace, aval: AbstractValue, var: Var, line_info=None):
        self._trace, self._aval, self.val, self._line_info = trace, aval, var, line_info

    aval = property(lambda self: self._aval)

    def _origin_msg(self) -> str:
        return self._trace.origin_of(self)

    def _made_msg(self) -> str:
        info = self._trace.debug_info
        traced = "" if info is None else f" while tracing the function {info.func_src_info} for {info.traced_for}"
        if self._line_info is not None:
            return f"It was made at {self._line_info}{traced}. "
        return f"It was an argument or a captured value{traced}. " if traced else ""

    def _contents(self):
        return ()

    def __repr__(self):
        return f"JitTracer({self._aval})"


class DynamicJaxprTrace(Trace):
    """Interprets by writing equations."""

    stages = True

    __slots__ = (
        "_const_of",
        "_frame_eqns",
        "_literals",
        "const_vars",
        "consts",
        "debug_info",
        "effects",
        "invars",
        "parent_trace",
    )

    def __init__(self, debug_info: DebugInfo | None = None, parent_trace: Trace | None = None):
        super().__init__()
        self.debug_info = debug_info
        self.parent_trace = parent_trace
        self.invars: list[Var] = []
        self.const_vars: list[Var] = []
        self.consts: list[Any] = []  # keeps the values alive, so that ids in _const_of stay theirs
        self._const_of: dict[int, DynamicJaxprTracer] = {}
        self._frame_eqns: list[JaxprEqn] = []

    @property
    def eqns(self) -> list[JaxprEqn]:
        return self._frame_eqns

    def invalidate(self) -> None:
        super().invalidate()
        # its tracers refer to it: without this, what it captured would live until the collector runs
        self._const_of.clear()
        self.consts = []

    # -- values -----------------------------------------------------------------------------------

    def new_arg(self, aval: AbstractValue) -> DynamicJaxprTracer:
        var = Var(aval)
        self.invars.append(var)
        return DynamicJaxprTracer(self, aval, var)

    def to_tracer(self, x) -> DynamicJaxprTracer | Literal:
        """``x`` as a variable of this jaxpr, or a literal."""
        if isinstance(x, DynamicJaxprTracer) and x._trace is self:
            return x
        if isinstance(x, Tracer):
            if x._trace is self:
                return x
            if not x._trace.is_valid():
                raise escaped_tracer_error(x)
        elif isinstance(x, (bool, int, float, complex, np.generic)):
            aval = get_aval(x)
            return Literal(_literal_value(x, aval), aval)
        known = self._const_of.get(id(x))
        if known is not None:
            return known
        aval = get_aval(x)
        if isinstance(x, np.ndarray) and x.ndim == 0:
            return Literal(_literal_value(x[()], aval), aval)
        if not isinstance(aval, AbstractValue):
            raise TypeError(f"Value {x!r} with type {type(x)} is not a valid JAX type")
        var = Var(aval)
        tracer = self._const_of[id(x)] = DynamicJaxprTracer(self, aval, var)
        self.const_vars.append(var)
        self.consts.append(x)
        return tracer

    # -- equations --------------------------------------------------------------------------------

    def process_primitive(self, primitive, args, params):
        if self._invalidated:
            raise _ended_trace_error(primitive)
        atoms, avals = [], []
        for x in args:
            if type(x) is DynamicJaxprTracer and x._trace is self:
                atoms.append(x.val)
                avals.append(x._aval)
            else:
                x = self.to_tracer(x)
                atoms.append(x.val if isinstance(x, DynamicJaxprTracer) else x)
                avals.append(x.aval)
        out_avals, effects = primitive.abstract_eval(*avals, **params)
        return self.add_eqn(primitive, atoms, out_avals, params, effects)

    def add_eqn(self, primitive, atoms, out_avals, params, effects=no_effects):
        """Append an equation; returns tracers of its results (one, or a list with multiple results)."""
        info = source.current()
        if primitive.multiple_results:
            outs = [DynamicJaxprTracer(self, a, Var(a), info) for a in out_avals]
            self._frame_eqns.append(JaxprEqn(atoms, [t.val for t in outs], primitive, params, effects, info))
            return outs
        var = Var(out_avals)
        self._frame_eqns.append(JaxprEqn(atoms, [var], primitive, params, effects, info))
        return DynamicJaxprTracer(self, out_avals, var, info)

    def process_call(self, primitive, f, args, params):
        rule = primitive.rule("stage_call")
        if rule is None:
            return f(*args)
        return rule(self, f, args, params)

    def process_custom_jvp_call(self, primitive, fun, jvp, args, **params):
        return primitive.rules["stage_call"](self, fun, (jvp,), args, params)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, **params):
        return primitive.rules["stage_call"](self, fun, (fwd, bwd), args, params)

    # -- result -----------------------------------------------------------------------------------

    def to_jaxpr(self, outs: Sequence[Any], debug_info: DebugInfo | None = None) -> tuple[Jaxpr, list[Any]]:
        """The finished jaxpr and its constants. Equations without users and effects stay (`dce_jaxpr` removes them)."""
        outvars = [t.val if isinstance(t, DynamicJaxprTracer) else t for t in map(self.to_tracer, outs)]
        effects = effects_of((*self.const_vars, *self.invars), self._frame_eqns)
        jaxpr = Jaxpr(self.const_vars, self.invars, outvars, self._frame_eqns, effects, debug_info or self.debug_info)
        _mark_unused(jaxpr)
        if config.enable_checks.value:
            from velax._lang.check import check_jaxpr  # only needed to look

            check_jaxpr(jaxpr)
        return jaxpr, list(self.consts)

    def origin_of(self, tracer: DynamicJaxprTracer) -> str:
        """What a value depends on, in words: for the errors about values not known while tracing."""
        info = self.debug_info
        if info is None:
            return ""
        head = f"The error occurred while tracing the function {info.func_src_info} for {info.traced_for}."
        needed, sources = {tracer.val}, []
        for eqn in reversed(self._frame_eqns):
            if any(v in needed for v in eqn.outvars):
                needed.update(v for v in eqn.invars if isinstance(v, Var))
                if len(sources) < 3:
                    sources.append(f"  operation {eqn.primitive} at {eqn.source_info}")
        names = info.arg_names or ()
        used = [names[i] if i < len(names) else f"#{i}" for i, v in enumerate(self.invars) if v in needed]
        if used:
            plural = "s" if len(used) > 1 else ""
            return (
                f"{head} This concrete value was not available in Python because it depends on the value{plural} "
                f"of the argument{plural} {_listed(used)}."
            )
        if sources:
            return f"{head} This value became a tracer due to JAX operations on these lines:\n" + "\n".join(sources)
        return head


def _listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b, and c``."""
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"


def _literal_value(x, aval: ShapedArray):
    """The scalar as it is under the aval's dtype (Python scalars stay, NumPy ones are canonicalised)."""
    if isinstance(x, np.generic):
        return x if x.dtype == aval.dtype else aval.dtype.type(x)
    if isinstance(x, int) and aval.dtype.kind in "iu":
        info = np.iinfo(aval.dtype)
        if not info.min <= x <= info.max:
            raise OverflowError(f"Python int {x} too large to convert to {aval.dtype.name}")
    return x


def _ended_trace_error(primitive):
    return UnexpectedTracerError(
        f"{primitive} was applied under a trace that has ended; do not keep traces beyond "
        "the transformed function's call"
    )


def _mark_unused(jaxpr: Jaxpr) -> None:
    """Replace result variables that nothing reads by `DropVar`."""
    used = {v for v in jaxpr.outvars if isinstance(v, Var)}
    for eqn in jaxpr.eqns:
        used.update(v for v in eqn.invars if isinstance(v, Var))
    for eqn in jaxpr.eqns:
        if not all(v in used for v in eqn.outvars):
            eqn.outvars = [v if v in used else DropVar(v.aval) for v in eqn.outvars]


#: what was traced: for each function a dict, which all that transform the same function share
_traces: weakref.WeakKeyDictionary[Any, dict] = weakref.WeakKeyDictionary()
_MAX_FUNCTIONS = 4096  #: a trace may hold its own function, which then lives until others have taken its place


def traces_of(fun: Callable) -> dict:
    """The traces kept for a function. Those of one that cannot be a key, as an unhashable one, are not kept."""
    try:
        found = _traces.get(fun)
        if found is None:
            if len(_traces) >= _MAX_FUNCTIONS:
                _traces.pop(next(iter(_traces)), None)  # another thread may have
            found = _traces.setdefault(fun, {})
        return found
    except TypeError:
        return {}


def keep_trace(traces: dict, key, found: tuple, consts: Sequence) -> None:
    """Keep a trace, unless it is about values of an enclosing one; the oldest makes room for it."""
    if any(isinstance(c, Tracer) for c in consts):
        return
    traces[key] = found
    if len(traces) > 4096:
        traces.pop(next(iter(traces)))


def drop_traces(fun: Callable) -> None:
    """Forget what was traced for a function."""
    traces_of(fun).clear()


def clear_traces() -> None:
    """Forget what was traced for all functions."""
    _traces.clear()


def trace_to_jaxpr(
    fun: Callable, in_avals: Sequence[AbstractValue], debug_info: DebugInfo | None = None, out_tree: Sequence = ()
) -> ClosedJaxpr:
    """Trace ``fun`` (flat values -> flat list of values) on arguments of these types.

    Args:
      fun: the function; it runs once.
      in_avals: an aval for each argument; `AbstractRef` for a mutable reference.
      debug_info: whose function it is, for messages.
      out_tree: receives the structure of the result while ``fun`` runs; for the same.

    Returns:
      The closed jaxpr. Its constants may be tracers of enclosing traces.
    """
    trace = DynamicJaxprTrace(debug_info, _native.get_trace())
    args = [trace.new_arg(a) for a in in_avals]
    try:
        with set_current_trace(trace):
            outs = fun(*args)
            if out_tree and debug_info is not None:
                debug_info = debug_info._replace(results=out_tree[0])
            jaxpr, consts = trace.to_jaxpr(outs, debug_info)
    finally:
        trace.invalidate()
    if config.check_tracer_leaks.value:
        del args, outs
        check_leaks(trace, debug_info)
    return ClosedJaxpr(jaxpr, consts)


def check_leaks(trace: Trace, info: DebugInfo | None = None) -> None:
    """LeakedTracerError if something still refers to a value of a finished trace, of the function
    that ``info`` describes.
    """
    gc.collect()
    leaked = [x for x in gc.get_referrers(trace) if isinstance(x, Tracer)]
    if leaked:
        traced = (
            f"the function {info.func_src_info} for {info.traced_for}"
            if info is not None
            else f"a function under {type(trace).__name__}"
        )

        def made_at(t):
            line = getattr(t, "_line_info", None)
            return f", made at {line}" if line is not None else ""

        raise LeakedTracerError(traced, [f"{t!r}{made_at(t)}. {t._origin_msg()}" for t in leaked])
