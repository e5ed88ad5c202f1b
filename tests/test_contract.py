"""Contractions: generated kernels against NumPy in double precision, bit for bit equal on any
number of threads."""

import itertools
import random
import string

import numpy as np
import pytest
from cpu_features import AVX2
from graph_reference import NUMPY
from graph_runner import Compiled

from velax import _native
from velax._compiler import schedule
from velax._compiler.contract import choose, plan_contraction
from velax._compiler.nest_dot import Dim, DotSpec
from velax._compiler.target import host_target, make_target
from velax._ir.graph import Builder, Graph
from velax._ir.loops_check import check_kernel
from velax._ir.program import Launch

MATMUL = (((1,), (0,)), ((), ()))
#: units in the last place of a sum of absolute products that one element of a result may be off,
#: times the root of K
ULPS = {
    "f16": (2.0**-10, 6e-8),
    "bf16": (2.0**-7, 0),
    "f32": (2.0**-22, 0),
    "f64": (2.0**-51, 0),
    "c64": (2.0**-21, 0),
    "c128": (2.0**-50, 0),
}


@pytest.fixture(autouse=True)
def separate_kernels(monkeypatch):
    """Tiny programs would be compiled whole, with the plain nest."""
    monkeypatch.setattr(schedule, "INLINE_GROUPS", 0)


@pytest.fixture
def threads():
    before = _native.num_threads()
    yield _native.set_num_threads
    _native.set_num_threads(before)


def random_values(shape, dtype, rng):
    kind = np.dtype(NUMPY[dtype])
    if dtype == "bool":
        return rng.random(shape) < 0.2
    if dtype[0] in "iu":
        return rng.integers(0 if dtype[0] == "u" else -100, 100, shape).astype(kind)
    values = rng.normal(size=shape)
    if dtype[0] == "c":
        values = values + 1j * rng.normal(size=shape)
    return values.astype(kind)


def reference(x, y, contract, batch):
    """The contraction by `numpy.einsum`, in the dtype of ``x`` and ``y``."""
    (lc, rc), (lb, rb) = contract, batch
    names = iter(string.ascii_letters)
    left = [next(names) for _ in x.shape]
    right = [None] * y.ndim
    for i, j in (*zip(lc, rc), *zip(lb, rb)):
        right[j] = left[i]
    right = [name or next(names) for name in right]
    out = [left[i] for i in lb]
    out += [name for i, name in enumerate(left) if i not in lc and i not in lb]
    out += [name for j, name in enumerate(right) if j not in rc and j not in rb]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", x, y, optimize=True)


def compiled_dot(
    shape_a,
    shape_b,
    contract,
    batch=((), ()),
    dtype="f32",
    perm_a=None,
    perm_b=None,
    result=None,
    dtype_b=None,
    epilogue=None,
    target=None,
):
    b = Builder()
    x, y = b.input(shape_a, dtype), b.input(shape_b, dtype_b or dtype)
    left = x if perm_a is None else b.transpose(x, perm_a)
    right = y if perm_b is None else b.transpose(y, perm_b)
    out = b.dot(left, right, contract, batch, result or dtype)
    inputs = [x, y]
    if epilogue is not None:
        out = epilogue(b, out, inputs)
    compiled = Compiled(Graph(tuple(inputs), out if isinstance(out, tuple) else (out,)), target=target)
    for kernel in compiled.compiled.kernels.values():
        check_kernel(kernel)
    return compiled


def assert_product(got, x, y, contract, batch, dtype, note=""):
    if dtype == "bool":
        want = reference(x.astype(np.int64), y.astype(np.int64), contract, batch) != 0
        np.testing.assert_array_equal(got, want, err_msg=note)
    elif dtype[0] in "iu":
        want = reference(x.astype(np.int64), y.astype(np.int64), contract, batch).astype(got.dtype)
        np.testing.assert_array_equal(got, want, err_msg=note)
    else:
        wide = np.complex128 if dtype[0] == "c" else np.float64
        x, y = x.astype(wide), y.astype(wide)
        relative, smallest = ULPS[dtype]
        k = np.prod([x.shape[i] for i in contract[0]])
        bound = reference(abs(x), abs(y), contract, batch) * relative * max(4, k**0.5) / 2 + smallest
        error = abs(got.astype(wide) - reference(x, y, contract, batch))
        assert got.shape == error.shape
        assert (error <= bound).all(), f"{note}: {(error / (bound + 1e-300)).max():.2f} times the bound"


