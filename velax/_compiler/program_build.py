"""From steps and their memory layout to the program that the executor runs."""

from __future__ import annotations

from velax._compiler.memory import (
    ALIGN,
    CallbackStep,
    CallStep,
    CondStep,
    CopyStep,
    LaunchStep,
    Layout,
    LoopStep,
    Step,
    Storage,
    Value,
    WhileStep,
)
from velax._ir import program as ir

__all__ = ["build_program"]


def build_program(
    steps: list[Step],
    layout: Layout,
    inputs: list[Value],
    outputs: list[Value],
    kernel_names,
    scratch_bytes: int,
    callbacks: int,
) -> ir.Program:
    """Encode ``steps`` as blocks of instructions over slots.

    Args:
        inputs, outputs: the program's values, in order.
        kernel_names: names of every kernel that a step launches.
    """
    return _Build(layout, kernel_names).program(steps, inputs, outputs, scratch_bytes, callbacks)


class _Build:
    def __init__(self, layout: Layout, kernel_names):
        self.layout = layout
        self.kernels = {name: k for k, name in enumerate(kernel_names)}
        self.functions: dict[str, int] = {}
        self.slots: list[ir.Slot] = []
        self.slot_of: dict[Storage, int] = {}
        self.literals = bytearray()
        self.blocks: list[tuple] = []

    def program(self, steps, inputs, outputs, scratch_bytes, callbacks) -> ir.Program:
        self.blocks.append(())
        self.blocks[0] = self.block(steps)
        results = []
        for j, value in enumerate(outputs):
            if j in self.layout.forward:
                results.append(ir.Output.forward(self.layout.forward[j], value.nbytes))
            elif j in self.layout.alias:
                results.append(ir.Output.alias(self.layout.alias[j], value.nbytes))
            else:
                results.append(ir.Output.fresh(value.nbytes))
        return ir.Program(
            inputs=tuple(value.nbytes for value in inputs),
            outputs=tuple(results),
            slots=tuple(self.slots),
            blocks=tuple(self.blocks),
            kernels=tuple(self.kernels),
            functions=tuple(self.functions),
            literals=bytes(self.literals),
            arena_bytes=self.layout.arena_bytes,
            scratch_bytes=scratch_bytes,
            callbacks=callbacks,
            work=int(_work(steps)),
        )

    def slot(self, value: Value) -> int:
        """The slot of a value: one for each storage, so that swapping two exchanges all that lies there."""
        storage = value.storage
        found = self.slot_of.get(storage)
        if found is None:
            found = self.slot_of[storage] = len(self.slots)
            self.slots.append(self._make_slot(value, storage))
        return found

    def _make_slot(self, value: Value, storage: Storage) -> ir.Slot:
        if value.kind == "literal":
            self.literals += bytes(-len(self.literals) % ALIGN)
            offset = len(self.literals)
            self.literals += value.data
            return ir.Slot.literal(offset, value.nbytes)
        if storage.output is not None and storage.output not in self.layout.forward:
            return ir.Slot.output(storage.output, value.nbytes)
        if storage.input is not None:
            return ir.Slot.input(storage.input, value.nbytes)
        return ir.Slot.arena(storage.offset, value.nbytes)

    def new_block(self, steps) -> int:
        number = len(self.blocks)
        self.blocks.append(())
        self.blocks[number] = self.block(steps)
        return number

    def block(self, steps) -> tuple:
        result = []
        for step in steps:
            match step:
                case LaunchStep():
                    slots = tuple(self.slot(v) for v in step.values)
                    result.append(ir.Launch(self.kernels[step.kernel], slots, step.extents, step.total, step.grain))
                case CopyStep():
                    forwarded = step.dst.kind == "output" and step.dst.index in self.layout.forward
                    if (
                        step.dst.storage is step.src.storage
                        or step.dst.nbytes == 0
                        or step.src.kind == "empty"
                        or forwarded
                    ):
                        continue
                    a, b = self.slot(step.dst), self.slot(step.src)
                    result.append(ir.Swap(a, b) if step.swap else ir.Copy(a, 0, b, 0, step.dst.nbytes))
                case CallStep():
                    function = self.functions.setdefault(step.function, len(self.functions))
                    result.append(ir.Call(function, tuple(self.slot(v) for v in step.values), step.params))
                case WhileStep():
                    cond = self.new_block(step.cond)
                    result.append(ir.While(cond, self.slot(step.pred), self.new_block(step.body)))
                case LoopStep():
                    if step.trip_count:
                        body = self.new_block(step.body)
                        result.append(ir.Loop(step.trip_count, self.slot(step.counter), body, step.reverse))
                case CondStep():
                    blocks = tuple(self.new_block(branch) for branch in step.branches)
                    result.append(ir.Cond(self.slot(step.index), blocks))
                case CallbackStep():
                    ins = tuple(self.slot(v) for v in step.inputs)
                    result.append(ir.Callback(step.callback, ins, tuple(self.slot(v) for v in step.outputs)))
                case _:
                    raise TypeError(f"not a step: {step!r}")
        return tuple(result)


def _work(steps) -> float:
    """Estimated nanoseconds on one thread; loops of unknown length count as long."""
    total = 0.0
    for step in steps:
        match step:
            case LaunchStep() | CallStep():
                total += step.work + 20
            case CopyStep():
                total += step.dst.nbytes * 0.03 + 10
            case WhileStep():
                total += 1e6 + _work(step.body)
            case LoopStep():
                total += step.trip_count * _work(step.body)
            case CondStep():
                total += max(map(_work, step.branches), default=0.0)
            case CallbackStep():
                total += 1e4
    return min(total, 1e15)
