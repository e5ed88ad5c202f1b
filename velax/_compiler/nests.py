"""From graph nodes to loop IR expressions: evaluation of inlined nodes at an index.

`Evaluator.at(node, index)` gives the value of one element of a node as an expression over loop
variables; ``index`` is the row-major position as an `Affine`. Nodes that live in memory (see
`Place`) become loads; every other node is inlined: index-moving operations become index arithmetic.
Results are memoised on (node, index), so an expression DAG shares what the graph shares. The
recursion is an explicit stack: a traced program may chain thousands of operations.

Every load has an index that is valid always, also where a `Select` discards the value: indexes are
clamped unless their range is known.
"""

from __future__ import annotations

from velax._compiler import nest_map
from velax._compiler.index import Affine, Space
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART, Node

__all__ = ["Evaluator", "Memory", "Misaligned", "Registers", "bind", "value_range"]


class Memory:
    """A node's elements in a buffer, from element ``base`` (an `i64` expression) on."""

    __slots__ = ("base", "buffer", "complex")

    def __init__(self, buffer: loops.Buffer, is_complex: bool, base: loops.Expr | None = None):
        self.buffer, self.complex, self.base = buffer, is_complex, base

    def _index(self, space: Space, index: Affine) -> loops.Expr:
        if self.base is None:
            return space.expr(index)
        return lb.add(self.base, space.expr(index))

    def load(self, space: Space, index: Affine):
        if self.complex:
            at = self._index(space, space.scale(index, 2))
            return lb.load(self.buffer, at), lb.load(self.buffer, lb.add(at, 1))
        return lb.load(self.buffer, self._index(space, index))

    def store(self, space: Space, index: Affine, value) -> list[loops.Stmt]:
        if self.complex:
            at = self._index(space, space.scale(index, 2))
            return [loops.Store(self.buffer, at, value[0]), loops.Store(self.buffer, lb.add(at, 1), value[1])]
        return [loops.Store(self.buffer, self._index(space, index), value)]


class Registers:
    """A tiny node's elements as expressions, by row-major position."""

    __slots__ = ("values",)

    def __init__(self, values: list):
        self.values = values

    def load(self, space: Space, index: Affine):
        if index.is_const:
            return self.values[index.const]
        at = space.expr(index)
        result = self.values[0]
        for k in range(1, len(self.values)):
            hit = lb.eq(at, k)
            other = self.values[k]
            if type(result) is tuple:
                result = tuple(lb.select(hit, a, b) for a, b in zip(other, result))
            else:
                result = lb.select(hit, other, result)
        return result


def bind(value):
    """A value as variables, computed before the statements that follow."""
    parts = value if type(value) is tuple else (value,)
    names = tuple(loops.Var("v", part.dtype) for part in parts)
    lets = [loops.Let(name, part) for name, part in zip(names, parts)]
    return lets, names if type(value) is tuple else names[0]


class Misaligned(AssertionError):
    """A value of the nest itself is needed at another position than its own, or at one that is not
    recognised as its own."""


