"""Library sorts: values, stability and order of special values, for every dtype, against NumPy and JAX."""

import ml_dtypes
import numpy as np
import pytest

from velax import _native
from velax._ir.program import Call, Copy, Output, Program, Slot, encode

INTEGERS = {"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
            "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64}  # fmt: skip
FLOATS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64,
          "f8e4m3fn": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}  # fmt: skip
COMPLEX = {"c64": np.complex64, "c128": np.complex128}
NIBBLES = {"i4": ml_dtypes.int4, "u4": ml_dtypes.uint4}
DTYPES = {"bool": np.bool_, **INTEGERS, **FLOATS, **COMPLEX, **NIBBLES}
SHAPES = [(1, 0), (0, 5), (3, 1), (1, 2), (500, 7), (2, 40), (2, 41), (3, 1000), (1, 70_000)]


def values(name, shape, seed=0):
    """Random values with many ties and every special value."""
    rng = np.random.default_rng(seed)
    dtype = DTYPES[name]
    n = int(np.prod(shape))
    if name == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if name in NIBBLES:
        return rng.integers(-8 if name == "i4" else 0, 8, shape).astype(dtype)
    if name in INTEGERS:
        info = np.iinfo(dtype)
        wide = rng.integers(info.min, info.max, n, dtype=dtype, endpoint=True)
        return np.where(rng.random(n) < 0.5, wide, rng.integers(0, 5, n).astype(dtype)).reshape(shape)
    special = np.array([0.0, -0.0, np.nan, -np.nan, 1.0, -1.0] + [np.inf, -np.inf] * (name != "f8e4m3fn"))

    def real(dtype):
        x = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 3, n)
        with np.errstate(over="ignore"):
            return np.where(rng.random(n) < 0.4, rng.choice(special, n), x).astype(dtype).reshape(shape)

    if name in COMPLEX:
        part = np.float32 if name == "c64" else np.float64
        return np.stack([real(part), real(part)], -1).view(dtype)[..., 0]
    return real(dtype)


def executable(name, rows, n, argsort=False, refine=0, in_place=False):
    dtype = np.dtype(DTYPES[name])
    size, perm_size = rows * n * dtype.itemsize, rows * n * 4
    x, perm = ((rows, n), dtype, False), ((rows, n), np.int32, False)
    if argsort and refine:
        slots = Slot.input(0, size), Slot.input(1, perm_size), Slot.output(0, perm_size)
        block = Copy(2, 0, 1, 0, perm_size), Call(0, (0, 2), (rows, n, 1))
        functions = (f"velax_argsort_{name}",)
        program = Program((size, perm_size), (Output.fresh(perm_size),), slots, (block,), functions=functions)
        return _native.Executable(encode(program), [], [], [x, perm], [perm])
    out_size = perm_size if argsort else size
    slots = Slot.input(0, size), Slot.output(0, out_size)
    params = (rows, n, 0) if argsort else (rows, n)
    block = (Call(0, (0, 1), params),)
    if in_place:
        block = (Copy(1, 0, 0, 0, size), Call(0, (1, 1), params))
    function = f"velax_{'argsort' if argsort else 'sort'}_{name}"
    program = Program((size,), (Output.fresh(out_size),), slots, (block,), functions=(function,))
    return _native.Executable(encode(program), [], [], [x], [perm if argsort else x])


def run(e, *arrays):
    return np.asarray(e(*(_native.array_from_numpy(a) for a in arrays)))


def order_keys(x, name):
    """Keys that NumPy's stable sort orders as is promised: zeros equal, NaNs equal and last."""

    def real(v):
        v = v.astype(np.float64)
        return np.where(np.isnan(v), np.nan, v + 0.0)

    if name in COMPLEX:
        # Ranks combine the two parts into one key.
        re, im = (np.unique(real(part), return_inverse=True)[1].reshape(part.shape) for part in (x.real, x.imag))
        return re * (im.max(initial=0) + 1) + im
    if name in FLOATS:
        return real(x)
    return x if name in INTEGERS else x.astype(np.int64)


def bits(x):
    return np.ascontiguousarray(x).view(np.uint8)


def stable_order(x, name):
    return np.argsort(order_keys(x, name), axis=-1, kind="stable")


@pytest.mark.parametrize("name", DTYPES)
def test_sort_and_argsort(name):
    for shape in SHAPES:
        x = values(name, shape)
        order = stable_order(x, name)
        perm = run(executable(name, *shape, argsort=True), x)
        np.testing.assert_array_equal(perm, order, err_msg=str(shape))
        for in_place in (False, True):
            got = run(executable(name, *shape, in_place=in_place), x)
            np.testing.assert_array_equal(bits(got), bits(np.take_along_axis(x, order, -1)), err_msg=str(shape))


