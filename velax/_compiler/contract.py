"""Contractions: how a ``dot`` is computed, by its sizes and strides, and the launches that do it.

Four forms, chosen by `lower_contraction`:

* a *tile* kernel (`contract_tile`): outer products in registers; B is read where it lies or packed;
* a *row* kernel (`contract_rows`): inner products along K, for matrix-vector products and their like where K is contiguous in both operands;
* either of them over blocks of K as separate tasks, where C alone would not keep the cores busy, and a kernel that adds the partial results in order;
* the plain nest (`nest_dot.build_dot`) for what has neither rows nor columns.

Every choice depends on sizes and the target, never on the number of threads, so results are the same bits on any number of cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from velax._compiler import schedule
from velax._compiler.contract_rows import build_rows
from velax._compiler.contract_tile import At, Epilogue, Extents, Problem, Sizes, Tile, TileBuilder, accumulator
from velax._compiler.nest_dot import Dim, DotSpec, build_dot
from velax._compiler.target import Target
from velax._ir import loops
from velax._ir import loops_build as lb
from velax._ir.graph import COMPLEX_PART

__all__ = ["Contraction", "Launch", "choose", "plan_contraction"]

#: nanoseconds of work that one chunk of a contraction should have, and chunks that are enough for any machine
CHUNK_NS = 8_000
MAX_TASKS = 64
#: a task that packs B should multiply at least this many rows with it
PACKED_ROWS = 64
#: bytes of packed B in one task
PACK_BYTES = 512 << 10
#: depth of one block of K where K is longer than that
K_BLOCK = 1024


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
