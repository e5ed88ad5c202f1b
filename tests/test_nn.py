"""Neural network functions, their derivatives and initializers, special functions and `ravel_pytree`, against JAX."""

import jax
import jax.flatten_util
import ml_dtypes
import numpy as np
import pytest
import scipy.special
from both_libraries import Cases, both_raise

import velax
import velax.numpy as jnp
from velax import nn
from velax.flatten_util import ravel_pytree
from velax.scipy import special

case = Cases()

X = np.linspace(-5, 5, 12, dtype=np.float32).reshape(3, 4)
Y = np.linspace(-1, 3, 12, dtype=np.float32).reshape(3, 4)
INTS = np.arange(-2, 6).reshape(2, 4)
POINTS = np.array([-100, -6, -3, -1, -0.0, 0.0, 0.5, 1, 3, 6, 100, np.inf, -np.inf, np.nan], np.float32)

ACTIVATIONS = (
    "relu", "relu6", "sigmoid", "softplus", "soft_sign", "silu", "log_sigmoid", "leaky_relu", "hard_sigmoid",
    "hard_silu", "hard_tanh", "elu", "celu",
    "selu", "gelu", "squareplus", "mish", "sparse_plus", "sparse_sigmoid", "tanh", "log1mexp", "identity",
)  # fmt: skip
REDUCTIONS = ("softmax", "log_softmax", "logsumexp", "logmeanexp", "standardize")

# -- activations ----------------------------------------------------------------------------------

for _name in ACTIVATIONS:
    case.add(f"{_name}_points", lambda lib, n=_name: getattr(lib.nn, n)(POINTS))
    if _name not in ("sigmoid", "silu"):
        case.add(f"{_name}_ints", lambda lib, n=_name: lib.numpy.asarray(getattr(lib.nn, n)(INTS), "float32"))
    case.add(f"{_name}_narrow", lambda lib, n=_name: getattr(lib.nn, n)(lib.numpy.asarray(X, "bfloat16")))
    case.add(
        f"{_name}_derivative", lambda lib, n=_name: lib.vmap(lib.grad(getattr(lib.nn, n)))(lib.numpy.asarray(POINTS))
    )
    case.add(
        f"{_name}_curvature",
        lambda lib, n=_name: lib.vmap(lib.grad(lib.grad(getattr(lib.nn, n))))(
            lib.numpy.asarray([-2.5, -0.3, 0.4, 2.0])
        ),
    )
case.add("gelu_exact", lambda lib: (lib.nn.gelu(X, approximate=False), lib.nn.gelu(3, False)))
case.add(
    "gelu_exact_derivative",
    lambda lib: lib.vmap(lib.grad(lambda x: lib.nn.gelu(x, approximate=False)))(lib.numpy.asarray(POINTS[:11])),
)
case.add("leaky_relu_slopes", lambda lib: lib.nn.leaky_relu(X, Y))
case.add("elu_alpha", lambda lib: (lib.nn.elu(X, np.float16(2)), lib.nn.celu(X, 0.5), lib.nn.squareplus(X, Y + 2)))
case.add("glu", lambda lib: (lib.nn.glu(X), lib.nn.glu(Y[:2], axis=0)))

# -- reductions -----------------------------------------------------------------------------------

for _name in REDUCTIONS:
    for _axis in (0, -1, (0, 1), None):
        case.add(f"{_name}_{_axis}", lambda lib, n=_name, a=_axis: getattr(lib.nn, n)(X, axis=a))
    case.add(f"{_name}_where", lambda lib, n=_name: getattr(lib.nn, n)(X, axis=0, where=Y > 0))
    if "softmax" not in _name:  # JAX warns about its own conversion of infinity there
        case.add(f"{_name}_ints", lambda lib, n=_name: getattr(lib.nn, n)(INTS))
    case.add(f"{_name}_narrow", lambda lib, n=_name: getattr(lib.nn, n)(lib.numpy.asarray(X, "bfloat16")))
    case.add(
        f"{_name}_derivative",
        lambda lib, n=_name: lib.grad(lambda x: lib.numpy.sum(getattr(lib.nn, n)(x, axis=-1) ** 2))(
            lib.numpy.asarray(X)
        ),
    )
