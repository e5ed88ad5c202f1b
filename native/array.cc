// The type ArrayImpl: life cycle, attributes, and the functions the array room adds to the module.
#include "array_internal.h"
#include "rooms.h"

#include <structmember.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace velax {

PyTypeObject* array_type = nullptr;

bool bind_arguments(const char* function, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames,
                    const char* const* names, int count, int required, PyObject** values) noexcept {
  if (nargs > count) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments, got %zd", function, count, nargs);
    return false;
  }
  for (int i = 0; i < count; ++i) values[i] = i < nargs ? args[i] : nullptr;
  Py_ssize_t keywords = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
  for (Py_ssize_t k = 0; k < keywords; ++k) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, k);
    int i = 0;
    while (i < count && PyUnicode_CompareWithASCIIString(name, names[i]) != 0) ++i;
    if (i == count) {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", function, name);
      return false;
    }
    if (values[i] != nullptr) {
      PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R", function, name);
      return false;
    }
    values[i] = args[nargs + k];
  }
  for (int i = 0; i < required; ++i) {
    if (values[i] == nullptr) {
      PyErr_Format(PyExc_TypeError, "%s() is missing the argument '%s'", function, names[i]);
      return false;
    }
  }
  return true;
}

int parse_shape(PyObject* shape, int64_t* dims) noexcept {
  auto read_dim = [&](PyObject* object, int64_t* dim) {
    Py_ssize_t value = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    if (value == -1 && PyErr_Occurred()) return false;
    if (value < 0) {
      PyErr_Format(PyExc_ValueError, "the dimensions of a shape must not be negative, got %R", shape);
      return false;
    }
    *dim = value;
    return true;
  };
  if (PyIndex_Check(shape)) return read_dim(shape, dims) ? 1 : -1;
  Ref sequence(PySequence_Fast(shape, "a shape must be an int or a sequence of ints"));
  // A snapshot: the `__index__` of an element may change a list.
  if (sequence && PyList_CheckExact(sequence.get())) sequence = Ref(PyList_AsTuple(sequence.get()));
  if (!sequence) return -1;
  Py_ssize_t ndim = PySequence_Fast_GET_SIZE(sequence.get());
  if (ndim > kMaxRank) {
    PyErr_Format(PyExc_ValueError, "arrays have at most %d dimensions, got %zd", kMaxRank, ndim);
    return -1;
  }
  for (Py_ssize_t i = 0; i < ndim; ++i) {
    if (!read_dim(PySequence_Fast_GET_ITEM(sequence.get(), i), dims + i)) return -1;
  }
  return static_cast<int>(ndim);
}

// ------------------------------------------------------------------------------------------------------ life cycle

BufferRef allocate_for(const AvalInfo* info) {
  BufferRef buffer = try_allocate(static_cast<size_t>(info->nbytes));
  if (!buffer) {
    throw AllocationError(allocation_failure_text(static_cast<size_t>(info->nbytes)) + " for an array of " +
                          aval_to_string(info));
  }
  return buffer;
}

ArrayImpl* array_new(BufferRef buffer, AvalInfo* info, PyObject* device, bool committed) noexcept {
  ArrayImpl* array = PyObject_New(ArrayImpl, array_type);
  if (array == nullptr) return nullptr;
  array->buffer = buffer.detach();
  array->info = info;
  Py_XINCREF(device);
  array->device = device;
  array->weakrefs = nullptr;
  array->committed = committed;
  return array;
}

ArrayImpl* array_uninitialised(AvalInfo* info, const ArrayImpl* like) noexcept {
  return guarded(static_cast<ArrayImpl*>(nullptr), [&] {
    return like == nullptr ? array_new(allocate_for(info), info)
                           : array_new(allocate_for(info), info, like->device, like->committed);
  });
}

ArrayImpl* array_sharing(ArrayImpl* array, AvalInfo* info) noexcept {
  return array_new(BufferRef::share(array->buffer), info, array->device, array->committed);
}

