"""Memory planning: which values share storage, and where each lies.

Input: a list of steps (what the program will do, over `Value` objects); output: a `Layout` that gives every
value a slot. Three things happen:

1. *Liveness.* Steps are numbered in program order. A value is live in segments of time: from a write to the
   last read. A value that a loop reads lives until the loop ends; a loop's carry is free between its last
   read in the body and the copy of the new value at the body's end.
2. *Sharing.* Copies disappear where source and destination can be one storage: updates in place (a copy of
   the operand followed by a partial write), loop carries, outputs, donated inputs. Results of elementwise
   kernels take over an operand that dies there. A carry that cannot be computed in place is exchanged with
   its new value by a pointer swap if it is large.
3. *Placement.* The remaining temporaries get offsets in one arena, first fit in order of their beginning.
"""

from __future__ import annotations

from velax._lang.record import Record, factory

__all__ = [
    "CallStep", "CallbackStep", "CondStep", "CopyStep", "LaunchStep", "Layout", "LoopStep", "Step", "Value",
    "WhileStep", "plan_memory",
]  # fmt: skip

ALIGN = 64
_SWAP_BYTES = 4096  #: a smaller carry is copied rather than swapped
_END = 1 << 60


class Value:
    """Memory for one array: ``kind`` is input, output, literal or temp; ``index`` numbers inputs and outputs;
    ``data`` is a literal's bytes.
    """

    __slots__ = ("data", "dtype", "index", "kind", "label", "nbytes", "size", "storage")

    def __init__(
        self, size: int, dtype: str, nbytes: int, kind: str = "temp", index: int = 0, data: bytes = b"", label: str = ""
    ):
        self.size, self.dtype, self.nbytes = size, dtype, nbytes
        self.kind, self.index, self.data, self.label = kind, index, data, label
        self.storage: Storage | None = None

    def __repr__(self):
        name = f"{self.kind}{self.index}" if self.kind in ("input", "output") else f"{self.kind}@{id(self) & 0xFFFF:x}"
        return f"<{name} {self.dtype}[{self.size}]>"


class Step(Record, eq=False):
    """One step of a block, before memory is laid out; the passes fill in ``pos`` and ``swap``."""


class LaunchStep(Step):
    """``aligned``: (written, read) pairs of values that the kernel touches at equal positions only, reading first."""

    kernel: str
    values: tuple[Value, ...]
    writes: frozenset[Value]
    total: int
    grain: int
    extents: tuple[int, ...] = ()
    aligned: frozenset[tuple[Value, Value]] = frozenset()
    work: float = 0.0
    pos: int = -1


class CopyStep(Step):
    """``carry``: the copy at the end of a loop's body, which replaces the whole value for the next iteration."""

    dst: Value
    src: Value
    carry: bool = False
    swap: bool = False
    pos: int = -1


class CallStep(Step):
    function: str
    values: tuple[Value, ...]
    writes: frozenset[Value]
    params: tuple[int, ...]
    work: float = 0.0
    pos: int = -1


class WhileStep(Step):
    cond: list[Step]
    pred: Value
    body: list[Step]
    pos: int = -1


class LoopStep(Step):
    trip_count: int
    counter: Value
    body: list[Step]
    reverse: bool = False
    pos: int = -1


class CondStep(Step):
    """``results`` are written by every branch."""

    index: Value
    branches: list[list[Step]]
    results: tuple[Value, ...]
    pos: int = -1


class CallbackStep(Step):
    callback: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    pos: int = -1


class Storage:
    """Values that share memory, when it is in use, and what it is: an input, an output or part of the arena."""

    __slots__ = ("input", "nbytes", "offset", "output", "segments", "values", "written")

    def __init__(self, value: Value):
        self.values = [value]
        self.nbytes = value.nbytes
        self.input = value.index if value.kind == "input" else None
        self.output = value.index if value.kind == "output" else None
        self.segments: list[tuple[int, int]] = []
        self.written = False
        self.offset = 0


