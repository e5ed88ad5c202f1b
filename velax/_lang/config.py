"""Configuration: what the options of `config_options` are set to, for the process and for a block of code.

Every option is a `State`: ``state.value`` reads it, ``with state(value):`` sets it for a block in this thread, and
``config.update(name, value)`` sets it for the process. The values of all traced options together are an
interned `ConfigKey`; the native core holds the key in force (the thread's override, or the process default)
and every cache of traced or compiled programs is keyed by it. Two equal configurations share one key object,
so that caches compare it by identity.

A thread inside a context manager sees changes that *other* threads make to the process-wide values when it
next enters or leaves a context manager; a thread outside of any sees them at once.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import threading
import warnings
import weakref
from typing import Any

import numpy as np

from velax import _native
from velax._lang.config_options import (
    OPTIONS,
    Choice,
    ExplicitX64Mode,
    LegacyPrngKeyState,
    NumpyDtypePromotion,
    Option,
    RuntimeTracebackMode,
)
from velax._lang.source import user_stack_level

__all__ = [
    "Config", "ConfigKey", "ExplicitX64Mode", "LegacyPrngKeyState", "NumpyDtypePromotion", "RuntimeTracebackMode",
    "State", "UserContext", "allow_f16_reductions", "array_garbage_collection_guard", "auto_pcast",
    "changed_options", "check_tracer_leaks", "checking_leaks", "config", "config_key", "context_state", "debug_infs",
    "debug_key_reuse", "debug_nans", "default_device", "default_matmul_precision", "default_prng_impl", "disable_jit",
    "disallow_mesh_context_manager", "enable_checks", "enable_custom_prng", "enable_x64", "explain_cache_misses",
    "explicit_x64_dtypes", "high_dynamic_range_gumbel", "jax2tf_associative_scan_reductions", "legacy_prng_key",
    "log_compiles", "make_user_context", "no_execution", "no_tracing", "numpy_dtype_promotion",
    "numpy_rank_promotion", "random_seed_offset", "remove_size_one_mesh_axis_from_type", "softmax_custom_jvp",
    "thread_guard", "threefry_partitionable", "traceback_filtering", "traced_values", "transfer_guard",
    "transfer_guard_device_to_device", "transfer_guard_device_to_host", "transfer_guard_host_to_device",
    "x64_enabled",
]  # fmt: skip

#: The names above that are public as `velax.<name>`: what sets options for a block of code.
CONTEXT_MANAGERS = (
    "allow_f16_reductions", "array_garbage_collection_guard", "auto_pcast", "check_tracer_leaks", "checking_leaks",
    "debug_infs", "debug_key_reuse", "debug_nans", "default_device", "default_matmul_precision", "default_prng_impl",
    "disable_jit", "enable_checks", "enable_custom_prng", "enable_x64", "explain_cache_misses",
    "jax2tf_associative_scan_reductions", "legacy_prng_key", "log_compiles", "make_user_context", "no_execution",
    "no_tracing", "numpy_dtype_promotion", "numpy_rank_promotion", "remove_size_one_mesh_axis_from_type",
    "softmax_custom_jvp", "thread_guard", "threefry_partitionable", "transfer_guard",
    "transfer_guard_device_to_device", "transfer_guard_device_to_host", "transfer_guard_host_to_device",
)  # fmt: skip

FLAG_X64, FLAG_DISABLE_JIT, FLAG_DEBUG = 1, 2, 4

#: The interned key of the configuration in force in this thread.
config_key = _native.config_key
_config_flags = _native.config_flags


def x64_enabled() -> bool:
    """Whether 64-bit dtypes are kept in this thread."""
    return _config_flags() & FLAG_X64 != 0


class ConfigKey:
    """The values of all traced options. Interned: equal configurations have one key."""

    __slots__ = ("__weakref__", "values")

    def __init__(self, values: tuple):
        self.values = values

    def __repr__(self):
        changed = {
            s.name: v for s, v in zip(_traced, self.values) if v != s.default
        }  # only what differs from the defaults is of interest to a reader
        return f"ConfigKey({changed})"


class _Overrides(threading.local):
    """What this thread has set through context managers. The mapping is replaced, never changed."""

    values: dict[str, Any] = {}  # noqa: RUF012 - shared by all threads, never written to


_overrides = _Overrides()
_states: dict[str, State] = {}
_traced: list[State] = []
_keys: weakref.WeakValueDictionary[tuple, ConfigKey] = weakref.WeakValueDictionary()
_global_values: dict[str, Any] = {}
_lock = threading.RLock()
_MISSING = object()


def _intern(values: tuple) -> ConfigKey:
    key = _keys.get(values)
    if key is None:
        with _lock:
            key = _keys.get(values)
            if key is None:
                key = _keys[values] = ConfigKey(values)
    return key


def _flags(overrides: dict[str, Any]) -> int:
    def on(name):
        return overrides.get(name, _global_values[name])

    flags = FLAG_X64 if on("jax_enable_x64") else 0
    if on("jax_disable_jit"):
        flags |= FLAG_DISABLE_JIT
    if any(map(on, _DEBUG_OPTIONS)) or on("jax_transfer_guard_host_to_device") not in (None, "allow"):
        flags |= FLAG_DEBUG
    return flags


# What the native call path does not implement.
_DEBUG_OPTIONS = ("jax_debug_nans", "jax_debug_infs", "jax_no_execution")


# What overrides amount to together with the process-wide values: their key and flags. Replaced when the latter change.
_local_configs: dict[tuple, tuple[ConfigKey, int]] = {}


def _install(overrides: dict[str, Any]) -> None:
    """Makes `overrides` what this thread has set."""
    _overrides.values = overrides
    if not overrides:
        _native.swap_local_config(None, 0)
        return
    known = _local_configs
    items = tuple(overrides.items())
    found = known.get(items)
    if found is None:
        values = {**_global_values, **overrides}
        found = _intern(tuple([values[s.option.name] for s in _traced])), _flags(overrides)
        if len(known) < 256:
            known[items] = found
    _native.swap_local_config(*found)


def _install_global() -> None:
    global _local_configs
    _local_configs = {}
    _native.set_global_config(_intern(tuple([_global_values[s.option.name] for s in _traced])), _flags({}))
    if _overrides.values:
        _install(_overrides.values)


class State:
    """One option: its value, and the context manager that sets it.

    Calling a state returns a context manager (also a decorator) that sets it in this thread:
    ``with enable_x64(True): ...``.
    """

    __slots__ = ("_index", "_on_change", "option")

    def __init__(self, option: Option, index: int | None):
        self.option = option
        self._index = index
        self._on_change = []

    name = property(lambda self: self.option.name)
    default = property(lambda self: self.option.default)

    @property
    def value(self) -> Any:
        """The value in force in this thread."""
        if self._index is not None:
            return config_key().values[self._index]
        value = _overrides.values.get(self.option.name, _MISSING)
        return _global_values[self.option.name] if value is _MISSING else value

    def get_global(self) -> Any:
        """The process-wide value."""
        return _global_values[self.option.name]

    def get_local(self) -> Any:
        """This thread's override, or ``None`` when there is none."""
        return _overrides.values.get(self.option.name)

    def set_global(self, value: Any) -> None:
        """Sets the process-wide value."""
        value = self.check(value)
        with _lock:
            _global_values[self.option.name] = value
            for name in _FOLLOWERS.get(self.option.name, ()):
                _global_values[name] = value
            _install_global()
        for hook in self._on_change:
            hook(value)

    def set_local(self, value: Any) -> None:
        """Sets this thread's override."""
        self.swap_local(value)

    def unset_local(self) -> None:
        """Removes this thread's override."""
        _install({k: v for k, v in _overrides.values.items() if k != self.option.name})

    def swap_local(self, value: Any) -> Any:
        """Sets this thread's override and returns the one before (``None`` for none)."""
        old = _overrides.values.get(self.option.name)
        _install({**_overrides.values, self.option.name: self.check(value)})
        return old

    def on_change(self, hook) -> None:
        """Calls ``hook(value)`` whenever the process-wide value is set."""
        self._on_change.append(hook)

    def check(self, value: Any) -> Any:
        """`value` as this option keeps it.

        Raises:
          ValueError: `value` is not one of the option's choices.
          TypeError: `value` is of the wrong type.
        """
        value = _check(self.option, value)
        _warn_of_lack(self.option, value)
        return value

    def __call__(self, new_val: Any = _MISSING) -> _Setting:
        if new_val is _MISSING:
            if self.option.context_default is None:
                raise TypeError(f"{_public_name(self.name)}() needs the value that it is to set")
            new_val = self.option.context_default
        return _Setting(self, self.check(new_val))

    def __bool__(self) -> bool:
        raise TypeError(
            f"the truth of the option {self.name} is that of its value: write `{_public_name(self.name)}.value`"
        )

    def __repr__(self):
        return f"State({self.name}={self.value!r})"


