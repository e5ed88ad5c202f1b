"""The native array: element types, indexing, operators, conversions, text; against NumPy and JAX."""

import copy
import operator
import pickle
import weakref

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import velax._native as native
from array_helpers import DTYPES, arange, in_new_process, make, same
from hypothesis import given, settings, strategies as st
from jax._src.lax.lax import _convert_element_type  # the only way to a weakly typed array of any shape

FLOATS = [dtype for code, dtype in enumerate(DTYPES) if code in (9, 10, 11, 12, 15, 16)]

# ------------------------------------------------------------------------------------------------- element types


@pytest.mark.parametrize("code", range(len(DTYPES)))
def test_dtype_codes_and_round_trip(code):
    dtype = DTYPES[code]
    values = np.arange(-3 if dtype.kind in "if" else 1, 5).astype(dtype).reshape(2, -1)
    array = native.array_from_numpy(values)
    assert array.dtype is dtype and native.array_empty((2,), code).dtype is dtype
    assert native.array_empty((2,), dtype.name).dtype is dtype and native.array_empty((2,), dtype.type).dtype is dtype
    same(array, values)
    assert (array.shape, array.ndim, array.size) == (values.shape, 2, values.size)
    assert (array.itemsize, array.nbytes) == (values.itemsize, values.nbytes)
    assert array.tobytes() == values.tobytes() and array.tobytes("F") == values.tobytes("F")
    assert array.on_device_size_in_bytes() == values.nbytes
    assert array.tolist() == values.tolist()
    assert [type(x) for x in array.tolist()[0]] == [type(x) for x in jnp.asarray(values[0]).tolist()]


def test_other_spellings_of_a_dtype():
    assert native.array_from_numpy(np.array([1, 2], dtype=np.longlong)).dtype == np.int64
    assert native.array_empty(3, float).dtype == np.float64 and native.array_empty(3, bool).dtype == np.bool_
    with_metadata = np.dtype("float32", metadata={"unit": "m"})
    assert native.array_empty(3, with_metadata).dtype == np.float32
    for bad in (None, "float128", np.dtype(">i4"), object, np.dtype("M8[s]"), "no such type", 19, -1, 2**80):
        with pytest.raises(TypeError, match=r"not the dtype of an array element|not a dtype code"):
            native.array_empty((1,), bad)
    for bad in (np.array(["a"]), np.array([object()]), np.zeros(2, dtype="i4,f4"), np.zeros(2, dtype=">f4")):
        with pytest.raises(TypeError, match="not the dtype of an array element"):
            native.array_from_numpy(bad)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@settings(max_examples=200, deadline=None)
@given(value=st.one_of(st.floats(), st.floats(-600, 600), st.floats(-1e-4, 1e-4)))
def test_floats_are_rounded_as_numpy_does(dtype, value):
    with np.errstate(all="ignore"):
        expected = np.asarray(value, dtype)
        of_numpy_scalar = np.asarray(np.float64(value)).astype(dtype)
    array = native.array_from_scalar(value, dtype)
    if np.isnan(value):
        assert np.isnan(np.asarray(array, np.float64))
    else:
        same(array, expected)
        same(native.array_from_scalar(np.float64(value), dtype), of_numpy_scalar)


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.itemsize <= 2], ids=str)
def test_every_small_float_is_read_exactly(dtype):
    unsigned = np.uint8 if dtype.itemsize == 1 else np.uint16
    values = np.arange(np.iinfo(unsigned).max + 1, dtype=unsigned).view(dtype)
    with np.errstate(invalid="ignore"):
        exact = values.astype(np.float64)
        halfway = exact[:-1] + (exact[1:] - exact[:-1]) / 2
    np.testing.assert_array_equal(native.array_from_numpy(values).tolist(), exact)
    for value in halfway[np.isfinite(halfway)][:: 1 if dtype.itemsize == 1 else 97]:
        same(native.array_from_scalar(value, dtype), np.asarray(value).astype(dtype))


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8])
def test_integers_out_of_bounds_raise(code):
    info = np.iinfo(DTYPES[code])
    for value in (info.min, info.max, 0, 1):
        same(native.array_from_scalar(value, code), DTYPES[code].type(value))
    for value in (info.min - 1, info.max + 1, 2**100, -(2**100)):
        with pytest.raises(OverflowError, match=f"Python integer {value} out of bounds for {DTYPES[code]}"):
            native.array_from_scalar(value, code)
    # NumPy scalars follow NumPy's casts, which wrap.
    for value in (np.int64(-1), np.uint64(2**63 + 5), np.int32(300), np.True_, np.int8(-7)):
        same(native.array_from_scalar(value, code), np.asarray(value).astype(DTYPES[code]))


