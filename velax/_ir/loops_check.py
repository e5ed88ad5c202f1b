"""The verifier of the loop IR: what a kernel must satisfy before it is emitted, with errors that show the statement."""

from __future__ import annotations

from velax._ir.loops import (
    FLOATS,
    HI,
    LO,
    WIDTH,
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

__all__ = ["LoopsError", "check_kernel"]

_FLOAT_ONLY = frozenset({"sqrt", "floor", "ceil", "trunc", "rint", "copysign"})
_INTEGER_ONLY = frozenset({"clz", "popcount", "shl", "shrl", "shra", "mulhi"})
_BITS = frozenset({"not", "and", "or", "xor"})
_ON_BOOL = frozenset({"not", "and", "or", "xor", "min", "max", "eq", "ne", "lt", "le", "gt", "ge"})


class LoopsError(ValueError):
    """A kernel breaks a rule of the loop IR; the message names the rule and shows the statement in its kernel."""


def check_kernel(kernel: Kernel) -> None:
    """Verify scoping, dtypes, buffers, vector loops and reductions of ``kernel``.

    Raises:
        LoopsError: at the first violation.
    """
    _Checker(kernel).run()


class _Checker:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.variables: set[Var] = {LO, HI}
        self.unrolled: set[Var] = set()
        self.buffers: dict[Buffer, For | None] = {}
        self.vector: For | None = None
        self.statement: Stmt | None = None
        self.passed: set[Expr] = set()
        self.reductions: dict[Buffer, str] = {}
        self.accesses: set[Buffer] = set()
        #: variables and buffers whose values differ from lane to lane
        self.varying: set[Var] = set()
        self.defined: set[Var] = set()

    def fail(self, why: str) -> None:
        from velax._ir.loops_text import print_kernel  # only errors need it

        try:
            shown = print_kernel(self.kernel, self.statement)
        except (AttributeError, TypeError, ValueError) as error:
            shown = f"(the kernel does not print: {error})"
        raise LoopsError(f"kernel {self.kernel.name}: {why}\n{shown}")

    def run(self) -> None:
        for buffer in self.kernel.params:
            if buffer.space != "param":
                self.fail(f"parameter {buffer.name} is in space {buffer.space}, expected param")
            if buffer in self.buffers:
                self.fail(f"parameter {buffer.name} is listed twice")
            self.buffers[buffer] = None
        self.block(self.kernel.body)

    # Expressions.

    def expr(self, root: Expr) -> None:
        """Check every node below ``root`` once a scope: what passed stays valid until a variable or buffer ends."""
        stack = [root]
        while stack:
            e = stack.pop()
            if e in self.passed:
                continue
            self.passed.add(e)
            stack.extend(self.node(e))

    def node(self, e: Expr) -> tuple[Expr, ...]:
        kind = type(e)
        if kind is Const:
            return ()
        if kind is Var:
            if e not in self.variables:
                self.fail(
                    f"variable {e.name} is used where it is not bound (bind it with Let or For in an enclosing block)"
                )
            return ()
        if kind is Extent:
            if not 0 <= e.k < self.kernel.n_extents:
                self.fail(f"extent n{e.k} is used, but the kernel has {self.kernel.n_extents}")
            return ()
        if kind is Load:
            self.access(e.buffer, e.index)
            self.accesses.add(e.buffer)
            return (e.index,)
        if kind is Binary or kind is Unary:
            dtype = e.x.dtype
            if e.op in _FLOAT_ONLY and dtype not in FLOATS:
                self.fail(f"{e.op} takes floats, got {dtype}")
            if (e.op in _INTEGER_ONLY or e.op in _BITS) and dtype in FLOATS:
                self.fail(f"{e.op} takes integers, got {dtype}; bitcast to u{WIDTH[dtype]} for its bits")
            if dtype == "bool" and e.op not in _ON_BOOL:
                self.fail(f"{e.op} is not defined for bool; cast to an integer, or use and, or, xor")
            return (e.x, e.y) if kind is Binary else (e.x,)
        if kind is Fma:
            return e.x, e.y, e.z
        if kind is Select:
            return e.cond, e.x, e.y
        if kind is Cast or kind is Bitcast:
            return (e.x,)
        self.fail(f"{e!r} is not an expression")
        return ()

    def access(self, buffer: Buffer, index: Expr) -> None:
        if buffer not in self.buffers:
            self.fail(f"buffer {buffer.name} is not a parameter and no Alloc of it encloses this")
        k = index.value if type(index) is Const else None
        if k is not None and (k < 0 or (buffer.size is not None and k >= buffer.size)):
            self.fail(f"index {k} is outside {buffer.name}, which has {buffer.size} elements")
        if buffer.space == "register" and not self.constant(index):
            self.fail(
                f"register buffer {buffer.name} needs an index that is constant after unrolling; "
                "unroll the loop of its variable or allocate the buffer in space stack"
            )

    def constant(self, e: Expr) -> bool:
        """Whether ``e`` is built of constants and variables of unrolled loops."""
        kind = type(e)
        if kind is Const:
            return True
        if kind is Var:
            return e in self.unrolled
        if kind is Binary:
            return self.constant(e.x) and self.constant(e.y)
        return kind in (Unary, Cast) and self.constant(e.x)

    def depends(self, e: Expr) -> bool:
        """Whether ``e`` may differ between the lanes of the vector loop at hand."""
        stack, seen = [e], set()
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen.add(x)
            kind = type(x)
            if kind is Var:
                if x in self.varying:
                    return True
            elif kind is Load:
                if self.buffers.get(x.buffer) is not None:
                    return True
                stack.append(x.index)
            elif kind is Binary:
                stack += (x.x, x.y)
            elif kind in (Unary, Cast, Bitcast):
                stack.append(x.x)
            elif kind is Fma:
                stack += (x.x, x.y, x.z)
            elif kind is Select:
                stack += (x.cond, x.x, x.y)
        return False

    # Statements.

    def block(self, stmts) -> None:
        opened_vars: list[Var] = []
        opened_buffers: list[Buffer] = []
        for s in stmts:
            self.statement = s
            self.one(s, opened_vars, opened_buffers)
        self.variables.difference_update(opened_vars)
        self.unrolled.difference_update(opened_vars)
        for buffer in opened_buffers:
            del self.buffers[buffer]
        if opened_vars or opened_buffers:
            self.passed.clear()

    def bind(self, var: Var) -> None:
        if var in self.defined:
            self.fail(f"variable {var.name} is bound twice; make a new Var")
        self.defined.add(var)
        self.variables.add(var)

    def one(self, s: Stmt, opened_vars: list[Var], opened_buffers: list[Buffer]) -> None:
        kind = type(s)
        if kind is Let:
            self.expr(s.value)
            self.bind(s.var)
            opened_vars.append(s.var)
            if self.constant(s.value):
                self.unrolled.add(s.var)
            if self.vector is not None and self.depends(s.value):
                self.varying.add(s.var)
        elif kind is Store or kind is Reduce:
            self.expr(s.index)
            self.expr(s.value)
            self.access(s.buffer, s.index)
            self.update(s)
        elif kind is Alloc:
            if s.buffer.space == "param":
                self.fail(f"buffer {s.buffer.name} is a parameter: only register, stack and scratch are allocated")
            if s.buffer in self.buffers:
                self.fail(f"buffer {s.buffer.name} is already allocated here")
            self.buffers[s.buffer] = self.vector
            opened_buffers.append(s.buffer)
        elif kind is For:
            self.loop(s)
        elif kind is If:
            self.condition(s.cond)
            self.block(s.then)
            self.statement = s
            self.block(s.orelse)
        elif kind is While:
            # The condition sees what its block binds, so the block closes only after it.
            inner_vars: list[Var] = []
            inner_buffers: list[Buffer] = []
            for stmt in s.cond_block:
                self.statement = stmt
                self.one(stmt, inner_vars, inner_buffers)
            self.statement = s
            self.condition(s.cond)
            self.block(s.body)
            self.variables.difference_update(inner_vars)
            self.unrolled.difference_update(inner_vars)
            for buffer in inner_buffers:
                del self.buffers[buffer]
            self.passed.clear()
        else:
            self.fail(f"{s!r} is not a statement")

    def condition(self, cond: Expr) -> None:
        if cond.dtype != "bool":
            self.fail(f"a condition must be bool, got {cond.dtype}")
        self.expr(cond)

    def loop(self, s: For) -> None:
        for bound in (s.start, s.stop):
            if bound.dtype != "i64":
                self.fail(f"bounds of loop {s.var.name} must be i64, got {bound.dtype}")
            self.expr(bound)
        if s.var.dtype != "i64":
            self.fail(f"loop variable {s.var.name} must be i64, got {s.var.dtype}")
        outer, reductions, accesses = self.vector, self.reductions, self.accesses
        if s.kind == "vector":
            if outer is not None:
                self.fail(
                    f"vector loop {s.var.name} is inside vector loop {outer.var.name}; make one of them serial or "
                    "unrolled"
                )
            self.vector, self.reductions, self.accesses = s, {}, set()
            self.varying.add(s.var)
        elif outer is not None and (self.depends(s.start) or self.depends(s.stop)):
            self.varying.add(s.var)
        self.bind(s.var)
        if s.kind == "unrolled":
            self.unrolled.add(s.var)
        # The variable's own scope is the body.
        self.block(s.body)
        self.variables.discard(s.var)
        self.unrolled.discard(s.var)
        self.passed.clear()
        if s.kind == "vector":
            self.statement = s
            for buffer, op in self.reductions.items():
                if buffer in self.accesses:
                    self.fail(
                        f"{buffer.name} is reduced by {op} over vector loop {s.var.name} and also read or stored "
                        "inside; "
                        "its value is known after the loop only"
                    )
            self.vector, self.reductions, self.accesses = outer, reductions, accesses

    def update(self, s: Store | Reduce) -> None:
        buffer, dtype = s.buffer, s.buffer.dtype
        if type(s) is Reduce:
            if dtype == "bool" and s.op not in ("and", "or", "xor", "min", "max"):
                self.fail(f"bool cannot be reduced by {s.op}; use or, and, xor")
            if dtype in FLOATS and s.op in ("and", "or", "xor"):
                self.fail(f"{dtype} cannot be reduced by {s.op}")
        if self.vector is None or self.buffers[buffer] is not None:
            return
        shared = not self.depends(s.index)
        if type(s) is Reduce:
            if shared and self.reductions.setdefault(buffer, s.op) != s.op:
                self.fail(f"{buffer.name} is reduced by {self.reductions[buffer]} and by {s.op} in one vector loop")
            return
        self.accesses.add(buffer)
        if buffer.space == "register":
            self.fail(
                f"register buffer {buffer.name} is allocated outside vector loop {self.vector.var.name} and stored "
                "inside: "
                "iterations must be independent; allocate it inside, or use Reduce"
            )
        if shared and self.depends(s.value):
            self.fail(
                f"every iteration of vector loop {self.vector.var.name} stores its own value to one element of "
                f"{buffer.name}; "
                "index it by the loop's variable, or use Reduce"
            )
