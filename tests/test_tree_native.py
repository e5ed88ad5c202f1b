"""The native pytrees: structures, key entries, text, pickling; robustness, memory, cycles and threads."""

import collections
import copy
import gc
import os
import pickle
import sys
import threading
import weakref

import jax.tree_util as jtu
import numpy as np
import pytest
from array_helpers import in_new_process
from hypothesis import given, settings, strategies as st
from tree_helpers import Keyed, Layer, Pair, Point, Uncomparable, message, trees

from velax import _native, tree_util as vtu

# --- the PyTreeDef type -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(trees())
def test_pickle_copy_and_rebuild(value):
    treedef = vtu.tree_structure(value)
    for copied in (pickle.loads(pickle.dumps(treedef)), copy.deepcopy(treedef), copy.copy(treedef)):
        assert copied == treedef
        assert hash(copied) == hash(treedef)
        assert repr(copied) == repr(treedef)
        assert vtu.tree_leaves(copied.unflatten(range(treedef.num_leaves))) == list(range(treedef.num_leaves))
    rebuilt = vtu.PyTreeDef.from_node_data_and_children(vtu.default_registry, treedef.node_data(), treedef.children())
    assert rebuilt == treedef


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


def test_errors_in_comparison():
    a, b = (vtu.tree_structure(Pair(1, tag=Uncomparable())) for _ in range(2))
    assert a == a
    with pytest.raises(ValueError, match=r"equality of metadata .* <class '.*Pair'>.*make them children") as info:
        assert a == b
    assert isinstance(info.value.__cause__, RuntimeError)
    a, b = (vtu.tree_structure(Pair(1, tag=np.arange(2))) for _ in range(2))
    with pytest.raises(ValueError, match="equality of metadata") as info:
        assert a == b
    assert "ambiguous" in str(info.value.__cause__)
    a, b = (vtu.tree_structure(Pair(1, tag=Uncomparable())) for _ in range(2))
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


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text("a\0\u00fe\u00ff\u0100\udc80\U0001f600", max_size=10) | st.text("ab", min_size=8, max_size=10)))
def test_dict_keys_are_sorted_by_code_points(keys):
    value = {key: key for key in keys}
    assert vtu.tree_leaves(value) == sorted(value)


def test_paths_into_long_lists():
    pairs = vtu.tree_leaves_with_path([0] * 2000)
    assert [path for path, _ in pairs] == [(vtu.SequenceKey(i),) for i in range(2000)]
    assert [path[0].idx for path, _ in pairs] == list(range(2000))

    # A path may be part of a cycle all the same.
    class Key:
        pass

    key = Key()
    key.path = vtu.tree_leaves_with_path({key: 0})[0][0]
    dead = weakref.ref(key)
    del key
    gc.collect()
    assert dead() is None


def test_a_dict_changed_by_the_collector():
    class Finalised:
        def __del__(self):
            mapping.clear()

    mapping = {}
    thresholds = gc.get_threshold()
    try:
        for i in range(50):
            mapping.update({f"{i} {k}": [object()] * 3 for k in reversed(range(20))})
            cyclic = Finalised()
            cyclic.itself = cyclic
            del cyclic
            there = 3 * len(mapping)
            gc.set_threshold(1)
            leaves = _native.tree_leaves(mapping)
            gc.set_threshold(*thresholds)
            assert len(leaves) in (there, 0)  # none where the collector ran before: from Python 3.12 on it waits
    finally:
        gc.set_threshold(*thresholds)


def test_structures_too_large():
    treedef = vtu.tree_structure([0] * 100_000)
    assert "at most 2147483647 nodes" in message(lambda: treedef.compose(treedef), OverflowError)
    if "libasan" in os.environ.get("LD_PRELOAD", ""):  # whose allocator ends the process instead of throwing
        return
    # Where memory ends, the error is Python's, and nothing is left behind.
    in_new_process(
        """
        import resource, sys
        from velax import tree_util
        leaf = object()
        tree = [[[leaf] * 1_000_000]]
        before = sys.getrefcount(leaf)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (30 << 20), resource.RLIM_INFINITY))
        sys.setrecursionlimit(25)
        for flatten in (tree_util.tree_flatten, tree_util.tree_structure, tree_util.tree_flatten_with_path):
            for _ in range(8):  # levels of recursion that stayed entered would soon be too many
                try:
                    flatten(tree)
                except MemoryError:
                    pass
                else:
                    raise AssertionError("there was memory")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert sys.getrefcount(leaf) == before, sys.getrefcount(leaf) - before
        assert tree_util.tree_leaves([[1]]) == [1]
        """
    )


def test_long_chains_do_not_use_up_the_stack():
    chain = keys = None
    for _ in range(100_000):
        chain = vtu.tree_structure(Pair(tag=chain))
        keys = vtu.DictKey(keys)
    message(lambda: hash(chain), RecursionError)
    chain = keys = None


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
            mapped = vtu.tree_map(lambda x: x, local)
            if vtu.tree_flatten(value) != expected or vtu.tree_leaves(mapped) != [1, 2, 3, 4, 5, 1]:
                failures.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
