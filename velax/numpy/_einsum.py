"""Einstein summation: `einsum` and `einsum_path`."""

from __future__ import annotations

import functools

import numpy as np

from velax import lax
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.numpy._linear import product_operands
from velax.numpy._reductions import sum as _sum
from velax.numpy._shaping import no_out
from velax.numpy._util import check_arraylike, compiled, to_array

__all__ = ["einsum", "einsum_path"]


def _interleaved(subscripts, operands):
    """Both spellings of the arguments as ``(subscripts, operands)``."""
    if isinstance(subscripts, str):
        return subscripts, operands
    # opt_einsum is imported when first needed: it is slow to load and most programs never use it
    from opt_einsum.parser import convert_interleaved_input

    subscripts, operands = convert_interleaved_input([subscripts, *operands])
    return subscripts, tuple(operands)


def einsum(
    subscripts, /, *operands, out=None, optimize: str | bool | list = "auto", precision=None,
    preferred_element_type=None,
    _dot_general=lax.dot_general, out_sharding=None,
):  # fmt: skip
    """Sums of products of array elements, as an index formula says.

    Args:
      subscripts: the formula, as ``"ij,jk->ik"``: one letter an axis, ``...`` for axes that
        broadcast. Without ``->`` the result has the letters that occur
        once, in alphabetical order. Alternatively the arguments are operands alternating with lists of axis labels.
      *operands: arrays.
      out: not supported.
      optimize: in which order to contract: "auto", "optimal", "greedy", True (optimal), False, or a
        list of index tuples.
      precision, preferred_element_type: as `dot`.

    Returns:
      An array.

    Raises:
      ValueError: if the formula does not fit the operands.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.einsum("ij->j", jnp.array([[1, 2], [3, 4]]))
      Array([4, 6], dtype=int32)
    """
    no_out("einsum", out)
    subscripts, operands = _interleaved(subscripts, operands)
    check_arraylike("einsum", *operands)
    operands = [to_array(x) for x in operands]
    optimize = (
        "optimal" if optimize is True else tuple(map(_step, optimize)) if isinstance(optimize, list) else optimize
    )
    path = _contractions(subscripts, tuple(get_aval(x).shape for x in operands), optimize)
    return _einsum(operands, path, precision, preferred_element_type, _dot_general)


def _step(step):
    """A step of a path as something hashable."""
    return tuple(step) if isinstance(step, (list, tuple)) else step


@functools.lru_cache(maxsize=1024)
def _contractions(subscripts: str, shapes: tuple, optimize):
    """The steps: for each, the positions of its operands, and its formula."""
    # see _interleaved
    import opt_einsum

    optimize = list(optimize) if isinstance(optimize, tuple) else optimize
    _, found = opt_einsum.contract_path(subscripts, *shapes, shapes=True, einsum_call=True, optimize=optimize)
    return tuple((tuple(step[0]), step[2]) for step in found)


@compiled(static=("path", "precision", "preferred_element_type", "dot_general"), inline=True)
def _einsum(operands, path, precision, preferred_element_type, dot_general):
    operands, dtype, weak = product_operands("einsum", preferred_element_type, *operands)
    operands = list(operands)
    names: list[str | None] = [None] * len(operands)
    sizes: dict[str, int] = {}
    for positions, formula in path:
        inputs, result = formula.split("->")
        parts = [(operands.pop(i), names.pop(i)) for i in positions]
        pairs = [
            (x, have if have is not None else text) for (x, have), text in zip(parts, inputs.split(","), strict=True)
        ]
        for x, letters in pairs:
            for letter, n in zip(letters, get_aval(x).shape, strict=True):
                sizes[letter] = max(sizes.get(letter, 1), n) if sizes.get(letter) != 0 and n != 0 else 0
        x, letters = _contract(pairs, result, sizes, precision, dtype, dot_general)
        operands.append(x)
        names.append(letters)
    (x,), (letters,) = operands, names
    # letters whose axes all had size 1 were dropped where another operand stretched them; none is missing here
    return convert_type(x, dtype, weak)


