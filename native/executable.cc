// The Python type Executable: a decoded program bound to its kernels, library functions and callbacks.
#include <Python.h>
#include <structmember.h>

#include <string>

#include "frame.h"

namespace velax {

PyTypeObject* executable_type = nullptr;

namespace {

// Programs estimated to run longer than this give the GIL up; below, two hand-overs cost more than they are worth.
constexpr int64_t kReleaseWorkNanoseconds = 20'000;

Executable* as_executable(PyObject* o) { return reinterpret_cast<Executable*>(o); }

AvalInfo* aval_of(PyObject* shape, PyObject* dtype, bool weak) {
  int code = dtype_code(dtype);
  if (code < 0) return nullptr;
  Ref dims(PySequence_Tuple(shape));
  if (!dims) return nullptr;
  std::vector<int64_t> sizes;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(dims.get()); i++) {
    int64_t size = PyLong_AsLongLong(PyTuple_GET_ITEM(dims.get(), i));
    if (size == -1 && PyErr_Occurred()) return nullptr;
    if (size < 0) {
      PyErr_Format(PyExc_ValueError, "Executable: negative dimension in shape %R", shape);
      return nullptr;
    }
    sizes.push_back(size);
  }
  return intern_aval(code, weak, sizes.data(), static_cast<int>(sizes.size()));
}

// From (shape, dtype, weak) or an object with .shape, .dtype and perhaps .weak_type.
AvalInfo* parse_aval(PyObject* o) {
  if (PyTuple_Check(o)) {
    if (PyTuple_GET_SIZE(o) != 3) {
      PyErr_Format(PyExc_TypeError, "Executable: an aval is (shape, dtype, weak) or has .shape and .dtype, got %R", o);
      return nullptr;
    }
    int weak = PyObject_IsTrue(PyTuple_GET_ITEM(o, 2));
    return weak < 0 ? nullptr : aval_of(PyTuple_GET_ITEM(o, 0), PyTuple_GET_ITEM(o, 1), weak != 0);
  }
  Ref shape(PyObject_GetAttrString(o, "shape"));
  if (!shape) return nullptr;
  Ref dtype(PyObject_GetAttrString(o, "dtype"));
  if (!dtype) return nullptr;
  Ref weak(PyObject_GetAttrString(o, "weak_type"));
  if (!weak) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return nullptr;
    PyErr_Clear();
  }
  int is_weak = weak ? PyObject_IsTrue(weak.get()) : 0;
  return is_weak < 0 ? nullptr : aval_of(shape.get(), dtype.get(), is_weak != 0);
}

bool parse_avals(PyObject* sequence, const char* what, std::vector<AvalInfo*>* out) {
  Ref items(PySequence_Tuple(sequence));
  if (!items) {
    if (PyErr_ExceptionMatches(PyExc_TypeError))
      PyErr_Format(PyExc_TypeError, "Executable: %s must be a sequence", what);
    return false;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items.get()); i++) {
    AvalInfo* info = parse_aval(PyTuple_GET_ITEM(items.get(), i));
    if (info == nullptr) return false;
    out->push_back(info);
  }
  return true;
}

bool parse_kernels(PyObject* sequence, ExecutableParts* parts) {
  Ref items(PySequence_Tuple(sequence));
  if (!items) return false;
  size_t n = static_cast<size_t>(PyTuple_GET_SIZE(items.get()));
  if (n != parts->program->kernels.size()) {
    PyErr_Format(PyExc_ValueError, "Executable: the program has %zu kernels, but %zu were given",
                 parts->program->kernels.size(), n);
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    PyObject* kernel = PyTuple_GET_ITEM(items.get(), static_cast<Py_ssize_t>(i));
    if (!is_loaded_kernel(kernel)) {
      PyErr_Format(PyExc_TypeError, "Executable: kernel %zu must be a LoadedKernel, got %.100s", i,
                   Py_TYPE(kernel)->tp_name);
      return false;
    }
    parts->kernels.push_back(reinterpret_cast<LoadedKernel*>(Py_NewRef(kernel)));
  }
  return true;
}