class _Setting(contextlib.ContextDecorator):
    """The context manager that a state returns. It may be entered again while it is active."""

    __slots__ = ("_changes", "_saved")

    def __init__(self, state: State, value: Any):
        names = (state.name, *_FOLLOWERS.get(state.name, ()))
        self._changes = dict.fromkeys(names, value)
        self._saved: list[dict[str, Any]] = []

    def _recreate_cm(self):
        saved = _Setting.__new__(_Setting)
        saved._changes, saved._saved = self._changes, []
        return saved

    def __enter__(self) -> None:
        old = _overrides.values
        self._saved.append({name: old.get(name, _MISSING) for name in self._changes})
        _install({**old, **self._changes})

    def __exit__(self, *_exception) -> None:
        # Only what this manager set is put back: others may have been entered or left in between.
        values = dict(_overrides.values)
        for name, value in self._saved.pop().items():
            if value is _MISSING:
                values.pop(name, None)
            else:
                values[name] = value
        _install(values)


# Setting the first sets the others.
_FOLLOWERS = {
    "jax_transfer_guard": tuple([o.name for o in OPTIONS if o.name.startswith("jax_transfer_guard_")]),
}


def _public_name(name: str) -> str:
    return name.removeprefix("jax_")


def _public_context_name(name: str) -> str:
    """What messages call an option, or a state that is none."""
    return f"the context's {name[1:]}" if name.startswith("_") else name


