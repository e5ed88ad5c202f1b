"""Elementwise functions: types and errors against JAX, values against NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from both_libraries import compare
from numpy_expressions import check, lines

import velax

EXPRESSIONS = lines("""
jax: jnp.angle(np.float16(-2))
jnp.angle(h)
jnp.iscomplex(3)
jnp.iscomplex(2.5)
jnp.isreal(True)
jnp.isreal(1j)
jnp.gcd(x1=12,x2=i)
jnp.gcd(i,np.array([[4],[6]]))
jax: jnp.lcm(b,2)
jnp.lcm(x1=4,x2=6)
jnp.fmax(x1=x,x2=v)
jnp.fmin(x1=1.0,x2=2.0)
jnp.modf(1.5,None)
jnp.modf(x,out=x)
jnp.heaviside(v,x[:,:1])
jnp.copysign(v,x[:,:1]-2)
jnp.acos([1.])
jnp.trunc(x=f)
jax: i%0
jax: i%jnp.zeros_like(i)
jax: u%0
jax: jnp.fmod(i,0)
jax: jnp.divmod(i,0)
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
jnp.logical_and(1.5, 2)
jnp.logical_and(i, 1.5)
jnp.logical_not(1)
jnp.logical_xor(b, 3)
jax: jnp.spacing(jnp.array([-1., 0., -0., 2.5]))
jnp.spacing(2)
jnp.spacing(z)
jax: jnp.arctan2(z, 2)
jax: package.lax.atan2(1j, 2 + 0j)
jnp.hypot(x + 1, 1.5)
jnp.heaviside(1., 2.)
jnp.logaddexp2(1., 2.)
jax: jnp.logaddexp(1., 2j)
jnp.hypot(i * 1.5, 2.)
jnp.logaddexp2(i * 1.5, 2.)
jnp.heaviside(i * 1.5, 2.)
jnp.sinc(i * 1.5)
jnp.deg2rad(i * 1.5)
jnp.round(i * 1.5, 1)
jnp.power(2.5, i)
jnp.ediff1d(b)
jax: package.lax.convert_element_type(i, float)
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


def test_random_keys_are_no_numbers():
    for name in ("ceil", "floor", "trunc", "logical_not"):
        for lib in (jax, velax):
            with pytest.raises(TypeError):
                getattr(lib.numpy, name)(lib.random.key(0))
    for lib in (jax, velax):
        with pytest.raises(TypeError, match="add does not accept dtypes key<fry>, int32"):
            lib.numpy.add(lib.random.key(0), 1)


def test_logical_functions_promote_as_others_do():
    for lib in (jax, velax):
        ones = lib.numpy.ones(3, "int8")
        with (
            lib.numpy_dtype_promotion("strict"),
            pytest.raises(ValueError, match="no available implicit dtype promotion"),
        ):
            lib.numpy.logical_and(ones, ones.astype("int16"))


def test_powers_of_booleans_and_integrals_of_integers_with_64_bits():
    for lib in (jax, velax):
        with lib.enable_x64(True):
            assert lib.numpy.power(lib.numpy.array([True]), 3).dtype == np.int32
            assert lib.numpy.trapezoid(lib.numpy.arange(3, dtype="int32")).dtype == np.float32


def test_spacing_of_bytes_raises():
    with pytest.raises(NotImplementedError, match=r"spacing only supports 16, 32, and 64-bit types"):
        velax.numpy.spacing(velax.numpy.ones(2, "float8_e4m3fn"))