bool parse_callbacks(PyObject* sequence, ExecutableParts* parts) {
  Ref items(PySequence_Tuple(sequence));
  if (!items) return false;
  size_t n = static_cast<size_t>(PyTuple_GET_SIZE(items.get()));
  if (n != parts->program->num_callbacks) {
    PyErr_Format(PyExc_ValueError, "Executable: the program has %u callbacks, but %zu were given",
                 parts->program->num_callbacks, n);
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    PyObject* entry = PyTuple_GET_ITEM(items.get(), static_cast<Py_ssize_t>(i));
    if (!PyTuple_Check(entry) || PyTuple_GET_SIZE(entry) != 3 || !PyCallable_Check(PyTuple_GET_ITEM(entry, 0))) {
      PyErr_Format(PyExc_TypeError, "Executable: callback %zu must be (callable, in_avals, out_avals), got %R", i,
                   entry);
      return false;
    }
    Callback callback{};
    if (!parse_avals(PyTuple_GET_ITEM(entry, 1), "a callback's in_avals", &callback.in_avals)) return false;
    if (!parse_avals(PyTuple_GET_ITEM(entry, 2), "a callback's out_avals", &callback.out_avals)) return false;
    callback.callable = Py_NewRef(PyTuple_GET_ITEM(entry, 0));
    parts->callbacks.push_back(std::move(callback));
  }
  return true;
}

bool check_callback_slots(const ExecutableParts& parts, const Instruction& in) {
  const Program& program = *parts.program;
  const Callback& callback = parts.callbacks[in.target];
  if (callback.in_avals.size() != in.nslots || callback.out_avals.size() != in.nslots2) {
    PyErr_Format(PyExc_ValueError,
                 "Executable: callback %u has %zu inputs and %zu outputs, the program passes %u and %u", in.target,
                 callback.in_avals.size(), callback.out_avals.size(), in.nslots, in.nslots2);
    return false;
  }
  for (uint32_t i = 0; i < in.nslots + in.nslots2; i++) {
    const AvalInfo* info = i < in.nslots ? callback.in_avals[i] : callback.out_avals[i - in.nslots];
    uint32_t slot = program.operands[in.slots + i];
    if (program.slots[slot].nbytes < info->nbytes) {
      PyErr_Format(PyExc_ValueError, "Executable: callback %u needs %s, slot %u has %lld bytes", in.target,
                   aval_to_string(info).c_str(), slot, static_cast<long long>(program.slots[slot].nbytes));
      return false;
    }
  }
  return true;
}

bool resolve_functions(ExecutableParts* parts) {
  for (const std::string& name : parts->program->functions) {
    LibraryFunction function;
    if (!find_library_function(name, &function)) {
      PyErr_Format(PyExc_ValueError, "Executable: there is no library function '%s'", name.c_str());
      return false;
    }
    parts->functions.push_back(function);
  }
  for (const Instruction& in : parts->program->instructions) {
    if (in.op == Opcode::kCallback && !check_callback_slots(*parts, in)) return false;
    if (in.op != Opcode::kCall) continue;
    const LibraryFunction& f = parts->functions[in.target];
    if ((f.num_buffers >= 0 && f.num_buffers != static_cast<int>(in.nslots)) ||
        (f.num_params >= 0 && f.num_params != static_cast<int>(in.nparams))) {
      PyErr_Format(PyExc_ValueError, "Executable: library function '%s' takes %d buffers and %d params, got %u and %u",
                   f.name.c_str(), f.num_buffers, f.num_params, in.nslots, in.nparams);
      return false;
    }
  }
  return true;
}

bool check_sizes(const ExecutableParts& parts) {
  const Program& program = *parts.program;
  if (parts.in_avals.size() != program.input_nbytes.size() || parts.out_avals.size() != program.outputs.size()) {
    PyErr_Format(PyExc_ValueError,
                 "Executable: the program has %zu inputs and %zu outputs, the avals are for %zu and %zu",
                 program.input_nbytes.size(), program.outputs.size(), parts.in_avals.size(), parts.out_avals.size());
    return false;
  }
  for (size_t k = 0; k < parts.in_avals.size() + parts.out_avals.size(); k++) {
    bool is_input = k < parts.in_avals.size();
    size_t i = is_input ? k : k - parts.in_avals.size();
    const AvalInfo* info = is_input ? parts.in_avals[i] : parts.out_avals[i];
    int64_t nbytes = is_input ? program.input_nbytes[i] : program.outputs[i].nbytes;
    if (info->nbytes != nbytes) {
      PyErr_Format(PyExc_ValueError, "Executable: %s %zu is %s, but the program gives it %lld bytes",
                   is_input ? "input" : "output", i, aval_to_string(info).c_str(), static_cast<long long>(nbytes));
      return false;
    }
  }
  return true;
}

void find_reads(ExecutableParts* parts) {
  const Program& program = *parts->program;
  parts->reads.assign(parts->in_avals.size(), 0);
  for (const Slot& slot : program.slots) {
    if (slot.kind == SlotKind::kInput) parts->reads[slot.index] = 1;
  }
  for (const Output& output : program.outputs) {
    if (output.kind != OutputKind::kFresh) parts->reads[output.input] = 1;
  }
}

