"""A NumPy evaluator of array graphs: the oracle of the compiler's tests. Plain and slow."""

import itertools
import math

import ml_dtypes
import numpy as np

from velax._compiler.nest_reduce import reduction_identity
from velax._compiler.nests import default_fill

NUMPY = {
    "bool": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32, "u64": np.uint64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32,
    "f64": np.float64,
    "c64": np.complex64, "c128": np.complex128,
}  # fmt: skip


def _is_int(x):
    return x.dtype.kind in "iu"


def _int_div(x, y):
    safe = np.where(y == 0, np.ones_like(y), y)
    q = (
        np.abs(x.astype(object))
        // np.abs(safe.astype(object))
        * np.sign(x.astype(object))
        * np.sign(safe.astype(object))
    )
    q = np.array([_wrap(v, x.dtype) for v in np.ravel(q)], x.dtype).reshape(np.shape(q))
    return np.where(y == 0, np.array(_wrap(-1, x.dtype), x.dtype), q)


def _int_rem(x, y):
    safe = np.where(y == 0, np.ones_like(y), y)
    r = np.abs(x.astype(object)) % np.abs(safe.astype(object)) * np.where(x < 0, -1, 1)
    return np.where(y == 0, x, r.astype(x.dtype) if np.ndim(r) else np.array(r, x.dtype))


def _wrap(v, dtype):
    bits = dtype.itemsize * 8
    v = int(v) & ((1 << bits) - 1)
    return v - (1 << bits) if dtype.kind == "i" and v >> (bits - 1) else v


def _shift(kind, x, y):
    bits = x.dtype.itemsize * 8
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    amount = y.astype(unsigned).astype(np.uint64)
    over = amount >= bits
    low = np.where(over, 0, amount)
    if kind == "shl":
        return np.where(over, 0, (x.astype(unsigned) << low.astype(unsigned))).astype(x.dtype)
    if kind == "shrl":
        return np.where(over, 0, x.astype(unsigned) >> low.astype(unsigned)).astype(x.dtype)
    return x >> np.minimum(amount, bits - 1).astype(x.dtype)


def _extremum(f, g):
    def run(x, y):
        if x.dtype.kind in "fV":
            nan = (x != x) | (y != y)
            return np.where(nan, np.array(np.nan, x.dtype), f(x, y))
        return f(x, y)

    return run


