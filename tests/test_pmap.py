"""`pmap` over the one device, against JAX."""

import numpy as np
import pytest
from both_libraries import Cases, both_raise

X = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
case = Cases()

case.add("values", lambda lib: lib.pmap(lambda x: x * 2)(X))
case.add(
    "collectives", lambda lib: lib.pmap(lambda x: (lib.lax.psum(x, "i"), lib.lax.axis_index("i")), axis_name="i")(X)
)
case.add("axes", lambda lib: lib.pmap(lambda x, y: (x + y, 1.0), in_axes=(0, None), out_axes=(1, 0))(X, 3.0))
case.add("trees", lambda lib: lib.pmap(lambda p, x: p["w"] * x)({"w": np.ones((1, 3), np.float32)}, X))
case.add("keywords", lambda lib: lib.pmap(lambda x, y: x * y)(X, y=X))
case.add("static", lambda lib: lib.pmap(lambda x, n: x * len(n), static_broadcasted_argnums=1)(X, "abc"))
case.add("gradient inside", lambda lib: lib.pmap(lib.grad(lambda x: lib.numpy.sum(x**2)))(X))
case.add("gradient outside", lambda lib: lib.grad(lambda x: lib.pmap(lib.numpy.sin)(x).sum())(X))


@pytest.mark.parametrize("name", case.names())
def test_case(name):
    case.check(name)


@pytest.mark.parametrize(
    ("program", "kind", "words", "ours"),
    [
        (
            lambda lib: lib.pmap(lambda x: x)(np.ones((4, 2))),
            "ValueError",
            "",
            ("axis 0 of argument x of shape (4, 2) is 4", "there is 1", "jit(vmap(f))"),
        ),
        (lambda lib: lib.pmap(lambda x: x, axis_size=2)(X), "ValueError", "axis_size", ("there is 1",)),
        (lambda lib: lib.pmap(lambda x: x)(1.0), "ValueError", "pmap", ("argument x of shape ()",)),
        (lambda lib: lib.pmap(lambda x: x, in_axes=None)(X), "ValueError", "pmap", ("in_axes",)),
        (
            lambda lib: lib.pmap(lambda x: lib.lax.psum(x, "j"), axis_name="i")(X),
            "NameError",
            "nbound axis name: j",
            (),
        ),
        (lambda lib: lib.pmap(3), "TypeError", "Expected a callable value, got 3", ()),
    ],
)
def test_errors(program, kind, words, ours):
    both_raise(program, kind, words, ours)
