"""Generated code against the interpreter of the loop IR: every operation, dtype, stride, mask and control structure."""

import threading

import llvmlite.binding as llvm
import numpy as np
import pytest
from cpu_features import AVX2, SSE4
from loops_fuzz import Fuzzer
from loops_harness import awkward, call, check, compile_and_load, load as load_objects, operations, pointwise

from velax._compiler import objects
from velax._compiler.elf import ElfError, external_symbols, split_object
from velax._compiler.emit import emit_kernel
from velax._compiler.scratch import scratch_bytes
from velax._compiler.target import host_target, make_target
from velax._ir.interpret import numpy_dtype
from velax._ir.loops import (
    DTYPES,
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
    Store,
    Unary,
    Var,
    While,
)
from velax._ir.loops_build import add, c, div, fma, load, lt, mul, sub


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [0, 16])
def test_operations(dtype, width):
    rng = np.random.default_rng(7)
    kernel = pointwise(f"ops_{dtype}_{width}", [dtype] * 3, operations(dtype), width)
    function = compile_and_load([kernel])[kernel.name]
    n = 16 * 20 + 5
    buffers = [awkward(dtype, n, rng) for _ in range(3)]
    buffers += [np.zeros(n, numpy_dtype(p.dtype)) for p in kernel.params[3:]]
    check(kernel, function, buffers, [], 1, n - 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [0, 16])
def test_casts(dtype, width):
    rng = np.random.default_rng(8)

    kernel = pointwise(f"casts_{dtype}_{width}", [dtype], lambda x: [Cast(to, x) for to in DTYPES], width)
    function = compile_and_load([kernel])[kernel.name]
    n = 16 * 40 + 9
    buffers = [awkward(dtype, n, rng)] + [np.zeros(n, numpy_dtype(p.dtype)) for p in kernel.params[1:]]
    check(kernel, function, buffers, [], 0, n)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bool"])
def test_bitcasts(dtype):
    rng = np.random.default_rng(9)
    kinds = [d for d in DTYPES if d != "bool" and WIDTH[d] == WIDTH[dtype]]
    kernel = pointwise(f"bits_{dtype}", [dtype], lambda x: [Bitcast(to, x) for to in kinds])
    function = compile_and_load([kernel])[kernel.name]
    values = awkward(dtype, 500, rng)
    if dtype in FLOATS:  # the bits of a NaN are not part of the semantics
        with np.errstate(all="ignore"):
            values = values[~np.isnan(values.astype(np.float64))]
    buffers = [values] + [np.zeros(values.size, numpy_dtype(p.dtype)) for p in kernel.params[1:]]
    check(kernel, function, buffers, [], 0, values.size)


@pytest.mark.parametrize("block", range(4))
def test_random_kernels(block):
    """Random programs; a failure names its seed, and `Fuzzer(seed).kernel` is the program."""
    programs = [Fuzzer(seed) for seed in range(8 * block, 8 * block + 8)]
    functions = compile_and_load([p.kernel for p in programs])
    for program in programs:
        for lo, hi in ((0, 67), (3, 20), (5, 5)):
            buffers = program.buffers(1)
            check(program.kernel, functions[program.name], buffers, [5], lo, hi, f"{program.name} [{lo}, {hi})")


OTHER_TARGETS = {
    "avx512 without fp16": make_target([f for f in host_target().features if f != "avx512fp16"]),
    "avx2": make_target([f for f in AVX2 if host_target().has(f)]),
    "sse4": make_target(SSE4),
}


@pytest.mark.parametrize("name", OTHER_TARGETS)
def test_other_instruction_sets(name):
    """Narrower targets are subsets of this machine, so their code runs here."""
    rng = np.random.default_rng(11)
    kernels = [pointwise(f"ops_{d}", [d] * 3, operations(d)) for d in ("f32", "f16", "i8", "i64", "f8e5m2", "bool")]
    kernels += [pointwise("casts", ["f64"], lambda x: [Cast(to, x) for to in DTYPES])]
    functions = load_objects(objects.compile_kernels(kernels, OTHER_TARGETS[name]))
    n = 75
    for kernel in kernels:
        buffers = [
            awkward(p.dtype, n, rng) if p.name[0] == "x" else np.zeros(n, numpy_dtype(p.dtype)) for p in kernel.params
        ]
        check(kernel, functions[kernel.name], buffers, [], 1, n - 1, name)


