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
// types need not agree); those that the program reads must not be deleted. Returns false with a Python exception set;
// then no output was written.
// A donated input that the program reads is deleted if an output is as large (see find_consumed), whether or not that
// output took its memory over (see program.h): but not while somebody views its memory, nor where it is passed for
// another input as well. A failed program may have consumed its donated inputs.
// Outputs are on the device of the first input and committed if any input is. Re-entrant, and thread-safe. Only
// executions on the main thread are interruptible.
bool execute(Executable* e, ArrayImpl* const* inputs, size_t n, PyObject** outputs);

}  // namespace velax
