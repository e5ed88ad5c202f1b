"""Calls of compiled functions: arguments, signatures, static arguments, the slow path, errors, donation."""

import collections
import enum

import numpy as np
import pytest
from jit_native_helpers import (  # noqa: F401 (fixtures are used by name)
    I32,
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

# ------------------------------------------------------------------------------------------------ calls


def test_hit_and_miss(x):
    f, miss = jit(add_entry)
    y = array([10.0, 20.0, 30.0])
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(f(x, y)), [11, 22, 33])
    assert len(miss.calls) == 1
    assert f.cache_info() == (2, 1, 4096, 1)
    assert f._cache_size() == 1
    f.clear_cache()
    assert f._cache_size() == 0
    np.testing.assert_array_equal(np.asarray(f(x, y)), [11, 22, 33])
    assert len(miss.calls) == 2


def test_new_shapes_and_dtypes_miss():
    f, _ = jit(forward_entry)
    for value in [array([1.0]), array([1.0, 2.0]), array([[1.0]]), array([1], I32), array(1.0)]:
        for _ in range(2):
            [out] = f(value)
            np.testing.assert_array_equal(np.asarray(out), np.asarray(value))
    assert f.cache_info() == (5, 5, 4096, 5)


def test_miss_gets_self_and_the_arguments(x):
    calls = []

    def miss(self, args, kwargs):
        calls.append((self, args, kwargs))
        return None, "uncached"

    f = _native.JitFunction(lambda: None, miss, no_slow)
    assert f(x, 2, k=[x]) == "uncached"
    assert f(x, 2, k=[x]) == "uncached"
    assert len(calls) == 2
    assert calls[0][0] is f
    assert calls[0][1] == (x, 2)
    assert list(calls[0][2]) == ["k"]
    assert f.cache_info() == (0, 2, 4096, 0)


def test_miss_result_is_checked(x):
    f = _native.JitFunction(len, lambda *a: 3, no_slow)
    with pytest.raises(TypeError, match=r"miss callback of len must return a JitEntry or \(None, result\), got 3"):
        f(x)


def test_consts(x):
    c = array([5.0, 5.0, 5.0])

    def make(leaves):
        return _native.JitEntry(elementwise("add", 2, (3,)), consts=[c], out_tree=LEAF)

    f, _ = jit(make)
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(f(x)), [6, 7, 8])


def test_output_trees(x):
    def make(leaves):
        tree = _native.tree_structure({"b": [0, None], "a": (1, ())})
        return _native.JitEntry(forward([aval((3,)), aval((3,))]), out_tree=tree)

    f, _ = jit(make)
    y = array([4.0, 5.0, 6.0])
    for _ in range(2):
        out = f(x, y)
        assert list(out) == ["a", "b"]
        np.testing.assert_array_equal(np.asarray(out["a"][0]), [1, 2, 3])
        np.testing.assert_array_equal(np.asarray(out["b"][0]), [4, 5, 6])
        assert out["a"][1] == () and out["b"][1] is None


def test_output_wraps(x):
    def make(leaves):
        return _native.JitEntry(
            forward([aval((3,)), aval((3,))]),
            out_tree=_native.tree_structure((0, 0)),
            out_wraps=[None, lambda a: ("key", a)],
        )

    f, _ = jit(make)
    for _ in range(2):
        plain, wrapped = f(x, x)
        assert isinstance(plain, _native.ArrayImpl)
        assert wrapped[0] == "key" and isinstance(wrapped[1], _native.ArrayImpl)


def test_wrap_errors_propagate(x):
    def wrap(array):
        raise KeyError("wrap")

    f, _ = jit(lambda leaves: _native.JitEntry(forward([aval((3,))]), out_tree=LEAF, out_wraps=[wrap]))
    for _ in range(2):
        with pytest.raises(KeyError, match="wrap"):
            f(x)


