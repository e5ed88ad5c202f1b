// Arrays and NumPy: the buffer protocol, read-only views, construction from ndarrays, pickling and printing.
#include <cstring>

#include "array_internal.h"

namespace velax {
namespace {

constexpr uintptr_t kAliasAlignment = 16;  // the widest element; kernels ask no more of memory that is not ours

// An object that owns a hold on a buffer and shows its bytes. It is the base of the ndarrays that view the buffer, so
// that the hold ends with the last of them.
struct MemoryHolder {
  PyObject_HEAD
  Buffer* buffer;
};

PyTypeObject* holder_type;

void holder_dealloc(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  reinterpret_cast<MemoryHolder*>(object)->buffer->unhold();
  PyObject_Free(object);
  Py_DECREF(type);
}

int holder_getbuffer(PyObject* object, Py_buffer* view, int flags) {
  Buffer* buffer = reinterpret_cast<MemoryHolder*>(object)->buffer;
  return PyBuffer_FillInfo(view, object, buffer->data, static_cast<Py_ssize_t>(buffer->nbytes), 1, flags);
}

PyType_Slot holder_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(holder_dealloc)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(holder_getbuffer)},
    {Py_tp_doc, const_cast<char*>("The memory of an array, kept alive for the NumPy views of it.")},
    {0, nullptr},
};

PyType_Spec holder_spec = {"velax._native.MemoryHolder", sizeof(MemoryHolder), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, holder_slots};

PyObject* name_array_struct;
PyObject* name_dtype;
PyObject* name_base;
PyObject* copy_keyword;  // ("copy",)

}  // namespace

bool init_memory_holder() {
  holder_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&holder_spec));
  name_array_struct = PyUnicode_InternFromString("__array_struct__");
  name_dtype = PyUnicode_InternFromString("dtype");
  name_base = PyUnicode_InternFromString("base");
  copy_keyword = Py_BuildValue("(s)", "copy");
  return holder_type && name_array_struct && name_dtype && name_base && copy_keyword;
}

PyObject* array_view_as_ndarray(ArrayImpl* array) noexcept {
  // The shape first: making it may run the collector, and with it code that deletes the array.
  PyObject* shape = array->info->shape();
  Buffer* buffer = shape == nullptr ? nullptr : array_buffer(as_object(array));
  if (buffer == nullptr) return nullptr;
  MemoryHolder* holder = PyObject_New(MemoryHolder, holder_type);
  if (holder == nullptr) return nullptr;
  buffer->hold();
  holder->buffer = buffer;
  Ref owner(reinterpret_cast<PyObject*>(holder));
  PyObject* arguments[] = {shape, array->info->dtype(), owner.get()};
  return PyObject_Vectorcall(reinterpret_cast<PyObject*>(numpy.ndarray), arguments, 3, nullptr);
}

// ------------------------------------------------------------------------------------------------- buffer protocol

