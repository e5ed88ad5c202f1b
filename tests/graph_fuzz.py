"""Random array graphs: every choice from one seed."""

import random

import numpy as np

from velax._ir.graph import Builder, GatherDims, Graph

UNARY = ["neg", "abs", "exp", "tanh", "sin", "sqrt", "logistic"]
BINARY = ["add", "sub", "mul", "min", "max"]
EXTENTS = [1, 2, 3, 4, 5, 8, 17, 33]


class Fuzzer:
    """Builds a graph of about ``steps`` operations on float arrays of up to ``limit`` elements."""

    def __init__(self, seed: int, steps: int = 12, limit: int = 4000):
        self.rng = random.Random(seed)
        self.b = Builder()
        self.limit = limit
        self.nodes = []
        self.arrays = []
        data = np.random.default_rng(seed)
        for _ in range(self.rng.randint(1, 3)):
            shape = self.shape()
            self.nodes.append(self.b.input(shape, "f32"))
            self.arrays.append(np.tanh(data.normal(size=shape)).astype(np.float32))
        self.index = self.b.input((), "i32")
        self.arrays.append(np.int32(self.rng.randint(-2, 6)))
        for _ in range(steps):
            node = self.step()
            if node is not None and node.size <= limit and node.size > 0:
                self.nodes.append(node)
        n_out = self.rng.randint(1, 4)
        outs = [self.nodes[-1], *(self.rng.choice(self.nodes) for _ in range(n_out - 1))]
        self.graph = Graph(tuple(self.b.inputs), tuple(outs))

    def shape(self):
        while True:
            shape = tuple(self.rng.choice(EXTENTS) for _ in range(self.rng.randint(0, 4)))
            if np.prod(shape) <= self.limit:
                return shape

    def pick(self):
        return self.rng.choice(self.nodes[-6:] if self.rng.random() < 0.7 else self.nodes)

    def same_shape(self, x):
        """Another node brought to the shape of ``x``."""
        found = [n for n in self.nodes if n.shape == x.shape]
        if found and self.rng.random() < 0.6:
            return self.rng.choice(found)
        for n in self.rng.sample(self.nodes, len(self.nodes)):
            dims, d = [], 0
            for extent in n.shape:
                while d < x.ndim and x.shape[d] != extent:
                    d += 1
                if d == x.ndim:
                    break
                dims.append(d)
                d += 1
            else:
                return self.b.broadcast(n, x.shape, dims)
        return self.b.full(x.shape, self.rng.choice([0.5, 2.0, -1.0]), "f32")

    def norm(self, x):
        """Keep values in range."""
        return self.b.map("tanh", x)

    def step(self):
        b, rng, x = self.b, self.rng, self.pick()
        kind = rng.choice([
            "unary", "unary", "binary", "binary", "binary", "broadcast", "reshape", "transpose", "slice", "rev",
            "pad", "concat", "reduce",
            "reduce", "dslice", "dus", "gather", "scatter", "cumulate", "dot", "softmax", "argreduce", "select",
            "sort", "barrier",
        ])  # fmt: skip
        if kind == "unary":
            fn = rng.choice(UNARY)
            return b.map(fn, b.map("abs", x) if fn == "sqrt" else b.map("tanh", x) if fn == "exp" else x)
        if kind == "binary":
            y = self.same_shape(x)
            return b.map(rng.choice(BINARY), *((x, y) if rng.random() < 0.5 else (y, x)))
        if kind == "select":
            y = self.same_shape(x)
            return b.map("select", b.map("lt", x, y), x, y)
        if kind == "broadcast":
            shape, dims = [], []
            for n in x.shape:
                if rng.random() < 0.3:
                    shape.append(rng.choice([1, 2, 3, 7]))
                dims.append(len(shape))
                shape.append(rng.choice([2, 5, 9]) if n == 1 and rng.random() < 0.5 else n)
            if rng.random() < 0.4:
                shape.append(rng.choice([1, 2, 3, 7]))
            return b.broadcast(x, shape, dims) if np.prod(shape) <= self.limit else None
        if kind == "reshape":
            factors, size, out = [], x.size, []
            for p in (2, 3, 5, 7, 11, 17, 33):
                while size % p == 0:
                    factors.append(p)
                    size //= p
            if size != 1:
                factors.append(size)
            rng.shuffle(factors)
            for f in factors:
                if out and rng.random() < 0.5:
                    out[-1] *= f
                else:
                    out.append(f)
            return b.reshape(x, out)
        if not x.ndim:
            return None
        if kind == "transpose":
            perm = list(range(x.ndim))
            rng.shuffle(perm)
            return b.transpose(x, perm)
        axis = rng.randrange(x.ndim)
        n = x.shape[axis]
        if kind == "slice":
            starts = [rng.randrange(m) for m in x.shape]
            limits = [rng.randint(a + 1, m) for a, m in zip(starts, x.shape)]
            return b.slice(x, starts, limits, [rng.choice([1, 1, 2]) for _ in x.shape])
        if kind == "rev":
            return b.rev(x, sorted(rng.sample(range(x.ndim), rng.randint(1, x.ndim))))
        if kind == "pad":
            return b.pad(
                x, b.literal(0.25, "f32"), [rng.randint(-1, 2) for _ in x.shape], [rng.randint(0, 2) for _ in x.shape],
                [rng.choice([0, 0, 0, 1]) for _ in x.shape],
            )  # fmt: skip
        if kind == "concat":
            parts = [x, *(self.same_shape(x) for _ in range(rng.randint(1, 5)))]
            return b.concatenate(parts, axis) if x.size * len(parts) <= self.limit else None
        if kind == "reduce":
            axes = rng.sample(range(x.ndim), rng.randint(1, x.ndim))
            return self.norm(b.reduce(rng.choice(["add", "max", "min", "add"]), x, axes))
        if kind == "softmax":
            kept = [d for d in range(x.ndim) if d != axis]
            wide = lambda r: b.broadcast(r, x.shape, kept)
            e = b.map("exp", b.map("sub", x, wide(b.reduce("max", x, (axis,)))))
            return b.map("div", e, wide(b.reduce("add", e, (axis,))))
        if kind == "argreduce":
            if x.op != "input":  # computed values may tie but for rounding
                return None
            found = b.argreduce(rng.choice(["argmin", "argmax"]), x, axis, "i32")
            return self.norm(b.convert(found, "f32"))
        if kind == "dslice":
            sizes = [rng.randint(1, m) for m in x.shape]
            return b.dynamic_slice(x, [self.index if rng.random() < 0.7 else b.literal(1, "i32") for _ in sizes], sizes)
        if kind == "dus":
            sizes = [rng.randint(1, m) for m in x.shape]
            update = b.slice(self.same_shape(x), [0] * x.ndim, sizes)
            return b.dynamic_update_slice(
                x, update, [self.index if rng.random() < 0.7 else b.literal(1, "i32") for _ in sizes]
            )
        if kind == "gather":
            count = rng.choice([1, 3, 6])
            at = b.map("add", b.iota((count, 1), "i32", 0), b.broadcast(self.index, (count, 1), ()))
            sizes = tuple(1 if d == axis else m for d, m in enumerate(x.shape))
            dims = GatherDims(tuple(range(1, x.ndim)), (axis,), (axis,))
            shape = (count, *(m for d, m in enumerate(x.shape) if d != axis))
            return b.gather(x, at, dims, sizes, rng.choice(["clip", "fill"]), 0.5, shape)
        if kind == "scatter":
            count = rng.choice([1, 3, 6])
            at = b.map(
                "rem",
                b.map("add", b.iota((count, 1), "i32", 0), b.broadcast(self.index, (count, 1), ())),
                b.full((count, 1), 4, "i32"),
            )
            dims = GatherDims(tuple(range(1, x.ndim)), (axis,), (axis,))
            shape = (count, *(m for d, m in enumerate(x.shape) if d != axis))
            updates = (
                b.broadcast(b.slice(self.same_shape(x), [0] * x.ndim, [1] * x.ndim), shape, range(x.ndim))
                if x.ndim
                else x
            )
            return self.norm(
                b.scatter(
                    rng.choice(["set", "add", "mul"]), x, at, updates, dims, rng.choice(["clip", "drop"]), False, False
                )
            )
        if kind == "cumulate":
            return self.norm(b.cumulate(rng.choice(["add", "max"]), x, axis, rng.random() < 0.5))
        if kind == "sort":
            if x.op != "input":
                return b.sort([x], axis, 1)[0]
            first = rng.choice([None, rng.randint(0, x.shape[axis])])
            return b.sort([x, self.same_shape(x)], axis, 1, first)[rng.randrange(2)]
        if kind == "barrier":
            return b.barrier([x])[0]
        if kind == "dot":
            y = self.pick()
            pairs = [(i, j) for i in range(x.ndim) for j in range(y.ndim) if x.shape[i] == y.shape[j]]
            rng.shuffle(pairs)
            chosen = []
            for i, j in pairs:
                if len(chosen) < 2 and all(i != p and j != q for p, q in chosen):
                    chosen.append((i, j))
            if not chosen:
                return None
            split = rng.randint(0, len(chosen))
            contract, batch = chosen[:split], chosen[split:]
            node = b.dot(
                x,
                y,
                ([p for p, _ in contract], [q for _, q in contract]),
                ([p for p, _ in batch], [q for _, q in batch]),
                "f32",
            )
            return self.norm(node) if node.size <= self.limit else None
        del n
        raise AssertionError(kind)