def test_numbers_convert_as_weak_arrays():
    f, miss = jit(forward_entry)
    cases = [(True, "bool", False), (3, "int32", True), (2.5, "float32", True), (1 - 2j, "complex64", True)]
    for value, dtype, weak in cases:
        [out] = f(value)
        assert (np.asarray(out).dtype, np.asarray(out)[()], out.weak_type) == (dtype, value, weak)
    assert f(7)[0].weak_type and len(miss.calls) == 4
    f(f(7)[0])
    assert len(miss.calls) == 4, "a weak array has the signature of the number it came from"


def test_numbers_convert_to_64_bits_when_enabled(config):
    f, miss = jit(forward_entry)
    assert np.asarray(f(3)[0]).dtype == np.int32
    config("x64", 1)
    cases = [(True, "bool"), (3_000_000_000, "int64"), (2.5, "float64"), (1j, "complex128")]
    for value, dtype in cases:
        [out] = f(value)
        assert (np.asarray(out).dtype, np.asarray(out)[()]) == (dtype, value)
    assert len(miss.calls) == 5


@pytest.mark.parametrize("value", [3_000_000_000, -3_000_000_000, 2**70])
def test_int_overflow(value):
    def scale(x, n):
        pass

    f, _ = jit(forward_entry, fun=scale)
    text = f"argument path is n of scale: Python int {value} too large to convert to int32"
    with pytest.raises(OverflowError, match=text):
        f(1, value)
    with pytest.raises(OverflowError, match="argument path is key of scale"):
        f(1, key=[1, {"a": value}])
    assert np.asarray(f(3)[0]) == 3


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)
@pytest.mark.parametrize("x64", [False, True])
def test_numpy_values(dtype, x64, config):
    config(("numpy", x64), int(x64))
    f, miss = jit(forward_entry)
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    narrow = {"i8": "i4", "u8": "u4", "f8": "f4", "c16": "c8"}
    wanted = values if x64 else values.astype(narrow.get(dtype, dtype))
    for case in [np.s_[...], np.s_[::-1], np.s_[:, ::2, ::-3], np.s_[1:1], np.s_[0, 0, 1], np.s_[:, :, None, 2]]:
        [out] = f(values[case])
        assert np.asarray(out).dtype == wanted.dtype and not out.weak_type
        np.testing.assert_array_equal(np.asarray(out), wanted[case])
    assert len(miss.calls) == 5, "the reversed array has the signature of the array"
    big_endian = values.astype(values.dtype.newbyteorder(">"))
    if big_endian.dtype.byteorder == ">":
        g, _ = jit(forward_entry, slow=lambda self, args, kwargs: "slow")
        assert g(big_endian) == "slow"


def test_numpy_integers_wrap_around_when_narrowed():
    f, _ = jit(forward_entry)
    values = np.array([3_000_000_000, -1], np.int64)
    np.testing.assert_array_equal(np.asarray(f(values)[0]), values.astype(np.int32))
    assert np.asarray(f(np.int64(3_000_000_000))[0]) == values.astype(np.int32)[0]


def test_forwarded_numpy_arrays_are_copied():
    f, _ = jit(forward_entry)
    values = np.zeros(4096, np.float32)
    read_only = np.zeros(4096, np.float32)
    read_only.flags.writeable = False
    outs = [f(values)[0], f({"a": [values]})[0], f(read_only)[0]]
    values[:] = 1
    read_only.flags.writeable = True
    read_only[:] = 1
    for out in outs:
        assert not np.asarray(out).any()


def test_subclasses_of_numbers_and_arrays(x):
    class Color(enum.IntEnum):
        RED = 3

    class Real(float):
        pass

    class Many(np.ndarray):
        pass

    class Complex(complex):
        pass

    f, miss = jit(forward_entry)
    base = np.arange(4, dtype=np.float32)
    numbers = [(Color.RED, 3), (Real(2.5), 2.5), (Complex(1j), 1j)]
    for value, plain in [*numbers, (base.view(Many), base), (base[None].view(np.matrix), base[None])]:
        [expected] = f(plain)
        calls = len(miss.calls)
        for args in [(value,), ([value],)]:
            [out] = f(*args)
            assert out.aval == expected.aval and (np.asarray(out) == np.asarray(expected)).all()
        assert len(miss.calls) <= calls + 1  # the list
    with pytest.raises(OverflowError, match=r"argument path is args\[0\]"):
        f(type("Int", (int,), {})(2**40))


