"""Slices, updates, padding, concatenation, gather, scatter, reduce, associative_scan against JAX."""

import itertools

import jax
import numpy as np
import pytest
from lax_differential import assert_same, both_raise, compare

import velax

rng = np.random.default_rng(0)


def values(*shape, dtype=np.float32):
    """Distinct values, in random order."""
    n = int(np.prod(shape))
    return (rng.permutation(n).reshape(shape) - n / 3).astype(dtype)


# -- slices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [None, (1, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("bounds", [((0, 0), (5, 7)), ((1, 2), (4, 7)), ((2, 3), (2, 5)), ((4, 0), (5, 1))])
def test_slice(bounds, strides):
    compare(lambda lib, x: lib.lax.slice(x, *bounds, strides), values(5, 7))


@pytest.mark.parametrize(
    "start, limit, stride, axis", [(None, None, 1, 0), (-3, None, 1, -1), (1, -1, 2, 1), (0, 5, 4, 0)]
)
def test_slice_in_dim(start, limit, stride, axis):
    compare(lambda lib, x: lib.lax.slice_in_dim(x, start, limit, stride, axis), values(5, 7))


def test_index_in_dim():
    compare(
        lambda lib, x: (lib.lax.index_in_dim(x, -1, 1), lib.lax.index_in_dim(x, 2, 0, keepdims=False)), values(5, 7)
    )


@pytest.mark.parametrize("sizes", [(2, 3), (5, 7), (5, 2), (1, 1), (0, 2)])
def test_dynamic_slice(sizes):
    f = lambda lib, x, i, j: lib.lax.dynamic_slice(x, (i, j), sizes)
    compare(f, values(5, 7), np.int32(1), np.int32(-2), axes=(None, 0))
    compare(f, values(5, 7), np.int32(9), np.int32(-20), batch=False)


def test_dynamic_slice_starts():
    x = values(6, 5)
    compare(lambda lib, x, i: lib.lax.dynamic_slice(x, i, (2, 3)), x, np.array([-1, 1], np.int32))
    compare(
        lambda lib, x, i: lib.lax.dynamic_slice(x, (i, 0), (2, 3), allow_negative_indices=False),
        x,
        np.int32(-1),
        axes=(None, 0),
    )
    compare(
        lambda lib, x, i: lib.lax.dynamic_slice(x, (i, i), (2, 3), allow_negative_indices=[False, True]),
        x,
        np.int8(-1),
        axes=(None, 0),
    )
    compare(lambda lib, x, i: lib.lax.dynamic_slice(x, (i, i), (2, 3)), x, np.uint8(100), axes=(None, 0))
    compare(lambda lib, x: lib.lax.dynamic_slice(x, (-2, 3), (2, 3)), x)
    compare(lambda lib, x, i: lib.lax.dynamic_slice_in_dim(x, i, 2, axis=-1), x, np.int32(-3), axes=(None, 0))
    compare(lambda lib, x, i: lib.lax.dynamic_index_in_dim(x, i, 1, keepdims=False), x, np.int32(-1), axes=(None, 0))
    compare(lambda lib, x, i: lib.lax.dynamic_index_in_dim(x, i, -2), x, np.int32(3), axes=(None, 0))


@pytest.mark.parametrize("shape", [(2, 3), (5, 7), (5, 2), (0, 1)])
def test_dynamic_update_slice(shape):
    f = lambda lib, x, u, i, j: lib.lax.dynamic_update_slice(x, u, (i, j))
    compare(f, values(5, 7), values(*shape), np.int32(1), np.int32(-4), axes=(None, 0))
    compare(f, values(5, 7), values(*shape), np.int32(9), np.int32(-20), batch=False)


def test_dynamic_update_in_dim():
    compare(
        lambda lib, x, u, i: lib.lax.dynamic_update_slice_in_dim(x, u, i, axis=-1),
        values(5, 7),
        values(5, 2),
        np.int32(-3),
        axes=(None, 0),
    )
    compare(
        lambda lib, x, u, i: lib.lax.dynamic_update_index_in_dim(x, u, i, 1),
        values(5, 7),
        values(5),
        np.int32(2),
        axes=(None, 0),
    )
    compare(
        lambda lib, x, u, i: lib.lax.dynamic_update_index_in_dim(x, u, i, 0),
        values(6),
        values(),
        np.int32(2),
        axes=(None, 0),
    )