ArrayImpl* array_copied(ArrayImpl* array) noexcept {
  Buffer* source = array_buffer(as_object(array));
  if (source == nullptr) return nullptr;
  BufferRef alive = BufferRef::share(source);
  ArrayImpl* result = array_uninitialised(array->info, array);
  if (result == nullptr) return nullptr;
  copy_strided_releasing_gil(static_cast<const char*>(alive->data), array->info->strides, array->info,
                             static_cast<char*>(result->buffer->data));
  return result;
}

Buffer* array_buffer(PyObject* array) noexcept {
  Buffer* buffer = as_array(array)->buffer;
  if (__builtin_expect(buffer == nullptr, 0)) {
    PyErr_Format(PyExc_RuntimeError, "Array has been deleted with shape=%s.",
                 aval_to_string(array_info(array)).c_str());
  }
  return buffer;
}

BufferRef array_take_buffer(PyObject* array) noexcept {
  Buffer* buffer = as_array(array)->buffer;
  as_array(array)->buffer = nullptr;
  return BufferRef::steal(buffer);
}

namespace {

void array_dealloc(PyObject* self) {
  ArrayImpl* array = as_array(self);
  PyTypeObject* type = Py_TYPE(self);
  if (array->weakrefs != nullptr) PyObject_ClearWeakRefs(self);
  if (array->buffer != nullptr) array->buffer->release();
  Py_XDECREF(array->device);
  PyObject_Free(self);
  Py_DECREF(type);
}

// ------------------------------------------------------------------------------------------------------ attributes

// Callables of the Python layer for "device", "devices" and "sharding": f(array).
PyObject* device_hook;
PyObject* devices_hook;
PyObject* sharding_hook;

PyObject* call_hook(PyObject* hook, const char* name, PyObject* self) {
  if (hook == nullptr) {
    PyErr_Format(PyExc_AttributeError, "no device hook for '%s' is registered; import velax first", name);
    return nullptr;
  }
  return PyObject_CallOneArg(hook, self);
}

PyObject* new_reference(PyObject* object) {
  Py_XINCREF(object);
  return object;
}

PyObject* get_shape(PyObject* self, void*) { return new_reference(array_info(self)->shape()); }
PyObject* get_dtype(PyObject* self, void*) { return new_reference(array_info(self)->dtype()); }
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(array_info(self)->ndim); }
PyObject* get_size(PyObject* self, void*) { return PyLong_FromLongLong(array_info(self)->size); }
PyObject* get_itemsize(PyObject* self, void*) { return PyLong_FromLong(array_info(self)->itemsize); }
PyObject* get_nbytes(PyObject* self, void*) { return PyLong_FromLongLong(array_info(self)->nbytes); }
PyObject* get_weak_type(PyObject* self, void*) { return PyBool_FromLong(array_info(self)->weak); }
PyObject* get_aval(PyObject* self, void*) { return new_reference(array_info(self)->aval()); }
PyObject* get_committed(PyObject* self, void*) { return PyBool_FromLong(as_array(self)->committed); }
PyObject* get_true(PyObject*, void*) { Py_RETURN_TRUE; }
PyObject* get_device(PyObject* self, void*) { return call_hook(device_hook, "device", self); }
PyObject* get_sharding(PyObject* self, void*) { return call_hook(sharding_hook, "sharding", self); }
PyObject* get_raw_device(PyObject* self, void*) {
  PyObject* device = as_array(self)->device;
  return new_reference(device != nullptr ? device : Py_None);
}

