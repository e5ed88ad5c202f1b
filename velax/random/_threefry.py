"""The threefry-2x32 generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with 20 rounds.

A key is two 32-bit words. The hash of a key and a counter of two words gives two words; element ``i`` of an
array of random bits hashes the counter ``i``, so each element is computed by itself and fuses into whatever
consumes it.
"""

from __future__ import annotations

import math

import numpy as np

from velax import lax
from velax._ir.graph import Builder, Node
from velax._lang.avals import shaped_array
from velax._lang.dtypes import KeyTy
from velax._lang.primitive import define
from velax._lang.record import Record
from velax._lang.trace import get_aval
from velax._transforms.batching import broadcast_batcher
from velax._transforms.zero import Zero
from velax.lax._structural import convert_type

__all__ = ["PRNGImpl", "PRNGSpec", "key_dtype_of", "threefry2x32", "threefry2x32_p", "threefry_impl"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


class PRNGImpl(Record, frozen=True):
    """A random number generator.

    Attributes:
      name: as users name it.
      tag: short name, in dtypes and jaxprs.
      key_shape: shape of the words of one key.
    """

    name: str
    tag: str
    key_shape: tuple[int, ...]

    def __hash__(self):
        return hash(self.name)

    def __str__(self):
        return self.tag


class PRNGSpec:
    """A generator as an argument: what `key_impl` returns for those without a registered name."""

    __slots__ = ("_impl",)

    def __init__(self, impl: PRNGImpl):
        self._impl = impl

    def __repr__(self):
        return f"PRNGSpec({self._impl.name!r})"

    def __str__(self):
        return str(self._impl)

    def __hash__(self):
        return hash(self._impl)

    def __eq__(self, other):
        return type(other) is PRNGSpec and self._impl == other._impl


threefry_impl = PRNGImpl("threefry2x32", "fry", (2,))
_KEY_DTYPES = {threefry_impl: KeyTy(threefry_impl)}


def key_dtype_of(impl: PRNGImpl) -> KeyTy:
    """The dtype of keys of a generator, one object for each."""
    return _KEY_DTYPES[impl]


# -- the hash, on nodes of the array graph -------------------------------------------------------


def key_words(b: Builder, key: Node) -> tuple[Node, Node]:
    """The two words of keys: nodes of the keys' shape."""
    shape = key.shape[:-1]
    zeros = (0,) * len(shape)
    return tuple(b.reshape(b.slice(key, (*zeros, k), (*shape, k + 1)), shape) for k in (0, 1))


def hash_nodes(b: Builder, words: tuple[Node, Node], counter: tuple[Node | None, Node], spread) -> tuple[Node, Node]:
    """Threefry-2x32 of a counter.

    Args:
      words: the key's two words.
      counter: the counter's two words, of the shape of the result; the first may be None for zeros.
      spread: function from a node of the key's shape to one of the result's.

    Returns:
      The two words of the result.
    """
    k0, k1 = words
    constant = lambda value, like: b.full(like.shape, value, "u32")
    k2 = b.map("xor", b.map("xor", k0, k1), constant(_PARITY, k0))
    schedule = (k0, k1, k2)
    hi, lo = counter
    x0 = spread(k0) if hi is None else b.map("add", hi, spread(k0))
    x1 = b.map("add", lo, spread(k1))
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x0 = b.map("add", x0, x1)
            left = b.map("shl", x1, constant(rotation, x1))
            right = b.map("shrl", x1, constant(32 - rotation, x1))
            x1 = b.map("xor", x0, b.map("or", left, right))
        # the schedule is computed on the key's shape: once a key, not once an element
        x0 = b.map("add", x0, spread(schedule[(i + 1) % 3]))
        second = schedule[(i + 2) % 3]
        x1 = b.map("add", x1, spread(b.map("add", second, constant(i + 1, second))))
    return x0, x1


def counters(b: Builder, lead: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Node | None, Node]:
    """The row-major position within ``shape`` as two words, repeated over ``lead``; the first is None if it
    is zero everywhere.
    """
    n = math.prod(shape)
    full = (*lead, *shape)
    dims = tuple(range(len(lead), len(full)))
    place = lambda node: b.broadcast(b.reshape(node, shape), full, dims)
    if n <= 1 << 32:
        return None, place(b.iota((n,), "u32", 0))
    position = b.iota((n,), "u64", 0)
    hi = b.convert(b.map("shrl", position, b.full((n,), 32, "u64")), "u32")
    return place(hi), place(b.convert(position, "u32"))


def random_words(b: Builder, key: Node, shape: tuple[int, ...]) -> tuple[Node, Node]:
    """Two random words for each key and position in ``shape``."""
    lead = key.shape[:-1]
    full = (*lead, *shape)
    spread = lambda node: b.broadcast(node, full, tuple(range(len(lead))))
    return hash_nodes(b, key_words(b, key), counters(b, lead, shape), spread)


def random_bits_node(b: Builder, key: Node, bit_width: int, shape: tuple[int, ...]) -> Node:
    """Random bits as unsigned integers of ``bit_width`` bits."""
    full = (*key.shape[:-1], *shape)
    if math.prod(full) == 0:
        return b.full(full, 0, f"u{bit_width}")
    hi, lo = random_words(b, key, shape)
    if bit_width == 64:
        wide = b.map("shl", b.convert(hi, "u64"), b.full(full, 32, "u64"))
        return b.map("or", wide, b.convert(lo, "u64"))
    return b.convert(b.map("xor", hi, lo), f"u{bit_width}")


def pair_node(b: Builder, hi: Node | None, lo: Node, shape: tuple[int, ...]) -> Node:
    """Keys of two words, from words of shape ``(*shape, 2)``: one elementwise value, so that it takes one
    kernel rather than one a word and a join.
    """
    full = (*shape, 2)
    second = b.map("ne", b.iota(full, "u32", len(shape)), b.full(full, 0, "u32"))
    return b.map("select", second, lo, b.full(full, 0, "u32") if hi is None else hi)


def split_node(b: Builder, key: Node, shape: tuple[int, ...]) -> Node:
    """New keys for each key and position in ``shape``."""
    lead = key.shape[:-1]
    full = (*lead, *shape)
    if math.prod(full) == 0:
        return b.full((*full, 2), 0, "u32")
    wide = lambda node: b.broadcast(node, (*full, 2), tuple(range(len(full))))
    spread = lambda node: b.broadcast(node, (*full, 2), tuple(range(len(lead))))
    hi, lo = counters(b, lead, shape)
    x0, x1 = hash_nodes(b, key_words(b, key), (None if hi is None else wide(hi), wide(lo)), spread)
    return pair_node(b, x0, x1, full)


def fold_node(b: Builder, key: Node, data: Node) -> Node:
    """New keys from keys and 32-bit words; either may be of rank 0 where the other is not."""
    lead = key.shape[:-1]
    full = lead if lead else data.shape
    wide = lambda node: b.broadcast(node, (*full, 2), tuple(range(len(node.shape))))
    x0, x1 = hash_nodes(b, key_words(b, key), (None, wide(data)), wide)
    return pair_node(b, x0, x1, full)


def seed_node(b: Builder, seed: Node) -> Node:
    """Keys of integers: the high and low half of 64 bits; seeds of fewer bits fill the low half, negative
    ones wrapping at 32 bits.
    """
    full = (*seed.shape, 2)
    wide = lambda node: b.broadcast(node, full, tuple(range(len(seed.shape))))
    if seed.dtype in ("i64", "u64"):
        bits = b.bitcast(seed, "u64")
        hi = wide(b.convert(b.map("shrl", bits, b.full(seed.shape, 32, "u64")), "u32"))
        return pair_node(b, hi, wide(b.convert(bits, "u32")), seed.shape)
    signed = b.convert(seed, "u32" if seed.dtype.startswith("u") else "i32")
    return pair_node(b, None, wide(b.bitcast(signed, "u32")), seed.shape)


# -- threefry2x32 as a primitive -----------------------------------------------------------------


def _threefry_type(*avals):
    if any(a.dtype != np.uint32 for a in avals):
        raise TypeError(f"Arguments to threefry2x32 must have uint32 type, got {[str(a) for a in avals]}")
    shapes = [a.shape for a in avals]
    if any(s != shapes[0] for s in shapes):
        raise TypeError(f"threefry2x32: the words of keys and counters must have one shape, got {shapes}")
    out = shaped_array(shapes[0], np.dtype("uint32"))
    return [out, out]


def _threefry_jvp(primals, tangents):
    outs = threefry2x32_p.bind(*primals)
    return outs, [Zero.from_primal_value(x) for x in outs]


threefry2x32_p = define(
    "threefry2x32",
    abstract_eval=_threefry_type,
    lower=lambda ctx, k0, k1, x0, x1: list(hash_nodes(ctx.builder, (k0, k1), (x0, x1), lambda node: node)),
    jvp=_threefry_jvp,
    transpose=None,
    batch=lambda args, dims: broadcast_batcher(threefry2x32_p)(args, dims),
    multiple_results=True,
    elementwise=True,
)


def threefry2x32(key, count):
    """Threefry-2x32 of an array of counters.

    Args:
      key: uint32 array of shape (2,).
      count: uint32 array; the first half of its elements are first words, the second half second words.

    Returns:
      A uint32 array of the shape of ``count``: all first words, then all second words.

    Raises:
      TypeError: for other dtypes, or a key of another shape.
    """
    key_aval, count_aval = get_aval(key), get_aval(count)
    if key_aval.dtype != np.uint32 or count_aval.dtype != np.uint32:
        raise TypeError(f"threefry_2x32 requires uint32 arguments, got {[key_aval.dtype, count_aval.dtype]}")
    if key_aval.shape != (2,):
        raise TypeError(f"threefry_2x32 requires a key of shape (2,), got {key_aval.shape}")
    n = count_aval.size
    half = (n + 1) // 2
    flat = lax.reshape(count, (n,))
    if n % 2:
        flat = lax.pad(flat, np.uint32(0), [(0, 1, 0)])
    words = [lax.broadcast(lax.index_in_dim(key, k, keepdims=False), (half,)) for k in (0, 1)]
    halves = [lax.slice_in_dim(flat, 0, half), lax.slice_in_dim(flat, half, 2 * half)]
    out = lax.concatenate(threefry2x32_p.bind(*(convert_type(x, np.dtype("uint32")) for x in (*words, *halves))), 0)
    return lax.reshape(lax.slice_in_dim(out, 0, n), count_aval.shape)
