"""The loop IR: what one kernel computes, as loops over flat buffers.

Grammar::

    kernel ::= Kernel(name, params, n_extents, body)
    stmt   ::= Let(var, expr)                             bind now; visible to the rest of the block
             | Store(buffer, index, expr)
             | Reduce(op, buffer, index, expr)            buffer[index] = op(buffer[index], expr), reassociation allowed
             | For(var, start, stop, step, kind, width, body)   kind: serial | vector | unrolled
             | While(cond_block, cond, body)
             | If(cond, then, orelse)
             | Alloc(buffer)                              space: register | stack | scratch; lives until its block ends
    expr   ::= Const | Var | Extent | Load(buffer, index) | Unary(op, x) | Binary(op, x, y) | Fma(x, y, z)
             | Select(cond, x, y) | Cast(dtype, x) | Bitcast(dtype, x)

Semantics, stated once for every consumer (interpreter, LLVM emission, a GPU backend):

* Expressions are DAGs. An object met twice denotes one value; it may be computed once, at any point where its
  variables are bound, also before a loop that contains it (never out of an ``If``), unless it reads a buffer
  that the kernel writes: such a read happens where its statement stands. ``Select`` evaluates both sides, so
  a guarded ``Load`` must have an index that is valid always.
* ``index`` is an ``i64`` expression counting elements of the buffer. Reading or writing outside the buffer is
  undefined.
* Integers wrap. ``div``/``rem`` of integers truncate toward zero; ``x div 0 == -1`` (all bits set), ``x rem 0 == x``,
  ``min div -1 == min``, ``min rem -1 == 0``. Shifts by the width or more give 0 (``shra``: the sign).
* Floats are IEEE 754 with denormals, round to nearest even; no fast-math: only ``Fma`` fuses. ``min``/``max``
  give NaN if either is NaN and order ``-0 < +0``. Comparisons with NaN are false (``ne`` true).
* ``Cast``: integer to integer wraps; float to integer truncates, saturates and maps NaN to 0; to ``bool`` is
  ``!= 0``; float to float and integer to float round to nearest even. ``Bitcast`` keeps the bits and needs
  equal widths.
* A ``For`` runs ``var = start, start+step, ... < stop``. ``vector`` (step 1) runs ``width`` consecutive
  values at once, in the SPMD sense: every value that depends on ``var`` is a vector, a register ``Alloc``
  inside is one value a lane, an inner serial loop runs with all lanes, the last partial group is masked
  (stores and reductions of inactive lanes do nothing). Iterations must be independent but for ``Reduce`` on
  buffers allocated outside the loop, whose per-lane partial results are combined by a fixed tree after the
  loop: the result depends on ``width``, not on timing. ``unrolled`` needs constant bounds; its variable is a
  constant in every copy, so ``register`` buffers indexed by it become registers.
* ``register`` buffers have constant size and are indexed by constants (after unrolling); ``stack`` buffers
  have constant size; ``scratch`` is the executor's per-thread memory.
* Kernel parameters may alias only when the same array is read and then written at the same index. The
  variables ``LO`` and ``HI`` are the chunk ``[lo, hi)`` of the parallel range handed to this call.

Complex numbers do not exist at this level: a complex array is a buffer of its real type with twice the
elements, (re, im) interleaved.
"""

from __future__ import annotations

from velax._ir.dtype_names import DTYPES, FLOATS, SIGNED, UNSIGNED, WIDTH
from velax._lang.record import Record, factory

__all__ = [
    "BINARY_OPS", "COMPARISONS", "DTYPES", "FLOATS", "HI", "LO", "REDUCE_OPS", "SIGNED", "SPACES", "UNARY_OPS",
    "UNSIGNED", "WIDTH",
    "Alloc", "Binary", "Bitcast", "Buffer", "Cast", "Const", "Expr", "Extent", "Fma", "For", "If", "Kernel", "Let",
    "Load",
    "Reduce", "Select", "Stmt", "Store", "Unary", "Var", "While",
]  # fmt: skip

