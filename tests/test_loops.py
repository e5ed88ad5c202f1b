"""The loop IR itself: builder, text, verifier, interpreter."""

import numpy as np
import pytest
from loops_fuzz import Fuzzer

from velax._ir.floats import round_float
from velax._ir.interpret import interpret, numpy_dtype
from velax._ir.loops import (
    HI,
    LO,
    SIGNED,
    UNSIGNED,
    WIDTH,
    Alloc,
    Binary,
    Buffer,
    Cast,
    Const,
    Extent,
    For,
    If,
    Kernel,
    Let,
    Load,
    Reduce,
    Select,
    Store,
    Unary,
    Var,
    While,
)
from velax._ir.loops_build import (
    add,
    and_,
    bitcast,
    c,
    cast,
    const_value,
    div,
    fold_binary,
    load,
    lt,
    mul,
    not_,
    rem,
    select,
    shl,
    sub,
)
from velax._ir.loops_canonical import canonical_text
from velax._ir.loops_check import LoopsError, check_kernel
from velax._ir.loops_text import parse_kernel, print_kernel


def test_builder_folds_integers_only():
    i = Var("i")
    assert add(i, 0) is i and mul(i, 1) is i and const_value(mul(i, 0)) == 0
    assert add(add(i, 3), 4).y.value == 7 and mul(mul(3, i), 4).y.value == 12
    assert add(5, i).x is i and const_value(sub(i, i)) == 0
    assert const_value(add(c(2**31 - 1, "i32"), 1)) == -(2**31)
    assert isinstance(add(c(1.0, "f32"), c(2.0, "f32")), Binary)
    assert and_(c(True, "bool"), lt(i, 3)).op == "lt"
    assert not_(not_(i)) is i and cast("i64", i) is i and bitcast("i64", i) is i
    assert select(c(False, "bool"), i, 4).value == 4
    assert (
        c(5) is c(5) and const_value(cast("u8", c(300))) == 44 and const_value(cast("i8", c(float("nan"), "f32"))) == 0
    )


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_integer_rules(dtype):
    bits = WIDTH[dtype]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype in SIGNED else (0, (1 << bits) - 1)
    ones = -1 if dtype in SIGNED else high
    assert fold_binary("div", 5, 0, dtype) == ones and fold_binary("rem", 5, 0, dtype) == 5
    assert fold_binary("shl", 1, bits, dtype) == 0 and fold_binary("shrl", high, bits, dtype) == 0
    assert fold_binary("shra", high if dtype in UNSIGNED else low, bits + 3, dtype) == ones
    assert fold_binary("add", high, 1, dtype) == low
    if dtype in SIGNED:
        assert fold_binary("div", low, -1, dtype) == low and fold_binary("rem", low, -1, dtype) == 0
        assert fold_binary("div", -7, 2, dtype) == -3 and fold_binary("rem", -7, 2, dtype) == -1


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f8e4m3fn", "f8e5m2"])
def test_round_float_against_numpy(dtype):
    rng = np.random.default_rng(3)
    target = numpy_dtype(dtype)
    values = rng.normal(size=2000) * 2.0 ** rng.integers(-160, 160, 2000)
    with np.errstate(all="ignore"):
        if dtype != "f32":
            values = values.astype(np.float32)  # ml_dtypes rounds doubles through float, twice
        values = values[np.isfinite(values)]
        want = values.astype(target).astype(np.float64)
    got = np.array([round_float(float(v), dtype) for v in values])
    assert np.array_equal(want, got, equal_nan=True)


def row_sum(kind="vector"):
    x, y, i, k = Buffer("x", "f32"), Buffer("y", "f32"), Var("i"), Var("k")
    total = Buffer("total", "f32", "register", 1)
    loop = For(k, c(0), Extent(0), (Reduce("add", total, c(0), load(x, add(mul(i, Extent(0)), k))),), kind, 16)
    body = (Alloc(total), Store(total, c(0), c(0.0, "f32")), loop, Store(y, i, load(total)))
    return Kernel("row_sum", (x, y), 1, (For(i, LO, HI, body),))


