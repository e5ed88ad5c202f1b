"""Primitives: one open record each.

A `Primitive` holds every rule that the system has for an operation. The rule tables under JAX's names
(`RuleTable`) are views of one field of all records, so a library that says ``ad.primitive_jvps[p] = rule``
fills the same record as a built-in definition. `define` makes a built-in one and demands every
field: a rule that does not exist is stated as None.

Calling conventions of the fields:

=================  ==================================================================================================
abstract_eval      ``(*avals, **params) -> aval`` (list of avals with multiple results); effectful form returns ``(avals, effects)``
impl               ``(*concrete, **params) -> value(s)``; default: compile and run the lowering
lower              ``(ctx, *nodes, **params) -> node(s)`` into the array graph; see `velax._compiler.build_graph.LoweringContext`
jvp                ``(primals, tangents, **params) -> (primals_out, tangents_out)``; tangents may be `Zero`
linearize          optional ``(nonzeros, *primals, **params) -> (outs, out_nonzeros, residuals, linear_fun)`` of structured primitives
transpose          ``(cotangent(s), *args, **params) -> cotangents``; linear arguments are `UndefinedPrimal`
batch              ``(args, dims, **params) -> (out(s), out_dim(s))``; unmapped dims are None
batch_axis         ``(axis_data, args, dims, **params)``: batching that needs the axis name or size (collectives, control flow)
dce                ``(used_outputs, eqn) -> (used_inputs, eqn | None)``
depends            ``(flags, **params) -> flags of the results``: which depend on the flagged operands; default: all, if any is flagged
replay             ``(*concrete, **params)``: evaluate the body operation by operation; see `_transforms.debug_values`
discharge          ``(in_avals, out_avals, *args, **params) -> (new values of refs, outs)``
=================  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from velax import _native
from velax._lang.effects import no_effects

__all__ = ["CallPrimitive", "Primitive", "RuleTable", "all_primitives", "define", "set_default_impl"]

all_primitives: list[Primitive] = []  #: every record, in order of definition
_default_impl: Callable | None = None
_get_trace = _native.get_trace
_config_key = _native.config_key


def set_default_impl(f: Callable) -> None:
    """Registered by the back end: ``f(primitive, args, params)`` compiles and runs one primitive on concrete values."""
    global _default_impl
    _default_impl = f


class Primitive:
    """An operation of the language.

    Args:
      name: how it prints.
      multiple_results: whether `bind` returns a list.
    """

    call_primitive = False
    ref_primitive = False
    skip_canonicalization = False
    is_high = None

    def __init__(self, name: str, multiple_results: bool = False):
        self.name = name
        self.multiple_results = multiple_results
        self.rules: dict[str, Callable | None] = {}
        self.elementwise = False  #: result and operands have one shape and element i depends on elements i only
        self.arity: int | None = None  #: number of operands, where it is part of the record
        self.linear_in: tuple[int, ...] | None = None  #: operands in which the result is linear, if any
        self.irrelevant_params: frozenset[str] = frozenset()  #: parameters that do not change the compiled program
        self.defined_lower: Callable | None = None  #: the lowering that `define` gave it, which its name stands for
        self._effectful = False
        self._type_memo: dict = {}
        all_primitives.append(self)

    # -- application ------------------------------------------------------------------------------

    def bind(self, *args, **params):
        """Apply to values under the current trace."""
        trace = _get_trace()
        if trace is None:
            return _eval_trace.process_primitive(self, args, params)
        return self.bind_with_trace(trace, args, params)

    def bind_with_trace(self, trace, args, params):
        return trace.process_primitive(self, args, params)

    def get_bind_params(self, params):
        """``(callables, params)`` to pass to `bind` to re-evaluate an equation."""
        return [], params

    def impl(self, *args, **params):
        rule = self.rules.get("impl")
        if rule is not None:
            return rule(*args, **params)
        return _default_impl(self, args, params)

    def abstract_eval(self, *avals, **params):
        """``(aval or avals, effects)``, memoised where the parameters are hashable; rules may read options."""
        key = (avals, tuple(params.items()), _config_key())
        try:
            result = self._type_memo.get(key)
        except TypeError:  # a parameter is unhashable
            return self._type_rule(avals, params)
        if result is None:
            result = self._type_rule(avals, params)
            if len(self._type_memo) > 16384:
                self._type_memo.clear()
            self._type_memo[key] = result
        return result

    def _type_rule(self, avals, params):
        rule = self.rules.get("abstract_eval")
        if rule is None:
            raise NotImplementedError(
                f"Abstract evaluation for '{self.name}' not implemented: give it a type rule with def_abstract_eval"
            )
        result = rule(*avals, **params)
        return result if self._effectful else (result, no_effects)

    # -- definition -------------------------------------------------------------------------------

    def def_impl(self, impl):
        self.rules["impl"] = impl
        return impl

    def def_abstract_eval(self, rule):
        self.rules["abstract_eval"], self._effectful = rule, False
        self._type_memo.clear()
        return rule

    def def_effectful_abstract_eval(self, rule):
        self.rules["abstract_eval"], self._effectful = rule, True
        self._type_memo.clear()
        return rule

    def_effectful_abstract_eval2 = def_effectful_abstract_eval

    def def_bind_with_trace(self, bind_with_trace):
        self.bind_with_trace = bind_with_trace
        return bind_with_trace

    def rule(self, field: str) -> Callable | None:
        return self.rules.get(field)

    def __repr__(self):
        return self.name

    def __reduce__(self):
        return _primitive_by_name, (self.name,)


class CallPrimitive(Primitive):
    """A primitive whose first operand is a function."""

    call_primitive = True
    multiple_results = True

    def __init__(self, name: str):
        super().__init__(name, multiple_results=True)

    def bind_with_trace(self, trace, fun_and_args, params):
        fun, *args = fun_and_args
        return trace.process_call(self, fun, args, params)


def _primitive_by_name(name: str) -> Primitive:
    for p in all_primitives:
        if p.name == name:
            return p
    raise LookupError(f"no primitive named {name!r} is defined")


def define(
    name: str,
    *,
    abstract_eval: Callable,
    lower: Callable | None,
    jvp: Callable | None,
    transpose: Callable | None,
    batch: Callable | None,
    multiple_results: bool = False,
    effectful: bool = False,
    elementwise: bool = False,
    linear_in: tuple[int, ...] | None = None,
    batch_axis: Callable | None = None,
    impl: Callable | None = None,
    linearize: Callable | None = None,
    dce: Callable | None = None,
    depends: Callable | None = None,
    replay: Callable | None = None,
    discharge: Callable | None = None,
    irrelevant_params: tuple[str, ...] = (),
) -> Primitive:
    """A built-in primitive: the fields without default are stated for each one, None where there is no such rule."""
    p = Primitive(name, multiple_results)
    p.rules.update(
        lower=lower, jvp=jvp, transpose=transpose, batch=batch, batch_axis=batch_axis, impl=impl, linearize=linearize,
        dce=dce, depends=depends, replay=replay, discharge=discharge,
    )  # fmt: skip
    (p.def_effectful_abstract_eval if effectful else p.def_abstract_eval)(abstract_eval)
    p.elementwise, p.linear_in, p.irrelevant_params, p.defined_lower = (
        elementwise,
        linear_in,
        frozenset(irrelevant_params),
        lower,
    )
    return p


class RuleTable(MutableMapping):
    """JAX's table of one kind of rule, as a view of the records' field."""

    def __init__(self, field: str):
        self.field = field

    def __getitem__(self, p: Primitive) -> Callable:
        rule = p.rules.get(self.field)
        if rule is None:
            raise KeyError(p)
        return rule

    def __setitem__(self, p: Primitive, rule: Callable) -> None:
        p.rules[self.field] = rule

    def __delitem__(self, p: Primitive) -> None:
        if p.rules.pop(self.field, None) is None:
            raise KeyError(p)

    def __contains__(self, p) -> bool:
        return isinstance(p, Primitive) and p.rules.get(self.field) is not None

    def __iter__(self) -> Iterator[Primitive]:
        return (p for p in all_primitives if p.rules.get(self.field) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self):
        return f"RuleTable({self.field!r}, {len(self)} primitives)"


class _Unset:
    def process_primitive(self, primitive: Primitive, args: Any, params: Any):
        raise RuntimeError("velax._lang.trace is not loaded")


_eval_trace: Any = _Unset()


def set_eval_trace(trace) -> None:
    """Registered by `velax._lang.trace`: what evaluates when no transformation is active."""
    global _eval_trace
    _eval_trace = trace
