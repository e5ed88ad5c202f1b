"""Windows, convolutions, covariances, polynomials, bit packing and files: against JAX and NumPy."""

from __future__ import annotations

import io

import both_libraries
import numpy as np
import pytest
from numpy_expressions import check, lines

import velax.numpy as vnp

EXPRESSIONS = lines("""
jax: jnp.unwrap(empty)
jax: jnp.unwrap(empty,axis=0)
jax: jnp.cov(jnp.zeros((2,0)))
jax: jnp.interp(v,v,h[0])
jax: jnp.interp(h[0],v,u)
jax: jnp.interp(v,v,z)
jax: jnp.interp(0.5,i[0],i[1],left=1.5)
jnp.bartlett(6)
jnp.blackman(5)
jnp.hamming(1)
jnp.hanning(0)
jax: jnp.kaiser(6,3.)
jnp.i0(f[3:])
jnp.i0(i)
jnp.i0(z)
jnp.convolve(v,f[2:4])
jnp.convolve(f[2:4],jnp.arange(5),'same')
jnp.convolve(v,jnp.arange(4),'valid')
jnp.convolve(z,v,mode='foo')
jnp.convolve(v,jnp.zeros(0))
jnp.convolve(v,x)
jnp.convolve(jnp.array([1]),2)
jnp.correlate(v,jnp.arange(2.))
jnp.correlate(jnp.arange(2.),v,'full')
jax: jnp.correlate(jnp.arange(4.),jnp.arange(6.),'same')
jnp.correlate(z,z[::-1],'full')
jax: jnp.correlate(jnp.arange(4),jnp.arange(3),preferred_element_type='int32')
jnp.cov(x)
jnp.cov(y,rowvar=False,bias=True)
jnp.cov(x,y,ddof=0)
jnp.cov(v)
jnp.cov(y,fweights=jnp.array([1,2,3]),aweights=jnp.array([.5,1.,2.]))
jnp.cov(y,fweights=v)
jnp.cov(y,aweights=x)
jnp.cov(cube)
jnp.cov(z,z*2)
jnp.corrcoef(y)
jnp.corrcoef(v)
jnp.poly(v)
jnp.poly(jnp.zeros(0))
jnp.polyadd(v,jnp.arange(5))
jax: jnp.polyadd(jnp.array([[2,3,1]]),jnp.array([[5,7,3],[8,2,6]]))
jax: jnp.polysub(jnp.ones((3,2,2)),jnp.ones((2,2,2)))
jax: jnp.interp(h[0],v,h[0])
jax: jnp.interp(h[0],jnp.arange(3),z)
jax: jnp.interp(z,v,v)
jnp.polysub(jnp.arange(5),u)
jax: jnp.polymul(v,jnp.arange(1.,3.))
jax: jnp.polymul(v,v,trim_leading_zeros=True)
jax: jnp.polydiv(jnp.array([1.,0.,-1.,4.]),jnp.array([2.,1.]))
jax: jnp.polydiv(jnp.array([1.,0.,-1.]),jnp.array([1.,1.]),trim_leading_zeros=True)
jnp.polyder(jnp.arange(5.),2)
jnp.polyder(jnp.arange(5.),0)
jnp.polyder(v,-1)
jnp.polyint(v,2,k=jnp.array([1.,2.]))
jnp.polyint(v,3,k=jnp.array([1.,2.]))
jnp.vander(v)
jax: jnp.vander(u,4,increasing=True)
jnp.vander(x)
jnp.vander(v,-1)
jnp.unwrap(jnp.array([0.,3.,-3.,9.,0.]))
jnp.unwrap(y,axis=0,discont=7.)
jnp.unwrap(jnp.array([0,3,6,1,4]),period=8)
jnp.unwrap(z)
jnp.packbits(b)
jnp.packbits(i,axis=0,bitorder='little')
jnp.packbits(x)
jnp.packbits(b,bitorder='foo')
jnp.unpackbits(u)
jnp.unpackbits(u,count=-3)
jnp.unpackbits(u.reshape(3,1),axis=1,count=5,bitorder='little')
jnp.unpackbits(i)
jnp.fromfile('name')
jnp.array_repr(v)
""")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions(expression):
    check(expression)


def _derivatives(lib):
    jnp = lib.numpy
    x = jnp.array([-1.5, 0.5, 2.0])
    of = lambda f: (lib.grad(lambda x: f(x).sum())(x), lib.jacfwd(lib.grad(lambda x: f(x).sum()))(x))
    return [
        of(f) for f in (
            jnp.i0, lambda x: jnp.convolve(x, x) ** 2, lambda x: jnp.correlate(x, x**2, "same"),
            lambda x: jnp.vander(x) ** 2, lambda x: jnp.unwrap(4 * x) ** 2, lambda x: jnp.cov(x, x**2),
        )
    ]  # fmt: skip


def test_derivatives():
    both_libraries.compare(_derivatives, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_files(dtype):
    file = io.BytesIO()
    vnp.save(file, vnp.arange(3, dtype=dtype))
    file.seek(0)
    out = vnp.load(file)
    assert isinstance(out, vnp.ndarray) and out.dtype == dtype
    np.testing.assert_array_equal(out.astype("float32"), [0, 1, 2])


def test_many_arrays_in_a_file(tmp_path):
    vnp.savez(tmp_path / "arrays.npz", a=vnp.arange(3), b=vnp.ones(2))
    found = vnp.load(tmp_path / "arrays.npz")
    assert sorted(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
