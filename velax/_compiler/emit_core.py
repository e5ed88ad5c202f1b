"""The text side of emission: SSA values, nested scopes with preheaders, instructions shared by value numbering.

Every open loop has a preheader whose text stays open while the body is written. An instruction is placed at
the outermost scope in which its operands exist, so loop-invariant code moves out while it is written and no
pass has to move it later. Scopes close in order; what they defined is then forgotten, so a stale value cannot
be used.
"""

from __future__ import annotations

import struct

from velax._compiler.target import Target
from velax._ir.floats import round_float
from velax._ir.loops import FLOATS

__all__ = ["Out", "Scope", "Value", "Writer"]


class Value:
    """An SSA value or literal: its text, element type, lanes (0: scalar) and the depth of the scope that defines it."""

    __slots__ = ("const", "depth", "elem", "lanes", "ref", "ty")

    def __init__(self, ref: str, elem: str, lanes: int, depth: int, const=None):
        self.ref, self.elem, self.lanes, self.depth, self.const = ref, elem, lanes, depth, const
        self.ty = f"<{lanes} x {elem}>" if lanes else elem

    def __str__(self):
        return f"{self.ty} {self.ref}"


class Out:
    """Straight-line text under construction (nested lists are preheaders) and the label of the block it ends in."""

    __slots__ = ("block", "lines")

    def __init__(self, block: str):
        self.lines: list = []
        self.block = block


class Scope:
    """One level of visibility.

    ``depth`` is the level whose text it writes: its own, or for a copy of an unrolled body, the enclosing
    one. ``redirect``: where code that belongs here goes while an inner scope is open.
    """

    __slots__ = ("depth", "exprs", "keys", "out", "redirect")

    def __init__(self, depth: int, out: Out):
        self.depth, self.out = depth, out
        self.redirect: Scope | None = None
        self.exprs: list = []
        self.keys: list[str] = []


_SUFFIX = {"float": "f32", "double": "f64", "half": "f16"}


def suffix(elem: str, lanes: int) -> str:
    """The part of an intrinsic's name that states a type: ``v16f32``, ``i64``."""
    name = _SUFFIX.get(elem, elem)
    return f"v{lanes}{name}" if lanes else name


