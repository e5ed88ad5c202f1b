"""Indexing, updates and the functions around them: values against NumPy and JAX, staged
structure and errors against JAX.
"""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jjnp
import numpy as np
import pytest
from both_libraries import agree
from hypothesis import HealthCheck, given, settings, strategies as st

import velax
import velax.numpy as jnp
from velax.lax._index_plan import Slice, ds
from velax.numpy._at import _scatter_call

# -- helpers -------------------------------------------------------------------------------------


def cube():
    return np.arange(24, dtype=np.float32).reshape(2, 3, 4)


I = np.array
MASK2 = I([True, False])
MASK3 = I([False, True, True])

BASIC = [
    0, -1, (1, 2), (1, -1, 3), slice(None), slice(0, 1), slice(None, None, -1), (slice(None), slice(None, None, 2)),
    (slice(None), slice(2, 0, -1)),
    ..., (..., 0), (0, ...), (..., slice(1, 3)), None, (None, 0), (0, None, slice(1, 2)), (..., None),
    (slice(None), None, 1), (), (slice(5, 9),),
    (slice(1, 0),), (0, slice(None, None, -2), None), (np.int64(1), np.int8(-1)), (..., slice(3, None, -3)),
    (slice(None), 1, ..., 2),
]  # fmt: skip
ADVANCED = [
    I([0, 1, 1]), I([-1, 0]), I([[0], [1]]), (I([0, 1]), I([2, 0])), (slice(None), I([2, 0])),
    (I([0, 1]), slice(None), I([3, 0])),
    (0, slice(None), I([3, 0])), (slice(None), 1, I([3, 0])), (slice(None), I([1, 2]), 2), (I([0, 1]), slice(1, 3)),
    (slice(None, None, -1), I([0, 2])),
    (I([[0], [1]]), I([0, 2])), (I([0, 1]), None, I([2, 0])), (None, I([0, 1]), I([2, 0])), (..., I([0, 1])),
    (I([1]), ..., I([0, 1])),
    (slice(None), I([0, 1], np.uint8)), I([0, 1], np.int8), MASK2, (slice(None), MASK3), (MASK2, slice(None), I([1])),
    (..., I([True, False, True, False])),
    (np.ones((2, 3), bool),), (np.ones((2, 3), bool), 1), I([], int), ([0, 1], slice(None)), (0, [2, 1]), True, False,
    (I([0]), slice(None, None, 2)),
    (slice(0, 1), I([[1, 2]]), slice(1, 3)),
]  # fmt: skip


# -- x[index] ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=repr)
def test_index_is_numpys(index):
    x = cube()
    expected = x[index]
    ours = jnp.asarray(x)
    for got in (ours[index], velax.jit(lambda a: a[index])(ours)):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(got), expected)


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=repr)
def test_set_is_numpys(index):
    x = cube()
    expected = x.copy()
    expected[index] = -5
    ours = jnp.asarray(x)
    for got in (ours.at[index].set(-5), velax.jit(lambda a: a.at[index].set(-5.0))(ours)):
        np.testing.assert_array_equal(np.asarray(got), expected)


@pytest.mark.parametrize(
    "index",
    [
        1,
        slice(1, 3),
        (slice(None), None, 0),
        (slice(None, None, -1), I([0, 2])),
        I([0, 0, 1]),
        MASK2,
        (I([0, 1]), slice(None), I([3, 0])),
    ],
    ids=repr,
)
def test_updates_take_arrays(index):
    x = cube()
    y = np.arange(x[index].size, dtype=np.float32).reshape(x[index].shape)
    expected = x.copy()
    np.add.at(expected, index, y)
    np.testing.assert_array_equal(np.asarray(jnp.asarray(x).at[index].add(y)), expected)
    if not isinstance(index, np.ndarray) or index.dtype == bool:
        expected = x.copy()
        expected[index] = y
        np.testing.assert_array_equal(np.asarray(jnp.asarray(x).at[index].set(y)), expected)


entry = st.one_of(
    st.integers(-2, 1), st.none(), st.slices(3), st.just(Ellipsis),
    st.lists(st.integers(-2, 1), min_size=2, max_size=2).map(np.array),
    st.lists(st.integers(0, 1), min_size=1, max_size=1).map(lambda v: np.array([v])),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(entry, max_size=4).map(tuple))
