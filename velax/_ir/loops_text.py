"""The loop IR as text: a printer for people, and a parser that reads it back.

::

    kernel silu(x: f32, y: f32[4096]) extents 1 {codegen: 2}
      alloc acc: f32[1] register
      for i in lo .. n0 vector 16:
        let t: f32 = neg(x[i])
        %1 = add(i, 1)
        y[%1] = select(lt(t, 0.0:f32), t, x[%1])
        acc[0] add= t
      while:
        let more: bool = lt(acc[0], 9.0:f32)
      test more:
        acc[0] = add(acc[0], 1.0:f32)

``%k = expression`` names an expression that occurs more than once; it is not a statement and computes nothing
where it stands. A plain integer is an ``i64`` constant, ``n0`` the first run-time extent, ``step s`` follows
the bounds where it is not 1.
"""

from __future__ import annotations

import re

from velax._ir.loops import (
    BINARY_OPS,
    HI,
    LO,
    REDUCE_OPS,
    UNARY_OPS,
    Alloc,
    Binary,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Expr,
    Extent,
    Fma,
    For,
    If,
    Kernel,
    Let,
    Load,
    Reduce,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from velax._ir.loops_walk import blocks, expressions, operands

__all__ = ["parse_kernel", "print_kernel"]


def print_kernel(kernel: Kernel, mark: Stmt | None = None) -> str:
    """``kernel`` as text; the line of the statement ``mark`` starts with ``>>``."""
    return _Printer(kernel, mark).text()


class _Printer:
    def __init__(self, kernel: Kernel, mark: Stmt | None):
        self.kernel, self.mark = kernel, mark
        self.lines: list[str] = []
        self.names: dict[object, str] = {LO: "lo", HI: "hi"}
        self.taken = {"lo", "hi"} | set(UNARY_OPS) | set(BINARY_OPS)
        self.texts: dict[Expr, str] = {}
        self.uses: dict[Expr, int] = {}
        self.shared = 0

    def text(self) -> str:
        kernel = self.kernel
        params = ", ".join(self.declaration(p) for p in kernel.params)
        attributes = ", ".join(f"{k}: {v}" for k, v in sorted(kernel.attributes.items()))
        head = f"kernel {kernel.name}({params}) extents {kernel.n_extents}" + (
            f" {{{attributes}}}" if attributes else ""
        )
        self.count(kernel.body)
        self.lines.append(head)
        self.block(kernel.body, 1)
        return "\n".join(self.lines) + "\n"

    def declaration(self, buffer: Buffer) -> str:
        size = "" if buffer.size is None else f"[{buffer.size}]"
        return f"{self.name(buffer)}: {buffer.dtype}{size}"

    def name(self, thing) -> str:
        found = self.names.get(thing)
        if found is None:
            base = re.sub(r"\W", "_", thing.name) or "_"
            if base[0].isdigit() or re.fullmatch(r"n\d+", base):
                base = "_" + base
            found, k = base, 1
            while found in self.taken:
                found, k = f"{base}_{k}", k + 1
            self.taken.add(found)
            self.names[thing] = found
        return found

    def count(self, stmts) -> None:
        """How often each expression object is used, over the whole kernel."""
        for s in stmts:
            stack = list(expressions(s))
            while stack:
                e = stack.pop()
                self.uses[e] = self.uses.get(e, 0) + 1
                if self.uses[e] == 1:
                    stack.extend(operands(e))
            for inner in blocks(s):
                self.count(inner)

    def put(self, depth: int, text: str, s: Stmt | None = None) -> None:
        margin = "  " * depth
        if s is not None and s is self.mark:
            margin = ">>" + margin[2:]
        self.lines.append(margin + text)

    def expr(self, root: Expr, depth: int) -> str:
        """The text of ``root``; lines that name shared expressions come first."""
        stack = [root]
        while stack:
            e = stack[-1]
            if e in self.texts:
                stack.pop()
                continue
            missing = [x for x in operands(e) if x not in self.texts]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            text = self.node(e)
            if self.uses.get(e, 0) > 1 and type(e) not in (Const, Var, Extent):
                self.shared += 1
                self.put(depth, f"%{self.shared} = {text}")
                text = f"%{self.shared}"
            self.texts[e] = text
        return self.texts[root]

    def node(self, e: Expr) -> str:
        kind, texts = type(e), self.texts
        if kind is Const:
            return _literal(e)
        if kind is Var:
            return self.name(e)
        if kind is Extent:
            return f"n{e.k}"
        if kind is Load:
            return f"{self.name(e.buffer)}[{texts[e.index]}]"
        head = {Fma: "fma", Select: "select"}.get(kind)
        if head is None:
            head = f"{kind.__name__.lower()}.{e.dtype}" if kind in (Cast, Bitcast) else e.op
        return f"{head}({', '.join(texts[x] for x in operands(e))})"

    def block(self, stmts, depth: int) -> None:
        if not stmts:
            self.put(depth, "pass")
        for s in stmts:
            kind = type(s)
            if kind is Let:
                value = self.expr(s.value, depth)
                self.put(depth, f"let {self.name(s.var)}: {s.var.dtype} = {value}", s)
            elif kind is Store or kind is Reduce:
                index, value = self.expr(s.index, depth), self.expr(s.value, depth)
                sign = "=" if kind is Store else f"{s.op}="
                self.put(depth, f"{self.name(s.buffer)}[{index}] {sign} {value}", s)
            elif kind is Alloc:
                self.put(depth, f"alloc {self.declaration(s.buffer)} {s.buffer.space}", s)
            elif kind is For:
                start, stop = self.expr(s.start, depth), self.expr(s.stop, depth)
                step = f" step {s.step}" if s.step != 1 else ""
                width = f" {s.width}" if s.kind == "vector" else ""
                self.put(depth, f"for {self.name(s.var)} in {start} .. {stop}{step} {s.kind}{width}:", s)
                self.block(s.body, depth + 1)
            elif kind is If:
                self.put(depth, f"if {self.expr(s.cond, depth)}:", s)
                self.block(s.then, depth + 1)
                if s.orelse:
                    self.put(depth, "else:")
                    self.block(s.orelse, depth + 1)
            elif kind is While:
                self.put(depth, "while:", s)
                self.block(s.cond_block, depth + 1)
                self.put(depth, f"test {self.expr(s.cond, depth)}:")
                self.block(s.body, depth + 1)
            else:
                raise TypeError(f"{s!r} is not a statement of the loop IR")


def _literal(e: Const) -> str:
    if e.dtype == "i64":
        return str(int(e.value))
    if e.dtype == "bool":
        return "true" if e.value else "false"
    return f"{e.value!r}:{e.dtype}"


_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:nan|inf)\b(?=:)|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"|(?P<name>%?[A-Za-z_0-9]+(?:\.(?=[a-z])\w+)?)|(?P<sign>\.\.|[()\[\],:=]))"
)


