// JitFunction: what `jit(f)` returns, and its call path.
#include "jit.h"

#include <structmember.h>

#include <algorithm>
#include <memory>

#include "rooms.h"
#include "state.h"

namespace nb = nanobind;

namespace velax {

namespace {

// What is known of one `kwnames` tuple of the calling convention. Calls from one place in the code share a tuple.
struct KeywordLayout {
  PyObject* call_names;    // owned; the tuple in the order of the call
  PyObject* sorted_names;  // owned; the same object for every order of the same names
  Py_hash_t hash;
  std::vector<uint32_t> order;   // sorted position -> position in the call
  std::vector<bool> is_static;   // by sorted position

  ~KeywordLayout() {
    Py_XDECREF(call_names);
    Py_XDECREF(sorted_names);
  }
};
constexpr size_t kMaxLayouts = 64;

struct JitFunction {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject* dict;
  PyObject* weakrefs;
  PyObject* fun;
  PyObject* miss;
  PyObject* slow;
  PyObject* name;
  PyObject* static_argnums;  // tuples
  PyObject* static_argnames;
  PyObject* donate_argnums;
  PyObject* donate_argnames;
  std::vector<Py_ssize_t>* static_positions;
  std::vector<std::unique_ptr<KeywordLayout>>* layouts;
  VersionTable* table;
};

PyTypeObject* jit_function_type = nullptr;
PyObject* reducer = nullptr;  // registered with `_native.set_jit_reducer`

inline JitFunction* as_function(PyObject* object) { return reinterpret_cast<JitFunction*>(object); }

// ------------------------------------------------------------------------------------------------ keywords

// Indices of the names in sorted order. Empty with an error set.
std::vector<uint32_t> sort_names(PyObject* names) {
  std::vector<uint32_t> order(static_cast<size_t>(PyTuple_GET_SIZE(names)));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
  std::sort(order.begin(), order.end(), [names](uint32_t a, uint32_t b) {
    return PyUnicode_Compare(PyTuple_GET_ITEM(names, a), PyTuple_GET_ITEM(names, b)) < 0;
  });
  return order;
}

bool contains_name(PyObject* names, PyObject* name) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
    PyObject* item = PyTuple_GET_ITEM(names, i);
    if (item == name || PyUnicode_Compare(item, name) == 0) return true;
  }
  return false;
}

std::unique_ptr<KeywordLayout> make_layout(const JitFunction* function, PyObject* call_names) {
  std::unique_ptr<KeywordLayout> layout(new KeywordLayout{Py_NewRef(call_names), nullptr, 0, {}, {}});
  layout->order = sort_names(call_names);
  size_t count = layout->order.size();
  PyObject* sorted = PyTuple_New(static_cast<Py_ssize_t>(count));
  if (!sorted) return nullptr;
  for (size_t i = 0; i < count; ++i) {
    PyObject* name = PyTuple_GET_ITEM(call_names, layout->order[i]);
    PyTuple_SET_ITEM(sorted, i, Py_NewRef(name));
    layout->is_static.push_back(contains_name(function->static_argnames, name));
  }
  for (const auto& other : *function->layouts) {
    if (same_names(other->sorted_names, sorted)) {
      Py_SETREF(sorted, Py_NewRef(other->sorted_names));
      break;
    }
  }
  layout->sorted_names = sorted;
  layout->hash = PyObject_Hash(sorted);
  if (layout->hash == -1) return nullptr;
  return layout;
}

// The layout of `call_names`; owned by the function, or by `temporary` when the function has seen too many.
// nullptr with an error set.
const KeywordLayout* find_layout(JitFunction* function, PyObject* call_names,
                                 std::unique_ptr<KeywordLayout>& temporary) {
  for (const auto& layout : *function->layouts) {
    if (layout->call_names == call_names) return layout.get();
  }
  for (const auto& layout : *function->layouts) {
    if (same_names(layout->call_names, call_names)) return layout.get();
  }
  temporary = make_layout(function, call_names);
  if (!temporary || function->layouts->size() >= kMaxLayouts) return temporary.get();
  function->layouts->push_back(std::move(temporary));
  return function->layouts->back().get();
}

// ------------------------------------------------------------------------------------------------ the call path