PyGetSetDef array_getset[] = {
    {"shape", get_shape, nullptr, "Extent of each dimension, a tuple of int.", nullptr},
    {"dtype", get_dtype, nullptr, "Element type, a numpy.dtype.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of dimensions.", nullptr},
    {"size", get_size, nullptr, "Number of elements.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes of one element.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes of all elements.", nullptr},
    {"weak_type", get_weak_type, nullptr, "Whether the dtype gives way to that of other operands.", nullptr},
    {"aval", get_aval, nullptr, "Abstract value: shape, dtype and weak type.", nullptr},
    {"device", get_device, nullptr, "The device that holds the array, or its sharding when there are several.",
     nullptr},
    {"sharding", get_sharding, nullptr, "How the array is laid out over devices.", nullptr},
    {"committed", get_committed, nullptr, "Whether the array was put on its device explicitly.", nullptr},
    {"is_fully_addressable", get_true, nullptr, "Whether this process can reach every shard.", nullptr},
    {"is_fully_replicated", get_true, nullptr, "Whether every device holds the whole array.", nullptr},
    {"_device", get_raw_device, nullptr, "The device or sharding given to the array; None for the default.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef array_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ArrayImpl, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

// --------------------------------------------------------------------------------------------------------- methods

PyObject* method_devices(PyObject* self, PyObject*) { return call_hook(devices_hook, "devices", self); }

PyObject* method_is_deleted(PyObject* self, PyObject*) { return PyBool_FromLong(as_array(self)->buffer == nullptr); }

PyObject* method_delete(PyObject* self, PyObject*) {
  array_take_buffer(self).reset();
  Py_RETURN_NONE;
}

PyObject* method_block_until_ready(PyObject* self, PyObject*) {
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) return nullptr;
  if (buffer->ready_event != nullptr) {
    BufferRef alive = BufferRef::share(buffer);
    bool done = guarded(false, [&] {
      PyThreadState* saved = PyEval_SaveThread();
      try {
        alive->wait();
      } catch (...) {
        PyEval_RestoreThread(saved);
        throw;
      }
      PyEval_RestoreThread(saved);
      return true;
    });
    if (!done) return nullptr;
  }
  Py_INCREF(self);
  return self;
}

PyObject* method_is_ready(PyObject* self, PyObject*) {
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) return nullptr;
  return PyBool_FromLong(buffer->ready_event == nullptr || buffer->ready_event->is_ready());
}

PyObject* method_copy_to_host_async(PyObject* self, PyObject*) {
  if (array_buffer(self) == nullptr) return nullptr;
  Py_RETURN_NONE;  // the memory is the host's already
}

PyObject* method_unsafe_buffer_pointer(PyObject* self, PyObject*) {
  Buffer* buffer = array_buffer(self);
  return buffer == nullptr ? nullptr : PyLong_FromVoidPtr(buffer->data);
}

PyObject* method_on_device_size(PyObject* self, PyObject*) {
  Buffer* buffer = array_buffer(self);
  return buffer == nullptr ? nullptr : PyLong_FromSize_t(buffer->nbytes);
}

PyObject* method_tobytes(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"order"};
  PyObject* order;
  if (!bind_arguments("tobytes", args, nargs, kwnames, names, 1, 0, &order)) return nullptr;
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) return nullptr;
  if (order == nullptr || (PyUnicode_Check(order) && PyUnicode_CompareWithASCIIString(order, "C") == 0)) {
    return PyBytes_FromStringAndSize(static_cast<const char*>(buffer->data), array_info(self)->nbytes);
  }
  Ref view(array_view_as_ndarray(as_array(self)));
  return view ? PyObject_CallMethod(view.get(), "tobytes", "O", order) : nullptr;
}

PyObject* method_copy(PyObject* self, PyObject*) { return as_object(array_copied(as_array(self))); }

