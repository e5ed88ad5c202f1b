"""Schedules: every size-dependent choice in one place, as functions of sizes and the target, never of thread counts.

Which sizes make a new kernel for a new shape: elementwise kernels over one flat range take their size at run time;
inner loop lengths of everything else are constants in the kernel's text.
"""

from __future__ import annotations

from velax._compiler.target import Target
from velax._ir import loops
from velax._ir.graph import COMPLEX_PART, Node

__all__ = ["element_bytes", "element_ns", "grain_for", "inner_block", "reduction_block", "vector_width"]

#: a concatenation of more operands is written piece by piece instead of being selected from
MAX_INLINE_PIECES = 4
#: a stored concatenation of more elements is written piece by piece too
PIECEWISE_ELEMENTS = 1 << 16
#: the first stage of column reductions walks memory in order, with accumulators for this many
#: columns in the first-level cache
COLUMN_BLOCK = 2048
#: rows and columns of the tiles in which transposing nests walk; nests smaller than `TILE_ELEMENTS` do not bother
TILE = (64, 64)
TILE_ELEMENTS = 1 << 12
#: groups of a program that may become one kernel if all of it is no more work than `INLINE_WORK`
INLINE_GROUPS = 16
#: simple operations in one iteration of a loop up to which the loop is compiled whole
INLINE_WORK = 4096
#: nanoseconds of work that one chunk of a parallel range should have
CHUNK_NS = 20_000
#: reductions with fewer rows than this and at least `SPLIT_ELEMENTS` elements are done in two stages
SPLIT_ROWS = 16
SPLIT_ELEMENTS = 1 << 17
#: elements that one partial reduction covers at least, and how many partial reductions there are about at most
PARTIAL_ELEMENTS = 1 << 15
PARTIAL_BLOCKS = 128
#: column reductions keep at least this many lanes busy before they are split along the reduced axis
SPLIT_COLUMNS = 1 << 16


def element_bytes(dtype: str) -> int:
    part = COMPLEX_PART.get(dtype)
    return 2 * loops.WIDTH[part] // 8 if part else loops.WIDTH[dtype] // 8


def grain_for(total: int, unit_ns: float, multiple: int = 1) -> int:
    """Chunk length for a parallel range of ``total`` units of ``unit_ns`` each, a multiple of ``multiple``."""
    units = max(1, int(CHUNK_NS / max(unit_ns, 1e-3)))
    units = max(multiple, units // multiple * multiple)
    return total if total <= units + units // 2 else units


def vector_width(target: Target, dtypes, cost: float) -> int:
    """Lanes of a vector loop whose body touches ``dtypes`` and costs ``cost`` simple operations an element.

    Cheap bodies run several registers at once to hide latency; costly ones keep their temporaries in registers.
    """
    widest = 8
    for dtype in dtypes:
        widest = max(widest, loops.WIDTH[COMPLEX_PART.get(dtype, dtype)])
    lanes = target.vector_bytes * 8 // widest
    if cost <= 12:
        return 4 * lanes
    return 2 * lanes if cost <= 300 else lanes


def element_ns(cost: float, nbytes: float) -> float:
    """Estimated nanoseconds of one element on one core: arithmetic in vectors, traffic at cache speed."""
    return 0.03 * cost + 0.04 * nbytes + 0.02


def inner_block(rows: int, inner: int) -> int:
    """How much of an inner extent one parallel unit covers: all of it unless there are few rows of great length."""
    if rows >= 64 or inner <= 16384:
        return inner
    return 8192


def reduction_block(x: Node, pattern) -> tuple[int, int] | None:
    """(which item of ``pattern``, block length) to cut a reduction of ``x`` in two stages, None to leave it whole."""
    size = x.size
    if size < SPLIT_ELEMENTS or not pattern:
        return None
    rows = 1
    for n, label in pattern:
        if label == "K":
            rows *= n
    if rows >= SPLIT_ROWS and pattern[-1][1] == "R":
        return None
    if rows >= SPLIT_COLUMNS:
        return None
    reduced = [(n, k) for k, (n, label) in enumerate(pattern) if label == "R"]
    extent, digit = max(reduced)
    per_step = size // extent
    block = max(1, PARTIAL_ELEMENTS // per_step, extent // PARTIAL_BLOCKS)
    return (digit, block) if extent >= 2 * block else None
