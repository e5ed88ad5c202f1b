// Single elements: conversion from and to Python numbers, and the methods of ArrayImpl that return some.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "array_internal.h"

namespace velax {
namespace {

// ----------------------------------------------------------------------------------------------- small float types

// A binary format narrower than a float: exponent and mantissa bits, and whether the all-ones exponent holds infinity
// and NaNs (IEEE) or only its last code is NaN ("fn").
struct SmallFloat {
  int exponent_bits;
  int mantissa_bits;
  bool ieee;

  int least_exponent() const { return 2 - (1 << (exponent_bits - 1)); }
  uint32_t sign_bit() const { return 1u << (exponent_bits + mantissa_bits); }
  uint32_t infinity() const { return ((1u << exponent_bits) - 1) << mantissa_bits; }
  uint32_t nan() const { return ieee ? infinity() | (1u << (mantissa_bits - 1)) : sign_bit() - 1; }
};
constexpr SmallFloat kHalf{5, 10, true};
constexpr SmallFloat kE4M3FN{4, 3, false};
constexpr SmallFloat kE5M2{5, 2, true};

// Rounds to nearest even; what is too large becomes infinity, or NaN where the format has no infinity.
uint32_t encode(double value, const SmallFloat& format) {
  uint32_t sign = std::signbit(value) ? format.sign_bit() : 0;
  uint32_t overflow = format.ieee ? format.infinity() : format.nan();
  if (std::isnan(value)) return sign | format.nan();
  if (std::isinf(value)) return sign | overflow;
  if (value == 0) return sign;
  int exponent;
  std::frexp(value, &exponent);  // value = [0.5, 1) * 2^exponent
  exponent = std::max(exponent - 1, format.least_exponent());
  // Units in the last place; the implicit leading bit adds one to the exponent field of normal numbers.
  double units = std::nearbyint(std::ldexp(std::fabs(value), format.mantissa_bits - exponent));
  uint32_t bits = static_cast<uint32_t>(exponent - format.least_exponent()) << format.mantissa_bits;
  bits += static_cast<uint32_t>(units);
  return sign | (bits >= overflow ? overflow : bits);
}

double decode(uint32_t bits, const SmallFloat& format) {
  double sign = bits & format.sign_bit() ? -1.0 : 1.0;
  bits &= format.sign_bit() - 1;
  if (format.ieee ? bits > format.infinity() : bits == format.nan()) return std::copysign(NAN, sign);
  if (format.ieee && bits == format.infinity()) return sign * INFINITY;
  uint32_t mantissa = bits & ((1u << format.mantissa_bits) - 1);
  int field = static_cast<int>(bits >> format.mantissa_bits);
  if (field == 0) return sign * std::ldexp(mantissa, format.least_exponent() - format.mantissa_bits);
  return sign * std::ldexp(mantissa + (1u << format.mantissa_bits),
                           format.least_exponent() + field - 1 - format.mantissa_bits);
}

// Through float, as ml_dtypes does.
uint16_t encode_bfloat16(double value) {
  float narrowed = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &narrowed, 4);
  if (std::isnan(narrowed)) return static_cast<uint16_t>((bits >> 16 & 0x8000) | 0x7FC0);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

template <typename T>
T read_as(const void* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

template <typename T>
void write_as(void* destination, T value) {
  std::memcpy(destination, &value, sizeof(T));
}

int sign_extend_nibble(int value) { return ((value & 15) ^ 8) - 8; }

double load_float(const void* source, int code) {
  switch (code) {
    case kF16: return decode(read_as<uint16_t>(source), kHalf);
    case kBF16: {
      uint32_t bits = static_cast<uint32_t>(read_as<uint16_t>(source)) << 16;
      return read_as<float>(&bits);
    }
    case kF32: return read_as<float>(source);
    case kF64: return read_as<double>(source);
    case kF8E4M3FN: return decode(read_as<uint8_t>(source), kE4M3FN);
    default: return decode(read_as<uint8_t>(source), kE5M2);
  }
}

void store_float(double value, int code, void* destination) {
  switch (code) {
    case kF16: write_as(destination, static_cast<uint16_t>(encode(value, kHalf))); break;
    case kBF16: write_as(destination, encode_bfloat16(value)); break;
    case kF32: write_as(destination, static_cast<float>(value)); break;
    case kF64: write_as(destination, value); break;
    case kF8E4M3FN: write_as(destination, static_cast<uint8_t>(encode(value, kE4M3FN))); break;
    default: write_as(destination, static_cast<uint8_t>(encode(value, kE5M2))); break;
  }
}

// The value of a signed or boolean element, or the bits of an unsigned one.
int64_t load_integer(const void* source, int code) {
  switch (code) {
    case kBool: return read_as<uint8_t>(source) != 0;
    case kI8: return read_as<int8_t>(source);
    case kI16: return read_as<int16_t>(source);
    case kI32: return read_as<int32_t>(source);
    case kI64: return read_as<int64_t>(source);
    case kU8: return read_as<uint8_t>(source);
    case kU16: return read_as<uint16_t>(source);
    case kU32: return read_as<uint32_t>(source);
    case kU64: return static_cast<int64_t>(read_as<uint64_t>(source));
    case kI4: return sign_extend_nibble(read_as<uint8_t>(source));
    default: return read_as<uint8_t>(source) & 15;
  }
}

// Stores the low bits, which are the value modulo the range of the type (two's complement).
void store_integer_bits(uint64_t bits, int code, void* destination) {
  if (code == kI4) {
    bits = static_cast<uint64_t>(sign_extend_nibble(static_cast<int>(bits & 15)));
  } else if (code == kU4) {
    bits &= 15;
  }
  switch (dtype_itemsize(code)) {
    case 1: write_as(destination, static_cast<uint8_t>(bits)); break;
    case 2: write_as(destination, static_cast<uint16_t>(bits)); break;
    case 4: write_as(destination, static_cast<uint32_t>(bits)); break;
    default: write_as(destination, bits); break;
  }
}

bool out_of_bounds(PyObject* value, int code) {
  PyErr_Format(PyExc_OverflowError, "Python integer %R out of bounds for %s", value, dtype_name(code));
  return false;
}

bool store_integer(PyObject* value, int code, void* destination) {
  if (code == kU64) {
    unsigned long long wide = PyLong_AsUnsignedLongLong(value);
    if (wide == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
      PyErr_Clear();  // reported with the dtype instead
      return out_of_bounds(value, code);
    }
    write_as<uint64_t>(destination, wide);
    return true;
  }
  int overflow;
  long long wide = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (wide == -1 && PyErr_Occurred()) return false;
  if (code == kI4 || code == kU4) {  // ml_dtypes wraps these
    store_integer_bits(static_cast<uint64_t>(wide), code, destination);
    return true;
  }
  int bits = dtype_itemsize(code) * 8;
  if (dtype_kind(code) == 'u') {
    if (overflow != 0 || wide < 0 || wide >> bits != 0) return out_of_bounds(value, code);
  } else if (overflow != 0 || (bits < 64 && (wide < -(1LL << (bits - 1)) || wide >= 1LL << (bits - 1)))) {
    return out_of_bounds(value, code);
  }
  store_integer_bits(static_cast<uint64_t>(wide), code, destination);
  return true;
}

void store_complex(double real, double imaginary, int code, void* destination) {
  if (code == kC64) {
    float parts[2] = {static_cast<float>(real), static_cast<float>(imaginary)};
    std::memcpy(destination, parts, sizeof parts);
  } else {
    double parts[2] = {real, imaginary};
    std::memcpy(destination, parts, sizeof parts);
  }
}

// Largest magnitude up to which every integer is a double.
constexpr long long kExactDouble = 1LL << 53;

enum class Converted { kDone, kNotHere, kError };

// The conversions of NumPy scalars that need no call into NumPy: those to the same kind, and from integers to floats.
Converted store_numpy_scalar_directly(PyObject* value, int source, int code, void* destination) {
  char from = dtype_kind(source);
  char to = dtype_kind(code);
  if (from == 'f' && (to == 'f' || to == 'c')) {
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred()) return Converted::kError;
    if (to == 'f') {
      store_float(number, code, destination);
    } else {
      store_complex(number, 0, code, destination);
    }
    return Converted::kDone;
  }
  if (from == 'c' && to == 'c') {
    Py_complex number = PyComplex_AsCComplex(value);
    if (number.real == -1.0 && PyErr_Occurred()) return Converted::kError;
    store_complex(number.real, number.imag, code, destination);
    return Converted::kDone;
  }
  if (from == 'b' && to == 'b') {
    int truth = PyObject_IsTrue(value);
    if (truth < 0) return Converted::kError;
    write_as<uint8_t>(destination, static_cast<uint8_t>(truth));
    return Converted::kDone;
  }
  if (from != 'i' && from != 'u') return Converted::kNotHere;
  Ref integer(PyNumber_Long(value));
  if (!integer) return Converted::kError;
  if (to == 'i' || to == 'u') {
    store_integer_bits(PyLong_AsUnsignedLongLongMask(integer.get()), code, destination);
    return Converted::kDone;
  }
  int overflow;
  long long number = PyLong_AsLongLongAndOverflow(integer.get(), &overflow);
  if (to != 'f' || overflow != 0 || number > kExactDouble || number < -kExactDouble) return Converted::kNotHere;
  store_float(static_cast<double>(number), code, destination);
  return Converted::kDone;
}

// A NumPy scalar: converted by NumPy's rules for casts (integers wrap).
bool store_numpy_scalar(PyObject* value, int code, void* destination) {
  int source = scalar_type_code(value);
  if (source >= 0) {
    Converted converted = store_numpy_scalar_directly(value, source, code, destination);
    if (converted != Converted::kNotHere) return converted == Converted::kDone;
  }
  Ref converted(PyObject_CallMethod(value, "astype", "O", numpy_dtype(code)));
  Ref bytes(converted ? PyObject_CallMethod(converted.get(), "tobytes", nullptr) : nullptr);
  if (!bytes) return false;
  char* data;
  Py_ssize_t length;
  if (PyBytes_AsStringAndSize(bytes.get(), &data, &length) < 0) return false;
  if (length != dtype_itemsize(code)) {
    PyErr_Format(PyExc_SystemError, "%R has %zd bytes as %s", value, length, dtype_name(code));
    return false;
  }
  std::memcpy(destination, data, static_cast<size_t>(length));
  return true;
}

}  // namespace

bool store_scalar(PyObject* value, int code, void* destination) noexcept {
  char kind = dtype_kind(code);
  if (PyFloat_CheckExact(value)) {
    double number = PyFloat_AS_DOUBLE(value);
    if (kind == 'f') {
      store_float(number, code, destination);
    } else if (kind == 'c') {
      store_complex(number, 0, code, destination);
    } else if (kind == 'b') {
      write_as<uint8_t>(destination, number != 0);
    } else {
      Ref integer(PyLong_FromDouble(number));  // truncates; ValueError for NaN, OverflowError for infinity
      return integer && store_integer(integer.get(), code, destination);
    }
    return true;
  }
  // np.float64 and np.complex128 are subclasses of float and complex, and follow NumPy's rules.
  if (PyObject_TypeCheck(value, numpy.generic)) return store_numpy_scalar(value, code, destination);
  if (PyLong_Check(value)) {
    if (kind == 'b') {
      int truth = PyObject_IsTrue(value);
      if (truth < 0) return false;
      write_as<uint8_t>(destination, static_cast<uint8_t>(truth));
      return true;
    }
    if (kind == 'i' || kind == 'u') return store_integer(value, code, destination);
    double number = PyLong_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred()) return false;
    if (kind == 'f') {
      store_float(number, code, destination);
    } else {
      store_complex(number, 0, code, destination);
    }
    return true;
  }
  if (PyComplex_Check(value)) {
    Py_complex number = PyComplex_AsCComplex(value);
    if (kind == 'c') {
      store_complex(number.real, number.imag, code, destination);
      return true;
    }
    if (kind == 'b') {
      write_as<uint8_t>(destination, number.real != 0 || number.imag != 0);
      return true;
    }
    PyErr_Format(PyExc_TypeError, "cannot convert the complex number %R to %s; take its .real or abs() first", value,
                 dtype_name(code));
    return false;
  }
  if (PyFloat_Check(value)) {
    Ref plain(PyFloat_FromDouble(PyFloat_AS_DOUBLE(value)));
    return plain && store_scalar(plain.get(), code, destination);
  }
  PyErr_Format(PyExc_TypeError, "expected a bool, int, float, complex or NumPy scalar, got %R of type %s", value,
               Py_TYPE(value)->tp_name);
  return false;
}

