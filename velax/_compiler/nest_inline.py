"""Loops that compile whole: control flow as statements of one kernel, with small state in registers.

A loop whose body does little work costs more in launches than in work. `inline_loop` lowers it,
conditions and nested control flow included, to one kernel: scalars and tiny arrays are expressions,
carried in register buffers; larger temporaries lie on the stack; larger carries stay where they are
in memory and are updated in place. A body that cannot be lowered this way (`NotInlinable`) runs as
blocks of the program.
"""

from __future__ import annotations

import contextlib
import math

from velax._compiler import fuse, nest_group, nest_levels, nest_map, nest_reduce, schedule
from velax._compiler.index import Space
from velax._compiler.nest_cumulate import build_cumulate
from velax._compiler.nest_dot import build_dot, dot_spec, unrolled_dot
from velax._compiler.nest_group import Nest
from velax._compiler.nest_steps import Params, bind_results, copy, epilogue, new_value
from velax._compiler.nest_update import build_piece, build_scatter, build_update
from velax._compiler.nests import Evaluator, Memory, Registers, bind
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART, Graph, Node

__all__ = ["NotInlinable", "inline_loop", "inline_program"]

_TINY = 9  #: elements of an array that is kept in registers: of larger ones, vectors are faster
_UNROLLED = 48  #: element operations of a group that is written out element by element
_SCRATCH_BYTES = 1 << 12  #: a larger temporary is scratch memory, not stack
_MAX_BYTES = 1 << 17
_UNINTERRUPTED = 1 << 20  #: iterations that a kernel may do without looking at the interrupt flag
_PIECE = 256  #: iterations of a long loop between two steps of the loop that looks


class NotInlinable(Exception):
    """This region cannot, or should not, be one kernel."""


def inline_loop(block, node: Node) -> bool:
    """Lower a ``while`` or ``loop`` of little work to one kernel launched by ``block``; False if it
    is not of that kind."""
    graphs = [node.attrs["body"], *([node.attrs["cond"]] if node.op == "while" else ())]
    if any(_too_much(graph) for graph in graphs):
        return False
    params = Params({})
    kernel = _Kernel(block.context.target)
    n_init = len(node.attrs["results"])
    operands = [block.value(x) for x in node.inputs]
    consts, inits = operands[: len(operands) - n_init], operands[len(operands) - n_init :]
    n_steps = len(block.steps)
    carries, results = [], []
    for value, produced in zip(inits, _produced(node)):
        if value.size <= _TINY and produced.op not in ("dynamic_update_slice", "scatter"):
            results.append(new_value(value.size, value.dtype))
            carries.append(None)
        else:
            moved = copy(block, value)
            results.append(moved)
            carries.append(moved)
    try:
        statements: list[loops.Stmt] = []
        places = []
        for value, carry in zip(inits, carries):
            if carry is None:
                place, declared = _registers_from(params.memory(value), value.size, value.dtype)
                statements += declared
            else:
                place = params.written(carry)
                kernel.mutable.add(place.buffer)
            places.append(place)
        statements += loop_statements(kernel, node, [params.memory(v) for v in consts], places)
        for value, carry, place in zip(results, carries, places):
            if carry is None:
                target = params.written(value)
                for k in range(value.size):
                    at = kernel.space.const(k)
                    statements += target.store(kernel.space, at, place.load(kernel.space, at))
    except NotInlinable:
        del block.steps[n_steps:]
        return False
    bind_results(block, node, results)
    block.launch(params, Nest(statements, 1, 1, _node_work(node)))
    return True


