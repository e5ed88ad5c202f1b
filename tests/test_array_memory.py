"""The memory of native arrays: allocator, NumPy views, the buffer protocol, DLPack; against NumPy and JAX."""

import copy
import ctypes
import gc
import pickle
import sys
import threading
import weakref

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import velax._native as native
from array_helpers import DTYPES, arange, in_new_process, make, same

EXTENSION_CODES = {10, 15, 16, 17, 18}

# ------------------------------------------------------------------------------------------------ NumPy and buffers


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numpy_views(dtype):
    array = make([[1, 0], [1, 1]], dtype)
    view = np.asarray(array)
    assert view.dtype is dtype and not view.flags.writeable
    assert view.__array_interface__["data"][0] == array.unsafe_buffer_pointer()
    assert np.shares_memory(view, array.__array__()) and not np.shares_memory(view, np.array(array))
    assert np.array(array).flags.writeable
    assert np.asarray(array, np.complex128).dtype == np.complex128
    if dtype.kind != "c":
        same(array.__array__(np.float32), view.astype(np.float32))
    assert np.shares_memory(array.__array__(dtype, copy=False), view)
    assert not np.shares_memory(array.__array__(copy=True), view)
    if dtype != np.float64:
        with pytest.raises(ValueError, match="Unable to avoid copy"):
            np.asarray(array, dtype=np.float64, copy=False)
    with pytest.raises(ValueError, match=r"cannot set WRITEABLE flag|read-only"):
        view.flags.writeable = True
        view[0] = 0
    for shape in [(), (0,), (3, 0, 2)]:
        assert np.asarray(native.array_empty(shape, dtype)).shape == shape


@pytest.mark.parametrize("code", range(len(DTYPES)))
def test_buffer_protocol(code):
    array = make([[1, 0, 1], [1, 1, 0]], DTYPES[code])
    if code in EXTENSION_CODES:
        with pytest.raises(BufferError, match=f"no format for {DTYPES[code]}"):
            memoryview(array)
        return
    view = memoryview(array)
    assert (view.shape, view.strides, view.itemsize) == ((2, 3), np.asarray(array).strides, array.itemsize)
    assert view.readonly and view.c_contiguous and view.tobytes() == array.tobytes()
    if DTYPES[code].kind not in "ce":
        assert np.dtype(view.format) == DTYPES[code]
    same(np.frombuffer(array, DTYPES[code]), np.asarray(array).ravel())
    assert bytes(array) == array.tobytes()
    assert memoryview(make(2.5)).shape == () and memoryview(make(2.5))[()] == 2.5
    with pytest.raises(TypeError, match="not writable"):
        (ctypes.c_char * 1).from_buffer(array)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (5, 1), (2, 3), (0, 3), (1, 2, 1, 3)])
def test_column_major_buffers(shape):
    array, view = arange(*shape), ctypes.create_string_buffer(256)
    formats = (("PyBUF_F_CONTIGUOUS", 0x58), ("PyBUF_C_CONTIGUOUS", 0x38), ("PyBUF_ANY_CONTIGUOUS", 0x98))
    for name, flags in formats:
        try:
            ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(array), view, flags)
        except BufferError:
            given = False
        else:
            given = True
            ctypes.pythonapi.PyBuffer_Release(view)
        assert given == (name != "PyBUF_F_CONTIGUOUS" or np.asarray(array).flags.f_contiguous)
    assert native.array_can_donate(array)


def test_holds_prevent_donation_and_outlive_deletion():
    array = arange(4)
    assert native.array_can_donate(array)
    for view_of in (np.asarray, memoryview, lambda x: x.__array__(), np.from_dlpack, lambda x: x.__dlpack__()):
        view = view_of(array)
        assert not native.array_can_donate(array)
        del view
        assert native.array_can_donate(array)
    part = np.asarray(array)[1:]
    assert not native.array_can_donate(array)
    view = memoryview(array)
    array.delete()
    assert part.tolist() == view.tolist()[1:] == [1, 2, 3]