// Each output stands for one donated input that is read: that which it aliases, else the first of its shape and dtype,
// else the first with as many elements of the same size.
void find_consumed(ExecutableParts* parts) {
  std::vector<uint8_t> open(parts->donated.size()), matched(parts->out_avals.size());
  for (size_t k = 0; k < open.size(); k++) open[k] = parts->donated[k] && parts->reads[k];
  auto match = [&](size_t j, auto&& fits) {
    for (size_t k = 0; k < open.size() && !matched[j]; k++) {
      if (!open[k] || !fits(k)) continue;
      open[k] = 0;
      matched[j] = 1;
      parts->consumed.push_back(k);
    }
  };
  for (size_t j = 0; j < matched.size(); j++) {
    const Output& output = parts->program->outputs[j];
    if (output.kind == OutputKind::kAlias) match(j, [&](size_t k) { return k == output.input; });
  }
  for (size_t j = 0; j < matched.size(); j++) {
    match(j, [&](size_t k) { return same_type(*parts->in_avals[k], *parts->out_avals[j]); });
  }
  for (size_t j = 0; j < matched.size(); j++) {
    const AvalInfo& out = *parts->out_avals[j];
    match(j, [&](size_t k) {
      const AvalInfo& in = *parts->in_avals[k];
      return in.size == out.size && in.itemsize == out.itemsize;
    });
  }
}

bool parse_donated(PyObject* sequence, ExecutableParts* parts) {
  parts->donated.assign(parts->in_avals.size(), 0);
  Ref items(PySequence_Tuple(sequence));
  if (!items) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items.get()); i++) {
    PyObject* item = PyTuple_GET_ITEM(items.get(), i);
    Py_ssize_t k = PyBool_Check(item) || !PyLong_Check(item) ? -1 : PyLong_AsSsize_t(item);
    if (k < 0 || k >= static_cast<Py_ssize_t>(parts->in_avals.size())) {
      PyErr_Clear();
      PyErr_Format(PyExc_ValueError, "Executable: donated must list indices of the %zu inputs, got %R",
                   parts->in_avals.size(), item);
      return false;
    }
    parts->donated[static_cast<size_t>(k)] = 1;
  }
  find_reads(parts);
  find_consumed(parts);
  return true;
}

PyObject* call_vector(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames);

int parse_all(Executable* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"program", "kernels", "callbacks", "in_avals", "out_avals", "donated", nullptr};
  Py_buffer stream;
  PyObject *kernels, *callbacks, *in_avals, *out_avals, *donated = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*OOOO|O:Executable", const_cast<char**>(names), &stream, &kernels,
                                   &callbacks, &in_avals, &out_avals, &donated)) {
    return -1;
  }
  ExecutableParts* parts = self->parts;
  try {
    parts->program = decode_program(stream.buf, static_cast<size_t>(stream.len));
  } catch (const ProgramError& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (...) {
    PyBuffer_Release(&stream);
    throw;
  }
  PyBuffer_Release(&stream);
  if (parts->program == nullptr) return -1;
  Ref nothing(PyTuple_New(0));
  if (!nothing) return -1;
  if (donated == nullptr) donated = nothing.get();
  if (!parse_kernels(kernels, parts) || !parse_callbacks(callbacks, parts) ||
      !parse_avals(in_avals, "in_avals", &parts->in_avals) || !parse_avals(out_avals, "out_avals", &parts->out_avals) ||
      !check_sizes(*parts) || !parse_donated(donated, parts) || !resolve_functions(parts)) {
    return -1;
  }
  const Program& program = *parts->program;
  parts->releases_gil = program.work < 0 || program.work >= kReleaseWorkNanoseconds || program.has_loops;
  parts->holds_inputs = parts->releases_gil || program.num_callbacks > 0;
  return 0;
}

PyObject* executable_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  auto* self = as_executable(type->tp_alloc(type, 0));
  if (self == nullptr) return nullptr;
  self->vectorcall = Callable<call_vector>::call;
  int failed = -1;
  try {
    self->parts = new ExecutableParts;
    failed = parse_all(self, args, kwargs);
  } catch (const std::bad_alloc& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  }
  if (failed != 0) Py_CLEAR(self);
  return reinterpret_cast<PyObject*>(self);
}

int executable_traverse(PyObject* o, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(o));
  ExecutableParts* parts = as_executable(o)->parts;
  if (parts == nullptr) return 0;
  for (Callback& callback : parts->callbacks) Py_VISIT(callback.callable);
  return 0;
}