def check(
    shape_a,
    shape_b,
    contract=MATMUL[0],
    batch=((), ()),
    dtype="f32",
    perm_a=None,
    perm_b=None,
    seed=0,
    set_threads=None,
):
    rng = np.random.default_rng(seed)
    x, y = random_values(shape_a, dtype, rng), random_values(shape_b, dtype, rng)
    compiled = compiled_dot(shape_a, shape_b, contract, batch, dtype, perm_a, perm_b)
    (got,) = compiled(x, y)
    note = f"{dtype} {shape_a} {perm_a} . {shape_b} {perm_b}, contract {contract}, batch {batch}"
    left = x if perm_a is None else x.transpose(perm_a)
    right = y if perm_b is None else y.transpose(perm_b)
    assert_product(got, left, right, contract, batch, dtype, note)
    if set_threads is not None:
        for n in (1, 2, 3):
            set_threads(n)
            assert compiled(x, y)[0].tobytes() == got.tobytes(), f"{note}: {n} threads give other bits"
    return compiled


SIZES = [
    (1, 1, 1), (1, 1, 700), (1, 5, 3), (5, 1, 3), (3, 7, 1), (8, 16, 48), (17, 33, 31), (64, 64, 64), (65, 49, 66),
    (9, 100, 5), (100, 3, 7),
    (100, 2, 300), (2, 300, 300), (1, 300, 1000), (300, 1, 1000), (4, 130, 257), (130, 200, 90), (7, 1000, 40),
]  # fmt: skip


@pytest.mark.parametrize("m, n, k", SIZES)
@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
def test_forms(m, n, k, form):
    a, perm_a = ((m, k), None) if form[0] == "N" else ((k, m), (1, 0))
    b, perm_b = ((k, n), None) if form[1] == "N" else ((n, k), (1, 0))
    check(a, b, perm_a=perm_a, perm_b=perm_b)


@pytest.mark.parametrize("m, n, k", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 4, 0)])
def test_empty(m, n, k):
    check((m, k), (k, n))


@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i8", "u8", "i16", "i32", "u32", "i64", "bool", "c64", "c128"])
def test_dtypes(dtype, threads):
    check((37, 70), (70, 29), dtype=dtype, set_threads=threads)
    check((5, 300), (7, 300), ((1,), (1,)), dtype=dtype)
    check((300, 70), (70, 150), dtype=dtype)
    check((260,), (260, 130), ((0,), (0,)), dtype=dtype)
    check((70, 150), (150,), ((1,), (0,)), dtype=dtype)


LARGE = {
    "packed": ((200, 700), (700, 210), MATMUL[0], ((), ()), None, None),
    "packed, transposed": ((200, 700), (210, 700), ((1,), (1,)), ((), ()), None, None),
    "panels of both": ((1100, 300), (1100, 500), ((0,), (0,)), ((), ()), None, None),
    "inner product": ((300_000,), (300_000,), ((0,), (0,)), ((), ()), None, None),
    "split, contiguous": ((3, 60_000), (5, 60_000), ((1,), (1,)), ((), ()), None, None),
    "split, tiles": ((20_000, 10), (20_000, 20), ((0,), (0,)), ((), ()), None, None),
    "split, two axes": ((30, 400, 10), (400, 30, 20), ((0, 1), (1, 0)), ((), ()), None, None),
    "blocks of K": ((300, 9000), (9000, 70), MATMUL[0], ((), ()), None, None),
    "matrix-vector": ((900, 1000), (1000,), ((1,), (0,)), ((), ()), None, None),
    "vector-matrix": ((1000,), (1000, 900), ((0,), (0,)), ((), ()), None, None),
    "outer": ((500, 1), (1, 700), MATMUL[0], ((), ()), None, None),
    "heads": ((3, 40, 4, 32), (3, 50, 4, 32), ((3,), (3,)), ((0, 2), (0, 2)), None, None),
    "weights of heads": ((3, 4, 50, 16), (3, 50, 90), ((0, 2), (0, 1)), ((), ()), None, None),
    "many": ((2000, 3, 5), (2000, 5, 4), ((2,), (1,)), ((0,), (0,)), None, None),
}


@pytest.mark.parametrize("case", LARGE)
@pytest.mark.parametrize("dtype", ["f32", "bf16", "c64"])
def test_large(case, dtype, threads):
    check(*LARGE[case][:4], dtype, *LARGE[case][4:], set_threads=threads)


