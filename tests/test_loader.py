"""The loader of relocatable objects: what it loads, what it refuses, and that nothing it is given makes it crash."""

import ctypes
import gc
import itertools
import random
import struct

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
from native_kernels import compile_c, needs_compiler

from velax import _native
from velax._ir.program import Launch, Output, Program, Slot, encode

FEATURES = r"""
static const double table[4] = {1.5, 2.5, 3.5, 4.5};
static const char* const words[3] = {"zero", "one", "two"};   /* .data.rel.ro */
static int64_t counter = 40;                                     /* .data */
static int64_t zeros[1000];                                      /* .bss */
int64_t common_symbol[4];
int64_t exported = 7;
__attribute__((noinline)) int64_t helper(int64_t x) { return x * 3; }
static __attribute__((noinline)) int64_t local_helper(int64_t x) { return x + 5; }

double rodata(int64_t i) { return table[i & 3]; }
int64_t relative_data(int64_t i) { return (int64_t)strlen_(words[i]); }
int64_t counting(void) { return ++counter; }
int64_t bss(int64_t i) { return zeros[i] += i; }
int64_t commons(int64_t i) { return common_symbol[i & 3] += 2; }
int64_t got(void) { return exported++; }
int64_t calls(int64_t x) { return helper(x) + local_helper(x); }
double libm(double x) { return sin(x) + fmod(x, 0.75) + (double)cosf((float)x); }
int64_t jump_table(int64_t i) {
  switch (i) { case 0: return 10; case 1: return helper(4); case 2: return 99; case 3: return -1; case 4: return 12345;
               case 5: return exported; default: return 0; }
}
double memory(void) {
  double a[64], b[64];
  memset(a, 0, sizeof a); a[3] = 2; memcpy(b, a, sizeof b); memmove(b + 1, b, 100); return b[4];
}
int64_t (*pointer(void))(int64_t) { return helper; }
""".replace("strlen_", "__builtin_strlen")

I, D = ctypes.c_int64, ctypes.c_double


def call(loaded, name, *args, result=I):
    function = ctypes.CFUNCTYPE(result, *(D if isinstance(a, float) else I for a in args))
    return function(loaded.symbol(name).address)(*args)


def check_features(loaded):
    assert [call(loaded, "rodata", i, result=D) for i in range(4)] == [1.5, 2.5, 3.5, 4.5]
    assert [call(loaded, "relative_data", i) for i in range(3)] == [4, 3, 3]
    assert [call(loaded, "counting") for _ in range(3)] == [41, 42, 43]
    assert [call(loaded, "bss", 999) for _ in range(2)] == [999, 1998]
    assert [call(loaded, "commons", 1) for _ in range(2)] == [2, 4]
    assert [call(loaded, "got") for _ in range(2)] == [7, 8]
    assert call(loaded, "calls", 10) == 45
    assert call(loaded, "libm", 2.0, result=D) == pytest.approx(np.sin(2) + 0.5 + np.cos(2), abs=1e-6)
    assert [call(loaded, "jump_table", i) for i in range(7)] == [10, 12, 99, -1, 12345, 9, 0]
    assert call(loaded, "memory", result=D) == 2.0
    assert ctypes.CFUNCTYPE(I, I)(call(loaded, "pointer"))(5) == 15


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [(), ("-O3",), ("-fcommon", "-O0"), ("-fno-plt",), ("-ffunction-sections", "-fdata-sections"), ("-g",), ("-fpie",)],
    ids=" ".join,
)
def test_what_compilers_emit(options):
    data = compile_c(FEATURES, "-fno-builtin-strlen" if "-O0" in options else "-O1", *options)
    if b"strlen\0" in data:
        _native.register_symbol("strlen", ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value)
    loaded = _native.load_object(data)
    check_features(loaded)
    assert {"rodata", "helper", "jump_table"} <= set(loaded.symbols)
    assert "local_helper" not in loaded.symbols and "exported" not in loaded.symbols
    assert loaded.mapped_bytes % 4096 == 0


LLVM = """
target triple = "x86_64-unknown-linux-gnu"
declare float @llvm.sin.f32(float)
@table = internal constant [4 x float] [float 1.0, float 2.0, float 4.0, float 8.0], align 64
define i32 @kernel(ptr %ctx, ptr %buffers, ptr %extents, i64 %lo, i64 %hi) {
entry:
  %xp = load ptr, ptr %buffers
  %yslot = getelementptr ptr, ptr %buffers, i64 1
  %yp = load ptr, ptr %yslot
  br label %loop
loop:
  %i = phi i64 [%lo, %entry], [%next, %loop]
  %xi = getelementptr float, ptr %xp, i64 %i
  %x = load float, ptr %xi
  %s = call float @llvm.sin.f32(float %x)
  %k = and i64 %i, 3
  %ti = getelementptr [4 x float], ptr @table, i64 0, i64 %k
  %t = load float, ptr %ti
  %v = fmul float %s, %t
  %yi = getelementptr float, ptr %yp, i64 %i
  store float %v, ptr %yi
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %exit
exit:
  ret i32 0
}
"""


