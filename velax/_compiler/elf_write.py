"""Writes relocatable ELF objects (System V ABI, AMD64 supplement) that hold one function."""

from __future__ import annotations

import struct

__all__ = ["write_object"]

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")
PROGBITS, SYMTAB, STRTAB, RELA = 1, 2, 3, 4
ALLOC, EXECINSTR, MERGE = 2, 4, 16
PC32, PLT32 = 2, 4


def write_object(
    name: str, code: bytes, align: int = 16, relocations=(), constants: bytes = b"", imports: list[str] | tuple = ()
) -> bytes:
    """An object whose one function ``name`` is ``code``.

    Args:
        relocations: (offset, type, imported name or None for the constants, addend).
        constants: read-only data that the code refers to.
        imports: names that it refers to.
    """
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        strings.extend(value.encode() + b"\0")
        return len(strings) - len(value) - 1

    # Symbols: null, the constant section, then global ones: the function and what it imports.
    symbols = [SYMBOL.pack(0, 0, 0, 0, 0, 0), SYMBOL.pack(0, 3, 0, 3, 0, 0)]
    symbols.append(SYMBOL.pack(text(name), 0x12, 0, 1, 0, len(code)))
    number = {None: 1}
    for imported in imports:
        number[imported] = len(symbols)
        symbols.append(SYMBOL.pack(text(imported), 0x10, 0, 0, 0, 0))
    table = b"".join(RELOCATION.pack(o, number[n] << 32 | kind, addend) for o, kind, n, addend in relocations)
    names = {n: text(n) for n in (".text", ".rela.text", ".rodata", ".symtab", ".strtab", ".note.GNU-stack")}
    parts = [
        (".text", PROGBITS, ALLOC | EXECINSTR, code, 0, 0, max(align, 16), 0),
        (".rela.text", RELA, 0x40, table, 4, 1, 8, 24),
        (".rodata", PROGBITS, ALLOC, constants, 0, 0, 64, 0),
        (".symtab", SYMTAB, 0, b"".join(symbols), 5, 2, 8, 24),
        (".strtab", STRTAB, 0, bytes(strings), 0, 0, 1, 0),
        (".note.GNU-stack", PROGBITS, 0, b"", 0, 0, 1, 0),
    ]
    body, headers = bytearray(), [bytes(64)]
    for part, kind, flags, data, link, info, alignment, entry in parts:
        body.extend(bytes(-(len(body) + 64) % alignment))
        headers.append(
            SECTION.pack(names[part], kind, flags, 0, len(body) + 64, len(data), link, info, alignment, entry)
        )
        body.extend(data)
    body.extend(bytes(-(len(body) + 64) % 8))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = HEADER.pack(ident, 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(headers), 5)
    return header + bytes(body) + b"".join(headers)