@pytest.mark.parametrize("seed", range(25))
def test_random(seed, threads):
    """Any axes in any order, of transposed operands."""
    pick = random.Random(seed)
    dtype = pick.choice(["f32"] * 4 + ["f64", "bf16", "i8", "i32", "bool", "c64"])
    count = {
        "b": pick.choice([0, 0, 1, 2]),
        "m": pick.choice([0, 1, 1, 2]),
        "n": pick.choice([0, 1, 1, 2]),
        "k": pick.choice([0, 1, 1, 2]),
    }
    size = {
        (g, i): pick.choice([1, 2, 3] if g == "b" else [1, 2, 3, 5, 8, 17, 31, 48])
        for g, n in count.items()
        for i in range(n)
    }
    if count["k"] and pick.random() < 0.3:
        size["k", 0] *= 20

    def operand(own):
        axes = [(g, i) for g in ("b", own, "k") for i in range(count[g])]
        pick.shuffle(axes)
        perm = list(range(len(axes)))
        pick.shuffle(perm)
        shape = [0] * len(axes)
        for axis, p in zip(axes, perm):
            shape[p] = size[axis]
        return axes, tuple(shape), tuple(perm)

    (axes_a, shape_a, perm_a), (axes_b, shape_b, perm_b) = operand("m"), operand("n")
    at = lambda axes, g: tuple(axes.index((g, i)) for i in range(count[g]))
    contract, batch = ((at(axes_a, g), at(axes_b, g)) for g in "kb")
    check(shape_a, shape_b, contract, batch, dtype, perm_a, perm_b, seed, threads)


@pytest.mark.parametrize(
    "dtype, result", [("bf16", "f32"), ("f16", "f32"), ("i8", "i32"), ("u8", "i32"), ("f32", "bf16")]
)
def test_wider_results(dtype, result):
    rng = np.random.default_rng(0)
    x, y = random_values((40, 90), dtype, rng), random_values((90, 50), dtype, rng)
    (got,) = compiled_dot(x.shape, y.shape, *MATMUL, dtype, result=result)(x, y)
    assert_product(got, x.astype(np.float64), y.astype(np.float64), *MATMUL, result)


def test_complex_times_real():
    rng = np.random.default_rng(0)
    x, y = random_values((40, 90), "c64", rng), random_values((90, 50), "f32", rng)
    for a, b, m in ((x, y, "c64"), (y.T.copy(), x.T.copy(), "f32")):
        (got,) = compiled_dot(a.shape, b.shape, *MATMUL, m, dtype_b="f32" if m == "c64" else "c64", result="c64")(a, b)
        assert_product(got, a, b, *MATMUL, "c64")


