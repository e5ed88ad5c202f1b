"""Contractions: how a ``dot`` is computed, by its sizes and strides, and the launches that do it.

The forms, chosen by `plan_contraction`:

* a *tile* kernel (`contract_tile`): outer products in registers; B is read where it lies or packed;
* a *rows* kernel (`contract_rows`): inner products along K, for matrix-vector products and their
  like where K is contiguous in both operands;
* either of them over blocks of K as separate tasks, where C alone would not keep the cores busy,
  and a kernel that adds the partial results in order.

Every choice depends on sizes and the target, never on the number of threads, so results are the
same bits on any number of cores.
"""

from __future__ import annotations

import functools
import math

from velax._compiler import schedule
from velax._compiler.contract_rows import RowsTile, build_rows
from velax._compiler.contract_tile import (
    Epilogue,
    Extents,
    Problem,
    Sizes,
    Tile,
    TileBuilder,
    accumulator,
    build_row_panels,
    decode,
    result_at,
    row_panels_size,
)
from velax._compiler.nest_dot import Dim, DotSpec
from velax._compiler.target import Target
from velax._ir import loops, loops_build as lb
from velax._ir.graph import COMPLEX_PART
from velax._lang.record import Record, replace

__all__ = ["Contraction", "ContractionNest", "choose", "plan_contraction"]

#: nanoseconds of work that one chunk of a contraction should have, and chunks that are enough for
#: any machine
CHUNK_NS = 8_000
MAX_TASKS = 64
#: a task that packs B multiplies at least this many rows with it, and this many if there are tasks
#: enough
PACKED_ROWS = 64
GOOD_ROWS = 512
#: rows from which a copy of B is worth its making although B could be read where it lies, beyond
#: half of the second-level cache
MANY_ROWS = 128
#: tasks that are enough for a few threads
GOOD_TASKS = 16
#: columns from which A is copied to panels, in panels of B
FEW_PANELS = 4
#: panels of packed B that a task walks at most for each group of rows
MOST_PANELS = 16
#: depth of K up to which writing C is most of the work
SHALLOW = 16
#: vectors up to which an inner product is short: the sum over lanes is much of the work
SHORT = 4
#: rows of B that begin further apart than this are a page each
PAGE_BYTES = 4096
#: depth of one block of K where K is longer than that
K_BLOCK = 1024


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


class ContractionNest:
    """One launch of a contraction: statements over tasks, its extents, and how the tasks may be
    cut.

    Has what `nest_group.Nest` has, and ``extents``.
    """

    __slots__ = ("body", "extents", "grain", "last_level_stores", "total", "work")

    def __init__(self, body, extents, total: int, work: float):
        self.body, self.extents, self.total, self.work = body, tuple(extents), total, work
        self.grain = _grain(total, work)
        self.last_level_stores = False


def _grain(total: int, work: float) -> int:
    """Tasks a chunk: about `CHUNK_NS` of work, in a number of chunks that divides evenly among a
    few threads."""
    chunks = int(work / CHUNK_NS)
    if chunks < 2:
        return total
    chunks = min(total, _ceil(chunks, 4) * 4, 4 * MAX_TASKS)
    return _ceil(total, chunks)


class TilePlan(Record):
    """A contraction by the kernel of `contract_tile`."""

    spec: DotSpec
    tile: Tile
    sizes: Sizes
    tasks: int
    work: float


class RowsPlan(Record):
    """A contraction by the kernel of `contract_rows`."""

    spec: DotSpec
    tile: RowsTile
    column_block: int
    column_blocks: int
    k_block: int
    k_blocks: int
    tasks: int
    work: float