@pytest.mark.parametrize("target", DTYPES, ids=str)
def test_conversion_of_python_and_numpy_scalars(target):
    for value in (True, False, 0, 3, 2.75, np.float32(1.5), np.int64(5), ml_dtypes.bfloat16(2.5), np.bool_(1)):
        same(native.array_from_scalar(value, target), np.asarray(value).astype(target))
    for value in (1 + 2j, np.complex64(1 - 2j)):
        if target.kind == "c" or target == np.bool_:
            same(native.array_from_scalar(value, target), np.asarray(value).astype(target))
    for integer in (2**53 + 1, 2**63 - 1, -(2**62) - 1):
        if target.kind == "f" and target.itemsize >= 4:
            same(native.array_from_scalar(np.int64(integer), target), np.asarray(np.int64(integer)).astype(target))


def test_scalar_conversion_errors():
    with pytest.raises(TypeError, match=r"complex number \(1\+2j\) to float32"):
        native.array_from_scalar(1 + 2j, "float32")
    with pytest.raises(ValueError, match="cannot convert float NaN to integer"):
        native.array_from_scalar(float("nan"), "int32")
    with pytest.raises(OverflowError, match="cannot convert float infinity to integer"):
        native.array_from_scalar(float("inf"), "int32")
    with pytest.raises(OverflowError, match="int too large to convert to float"):
        native.array_from_scalar(10**400, "float32")
    with pytest.raises(TypeError, match="expected a bool, int, float, complex or NumPy scalar"):
        native.array_from_scalar("1", "float32")
    with pytest.raises(TypeError, match="missing the argument 'dtype'"):
        native.array_from_scalar(1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'kind'"):
        native.array_from_scalar(1, "int32", kind=3)


@pytest.mark.parametrize("value", [True, 3, -2, 2.5, 1 + 2j, float("nan")])
def test_python_number_of_an_array(value):
    array = native.array_from_scalar(value, np.asarray(value).dtype)
    oracle = jnp.asarray(np.asarray(value))
    for function in (bool, int, float, complex, operator.index):
        try:
            expected = function(oracle)
        except (TypeError, ValueError) as error:
            with pytest.raises(type(error)):
                function(array)
        else:
            result = function(array)
            assert type(result) is type(expected) and (result == expected or expected != expected)


def test_python_number_errors():
    for function in (int, float, complex):
        with pytest.raises(TypeError, match=r"Only scalar arrays can be converted to Python scalars; got arr\.ndim=1"):
            function(arange(1))
    assert bool(make([[1]])) is True
    with pytest.raises(ValueError, match="more than one element is ambiguous"):
        bool(arange(2))
    with pytest.raises(ValueError, match="empty array is ambiguous"):
        bool(arange(0))
    for bad in (make(2.0), make(1, bool), make([1], int)):
        with pytest.raises(TypeError, match="Only integer scalar arrays can be converted to a scalar index"):
            operator.index(bad)
    assert range(10)[make(3, np.uint8)] == 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(arange(2))
    assert native.ArrayImpl.__hash__ is None


def test_item():
    array = arange(2, 3, dtype=np.int32)
    for arguments in [(1, 2), ((1, 2),), (5,), (-1, -1), (-6,), (np.int64(1), 0)]:
        assert array.item(*arguments) == np.asarray(array).item(*arguments)
    assert make([[2.5]]).item() == 2.5
    for arguments, error in [((), ValueError), ((6,), IndexError), ((1, 3), IndexError), ((1, 2, 3), ValueError)]:
        with pytest.raises(error):
            array.item(*arguments)
    with pytest.raises(TypeError):
        array.item("a")


# ------------------------------------------------------------------------------------------------------- indexing


@st.composite
def basic_indices(draw, shape):
    entries = []
    for extent in shape[: draw(st.integers(0, len(shape)))]:
        bound = st.none() | st.integers(-extent - 3, extent + 3) | st.just(10**30)
        step = st.none() | st.integers(-3, 3).filter(bool)
        choices = [st.slices(extent), st.builds(slice, bound, bound, step)]
        if extent:
            choices.append(st.integers(-extent, extent - 1))
            choices.append(st.integers(-extent, extent - 1).map(np.int32))
        entries.append(draw(st.one_of(choices)))
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), Ellipsis)
        entries_after = entries[entries.index(Ellipsis) + 1 :]
        if entries_after:  # the entries behind it were drawn for other axes
            entries = entries[: entries.index(Ellipsis) + 1]
    for _ in range(draw(st.integers(0, 2))):
        entries.insert(draw(st.integers(0, len(entries))), None)
    return entries[0] if len(entries) == 1 and draw(st.booleans()) else tuple(entries)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(0, 5), max_size=4), code=st.sampled_from([0, 2, 3, 4, 14]))
