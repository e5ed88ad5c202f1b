// The executor: runs a program over arrays. C++ callers (the jit call path) use `execute` directly.
#pragma once
#include <Python.h>

#include <cstddef>

namespace velax {

struct ArrayImpl;
struct AvalInfo;
struct Executable;  // a Python object (heap type `velax._native.Executable`)

extern PyTypeObject* executable_type;

inline bool is_executable(PyObject* o) { return Py_TYPE(o) == executable_type; }
size_t num_inputs(const Executable* e);
size_t num_outputs(const Executable* e);
// The avals that inputs must have, and those that outputs get; `num_inputs` and `num_outputs` of them.
AvalInfo* const* input_avals(const Executable* e);
AvalInfo* const* output_avals(const Executable* e);

// Runs `e` over `n` arrays and writes `num_outputs(e)` new references (ArrayImpl) to `outputs`.
// Call with the GIL; it is released inside for programs whose estimated work makes that pay, and for loops.
// The caller keeps the inputs alive. Inputs are checked against the avals by pointer, then by dtype and shape (weak
// types need not agree). Returns false with a Python exception set; then no output was written. A donated input is
// deleted exactly when its memory went into an output (ALIAS or FORWARD), which needs that nobody else refers to it
// and that it is not passed for another input as well; a failed program may have consumed its donated inputs.
// Outputs are on the device of the first input and committed if any input is. Re-entrant, and thread-safe. Only
// executions on the main thread are interruptible.
bool execute(Executable* e, ArrayImpl* const* inputs, size_t n, PyObject** outputs);

}  // namespace velax
