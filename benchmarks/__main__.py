"""Compare Velax with the installed JAX: python -m benchmarks [--groups ...] [--rounds N] [--json FILE]

Both run in turn, in separate processes on the same machine; times are medians over the rounds, ratios are
Velax's over JAX's (below 1: Velax is faster). First calls are measured with an empty cache folder and again
with the one that the first left; JAX runs as it does by default, without a cache on disk.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.workloads import FIRST_CALLS, GROUPS

ROOT = Path(__file__).resolve().parent.parent


def child(side: str, kind: str, *names: str, cache: str, seconds: float = 0.5, verbose: bool = False) -> dict:
    env = {
        **os.environ,
        "VELAX_CACHE_DIR": cache,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.child", side, kind, *names, "--seconds", str(seconds)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
    if verbose and done.stderr:
        print(done.stderr, file=sys.stderr)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def scale(seconds: float | None) -> str:
    if seconds is None:
        return "failed"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def geometric_mean(xs) -> float | None:
    xs = [x for x in xs if x]
    return math.exp(sum(map(math.log, xs)) / len(xs)) if xs else None


def median(xs):
    xs = [x for x in xs if x is not None]
    return statistics.median(xs) if xs else None


class Table:
    def __init__(self):
        self.rows: list[dict] = []

    def add(self, group: str, name: str, velax: float | None, jax: float | None, unit: str = "s") -> None:
        ratio = velax / jax if velax and jax else None
        self.rows.append({"group": group, "name": name, "velax": velax, "jax": jax, "ratio": ratio, "unit": unit})
        text = (lambda x: "failed" if x is None else f"{x:.0f} MB") if unit == "MB" else scale
        print(
            f"  {name:28s} {text(velax):>10s} {text(jax):>10s}   {'-' if ratio is None else f'{ratio:.2f}x'}",
            flush=True,
        )

    def close(self, group: str) -> None:
        mean = geometric_mean([r["ratio"] for r in self.rows if r["group"] == group])
        print(f"  {'geometric mean':28s} {'':10s} {'':10s}   {'-' if mean is None else f'{mean:.2f}x'}\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--groups",
        nargs="*",
        default=["start", *GROUPS],
        help="start (import and first calls) and " + ", ".join(GROUPS),
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="time spent on a workload in a round")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--verbose", action="store_true", help="show what the child processes say")
    args = parser.parse_args()

    table = Table()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Velax / JAX, ratio below 1: Velax "
        "is faster\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        shared = os.path.join(scratch, "shared")
        if "start" in args.groups:
            start_figures(table, args.rounds, scratch, args.verbose)
        for group in (g for g in args.groups if g != "start"):
            print(group)
            names = list(GROUPS[group])
            rounds = {"velax": [], "jax": []}
            for _ in range(args.rounds):
                for side in ("velax", "jax"):
                    rounds[side].append(
                        child(side, "run", *names, cache=shared, seconds=args.seconds, verbose=args.verbose)
                    )
            for side, results in rounds.items():
                for r in results:
                    if "error" in r:
                        print(f"  {side}: {r['error']}")
            for name in names:
                velax, jax = (median([r.get("run", {}).get(name) for r in rounds[side]]) for side in ("velax", "jax"))
                table.add(group, name, velax, jax)
            table.add(
                f"{group} memory",
                "peak memory",
                *(median([r.get("peak_mb") for r in rounds[side]]) for side in ("velax", "jax")),
                unit="MB",
            )
            table.close(group)
    if args.json:
        Path(args.json).write_text(json.dumps(table.rows, indent=1))
    return 0


def start_figures(table: Table, rounds: int, scratch: str, verbose: bool) -> None:
    print("start")
    collected: dict[str, dict[str, list]] = {"velax": {}, "jax": {}}
    note = lambda side, what, value: collected[side].setdefault(what, []).append(value)
    for i in range(rounds):
        for side in ("velax", "jax"):
            result = child(side, "import", cache=os.path.join(scratch, "import"), verbose=verbose)
            note(side, "import", result.get("import"))
            note(side, "memory after import", result.get("peak_mb"))
        for name in FIRST_CALLS:
            cache = os.path.join(scratch, f"first-{name}-{i}")
            for what in ("empty cache", "warm cache"):
                result = child("velax", "first", name, cache=cache, verbose=verbose)
                note("velax", f"first call {name}, {what}", result.get("first"))
                if "error" in result:
                    print(f"  velax: {result['error']}")
            result = child("jax", "first", name, cache=cache, verbose=verbose)
            for what in ("empty cache", "warm cache"):
                note("jax", f"first call {name}, {what}", result.get("first"))
            shutil.rmtree(cache, ignore_errors=True)
    for what in collected["velax"]:
        unit = "MB" if what.startswith("memory") else "s"
        table.add(
            "start memory" if unit == "MB" else "start",
            what,
            median(collected["velax"][what]),
            median(collected["jax"][what]),
            unit=unit,
        )
    table.close("start")


if __name__ == "__main__":
    sys.exit(main())
