"""What happens when something goes wrong.

Memory, the compiler, callbacks, interrupts, forks, threads, deleted arrays.
"""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import llvmlite.binding as llvm
import numpy as np
import pytest
from process_helpers import SECONDS, fork, run_fresh

import velax
import velax.inspect
import velax.numpy as jnp
from velax import lax
from velax._compiler import cache as disk, driver, objects, pipeline
from velax._lang.primitive import Primitive
from velax.errors import JaxRuntimeError
from velax.lax._callbacks import io_callback

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


# -- memory ----------------------------------------------------------------------------------------

HUGE = (
    r"out of memory allocating 4000000000000 bytes for a result float32\[1000000,1000000\] "
    r"\(in use: \d+ bytes, memory limit"
)


def test_an_eager_array_that_is_too_large():
    with pytest.raises(MemoryError, match=HUGE):
        jnp.zeros((10**6, 10**6))


def test_a_result_that_is_too_large():
    f = velax.jit(lambda x: jnp.zeros((10**6, 10**6)) + x)
    for _ in range(2):
        with pytest.raises(MemoryError, match=HUGE):
            f(1.0)
    assert velax.jit(lambda x: x + 1)(1.0) == 2.0


def test_temporaries_that_are_too_large():
    f = velax.jit(lambda x: lax.sort(jnp.zeros((10**6, 10**6)) + x)[0, 0])
    text = r"out of memory allocating \d{13,} bytes of temporaries of a compiled function \(in use"
    with pytest.raises(MemoryError, match=text):
        f(1.0)


def test_a_failed_call_leaves_donated_arrays_alone():
    x = jnp.arange(4.0)
    f = velax.jit(lambda x: (x + 1, jnp.zeros((10**6, 10**6)) + x[0]), donate_argnums=0)
    with pytest.raises(MemoryError, match=HUGE):
        f(x)
    np.testing.assert_array_equal(x, np.arange(4.0))


def test_more_bytes_than_an_address_has():
    shape = r"float32\[2147483648,2147483648,2147483648\]"
    text = f"a result {shape}" + r" is larger than any memory \(at .*test_failures\.py:\d+"
    with pytest.raises(MemoryError, match=text):
        jnp.zeros((2**31, 2**31, 2**31))


# -- the compiler ----------------------------------------------------------------------------------


def test_llvm_rejects_a_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("VELAX_CACHE_DIR", str(tmp_path / "cache"))
    velax.clear_caches()
    disk.forget_open_cache()

    def bad(source, context):
        raise RuntimeError("<string>:3:7: error: expected instruction opcode")

    @velax.jit
    def flux(x):
        return jnp.tan(x) * 3.25

    with monkeypatch.context() as m:
        m.setattr(llvm, "parse_assembly", bad)
        for _ in range(2):
            text = r"the function 'flux' cannot be compiled.*k_[0-9a-f]{32}: <string>:3:7: error: expected instruction"
            with pytest.raises(RuntimeError, match=text) as caught:
                flux(X)
            assert any("flux" in note for note in caught.value.__notes__)
    assert not list((tmp_path / "cache").iterdir())
    with velax.inspect.compile_log() as log:
        np.testing.assert_allclose(flux(X), np.tan(X) * 3.25, rtol=1e-5)
    assert [r.source for r in log] == ["compiled"]
    disk.forget_open_cache()


def test_a_failing_pass_names_the_function(no_disk, monkeypatch):
    def broken(*args):
        raise AssertionError("a pass is wrong")

    monkeypatch.setattr(pipeline, "simplify", broken)

    @velax.jit
    def rotate(x):
        return x * 7.5

    with pytest.raises(AssertionError, match="a pass is wrong") as caught:
        rotate(X)
    assert "rotate" in caught.value.__notes__[0]
    monkeypatch.undo()
    np.testing.assert_array_equal(rotate(X), X * np.float32(7.5))


def test_an_object_that_cannot_be_loaded(no_disk, monkeypatch):
    large = np.ones(1000, np.float32)  # a small kernel would not go through LLVM
    with monkeypatch.context() as m:
        m.setattr(objects, "compile_kernels", lambda kernels, target: {k.name: b"no ELF file" for k in kernels})
        with pytest.raises(ValueError, match="load_object: truncated"):
            velax.jit(lambda x: x * 8.5)(large)
    np.testing.assert_array_equal(velax.jit(lambda x: x * 8.5)(large), large * np.float32(8.5))


