// Basic indexing, iteration and strided copies.
#include <algorithm>
#include <climits>
#include <cstring>

#include "array_internal.h"
#include "state.h"

namespace velax {

// --------------------------------------------------------------------------------------------------- strided copy

namespace {

constexpr size_t kReleaseGilBytes = size_t{1} << 20;

struct Pattern {
  int64_t dims[kMaxRank];
  int64_t strides[kMaxRank];
  int ndim;
};

// Drops dimensions of extent one and merges neighbours that are one run in the source.
void coalesce(const int64_t* dims, const int64_t* strides, int ndim, Pattern* out) {
  out->ndim = 0;
  for (int i = 0; i < ndim; ++i) {
    if (dims[i] == 1) continue;
    int last = out->ndim - 1;
    if (last >= 0 && out->strides[last] == strides[i] * dims[i]) {
      out->dims[last] *= dims[i];
      out->strides[last] = strides[i];
    } else {
      out->dims[out->ndim] = dims[i];
      out->strides[out->ndim++] = strides[i];
    }
  }
}

template <size_t itemsize>
void copy_row(const char* source, int64_t stride, int64_t count, char* destination) {
  for (int64_t i = 0; i < count; ++i, source += stride, destination += itemsize) {
    std::memcpy(destination, source, itemsize);
  }
}

// A matrix whose columns are contiguous in the source (a transpose), in tiles that stay in the cache.
template <size_t itemsize>
void copy_transposed(const char* source, int64_t rows, int64_t columns, int64_t column_stride, char* destination) {
  constexpr int64_t kTile = 32;
  for (int64_t row = 0; row < rows; row += kTile) {
    int64_t row_end = std::min(rows, row + kTile);
    for (int64_t column = 0; column < columns; column += kTile) {
      int64_t column_end = std::min(columns, column + kTile);
      for (int64_t r = row; r < row_end; ++r) {
        copy_row<itemsize>(source + r * static_cast<int64_t>(itemsize) + column * column_stride, column_stride,
                           column_end - column, destination + (r * columns + column) * static_cast<int64_t>(itemsize));
      }
    }
  }
}

template <size_t itemsize>
void copy_pattern(const char* source, const Pattern& pattern, char* destination) {
  constexpr int64_t kItem = static_cast<int64_t>(itemsize);
  int inner = pattern.ndim - 1;
  bool transposed = inner >= 1 && pattern.strides[inner - 1] == kItem && pattern.strides[inner] > kItem;
  int outer = transposed ? inner - 1 : inner;
  int64_t count = pattern.dims[inner];
  int64_t chunk = transposed ? count * pattern.dims[inner - 1] : count;
  int64_t index[kMaxRank] = {};
  while (true) {
    if (transposed) {
      copy_transposed<itemsize>(source, pattern.dims[inner - 1], count, pattern.strides[inner], destination);
    } else if (pattern.strides[inner] == kItem) {
      std::memcpy(destination, source, static_cast<size_t>(count * kItem));
    } else {
      copy_row<itemsize>(source, pattern.strides[inner], count, destination);
    }
    destination += chunk * kItem;
    int axis = outer - 1;
    for (; axis >= 0; --axis) {
      source += pattern.strides[axis];
      if (++index[axis] < pattern.dims[axis]) break;
      source -= pattern.strides[axis] * pattern.dims[axis];
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

}  // namespace

void copy_strided(const char* source, const int64_t* strides, const int64_t* dims, int ndim, int itemsize,
                  char* destination) noexcept {
  for (int i = 0; i < ndim; ++i) {
    if (dims[i] == 0) return;
  }
  Pattern pattern;
  coalesce(dims, strides, ndim, &pattern);
  if (pattern.ndim == 0) {
    std::memcpy(destination, source, static_cast<size_t>(itemsize));
    return;
  }
  switch (itemsize) {
    case 1: copy_pattern<1>(source, pattern, destination); break;
    case 2: copy_pattern<2>(source, pattern, destination); break;
    case 4: copy_pattern<4>(source, pattern, destination); break;
    case 8: copy_pattern<8>(source, pattern, destination); break;
    default: copy_pattern<16>(source, pattern, destination); break;
  }
}

void copy_strided_releasing_gil(const char* source, const int64_t* strides, const AvalInfo* info,
                                char* destination) noexcept {
  PyThreadState* saved = info->nbytes >= static_cast<int64_t>(kReleaseGilBytes) ? PyEval_SaveThread() : nullptr;
  copy_strided(source, strides, info->dims, info->ndim, info->itemsize, destination);
  if (saved != nullptr) PyEval_RestoreThread(saved);
}

// -------------------------------------------------------------------------------------------------- basic indexing

namespace {

enum class Parsed { kDone, kOther, kError };

// The integer an index stands for when it is known to be static: int, NumPy integers, integer arrays of rank 0.
Parsed static_integer(PyObject* object, Py_ssize_t* value) {
  if (PyLong_CheckExact(object)) {
    int overflow;
    long long wide = PyLong_AsLongLongAndOverflow(object, &overflow);
    *value = static_cast<Py_ssize_t>(wide);
    return overflow == 0 ? Parsed::kDone : Parsed::kOther;
  }
  bool integer_array = is_array(object) && array_info(object)->ndim == 0 && dtype_is_integer(array_info(object)->code);
  if (!integer_array && !PyObject_TypeCheck(object, numpy.integer)) return Parsed::kOther;
  *value = PyNumber_AsSsize_t(object, nullptr);
  return *value == -1 && PyErr_Occurred() ? Parsed::kError : Parsed::kDone;
}

bool is_static_bound(PyObject* bound) {
  return bound == Py_None || PyLong_CheckExact(bound) || PyObject_TypeCheck(bound, numpy.integer) || is_array(bound);
}

// The part of an array that a basic index selects.
struct Selection {
  int64_t dims[kMaxRank];
  int64_t strides[kMaxRank];
  int ndim = 0;
  int64_t offset = 0;
  bool whole = true;  // the array itself, unchanged

  void append(int64_t dim, int64_t stride) {
    dims[ndim] = dim;
    strides[ndim++] = stride;
  }
};

// kOther: not a basic index, or one whose error the Python layer reports.
Parsed parse_basic_index(AvalInfo* info, PyObject* const* entries, Py_ssize_t count, Selection* out) {
  int consumed = 0;
  int ellipses = 0;
  int added = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (entries[i] == Py_Ellipsis) {
      ++ellipses;
    } else if (entries[i] == Py_None) {
      ++added;
    } else {
      ++consumed;
    }
  }
  if (consumed > info->ndim || ellipses > 1 || info->ndim + added > kMaxRank) return Parsed::kOther;
  int axis = 0;
  auto take_all = [&](int axes) {
    for (int end = axis + axes; axis < end; ++axis) out->append(info->dims[axis], info->strides[axis]);
  };
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* entry = entries[i];
    if (entry == Py_Ellipsis) {
      take_all(info->ndim - consumed);
    } else if (entry == Py_None) {
      out->append(1, 0);
      out->whole = false;
    } else if (PySlice_Check(entry)) {
      PySliceObject* slice = reinterpret_cast<PySliceObject*>(entry);
      if (!is_static_bound(slice->start) || !is_static_bound(slice->stop) || !is_static_bound(slice->step)) {
        return Parsed::kOther;
      }
      Py_ssize_t start, stop, step;
      if (PySlice_Unpack(entry, &start, &stop, &step) < 0) return Parsed::kError;
      int64_t extent = info->dims[axis];
      int64_t length = PySlice_AdjustIndices(extent, &start, &stop, step);
      if (length > 0) out->offset += start * info->strides[axis];
      out->whole &= length == extent && step == 1;
      out->append(length, length > 1 ? step * info->strides[axis] : info->strides[axis]);
      ++axis;
    } else {
      Py_ssize_t index;
      Parsed parsed = static_integer(entry, &index);
      if (parsed != Parsed::kDone) return parsed;
      int64_t extent = info->dims[axis];
      // Indices beyond 32 bits overflow the index type of a gather, which is the Python layer's error to raise.
      if (extent == 0 || index > INT32_MAX || index < INT32_MIN) return Parsed::kOther;
      if (index < 0) index += extent;
      if (index < 0 || index >= extent) return Parsed::kOther;  // a gather clamps, or raises if an option says so
      out->offset += index * info->strides[axis];
      out->whole = false;
      ++axis;
    }
  }
  take_all(info->ndim - axis);
  return Parsed::kDone;
}

PyObject* select(ArrayImpl* array, const Selection& selection) {
  if (array_buffer(as_object(array)) == nullptr) return nullptr;
  if (selection.whole) {
    Py_INCREF(array);
    return as_object(array);
  }
  AvalInfo* source = array->info;
  AvalInfo* info = guarded(static_cast<AvalInfo*>(nullptr), [&] {
    return intern_aval(source->code, source->weak, selection.dims, selection.ndim);
  });
  if (info == nullptr) return nullptr;
  // The same elements in the same order: only new dimensions, or integers into dimensions of extent one.
  bool same_order = info->size == source->size;
  for (int i = 0; i < info->ndim && same_order; ++i) {
    same_order = info->dims[i] == 1 || selection.strides[i] == info->strides[i];
  }
  if (same_order) return as_object(array_sharing(array, info));
  ArrayImpl* result = array_uninitialised(info, array);
  if (result == nullptr) return nullptr;
  BufferRef source_buffer = BufferRef::share(array->buffer);
  copy_strided_releasing_gil(static_cast<const char*>(source_buffer->data) + selection.offset, selection.strides, info,
                             static_cast<char*>(result->buffer->data));
  return as_object(result);
}

}  // namespace

PyObject* array_subscript(PyObject* self, PyObject* key) {
  if (current_trace() == nullptr) {
    Selection selection;
    Parsed parsed;
    if (PyTuple_Check(key)) {
      parsed = parse_basic_index(array_info(self), &PyTuple_GET_ITEM(key, 0), PyTuple_GET_SIZE(key), &selection);
    } else {
      parsed = parse_basic_index(array_info(self), &key, 1, &selection);
    }
    if (parsed == Parsed::kDone) return select(as_array(self), selection);
    if (parsed == Parsed::kError) return nullptr;
  }
  PyObject* getitem = registered_getitem();
  if (getitem == nullptr) {
    PyErr_Format(PyExc_TypeError, "no implementation of the array operator [] is registered for the index %R; import "
                 "velax.numpy first",
                 key);
    return nullptr;
  }
  PyObject* arguments[] = {nullptr, self, key};
  return PyObject_Vectorcall(getitem, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

Py_ssize_t array_length(PyObject* self) {
  AvalInfo* info = array_info(self);
  if (info->ndim == 0) {
    PyErr_SetString(PyExc_TypeError, "len() of unsized object");
    return -1;
  }
  return static_cast<Py_ssize_t>(info->dims[0]);
}

PyObject* array_sequence_item(PyObject* self, Py_ssize_t index) {
  AvalInfo* info = array_info(self);
  if (info->ndim != 0 && (index < 0 || index >= info->dims[0])) {
    PyErr_Format(PyExc_IndexError, "index %zd is out of bounds for axis 0 with size %lld", index,
                 static_cast<long long>(info->dims[0]));
    return nullptr;
  }
  Ref key(PyLong_FromSsize_t(index));
  return key ? array_subscript(self, key.get()) : nullptr;
}

int array_assign_subscript(PyObject*, PyObject*, PyObject* value) {
  if (value == nullptr) {
    PyErr_SetString(PyExc_TypeError,
                    "'ArrayImpl' object does not support item deletion. Arrays are immutable. Select what to keep, or "
                    "use velax.numpy.delete(x, idx).");
  } else {
    PyErr_SetString(PyExc_TypeError,
                    "JAX arrays are immutable and do not support in-place item assignment. Instead of x[idx] = y, "
                    "use x = x.at[idx].set(y) or another .at[] method.");
  }
  return -1;
}

// ------------------------------------------------------------------------------------------------------- iteration

namespace {

// Walks along the leading axis. Holds the buffer, so that deleting the array under way does no harm.
struct ArrayIterator {
  PyObject_HEAD
  ArrayImpl* array;
  Buffer* buffer;
  AvalInfo* row;
  int64_t position;
};

PyTypeObject* iterator_type;

void iterator_dealloc(PyObject* object) {
  ArrayIterator* iterator = reinterpret_cast<ArrayIterator*>(object);
  PyTypeObject* type = Py_TYPE(object);
  Py_DECREF(iterator->array);
  iterator->buffer->release();
  PyObject_Free(object);
  Py_DECREF(type);
}

PyObject* iterator_next(PyObject* object) {
  ArrayIterator* iterator = reinterpret_cast<ArrayIterator*>(object);
  if (iterator->position >= iterator->array->info->dims[0]) return nullptr;
  ArrayImpl* result = array_uninitialised(iterator->row, iterator->array);
  if (result == nullptr) return nullptr;
  size_t nbytes = static_cast<size_t>(iterator->row->nbytes);
  std::memcpy(result->buffer->data,
              static_cast<const char*>(iterator->buffer->data) + static_cast<size_t>(iterator->position) * nbytes,
              nbytes);
  ++iterator->position;
  return as_object(result);
}

PyObject* iterator_length_hint(PyObject* object, PyObject*) {
  ArrayIterator* iterator = reinterpret_cast<ArrayIterator*>(object);
  return PyLong_FromLongLong(iterator->array->info->dims[0] - iterator->position);
}

PyMethodDef iterator_methods[] = {
    {"__length_hint__", iterator_length_hint, METH_NOARGS, "Number of rows left."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot iterator_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(iterator_dealloc)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(iterator_next)},
    {Py_tp_methods, iterator_methods},
    {0, nullptr},
};

PyType_Spec iterator_spec = {"velax._native.ArrayIterator", sizeof(ArrayIterator), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, iterator_slots};

}  // namespace

bool init_array_iterator() {
  iterator_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&iterator_spec));
  return iterator_type != nullptr;
}

PyObject* array_iter(PyObject* self) {
  AvalInfo* info = array_info(self);
  if (info->ndim == 0) {
    PyErr_SetString(PyExc_TypeError, "iteration over a 0-d array");
    return nullptr;
  }
  // Under a trace the rows are staged into the program like any other operation.
  if (current_trace() != nullptr && registered_iter() != nullptr) return PyObject_CallOneArg(registered_iter(), self);
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) return nullptr;
  AvalInfo* row = guarded(static_cast<AvalInfo*>(nullptr),
                          [&] { return intern_aval(info->code, info->weak, info->dims + 1, info->ndim - 1); });
  if (row == nullptr) return nullptr;
  ArrayIterator* iterator = PyObject_New(ArrayIterator, iterator_type);
  if (iterator == nullptr) return nullptr;
  Py_INCREF(self);
  iterator->array = as_array(self);
  buffer->retain();
  iterator->buffer = buffer;
  iterator->row = row;
  iterator->position = 0;
  return reinterpret_cast<PyObject*>(iterator);
}

}  // namespace velax
