"""The program: what the executor runs. Plain data: slots of memory, and blocks of instructions over them.

Grammar::

    program     ::= Program(inputs, outputs, slots, blocks, kernels, functions, literals, ...)
    output      ::= fresh(nbytes) | forward(input) | alias(input)
    slot        ::= INPUT(k) | OUTPUT(j) | ARENA | LITERAL, each a byte range [offset, offset + nbytes)
    instruction ::= Launch | Copy | Swap | Call | While | Loop | Cond | Callback

Semantics:

* An execution begins at block 0 and runs instructions in order; an instruction that names blocks runs them in place. No block reaches itself.
* ``fresh`` output memory has unspecified contents at the start, like the arena. A ``forward`` output is the input's own buffer.
  An ``alias`` output starts with the contents of its input, and from then on the slots of that input and of that output are the same memory:
  the input's own if it was donated and nobody else refers to it, else a copy, so a program means the same either way.
* Slots may overlap. ``INPUT`` slots (unless aliased) and ``LITERAL`` slots are never written; what a kernel or library function writes is not checked.
* `Launch` calls the kernel for the chunks ``[0, grain), [grain, 2 * grain), ...`` of ``[0, total)``, on several threads and in any order,
  or once for everything if ``total <= grain``. How chunks are cut does not depend on the threads. ``total == 0`` calls nothing.
* `Swap` exchanges where two arena slots are, for the rest of the execution (or until swapped again).
* `While` runs ``cond``, then ends if the byte at ``pred`` is 0, else runs ``body`` and starts over.
* `Loop` writes 0, 1, ... ``trip_count - 1`` (downwards if ``reverse``) as i64 to ``counter`` before each run of ``body``.
* `Cond` runs the block that the i32 at ``index`` selects, clamped to the first or last.
* `Callback` calls entry ``callback`` of the executable's table with copies of ``inputs`` and writes its results to ``outputs``.

The encoding is described in ``native/program.h``; the executor checks it again by the rules of `verify`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

__all__ = [
    "ALIAS", "ARENA", "FORWARD", "FRESH", "INPUT", "LITERAL", "OUTPUT", "Block", "Call", "Callback", "Cond", "Copy", "Instruction",
    "Launch", "Loop", "Output", "Program", "ProgramError", "Slot", "Swap", "While", "decode", "encode", "verify",
]  # fmt: skip

INPUT, OUTPUT, ARENA, LITERAL = range(4)
FRESH, FORWARD, ALIAS = range(3)

_SLOT_NAMES = ("input", "output", "arena", "literal")
_OUTPUT_NAMES = ("fresh", "forward", "alias")
_MAGIC = int.from_bytes(b"VLXPROG0", "little")
_VERSION = 1
_MAX_BYTES = 1 << 46
_MAX_CALLBACKS = 1 << 20
_MAX_DEPTH = 200


class ProgramError(ValueError):
    """A program that breaks a rule of this form; the text says which and where."""


@dataclass(frozen=True, slots=True)
class Slot:
    """``nbytes`` bytes at ``offset`` of input or output ``index``, of the arena, or of the literal pool (``index`` 0)."""

    kind: int
    index: int
    offset: int
    nbytes: int

    @staticmethod
    def input(k: int, nbytes: int, offset: int = 0) -> Slot:
        return Slot(INPUT, k, offset, nbytes)

    @staticmethod
    def output(j: int, nbytes: int, offset: int = 0) -> Slot:
        return Slot(OUTPUT, j, offset, nbytes)

    @staticmethod
    def arena(offset: int, nbytes: int) -> Slot:
        return Slot(ARENA, 0, offset, nbytes)

    @staticmethod
    def literal(offset: int, nbytes: int) -> Slot:
        return Slot(LITERAL, 0, offset, nbytes)

    def __str__(self) -> str:
        if self.kind in (ARENA, LITERAL):
            return f"{_SLOT_NAMES[self.kind]}[{self.offset}:{self.offset + self.nbytes}]"
        part = f"[{self.offset}:{self.offset + self.nbytes}]" if self.offset else f"[:{self.nbytes}]"
        return f"{_SLOT_NAMES[self.kind]}{self.index}{part}"


@dataclass(frozen=True, slots=True)
class Output:
    """One output: where its memory comes from (``input`` is the input meant by FORWARD and ALIAS), and its size."""

    kind: int
    nbytes: int
    input: int = 0

    @staticmethod
    def fresh(nbytes: int) -> Output:
        return Output(FRESH, nbytes)

    @staticmethod
    def forward(k: int, nbytes: int) -> Output:
        return Output(FORWARD, nbytes, k)

    @staticmethod
    def alias(k: int, nbytes: int) -> Output:
        return Output(ALIAS, nbytes, k)

    def __str__(self) -> str:
        source = "" if self.kind == FRESH else f" input{self.input}"
        return f"{_OUTPUT_NAMES[self.kind]}{source} {self.nbytes} bytes"


@dataclass(frozen=True, slots=True)
class Launch:
    opcode: ClassVar[int] = 1
    kernel: int
    slots: tuple[int, ...]
    extents: tuple[int, ...]
    total: int
    grain: int


@dataclass(frozen=True, slots=True)
class Copy:
    opcode: ClassVar[int] = 2
    dst: int
    dst_offset: int
    src: int
    src_offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Swap:
    opcode: ClassVar[int] = 3
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Call:
    opcode: ClassVar[int] = 4
    function: int
    slots: tuple[int, ...]
    params: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class While:
    opcode: ClassVar[int] = 5
    cond: int
    pred: int
    body: int


@dataclass(frozen=True, slots=True)
class Loop:
    opcode: ClassVar[int] = 6
    trip_count: int
    counter: int
    body: int
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Cond:
    opcode: ClassVar[int] = 7
    index: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Callback:
    opcode: ClassVar[int] = 8
    callback: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Instruction = Launch | Copy | Swap | Call | While | Loop | Cond | Callback
Block = tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole program; ``str`` prints it, `encode` serialises it.

    inputs: size of each input in bytes.  kernels, functions: names that `Launch` and `Call` index.  literals: the constant pool.
    scratch_bytes: what each thread has in ``Ctx.scratch``.  callbacks: how many the executable must supply.
    work: estimated nanoseconds on one thread, -1 if unknown (small ones keep the GIL).
    """

    inputs: tuple[int, ...]
    outputs: tuple[Output, ...]
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    kernels: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    literals: bytes = field(default=b"", repr=False)
    arena_bytes: int = 0
    scratch_bytes: int = 0
    callbacks: int = 0
    work: int = -1

    def __str__(self) -> str:
        return "\n".join(_program_lines(self))


