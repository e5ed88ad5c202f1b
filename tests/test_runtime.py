"""The executor: instructions, memory, errors and callbacks."""

import gc
import weakref

import numpy as np
import pytest
from native_kernels import needs_compiler
from runtime_kernels import IN_OUT, F16x, array, aval, callback_program, load_kernels, make, nbytes

import velax
from velax import _native
from velax._ir.program import Call, Callback, Cond, Copy, Launch, Loop, Output, Program, Slot, Swap, While, encode

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def kernels():
    return load_kernels()


@pytest.fixture
def one_launch(kernels):
    return make(kernels, ["add_one"], [F16x], [F16x], IN_OUT, (Launch(0, (0, 1), (), 16, 16),), work=10)


# ---------------------------------------------------------------------------------------------------- instructions


def test_launch(one_launch):
    x = np.arange(16, dtype=np.float32)
    y = one_launch(array(x))
    np.testing.assert_array_equal(np.asarray(y), x + 1)
    (z,) = one_launch.execute([array(x)])
    assert isinstance(z, _native.ArrayImpl)
    np.testing.assert_array_equal(np.asarray(z), x + 1)
    assert "1 kernels" in repr(one_launch)
    assert (one_launch.num_inputs, one_launch.num_outputs, one_launch.num_instructions) == (1, 1, 1)
    assert not one_launch.releases_gil and one_launch.work == 10
    assert [k.name for k in one_launch.kernels] == ["add_one"]


def test_zero_outputs_and_zero_total(kernels):
    e = make(kernels, ["fail_with"], [F16x], [], (Slot.input(0, 64),), (Launch(0, (), (5, 0), 0, 1),))
    assert e(array(np.zeros(16))) == ()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_chunks_do_not_depend_on_threads(kernels, threads):
    n, grain = 100_003, 1000
    chunks = -(-n // grain)
    a, b = aval((n,)), aval((chunks,))
    slots = Slot.input(0, 4 * n), Slot.output(0, 4 * chunks)
    e = make(kernels, ["chunk_sums"], [a], [b], slots, (Launch(0, (0, 1), (grain, threads), n, grain),))
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    before = _native.num_threads()
    try:
        _native.set_num_threads(threads)
        assert _native.num_threads() == threads
        result = np.asarray(e(array(x))).copy()
    finally:
        _native.set_num_threads(before)
    expected = [np.add.accumulate(x[i : i + grain])[-1] for i in range(0, n, grain)]
    np.testing.assert_array_equal(result, np.asarray(expected, np.float32))


def test_copy_and_literal(kernels):
    slots = Slot.input(0, 64), Slot.output(0, 64), Slot.literal(8, 8)
    block = Copy(1, 0, 0, 0, 64), Copy(1, 4, 2, 0, 8), Copy(1, 16, 1, 20, 32)
    literals = np.asarray([1, 2, 3, 4], np.float32).tobytes()
    e = make(kernels, [], [F16x], [F16x], slots, block, literals=literals)
    x = np.arange(100, 116, dtype=np.float32)
    expected = x.copy()
    expected[1:3] = [3, 4]
    expected[4:12] = expected[5:13].copy()
    np.testing.assert_array_equal(np.asarray(e(array(x))), expected)


def test_large_copy(kernels):
    a = aval((3_000_001,))
    size = nbytes(a)
    e = make(kernels, [], [a], [a], (Slot.input(0, size), Slot.output(0, size)), (Copy(1, 0, 0, 0, size),))
    x = np.random.default_rng(1).standard_normal(a[0]).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(e(array(x))), x)


@pytest.mark.parametrize("trips", [0, 1, 2, 7])
def test_swap(kernels, trips):
    """Two buffers that trade places: a <- b + 1 with the roles exchanged each time."""
    slots = Slot.input(0, 64), Slot.output(0, 64), Slot.arena(0, 64), Slot.arena(64, 64), Slot.arena(128, 8)
    e = make(
        kernels, ["add_one"], [F16x], [F16x], slots,
        (Copy(2, 0, 0, 0, 64), Loop(trips, 4, 1), Copy(1, 0, 2, 0, 64)),
        (Launch(0, (2, 3), (), 16, 16), Swap(2, 3)),
        arena_bytes=192,
    )  # fmt: skip
    for _ in range(2):  # the swaps of one execution are not seen by the next
        np.testing.assert_array_equal(np.asarray(e(array(np.zeros(16)))), np.full(16, trips, np.float32))


