"""The text of jaxprs is JAX's, and the canonical form tells exactly the programs apart that differ."""

import dataclasses
import enum
import functools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax
from jax._src import core
from jax_jaxprs import convert, traced

import velax
from velax import lax as velax_lax
from velax._lang import canonical, dtypes, effects, pretty, printer
from velax._lang.avals import AbstractRef, ShapedArray, shaped_array
from velax._lang.check import check_jaxpr
from velax._lang.jaxpr import ClosedJaxpr, DropVar, Jaxpr, Literal, Var, new_jaxpr_eqn
from velax._lang.meshes import Mesh
from velax._lang.primitive import Primitive, all_primitives
from velax._lang.shardings import NamedSharding, PartitionSpec as P, SingleDeviceSharding
from velax._transforms.differentiate import jvp as velax_jvp
from velax._transforms.inspecting import make_jaxpr
from velax._transforms.jit import jit as velax_jit

X = jnp.ones((3, 4))
SMALL = jnp.arange(3.0)

# A primitive with any number of results and any parameters.
bar_p = core.Primitive("bar")
bar_p.multiple_results = True
bar_p.def_abstract_eval(lambda *avals, n, **_: [avals[0]] * n)


@jax.jit
def inner(x, y):
    return x, y, x + 1


@jax.jit
def sine(x):
    return lax.sin(x)


@jax.jit
def calls_sine(x):
    return sine(x) + 1


@jax.jit
def long(x):
    for _ in range(12):
        x = lax.sin(x)
    return x


@jax.custom_jvp
def with_jvp(x):
    return lax.sin(x)


@with_jvp.defjvp
def its_jvp(primals, tangents):
    return with_jvp(*primals), tangents[0]


@jax.custom_vjp
def with_vjp(x, y):
    return lax.sin(x)


def its_fwd(x, y):
    return with_vjp(x, y), None


def its_bwd(_, ct):
    return ct, ct


with_vjp.defvjp(its_fwd, its_bwd)

PROGRAMS = {
    "scalars": (lambda x: jnp.sin(x) * 2 + 1, 3.0),
    "one line": (lambda x: lax.cos(lax.sin(x)), 3.0),
    "identity": (lambda x, y: (y, x, 1, 2.0, True, 1j), X, X),
    "no arguments": (lambda: jnp.zeros((2,), "bfloat16"),),
    "no results": (lambda x: None, X),
    "call": (sine, X),
    "nested calls": (jax.jit(lambda x: jax.jit(lambda y: sine(y) * y)(x)), X),
    "call with literals": (lambda x: inner(x, 2.0)[0], X),
    "call with one argument twice": (lambda x: inner(x, x), X),
    "call used twice": (lambda x: sine(sine(x)), X),
    "calls used twice inside of each other": (lambda x: calls_sine(sine(calls_sine(x))), X),
    "two calls of one name": (lambda x: sine(sine(jax.jit(lambda z: long(z), inline=True)(x))), X),
    "long call": (long, X),
    "donation": (jax.jit(lambda x: x * 2, donate_argnums=0, keep_unused=True), X),
    "captured constants": (jax.jit(lambda x: jax.jit(lambda y: y + SMALL)(x) + SMALL), SMALL),
    "contraction": (lambda x: jnp.tanh(x) @ x.T, X),
    "contraction with precision": (lambda x: lax.dot(x, x.T, precision="highest"), X),
    "gradient": (jax.grad(lambda x: jnp.sum(jnp.tanh(x) @ x.T)), X),
    "batching": (jax.vmap(lambda a: a * a[0]), X),
    "scan": (lambda x: lax.scan(lambda c, a: (c + a.sum(), c * a), 0.0, x), X),
    "cond": (lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda y: lax.cos(lax.sin(y)), x), X),
    "while": (lambda x: lax.while_loop(lambda c: c[0] < 10, lambda c: (c[0] + 1, c[1] * 2.0), (0, x)), X),
    "indexing": (lambda x: (x[1:, ::2], x.at[1].set(3.0), x[jnp.array([0, 1])]), X),
    "conversions": (lambda x: x.astype("int32") + np.int32(3), X),
    "unusual literals": (lambda x: jnp.where(x > 0, x, jnp.nan) + jnp.inf + 1e-30 + 123456789.123, X),
    "narrow floats": (lambda x: x * 0.1 + x.astype("bfloat16") * 0.1, 1.0),
    "unused results": (lambda x: lax.top_k(x, 2)[0], X),
    "random": (lambda k: jax.random.normal(k) + jax.random.normal(k), jax.random.key(0)),
    "custom jvp": (with_jvp, 1.0),
    "custom vjp": (with_vjp, 1.0, 2.0),
    "many arguments": (lambda *xs: functools.reduce(lax.add, xs), *[1.0] * 30),
    "many results": (lambda *xs: xs, *[1.0] * 30),
    "wide equation": (lambda x: bar_p.bind(*[x] * 60, n=20, text="x" * 90), 1.0),
    "iota": (lambda x: lax.iota("float32", 5), 1.0),
    "checkpoint": (jax.checkpoint(jnp.sin), X),
    "convolution": (lambda x: lax.conv_general_dilated(x, x, (1, 1), "SAME"), jnp.ones((1, 1, 3, 3))),
}


