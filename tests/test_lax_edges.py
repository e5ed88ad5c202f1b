"""Where rules of `velax.lax` meet their edges: crossing bounds, ties, operands and parameters that JAX refuses."""

import numpy as np
import pytest
from both_libraries import both_raise
from lax_differential import assert_same, compare

import velax

F = lambda *points: np.array(points, np.float32)
X = np.arange(6, dtype=np.float32).reshape(2, 3)
TIES = F([1, 1, 0], [1, 2, 2], [0, 0, 3])


def test_clamp_derivatives():
    """Bounds that cross, and operands that lie on one."""
    low, x, high = F(0, 0, 2, 2, 0, 1), F(-1, 0.5, 0.5, 3, 1, 1), F(1, 1, 1, 1, 1, 2)
    compare(lambda lib, *args: lib.lax.clamp(*args), low, x, high, axes=(None, 0))


def test_clamp_complex():
    rng = np.random.default_rng(0)
    low, x, high = ((rng.integers(-1, 2, 20) + 1j * rng.integers(-1, 2, 20)).astype(np.complex64) for _ in range(3))
    compare(lambda lib, *args: lib.lax.clamp(*args), low, x, high, grad=False, batch=False)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_extremum_ties(name, reverse):
    compare(lambda lib, x: getattr(lib.lax, name)(x, axis=0, reverse=reverse), TIES, second=True, batch=False)


def test_bitcast_to_the_same_dtype():
    for x in (X > 1, X.astype(np.complex64)):
        assert_same(velax.lax.bitcast_convert_type(x, x.dtype), x)


@pytest.mark.parametrize(
    ("f", "kind", "lead"),
    [
        (
            lambda lib: lib.lax.clamp(0, X, 1),
            "TypeError",
            "clamp requires arguments to have the same dtypes, got int32, float32, int32.",
        ),
        (lambda lib: lib.lax.cummax(X > 0, 0), "TypeError", "cummax does not accept dtype bool."),
        (lambda lib: lib.lax.cumsum(X, -1), "ValueError", "XLA operations do not allow negative axes"),
        (
            lambda lib: lib.lax.reduce_sum(X, (-1,)),
            "ValueError",
            "reduction axes (-1,) contains out-of-bounds indices for float32[2,3].",
        ),
        (lambda lib: lib.lax.argmax(X, -1, "int32"), "ValueError", "Invalid axis -1 for operand shape (2, 3)"),
        (lambda lib: lib.lax.rev(X, (-1,)), "TypeError", ""),
        (lambda lib: lib.lax.squeeze(X[:1], (0, -2)), "ValueError", "dimensions are not unique"),
        (
            lambda lib: lib.lax.broadcasted_iota("int32", (2,), -1),
            "ValueError",
            "iota dimension must be between 0 and len(shape), got dimension=-1",
        ),
        (
            lambda lib: lib.lax.iota("int32", -1),
            "TypeError",
            "iota shape must have every element be nonnegative, got (-1,).",
        ),
        (lambda lib: lib.lax.conj(X.astype(np.float16)), "TypeError", "conj does not accept dtype float16."),
        (
            lambda lib: lib.lax.reduce_precision(X, 3.5, 3),
            "TypeError",
            "'float' object cannot be interpreted as an integer",
        ),
        (
            lambda lib: lib.lax.bitcast_convert_type(X > 0, "uint8"),
            "TypeError",
            "lax.bitcast_convert_type does not support bool or complex values",
        ),
    ],
)
def test_errors(f, kind, lead):
    both_raise(f, kind, lead)
