"""Where a kernel's scratch buffers lie in the memory that each thread lends it."""

from __future__ import annotations

from velax._ir.loops import WIDTH, Alloc, Buffer, For, If, Kernel, While

__all__ = ["lanes_of", "memory_bytes", "scratch_bytes", "scratch_layout"]


def lanes_of(width: int) -> int:
    """The lanes used for a vector loop of ``width``: a power of two, because LLVM takes other vectors apart
    into scalars.
    """
    return 1 << width.bit_length() - 1


def memory_bytes(buffer: Buffer, lanes: int) -> int:
    """What a buffer takes that has one value for each lane of a vector loop around it (0: there is none)."""
    return -(-buffer.size * max(lanes, 1) * (WIDTH[buffer.dtype] // 8) // 64) * 64


def scratch_layout(body) -> tuple[dict[Buffer, int], int]:
    """Offsets of scratch buffers; blocks that are not alive together share memory."""
    offsets: dict[Buffer, int] = {}

    def walk(stmts, start: int, lanes: int) -> int:
        peak = start
        for s in stmts:
            kind = type(s)
            if kind is Alloc and s.buffer.space == "scratch":
                offsets[s.buffer] = start
                start += memory_bytes(s.buffer, lanes)
                peak = max(peak, start)
            elif kind is For:
                peak = max(peak, walk(s.body, start, lanes_of(s.width) if s.kind == "vector" else lanes))
            elif kind is If:
                peak = max(peak, walk(s.then, start, lanes), walk(s.orelse, start, lanes))
            elif kind is While:
                peak = max(peak, walk((*s.cond_block, *s.body), start, lanes))
        return peak

    return offsets, walk(body, 0, 0)


def scratch_bytes(kernel: Kernel) -> int:
    """Bytes of per-thread scratch memory that a call of ``kernel`` uses."""
    return scratch_layout(kernel.body)[1]