def _check(option: Option, value: Any) -> Any:
    kind = option.kind
    if value is None and option.optional:
        return None
    if isinstance(kind, Choice):
        if isinstance(value, str) and value in kind.values:
            return value
        none = "None or " if option.optional else ""
        raise ValueError(
            f"{option.name}: new enum value must be {none}in {list(kind.values)}, got {value!r} of type {type(value)}."
        )
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _check_enum(option, value)
    if kind is bool:
        if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
    elif kind is int:
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            return int(value)
    elif kind is float:
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            return float(value)
    elif kind is str:
        if isinstance(value, str | os.PathLike):
            return os.fspath(value)
    elif option.name == "jax_default_device":
        return _check_device(value)
    else:
        hash(value)  # it becomes part of a cache key
        return value
    none = "None or " if option.optional else ""
    message = f"{option.name}: the new value must be {none}of type {kind.__name__}, got {value!r} of type {type(value).__name__}"
    raise ValueError(message) if kind in (int, float, str) else TypeError(message)


def _check_enum(option: Option, value: Any) -> Any:
    if isinstance(value, option.kind):
        return value
    for member in option.kind:
        if isinstance(value, str) and value.lower() in (str(member.value).lower(), member.name.lower()):
            return member
    choices = [member.name.lower() for member in option.kind]
    raise ValueError(f"{option.name}: {value!r} is not a valid {option.kind.__name__}; the choices are {choices}")


def _check_device(value: Any) -> Any:
    # Devices are defined further up; what makes one is that it has a platform.
    if isinstance(value, str) and value in ("cpu", "gpu", "tpu", "cuda", "rocm", "METAL"):
        return value
    if not isinstance(value, str) and hasattr(value, "platform"):
        return value
    raise ValueError(
        "jax_default_device must be a device (`velax.devices('cpu')[0]`), the name of a platform ('cpu', 'gpu') or "
        "None, "
        f"got {value!r}"
    )


def _warn_of_lack(option: Option, value: Any) -> None:
    if option.lacks and value not in (option.default, *option.harmless):
        warnings.warn(f"{option.name}={value!r} has no effect in Velax: {option.lacks}.", stacklevel=user_stack_level())


def _from_environment(option: Option) -> Any:
    text = os.environ.get(option.name.upper())
    if text is None:
        return option.default
    kind = option.kind
    if kind is bool:
        if text.lower() in ("1", "true", "t", "yes", "y", "on"):
            return True
        if text.lower() in ("0", "false", "f", "no", "n", "off", ""):
            return False
        raise ValueError(
            f"invalid truth value {text!r} for the environment variable {option.name.upper()}: write 0 or 1"
        )
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(
                f"invalid {kind.__name__} {text!r} for the environment variable {option.name.upper()}"
            ) from None
    if option.optional and not text:
        return None
    return _check(option, text)


def _define(option: Option, value: Any) -> State:
    with _lock:
        index = None
        if option.traced:
            index = len(_traced)
        state = State(option, index)
        _global_values[option.name] = value
        _states[option.name] = state
        if index is not None:
            _traced.append(state)
        if not option.name.startswith("_"):
            setattr(Config, option.name, property(lambda _: state.value, doc=option.help))
        return state