def test_any_combination(index):
    x = np.arange(18, dtype=np.int32).reshape(3, 2, 3)
    try:
        expected = x[index]
    except IndexError:
        with pytest.raises((IndexError, TypeError)):
            jnp.asarray(x)[index]
        return
    # eager, compiled as one program for all indices of a form, and staged with the index as constants
    np.testing.assert_array_equal(np.asarray(jnp.asarray(x)[index]), expected)
    assert velax.eval_shape(lambda a: a[index], x).shape == expected.shape


@pytest.mark.parametrize("index", [7, -9, I([7, -9]), (0, 5), (slice(None), I([3, -4]))], ids=repr)
@pytest.mark.parametrize("mode", [None, "clip", "fill", "promise_in_bounds"])
def test_out_of_bounds(index, mode):
    agree(lambda m, p: m.asarray(cube()).at[index].get(mode=mode))
    if mode in (None, "clip"):
        agree(lambda m, p: m.asarray(cube()).at[index].set(7, mode=mode))


def test_out_of_bounds_index_is_clipped():
    x = jnp.arange(5)
    assert int(x[10]) == 4 and int(x[-10]) == 0
    assert int(velax.jit(lambda x, i: x[i])(x, 10)) == 4
    agree(lambda m, p: m.arange(5).at[10].get(fill_value=7))
    agree(lambda m, p: m.arange(5).at[10].get(mode="fill", fill_value=7))
    agree(lambda m, p: m.arange(5).at[m.asarray([1, 10])].get(mode="fill", fill_value=-1))
    agree(lambda m, p: m.arange(5).at[-1].get(mode="fill", fill_value=9, wrap_negative_indices=False))
    agree(lambda m, p: m.arange(5).at[m.asarray([-1, 1])].set(9, wrap_negative_indices=False))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32", "complex64"])
def test_dtypes_and_fill(dtype):
    agree(lambda m, p: m.asarray([0, 1, 2]).astype(dtype).at[m.asarray([0, 5])].get(mode="fill"))
    agree(lambda m, p: m.asarray([0, 1, 2]).astype(dtype)[m.asarray([2, 0])])
    agree(lambda m, p: m.asarray([0, 1, 2]).astype(dtype).at[1].set(1))


def test_traced_scalars():
    x = cube()
    for index in [
        lambda i, j: (i,),
        lambda i, j: (i, j),
        lambda i, j: (slice(None), j, 1),
        lambda i, j: (i, slice(None), None, j),
        lambda i, j: (i, slice(None, None, 2)),
    ]:
        for i, j in [(0, 1), (-1, -2)]:
            got = velax.jit(lambda x, i, j, index=index: x[index(i, j)])(x, i, j)
            np.testing.assert_array_equal(np.asarray(got), x[index(i, j)])
            expected = x.copy()
            expected[index(i, j)] = 5
            np.testing.assert_array_equal(
                np.asarray(velax.jit(lambda x, i, j, index=index: x.at[index(i, j)].set(5))(x, i, j)), expected
            )


def test_index_dtypes_narrower_than_the_axis():
    x = np.arange(300)
    for i in (np.int8(-1), np.uint8(200)):
        assert int(velax.jit(lambda x, i: x[i])(x, jnp.asarray(i))) == x[i]
        assert int(jnp.asarray(x)[jnp.asarray([i])][0]) == x[i]


def test_dynamic_slice():
    x = cube()
    assert ds(3) == Slice(0, 3) and ds(None) == slice(None) and repr(ds(1, 2, 3)) == "Slice(start=1, size=2, stride=3)"
    np.testing.assert_array_equal(velax.jit(lambda x, i: x[:, ds(i, 2)])(x, 1), x[:, 1:3])
    np.testing.assert_array_equal(velax.jit(lambda x, i: x[0, ds(i, 2), None, ::2])(x, 1), x[0, 1:3, None, ::2])
    expected = x.copy()
    expected[:, 1:3] = 0
    np.testing.assert_array_equal(velax.jit(lambda x, i: x.at[:, ds(i, 2)].set(0))(x, 1), expected)
    assert velax.tree_util.tree_leaves(ds(1, 2)) == []