class Writer:
    """Places instructions in scopes. Everything with control flow goes through `Emitter`."""

    def __init__(self, target: Target):
        self.target = target
        self.native_half = target.has("avx512fp16")
        self.counter = 0
        self.declarations: dict[str, str] = {}
        self.numbered: dict[str, Value] = {}
        self.scopes: list[Scope] = [Scope(0, Out("entry"))]
        #: depth of the innermost conditional branch: code does not move out of it
        self.floor = 0
        self.memo: dict = {}
        self.memo_depth: dict = {}
        self.base_memo: dict = {}

    # Types and literals.

    def elem(self, dtype: str) -> str:
        """The register type of ``dtype``. Narrow floats without native arithmetic live as the equal ``float``."""
        if dtype == "f64":
            return "double"
        if dtype in FLOATS:
            return "half" if dtype == "f16" and self.native_half else "float"
        return "i1" if dtype == "bool" else f"i{dtype[1:]}"

    def literal(self, value, dtype: str) -> Value:
        elem = self.elem(dtype)
        if elem in ("float", "double", "half"):
            value = round_float(float(value), dtype)
            return Value(float_text(value, elem), elem, 0, 0, value)
        if dtype == "bool":
            return Value("true" if value else "false", "i1", 0, 0, bool(value))
        return Value(str(int(value)), elem, 0, 0, int(value))

    def int_literal(self, value: int, elem: str = "i64") -> Value:
        return Value(str(value), elem, 0, 0, value)

    # Scopes.

    @property
    def scope(self) -> Scope:
        return self.scopes[-1]

    @property
    def depth(self) -> int:
        return self.scopes[-1].depth

    def push(self, out: Out, preheader: bool = False) -> Scope:
        """Open a scope with its own text. That of the enclosing one is out of reach until it closes, unless
        it is a ``preheader``.
        """
        scope = Scope(len(self.scopes), out)
        if not preheader:
            self.scopes[self.scopes[-1].depth].redirect = scope
        self.scopes.append(scope)
        return scope

    def push_copy(self) -> Scope:
        """Open a scope that writes into the enclosing text: only what its variables mean ends with it."""
        scope = Scope(self.scopes[-1].depth, self.scopes[-1].out)
        self.scopes.append(scope)
        return scope

    def pop(self) -> None:
        scope = self.scopes.pop()
        self.scopes[self.scopes[-1].depth].redirect = None
        numbered, memo, memo_depth, base_memo = self.numbered, self.memo, self.memo_depth, self.base_memo
        for key in scope.keys:
            del numbered[key]
        for expr in scope.exprs:
            memo.pop(expr, None)
            memo_depth.pop(expr, None)
            base_memo.pop(expr, None)

    def placed(self, depth: int) -> Scope:
        """The scope that receives code whose operands exist at ``depth``."""
        scope = self.scopes[depth]
        while scope.redirect is not None:
            scope = scope.redirect
        return scope

    # Instructions.

    def name(self) -> str:
        self.counter += 1
        return f"%v{self.counter}"

    def label(self, hint: str) -> str:
        self.counter += 1
        return f"{hint}{self.counter}"

    def inst(self, text: str, elem: str, lanes: int, depth: int) -> Value:
        """The value of the pure instruction ``text``, written once in the outermost scope that reaches ``depth``."""
        value = self.numbered.get(text)
        if value is not None:
            return value
        scope = self.scopes[depth if depth > self.floor else self.floor]
        while scope.redirect is not None:
            scope = scope.redirect
        self.counter += 1
        ref = f"%v{self.counter}"
        scope.out.lines.append(f"  {ref} = {text}")
        value = Value(ref, elem, lanes, scope.depth)
        self.numbered[text] = value
        scope.keys.append(text)
        return value

    def here(self, text: str, elem: str, lanes: int) -> Value:
        """The value of an instruction that must stand where it is written (reads of written memory)."""
        ref = self.name()
        self.line(f"{ref} = {text}")
        return Value(ref, elem, lanes, self.depth)

    def line(self, text: str) -> None:
        self.scopes[-1].out.lines.append("  " + text)

    def start_block(self, label: str) -> None:
        out = self.scopes[-1].out
        out.lines.append(label + ":")
        out.block = label

    def declare(self, name: str, result: str, arguments: str) -> None:
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({arguments})"

    def intrinsic(self, base: str, *args: Value) -> Value:
        """``llvm.<base>.<type>(args)`` of operands of one type, giving that type."""
        x = args[0]
        depth = x.depth
        for y in args[1:]:
            if y.depth > depth:
                depth = y.depth
        name = f"llvm.{base}.{suffix(x.elem, x.lanes)}"
        if name not in self.declarations:
            self.declare(name, x.ty, ", ".join([x.ty] * len(args)))
        ty = x.ty
        text = f"call {ty} @{name}({', '.join([f'{ty} {y.ref}' for y in args])})"
        return self.inst(text, x.elem, x.lanes, depth)

    def simple(self, opcode: str, x: Value, y: Value) -> Value:
        """A binary instruction on operands of one type."""
        return self.inst(f"{opcode} {x.ty} {x.ref}, {y.ref}", x.elem, x.lanes, max(x.depth, y.depth))

    def compare(self, opcode: str, x: Value, y: Value) -> Value:
        return self.inst(f"{opcode} {x.ty} {x.ref}, {y.ref}", "i1", x.lanes, max(x.depth, y.depth))

    def choose(self, cond: Value, x: Value, y: Value) -> Value:
        """``select`` with operands already of one shape (``cond`` scalar or of the same lanes)."""
        if x is y:
            return x
        depth = max(cond.depth, x.depth, y.depth)
        return self.inst(f"select {cond}, {x}, {y}", x.elem, x.lanes, depth)

    def convert(self, opcode: str, x: Value, elem: str) -> Value:
        """``opcode x to elem`` with the lanes of ``x``."""
        to = f"<{x.lanes} x {elem}>" if x.lanes else elem
        return self.inst(f"{opcode} {x.ty} {x.ref} to {to}", elem, x.lanes, x.depth)

    def splat(self, x: Value, lanes: int) -> Value:
        """``x`` in every lane."""
        if x.lanes or not lanes:
            return x
        if x.const is not None:
            return Value(f"splat ({x.elem} {x.ref})", x.elem, lanes, 0, x.const)
        ty = f"<{lanes} x {x.elem}>"
        one = self.inst(f"insertelement {ty} poison, {x.elem} {x.ref}, i32 0", x.elem, lanes, x.depth)
        text = f"shufflevector {ty} {one.ref}, {ty} poison, <{lanes} x i32> zeroinitializer"
        return self.inst(text, x.elem, lanes, x.depth)

    def same(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Both operands with the same lanes."""
        if x.lanes != y.lanes:
            if x.lanes:
                return x, self.splat(y, x.lanes)
            return self.splat(x, y.lanes), y
        return x, y

    def like(self, value, x: Value) -> Value:
        """The number ``value`` as a literal of the type of ``x``."""
        if x.elem in ("float", "double", "half"):
            ref = float_text(value, x.elem)
        elif x.elem == "i1":
            ref = "true" if value else "false"
        else:
            ref = str(value)
        return self.splat(Value(ref, x.elem, 0, 0, value), x.lanes)

    def iota(self, lanes: int, stride: int = 1, elem: str = "i64", start: int = 0) -> Value:
        """The literal vector ``start, start + stride, ...``."""
        body = ", ".join([f"{elem} {start + stride * k}" for k in range(lanes)])
        return Value(f"<{body}>", elem, lanes, 0)

    def shuffle(self, x: Value, picks, y: Value | None = None) -> Value:
        """Lanes ``picks`` of ``x`` (then ``y``) as a new vector."""
        depth = x.depth if y is None else max(x.depth, y.depth)
        indexes = ", ".join([f"i32 {k}" for k in picks])
        other = "poison" if y is None else y.ref
        text = f"shufflevector {x}, {x.ty} {other}, <{len(picks)} x i32> <{indexes}>"
        return self.inst(text, x.elem, len(picks), depth)

    def extract(self, x: Value, lane: int) -> Value:
        return self.inst(f"extractelement {x}, i32 {lane}", x.elem, 0, x.depth)

    def text(self) -> list[str]:
        """All lines of the outermost scope, preheaders in place."""
        flat: list[str] = []
        _flatten(self.scopes[0].out.lines, flat)
        return flat


def _flatten(lines: list, into: list[str]) -> None:
    for line in lines:
        if type(line) is str:
            into.append(line)
        else:
            _flatten(line, into)


def float_text(value: float, elem: str) -> str:
    """An exact LLVM literal of ``value``, which must be a value of ``elem``."""
    if value != value:
        return {"half": "0xH7E00", "float": "0x7FF8000000000000", "double": "0x7FF8000000000000"}[elem]
    if elem == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value) if abs(value) < 1e6 else _half_inf(value))[0]:04X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _half_inf(value: float) -> bytes:
    return struct.pack("<H", 0x7C00 if value > 0 else 0xFC00)