class Evaluator:
    """Values of graph nodes in one nest.

    Args:
        space: the nest's index space.
        place: ``place(node)`` gives the `Memory` or `Registers` of a node that is materialised, None for one to inline.
    """

    def __init__(self, space: Space, place):
        self.space = space
        self.place = place
        self.memo: dict = {}
        self.loads: set[Affine] = set()  # where memory is read
        self._indexes: dict = {}  # run-time indexes, so that equal ones are one affine form

    def at(self, node: Node, index: Affine):
        """The value of element ``index`` of ``node``."""
        memo = self.memo
        first = (node, index)
        found = memo.get(first)
        if found is not None:
            return found
        stack = [first]
        missing: list = []
        while stack:
            key = stack[-1]
            if key in memo:
                stack.pop()
                continue
            value = self._evaluate(key[0], key[1], missing)
            if missing:
                stack.extend(missing)
                missing.clear()
            else:
                memo[key] = value
                stack.pop()
        return memo[first]

    def stored(self, root: Node, index: Affine) -> tuple[Node, Affine]:
        """The node whose element ``index`` is stored for ``root``, and where: itself, or the new
        row of a stack (`fuse.stacks_row`)."""
        if root.op != "dynamic_update_slice":
            return root, index
        space = self.space
        x, row, start, *_ = root.inputs
        self.at(start, space.zero)
        first = space.scale(self.scalar_index(start, 0, x.shape[0] - 1, []), row.size)
        where = space.add(first, index)
        if where.expr is None and where.terms and index.terms:
            where.expr = lb.add(space.expr(first), space.expr(index))
        return row, where

    def _evaluate(self, node: Node, index: Affine, missing: list):
        """The value, or anything at all after adding to ``missing`` the (node, index) pairs to evaluate first."""
        op = node.op
        if op == "literal":
            return nest_map.constant(node.attrs["value"], node.dtype)
        place = self.place(node)
        if place is not None:
            if node.size == 1:
                index = self.space.zero  # whatever was computed: registers have no index that varies
            self.loads.add(index)
            return place.load(self.space, index)
        if op == "map":
            args = []
            memo = self.memo
            for x in node.inputs:
                value = memo.get((x, index))
                if value is None:
                    missing.append((x, index))
                args.append(value)
            return None if missing else nest_map.lower(node.attrs["fn"], args, node.dtype)
        if op == "broadcast":
            x = node.inputs[0]
            return self._get(x, self._broadcast_index(node, x, index), missing)
        if op == "reshape":
            return self._get(node.inputs[0], index, missing)
        if op == "convert":
            x = self._get(node.inputs[0], index, missing)
            return None if missing else nest_map.convert(x, node.dtype)
        rule = _RULES.get(op)
        if rule is None:
            raise Misaligned(f"{node!r} cannot be evaluated inside a loop nest and has no place in memory")
        return rule(self, node, index, missing)

    def _get(self, node: Node, index: Affine, missing: list):
        value = self.memo.get((node, index))
        if value is None:
            missing.append((node, index))
        return value

    def _broadcast_index(self, node: Node, x: Node, index: Affine) -> Affine:
        space = self.space
        if not x.shape or x.size == 1:
            return space.zero
        axes = space.axes(index, node.shape)
        own = tuple(axes[d] if n != 1 else space.zero for d, n in zip(node.attrs["dims"], x.shape))
        return space.linear(own, x.shape)

    def scalar_index(self, node: Node, lo: int, hi: int, missing: list) -> Affine | None:
        """The rank-0 integer ``node`` clamped to ``[lo, hi]``, as an index."""
        return self.dynamic_index(node, self.space.zero, lo, hi, missing)

    def dynamic_index(self, node: Node, index: Affine, lo: int, hi: int, missing: list, clamp: bool = True):
        """Element ``index`` of the integer ``node`` as an index clamped to ``[lo, hi]``; with its
        raw ``i64`` expression if not ``clamp``."""
        if lo == hi and clamp:
            return self.space.const(lo)
        value = self._get(node, index, missing)
        if value is None:
            return None
        found = self._indexes.get((node, index, lo, hi))
        if found is not None:
            return found[0] if clamp else found
        known = value_range(node)
        # half of the unsigned 64-bit integers are no i64
        raw = lb.cast("i64", lb.min_(value, (1 << 63) - 1) if value.dtype == "u64" else value)
        bounded = raw
        if known is None or known[0] < lo:
            bounded = lb.max_(bounded, lo)
        if known is None or known[1] > hi:
            bounded = lb.min_(bounded, hi)
        result = self.space.opaque(bounded, lo, hi)
        self._indexes[node, index, lo, hi] = result, raw
        return result if clamp else (result, raw)


def value_range(node: Node) -> tuple[int, int] | None:
    """Bounds of the elements of an integer node where they are evident: counters of loops, iotas,
    literals and simple arithmetic on them."""
    known = node.attrs.get("range")
    if known is not None:
        return known
    op = node.op
    if op == "literal":
        value = node.attrs["value"]
        return (int(value), int(value)) if isinstance(value, (int, bool)) else None
    if op == "iota":
        found = (0, max(node.shape[node.attrs["dim"]] - 1, 0))
        return found if _fits(found, node.dtype) else None
    if op in ("broadcast", "reshape", "transpose", "slice", "rev"):
        return value_range(node.inputs[0])
    if op == "convert" and node.inputs[0].dtype not in loops.FLOATS and node.inputs[0].dtype not in COMPLEX_PART:
        found = value_range(node.inputs[0])
        return found if found is not None and _fits(found, node.dtype) else None
    if op == "map" and node.attrs["fn"] in ("add", "sub", "min", "max", "mul"):
        a = value_range(node.inputs[0])
        if a is None:
            return None
        b = value_range(node.inputs[1])
        if b is None:
            return None
        match node.attrs["fn"]:
            case "add":
                found = (a[0] + b[0], a[1] + b[1])
            case "sub":
                found = (a[0] - b[1], a[1] - b[0])
            case "mul":
                products = [x * y for x in a for y in b]
                found = (min(products), max(products))
            case "min":
                found = (min(a[0], b[0]), min(a[1], b[1]))
            case "max":
                found = (max(a[0], b[0]), max(a[1], b[1]))
        return found if _fits(found, node.dtype) else None
    return None