// Calls `callback(self, args, kwargs)`.
PyObject* call_python(PyObject* callback, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                      PyObject* call_names) {
  PyObject* tuple = PyTuple_New(nargs);
  if (!tuple) return nullptr;
  for (Py_ssize_t i = 0; i < nargs; ++i) PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
  PyObject* result = nullptr;
  PyObject* dict = PyDict_New();
  if (!dict) goto done;
  if (call_names) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(call_names); ++i) {
      if (PyDict_SetItem(dict, PyTuple_GET_ITEM(call_names, i), args[nargs + i]) < 0) goto done;
    }
  }
  {
    PyObject* arguments[] = {self, tuple, dict};
    result = PyObject_Vectorcall(callback, arguments, 3, nullptr);
  }
done:
  Py_DECREF(tuple);
  Py_XDECREF(dict);
  return result;
}

inline bool is_static_position(const JitFunction* function, Py_ssize_t position, Py_ssize_t nargs) {
  for (Py_ssize_t number : *function->static_positions) {
    if (number == position || number + nargs == position) return true;
  }
  return false;
}

// The name of the parameter that positional argument `position` binds to, for messages; nullptr without an error where
// the function does not tell.
PyObject* parameter_name(PyObject* fun, Py_ssize_t position) {
  PyObject* code = PyObject_GetAttrString(fun, "__code__");
  PyObject* names = code ? PyObject_GetAttrString(code, "co_varnames") : nullptr;
  PyObject* count = code ? PyObject_GetAttrString(code, "co_argcount") : nullptr;
  PyObject* name = nullptr;
  if (names && count && PyTuple_Check(names) && position < PyLong_AsSsize_t(count) &&
      position < PyTuple_GET_SIZE(names)) {
    name = Py_NewRef(PyTuple_GET_ITEM(names, position));
  }
  Py_XDECREF(code);
  Py_XDECREF(names);
  Py_XDECREF(count);
  PyErr_Clear();  // builtins and callable objects have no code object
  return name;
}

// If `value` has no hash, replaces the TypeError that is set by an error that names the argument, and returns true.
bool explain_if_unhashable(const JitFunction* function, PyObject* value, Py_ssize_t position, PyObject* keyword) {
  Ref error = take_error();
  if (PyObject_Hash(value) != -1) {
    put_error(std::move(error));
    return false;
  }
  error = take_error();
  Ref name(keyword ? Py_NewRef(keyword) : parameter_name(function->fun, position));
  Ref where(keyword ? PyUnicode_FromFormat("keyword argument %R", keyword)
            : name  ? PyUnicode_FromFormat("argument %zd (%R)", position, name.get())
                    : PyUnicode_FromFormat("argument %zd", position));
  if (where) {
    PyErr_Format(PyExc_ValueError,
                 "Non-hashable static arguments are used in a jit function: %U of %U is static, but its value %R of "
                 "type %R cannot be hashed (%R). Static arguments select a compiled version, so they need __hash__ and "
                 "__eq__: pass a tuple instead of a list, or make the argument dynamic.",
                 where.get(), function->name, value, reinterpret_cast<PyObject*>(Py_TYPE(value)), error.get());
  }
  set_cause(std::move(error));
  return true;
}

void explain_unhashable_statics(const JitFunction* function, PyObject* const* args, Py_ssize_t nargs,
                                const KeywordLayout* layout) {
  for (Py_ssize_t i = 0; i < nargs; ++i) {
    if (is_static_position(function, i, nargs) && explain_if_unhashable(function, args[i], i, nullptr)) return;
  }
  if (!layout) return;
  for (size_t i = 0; i < layout->order.size(); ++i) {
    if (layout->is_static[i] && explain_if_unhashable(function, args[nargs + layout->order[i]], 0,
                                                      PyTuple_GET_ITEM(layout->sorted_names, i))) {
      return;
    }
  }
}

// Puts the argument's name before the message of the OverflowError that is set.
void explain_overflow(const JitFunction* function, Py_ssize_t position, PyObject* keyword) {
  Ref error = take_error();
  Ref name(keyword ? Py_NewRef(keyword) : parameter_name(function->fun, position));
  if (!name) name = Ref(PyUnicode_FromFormat("args[%zd]", position));
  if (!name) return;
  PyErr_Format(PyExc_OverflowError,
               "An overflow was encountered while parsing an argument to a jitted computation, whose argument path "
               "is %U of %U: %S",
               name.get(), function->name, error.get());
}