# -- pad, concatenate, split ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [((1, 2, 3), (0, -1, 0)), ((-1, 2, 0), (3, -2, 1)), ((0, 0, 0), (0, 0, 0)), ((-3, -2, 2), (1, 1, 0))]
)
def test_pad(config):
    compare(lambda lib, x, v: lib.lax.pad(x, v, config), values(4, 5), np.float32(2.5), axes=(None, 0), single=False)
    compare(lambda lib, x: lib.lax.pad(x, np.float32(0), config), values(4, 5))
    # JAX fails on the derivative with respect to the value alone
    total, pull = velax.vjp(lambda v: velax.lax.pad(values(4, 5), v, config), np.float32(1))
    padded = velax.lax.pad(np.zeros((4, 5), np.float32), np.float32(1), config)
    np.testing.assert_allclose(pull(np.ones(total.shape, np.float32))[0], np.sum(padded))


def test_concatenate_split():
    compare(lambda lib, x, y, z: lib.lax.concatenate([x, y, z], 1), values(4, 5), values(4, 0), values(4, 2))
    compare(lambda lib, x, y: lib.lax.concatenate([x, y], 0), values(3), values(2))
    compare(lambda lib, x: lib.lax.split(x, (2, 0, 3), 1), values(4, 5))
    compare(lambda lib, x: lib.lax.split(x, (1, 3), -2)[1], values(4, 5))


# -- gather --------------------------------------------------------------------------------------


def indices(*rows):
    return np.array(rows, np.int32)


