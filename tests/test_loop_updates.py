"""Arrays that small loops update in place: an update that reads what it writes sees the old values."""

import jax
import jax.numpy
import numpy as np
import pytest

import velax
import velax.numpy


def _running(np_, x, i):
    return x.at[i].set(x[i - 1] + x[i] + 1)


def _shifted(np_, x, i):
    return x.at[np_.array([0, 1, 2]) + i % 40].set(x[np_.array([1, 2, 3]) + i % 40])


def _neighbours(np_, x, i):
    return x.at[np_.arange(49)].add(x[1:] * 0.5)


def _swapped(np_, x, i):
    return x.at[np_.array([3, 2, 1, 0])].set(x[:4]).at[np_.arange(1, 50)].set(x[:-1])


def _read_later(np_, x, i):
    y = x.at[i].set(7.0)
    return y.at[0].add(x[i])


def _slices(np_, x, i):
    return x.at[10:20].set(x[15:25]).at[i].multiply(0.5)


@pytest.mark.parametrize("step", [_running, _shifted, _neighbours, _swapped, _read_later, _slices])
def test_updates_in_loops(step):
    def run(lib):
        body = lambda i, x: step(lib.numpy, x, i)
        return lib.jit(lambda x: lib.lax.fori_loop(0, 12, body, x))(lib.numpy.arange(50.0))

    np.testing.assert_array_equal(np.asarray(run(velax)), np.asarray(run(jax)))
