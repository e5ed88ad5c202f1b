// The element types of Velax: their codes (mirrored by velax/_lang/dtypes.py), sizes, names, and the NumPy dtype
// objects that stand for them in Python.
#pragma once
#include <Python.h>

#include <cstddef>
#include <cstdint>

namespace velax {

enum DTypeCode : int {
  kBool = 0,
  kI8 = 1,
  kI16 = 2,
  kI32 = 3,
  kI64 = 4,
  kU8 = 5,
  kU16 = 6,
  kU32 = 7,
  kU64 = 8,
  kF16 = 9,
  kBF16 = 10,
  kF32 = 11,
  kF64 = 12,
  kC64 = 13,
  kC128 = 14,
  kF8E4M3FN = 15,
  kF8E5M2 = 16,
  kI4 = 17,  // the 4-bit types are stored one per byte, as ml_dtypes does
  kU4 = 18,
};
constexpr int kNumDTypes = 19;

struct DTypeTraits {
  const char* short_name;  // as in the IRs: "f32"
  const char* numpy_name;  // as `str(np.dtype)`: "float32"
  int itemsize;            // bytes in memory
  char kind;               // 'b' bool, 'i' signed, 'u' unsigned, 'f' floating, 'c' complex
  uint8_t dlpack_code;     // DLDataTypeCode
  uint8_t dlpack_bits;
  const char* buffer_format;  // struct-module format, nullptr where the buffer protocol has none
};

extern const DTypeTraits kDTypes[kNumDTypes];

inline int dtype_itemsize(int code) { return kDTypes[code].itemsize; }
inline const char* dtype_name(int code) { return kDTypes[code].numpy_name; }
inline char dtype_kind(int code) { return kDTypes[code].kind; }
inline bool dtype_is_integer(int code) { return kDTypes[code].kind == 'i' || kDTypes[code].kind == 'u'; }

// The NumPy dtype object of a code (borrowed; never null once the module is loaded). Needs the GIL.
PyObject* numpy_dtype(int code);

// The code of a NumPy dtype object, scalar type or dtype name ("float32", np.float32, np.dtype("int8"), bool, float).
// Returns -1 with TypeError set when it names no element type of Velax. Needs the GIL.
int dtype_code(PyObject* dtype_like);

// Like `dtype_code` for an object known to be a np.dtype; returns -1 *without* an error when it is not one of ours
// (strings, objects, structured or byte-swapped dtypes).
int dtype_code_of_descr(PyObject* descr);

}  // namespace velax
