"""Forward-mode differentiation: the JVP trace.

Each value is a pair (primal, tangent). A primitive's JVP rule computes both under the parent trace.
Tangents known to be zero stay symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from velax._lang import dtypes
from velax._lang.jaxpr import ClosedJaxpr
from velax._lang.primitive import Primitive
from velax._lang.trace import Trace, Tracer, TraceTag, current_trace, get_aval, set_current_trace
from velax._transforms.evaluate import jaxpr_as_fun
from velax._transforms.staging import trace_to_jaxpr
from velax._transforms.zero import SymbolicZero, Zero, instantiate_zeros

__all__ = ["JVPTrace", "JVPTracer", "jvp_flat", "jvp_jaxpr", "missing_rule"]


class DerivativeTracer(Tracer):
    """A primal with a tangent: what the values of both derivative traces share."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: Trace, primal, tangent):
        self._trace, self.primal, self.tangent = trace, primal, tangent

    @property
    def aval(self):
        return get_aval(self.primal)

    def to_concrete_value(self):
        return self.primal.to_concrete_value() if isinstance(self.primal, Tracer) else self.primal

    def _origin_msg(self):
        return self.primal._origin_msg() if isinstance(self.primal, Tracer) else ""

    def get_referent(self):
        return self.primal


class JVPTracer(DerivativeTracer):
    """A primal with its tangent, both values of the parent trace."""

    __slots__ = ()

    def full_lower(self):
        return self.primal if type(self.tangent) is Zero else self

    def __repr__(self):
        return f"JVPTracer(primal={self.primal}, tangent={self.tangent})"


class JVPTrace(Trace):
    __slots__ = ("parent_trace", "tag")

    def __init__(self, parent_trace: Trace, tag: TraceTag):
        super().__init__()
        self.parent_trace, self.tag = parent_trace, tag

    def to_primal_tangent_pair(self, x):
        if isinstance(x, JVPTracer) and x._trace.tag is self.tag:
            return x.primal, x.tangent
        return x, Zero.from_primal_value(x)

    def box(self, primal, tangent):
        return primal if type(tangent) is Zero else JVPTracer(self, primal, tangent)

    def process_primitive(self, primitive: Primitive, args, params):
        primals, tangents, active = [], [], False
        tag = self.tag
        for x in args:
            if isinstance(x, JVPTracer) and x._trace.tag is tag:
                primals.append(x.primal)
                tangents.append(x.tangent)
                active = True
            else:
                primals.append(x)
                tangents.append(None)
        if not active and not primitive.ref_primitive:
            return primitive.bind_with_trace(self.parent_trace, primals, params)
        tangents = [Zero.from_primal_value(p) if t is None else t for p, t in zip(primals, tangents, strict=True)]
        rule = primitive.rules.get("jvp")
        if rule is None:
            raise missing_rule("Differentiation rule", primitive)
        with set_current_trace(self.parent_trace):
            out, out_tangent = rule(primals, tangents, **params)
        if primitive.multiple_results:
            return [self.box(p, t) for p, t in zip(out, out_tangent, strict=True)]
        return self.box(out, out_tangent)

    def process_custom_jvp_call(self, primitive, fun, jvp, args, *, symbolic_zeros=False, **params):
        primals, tangents = unzip_pairs(self, args)
        if all(type(t) is Zero for t in tangents):
            with set_current_trace(self.parent_trace):
                return primitive.bind(fun, jvp, *primals, symbolic_zeros=symbolic_zeros, **params)
        with set_current_trace(self.parent_trace):
            outs, out_tangents = call_custom_jvp(jvp, primals, tangents, symbolic_zeros)
        return [self.box(p, t) for p, t in zip(outs, out_tangents, strict=True)]

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, *, out_trees, symbolic_zeros=False, **params):
        primals, tangents = unzip_pairs(self, args)
        if all(type(t) is Zero for t in tangents):
            with set_current_trace(self.parent_trace):
                return primitive.bind(
                    fun, fwd, bwd, *primals, out_trees=out_trees, symbolic_zeros=symbolic_zeros, **params
                )
        with set_current_trace(self.parent_trace):
            residuals, outs, lin_params = primitive.rules["run_forward"](
                fwd, primals, tangents, out_trees, symbolic_zeros
            )
            out_tangents = primitive.rules["linear_primitive"].bind(
                *residuals, *map(instantiate_zeros, tangents), bwd=bwd, out_avals=tuple(get_aval(o).to_tangent_aval() for o in outs),
                symbolic_zeros=symbolic_zeros, **lin_params,
            )  # fmt: skip
        return [self.box(p, t) for p, t in zip(outs, out_tangents, strict=True)]


