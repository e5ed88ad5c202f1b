// Interned abstract values.
#include <pthread.h>

#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <unordered_set>
#include <vector>

#include "array_internal.h"

namespace velax {
namespace {

struct Key {
  int code;
  bool weak;
  int ndim;
  const int64_t* dims;
  uint64_t hash;
};

uint64_t hash_signature(int code, bool weak, const int64_t* dims, int ndim) {
  uint64_t hash = 0x9E3779B97F4A7C15ull * static_cast<uint64_t>(code * 2 + weak + 1);
  for (int i = 0; i < ndim; ++i) {
    hash ^= static_cast<uint64_t>(dims[i]);
    hash *= 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  }
  hash *= 0xD6E8FEB86659FD93ull;
  return hash ^ (hash >> 29);
}

bool matches(const AvalInfo* info, const Key& key) {
  return info->hash == key.hash && info->code == key.code && info->weak == key.weak && info->ndim == key.ndim &&
         (key.ndim == 0 || std::memcmp(info->dims, key.dims, sizeof(int64_t) * key.ndim) == 0);
}

// Open addressing with linear probing; entries are never removed. A program has some thousands of signatures at most,
// so that letting them live for ever costs little and makes the pointers safe to keep anywhere.
struct Table {
  std::shared_mutex mutex;
  std::vector<AvalInfo*> slots = std::vector<AvalInfo*>(1024, nullptr);
  size_t count = 0;

  AvalInfo* find(const Key& key) const {
    size_t mask = slots.size() - 1;
    for (size_t i = key.hash & mask; slots[i] != nullptr; i = (i + 1) & mask) {
      if (matches(slots[i], key)) return slots[i];
    }
    return nullptr;
  }

  static void place(std::vector<AvalInfo*>& slots, AvalInfo* info) {
    size_t mask = slots.size() - 1;
    size_t i = info->hash & mask;
    while (slots[i] != nullptr) i = (i + 1) & mask;
    slots[i] = info;
  }