# operand shape, indices, (offset_dims, collapsed, start_index_map, operand_batching, indices_batching), slice sizes
GATHERS = {
    "rows": ((4, 5), indices([3], [-1], [9], [0]), ((1,), (0,), (0,)), (1, 5)),
    "elements": ((4, 5), indices([3, 4], [0, 5], [1, 1]), ((), (0, 1), (0, 1)), (1, 1)),
    "windows": ((4, 5), indices([1, 2], [3, 4]), ((0, 2), (), (1, 0)), (2, 3)),
    "scalar position": ((6,), indices(2), ((0,), (), (0,)), (3,)),
    "no components": ((3, 2), np.zeros((4, 0), np.int32), ((1, 2), (), ()), (3, 2)),
    "batched": ((3, 5), np.array([[[1], [7]], [[0], [2]], [[4], [-2]]], np.int32), ((), (1,), (1,), (0,), (0,)), (1, 1)),
    "batched, two axes": ((3, 2, 4), np.array([[[1], [3], [9]], [[0], [2], [1]]], np.int32), ((), (2,), (2,), (0, 1), (1, 0)), (1, 1, 1)),
    "batched windows": ((3, 5, 4), np.array([[1], [3], [4]], np.int32), ((1, 2), (), (1,), (0,), (0,)), (1, 2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("mode", [None, "clip", "fill", "promise_in_bounds"])
@pytest.mark.parametrize("case", GATHERS)
def test_gather(case, mode):
    shape, idx, numbers, sizes = GATHERS[case]
    if mode == "promise_in_bounds":
        idx = np.zeros_like(idx)
    f = lambda lib, x, i: lib.lax.gather(x, i, lib.lax.GatherDimensionNumbers(*numbers), sizes, mode=mode)
    compare(f, values(*shape), idx, second=mode == "fill")


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64", "bfloat16"])
def test_gather_fill_values(dtype):
    x = np.asarray(jax.numpy.arange(6).astype(dtype))
    numbers = ((), (0,), (0,))
    idx = indices([2], [-1], [6])
    compare(
        lambda lib, x: lib.lax.gather(x, idx, lib.lax.GatherDimensionNumbers(*numbers), (1,), mode="fill"),
        x,
        grad=False,
    )
    compare(
        lambda lib, x: lib.lax.gather(
            x, idx, lib.lax.GatherDimensionNumbers(*numbers), (1,), mode="fill", fill_value=1
        ),
        x,
        grad=False,
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32])
def test_gather_index_dtypes(dtype):
    idx = np.array([[1], [100], [3]], dtype)
    f = lambda lib, x: lib.lax.gather(x, idx, lib.lax.GatherDimensionNumbers((), (0,), (0,)), (1,), mode="clip")
    compare(f, values(6), batch=False)


def test_index_take():
    i, j = np.array([0, 2, -1, 7], np.int32), np.array([1, 1, 2, -1], np.int32)
    compare(lambda lib, x: lib.lax.index_take(x, (i, j), (0, 2)), values(3, 4, 5))
    compare(lambda lib, x: lib.lax.index_take(x, (i,), (1,)), values(3, 4, 5))


# -- scatter -------------------------------------------------------------------------------------

# operand shape, indices, (update_window_dims, inserted, scatter_dims_to_operand_dims, operand_batching,
# indices_batching), updates shape
SCATTERS = {
    "rows": ((4, 5), indices([3], [-1], [9], [0]), ((1,), (0,), (0,)), (4, 5)),
    "elements": ((4, 5), indices([3, 4], [0, 5], [1, 1]), ((), (0, 1), (0, 1)), (3,)),
    "windows": ((4, 5), indices([1, 2], [3, 4], [2, 0]), ((0, 2), (), (1, 0)), (2, 3, 2)),
    "batched": ((3, 5), np.array([[[1], [7]], [[0], [2]], [[4], [-2]]], np.int32), ((), (1,), (1,), (0,), (0,)), (3, 2)),
}  # fmt: skip
UNIQUE = {
    "rows": indices([3], [1], [9], [0]), "elements": indices([3, 4], [0, 5], [1, 1]), "windows": indices([0, 0], [3, 4], [2, 2]),
    "batched": SCATTERS["batched"][1],
}  # fmt: skip


def scatter_with(name, numbers, idx=None, **options):
    if idx is None:
        return lambda lib, x, i, u: getattr(lib.lax, name)(
            x, i, u, lib.lax.ScatterDimensionNumbers(*numbers), **options
        )
    return lambda lib, x, u: getattr(lib.lax, name)(x, idx, u, lib.lax.ScatterDimensionNumbers(*numbers), **options)


@pytest.mark.parametrize("mode", ["clip", "drop"])
@pytest.mark.parametrize("name", ["scatter_add", "scatter_sub"])
@pytest.mark.parametrize("case", SCATTERS)
def test_scatter_additive(case, name, mode):
    shape, idx, numbers, updates = SCATTERS[case]
    compare(
        scatter_with(name, numbers, mode=mode),
        values(*shape),
        idx,
        values(*updates),
        second=case == "rows",
        batch=(name, mode) == ("scatter_add", "drop"),
    )


def test_scatter_overlapping():
    idx = indices([1], [1], [3], [1])
    compare(scatter_with("scatter_add", ((), (0,), (0,))), values(5), idx, values(4))


@pytest.mark.parametrize("case", ["rows", "elements", "batched"])
def test_scatter_mul(case):
    shape, _, numbers, updates = SCATTERS[case]
    idx = UNIQUE[case]
    compare(
        scatter_with("scatter_mul", numbers, idx, unique_indices=True), values(*shape), values(*updates), second=True
    )
    f = scatter_with("scatter_mul", numbers, idx)
    compare(f, values(*shape), values(*updates), grad=False)
    u = values(*updates)
    compare(lambda lib, x: f(lib, x, u), values(*shape), batch=False)
    x = values(*shape)
    both_raise(
        lambda lib: lib.grad(lambda u: f(lib, x, u).sum())(u),
        NotImplementedError,
        "scatter_mul gradients are only implemented if",
    )


@pytest.mark.parametrize("name", ["scatter_min", "scatter_max"])
@pytest.mark.parametrize("case", ["rows", "elements", "batched"])
def test_scatter_extremal(case, name):
    shape, idx, numbers, updates = SCATTERS[case]
    compare(scatter_with(name, numbers, idx), values(*shape), values(*updates))


@pytest.mark.parametrize("name", ["scatter_min", "scatter_max"])
def test_scatter_extremal_ties(name):
    x, u = np.array([1, 2, 3, 2], np.float32), np.array([2, 2, 1, 3, 2], np.float32)
    compare(scatter_with(name, ((), (0,), (0,)), indices([1], [1], [2], [2], [0])), x, u, batch=False)


@pytest.mark.parametrize("case", SCATTERS)
def test_scatter_unique(case):
    shape, _, numbers, updates = SCATTERS[case]
    compare(
        scatter_with("scatter", numbers, UNIQUE[case], unique_indices=True),
        values(*shape),
        values(*updates),
        second=True,
    )


@pytest.mark.parametrize("case", SCATTERS)
def test_scatter_set(case):
    shape, _, numbers, updates = SCATTERS[case]
    compare(scatter_with("scatter", numbers, UNIQUE[case]), values(*shape), values(*updates))


def test_scatter_last_update_wins_and_carries_the_derivative():
    idx, x, u = indices([1], [1], [1]), values(3), values(3)
    f = lambda x, u: velax.lax.scatter(x, idx, u, velax.lax.ScatterDimensionNumbers((), (0,), (0,)))
    (written,) = np.flatnonzero(u == np.asarray(f(x, u))[1])
    _, tangent = velax.jvp(f, (x, u), (np.float32([1, 2, 3]), np.float32([4, 5, 6])))
    np.testing.assert_array_equal(tangent, [1, [4, 5, 6][written], 3])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "complex64", "bfloat16", "float16"])
