"""The program form: encoding, verifier and printer, and that the native decoder agrees with them."""

import random
import struct

import pytest

from velax import _native
from velax._ir.program import (
    Call,
    Callback,
    Cond,
    Copy,
    Launch,
    Loop,
    Output,
    Program,
    ProgramError,
    Slot,
    Swap,
    While,
    encode,
)
from velax._ir.program_check import decode, verify


def full_program() -> Program:
    """Every kind of slot, output and instruction."""
    return Program(
        inputs=(64, 32),
        outputs=(Output.fresh(64), Output.forward(0, 64), Output.alias(1, 32)),
        slots=(
            Slot.input(0, 64), Slot.input(1, 16, offset=16), Slot.output(0, 64), Slot.output(2, 32),
            Slot.arena(0, 8), Slot.arena(64, 64), Slot.arena(128, 64), Slot.literal(0, 13),
        ),
        blocks=(
            (Launch(0, (0, 2), (16,), 16, 16), Copy(5, 0, 0, 32, 32), Loop(3, 4, 1), Cond(4, (2, 3)), While(2, 4, 3)),
            (Swap(5, 6), Call(0, (5, 6, 7), (1, -1)), Launch(1, (3,), (), 1000, 64)),
            (Callback(0, (4, 0), (2,)),),
            (),
        ),
        kernels=("scale", "work"), functions=("velax_sort_f32",), literals=b"thirteen byte", arena_bytes=192,
        scratch_bytes=4096, callbacks=1, work=12345,
    )  # fmt: skip


def test_encode_decode_round_trip():
    program = full_program()
    verify(program)
    data = encode(program)
    assert len(data) % 8 == 0
    assert decode(data) == program
    assert encode(decode(data)) == data


def test_print():
    assert (
        str(full_program())
        == """\
program: arena 192 bytes, scratch 4096 bytes, literals 13 bytes, 1 callbacks, work 12345 ns
  input0: 64 bytes
  input1: 32 bytes
  output0: fresh 64 bytes
  output1: forward input0 64 bytes
  output2: alias input1 32 bytes
  %0 = input0[:64]
  %1 = input1[16:32]
  %2 = output0[:64]
  %3 = output2[:32]
  %4 = arena[0:8]
  %5 = arena[64:128]
  %6 = arena[128:192]
  %7 = literal[0:13]
block0:
  launch scale(%0, %2) extents [16] over 16
  copy %5[0:32] <- %0[32:64]
  loop %4 = 0..3: block1
  cond %4: block2, block3
  while block2 gives %4: block3
block1:
  swap %5 <-> %6
  call velax_sort_f32(%5, %6, %7; 1, -1)
  launch work(%3) over 1000 by 64 (16 chunks)
block2:
  callback 0(%4, %0) -> (%2)
block3:"""
    )


def simple(**changes) -> Program:
    base = dict(
        inputs=(64,),
        outputs=(Output.fresh(64),),
        slots=(Slot.input(0, 64), Slot.output(0, 64), Slot.arena(0, 64), Slot.arena(64, 32), Slot.literal(0, 8)),
        blocks=((),),
        kernels=("k",),
        functions=("velax_sort_f32",),
        literals=bytes(8),
        arena_bytes=96,
        callbacks=1,
    )
    return Program(**{**base, **changes})


BAD = {
    "there is no kernel 1": simple(blocks=((Launch(1, (), (), 1, 1),),)),
    "a launch over -1 in chunks of 1": simple(blocks=((Launch(0, (), (), -1, 1),),)),
    "a launch over 1 in chunks of 0": simple(blocks=((Launch(0, (), (), 1, 0),),)),
    "there is no slot 5": simple(blocks=((Launch(0, (0, 5), (), 1, 1),),)),
    "there is no slot -1": simple(blocks=((Copy(-1, 0, 0, 0, 1),),)),
    "there is no function 3": simple(blocks=((Call(3, ()),),)),
    "read-only": simple(blocks=((Copy(0, 0, 1, 0, 1),),)),
    "which is read-only": simple(blocks=((Copy(4, 0, 1, 0, 1),),)),
    "copy": simple(blocks=((Copy(1, 60, 0, 0, 8),),)),
    "in the arena": simple(blocks=((Swap(1, 2),),)),
    "different sizes": simple(blocks=((Swap(2, 3),),)),
    "there is no block 7": simple(blocks=((While(7, 2, 0),),)),
    "reaches itself": simple(blocks=((Loop(2, 2, 1),), (Cond(2, (2,)),), (While(1, 2, 2),))),
    "a trip count of -2": simple(blocks=((Loop(-2, 2, 1),), ())),
    "branches": simple(blocks=((Cond(2, ()),),)),
    "there is no callback 1": simple(blocks=((Callback(1, (), ()),),)),
    "there is no input 1": simple(slots=(Slot.input(1, 8),)),
    "there is no output 1": simple(slots=(Slot.output(1, 8),)),
    "of 96": simple(slots=(Slot.arena(64, 64),)),
    "no memory of its own": simple(outputs=(Output.forward(0, 64),)),
    "refers to input 2": simple(outputs=(Output.alias(2, 64),)),
    "differ in size": simple(outputs=(Output.alias(0, 32),), slots=()),
    "two outputs alias input 0": simple(outputs=(Output.alias(0, 64), Output.alias(0, 64))),
    "there are no blocks": simple(blocks=()),
    "nested more than": simple(blocks=tuple((Cond(2, (b + 1,)),) for b in range(300)) + ((),)),
}


@pytest.mark.parametrize("text", BAD)
def test_verifier_and_native_decoder_refuse(text):
    with pytest.raises(ProgramError, match=text):
        verify(BAD[text])
    # The words differ where Python shows the instruction and the native side numbers; what is refused does not.
    with pytest.raises(ValueError, match="program: "):
        _native.Executable(encode(BAD[text]), [], [], [], [])


def test_verifier_names_the_instruction():
    text = r"block 0, instruction 0, copy %0\[0:1\] <- %1\[0:1\]: writes slot 0 \(input0"
    with pytest.raises(ProgramError, match=text):
        verify(BAD["read-only"])


@pytest.mark.parametrize("cut", [0, 7, 8, 24, 64, 200, -8])
def test_truncated(cut):
    data = encode(full_program())[:cut]
    with pytest.raises(ProgramError):
        decode(data)
    with pytest.raises(ValueError, match="program: "):
        _native.Executable(data, [], [], [], [])


def test_decoders_agree_on_corrupt_streams():
    """Whatever happens to a stream, both sides say yes or both say no, and nothing crashes."""
    rng = random.Random(20)
    good = encode(full_program())
    seen = {True: 0, False: 0}
    for _ in range(4000):
        words = list(struct.unpack(f"<{len(good) // 8}q", good))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at = rng.randrange(len(words))
            extremes = -1, 1 << 40, (1 << 63) - 1, -(1 << 63)
            words[at] = rng.choice((0, 1, 2, 3, 5, 8, *extremes, words[at] // 2, words[at] ^ 4))
        data = struct.pack(f"<{len(words)}q", *words)
        try:
            verify(decode(data))
            python_accepts = True
        except ProgramError:
            python_accepts = False
        with pytest.raises((ValueError, MemoryError)) as info:
            _native.Executable(data, [], [], [], [])
        native_accepts = not str(info.value).startswith("program: ")
        assert python_accepts == native_accepts, (decode(data), info.value)
        seen[python_accepts] += 1
    assert min(seen.values()) > 100
