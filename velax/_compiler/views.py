"""Operands as strided views: transposes, reshapes, slices and broadcasts that need no copy.

A view is (node in memory, offset, for each axis its *digits*): a digit is ``(extent, stride)``, and an axis
has several, outermost first, where a reshape merged dimensions that do not lie next to each other.
"""

from __future__ import annotations

import itertools
import math

from velax._compiler.index import Affine, Space
from velax._ir.graph import Node

__all__ = ["operand_views", "plain_view", "view_of"]

_VIEWS = frozenset({"transpose", "reshape", "slice", "broadcast"})


def view_of(x: Node) -> tuple[Node, int, tuple[tuple[tuple[int, int], ...], ...]]:
    """``x`` as a strided view: (node in memory, offset, for each axis of ``x`` its digits ``(extent,
    stride)``, outermost first).

    transpose(reshape(base f32[6, 8], (2, 3, 8)), (0, 2, 1))  ->  base, 0, (((2, 24),), ((8, 1),), ((3, 8),))
    """
    chain = []
    base = x
    while base.op in _VIEWS and base.inputs[0].op != "literal":  # a literal lies in no memory
        chain.append(base)
        base = base.inputs[0]
    while chain:
        found = _strides(x, chain)
        if found is not None:
            return base, *found
        base = chain.pop()
    return plain_view(x)


def plain_view(x: Node):
    """``x`` as it lies in memory itself."""
    base = x
    while base.op == "reshape":
        base = base.inputs[0]
    stride, axes = 1, []
    for n in reversed(x.shape):
        axes.append(((n, stride),) if n != 1 else ())
        stride *= n
    return base, 0, tuple(reversed(axes))


def _strides(x: Node, chain: list[Node]):
    """Offset and digits of every axis of ``x`` in the operand of ``chain[-1]``, or None if it is not a
    strided view of that.
    """
    digits = [[n] if n != 1 else [] for n in x.shape]
    for _ in range(3):
        space = Space()
        variables: list[list[Affine]] = []
        index = []
        for extents in digits:
            row, total, stride = [], space.zero, math.prod(extents)
            for n in extents:
                stride //= n
                var = space.var("i", n)
                row.append(var)
                total = space.add(total, space.scale(var, stride))
            variables.append(row)
            index.append(total)
        at = space.linear(tuple(index), x.shape)
        for node in chain:
            at = _through(space, node, at)
        atoms = {var.terms[0][0] for row in variables for var in row}
        if all(atom in atoms for atom, _ in at.terms):
            return at.const, tuple(
                tuple((n, at.coefficient(var.terms[0][0])) for n, var in zip(extents, row))
                for extents, row in zip(digits, variables)
            )
        changed = False
        for extents, row in zip(digits, variables):
            for k, (n, var) in reversed(list(enumerate(zip(list(extents), row)))):
                inner = [c for c in sorted(space.possible_cuts.get(var.terms[0][0], ())) if n % c == 0 and 1 < c < n]
                if inner:
                    extents[k : k + 1] = [n // inner[0], inner[0]]
                    changed = True
        if not changed:
            return None
    return None


def _through(space: Space, node: Node, at: Affine) -> Affine:
    """The position in a view's operand of the element at ``at`` of the view."""
    x = node.inputs[0]
    if node.op == "reshape":
        return at
    axes = space.axes(at, node.shape)
    if node.op == "transpose":
        own = [space.zero] * x.ndim
        for i, p in enumerate(node.attrs["perm"]):
            own[p] = axes[i]
    elif node.op == "broadcast":
        own = [axes[d] if n != 1 else space.zero for d, n in zip(node.attrs["dims"], x.shape)]
    else:
        own = [space.shift(space.scale(a, s), b) for a, b, s in zip(axes, node.attrs["starts"], node.attrs["strides"])]
    return space.linear(tuple(own), x.shape)


def operand_views(node: Node):
    """Both operands of a ``dot`` as views (see `view_of`) whose shared axes are cut in compatible ways."""
    lhs, rhs = node.inputs
    a, b = view_of(lhs), view_of(rhs)
    (lc, rc), (lb_, rb) = node.attrs["contract"], node.attrs["batch"]
    for i, j in zip((*lc, *lb_), (*rc, *rb)):
        edges = sorted({*_edges(a[2][i]), *_edges(b[2][j])})
        if any(high % low for low, high in itertools.pairwise(edges)):
            return a, plain_view(rhs)
    return a, b


def _edges(digits) -> list[int]:
    edges, size = [], 1
    for n, _ in reversed(digits):
        size *= n
        edges.append(size)
    return edges