class Contraction(Record):
    """What was chosen for a `DotSpec`.

    Attributes:
        main: the kernel that multiplies.
        swapped: whether A and B changed roles (a matrix-vector product seen as vector-matrix).
        sums: elements (of C's dtype, or the accumulator's if that is wider) of a buffer for partial
            results, 0 if none is needed.
        copies: how many partial results that buffer holds, to be added by a second launch; 0 if the
            main kernel finishes C itself.
    """

    spec: DotSpec
    main: TilePlan | RowsPlan
    swapped: bool
    sums: int
    copies: int
    target: Target

    @property
    def panels(self) -> int:
        """Elements (of dtype `accumulator`) of a buffer for A in panels, to be filled by `pack` and
        passed as A; 0 to pass A itself."""
        main = self.main
        return row_panels_size(main.spec, main.tile.rows) if isinstance(main, TilePlan) and main.tile.packed_rows else 0

    @property
    def panels_dtype(self) -> str:
        return accumulator(self.spec.dtype)

    def pack(self, a, panels) -> ContractionNest:
        """The launch that copies A into `panels`."""
        spec = self.main.spec
        body, extents, tasks = build_row_panels(spec, self.main.tile.rows, a, panels)
        return ContractionNest(body, extents, tasks, self.panels * 0.4)

    @property
    def sums_dtype(self) -> str:
        """The dtype of partial results: complex results keep theirs."""
        return self.spec.dtype if self.spec.dtype in COMPLEX_PART else accumulator(self.spec.dtype)

    def launch(self, a, b, sums, c, epilogue: Epilogue | None = None) -> ContractionNest:
        """The launch that multiplies, for these parameter buffers; ``epilogue`` is applied unless
        `copies` are to be added first."""
        main = self.main
        if self.swapped:
            a, b = b, a
        problem = Problem(main.spec, a, b, c, c if sums is None else sums, epilogue)
        if isinstance(main, RowsPlan):
            body, extents = build_rows(
                problem, main.tile, main.column_block, main.column_blocks, main.k_block, main.k_blocks
            )
        else:
            tile = replace(main.tile, staged=True) if epilogue is not None else main.tile
            builder = TileBuilder(problem, tile, main.sizes, self.target.has("fma"))
            body, extents = builder.body(), builder.extents.values
        return ContractionNest(body, extents, main.tasks, main.work)

    def finish(self, sums, c, epilogue: Epilogue | None = None) -> ContractionNest:
        """The launch that adds `copies` partial results in order."""
        return build_sum(self.main.spec, self.copies, sums, c, epilogue, self.target)


def plan_contraction(spec: DotSpec, target: Target, has_epilogue: bool = False) -> Contraction:
    """Choose how to compute ``spec`` on ``target``.

    Args:
        spec: see `nest_dot.DotSpec`; C must not be empty.
        target: the machine.
        has_epilogue: whether `Contraction.launch` will get an epilogue (which C then may not be
            used for sums in progress).
    """
    own, swapped = spec, False
    m, n = spec.size("m"), spec.size("n")
    if n == 1 and m > 1:
        own, swapped, m, n = _swap(spec), True, n, m
    rows = _plan_rows(own, target)
    main = rows or _plan_tile(own, target)
    result = spec.size("batch") * m * n
    copies = sums = 0
    if isinstance(main, RowsPlan):
        copies = main.k_blocks if main.tile.split else 0
    elif main.tile.block == "split":
        copies = main.tasks // (main.sizes.row_blocks * main.sizes.column_blocks * spec.size("batch"))
    elif main.tile.block == "add" and (
        has_epilogue or accumulator(spec.dtype) != COMPLEX_PART.get(spec.dtype, spec.dtype)
    ):
        sums = result
        main = replace(main, tile=replace(main.tile, staged=True))
    return Contraction(spec, main, swapped, sums or copies * result, copies, target)


def _swap(spec: DotSpec) -> DotSpec:
    """The transposed contraction: where M or N is one, C is the same memory."""
    turn = lambda dims: tuple(Dim(d.extent, d.b, d.a, d.c) for d in dims)
    return DotSpec(
        spec.b_dtype,
        spec.a_dtype,
        spec.dtype,
        turn(spec.batch),
        turn(spec.n),
        turn(spec.m),
        turn(spec.k),
        spec.b_offset,
        spec.a_offset,
    )


