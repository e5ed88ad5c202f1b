"""Random small programs: evaluated, compiled, differentiated and batched as in JAX."""

import jax
import numpy as np
from both_libraries import assert_same
from hypothesis import HealthCheck, given, settings, strategies as st

import velax
from velax._lang.check import check_jaxpr

SHAPE = (2, 3)

# -- a program is a list of steps; each appends a value of shape (2, 3) computed from values before

UNARY = {
    "sin": lambda lib, x: lib.numpy.sin(x),
    "tanh": lambda lib, x: lib.numpy.tanh(x),
    "exp": lambda lib, x: lib.numpy.exp(-lib.numpy.abs(x)),
    "square": lambda lib, x: x**2 * 0.5,
    "neg": lambda lib, x: -x,
    "softmax": lambda lib, x: lib.nn.softmax(x, axis=-1),
    "centre": lambda lib, x: x - x.mean(axis=0),
    "cumsum": lambda lib, x: lib.numpy.cumsum(x, axis=1) * 0.3,
    "flip": lambda lib, x: x[::-1, ::-1],
    "roll": lambda lib, x: lib.numpy.concatenate([x[:, 1:], x[:, :1]], axis=1),
    "set": lambda lib, x: x.at[0, 1:].set(0.5),
    "add_at": lambda lib, x: x.at[:, lib.numpy.array([0, 0])].add(0.25),
    "take": lambda lib, x: x[lib.numpy.array([1, 0])],
    "transpose": lambda lib, x: x.T.reshape(2, 3),
    "where": lambda lib, x: lib.numpy.where(x > 0.1, x, 0.2 * x),
    "stop": lambda lib, x: lib.lax.stop_gradient(x) * x,
    "jit": lambda lib, x: lib.jit(lambda y: lib.numpy.cos(y) * y)(x),
    "checkpoint": lambda lib, x: lib.checkpoint(lambda y: lib.numpy.sin(y) * y)(x),
    "scan": lambda lib, x: lib.lax.scan(lambda c, r: (lib.numpy.sin(c + r), c * r), x[0], x)[1],
    "cond": lambda lib, x: lib.lax.cond(x[0, 0] > 0.0, lambda y: y * 0.7, lambda y: lib.numpy.sin(y), x),
    "loop": lambda lib, x: lib.lax.fori_loop(0, 2, lambda i, c: lib.numpy.cos(c) + 0.1 * i, x),
    "inner vmap": lambda lib, x: lib.vmap(lambda r: r / (1.0 + (r**2).sum()))(x),
    "inner grad": lambda lib, x: lib.grad(lambda y: lib.numpy.sin(y).sum())(x),
}
BINARY = {
    "add": lambda lib, x, y: x + y,
    "sub": lambda lib, x, y: x - 0.5 * y,
    "mul": lambda lib, x, y: x * y,
    "div": lambda lib, x, y: x / (1.5 + y**2),
    "max": lambda lib, x, y: lib.numpy.maximum(x, y + 0.01),
    "matmul": lambda lib, x, y: (x @ y.T) @ y * 0.3,
    "outer": lambda lib, x, y: lib.numpy.einsum("ij,kj->ij", x, y) * 0.5,
    "atan2": lambda lib, x, y: lib.numpy.arctan2(x, 2.0 + y**2),
    "row": lambda lib, x, y: x * y[0] + y[:, :1],
}

step = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 99)),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 99), st.integers(0, 99)),
)
programs = st.lists(step, min_size=1, max_size=5)


def evaluate(lib, steps, *inputs):
    values = [lib.numpy.asarray(x) for x in inputs]
    for name, *operands in steps:
        f = (UNARY if len(operands) == 1 else BINARY)[name]
        values.append(f(lib, *(values[i % len(values)] for i in operands)))
    return values[-1]


A = np.linspace(-0.9, 1.1, 6, dtype=np.float32).reshape(SHAPE)
B = np.cos(np.arange(6, dtype=np.float32)).reshape(SHAPE)


def observe(lib, steps):
    f = lambda a, b: evaluate(lib, steps, a, b)
    scalar = lambda a, b: (f(a, b) * np.float32(0.7)).sum()
    return {
        "value": f(lib.numpy.asarray(A), lib.numpy.asarray(B)),
        "gradient": lib.grad(scalar, argnums=(0, 1))(A, B),
        "jvp": lib.jvp(f, (A, B), (B, A)),
        "forward over reverse": lib.jvp(lambda a: lib.grad(scalar)(a, B), (A,), (B,))[1],
        "batch": lib.vmap(f, in_axes=(0, None))(np.stack([A, B, A * 0.3]), B),
        "batch of gradients": lib.vmap(lib.grad(scalar), in_axes=(None, 1))(A, np.stack([A, B], 1)),
    }


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(programs)
def test_program(steps):
    expected = jax.jit(lambda: observe(jax, steps))()
    staged = velax.make_jaxpr(lambda: observe(velax, steps))()
    check_jaxpr(staged)
    assert_same(velax.jit(lambda: observe(velax, steps))(), expected, rtol=2e-4, atol=2e-4, what=str(steps))


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(programs)
def test_eager_equals_compiled(steps):
    """Operation by operation or fused in one program, the results are the same up to the order of sums."""
    eager = observe(velax, steps)
    assert_same(eager, velax.jit(lambda: observe(velax, steps))(), rtol=1e-5, atol=1e-5, what=str(steps), oracle=False)
