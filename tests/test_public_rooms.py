"""Parts of public modules that are imported when first used: their names are all there, wherever one looks."""

import ast
import importlib
import inspect

import pytest
from process_helpers import run_fresh

from velax._lang.traceback import without_boundary


def rooms_of(name):
    """The rooms that a module states, with their names."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "_public_rooms"]
    return ast.literal_eval(call.args[1])


ROOMS = {name: rooms_of(name) for name in ("velax.lax", "velax.numpy")}


@pytest.mark.parametrize("name", ROOMS)
def test_every_name_of_a_room_is_public(name):
    public = importlib.import_module(name)
    for room, names in ROOMS[name].items():
        module = importlib.import_module(f"{name}.{room}")
        if not names:
            assert getattr(public, room) is module and room in public.__all__
            continue
        assert sorted(names) == sorted(module.__all__), room
        for key in names:
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
