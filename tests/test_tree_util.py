"""Pytrees: differential tests against `jax.tree_util`, registration, errors, hashing, pickling, references, cycles."""

import collections
import copy
import dataclasses
import doctest
import gc
import pickle
import sys
import threading
import weakref

import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src import tree_util as jtu_internal
from jax._src.api_util import flatten_axes

from velax import _native, _tree_prefix, tree
from velax import tree_util as vtu

Point = collections.namedtuple("Point", ["x", "y"])
Empty = collections.namedtuple("Empty", [])


class Pair:
    """Registered without keys; the children come from a generator."""

    def __init__(self, *children, tag=None):
        self.children, self.tag = children, tag

    def __repr__(self):
        return f"Pair{self.children}"


class Keyed:
    def __init__(self, a, b, name):
        self.a, self.b, self.name = a, b, name


@dataclasses.dataclass
class Layer:
    weight: object
    bias: object
    activation: str = dataclasses.field(default="relu", metadata={"static": True})


class Mode(str):
    pass


class Uncomparable:
    """An object that refuses to be ordered or compared."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        raise RuntimeError("no comparison")


for tu in (vtu, jtu):
    tu.register_pytree_node(
        Pair, lambda p: ((c for c in p.children), p.tag), lambda tag, children: Pair(*children, tag=tag)
    )
    tu.register_pytree_with_keys(
        Keyed,
        lambda k, tu=tu: (((tu.GetAttrKey("a"), k.a), ("b!", k.b)), k.name),
        lambda name, children: Keyed(*children, name),
    )
    tu.register_dataclass(Layer)
    tu.register_static(Mode)


def trees(leaves=None, max_leaves=12):
    leaves = st.integers(-5, 5) | st.text("ab", max_size=2) if leaves is None else leaves
    keys = st.text("abc\udc80é", max_size=3) | st.just("long key")

    def extend(children):
        return st.one_of(
            st.lists(children, max_size=4),
            st.lists(children, max_size=4).map(tuple),
            st.dictionaries(keys, children, max_size=4),
            st.dictionaries(st.integers(-3, 3) | st.booleans(), children, max_size=3),
            st.dictionaries(st.tuples(st.integers(0, 3), keys), children, max_size=3),
            st.dictionaries(keys, children, max_size=3).map(collections.OrderedDict),
            st.dictionaries(keys, children, max_size=3).map(lambda d: collections.defaultdict(int, d)),
            st.builds(Point, children, children),
            st.just(Empty()),
            st.builds(Layer, children, children, st.sampled_from(["relu", "tanh"])),
            st.lists(children, max_size=3).map(lambda c: Pair(*c, tag=len(c))),
            st.builds(Keyed, children, children, st.sampled_from(["n", 3, None])),
            st.text("xy", max_size=2).map(Mode),
        )

    return st.recursive(leaves | st.none(), extend, max_leaves=max_leaves)


def keys_of(module, path):
    """A key path in a form that can be compared between the two libraries."""
    return [(type(k).__name__, str(k)) for k in path] + [module.keystr(path)]


def outcome(f):
    try:
        return f()
    except Exception as e:
        return type(e)


# --- against the oracle -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(trees())
def test_flatten_as_jax(value):
    leaves, treedef = vtu.tree_flatten(value)
    expected_leaves, expected = jtu.tree_flatten(value)
    assert [id(a) for a in leaves] == [id(b) for b in expected_leaves]
    assert repr(treedef) == repr(expected) == str(treedef)
    assert (treedef.num_leaves, treedef.num_nodes) == (expected.num_leaves, expected.num_nodes)
    assert treedef.node_data() == expected.node_data()
    assert [repr(c) for c in treedef.children()] == [repr(c) for c in expected.children()]
    assert vtu.tree_leaves(value) == expected_leaves
    assert vtu.tree_structure(value) == treedef
    rebuilt, expected_rebuilt = treedef.unflatten(leaves), expected.unflatten(expected_leaves)
    assert repr(vtu.tree_structure(rebuilt)) == repr(jtu.tree_structure(expected_rebuilt)) == repr(treedef)
    assert vtu.tree_leaves(rebuilt) == expected_leaves
    if isinstance(rebuilt, dict):
        assert list(rebuilt) == list(expected_rebuilt)


@settings(deadline=None, max_examples=100)
@given(trees())
def test_paths_as_jax(value):
    pairs, treedef = vtu.tree_flatten_with_path(value)
    expected_pairs, expected = jtu.tree_flatten_with_path(value)
    assert [keys_of(vtu, p) for p, _ in pairs] == [keys_of(jtu, p) for p, _ in expected_pairs]
    assert [id(x) for _, x in pairs] == [id(x) for _, x in expected_pairs]
    assert repr(treedef) == repr(expected)
    assert treedef == vtu.tree_structure(value)
    for (path, _), (expected_path, _) in zip(pairs, expected_pairs):
        ours = vtu.keystr(path, simple=True, separator="/")
        assert ours == jtu.keystr(expected_path, simple=True, separator="/")


@settings(deadline=None, max_examples=100)
@given(trees(), st.sampled_from([list, tuple, dict, int, type(None), Point, Pair]))
def test_is_leaf_as_jax(value, cls):
    seen, expected_seen = [], []
    leaves, treedef = vtu.tree_flatten(value, lambda x: (seen.append(type(x)), isinstance(x, cls))[1])
    expected_leaves, expected = jtu.tree_flatten(
        value, lambda x: (expected_seen.append(type(x)), isinstance(x, cls))[1]
    )
    assert repr(treedef) == repr(expected)
    assert [id(a) for a in leaves] == [id(b) for b in expected_leaves]
    assert seen == expected_seen


@settings(deadline=None, max_examples=200)
@given(trees(max_leaves=6), trees(max_leaves=6))
def test_two_trees_as_jax(a, b):
    da, db = vtu.tree_structure(a), vtu.tree_structure(b)
    ja, jb = jtu.tree_structure(a), jtu.tree_structure(b)
    assert (da == db) == (ja == jb)
    assert (da != db) is not (da == db)
    if da == db:
        assert hash(da) == hash(db)
    pair = lambda x, y: (x, y)
    ours, theirs = outcome(lambda: vtu.tree_map(pair, a, b)), outcome(lambda: jtu.tree_map(pair, a, b))
    if isinstance(theirs, type):
        assert ours is theirs
    else:
        assert vtu.tree_leaves(ours) == jtu.tree_leaves(theirs)
    assert repr(da.compose(db)) == "PyTreeDef(" + repr(da)[10:-1].replace("*", repr(db)[10:-1]) + ")"
    assert da.compose(db).num_leaves == da.num_leaves * db.num_leaves
    sizes = lambda d: (d.num_leaves, d.num_nodes)
    if not da.num_leaves or not isinstance(a, (Mode, str)):
        assert sizes(da.compose(db)) == sizes(vtu.tree_structure(da.unflatten([b] * da.num_leaves)))
    ours, theirs = outcome(lambda: vtu.tree_broadcast(a, b)), outcome(lambda: jtu.tree_broadcast(a, b))
    if isinstance(theirs, type):
        assert ours is theirs
    else:
        assert vtu.tree_leaves(ours) == jtu.tree_leaves(theirs)
    # Without the paths: the oracle gives all fields of a named tuple the name of the first.
    errors = [why.split(":")[0] for *_, why in vtu.equality_errors(a, b)]
    assert errors == [why.split(":")[0] for *_, why in jtu_internal.equality_errors(a, b)]
    assert bool(errors) == (da != db)
    ours = [str(e("name")).splitlines()[0] for e in vtu.prefix_errors(a, b)]
    assert ours == [str(e("name")).splitlines()[0] for e in jtu_internal.prefix_errors(a, b)]


@settings(deadline=None, max_examples=100)
@given(trees(max_leaves=6), st.data())
def test_prefix_as_jax(prefix, data):
    # A tree of which `prefix` is a prefix: its leaves replaced by subtrees.
    treedef = vtu.tree_structure(prefix)
    full = treedef.unflatten([data.draw(trees(max_leaves=3)) for _ in range(treedef.num_leaves)])
    assert treedef.flatten_up_to(full) == jtu.tree_structure(prefix).flatten_up_to(full)
    assert vtu.broadcast_prefix(prefix, full) == jtu_internal.broadcast_prefix(prefix, full)
    leaves = vtu.tree_leaves(prefix)
    spread = vtu.broadcast_flattened_prefix_with_treedef(leaves, treedef, vtu.tree_structure(full))
    assert spread == vtu.broadcast_prefix(prefix, full)
    assert vtu.prefix_errors(prefix, full) == []


@settings(deadline=None, max_examples=60)
@given(trees())
def test_pickle_copy_and_rebuild(value):
    treedef = vtu.tree_structure(value)
    for copied in (pickle.loads(pickle.dumps(treedef)), copy.deepcopy(treedef), copy.copy(treedef)):
        assert copied == treedef
        assert hash(copied) == hash(treedef)
        assert repr(copied) == repr(treedef)
        assert vtu.tree_leaves(copied.unflatten(range(treedef.num_leaves))) == list(range(treedef.num_leaves))
    rebuilt = vtu.PyTreeDef.from_node_data_and_children(
        vtu.default_registry, treedef.node_data(), treedef.children()
    )
    assert rebuilt == treedef


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.tree_reduce(lambda a, b: f"({a}{b})", [1, (2, {"a": 3})]),
        lambda t: t.tree_reduce(lambda a, b: a + b, [], 7),
        lambda t: t.tree_reduce(lambda a, b: a + b, []),
        *(
            lambda t, n=n: t.tree_reduce_associative(lambda a, b: f"({a}{b})", list(range(n)), identity="e")
            for n in range(10)
        ),
        lambda t: t.tree_reduce_associative(lambda a, b: a, []),
        lambda t: t.tree_all([True, {"a": 0}]),
        lambda t: t.tree_all([[0]], is_leaf=lambda x: isinstance(x, list)),
        lambda t: t.tree_transpose(t.tree_structure([0, 0]), t.tree_structure({"a": 0, "b": 0}), [{"a": 1, "b": 2}] * 2),
        lambda t: t.tree_transpose(t.tree_structure([0, 0]), None, [(1, 2), (3, 4)]),
        lambda t: t.tree_transpose(t.tree_structure([0, 0]), None, [(1, 2), (3,)]),
        lambda t: t.tree_transpose(t.tree_structure(0), t.tree_structure([0]), [1]),
        lambda t: t.all_leaves([1, "a"]),
        lambda t: t.all_leaves([1, None]),
        lambda t: t.all_leaves([1, None], is_leaf=lambda x: x is None),
        lambda t: t.all_leaves([1, [2]], is_leaf=lambda x: True),
        lambda t: [t.is_tree_node(x) for x in (list, tuple, dict, type(None), int, Point, Pair, Layer, Mode, 3)],
        lambda t: t.flatten_one_level([1, 2]),
        lambda t: t.flatten_one_level({"b": 1, "a": 2}),
        lambda t: t.flatten_one_level(Point(1, 2)),
        lambda t: t.flatten_one_level(None),
        lambda t: t.flatten_one_level(1),
        lambda t: t.flatten_one_level_with_keys(1),
        lambda t: [list(map(str, p)) for p in t.flatten_one_level_with_keys({"b": 1, "a": 2})[0]],
        lambda t: t.treedef_is_leaf(t.tree_structure(1)),
        lambda t: t.treedef_is_leaf(t.tree_structure([])),
        lambda t: t.treedef_is_leaf(t.tree_structure([1])),
        lambda t: repr(t.treedef_tuple([t.tree_structure(0), t.tree_structure([0, None])])),
        lambda t: repr(t.treedef_children(t.tree_structure({"a": (1, 2), "b": 3}))),
        lambda t: t.tree_map_with_path(lambda p, *x: (t.keystr(p), *x), {"a": [1]}, {"a": [(2, 3)]}),
        lambda t: [
            (t.keystr(p), x)
            for p, x in t.tree_leaves_with_path([1, [2]], lambda p, x: len(p) == 1, is_leaf_takes_path=True)
        ],
        lambda t: t.tree_unflatten(t.tree_structure([1]), 3),
        lambda t: t.tree_unflatten(t.tree_structure([1, 2]), [3]),
        lambda t: t.tree_unflatten(t.tree_structure([1, 2]), [3, 4, 5]),
        lambda t: t.tree_unflatten(t.tree_structure([1, 2]), iter("ab")),
        lambda t: t.tree_unflatten(t.tree_structure([1]), {"a": 1}),
        lambda t: t.tree_flatten({1: 0, "a": 0}),
        lambda t: t.tree_flatten([1], is_leaf=3),
        lambda t: t.tree_flatten([1], is_leaf=lambda x: 1),
        lambda t: t.tree_flatten([1], is_leaf=lambda x: np.bool_(True)),
        lambda t: t.tree_flatten([1], is_leaf=lambda x: None)[0],
        lambda t: t.tree_flatten([1], is_leaf=lambda x: 1 / 0),
        lambda t: t.tree_map(None, [1]),
        lambda t: [hash(t.DictKey("a")) == hash("a"), t.DictKey(1) == t.FlattenedIndexKey(1)],
        lambda t: [t.SequenceKey(True).idx, t.SequenceKey(np.int64(3)).idx, t.SequenceKey(-1).idx],
        lambda t: t.SequenceKey("a"),
        lambda t: t.GetAttrKey(1),
        lambda t: hash(t.DictKey([])),
        lambda t: [k.__match_args__ for k in (t.DictKey, t.SequenceKey, t.GetAttrKey, t.FlattenedIndexKey)],
        lambda t: t.keystr((3, "a"), simple=True),
        lambda t: t.keystr((3, "a")),
        lambda t: repr(t.tree_structure(t.Partial(print, 1, a=2))),
        lambda t: t.Partial(3),
        lambda t: t.tree_structure([[1], [2]]).walk(lambda c, d: (c, d), lambda x: -x, [3, 4]),
        lambda t: t.tree_structure([[1], [2]]).from_iterable_tree(((1,), (2,))),
        lambda t: t.tree_structure([[1], [2]]).from_iterable_tree(((1,), (2, 3))),
    ],
)
def test_call_as_jax(call):
    assert outcome(lambda: call(vtu)) == outcome(lambda: call(jtu))


@pytest.mark.parametrize("value", [[1, [2]], {1: 2, "a": 3}, (), Point(1, [2]), Pair(1, 2), Pair(1, tag=3), Layer(1, 2)])
@pytest.mark.parametrize(
    "other",
    [
        [1],
        [1, 2],
        (1, 2),
        {"a": 1},
        {"b": 1, "a": 3},
        collections.OrderedDict(a=1),
        Empty(),
        Point(1, 2),
        Pair(1),
        Layer(1, 2, "tanh"),
        None,
        3,
    ],
)
def test_flatten_up_to_error_text(value, other):
    if isinstance(value, dict):
        value = {"b": 1, "a": [2]}
    ours = theirs = None
    try:
        vtu.tree_structure(value).flatten_up_to(other)
    except ValueError as e:
        ours = str(e)
    try:
        jtu.tree_structure(value).flatten_up_to(other)
    except ValueError as e:
        theirs = str(e)
    assert ours == theirs


# --- errors -----------------------------------------------------------------------------------------------------------


def message(f, error=ValueError):
    with pytest.raises(error) as info:
        f()
    return str(info.value)


def test_errors_name_the_key_path():
    text = message(lambda: vtu.tree_map(lambda x, y: x, {"a": [1, 2]}, {"a": [1]}))
    assert text.startswith("pytree structure error: different lengths of list at key path\n    tree_map tree['a']\n")
    text = message(lambda: vtu.tree_map(lambda x, y: x, {"a": {"b": 1}}, {"a": {"c": 1}}))
    assert "different pytree metadata at key path\n    tree_map tree['a']" in text
    assert "- ('b',)" in text and "+ ('c',)" in text
    text = message(lambda: vtu.tree_map(lambda x, y: x, {"a": {"{b}": 1}}, {"a": {"c{0}": 1, "d": 2}}))
    assert "different numbers of pytree children" in text and "c{0} d {b}" in text
    text = message(lambda: vtu.tree_map_with_path(lambda p, x, y: x, [1, None], [1, 2]))
    assert "different types at key path\n    tree_map_with_path tree[1]" in text and "<class 'int'>" in text
    text = message(lambda: vtu.tree_broadcast([1, (2,)], [1, 2]))
    assert "broadcast_prefix prefix_tree[1]" in text


def test_error_of_the_mapped_function_is_not_replaced():
    def f(x, y):
        raise ValueError("mine")

    assert message(lambda: vtu.tree_map(f, [1], [2])) == "mine"


def test_stop_iteration_of_the_mapped_function_passes():
    values = iter([1])
    for mapped in (lambda: vtu.tree_map(lambda x: next(values), [1, 2]), lambda: vtu.tree_map(next, [iter([])])):
        with pytest.raises(StopIteration):
            mapped()


def test_incomparable_dict_keys():
    text = message(lambda: vtu.tree_flatten({1: 0, "a": 0}))
    assert "Comparator raised exception while sorting pytree dictionary keys" in text
    assert "int, str" in text
    with pytest.raises(ValueError) as info:
        vtu.tree_flatten({"x": {1: 0, "a": 0}})
    assert isinstance(info.value.__cause__, TypeError)


def test_is_leaf_must_answer_with_a_bool():
    text = message(lambda: vtu.tree_flatten([1], is_leaf=lambda x: ""))
    assert text == "is_leaf predicate returned a non-boolean value ''; expected a boolean"


def test_flatten_axis_prefix():
    structure = vtu.tree_structure((1, {"a": 2, "b": None}))
    jax_structure = jtu.tree_structure((1, {"a": 2, "b": None}))
    assert vtu.flatten_axis_prefix("in_axes", structure, (0, None)) == [0, None]
    assert vtu.flatten_axis_prefix("in_axes", structure, None) == [None, None]
    assert vtu.flatten_axis_prefix("in_axes", structure, (0, {"a": 1, "b": None})) == [0, 1]
    for spec in [(0,), [0, 1], (0, {"b": 1}), (0, (1,))]:
        text = message(lambda spec=spec: vtu.flatten_axis_prefix("in_axes", structure, spec, tupled_args=True))
        expected = message(lambda spec=spec: flatten_axes("in_axes", jax_structure, spec, tupled_args=True))
        first, wanted = text.splitlines()[0], expected.splitlines()[0]
        assert first.startswith("in_axes specification must be a tree prefix of the corresponding value;")
        assert wanted.startswith("in_axes specification must be a tree prefix of the corresponding value;")
        assert "should always be wrapped in a tuple" in text
        assert "Mismatch details (1 found)" in text and "key path\n      in_axes" in text
    both = vtu.tree_structure(((1, 2), {"k": 3}))
    assert vtu.flatten_axis_prefix("in_axes", both, ((0, 1), 0), kws=True) == [0, 1, 0]
    assert "list" in message(lambda: vtu.flatten_axis_prefix("in_axes", both, ([0, 1], 0), kws=True))


# --- registration -----------------------------------------------------------------------------------------------------


def test_duplicate_registration():
    f = lambda *a: a
    for cls in (list, dict, type(None), Pair, collections.OrderedDict):
        text = message(lambda cls=cls: vtu.register_pytree_node(cls, f, f))
        assert text == f"Duplicate custom PyTreeDef type registration for {cls!r}."
    text = message(lambda: vtu.register_dataclass(Layer))
    assert text == f"Duplicate custom dataclass PyTreeDef type registration for {Layer!r}."


def test_registration_arguments():
    f = lambda *a: a
    new = lambda: type("New", (), {})
    assert "must be a type, got 3" in message(lambda: vtu.register_pytree_node(3, f, f), TypeError)
    assert "to_iterable must be callable" in message(lambda: vtu.register_pytree_node(new(), None, f), TypeError)
    assert "from_iterable must" in message(lambda: vtu.register_pytree_node(new(), f, None), TypeError)
    assert "with_keys must" in message(lambda: vtu.register_pytree_node(new(), f, f, 3), TypeError)


@pytest.mark.parametrize(
    ("returned", "wanted"),
    [
        ((1, 2, 3), r"should return a (children, aux_data) tuple, got (1, 2, 3)"),
        (3, "got 3"),
        ([(1,), None], "tuple, got [(1,), None]"),
        ((3, None), "where 'children' is iterable, got (3, None)"),
    ],
)
def test_bad_flatten_function(returned, wanted):
    cls = type("Bad", (), {})
    vtu.register_pytree_node(cls, lambda _: returned, lambda *a: a)
    assert wanted in message(lambda: vtu.tree_flatten(cls()))


def test_bad_flatten_with_keys_function():
    for returned, wanted in [
        ((1, 2, 3), "(key_leaf_pairs, aux_data)"),
        ((3, None), "'key_leaf_pairs' is iterable"),
        ((((1, 2, 3),), None), "(key, child) tuple, got (1, 2, 3)"),
        (((["k", 1],), None), "(key, child) tuple, got ['k', 1]"),
    ]:
        cls = type("Bad", (), {})
        vtu.register_pytree_with_keys(cls, lambda _, r=returned: r, lambda *a: a, lambda _: ((), None))
        assert wanted in message(lambda cls=cls: vtu.tree_flatten_with_path(cls()))
        assert vtu.tree_leaves(cls()) == []


def test_error_inside_children_generator_passes():
    def children():
        yield 1
        raise TypeError("inside")

    cls = type("Bad", (), {})
    vtu.register_pytree_node(cls, lambda _: (children(), None), lambda *a: a)
    assert message(lambda: vtu.tree_flatten(cls()), TypeError) == "inside"


def test_register_classes():
    @vtu.register_pytree_node_class
    class A:
        def tree_flatten(self):
            return (1, 2), "data"

        @classmethod
        def tree_unflatten(cls, data, children):
            return cls, data, children

    assert vtu.tree_map(lambda x: -x, A()) == (A, "data", (-1, -2))

    @vtu.register_pytree_with_keys_class
    class B:
        def tree_flatten_with_keys(self):
            return ((vtu.GetAttrKey("v"), 1),), "data"

        @classmethod
        def tree_unflatten(cls, data, children):
            return cls, data, children

    assert vtu.tree_map(lambda x: -x, B()) == (B, "data", (-1,))
    assert vtu.keystr(vtu.tree_leaves_with_path([B()])[0][0]) == "[0].v"

    class C(B):
        def tree_flatten(self):
            return (5,), None

    vtu.register_pytree_with_keys_class(C)
    assert vtu.tree_leaves(C()) == [5]


def test_a_registered_namedtuple_is_custom():
    cls = collections.namedtuple("cls", "a b")
    assert vtu.tree_leaves(cls(1, 2)) == [1, 2]
    vtu.register_pytree_node(cls, lambda n: ((n.a,), n.b), lambda b, a: cls(*a, b))
    assert vtu.tree_leaves(cls(1, 2)) == [1]


def test_static():
    assert vtu.tree_flatten([Mode("a"), 1])[0] == [1]
    assert vtu.tree_structure(Mode("a")) != vtu.tree_structure(Mode("b"))
    assert vtu.tree_structure(Mode("a")) == vtu.tree_structure(Mode("a"))


def test_dataclass():
    layer = Layer([1, 2], None, "tanh")
    leaves, treedef = vtu.tree_flatten(layer)
    assert leaves == [1, 2]
    assert repr(treedef) == "PyTreeDef(CustomNode(Layer[('tanh',)], [[*, *], None]))"
    assert vtu.tree_map(lambda x: -x, layer) == Layer([-1, -2], None, "tanh")
    assert [vtu.keystr(p) for p, _ in vtu.tree_leaves_with_path(layer)] == [".weight[0]", ".weight[1]"]
    assert vtu.tree_structure(Layer(1, 2, [])) == vtu.tree_structure(Layer(1, 2, []))

    @vtu.register_dataclass
    @dataclasses.dataclass
    class WithStatic:
        x: int
        mode: str = tree.static(default="m", metadata={"doc": "mode"})

    assert repr(vtu.tree_structure(WithStatic(1))) == "PyTreeDef(CustomNode(WithStatic[('m',)], [*]))"
    assert {f.name: dict(f.metadata) for f in dataclasses.fields(WithStatic)} == {
        "x": {},
        "mode": {"static": True, "doc": "mode"},
    }

    class Plain:
        def __init__(self, a, b):
            self.a, self.b = a, b

    vtu.register_dataclass(Plain, ["a"], ["b"])
    assert vtu.tree_map(lambda x: x + 1, Plain(1, 2)).a == 2

    class Lacking:
        pass

    vtu.register_dataclass(Lacking, ["a"], [])
    assert "a" in message(lambda: vtu.tree_flatten(Lacking()), AttributeError)


def test_register_dataclass_arguments():
    @dataclasses.dataclass
    class D:
        x: int
        y: int = 3
        z: int = dataclasses.field(default=4, init=False)

    for args in [
        (int,),
        (D, ["x"]),
        (D, None, ["x"]),
        (D, ["x"], ["z"]),
        (D, ["x"], ["y", "w"]),
        (D, ["x", "y"], ["y"]),
        (D, ["x"], []),
        (D,),
    ]:
        ours = message(lambda args=args: vtu.register_dataclass(*args), (ValueError, TypeError))
        theirs = message(lambda args=args: jtu.register_dataclass(*args), (ValueError, TypeError))
        assert ours == theirs
    assert "'x' of" in message(lambda: vtu.register_dataclass(D, ["x", "x"], ["y"]))
    assert vtu.register_dataclass(D, ["x"], [], drop_fields=["y"]) is D
    assert vtu.tree_map(lambda x: x, D(1, 2)) == D(1, 3)


def test_registries():
    leaves, treedef = vtu.none_leaf_registry.flatten([None, {"a": Pair(1, None)}])
    assert leaves == [None, 1, None]
    assert vtu.PyTreeRegistry(enable_list=False).flatten([1, 2])[0] == [[1, 2]]
    assert vtu.PyTreeRegistry(enable_dict=False, enable_none=False).flatten([{}, None])[0] == [{}, None]
    assert vtu.PyTreeRegistry().flatten([collections.OrderedDict()])[1].num_leaves == 1
    assert vtu.none_leaf_registry.flatten([1])[1] == vtu.tree_structure([1])
    assert pickle.loads(pickle.dumps(treedef)) == treedef
    assert pickle.loads(pickle.dumps(vtu.default_registry)) is vtu.default_registry
    message(lambda: pickle.dumps(vtu.PyTreeRegistry()), TypeError)
    message(lambda: vtu.tree_structure([1]).compose(treedef))
    message(lambda: vtu.treedef_tuple([treedef]))


# --- the PyTreeDef type -----------------------------------------------------------------------------------------------


def test_treedef_type():
    treedef = vtu.tree_structure([1])
    assert repr(vtu.PyTreeDef) == "<class 'velax.tree_util.PyTreeDef'>"
    message(vtu.PyTreeDef, TypeError)
    assert treedef != 3 and (treedef == 3) is False
    message(lambda: treedef < treedef, TypeError)
    assert weakref.ref(treedef)() is treedef
    assert treedef.is_leaf() is False and vtu.tree_structure(0).is_leaf()
    assert not vtu.treedef_is_strict_leaf(vtu.tree_structure(()))
    message(lambda: vtu.treedef_tuple([3]), TypeError)
    message(lambda: treedef.compose(3), TypeError)


def test_equal_structures_are_shared():
    make = lambda: {"a": [1, Point(2, None)], "b": (3,)}
    assert vtu.tree_structure(make()) is not None
    first = vtu.tree_structure(make())
    assert vtu.tree_structure(make()) is first
    assert vtu.tree_structure({"b": (3,), "a": [1, Point(2, None)]}) is first


def test_equal_keys_of_other_types_are_kept_apart():
    # Equal structures, but each must give back its own keys.
    one, true = vtu.tree_structure({1: 0}), vtu.tree_structure({True: 0})
    assert one == true and hash(one) == hash(true)
    assert next(iter(one.unflatten([0]))) is not True
    assert next(iter(true.unflatten([0]))) is True


def test_dict_keys_equal_to_str():
    class Name(str):
        pass

    plain, derived = vtu.tree_structure({"a": 1, "b": 2}), vtu.tree_structure({Name("b"): 2, Name("a"): 1})
    assert plain == derived and hash(plain) == hash(derived)


def test_hash_does_without_hashable_data():
    a, b = (vtu.tree_structure(Pair(1, tag=[1, {}])) for _ in range(2))
    assert a == b and hash(a) == hash(b)
    assert a != vtu.tree_structure(Pair(1, tag=[2, {}]))
    hashes = {hash(vtu.tree_structure(vtu.Partial(f, 1))) for f in (abs, max, min, lambda: 1)}
    assert len(hashes) == 4

    class Raises:
        def __hash__(self):
            raise RuntimeError("no hash")

    message(lambda: hash(vtu.tree_structure(Pair(1, tag=Raises()))), RuntimeError)


def test_errors_in_comparison_pass():
    a, b = (vtu.tree_structure(Pair(1, tag=Uncomparable())) for _ in range(2))
    assert a == a
    message(lambda: a == b, RuntimeError)
    message(lambda: a.flatten_up_to(Pair(1, tag=Uncomparable())), RuntimeError)


def test_rebuilding_checks_its_arguments():
    leaf = vtu.tree_structure(0)
    make = lambda data, children: vtu.PyTreeDef.from_node_data_and_children(vtu.default_registry, data, children)
    assert make((list, None), [leaf, leaf]) == vtu.tree_structure([0, 0])
    assert make((dict, ["a"]), [leaf]) == vtu.tree_structure({"a": 0})
    assert "has 1 children, got 2" in message(lambda: make((dict, ["a"]), [leaf, leaf]))
    assert "sorted" in message(lambda: make((dict, ["b", "a"]), [leaf, leaf]))
    assert "not registered" in message(lambda: make((int, None), []))
    assert "static fields" in message(lambda: make((Layer, 3), [leaf, leaf]))
    message(lambda: make(None, [leaf]))
    message(lambda: make((list, None), [3]), TypeError)
    build = lambda nodes: _native.treedef_from_nodes(vtu.default_registry, nodes)
    for nodes in ([], [None, None], [(list, None, 1)], [(list, None, -1)], [None, (dict, [], 1)]):
        message(lambda nodes=nodes: build(nodes))


def test_key_entries():
    for key in (vtu.DictKey("a"), vtu.SequenceKey(1), vtu.GetAttrKey("n"), vtu.FlattenedIndexKey(2)):
        assert pickle.loads(pickle.dumps(key)) == key
        assert len({key, copy.copy(key)}) == 1
        assert repr(key) == repr(getattr(jtu, type(key).__name__)(getattr(key, key.__match_args__[0])))
        with pytest.raises(AttributeError):
            setattr(key, key.__match_args__[0], 3)
    assert vtu.SequenceKey(idx=1) == vtu.SequenceKey(1) != vtu.FlattenedIndexKey(1)
    assert issubclass(type("Mine", (vtu.DictKey,), {}), vtu.DictKey)


def test_partial():
    inner = vtu.Partial(lambda x, y, z=0: (x, y, z), 1)
    assert inner(2) == (1, 2, 0)
    outer = vtu.Partial(inner, 5, z=7)
    assert outer() == (1, 5, 7)
    assert vtu.tree_leaves(outer) == [5, 7]
    assert vtu.tree_map(lambda x: x + 1, outer)() == (1, 6, 8)
    assert vtu.tree_structure(vtu.Partial(inner, 5)) == vtu.tree_structure(vtu.Partial(inner, 6))
    assert pickle.loads(pickle.dumps(vtu.Partial(abs, -1)))() == 1


# --- robustness -------------------------------------------------------------------------------------------------------


def test_deep_and_cyclic_trees():
    cyclic = []
    cyclic.append(cyclic)
    for f in (vtu.tree_flatten, vtu.tree_structure, vtu.tree_leaves, vtu.tree_flatten_with_path):
        assert "may contain itself" in message(lambda f=f: f(cyclic), RecursionError)
    deep = 0
    for _ in range(300):
        deep = [deep]
    leaves, treedef = vtu.tree_flatten(deep)
    assert treedef.num_nodes == 301
    assert repr(treedef) == f"PyTreeDef({'[' * 300}*{']' * 300})"
    assert treedef.unflatten(leaves) == deep


def test_containers_changed_while_flattened():
    values = [1, 2, 3]

    def shrink(x):
        values.clear()
        return False

    leaves, treedef = vtu.tree_flatten(values, is_leaf=shrink)
    assert len(leaves) == treedef.num_leaves
    mapping = {"a": [1], "b": [2]}
    leaves, treedef = vtu.tree_flatten(mapping, is_leaf=lambda x: (mapping.clear(), False)[1])
    assert leaves == [] or leaves == [1, 2]

    def clear(_, children):
        leaves.clear()
        return children

    cls = type("Clears", (), {})
    vtu.register_pytree_node(cls, lambda _: ([0], None), clear)
    leaves = [object(), object(), object()]
    assert len(vtu.tree_structure([cls(), 1, 2]).unflatten(leaves)) == 3


def test_large_and_unusual_dicts():
    for n in (0, 1, 63, 64, 65, 600):
        keys = [f"key {i * 7919 % 1000}" for i in range(n)]
        for names in (keys, [sys.intern(k) for k in keys], ["".join(k) for k in keys]):
            value = {k: i for i, k in enumerate(names)}
            assert vtu.tree_leaves(value) == [value[k] for k in sorted(value)]
    # The same keys in another order of insertion are another entry of the order cache, but the same structure.
    a, b = {"x": 1, "y": 2}, {"y": 2, "x": 1}
    assert vtu.tree_structure(a) == vtu.tree_structure(b)
    assert vtu.tree_leaves(a) == vtu.tree_leaves(b) == [1, 2]
    for i in range(5000):
        assert vtu.tree_leaves({f"{i}b": 1, f"{i}a": 2}) == [2, 1]


def test_no_reference_leaks():
    class Key:
        """Ordered, but not a str: takes the general way of sorting."""

        def __init__(self, v):
            self.v = v

        def __lt__(self, other):
            return self.v < other.v

    leaf, tag, key = object(), object(), Key(1)
    value = [leaf, {"a": leaf, "b": (leaf, None)}, Point(leaf, 1), Layer(leaf, leaf), Pair(leaf, tag=tag)]
    value += [Keyed(leaf, leaf, tag), {key: leaf}, collections.OrderedDict(z=leaf), vtu.Partial(abs, leaf)]
    failing = [value, {1: leaf, "a": leaf}]

    def everything():
        leaves, treedef = vtu.tree_flatten(value)
        other = treedef.unflatten(leaves)
        assert vtu.tree_structure(other) == treedef
        hash(treedef), repr(treedef), treedef.children(), treedef.node_data()
        treedef.flatten_up_to(other)
        treedef.leaf_counts_in(treedef)
        treedef.compose(treedef)
        vtu.tree_flatten_with_path(value)
        vtu.tree_map(lambda x, y: x, value, other)
        vtu.tree_map_with_path(lambda p, x: x, value)
        vtu.flatten_one_level_with_keys(value[3])
        treedef.walk(lambda c, d: c, lambda x: x, leaves)
        treedef.from_iterable_tree(
            treedef.walk(lambda c, d: c, lambda x: x, leaves)  # nested tuples of children
        )
        vtu.treedef_tuple([treedef, treedef])
        pickled = vtu.tree_structure([leaf, {"a": (leaf, None)}, Point(leaf, 1)])
        pickle.loads(pickle.dumps(pickled))
        for bad in (
            lambda: vtu.tree_flatten(failing),
            lambda: vtu.tree_flatten_with_path(failing),
            lambda: treedef.unflatten(leaves[1:]),
            lambda: treedef.unflatten([*leaves, leaf]),
            lambda: treedef.flatten_up_to([leaf] * len(value)),
            lambda: treedef.leaf_counts_in(vtu.tree_structure([leaf])),
            lambda: treedef.from_iterable_tree([leaf] * len(value)),
            lambda: vtu.tree_map(lambda x: {}[x], value),
            lambda: vtu.tree_flatten(value, is_leaf=lambda x: 3),
        ):
            with pytest.raises((ValueError, KeyError, TypeError)):
                bad()

    everything()
    gc.collect()
    watched = [leaf, tag, key, value, Point, Layer, Pair, vtu.default_registry, vtu.PyTreeDef, vtu.DictKey]
    before = [sys.getrefcount(o) for o in watched]
    for _ in range(20):
        everything()
    gc.collect()
    after = [sys.getrefcount(o) for o in watched]
    # The garbage collector may hold on to one round.
    assert [abs(a - b) < 15 for a, b in zip(after, before)] == [True] * len(watched), (before, after)
    objects = len(gc.get_objects())
    for _ in range(20):
        everything()
    gc.collect()
    assert len(gc.get_objects()) - objects < 15


def test_structures_take_part_in_garbage_collection():
    class Holder:
        pass

    holder = Holder()
    holder.treedef = vtu.tree_structure(Pair(1, tag=holder))
    dead = weakref.ref(holder)
    del holder
    gc.collect()
    assert dead() is None

    def local():
        cls = collections.namedtuple("cls", "a")
        cls.treedef = vtu.tree_structure(cls(1))
        return weakref.ref(cls)

    dead = local()
    gc.collect()
    assert dead() is None

    def local_registry():
        registry = vtu.PyTreeRegistry()
        cls = type("Local", (), {})
        registry.register_node(cls, lambda x: ((), registry), lambda *a: cls())
        cls.structure = registry.flatten(cls())[1]
        return weakref.ref(cls)

    dead = local_registry()
    gc.collect()
    assert dead() is None


def test_threads():
    value = {"a": [1, {"b": Pair(2, 3)}], "c": Layer(4, 5)}
    expected = vtu.tree_flatten(value)
    failures = []

    def work():
        for i in range(300):
            local = {f"k{i}": 1, **value}
            if vtu.tree_flatten(value) != expected or vtu.tree_leaves(vtu.tree_map(lambda x: x, local)) != [1, 2, 3, 4, 5, 1]:
                failures.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


# --- the modules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [vtu, tree, _tree_prefix])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0


def test_public_names():
    import jax.tree

    public = lambda module: {n for n in dir(module) if not n.startswith("_")}
    assert set(vtu.__all__) >= public(jtu) - {"annotations"}
    assert set(tree.__all__) == public(jax.tree)
    for name in vtu.__all__:
        assert hasattr(vtu, name)