def test_memory_is_used_without_a_copy_only_where_that_is_safe():
    def pointer(values, **keywords):
        array = native.array_from_numpy(values, **keywords)
        same(array, values)
        return array.unsafe_buffer_pointer() == values.__array_interface__["data"][0]

    writable = np.arange(64, dtype=np.float32)
    read_only = np.arange(64, dtype=np.float32)
    read_only.flags.writeable = False
    view_of_writable = writable.view()
    view_of_writable.flags.writeable = False
    assert not pointer(read_only) and not pointer(read_only, copy=True)
    assert pointer(read_only, copy=None) and pointer(read_only.reshape(8, 8), copy=None)
    assert pointer(read_only[4:], copy=None) and not pointer(read_only[1:], copy=None)  # 16 bytes, 4 bytes
    assert not pointer(writable, copy=None) and not pointer(view_of_writable, copy=None)
    assert not pointer(read_only[::2], copy=None)
    assert not pointer(np.frombuffer(memoryview(bytearray(64)).toreadonly(), np.int8), copy=None)
    assert pointer(writable, copy=False) and pointer(np.zeros((0, 3)), copy=False) is not None
    for bad, reason in [(writable[::2], "dense and row-major"), (writable[1:], "aligned to 16 bytes")]:
        with pytest.raises(ValueError, match=reason):
            native.array_from_numpy(bad, copy=False)
    # A view of one of our arrays comes back as another array of the same buffer.
    array = arange(4)
    for view in (np.asarray(array), array.__array__(), np.asarray(array).reshape(2, 2), np.asarray(memoryview(array))):
        assert native.array_from_numpy(view, copy=None).unsafe_buffer_pointer() == array.unsafe_buffer_pointer()
    assert not native.array_can_donate(native.array_from_numpy(read_only, copy=None))


def test_a_borrowed_ndarray_lives_as_long_as_the_array():
    class Tracked(np.ndarray):
        pass

    values = np.arange(4.0).view(Tracked).copy()
    alive = weakref.ref(values)
    array = native.array_from_numpy(values, copy=False)
    row = native.array_reshaped(array, (2, 2))
    del values, array
    assert alive() is not None and row.tolist() == [[0, 1], [2, 3]]
    del row
    assert alive() is None
    values = np.arange(4.0).view(Tracked).copy()
    alive = weakref.ref(values)
    array = native.array_from_numpy(values, copy=False)
    del values
    thread = threading.Thread(target=array.delete)
    thread.start()
    thread.join()
    assert alive() is None


# --------------------------------------------------------------------------------------------------------- DLPack


@pytest.mark.parametrize("code", range(len(DTYPES)))
def test_dlpack_round_trip(code):
    array = make([[1, 0, 1], [1, 1, 0]], DTYPES[code])
    assert array.__dlpack_device__() == (1, 0)
    if array.dtype.name in ("int4", "uint4"):
        with pytest.raises(BufferError, match="convert to int8 or uint8"):
            array.__dlpack__()
        return
    for capsule in (array.__dlpack__(), array.__dlpack__(max_version=(1, 0)), array.__dlpack__(max_version=(0, 8))):
        back = native.from_dlpack(capsule)
        same(back, array)
        assert back.dtype is array.dtype and back.unsafe_buffer_pointer() == array.unsafe_buffer_pointer()
        with pytest.raises(ValueError, match="consumed already"):
            native.from_dlpack(capsule)
        del back
    assert native.array_can_donate(array)
    copied = native.from_dlpack(array.__dlpack__(copy=True, max_version=(1, 1)))
    assert copied.unsafe_buffer_pointer() != array.unsafe_buffer_pointer()
    same(copied, array)
    same(
        np.asarray(jax.dlpack.from_dlpack(make([1, 0], DTYPES[code]))) if array.itemsize < 8 else array[0, :2],
        array[0, :2],
    )


def test_dlpack_with_numpy_and_jax():
    view = np.from_dlpack(arange(2, 3))
    assert not view.flags.writeable and view.tolist() == [[0, 1, 2], [3, 4, 5]]
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    shared = native.from_dlpack(values)
    assert shared.unsafe_buffer_pointer() == values.ctypes.data and not native.array_can_donate(shared)
    for strided in (values.T, values[:, ::2], values[::-1], values[1:, 1:]):
        same(native.from_dlpack(strided), strided)
        with pytest.raises(ValueError, match="dense and row-major"):
            native.from_dlpack(strided, copy=False)
    with pytest.raises(ValueError, match="aligned to 16 bytes"):
        native.from_dlpack(values.reshape(-1)[1:], copy=False)
    assert native.from_dlpack(values, copy=True).unsafe_buffer_pointer() != values.ctypes.data
    for shape in [(), (0,), (2, 0, 3)]:
        assert native.from_dlpack(np.zeros(shape)).shape == shape
    read_only = np.arange(4.0)
    read_only.flags.writeable = False
    assert native.from_dlpack(read_only).tolist() == [0, 1, 2, 3]
    oracle = jnp.arange(5)
    same(native.from_dlpack(oracle), np.asarray(oracle))
    same(native.from_dlpack(jnp.asarray([1.5], jnp.bfloat16)), np.asarray([1.5], ml_dtypes.bfloat16))


