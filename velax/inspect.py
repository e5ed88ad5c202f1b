"""Looking at what Velax does: compilations as they happen."""

from __future__ import annotations

import contextlib

from velax._compiler.driver import CompileRecord, on_compile

__all__ = ["CompileRecord", "compile_log", "summary"]


@contextlib.contextmanager
def compile_log():
    """Collect a record of every compilation inside.

    Yields:
      A list of `CompileRecord`: ``name``, ``n_equations``, ``kernels``, ``compiled`` (those not
      cached), ``seconds`` by phase, ``source``.

    Example:
      >>> import velax, velax.inspect, velax.numpy as jnp
      >>> with velax.inspect.compile_log() as log:
      ...     _ = velax.jit(lambda x: jnp.sin(x) * 2)(jnp.arange(3.0))
      >>> len(log) >= 1
      True
    """
    log: list[CompileRecord] = []
    on_compile.append(log.append)
    try:
        yield log
    finally:
        on_compile.remove(log.append)


def summary(log: list[CompileRecord], limit: int = 8) -> str:
    """A table of the slowest compilations of a log, and the total."""
    lines = [f"{'function':28s} {'equations':>9s} {'kernels':>8s} {'new':>5s} {'ms':>8s}"]
    for r in sorted(log, key=lambda r: -r.total)[:limit]:
        lines.append(
            f"{r.name[:28]:28s} {r.n_equations:9d} {len(r.kernels):8d} {len(r.compiled):5d} {r.total * 1e3:8.1f}"
        )
    phases: dict[str, float] = {}
    for r in log:
        for phase, seconds in r.seconds.items():
            phases[phase] = phases.get(phase, 0.0) + seconds
    detail = ", ".join(f"{phase} {seconds * 1e3:.0f} ms" for phase, seconds in phases.items())
    lines.append(
        f"{len(log)} programs, {sum(len(r.compiled) for r in log)} kernels, {sum(r.total for r in log) * 1e3:.0f} "
        f"ms ({detail})"
    )
    return "\n".join(lines)
