"""The compiler from array graphs to programs, run against the NumPy evaluator of graphs."""

import numpy as np
import pytest
from graph_fuzz import ControlFuzzer, Fuzzer
from graph_reference import NUMPY, run_graph
from graph_runner import Compiled, run

from velax._compiler import schedule
from velax._compiler.fuse import fuse
from velax._compiler.simplify import simplify
from velax._ir.graph import Builder, GatherDims, Graph, Node
from velax._ir.graph_check import GraphError, check_graph
from velax._ir.graph_text import print_graph
from velax._ir.loops_check import check_kernel
from velax._ir.program import Copy, Launch


@pytest.fixture(autouse=True)
def separate_kernels(monkeypatch):
    """Small programs would be one kernel; most tests are about what becomes kernels of its own."""
    monkeypatch.setattr(schedule, "INLINE_GROUPS", 0)


def rand(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def check(graph, *arrays, rtol=2e-5, atol=2e-5, **options):
    check_graph(graph)
    compiled = Compiled(graph, **options)
    check_graph(compiled.compiled.graph)
    for kernel in compiled.compiled.kernels.values():
        check_kernel(kernel)
    got, want = compiled(*arrays), run_graph(graph, *arrays)
    for k, (a, b) in enumerate(zip(got, want)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=f"output {k}")
    return compiled


def launches(compiled) -> int:
    return sum(isinstance(step, Launch) for block in compiled.program.blocks for step in block)


def copies(compiled) -> int:
    return sum(isinstance(step, Copy) for block in compiled.program.blocks for step in block)


def along(b, r, x, axis):
    return b.broadcast(r, x.shape, [d for d in range(x.ndim) if d != axis % x.ndim])


def softmax(b, x, axis=-1):
    axis %= x.ndim
    e = b.map("exp", b.map("sub", x, along(b, b.reduce("max", x, (axis,)), x, axis)))
    return b.map("div", e, along(b, b.reduce("add", e, (axis,)), x, axis))


def layer_norm(b, x, scale, bias):
    n, last = x.shape[-1], x.ndim - 1
    mean = b.map("mul", b.reduce("add", x, (last,)), b.full(x.shape[:-1], 1 / n, "f32"))
    centred = b.map("sub", x, along(b, mean, x, last))
    var = b.map("mul", b.reduce("add", b.map("mul", centred, centred), (last,)), b.full(x.shape[:-1], 1 / n, "f32"))
    inverse = b.map("rsqrt", b.map("add", var, b.full(var.shape, 1e-5, "f32")))
    y = b.map("mul", centred, along(b, inverse, x, last))
    return b.map("add", b.map("mul", y, b.broadcast(scale, x.shape, (last,))), b.broadcast(bias, x.shape, (last,)))


# -- fusion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7), (64, 1000), (2, 3, 33), (1, 10), (700,), (4, 1)])
def test_softmax_is_one_kernel(shape):
    b = Builder()
    x = b.input(shape, "f32")
    compiled = check(Graph((x,), (softmax(b, x),)), rand(*shape))
    assert launches(compiled) == 1


def test_softmax_and_its_derivative_are_one_kernel_each():
    b = Builder()
    x, g = b.input((6, 50), "f32"), b.input((6, 50), "f32")
    y = b.barrier([softmax(b, x)])[0]
    inner = b.reduce("add", b.map("mul", y, g), (1,))
    dx = b.map("mul", y, b.map("sub", g, along(b, inner, g, 1)))
    assert launches(check(Graph((x, g), (dx,)), rand(6, 50), rand(6, 50, seed=1))) == 2


def test_layer_norm_is_one_kernel():
    b = Builder()
    x, s, t = b.input((3, 8, 96), "f32"), b.input((96,), "f32"), b.input((96,), "f32")
    compiled = check(Graph((x, s, t), (layer_norm(b, x, s, t),)), rand(3, 8, 96), rand(96), rand(96, seed=1))
    assert launches(compiled) == 1


def test_batch_norm_over_two_outer_axes_is_one_kernel():
    b = Builder()
    x = b.input((8, 5, 40), "f32")
    mean = b.map("mul", b.reduce("add", x, (0, 2)), b.full((5,), 1 / 320, "f32"))
    centred = b.map("sub", x, b.broadcast(mean, x.shape, (1,)))
    var = b.reduce("add", b.map("mul", centred, centred), (0, 2))
    compiled = check(Graph((x,), (b.map("div", centred, b.broadcast(var, x.shape, (1,))),)), rand(8, 5, 40))
    assert launches(compiled) == 1


def test_sibling_reductions_and_a_pointwise_result_share_one_pass():
    b = Builder()
    x = b.input((40, 300), "f32")
    square = b.map("mul", x, x)
    compiled = check(
        Graph((x,), (square, b.reduce("add", square, (1,)), b.reduce("max", x, (1,)))), rand(40, 300), rtol=1e-4
    )
    assert launches(compiled) == 1


def test_argmax_is_one_kernel_and_takes_the_first_nan():
    b = Builder()
    x = b.input((4, 100), "f32")
    data = rand(4, 100)
    data[1, 7] = data[1, 9] = np.nan
    data[2, 50] = data[2, 60] = 99
    compiled = check(Graph((x,), (b.argreduce("argmax", x, 1, "i32"), b.argreduce("argmin", x, 0, "i32"))), data)
    assert launches(compiled) == 2


def test_expensive_values_are_not_recomputed_for_every_row():
    b = Builder()
    x, w = b.input((64, 32), "f32"), b.input((32,), "f32")
    e = b.map("exp", w)
    graph = Graph((x, w), (b.map("mul", x, b.broadcast(e, x.shape, (1,))),))
    plan = fuse(simplify(graph))
    assert sum(node.op == "map" and node.attrs["fn"] == "exp" for node in plan.roots) == 1
    check(graph, rand(64, 32), rand(32))


def test_cheap_values_are_recomputed_instead_of_stored():
    b = Builder()
    x = b.input((64, 32), "f32")
    y = b.map("add", x, x)
    graph = Graph((x,), (b.reduce("add", y, (0,)), b.transpose(y, (1, 0)), b.reduce("max", b.rev(y, (1,)), (0, 1))))
    plan = fuse(simplify(graph))
    assert not any(node.op == "map" for node in plan.roots)
    check(graph, rand(64, 32), rtol=1e-4)


def test_elementwise_consumers_are_computed_as_a_contraction_is_stored():
    b = Builder()
    x, w, bias = b.input((6, 5, 8), "f32"), b.input((8, 9), "f32"), b.input((9,), "f32")
    y = b.map("add", b.dot(x, w, ((2,), (0,)), ((), ()), "f32"), b.broadcast(bias, (6, 5, 9), (2,)))
    graph = Graph((x, w, bias), (b.map("tanh", y), b.map("neg", y)))
    assert launches(check(graph, rand(6, 5, 8), rand(8, 9), rand(9))) == 1


def test_small_programs_are_one_kernel(monkeypatch):
    monkeypatch.setattr(schedule, "INLINE_GROUPS", 16)
    b = Builder()
    x, w = b.input((4, 4), "f32"), b.input((4, 4), "f32")
    y = b.dot(b.map("tanh", b.dot(x, w, ((1,), (0,)), ((), ()), "f32")), w, ((1,), (0,)), ((), ()), "f32")
    graph = Graph((x, w), (b.reduce("add", y, (0,)), b.reduce("max", y, (0, 1)), x, b.cumulate("add", y, 1, False)))
    assert launches(check(graph, rand(4, 4), rand(4, 4))) == 1


# -- large reductions ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape, axes", [
    ((300_001,), (0,)), ((3, 200_000), (1,)), ((100_003, 7), (0,)), ((1000, 301), (0, 1)), ((500, 4, 200), (0, 2)), ((9, 40_000), (0,)),
])  # fmt: skip
@pytest.mark.parametrize("fn", ["add", "max"])
def test_large_reductions_in_two_stages(shape, axes, fn):
    b = Builder()
    x = b.input(shape, "f32")
    data = rand(*shape)
    (got,) = run(Graph((x,), (b.reduce(fn, x, axes),)), data)
    want = data.astype(np.float64).sum(axes) if fn == "add" else data.max(axes)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-2)


