"""Programs made by hand over kernels compiled from C, for tests of the executor."""

import numpy as np
from native_kernels import compile_c

from velax import _native
from velax._ir.program import Callback, Launch, Loop, Output, Program, Slot, While, encode
from velax._ir.program_check import verify

KERNELS = r"""
int32_t add_one(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  const float* x = b[0]; float* y = b[1];
  for (int64_t i = lo; i < hi; i++) y[i] = x[i] + 1;
  return 0;
}
int32_t double_it(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  const float* x = b[0]; float* y = b[1];
  for (int64_t i = lo; i < hi; i++) y[i] = x[i] * 2;
  return 0;
}
/* y[counter] = x[0]; x[0] += extents[0] */
int32_t record(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  int64_t* total = b[0]; int64_t* y = b[1]; int64_t counter = *(int64_t*)b[2];
  y[counter] = *total; *total += e[0] + counter;
  return 0;
}
int32_t less(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  *(uint8_t*)b[1] = *(int64_t*)b[0] < e[0];
  return 0;
}
int32_t chunk_sums(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  const float* x = b[0]; float* y = b[1]; float sum = 0;
  for (int64_t i = lo; i < hi; i++) sum += x[i];
  y[lo / e[0]] = sum;
  if (c->thread_id < 0 || c->thread_id >= e[1]) return 9;
  return 0;
}
int32_t fail_with(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  if (e[1]) { *c->error = (int32_t)e[0]; return 0; }
  return (int32_t)e[0];
}
int32_t fill_scratch(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  if (((uintptr_t)c->scratch & 63) || c->scratch_bytes < e[0]) return 8;
  uint8_t* s = c->scratch;
  for (int64_t i = 0; i < e[0]; i++) s[i] = (uint8_t)lo;
  for (int64_t i = 0; i < e[0]; i++) if (s[i] != (uint8_t)lo) return 7;
  return 0;
}
int32_t spin(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  for (;;) if (*c->interrupt) return 1;
}
int32_t work(Ctx* c, void** b, const int64_t* e, int64_t lo, int64_t hi) {
  volatile double x = 0;
  for (int64_t i = 0; i < e[0]; i++) x += 1;
  return 0;
}
"""


def load_kernels():
    return _native.load_object(compile_c(KERNELS))


def array(values, dtype=np.float32):
    return _native.array_from_numpy(np.asarray(values, dtype))


def aval(shape, dtype=np.float32, weak=False):
    return shape, np.dtype(dtype), weak


def nbytes(a):
    return int(np.prod(a[0], dtype=np.int64)) * a[1].itemsize


def make(kernels, names, in_avals, out_avals, slots, *blocks, outputs=None, callbacks=(), donated=(), **fields):
    """An executable of these blocks; outputs are fresh unless told."""
    outputs = outputs or tuple(Output.fresh(nbytes(a)) for a in out_avals)
    inputs = tuple(map(nbytes, in_avals))
    program = Program(inputs, outputs, slots, blocks, kernels=tuple(names), callbacks=len(callbacks), **fields)
    verify(program)
    code = [kernels.symbol(n) for n in names]
    return _native.Executable(encode(program), code, callbacks, in_avals, out_avals, donated)


F16x = aval((16,))
IN_OUT = (Slot.input(0, 64), Slot.output(0, 64))


def callback_program(kernels, function, work=-1):
    """out = double(callback(x + 1))"""
    slots = Slot.input(0, 64), Slot.output(0, 64), Slot.arena(0, 64), Slot.arena(64, 64)
    block = Launch(0, (0, 2), (), 16, 16), Callback(0, (2,), (3,)), Launch(1, (3, 1), (), 16, 16)
    return make(kernels, ["add_one", "double_it"], [F16x], [F16x], slots, block, arena_bytes=128,
                callbacks=[(function, [F16x], [F16x])], work=work)  # fmt: skip


def forever(kernels, how):
    slots = (Slot.arena(0, 8), Slot.literal(0, 8))
    fields = dict(arena_bytes=64, literals=b"\1" + bytes(7))
    if how == "kernel":
        return make(kernels, ["spin"], [], [], slots, (Launch(0, (), (), 1, 1),), **fields)
    if how == "chunks":
        return make(kernels, ["work"], [], [], slots, (Launch(0, (), (10_000_000,), 1 << 40, 1),), **fields)
    if how == "loop":
        return make(kernels, ["work"], [], [], slots, (Loop(1 << 60, 0, 1),), (Launch(0, (), (100,), 1, 1),), **fields)
    return make(kernels, [], [], [], slots, (While(1, 1, 1),), (), **fields)