def test_ml_dtypes_values():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    f, _ = jit(forward_entry)
    for dtype in [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4]:
        values = np.array([1, 2, -3], dtype)
        for value in (values, values[0]):
            [out] = f(value)
            assert np.asarray(out).dtype == value.dtype
            np.testing.assert_array_equal(np.asarray(out), value)


def test_containers(x):
    f, miss = jit(forward_entry)
    y, z = array([4.0]), array([5.0])
    Point = collections.namedtuple("Point", "a b")
    trees = [
        (x, (y, z)), (x, [y, z]), ((x, y), z), (x, {"a": y, "b": z}), (x, {"b": y, "a": z}), (x, Point(y, z)),
        (x, y, z), ([x, None, y], z), (x, (y, (z,))), ({"k": x}, {"k": y}, z), ((), x, y, z),
    ]  # fmt: skip
    for count, tree in enumerate(trees, 1):
        for _ in range(2):
            out = f(*tree)
            for got, wanted in zip(out, _native.tree_leaves(tree), strict=True):
                np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))
        # {"a": y, "b": z} and {"b": z, "a": y} are one structure with the same leaf shapes.
        assert len(miss.calls) == count - (count >= 5)


def test_custom_nodes_compare_auxiliary_data_by_value(x):
    class Box:
        def __init__(self, value, tag):
            self.value, self.tag = value, tag

    _native.default_registry.register_node(
        Box, lambda b: ((b.value,), b.tag), lambda tag, children: Box(children[0], tag)
    )
    f, miss = jit(forward_entry)
    for _ in range(3):
        f(Box(x, tuple(["tag", 1])))
    assert len(miss.calls) == 1
    f(Box(x, ("tag", 2)))
    assert len(miss.calls) == 2
    for _ in range(3):
        f(Box(x, ["unhashable"]))
    assert len(miss.calls) == 3


def test_keywords_are_matched_by_name(x):
    f, miss = jit(forward_entry)
    y = array([4.0])
    z = array([[5.0]])
    wanted = [np.asarray(v) for v in (x, y, z)]
    for call in [lambda: f(x, b=y, c=z), lambda: f(x, c=z, b=y), lambda: f(x, c=z, b=y)]:
        for got, value in zip(call(), wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(got), value)
    assert len(miss.calls) == 1
    f(x, b=y, d=z)
    assert len(miss.calls) == 2
    f(x, y, c=z)
    f(x, y, z)
    assert len(miss.calls) == 4
    f(c=y, a=x)
    assert len(miss.calls) == 5
    assert f._cache_size() == 5


def test_many_keyword_orders(x):
    f, miss = jit(forward_entry)
    names = [f"k{i}" for i in range(12)]
    values = {name: array(float(i)) for i, name in enumerate(names)}
    rng = np.random.default_rng(0)
    for _ in range(100):
        out = f(**{name: values[name] for name in rng.permutation(names).tolist()})
        assert [float(np.asarray(o)) for o in out] == [float(np.asarray(values[n])) for n in sorted(names)]
    assert len(miss.calls) == 1


def test_names_made_anew_by_each_call(x):
    f, miss = jit(add_entry)
    for _ in range(100):
        np.testing.assert_array_equal(np.asarray(f(**{"".join(["na", "me"]): x, "other": x})), [2, 4, 6])
    assert len(miss.calls) == 1


def test_names_with_their_own_equality(x):
    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            f(**{f"k{next(fresh)}": x})
            return str.__eq__(self, other)

    fresh = iter(range(1000))
    f, _ = jit(forward_entry)
    for _ in range(20):
        np.testing.assert_array_equal(f(**{Name("a"): x}), [x])
        np.testing.assert_array_equal(f(**{Name("b"): x, Name("a"): x}), [x, x])


def test_no_arguments():
    f, _ = jit(lambda leaves: _native.JitEntry(forward([]), out_tree=_native.tree_structure(())))
    assert f() == () and f() == ()
    assert f.cache_info().hits == 1