def test_results_do_not_depend_on_threads():
    b = Builder()
    x = b.input((400_000,), "f32")
    compiled = Compiled(Graph((x,), (b.reduce("add", x, (0,)),)))
    data = rand(400_000)
    assert len({compiled(data)[0].tobytes() for _ in range(5)}) == 1


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_narrow_sums_accumulate_in_f32(dtype):
    b = Builder()
    x = b.input((2, 200_000), dtype)
    (got,) = run(Graph((x,), (b.reduce("add", x, (1,)),)), np.full((2, 200_000), 0.1, NUMPY[dtype]))
    np.testing.assert_allclose(got.astype(np.float32), 200_000 * float(NUMPY[dtype](0.1)), rtol=1e-2)


# -- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "i8", "u8", "i32", "u32", "i64", "f16", "bf16", "f32", "f64", "c64", "c128"])
@pytest.mark.parametrize("groups", [0, 16], ids=["kernels", "whole"])
def test_every_dtype_through_the_main_kinds_of_nests(dtype, groups, monkeypatch):
    monkeypatch.setattr(schedule, "INLINE_GROUPS", groups)
    b = Builder()
    x = b.input((6, 10), dtype)
    fn = "or" if dtype == "bool" else "add"
    total = b.reduce(fn, x, (1,))
    graph = Graph((x,), (
        b.map(fn, x, b.broadcast(total, (6, 10), (0,))), b.reduce(fn, x, (0,)), b.reduce(fn, x, (0, 1)), b.transpose(x, (1, 0)),
        b.concatenate([x, b.rev(x, (1,))], 1), b.dot(x, x, ((1,), (1,)), ((), ()), dtype) if dtype != "bool" else x,
        b.map("select", b.map("eq", x, b.rev(x, (0,))), x, b.full((6, 10), 1, dtype)),
        b.reduce(fn, b.slice(x, (0, 0), (2, 3)), (0,)), b.reshape(b.slice(x, (1, 1), (2, 2)), ()),
        b.dynamic_update_slice(x, b.slice(x, (0, 0), (2, 3)), (b.literal(1, "i32"), b.literal(2, "i32"))),
        b.pad(x, b.literal(1, dtype), (1, -1), (0, 2), (0, 1)),
    ))  # fmt: skip
    data = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 5, (6, 10))
    if dtype in ("c64", "c128"):
        data = data + 1j * data[::-1]
    for got, want in zip(run(graph, data), run_graph(graph, data)):
        assert np.array_equal(got, want), (got, want)


