"""Linearization: a function at a point as its value and a linear jaxpr of its derivative.

The linearize trace runs each primitive's JVP rule once with the primals under the parent trace and
the tangents staged into one jaxpr: whatever an operation computes from primals alone happens now,
whatever touches a tangent becomes an equation; the known values that these equations need are the
jaxpr's constants, the residuals. There is one derivative source: the JVP rules. Structured
primitives (calls, loops, branches) state a ``linearize`` rule, which splits their jaxprs the same
way:

    ``rule(nonzeros, *primals, **params) -> (outs, out_nonzeros, linear)``

with ``linear(*nonzero tangents) -> nonzero out tangents``, called under the tangent trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from velax._lang import dtypes
from velax._lang.avals import AbstractRef
from velax._lang.jaxpr import ClosedJaxpr, DebugInfo, Jaxpr, JaxprEqn, Var
from velax._lang.primitive import Primitive
from velax._lang.trace import Trace, TraceTag, as_array, current_trace, get_aval, set_current_trace
from velax._transforms.evaluate import jaxpr_as_fun, split_known
from velax._transforms.jvp import DerivativeTracer, call_custom_jvp, missing_rule, unzip_pairs
from velax._transforms.staging import DynamicJaxprTrace, DynamicJaxprTracer, trace_to_jaxpr
from velax._transforms.zero import Zero, instantiate_zeros

__all__ = ["LinearJaxpr", "LinearizeTrace", "LinearizeTracer", "linearize_flat", "linearize_jaxpr"]


class LinearizeTracer(DerivativeTracer):
    """A primal known under the parent trace, with a staged tangent."""

    __slots__ = ()

    def __repr__(self):
        return f"GradTracer(primal={self.primal}, typeof(tangent)={self.tangent.aval.str_short(short_dtypes=True)})"


class _SplitTrace(Trace):
    """Under which JVP rules run: what depends on a staged tangent is staged, the rest is evaluated by the parent."""

    __slots__ = ("parent_trace", "tangent_trace")

    def __init__(self, parent_trace, tangent_trace):
        super().__init__()
        self.parent_trace, self.tangent_trace = parent_trace, tangent_trace

    def _trace_for(self, args):
        return self.tangent_trace if any(map(self._is_staged, args)) else self.parent_trace

    def _is_staged(self, x) -> bool:
        return type(x) is DynamicJaxprTracer and x._trace is self.tangent_trace

    def process_primitive(self, primitive, args, params):
        trace = self._trace_for(args)
        if trace is self.tangent_trace and primitive.rules.get("depends") is not None:
            return self._process_structured(primitive, args, params)
        return primitive.bind_with_trace(trace, args, params)

    def _process_structured(self, primitive, args, params):
        """A call, a loop or a branch that a rule applied to primals and tangents together: its
        primal results are evaluated, as other primals are.
        """
        avals = [get_aval(x) for x in args]
        out_avals, effects = primitive.abstract_eval(*avals, **params)
        eqn = JaxprEqn([Var(a) for a in avals], [Var(a) for a in out_avals], primitive, params, effects, None)
        parts = split_known(eqn, [not self._is_staged(x) for x in args])
        if parts is None:
            return primitive.bind_with_trace(self.tangent_trace, args, params)
        env = dict(zip(eqn.invars, args, strict=True))
        for trace, part in zip((self.parent_trace, self.tangent_trace), parts, strict=True):
            outs = part.primitive.bind_with_trace(trace, [env[x] for x in part.invars], part.params)
            env.update(zip(part.outvars, outs, strict=True))
        return [env[v] for v in eqn.outvars]

    def process_call(self, primitive, f, args, params):
        return self._trace_for(args).process_call(primitive, f, args, params)

    def process_custom_jvp_call(self, primitive, fun, jvp, args, **params):
        with set_current_trace(self._trace_for(args)):
            return primitive.bind(fun, jvp, *args, **params)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, **params):
        with set_current_trace(self._trace_for(args)):
            return primitive.bind(fun, fwd, bwd, *args, **params)


class LinearizeTrace(Trace):
    __slots__ = ("parent_trace", "split_trace", "tag", "tangent_trace")

    def __init__(self, parent_trace: Trace, tangent_trace: DynamicJaxprTrace, tag: TraceTag):
        super().__init__()
        self.parent_trace, self.tangent_trace, self.tag = parent_trace, tangent_trace, tag
        self.split_trace = _SplitTrace(parent_trace, tangent_trace)

    def to_primal_tangent_pair(self, x):
        if isinstance(x, LinearizeTracer) and x._trace.tag is self.tag:
            return x.primal, x.tangent
        return x, Zero.from_primal_value(x)

    def box(self, primal, tangent):
        return primal if type(tangent) is Zero else LinearizeTracer(self, primal, tangent)

    def process_primitive(self, primitive: Primitive, args, params):
        primals, tangents, active = [], [], False
        tag = self.tag
        for x in args:
            if type(x) is LinearizeTracer and x._trace.tag is tag:
                primals.append(x.primal)
                tangents.append(x.tangent)
                active = True
            else:
                primals.append(x)
                tangents.append(None)
        if not active and not primitive.ref_primitive:
            return primitive.bind_with_trace(self.parent_trace, primals, params)
        rules = primitive.rules
        if rules.get("linearize") is not None:
            return self._process_structured(rules["linearize"], primals, tangents, params)
        rule = rules.get("jvp")
        if rule is None:
            raise missing_rule("Differentiation rule", primitive)
        tangents = [Zero.from_primal_value(p) if t is None else t for p, t in zip(primals, tangents, strict=True)]
        with set_current_trace(self.split_trace):
            out, out_tangent = rule(primals, tangents, **params)
        if primitive.multiple_results:
            return [self.box(p, self._staged(t)) for p, t in zip(out, out_tangent, strict=True)]
        return self.box(out, self._staged(out_tangent))

    def _staged(self, tangent):
        """A rule may return a tangent it computed from primals alone; then it is a constant of the linear jaxpr."""
        if type(tangent) is Zero or (type(tangent) is DynamicJaxprTracer and tangent._trace is self.tangent_trace):
            return tangent
        with set_current_trace(self.tangent_trace):
            return self.tangent_trace.to_tracer(as_array(tangent))

    def _process_structured(self, rule, primals, tangents, params):
        with set_current_trace(self.parent_trace):
            outs, out_nonzeros, linear = rule([t is not None for t in tangents], *primals, **params)
        with set_current_trace(self.tangent_trace):
            given = iter(linear(*(t for t in tangents if t is not None)))
            out_tangents = [
                next(given) if nz else Zero.from_primal_value(o) for nz, o in zip(out_nonzeros, outs, strict=True)
            ]
        return [self.box(p, self._staged(t)) for p, t in zip(outs, out_tangents, strict=True)]

    def process_custom_jvp_call(self, primitive, fun, jvp, args, *, symbolic_zeros=False, **params):
        primals, tangents = unzip_pairs(self, args)
        if all(type(t) is Zero for t in tangents):
            with set_current_trace(self.parent_trace):
                return primitive.bind(fun, jvp, *primals, symbolic_zeros=symbolic_zeros, **params)
        with set_current_trace(self.split_trace):
            outs, out_tangents = call_custom_jvp(jvp, primals, tangents, symbolic_zeros)
        return [self.box(p, self._staged(t)) for p, t in zip(outs, out_tangents, strict=True)]

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
            out_avals = tuple(get_aval(o).to_tangent_aval() for o in outs)
        # a reference that is not differentiated has no cotangent: the backward rule may write to it
        linear = [not (type(t) is Zero and isinstance(t.aval, AbstractRef)) for t in tangents]
        if not all(linear):
            of_all = bwd
            bwd = lambda *args: [ct for ct, keep in zip(of_all(*args), linear, strict=True) if keep]
        with set_current_trace(self.tangent_trace):
            out_tangents = primitive.rules["linear_primitive"].bind(
                *residuals,
                *(instantiate_zeros(t) for t, keep in zip(tangents, linear, strict=True) if keep),
                bwd=bwd,
                out_avals=out_avals,
                symbolic_zeros=symbolic_zeros,
                **lin_params,
            )
        return [self.box(p, t) for p, t in zip(outs, out_tangents, strict=True)]


class LinearJaxpr:
    """The derivative of a function at a point.

    Attributes:
      jaxpr: ``(*nonzero tangents) -> nonzero out tangents``, with the residuals as its constants.
      out_nonzeros: which results have a tangent.
    """

    __slots__ = ("jaxpr", "out_nonzeros")

    def __init__(self, jaxpr: ClosedJaxpr, out_nonzeros: list[bool]):
        self.jaxpr, self.out_nonzeros = jaxpr, out_nonzeros


def linearize_flat(
    fun: Callable, primals: Sequence, nonzeros: Sequence[bool] | None = None, debug_info: DebugInfo | None = None
) -> tuple[list, LinearJaxpr]:
    """Evaluate a flat function and stage its derivative.

    Args:
      fun: flat values -> flat list of values.
      primals: the point.
      nonzeros: which inputs are differentiated (default: all).

    Returns:
      The results and the `LinearJaxpr`.
    """
    parent = current_trace()
    tangent_trace = DynamicJaxprTrace(debug_info, parent)
    trace = LinearizeTrace(parent, tangent_trace, TraceTag())
    nonzeros = [True] * len(primals) if nonzeros is None else nonzeros
    args = []
    for p, nz in zip(primals, nonzeros, strict=True):
        tangent = tangent_trace.new_arg(get_aval(p).to_tangent_aval()) if nz else None
        # a tangent of an integer is an input of the linear function that nothing depends on
        args.append(LinearizeTracer(trace, p, tangent) if nz and tangent.aval.dtype != dtypes.float0 else p)
    try:
        with set_current_trace(trace):
            outs = fun(*args)
        pairs = [trace.to_primal_tangent_pair(x) for x in outs]
        out_nonzeros = [type(t) is not Zero for _, t in pairs]
        jaxpr, consts = tangent_trace.to_jaxpr([t for _, t in pairs if type(t) is not Zero])
    finally:
        trace.invalidate()
        tangent_trace.invalidate()
    return [p for p, _ in pairs], LinearJaxpr(ClosedJaxpr(jaxpr, consts), out_nonzeros)


class LinearizedJaxpr:
    """A jaxpr split into what runs now and what is linear.

    Attributes:
      primal: ``(*ins) -> (*outs, *residuals)``.
      tangent: ``(*residuals, *nonzero tangents) -> nonzero out tangents`` (no constants).
      out_nonzeros: which results have a tangent.
      forwarded: for each residual, the index of the input that it is, or None; forwarded ones are
        not among the primal jaxpr's outputs.
    """

    __slots__ = ("forwarded", "n_outs", "out_nonzeros", "primal", "tangent")

    def __init__(self, primal, tangent, out_nonzeros, forwarded, n_outs):
        self.primal, self.tangent, self.out_nonzeros, self.forwarded, self.n_outs = (
            primal,
            tangent,
            out_nonzeros,
            forwarded,
            n_outs,
        )

    def residuals(self, ins, primal_outs):
        """All residuals, from the inputs and the primal jaxpr's outputs."""
        computed = iter(primal_outs[self.n_outs :])
        return [next(computed) if i is None else ins[i] for i in self.forwarded]