# ------------------------------------------------------------------------------------------------ static arguments


def test_static_positions(x):
    f, miss = jit(increment_entry, static_argnums=(0,))
    for value in ["a", "b", "a", 1, 1.0, True, 1, ("t", 1), ("t", 1), None, None]:
        np.testing.assert_array_equal(np.asarray(f(value, x)), [2, 3, 4])
    assert [call[0][0] for call in miss.calls] == ["a", "b", 1, 1.0, True, ("t", 1), None]
    assert [type(call[0][0]) for call in miss.calls[2:5]] == [int, float, bool]


def test_negative_static_positions_count_from_the_end_of_each_call(x):
    f, miss = jit(forward_entry, static_argnums=(-1,))
    f(x, "a")
    f(x, "b")
    f(x, "a")
    f(x, x, "a")
    f(x, x, "a")
    assert len(miss.calls) == 3


def test_static_names(x):
    f, miss = jit(increment_entry, static_argnames=("mode", "axis"))
    for _ in range(2):
        f(x, mode="a", axis=0)
        f(x, axis=0, mode="a")
        f(x, axis="a", mode=0)
        f(x, mode="a")
        f(mode="a", x=x)
    assert len(miss.calls) == 4


def test_static_values_keep_apart_from_dynamic_ones(x):
    f, miss = jit(forward_entry, static_argnames=("n",))
    f(x, 3)
    f(x, n=3)
    f(x, 4)
    f(x, n=4)
    assert len(miss.calls) == 3


@pytest.mark.parametrize(
    "call, where",
    [
        (lambda f, x: f(x, [1]), r"argument 1 \('n'\) of scale is static, but its value \[1\] of type <class 'list'>"),
        (lambda f, x: f(x, n={}), r"keyword argument 'n' of scale is static, but its value {} of type <class 'dict'>"),
        (lambda f, x: f(x, np.ones(2)), r"type <class 'numpy.ndarray'> cannot be hashed"),
    ],
)
def test_unhashable_static(call, where, x):
    def scale(x, n):
        pass

    f, _ = jit(increment_entry, fun=scale, static_argnums=(1,), static_argnames=("n",))
    text = "Non-hashable static arguments are used in a jit function: .*" + where
    with pytest.raises(ValueError, match=text) as info:
        call(f, x)
    assert isinstance(info.value.__cause__, TypeError)
    assert "unhashable type" in str(info.value.__cause__)


def test_unhashable_static_of_a_builtin(x):
    f, _ = jit(increment_entry, fun=len, static_argnums=(0,))
    with pytest.raises(ValueError, match="argument 0 of len is static"):
        f([], x)


def test_errors_of_static_equality(x):
    class Odd:
        error = ZeroDivisionError("no equality")

        def __hash__(self):
            return 7

        def __eq__(self, other):
            raise self.error

    f, _ = jit(increment_entry, static_argnums=(0,))
    odd = Odd()
    f(odd, x)
    f(odd, x)
    text = r"comparable using __eq__.*Odd'> raised ZeroDivisionError\('no equality'\)"
    with pytest.raises(ValueError, match=text) as caught:
        f(Odd(), x)
    assert caught.value.__cause__ is Odd.error
    np.testing.assert_array_equal(np.asarray(f(odd, x)), [2, 3, 4])
    Odd.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        f(Odd(), x)


@pytest.mark.parametrize("error", [KeyError("no hash"), ValueError("no hash"), SystemExit(3)])
def test_other_errors_of_static_hashes_propagate(error, x):
    class Odd:
        def __hash__(self):
            raise error

    f, _ = jit(increment_entry, static_argnums=(0,), static_argnames=("odd",))
    for call in (lambda: f(Odd(), x), lambda: f(1, x, odd=Odd())):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error