# -- memory --------------------------------------------------------------------------------------


def test_donated_input_is_overwritten():
    b = Builder()
    x, y = b.input((1000,), "f32"), b.input((1000,), "f32")
    compiled = Compiled(Graph((x, y), (b.map("add", x, y),)), donated=(0,))
    assert str(compiled.program.outputs[0]).startswith("alias input0")
    np.testing.assert_array_equal(compiled(np.ones(1000), np.arange(1000))[0], np.arange(1000) + 1)


def test_update_of_a_donated_input_copies_nothing():
    b = Builder()
    x, i = b.input((1000,), "f32"), b.input((), "i32")
    compiled = Compiled(Graph((x, i), (b.dynamic_update_slice(x, b.full((1,), 5, "f32"), (i,)),)), donated=(0,))
    assert copies(compiled) == 0
    kept = Compiled(Graph((x, i), (b.dynamic_update_slice(x, b.full((1,), 5, "f32"), (i,)),)))
    assert copies(kept) == 1
    for c in (compiled, kept):
        (out,) = c(np.zeros(1000), 7)
        assert out[7] == 5 and out.sum() == 5


def test_outputs_that_are_inputs_are_passed_on():
    b = Builder()
    x = b.input((10,), "f32")
    compiled = Compiled(Graph((x,), (x, b.map("neg", x), b.reshape(x, (2, 5)))))
    assert [str(o).split()[0] for o in compiled.program.outputs] == ["forward", "fresh", "forward"]
    x_out, minus, shaped = compiled(np.arange(10))
    np.testing.assert_array_equal(x_out, -minus)
    assert shaped.shape == (2, 5)


def test_temporaries_share_memory():
    b = Builder()
    x = b.input((100, 100), "f32")
    y = x
    for _ in range(6):
        y = b.map("tanh", b.dot(y, x, ((1,), (0,)), ((), ()), "f32"))
    compiled = Compiled(Graph((x,), (y,)))
    assert compiled.program.arena_bytes <= 3 * 40_064