def test_basic_indexing_is_numpys(data, shape, code):
    values = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) * 37 % 101, DTYPES[code])
    index = data.draw(basic_indices(shape))
    same(native.array_from_numpy(values)[index], values[index])


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(), shape=st.lists(st.integers(1, 9), min_size=1, max_size=5), code=st.sampled_from([1, 9, 3, 4, 14])
)
def test_strided_copies(data, shape, code):
    values = (np.arange(np.prod(shape)).reshape(shape) * 37 % 101).astype(DTYPES[code])
    values = values.transpose(data.draw(st.permutations(range(len(shape)))))
    values = values[tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1, -3]))) for _ in shape)]
    if data.draw(st.booleans()):
        values = np.broadcast_to(values, (3, *values.shape))
    same(native.array_from_numpy(values), values)


def test_large_transposes():
    values = np.arange(300 * 1500, dtype=np.float64).reshape(300, 1500)
    same(native.array_from_numpy(values.T), values.T)
    same(native.array_from_numpy(values)[::-1, 3:-5:7], values[::-1, 3:-5:7])
    batch = np.arange(5 * 70 * 40, dtype=np.int16).reshape(5, 70, 40).swapaxes(1, 2)
    same(native.array_from_numpy(batch), batch)


@pytest.mark.parametrize("index", [10, -10, 5, -6, 2**31 - 1, -(2**31), np.int32(7), (1, 9), (-9, 1), (9, slice(None))])
def test_integers_out_of_bounds_are_clamped(index):
    values = np.arange(10, dtype=np.float32)
    if isinstance(index, tuple):
        values = values.reshape(2, 5)
    same(native.array_from_numpy(values)[index], jnp.asarray(values)[index])


def test_index_by_array_scalars_and_weak_types():
    array = arange(5)
    same(array[make(2, np.int32)], np.float32(2))
    same(array[make(9, np.uint8)], np.float32(4))
    same(array[make(1, np.int32) : 3], np.float32([1, 2]))
    weak = make([1.0, 2.0], weak_type=True)
    assert weak[0].weak_type and weak[::-1].weak_type and weak[None].weak_type and next(iter(weak)).weak_type
    assert not array[0].weak_type


def test_the_whole_array_is_itself_and_new_axes_share_memory():
    array = arange(2, 3)
    for index in [(), Ellipsis, slice(None), (slice(None), slice(None)), (Ellipsis, slice(0, 9))]:
        assert array[index] is array
    assert array[None].unsafe_buffer_pointer() == array.unsafe_buffer_pointer()
    assert array[:1].unsafe_buffer_pointer() != array.unsafe_buffer_pointer()
    assert not native.array_can_donate(array[None])


def test_index_errors():
    array = arange(5)
    with pytest.raises(ValueError, match="slice step cannot be zero"):
        array[::0]
    for assign in ("array[0] = 1", "array[()] = 1", "array[[1, 2]] = array"):
        with pytest.raises(TypeError, match=r"do not support in-place item assignment.*x = x.at\[idx\].set\(y\)"):
            exec(assign, {"array": array})
    with pytest.raises(TypeError, match="does not support item deletion"):
        del array[0]
    with pytest.raises(AttributeError):
        array.shape = (1,)


def test_length_and_iteration():
    array = arange(3, 2)
    assert len(array) == 3
    rows = list(array)
    assert [type(row) for row in rows] == [native.ArrayImpl] * 3
    for row, expected in zip(rows, np.asarray(array), strict=True):
        same(row, expected)
    same(next(reversed(array)), np.float32([4, 5]))
    assert operator.length_hint(iter(array)) == 3
    iterator = iter(array)
    next(iterator)
    array.delete()
    same(next(iterator), np.float32([2, 3]))
    for function, message in [(len, r"len\(\) of unsized object"), (iter, "iteration over a 0-d array")]:
        with pytest.raises(TypeError, match=message):
            function(make(1.0))


# ------------------------------------------------------------------------------------------------------ operators

