"""Looking at functions without running them: make_jaxpr, eval_shape, and the stages of compilation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from velax import _native
from velax._lang.avals import ShapeDtypeStruct
from velax._lang.devices import local_devices
from velax._lang.shardings import SingleDeviceSharding
from velax._lang.trace import Tracer
from velax._lang.traceback import api_boundary
from velax._transforms.arguments import check_callable, function_name
from velax._transforms.batching import extend_axis_env
from velax._transforms.jit import TracedCall, check_compiler_options, infer_params, jit
from velax.tree_util import tree_flatten, tree_unflatten

__all__ = ["ArgInfo", "Compiled", "Lowered", "Traced", "Wrapped", "eval_shape", "make_jaxpr", "set_stage_compiler"]


def make_jaxpr(
    fun: Callable,
    static_argnums: int | Iterable[int] = (),
    axis_env=None,
    return_shape: bool = False,
) -> Callable[..., Any]:
    """A function that returns the jaxpr of ``fun`` for given arguments.

    Args:
      fun: the function.
      static_argnums: positions of arguments that are Python constants.
      axis_env: pairs (name, size) of named axes in scope.
      return_shape: whether to return the shapes of the results too.

    Example:
      >>> import velax, velax.numpy as jnp
      >>> velax.make_jaxpr(lambda x: jnp.sin(x))(1.0)
      { lambda ; a:f32[]. let b:f32[] = sin a in (b,) }
    """
    check_callable(fun, "make_jaxpr")
    jitted = fun if isinstance(fun, _native.JitFunction) and not static_argnums else None
    target = jit(fun, static_argnums=static_argnums) if jitted is None else None

    @api_boundary
    @functools.wraps(fun, updated=())
    def make_jaxpr_f(*args, **kwargs):
        with extend_axis_env(list(axis_env or ())):
            if jitted is not None:
                wrapper = jit(lambda *a, **k: jitted(*a, **k))
                traced = infer_params(wrapper, args, kwargs, abstract=True)
            else:
                traced = infer_params(target, args, kwargs, abstract=True)
        if return_shape:
            return traced.jaxpr, _shapes(traced)
        return traced.jaxpr

    make_jaxpr_f.__module__ = "velax"
    if hasattr(fun, "__qualname__"):
        make_jaxpr_f.__qualname__ = make_jaxpr_f.__name__ = f"make_jaxpr({function_name(fun)})"
    return make_jaxpr_f


def _shapes(traced: TracedCall):
    return tree_unflatten(
        traced.out_tree, [ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in traced.jaxpr.out_avals]
    )


@api_boundary
def eval_shape(fun: Callable, *args, **kwargs):
    """The shapes and dtypes of ``fun(*args, **kwargs)``, without computing it.

    Args:
      fun: the function.
      *args, **kwargs: arrays, or `ShapeDtypeStruct`s in their place.

    Returns:
      The result's structure with `ShapeDtypeStruct` leaves.
    """
    check_callable(fun, "eval_shape")
    target = fun if isinstance(fun, _native.JitFunction) else jit(fun)
    return _shapes(infer_params(target, args, kwargs, abstract=True))


# -- stages: f.trace(...).lower().compile() ---------------------------------------------------------

_stage_compiler: Callable[[TracedCall], Any] | None = None


def set_stage_compiler(compiler) -> None:
    """Registered by the back end: ``compiler(traced)`` gives an object with ``compile()``,
    ``call(leaves)``, texts and statistics."""
    global _stage_compiler
    _stage_compiler = compiler


class ArgInfo:
    """An argument of a staged function: its aval and whether it is donated."""

    __slots__ = ("_aval", "donated")

    def __init__(self, aval, donated: bool):
        self._aval, self.donated = aval, donated

    shape = property(lambda self: self._aval.shape)
    dtype = property(lambda self: self._aval.dtype)
    aval = property(lambda self: self._aval)

    def __repr__(self):
        return f"ArgInfo(_aval={self._aval!r}, donated={self.donated})"


class _Stage:
    __slots__ = ("_traced",)

    def __init__(self, traced: TracedCall):
        self._traced = traced

    @property
    def in_tree(self):
        return self._traced.in_tree

    @property
    def out_tree(self):
        return self._traced.out_tree

    @property
    def args_info(self):
        avals = self._traced.jaxpr.in_avals
        donated = self._traced.donated or (False,) * len(avals)
        return tree_unflatten(self.in_tree, [ArgInfo(a, d) for a, d in zip(avals, donated, strict=True)])

    @property
    def donate_argnums(self) -> tuple[int, ...]:
        """Positions of donated leaves among the flat arguments."""
        return tuple(i for i, d in enumerate(self._traced.donated) if d)

    @property
    def in_avals(self):
        return tree_unflatten(self.in_tree, list(self._traced.jaxpr.in_avals))

    @property
    def out_info(self):
        return _shapes(self._traced)


class Traced(_Stage):
    """A function traced for given argument types: ``jaxpr``, ``out_info``, and `lower`."""

    __slots__ = ()

    @property
    def jaxpr(self):
        return self._traced.jaxpr

    @property
    def fun_name(self) -> str:
        return self._traced.name

    @property
    def out_avals(self):
        return tree_unflatten(self.out_tree, self._traced.jaxpr.out_avals)

    def lower(self, *, lowering_platforms=None, **_):
        return Lowered(self._traced)


class Lowered(_Stage):
    """A function lowered to the compiler's array graph: `as_text` shows it, `compile` makes it callable."""

    __slots__ = ()

    def as_text(self, dialect: str | None = None, *, debug_info: bool = False) -> str:
        _check_dialect(dialect)
        return f"module @jit_{_identifier(self._traced.name)}\n{_stage_compiler(self._traced).graph_text()}"

    def compiler_ir(self, dialect: str | None = None):
        """The array graph, `as_text` of which is its printed form; the dialects of XLA all mean it."""
        _check_dialect(dialect)
        return _stage_compiler(self._traced).graph()

    @api_boundary
    def compile(self, compiler_options=None) -> Compiled:
        check_compiler_options(compiler_options)
        program = _stage_compiler(self._traced)
        program.compile()
        return Compiled(self._traced, program)

    def cost_analysis(self):
        return _stage_compiler(self._traced).cost_analysis()


