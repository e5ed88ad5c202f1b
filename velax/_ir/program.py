"""The program: what the executor runs. Plain data: slots of memory, and blocks of instructions over them.

Grammar::

    program     ::= Program(inputs, outputs, slots, blocks, kernels, functions, literals, ...)
    output      ::= fresh(nbytes) | forward(input) | alias(input)
    slot        ::= INPUT(k) | OUTPUT(j) | ARENA | LITERAL, each a byte range [offset, offset + nbytes)
    instruction ::= Launch | Copy | Swap | Call | While | Loop | Cond | Callback

Semantics:

* An execution begins at block 0 and runs instructions in order; an instruction that names blocks runs them in
  place. No block reaches itself.
* ``fresh`` output memory has unspecified contents at the start, like the arena. A ``forward`` output is the
  input's own buffer. An ``alias`` output starts with the contents of its input, and from then on the slots of
  that input and of that output are the same memory: the input's own if it was donated and nobody else refers
  to it, else a copy, so a program means the same either way.
* Slots may overlap. ``INPUT`` slots (unless aliased) and ``LITERAL`` slots are never written; what a kernel
  or library function writes is not checked.
* `Launch` calls the kernel for the chunks ``[0, grain), [grain, 2 * grain), ...`` of ``[0, total)``, on
  several threads and in any order, or once for everything if ``total <= grain``. How chunks are cut does not
  depend on the threads. ``total == 0`` calls nothing.
* `Swap` exchanges where two arena slots are, for the rest of the execution (or until swapped again).
* `While` runs ``cond``, then ends if the byte at ``pred`` is 0, else runs ``body`` and starts over.
* `Loop` writes 0, 1, ... ``trip_count - 1`` (downwards if ``reverse``) as i64 to ``counter`` before each run
  of ``body``.
* `Cond` runs the block that the i32 at ``index`` selects, clamped to the first or last.
* `Callback` calls entry ``callback`` of the executable's table with copies of ``inputs`` and writes its
  results to ``outputs``.

The encoding is described in ``native/program.h``; the executor checks it again by the rules of
`velax._ir.program_check.verify`.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from velax._lang.record import Record

__all__ = [
    "ALIAS", "ARENA", "FORWARD", "FRESH", "INPUT", "LITERAL", "OUTPUT", "Block", "Call", "Callback", "Cond", "Copy",
    "Instruction",
    "Launch", "Loop", "Output", "Program", "ProgramError", "Slot", "Swap", "While", "encode",
]  # fmt: skip

INPUT, OUTPUT, ARENA, LITERAL = range(4)
FRESH, FORWARD, ALIAS = range(3)

_SLOT_NAMES = ("input", "output", "arena", "literal")
_OUTPUT_NAMES = ("fresh", "forward", "alias")
MAGIC = int.from_bytes(b"VLXPROG0", "little")
VERSION = 1


class ProgramError(ValueError):
    """A program that breaks a rule of this form; the text says which and where."""


class Slot(Record):
    """``nbytes`` bytes at ``offset`` of input or output ``index``, of the arena, or of the literal pool
    (``index`` 0).
    """

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


class Output(Record):
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


class Launch(Record):
    opcode: ClassVar[int] = 1
    kernel: int
    slots: tuple[int, ...]
    extents: tuple[int, ...]
    total: int
    grain: int


class Copy(Record):
    opcode: ClassVar[int] = 2
    dst: int
    dst_offset: int
    src: int
    src_offset: int
    nbytes: int


class Swap(Record):
    opcode: ClassVar[int] = 3
    a: int
    b: int


class Call(Record):
    opcode: ClassVar[int] = 4
    function: int
    slots: tuple[int, ...]
    params: tuple[int, ...] = ()


class While(Record):
    opcode: ClassVar[int] = 5
    cond: int
    pred: int
    body: int


class Loop(Record):
    opcode: ClassVar[int] = 6
    trip_count: int
    counter: int
    body: int
    reverse: bool = False


class Cond(Record):
    opcode: ClassVar[int] = 7
    index: int
    blocks: tuple[int, ...]


class Callback(Record):
    opcode: ClassVar[int] = 8
    callback: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Instruction = Launch | Copy | Swap | Call | While | Loop | Cond | Callback
Block = tuple[Instruction, ...]


class Program(Record):
    """A whole program; ``str`` prints it, `encode` serialises it.

    inputs: size of each input in bytes.  kernels, functions: names that `Launch` and `Call` index.  literals:
      the constant pool.
    scratch_bytes: what each thread has in ``Ctx.scratch``.  callbacks: how many the executable must supply.
    work: estimated nanoseconds on one thread, -1 if unknown (small ones keep the GIL).
    """

    inputs: tuple[int, ...]
    outputs: tuple[Output, ...]
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    kernels: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    literals: bytes = b""
    arena_bytes: int = 0
    scratch_bytes: int = 0
    callbacks: int = 0
    work: int = -1

    def __str__(self) -> str:
        from velax._ir.program_text import program_lines  # for people alone

        return "\n".join(program_lines(self))


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
    """The program as the stream of words that ``_native.Executable`` takes. `velax._ir.program_check.decode`
    is its inverse.
    """

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
    return words(MAGIC, VERSION, 3 + len(body) // 8) + body
