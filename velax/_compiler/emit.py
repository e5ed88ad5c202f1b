"""Loop IR -> LLVM IR text: explicit vectors, no reliance on any optimisation pass.

A vector loop is written twice: whole groups without a mask, then one masked group for the rest. Register
buffers are SSA values: structured control flow tells where they merge, so the phi nodes are written here and
no pass has to find them. A vector wider than the CPU's registers is split by LLVM into independent chains,
which is how a kernel gets instruction-level parallelism.
"""

from __future__ import annotations

from velax._compiler.emit_core import Out, Value
from velax._compiler.emit_memory import IMPURE, Memory, Place, VectorLoop
from velax._compiler.emit_scan import (
    constant_offset,
    loaded_buffers,
    operation_count,
    outer_reductions,
)
from velax._compiler.scratch import lanes_of, scratch_layout
from velax._compiler.split_lanes import split_lanes
from velax._compiler.target import Target
from velax._ir.floats import FORMATS
from velax._ir.loops import (
    FLOATS,
    HI,
    LO,
    SIGNED,
    WIDTH,
    Alloc,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Expr,
    Fma,
    For,
    If,
    Kernel,
    Let,
    Load,
    Reduce,
    Select,
    Store,
    Unary,
    Var,
    While,
)

__all__ = ["ATTRIBUTES", "emit_function", "emit_kernel"]

#: the attribute group of every kernel function
ATTRIBUTES = 'attributes #0 = { nounwind "no-trapping-math"="true" }'

#: operations of a loop body up to which its masked remainder is written separately
_SHORT_BODY = 12
#: iterations of a `While` between two looks at the interrupt flag (a power of two)
_POLL = 4096


def emit_kernel(kernel: Kernel, target: Target) -> str:
    """The LLVM module text of ``kernel``: ``i32 @name(ptr %ctx, ptr %buffers, ptr %extents, i64 %lo, i64 %hi)``.

    Attributes of the kernel that matter here: ``fold_tail`` (1: every group of a vector loop is masked and
    the body is written once; 0: whole groups, then a masked rest; unset: by the length of the body). The
    function returns 0, or 1 after an interrupt. Raises ValueError for a kernel that breaks the rules of the
    loop IR in a way that has no code (`velax._ir.loops_check` gives the full diagnosis).
    """
    function, declarations = emit_function(kernel, target)
    return "\n".join([function, *declarations, ATTRIBUTES, ""])


def emit_function(kernel: Kernel, target: Target, section: str = "") -> tuple[str, list[str]]:
    """The definition of ``kernel`` (in the named ELF section), and the declarations it needs; `ATTRIBUTES`
    completes a module.
    """
    emitter = _Emitter(kernel, target)
    return emitter.function(section), list(emitter.declarations.values())


