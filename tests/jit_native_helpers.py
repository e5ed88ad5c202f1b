"""Stand-ins for the compiler in tests of the native call path: programs of one small kernel, and `miss` callbacks."""

import types

import llvmlite.binding as llvm
import numpy as np
import pytest

from velax import _native
from velax._ir.program import Launch, Output, Program, Slot, encode

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)


def kernel_source(name, operation, count):
    """LLVM IR of `out[i] = operation(in_0[i], ..., in_count[i])` over f32; buffers: inputs, then the output."""
    loads = "".join(
        f"  %p{k} = getelementptr ptr, ptr %buffers, i64 {k}\n  %b{k} = load ptr, ptr %p{k}\n" for k in range(count + 1)
    )
    reads = "".join(
        f"  %q{k} = getelementptr float, ptr %b{k}, i64 %i\n  %x{k} = load float, ptr %q{k}\n" for k in range(count)
    )
    return f"""
define i32 @{name}(ptr %ctx, ptr %buffers, ptr %extents, i64 %lo, i64 %hi) {{
entry:
{loads}  %any = icmp slt i64 %lo, %hi
  br i1 %any, label %body, label %done
body:
  %i = phi i64 [%lo, %entry], [%next, %body]
{reads}  %y = {operation}
  %qy = getelementptr float, ptr %b{count}, i64 %i
  store float %y, ptr %qy
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %body, label %done
done:
  ret i32 0
}}
"""


def load_kernels():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    source = (
        kernel_source("add", "fadd float %x0, %x1", 2)
        + kernel_source("mul", "fmul float %x0, %x1", 2)
        + kernel_source("increment", "fadd float %x0, 1.0", 1)
        + "define i32 @fail(ptr %ctx, ptr %buffers, ptr %extents, i64 %lo, i64 %hi) {\n  ret i32 77\n}\n"
    )
    module = llvm.parse_assembly(source)
    machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="small")
    loaded = _native.load_object(machine.emit_object(module))
    return {name: loaded.symbol(name) for name in ("add", "mul", "increment", "fail")}


KERNELS = load_kernels()


def aval(shape, dtype=F32, weak=False):
    return types.SimpleNamespace(shape=tuple(shape), dtype=np.dtype(dtype), weak_type=weak)


def elementwise(kernel, arity, shape, *, donated=(), work=100):
    """An executable of one kernel over f32 arrays of one shape."""
    size = int(np.prod(shape))
    program = Program(
        inputs=(4 * size,) * arity,
        outputs=(Output.alias(donated[0], 4 * size) if donated else Output.fresh(4 * size),),
        slots=(*(Slot.input(k, 4 * size) for k in range(arity)), Slot.output(0, 4 * size)),
        blocks=((Launch(0, tuple(range(arity + 1)), (), size, max(size, 1)),),),
        kernels=(kernel,),
        work=work,
    )
    return _native.Executable(
        encode(program), [KERNELS[kernel]], [], [aval(shape)] * arity, [aval(shape)], list(donated)
    )


def forward(infos):
    """An executable that returns its inputs."""
    sizes = [int(np.prod(a.shape)) * a.dtype.itemsize for a in infos]
    outputs = tuple(Output.forward(k, size) for k, size in enumerate(sizes))
    program = Program(inputs=tuple(sizes), outputs=outputs, slots=(), blocks=((),), work=100)
    return _native.Executable(encode(program), [], [], infos, infos, [])


def array(values, dtype=F32):
    """An ArrayImpl of these values."""
    values = np.asarray(values, dtype)
    return IDENTITY(values)


def identity_miss(self, args, kwargs):
    [x] = args
    return _native.JitEntry(forward([aval(x.shape, x.dtype)]), out_tree=LEAF)


def no_slow(self, args, kwargs):
    raise AssertionError(f"unexpected call of the slow path with {args} {kwargs}")


LEAF = _native.tree_structure(0)
IDENTITY = _native.JitFunction(lambda x: x, identity_miss, no_slow)


@pytest.fixture(name="x")
def vector():
    return array([1.0, 2.0, 3.0])


@pytest.fixture(name="config")
def local_config():
    """Sets a configuration override for the test."""
    yield _native.swap_local_config
    _native.swap_local_config(None, 0)


class Miss:
    """A `miss` callback that calls `make(leaves)` with the flattened dynamic arguments, and keeps the calls."""

    def __init__(self, make):
        self.make = make
        self.calls = []

    def __call__(self, function, args, kwargs):
        self.calls.append((args, kwargs))
        static = {i % len(args) for i in function._static_argnums if args}
        args = [value for i, value in enumerate(args) if i not in static]
        kwargs = {name: value for name, value in kwargs.items() if name not in function._static_argnames}
        return self.make(_native.tree_leaves((args, kwargs)))


def add_entry(leaves):
    return _native.JitEntry(elementwise("add", 2, np.shape(leaves[0])), out_tree=LEAF)


def increment_entry(leaves):
    return _native.JitEntry(elementwise("increment", 1, np.shape(leaves[-1])), out_tree=LEAF)


def forward_entry(leaves):
    """Returns the list of the leaves as arrays."""
    with_x64 = bool(_native.config_flags() & 1)
    infos = []
    for leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        weak = dtype is None and not isinstance(leaf, bool)
        if dtype is None:
            kinds = {bool: "?", int: "i8", float: "f8", complex: "c16"}
            dtype = np.dtype(next(code for kind, code in kinds.items() if isinstance(leaf, kind)))
        if not with_x64 and not isinstance(leaf, _native.ArrayImpl):
            narrow = {"int64": "i4", "uint64": "u4", "float64": "f4", "complex128": "c8"}
            dtype = np.dtype(narrow.get(dtype.name, dtype))
        infos.append(aval(np.shape(leaf), dtype, weak))
    return _native.JitEntry(forward(infos))


def jit(make, slow=no_slow, fun=None, **options):
    miss = Miss(make)
    return _native.JitFunction(fun or (lambda *args: None), miss, slow, **options), miss


def slow_marker(self, args, kwargs):
    return ("slow", args, kwargs)
