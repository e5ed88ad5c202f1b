"""A pretty printer: documents that choose between one line and several.

::

    doc ::= text | line break | nest(indent, doc) | group(doc) | concatenation of docs | annotated(doc, note)

A group whose text fits into the rest of the line is written on it, its breaks as their text; otherwise its
own breaks (not those of groups inside) start new lines, indented by the nests around them. A break outside of
every group starts a new line. Every document knows its width on one line, so that printing is linear (Wadler,
"A prettier printer", 1998, without laziness).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Doc", "annotated", "brk", "concat", "group", "join", "nest", "render", "text"]


class Doc:
    """A document. ``width`` is its length when written on one line."""

    __slots__ = ("width",)

    def __add__(self, other: Doc) -> Doc:
        return concat((self, other))


class _Text(Doc):
    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text, self.width = text, len(text)


class _Break(Doc):
    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text, self.width = text, len(text)


class _Nest(Doc):
    __slots__ = ("doc", "indent")

    def __init__(self, indent: int, doc: Doc):
        self.indent, self.doc, self.width = indent, doc, doc.width


class _Group(Doc):
    __slots__ = ("doc",)

    def __init__(self, doc: Doc):
        self.doc, self.width = doc, doc.width


class _Concat(Doc):
    __slots__ = ("docs",)

    def __init__(self, docs: tuple[Doc, ...]):
        self.docs, self.width = docs, sum([d.width for d in docs])


class _Annotated(Doc):
    __slots__ = ("doc", "note")

    def __init__(self, doc: Doc, note: str):
        self.doc, self.note, self.width = doc, note, doc.width


def text(s: str) -> Doc:
    """The string `s`."""
    return _Text(s)


def brk(flat: str = " ") -> Doc:
    """A place for a line break, written `flat` where the line is not broken."""
    return _Break(flat)


def nest(indent: int, doc: Doc) -> Doc:
    """`doc` with its new lines indented further."""
    return _Nest(indent, doc)


def group(doc: Doc) -> Doc:
    """`doc` on one line if it fits."""
    return _Group(doc)


def concat(docs: Iterable[Doc]) -> Doc:
    """`docs` one after the other."""
    return _Concat(tuple(docs))


def join(separator: Doc, docs: Iterable[Doc]) -> Doc:
    """`docs` with `separator` between them."""
    parts: list[Doc] = []
    for doc in docs:
        if parts:
            parts.append(separator)
        parts.append(doc)
    return concat(parts)


def annotated(doc: Doc, note: str) -> Doc:
    """`doc` with a note beside the line that it starts on."""
    return _Annotated(doc, note)


def render(doc: Doc, width: int = 80) -> str:
    """The text of `doc`, in lines of at most `width` characters where its breaks allow."""
    lines: list[str] = []
    notes: dict[int, list[str]] = {}
    line: list[str] = []
    column = 0
    # What is still to be written, last first: (indentation, whether breaks are kept on the line, document).
    agenda: list[tuple[int, bool, Doc]] = [(0, False, doc)]
    while agenda:
        indent, flat, doc = agenda.pop()
        kind = type(doc)
        if kind is _Text or (kind is _Break and flat):
            line.append(doc.text)
            column += doc.width
        elif kind is _Concat:
            agenda.extend([(indent, flat, d) for d in reversed(doc.docs)])
        elif kind is _Break:
            lines.append("".join(line))
            line = [" " * indent]
            column = indent
        elif kind is _Group:
            agenda.append((indent, flat or column + doc.width <= width, doc.doc))
        elif kind is _Nest:
            agenda.append((indent + doc.indent, flat, doc.doc))
        else:
            notes.setdefault(len(lines), []).append(doc.note)
            agenda.append((indent, flat, doc.doc))
    lines.append("".join(line))
    return "\n".join(_beside(lines, notes) if notes else lines)


def _beside(lines: list[str], notes: dict[int, list[str]]) -> Iterable[str]:
    """`lines` with the notes in one column to their right; a line with several gets further lines for them."""
    column = max(len(lines[number]) for number in notes)
    for number, line in enumerate(lines):
        first, *more = notes.get(number, [None])
        yield line if first is None else f"{line.ljust(column)} # {first}"
        for note in more:
            yield f"{' ' * column} # {note}"
