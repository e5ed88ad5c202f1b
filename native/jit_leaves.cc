// What counts as a leaf of a compiled call, and how it becomes an ArrayImpl.
#include <cstring>
#include <memory>

#include "array_internal.h"
#include "jit.h"
#include "state.h"

namespace velax {

namespace {

// The first fields of np.ndarray, which NumPy's binary interface fixes (PyArrayObject_fields).
struct NdarrayFields {
  PyObject_HEAD
  char* data;
  int ndim;
  Py_intptr_t* dims;
  Py_intptr_t* strides;
  PyObject* base;
  PyObject* descr;
  int flags;
};
constexpr int kNumpyContiguous = 1;  // NPY_ARRAY_C_CONTIGUOUS
constexpr uintptr_t kBorrowAlignment = 16;

// Python classes that wrap one array (PRNG keys), and the callables that take them apart. Owned; never removed.
struct LeafHandler {
  PyTypeObject* type;
  PyObject* unwrap;
};
std::vector<LeafHandler> leaf_handlers;

std::vector<CallFrame*> free_frames;
constexpr size_t kMaxFreeFrames = 64;
constexpr size_t kMaxPooledLeaves = 4096;  // frames that have grown larger are not kept

// The dtype that values of `code` are kept in while 64-bit dtypes are off.
int narrowed_code(int code) {
  switch (code) {
    case kI64: return kI32;
    case kU64: return kU32;
    case kF64: return kF32;
    case kC128: return kC64;
    default: return code;
  }
}

template <typename From, typename To>
void narrow_values(const void* source, void* destination, int64_t count) {
  const From* from = static_cast<const From*>(source);
  To* to = static_cast<To*>(destination);
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

// The same values in the narrowed dtype (NumPy's conversion: integers wrap around). Steals `array`.
ArrayImpl* narrow_array(ArrayImpl* array) {
  AvalInfo* info = array->info;
  ArrayImpl* result = nullptr;
  try {
    AvalInfo* narrow = intern_aval(narrowed_code(info->code), info->weak, info->dims, info->ndim);
    BufferRef buffer = allocate_for(narrow);
    const void* source = array->buffer->data;
    switch (info->code) {
      case kI64: narrow_values<int64_t, int32_t>(source, buffer->data, info->size); break;
      case kU64: narrow_values<uint64_t, uint32_t>(source, buffer->data, info->size); break;
      case kF64: narrow_values<double, float>(source, buffer->data, info->size); break;
      default: narrow_values<double, float>(source, buffer->data, 2 * info->size); break;  // kC128
    }
    result = array_new(std::move(buffer), narrow);
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  }
  Py_DECREF(array);
  return result;
}

LeafStatus add_number(CallFrame& frame, PyObject* value, int code, bool weak) {
  ArrayImpl* array = array_from_scalar(value, code, weak);
  if (!array) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return LeafStatus::kError;
    PyErr_Format(PyExc_OverflowError, "Python int %R too large to convert to %s", value, dtype_name(code));
    return LeafStatus::kOverflow;
  }
  return add_array(frame, array);
}

// An array over the memory of a dense ndarray, for the time of a call.
ArrayImpl* borrow_ndarray(PyObject* ndarray, const NdarrayFields* fields, int code) {
  static_assert(sizeof(Py_intptr_t) == sizeof(int64_t), "64-bit platforms only");
  try {
    AvalInfo* info = intern_aval(code, false, reinterpret_cast<const int64_t*>(fields->dims), fields->ndim);
    BufferRef buffer =
        borrow_memory(fields->data, static_cast<size_t>(info->nbytes), release_python_owner, ndarray, false);
    Py_INCREF(ndarray);
    return array_new(std::move(buffer), info);
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
    return nullptr;
  }
}

LeafStatus add_ndarray(CallFrame& frame, PyObject* ndarray, bool x64) {
  const auto* fields = reinterpret_cast<const NdarrayFields*>(ndarray);
  int code = dtype_code_of_descr(fields->descr);
  if (code < 0) return LeafStatus::kUnknown;
  // Execution is synchronous, so the program may read the memory of the ndarray itself.
  bool borrow = fields->flags & kNumpyContiguous && reinterpret_cast<uintptr_t>(fields->data) % kBorrowAlignment == 0;
  ArrayImpl* array =
      borrow ? borrow_ndarray(ndarray, fields, code) : array_from_numpy(ndarray, false, false, false);
  if (!array) return LeafStatus::kError;
  if (!x64 && narrowed_code(code) != code) {
    array = narrow_array(array);
    if (!array) return LeafStatus::kError;
  } else if (borrow) {
    frame.borrowed.push_back(static_cast<uint32_t>(frame.arrays.size()));
  }
  return add_array(frame, array);
}

LeafStatus add_numpy_scalar(CallFrame& frame, PyObject* scalar, bool x64) {
  int code = scalar_type_code(scalar);
  if (code < 0) {  // np.longlong, for one, is a class of its own with the dtype of another
    Ref descr(PyObject_GetAttrString(scalar, "dtype"));
    if (!descr) return LeafStatus::kError;
    code = dtype_code_of_descr(descr.get());
    if (code < 0) return LeafStatus::kUnknown;
  }
  ArrayImpl* array = array_from_scalar(scalar, x64 ? code : narrowed_code(code), false);
  return array ? add_array(frame, array) : LeafStatus::kError;
}

// Masked arrays are ndarrays by class only: their values are not all meant to be read.
bool is_masked(PyTypeObject* type) {
  static PyTypeObject* masked = nullptr;
  if (!masked) {
    Ref name(PyUnicode_FromString("numpy.ma"));
    Ref module(name ? PyImport_GetModule(name.get()) : nullptr);  // without it nobody has made one
    Ref found(module ? PyObject_GetAttrString(module.get(), "MaskedArray") : nullptr);
    PyErr_Clear();
    if (!found || !PyType_Check(found.get())) return false;
    masked = reinterpret_cast<PyTypeObject*>(found.release());
  }
  return PyType_IsSubtype(type, masked);
}

// Instances of subclasses of numbers and ndarrays (enumerations, memory maps) count as those.
LeafStatus add_instance(CallFrame& frame, PyObject* leaf, bool x64) {
  if (PyLong_Check(leaf)) return add_number(frame, leaf, x64 ? kI64 : kI32, true);
  if (PyFloat_Check(leaf)) return add_number(frame, leaf, x64 ? kF64 : kF32, true);
  if (PyComplex_Check(leaf)) return add_number(frame, leaf, x64 ? kC128 : kC64, true);
  if (PyObject_TypeCheck(leaf, numpy.ndarray) && !is_masked(Py_TYPE(leaf))) return add_ndarray(frame, leaf, x64);
  return LeafStatus::kUnknown;
}

LeafStatus add_registered(CallFrame& frame, PyObject* leaf, PyObject* unwrap) {
  Py_INCREF(unwrap);  // the call may register another one
  PyObject* parts = PyObject_CallOneArg(unwrap, leaf);
  Py_DECREF(unwrap);
  if (!parts) return LeafStatus::kError;
  if (!PyTuple_CheckExact(parts) || PyTuple_GET_SIZE(parts) != 2 || !is_array(PyTuple_GET_ITEM(parts, 0))) {
    PyErr_Format(PyExc_TypeError, "the unwrap function registered for %.200s must return (ArrayImpl, tag), got %R",
                 Py_TYPE(leaf)->tp_name, parts);
    Py_DECREF(parts);
    return LeafStatus::kError;
  }
  auto* array = reinterpret_cast<ArrayImpl*>(Py_NewRef(PyTuple_GET_ITEM(parts, 0)));
  frame.statics.push_back(Py_NewRef(PyTuple_GET_ITEM(parts, 1)));
  Py_DECREF(parts);
  LeafStatus status = add_array(frame, array);
  frame.leaf_signatures.back() |= 1;
  return status;
}

}  // namespace

void CallFrame::clear() {
  for (PyObject* value : statics) Py_DECREF(value);
  for (ArrayImpl* array : arrays) Py_DECREF(array);
  for (PyObject* output : outputs) Py_XDECREF(output);
  release_leaves(leaves);
  statics.clear();
  arrays.clear();
  outputs.clear();
  leaf_signatures.clear();
  borrowed.clear();
  inputs.clear();
  if (has_tree) tree.clear();
  has_tree = false;
  hash = 0;
  device = nullptr;
  Py_CLEAR(config_key);
  Py_CLEAR(keyword_names);
  keyword_hash = 0;
  num_positional = 0;
}

PooledFrame::PooledFrame() {
  if (free_frames.empty()) {
    frame_ = new CallFrame;
  } else {
    frame_ = free_frames.back();
    free_frames.pop_back();
  }
}

PooledFrame::~PooledFrame() {
  // Dropping the references may run Python code that calls compiled functions, so the frame is put back last.
  frame_->clear();
  if (free_frames.size() < kMaxFreeFrames && frame_->arrays.capacity() <= kMaxPooledLeaves) {
    free_frames.push_back(frame_);
  } else {
    delete frame_;
  }
}

LeafStatus add_foreign_leaf(CallFrame& frame, PyObject* leaf, uint32_t config_flags, bool flattened) {
  bool x64 = config_flags & CONFIG_X64;
  // Exact types first: subclasses may be registered, or NumPy's (np.float64 is a float).
  PyTypeObject* type = Py_TYPE(leaf);
  if (type == &PyFloat_Type) return add_number(frame, leaf, x64 ? kF64 : kF32, true);
  if (type == &PyLong_Type) return add_number(frame, leaf, x64 ? kI64 : kI32, true);
  if (type == &PyBool_Type) return add_number(frame, leaf, kBool, false);
  if (type == &PyComplex_Type) return add_number(frame, leaf, x64 ? kC128 : kC64, true);
  if (type == &PyTuple_Type || type == &PyDict_Type || type == &PyList_Type) {
    return flattened ? LeafStatus::kUnknown : LeafStatus::kNotLeaf;
  }
  if (type == numpy.ndarray) return add_ndarray(frame, leaf, x64);
  if (PyType_IsSubtype(type, numpy.generic)) return add_numpy_scalar(frame, leaf, x64);
  for (const LeafHandler& handler : leaf_handlers) {
    if (type == handler.type) return add_registered(frame, leaf, handler.unwrap);
  }
  return flattened || is_leaf_type(type) ? add_instance(frame, leaf, x64) : LeafStatus::kNotLeaf;
}

LeafStatus add_container(CallFrame& frame, PyObject* container, uint32_t config_flags) {
  if (!frame.has_tree) {
    frame.has_tree = true;
    for (size_t i = 0; i < frame.arrays.size(); ++i) frame.tree.add_leaf();
  }
  if (!flatten_into(container, frame.leaves, frame.tree)) return LeafStatus::kError;
  // Index loop: unwrapping a leaf runs Python code, but on this frame's own vector nobody else pushes.
  LeafStatus status = LeafStatus::kOk;
  for (size_t i = 0; i < frame.leaves.size() && status == LeafStatus::kOk; ++i) {
    status = add_leaf(frame, frame.leaves[i], config_flags, true);
  }
  release_leaves(frame.leaves);
  return status;
}

bool copy_borrowed_outputs(CallFrame& frame) {
  for (PyObject*& output : frame.outputs) {
    auto* array = reinterpret_cast<ArrayImpl*>(output);
    for (uint32_t index : frame.borrowed) {
      if (!array->buffer || array->buffer != frame.arrays[index]->buffer) continue;
      ArrayImpl* owned = array_copied(array);
      if (!owned) return false;
      Py_SETREF(output, as_object(owned));
      break;
    }
  }
  return true;
}

PyObject* register_leaf_type(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 2 || !PyType_Check(args[0]) || !PyCallable_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError, "register_leaf_type(cls, unwrap) takes a class and a callable");
    return nullptr;
  }
  auto* type = reinterpret_cast<PyTypeObject*>(args[0]);
  for (LeafHandler& handler : leaf_handlers) {
    if (handler.type != type) continue;
    Py_SETREF(handler.unwrap, Py_NewRef(args[1]));
    Py_RETURN_NONE;
  }
  Py_INCREF(type);
  leaf_handlers.push_back({type, Py_NewRef(args[1])});
  Py_RETURN_NONE;
}

}  // namespace velax