def test_weak_types():
    agree(lambda m, p: m.asarray(1).at[()].set(2))
    agree(lambda m, p: m.asarray(1.0)[None])
    agree(lambda m, p: m.asarray([1, 2])[m.asarray(1)])


# -- updates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["set", "add", "subtract", "multiply", "mul", "divide", "power", "min", "max"])
@pytest.mark.parametrize("index", [1, slice(0, 2), I([2, 0])], ids=repr)
def test_update_operations(op, index):
    agree(lambda m, p: getattr(m.asarray([1.0, 2.0, 4.0]).at[index], op)(3.0))


def test_repeated_indices():
    for op in ("add", "subtract", "multiply", "min", "max"):
        agree(lambda m, p, op=op: getattr(m.arange(4).at[m.asarray([1, 1, 2])], op)(m.asarray([2, 3, 4])))
    agree(lambda m, p: m.asarray([1.0, 2.0]).at[m.asarray([0, 0])].apply(lambda v: v + 1))


def test_masked_updates():
    for op in ("set", "add", "subtract", "multiply", "min", "max"):
        agree(lambda m, p, op=op: getattr(m.arange(4).at[m.asarray([True, False, True, False])], op)(2))
    agree(lambda m, p: m.asarray(cube()).at[m.asarray(MASK2)].set(3))
    agree(lambda m, p: m.arange(4).at[m.asarray([True, False, True, False])].set(m.asarray([7, 8])))
    agree(lambda m, p: m.arange(4.0).at[m.asarray([True, False, True, False])].add(1))


@pytest.mark.parametrize("dtype", ["int8", "int32", "float16", "float32", "complex64", "bool"])
@pytest.mark.parametrize("value", [True, 3, 2.5, np.float32(2.5), np.int32(3), 1j], ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_update_casts(dtype, value):
    agree(lambda m, p: m.zeros(3, dtype).at[1].set(value))
    agree(lambda m, p: m.ones(3, dtype).at[1].add(m.asarray(value)))


def test_unsafe_cast_warns():
    text = "scatter inputs have incompatible types: cannot safely cast value from dtype=float32 to dtype=int32"
    with pytest.warns(FutureWarning, match=text):
        jnp.arange(3).at[0].set(1.5)
    with pytest.warns(FutureWarning, match=text):
        jnp.arange(3).at[0].set(jnp.float32(1.5))


def test_promised_indices():
    agree(lambda m, p: m.arange(4).at[m.asarray([0, 2])].add(1, indices_are_sorted=True, unique_indices=True))
    agree(lambda m, p: m.arange(4).at[m.asarray([0, 2])].get(indices_are_sorted=True, unique_indices=True))


def test_new_integers_compile_nothing():
    x = jnp.arange(10.0)
    x.at[3].set(1), x.at[2:4].set(1)
    compiled = _scatter_call._cache_size()
    for i in range(10):
        np.testing.assert_array_equal(x.at[i].set(-1), np.where(np.arange(10) == i, -1, np.arange(10)))
    x.at[5:7].set(1), x.at[-1].set(1)
    assert _scatter_call._cache_size() == compiled


# -- transformations -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index", [0, slice(1, 3), (slice(None), I([0, 2])), MASK2, (slice(None, None, -1), 1)], ids=repr
)
def test_gradients(index):
    x = cube()
    y = np.ones(x[index].shape, np.float32) * 2

    def read(m):
        return lambda x: m.sum(x[index] ** 2)

    def write(m):
        return lambda x, y: m.sum(x.at[index].set(y**2) ** 2) + m.sum(x.at[index].add(y) ** 2)

    same_up_to_weak = lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)
    same_up_to_weak(velax.grad(read(jnp))(x), jax.grad(read(jjnp))(x))
    for a, b in zip(
        velax.grad(write(jnp), (0, 1))(jnp.asarray(x), y),
        jax.grad(write(jjnp), (0, 1))(jjnp.asarray(x), y),
        strict=True,
    ):
        same_up_to_weak(a, b)


def test_vmap():
    x, i = np.arange(12.0, dtype=np.float32).reshape(3, 4), np.array([0, -1, 2])
    np.testing.assert_array_equal(velax.vmap(lambda x, i: x[i])(x, i), x[np.arange(3), i])
    expected = x.copy()
    expected[np.arange(3), i] = 9
    np.testing.assert_array_equal(velax.vmap(lambda x, i: x.at[i].set(9))(x, i), expected)
    np.testing.assert_array_equal(velax.vmap(lambda i: jnp.asarray(x)[:, i])(i), x[:, i].T)


