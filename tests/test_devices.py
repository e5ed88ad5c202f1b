"""Devices, meshes and shardings, compared with JAX on eight virtual devices."""

import itertools
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

import velax.sharding as public
from velax._lang import config, devices, meshes, shardings
from velax._lang.meshes import AbstractMesh, AxisType, Mesh
from velax._lang.shardings import NamedSharding, PartitionSpec as P, SingleDeviceSharding

ROOT = pathlib.Path(__file__).parent.parent


class EightDevices(devices.Backend):
    platform = "cpu"

    def __init__(self):
        self._devices = [devices.Device(self, i) for i in range(8)]

    def devices(self):
        return list(self._devices)

    def put(self, value, device, memory_kind=None):
        raise NotImplementedError

    def compile(self, closed_jaxpr, **options):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def eight(monkeypatch):
    monkeypatch.setattr(devices, "_factories", {})
    monkeypatch.setattr(devices, "_backends", {})
    devices.register_backend("cpu", EightDevices)
    return devices.devices()


@pytest.fixture
def mesh(eight):
    return Mesh(np.array(eight).reshape(4, 2), ("x", "y"))


# The registry


def test_devices(eight):
    assert len(eight) == 8 == devices.device_count() == devices.local_device_count("cpu")
    assert devices.local_devices(process_index=0) == eight == devices.devices(eight[0].client)
    assert (devices.default_backend(), devices.process_index(), devices.process_count(), devices.process_indices()) == (
        "cpu",
        0,
        1,
        [0],
    )
    with pytest.raises(ValueError, match="Unknown process_index 1"):
        devices.local_devices(process_index=1)
    with pytest.warns(DeprecationWarning, match="host_count is now process_count"):
        assert devices.host_count() == 1


def test_missing_platforms():
    with pytest.raises(
        RuntimeError, match="Unknown backend: 'gpu' requested, but no platforms that are instances of gpu are present"
    ):
        devices.devices("gpu")
    with pytest.raises(RuntimeError, match=r"Unknown backend foo. Available backends are \['cpu'\]"):
        devices.devices("foo")


def test_platforms_by_priority_and_by_option(eight):
    class Fast(EightDevices):
        platform = "cuda"

    devices.register_backend("cuda", Fast, priority=10)
    assert devices.default_backend() == "cuda"
    assert devices.devices("gpu")[0].platform == "cuda" and repr(devices.devices("gpu")[1]) == "CudaDevice(id=1)"
    with config.default_device("cpu"):
        assert devices.default_backend() == "cpu"
        assert devices.current_device() is eight[0]
    with config.default_device(eight[3]):
        assert devices.current_device() is eight[3]
    old = config.config.jax_platforms
    try:
        config.config.update("jax_platforms", "cpu")
        assert devices.default_backend() == "cpu" and list(devices.backends()) == ["cpu"]
        config.config.update("jax_platforms", "tpu")
        with pytest.raises(
            RuntimeError, match=r"Unable to initialize backend 'tpu'.*only \['cuda', 'cpu'\] are available"
        ):
            devices.devices()
    finally:
        config.config.update("jax_platforms", old)


def test_a_device(eight):
    d = eight[2]
    assert (repr(d), str(d), d.platform, d.device_kind, d.id) == ("CpuDevice(id=2)", "cpu:2", "cpu", "cpu", 2)
    assert d.process_index == d.host_id == d.task_id == 0 and d.local_hardware_id == 2
    assert pickle.loads(pickle.dumps(d)) is d
    assert [m.kind for m in d.addressable_memories()] == ["device", "pinned_host", "unpinned_host"]
    assert d.default_memory() == d.memory("device") and d.memory_stats() is None
    with pytest.raises(
        ValueError,
        match=r"can address the following memory kinds: device, pinned_host, unpinned_host. Got memory kind: x",
    ):
        d.memory("x")


# Against the oracle, which needs eight devices and therefore a process of its own