def test_static_equality_may_change_the_cache(x):
    class Clearing:
        def __init__(self, value):
            self.value = value

        def __hash__(self):
            return 7

        def __eq__(self, other):
            f.clear_cache()
            f(Other(), x)
            return self.value == other.value

    class Other:
        def __hash__(self):
            return 7

    f, _ = jit(increment_entry, static_argnums=(0,))
    for value in [1, 1, 2, 3, 1]:
        np.testing.assert_array_equal(np.asarray(f(Clearing(value), x)), [2, 3, 4])


# ------------------------------------------------------------------------------------------------ the slow path


def test_slow_while_a_trace_is_current(x):
    f, miss = jit(add_entry, slow=slow_marker)
    _native.swap_trace("trace")
    try:
        assert f(x, y=x) == ("slow", (x,), {"y": x})
    finally:
        _native.swap_trace(None)
    assert not miss.calls


@pytest.mark.parametrize("flags", [2, 4, 6, 3])
def test_slow_by_configuration(flags, x, config):
    f, miss = jit(add_entry, slow=slow_marker)
    config(("slow", flags), flags)
    assert f(x) == ("slow", (x,), {})
    assert not miss.calls


def test_slow_for_unknown_leaves(x):
    class Tracer:
        pass

    class Flag(enum.Flag):
        UP = 1

    f, miss = jit(add_entry, slow=slow_marker)
    unknown = [
        Tracer(), "text", b"bytes", Flag.UP, np.array("text"), np.array([object()]), np.datetime64("2020-01-01"),
        np.longdouble(1), np.ma.array([1.0, 2.0], mask=[False, True]), np.rec.array([(1, 2)]), len,
    ]  # fmt: skip
    for value in unknown:
        for args in [(value,), (x, value), (x, [x, value]), ({"a": value},)]:
            mark, got, kwargs = f(*args)
            assert mark == "slow" and len(got) == len(args) and kwargs == {}
            assert all(a is b for a, b in zip(got, args, strict=True))
    assert not miss.calls


def test_slow_errors_propagate(x):
    def slow(self, args, kwargs):
        raise KeyError("slow")

    f, _ = jit(add_entry, slow=slow)
    with pytest.raises(KeyError, match="slow"):
        f(object())


def test_config_key_is_part_of_the_signature(x, config):
    f, miss = jit(add_entry)
    one, two = ("one",), ("two",)
    for key in [one, two, one, two]:
        config(key, 0)
        f(x, x)
    assert len(miss.calls) == 2


def test_committed_devices(x):
    first, second = "device 1", "device 2"
    f, miss = jit(add_entry, slow=slow_marker)
    on_first = _native.array_with_device(x, first, True)
    on_second = _native.array_with_device(x, second, True)
    for a, b in [(x, x), (on_first, x), (x, on_first), (on_first, on_first), (x, on_first)]:
        out = f(a, b)
        np.testing.assert_array_equal(np.asarray(out), [2, 4, 6])
        if a is b is x:
            assert not out.committed
        else:
            assert out.committed and out._device is first
    assert len(miss.calls) == 2, "which argument is committed does not matter"
    f(on_second, x)
    assert len(miss.calls) == 3
    assert f(on_first, on_second)[0] == "slow", "mixing devices is for Python to refuse"


def test_registered_leaf_types(x):
    class Key:
        def __init__(self, base, impl):
            self.base, self.impl = base, impl

    _native.register_leaf_type(Key, lambda key: (key.base, key.impl))
    f, miss = jit(lambda leaves: _native.JitEntry(elementwise("increment", 1, (3,)), out_tree=LEAF))
    for key in [Key(x, "threefry"), Key(x, "rbg"), Key(x, "threefry"), x]:
        np.testing.assert_array_equal(np.asarray(f(key)), [2, 3, 4])
    assert len(miss.calls) == 3
    f([Key(x, "threefry")])
    assert len(miss.calls) == 4
    _native.register_leaf_type(Key, lambda key: 3)
    with pytest.raises(TypeError, match=r"must return \(ArrayImpl, tag\), got 3"):
        f(Key(x, "threefry"))
    with pytest.raises(TypeError, match="a class and a callable"):
        _native.register_leaf_type(3, 4)


# ------------------------------------------------------------------------------------------------ errors


