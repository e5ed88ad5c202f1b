"""Random programs of nested loops, branches, calls, maps and references: value, both modes, batching and
second derivatives, against JAX.
"""

import random

import jax
import jax.numpy
import numpy as np
import pytest
from lax_differential import assert_same

import velax
import velax.numpy
from velax._lang.check import check_jaxpr

F = np.float32
KINDS = ("operation", "operation", "sequence", "call", "map", "scan", "fori", "while", "cond", "switch", "ref")


def program(rng, depth):
    """A function ``f(library, c, e)`` of two vectors of length 3 to one, and whether it has no reverse mode."""
    kind = rng.choice(KINDS) if depth else "operation"
    inner = lambda: program(rng, depth - 1)
    if kind == "operation":
        name, q = rng.choice(("sin", "tanh", "add", "mul", "scale", "spread")), F(rng.uniform(-1, 1))

        def f(lib, c, e):
            lax = lib.lax
            if name in ("sin", "tanh"):
                return getattr(lax, name)(c)
            if name in ("add", "mul"):
                return getattr(lax, name)(c, e)
            return c * q if name == "scale" else (c + lax.reduce_sum(c, (0,))) * F(0.3)

        return f, False
    g, irreversible = inner()
    if kind == "sequence":
        h, other = inner()
        return lambda lib, c, e: h(lib, g(lib, c, e), e), irreversible or other
    if kind == "call":
        return lambda lib, c, e: lib.jit(lambda c: g(lib, c, e))(c), irreversible
    if kind == "map":
        return lambda lib, c, e: lib.vmap(lambda s: g(lib, c * s, e))(lib.lax.sin(c))[1], irreversible
    if kind == "scan":
        return scan_program(
            g, reverse=rng.random() < 0.5, decay=rng.random() < 0.6, short=rng.random() < 0.3
        ), irreversible
    if kind == "fori":
        n = rng.randint(0, 3)
        return lambda lib, c, e: lib.lax.fori_loop(
            0, n, lambda i, c: g(lib, c + lib.lax.convert_element_type(i, F), e), c
        ), irreversible
    if kind == "while":
        n = rng.randint(0, 3)

        def f(lib, c, e):
            lax = lib.lax
            going = lambda s: (s[0] < n) & (lax.reduce_sum(s[1], (0,)) < F(5))
            return lax.while_loop(going, lambda s: (s[0] + 1, g(lib, s[1], e), s[2]), (np.int32(0), c, e))[1]

        return f, True
    if kind == "cond":
        h, other = inner()
        limit = F(rng.uniform(-1, 1))
        branch = lambda lib, c, e: lib.lax.cond(
            lib.lax.reduce_sum(c, (0,)) > limit, lambda: g(lib, c, e), lambda: h(lib, c, e)
        )
        return branch, irreversible or other
    if kind == "switch":
        more = [inner() for _ in range(2)]

        def f(lib, c, e):
            index = lib.lax.convert_element_type(lib.lax.reduce_sum(c, (0,)), np.int32)
            return lib.lax.switch(index, [lambda c, h=h: h(lib, c, e) for h in (g, *(m[0] for m in more))], c)

        return f, irreversible or any(m[1] for m in more)

    def f(lib, c, e):
        if lib is jax:  # what the reference means
            return g(lib, c, e) + c * F(0.5)
        ref = lib.new_ref(c * F(0.5))

        def body(i, _):
            ref[...] += g(lib, c, e)
            return 0

        lib.lax.fori_loop(0, 1, body, 0)
        return ref[...]

    return f, irreversible


def scan_program(g, reverse, decay, short):
    def f(lib, c, e):
        lax = lib.lax

        def body(carry, x):
            i, u, v = carry
            u = g(lib, u + v * x, e)
            return (i + 1, u, v * F(0.9) if decay else v), (u * x, lax.convert_element_type(i, F))

        (_, u, v), (ys, counts) = lax.scan(
            body, (np.int32(0), c, e), lax.slice(e, (0,), (2,)) if short else lax.sin(e), reverse=reverse
        )
        return u + v + lax.reduce_sum(ys, (0,)) * F(0.1) + lax.reduce_sum(counts, (0,)) * F(0.01)

    return f


X, E = np.array([0.3, -0.5, 0.8], F), np.array([0.9, 0.4, -0.7], F)
BOTH = np.stack([X, -X])


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(s, marks=pytest.mark.slow) for s in range(3, 60))])
def test_random_program(seed):
    f, irreversible = program(random.Random(seed), 3)

    def compare(transform, *args, what):
        ours, theirs = (lib.jit(transform(lib, lambda c, e, lib=lib: f(lib, c, e)))(*args) for lib in (velax, jax))
        assert_same(ours, theirs, rtol=2e-3, atol=2e-4, what=f"{what} of seed {seed}")

    check_jaxpr(velax.make_jaxpr(lambda c, e: f(velax, c, e))(X, E))
    assert_same(f(velax, X, E), velax.jit(lambda c, e: f(velax, c, e))(X, E), what=f"eager evaluation of seed {seed}")
    compare(lambda lib, g: g, X, E, what="value")
    compare(lambda lib, g: lambda c, e: lib.jvp(g, (c, e), (e, c)), X, E, what="jvp")
    compare(lambda lib, g: lib.vmap(g, (0, None)), BOTH, E, what="vmap")
    if irreversible:
        return
    gradient = lambda lib, g: lib.grad(lambda c, e: lib.lax.reduce_sum(lib.lax.sin(g(c, e)), (0,)), (0, 1))
    compare(gradient, X, E, what="gradient")
    compare(lambda lib, g: lib.vmap(gradient(lib, g), (0, None)), BOTH, E, what="vmap of the gradient")
    compare(lambda lib, g: lambda c, e: lib.jvp(gradient(lib, g), (c, e), (e, c)), X, E, what="second derivative")