EXPRESSIONS = """
m
str(m)
m.shape
m.axis_sizes
m.device_ids.tolist()
m.abstract_mesh
m.local_mesh is m
(m.size, m.empty, m.is_multi_process)
m.update(axis_types=(AxisType.Explicit,) * 2)
m.abstract_mesh.update_axis_types({'x': AxisType.Manual})
Mesh(ds, 'x')
Mesh(ds, ('x', 'y'))
AbstractMesh((4, 2), ('x', 'y'))
AbstractMesh((), ())
(m.auto_axes, m.explicit_axes, m.manual_axes, m.are_all_axes_auto)
make_mesh((4, 2), ('x', 'y'))
make_mesh((3,), ('x',))
make_mesh((16,), ('x',))
P('x')
P('x', None, ('x', 'y'))
P()
P(())
P(('x',))
P('x', P.UNCONSTRAINED)
P('x') + P('y')
('y',) + P('x')
P('x') + ('y',)
P('x', unreduced={'y'})
P(unreduced={'y'})
P('x', reduced={'y'})
P('x').update(unreduced={'y'})
P('x') == P('x', None)
P('x') == ('x',)
hash(P('x')) == hash(P(('x',)))
P('x', 'y')[1:]
(P('x', 'y').index('y'), P('x', 'x').count('x'), len(P('x')))
S(m, P('x'))
S(m, P('x')).memory_kind
S(m, P('x')).with_memory_kind('pinned_host')
S(m, P('x'), memory_kind='foo')
S(m, P('z'))
S(m, P('x', 'x'))
S(m, P('x')).shard_shape((8, 4))
S(m, P('x')).shard_shape((7, 4))
S(m, P('x')).devices_indices_map((8, 2))
S(m, P(('x', 'y'), None)).devices_indices_map((8, 2))
S(m, P(('y', 'x'), None)).devices_indices_map((8, 2))
S(m, P(None, 'y')).addressable_devices_indices_map((8, 2))
S(m, P()).devices_indices_map(())
(S(m, P()).is_fully_replicated, S(m, P('x')).is_fully_replicated, S(m, P()).is_fully_addressable)
S(m, P('x')).is_equivalent_to(S(m, P('x', None)), 2)
S(m, P('x')).is_equivalent_to(S(m, P('y')), 2)
S(AbstractMesh((4,), ('x',)), P('x'))
One(ds[0])
One(ds[0], memory_kind='pinned_host')
One(ds[0], memory_kind='bad')
One(ds[0]).devices_indices_map((8, 2))
One(ds[0]).shard_shape((8, 2))
One(ds[0]).is_equivalent_to(S(m, P()), 1)
AxisType.Auto
get_mesh()
get_abstract_mesh()
""".strip().splitlines()