def masked(text):
    """Without addresses: Velax prints functions by name."""
    return re.sub(r"<function [\w.<>]*?([\w<>]+) at 0x\w+>", r"\1", text)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("print_shapes", [True, False], ids=["shapes", "no shapes"])
def test_the_text_is_that_of_jax(name, print_shapes):
    f, *args = PROGRAMS[name]
    theirs, ours = traced(f, *args)
    expected = masked(theirs.pretty_print(print_shapes=print_shapes))
    assert printer.print_jaxpr(ours, print_shapes=print_shapes) == expected


@pytest.mark.parametrize("size", range(0, 48, 3))
def test_lines_break_where_jax_breaks_them(size):
    def call(x):
        return bar_p.bind(x, n=2, k="y" * size)[1]

    called = jax.jit(call)
    programs = [
        lambda x: bar_p.bind(x, n=2, k="y" * size),
        lambda x: bar_p.bind(*[x] * (size + 1), n=4)[1:],
        lambda x: bar_p.bind(*[1] * size, x, n=size)[::2],
        lambda x: called(called(x)),
        lambda x: jax.jit(lambda x, *y: bar_p.bind(x, n=2, k="y" * size))(x, *[x] * size),
        lambda x: lax.scan(lambda c, y: (called(c), bar_p.bind(y, n=size, k="y" * size)), x, SMALL),
        lambda x: lax.cond(x > 0, called, lambda x: sine(bar_p.bind(x, n=1 + size, k="y" * size)[0]), x),
    ]
    for f in programs:
        theirs, ours = traced(f, 1.0)
        assert str(ours) == str(theirs)


def test_equations_print_alone():
    theirs, ours = traced(lambda x: calls_sine(x) + bar_p.bind(x, n=1, j=jax.make_jaxpr(sine)(x))[0], X)
    for a, b in zip(theirs.jaxpr.eqns, ours.jaxpr.eqns):
        assert str(b) == str(a)


def test_a_jaxpr_that_is_used_by_many_is_walked_little():
    @jax.jit
    def f(x):
        return x + x

    for _ in range(24):
        f = jax.jit(lambda x, f=f: f(x) + f(x))
    text = str(convert(jax.make_jaxpr(f)(1.0)))
    assert text.count("let ") < 60


# What is not JAX's to say


def variables(n, dtype="float32", shape=()):
    return [Var(shaped_array(shape, np.dtype(dtype))) for _ in range(n)]


@pytest.fixture
def primitive():
    made = []

    def make(name, **options):
        made.append(Primitive(name, **options))
        return made[-1]

    yield make
    for p in made:
        all_primitives.remove(p)


def simple(primitive, params=None, effs=effects.no_effects):
    a, b = variables(2)
    eqn = new_jaxpr_eqn([a], [b], primitive, params or {}, effs)
    return Jaxpr([], [a], [b], [eqn], effs)


def test_effects(primitive):
    class ReadEffect(effects.JaxprInputEffect):
        __slots__ = ()

    [r] = [Var(AbstractRef(ShapedArray((3,), np.float32)))]
    [a] = variables(1)
    jaxpr = Jaxpr([r], [a], [], [], frozenset({ReadEffect(0), effects.io_effect}))
    assert (
        printer.print_jaxpr(jaxpr, print_effects=True)
        == "{ lambda a:Ref{f32[3]}; b:f32[]. let  in () : { IO, Read<a> } }"
    )
    assert printer.print_jaxpr(jaxpr) == "{ lambda a:Ref{f32[3]}; b:f32[]. let  in () }"


def test_functions_print_by_name(primitive):
    def rule(x):
        return x

    jaxpr = simple(primitive("p"), {"f": rule, "g": functools.partial(rule, 1), "h": len, "k": dtypes.dtype})
    assert "p[f=rule g=rule h=len k=dtype]" in str(jaxpr)


