// Number and comparison slots. What an operator computes is decided by the Python layer, which registers one callable
// per operator; the slots only find out which operand is the array and whether the other one is ours to handle.
#include <cstring>

#include "array_internal.h"
#include "state.h"

namespace velax {
namespace {

// Reflected forms follow their operator: kAdd + 1 is radd.
enum Operator {
  kAdd, kRAdd, kSub, kRSub, kMul, kRMul, kMatmul, kRMatmul, kTruediv, kRTruediv, kFloordiv, kRFloordiv, kMod, kRMod,
  kDivmod, kRDivmod, kPow, kRPow, kLshift, kRLshift, kRshift, kRRshift, kAnd, kRAnd, kOr, kROr, kXor, kRXor,
  kNeg, kPos, kAbs, kInvert, kLt, kLe, kEq, kNe, kGt, kGe, kGetitem, kIter, kNumOperators,
};

const char* const operator_names[kNumOperators] = {
    "add",    "radd",    "sub",    "rsub",    "mul",      "rmul",      "matmul", "rmatmul", "truediv", "rtruediv",
    "floordiv", "rfloordiv", "mod", "rmod",   "divmod",   "rdivmod",   "pow",    "rpow",    "lshift",  "rlshift",
    "rshift", "rrshift", "and",    "rand",    "or",       "ror",       "xor",    "rxor",    "neg",     "pos",
    "abs",    "invert",  "lt",     "le",      "eq",       "ne",        "gt",     "ge",      "getitem", "iter",
};

const char* const operator_symbols[kNumOperators] = {
    "+",  "+",  "-", "-", "*", "*", "@", "@", "/", "/", "//", "//", "%", "%", "divmod()", "divmod()", "**",      "**",
    "<<", "<<", ">>", ">>", "&", "&", "|", "|", "^", "^", "-", "+", "abs()", "~", "<", "<=", "==", "!=", ">", ">=",
    "[]", "iter()",
};

PyObject* operators[kNumOperators];
PyObject* name_jax_array;

PyObject* unregistered(Operator which) {
  PyErr_Format(PyExc_TypeError, "no implementation of the array operator %s is registered; import velax.numpy first",
               operator_symbols[which]);
  return nullptr;
}

inline PyObject* call(Operator which, PyObject* first, PyObject* second) {
  PyObject* function = operators[which];
  if (__builtin_expect(function == nullptr, 0)) return unregistered(which);
  // The extra slot in front lets the callee prepend a bound self without copying.
  PyObject* arguments[] = {nullptr, first, second};
  return PyObject_Vectorcall(function, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

inline PyObject* call(Operator which, PyObject* operand) {
  PyObject* function = operators[which];
  if (__builtin_expect(function == nullptr, 0)) return unregistered(which);
  PyObject* arguments[] = {nullptr, operand};
  return PyObject_Vectorcall(function, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

enum class Operand { kOurs, kForeign, kError };

Operand classify_unusual(PyObject* other) {
  if (PyLong_Check(other) || PyFloat_Check(other) || PyComplex_Check(other)) return Operand::kOurs;
  if (PyObject_TypeCheck(other, numpy.generic) || PyObject_TypeCheck(other, numpy.ndarray)) return Operand::kOurs;
  if (is_tracer(other)) return Operand::kOurs;
  if (PyList_CheckExact(other) || PyTuple_CheckExact(other) || PyDict_CheckExact(other) || other == Py_None ||
      PyUnicode_CheckExact(other)) {
    return Operand::kForeign;
  }
  PyObject* protocol = PyObject_GetAttr(other, name_jax_array);
  if (protocol != nullptr) {
    Py_DECREF(protocol);
    return Operand::kOurs;
  }
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return Operand::kError;
  PyErr_Clear();  // it just does not have the protocol
  return Operand::kForeign;
}

// Whether the operator callables take `other`. Everything else gets the chance to handle the array itself.
inline Operand classify(PyObject* other) {
  if (is_array(other) || PyFloat_CheckExact(other) || PyLong_CheckExact(other)) return Operand::kOurs;
  return classify_unusual(other);
}

inline PyObject* binary(Operator which, PyObject* left, PyObject* right) {
  bool left_is_array = is_array(left);
  Operand kind = classify(left_is_array ? right : left);
  if (__builtin_expect(kind == Operand::kOurs, 1)) {
    return left_is_array ? call(which, left, right) : call(static_cast<Operator>(which + 1), right, left);
  }
  if (kind == Operand::kError) return nullptr;
  PyObject* other = left_is_array ? right : left;
  // Python would go on to the sequence protocol, by which [1, 2] * array repeats the list.
  if (PyList_CheckExact(other) || PyTuple_CheckExact(other) || PyDict_CheckExact(other) || PyAnySet_CheckExact(other)) {
    const char* name = Py_TYPE(other)->tp_name;
    PyErr_Format(PyExc_TypeError, "unsupported operand type(s) for %s: '%s' and '%s'; convert it with "
                 "velax.numpy.asarray first",
                 operator_symbols[which], left_is_array ? "ArrayImpl" : name, left_is_array ? name : "ArrayImpl");
    return nullptr;
  }
  Py_RETURN_NOTIMPLEMENTED;
}

template <Operator which>
PyObject* binary_slot(PyObject* left, PyObject* right) {
  return binary(which, left, right);
}

template <Operator which>
PyObject* unary_slot(PyObject* self) {
  return call(which, self);
}

PyObject* power_slot(PyObject* base, PyObject* exponent, PyObject* modulus) {
  if (modulus != Py_None) {
    PyErr_SetString(PyExc_TypeError, "pow() of arrays takes no modulus; write (base ** exponent) % modulus");
    return nullptr;
  }
  return binary(kPow, base, exponent);
}

PyObject* compare_slot(PyObject* self, PyObject* other, int comparison) {
  static const Operator by_comparison[] = {kLt, kLe, kEq, kNe, kGt, kGe};  // in the order of Py_LT ... Py_GE
  Operator which = by_comparison[comparison];
  Operand kind = classify(other);
  if (__builtin_expect(kind == Operand::kOurs, 1)) return call(which, self, other);
  if (kind == Operand::kError) return nullptr;
  // Python would answer == and != by identity, which is never what a comparison with a container means.
  if (PyList_CheckExact(other) || PyTuple_CheckExact(other) || PyDict_CheckExact(other) || PyAnySet_CheckExact(other)) {
    PyErr_Format(PyExc_TypeError, "unsupported operand type(s) for %s: 'ArrayImpl' and '%s'; convert it with "
                 "velax.numpy.asarray first",
                 operator_symbols[which], Py_TYPE(other)->tp_name);
    return nullptr;
  }
  Py_RETURN_NOTIMPLEMENTED;
}

template <typename Function>
void* slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

PyType_Slot array_operator_slots[] = {
    {Py_nb_add, slot(binary_slot<kAdd>)},
    {Py_nb_subtract, slot(binary_slot<kSub>)},
    {Py_nb_multiply, slot(binary_slot<kMul>)},
    {Py_nb_matrix_multiply, slot(binary_slot<kMatmul>)},
    {Py_nb_true_divide, slot(binary_slot<kTruediv>)},
    {Py_nb_floor_divide, slot(binary_slot<kFloordiv>)},
    {Py_nb_remainder, slot(binary_slot<kMod>)},
    {Py_nb_divmod, slot(binary_slot<kDivmod>)},
    {Py_nb_power, slot(power_slot)},
    {Py_nb_lshift, slot(binary_slot<kLshift>)},
    {Py_nb_rshift, slot(binary_slot<kRshift>)},
    {Py_nb_and, slot(binary_slot<kAnd>)},
    {Py_nb_or, slot(binary_slot<kOr>)},
    {Py_nb_xor, slot(binary_slot<kXor>)},
    {Py_nb_negative, slot(unary_slot<kNeg>)},
    {Py_nb_positive, slot(unary_slot<kPos>)},
    {Py_nb_absolute, slot(unary_slot<kAbs>)},
    {Py_nb_invert, slot(unary_slot<kInvert>)},
    {Py_tp_richcompare, slot(compare_slot)},
    {0, nullptr},
};

bool init_array_operators() {
  name_jax_array = PyUnicode_InternFromString("__jax_array__");
  return name_jax_array != nullptr;
}

PyObject* registered_getitem() noexcept { return operators[kGetitem]; }
PyObject* registered_iter() noexcept { return operators[kIter]; }

PyObject* module_set_array_operators(PyObject*, PyObject* given) {
  if (!PyDict_Check(given)) {
    PyErr_Format(PyExc_TypeError, "set_array_operators: expected a dict from operator names to callables, got %R",
                 given);
    return nullptr;
  }
  PyObject* key;
  PyObject* value;
  Py_ssize_t position = 0;
  while (PyDict_Next(given, &position, &key, &value)) {
    int which = 0;
    while (which < kNumOperators &&
           !(PyUnicode_Check(key) && PyUnicode_CompareWithASCIIString(key, operator_names[which]) == 0)) {
      ++which;
    }
    if (which == kNumOperators) {
      PyErr_Format(PyExc_ValueError, "set_array_operators: %R is not the name of an array operator", key);
      return nullptr;
    }
    if (!PyCallable_Check(value)) {
      PyErr_Format(PyExc_TypeError, "set_array_operators: the operator %R is not callable: %R", key, value);
      return nullptr;
    }
    Py_INCREF(value);
    PyObject* old = operators[which];
    operators[which] = value;
    Py_XDECREF(old);
  }
  Py_RETURN_NONE;
}

}  // namespace velax