def test_scatter_dtypes(dtype):
    x, u = (np.asarray(jax.numpy.arange(n).astype(dtype)) for n in (5, 3))
    for name in ("scatter", "scatter_add", "scatter_mul"):
        compare(scatter_with(name, ((), (0,), (0,)), indices([4], [0], [7])), x, u, grad=False, batch=False)


@pytest.mark.parametrize("unique", [False, True])
def test_scatter_apply(unique):
    idx = indices([1], [3], [9], [-1]) if unique else indices([1], [1], [3], [9], [1])
    shape = (len(idx),)
    f = lambda lib, x: lib.lax.scatter_apply(
        x, idx, lambda v: lib.lax.mul(v, np.float32(2)), lib.lax.ScatterDimensionNumbers((), (0,), (0,)), update_shape=shape, unique_indices=unique
    )  # fmt: skip
    compare(f, values(5), grad=False)
    both_raise(
        lambda lib: lib.grad(lambda x: f(lib, x).sum())(values(5)),
        NotImplementedError,
        "scatter_apply JVP not implemented",
    )


def test_scatter_apply_with_captured_array():
    table = velax.lax.iota(np.float32, 4)
    f = lambda x: velax.lax.scatter_apply(
        x, indices([2], [2]), lambda v: velax.lax.add(v, velax.lax.reduce_sum(table, (0,))), velax.lax.ScatterDimensionNumbers((), (0,), (0,)),
        update_shape=(2,),
    )  # fmt: skip
    np.testing.assert_array_equal(velax.jit(f)(np.zeros(3, np.float32)), [0, 0, 12])


# -- reduce, reduce_precision, associative_scan --------------------------------------------------


@pytest.mark.parametrize(
    "shape, axes", [((4, 5), (0,)), ((3, 4, 5), (0, 2)), ((7,), (0,)), ((1, 3), (0, 1)), ((3, 2), ())]
)
def test_reduce(shape, axes):
    add = lambda lib: lambda a, b: lib.lax.add(a, b)
    compare(lambda lib, x: lib.lax.reduce(x, np.float32(0), add(lib), axes), values(*shape))
    logsum = lambda lib: lambda a, b: lib.lax.log(lib.lax.add(lib.lax.exp(a), lib.lax.exp(b)))
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    compare(lambda lib, x: lib.lax.reduce(x, np.float32(-np.inf), logsum(lib), axes), x, rtol=1e-4, grad=False)


def test_reduce_many_operands():
    def f(lib, x, y):
        def first_greatest(a, b):
            (x, i), (y, j) = a, b
            later = lib.lax.bitwise_or(lib.lax.gt(y, x), lib.lax.bitwise_and(lib.lax.eq(x, y), lib.lax.lt(j, i)))
            return lib.lax.select(later, y, x), lib.lax.select(later, j, i)

        return lib.lax.reduce((x, y), (np.float32(-np.inf), np.int32(100)), first_greatest, (1,))

    compare(f, values(4, 6), np.broadcast_to(np.arange(6, dtype=np.int32), (4, 6)), grad=False)