class Layout(Record):
    """The result: ``arena_bytes``; each ``value.storage`` says where it lies; ``alias``: output -> input
    whose memory it takes over.
    """

    arena_bytes: int
    alias: dict[int, int] = factory(dict)
    forward: dict[int, int] = factory(dict)


class _Use(Record):
    """Where a value is written and read: positions with the loops around them."""

    writes: list = factory(list)  # (position, loops)
    reads: list = factory(list)
    carry: list = factory(list)  # positions of body-end copies
    branches: list = factory(list)  # (begin, end) of branches that write it


def plan_memory(steps: list[Step], donated: frozenset[int]) -> Layout:
    """Give every value of ``steps`` its storage. ``donated``: inputs whose memory outputs may take over."""
    walk = _Walk()
    walk.block(steps, ())
    while True:
        for value, use in walk.uses.items():
            storage = value.storage = Storage(value)
            storage.segments = _segments(value, use, donated, walk.ends)
            storage.written = bool(use.writes)
        planner = _Planner(donated, walk)
        planner.share()
        # an input may be written only where its memory becomes that of an output
        storages = {value.storage: None for value in walk.uses}
        kept = {s.input for s in storages if s.input in donated and s.written and s.output is None}
        if not kept:
            return Layout(planner.place(), planner.alias, planner.forward)
        donated = donated - kept


class _Walk:
    """Numbers the steps and records every use of every value."""

    def __init__(self):
        self.pos = 0
        self.uses: dict[Value, _Use] = {}
        self.ends: dict[int, int] = {}  # loop's first position -> last position
        self.copies: list[tuple[CopyStep, tuple]] = []
        self.launches: list[LaunchStep] = []
        self.by_pos: dict[int, Step] = {}  # launches and calls

    def use(self, value: Value) -> _Use:
        found = self.uses.get(value)
        if found is None:
            found = self.uses[value] = _Use()
        return found

    def block(self, steps, loops) -> None:
        for step in steps:
            self.pos += 1
            step.pos = pos = self.pos
            match step:
                case LaunchStep():
                    self.launches.append(step)
                    self.by_pos[pos] = step
                    for value in step.values:
                        use = self.use(value)
                        # a kernel may read what it writes (an update in place)
                        use.reads.append((pos, loops))
                        if value in step.writes:
                            use.writes.append((pos, loops))
                case CopyStep():
                    self.copies.append((step, loops))
                    self.use(step.src).reads.append((pos, loops))
                    use = self.use(step.dst)
                    use.writes.append((pos, loops))
                    if step.carry:
                        use.carry.append(pos)
                case CallStep():
                    self.by_pos[pos] = step
                    for value in step.values:
                        use = self.use(value)
                        use.reads.append((pos, loops))
                        if value in step.writes:
                            use.writes.append((pos, loops))
                case CallbackStep():
                    self.by_pos[pos] = step
                    for value in step.inputs:
                        self.use(value).reads.append((pos, loops))
                    for value in step.outputs:
                        self.use(value).writes.append((pos, loops))
                case WhileStep() | LoopStep():
                    inner = (*loops, pos)
                    if isinstance(step, WhileStep):
                        self.block(step.cond, inner)
                        self.pos += 1
                        self.use(step.pred).reads.append((self.pos, inner))
                    else:
                        # written by the executor at each iteration, and never shared with anything in the loop
                        use = self.use(step.counter)
                        use.writes.append((pos, loops))
                        use.reads.append((pos, inner))
                    self.block(step.body, inner)
                    self.pos += 1
                    self.ends[pos] = self.pos
                case CondStep():
                    self.use(step.index).reads.append((pos, loops))
                    for branch in step.branches:
                        self.pos += 1
                        begin = self.pos
                        self.block(branch, loops)
                        self.pos += 1
                        for value in step.results:
                            self.use(value).branches.append((begin, self.pos))
                case _:
                    raise TypeError(f"not a step: {step!r}")


