"""``jit``: compiled functions.

The native call path (`_native.JitFunction`) serves calls whose signature it has seen. This module
makes such functions, traces on a miss, and takes the calls
the native path does not: under a transformation, with jit disabled, or on arguments it does not know.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from velax import _native
from velax._lang.array import ArrayImpl
from velax._lang.avals import AbstractRef
from velax._lang.config import config
from velax._lang.devices import local_devices
from velax._lang.effects import JaxprInputEffect
from velax._lang.errors import JaxRuntimeError
from velax._lang.jaxpr import ClosedJaxpr
from velax._lang.logs import FinishedRecord
from velax._lang.source import user_stack_level
from velax._lang.trace import Tracer, get_aval, shaped_abstractify
from velax._lang.traceback import api_boundary, boundary, leave_boundary
from velax._lang.transfers import as_operands, transfers_are_guarded
from velax._transforms.arguments import (
    Static,
    check_callable,
    debug_info_of,
    function_name,
    parameters_of,
    signature_of,
)
from velax._transforms.batching import axes_key
from velax._transforms.calls import bind_jit, dce_closed
from velax._transforms.discharge import returned_ref_message
from velax._transforms.staging import drop_traces, keep_trace, trace_to_jaxpr, traces_of
from velax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_leaves, tree_unflatten

__all__ = [
    "TracedCall", "infer_params", "jit", "set_compiler", "trace_call", "warn_unusable_donation",
]  # fmt: skip

_compiler: Callable[..., Any] | None = None
_VALUES = (ArrayImpl, Tracer, bool, int, float, complex, np.ndarray, np.generic)  # leaves that are what they stand for


def set_compiler(compiler: Callable[..., Any]) -> None:
    """Registered by the back end: ``compiler(traced_call) -> JitEntry``."""
    global _compiler
    _compiler = compiler


class TracedCall:
    """A call as the compiler sees it.

    Attributes:
      jaxpr: the function of the flat dynamic arguments.
      in_tree: tree of the dynamic ``(args, kwargs)``.
      out_tree: tree of the result.
      donated: a flag for each flat argument.
      leaves: the flat dynamic arguments.
      name: of the function.
    """

    __slots__ = ("donated", "in_avals", "in_tree", "jaxpr", "leaves", "name", "out_tree")

    def __init__(self, jaxpr, in_tree, out_tree, donated, leaves, name, in_avals):
        self.jaxpr, self.in_tree, self.out_tree, self.donated, self.leaves, self.name = (
            jaxpr,
            in_tree,
            out_tree,
            donated,
            leaves,
            name,
        )
        self.in_avals = in_avals


def jit(
    fun: Callable | None = None, /, *, in_shardings=None, out_shardings=None, static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None, donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Sequence[str] | None = None, keep_unused: bool = False, device=None, backend: str | None = None,
    inline: bool = False, compiler_options: dict | None = None,
):  # fmt: skip
    """Compile a function.

    The function is traced once for each combination of argument structure, shapes, dtypes and
    static values, compiled to machine code, and run from there on without Python.

    Args:
      fun: a function of pytrees of arrays without side effects; without it a decorator is returned.
      in_shardings, out_shardings, device, backend: placement; None, as there is one CPU device.
      static_argnums: positions of arguments that are constants of the program: hashable, each value
        compiled for itself.
      static_argnames: the same by name.
      donate_argnums: positions of arguments whose memory the results may reuse; they are deleted by the call.
      donate_argnames: the same by name.
      keep_unused: whether arguments that the program does not read stay inputs of it.
      inline: whether an enclosing traced function gets the operations rather than a call.
      compiler_options: options of the compiler by name; it has none, so that any name raises.

    Returns:
      The compiled function, with ``lower``, ``trace``, ``eval_shape`` and ``clear_cache``.

    Raises:
      TypeError: if ``fun`` is no function; when called, for arguments or results that are not arrays.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> @velax.jit
      ... def selu(x, alpha=1.67, scale=1.05):
      ...     return scale * jnp.where(x > 0, x, alpha * jnp.exp(x) - alpha)
      >>> selu(jnp.arange(3.0)).shape
      (3,)
    """
    options = dict(
        in_shardings=in_shardings, out_shardings=out_shardings, static_argnums=static_argnums, static_argnames=static_argnames,
        donate_argnums=donate_argnums, donate_argnames=donate_argnames, keep_unused=keep_unused, device=device, backend=backend,
        inline=inline, compiler_options=compiler_options,
    )  # fmt: skip
    if fun is None:
        return functools.partial(api_boundary(_make_jit), **options)
    return _make_jit(fun, **options)


def _as_tuple(value) -> tuple:
    if value is None:
        return ()
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def _make_jit(
    fun, *, static_argnums, static_argnames, donate_argnums, donate_argnames, inline, keep_unused, **placement
):
    check_callable(fun, "jit")
    for name in ("in_shardings", "out_shardings", "device"):
        _check_placement(name, placement[name])
    check_compiler_options(placement["compiler_options"])
    if placement["backend"] is not None:
        if placement["device"] is not None:
            raise ValueError(
                f"can't specify both a device and a backend for jit, got device={placement['device']} and "
                f"backend={placement['backend']!r}"
            )
        local_devices(backend=placement["backend"])  # raises for one that there is not
    # reading a signature costs more than the rest of `jit`; most functions name no arguments here
    named = any(v not in (None, ()) for v in (static_argnums, static_argnames, donate_argnums, donate_argnames))
    parameters = parameters_of(fun) if named else None
    statics, static_names = _resolve(parameters, _as_tuple(static_argnums), _as_tuple(static_argnames), "static", fun)
    donated, donated_names = _resolve(parameters, _as_tuple(donate_argnums), _as_tuple(donate_argnames), "donate", fun)
    both = set(statics) & set(donated)
    if both:
        raise ValueError(
            f"static_argnums and donate_argnums cannot intersect, got {static_argnums=} and {donate_argnums=}"
        )
    name = None if hasattr(fun, "__name__") else function_name(fun)
    f = _native.JitFunction(fun, _miss, _slow, statics, static_names, donated, donated_names, name=name)
    f._inline, f._keep_unused = inline, keep_unused
    return f


def _check_placement(name, value) -> None:
    if value is not None and not all(_is_default(x) for x in tree_leaves(value)):
        raise NotImplementedError(
            f"jit: {name}={value!r} asks for more than the one CPU device; partitioned execution is not available yet"
        )


def check_compiler_options(options) -> None:
    """JaxRuntimeError for an option that the compiler does not have."""
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"compiler_options must be a dict from names to values, got {options!r}")
    for name in options or ():
        raise JaxRuntimeError(
            f"INVALID_ARGUMENT: No such compile option: {name!r}. Velax's compiler has no options; those of XLA "
            "mean nothing to it."
        )


def _is_default(placement) -> bool:
    """Whether a device or sharding names nothing but the one device there is."""
    devices = getattr(placement, "device_set", {placement})
    return set(devices) <= set(local_devices())


def _resolve(parameters, nums: tuple, names: tuple, kind: str, fun) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Positions and names, each completed from the other by the function's parameters, and checked against them."""
    for i in nums:
        if not isinstance(i, int):
            raise TypeError(f"{kind}_argnums must be an int or a sequence of ints, got {i!r}")
    for n in names:
        if not isinstance(n, str):
            raise TypeError(f"{kind}_argnames must be a str or a sequence of strs, got {n!r}")
    if parameters is None or not (nums or names):
        return nums, names
    positional, by_keyword, variadic, keywords = parameters
    for i in nums:
        if not variadic and not -len(positional) <= i < len(positional):
            raise ValueError(
                f"Jitted function has {kind}_argnums={nums}, but only accepts {len(positional)} positional "
                f"arguments: {function_name(fun)}{signature_of(fun)}."
            )
    for n in names:
        if n not in by_keyword and not keywords:
            raise ValueError(
                f"Jitted function has invalid argnames {{{n!r}}} in {kind}_argnames. Function does not "
                f"take these args: {function_name(fun)}{signature_of(fun)}."
            )
    if not variadic:
        nums = tuple(i % len(positional) for i in nums)
    if nums and names:  # both given: what the caller says, no more
        return nums, names
    if names:
        return tuple(dict.fromkeys(positional.index(n) for n in names if n in positional)), tuple(dict.fromkeys(names))
    known = [positional[i] for i in nums if -len(positional) <= i < len(positional) and not (i < 0 and variadic)]
    return tuple(dict.fromkeys(nums)), tuple(dict.fromkeys(n for n in known if n in by_keyword))


