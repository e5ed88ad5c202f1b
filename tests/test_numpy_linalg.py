"""Norms and products of matrices against NumPy and JAX."""

import jax.numpy as oracle
import numpy as np
import pytest

import velax
import velax.numpy as jnp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 0.5, 0, np.inf, -np.inf])
@pytest.mark.parametrize("keepdims", [False, True])
def test_vector_norms(ord, keepdims):
    got = jnp.linalg.norm(X, ord=ord, axis=1, keepdims=keepdims)
    expected = oracle.linalg.norm(X, ord=ord, axis=1, keepdims=keepdims)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    np.testing.assert_allclose(
        jnp.linalg.vector_norm(X, ord=2 if ord is None else ord),
        np.linalg.vector_norm(X, ord=2 if ord is None else ord),
        rtol=1e-4,
    )


@pytest.mark.parametrize("ord", [None, "fro", 1, -1, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [(0, 1), (2, 0), (-2, -1)])
def test_matrix_norms(ord, axis):
    np.testing.assert_allclose(jnp.linalg.norm(X, ord=ord, axis=axis), np.linalg.norm(X, ord=ord, axis=axis), rtol=1e-5)
    np.testing.assert_allclose(
        velax.jit(lambda x: jnp.linalg.norm(x, ord, axis, True))(X),
        np.linalg.norm(X, ord=ord, axis=axis, keepdims=True),
        rtol=1e-5,
    )


def test_whole_arrays_and_derivatives():
    np.testing.assert_allclose(jnp.linalg.norm(X), np.linalg.norm(X), rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(X + 1j * X), np.linalg.norm(X + 1j * X), rtol=1e-5)
    np.testing.assert_allclose(velax.grad(jnp.linalg.norm)(X), X / np.linalg.norm(X), rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(np.arange(3)), np.sqrt(5), rtol=1e-6)


def test_products():
    a = RNG.normal(size=(4, 4)).astype(np.float32)
    for n in range(5):
        np.testing.assert_allclose(jnp.linalg.matrix_power(a, n), np.linalg.matrix_power(a, n), rtol=1e-4, atol=1e-5)
    b, c, v = RNG.normal(size=(4, 7)), RNG.normal(size=(7, 2)), RNG.normal(size=2)
    for arrays in ([a, b], [a, b, c], [a[0], b, c], [a, b, c, v], [a[0], b, c, v]):
        arrays = [x.astype(np.float32) for x in arrays]
        np.testing.assert_allclose(jnp.linalg.multi_dot(arrays), np.linalg.multi_dot(arrays), rtol=1e-4, atol=1e-5)


ARRAY_API = {
    "cross": lambda l: l.cross(X[..., :3], X[..., 2:]),
    "cross along": lambda l: l.cross(X, X[::-1], axis=0),
    "diagonal": lambda l: l.diagonal(X, offset=1),
    "trace": lambda l: l.trace(X, offset=-1, dtype="int32"),
    "outer": lambda l: l.outer(X[0, 0], X[0, :, 0]),
    "outer of matrices": lambda l: l.outer(X[0], X[0, 0]),
    "matmul": lambda l: l.matmul(X, X[0].T),
    "tensordot": lambda l: l.tensordot(X, X, axes=((0, 1), (0, 1))),
    "power zero": lambda l: l.matrix_power(np.arange(4).reshape(2, 2), 0),
    "positional": lambda l: l.diagonal(X, 1),
}


@pytest.mark.parametrize("case", ARRAY_API)
def test_functions_of_the_array_api(case):
    try:
        expected = ARRAY_API[case](oracle.linalg)
    except (TypeError, ValueError) as e:
        with pytest.raises(type(e)):
            ARRAY_API[case](jnp.linalg)
        return
    got = ARRAY_API[case](jnp.linalg)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "call,error,text",
    [
        (lambda: jnp.linalg.norm(X, axis=(0, 1, 2)), ValueError, "Improper number of axes for norm"),
        (lambda: jnp.linalg.norm(X, "fro", axis=0), ValueError, "Invalid order 'fro' for vector norm"),
        (lambda: jnp.linalg.norm(X, 3, axis=(0, 1)), ValueError, "Invalid order '3' for matrix norm"),
        (lambda: jnp.linalg.norm(X, 2, axis=(0, 1)), NotImplementedError, "needs singular values"),
        (lambda: jnp.linalg.matrix_power(X, 2), TypeError, "must be square, got shape"),
        (lambda: jnp.linalg.matrix_power(np.eye(2), -1), NotImplementedError, "needs an inverse"),
    ],
    ids=range(6),
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