def _segments(value: Value, use: _Use, donated, ends) -> list[tuple[int, int]]:
    """Times in which the value is needed. A write at step p happens at 2p+1; a read at step p is in use until 2p+1."""
    if value.kind == "literal" or (value.kind == "input" and value.index not in donated):
        return [(-1, _END)]
    if value.kind == "input":
        first, home = -1, ()
    else:
        first, home = min(use.writes, default=(0, ()), key=lambda item: item[0])
    segments: list[tuple[int, int]] = []
    last = 2 * first + 1
    carried: dict[int, list] = {}
    for pos, loops in use.reads:
        outer = next((loop for loop in loops if loop not in home), None)
        if outer is None:
            last = max(last, 2 * pos + 1)
            continue
        end = ends[outer]
        rewritten = [p for p in use.carry if outer <= p <= end]
        if rewritten and pos < rewritten[0]:
            inner = loops.index(outer) + 1
            if inner < len(loops):
                pos = ends[loops[inner]]  # a loop inside the body reads it until it ends
            carried.setdefault(outer, [rewritten[0], 0])[1] = max(carried.get(outer, [0, 0])[1], pos)
        else:
            last = max(last, 2 * end + 1)
    for pos in use.carry:
        # a carry that the body never reads is still replaced at its end
        outer = next((begin for begin, end in ends.items() if begin <= pos <= end and begin > first), None)
        if outer is not None:
            carried.setdefault(outer, [pos, outer])
    start = 2 * first + 1
    if use.branches:
        stops = []
        for begin, end in use.branches:
            written = [p for p, _ in use.writes if begin <= p <= end]
            if written:
                segments.append((2 * min(written) + 1, 2 * end + 1))
            stops.append(2 * end + 1)
        start = max(stops)
    for outer, (rewritten, last_read) in sorted(carried.items()):
        segments.append((start, 2 * max(last_read, outer) + 1))
        start = 2 * rewritten + 1
        last = max(last, 2 * ends[outer] + 1)
    if value.kind == "output":
        last = _END
    segments.append((start, max(last, start)))
    return segments


