"""Records made by several threads while a class gets the `__init__` of its own."""

from __future__ import annotations

import sys
import threading

from velax._lang.record import Record


def test_threads_make_the_first_instances_together():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):

            class Point(Record):
                x: int
                y: int = 2

            made, start = [], threading.Barrier(4)

            def make():
                start.wait()
                made.extend(Point(k) for k in range(10))

            threads = [threading.Thread(target=make) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(p.x for p in made) == sorted([*range(10)] * 4) and all(p.y == 2 for p in made)
    finally:
        sys.setswitchinterval(interval)
