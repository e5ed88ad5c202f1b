"""Random programs against an interpreter of the program form."""

import random

import numpy as np
import pytest

from velax import _native
from velax._ir.program import Call, Cond, Copy, Loop, Output, Program, Slot, Swap, encode
from velax._ir.program_check import verify


def interpret(program, inputs):
    """What the program gives by the words of velax/_ir/program.py, for instructions that need no kernels."""
    inputs = [bytearray(data) for data in inputs]
    outputs = [bytearray(o.nbytes) if o.kind == 0 else bytearray(inputs[o.input]) for o in program.outputs]
    memory = {0: inputs, 1: outputs, 2: [bytearray(program.arena_bytes)], 3: [bytearray(program.literals)]}
    for j, output in enumerate(program.outputs):
        if output.kind == 2:
            memory[0][output.input] = outputs[j]
    where = [(slot.kind, slot.index, slot.offset) for slot in program.slots]

    def part(slot, offset, nbytes):
        kind, index, start = where[slot]
        return memory[kind][index], start + offset, start + offset + nbytes

    def read(slot, nbytes, offset=0):
        data, low, high = part(slot, offset, nbytes)
        return bytes(data[low:high])

    def write(slot, value, offset=0):
        data, low, high = part(slot, offset, len(value))
        data[low:high] = value

    def run(block):
        for instruction in program.blocks[block]:
            match instruction:
                case Copy(dst, dst_offset, src, src_offset, nbytes):
                    write(dst, read(src, nbytes, src_offset), dst_offset)
                case Swap(a, b):
                    where[a], where[b] = where[b], where[a]
                case Loop(trip_count, counter, body, reverse):
                    for i in range(trip_count)[:: -1 if reverse else 1]:
                        write(counter, i.to_bytes(8, "little"))
                        run(body)
                case Cond(index, blocks):
                    i = int.from_bytes(read(index, 4), "little", signed=True)
                    run(blocks[min(max(i, 0), len(blocks) - 1)])
                case Call(_, (source, target), (rows, n)):
                    data = read(source, rows * n)
                    write(target, b"".join(bytes(sorted(data[r * n : (r + 1) * n])) for r in range(rows)))

    run(0)
    return [bytes(output) for output in outputs]


def random_program(rng):
    """A valid program of copies, swaps, sorts, loops and conditionals; every output byte is written first."""
    size = 48
    outputs = Output.fresh(size), Output.alias(1, size), Output.forward(0, size)
    slots = [Slot.input(0, size), Slot.input(1, size), Slot.output(0, size), Slot.output(1, size)]
    for _ in range(6):
        slots.append(Slot.arena(rng.randrange(100), rng.choice((8, 16, 16, 24))))
    slots += [Slot.literal(rng.randrange(8), 8), Slot.literal(0, 16)]
    writable = [s for s, slot in enumerate(slots) if slot.kind in (1, 2) or (slot.kind == 0 and slot.index == 1)]
    arena = [s for s, slot in enumerate(slots) if slot.kind == 2]

    def instruction(block, blocks):
        inner = range(block + 1, blocks)
        kind = rng.choice(("copy", "copy", "swap", "call", "loop", "cond") if inner else ("copy", "swap", "call"))
        if kind == "copy":
            a, b = rng.choice(writable), rng.randrange(len(slots))
            n = rng.randrange(min(slots[a].nbytes, slots[b].nbytes) + 1)
            return Copy(a, rng.randrange(slots[a].nbytes - n + 1), b, rng.randrange(slots[b].nbytes - n + 1), n)
        if kind == "swap":
            a = rng.choice(arena)
            return Swap(a, rng.choice([b for b in arena if slots[b].nbytes == slots[a].nbytes]))
        if kind == "call":
            a = rng.choice(writable)
            rows = rng.choice((1, 2, 4))
            return Call(0, (a, a), (rows, slots[a].nbytes // rows))
        if kind == "loop":
            return Loop(rng.randrange(4), rng.choice(writable), rng.choice(inner), rng.random() < 0.5)
        return Cond(rng.randrange(len(slots)), tuple(rng.choices(inner, k=rng.randrange(1, 4))))

    blocks = []
    count = rng.randrange(1, 5)
    for b in range(count):
        blocks.append(tuple(instruction(b, count) for _ in range(rng.randrange(1, 6))))
    blocks[0] = (Copy(2, 0, 0, 0, size), *(Copy(s, 0, 11, 0, 8) for s in arena), Copy(3, 0, 0, 0, 20), *blocks[0])
    # The arena is defined everywhere before it is read.
    whole = len(slots)
    slots.append(Slot.arena(0, 128))
    fill = (*(Copy(whole, 16 * k, 11, 0, 16) for k in range(8)),)
    blocks[0] = (*fill, *blocks[0])
    literals = bytes(rng.randrange(256) for _ in range(16))
    fields = dict(functions=("velax_sort_u8",), literals=literals, arena_bytes=128, work=rng.choice((-1, 1)))
    return Program((size, size), outputs, tuple(slots), tuple(blocks), **fields)


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_against_an_interpreter(seed):
    rng = random.Random(seed)
    avals = [((48,), np.uint8, False)] * 3
    for _ in range(150):
        program = random_program(rng)
        verify(program)
        donated = rng.choice(((), (1,), (0, 1)))
        e = _native.Executable(encode(program), [], [], avals[:2], avals, donated=donated)
        data = [bytes(rng.randrange(256) for _ in range(48)) for _ in range(2)]
        expected = interpret(program, data)
        got = e.execute([_native.array_from_numpy(np.frombuffer(d, np.uint8)) for d in data])
        assert [np.asarray(y).tobytes() for y in got] == expected, str(program)
