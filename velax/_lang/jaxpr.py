"""Jaxprs: the typed expression language that tracing produces and every transformation and the compiler read.

::

    jaxpr ::= { lambda constvars ; invars . let eqns in (outvars) }
    eqn   ::= outvars = primitive[params] atoms
    atom  ::= variable | literal

Variables are assigned once and have an aval; there are no other names. A `Jaxpr` refers to its constants by
``constvars``; a `ClosedJaxpr` carries them. Equations are in evaluation order; effects are a set on each
equation and, joined, on the jaxpr.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from velax._lang.avals import AbstractValue
from velax._lang.effects import Effect, JaxprInputEffect, no_effects
from velax._lang.source import SourceInfo
from velax.tree_util import keystr, tree_flatten_with_path

__all__ = [
    "Atom",
    "ClosedJaxpr",
    "DebugInfo",
    "DropVar",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Var",
    "effects_of",
    "jaxprs_in_params",
    "join_effects",
    "new_jaxpr_eqn",
    "subjaxprs",
]  # fmt: skip

_var_counter = itertools.count()


class Var:
    """A variable; ``count`` orders variables by creation and names them when no printer has."""

    __slots__ = ("aval", "count", "final_qdd", "initial_qdd")

    def __init__(self, aval: AbstractValue):
        self.aval = aval
        self.count = next(_var_counter)

    def __repr__(self):
        return f"Var(id={self.count}):{self.aval}"


class DropVar(Var):
    """A result nobody uses; printed ``_``."""

    __slots__ = ()

    def __repr__(self):
        return "_"


class Literal:
    """A scalar constant in an equation: ``val`` (a Python or NumPy scalar) of type ``aval``."""

    __slots__ = ("_hash", "aval", "val")

    def __init__(self, val: Any, aval: AbstractValue):
        self.val, self.aval = val, aval
        try:
            self._hash = hash((val, aval))
        except TypeError:
            self._hash = None

    @property
    def hash(self):
        return self._hash

    def __hash__(self):
        return id(self) if self._hash is None else self._hash

    def __eq__(self, other):
        if self is other:
            return True
        return (
            type(other) is Literal and self._hash is not None and self.aval == other.aval
            and type(self.val) is type(other.val) and repr(self.val) == repr(other.val)
        )  # fmt: skip

    def __repr__(self):
        return f"{self.val}:{self.aval.str_short(short_dtypes=True)}"


Atom = Var | Literal


class DebugInfo(NamedTuple):
    """Who was traced, for messages: the transformation, ``name at file:line``, argument paths, and the results' tree."""

    traced_for: str
    func_src_info: str
    arg_names: tuple[str, ...] | None
    results: Any = None

    @property
    def result_paths(self) -> tuple[str, ...] | None:
        """Where in the result each value is, like ``result['loss']``; None if the tree is not known."""
        if self.results is None:
            return None
        places = tree_flatten_with_path(self.results.unflatten([0] * self.results.num_leaves))[0]
        return tuple(f"result{keystr(path)}" for path, _ in places)

    @property
    def func_name(self) -> str:
        return self.func_src_info.split(" ")[0] if self.func_src_info else "<unknown>"

    @property
    def func_filename(self) -> str | None:
        """The file of the function, where that is known."""
        return self._place()[0]

    @property
    def func_lineno(self) -> int | None:
        return self._place()[1]

    def _place(self) -> tuple[str | None, int | None]:
        file, _, line = self.func_src_info.partition(" at ")[2].rpartition(":")
        return (file, int(line)) if file and line.isdigit() else (None, None)

    def safe_arg_names(self, expected: int) -> tuple[str, ...]:
        """The argument paths; empty texts if there are not as many as expected."""
        return self.arg_names if self.arg_names and len(self.arg_names) == expected else ("",) * expected


class JaxprEqn:
    """One application of a primitive."""

    __slots__ = ("effects", "invars", "outvars", "params", "primitive", "source_info")

    def __init__(self, invars, outvars, primitive, params, effects, source_info, ctx=None):
        self.invars: list[Atom] = invars
        self.outvars: list[Var] = outvars
        self.primitive = primitive
        self.params: dict[str, Any] = params
        self.effects: frozenset[Effect] = effects
        self.source_info: SourceInfo | None = source_info

    def replace(self, **changes) -> JaxprEqn:
        fields = {n: getattr(self, n) for n in JaxprEqn.__slots__}
        return JaxprEqn(**{**fields, **changes})

    ctx = None

    def __repr__(self):
        from velax._lang.printer import print_eqn  # the printer reads this module

        return print_eqn(self)


