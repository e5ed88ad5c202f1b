"""Expressions and memory access of emission: what is uniform, what is a vector, and how memory is read and written.

Inside a vector loop an expression is *uniform* (one scalar) or *varying* (a vector with one lane an
iteration). Indexes are analysed as ``base + stride * lane``: the base is computed as a scalar, the
stride decides between one vector access, a reversed one, a strided one and a gather or scatter.
"""

from __future__ import annotations

from velax._compiler.emit_core import Value, suffix
from velax._compiler.emit_ops import Operations
from velax._ir.loops import (
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Expr,
    Extent,
    Fma,
    Load,
    Select,
    Unary,
    Var,
)
from velax._ir.loops_build import add as build_add, mul as build_mul, neg as build_neg, sub as build_sub
from velax._ir.loops_walk import operands
from velax._lang.record import Record

__all__ = ["Memory", "Place", "VectorLoop"]

#: memo depth of an expression that reads written memory: it is known within one statement only
IMPURE = 1 << 30
_MISSING = object()
#: expression nesting beyond which evaluation turns iterative
_DEEP = 120
#: strides up to this are read by whole vectors and shuffled apart; beyond, a gather touches less memory
_MAX_SHUFFLED_STRIDE = 4
#: strides up to this are, register by register, if that is less than a register's elements
_MAX_PICKED_STRIDE = 12


class Place(Record):
    """Where a buffer lives: a pointer, or registers (``pointer`` None); ``lanes`` copies, one a
    lane; ``mask`` at its `Alloc`."""

    pointer: Value | None
    elem: str
    lanes: int = 0
    mask: Value | None = None


class VectorLoop(Record):
    """The vector loop being written: its variable, width and the value of the variable in lane 0."""

    var: Var
    lanes: int
    base: Value
    base_depth: int
    strides: dict
    masks: int = 0


