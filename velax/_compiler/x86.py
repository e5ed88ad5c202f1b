"""An assembler for the x86-64 instructions that `velax._compiler.encode` uses.

Operands are register numbers or `Mem`. Instructions on vectors are in their three-operand (VEX) form on
single elements. Encodings: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
"""

from __future__ import annotations

import struct

__all__ = ["Assembler", "Label", "Mem"]

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

#: condition codes of ``jcc``, ``setcc`` and ``cmovcc``
BELOW, NOT_BELOW, EQUAL, NOT_EQUAL, NOT_ABOVE, ABOVE = 0x2, 0x3, 0x4, 0x5, 0x6, 0x7
SIGN, PARITY, NO_PARITY, LESS, NOT_LESS, NOT_GREATER, GREATER = 0x8, 0xA, 0xB, 0xC, 0xD, 0xE, 0xF

#: the field of a VEX prefix that stands for a legacy prefix
_PREFIX = {0x00: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}


class Mem:
    """``[base + index * scale + disp]``."""

    __slots__ = ("base", "disp", "index", "scale")

    def __init__(self, base: int, disp: int = 0, index: int | None = None, scale: int = 1):
        self.base, self.disp, self.index, self.scale = base, disp, index, scale


class Label:
    """A place in the code, and the jumps to it that wait until it is known."""

    __slots__ = ("at", "waiting")

    def __init__(self):
        self.at: int | None = None
        self.waiting: list[int] = []


