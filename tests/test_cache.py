"""The caches on disk and in memory: what is found, what is refused, what keys tell apart, and what happens
when the disk fails.
"""

import errno
import json
import os
import threading
import time
import warnings

import numpy as np
import pytest
from cache_helpers import EXPECTED, X, compile_and_run, entries, forget, program
from cpu_features import AVX2
from process_helpers import fork, run_fresh

import velax
import velax.inspect
import velax.numpy as jnp
from velax import lax
from velax._compiler import cache as disk, driver
from velax._compiler.target import host_target, make_target
from velax._lang.canonical import NotCanonicalError, canonical_bytes
from velax._lang.primitive import Primitive, all_primitives
from velax.interpreters import mlir

# -- warm starts ---------------------------------------------------------------------------------

WARM_START = """
import json, sys
import numpy as np
import velax, velax.inspect, velax.numpy as jnp
from velax import lax

def train(w, x):
    loss = lambda w: jnp.sum(jnp.tanh(x @ w) ** 2)
    return w - 0.1 * velax.grad(loss)(w)

with velax.inspect.compile_log() as log:
    w = jnp.arange(12.0).reshape(4, 3) / 10
    x = jnp.ones((2, 4))
    outs = [velax.jit(train)(w, x), velax.jit(lambda v: lax.scan(lambda c, _: (jnp.sin(c), c), v, None, length=5)[1])(w[0]), jnp.sort(w, 0), velax.jit(lambda: w * 2)()]
print(json.dumps({
    "bits": [np.asarray(o).tobytes().hex() for o in outs],
    "sources": sorted({r.source for r in log}),
    "compiled": sum(len(r.compiled) for r in log),
    "phases": sorted({p for r in log for p in r.seconds}),
    "modules": [m for m in sys.modules if m.partition(".")[0] in ("llvmlite", "scipy") or m in ("velax._compiler.pipeline", "velax._compiler.emit", "velax._compiler.simplify")],
}))
"""


def test_a_warm_start_runs_no_pass_and_loads_no_compiler(folder):
    for _ in range(3):  # again if a source file is saved meanwhile: that makes what is stored unknown
        before = disk.package_stamp.__wrapped__()
        cold = json.loads(run_fresh(WARM_START, VELAX_CACHE_DIR=folder / before))
        warm = json.loads(run_fresh(WARM_START, VELAX_CACHE_DIR=folder / before))
        if disk.package_stamp.__wrapped__() == before:
            break
    assert "compiled" in cold["sources"] and cold["compiled"] > 3
    assert warm["bits"] == cold["bits"]
    assert set(warm["sources"]) <= {"disk", "memory"}
    assert (warm["compiled"], warm["modules"]) == (0, [])
    assert set(warm["phases"]) <= {"key", "disk"}


def test_sources_of_programs(folder):
    assert compile_and_run()[0] == ["compiled"]
    assert compile_and_run()[0] == ["memory"]
    forget()
    sources, compiled, _ = compile_and_run()
    assert (sources, compiled) == (["disk"], 0)


def test_closures_made_in_a_loop_compile_once(folder):
    sources = []
    for scale in (1.0, 2.0, 3.0):
        table = jnp.asarray([scale, -scale])
        with velax.inspect.compile_log() as log:
            out = velax.jit(lambda x: x * table)(jnp.asarray([1.0, 1.0]))
        sources += [r.source for r in log if r.name == "<lambda>"]
        np.testing.assert_array_equal(out, [scale, -scale])
    assert sources == ["compiled", "memory", "memory"]


def test_captured_arrays_are_no_part_of_the_program_on_disk(folder):
    def scaled(table):
        return lambda x: x * table + table.sum()

    assert compile_and_run(scaled(jnp.asarray(X)), X)[0] == ["compiled"]
    n = len(entries(folder))
    forget()
    sources, _, out = compile_and_run(scaled(jnp.asarray(2 * X)), X)
    assert sources == ["disk"] and len(entries(folder)) == n
    np.testing.assert_allclose(out, X * 2 * X + (2 * X).sum(), rtol=1e-5, atol=1e-6)


def test_equal_kernels_of_different_programs_compile_once(folder):
    compile_and_run(lambda x: (jnp.exp(x),), X)
    with velax.inspect.compile_log() as log:
        velax.jit(lambda x, unused: {"a": jnp.exp(x)})(X, X[0])
    assert (log[-1].source, log[-1].compiled, len(log[-1].kernels)) == ("compiled", [], 1)


