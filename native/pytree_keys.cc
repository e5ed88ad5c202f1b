// The entries of key paths: DictKey, SequenceKey, GetAttrKey, FlattenedIndexKey. One layout, four types.
#include "pytree_internal.h"

#include <structmember.h>

namespace velax {
namespace {

struct KeyEntry {
  PyObject_HEAD
  PyObject* value;
};

enum KeyKind { kDictKey, kSequenceKey, kGetAttrKey, kFlattenedIndexKey, kNumKeyKinds };

struct KeyDescription {
  const char* name;        // of the type
  const char* field;       // of its one attribute
  const char* str_prefix;  // str(entry) is prefix + repr or str of the value + suffix
  const char* str_suffix;
};
constexpr KeyDescription kDescriptions[kNumKeyKinds] = {
    {"DictKey", "key", "[", "]"},
    {"SequenceKey", "idx", "[", "]"},
    {"GetAttrKey", "name", ".", ""},
    {"FlattenedIndexKey", "key", "[<flat index ", ">]"},
};
PyTypeObject* key_types[kNumKeyKinds];

// The SequenceKeys of small indices: key paths of long lists consist of little else.
constexpr Py_ssize_t kSharedIndices = 1024;
PyObject* shared_indices[kSharedIndices];

KeyKind kind_of(PyObject* self) {
  for (int k = 0; k < kNumKeyKinds; ++k)
    if (PyObject_TypeCheck(self, key_types[k])) return static_cast<KeyKind>(k);
  return kDictKey;
}

PyObject* value_of(PyObject* self) { return reinterpret_cast<KeyEntry*>(self)->value; }

// What the constructor stores for an argument; new reference or null.
PyObject* checked_value(KeyKind kind, PyObject* value) {
  switch (kind) {
    case kDictKey:
      return Py_NewRef(value);
    case kGetAttrKey:
      if (PyUnicode_Check(value)) return Py_NewRef(value);
      return PyErr_Format(PyExc_TypeError, "GetAttrKey: name must be a str, got %R of type %.100s", value,
                          Py_TYPE(value)->tp_name);
    default: {
      Py_ssize_t index = PyIndex_Check(value) ? PyNumber_AsSsize_t(value, PyExc_OverflowError) : -1;
      if (!PyIndex_Check(value))
        return PyErr_Format(PyExc_TypeError, "%s: %s must be an int, got %R of type %.100s",
                            kDescriptions[kind].name, kDescriptions[kind].field, value, Py_TYPE(value)->tp_name);
      if (index == -1 && PyErr_Occurred()) return nullptr;
      return PyLong_FromSsize_t(index);
    }
  }
}

template <KeyKind kind>
PyObject* key_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static char* keywords[] = {const_cast<char*>(kDescriptions[kind].field), nullptr};
  static const std::string format = std::string("O:") + kDescriptions[kind].name;
  PyObject* argument;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, format.c_str(), keywords, &argument)) return nullptr;
  Ref value(checked_value(kind, argument));
  if (!value) return nullptr;
  PyObject* self = type->tp_alloc(type, 0);
  if (self) reinterpret_cast<KeyEntry*>(self)->value = value.release();
  return self;
}

// Takes over `value`, which may be null (an error is then set).
PyObject* make_key(KeyKind kind, PyObject* value) {
  if (!value) return nullptr;
  KeyEntry* self = PyObject_GC_New(KeyEntry, key_types[kind]);
  if (!self) {
    Py_DECREF(value);
    return nullptr;
  }
  self->value = value;
  // The usual values are part of no cycle: the collector need not look at them.
  if (!PyUnicode_CheckExact(value) && !PyLong_CheckExact(value)) PyObject_GC_Track(self);
  return reinterpret_cast<PyObject*>(self);
}

void key_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, key_dealloc)  // a key may hold a key, and so on
  Py_XDECREF(value_of(self));
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

int key_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(value_of(self));
  Py_VISIT(Py_TYPE(self));
  return 0;
}

PyObject* key_repr(PyObject* self) {
  const KeyDescription& d = kDescriptions[kind_of(self)];
  return PyUnicode_FromFormat("%s(%s=%R)", d.name, d.field, value_of(self));
}

