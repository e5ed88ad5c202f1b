"""Contractions: operands as strided views of what lies in memory, dimensions in groups, and a plain
loop nest.

``dot`` contracts over any axes of any order. `dot_spec` brings it to batch, M, N and K groups of
dimensions, each with its stride in both operands and the result; transposes, reshapes, slices and
broadcasts of the operands become strides, so no operand is copied to be transposed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from velax._compiler import nest_map, schedule
from velax._compiler.nest_group import Nest
from velax._compiler.views import operand_views
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART, Node
from velax._lang.record import Record

__all__ = ["At", "Dim", "DotSpec", "build_dot", "dot_spec", "unrolled_dot"]


class Dim(Record):
    """One dimension of a contraction and its strides, in elements of A, B and C (0 where it does
    not occur)."""

    extent: int
    a: int
    b: int
    c: int


class DotSpec(Record):
    """``C[batch, m, n] = sum over k of A[batch, m, k] * B[batch, k, n]``, each index a group of
    dimensions, outermost first. The rows of C are one stride apart, and its columns are neighbours;
    batch dimensions lie anywhere."""

    a_dtype: str
    b_dtype: str
    dtype: str
    batch: tuple[Dim, ...]
    m: tuple[Dim, ...]
    n: tuple[Dim, ...]
    k: tuple[Dim, ...]
    a_offset: int = 0
    b_offset: int = 0

    def size(self, group: str) -> int:
        return math.prod(d.extent for d in getattr(self, group))

    @property
    def row_stride(self) -> int:
        """How far apart the rows of C are."""
        return self.m[-1].c if self.m else self.size("n")


def dot_spec(node: Node) -> tuple[DotSpec, Node, Node]:
    """The spec of a ``dot`` node, and the nodes in memory that its operands are views of."""
    lhs, rhs = node.inputs
    (lc, rc), (lb_, rb) = node.attrs["contract"], node.attrs["batch"]
    (a_base, a_offset, a_axes), (b_base, b_offset, b_axes) = operand_views(node)
    c_strides, stride = [0] * node.ndim, 1
    for p, n in reversed(list(zip(node.attrs.get("order", range(node.ndim)), node.shape))):
        c_strides[p] = stride
        stride *= n
    a_free = [d for d in range(lhs.ndim) if d not in lc and d not in lb_]
    b_free = [d for d in range(rhs.ndim) if d not in rc and d not in rb]
    batch = _group([(a_axes[i], b_axes[j], c_strides[k], lhs.shape[i]) for k, (i, j) in enumerate(zip(lb_, rb))])
    m = _group([(a_axes[i], None, c_strides[len(lb_) + k], lhs.shape[i]) for k, i in enumerate(a_free)])
    n = _group([(None, b_axes[j], c_strides[len(lb_) + len(a_free) + k], rhs.shape[j]) for k, j in enumerate(b_free)])
    k = _group([(a_axes[i], b_axes[j], 0, lhs.shape[i]) for i, j in zip(lc, rc)])
    spec = DotSpec(a_base.dtype, b_base.dtype, node.dtype, batch, m, n, k, a_offset, b_offset)
    return spec, a_base, b_base


def _group(axes) -> tuple[Dim, ...]:
    """Dimensions of one group: axes cut where either operand's digits are, then neighbours merged
    where all strides allow."""
    dims: list[Dim] = []
    for a, b, c, extent in axes:
        if extent == 1:
            continue
        if extent == 0:
            return (Dim(0, 0, 0, 0),)
        cuts = {1, extent}
        for digits in (a, b):
            size = 1
            for n, _ in reversed(digits or ()):
                size *= n
                cuts.add(size)
        edges = sorted(cuts)
        for low, high in reversed(list(itertools.pairwise(edges))):
            dims.append(Dim(high // low, _stride_at(a, low), _stride_at(b, low), c * low))
    merged: list[Dim] = []
    for dim in dims:
        if merged:
            last = merged[-1]
            if all(x == y * dim.extent for x, y in ((last.a, dim.a), (last.b, dim.b), (last.c, dim.c))):
                merged[-1] = Dim(last.extent * dim.extent, dim.a, dim.b, dim.c)
                continue
        merged.append(dim)
    return tuple(merged)


def _stride_at(digits, low: int) -> int:
    """The stride of the part of an axis that starts at ``low``, for digits that are cut there or
    nested in one digit."""
    size = 1
    for n, stride in reversed(digits or ()):
        if low < size * n:
            return stride * (low // size)
        size *= n
    return 0


_ACCUMULATE = {"f16": "f32", "bf16": "f32", "f8e4m3fn": "f32", "f8e5m2": "f32"}


class At(Record):
    """Where in C a value belongs: its ``linear`` element, and what that is made of: ``digits``, each
    an (index, extent, stride in C)."""

    linear: loops.Expr
    digits: tuple[tuple[loops.Expr, int, int], ...]


def unrolled_dot(spec: DotSpec, a: Callable[[int], Any], b: Callable[[int], Any]) -> dict[int, Any]:
    """Element of C -> its value, every product written out; for contractions of a few dozen products.

    Args:
        a, b: the value of an element of A's or B's memory: an expression, or a pair for a complex one.
    """
    part = COMPLEX_PART.get(spec.dtype)
    acc_dtype = spec.dtype if part else _ACCUMULATE.get(spec.dtype, spec.dtype)
    add = "or" if acc_dtype == "bool" else "add"
    free = (*spec.batch, *spec.m, *spec.n)
    result = {}
    for index in itertools.product(*(range(d.extent) for d in free)):
        total = None
        for k in itertools.product(*(range(d.extent) for d in spec.k)):
            terms = [*zip(index, free), *zip(k, spec.k)]
            x = nest_map.convert(a(spec.a_offset + sum(i * d.a for i, d in terms)), acc_dtype)
            y = nest_map.convert(b(spec.b_offset + sum(i * d.b for i, d in terms)), acc_dtype)
            if total is not None and acc_dtype in loops.FLOATS:
                total = lb.fma(x, y, total)
                continue
            product = nest_map.lower("and" if acc_dtype == "bool" else "mul", [x, y], acc_dtype)
            total = product if total is None else nest_map.lower(add, [total, product], acc_dtype)
        total = nest_map.constant(0, acc_dtype) if total is None else total
        result[sum(i * d.c for i, d in zip(index, free))] = nest_map.convert(total, spec.dtype)
    return result


def build_dot(
    spec: DotSpec,
    a: loops.Buffer,
    b: loops.Buffer,
    c: loops.Buffer | None,
    target,
    lo=loops.LO,
    hi=loops.HI,
    epilogue=None,
) -> Nest:
    """A plain nest: parallel over batch and M, lanes along N (or K for matrix-vector products),
    serial over K.

    Args:
        c: receives the result, unless an epilogue stores it.
        epilogue: ``epilogue(value, at) -> statements`` stores it: a value of C's dtype (a pair for
            complex ones), ``at`` an `At`.
    """
    part = COMPLEX_PART.get(spec.dtype)
    acc_dtype = _ACCUMULATE.get(part or spec.dtype, part or spec.dtype)
    outer = [*spec.batch, *spec.m, *spec.n[:-1]]
    lane = spec.n[-1] if spec.n else None
    along_k = (
        lane is None
        or (lane.extent < 4 and spec.size("k") >= 16)
        or (lane.b != 1 and bool(spec.k) and spec.k[-1].a == spec.k[-1].b == 1 and part is None)
    )
    if along_k and lane is not None:
        outer, lane = [*outer, lane], None
    total = math.prod(d.extent for d in outer)
    width = schedule.vector_width(target, [part or spec.dtype, acc_dtype], 1)
    t = loops.Var("t")
    statements: list[loops.Stmt] = []
    at = [lb.c(spec.a_offset), lb.c(spec.b_offset)]

    def step(at, dim: Dim, index: loops.Expr):
        return [lb.add(x, lb.mul(index, s)) if s else x for x, s in zip(at, (dim.a, dim.b))]

    stride = total
    coordinates: list[loops.Expr] = []
    for dim in outer:
        stride //= max(dim.extent, 1)
        if total == dim.extent:
            var: loops.Expr = t if total > 1 else lb.c(0)
        else:
            index = lb.div(t, stride)
            var = loops.Var("p")
            statements.append(loops.Let(var, lb.rem(index, dim.extent) if stride * dim.extent != total else index))
        coordinates.append(var)
        at = step(at, dim, var)

    accs = [loops.Buffer("acc", acc_dtype, "register", 1) for _ in range(2 if part else 1)]
    init = [s for acc in accs for s in (loops.Alloc(acc), loops.Store(acc, lb.c(0), lb.c(0, acc_dtype)))]

    def value(buffer: loops.Buffer, index, is_complex):
        if is_complex:
            at = lb.mul(index, 2)
            return lb.cast(acc_dtype, lb.load(buffer, at)), lb.cast(acc_dtype, lb.load(buffer, lb.add(at, 1)))
        x = lb.cast(acc_dtype, lb.load(buffer, index))
        return (x, lb.c(0, acc_dtype)) if part else x

    def accumulate(at, vector: bool):
        x = value(a, at[0], spec.a_dtype in COMPLEX_PART)
        y = value(b, at[1], spec.b_dtype in COMPLEX_PART)
        if part is None and acc_dtype in loops.FLOATS and not vector:
            return [loops.Store(accs[0], lb.c(0), lb.fma(x, y, lb.load(accs[0])))]
        product = nest_map.lower("mul", [x, y], spec.dtype)
        product = product if type(product) is tuple else (product,)
        op = "or" if acc_dtype == "bool" else "add"
        return [loops.Reduce(op, acc, lb.c(0), p) for acc, p in zip(accs, product)]

    def contract(at, vector: bool):
        variables = []
        for dim in spec.k:
            var = loops.Var("k")
            variables.append((var, dim))
            at = step(at, dim, var)
        body = accumulate(at, vector)
        for position, (var, dim) in reversed(list(enumerate(variables))):
            if vector and position == len(variables) - 1 and dim.extent > 1:
                lanes = min(max(2, width), 1 << (dim.extent - 1).bit_length())
                body = [loops.For(var, lb.c(0), lb.c(dim.extent), tuple(body), "vector", lanes)]
            else:
                body = [loops.For(var, lb.c(0), lb.c(dim.extent), tuple(body))]
        return body

    def finish(coordinates):
        values = [lb.cast(part or spec.dtype, lb.load(acc)) for acc in accs]
        names = [loops.Var("s", v.dtype) for v in values]
        lets = [loops.Let(name, v) for name, v in zip(names, values)]
        digits = [(x, dim.extent, dim.c) for x, dim in zip(coordinates, (*spec.batch, *spec.m, *spec.n))]
        linear = lb.add_n(lb.c(0), *(lb.mul(x, stride) for x, _, stride in digits))
        if epilogue is not None:
            return [*lets, *epilogue(tuple(names) if part else names[0], At(linear, tuple(digits)))]
        if part is None:
            return [*lets, loops.Store(c, linear, names[0])]
        linear = lb.mul(linear, 2)
        return [*lets, loops.Store(c, linear, names[0]), loops.Store(c, lb.add(linear, 1), names[1])]

    n_k = spec.size("k")
    if lane is None:
        vector = n_k > 1 and spec.k[-1].extent > 1
        statements += [*init, *contract(at, vector), *finish(coordinates)]
        unit = n_k * 0.1 + 3
    else:
        j = loops.Var("j")
        inner = step(at, lane, j)
        body = [*init, *contract(inner, False), *finish([*coordinates, j])]
        while width > 2 and width >= 2 * lane.extent:
            width //= 2
        statements.append(loops.For(j, lb.c(0), lb.c(lane.extent), tuple(body), "vector", width))
        unit = n_k * lane.extent * 0.06 + 5
    body = [loops.For(t, lo, lb.c(total) if hi is None else hi, tuple(statements))] if total != 1 else statements
    return Nest(body, total, schedule.grain_for(total, unit), total * unit)
