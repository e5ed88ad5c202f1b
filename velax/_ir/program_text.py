"""Programs as text, for people."""

from __future__ import annotations

from collections.abc import Iterator

from velax._ir.program import Call, Callback, Cond, Copy, Instruction, Launch, Loop, Program, Swap, While

__all__ = ["instruction_text", "program_lines"]


def _named(names: tuple[str, ...], i: int) -> str:
    return names[i] if 0 <= i < len(names) else f"?{i}"


def _slot_list(slots: tuple[int, ...]) -> str:
    return ", ".join(f"%{s}" for s in slots)


def instruction_text(program: Program, instruction: Instruction) -> str:
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


def program_lines(program: Program) -> Iterator[str]:
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
            yield f"  {instruction_text(program, instruction)}"
