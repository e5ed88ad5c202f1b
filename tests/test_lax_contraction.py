"""dot_general, dot, batch_matmul against JAX."""

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lax_differential import assert_same, both_raise, compare, random_like

import velax

rng = np.random.default_rng(0)
MATMUL = (((1,), (0,)), ((), ()))
BATCHED = (((2,), (1,)), ((0,), (0,)))

# dimension numbers, lhs shape, rhs shape
CASES = {
    "matrix-matrix": (MATMUL, (4, 5), (5, 3)),
    "matrix-vector": (MATMUL, (4, 5), (5,)),
    "vector-vector": ((((0,), (0,)), ((), ())), (5,), (5,)),
    "outer": ((((), ()), ((), ())), (4,), (2, 3)),
    "batched": (BATCHED, (2, 4, 5), (2, 5, 3)),
    "transposed": ((((0,), (1,)), ((), ())), (5, 4), (3, 5)),
    "permuted": ((((3, 1), (0, 2)), ((2,), (3,))), (2, 4, 5, 6), (6, 3, 4, 5)),
    "two batch axes": ((((1,), (0,)), ((2, 0), (1, 2))), (2, 4, 3), (4, 3, 2)),
    "elementwise": ((((), ()), ((0, 1), (0, 1))), (3, 4), (3, 4)),
    "empty contraction": (MATMUL, (4, 0), (0, 3)),
    "empty result": (MATMUL, (0, 5), (5, 3)),
    "scalars": ((((), ()), ((), ())), (), ()),
}


def random(shape, dtype=np.float32):
    return random_like(np.zeros(shape, dtype), int(rng.integers(1 << 30)))


def dot_general(numbers, **options):
    return lambda lib, x, y: lib.lax.dot_general(x, y, numbers, **options)


@pytest.mark.parametrize("case", CASES)
def test_dot_general(case):
    numbers, left, right = CASES[case]
    small = max(len(left), len(right)) < 4
    compare(dot_general(numbers), random(left), random(right), second=small, axes=(None, 0, -1) if small else (None, 0))


@pytest.mark.parametrize("case", ["matrix-matrix", "permuted"])
def test_complex(case):
    numbers, left, right = CASES[case]
    compare(dot_general(numbers), random(left, np.complex64), random(right, np.complex64), batch=False)
    compare(dot_general(numbers), random(left, np.complex64), random(right), batch=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype):
    x, y = random((8, 300)).astype(dtype), random((300, 6)).astype(dtype)
    compare(dot_general(MATMUL), x, y, batch=False, rtol=2e-2, atol=2e-2)
    compare(dot_general(MATMUL, preferred_element_type=np.float32), x, y, batch=False, rtol=1e-2, atol=1e-2)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    wide = velax.lax.dot_general(x, y, MATMUL, preferred_element_type=np.float32)
    np.testing.assert_allclose(wide, exact, rtol=1e-4, atol=1e-4)  # sums are in float32, not in the operands' dtype


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "bool"])
def test_integers(dtype):
    x, y = (rng.integers(0, 120, shape).astype(dtype) for shape in ((4, 50), (50, 3)))
    compare(dot_general(MATMUL), x, y, grad=False)
    for preferred in (np.int32, np.float32, np.uint32):
        compare(dot_general(MATMUL, preferred_element_type=preferred), x, y, grad=False, batch=False)


MIXED = [
    ("float32", "bfloat16", None), ("bfloat16", "float32", None), ("int32", "float32", None), ("int32", "uint8", None), ("int8", "uint8", None), ("float16", "bfloat16", None),
    ("complex64", "float32", None), ("float32", "float32", "bfloat16"), ("float32", "float32", "float16"), ("bfloat16", "bfloat16", "float16"),
    ("float32", "float32", "complex64"), ("complex64", "complex64", "float32"), ("uint8", "uint8", "int8"), ("float16", "float16", "float32"),
]  # fmt: skip


@pytest.mark.parametrize("left, right, preferred", MIXED)
def test_mixed_dtypes(left, right, preferred):
    scale = 8 if "int8" in left else 3
    x, y = (
        np.asarray(jax.numpy.asarray(scale * np.abs(random(s))).astype(t)) for s, t in (((4, 5), left), ((5, 3), right))
    )
    differentiable = not (
        left.startswith(("int", "uint")) or preferred == "complex64" or (left, preferred) == ("complex64", "float32")
    )
    compare(
        dot_general(MATMUL, preferred_element_type=preferred),
        x,
        y,
        grad=differentiable,
        batch=False,
        rtol=2e-2,
        atol=2e-2,
    )


