"""Dtypes and promotion, compared with JAX."""

import itertools
import pathlib
import pickle
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from velax._lang import config, dtypes, promotion
from velax._lang.errors import TypePromotionError

ROOT = pathlib.Path(__file__).parent.parent
NAMES = [d.name for d in dtypes.all_dtypes]


def outcome(f, *args):
    """The result of a call, or the name of the class of what it raised."""
    try:
        return f(*args)
    except (TypeError, ValueError) as error:
        return type(error).__name__


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def x64(request):
    with config.enable_x64(request.param), jax.enable_x64(request.param):
        yield request.param


class Impl:
    """What a key dtype needs of a generator."""

    name, tag, key_shape = "threefry2x32", "fry", (2,)


KEY = dtypes.KeyTy(Impl)


# Codes and names


def test_codes_are_those_of_the_native_core():
    header = (ROOT / "native" / "dtypes.h").read_text()
    for dtype, code in dtypes.CODE_OF.items():
        assert dtypes.DTYPE_OF[code] == dtype
        name = dtypes.ir_name(dtype)
        if dtype.name in ("int4", "uint4"):  # in programs the low bits of bytes
            assert f"k{'U4' if dtype.name == 'uint4' else 'I4'} = {code}," in header
            assert dtypes.dtype_of_ir_name(name).name == dtype.name.replace("4", "8")
            continue
        assert re.search(rf"\bk{name} = {code},", header, re.IGNORECASE), name
        assert dtypes.dtype_of_ir_name(name) == dtype
    assert sorted(dtypes.CODE_OF.values()) == list(range(19))


def test_a_dtype_without_code_is_refused():
    with pytest.raises(
        TypeError, match=r"float8_e3m4 cannot be compiled; .* there are float8_e4m3fn and float8_e5m2\. Use"
    ):
        dtypes.ir_name(np.dtype(dtypes._custom_types["float8_e3m4"]))