def test_errors_of_miss_propagate_and_nothing_is_kept(x):
    def miss(self, args, kwargs):
        raise KeyError("miss")

    f = _native.JitFunction(lambda: None, miss, no_slow)
    for _ in range(2):
        with pytest.raises(KeyError, match="miss"):
            f(x)
    assert f._cache_size() == 0


def test_errors_of_kernels(x):
    f, _ = jit(lambda leaves: _native.JitEntry(elementwise("fail", 1, (3,)), out_tree=LEAF))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="fail"):
            f(x)


def test_deleted_arguments(x):
    f, _ = jit(add_entry)
    y = array([1.0, 2.0, 3.0])
    f(x, y)
    y.delete()
    with pytest.raises(RuntimeError, match=r"deleted.*float32\[3\]"):
        f(x, y)


def test_entry_is_checked(x):
    program = elementwise("add", 2, (3,))
    good = _native.JitEntry(program, (x,), LEAF)
    assert (good.consts, good.out_tree, good.executable) == ((x,), LEAF, program)
    assert _native.JitEntry(program).consts == ()
    cases = [
        (dict(executable=3), TypeError, "`executable` must be an Executable, got int"),
        (dict(consts=[x] * 3), ValueError, "takes 2 inputs, but there are 3 consts"),
        (dict(consts=3), TypeError, "`consts` must be a sequence"),
        (dict(consts=[3]), TypeError, r"consts\[0\] must be an ArrayImpl, got int"),
        (dict(out_tree=3), TypeError, "`out_tree` must be a PyTreeDef or None, got int"),
        (dict(out_tree=_native.tree_structure((0, 0))), ValueError, "has 1 outputs, but out_tree 2 leaves"),
        (dict(out_wraps=[3]), TypeError, r"out_wraps\[0\] must be callable or None, got int"),
        (dict(out_wraps=[None, None]), ValueError, "has 1 outputs, but out_wraps 2 items"),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            _native.JitEntry(**{"executable": program, **arguments})


@pytest.mark.parametrize("consts", [0, 1])
def test_entry_that_reads_missing_arguments(x, consts):
    f, _ = jit(lambda leaves: _native.JitEntry(elementwise("add", 2, (3,)), [x] * consts, LEAF))
    with pytest.raises(TypeError, match="this executable takes 2 arrays, got 1"):
        f(*[x] * (1 - consts))


def test_constructor_is_checked():
    with pytest.raises(TypeError, match="takes callables"):
        _native.JitFunction(1, len, len)
    with pytest.raises(TypeError, match="static_argnums must be a sequence of int"):
        _native.JitFunction(len, len, len, static_argnums=("a",))
    with pytest.raises(TypeError, match="static_argnames must be a sequence of str"):
        _native.JitFunction(len, len, len, static_argnames=(1,))
    with pytest.raises(ValueError, match="cache_size must not be negative"):
        _native.JitFunction(len, len, len, cache_size=-1)
    with pytest.raises(TypeError, match="name must be a str"):
        _native.JitFunction(len, len, len, name=3)


# ------------------------------------------------------------------------------------------------ donation


def donating(**options):
    return jit(
        lambda leaves: _native.JitEntry(elementwise("increment", 1, (1000,), donated=(0,)), out_tree=LEAF), **options
    )


def test_donated_arguments_are_deleted_and_their_memory_is_reused():
    f, _ = donating(donate_argnums=(0,))
    assert f._donate_argnums == (0,)
    for _ in range(2):
        x = array(np.arange(1000))
        where = x.unsafe_buffer_pointer()
        y = f(x)
        assert x.is_deleted() and y.unsafe_buffer_pointer() == where
        np.testing.assert_array_equal(np.asarray(y), np.arange(1000) + 1)
        with pytest.raises(RuntimeError, match="deleted"):
            f(x)


def test_donated_numpy_arguments_are_left_alone():
    f, _ = donating()
    x = np.arange(1000, dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(f(x)), np.arange(1000) + 1)
        np.testing.assert_array_equal(x, np.arange(1000))
