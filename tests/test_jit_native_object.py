"""What a compiled function is as an object, its cache of versions, memory, threads; the cache of eager operations."""

import copy
import functools
import gc
import inspect
import pickle
import re
import sys
import threading
import weakref

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from jit_native_helpers import (  # noqa: F401 (fixtures are used by name)
    LEAF,
    add_entry,
    array,
    aval,
    elementwise,
    forward,
    forward_entry,
    increment_entry,
    jit,
    local_config,
    no_slow,
    slow_marker,
    vector,
)

from velax import _native

# ------------------------------------------------------------------------------------------------ the object


def documented(x, *, flag=False):
    """The documentation."""


def test_metadata():
    f = _native.JitFunction(documented, len, len)
    assert (f.__name__, f.__doc__, f.__module__) == ("documented", "The documentation.", __name__)
    assert f.__qualname__ == "documented" and f.__wrapped__ is documented and f._fun is documented
    assert str(inspect.signature(f)) == "(x, *, flag=False)"
    assert re.fullmatch(r"<PjitFunction of <function documented at 0x[0-9a-f]+>>", repr(f))
    f.extra = 3
    assert f.extra == 3 and f.__dict__["extra"] == 3
    bare = _native.JitFunction(documented, len, len, copy_metadata=False, name="other")
    assert not hasattr(bare, "__wrapped__") and bare._name == "other"
    assert weakref.ref(f)() is f
    assert hash(f) == hash(f) and f == f and f != bare


def test_methods(x):
    class Model:
        step = _native.JitFunction(
            lambda self, x: None,
            lambda self, args, kwargs: (None, (args, kwargs)),
            lambda self, args, kwargs: (args, kwargs),
        )

    model = Model()
    assert model.step(x) == ((model, x), {})
    assert model.step(x, k=1) == ((model, x), {"k": 1})
    bound = model.step
    assert bound.__self__ is model and bound.__func__ is Model.step
    assert bound(x) == ((model, x), {})
    assert Model.step(model, x) == ((model, x), {})
    assert isinstance(Model.step, _native.JitFunction)


pickled = _native.JitFunction(documented, len, len)
pickled.__qualname__ = "pickled"


def test_pickles_by_qualified_name():
    assert pickle.loads(pickle.dumps(pickled)) is pickled
    assert copy.copy(pickled) is pickled and copy.deepcopy(pickled) is pickled
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(_native.JitFunction(documented, len, len))


def test_attributes_can_be_added_to_the_type():
    _native.JitFunction.lower_for_test = lambda self, *args: (self, args)
    try:
        f = _native.JitFunction(documented, len, len)
        assert f.lower_for_test(1) == (f, (1,))
    finally:
        del _native.JitFunction.lower_for_test


def test_tp_call_and_partial(x):
    f, _ = jit(add_entry)
    np.testing.assert_array_equal(np.asarray(functools.partial(f, x)(x)), [2, 4, 6])
    np.testing.assert_array_equal(np.asarray(next(map(f, [x], [x]))), [2, 4, 6])


# ------------------------------------------------------------------------------------------------ the cache


def test_least_recently_used_versions_are_dropped(x):
    f, miss = jit(increment_entry, static_argnums=(0,), cache_size=16)
    for i in range(16):
        f(i, x)
    f(0, x)
    f(16, x)
    assert f._cache_size() <= 16
    calls = len(miss.calls)
    f(0, x)
    f(15, x)
    assert len(miss.calls) == calls, "recently used versions stay"
    f(1, x)
    assert len(miss.calls) == calls + 1, "the oldest is gone"
    for i in range(1000):
        f(i, x)
        assert f._cache_size() <= 16


def test_no_cache(x):
    f, miss = jit(add_entry, cache_size=0)
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(f(x, x)), [2, 4, 6])
    assert len(miss.calls) == 3 and f._cache_size() == 0


def test_clear_all(x):
    f, _ = jit(add_entry)
    g, _ = jit(add_entry)
    cache = _native.EagerCache(lambda key, operands: add_entry(operands))
    f(x, x)
    g(x, x)
    cache("add", x, x)
    _native.clear_all_jit_caches()
    assert f._cache_size() == g._cache_size() == cache.cache_info().currsize == 0
    np.testing.assert_array_equal(np.asarray(f(x, x)), [2, 4, 6])


def test_recursion(x):
    def miss(self, args, kwargs):
        depth, value = args
        if depth == 0:
            return _native.JitEntry(elementwise("increment", 1, (3,)), out_tree=LEAF)
        return None, self(depth - 1, value)

    f = _native.JitFunction(lambda depth, value: None, miss, no_slow, static_argnums=(0,))
    np.testing.assert_array_equal(np.asarray(f(20, x)), [2, 3, 4])
    np.testing.assert_array_equal(np.asarray(f(20, x)), [2, 3, 4])
    assert f._cache_size() == 1