// Splits and flattens the arguments into `frame`.
LeafStatus add_arguments(JitFunction* function, CallFrame& frame, PyObject* const* args, Py_ssize_t nargs,
                         const KeywordLayout* layout, uint32_t flags) {
  int32_t num_dynamic = 0;
  const bool has_static_positions = !function->static_positions->empty();
  for (Py_ssize_t i = 0; i < nargs; ++i) {
    if (has_static_positions && is_static_position(function, i, nargs)) {
      frame.statics.push_back(Py_NewRef(args[i]));
      continue;
    }
    LeafStatus status = add_argument(frame, args[i], flags);
    if (status == LeafStatus::kOverflow) explain_overflow(function, i, nullptr);
    if (status != LeafStatus::kOk) return status;
    ++num_dynamic;
  }
  frame.num_positional = static_cast<size_t>(nargs);
  if (layout) {
    frame.keyword_names = Py_NewRef(layout->sorted_names);
    frame.keyword_hash = layout->hash;
    for (size_t i = 0; i < layout->order.size(); ++i) {
      PyObject* value = args[nargs + layout->order[i]];
      if (layout->is_static[i]) {
        frame.statics.push_back(Py_NewRef(value));
        continue;
      }
      LeafStatus status = add_argument(frame, value, flags);
      if (status == LeafStatus::kOverflow) {
        explain_overflow(function, 0, PyTuple_GET_ITEM(layout->sorted_names, i));
      }
      if (status != LeafStatus::kOk) return status;
      ++num_dynamic;
    }
  }
  // The builder compares and interns structures with one root.
  if (frame.has_tree) frame.tree.add_inner(NodeKind::kTuple, num_dynamic, 0, frame.arrays.size());
  return LeafStatus::kOk;
}

// Asks `miss` for a version, keeps it and runs it.
PyObject* call_miss(JitFunction* function, CallFrame& frame, PyObject* const* args, Py_ssize_t nargs,
                    PyObject* call_names) {
  ++function->table->misses;
  PyObject* made = call_python(function->miss, reinterpret_cast<PyObject*>(function), args, nargs, call_names);
  if (!made) return nullptr;
  PyObject* result = nullptr;
  if (Py_TYPE(made) == jit_entry_type) {
    auto* entry = reinterpret_cast<JitEntry*>(made);
    if (function->table->insert(frame, entry)) result = run_entry(entry, frame);
  } else if (PyTuple_CheckExact(made) && PyTuple_GET_SIZE(made) == 2 && PyTuple_GET_ITEM(made, 0) == Py_None) {
    result = Py_NewRef(PyTuple_GET_ITEM(made, 1));
  } else {
    PyErr_Format(PyExc_TypeError, "the miss callback of %U must return a JitEntry or (None, result), got %R",
                 function->name, made);
  }
  Py_DECREF(made);
  return result;
}

// The native path; `*unknown` is set when the call has an argument that only Python knows what to do with.
PyObject* call_compiled(JitFunction* function, CallFrame& frame, PyObject* const* args, Py_ssize_t nargs,
                        PyObject* call_names, uint32_t flags, bool* unknown) {
  frame.config_key = Py_NewRef(config_key());
  std::unique_ptr<KeywordLayout> temporary;
  const KeywordLayout* layout = nullptr;
  if (call_names && PyTuple_GET_SIZE(call_names) > 0) {
    layout = find_layout(function, call_names, temporary);
    if (!layout) return nullptr;
  }
  LeafStatus status = add_arguments(function, frame, args, nargs, layout, flags);
  if (status != LeafStatus::kOk) {
    *unknown = status == LeafStatus::kUnknown;
    return nullptr;
  }
  if (!VersionTable::hash_signature(frame)) {
    if (PyErr_ExceptionMatches(PyExc_TypeError)) explain_unhashable_statics(function, args, nargs, layout);
    return nullptr;
  }
  bool failed;
  VersionRef version = function->table->find(frame, &failed);
  if (version) {
    ++function->table->hits;
    return run_entry(version->entry, frame);
  }
  return failed ? nullptr : call_miss(function, frame, args, nargs, call_names);
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* call_names) {
  JitFunction* function = as_function(self);
  Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
  uint32_t flags = config_flags();
  if (!current_trace() && !(flags & CONFIG_SLOW_MASK)) {
    bool unknown = false;
    PooledFrame frame;
    PyObject* result = guarded(static_cast<PyObject*>(nullptr), [&] {
      return call_compiled(function, *frame, args, nargs, call_names, flags, &unknown);
    });
    if (!unknown) return result;
  }
  return call_python(function->slow, self, args, nargs, call_names);
}