int array_getbuffer(PyObject* self, Py_buffer* view, int flags) {
  view->obj = nullptr;
  AvalInfo* info = array_info(self);
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) {
    PyErr_Format(PyExc_BufferError, "the array of %s has been deleted", aval_to_string(info).c_str());
    return -1;
  }
  if (flags & PyBUF_WRITABLE) {
    PyErr_SetString(PyExc_BufferError, "arrays are immutable: only read-only views of their memory are given out");
    return -1;
  }
  const char* format = kDTypes[info->code].buffer_format;
  if ((flags & PyBUF_FORMAT) && format == nullptr) {
    PyErr_Format(PyExc_BufferError, "the buffer protocol has no format for %s; use numpy.asarray(x)",
                 dtype_name(info->code));
    return -1;
  }
  int layout = flags & (PyBUF_C_CONTIGUOUS | PyBUF_F_CONTIGUOUS | PyBUF_ANY_CONTIGUOUS);
  int long_axes = 0;
  for (int i = 0; i < info->ndim; ++i) long_axes += info->dims[i] > 1;
  if (layout == PyBUF_F_CONTIGUOUS && long_axes > 1 && info->size > 0) {
    PyErr_SetString(PyExc_BufferError, "the memory of an array is row-major, not column-major");
    return -1;
  }
  buffer->hold();
  view->internal = buffer;
  view->buf = buffer->data;
  view->len = static_cast<Py_ssize_t>(info->nbytes);
  view->readonly = 1;
  view->itemsize = info->itemsize;
  view->format = flags & PyBUF_FORMAT ? const_cast<char*>(format) : nullptr;
  view->ndim = info->ndim;
  // AvalInfo lives for ever; Py_ssize_t is int64_t.
  static_assert(sizeof(Py_ssize_t) == sizeof(int64_t), "64-bit platforms only");
  bool shaped = (flags & PyBUF_ND) && info->ndim > 0;
  bool strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES && info->ndim > 0;
  view->shape = shaped ? reinterpret_cast<Py_ssize_t*>(const_cast<int64_t*>(info->dims)) : nullptr;
  view->strides = strided ? reinterpret_cast<Py_ssize_t*>(const_cast<int64_t*>(info->strides)) : nullptr;
  view->suboffsets = nullptr;
  if (!(flags & PyBUF_ND)) {  // plain bytes
    view->ndim = 1;
  }
  Py_INCREF(self);
  view->obj = self;
  return 0;
}

void array_releasebuffer(PyObject*, Py_buffer* view) { static_cast<Buffer*>(view->internal)->unhold(); }

PyObject* array_method_array(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"dtype", "copy"};
  PyObject* values[2];
  if (!bind_arguments("__array__", args, nargs, kwnames, names, 2, 0, values)) return nullptr;
  PyObject* dtype = values[0] != nullptr ? values[0] : Py_None;
  PyObject* copy = values[1] != nullptr ? values[1] : Py_None;
  Ref view(array_view_as_ndarray(as_array(self)));
  if (!view || (dtype == Py_None && copy == Py_None)) return view.release();
  // NumPy knows the rules: convert where needed, copy when asked to, refuse when it must not but would.
  PyObject* arguments[] = {view.get(), dtype, copy};
  return PyObject_Vectorcall(copy == Py_True ? numpy.array : numpy.asarray, arguments, 2, copy_keyword);
}

// -------------------------------------------------------------------------------------------------- from an ndarray

namespace {

// The struct behind the capsule of NumPy's array interface protocol.
struct ArrayInterface {
  int two;
  int ndim;
  char typekind;
  int itemsize;
  int flags;
  Py_intptr_t* shape;
  Py_intptr_t* strides;
  void* data;
  PyObject* descr;
};
constexpr int kInterfaceWriteable = 0x400;

enum class Alias { kShareBuffer, kBorrow, kUnsafe };

// Whether the memory of an ndarray can be used as it is. A read-only flag alone says little: the array may be a
// read-only view of one that others write. Safe are chains of read-only arrays that end in an array that owns its
// memory, in `bytes`, or in one of our own buffers (which is then shared).
Alias alias_safety(PyObject* ndarray, const ArrayInterface& interface, size_t nbytes, Buffer** shared) {
  if (interface.flags & kInterfaceWriteable) return Alias::kUnsafe;
  Ref base(PyObject_GetAttr(ndarray, name_base));
  while (base && PyObject_TypeCheck(base.get(), numpy.ndarray)) {
    Ref flags(PyObject_GetAttrString(base.get(), "flags"));
    Ref writeable(flags ? PyObject_GetAttrString(flags.get(), "writeable") : nullptr);
    if (writeable.get() != Py_False) break;
    base = Ref(PyObject_GetAttr(base.get(), name_base));
  }
  if (!base) {
    PyErr_Clear();  // an odd subclass without a base attribute: copying is always right
    return Alias::kUnsafe;
  }
  Buffer* own = nullptr;
  if (Py_TYPE(base.get()) == holder_type) {
    own = reinterpret_cast<MemoryHolder*>(base.get())->buffer;
  } else if (PyMemoryView_Check(base.get())) {
    const Py_buffer* view = PyMemoryView_GET_BUFFER(base.get());
    if (view->obj != nullptr && is_array(view->obj)) own = static_cast<Buffer*>(view->internal);
  }
  if (own != nullptr) {
    if (own->data == interface.data && own->nbytes == nbytes) {
      *shared = own;
      return Alias::kShareBuffer;
    }
    return Alias::kBorrow;
  }
  return base.get() == Py_None || PyBytes_CheckExact(base.get()) ? Alias::kBorrow : Alias::kUnsafe;
}

}  // namespace