def _check_dialect(dialect) -> None:
    if dialect not in (None, "stablehlo", "hlo", "mhlo"):
        raise ValueError(f"unknown dialect: {dialect}")


def _identifier(name: str) -> str:
    """A function's name with what is neither letter nor digit as underscores: ``_lambda_``."""
    return "".join(c if c.isalnum() else "_" for c in name)


def _sharding() -> SingleDeviceSharding:
    return SingleDeviceSharding(local_devices()[0])


class Compiled(_Stage):
    """A compiled function for given argument types; call it with arguments of exactly these."""

    __slots__ = ("_compiled",)

    def __init__(self, traced, compiled):
        super().__init__(traced)
        self._compiled = compiled

    def as_text(self) -> str:
        return self._compiled.program_text()

    @property
    def input_shardings(self):
        """Where each argument is: on the one device."""
        return tree_unflatten(self.in_tree, [_sharding()] * self.in_tree.num_leaves)

    @property
    def output_shardings(self):
        """Where each result is."""
        return tree_unflatten(self.out_tree, [_sharding()] * self.out_tree.num_leaves)

    def runtime_executable(self):
        """The native executable."""
        return self._compiled.executable

    def memory_analysis(self):
        return self._compiled.memory_analysis()

    def cost_analysis(self):
        return self._compiled.cost_analysis()

    @api_boundary
    def __call__(self, *args, **kwargs):
        leaves, tree = tree_flatten((args, kwargs))
        for x in leaves:
            if isinstance(x, Tracer):
                raise TypeError(
                    "Cannot apply JAX transformations to a function lowered and compiled for a particular signature. "
                    f"Detected argument of Tracer type {type(x)}. Transform the jitted function instead."
                )
        if tree != self.in_tree:
            raise TypeError(
                "Function compiled with input pytree does not match the input pytree it was called "
                f"with: expected {self.in_tree}, got {tree}"
            )
        return tree_unflatten(self.out_tree, self._compiled.call(leaves))


Wrapped = _native.JitFunction


@api_boundary
def _trace(self, *args, **kwargs) -> Traced:
    """Trace for these arguments (arrays or `ShapeDtypeStruct`s), without compiling."""
    return Traced(infer_params(self, args, kwargs, abstract=True))


@api_boundary
def _lower(self, *args, **kwargs) -> Lowered:
    """Trace and lower for these arguments."""
    return _trace(self, *args, **kwargs).lower()


def _eval_shape(self, *args, **kwargs):
    """The shapes and dtypes of the result for these arguments."""
    return eval_shape(self, *args, **kwargs)


for _name, _method in (("trace", _trace), ("lower", _lower), ("eval_shape", _eval_shape)):
    setattr(_native.JitFunction, _name, _method)