def _split_static(self, args, kwargs):
    """``(args, kwargs)`` with `Static` in place of static arguments, checked for hashability."""
    nums, names = self._static_argnums, self._static_argnames
    if not nums and not names:
        return args, kwargs
    args = list(args)
    for i in nums:
        if -len(args) <= i < len(args):
            args[i] = _checked_static(self, i, args[i])
    kwargs = {k: _checked_static(self, k, v) if k in names else v for k, v in kwargs.items()}
    return tuple(args), kwargs


def _checked_static(self, which, value):
    try:
        hash(value)
    except TypeError as e:
        raise ValueError(
            f"Non-hashable static arguments are used in a jit function: {self._name} was called with an argument of "
            f"type {type(value)} for the static "
            f"argument {which!r}, which must be hashable: {e}"
        ) from None
    return Static(value)


def _flatten_dynamic(args, kwargs):
    """Leaves and tree of a call's dynamic arguments, and the static ones (those that are `Static`)
    with their positions and names.
    """
    positional = tuple((i, x) for i, x in enumerate(args) if type(x) is Static)
    named = tuple((k, x) for k, x in kwargs.items() if type(x) is Static)
    if positional or named:
        args = tuple(x for x in args if type(x) is not Static)
        kwargs = {k: x for k, x in kwargs.items() if type(x) is not Static}
    leaves, tree = tree_flatten((args, kwargs))
    return leaves, tree, (positional, named)


