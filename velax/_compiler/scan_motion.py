"""Contractions that a scan need not do step by step: moved before or behind it, where they are one
large contraction.

A product with a batch of few rows reads all of its weights, or adds to all of its result, in every
step. The moves, on the body of a ``scan``:

* *invariant*: a contraction of constants alone is done once;
* *ahead*: a contraction of slices of xs with a constant, ``dot(x[t], w)``, becomes slices of
  ``dot(x, w)``;
* *turned*: a constant whose rows lie along the contracted axis is transposed once, instead of being
  packed in every step;
* *behind*: a contraction that only adds to a carry, ``c += dot(y[t], z[t])``, or is only stacked,
  ``dot(y[t], w)``, is done once over the stacked operands.

Operands that are not xs already are stacked for this, so a move must pay: what is stacked a step is
smaller than what a step need not read or write any more, and all of it is bounded (`MOST_BYTES`). A
sum that moves is one sum over steps and contracted axes; the order of its terms is the
contraction's, as in any contraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from velax._compiler import schedule
from velax._compiler.fuse import topological_order
from velax._compiler.simplify import new_input, share
from velax._compiler.views import view_of
from velax._ir.graph import Builder, Graph, Node

__all__ = ["move_contractions"]

#: memory that one scan's operands and results may be stacked in for the moves
MOST_BYTES = 64 << 20
#: a scan of fewer steps gains nothing
LEAST_STEPS = 4

#: rows of a product from which transposed weights are read faster
TURNED_ROWS = 4

_STEP, _CARRY = 1, 2
_VIEWS = frozenset({"reshape", "transpose"})
#: operations that make no copy of a contraction's operand
_STRIDED = frozenset({"reshape", "transpose", "slice", "broadcast", "input", "literal"})
#: operations that `_Motion.stacked` can do for all steps at once
_STACKABLE = frozenset({"map", "convert", "bitcast", "broadcast", "reshape", "transpose", "slice", "literal"})


#: ``expand(builder, scan, inputs)``: what a scan becomes, a node with a ``get`` for each result or
#: ``results``
Expand = Callable[[Builder, Node, tuple[Node, ...]], Node]


def move_contractions(builder: Builder, node: Node, inputs: tuple[Node, ...], expand: Expand) -> Node | None:
    """``scan`` with a simplified body, over ``inputs`` -> ``results`` of a scan with less to do in
    a step; None if nothing moves."""
    body, length = node.attrs["body"], node.attrs["length"]
    if length < LEAST_STEPS or body.effects or not any(x.op == "dot" for x in topological_order(body.outputs)):
        return None
    return _Motion(builder, node, inputs, expand).run()


class _Motion:
    def __init__(self, builder: Builder, node: Node, inputs, expand: Expand):
        self.builder, self.node, self.expand, self.length = builder, node, expand, node.attrs["length"]
        self.body: Graph = node.attrs["body"]
        self.n_consts, self.n_carry, _ = node.attrs["counts"]
        split = self.n_consts + self.n_carry
        self.consts, self.init, self.xs = (
            list(inputs[: self.n_consts]),
            inputs[self.n_consts : split],
            list(inputs[split:]),
        )
        own = self.body.inputs
        self.const_nodes, self.carry_nodes, self.x_nodes = own[: self.n_consts], own[self.n_consts : split], own[split:]
        self.order = topological_order(self.body.outputs)
        self.uses: dict[Node, int] = dict.fromkeys((*own, *self.order), 0)
        for x in (*self.body.outputs, *(y for user in self.order for y in user.inputs)):
            self.uses[x] += 1
        self.depends = (
            {x: 0 for x in self.const_nodes} | {x: _CARRY for x in self.carry_nodes} | {x: _STEP for x in self.x_nodes}
        )
        for x in self.order:
            if x not in self.depends:
                self.depends[x] = 0
                for y in x.inputs:
                    self.depends[x] |= self.depends[y]
        self.bytes = 0
        #: nodes of the body -> nodes outside of it: their value, or all of their values, steps
        #: along the first axis
        self.outside: dict[Node, Node] = dict(zip(self.const_nodes, self.consts)) | dict(zip(self.x_nodes, self.xs))
        #: nodes of the body whose value a step gets from outside; constants that changed
        self.fetched: dict[Node, Node] = {}
        #: contractions of the body -> the same over a transposed constant
        self.turned: dict[Node, Node] = {}
        #: nodes of the body that are stacked -> the y that has them
        self.stacks: dict[Node, int] = {}
        self.ys: list[Node] = list(self.body.outputs[self.n_carry :])
        for k, y in enumerate(self.ys):
            self.stacks.setdefault(y, k)

    def run(self) -> Node | None:
        for x in self.order:
            if x.op == "dot" and x.size:
                self._before(x)
        behind = self._behind()
        for x in self.order:
            if x.op == "dot" and x.size and x not in self.fetched and not any(dot is x for dot, _ in behind.values()):
                self._turn(x)
        if not self.fetched and not behind:
            return None
        return self._rebuilt(behind)

    # -- before the loop

    def _before(self, dot: Node) -> None:
        """Fetch ``dot`` from outside if it can be done there, or its operand if that is
        invariant."""
        depends = [self.depends[x] for x in dot.inputs]
        for x, own in zip(dot.inputs, depends):
            if own == 0 and not all(y.op in _STRIDED for y in topological_order((x,))):
                self._fetch_invariant(x)
        if depends == [0, 0]:
            self._fetch_invariant(dot)
        elif sorted(depends) == [0, _STEP] and not dot.attrs["batch"][0] and dot not in self.ys:
            side = depends.index(_STEP)
            x, weights = dot.inputs[side], dot.inputs[1 - side]
            new = dot.size + (0 if self._is_stacked(x) else x.size)
            if new < weights.size and self._stackable(x) and self._invariant(weights) and self._room(new, dot.dtype):
                self.fetched[dot] = self.outside[dot] = self._all_products(dot, side)

    def _fetch_invariant(self, x: Node) -> None:
        if self._invariant(x):
            self.fetched[x] = self._outside(x)

    def _invariant(self, x: Node) -> bool:
        """Whether the value of ``x`` can be computed outside."""
        return self.depends[x] == 0 and all(
            y.shape is not None and y.op not in ("get", "callback") for y in topological_order((x,))
        )

    def _outside(self, x: Node) -> Node:
        """An invariant node outside."""
        for y in topological_order((x,)):
            if y not in self.outside:
                self.builder.source = y.source
                self.outside[y] = share(self.builder, y, tuple(self.outside[z] for z in y.inputs))
        return self.outside[x]

    def _all_products(self, dot: Node, side: int) -> Node:
        """The products of all steps, steps along the first axis."""
        contract = list(dot.attrs["contract"])
        contract[side] = tuple(d + 1 for d in contract[side])
        operands = [self.stacked(x) if k == side else self._outside(x) for k, x in enumerate(dot.inputs)]
        self.builder.source = dot.source
        if side == 0:
            return self.builder.dot(*operands, contract, ((), ()), dot.dtype)
        whole = self.builder.dot(*reversed(operands), contract[::-1], ((), ()), dot.dtype)
        left = dot.inputs[0].ndim - len(contract[0])
        right = dot.ndim - left
        return self.builder.transpose(whole, (0, *range(1 + right, 1 + right + left), *range(1, 1 + right)))

    def _turn(self, dot: Node) -> None:
        """Transpose the right operand outside if it is invariant and contiguous along a contracted
        axis."""
        x = dot.inputs[1]
        contract, batch = dot.attrs["contract"][1], dot.attrs["batch"][1]
        free = [d for d in range(x.ndim) if d not in contract and d not in batch]
        columns = math.prod(x.shape[d] for d in free)
        rows = dot.size // (columns * math.prod(x.shape[d] for d in batch))
        if self.depends[x] or not self.depends[dot] or rows < TURNED_ROWS or columns < 2 or not self._invariant(x):
            return
        _, _, axes = view_of(self._outside(x))
        strides = {d: digits[-1][1] for d, digits in enumerate(axes) if digits}
        if any(strides.get(d) == 1 for d in free) or not any(strides.get(d) == 1 for d in contract):
            return
        perm = (*batch, *contract, *free)
        if perm != tuple(range(x.ndim)):
            shape = tuple(x.shape[p] for p in perm)
            x = Node("transpose", (x,), {"perm": perm}, shape, x.dtype, x.source)
            self.depends[x] = 0
            n, m = len(batch), len(batch) + len(contract)
            attrs = {
                "contract": (dot.attrs["contract"][0], tuple(range(n, m))),
                "batch": (dot.attrs["batch"][0], tuple(range(n))),
                **{k: v for k, v in dot.attrs.items() if k == "order"},
            }
            self.turned[dot] = Node("dot", (dot.inputs[0], x), attrs, dot.shape, dot.dtype, dot.source)
        self.fetched[x] = self._outside(x)

    # -- values of all steps

    def _base(self, x: Node) -> Node:
        while x.op in _VIEWS:
            x = x.inputs[0]
        return x

    def _is_stacked(self, x: Node) -> bool:
        """Whether the values of all steps of ``x``, which depends on the step, lie in memory."""
        return self._base(x) in self.outside or self._base(x) in self.stacks

    def _stackable(self, x: Node) -> bool:
        """Whether the values of ``x``, which depends on xs alone, can be computed outside for all
        steps."""
        return all(y in self.outside or y.op in _STACKABLE or self._invariant(y) for y in topological_order((x,)))

    def stacked(self, x: Node) -> Node:
        """The values of ``x`` in all steps, steps along the first axis."""
        if self.depends[x] == 0:
            return self.builder.broadcast(self._outside(x), (self.length, *x.shape), range(1, 1 + x.ndim))
        if x not in self.outside:
            operands = tuple(self.stacked(y) for y in x.inputs)
            whole = Node(x.op, operands, _with_steps(x, self.length), (self.length, *x.shape), x.dtype, x.source)
            self.builder.source = x.source
            self.outside[x] = share(self.builder, whole, operands)
        return self.outside[x]

    def _room(self, elements: int, dtype: str) -> bool:
        """Whether so many more elements a step may be stacked."""
        more = elements * self.length * schedule.element_bytes(dtype)
        if self.bytes + more > MOST_BYTES:
            return False
        self.bytes += more
        return True

    # -- behind the loop

    def _behind(self) -> dict[int, tuple[Node, int | None]]:
        """Outputs of the body that are made behind the loop -> (contraction, side that has steps if
        the other is invariant, else None)."""
        found: dict[int, tuple[Node, int | None]] = {}
        outputs = self.body.outputs
        for k, out in enumerate(outputs):
            if k < self.n_carry:
                dot = self._added(k, out)
                side = None
            else:
                dot, depends = out, [self.depends[x] for x in out.inputs]
                if out.op != "dot" or self.uses[out] > 1 or out.attrs["batch"][0] or depends.count(0) != 1:
                    continue
                side = 1 - depends.index(0)
                if not self._invariant(out.inputs[1 - side]):
                    continue
            if dot is None or not dot.size:
                continue
            new = {self._base(x) for x in dot.inputs if self.depends[x] and not self._is_stacked(x)}
            elements = sum(x.size for x in new)
            saved = dot.size if side is None else dot.inputs[1 - side].size
            if elements < saved and all(self._room(x.size, x.dtype) for x in new):
                for x in new:
                    self.stacks[x] = len(self.ys)
                    self.ys.append(x)
                found[k] = dot, side
        return found

    def _added(self, k: int, out: Node) -> Node | None:
        """The contraction that a step adds to carry ``k`` and that is used for nothing else."""
        carry = self.carry_nodes[k]
        if (
            out.op != "map"
            or out.attrs["fn"] != "add"
            or carry not in out.inputs
            or self.uses[carry] != 1
            or self.uses[out] != 1
        ):
            return None
        other = out.inputs[1 - out.inputs.index(carry)]
        if other.op != "dot" or self.uses[other] != 1 or not all(self.depends[x] for x in other.inputs):
            return None
        return other

    # -- the new loop

    def _rebuilt(self, behind) -> Node:
        inner = Builder()
        carries = [k for k in range(self.n_carry) if k not in behind]
        invariants = [x for x in self.fetched if self.depends[x] == 0]
        products = [x for x in self.fetched if self.depends[x]]
        new: dict[Node, Node] = {}
        for x in (*self.const_nodes, *invariants, *(self.carry_nodes[k] for k in carries), *self.x_nodes, *products):
            new[x] = new_input(inner, x)
        n_own = len(self.body.outputs) - self.n_carry
        kept = [k for k in range(len(self.ys)) if k >= n_own or self.n_carry + k not in behind]
        outputs = [*(self.body.outputs[k] for k in carries), *(self.ys[k] for k in kept)]
        for x in topological_order(outputs, new):
            inner.source = x.source
            done = self.turned.get(x, x)
            new[x] = share(inner, done, tuple(new[y] for y in done.inputs))
        graph = Graph(tuple(inner.inputs), tuple(new[x] for x in outputs))

        found = self._scan(
            graph,
            [*self.consts, *(self.fetched[x] for x in invariants)],
            [self.init[k] for k in carries],
            [*self.xs, *(self.fetched[x] for x in products)],
        )
        results: dict[int, Node] = dict(zip((*carries, *(self.n_carry + k for k in kept)), found))
        for x, k in self.stacks.items():
            if x not in self.outside and self.n_carry + k in results:
                self.outside[x] = results[self.n_carry + k]
        for k, (dot, side) in behind.items():
            if side is None:
                results[k] = self.builder.map("add", self.init[k], self._sum_of_products(dot))
            else:
                results[k] = self._all_products(dot, side)
        return Node(
            "results", tuple(results[k] for k in range(len(self.body.outputs))), {}, None, None, self.node.source
        )

    def _scan(self, body: Graph, consts, init, xs) -> list[Node]:
        """The results of the new scan."""
        old, length = self.node, self.length
        shapes = [(x.shape, x.dtype) for x in init] + [((length, *y.shape), y.dtype) for y in body.outputs[len(init) :]]
        counts = (len(consts), len(init), len(xs))
        attrs = {
            "body": body,
            "length": length,
            "reverse": old.attrs["reverse"],
            "unroll": old.attrs["unroll"],
            "counts": counts,
            "results": tuple(shapes),
        }
        operands = (*consts, *init, *xs)
        self.builder.source = old.source
        loop = self.expand(self.builder, Node("scan", operands, attrs, None, None, old.source), operands)
        return [self.builder.get(loop, k, shape, dtype) for k, (shape, dtype) in enumerate(shapes)]

    def _sum_of_products(self, dot: Node) -> Node:
        """``dot`` summed over all steps."""
        lhs, rhs = (self.stacked(x) for x in dot.inputs)
        contract = tuple((0, *(d + 1 for d in axes)) for axes in dot.attrs["contract"])
        batch = tuple(tuple(d + 1 for d in axes) for axes in dot.attrs["batch"])
        self.builder.source = dot.source
        return self.builder.dot(lhs, rhs, contract, batch, dot.dtype, dot.attrs.get("order"))


def _with_steps(x: Node, length: int) -> dict:
    """The attributes of ``x`` done for all steps at once."""
    attrs = x.attrs
    if x.op == "transpose":
        return {"perm": (0, *(p + 1 for p in attrs["perm"]))}
    if x.op == "broadcast":
        return {"dims": (0, *(d + 1 for d in attrs["dims"]))}
    if x.op == "slice":
        return {
            "starts": (0, *attrs["starts"]),
            "limits": (length, *attrs["limits"]),
            "strides": (1, *attrs["strides"]),
        }
    return attrs