def linearize_jaxpr(
    jaxpr: ClosedJaxpr, nonzeros: Sequence[bool], instantiate: bool | Sequence[bool] = False
) -> LinearizedJaxpr:
    """Split a jaxpr for the inputs ``nonzeros``; ``instantiate`` names results that need a tangent
    even if zero. Memoised on the jaxpr object.
    """
    key = instantiate if isinstance(instantiate, bool) else tuple(instantiate)
    return jaxpr.memo(("linearize", tuple(nonzeros), key), lambda: _linearize_jaxpr(jaxpr, list(nonzeros), instantiate))


def _linearize_jaxpr(jaxpr, nonzeros, instantiate):
    fun = jaxpr_as_fun(jaxpr)
    n_outs = len(jaxpr.out_avals)
    force = [instantiate] * n_outs if isinstance(instantiate, bool) else instantiate
    split: list = []

    def run(*ins):
        outs, linear = linearize_flat(fun, ins, nonzeros)
        split[:] = [linear.jaxpr.jaxpr, linear.out_nonzeros]  # not the residuals: they are values of this trace
        return [*outs, *linear.jaxpr.consts]

    primal = trace_to_jaxpr(run, jaxpr.in_avals, jaxpr.jaxpr._debug_info)
    linear, linear_nonzeros = split
    tangent = _with_residual_inputs(linear, linear_nonzeros, force, jaxpr.out_avals)
    # residuals that are inputs need not be returned; one returned twice is returned once
    position = {v: i for i, v in enumerate(primal.jaxpr.invars)}
    outvars = primal.jaxpr.outvars
    forwarded, kept, seen, merged = [], [], {}, []
    tangent_vars = tangent.jaxpr.invars[: len(linear.constvars)]
    replace: dict[Var, Var] = {}
    for residual, inner in zip(outvars[n_outs:], tangent_vars, strict=True):
        if isinstance(residual, Var) and residual in seen:
            replace[inner] = seen[residual]
            continue
        if isinstance(residual, Var):
            seen[residual] = inner
        merged.append(inner)
        index = position.get(residual) if isinstance(residual, Var) else None
        forwarded.append(index)
        if index is None:
            kept.append(residual)
    if replace:
        tangent = ClosedJaxpr(_substitute(tangent.jaxpr, replace, merged, len(tangent_vars)), [])
    primal = primal.replace(jaxpr=primal.jaxpr.replace(outvars=[*outvars[:n_outs], *kept]))
    out_nonzeros = [f or nz for f, nz in zip(force, linear_nonzeros, strict=True)]
    return LinearizedJaxpr(primal, tangent, out_nonzeros, forwarded, n_outs)


