"""Reads relocatable ELF objects: cuts one with a section for each function into one object a function, lists imports.

Generated code refers to its own constants only, so that a function, the constants it uses and its relocations
are a complete object.
"""

from __future__ import annotations

from typing import NamedTuple

from velax._compiler.elf_write import (
    ALLOC,
    EXECINSTR,
    HEADER,
    MERGE,
    PC32,
    PLT32,
    PROGBITS,
    RELA,
    RELOCATION,
    SECTION,
    SYMBOL,
    SYMTAB,
    write_object,
)

__all__ = ["ElfError", "external_symbols", "split_object"]

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
        header = HEADER.unpack_from(image, 0)
        start, count, names = header[6], header[12], header[13]
        raw = [SECTION.unpack_from(image, start + 64 * k) for k in range(count)]
        strings = raw[names][4]
        self.sections = [_Section(self.string(strings + s[0]), s[1], s[2], s[4], s[5], s[7], s[8], s[9]) for s in raw]
        self.symbols = []
        for section, fields in zip(self.sections, raw):
            if section.kind == SYMTAB:
                table = raw[fields[6]][4]
                for name, info, _, index, value, _ in SYMBOL.iter_unpack(self.data(section)):
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
    code = {s.name: (k, s) for k, s in enumerate(whole.sections) if s.kind == PROGBITS}
    relocations = {s.info: s for s in whole.sections if s.kind == RELA}
    for section in whole.sections:
        if section.kind == RELA and not whole.sections[section.info].flags & EXECINSTR:
            raise ElfError(f"constants have relocations ({section.name})")
    result = {}
    for name in names:
        if f".text.{name}" not in code:
            raise ElfError(f"no section for {name}")
        index, section = code[f".text.{name}"]
        entries = relocations.get(index)
        fixed, constants, imports = _own_constants(whole, b"" if entries is None else whole.data(entries))
        result[name] = write_object(name, whole.data(section), section.align, fixed, constants, imports)
    return result


def _own_constants(whole: _Object, table: bytes):
    """Relocations rewritten to a constant section that holds what they use: (offset, type, import or None, addend)."""
    fixed, imports, uses = [], [], []
    for offset, info, addend in RELOCATION.iter_unpack(table):
        kind = info & 0xFFFFFFFF
        name, _, index, value = whole.symbols[info >> 32]
        if kind not in (PC32, PLT32):
            raise ElfError(f"relocation of type {kind}")
        if index == 0:
            if name not in imports:
                imports.append(name)
            fixed.append((offset, PLT32, name, addend))
            continue
        section = whole.sections[index]
        if section.flags & EXECINSTR or not section.flags & ALLOC:
            raise ElfError(f"code refers to section {section.name}")
        uses.append((offset, index, section, name, value, value + addend + 4))
    # Constants of registers' size have no symbols of their own. One function's lie next to each other: take
    # the whole range. A reference may point inside a constant, or before it by the bytes of an immediate that
    # follows the address in the instruction.
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
            if not section.flags & MERGE:
                raise ElfError(f"a named constant {name} of unknown size")
            low = value
            start = place(index, value, value + section.entry_size, section.entry_size)
        else:
            low = ranges[index][0]
            start = places[index, low]
        fixed.append((offset, PC32, None, start + target - low - 4))
    return fixed, bytes(constants), imports
