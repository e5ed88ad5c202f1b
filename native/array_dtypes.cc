// The table of element types and their NumPy dtype objects.
#include "array_internal.h"

namespace velax {

const DTypeTraits kDTypes[kNumDTypes] = {
    // 64-bit integers use the "l" formats, which NumPy reads as its canonical int64 ("q" gives the longlong twin).
    {"bool", "bool", 1, 'b', 6, 8, "?"},
    {"i8", "int8", 1, 'i', 0, 8, "b"},
    {"i16", "int16", 2, 'i', 0, 16, "h"},
    {"i32", "int32", 4, 'i', 0, 32, "i"},
    {"i64", "int64", 8, 'i', 0, 64, "l"},
    {"u8", "uint8", 1, 'u', 1, 8, "B"},
    {"u16", "uint16", 2, 'u', 1, 16, "H"},
    {"u32", "uint32", 4, 'u', 1, 32, "I"},
    {"u64", "uint64", 8, 'u', 1, 64, "L"},
    {"f16", "float16", 2, 'f', 2, 16, "e"},
    {"bf16", "bfloat16", 2, 'f', 4, 16, nullptr},
    {"f32", "float32", 4, 'f', 2, 32, "f"},
    {"f64", "float64", 8, 'f', 2, 64, "d"},
    {"c64", "complex64", 8, 'c', 5, 64, "Zf"},
    {"c128", "complex128", 16, 'c', 5, 128, "Zd"},
    {"f8e4m3fn", "float8_e4m3fn", 1, 'f', 10, 8, nullptr},
    {"f8e5m2", "float8_e5m2", 1, 'f', 12, 8, nullptr},
    {"i4", "int4", 1, 'i', 0, 4, nullptr},
    {"u4", "uint4", 1, 'u', 1, 4, nullptr},
};

NumPy numpy;

namespace {

PyObject* dtype_objects[kNumDTypes];
PyTypeObject* scalar_types[kNumDTypes];
PyObject* name_type;
PyObject* name_kind;
PyObject* name_itemsize;
PyObject* name_isnative;

bool is_extension_dtype(int code) {
  return code == kBF16 || code == kF8E4M3FN || code == kF8E5M2 || code == kI4 || code == kU4;
}

// Codes of NumPy's own types from kind and size; several C types share one (long and long long).
int code_of_kind(char kind, long itemsize) {
  for (int code = 0; code < kNumDTypes; ++code) {
    if (!is_extension_dtype(code) && kDTypes[code].kind == kind && kDTypes[code].itemsize == itemsize) return code;
  }
  return -1;
}

}  // namespace

bool init_numpy() {
  numpy.module = PyImport_ImportModule("numpy");
  Ref ml_dtypes(PyImport_ImportModule("ml_dtypes"));
  if (numpy.module == nullptr || !ml_dtypes) return false;
  auto attribute = [](const char* name) { return PyObject_GetAttrString(numpy.module, name); };
  numpy.ndarray = reinterpret_cast<PyTypeObject*>(attribute("ndarray"));
  numpy.generic = reinterpret_cast<PyTypeObject*>(attribute("generic"));
  numpy.integer = reinterpret_cast<PyTypeObject*>(attribute("integer"));
  numpy.dtype = attribute("dtype");
  numpy.array = attribute("array");
  numpy.asarray = attribute("asarray");
  numpy.array2string = attribute("array2string");
  numpy.get_printoptions = attribute("get_printoptions");
  if (!numpy.ndarray || !numpy.generic || !numpy.integer || !numpy.dtype || !numpy.array || !numpy.asarray ||
      !numpy.array2string || !numpy.get_printoptions) {
    return false;
  }
  name_type = PyUnicode_InternFromString("type");
  name_kind = PyUnicode_InternFromString("kind");
  name_itemsize = PyUnicode_InternFromString("itemsize");
  name_isnative = PyUnicode_InternFromString("isnative");
  for (int code = 0; code < kNumDTypes; ++code) {
    Ref scalar_type(is_extension_dtype(code) ? PyObject_GetAttrString(ml_dtypes.get(), kDTypes[code].numpy_name)
                                             : PyUnicode_FromString(kDTypes[code].numpy_name));
    if (!scalar_type) return false;
    dtype_objects[code] = PyObject_CallOneArg(numpy.dtype, scalar_type.get());
    if (dtype_objects[code] == nullptr) return false;
    scalar_types[code] = reinterpret_cast<PyTypeObject*>(PyObject_GetAttr(dtype_objects[code], name_type));
    if (scalar_types[code] == nullptr) return false;
  }
  return true;
}

PyObject* numpy_dtype(int code) { return dtype_objects[code]; }

int scalar_type_code(PyObject* value) noexcept {
  PyTypeObject* type = Py_TYPE(value);
  for (int code = 0; code < kNumDTypes; ++code) {
    if (scalar_types[code] == type) return code;
  }
  return -1;
}

int dtype_code_of_descr(PyObject* descr) {
  for (int code = 0; code < kNumDTypes; ++code) {
    if (dtype_objects[code] == descr) return code;
  }
  if (PyObject_IsInstance(descr, numpy.dtype) != 1) {
    PyErr_Clear();  // an object whose __class__ raises is not a dtype either
    return -1;
  }
  Ref type(PyObject_GetAttr(descr, name_type));
  Ref kind(PyObject_GetAttr(descr, name_kind));
  Ref itemsize(PyObject_GetAttr(descr, name_itemsize));
  Ref isnative(PyObject_GetAttr(descr, name_isnative));
  if (!type || !kind || !itemsize || !isnative) {
    PyErr_Clear();  // np.dtype always has them
    return -1;
  }
  if (isnative.get() != Py_True) return -1;
  // Copies of a dtype object: of an ml_dtypes type, or with metadata.
  for (int code = 0; code < kNumDTypes; ++code) {
    if (reinterpret_cast<PyObject*>(scalar_types[code]) == type.get()) return code;
  }
  return code_of_kind(static_cast<char>(PyUnicode_READ_CHAR(kind.get(), 0)), PyLong_AsLong(itemsize.get()));
}

int dtype_code(PyObject* dtype_like) {
  for (int code = 0; code < kNumDTypes; ++code) {
    if (dtype_objects[code] == dtype_like || reinterpret_cast<PyObject*>(scalar_types[code]) == dtype_like) return code;
  }
  if (PyLong_CheckExact(dtype_like)) {
    long code = PyLong_AsLong(dtype_like);
    if (code >= 0 && code < kNumDTypes) return static_cast<int>(code);
    if (code == -1 && PyErr_Occurred()) PyErr_Clear();  // an int too large for a long is no code: reported below
    PyErr_Format(PyExc_TypeError, "%R is not a dtype code; codes are 0 to %d", dtype_like, kNumDTypes - 1);
    return -1;
  }
  Ref descr;
  // np.dtype(None) would be float64.
  if (dtype_like != Py_None) {
    if (PyUnicode_Check(dtype_like)) {
      for (int code = 0; code < kNumDTypes; ++code) {
        if (PyUnicode_CompareWithASCIIString(dtype_like, kDTypes[code].numpy_name) == 0) return code;
      }
    }
    descr = Ref(PyObject_CallOneArg(numpy.dtype, dtype_like));
    if (!descr && !PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
    PyErr_Clear();  // a TypeError that names our dtypes follows
    int code = descr ? dtype_code_of_descr(descr.get()) : -1;
    if (code >= 0) return code;
  }
  PyErr_Format(PyExc_TypeError,
               "%R is not the dtype of an array element; use bool, (u)int4/8/16/32/64, float16/32/64, bfloat16, "
               "float8_e4m3fn, float8_e5m2, complex64 or complex128 (in native byte order)",
               dtype_like);
  return -1;
}

}  // namespace velax