// ------------------------------------------------------------------------------------------------ the type

// A tuple of `object` (nullptr or None: empty) whose items pass `check`. New reference.
PyObject* parse_tuple(PyObject* object, const char* name, bool (*check)(PyObject*), const char* wanted) {
  if (!object || object == Py_None) return PyTuple_New(0);
  PyObject* tuple = PySequence_Tuple(object);
  if (!tuple) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i) {
    if (check(PyTuple_GET_ITEM(tuple, i))) continue;
    PyErr_Format(PyExc_TypeError, "JitFunction: %s must be a sequence of %s, got %R", name, wanted, tuple);
    Py_DECREF(tuple);
    return nullptr;
  }
  return tuple;
}

bool is_int(PyObject* object) { return PyLong_Check(object); }
bool is_str(PyObject* object) { return PyUnicode_Check(object); }

bool parse_positions(JitFunction* function) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(function->static_argnums); ++i) {
    Py_ssize_t number = PyLong_AsSsize_t(PyTuple_GET_ITEM(function->static_argnums, i));
    if (number == -1 && PyErr_Occurred()) return false;
    function->static_positions->push_back(number);
  }
  return true;
}

bool copy_metadata(PyObject* self, PyObject* fun) {
  PyObject* functools = PyImport_ImportModule("functools");
  PyObject* result = functools ? PyObject_CallMethod(functools, "update_wrapper", "OO", self, fun) : nullptr;
  Py_XDECREF(functools);
  Py_XDECREF(result);
  return result != nullptr;
}

// The function's name for messages: the one given, else its __name__, else its repr. New reference.
PyObject* find_name(PyObject* fun, PyObject* given) {
  if (given && given != Py_None) {
    if (PyUnicode_Check(given)) return Py_NewRef(given);
    PyErr_Format(PyExc_TypeError, "JitFunction: name must be a str or None, got %R", given);
    return nullptr;
  }
  PyObject* name = PyObject_GetAttrString(fun, "__name__");
  if (name && PyUnicode_Check(name)) return name;
  Py_XDECREF(name);
  PyErr_Clear();
  return PyObject_Repr(fun);
}

PyObject* function_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"fun", "miss", "slow", "static_argnums", "static_argnames", "donate_argnums",
                                "donate_argnames", "cache_size", "name", "copy_metadata", nullptr};
  PyObject *fun, *miss, *slow, *static_argnums = nullptr, *static_argnames = nullptr, *donate_argnums = nullptr,
                                *donate_argnames = nullptr, *name = nullptr;
  Py_ssize_t cache_size = 4096;
  int copy = 1;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOOOnOp:JitFunction", const_cast<char**>(names), &fun, &miss,
                                   &slow, &static_argnums, &static_argnames, &donate_argnums, &donate_argnames,
                                   &cache_size, &name, &copy)) {
    return nullptr;
  }
  for (PyObject* callable : {fun, miss, slow}) {
    if (!PyCallable_Check(callable)) {
      PyErr_Format(PyExc_TypeError, "JitFunction takes callables `fun`, `miss` and `slow`, got %R", callable);
      return nullptr;
    }
  }
  if (cache_size < 0) {
    PyErr_Format(PyExc_ValueError, "JitFunction: cache_size must not be negative, got %zd", cache_size);
    return nullptr;
  }
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  JitFunction* function = as_function(self);
  function->vectorcall = Callable<call>::call;
  function->fun = Py_NewRef(fun);
  function->miss = Py_NewRef(miss);
  function->slow = Py_NewRef(slow);
  function->static_positions = new std::vector<Py_ssize_t>;
  function->layouts = new std::vector<std::unique_ptr<KeywordLayout>>;
  function->table = new VersionTable(static_cast<size_t>(cache_size));
  bool ok = (function->name = find_name(fun, name)) &&
            (function->static_argnums = parse_tuple(static_argnums, "static_argnums", is_int, "int")) &&
            (function->static_argnames = parse_tuple(static_argnames, "static_argnames", is_str, "str")) &&
            (function->donate_argnums = parse_tuple(donate_argnums, "donate_argnums", is_int, "int")) &&
            (function->donate_argnames = parse_tuple(donate_argnames, "donate_argnames", is_str, "str")) &&
            parse_positions(function) && (!copy || copy_metadata(self, fun));
  if (!ok) {
    Py_DECREF(self);
    return nullptr;
  }
  return self;
}

