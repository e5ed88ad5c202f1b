"""Generated code against the interpreter of the loop IR: every operation, dtype, stride, mask and control structure."""

import numpy as np
import pytest
from loops_fuzz import Fuzzer
from loops_harness import awkward, check, compile_and_load

from velax._ir.interpret import numpy_dtype
from velax._ir.loops import (
    DTYPES,
    FLOATS,
    HI,
    LO,
    WIDTH,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Fma,
    For,
    Kernel,
    Select,
    Store,
    Unary,
    Var,
)
from velax._ir.loops_build import load

INTEGER_UNARY = ["neg", "abs", "not", "clz", "popcount"]
FLOAT_UNARY = ["neg", "abs", "sqrt", "floor", "ceil", "trunc", "rint"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]
INTEGER_BINARY = ["add", "sub", "mul", "div", "rem", "min", "max", "and", "or", "xor", "shl", "shrl", "shra", "mulhi"]
FLOAT_BINARY = ["add", "sub", "mul", "div", "min", "max", "copysign", "rem"]


def pointwise(name, inputs, results, width=16):
    """A kernel storing each of ``results(loaded inputs)`` to an output of its own."""
    i = Var("i")
    params = [Buffer(f"x{k}", dtype) for k, dtype in enumerate(inputs)]
    values = results(*[load(p, i) for p in params])
    outputs = [Buffer(f"y{k}", v.dtype) for k, v in enumerate(values)]
    body = tuple(Store(out, i, v) for out, v in zip(outputs, values))
    loop = For(i, LO, HI, body, "vector", width) if width else For(i, LO, HI, body)
    return Kernel(name, (*params, *outputs), 0, (loop,))


def operations(dtype):
    def results(x, y, z):
        if dtype == "bool":
            values = [Unary("not", x)]
            values += [Binary(op, x, y) for op in [*COMPARE, "and", "or", "xor", "min", "max"]]
        elif dtype in FLOATS:
            values = [Unary(op, x) for op in FLOAT_UNARY]
            values += [Binary(op, x, y) for op in FLOAT_BINARY + COMPARE] + [Fma(x, y, z)]
        else:
            values = [Unary(op, x) for op in INTEGER_UNARY]
            values += [Binary(op, x, y) for op in INTEGER_BINARY + COMPARE]
        return [*values, Select(Binary("lt", x, y), x, z)]

    return results


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
