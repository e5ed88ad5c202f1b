"""Velax: composable transformations of Python+NumPy programs.

``jit`` compiles, ``grad`` differentiates, ``vmap`` vectorizes; they compose in any order. The names are JAX's.
"""

import functools as _functools
import importlib as _importlib

from velax._lang.collector import collector_paused as _collector_paused

with _collector_paused():
    from velax import _native
    from velax._lang.array import Array as Array
    from velax._lang.avals import ShapeDtypeStruct as ShapeDtypeStruct
    from velax._lang.config import CONTEXT_MANAGERS as _CONTEXT_MANAGERS, config as config
    from velax._lang.devices import (
        Device as Device,
        default_backend as default_backend,
        device_count as device_count,
        devices as devices,
        host_count as host_count,
        host_id as host_id,
        host_ids as host_ids,
        local_device_count as local_device_count,
        local_devices as local_devices,
        process_count as process_count,
        process_index as process_index,
        process_indices as process_indices,
    )
    from velax._lang.dtypes import float0 as float0
    from velax._lang.meshes import make_mesh as make_mesh, set_mesh as set_mesh
    from velax._lang.shardings import NamedSharding as NamedSharding, PartitionSpec as _PartitionSpec
    from velax._lang.source import name_scope as named_scope
    from velax._lang.trace import ensure_compile_time_eval as ensure_compile_time_eval, typeof as typeof
    from velax._lang.traceback import public_module as _public_module
    from velax._transforms.custom_jvp import custom_jvp as custom_jvp
    from velax._transforms.custom_rules import (
        closure_convert as closure_convert,
        custom_gradient as custom_gradient,
    )
    from velax._transforms.custom_vjp import custom_vjp as custom_vjp
    from velax._transforms.differentiate import (
        fwd_and_bwd as fwd_and_bwd,
        grad as grad,
        hessian as hessian,
        jacfwd as jacfwd,
        jacobian as jacobian,
        jacrev as jacrev,
        jvp as jvp,
        linear_transpose as linear_transpose,
        linearize as linearize,
        value_and_grad as value_and_grad,
        vjp as vjp,
    )
    from velax._transforms.inspecting import eval_shape as eval_shape, make_jaxpr as make_jaxpr
    from velax._transforms.jit import jit as jit
    from velax._transforms.remat import checkpoint as checkpoint, checkpoint_policies as checkpoint_policies
    from velax._transforms.staging import clear_traces as _clear_traces
    from velax._transforms.vectorize import vmap as vmap

    from velax import lax as lax  # isort: skip
    from velax._backends.cpu import device as _cpu_device  # isort: skip  # noqa: F401
    from velax._backends.cpu.placement import (  # isort: skip
        block_until_ready as block_until_ready,
        copy_to_host_async as copy_to_host_async,
        device_get as device_get,
        device_put as device_put,
        effects_barrier as effects_barrier,
        make_array_from_callback as make_array_from_callback,
        make_array_from_process_local_data as make_array_from_process_local_data,
        make_array_from_single_device_arrays as make_array_from_single_device_arrays,
    )
    from velax import numpy as numpy, tree_util as tree_util  # isort: skip
    from velax._compiler.driver import clear_memory_cache as _clear_memory_cache

__version__ = "0.1.0"

remat = checkpoint
P = _PartitionSpec

#: submodules that are imported when first used
_LAZY = frozenset({
    "ad_checkpoint", "api_util", "core", "custom_batching", "custom_derivatives", "debug", "dlpack", "dtypes", "errors",
    "experimental", "extend", "flatten_util", "interpreters", "monitoring", "nn", "ops", "random", "ref", "scipy",
    "sharding", "stages", "tree", "typing",
})  # fmt: skip
#: names that live in a submodule imported when first used
_LAZY_NAMES = {
    "Shard": "velax.numpy._methods",
    "pure_callback": "velax.lax", "ds": "velax.lax._index_plan", "Ref": "velax.ref", "new_ref": "velax.ref",
    "freeze": "velax.ref", "pmap": "velax._transforms.pmap", "empty_ref": "velax.ref", "free_ref": "velax.ref",
    "install_as_jax": "velax._compat",
}  # fmt: skip


def __getattr__(name):
    if name in _LAZY:
        return _importlib.import_module(f"velax.{name}")
    if name in _LAZY_NAMES:
        return getattr(_importlib.import_module(_LAZY_NAMES[name]), name)
    if name in _CONTEXT_MANAGERS:
        return getattr(_importlib.import_module("velax._lang.config"), name)
    raise AttributeError(f"module 'velax' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *_LAZY_NAMES, *_CONTEXT_MANAGERS})


def clear_caches():
    """Forget everything compiled and traced in this process; what is cached on disk stays."""
    _native.clear_all_jit_caches()
    _clear_traces()
    _clear_memory_cache()


def named_call(fun, *, name=None):
    """A function whose operations carry its name in their name stack."""

    @_functools.wraps(fun)
    def called(*args, **kwargs):
        with named_scope(name or fun.__name__):
            return fun(*args, **kwargs)

    return called


_public_module(globals())
