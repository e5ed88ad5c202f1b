"""Universal functions as objects: attributes and methods, against JAX's."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest
from both_libraries import assert_same, compare
from numpy_expressions import lines

import velax

UFUNCS = [name for name in dir(jax.numpy) if isinstance(getattr(jax.numpy, name), jax.numpy.ufunc)]
LIBRARIES = {"velax": velax, "jax": jax}


def of(lib, expression: str):
    names = {"jnp": lib.numpy, "lib": lib, "np": np}
    names["less"] = lib.numpy.frompyfunc(lambda x, y: x < y, 2, 1)
    names["halves"] = lib.numpy.frompyfunc(lambda x, y: x + y * 0.5, 2, 1, identity=0)
    names["pair"] = lib.numpy.frompyfunc(lambda x, y: (x + y, x - y), 2, 2)
    names["m"] = lib.numpy.arange(6).reshape(2, 3)
    names["x"] = lib.numpy.array([[3.0, 1.5, 2.0], [0.5, -1.0, 4.0]])
    names["i"] = lib.numpy.array([0, 0, 2])
    return eval(expression, names)


def test_the_same_functions_are_ufuncs_with_the_same_attributes():
    assert [n for n in dir(velax.numpy) if isinstance(getattr(velax.numpy, n), velax.numpy.ufunc)] == UFUNCS
    assert not isinstance(velax.jit(lambda x: x), velax.numpy.ufunc)
    for name in UFUNCS:
        ours, theirs = getattr(velax.numpy, name), getattr(jax.numpy, name)
        for attribute in ("nin", "nout", "nargs", "identity", "__name__"):
            assert getattr(ours, attribute) == getattr(theirs, attribute), (name, attribute)
        assert repr(ours) == repr(theirs)
        assert ours.__doc__


METHODS = lines("""
jnp.add(1, 2, out=None, where=None)
jnp.subtract.reduce(m)
jnp.subtract.reduce(m, axis=1, keepdims=True)
jnp.subtract.reduce(x, axis=None, keepdims=True)
jnp.subtract.reduce(x, axis=-1, initial=5)
jnp.subtract.reduce(m, axis=1, where=jnp.array([True, False, True]), initial=2)
jnp.subtract.reduce(m, dtype=float)
jnp.subtract.reduce(jnp.ones((0, 3)), initial=1)
jnp.add.reduce(m.astype('int8'), axis=(0, 1))
jnp.add.reduce(m, axis=1, initial=10, where=m > 1)
jnp.multiply.reduce(m + 1, axis=1)
jnp.maximum.reduce(x, axis=1, initial=2)
jnp.minimum.reduce(x, axis=None)
jnp.logical_and.reduce(m, axis=1)
jnp.logical_or.reduce(m, axis=1, dtype=int)
jnp.logical_xor.reduce(m, axis=None, initial=3)
jnp.bitwise_and.reduce(m + 1, axis=1, initial=6)
jnp.bitwise_or.reduce(m, axis=(0, 1), keepdims=True)
jnp.bitwise_xor.reduce(m, axis=0, where=jnp.array([[True], [False]]))
jnp.bitwise_and.reduce(jnp.zeros((0, 2), int))
jnp.logaddexp.reduce(x, axis=1)
jnp.logaddexp.reduce(m, axis=None, initial=2.)
jnp.logaddexp2.reduce(x, axis=0, where=x > 0)
jnp.logaddexp.reduce(jnp.zeros((0, 3)))
less.reduce(m, axis=1)
halves.reduce(m, axis=1)
halves.reduce(m, axis=0, where=m > 3)
halves.reduce(jnp.zeros(0))
jnp.add.accumulate(3)
jnp.add.accumulate(m.astype('int8'), axis=1)
jnp.multiply.accumulate(x, axis=-1)
jnp.maximum.accumulate(x, axis=1)
jnp.subtract.accumulate(m, axis=1, dtype=float)
jnp.subtract.accumulate(jnp.zeros((0, 3)))
jnp.logical_xor.accumulate(m, axis=1)
less.accumulate(m, axis=1)
halves.accumulate(m, axis=1)
jnp.add.reduceat(jnp.arange(8), jnp.array([0, 3, 1, 5, 5]))
jnp.add.reduceat(jnp.arange(8), jnp.array([5, 9, -1]))
jnp.subtract.reduceat(x, jnp.array([0, 2]), axis=1)
jnp.logical_or.reduceat(m, jnp.array([1, 0]))
jnp.maximum.reduceat(x, jnp.zeros(0, int), axis=-1)
jnp.add.outer(m, jnp.arange(2.))
jnp.logical_and.outer(jnp.arange(3), m)
halves.outer(x[0], x)
jnp.negative.at(x[0], jnp.array([1, 1, 2]), inplace=False)
jnp.add.at(x[0], i, 2, inplace=False)
jnp.subtract.at(jnp.arange(3), i, 1.5, inplace=False)
jnp.multiply.at(x[0], jnp.array([0, 0, 7]), jnp.array([1, 2, 3]), inplace=False)
jnp.minimum.at(x, i[:2], -1, inplace=False)
jnp.logaddexp.at(m[0], i, jnp.array([1, 2, -3]), inplace=False)
jnp.logical_and.at(m[0], i, 0, inplace=False)
jnp.bitwise_xor.at(m, (jnp.array([1, 1, -1]), 0), 3, inplace=False)
jnp.bitwise_xor.at(m, jnp.array([1, 1]), jnp.array([[1], [2]]), inplace=False)
halves.at(m[0], i, 1, inplace=False)
halves(m, 1.)
halves(jnp.ones((2, 1)), jnp.ones(3))
pair(x, 1)
lib.grad(lambda x: jnp.subtract.reduce(x))(x[0])
lib.grad(lambda x: jnp.logaddexp2.reduce(x, axis=None))(x)
lib.grad(lambda x: jnp.multiply.accumulate(x).sum())(x[0])
lib.grad(lambda x: (jnp.multiply.reduceat(x, jnp.array([0, 2])) ** 2).sum())(x[0])
lib.grad(lambda x: (jnp.logaddexp.at(x, jnp.array([0, 0]), 3., inplace=False) ** 2).sum())(x[0])
lib.vmap(lambda x: halves.reduce(x, initial=3))(x)
lib.vmap(lambda x, j: jnp.logaddexp.at(x, j, 1., inplace=False))(x, jnp.array([[0, 0, 1], [1, 1, 5]]))
lib.vmap(lambda x, j: jnp.add.reduceat(x, j))(x, jnp.array([[0, 0, 1], [1, 1, 1]]))
lib.jit(jnp.add.reduce)(x)
lib.jit(lambda x, j: jnp.logical_xor.at(x > 1, j, True, inplace=False))(x[0], i)
""")


@pytest.mark.parametrize("expression", METHODS)
def test_methods(expression):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of values that an update converts
        compare(lambda lib: of(lib, expression))


ERRORS = lines("""
jnp.add(1, 2, out=3)
jnp.add(1, 2, where=True)
jnp.add(1)
halves(m, 1, out=1)
halves([1], 2)
jnp.negative.reduce(m)
jnp.negative.outer(m, 1)
pair.accumulate(m)
pair.outer(m, m)
jnp.add.reduce([1, 2])
jnp.add.reduce(3)
jnp.add.reduce(m, out=3)
jnp.subtract.reduce(jnp.ones((0, 3)))
jnp.subtract.reduce(m, where=True)
jnp.maximum.reduce(m, where=False)
jnp.bitwise_and.reduce(x)
jnp.subtract.accumulate(m, axis=None)
jnp.subtract.accumulate(m, axis=3)
jnp.add.reduceat(m, [0, 1])
jnp.add.reduceat(m, 2)
jnp.add.reduceat(2, jnp.array([0]))
jnp.add.reduceat(m, jnp.array([1.]))
jnp.add.reduceat(m, i, axis=None)
jnp.add.at(m, i, 1)
jnp.add.at(m, i, inplace=False)
jnp.add.outer([1], 2)
jnp.frompyfunc(3, 1, 1)
jnp.frompyfunc(lambda x: x, 1.5, 1)
""")


@pytest.mark.parametrize("expression", ERRORS)
def test_errors(expression):
    with pytest.raises(Exception) as theirs:
        of(jax, expression)
    with pytest.raises(theirs.type) as ours:
        of(velax, expression)
    if "missing 1 required" not in str(theirs.value):
        assert str(ours.value)[:8] == str(theirs.value)[:8]


@pytest.mark.parametrize("lib", LIBRARIES.values(), ids=LIBRARIES)
def test_made_from_functions(lib):
    f = lambda x, y: x + 2 * y
    one, two = lib.numpy.frompyfunc(f, 2, 1), lib.numpy.frompyfunc(f, nin=2, nout=1)
    assert one == two
    assert hash(one) == hash(two)
    assert one != lib.numpy.frompyfunc(f, 2, 1, identity=0)
    named = lib.numpy.ufunc(f, 2, 1, name="f", nargs=5, identity=lib.numpy.array(0))
    assert (repr(named), named.nargs, int(named.identity), named.nin) == ("<jnp.ufunc 'f'>", 5, 0, 2)
    how = lib.numpy.ufunc(f, 2, 1, call=lambda x, y: x - y, reduce=lambda a, axis, **_: a.max(), at=lambda a, i, b: a)
    results = how(5, 3), how.reduce(np.arange(3)), how.at(np.arange(3), 0, 1, inplace=False)
    np.testing.assert_equal([np.asarray(r).tolist() for r in results], [2, 2, [0, 1, 2]])


def test_a_dtype_and_any_index_are_honoured():
    """Where JAX ignores the dtype, or refuses slices."""
    jnp = velax.numpy
    a = jnp.arange(8, dtype="int8")
    assert_same(jnp.add.reduceat(a, jnp.array([1]), dtype=float), np.array([28.0], np.float32), oracle=False)
    assert_same(jnp.maximum.reduce(a, dtype="float16"), np.float16(7), oracle=False)
    assert_same(jnp.bitwise_or.at(a[:3], slice(1, None), 4, inplace=False), np.array([0, 5, 6], np.int8), oracle=False)