int executable_clear(PyObject* o) {
  ExecutableParts* parts = as_executable(o)->parts;
  if (parts == nullptr) return 0;
  // Something in the same cycle may still call us, so a callable is replaced rather than removed.
  for (Callback& callback : parts->callbacks) Py_XSETREF(callback.callable, Py_NewRef(Py_None));
  return 0;
}

void executable_dealloc(PyObject* o) {
  PyObject_GC_UnTrack(o);
  PyTypeObject* type = Py_TYPE(o);
  if (ExecutableParts* parts = as_executable(o)->parts) {
    for (LoadedKernel* kernel : parts->kernels) Py_DECREF(kernel);
    for (Callback& callback : parts->callbacks) Py_XDECREF(callback.callable);
    delete parts;
  }
  type->tp_free(o);
  Py_DECREF(type);
}

// Runs over n objects and returns the outputs as a new list or tuple, or the one output itself.
enum class Wrap { kList, kTupleOrSingle };

PyObject* run(Executable* self, PyObject* const* args, size_t n, Wrap wrap) {
  for (size_t i = 0; i < n; i++) {
    if (!is_array(args[i])) {
      PyErr_Format(PyExc_TypeError, "argument %zu of an executable must be an array, got %.100s", i,
                   Py_TYPE(args[i])->tp_name);
      return nullptr;
    }
  }
  size_t num_out = num_outputs(self);
  auto inputs = reinterpret_cast<ArrayImpl* const*>(args);
  if (wrap == Wrap::kTupleOrSingle && num_out == 1) {
    PyObject* output = nullptr;
    return execute(self, inputs, n, &output) ? output : nullptr;
  }
  SmallArray<PyObject*, 16> outputs(num_out);
  if (!execute(self, inputs, n, outputs.data())) return nullptr;
  auto size = static_cast<Py_ssize_t>(num_out);
  PyObject* wrapped = wrap == Wrap::kList ? PyList_New(size) : PyTuple_New(size);
  for (Py_ssize_t j = 0; j < size; j++) {
    PyObject* output = outputs[static_cast<size_t>(j)];
    if (wrapped == nullptr) {
      Py_DECREF(output);
    } else if (wrap == Wrap::kList) {
      PyList_SET_ITEM(wrapped, j, output);
    } else {
      PyTuple_SET_ITEM(wrapped, j, output);
    }
  }
  return wrapped;
}

PyObject* call_vector(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  if (kwnames != nullptr && PyTuple_GET_SIZE(kwnames) != 0) {
    PyErr_SetString(PyExc_TypeError, "an executable takes no keyword arguments");
    return nullptr;
  }
  return run(as_executable(self), args, static_cast<size_t>(PyVectorcall_NARGS(nargsf)), Wrap::kTupleOrSingle);
}

PyObject* executable_execute(PyObject* self, PyObject* arrays) {
  // A tuple of its own, so that a callback cannot change what is being read.
  Ref items(PySequence_Tuple(arrays));
  if (!items) return nullptr;
  auto n = static_cast<size_t>(PyTuple_GET_SIZE(items.get()));
  return run(as_executable(self), reinterpret_cast<PyTupleObject*>(items.get())->ob_item, n, Wrap::kList);
}

PyObject* avals_tuple(const std::vector<AvalInfo*>& infos) {
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(infos.size()));
  for (size_t i = 0; tuple != nullptr && i < infos.size(); i++) {
    PyObject* aval = infos[i]->aval();
    if (aval == nullptr) {
      Py_CLEAR(tuple);
      break;
    }
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), Py_NewRef(aval));
  }
  return tuple;
}

PyObject* get_in_avals(PyObject* o, void*) { return avals_tuple(as_executable(o)->parts->in_avals); }
PyObject* get_out_avals(PyObject* o, void*) { return avals_tuple(as_executable(o)->parts->out_avals); }

PyObject* get_kernels(PyObject* o, void*) {
  const auto& kernels = as_executable(o)->parts->kernels;
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(kernels.size()));
  for (size_t i = 0; tuple != nullptr && i < kernels.size(); i++) {
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), Py_NewRef(reinterpret_cast<PyObject*>(kernels[i])));
  }
  return tuple;
}

PyObject* get_donated(PyObject* o, void*) {
  PyObject* list = PyList_New(0);
  const auto& donated = as_executable(o)->parts->donated;
  for (size_t k = 0; list != nullptr && k < donated.size(); k++) {
    if (!donated[k]) continue;
    Ref index(PyLong_FromSize_t(k));
    if (!index || PyList_Append(list, index.get()) < 0) Py_CLEAR(list);
  }
  PyObject* tuple = list == nullptr ? nullptr : PyList_AsTuple(list);
  Py_XDECREF(list);
  return tuple;
}

