// What each room of the native core adds to the module.
#pragma once
#include <nanobind/nanobind.h>

namespace velax {
void bind_pytree(nanobind::module_& m);   // pytree*.cc: tree_util
void bind_array(nanobind::module_& m);    // array*.cc, buffer.cc, dlpack.cc: ArrayImpl and its memory
void bind_runtime(nanobind::module_& m);  // pool.cc, loader.cc, executor.cc, program.cc
void bind_state(nanobind::module_& m);    // state.cc: thread-local trace and configuration
void bind_stamp(nanobind::module_& m);    // stamp.cc: the files that caches know the package by
void bind_source(nanobind::module_& m);   // source.cc: where in the user's program an operation is traced
void bind_jit(nanobind::module_& m);      // jit.cc: the call path of jitted functions
}  // namespace velax