@pytest.mark.parametrize(
    "m, n, k",
    [
        (64, 100, 30),
        (1, 300, 70),
        (300, 1, 70),
        (5, 9, 400),
        (300, 200, 700),
        (10, 20, 20_000),
        (1, 1, 300_000),
        (300, 70, 9000),
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_epilogue(m, n, k, dtype, threads):
    """Bias, residual, activation and a second result are computed where the product is stored."""

    def epilogue(b, product, inputs):
        bias, residual = b.input((n,), dtype), b.input((m, n), dtype)
        inputs += [bias, residual]
        total = b.map("add", b.map("add", product, b.broadcast(bias, (m, n), (1,))), residual)
        return b.map("max", total, b.full((m, n), 0.0, dtype)), total

    rng = np.random.default_rng(0)
    arrays = [random_values(shape, dtype, rng) for shape in ((m, k), (k, n), (n,), (m, n))]
    compiled = compiled_dot((m, k), (k, n), *MATMUL, dtype, epilogue=epilogue)
    relu, total = compiled(*arrays)
    x, y, bias, residual = (a.astype(np.float64) for a in arrays)
    want = x @ y + bias + residual
    scale = (abs(x) @ abs(y)) * ULPS[dtype][0] * max(4, k**0.5) + abs(want) * ULPS[dtype][0] + 4 * ULPS[dtype][0]
    assert (abs(total.astype(np.float64) - want) <= scale).all()
    np.testing.assert_array_equal(relu, np.maximum(total, np.zeros((), total.dtype)))
    for count in (1, 2):
        threads(count)
        assert [out.tobytes() for out in compiled(*arrays)] == [relu.tobytes(), total.tobytes()]


def dot_and_transposes(perms):
    """dot(f32[2, 3, 4, 17, 5], f32[3, 2, 17, 6, 7]) -> f32[2, 3, 4, 5, 6, 7], and its
    transposes."""
    b = Builder()
    x, y = b.input((2, 3, 4, 17, 5), "f32"), b.input((3, 2, 17, 6, 7), "f32")
    product = b.dot(x, y, ((3,), (2,)), ((0, 1), (1, 0)), "f32")
    compiled = Compiled(Graph((x, y), tuple(b.transpose(product, perm) for perm in perms)))
    rng = np.random.default_rng(0)
    arrays = random_values(x.shape, "f32", rng), random_values(y.shape, "f32", rng)
    whole = np.einsum("abmkn,bakpq->abmnpq", *(v.astype(np.float64) for v in arrays))
    for got, perm in zip(compiled(*arrays), perms, strict=True):
        np.testing.assert_allclose(got, whole.transpose(perm), rtol=1e-5, atol=1e-5)
    return launches(compiled)


def test_transposed_results():
    """Batch axes anywhere, rows and columns as groups in any order, one of them last: the
    contraction writes it so."""
    groups = [[(0, 1), (1, 0)], [(2, 3), (3, 2)], [(4, 5), (5, 4)]]
    direct = [
        batch + rows + columns for batch, *free in itertools.product(*groups) for rows, columns in (free, free[::-1])
    ]
    for perm in direct[1:]:
        assert len(dot_and_transposes([perm])) == 1, perm
    for perm in ((1, 2, 3, 0, 4, 5), (2, 3, 0, 1, 5, 4), (0, 4, 5, 1, 3, 2)):
        assert len(dot_and_transposes([perm])) == 1, perm
    assert len(dot_and_transposes([(2, 3, 4, 5, 0, 1)])) == 2
    assert len(dot_and_transposes([(2, 0, 1, 3, 4, 5)])) == 2
    assert len(dot_and_transposes([(0, 1, 2, 4, 3, 5)])) == 2


@pytest.mark.parametrize("dtype, m, n, k", [
    ("f32", 5, 40, 7), ("f32", 70, 1, 9), ("c64", 3, 5, 4), ("bf16", 20, 33, 8), ("f64", 2, 3, 40_000), ("f32", 1, 1, 6),
])  # fmt: skip
def test_batches_between_rows_and_columns(dtype, m, n, k):
    """bias + transpose(dot) * factor, for orders of two batch axes, rows and columns."""
    rng = np.random.default_rng(m)
    for perm in random.Random(n).sample(list(itertools.permutations(range(4))), 8):
        b = Builder()
        x, y = b.input((2, m, 3, k), dtype), b.input((3, 2, k, n), dtype)
        product = b.transpose(b.dot(x, y, ((3,), (2,)), ((0, 2), (1, 0)), dtype), perm)
        factor, bias = b.input(product.shape, dtype), b.input(product.shape[1:3], dtype)
        out = b.map("add", b.map("mul", product, factor), b.broadcast(bias, product.shape, (1, 2)))
        compiled = Compiled(Graph((x, y, factor, bias), (out, product) if k < 10 else (out,)))
        arrays = [random_values(v.shape, dtype, rng) for v in (x, y, factor, bias)]
        wide = [v.astype(np.complex128 if dtype == "c64" else np.float64) for v in arrays]
        whole = np.einsum("amck,cakn->acmn", *wide[:2], optimize=True).transpose(perm)
        size = np.einsum("amck,cakn->acmn", *map(abs, wide[:2]), optimize=True).transpose(perm)
        got = compiled(*arrays)
        want = [whole * wide[2] + wide[3][:, :, None], whole]
        bounds = [size * abs(wide[2]) + abs(wide[3][:, :, None]), size]
        for one, other, bound in zip(got, want, bounds):
            assert (abs(one.astype(other.dtype) - other) <= bound * ULPS[dtype][0] * max(4, k**0.5)).all(), perm


def test_a_product_is_not_made_twice_to_be_transposed():
    assert len(dot_and_transposes([(0, 1, 2, 3, 4, 5), (0, 1, 4, 5, 2, 3)])) == 2


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "c64", "i32"])
def test_short_inner_products(dtype, threads):
    """Batches of small matrices times vectors: sums over the lanes of several columns are made together."""
    for n, k in ((1, 3), (2, 2), (3, 3), (4, 4), (8, 8), (13, 5), (16, 16), (10, 40), (7, 64), (33, 100)):
        check((9, n, k), (9, k), ((2,), (1,)), ((0,), (0,)), dtype, set_threads=threads)
    check((6, 40), (30, 40), ((1,), (1,)), dtype=dtype)


def test_columns_a_power_of_two_apart():
    """Packing walks columns that fall into one set of the cache."""
    check((20, 1024), (200, 1024), ((1,), (1,)))
    check((20, 1000), (200, 1000), ((1,), (1,)), dtype="bf16")


def launches(compiled):
    return [step for block in compiled.program.blocks for step in block if isinstance(step, Launch)]