class Config:
    """The options of this process: ``config.update(name, value)`` sets one, ``config.<name>`` reads one.

    Example:
      >>> import velax
      >>> velax.config.update("jax_debug_nans", True)
      >>> velax.config.jax_debug_nans
      True
      >>> velax.config.update("jax_debug_nans", False)
    """

    __slots__ = ()

    def update(self, name: str, val: Any) -> None:
        """Sets the option `name` for the whole process.

        Args:
          name: the option, e.g. ``"jax_enable_x64"``.
          val: its new value.

        Raises:
          AttributeError: there is no such option; the message names close ones.
          ValueError, TypeError: the option does not take that value.
        """
        self._state(name).set_global(val)

    def read(self, name: str) -> Any:
        """The value of the option `name` in this thread."""
        return self._state(name).value

    def _state(self, name: str) -> State:
        state = _states.get(name)
        if state is None or name.startswith("_"):
            raise AttributeError(f"Unrecognized config option: {name}{_suggest(name)}")
        return state

    def __getattr__(self, name: str) -> Any:
        # The options are properties of the class, defined below; this is reached for other names.
        raise AttributeError(f"the configuration has no attribute or option {name!r}{_suggest(name)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"options are set by `config.update({name!r}, {value!r})`")

    @property
    def x64_enabled(self) -> bool:
        """Whether 64-bit dtypes are kept in this thread."""
        return x64_enabled()

    @property
    def values(self) -> dict[str, Any]:
        """All options and their values in this thread."""
        return {name: state.value for name, state in _states.items() if not name.startswith("_")}

    def describe(self, name: str) -> str:
        """What the option `name` does."""
        return self._state(name).option.help

    def config_with_absl(self) -> None:
        """Defines a flag of the `absl` package for every option and reads them when the application starts."""
        import absl.app  # an optional dependency of the caller's program
        import absl.flags  # as above

        define = {bool: absl.flags.DEFINE_bool, int: absl.flags.DEFINE_integer, float: absl.flags.DEFINE_float}
        for name, state in _states.items():
            if name.startswith("_") or name in absl.flags.FLAGS:
                continue
            value = state.value
            if isinstance(value, enum.Enum):
                value = value.name.lower()
            elif state.option.kind is object and not isinstance(value, str):
                value = None  # a device has no spelling on the command line
            define.get(state.option.kind, absl.flags.DEFINE_string)(name, value, state.option.help)
        absl.app.call_after_init(lambda: self.complete_absl_config(absl.flags))

    def complete_absl_config(self, absl_flags) -> None:
        """Takes over the values of the flags that were given on the command line."""
        for name in [n for n in _states if n in absl_flags.FLAGS]:
            flag = absl_flags.FLAGS[name]
            if flag.present:
                self.update(name, flag.value)

    def parse_flags_with_absl(self) -> None:
        """Reads options from the command line now, as flags of the `absl` package."""
        import absl.flags  # an optional dependency of the caller's program

        self.config_with_absl()
        absl.flags.FLAGS(sys.argv, known_only=True)
        self.complete_absl_config(absl.flags)


def _suggest(name: str) -> str:
    import difflib  # only errors need it

    public = [n for n in _states if not n.startswith("_")]
    close = difflib.get_close_matches(name, public, n=3, cutoff=0.6)
    close = close or difflib.get_close_matches(f"jax_{name}", public, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def context_state(name: str, default: Any = None) -> State:
    """A traced state that is no option: what rooms keep in the context (meshes, axis sizes, ...).

    Args:
      name: a name for messages.
      default: its value outside of any context manager; hashable.
    """
    state = _define(Option(f"_{name}", object, default, f"The context {name}.", optional=True, traced=True), default)
    with _lock:
        _install_global()
    return state


def traced_values() -> dict[str, Any]:
    """Name and value of every traced option in force in this thread, for keys that outlive the process."""
    return {state.name: value for state, value in zip(_traced, config_key().values)}


def changed_options(new: ConfigKey, old: ConfigKey) -> list[tuple[str, Any, Any]]:
    """The options whose values differ between two keys: name, new value, old value."""
    names = (_public_context_name(state.name) for state in _traced)
    return [(name, a, b) for name, a, b in zip(names, new.values, old.values) if a != b]


for _option in OPTIONS:
    _define(_option, _from_environment(_option))
    _warn_of_lack(_option, _global_values[_option.name])
_install_global()

config = Config()

# Every state by its public name: `enable_x64`, `debug_nans`, `numpy_rank_promotion`, ...
globals().update({_public_name(name): state for name, state in _states.items()})

# Those that are public context managers, or that other rooms read, also for readers and type checkers.
allow_f16_reductions = _states["jax_allow_f16_reductions"]
array_garbage_collection_guard = _states["jax_array_garbage_collection_guard"]
auto_pcast = _states["jax_auto_pcast"]
check_tracer_leaks = _states["jax_check_tracer_leaks"]
debug_infs = _states["jax_debug_infs"]
debug_key_reuse = _states["jax_debug_key_reuse"]
debug_nans = _states["jax_debug_nans"]
default_device = _states["jax_default_device"]
default_matmul_precision = _states["jax_default_matmul_precision"]
default_prng_impl = _states["jax_default_prng_impl"]
disallow_mesh_context_manager = _states["jax_disallow_mesh_context_manager"]
enable_checks = _states["jax_enable_checks"]
enable_custom_prng = _states["jax_enable_custom_prng"]
enable_x64 = _states["jax_enable_x64"]
explain_cache_misses = _states["jax_explain_cache_misses"]
explicit_x64_dtypes = _states["jax_explicit_x64_dtypes"]
high_dynamic_range_gumbel = _states["jax_high_dynamic_range_gumbel"]
jax2tf_associative_scan_reductions = _states["jax2tf_associative_scan_reductions"]
legacy_prng_key = _states["jax_legacy_prng_key"]
log_compiles = _states["jax_log_compiles"]
no_execution = _states["jax_no_execution"]
no_tracing = _states["jax_no_tracing"]
numpy_dtype_promotion = _states["jax_numpy_dtype_promotion"]
numpy_rank_promotion = _states["jax_numpy_rank_promotion"]
random_seed_offset = _states["jax_random_seed_offset"]
remove_size_one_mesh_axis_from_type = _states["jax_remove_size_one_mesh_axis_from_type"]
softmax_custom_jvp = _states["jax_softmax_custom_jvp"]
thread_guard = _states["jax_thread_guard"]
threefry_partitionable = _states["jax_threefry_partitionable"]
traceback_filtering = _states["jax_traceback_filtering"]
transfer_guard = _states["jax_transfer_guard"]
transfer_guard_device_to_device = _states["jax_transfer_guard_device_to_device"]
transfer_guard_device_to_host = _states["jax_transfer_guard_device_to_host"]
transfer_guard_host_to_device = _states["jax_transfer_guard_host_to_device"]


def disable_jit(disable: bool = True) -> contextlib.AbstractContextManager:
    """Runs the Python bodies of jitted functions, and of control flow, inside the block.

    Args:
      disable: whether to; ``False`` turns jit back on inside of another such block.

    Example:
      >>> import velax
      >>> with velax.disable_jit():
      ...   velax.config.jax_disable_jit
      True
    """
    return _states["jax_disable_jit"](disable)


_user_context = context_state("user_context", ())


class UserContext:
    """A value that a program keeps in the context, so that functions traced under different values are traced anew.

    Example:
      >>> import velax
      >>> scale = velax.make_user_context(1.0)
      >>> with scale(2.0):
      ...   scale.value
      2.0
    """

    __slots__ = ("__weakref__", "_default")

    def __init__(self, default_value: Any = None):
        self._default = default_value

    @property
    def value(self) -> Any:
        """The value in force in this thread."""
        return dict(_user_context.value).get(self, self._default)

    def __call__(self, value: Any) -> contextlib.AbstractContextManager:
        hash(value)  # it becomes part of cache keys
        return self._set(value)

    @contextlib.contextmanager
    def _set(self, value):
        others = tuple((c, v) for c, v in _user_context.value if c is not self)
        with _user_context((*others, (self, value))):
            yield


def make_user_context(default_value: Any = None) -> UserContext:
    """A new `UserContext` whose value is `default_value` outside of any of its context managers."""
    return UserContext(default_value)


def checking_leaks() -> contextlib.AbstractContextManager:
    """Raises when a traced value outlives its trace inside the block."""
    return _states["jax_check_tracer_leaks"](True)


def _set_logging_level(level: str) -> None:
    import logging  # programs that log have it already; the others start faster without

    logging.getLogger("velax").setLevel(getattr(logging, level))


def _set_debug_modules(modules: str) -> None:
    import logging  # as above

    for module in filter(None, modules.split(",")):
        logging.getLogger(module).setLevel(logging.DEBUG)


for _name, _hook in (("jax_logging_level", _set_logging_level), ("jax_debug_log_modules", _set_debug_modules)):
    _states[_name].on_change(_hook)
    if _states[_name].value != _states[_name].default:
        _hook(_states[_name].value)