MAPS = {
    "add": lambda x, y: x | y if x.dtype == bool else x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x & y if x.dtype == bool else x * y,
    "div": lambda x, y: _int_div(x, y) if _is_int(x) else x / y,
    "rem": lambda x, y: _int_rem(x, y) if _is_int(x) else np.fmod(x, y),
    "neg": lambda x: -x, "abs": np.abs, "sign": np.sign,
    "min": _extremum(np.minimum, min), "max": _extremum(np.maximum, max),
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y, "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
    "select": lambda p, x, y: np.where(p, x, y), "is_finite": np.isfinite, "clamp": lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi),
    "and": lambda x, y: x & y, "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y, "not": lambda x: ~x,
    "shl": lambda x, y: _shift("shl", x, y), "shrl": lambda x, y: _shift("shrl", x, y), "shra": lambda x, y: _shift("shra", x, y),
    "floor": np.floor, "ceil": np.ceil, "round_even": np.rint, "trunc": np.trunc,
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "logistic": lambda x: 1 / (1 + np.exp(-x)), "log1p": np.log1p, "expm1": np.expm1,
    "complex": lambda x, y: x + 1j * y, "real": np.real, "imag": np.imag, "conj": np.conj,
}  # fmt: skip
REDUCES = {
    "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}  # fmt: skip


def convert(x, dtype):
    target = np.dtype(NUMPY[dtype])
    kind = np.dtype(x.dtype).kind
    if target.kind == "b":
        return x != 0
    if target.kind in "iu" and kind in "fV":
        info = np.iinfo(target)
        wide = np.trunc(x.astype(np.float64))
        out = [
            0
            if v != v
            else min(max(int(v) if abs(v) < 1e300 else (1 << 70) * (1 if v > 0 else -1), info.min), info.max)
            for v in np.ravel(wide)
        ]
        return np.array(out, target).reshape(x.shape)
    if kind == "c" and target.kind != "c":
        x = x.real
    return x.astype(target)


def run_graph(graph, *arrays):
    """The outputs of ``graph`` on NumPy arrays."""
    with np.errstate(all="ignore"):
        values = {
            node: np.asarray(a, NUMPY[node.dtype]).reshape(node.shape)
            for node, a in zip(graph.inputs, arrays, strict=True)
        }
        return [evaluate(node, values) for node in graph.outputs]


def evaluate(node, values):
    stack = [node]
    while stack:
        top = stack[-1]
        if top in values:
            stack.pop()
            continue
        missing = [x for x in top.inputs if x not in values]
        if missing:
            stack.extend(missing)
            continue
        out = RULES[top.op](top, *(values[x] for x in top.inputs))
        if top.shape is not None:
            out = np.asarray(out)
            if out.dtype != NUMPY[top.dtype]:
                out = out.astype(NUMPY[top.dtype])
            assert out.shape == top.shape, (top, out.shape)
        values[top] = out
        stack.pop()
    return values[node]


def _broadcast(node, x):
    shape = [1] * len(node.shape)
    for d, n in zip(node.attrs["dims"], x.shape):
        shape[d] = n
    return np.broadcast_to(x.reshape(shape), node.shape)


def _pad(node, x, value):
    out = np.full(node.shape, value, x.dtype)
    lo, interior = node.attrs["lo"], node.attrs["interior"]
    for index in np.ndindex(*x.shape):
        at = tuple(i * (g + 1) + b for i, g, b in zip(index, interior, lo))
        if all(0 <= a < n for a, n in zip(at, node.shape)):
            out[at] = x[index]
    return out


def _starts(starts, shape, sizes):
    return tuple(min(max(int(s), 0), n - m) for s, n, m in zip(starts, shape, sizes))


def _dynamic_slice(node, x, *starts):
    at = _starts(starts, x.shape, node.shape)
    return x[tuple(slice(a, a + n) for a, n in zip(at, node.shape))]


def _dynamic_update_slice(node, x, update, *starts):
    at = _starts(starts, x.shape, update.shape)
    out = x.copy()
    out[tuple(slice(a, a + n) for a, n in zip(at, update.shape))] = update
    return out


def _windows(dims, indices, x_shape, sizes):
    """(batch position, start of the window, whether it lies inside) for every index vector."""
    for batch in np.ndindex(*indices.shape[:-1]):
        start = [0] * len(x_shape)
        for k, axis in enumerate(dims.start_index_map):
            start[axis] = int(indices[(*batch, k)])
        inside = all(0 <= s <= n - m for s, n, m in zip(start, x_shape, sizes))
        clipped = [min(max(s, 0), n - m) for s, n, m in zip(start, x_shape, sizes)]
        for axis, k in zip(dims.operand_batching_dims, dims.start_indices_batching_dims):
            clipped[axis] = batch[k]
        yield batch, clipped, inside


def _gather(node, x, indices):
    dims, sizes = node.attrs["dims"], node.attrs["slice_sizes"]
    fill = node.attrs["fill"]
    out = np.zeros(node.shape, x.dtype)
    drop = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    for batch, start, inside in _windows(dims, indices, x.shape, sizes):
        window = x[tuple(slice(s, s + m) for s, m in zip(start, sizes))]
        window = window.reshape([m for d, m in enumerate(sizes) if d not in drop])
        if node.attrs["mode"] == "fill" and not inside:
            window = np.full_like(window, default_fill(node.dtype) if fill is None else fill)
        rest = iter(batch)
        at = tuple(slice(None) if d in dims.offset_dims else next(rest) for d in range(out.ndim))
        out[at] = window
    return out


def _scatter(node, x, indices, updates):
    dims, fn = node.attrs["dims"], node.attrs["fn"]
    drop = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    window = iter([updates.shape[d] for d in dims.offset_dims])
    sizes = [1 if d in drop else next(window) for d in range(x.ndim)]
    out = x.copy()
    for batch, start, inside in _windows(dims, indices, x.shape, sizes):
        if node.attrs["mode"] != "clip" and not inside:
            continue
        rest = iter(batch)
        part = updates[
            tuple(slice(None) if d in dims.offset_dims else next(rest) for d in range(updates.ndim))
        ].reshape(sizes)
        at = tuple(slice(s, s + m) for s, m in zip(start, sizes))
        out[at] = part if fn == "set" else MAPS[fn](out[at], part)
    return out


def _reduce(node, x):
    fn, axes = node.attrs["fn"], node.attrs["axes"]
    if x.dtype == bool and fn in ("add", "max"):
        fn = "or"
    if x.dtype == bool and fn in ("mul", "min"):
        fn = "and"
    if x.dtype in (np.float16, ml_dtypes.bfloat16) and fn in ("add", "mul"):
        return REDUCES[fn].reduce(x.astype(np.float32), axes)
    if fn in ("min", "max") and x.size == 0:
        return np.full(node.shape, reduction_identity(fn, node.dtype))
    return REDUCES[fn].reduce(x, axes)


def _argreduce(node, x):
    f = np.argmin if node.attrs["fn"] == "argmin" else np.argmax
    return f(x, axis=node.attrs["axis"])


def _cumulate(node, x):
    fn, axis = node.attrs["fn"], node.attrs["axis"]
    if node.attrs["reverse"]:
        x = np.flip(x, axis)
    f = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum, "logaddexp": np.logaddexp}[fn]
    out = f.accumulate(x, axis)
    return np.flip(out, axis) if node.attrs["reverse"] else out