  void insert(AvalInfo* info) {
    if ((count + 1) * 2 > slots.size()) {
      std::vector<AvalInfo*> larger(slots.size() * 2, nullptr);
      for (AvalInfo* old : slots) {
        if (old != nullptr) place(larger, old);
      }
      slots.swap(larger);
    }
    place(slots, info);
    ++count;
  }
};

Table& table() {
  // Never destroyed: arrays may outlive static destructors.
  static Table* instance = [] {
    static Table* made = new Table;
    // The child makes a new lock: a rwlock remembers its writer by thread id, and the child's is another.
    pthread_atfork([] { made->mutex.lock(); }, [] { made->mutex.unlock(); },
                   [] { new (&made->mutex) std::shared_mutex; });
    return made;
  }();
  return *instance;
}

AvalInfo* make_info(const Key& key) {
  int64_t size = 1;
  int64_t nbytes;
  bool overflow = false;
  bool empty = false;
  for (int i = 0; i < key.ndim; ++i) empty |= key.dims[i] == 0;
  for (int i = 0; i < key.ndim && !empty; ++i) overflow |= __builtin_mul_overflow(size, key.dims[i], &size);
  if (empty) size = 0;
  overflow |= __builtin_mul_overflow(size, static_cast<int64_t>(dtype_itemsize(key.code)), &nbytes);
  if (overflow) {
    std::string text = std::string("an array of shape ") + dtype_name(key.code) + "[";
    for (int i = 0; i < key.ndim; ++i) text += (i ? "," : "") + std::to_string(key.dims[i]);
    throw AllocationError(text + "] has more bytes than a 64-bit address space");
  }
  // dims and strides are stored behind the struct.
  char* memory = static_cast<char*>(::operator new(sizeof(AvalInfo) + 2 * sizeof(int64_t) * key.ndim));
  AvalInfo* info = new (memory) AvalInfo{};
  int64_t* dims = reinterpret_cast<int64_t*>(memory + sizeof(AvalInfo));
  int64_t* strides = dims + key.ndim;
  info->code = key.code;
  info->weak = key.weak;
  info->ndim = key.ndim;
  info->itemsize = dtype_itemsize(key.code);
  info->size = size;
  info->nbytes = nbytes;
  info->hash = key.hash;
  info->dims = dims;
  info->strides = strides;
  uint64_t stride = static_cast<uint64_t>(info->itemsize);
  for (int i = key.ndim - 1; i >= 0; --i) {
    dims[i] = key.dims[i];
    strides[i] = static_cast<int64_t>(stride);
    // In an array without elements the product may overflow; nothing is ever addressed with it.
    stride *= static_cast<uint64_t>(dims[i] == 0 ? 1 : dims[i]);
  }
  return info;
}

AvalInfo* find_or_make(const Key& key) {
  Table& shared = table();
  {
    std::shared_lock<std::shared_mutex> lock(shared.mutex);
    if (AvalInfo* info = shared.find(key)) return info;
  }
  AvalInfo* made = make_info(key);
  std::unique_lock<std::shared_mutex> lock(shared.mutex);
  if (AvalInfo* info = shared.find(key)) {  // another thread was faster
    ::operator delete(made);
    return info;
  }
  shared.insert(made);
  return made;
}

constexpr size_t kRecent = 256;
__thread AvalInfo* recent[kRecent];

// Rank 0, in [code][weak].
struct ScalarInfos {
  AvalInfo* infos[kNumDTypes][2];
  ScalarInfos() {
    for (int code = 0; code < kNumDTypes; ++code) {
      for (int weak = 0; weak < 2; ++weak) {
        infos[code][weak] =
            find_or_make({code, weak != 0, 0, nullptr, hash_signature(code, weak != 0, nullptr, 0)});
      }
    }
  }
};

const ScalarInfos& scalar_infos() {
  static const ScalarInfos* instance = new ScalarInfos;
  return *instance;
}

PyObject* aval_factory = nullptr;

}  // namespace

AvalInfo* intern_aval(int code, bool weak, const int64_t* dims, int ndim) {
  if (ndim == 0) return intern_scalar_aval(code, weak);
  Key key{code, weak, ndim, dims, hash_signature(code, weak, dims, ndim)};
  AvalInfo*& slot = recent[key.hash & (kRecent - 1)];
  if (slot != nullptr && matches(slot, key)) return slot;
  AvalInfo* info = find_or_make(key);
  slot = info;
  return info;
}

AvalInfo* intern_scalar_aval(int code, bool weak) noexcept { return scalar_infos().infos[code][weak]; }

AvalInfo* aval_with_weak_type(AvalInfo* info, bool weak) {
  return info->weak == weak ? info : intern_aval(info->code, weak, info->dims, info->ndim);
}

std::string aval_to_string(const AvalInfo* info) {
  std::string text = std::string(dtype_name(info->code)) + "[";
  for (int i = 0; i < info->ndim; ++i) text += (i ? "," : "") + std::to_string(info->dims[i]);
  return text + "]";
}

PyObject* AvalInfo::dtype() const { return numpy_dtype(code); }

PyObject* AvalInfo::shape() {
  PyObject* known = shape_object.load(std::memory_order_acquire);
  if (known != nullptr) return known;
  Ref made(PyTuple_New(ndim));
  if (!made) return nullptr;
  for (int i = 0; i < ndim; ++i) {
    PyObject* dim = PyLong_FromLongLong(dims[i]);
    if (dim == nullptr) return nullptr;
    PyTuple_SET_ITEM(made.get(), i, dim);
  }
  if (!shape_object.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel)) return known;
  return made.release();
}

PyObject* AvalInfo::aval() {
  PyObject* known = aval_object.load(std::memory_order_acquire);
  if (known != nullptr) return known;
  if (aval_factory == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "no aval factory is registered: call _native.set_aval_factory first");
    return nullptr;
  }
  PyObject* shape_tuple = shape();
  if (shape_tuple == nullptr) return nullptr;
  PyObject* arguments[] = {shape_tuple, dtype(), weak ? Py_True : Py_False};
  Ref made(PyObject_Vectorcall(aval_factory, arguments, 3, nullptr));
  if (!made) return nullptr;
  if (!aval_object.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel)) return known;
  return made.release();
}

PyObject* module_set_aval_factory(PyObject*, PyObject* factory) {
  if (!PyCallable_Check(factory)) {
    PyErr_Format(PyExc_TypeError, "set_aval_factory: expected a callable f(shape, dtype, weak_type), got %R", factory);
    return nullptr;
  }
  Py_INCREF(factory);
  Ref old(aval_factory);
  aval_factory = factory;
  // Avals of the factory before are made anew when next asked for.
  std::vector<PyObject*> stale;
  {
    Table& shared = table();
    std::unique_lock<std::shared_mutex> lock(shared.mutex);
    for (AvalInfo* info : shared.slots) {
      if (info == nullptr) continue;
      if (PyObject* aval = info->aval_object.exchange(nullptr)) stale.push_back(aval);
    }
  }
  for (PyObject* aval : stale) Py_DECREF(aval);
  Py_RETURN_NONE;
}

}  // namespace velax