def test_reduce_recognises_operations():
    x, b = values(3, 4), values(3, 4) > 0
    for name, init in [("add", 0.0), ("mul", 1.0), ("max", -np.inf), ("min", np.inf)]:
        compare(
            lambda lib, x, name=name, init=init: lib.lax.reduce(x, init, getattr(lib.lax, name), (0,)), x, rtol=1e-4
        )
        compare(
            lambda lib, x, name=name: lib.lax.reduce(x, 2.0, getattr(lib.lax, name), (0,)), x, grad=False, rtol=1e-4
        )
    for name, init in [("bitwise_and", True), ("bitwise_or", False), ("bitwise_xor", False)]:
        compare(
            lambda lib, x, name=name, init=init: lib.lax.reduce(x, init, getattr(lib.lax, name), (1,)), b, grad=False
        )
    jaxpr = velax.make_jaxpr(lambda x: velax.lax.reduce(x, -np.inf, velax.lax.max, (0,)))(x)
    assert [e.primitive.name for e in jaxpr.eqns] == ["reduce_max"]


def test_reduce_rejects_captured_tracers():
    captured = lambda lib: lib.make_jaxpr(
        lambda v: lib.lax.reduce(
            np.ones(3, np.float32), np.float32(0), lambda a, b: lib.lax.mul(v, lib.lax.add(a, b)), (0,)
        )
    )
    both_raise(lambda lib: captured(lib)(1.0), NotImplementedError, "Reduction computations can't close over Tracers")


def test_reduce_derivative_keeps_the_initial_value():
    f = lambda x, v: velax.lax.reduce(x, v, lambda a, b: velax.lax.mul(a, b), (0,))
    x, v = np.float32([2, 3, 5]), np.float32(7)
    out, tangent = velax.jvp(f, (x, v), (np.float32([1, 0, 0]), np.float32(1)))
    assert (float(out), float(tangent)) == (210, 105 + 30)
    np.testing.assert_array_equal(velax.vmap(f, in_axes=(None, 0))(x, np.float32([1, 2])), [30, 60])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bits", [(5, 10), (8, 7), (2, 0), (1, 3), (8, 23), (5, 2), (4, 3), (8, 1)])
def test_reduce_precision(bits, dtype):
    special = [
        0.0,
        -0.0,
        1.2345,
        7e4,
        1e-6,
        6e-5,
        -3.1,
        np.nan,
        np.inf,
        -np.inf,
        5e-8,
        0.3,
        1.75,
        65519.0,
        65520.0,
        1e-40,
        3.3e38,
    ]
    x = np.concatenate([np.float32(special), rng.normal(size=50).astype(np.float32)])
    x = np.asarray(jax.numpy.asarray(x).astype(dtype))
    compare(lambda lib, x: lib.lax.reduce_precision(x, *bits), x, grad=False, batch=False, hide_constants=True)


def test_reduce_precision_derivative():
    compare(lambda lib, x: lib.lax.reduce_precision(x, 5, 3), values(4, 5))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6, 7, 16, 21])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    f = lambda lib, x: lib.lax.associative_scan(lib.lax.add, x, reverse=reverse)
    compare(f, values(n), batch=n == 6)


def test_associative_scan_of_pairs_along_an_axis():
    def f(lib, a, b):
        def affine(p, q):
            return lib.lax.mul(q[0], p[0]), lib.lax.add(lib.lax.mul(q[0], p[1]), q[1])

        forward = lib.lax.associative_scan(affine, (a, b), axis=1)
        return forward, lib.lax.associative_scan(affine, (a, b), axis=1, reverse=True)

    a, b = (rng.uniform(-1, 1, (3, 7)).astype(np.float32) for _ in range(2))
    compare(f, a, b, axes=(None, 0))


# -- transformations composed --------------------------------------------------------------------