def _contract(pairs, result: str, sizes, precision, dtype, dot_general):
    """One step: the product of some operands, summed over the letters that are not in the result."""
    pairs = [_single(x, letters, sizes) for x, letters in pairs]
    while len(pairs) > 1:
        one, two = pairs[0], pairs[1]
        later = set(result).union(*(letters for _, letters in pairs[2:]))
        last = len(pairs) == 2
        pairs[:2] = [_product(one, two, later, result if last else None, precision, dtype, dot_general)]
    x, letters = pairs[0]
    x, letters = _sum_letters(x, letters, set(letters) - set(result))
    present = "".join(c for c in result if c in letters)
    if letters != present:
        x = lax.transpose(x, [letters.index(c) for c in present])
    return x, present


def _single(x, letters: str, sizes):
    """An operand without repeated letters and without axes of size 1 that others stretch."""
    stretched = [i for i, c in enumerate(letters) if get_aval(x).shape[i] == 1 and sizes[c] != 1]
    if stretched:
        x = lax.squeeze(x, stretched)
        letters = "".join(c for i, c in enumerate(letters) if i not in stretched)
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            i = letters.index(c)
            j = letters.index(c, i + 1)
            shape = get_aval(x).shape
            index = lambda d, n=shape[i]: lax.broadcasted_iota(np.int32, (n, n), d)
            mask = lax.broadcast_in_dim(lax.eq(index(0), index(1)), shape, (i, j))
            x = _sum(lax.select(mask, x, lax.full_like(x, 0)), axis=j, dtype=get_aval(x).dtype)
            letters = letters[:j] + letters[j + 1 :]
    return x, letters


def _sum_letters(x, letters: str, gone):
    axes = tuple(i for i, c in enumerate(letters) if c in gone)
    if not axes:
        return x, letters
    return _sum(x, axis=axes, dtype=get_aval(x).dtype), "".join(c for c in letters if c not in gone)


def _product(one, two, later: set[str], result: str | None, precision, dtype, dot_general):
    (a, la), (b, lb) = one, two
    # letters of one operand only that no one else needs are summed first
    a, la = _sum_letters(a, la, set(la) - set(lb) - later)
    b, lb = _sum_letters(b, lb, set(lb) - set(la) - later)
    both = [c for c in la if c in lb]
    batch = "".join(c for c in (result or la) if c in both and c in later)
    summed = sorted(c for c in both if c not in later)
    free_a, free_b = ("".join(c for c in s if c not in both) for s in (la, lb))
    if result is not None and batch + free_a + free_b != result and batch + free_b + free_a == result:
        (a, la, free_a), (b, lb, free_b) = (b, lb, free_b), (a, la, free_a)
    numbers = (
        (tuple(la.index(c) for c in summed), tuple(lb.index(c) for c in summed)),
        (tuple(la.index(c) for c in batch), tuple(lb.index(c) for c in batch)),
    )
    return dot_general(a, b, numbers, precision=precision, preferred_element_type=dtype), batch + free_a + free_b


def einsum_path(subscripts, /, *operands, optimize: bool | str | list[tuple[int, ...]] = "auto"):
    """The order of contractions that `einsum` would use.

    Args:
      subscripts, *operands: as `einsum`.
      optimize: as `einsum`.

    Returns:
      A pair of the list of index tuples and a description.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.einsum_path("ij,jk->ik", jnp.ones((2, 3)), jnp.ones((3, 2)))[0]
      [(0, 1)]
    """
    subscripts, operands = _interleaved(subscripts, operands)
    # see _interleaved
    import opt_einsum

    optimize = "optimal" if optimize is True else optimize
    arrays = [np.broadcast_to(np.float32(0), get_aval(to_array(x)).shape) for x in operands]
    return opt_einsum.contract_path(subscripts, *arrays, optimize=optimize)
