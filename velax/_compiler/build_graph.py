"""Jaxpr -> array graph.

Each equation's primitive states its ``lower`` rule: ``rule(ctx, *nodes, **params) -> node(s)`` with ``ctx`` a
`LoweringContext`. Calls are inlined; constants become runtime inputs after the arguments; arrays of an extended
dtype (typed random keys) are their physical arrays, with the key's own axes last; integers of 4 bits are the low bits
of bytes (`velax._ir.narrow_integers`). Comes first in the pipeline; references must have been discharged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from velax._ir import narrow_integers
from velax._ir.graph import Builder, Graph, Node
from velax._lang import dtypes
from velax._lang.avals import ShapedArray, shaped_array
from velax._lang.jaxpr import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from velax._transforms.discharge import discharge_internal

__all__ = ["LoweringContext", "Module", "build_graph", "physical_array", "physical_aval"]


class Module:
    """What one program collects while it is lowered.

    Attributes:
      consts: captured arrays; they follow the arguments as inputs.
      callbacks: host functions with the types of their operands and results; a ``callback`` node names one by position.
    """

    def __init__(self):
        self.consts: list[Any] = []
        self.callbacks: list[tuple[Callable, list, list]] = []


class LoweringContext:
    """What a lowering rule may use.

    Attributes:
      builder: makes nodes.
      avals_in, avals_out: types of the equation's operands and results.
      module: the program's `Module`.
      eqn: the equation.
    """

    __slots__ = ("_scope", "avals_in", "avals_out", "eqn")

    def __init__(self, scope: _Scope, eqn: JaxprEqn, avals_in, avals_out):
        self._scope, self.eqn, self.avals_in, self.avals_out = scope, eqn, avals_in, avals_out

    @property
    def builder(self) -> Builder:
        return self._scope.builder

    @property
    def module(self) -> Module:
        return self._scope.module

    def inline(self, closed: ClosedJaxpr, nodes: Sequence[Node]) -> list[Node]:
        """The results of a jaxpr applied here."""
        closed = discharge_internal(closed)
        return self._scope.lower_jaxpr(closed.jaxpr, [self._scope.constant(c) for c in closed.consts], nodes)

    def subgraphs(self, jaxprs: Sequence[ClosedJaxpr]) -> tuple[list[Graph], list[Node]]:
        """Jaxprs as nested graphs, for control flow, and what their first inputs are given: what any of them captures,
        as nested graphs have no constants.
        """
        parts = []
        for closed in jaxprs:
            scope = _Scope(self.module, Builder())
            inputs = [scope.argument(a) for a in closed.in_avals]
            outputs = scope.lower_jaxpr(closed.jaxpr, [scope.constant(c) for c in closed.consts], inputs)
            parts.append((scope, inputs, outputs))
        captured = {id(c): c for scope, _, _ in parts for c in scope.captured}.values()
        graphs = [
            Graph((*map(scope.constant, captured), *inputs), tuple(outputs), tuple(scope.effects))
            for scope, inputs, outputs in parts
        ]
        return graphs, [self._scope.constant(c) for c in captured]

    def subgraph(self, closed: ClosedJaxpr) -> tuple[Graph, list[Node]]:
        """`subgraphs` of one."""
        (graph,), captured = self.subgraphs([closed])
        return graph, captured

    def callback(
        self, function: Callable, operands: Sequence[Node], in_avals, out_avals, *, ordered: bool, effectful: bool
    ) -> list[Node]:
        """Call ``function(*arrays) -> sequence of arrays`` on the host, with the types of both."""
        physical = [physical_aval(a) for a in out_avals]
        results = tuple((a.shape, dtypes.ir_name(a.dtype)) for a in physical)
        types_in = [(a.shape, a.dtype, False) for a in map(physical_aval, in_avals)]
        self.module.callbacks.append((function, types_in, [(a.shape, a.dtype, False) for a in physical]))
        attrs = {"id": len(self.module.callbacks) - 1, "ordered": ordered, "results": results}
        node = Node("callback", tuple(operands), attrs, None, None, self.builder.source)
        outs = [self.builder.get(node, k, shape, dtype) for k, (shape, dtype) in enumerate(results)]
        if effectful:
            self._scope.effects.append(node)
        return outs

    def keep(self, outs: Sequence[Node], graphs: Sequence[Graph]) -> None:
        """Note that a control-flow node has effects if one of its graphs has."""
        if any(g.effects for g in graphs):
            node = outs[0].inputs[0] if outs else None
            if node is None:
                raise NotImplementedError(f"{self.eqn.primitive}: control flow with effects but without results")
            self._scope.effects.append(node)


def physical_aval(aval: ShapedArray) -> ShapedArray:
    """The type of the array that stores a value of type ``aval``."""
    if dtypes.is_extended(aval.dtype):
        return shaped_array((*aval.shape, *aval.dtype.base_shape), aval.dtype.base_dtype)
    if aval.dtype == dtypes.float0:  # carries no information; stored as False
        return shaped_array(aval.shape, np.dtype(bool))
    return aval


def physical_array(value):
    """The array that stores a captured one."""
    return value._base_array if hasattr(value, "_base_array") else value


class _Scope:
    """Lowering into one builder."""

    def __init__(self, module: Module, builder: Builder):
        self.module, self.builder = module, builder
        self.effects: list[Node] = []
        self.captured: list[Any] = []
        self._constants: dict[int, Node] = {}

    def argument(self, aval) -> Node:
        if not isinstance(aval, ShapedArray):
            raise NotImplementedError(f"an input of type {aval} cannot be compiled")
        aval = physical_aval(aval)
        return self.builder.input(aval.shape, dtypes.ir_name(aval.dtype))

    def constant(self, value) -> Node:
        """A captured value: a literal if it is a scalar of Python or NumPy, else an input."""
        if isinstance(value, (bool, int, float, complex, np.generic)):
            return self.literal(value, shaped_array((), dtypes.dtype(value)))
        if value.dtype == dtypes.float0:
            return self.builder.full(value.shape, False, "bool")
        array = physical_array(value)
        node = self._constants.get(id(array))
        if node is None:
            dtype = np.dtype(dtypes.canonicalize_dtype(array.dtype))
            node = self.builder.input(tuple(array.shape), dtypes.ir_name(dtype))
            self._constants[id(array)] = node
            self.captured.append(array)
        return node

    def literal(self, value, aval) -> Node:
        dtype = aval.dtype
        if dtypes.is_complex(dtype):
            return self.builder.literal(complex(value), dtypes.ir_name(dtype))
        if dtype == np.bool_:
            return self.builder.literal(bool(value), "bool")
        if dtype == dtypes.float0:
            return self.builder.literal(False, "bool")
        if dtypes.is_integer(dtype):
            value = narrow_integers.literal_value(int(value), dtype) if narrow_integers.is_narrow(dtype) else int(value)
            return self.builder.literal(value, dtypes.ir_name(dtype))
        return self.builder.literal(float(dtype.type(value)), dtypes.ir_name(dtype))

    def lower_jaxpr(self, jaxpr: Jaxpr, consts: Sequence[Node], args: Sequence[Node]) -> list[Node]:
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        literal = self.literal
        for eqn in jaxpr.eqns:
            nodes = [literal(x.val, x.aval) if type(x) is Literal else env[x] for x in eqn.invars]
            self.builder.source = eqn.source_info
            outs = self.lower_eqn(eqn, nodes)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [literal(x.val, x.aval) if type(x) is Literal else env[x] for x in jaxpr.outvars]

    def lower_eqn(self, eqn: JaxprEqn, nodes: list[Node]) -> Sequence[Node]:
        primitive = eqn.primitive
        rule = primitive.rules.get("lower")
        if rule is None:
            raise NotImplementedError(
                f"MLIR translation rule for primitive '{primitive}' not found for platform cpu: it has no lowering, so "
                f"it cannot be compiled (used at {eqn.source_info}). "
                "If it is your own, register one with "
                "velax.interpreters.mlir.register_lowering(primitive, mlir.lower_fun(python_function))."
            )
        avals_in, avals_out = [x.aval for x in eqn.invars], [v.aval for v in eqn.outvars]
        for aval in avals_out:
            _check_result(aval, eqn)
        if not primitive.rules.get("physical") and any(_is_key(a) for a in (*avals_in, *avals_out)):
            return self._lower_componentwise(rule, eqn, nodes, avals_in, avals_out)
        if any(_is_narrow(a) for a in (*avals_in, *avals_out)):
            return self._lower_narrow(rule, eqn, nodes, avals_in, avals_out)
        out = rule(LoweringContext(self, eqn, avals_in, avals_out), *nodes, **eqn.params)
        return out if isinstance(out, (list, tuple)) else [out]

    def _lower_narrow(self, rule, eqn, nodes, avals_in, avals_out):
        """An operation on integers of 4 bits: on the numbers that they stand for, of which the low bits are kept."""
        # An own lowering, or another primitive of the same name, may compute whatever it likes.
        b, name = self.builder, eqn.primitive.name if rule is eqn.primitive.defined_lower else ""
        as_stored = narrow_integers.taken_as_stored(name, len(nodes))
        given = [
            narrow_integers.extended(b, x, a.dtype) if _is_narrow(a) and i not in as_stored else x
            for i, (x, a) in enumerate(zip(nodes, avals_in, strict=True))
        ]
        out = rule(LoweringContext(self, eqn, avals_in, avals_out), *given, **eqn.params)
        outs = out if isinstance(out, (list, tuple)) else [out]
        return [
            narrow_integers.computed(b, x, name, a.dtype) if _is_narrow(a) else x
            for x, a in zip(outs, avals_out, strict=True)
        ]

    def _lower_componentwise(self, rule, eqn, nodes, avals_in, avals_out):
        """A structural operation on keys: the same on each of the words that make a key, then stacked."""
        dtype = next(a.dtype for a in (*avals_in, *avals_out) if _is_key(a))
        if len(dtype.base_shape) != 1:
            raise NotImplementedError(f"{eqn.primitive} on an extended dtype of element shape {dtype.base_shape}")
        word = lambda a: shaped_array(a.shape, dtype.base_dtype) if _is_key(a) else a
        b, results = self.builder, []
        for k in range(dtype.base_shape[0]):
            parts = []
            for node, aval in zip(nodes, avals_in, strict=True):
                if _is_key(aval):
                    starts, limits = [0] * len(aval.shape) + [k], [*aval.shape, k + 1]
                    node = b.reshape(b.slice(node, starts, limits), aval.shape)
                parts.append(node)
            ctx = LoweringContext(self, eqn, [word(a) for a in avals_in], [word(a) for a in avals_out])
            out = rule(ctx, *parts, **eqn.params)
            results.append(out if isinstance(out, (list, tuple)) else [out])
        stacked = []
        for i, aval in enumerate(avals_out):
            if _is_key(aval):
                stacked.append(b.concatenate([b.reshape(r[i], (*aval.shape, 1)) for r in results], len(aval.shape)))
            else:
                stacked.append(results[0][i])
        return stacked


def _check_result(aval, eqn: JaxprEqn) -> None:
    """Everything below has its dtypes, and 64-bit integers for sizes and offsets."""
    if not isinstance(aval, ShapedArray):
        return
    try:
        dtypes.ir_name(physical_aval(aval).dtype)
    except TypeError as e:
        raise TypeError(f"{eqn.primitive}: {e} (at {eqn.source_info})") from None
    if math.prod(aval.shape) >> 58:  # of elements of up to 16 bytes
        raise MemoryError(
            f"{eqn.primitive}: a result {aval.str_short()} is larger than any memory (at {eqn.source_info})"
        )


def _is_key(aval) -> bool:
    return isinstance(aval, ShapedArray) and dtypes.is_extended(aval.dtype)


def _is_narrow(aval) -> bool:
    return isinstance(aval, ShapedArray) and narrow_integers.is_narrow(aval.dtype)


def build_graph(closed: ClosedJaxpr) -> tuple[Graph, Module]:
    """The graph of a closed jaxpr, and its `Module`: inputs are the arguments, then ``module.consts``."""
    module = Module()
    scope = _Scope(module, Builder())
    args = [scope.argument(a) for a in closed.in_avals]
    consts = [scope.constant(c) for c in closed.consts]
    outputs = scope.lower_jaxpr(closed.jaxpr, consts, args)
    module.consts = scope.captured
    return Graph(tuple(scope.builder.inputs), tuple(outputs), tuple(scope.effects)), module