def test_endless_recursion_is_an_error(x):
    f = _native.JitFunction(len, lambda self, args, kwargs: self(*args), no_slow)
    with pytest.raises(RecursionError):
        f(x)


def test_miss_may_clear_the_cache(x):
    def miss(self, args, kwargs):
        self.clear_cache()
        _native.clear_all_jit_caches()
        return add_entry(args)

    f = _native.JitFunction(len, miss, no_slow)
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(f(x, x)), [2, 4, 6])


def test_threads(x):
    f, _ = jit(lambda leaves: _native.JitEntry(elementwise("add", 2, np.shape(leaves[0]), work=10**7), out_tree=LEAF),
               static_argnames=("n",), cache_size=24)  # fmt: skip
    stop = threading.Event()
    failures = []

    def caller(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(300):
                size = int(rng.integers(1, 6))
                a = rng.standard_normal(size).astype(np.float32)
                out = f(a, b=a, n=("n", int(rng.integers(0, 8))))
                np.testing.assert_array_equal(np.asarray(out), a + a)
        except BaseException as error:
            failures.append(error)

    def clearer():
        while not stop.is_set():
            f.clear_cache()
            _native.clear_all_jit_caches()

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(8)]
    cleaner = threading.Thread(target=clearer)
    cleaner.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    cleaner.join()
    assert not failures


leaves = st.one_of(
    st.sampled_from([(), (1,), (2,), (2, 1), (0, 3)]).flatmap(
        lambda shape: st.sampled_from(["f4", "i4", "i8"]).map(lambda dtype: np.ones(shape, dtype))
    ),
    st.sampled_from([1, 2.5, True, 1j, np.float64(3), np.int8(4)]),
)
trees = st.recursive(
    leaves | st.none(),
    lambda tree: st.one_of(
        st.lists(tree, max_size=3),
        st.lists(tree, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), tree, max_size=3),
    ),
    max_leaves=6,
)
statics = st.sampled_from(["mode", 1, 1.0, True, ("t", 1), None])
calls = st.lists(
    st.tuples(
        st.lists(trees, max_size=2),
        st.dictionaries(st.sampled_from("xyz"), trees, max_size=2),
        st.dictionaries(st.sampled_from("st"), statics, max_size=2),
    ),
    min_size=1,
    max_size=8,
)


def signature(args, kwargs, static):
    """What must tell versions apart, in Python."""
    flat, structure = _native.tree_flatten((args, kwargs))
    narrow = {"int64": "int32", "float64": "float32", "complex128": "complex64"}
    kinds = []
    for leaf in flat:
        dtype = np.asarray(leaf).dtype.name
        kinds.append((np.shape(leaf), narrow.get(dtype, dtype), type(leaf) in (int, float, complex)))
    return structure, tuple(kinds), tuple(sorted((name, repr(value)) for name, value in static.items()))


@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(calls)
def test_versions_are_told_apart_by_the_signature(sequence):
    f, miss = jit(forward_entry, static_argnames=("s", "t"))
    seen = set()
    for args, kwargs, static in sequence:
        shuffled = dict(reversed([*kwargs.items(), *static.items()]))
        for out in (f(*args, **kwargs, **static), f(*args, **shuffled)):
            for got, wanted in zip(out, _native.tree_leaves((args, kwargs)), strict=True):
                np.testing.assert_array_equal(np.asarray(got), wanted)
        seen.add(signature(args, kwargs, static))
        assert len(miss.calls) == f._cache_size() == len(seen)


# ------------------------------------------------------------------------------------------------ memory


def test_cycles_through_the_cache_are_collected(x):
    class Tag:
        pass

    def use():
        def make(leaves):
            return _native.JitEntry(forward([aval((3,))]), out_tree=LEAF, out_wraps=[lambda a: (f, a)[1]])

        tag = Tag()
        f, _ = jit(make, static_argnums=(0,))
        tag.function = f
        f(tag, x)
        f(tag, x)
        return weakref.ref(f), weakref.ref(tag)

    alive = use()
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_cycles_through_an_eager_cache_are_collected(x):
    class Key:
        pass

    key = Key()
    key.cache = _native.EagerCache(lambda key, operands: add_entry(operands))
    key.cache(key, x, x)
    alive = weakref.ref(key)
    del key
    gc.collect()
    assert alive() is None