def test_text_of_a_kernel():
    assert print_kernel(row_sum()) == (
        "kernel row_sum(x: f32, y: f32) extents 1\n"
        "  for i in lo .. hi serial:\n"
        "    alloc total: f32[1] register\n"
        "    total[0] = 0.0:f32\n"
        "    for k in 0 .. n0 vector 16:\n"
        "      total[0] add= x[add(mul(i, n0), k)]\n"
        "    y[i] = total[0]\n"
    )


@pytest.mark.parametrize("seed", range(25))
def test_text_reads_back(seed):
    kernel = Fuzzer(seed).kernel
    check_kernel(kernel)
    text = print_kernel(kernel)
    again = parse_kernel(text)
    assert print_kernel(again) == text
    assert canonical_text(again) == canonical_text(kernel)


def test_text_of_special_constants():
    x, i = Buffer("x", "f64"), Var("i")
    values = [float("nan"), float("inf"), -float("inf"), -0.0, 1e-300, 5.0]
    kernel = Kernel("k", (x,), 0, tuple(Store(x, c(k), c(v, "f64")) for k, v in enumerate(values)))
    assert print_kernel(parse_kernel(print_kernel(kernel))) == print_kernel(kernel)
    narrow = Kernel("k", (Buffer("b", "u8"),), 0, ())
    assert canonical_text(narrow) != canonical_text(Kernel("k", (Buffer("b", "i8"),), 0, ()))
    loop = For(i, LO, HI, (If(lt(i, 3), (), (Store(x, i, c(1.0, "f64")),)),))
    kernel = Kernel("k", (x,), 0, (loop,))
    assert "pass" in print_kernel(kernel) and print_kernel(parse_kernel(print_kernel(kernel))) == print_kernel(kernel)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty text"),
        ("kernel k(x: f32) extents 0\n  x[0] = y\n", "line 2: y is not defined"),
        ("kernel k(x: f32) extents 0\n  x[0] = frob(x[0])\n", "frob is no operation"),
        ("kernel k(x: f32) extents 0\n  x[0] = add(x[0])\n", "add takes 2 operands, got 1"),
        ("kernel k(x: f32) extents 0\n  x[0] = 1\n", "value i64"),
        ("kernel k(x: f32) extents 0\n  x[0] = 1.0:f32 2\n", "unexpected '2'"),
        ("kernel k(x: f32) extents 0\n      x[0] = 1.0:f32\n", "unexpected indentation"),
    ],
)
def test_text_errors(text, message):
    with pytest.raises((ValueError, TypeError), match=message.replace("(", r"\(")):
        parse_kernel(text)


def test_canonical_text_forgets_names_and_sharing():
    def kernel(shared, name):
        x, i = Buffer(name, "f32"), Var(name)
        once = load(x, i)
        value = Binary("add", once, once if shared else load(x, i))
        return Kernel(name, (x,), 0, (For(i, LO, HI, (Store(x, i, value),), "vector", 8),))

    assert canonical_text(kernel(True, "a")) == canonical_text(kernel(False, "b"))


def test_canonical_text_of_a_deep_expression():
    x = Buffer("x", "f32")
    e = load(x)
    for _ in range(3000):
        e = Unary("neg", e)
    assert canonical_text(Kernel("deep", (x,), 0, (Store(x, c(0), e),))).count("neg") == 3000


X, Y, I, J = Buffer("x", "f32", size=4), Buffer("y", "f32"), Var("i"), Var("j")
ACC, MEMORY = Buffer("acc", "f32", "register", 2), Buffer("memory", "f32", "stack", 2)