ArrayImpl* array_from_numpy(PyObject* ndarray, bool weak, bool may_alias, bool alias_writable) noexcept {
  if (!PyObject_TypeCheck(ndarray, numpy.ndarray)) {
    PyErr_Format(PyExc_TypeError, "expected a numpy.ndarray, got %R of type %s", ndarray, Py_TYPE(ndarray)->tp_name);
    return nullptr;
  }
  Ref descr(PyObject_GetAttr(ndarray, name_dtype));
  if (!descr) return nullptr;
  int code = dtype_code(descr.get());
  if (code < 0) return nullptr;
  Ref capsule(PyObject_GetAttr(ndarray, name_array_struct));
  if (!capsule) return nullptr;
  const ArrayInterface* interface =
      static_cast<const ArrayInterface*>(PyCapsule_GetPointer(capsule.get(), nullptr));
  if (interface == nullptr) return nullptr;
  static_assert(sizeof(Py_intptr_t) == sizeof(int64_t), "64-bit platforms only");
  const int64_t* dims = reinterpret_cast<const int64_t*>(interface->shape);
  const int64_t* strides = reinterpret_cast<const int64_t*>(interface->strides);
  return guarded(static_cast<ArrayImpl*>(nullptr), [&]() -> ArrayImpl* {
    AvalInfo* info = intern_aval(code, weak, dims, interface->ndim);
    bool dense = true;
    for (int i = 0; i < info->ndim && info->size > 0; ++i) dense &= dims[i] == 1 || strides[i] == info->strides[i];
    bool aligned = reinterpret_cast<uintptr_t>(interface->data) % kAliasAlignment == 0;
    if (may_alias && dense && aligned) {
      Buffer* shared = nullptr;
      Alias safety = alias_safety(ndarray, *interface, static_cast<size_t>(info->nbytes), &shared);
      if (safety == Alias::kShareBuffer) return array_new(BufferRef::share(shared), info);
      if (safety == Alias::kBorrow || alias_writable) {
        Py_INCREF(ndarray);
        BufferRef borrowed;
        try {
          borrowed = borrow_memory(interface->data, static_cast<size_t>(info->nbytes), release_python_owner, ndarray,
                                   false);
        } catch (...) {
          Py_DECREF(ndarray);
          throw;
        }
        return array_new(std::move(borrowed), info);
      }
    }
    if (alias_writable) {
      PyErr_Format(PyExc_ValueError,
                   "array_from_numpy(copy=False): cannot use the memory of an ndarray of %s without a copy, because it "
                   "is not %s; pass copy=None to copy where needed",
                   aval_to_string(info).c_str(), dense ? "aligned to 16 bytes" : "dense and row-major");
      return nullptr;
    }
    ArrayImpl* array = array_uninitialised(info);
    if (array != nullptr) {
      copy_strided_releasing_gil(static_cast<const char*>(interface->data), strides, info,
                                 static_cast<char*>(array->buffer->data));
    }
    return array;
  });
}

PyObject* module_array_from_numpy(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"ndarray", "weak_type", "copy"};
  PyObject* values[3];
  if (!bind_arguments("array_from_numpy", args, nargs, kwnames, names, 3, 1, values)) return nullptr;
  int weak = values[1] == nullptr ? 0 : PyObject_IsTrue(values[1]);
  if (weak < 0) return nullptr;
  int copy = values[2] == nullptr || values[2] == Py_None ? 1 : PyObject_IsTrue(values[2]);
  if (copy < 0) return nullptr;
  bool never = copy == 0;
  return as_object(array_from_numpy(values[0], weak != 0, never || values[2] == Py_None, never));
}