case.add(
    "softmax_infinite",
    lambda lib: [lib.nn.softmax(np.array(x, np.float32)) for x in ([-np.inf, -np.inf], [np.inf, 1], [-np.inf, 1])],
)
case.add("softmax_empty", lambda lib: lib.nn.softmax(np.zeros((2, 0), np.float32)))
case.add("softmax_nothing_counts", lambda lib: lib.nn.softmax(np.ones(3, np.float32), where=np.zeros(3, bool)))
case.add(
    "softmax_curvature",
    lambda lib: lib.hessian(lambda x: lib.numpy.sum(lib.nn.softmax(x) * Y[0]))(lib.numpy.asarray(X[0])),
)
case.add(
    "log_softmax_where_derivative",
    lambda lib: lib.grad(lambda x: lib.numpy.sum(lib.numpy.where(Y > 0, lib.nn.log_softmax(x, where=Y > 0), 0)))(
        lib.numpy.asarray(X)
    ),
)
case.add(
    "logsumexp_factors",
    lambda lib: (
        lib.nn.logsumexp(X, axis=1, b=Y),
        lib.nn.logsumexp(X, axis=1, b=Y[:1], return_sign=True, keepdims=True),
    ),
)
case.add(
    "logsumexp_edges",
    lambda lib: [lib.nn.logsumexp(np.array(x, np.float32)) for x in ([], [np.inf, 1], [-np.inf, -np.inf])],
)
case.add(
    "logsumexp_complex",
    lambda lib: (
        lib.nn.logsumexp(np.array([1j, 2], np.complex64)),
        lib.nn.logsumexp(np.array([1j, 2], np.complex64), return_sign=True),
    ),
)
for _options in ({"mean": 0.0, "variance": 1.0}, {"algorithm": "stable"}, {"epsilon": 0.1}):
    case.add(f"standardize_{list(_options)}", lambda lib, o=_options: lib.nn.standardize(X, **o))
for _axis in (-1, 0, 1, 2):
    case.add(f"one_hot_{_axis}", lambda lib, a=_axis: lib.nn.one_hot(np.array([[0, 5, -1], [2, 1, 0]]), 3, axis=a))
for _x in ([0, 1], 1, np.array([1, 2], np.uint8)):
    case.add(f"one_hot_of_{_x!r}", lambda lib, x=_x: lib.nn.one_hot(x, 300, dtype="bfloat16"))

# -- attention ------------------------------------------------------------------------------------

_draw = np.random.RandomState(0)
QUERY, KEY, VALUE, BIAS = (
    _draw.randn(*s).astype(np.float32) for s in ((2, 5, 4, 8), (2, 6, 2, 8), (2, 6, 2, 8), (2, 4, 5, 6))
)
MASK, LENGTHS = _draw.rand(2, 4, 5, 6) > 0.3, np.array([3, 4], np.int32)
for _i, _options in enumerate((
    {}, {"is_causal": True}, {"bias": BIAS}, {"mask": MASK}, {"bias": BIAS[:1, :1]}, {"mask": MASK[:, :1], "scale": 0.3}, {"local_window_size": 2},
    {"local_window_size": (1, 2)}, {"query_seq_lengths": LENGTHS}, {"key_value_seq_lengths": LENGTHS}, {"return_residual": True},
    {"query_seq_lengths": LENGTHS, "key_value_seq_lengths": LENGTHS, "mask": MASK, "bias": BIAS, "is_causal": True},
)):  # fmt: skip
    case.add(
        f"attention_{_i}_{'_'.join(_options)}",
        lambda lib, o=_options: lib.nn.dot_product_attention(QUERY, KEY, VALUE, **o),
    )
