"""The options that look at values: debug_nans, debug_infs, no_execution. The operation at fault and the
user's line are named.
"""

import numpy as np
import pytest
from both_libraries import LIBRARIES

import velax
import velax.numpy as jnp

X = np.array([1.0, 0.0, -1.0], np.float32)


def log(lib):
    return lib.numpy.log  # the line of the call is what the message names


CASES = {
    "eager": ("log", lambda lib: log(lib)(lib.numpy.asarray(X))),
    "a complex result": ("sqrt", lambda lib: lib.numpy.sqrt(lib.numpy.asarray(complex(0.0, np.inf)) * 0)),
    "a narrow float": ("log", lambda lib: lib.numpy.log(lib.numpy.asarray([-1.0], "bfloat16"))),
    "jit": ("log", lambda lib: lib.jit(lambda x: lib.numpy.log(x).sum() * 2)(X)),
    "jit in jit": ("log", lambda lib: lib.jit(lambda x: lib.jit(lib.numpy.log)(x) + 1)(X)),
    "gradient": ("mul", lambda lib: lib.grad(lambda x: lib.numpy.sqrt(x) * 0)(0.0)),
    "compiled gradient": ("mul", lambda lib: lib.jit(lib.grad(lambda x: lib.numpy.sqrt(x) * 0))(0.0)),
    "vmap": ("log", lambda lib: lib.vmap(lib.numpy.log)(X)),
    "a custom rule": ("log", lambda lib: lib.jit(lambda x: lib.nn.relu(lib.numpy.log(x)) + lib.numpy.log(x))(X)),
}
INSIDE = {  # JAX names the loop or the branch
    "scan": lambda lib: lib.lax.scan(lambda c, x: (c + lib.numpy.log(x), x * 2), 0.0, X),
    "reverse scan": lambda lib: lib.lax.scan(lambda c, x: (c + lib.numpy.log(x), None), 0.0, X, reverse=True)[0],
    "while": lambda lib: lib.lax.while_loop(lambda c: c < 3, lambda c: lib.numpy.log(c), -1.0),
    "cond": lambda lib: lib.lax.cond(X[0] > 0, lambda x: lib.numpy.log(x), lambda x: x, -1.0),
    "switch in scan in jit": lambda lib: lib.jit(
        lambda x: lib.lax.scan(lambda c, x: (c + lib.lax.switch(1, [lib.numpy.sin, lib.numpy.log], x), None), 0.0, x)[0]
    )(X),
    "checkpoint": lambda lib: lib.jit(lib.checkpoint(lambda x: lib.numpy.log(x)))(X),
}


@pytest.mark.parametrize("name", [*CASES, *INSIDE])
def test_the_operation_that_makes_a_nan(name):
    operation, f = CASES.get(name) or ("log", INSIDE[name])
    if name == "a complex result":
        operation = "mul"
    for lib in LIBRARIES:
        f(lib)
        found = (
            rf"invalid value \(nan\) encountered in {operation}" if lib is velax or name in CASES else "invalid value"
        )
        with lib.debug_nans(True), pytest.raises(FloatingPointError, match=found):
            f(lib)
    with velax.debug_nans(True), pytest.raises(FloatingPointError, match=__file__):
        f(velax)


def test_infinities():
    for lib in LIBRARIES:
        f = lib.jit(lambda x, lib=lib: lib.numpy.exp(x) - 1)
        with lib.debug_nans(True):
            assert np.isinf(f(1000.0))
        with lib.debug_infs(True), pytest.raises(FloatingPointError, match=r"invalid value \(inf\) encountered in exp"):
            f(1000.0)
        assert np.isinf(f(1000.0))


def test_only_results_count():
    """A value that a selection drops, or that stays inside of a program, is no error."""
    for lib in LIBRARIES:
        f = lib.jit(lambda x, lib=lib: lib.numpy.where(x > 0, lib.numpy.log(x), 0.0))
        g = lib.jit(lambda x, lib=lib: lib.numpy.sign(lib.numpy.log(x)) > 2)
        with lib.debug_nans(True):
            np.testing.assert_array_equal(f(X), [0, 0, 0])
            np.testing.assert_array_equal(g(X), [False] * 3)


def test_values_that_came_in():
    with velax.debug_nans(True):
        with pytest.raises(FloatingPointError, match=r"encountered in mul .*: an operand holds one already"):
            velax.jit(lambda x: x * 2)(np.float32(np.nan))
        with pytest.raises(FloatingPointError, match=r"on float32.. = -1.0"):
            jnp.log(jnp.asarray(-1.0, "float32"))
        with pytest.raises(FloatingPointError, match="its body was not found to make it"):
            velax.jit(lambda x: (x, np.float32(np.nan)))(np.float32(1))


def test_donated_operands():
    with velax.debug_nans(True), pytest.raises(FloatingPointError, match=r"invalid value .nan. encountered in log"):
        velax.jit(jnp.log, donate_argnums=0)(jnp.asarray(X))


def test_compiled_ahead_of_time():
    compiled = velax.jit(jnp.log).lower(X).compile()
    with velax.debug_nans(True), pytest.raises(FloatingPointError, match=r"invalid value .nan. encountered in log"):
        compiled(X)


def test_a_batch_of_loops():
    """Examples that have ended are run along: what their steps give is not looked at."""
    f = lambda x: velax.lax.while_loop(lambda c: c < 1, lambda c: c + velax.lax.rsqrt(1 - c), x)
    with velax.debug_nans(True):
        assert np.isfinite(velax.vmap(f)(np.array([0.0, 2.0], np.float32))).all()


def test_no_execution():
    f = velax.jit(jnp.sin)
    with velax._lang.config.no_execution(True):
        velax.make_jaxpr(f)(1.0)
        with pytest.raises(RuntimeError, match="sin was to be executed"):
            jnp.sin(X)