// --------------------------------------------------------------------------------------------- pickling and printing

PyObject* array_method_reduce(PyObject* self, PyObject*) {
  static PyObject* reconstruct = nullptr;
  if (reconstruct == nullptr) {
    Ref module(PyImport_ImportModule("velax._native"));
    if (!module) return nullptr;
    reconstruct = PyObject_GetAttrString(module.get(), "_reconstruct_array");
    if (reconstruct == nullptr) return nullptr;
  }
  Ref view(array_view_as_ndarray(as_array(self)));
  if (!view) return nullptr;
  return Py_BuildValue("O(OO)", reconstruct, view.get(), array_info(self)->weak ? Py_True : Py_False);
}

PyObject* module_reconstruct_array(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 2) {
    PyErr_Format(PyExc_TypeError, "_reconstruct_array takes an ndarray and a weak type, got %zd arguments", nargs);
    return nullptr;
  }
  int weak = PyObject_IsTrue(args[1]);
  return weak < 0 ? nullptr : as_object(array_from_numpy(args[0], weak != 0, false, false));
}

PyObject* array_str(PyObject* self) {
  Ref view(array_view_as_ndarray(as_array(self)));
  return view ? PyObject_Str(view.get()) : nullptr;
}

PyObject* array_repr(PyObject* self) {
  AvalInfo* info = array_info(self);
  Ref view(array_view_as_ndarray(as_array(self)));
  if (!view) return nullptr;
  Ref options(PyObject_CallNoArgs(numpy.get_printoptions));
  if (!options) return nullptr;
  PyObject* line_width = PyDict_GetItemString(options.get(), "linewidth");
  if (line_width == nullptr) {
    PyErr_SetString(PyExc_KeyError, "numpy.get_printoptions() has no 'linewidth'");
    return nullptr;
  }
  Ref body;
  if (info->size == 0) {
    body = Ref(PyUnicode_FromFormat("[], shape=%R", info->shape()));
  } else {
    Ref positional(PyTuple_Pack(1, view.get()));
    Ref keywords(Py_BuildValue("{s:O,s:s,s:s,s:s}", "max_line_width", line_width, "separator", ", ", "prefix",
                               "Array(", "suffix", ","));
    if (!positional || !keywords) return nullptr;
    body = Ref(PyObject_Call(numpy.array2string, positional.get(), keywords.get()));
  }
  if (!body) return nullptr;
  Py_ssize_t length;
  const char* text = PyUnicode_AsUTF8AndSize(body.get(), &length);
  long width = PyLong_AsLong(line_width);
  if (text == nullptr || (width == -1 && PyErr_Occurred())) return nullptr;
  std::string dtype = std::string("dtype=") + dtype_name(info->code) + (info->weak ? ", weak_type=True)" : ")");
  // A dtype that does not fit behind the last line is set off as far as the elements are indented.
  const char* newline = static_cast<const char*>(memrchr(text, '\n', static_cast<size_t>(length)));
  long last_line = (newline != nullptr ? static_cast<long>(text + length - newline) : length + 1) + 1;
  bool fits = last_line + static_cast<long>(dtype.size()) + 1 <= width;
  return PyUnicode_FromFormat("Array(%U,%s%s", body.get(), fits ? " " : "      ", dtype.c_str());
}

PyObject* array_method_format(PyObject* self, PyObject* spec) {
  Ref view(array_view_as_ndarray(as_array(self)));
  if (!view) return nullptr;
  if (array_info(self)->ndim == 0) {
    Ref empty(PyTuple_New(0));
    if (!empty) return nullptr;
    view = Ref(PyObject_GetItem(view.get(), empty.get()));
    if (!view) return nullptr;
  }
  return PyObject_Format(view.get(), spec);
}

}  // namespace velax