STAGED = [
    lambda v, x, i, a: v[0], lambda v, x, i, a: v[-1], lambda v, x, i, a: v[0:2], lambda v, x, i, a: v[::-2],
    lambda v, x, i, a: v[5:1:-1],
    lambda v, x, i, a: x[1, :, -2], lambda v, x, i, a: x[1, ::-2, None], lambda v, x, i, a: x[..., 0], lambda v, x, i,
    a: x[:], lambda v, x, i, a: x[None],
    lambda v, x, i, a: v[a], lambda v, x, i, a: x[a, :, a], lambda v, x, i, a: x[:, a, a], lambda v, x, i,
    a: x[a, None, a], lambda v, x, i, a: x[a, 1:3],
    lambda v, x, i, a: x[::2, a], lambda v, x, i, a: v.at[0].set(1.0), lambda v, x, i, a: v.at[0].add(1.0), lambda v,
    x, i, a: v.at[1:3].set(1.0),
    lambda v, x, i, a: v.at[::2].set(1.0), lambda v, x, i, a: v.at[::-1].mul(2.0), lambda v, x, i,
    a: x.at[1, :, 2].set(2.0),
    lambda v, x, i, a: x.at[...].set(2.0), lambda v, x, i, a: v.at[a].set(1.0), lambda v, x, i,
    a: v.at[a].get(mode="fill", fill_value=0),
    lambda v, x, i, a: v.at[i].get(wrap_negative_indices=False), lambda v, x, i, a: v.at[0].min(2.0), lambda v, x, i,
    a: v[i],
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(STAGED)))
def test_staged_as_jax(case):
    v, x, a = np.arange(8, dtype=np.float32), np.zeros((4, 5, 6), np.float32), np.array([0, 1], np.int32)
    f = STAGED[case]
    assert str(velax.make_jaxpr(f)(v, x, np.int32(1), a)) == str(jax.make_jaxpr(f)(v, x, np.int32(1), a))


# -- what differential probing found ----------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda jnp, lib: jnp.arange(12).reshape(3, 4).at[lib.ds(-1, 1)].get(wrap_negative_indices=False),
        lambda jnp, lib: jnp.arange(12).reshape(3, 4).at[lib.ds(jnp.int32(-2), 2)].get(wrap_negative_indices=False),
        lambda jnp, lib: jnp.arange(12).reshape(3, 4).at[lib.ds(-1, 1)].set(0, wrap_negative_indices=False),
        lambda jnp, lib: jnp.arange(12).reshape(3, 4).at[lib.ds(-2, 2)].get(),
        lambda jnp, lib: jnp.array([1 + 2j, 3, 4j, 3 - 1j]).at[np.array([0, 1, 3, 0])].min(np.array([1 + 1j, 2, 3, 1])),
        lambda jnp, lib: jnp.array([1 + 2j, 3, 4j, 3 - 1j]).at[np.array([0, 1, 3, 9])].max(3 + 0j),
        lambda jnp, lib: jnp.array([1.5, 2.5]).at[0].max(2j),
        lambda jnp, lib: jnp.arange(4).at[5].get(mode="fill", fill_value="a"),
        lambda jnp, lib: jnp.arange(4).at[1:1].set(jnp.ones(3)),
        lambda jnp, lib: lib.jit(lambda i: jnp.arange(12).reshape(3, 4)[[i, 0], [[1], [2]]])(2),
    ],
    ids=range(10),
)
def test_updates_and_windows_agree(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # writing complex numbers into real ones
        agree(call)


def test_weak_arrays_take_values_of_other_dtypes_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for lib in (jjnp, jnp):
            out = lib.array(5).at[()].set(np.uint8(7))
            assert out == 7 and out.dtype == np.int32 and out.weak_type


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index, error, text",
    [
        ([0, 1], TypeError, "Using a non-tuple sequence for multidimensional indexing is not allowed"),
        ("a", TypeError, "JAX does not support string indexing; got idx='a'"),
        (1.0, TypeError, "Indexer must have integer or boolean type, got indexer with type float64"),
        (I([1.0]), TypeError, "Indexer must have integer or boolean type"),
        ((0, 0, 0, 0), IndexError, "Too many indices: array is 3-dimensional, but 4 were indexed"),
        ((..., ...), IndexError, r"an index can only have a single ellipsis"),
        (
            I([True]),
            IndexError,
            r"boolean index did not match shape of indexed array in index 0: got \(1,\), expected \[2\]",
        ),
        (2**40, OverflowError, "too large to convert to int32"),
        ((I([0, 1]), I([0, 1, 2])), ValueError, "Incompatible shapes for broadcasting"),
        (
            (slice(1.5),),
            TypeError,
            r"Slice entries must be static integers. Got slice\(None, 1.5, None\) at position 0",
        ),
        (ds(0, 3), TypeError, "Slice size 3 is larger than the axis it indexes, which has 2 elements"),
        (object(), IndexError, "only integers, slices .* and integer or boolean arrays are valid indices"),
    ],
    ids=lambda v: repr(v).split(" at 0x")[0][:30],
)
def test_index_errors(index, error, text):
    with pytest.raises(error, match=text):
        jnp.asarray(cube())[index]