template <typename Function>
PyCFunction method(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

constexpr int kFast = METH_FASTCALL | METH_KEYWORDS;

PyMethodDef methods[] = {
    {"devices", method_devices, METH_NOARGS, "The set of devices that hold the array."},
    {"is_deleted", method_is_deleted, METH_NOARGS, "Whether the array was deleted or donated."},
    {"delete", method_delete, METH_NOARGS, "Drops the array's memory; using the array afterwards raises RuntimeError."},
    {"block_until_ready", method_block_until_ready, METH_NOARGS,
     "Waits until the elements are computed; returns self."},
    {"is_ready", method_is_ready, METH_NOARGS, "Whether the elements are computed."},
    {"copy_to_host_async", method_copy_to_host_async, METH_NOARGS,
     "Starts a copy to host memory where there is need."},
    {"unsafe_buffer_pointer", method_unsafe_buffer_pointer, METH_NOARGS, "Address of the first element, an int."},
    {"on_device_size_in_bytes", method_on_device_size, METH_NOARGS, "Bytes of memory that the elements take."},
    {"item", method(array_method_item), METH_FASTCALL,
     "item(*index): one element as a Python number; without an index, the only one."},
    {"tolist", array_method_tolist, METH_NOARGS, "The elements as nested lists of Python numbers."},
    {"tobytes", method(method_tobytes), kFast, "tobytes(order='C'): the elements as bytes."},
    {"__array__", method(array_method_array), kFast,
     "__array__(dtype=None, copy=None): a numpy.ndarray, by default a read-only view of the same memory."},
    {"__dlpack__", method(array_method_dlpack), kFast,
     "__dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None): a DLPack capsule."},
    {"__dlpack_device__", array_method_dlpack_device, METH_NOARGS, "DLPack device type and number."},
    {"__reduce__", array_method_reduce, METH_NOARGS, "Pickling, through a numpy.ndarray."},
    {"__copy__", method_copy, METH_NOARGS, "A copy with memory of its own."},
    {"__deepcopy__", method_copy, METH_O, "A copy with memory of its own."},
    {"__format__", array_method_format, METH_O, "Formatting: of the element for arrays of rank 0."},
    {"__complex__", array_method_complex, METH_NOARGS, "The element of an array of rank 0 as a Python complex."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Spec array_spec(PyType_Slot* slots) {
  return {"velax._native.ArrayImpl", sizeof(ArrayImpl), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
          slots};
}

bool make_array_type() {
  static PyType_Slot slots[64] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(array_dealloc)},
      {Py_tp_doc, const_cast<char*>("A concrete array: dense, row-major and immutable.")},
      {Py_tp_methods, methods},
      {Py_tp_getset, array_getset},
      {Py_tp_members, array_members},
      {Py_tp_repr, reinterpret_cast<void*>(array_repr)},
      {Py_tp_str, reinterpret_cast<void*>(array_str)},
      {Py_tp_hash, reinterpret_cast<void*>(PyObject_HashNotImplemented)},
      {Py_tp_iter, reinterpret_cast<void*>(array_iter)},
      {Py_bf_getbuffer, reinterpret_cast<void*>(array_getbuffer)},
      {Py_bf_releasebuffer, reinterpret_cast<void*>(array_releasebuffer)},
      {Py_mp_length, reinterpret_cast<void*>(array_length)},
      {Py_mp_subscript, reinterpret_cast<void*>(array_subscript)},
      {Py_mp_ass_subscript, reinterpret_cast<void*>(array_assign_subscript)},
      {Py_sq_length, reinterpret_cast<void*>(array_length)},
      {Py_sq_item, reinterpret_cast<void*>(array_sequence_item)},
      {Py_nb_bool, reinterpret_cast<void*>(array_bool)},
      {Py_nb_int, reinterpret_cast<void*>(array_int)},
      {Py_nb_float, reinterpret_cast<void*>(array_float)},
      {Py_nb_index, reinterpret_cast<void*>(array_index)},
  };
  int count = 0;
  while (slots[count].slot != 0) ++count;
  for (PyType_Slot* slot = array_operator_slots; slot->slot != 0; ++slot) slots[count++] = *slot;
  PyType_Spec spec = array_spec(slots);
  array_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (array_type == nullptr) return false;
  // NumPy's operators leave operands of higher priority to those operands' reflected methods.
  Ref priority(PyLong_FromLong(100));
  return priority && PyObject_SetAttrString(reinterpret_cast<PyObject*>(array_type), "__array_priority__",
                                            priority.get()) == 0;
}

// ------------------------------------------------------------------------------------------------ module functions

bool expect_array(const char* function, PyObject* object) {
  if (is_array(object)) return true;
  PyErr_Format(PyExc_TypeError, "%s: expected an ArrayImpl, got %R of type %s", function, object,
               Py_TYPE(object)->tp_name);
  return false;
}

PyObject* module_set_device_hooks(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"device", "devices", "sharding"};
  PyObject* values[3];
  if (!bind_arguments("set_device_hooks", args, nargs, kwnames, names, 3, 3, values)) return nullptr;
  PyObject** hooks[] = {&device_hook, &devices_hook, &sharding_hook};
  for (int i = 0; i < 3; ++i) {
    if (!PyCallable_Check(values[i])) {
      PyErr_Format(PyExc_TypeError, "set_device_hooks: the hook for '%s' is not callable: %R", names[i], values[i]);
      return nullptr;
    }
  }
  for (int i = 0; i < 3; ++i) {
    Py_INCREF(values[i]);
    Ref old(*hooks[i]);
    *hooks[i] = values[i];
  }
  Py_RETURN_NONE;
}

