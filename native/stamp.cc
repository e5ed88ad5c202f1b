// The paths, sizes and times of the package's files, which the caches on disk know it by. A stat takes less time
// than Python needs for the loop around it, and every process that compiles anything comes through here once.
#include <dirent.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "rooms.h"

namespace nb = nanobind;

namespace velax {
namespace {

bool ends_with(const std::string& name, const char* suffix) {
  const std::string end = suffix;
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

bool is_folder(int parent, const dirent* entry) {
  if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK) return entry->d_type == DT_DIR;
  struct stat info;
  return fstatat(parent, entry->d_name, &info, 0) == 0 && S_ISDIR(info.st_mode);
}

// Adds a line for each file of `root`/`inner` with code in it. `below`: the folders to go into; all, where it is null.
void add_files(const std::string& root, const std::string& inner, const std::vector<std::string>* below,
               std::vector<std::string>& lines) {
  const std::string path = root + inner;
  DIR* folder = opendir(path.c_str());
  if (!folder) {
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    nb::raise_python_error();
  }
  std::vector<std::string> folders;
  while (const dirent* entry = readdir(folder)) {
    const std::string name = entry->d_name;
    const bool library = ends_with(name, ".so");
    if (library || (!below && ends_with(name, ".py"))) {
      struct stat info;
      if (fstatat(dirfd(folder), entry->d_name, &info, 0) != 0) continue;  // removed meanwhile
      lines.push_back(inner + "/" + name + " " + std::to_string(info.st_size) + " " +
                      std::to_string(info.st_mtim.tv_sec) + "." + std::to_string(info.st_mtim.tv_nsec));
    } else if (below ? std::find(below->begin(), below->end(), name) != below->end()
                     : name[0] != '.' && name != "__pycache__" && is_folder(dirfd(folder), entry)) {
      folders.push_back(inner + "/" + name);
    }
  }
  closedir(folder);
  for (const std::string& next : folders) add_files(root, next, nullptr, lines);
}

nb::bytes file_stamps(const std::string& root, const std::vector<std::string>& below) {
  std::vector<std::string> lines;
  add_files(root, "", &below, lines);
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return nb::bytes(text.data(), text.size());
}

}  // namespace

void bind_stamp(nb::module_& m) {
  m.def("file_stamps", &file_stamps, nb::arg("root"), nb::arg("below"),
        "Paths, sizes and times of the shared libraries in `root` and of those and the Python files in its folders\n"
        "named in `below`, as sorted lines. Raises OSError for a folder that cannot be read.");
}

}  // namespace velax