@pytest.mark.parametrize("name", NAMES)
def test_short_names(name):
    expected = jax._src.dtypes.short_dtype_name(np.dtype(name))
    assert dtypes.short_name(np.dtype(name)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_itemsize_bits(name):
    assert dtypes.itemsize_bits(name) == jax.dtypes.itemsize_bits(name)


# The hierarchy of types

ABSTRACT = [np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact, np.floating,
            np.complexfloating, np.bool_, np.void]  # fmt: skip
PYTHON = [bool, int, float, complex, None, "float32", "int4", "bfloat16", "i", "float"]


def test_issubdtype():
    spellings = [*dtypes.all_dtypes, *(d.type for d in dtypes.all_dtypes), *ABSTRACT, *PYTHON, dtypes.float0]
    differences = [
        (a, b)
        for a, b in itertools.product(spellings, spellings)
        if outcome(dtypes.issubdtype, a, b) != outcome(jax.dtypes.issubdtype, a, b)
    ]
    assert not differences


def test_issubdtype_of_extended_types():
    ours = [KEY, dtypes.prng_key, dtypes.extended, np.dtype("float32"), np.generic, np.number, float]
    theirs = [jax.random.key(0).dtype, jax.dtypes.prng_key, jax.dtypes.extended, *ours[3:]]
    for (a, x), (b, y) in itertools.product(zip(ours, theirs), repeat=2):
        assert outcome(dtypes.issubdtype, a, b) == outcome(jax.dtypes.issubdtype, x, y), (a, b)


@pytest.mark.parametrize("kind", ["bool", "signed integer", "unsigned integer", "integral", "real floating",
                                  "complex floating", "numeric", "float32", ("bool", "int8")])  # fmt: skip
def test_isdtype(kind):
    for name in NAMES:
        assert dtypes.isdtype(name, kind) == jnp.isdtype(np.dtype(name), kind), name


def test_isdtype_names_the_kinds():
    with pytest.raises(ValueError, match="unknown kind 'floating'; the kinds are 'bool'"):
        dtypes.isdtype("float32", "floating")


def test_predicates_agree_with_issubdtype():
    for d in (*dtypes.all_dtypes, dtypes.float0, KEY):
        assert dtypes.is_integer(d) == dtypes.issubdtype(d, np.integer)
        assert dtypes.is_signed_integer(d) == dtypes.issubdtype(d, np.signedinteger)
        assert dtypes.is_unsigned_integer(d) == dtypes.issubdtype(d, np.unsignedinteger)
        assert dtypes.is_floating(d) == dtypes.issubdtype(d, np.floating)
        assert dtypes.is_complex(d) == dtypes.issubdtype(d, np.complexfloating)
        assert dtypes.is_inexact(d) == dtypes.issubdtype(d, np.inexact)


# Canonical dtypes and the dtype of values


def test_canonicalize_dtype(x64):
    for spelling in [*NAMES, *dtypes.all_dtypes, bool, int, float, complex, "f8", jnp.bfloat16, np.float64]:
        assert dtypes.canonicalize_dtype(spelling) == jax.dtypes.canonicalize_dtype(spelling), spelling


def test_canonicalize_dtype_of_extended():
    assert dtypes.canonicalize_dtype(KEY, allow_extended_dtype=True) is KEY
    with pytest.raises(ValueError, match="extended dtype key<fry>"):
        dtypes.canonicalize_dtype(KEY)


VALUES = [True, 1, 2.5, 1j, np.float64(1), np.int8(1), np.ones(2), np.ones(2, "int16"), "float32", float, np.float64,
          np.dtype("int64"), 2**40, None, [1], object(), "nonsense"]  # fmt: skip


def test_dtype_of_values(x64):
    theirs = jax._src.dtypes.dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in VALUES:
            assert outcome(dtypes.dtype, value) == outcome(theirs, value), value
    for value in (1, 1.0, 1j, True, np.float32(1), np.ones(1), np.bool_(1)):
        assert dtypes.is_weakly_typed(value) == jax._src.dtypes.is_weakly_typed(value), value


@pytest.mark.parametrize("name", ["to_inexact_dtype", "to_floating_dtype", "to_complex_dtype", "to_numeric_dtype"])
def test_nearest_dtypes(name, x64):
    for d in dtypes.all_dtypes:
        if d.name.endswith(("int1", "int2")):  # the oracle forgets these
            continue
        assert getattr(dtypes, name)(d) == getattr(jax._src.dtypes, name)(d), d


KINDS = {bool: np.bool_, int: np.integer, float: np.floating, complex: np.complexfloating}


def test_scalar_type_of():
    for d in dtypes.all_dtypes:
        expected = next(t for t, kind in KINDS.items() if dtypes.issubdtype(d, kind))
        assert dtypes.scalar_type_of(d) is expected
        if d.name in ("bool", "int8", "bfloat16", "complex64"):
            assert jax.dtypes.scalar_type_of(d) is expected
    with pytest.raises(TypeError, match="corresponds to no Python scalar type"):
        dtypes.scalar_type_of(KEY)


def test_tangent_dtype():
    for d in dtypes.all_dtypes:
        aval = jax.core.ShapedArray((), d)
        assert dtypes.tangent_dtype(d) == aval.to_tangent_aval().dtype, d
    assert dtypes.tangent_dtype(KEY) == dtypes.float0


def test_limits():
    for name in ("bfloat16", "float8_e4m3fn", "float32"):
        assert dtypes.finfo(name).max == jnp.finfo(name).max
        assert dtypes.finfo(name).eps == jnp.finfo(name).eps
    assert (dtypes.iinfo("int4").min, dtypes.iinfo("int4").max) == (-8, 7)


# Dtypes that a user asks for


def test_requested_64_bit_dtypes_warn(x64):
    names = ["float64", "int64", "uint64", "complex128"]
    for name in names:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = dtypes.check_user_dtype_supported(name, "zeros")
        if x64:
            assert found == np.dtype(name) and not caught
            continue
        assert found == jax.dtypes.canonicalize_dtype(name)
        [warning] = caught
        assert issubclass(warning.category, UserWarning)
        assert str(warning.message).startswith(
            f"Explicitly requested dtype {name} requested in zeros is not available, and will be truncated to "
            f"dtype {found.name}."
        )
        assert warning.filename == __file__
    for scalar in (int, float, complex, bool):
        dtypes.check_user_dtype_supported(scalar, "zeros")


def test_requested_64_bit_dtypes_may_raise_or_pass():
    with (
        config.explicit_x64_dtypes("error"),
        pytest.raises(ValueError, match="dtype float64 requested in ones is not available"),
    ):
        dtypes.check_user_dtype_supported("float64", "ones")
    with config.explicit_x64_dtypes("allow"):
        assert dtypes.check_user_dtype_supported("float64") == np.float64


@pytest.mark.parametrize("wrong", ["O", object, str, "datetime64[s]", [("a", "f4")]])
def test_dtypes_that_arrays_cannot_have(wrong):
    with pytest.raises(TypeError, match=r"arrays hold numbers and booleans, got dtype .* in zeros"):
        dtypes.check_user_dtype_supported(wrong, "zeros")


def test_arrays_and_none_are_no_dtypes():
    with pytest.raises(ValueError, match=r"write dtype=x\.dtype"):
        dtypes.check_user_dtype_supported(np.ones(3))
    with pytest.raises(ValueError, match="dtype must be specified"):
        dtypes.check_user_dtype_supported(None)


# Extended dtypes


def test_key_dtype():
    assert repr(KEY) == str(KEY) == KEY.name == "key<fry>" == repr(jax.random.key(0).dtype)
    assert dtypes.KeyTy(Impl) == KEY and hash(KEY) == hash(dtypes.KeyTy(Impl))
    assert (KEY.type, KEY.itemsize, KEY.base_shape, KEY.base_dtype) == (dtypes.prng_key, 8, (2,), np.uint32)
    assert dtypes.is_extended(KEY) and not dtypes.is_extended(np.dtype("uint32"))
    assert pickle.loads(pickle.dumps(KEY)) == KEY
    with pytest.raises(TypeError):
        dtypes.ExtendedDType()


# Promotion

MODES = ["standard", "strict"]


@pytest.fixture(params=MODES)
def mode(request):
    with config.numpy_dtype_promotion(request.param), jax.numpy_dtype_promotion(request.param):
        yield request.param


def agreeing(pairs, ours, theirs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle warns about every 64-bit dtype that it narrows
        return [(args, outcome(ours, *args), outcome(theirs, *args)) for args in pairs]


def test_promote_types(x64, mode):
    types = [*dtypes.all_dtypes, bool, int, float, complex, "i", "float", "O", "nonsense"]
    for args, ours, theirs in agreeing(itertools.product(types, types), promotion.promote_types, jnp.promote_types):
        assert ours == theirs, args


def test_result_type_of_dtypes(x64, mode):
    types = [*dtypes.all_dtypes, bool, int, float, complex, None, "O"]

    def flagged(f):
        return lambda *args: f(*args, return_weak_type_flag=True)

    ours, theirs = flagged(promotion.result_type), flagged(jax.dtypes.result_type)
    for args, x, y in agreeing(itertools.product(types, types), ours, theirs):
        assert x == y, args


def test_promotion_of_values(x64, mode):
    def weak(name):
        return jax._src.lax.lax._convert_element_type(jnp.ones(()), np.dtype(name), weak_type=True)

    values = [1, 1.0, 1j, True, np.float32(1), np.float64(1), np.ones(1, "int64"), np.int8(1)]
    values += [jnp.asarray(1, name) for name in ("int8", "uint32", "float16", "bfloat16", "float32", "complex64")]
    values += [jnp.asarray(v) for v in (1, 1.0, 1j)] + [
        weak(name) for name in ("int8", "float16", "uint32", "bfloat16")
    ]
    triples = [
        *((v,) for v in values),
        *itertools.product(values, values),
        *itertools.product(values, values, [1.0, jnp.asarray(1, "int16")]),
    ]
    theirs = jax._src.dtypes.lattice_result_type
    for args, x, y in agreeing(triples, promotion.lattice_result_type, theirs):
        assert x == y, args
    for args, x, y in agreeing(triples, promotion.result_type, jax.dtypes.result_type):
        assert x == y, args


def test_the_order_of_operands_does_not_matter(x64):
    names = ["bool", "int8", "uint32", "int32", "bfloat16", "float16", "float32", "complex64"]
    for args in itertools.combinations([*map(np.dtype, names), int, float], 3):
        assert len({promotion.result_type(*p) for p in itertools.permutations(args)}) == 1


def test_keys_promote_only_with_keys_like_them():
    assert promotion.result_type(KEY, KEY) == KEY
    with pytest.raises(TypePromotionError, match="keys only join keys"):
        promotion.result_type(KEY, np.dtype("float32"))


@pytest.mark.parametrize("a, b, advice", [
    ("float8_e4m3fn", "float8_e5m2", r"8 bits and fewer .* x\.astype\('float32'\)"),
    ("int4", "int8", r"4 bits and fewer .* x\.astype\('int32'\)"),
])  # fmt: skip
def test_messages_of_narrow_types(a, b, advice):
    start = rf"Input dtypes \('{a}', '{b}'\) have no available implicit dtype promotion path\. .*{advice}"
    with pytest.raises(TypePromotionError, match=start):
        promotion.promote_types(a, b)


def test_message_of_strict_promotion():
    with (
        config.numpy_dtype_promotion("strict"),
        pytest.raises(
            TypePromotionError, match=r"\('int8', 'Python float'\) have no .* when jax_numpy_dtype_promotion=strict"
        ),
    ):
        promotion.result_type(np.int8(1), 1.0)
    assert promotion.result_type(np.int8(1), 1.0) == np.float32


def test_no_operands():
    with pytest.raises(ValueError, match="at least one array or dtype is required"):
        promotion.result_type()


def test_safe_to_cast():
    for a, b in itertools.product(dtypes.all_dtypes, repeat=2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = outcome(jax._src.dtypes.safe_to_cast, a, b)
        assert promotion.safe_to_cast(a, b) == (theirs if isinstance(theirs, bool) else False), (a, b)
