"""The executor among threads, signals and processes: the GIL, Ctrl-C, forks, the end of the interpreter."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from native_kernels import needs_compiler
from process_helpers import run_fresh
from runtime_kernels import array, aval, forever, load_kernels, make

from velax import _native
from velax._ir.program import Copy, Launch, Loop, Slot

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def kernels():
    return load_kernels()


# ---------------------------------------------------------------------------------------------- threads, signals


def test_threads_run_one_executable(kernels):
    n = 20_000
    a = aval((n,))
    slots = Slot.input(0, 4 * n), Slot.output(0, 4 * n), Slot.arena(0, 4 * n), Slot.arena(4 * n, 8)
    e = make(
        kernels, ["add_one", "double_it"], [a], [a], slots,
        (Copy(2, 0, 0, 0, 4 * n), Loop(6, 3, 1), Launch(1, (2, 1), (), n, 1000)),
        (Launch(0, (2, 2), (), n, 1000),),
        arena_bytes=4 * n + 8,
    )  # fmt: skip
    wrong = []

    def use(seed):
        x = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
        expected = x.copy()
        for _ in range(6):
            expected += 1
        for _ in range(40):
            if not np.array_equal(np.asarray(e(array(x))), expected * 2):
                wrong.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_gil_is_released(kernels):
    e = make(kernels, ["work"], [], [], (), (Launch(0, (), (200_000_000,), 1, 1),))
    ticks = []
    thread = threading.Thread(target=e)
    thread.start()
    while thread.is_alive():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
    assert len(ticks) > 5


@pytest.mark.parametrize("how", ["kernel", "chunks", "loop", "while"])
def test_ctrl_c(kernels, how):
    e = forever(kernels, how)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    timer = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        e()
    assert time.perf_counter() - start < 5
    timer.join()
    # Everything is as before: the handler, and later programs.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


@pytest.mark.parametrize("how", ["chunks", "loop", "while"])
def test_other_signals_are_handled_meanwhile(kernels, how):
    e = forever(kernels, how)
    calls = []

    def handler(number, frame):
        calls.append(number)
        if len(calls) == 3:
            raise TimeoutError("enough")

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        with pytest.raises(TimeoutError, match="enough"):
            e()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert len(calls) >= 3


def test_interrupt_handler_that_does_not_raise_does_not_stop_a_kernel(kernels):
    e = make(kernels, ["work"], [], [], (), (Launch(0, (), (200_000_000,), 1, 1),))
    calls = []
    old = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        assert e() == ()
        timer.join()
    finally:
        signal.signal(signal.SIGINT, old)
    assert calls == [signal.SIGINT]


# ----------------------------------------------------------------------------------------------------- processes


def run_python(code, **environment):
    """What a fresh interpreter prints that runs ``code`` and can import what this one can."""
    return run_fresh(code, PYTHONPATH=os.pathsep.join(p for p in sys.path if p), **environment).strip()


def test_number_of_threads_from_the_environment():
    code = "from velax import _native; print(_native.num_threads())"
    assert run_python(code, VELAX_NUM_THREADS="3") == "3"
    assert run_python("import os; os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})\n" + code,
                      VELAX_NUM_THREADS="") == "1"  # fmt: skip
    with pytest.raises(ValueError, match="must be in"):
        _native.set_num_threads(0)


PARALLEL = """
    import os, signal, sys, threading, time
    import numpy as np
    from velax import _native
    from runtime_kernels import *
    kernels = load_kernels()
    _native.set_num_threads(4)
    n = 100_000
    a = aval((n,))
    slots = Slot.input(0, 4 * n), Slot.output(0, 4 * n)
    e = make(kernels, ["add_one"], [a], [a], slots, (Launch(0, (0, 1), (), n, 500),))
    x = array(np.zeros(n))
    def use():
        for _ in range(20):
            assert np.asarray(e(x))[-1] == 1
"""


def test_fork():
    code = (
        PARALLEL
        + """
    use()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            use()
            assert _native.num_threads() == 4
            try:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
                forever(kernels, "kernel")()
            except KeyboardInterrupt:
                os._exit(0)
            os._exit(1)
        pids.append(pid)
        use()
    print([os.waitpid(pid, 0)[1] for pid in pids])
    """
    )
    assert run_python(code) == "[0, 0, 0]"


def test_fork_inside_a_callback():
    code = (
        PARALLEL
        + """
    def function(x):
        global pid
        pid = os.fork()
        use()
        return [x]
    y = np.asarray(callback_program(kernels, function)(array(np.zeros(16))))
    assert (y == 2).all()
    use()
    if pid == 0:
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    """
    )
    assert run_python(code) == "0"


def test_exit_while_threads_work():
    code = (
        PARALLEL
        + """
    def work_on():
        while True:
            use()
    threading.Thread(target=work_on, daemon=True).start()
    time.sleep(0.1)
    print("bye")
    """
    )
    assert run_python(code) == "bye"


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_exit_while_threads_run_programs_and_python(delay):
    """CPython stops daemon threads wherever they ask for the GIL next: in a program, a callback, a miss."""
    code = f"""
    import sys, threading, time
    import numpy as np
    import velax, velax.numpy as jnp
    sys.setswitchinterval(1e-5)
    x = np.ones(4, np.float32)
    loop = velax.jit(lambda x: velax.lax.fori_loop(0, 20000, lambda i, a: a * 1.0 + 1, x))
    call = lambda a: velax.pure_callback(lambda v: np.asarray(v) + 1, velax.ShapeDtypeStruct((4,), np.float32), a)
    calls = velax.jit(lambda x: velax.lax.fori_loop(0, 50, lambda i, a: call(a), x))
    wide = velax.jit(lambda a: (jnp.sin(a) * 2).sum())
    long = np.ones(1000000, np.float32)
    uses = [lambda: loop(x), lambda: calls(x), lambda: wide(long), lambda: velax.jit(lambda v: v * 2)(x)]
    for use in uses:
        use()
    def work_on(use):
        while True:
            use()
    for use in uses:
        threading.Thread(target=work_on, args=(use,), daemon=True).start()
    time.sleep({delay})
    print("bye")
    """
    assert run_python(code) == "bye"


def test_exit_while_a_daemon_thread_is_in_an_endless_kernel():
    code = (
        PARALLEL
        + """
    endless = make(kernels, ["spin"], [], [], (), (Launch(0, (), (), 4, 1),))
    threading.Thread(target=endless, daemon=True).start()
    time.sleep(0.1)
    print("bye")
    """
    )
    assert run_python(code) == "bye"


def test_idle_process_uses_no_time():
    code = (
        PARALLEL
        + """
    use()
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(0.5)
    print(time.process_time() - before < 0.05)
    """
    )
    assert run_python(code) == "True"
