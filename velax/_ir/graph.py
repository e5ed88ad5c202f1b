"""The array graph: a jaxpr as a DAG of a few dozen array operations, ready for fusion.

A `Node` is one array value (``shape``, ``dtype``) computed by ``op`` from ``inputs`` with ``attrs``. Nodes
with several results (``sort``, ``while``, ``cond``, ``scan``, ``callback``) have ``shape`` None and are read
through ``get`` nodes. Dtypes are the short names of `DTYPES` (the loop IR's plus ``c64``, ``c128``). Nodes
are immutable and hashable by identity; `Builder` makes them, checks shapes and dtypes, folds the trivial
cases and shares equal ones (value numbering). Lowering rules of primitives call the builder; passes rebuild.

==================  =============================================================================================
op                  meaning (attrs)
==================  =============================================================================================
input               the k-th runtime argument (index)
literal             a rank-0 constant (value: Python scalar)
map                 elementwise scalar function (fn), operands of one shape; see `MAP_FNS`
convert             value conversion to ``dtype`` with the loop IR's ``Cast`` semantics; complex to real takes the real part
bitcast             same bits, equal width
iota                index along ``dim``
broadcast           operand axis i becomes result axis dims[i] (dims strictly increasing); other axes repeat; size-1 axes stretch
reshape, transpose  row-major reshape; transpose(perm): result axis i is operand axis perm[i]
slice               starts, limits, strides (strides > 0)
rev                 reverse along dims
pad                 operand, value (rank 0); lo, hi (may be negative), interior (>= 0) an axis
concatenate         along dim
dynamic_slice       operand, *starts (rank-0 integers, clamped so that the slice fits); sizes
dynamic_update_slice  operand, update, *starts (clamped)
gather              operand, indices; XLA's gather with dimension numbers; mode: clip | fill | promise; fill
scatter             operand, indices, updates; fn: set | add | mul | min | max | sub; mode: clip | drop | promise; unique, sorted
reduce              fn: add mul min max and or xor, over axes (add of f16/bf16 accumulates in f32)
argreduce           fn: argmin | argmax along axis; first occurrence, NaN wins; integer result dtype
cumulate            fn: add mul min max logaddexp, along axis, reverse
sort                several operands along dim; the first num_keys are keys, compared lexicographically, NaN last, stable
dot                 lhs, rhs; contract ((l...), (r...)), batch ((l...), (r...)); result (batch, lhs free, rhs free) in dtype;
                    order (none: as they are): result axis i is axis order[i] of these
while               cond (Graph -> rank-0 bool), body (Graph), operands: cond_consts, body_consts, init; results as init
cond                index (rank-0 i32, clamped), branches (Graphs of one signature)
scan                body: (consts, carry, x slices) -> (carry, y slices); length, reverse, counts
callback            host function (callback id) with declared results; ordered ones carry tokens by position in the list of effects
barrier             results equal operands; nothing moves across
get                 result k of a multi-result node
==================  =============================================================================================
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from velax._ir import dtype_names
from velax._lang.record import Record

DTYPES = (*dtype_names.DTYPES, "c64", "c128")
COMPLEX_PART = {"c64": "f32", "c128": "f64"}

#: elementwise functions: name -> number of operands. Operands have one dtype, except: ``select`` (bool, T, T),
#: ``complex`` (two real -> complex). ``real``/``imag`` give the real part type, comparisons, ``is_finite`` give bool.
MAP_FNS = {
    # arithmetic
    "add": 2, "sub": 2, "mul": 2, "div": 2, "rem": 2, "neg": 1, "abs": 1, "sign": 1, "min": 2, "max": 2, "fma": 3,
    # comparison and selection; ``lt_total``, ``le_total``, ``eq_total`` are the total order of lax.sort
    "eq": 2, "ne": 2, "lt": 2, "le": 2, "gt": 2, "ge": 2, "select": 3, "is_finite": 1, "clamp": 3,
    # bits
    "and": 2, "or": 2, "xor": 2, "not": 1, "shl": 2, "shrl": 2, "shra": 2, "clz": 1, "popcount": 1,
    # rounding
    "floor": 1, "ceil": 1, "round_even": 1, "round_away": 1, "trunc": 1, "nextafter": 2, "copysign": 2,
    # transcendental (1-2 ULP)
    "exp": 1, "exp2": 1, "expm1": 1, "log": 1, "log1p": 1, "tanh": 1, "logistic": 1, "sin": 1, "cos": 1, "tan": 1,
    "sqrt": 1, "rsqrt": 1, "cbrt": 1, "pow": 2, "atan2": 2, "erf": 1, "erfc": 1, "erf_inv": 1,
    "asin": 1, "acos": 1, "atan": 1, "sinh": 1, "cosh": 1, "asinh": 1, "acosh": 1, "atanh": 1, "lgamma": 1,
    "digamma": 1,
    # complex
    "complex": 2, "real": 1, "imag": 1, "conj": 1,
}  # fmt: skip
_TO_BOOL = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "is_finite"})


class Node:
    """One array value of the graph."""

    __slots__ = ("attrs", "dtype", "inputs", "op", "shape", "source")

    def __init__(self, op, inputs, attrs, shape, dtype, source=None):
        self.op: str = op
        self.inputs: tuple[Node, ...] = inputs
        self.attrs: dict = attrs
        self.shape: tuple[int, ...] | None = shape
        self.dtype: str | None = dtype
        self.source = source  #: opaque source location of the equation that made it, for errors and dumps

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self):
        attrs = "".join(f" {k}={v}" for k, v in self.attrs.items() if not isinstance(v, Graph))
        return f"<{self.op}{attrs} {self.dtype}{list(self.shape) if self.shape is not None else ''}>"


class Graph(Record, eq=False):
    """``inputs`` (``input`` nodes in order) -> ``outputs``; nested in ``while``/``cond``/``scan`` nodes,
    closed: no captured nodes.

    ``effects`` are the nodes that run although nothing may use their results (callbacks, and control flow
    around them), in the order in which they must run.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    effects: tuple[Node, ...] = ()