@pytest.mark.parametrize("reverse", [False, True])
def test_loop_counter(kernels, reverse):
    out = aval((5,), np.int64)
    slots = Slot.output(0, 40), Slot.arena(0, 8), Slot.arena(64, 8), Slot.literal(0, 8)
    e = make(
        kernels, ["record"], [], [out], slots,
        (Copy(2, 0, 3, 0, 8), Loop(5, 1, 1, reverse)), (Launch(0, (2, 0, 1), (10,), 1, 1),),
        arena_bytes=128, literals=bytes(8),
    )  # fmt: skip
    expected = np.zeros(5, np.int64)
    total = 0
    for i in range(5)[:: -1 if reverse else 1]:
        expected[i] = total
        total += 10 + i
    np.testing.assert_array_equal(np.asarray(e()), expected)


def test_while(kernels):
    """total += 10 while total < 35"""
    out = aval((), np.int64)
    slots = Slot.output(0, 8), Slot.arena(0, 1), Slot.arena(64, 8), Slot.literal(0, 8), Slot.arena(128, 8)
    e = make(
        kernels, ["less", "record"], [], [out], slots,
        (Copy(0, 0, 3, 0, 8), Copy(2, 0, 3, 0, 8), While(1, 1, 2)),
        (Launch(0, (0, 1), (35,), 1, 1),),
        (Launch(1, (0, 4, 2), (10,), 1, 1),),
        arena_bytes=192, literals=bytes(8),
    )  # fmt: skip
    assert int(np.asarray(e())) == 40
    assert e.releases_gil


@pytest.mark.parametrize("index", [-(2**31), -1, 0, 1, 2, 3, 2**31 - 1])
def test_cond_clamps(kernels, index):
    i, o = aval((), np.int32), aval((), np.int32)
    slots = Slot.input(0, 4), Slot.output(0, 4), Slot.literal(0, 4), Slot.literal(4, 4), Slot.literal(8, 4)
    branches = tuple((Copy(1, 0, 2 + k, 0, 4),) for k in range(3))
    literals = np.asarray([100, 101, 102], np.int32).tobytes()
    e = make(kernels, [], [i], [o], slots, (Cond(0, (1, 2, 3)),), *branches, literals=literals)
    assert int(np.asarray(e(array(index, np.int32)))) == 100 + min(max(index, 0), 2)


def test_call(kernels):
    slots = IN_OUT
    program = Program((64,), (Output.fresh(64),), slots, ((Call(0, (0, 1), (4, 4)),),), functions=("velax_sort_f32",))
    e = _native.Executable(encode(program), [], [], [F16x], [F16x])
    x = np.random.default_rng(2).standard_normal((16,)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(e(array(x))), np.sort(x.reshape(4, 4)).ravel())


def test_call_is_checked():
    program = Program((64,), (), (Slot.input(0, 64),), ((Call(0, (0,), ()),),), functions=("velax_sort_f32",))
    with pytest.raises(ValueError, match="takes 2 buffers and 2 params, got 1 and 0"):
        _native.Executable(encode(program), [], [], [F16x], [])
    program = Program((), (), (), ((),), functions=("velax_no_such",))
    with pytest.raises(ValueError, match="there is no library function 'velax_no_such'"):
        _native.Executable(encode(program), [], [], [], [])
    assert _native.has_library_function("velax_sort_bf16") and not _native.has_library_function("velax_no_such")


def test_scratch(kernels):
    e = make(kernels, ["fill_scratch"], [], [], (), (Launch(0, (), (100_000,), 8, 1),), scratch_bytes=100_000)
    for _ in range(5):
        assert e() == ()


# ---------------------------------------------------------------------------------------------------- memory


def pointer(a):
    return np.asarray(a).__array_interface__["data"][0]


def test_forward(kernels):
    e = make(kernels, [], [F16x], [F16x, F16x], (), (), outputs=(Output.forward(0, 64),) * 2)
    x = array(np.arange(16))
    y, z = e(x)
    assert pointer(x) == pointer(y) == pointer(z)


