// DLPack in both directions, in its legacy form and in the versioned one (which can say "read-only").
//
// Exported tensors view the array's memory and hold its buffer, so that it is not donated while they live; versioned
// ones are marked read-only. Imported memory is used as it is when it is dense, row-major and aligned to 16 bytes, and
// is never written by us, whether or not the producer marked it read-only.
#include "array_internal.h"

namespace velax {
namespace {

// ------------------------------------------------------------------------------------------- the DLPack 1.0 structs

struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor dl_tensor;
};
constexpr int32_t kDLCPU = 1;
constexpr uint64_t kReadOnly = 1;
constexpr uint64_t kIsCopied = 2;
constexpr uintptr_t kAliasAlignment = 16;
const char* const kLegacyName = "dltensor";
const char* const kVersionedName = "dltensor_versioned";

// ---------------------------------------------------------------------------------------------------------- export

// A tensor with the shape and the strides (in elements) stored behind it.
template <typename Managed>
struct Exported : Managed {
  int64_t extents[2 * kMaxRank];

  explicit Exported(const AvalInfo* info) : Managed{} {
    for (int i = 0; i < info->ndim; ++i) {
      extents[i] = info->dims[i];
      extents[kMaxRank + i] = info->strides[i] / info->itemsize;
    }
    this->dl_tensor.shape = extents;
    this->dl_tensor.strides = extents + kMaxRank;
  }
};

template <typename Managed>
void delete_exported(Managed* managed) {
  static_cast<Buffer*>(managed->manager_ctx)->unhold();
  delete static_cast<Exported<Managed>*>(managed);
}

// Of a capsule that nobody consumed.
template <typename Managed>
void destroy_capsule(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;
  Managed* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed->deleter != nullptr) managed->deleter(managed);
}
void destroy_legacy_capsule(PyObject* capsule) { destroy_capsule<DLManagedTensor>(capsule, kLegacyName); }
void destroy_versioned_capsule(PyObject* capsule) {
  destroy_capsule<DLManagedTensorVersioned>(capsule, kVersionedName);
}

template <typename Managed>
PyObject* export_tensor(Exported<Managed>* managed, ArrayImpl* array, const char* name,
                        PyCapsule_Destructor destructor) {
  AvalInfo* info = array->info;
  const DTypeTraits& traits = kDTypes[info->code];
  managed->dl_tensor.data = array->buffer->data;
  managed->dl_tensor.device = {kDLCPU, 0};
  managed->dl_tensor.ndim = info->ndim;
  managed->dl_tensor.dtype = {traits.dlpack_code, traits.dlpack_bits, 1};
  managed->dl_tensor.byte_offset = 0;
  managed->manager_ctx = array->buffer;
  managed->deleter = delete_exported<Managed>;
  array->buffer->hold();
  PyObject* capsule = PyCapsule_New(managed, name, destructor);
  if (capsule == nullptr) delete_exported<Managed>(managed);
  return capsule;
}

}  // namespace

namespace {

bool parse_pair(const char* argument, PyObject* pair, int* first, int* second) {
  if (PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2) return PyArg_ParseTuple(pair, "ii:__dlpack__", first, second);
  PyErr_Format(PyExc_TypeError, "__dlpack__: %s must be a tuple of two ints, got %R", argument, pair);
  return false;
}

}  // namespace

PyObject* array_method_dlpack_device(PyObject*, PyObject*) { return Py_BuildValue("ii", kDLCPU, 0); }

