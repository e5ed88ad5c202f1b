"""Elementwise functions: types and errors against JAX, values against NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from both_libraries import compare
from numpy_expressions import check, lines

import velax

EXPRESSIONS = lines("""
jnp.bitwise_count(u)
jnp.bitwise_count(i)
jnp.bitwise_count(jnp.int8(-3))
jnp.fabs(z)
jnp.fabs(i)
jnp.sign(b)
jnp.sign(f)
jnp.isposinf(z)
jnp.isneginf(z)
jnp.isposinf(f)
jnp.isneginf(i)
jnp.signbit(z)
jnp.signbit(f)
jnp.signbit(i)
jnp.copysign(z,1)
jnp.copysign(x,-1)
jnp.hypot(z,1)
jnp.hypot(x,y)
jax: jnp.fmax(z,2)
jax: jnp.fmin(z,jnp.array([1j,2,jnp.nan]))
jnp.fmax(f,0)
jnp.rint(2)
jnp.rint(jnp.array(3))
jnp.rint(2.5)
jnp.rint(u)
jnp.angle(2)
jnp.angle(jnp.array(-2.5))
jnp.angle(1j)
jnp.angle(z,deg=True)
jnp.log2(2)
jnp.log2(0.5)
jnp.log2(i)
jnp.log10(jnp.array(2.5))
jax: jnp.log2(jnp.array([0j,1+2j]))
jax: jnp.log10(jnp.array([0j,1+2j]))
jax: jnp.power(u,np.int32(2))
jax: jnp.power(u,np.array(3))
jnp.power(u,jnp.array([2]))
jnp.power(b,3)
jnp.power(True,2)
jnp.power(h,jnp.int32(2))
jnp.power(x,np.int64(2))
jnp.ldexp(x,True)
jnp.ldexp(z,2)
jnp.ldexp(2,i)
jnp.isscalar(np.array(['a']))
jnp.ceil(np.array(['a']))
jnp.conj(np.array([None]))
""")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_agrees_with_the_oracles(expression):
    check(expression)


POWERS = {
    "of bytes": lambda lib: lib.numpy.power(lib.numpy.array([250, 3], "uint8"), lib.numpy.int32(2)),
    "of a number": lambda lib: lib.numpy.power(2, lib.numpy.uint8(3)),
    "of booleans": lambda lib: lib.numpy.power(lib.numpy.array([True, False]), lib.numpy.int8(3)),
    "of an operator": lambda lib: lib.numpy.arange(3, dtype="int8") ** lib.numpy.int32(2),
    "of floats": lambda lib: lib.numpy.arange(3, dtype="float16") ** lib.numpy.int32(2),
    "traced": lambda lib: lib.jit(lambda x: x ** lib.numpy.int32(2))(np.arange(3, dtype=np.int8)),
}


@pytest.mark.parametrize("case", POWERS)
def test_a_single_known_exponent_leaves_the_dtype(case):
    compare(POWERS[case])


def test_negative_powers_of_integers_are_refused():
    for lib in (jax, velax):
        with pytest.raises(TypeError, match="Integers cannot be raised to negative powers, got integer_pow"):
            lib.numpy.arange(3) ** lib.numpy.int32(-2)


def test_integers_become_the_default_float():
    for lib in (jax, velax):
        with lib.enable_x64(True):
            for f in (lib.numpy.rint, lib.numpy.angle):
                assert f(lib.numpy.array([1, -2], "int8")).dtype == np.float64