def test_batched_gradients():
    """Derivative rules under vmap: each example has its own indices."""
    numbers = lambda lib: lib.lax.ScatterDimensionNumbers((), (0,), (0,))
    weigh = lambda lib, x: lib.lax.reduce_sum(
        lib.lax.mul(x, lib.lax.convert_element_type(lib.lax.iota(np.int32, x.shape[0]), np.float32)), (0,)
    )
    functions = {
        "gather": lambda lib, x, u, i: lib.lax.gather(x, i, lib.lax.GatherDimensionNumbers((), (0,), (0,)), (1,), mode="fill"),
        "scatter": lambda lib, x, u, i: lib.lax.scatter(x, i, u, numbers(lib)),
        "scatter_max": lambda lib, x, u, i: lib.lax.scatter_max(x, i, u, numbers(lib)),
        "dynamic_slice": lambda lib, x, u, i: lib.lax.dynamic_slice(x, (lib.lax.index_in_dim(i, 0, 0, False)[0],), (2,)),
        "dynamic_update_slice": lambda lib, x, u, i: lib.lax.dynamic_update_slice(x, u, (lib.lax.index_in_dim(i, 0, 0, False)[0],)),
        "sort": lambda lib, x, u, i: lib.lax.sort(x),
        "top_k": lambda lib, x, u, i: lib.lax.top_k(x, 3)[0],
        "associative_scan": lambda lib, x, u, i: lib.lax.associative_scan(lib.lax.mul, lib.lax.sin(x)),
    }  # fmt: skip
    x, u = values(3, 6), values(3, 2) + 0.5
    i = np.array([[[0], [9]], [[3], [1]], [[2], [5]]], np.int32)
    for name, f in functions.items():
        gradients = lambda lib, f=f: lib.vmap(lib.grad(lambda x, u, i: weigh(lib, f(lib, x, u, i)), argnums=(0, 1)))(
            x, u, i
        )
        expected = jax.jit(lambda gradients=gradients: gradients(jax))()
        assert_same(gradients(velax), expected, what=name)
        assert_same(velax.jit(lambda gradients=gradients: gradients(velax))(), expected, what=f"{name}, jit")


# -- messages ------------------------------------------------------------------------------------

X = np.ones((4, 5), np.float32)
I31 = np.zeros((3, 1), np.int32)


def gather(numbers, sizes, idx=I31):
    return lambda lib: lib.lax.gather(X, idx, lib.lax.GatherDimensionNumbers(*numbers), sizes)


ROWS = np.ones((3, 5), np.float32)


def scatter(numbers, updates=ROWS, idx=I31):
    return lambda lib: lib.lax.scatter_add(X, idx, updates, lib.lax.ScatterDimensionNumbers(*numbers))