PyObject* array_method_dlpack(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"stream", "max_version", "dl_device", "copy"};
  PyObject* values[4];
  if (!bind_arguments("__dlpack__", args, nargs, kwnames, names, 4, 0, values)) return nullptr;
  for (PyObject*& value : values) {
    if (value == Py_None) value = nullptr;
  }
  AvalInfo* info = array_info(self);
  if (kDTypes[info->code].dlpack_bits < 8) {
    PyErr_Format(PyExc_BufferError,
                 "DLPack packs the elements of %s, arrays store one per byte; convert to int8 or uint8 first",
                 dtype_name(info->code));
    return nullptr;
  }
  if (values[0] != nullptr) {
    PyErr_Format(PyExc_ValueError, "__dlpack__: an array in CPU memory has no streams, got stream=%R", values[0]);
    return nullptr;
  }
  if (values[2] != nullptr) {
    int device_type, device_id;
    if (!parse_pair("dl_device", values[2], &device_type, &device_id)) return nullptr;
    if (device_type != kDLCPU || device_id != 0) {
      PyErr_Format(PyExc_BufferError, "__dlpack__: the array is in CPU memory, (1, 0), not on dl_device=%R", values[2]);
      return nullptr;
    }
  }
  int major = 0, minor = 0;
  if (values[1] != nullptr && !parse_pair("max_version", values[1], &major, &minor)) return nullptr;
  int copy = values[3] == nullptr ? 0 : PyObject_IsTrue(values[3]);
  // The buffer last: reading the arguments may run code that deletes the array.
  if (copy < 0 || array_buffer(self) == nullptr) return nullptr;
  Ref copied;
  if (copy) {
    copied = Ref(as_object(array_copied(as_array(self))));
    if (!copied) return nullptr;
  }
  ArrayImpl* array = copy ? as_array(copied.get()) : as_array(self);
  return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    if (major < 1) {
      return export_tensor(new Exported<DLManagedTensor>(info), array, kLegacyName,
                                            destroy_legacy_capsule);
    }
    auto* managed = new Exported<DLManagedTensorVersioned>(info);
    managed->major = 1;
    managed->minor = 0;
    managed->flags = copy ? kIsCopied : kReadOnly;
    return export_tensor(managed, array, kVersionedName, destroy_versioned_capsule);
  });
}

// ---------------------------------------------------------------------------------------------------------- import

namespace {

// The producer's deleter may run Python code.
template <typename Managed>
void delete_imported(Buffer* buffer) noexcept {
  Managed* managed = static_cast<Managed*>(buffer->owner);
  if (managed->deleter == nullptr) return;
  with_gil([managed] { managed->deleter(managed); });
}

int code_of_dlpack(const DLDataType& dtype) {
  if (dtype.lanes == 1 && dtype.bits >= 8) {
    for (int code = 0; code < kNumDTypes; ++code) {
      if (kDTypes[code].dlpack_code == dtype.code && kDTypes[code].dlpack_bits == dtype.bits) return code;
    }
  }
  PyErr_Format(PyExc_TypeError,
               "from_dlpack: no element type for the DLPack data type (code=%d, bits=%d, lanes=%d)", dtype.code,
               dtype.bits, dtype.lanes);
  return -1;
}

enum class Copy { kIfNeeded, kAlways, kNever };

template <typename Managed>
PyObject* import_tensor(PyObject* capsule, const char* name, const char* used_name, Copy copy) {
  Managed* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed == nullptr) return nullptr;
  const DLTensor& tensor = managed->dl_tensor;
  if (tensor.device.device_type != kDLCPU) {
    PyErr_Format(PyExc_BufferError, "from_dlpack: the tensor is on DLPack device type %d, only CPU memory (1) is "
                 "supported; copy it to the host first",
                 tensor.device.device_type);
    return nullptr;
  }
  int code = code_of_dlpack(tensor.dtype);
  if (code < 0) return nullptr;
  if (tensor.ndim < 0 || tensor.ndim > kMaxRank) {
    PyErr_Format(PyExc_ValueError, "from_dlpack: arrays have 0 to %d dimensions, got %d", kMaxRank, tensor.ndim);
    return nullptr;
  }
  for (int i = 0; i < tensor.ndim; ++i) {
    if (tensor.shape[i] >= 0) continue;
    PyErr_Format(PyExc_ValueError, "from_dlpack: dimension %d of the tensor is negative: %lld", i,
                 static_cast<long long>(tensor.shape[i]));
    return nullptr;
  }
  return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    AvalInfo* info = intern_aval(code, false, tensor.shape, tensor.ndim);
    int64_t strides[kMaxRank];
    bool dense = true;
    for (int i = 0; i < info->ndim; ++i) {
      strides[i] = tensor.strides == nullptr ? info->strides[i] : tensor.strides[i] * info->itemsize;
      dense &= info->dims[i] == 1 || info->size == 0 || strides[i] == info->strides[i];
    }
    char* data = static_cast<char*>(tensor.data) + tensor.byte_offset;
    bool aligned = reinterpret_cast<uintptr_t>(data) % kAliasAlignment == 0;
    if (dense && aligned && copy != Copy::kAlways) {
      BufferRef buffer = borrow_memory(data, static_cast<size_t>(info->nbytes), nullptr, managed, false);
      ArrayImpl* array = array_new(std::move(buffer), info);
      if (array == nullptr) return nullptr;
      // From here on the tensor is ours to delete.
      if (PyCapsule_SetName(capsule, used_name) < 0) {
        Py_DECREF(array);
        return nullptr;
      }
      array->buffer->deleter = delete_imported<Managed>;
      return as_object(array);
    }
    if (copy == Copy::kNever) {
      PyErr_Format(PyExc_ValueError,
                   "from_dlpack(copy=False): cannot use the memory of a tensor of %s without a copy, because it is not "
                   "%s; pass copy=None to copy where needed",
                   aval_to_string(info).c_str(), dense ? "aligned to 16 bytes" : "dense and row-major");
      return nullptr;
    }
    ArrayImpl* array = array_uninitialised(info);
    if (array == nullptr) return nullptr;
    copy_strided_releasing_gil(data, strides, info, static_cast<char*>(array->buffer->data));
    // The unconsumed capsule deletes the tensor when the caller drops it.
    return as_object(array);
  });
}

