"""sort, sort_key_val and top_k against JAX."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from lax_differential import both_raise, compare

import velax

rng = np.random.default_rng(0)
SPECIAL = np.float32(
    [0.0, -0.0, np.nan, -np.nan, -0.0, 0.0, np.inf, -np.inf, 1.0, -1.0, 2.5, np.nan]
)  # XLA takes subnormals for zero


def distinct(*shape):
    return (rng.permutation(int(np.prod(shape))).reshape(shape) - 5).astype(np.float32)


def few(*shape, dtype=np.int32):
    return rng.integers(0, 3, shape).astype(dtype)


@pytest.mark.parametrize("dimension", [0, 1, -1])
@pytest.mark.parametrize("is_stable", [True, False])
def test_sort(dimension, is_stable):
    compare(lambda lib, x: lib.lax.sort(x, dimension, is_stable), distinct(5, 7), second=True)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), (0, 3), (2, 1, 4)])
def test_sort_shapes(shape):
    compare(lambda lib, x: lib.lax.sort(x), distinct(*shape), batch=False)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint32", "int32", "float16", "bfloat16", "complex64"]
)
def test_sort_dtypes(dtype):
    x = np.asarray(jax.numpy.asarray(rng.normal(size=40) * 50).astype(dtype))
    compare(lambda lib, x: lib.lax.sort(x), x, grad=False, batch=False)
    compare(lambda lib, x: lib.lax.sort((x, np.arange(40, dtype=np.int32))), x, grad=False, batch=False)


@pytest.mark.parametrize("num_keys", [1, 2, 3])
def test_several_operands(num_keys):
    x, y, z = few(6, 5), few(6, 5, dtype=np.float32), distinct(6, 5)
    compare(lambda lib, x, y, z: lib.lax.sort((x, y, z), dimension=0, num_keys=num_keys), x, y, z, axes=(None, 0))


def test_sort_key_val():
    compare(lambda lib, k, v: lib.lax.sort_key_val(k, v), few(4, 9), distinct(4, 9), axes=(None, 0))
    compare(lambda lib, k, v: lib.lax.sort_key_val(k, v, dimension=0), distinct(4, 9), distinct(4, 9), axes=(None, 1))


def test_order_of_special_values():
    order = np.arange(len(SPECIAL), dtype=np.int32)
    compare(lambda lib, x: lib.lax.sort((x, order)), SPECIAL, grad=False, batch=False)
    compare(lambda lib, x: lib.lax.sort((lib.lax.neg(x), x, order), num_keys=2), SPECIAL, grad=False, batch=False)


def test_complex_order():
    nan = float("nan")
    x = np.array([1 + 2j, 1 - 1j, 5j, complex(nan, 0), complex(0, nan), complex(nan, -1), -1], np.complex64)
    compare(lambda lib, x: lib.lax.sort((x, np.arange(7, dtype=np.int32))), x, grad=False, batch=False)
    keys = np.array([2, 0, 1], np.int32)
    compare(lambda lib, v: lib.lax.sort((keys, v))[1], np.array([1 + 1j, 2, 3j], np.complex64))


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=9), elements=st.floats(width=32)))
@settings(max_examples=25, deadline=None)
def test_sort_agrees_with_numpy(x):
    np.testing.assert_array_equal(velax.lax.sort(x), np.sort(x, -1))


@pytest.mark.parametrize("k", [0, 1, 3, 7])
@pytest.mark.parametrize("axis", [-1, 0])
def test_top_k(k, axis):
    compare(lambda lib, x: lib.lax.top_k(x, k, axis=axis), distinct(7, 7), axes=(0, 1, -1))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint32", "float16", "bfloat16", "float32"])
def test_top_k_dtypes(dtype):
    x = np.asarray(jax.numpy.asarray(rng.normal(size=30) * 5).astype(dtype))
    compare(lambda lib, x: lib.lax.top_k(x, 9), x, grad=False, batch=False)


def test_top_k_special_values_and_ties():
    compare(lambda lib, x: lib.lax.top_k(x, len(SPECIAL)), SPECIAL, grad=False, batch=False)
    signs = lambda lib: np.signbit(np.asarray(lib.lax.top_k(SPECIAL[[0, 1, 4, 5]], 4)[0]))
    np.testing.assert_array_equal(signs(velax), signs(jax))
    compare(lambda lib, x: lib.lax.top_k(x, 6), few(20, dtype=np.float32), batch=False)


X = np.ones((4, 5), np.float32)
ERRORS = [
    (lambda lib: lib.lax.sort(()), TypeError, "Sort requires at least one operand"),
    (lambda lib: lib.lax.sort((X, X[0])), TypeError, "Arguments to sort must have equal shapes, got: (4, 5) (5,)"),
    (lambda lib: lib.lax.sort((X, X), num_keys=3), ValueError, "num_keys=3 must be between 1 and len(operand)=2"),
    (lambda lib: lib.lax.sort(X, dimension=2), ValueError, "axis 2 is out of bounds for array of dimension 2"),
    (lambda lib: lib.lax.sort(np.float32(1)), ValueError, "axis -1 is out of bounds for array of dimension 0"),
    (lambda lib: lib.lax.top_k(X, 6), ValueError, "k argument to top_k must be no larger than size along axis; got k=6 with shape=[4, 5] and axis=1"),
    (lambda lib: lib.lax.top_k(X, -1), ValueError, "k argument to top_k must be nonnegative, got -1"),
    (lambda lib: lib.lax.top_k(X, 1, axis=3), ValueError, "axis 3 is out of bounds for array of dimension 2"),
    (lambda lib: lib.lax.top_k(X.astype(np.complex64), 1), ValueError, "top_k is not compatible with complex inputs."),
]  # fmt: skip


@pytest.mark.parametrize("f, kind, phrase", ERRORS, ids=[phrase[:40] for _, _, phrase in ERRORS])
def test_errors(f, kind, phrase):
    both_raise(f, kind, phrase)


def test_structure():
    names = lambda lib, f: [e.primitive.name for e in lib.make_jaxpr(lambda x: f(lib, x))(X).eqns]
    for f in (
        lambda lib, x: lib.lax.sort((x, x), dimension=0),
        lambda lib, x: lib.lax.top_k(x, 2),
        lambda lib, x: lib.jvp(lib.lax.sort, (x,), (x,)),
    ):
        assert names(velax, f) == names(jax, f)
