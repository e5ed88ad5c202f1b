"""Running programs on the CPU: what a `jit` miss, an eager primitive and an ahead-of-time stage call.

Registers itself with the transformations (`set_compiler`, `set_stage_compiler`) and the language (`set_default_impl`).
"""

from __future__ import annotations

import contextlib

import numpy as np

from velax import _native
from velax._compiler.driver import CompiledJaxpr, compile_jaxpr, graph_of, program_of
from velax._lang import dtypes
from velax._lang.avals import shaped_array
from velax._lang.config import FLAG_DEBUG
from velax._lang.logs import FinishedRecord
from velax._lang.primitive import Primitive, set_default_impl
from velax._lang.trace import get_aval
from velax._lang.transfers import check_operands_transfer
from velax._transforms.calls import jit_p
from velax._transforms.debug_values import check_results
from velax._transforms.inspecting import set_stage_compiler
from velax._transforms.jit import TracedCall, set_compiler, warn_unusable_donation
from velax._transforms.staging import trace_to_jaxpr

__all__ = ["apply_primitive", "wrap_keys"]

_native.set_aval_factory(lambda shape, dtype, weak: shaped_array(tuple(shape), dtype, weak))

#: extended dtype -> function from the physical array to the array users see; filled by `velax.random`
wrap_keys: dict[type, object] = {}


def _wraps(avals):
    """For each result that is stored as something else (keys, float0), the function from the stored array to
    the value.
    """
    wraps = []
    for aval in avals:
        if dtypes.is_extended(aval.dtype):
            make = wrap_keys[type(aval.dtype)]
            wraps.append(lambda base, aval=aval, make=make: make(aval, base))
        elif aval.dtype == dtypes.float0:
            wraps.append(lambda base, shape=aval.shape: np.zeros(shape, dtypes.float0))
        else:
            wraps.append(None)
    return wraps if any(w is not None for w in wraps) else None


def _entry(compiled: CompiledJaxpr, out_avals, out_tree=None):
    return _native.JitEntry(compiled.executable, consts=compiled.consts, out_tree=out_tree, out_wraps=_wraps(out_avals))


def _compile_call(traced: TracedCall):
    """Serve a miss of a `JitFunction`."""
    compiled = compile_jaxpr(traced.jaxpr, traced.donated, traced.name)
    warn_unusable_donation(traced)
    return _entry(compiled, traced.jaxpr.out_avals, traced.out_tree)


set_compiler(_compile_call)


# -- eager primitives ----------------------------------------------------------------------------


def _compile_application(application: tuple, args):
    primitive, *params = application
    return _compile_primitive(primitive, args, dict(params))


def _compile_primitive(primitive: Primitive, args, params):
    def run(*xs):
        out = primitive.bind(*xs, **params)
        return out if primitive.multiple_results else [out]

    name = params["name"] if primitive is jit_p else primitive.name
    with FinishedRecord(__name__, f"tracing {name} for jit") if primitive is not jit_p else contextlib.nullcontext():
        closed = trace_to_jaxpr(run, [get_aval(x) for x in args])
    return _entry(compile_jaxpr(closed, (), name), closed.out_avals)


_eager_cache = _native.EagerCache(_compile_application)


def apply_primitive(primitive: Primitive, args, params: dict):
    """Evaluate a primitive on concrete values: compiled once for each signature."""
    try:
        outs = _eager_cache((primitive, *params.items()), *args)
    except TypeError:
        if _is_hashable(params):
            raise
        # a parameter is unhashable: compile for this call alone
        outs = _run_entry(_compile_primitive(primitive, args, params), args)
    return outs if primitive.multiple_results else outs[0]


def _is_hashable(params: dict) -> bool:
    try:
        hash(tuple(params.items()))
    except TypeError:
        return False
    return True


def _run_entry(entry, args):
    return _native.EagerCache(lambda key, given: entry)(None, *args)


set_default_impl(apply_primitive)


# -- stages --------------------------------------------------------------------------------------


class _StageProgram:
    """What `Lowered` and `Compiled` show and call. To show the graph takes no compilation."""

    def __init__(self, traced: TracedCall):
        self._traced = traced
        self._compiled: CompiledJaxpr | None = None
        self._cache = _native.EagerCache(lambda key, args: _entry(self.compile(), traced.jaxpr.out_avals))

    def compile(self) -> CompiledJaxpr:
        """What is called; compiled once."""
        if self._compiled is None:
            traced = self._traced
            warn_unusable_donation(traced)
            self._compiled = compile_jaxpr(traced.jaxpr, traced.donated, traced.name)
        return self._compiled

    def call(self, leaves):
        jaxpr, differ = self._traced.jaxpr, []
        for i, (x, aval) in enumerate(zip(leaves, jaxpr.in_avals, strict=True)):
            got = get_aval(x)
            if got.shape != aval.shape or got.dtype != aval.dtype:
                name = (jaxpr.jaxpr.debug_info.arg_names or range(len(leaves)))[i]
                differ.append(f"Argument '{name}' compiled with {aval.str_short()} and called with {got.str_short()}")
        if differ:
            raise TypeError(
                "Argument types differ from the types for which this computation was compiled. Perhaps you are calling "
                "the compiled executable with a different enable_x64 mode than when it was AOT compiled? Call the "
                "jitted function itself, or lower and compile it for these types. The mismatches are:\n"
                + "\n".join(differ)
            )
        debugging = _native.config_flags() & FLAG_DEBUG
        if debugging:
            check_operands_transfer(leaves)
        outs = self._cache(None, *leaves)
        if debugging:
            check_results(jit_p, leaves, {"jaxpr": self._traced.jaxpr}, outs)
        return outs

    @property
    def executable(self):
        return self.compile().executable

    def graph(self):
        return graph_of(self._traced.jaxpr)

    def graph_text(self) -> str:
        from velax._ir.graph_text import print_graph  # only needed to look

        return print_graph(self.graph())

    def program_text(self) -> str:
        return str(program_of(self._traced.jaxpr, self._traced.donated))

    def cost_analysis(self):
        return {"flops": None, "program instructions": self.executable.num_instructions}

    def memory_analysis(self):
        return {"temporary bytes": self.executable.arena_bytes}


set_stage_compiler(_StageProgram)