def test_item_assignment_teaches():
    text = (
        r"JAX arrays are immutable and do not support in-place item assignment\. Instead of x\[idx\] = "
        r"y, use x = x\.at\[idx\]\.set\(y\) or another \.at\[\] method"
    )
    x = jnp.arange(3)

    def assign(x):
        x[0] = 1

    with pytest.raises(TypeError, match=text):
        assign(x)
    with pytest.raises(TypeError, match=text):
        velax.jit(assign)(x)
    with pytest.raises(TypeError, match=r"x = x.at\[idx\].add"):
        r = x.at[0]
        r += 1


def test_traced_errors():
    x = jnp.arange(4)
    with pytest.raises(velax.errors.NonConcreteBooleanIndexError, match="Array boolean indices must be concrete"):
        velax.jit(lambda x: x[x > 1])(x)
    with pytest.raises(IndexError, match="Slice entries must be static integers"):
        velax.jit(lambda x, i: x[i : i + 2])(x, 1)
    with pytest.raises(ValueError, match="Incompatible types for broadcasting"):
        x.at[0:2].set(jnp.zeros(3, int))
    with pytest.raises(ValueError, match="Cannot broadcast to shape with fewer dimensions"):
        x.at[0:2].set(jnp.zeros((1, 2), int))
    with pytest.raises(ValueError, match='Unknown gather mode "foo"'):
        x.at[0].get(mode="foo")
    with pytest.raises(IndexError, match="index is out of bounds for axis 0 with size 0"):
        jnp.zeros((0, 3))[0]


# -- functions -----------------------------------------------------------------------------------

M = np.arange(12, dtype=np.float32).reshape(3, 4)

