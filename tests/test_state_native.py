"""Thread-local state: the current trace and the configuration override."""

import gc
import sys
import threading
import weakref

import pytest

from velax import _native


@pytest.fixture
def config():
    """Sets a configuration override for the test."""
    yield _native.swap_local_config
    _native.swap_local_config(None, 0)


def test_trace_is_per_thread():
    assert _native.get_trace() is None
    mine = object()
    assert _native.swap_trace(mine) is None
    seen = []

    def other():
        seen.append(_native.get_trace())
        seen.append(_native.swap_trace("theirs"))
        seen.append(_native.get_trace())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [None, None, "theirs"]
    assert _native.get_trace() is mine
    assert _native.swap_trace(None) is mine
    assert _native.get_trace() is None


def test_trace_left_by_a_thread_is_freed():
    class Trace:
        pass

    trace = Trace()
    alive = weakref.ref(trace)
    thread = threading.Thread(target=_native.swap_trace, args=(trace,))
    thread.start()
    thread.join()
    del trace, thread
    gc.collect()
    assert alive() is None


def test_trace_references_are_owned():
    trace = object()
    before = sys.getrefcount(trace)
    for _ in range(10):
        _native.swap_trace(trace)
        assert _native.get_trace() is trace
    assert sys.getrefcount(trace) == before + 1
    assert _native.swap_trace(None) is trace
    assert sys.getrefcount(trace) == before


def test_config_override_is_per_thread(config):
    config(None, 0)  # whatever ran before may have left an override equal to the default
    default = _native.config_key()
    key = ("key",)
    assert config(key, 5) is None
    assert _native.config_key() is key
    assert _native.config_flags() == 5
    assert _native.local_config() == (key, 5)
    seen = []
    thread = threading.Thread(target=lambda: seen.append((_native.config_key(), _native.local_config())))
    thread.start()
    thread.join()
    assert seen == [(default, (None, 0))]
    assert config(None, 0) is key
    assert _native.config_key() is default


def test_config_arguments_are_checked():
    with pytest.raises(TypeError, match=r"swap_local_config\(\) takes 2 arguments"):
        _native.swap_local_config(None)
    with pytest.raises(TypeError):
        _native.swap_local_config("key", "flags")
    with pytest.raises(TypeError, match="takes a class"):
        _native.set_tracer_type(3)
