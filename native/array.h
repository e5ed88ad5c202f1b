// ArrayImpl, the concrete array: a buffer, an interned abstract value, and where it lives.
#pragma once
#include <Python.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "buffer.h"
#include "dtypes.h"

namespace velax {

// ------------------------------------------------------------------------------------------------ abstract values

// (dtype, weak type, dims), interned for the life of the process: equal pointers mean equal signatures.
struct AvalInfo {
  int code;  // DTypeCode
  bool weak;
  int ndim;
  int itemsize;
  int64_t size;    // number of elements
  int64_t nbytes;  // size * itemsize
  uint64_t hash;
  const int64_t* dims;     // ndim of them, stored behind this struct
  const int64_t* strides;  // row-major strides in bytes, likewise

  // The following need the GIL, are made when first asked for and are borrowed references.
  // The Python aval from the factory registered by `_native.set_aval_factory`; nullptr with an error set on failure.
  PyObject* aval();
  PyObject* shape();        // tuple of int
  PyObject* dtype() const;  // np.dtype

  std::atomic<PyObject*> aval_object;
  std::atomic<PyObject*> shape_object;
};

// The AvalInfo of a signature. Thread-safe, needs no GIL. Throws AllocationError when the byte count of the shape
// does not fit in 63 bits.
AvalInfo* intern_aval(int code, bool weak, const int64_t* dims, int ndim);
// The same for rank 0 (a table look-up).
AvalInfo* intern_scalar_aval(int code, bool weak) noexcept;
// The same signature with another weak type or shape.
AvalInfo* aval_with_weak_type(AvalInfo* info, bool weak);
// "float32[2,3]"
std::string aval_to_string(const AvalInfo* info);

// --------------------------------------------------------------------------------------------------------- arrays

// Dense, row-major, immutable. Created only by `array_new`.
struct ArrayImpl {
  PyObject_HEAD
  Buffer* buffer;  // nullptr once deleted or donated
  AvalInfo* info;
  PyObject* device;  // device or sharding object of the Python layer; nullptr: the default device
  PyObject* weakrefs;
  bool committed;
};

extern PyTypeObject* array_type;  // velax._native.ArrayImpl

inline bool is_array(PyObject* object) noexcept { return Py_TYPE(object) == array_type; }
// The remaining functions take an object for which `is_array` is true, and need the GIL.
inline AvalInfo* array_info(PyObject* array) noexcept { return reinterpret_cast<ArrayImpl*>(array)->info; }
// Borrowed; nullptr with RuntimeError ("Array has been deleted ...") set when the array was deleted or donated.
Buffer* array_buffer(PyObject* array) noexcept;
// A new reference; nullptr with an error set when Python is out of memory.
ArrayImpl* array_new(BufferRef buffer, AvalInfo* info, PyObject* device = nullptr, bool committed = false) noexcept;
// Takes the buffer out of the array, which is deleted from then on (donation). Empty when it was deleted already.
BufferRef array_take_buffer(PyObject* array) noexcept;

// A buffer for one array of this signature; throws AllocationError that names shape, dtype and bytes.
BufferRef allocate_for(const AvalInfo* info);
// An array of rank 0 from a Python bool, int, float or complex, or from a NumPy scalar, converted to `code`.
// A new reference, or nullptr with an error set (OverflowError where an int does not fit).
ArrayImpl* array_from_scalar(PyObject* value, int code, bool weak) noexcept;
// Writes a Python number, converted to `code`, at `destination` (itemsize bytes). Returns false with an error set.
bool store_scalar(PyObject* value, int code, void* destination) noexcept;
// The element at `source` as a Python bool, int, float or complex (new reference).
PyObject* load_scalar(const void* source, int code) noexcept;
// An array of a NumPy ndarray's values. Copies unless `may_alias` and the memory is dense, row-major, aligned to 16
// bytes and read-only (or `alias_writable`); an aliasing buffer keeps the ndarray alive. Throws no C++ exception.
ArrayImpl* array_from_numpy(PyObject* ndarray, bool weak, bool may_alias, bool alias_writable) noexcept;

// Copies a strided source (strides in bytes, may be zero or negative) to a dense row-major destination.
void copy_strided(const char* source, const int64_t* strides, const int64_t* dims, int ndim, int itemsize,
                  char* destination) noexcept;

}  // namespace velax