def _fits(bounds, dtype) -> bool:
    if dtype not in loops.SIGNED and dtype not in loops.UNSIGNED:
        return False
    bits = loops.WIDTH[dtype]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype in loops.SIGNED else (0, (1 << bits) - 1)
    return low <= bounds[0] and bounds[1] <= high


# -- index-moving operations -----------------------------------------------------------------------


def _bitcast(ev: Evaluator, node: Node, index: Affine, missing: list):
    x = ev._get(node.inputs[0], index, missing)
    if missing:
        return None
    if "bool" in (x.dtype, node.dtype):
        return lb.cast(node.dtype, x)
    return lb.bitcast(node.dtype, x)


def _iota(ev: Evaluator, node: Node, index: Affine, missing: list):
    at = ev.space.axes(index, node.shape)[node.attrs["dim"]]
    value = ev.space.expr(at)
    part = COMPLEX_PART.get(node.dtype)
    if (part or node.dtype) in loops.FLOATS and at.hi < 1 << 31:
        value = lb.cast("i32", value)  # the conversion of 32-bit integers is a vector instruction everywhere
    value = lb.cast(part or node.dtype, value)
    return (value, lb.c(0.0, part)) if part else value


def _transpose(ev: Evaluator, node: Node, index: Affine, missing: list):
    x = node.inputs[0]
    axes = ev.space.axes(index, node.shape)
    own = [None] * x.ndim
    for i, p in enumerate(node.attrs["perm"]):
        own[p] = axes[i]
    return ev._get(x, ev.space.linear(tuple(own), x.shape), missing)


def _slice(ev: Evaluator, node: Node, index: Affine, missing: list):
    space, x = ev.space, node.inputs[0]
    axes = space.axes(index, node.shape)
    starts, strides = node.attrs["starts"], node.attrs["strides"]
    own = tuple(space.shift(space.scale(a, s), b) for a, b, s in zip(axes, starts, strides))
    return ev._get(x, space.linear(own, x.shape), missing)


def _rev(ev: Evaluator, node: Node, index: Affine, missing: list):
    space, x, dims = ev.space, node.inputs[0], node.attrs["dims"]
    axes = space.axes(index, node.shape)
    own = tuple(
        space.shift(space.scale(a, -1), n - 1) if d in dims else a for d, (a, n) in enumerate(zip(axes, x.shape))
    )
    return ev._get(x, space.linear(own, x.shape), missing)


def _pad(ev: Evaluator, node: Node, index: Affine, missing: list):
    space = ev.space
    x, fill = node.inputs
    axes = space.axes(index, node.shape)
    inside: list[loops.Expr] = []
    own = []
    for a, n, lo, gap in zip(axes, x.shape, node.attrs["lo"], node.attrs["interior"]):
        a = space.shift(a, -lo)
        if n == 0:
            return ev._get(fill, space.zero, missing)
        if gap:
            hit = space.mod(a, gap + 1)
            if hit.is_const:
                if hit.const:
                    return ev._get(fill, space.zero, missing)
            else:
                inside.append(lb.eq(space.expr(hit), 0))
            a = space.floordiv(a, gap + 1)
        below, above = space.less(a, 0), space.less(a, n)
        if below is True or above is False:
            return ev._get(fill, space.zero, missing)
        if below is not False:
            inside.append(lb.not_(below))
        if above is not True:
            inside.append(above)
        own.append(space.confine(a, n))
    value = ev._get(x, space.linear(tuple(own), x.shape), missing)
    if not inside:
        return value
    other = ev._get(fill, space.zero, missing)
    if missing:
        return None
    cond = inside[0]
    for more in inside[1:]:
        cond = lb.and_(cond, more)
    return _choose(cond, value, other)


def _concatenate(ev: Evaluator, node: Node, index: Affine, missing: list):
    space, dim = ev.space, node.attrs["dim"]
    axes = space.axes(index, node.shape)
    a = axes[dim]
    pieces = []  # (condition or None for "everything else", value)
    start = 0
    for x in node.inputs:
        n = x.shape[dim]
        stop = start + n
        if n and a.hi >= start and a.lo < stop:
            own = list(axes)
            own[dim] = space.confine(space.shift(a, -start), n)
            value = ev._get(x, space.linear(tuple(own), x.shape), missing)
            below = space.less(a, stop)
            pieces.append((below, value))
            if below is True:
                break
        start = stop
    if missing:
        return None
    result = pieces[-1][1]
    for cond, value in reversed(pieces[:-1]):
        result = _choose(cond, value, result)
    return result