def _sort(node, *xs):
    dim, num_keys = node.attrs["dim"], node.attrs["num_keys"]
    order = None
    for key in reversed(xs[:num_keys]):
        if order is None:
            order = np.argsort(key, dim, kind="stable")
        else:
            again = np.argsort(np.take_along_axis(key, order, dim), dim, kind="stable")
            order = np.take_along_axis(order, again, dim)
    return [np.take_along_axis(x, np.take(order, range(node.attrs["first"]), dim), dim) for x in xs]


def _dot(node, x, y):
    (lc, rc), (lb, rb) = node.attrs["contract"], node.attrs["batch"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(letters) for _ in x.shape]
    right = [None] * y.ndim
    for i, j in (*zip(lc, rc), *zip(lb, rb)):
        right[j] = left[i]
    right = [r or next(letters) for r in right]
    out = (
        [left[i] for i in lb]
        + [c for i, c in enumerate(left) if i not in (*lc, *lb)]
        + [c for j, c in enumerate(right) if j not in (*rc, *rb)]
    )
    wide = NUMPY[node.dtype] if node.dtype not in ("f16", "bf16") else np.float32
    out = [out[p] for p in node.attrs.get("order", range(len(out)))]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", x.astype(wide), y.astype(wide))


def _while(node, *operands):
    n_cond, n_body = node.attrs["counts"]
    cond_consts, body_consts, carry = (
        operands[:n_cond],
        operands[n_cond : n_cond + n_body],
        list(operands[n_cond + n_body :]),
    )
    while run_graph(node.attrs["cond"], *cond_consts, *carry)[0]:
        carry = run_graph(node.attrs["body"], *body_consts, *carry)
    return carry


def _cond(node, index, *operands):
    branches = node.attrs["branches"]
    return run_graph(branches[min(max(int(index), 0), len(branches) - 1)], *operands)


def _scan(node, *operands):
    n_consts, n_carry, _ = node.attrs["counts"]
    consts, carry, xs = (
        operands[:n_consts],
        list(operands[n_consts : n_consts + n_carry]),
        operands[n_consts + n_carry :],
    )
    length = node.attrs["length"]
    stacks = [np.zeros(shape, NUMPY[dtype]) for shape, dtype in node.attrs["results"][n_carry:]]
    for i in reversed(range(length)) if node.attrs["reverse"] else range(length):
        outs = run_graph(node.attrs["body"], *consts, *carry, *(x[i] for x in xs))
        carry = outs[:n_carry]
        for stack, y in zip(stacks, outs[n_carry:]):
            stack[i] = y
    return [*carry, *stacks]


RULES = {
    "literal": lambda node: np.array(node.attrs["value"], NUMPY[node.dtype]),
    "map": lambda node, *xs: MAPS[node.attrs["fn"]](*xs),
    "convert": lambda node, x: convert(x, node.dtype),
    "bitcast": lambda node, x: np.ascontiguousarray(x).view(NUMPY[node.dtype]).reshape(node.shape),
    "iota": lambda node: np.broadcast_to(
        np.arange(node.shape[node.attrs["dim"]]).reshape([-1 if d == node.attrs["dim"] else 1 for d in range(len(node.shape))]), node.shape
    ),
    "broadcast": _broadcast, "reshape": lambda node, x: x.reshape(node.shape),
    "transpose": lambda node, x: x.transpose(node.attrs["perm"]),
    "slice": lambda node, x: x[tuple(slice(a, b, s) for a, b, s in zip(node.attrs["starts"], node.attrs["limits"], node.attrs["strides"]))],
    "rev": lambda node, x: np.flip(x, node.attrs["dims"]), "pad": _pad,
    "concatenate": lambda node, *xs: np.concatenate(xs, node.attrs["dim"]),
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice, "gather": _gather,
    "scatter": _scatter,
    "reduce": _reduce, "argreduce": _argreduce, "cumulate": _cumulate, "sort": _sort, "dot": _dot,
    "while": _while, "cond": _cond, "scan": _scan,
    "barrier": lambda node, *xs: list(xs), "get": lambda node, xs: xs[node.attrs["k"]],
}  # fmt: skip

__all__ = ["NUMPY", "evaluate", "itertools", "math", "run_graph"]