def inline_program(block) -> list | None:
    """Lower a whole program of several small groups to one kernel; the values of its outputs, or
    None if it is not of that kind."""
    graph, plan = block.graph, block.plan
    if _too_much(graph):
        return None
    params = Params({})
    kernel = _Kernel(block.context.target)
    reached = set(plan.order)
    places = [
        None if x not in reached else params.memory(block.values[x]) if x.size else Registers([]) for x in graph.inputs
    ]
    results, targets = {}, {}
    for node in map(fuse.storage, graph.outputs):
        if node not in block.values and node not in results and node.size:
            results[node] = value = new_value(node)
            if node.size > _TINY:
                targets[node] = params.written(value)
    region = _Region(kernel, graph, places, (), targets, plan)
    try:
        region.run()
    except NotInlinable:
        return None
    for node, value in results.items():
        place = region.values[node]
        if place is not targets.get(node):
            region.statements += _copy(kernel, params.written(value), place, node)
    for node in map(fuse.storage, graph.outputs):
        if node not in block.values:
            block.values[node] = results.get(node) or new_value(node)
    if results:
        work = sum(group.size for group in plan.groups) * 0.5 + _loop_work(graph)
        block.launch(params, Nest(region.statements, 1, 1, work))
    return [block.value(node) for node in graph.outputs]


def _produced(node: Node) -> list[Node]:
    """The nodes that give a loop's new carries."""
    return [fuse.storage(x) for x in node.attrs["body"].outputs]


def _too_much(graph: Graph) -> bool:
    """Whether one run of ``graph`` is so much work that its pieces should be kernels of their own
    (or cannot be inlined)."""
    total = 0.0
    for node in fuse.topological_order((*graph.effects, *graph.outputs)):
        op = node.op
        if op in ("sort_rows", "argsort_rows", "callback"):
            return True
        if op in ("while", "loop"):
            if any(_too_much(g) for g in (node.attrs["body"], *([node.attrs["cond"]] if op == "while" else ()))):
                return True
        elif op == "cond":
            if any(_too_much(g) for g in node.attrs["branches"]):
                return True
        elif op in ("map", "reduce", "partial_reduce", "gather", "cumulate", "convert"):
            size = node.size
            if op in ("reduce", "partial_reduce"):
                size = max(size, *(x.size for x in node.inputs if x.shape is not None))
            total += size * max(1.0, fuse.operation_cost(node) / 4)
        elif op == "dot":
            (lc, _), _ = node.attrs["contract"], node.attrs["batch"]
            total += node.size * math.prod(node.inputs[0].shape[d] for d in lc) / 4
        elif op in ("scatter", "dynamic_update_slice"):
            total += node.inputs[-1 if op == "scatter" else 1].size
        if total > schedule.INLINE_WORK:
            return True
    return False


class _Kernel:
    """State shared by all regions of one kernel."""

    def __init__(self, target):
        self.target = target
        self.space = Space()
        self.mutable: set[loops.Buffer] = set()  # memory that regions may overwrite when its value is dead
        self.bytes = 0

    @contextlib.contextmanager
    def only_mutable(self, buffers):
        """Inside a nested region: what belongs to the outside must stay as it is."""
        outside, self.mutable = self.mutable, set(buffers)
        yield
        self.mutable = outside

    def allocate(self, size: int, dtype: str) -> tuple[Memory, loops.Stmt]:
        part = COMPLEX_PART.get(dtype)
        count = max(size, 1) * (2 if part else 1)
        nbytes = count * loops.WIDTH[part or dtype] // 8
        self.bytes += nbytes
        if self.bytes > _MAX_BYTES:
            raise NotInlinable
        space = "register" if size == 1 else "stack" if nbytes <= _SCRATCH_BYTES else "scratch"
        buffer = loops.Buffer("m", part or dtype, space, count)
        self.mutable.add(buffer)
        return Memory(buffer, part is not None), loops.Alloc(buffer)


def _registers_from(source, size: int, dtype: str) -> tuple[Memory, list[loops.Stmt]]:
    """Register buffers with the contents of ``source``; one that is never read if there are none."""
    space = Space()
    part = COMPLEX_PART.get(dtype)
    buffer = loops.Buffer("c", part or dtype, "register", max(size, 1) * (2 if part else 1))
    memory = Memory(buffer, part is not None)
    statements: list[loops.Stmt] = [loops.Alloc(buffer)]
    for k in range(size):
        statements += memory.store(space, space.const(k), source.load(space, space.const(k)))
    return memory, statements


def _iterations(graph: Graph) -> int:
    """Iterations of counted loops in one run of ``graph``, and the run itself. A ``while`` looks at
    the interrupt flag by itself."""
    total = 1
    for node in fuse.topological_order((*graph.effects, *graph.outputs)):
        if node.op == "loop":
            total += node.attrs["length"] * _iterations(node.attrs["body"])
        elif node.op == "cond":
            total += max(map(_iterations, node.attrs["branches"]))
    return total