CALLS = {
    "take": lambda m, p: m.take(M, I([1, -1, 9])),
    "take axis": lambda m, p: m.take(M, I([[1, -1], [0, 9]]), axis=1),
    "take clip": lambda m, p: m.take(M, I([1, -1, 9]), axis=1, mode="clip"),
    "take wrap": lambda m, p: m.take(M, I([1, -1, 9]), axis=0, mode="wrap"),
    "take scalar": lambda m, p: m.take(M, 1, axis=-1),
    "take fill": lambda m, p: m.take(M, I([9]), axis=1, fill_value=3),
    "take raise": lambda m, p: m.take(M, I([9]), mode="raise"),
    "take int": lambda m, p: m.take(m.arange(3), I([5])),
    "take jit": lambda m, p: p.jit(lambda x, i: m.take(x, i, axis=1))(M, I([0, 2])),
    "take_along_axis": lambda m, p: m.take_along_axis(M, I([[0, 1], [3, -1], [2, 9]]), axis=1),
    "take_along_axis bc": lambda m, p: m.take_along_axis(M, I([[0, 1]]), axis=1),
    "take_along_axis arr bc": lambda m, p: m.take_along_axis(M[:1], I([[0, 1], [3, -1], [2, 2]]), axis=1),
    "take_along_axis 0": lambda m, p: m.take_along_axis(M, I([[0, 1, 2, 1]]), axis=0),
    "take_along_axis none": lambda m, p: m.take_along_axis(M, I([0, 11]), axis=None),
    "take_along_axis clip": lambda m, p: m.take_along_axis(M, I([[0, 9, 2, 1]]), axis=0, mode="clip"),
    "take_along_axis 3d": lambda m,
    p: m.take_along_axis(m.asarray(cube()), m.argmax(m.asarray(cube()), axis=1, keepdims=True), axis=1),
    "take_along_axis grad": lambda m,
    p: p.grad(lambda x: m.sum(m.take_along_axis(x, m.asarray([[0, 0], [1, 2], [3, 3]]), axis=1) ** 2))(m.asarray(M)),
    "take_along_axis bad": lambda m, p: m.take_along_axis(M, I([0, 1]), axis=1),
    "put": lambda m, p: m.put(M, I([1, -1]), I([7.0, 8.0]), inplace=False),
    "put cycle": lambda m, p: m.put(M, I([1, 2, 3]), I([7.0, 8.0]), inplace=False),
    "put clip": lambda m, p: m.put(M, I([1, 99, -50]), 5.0, mode="clip", inplace=False),
    "put wrap": lambda m, p: m.put(M, I([1, 14, -3]), 5.0, mode="wrap", inplace=False),
    "put inplace": lambda m, p: m.put(M, I([1]), 5.0),
    "put_along_axis": lambda m, p: m.put_along_axis(m.asarray(M), I([[0, 1], [3, -1], [2, 0]]), 9.0, 1, inplace=False),
    "put_along_axis none": lambda m, p: m.put_along_axis(m.asarray(M), I([0, 11]), I([7.0, 8.0]), None, inplace=False),
    "choose": lambda m, p: m.choose(I([1, 0, 2]), [I([1, 2, 3]), I([4, 5, 6]), 9]),
    "choose clip": lambda m, p: m.choose(I([1, -3, 7]), [I([1, 2, 3]), I([4, 5, 6])], mode="clip"),
    "choose wrap": lambda m, p: m.choose(I([1, -3, 7]), [I([1, 2, 3]), I([4, 5, 6])], mode="wrap"),
    "choose raise": lambda m, p: m.choose(I([1, -3, 7]), [I([1, 2, 3]), I([4, 5, 6])]),
    "nonzero": lambda m, p: m.nonzero(m.asarray(M) % 3),
    "nonzero size": lambda m, p: m.nonzero(m.asarray(M) % 3, size=10, fill_value=-1),
    "nonzero short": lambda m, p: p.jit(lambda x: m.nonzero(x, size=3))(M),
    "nonzero tuple fill": lambda m, p: m.nonzero(m.asarray(M) % 3, size=10, fill_value=(-1, -2)),
    "nonzero traced": lambda m, p: p.jit(m.nonzero)(M),
    "nonzero 0d": lambda m, p: m.nonzero(1.0),
    "nonzero empty": lambda m, p: m.nonzero(m.zeros((0, 3)), size=2),
    "argwhere": lambda m, p: m.argwhere(m.asarray(M) % 3),
    "argwhere size": lambda m, p: m.argwhere(m.asarray(M) % 3, size=9, fill_value=-1),
    "argwhere 0d": lambda m, p: m.argwhere(1),
    "flatnonzero": lambda m, p: m.flatnonzero(m.asarray(M) % 3),
    "compress": lambda m, p: m.compress(I([True, False, True]), M, axis=0),
    "compress flat": lambda m, p: m.compress(I([True, False, True]), M),
    "compress size": lambda m,
    p: p.jit(lambda c, x: m.compress(c, x, axis=0, size=3, fill_value=7))(I([True, False, True]), M),
    "extract": lambda m, p: m.extract(M > 5, M),
    "extract size": lambda m, p: m.extract(M > 5, M, size=8, fill_value=-1),
    "place": lambda m, p: m.place(m.asarray(M), M > 5, I([1.0, 2.0]), inplace=False),
    "fill_diagonal": lambda m, p: m.fill_diagonal(m.asarray(M), 5, inplace=False),
    "fill_diagonal vector": lambda m, p: m.fill_diagonal(m.asarray(M), I([1.0, 2.0]), inplace=False),
    "fill_diagonal 3d": lambda m, p: m.fill_diagonal(m.zeros((2, 2, 2)), 5, inplace=False),
    "fill_diagonal uneven": lambda m, p: m.fill_diagonal(m.zeros((2, 2, 3)), 5, inplace=False),
    "unravel_index": lambda m, p: m.unravel_index(I([-1, 12, 50, -50, 5]), (3, 4)),
    "unravel_index scalar": lambda m, p: m.unravel_index(5, (3, 4)),
    "unravel_index 1d": lambda m, p: m.unravel_index(m.asarray([5, 2]), 7),
    "ravel_multi_index": lambda m, p: m.ravel_multi_index((I([0, 2]), I([1, 3])), (3, 4)),
    "ravel_multi_index F": lambda m, p: m.ravel_multi_index((I([0, 2]), I([1, 3])), (3, 4), order="F"),
    "ravel_multi_index clip": lambda m, p: m.ravel_multi_index((I([0, 9]), I([-1, 3])), (3, 4), mode="clip"),
    "ravel_multi_index wrap": lambda m, p: m.ravel_multi_index((I([0, 9]), I([-1, 3])), (3, 4), mode="wrap"),
    "ravel_multi_index raise": lambda m, p: m.ravel_multi_index((I([0, 9]), I([-1, 3])), (3, 4)),
    "ix_": lambda m, p: m.ix_(I([0, 2]), I([1, 2, 3])),
    "ix_ bool": lambda m, p: m.ix_(I([True, False])),
    "diag_indices": lambda m, p: m.diag_indices(3, 3),
    "diag_indices_from": lambda m, p: m.diag_indices_from(m.zeros((2, 2))),
    "diag_indices_from bad": lambda m, p: m.diag_indices_from(m.zeros((2, 3))),
    "tril_indices": lambda m, p: m.tril_indices(3, 1, 4),
    "triu_indices": lambda m, p: m.triu_indices(3, -1),
    "tril_indices_from": lambda m, p: m.tril_indices_from(M),
    "triu_indices_from": lambda m, p: m.triu_indices_from(M, 1),
    "mask_indices": lambda m, p: m.mask_indices(3, m.triu, 1),
    "mgrid": lambda m, p: m.mgrid[0:2, 0:3],
    "mgrid float": lambda m, p: m.mgrid[0:2, 0:1:3j],
    "mgrid 1d": lambda m, p: m.mgrid[0:3],
    "ogrid": lambda m, p: m.ogrid[0:2, 0:1:3j],
    "r_": lambda m, p: m.r_[1:3, 5, I([7, 8])],
    "r_ directive": lambda m, p: m.r_["0,2", [1, 2], [3, 4]],
    "r_ trans": lambda m, p: m.r_["0,2,0", [1, 2], [3, 4]],
    "r_ points": lambda m, p: m.r_[-1:1:5j, [0] * 3],
    "r_ row": lambda m, p: m.r_["r", [1, 2]],
    "r_ col": lambda m, p: m.r_["c", [1, 2]],
    "r_ bad": lambda m, p: m.r_["a", [1, 2]],
    "c_": lambda m, p: m.c_[I([1, 2]), I([3, 4])],
    "c_ mixed": lambda m, p: m.c_[I([[1, 2]]), 0, I([[3, 4]])],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_functions(name):
    agree(CALLS[name])


def test_index_expressions():
    assert jnp.s_[1:2, ...] == (slice(1, 2), ...)
    assert jnp.s_[1:2] == slice(1, 2)
    assert jnp.index_exp[1:2] == (slice(1, 2),)


def test_nothing_of_an_axis_of_size_zero():
    """An empty result reads nothing, so an array of indices may address an axis without elements."""
    for index in ((EMPTY,), (EMPTY, EMPTY), (EMPTY[None],), (EMPTY, slice(None), None)):
        agree(lambda m, lib, index=index: m.zeros((0, 3))[index])
    agree(lambda m, lib: lib.vmap(lambda x: x[:, EMPTY])(m.zeros((2, 4, 0))))
    agree(lambda m, lib: lib.grad(lambda x: x[EMPTY].sum())(m.zeros((0, 3))))
    agree(lambda m, lib: m.zeros((0, 3))[np.array([0])])


EMPTY = np.zeros(0, int)