def test_a_primitive_without_lowering_names_the_line():
    p = Primitive("mystery")
    p.def_abstract_eval(lambda x: x)
    text = r"'mystery' not found.*has no lowering.*test_failures\.py:\d+.*register_lowering"
    with pytest.raises(NotImplementedError, match=text):
        velax.jit(lambda x: p.bind(x))(X)


# -- callbacks -------------------------------------------------------------------------------------


class Unhappy(Exception):
    pass


def raising(x):
    raise Unhappy(f"no good: {float(x)}")


@pytest.mark.parametrize("where", ["pure", "io", "debug", "in a loop", "in a branch"])
def test_an_exception_in_a_callback(where):
    shape = velax.ShapeDtypeStruct((), np.float32)
    pure = lambda x: velax.pure_callback(raising, shape, x)
    f = {
        "pure": pure,
        "io": lambda x: io_callback(raising, shape, x),
        "debug": lambda x: (velax.debug.callback(raising, x), x)[1],
        "in a loop": lambda x: lax.fori_loop(0, 3, lambda i, c: pure(c), x),
        "in a branch": lambda x: lax.cond(x > 0, pure, lambda y: y, x),
    }[where]
    jitted = velax.jit(f)
    for _ in range(2):
        with pytest.raises(JaxRuntimeError, match=r"Unhappy: no good: 2\.0") as caught:
            np.asarray(jitted(2.0))
            velax.effects_barrier()
        assert isinstance(caught.value.__cause__, Unhappy)
    assert velax.jit(lambda x: x + 1)(1.0) == 2.0


def test_a_callback_of_wrong_shape():
    shape = velax.ShapeDtypeStruct((2,), np.float32)
    f = velax.jit(lambda x: velax.pure_callback(lambda v: np.zeros(3, np.float32), shape, x))
    with pytest.raises(Exception, match=r"\(?3,?\)?.*2|2.*3"):
        f(1.0)


def test_a_callback_that_interrupts():
    def stop(x):
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, JaxRuntimeError)):
        velax.jit(lambda x: velax.pure_callback(stop, velax.ShapeDtypeStruct((), np.float32), x))(1.0)


# -- interrupts ------------------------------------------------------------------------------------

LONG_LOOPS = """
import time
import velax, velax.numpy as jnp
from velax import lax

forever = velax.jit(lambda x: lax.while_loop(lambda c: c[0] >= 0, lambda c: (c[0] * 1.0, jnp.sin(c[1])), (x, x)))
large = velax.jit(lambda x: lax.while_loop(lambda c: c[0, 0] > -5, lambda c: jnp.tanh(c @ c) + 1, x))
scan = velax.jit(lambda x: lax.fori_loop(0, 2**40, lambda i, c: jnp.cos(c) * 0.5, x))
for f, x in ((forever, 1.0), (large, jnp.ones((64, 64))), (scan, 1.0)):
    f.lower(x).compile()
    print("ready", flush=True)
    try:
        f(x)
    except KeyboardInterrupt:
        print("interrupted", float(velax.jit(lambda x: x * 3)(2.0)), flush=True)
"""