def leaked_blocks(work, repeat=400):
    """Blocks of memory that stay per call of `work`; a leak makes at least one, the interpreter's caches less."""
    for _ in range(100):
        work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(repeat):
        work()
    gc.collect()
    return (sys.getallocatedblocks() - before) / repeat


def fails(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except (ValueError, OverflowError, RuntimeError):
        return
    raise AssertionError("the call should have failed")


def test_calls_leak_nothing(x):
    f, _ = jit(forward_entry, slow=slow_marker, static_argnames=("s",))
    g, _ = jit(forward_entry)

    class Unhashable:
        __hash__ = None

    values = np.ones(3)
    unknown, unhashable = object(), Unhashable()

    def work():
        f(x, {"a": [x, 1, 2.5, None], "b": (values, np.float32(1))}, k=x, s="static")
        f(x, 1 + 2j, True)
        f(x, unknown)
        g(3)
        fails(f, x, s=unhashable)
        fails(f, 2**40)
        fails(f, x, [x, 2**40])

    work()
    held = [sys.getrefcount(o) for o in (x, values, unknown, unhashable)]
    assert leaked_blocks(work) < 0.5
    assert [sys.getrefcount(o) for o in (x, values, unknown, unhashable)] == held


def test_misses_and_functions_leak_nothing(x):
    def work():
        f, _ = jit(forward_entry, static_argnums=(0,))
        f("static", x, {"a": x}, k=1.0)
        f("static", x, {"a": x}, k=1.0)
        f.clear_cache()
        f("static", x, {"a": x}, k=1.0)

    assert leaked_blocks(work) < 0.5


def test_threads_with_state_leak_nothing():
    def work():
        thread = threading.Thread(target=lambda: (_native.swap_trace(object()), _native.swap_local_config(object(), 0)))
        thread.start()
        thread.join()

    assert leaked_blocks(work, repeat=100) < 0.5


# ------------------------------------------------------------------------------------------------ eager operations


def test_eager_cache(x):
    calls = []

    def miss(key, operands):
        calls.append((key, operands))
        shape = np.shape(operands[0])
        return _native.JitEntry(elementwise(key[0], len(operands), shape))

    cache = _native.EagerCache(miss)
    for _ in range(2):
        [out] = cache(("add", ()), x, x)
        np.testing.assert_array_equal(np.asarray(out), [2, 4, 6])
        [out] = cache(("mul", ()), x, x)
        np.testing.assert_array_equal(np.asarray(out), [1, 4, 9])
        [out] = cache(("increment", ()), np.float32([1, 2]))
        np.testing.assert_array_equal(np.asarray(out), [2, 3])
    assert len(calls) == 3 and calls[0] == (("add", ()), (x, x))
    assert cache.cache_info() == (3, 3, 4096, 3)
    cache.clear_cache()
    assert cache.cache_info().currsize == 0


def test_eager_cache_with_a_tree_returns_the_array(x):
    cache = _native.EagerCache(lambda key, operands: add_entry(operands))
    for _ in range(2):
        assert isinstance(cache("add", x, x), _native.ArrayImpl)


def test_eager_cache_numbers_and_configuration(x, config):
    cache = _native.EagerCache(lambda key, operands: forward_entry(operands))
    assert np.asarray(cache("id", 1.5)[0]).dtype == np.float32
    config("x64", 1)
    assert np.asarray(cache("id", 1.5)[0]).dtype == np.float64
    assert cache.cache_info().currsize == 2


def test_eager_cache_errors(x):
    cache = _native.EagerCache(lambda key, operands: (None, "result"))
    assert cache("key", x) == "result"
    assert cache("key", "not an array") == "result"
    with pytest.raises(TypeError, match="a key, then the operands"):
        cache()
    with pytest.raises(TypeError, match="a key, then the operands"):
        cache("key", x=x)
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        cache([], x)
    with pytest.raises(TypeError, match="takes a callable"):
        _native.EagerCache(3)
    wrong = _native.EagerCache(lambda key, operands: 3)
    with pytest.raises(TypeError, match=r"must return a JitEntry or \(None, result\), got 3"):
        wrong("key", x)
    wrong = _native.EagerCache(lambda key, operands: add_entry([x, x]))
    with pytest.raises(TypeError, match=r"must return \(None, result\) for operands that are no arrays"):
        wrong("key", x, "text")


def test_eager_cache_finds_equal_keys_of_one_type_only(x):
    keys = []

    def miss(key, operands):
        keys.append(key)
        return add_entry(operands)

    cache = _native.EagerCache(miss)
    for key in [1, 1.0, True, 1, ("a", 1), ("a", 1)]:
        cache(key, x, x)
    assert keys == [1, 1.0, True, ("a", 1)]