PyObject* get_work(PyObject* o, void*) { return PyLong_FromLongLong(as_executable(o)->parts->program->work); }
PyObject* get_arena_bytes(PyObject* o, void*) {
  return PyLong_FromLongLong(as_executable(o)->parts->program->arena_bytes);
}
PyObject* get_literal_bytes(PyObject* o, void*) {
  return PyLong_FromLongLong(as_executable(o)->parts->program->literal_bytes);
}
PyObject* get_num_instructions(PyObject* o, void*) {
  return PyLong_FromSize_t(as_executable(o)->parts->program->instructions.size());
}
PyObject* get_num_inputs(PyObject* o, void*) { return PyLong_FromSize_t(num_inputs(as_executable(o))); }
PyObject* get_num_outputs(PyObject* o, void*) { return PyLong_FromSize_t(num_outputs(as_executable(o))); }
PyObject* get_releases_gil(PyObject* o, void*) { return PyBool_FromLong(as_executable(o)->parts->releases_gil); }

PyObject* executable_repr(PyObject* o) {
  const Program& program = *as_executable(o)->parts->program;
  return PyUnicode_FromFormat("<Executable: %zu inputs, %zu outputs, %zu instructions, %zu kernels, %lld arena bytes>",
                              program.input_nbytes.size(), program.outputs.size(), program.instructions.size(),
                              program.kernels.size(), static_cast<long long>(program.arena_bytes));
}

PyMethodDef methods[] = {
    {"execute", Callable<executable_execute>::call, METH_O,
     "execute(arrays)\n--\n\nRun over a sequence of arrays and return the list of outputs.\n\n"
     "Raises TypeError if the number, shapes or dtypes of the arrays are not those of ``in_avals``, RuntimeError for\n"
     "deleted arrays, the registered runtime error if a kernel or callback fails."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef getters[] = {
    {"in_avals", get_in_avals, nullptr, "tuple of the inputs' avals", nullptr},
    {"out_avals", get_out_avals, nullptr, "tuple of the outputs' avals", nullptr},
    {"kernels", get_kernels, nullptr, "tuple of LoadedKernel", nullptr},
    {"donated", get_donated, nullptr, "tuple of the indices of donated inputs", nullptr},
    {"num_inputs", get_num_inputs, nullptr, nullptr, nullptr},
    {"num_outputs", get_num_outputs, nullptr, nullptr, nullptr},
    {"num_instructions", get_num_instructions, nullptr, "instructions in all blocks", nullptr},
    {"work", get_work, nullptr, "estimated nanoseconds on one thread; -1: unknown", nullptr},
    {"arena_bytes", get_arena_bytes, nullptr, "bytes of temporaries an execution takes", nullptr},
    {"literal_bytes", get_literal_bytes, nullptr, "bytes of the literal pool", nullptr},
    {"releases_gil", get_releases_gil, nullptr, "whether other Python threads run meanwhile", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMemberDef members[] = {{"__vectorcalloffset__", T_PYSSIZET, offsetof(Executable, vectorcall), READONLY, nullptr},
                         {nullptr, 0, 0, 0, nullptr}};

const char* const doc =
    "Executable(program, kernels, callbacks, in_avals, out_avals, donated=())\n--\n\n"
    "A program bound to what it calls, ready to run; calling it with arrays returns its output, or a tuple of "
    "outputs.\n\n"
    "program: the encoded program (bytes).\n"
    "kernels: a LoadedKernel for each of the program's kernels.\n"
    "callbacks: a (callable, in_avals, out_avals) for each callback; the callable gets arrays, returns a sequence of "
    "arrays.\n"
    "in_avals, out_avals: (shape, dtype, weak) tuples, or objects with .shape, .dtype and .weak_type.\n"
    "donated: indices of the inputs whose memory outputs may take over.\n\n"
    "Raises ValueError if the program is malformed or does not fit the rest.";

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(executable_new)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(executable_dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(executable_traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(executable_clear)},
                       {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                       {Py_tp_repr, reinterpret_cast<void*>(executable_repr)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, getters},
                       {Py_tp_members, members},
                       {Py_tp_doc, const_cast<char*>(doc)},
                       {0, nullptr}};

PyType_Spec spec = {"velax._native.Executable", sizeof(Executable), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
                    slots};

}  // namespace

PyTypeObject* make_executable_type() { return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec)); }

}  // namespace velax