// Asks the producer for a capsule, the versioned one if it knows about versions.
PyObject* request_capsule(PyObject* tensor) {
  Ref dlpack(PyObject_GetAttrString(tensor, "__dlpack__"));
  if (!dlpack) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return nullptr;
    PyErr_Format(PyExc_TypeError, "from_dlpack: %R of type %s is neither a DLPack capsule nor has it a __dlpack__ "
                 "method",
                 tensor, Py_TYPE(tensor)->tp_name);
    return nullptr;
  }
  Ref empty(PyTuple_New(0));
  Ref keywords(Py_BuildValue("{s:(ii)}", "max_version", 1, 0));
  if (!empty || !keywords) return nullptr;
  PyObject* capsule = PyObject_Call(dlpack.get(), empty.get(), keywords.get());
  if (capsule != nullptr || !PyErr_ExceptionMatches(PyExc_TypeError)) return capsule;
  PyErr_Clear();  // producers from before DLPack 1.0 do not know the keyword
  return PyObject_CallNoArgs(dlpack.get());
}

}  // namespace

PyObject* module_from_dlpack(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"tensor", "copy"};
  PyObject* values[2];
  if (!bind_arguments("from_dlpack", args, nargs, kwnames, names, 2, 1, values)) return nullptr;
  Copy copy = Copy::kIfNeeded;
  if (values[1] != nullptr && values[1] != Py_None) {
    int truth = PyObject_IsTrue(values[1]);
    if (truth < 0) return nullptr;
    copy = truth ? Copy::kAlways : Copy::kNever;
  }
  Ref requested;
  PyObject* capsule = values[0];
  if (!PyCapsule_CheckExact(capsule)) {
    requested = Ref(request_capsule(capsule));
    if (!requested) return nullptr;
    capsule = requested.get();
  }
  if (PyCapsule_IsValid(capsule, kVersionedName)) {
    DLManagedTensorVersioned* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, kVersionedName));
    if (managed->major != 1) {
      PyErr_Format(PyExc_BufferError, "from_dlpack: the tensor has DLPack version %u.%u, only 1.x is understood",
                   managed->major, managed->minor);
      return nullptr;
    }
    return import_tensor<DLManagedTensorVersioned>(capsule, kVersionedName, "used_dltensor_versioned", copy);
  }
  if (PyCapsule_IsValid(capsule, kLegacyName)) {
    return import_tensor<DLManagedTensor>(capsule, kLegacyName, "used_dltensor", copy);
  }
  PyErr_Format(PyExc_ValueError,
               "from_dlpack: %R is not a DLPack capsule, or one that was consumed already; ask the producer for a new "
               "one",
               capsule);
  return nullptr;
}

}  // namespace velax