def alias_program(kernels, donated):
    """output0 = input0 with one added in place; output1 = input0 as the program sees it afterwards."""
    slots = Slot.input(0, 64), Slot.output(0, 64), Slot.output(1, 64)
    return make(
        kernels, ["add_one"], [F16x], [F16x, F16x], slots, (Launch(0, (1, 1), (), 16, 16), Copy(2, 0, 0, 0, 64)),
        outputs=(Output.alias(0, 64), Output.fresh(64)), donated=donated, work=5,
    )  # fmt: skip


@pytest.mark.parametrize("donated", [(), (0,)])
def test_alias_means_the_same_with_and_without_donation(kernels, donated):
    e = alias_program(kernels, donated)
    assert e.donated == donated
    values = np.arange(16, dtype=np.float32)
    x = array(values)
    y, seen = e(x)
    np.testing.assert_array_equal(np.asarray(y), values + 1)
    np.testing.assert_array_equal(np.asarray(seen), values + 1)
    if donated:
        with pytest.raises(RuntimeError, match="deleted"):
            np.asarray(x)
        with pytest.raises(RuntimeError, match="deleted"):
            e(x)
    else:
        np.testing.assert_array_equal(np.asarray(x), values)


def test_donation_reuses_memory(kernels):
    e = make(kernels, ["add_one"], [F16x], [F16x], IN_OUT, (Launch(0, (1, 1), (), 16, 16),),
             outputs=(Output.alias(0, 64),), donated=(0,))  # fmt: skip
    x = array(np.zeros(16))
    where = pointer(x)
    x = e(x)
    for _ in range(3):
        x = e(x)
    assert pointer(x) == where
    np.testing.assert_array_equal(np.asarray(x), np.full(16, 4))


def test_donation_of_memory_that_is_viewed_copies(kernels):
    e = alias_program(kernels, (0,))
    x = array(np.arange(16))
    view = np.asarray(x)
    y, _ = e(x)
    np.testing.assert_array_equal(view, np.arange(16))
    np.testing.assert_array_equal(np.asarray(x), np.arange(16))
    np.testing.assert_array_equal(np.asarray(y), np.arange(16) + 1)


def test_donated_arrays_are_deleted_in_exchange_for_outputs(kernels):
    """Whether or not the program takes their memory over: one for each output of the same shape and dtype."""
    slots = *(Slot.input(k, 64) for k in range(3)), Slot.output(0, 64), Slot.output(1, 64)
    copies = Copy(3, 0, 0, 0, 64), Copy(4, 0, 1, 0, 64)
    e = make(kernels, [], [F16x] * 4, [F16x, F16x], slots, copies, donated=(0, 1, 2, 3), work=5,
             outputs=(Output.fresh(64), Output.fresh(64)))  # fmt: skip
    x, y, z, unread = (array(np.full(16, k)) for k in range(4))
    out, _ = e(x, y, z, unread)
    assert x.is_deleted() and y.is_deleted() and not z.is_deleted() and not unread.is_deleted()
    np.testing.assert_array_equal(np.asarray(out), np.zeros(16))
    np.testing.assert_array_equal(np.asarray(out), np.zeros(16))
    shared = array(np.ones(16))
    [seen] = make(kernels, [], [F16x], [F16x], (), (), outputs=(Output.forward(0, 64),)).execute([shared])
    unread.delete()
    e(shared, array(np.zeros(16)), z, unread)
    assert shared.is_deleted() and not z.is_deleted()
    np.testing.assert_array_equal(np.asarray(seen), np.ones(16))


def test_donation_of_an_array_passed_twice_copies(kernels):
    slots = Slot.output(0, 64), Slot.input(1, 64), Slot.output(1, 64)
    e = make(
        kernels, ["add_one"], [F16x, F16x], [F16x, F16x], slots, (Launch(0, (0, 0), (), 16, 16), Copy(2, 0, 1, 0, 64)),
        outputs=(Output.alias(0, 64), Output.fresh(64)), donated=(0,),
    )  # fmt: skip
    x = array(np.zeros(16))
    y, z = e(x, x)
    np.testing.assert_array_equal(np.asarray(y), np.ones(16))
    np.testing.assert_array_equal(np.asarray(z), np.zeros(16))
    np.testing.assert_array_equal(np.asarray(x), np.zeros(16))


def test_donation_of_a_forwarded_input(kernels):
    e = make(kernels, ["add_one"], [F16x], [F16x, F16x], (Slot.output(0, 64),), (Launch(0, (0, 0), (), 16, 16),),
             outputs=(Output.alias(0, 64), Output.forward(0, 64)), donated=(0,))  # fmt: skip
    x = array(np.zeros(16))
    y, z = e(x)
    np.testing.assert_array_equal(np.asarray(y), np.ones(16))
    np.testing.assert_array_equal(np.asarray(z), np.zeros(16))
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(x)