def test_switched_off(folder, monkeypatch):
    monkeypatch.setenv("VELAX_CACHE", "0")
    forget()
    compile_and_run()
    assert not folder.exists()
    velax.clear_caches()
    assert compile_and_run()[0] == ["compiled"]


# -- entries that are not what they should be ----------------------------------------------------

DAMAGES = {
    "empty": lambda data: b"",
    "header cut": lambda data: data[:20],
    "payload cut": lambda data: data[:-3],
    "longer": lambda data: data + b"x",
    "a bit flipped": lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
    "another format": lambda data: b"VELAXC99" + data[8:],
    "a well-formed entry of nonsense": lambda data: (
        disk._HEADER.pack(disk._MAGIC, 40, disk._checksum(b"\1" * 40)) + b"\1" * 40
    ),
}


@pytest.mark.parametrize("kind", ["program", "kernel"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_entries_are_made_anew(folder, kind, damage):
    compile_and_run()
    whole = {p: p.read_bytes() for p in entries(folder)}
    for p in entries(folder, kind):
        p.write_bytes(damage(whole[p]))
    forget()
    assert compile_and_run()[0] == ["compiled"]
    assert {p: p.read_bytes() for p in entries(folder)}.keys() == whole.keys()
    assert all(p.read_bytes()[:8] == disk._MAGIC for p in entries(folder))
    forget()
    assert compile_and_run()[:2] == (["disk"], 0)


def test_a_program_whose_kernels_are_gone_is_made_anew(folder):
    compile_and_run()
    for p in entries(folder, "kernel"):
        p.unlink()
    forget()
    sources, compiled, _ = compile_and_run()
    assert sources == ["compiled"] and compiled > 0


def test_entries_of_another_version_are_not_seen(folder, monkeypatch):
    compile_and_run()
    n = len(entries(folder))
    monkeypatch.setattr(disk, "VERSION", "velax-0")
    forget()
    assert compile_and_run()[0] == ["compiled"]
    assert len(entries(folder)) == 2 * n


def test_an_edited_compiler_does_not_see_what_it_stored_before(tmp_path):
    package = tmp_path / "package"
    (package / "_compiler" / "passes").mkdir(parents=True)
    source = package / "_compiler" / "passes" / "fold.py"
    source.write_text("x = 1\n")
    stamp = lambda: disk.package_stamp.__wrapped__(str(package))
    before = stamp()
    assert stamp() == before
    (package / "_compiler" / "passes" / "notes.txt").write_text("not code")
    assert stamp() == before
    source.write_text("x = 10\n")
    assert stamp() != before
    assert disk.package_stamp.__wrapped__(str(tmp_path / "nothing here")) == ""


# -- folders and disks that cannot be used -------------------------------------------------------


def expect_warning_and_right_answers(text):
    with pytest.warns(RuntimeWarning, match=text) as caught:
        compile_and_run()
        velax.clear_caches()
        compile_and_run(lambda x: x - 1, X)
    assert len(caught) == 1  # once
    assert "VELAX_CACHE_DIR" in str(caught[0].message)


def test_a_folder_that_is_a_file(folder):
    folder.write_text("mine")
    expect_warning_and_right_answers("compiles without its cache on disk.*File exists")
    assert folder.read_text() == "mine"


def test_a_folder_below_a_file(folder, monkeypatch):
    folder.write_text("mine")
    monkeypatch.setenv("VELAX_CACHE_DIR", str(folder / "below"))
    expect_warning_and_right_answers("compiles without its cache on disk.*Not a directory")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    expect_warning_and_right_answers(f"writable by others \\(mode {mode:o}\\); run chmod 700")
    assert not entries(folder)


def test_a_folder_of_somebody_else(folder):
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, os.geteuid() + 1234, -1)
    except OSError:
        pytest.skip("cannot give a folder away here")
    expect_warning_and_right_answers("belongs to another user")
    assert not entries(folder)


def test_a_new_folder_is_private(folder):
    compile_and_run()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o077 == 0 for p in entries(folder))


