// The Python types LoadedObject and LoadedKernel.
#include <Python.h>
#include <structmember.h>

#include <algorithm>
#include <new>

#include "loader.h"

namespace velax {

PyTypeObject* loaded_kernel_type = nullptr;

namespace {

struct LoadedObject {
  PyObject_HEAD
  std::shared_ptr<CodeImage> image;
};

PyTypeObject* loaded_object_type = nullptr;

LoadedObject* as_object(PyObject* o) { return reinterpret_cast<LoadedObject*>(o); }
LoadedKernel* as_kernel(PyObject* o) { return reinterpret_cast<LoadedKernel*>(o); }

PyObject* load_object(PyObject*, PyObject* data) {
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return nullptr;
  std::shared_ptr<CodeImage> image;
  try {
    image = CodeImage::load(view.buf, static_cast<size_t>(view.len));
  } catch (const LoadError& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  PyBuffer_Release(&view);
  if (image == nullptr) return nullptr;
  auto* object = as_object(loaded_object_type->tp_alloc(loaded_object_type, 0));
  if (object != nullptr) new (&object->image) std::shared_ptr<CodeImage>(std::move(image));
  return reinterpret_cast<PyObject*>(object);
}

void object_dealloc(PyObject* o) {
  PyTypeObject* type = Py_TYPE(o);
  as_object(o)->image.~shared_ptr();
  type->tp_free(o);
  Py_DECREF(type);
}

PyObject* object_symbol(PyObject* o, PyObject* name) {
  const char* text = PyUnicode_AsUTF8(name);
  if (text == nullptr) return nullptr;
  const auto& image = as_object(o)->image;
  auto found = image->functions().find(text);
  if (found == image->functions().end()) {
    PyErr_Format(PyExc_KeyError, "the object defines no function %R", name);
    return nullptr;
  }
  auto* kernel = as_kernel(loaded_kernel_type->tp_alloc(loaded_kernel_type, 0));
  if (kernel == nullptr) return nullptr;
  new (&kernel->function) std::atomic<KernelFn>(reinterpret_cast<KernelFn>(found->second));
  new (&kernel->images) std::vector<std::shared_ptr<CodeImage>>{image};
  kernel->name = Py_NewRef(name);
  return reinterpret_cast<PyObject*>(kernel);
}

PyObject* object_symbols(PyObject* o, void*) {
  std::vector<std::string> names;
  for (const auto& entry : as_object(o)->image->functions()) names.push_back(entry.first);
  std::sort(names.begin(), names.end());
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(names.size()));
  for (size_t i = 0; tuple != nullptr && i < names.size(); i++) {
    PyObject* name = PyUnicode_DecodeUTF8(names[i].data(), static_cast<Py_ssize_t>(names[i].size()), "replace");
    if (name == nullptr) {
      Py_CLEAR(tuple);
    } else {
      PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), name);
    }
  }
  return tuple;
}

PyObject* object_mapped_bytes(PyObject* o, void*) { return PyLong_FromSize_t(as_object(o)->image->mapped_bytes()); }

void kernel_dealloc(PyObject* o) {
  PyTypeObject* type = Py_TYPE(o);
  LoadedKernel* kernel = as_kernel(o);
  Py_XDECREF(kernel->name);
  kernel->images.~vector();
  type->tp_free(o);
  Py_DECREF(type);
}

PyObject* kernel_address(PyObject* o, void*) {
  return PyLong_FromVoidPtr(reinterpret_cast<void*>(as_kernel(o)->function.load()));
}

PyObject* kernel_replace(PyObject* o, PyObject* other) {
  if (!is_loaded_kernel(other)) {
    PyErr_Format(PyExc_TypeError, "replace() takes a LoadedKernel, got %.100s", Py_TYPE(other)->tp_name);
    return nullptr;
  }
  LoadedKernel* kernel = as_kernel(o);
  for (const auto& image : as_kernel(other)->images) {
    if (std::find(kernel->images.begin(), kernel->images.end(), image) == kernel->images.end()) {
      kernel->images.push_back(image);
    }
  }
  kernel->function.store(as_kernel(other)->function.load(), std::memory_order_release);
  Py_RETURN_NONE;
}

PyObject* kernel_repr(PyObject* o) {
  return PyUnicode_FromFormat("<LoadedKernel %R at %p>", as_kernel(o)->name,
                              reinterpret_cast<void*>(as_kernel(o)->function.load()));
}

PyMethodDef object_methods[] = {
    {"symbol", object_symbol, METH_O,
     "symbol(name)\n--\n\nThe function of that name as a LoadedKernel. Raises KeyError if the object defines none."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef object_getters[] = {
    {"symbols", object_symbols, nullptr, "sorted tuple of the names of the functions defined", nullptr},
    {"mapped_bytes", object_mapped_bytes, nullptr, "bytes of memory that the code and its data take", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot object_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(object_dealloc)},
    {Py_tp_methods, object_methods},
    {Py_tp_getset, object_getters},
    {Py_tp_doc, const_cast<char*>("Machine code mapped from a relocatable object; made by `load_object`.")},
    {0, nullptr}};

PyMethodDef kernel_methods[] = {
    {"replace", kernel_replace, METH_O,
     "replace(other)\n--\n\nMake this kernel run the code of `other` from now on, in every executable that has it.\n"
     "Launches under way finish with the old code, which stays in memory as long as this kernel does."},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef kernel_members[] = {{"name", T_OBJECT, offsetof(LoadedKernel, name), READONLY, "the symbol's name"},
                                {nullptr, 0, 0, 0, nullptr}};

PyGetSetDef kernel_getters[] = {{"address", kernel_address, nullptr, "the address of the code it runs now", nullptr},
                                {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot kernel_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(kernel_dealloc)},
    {Py_tp_methods, kernel_methods},
    {Py_tp_members, kernel_members},
    {Py_tp_getset, kernel_getters},
    {Py_tp_repr, reinterpret_cast<void*>(kernel_repr)},
    {Py_tp_doc, const_cast<char*>("A function of loaded code with the kernel ABI; made by `LoadedObject.symbol`.")},
    {0, nullptr}};

constexpr unsigned long kFlags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE;
PyType_Spec object_spec = {"velax._native.LoadedObject", sizeof(LoadedObject), 0, kFlags, object_slots};
PyType_Spec kernel_spec = {"velax._native.LoadedKernel", sizeof(LoadedKernel), 0, kFlags, kernel_slots};

PyMethodDef functions[] = {
    {"load_object", load_object, METH_O,
     "load_object(data)\n--\n\nMap an ELF x86-64 relocatable object (bytes) and return it as a LoadedObject.\n\n"
     "Undefined symbols must be functions of the built-in table (memory functions, libm, compiler helpers) or "
     "registered\n"
     "with `register_symbol`. Raises ValueError for anything that is not a complete, consistent object of that kind.\n"
     "Only load code from sources that may run code in this process anyway."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_loader_types(PyObject* module) {
  loaded_object_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&object_spec));
  if (loaded_object_type == nullptr) return false;
  loaded_kernel_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&kernel_spec));
  if (loaded_kernel_type == nullptr) return false;
  return PyModule_AddFunctions(module, functions) == 0 && PyModule_AddType(module, loaded_object_type) == 0 &&
         PyModule_AddType(module, loaded_kernel_type) == 0;
}

}  // namespace velax
