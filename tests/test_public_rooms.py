"""Parts of public modules that are imported when first used: their names are all there, wherever one looks."""

import importlib

import pytest
from process_helpers import run_fresh

from velax._lang.traceback import without_boundary

ROOMS = {
    "velax.lax": ("_special", "_solves"),
    "velax.numpy": ("_functional", "_histograms", "_padding", "_sets", "_statistics"),
}


@pytest.mark.parametrize("name", ROOMS)
def test_every_name_of_a_room_is_public(name):
    public = importlib.import_module(name)
    for room in ROOMS[name]:
        module = importlib.import_module(f"{name}.{room}")
        for key in module.__all__:
            assert without_boundary(getattr(public, key)) is without_boundary(getattr(module, key))
            assert key in public.__all__ and key in dir(public)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = public.nothing


def test_rooms_are_not_imported_before_they_are_used():
    run_fresh(
        "import sys, velax.numpy, velax.lax\n"
        f"rooms = {[f'{name}.{room}' for name, rooms in ROOMS.items() for room in rooms]}\n"
        "assert not set(rooms) & set(sys.modules), set(rooms) & set(sys.modules)\n"
        "scope = {}\n"
        "exec('from velax.numpy import *; from velax.lax import zeta', scope)\n"
        "assert scope['median'] is velax.numpy.median and scope['linalg'] is velax.numpy.linalg and 'zeta' in scope\n"
    )
