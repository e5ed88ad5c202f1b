// EagerCache: compiled versions of single operations, called on concrete operands from Python.
#include "jit.h"

#include <structmember.h>

#include "state.h"

namespace velax {

namespace {

struct EagerCache {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject* miss;
  VersionTable* table;
};

inline EagerCache* as_cache(PyObject* object) { return reinterpret_cast<EagerCache*>(object); }

// Calls `miss(key, operands)`; `frame` is null when an operand has no signature, so that nothing can be kept.
PyObject* call_miss(EagerCache* cache, CallFrame* frame, PyObject* const* args, Py_ssize_t nargs) {
  ++cache->table->misses;
  PyObject* operands = PyTuple_New(nargs - 1);
  if (!operands) return nullptr;
  for (Py_ssize_t i = 1; i < nargs; ++i) PyTuple_SET_ITEM(operands, i - 1, Py_NewRef(args[i]));
  PyObject* arguments[] = {args[0], operands};
  PyObject* made = PyObject_Vectorcall(cache->miss, arguments, 2, nullptr);
  Py_DECREF(operands);
  if (!made) return nullptr;
  PyObject* result = nullptr;
  if (frame && Py_TYPE(made) == jit_entry_type) {
    auto* entry = reinterpret_cast<JitEntry*>(made);
    if (cache->table->insert(*frame, entry)) result = run_entry(entry, *frame);
  } else if (PyTuple_CheckExact(made) && PyTuple_GET_SIZE(made) == 2 && PyTuple_GET_ITEM(made, 0) == Py_None) {
    result = Py_NewRef(PyTuple_GET_ITEM(made, 1));
  } else {
    PyErr_Format(PyExc_TypeError, "the miss callback of an EagerCache must return %s, got %R",
                 frame ? "a JitEntry or (None, result)" : "(None, result) for operands that are no arrays or numbers",
                 made);
  }
  Py_DECREF(made);
  return result;
}

PyObject* call_compiled(EagerCache* cache, CallFrame& frame, PyObject* const* args, Py_ssize_t nargs) {
  const uint32_t flags = config_flags();
  frame.config_key = Py_NewRef(config_key());
  frame.num_positional = static_cast<size_t>(nargs);
  frame.statics.push_back(Py_NewRef(args[0]));
  for (Py_ssize_t i = 1; i < nargs; ++i) {
    LeafStatus status = add_leaf(frame, args[i], flags, true);
    if (status == LeafStatus::kUnknown) return call_miss(cache, nullptr, args, nargs);
    if (status != LeafStatus::kOk) return nullptr;
  }
  if (!VersionTable::hash_signature(frame)) return nullptr;
  bool failed;
  VersionRef version = cache->table->find(frame, &failed);
  if (version) {
    ++cache->table->hits;
    return run_entry(version->entry, frame);
  }
  return failed ? nullptr : call_miss(cache, &frame, args, nargs);
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* call_names) {
  Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
  if (nargs < 1 || (call_names && PyTuple_GET_SIZE(call_names) > 0)) {
    PyErr_SetString(PyExc_TypeError, "EagerCache takes positional arguments: a key, then the operands");
    return nullptr;
  }
  PooledFrame frame;
  return guarded(static_cast<PyObject*>(nullptr), [&] { return call_compiled(as_cache(self), *frame, args, nargs); });
}

PyObject* cache_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"miss", "cache_size", nullptr};
  PyObject* miss;
  Py_ssize_t cache_size = 4096;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:EagerCache", const_cast<char**>(names), &miss, &cache_size)) {
    return nullptr;
  }
  if (!PyCallable_Check(miss)) {
    PyErr_Format(PyExc_TypeError, "EagerCache takes a callable `miss`, got %R", miss);
    return nullptr;
  }
  if (cache_size < 0) {
    PyErr_Format(PyExc_ValueError, "EagerCache: cache_size must not be negative, got %zd", cache_size);
    return nullptr;
  }
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  EagerCache* cache = as_cache(self);
  cache->vectorcall = Callable<call>::call;
  cache->miss = Py_NewRef(miss);
  cache->table = new VersionTable(static_cast<size_t>(cache_size));
  return self;
}

int cache_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_cache(self)->miss);
  return as_cache(self)->table ? as_cache(self)->table->traverse(visit, arg) : 0;
}

int cache_clear(PyObject* self) {
  EagerCache* cache = as_cache(self);
  if (cache->miss) Py_SETREF(cache->miss, Py_NewRef(Py_None));
  if (cache->table) cache->table->clear();
  return 0;
}

void cache_dealloc(PyObject* self) {
  EagerCache* cache = as_cache(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_CLEAR(cache->miss);
  delete cache->table;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* eager_cache_info(PyObject* self, PyObject*) { return cache_info(*as_cache(self)->table); }

PyObject* eager_clear_cache(PyObject* self, PyObject*) {
  as_cache(self)->table->clear();
  Py_RETURN_NONE;
}

PyMethodDef cache_methods[] = {
    {"cache_info", eager_cache_info, METH_NOARGS,
     "cache_info($self)\n--\n\nCacheInfo(hits, misses, maxsize, currsize) of the compiled versions."},
    {"clear_cache", eager_clear_cache, METH_NOARGS, "clear_cache($self)\n--\n\nDrops the compiled versions."},
    {nullptr},
};

PyMemberDef cache_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(EagerCache, vectorcall), READONLY},
    {nullptr},
};

PyType_Slot cache_slots[] = {
    {Py_tp_doc, const_cast<char*>(
        "EagerCache(miss, cache_size=4096)\n--\n\n"
        "Runs compiled operations on concrete operands: `cache(key, *operands)`.\n\n"
        "The hashable `key` says which operation with which parameters; operands are arrays, NumPy arrays and numbers. "
        "The first call for a key, the operands' dtypes, weak types and shapes, and a configuration asks `miss(key, "
        "operands)` for a JitEntry, or for (None, result) where nothing is to be kept. Returns what the entry's "
        "out_tree says: without one, the list of outputs.")},
    {Py_tp_new, reinterpret_cast<void*>(cache_new)},
    {Py_tp_traverse, reinterpret_cast<void*>(cache_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(cache_clear)},
    {Py_tp_dealloc, reinterpret_cast<void*>(cache_dealloc)},
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_methods, cache_methods},
    {Py_tp_members, cache_members},
    {0, nullptr},
};

PyType_Spec cache_spec = {"velax._native.EagerCache", sizeof(EagerCache), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, cache_slots};

}  // namespace

bool init_eager_type(PyObject* module) {
  auto* type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&cache_spec));
  bool ok = type && PyModule_AddType(module, type) == 0;
  Py_XDECREF(type);
  return ok;
}

}  // namespace velax