def _node_work(node: Node) -> float:
    """A guess of nanoseconds for a loop, for whether to let go of the interpreter's lock and to
    listen to interrupts."""
    return 20.0 * node.attrs.get("length", 1000) * _iterations(node.attrs["body"])


def _loop_work(graph: Graph) -> float:
    """`_node_work` of the loops in ``graph`` and in its branches."""
    total = 0.0
    for node in fuse.topological_order((*graph.effects, *graph.outputs)):
        if node.op in ("while", "loop"):
            total += _node_work(node)
        elif node.op == "cond":
            total += max(map(_loop_work, node.attrs["branches"]))
    return total


def _counted(i: loops.Var, length: int, cost: int, body: tuple[loops.Stmt, ...]) -> list[loops.Stmt]:
    """``for i in range(length): body``, each of ``cost`` iterations of some loop; in pieces if it is long.

    Long: for i in 0..n: body  ->
    at = 0; while at < n: { for i in at..min(at + piece, n): body; at += piece },
    since only a ``While`` stops for an interrupt.
    """
    if length * cost <= _UNINTERRUPTED:
        return [loops.For(i, lb.c(0), lb.c(length), body)]
    piece = max(1, min(_PIECE, _PIECE // cost))
    at = loops.Buffer("at", "i64", "register", 1)
    start = loops.Var("start")
    stop = lb.min_(lb.add(start, lb.c(piece)), lb.c(length))
    step = loops.For(i, start, stop, body)
    onward = loops.Store(at, lb.c(0), lb.add(start, lb.c(piece)))
    return [
        loops.Alloc(at),
        loops.Store(at, lb.c(0), lb.c(0)),
        loops.While((), lb.lt(lb.load(at), lb.c(length)), (loops.Let(start, lb.load(at)), step, onward)),
    ]


def loop_statements(kernel: _Kernel, node: Node, consts: list, carries: list[Memory]) -> list[loops.Stmt]:
    """A ``while`` or ``loop`` over ``carries`` (register buffers or mutable memory), which hold the
    initial and then the final values."""
    if node.op == "loop":
        length = node.attrs["length"]
        if length == 0:
            return []
        i = loops.Var("i")
        counter = lb.sub(lb.c(length - 1), i) if node.attrs["reverse"] else i
        with kernel.only_mutable(carry.buffer for carry in carries):
            body = _loop_body(kernel, node.attrs["body"], [Registers([counter]), *consts], carries)
        return _counted(i, length, _iterations(node.attrs["body"]), tuple(body))
    n_cond, _ = node.attrs["counts"]
    test = _Region(kernel, node.attrs["cond"], [*consts[:n_cond], *carries], carries)
    with kernel.only_mutable(()):
        (pred,) = test.run()
    cond = pred.load(kernel.space, kernel.space.zero)
    with kernel.only_mutable(carry.buffer for carry in carries):
        body = _loop_body(kernel, node.attrs["body"], consts[n_cond:], carries)
    return [loops.While(tuple(test.statements), cond, tuple(body))]


def _loop_body(kernel: _Kernel, graph: Graph, consts: list, carries: list[Memory]) -> list[loops.Stmt]:
    """One iteration: new values from the old, then the exchange."""
    targets = {}
    outputs = [fuse.storage(x) for x in graph.outputs]
    for node, carry in zip(outputs, carries):
        if carry.buffer.space != "register" and outputs.count(node) == 1:
            targets[node] = carry
    region = _Region(kernel, graph, [*consts, *carries], carries, targets)
    new = region.run()
    statements = region.statements
    space = kernel.space
    pending: list[loops.Stmt] = []
    moved = {carry.buffer for carry in carries}
    # everything that reads old carries comes before the first write of one
    for carry, place, node in zip(carries, new, outputs):
        if isinstance(place, Memory) and place.buffer is carry.buffer:
            continue
        size = node.size
        if carry.buffer.space == "register":
            for k in range(size):
                lets, value = bind(place.load(space, space.const(k)))
                statements += lets
                pending += carry.store(space, space.const(k), value)
        else:
            if isinstance(place, Memory) and place.buffer in moved:
                temporary, declared = kernel.allocate(size, node.dtype)
                statements += [declared, *_copy(kernel, temporary, place, node)]
                place = temporary
            pending += _copy(kernel, carry, place, node)
    return [*statements, *pending]


def _copy(kernel: _Kernel, to: Memory, source, node: Node) -> list[loops.Stmt]:
    if isinstance(source, Registers) or node.size <= 2 or "register" in (to.buffer.space, source.buffer.space):
        statements = []
        for k in range(node.size):
            at = kernel.space.const(k)
            lets, value = bind(source.load(kernel.space, at))
            statements += [*lets, *to.store(kernel.space, at, value)]
        return statements
    j = kernel.space.var("j", node.size)
    lets, value = bind(source.load(kernel.space, j))
    width = schedule.vector_width(kernel.target, [node.dtype], 1)
    while width > 2 and width >= 2 * node.size:
        width //= 2
    body = (*lets, *to.store(kernel.space, j, value))
    return [loops.For(j.terms[0][0].arg, lb.c(0), lb.c(node.size), body, "vector", width)]


class _Region:
    """One graph lowered to statements inside a kernel.

    Args:
        places: where the graph's inputs lie.
        carries: the memory of loop carries, which are bound to variables first.
        targets: where results are wanted (carry or output memory), if that is free by then.
        plan: what fusion decided, if it is known.
    """

    def __init__(self, kernel: _Kernel, graph: Graph, places: list, carries=(), targets=None, plan=None):
        self.kernel, self.graph = kernel, graph
        self.space = kernel.space
        self.statements: list[loops.Stmt] = []
        self.values: dict[Node, object] = {}
        held = {carry.buffer for carry in carries}
        for node, place in zip(graph.inputs, places, strict=True):
            if isinstance(place, Memory) and place.buffer in held and place.buffer.space == "register":
                place = self._bound([place.load(self.space, self.space.const(k)) for k in range(node.size)])
            if place is not None:
                self.values[node] = place
        self.plan = plan or fuse.fuse(graph)
        self.targets = targets or {}
        self.last_use: dict[Node, float] = {}
        self.needed = {fuse.storage(node) for node in graph.outputs}
        for position, group in enumerate(self.plan.groups):
            for node in group.reads:
                self.last_use[node] = position
            self.needed.update(group.reads)
        for node in graph.outputs:
            self.last_use[fuse.storage(node)] = math.inf

    def run(self) -> list:
        """Write the statements; the places of the graph's outputs."""
        for position, group in enumerate(self.plan.groups):
            rule = _RULES.get(group.kind)
            if rule is None:
                raise NotInlinable
            if all(root.shape is not None and root.size == 0 for root in group.roots):
                self.values.update((root, Registers([])) for root in group.roots)
            else:
                rule(self, group, position)
        return [self.value(node) for node in self.graph.outputs]

    def value(self, node: Node):
        return self.values[fuse.storage(node)]

    def _bound(self, values: list) -> Registers:
        names = []
        for value in values:
            lets, name = bind(value)
            self.statements += lets
            names.append(name)
        return Registers(names)

    def evaluator(self) -> Evaluator:
        return Evaluator(self.space, self.values.get)

    def in_memory(self, node: Node) -> Memory:
        """``node`` in addressable memory."""
        place = self.value(node)
        if isinstance(place, Memory) and place.buffer.space != "register":
            return place
        node = fuse.storage(node)
        memory = self.addressable(node)
        self.statements += _copy(self.kernel, memory, place, node)
        return memory

    def allocate(self, node: Node) -> Memory:
        memory, declared = self.kernel.allocate(node.size, node.dtype)
        self.statements.append(declared)
        return memory

    def addressable(self, node: Node) -> Memory:
        """New memory that can be indexed by variables, whatever its size."""
        if node.size > 1:
            return self.allocate(node)
        part = COMPLEX_PART.get(node.dtype)
        buffer = loops.Buffer("m", part or node.dtype, "stack", 2 if part else 1)
        self.kernel.mutable.add(buffer)
        self.statements.append(loops.Alloc(buffer))
        return Memory(buffer, part is not None)

    def destination(self, node: Node, position: int, aligned=frozenset()) -> Memory:
        """Memory for a root: the carry that it becomes if nobody needs the old value any more, else new memory."""
        wanted = self.targets.get(node)
        if wanted is not None:
            free = True
            for other, place in self.values.items():
                if isinstance(place, Memory) and place.buffer is wanted.buffer:
                    last = self.last_use.get(other, -1)
                    free = free and (last < position or (last == position and other in aligned))
            if free:
                return wanted
        return self.allocate(node)

    def dies(self, node: Node, position: int) -> bool:
        """Whether the memory of ``node`` may be overwritten at ``position``: mutable and not needed later."""
        base = fuse.storage(node)
        place = self.values[base]
        if not isinstance(place, Memory) or place.buffer not in self.kernel.mutable or place.buffer.space == "register":
            return False
        return all(
            self.last_use.get(other, -1) <= position and (other is base or self.last_use.get(other, -1) < position)
            for other, p in self.values.items()
            if isinstance(p, Memory) and p.buffer is place.buffer
        )


def _inline_nest(region: _Region, group: fuse.Group, position: int) -> None:
    roots = [root for root in group.roots if root in region.needed]
    if not roots or group.roots[0].op == "literal":
        if roots:
            region.values[roots[0]] = Registers([nest_map.constant(roots[0].attrs["value"], roots[0].dtype)])
        return
    reduces = lambda root: root.op in ("reduce", "partial_reduce")
    work = sum(root.inputs[0].size if reduces(root) else fuse.extent_of(root) for root in group.roots)
    partial = any(root.op == "partial_reduce" for root in group.roots)
    if all(root.size <= _TINY for root in roots) and work <= _UNROLLED and not partial:
        _inline_unrolled(region, group, roots)
        return
    aligned = set()
    if not any(level.full for level in nest_levels.levels_of(group)[:-1]):
        width = {schedule.element_bytes(root.dtype) for root in roots}
        aligned = {
            leaf
            for leaf, states in group.reads.items()
            if states == {fuse.FULL} and {schedule.element_bytes(leaf.dtype)} == width
        }
    places = {}
    for root in roots:
        # rows are stored before later rows are read: only full roots may lie over what the nest reads
        if root in group.stacks:
            places[root] = _updated(region, root, position)
        else:
            places[root] = region.destination(root, position, aligned if root in group.full else frozenset())
    members = set(group.roots)
    nest = nest_group.build_group(
        group, region.plan, lambda node: places.get(node) if node in members else region.values.get(node),
        region.kernel.target, lb.c(0), None, alone=False,
    )  # fmt: skip
    region.statements += nest.body
    region.values.update(places)


def _inline_unrolled(region: _Region, group: fuse.Group, roots) -> None:
    """Every element of every root as an expression."""
    ev = region.evaluator()
    space = region.space
    for root in group.roots:
        if root.op == "reduce":
            _unrolled_reduce(region, ev, root)
    for root in roots:
        region.values[root] = region._bound([ev.at(root, space.const(k)) for k in range(root.size)])


def _unrolled_reduce(region: _Region, ev: Evaluator, root: Node) -> None:
    space, x, axes = region.space, root.inputs[0], root.attrs["axes"]
    fn = nest_reduce.bool_fn(root.attrs["fn"], root.dtype)
    kept = tuple(d for d in range(x.ndim) if d not in axes)
    wide = nest_reduce.accumulator_dtype(root) if root.dtype not in COMPLEX_PART else root.dtype
    for k in range(root.size):
        at = space.axes(space.const(k), root.shape)
        total = None
        for r in range(math.prod(x.shape[d] for d in axes)):
            inner = space.axes(space.const(r), tuple(x.shape[d] for d in axes))
            index = [space.zero] * x.ndim
            for d, a in (*zip(kept, at), *zip(axes, inner)):
                index[d] = a
            value = nest_map.convert(ev.at(x, space.linear(tuple(index), x.shape)), wide)
            total = value if total is None else nest_map.lower(fn, [total, value], wide)
        if total is None:
            total = nest_map.constant(nest_reduce.reduction_identity(fn, root.dtype), wide)
        lets, value = bind(nest_map.convert(total, root.dtype))
        region.statements += lets
        ev.memo[root, space.const(k)] = value


def _inline_dot(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    roots = [root for root in group.roots if root in region.needed]
    spec, a, b = dot_spec(node)
    if all(root.size <= _TINY for root in roots) and node.size * spec.size("k") <= _UNROLLED:
        ev, space = region.evaluator(), region.space
        elements = unrolled_dot(spec, *(lambda k, x=x: ev.at(x, space.const(k)) for x in (a, b)))
        for k, value in elements.items():
            lets, ev.memo[node, space.const(k)] = bind(value)
            region.statements += lets
        for root in roots:
            region.values[root] = region._bound([ev.at(root, space.const(k)) for k in range(root.size)])
        return
    buffers = [region.in_memory(x).buffer for x in (a, b)]
    places = {}
    for root in roots:
        if root in group.stacks:
            places[root] = _updated(region, root, position)
        else:
            places[root] = region.destination(root, position) if root.size > 1 else region.addressable(root)
    if not roots:
        return
    members = set(group.roots)
    store = epilogue(group, lambda x: None if x in members else region.values.get(x), places)
    region.statements += build_dot(spec, *buffers, None, region.kernel.target, lb.c(0), None, store).body
    region.values.update(places)


def _inline_update(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    target = region.kernel.target
    if node.inputs[1].size == 0:
        region.values[node] = region.value(node.inputs[0])
        return
    if region.dies(node.inputs[0], position):
        memory = region.value(node.inputs[0])
        nest, in_place = build_update(
            node, region.plan, region.values.get, lambda: memory, target, None, False, lb.c(0), None
        )
        if in_place:
            region.statements += nest.body
            region.values[node] = memory
            return
    memory = _fresh_copy(region, node, position)
    nest, _ = build_update(node, region.plan, region.values.get, lambda: memory, target, None, False, lb.c(0), None)
    region.statements += nest.body
    region.values[node] = memory


def _updated(region: _Region, node: Node, position: int) -> Memory:
    """Memory with the operand of an update, to be updated: the operand's own if nothing needs it any more."""
    x = node.inputs[0]
    return region.value(x) if region.dies(x, position) else _fresh_copy(region, node, position)


def _fresh_copy(region: _Region, node: Node, position: int) -> Memory:
    """New memory with the contents of the operand of an update."""
    source = region.value(node.inputs[0])
    memory = region.addressable(node)
    region.statements += _copy(region.kernel, memory, source, node)
    return memory


def _inline_scatter(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    memory = None
    if region.dies(node.inputs[0], position):
        memory = region.value(node.inputs[0])
        base = fuse.storage(node.inputs[0])
        if any(_reads(region, fuse.storage(x), base) for x in node.inputs[1:]):
            memory = None
    if memory is None:
        memory = _fresh_copy(region, node, position)
    region.values[node] = memory
    if node.inputs[2].size:
        places = dict(region.values)
        places.pop(node)
        region.statements += build_scatter(node, places.get, lambda: memory, region.kernel.target, lb.c(0), None).body


def _reads(region: _Region, x: Node, base: Node) -> bool:
    """Whether computing ``x`` while ``base`` is overwritten would see new values for old ones."""
    return x is base or (x not in region.values and base in fuse.relations(x, region.plan.roots)[0])


def _inline_cumulate(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    memory = region.addressable(node)
    nest = build_cumulate(node, region.values.get, lambda: memory, region.kernel.target, lb.c(0), None)
    region.statements += nest.body
    region.values[node] = memory


def _inline_concatenate(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    if node.size <= _TINY:
        ev = region.evaluator()
        region.values[node] = region._bound([ev.at(node, region.space.const(k)) for k in range(node.size)])
        return
    memory = region.allocate(node)
    offset = 0
    for piece in node.inputs:
        if piece.size:
            nest = build_piece(
                node,
                piece,
                offset,
                region.plan,
                region.values.get,
                lambda: memory,
                region.kernel.target,
                None,
                False,
                lb.c(0),
                None,
            )
            region.statements += nest.body
        offset += piece.shape[node.attrs["dim"]]
    region.values[node] = memory


def _inline_empty(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    region.values[node] = region.allocate(node)


def _inline_control_loop(region: _Region, group: fuse.Group, position: int) -> None:
    """A loop in a loop: its carries are new registers, or memory that the initial value leaves to it."""
    node = group.roots[0]
    n_init = len(node.attrs["results"])
    split = len(node.inputs) - n_init
    carries = []
    taken: set[loops.Buffer] = set()
    for x, produced in zip(node.inputs[split:], _produced(node)):
        place = region.value(x)
        if x.size <= _TINY and produced.op not in ("dynamic_update_slice", "scatter"):
            memory, declared = _registers_from(place, x.size, x.dtype)
            region.statements += declared
        elif region.dies(x, position) and place.buffer not in taken and not _reads_const(node, x, split):
            memory = place
        else:
            memory = region.in_memory(x) if isinstance(place, Registers) else None
            if memory is None:
                memory = region.allocate(x)
                region.statements += _copy(region.kernel, memory, place, x)
        taken.add(memory.buffer)
        carries.append(memory)
    region.statements += loop_statements(region.kernel, node, [region.value(x) for x in node.inputs[:split]], carries)
    _bind(region, node, carries)


def _reads_const(node: Node, x: Node, split: int) -> bool:
    """Whether the loop also reads the initial value ``x`` as a constant."""
    base = fuse.storage(x)
    return any(fuse.storage(c) is base for c in node.inputs[:split])


def _inline_cond(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    branches = node.attrs["branches"]
    space = region.space
    ev = region.evaluator()
    index = ev.at(node.inputs[0], space.zero)
    lets, index = bind(lb.clamp(0, index, len(branches) - 1))
    region.statements += lets
    results = []
    for shape, dtype in node.attrs["results"]:
        size = math.prod(shape)
        part = COMPLEX_PART.get(dtype)
        if size <= _TINY:
            buffer = loops.Buffer("r", part or dtype, "register", max(1, size * (2 if part else 1)))
            region.statements.append(loops.Alloc(buffer))
            # every register has a value on every path
            region.statements += [loops.Store(buffer, lb.c(k), lb.c(0, buffer.dtype)) for k in range(buffer.size)]
            results.append(Memory(buffer, part is not None))
        else:
            memory, declared = region.kernel.allocate(size, dtype)
            region.statements.append(declared)
            results.append(memory)
    blocks = []
    for graph in branches:
        inner = _Region(region.kernel, graph, [region.value(x) for x in node.inputs[1:]])
        with region.kernel.only_mutable(()):
            values = inner.run()
        for memory, place, out in zip(results, values, graph.outputs):
            inner.statements += _copy(region.kernel, memory, place, out)
        blocks.append(inner.statements)
    statements = blocks[-1]
    for k in range(len(blocks) - 2, -1, -1):
        statements = [loops.If(lb.eq(index, k), tuple(blocks[k]), tuple(statements))]
    region.statements += statements
    _bind(region, node, results)


def _bind(region: _Region, node: Node, places) -> None:
    for user in region.plan.users.get(node, ()):
        if user.op == "get":
            place = places[user.attrs["k"]]
            if place.buffer.space == "register":
                place = region._bound([place.load(region.space, region.space.const(k)) for k in range(user.size)])
            region.values[user] = place


def _inline_barrier(region: _Region, group: fuse.Group, position: int) -> None:
    node = group.roots[0]
    for user in region.plan.users.get(node, ()):
        if user.op == "get":
            region.values[user] = region.value(node.inputs[user.attrs["k"]])


_RULES = {
    "nest": _inline_nest, "dot": _inline_dot, "dynamic_update_slice": _inline_update, "scatter": _inline_scatter,
    "cumulate": _inline_cumulate, "concatenate": _inline_concatenate, "empty": _inline_empty,
    "while": _inline_control_loop,
    "loop": _inline_control_loop, "cond": _inline_cond, "barrier": _inline_barrier,
}  # fmt: skip
