// JitEntry: an executable with what is needed to call it on flattened arguments and to wrap its outputs.
#include "jit.h"

#include <structmember.h>

#include "executor.h"

namespace velax {

PyTypeObject* jit_entry_type = nullptr;

namespace {

int entry_traverse(PyObject* self, visitproc visit, void* arg) {
  auto* entry = reinterpret_cast<JitEntry*>(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(reinterpret_cast<PyObject*>(entry->executable));
  Py_VISIT(entry->out_tree);
  Py_VISIT(entry->out_wraps);
  if (entry->consts) {
    for (ArrayImpl* array : *entry->consts) Py_VISIT(array);
  }
  return 0;
}

// There is no tp_clear: an entry is immutable, and whatever closes a cycle through it (a function's cache, a callback's
// closure) can be cleared itself.
void entry_dealloc(PyObject* self) {
  auto* entry = reinterpret_cast<JitEntry*>(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_XDECREF(reinterpret_cast<PyObject*>(entry->executable));
  Py_XDECREF(entry->out_tree);
  Py_XDECREF(entry->out_wraps);
  if (entry->consts) {
    for (ArrayImpl* array : *entry->consts) Py_DECREF(array);
  }
  delete entry->consts;
  type->tp_free(self);
  Py_DECREF(type);
}

bool parse_consts(JitEntry* entry, PyObject* object) {
  PyObject* sequence = PySequence_Fast(object, "JitEntry: `consts` must be a sequence of arrays");
  if (!sequence) return false;
  entry->consts = new std::vector<ArrayImpl*>;
  bool ok = true;
  for (Py_ssize_t i = 0; ok && i < PySequence_Fast_GET_SIZE(sequence); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(sequence, i);
    if (is_array(item)) {
      entry->consts->push_back(reinterpret_cast<ArrayImpl*>(Py_NewRef(item)));
    } else {
      PyErr_Format(PyExc_TypeError, "JitEntry: consts[%zd] must be an ArrayImpl, got %.200s", i,
                   Py_TYPE(item)->tp_name);
      ok = false;
    }
  }
  Py_DECREF(sequence);
  return ok;
}

bool parse_wraps(JitEntry* entry, PyObject* object) {
  if (object == Py_None) return true;
  PyObject* wraps = PySequence_Tuple(object);
  if (!wraps) return false;
  entry->out_wraps = wraps;
  bool any = false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(wraps); ++i) {
    PyObject* wrap = PyTuple_GET_ITEM(wraps, i);
    if (wrap == Py_None) continue;
    any = true;
    if (!PyCallable_Check(wrap)) {
      PyErr_Format(PyExc_TypeError, "JitEntry: out_wraps[%zd] must be callable or None, got %.200s", i,
                   Py_TYPE(wrap)->tp_name);
      return false;
    }
  }
  if (static_cast<size_t>(PyTuple_GET_SIZE(wraps)) != num_outputs(entry->executable)) {
    PyErr_Format(PyExc_ValueError, "JitEntry: the executable has %zu outputs, but out_wraps %zd items",
                 num_outputs(entry->executable), PyTuple_GET_SIZE(wraps));
    return false;
  }
  if (!any) Py_CLEAR(entry->out_wraps);
  return true;
}

bool check_counts(JitEntry* entry) {
  size_t outputs = num_outputs(entry->executable), inputs = num_inputs(entry->executable);
  if (entry->out_tree && static_cast<size_t>(entry->out_tree->num_leaves) != outputs) {
    PyErr_Format(PyExc_ValueError, "JitEntry: the executable has %zu outputs, but out_tree %d leaves", outputs,
                 entry->out_tree->num_leaves);
    return false;
  }
  if (entry->consts->size() > inputs) {
    PyErr_Format(PyExc_ValueError, "JitEntry: the executable takes %zu inputs, but there are %zu consts", inputs,
                 entry->consts->size());
    return false;
  }
  return true;
}

PyObject* entry_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"executable", "consts", "out_tree", "out_wraps", nullptr};
  PyObject *executable, *consts = nullptr, *out_tree = Py_None, *out_wraps = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO:JitEntry", const_cast<char**>(names), &executable, &consts,
                                   &out_tree, &out_wraps)) {
    return nullptr;
  }
  if (!is_executable(executable)) {
    PyErr_Format(PyExc_TypeError, "JitEntry: `executable` must be an Executable, got %.200s",
                 Py_TYPE(executable)->tp_name);
    return nullptr;
  }
  if (out_tree != Py_None && !is_treedef(out_tree)) {
    PyErr_Format(PyExc_TypeError, "JitEntry: `out_tree` must be a PyTreeDef or None, got %.200s",
                 Py_TYPE(out_tree)->tp_name);
    return nullptr;
  }
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  auto* entry = reinterpret_cast<JitEntry*>(self);
  entry->executable = reinterpret_cast<Executable*>(Py_NewRef(executable));
  if (out_tree != Py_None) entry->out_tree = reinterpret_cast<PyTreeDef*>(Py_NewRef(out_tree));
  PyObject* no_consts = consts ? nullptr : PyTuple_New(0);
  bool ok = parse_consts(entry, consts ? consts : no_consts) && parse_wraps(entry, out_wraps) && check_counts(entry);
  Py_XDECREF(no_consts);
  if (!ok) {
    Py_DECREF(self);
    return nullptr;
  }
  entry->single_leaf =
      entry->out_tree && entry->out_tree->num_nodes == 1 && entry->out_tree->num_leaves == 1 && !entry->out_wraps;
  return self;
}