def test_division_of_words():
    """64-bit division in vectors is two float estimates: quotients near integers are where it could go wrong."""
    rng = np.random.default_rng(12)
    divisors = [3, 7, 10, 48, 1000003, (1 << 62) + 1]
    kernels = []
    for dtype in ("i64", "u64"):
        build = lambda x, y, dtype=dtype: [
            Binary(op, x, d) for op in ("div", "rem") for d in (y, *(c(v, dtype) for v in divisors))
        ]
        kernels.append(pointwise(f"divide_{dtype}", [dtype] * 2, build))
    functions = compile_and_load(kernels)
    n = 600
    for kernel in kernels:
        dtype = numpy_dtype(kernel.params[0].dtype)
        y = awkward(kernel.params[0].dtype, n, rng) >> rng.integers(0, 60, n).astype(dtype)
        with np.errstate(all="ignore"):
            x = (y * rng.integers(0, 1 << 20, n).astype(dtype) + rng.integers(-1, 2, n).astype(dtype)).astype(dtype)
        buffers = [x, y] + [np.zeros(n, dtype) for _ in kernel.params[2:]]
        check(kernel, functions[kernel.name], buffers, [], 0, n)


@pytest.mark.parametrize("width", [6, 12, 24, 48, 96])
def test_widths_that_are_no_power_of_two(width):
    x, y, i, k, t = Buffer("x", "f32"), Buffer("y", "f32"), Var("i"), Var("k"), Var("t", "f32")
    r = Buffer("r", "f32", "register", 2)
    steps = For(k, c(0), Extent(0), (Store(r, c(0), fma(load(r, 1), load(x, i), load(r, 0))),))
    body = (Let(t, load(x, i)), Alloc(r), Store(r, c(0), t), Store(r, c(1), mul(t, t)), steps)
    body += (Store(y, add(i, 1), load(r, 0)),)
    kernel = Kernel(f"wide_{width}", (x, y), 1, (For(i, LO, HI, body, "vector", width),))
    function = compile_and_load([kernel])[kernel.name]
    for lo, hi in ((0, 0), (0, 200), (3, 100), (5, 53), (4, 2)):
        buffers = [np.linspace(-2, 2, 300, dtype=np.float32), np.zeros(300, np.float32)]
        check(kernel, function, buffers, [3], lo, hi)


def complex_product(size):
    a, b, out = Buffer("a", "f32", size=size), Buffer("b", "f32", size=size), Buffer("out", "f32")
    i = Var("i")
    re, im = mul(i, 2), add(mul(i, 2), 1)
    body = (
        Store(out, re, sub(mul(load(a, re), load(b, re)), mul(load(a, im), load(b, im)))),
        Store(out, im, add(mul(load(a, re), load(b, im)), mul(load(a, im), load(b, re)))),
    )
    return Kernel(f"complex_product_{size}", (a, b, out), 0, (For(i, LO, HI, body, "vector", 16),))


@pytest.mark.parametrize("size", [None, 202])
def test_interleaved_arrays(size):
    kernel = complex_product(size)
    text = emit_kernel(kernel, host_target())
    assert "gather" not in text and "scatter" not in text
    function = compile_and_load([kernel])[kernel.name]
    rng = np.random.default_rng(13)
    for lo, hi in ((0, 101), (7, 23), (3, 4)):
        buffers = [rng.normal(size=202).astype(np.float32) for _ in range(3)]
        check(kernel, function, buffers, [], lo, hi)