case.add(
    "attention_without_batch",
    lambda lib: lib.nn.dot_product_attention(QUERY[0], KEY[0], VALUE[0], return_residual=True),
)
case.add(
    "attention_derivative",
    lambda lib: lib.grad(
        lambda q, k, v: lib.numpy.sum(lib.nn.dot_product_attention(q, k, v, is_causal=True) ** 2), (0, 1, 2)
    )(QUERY, KEY, VALUE),
)

# -- initializers ---------------------------------------------------------------------------------

for _name in ("glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"):
    for _dtype in ("float32", "complex64"):
        case.add(
            f"{_name}_{_dtype}",
            lambda lib, n=_name, d=_dtype: getattr(lib.nn.initializers, n)()(lib.random.key(3), (6, 4), d),
        )
for _name in ("normal", "uniform", "truncated_normal"):
    case.add(f"initial_{_name}", lambda lib, n=_name: getattr(lib.nn.initializers, n)(0.3)(lib.random.key(3), (9,)))
case.add(
    "initial_constants",
    lambda lib: [getattr(lib.nn.initializers, n)(lib.random.key(0), (3,), "int32") for n in ("zeros", "ones")],
)
case.add("initial_constant", lambda lib: lib.nn.initializers.constant(3)(lib.random.key(0), (3,)))
for _mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
    case.add(
        f"variance_scaling_{_mode}",
        lambda lib, m=_mode: lib.nn.initializers.variance_scaling(2.0, m, "normal", (0, 1), 3, 2)(
            lib.random.key(3), (3, 4, 2, 5)
        ),
    )


@pytest.mark.parametrize("name", case.names())
def test_same(name):
    narrow = "narrow" in name or "bfloat16" in name
    # a derivative at a Python number is compared by value only
    case.check(
        name,
        rtol=2e-2 if narrow else 2e-5,
        atol=1e-2 if narrow else 1e-5,
        weak="derivative" not in name and "curvature" not in name and "ints" not in name,
    )


def test_short_derivative_of_softmax():
    f = lambda x: jnp.sum(nn.softmax(x, where=Y > 0) * Y)
    expected = np.asarray(velax.grad(f)(jnp.asarray(X)))
    velax.config.update("jax_softmax_custom_jvp", True)
    try:
        np.testing.assert_allclose(np.asarray(velax.grad(f)(jnp.asarray(X))), expected, atol=1e-6)
    finally:
        velax.config.update("jax_softmax_custom_jvp", False)


def test_batched_and_staged():
    np.testing.assert_allclose(np.asarray(velax.vmap(nn.softmax)(X)), np.asarray(nn.softmax(X)), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(velax.jit(nn.gelu)(X)), np.asarray(nn.gelu(X)), rtol=1e-6)
    np.testing.assert_allclose(
        np.asarray(velax.jit(nn.dot_product_attention)(QUERY, KEY, VALUE)),
        np.asarray(nn.dot_product_attention(QUERY, KEY, VALUE)),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_array_equal(np.asarray(velax.vmap(lambda x: nn.one_hot(x, 3))(jnp.arange(3))), np.eye(3))
    with pytest.warns(DeprecationWarning, match="input should be integer-typed; got dtype=float32"):
        np.testing.assert_array_equal(np.asarray(nn.one_hot(jnp.array([0.0, 1.5]), 2)), [[1, 0], [0, 0]])
    named = velax.vmap(lambda _: nn.one_hot(1, 3, axis="i"), axis_name="i")(jnp.zeros(3))
    np.testing.assert_array_equal(np.asarray(named), [0, 1, 0])


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "softmax", "log_softmax"])
def test_jaxprs(name):
    ours, theirs = (lib.make_jaxpr(getattr(lib.nn, name))(X) for lib in (velax, jax))
    primitives = lambda jaxpr: [e.primitive.name for e in jaxpr.eqns if e.primitive.name != "stop_gradient"]
    assert primitives(ours.jaxpr) == primitives(theirs.jaxpr)