ERRORS = [
    (lambda lib: lib.lax.slice(X, (1,), (2, 3)), TypeError, "slice start_indices must have length equal to the number of dimensions"),
    (lambda lib: lib.lax.slice(X, (1, 0), (2,)), TypeError, "slice limit_indices must have the same length as start_indices"),
    (lambda lib: lib.lax.slice(X, (1, 0), (2, 9)), TypeError, "slice limit_indices must be less than or equal to operand shape"),
    (lambda lib: lib.lax.slice(X, (-1, 0), (2, 3)), TypeError, "slice start_indices must have every element be nonnegative, got (-1, 0)."),
    (lambda lib: lib.lax.slice(X, (3, 0), (2, 3)), TypeError, "slice limit_indices must be greater than or equal to start_indices"),
    (lambda lib: lib.lax.slice(X, (0, 0), (2, 3), (1,)), TypeError, "slice strides must have length equal to the number of dimensions"),
    (lambda lib: lib.lax.index_in_dim(X, 9, 0), IndexError, "index 9 is out of bounds for axis 0 with size 4"),
    (lambda lib: lib.lax.dynamic_slice(X, (0,), (2, 3)), ValueError, "Length of slice indices must match number of operand dimensions (1 vs (4, 5))"),
    (lambda lib: lib.lax.dynamic_slice(X, (0, 0), (2, 9)), TypeError, "slice slice_sizes must be less than or equal to operand shape"),
    (lambda lib: lib.lax.dynamic_slice(X, (0.0, 0.0), (2, 1)), TypeError, "index arguments to dynamic_slice must be integers of the same type"),
    (lambda lib: lib.lax.dynamic_update_slice(X, np.ones((5, 1), np.float32), (0, 0)), TypeError, "update shape must be smaller than operand shape"),
    (lambda lib: lib.lax.dynamic_update_slice(X, np.ones(5, np.float32), (0, 0)), TypeError, "update must have the same rank as operand"),
    (lambda lib: lib.lax.dynamic_update_slice(X, np.ones((1, 1), np.int32), (0, 0)), TypeError, "requires arguments to have the same dtypes"),
    (lambda lib: lib.lax.pad(X, 0, ((0, 0, 0),) * 2), TypeError, "pad operand and padding_value must be same dtype: got float32 and int32."),
    (lambda lib: lib.lax.pad(X, 0.0, ((0, 0, 0),)), ValueError, "length of padding_config must equal the number of axes of operand"),
    (lambda lib: lib.lax.pad(X, 0.0, ((0, 0, -1), (0, 0, 0))), ValueError, "interior padding in padding_config must be nonnegative"),
    (lambda lib: lib.lax.pad(X, 0.0, ((0, -9, 0), (0, 0, 0))), ValueError, "Dimension size after padding is not at least 0, got result shape (-5, 5)"),
    (lambda lib: lib.lax.concatenate([], 0), ValueError, "concatenate requires a non-empty sequences of arrays"),
    (lambda lib: lib.lax.concatenate([X, X], 2), TypeError, "concatenate dimension out of bounds: dimension 2 for shapes (4, 5), (4, 5)."),
    (lambda lib: lib.lax.concatenate([X, X[0]], 0), TypeError, "Cannot concatenate arrays with different numbers of dimensions: got (4, 5), (5,)."),
    (lambda lib: lib.lax.concatenate([X, X[:, 1:]], 0), TypeError, "Cannot concatenate arrays with shapes that differ in dimensions other than"),
    (lambda lib: lib.lax.concatenate([X, X.astype(int)], 0), TypeError, "lax.concatenate requires arguments to have the same dtypes, got float32, int32"),
    (lambda lib: lib.lax.split(X, (1, 2), 0), ValueError, "Sum of sizes 3 must be equal to dimension 0 of the operand shape [4, 5]"),
    (lambda lib: lib.lax.split(X, (6, -2), 0), ValueError, "Sizes passed to split must be nonnegative, got [6, -2]"),
    (gather(((1,), (0,), (0,)), (1,)), TypeError, "Gather op must have one slice size for every input dimension"),
    (gather(((1,), (0,), (0,)), (1, 6)), TypeError, "Slice size at index 1 in gather op is out of range, must be within [0, 5 + 1), got 6."),
    (gather(((1,), (0,), (0,)), (2, 5)), TypeError, "Gather op can only collapse slice dims with bound 1, but bound is 2 for index 0 at position 0."),
    (gather(((1, 0), (0,), (0,)), (1, 5)), TypeError, "offset_dims in gather op must be sorted; got (1, 0)"),
    (gather(((5,), (0,), (0,)), (1, 5)), TypeError, "Offset dimension 0 in gather op is out of bounds; got 5, but should have been in [0, 2)"),
    (gather(((1, 1), (), (0,)), (1, 5)), TypeError, "offset_dims in gather op must not repeat; got: (1, 1)."),
    (gather(((1,), (0,), (0, 1)), (1, 5)), TypeError, "Gather op has 2 elements in start_index_map and the bound of dimension index_vector_dim=1"),
    (gather(((1,), (0,), (7,)), (1, 5)), TypeError, "Invalid start_index_map; domain is [0, 2), got: 0->7."),
    (gather(((1,), (7,), (0,)), (1, 5)), TypeError, "Invalid collapsed_slice_dims set in gather op; valid range is [0, 2); got: 7."),
    (gather(((), (0,), (0,), (1,), (0,)), (1, 1)), TypeError, "requires operand batching dimensions and indices batching dimensions to have the same shape"),
    (gather(((), (0,), (0,), (0,), (0,)), (1, 1)), TypeError, "collapsed_slice_dims and operand_batching_dims in gather op must be disjoint"),
    (gather(((), (0,), (0,), (1,), (1,)), (1, 1)), TypeError, "Gather op cannot have the index vector dimension as a batching dimension; got (1,)."),
    (gather(((1,), (0,), (0,)), (1, 5), I31.astype(np.float32)), ValueError, "indices must have an integer type"),
    (scatter(((1,), (0,), (0,)), np.ones((3, 6), np.float32)), TypeError, "Bounds of the window dimensions of updates must not exceed"),
    (scatter(((1,), (0,), (0,)), np.ones((2, 5), np.float32)), TypeError, "Bounds of the scatter dimensions of updates must be the same"),
    (scatter(((1,), (0,), (0,)), np.ones(5, np.float32)), TypeError, "Updates tensor must be of rank 2; got 1."),
    (scatter(((1,), (0,), (0,)), np.ones((3, 5), np.int32)), TypeError, "requires arguments to have the same dtypes, got float32, int32."),
    (scatter(((1,), (0,), (0, 1))), TypeError, "Scatter op has 2 elements in scatter_dims_to_operand_dims"),
    (scatter(((5,), (0,), (0,))), TypeError, "Invalid update_window_dims set in scatter op; valid range is [0, 2); got: 5."),
    (scatter(((1,), (7,), (0,))), TypeError, "Invalid inserted_window_dims set in scatter op; valid range is [0, 2); got: 7."),
    (scatter(((1,), (0,), (7,))), TypeError, "Invalid scatter_dims_to_operand_dims mapping; domain is [0, 2), got: 0->7."),
    (lambda lib: lib.lax.reduce(X, 0.0, lib.lax.add, (2,)), ValueError, "reduction axes (2,) contains out-of-bounds indices for float32[4,5]."),
    (lambda lib: lib.lax.reduce(X, X[0], lib.lax.add, (0,)), ValueError, "reduce found non-scalar initial value: [(5,)]"),
    (lambda lib: lib.lax.reduce((X, X), 0.0, lib.lax.add, (0,)), ValueError, "Operands must have the same tree structure as init_values"),
    (lambda lib: lib.lax.reduce_precision(X, 0, 3), ValueError, "reduce_precision: exponent_bits must be positive; got 0"),
    (lambda lib: lib.lax.associative_scan(3, X), TypeError, "lax.associative_scan: fn argument should be callable."),
    (lambda lib: lib.lax.associative_scan(lib.lax.add, (X, X[1:])), ValueError, "Array inputs to associative_scan must have the same first dimension."),
]  # fmt: skip