def test_nothing_leaks(kernels, one_launch):
    loop = make(kernels, ["add_one"], [F16x], [F16x], IN_OUT + (Slot.arena(0, 8),), (Loop(3, 2, 1),),
                (Launch(0, (0, 1), (), 16, 16),), arena_bytes=1 << 16)  # fmt: skip
    x = array(np.zeros(16))

    def use():
        for e in (one_launch, loop, alias_program(kernels, (0,))):
            for _ in range(50):
                e(_native.array_copy(x))

    use()
    before = _native.allocator_stats()["bytes_in_use"]
    use()
    assert _native.allocator_stats()["bytes_in_use"] == before


# ------------------------------------------------------------------------------------------------------- errors


def test_wrong_inputs(one_launch):
    with pytest.raises(TypeError, match="takes 1 arrays, got 2"):
        one_launch(array(np.zeros(16)), array(np.zeros(16)))
    with pytest.raises(TypeError, match=r"argument 0 of this executable must be float32\[16\], got float32\[4\]"):
        one_launch(array(np.zeros(4)))
    with pytest.raises(TypeError, match=r"must be float32\[16\], got int32\[16\]"):
        one_launch(array(np.zeros(16), np.int32))
    with pytest.raises(TypeError, match=r"must be an array, got numpy\.ndarray"):
        one_launch(np.zeros(16, np.float32))
    with pytest.raises(TypeError, match="no keyword"):
        one_launch(x=1)


def test_weak_type_of_inputs_does_not_matter(one_launch):
    x = _native.array_with_weak_type(array(np.zeros(16)), True)
    np.testing.assert_array_equal(np.asarray(one_launch(x)), np.ones(16))


def test_constructor_checks(kernels):
    data = encode(Program((64,), (Output.fresh(64),), (), ((),), kernels=("add_one",)))
    kernel = kernels.symbol("add_one")
    with pytest.raises(ValueError, match="the program has 1 kernels, but 0 were given"):
        _native.Executable(data, [], [], [F16x], [F16x])
    with pytest.raises(TypeError, match="kernel 0 must be a LoadedKernel, got int"):
        _native.Executable(data, [3], [], [F16x], [F16x])
    with pytest.raises(ValueError, match="1 inputs and 1 outputs, the avals are for 2 and 1"):
        _native.Executable(data, [kernel], [], [F16x, F16x], [F16x])
    with pytest.raises(ValueError, match=r"output 0 is float32\[8\], but the program gives it 64 bytes"):
        _native.Executable(data, [kernel], [], [F16x], [aval((8,))])
    with pytest.raises(ValueError, match="donated must list indices of the 1 inputs, got 1"):
        _native.Executable(data, [kernel], [], [F16x], [F16x], donated=(1,))
    with pytest.raises(ValueError, match="got True"):
        _native.Executable(data, [kernel], [], [F16x], [F16x], donated=(True,))
    with pytest.raises(ValueError, match="program has 0 callbacks, but 1 were given"):
        _native.Executable(data, [kernel], [(print, [], [])], [F16x], [F16x])
    with pytest.raises(TypeError, match="an aval is"):
        _native.Executable(data, [kernel], [], [(16, np.float32)], [F16x])


@pytest.mark.parametrize("through_slot", [0, 1])
@pytest.mark.parametrize("total", [1, 64])
def test_kernel_error(kernels, through_slot, total):
    e = make(kernels, ["fail_with"], [], [], (), (Launch(0, (), (77, through_slot), total, 1),))
    with pytest.raises(RuntimeError, match="kernel fail_with stopped with code 77"):
        e()


def test_kernel_out_of_memory(kernels):
    e = make(kernels, ["fail_with"], [], [], (), (Launch(0, (), (2, 0), 1, 1),))
    with pytest.raises(MemoryError, match="kernel fail_with"):
        e()


def test_arena_that_cannot_be_had(kernels):
    e = make(kernels, [], [], [], (), (), arena_bytes=1 << 45)
    with pytest.raises(MemoryError):
        e()


# ------------------------------------------------------------------------------------------------------ callbacks


