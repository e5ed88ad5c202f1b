"""Running loop IR kernels in tests: compiled code against the interpreter, on arrays full of awkward values."""

import ctypes

import numpy as np

from velax import _native
from velax._compiler.objects import compile_kernels
from velax._compiler.scratch import scratch_bytes
from velax._compiler.target import host_target
from velax._ir.interpret import interpret, numpy_dtype
from velax._ir.loops import (
    FLOATS,
    HI,
    LO,
    SIGNED,
    WIDTH,
    Binary,
    Buffer,
    Fma,
    For,
    Kernel,
    Select,
    Store,
    Unary,
    Var,
)
from velax._ir.loops_build import load as load_element

INTEGER_UNARY = ["neg", "abs", "not", "clz", "popcount"]
FLOAT_UNARY = ["neg", "abs", "sqrt", "floor", "ceil", "trunc", "rint"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]
INTEGER_BINARY = ["add", "sub", "mul", "div", "rem", "min", "max", "and", "or", "xor", "shl", "shrl", "shra", "mulhi"]
FLOAT_BINARY = ["add", "sub", "mul", "div", "min", "max", "copysign", "rem"]


def pointwise(name, inputs, results, width=16):
    """A kernel storing each of ``results(loaded inputs)`` to an output of its own."""
    i = Var("i")
    params = [Buffer(f"x{k}", dtype) for k, dtype in enumerate(inputs)]
    values = results(*[load_element(p, i) for p in params])
    outputs = [Buffer(f"y{k}", v.dtype) for k, v in enumerate(values)]
    body = tuple(Store(out, i, v) for out, v in zip(outputs, values))
    loop = For(i, LO, HI, body, "vector", width) if width else For(i, LO, HI, body)
    return Kernel(name, (*params, *outputs), 0, (loop,))


def operations(dtype):
    """What `pointwise` takes to store every operation on three values of ``dtype``."""

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


_SIGNATURE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
_LOADED = []


def load(objects):
    """Callables for a dict of symbol name -> object bytes, through Velax's own loader."""
    functions = {}
    for name, image in objects.items():
        kernel = _native.load_object(image).symbol(name)
        _LOADED.append(kernel)
        functions[name] = _SIGNATURE(kernel.address)
    return functions


def call(function, buffers, extents, lo, hi, scratch=0, interrupt=0):
    """Call a kernel by the kernel ABI; returns its status."""
    pointers = (ctypes.c_void_p * max(1, len(buffers)))(*[b.ctypes.data for b in buffers])
    sizes = (ctypes.c_int64 * max(1, len(extents)))(*extents)
    flag = ctypes.c_int32(interrupt)
    memory = np.zeros(scratch + 64, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 64
    context = (ctypes.c_int64 * 5)(ctypes.addressof(flag), start, scratch, 0, 0)
    return function(context, pointers, sizes, lo, hi)


def awkward(dtype, n, rng):
    """``n`` values of ``dtype``: extremes, signed zeros, denormals, halfway cases, infinities, NaN, and random bits."""
    target = numpy_dtype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, n).astype(bool)
    bits = WIDTH[dtype]
    raw = rng.integers(0, 256, n * (bits // 8), dtype=np.uint8).view(f"u{bits // 8}")
    if dtype in FLOATS:
        random = raw.view(target).copy()
        small = rng.normal(size=n) * 2.0 ** rng.integers(-3, 8, n)
        special = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 127.5, 128.0, 255.5, -129.0]
        special += [32767.5, 65504.0, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e-40, 1e-8, 3e-3]
        with np.errstate(all="ignore"):
            pick = rng.choice(np.array(special), n).astype(target)
            values = np.where(rng.random(n) < 0.4, pick, np.where(rng.random(n) < 0.6, small.astype(target), random))
        return values.astype(target)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype in SIGNED else (0, (1 << bits) - 1)
    special = np.array([low, high, 0, 1, 2, 3, 7, bits - 1, bits, bits + 1, high - 1, low + 1, high // 3], target)
    if dtype in SIGNED:
        special = np.concatenate([special, np.array([-1, -2, -bits], target)])
    return np.where(rng.random(n) < 0.5, rng.choice(special, n), raw.view(target))


def same_bits(a, b):
    """Equal arrays, every NaN equal to every other, zeros distinguished by sign."""
    a, b = np.asarray(a), np.asarray(b)
    bits = a.view(f"u{a.dtype.itemsize}") == b.view(f"u{b.dtype.itemsize}")
    with np.errstate(all="ignore"):
        return bits | ((a != a) & (b != b))


def compile_and_load(kernels):
    return load(compile_kernels(kernels, host_target()))


def check(kernel, function, buffers, extents, lo, hi, note=""):
    """Run ``kernel`` both ways on copies of ``buffers`` and require equal memory."""
    expected = [b.copy() for b in buffers]
    actual = [b.copy() for b in buffers]
    with np.errstate(all="ignore"):
        interpret(kernel, expected, extents, lo, hi)
    assert call(function, actual, extents, lo, hi, scratch_bytes(kernel)) == 0
    for buffer, before, want, got in zip(kernel.params, buffers, expected, actual):
        equal = same_bits(want, got)
        if not equal.all():
            k = int(np.argmin(equal))
            raise AssertionError(
                f"{note} {kernel.name}: {buffer.name}[{k}] of {equal.size} ({(~equal).sum()} differ): "
                f"interpreter {want[k]!r}, compiled {got[k]!r}, before {before[k]!r}"
            )
