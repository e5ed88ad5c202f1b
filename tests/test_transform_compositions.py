"""Transformations inside transformations: all pairs and a sample of the triples, on the same functions as JAX."""

import itertools
import random

import numpy as np
import pytest
from both_libraries import Cases

X = np.array([0.3, -0.7, 1.1], np.float32)


# -- the functions and the transformations, all from a vector to a vector of its shape -----------


def pointwise(lib):
    return lambda x: lib.numpy.sin(x) * x + 0.5


def mixing(lib):
    jnp = lib.numpy
    return lambda x: jnp.tanh(x[::-1] * jnp.sum(x)) + jnp.where(x > 0, x, jnp.exp(x))


def matrix(lib):
    m = np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3)
    return lambda x: lib.numpy.cos(lib.numpy.asarray(m) @ x) * 0.5


def jit(lib, f):
    return lib.jit(f)


def grad(lib, f):
    return lib.grad(lambda x: f(x).sum())


def jvp(lib, f):
    return lambda x: lib.jvp(f, (x,), (lib.numpy.cos(x),))[1]


def vjp(lib, f):
    return lambda x: lib.vjp(f, x)[1](x)[0]


def linearize(lib, f):
    def g(x):
        y, f_jvp = lib.linearize(f, x)
        return y + f_jvp(x) * 0.5

    return g


def vmap(lib, f):
    return lambda x: lib.vmap(f)(lib.numpy.stack([x, x * 0.5])).sum(0)


def vmap_closure(lib, f):
    return lambda x: lib.vmap(lambda s: f(x * s), out_axes=1)(lib.numpy.array([0.5, 1.5], "float32")).sum(1)


def checkpoint(lib, f):
    return lib.checkpoint(f)


def checkpoint_saving_dots(lib, f):
    return lib.checkpoint(f, policy=lib.checkpoint_policies.dots_saveable)


def custom_jvp(lib, f):
    g = lib.custom_jvp(lambda x: f(x))
    g.defjvp(lambda primals, tangents: (g(*primals), 2.0 * lib.jvp(f, primals, tangents)[1]))
    return g


def custom_vjp(lib, f):
    g = lib.custom_vjp(lambda x: f(x))
    g.defvjp(lambda x: (g(x), x), lambda x, ct: (3.0 * ct * lib.numpy.cos(x),))
    return g


def scan(lib, f):
    return lambda x: lib.lax.scan(lambda c, s: (f(c) * s, None), x, lib.numpy.array([0.5, 0.8], "float32"))[0]


def scan_stacking(lib, f):
    return lambda x: lib.lax.scan(lambda c, s: (c * s, f(c)), x, lib.numpy.array([0.5, 0.8], "float32"))[1].sum(0)


def cond(lib, f):
    return lambda x: lib.lax.cond(x[0] > 0, f, lambda x: x * 2.0, x)


def switch(lib, f):
    return lambda x: (
        lib.lax.switch(1, [lambda x: x, f, lib.numpy.sin], x)
        + lib.lax.switch((x[1] > 0).astype("int32"), [f, lib.numpy.sin], x)
    )


TRANSFORMS = [
    jit,
    grad,
    jvp,
    vjp,
    linearize,
    vmap,
    vmap_closure,
    checkpoint,
    checkpoint_saving_dots,
    custom_jvp,
    custom_vjp,
    scan,
    scan_stacking,
    cond,
    switch,
]
BASES = [pointwise, mixing, matrix]
FORWARD = {jvp, linearize, custom_jvp}


def is_defined(chain) -> bool:
    """custom_vjp functions have no forward mode: nothing outside of one may ask for it."""
    return not any(t is custom_vjp and set(chain[:i]) & FORWARD for i, t in enumerate(chain))


def program(base, chain):
    def run(lib):
        f = base(lib)
        for transform in reversed(chain):
            f = transform(lib, f)
        return f(lib.numpy.asarray(X))

    return run


def name_of(base, chain):
    return " of ".join([*(t.__name__ for t in chain), base.__name__])


pairs, triples, quadruples = Cases(), Cases(), Cases()
_random = random.Random(20261122)
for _i, _chain in enumerate(filter(is_defined, itertools.product(TRANSFORMS, repeat=2))):
    _base = BASES[_i % len(BASES)]
    pairs.add(name_of(_base, _chain), program(_base, _chain))
for _chain in _random.sample(list(filter(is_defined, itertools.product(TRANSFORMS, repeat=3))), 90):
    _base = _random.choice(BASES)
    triples.add(name_of(_base, _chain), program(_base, _chain))


@pytest.mark.parametrize("name", pairs.names())
def test_pair(name):
    pairs.check(name, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", triples.names())
def test_triple_in_one_program(name):
    triples.check_staged(name, rtol=5e-5, atol=5e-5)