class _Emitter(Memory):
    """One kernel being written."""

    def __init__(self, kernel: Kernel, target: Target):
        super().__init__(kernel, target)
        self.scratch_offsets: dict[Buffer, int] | None = None
        self.stacks: dict[Buffer, Value] = {}
        self.stored_memo: dict[int, frozenset[Buffer]] = {}
        self.lane_ops: dict[tuple, str] = {}
        self.interrupt: str | None = None
        #: rewritten loops, kept alive: what is stored in a block is remembered by the block's identity
        self.split_parts: list[tuple] = []
        self.statements = {
            Let: self._let, Store: self._store, Reduce: self._reduce, For: self._for, While: self._while, If: self._if,
            Alloc: self._alloc,
        }  # fmt: skip

    def function(self, section: str) -> str:
        kernel = self.kernel
        self.written = {b for b in self._stored(kernel.body, keep_local=True)}
        self.loaded = loaded_buffers(kernel.body)
        for k, buffer in enumerate(kernel.params):
            self.prologue.append(f"  %buffer_p{k} = getelementptr ptr, ptr %buffers, i64 {k}")
            self.prologue.append(f"  %buffer{k} = load ptr, ptr %buffer_p{k}, align 8")
            self.places[buffer] = Place(Value(f"%buffer{k}", "ptr", 0, 0), self.memory_elem(buffer.dtype))
            if buffer.size is not None:
                self.sizes[f"%buffer{k}"] = buffer.size
        for var, name in ((LO, "%lo"), (HI, "%hi")):
            self.memo[var] = Value(name, "i64", 0, 0)
            self.memo_depth[var] = 0
        self.block(kernel.body)
        self.line("ret i32 0")
        if self.interrupt is not None:
            self.scopes[0].out.lines.append("interrupted:\n  ret i32 1")
        place = f' section "{section}"' if section else ""
        head = f"define i32 @{kernel.name}(ptr %ctx, ptr %buffers, ptr %extents, i64 %lo, i64 %hi) #0{place} {{"
        return "\n".join([head, "entry:", *self.text(), "}"])

    def block(self, stmts) -> None:
        handlers = self.statements
        skip = 0
        for k, s in enumerate(stmts):
            if skip:
                skip -= 1
                continue
            if type(s) is Store and self.vector is not None and k + 1 < len(stmts) and type(stmts[k + 1]) is Store:
                skip = self._weave_stores(stmts, k)
                if skip:
                    skip -= 1
                    continue
            handlers[type(s)](s)
            if self.statement_exprs:
                self.end_statement()

    def _weave_stores(self, stmts, first: int) -> int:
        """Write adjacent stores to ``b[n*i], ..., b[n*i + n - 1]`` (n is 2 or 4) as one; the number of
        statements done, or 0.

        This is how complex arrays are written. The values are computed before the first store, so the kernel
        must not read ``b``.
        """
        s = stmts[first]
        if s.buffer in self.loaded or self.place_of(s.buffer).pointer is None or self.place_of(s.buffer).lanes:
            return 0
        stride = self.stride(s.index)
        if stride not in (2, 4) or not (self.mask is None or self._is_prefix()):
            return 0
        group = stmts[first : first + stride]
        if len(group) < stride or any(type(t) is not Store or t.buffer is not s.buffer for t in group):
            return 0
        if any(constant_offset(t.index, s.index) != k for k, t in enumerate(group)):
            return 0
        values = [self.value(t.value) for t in group]
        self.store_interleaved(s.buffer, stride, self.base(s.index)[0], values)
        self.end_statement()
        return stride

    # What a piece of program changes.

    def _stored(self, stmts, keep_local: bool = False) -> frozenset[Buffer]:
        """Buffers that ``stmts`` store to or reduce into, without those allocated inside."""
        found = None if keep_local else self.stored_memo.get(id(stmts))
        if found is None:
            stored: set[Buffer] = set()
            local: set[Buffer] = set()
            for s in stmts:
                kind = type(s)
                if kind is Store or kind is Reduce:
                    stored.add(s.buffer)
                elif kind is Alloc:
                    local.add(s.buffer)
                elif kind is For:
                    stored |= self._stored(s.body, keep_local)
                elif kind is If:
                    stored |= self._stored(s.then, keep_local) | self._stored(s.orelse, keep_local)
                elif kind is While:
                    stored |= self._stored(s.cond_block, keep_local) | self._stored(s.body, keep_local)
            found = frozenset(stored if keep_local else stored - local)
            if not keep_local:
                self.stored_memo[id(stmts)] = found
        return found

    def _carried(self, stored) -> list[tuple]:
        """State keys that a piece of program storing to ``stored`` may change, present and in their merged type."""
        keys = [key for key in self.state if len(key) == 3 and key[0] in stored]
        reduced = {key[0] for key in keys}
        for buffer in sorted(stored - reduced, key=lambda b: b.name):
            place = self.places.get(buffer)
            if place is None or place.pointer is not None:
                continue
            for k in range(buffer.size):
                key = (buffer, k)
                value = self.state.get(key)
                if value is None:
                    value = self.literal(0, buffer.dtype)
                self.state[key] = self.splat(value, place.lanes)
                keys.append(key)
        return keys

    def _merged(self, keys) -> dict[tuple, Value]:
        """The state at the end of a branch or body, each value in its merged type."""
        result = {}
        for key in keys:
            value = self.state[key]
            lanes = value.lanes if len(key) == 3 else self.places[key[0]].lanes
            result[key] = self.splat(value, lanes)
        return result

    # Statements.

    def _let(self, s: Let) -> None:
        value = self.value(s.value)
        depth = self.memo_depth[s.value]
        if depth == IMPURE:
            depth = len(self.scopes) - 1
            self.frozen.add(s.var)
        self.lets[s.var] = s.value
        self.bind(s.var, value, depth)

    def _store(self, s: Store) -> None:
        self.store(s.buffer, s.index, self.value(s.value))

    def _alloc(self, s: Alloc) -> None:
        buffer = s.buffer
        lanes = self.vector.lanes if self.vector is not None else 0
        if buffer.space == "register":
            self.places[buffer] = Place(None, self.elem(buffer.dtype), lanes, self.mask)
            for k in range(buffer.size):
                self.state.pop((buffer, k), None)
            return
        elem = self.memory_elem(buffer.dtype)
        pointer = self.stacks.get(buffer)
        if pointer is None:
            number = len(self.stacks)
            if buffer.space == "stack":
                size = buffer.size * max(lanes, 1)
                self.prologue.append(f"  %stack{number} = alloca [{size} x {elem}], align 64")
                pointer = Value(f"%stack{number}", "ptr", 0, 0)
            else:
                pointer = self._scratch_pointer(buffer, number)
            self.stacks[buffer] = pointer
        self.places[buffer] = Place(pointer, elem, lanes, self.mask)

    def _scratch_pointer(self, buffer: Buffer, number: int) -> Value:
        if self.scratch_offsets is None:
            self.scratch_offsets = scratch_layout(self.kernel.body)[0]
            self.prologue.append("  %scratch_p = getelementptr i8, ptr %ctx, i64 8")
            self.prologue.append("  %scratch = load ptr, ptr %scratch_p, align 8")
        offset = self.scratch_offsets[buffer]
        self.prologue.append(f"  %scratch{number} = getelementptr i8, ptr %scratch, i64 {offset}")
        return Value(f"%scratch{number}", "ptr", 0, 0)

    def _reduce(self, s: Reduce) -> None:
        buffer, op = s.buffer, s.op
        dtype = buffer.dtype
        place = self.place_of(buffer)
        value = self.value(s.value)
        if self.vector is not None and not place.lanes:
            lanes = self.vector.lanes
            if place.pointer is None:
                key = (buffer, self.constant_index(buffer, s.index), "lane")
            else:
                key = (buffer, self.value(s.index).ref, "lane") if self.stride(s.index) == 0 else None
            stride = None if key in self.lane_ops else self.stride_value(s.index)
            if key in self.lane_ops or stride == 0:
                value = self.splat(value, lanes)
                if self.mask is not None:
                    value = self.choose(self.mask, value, self.splat(self.identity(op, dtype), lanes))
                if key in self.lane_ops:
                    self.state[key] = self.binary(op, dtype, self.state[key], value)
                    return
                address = self.address(place, self.value(s.index))
                self._update(op, dtype, place, address, self.combine_lanes(op, dtype, value))
                return
            if type(stride) is not int:
                self._reduce_by_lane(s, place, value)
                return
        old, _ = self.load(Load(buffer, s.index))
        self.store(buffer, s.index, self.binary(op, dtype, old, value))

    def _update(self, op: str, dtype: str, place: Place, address: Value, value: Value) -> None:
        """``*address = op(*address, value)`` for scalars."""
        old = self.from_memory(dtype, self._read(place, address, 0, True))
        self._write(place, address, self.to_memory(dtype, self.binary(op, dtype, old, value)), None)

    def _reduce_by_lane(self, s: Reduce, place: Place, value: Value) -> None:
        """Lanes may meet in one element: update them one after the other."""
        lanes, mask = self.vector.lanes, self.mask
        index, value = self.value(s.index), self.splat(value, self.vector.lanes)

        def one(lane: Value) -> None:
            pick = lambda v: self.inst(f"extractelement {v}, i64 {lane.ref}", v.elem, 0, max(v.depth, lane.depth))

            def update() -> None:
                self._update(s.op, s.buffer.dtype, place, self.address(place, pick(index)), pick(value))

            if mask is None:
                update()
            else:
                self._branch(pick(mask), update, None, frozenset())

        self._loop(self.int_literal(0), self.int_literal(lanes), 1, one, frozenset())

    def identity(self, op: str, dtype: str) -> Value:
        """The value that leaves any other unchanged under ``op``."""
        bits = WIDTH[dtype]
        if dtype == "bool":
            return self.literal(op in ("and", "min"), dtype)
        if op in ("add", "or", "xor"):
            return self.literal(-0.0 if dtype in FLOATS else 0, dtype)
        if op == "mul":
            return self.literal(1, dtype)
        if op == "and":
            return self.literal(-1 if dtype in SIGNED else (1 << bits) - 1, dtype)
        if dtype in FLOATS:
            form = FORMATS[dtype]
            largest = float("inf") if form.has_infinity else form.largest
            return self.literal(largest if op == "min" else -largest, dtype)
        if dtype in SIGNED:
            return self.literal((1 << bits - 1) - 1 if op == "min" else -(1 << bits - 1), dtype)
        return self.literal((1 << bits) - 1 if op == "min" else 0, dtype)

    def combine_lanes(self, op: str, dtype: str, x: Value) -> Value:
        """All lanes combined by a fixed tree: blocks of a power of two in order, then halves."""
        lanes = x.lanes
        block = lanes & -lanes
        total = x if block == lanes else self.shuffle(x, range(block))
        for first in range(block, lanes, block):
            total = self.binary(op, dtype, total, self.shuffle(x, range(first, first + block)))
        return self._combine_halves(op, dtype, [total])[0]

    def _combine_halves(self, op: str, dtype: str, vectors: list[Value]) -> list[Value]:
        """For each of ``vectors``, of a power of two of lanes, all lanes combined, halves with halves.

        Two vectors share an operation: ``[x low, y low] op [x high, y high]``, and so on with the halves of
        what each has left.
        """
        count, left = len(vectors), vectors[0].lanes  # ``left``: the lanes that each of the vectors has left
        while left > 1:
            half = left // 2
            single = len(vectors) == 1
            lanes = vectors[0].lanes * (1 if single else 2)
            low, high = ([k for k in range(lanes) if (k % left >= half) is late] for late in (False, True))
            made = []
            for k in range(0, len(vectors), 2):
                # an odd one is combined with itself
                x, y = vectors[k], None if single else vectors[min(k + 1, len(vectors) - 1)]
                made.append(self.binary(op, dtype, self.shuffle(x, low, y), self.shuffle(x, high, y)))
            vectors, left = made, half
        return [self.extract(x, k) for x in vectors for k in range(x.lanes)][:count]

    # Control flow.

    def _if(self, s: If) -> None:
        cond = self.value(s.cond)
        if cond.const is not None:
            taken = s.then if cond.const else s.orelse
            if taken:
                self.push_copy()
                self.block(taken)
                self.pop()
            return
        stored = self._stored(s.then) | self._stored(s.orelse)
        if not cond.lanes:
            self._branch(cond, lambda: self.block(s.then), (lambda: self.block(s.orelse)) if s.orelse else None, stored)
            return
        outer = self.mask
        for invert, stmts in ((False, s.then), (True, s.orelse)):
            if stmts:
                holds = self.unary("not", "bool", cond) if invert else cond
                mask = holds if outer is None else self.simple("and", outer, holds)

                def run(stmts=stmts, mask=mask) -> None:
                    self.mask = mask
                    self.block(stmts)
                    self.mask = outer

                self._branch(self._any(mask), run, None, stored)

    def _any(self, mask: Value) -> Value:
        """Whether any lane of ``mask`` is set."""
        bits = self.convert_scalar("bitcast", mask, f"i{mask.lanes}")
        return self.compare("icmp ne", bits, self.like(0, bits))

    def convert_scalar(self, opcode: str, x: Value, elem: str) -> Value:
        return self.inst(f"{opcode} {x} to {elem}", elem, 0, x.depth)

    def _branch(self, cond: Value, then, orelse, stored) -> None:
        """Run ``then()`` where the scalar ``cond`` holds, else ``orelse()``; both write their own text."""
        keys = self._carried(stored)
        before = {key: self.state[key] for key in keys}
        out = self.scope.out
        then_label, join = self.label("then"), self.label("join")
        else_label = self.label("else") if orelse else join
        self.line(f"br i1 {cond.ref}, label %{then_label}, label %{else_label}")
        incoming = []
        if not orelse:
            incoming.append((before, out.block))
        for label, run in ((then_label, then), (else_label, orelse)):
            if run is None:
                continue
            inner = Out(label)
            out.lines.append(label + ":")
            out.lines.append(inner.lines)
            self.state.update(before)
            floor, self.floor = self.floor, self.push(inner).depth
            run()
            values = self._merged(keys)
            self.line(f"br label %{join}")
            self.pop()
            self.floor = floor
            incoming.append((values, inner.block))
        self.start_block(join)
        (a, a_block), (b, b_block) = incoming
        for key in keys:
            x, y = a[key], b[key]
            self.state[key] = x if x is y else self._phi(x, a_block, y, b_block)

    def _phi(self, x: Value, x_block: str, y: Value, y_block: str) -> Value:
        return self.here(f"phi {x.ty} [{x.ref}, %{x_block}], [{y.ref}, %{y_block}]", x.elem, x.lanes)

    def _loop(self, start: Value, stop: Value, step: int, body, stored, masked: bool = False) -> None:
        """``for (i = start; i < stop; i += step) body(i)``; the preheader runs only if the body does.

        ``masked``: the body handles ``step`` lanes at once and is called as ``body(i, mask)``. The mask is
          carried from one group to the next:
        all lanes until the last group needs another one, so that no group waits for its mask.
        """
        if start.const is not None and stop.const is not None:
            trips = max(0, -(-(stop.const - start.const) // step))
            if trips <= 1:
                if trips:
                    self.push_copy()
                    body(start)
                    self.pop()
                return
            guard = None
        else:
            guard = self.compare("icmp slt", start, stop)
        keys = self._carried(stored)
        before = {key: self.state[key] for key in keys}
        outer = self.scope.out
        header, after = self.label("loop"), self.label("end")
        entry = Out(outer.block)
        if guard is not None:
            entry = Out(self.label("pre"))
            self.line(f"br i1 {guard.ref}, label %{entry.block}, label %{after}")
            outer.lines.append(entry.block + ":")
        guard_block = outer.block
        phis: list[str] = []
        inner = Out(header)
        outer.lines.extend([entry.lines, f"  br label %{header}", header + ":", phis, inner.lines])
        self.push(entry)
        scope = self.push(inner, preheader=True)
        counter = Value(self.name(), "i64", 0, scope.depth)
        heads = {}
        for key in keys:
            x = before[key]
            heads[key] = self.state[key] = Value(self.name(), x.elem, x.lanes, scope.depth)
        if masked:
            first = self.intrinsic("smin", self.simple("sub", stop, start), self.int_literal(step))
            first_mask = self._first_lanes(first, step)
            first_count = self.prefix[1]
            mask = Value(self.name(), "i1", step, scope.depth)
            count = Value(self.name(), "i32", 0, scope.depth)
            self.prefix = mask, count
            body(counter, mask)
        else:
            body(counter)
        finals = self._merged(keys)
        following = self.name()
        again = self.name()
        self.line(f"{following} = add nsw i64 {counter.ref}, {step}")
        self.line(f"{again} = icmp slt i64 {following}, {stop.ref}")
        latch = inner.block
        back = [latch]
        if masked:
            last_mask, last_count, back = self._next_mask(again, following, stop, step, header, after)
            phis.append(
                f"  {mask.ref} = phi {mask.ty} [{first_mask.ref}, %{entry.block}], [splat (i1 true), %{back[0]}], "
                f"[{last_mask.ref}, %{back[1]}]"
            )
            phis.append(
                f"  {count.ref} = phi i32 [{first_count.ref}, %{entry.block}], [{step}, %{back[0]}], "
                f"[{last_count.ref}, %{back[1]}]"
            )
            self.prefix = None
        else:
            self.line(f"br i1 {again}, label %{header}, label %{after}")
        merge = lambda ref: "".join([f", [{ref}, %{block}]" for block in back])
        phis.append(f"  {counter.ref} = phi i64 [{start.ref}, %{entry.block}]{merge(following)}")
        for key, head in heads.items():
            phis.append(f"  {head.ref} = phi {head.ty} [{before[key].ref}, %{entry.block}]{merge(finals[key].ref)}")
        self.pop()
        self.pop()
        self.start_block(after)
        depth = self.depth
        for key in keys:
            x, old = finals[key], before[key]
            if x is heads[key]:
                self.state[key] = old
            elif guard is not None:
                self.state[key] = self._phi(old, guard_block, x, latch)
            else:
                self.state[key] = Value(x.ref, x.elem, x.lanes, depth, x.const)

    def _next_mask(self, again: str, following: str, stop: Value, lanes: int, header: str, after: str):
        """The end of a masked body: back to ``header`` with all lanes, or with those that are left; mask,
        count and the two blocks.
        """
        step, short = self.label("step"), self.label("short")
        self.line(f"br i1 {again}, label %{step}, label %{after}")
        self.start_block(step)
        left = self.here(f"sub i64 {stop.ref}, {following}", "i64", 0)
        whole = self.here(f"icmp sge i64 {left.ref}, {lanes}", "i1", 0)
        self.line(f"br i1 {whole.ref}, label %{header}, label %{short}")
        self.start_block(short)
        mask = self._first_lanes(left, lanes)
        count = self.prefix[1]
        self.line(f"br label %{header}")
        return mask, count, (step, short)

    def _for(self, s: For) -> None:
        if s.kind == "unrolled":
            for k in range(s.start.value, s.stop.value, s.step):
                self.push_copy()
                self.bind(s.var, self.int_literal(k), len(self.scopes) - 1)
                self.block(s.body)
                self.pop()
            return
        if s.kind == "vector":
            self._vector_loop(s)
            return
        start, stop = self.value(s.start), self.value(s.stop)
        if start.lanes or stop.lanes:
            self._varying_loop(s, start, stop)
            return

        def body(counter: Value) -> None:
            self.bind(s.var, counter, len(self.scopes) - 1)
            self.block(s.body)

        self._loop(start, stop, s.step, body, self._stored(s.body))

    def _varying_loop(self, s: For, start: Value, stop: Value) -> None:
        """A serial loop whose bounds differ from lane to lane: as many trips as the longest lane, finished
        lanes masked.
        """
        lanes, outer = self.vector.lanes, self.mask
        span = self.simple("sub", self.splat(stop, lanes), self.splat(start, lanes))
        span = self.intrinsic("smax", span, self.like(0, span))
        if s.step > 1:
            span = self.simple("udiv", self.simple("add", span, self.like(s.step - 1, span)), self.like(s.step, span))
        if outer is not None:
            span = self.choose(outer, span, self.like(0, span))
        if start.lanes:
            self.varying.add(s.var)

        def body(trip: Value) -> None:
            self.mask = self.compare("icmp slt", self.splat(trip, lanes), span)
            offset = self.binary("mul", "i64", trip, self.int_literal(s.step))
            self.bind(s.var, self.binary("add", "i64", start, offset), len(self.scopes) - 1)
            self.block(s.body)
            self.mask = outer

        self._loop(self.int_literal(0), self.combine_lanes("max", "i64", span), 1, body, self._stored(s.body))

    def _vector_loop(self, s: For) -> None:
        if self.vector is not None:
            raise ValueError(
                f"kernel {self.kernel.name}: vector loop {s.var.name} inside vector loop {self.vector.var.name}"
            )
        if s.width & (s.width - 1):
            parts = split_lanes(s)
            if parts is not None:
                self.split_parts.append(parts)
                self.block(parts)
                return
        lanes, stored = lanes_of(s.width), self._stored(s.body)
        start, stop = self.value(s.start), self.value(s.stop)
        accumulators = self._open_accumulators(s)

        def group(base: Value, mask: Value | None = None) -> None:
            depth = len(self.scopes) - 1
            self.vector = VectorLoop(s.var, lanes, base, max(depth, base.depth), {})
            self.mask = mask
            self.block(s.body)
            self.vector = self.mask = None

        if self._folds_tail(s, start, stop):
            self._loop(start, stop, lanes, group, stored, masked=True)
            self._close_accumulators(accumulators)
            return
        if start.const is not None and stop.const is not None:
            trips = max(0, stop.const - start.const)
            middle = self.int_literal(start.const + trips // lanes * lanes)
            rest = self.int_literal(trips % lanes)
        else:
            span = self.binary("sub", "i64", stop, start)
            span = self.intrinsic("smax", span, self.like(0, span))
            if lanes & (lanes - 1) == 0:
                rest = self.simple("and", span, self.like(lanes - 1, span))
            else:
                rest = self.simple("urem", span, self.like(lanes, span))
            middle = self.binary("add", "i64", start, self.simple("sub", span, rest))
        self._loop(start, middle, lanes, group, stored)

        def tail() -> None:
            group(middle, self._first_lanes(rest, lanes))

        if rest.const is None:
            self._branch(self.compare("icmp ne", rest, self.like(0, rest)), tail, None, stored)
        elif rest.const:
            self.push_copy()
            tail()
            self.pop()
        self._close_accumulators(accumulators)

    def _first_lanes(self, count: Value, lanes: int) -> Value:
        """The mask of the first ``count`` lanes."""
        count = self.convert("trunc", count, "i32") if count.const is None else self.int_literal(count.const, "i32")
        mask = self.compare("icmp ult", self.iota(lanes, 1, "i32"), self.splat(count, lanes))
        self.prefix = mask, count
        return mask

    def _folds_tail(self, s: For, start: Value, stop: Value) -> bool:
        """Whether every group is masked, so that the body is written once.

        Code generation takes time by the instruction, and a mask register costs a long body next to
        nothing. A short body is written twice: there the mask would show.
        """
        if start.const is not None and stop.const is not None:
            return False
        wanted = self.kernel.attributes.get("fold_tail")
        return self.target.vector_bytes == 64 and (
            operation_count(s.body) > _SHORT_BODY if wanted is None else bool(wanted)
        )

    def _open_accumulators(self, s: For) -> list[tuple]:
        """One vector of partial results for each outer element that the body reduces into.

        It begins with the identity, or with what is there if that is nothing yet.
        """
        found: dict[tuple, tuple] = {}
        result = []
        for r in outer_reductions(s.body):
            buffer = r.buffer
            if buffer.space == "register":
                if self.place_of(buffer).pointer is not None:
                    continue
                k = getattr(r.index, "value", None)
                elements = range(buffer.size) if k is None else (k,)
                for k in elements:
                    found[buffer, k, "lane"] = (r.op, self.int_literal(k))
            elif self._bound(r.index):
                index = self.value(r.index)
                found[buffer, index.ref, "lane"] = (r.op, index)
        for key, (op, index) in found.items():
            if self.lane_ops.setdefault(key, op) != op:
                raise ValueError(
                    f"kernel {self.kernel.name}: {key[0].name} is reduced by {op} and {self.lane_ops[key]} at once"
                )
            start = old = self.state.get(key[:2]) if type(key[1]) is int else None
            if old is None or op != "add" or old.const != 0:
                start = self.identity(op, key[0].dtype)
            self.state[key] = self.splat(start, lanes_of(s.width))
            result.append((key, op, index, start is old))
        return result

    def _close_accumulators(self, accumulators) -> None:
        alike: dict[tuple, list] = {}
        for key, op, _, _ in accumulators:
            alike.setdefault((op, key[0].dtype), []).append(key)
        totals = {}
        for (op, dtype), keys in alike.items():
            lanes = self.state[keys[0]].lanes
            if lanes & (lanes - 1):
                totals |= {key: self.combine_lanes(op, dtype, self.state[key]) for key in keys}
            else:
                totals |= zip(keys, self._combine_halves(op, dtype, [self.state[key] for key in keys]))
        for key, op, index, began in accumulators:
            buffer, total = key[0], totals[key]
            del self.lane_ops[key], self.state[key]
            place = self.places[buffer]
            if began:
                self.state[key[:2]] = total
            elif place.pointer is None:
                k = index.const
                old = self.state.get((buffer, k))
                old = self.literal(0, buffer.dtype) if old is None else old
                self.state[buffer, k] = self.binary(op, buffer.dtype, old, total)
            else:
                self._update(op, buffer.dtype, place, self.address(place, index), total)

    def _bound(self, e: Expr) -> bool:
        """Whether ``e`` is known before the statement at hand: all variables bound, no written memory read."""
        kind = type(e)
        if kind is Var:
            return e in self.memo
        if kind is Load:
            return e.buffer in self.places and e.buffer not in self.written and self._bound(e.index)
        parts = {Binary: "xy", Unary: "x", Cast: "x", Bitcast: "x", Fma: "xyz"}.get(kind, "")
        if kind is Select and not self._bound(e.cond):
            return False
        return all(self._bound(getattr(e, part)) for part in ("xy" if kind is Select else parts))

    def _while(self, s: While) -> None:
        stored = self._stored(s.cond_block) | self._stored(s.body)
        outer_mask = self.mask
        varying = self.vector is not None and self._varying_condition(s)
        keys = self._carried(stored)
        before = {key: self.state[key] for key in keys}
        outer = self.scope.out
        header, body_label, after = self.label("while"), self.label("do"), self.label("end")
        entry, inner, body = Out(outer.block), Out(header), Out(body_label)
        phis: list[str] = []
        outer.lines.extend([entry.lines, f"  br label %{header}", header + ":", phis, inner.lines])
        outer.lines.extend([body_label + ":", body.lines])
        self.push(entry)
        depth = self.push(inner, preheader=True).depth
        polls = Value(self.name(), "i32", 0, depth)
        heads = {}
        for key in keys:
            x = before[key]
            heads[key] = self.state[key] = Value(self.name(), x.elem, x.lanes, depth)
        active = None
        if varying:
            lanes = self.vector.lanes
            active = self.mask = Value(self.name(), "i1", lanes, depth)
        self.block(s.cond_block)
        cond = self.value(s.cond)
        self.end_statement()
        still = None
        if varying:
            still = self.simple("and", active, self.splat(cond, lanes))
            cond = self._any(still)
        exits = self._merged(keys)
        self.line(f"br i1 {cond.ref}, label %{body_label}, label %{after}")
        exit_block = inner.block
        floor, self.load_floor = self.load_floor, self.push(body).depth
        self.mask = still if varying else outer_mask
        self.block(s.body)
        finals = self._merged(keys)
        following = self._poll(polls)
        self.line(f"br label %{header}")
        self.load_floor, self.mask = floor, outer_mask
        phis.append(f"  {polls.ref} = phi i32 [0, %{entry.block}], [{following}, %{body.block}]")
        if varying:
            first = "splat (i1 true)" if outer_mask is None else outer_mask.ref
            phis.append(f"  {active.ref} = phi {active.ty} [{first}, %{entry.block}], [{still.ref}, %{body.block}]")
        for key, head in heads.items():
            phis.append(
                f"  {head.ref} = phi {head.ty} [{before[key].ref}, %{entry.block}], [{finals[key].ref}, %{body.block}]"
            )
        self.pop()
        self.pop()
        self.pop()
        outer.lines.append(after + ":")
        outer.block = after
        assert exit_block
        depth = self.depth
        for key in keys:
            x = exits[key]
            self.state[key] = Value(x.ref, x.elem, x.lanes, depth, x.const)

    def _poll(self, polls: Value) -> str:
        """Count an iteration; every `_POLL` of them look at the interrupt flag and leave the kernel if it is set."""
        if self.interrupt is None:
            self.interrupt = "%interrupt"
            self.prologue.append("  %interrupt = load ptr, ptr %ctx, align 8")
        following, low, due = self.name(), self.name(), self.name()
        self.line(f"{following} = add i32 {polls.ref}, 1")
        self.line(f"{low} = and i32 {following}, {_POLL - 1}")
        self.line(f"{due} = icmp eq i32 {low}, 0")
        poll, onward = self.label("poll"), self.label("onward")
        self.line(f"br i1 {due}, label %{poll}, label %{onward}")
        self.start_block(poll)
        flag, stop = self.name(), self.name()
        self.line(f"{flag} = load volatile i32, ptr %interrupt, align 4")
        self.line(f"{stop} = icmp ne i32 {flag}, 0")
        self.line(f"br i1 {stop}, label %interrupted, label %{onward}")
        self.start_block(onward)
        return following

    def _varying_condition(self, s: While) -> bool:
        """Whether lanes may disagree on the condition; asked before its block is written."""
        places = dict(self.places)
        for stmt in s.cond_block:
            if type(stmt) is Let:
                self.lets[stmt.var] = stmt.value
            elif type(stmt) is Alloc:
                self.places[stmt.buffer] = Place(None, "", self.vector.lanes)
        result = self.stride(s.cond) != 0
        self.places = places
        return result