@pytest.mark.parametrize("name", [name for name in DTYPES if name not in COMPLEX])
def test_the_first_of_a_permutation(name):
    dtype = np.dtype(DTYPES[name])
    for rows, n, counts in [(2, 1, (0, 1)), (3, 50, (1, 12, 13, 50)), (2, 5000, (1, 40, 1250, 1251, 4999))]:
        x = values(name, (rows, n))
        order = stable_order(x, name)
        for count in counts:
            slots = Slot.input(0, x.nbytes), Slot.output(0, rows * count * 4)
            program = Program(
                (x.nbytes,), (Output.fresh(rows * count * 4),), slots, ((Call(0, (0, 1), (rows, n, count)),),),
                functions=(f"velax_argfirst_{name}",),
            )  # fmt: skip
            types = [((rows, n), dtype, False)], [((rows, count), np.int32, False)]
            got = run(_native.Executable(encode(program), [], [], *types), x)
            np.testing.assert_array_equal(got, order[:, :count], err_msg=f"{rows} {n} {count}")


@pytest.mark.parametrize("name", ["f32", "bf16", "i64", "c64"])
def test_long_rows_use_all_threads_and_give_the_same(name):
    shape = (2, 300_000)
    x = values(name, shape)
    order = stable_order(x, name)
    before = _native.num_threads()
    try:
        for threads in (1, 3):
            _native.set_num_threads(threads)
            np.testing.assert_array_equal(run(executable(name, *shape, argsort=True), x), order)
            got = run(executable(name, *shape), x)
            np.testing.assert_array_equal(bits(got), bits(np.take_along_axis(x, order, -1)))
    finally:
        _native.set_num_threads(before)


@pytest.mark.parametrize("case", ["sorted", "reversed", "equal", "zeros", "nans", "no_negative"])
@pytest.mark.parametrize("n", [5, 100, 5000])
def test_special_rows(case, n):
    base = np.arange(n, dtype=np.float32)
    x = {
        "sorted": base,
        "reversed": base[::-1].copy(),
        "equal": np.full(n, 3, np.float32),
        "zeros": np.where(base % 3 == 0, np.float32(-0.0), np.float32(0)),
        "nans": np.where(base % 2 == 0, np.float32(np.nan), -np.float32(np.nan)),
        "no_negative": base % 7,
    }[case].reshape(1, n)
    order = stable_order(x, "f32")
    np.testing.assert_array_equal(run(executable("f32", 1, n, argsort=True), x), order)
    np.testing.assert_array_equal(bits(run(executable("f32", 1, n), x)), bits(np.take_along_axis(x, order, -1)))


@pytest.mark.parametrize("shape", [(4, 30), (3, 2000)])
def test_lexicographic(shape):
    rng = np.random.default_rng(5)
    first, second, third = rng.integers(0, 4, shape, np.int8), values("f32", shape), values("c64", shape)
    perm = run(executable("c64", *shape, argsort=True), third)
    for name, keys in (("f32", second), ("i8", first)):
        perm = run(executable(name, *shape, argsort=True, refine=1), keys, perm)
    keys = (("i8", first), ("f32", second), ("c64", third))
    ranks = [np.unique(order_keys(k, name), return_inverse=True)[1].reshape(shape) for name, k in keys]
    expected = np.lexsort(ranks[::-1], axis=-1)
    np.testing.assert_array_equal(perm, expected)


@pytest.mark.parametrize("name", ["f32", "bf16", "f8e5m2", "c64", "i16", "bool"])
def test_against_jax(name):
    jax = pytest.importorskip("jax")
    x = values(name, (3, 200), seed=9)
    iota = np.broadcast_to(np.arange(200, dtype=np.int32), x.shape)
    with jax.default_device(jax.devices("cpu")[0]):
        expected, order = (np.asarray(v) for v in jax.lax.sort([x, iota], num_keys=1, is_stable=True))
    np.testing.assert_array_equal(run(executable(name, *x.shape, argsort=True), x), order)
    got = run(executable(name, *x.shape), x)
    if name == "f8e5m2":  # JAX gives every NaN the same bits here
        canonical = np.where(np.isnan(got.astype(np.float32)), expected, got)
        assert (np.isnan(got.astype(np.float32)) == np.isnan(expected.astype(np.float32))).all()
        got = canonical
    np.testing.assert_array_equal(bits(got), bits(expected))


def test_parameters_are_checked():
    program = Program((16,), (Output.fresh(16),), (Slot.input(0, 16), Slot.output(0, 16)),
                      ((Call(0, (0, 1), (1, 4, 2)),),), functions=("velax_argsort_f32",))  # fmt: skip
    aval = ((4,), np.float32, False)
    e = _native.Executable(encode(program), [], [], [aval], [((4,), np.int32, False)])
    with pytest.raises(RuntimeError, match="library function velax_argsort_f32 was called with parameters"):
        e(_native.array_from_numpy(np.zeros(4, np.float32)))
