"""Running parts of a test elsewhere: in fresh interpreters, forks of this one, and another thread."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

SECONDS = 30  # far beyond what anything here takes: a test that hangs fails instead


def run_fresh(source: str, **environment) -> str:
    """What a fresh interpreter prints that runs ``source``."""
    env = {**os.environ, **{k: str(v) for k, v in environment.items()}}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], env=env, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_thread(function):
    """The result of ``function`` in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def fork(function):
    """Run ``function`` in a fork of this process; returns a function that waits for its result."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # of JAX, where it is loaded to compare with: its threads are not used in the child
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            try:
                answer = True, function()
            except BaseException as e:
                answer = False, f"{type(e).__name__}: {e}"
            with os.fdopen(writer, "wb") as f:
                pickle.dump(answer, f)
            status = 0
        finally:
            os._exit(status)  # without pytest's own exit handlers
    os.close(writer)

    def result():
        end = time.monotonic() + SECONDS
        while (status := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
            time.sleep(0.005)
        if status[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as f:
            data = f.read()
        assert status[0] != 0, "the forked process hangs"
        assert data, f"the forked process died with status {status[1]}"
        fine, value = pickle.loads(data)
        assert fine, value
        return value

    return result
