"""Options that log what is traced and compiled: which records there are, compared with JAX's, and what they say."""

import functools
import logging
import re

import jax
import jax.numpy
import numpy as np
import pytest
from process_helpers import run_fresh

import velax
import velax.numpy
from velax._lang import config as c

BOTH = pytest.mark.parametrize("lib", [velax, jax], ids=["velax", "jax"])


class Records(logging.Handler):
    """Collects the records of both packages; `take` gives their texts and forgets them."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        assert record.levelno == logging.WARNING
        assert record.name.startswith(("velax._", "jax._src."))
        self.texts.append(record.getMessage())

    def take(self):
        taken, self.texts = self.texts, []
        return taken


@pytest.fixture
def records(no_disk, monkeypatch):
    handler = Records()
    loggers = logging.getLogger("velax"), logging.getLogger("jax")
    for logger in loggers:
        logger.addHandler(handler)
        monkeypatch.setattr(logger, "propagate", False)
    jax.clear_caches()
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


# What is traced and compiled


def times_three(x):
    return x * 3


def compilations(lib, run, records):
    """The records of ``run(lib)`` in short: what was traced, and what compiled of which types and how it ended."""
    x = lib.numpy.ones(3)
    records.take()
    with lib.log_compiles():
        run(lib, x)
    short = []
    for text in records.take():
        if found := re.fullmatch(r"Finished tracing (\S+) for jit in \d+\.\d{9} sec", text):
            short.append(f"traced {found[1]}")
        elif found := re.match(r"Compiling (\S+) with global shapes and types (\(.*?\))\.( Argument mapping|$)", text):
            short.append(f"compiling {found[1]} {found[2]}")
        else:
            found = re.fullmatch(r"Finished (.*?) (of )?jit\((.*)\) in \d+\.\d{9} sec", text)
            assert found, text
            short.append(f"{'lowered' if found[1].startswith('jaxpr to') else 'compiled'} {found[3]}")
    return short


def second_call(lib, x):
    f = lib.jit(times_three)
    f(x)
    f(x)


def nested(lib, x):
    inner = lib.jit(times_three)
    lib.jit(lambda x: inner(x) + inner(x + 1.0))(x)


def inner_alone_afterwards(lib, x):
    inner = lib.jit(lambda x: x * 5)

    def outer(x):
        return inner(x) + 1.0

    lib.jit(outer)(x)
    inner(x)


def other_types(lib, x):
    f = lib.jit(lambda x, y: x * y)
    f(x, 2)
    f(x, 2.5)
    f(x, np.ones((4, 3), np.float32))


def staged(lib, x):
    f = lib.jit(lambda x: x - 7)
    compiled = f.lower(x).compile()
    compiled(x)


def eager(lib, x):
    lib.lax.tan(x)
    lib.lax.tan(x)


def loop(lib, x):
    lib.lax.scan(lambda c, _: (c * 2, None), x, None, length=3)


def under_vmap(lib, x):
    lib.vmap(lib.jit(times_three))(x)


def error_while_tracing(lib, x):
    with pytest.raises(ZeroDivisionError):
        lib.jit(lambda x: x / (1 // 0))(x)


RUNS = [second_call, nested, inner_alone_afterwards, other_types, staged, eager, loop, under_vmap, error_while_tracing]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_compilations_are_logged(run, records):
    ours, theirs = (compilations(lib, run, records) for lib in (velax, jax))
    assert ours == theirs
    assert any(run is error_while_tracing or text.startswith("compiling") for text in ours)


def test_an_update_logs_and_the_default_does_not(records):
    second_call(velax, velax.numpy.ones(3))
    assert records.take() == []
    velax.config.update("jax_log_compiles", True)
    try:
        velax.jit(lambda x: x * 2)(1.0)
    finally:
        velax.config.update("jax_log_compiles", False)
    assert len(records.take()) == 4


def test_records_say_where_a_program_came_from(records, tmp_path, monkeypatch):
    monkeypatch.setenv("VELAX_CACHE", "1")
    monkeypatch.setenv("VELAX_CACHE_DIR", str(tmp_path))
    velax._compiler.cache.forget_open_cache()
    x = velax.numpy.ones(3)
    ends = []
    for step in ("compiled", "memory", "disk"):
        if step == "disk":
            velax.clear_caches()
        with c.log_compiles(True):
            velax.jit(lambda x: x * 7)(x)
        ends.append([re.sub(r"\d+\.\d+", "T", text) for text in records.take()[2:]])
    end = "Finished compilation of jit(<lambda>) in T sec"
    assert ends[0] == ["Finished jaxpr to array graph conversion jit(<lambda>) in T sec", end]
    assert ends[1] == [f"{end}, from this process's memory"]
    assert re.fullmatch(r"Persistent compilation cache hit for jit\(<lambda>\) with key '\w+'", ends[2][0])
    assert ends[2][1:] == [f"{end}, from the cache on disk"]


def test_records_at_debug_level():
    """Programs that ask for it see them without the option; others do not even import `logging`."""
    source = """
        import sys, velax
        velax.jit(lambda x: x * 2)(1.0)
        assert "logging" not in sys.modules
        import logging
        logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
        velax.jit(lambda x: x * 3)(1.0)
        logging.getLogger("velax._transforms.jit").setLevel("DEBUG")
        velax.jit(lambda x: x * 4)(1.0)
    """
    printed = run_fresh(source, VELAX_CACHE=0)
    assert re.fullmatch(r"velax._transforms.jit DEBUG Finished tracing <lambda> for jit in \S+ sec\n", printed)


# Why something is traced again


def explanations(lib, run, records):
    records.take()
    with lib.explain_cache_misses():
        run(lib)
    return [text.replace("\n", " / ") for text in records.take()]


def facts(text):
    """Where, which function, and the places that differ: what does not depend on the wording."""
    text = re.sub(r"(\.py:\d+):\d+", r"\1", text)
    call = re.match(r"TRACING CACHE MISS at (\S+) \((\S+)\):", text).groups()
    function = re.search(r"(\S+) (?:id=\d+ )?defined at (\S+:\d+)", text).groups()
    places = re.findall(r"\* at (.*? and before \S+?)(?=,| /|$|https:)", text.replace("({})", ""))
    return call[0], function, "never seen function" in text, places


def differing_types(lib):
    f = lib.jit(lambda params, n: params["w"] * n)
    f({"w": np.ones(3, np.float32)}, np.float32(2))
    f({"w": np.ones(3, np.float32)}, np.float32(3))
    f({"w": np.ones(4, np.int32)}, np.float32(3))
    f({"w": np.ones(4, np.int32)}, np.int8(3))


def weak_types(lib):
    f = lib.jit(lambda x: x * 2)
    f(1.0)
    f(np.float32(1.0))


def pytrees(lib):
    f = lib.jit(lambda params: params["w"] * 2)
    f({"w": 1.0})
    f({"w": 1.0, "b": 2.0})
    f({"w": [1.0], "b": 2.0})


def nested_functions(lib):
    inner = lib.jit(lambda x: x + 1)

    def outer(x):
        return inner(x) * inner(x)

    lib.jit(outer)(np.float32(1))


def transformed(lib):
    lib.jit(lib.grad(lambda x: x**2))(1.0)
    lib.jit(functools.partial(lambda a, x: x**2, None))(1.0)


def of_the_library(lib):
    lib.jit(lib.numpy.sinh)(np.ones(3, np.float32))
    lib.numpy.cosh(np.ones(3, np.float32))


@pytest.mark.parametrize(
    "run",
    [differing_types, weak_types, pytrees, nested_functions, transformed, of_the_library],
    ids=lambda run: run.__name__,
)
def test_misses_are_explained(run, records):
    ours, theirs = (explanations(lib, run, records) for lib in (velax, jax))
    assert list(map(facts, ours)) == list(map(facts, theirs))
    assert bool(ours) == (run is not of_the_library)


@BOTH
def test_a_context_that_differs(lib, records):
    f = lib.jit(lambda x: x @ x)
    x = np.ones((2, 2), np.float32)
    f(x)

    def run(lib):
        with lib.default_matmul_precision("highest"):
            f(x)

    (text,) = explanations(lib, run, records)
    assert re.search(r"jax_default_matmul_precision.* now '?highest'? and before None", text)


def test_static_arguments_that_differ(records):
    f = velax.jit(lambda x, n, *, mode="a": x * n, static_argnums=1, static_argnames="mode")

    def run(lib):
        f(1.0, 2)
        f(1.0, 3)
        f(1.0, 3, mode="b")

    _, number, name = explanations(velax, run, records)
    assert number.endswith("different static arguments: /   * at position 1, now 3 and before 2")
    assert name.endswith("different static arguments: /   * at mode, now 'b' and before not given")


def test_the_closest_trace_is_compared_with(records):
    f = velax.jit(lambda x, y: x + y)
    for shape in ((3,), (4,), (1, 5)):
        f(np.ones(shape, np.float32), np.ones(shape[-1:], np.float32))
    (text,) = explanations(velax, lambda _: f(np.ones(4, np.float32), np.ones((2, 4), np.float32)), records)
    assert text.endswith("different input types: /   * at y, now f32[2,4] and before f32[4]")


def test_a_function_defined_in_a_loop(records):
    def run(lib):
        for _ in range(2):
            lib.jit(lambda x: x + 1)(1.0)

    ours, theirs = (explanations(lib, run, records) for lib in (velax, jax))
    for first, second in (ours, theirs):
        assert "another function" not in first and "another function" in second


def test_programs_missing_on_disk_are_explained_to_those_who_named_a_folder(records, tmp_path):
    run = lambda lib: lib.jit(lambda x: x * 11)(1.0)
    old = velax.config.jax_compilation_cache_dir
    velax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        miss, missing = explanations(velax, run, records)
    finally:
        velax.config.update("jax_compilation_cache_dir", old)
    assert miss.startswith("TRACING CACHE MISS")
    assert re.fullmatch(r"PERSISTENT COMPILATION CACHE MISS for jit\(<lambda>\) with key '\w+'", missing)