PyObject* entry_consts(PyObject* self, void*) {
  const auto* entry = reinterpret_cast<JitEntry*>(self);
  PyObject* result = PyTuple_New(static_cast<Py_ssize_t>(entry->consts->size()));
  for (size_t i = 0; result && i < entry->consts->size(); ++i) {
    PyTuple_SET_ITEM(result, i, Py_NewRef(reinterpret_cast<PyObject*>((*entry->consts)[i])));
  }
  return result;
}

PyMemberDef entry_members[] = {
    {"executable", T_OBJECT, offsetof(JitEntry, executable), READONLY, "the Executable"},
    {"out_tree", T_OBJECT, offsetof(JitEntry, out_tree), READONLY, "structure of the result; None: a list"},
    {"out_wraps", T_OBJECT, offsetof(JitEntry, out_wraps), READONLY, "callables applied to outputs, or None"},
    {nullptr},
};

PyGetSetDef entry_getset[] = {
    {"consts", entry_consts, nullptr, "arrays passed after the arguments", nullptr},
    {nullptr},
};

PyType_Slot entry_slots[] = {
    {Py_tp_doc, const_cast<char*>(
        "JitEntry(executable, consts=(), out_tree=None, out_wraps=None)\n--\n\n"
        "A compiled version of a function, made by a `miss` callback.\n\n"
        "executable: what runs; the flattened dynamic arguments are its first inputs.\n"
        "consts: arrays that are its further inputs.\n"
        "out_tree: PyTreeDef of the result; None: a list of the outputs.\n"
        "out_wraps: per output, a callable applied to the array (PRNG keys), or None; None: no output has one.\n\n"
        "Raises TypeError and ValueError when these do not fit each other.")},
    {Py_tp_new, reinterpret_cast<void*>(entry_new)},
    {Py_tp_traverse, reinterpret_cast<void*>(entry_traverse)},
    {Py_tp_dealloc, reinterpret_cast<void*>(entry_dealloc)},
    {Py_tp_members, entry_members},
    {Py_tp_getset, entry_getset},
    {0, nullptr},
};

PyType_Spec entry_spec = {"velax._native.JitEntry", sizeof(JitEntry), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                          entry_slots};

}  // namespace

bool init_entry_type(PyObject* module) {
  jit_entry_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&entry_spec));
  return jit_entry_type && PyModule_AddType(module, jit_entry_type) == 0;
}

namespace {

// Fills `frame.outputs`. False with an error set.
bool execute_entry(JitEntry* entry, CallFrame& frame) {
  ArrayImpl* const* inputs = frame.arrays.data();
  size_t count = frame.arrays.size();
  if (!entry->consts->empty()) {
    frame.inputs.assign(frame.arrays.begin(), frame.arrays.end());
    frame.inputs.insert(frame.inputs.end(), entry->consts->begin(), entry->consts->end());
    inputs = frame.inputs.data();
    count = frame.inputs.size();
  }
  frame.outputs.assign(num_outputs(entry->executable), nullptr);
  if (!execute(entry->executable, inputs, count, frame.outputs.data())) return false;
  if (!frame.borrowed.empty() && !copy_borrowed_outputs(frame)) return false;
  if (frame.device) {
    // The executor goes by the first input, which may be a number; results follow the committed arguments.
    for (PyObject* output : frame.outputs) {
      auto* array = reinterpret_cast<ArrayImpl*>(output);
      if (array->device != frame.device) Py_XSETREF(array->device, Py_NewRef(frame.device));
      array->committed = true;
    }
  }
  if (entry->out_wraps) {
    for (size_t i = 0; i < frame.outputs.size(); ++i) {
      PyObject* wrap = PyTuple_GET_ITEM(entry->out_wraps, i);
      if (wrap == Py_None) continue;
      PyObject* wrapped = PyObject_CallOneArg(wrap, frame.outputs[i]);
      if (!wrapped) return false;
      Py_SETREF(frame.outputs[i], wrapped);
    }
  }
  return true;
}

}  // namespace

PyObject* run_entry(JitEntry* entry, CallFrame& frame) {
  if (!execute_entry(entry, frame)) return nullptr;
  if (entry->single_leaf) {
    PyObject* result = frame.outputs[0];
    frame.outputs.clear();
    return result;
  }
  if (!entry->out_tree) {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(frame.outputs.size()));
    if (!list) return nullptr;
    for (size_t i = 0; i < frame.outputs.size(); ++i) PyList_SET_ITEM(list, i, frame.outputs[i]);
    frame.outputs.clear();
    return list;
  }
  return unflatten(entry->out_tree, frame.outputs.data(), frame.outputs.size());
}

}  // namespace velax