int function_traverse(PyObject* self, visitproc visit, void* arg) {
  JitFunction* function = as_function(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(function->dict);
  Py_VISIT(function->fun);
  Py_VISIT(function->miss);
  Py_VISIT(function->slow);
  return function->table ? function->table->traverse(visit, arg) : 0;
}

int function_clear(PyObject* self) {
  JitFunction* function = as_function(self);
  Py_CLEAR(function->dict);
  // A finalizer in the same garbage may still call the function: it then fails with an error instead of a crash.
  for (PyObject** callable : {&function->fun, &function->miss, &function->slow}) {
    if (*callable) Py_SETREF(*callable, Py_NewRef(Py_None));
  }
  if (function->table) function->table->clear();
  return 0;
}

void function_dealloc(PyObject* self) {
  JitFunction* function = as_function(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (function->weakrefs) PyObject_ClearWeakRefs(self);
  Py_CLEAR(function->dict);
  Py_CLEAR(function->fun);
  Py_CLEAR(function->miss);
  Py_CLEAR(function->slow);
  Py_CLEAR(function->name);
  Py_CLEAR(function->static_argnums);
  Py_CLEAR(function->static_argnames);
  Py_CLEAR(function->donate_argnums);
  Py_CLEAR(function->donate_argnames);
  delete function->static_positions;
  delete function->layouts;
  delete function->table;
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* function_repr(PyObject* self) {
  return PyUnicode_FromFormat("<PjitFunction of %R>", as_function(self)->fun);
}

PyObject* function_get(PyObject* self, PyObject* instance, PyObject*) {
  if (!instance || instance == Py_None) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

PyObject* function_cache_info(PyObject* self, PyObject*) { return cache_info(*as_function(self)->table); }

PyObject* function_cache_size(PyObject* self, PyObject*) {
  return PyLong_FromSize_t(as_function(self)->table->size());
}

PyObject* function_clear_cache(PyObject* self, PyObject*) {
  as_function(self)->table->clear();
  Py_RETURN_NONE;
}

PyObject* function_reduce(PyObject* self, PyObject*) {
  if (reducer) return PyObject_CallOneArg(reducer, self);
  return PyObject_GetAttrString(self, "__qualname__");
}

PyMethodDef function_methods[] = {
    {"cache_info", function_cache_info, METH_NOARGS,
     "cache_info($self)\n--\n\nCacheInfo(hits, misses, maxsize, currsize) of the compiled versions."},
    {"_cache_size", function_cache_size, METH_NOARGS,
     "_cache_size($self)\n--\n\nThe number of compiled versions held."},
    {"clear_cache", function_clear_cache, METH_NOARGS,
     "clear_cache($self)\n--\n\nDrops the compiled versions; calls that run one finish."},
    {"__reduce__", function_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\nPickles by qualified name, or as the registered reducer says."},
    {nullptr},
};

PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(JitFunction, vectorcall), READONLY},
    {"__dictoffset__", T_PYSSIZET, offsetof(JitFunction, dict), READONLY},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(JitFunction, weakrefs), READONLY},
    {"_fun", T_OBJECT, offsetof(JitFunction, fun), READONLY, "the Python function"},
    {"_name", T_OBJECT, offsetof(JitFunction, name), READONLY, "its name in messages"},
    {"_static_argnums", T_OBJECT, offsetof(JitFunction, static_argnums), READONLY},
    {"_static_argnames", T_OBJECT, offsetof(JitFunction, static_argnames), READONLY},
    {"_donate_argnums", T_OBJECT, offsetof(JitFunction, donate_argnums), READONLY},
    {"_donate_argnames", T_OBJECT, offsetof(JitFunction, donate_argnames), READONLY},
    {nullptr},
};

PyGetSetDef function_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr},
};

