"""Kernels for tests of the native runtime, compiled from C to relocatable objects."""

import functools
import pathlib
import shutil
import subprocess
import tempfile

import pytest

COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

PROLOGUE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>
typedef struct { volatile int32_t* interrupt; void* scratch; int64_t scratch_bytes; int64_t thread_id; int32_t* error; } Ctx;
"""


@functools.cache
def compile_c(source: str, *options: str) -> bytes:
    """The object file of C source, after a prologue that declares Ctx."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "k.c").write_text(PROLOGUE + source)
        command = [COMPILER, "-O1", "-fPIC", "-fno-stack-protector", *options, "-c", "k.c", "-o", "k.o"]
        subprocess.run(command, cwd=path, check=True)
        return (path / "k.o").read_bytes()