UNARY_OPS = frozenset({"neg", "abs", "not", "sqrt", "floor", "ceil", "trunc", "rint", "clz", "popcount"})
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
BINARY_OPS = COMPARISONS | {
    "add",
    "sub",
    "mul",
    "div",
    "rem",
    "min",
    "max",
    "and",
    "or",
    "xor",
    "shl",
    "shrl",
    "shra",
    "mulhi",
    "copysign",
}
REDUCE_OPS = frozenset({"add", "mul", "min", "max", "and", "or", "xor"})
SPACES = ("param", "register", "stack", "scratch")


class Expr:
    """A value; ``dtype`` is one of `DTYPES`. Compared and hashed by identity: sharing is by object."""

    __slots__ = ("dtype",)
    dtype: str


class Const(Expr):
    """A literal: Python bool, int or float (any NaN is the quiet NaN)."""

    __slots__ = ("value",)

    def __init__(self, value: bool | int | float, dtype: str):
        if dtype not in WIDTH:
            raise TypeError(f"Const: unknown dtype {dtype!r}")
        self.value, self.dtype = value, dtype


class Var(Expr):
    """A variable bound by `For` or `Let` (or `LO`, `HI`). Two variables are the same only if they are one object."""

    __slots__ = ("name",)

    def __init__(self, name: str, dtype: str = "i64"):
        self.name, self.dtype = name, dtype


class Extent(Expr):
    """The ``k``-th run-time extent of the launch, an ``i64``."""

    __slots__ = ("k",)

    def __init__(self, k: int):
        self.k, self.dtype = k, "i64"


class Load(Expr):
    """``buffer[index]``."""

    __slots__ = ("buffer", "index")

    def __init__(self, buffer: Buffer, index: Expr):
        if index.dtype != "i64":
            raise TypeError(f"Load from {buffer.name}: the index must be i64, got {index.dtype}")
        self.buffer, self.index, self.dtype = buffer, index, buffer.dtype


class Unary(Expr):
    __slots__ = ("op", "x")

    def __init__(self, op: str, x: Expr):
        if op not in UNARY_OPS:
            raise TypeError(f"Unary: unknown operation {op!r}")
        self.op, self.x, self.dtype = op, x, x.dtype


class Binary(Expr):
    __slots__ = ("op", "x", "y")

    def __init__(self, op: str, x: Expr, y: Expr):
        if op not in BINARY_OPS:
            raise TypeError(f"Binary: unknown operation {op!r}")
        if x.dtype != y.dtype:
            raise TypeError(f"Binary {op}: operands must have one dtype, got {x.dtype} and {y.dtype}")
        self.op, self.x, self.y = op, x, y
        self.dtype = "bool" if op in COMPARISONS else x.dtype


class Fma(Expr):
    """``x * y + z`` with one rounding."""

    __slots__ = ("x", "y", "z")

    def __init__(self, x: Expr, y: Expr, z: Expr):
        if not x.dtype == y.dtype == z.dtype or x.dtype not in FLOATS:
            raise TypeError(f"Fma: operands must be floats of one dtype, got {x.dtype}, {y.dtype}, {z.dtype}")
        self.x, self.y, self.z, self.dtype = x, y, z, x.dtype


class Select(Expr):
    """``x`` where ``cond`` (a ``bool``) else ``y``; both are evaluated."""

    __slots__ = ("cond", "x", "y")

    def __init__(self, cond: Expr, x: Expr, y: Expr):
        if cond.dtype != "bool" or x.dtype != y.dtype:
            raise TypeError(
                f"Select: expected bool and two values of one dtype, got {cond.dtype}, {x.dtype}, {y.dtype}"
            )
        self.cond, self.x, self.y, self.dtype = cond, x, y, x.dtype


class Cast(Expr):
    """Value conversion."""

    __slots__ = ("x",)

    def __init__(self, dtype: str, x: Expr):
        if dtype not in WIDTH:
            raise TypeError(f"Cast: unknown dtype {dtype!r}")
        self.dtype, self.x = dtype, x