def test_names_follow_the_alphabet():
    names = printer._fresh_names(frozenset({"b", "bb"}))
    first = [next(names) for _ in range(750)]
    assert first[:4] == ["a", "c", "d", "e"] and first[24:29] == ["z", "ba", "bc", "bd", "be"]
    assert len(set(first)) == 750 and "zz" in first and "baa" in first


def test_dropped_results(primitive):
    [a] = variables(1)
    out = DropVar(a.aval)
    assert str(Jaxpr([], [a], [a], [new_jaxpr_eqn([a], [out], primitive("p"), {})])) == (
        "{ lambda ; a:f32[]. let _:f32[] = p a in (a,) }"
    )


def test_registered_printers(primitive):
    p = primitive("store_of_a_test")
    printer.register_eqn_printer(
        p.name, lambda eqn, context, options: pretty.text(f"[{context.name(eqn.invars[0])}] <- nothing")
    )
    jaxpr = simple(p)
    assert "let [a] <- nothing in" in str(jaxpr)
    assert "b:f32[] = store_of_a_test a" in printer.print_jaxpr(jaxpr, custom_pp_eqn_rules=False)
    q = primitive("hidden_of_a_test")
    printer.register_hidden_params(q.name, lambda name, value: name == "secret")
    assert "hidden_of_a_test[x=1] a" in str(simple(q, {"secret": 3, "x": 1}))


def test_source_lines_and_name_stacks(primitive):
    class Info:
        name_stack = "layer"

        def __str__(self):
            return "file.py:3 (f)"

    a, b, c = variables(3)
    p = primitive("p")
    long_params = {"k": "x" * 50}
    eqns = [new_jaxpr_eqn([a], [b], p, {}, source_info=Info()), new_jaxpr_eqn([b], [c], p, long_params)]
    lines = printer.print_jaxpr(Jaxpr([], [a], [c], eqns), source_info=True, name_stack=True).splitlines()
    column = len("    c:f32[] = p[k=] b") + 50
    assert lines[1] == "    b:f32[] = p a".ljust(column) + " # file.py:3 (f)"
    assert lines[2] == " " * column + " # [layer]"
    assert lines[3].endswith(" # ") and lines[4] == " " * column + " # []"


@given(st.recursive(
    st.text("ab", max_size=6).map(pretty.text) | st.just(pretty.brk()),
    lambda docs: st.lists(docs, max_size=4).map(pretty.concat) | docs.map(pretty.group) | docs.map(lambda d: pretty.nest(2, d)),
    max_leaves=20,
), st.integers(1, 30))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_pretty_printing_changes_only_white_space(doc, width):
    def squeezed(text):
        return "".join(text.split())

    text = pretty.render(doc, width)
    assert squeezed(text) == squeezed(pretty.render(doc, 10**6))
    grouped = pretty.render(pretty.group(doc), width)
    if doc.width <= width:
        assert "\n" not in grouped and len(grouped) == doc.width


# The canonical form


def form(*args):
    return canonical.canonical_bytes(traced(*args)[1])


@pytest.mark.parametrize("name", ["scalars", "nested calls", "scan", "cond", "while", "gradient", "call used twice"])
def test_tracing_again_gives_the_same_form(name):
    f, *args = PROGRAMS[name]
    first = form(f, *args)
    jax.clear_caches()
    assert form(f, *args) == first


def test_forms_of_different_programs_differ():
    forms = [form(f, *args) for name, (f, *args) in PROGRAMS.items() if name not in ("random", "custom jvp", "custom vjp",
             "donation", "call", "wide equation", "indexing", "contraction with precision", "convolution", "checkpoint")]  # fmt: skip
    assert len(set(forms)) == len(forms)


def param_form(value, name="k"):
    p = Primitive("p")
    all_primitives.remove(p)
    return canonical.canonical_bytes(simple(p, {name: value}))


class Colour(enum.Enum):
    RED = 1