def test_control_c_in_long_loops():
    command = [sys.executable, "-c", LONG_LOOPS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        for _ in range(3):
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(0.3)  # into the loop
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 6.0\n"
            assert time.monotonic() - began < 2
        assert process.wait(SECONDS) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


# -- forks -----------------------------------------------------------------------------------------


def test_a_fork_compiles_and_calls(no_disk):
    f = velax.jit(lambda x: jnp.tanh(x) @ x.T)
    here = np.asarray(f(X))
    big = jnp.ones((512, 512))
    product = velax.jit(lambda a: (a @ a).sum())
    assert product(big) == 512.0**3  # starts the pool's threads

    def in_child():
        fresh = velax.jit(lambda x: jnp.exp(x) - 0.125)
        return np.asarray(f(X)), np.asarray(fresh(X)), float(product(big)), float((big + 1).sum())

    again, fresh, total, summed = fork(in_child)()
    np.testing.assert_array_equal(again, here)
    np.testing.assert_allclose(fresh, np.exp(X) - 0.125, rtol=1e-5)
    assert (total, summed) == (512.0**3, 2 * 512.0**2)
    np.testing.assert_array_equal(f(X), here)
    assert product(big) == 512.0**3


#: in a process of its own, where no other library's threads hold locks at a fork
FORKS_WHILE_COMPILING = """
import faulthandler, os, sys, threading, time
import velax, velax.numpy as jnp

X, stop, failures = jnp.arange(5.0), threading.Event(), []

def compile_all_the_time():
    k = 0
    while not stop.is_set():
        k += 1
        try:
            velax.jit(lambda x, k=k: jnp.sin(x) * k + jnp.float32(k))(X)
        except BaseException as e:
            failures.append(e)
            raise

thread = threading.Thread(target=compile_all_the_time)
thread.start()
try:
    for k in range(20):
        time.sleep(0.02)
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(10, exit=True)
            os._exit(0 if float(velax.jit(lambda x: x * 100 + k)(1.0)) == 100 + k else 2)
        assert os.waitpid(child, 0)[1] == 0
finally:
    stop.set()
    thread.join()
assert not failures
"""


def test_a_fork_while_another_thread_compiles():
    """What that thread holds at the time, nobody holds in the child."""
    run_fresh(FORKS_WHILE_COMPILING, VELAX_CACHE=0)


def test_a_fork_while_threads_import_the_compiler():
    run_fresh(
        """
        import faulthandler, os, threading
        import velax, velax.numpy as jnp

        def compile_some(k):
            for n in range(3):
                f = velax.jit(velax.grad(lambda w: jnp.sum(jnp.tanh(w @ w) * (k + n + 0.5))))
                f(jnp.ones((64 + 16 * k + n, 64 + 16 * k + n))).block_until_ready()

        threads = [threading.Thread(target=compile_some, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            child = os.fork()
            if child == 0:
                faulthandler.dump_traceback_later(60, exit=True)
                total = velax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((100, 100)))
                os._exit(0 if total.shape == (100, 100) else 2)
            assert os.waitpid(child, 0)[1] == 0
        """,
        VELAX_CACHE=0,
    )


# -- threads ---------------------------------------------------------------------------------------


def in_threads(n, work):
    """The results of ``work(0), ..., work(n - 1)``, all started at once."""
    barrier = threading.Barrier(n)
    results, errors = [None] * n, []

    def run(k):
        try:
            barrier.wait()
            results[k] = work(k)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(SECONDS)
    assert not any(t.is_alive() for t in threads), "threads hang"
    if errors:
        raise errors[0]
    return results


def test_threads_that_miss_the_same_signature(no_disk):
    f = velax.jit(lambda x: jnp.tanh(x) * 1.375)
    with velax.inspect.compile_log() as log:
        results = in_threads(8, lambda k: np.asarray(f(X)))
    for r in results:
        np.testing.assert_array_equal(r, results[0])
    np.testing.assert_allclose(results[0], np.tanh(X) * 1.375, rtol=1e-5)
    assert sorted(r.source for r in log if r.name == "<lambda>")[0] == "compiled"
    assert sum(r.source == "compiled" for r in log) == 1  # the others waited for it


def test_threads_with_functions_of_their_own(no_disk):
    def work(k):
        total = 0.0
        for n in range(1, 5):
            f = velax.jit(lambda x, c: (jnp.cos(x) * c).sum() + n)
            total += float(f(jnp.arange(n * 1.0), k))
        return total

    expected = [sum(np.cos(np.arange(n)).sum() * k + n for n in range(1, 5)) for k in range(8)]
    np.testing.assert_allclose(in_threads(8, work), expected, rtol=1e-4)


def test_threads_share_functions_of_many_signatures():
    f = velax.jit(lambda x: x * 2 + 1)
    grad = velax.grad(lambda x: (x**3).sum())

    def work(k):
        for n in range(1, 9):
            x = np.full((n + k % 3,), k, np.float32)
            np.testing.assert_array_equal(f(x), x * 2 + 1)
            np.testing.assert_allclose(grad(x), 3 * x**2)
        return True

    assert all(in_threads(8, work))


def test_threads_while_caches_are_cleared():
    f = velax.jit(lambda x: x - 0.625)

    def work(k):
        for _ in range(20):
            if k == 0:
                velax.clear_caches()
            np.testing.assert_array_equal(f(X), X - np.float32(0.625))
            np.testing.assert_array_equal(jnp.asarray(X) + 1, X + 1)
        return True

    assert all(in_threads(4, work))


def test_threads_configure_for_themselves():
    def work(k):
        with velax.enable_x64(k % 2 == 0):
            dtypes = {jnp.arange(3).dtype, velax.jit(lambda: jnp.ones(2, int) * 2)().dtype}
            time.sleep(0.01)
            return dtypes | {jnp.zeros(1, int).dtype}

    for k, found in enumerate(in_threads(6, work)):
        assert found == {np.dtype(np.int64 if k % 2 == 0 else np.int32)}


def test_a_failing_thread_lets_the_others_compile(no_disk, monkeypatch):
    """The threads that waited for a compilation that failed make their own attempt."""
    real, failed = driver._compile, []

    def once(*args):
        if not failed:
            failed.append(True)
            time.sleep(0.05)  # until the others wait
            raise RuntimeError("the first attempt fails")
        return real(*args)

    monkeypatch.setattr(driver, "_compile", once)
    f = velax.jit(lambda x: x * 4.75)

    def work(k):
        try:
            return np.asarray(f(X))
        except RuntimeError as e:
            return str(e)

    results = in_threads(4, work)
    assert sum(isinstance(r, str) for r in results) == 1
    for r in results:
        if not isinstance(r, str):
            np.testing.assert_array_equal(r, X * np.float32(4.75))


# -- deleted arrays, recursion ---------------------------------------------------------------------

DELETED = r"Array has been deleted with shape=float32\[4\]"


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + 1,
        lambda x: jnp.sum(x),
        velax.jit(lambda x: x * 2),
        np.asarray,
        lambda x: x[0],
        repr,
        lambda x: velax.grad(lambda y: y.sum())(x),
        float,
    ],
    ids=["operator", "function", "jit", "numpy", "index", "repr", "grad", "float"],
)
def test_a_donated_array_is_gone(use):
    x = jnp.arange(4.0)
    velax.jit(lambda x: x + 1, donate_argnums=0)(x)
    assert x.is_deleted() and x.shape == (4,) and x.dtype == np.float32
    if use is float:
        x = jnp.float32(1)
        x.delete()
        with pytest.raises(RuntimeError, match=r"Array has been deleted with shape=float32\[\]"):
            float(x)
    else:
        with pytest.raises(RuntimeError, match=DELETED):
            use(x)


