"""Fusion: which nodes are materialised ("roots"), and which roots share a kernel ("groups").

Runs after simplification and before nests. Two linear passes:

1. `decide_roots`, consumers first. Outputs, reductions, contractions and other operations with their own
   loops, and operands that must lie in memory are roots. Any other node is inlined into its consumers unless
   that recomputes too much: with ``n`` evaluations of a node that costs ``a`` operations and ``r`` memory
   reads, inlining costs ``n * (a/5 + r)`` and storing ``a/5 + r + 1 + n``. Evaluations are counted per
   (consuming root, index-moving operation in between): elementwise consumers in one root share a value, two
   shifted slices of it do not.

2. `form_groups`, producers first. A root joins an earlier group if every value that it needs from that group
   is needed at its own position. A group is a domain and a sequence of values on it: *full* roots (one
   element a point) and *row* roots (one a row, where some axes of the domain are reduced). Position is linear
   index, so reshapes do not matter; rows are described by a *pattern*, the domain's extents labelled kept or
   reduced. Softmax, layer norm, their derivatives, batch norm and sibling reductions are all instances of
   this one rule. A row that is put into a stack (`stacks_row`), as scans put their results, is stored there
   by the kernel that computes it.
"""

from __future__ import annotations

from velax._compiler import schedule
from velax._ir.graph import Graph, Node

__all__ = [
    "FULL",
    "OTHER",
    "Group",
    "Plan",
    "extent_of",
    "fuse",
    "operation_cost",
    "pattern_of",
    "stacks_row",
    "storage",
]

FULL = "full"
OTHER = "other"

#: operations that are index arithmetic or elementwise: they can be evaluated at any index
INLINE = frozenset({
    "map", "convert", "bitcast", "iota", "broadcast", "reshape", "transpose", "slice", "rev", "pad", "concatenate",
    "dynamic_slice",
    "gather",
})  # fmt: skip
_ELEMENTWISE = frozenset({"map", "convert", "bitcast"})
_REDUCTIONS = frozenset({"reduce", "partial_reduce"})
#: operations whose operands (by position; None: all) must lie in memory
_IN_MEMORY = {
    "barrier": None, "sort_rows": None, "argsort_rows": None, "while": None, "cond": None, "scan": None,
    "loop": None, "callback": None,
    "scatter": (0,), "dynamic_update_slice": (0,),
}  # fmt: skip
_MAX_ROOTS = 24  #: roots in one group
_MAX_NODES = 700  #: inlined nodes in one group
_MAX_DEPTH = 400  #: operations in a chain within one kernel
_LEAST_ROW = 16  #: elements of a row that a kernel may put into a stack besides what else it does


class Plan:
    """What fusion decided about one graph."""

    __slots__ = ("cost", "groups", "order", "roots", "users")

    def __init__(self, order, users, roots, cost, groups):
        self.order: list[Node] = order
        self.users: dict[Node, list[Node]] = users
        self.roots: set[Node] = roots
        self.cost: dict[Node, float] = cost
        self.groups: list[Group] = groups


class Group:
    """Roots computed by one kernel (``kind`` "nest"), or one operation with loops of its own (``kind`` is its ``op``).

    Attributes:
        size: elements of the domain. ``pattern``: its rows, None if nothing is reduced.
        full, rows: which of ``roots`` are of the domain's size, which have one element a row.
        stacks: the others, which are stacks that get a row: of the domain's size, or with one element a row.
        cost: arithmetic of one point of the domain.
        reads: values in memory that the group needs (of earlier groups or inputs) -> relations to the domain.
    """

    __slots__ = ("cost", "full", "kind", "n_nodes", "pattern", "reads", "roots", "row_size", "rows", "size", "stacks")

    def __init__(self, kind: str, size: int = 0, pattern=None):
        self.kind, self.size, self.pattern = kind, size, pattern
        self.row_size = rows_of(pattern) if pattern else None
        self.roots: list[Node] = []
        self.full: set[Node] = set()
        self.rows: set[Node] = set()
        self.stacks: set[Node] = set()
        self.reads: dict[Node, set] = {}
        self.n_nodes = 0
        self.cost = 0.0


def storage(node: Node) -> Node:
    """The node whose memory holds ``node``: reshapes share their operand's."""
    while node.op == "reshape":
        node = node.inputs[0]
    return node


def stacks_row(node: Node) -> bool:
    """Whether ``node`` replaces one row of a stack, everything behind the first axis."""
    return node.op == "dynamic_update_slice" and node.inputs[1].shape == (1, *node.inputs[0].shape[1:])