ORACLE = """
import jax, json, sys, numpy as np
from jax.sharding import *
from jax.sharding import PartitionSpec as P, NamedSharding as S, SingleDeviceSharding as One
from jax import make_mesh
ds = jax.devices()
m = Mesh(np.array(ds).reshape(4, 2), ('x', 'y'))
def outcome(text):
    try:
        return repr(eval(text))
    except Exception as e:
        return f'{type(e).__name__}: {e}'
print(json.dumps([outcome(t) for t in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def oracle():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ORACLE], input=json.dumps(EXPRESSIONS), env=environment, text=True,
                          capture_output=True, check=True)  # fmt: skip
    return dict(zip(EXPRESSIONS, json.loads(done.stdout)))


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_as_jax(text, oracle, eight, mesh):
    names = {
        "P": P,
        "S": NamedSharding,
        "One": SingleDeviceSharding,
        "ds": eight,
        "m": mesh,
        **vars(public),
        "make_mesh": meshes.make_mesh,
    }
    try:
        ours = repr(eval(text, names))
    except Exception as e:
        ours = f"{type(e).__name__}: {e}"
    assert ours == oracle[text]


# Values


def test_values_are_hashable_and_survive_pickling(mesh, eight):
    values = [
        mesh, mesh.abstract_mesh, P("x", None, ("y",)), P("x", unreduced={"y"}), P(P.UNCONSTRAINED), NamedSharding(mesh, P("x")),
        NamedSharding(mesh, P("x"), memory_kind="pinned_host"), SingleDeviceSharding(eight[1]), AxisType.Manual,
        AbstractMesh((2,), "z", AxisType.Explicit),
    ]  # fmt: skip
    for v in values:
        copy = pickle.loads(pickle.dumps(v))
        assert copy == v and hash(copy) == hash(v) and repr(copy) == repr(v)
    for a, b in itertools.combinations(values, 2):
        assert a != b


def test_shards_cover_the_array(mesh):
    shape = (8, 4, 2)
    for spec in (P("x"), P("y", "x"), P(("x", "y")), P(None, "x", "y"), P()):
        sharding = NamedSharding(mesh, spec)
        counts = np.zeros(shape, int)
        for index in sharding.devices_indices_map(shape).values():
            counts[index] += 1
            assert counts[index].shape == sharding.shard_shape(shape)
        assert (counts == counts.flat[0]).all() and counts.sum() == 8 * np.prod(sharding.shard_shape(shape))


@pytest.mark.parametrize("f, error, message", [
    (lambda m: NamedSharding(m, ("x",)), TypeError, r"spec must be a PartitionSpec, got \('x',\); write NamedSharding\(mesh, P"),
    (lambda m: NamedSharding("m", P()), TypeError, "mesh must be a Mesh or an AbstractMesh, got str"),
    (lambda m: NamedSharding(m, P("x", "y")).shard_shape((4,)), ValueError, "rank at least 2, but was applied to a value of rank 1"),
    (lambda m: NamedSharding(m.abstract_mesh, P()).device_set, ValueError, "which has no devices"),
    (lambda m: m.abstract_mesh.devices, ValueError, "devices is not implemented"),
    (lambda m: P("x", unreduced={"y"}, reduced={"y"}), ValueError, "both unreduced and reduced"),
    (lambda m: P(("x", P.UNCONSTRAINED)), ValueError, "UNCONSTRAINED cannot be combined"),
    (lambda m: AbstractMesh((1, 2), "x"), ValueError, "2 axis sizes but the axis names are"),
    (lambda m: AbstractMesh((1,), "x", ("auto",)), TypeError, "axis_types must be AxisType.Auto"),
    (lambda m: AbstractMesh((1,), "x", (AxisType.Auto,) * 2), ValueError, "one entry for each"),
    (lambda m: meshes.set_mesh(m.abstract_mesh), ValueError, "set_mesh takes a velax.sharding.Mesh, got AbstractMesh"),
    (lambda m: meshes.use_abstract_mesh(m), ValueError, "takes a velax.sharding.AbstractMesh, got Mesh"),
])  # fmt: skip
def test_errors(f, error, message, mesh):
    with pytest.raises(error, match=message):
        f(mesh)


# The mesh in force


def test_set_mesh(mesh):
    key = config.config_key()
    other = meshes.make_mesh((8,), ("z",))
    with public.set_mesh(mesh):
        assert public.get_mesh() is mesh and public.get_abstract_mesh() is mesh.abstract_mesh
        assert config.config_key() is not key
        with public.set_mesh(other):
            assert public.get_mesh() is other
        with public.use_abstract_mesh(other.abstract_mesh):
            assert public.get_mesh() is mesh and public.get_abstract_mesh() is other.abstract_mesh
        assert public.get_mesh() is mesh
    assert public.get_mesh().empty and public.get_abstract_mesh().empty and config.config_key() is key


def test_set_mesh_for_good(mesh):
    public.set_mesh(mesh)
    assert public.get_mesh() is mesh
    public.set_mesh(None)
    assert public.get_mesh().empty


def test_with_mesh(mesh):
    with mesh as entered, mesh:
        assert entered is mesh and meshes.get_legacy_mesh() is mesh and public.get_mesh().empty
    assert meshes.get_legacy_mesh().empty
    with config.disallow_mesh_context_manager(True), pytest.raises(RuntimeError, match=r"velax.set_mesh"), mesh:
        pass


def test_everything_public_is_named_so():
    for name in public.__all__:
        value = getattr(public, name)
        if isinstance(value, type):
            assert value.__module__ == "velax.sharding", name
    assert shardings.P is P