PyObject* load_scalar(const void* source, int code) noexcept {
  switch (dtype_kind(code)) {
    case 'b': return PyBool_FromLong(load_integer(source, code) != 0);
    case 'i': return PyLong_FromLongLong(load_integer(source, code));
    case 'u': return PyLong_FromUnsignedLongLong(static_cast<uint64_t>(load_integer(source, code)));
    case 'f': return PyFloat_FromDouble(load_float(source, code));
    default:
      if (code == kC64) {
        const char* parts = static_cast<const char*>(source);
        return PyComplex_FromDoubles(read_as<float>(parts), read_as<float>(parts + 4));
      }
      return PyComplex_FromDoubles(read_as<double>(source), read_as<double>(static_cast<const char*>(source) + 8));
  }
}

ArrayImpl* array_from_scalar(PyObject* value, int code, bool weak) noexcept {
  alignas(16) char element[16];
  if (!store_scalar(value, code, element)) return nullptr;
  ArrayImpl* array = array_uninitialised(intern_scalar_aval(code, weak));
  if (array != nullptr) std::memcpy(array->buffer->data, element, static_cast<size_t>(dtype_itemsize(code)));
  return array;
}

PyObject* module_array_from_scalar(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static const char* const names[] = {"value", "dtype", "weak_type"};
  PyObject* values[3];
  if (!bind_arguments("array_from_scalar", args, nargs, kwnames, names, 3, 2, values)) return nullptr;
  int code = dtype_code(values[1]);
  if (code < 0) return nullptr;
  int weak = values[2] == nullptr ? 0 : PyObject_IsTrue(values[2]);
  if (weak < 0) return nullptr;
  return as_object(array_from_scalar(values[0], code, weak != 0));
}