def _with_residual_inputs(inner: Jaxpr, nonzeros, force, out_avals) -> ClosedJaxpr:
    """``(*residuals, *tangents) -> out tangents``, with zeros for the forced ones that have none."""
    if all(nz or not f for f, nz in zip(force, nonzeros, strict=True)):
        return ClosedJaxpr(inner.replace(constvars=[], invars=[*inner.constvars, *inner.invars]), [])
    n_consts = len(inner.constvars)

    def run(*args):
        fun = jaxpr_as_fun(ClosedJaxpr(inner, args[:n_consts]))
        given = iter(fun(*args[n_consts:]))
        outs = []
        for f, nz, aval in zip(force, nonzeros, out_avals, strict=True):
            if nz:
                outs.append(next(given))
            elif f:
                outs.append(instantiate_zeros(Zero(aval.to_tangent_aval())))
        return outs

    avals = [v.aval for v in (*inner.constvars, *inner.invars)]
    return trace_to_jaxpr(run, avals)


def _substitute(jaxpr, replace, residual_vars, n_residuals):
    """Rename duplicate residual variables."""
    sub = lambda x: replace.get(x, x) if isinstance(x, Var) else x
    eqns = [
        e.replace(invars=[sub(x) for x in e.invars])
        if any(isinstance(x, Var) and x in replace for x in e.invars)
        else e
        for e in jaxpr.eqns
    ]
    return jaxpr.replace(
        invars=[*residual_vars, *jaxpr.invars[n_residuals:]], outvars=[sub(x) for x in jaxpr.outvars], eqns=eqns
    )