class Size(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: object = None
    note: str = dataclasses.field(default="", compare=False)


def test_values_that_differ_have_forms_that_differ():
    values = [
        None, ..., True, False, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, float("nan"), float("inf"), 1j, 0j, complex(0.0, -0.0), "", "1",
        "a", b"", b"a", (), (1,), (1, 2), ((1,), 2), ((1, 2),), [1, 2], [], {}, {"a": 1}, {"a": 1.0}, {1, 2}, frozenset({1}),
        slice(1), slice(1, 2), np.float32(1), np.float64(1), np.int8(1), np.array(1.0), np.ones(2), np.ones((1, 2)),
        np.ones(2, "float32"), np.zeros(100), np.ones(100), np.dtype("float32"), np.dtype("bfloat16"), np.float32, float, int,
        dtypes.float0, Colour.RED, Size.ONE, Point(1), Point(1, 2), Point(2), shaped_array((2,), np.dtype("float32")),
        shaped_array((2,), np.dtype("float32"), True), shaped_array((), np.dtype("float32")), AbstractRef(ShapedArray((2,), np.float32)),
    ]  # fmt: skip
    forms = [param_form(v) for v in values]
    for i, a in enumerate(forms):
        for j, b in enumerate(forms):
            assert (a == b) == (i == j), (values[i], values[j])
    assert param_form(1, "k") != param_form(1, "l")


def test_values_that_are_equal_have_one_form():
    assert param_form({"a": 1, "b": 2}) == param_form({"b": 2, "a": 1})
    assert param_form({"a", "b", "c"}) == param_form({"c", "b", "a"})
    assert param_form(np.arange(6).reshape(2, 3).T) == param_form(np.ascontiguousarray(np.arange(6).reshape(2, 3).T))
    assert param_form(Point(1, note="x")) == param_form(Point(1, note="y"))


@pytest.mark.parametrize("value, what", [
    (lambda x: x, "a Python callable of type builtins.function"),
    (object(), "an object of type builtins.object"),
    (np.array([object()]), "an array of Python objects"),
    ([1, {"a": len}], "a Python callable"),
    (type("Local", (), {"__qualname__": "f.<locals>.Local"}), "a class made inside a function"),
])  # fmt: skip
def test_values_without_a_form(value, what):
    with pytest.raises(
        canonical.NotCanonicalError, match=f"(?s)the parameter 'k' of the primitive 'p' has no canonical form: .*{what}"
    ):
        param_form(value)


def test_shardings_have_forms():
    mesh = Mesh(np.array(velax.devices()), ("x",))
    values = [
        *velax.devices(), mesh, mesh.abstract_mesh, mesh.update(axis_names=("y",)), P(), P("x"), P(None), P(P.UNCONSTRAINED),
        P(unreduced={"x"}), NamedSharding(mesh, P()), NamedSharding(mesh, P("x")), NamedSharding(mesh.abstract_mesh, P("x")),
        NamedSharding(mesh, P("x"), memory_kind="pinned_host"), SingleDeviceSharding(velax.devices()[0]),
    ]  # fmt: skip
    assert len({param_form(v) for v in values}) == len(values)
    assert param_form(P("x")) == param_form(P(("x",)))


def test_registered_forms():
    class Table:
        def __init__(self, rows):
            self.rows = rows

    with pytest.raises(TypeError):
        param_form(Table((1,)))
    canonical.register_canonical(Table, lambda t: t.rows)
    try:
        assert param_form(Table((1,))) == param_form(Table((1,))) != param_form(Table((2,)))
    finally:
        del canonical._rules[Table]


def test_irrelevant_parameters(primitive):
    p = primitive("p")
    p.irrelevant_params = frozenset({"rule"})
    assert canonical.canonical_bytes(simple(p, {"rule": len, "n": 1})) == canonical.canonical_bytes(
        simple(p, {"rule": max, "n": 1})
    )


def test_lowerings_from_elsewhere_have_no_form(primitive):
    p = primitive("p")
    p.rules["lower"] = lambda ctx, x: x
    with pytest.raises(canonical.NotCanonicalError, match="'p' is lowered by a function from outside of Velax"):
        canonical.canonical_bytes(simple(p))
    p.rules["lower"] = p.defined_lower = canonical.canonical_hash
    canonical.canonical_bytes(simple(p))
    p.rules["lower"] = canonical.canonical_bytes  # replaced since: the name no longer stands for it
    with pytest.raises(canonical.NotCanonicalError):
        canonical.canonical_bytes(simple(p))


def adds(primitive, first, second, consts):
    """``first + second`` for operands among two constants and an argument."""
    c, d, x, out = variables(4)
    at = {"c": c, "d": d, "x": x}
    eqn = new_jaxpr_eqn([at[first], at[second]], [out], primitive, {})
    return ClosedJaxpr(Jaxpr([c, d], [x], [out], [eqn]), consts)


def test_which_variables_are_read_matters(primitive):
    p = primitive("add")
    one, other = np.zeros(()), np.ones(())
    forms = {canonical.canonical_bytes(adds(p, a, b, [one, other])) for a in "cdx" for b in "cdx"}
    assert len(forms) == 9


def test_captured_arrays_are_arguments_and_captured_scalars_are_not(primitive):
    p = primitive("add")
    one, other, third = np.zeros(()), np.ones(()), np.ones(())

    def of(*consts):
        return canonical.canonical_bytes(adds(p, "c", "d", list(consts)))

    assert of(one, other) == of(other, third)  # two arguments, whatever is in them
    assert of(one, one) != of(one, other)  # one argument twice
    assert of(1.0, other) != of(2.0, other) != of(np.float32(2.0), other)
    assert of(1.0, other) == of(1.0, third)


def test_sharing_of_nested_jaxprs_does_not_matter(primitive):
    sin, call = primitive("sin"), primitive("call")

    def program(jaxprs):
        a, b, c = variables(3)
        eqns = [new_jaxpr_eqn([u], [v], call, {"jaxpr": j}) for u, v, j in ((a, b, jaxprs[0]), (b, c, jaxprs[1]))]
        return canonical.canonical_bytes(Jaxpr([], [a], [c], eqns))

    one, same, other = simple(sin), simple(sin), simple(primitive("cos"))
    assert program([one, one]) == program([one, same]) == program([same, one])
    assert len({program([one, one]), program([one, other]), program([other, one]), program([other, other])}) == 4
    assert program([one, (same, one)]) == program([one, (one, one)])


def test_literals(primitive):
    p = primitive("p")

    def of(value, dtype="float32", weak=False):
        out = Var(shaped_array((), np.dtype("float32")))
        atom = Literal(value, shaped_array((), np.dtype(dtype), weak))
        return canonical.canonical_bytes(Jaxpr([], [], [out], [new_jaxpr_eqn([atom], [out], p, {})]))

    forms = [
        of(1.0),
        of(2.0),
        of(1.0, weak=True),
        of(1.0, "float64"),
        of(0.0),
        of(-0.0),
        of(np.float32(1.0)),
        of(1, "int32"),
        of(True, "bool"),
    ]
    assert len(set(forms)) == len(forms)
    assert of(float("nan")) == of(float("nan"))


def test_effects_are_part_of_the_form(primitive):
    p = primitive("p")
    plain, io, ordered = (canonical.canonical_bytes(simple(p, {}, e)) for e in (
        effects.no_effects, frozenset({effects.io_effect}), frozenset({effects.ordered_io_effect})))  # fmt: skip
    assert len({plain, io, ordered}) == 3


def test_the_form_is_the_same_in_every_process():
    code = (
        "import hashlib; import test_jaxpr_printing as t; from velax._lang import canonical; "
        "print([canonical.canonical_hash(t.traced(*t.PROGRAMS[n])[1]) for n in ('scan', 'gradient', 'call used "
        "twice')],"
        " hashlib.md5(t.param_form({'a', 'b', 'c', (1, 2)})).hexdigest())"
    )
    here = __file__.rpartition("/")[0]
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=True,
                       env={"PYTHONHASHSEED": seed, "PYTHONPATH": here + "/.."}).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(runs) == 1