def test_softmax_of_integers():
    for f in (nn.softmax, nn.log_softmax):
        np.testing.assert_allclose(np.asarray(f(INTS)), np.asarray(f(INTS.astype(np.float32))), rtol=1e-6)


def test_extreme_values_do_not_overflow():
    big = jnp.array([1e30, -1e30, 80.0, 100.0])
    for f in (nn.softmax, nn.log_softmax, nn.softplus, nn.log_sigmoid, nn.silu, nn.selu, nn.mish, nn.logsumexp):
        assert not np.isnan(np.asarray(f(big))).any(), f
    assert float(velax.grad(nn.softplus)(0.0)) == 0.5


@pytest.mark.parametrize(
    ("f", "kind", "lead"),
    [
        (lambda lib: lib.nn.relu([1.0]), "TypeError", "maximum requires ndarray or scalar arguments, got <class 'list'> at position 0."),
        (lambda lib: lib.nn.sigmoid(1), "TypeError", "logistic does not accept dtype int32."),
        (lambda lib: lib.nn.softmax(X, axis=3), "ValueError", "axis 3 is out of bounds for array of dimension 2"),
        (lambda lib: lib.nn.logsumexp(X, axis=3), "ValueError", "axis 3 is out of bounds for array of dimension 2"),
        (lambda lib: lib.nn.one_hot(np.arange(2), 3, axis=3), "ValueError", "axis 3 is out of bounds for array of dimension 2"),
        (lambda lib: lib.nn.one_hot(1, 3, axis="i"), "NameError", "unbound axis name: i"),
        (lambda lib: lib.nn.glu(X[:, :3]), "AssertionError", "axis size must be divisible by 2"),
        (lambda lib: lib.nn.standardize(X, algorithm="x"), "ValueError", "Unknown algorithm 'x'. Expected 'fast' or 'stable'."),
        (lambda lib: lib.nn.dot_product_attention(QUERY, KEY, VALUE[:, :, :1]), "ValueError", "value shape should be [2, 6, 2, 8]: but got (2, 6, 1, 8)"),
        (lambda lib: lib.nn.dot_product_attention(QUERY[:, :, :3], KEY, VALUE), "ValueError", "The number of query heads must be a multiple of key/value heads, but got 3 vs 2"),
        (lambda lib: lib.nn.dot_product_attention(QUERY, KEY, VALUE, mask=BIAS), "ValueError", "mask dtype should be bool, but got float32"),
        (lambda lib: lib.nn.dot_product_attention(QUERY, KEY, VALUE, implementation="x"), "ValueError", "Unsupported implementation option: x"),
        (lambda lib: lib.nn.initializers.he_normal()(lib.random.key(0), (3,)), "ValueError", "Can't compute input and output sizes of a 1-dimensional weights tensor"),
        (lambda lib: lib.nn.initializers.variance_scaling(1.0, "x", "normal")(lib.random.key(0), (3, 3)), "ValueError", "invalid mode for variance scaling initializer: x"),
        (lambda lib: lib.nn.initializers.variance_scaling(1.0, "fan_in", "x")(lib.random.key(0), (3, 3)), "ValueError", "invalid distribution for variance scaling initializer: x"),
        (lambda lib: lib.scipy.special.ndtr(1), "TypeError", "x.dtype=int32 is not supported"),
    ],
)  # fmt: skip
def test_errors(f, kind, lead):
    import jax.scipy.special  # noqa: F401  (a submodule that JAX loads when asked)

    both_raise(f, kind, lead)


# -- special functions ---------------------------------------------------------------------------

