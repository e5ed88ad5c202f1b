"""Source locations: where in the user's program an equation, an error or a kernel comes from.

A location is ``(code object, instruction index)`` of the innermost frame outside Velax, plus the name stack:
two pointers to take, resolved to a file and a line only when printed. Frames are never held, so tracing keeps
nothing alive.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from types import CodeType

from velax import _native

__all__ = [
    "SourceInfo", "current", "name_scope", "new_source_info", "register_exclusion", "summarize", "swap_equation",
    "user_stack_level",
]  # fmt: skip

_excluded: list[str] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep]
_user_location = _native.user_location


def register_exclusion(path: str) -> None:
    """Count the frames of code under ``path`` as internal: locations and tracebacks skip them."""
    _excluded.append(os.path.dirname(path) + os.sep if os.path.isfile(path) else path)
    _native.set_code_classifier(is_user_code)  # forgets the answers given so far


def is_user_code(code: CodeType) -> bool:
    """Whether a function is outside Velax and what was excluded."""
    name = code.co_filename
    return not name.startswith("<frozen") and not any(name.startswith(p) for p in _excluded)


_native.set_code_classifier(is_user_code)


class SourceInfo:
    """A location; ``str()`` gives ``file:line:column (function)``."""

    __slots__ = ("code", "instruction", "name_stack")

    def __init__(self, code: CodeType | None, instruction: int, name_stack: str = ""):
        self.code, self.instruction, self.name_stack = code, instruction, name_stack

    def replace(self, *, name_stack: str) -> SourceInfo:
        return SourceInfo(self.code, self.instruction, name_stack)

    @property
    def line(self) -> int | None:
        if self.code is None:
            return None
        for index, position in enumerate(self.code.co_positions()):
            if index == self.instruction // 2:
                return position[0]
        return self.code.co_firstlineno

    def __str__(self):
        if self.code is None:
            return "unknown"
        return f"{self.code.co_filename}:{self.line} ({self.code.co_qualname})"


class _Scopes(threading.local):  # the values are those of a thread that has set none
    stack = ""
    equation: SourceInfo | None = None


_scopes = _Scopes()
_unknown = SourceInfo(None, 0)


def name_stack() -> str:
    return _scopes.stack


@contextlib.contextmanager
def name_scope(name: str):
    """Prefix the name stack of the equations traced inside (`velax.named_scope`)."""
    if not isinstance(name, str):
        raise TypeError(f"named_scope name argument must be a string, got {name!r} of type {type(name)}.")
    old = name_stack()
    _scopes.stack = f"{old}/{name}" if old else name
    try:
        yield
    finally:
        _scopes.stack = old


def swap_equation(info: SourceInfo | None) -> SourceInfo | None:
    """Attribute what is traced or evaluated from now on to an equation that is being interpreted (None: to
    the line that runs).

    Returns:
      What was set before, to be put back.
    """
    old = _scopes.equation
    _scopes.equation = info
    return old


def current() -> SourceInfo:
    """The location of the user's line that is running now, or of the equation that is interpreted."""
    info = _scopes.equation
    if info is not None:
        scope = "/".join(filter(None, (_scopes.stack, info.name_stack)))
        return info if scope == info.name_stack else info.replace(name_stack=scope)
    location = _user_location()
    if location is None:
        return _unknown
    return SourceInfo(*location, _scopes.stack)


def new_source_info() -> SourceInfo:
    return SourceInfo(None, 0, name_stack())


def summarize(info: SourceInfo | None, num_frames: int = 1) -> str:
    return str(info) if info is not None else "unknown"


def code_of(fun) -> CodeType | None:
    """The code of the user's function, inside of what transformations made of it; None where there is none."""
    while True:
        if isinstance(fun, functools.partial):
            fun = fun.func
        elif hasattr(fun, "__wrapped__"):
            fun = fun.__wrapped__
        else:
            break
    return getattr(fun, "__code__", None)


def line_of(fun) -> str:
    """``file:line`` of the user's function's definition, for messages."""
    code = code_of(fun)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "<unknown>"


def user_stack_level() -> int:
    """How far up the stack the user's line is from the function that asks, as `warnings.warn` counts: without the
    frames of Python's import system.
    """
    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and not is_user_code(frame.f_code):
        frame = frame.f_back
        level += not frame.f_code.co_filename.startswith("<frozen importlib")
    return level