@pytest.mark.parametrize("f, kind, phrase", ERRORS, ids=[phrase[:40] for _, _, phrase in ERRORS])
def test_errors(f, kind, phrase):
    both_raise(f, kind, phrase)


# -- structure -----------------------------------------------------------------------------------


def equations(lib, f, *args):
    return [(e.primitive.name, sorted(e.params)) for e in lib.make_jaxpr(lambda *xs: f(lib, *xs))(*args).eqns]


STRUCTURES = [
    lambda lib, x: lib.lax.slice(x, (1, 0), (3, 5)),
    lambda lib, x: lib.lax.index_in_dim(x, -1, 1, keepdims=False),
    lambda lib, x: lib.lax.dynamic_slice(x, (-1, 0), (2, 3)),
    lambda lib, x: lib.lax.pad(x, np.float32(0), ((1, 2, 3), (0, -1, 0))),
    lambda lib, x: lib.lax.concatenate([x, x], 0),
    lambda lib, x: lib.lax.split(x, (1, 3), 0),
    lambda lib, x: lib.lax.gather(x, I31, lib.lax.GatherDimensionNumbers((1,), (0,), (0,)), (1, 5)),
    lambda lib, x: lib.lax.scatter_add(
        x, I31, np.ones((3, 5), np.float32), lib.lax.ScatterDimensionNumbers((1,), (0,), (0,))
    ),
    lambda lib, x: lib.lax.reduce(x, 1.0, lambda a, b: lib.lax.add(a, b), (0,)),
    lambda lib, x: lib.lax.reduce_precision(x, 5, 10),
    lambda lib, x: lib.vmap(lambda x, i: lib.lax.gather(x, i, lib.lax.GatherDimensionNumbers((), (0,), (0,)), (1,)))(
        x, np.zeros((4, 3, 1), np.int32)
    ),
    lambda lib, x: lib.vjp(
        lambda x: lib.lax.gather(x, I31, lib.lax.GatherDimensionNumbers((1,), (0,), (0,)), (1, 5)), x
    )[1](np.ones((3, 5), np.float32)),
]


@pytest.mark.parametrize("number", range(len(STRUCTURES)))
def test_structure(number):
    f = STRUCTURES[number]
    assert equations(velax, f, X) == equations(jax, f, X)


def test_batched_gather_numbers():
    """Batching of gather and scatter gives JAX's dimension numbers."""
    numbers = ((), (0,), (0,))
    for in_axes in itertools.product((None, 0), repeat=2):
        if not any(d == 0 for d in in_axes):
            continue
        found = []
        for lib in (velax, jax):
            f = lib.vmap(
                lambda x, i, lib=lib: lib.lax.gather(x, i, lib.lax.GatherDimensionNumbers(*numbers), (1,)),
                in_axes=in_axes,
            )
            args = [
                np.zeros(((4,) if d == 0 else ()) + s, t)
                for d, s, t in zip(in_axes, ((5,), (3, 1)), (np.float32, np.int32), strict=True)
            ]
            params = lib.make_jaxpr(f)(*args).eqns[-1].params
            found.append((tuple(params["dimension_numbers"]), params["slice_sizes"]))
        assert found[0] == found[1]