@pytest.mark.parametrize("work", [-1, 1])
@pytest.mark.parametrize("kind", ["array", "ndarray", "list"])
def test_callback(kernels, kind, work):
    seen = []

    def function(x):
        assert isinstance(x, _native.ArrayImpl)
        seen.append(x)
        y = np.asarray(x) + np.float32(10)
        return ({"array": array, "ndarray": np.asarray, "list": lambda v: v}[kind](y),)

    e = callback_program(kernels, function, work)
    values = np.arange(16, dtype=np.float32)
    for k in range(2):
        np.testing.assert_array_equal(np.asarray(e(array(values + k))), (values + k + 11) * 2)
    # What a callback was given stays as it was.
    np.testing.assert_array_equal(np.asarray(seen[0]), values + 1)


@pytest.mark.parametrize("work", [-1, 1])
def test_callback_exception(kernels, work):
    error = ValueError("three is too many")

    def function(x):
        raise error

    e = callback_program(kernels, function, work)
    with pytest.raises(RuntimeError, match="a host callback raised ValueError: three is too many") as info:
        e(array(np.zeros(16)))
    assert info.value.__cause__ is error
    assert "function" in [entry.name for entry in info.traceback[-1:]] or error.__traceback__ is not None


def test_callback_keyboard_interrupt_passes(kernels):
    def function(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        callback_program(kernels, function)(array(np.zeros(16)))


def test_registered_error_type(kernels):
    class OurError(RuntimeError):
        pass

    e = callback_program(kernels, lambda x: 1 / 0)
    try:
        _native.set_runtime_error_type(OurError)
        with pytest.raises(OurError, match="ZeroDivisionError: division by zero"):
            e(array(np.zeros(16)))
    finally:
        _native.set_runtime_error_type(velax.errors.JaxRuntimeError)
    with pytest.raises(TypeError, match="subclass of Exception"):
        _native.set_runtime_error_type(int)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda x: (), "must return 1 results, got 0"),
        (lambda x: 3, "must return a sequence"),
        (lambda x: None, "must return a sequence"),
        (lambda x: [np.zeros(4, np.float32)], r"result 0 of the callback must be float32\[16\], got float32\[4\]"),
        (lambda x: [np.zeros(16)], r"must be float32\[16\], got float64\[16\]"),
    ],
)
def test_callback_results_are_checked(kernels, result, text):
    with pytest.raises(RuntimeError, match=text):
        callback_program(kernels, result)(array(np.zeros(16)))


def test_callback_slots_are_checked(kernels):
    slots = Slot.input(0, 64), Slot.arena(0, 32)
    program = Program((64,), (), slots, ((Callback(0, (0,), (1,)),),), callbacks=1, arena_bytes=64)
    with pytest.raises(ValueError, match="slot 1 has 32 bytes"):
        _native.Executable(encode(program), [], [(print, [F16x], [F16x])], [F16x], [])
    with pytest.raises(ValueError, match="has 2 inputs and 1 outputs, the program passes 1 and 1"):
        _native.Executable(encode(program), [], [(print, [F16x, F16x], [F16x])], [F16x], [])


def test_callback_runs_programs(kernels, one_launch):
    n = 50_000
    big = aval((n,))
    parallel = make(kernels, ["add_one"], [big], [big], (Slot.input(0, 4 * n), Slot.output(0, 4 * n)),
                    (Launch(0, (0, 1), (), n, 500),))  # fmt: skip

    def function(x):
        np.testing.assert_array_equal(np.asarray(parallel(array(np.zeros(n)))), np.ones(n))
        return [inner(x) if depth.pop() else one_launch(x)]

    inner = callback_program(kernels, function)
    depth = [False, True, True]
    # ((0 + 1, +1, + 1 -> +1 innermost) * 2) * 2) * 2
    np.testing.assert_array_equal(np.asarray(inner(array(np.zeros(16)))), np.full(16, 4 * 2 * 2 * 2))


def test_callback_may_drop_the_executable(kernels):
    box = []

    def function(x):
        box.clear()
        return [x]

    box.append(callback_program(kernels, function))
    np.testing.assert_array_equal(np.asarray(box[0](array(np.zeros(16)))), np.full(16, 2))


def test_callback_cycle_is_collected(kernels):
    class Owner:
        def call(self, x):
            return [x]

    owner = Owner()
    owner.executable = callback_program(kernels, owner.call)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