def vector(*body):
    return For(I, LO, HI, body, "vector", 8)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([Store(Y, I, c(1.0, "f32"))], "variable i is used where it is not bound"),
        ([vector(), Store(Y, I, c(1.0, "f32"))], "variable i is used where it is not bound"),
        ([Store(ACC, c(0), c(1.0, "f32"))], "no Alloc of it encloses"),
        ([Store(Buffer("z", "f32"), c(0), c(1.0, "f32"))], "z is not a parameter"),
        ([Store(X, c(4), c(1.0, "f32"))], "index 4 is outside x, which has 4 elements"),
        ([Store(Y, c(0), Cast("f32", Extent(3)))], "extent n3 is used, but the kernel has 1"),
        ([vector(For(J, LO, HI, (), "vector", 8))], "vector loop j is inside vector loop i"),
        ([Alloc(ACC), For(I, LO, HI, (Store(ACC, I, c(1.0, "f32")),))], "constant after unrolling"),
        ([Alloc(ACC), vector(Store(ACC, c(0), load(Y, I)))], "iterations must be independent"),
        ([vector(Store(Y, c(0), load(X, I)))], "stores its own value to one element of y"),
        (
            [Alloc(ACC), vector(Reduce("add", ACC, c(0), load(Y, I)), Store(Y, I, load(ACC)))],
            "acc is reduced by add over vector loop i and also read",
        ),
        (
            [vector(Reduce("add", Y, c(0), load(X, I)), Reduce("max", Y, c(0), load(X, I)))],
            "reduced by add and by max",
        ),
        ([Let(I, c(1)), Let(I, c(2))], "bound twice"),
        ([Alloc(ACC), Alloc(ACC)], "already allocated"),
        ([Store(Y, c(0), Unary("clz", load(Y)))], "clz takes integers, got f32"),
        ([Store(Y, c(0), Binary("and", load(Y), load(Y)))], "and takes integers, got f32; bitcast to u32"),
        ([Let(I, Unary("sqrt", c(1)))], "sqrt takes floats, got i64"),
        ([If(c(1), (), ())], "a condition must be bool, got i64"),
        ([For(J, c(1, "i32"), c(3, "i32"), ())], "bounds of loop j must be i64"),
        ([Let(Var("b", "bool"), Binary("add", lt(LO, HI), lt(HI, LO)))], "add is not defined for bool"),
    ],
)
def test_checker(body, message):
    with pytest.raises(LoopsError, match=message.replace("(", r"\(")) as caught:
        check_kernel(Kernel("bad", (X, Y), 1, tuple(body)))
    assert "\n>>" in str(caught.value), "the offending statement is marked"


def test_checker_accepts_what_is_legal():
    check_kernel(row_sum())
    k, more = Var("k"), Var("more", "bool")
    loop = While((Let(more, lt(load(MEMORY, 0), 3.0)),), more, (Store(MEMORY, c(0), c(4.0, "f32")),))
    unrolled = For(k, c(0), c(2), (Store(ACC, k, c(0.0, "f32")), Store(ACC, add(k, 0), load(ACC, k))), "unrolled")
    check_kernel(Kernel("good", (X, Y), 0, (vector(Alloc(MEMORY), Alloc(ACC), unrolled, loop),)))


def test_interpreter():
    x = np.arange(12, dtype=np.float32)
    y = np.zeros(3, np.float32)
    interpret(row_sum(), [x, y], [4], 1, 3)
    assert y.tolist() == [0.0, 22.0, 38.0]


def test_interpreter_errors():
    with pytest.raises(IndexError, match=r"x\[3\] is read, but it has 3 elements"):
        interpret(row_sum(), [np.zeros(3, np.float32), np.zeros(3, np.float32)], [4], 0, 1)
    with pytest.raises(ValueError, match="takes 2 buffers and 1 extents, got 1 and 0"):
        interpret(row_sum(), [np.zeros(3, np.float32)], [], 0, 1)
    with pytest.raises(ValueError, match="expected a 1-D f32 array, got float64"):
        interpret(row_sum(), [np.zeros(3), np.zeros(3)], [1], 0, 1)
    local = Kernel("k", (Y,), 0, (Alloc(MEMORY), Store(Y, c(0), load(MEMORY, 1))))
    with pytest.raises(ValueError, match=r"memory\[1\] is read but was never written"):
        interpret(local, [np.zeros(3, np.float32)], [], 0, 1)


def test_constants_are_shared_and_typed():
    assert Const(1, "i64").dtype == "i64" and div(c(7), c(2)).value == 3 and rem(c(-7), c(2)).value == -1
    assert shl(c(1), c(70)).value == 0
    assert isinstance(Select(lt(I, 2), I, J), Select) and Load(Y, I).dtype == "f32"
