"""Programs read back from their encoding, and verified."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from velax._ir.program import (
    ALIAS,
    ARENA,
    FORWARD,
    FRESH,
    INPUT,
    LITERAL,
    MAGIC,
    VERSION,
    Block,
    Call,
    Callback,
    Cond,
    Copy,
    Instruction,
    Launch,
    Loop,
    Output,
    Program,
    ProgramError,
    Slot,
    Swap,
    While,
)
from velax._ir.program_text import instruction_text

__all__ = ["decode", "verify"]

_MAX_BYTES = 1 << 46
_MAX_CALLBACKS = 1 << 20
_MAX_DEPTH = 200


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
    if reader.word() != MAGIC:
        raise ProgramError("not a program (wrong magic number)")
    version, total = reader.word(), reader.word()
    if version != VERSION:
        raise ProgramError(f"version {version}, but this is version {VERSION}")
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
        _require(
            program.inputs[output.input] == output.nbytes, f"output {j} and its input {output.input} differ in size"
        )
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
                raise ProgramError(
                    f"block {b}, instruction {i}, {instruction_text(program, instruction)}: {error}"
                ) from None
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
    _require(
        slot.offset + slot.nbytes <= room, f"slot {i}: bytes [{slot.offset}, {slot.offset + slot.nbytes}) of {room}"
    )


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
