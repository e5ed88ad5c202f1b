"""The garbage collector, paused while the package imports and compiles: afterwards it is as the program left it."""

import gc

import pytest
from process_helpers import run_fresh

from velax._lang.collector import collector_paused


@pytest.fixture(autouse=True)
def _collector_as_it_was():
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


def test_it_is_off_inside_and_on_again_after():
    gc.enable()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_on_again_after_an_error():
    gc.enable()
    with pytest.raises(ZeroDivisionError), collector_paused():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_program_without_collector_stays_without():
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


def test_importing_and_compiling_leave_it_on_and_hardly_use_it():
    # Where Python writes no bytecode, it compiles the package's first module before that can say anything.
    run_fresh(
        "import gc\n"
        "runs = []\n"
        "gc.callbacks.append(lambda phase, info: runs.append(phase) if phase == 'start' else None)\n"
        "import velax\n"
        "velax.jit(lambda x: x**2)(velax.numpy.arange(3.0))\n"
        "assert len(runs) < 8, runs\n"  # more than 40 without the pause
        "assert gc.isenabled() and gc.get_freeze_count() == 0\n"
        "class Node: pass\n"
        "import weakref\n"
        "a = Node(); a.self = a; seen = weakref.ref(a); del a\n"
        "gc.collect()\n"
        "assert seen() is None\n"
    )


def test_what_the_program_froze_stays_frozen():
    run_fresh(
        "import gc\n"
        "gc.freeze()\n"
        "count = gc.get_freeze_count()\n"
        "import velax\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 0.9 * count\n"
    )