class _Planner:
    def __init__(self, donated, walk: _Walk):
        self.donated, self.walk = donated, walk
        self.alias: dict[int, int] = {}
        self.forward: dict[int, int] = {}
        self.aligned: set[tuple[int, Value, Value]] = set()
        self.swapped: set[Storage] = set()

    def share(self) -> None:
        by_pos = self.walk.by_pos
        for step, loops in sorted(self.walk.copies, key=lambda item: (not item[0].carry, item[0].pos)):
            step.swap = False
            if self._merge(step.dst, step.src, by_pos, copy=True):
                continue
            if step.carry and step.dst.nbytes >= _SWAP_BYTES:
                self._swap(step, loops)
        for step in self.walk.launches:
            # in the order of the kernel's parameters: a set's order is another in every run
            order = {value: k for k, value in enumerate(step.values)}
            pairs = [
                (order[w], order[r]) for w, r in step.aligned if w.nbytes == r.nbytes and w in order and r in order
            ]
            for w, r in sorted(pairs):
                written, read = step.values[w], step.values[r]
                if written.storage is not read.storage:
                    self._merge(written, read, by_pos)

    def _merge(self, dst: Value, src: Value, by_pos, copy: bool = False) -> bool:
        """Make two values one storage if they are never needed at the same time."""
        a, b = dst.storage, src.storage
        if a is b:
            return True
        if a.nbytes != b.nbytes or a in self.swapped or b in self.swapped:
            return False
        if dst.kind == "literal" or src.kind == "literal" or any(v.kind == "literal" for s in (a, b) for v in s.values):
            return False
        if (a.output is not None and b.output is not None) or (a.input is not None and b.input is not None):
            return False
        taken = a.input if a.input is not None else b.input
        if taken is not None and taken not in self.donated:
            # an output that is an untouched input is passed on
            if copy and dst.kind == "output" and len(a.values) == 1 and b.input is not None:
                self.forward[dst.index] = taken
                return True
            return False
        if self._overlap(a, b, by_pos):
            return False
        self._join(a, b)
        return True

    def _join(self, a: Storage, b: Storage) -> None:
        a.values += b.values
        for value in b.values:
            value.storage = a
        a.segments = sorted(a.segments + b.segments)
        a.input = a.input if a.input is not None else b.input
        a.output = a.output if a.output is not None else b.output
        a.written = a.written or b.written
        if a.input is not None and a.output is not None:
            self.alias[a.output] = a.input

    def _overlap(self, a: Storage, b: Storage, by_pos) -> bool:
        for x0, x1 in a.segments:
            for y0, y1 in b.segments:
                if x0 <= y1 and y0 <= x1:
                    if x1 == y0 and self._handover(b, a, y0 // 2, by_pos):
                        continue
                    if y1 == x0 and self._handover(a, b, x0 // 2, by_pos):
                        continue
                    return True
        return False

    def _handover(self, new: Storage, old: Storage, pos: int, by_pos) -> bool:
        """Whether step ``pos`` may write ``new`` over ``old``, which it reads last: a copy, or a kernel that
        reads each position first.
        """
        step = by_pos.get(pos)
        if step is None:
            return True  # a copy between the two, or an end of a block
        if not isinstance(step, LaunchStep):
            return False
        written = [v for v in step.writes if v.storage is new]
        if any(v.storage is old for v in step.writes):
            return False
        read = [v for v in step.values if v.storage is old]
        return bool(written) and all((w, r) in step.aligned for w in written for r in read)

    def _swap(self, step: CopyStep, loops) -> None:
        """Exchange carry and new value by pointer: both are arena memory of their own as long as either lives."""
        a, b = step.dst.storage, step.src.storage
        if any(s.input is not None or s.output is not None or s in self.swapped for s in (a, b)) or a is b or not loops:
            return
        if any(v.kind != "temp" for s in (a, b) for v in s.values):
            return
        begin = loops[-1]
        whole = (2 * begin - 1, 2 * self.walk.ends[begin] + 1)
        # the source must be made in this very loop and have no other memory life
        if any(x0 < whole[0] or x1 > whole[1] for x0, x1 in b.segments):
            return
        # after an odd number of exchanges each is where the other was
        both = [*a.segments, whole]
        hull = (min(s[0] for s in both), max(s[1] for s in both))
        a.segments = b.segments = [hull]
        self.swapped |= {a, b}
        step.swap = True

    def place(self) -> int:
        """Offsets for everything that is neither input nor output: first fit, in order of first use."""
        storages = {v.storage for v in self.walk.uses}
        items = []
        for storage in storages:
            if (
                storage.input is None
                and storage.output is None
                and not any(v.kind == "literal" for v in storage.values)
            ):
                begin = min(s[0] for s in storage.segments)
                end = max(s[1] for s in storage.segments)
                size = max(-(-storage.nbytes // ALIGN) * ALIGN, ALIGN)
                items.append((begin, -size, end, id(storage), storage))
        items.sort()
        free: list[tuple[int, int]] = []  # (offset, size), sorted, not adjacent
        live: list[tuple[int, int, int]] = []  # (end, offset, size), sorted
        top = 0
        for begin, negative, end, _, storage in items:
            size = -negative
            while live and live[0][0] < begin:
                _, offset, length = live.pop(0)
                _release(free, offset, length)
            for k, (offset, length) in enumerate(free):
                if length >= size:
                    if length == size:
                        del free[k]
                    else:
                        free[k] = (offset + size, length - size)
                    break
            else:
                if free and free[-1][0] + free[-1][1] == top:
                    offset, _ = free.pop()
                else:
                    offset = top
                top = offset + size
            storage.offset = offset
            live.insert(_rank(live, (end, offset, size)), (end, offset, size))
        return top


def _rank(ordered: list, item) -> int:
    """How many of ``ordered`` come before ``item`` (``bisect`` is a module that nothing else here imports)."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if item < ordered[middle]:
            high = middle
        else:
            low = middle + 1
    return low


def _release(free: list, offset: int, size: int) -> None:
    k = _rank(free, (offset, 0))
    if k < len(free) and offset + size == free[k][0]:
        size += free[k][1]
        del free[k]
    if k and free[k - 1][0] + free[k - 1][1] == offset:
        offset, size = free[k - 1][0], free[k - 1][1] + size
        del free[k - 1]
        k -= 1
    free.insert(k, (offset, size))
