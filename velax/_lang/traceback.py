"""Tracebacks without the library's own frames.

A function of the public surface is wrapped by `api_boundary` (or, where a wrapper would cost too much,
handles exceptions itself by `leave_boundary`); a module's public functions by `public_module`. When an
exception leaves the outermost of them, the frames of the library are taken out of its traceback, so that the
user reads only lines of his own (and those of other libraries). How is set by ``jax_traceback_filtering``:

* ``off``: nothing is changed.
* ``tracebackhide``: the frames stay and are marked by a local ``__tracebackhide__``, which IPython and pytest honour.
* ``remove_frames``: they are removed, and the whole traceback is that of the exception's ``__cause__``.
* ``quiet_remove_frames``: they are removed, and a note says how to see them.
* ``auto``: ``tracebackhide`` in IPython, otherwise ``quiet_remove_frames``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, TracebackType
from typing import Any, TypeVar

from velax._lang import config
from velax._lang.source import is_user_code, register_exclusion

__all__ = [
    "UnfilteredStackTrace",
    "api_boundary",
    "boundary",
    "filter_traceback",
    "leave_boundary",
    "public_class",
    "public_module",
    "public_rooms",
    "register_exclusion",
    "without_boundary",
]

F = TypeVar("F", bound=Callable[..., Any])

_NOTE = "--------------------\nFrames inside of Velax have been left out of this traceback. Set JAX_TRACEBACK_FILTERING=off to see them."
# Context managers of the library run through this file of the standard library, which tells the reader nothing.
_CONTEXTLIB = os.path.abspath(contextlib.__file__)


class UnfilteredStackTrace(Exception):
    """Carries the whole traceback of the exception whose cause it is (``jax_traceback_filtering='remove_frames'``)."""


def _shown(code: CodeType) -> bool:
    return is_user_code(code) and code.co_filename != _CONTEXTLIB


def filter_traceback(tb: TracebackType | None) -> TracebackType | None:
    """`tb` without the frames of the library; ``None`` when it has no others."""
    frames = []
    while tb is not None:
        if _shown(tb.tb_frame.f_code):
            frames.append(tb)
        tb = tb.tb_next
    filtered = None
    for kept in reversed(frames):
        filtered = TracebackType(filtered, kept.tb_frame, kept.tb_lasti, kept.tb_lineno)
    return filtered


def _mode() -> str:
    mode = config.traceback_filtering.value
    if mode != "auto":
        return mode
    ipython = sys.modules.get("IPython")
    return "tracebackhide" if ipython is not None and ipython.get_ipython() is not None else "quiet_remove_frames"


def _hide_frames(tb: TracebackType | None) -> None:
    while tb is not None:
        if not _shown(tb.tb_frame.f_code):
            tb.tb_frame.f_locals["__tracebackhide__"] = True
        tb = tb.tb_next


def _inside_another_boundary() -> bool:
    frame = sys._getframe(2).f_back
    while frame is not None:
        if frame.f_code in _boundary_codes:
            return True
        frame = frame.f_back
    return False


def leave_boundary(error: Exception) -> None:
    """Edits the traceback of an exception that is about to reach the user: for the ``except`` block, before
    its bare ``raise``, of a `boundary`.
    """
    mode = _mode()
    if mode == "off" or _inside_another_boundary():
        return
    whole = error.__traceback__
    if mode == "tracebackhide":
        _hide_frames(whole)
        return
    error.__traceback__ = filter_traceback(whole)
    if mode == "quiet_remove_frames":
        if _NOTE not in getattr(error, "__notes__", ()):
            error.add_note(_NOTE)
        return
    unfiltered = UnfilteredStackTrace(f"The stack trace of {type(error).__name__} with the frames inside of Velax.")
    unfiltered.__traceback__ = whole
    # Python prints the cause in place of the context; both stay reachable through the new exception.
    unfiltered.__context__ = error.__context__
    unfiltered.__cause__ = error.__cause__
    unfiltered.__suppress_context__ = error.__suppress_context__
    error.__cause__ = unfiltered


def api_boundary(fun: F) -> F:
    """Wraps a public function so that exceptions leave it without the library's frames.

    Args:
      fun: the function.

    Returns:
      A function that does the same.
    """

    @functools.wraps(fun)
    def call_through_boundary(*args, **kwargs):
        __tracebackhide__ = True
        try:
            return fun(*args, **kwargs)
        except Exception as error:
            leave_boundary(error)
            # A bare raise adds no entry for this frame to the traceback that was just edited.
            raise

    return call_through_boundary  # type: ignore[return-value]


_wrapper_code = api_boundary(lambda: None).__code__
_boundary_codes: set[CodeType] = {_wrapper_code}


def boundary(fun: F) -> F:
    """Declares that ``fun`` is an API boundary that calls `leave_boundary` itself; a ``try`` costs nothing
    where a wrapper would.
    """
    _boundary_codes.add(fun.__code__)
    return fun


def public_module(namespace: dict[str, Any]) -> None:
    """Makes API boundaries of the Python functions of a public module, given as its ``globals()``.

    The library itself calls the functions where they are defined, without the wrapper. Called at the end of the module.
    """
    name = namespace["__name__"]
    for key, value in list(namespace.items()):
        if isinstance(value, FunctionType) and not key.startswith("_") and value.__code__ not in _boundary_codes:
            wrapped = namespace[key] = api_boundary(value)
            if value.__name__ == key and value.__qualname__ == key:
                wrapped.__module__ = name  # where it is to be found, e.g. by pickle


def public_rooms(namespace: dict[str, Any], rooms: dict[str, tuple[str, ...]]) -> None:
    """Has parts of a public module, given as its ``globals()``, imported when one of their names is first used.

    Args:
      namespace: gets ``__getattr__``, ``__dir__`` and ``__all__``; called after `public_module`.
      rooms: for each submodule its public names, or none for one that is itself the name.
    """
    name = namespace["__name__"]
    room_of = {key: room for room, names in rooms.items() for key in names or (room,)}

    def __getattr__(key):
        room = room_of.get(key)
        if room is None:
            raise AttributeError(f"module {name!r} has no attribute {key!r}")
        module = importlib.import_module(f"{name}.{room}")
        if not rooms[room]:
            return module
        found = {each: getattr(module, each) for each in rooms[room]} | {"__name__": name}
        public_module(found)
        namespace.update(found)
        return found[key]

    public = {key for key in namespace if not key.startswith("_")} | set(room_of)
    namespace.update(__getattr__=__getattr__, __dir__=lambda: sorted({*namespace, *room_of}), __all__=sorted(public))


def without_boundary(fun: Callable) -> Callable:
    """The function inside of an `api_boundary`; others as they are. For code that recognises the library's
    own functions.
    """
    return fun.__wrapped__ if isinstance(fun, FunctionType) and fun.__code__ is _wrapper_code else fun


def public_class(cls: type) -> type:
    """Makes API boundaries of the public methods of a class; a decorator."""
    for key, value in list(vars(cls).items()):
        if isinstance(value, FunctionType) and not key.startswith("_"):
            setattr(cls, key, api_boundary(value))
    return cls
