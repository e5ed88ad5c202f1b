"""From a user's call to flat values and back: signatures, argument numbers and names, flattening, debug information."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from types import FunctionType

from velax._lang.jaxpr import DebugInfo
from velax._lang.source import line_of
from velax._lang.trace import get_aval
from velax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

__all__ = [
    "Static", "argnames_of", "argnums_partial", "check_callable", "debug_info_of", "flatten_call", "flatten_fun",
    "function_name", "leaf_name", "normalize_argnums",
    "parameters_of", "resolve_kwargs", "signature_of",
]  # fmt: skip


class Static:
    """The place of a static argument in a flattened call: no leaf, compared by value."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Static and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self):
        return hash(self.value)


def function_name(fun: Callable) -> str:
    while isinstance(fun, functools.partial):
        fun = fun.func
    return getattr(fun, "__name__", None) or type(fun).__name__


def check_callable(fun, what: str) -> None:
    """TypeError unless ``fun`` can be transformed."""
    if not callable(fun):
        raise TypeError(
            f"Expected a callable value, got {fun}: {what} transforms a function; pass the function itself, not "
            "its result."
        )
    if inspect.isgeneratorfunction(fun):
        raise TypeError(
            f"Expected a function, got a generator function: {fun}. Collect the values in a list and return it."
        )


def signature_of(fun: Callable) -> inspect.Signature | None:
    try:
        return inspect.signature(fun)
    except (ValueError, TypeError):
        return None


def parameters_of(fun: Callable) -> tuple[tuple[str, ...], tuple[str, ...], str | None, str | None] | None:
    """What a signature says of a call: the names of positional parameters, those that keywords can give, the name of
    the one that takes any number more, and of the one for more keywords. None for a callable without a signature.
    """
    if type(fun) is FunctionType and not fun.__dict__:  # nothing wrapped: a tenth of the time of a signature
        code = fun.__code__
        names, n_positional = code.co_varnames, code.co_argcount
        n_named = n_positional + code.co_kwonlyargcount
        variadic = names[n_named] if code.co_flags & inspect.CO_VARARGS else None
        keywords = names[n_named + (variadic is not None)] if code.co_flags & inspect.CO_VARKEYWORDS else None
        return names[:n_positional], names[code.co_posonlyargcount : n_named], variadic, keywords
    signature = signature_of(fun)
    if signature is None:
        return None
    parameters = signature.parameters.values()
    return (
        tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)),
        next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None),
        next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None),
    )


def argnames_of(fun: Callable, args: Sequence, kwargs: dict) -> tuple[str, ...]:
    """A path like ``params['w']`` for each leaf of a call's arguments but the `Static` ones, named as in the
    signature.
    """
    positional, by_keyword, variadic, keywords = parameters_of(fun) or ((), (), None, None)
    more = range(len(args) - len(positional))
    roots = [*positional[: len(args)], *(f"{variadic or 'args'}[{i}]" for i in more)]
    roots += [k if k in by_keyword else f"{keywords or 'kwargs'}[{k!r}]" for k in sorted(kwargs)]
    names: list[str] = []
    for root, value in zip(roots, [*args, *(kwargs[k] for k in sorted(kwargs))], strict=True):
        if type(value) is not Static:
            names.extend(root + keystr(path) for path, _ in tree_flatten_with_path(value)[0])
    return tuple(names)


def debug_info_of(traced_for: str, fun: Callable, args: Sequence = (), kwargs: dict | None = None) -> DebugInfo:
    """Whose function is traced, for messages; naming leaves costs a flatten with paths, paid once a trace."""
    names = argnames_of(fun, args, kwargs or {}) if args or kwargs else None
    return DebugInfo(traced_for, f"{function_name(fun)} at {line_of(fun)}", names)


def flatten_call(fun: Callable, in_tree) -> tuple[Callable[..., list], list]:
    """``fun(*args, **kwargs)`` as a function of the leaves of ``(args, kwargs)``; the list receives the
    result's tree when it runs.
    """
    out_tree: list = []

    def flat(*leaves):
        args, kwargs = tree_unflatten(in_tree, leaves)
        leaves_out, tree = tree_flatten(fun(*args, **kwargs))
        out_tree[:] = [tree]
        return leaves_out

    return flat, out_tree


