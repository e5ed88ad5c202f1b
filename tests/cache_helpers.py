"""A program, and looking at what the caches on disk and in memory do when it is compiled."""

import numpy as np

import velax
import velax.inspect
import velax.numpy as jnp
from velax._compiler import cache as disk

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def program(x):
    return jnp.tanh(x) @ x.T + 1.0


EXPECTED = np.tanh(X) @ X.T + 1.0


def forget():
    """Be as a fresh process is."""
    velax.clear_caches()
    disk.forget_open_cache()


def compile_and_run(fun=program, *args):
    """Jit and call ``fun``; the sources of the programs compiled, and those of them that LLVM compiled kernels for."""
    with velax.inspect.compile_log() as log:
        out = np.asarray(velax.jit(fun)(*(args or (X,))))
    if fun is program:
        np.testing.assert_allclose(out, EXPECTED, rtol=1e-5)
    return [r.source for r in log], sum(len(r.compiled) for r in log), out


def entries(folder, kind=""):
    return sorted(p for p in folder.iterdir() if p.name.startswith(kind))