class Bitcast(Expr):
    """The same bits as another dtype of equal width."""

    __slots__ = ("x",)

    def __init__(self, dtype: str, x: Expr):
        if dtype == "bool" or x.dtype == "bool" or WIDTH[dtype] != WIDTH[x.dtype]:
            raise TypeError(f"Bitcast: widths of {x.dtype} and {dtype} differ or one is bool")
        self.dtype, self.x = dtype, x


LO = Var("lo")
HI = Var("hi")


class Buffer(Record, eq=False):
    """Memory of ``size`` elements (None: known to the caller only). A ``param`` is the next entry of the
    kernel's buffer list.
    """

    name: str
    dtype: str
    space: str = "param"
    size: int | None = None

    def __post_init__(self):
        if self.space not in SPACES or self.dtype not in WIDTH:
            raise TypeError(f"Buffer {self.name}: unknown space {self.space!r} or dtype {self.dtype!r}")
        if self.space != "param" and (self.size is None or self.size < 1):
            raise TypeError(f"Buffer {self.name}: a {self.space} buffer needs a constant positive size")


class Stmt(Record, eq=False):
    """Compared by identity, as expressions are."""


class Let(Stmt):
    var: Var
    value: Expr

    def __post_init__(self):
        if self.var.dtype != self.value.dtype:
            raise TypeError(f"Let {self.var.name}: {self.var.dtype} bound to {self.value.dtype}")


class Store(Stmt):
    buffer: Buffer
    index: Expr
    value: Expr

    def __post_init__(self):
        if self.index.dtype != "i64" or self.value.dtype != self.buffer.dtype:
            raise TypeError(
                f"Store to {self.buffer.name} ({self.buffer.dtype}): index {self.index.dtype}, value {self.value.dtype}"
            )


class Reduce(Stmt):
    op: str
    buffer: Buffer
    index: Expr
    value: Expr

    def __post_init__(self):
        if self.op not in REDUCE_OPS:
            raise TypeError(f"Reduce: unknown operation {self.op!r}")
        if self.index.dtype != "i64" or self.value.dtype != self.buffer.dtype:
            raise TypeError(
                f"Reduce to {self.buffer.name} ({self.buffer.dtype}): index {self.index.dtype}, value "
                f"{self.value.dtype}"
            )


class For(Stmt):
    var: Var
    start: Expr
    stop: Expr
    body: tuple[Stmt, ...]
    kind: str = "serial"
    width: int = 1
    step: int = 1

    def __post_init__(self):
        if self.kind not in ("serial", "vector", "unrolled"):
            raise TypeError(f"For {self.var.name}: unknown kind {self.kind!r}")
        if self.kind == "vector" and (self.step != 1 or self.width < 2):
            raise TypeError(
                f"For {self.var.name}: a vector loop has step 1 and width >= 2, got {self.step} and {self.width}"
            )
        if self.kind == "unrolled" and not (isinstance(self.start, Const) and isinstance(self.stop, Const)):
            raise TypeError(f"For {self.var.name}: an unrolled loop needs constant bounds")
        if self.step < 1:
            raise TypeError(f"For {self.var.name}: step must be positive, got {self.step}")


class While(Stmt):
    """Repeat: run ``cond_block``, evaluate ``cond`` (it may use the block's variables), stop if false, run ``body``."""

    cond_block: tuple[Stmt, ...]
    cond: Expr
    body: tuple[Stmt, ...]


class If(Stmt):
    cond: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


class Alloc(Stmt):
    buffer: Buffer


class Kernel(Record, eq=False):
    """A function over ``[lo, hi)`` of its parallel range; ``n_extents`` run-time extents; ``writes`` are
    derived from the body.
    """

    name: str
    params: tuple[Buffer, ...]
    n_extents: int
    body: tuple[Stmt, ...]
    attributes: dict[str, int] = factory(dict)  # e.g. {"codegen": 3}: facts for emission, part of the text