class Jaxpr:
    """A function of the language."""

    __slots__ = ("__weakref__", "_debug_info", "constvars", "effects", "eqns", "invars", "is_high", "outvars")

    def __init__(
        self,
        constvars: Sequence[Var],
        invars: Sequence[Var],
        outvars: Sequence[Atom],
        eqns: Sequence[JaxprEqn],
        effects: frozenset[Effect] = no_effects,
        debug_info: DebugInfo | None = None,
        **_ignored,
    ):
        self.constvars = list(constvars)
        self.invars = list(invars)
        self.outvars = list(outvars)
        self.eqns = list(eqns)
        self.effects = effects
        self._debug_info = debug_info
        self.is_high = False

    @property
    def debug_info(self) -> DebugInfo:
        return self._debug_info or DebugInfo("unknown", "<unknown>", None)

    @property
    def in_avals(self):
        return [v.aval for v in self.invars]

    @property
    def out_avals(self):
        return [v.aval for v in self.outvars]

    @property
    def jaxpr(self) -> Jaxpr:
        return self

    def replace(self, **changes) -> Jaxpr:
        fields = {n: getattr(self, n) for n in ("constvars", "invars", "outvars", "eqns", "effects")}
        fields["debug_info"] = self._debug_info
        return Jaxpr(**{**fields, **changes})

    def __repr__(self):
        from velax._lang.printer import print_jaxpr  # the printer reads this module

        return print_jaxpr(self)

    def pretty_print(self, **options) -> str:
        from velax._lang.printer import print_jaxpr  # as above

        return print_jaxpr(self, **options)


_absent = object()


class ClosedJaxpr:
    """A jaxpr with the values of its constvars."""

    __slots__ = ("__weakref__", "_cache", "consts", "jaxpr")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any] = ()):
        if len(consts) != len(jaxpr.constvars):
            raise ValueError(f"ClosedJaxpr: {len(jaxpr.constvars)} constvars but {len(consts)} constants")
        self.jaxpr = jaxpr
        self.consts = list(consts)
        self._cache: dict | None = None

    in_avals = property(lambda self: [v.aval for v in self.jaxpr.invars])
    out_avals = property(lambda self: [v.aval for v in self.jaxpr.outvars])
    literals = property(lambda self: self.consts)
    eqns = property(lambda self: self.jaxpr.eqns)
    effects = property(lambda self: self.jaxpr.effects)
    invars = property(lambda self: self.jaxpr.invars)
    outvars = property(lambda self: self.jaxpr.outvars)
    constvars = property(lambda self: self.jaxpr.constvars)
    debug_info = property(lambda self: self.jaxpr.debug_info)
    is_high = False

    def memo(self, key, make):
        """``make()``, computed once for this jaxpr object and ``key``: derived jaxprs (jvp, transpose, ...)
        live as long as it does.
        """
        if self._cache is None:
            self._cache = {}
        found = self._cache.get(key, _absent)
        if found is _absent:
            found = self._cache[key] = make()
        return found

    def replace(self, *, jaxpr: Jaxpr | None = None, consts: Sequence[Any] | None = None) -> ClosedJaxpr:
        return ClosedJaxpr(self.jaxpr if jaxpr is None else jaxpr, self.consts if consts is None else consts)

    def map_jaxpr(self, f) -> ClosedJaxpr:
        return ClosedJaxpr(f(self.jaxpr), self.consts)

    def __repr__(self):
        return repr(self.jaxpr)

    def pretty_print(self, **options) -> str:
        return self.jaxpr.pretty_print(**options)


def new_jaxpr_eqn(invars, outvars, primitive, params, effects=no_effects, source_info=None, ctx=None) -> JaxprEqn:
    """An equation; checked by `check_jaxpr`, not here."""
    return JaxprEqn(list(invars), list(outvars), primitive, params, effects, source_info)


def join_effects(*effects: frozenset[Effect]) -> frozenset[Effect]:
    return frozenset().union(*effects) if effects else no_effects


def effects_of(inputs: Sequence[Var], eqns: Sequence[JaxprEqn]) -> frozenset[Effect]:
    """The effects of a jaxpr of these inputs (constvars, then invars) and equations: those on inputs of an
    equation become those on its own.
    """
    effects: set[Effect] = set()
    position: dict[Var, int] = {}
    for eqn in eqns:
        for effect in eqn.effects:
            if not isinstance(effect, JaxprInputEffect):
                effects.add(effect)
                continue
            position = position or {v: i for i, v in enumerate(inputs)}
            index = position.get(eqn.invars[effect.input_index])
            if index is not None:  # else a reference made inside
                effects.add(effect.replace(input_index=index))
    return frozenset(effects) if effects else no_effects


def jaxprs_in_params(params: dict) -> Iterator[Jaxpr]:
    """The jaxprs among an equation's parameters, also inside tuples and lists."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, Jaxpr):
                yield item
            elif isinstance(item, ClosedJaxpr):
                yield item.jaxpr


def subjaxprs(jaxpr: Jaxpr) -> Iterator[Jaxpr]:
    """The jaxprs directly inside the equations of ``jaxpr``."""
    for eqn in jaxpr.eqns:
        yield from jaxprs_in_params(eqn.params)