def test_an_unwritable_folder_is_still_read(folder, monkeypatch):
    compile_and_run()
    forget()

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(disk, "_new_file", refuse)  # root may write anywhere, so that a mode would not do
    with pytest.warns(RuntimeWarning, match="could not write its cache folder.*Permission denied") as caught:
        assert compile_and_run(lambda x: x - 1, X)[0] == ["compiled"]
        assert compile_and_run(lambda x: x - 2, X)[0] == ["compiled"]
    assert len(caught) == 1
    assert compile_and_run()[0] == ["disk"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(folder, monkeypatch):
    make = disk._new_file

    def on_full_disk(folder):
        handle, path = make(folder)
        os.close(handle)
        return os.open("/dev/full", os.O_WRONLY), path

    monkeypatch.setattr(disk, "_new_file", on_full_disk)
    expect_warning_and_right_answers("could not write its cache folder.*No space left on device")
    assert entries(folder) == []  # no halves are left behind


def test_a_read_error_deletes_nothing(folder, monkeypatch):
    compile_and_run()
    before = entries(folder)
    forget()

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as m:
        m.setattr(disk, "_read", fail)
        with pytest.warns(RuntimeWarning, match="could not read its cache folder.*Input/output error") as caught:
            assert compile_and_run()[0] == ["compiled"]
    assert len(caught) == 1
    assert set(entries(folder)) >= set(before)
    forget()
    assert compile_and_run()[0] == ["disk"]


def test_a_folder_removed_while_running(folder):
    compile_and_run()
    for p in entries(folder):
        p.unlink()
    folder.rmdir()
    compile_and_run(lambda x: x - 1, X)
    assert entries(folder, "program") and folder.stat().st_mode & 0o777 == 0o700


def test_a_cap_that_is_no_number(folder, monkeypatch):
    monkeypatch.setenv("VELAX_CACHE_MAX_BYTES", "1G")
    forget()
    with pytest.raises(
        ValueError, match="VELAX_CACHE_MAX_BYTES must be a number of bytes, such as 1073741824, not '1G'"
    ):
        velax.jit(program)(X)


# -- size ----------------------------------------------------------------------------------------


def test_what_was_used_least_recently_goes_first(tmp_path):
    cache = disk.Cache(tmp_path / "c", max_bytes=10_000)
    for k in range(9):
        cache.store("program", f"{k}", bytes(1000))
        os.utime(tmp_path / "c" / f"program-{k}", (time.time() - 7200 + k,) * 2)
    assert cache.load("program", "0") == bytes(1000)  # used now
    cache.store("program", "big", bytes(2500))
    cache.trim()
    left = {p.name.removeprefix("program-") for p in entries(tmp_path / "c")}
    assert "0" in left and "big" in left and "8" in left
    assert not {"1", "2", "3"} & left
    assert sum(p.stat().st_size for p in entries(tmp_path / "c")) <= 8_000
    cache.trim()
    assert {p.name.removeprefix("program-") for p in entries(tmp_path / "c")} == left


def test_the_cap_holds_while_programs_are_stored(folder, monkeypatch):
    monkeypatch.setenv("VELAX_CACHE_MAX_BYTES", "8000")
    forget()
    for k in range(6):
        compile_and_run(lambda x, k=k: x * (k + 0.5), X)
        assert sum(p.stat().st_size for p in entries(folder)) <= 8000 + 8000 // 8 + 4000  # what one compilation stores


def test_an_entry_that_vanishes_during_a_trim(tmp_path, monkeypatch):
    cache = disk.Cache(tmp_path / "c", max_bytes=100)
    for k in range(4):
        cache.store("program", f"{k}", bytes(10))
    (tmp_path / "c" / "dangling").symlink_to(tmp_path / "nowhere")  # stat fails as for a removed entry
    cache.trim()
    assert len(entries(tmp_path / "c", "program")) <= 2


# -- many at once --------------------------------------------------------------------------------


def test_processes_publish_into_one_folder(folder):
    """Eight processes compile the same programs at once, one of them with a reader that never sees half an entry."""
    functions = [program, lambda x: jnp.cumsum(x), lambda x: jax_softmax(x)]

    def work():
        forget()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return [compile_and_run(f, X)[2].tobytes() for f in functions]

    expected = [compile_and_run(f, X)[2].tobytes() for f in functions]
    for p in entries(folder):
        p.unlink()
    results = [fork(work) for _ in range(8)]
    assert all(r() == expected for r in results)
    assert not entries(folder, ".new-")
    for p in entries(folder):
        kind, _, key = p.name.partition("-")
        assert disk.Cache(folder, 1 << 30).load(kind, key) is not None
    forget()
    assert [compile_and_run(f, X)[0] for f in functions] == [["disk"]] * 3


def jax_softmax(x):
    e = jnp.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_a_writer_beside_readers(tmp_path):
    """An entry that is replaced all the time is always whole for its readers."""
    writer, reader = (disk.Cache(tmp_path / "c", 1 << 30) for _ in range(2))
    payloads = [bytes([k]) * (1000 * (k + 1)) for k in range(4)]
    writer.store("program", "k", payloads[0])
    stop = threading.Event()

    def write():
        k = 0
        while not stop.is_set():
            writer.store("program", "k", payloads[k % 4])
            k += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = {reader.load("program", "k") for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert seen <= set(payloads)


# -- keys ----------------------------------------------------------------------------------------


def key(fun, *args, donated=(), target=None):
    closed = velax.make_jaxpr(fun)(*(args or (X,)))
    return driver._program_key(closed, donated, target or host_target())


def test_equal_programs_have_equal_keys():
    def another_name(argument):
        renamed = jnp.tanh(argument)
        return renamed @ argument.T + 1.0

    assert key(program) == key(another_name) == key(program, 3 * X) is not None


A, B = np.arange(4, dtype=np.float32), np.arange(4, dtype=np.float32)
NAN1, NAN2 = (np.array(bits, np.uint32).view(np.float32)[()] for bits in (0x7FC00001, 0x7FC00002))
JA, JB = jnp.asarray(A), jnp.asarray(B)


def _dot(precision):
    return lambda x: lax.dot(x, x.T, precision=precision)


#: programs no two of which may share a key: (function, arguments, donated)
DIFFERENT = {
    "zero": (lambda x: x * 0.0, (X,)),
    "minus zero": (lambda x: x * -0.0, (X,)),
    "int zero": (lambda x: x * 0, (np.int32(1),)),
    "NaN": (lambda x: x * NAN1, (X,)),
    "NaN with another payload": (lambda x: x * NAN2, (X,)),
    "NaN of Python": (lambda x: x * float("nan"), (X,)),
    "infinity": (lambda x: x * float("inf"), (X,)),
    "minus infinity": (lambda x: x * float("-inf"), (X,)),
    "i0+0": (lambda x: x * complex(0.0, 0.0), (np.complex64(1),)),
    "i0-0": (lambda x: x * complex(0.0, -0.0), (np.complex64(1),)),
    "argument order": (lambda x, y: x - y, (X, X)),
    "argument order swapped": (lambda x, y: y - x, (X, X)),
    "output order": (lambda x, y: (x, y), (X, X)),
    "output order swapped": (lambda x, y: (y, x), (X, X)),
    "one output": (lambda x, y: (x,), (X, X)),
    "int8": (lambda x: x.astype(np.int8), (X,)),
    "uint8": (lambda x: x.astype(np.uint8), (X,)),
    "bool": (lambda x: x.astype(bool), (X,)),
    "bfloat16": (lambda x: x.astype(jnp.bfloat16), (X,)),
    "float16": (lambda x: x.astype(np.float16), (X,)),
    "clip": (lambda x: x.at[5].get(mode="clip"), (X,)),
    "fill": (lambda x: x.at[5].get(mode="fill"), (X,)),
    "fill value": (lambda x: x.at[5].get(mode="fill", fill_value=1.0), (X,)),
    "fill value 0": (lambda x: x.at[5].get(mode="fill", fill_value=0.0), (X,)),
    "fill value -0": (lambda x: x.at[5].get(mode="fill", fill_value=-0.0), (X,)),
    "cumsum": (lambda x: lax.cumsum(x, 0), (X,)),
    "cumsum reverse": (lambda x: lax.cumsum(x, 0, reverse=True), (X,)),
    "cumsum other axis": (lambda x: lax.cumsum(x, 1), (X,)),
    "power 2": (lambda x: lax.integer_pow(x, 2), (X,)),
    "power 3": (lambda x: lax.integer_pow(x, 3), (X,)),
    "argmax": (lambda x: lax.argmax(x, 0, np.int32), (X,)),
    "argmax uint": (lambda x: lax.argmax(x, 0, np.uint32), (X,)),
    "argmin": (lambda x: lax.argmin(x, 0, np.int32), (X,)),
    "precision": (_dot(None), (X,)),
    "precision highest": (_dot("highest"), (X,)),
    "a scan of 3": (lambda x: lax.scan(lambda c, _: (c * 2, None), x, None, length=3)[0], (X,)),
    "a scan of 4": (lambda x: lax.scan(lambda c, _: (c * 2, None), x, None, length=4)[0], (X,)),
    "another body": (lambda x: lax.scan(lambda c, _: (c * 3, None), x, None, length=3)[0], (X,)),
    "reverse": (lambda x: lax.scan(lambda c, y: (c, c + y), x[0], x, reverse=True)[1], (X,)),
    "forward": (lambda x: lax.scan(lambda c, y: (c, c + y), x[0], x)[1], (X,)),
    "one constant twice": (lambda x: x + JA + JA, (X,)),
    "two constants": (lambda x: x + JA + JB, (X,)),
    "a shape": (lambda x: x + 1.0, (X,)),
    "another shape": (lambda x: x + 1.0, (X.T,)),
    "another rank": (lambda x: x + 1.0, (X[None],)),
    "another dtype": (lambda x: x + 1.0, (X.astype(np.float16),)),
    "donated": (lambda x: x + 1.0, (X,), (True,)),
    "weak": (lambda x: x, (1.0,)),
    "strong": (lambda x: x, (np.float32(1.0),)),
    "weak int": (lambda x: x, (1,)),
    "boolean": (lambda x: x, (True,)),
    "inside a call": (lambda x: velax.jit(lambda y: y * 0.0)(x) + 2.0, (X,)),
    "inside a call, minus": (lambda x: velax.jit(lambda y: y * -0.0)(x) + 2.0, (X,)),
    "a captured scalar in a call": (lambda x: velax.jit(lambda y: y * np.float32(7))(x), (X,)),
    "another captured scalar in a call": (lambda x: velax.jit(lambda y: y * np.float32(8))(x), (X,)),
    "keys": (lambda k: velax.random.bits(k, (3,)), (velax.random.key(0),)),
    "key words": (lambda k: velax.random.bits(k, (3,)), (velax.random.PRNGKey(0),)),
    "reduce sum": (lambda x: x.sum(), (X,)),
    "reduce max": (lambda x: x.max(), (X,)),
    "reduce precision": (lambda x: lax.reduce_precision(x, 5, 10), (X,)),
    "reduce precision 2": (lambda x: lax.reduce_precision(x, 8, 7), (X,)),
    "sort": (lambda x: lax.sort(x, dimension=0), (X,)),
    "sort pairs": (lambda x: lax.sort((x, x), dimension=0, num_keys=1), (X,)),
    "sort pairs by both": (lambda x: lax.sort((x, x), dimension=0, num_keys=2), (X,)),
}


def test_different_programs_have_different_keys():
    seen = {}
    for name, (fun, args, *donated) in DIFFERENT.items():
        found = key(fun, *args, donated=donated[0] if donated else ())
        assert found is not None, name
        assert found not in seen, f"{name!r} and {seen[found]!r} share a key"
        seen[found] = name


def test_targets_are_part_of_the_key():
    targets = [
        make_target(AVX2),
        make_target([*AVX2, "avxvnni"]),
        make_target(AVX2, caches=(48 << 10, 1 << 20)),
        make_target(["sse3"]),
    ]
    assert len({key(program, target=t) for t in targets}) == len(targets)


def test_sixty_four_bit_mode_is_part_of_the_key(folder):
    def f(x):
        return x.sum() * 2 + jnp.arange(3).sum()

    narrow = compile_and_run(f, X)[2]
    with velax.enable_x64(True):
        wide = compile_and_run(f, X.astype(np.float64))[2]
    assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
    with velax.enable_x64(True):
        wide_key = key(lambda x: jnp.arange(3))
    assert wide_key != key(lambda x: jnp.arange(3))


def test_weak_types_come_out_right(folder):
    """The output's weak type follows the input's, also from a cache."""
    for _ in range(2):
        weak, strong = velax.jit(lambda x: x * 2)(1.0), velax.jit(lambda x: x * 2)(np.float32(1.0))
        assert (weak.weak_type, strong.weak_type) == (True, False)
        forget()


def test_zeros_of_both_signs_from_disk(folder):
    for _ in range(2):
        assert np.signbit(compile_and_run(lambda x: x * 0.0, np.float32(1))[2]) == np.False_
        assert np.signbit(compile_and_run(lambda x: x * -0.0, np.float32(1))[2]) == np.True_
        forget()


def test_primitives_are_told_apart_by_their_names():
    names = [p.name for p in all_primitives if p.defined_lower is not None]
    assert len(names) == len(set(names))


def named_sin(rule):
    p = Primitive("sin")
    p.def_abstract_eval(lambda x: x)
    if rule is not None:
        mlir.register_lowering(p, mlir.lower_fun(rule, multiple_results=False))
    return p


def test_a_primitive_of_somebody_else_with_a_known_name(folder):
    assert key(jnp.sin, np.float32(1)) is not None
    compile_and_run(lambda x: jnp.sin(x), np.float32(1))
    for factor in (10, 20):
        p = named_sin(lambda x, factor=factor: x * factor)
        assert key(lambda x: p.bind(x), np.float32(1)) is None
        assert compile_and_run(lambda x: p.bind(x), np.float32(1))[2] == factor
    bare = named_sin(None)
    with pytest.raises(NotImplementedError, match="sin"):
        velax.jit(lambda x: bare.bind(x))(np.float32(1))


def test_a_replaced_lowering(folder, monkeypatch):
    fun = lambda x: lax.sin(x)
    sin_p = velax.make_jaxpr(fun)(1.0).eqns[0].primitive
    assert compile_and_run(fun, np.float32(1))[2] == pytest.approx(np.sin(1))
    monkeypatch.setitem(sin_p.rules, "lower", mlir.lower_fun(lambda x: x + 41, multiple_results=False))
    assert compile_and_run(lambda x: lax.sin(x), np.float32(1))[2] == 42


def test_programs_with_functions_of_python_are_not_stored(folder):
    def times(n):
        return lambda x: velax.pure_callback(lambda v: np.asarray(v) * n, velax.ShapeDtypeStruct((), np.float32), x)

    assert key(times(2), np.float32(1)) is None
    assert [compile_and_run(times(n), np.float32(1))[2] for n in (2, 3, 2)] == [2, 3, 2]
    assert not entries(folder, "program")
    with pytest.raises(NotCanonicalError, match="callback"):
        canonical_bytes(velax.make_jaxpr(times(2))(np.float32(1)))


def test_printing_is_not_stored(folder, capfd):
    for k in (1, 2, 1):
        compile_and_run(lambda x, k=k: (velax.debug.print(f"{k}: {{}}", x), x)[1], np.float32(5))
    velax.effects_barrier()
    assert capfd.readouterr().out.split() == ["1:", "5.0", "2:", "5.0", "1:", "5.0"]
    assert not entries(folder, "program")


def test_custom_rules_are_stored_by_what_they_compute(folder):
    def make(k):
        @velax.custom_jvp
        def f(x):
            return x * k

        f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * 100.0))
        return f

    assert key(make(2.0)) == key(make(2.0)) is not None
    assert key(make(2.0)) != key(make(3.0))
    np.testing.assert_array_equal(compile_and_run(velax.grad(make(3.0)), np.float32(1))[2], 100)