def test_one_array_donated_twice():
    x = jnp.arange(4.0)
    f = velax.jit(lambda a, b: (a + 1, b * 2), donate_argnums=(0, 1))
    a, b = f(x, x)
    np.testing.assert_array_equal(a, np.arange(4) + 1)
    np.testing.assert_array_equal(b, np.arange(4) * 2)


def test_recursion_ends_with_an_error():
    @velax.jit
    def f(x):
        return f(x + 1)

    with pytest.raises(RecursionError):
        f(1.0)
    assert velax.jit(lambda x: x + 1)(1.0) == 2.0


def test_recursion_over_a_static_argument():
    @functools.partial(velax.jit, static_argnums=1)
    def factorial(x, n):
        return x if n == 0 else n * factorial(x, n - 1)

    assert factorial(1.0, 6) == 720


def test_a_failed_trace_can_be_tried_again():
    ready = False

    @velax.jit
    def f(x):
        if not ready:
            raise LookupError("not yet")
        return x + 1

    with pytest.raises(LookupError, match="not yet"):
        f(1.0)
    ready = True
    assert f(1.0) == 2.0


def test_a_result_that_is_no_array():
    with pytest.raises(TypeError, match=r"returned a value of type <class 'str'> at output component \['name'\]"):
        velax.jit(lambda x: {"name": "hello", "x": x})(1.0)


def test_errors_point_at_the_users_line():
    """The innermost frame of a filtered traceback is the user's."""
    source = textwrap.dedent("""
        import velax, velax.numpy as jnp
        def mismatch(x):
            return jnp.ones((2, 3)) @ x
        velax.jit(mismatch)(jnp.ones((4, 5)))
    """)
    environment = {**os.environ, "JAX_TRACEBACK_FILTERING": "quiet_remove_frames"}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    frames = [line for line in done.stderr.splitlines() if line.strip().startswith("File")]
    assert 'File "<string>", line 4, in mismatch' in frames[-1], done.stderr
