"""Options: values, context managers, environment variables, threads, and the key in the native core."""

import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import threading

import jax
import pytest
from process_helpers import in_thread

from velax import _native
from velax._lang import config as c
from velax._lang.config_options import NO_EFFECT, OPTIONS, Choice

CONFIG = c.config


@pytest.fixture(autouse=True)
def unchanged():
    before = dict(CONFIG.values)
    yield
    assert CONFIG.values == before
    assert _native.local_config() == (None, 0)


# What options there are


def test_every_option_of_jax_with_its_default():
    holders = jax.config._value_holders
    ours = {n: v for n, v in CONFIG.values.items()}
    assert set(ours) == set(holders)
    for name, holder in holders.items():
        theirs = holder.value
        assert ours[name] == getattr(theirs, "value", theirs), name


def test_every_option_says_what_it_does():
    for option in OPTIONS:
        assert CONFIG.describe(option.name).endswith((".", ".)")), option.name
        c._check(option, option.default)


def test_every_option_is_read_or_says_that_it_is_not():
    root = pathlib.Path(c.__file__).parents[1]
    own = {root / "_lang" / "config.py", root / "_lang" / "config_options.py"}
    words = set()
    for path in root.rglob("*.py"):
        if path not in own:
            words |= set(re.findall(r"\w+", path.read_text()))
    # what the configuration itself heeds
    words |= {"jax_logging_level", "jax_debug_log_modules", "jax_transfer_guard", "jax_no_execution"}
    # what there is nothing to guard of: JAX on a CPU does not heed them either
    words |= {"jax_transfer_guard_device_to_device", "jax_transfer_guard_device_to_host"}
    for option in OPTIONS:
        read = not words.isdisjoint({option.name, option.name.removeprefix("jax_")})
        assert read or option.lacks or option.help.endswith(NO_EFFECT), option.name


