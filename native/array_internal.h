// What the files of the array room share: NumPy objects and the parts of the ArrayImpl type.
#pragma once
#include <Python.h>

#include "array.h"
#include "gil.h"
#include "ref.h"

namespace velax {

inline ArrayImpl* as_array(PyObject* object) noexcept { return reinterpret_cast<ArrayImpl*>(object); }
inline PyObject* as_object(ArrayImpl* array) noexcept { return reinterpret_cast<PyObject*>(array); }

// ----------------------------------------------------------------------------------------------- NumPy (borrowed)

struct NumPy {
  PyObject* module;
  PyTypeObject* ndarray;
  PyTypeObject* generic;  // base of the scalar types
  PyTypeObject* integer;
  PyObject* dtype;        // the class np.dtype
  PyObject* array;
  PyObject* asarray;
  PyObject* array2string;
  PyObject* get_printoptions;
};
extern NumPy numpy;
bool init_numpy();  // imports NumPy and ml_dtypes; false with an error set

// The code of a NumPy scalar's own type; -1 without an error for any other object.
int scalar_type_code(PyObject* value) noexcept;

// --------------------------------------------------------------------------------------------- parts of the type

// Makes an array of `info` with its own uninitialised buffer and the placement of `like` (may be nullptr).
ArrayImpl* array_uninitialised(AvalInfo* info, const ArrayImpl* like = nullptr) noexcept;
// Another view of the whole buffer, with the same placement; info->nbytes must be that of `array`.
ArrayImpl* array_sharing(ArrayImpl* array, AvalInfo* info) noexcept;
// An array with the same placement and a buffer of its own.
ArrayImpl* array_copied(ArrayImpl* array) noexcept;

// array_numpy.cc: a read-only ndarray over the array's memory (new reference).
PyObject* array_view_as_ndarray(ArrayImpl* array) noexcept;
bool init_memory_holder();
// The deleter of borrowed memory whose owner is a Python object. The last hold may go in a thread without the GIL.
inline void release_python_owner(Buffer* buffer) noexcept {
  with_gil([owner = static_cast<PyObject*>(buffer->owner)] { Py_DECREF(owner); });
}

// Reads a shape given as a sequence of ints (or one int) to `dims`; returns the rank, -1 with an error set.
constexpr int kMaxRank = 64;
int parse_shape(PyObject* shape, int64_t* dims) noexcept;

// copy_strided of a source with `info`'s dims; without the GIL when it takes a while.
void copy_strided_releasing_gil(const char* source, const int64_t* strides, const AvalInfo* info,
                                char* destination) noexcept;

PyObject* module_set_aval_factory(PyObject*, PyObject* factory);  // array_aval.cc

// Slot functions, methods and module functions by file.
int array_getbuffer(PyObject* self, Py_buffer* view, int flags);  // array_numpy.cc
void array_releasebuffer(PyObject* self, Py_buffer* view);
PyObject* array_repr(PyObject* self);
PyObject* array_str(PyObject* self);
PyObject* array_method_array(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* array_method_format(PyObject* self, PyObject* spec);
PyObject* array_method_reduce(PyObject* self, PyObject*);
PyObject* module_array_from_numpy(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* module_reconstruct_array(PyObject*, PyObject* const* args, Py_ssize_t nargs);

int array_bool(PyObject* self);  // array_scalars.cc
PyObject* array_int(PyObject* self);
PyObject* array_float(PyObject* self);
PyObject* array_index(PyObject* self);
PyObject* array_method_complex(PyObject* self, PyObject*);
PyObject* array_method_item(PyObject* self, PyObject* const* args, Py_ssize_t nargs);
PyObject* array_method_tolist(PyObject* self, PyObject*);
PyObject* module_array_from_scalar(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

PyObject* array_subscript(PyObject* self, PyObject* key);  // array_index.cc
PyObject* array_sequence_item(PyObject* self, Py_ssize_t index);
int array_assign_subscript(PyObject* self, PyObject* key, PyObject* value);
Py_ssize_t array_length(PyObject* self);
PyObject* array_iter(PyObject* self);
bool init_array_iterator();

// array_operators.cc: the number and comparison slots, and the registry behind them.
extern PyType_Slot array_operator_slots[];
bool init_array_operators();
PyObject* module_set_array_operators(PyObject*, PyObject* operators);
// Borrowed; nullptr without an error when none is registered.
PyObject* registered_getitem() noexcept;
PyObject* registered_iter() noexcept;

// dlpack.cc
PyObject* array_method_dlpack(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* array_method_dlpack_device(PyObject* self, PyObject*);
PyObject* module_from_dlpack(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// ------------------------------------------------------------------------------------------- argument processing

// Binds positional and keyword arguments of a vectorcall to `count` named parameters (borrowed; nullptr where not
// given), of which the first `required` must be there. Returns false with a TypeError set.
bool bind_arguments(const char* function, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames,
                    const char* const* names, int count, int required, PyObject** values) noexcept;

}  // namespace velax