def _restore(args, kwargs, statics):
    """The arguments of the call, from the dynamic and the static ones."""
    positional, named = statics
    if positional:
        args = list(args)
        for i, x in positional:
            args.insert(i, x.value)
    return args, {**kwargs, **{k: x.value for k, x in named}}


def infer_params(self, args, kwargs, *, abstract: bool = False) -> TracedCall:
    """Trace a call of a `JitFunction`; traces are kept for each structure, types, statics,
    configuration and named axes.
    """
    fun = self._fun
    split_args, split_kwargs = _split_static(self, args, kwargs)
    leaves, in_tree, statics = _flatten_dynamic(split_args, split_kwargs)
    leaves = [x if isinstance(x, _VALUES) or not hasattr(x, "__jax_array__") else x.__jax_array__() for x in leaves]
    try:
        in_avals = tuple(map(shaped_abstractify if abstract else get_aval, leaves))
    except TypeError:
        _raise_bad_argument(self, split_args, split_kwargs, shaped_abstractify if abstract else get_aval)
        raise
    key = ("jit", in_tree, in_avals, statics, _native.config_key(), axes_key())
    traces = traces_of(_traced_for(self))
    found = traces.get(key)
    if found is None:
        if config.jax_no_tracing:
            raise RuntimeError(f"re-tracing function {self._fun} for `jit`, but 'no_tracing' is set")
        out_tree: list = []

        def flat(*leaves):
            call_args, call_kwargs = tree_unflatten(in_tree, leaves)
            result = fun(*(pair := _restore(call_args, call_kwargs, statics))[0], **pair[1])
            outs, tree = tree_flatten(result)
            out_tree[:] = [tree]
            _check_outputs(self, outs, result)
            return outs

        info = debug_info_of("jit", fun, split_args, split_kwargs)
        if config.jax_explain_cache_misses:
            from velax._transforms.explain import explain_miss  # only needed to look

            explain_miss(__name__, fun, key, list(traces), info)
        outermost = _native.get_trace() is None
        with FinishedRecord(__name__, f"tracing {self._name} for jit") if outermost else contextlib.nullcontext():
            closed = trace_to_jaxpr(flat, in_avals, info, out_tree)
        found = (closed, out_tree[0])
        keep_trace(traces, key, found, closed.consts)
    closed, out_tree = found
    donated = _donated_flags(self, split_args, split_kwargs)
    return TracedCall(closed, in_tree, out_tree, donated, leaves, self._name, in_avals)


def _traced_for(self):
    """Whose traces those of a `JitFunction` are: other callables than functions may be equal without being the same."""
    return self._fun if type(self._fun) is FunctionType else self


def _donated_flags(self, args, kwargs) -> tuple[bool, ...]:
    nums, names = self._donate_argnums, self._donate_argnames
    if not nums and not names:
        return ()
    nums = {i + len(args) if i < 0 else i for i in nums}
    flags: list[bool] = []
    for i, x in enumerate(args):
        flags += [i in nums] * (0 if type(x) is Static else len(tree_flatten(x)[0]))
    for k in sorted(kwargs):
        flags += [k in names] * (0 if type(kwargs[k]) is Static else len(tree_flatten(kwargs[k])[0]))
    return tuple(flags)


def _check_outputs(self, outs, result) -> None:
    for i, x in enumerate(outs):
        try:
            if isinstance(get_aval(x), AbstractRef):
                raise ValueError(returned_ref_message(debug_info_of("jit", self._fun), get_aval(x)))
        except TypeError:
            path = keystr(tree_flatten_with_path(result)[0][i][0])
            raise TypeError(
                f"function {self._name} traced for jit returned a value of type {type(x)} at output component "
                f"{path or i}, which is not a valid JAX type: {x!r}. "
                "Return arrays, numbers and containers of them."
            ) from None


