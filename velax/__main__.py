"""Run a program with ``import jax`` resolved to Velax.

python -m velax script.py [args...]
python -m velax -c "program" [args...]
python -m velax -m module [args...]
python -m velax - [args...]            (the program is read from standard input)
"""

from __future__ import annotations

import io
import os
import pkgutil
import runpy
import sys
import types

from velax._compat import install_as_jax

_RUNNERS = (__file__, "<frozen runpy>")
_USAGE = "usage: python -m velax script.py [args...] | -c program [args...] | -m module [args...] | - [args...]"


def _show_error(kind, error, traceback) -> None:
    """`sys.excepthook` of the program: its traceback begins with the program's first line."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _RUNNERS:
        traceback = traceback.tb_next
    error.__traceback__ = traceback  # what is printed
    sys.__excepthook__(kind, error, traceback)


def main(argv: list[str]) -> int:
    """Run what the command line names; returns the exit status."""
    if not argv and not sys.stdin.isatty():
        argv = ["-"]
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    kind = argv[0] if argv[0] in ("-c", "-m", "-") else "script"
    if kind in ("-c", "-m") and len(argv) < 2:
        print(f"{argv[0]} needs an argument\n{_USAGE}", file=sys.stderr)
        return 2
    if kind == "script" and argv[0].startswith("-"):
        print(f"unknown option {argv[0]}\n{_USAGE}", file=sys.stderr)
        return 2
    install_as_jax()
    sys.excepthook = _show_error
    if kind in ("-c", "-"):
        sys.argv = ["-c", *argv[2:]] if kind == "-c" else argv
        sys.path[0] = ""
        _run_text(*((argv[1], "<string>") if kind == "-c" else (sys.stdin.read(), "<stdin>")))
    elif kind == "-m":
        sys.argv = argv[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        if not os.path.exists(argv[0]):
            print(f"python -m velax: can't open file {argv[0]!r}: no such file", file=sys.stderr)
            return 2
        sys.argv = argv
        path = os.path.abspath(argv[0])  # as the interpreter does, so that locations outlive a change of directory
        sys.path[0] = os.path.dirname(path)
        if pkgutil.get_importer(path) is not None:  # a folder or an archive with a __main__.py
            runpy.run_path(path, run_name="__main__")
        else:
            with io.open_code(path) as script:
                _run_text(script.read(), path, __file__=path)
    return 0


def _run_text(program: str | bytes, name: str, **names) -> None:
    """Run a program's text as `__main__`, whose names are ``names`` at first."""
    main_module = types.ModuleType("__main__")
    vars(main_module).update(names)
    sys.modules["__main__"] = main_module
    exec(compile(program, name, "exec", dont_inherit=True), vars(main_module))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