PyObject* module_array_empty(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"shape", "dtype", "weak_type"};
  PyObject* values[3];
  if (!bind_arguments("array_empty", args, nargs, kwnames, names, 3, 2, values)) return nullptr;
  int64_t dims[kMaxRank];
  int ndim = parse_shape(values[0], dims);
  int code = ndim < 0 ? -1 : dtype_code(values[1]);
  int weak = code < 0 ? -1 : values[2] == nullptr ? 0 : PyObject_IsTrue(values[2]);
  if (weak < 0) return nullptr;
  return guarded(static_cast<PyObject*>(nullptr),
                 [&] { return as_object(array_uninitialised(intern_aval(code, weak != 0, dims, ndim))); });
}

PyObject* module_array_reshaped(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 2) {
    PyErr_Format(PyExc_TypeError, "array_reshaped(array, shape) takes 2 arguments, got %zd", nargs);
    return nullptr;
  }
  if (!expect_array("array_reshaped", args[0])) return nullptr;
  int64_t dims[kMaxRank];
  int ndim = parse_shape(args[1], dims);
  if (ndim < 0 || array_buffer(args[0]) == nullptr) return nullptr;
  return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    AvalInfo* old = array_info(args[0]);
    AvalInfo* info = intern_aval(old->code, old->weak, dims, ndim);
    if (info->size != old->size) {
      PyErr_Format(PyExc_ValueError, "cannot reshape an array of %s (%lld elements) to %s (%lld elements)",
                   aval_to_string(old).c_str(), static_cast<long long>(old->size), aval_to_string(info).c_str(),
                   static_cast<long long>(info->size));
      return nullptr;
    }
    return as_object(array_sharing(as_array(args[0]), info));
  });
}

PyObject* module_array_with_weak_type(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 2) {
    PyErr_Format(PyExc_TypeError, "array_with_weak_type(array, weak_type) takes 2 arguments, got %zd", nargs);
    return nullptr;
  }
  if (!expect_array("array_with_weak_type", args[0])) return nullptr;
  int weak = PyObject_IsTrue(args[1]);
  if (weak < 0 || array_buffer(args[0]) == nullptr) return nullptr;
  if (array_info(args[0])->weak == (weak != 0)) return new_reference(args[0]);
  return guarded(static_cast<PyObject*>(nullptr), [&] {
    return as_object(array_sharing(as_array(args[0]), aval_with_weak_type(array_info(args[0]), weak != 0)));
  });
}