def unzip_pairs(trace, args):
    pairs = [trace.to_primal_tangent_pair(x) for x in args]
    return [p for p, _ in pairs], [t for _, t in pairs]


def call_custom_jvp(jvp: Callable, primals, tangents, symbolic_zeros: bool):
    """Run a user's JVP rule (flat: ``jvp(*primals, *tangents) -> [*outs, *out_tangents]``) with
    zeros as it asked for them.
    """
    if symbolic_zeros:
        given = [SymbolicZero(t.aval) if type(t) is Zero else t for t in tangents]
    else:
        given = [instantiate_zeros(t) for t in tangents]
    results = jvp(*primals, *given)
    n = len(results) // 2
    return results[:n], [_tangent_of_rule(t) for t in results[n:]]


def _tangent_of_rule(t):
    """Tangents that a rule states to be zero, also those of integers, which no operation takes."""
    if isinstance(t, SymbolicZero):
        return Zero(t.aval)
    return Zero(get_aval(t)) if getattr(t, "dtype", None) == dtypes.float0 else t


def missing_rule(kind: str, primitive: Primitive) -> NotImplementedError:
    return NotImplementedError(
        f"{kind} for '{primitive}' not implemented. If '{primitive}' is your own primitive, register one "
        f"(e.g. velax.interpreters.ad.defjvp, ad.primitive_transposes, batching.primitive_batchers)."
    )


def jvp_flat(fun: Callable, primals: Sequence, tangents: Sequence) -> tuple[list, list]:
    """``fun`` (flat) and its directional derivative; tangents may be `Zero`, and so may the results'."""
    parent = current_trace()
    trace = JVPTrace(parent, TraceTag())
    args = [trace.box(p, t) for p, t in zip(primals, tangents, strict=True)]
    try:
        with set_current_trace(trace):
            outs = fun(*args)
        pairs = [trace.to_primal_tangent_pair(x) for x in outs]
    finally:
        trace.invalidate()
    return [p for p, _ in pairs], [t for _, t in pairs]


def jvp_jaxpr(
    jaxpr: ClosedJaxpr, nonzeros: Sequence[bool], instantiate: bool | Sequence[bool]
) -> tuple[ClosedJaxpr, list[bool]]:
    """The jaxpr ``(*primals, *nonzero tangents) -> (*outs, *nonzero out tangents)``.

    Args:
      jaxpr: the function.
      nonzeros: which inputs have a tangent.
      instantiate: which output tangents must be there even if they are zero.

    Returns:
      The jaxpr and which outputs have a tangent. Computed once for each jaxpr object and arguments.
    """
    key_instantiate = instantiate if isinstance(instantiate, bool) else tuple(instantiate)
    return jaxpr.memo(("jvp", tuple(nonzeros), key_instantiate), lambda: _jvp_jaxpr(jaxpr, list(nonzeros), instantiate))


def _jvp_jaxpr(jaxpr, nonzeros, instantiate):
    n = len(nonzeros)
    force = [instantiate] * len(jaxpr.out_avals) if isinstance(instantiate, bool) else instantiate
    out_nonzeros: list[bool] = []
    fun = jaxpr_as_fun(jaxpr)

    def run(*args):
        given = iter(args[n:])
        tangents = [
            next(given) if nz else Zero(a.to_tangent_aval()) for nz, a in zip(nonzeros, jaxpr.in_avals, strict=True)
        ]
        outs, out_tangents = jvp_flat(fun, args[:n], tangents)
        out_tangents = [instantiate_zeros(t) if f else t for f, t in zip(force, out_tangents, strict=True)]
        out_nonzeros[:] = [type(t) is not Zero for t in out_tangents]
        return [*outs, *(t for t in out_tangents if type(t) is not Zero)]

    tangent_avals = [a.to_tangent_aval() for nz, a in zip(nonzeros, jaxpr.in_avals, strict=True) if nz]
    closed = trace_to_jaxpr(run, [*jaxpr.in_avals, *tangent_avals], jaxpr.jaxpr._debug_info)
    return closed, out_nonzeros