// --------------------------------------------------------------------------------------------- methods of ArrayImpl

namespace {

// The memory of the only element; nullptr with an error set.
const void* scalar_data(PyObject* self) {
  AvalInfo* info = array_info(self);
  if (info->ndim != 0) {
    PyErr_Format(PyExc_TypeError, "Only scalar arrays can be converted to Python scalars; got arr.ndim=%d", info->ndim);
    return nullptr;
  }
  Buffer* buffer = array_buffer(self);
  return buffer == nullptr ? nullptr : buffer->data;
}

bool refuse_complex(AvalInfo* info, const char* function) {
  if (dtype_kind(info->code) != 'c') return false;
  PyErr_Format(PyExc_TypeError, "%s() argument must be a real number, not an array of %s; use .real or abs()", function,
               dtype_name(info->code));
  return true;
}

}  // namespace

int array_bool(PyObject* self) {
  AvalInfo* info = array_info(self);
  if (info->size != 1) {
    PyErr_SetString(PyExc_ValueError,
                    info->size == 0 ? "The truth value of an empty array is ambiguous. Use `array.size > 0` to check "
                                      "that an array is not empty."
                                    : "The truth value of an array with more than one element is ambiguous. Use "
                                      "a.any() or a.all()");
    return -1;
  }
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) return -1;
  const void* data = buffer->data;
  switch (dtype_kind(info->code)) {
    case 'f': return load_float(data, info->code) != 0;
    case 'c': {
      int part = info->code == kC64 ? kF32 : kF64;
      return load_float(data, part) != 0 ||
             load_float(static_cast<const char*>(data) + info->itemsize / 2, part) != 0;
    }
    default: return load_integer(data, info->code) != 0;
  }
}

