"""The verifier of array graphs: every node's operands, attributes, shape and dtype fit its operation.

Run between passes in tests. `Builder` checks what lowering rules are likely to get wrong; this checks
everything, also what passes build by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from velax._ir import loops
from velax._ir.graph import COMPLEX_PART, DTYPES, MAP_FNS, Graph, Node
from velax._ir.graph_text import print_graph

__all__ = ["GraphError", "check_graph"]

_TO_BOOL = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "is_finite"})
_INTEGERS = frozenset((*loops.SIGNED, *loops.UNSIGNED))
_REDUCES = frozenset({"add", "mul", "min", "max", "and", "or", "xor"})


class GraphError(TypeError):
    """A graph breaks a rule of its grammar; the message names the rule and shows the node in its graph."""


class _Broken(Exception):
    pass


def check_graph(graph: Graph) -> None:
    """Verify ``graph`` and the graphs nested in it.

    Raises:
        GraphError: with the offending node in context.
    """
    known: set[Node] = set()
    for k, node in enumerate(graph.inputs):
        if node.op != "input" or node.attrs.get("index") != k:
            raise GraphError(f"input {k} of the graph is {node!r}, not its input node\n\n{print_graph(graph)}")
        known.add(node)
    stack = [(node, False) for node in (*graph.outputs, *graph.effects)]
    done: set[Node] = set()
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if not ready:
            stack.append((node, True))
            stack.extend((x, False) for x in node.inputs if x not in done)
            continue
        done.add(node)
        try:
            _check(node, known)
        except _Broken as problem:
            text = print_graph(graph, {node: f"<-- {problem}"})
            raise GraphError(f"{node!r}: {problem}\n\n{text}") from None
    for node in graph.outputs:
        if node.shape is None:
            raise GraphError(f"output {node!r} has several results; read them with get\n\n{print_graph(graph)}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _Broken(message)


def _check(node: Node, inputs: set[Node]) -> None:
    rule = _RULES.get(node.op)
    _require(rule is not None, f"unknown operation {node.op!r}")
    if node.op == "input":
        _require(node in inputs, "an input of another graph: nested graphs must be closed")
    if node.shape is not None:
        _require(all(isinstance(n, int) and n >= 0 for n in node.shape), f"shape {node.shape}")
        _require(node.dtype in DTYPES, f"dtype {node.dtype!r}")
    for x in node.inputs:
        _require(x.shape is not None or node.op == "get", f"operand {x!r} has several results; read them with get")
    rule(node, *node.inputs)


def _operands(node: Node, count: int) -> None:
    _require(len(node.inputs) == count, f"takes {count} operands, has {len(node.inputs)}")


def _result(node: Node, shape, dtype) -> None:
    _require(node.shape == tuple(shape), f"shape should be {list(shape)}")
    _require(node.dtype == dtype, f"dtype should be {dtype}")


def _leaf(node: Node) -> None:
    _operands(node, 0)


def _literal(node: Node) -> None:
    _operands(node, 0)
    _require(node.shape == (), "a literal has rank 0")
    _require(
        isinstance(node.attrs.get("value"), (bool, int, float, complex)),
        f"value {node.attrs.get('value')!r} is no Python scalar",
    )


def _iota(node: Node) -> None:
    _operands(node, 0)
    _require(0 <= node.attrs["dim"] < node.ndim, f"dim {node.attrs['dim']} of rank {node.ndim}")


def _map(node: Node, *xs: Node) -> None:
    fn = node.attrs["fn"]
    _require(MAP_FNS.get(fn) == len(xs), f"no function {fn!r} of {len(xs)} operands")
    values = xs[1:] if fn == "select" else xs
    _require(all(x.shape == node.shape for x in xs), "operands and result must have one shape")
    _require(all(x.dtype == values[0].dtype for x in values), "operands must have one dtype")
    if fn == "select":
        _require(xs[0].dtype == "bool", f"select by {xs[0].dtype}")
    dtype = values[0].dtype
    if fn in _TO_BOOL:
        dtype = "bool"
    elif fn == "complex":
        dtype = {"f32": "c64", "f64": "c128"}.get(dtype)
    elif fn in ("real", "imag", "abs"):
        dtype = COMPLEX_PART.get(dtype, dtype)
    _require(node.dtype == dtype, f"dtype should be {dtype}")


def _convert(node: Node, x: Node) -> None:
    _require(node.shape == x.shape, "keeps the shape")


def _bitcast(node: Node, x: Node) -> None:
    _require(node.shape == x.shape, "keeps the shape")
    _require(_bits(node.dtype) == _bits(x.dtype), f"widths of {x.dtype} and {node.dtype} differ")


def _bits(dtype: str) -> int:
    return 2 * loops.WIDTH[COMPLEX_PART[dtype]] if dtype in COMPLEX_PART else loops.WIDTH[dtype]


def _broadcast(node: Node, x: Node) -> None:
    dims = node.attrs["dims"]
    _require(node.dtype == x.dtype, "keeps the dtype")
    _require(len(dims) == x.ndim and list(dims) == sorted(set(dims)), f"dims {dims} of an operand of rank {x.ndim}")
    for d, n in zip(dims, x.shape):
        _require(0 <= d < node.ndim and n in (1, node.shape[d]), f"operand axis of {n} as result axis {d}")


def _reshape(node: Node, x: Node) -> None:
    _require(node.dtype == x.dtype and node.size == x.size, f"{x.dtype}{list(x.shape)} does not reshape to this")


def _transpose(node: Node, x: Node) -> None:
    perm = node.attrs["perm"]
    _require(sorted(perm) == list(range(x.ndim)), f"perm {perm} of rank {x.ndim}")
    _result(node, tuple(x.shape[p] for p in perm), x.dtype)


def _slice(node: Node, x: Node) -> None:
    starts, limits, strides = (node.attrs[k] for k in ("starts", "limits", "strides"))
    _require(len(starts) == len(limits) == len(strides) == x.ndim, "one start, limit and stride for each axis")
    for a, b, s, n in zip(starts, limits, strides, x.shape):
        _require(0 <= a <= b <= n and s > 0, f"{a}:{b}:{s} of an axis of {n}")
    _result(node, tuple(-(-(b - a) // s) for a, b, s in zip(starts, limits, strides)), x.dtype)


def _rev(node: Node, x: Node) -> None:
    _require(all(0 <= d < x.ndim for d in node.attrs["dims"]), f"dims {node.attrs['dims']}")
    _result(node, x.shape, x.dtype)


def _pad(node: Node, x: Node, value: Node) -> None:
    _require(value.shape == () and value.dtype == x.dtype, f"padded with {value!r}")
    _require(all(i >= 0 for i in node.attrs["interior"]), "interior padding is not negative")
    shape = tuple(
        max(0, a + b + n + max(n - 1, 0) * i)
        for n, a, b, i in zip(x.shape, node.attrs["lo"], node.attrs["hi"], node.attrs["interior"], strict=True)
    )
    _result(node, shape, x.dtype)


def _concatenate(node: Node, *xs: Node) -> None:
    dim = node.attrs["dim"]
    _require(bool(xs), "nothing to concatenate")
    for x in xs:
        rest = [n for d, n in enumerate(x.shape) if d != dim]
        _require(x.dtype == node.dtype and rest == [n for d, n in enumerate(node.shape) if d != dim], f"operand {x!r}")
    _require(node.shape[dim] == sum(x.shape[dim] for x in xs), f"length along {dim}")


def _starts(x: Node, starts) -> None:
    _require(len(starts) == x.ndim, f"{len(starts)} starts for an operand of rank {x.ndim}")
    for s in starts:
        _require(s.shape == () and s.dtype in _INTEGERS, f"start {s!r} is no integer of rank 0")


def _dynamic_slice(node: Node, x: Node, *starts: Node) -> None:
    _starts(x, starts)
    sizes = node.attrs["sizes"]
    _require(
        len(sizes) == x.ndim and all(0 <= m <= n for m, n in zip(sizes, x.shape)), f"sizes {sizes} of {list(x.shape)}"
    )
    _result(node, sizes, x.dtype)


def _dynamic_update_slice(node: Node, x: Node, update: Node, *starts: Node) -> None:
    _starts(x, starts)
    _require(update.dtype == x.dtype and update.ndim == x.ndim, f"update {update!r}")
    _require(all(m <= n for m, n in zip(update.shape, x.shape)), f"update {list(update.shape)} of {list(x.shape)}")
    _result(node, x.shape, x.dtype)


def _gather(node: Node, x: Node, indices: Node) -> None:
    dims, sizes = node.attrs["dims"], node.attrs["slice_sizes"]
    _require(node.attrs["mode"] in ("clip", "fill", "promise"), f"mode {node.attrs['mode']!r}")
    _require(indices.dtype in _INTEGERS and indices.shape[-1] == len(dims.start_index_map), f"indices {indices!r}")
    _require(len(sizes) == x.ndim and all(0 <= m <= n for m, n in zip(sizes, x.shape)), f"slice sizes {sizes}")
    _require(node.dtype == x.dtype, "keeps the dtype")
    dropped = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    window = [m for d, m in enumerate(sizes) if d not in dropped]
    _require([node.shape[d] for d in dims.offset_dims] == window, "offset axes and slice sizes differ")
    batch = [n for d, n in enumerate(node.shape) if d not in dims.offset_dims]
    _require(batch == list(indices.shape[:-1]), "batch axes and indices differ")


def _scatter(node: Node, x: Node, indices: Node, updates: Node) -> None:
    dims = node.attrs["dims"]
    _require(node.attrs["fn"] in ("set", "add", "mul", "min", "max", "sub"), f"fn {node.attrs['fn']!r}")
    _require(node.attrs["mode"] in ("clip", "drop", "promise"), f"mode {node.attrs['mode']!r}")
    _require(indices.dtype in _INTEGERS and indices.shape[-1] == len(dims.start_index_map), f"indices {indices!r}")
    _require(updates.dtype == x.dtype, f"updates {updates!r}")
    batch = [n for d, n in enumerate(updates.shape) if d not in dims.offset_dims]
    _require(batch == list(indices.shape[:-1]), "batch axes of updates and indices differ")
    _result(node, x.shape, x.dtype)


def _reduce(node: Node, x: Node) -> None:
    axes = node.attrs["axes"]
    _require(node.attrs["fn"] in _REDUCES, f"fn {node.attrs['fn']!r}")
    _require(list(axes) == sorted(set(axes)) and all(0 <= d < x.ndim for d in axes), f"axes {axes} of rank {x.ndim}")
    _result(node, tuple(n for d, n in enumerate(x.shape) if d not in axes), x.dtype)


def _partial_reduce(node: Node, x: Node) -> None:
    _require(node.attrs["fn"] in _REDUCES and node.attrs["block"] >= 1, "fn and block length")
    kept = math.prod(n for d, n in enumerate(x.shape) if d not in node.attrs["axes"])
    _require(node.size == node.shape[0] * kept, "a block of partial results for each kept element")


def _argreduce(node: Node, x: Node) -> None:
    axis = node.attrs["axis"]
    _require(node.attrs["fn"] in ("argmin", "argmax") and 0 <= axis < x.ndim, f"fn and axis {axis}")
    _require(node.dtype in _INTEGERS, f"positions as {node.dtype}")
    _require(node.shape == x.shape[:axis] + x.shape[axis + 1 :], "drops the axis")


def _cumulate(node: Node, x: Node) -> None:
    _require(node.attrs["fn"] in ("add", "mul", "min", "max", "logaddexp"), f"fn {node.attrs['fn']!r}")
    _require(0 <= node.attrs["axis"] < x.ndim, f"axis {node.attrs['axis']}")
    _result(node, x.shape, x.dtype)


def _sort(node: Node, *xs: Node) -> None:
    _require(bool(xs) and all(x.shape == xs[0].shape for x in xs), "operands must have one shape")
    _require(1 <= node.attrs["num_keys"] <= len(xs), f"{node.attrs['num_keys']} keys of {len(xs)} operands")
    dim, first = node.attrs["dim"], node.attrs["first"]
    _require(0 <= dim < xs[0].ndim, f"dim {dim}")
    _require(0 <= first <= xs[0].shape[dim], f"the first {first} of {xs[0].shape[dim]}")


def _rows(node: Node, *xs: Node) -> None:
    _require(all(x.ndim == 2 and x.shape == xs[0].shape for x in xs), "rows of one shape")
    _require(node.shape[0] == xs[0].shape[0] and node.shape[1] <= xs[0].shape[1], "at most as long as the operands")


def _dot(node: Node, x: Node, y: Node) -> None:
    (lc, rc), (lb, rb) = node.attrs["contract"], node.attrs["batch"]
    _require(len(lc) == len(rc) and len(lb) == len(rb), "as many axes on both sides")
    for i, j in (*zip(lc, rc), *zip(lb, rb)):
        _require(x.shape[i] == y.shape[j], f"axis {i} of {list(x.shape)} against axis {j} of {list(y.shape)}")
    shape = [x.shape[i] for i in lb]
    shape += [n for i, n in enumerate(x.shape) if i not in lc and i not in lb]
    shape += [n for j, n in enumerate(y.shape) if j not in rc and j not in rb]
    order = node.attrs.get("order", range(len(shape)))
    _require(sorted(order) == list(range(len(shape))), f"order {order} of {len(shape)} axes")
    shape = [shape[p] for p in order]
    _require(node.shape == tuple(shape), f"shape should be {shape}")


def _signature(nodes) -> list:
    return [(x.shape, x.dtype) for x in nodes]


def _nested(graph: Graph, operands, name: str) -> None:
    _require(_signature(graph.inputs) == _signature(operands), f"the inputs of {name} do not fit the operands")
    check_graph(graph)


def _results(node: Node, nodes) -> None:
    _require(list(node.attrs["results"]) == _signature(nodes), "declared results differ from what is computed")


def _while(node: Node, *operands: Node) -> None:
    n_cond, n_body = node.attrs["counts"]
    init = operands[n_cond + n_body :]
    cond, body = node.attrs["cond"], node.attrs["body"]
    _nested(cond, (*operands[:n_cond], *init), "cond")
    _nested(body, operands[n_cond:], "body")
    _require(_signature(cond.outputs) == [((), "bool")], "cond gives one bool of rank 0")
    _require(_signature(body.outputs) == _signature(init), "body gives the types of the carry")
    _results(node, init)


def _cond(node: Node, index: Node, *operands: Node) -> None:
    _require(index.shape == () and index.dtype == "i32", f"index {index!r}")
    for k, branch in enumerate(node.attrs["branches"]):
        _nested(branch, operands, f"branch {k}")
        _results(node, branch.outputs)


def _scan(node: Node, *operands: Node) -> None:
    n_consts, n_carry, n_xs = node.attrs["counts"]
    _require(len(operands) == n_consts + n_carry + n_xs, "counts and operands differ")
    xs = operands[n_consts + n_carry :]
    length, body = node.attrs["length"], node.attrs["body"]
    _require(all(x.ndim and x.shape[0] == length for x in xs), f"xs of length {length}")
    want = _signature(operands[: n_consts + n_carry]) + [(x.shape[1:], x.dtype) for x in xs]
    _require(_signature(body.inputs) == want, "the inputs of body do not fit the operands")
    check_graph(body)
    init = operands[n_consts : n_consts + n_carry]
    _require(_signature(body.outputs[:n_carry]) == _signature(init), "body gives the types of the carry")
    stacked = [((length, *y.shape), y.dtype) for y in body.outputs[n_carry:]]
    _require(list(node.attrs["results"]) == _signature(init) + stacked, "declared results differ from what is computed")


def _loop(node: Node, *operands: Node) -> None:
    n_consts, _ = node.attrs["counts"]
    body, init = node.attrs["body"], operands[n_consts:]
    _require(
        _signature(body.inputs) == [((), "i64"), *_signature(operands)], "the inputs of body do not fit the operands"
    )
    check_graph(body)
    _require(_signature(body.outputs) == _signature(init), "body gives the types of the carry")
    _results(node, init)


def _get(node: Node, source: Node) -> None:
    k = node.attrs["k"]
    if source.op == "barrier":
        results = _signature(source.inputs)
    elif source.op == "sort":
        dim, first = source.attrs["dim"], source.attrs["first"]
        results = [((*s[:dim], first, *s[dim + 1 :]), dtype) for s, dtype in _signature(source.inputs)]
    else:
        _require(source.shape is None, f"{source!r} has one result")
        results = source.attrs["results"]
    _require(0 <= k < len(results), f"result {k} of {len(results)}")
    _require((node.shape, node.dtype) == tuple(results[k]), f"result {k} is {results[k]}")


def _anything(node: Node, *operands: Node) -> None:
    pass


_RULES: dict[str, Callable[..., None]] = {
    "input": _leaf, "literal": _literal, "map": _map, "convert": _convert, "bitcast": _bitcast, "iota": _iota,
    "broadcast": _broadcast,
    "reshape": _reshape, "transpose": _transpose, "slice": _slice, "rev": _rev, "pad": _pad,
    "concatenate": _concatenate,
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice, "gather": _gather,
    "scatter": _scatter,
    "reduce": _reduce, "argreduce": _argreduce, "cumulate": _cumulate, "sort": _sort, "dot": _dot, "while": _while,
    "cond": _cond,
    "scan": _scan, "callback": _anything, "barrier": _anything, "get": _get,
    # forms that passes introduce
    "partial_reduce": _partial_reduce, "sort_rows": _rows, "argsort_rows": _rows, "loop": _loop, "empty": _leaf,
}  # fmt: skip