def llvm_object(text):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="small", opt=2)
    return machine.emit_object(llvm.parse_assembly(text))


def test_llvm_object_runs_in_a_program():
    loaded = _native.load_object(llvm_object(LLVM))
    n = 1000
    program = Program((4 * n,), (Output.fresh(4 * n),), (Slot.input(0, 4 * n), Slot.output(0, 4 * n)),
                      ((Launch(0, (0, 1), (), n, 64),),), kernels=("kernel",))  # fmt: skip
    aval = ((n,), np.float32, False)
    e = _native.Executable(encode(program), [loaded.symbol("kernel")], [], [aval], [aval])
    del loaded
    x = np.linspace(-3, 3, n, dtype=np.float32)
    expected = np.sin(x.astype(np.float64)) * np.tile([1, 2, 4, 8], n // 4)
    result = e(_native.array_from_numpy(x))
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-5, atol=1e-6)


CONSTANT = "int64_t constant(void) { return %d; }"


@needs_compiler
def test_replace_keeps_both_codes():
    a = _native.load_object(compile_c(CONSTANT % 1)).symbol("constant")
    b = _native.load_object(compile_c(CONSTANT % 2)).symbol("constant")
    old = ctypes.CFUNCTYPE(I)(a.address)
    a.replace(b)
    address = b.address
    del b
    gc.collect()
    assert a.address == address
    assert ctypes.CFUNCTYPE(I)(a.address)() == 2
    assert old() == 1
    assert a.name == "constant" and "constant" in repr(a)
    with pytest.raises(TypeError, match="takes a LoadedKernel"):
        a.replace(3)


@needs_compiler
def test_pages_are_given_back_and_never_writable_and_executable():
    def mappings():
        """How the kernel has mapped the pages from the first to the last of the functions."""
        with open("/proc/self/maps") as maps:
            lines = [line.split()[:2] for line in maps]
        ranges = [(*(int(end, 16) for end in ends.split("-")), flags) for ends, flags in lines]
        return [entry for entry in ranges if entry[0] <= max(addresses) and entry[1] > min(addresses)]

    data = [compile_c(CONSTANT % k) for k in range(4)]
    gc.collect()
    gc.disable()  # code of earlier tests that is freed meanwhile would be used again, and leave gaps
    try:
        kept = [_native.load_object(data[k % 4]) for k in range(64)]
        addresses = {o.symbol("constant").address for o in kept}
        assert len(addresses) == 64
        before = mappings()
        assert {flags for low, high, flags in before for a in addresses if low <= a < high} == {"r-xp"}
        del kept[::2]
        assert {flags for *_, flags in mappings()} <= {"r-xp", "---p"}
        again = [_native.load_object(data[0]) for _ in range(32)]
        assert {o.symbol("constant").address for o in again} < addresses
        for o in kept:
            assert ctypes.CFUNCTYPE(I)(o.symbol("constant").address)() in (0, 1, 2, 3)
        assert len(mappings()) <= len(before) + 2
    finally:
        gc.enable()


@needs_compiler
def test_symbols_outside():
    source = "extern int64_t velax_test_import(int64_t); int64_t f(int64_t x) { return velax_test_import(x) + 1; }"
    data = compile_c(source)
    with pytest.raises(ValueError, match="undefined symbol 'velax_test_import'; make it known with register_symbol"):
        _native.load_object(data)
    keep = ctypes.CFUNCTYPE(I, I)(lambda x: x * 100)
    _native.register_symbol("velax_test_import", ctypes.cast(keep, ctypes.c_void_p).value)
    assert call(_native.load_object(data), "f", 3) == 301
    with pytest.raises(ValueError, match="address is 0"):
        _native.register_symbol("velax_test_import", 0)
    with pytest.raises(KeyError, match="defines no function 'g'"):
        _native.load_object(data).symbol("g")
    with pytest.raises(TypeError):
        _native.LoadedObject()


@needs_compiler
@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("__thread int t; int f(void) { return t++; }", (), "thread-local"),
        ("__attribute__((constructor)) void f(void) {}", (), "constructors"),
        ("extern int64_t far_away; int64_t* f(void) { return &far_away; }", (), "undefined symbol 'far_away'"),
        ("int64_t g; int64_t f(void) { return (int32_t)(int64_t)&g; }", ("-fno-pic", "-mcmodel=small"), "reloc='pic'"),
    ],
)
def test_refused_with_a_reason(source, options, text):
    with pytest.raises(ValueError, match=text):
        _native.load_object(compile_c(source, *options))