def flatten_fun(fun: Callable, in_tree) -> tuple[Callable[..., list], list]:
    """As `flatten_call` for positional arguments only."""
    out_tree: list = []

    def flat(*leaves):
        leaves_out, tree = tree_flatten(fun(*tree_unflatten(in_tree, leaves)))
        out_tree[:] = [tree]
        return leaves_out

    return flat, out_tree


def check_results(outs, what: str, fun: Callable) -> None:
    """TypeError naming the first result that is no value of the language."""
    for i, x in enumerate(outs):
        try:
            get_aval(x)
        except TypeError:
            raise TypeError(
                f"{what}: {function_name(fun)} returned a value of type {type(x)} at output component {i}, which "
                f"is not a valid JAX type: {x!r}. "
                "Return arrays, numbers and containers of them."
            ) from None


def normalize_argnums(argnums, n_args: int, what: str, option: str = "argnums") -> tuple[int, ...]:
    """Argument numbers, the ``option`` of ``what``, as non-negative ones, checked against the number of
    positional arguments.
    """
    try:
        nums = tuple(operator.index(i) for i in ((argnums,) if hasattr(argnums, "__index__") else argnums))
    except TypeError:
        raise TypeError(f"{what}: {option} must be an int or a tuple of ints, got {argnums!r}") from None
    for i in nums:
        if i >= n_args and what == "grad":
            raise TypeError(
                f"differentiating with respect to argnums={argnums} requires at least {i + 1} positional arguments "
                "to be passed by the caller, but got only "
                f"{n_args} positional arguments. {what} differentiates by positional arguments; those passed by "
                "keyword are constants."
            )
        if not -n_args <= i < n_args:
            raise ValueError(
                f"{what}: {option} {i} is out of range: the function was called with {n_args} positional "
                "arguments; those passed by keyword do not count."
            )
    nums = tuple(i % n_args for i in nums)
    if len(set(nums)) != len(nums):
        raise ValueError(f"{what}: {option} {argnums!r} names an argument twice")
    return nums


def leaf_name(fun: Callable, args: Sequence, argnums: Sequence[int], k: int) -> str:
    """The path, like ``params['w']``, of leaf ``k`` of the arguments ``argnums``."""
    names, start, of_argument = argnames_of(fun, args, {}), 0, []
    for x in args:
        n = len(tree_flatten(x)[0])
        of_argument.append(names[start : start + n])
        start += n
    return [name for i in argnums for name in of_argument[i]][k]


def argnums_partial(fun: Callable, argnums: Sequence[int], args: Sequence) -> tuple[Callable, list]:
    """``fun`` of the arguments ``argnums`` alone, the others fixed."""

    @functools.wraps(fun, updated=())
    def partial(*chosen, **kwargs):
        full = list(args)
        for i, x in zip(argnums, chosen, strict=True):
            full[i] = x
        return fun(*full, **kwargs)

    return partial, [args[i] for i in argnums]


def resolve_kwargs(fun: Callable, args: Sequence, kwargs: dict, decorator: str) -> tuple:
    """Keyword arguments as positional ones, defaults applied; ``decorator`` is whose function it is, for messages."""
    if isinstance(fun, functools.partial):
        fun, args, kwargs = fun.func, (*fun.args, *args), {**fun.keywords, **kwargs}
    signature = signature_of(fun)
    lead = (
        f"The input arguments to the {decorator}-decorated function {function_name(fun)} could not be resolved to "
        "positional-only arguments. Binding failed with the error:\n"
    )
    if signature is None:
        if kwargs:
            raise TypeError(f"{lead}it has keyword arguments, but no signature that says where they belong")
        return tuple(args)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{lead}{error}") from None
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            f"{lead}The following keyword arguments could not be resolved to positions: {', '.join(bound.kwargs)}"
        )
    return bound.args