# -- control flow --------------------------------------------------------------------------------


def running_sum(n, steps=1):
    body = Builder()
    c, x = body.input((), "f32"), body.input((), "f32")
    s = body.map("add", c, x)
    b = Builder()
    init, xs = b.input((), "f32"), b.input((n,), "f32")
    return Graph((init, xs), tuple(b.scan(Graph((c, x), (s, s)), [], [init], [xs], n, False)))


def test_small_scan_is_one_kernel():
    compiled = check(running_sum(50), np.float32(1), rand(50), rtol=1e-4)
    assert launches(compiled) == 1 and len(compiled.program.blocks) == 1


@pytest.mark.parametrize("inner_steps, written_out", [(2, True), (60, False)])
def test_a_scan_is_written_out_unless_that_is_much_code(inner_steps, written_out):
    """What counts is all that a step contains, here a loop of its own."""
    inner = Builder()
    c, v = inner.input((), "f32"), inner.input((), "f32")
    s = c
    for _ in range(inner_steps):
        s = inner.map("sin", inner.map("add", s, v))
    body = Builder()
    d, xs = body.input((), "f32"), body.input((4,), "f32")
    (total,) = body.scan(Graph((c, v), (s,)), [], [d], [xs], 4, False)
    b = Builder()
    init, rows = b.input((), "f32"), b.input((12, 4), "f32")
    graph = Graph((init, rows), tuple(b.scan(Graph((d, xs), (total,)), [], [init], [rows], 12, False, unroll=12)))
    check(graph, np.float32(1), rand(12, 4), rtol=1e-4)
    assert print_graph(simplify(graph)).count("= loop") == (12 if written_out else 2)


@pytest.mark.parametrize("work", [-1, 4096])
def test_stacked_results_are_written_in_place(monkeypatch, work):
    monkeypatch.setattr(schedule, "INLINE_WORK", work)
    compiled = check(running_sum(20), np.float32(1), rand(20), rtol=1e-4)
    assert all(step.nbytes <= 4 for block in compiled.program.blocks for step in block if isinstance(step, Copy))


def test_fibonacci_carries_swap():
    body = Builder()
    p, q = body.input((3000,), "f32"), body.input((3000,), "f32")
    b = Builder()
    x, y = b.input((3000,), "f32"), b.input((3000,), "f32")
    for n in (4, 5):
        graph = Graph((x, y), tuple(b.scan(Graph((p, q), (q, body.map("add", p, q))), [], [x, y], [], n, False)))
        check(graph, np.ones(3000), np.arange(3000))


def test_nested_loops_in_registers():
    inner = Builder()
    i, s = inner.input((), "i32"), inner.input((), "f32")
    inner_body = Graph(
        (i, s), (inner.map("add", i, inner.literal(1, "i32")), inner.map("add", s, inner.convert(i, "f32")))
    )
    test = Builder()
    j, _ = test.input((), "i32"), test.input((), "f32")
    inner_cond = Graph(tuple(test.inputs), (test.map("lt", j, test.literal(4, "i32")),))
    outer = Builder()
    s = outer.input((), "f32")
    result = outer.while_(inner_cond, inner_body, [], [], [outer.literal(0, "i32"), s])[1]
    b = Builder()
    x = b.input((), "f32")
    compiled = check(Graph((x,), tuple(b.scan(Graph((s,), (result, result)), [], [x], [], 5, True))), np.float32(2))
    assert launches(compiled) == 1


def test_cond_clamps_its_index():
    graphs = []
    for fn in ("neg", "abs", "sqrt"):
        inner = Builder()
        x = inner.input((5,), "f32")
        graphs.append(Graph((x,), (inner.map(fn, x),)))
    b = Builder()
    i, x = b.input((), "i32"), b.input((5,), "f32")
    graph = Graph((i, x), tuple(b.cond(i, graphs, [x])))
    compiled = Compiled(graph)
    for index in (-3, 0, 1, 2, 9):
        np.testing.assert_allclose(
            compiled(index, np.arange(5))[0], run_graph(graph, index, np.arange(5))[0], rtol=1e-6
        )


