"""What the tests of native arrays share."""

import os
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import velax._native as native

DTYPES = [
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16"),
        *(ml_dtypes.bfloat16, "float32", "float64", "complex64", "complex128"),
        *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4),
    )
]


def make(value, dtype=np.float32, **keywords):
    return native.array_from_numpy(np.asarray(value, dtype=dtype), **keywords)


def arange(*shape, dtype=np.float32):
    return make(np.arange(np.prod(shape, dtype=int)).reshape(shape), dtype)


def same(array, expected):
    """Equal values, shape and dtype; NaN equals NaN."""
    array = np.asarray(array)
    expected = np.asarray(expected)
    assert array.dtype == expected.dtype and array.shape == expected.shape
    assert array.tobytes() == np.ascontiguousarray(expected).tobytes()


def in_new_process(source, **environment):
    """Runs a script that registers operators or changes limits, which are global to a process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
