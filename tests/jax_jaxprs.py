"""Jaxprs of the oracle as jaxprs of Velax, so that what is said about them can be compared."""

import jax
import numpy as np
from jax._src import core

from velax._lang import avals, jaxpr, primitive

_primitives = {}
# Parameters of calls that say nothing about what is computed.
_OF_CALLS = frozenset(
    {"name", "in_shardings", "out_shardings", "in_layouts", "out_layouts", "ctx_mesh", "compiler_options_kvs"}
)


def primitive_like(theirs):
    """A primitive of the same name, without rules."""
    if theirs.name not in _primitives:
        ours = _primitives[theirs.name] = primitive.Primitive(theirs.name, theirs.multiple_results)
        primitive.all_primitives.remove(ours)
        ours.irrelevant_params = _OF_CALLS
    return _primitives[theirs.name]


class OpaqueAval(avals.AbstractValue):
    """An aval that is only printed."""

    def __init__(self, theirs):
        self.theirs = theirs

    def str_short(self, short_dtypes=False):
        return self.theirs.str_short(short_dtypes=short_dtypes)


def convert_aval(theirs):
    if isinstance(theirs, core.ShapedArray) and isinstance(theirs.dtype, np.dtype):
        return avals.shaped_array(theirs.shape, theirs.dtype, theirs.weak_type)
    return OpaqueAval(theirs)


def convert_literal(value):
    for t in (bool, int, float, complex):
        if isinstance(value, t):
            return t(value)
    return np.asarray(value)[()] if hasattr(value, "dtype") else value


def _rule(theirs):
    """A function of the name of a derivative rule."""

    def rule():
        raise NotImplementedError

    rule.__name__ = theirs.debug_info.func_name
    return rule


class _Converter:
    def __init__(self):
        self.variables, self.jaxprs = {}, {}

    def atom(self, v):
        if isinstance(v, core.Literal):
            return jaxpr.Literal(convert_literal(v.val), convert_aval(v.aval))
        if isinstance(v, core.DropVar):
            return jaxpr.DropVar(convert_aval(v.aval))
        if v not in self.variables:
            self.variables[v] = jaxpr.Var(convert_aval(v.aval))
        return self.variables[v]

    def value(self, v):
        if isinstance(v, core.Jaxpr):
            return self.jaxpr(v)
        if isinstance(v, core.ClosedJaxpr):
            return jaxpr.ClosedJaxpr(self.jaxpr(v.jaxpr), v.consts)
        return type(v)(map(self.value, v)) if type(v) in (tuple, list) else v

    def eqn(self, e):
        params = {k: self.value(v) for k, v in e.params.items()}
        for k in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd"):
            if k in params:
                params[k] = _rule(params[k])
        return jaxpr.new_jaxpr_eqn(
            map(self.atom, e.invars), map(self.atom, e.outvars), primitive_like(e.primitive), params
        )

    def jaxpr(self, j):
        if j not in self.jaxprs:
            info = jaxpr.DebugInfo("jit", j.debug_info.func_src_info, None, None)
            self.jaxprs[j] = jaxpr.Jaxpr(
                [*map(self.atom, j.constvars)], [*map(self.atom, j.invars)], [*map(self.atom, j.outvars)],
                [*map(self.eqn, j.eqns)], debug_info=info,
            )  # fmt: skip
        return self.jaxprs[j]


def convert(closed):
    """A closed jaxpr of JAX as one of Velax."""
    return jaxpr.ClosedJaxpr(_Converter().jaxpr(closed.jaxpr), closed.consts)


def traced(f, *args):
    """The jaxpr of `f` by JAX, and the same as one of Velax."""
    theirs = jax.make_jaxpr(f)(*args)
    return theirs, convert(theirs)