def test_float_reduction_is_a_fixed_tree():
    x, s, i = Buffer("x", "f32"), Buffer("s", "f32"), Var("i")
    kernel = Kernel("total", (x, s), 0, (For(i, LO, HI, (Reduce("add", s, c(0), load(x, i)),), "vector", 32),))
    function = compile_and_load([kernel])[kernel.name]
    values = np.random.default_rng(14).normal(size=1000).astype(np.float32)
    results = []
    for _ in range(2):
        total = np.zeros(1, np.float32)
        assert call(function, [values, total], [], 0, 1000) == 0
        results.append(total[0])
    lanes = np.full(32, -0.0, np.float32)
    for first in range(0, 1000, 32):
        group = values[first : first + 32]
        lanes[: group.size] += group
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    assert results == [lanes[0], lanes[0]]


def test_invariant_code_moves_out_of_loops_but_not_out_of_conditions():
    x, y, i, k = Buffer("x", "f32"), Buffer("y", "f32"), Var("i"), Var("k")
    fixed = Unary("sqrt", load(x, 0))
    inner = For(k, c(0), Extent(0), (Store(y, add(mul(i, Extent(0)), k), Binary("mul", fixed, load(x, k))),))
    text = emit_kernel(Kernel("k", (x, y), 1, (For(i, LO, HI, (inner,)),)), host_target())
    assert text.index("@llvm.sqrt") < text.index("phi") and text.count("load float") == 2
    guarded = If(lt(i, Extent(0)), (Store(y, i, fixed),))
    text = emit_kernel(Kernel("k", (x, y), 1, (For(i, LO, HI, (guarded,)),)), host_target())
    assert text.index("then") < text.index("@llvm.sqrt")


def endless():
    flag, out, more = Buffer("flag", "i32"), Buffer("out", "i32"), Var("more", "bool")
    loop = While((Let(more, Binary("eq", load(flag), c(0, "i32"))),), more, (Store(out, c(0), add(load(out), 1)),))
    return Kernel("endless", (flag, out), 0, (loop,))


def test_interrupt_ends_a_while_loop():
    kernel = endless()
    function = compile_and_load([kernel])[kernel.name]
    flag, out = np.zeros(1, np.int32), np.zeros(1, np.int32)
    assert call(function, [flag, out], [], 0, 1, interrupt=1) == 1
    assert out[0] == 4096
    assert call(function, [flag + 1, out], [], 0, 1, interrupt=1) == 0


def test_scratch_is_shared_by_blocks_that_do_not_meet():
    a, b = Buffer("a", "f32", "scratch", 100), Buffer("b", "f64", "scratch", 100)
    i, j = Var("i"), Var("j")
    loops = (For(i, c(0), c(2), (Alloc(a),)), For(j, c(0), c(16), (Alloc(b),), "vector", 8))
    assert scratch_bytes(Kernel("k", (), 0, loops)) == 8 * 800
    assert scratch_bytes(Kernel("k", (), 0, (Alloc(a), *loops[1:]))) == 448 + 8 * 800


@pytest.mark.parametrize("module_text, modules", [(1 << 20, 1), (1, 4)])
def test_kernels_compiled_together_and_alone(module_text, modules, monkeypatch):
    monkeypatch.setattr(objects, "_MODULE_TEXT", module_text)
    kernels = [pointwise(f"together_{d}", [d] * 3, operations(d)) for d in ("f32", "i64", "f8e4m3fn", "bool")]
    stats = []
    together = objects.compile_kernels(kernels, stats=stats)
    assert [s["level"] for s in stats] == [0] * modules
    assert sorted(name for s in stats for name in s["kernels"]) == sorted(k.name for k in kernels)
    functions = load_objects(together)
    rng = np.random.default_rng(15)
    for kernel in kernels:
        assert external_symbols(together[kernel.name]) == []
        alone = load_objects(objects.compile_kernels([kernel]))
        inputs = [awkward(p.dtype, 50, rng) for p in kernel.params[:3]]
        results = []
        for function in (functions[kernel.name], alone[kernel.name]):
            outputs = [np.zeros(50, numpy_dtype(p.dtype)) for p in kernel.params[3:]]
            assert call(function, inputs + outputs, [], 0, 50) == 0
            results.append(outputs)
        for one, other in zip(*results):
            assert one.tobytes() == other.tobytes()