class Assembler:
    """Collects machine code in ``code``."""

    def __init__(self):
        self.code = bytearray()

    # -- operands ---------------------------------------------------------------------------------

    def _modrm(self, reg: int, operand) -> bytes:
        reg = (reg & 7) << 3
        if type(operand) is int:
            return bytes((0xC0 | reg | operand & 7,))
        base, disp, index, scale = operand.base, operand.disp, operand.index, operand.scale
        if disp == 0 and base & 7 != 5:
            mode, tail = 0x00, b""
        elif -128 <= disp < 128:
            mode, tail = 0x40, struct.pack("<b", disp)
        else:
            mode, tail = 0x80, struct.pack("<i", disp)
        if index is None and base & 7 != 4:
            return bytes((mode | reg | base & 7,)) + tail
        number = 4 if index is None else index & 7
        shift = {1: 0, 2: 1, 4: 2, 8: 3}[scale]
        return bytes((mode | reg | 4, shift << 6 | number << 3 | base & 7)) + tail

    def _extensions(self, reg: int, operand) -> tuple[int, int, int]:
        """The high bits of the numbers of ``reg``, the index and the base."""
        if type(operand) is int:
            return reg >> 3, 0, operand >> 3
        return reg >> 3, (operand.index or 0) >> 3, operand.base >> 3

    def op(self, opcode: bytes, reg: int, operand, wide: bool = True, prefix: bytes = b"", byte: bool = False) -> None:
        """An instruction of the legacy form. ``byte``: a register operand is its lowest byte."""
        r, x, b = self._extensions(reg, operand)
        rex = wide << 3 | r << 2 | x << 1 | b
        self.code += prefix
        if rex or byte:
            self.code.append(0x40 | rex)
        self.code += opcode
        self.code += self._modrm(reg, operand)

    def vex(self, opcode: int, prefix: int, reg: int, first: int, operand, space: int = 1, wide: bool = False) -> None:
        """An instruction of the VEX form. ``space``: 1 for opcodes after ``0F``, 2 after ``0F 38``, 3 after
        ``0F 3A``.
        """
        r, x, b = self._extensions(reg, operand)
        code = self.code
        code.append(0xC4)
        code.append((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | space)
        code.append(wide << 7 | (~first & 15) << 3 | _PREFIX[prefix])
        code.append(opcode)
        code += self._modrm(reg, operand)

    # -- integers ---------------------------------------------------------------------------------

    def move(self, to: int, operand, wide: bool = True) -> None:
        if to != operand or not wide:
            self.op(b"\x8b", to, operand, wide)

    def constant(self, to: int, value: int) -> None:
        """Leaves the flags alone."""
        value &= (1 << 64) - 1
        if value < 1 << 32:
            if to >= 8:
                self.code.append(0x41)
            self.code.append(0xB8 | to & 7)
            self.code += struct.pack("<I", value)
        elif value >= (1 << 64) - (1 << 31):
            self.op(b"\xc7", 0, to)
            self.code += struct.pack("<i", value - (1 << 64))
        else:
            self.code.append(0x48 | to >> 3)
            self.code.append(0xB8 | to & 7)
            self.code += struct.pack("<Q", value)

    def add(self, to: int, operand) -> None:
        self.op(b"\x03", to, operand)

    def sub(self, to: int, operand) -> None:
        self.op(b"\x2b", to, operand)

    def and_(self, to: int, operand) -> None:
        self.op(b"\x23", to, operand)

    def or_(self, to: int, operand) -> None:
        self.op(b"\x0b", to, operand)

    def xor(self, to: int, operand) -> None:
        self.op(b"\x33", to, operand)

    def compare(self, x: int, operand) -> None:
        self.op(b"\x3b", x, operand)

    def compare_constant(self, operand, value: int) -> None:
        """``value`` has 32 bits and a sign."""
        self.op(b"\x81", 7, operand)
        self.code += struct.pack("<i", value)

    def add_constant(self, operand, value: int) -> None:
        """``value`` has 32 bits and a sign."""
        self.op(b"\x81", 0, operand)
        self.code += struct.pack("<i", value)

    def test(self, x: int, y: int) -> None:
        self.op(b"\x85", x, y)

    def multiply(self, to: int, operand) -> None:
        self.op(b"\x0f\xaf", to, operand)

    def negate(self, x: int) -> None:
        self.op(b"\xf7", 3, x)

    def invert(self, x: int) -> None:
        self.op(b"\xf7", 2, x)

    def shift_right(self, x: int, count: int, signed: bool) -> None:
        self.op(b"\xc1", 7 if signed else 5, x)
        self.code.append(count)

    def shift(self, kind: str, to: int, x: int, count: int) -> None:
        """``to = x shl/shrl/shra count``, the count taken modulo 64 (BMI2)."""
        self.vex(0xF7, {"shl": 0x66, "shra": 0xF3, "shrl": 0xF2}[kind], to, count, x, space=2, wide=True)

    def divide(self, y: int, signed: bool) -> None:
        """``rax, rdx = rax div y, rax rem y``; overwrites both."""
        if signed:
            self.code += b"\x48\x99"
        else:
            self.op(b"\x33", RDX, RDX, wide=False)
        self.op(b"\xf7", 7 if signed else 6, y)

    def multiply_high(self, y: int, signed: bool) -> None:
        """``rdx:rax = rax * y``."""
        self.op(b"\xf7", 5 if signed else 4, y)

    def count_leading_zeros(self, to: int, x: int) -> None:
        self.op(b"\x0f\xbd", to, x, prefix=b"\xf3")

    def count_ones(self, to: int, x: int) -> None:
        self.op(b"\x0f\xb8", to, x, prefix=b"\xf3")

    def move_if(self, condition: int, to: int, operand) -> None:
        self.op(bytes((0x0F, 0x40 | condition)), to, operand)

    def set_if(self, condition: int, to: int) -> None:
        """``to`` becomes 1 or 0, all of it; leaves the flags alone."""
        self.op(bytes((0x0F, 0x90 | condition)), 0, to, wide=False, byte=True)
        self.op(b"\x0f\xb6", to, to, wide=False, byte=True)

    def extend(self, to: int, operand, bits: int, signed: bool) -> None:
        """``to`` becomes the lowest ``bits`` of a register, or a memory operand of that width, extended to 64 bits."""
        if bits == 64:
            self.move(to, operand)
        elif bits == 32:
            self.op(b"\x63" if signed else b"\x8b", to, operand, wide=signed)
        elif bits == 16:
            self.op(b"\x0f\xbf" if signed else b"\x0f\xb7", to, operand, wide=signed)
        else:
            self.op(b"\x0f\xbe" if signed else b"\x0f\xb6", to, operand, wide=signed, byte=True)

    def store(self, to: Mem, x: int, bits: int) -> None:
        if bits == 8:
            self.op(b"\x88", x, to, wide=False, byte=True)
        else:
            self.op(b"\x89", x, to, wide=bits == 64, prefix=b"\x66" if bits == 16 else b"")

    def push(self, x: int) -> None:
        self.code += bytes((0x41, 0x50 | x & 7)) if x >= 8 else bytes((0x50 | x,))

    def pop(self, x: int) -> None:
        self.code += bytes((0x41, 0x58 | x & 7)) if x >= 8 else bytes((0x58 | x,))

    # -- floats: ``double`` says which of the two formats -----------------------------------------

    def float_op(self, opcode: int, double: bool, to: int, x: int, operand) -> None:
        """``58`` add, ``59`` multiply, ``5C`` subtract, ``5D`` minimum, ``5E`` divide, ``5F`` maximum, ``51``
        square root of the operand, ``5A`` the operand in the other format."""
        self.vex(opcode, 0xF2 if double else 0xF3, to, x, operand)

    def float_bits(self, opcode: int, to: int, x: int, y: int) -> None:
        """On whole registers: ``54`` and, ``55`` and with ``x`` inverted, ``56`` or, ``57`` exclusive or."""
        self.vex(opcode, 0x66, to, x, y)

    def float_move(self, to: int, x: int) -> None:
        if to != x:
            self.vex(0x28, 0x66, to, 0, x)

    def float_load(self, double: bool, to: int, operand: Mem) -> None:
        self.vex(0x10, 0xF2 if double else 0xF3, to, 0, operand)

    def float_store(self, double: bool, to: Mem, x: int) -> None:
        self.vex(0x11, 0xF2 if double else 0xF3, x, 0, to)

    def float_compare(self, double: bool, x: int, operand) -> None:
        """Sets the flags as an unsigned comparison does, and all of carry, zero and parity where one is NaN."""
        self.vex(0x2E, 0x66 if double else 0x00, x, 0, operand)

    def float_round(self, double: bool, to: int, x: int, mode: int) -> None:
        """``mode``: 8 to nearest even, 9 down, 10 up, 11 toward zero."""
        self.vex(0x0B if double else 0x0A, 0x66, to, x, x, space=3)
        self.code.append(mode)

    def multiply_add(self, double: bool, to: int, y: int, z: int) -> None:
        """``to = to * y + z``, rounded once."""
        self.vex(0xA9, 0x66, to, y, z, space=2, wide=double)

    def int_to_float(self, double: bool, to: int, x: int) -> None:
        self.float_bits(0x57, to, to, to)
        self.vex(0x2A, 0xF2 if double else 0xF3, to, to, x, wide=True)

    def float_to_int(self, double: bool, to: int, x: int) -> None:
        """Toward zero; ``2**63`` where it does not fit."""
        self.vex(0x2C, 0xF2 if double else 0xF3, to, 0, x, wide=True)

    def bits_to_float(self, double: bool, to: int, x: int) -> None:
        self.vex(0x6E, 0x66, to, 0, x, wide=double)

    def float_to_bits(self, double: bool, to: int, x: int) -> None:
        self.vex(0x7E, 0x66, x, 0, to, wide=double)

    # -- control ----------------------------------------------------------------------------------

    def jump(self, label: Label, condition: int | None = None) -> None:
        self.code += b"\xe9" if condition is None else bytes((0x0F, 0x80 | condition))
        label.waiting.append(len(self.code))
        self.code += bytes(4)
        if label.at is not None:
            self.place(label, label.at)

    def place(self, label: Label, at: int | None = None) -> None:
        """``label`` is here."""
        label.at = len(self.code) if at is None else at
        for where in label.waiting:
            struct.pack_into("<i", self.code, where, label.at - where - 4)
        label.waiting.clear()
