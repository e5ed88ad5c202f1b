// The table of library functions.
#include "library.h"

#include <pthread.h>

#include <mutex>
#include <unordered_map>

namespace velax {
namespace {

struct Registry {
  std::mutex mutex;
  std::unordered_map<std::string, LibraryFunction> functions;
};

Registry& registry() {
  static Registry* made = [] {
    static Registry* fresh = new Registry;
    pthread_atfork([] { fresh->mutex.lock(); }, [] { fresh->mutex.unlock(); }, [] { fresh->mutex.unlock(); });
    return fresh;
  }();
  return *made;
}

}  // namespace

void register_library_function(const std::string& name, LibraryFn function, int num_buffers, int num_params) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.functions[name] = {name, function, num_buffers, num_params};
}

bool find_library_function(const std::string& name, LibraryFunction* out) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  auto found = all.functions.find(name);
  if (found == all.functions.end()) return false;
  *out = found->second;
  return true;
}

}  // namespace velax