class ControlFuzzer(Fuzzer):
    """Also draws ``scan``, ``while`` and ``cond`` with random bodies."""

    depth = 0

    def body(self, shapes, out_shapes, steps):
        """A graph from inputs of ``shapes`` (the last ones i32 scalars if None) to outputs of ``out_shapes``."""
        inner = object.__new__(ControlFuzzer)
        inner.rng, inner.b, inner.limit, inner.depth = self.rng, Builder(), self.limit, self.depth + 1
        inner.nodes, inner.arrays = [], []
        inner.index = None
        for shape in shapes:
            node = inner.b.input(shape or (), "i32" if shape is None else "f32")
            if shape is None:
                inner.index = node
            else:
                inner.nodes.append(node)
        if inner.index is None:
            inner.index = inner.b.literal(1, "i32")
        if not inner.nodes:
            inner.nodes.append(inner.b.literal(0.5, "f32"))
        for _ in range(steps):
            node = inner.step()
            if node is not None and 0 < node.size <= inner.limit:
                inner.nodes.append(node)
        outs = []
        for shape in out_shapes:
            if shape is None:
                outs.append(inner.b.map("add", inner.index, inner.b.literal(1, "i32")))
                continue
            same = [n for n in inner.nodes if n.shape == shape]
            like = inner.b.full(shape, 0.5, "f32")
            node = self.rng.choice(same[-3:]) if same and self.rng.random() < 0.8 else inner.same_shape(like)
            outs.append(node if self.rng.random() < 0.2 else inner.norm(node))
        return Graph(tuple(inner.b.inputs), tuple(outs))

    def step(self):
        if self.depth > 1 or self.rng.random() > 0.25:
            return super().step()
        b, rng = self.b, self.rng
        kind = rng.choice(["scan", "while", "cond"])
        init = [self.pick() for _ in range(rng.randint(1, 3))]
        consts = [self.pick() for _ in range(rng.randint(0, 2))]
        steps = rng.randint(1, 6)
        if kind == "cond":
            operands = [*init, *consts]
            outs = [x.shape for x in init]
            branches = [self.body([x.shape for x in operands] + [None], outs, steps) for _ in range(rng.randint(2, 3))]
            results = b.cond(self.index, branches, [*operands, self.index])
        elif kind == "scan":
            length = rng.randint(0 if rng.random() < 0.1 else 1, 4)
            xs = [self.pick() for _ in range(rng.randint(0, 2))]
            xs = [b.broadcast(x, (length, *x.shape), range(1, x.ndim + 1)) for x in xs if x.size * length <= self.limit]
            ys = [self.pick().shape for _ in range(rng.randint(0, 2))]
            shapes = [x.shape for x in consts] + [x.shape for x in init] + [x.shape[1:] for x in xs]
            body = self.body(shapes, [x.shape for x in init] + ys, steps)
            results = b.scan(body, consts, init, xs, length, rng.random() < 0.5, unroll=rng.choice([1, 1, 4]))
            results = [r for r in results if 0 < r.size <= self.limit]
            if not results:
                return None
        else:
            bound = rng.randint(0, 4)
            cond = Builder()
            for x in init:
                cond.input(x.shape, "f32")
            counter = cond.input((), "i32")
            test = Graph(tuple(cond.inputs), (cond.map("lt", counter, cond.literal(bound, "i32")),))
            shapes = [x.shape for x in consts] + [x.shape for x in init] + [None]
            body = self.body(shapes, [x.shape for x in init] + [None], steps)
            results = b.while_(test, body, [], consts, [*init, b.literal(0, "i32")])[:-1]
        self.nodes.extend(results)
        return rng.choice(results)
