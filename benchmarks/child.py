"""What runs in a process of its own: one side's measurements, as JSON on the last line of its output."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["velax", "jax"])
    parser.add_argument("kind", choices=["import", "run", "first"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()

    start = time.perf_counter()
    if args.side == "velax":
        import velax

        velax.install_as_jax()
    import jax
    import jax.numpy

    result: dict = {"import": time.perf_counter() - start}
    if args.kind == "run":
        from benchmarks.workloads import GROUPS

        table = {name: f for group in GROUPS.values() for name, f in group.items()}
        result["run"] = {name: _measure(jax, table[name], args.seconds) for name in args.names}
    elif args.kind == "first":
        from benchmarks.workloads import FIRST_CALLS

        (name,) = args.names
        call = FIRST_CALLS[name]()
        start = time.perf_counter()
        jax.block_until_ready(call())
        result["first"] = time.perf_counter() - start
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


def _measure(jax, make, seconds: float):
    """The median time of a call, or the error it raised."""
    try:
        call = make()
        for _ in range(3):
            jax.block_until_ready(call())
        start = time.perf_counter()
        jax.block_until_ready(call())
        once = max(time.perf_counter() - start, 1e-7)
    except Exception as error:  # one side's failure is a result
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return None
    inner = max(1, min(2000, int(0.01 / once)))
    samples = []
    deadline = time.perf_counter() + seconds
    while len(samples) < 5 or (time.perf_counter() < deadline and len(samples) < 200):
        start = time.perf_counter()
        for _ in range(inner):
            out = call()
        jax.block_until_ready(out)
        samples.append((time.perf_counter() - start) / inner)
    return statistics.median(samples)


if __name__ == "__main__":
    main()
