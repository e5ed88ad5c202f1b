"""Random valid kernels of the loop IR, with data for them. Everything follows from the seed."""

import random

import numpy as np
from loops_harness import awkward

from velax._ir.interpret import numpy_dtype
from velax._ir.loops import (
    FLOATS,
    HI,
    LO,
    SIGNED,
    Alloc,
    Binary,
    Buffer,
    Cast,
    Extent,
    Fma,
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
from velax._ir.loops_build import add, c, load, mul, sub

ROWS = 70  # iterations of the main loop at most
SIZE = 4 * ROWS + 32
WIDTHS = [2, 3, 4, 8, 16, 16, 32, 24, 64]
INTEGERS = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]


class Fuzzer:
    """``kernel`` and matching ``buffers(rng)`` from a seed."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.name = f"fuzz_{seed}"
        self.count = 0
        self.scope = []  # variables in scope that are no loop indexes
        self.indexes = []  # i64 expressions with values in [0, ROWS)
        self.locals = []  # (buffer, index maker) readable local elements
        self.vector = None
        self.extent = Extent(0)  # 5 at run time
        self.dtypes = self.r.sample(
            ["f32", "i32", "f64", "i64", "u8", "bf16", "i16", "f16", "u32", "f8e4m3fn", "u64", "bool"], 4
        )
        if "f32" not in self.dtypes:
            self.dtypes[0] = "f32"
        self.inputs = [Buffer(f"in{k}", d, size=SIZE) for k, d in enumerate(self.dtypes)]
        self.permutation = Buffer("permutation", "i64", size=SIZE)
        self.random_index = Buffer("random_index", "i32", size=SIZE)
        self.outputs = [Buffer(f"out{k}", self.r.choice(self.dtypes), size=SIZE) for k in range(3)]
        self.totals = [Buffer(f"total{k}", self.r.choice(["i32", "i64", "u8", "u32"]), size=8) for k in range(2)]
        self.extremes = Buffer("extremes", self.r.choice(["f32", "f64", "bf16", "i16"]), size=8)
        self.histogram = Buffer("histogram", self.r.choice(["i32", "u16", "i64"]), size=SIZE)
        self.params = [*self.inputs, self.permutation, self.random_index, *self.outputs, *self.totals]
        self.pairs = Buffer("pairs", self.r.choice(self.dtypes), size=SIZE)
        self.pair_stride = self.r.choice([2, 4])
        self.params += [self.extremes, self.histogram, self.pairs]
        self.total_ops = {b: self.r.choice(["add", "xor", "max", "min", "or", "mul"]) for b in self.totals}
        self.extreme_op = self.r.choice(["min", "max"])
        self.kernel = Kernel(self.name, tuple(self.params), 1, self.top(), {"codegen": self.r.choice([0, 1, 2])})

    def buffers(self, seed):
        rng = np.random.default_rng(seed)
        arrays = []
        for p in self.params:
            if p is self.permutation:
                arrays.append(rng.permutation(SIZE).astype(np.int64))
            elif p is self.random_index:
                arrays.append(rng.integers(0, ROWS, SIZE).astype(np.int32))
            else:
                arrays.append(awkward(p.dtype, p.size, rng).astype(numpy_dtype(p.dtype)))
        return arrays

    def fresh(self, hint, dtype="i64"):
        self.count += 1
        return Var(f"{hint}{self.count}", dtype)

    # Program structure.

    def top(self):
        kind = self.r.random()
        width = self.r.choice(WIDTHS)
        i = self.fresh("i")
        body = []
        outer = None
        if self.r.random() < 0.5:
            outer = Buffer("acc", self.r.choice(["i32", "f32", "u8"]), "register", 2)
            op = self.r.choice(["min", "max"]) if outer.dtype == "f32" else self.r.choice(["add", "xor", "max"])
            body += [Alloc(outer), Store(outer, c(0), c(1, outer.dtype)), Store(outer, c(1), c(3, outer.dtype))]
            self.outer = (outer, op)
        else:
            self.outer = None
        if kind < 0.75:
            loop = self.vector_loop(i, LO, HI, width)
        elif kind < 0.9:
            row = self.fresh("row")
            inner = self.vector_loop(i, LO, HI, width, extra=row)
            loop = For(row, c(0), self.r.choice([c(3), self.extent]), (inner,))
        else:
            self.indexes.append(i)
            loop = For(i, LO, HI, tuple(self.statements(3, 4)))
        body.append(loop)
        if outer is not None:
            body += [Store(self.totals[0], c(7), Cast(self.totals[0].dtype, Load(outer, c(k)))) for k in (0, 1)]
        return tuple(body)

    def vector_loop(self, i, start, stop, width, extra=None):
        self.vector = i
        self.indexes.append(i)
        if extra is not None:
            self.indexes.append(extra)
        if self.r.random() < 0.3:
            start, stop = c(self.r.randrange(3)), c(self.r.choice([width, 2 * width, 5, 37]) % (ROWS - 3) + 3)
        body = tuple(self.statements(3, 5))
        self.vector = None
        return For(i, start, stop, body, "vector", width)

    def statements(self, depth, most):
        scope, indexes, locals_ = len(self.scope), len(self.indexes), len(self.locals)
        made = []
        for _ in range(self.r.randint(1, most)):
            made += self.statement(depth)
        del self.scope[scope:], self.indexes[indexes:], self.locals[locals_:]
        return made

    def statement(self, depth):
        choices = [self.let, self.store, self.store, self.reduce, self.local, self.woven]
        if depth > 0:
            choices += [self.serial, self.unrolled, self.branch, self.while_loop]
        return self.r.choice(choices)(depth)

    def let(self, depth):
        e = self.expr(self.r.choice(self.dtypes), 3)
        var = self.fresh("t", e.dtype)
        self.scope.append(var)
        return [Let(var, e)]

    def own_index(self, k):
        """The element of output ``k`` that belongs to this iteration of the main loop."""
        i = self.indexes[0]
        return [i, add(mul(i, 2), 1), load(self.permutation, i), sub(ROWS, i), add(i, 3), mul(i, 3)][
            (k + self.count_seed()) % 6
        ]

    def count_seed(self):
        return sum(map(ord, self.name))

    def store(self, depth):
        k = self.r.randrange(3)
        out = self.outputs[k]
        return [Store(out, self.own_index(k), self.expr(out.dtype, 3))]

    def woven(self, depth):
        """The parts of one interleaved element, as complex arrays have them; nothing reads them."""
        i, n = self.indexes[0], self.pair_stride
        return [Store(self.pairs, add(mul(i, n), k), self.expr(self.pairs.dtype, 2)) for k in range(n)]

    def reduce(self, depth):
        kind = self.r.random()
        if kind < 0.3:
            out = self.r.choice(self.totals)
            index = c(self.r.randrange(7))
            inner = [e for e in self.indexes[1:] if isinstance(e, Var)]
            return (
                [Reduce(self.total_ops[out], out, index, self.expr(out.dtype, 2))]
                if not inner or self.r.random() < 0.6
                else [Reduce(self.total_ops[out], out, Binary("and", inner[-1], c(3)), self.expr(out.dtype, 2))]
            )
        if kind < 0.5:
            return [Reduce(self.extreme_op, self.extremes, c(self.r.randrange(8)), self.expr(self.extremes.dtype, 2))]
        if kind < 0.7:
            i = self.indexes[0]
            index = self.r.choice([i, Cast("i64", load(self.random_index, i)), mul(i, 2), add(i, 5)])
            return [Reduce("add", self.histogram, index, self.expr(self.histogram.dtype, 2))]
        if self.outer is not None:
            buffer, op = self.outer
            return [Reduce(op, buffer, c(self.r.randrange(2)), self.expr(buffer.dtype, 2))]
        k = self.r.randrange(3)
        out = self.outputs[k]
        if out.dtype in INTEGERS:
            return [Reduce("add", out, self.own_index(k), self.expr(out.dtype, 2))]
        return self.let(depth)

    def local(self, depth):
        dtype = self.r.choice(self.dtypes)
        self.count += 1
        if self.r.random() < 0.6:
            buffer = Buffer(f"reg{self.count}", dtype, "register", self.r.randint(1, 3))
            maker = lambda: c(self.r.randrange(buffer.size))
        else:
            buffer = Buffer(f"mem{self.count}", dtype, self.r.choice(["stack", "scratch"]), 4)
            maker = lambda: Binary("and", self.r.choice([self.r.choice(self.indexes), c(2)]), c(3))
        made = [Alloc(buffer)]
        for k in range(buffer.size):
            made.append(Store(buffer, c(k), self.expr(dtype, 2)))
        self.locals.append((buffer, maker))
        if depth > 0:
            made += self.statement(depth - 1)
        made += self.touch(buffer, maker)
        return made

    def touch(self, buffer, maker):
        op = self.r.choice(["min", "max"])
        value = self.expr(buffer.dtype, 2)
        return [self.r.choice([Store(buffer, maker(), value), Reduce(op, buffer, maker(), value)])]

    def nested(self, depth):
        made = self.statements(depth - 1, 3)
        if self.locals and self.r.random() < 0.7:
            made += self.touch(*self.r.choice(self.locals))
        return tuple(made)

    def serial(self, depth):
        k = self.fresh("k")
        start, stop = c(0), self.r.choice([c(3), self.extent, c(1), c(0)])
        if self.r.random() < 0.35:
            stop = Binary("and", self.indexes[0], c(3))
            if self.r.random() < 0.5:
                start = Binary("and", add(self.indexes[0], 2), c(1))
        step = self.r.choice([1, 1, 2])
        self.indexes.append(k)
        body = self.nested(depth)
        self.indexes.remove(k)
        return [For(k, start, stop, body, "serial", 1, step)]

    def unrolled(self, depth):
        k = self.fresh("u")
        self.indexes.append(k)
        body = self.nested(depth)
        self.indexes.remove(k)
        return [For(k, c(self.r.randrange(2)), c(3), body, "unrolled")]

    def branch(self, depth):
        cond = self.condition()
        return [If(cond, self.nested(depth), self.nested(depth) if self.r.random() < 0.5 else ())]

    def condition(self):
        kind = self.r.random()
        if kind < 0.3:
            return Binary("lt", self.extent, c(self.r.choice([3, 9])))
        if kind < 0.6:
            return Binary("ne", Binary("and", self.indexes[0], c(self.r.choice([1, 2, 8]))), c(0))
        return self.expr("bool", 2)

    def while_loop(self, depth):
        self.count += 1
        counter = Buffer(f"counter{self.count}", "i32", "register", 1)
        limit = c(3, "i32") if self.r.random() < 0.5 else Cast("i32", Binary("and", self.indexes[0], c(3)))
        more = self.fresh("more", "bool")
        block = (Let(more, Binary("lt", Load(counter, c(0)), limit)),)
        step = Store(counter, c(0), Binary("add", Load(counter, c(0)), c(1, "i32")))
        return [Alloc(counter), Store(counter, c(0), c(0, "i32")), While(block, more, (*self.nested(depth), step))]

    # Expressions.

    def index(self):
        e = self.r.choice(self.indexes)
        kind = self.r.randrange(9)
        if kind == 0:
            return c(self.r.randrange(SIZE))
        if kind == 1:
            return add(e, self.r.randrange(30))
        if kind == 2:
            return mul(e, self.r.choice([2, 3, 4]))
        if kind == 3:
            return sub(ROWS, e)
        if kind == 4:
            return Cast("i64", load(self.random_index, e))
        if kind == 5:
            return add(mul(self.indexes[0], 2), self.r.choice(self.indexes))
        if kind == 6:
            return Binary("div", add(e, 7), c(3))
        if kind == 7:
            return add(mul(e, 2), 1)
        return e

    def leaf(self, dtype):
        kind = self.r.random()
        bound = [v for v in self.scope if v.dtype == dtype]
        if bound and kind < 0.3:
            return self.r.choice(bound)
        if self.locals and kind < 0.5:
            buffer, maker = self.r.choice(self.locals)
            return self.to(dtype, Load(buffer, maker()))
        if kind < 0.85:
            source = self.r.choice(self.inputs)
            return self.to(dtype, load(source, self.index()))
        if kind < 0.92:
            k = self.r.randrange(3)
            return self.to(dtype, load(self.outputs[k], self.own_index(k)))
        if kind < 0.96:
            return self.to(dtype, self.r.choice(self.indexes))
        if dtype == "bool":
            return c(self.r.random() < 0.5, "bool")
        return c(self.r.choice([0, 1, 2, 3, 7, 100]), dtype)

    def to(self, dtype, e):
        return e if e.dtype == dtype else Cast(dtype, e)

    def expr(self, dtype, depth):
        r = self.r
        if depth == 0 or r.random() < 0.15:
            return self.leaf(dtype)
        sub_ = lambda: self.expr(dtype, depth - 1)
        kind = r.random()
        if dtype == "bool":
            if kind < 0.6:
                other = r.choice(self.dtypes)
                return Binary(
                    r.choice(["lt", "le", "eq", "ne", "gt", "ge"]),
                    self.expr(other, depth - 1),
                    self.expr(other, depth - 1),
                )
            return Unary("not", sub_()) if kind < 0.7 else Binary(r.choice(["and", "or", "xor"]), sub_(), sub_())
        if kind < 0.12:
            return Select(self.expr("bool", depth - 1), sub_(), sub_())
        if kind < 0.22:
            return self.to(dtype, self.expr(r.choice(self.dtypes), depth - 1))
        if dtype in FLOATS:
            if kind < 0.35:
                return Unary(r.choice(["neg", "abs", "floor", "rint", "sqrt"]), sub_())
            if kind < 0.5:
                return Fma(sub_(), sub_(), sub_())
            if kind < 0.56:
                sign = sub_()  # the sign of a NaN is not part of the semantics
                return Binary("copysign", sub_(), Select(Binary("eq", sign, sign), sign, c(1, dtype)))
            return Binary(r.choice(["add", "sub", "mul", "div", "min", "max", "rem"]), sub_(), sub_())
        if kind < 0.35:
            return Unary(r.choice(["neg", "not", "clz", "popcount"] + (["abs"] if dtype in SIGNED else [])), sub_())
        ops = ["add", "sub", "mul", "min", "max", "and", "or", "xor", "shl", "shrl", "shra", "div", "rem", "mulhi"]
        return Binary(r.choice(ops), sub_(), sub_())
