"""Kernels encoded without LLVM: every operation and control structure against the interpreter, and when
programs use them.
"""

import numpy as np
import pytest
from loops_fuzz import Fuzzer
from loops_harness import awkward, check, load, operations, pointwise
from process_helpers import run_fresh

import velax
import velax.numpy as jnp
from velax._compiler import cache, driver, encode
from velax._compiler.elf_write import write_object
from velax._compiler.target import host_target, make_target
from velax._ir.interpret import numpy_dtype
from velax._ir.loops import (
    FLOATS,
    HI,
    LO,
    WIDTH,
    Alloc,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Extent,
    For,
    If,
    Kernel,
    Let,
    Reduce,
    Select,
    Store,
    Unary,
    Var,
    While,
)
from velax._ir.loops_build import add, c, div, load as element, lt, mul, sub

pytestmark = pytest.mark.skipif(not encode.encodable_target(host_target()), reason="needs AVX, FMA and BMI2")

DTYPES = sorted(encode.DTYPES)


def encoded(kernel):
    return load({kernel.name: write_object(kernel.name, encode.encode(kernel))})[kernel.name]


def outputs(kernel, n_inputs, n):
    return [np.zeros(n, numpy_dtype(p.dtype)) for p in kernel.params[n_inputs:]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_operations(dtype):
    def results(*args):
        values = operations(dtype)(*args)
        return [v for v in values if dtype not in FLOATS or type(v) is not Binary or v.op != "rem"]

    kernel = pointwise("ops", [dtype] * 3, results)
    rng = np.random.default_rng(7)
    n = 500
    check(kernel, encoded(kernel), [awkward(dtype, n, rng) for _ in range(3)] + outputs(kernel, 3, n), [], 1, n - 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_casts(dtype):
    kernel = pointwise("casts", [dtype], lambda x: [Cast(to, x) for to in DTYPES])
    n = 600
    check(kernel, encoded(kernel), [awkward(dtype, n, np.random.default_rng(8)), *outputs(kernel, 1, n)], [], 0, n)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bool"])
def test_bitcasts(dtype):
    kernel = pointwise(
        "bits", [dtype], lambda x: [Bitcast(to, x) for to in DTYPES if to != "bool" and WIDTH[to] == WIDTH[dtype]]
    )
    values = awkward(dtype, 300, np.random.default_rng(9))
    values = values[values == values]  # the bits of a NaN are not part of the semantics
    check(kernel, encoded(kernel), [values, *outputs(kernel, 1, values.size)], [], 0, values.size)


def test_random_kernels():
    """Random programs of the dtypes that are encoded; a failure names its seed, and `Fuzzer(seed).kernel` is
    the program.
    """
    n_encoded = 0
    for seed in range(150):
        program = Fuzzer(seed)
        try:
            function = encoded(program.kernel)
        except encode.NotEncodable:
            continue
        n_encoded += 1
        for lo, hi in ((0, 67), (3, 20), (5, 5)):
            check(program.kernel, function, program.buffers(1), [5], lo, hi, f"{program.name} [{lo}, {hi})")
    assert n_encoded >= 20


@pytest.mark.parametrize("dtype", ["i64", "f64"])
def test_more_values_than_registers(dtype):
    """Forty values that are all needed until the end."""

    def results(x, y):
        values = [x, y]
        for k in range(38):
            values.append(Binary("add" if k % 3 else "sub", values[-1], values[-2]))
        total = values[0]
        for v in reversed(values):
            total = Binary("xor" if dtype == "i64" else "max", total, v)
        return [total, values[20]]

    kernel = pointwise("pressure", [dtype] * 2, results)
    rng = np.random.default_rng(1)
    inputs = [rng.integers(-99, 99, 40).astype(numpy_dtype(dtype)) for _ in range(2)]
    check(kernel, encoded(kernel), [*inputs, *outputs(kernel, 2, 40)], [], 0, 40)


def test_values_live_across_control_flow():
    """Values from before loops and branches, in registers or not, are what they were inside and after them."""
    x, y, i, k, t = Buffer("x", "i32"), Buffer("y", "i32"), Var("i"), Var("k"), Var("t", "i32")
    total = Buffer("total", "i32", "register", 1)
    value = mul(element(x, i), 3)
    inner = For(k, c(0), Extent(0), (Reduce("add", total, c(0), add(value, Cast("i32", k))),))
    branch = If(
        lt(value, c(0, "i32")),
        (Reduce("add", total, c(0), sub(t, value)),),
        (While((), lt(element(total, c(0)), mul(t, 2)), (Reduce("add", total, c(0), c(7, "i32")),)),),
    )
    body = (
        Alloc(total), Store(total, c(0), value), Let(t, add(element(total, c(0)), 11)), inner, branch,
        Store(y, i, Select(lt(value, t), sub(element(total, c(0)), value), Unary("neg", t))),
    )  # fmt: skip
    kernel = Kernel("flow", (x, y), 1, (For(i, LO, HI, body),))
    values = np.random.default_rng(2).integers(-50, 50, 30).astype(np.int32)
    for extent in (0, 1, 4):
        check(kernel, encoded(kernel), [values, np.zeros(30, np.int32)], [extent], 0, 30)


def test_a_reduced_value_that_is_used_again():
    x, least, lost, i = Buffer("x", "f32"), Buffer("least", "f32"), Buffer("lost", "bool"), Var("i")
    value = element(x, i)
    nan = Binary("ne", value, value)
    body = (Reduce("and", lost, c(0), nan), Reduce("max", least, c(0), Select(nan, c(-9.0, "f32"), value)))
    kernel = Kernel("shared", (x, least, lost), 0, (For(i, LO, HI, body),))
    values = np.array([1, np.nan, 5, -3], np.float32)
    check(kernel, encoded(kernel), [values, np.full(1, -9, np.float32), np.ones(1, bool)], [], 0, 4)


def test_values_computed_again_after_a_block_keep_their_operands():
    """``p`` is made in two blocks; its second making must not take ``v`` away from ``q``."""
    x, y, i = Buffer("x", "i32"), Buffer("y", "i32"), Var("i")
    v = add(element(x, i), 1)
    p, q = mul(v, 3), sub(v, 7)
    positive = lt(c(0, "i32"), v)
    body = (
        Store(y, i, v), If(positive, (Store(y, i, p),)), If(positive, (Store(y, add(i, 8), Binary("xor", p, q)),)), Store(y, add(i, 16), q),
    )  # fmt: skip
    kernel = Kernel("again", (x, y), 0, (For(i, LO, HI, body),))
    check(kernel, encoded(kernel), [np.arange(-4, 4, dtype=np.int32), np.zeros(24, np.int32)], [], 0, 8)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f8e4m3fn"])
def test_narrow_floats_are_left_to_llvm(dtype):
    with pytest.raises(encode.NotEncodable, match=f"values of {dtype}"):
        encode.encode(pointwise("k", [dtype], lambda x: [add(x, x)]))


def test_the_number_of_operations():
    x, i, k = Buffer("x", "f32"), Var("i"), Var("k")
    square = pointwise("k", ["f32"], lambda v: [mul(v, v)])
    assert encode.operations(square, 100, ()) == pytest.approx(100 * encode.operations(square, 1, ()), rel=0.25)
    inner = For(k, c(0), Extent(0), (Store(x, k, mul(element(x, k), element(x, i))),))
    nested = Kernel("k", (x,), 1, (For(i, LO, HI, (inner,)),))
    assert encode.operations(nested, 10, (20,)) > 5 * encode.operations(nested, 10, (2,))
    assert encode.operations(nested, 0, (20,)) < 3
    unknown = For(i, LO, element(Buffer("n", "i64"), c(0)), (Store(x, i, c(1.0, "f32")),))
    assert encode.operations(Kernel("k", (x,), 0, (unknown,)), 1, ()) == float("inf")
    assert encode.operations(Kernel("k", (x,), 0, (While((), lt(c(0), div(LO, 3)), ()),)), 1, ()) == float("inf")


# -- programs ------------------------------------------------------------------------------------


PROGRAMS = {
    "arithmetic": lambda x: (x * 2 + 1, jnp.where(x > 0, x, -x) / 3, jnp.sqrt(abs(x))),
    "functions": lambda x: (jnp.exp(x), jnp.tanh(x), jnp.sin(x) * jnp.log1p(abs(x))),
    "integers": lambda x: (x.astype(jnp.int32) // 3, x.astype(jnp.uint8) << 2, jnp.bitwise_xor(x.astype(jnp.int16), 5)),
    "reductions": lambda x: (x.sum(), x.max(0), jnp.argmax(x), x.mean(1)),
    "indexing": lambda x: (
        x[1:, ::-1],
        x.at[0].add(3),
        x[jnp.array([0, 2, 1]), jnp.array([3, 0, 0])],
        jnp.cumsum(x, 1),
    ),
    "products": lambda x: (x @ x.T, jnp.einsum("ij,kj->ik", x, x)),
    "loops": lambda x: velax.lax.scan(lambda c, r: (c * 0.5 + r, c.sum()), x[0], x),
    "gradient": velax.grad(lambda x: (jnp.tanh(x) ** 2).sum()),
    "complex": lambda x: abs((x + 1j * x[::-1]) ** 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_the_same_without_llvm(name, monkeypatch):
    """Encoded and LLVM-made kernels are one function; sums of floats may be in another order."""
    x = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    monkeypatch.setenv("VELAX_CACHE", "0")
    cache.forget_open_cache()
    results = {}
    for limit in (0, 1 << 40):
        velax.clear_caches()
        monkeypatch.setattr(driver, "SMALL_LAUNCH", limit)
        results[limit] = velax.jit(PROGRAMS[name])(x)
    velax.clear_caches()
    cache.forget_open_cache()
    for a, b in zip(*map(velax.tree.leaves, results.values()), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-6, atol=1e-6)


def test_a_small_program_does_not_load_llvm():
    run_fresh(
        "import sys, velax, velax.numpy as jnp\n"
        "x = jnp.array([1., 2., 3.])\n"
        "assert velax.grad(lambda x: (jnp.exp(x) * x[::-1]).sum())(x).shape == (3,)\n"
        "assert velax.jit(lambda x: x**2 + jnp.cumsum(x))(x).tolist() == [2., 7., 15.]\n"
        "assert 'llvmlite' not in sys.modules\n"
        "velax.jit(lambda x: x * 2)(jnp.ones(4096))\n"
        "assert 'llvmlite' in sys.modules\n",
        VELAX_CACHE="0",
    )


def test_older_processors_do_without():
    assert not encode.encodable_target(make_target(["avx", "fma"]))
