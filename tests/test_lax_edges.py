"""Where rules of `velax.lax` meet their edges: crossing bounds, ties, operands and parameters that JAX refuses."""

import jax
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
        (
            lambda lib: lib.lax.bitcast_convert_type(X > 0, "float32"),
            "ValueError",
            "Attempting to convert array of shape (2, 3) from bool of size 8 bits to float32 of size 32",
        ),
        (
            lambda lib: lib.lax.bitcast_convert_type(X, "complex64"),
            "ValueError",
            "Attempting to convert array of shape (2, 3) from float32",
        ),
        (lambda lib: lib.lax.reduce_and(X, (0,)), "TypeError", "logical reduction requires operand dtype bool or int"),
        (
            lambda lib: lib.lax.pow(X, X.astype(lib.numpy.bfloat16)),
            "TypeError",
            "the first argument to pow must have an inexact dtype (float or complex), and the second argument must",
        ),
        (
            lambda lib: lib.lax.dot(X * 1j, (X * 1j).T, preferred_element_type="bfloat16"),
            "TypeError",
            "`preferred_element_type` must not be narrower than the original type, got preferred_element_type of",
        ),
        (
            lambda lib: lib.lax.sub(X, X.astype(int)),
            "TypeError",
            "(Tip: jnp.subtract is a similar function that does automatic type promotion on inputs).",
        ),
        (
            lambda lib: lib.lax.select(X > 1, X, X.astype(np.int32)),
            "TypeError",
            "lax.select requires arguments to have the same dtypes, got int32, float32. (Tip: jnp.where",
        ),
        (
            lambda lib: lib.lax.select_n(X, X, X),
            "TypeError",
            "select `which` must be boolean or integer type, got float32.",
        ),
        (
            lambda lib: lib.lax.add(1, 1.0),
            "TypeError",
            "lax.add requires arguments to have the same dtypes, got int32, float32.",
        ),
        (lambda lib: lib.lax.rev(X, (1, 1)), "TypeError", "rev dimensions must be unique, got (1, 1)."),
        (
            lambda lib: lib.lax.transpose(X, (0, 0)),
            "TypeError",
            "transpose permutation isn't a permutation of operand dimensions, got permutation (0, 0)",
        ),
        (lambda lib: lib.lax.reshape(X, (-1,)), "TypeError", "reshape new_sizes must all be positive, got (-1,)"),
        (
            lambda lib: lib.lax.reshape(X, (6,), (0,)),
            "TypeError",
            "reshape dimensions must be a permutation of operand dimensions, got dimensions (0,) for shape (2, 3).",
        ),
        (
            lambda lib: lib.lax.argmax(X[:0], 0, "int32"),
            "ValueError",
            "argmin and argmax require non-empty reduced dim",
        ),
        (lambda lib: lib.lax.collapse(X, 1, 0), "ValueError", "Invalid dimension range passed to collapse"),
        (lambda lib: lib.lax.round(X, 3), "ValueError", "3 is not a valid RoundingMethod"),
        (
            lambda lib: lib.lax.scan(lambda c, x: (c, x, x), X[0, 0], X),
            "TypeError",
            "scan body output must be a pair, got (ShapedArray(float32[]), ShapedArray(float32[3]), ",
        ),
    ],
)
def test_errors(f, kind, lead):
    both_raise(f, kind, lead)


@pytest.mark.parametrize(
    ("shape", "dimensions", "lead"),
    [
        ((2, 3), (0,), "broadcast_dimensions must have length equal to operand ndim; got broadcast_dimensions (0,)"),
        ((3,), (0, 1), "target broadcast shape must have equal or higher rank to the operand shape"),
        ((2, 3), (0, 2), "broadcast_dimensions must be a subset of output dimensions, got (0, 2)"),
        ((3, 2), (0, 1), "operand dimension sizes must either be 1, or be equal to their corresponding dimensions"),
        ((3, 2), (1, 1), "operand dimension sizes must either be 1"),
    ],
)
def test_broadcast_in_dim_errors(shape, dimensions, lead):
    both_raise(lambda lib: lib.lax.broadcast_in_dim(X, shape, dimensions), "TypeError", f"broadcast_in_dim {lead}")


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64"])
def test_select_n_by_any_integer(dtype):
    which = np.array([0, 1, 5], dtype)
    compare(lambda lib, *args: lib.lax.select_n(*args), which, F(1, 2, 3), F(4, 5, 6), F(7, 8, 9), grad=False)


def test_primitives_are_public():
    """The primitives of `jax.lax` by name, where the operation exists here."""
    own = [name for name in dir(jax.lax) if name.endswith("_p") and hasattr(velax.lax, name[:-2])]
    renamed = {"approx_top_k_p", "conv_general_dilated_p", "tile_p", "stack_p", "unstack_p"}
    for name in set(own) - renamed:
        assert getattr(velax.lax, name).name == getattr(jax.lax, name).name
    for name in ("sin_p", "reduce_sum_p", "cumsum_p", "not_p", "erf_inv_p"):
        assert hasattr(velax.lax, name)


def test_broadcast_in_dim_permutes():
    compare(lambda lib, x: lib.lax.broadcast_in_dim(x, (3, 4, 2), (2, 0)), X, grad=False)
    both_raise(
        lambda lib: lib.lax.broadcast_in_dim(X[:, :2], (2, 2), (0, 0)),
        "TypeError",
        "broadcast_in_dim broadcast_dimensions must not contain duplicates, got broadcast_dimensions (0, 0)",
    )


def test_cbrt_derivative_at_zero():
    for x in (0.0, -0.0, 8.0):
        assert_same(velax.grad(velax.lax.cbrt)(x), jax.grad(jax.lax.cbrt)(x))