def test_dlpack_lifetimes():
    class Tracked(np.ndarray):
        pass

    values = np.arange(4.0).view(Tracked)
    alive = weakref.ref(values)
    capsule = values.__dlpack__()
    array = native.from_dlpack(capsule)
    del values, capsule
    assert alive() is not None
    array.delete()
    assert alive() is None

    class Old:
        """A producer from before DLPack 1.0."""

        def __dlpack__(self):
            return arange(3).__dlpack__()

    assert native.from_dlpack(Old()).tolist() == [0, 1, 2]


def test_dlpack_errors():
    array = arange(2)
    with pytest.raises(BufferError, match=r"not on dl_device=\(2, 0\)"):
        array.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="no streams"):
        array.__dlpack__(stream=3)
    for name in ("dl_device", "max_version"):
        for value in ([1, 0], 1, (1, 0, 0)):
            with pytest.raises(TypeError, match=f"{name} must be a tuple of two ints"):
                array.__dlpack__(**{name: value})
    with pytest.raises(TypeError, match="neither a DLPack capsule"):
        native.from_dlpack(3)
    with pytest.raises(BufferError):
        native.from_dlpack(np.array(["a"]))


def test_malformed_dlpack_tensors():
    class Tensor(ctypes.Structure):
        _fields_ = (
            *(("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("ndim", ctypes.c_int32)),
            *(("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)),
            *(("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p), ("offset", ctypes.c_uint64)),
            *(("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)),
        )

    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype, new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    memory, extents = ctypes.create_string_buffer(64), (ctypes.c_int64 * 2)(2, 3)
    data, shape = ctypes.addressof(memory), ctypes.addressof(extents)
    tensor = Tensor(data=data, device=(1, 0), code=1, bits=8, lanes=1, shape=shape)

    def imported(**fields):
        for name, value in fields.items():
            setattr(tensor, name, value)
        return native.from_dlpack(new_capsule(ctypes.addressof(tensor), b"dltensor", None), copy=True)

    assert imported(ndim=2).tolist() == [[0, 0, 0]] * 2
    with pytest.raises(ValueError, match="0 to 64 dimensions, got -1"):
        imported(ndim=-1)
    with pytest.raises(ValueError, match="0 to 64 dimensions, got 65"):
        imported(ndim=65)
    with pytest.raises(TypeError, match="lanes=4"):
        imported(ndim=2, lanes=4)
    extents[1] = -3
    with pytest.raises(ValueError, match="dimension 1 of the tensor is negative: -3"):
        imported(lanes=1)


# ------------------------------------------------------------------------------------------------------- allocator


def test_memory_is_aligned_and_reused():
    for nbytes in (0, 1, 63, 64, 65, 1000, 5000, 40000, 65536, 10**6, 3 * 10**6):
        array = native.array_empty((nbytes,), np.uint8)
        pointer = array.unsafe_buffer_pointer()
        assert pointer % (4096 if nbytes >= 65536 else 64) == 0
        ctypes.memset(pointer, 1, nbytes)
        del array
        again = native.array_empty((nbytes,), np.uint8)
        assert again.unsafe_buffer_pointer() == pointer


def test_statistics_and_trim():
    gc.collect()
    native.allocator_trim()
    before = native.allocator_stats()
    arrays = [native.array_empty((n,), np.float32) for n in (1, 1000, 10**5, 10**6)]
    during = native.allocator_stats()
    wanted = sum(array.nbytes for array in arrays)
    assert wanted <= during["bytes_in_use"] - before["bytes_in_use"] <= 1.25 * wanted + 256
    assert during["allocations"] - before["allocations"] == during["blocks_in_use"] - before["blocks_in_use"] == 4
    assert during["peak_bytes_in_use"] >= during["bytes_in_use"]
    del arrays
    after = native.allocator_stats()
    assert after["bytes_in_use"] == before["bytes_in_use"] and after["frees"] - before["frees"] == 4
    assert after["bytes_kept"] >= wanted
    assert native.allocator_trim() >= wanted
    assert native.allocator_stats()["bytes_kept"] == 0 == native.allocator_stats()["blocks_kept"]
    native.allocator_reset_peak()
    assert native.allocator_stats()["peak_bytes_in_use"] == after["bytes_in_use"]
    with pytest.raises(ValueError, match="must not be negative"):
        native.allocator_trim(-1)


def test_keep_limit():
    source = """
        import velax._native as native
        print(native.allocator_stats()["keep_limit"])
        arrays = [native.array_empty((2**20,), "uint8") for _ in range(8)]
        del arrays
        print(native.allocator_stats()["bytes_kept"])
        native.allocator_set_keep_limit(2**21)
        print(native.allocator_stats()["bytes_kept"])
    """
    assert in_new_process(source, VELAX_ALLOCATOR_KEEP_BYTES="4194304").split() == ["4194304", "4194304", "2097152"]
    assert in_new_process(source, VELAX_ALLOCATOR_KEEP_BYTES="0").split()[1] == "0"
    with pytest.raises(AssertionError, match="VELAX_ALLOCATOR_KEEP_BYTES must be a number of bytes"):
        in_new_process(source, VELAX_ALLOCATOR_KEEP_BYTES="lots")


def test_impossible_allocations_name_shape_and_bytes():
    with pytest.raises(MemoryError, match=r"allocating 4000000000000000 bytes .* float32\[1000000,1000000,1000\]"):
        native.array_empty((10**6, 10**6, 10**3), "float32")
    with pytest.raises(MemoryError, match=r"float32\[4611686018427387904,4\].*64-bit address space"):
        native.array_empty((2**62, 4), "float32")
    assert native.array_empty((2**62, 2**62, 0), "float32").nbytes == 0


def test_nothing_leaks():
    array = arange(3, 4)
    scalar = make(2, np.int32)

    def use_everything():
        views = [array[0], array[None], array[:, ::2], *array, np.asarray(array), memoryview(array), array.__array__()]
        views += [
            native.from_dlpack(array),
            np.from_dlpack(array),
            array.__dlpack__(),
            pickle.loads(pickle.dumps(array)),
        ]
        views += [copy.copy(array), native.array_from_scalar(2.0, "bfloat16"), array.tolist(), repr(array), f"{scalar}"]
        views += [native.array_from_numpy(np.asarray(array), copy=None), array.shape, array.dtype, int(scalar)]
        views += [native.array_from_numpy(np.ones(3), copy=False), native.array_from_scalar(np.float32(2), "float32")]
        for bad in ((2,), (0, "a")):
            with pytest.raises((TypeError, ValueError)):
                native.array_reshaped(array, bad)

    use_everything()
    gc.collect()
    counts = [sys.getrefcount(x) for x in (array, scalar, array.dtype, array.shape, native.ArrayImpl, True)]
    before = native.allocator_stats()
    for _ in range(200):
        use_everything()
    gc.collect()
    after = native.allocator_stats()
    assert after["bytes_in_use"] == before["bytes_in_use"] and after["blocks_in_use"] == before["blocks_in_use"]
    now = [sys.getrefcount(x) for x in (array, scalar, array.dtype, array.shape, native.ArrayImpl, True)]
    assert all(abs(new - old) < 20 for new, old in zip(now, counts, strict=True)), (counts, now)
    assert native.array_can_donate(array)


def test_threads_share_the_allocator():
    failures = []
    kept = []
    before = native.allocator_stats()["blocks_in_use"]

    def work(seed):
        random = np.random.default_rng(seed)
        mine = []
        for n in random.integers(1, 20000, 400):
            values = np.full(n, seed, np.int32)
            mine.append((native.array_from_numpy(values), n))
            if len(mine) > 20:
                array, size = mine.pop(random.integers(len(mine)))
                if not (np.asarray(array) == seed).all() or array.size != size:
                    failures.append(seed)
        kept.extend(mine)  # freed by another thread

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    kept.clear()
    assert native.allocator_stats()["blocks_in_use"] == before


def test_fork():
    in_new_process("""
        import os, threading
        import numpy as np
        import velax._native as native

        stop = False
        def churn():
            while not stop:
                native.array_from_numpy(np.ones(30000))
        thread = threading.Thread(target=churn)
        thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                arrays = [native.array_from_numpy(np.ones(n)) for n in (1, 100, 10000, 1000000)]
                ok = all((np.asarray(a) == 1).all() for a in arrays)
                native.allocator_trim()
                os._exit(0 if ok else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop = True
        thread.join()
    """)
