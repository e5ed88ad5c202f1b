"""Loops cut at the borders of comparisons: the same results, and no clamped index left where it matters."""

import random

import numpy as np
import pytest

import velax
import velax.numpy as jnp
from velax._compiler.split_ranges import split_ranges
from velax._ir.interpret import interpret
from velax._ir.loops import HI, LO, Alloc, Binary, Buffer, Cast, For, Kernel, Let, Reduce, Select, Store, Var
from velax._ir.loops_build import add, c, clamp, load, max_, min_, mul, not_
from velax._ir.loops_check import check_kernel
from velax._ir.loops_text import print_kernel

N = 40


def kernel_of_loop(body, j, extra=()):
    return Kernel("k", (X, Y, TOTAL), 0, (*extra, For(j, c(0), c(N), tuple(body), "vector", 16)))


X, Y, TOTAL = Buffer("x", "i32", size=3 * N), Buffer("y", "i32", size=N), Buffer("total", "i32", size=1)


def random_body(seed):
    """Choices between loads with clamped indexes, by random comparisons of the loop's variable."""
    r = random.Random(seed)
    j = Var("j")

    def position():
        return r.choice([j, add(j, r.randint(-9, 9)), add(j, r.randint(-9, 9))])

    def index():
        at = position()
        low = r.randint(0, N)
        return r.choice(
            [min_(max_(at, low), low + r.randint(0, N)), clamp(0, at, N - 1), max_(c(low), min_(at, 2 * N))]
        )

    def condition():
        border = r.randint(-2, N + 2)
        sides = (position(), c(border))
        one = Binary(r.choice(["lt", "le", "gt", "ge", "eq", "ne"]), *(sides if r.random() < 0.8 else sides[::-1]))
        return r.choice([one, not_(one)])

    def value(depth):
        if depth == 0:
            return r.choice([load(X, index()), Cast("i32", j)])
        if r.random() < 0.6:
            return Select(condition(), value(depth - 1), value(depth - 1))
        return add(value(depth - 1), mul(value(depth - 1), 3))

    t, acc = Var("t", "i32"), Buffer("acc", "i32", "register", 1)
    body = [Let(t, value(2)), Alloc(acc), Store(acc, c(0), value(1)), Reduce("add", acc, c(0), t)]
    return [*body, Store(Y, j, load(acc, c(0))), Reduce("add", TOTAL, c(0), t)], j


@pytest.mark.parametrize("block", range(4))
def test_random_loops(block):
    """A failure names its seed."""
    n_cut = 0
    for seed in range(50 * block, 50 * block + 50):
        whole = kernel_of_loop(*random_body(seed))
        cut = Kernel("k", whole.params, 0, split_ranges(whole.body))
        n_cut += len(cut.body) > 1
        check_kernel(cut)
        x = np.random.default_rng(seed).integers(-99, 99, 3 * N).astype(np.int32)
        results = []
        for kernel in (whole, cut):
            buffers = [x.copy(), np.zeros(N, np.int32), np.zeros(1, np.int32)]
            interpret(kernel, buffers, [], 0, 0)
            results.append(buffers)
        for a, b in zip(*results):
            np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}\n{print_kernel(whole)}\n{print_kernel(cut)}")
    assert n_cut >= 10


def test_a_roll():
    j = Var("j")
    loop = For(
        j,
        c(0),
        c(N),
        (Store(Y, j, Select(Binary("lt", j, c(N - 1)), load(X, add(min_(j, N - 2), 1)), load(X, c(0)))),),
        "vector",
        16,
    )
    text = print_kernel(Kernel("k", (X, Y), 0, split_ranges((loop,))))
    assert text.splitlines()[1:] == [
        "  for j in 0 .. 39 vector 16:", "    y[j] = x[add(j, 1)]", "  for j_1 in 39 .. 40 serial:",
        "    y[j_1] = x[0]",
    ]  # fmt: skip


def test_what_stays_whole():
    j = Var("j")
    shift = Store(Y, j, load(X, min_(j, 9)))  # clamped, but nothing says where that matters
    plain = Store(Y, j, Select(Binary("lt", j, c(9)), load(X, j), c(0, "i32")))  # a blend of neighbours
    borders = [Binary("eq", j, c(9 * k)) for k in range(4)]
    many = Store(Y, j, load(X, min_(j, 9)))
    for b in borders:
        many = Store(Y, j, Select(b, load(X, min_(j, 9)), many.value))
    guarded = Store(Y, j, Select(Binary("lt", j, c(9)), load(X, min_(j, 8)), c(0, "i32")))
    for body, start, stop in (
        (shift, c(0), c(N)),
        (plain, c(0), c(N)),
        (many, c(0), c(N)),
        (guarded, c(0), c(8)),
        (guarded, LO, HI),
    ):
        loop = For(j, start, stop, (body,), "vector", 16)
        assert split_ranges((loop,)) == (loop,)
        serial = For(j, c(0), c(N), (guarded,))
        assert split_ranges((serial,)) == (serial,)


@pytest.mark.parametrize("shape", [(3, 17), (40, 33), (5, 300)])
def test_rolls(shape):
    m = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 101
    program = lambda np: lambda m: sum(k * np.roll(m, k, axis) for k in (-3, 1, 2) for axis in (0, 1))
    np.testing.assert_allclose(velax.jit(program(jnp))(m), program(np)(m), rtol=1e-6)


@pytest.mark.parametrize("width", [16, 33, 130])
def test_pads_and_concatenations(width):
    x = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    pad = velax.jit(lambda x: jnp.pad(x, ((1, 2), (2, 5))) * 2 + 1)
    np.testing.assert_allclose(pad(x), np.pad(x, ((1, 2), (2, 5))) * 2 + 1, rtol=1e-6)
    join = velax.jit(lambda x: jnp.concatenate([x[:, 3:], -x[:, :2], x * 2], 1).sum(1))
    np.testing.assert_allclose(join(x), np.concatenate([x[:, 3:], -x[:, :2], x * 2], 1).sum(1), rtol=1e-4, atol=1e-5)
    stencil = velax.jit(lambda x: (jnp.roll(x, 1, 1) + jnp.roll(x, -1, 1) - 2 * x).max(1))
    np.testing.assert_allclose(stencil(x), (np.roll(x, 1, 1) + np.roll(x, -1, 1) - 2 * x).max(1), rtol=1e-5, atol=1e-5)
