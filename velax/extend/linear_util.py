"""Functions with transformations stacked on them, the form in which JAX's internals pass functions to libraries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from velax._transforms.arguments import debug_info_of

__all__ = [
    "WrappedFun", "merge_linear_aux", "transformation", "transformation2", "transformation_with_aux",
    "transformation_with_aux2", "wrap_init",
]  # fmt: skip


class WrappedFun:
    """A function with a stack of transformations; call it with `call_wrapped`.

    Attributes:
      f: the function at the bottom.
      transforms: ``(transformation, extra arguments)``, outermost last.
    """

    __slots__ = ("debug_info", "f", "params", "transforms")

    def __init__(self, f: Callable, transforms=(), params=None, debug_info=None):
        self.f, self.transforms, self.params, self.debug_info = f, tuple(transforms), params or {}, debug_info

    @property
    def __name__(self):
        return getattr(self.f, "__name__", "<unnamed>")

    def wrap(self, transformation, args, store=None) -> WrappedFun:
        return WrappedFun(self.f, (*self.transforms, (transformation, args, store)), self.params, self.debug_info)

    def call_wrapped(self, *args, **kwargs):
        f = self.f
        for transformation, extra, store in self.transforms:
            f = _apply(transformation, f, extra, store)
        return f(*args, **{**self.params, **kwargs})

    def __repr__(self):
        return f"Wrapped function:\n{self.f}"


def _apply(transformation, f, extra, store):
    if store is None:
        return lambda *args, **kwargs: transformation(f, *extra, *args, **kwargs)
    return lambda *args, **kwargs: transformation(f, store, *extra, *args, **kwargs)


class _Store:
    """Where a transformation leaves what it learns while it runs."""

    def __init__(self):
        self._value: list = []

    def store(self, value) -> None:
        self._value[:] = [value]

    @property
    def val(self):
        if not self._value:
            raise StoreException("the transformed function has not run yet, so its auxiliary output is not known")
        return self._value[0]


class StoreException(Exception):
    """An auxiliary output was read before the function ran."""


def wrap_init(f: Callable, params=None, *, debug_info=None) -> WrappedFun:
    """A `WrappedFun` without transformations."""
    return WrappedFun(f, (), params, debug_info or debug_info_of("wrap_init", f))


def _run_generator(gen, f, gen_static_args, args, kwargs):
    """What a generator of `transformation` yields in the end: it yields ``(args, kwargs)``, is sent the result of ``f``
    and yields its own."""
    steps = gen(*gen_static_args, *args, **kwargs)
    inner_args, inner_kwargs = next(steps)
    out = steps.send(f(*inner_args, **inner_kwargs))
    steps.close()
    return out


def transformation(gen: Callable) -> Callable[..., WrappedFun]:
    """A transformation written as a generator, for use as a decorator.

    ``gen(*gen_static_args, *args)`` yields the arguments (a tuple and a dict) for the function inside, gets its result,
    and yields what takes its place. The decorated ``gen`` is called with a `WrappedFun` and the static arguments.

    Example:
      >>> from velax.extend import linear_util as lu
      >>> @lu.transformation
      ... def scaled(factor, x):
      ...   y = yield (factor * x,), {}
      ...   yield y + 1
      >>> scaled(lu.wrap_init(lambda x: x * x), 3).call_wrapped(2)
      37
    """

    def step(f, *args, static_args, **kwargs):
        return _run_generator(gen, f, static_args, args, kwargs)

    @functools.wraps(gen)
    def transform(fun: WrappedFun, *gen_static_args) -> WrappedFun:
        return transformation2(functools.partial(step, static_args=gen_static_args), fun)

    return transform


def transformation_with_aux(gen: Callable) -> Callable[..., tuple[WrappedFun, Callable[[], object]]]:
    """As `transformation`, for a generator whose last value is a pair: the result, and what is told aside.

    The decorated ``gen`` returns the `WrappedFun` and a function that gives the second of the pair, after a call.
    """

    def step(f, store, *args, static_args, **kwargs):
        out, aux = _run_generator(gen, f, static_args, args, kwargs)
        store.store(aux)
        return out

    @functools.wraps(gen)
    def transform(fun: WrappedFun, *gen_static_args):
        return transformation_with_aux2(functools.partial(step, static_args=gen_static_args), fun)

    return transform


def transformation2(gen: Callable, fun: WrappedFun | None = None, *gen_static_args) -> Any:
    """Put ``gen(f, *gen_static_args, *args)`` around a function; without one, for use as a decorator."""
    if fun is None:
        return functools.partial(transformation2, gen)
    return fun.wrap(gen, gen_static_args)


def transformation_with_aux2(
    gen: Callable, fun: WrappedFun | None = None, *gen_static_args, use_eq_store: bool = False
) -> Any:
    """As `transformation2` for ``gen(f, store, *gen_static_args, *args)``; also returns a function that gives what it
    stored."""
    if fun is None:
        return functools.partial(transformation_with_aux2, gen)
    store = _Store()
    return fun.wrap(gen, gen_static_args, store), lambda: store.val


def merge_linear_aux(aux1, aux2):
    """The auxiliary output of whichever of two alternatives ran: ``(is_first, value)``."""
    try:
        return True, aux1()
    except StoreException:
        return False, aux2()