OPERATORS = {"add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%"}
OPERATORS |= {"pow": "**", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|", "xor": "^"}


def test_operators_call_what_is_registered():
    in_new_process(f"""
        import numpy as np
        import velax._native as native

        symbols = {OPERATORS!r}
        comparisons = {{"lt": "<", "le": "<=", "eq": "==", "ne": "!=", "gt": ">", "ge": ">="}}
        names = [*symbols, *("r" + name for name in symbols), *comparisons, "divmod", "rdivmod", "neg", "pos", "abs",
                 "invert", "getitem"]
        native.set_array_operators({{name: lambda *arguments, name=name: (name, *arguments) for name in names}})
        x = native.array_from_scalar(1.0, "float32")
        y = native.array_from_scalar(2.0, "float32")

        class Convertible:
            def __jax_array__(self):
                raise AssertionError("the operator converts, not the slot")

        class Tracer:
            def __radd__(self, other):
                raise AssertionError("the array's operator goes first")

        class Child(Tracer):
            pass

        class Stranger:
            pass

        class Handler:
            def __radd__(self, other):
                return "handled", other
            __add__ = __eq__ = __gt__ = __radd__

        class Float(float):
            pass

        native.set_tracer_type(Tracer)
        # Float's own operators come first when it stands on the left.
        others = [y, 1, 2.5, True, 1j, np.float32(3), np.int8(1), Convertible(), Tracer(), Child()]
        for name, symbol in symbols.items():
            for other in [*others, Float(2)]:
                result = eval(f"x {{symbol}} other")
                assert result[0] == name and result[1] is x and result[2] is other, (symbol, result)
            for other in others[1:]:
                result = eval(f"other {{symbol}} x")
                assert result[0] == "r" + name and result[1] is x and result[2] is other, (symbol, result)
            array = np.ones(2)
            assert eval(f"x {{symbol}} array")[0] == name and eval(f"array {{symbol}} x")[0] == "r" + name
            for other in [None, "a", [1], (1,), {{}}, Stranger()]:
                for expression in (f"x {{symbol}} other", f"other {{symbol}} x"):
                    if isinstance(other, {{"%": str, "*": (str, list, tuple)}}.get(symbol, ())):
                        continue  # str and the sequences have operators of their own that ask for __index__
                    try:
                        eval(expression)
                    except TypeError as error:
                        assert "unsupported operand" in str(error) or "can only concatenate" in str(error), error
                    else:
                        raise AssertionError(expression)
        for name, symbol in comparisons.items():
            for other in others:
                assert eval(f"x {{symbol}} other")[:2] == (name, x)
            mirrored = {{"<": "gt", "<=": "ge", ">": "lt", ">=": "le"}}.get(symbol, name)
            for other in (1, np.float32(1), np.ones(2)):
                assert eval(f"other {{symbol}} x")[0] == mirrored
            for other in ([1], (1,), {{1}}, {{}}):
                try:
                    eval(f"x {{symbol}} other")
                except TypeError as error:
                    types = f"'ArrayImpl' and '{{type(other).__name__}}'"
                    assert f"unsupported operand type(s) for {{symbol}}: {{types}}" in str(error)
                else:
                    raise AssertionError(symbol)
        assert (x == None) is False and (x != "a") is True and (x == Stranger()) is False
        assert x + Handler() == ("handled", x) and Handler() + x == ("handled", x)
        assert (x == Handler()) == ("handled", x) and (x < Handler()) == ("handled", x)
        assert divmod(x, 2) == ("divmod", x, 2) and divmod(2, x) == ("rdivmod", x, 2)
        assert (-x, +x, abs(x), ~x) == (("neg", x), ("pos", x), ("abs", x), ("invert", x))
        try:
            pow(x, 2, 3)
        except TypeError as error:
            assert "takes no modulus" in str(error)
        z = x
        z += 1
        assert z == ("add", x, 1)
        array = native.array_from_numpy(np.arange(3))
        for index in (True, [0], np.array([0]), np.True_, 1.5, "a", (0, 1), 10**30, 2**31, (..., ...), slice(1.5),
                      slice(Tracer(), None)):
            assert array[index] == ("getitem", array, index)
        assert native.array_empty((0,), "int8")[0][0] == "getitem"  # an error that the Python layer words

        # Under a trace indexing and iteration are operations like any other.
        native.set_array_operators({{"iter": lambda array: iter(["row"])}})
        old = native.swap_trace(object())
        assert array[0] == ("getitem", array, 0) and list(array) == ["row"]
        native.swap_trace(old)
        assert int(array[2]) == 2 and len(list(array)) == 3

        for bad, error in [({{"plus": max}}, ValueError), ({{"add": 3}}, TypeError), ([], TypeError)]:
            try:
                native.set_array_operators(bad)
            except error:
                pass
            else:
                raise AssertionError(bad)

        def fail(*arguments):
            raise ZeroDivisionError
        native.set_array_operators({{"add": fail}})
        try:
            x + 1
        except ZeroDivisionError:
            pass

        class BadAttribute:
            @property
            def __jax_array__(self):
                raise RuntimeError("from the property")
        try:
            x + BadAttribute()
        except RuntimeError as error:
            assert str(error) == "from the property"
        else:
            raise AssertionError
    """)


def test_hooks():
    in_new_process("""
        import numpy as np
        import velax._native as native

        native.set_aval_factory(lambda shape, dtype, weak: (shape, dtype, weak))
        x = native.array_from_numpy(np.ones((2, 3), np.int8), weak_type=True)
        assert x.aval == ((2, 3), np.dtype("int8"), True) and x.aval is native.array_copy(x).aval
        native.set_aval_factory(lambda *arguments: "new")
        assert x.aval == "new"
        def fail(*arguments):
            raise KeyError("factory")
        native.set_aval_factory(fail)
        try:
            x.aval
        except KeyError:
            pass
        else:
            raise AssertionError

        native.set_device_hooks(lambda a: ("device", a._device), lambda a: {a._device}, sharding=lambda a: a.committed)
        assert x.device == ("device", None) and x.sharding is False
        put = native.array_with_device(x, "gpu", True)
        assert put.device == ("device", "gpu") and put.devices() == {"gpu"} and put.sharding is True
        assert put.unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
        for derived in (put[0], put[None], next(iter(put)), native.array_copy(put), native.array_reshaped(put, 6)):
            assert derived._device == "gpu" and derived.committed
        assert native.array_with_device(put, None, False)._device is None
    """)


# ----------------------------------------------------------------------------------------------- pickling, printing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pickle_and_copy(dtype):
    for weak in (False, True):
        array = make([[1, 0], [0, 1]], dtype, weak_type=weak)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            back = pickle.loads(pickle.dumps(array, protocol))
            same(back, array)
            assert back.weak_type is weak
        for copied in (copy.copy(array), copy.deepcopy(array), native.array_copy(array)):
            same(copied, array)
            assert copied.weak_type is weak and copied.unsafe_buffer_pointer() != array.unsafe_buffer_pointer()


def test_pickle_out_of_band():
    buffers = []
    text = pickle.dumps(arange(1000), protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(text) < 1000
    same(pickle.loads(text, buffers=buffers), arange(1000))


PRINTED = [
    *(np.float32(1.0), np.int32(3), np.bool_(1), np.complex64(1 + 2j), np.float16(2.5)),
    *(np.arange(5.0, dtype=np.float32), np.arange(2000, dtype=np.int32), np.zeros((0, 3), np.float32)),
    *(np.arange(40, dtype=np.float32).reshape(2, 20) * np.float32(1.2345), np.ones((30, 1000), np.float32)),
    *(np.arange(13, dtype=np.float32) * 1000003, np.arange(30, dtype=np.int32) * 1000003, np.array([1 + 2j, 3], "c8")),
    *(np.arange(n, dtype=np.int32) + 10**k for n in range(1, 16) for k in (2, 3, 8)),
    *(np.arange(3).astype(dtype) for dtype in DTYPES if dtype.itemsize < 8),
    *(np.array([np.nan, np.inf, -0.0], np.float32), np.zeros((1, 1, 1), np.int8)),
]


@pytest.mark.parametrize("k", range(len(PRINTED)))
def test_text_is_jaxs(k):
    for weak in (False, True):
        array = native.array_from_numpy(np.asarray(PRINTED[k]), weak_type=weak)
        oracle = jnp.asarray(PRINTED[k])
        oracle = _convert_element_type(oracle, weak_type=True) if weak else oracle
        assert repr(array) == repr(oracle)
        assert str(array) == str(oracle) and f"{array}" == f"{oracle}"
    if array.ndim == 0 and array.dtype.kind == "f":
        assert f"{array:.3f}" == f"{oracle:.3f}"
    if array.ndim:
        with pytest.raises(TypeError, match="unsupported format string"):
            format(array, ".3f")


# ------------------------------------------------------------------------------------------ deletion and attributes


def test_use_after_delete():
    array = arange(3)
    reference = weakref.ref(array)
    array.delete()
    array.delete()
    assert array.is_deleted() and array.shape == (3,) and len(array) == 3 and array.nbytes == 12
    uses = [
        *(repr, str, np.asarray, list, pickle.dumps, copy.copy, copy.deepcopy, native.array_copy),
        *(
            operator.itemgetter(0),
            operator.itemgetter(None),
            operator.itemgetter(slice(1, 2)),
            operator.itemgetter(...),
        ),
        *(operator.methodcaller(name) for name in ("tolist", "tobytes", "block_until_ready", "unsafe_buffer_pointer")),
        *(operator.methodcaller(name) for name in ("copy_to_host_async", "on_device_size_in_bytes", "is_ready")),
        *(
            lambda x: x.item(0),
            lambda x: x.__array__(),
            lambda x: x.__dlpack__(),
            lambda x: native.array_reshaped(x, 3),
        ),
        lambda x: native.array_with_weak_type(x, True),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match=r"Array has been deleted with shape=float32\[3\]\."):
            use(array)
    with pytest.raises(BufferError, match="deleted"):
        memoryview(array)
    scalar = make(1, np.int32)
    scalar.delete()
    for use in (int, float, complex, bool, operator.index):
        with pytest.raises(RuntimeError, match=r"Array has been deleted with shape=int32\[\]\."):
            use(scalar)
    del array
    assert reference() is None


def test_arguments_that_run_code():
    class Deletes:
        def __init__(self, value):
            self.value = value

        def __index__(self):
            array.delete()
            native.allocator_trim()
            return self.value

        def __bool__(self):
            return bool(self.__index__())

    for use in (
        lambda x: x.item(Deletes(5)),
        lambda x: x.item(0, Deletes(5)),
        lambda x: native.array_reshaped(x, Deletes(1 << 20)),
        lambda x: native.array_with_weak_type(x, Deletes(True)),
        lambda x: native.array_with_device(x, None, Deletes(True)),
        lambda x: x.__dlpack__(copy=Deletes(False)),
        lambda x: x.__dlpack__(max_version=(Deletes(1), 0)),
    ):
        array = arange(1, 1 << 20)
        with pytest.raises(RuntimeError, match="Array has been deleted"):
            use(array)

    class Shrinks:
        def __index__(self):
            shape.clear()
            return 2

    shape = [Shrinks(), *([1] * 50)]
    assert native.array_empty(shape, "int8").shape == (2, *([1] * 50))

    class Undecided(int):
        def __bool__(self):
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        native.array_from_scalar(Undecided(3), "bool")


def test_small_methods():
    array = arange(3)
    assert array.block_until_ready() is array and array.is_ready() and array.copy_to_host_async() is None
    assert array.is_fully_addressable and array.is_fully_replicated and not array.committed
    assert native.ArrayImpl.__array_priority__ == 100 and type(array).__name__ == "ArrayImpl"
    with pytest.raises(TypeError, match="cannot create"):
        native.ArrayImpl()
    native.ArrayImpl.an_attribute_of_the_python_layer = property(lambda self: self.size)
    assert array.an_attribute_of_the_python_layer == 3
    del native.ArrayImpl.an_attribute_of_the_python_layer


def test_reshaped_and_weak_type():
    array = arange(6)
    reshaped = native.array_reshaped(array, (3, 2))
    same(reshaped, np.arange(6, dtype=np.float32).reshape(3, 2))
    assert reshaped.unsafe_buffer_pointer() == array.unsafe_buffer_pointer()
    assert native.array_reshaped(array, 6).shape == (6,) and native.array_reshaped(array, [1, np.int64(6)]).shape == (
        1,
        6,
    )
    with pytest.raises(ValueError, match=r"float32\[6\] \(6 elements\) to float32\[4\] \(4 elements\)"):
        native.array_reshaped(array, (4,))
    with pytest.raises(ValueError, match="must not be negative"):
        native.array_reshaped(array, (-1, 3))
    weak = native.array_with_weak_type(array, True)
    assert weak.weak_type and not array.weak_type and native.array_with_weak_type(weak, True) is weak
    with pytest.raises(TypeError, match="expected an ArrayImpl"):
        native.array_reshaped(np.ones(3), 3)
    with pytest.raises(ValueError, match="at most 64 dimensions"):
        native.array_empty((1,) * 65, "int8")