def test_empty_loops_and_empty_arrays():
    check(running_sum(0), np.float32(1), np.zeros(0, np.float32))
    b = Builder()
    x = b.input((0, 3), "f32")
    graph = Graph(
        (x,), (b.map("neg", x), b.reduce("add", x, (0,)), b.reduce("max", x, (0, 1)), b.concatenate([x, x], 0))
    )
    got = run(graph, np.zeros((0, 3)))
    assert [g.shape for g in got] == [(0, 3), (3,), (), (0, 3)]
    assert np.array_equal(got[1], np.zeros(3)) and got[2] == -np.inf


# -- callbacks, order ----------------------------------------------------------------------------


def test_callbacks_run_in_order_and_without_uses():
    seen = []

    def note(x):
        seen.append(float(x))
        return [np.asarray(x) * 2]

    scalar = ((), np.dtype(np.float32), False)

    b = Builder()
    x = b.input((), "f32")
    first = b.callback(0, [x], [((), "f32")], True)
    second = b.callback(1, [b.map("neg", x)], [((), "f32")], True)
    effects = (first[0].inputs[0], second[0].inputs[0])
    compiled = Compiled(Graph((x,), (b.map("add", x, x),), effects), callbacks=[(note, [scalar], [scalar])] * 2)
    assert compiled(np.float32(3))[0] == 6 and seen == [3.0, -3.0]


# -- gather, scatter -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["clip", "fill"])
def test_gather_modes(mode):
    b = Builder()
    x, i = b.input((5, 3), "f32"), b.input((4, 1), "i32")
    dims = GatherDims((1,), (0,), (0,))
    check(
        Graph((x, i), (b.gather(x, i, dims, (1, 3), mode, None, (4, 3)),)), rand(5, 3), np.array([[0], [-1], [4], [7]])
    )


@pytest.mark.parametrize("fn", ["set", "add", "mul", "min", "max", "sub"])
@pytest.mark.parametrize("mode", ["clip", "drop", "promise"])
def test_scatter(fn, mode):
    b = Builder()
    x, i, u = b.input((5, 3), "f32"), b.input((4, 1), "i32"), b.input((4, 3), "f32")
    dims = GatherDims((1,), (0,), (0,))
    at = np.array([[0], [2], [4], [2]]) if mode == "promise" else np.array([[0], [-1], [4], [7]])
    check(Graph((x, i, u), (b.scatter(fn, x, i, u, dims, mode, False, False),)), rand(5, 3), at, rand(4, 3, seed=1))


# -- text, fuzzing -------------------------------------------------------------------------------


def test_graph_text():
    b = Builder()
    x, y = b.input((4, 3), "f32"), b.input((3,), "f32")
    text = print_graph(Graph((x, y), (b.map("add", x, b.broadcast(y, (4, 3), (1,))),)))
    assert text == (
        "graph(%0: f32[4, 3], %1: f32[3])\n"
        "  %2 = broadcast %1 dims=(1,) : f32[4, 3]\n"
        "  %3 = map.add %0, %2 : f32[4, 3]\n"
        "  return %3\n"
    )


def test_verifier_shows_the_node_in_its_graph():
    b = Builder()
    x = b.input((4, 3), "f32")
    bad = Node("transpose", (x,), {"perm": (1, 0)}, (4, 3), "f32")
    with pytest.raises(
        GraphError, match=r"shape should be \[3, 4\](.|\n)*%1 = transpose %0 perm=\(1, 0\) : f32\[4, 3\]  ; <--"
    ):
        check_graph(Graph((x,), (b.map("neg", bad),)))
    other = Builder().input((2,), "f32")
    with pytest.raises(GraphError, match="an input of another graph"):
        check_graph(Graph((x,), (b.map("neg", other),)))