PyObject* key_str(PyObject* self) {
  KeyKind kind = kind_of(self);
  const KeyDescription& d = kDescriptions[kind];
  return PyUnicode_FromFormat(kind == kGetAttrKey ? "%s%S%s" : "%s%R%s", d.str_prefix, value_of(self),
                              d.str_suffix);
}

// The hash of the value itself, so that a DictKey can be found by tools that hash plain keys.
Py_hash_t key_hash(PyObject* self) { return PyObject_Hash(value_of(self)); }

PyObject* key_richcompare(PyObject* self, PyObject* other, int op) {
  if ((op != Py_EQ && op != Py_NE) || !PyObject_TypeCheck(other, key_types[kind_of(self)]))
    Py_RETURN_NOTIMPLEMENTED;
  return PyObject_RichCompare(value_of(self), value_of(other), op);
}

PyObject* key_reduce(PyObject* self, PyObject*) { return Py_BuildValue("O(O)", Py_TYPE(self), value_of(self)); }

PyMethodDef key_methods[] = {
    {"__reduce__", key_reduce, METH_NOARGS, nullptr},
    {nullptr},
};

template <KeyKind kind>
bool init_kind(PyObject* module) {
  static PyMemberDef members[] = {
      {kDescriptions[kind].field, T_OBJECT_EX, offsetof(KeyEntry, value), READONLY, nullptr},
      {nullptr},
  };
  static const std::string doc = std::string(kDescriptions[kind].name) + "(" + kDescriptions[kind].field +
                                 ")\n--\n\nOne step of a key path. Hashable, comparable, picklable.";
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>(doc.c_str())},
      {Py_tp_new, reinterpret_cast<void*>(key_new<kind>)},
      {Py_tp_dealloc, reinterpret_cast<void*>(key_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(key_traverse)},
      {Py_tp_repr, reinterpret_cast<void*>(key_repr)},
      {Py_tp_str, reinterpret_cast<void*>(key_str)},
      {Py_tp_hash, reinterpret_cast<void*>(key_hash)},
      {Py_tp_richcompare, reinterpret_cast<void*>(key_richcompare)},
      {Py_tp_members, members},
      {Py_tp_methods, key_methods},
      {0, nullptr},
  };
  static const std::string full_name = std::string("velax.tree_util.") + kDescriptions[kind].name;
  static PyType_Spec spec = {full_name.c_str(), sizeof(KeyEntry), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, slots};
  if (!add_type(module, &spec, kDescriptions[kind].name, &key_types[kind])) return false;
  Ref match_args(Py_BuildValue("(s)", kDescriptions[kind].field));
  return match_args && PyObject_SetAttrString(reinterpret_cast<PyObject*>(key_types[kind]), "__match_args__",
                                              match_args.get()) == 0;
}

}  // namespace

PyObject* make_dict_key(PyObject* key) { return make_key(kDictKey, Py_NewRef(key)); }
PyObject* make_sequence_key(Py_ssize_t index) {
  if (index < 0 || index >= kSharedIndices) return make_key(kSequenceKey, PyLong_FromSsize_t(index));
  PyObject*& shared = shared_indices[index];
  if (!shared) {
    PyObject* made = make_key(kSequenceKey, PyLong_FromSsize_t(index));
    if (!made) return nullptr;
    if (shared)
      Py_DECREF(made);  // making it ran the collector, which ran code that made it
    else
      shared = made;
  }
  return Py_NewRef(shared);
}
PyObject* make_getattr_key(PyObject* name) { return make_key(kGetAttrKey, Py_NewRef(name)); }
PyObject* make_flattened_index_key(Py_ssize_t index) {
  return make_key(kFlattenedIndexKey, PyLong_FromSsize_t(index));
}

bool init_pytree_keys(PyObject* module) {
  return init_kind<kDictKey>(module) && init_kind<kSequenceKey>(module) && init_kind<kGetAttrKey>(module) &&
         init_kind<kFlattenedIndexKey>(module);
}

}  // namespace velax
