"""Functions over functions: vectorize, apply_along_axis, apply_over_axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from velax import lax
from velax._lang.trace import get_aval
from velax._lang.traceback import api_boundary
from velax._transforms.vectorize import vmap
from velax.numpy._creation import asarray
from velax.numpy._shaping import axis_index, expand_dims, moveaxis
from velax.numpy._util import check_arraylike, common_shape, to_array
from velax.tree_util import tree_map

__all__ = ["apply_along_axis", "apply_over_axes", "vectorize"]


def apply_along_axis(func1d: Callable, axis: int, arr, *args, **kwargs):
    """Apply a function of vectors along an axis.

    Args:
      func1d: a function of an array of one axis; may return an array of any rank, or a pytree of arrays.
      axis: the axis.
      arr: an array.
      *args, **kwargs: further arguments of the function.

    Returns:
      The results, their axes in place of ``axis``.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.apply_along_axis(jnp.sum, 0, jnp.ones((2, 3)))
      Array([2., 2., 2.], dtype=float32)
    """
    check_arraylike("apply_along_axis", arr)
    ndim = get_aval(to_array(arr)).ndim
    axis = axis_index(axis, ndim)
    mapped = lambda v: func1d(v, *args, **kwargs)
    for _ in range(ndim - 1):
        mapped = vmap(mapped)

    def place(result):
        """The function's own axes, which are the last ones, moved to ``axis``."""
        own = range(ndim - 1, get_aval(result).ndim)
        return moveaxis(result, tuple(own), tuple(axis + i for i in range(len(own))))

    return tree_map(place, mapped(moveaxis(arr, axis, -1)))


def apply_over_axes(func: Callable, a, axes: Sequence[int]):
    """Apply a function ``func(array, axis)`` over axes, one after the other.

    Args:
      func: a function whose result has the rank of its argument, or one less.
      a: an array.
      axes: the axes.

    Returns:
      An array of the rank of ``a``.

    Raises:
      ValueError: if a result has another rank.

    Example:
      >>> import velax.numpy as jnp
      >>> jnp.apply_over_axes(jnp.sum, jnp.ones((2, 3)), [0, 1])
      Array([[6.]], dtype=float32)
    """
    check_arraylike("apply_over_axes", a)
    out = to_array(a)
    for axis in [axes] if isinstance(axes, int) else axes:
        b = func(out, axis=axis)
        if get_aval(b).ndim == get_aval(out).ndim:
            out = b
        elif get_aval(b).ndim == get_aval(out).ndim - 1:
            out = expand_dims(b, axis)
        else:
            raise ValueError(
                "function is not returning an array of the correct shape to apply_over_axes, got "
                f"{get_aval(b).shape} for an argument of shape {get_aval(out).shape}; it must keep the axis or "
                "remove it"
            )
    return out


# -- vectorize -----------------------------------------------------------------------------------

Core = tuple[str, ...]


def _parse(signature: str) -> tuple[list[Core], list[Core]]:
    """``"(n,m),(m)->(n)"`` as the core dimensions of the inputs and of the outputs.

    Raises:
      ValueError: for anything else, saying where it goes wrong.
    """
    arrow = signature.find("->")
    if arrow < 0:
        raise _malformed(signature, len(signature), "'->' and the outputs")
    return _parse_side(signature, 0, arrow), _parse_side(signature, arrow + 2, len(signature))


def _parse_side(signature: str, at: int, end: int) -> list[Core]:
    """The arguments written between two places: lists of names in parentheses, commas between them."""
    cores: list[Core] = []
    while True:
        if signature[at:end].lstrip()[:1] != "(":
            raise _malformed(signature, at, "'('")
        at = signature.index("(", at) + 1
        close = signature.find(")", at, end)
        if close < 0:
            raise _malformed(signature, end, "')'")
        names = [name.strip() for name in signature[at:close].split(",")]
        if not all(name.replace("_", "a").isalnum() for name in names) and names != [""]:
            raise _malformed(signature, at, "names of dimensions, with commas between them")
        cores.append(() if names == [""] else tuple(names))
        rest = signature[close + 1 : end].strip()
        if not rest:
            return cores
        if rest[0] != ",":
            raise _malformed(signature, close + 1, "',' or the end of the list of arguments")
        at = signature.index(",", close) + 1


def _malformed(signature: str, at: int, expected: str) -> ValueError:
    return ValueError(
        f"not a valid gufunc signature: {signature} (expected {expected} at position {at}). Write the core "
        "dimensions of "
        'each argument in parentheses, such as "(m,n),(n)->(m)".'
    )


def _core_sizes(sizes: dict[str, int], shape: tuple[int, ...], core: Core, kind: str, where: str) -> None:
    """Enter the sizes of an array's core dimensions, checking them against those known."""
    if len(shape) < len(core):
        raise ValueError(
            f"{kind} with shape {shape} does not have enough dimensions for all core dimensions {core} {where}"
        )
    for name, n in zip(core, shape[len(shape) - len(core) :], strict=True):
        if sizes.setdefault(name, n) != n:
            raise ValueError(f"inconsistent size for core dimension {name!r}: {n} vs {sizes[name]} {where}")