@pytest.mark.parametrize("left", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("right", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float32", "int8", "bool"])
@pytest.mark.parametrize("preferred", [None, "float8_e5m2", "float32"])
def test_floats_of_8_bits(left, right, preferred):
    x, y = np.full((3, 4), 1.5).astype(left), np.full((4, 5), 2).astype(right)
    for a, b in ((x, y), (y.T, x.T)):
        compare(dot_general(MATMUL, preferred_element_type=preferred), a, b, grad=False, batch=False)


def test_floats_of_8_bits_and_complex():
    """By itself: JAX crashes where it folds such a product of constants."""
    x, y = np.full((3, 4), 1.5).astype("float8_e4m3fn"), np.full((4, 5), 2 + 1j, np.complex64)
    for a, b, preferred in ((x, y, None), (y.T, x.T, "complex64"), (x, x.T, "complex64")):
        got = velax.lax.dot_general(a, b, MATMUL, preferred_element_type=preferred)
        assert got.dtype == np.complex64
        np.testing.assert_array_equal(got, a.astype(np.complex64) @ b.astype(np.complex64))


@pytest.mark.parametrize(
    "precision",
    ["default", "high", "highest", "float32", "bfloat16", ("highest", "default"), "F32_F32_F32", "BF16_BF16_F32_X3"],
)
def test_precision(precision):
    x, y = random((4, 5)), random((5, 3))
    compare(dot_general(MATMUL, precision=precision), x, y, batch=False)
    printed = []
    for lib in (velax, jax):
        (eqn,) = lib.make_jaxpr(lambda x, y, lib=lib: lib.lax.dot_general(x, y, MATMUL, precision=precision))(x, y).eqns
        printed.append(str(eqn.params["precision"]).replace("<", "").replace(">", ""))
    assert printed[0] == printed[1]


def test_default_precision_is_configured():
    x = random((3, 3))
    with velax._lang.config.default_matmul_precision("highest"):
        (eqn,) = velax.make_jaxpr(lambda x: velax.lax.dot(x, x))(x).eqns
    assert eqn.params["precision"] == (velax.lax.Precision.HIGHEST,) * 2


def test_algorithms():
    x, y = random((4, 5)), random((5, 3))
    algorithm = lambda lib: lib.lax.DotAlgorithm(
        np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)
    )
    out = velax.lax.dot_general(x, y, MATMUL, precision=algorithm(velax))
    np.testing.assert_allclose(out, x @ y, rtol=1e-5)
    with pytest.raises(ValueError, match="The precision 'TF32_TF32_F32' is not supported by dot_general on CPU"):
        velax.lax.dot_general(x, y, MATMUL, precision="TF32_TF32_F32")


def test_dot_and_batch_matmul():
    for left, right in [((4, 5), (5, 3)), ((4, 5), (5,)), ((4,), (4, 5)), ((4,), (4,))]:
        compare(lambda lib, x, y: lib.lax.dot(x, y), random(left), random(right))
    compare(
        lambda lib, x, y: lib.lax.dot(x, y, dimension_numbers=BATCHED),
        random((2, 4, 5)),
        random((2, 5, 3)),
        batch=False,
    )
    compare(lambda lib, x, y: lib.lax.batch_matmul(x, y), random((2, 3, 4, 5)), random((2, 3, 5, 2)), axes=(None, 0))


def test_weak_types():
    f = lambda lib: lib.make_jaxpr(
        lambda x, y: (
            lib.lax.dot_general(x, y, (((), ()), ((), ()))),
            lib.lax.dot_general(x, np.float32(2), (((), ()), ((), ()))),
        )
    )
    assert [v.aval.weak_type for v in f(velax)(1.0, 2.0).jaxpr.outvars] == [
        v.aval.weak_type for v in f(jax)(1.0, 2.0).jaxpr.outvars
    ]


def structure(lib, numbers, left, right, transform):
    """Names, dimension numbers and permutations of the equations."""
    f = lambda x, y: lib.lax.dot_general(x, y, numbers)
    jaxpr = lib.make_jaxpr(transform(lib, f))(left, right)
    as_tuples = lambda v: tuple(map(as_tuples, v)) if isinstance(v, (tuple, list)) else int(v)
    return [
        (e.primitive.name, as_tuples(e.params.get("dimension_numbers", e.params.get("permutation", ())))) for e in jaxpr.eqns
        if e.primitive.name in ("dot_general", "transpose")
    ]  # fmt: skip


@pytest.mark.parametrize("case", ["matrix-matrix", "batched", "permuted", "two batch axes", "matrix-vector"])
def test_structure(case):
    """Batching and transposition give JAX's dimension numbers, so the same products are computed."""
    numbers, left, right = CASES[case]
    x, y = random(left), random(right)
    ct = random(velax.eval_shape(lambda x, y: velax.lax.dot_general(x, y, numbers), x, y).shape)
    same = lambda transform, *args: (
        structure(velax, numbers, *args, transform) == structure(jax, numbers, *args, transform)
    )
    pulled = lambda lib, f: lambda x, y: lib.vjp(f, x, y)[1](ct)
    assert sorted(structure(velax, numbers, x, y, pulled)) == sorted(structure(jax, numbers, x, y, pulled))
    stack = lambda v, d: np.stack([v] * 7, d)
    assert same(lambda lib, f: lib.vmap(f), stack(x, 0), stack(y, 0))
    assert same(lambda lib, f: lib.vmap(f, in_axes=(0, None)), stack(x, 0), y)
    assert same(lambda lib, f: lib.vmap(f, in_axes=(None, 1)), x, stack(y, 1))


@st.composite
def products(draw):
    """Dimension numbers and shapes of a product: axes of each operand in any order."""
    size = st.integers(1, 4)
    batch, contract = draw(st.lists(size, max_size=2)), draw(st.lists(size, max_size=2))
    sides = []
    for free in (draw(st.lists(size, max_size=2)), draw(st.lists(size, max_size=2))):
        axes = (
            [("b", i) for i in range(len(batch))]
            + [("c", i) for i in range(len(contract))]
            + [("f", i) for i in range(len(free))]
        )
        order = draw(st.permutations(axes))
        sizes = {"b": batch, "c": contract, "f": free}
        where = lambda kind, count, order=order: tuple(order.index((kind, i)) for i in range(count))
        sides.append((tuple(sizes[kind][i] for kind, i in order), where("c", len(contract)), where("b", len(batch))))
    (left, lc, lb), (right, rc, rb) = sides
    return ((lc, rc), (lb, rb)), left, right


@given(products())
@settings(max_examples=12, deadline=None)
def test_any_dimension_numbers(product):
    numbers, left, right = product
    x, y = random(left), random(right)
    assert_same(velax.lax.dot_general(x, y, numbers), jax.lax.dot_general(x, y, numbers), what=str(product))
    out, pull = velax.vjp(lambda x, y: velax.lax.dot_general(x, y, numbers), x, y)
    ct = random(out.shape)
    theirs = jax.jit(lambda: jax.vjp(lambda x, y: jax.lax.dot_general(x, y, numbers), x, y)[1](ct))()
    assert_same(pull(ct), theirs, what=f"vjp {product}")


X = np.ones((4, 5), np.float32)


def dot(numbers, x=X, y=X, **options):
    return lambda lib: lib.lax.dot_general(x, y, numbers, **options)


ERRORS = [
    (dot(MATMUL), TypeError, "dot_general requires contracting dimensions to have the same shape, got (5,) and (4,)."),
    (dot((((1,), (1,)), ((0,), (0,))), y=X[:3]), TypeError, "dot_general requires lhs batch dimensions and rhs batch dimensions to have the same shape, got (4,) and (3,)."),
    (dot((((0, 0), (0, 0)), ((), ()))), TypeError, "dot_general requires lhs contracting dimensions to be distinct, got lhs_contracting (0, 0)."),
    (dot((((), ()), ((0,), ()))), TypeError, "dot_general requires equal numbers of lhs_batch and rhs_batch dimensions, got lhs_batch (0,) and rhs_batch ()."),
    (dot((((0,), (0,)), ((0,), (0,)))), TypeError, "dot_general requires lhs batch dimensions to be disjoint from contracting dimensions, got lhs_batch (0,)"),
    (dot((((5,), (0,)), ((), ()))), TypeError, "dot_general requires lhs dimension numbers to be nonnegative and less than the number of axes of the lhs value"),
    (dot((((-1,), (1,)), ((), ()))), TypeError, "dot_general requires lhs dimension numbers to be nonnegative and less than the number of axes"),
    (dot(MATMUL, y=X.T, precision="foo"), ValueError, "Precision argument must be one of:"),
    (dot(MATMUL, y=X.T, precision=("high", None)), ValueError, "Precision argument must be one of:"),
    (dot(MATMUL, X.astype(np.int32), X.T.astype(np.int32), preferred_element_type=np.int8), TypeError, "`preferred_element_type` must not be narrower than the original type"),
    (lambda lib: lib.lax.dot(X, X), ValueError, "dimension_numbers must be specified when not performing simple un-batched matrix-matrix"),
    (lambda lib: lib.lax.batch_matmul(X, X[0]), ValueError, "Arguments to batch_matmul must be at least 2D, got 2, 1"),
    (lambda lib: lib.lax.batch_matmul(X, X[None]), ValueError, "Arguments to batch_matmul must have same ndim, got 2, 3"),
]  # fmt: skip


@pytest.mark.parametrize("f, kind, phrase", ERRORS, ids=[phrase[:60] for _, _, phrase in ERRORS])
def test_errors(f, kind, phrase):
    both_raise(f, kind, phrase)
