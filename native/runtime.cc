// What the runtime adds to the module: executables, the loader, the thread pool and the tables of names.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "frame.h"
#include "interrupt.h"
#include "library.h"
#include "loader.h"
#include "pool.h"
#include "rooms.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace velax {
namespace {

void bind_thread_count(nb::module_& m) {
  m.def("num_threads", &num_threads, "The number of threads that share a launch, the calling one included.");
  m.def("default_num_threads", &default_num_threads,
        "VELAX_NUM_THREADS, or the processors that affinity and the control group's quota allow.");
  m.def(
      "set_num_threads",
      [](int n) {
        if (n < 1 || n > 4096) {
          throw nb::value_error(("set_num_threads: n must be in [1, 4096], got " + std::to_string(n)).c_str());
        }
        nb::gil_scoped_release released;
        set_num_threads(n);
      },
      "n"_a, "Use n threads for launches from now on. Results do not depend on it.");
}

void* checked_address(const char* function, uint64_t address) {
  if (address == 0) throw nb::value_error((std::string(function) + ": the address is 0").c_str());
  return reinterpret_cast<void*>(address);
}

void bind_names(nb::module_& m) {
  m.def(
      "register_symbol",
      [](const std::string& name, uint64_t address) {
        register_symbol(name, checked_address("register_symbol", address));
      },
      "name"_a, "address"_a, "Let objects loaded from now on import `name`, a function at this address.");
  m.def(
      "symbol_address",
      [](const std::string& name) -> uint64_t {
        void* address = find_symbol(name);
        if (address == nullptr) throw nb::key_error(("no symbol '" + name + "' is known to the loader").c_str());
        return reinterpret_cast<uint64_t>(address);
      },
      "name"_a, "The address that loaded objects get for a name they import. Raises KeyError if there is none.");
  m.def(
      "register_library_function",
      [](const std::string& name, uint64_t address, int num_buffers, int num_params) {
        auto function = reinterpret_cast<LibraryFn>(checked_address("register_library_function", address));
        register_library_function(name, function, num_buffers, num_params);
      },
      "name"_a, "address"_a, "num_buffers"_a = -1, "num_params"_a = -1,
      "Let programs CALL a function at this address: int32_t f(Ctx*, void** buffers, const int64_t* params).\n"
      "Executables check the numbers of buffers and params unless they are -1.");
  m.def(
      "has_library_function",
      [](const std::string& name) {
        LibraryFunction ignored;
        return find_library_function(name, &ignored);
      },
      "name"_a, "Whether programs can CALL a function of that name.");
  m.def(
      "set_runtime_error_type",
      [](nb::handle type) {
        if (!set_runtime_error_type(type.ptr())) throw nb::python_error();
      },
      "type"_a, "The exception class for failures while programs run.");
}

void bind_exit(nb::module_& m) {
  m.def(
      "_shut_down_runtime",
      [] {
        nb::gil_scoped_release released;
        shut_down_watchdog();
        shut_down_pool();
      },
      "Join the runtime's threads; programs then run on their callers. Called at interpreter exit.");
  nb::module_::import_("atexit").attr("register")(m.attr("_shut_down_runtime"));
}

}  // namespace

void bind_runtime(nb::module_& m) {
  if (!init_interrupts() || !add_loader_types(m.ptr())) throw nb::python_error();
  executable_type = make_executable_type();
  if (executable_type == nullptr || PyModule_AddType(m.ptr(), executable_type) < 0) throw nb::python_error();
  register_sort_functions();
  bind_thread_count(m);
  bind_names(m);
  bind_exit(m);
}

}  // namespace velax