def _checked(fun: Callable, sizes: dict[str, int], outputs: list[Core], where: str) -> Callable:
    """``fun`` on the core dimensions, with its results checked."""

    def wrapped(*args):
        out = fun(*args)
        results = out if isinstance(out, (tuple, list)) else (out,)
        if len(results) != len(outputs):
            raise TypeError(f"wrong number of output arguments: expected {len(outputs)}, got {len(results)} {where}")
        known = dict(sizes)
        for result, core in zip(results, outputs, strict=True):
            shape = get_aval(result).shape
            if len(shape) != len(core):
                raise ValueError(f"output shape {shape} does not match core dimensions {core} {where}")
            _core_sizes(known, shape, core, "output", where)
        return out

    return wrapped


def vectorize(pyfunc: Callable, *, excluded=frozenset(), signature: str | None = None):
    """A function that broadcasts like NumPy's ufuncs, from one of scalars or, with a signature, of small arrays.

    Args:
      pyfunc: the function.
      excluded: positions and names of arguments that are passed on as they are.
      signature: core dimensions as ``"(m,n),(n)->(m)"``; None: all scalars.

    Returns:
      A function of arrays: leading axes broadcast and are mapped over with `vmap`.

    Raises:
      TypeError: for a malformed ``excluded``, or the wrong number of arguments.
      ValueError: for a malformed signature, or sizes that do not fit it.

    Example:
      >>> import velax.numpy as jnp
      >>> f = jnp.vectorize(jnp.dot, signature="(n),(n)->()")
      >>> f(jnp.ones((2, 3)), jnp.ones(3))
      Array([3., 3.], dtype=float32)
    """
    if any(not isinstance(e, (str, int)) for e in excluded):
        raise TypeError(f"jax.numpy.vectorize can only exclude integer or string arguments, but excluded={excluded!r}")
    if any(isinstance(e, int) and e < 0 for e in excluded):
        raise ValueError(f"excluded={excluded!r} contains negative numbers")
    if signature is not None and not isinstance(signature, str):
        raise TypeError(f"jax.numpy.vectorize: signature must be a string such as '(m,n),(n)->(m)', got {signature!r}")

    @api_boundary
    @functools.wraps(pyfunc)
    def wrapped(*args, **kwargs):
        where = f"on vectorized function with excluded={excluded!r} and signature={signature!r}"
        absent = {i for i, x in enumerate(args) if x is None} if signature is None else set()
        fun, args = _exclude(pyfunc, args, kwargs, {*excluded, *absent})
        inputs, outputs = _parse(signature) if signature is not None else ([()] * len(args), None)
        if len(args) != len(inputs):
            raise TypeError(f"wrong number of positional arguments: expected {len(inputs)}, got {len(args)} {where}")
        return _vectorized(fun, args, inputs, outputs, where)

    return wrapped


def _vectorized(fun: Callable, args, inputs: list[Core], outputs: list[Core] | None, where: str):
    args = [asarray(x) for x in args]
    sizes: dict[str, int] = {}
    leads = []
    for x, core in zip(args, inputs, strict=True):
        shape = get_aval(x).shape
        _core_sizes(sizes, shape, core, "input", where)
        leads.append(shape[: len(shape) - len(core)])
    lead = common_shape("vectorize", leads)
    checked = _checked(fun, sizes, outputs, where) if outputs is not None else fun
    # an axis of size 1 is not mapped over where another operand's is longer: it is dropped
    squeezed = []
    maps: list[list[int | None]] = [[None] * len(args) for _ in lead]
    for k, (x, own) in enumerate(zip(args, leads, strict=True)):
        drop = [i for i, n in enumerate(own) if n == 1 and lead[len(lead) - len(own) + i] != 1]
        squeezed.append(lax.squeeze(x, drop))
        for i in range(len(own)):
            if i not in drop:
                maps[len(lead) - len(own) + i][k] = 0
    for axes in reversed(maps):
        if any(a is not None for a in axes):
            checked = vmap(checked, in_axes=tuple(axes), out_axes=0)
    return checked(*squeezed)


def _exclude(fun: Callable, args: tuple, kwargs: dict[str, Any], excluded):
    """``fun`` of the arguments that are mapped over, and these; keyword arguments not excluded count as such."""
    fixed = {i: args[i] for i in excluded if isinstance(i, int) and i < len(args)}  # others are left to their defaults
    names = [k for k in kwargs if k not in excluded]
    constant = {k: v for k, v in kwargs.items() if k in excluded}
    dynamic = [x for i, x in enumerate(args) if i not in fixed] + [kwargs[k] for k in names]
    count = len(args)

    def partial(*xs):
        rest = iter(xs)
        positional = [fixed[i] if i in fixed else next(rest) for i in range(count)]
        return fun(*positional, **dict(zip(names, rest, strict=True)), **constant)

    return partial, dynamic