PyObject* module_array_with_device(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 3) {
    PyErr_Format(PyExc_TypeError, "array_with_device(array, device, committed) takes 3 arguments, got %zd", nargs);
    return nullptr;
  }
  if (!expect_array("array_with_device", args[0])) return nullptr;
  int committed = PyObject_IsTrue(args[2]);
  if (committed < 0 || array_buffer(args[0]) == nullptr) return nullptr;
  ArrayImpl* array = as_array(args[0]);
  return as_object(array_new(BufferRef::share(array->buffer), array->info, args[1] == Py_None ? nullptr : args[1],
                             committed != 0));
}

PyObject* module_array_copy(PyObject*, PyObject* array) {
  return expect_array("array_copy", array) ? as_object(array_copied(as_array(array))) : nullptr;
}

PyObject* module_array_can_donate(PyObject*, PyObject* array) {
  if (!expect_array("array_can_donate", array)) return nullptr;
  Buffer* buffer = as_array(array)->buffer;
  return PyBool_FromLong(buffer != nullptr && buffer->can_donate());
}

PyObject* module_allocator_stats(PyObject*, PyObject*) {
  AllocatorStats stats = allocator_stats();
  return Py_BuildValue("{s:L,s:L,s:L,s:L,s:L,s:L,s:L,s:L,s:L,s:L,s:L}", "bytes_in_use", stats.bytes_in_use,
                       "bytes_kept", stats.bytes_kept, "peak_bytes_in_use", stats.peak_bytes_in_use, "allocations",
                       stats.allocations, "reuses", stats.reuses, "system_allocations", stats.system_allocations,
                       "frees", stats.frees, "blocks_in_use", stats.blocks_in_use, "blocks_kept", stats.blocks_kept,
                       "keep_limit", stats.keep_limit, "largest_allocation", stats.largest_allocation);
}

bool read_bytes(const char* function, PyObject* object, size_t* bytes) {
  long long value = PyLong_AsLongLong(object);
  if (value == -1 && PyErr_Occurred()) return false;
  if (value < 0) {
    PyErr_Format(PyExc_ValueError, "%s: a number of bytes must not be negative, got %lld", function, value);
    return false;
  }
  *bytes = static_cast<size_t>(value);
  return true;
}

PyObject* module_allocator_trim(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"keep_bytes"};
  PyObject* keep;
  size_t bytes = 0;
  if (!bind_arguments("allocator_trim", args, nargs, kwnames, names, 1, 0, &keep)) return nullptr;
  if (keep != nullptr && !read_bytes("allocator_trim", keep, &bytes)) return nullptr;
  return PyLong_FromSize_t(allocator_trim(bytes));
}

PyObject* module_allocator_set_keep_limit(PyObject*, PyObject* limit) {
  size_t bytes;
  if (!read_bytes("allocator_set_keep_limit", limit, &bytes)) return nullptr;
  allocator_set_keep_limit(bytes);
  Py_RETURN_NONE;
}

PyObject* module_allocator_reset_peak(PyObject*, PyObject*) {
  allocator_reset_peak();
  Py_RETURN_NONE;
}