def extent_of(root: Node) -> int:
    """How many elements a root of a nest stores."""
    return root.inputs[1].size if root.op == "dynamic_update_slice" else root.size


def fuse(graph: Graph) -> Plan:
    """Decide roots and groups of ``graph``."""
    order = topological_order((*graph.effects, *graph.outputs))
    users: dict[Node, list[Node]] = {node: [] for node in order}
    for node in order:
        for x in node.inputs:
            users[x].append(node)
    roots, cost = decide_roots(graph, order, users)
    plan = Plan(order, users, roots, cost, [])
    form_groups(plan)
    return plan


def topological_order(outputs, known=()) -> list[Node]:
    """Every node that ``outputs`` need, operands first, but for those that are ``known`` and what
    only they need."""
    order: list[Node] = []
    done: set[Node] = set(known)
    stack = [(node, False) for node in reversed(outputs)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in done:
            done.add(node)
            if node.inputs:
                stack.append((node, True))
                stack.extend((x, False) for x in reversed(node.inputs) if x not in done)
            else:
                order.append(node)
    # a node may be pushed again before it is expanded; its second expansion found it done, so order has no duplicates
    return order


# -- roots ---------------------------------------------------------------------------------------

_COSTS = {
    "div": 4, "rem": 8, "sqrt": 5, "rsqrt": 6, "exp": 10, "exp2": 10, "expm1": 14, "log": 12, "log1p": 15,
    "tanh": 14, "logistic": 14,
    "sin": 20, "cos": 20, "tan": 30, "cbrt": 20, "pow": 30, "atan2": 25, "erf": 25, "erfc": 30, "erf_inv": 30,
    "asin": 20, "acos": 20,
    "atan": 20, "sinh": 18, "cosh": 18, "asinh": 25, "acosh": 25, "atanh": 20, "lgamma": 60, "digamma": 60,
    "nextafter": 6,
}  # fmt: skip


#: how much of an operand's arithmetic and reads counts beside a costlier operand's
_SHARED = (8.0, 2.0)


def operation_cost(node: Node) -> float:
    """Rough arithmetic cost of one element, in simple vector operations."""
    op = node.op
    if op == "map":
        cost = _COSTS.get(node.attrs["fn"], 1)
        return cost * 4 if node.dtype in ("c64", "c128") else cost
    if op == "gather":
        return 4
    if op in ("pad", "concatenate"):
        return 1 + len(node.inputs)
    return 1 if op in ("convert", "iota") else 0


def decide_roots(graph: Graph, order, users) -> tuple[set[Node], dict[Node, float]]:
    roots: set[Node] = set()
    for node in order:
        op = node.op
        if op not in INLINE and op not in ("input", "literal", "get"):
            roots.add(node)
            if op == "dot":
                roots.update(_operand_bases(node))
                continue
            memory = _IN_MEMORY.get(op, ())
            for x in node.inputs if memory is None else [node.inputs[k] for k in memory]:
                roots.add(storage(x))
        elif op == "concatenate" and len(node.inputs) > schedule.MAX_INLINE_PIECES:
            roots.add(node)
    for node in graph.outputs:
        roots.add(storage(node))

    cost: dict[Node, float] = {}
    reads: dict[Node, float] = {}
    depth: dict[Node, int] = {}
    for node in order:
        cost[node], reads[node] = _inlined_cost(node, cost, reads, roots, users)
        depth[node] = (
            1 + max((depth[x] for x in node.inputs), default=0) if node.op in INLINE and node not in roots else 0
        )
        if depth[node] > _MAX_DEPTH:
            roots.add(storage(node))
            depth[node] = 0

    contexts: dict[Node, dict] = {}
    for node in reversed(order):
        found: dict = {}
        expands = False
        for user in users[node]:
            if user.op not in INLINE:
                found[user, None] = 1.0
                continue
            ctx = {(user, None): 1.0} if user in roots else contexts[user]
            if user.op in _ELEMENTWISE or user.op == "reshape":
                if not found:
                    found = ctx
                else:
                    found = {**found, **ctx}
                continue
            if user.op == "broadcast":
                if node.size > 1 and _repeats_leading(user):
                    expands = True
                weight = 1.0
            else:
                weight = user.size / max(node.size, 1)
                expands = expands or weight >= 2
            if not (user.op == "broadcast" and node.size == user.size):
                ctx = {(root, user): w * weight for (root, _), w in ctx.items()}
            found = {**found, **ctx}
        if len(found) > 8:
            found = dict(list(found.items())[:8])
        contexts[node] = found
        if node in roots or node.op not in INLINE:
            continue
        if node.size == 1:
            # computed once a kernel, whatever repeats it: only long code is worth a kernel of its own
            if cost[node] > 8 and len({root for root, _ in found}) > 1:
                roots.add(storage(node))
            continue
        if expands and cost[node] >= 4:
            roots.add(node)
            continue
        n = sum(found.values())
        once = cost[node] / 5 + reads[node]
        if n > 1 and (n - 1) * once > 1 + n:
            roots.add(storage(node))
        elif node.op == "concatenate" and sum(cost[x] for x in node.inputs) > 8:
            roots.add(node)
    for node in order:
        if node.op in ("scatter", "dynamic_update_slice"):
            roots.update(storage(x) for x in node.inputs[1:] if _reads_elsewhere(node, x, roots))
    return roots, cost


def _reads_elsewhere(node: Node, x: Node, roots: set[Node]) -> bool:
    """Whether ``x``, inlined into the update ``node``, would read the operand where the update does not write
    at that moment.

    Then the operand could not be updated in place. Reading what is replaced does no harm: ``update(a,
    f(slice(a, starts)), starts)``.
    """
    base = storage(node.inputs[0])
    replaced = None
    if node.op == "dynamic_update_slice":
        replaced = node.inputs[1].shape, (node.inputs[0], *node.inputs[2:])
    seen: set = set()
    stack: list = [(x, FULL)]
    while stack:
        item = stack.pop()
        if item in seen:
            continue
        seen.add(item)
        x, state = item
        if x is base:
            return True
        if x in roots or x.op not in INLINE:
            continue
        if state is FULL and replaced is not None and x.op == "dynamic_slice" and (x.shape, x.inputs) == replaced:
            continue
        _visit(x, state, stack)
    return False


def _operand_bases(node: Node) -> list[Node]:
    """The nodes to materialise for the operands of ``dot``: transposes, slices and reshapes on top of them
    are strides.
    """
    from velax._compiler.views import operand_views  # many programs have no contraction

    return [view[0] for view in operand_views(node)]


def _repeats_leading(node: Node) -> bool:
    """Whether a broadcast repeats its operand along an axis that is outside one that it does not repeat."""
    x = node.inputs[0]
    covered = {d for d, n in zip(node.attrs["dims"], x.shape) if n != 1}
    repeated = False
    for d, n in enumerate(node.shape):
        if n == 1:
            continue
        if d in covered:
            if repeated:
                return True
        else:
            repeated = True
    return False


def _inlined_cost(node: Node, cost, reads, roots, users) -> tuple[float, float]:
    """(arithmetic, memory reads) of one element of ``node`` if it is inlined, estimated from its operands.

    Operands may share what they are computed from (in chains of random bits they share nearly all), so a
    plain sum would double at every step: the costliest operand counts in full, the others up to `_SHARED`.
    """
    op = node.op
    if op == "literal":
        return 0.0, 0.0
    if op not in INLINE:
        return 0.0, 1.0
    costs, memory = [], []
    for x in dict.fromkeys(node.inputs):
        a, m = (0.0, 1.0) if x in roots or (len(users[x]) > 1 and cost[x] > 4) else (cost[x], reads[x])
        if op == "broadcast":
            share = x.size / max(node.size, 1)
            a, m = a * share, m * share
        costs.append(a)
        memory.append(m)
    return operation_cost(node) + _join_costs(costs, _SHARED[0]), _join_costs(memory, _SHARED[1])


def _join_costs(values: list[float], limit: float) -> float:
    if not values:
        return 0.0
    most = max(values)
    return most - min(most, limit) + sum(min(v, limit) for v in values)


# -- groups --------------------------------------------------------------------------------------


def pattern_of(shape, axes) -> tuple:
    """The extents of ``shape``, labelled K (kept) or R (in ``axes``), neighbours of one label merged, extents
    1 dropped.
    """
    merged: list[tuple[int, str]] = []
    for d, n in enumerate(shape):
        if n == 1:
            continue
        label = "R" if d in axes else "K"
        if merged and merged[-1][1] == label:
            merged[-1] = (merged[-1][0] * n, label)
        else:
            merged.append((n, label))
    return tuple(merged)


def reduction_pattern(node: Node) -> tuple:
    """The pattern of a ``reduce`` or ``partial_reduce``; a reduced extent that is cut in blocks carries the
    block size.
    """
    pattern = pattern_of(node.inputs[0].shape, node.attrs["axes"])
    if node.op == "partial_reduce":
        k = node.attrs["digit"]
        pattern = (*pattern[:k], (*pattern[k], node.attrs["block"]), *pattern[k + 1 :])
    return pattern


def rows_of(pattern) -> int:
    """How many rows a pattern has."""
    n = 1
    for item in pattern:
        if item[1] == "K":
            n *= item[0]
        elif len(item) == 3:
            n *= -(-item[0] // item[2])
    return n


def relations(root: Node, roots: set[Node]) -> tuple[dict[Node, set], int, float]:
    """What ``root`` reads from memory -> how the read's position relates to its own, the number of inlined
    nodes, and their cost.

    ``FULL``: the same linear position. A pattern: the position along the pattern's kept extents. ``OTHER``:
      anything else.
    """
    reads: dict[Node, set] = {}
    seen: set = set()
    stack: list = []
    cost = operation_cost(root)
    if root.op in _REDUCTIONS:
        stack.append((root.inputs[0], FULL))
    elif root.op == "dynamic_update_slice":
        _, row, start, *_ = root.inputs
        stack += [(row, FULL), (start, OTHER)]
    else:
        _visit(root, FULL, stack)
    while stack:
        item = stack.pop()
        if item in seen:
            continue
        seen.add(item)
        node, state = item
        if node.op == "literal":
            continue
        if node in roots or node.op not in INLINE:
            found = reads.get(node)
            if found is None:
                reads[node] = {state}
            else:
                found.add(state)
            continue
        cost += operation_cost(node)
        _visit(node, state, stack)
    return reads, len(seen), cost


def _visit(node: Node, state, stack) -> None:
    op = node.op
    if op in _ELEMENTWISE or op == "reshape":
        stack.extend((x, state) for x in node.inputs)
    elif op == "broadcast":
        x = node.inputs[0]
        if x.size == node.size:
            stack.append((x, state))
        elif state is FULL:
            covered = {d for d, n in zip(node.attrs["dims"], x.shape) if n != 1}
            repeated = [d for d in range(len(node.shape)) if d not in covered]
            stack.append((x, pattern_of(node.shape, repeated)))
        else:
            stack.append((x, OTHER))
    elif op == "transpose" and _moves_only_ones(node):
        stack.append((node.inputs[0], state))
    else:
        stack.extend((x, OTHER) for x in node.inputs)


def _moves_only_ones(node: Node) -> bool:
    shape = node.inputs[0].shape
    long = [p for p in node.attrs["perm"] if shape[p] != 1]
    return long == sorted(long)


def form_groups(plan: Plan) -> None:
    roots = plan.roots
    groups = plan.groups
    home: dict[Node, int] = {}  # root -> position of its group
    by_reader: dict[Node, list[int]] = {}  # value -> recent groups that read it at their own position
    for node in plan.order:
        if node not in roots or node.op in ("input", "get"):
            continue
        if _join_as_row(node, plan, home, by_reader):
            continue
        if node.op not in INLINE and node.op != "literal" and node.op not in _REDUCTIONS:
            group = Group(node.op, node.size if node.shape is not None else 0)
            reads, group.n_nodes = _opaque_reads(node, roots)
            position = len(groups)
            groups.append(group)
        elif node.op == "concatenate" and (
            len(node.inputs) > schedule.MAX_INLINE_PIECES or node.size >= schedule.PIECEWISE_ELEMENTS
        ):
            group = Group("concatenate", node.size)
            reads, group.n_nodes, _ = relations(node, roots)
            position = len(groups)
            groups.append(group)
        else:
            reads, n_nodes, cost = relations(node, roots)
            position = _find_group(node, reads, n_nodes, groups, home, by_reader)
            if position is None:
                position = len(groups)
                if node.op in _REDUCTIONS:
                    group = Group("nest", node.inputs[0].size, reduction_pattern(node))
                else:
                    group = Group("nest", node.size)
                groups.append(group)
            group = groups[position]
            if node.op in _REDUCTIONS:
                if group.pattern is None:
                    group.pattern = reduction_pattern(node)
                    group.row_size = rows_of(group.pattern)
                group.rows.add(node)
            elif node.size == group.size:
                group.full.add(node)
            else:
                group.rows.add(node)
            group.n_nodes += n_nodes
            group.cost += cost
        group.roots.append(node)
        home[node] = position
        for leaf, states in reads.items():
            if home.get(leaf) != position:
                group.reads.setdefault(leaf, set()).update(
                    states if node not in group.rows or node.op in _REDUCTIONS else {OTHER}
                )
            if FULL in states:
                recent = by_reader.setdefault(leaf, [])
                if not recent or recent[-1] != position:
                    recent.append(position)
    for group in groups:
        for node in group.roots:
            group.reads.pop(node, None)


def _join_as_row(node: Node, plan: Plan, home, by_reader) -> bool:
    """Put a stack into the group that computes its new row, if there is one and nothing else uses the
    stack as it was."""
    if not stacks_row(node) or node.inputs[1].size < _LEAST_ROW:
        return False
    x = node.inputs[0]
    while x.op == "reshape" and len(plan.users[x]) == 1:
        x = x.inputs[0]
    reads, n_nodes, cost = relations(node, plan.roots)
    if x.op == "reshape" or len(plan.users[x]) > 1 or x in reads:
        return False
    position = _find_group(node, {**reads, x: {OTHER}}, n_nodes, plan.groups, home, by_reader)
    if position is None:
        return False
    group = plan.groups[position]
    group.roots.append(node)
    group.stacks.add(node)
    group.n_nodes += n_nodes
    group.cost += cost
    home[node] = position
    full = extent_of(node) == group.size
    for leaf, states in reads.items():
        if home.get(leaf) != position:
            group.reads.setdefault(leaf, set()).update(states if full else {OTHER})
    group.reads.setdefault(x, set()).add(OTHER)
    return True


def _opaque_reads(node: Node, roots) -> tuple[dict[Node, set], int]:
    reads: dict[Node, set] = {}
    n = 0
    for x in node.inputs:
        if x.op == "literal" and x not in roots:
            continue
        base = storage(x)
        if x in roots or base in roots or base.op not in INLINE:
            reads.setdefault(base, set()).add(OTHER)
            continue
        more, count, _ = relations(x, roots)
        n += count
        for leaf in more:
            reads.setdefault(leaf, set()).add(OTHER)
    return reads, n


def _source(node: Node) -> Node:
    """The root that a value read from memory belongs to: the multi-result operation for ``get``."""
    return node.inputs[0] if node.op == "get" else node


def _find_group(node, reads, n_nodes, groups, home, by_reader) -> int | None:
    """The position of a group that ``node`` can join, or None."""
    latest = -1
    for leaf in reads:
        position = home.get(_source(leaf), -1)
        if position > latest:
            latest = position
    if latest >= 0 and _can_join(node, reads, n_nodes, groups[latest], latest, home):
        return latest
    # siblings: groups after everything that this root needs, which read one of its operands at the same position
    best = None
    for leaf, states in reads.items():
        if FULL in states:
            for position in reversed(by_reader.get(leaf, ())[-4:]):
                better = position > latest and (best is None or position < best) and leaf.size > 1
                if better and _can_join(node, reads, n_nodes, groups[position], position, home):
                    best = position
    return best


def _can_be_epilogue(node, reads, group: Group, position: int, home) -> bool:
    """Whether a root is elementwise in a contraction's result, so that it can be computed as the result is stored."""
    if (node.op not in INLINE and not stacks_row(node)) or extent_of(node) != group.size or len(group.roots) > 8:
        return False
    own = [states for leaf, states in reads.items() if home.get(_source(leaf)) == position]
    return bool(own) and all(states == {FULL} for states in own)


def _can_join(node, reads, n_nodes, group: Group, position: int, home) -> bool:
    if group.kind == "dot":
        return _can_be_epilogue(node, reads, group, position, home)
    if group.kind != "nest" or len(group.roots) >= _MAX_ROOTS or group.n_nodes + n_nodes > _MAX_NODES:
        return False
    if node.op in _REDUCTIONS:
        if node.inputs[0].size != group.size:
            return False
        pattern = reduction_pattern(node)
        if group.pattern is not None and group.pattern != pattern:
            return False
        as_row = False
    elif extent_of(node) == group.size:
        pattern, as_row = group.pattern, False
    elif (
        group.pattern is not None
        and extent_of(node) == group.row_size
        and not any(len(item) == 3 for item in group.pattern)
    ):
        pattern, as_row = group.pattern, True
    else:
        return False
    touches = False
    for leaf, states in reads.items():
        if home.get(_source(leaf)) != position:
            continue
        touches = True
        for state in states:
            if as_row:
                if state is not FULL or leaf not in group.rows:
                    return False
            elif leaf in group.full:
                if state is not FULL:
                    return False
            elif leaf not in group.rows or state != pattern:
                return False
    return touches or not as_row
