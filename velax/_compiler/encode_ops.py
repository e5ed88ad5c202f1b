"""The loop IR's operations as instructions on registers: the half of `velax._compiler.encode` that knows what
they mean.
"""

from __future__ import annotations

import struct

from velax._compiler import x86
from velax._compiler.x86 import Assembler, Label
from velax._ir.loops import SIGNED, WIDTH, Binary, Bitcast, Cast, Const, Expr, Fma, Select, Unary

__all__ = ["NotEncodable", "Operations", "is_float"]

SIGNED_DTYPES = frozenset(SIGNED)
_SIGNED_CONDITIONS = {"lt": x86.LESS, "le": x86.NOT_GREATER, "gt": x86.GREATER, "ge": x86.NOT_LESS}
_UNSIGNED_CONDITIONS = {"lt": x86.BELOW, "le": x86.NOT_ABOVE, "gt": x86.ABOVE, "ge": x86.NOT_BELOW}
_EQUALITY = {"eq": x86.EQUAL, "ne": x86.NOT_EQUAL}
_ROUNDING = {"rint": 8, "floor": 9, "ceil": 10, "trunc": 11}
_FLOAT_OPCODES = {"add": 0x58, "mul": 0x59, "sub": 0x5C, "div": 0x5E}


class NotEncodable(Exception):
    """The kernel uses something that only the LLVM path makes code for."""


def is_float(dtype: str) -> bool:
    """Of the dtypes that are encoded: whether values live in vector registers."""
    return dtype == "f32" or dtype == "f64"