# ------------------------------------------------------------------------------------------------------- encoding


def _operands(instruction: Instruction) -> list[int]:
    match instruction:
        case Launch(kernel, slots, extents, total, grain):
            return [kernel, len(slots), *slots, len(extents), *extents, total, grain]
        case Copy(dst, dst_offset, src, src_offset, nbytes):
            return [dst, dst_offset, src, src_offset, nbytes]
        case Swap(a, b):
            return [a, b]
        case Call(function, slots, params):
            return [function, len(slots), *slots, len(params), *params]
        case While(cond, pred, body):
            return [cond, pred, body]
        case Loop(trip_count, counter, body, reverse):
            return [trip_count, counter, body, int(reverse)]
        case Cond(index, blocks):
            return [index, len(blocks), *blocks]
        case Callback(callback, inputs, outputs):
            return [callback, len(inputs), *inputs, len(outputs), *outputs]
    raise ProgramError(f"not an instruction: {instruction!r}")


def _string(data: bytes) -> bytes:
    return struct.pack("<q", len(data)) + data + bytes(-len(data) % 8)


def encode(program: Program) -> bytes:
    """The program as the stream of words that ``_native.Executable`` takes. `decode` is its inverse."""

    def words(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}q", *values)

    parts = [words(program.work, len(program.inputs), program.callbacks, program.arena_bytes, program.scratch_bytes)]
    for names in (program.kernels, program.functions):
        parts.append(words(len(names)))
        parts += [_string(name.encode()) for name in names]
    parts += [_string(program.literals), words(*program.inputs), words(len(program.outputs))]
    parts += [words(output.kind, output.input, output.nbytes) for output in program.outputs]
    parts.append(words(len(program.slots)))
    parts += [words(slot.kind, slot.index, slot.offset, slot.nbytes) for slot in program.slots]
    parts.append(words(len(program.blocks)))
    for block in program.blocks:
        stream: list[int] = []
        for instruction in block:
            operands = _operands(instruction)
            stream += [instruction.opcode, len(operands), *operands]
        parts.append(words(len(stream), *stream))
    body = b"".join(parts)
    return words(_MAGIC, _VERSION, 3 + len(body) // 8) + body


class _Reader:
    """Takes words off the front of a stream."""

    def __init__(self, data: bytes):
        if len(data) % 8:
            raise ProgramError(f"{len(data)} bytes are not a whole number of words")
        self.data, self.at = data, 0

    def word(self) -> int:
        if self.at >= len(self.data):
            raise ProgramError("truncated")
        (value,) = struct.unpack_from("<q", self.data, self.at)
        self.at += 8
        return value

    def count(self) -> int:
        n = self.word()
        if not 0 <= n <= (len(self.data) - self.at) // 8:
            raise ProgramError(f"a list of {n} items in a stream of {len(self.data) // 8} words")
        return n

    def words(self, n: int) -> tuple[int, ...]:
        return tuple(self.word() for _ in range(n))

    def list(self) -> tuple[int, ...]:
        return self.words(self.count())

    def string(self) -> bytes:
        n = self.word()
        if not 0 <= n <= len(self.data) - self.at:
            raise ProgramError("a string is cut off")
        text = self.data[self.at : self.at + n]
        self.at += n + -n % 8
        return text

    def name(self) -> str:
        text = self.string()
        if not all(0x20 <= byte < 0x7F for byte in text):
            raise ProgramError(f"the name {text!r} is not printable ASCII")
        return text.decode()


def _read_instruction(reader: _Reader) -> Instruction:
    opcode, n = reader.word(), reader.count()
    end = reader.at + 8 * n
    match opcode:
        case Launch.opcode:
            instruction = Launch(reader.word(), reader.list(), reader.list(), reader.word(), reader.word())
        case Copy.opcode:
            instruction = Copy(*reader.words(5))
        case Swap.opcode:
            instruction = Swap(*reader.words(2))
        case Call.opcode:
            instruction = Call(reader.word(), reader.list(), reader.list())
        case While.opcode:
            instruction = While(*reader.words(3))
        case Loop.opcode:
            trip_count, counter, body, reverse = reader.words(4)
            if reverse not in (0, 1):
                raise ProgramError(f"a loop's direction is {reverse}")
            instruction = Loop(trip_count, counter, body, bool(reverse))
        case Cond.opcode:
            instruction = Cond(reader.word(), reader.list())
        case Callback.opcode:
            instruction = Callback(reader.word(), reader.list(), reader.list())
        case _:
            raise ProgramError(f"unknown opcode {opcode}")
    if reader.at != end:
        raise ProgramError(f"{type(instruction).__name__} has {n} operands, but its lists say otherwise")
    return instruction


def decode(data: bytes) -> Program:
    """The program in a stream made by `encode`. Raises `ProgramError` for anything else; does not `verify`."""
    reader = _Reader(bytes(data))
    if reader.word() != _MAGIC:
        raise ProgramError("not a program (wrong magic number)")
    version, total = reader.word(), reader.word()
    if version != _VERSION:
        raise ProgramError(f"version {version}, but this is version {_VERSION}")
    if total != len(data) // 8:
        raise ProgramError(f"the stream has {len(data) // 8} words, but says {total}")
    work, num_inputs, callbacks, arena_bytes, scratch_bytes = reader.words(5)
    if num_inputs < 0:
        raise ProgramError(f"{num_inputs} inputs")
    kernels = tuple(reader.name() for _ in range(reader.count()))
    functions = tuple(reader.name() for _ in range(reader.count()))
    literals = reader.string()
    inputs = reader.words(num_inputs)
    outputs = []
    for _ in range(reader.count()):
        kind, source, nbytes = reader.words(3)
        outputs.append(Output(kind, nbytes, source))
    slots = tuple(Slot(*reader.words(4)) for _ in range(reader.count()))
    blocks = []
    for _ in range(reader.count()):
        end = reader.count() * 8 + reader.at
        block = []
        while reader.at < end:
            block.append(_read_instruction(reader))
        if reader.at != end:
            raise ProgramError("an instruction runs over the end of its block")
        blocks.append(tuple(block))
    if reader.at != len(data):
        raise ProgramError("words are left over")
    return Program(inputs, tuple(outputs), slots, tuple(blocks), kernels, functions, literals, arena_bytes,
                   scratch_bytes, callbacks, work)  # fmt: skip


# ------------------------------------------------------------------------------------------------------- verifier


def verify(program: Program) -> None:
    """Checks every rule that does not need the kernels; raises `ProgramError` naming the block and instruction."""
    for name in ("arena_bytes", "scratch_bytes"):
        _require(0 <= getattr(program, name) <= _MAX_BYTES, f"{name} is {getattr(program, name)}")
    _require(program.work >= -1, f"work is {program.work}")
    _require(0 <= program.callbacks <= _MAX_CALLBACKS, f"{program.callbacks} callbacks")
    for name in (*program.kernels, *program.functions):
        _require(name.isascii() and name.isprintable(), f"the name {name!r} is not printable ASCII")
    for k, nbytes in enumerate(program.inputs):
        _require(0 <= nbytes <= _MAX_BYTES, f"input {k} has {nbytes} bytes")
    aliased: set[int] = set()
    for j, output in enumerate(program.outputs):
        _require(output.kind in (FRESH, FORWARD, ALIAS), f"output {j} is of kind {output.kind}")
        _require(0 <= output.nbytes <= _MAX_BYTES, f"output {j} has {output.nbytes} bytes")
        if output.kind == FRESH:
            continue
        _require(0 <= output.input < len(program.inputs), f"output {j} refers to input {output.input}")
        _require(program.inputs[output.input] == output.nbytes, f"output {j} and its input {output.input} differ in size")
        if output.kind == ALIAS:
            _require(output.input not in aliased, f"two outputs alias input {output.input}")
            aliased.add(output.input)
    for i, slot in enumerate(program.slots):
        _verify_slot(program, i, slot)
    _require(bool(program.blocks), "there are no blocks")
    for b, block in enumerate(program.blocks):
        for i, instruction in enumerate(block):
            try:
                _verify_instruction(program, instruction, aliased)
            except ProgramError as error:
                raise ProgramError(f"block {b}, instruction {i}, {_instruction_text(program, instruction)}: {error}") from None
    _verify_nesting(program)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ProgramError(text)


def _verify_slot(program: Program, i: int, slot: Slot) -> None:
    if slot.kind in (ARENA, LITERAL):
        _require(slot.index == 0, f"slot {i}: index {slot.index} of what there is one of")
    match slot.kind:
        case 0:
            _require(0 <= slot.index < len(program.inputs), f"slot {i}: there is no input {slot.index}")
            room = program.inputs[slot.index]
        case 1:
            _require(0 <= slot.index < len(program.outputs), f"slot {i}: there is no output {slot.index}")
            output = program.outputs[slot.index]
            _require(output.kind != FORWARD, f"slot {i}: output {slot.index} is forwarded and has no memory of its own")
            room = output.nbytes
        case 2:
            room = program.arena_bytes
        case 3:
            room = len(program.literals)
        case _:
            raise ProgramError(f"slot {i} is of kind {slot.kind}")
    _require(slot.offset >= 0 and slot.nbytes >= 0, f"slot {i}: negative offset or size")
    _require(slot.offset + slot.nbytes <= room, f"slot {i}: bytes [{slot.offset}, {slot.offset + slot.nbytes}) of {room}")


def _verify_instruction(program: Program, instruction: Instruction, aliased: set[int]) -> None:
    def check_slot(s: int, nbytes: int = 0, written: bool = False) -> Slot:
        _require(0 <= s < len(program.slots), f"there is no slot {s}")
        slot = program.slots[s]
        _require(slot.nbytes >= nbytes, f"needs {nbytes} bytes, slot {s} has {slot.nbytes}")
        if written:
            constant = slot.kind == LITERAL or (slot.kind == INPUT and slot.index not in aliased)
            _require(not constant, f"writes slot {s} ({slot}), which is read-only")
        return slot

    def check_block(b: int) -> None:
        _require(0 <= b < len(program.blocks), f"there is no block {b}")

    match instruction:
        case Launch(kernel, slots, _, total, grain):
            _require(0 <= kernel < len(program.kernels), f"there is no kernel {kernel}")
            _require(total >= 0 and grain >= 1, f"a launch over {total} in chunks of {grain}")
            for s in slots:
                check_slot(s)
        case Copy(dst, dst_offset, src, src_offset, nbytes):
            _require(min(dst_offset, src_offset, nbytes) >= 0, "negative offset or size")
            check_slot(dst, dst_offset + nbytes, written=True)
            check_slot(src, src_offset + nbytes)
        case Swap(a, b):
            first, second = check_slot(a), check_slot(b)
            _require(first.kind == second.kind == ARENA, "swaps slots that are not in the arena")
            _require(first.nbytes == second.nbytes, "swaps slots of different sizes")
        case Call(function, slots, _):
            _require(0 <= function < len(program.functions), f"there is no function {function}")
            for s in slots:
                check_slot(s)
        case While(cond, pred, body):
            check_block(cond)
            check_block(body)
            check_slot(pred, 1)
        case Loop(trip_count, counter, body, _):
            _require(trip_count >= 0, f"a trip count of {trip_count}")
            check_slot(counter, 8, written=True)
            check_block(body)
        case Cond(index, blocks):
            check_slot(index, 4)
            _require(bool(blocks), "no branches")
            for b in blocks:
                check_block(b)
        case Callback(callback, inputs, outputs):
            _require(0 <= callback < program.callbacks, f"there is no callback {callback}")
            for s in inputs:
                check_slot(s)
            for s in outputs:
                check_slot(s, written=True)
        case _:
            raise ProgramError("not an instruction")


def _children(block: Block) -> Iterator[int]:
    for instruction in block:
        match instruction:
            case While(cond, _, body):
                yield from (cond, body)
            case Loop(_, _, body, _):
                yield body
            case Cond(_, blocks):
                yield from blocks


def _verify_nesting(program: Program) -> None:
    """No block reaches itself, and none is nested deeper than the executor recurses."""
    height: dict[int, int] = {}
    pending: set[int] = set()
    # A stack of our own: a malformed program may be nested deeper than Python recurses.
    for root in range(len(program.blocks)):
        stack = [(root, False)]
        while stack:
            b, leaving = stack.pop()
            if leaving:
                pending.discard(b)
                height[b] = max((height[c] + 1 for c in _children(program.blocks[b])), default=0)
                _require(height[b] <= _MAX_DEPTH, f"blocks are nested more than {_MAX_DEPTH} deep")
            elif b not in height:
                pending.add(b)
                stack.append((b, True))
                for c in _children(program.blocks[b]):
                    _require(c not in pending, f"block {c} reaches itself")
                    stack.append((c, False))


# -------------------------------------------------------------------------------------------------------- printer


def _named(names: tuple[str, ...], i: int) -> str:
    return names[i] if 0 <= i < len(names) else f"?{i}"


def _slot_list(slots: tuple[int, ...]) -> str:
    return ", ".join(f"%{s}" for s in slots)


def _instruction_text(program: Program, instruction: Instruction) -> str:
    """One line; the blocks that it runs are named, not shown."""
    match instruction:
        case Launch(kernel, slots, extents, total, grain):
            chunks = -(-total // grain) if grain > 0 else "?"
            over = f"over {total}" + (f" by {grain} ({chunks} chunks)" if chunks != 1 else "")
            sizes = f" extents {list(extents)}" if extents else ""
            return f"launch {_named(program.kernels, kernel)}({_slot_list(slots)}){sizes} {over}"
        case Copy(dst, dst_offset, src, src_offset, nbytes):
            return f"copy %{dst}[{dst_offset}:{dst_offset + nbytes}] <- %{src}[{src_offset}:{src_offset + nbytes}]"
        case Swap(a, b):
            return f"swap %{a} <-> %{b}"
        case Call(function, slots, params):
            return f"call {_named(program.functions, function)}({_slot_list(slots)}; {', '.join(map(str, params))})"
        case While(cond, pred, body):
            return f"while block{cond} gives %{pred}: block{body}"
        case Loop(trip_count, counter, body, reverse):
            return f"loop %{counter} = {'reversed ' if reverse else ''}0..{trip_count}: block{body}"
        case Cond(index, blocks):
            return f"cond %{index}: " + ", ".join(f"block{b}" for b in blocks)
        case Callback(callback, inputs, outputs):
            return f"callback {callback}({_slot_list(inputs)}) -> ({_slot_list(outputs)})"
    return repr(instruction)


def _program_lines(program: Program) -> Iterator[str]:
    sizes = [f"arena {program.arena_bytes} bytes"]
    if program.scratch_bytes:
        sizes.append(f"scratch {program.scratch_bytes} bytes")
    if program.literals:
        sizes.append(f"literals {len(program.literals)} bytes")
    if program.callbacks:
        sizes.append(f"{program.callbacks} callbacks")
    if program.work >= 0:
        sizes.append(f"work {program.work} ns")
    yield f"program: {', '.join(sizes)}"
    for k, nbytes in enumerate(program.inputs):
        yield f"  input{k}: {nbytes} bytes"
    for j, output in enumerate(program.outputs):
        yield f"  output{j}: {output}"
    for s, slot in enumerate(program.slots):
        yield f"  %{s} = {slot}"
    for b, block in enumerate(program.blocks):
        yield f"block{b}:"
        for instruction in block:
            yield f"  {_instruction_text(program, instruction)}"