@needs_compiler
def test_refused_headers():
    data = bytearray(compile_c(CONSTANT % 1))
    assert data[18:20] == b"\x3e\0"

    def changed(offset, value):
        return bytes(data[:offset] + value + data[offset + len(value) :])

    for changes, text in [
        ((18, b"\xb7\0"), r"machine 183 \(aarch64\); this loader takes x86-64 only"),
        ((4, b"\1"), "not a 64-bit little-endian"),
        ((16, b"\3\0"), "not a relocatable object"),
        ((0, b"\0"), "not an ELF object"),
        ((60, b"\0\0"), "no sections"),
    ]:
        with pytest.raises(ValueError, match=text):
            _native.load_object(changed(*changes))
    with pytest.raises(ValueError, match="truncated"):
        _native.load_object(b"")
    with pytest.raises(TypeError):
        _native.load_object("text")


@needs_compiler
def test_corrupt_objects_do_not_crash():
    """Truncations and random changes end in ValueError or in an object; nothing is called."""
    rng = random.Random(7)
    outcomes = {"loaded": 0, "refused": 0}

    def load(data):
        try:
            _native.load_object(data)
            outcomes["loaded"] += 1
        except ValueError as error:
            assert str(error).startswith("load_object: ")
            outcomes["refused"] += 1

    for good in (compile_c(FEATURES, "-O2"), llvm_object(LLVM)):
        for length in itertools.chain(range(0, len(good), 37), range(len(good) - 64, len(good))):
            load(good[:length])
        (sections,) = struct.unpack_from("<Q", good, 40)
        for _ in range(2000):
            data = bytearray(good)
            for _ in range(rng.choice((1, 1, 2, 8))):
                # Half of the changes hit the headers, where most of the meaning is.
                low, high = rng.choice(((0, len(good)), (sections, len(good)), (0, 64), (len(good) // 2, len(good))))
                at = rng.randrange(low, high)
                if rng.random() < 0.5:
                    data[at] ^= 1 << rng.randrange(8)
                else:
                    value = rng.choice((0, 1, 0xFF, 0x7FFFFFFF, 1 << 63, (1 << 64) - 1, rng.getrandbits(64)))
                    field = struct.pack("<Q", value)[: min(8, len(good) - at)]
                    data[at : at + len(field)] = field
            load(bytes(data))
    assert min(outcomes.values()) > 100, outcomes


# ------------------------------------------------------------------------------------------- the built-in symbols


def function(name, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(_native.symbol_address(name))


def test_symbol_table():
    assert function("fmodf", ctypes.c_float, ctypes.c_float, ctypes.c_float)(7.5, 2) == 1.5
    assert function("erf", D, D)(0.5) == pytest.approx(0.5204998778130465, rel=1e-15)
    with pytest.raises(KeyError, match="no symbol 'system' is known"):
        _native.symbol_address("system")


def bits_in_register(bits):
    """A float whose low 16 bits are these: how half-precision values are passed."""
    return float(np.array(bits, np.uint32).view(np.float32))


def test_half_to_float_helpers():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    extend = function("__gnu_h2f_ieee", ctypes.c_float, ctypes.c_uint16)
    sample = range(0, 1 << 16, 7)
    got = np.array([extend(h) for h in sample], np.float32)
    np.testing.assert_array_equal(got, halves[::7].astype(np.float32))
    extend = function("__extendhfsf2", ctypes.c_float, ctypes.c_float)
    for bits in (0x3C00, 0x0001, 0x8001, 0x7BFF, 0xFC00):
        assert extend(bits_in_register(bits)) == np.uint16(bits).view(np.float16)


@pytest.mark.parametrize(
    ("name", "dtype", "argument"),
    [
        ("__truncsfhf2", np.float16, ctypes.c_float),
        ("__truncdfhf2", np.float16, D),
        ("__truncsfbf2", ml_dtypes.bfloat16, ctypes.c_float),
    ],
)
def test_rounding_helpers(name, dtype, argument):
    truncate = function(name, ctypes.c_float, argument)
    rng = np.random.default_rng(3)
    source = np.float32 if argument is ctypes.c_float else np.float64
    values = np.concatenate([
        rng.standard_normal(300), rng.standard_normal(300) * 10.0 ** rng.uniform(-45, 38, 300),
        10.0 ** rng.uniform(-9, 5, 500),
        [0.0, -0.0, np.inf, -np.inf, 65504, 65519.9, 65520, 65536, 2.0**-24, 2.0**-25, 3 * 2.0**-26, 1e-45, 3.4e38],
    ]).astype(source)  # fmt: skip
    got = np.array([truncate(float(v)) for v in values], np.float32).view(np.uint32).astype(np.uint16)
    with np.errstate(over="ignore"):
        expected = values.astype(dtype).view(np.uint16)
    np.testing.assert_array_equal(got, expected)
    nan = np.float32(truncate(float("nan"))).view(np.uint32).astype(np.uint16)
    assert np.isnan(np.array(nan, np.uint16).view(dtype).astype(np.float32))