def _work(spec: DotSpec, target: Target) -> float:
    """Nanoseconds on one core: arithmetic at nearly full rate, or the operands' way from memory."""
    batch, m, n, k = (spec.size(group) for group in ("batch", "m", "n", "k"))
    lanes = target.lanes(accumulator(spec.dtype))
    products = (2 if spec.a_dtype in COMPLEX_PART else 1) * (2 if spec.b_dtype in COMPLEX_PART else 1)
    sizes = [(m * k, spec.a_dtype), (k * n, spec.b_dtype), (m * n, spec.dtype)]
    traffic = sum(size * schedule.element_bytes(dtype) for size, dtype in sizes)
    return batch * max(m * n * k * products / (lanes * 6.0), traffic * 0.06) + 20 * batch


#: rows that the inner-product kernel is used for: from then on packing pays
_FEW_ROWS = 8


def _plan_rows(spec: DotSpec, target: Target) -> RowsPlan | None:
    """The inner-product kernel, where K is contiguous in both operands and there are few rows, or
    nothing but K."""
    batch, m, n = (spec.size(group) for group in ("batch", "m", "n"))
    inner = spec.k[-1] if spec.k else None
    lanes = target.lanes(accumulator(spec.dtype))
    contiguous = inner is not None and inner.a == inner.b == 1
    if n > 1 and not (contiguous and m <= _FEW_ROWS and inner.extent >= (lanes if m > 1 else 2)):
        return None
    rows = m if m <= 4 else 4
    columns = 1 if n == 1 else 2 if n < 8 else 4
    depth = inner.extent if len(spec.k) == 1 and inner.extent <= SHORT * lanes else 0
    if depth and m == 1:
        columns = n if n <= 8 else next((c for c in (8, 7, 6, 5) if n % c == 0), 8)
    width = 1
    if inner is not None and inner.extent >= 4:
        width = lanes * max(1, 8 // (rows * columns))
        while width > 4 and width > inner.extent:
            width //= 2
    work = _work(spec, target)
    groups = _ceil(n, columns)
    want = max(1, min(MAX_TASKS, int(work / (2 * CHUNK_NS))))
    blocks = min(groups, _ceil(want, batch))
    block = _ceil(groups, blocks) * columns
    blocks = _ceil(n, block)
    k_block = k_blocks = 1
    if batch * blocks < min(8, want) and spec.k and spec.k[0].extent >= 2:
        k_block = _ceil(spec.k[0].extent, min(want, spec.k[0].extent))
        if len(spec.k) == 1:
            k_block = _ceil(k_block, width) * width
        k_blocks = _ceil(spec.k[0].extent, k_block)
    tile = RowsTile(columns, rows, rows == m, width, depth, n % columns == 0, blocks > 1, k_blocks > 1)
    return RowsPlan(spec, tile, block, blocks, k_block, k_blocks, batch * blocks * k_blocks, work)


def _registers(target: Target) -> int:
    return 32 if target.vector_bytes == 64 else 16


@functools.lru_cache(maxsize=4096)
def choose(
    m: int, n: int, lanes: int, registers: int, products: int = 1, parts: int = 1, parts_b: int = 1
) -> tuple[int, int, int, int]:
    """(rows, vectors, lanes, vectors of the tail) of the register tile for ``m`` rows and ``n``
    columns.

    Compares cycles for one step of K over all of C: two multiply-adds or two loads a cycle, and no
    less than the latency of a chain.
    """
    while lanes > 4 and n <= lanes // 2:
        lanes //= 2

    def cycles(rows: int, vectors: int) -> float:
        work = rows * vectors * products
        loads = rows * products // parts_b + vectors * parts_b
        return max(work / 2, loads / 2, 4.0 * products / parts) + 0.5 + 0.1 * loads + 0.05 * vectors * parts_b

    best = None
    for rows in range(min(m, 8), 0, -1):
        for vectors in range(1, 25):
            # a vector of B that only one row uses is an operand in memory
            if (
                rows * vectors * parts + (vectors if rows > 1 else 1) * parts_b + products // parts_b
                > registers - registers // 16
            ):
                break
            if vectors > 1 and (vectors - 1) * lanes >= n:
                break
            panel = vectors * lanes
            full, rest = divmod(n, panel)
            tail = 0
            cost = full * cycles(rows, vectors)
            if rest:
                tail = 1 << max(0, (8 // (rows * parts)).bit_length() - 1) if rows * parts < 8 else 1
                while tail > 1 and (tail // 2) * lanes >= rest:
                    tail //= 2
                cost += _ceil(rest, tail * lanes) * (cycles(rows, tail) + 1.5)
            cost *= _ceil(m, rows)
            if best is None or cost < best[0] * 0.995:
                best = cost, (rows, vectors, lanes, tail)
    return best[1]


def _packs_rows(spec: DotSpec, acc: str, target: Target) -> bool:
    """Whether a copy of A in panels is worth its making, for many columns: elements to convert, or
    far apart both ways."""
    if not spec.k or not spec.m:
        return False
    if COMPLEX_PART.get(spec.a_dtype, spec.a_dtype) != acc or len(spec.m) > 1:
        return True
    if spec.k[-1].a == 1:
        return False
    return (
        spec.m[0].a != 1
        or spec.size("m") * spec.size("k") * schedule.element_bytes(spec.a_dtype) > target.caches[1] // 4
    )


#: results whose conversion from the accumulator takes many instructions
_ROUNDED_BY_CODE = frozenset({"bf16", "f8e4m3fn", "f8e5m2"})


def _size(dims) -> int:
    return math.prod(d.extent for d in dims)


def _row_block(m: int, rows: int, count: int, least: int) -> int:
    """Rows of a task, a multiple of ``rows``: about ``m / count``, but not fewer than ``least``."""
    count = min(count, max(1, m // least))
    return _ceil(_ceil(m, rows), count) * rows


def _plan_tile(spec: DotSpec, target: Target) -> TilePlan:
    batch, m, n, k = (spec.size(group) for group in ("batch", "m", "n", "k"))
    acc = accumulator(spec.dtype)
    parts_a, parts_b = (2 if dtype in COMPLEX_PART else 1 for dtype in (spec.a_dtype, spec.b_dtype))
    parts = 2 if spec.dtype in COMPLEX_PART else 1
    rows, vectors, lanes, tail = choose(m, n, target.lanes(acc), _registers(target), parts_a * parts_b, parts, parts_b)
    panel = vectors * lanes
    panels = _ceil(n, panel)
    work = _work(spec, target)
    contiguous = len(spec.n) <= 1 and all(d.b == 1 for d in spec.n)
    item = loops.WIDTH[acc] // 8 * parts_b
    converts = COMPLEX_PART.get(spec.b_dtype, spec.b_dtype) != acc or parts_b == 2
    apart = max((d.b for d in spec.k), default=0) * schedule.element_bytes(spec.b_dtype) >= PAGE_BYTES and k >= 64
    large = k * n * item > target.caches[1] // 2 and (apart or k * panel * item > target.caches[0])
    pack = not contiguous or (m >= MANY_ROWS and large) or (converts and m >= 2 * rows)
    packed_rows = rows > 1 and panels > FEW_PANELS and _packs_rows(spec, acc, target)
    want = _ceil(max(1, min(MAX_TASKS, int(work / (3 * CHUNK_NS)))), batch)

    # K: whole, in blocks one after the other, or in blocks side by side
    capacity = min(target.caches[1] // 2, 1 << 20) // item
    deepest = min(K_BLOCK, capacity // panel)
    cut, inner = len(spec.k) - 1, 1
    while cut > 0 and inner * spec.k[cut].extent <= deepest:
        inner *= spec.k[cut].extent
        cut -= 1
    block, k_block, k_blocks, before = "", 1, 1, 1
    if spec.k:
        if batch * _ceil(m, rows) * panels < 8 and want * batch > 4 and k > 256:
            block = "split"
            if not pack:
                cut = next((d for d in range(len(spec.k)) if _size(spec.k[: d + 1]) >= want * batch), 0)
                inner = _size(spec.k[cut + 1 :])
        extent, before = spec.k[cut].extent, _size(spec.k[:cut])
        if block:
            k_block = max(1, _ceil(extent, max(1, want * batch // before)))
            if pack:
                k_block = min(k_block, max(1, deepest // inner))
        elif pack and k * panel > capacity:
            block = "add"
            k_block = max(1, deepest // inner)
        if block:
            k_blocks = _ceil(extent, k_block)
            if before * k_blocks == 1:
                block = ""
    depth = k_block * inner if block else k

    # tasks
    row_block = m
    if block == "split":
        each = min(panels, max(1, capacity // (depth * panel)) if pack else panels)
    elif pack:
        room = min(target.caches[1] // 3 // item, capacity)
        most = min(MOST_PANELS, max(1, room // max(1, depth * panel)))
        few = min(want, _ceil(GOOD_TASKS, batch))
        enough = (x for x in range(most, 0, -1) if _ceil(panels, x) * max(1, m // GOOD_ROWS) >= few)
        each = next(enough, max(1, min(most, panels // few)))
        row_block = _row_block(m, rows, _ceil(few, _ceil(panels, each)), PACKED_ROWS)
    else:
        # with little to add up, what counts is that rows of C are written from end to end
        by_columns = n >= m and not (k <= SHALLOW and m >= want * rows)
        each = max(1, panels // want) if by_columns else panels
        row_block = _row_block(m, rows, _ceil(want, _ceil(panels, each)), rows)
    column_blocks = _ceil(panels, each)
    row_blocks = _ceil(m, row_block)
    full = n >= panel
    tile = Tile(
        rows, vectors, lanes, tail, full,
        exact_rows=rows == m, row_blocks=row_blocks > 1, column_blocks=column_blocks > 1, pack=capacity if pack else 0,
        staged=rows * vectors > 4 and spec.dtype in _ROUNDED_BY_CODE,
        block=block, k_cut=max(cut, 0), packed_rows=packed_rows,
    )  # fmt: skip
    sizes = Sizes(row_block, row_blocks, each * panel, column_blocks, k_block, k_blocks)
    tasks = batch * row_blocks * column_blocks
    if block == "split":
        tasks *= before * k_blocks
    return TilePlan(spec, tile, sizes, tasks, work)


def build_sum(spec: DotSpec, copies: int, sums, c, epilogue: Epilogue | None, target: Target) -> ContractionNest:
    """C as the sum of ``copies`` partial results, one after the other in memory; rows are tasks,
    lanes run along columns."""
    batch, m, n = (spec.size(group) for group in ("batch", "m", "n"))
    parts = 2 if spec.dtype in COMPLEX_PART else 1
    acc_dtype = accumulator(spec.dtype)
    extents = Extents()
    row_extent, column_extent, whole, count = (extents.size(x) for x in (m, n, batch * m * n, copies))
    task, k = loops.Var("task"), loops.Var("copy")
    column = lb.c(0) if n == 1 else loops.Var("column")
    linear = lb.add(lb.mul(task, column_extent), column)
    acc = loops.Buffer("acc", acc_dtype, "register", parts)
    before: list[loops.Stmt] = []
    *entry, row = decode(task, [*(extents.size(d.extent) for d in spec.batch), row_extent], before, "part")
    at = result_at(spec, extents, entry, row_extent, column_extent)(row, column)
    body: list[loops.Stmt] = [loops.Alloc(acc)]
    add = []
    for part in range(parts):
        where = lb.c(part)
        body.append(loops.Store(acc, where, lb.c(0, acc_dtype)))
        x = lb.load(sums, lb.add(lb.mul(lb.add(lb.mul(k, whole), linear), parts), part))
        combine = lb.or_ if spec.dtype == "bool" else lb.add
        add.append(loops.Store(acc, where, combine(lb.load(acc, where), x)))
    body.append(loops.For(k, lb.c(0), count, tuple(add)))
    values = []
    for part in range(parts):
        var = loops.Var("value", COMPLEX_PART.get(spec.dtype, spec.dtype))
        body.append(loops.Let(var, lb.cast(var.dtype, lb.load(acc, lb.c(part)))))
        values.append(var)
    if epilogue is None:
        body += [loops.Store(c, lb.add(lb.mul(at.linear, parts), part), x) for part, x in enumerate(values)]
    else:
        body += epilogue(values[0] if parts == 1 else tuple(values), at)
    if n > 1:
        body = [loops.For(column, lb.c(0), column_extent, tuple(body), "vector", target.lanes(acc_dtype))]
    nest = [loops.For(task, loops.LO, loops.HI, (*before, *body))]
    return ContractionNest(nest, extents.values, batch * m, batch * m * n * copies * 0.1 * parts + 20)
