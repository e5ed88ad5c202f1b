"""Cuts a relocatable ELF object with one section a function into one object a function, and lists imports.

Generated code refers to its own constants only, so that a function, the constants it uses and its relocations are a complete object.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["ElfError", "external_symbols", "split_object"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_PROGBITS, _SYMTAB, _STRTAB, _RELA = 1, 2, 3, 4
_ALLOC, _EXECINSTR, _MERGE = 2, 4, 16
_PC32, _PLT32 = 2, 4
#: constants too large for a mergeable section: one vector register
_VECTOR = 64


class ElfError(ValueError):
    """The object is not of the form that the code generator writes."""


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    info: int
    align: int
    entry_size: int


class _Object:
    def __init__(self, image: bytes):
        if image[:6] != b"\x7fELF\x02\x01":
            raise ElfError("not a 64-bit little-endian ELF object")
        self.image = image
        header = _HEADER.unpack_from(image, 0)
        start, count, names = header[6], header[12], header[13]
        raw = [_SECTION.unpack_from(image, start + 64 * k) for k in range(count)]
        strings = raw[names][4]
        self.sections = [
            _Section(self.string(strings + s[0]), s[1], s[2], s[4], s[5], s[7], s[8], s[9]) for s in raw
        ]
        self.symbols = []
        for section, fields in zip(self.sections, raw):
            if section.kind == _SYMTAB:
                table = raw[fields[6]][4]
                for name, info, _, index, value, _ in _SYMBOL.iter_unpack(self.data(section)):
                    self.symbols.append((self.string(table + name), info, index, value))

    def string(self, offset: int) -> str:
        return self.image[offset : self.image.index(b"\0", offset)].decode()

    def data(self, section: _Section) -> bytes:
        return self.image[section.offset : section.offset + section.size]


def external_symbols(image: bytes) -> list[str]:
    """Names of the symbols that ``image`` imports."""
    return [name for name, _, index, _ in _Object(image).symbols if index == 0 and name]


def split_object(image: bytes, names: list[str]) -> dict[str, bytes]:
    """One object for each function in ``names``, whose code is in section ``.text.<name>``.

    Raises:
        ElfError: where code refers to anything but read-only constants and imported functions.
    """
    whole = _Object(image)
    code = {s.name: (k, s) for k, s in enumerate(whole.sections) if s.kind == _PROGBITS}
    relocations = {s.info: s for s in whole.sections if s.kind == _RELA}
    for section in whole.sections:
        if section.kind == _RELA and not whole.sections[section.info].flags & _EXECINSTR:
            raise ElfError(f"constants have relocations ({section.name})")
    result = {}
    for name in names:
        if f".text.{name}" not in code:
            raise ElfError(f"no section for {name}")
        index, section = code[f".text.{name}"]
        entries = relocations.get(index)
        fixed, constants, imports = _own_constants(whole, b"" if entries is None else whole.data(entries))
        result[name] = _write(name, whole.data(section), section.align, fixed, constants, imports)
    return result


def _own_constants(whole: _Object, table: bytes):
    """Relocations rewritten to a constant section that holds what they use: (offset, type, import or None, addend)."""
    fixed, imports, uses = [], [], []
    for offset, info, addend in _RELOCATION.iter_unpack(table):
        kind = info & 0xFFFFFFFF
        name, _, index, value = whole.symbols[info >> 32]
        if kind not in (_PC32, _PLT32):
            raise ElfError(f"relocation of type {kind}")
        if index == 0:
            if name not in imports:
                imports.append(name)
            fixed.append((offset, _PLT32, name, addend))
            continue
        section = whole.sections[index]
        if section.flags & _EXECINSTR or not section.flags & _ALLOC:
            raise ElfError(f"code refers to section {section.name}")
        uses.append((offset, index, section, name, value, value + addend + 4))
    # Constants of registers' size have no symbols of their own. One function's lie next to each other: take the whole range. A reference
    # may point inside a constant, or before it by the bytes of an immediate that follows the address in the instruction.
    ranges: dict[int, tuple[int, int]] = {}
    for _, index, section, name, _, target in uses:
        if not name:
            low, high = ranges.get(index, (section.size, 0))
            first = max(target, 0) // _VECTOR * _VECTOR
            last = (target + 4) // _VECTOR * _VECTOR + _VECTOR
            ranges[index] = min(low, first), min(max(high, last), section.size)
    constants, places = bytearray(), {}

    def place(index: int, low: int, high: int, align: int) -> int:
        found = places.get((index, low))
        if found is None:
            constants.extend(bytes(-len(constants) % align))
            found = places[index, low] = len(constants)
            start = whole.sections[index].offset
            constants.extend(whole.image[start + low : start + high])
        return found

    for index, (low, high) in ranges.items():
        place(index, low, high, _VECTOR)
    for offset, index, section, name, value, target in uses:
        if name:
            if not section.flags & _MERGE:
                raise ElfError(f"a named constant {name} of unknown size")
            low = value
            start = place(index, value, value + section.entry_size, section.entry_size)
        else:
            low = ranges[index][0]
            start = places[index, low]
        fixed.append((offset, _PC32, None, start + target - low - 4))
    return fixed, bytes(constants), imports


def _write(name: str, code: bytes, align: int, fixed, constants: bytes, imports: list[str]) -> bytes:
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        strings.extend(value.encode() + b"\0")
        return len(strings) - len(value) - 1

    # Symbols: null, the constant section, then global ones: the function and what it imports.
    symbols = [_SYMBOL.pack(0, 0, 0, 0, 0, 0), _SYMBOL.pack(0, 3, 0, 3, 0, 0)]
    symbols.append(_SYMBOL.pack(text(name), 0x12, 0, 1, 0, len(code)))
    number = {None: 1}
    for imported in imports:
        number[imported] = len(symbols)
        symbols.append(_SYMBOL.pack(text(imported), 0x10, 0, 0, 0, 0))
    table = b"".join(_RELOCATION.pack(o, number[n] << 32 | kind, addend) for o, kind, n, addend in fixed)
    names = {n: text(n) for n in (".text", ".rela.text", ".rodata", ".symtab", ".strtab", ".note.GNU-stack")}
    parts = [
        (".text", _PROGBITS, _ALLOC | _EXECINSTR, code, 0, 0, max(align, 16), 0),
        (".rela.text", _RELA, 0x40, table, 4, 1, 8, 24),
        (".rodata", _PROGBITS, _ALLOC, constants, 0, 0, 64, 0),
        (".symtab", _SYMTAB, 0, b"".join(symbols), 5, 2, 8, 24),
        (".strtab", _STRTAB, 0, bytes(strings), 0, 0, 1, 0),
        (".note.GNU-stack", _PROGBITS, 0, b"", 0, 0, 1, 0),
    ]
    body, headers = bytearray(), [bytes(64)]
    for part, kind, flags, data, link, info, alignment, entry in parts:
        body.extend(bytes(-(len(body) + 64) % alignment))
        headers.append(
            _SECTION.pack(names[part], kind, flags, 0, len(body) + 64, len(data), link, info, alignment, entry)
        )
        body.extend(data)
    body.extend(bytes(-(len(body) + 64) % 8))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = _HEADER.pack(ident, 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(headers), 5)
    return header + bytes(body) + b"".join(headers)