PyMethodDef module_methods[] = {
    {"array_from_numpy", method(module_array_from_numpy), kFast,
     "array_from_numpy(ndarray, weak_type=False, copy=True) -> ArrayImpl\n\n"
     "An array of an ndarray's values. copy=None uses the ndarray's memory where that is safe (read-only all the way\n"
     "down, dense, aligned to 16 bytes); copy=False uses it even when it is writable, or raises ValueError."},
    {"array_from_scalar", method(module_array_from_scalar), kFast,
     "array_from_scalar(value, dtype, weak_type=False) -> ArrayImpl\n\n"
     "An array of rank 0 from a Python number or NumPy scalar; dtype is a dtype, its name or its code."},
    {"array_empty", method(module_array_empty), kFast,
     "array_empty(shape, dtype, weak_type=False) -> ArrayImpl\n\nAn array with arbitrary elements."},
    {"array_reshaped", method(module_array_reshaped), METH_FASTCALL,
     "array_reshaped(array, shape) -> ArrayImpl\n\nThe same memory under another shape with as many elements."},
    {"array_with_weak_type", method(module_array_with_weak_type), METH_FASTCALL,
     "array_with_weak_type(array, weak_type) -> ArrayImpl\n\nThe same memory with another weak type."},
    {"array_with_device", method(module_array_with_device), METH_FASTCALL,
     "array_with_device(array, device, committed) -> ArrayImpl\n\n"
     "The same memory, with the device or sharding object that the device hooks will see (None: the default)."},
    {"array_copy", module_array_copy, METH_O, "array_copy(array) -> ArrayImpl\n\nA copy with memory of its own."},
    {"array_can_donate", module_array_can_donate, METH_O,
     "array_can_donate(array) -> bool\n\nWhether nothing else refers to the array's memory."},
    {"from_dlpack", method(module_from_dlpack), kFast,
     "from_dlpack(tensor, copy=None) -> ArrayImpl\n\n"
     "An array of a DLPack tensor: an object with __dlpack__ or a capsule. The memory is shared when it is dense and\n"
     "aligned to 16 bytes, else copied; copy=True always copies, copy=False raises ValueError where it would."},
    {"set_aval_factory", module_set_aval_factory, METH_O,
     "set_aval_factory(f)\n\nRegisters f(shape, dtype, weak_type), which makes the avals of arrays."},
    {"set_array_operators", module_set_array_operators, METH_O,
     "set_array_operators(operators)\n\nRegisters callables by operator name: 'add' f(array, other), 'radd' "
     "f(array, other) for other + array, ..., 'neg', 'lt', 'getitem' f(array, index), 'iter'."},
    {"set_device_hooks", method(module_set_device_hooks), kFast,
     "set_device_hooks(device, devices, sharding)\n\nRegisters f(array) behind the attributes of these names."},
    {"allocator_stats", module_allocator_stats, METH_NOARGS,
     "allocator_stats() -> dict\n\nBytes and blocks in use and kept, the peak, and counts."},
    {"allocator_trim", method(module_allocator_trim), kFast,
     "allocator_trim(keep_bytes=0) -> int\n\nGives kept memory back to the system; returns the bytes given back."},
    {"allocator_set_keep_limit", module_allocator_set_keep_limit, METH_O,
     "allocator_set_keep_limit(bytes)\n\nMost bytes of freed memory that are kept for reuse."},
    {"allocator_reset_peak", module_allocator_reset_peak, METH_NOARGS,
     "allocator_reset_peak()\n\nStarts measuring the peak anew."},
    {"_reconstruct_array", method(module_reconstruct_array), METH_FASTCALL,
     "_reconstruct_array(ndarray, weak_type) -> ArrayImpl\n\nUnpickling."},
    {nullptr, nullptr, 0, nullptr},
};

void apply_environment() {
  const char* text = std::getenv("VELAX_ALLOCATOR_KEEP_BYTES");
  if (text == nullptr || *text == '\0') return;
  char* end;
  errno = 0;
  unsigned long long bytes = std::strtoull(text, &end, 10);
  if (*end != '\0' || *text == '-' || errno != 0) {
    PyErr_Format(PyExc_ValueError, "VELAX_ALLOCATOR_KEEP_BYTES must be a number of bytes, got '%s'", text);
    throw nanobind::python_error();
  }
  allocator_set_keep_limit(bytes);
}

}  // namespace

void bind_array(nanobind::module_& m) {
  apply_environment();
  bool made = init_numpy() && init_array_operators() && make_array_type() && init_array_iterator() &&
              init_memory_holder() && PyModule_AddFunctions(m.ptr(), module_methods) == 0 &&
              PyModule_AddObjectRef(m.ptr(), "ArrayImpl", reinterpret_cast<PyObject*>(array_type)) == 0;
  if (!made) throw nanobind::python_error();
}

}  // namespace velax
