"""Pytrees: differential tests against `jax.tree_util`, error messages, registration."""

import collections
import dataclasses
import doctest
import pickle

import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax._src import tree_util as jtu_internal
from jax._src.api_util import flatten_axes
from tree_helpers import Empty, Layer, Mode, Pair, Point, message, trees

from velax import _tree_prefix, tree, tree_util as vtu


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
        lambda t: t.tree_transpose(
            t.tree_structure([0, 0]), t.tree_structure({"a": 0, "b": 0}), [{"a": 1, "b": 2}] * 2
        ),
        lambda t: t.tree_transpose(t.tree_structure([0, 0]), None, [(1, 2), (3, 4)]),
        lambda t: t.tree_transpose(t.tree_structure([0, 0]), None, [(1, 2), (3,)]),
        lambda t: t.tree_transpose(t.tree_structure(0), t.tree_structure([0]), [1]),
        lambda t: t.tree_broadcast(None, collections.defaultdict(int, {1: 1, "a": 2})),
        lambda t: t.all_leaves([1, "a"]),
        lambda t: t.all_leaves([1, None]),
        lambda t: t.all_leaves([1, None], is_leaf=lambda x: x is None),
        lambda t: t.all_leaves([1, [2]], is_leaf=lambda x: True),
        lambda t: [t.is_tree_node(x) for x in (list, tuple, dict, type(None), int, Point, Pair, Layer, Mode, 3)],
        lambda t: t.flatten_one_level([1, 2]),
        lambda t: t.flatten_one_level({"b": 1, "a": 2}),
        lambda t: t.flatten_one_level(Point(1, 2)),
        lambda t: t.flatten_one_level(collections.OrderedDict(b=1, a=2)),
        lambda t: t.flatten_one_level(t.Partial(abs, 1)),
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


@pytest.mark.parametrize(
    "value", [[1, [2]], {1: 2, "a": 3}, (), Point(1, [2]), Pair(1, 2), Pair(1, tag=3), Layer(1, 2)]
)
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


def test_an_interrupt_in_a_comparison_of_keys_passes():
    class Key:
        def __lt__(self, other):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vtu.tree_leaves({Key(): 1, Key(): 2})


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