PyObject* array_int(PyObject* self) {
  const void* data = scalar_data(self);
  AvalInfo* info = array_info(self);
  if (data == nullptr || refuse_complex(info, "int")) return nullptr;
  if (dtype_kind(info->code) == 'f') return PyLong_FromDouble(load_float(data, info->code));
  if (info->code == kU64) return load_scalar(data, info->code);
  return PyLong_FromLongLong(load_integer(data, info->code));
}

PyObject* array_float(PyObject* self) {
  const void* data = scalar_data(self);
  AvalInfo* info = array_info(self);
  if (data == nullptr || refuse_complex(info, "float")) return nullptr;
  if (dtype_kind(info->code) == 'f') return PyFloat_FromDouble(load_float(data, info->code));
  if (info->code == kU64) return PyFloat_FromDouble(static_cast<double>(read_as<uint64_t>(data)));
  return PyFloat_FromDouble(static_cast<double>(load_integer(data, info->code)));
}

PyObject* array_method_complex(PyObject* self, PyObject*) {
  const void* data = scalar_data(self);
  if (data == nullptr) return nullptr;
  AvalInfo* info = array_info(self);
  if (dtype_kind(info->code) == 'c') return load_scalar(data, info->code);
  Ref real(array_float(self));
  return real ? PyComplex_FromDoubles(PyFloat_AS_DOUBLE(real.get()), 0) : nullptr;
}