class GatherDims(Record):
    """XLA's gather/scatter dimension numbers (for scatter: update_window_dims, inserted_window_dims,
    scatter_dims_to_operand_dims).
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


class Builder:
    """Makes nodes: checks, folds what is trivially equal, shares equal nodes. One builder a graph."""

    def __init__(self):
        self._table: dict = {}
        self.source = None  #: attached to the nodes made next
        self.inputs: list[Node] = []
        self.uses: Counter[Node] = (
            Counter()
        )  #: of the nodes that are rebuilt, for rules that must not compute one twice

    # -- leaves -----------------------------------------------------------------------------------

    def input(self, shape: Sequence[int], dtype: str) -> Node:
        node = Node("input", (), {"index": len(self.inputs)}, tuple(shape), dtype, self.source)
        self.inputs.append(node)
        return node

    def literal(self, value, dtype: str) -> Node:
        """A rank-0 constant; ``value`` is a Python bool/int/float/complex."""
        key_value = repr(value)  # tells -0.0 from 0.0 and equates NaNs
        return self._share("literal", (), {"value": value}, (), dtype, key=(key_value,))

    def full(self, shape: Sequence[int], value, dtype: str) -> Node:
        return self.broadcast(self.literal(value, dtype), shape, ())

    def iota(self, shape: Sequence[int], dtype: str, dim: int) -> Node:
        return self._share("iota", (), {"dim": dim}, tuple(shape), dtype)

    # -- elementwise ------------------------------------------------------------------------------

    def map(self, fn: str, *xs: Node) -> Node:
        if MAP_FNS.get(fn) != len(xs):
            raise TypeError(f"map {fn}: unknown function or wrong number of operands ({len(xs)})")
        value_operands = xs[1:] if fn == "select" else xs
        if any(x.shape != xs[0].shape for x in xs) or any(x.dtype != value_operands[0].dtype for x in value_operands):
            raise TypeError(f"map {fn}: operands differ in shape or dtype: {', '.join(map(repr, xs))}")
        dtype = value_operands[0].dtype
        if fn in _TO_BOOL:
            dtype = "bool"
        elif fn == "complex":
            dtype = {"f32": "c64", "f64": "c128"}[dtype]
        elif fn in ("real", "imag", "abs"):
            dtype = COMPLEX_PART.get(dtype, dtype)
        return self._share("map", xs, {"fn": fn}, xs[0].shape, dtype)

    def convert(self, x: Node, dtype: str) -> Node:
        return x if x.dtype == dtype else self._share("convert", (x,), {}, x.shape, dtype)

    def bitcast(self, x: Node, dtype: str) -> Node:
        return x if x.dtype == dtype else self._share("bitcast", (x,), {}, x.shape, dtype)

    # -- index moving -----------------------------------------------------------------------------

    def broadcast(self, x: Node, shape: Sequence[int], dims: Sequence[int]) -> Node:
        shape, dims = tuple(shape), tuple(dims)
        if (
            len(dims) != x.ndim
            or any(x.shape[i] not in (1, shape[d]) for i, d in enumerate(dims))
            or list(dims) != sorted(set(dims))
        ):
            raise TypeError(f"broadcast of {x!r} to {shape} with dims {dims}")
        return x if shape == x.shape else self._share("broadcast", (x,), {"dims": dims}, shape, x.dtype)

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        shape = tuple(shape)
        if math.prod(shape) != x.size:
            raise TypeError(f"reshape of {x!r} to {shape}")
        if x.op == "reshape":
            x = x.inputs[0]
        return x if shape == x.shape else self._share("reshape", (x,), {}, shape, x.dtype)

    def transpose(self, x: Node, perm: Sequence[int]) -> Node:
        perm = tuple(perm)
        if sorted(perm) != list(range(x.ndim)):
            raise TypeError(f"transpose of {x!r} by {perm}")
        if perm == tuple(range(x.ndim)):
            return x
        return self._share("transpose", (x,), {"perm": perm}, tuple(x.shape[p] for p in perm), x.dtype)

    def slice(self, x: Node, starts, limits, strides=None) -> Node:
        starts, limits = tuple(starts), tuple(limits)
        strides = tuple(strides) if strides is not None else (1,) * x.ndim
        if not all(0 <= a <= b <= n and s > 0 for a, b, s, n in zip(starts, limits, strides, x.shape, strict=True)):
            raise TypeError(f"slice of {x!r}: starts {starts}, limits {limits}, strides {strides}")
        shape = tuple(-(-(b - a) // s) for a, b, s in zip(starts, limits, strides, strict=True))
        if shape == x.shape:
            return x
        return self._share("slice", (x,), {"starts": starts, "limits": limits, "strides": strides}, shape, x.dtype)

    def rev(self, x: Node, dims: Sequence[int]) -> Node:
        dims = tuple(d for d in dims if x.shape[d] != 1)
        return self._share("rev", (x,), {"dims": dims}, x.shape, x.dtype) if dims else x

    def pad(self, x: Node, value: Node, lo, hi, interior) -> Node:
        lo, hi, interior = tuple(lo), tuple(hi), tuple(interior)
        shape = tuple(
            max(0, a + b + n + max(n - 1, 0) * i) for n, a, b, i in zip(x.shape, lo, hi, interior, strict=True)
        )
        if shape == x.shape and not any(lo):
            return x
        return self._share("pad", (x, value), {"lo": lo, "hi": hi, "interior": interior}, shape, x.dtype)

    def concatenate(self, xs: Sequence[Node], dim: int) -> Node:
        xs = tuple(xs)
        if any(x.ndim != xs[0].ndim or x.dtype != xs[0].dtype for x in xs):
            raise TypeError(f"concatenate along {dim}: {', '.join(map(repr, xs))}")
        if len(xs) == 1:
            return xs[0]
        shape = list(xs[0].shape)
        shape[dim] = sum(x.shape[dim] for x in xs)
        return self._share("concatenate", xs, {"dim": dim}, tuple(shape), xs[0].dtype)

    def dynamic_slice(self, x: Node, starts: Sequence[Node], sizes: Sequence[int]) -> Node:
        return self._share("dynamic_slice", (x, *starts), {"sizes": tuple(sizes)}, tuple(sizes), x.dtype)

    def dynamic_update_slice(self, x: Node, update: Node, starts: Sequence[Node]) -> Node:
        return self._share("dynamic_update_slice", (x, update, *starts), {}, x.shape, x.dtype)

    def gather(
        self, x: Node, indices: Node, dims: GatherDims, slice_sizes, mode: str, fill, shape: Sequence[int]
    ) -> Node:
        """``indices`` (..., len(start_index_map)); ``shape`` is the result's (from the type rule)."""
        attrs = {"dims": dims, "slice_sizes": tuple(slice_sizes), "mode": mode, "fill": fill}
        return self._share(
            "gather", (x, indices), attrs, tuple(shape), x.dtype, key=(dims, tuple(slice_sizes), mode, repr(fill))
        )

    def scatter(
        self, fn: str, x: Node, indices: Node, updates: Node, dims: GatherDims, mode: str, unique: bool, sorted_: bool
    ) -> Node:
        attrs = {"fn": fn, "dims": dims, "mode": mode, "unique": unique, "sorted": sorted_}
        return self._share("scatter", (x, indices, updates), attrs, x.shape, x.dtype)

    # -- reductions, order, contraction -----------------------------------------------------------

    def reduce(self, fn: str, x: Node, axes: Sequence[int]) -> Node:
        axes = tuple(sorted(axes))
        if not axes:
            return x
        return self._share(
            "reduce", (x,), {"fn": fn, "axes": axes}, tuple(n for i, n in enumerate(x.shape) if i not in axes), x.dtype
        )

    def argreduce(self, fn: str, x: Node, axis: int, dtype: str) -> Node:
        return self._share("argreduce", (x,), {"fn": fn, "axis": axis}, x.shape[:axis] + x.shape[axis + 1 :], dtype)

    def cumulate(self, fn: str, x: Node, axis: int, reverse: bool) -> Node:
        return self._share("cumulate", (x,), {"fn": fn, "axis": axis, "reverse": reverse}, x.shape, x.dtype)

    def sort(self, xs: Sequence[Node], dim: int, num_keys: int, first: int | None = None) -> list[Node]:
        """``xs`` ordered along ``dim`` by the first ``num_keys`` of them; of the results the ``first`` elements."""
        count = xs[0].shape[dim] if first is None else first
        node = self._share("sort", tuple(xs), {"dim": dim, "num_keys": num_keys, "first": count}, None, None)
        return [self.get(node, k, (*x.shape[:dim], count, *x.shape[dim + 1 :]), x.dtype) for k, x in enumerate(xs)]

    def dot(self, lhs: Node, rhs: Node, contract, batch, dtype: str, order=None) -> Node:
        (lc, rc), (lb, rb) = (tuple(map(tuple, contract)), tuple(map(tuple, batch)))
        shape = (
            *(lhs.shape[i] for i in lb),
            *(n for i, n in enumerate(lhs.shape) if i not in lc and i not in lb),
            *(n for i, n in enumerate(rhs.shape) if i not in rc and i not in rb),
        )
        attrs = {"contract": (lc, rc), "batch": (lb, rb)}
        if order is not None:
            attrs["order"] = order = tuple(order)
            shape = tuple(shape[p] for p in order)
        return self._share("dot", (lhs, rhs), attrs, shape, dtype)

    # -- control flow and effects -----------------------------------------------------------------

    def while_(self, cond: Graph, body: Graph, cond_consts, body_consts, init) -> list[Node]:
        attrs = {"cond": cond, "body": body, "counts": (len(cond_consts), len(body_consts))}
        return self._multi("while", (*cond_consts, *body_consts, *init), attrs, [(x.shape, x.dtype) for x in init])

    def cond(self, index: Node, branches: Sequence[Graph], operands: Sequence[Node]) -> list[Node]:
        outs = [(x.shape, x.dtype) for x in branches[0].outputs]
        return self._multi("cond", (index, *operands), {"branches": tuple(branches)}, outs)

    def scan(self, body: Graph, consts, init, xs, length: int, reverse: bool, unroll: int = 1) -> list[Node]:
        """``body``: (*consts, *carry, *x slices) -> (*carry, *y slices); results are the final carry, then
        the stacked ys. ``unroll``: how many steps the program wants put together.
        """
        n_carry = len(init)
        outs = [(x.shape, x.dtype) for x in init] + [((length, *y.shape), y.dtype) for y in body.outputs[n_carry:]]
        attrs = {
            "body": body, "length": length, "reverse": reverse, "unroll": unroll,
            "counts": (len(consts), n_carry, len(xs)),
        }  # fmt: skip
        return self._multi("scan", (*consts, *init, *xs), attrs, outs)

    def callback(
        self, callback_id: int, operands, results: Sequence[tuple[tuple[int, ...], str]], ordered: bool
    ) -> list[Node]:
        """``ordered`` or effectful callbacks run even when no result is used; the owner keeps the node in its
        list of effects.
        """
        return self._multi("callback", tuple(operands), {"id": callback_id, "ordered": ordered}, list(results))

    def barrier(self, xs: Sequence[Node]) -> list[Node]:
        return self._multi("barrier", tuple(xs), {}, [(x.shape, x.dtype) for x in xs])

    def get(self, node: Node, k: int, shape, dtype) -> Node:
        return self._share("get", (node,), {"k": k}, tuple(shape), dtype)

    # -- internals --------------------------------------------------------------------------------

    def _multi(self, op, inputs, attrs, outs) -> list[Node]:
        node = Node(op, inputs, {**attrs, "results": tuple((tuple(s), d) for s, d in outs)}, None, None, self.source)
        return [self.get(node, k, s, d) for k, (s, d) in enumerate(outs)]

    def _share(self, op, inputs, attrs, shape, dtype, key=None) -> Node:
        full = (op, inputs, key if key is not None else tuple(attrs.values()), shape, dtype)
        node = self._table.get(full)
        if node is None:
            node = self._table[full] = Node(op, inputs, attrs, shape, dtype, self.source)
        return node