def test_options_that_lack_something_warn():
    with pytest.warns(UserWarning, match="jax_num_cpu_devices=3 has no effect in Velax: there is one CPU device") as w:
        CONFIG.update("jax_num_cpu_devices", 3)
    assert w[0].filename == __file__
    CONFIG.update("jax_num_cpu_devices", 1)
    CONFIG.update("jax_num_cpu_devices", -1)
    with pytest.warns(UserWarning, match="jax_thread_guard=True"), c.thread_guard(True):
        assert CONFIG.jax_thread_guard
    program = "import velax"
    env = {**os.environ, "JAX_THREAD_GUARD": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert run.returncode == 0 and "<string>:1: UserWarning: jax_thread_guard=True" in run.stderr


def test_every_context_manager_of_jax():
    names = [n for n in dir(jax) if isinstance(getattr(jax, n, None), jax._src.config.State)]
    assert len(names) > 20
    for name in names:
        assert isinstance(getattr(c, name), c.State), name


# Reading and setting


def test_update_and_read(update):
    update("jax_numpy_rank_promotion", "raise")
    assert CONFIG.jax_numpy_rank_promotion == CONFIG.read("jax_numpy_rank_promotion") == "raise"
    assert c.numpy_rank_promotion.value == c.numpy_rank_promotion.get_global() == "raise"
    assert c.numpy_rank_promotion.get_local() is None


def test_x64(update):
    assert not c.x64_enabled() and not CONFIG.x64_enabled
    update("jax_enable_x64", True)
    assert c.x64_enabled() and CONFIG.x64_enabled and _native.config_flags() & 1
    with c.enable_x64(False):
        assert not c.x64_enabled() and not CONFIG.jax_enable_x64


@pytest.mark.parametrize("name, close", [
    ("jax_enable_x6", "'jax_enable_x64'"),
    ("enable_x64", "'jax_enable_x64'"),
    ("jax_debug_nan", "'jax_debug_nans'"),
])  # fmt: skip
def test_unknown_names(name, close):
    with pytest.raises(AttributeError, match=f"Unrecognized config option: {name}; did you mean .*{close}"):
        CONFIG.update(name, True)
    with pytest.raises(AttributeError, match=close):
        getattr(CONFIG, name)
    with pytest.raises(AttributeError, match=close):
        CONFIG.read(name)


def test_a_name_like_no_other():
    with pytest.raises(AttributeError, match=r"Unrecognized config option: zzzz$"):
        CONFIG.update("zzzz", 1)


def test_options_are_not_attributes_to_set():
    with pytest.raises(AttributeError, match=r"config\.update\('jax_debug_nans', True\)"):
        CONFIG.jax_debug_nans = True


@pytest.mark.parametrize("name, value, error, message", [
    ("jax_enable_x64", "yes", TypeError, "jax_enable_x64: the new value must be of type bool, got 'yes' of type str"),
    ("jax_enable_x64", 3, TypeError, "got 3"),
    ("jax_numpy_rank_promotion", "foo", ValueError, r"new enum value must be in \['allow', 'warn', 'raise'\], got 'foo'"),
    ("jax_default_matmul_precision", "foo", ValueError, "must be None or in"),
    ("jax_numpy_dtype_promotion", "lax", ValueError, "'lax' is not a valid NumpyDtypePromotion"),
    ("jax_legacy_prng_key", 7, ValueError, "7 is not a valid LegacyPrngKeyState"),
    ("jax_captured_constants_warn_bytes", "x", ValueError, "of type int, got 'x' of type str"),
    ("jax_captured_constants_warn_bytes", True, ValueError, "got True of type bool"),
    ("jax_persistent_cache_min_compile_time_secs", None, ValueError, "of type float"),
    ("jax_default_device", "nowhere", ValueError, "must be a device"),
    ("jax_platforms", 3, ValueError, "None or of type str"),
])  # fmt: skip
def test_wrong_values(name, value, error, message):
    before = CONFIG.read(name)
    with pytest.raises(error, match=message):
        CONFIG.update(name, value)
    assert CONFIG.read(name) == before


@pytest.mark.parametrize("value", [c.NumpyDtypePromotion.STRICT, "strict", "STRICT"])
def test_enumerations_take_members_and_names(value):
    with c.numpy_dtype_promotion(value):
        assert CONFIG.jax_numpy_dtype_promotion is c.NumpyDtypePromotion.STRICT


def test_numbers_and_paths(update, tmp_path):
    update("jax_persistent_cache_min_compile_time_secs", 2)
    assert CONFIG.jax_persistent_cache_min_compile_time_secs == 2.0
    update("jax_compilation_cache_dir", tmp_path)
    assert CONFIG.jax_compilation_cache_dir == str(tmp_path)


# Context managers


def test_nesting_and_exceptions():
    key = c.config_key()
    with c.debug_nans(True):
        with pytest.raises(ZeroDivisionError), c.debug_nans(False), c.enable_x64():
            assert not CONFIG.jax_debug_nans and CONFIG.jax_enable_x64
            raise ZeroDivisionError
        assert CONFIG.jax_debug_nans and not CONFIG.jax_enable_x64
    assert c.config_key() is key


def test_managers_left_in_another_order():
    first, second = c.enable_x64(True), c.debug_nans(True)
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert CONFIG.jax_debug_nans and not CONFIG.jax_enable_x64
    second.__exit__()
    assert not CONFIG.jax_debug_nans


def test_one_manager_entered_twice():
    manager = c.enable_x64(True)
    with manager, manager:
        assert c.x64_enabled()
    assert not c.x64_enabled()


def test_as_a_decorator():
    @c.enable_x64(True)
    def f(n):
        return c.x64_enabled() and (n == 0 or f(n - 1))

    assert f(3) and not c.x64_enabled()


def test_switches_turn_on_and_others_need_a_value():
    with c.enable_x64():
        assert c.x64_enabled()
    with c.disable_jit():
        assert CONFIG.jax_disable_jit and _native.config_flags() & 2
        with c.disable_jit(disable=False):
            assert not CONFIG.jax_disable_jit
    with c.checking_leaks():
        assert CONFIG.jax_check_tracer_leaks
    with pytest.raises(TypeError, match=r"numpy_rank_promotion\(\) needs the value"):
        c.numpy_rank_promotion()


def test_a_state_is_no_truth_value():
    with pytest.raises(TypeError, match=r"write `enable_x64\.value`"):
        assert c.enable_x64


def test_wrong_values_are_refused_before_entering():
    with pytest.raises(ValueError, match="got 'x'"):
        c.numpy_rank_promotion("x")


def test_transfer_guard_sets_all_directions(update):
    directions = ("host_to_device", "device_to_device", "device_to_host")

    def values():
        return {CONFIG.read(f"jax_transfer_guard_{d}") for d in directions}

    with c.transfer_guard("disallow"):
        assert values() == {"disallow"} and _native.config_flags() & 4
        with c.transfer_guard_device_to_host("allow"):
            assert values() == {"disallow", "allow"}
    assert values() == {None} and not _native.config_flags() & 4
    update("jax_transfer_guard", "log")
    assert values() == {"log"}
    update("jax_transfer_guard", None)


@pytest.mark.parametrize("name, flag", [
    ("jax_enable_x64", 1), ("jax_disable_jit", 2), ("jax_debug_nans", 4), ("jax_debug_infs", 4),
])  # fmt: skip
def test_flags_of_the_native_core(name, flag, update):
    before = _native.config_flags()
    with c._states[name](True):
        assert _native.config_flags() == before | flag
    update(name, True)
    assert _native.config_flags() == before | flag


# The key


def test_equal_configurations_have_one_key():
    with c.enable_x64(True):
        first = c.config_key()
    with c.enable_x64(True), c.debug_nans(True), c.debug_nans(False):
        assert c.config_key() is first
        with c.debug_infs(True):
            assert c.config_key() is not first
    with c.log_compiles(True):
        assert c.config_key() is _native.config_key()
        assert c.config_key().values == c._intern(c.config_key().values).values


def test_options_that_do_not_matter_do_not_change_the_key(update):
    key = c.config_key()
    update("jax_log_compiles", True)
    update("jax_compilation_cache_max_size", 10)
    assert c.config_key() is key
    with c.traceback_filtering("off"):
        assert c.config_key() is key


@pytest.mark.filterwarnings("ignore:.*has no effect in Velax")
def test_every_traced_option_changes_the_key():
    key = c.config_key()
    for option in OPTIONS:
        if not option.traced:
            continue
        value = option.default
        if option.kind is bool:
            other = not value
        elif isinstance(option.kind, Choice):
            other = next(v for v in option.kind.values if v != value)
        elif option.kind is int:
            other = value + 1
        elif option.kind is str:
            other = "other"
        elif option.kind is object:
            other = "cpu"
        else:
            other = next(m for m in option.kind if m is not value)
        with c._states[option.name](other):
            assert c.config_key() is not key, option.name
            assert c.traced_values()[option.name] == other
        assert c.config_key() is key


def test_global_changes_inside_a_block(update):
    with c.debug_nans(True):
        update("jax_enable_x64", True)
        assert c.x64_enabled() and CONFIG.jax_debug_nans
    assert c.x64_enabled()


def test_a_key_names_what_differs():
    with c.enable_x64(True):
        assert repr(c.config_key()) == "ConfigKey({'jax_enable_x64': True})"


# Threads


def test_blocks_are_of_one_thread_and_updates_of_all(update):
    with c.enable_x64(True), c.log_compiles(True):
        assert not in_thread(c.x64_enabled)
        assert not in_thread(lambda: CONFIG.jax_log_compiles)
    update("jax_enable_x64", True)
    assert in_thread(c.x64_enabled)


def test_many_threads():
    failures = []

    def work(on):
        for _ in range(200):
            with c.enable_x64(on), c.debug_nans(not on):
                if c.x64_enabled() is not on or CONFIG.jax_debug_nans is on:
                    failures.append(on)

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


# Contexts


def test_user_contexts():
    first, second = c.make_user_context(), c.make_user_context(5)
    key = c.config_key()
    assert first.value is None and second.value == 5
    with first("a"), second("b"):
        assert (first.value, second.value) == ("a", "b") and c.config_key() is not key
        with first("c"):
            assert (first.value, second.value) == ("c", "b")
    assert c.config_key() is key
    with pytest.raises(TypeError, match="unhashable"):
        first([])


def test_context_states_are_no_options():
    state = c.context_state("of_a_test", ())
    assert "_of_a_test" not in CONFIG.values
    with pytest.raises(AttributeError):
        CONFIG.update("_of_a_test", 1)
    key = c.config_key()
    with state((1,)):
        assert state.value == (1,) and c.config_key() is not key


# The environment and the command line

ROOT = pathlib.Path(__file__).parent.parent
READ = "import json; from velax._lang.config import config as c; print(json.dumps({n: c.read(n) for n in %r}, default=str))"


def read_with(environment, *names):
    code = READ % (names,)
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_environment():
    values = read_with(
        {"JAX_ENABLE_X64": "1", "JAX_NUMPY_RANK_PROMOTION": "warn", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "CHECK_VMA": "true",
         "JAX_RANDOM_SEED_OFFSET": "7", "JAX_DEFAULT_DEVICE": "cpu", "JAX_LOGGING_LEVEL": "DEBUG"},
        "jax_enable_x64", "jax_numpy_rank_promotion", "jax_numpy_dtype_promotion", "check_vma",
        "jax_random_seed_offset",
        "jax_default_device",
    )  # fmt: skip
    assert list(values.values()) == [True, "warn", "strict", True, 7, "cpu"]


@pytest.mark.parametrize("name, text, message", [
    ("JAX_ENABLE_X64", "foo", "invalid truth value 'foo' for the environment variable JAX_ENABLE_X64"),
    ("JAX_RANDOM_SEED_OFFSET", "x", "invalid int 'x'"),
    ("JAX_NUMPY_RANK_PROMOTION", "x", "must be in"),
])  # fmt: skip
def test_wrong_environment(name, text, message):
    assert message in read_with({name: text}, "jax_enable_x64")


def test_logging_level(update):
    logger = logging.getLogger("velax")
    old = logger.level
    update("jax_logging_level", "WARNING")
    assert logger.level == logging.WARNING
    logger.setLevel(old)


ABSL = """
import sys
sys.argv = ["program", "--jax_enable_x64", "--jax_numpy_dtype_promotion=strict", "--jax_random_seed_offset=4"]
from velax._lang.config import config
config.%s()
def main(_):
    print(config.jax_enable_x64, config.jax_numpy_dtype_promotion, config.jax_random_seed_offset, config.jax_explicit_x64_dtypes.name)
%s
"""


@pytest.mark.parametrize("parse, run", [
    ("parse_flags_with_absl", "main(None)"), ("config_with_absl", "from absl import app; app.run(main)"),
])  # fmt: skip
def test_flags_of_the_command_line(parse, run):
    pytest.importorskip("absl")
    done = subprocess.run([sys.executable, "-c", ABSL % (parse, run)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "True strict 4 WARN", done.stderr