# Programs traced by Velax itself

TRACED = {
    "elementwise": lambda m, x: m.lax.sin(m.lax.cos(x)),
    "literals": lambda m, x: m.lax.mul(m.lax.add(x, 2.0), np.float32(3)),
    "broadcasting": lambda m, x: m.lax.broadcast_in_dim(m.lax.reduce_sum(x, (0,)), (2, 4), (1,)),
    "reduction": lambda m, x: m.lax.reduce_max(x, (1,)),
    "reshaping": lambda m, x: m.lax.transpose(m.lax.reshape(x, (4, 3)), (1, 0)),
    "selection": lambda m, x: m.lax.select(m.lax.gt(x, x), x, m.lax.neg(x)),
    "conversion": lambda m, x: m.lax.convert_element_type(x, "int32"),
    "indices": lambda m, x: m.lax.argmax(x, 0, "int32"),
    "no operands": lambda m, x: m.lax.iota("float32", 5),
    "call": lambda m, x: m.jit(lambda y: m.lax.tanh(y))(x),
    "nested calls": lambda m, x: m.jit(lambda y: m.jit(lambda z: m.lax.tanh(z))(y))(x),
    "tangents": lambda m, x: m.jvp(m.jit(lambda y: m.lax.sin(y)), (x,), (x,)),
}


class Velax:
    lax, jit, jvp = velax_lax, staticmethod(velax_jit), staticmethod(velax_jvp)


@pytest.mark.parametrize("name", TRACED)
def test_traced_by_velax(name):
    f, x = TRACED[name], np.ones((3, 4), np.float32)
    ours = make_jaxpr(lambda x: f(Velax, x))(x)
    check_jaxpr(ours)
    assert str(ours) == str(jax.make_jaxpr(lambda x: f(jax, x))(X))
    assert canonical.canonical_bytes(ours) == canonical.canonical_bytes(make_jaxpr(lambda x: f(Velax, x))(x))