@pytest.mark.parametrize("groups", [16, 0], ids=["whole", "kernels"])
@pytest.mark.parametrize("seed", range(25))
def test_random_graphs(seed, groups, monkeypatch):
    monkeypatch.setattr(schedule, "INLINE_GROUPS", groups)
    f = Fuzzer(seed, 20)
    check(f.graph, *f.arrays, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("seed", range(100, 120))
def test_random_graphs_with_every_size_large(seed, monkeypatch):
    """Blocks, tiles, stages and pieces that large arrays are cut in, on small arrays."""
    small = {
        "SPLIT_ELEMENTS": 64, "PARTIAL_ELEMENTS": 8, "PARTIAL_BLOCKS": 3, "TILE_ELEMENTS": 16, "TILE": (4, 6),
        "PIECEWISE_ELEMENTS": 64,
        "COLUMN_BLOCK": 8, "CHUNK_NS": 20, "inner_block": lambda rows, inner: inner if inner < 20 else 13,
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(schedule, name, value)
    f = Fuzzer(seed, 18)
    check(f.graph, *f.arrays, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("work", [4096, -1], ids=["whole", "blocks"])
@pytest.mark.parametrize("seed", range(15))
def test_random_control_flow(seed, work, monkeypatch):
    monkeypatch.setattr(schedule, "INLINE_WORK", work)
    f = ControlFuzzer(seed, 14, 1500)
    check(f.graph, *f.arrays, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("rows, inline", [(40, False), (6, True), (40, True)])
@pytest.mark.parametrize("dtype", ["f32", "c64"])
def test_a_scan_stores_its_rows_from_the_kernels_that_compute_them(rows, inline, dtype, monkeypatch):
    """Of a contraction, of elementwise functions and of reductions; the stack is never copied."""
    if inline:
        monkeypatch.setattr(schedule, "INLINE_WORK", 1 << 20)
    inner = Builder()
    w, h, x = inner.input((8, 8), dtype), inner.input((rows, 8), dtype), inner.input((rows, 8), dtype)
    y = inner.map("add", inner.dot(h, w, ((1,), (0,)), ((), ()), dtype), x)
    new = inner.map("tanh", y)
    total = inner.reduce("add", inner.map("mul", new, inner.transpose(inner.reshape(x, (8, rows)), (1, 0))), (1,))
    body = Graph((w, h, x), (new, new, inner.map("mul", y, y), total, inner.map("neg", total), inner.map("exp", x)))
    b = Builder()
    operands = [b.input(shape, dtype) for shape in ((8, 8), (rows, 8), (5, rows, 8))]
    outs = b.scan(body, operands[:1], operands[1:2], operands[2:], 5, reverse=True)
    compiled = check(Graph(tuple(operands), tuple(outs)), *(rand(*x.shape, dtype=NUMPY[dtype]) / 3 for x in operands))
    if not inline:
        (loop,) = [block for block in compiled.program.blocks[1:] if any(isinstance(step, Launch) for step in block)]
        row = rows * 8 * np.dtype(NUMPY[dtype]).itemsize
        assert sum(isinstance(step, Launch) for step in loop) == 3
        assert all(step.nbytes == row for step in loop if isinstance(step, Copy)), "only the carry"


def test_a_stack_that_is_read_gets_its_row_after_that():
    """The update waits for whatever reads the stack as it was."""
    b = Builder()
    stack, x, k = b.input((4, 32), "f32"), b.input((32,), "f32"), b.input((), "i32")
    zero = b.literal(0, "i32")
    y = b.map("sin", x)
    updated = b.dynamic_update_slice(stack, b.reshape(y, (1, 32)), (k, zero))
    z = b.map("add", b.broadcast(y, (4, 32), (1,)), b.map("mul", stack, stack))
    for at in (-1, 2, 7):
        check(Graph((stack, x, k), (updated, y, z)), rand(4, 32), rand(32), np.int32(at), donated=(0,))


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "i8", "bool"])
def test_columns_of_narrow_arrays(dtype):
    """Lanes that lie a few elements apart are picked from whole vectors."""
    rng = np.random.default_rng(0)
    for width in (2, 3, 5, 6, 7, 8, 11, 12, 13):
        b = Builder()
        x = b.input((331, width), dtype)
        column = lambda k: b.reshape(b.slice(x, (0, k), (331, k + 1)), (331,))
        outputs = [b.map("max", column(0), column(width - 1)), b.slice(column(width // 2), (3,), (300,))]
        values = (rng.integers(0, 2 if dtype == "bool" else 100, x.shape)).astype(NUMPY[dtype])
        check(Graph((x,), tuple(outputs)), values, rtol=0, atol=0)