def _choose(cond, x, y):
    if type(x) is tuple:
        return tuple(lb.select(cond, a, b) for a, b in zip(x, y))
    return lb.select(cond, x, y)


def _dynamic_slice(ev: Evaluator, node: Node, index: Affine, missing: list):
    space = ev.space
    x, *starts = node.inputs
    axes = space.axes(index, node.shape)
    bases = [ev.scalar_index(s, 0, n - size, missing) for s, n, size in zip(starts, x.shape, node.shape)]
    if missing:
        return None
    return ev._get(x, space.linear(tuple(map(space.add, axes, bases)), x.shape), missing)


def gather_index(
    ev: Evaluator, node_dims, indices: Node, batch: tuple, operand_shape, slice_sizes, missing: list, checked: bool,
    guarded: bool = False,
):  # fmt: skip
    """Start of the window per operand axis for the batch position ``batch``, and the condition that it lies inside
    (None: it does).

    Starts are clamped so that the window fits; with ``checked`` the condition compares the raw starts. ``guarded``: the
    caller uses the starts where the condition holds alone, so they need not be clamped.
    """
    space = ev.space
    starts = [space.zero] * len(operand_shape)
    n_components = len(node_dims.start_index_map)
    conditions = []
    for k, axis in enumerate(node_dims.start_index_map):
        room = operand_shape[axis] - slice_sizes[axis]
        at = space.linear((*batch, space.const(k)), (*indices.shape[:-1], n_components))
        if checked:
            found = ev.dynamic_index(indices, at, 0, max(room, 0), missing, clamp=False)
            if found is not None:
                starts[axis], raw = found
                known = value_range(indices)
                low, high = known is None or known[0] < 0, known is None or known[1] > room
                if low and high and room >= 0:
                    conditions.append(lb.le(lb.bitcast("u64", raw), lb.c(room, "u64")))  # as unsigned, -1 is large
                elif low:
                    conditions.append(lb.ge(raw, 0))
                if high and not (low and room >= 0):
                    conditions.append(lb.le(raw, room))
                if guarded:
                    starts[axis] = space.opaque(raw, 0, max(room, 0))
        else:
            starts[axis] = ev.dynamic_index(indices, at, 0, max(room, 0), missing)
    if missing:
        return None
    for axis, k in zip(node_dims.operand_batching_dims, node_dims.start_indices_batching_dims):
        starts[axis] = batch[k]
    inside = None
    for condition in conditions:
        inside = condition if inside is None else lb.and_(inside, condition)
    return starts, inside


def _gather(ev: Evaluator, node: Node, index: Affine, missing: list):
    space = ev.space
    x, indices = node.inputs
    dims, sizes, mode = node.attrs["dims"], node.attrs["slice_sizes"], node.attrs["mode"]
    axes = space.axes(index, node.shape)
    batch = tuple(a for d, a in enumerate(axes) if d not in dims.offset_dims)
    found = gather_index(ev, dims, indices, batch, x.shape, sizes, missing, checked=mode == "fill")
    if found is None:
        return None
    starts, inside = found
    skipped = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    offsets = iter([axes[d] for d in dims.offset_dims])
    own = tuple(s if d in skipped else space.add(s, next(offsets)) for d, s in enumerate(starts))
    value = ev._get(x, space.linear(own, x.shape), missing)
    if missing or inside is None:
        return value
    fill = node.attrs["fill"]
    if fill is None:
        fill = default_fill(node.dtype)
    return _choose(inside, value, nest_map.constant(fill, node.dtype))


def default_fill(dtype: str):
    """What an out-of-bounds gather gives by default: NaN, the least signed or the greatest unsigned integer, True."""
    if dtype in loops.FLOATS or dtype in COMPLEX_PART:
        return float("nan")
    if dtype in loops.SIGNED:
        return -(1 << loops.WIDTH[dtype] - 1)
    return True if dtype == "bool" else (1 << loops.WIDTH[dtype]) - 1


_RULES = {
    "bitcast": _bitcast, "iota": _iota, "transpose": _transpose, "slice": _slice, "rev": _rev, "pad": _pad,
    "concatenate": _concatenate, "dynamic_slice": _dynamic_slice, "gather": _gather,
}  # fmt: skip