class Operations:
    """Every method encodes one expression, whose operands have been computed. Integers are kept extended to 64 bits.

    rax, rdx, xmm0 and xmm1 are free for use within one operation.
    """

    def __init__(self):
        self.asm = Assembler()

    def get(self, e: Expr) -> int:
        """The register of a value."""
        raise NotImplementedError

    def take(self, e: Expr) -> int:
        """A free register, from now on that of ``e``."""
        raise NotImplementedError

    def load_constant(self, register: int, e: Const) -> None:
        if not is_float(e.dtype):
            self.asm.constant(register, int(e.value))
            return
        double = e.dtype == "f64"
        value = float(e.value) if e.value == e.value else float("nan")
        bits = struct.unpack("<Q" if double else "<I", struct.pack("<d" if double else "<f", value))[0]
        self.float_constant(register, bits, double)

    def float_constant(self, register: int, bits: int, double: bool) -> None:
        """Overwrites rax."""
        if bits == 0:
            self.asm.float_bits(0x57, register, register, register)
        else:
            self.asm.constant(x86.RAX, bits)
            self.asm.bits_to_float(double, register, x86.RAX)

    def unary(self, e: Unary) -> None:
        asm, op, dtype = self.asm, e.op, e.dtype
        x = self.get(e.x)
        to = self.take(e)
        if is_float(dtype):
            double = dtype == "f64"
            if op == "sqrt":
                asm.float_op(0x51, double, to, x, x)
            elif op in _ROUNDING:
                asm.float_round(double, to, x, _ROUNDING[op])
            else:
                self.float_constant(0, 1 << (63 if double else 31), double)
                asm.float_bits({"neg": 0x57, "abs": 0x55}[op], to, 0, x)
            return
        bits, signed = WIDTH[dtype], dtype in SIGNED_DTYPES
        if op in ("clz", "popcount"):
            asm.extend(x86.RAX, x, bits, False)
            if op == "popcount":
                asm.count_ones(to, x86.RAX)
            else:
                asm.count_leading_zeros(to, x86.RAX)
                asm.add_constant(to, bits - 64)
            return
        asm.move(to, x)
        if op == "abs":
            if signed:
                asm.negate(to)
                asm.move_if(x86.SIGN, to, x)
        elif dtype == "bool":
            asm.constant(x86.RAX, 1)
            asm.xor(to, x86.RAX)
        elif op == "neg":
            asm.negate(to)
        else:
            asm.invert(to)
        self.wrap(to, dtype)

    def wrap(self, register: int, dtype: str) -> None:
        """The lowest bits of an integer, extended again."""
        if dtype != "bool" and WIDTH[dtype] < 64:
            self.asm.extend(register, register, WIDTH[dtype], dtype in SIGNED_DTYPES)

    def binary(self, e: Binary) -> None:
        asm, op, dtype = self.asm, e.op, e.x.dtype
        x, y = self.get(e.x), self.get(e.y)
        to = self.take(e)
        if is_float(dtype):
            self.float_binary(op, dtype == "f64", to, x, y)
            return
        signed = dtype in SIGNED_DTYPES
        condition = _EQUALITY.get(op)
        if condition is None:
            condition = (_SIGNED_CONDITIONS if signed else _UNSIGNED_CONDITIONS).get(op)
        if condition is not None:
            asm.compare(x, y)
            asm.set_if(condition, to)
        elif op in ("min", "max"):
            order = "gt" if op == "min" else "lt"
            asm.move(to, x)
            asm.compare(x, y)
            asm.move_if((_SIGNED_CONDITIONS if signed else _UNSIGNED_CONDITIONS)[order], to, y)
        elif op in ("div", "rem"):
            self.divide(op, dtype, to, x, y)
        elif op == "mulhi":
            self.multiply_high(dtype, to, x, y)
        elif op in ("shl", "shrl", "shra"):
            self.shift(op, dtype, to, x, y)
        else:
            asm.move(to, x)
            _INTEGER_OPS[op](asm, to, y)
            if op in ("add", "sub", "mul"):
                self.wrap(to, dtype)

    def divide(self, op: str, dtype: str, to: int, x: int, y: int) -> None:
        asm, signed = self.asm, dtype in SIGNED_DTYPES
        by_zero, by_minus_one, end = Label(), Label(), Label()
        asm.test(y, y)
        asm.jump(by_zero, x86.EQUAL)
        if signed:
            asm.compare_constant(y, -1)
            asm.jump(by_minus_one, x86.EQUAL)
        asm.move(x86.RAX, x)
        asm.divide(y, signed)
        asm.move(to, x86.RAX if op == "div" else x86.RDX)
        asm.jump(end)
        if signed:
            asm.place(by_minus_one)
            if op == "div":
                asm.move(to, x)
                asm.negate(to)
                self.wrap(to, dtype)
            else:
                asm.constant(to, 0)
            asm.jump(end)
        asm.place(by_zero)
        if op == "div":
            asm.constant(to, -1)
            self.wrap(to, dtype)
        else:
            asm.move(to, x)
        asm.place(end)

    def multiply_high(self, dtype: str, to: int, x: int, y: int) -> None:
        asm, bits, signed = self.asm, WIDTH[dtype], dtype in SIGNED_DTYPES
        if bits == 64:
            asm.move(x86.RAX, x)
            asm.multiply_high(y, signed)
            asm.move(to, x86.RDX)
        else:
            asm.move(to, x)
            asm.multiply(to, y)
            asm.shift_right(to, bits, signed)
            self.wrap(to, dtype)

    def shift(self, op: str, dtype: str, to: int, x: int, y: int) -> None:
        asm, bits = self.asm, WIDTH[dtype]
        # Extended, a negative count is a large one.
        if op == "shra":
            asm.extend(x86.RAX, x, bits, True)
            asm.constant(x86.RDX, bits - 1)
            asm.compare(y, x86.RDX)
            asm.move_if(x86.BELOW, x86.RDX, y)
            asm.shift(op, to, x86.RAX, x86.RDX)
        else:
            asm.extend(x86.RAX, x, bits, False)
            asm.shift(op, to, x86.RAX, y)
            asm.constant(x86.RAX, 0)
            asm.compare_constant(y, bits)
            asm.move_if(x86.NOT_BELOW, to, x86.RAX)
        self.wrap(to, dtype)

    def float_binary(self, op: str, double: bool, to: int, x: int, y: int) -> None:
        asm = self.asm
        opcode = _FLOAT_OPCODES.get(op)
        if opcode is not None:
            asm.float_op(opcode, double, to, x, y)
        elif op in ("eq", "ne"):
            asm.float_compare(double, x, y)
            asm.set_if(_EQUALITY[op], to)
            asm.set_if(x86.NO_PARITY if op == "eq" else x86.PARITY, x86.RAX)
            (asm.and_ if op == "eq" else asm.or_)(to, x86.RAX)
        elif op in ("lt", "le", "gt", "ge"):
            if op in ("lt", "le"):
                x, y = y, x
            asm.float_compare(double, x, y)
            asm.set_if(x86.ABOVE if op in ("lt", "gt") else x86.NOT_BELOW, to)
        elif op in ("min", "max"):
            unordered, greater, less, end = Label(), Label(), Label(), Label()
            asm.float_compare(double, x, y)
            asm.jump(unordered, x86.PARITY)
            asm.jump(greater, x86.ABOVE)
            asm.jump(less, x86.BELOW)
            # Equal: only the sign of zeros can differ.
            asm.float_bits(0x56 if op == "min" else 0x54, to, x, y)
            asm.jump(end)
            asm.place(unordered)
            asm.float_op(_FLOAT_OPCODES["add"], double, to, x, y)
            asm.jump(end)
            asm.place(greater)
            asm.float_move(to, y if op == "min" else x)
            asm.jump(end)
            asm.place(less)
            asm.float_move(to, x if op == "min" else y)
            asm.place(end)
        elif op == "copysign":
            self.float_constant(0, 1 << (63 if double else 31), double)
            asm.float_bits(0x55, 1, 0, x)
            asm.float_bits(0x54, 0, 0, y)
            asm.float_bits(0x56, to, 0, 1)
        else:
            raise NotEncodable(f"{op} of floats")

    def fma(self, e: Fma) -> None:
        x, y, z = self.get(e.x), self.get(e.y), self.get(e.z)
        to = self.take(e)
        self.asm.float_move(to, x)
        self.asm.multiply_add(e.dtype == "f64", to, y, z)

    def select(self, e: Select) -> None:
        asm = self.asm
        cond, x, y = self.get(e.cond), self.get(e.x), self.get(e.y)
        to = self.take(e)
        if is_float(e.dtype):
            end = Label()
            asm.float_move(to, x)
            asm.test(cond, cond)
            asm.jump(end, x86.NOT_EQUAL)
            asm.float_move(to, y)
            asm.place(end)
        else:
            asm.move(to, y)
            asm.test(cond, cond)
            asm.move_if(x86.NOT_EQUAL, to, x)

    def cast(self, e: Cast) -> None:
        asm, source, dtype = self.asm, e.x.dtype, e.dtype
        x = self.get(e.x)
        to = self.take(e)
        if is_float(source):
            double = source == "f64"
            if source == dtype:
                asm.float_move(to, x)
            elif is_float(dtype):
                asm.float_op(0x5A, double, to, x, x)
            elif dtype == "bool":
                asm.float_bits(0x57, 0, 0, 0)
                self.float_binary("ne", double, to, x, 0)
            else:
                self.float_to_int(double, dtype, to, x)
        elif is_float(dtype):
            self.int_to_float(source, dtype == "f64", to, x)
        elif dtype == "bool":
            asm.test(x, x)
            asm.set_if(x86.NOT_EQUAL, to)
        else:
            asm.move(to, x)
            self.wrap(to, dtype)

    def int_to_float(self, source: str, double: bool, to: int, x: int) -> None:
        asm = self.asm
        if source != "u64":
            asm.int_to_float(double, to, x)
            return
        large, end = Label(), Label()
        asm.test(x, x)
        asm.jump(large, x86.SIGN)
        asm.int_to_float(double, to, x)
        asm.jump(end)
        asm.place(large)
        # Half of it, with the lost bit kept so that rounding sees it, twice.
        asm.move(x86.RAX, x)
        asm.move(x86.RDX, x)
        asm.shift_right(x86.RAX, 1, signed=False)
        asm.op(b"\x83", 4, x86.RDX)
        asm.code.append(1)
        asm.or_(x86.RAX, x86.RDX)
        asm.int_to_float(double, to, x86.RAX)
        asm.float_op(_FLOAT_OPCODES["add"], double, to, to, to)
        asm.place(end)

    def float_to_int(self, double: bool, dtype: str, to: int, x: int) -> None:
        """Toward zero; out of range to the nearest end, NaN to 0."""
        asm, bits, signed = self.asm, WIDTH[dtype], dtype in SIGNED_DTYPES
        end = Label()
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        asm.constant(to, 0)
        asm.float_compare(double, x, x)
        asm.jump(end, x86.PARITY)
        if bits < 64:
            # Both ends are doubles.
            if double:
                asm.float_move(0, x)
            else:
                asm.float_op(0x5A, False, 0, x, x)
            for opcode, limit in ((0x5F, low), (0x5D, high)):
                self.float_constant(1, struct.unpack("<Q", struct.pack("<d", limit))[0], True)
                asm.float_op(opcode, True, 0, 0, 1)
            asm.float_to_int(True, to, 0)
        else:
            over = self.float_limit(1, 64 if not signed else 63, double)
            if not signed:
                asm.float_bits(0x57, 0, 0, 0)
                asm.float_compare(double, x, 0)
                asm.jump(end, x86.NOT_ABOVE)
            asm.constant(to, high)
            asm.float_compare(double, x, over)
            asm.jump(end, x86.NOT_BELOW)
            asm.float_to_int(double, to, x)
            if not signed:
                half = self.float_limit(1, 63, double)
                asm.float_compare(double, x, half)
                asm.jump(end, x86.BELOW)
                asm.float_op(0x5C, double, 0, x, half)
                asm.float_to_int(double, to, 0)
                asm.constant(x86.RAX, 1 << 63)
                asm.xor(to, x86.RAX)
        asm.place(end)

    def float_limit(self, register: int, exponent: int, double: bool) -> int:
        """``2**exponent`` in ``register``."""
        form = ("<Q", "<d") if double else ("<I", "<f")
        self.float_constant(register, struct.unpack(form[0], struct.pack(form[1], 2.0**exponent))[0], double)
        return register

    def bitcast(self, e: Bitcast) -> None:
        asm, source, dtype = self.asm, e.x.dtype, e.dtype
        x = self.get(e.x)
        to = self.take(e)
        double = WIDTH[dtype] == 64
        if is_float(source) and is_float(dtype):
            asm.float_move(to, x)
        elif is_float(source):
            asm.float_to_bits(double, to, x)
            self.wrap(to, dtype)
        elif is_float(dtype):
            asm.bits_to_float(double, to, x)
        else:
            asm.move(to, x)
            self.wrap(to, dtype)


_INTEGER_OPS = {
    "add": Assembler.add, "sub": Assembler.sub, "mul": Assembler.multiply, "and": Assembler.and_, "or": Assembler.or_,
    "xor": Assembler.xor,
}  # fmt: skip