class Memory(Operations):
    """`value` of expressions, `load`, `store`; statements are in `Emitter`."""

    def __init__(self, kernel, target):
        super().__init__(target)
        self.kernel = kernel
        self.prologue: list[str] = []
        self.scopes[0].out.lines.append(self.prologue)
        self.places: dict[Buffer, Place] = {}
        self.written: set[Buffer] = set()
        self.state: dict[tuple, Value] = {}
        self.vector: VectorLoop | None = None
        self.mask: Value | None = None
        self.lets: dict[Var, Expr] = {}
        self.opaque: Value | None = None
        #: the mask of the first lanes of a group and their number
        self.prefix: tuple[Value, Value] | None = None
        #: known sizes of parameters, by the name of their pointer
        self.sizes: dict[str, int] = {}
        self.frozen: set[Var] = set()
        self.varying: set[Var] = set()
        self.statement_exprs: list[Expr] = []
        self.load_floor = 0
        self.level = 0
        self.extents: dict[int, Value] = {}

    # Expressions.

    def value(self, e: Expr) -> Value:
        """The value of ``e``, computed once where its variables are bound."""
        found = self.memo.get(e)
        if found is not None:
            return found
        self.level += 1
        if self.level > _DEEP:
            self._evaluate_leaves_first(e)
        kind = type(e)
        depths = self.memo_depth
        if kind is Binary:
            if e.dtype == "i64" and self.vector is not None and (result := self._affine(e)) is not None:
                value, depth = result
            else:
                value = self.binary(e.op, e.x.dtype, self.value(e.x), self.value(e.y))
                depth = max(depths[e.x], depths[e.y])
        elif kind is Const:
            value, depth = self.literal(e.value, e.dtype), 0
        elif kind is Load:
            value, depth = self.load(e)
        elif kind is Unary:
            value = self.unary(e.op, e.dtype, self.value(e.x))
            depth = depths[e.x]
        elif kind is Fma:
            value = self.fma(e.dtype, self.value(e.x), self.value(e.y), self.value(e.z))
            depth = max(depths[e.x], depths[e.y], depths[e.z])
        elif kind is Select:
            value = self.select(self.value(e.cond), self.value(e.x), self.value(e.y))
            depth = max(depths[e.cond], depths[e.x], depths[e.y])
        elif kind is Cast:
            value = self.cast(e.dtype, e.x.dtype, self.value(e.x))
            depth = depths[e.x]
        elif kind is Bitcast:
            value = self.bitcast(e.dtype, e.x.dtype, self.value(e.x))
            depth = depths[e.x]
        elif kind is Extent:
            value, depth = self._extent(e.k), 0
        elif kind is Var:
            if self.vector is None or e is not self.vector.var:
                raise ValueError(
                    f"kernel {self.kernel.name}: variable {e.name} is used outside the block that binds it"
                )
            value, depth = self._ramp(self.vector.base, 1), self.vector.base_depth
        else:
            raise TypeError(f"kernel {self.kernel.name}: {e!r} is not an expression of the loop IR")
        self.level -= 1
        self.remember(e, value, depth)
        return value

    def remember(self, e: Expr, value: Value, depth: int) -> None:
        """Keep ``value`` for ``e`` while the scopes that it depends on are open."""
        if depth != IMPURE:
            if value.depth > depth:
                depth = value.depth
            self.scopes[depth].exprs.append(e)
        else:
            self.statement_exprs.append(e)
        self.memo[e] = value
        self.memo_depth[e] = depth

    def end_statement(self) -> None:
        """Forget reads of written memory."""
        if self.statement_exprs:
            for e in self.statement_exprs:
                self.memo.pop(e, None)
                self.base_memo.pop(e, None)
            self.statement_exprs.clear()

    def bind(self, var: Var, value: Value, depth: int) -> None:
        """Make ``var`` mean ``value`` until the innermost scope closes."""
        self.memo[var] = value
        self.memo_depth[var] = depth
        self.scopes[-1].exprs.append(var)

    def _evaluate_leaves_first(self, e: Expr) -> None:
        """Evaluate what ``e`` needs bottom-up: long chains must not exhaust Python's stack."""
        level, self.level = self.level, 0
        stack = [e]
        while stack:
            top = stack[-1]
            ready = True
            for x in value_operands(top):
                if x not in self.memo:
                    stack.append(x)
                    ready = False
            if ready:
                stack.pop()
                if stack:
                    self.value(top)
        self.level = level

    def _extent(self, k: int) -> Value:
        value = self.extents.get(k)
        if value is None:
            if not 0 <= k < self.kernel.n_extents:
                raise ValueError(f"kernel {self.kernel.name}: extent {k} of {self.kernel.n_extents}")
            self.prologue.append(f"  %extent_p{k} = getelementptr i64, ptr %extents, i64 {k}")
            self.prologue.append(f"  %extent{k} = load i64, ptr %extent_p{k}, align 8")
            value = self.extents[k] = Value(f"%extent{k}", "i64", 0, 0)
        return value

    # Uniform and varying.

    def stride(self, e: Expr):
        """How ``e`` changes from lane to lane: 0 (uniform), a number or uniform expression (affine
        ``i64``), None (anything else)."""
        strides = self.vector.strides
        found = strides.get(e, _MISSING)
        if found is not _MISSING:
            return found
        self.level += 1
        if self.level > _DEEP:
            self._strides_leaves_first(e)
        result = strides[e] = self._stride(e)
        self.level -= 1
        return result

    def _strides_leaves_first(self, e: Expr) -> None:
        level, self.level = self.level, 0
        stack = [e]
        while stack:
            top = stack[-1]
            missing = [x for x in value_operands(top) if x not in self.vector.strides]
            if missing:
                stack.extend(missing)
            else:
                stack.pop()
                if stack:
                    self.stride(top)
        self.level = level

    def _stride(self, e: Expr):
        kind = type(e)
        if kind is Const or kind is Extent:
            return 0
        if kind is Var:
            if e is self.vector.var:
                return 1
            if e in self.lets:
                return self.stride(self.lets[e])
            return None if e in self.varying else 0
        if kind is Load:
            place = self.place_of(e.buffer)
            return 0 if not place.lanes and self.stride(e.index) == 0 else None
        if kind is Binary:
            x, y = self.stride(e.x), self.stride(e.y)
            if x == 0 and y == 0:
                return 0
            if e.dtype != "i64" or x is None or y is None:
                return None
            if e.op == "add":
                return self._simplify(build_add(x, y))
            if e.op == "sub":
                return self._simplify(build_sub(x, y))
            if e.op == "mul" and (x == 0 or y == 0):
                return self._simplify(build_mul(e.x, y) if x == 0 else build_mul(x, e.y))
            return None
        if kind is Unary and e.op == "neg" and e.dtype == "i64":
            x = self.stride(e.x)
            return None if x is None else -x if type(x) is int else build_neg(x)
        return 0 if all([self.stride(x) == 0 for x in value_operands(e)]) else None

    def _simplify(self, stride: Expr):
        return stride.value if type(stride) is Const else stride

    def uniform(self, e: Expr) -> bool:
        return self.vector is None or self.stride(e) == 0

    def stride_value(self, e: Expr):
        """`stride` with expressions evaluated: an int where the value is known, a scalar `Value` otherwise."""
        stride = self.stride(e)
        if isinstance(stride, Expr):
            value = self.value(stride)
            return value if value.const is None else value.const
        return stride

    def base(self, e: Expr) -> tuple[Value, int]:
        """The value of the affine expression ``e`` in lane 0, and its memo depth."""
        if self.stride(e) == 0:
            return self.value(e), self.memo_depth[e]
        found = self.base_memo.get(e)
        if found is not None:
            return found
        kind = type(e)
        if kind is Binary:
            (x, dx), (y, dy) = self.base(e.x), self.base(e.y)
            value, depth = self.binary(e.op, "i64", x, y), max(dx, dy)
        elif e is self.vector.var:
            value, depth = self.vector.base, self.vector.base_depth
        elif kind is Unary:
            x, depth = self.base(e.x)
            value = self.unary("neg", "i64", x)
        elif kind is Var and e in self.lets and e not in self.frozen:
            value, depth = self.base(self.lets[e])
        else:
            full = self.value(e)
            value, depth = self.extract(full, 0), self.memo_depth[e]
        if depth != IMPURE:
            depth = max(depth, value.depth)
            self.scopes[depth].exprs.append(e)
        else:
            self.statement_exprs.append(e)
        self.base_memo[e] = value, depth
        return value, depth

    def _affine(self, e: Binary):
        """A varying affine index as ``base + stride * lane``, None if ``e`` is something else."""
        stride = self.stride_value(e)
        if stride is None or (type(stride) is int and stride == 0):
            return None
        base, depth = self.base(e)
        return self._ramp(base, stride), depth if isinstance(stride, int) else max(depth, self._stride_depth(e))

    def _stride_depth(self, e: Expr) -> int:
        stride = self.stride(e)
        return self.memo_depth[stride] if isinstance(stride, Expr) else 0

    def _ramp(self, base: Value, stride: int | Value) -> Value:
        lanes = self.vector.lanes
        if isinstance(stride, int):
            steps = self.iota(lanes, stride)
        else:
            steps = self.simple("mul", self.iota(lanes), self.splat(stride, lanes))
        return self.simple("add", self.splat(base, lanes), steps)

    # Buffers.

    def place_of(self, buffer: Buffer) -> Place:
        place = self.places.get(buffer)
        if place is None:
            raise ValueError(
                f"kernel {self.kernel.name}: buffer {buffer.name} is used outside the block that allocates it"
            )
        return place

    def constant_index(self, buffer: Buffer, index: Expr) -> int:
        k = self.value(index).const
        if k is None or not 0 <= k < buffer.size:
            raise ValueError(
                f"kernel {self.kernel.name}: register buffer {buffer.name} of size {buffer.size} is indexed by "
                f"{'a value known at run time only' if k is None else k}; unroll the loop or allocate it on the stack"
            )
        return k

    def address(self, place: Place, index: Value) -> Value:
        """A pointer (or vector of pointers) to elements ``index``."""
        if index.const == 0 and not index.lanes:
            return place.pointer
        depth = max(place.pointer.depth, index.depth)
        return self.inst(f"getelementptr {place.elem}, ptr {place.pointer.ref}, {index}", "ptr", index.lanes, depth)

    def private_index(self, place: Place, index: Value) -> Value:
        """The first of the consecutive elements that hold ``index`` for all lanes, or a lane's own
        if ``index`` varies."""
        scaled = self.binary("mul", "i64", index, self.like(place.lanes, index))
        return self.simple("add", scaled, self.iota(place.lanes)) if index.lanes else scaled

    def load(self, e: Load) -> tuple[Value, int]:
        """The register value of ``e`` and its memo depth."""
        buffer = e.buffer
        place = self.place_of(buffer)
        if place.pointer is None:
            k = self.constant_index(buffer, e.index)
            value = self.state.get((buffer, k))
            return (self.literal(0, buffer.dtype) if value is None else value), IMPURE
        impure = buffer in self.written
        dtype = buffer.dtype
        if self.vector is None or self.stride(e.index) == 0:
            index, depth = self.value(e.index), self.memo_depth[e.index]
            if place.lanes:
                address = self.address(place, self.private_index(place, index))
                value = self._read(place, address, place.lanes, impure)
            else:
                value = self._read(place, self.address(place, index), 0, impure)
        else:
            value, depth = self._load_varying(place, e.index, impure)
        return self.from_memory(dtype, value), IMPURE if impure else depth

    def _read(self, place: Place, address: Value, lanes: int, impure: bool, mask: Value | None = None) -> Value:
        """``lanes`` (0: one) consecutive elements; those outside ``mask`` are zero."""
        elem = place.elem
        ty = f"<{lanes} x {elem}>" if lanes else elem
        align = elem_bytes(elem)
        if mask is None:
            text, depth = f"load {ty}, ptr {address.ref}, align {align}", address.depth
        else:
            name = f"llvm.masked.load.{suffix(elem, lanes)}.p0"
            self.declare(name, ty, f"ptr, <{lanes} x i1>, {ty}")
            text = f"call {ty} @{name}(ptr align {align} {address.ref}, {mask}, {ty} zeroinitializer)"
            depth = max(address.depth, mask.depth)
        return self._memory_inst(text, elem, lanes, depth, impure)

    def _memory_inst(self, text: str, elem: str, lanes: int, depth: int, impure: bool) -> Value:
        if impure:
            return self.here(text, elem, lanes)
        return self.inst(text, elem, lanes, max(depth, self.load_floor))

    def _load_varying(self, place: Place, index: Expr, impure: bool) -> tuple[Value, int]:
        lanes, mask = self.vector.lanes, self.mask
        if place.lanes:
            value = self.value(index)
            return self._gather(place, self.private_index(place, value), impure), self.memo_depth[index]
        stride = self.stride_value(index)
        if type(stride) is int:
            base, depth = self.base(index)
            if stride == 1:
                return self._read(place, self.address(place, base), lanes, impure, mask), depth
            if stride == -1:
                first = self.binary("sub", "i64", base, self.int_literal(lanes - 1))
                value = self._read(place, self.address(place, first), lanes, impure, self._backwards())
                return self.shuffle(value, range(lanes - 1, -1, -1)), depth
            if 1 < stride <= self._shuffled_stride(place.elem) and (mask is None or self._is_prefix()):
                return self._load_apart(place, index, stride, impure), depth
            if mask is None:
                return self._load_each(place, base, stride, impure), depth
            if abs(stride) * lanes < 1 << 31:
                start = Place(self.address(place, base), place.elem)
                return self._gather(start, self.iota(lanes, stride, "i32"), impure), depth
        if stride is not None and mask is None:
            base, depth = self.base(index)
            return self._load_each(place, base, stride, impure), max(depth, self._stride_depth(index))
        value = self.value(index)
        return self._gather(place, value, impure), self.memo_depth[index]

    def _load_each(self, place: Place, base: Value, stride: int | Value, impure: bool) -> Value:
        """The elements at ``base + stride * lane``, one by one: faster than the instruction that gathers."""
        lanes, elem = self.vector.lanes, place.elem
        start = Place(self.address(place, base), elem)
        value = None
        for lane in range(lanes):
            if isinstance(stride, int):
                offset = self.int_literal(lane * stride)
            else:
                offset = self.binary("mul", "i64", stride, self.int_literal(lane))
            one = self._read(start, self.address(start, offset), 0, impure)
            before, depth = ("poison", 0) if value is None else (value.ref, value.depth)
            text = f"insertelement <{lanes} x {elem}> {before}, {elem} {one.ref}, i32 {lane}"
            value = self.inst(text, elem, lanes, max(depth, one.depth))
        return value

    def _is_prefix(self) -> bool:
        """Whether the active lanes are the first ones, as in the remainder of a loop."""
        return self.prefix is not None and self.mask is self.prefix[0]

    def _backwards(self) -> Value | None:
        """The mask with its lanes in reverse order; mask registers shuffle slowly, so a known count
        is compared anew."""
        lanes = self.vector.lanes
        if self.mask is None:
            return None
        if self._is_prefix():
            order = self.iota(lanes, -1, "i32", lanes - 1)
            return self.compare("icmp ult", order, self.splat(self.prefix[1], lanes))
        return self.shuffle(self.mask, range(lanes - 1, -1, -1))

    def _load_apart(self, place: Place, index: Expr, stride: int, impure: bool) -> Value:
        """Every ``stride``-th element: whole vectors are read and the wanted lanes picked.

        Where the index is ``stride * n + phase`` for any ``n``, reading starts at phase 0: that
        element exists, and the loads of all phases become one. What follows the last wanted element
        is read only if the buffer's size says that it exists.
        """
        lanes = self.vector.lanes
        total = 1 << (lanes * stride - 1).bit_length()
        base, _ = self.base(index)
        phase = self.phase(index, stride)
        size = self.sizes.get(place.pointer.ref)
        whole = phase is not None and size is not None and size % stride == 0
        phase = phase or 0
        first = self.binary("sub", "i64", base, self.int_literal(phase)) if phase else base
        reach = 0 if whole else stride - 1 - phase
        if stride > _MAX_SHUFFLED_STRIDE:
            return self._pick_apart(place, first, stride, phase, reach, impure)
        if self.mask is None:
            last = lanes * stride - reach
            touched = None
            if last < total:
                inside = ["i1 true"] * last + ["i1 false"] * (total - last)
                touched = Value(f"<{', '.join(inside)}>", "i1", total, 0)
        else:
            touched = self._wide_prefix(stride, total, reach)
        value = self._read(place, self.address(place, first), total, impure, touched)
        return self.shuffle(value, range(phase, phase + lanes * stride, stride))

    def _shuffled_stride(self, elem: str) -> int:
        """The widest stride that `_load_apart` is for."""
        nbytes = elem_bytes(elem)
        narrowest = 4 if self.target.vector_bytes < 64 else 1 if self.target.has("avx512vbmi") else 2
        if nbytes < narrowest:
            return _MAX_SHUFFLED_STRIDE
        return max(_MAX_SHUFFLED_STRIDE, min(self.target.vector_bytes // nbytes * 3 // 4, _MAX_PICKED_STRIDE))

    def _pick_apart(self, place: Place, first: Value, stride: int, phase: int, reach: int, impure: bool) -> Value:
        """`_load_apart` a register at a time: each takes its lanes from ``stride`` registers one after the other.

        A shuffle of more than two registers would become moves of single elements.
        """
        lanes = self.vector.lanes
        width = min(lanes, self.target.vector_bytes // elem_bytes(place.elem))
        last = lanes * stride - reach
        pieces: dict[int, Value] = {}

        def piece(number: int) -> Value:
            found = pieces.get(number)
            if found is None:
                start = number * width
                inside = None
                if self.mask is not None:
                    inside = self._wide_prefix(stride, width, reach, start)
                elif last < start + width:
                    flags = ["i1 true"] * (last - start) + ["i1 false"] * (start + width - last)
                    inside = Value(f"<{', '.join(flags)}>", "i1", width, 0)
                address = self.address(place, self.binary("add", "i64", first, self.int_literal(start)))
                found = pieces[number] = self._read(place, address, width, impure, inside)
            return found

        parts = []
        for start in range(0, lanes, width):
            places = [divmod(phase + lane * stride, width) for lane in range(start, start + width)]
            part = None
            for number in sorted({number for number, _ in places}):
                if part is None:
                    part = self.shuffle(piece(number), [at if own == number else 0 for own, at in places])
                else:
                    picks = [width + at if own == number else lane for lane, (own, at) in enumerate(places)]
                    part = self.shuffle(part, picks, piece(number))
            parts.append(part)
        while len(parts) > 1:
            parts = [self.shuffle(x, range(2 * x.lanes), y) for x, y in zip(parts[::2], parts[1::2])]
        return parts[0]

    def _wide_prefix(self, stride: int, total: int, reach: int, start: int = 0) -> Value:
        """The mask of elements ``start .. start + total`` of the active lanes', ``stride`` a lane,
        but for the last ``reach``."""
        count = self.binary("mul", "i32", self.prefix[1], self.int_literal(stride, "i32"))
        count = self.binary("sub", "i32", count, self.int_literal(reach, "i32"))
        return self.compare("icmp slt", self.iota(total, 1, "i32", start), self.splat(count, total))

    def phase(self, e: Expr, k: int) -> int | None:
        """``e mod k`` where it follows from the form of ``e``, else None."""
        kind = type(e)
        if kind is Const:
            return e.value % k
        if kind is Var:
            return self.phase(self.lets[e], k) if e in self.lets else None
        if kind is not Binary:
            return None
        if e.op == "mul":
            return 0 if self.phase(e.x, k) == 0 or self.phase(e.y, k) == 0 else None
        if e.op in ("add", "sub"):
            x, y = self.phase(e.x, k), self.phase(e.y, k)
            if x is not None and y is not None:
                return (x + y if e.op == "add" else x - y) % k
        return None

    def store_interleaved(self, buffer: Buffer, stride: int, base: Value, values: list[Value]) -> None:
        """Store ``values[p]`` at ``base + p + stride * lane``: one write of the lanes woven together."""
        lanes = self.vector.lanes
        place = self.places[buffer]
        data = [self.splat(self.to_memory(buffer.dtype, v), lanes) for v in values]
        while len(data) > 1:
            half = len(data) // 2
            data = [self._weave(data[p], data[p + half]) for p in range(half)]
        mask = None if self.mask is None else self._wide_prefix(stride, lanes * stride, 0)
        self._write(place, self.address(place, base), data[0], mask)

    def _weave(self, x: Value, y: Value) -> Value:
        return self.shuffle(x, [k // 2 + k % 2 * x.lanes for k in range(2 * x.lanes)], y)

    def _gather(self, place: Place, index: Value, impure: bool) -> Value:
        lanes, elem = index.lanes, place.elem
        pointers = self.address(place, index)
        ty = f"<{lanes} x {elem}>"
        name = f"llvm.masked.gather.{suffix(elem, lanes)}.v{lanes}p0"
        self.declare(name, ty, f"<{lanes} x ptr>, <{lanes} x i1>, {ty}")
        mask = "splat (i1 true)" if self.mask is None else self.mask.ref
        pointer = f"<{lanes} x ptr> align {elem_bytes(elem)} {pointers.ref}"
        text = f"call {ty} @{name}({pointer}, <{lanes} x i1> {mask}, {ty} zeroinitializer)"
        depth = max(pointers.depth, self.mask.depth if self.mask is not None else 0)
        return self._memory_inst(text, elem, lanes, depth, impure)

    def store(self, buffer: Buffer, index: Expr, value: Value) -> None:
        """``buffer[index] = value`` in every active lane."""
        place = self.place_of(buffer)
        if place.pointer is None:
            k = self.constant_index(buffer, index)
            if place.lanes == 0 and value.lanes:
                raise ValueError(
                    f"kernel {self.kernel.name}: a varying value is stored to register buffer {buffer.name}, which is "
                    "allocated outside the vector loop; reduce it, or allocate it inside"
                )
            self.state[buffer, k] = self._blend(place, self.state.get((buffer, k)), value)
            return
        data = self.to_memory(buffer.dtype, value)
        if self.vector is None:
            self._write(place, self.address(place, self.value(index)), data, None)
            return
        lanes = self.vector.lanes
        if place.lanes:
            full = self.splat(data, lanes)
            k = self.value(index)
            mask = None if self.mask is place.mask else self.mask
            if k.lanes:
                self._scatter(place, self.private_index(place, k), full)
            else:
                self._write(place, self.address(place, self.private_index(place, k)), full, mask)
            return
        stride = self.stride_value(index)
        if type(stride) is int:
            if stride == 0:
                if data.lanes:
                    raise ValueError(
                        f"kernel {self.kernel.name}: all lanes store different values to one element of {buffer.name}; "
                        "reduce instead"
                    )
                self._write(place, self.address(place, self.value(index)), data, None)
                return
            data = self.splat(data, lanes)
            base, _ = self.base(index)
            if stride == 1:
                self._write(place, self.address(place, base), data, self.mask)
                return
            if stride == -1:
                order = range(lanes - 1, -1, -1)
                first = self.binary("sub", "i64", base, self.int_literal(lanes - 1))
                self._write(place, self.address(place, first), self.shuffle(data, order), self._backwards())
                return
            if abs(stride) * lanes < 1 << 31:
                self._scatter(Place(self.address(place, base), place.elem), self.iota(lanes, stride, "i32"), data)
                return
        self._scatter(place, self.value(index), self.splat(data, lanes))

    def _blend(self, place: Place, old: Value | None, new: Value) -> Value:
        """``new`` in active lanes, ``old`` in the others (lanes that were inactive when the buffer
        began do not matter)."""
        if old is None or not place.lanes or self.mask is place.mask or self.mask is None:
            return new
        lanes = place.lanes
        return self.choose(self.mask, self.splat(new, lanes), self.splat(old, lanes))

    def _write(self, place: Place, address: Value, data: Value, mask: Value | None) -> None:
        align = elem_bytes(place.elem)
        if mask is None:
            self.line(f"store {data}, ptr {address.ref}, align {align}")
            return
        if self.vector is not None and self.vector.base.const is not None and place.elem in ("i8", "i16", "i32"):
            mask = self._opaque(mask)
        name = f"llvm.masked.store.{suffix(place.elem, data.lanes)}.p0"
        self.declare(name, "void", f"{data.ty}, ptr, <{data.lanes} x i1>")
        self.line(f"call void @{name}({data}, ptr align {align} {address.ref}, {mask})")

    def _opaque(self, mask: Value) -> Value:
        """``mask`` in a form that LLVM cannot fold to a constant.

        LLVM 22 merges a truncation into a masked store, and then stores the wide element where a
        constant mask has a single lane.
        """
        if self.opaque is None:
            self.prologue.append("  %opaque = icmp ne ptr %buffers, null")
            self.opaque = Value("%opaque", "i1", 0, 0)
        return self.simple("and", mask, self.splat(self.opaque, mask.lanes))

    def _scatter(self, place: Place, index: Value, data: Value) -> None:
        lanes = data.lanes
        pointers = self.address(place, index)
        name = f"llvm.masked.scatter.{suffix(place.elem, lanes)}.v{lanes}p0"
        self.declare(name, "void", f"{data.ty}, <{lanes} x ptr>, <{lanes} x i1>")
        mask = "splat (i1 true)" if self.mask is None else self.mask.ref
        pointer = f"<{lanes} x ptr> align {elem_bytes(place.elem)} {pointers.ref}"
        self.line(f"call void @{name}({data}, {pointer}, <{lanes} x i1> {mask})")


def elem_bytes(elem: str) -> int:
    return {"float": 4, "double": 8, "half": 2}.get(elem) or int(elem[1:]) // 8


def value_operands(e: Expr) -> tuple[Expr, ...]:
    """The operands that `Memory.value` evaluates as values (the index of a load is evaluated as an address)."""
    return () if type(e) is Load else operands(e)