POSITIVE = np.array([0.01, 0.3, 0.5, 0.9], np.float64)
WIDE = np.array([-2.5, -0.5, 0.3, 1.0, 2.7, 4.0, 10.0], np.float64)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("erf", WIDE), ("erfc", WIDE), ("erfinv", POSITIVE), ("expit", WIDE), ("logit", POSITIVE), ("ndtr", WIDE), ("ndtri", POSITIVE), ("entr", WIDE),
        ("gammaln", WIDE), ("digamma", WIDE), ("gamma", WIDE), ("factorial", WIDE[2:]), ("gammasgn", WIDE), ("log_ndtr", np.array([-100.0, -30, -11, -3, 0, 4, 6, 20])),
    ],
)  # fmt: skip
def test_special_functions(name, points):
    expected = getattr(scipy.special, name)(points)
    with velax.enable_x64(True):
        np.testing.assert_allclose(np.asarray(getattr(special, name)(points)), expected, rtol=2e-11, atol=1e-300)
    np.testing.assert_allclose(
        np.asarray(getattr(special, name)(points.astype(np.float32))), expected, rtol=2e-4, atol=1e-44
    )


@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "rel_entr", "kl_div", "betaln", "beta"])
def test_special_functions_of_two_arguments(name):
    x, y = np.array([[0.0], [0.5], [2.5]], np.float32), np.array([0.2, 1.0, 3.0], np.float32)
    if name.startswith("beta"):
        x = x + 1
    np.testing.assert_allclose(
        np.asarray(getattr(special, name)(x, y)), getattr(scipy.special, name)(x, y), rtol=1e-4, atol=1e-6
    )
    slope = lambda a, b: jnp.sum(getattr(special, name)(a, b))
    if not name.startswith("beta"):
        gradient = velax.grad(slope, 1)(jnp.asarray(x), jnp.asarray(y))
        assert np.isfinite(np.asarray(gradient)).all()
    assert float(velax.grad(special.xlogy, 1)(0.0, 0.0)) == 0.0


def test_logaddexp():
    pairs = np.array(
        [[0, 0], [1, 1], [-np.inf, -np.inf], [np.inf, 1], [3, -np.inf], [1000, 1000], [np.nan, 1]], np.float32
    )
    for name in ("logaddexp", "logaddexp2"):
        ours, theirs = (getattr(lib.numpy, name) for lib in (velax, jax))
        np.testing.assert_allclose(np.asarray(ours(*pairs.T)), np.asarray(theirs(*pairs.T)), rtol=1e-6)
        slopes = [
            lib.vmap(lib.grad(f, (0, 1)))(*(lib.numpy.asarray(p) for p in pairs.T))
            for lib, f in ((velax, ours), (jax, theirs))
        ]
        for x, y in zip(*slopes, strict=True):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-6)
    z = np.array([1j, -2 + 3j, 0.5], np.complex64)
    np.testing.assert_allclose(np.asarray(jnp.logaddexp(z, 0.0)), np.log(np.exp(z) + 1), rtol=1e-5)


# -- ravel_pytree --------------------------------------------------------------------------------


def test_ravel_pytree():
    tree = {"a": jnp.ones((2, 3)), "b": 3, "c": jnp.array(True), "d": jnp.asarray([1.5], ml_dtypes.bfloat16)}
    flat, unravel = ravel_pytree(tree)
    expected, _ = jax.flatten_util.ravel_pytree({k: jax.numpy.asarray(np.asarray(v)) for k, v in tree.items()})
    assert flat.dtype == np.float32 and flat.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(flat), np.asarray(expected))
    again = unravel(flat)
    assert {k: (np.shape(v), jnp.asarray(v).dtype) for k, v in again.items()} == {
        k: (np.shape(v), jnp.asarray(v).dtype) for k, v in tree.items()
    }
    with pytest.raises(ValueError, match="unravel function given array of shape"):
        unravel(flat[1:])
    with pytest.raises(TypeError, match="unravel function given array of dtype"):
        unravel(flat.astype("int32"))
    empty, back = ravel_pytree([])
    assert empty.shape == (0,) and back(empty) == []
    weights = {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}
    flat, unravel = ravel_pytree(weights)
    gradient = velax.jit(velax.grad(lambda v: jnp.sum(unravel(v)["w"] ** 2)))(flat)
    np.testing.assert_array_equal(np.asarray(gradient), [0, 0, 2, 2, 2, 2])