def _raise_bad_argument(self, args, kwargs, aval_of):
    signature = signature_of(self._fun)
    names = list(signature.parameters) if signature is not None else []
    for root, value in [
        *((names[i] if i < len(names) else f"args[{i}]", x) for i, x in enumerate(args)),
        *kwargs.items(),
    ]:
        if type(value) is Static:
            continue
        for path, leaf in tree_flatten_with_path(value)[0]:
            try:
                aval_of(leaf)
            except TypeError:
                dtype = f" and dtype {leaf.dtype}" if isinstance(leaf, np.ndarray) else ""
                raise TypeError(
                    f"Error interpreting argument to {self._fun} as an abstract array. The problematic value is of "
                    f"type {type(leaf)}{dtype} and was passed to "
                    f"the function at path {root}{keystr(path)}. This typically means that a jit-wrapped function "
                    "was called with a non-array argument, and "
                    "this argument was not marked as static using the static_argnums or static_argnames parameters "
                    "of jit."
                ) from None


_drop_compiled = _native.JitFunction.clear_cache


def _clear_cache(self) -> None:
    """Drop what was traced and compiled for this function."""
    _drop_compiled(self)
    drop_traces(_traced_for(self))


_native.JitFunction.clear_cache = _clear_cache


@boundary
def _miss(self, args, kwargs):
    try:
        return _call_first(self, args, kwargs)
    except Exception as error:
        leave_boundary(error)
        raise


def _call_first(self, args, kwargs):
    traced = infer_params(self, args, kwargs)
    if any(isinstance(e, JaxprInputEffect) for e in traced.jaxpr.effects):  # it closes over mutable references
        outs = bind_jit(traced.jaxpr, traced.leaves, name=self._name, keep_unused=self._keep_unused)
        return None, tree_unflatten(traced.out_tree, outs)
    return _compiler(traced)


@boundary
def _slow(self, args, kwargs):
    try:
        return _call_slow(self, args, kwargs)
    except Exception as error:
        leave_boundary(error)
        raise


def _call_slow(self, args, kwargs):
    if config.jax_disable_jit or (self._inline and _native.get_trace() is not None):
        return self._fun(*args, **kwargs)
    traced = infer_params(self, args, kwargs)
    donated = traced.donated or None
    outs = bind_jit(
        traced.jaxpr,
        _operands(self, traced),
        name=self._name,
        donated_invars=donated,
        inline=self._inline and not transfers_are_guarded(),  # what its body holds is no operand
        keep_unused=self._keep_unused,
    )
    return tree_unflatten(traced.out_tree, outs)


def _operands(self, traced: TracedCall) -> list:
    """The leaves of a call, those as arrays that its program does not read: it is not called with them, so
    that transfer guards have nothing to say of them.
    """
    leaves = traced.leaves
    if self._keep_unused or not transfers_are_guarded():
        return leaves
    read = dce_closed(traced.jaxpr, [True] * len(traced.jaxpr.out_avals))[1]
    return [x if used else as_operands([x])[0] for x, used in zip(leaves, read, strict=True)]


def trace_call(fun: Callable, args, kwargs=None, traced_for: str = "jit") -> tuple[ClosedJaxpr, Any, Any]:
    """Trace ``fun(*args, **kwargs)`` by the types of its arguments: ``(closed jaxpr, in_tree, out_tree)``."""
    kwargs = kwargs or {}
    leaves, in_tree = tree_flatten((args, kwargs))
    out_tree: list = []

    def flat(*leaves):
        call_args, call_kwargs = tree_unflatten(in_tree, leaves)
        outs, tree = tree_flatten(fun(*call_args, **call_kwargs))
        out_tree[:] = [tree]
        return outs

    closed = trace_to_jaxpr(flat, [shaped_abstractify(x) for x in leaves], debug_info_of(traced_for, fun, args, kwargs))
    return closed, in_tree, out_tree[0]


def warn_unusable_donation(traced: TracedCall) -> None:
    """Warn of donated arguments whose memory no result has room in; those that nothing reads are simply left alone."""
    if not any(traced.donated):
        return
    jaxpr = traced.jaxpr.jaxpr
    read = {id(x) for eqn in jaxpr.eqns for x in eqn.invars} | {id(x) for x in jaxpr.outvars}
    results = [aval.size for aval in traced.jaxpr.out_avals]
    unusable = []
    for var, donated in zip(jaxpr.invars, traced.donated, strict=True):
        if not donated or id(var) not in read:
            continue
        if var.aval.size in results:
            results.remove(var.aval.size)
        else:
            unusable.append(var.aval.str_short())
    if unusable:
        warnings.warn(
            f"Some donated buffers were not usable: {', '.join(unusable)}. No result has as many elements, so none "
            "can take "
            "their memory; donate arguments that are replaced by the results.",
            stacklevel=user_stack_level(),
        )