PyType_Slot function_slots[] = {
    {Py_tp_doc, const_cast<char*>(
        "JitFunction(fun, miss, slow, static_argnums=(), static_argnames=(), donate_argnums=(), donate_argnames=(), "
        "cache_size=4096, name=None, copy_metadata=True)\n--\n\n"
        "A function that is compiled for each signature of its arguments.\n\n"
        "fun: the Python function; it is called by `miss` and `slow` only.\n"
        "miss: `miss(self, args, kwargs)` returns a JitEntry for this signature, or (None, result) where the result "
        "must not be cached.\n"
        "slow: `slow(self, args, kwargs)` makes the calls that the native path does not: while a trace is current, "
        "with jit disabled, or with an argument that is no array, number or container of such.\n"
        "static_argnums, static_argnames: arguments that select a version by value; negative numbers count from the "
        "last positional argument of a call.\n"
        "donate_argnums, donate_argnames: kept for `miss`.\n"
        "cache_size: the least recently used versions above it are dropped.\n"
        "name: the name in messages, by default fun's.\n"
        "copy_metadata: whether __name__, __doc__, __wrapped__, ... are set as functools.wraps does.")},
    {Py_tp_new, reinterpret_cast<void*>(function_new)},
    {Py_tp_traverse, reinterpret_cast<void*>(function_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(function_clear)},
    {Py_tp_dealloc, reinterpret_cast<void*>(function_dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(function_repr)},
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_descr_get, reinterpret_cast<void*>(function_get)},
    {Py_tp_methods, function_methods},
    {Py_tp_members, function_members},
    {Py_tp_getset, function_getset},
    {0, nullptr},
};

PyType_Spec function_spec = {
    "velax._native.JitFunction", sizeof(JitFunction), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    function_slots};

// ------------------------------------------------------------------------------------------------ module functions

PyObject* set_jit_reducer(PyObject*, PyObject* callable) {
  if (!PyCallable_Check(callable)) {
    PyErr_Format(PyExc_TypeError, "set_jit_reducer() takes a callable, got %R", callable);
    return nullptr;
  }
  Py_XSETREF(reducer, Py_NewRef(callable));
  Py_RETURN_NONE;
}

PyObject* clear_all_jit_caches(PyObject*, PyObject*) {
  VersionTable::clear_all();
  Py_RETURN_NONE;
}

PyMethodDef module_methods[] = {
    {"register_leaf_type", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)(void)>(register_leaf_type)),
     METH_FASTCALL,
     "register_leaf_type(cls, unwrap, /)\n--\n\n"
     "Makes instances of exactly `cls` leaves of compiled calls: `unwrap(object)` returns (ArrayImpl, tag), where the "
     "hashable tag selects a version as a static argument does."},
    {"set_jit_reducer", set_jit_reducer, METH_O,
     "set_jit_reducer(f, /)\n--\n\nRegisters `f(jit_function)`, which returns what JitFunction.__reduce__ returns."},
    {"clear_all_jit_caches", clear_all_jit_caches, METH_NOARGS,
     "clear_all_jit_caches()\n--\n\nDrops the compiled versions of every JitFunction and EagerCache."},
    {nullptr},
};

PyTypeObject* cache_info_type = nullptr;

PyStructSequence_Field cache_info_fields[] = {
    {"hits", "calls served by a version that was there"},
    {"misses", "calls that needed a new version"},
    {"maxsize", "versions kept at most"},
    {"currsize", "versions kept"},
    {nullptr, nullptr},
};

PyStructSequence_Desc cache_info_desc = {"velax._native.CacheInfo", "Statistics of a cache of compiled versions.",
                                         cache_info_fields, 4};

bool init_cache_info(PyObject* module) {
  cache_info_type = PyStructSequence_NewType(&cache_info_desc);
  return cache_info_type && PyModule_AddType(module, cache_info_type) == 0;
}

}  // namespace

PyObject* cache_info(const VersionTable& table) {
  PyObject* info = PyStructSequence_New(cache_info_type);
  if (!info) return nullptr;
  const uint64_t values[] = {table.hits, table.misses, table.capacity(), table.size()};
  for (Py_ssize_t i = 0; i < 4; ++i) {
    PyObject* value = PyLong_FromUnsignedLongLong(values[i]);
    if (!value) {
      Py_DECREF(info);
      return nullptr;
    }
    PyStructSequence_SetItem(info, i, value);
  }
  return info;
}

bool init_function_type(PyObject* module) {
  jit_function_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&function_spec));
  return jit_function_type && PyModule_AddType(module, jit_function_type) == 0;
}

void bind_jit(nb::module_& m) {
  bool ok = init_cache_info(m.ptr()) && init_entry_type(m.ptr()) && init_function_type(m.ptr()) &&
            init_eager_type(m.ptr()) && PyModule_AddFunctions(m.ptr(), module_methods) == 0;
  if (!ok) nb::raise_python_error();
}

}  // namespace velax