def test_constants_inside_of_calls(folder):
    """Arrays captured at several depths reach the program in the right places, from memory and from disk too."""

    def build(a, b):
        inner = velax.jit(lambda x: x + a)
        return lambda x: lax.cond(x.sum() > 0, lambda y: inner(y) * b, lambda y: inner(y) - b, x)

    for _ in range(2):
        for a, b in ((JA, JB + 10), (JB * 5, JA)):
            for x in (X, -X - 5):
                expected = (x + a) * b if x.sum() > 0 else (x + a) - b
                np.testing.assert_allclose(compile_and_run(build(a, b), x)[2], expected, rtol=1e-6)
        forget()


# -- memory --------------------------------------------------------------------------------------


def test_the_table_of_programs_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(driver, "_MAX_EXECUTABLES", 3)
    for n in range(1, 7):
        compile_and_run(lambda x: x + 1, X[0, :1].repeat(n))
    assert len(driver._executables) <= 3
    monkeypatch.setattr(driver, "_MAX_KERNELS", 1)
    for k in range(3):
        compile_and_run(lambda x, k=k: jnp.exp(x) + k, X)
    assert len(driver._loaded_kernels) <= 1
    np.testing.assert_allclose(velax.jit(program)(X), EXPECTED, rtol=1e-5)


def test_clearing_the_caches(folder):
    traced = []

    @velax.jit
    def f(x):
        traced.append("f")
        return lax.scan(body, x, None, length=3)[0]

    def body(c, _):
        traced.append("body")
        return c + 1, None

    f(1.0), f(2.0)
    assert sorted(traced) == ["body", "f"]
    f.clear_cache()
    f(1.0)
    assert sorted(traced) == ["body", "f", "f"]
    velax.clear_caches()
    assert not driver._executables and not driver._loaded_kernels
    assert f(1.0) == 4.0
    assert sorted(traced) == ["body", "body", "f", "f", "f"]
