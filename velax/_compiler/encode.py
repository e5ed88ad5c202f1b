"""Loop IR -> machine code in one walk, for small kernels.

Loading LLVM takes longer than compiling and running a small program altogether. A kernel that does little
work is therefore encoded here: one element at a time, with values in registers for as long as there are
registers. Its results are those of `velax._ir.loops`, as those of the LLVM path are, so which of the two made
a kernel shows in its speed alone.

Integers are kept extended to 64 bits by the sign of their dtype. Registers hold values between two points of
control flow; at such a point every value that is still needed is in its place on the stack, and all registers
are free.
"""

from __future__ import annotations

import struct

from velax._compiler import x86
from velax._compiler.encode_ops import SIGNED_DTYPES, NotEncodable, Operations, is_float
from velax._compiler.scratch import scratch_layout
from velax._compiler.target import Target
from velax._compiler.x86 import Label, Mem
from velax._ir.loops import (
    HI,
    LO,
    WIDTH,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Expr,
    Extent,
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
from velax._ir.loops_walk import blocks, expressions, leaves_first, operands

__all__ = ["DTYPES", "NotEncodable", "encodable_target", "encode", "operations"]

#: what the instructions used here need
_FEATURES = ("avx", "bmi2", "fma", "lzcnt", "popcnt")
DTYPES = frozenset({"bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"})
_MAX_FRAME = 1 << 15

_CONTEXT, _BUFFERS, _EXTENTS = x86.RDI, x86.RSI, x86.R11  #: fixed while a kernel runs
_SAVED = (x86.RBX, x86.RBP, x86.R12, x86.R13, x86.R14, x86.R15)
#: what values live in; rax, rdx, xmm0 and xmm1 are free for single instructions
_GENERAL = (x86.RCX, x86.R8, x86.R9, x86.R10, *_SAVED)
_VECTOR = tuple(range(2, 16))


#: a sum is kept in memory, and every term waits for the last one to be stored
_REDUCE_OPERATIONS = 8


def encodable_target(target: Target) -> bool:
    """Whether the CPU has the instructions that `encode` uses."""
    return all(target.has(feature) for feature in _FEATURES)


def encode(kernel: Kernel) -> bytes:
    """The machine code of ``kernel``, position-independent and without imports.

    Raises:
        NotEncodable: for narrow floats, remainders of floats and frames of many kilobytes.
    """
    return _Encoder(kernel).run()


def operations(kernel: Kernel, total: int, extents: tuple[int, ...]) -> float:
    """About how many operations a launch of ``kernel`` over ``[0, total)`` executes; infinite where that is
    not known.
    """
    values = {LO: 0, HI: total}

    def bound(e: Expr) -> int | None:
        if type(e) is Const:
            return e.value
        return extents[e.k] if type(e) is Extent else values.get(e)

    def block(stmts) -> float:
        count, seen = 0.0, set()
        for s in stmts:
            kind = type(s)
            if kind is While:
                return float("inf")
            stack = list(expressions(s))
            while stack:
                e = stack.pop()
                if e not in seen and type(e) not in (Const, Var, Extent):
                    seen.add(e)
                    stack.extend(operands(e))
            if kind is For:
                start, stop = bound(s.start), bound(s.stop)
                if start is None or stop is None:
                    return float("inf")
                count += max(0, -((start - stop) // s.step)) * (block(s.body) + 2)
            elif kind is If:
                count += max(block(s.then), block(s.orelse))
            count += _REDUCE_OPERATIONS if kind is Reduce else 1
        return count + len(seen)

    return block(kernel.body)


class _Registers:
    """One register file: which key each register holds, and when it was last used."""

    __slots__ = ("holds", "names", "used")

    def __init__(self, names: tuple[int, ...]):
        self.names = names
        self.holds: dict[int, object] = {}
        self.used: dict[int, int] = {}


class _Encoder(Operations):
    """One kernel being encoded."""

    def __init__(self, kernel: Kernel):
        super().__init__()
        self.kernel = kernel
        self.general, self.vector = _Registers(_GENERAL), _Registers(_VECTOR)
        self.register: dict[object, int] = {}  # expression, or buffer for its address -> where it is
        self.slot: dict[object, int] = {}  # the same -> offset of its place in the frame
        self.pinned: set[object] = set()  # what the current instruction uses
        self.clock = 0
        self.frame = 0
        self.remaining: dict[Expr, int] = {}  # uses of an expression that are still to come
        self.uses: dict[Expr, int] = {}
        self.scopes: list[list] = [[]]  # what each open block defined
        self.transient: list[Expr] = []  # what holds for the current statement alone
        self.written: set[Buffer] = set()
        self.moving: dict[Expr, bool] = {}  # whether an expression reads memory that the kernel writes
        self.params = {buffer: k for k, buffer in enumerate(kernel.params)}
        self.local: dict[Buffer, int] = {}  # stack and register buffers -> offset in the frame
        self.scratch: dict[Buffer, int] | None = None

    def run(self) -> bytes:
        asm, kernel = self.asm, self.kernel
        self.count(kernel.body)
        for register in _SAVED:
            asm.push(register)
        asm.op(b"\x81", 5, x86.RSP)
        frame_size = len(asm.code)
        asm.code += bytes(4)
        asm.move(_EXTENTS, x86.RDX)
        for var, register in ((LO, x86.RCX), (HI, x86.R8)):
            asm.store(self.new_place(var), register, 64)
        self.block(kernel.body)
        if self.frame > _MAX_FRAME:
            raise NotEncodable(f"a frame of {self.frame} bytes")
        struct.pack_into("<i", asm.code, frame_size, self.frame)
        asm.op(b"\x81", 0, x86.RSP)
        asm.code += struct.pack("<i", self.frame)
        for register in reversed(_SAVED):
            asm.pop(register)
        asm.constant(x86.RAX, 0)
        asm.code.append(0xC3)
        return bytes(asm.code)

    # -- what is used, and written ----------------------------------------------------------------

    def count(self, stmts) -> None:
        uses = self.uses
        for s in stmts:
            kind = type(s)
            if kind in (Store, Reduce):
                self.written.add(s.buffer)
            stack = list(expressions(s))
            while stack:
                e = stack.pop()
                if e.dtype not in DTYPES:
                    raise NotEncodable(f"values of {e.dtype}")
                known = e in uses
                uses[e] = uses.get(e, 0) + 1
                if not known:
                    stack.extend(operands(e))
            for inner in blocks(s):
                self.count(inner)

    def moves(self, e: Expr) -> bool:
        """Whether ``e`` reads memory that the kernel writes, so that it is evaluated where its statement stands."""
        found = self.moving.get(e)
        if found is None:
            for x in leaves_first([e], self.moving):
                reads = type(x) is Load and x.buffer in self.written
                self.moving[x] = reads or any(self.moving[y] for y in operands(x))
            found = self.moving[e]
        return found

    # -- registers and the frame ------------------------------------------------------------------

    def new_place(self, key=None) -> Mem:
        """A place in the frame, which becomes that of ``key``."""
        offset = self.frame
        self.frame += 8
        if key is not None:
            self.slot[key] = offset
        return Mem(x86.RSP, offset)

    def file(self, key) -> _Registers:
        return self.vector if isinstance(key, Expr) and is_float(key.dtype) else self.general

    def take(self, key) -> int:
        """A register for ``key``, which becomes its holder."""
        file = self.file(key)
        holds = file.holds
        register = next((r for r in file.names if r not in holds), None)
        if register is None:
            register = min((r for r in file.names if holds[r] not in self.pinned), key=file.used.__getitem__)
            self.spill(holds[register])
        holds[register] = key
        self.register[key] = register
        self.pin(key)
        return register

    def pin(self, key) -> None:
        self.pinned.add(key)
        self.clock += 1
        self.file(key).used[self.register[key]] = self.clock

    def spill(self, key) -> None:
        """Free the register of ``key``; its value stays in its slot, or is made again."""
        register = self.register.pop(key)
        file = self.file(key)
        del file.holds[register]
        if key in self.slot or type(key) in (Const, Extent, Buffer):
            return
        place = self.new_place(key)
        if file is self.vector:
            self.asm.float_store(True, place, register)
        else:
            self.asm.store(place, register, 64)

    def forget(self, key) -> None:
        register = self.register.pop(key, None)
        if register is not None:
            del self.file(key).holds[register]
        self.slot.pop(key, None)

    def free_registers(self) -> None:
        """Before a point of control flow."""
        for key in list(self.register):
            self.spill(key)
        self.pinned.clear()

    def get(self, key) -> int:
        """The register of a value that has been computed, loaded if need be."""
        register = self.register.get(key)
        if register is not None:
            self.pin(key)
            return register
        register = self.take(key)
        kind = type(key)
        if kind is Const:
            self.load_constant(register, key)
        elif kind is Extent:
            self.asm.move(register, Mem(_EXTENTS, 8 * key.k))
        elif kind is Buffer:
            self.load_address(register, key)
        elif self.file(key) is self.vector:
            self.asm.float_load(True, register, Mem(x86.RSP, self.slot[key]))
        else:
            self.asm.move(register, Mem(x86.RSP, self.slot[key]))
        return register

    def load_address(self, register: int, buffer: Buffer) -> None:
        if buffer in self.params:
            self.asm.move(register, Mem(_BUFFERS, 8 * self.params[buffer]))
            return
        if self.scratch is None:
            self.scratch = scratch_layout(self.kernel.body)[0]
        self.asm.move(register, Mem(_CONTEXT, 8))
        self.asm.add_constant(register, self.scratch[buffer])

    # -- statements -------------------------------------------------------------------------------

    def block(self, stmts) -> None:
        for s in stmts:
            kind = type(s)
            if kind is Let:
                self.let(s)
            elif kind is Store:
                self.evaluate(s.index, s.value)
                self.store(s.buffer, s.index, self.get(s.value))
                self.used(s.index, s.value)
            elif kind is Reduce:
                self.reduce(s)
            elif kind is For:
                self.loop(s)
            elif kind is While:
                self.while_(s)
            elif kind is If:
                self.if_(s)
            else:
                self.allocate(s.buffer)
            self.pinned.clear()

    def inner(self, stmts) -> None:
        """A block whose values are not seen outside."""
        self.scopes.append([])
        self.block(stmts)
        self.close_scope()

    def close_scope(self) -> None:
        for key in self.scopes.pop():
            self.forget(key)
        self.free_registers()

    def let(self, s: Let) -> None:
        self.evaluate(s.value)
        source = self.get(s.value)
        self.scopes[-1].append(s.var)
        register = self.take(s.var)
        if self.file(s.var) is self.vector:
            self.asm.float_move(register, source)
        else:
            self.asm.move(register, source)
        self.used(s.value)

    def reduce(self, s: Reduce) -> None:
        old = Load(s.buffer, s.index)
        new = Binary(s.op, old, s.value)
        for e in (s.index, s.value):  # a use by the new expressions, besides that by the statement
            self.uses[e] += 1
            if e in self.remaining:
                self.remaining[e] += 1
        for e in (old, new):
            self.uses[e], self.moving[e] = 1, True
        self.evaluate(s.index, s.value, new)
        self.store(s.buffer, s.index, self.get(new))
        self.used(s.index, s.value, new)

    def loop(self, s: For) -> None:
        asm = self.asm
        self.evaluate(s.start, s.stop)
        start = self.get(s.start)
        self.scopes.append([s.var])
        counter = self.new_place(s.var)
        asm.store(counter, start, 64)
        # The limit is kept apart: its value may be one that holds for this statement alone.
        limit = self.new_place()
        asm.store(limit, self.get(s.stop), 64)
        self.used(s.start, s.stop)
        self.free_registers()
        head, end = Label(), Label()
        asm.place(head)
        asm.move(x86.RAX, counter)
        asm.compare(x86.RAX, limit)
        asm.jump(end, x86.NOT_LESS)
        self.block(s.body)
        asm.add_constant(counter, s.step)
        asm.jump(head)
        asm.place(end)
        self.close_scope()

    def while_(self, s: While) -> None:
        asm = self.asm
        self.free_registers()
        head, end = Label(), Label()
        asm.place(head)
        self.scopes.append([])
        self.block(s.cond_block)
        self.evaluate(s.cond)
        cond = self.get(s.cond)
        asm.test(cond, cond)
        self.used(s.cond)
        self.free_registers()  # stores leave the flags alone
        asm.jump(end, x86.EQUAL)
        self.block(s.body)
        self.close_scope()
        asm.jump(head)
        asm.place(end)

    def if_(self, s: If) -> None:
        asm = self.asm
        self.evaluate(s.cond)
        cond = self.get(s.cond)
        asm.test(cond, cond)
        self.used(s.cond)
        self.free_registers()  # stores leave the flags alone
        orelse, end = Label(), Label()
        asm.jump(orelse, x86.EQUAL)
        self.inner(s.then)
        if s.orelse:
            asm.jump(end)
        asm.place(orelse)
        self.inner(s.orelse)
        asm.place(end)

    def allocate(self, buffer: Buffer) -> None:
        if buffer.dtype not in DTYPES:
            raise NotEncodable(f"values of {buffer.dtype}")
        if buffer.space != "scratch" and buffer not in self.local:
            self.local[buffer] = self.frame
            self.frame += -(-buffer.size * WIDTH[buffer.dtype] // 64) * 8
            if self.frame > _MAX_FRAME:
                raise NotEncodable(f"a frame of {self.frame} bytes")

    # -- memory -----------------------------------------------------------------------------------

    def address(self, buffer: Buffer, index: Expr) -> Mem:
        """Of an element; the parts of ``index`` have been evaluated."""
        size = WIDTH[buffer.dtype] // 8
        offset, index = _split(index, size)
        at = None if index is None else self.get(index)
        if buffer in self.local:
            return Mem(x86.RSP, self.local[buffer] + offset, at, size)
        return Mem(self.get(buffer), offset, at, size)

    def load(self, e: Load) -> None:
        place, dtype = self.address(e.buffer, e.index), e.dtype
        register = self.take(e)
        if is_float(dtype):
            self.asm.float_load(dtype == "f64", register, place)
        else:
            self.asm.extend(register, place, WIDTH[dtype], dtype in SIGNED_DTYPES)

    def store(self, buffer: Buffer, index: Expr, register: int) -> None:
        place, dtype = self.address(buffer, index), buffer.dtype
        if is_float(dtype):
            self.asm.float_store(dtype == "f64", place, register)
        else:
            self.asm.store(place, register, WIDTH[dtype])

    # -- expressions ------------------------------------------------------------------------------

    def known(self, e: Expr) -> bool:
        return e in self.register or e in self.slot or type(e) in (Const, Extent)

    def evaluate(self, *roots: Expr) -> None:
        """Have the values of ``roots``, those of one statement, computed."""
        for e in self.transient:
            self.forget(e)
        self.transient.clear()
        order = leaves_first(roots, self)
        for e in order:
            if e in self.remaining:  # computed before, in a block that is closed: its operands are used once more
                for x in operands(e):
                    if x in self.remaining:
                        self.remaining[x] += 1
        for e in order:
            self.pinned.clear()
            self.remaining[e] = self.uses[e]
            _KINDS[type(e)](self, e)
            self.used(*operands(e))
            (self.transient if self.moves(e) else self.scopes[-1]).append(e)
        self.pinned.clear()

    def used(self, *operands: Expr) -> None:
        """Uses of values that have happened; a value without further ones gives its register back."""
        for e in operands:
            left = self.remaining.get(e)
            if left is not None:
                self.remaining[e] = left - 1
                if left == 1:
                    self.forget(e)

    def __contains__(self, e: Expr) -> bool:
        return self.known(e)


_KINDS = {
    Load: _Encoder.load, Unary: _Encoder.unary, Binary: _Encoder.binary, Fma: _Encoder.fma, Select: _Encoder.select,
    Cast: _Encoder.cast, Bitcast: _Encoder.bitcast,
}  # fmt: skip


def _split(index: Expr, size: int) -> tuple[int, Expr | None]:
    """An index as a constant number of bytes and the rest."""
    if type(index) is Const:
        offset, rest = index.value * size, None
    else:
        return 0, index
    return (offset, rest) if -(1 << 31) <= offset < 1 << 31 else (0, index)