def test_an_error_in_one_of_several_modules_is_raised_and_the_next_compilation_works(monkeypatch):
    monkeypatch.setattr(objects, "_MODULE_TEXT", 1)
    kernels = [pointwise(f"one_of_{k}", ["f32"], lambda v: [Unary("neg", v)]) for k in range(6)]
    parse = llvm.parse_assembly

    def refuses_the_fourth(source, context):
        if "one_of_3" in source:
            raise RuntimeError("no")
        return parse(source, context)

    with monkeypatch.context() as m:
        m.setattr(llvm, "parse_assembly", refuses_the_fourth)
        with pytest.raises(RuntimeError, match="LLVM rejects the text emitted for one_of_3: no"):
            objects.compile_kernels(kernels)
    assert objects.compile_kernels(kernels).keys() == {k.name for k in kernels}


def test_modules_are_compiled_where_no_thread_can_be_started(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(objects, "_MODULE_TEXT", 1)
    monkeypatch.setattr(objects._native, "num_threads", lambda: 3)
    monkeypatch.setattr(threading.Thread, "start", start)
    kernels = [pointwise(f"alone_{k}", ["f32"], lambda v: [Unary("neg", v)]) for k in range(4)]
    assert objects.compile_kernels(kernels).keys() == {k.name for k in kernels}


def test_codegen_levels():
    x, i, k = Buffer("x", "f32"), Var("i"), Var("k")
    plain = pointwise("plain", ["f32"], lambda v: [Unary("neg", v)])
    reduction = Kernel("r", (x,), 0, (For(i, LO, HI, (Reduce("add", x, c(0), c(1.0, "f32")),)),))
    nested = Kernel("n", (x,), 0, (For(i, LO, HI, (For(k, c(0), c(4), (Store(x, k, load(x, i)),)),)),))
    assert [objects.codegen_level(kernel) for kernel in (plain, reduction, nested)] == [0, 2, 2]
    assert objects.codegen_level(Kernel("n", (), 0, (), {"codegen": 3})) == 3


def test_split_object_refuses_what_it_does_not_know():
    with pytest.raises(ElfError, match="not a 64-bit little-endian ELF object"):
        split_object(b"MZ" + bytes(100), ["k"])
    kernel = pointwise("k", ["f32"], lambda v: [Unary("neg", v)])
    with pytest.raises(ElfError, match="no section for k"):
        split_object(objects.compile_kernels([kernel])["k"], ["k"])


def test_errors_of_emission():
    x, i, r = Buffer("x", "f32"), Var("i"), Buffer("r", "f32", "register", 2)
    loop = For(i, LO, HI, (Store(r, i, load(x, i)),))
    with pytest.raises(ValueError, match="register buffer r of size 2 is indexed by a value known at run time only"):
        emit_kernel(Kernel("k", (x,), 0, (Alloc(r), loop)), host_target())
    with pytest.raises(ValueError, match="variable i is used outside the block that binds it"):
        emit_kernel(Kernel("k", (x,), 0, (Store(x, div(i, 3), c(1.0, "f32")),)), host_target())
    with pytest.raises(ValueError, match="buffer r is used outside the block that allocates it"):
        emit_kernel(Kernel("k", (x,), 0, (Store(r, c(0), c(1.0, "f32")),)), host_target())


def test_target():
    target = host_target()
    assert target.vector_bytes in (16, 32, 64) and target.lanes("f32") == target.vector_bytes // 4
    assert target.caches[0] >= 8 << 10
    assert make_target([]).cpu == "x86-64" and make_target([]).vector_bytes == 16
    assert make_target(AVX2).cpu == "x86-64-v3" and "+avx2" in make_target(AVX2).feature_string