def test_one_kernel_for_many_sizes():
    """Rows, depths and strides are extents of the launch: a kernel depends on the tile only."""
    names = {
        tuple(compiled_dot((m, k), (k, 384), *MATMUL).program.kernels) for m, k in ((512, 128), (1000, 96), (2048, 100))
    }
    assert len(names) == 1
    batched = (((3,), (2,)), ((0, 1), (0, 1)))
    names = {tuple(compiled_dot((b, h, 64, 32), (b, h, 32, 64), *batched).program.kernels) for b, h in ((8, 4), (2, 9))}
    assert len(names) == 1


def test_small_products_are_one_chunk():
    (step,) = launches(compiled_dot((64, 64), (64, 64), *MATMUL))
    assert step.total <= step.grain


def test_large_products_have_tasks_for_many_threads():
    for a, b in (((1024, 1024), (1024, 1024)), ((50_000, 64), (64, 32)), ((8, 512), (512, 50_000))):
        (step,) = launches(compiled_dot(a, b, *MATMUL))
        assert -(-step.total // step.grain) >= 8, (a, b, step)


def test_register_tiles_fit():
    for registers, lanes in ((32, 16), (16, 8), (16, 4)):
        for m in (1, 2, 3, 7, 8, 33, 1024):
            for n in (1, 3, 10, 48, 100, 1000):
                rows, vectors, width, tail = choose(m, n, lanes, registers)
                assert 1 <= rows <= m
                assert rows * vectors + vectors * (rows > 1) + 1 <= registers
                assert rows * tail < registers
                assert width <= lanes
                assert tail or n % (vectors * width) == 0


@pytest.mark.parametrize("features", [(), AVX2], ids=["sse2", "avx2"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "c64", "i32"])
def test_other_targets(features, dtype):
    """Narrower registers, no fused multiply-add."""
    if not set(features) <= set(host_target().features):
        pytest.skip("this machine lacks the instructions")
    target = make_target(features)
    rng = np.random.default_rng(0)
    for m, n, k in ((50, 70, 300), (1, 300, 70), (300, 1, 300)):
        x, y = random_values((m, k), dtype, rng), random_values((k, n), dtype, rng)
        compiled = compiled_dot((m, k), (k, n), *MATMUL, dtype, target=target)
        assert_product(compiled(x, y)[0], x, y, *MATMUL, dtype)


def test_narrow_registers_get_narrow_tiles():
    spec = DotSpec(
        "f32", "f32", "f32", (), (Dim(1024, 1024, 0, 1024),), (Dim(1024, 0, 1, 1),), (Dim(1024, 1, 1024, 0),)
    )
    for features in ((), AVX2):
        target = make_target(features)
        tile = plan_contraction(spec, target).main.tile
        assert tile.lanes * 4 == target.vector_bytes
        assert tile.rows * tile.vectors <= 12


@pytest.mark.parametrize("caches", [(32 << 10, 256 << 10), (48 << 10, 2 << 20), (64 << 10, 16 << 20)])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "c128"])
def test_packed_columns_fit_their_memory(caches, dtype):
    target = make_target(host_target().features, caches)
    packed = 0
    for m in (1, 2, 9, 64, 1000, 5000):
        for n in (1, 3, 48, 1000, 50_000):
            for k in ((1,), (7,), (300,), (1024,), (5000,), (1_000_000,), (3, 700), (50, 60, 70), (2000, 3)):
                for by_columns in (False, True):
                    ks, size = [], 1
                    for extent in reversed(k):
                        ks.insert(0, Dim(extent, 2 * size, 3 * size if by_columns else size * n, 0))
                        size *= extent
                    b_n = 3 * size if by_columns else 1
                    spec = DotSpec(dtype, dtype, dtype, (), (Dim(m, 2 * size, 0, n),), (Dim(n, 0, b_n, 1),), tuple(ks))
                    main = plan_contraction(spec, target).main
                    if not getattr(main.tile, "pack", 0):
                        continue
                    packed += 1
                    depth = size
                    if main.tile.block:
                        depth = main.sizes.k_block * int(np.prod(k[main.tile.k_cut + 1 :], dtype=np.int64))
                        blocks = main.sizes.k_blocks * main.sizes.k_block
                        assert blocks >= k[main.tile.k_cut] > blocks - main.sizes.k_block
                    columns = (
                        -(-min(main.sizes.column_block, n) // (main.tile.vectors * main.tile.lanes))
                        * main.tile.vectors
                        * main.tile.lanes
                    )
                    assert depth * columns <= main.tile.pack, (m, n, k, by_columns, main)
    assert packed > 50
