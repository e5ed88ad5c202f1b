// Library functions: native routines that programs run through CALL, by name. They run without the GIL and may use the
// pool. Rows are always contiguous; a caller with another axis transposes first.
//
// <dtype> below is any short name of dtypes.h: bool i8 i16 i32 i64 u8 u16 u32 u64 f16 bf16 f32 f64 c64 c128 f8e4m3fn
// f8e5m2 i4 u4.
//
// Order: integers by value (i4, u4 one value a byte), floats with -0 equal to +0 and every NaN equal and last, complex
// by real then imaginary part with that order on each. All sorts are stable.
//
//   velax_sort_<dtype>     buffers: in (rows, n), out (rows, n); in == out is allowed.  params: rows, n
//       Sorts each row ascending. Equal keys keep their order, so the zeros and NaNs of a row come out with their own
//       bits. Complex: n must fit int32.
//   velax_argsort_<dtype>  buffers: keys (rows, n), perm (rows, n) i32.  params: rows, n, refine; n must fit int32.
//       refine = 0: perm is written with each row's stable sorting permutation (keys[r, perm[r, i]] ascends with i).
//       refine = 1: perm holds a permutation of each row on entry, and is re-ordered stably by keys[r, perm[r, i]].
//       Several keys sort lexicographically by sorting with the last key first, then refining with each earlier one.
//   velax_argfirst_<dtype> buffers: keys (rows, n), perm (rows, count) i32.  params: rows, n, count; real numbers, n
//       must fit int32. The first `count` indices of each row's stable sorting permutation.
#pragma once
#include <cstdint>
#include <string>

#include "program.h"

namespace velax {

struct LibraryFunction {
  std::string name;
  LibraryFn function;
  int num_buffers;  // -1: any
  int num_params;   // -1: any
};

// Registers or replaces. Thread-safe; executables made before keep the function that they resolved.
void register_library_function(const std::string& name, LibraryFn function, int num_buffers, int num_params);
// False if there is no such function.
bool find_library_function(const std::string& name, LibraryFunction* out);
// Called once at module initialisation; each adds one family.
void register_sort_functions();

}  // namespace velax
