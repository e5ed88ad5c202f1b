"""The text of jaxprs: ``{ lambda ; a:f32[3]. let b:f32[3] = sin a in (b,) }``.

Variables are named in the order in which they are printed: a, b, ..., z, ba, bb, ... The jaxpr of a
call takes the names of the call's arguments and results. A jaxpr that is used more than once, or is
long, is written in front of the jaxpr that uses it::

    let f = { lambda ; a:f32[]. let b:f32[] = sin a in (b,) } in
    { lambda ; c:f32[]. let
        d:f32[] = jit[name=f jaxpr=f] c
        e:f32[] = jit[name=f jaxpr=f] d
      in (e,) }

Libraries change how their primitives print with `register_eqn_printer` and `register_hidden_params`.
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from velax._lang import dtypes, pretty
from velax._lang.jaxpr import Atom, ClosedJaxpr, DropVar, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from velax._lang.pretty import Doc, brk, concat, group, join, nest, text
from velax._lang.record import Record

__all__ = [
    "Context", "Settings", "print_eqn", "print_jaxpr", "register_eqn_printer", "register_hidden_params",
]  # fmt: skip

# Jaxprs with more equations than this are written in front, so that an equation with a long body stays readable.
_LONG = 10


class Settings(Record):
    """What is printed.

    Args:
      print_shapes: the types of variables.
      source_info: the user's line of every equation, beside it.
      name_stack: the name scopes of every equation, beside it.
      print_effects: the effects of jaxprs.
      custom_pp_eqn_rules: whether `register_eqn_printer` and `register_hidden_params` apply.
    """

    print_shapes: bool = True
    source_info: bool = False
    name_stack: bool = False
    print_effects: bool = False
    custom_pp_eqn_rules: bool = True


class Context:
    """The names given so far.

    Args:
      shared: the names of the jaxprs that are written in front.
    """

    def __init__(self, shared: Mapping[Jaxpr, str] | None = None):
        self.shared = dict(shared or {})
        self.type_names: dict[Any, str] = {}  # of the avals met so far
        self._names: dict[Var, str] = {}
        self._fresh = _fresh_names(frozenset(self.shared.values()))

    def name(self, v: Var) -> str:
        """The name of `v`, a fresh one when it has none."""
        if isinstance(v, DropVar):
            return "_"
        name = self._names.get(v)
        if name is None:
            name = self._names[v] = next(self._fresh)
        return name

    def suggest(self, v: Var, name: str) -> None:
        """Names `v` unless it has a name."""
        self._names.setdefault(v, name)

    def has_name(self, v: Var) -> bool:
        """Whether `v` has been named."""
        return v in self._names


def _fresh_names(taken: frozenset[str]) -> Iterator[str]:
    number = 0
    while True:
        name, rest = chr(ord("a") + number % 26), number // 26
        while rest:
            name, rest = chr(ord("a") + rest % 26) + name, rest // 26
        number += 1
        if name not in taken:
            yield name


EqnPrinter = Callable[[JaxprEqn, Context, Settings], Doc]
_eqn_printers: dict[str, EqnPrinter] = {}
_hidden: dict[str, Callable[[str, Any], bool]] = {}
_reworded: dict[str, Callable[[str, Any], Any]] = {}


def register_eqn_printer(primitive_name: str, printer: EqnPrinter) -> None:
    """Prints the equations of a primitive by ``printer(eqn, context, settings) -> Doc``."""
    _eqn_printers[primitive_name] = printer


def register_hidden_params(primitive_name: str, hide: Callable[[str, Any], bool]) -> None:
    """Leaves out the parameters of a primitive for which ``hide(name, value)`` holds."""
    _hidden[primitive_name] = hide


def print_jaxpr(jaxpr: Jaxpr | ClosedJaxpr, *, width: int = 80, use_color: bool = False, **options) -> str:
    """The text of a jaxpr.

    Args:
      jaxpr: what to print.
      width: the length of lines that is aimed at.
      use_color: accepted; the text has no colours.
      **options: the fields of `Settings`.
    """
    settings = Settings(**options)
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    context = Context(_shared_jaxprs(jaxpr))
    docs: list[Doc] = []
    for shared, name in context.shared.items():
        docs += [text(f"let {name} = "), nest(0, _jaxpr_body(shared, context, settings)), text(" in"), brk()]
    # Only here: inside, a result that is not used may still be a result of the call around it.
    used = {a for e in jaxpr.eqns for a in e.invars if isinstance(a, Var)} | {
        v for v in jaxpr.outvars if isinstance(v, Var)
    }
    for v in (v for e in jaxpr.eqns for v in e.outvars if v not in used):
        context.suggest(v, "_")
    docs.append(_jaxpr_body(jaxpr, context, settings))
    return pretty.render(concat(docs), width)


def print_eqn(eqn: JaxprEqn, *, width: int = 80, **options) -> str:
    """The text of one equation; takes the options of `print_jaxpr`."""
    return pretty.render(_eqn(eqn, Context(), Settings(**options)), width)


def _shared_jaxprs(root: Jaxpr) -> dict[Jaxpr, str]:
    """The jaxprs to write in front, with names that differ."""
    uses: Counter[Jaxpr] = Counter()
    called: dict[Jaxpr, str] = {}
    queue = [root]
    for jaxpr in queue:
        uses[jaxpr] += 1
        if uses[jaxpr] > 2:
            continue  # what is inside has been met twice too: nothing is left to learn
        for eqn in jaxpr.eqns:
            name = eqn.params.get("name")
            for inner in jaxprs_in_params(eqn.params):
                if isinstance(name, str):
                    called.setdefault(inner, name.strip("<>"))
                queue.append(inner)
    shared: dict[Jaxpr, str] = {}
    used_names: Counter[str] = Counter()
    for jaxpr, count in uses.items():
        if jaxpr is root or (count == 1 and len(jaxpr.eqns) <= _LONG):
            continue
        name = called.get(jaxpr, "jaxpr")
        number = used_names[name]
        used_names[name] += 1
        shared[jaxpr] = f"{name}{number}" if number else name
    return shared


def _jaxpr(jaxpr: Jaxpr, context: Context, settings: Settings) -> Doc:
    name = context.shared.get(jaxpr)
    return _jaxpr_body(jaxpr, context, settings) if name is None else text(name)


def _jaxpr_body(jaxpr: Jaxpr, context: Context, settings: Settings) -> Doc:
    consts = _vars(jaxpr.constvars, context, settings)
    inputs = _vars(jaxpr.invars, context, settings)
    eqns = [_eqn(e, context, settings) for e in jaxpr.eqns]
    outputs = [text(_atom(v, context)) for v in jaxpr.outvars]
    parts = [
        text("{ lambda "), consts, text("; "), inputs, text(". let"),
        nest(2, concat([brk(), join(brk("; "), eqns)])),
        brk(), text("in ("), _fill(outputs, ","), text(",)" if len(outputs) == 1 else ")"),
    ]  # fmt: skip
    if settings.print_effects and jaxpr.effects:
        names = sorted(_effect(e, jaxpr, context) for e in jaxpr.effects)
        parts.append(text(f" : {{ {', '.join(names)} }}"))
    return group(concat([nest(2, concat(parts)), text(" }")]))


def _effect(effect: Any, jaxpr: Jaxpr, context: Context) -> str:
    index = getattr(effect, "input_index", None)
    if index is None:
        return str(effect)
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    return f"{type(effect).__name__.removesuffix('Effect')}<{context.name(inputs[index])}>"


def _fill(docs: Iterable[Doc], separator: str = "") -> Doc:
    """`docs` in as few lines as hold them; only a break that would itself lie beyond the margin is taken."""
    return nest(2, group(join(concat([text(separator), group(brk())]), docs)))


def _vars(vs: Sequence[Var], context: Context, settings: Settings) -> Doc:
    return _fill(_var(v, context, settings) for v in vs)


def _var(v: Var, context: Context, settings: Settings) -> Doc:
    name = context.name(v)
    return text(f"{name}:{_type(v.aval, context)}" if settings.print_shapes else name)


def _atom(atom: Atom, context: Context) -> str:
    return _literal(atom, context) if isinstance(atom, Literal) else context.name(atom)


def _type(aval: Any, context: Context) -> str:
    name = context.type_names.get(aval)
    if name is None:
        name = context.type_names[aval] = aval.str_short(short_dtypes=True)
    return name


def _literal(literal: Literal, context: Context) -> str:
    value = literal.val
    if isinstance(value, np.ndarray | np.generic) and value.shape == () and value.dtype != dtypes.float0:
        value = value.item()
    return f"{value}:{_type(literal.aval, context)}"


def _eqn(eqn: JaxprEqn, context: Context, settings: Settings) -> Doc:
    printer = _eqn_printers.get(eqn.primitive.name) if settings.custom_pp_eqn_rules else None
    doc = (printer or default_eqn)(eqn, context, settings)
    if settings.name_stack:
        doc = pretty.annotated(doc, f"[{getattr(eqn.source_info, 'name_stack', '')}]")
    if settings.source_info:
        info = eqn.source_info
        doc = pretty.annotated(doc, "" if info is None or str(info) == "unknown" else str(info))
    return doc


def default_eqn(eqn: JaxprEqn, context: Context, settings: Settings) -> Doc:
    """``outvars = primitive[params] operands``."""
    results = [_vars(eqn.outvars, context, settings), text(" = ")] if eqn.outvars else []
    params = sorted(_visible(eqn, settings))
    return concat([*results, text(eqn.primitive.name), _params(params, context, settings), *_operands(eqn, context)])


def _operands(eqn: JaxprEqn, context: Context) -> list[Doc]:
    return [text(" "), _fill(text(_atom(a, context)) for a in eqn.invars)]


def _visible(eqn: JaxprEqn, settings: Settings) -> list[tuple[str, Any]]:
    hide = _hidden.get(eqn.primitive.name) if settings.custom_pp_eqn_rules else None
    items = eqn.params.items()
    visible = list(items) if hide is None else [(k, v) for k, v in items if not hide(k, v)]
    reword = _reworded.get(eqn.primitive.name) if settings.custom_pp_eqn_rules else None
    return visible if reword is None else [(k, reword(k, v)) for k, v in visible]


def _params(params: Sequence[tuple[str, Any]], context: Context, settings: Settings) -> Doc:
    if not params:
        return text("")
    inside = join(brk(), [concat([text(f"{k}="), _value(v, context, settings)]) for k, v in params])
    return group(concat([nest(2, concat([text("["), brk(""), inside])), brk(""), text("]")]))


def _value(value: Any, context: Context, settings: Settings) -> Doc:
    if isinstance(value, Jaxpr | ClosedJaxpr):
        return _jaxpr(value.jaxpr, context, settings)
    if isinstance(value, tuple | list) and value and all(isinstance(v, Jaxpr | ClosedJaxpr) for v in value):
        inside = join(brk(), [_jaxpr(v.jaxpr, context, settings) for v in value])
        return group(concat([nest(2, concat([text("("), brk(""), inside])), brk(""), text(")")]))
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType | functools.partial):
        # By name: an address says nothing to the reader, and would make the text differ from run to run.
        return text(function_name(value))
    return text(str(value))


# How the primitives that JAX prints in a form of their own are printed.


def call_eqn(eqn: JaxprEqn, context: Context, settings: Settings) -> Doc:
    """A call: its name first, and the called jaxpr in the names of the call."""
    called = next(jaxprs_in_params(eqn.params), None)
    if called is not None and called not in context.shared:
        _share_names(eqn, called, context)
    results = [_vars(eqn.outvars, context, settings), text(" = ")] if eqn.outvars else []
    return concat([*results, *_named(eqn, context, settings), *_operands(eqn, context)])


def _named(eqn: JaxprEqn, context: Context, settings: Settings) -> list[Doc]:
    params = sorted(_visible(eqn, settings), key=lambda item: (item[0] != "name", item[0]))
    return [text(eqn.primitive.name), _params(params, context, settings)]


def named_eqn(eqn: JaxprEqn, context: Context, settings: Settings) -> Doc:
    """An equation whose parameter ``name`` comes first."""
    results = [_vars(eqn.outvars, context, settings), text(" = ")] if eqn.outvars else []
    return concat([*results, *_named(eqn, context, settings), *_operands(eqn, context)])


def _share_names(eqn: JaxprEqn, called: Jaxpr, context: Context) -> None:
    """Gives the parameters and results of the called jaxpr the names of the call's arguments and results,
    where each is one's.
    """
    used: set[str] = set()
    for inner, outer in zip(called.invars, eqn.invars):
        if isinstance(outer, Var) and not context.has_name(inner):
            name = context.name(outer)
            if name not in used:
                context.suggest(inner, name)
                used.add(name)
    for inner, outer in zip(called.outvars, eqn.outvars):
        if isinstance(inner, Var) and not isinstance(inner, DropVar) and not context.has_name(inner):
            context.suggest(inner, context.name(outer))


# What the rules of custom derivatives are called where they are printed.
_RULE_NAMES = {"jvp_jaxpr_fun": "jvp", "fwd_jaxpr_thunk": "fwd", "bwd": "bwd"}


def custom_rule_eqn(eqn: JaxprEqn, context: Context, settings: Settings) -> Doc:
    """A function with derivative rules of its own: its name first, the rules by their names."""
    params = {_RULE_NAMES.get(k, k): v for k, v in _visible(eqn, settings)}
    for rule in _RULE_NAMES.values():
        if callable(params.get(rule)):
            params[rule] = function_name(params[rule])
    called = params.get("call_jaxpr")
    if called is not None:
        params.setdefault("name", called.jaxpr.debug_info.func_name)
    return named_eqn(eqn.replace(params=params), context, settings)


def function_name(f: Any) -> str:
    """The name of the function that the user wrote, under the wrappers around it."""
    while (inner := getattr(f, "__wrapped__", None) or getattr(f, "func", None)) is not None:
        f = inner
    return getattr(f, "__name__", type(f).__name__)


for _name in ("jit", "pjit"):
    register_eqn_printer(_name, call_eqn)
for _name in ("custom_jvp_call", "custom_vjp_call", "custom_lin"):
    register_eqn_printer(_name, custom_rule_eqn)


def _unspecified(value: Any) -> bool:
    """Whether a sharding or layout parameter, or every element of a tuple of them, says nothing."""
    if isinstance(value, tuple | list):
        return all(map(_unspecified, value))
    return value is None or type(value).__name__ in ("UnspecifiedValue", "AutoLayout")


def _hide_in_calls(name: str, value: Any) -> bool:
    match name:
        case "inline" | "keep_unused":
            return not value
        case "donated_invars":
            return not any(value)
        case "in_shardings" | "out_shardings" | "in_layouts" | "out_layouts":
            return _unspecified(value)
        case "compiler_options_kvs":
            return not value
        case "ctx_mesh":
            return getattr(value, "empty", True)
        case "resource_env":
            return True
    return False


def _hide_none(*names: str) -> Callable[[str, Any], bool]:
    return lambda name, value: name in names and value is None


for _name in ("jit", "pjit"):
    register_hidden_params(_name, _hide_in_calls)
for _name in ("cbrt", "cos", "exp", "exp2", "expm1", "log", "log1p", "logistic", "rsqrt", "sin", "sqrt", "tan", "tanh"):
    register_hidden_params(_name, _hide_none("accuracy"))
register_hidden_params("mul", _hide_none("out_dtype"))
register_hidden_params("convert_element_type", _hide_none("sharding"))
register_hidden_params("dot_general", _hide_none("precision", "preferred_element_type", "out_sharding"))
# Lists inside of tuples tell the two levels of dimension numbers apart.
_reworded["dot_general"] = lambda name, value: (
    tuple(tuple(map(list, pair)) for pair in value) if name == "dimension_numbers" else value
)
register_hidden_params(
    "broadcast_in_dim",
    lambda name, value: (
        name == "shape" or (name == "sharding" and value is None) or (name == "broadcast_dimensions" and not value)
    ),
)
for _name in ("custom_jvp_call", "custom_vjp_call"):
    register_hidden_params(_name, lambda name, value: name in ("num_consts", "out_trees"))