def parse_kernel(text: str) -> Kernel:
    """Read what `print_kernel` writes.

    Raises:
        ValueError: for text that is not a kernel, with the number and content of the line.
    """
    return _Parser(text).kernel()


class _Parser:
    def __init__(self, text: str):
        self.lines = [(k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip()]
        self.at = 0
        self.things: dict[str, object] = {"lo": LO, "hi": HI}
        self.tokens: list[tuple[str, str]] = []

    def fail(self, why: str):
        number, line = self.lines[min(self.at, len(self.lines) - 1)] if self.lines else (0, "")
        raise ValueError(f"loop IR text, line {number}: {why}\n  {line}")

    def kernel(self) -> Kernel:
        if not self.lines:
            self.fail("empty text")
        head = re.fullmatch(r"kernel (\w+)\((.*)\) extents (\d+)(?: \{(.*)\})?", self.lines[0][1].strip())
        if head is None:
            self.fail("expected 'kernel name(x: dtype, ...) extents n'")
        name, params, extents, attributes = head.groups()
        buffers = tuple(self.declared(p, "param") for p in params.split(", ") if p)
        facts = dict(pair.split(": ") for pair in attributes.split(", ")) if attributes else {}
        self.at = 1
        body = self.block(1)
        if self.at < len(self.lines):
            self.fail("unexpected indentation")
        return Kernel(name, buffers, int(extents), body, {k: int(v) for k, v in facts.items()})

    def declared(self, text: str, space: str) -> Buffer:
        found = re.fullmatch(r"(\w+): (\w+)(?:\[(\d+)\])?", text.strip())
        if found is None:
            self.fail(f"expected 'name: dtype[size]', got {text!r}")
        name, dtype, size = found.groups()
        buffer = self.things[name] = Buffer(name, dtype, space, None if size is None else int(size))
        return buffer

    def block(self, depth: int) -> tuple[Stmt, ...]:
        stmts = []
        while self.at < len(self.lines):
            line = self.lines[self.at][1]
            line = "  " + line[2:] if line.startswith(">>") else line
            body = line.strip()
            if len(line) - len(line.lstrip()) != 2 * depth or body == "else:" or body.startswith("test "):
                break
            stmt = self.statement(body, depth)
            if stmt is not None:
                stmts.append(stmt)
        return tuple(stmts)

    def statement(self, body: str, depth: int) -> Stmt | None:
        word = body.split(" ", 1)[0]
        if body == "pass":
            self.at += 1
            return None
        if word == "alloc":
            declaration, space = body[6:].rsplit(" ", 1)
            stmt = Alloc(self.declared(declaration, space))
            self.at += 1
            return stmt
        if word == "let":
            name, _, rest = body[4:].partition(": ")
            dtype, _, value = rest.partition(" = ")
            value = self.expression(value)
            var = self.things[name] = Var(name, dtype)
            self.at += 1
            return Let(var, value)
        if word == "for":
            found = re.fullmatch(
                r"for (\w+) in (.*) \.\. (.*?)(?: step (\d+))? (serial|vector|unrolled)(?: (\d+))?:", body
            )
            if found is None:
                self.fail("expected 'for i in start .. stop kind:'")
            name, start, stop, step, kind, width = found.groups()
            start, stop = self.expression(start), self.expression(stop)
            var = self.things[name] = Var(name)
            self.at += 1
            return For(var, start, stop, self.block(depth + 1), kind, int(width or 1), int(step or 1))
        if word == "if":
            cond = self.expression(body[3:-1])
            self.at += 1
            then, orelse = self.block(depth + 1), ()
            if self.here(depth, "else:"):
                self.at += 1
                orelse = self.block(depth + 1)
            return If(cond, then, orelse)
        if body == "while:":
            self.at += 1
            cond_block = self.block(depth + 1)
            while self.here(depth, "%"):
                self.statement(self.lines[self.at][1].strip(), depth)
            if not self.here(depth, "test "):
                self.fail("expected 'test condition:' after the block of 'while:'")
            cond = self.expression(self.lines[self.at][1].strip()[5:-1])
            self.at += 1
            return While(cond_block, cond, self.block(depth + 1))
        if word.startswith("%"):
            name, _, value = body.partition(" = ")
            self.things[name] = self.expression(value)
            self.at += 1
            return None
        return self.assignment(body)

    def here(self, depth: int, start: str) -> bool:
        if self.at >= len(self.lines):
            return False
        line = self.lines[self.at][1]
        return len(line) - len(line.lstrip()) == 2 * depth and line.strip().startswith(start)

    def assignment(self, body: str) -> Stmt:
        self.tokens = self.scan(body)
        name = self.take("name")
        buffer = self.things.get(name)
        if not isinstance(buffer, Buffer):
            self.fail(f"{name} is no buffer")
        self.take("sign", "[")
        index = self.read()
        self.take("sign", "]")
        op = None
        if self.tokens and self.tokens[0][0] == "name":
            op = self.take("name")
            if op not in REDUCE_OPS:
                self.fail(f"{op} is no reduction")
        self.take("sign", "=")
        value = self.read()
        self.finish()
        self.at += 1
        return Store(buffer, index, value) if op is None else Reduce(op, buffer, index, value)

    def scan(self, text: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                self.fail(f"cannot read {text[at:]!r}")
            tokens.append((found.lastgroup, found.group(found.lastgroup)))
            at = found.end()
        return tokens

    def take(self, kind: str, text: str | None = None) -> str:
        if not self.tokens or self.tokens[0][0] != kind or (text is not None and self.tokens[0][1] != text):
            self.fail(f"expected {text or kind}, got {self.tokens[0][1] if self.tokens else 'the end of the line'!r}")
        return self.tokens.pop(0)[1]

    def finish(self) -> None:
        if self.tokens:
            self.fail(f"unexpected {self.tokens[0][1]!r}")

    def expression(self, text: str) -> Expr:
        self.tokens = self.scan(text)
        e = self.read()
        self.finish()
        return e

    def peek(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def read(self) -> Expr:
        if self.tokens and self.tokens[0][0] == "number":
            number = self.take("number")
            if self.peek() != ":":
                return Const(int(number), "i64")
            self.take("sign", ":")
            dtype = self.take("name")
            return Const(float(number) if dtype[0] == "f" or dtype == "bf16" else int(number), dtype)
        name = self.take("name")
        if name in ("true", "false"):
            return Const(name == "true", "bool")
        if self.peek() == "[":
            buffer = self.things.get(name)
            if not isinstance(buffer, Buffer):
                self.fail(f"{name} is no buffer")
            self.take("sign", "[")
            index = self.read()
            self.take("sign", "]")
            return Load(buffer, index)
        if self.peek() == "(":
            return self.operation(name)
        if name in self.things and isinstance(self.things[name], Expr):
            return self.things[name]
        if re.fullmatch(r"n\d+", name):
            return self.things.setdefault(name, Extent(int(name[1:])))
        self.fail(f"{name} is not defined")

    def operation(self, name: str) -> Expr:
        self.take("sign", "(")
        args = [self.read()]
        while self.peek() == ",":
            self.take("sign", ",")
            args.append(self.read())
        self.take("sign", ")")
        head, _, dtype = name.partition(".")
        kinds = {"fma": (Fma, 3), "select": (Select, 3), "cast": (Cast, 1), "bitcast": (Bitcast, 1)}
        if head in kinds:
            kind, arity = kinds[head]
            make = lambda *a: kind(dtype, *a) if dtype else kind(*a)
        elif head in UNARY_OPS:
            make, arity = (lambda *a: Unary(head, *a)), 1
        elif head in BINARY_OPS:
            make, arity = (lambda *a: Binary(head, *a)), 2
        else:
            self.fail(f"{name} is no operation")
        if len(args) != arity:
            self.fail(f"{head} takes {arity} operands, got {len(args)}")
        try:
            return make(*args)
        except TypeError as error:
            self.fail(str(error))