PyObject* array_index(PyObject* self) {
  AvalInfo* info = array_info(self);
  if (info->ndim != 0 || !dtype_is_integer(info->code)) {
    PyErr_SetString(PyExc_TypeError, "Only integer scalar arrays can be converted to a scalar index.");
    return nullptr;
  }
  Buffer* buffer = array_buffer(self);
  return buffer == nullptr ? nullptr : load_scalar(buffer->data, info->code);
}

PyObject* array_method_item(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  AvalInfo* info = array_info(self);
  if (nargs == 1 && PyTuple_Check(args[0])) {
    nargs = PyTuple_GET_SIZE(args[0]);
    args = &PyTuple_GET_ITEM(args[0], 0);
  }
  if (nargs == 0 && info->size != 1) {
    PyErr_Format(PyExc_ValueError,
                 "can only convert an array of size 1 to a Python scalar, got shape %R; index it first, as in "
                 "x.item(0)",
                 info->shape());
    return nullptr;
  }
  if (nargs > 1 && nargs != info->ndim) {
    PyErr_Format(PyExc_ValueError, "incorrect number of indices for array: got %zd for %d dimensions", nargs,
                 info->ndim);
    return nullptr;
  }
  int64_t offset = 0;
  for (Py_ssize_t axis = 0; axis < nargs; ++axis) {
    // A single index counts through the whole array.
    bool flat = nargs == 1;
    int64_t extent = flat ? info->size : info->dims[axis];
    Py_ssize_t index = PyNumber_AsSsize_t(args[axis], PyExc_IndexError);
    if (index == -1 && PyErr_Occurred()) return nullptr;
    if (index < -extent || index >= extent) {
      PyErr_Format(PyExc_IndexError, "index %zd is out of bounds for axis %zd with size %lld", index, axis,
                   static_cast<long long>(extent));
      return nullptr;
    }
    if (index < 0) index += extent;
    offset += index * (flat ? info->itemsize : info->strides[axis]);
  }
  // Only now: the `__index__` of an index may delete the array.
  Buffer* buffer = array_buffer(self);
  return buffer == nullptr ? nullptr : load_scalar(static_cast<const char*>(buffer->data) + offset, info->code);
}

namespace {

PyObject* nested_list(const char* data, AvalInfo* info, int axis) {
  if (axis == info->ndim) return load_scalar(data, info->code);
  Py_ssize_t length = info->dims[axis];
  Ref list(PyList_New(length));
  if (!list) return nullptr;
  for (Py_ssize_t i = 0; i < length; ++i) {
    PyObject* element = nested_list(data + i * info->strides[axis], info, axis + 1);
    if (element == nullptr) return nullptr;
    PyList_SET_ITEM(list.get(), i, element);
  }
  return list.release();
}

}  // namespace

PyObject* array_method_tolist(PyObject* self, PyObject*) {
  Buffer* buffer = array_buffer(self);
  if (buffer == nullptr) return nullptr;
  // Making objects may run the garbage collector, and with it code that deletes this array.
  BufferRef alive = BufferRef::share(buffer);
  return nested_list(static_cast<const char*>(buffer->data), array_info(self), 0);
}

}  // namespace velax
