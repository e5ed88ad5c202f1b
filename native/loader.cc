// The loader: reads an object, lays its sections out, relocates them, and makes the code executable.
#include "loader.h"

#include <elf.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace velax {
namespace {

constexpr size_t kMaxImageBytes = size_t{256} << 20;
constexpr size_t kStubBytes = 16;

size_t page_size() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

size_t round_up(size_t n, size_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }

// ------------------------------------------------------------------------------------------------- the code arena

// Ranges of pages for code, taken from large reservations: code stays close together, and neighbouring ranges with
// one protection are one mapping to the kernel. A range is free (inaccessible), being written, or executable.
class CodeArena {
 public:
  // Pages to write to. nullptr if the system has no memory.
  char* take(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < free_.size(); i++) {
      if (free_[i].bytes >= bytes) return open_range(i, bytes);
    }
    size_t reserve = bytes > kReservation ? bytes : kReservation;
    void* base = mmap(nullptr, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    return open_range(add_free(static_cast<char*>(base), reserve), bytes);
  }

  void give_back(char* base, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    // A fresh inaccessible mapping over the range drops its contents. Where the system refuses, the range is lost.
    void* fresh = mmap(base, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (fresh != MAP_FAILED) add_free(base, bytes);
  }

  // The one arena; leaked, because code may run until the process ends.
  static CodeArena& instance() {
    static CodeArena* arena = [] {
      static CodeArena* made = new CodeArena;
      // A child must not inherit the lock held by a thread that it does not have.
      pthread_atfork([] { made->mutex_.lock(); }, [] { made->mutex_.unlock(); }, [] { made->mutex_.unlock(); });
      return made;
    }();
    return *arena;
  }

 private:
  static constexpr size_t kReservation = size_t{4} << 20;
  struct Range {
    char* base;
    size_t bytes;
  };

  // Inserts a free range in the order of addresses, joined with its neighbours; returns its index.
  size_t add_free(char* base, size_t bytes) {
    size_t at = 0;
    while (at < free_.size() && free_[at].base < base) at++;
    free_.insert(free_.begin() + at, {base, bytes});
    if (at + 1 < free_.size() && free_[at].base + free_[at].bytes == free_[at + 1].base) {
      free_[at].bytes += free_[at + 1].bytes;
      free_.erase(free_.begin() + at + 1);
    }
    if (at > 0 && free_[at - 1].base + free_[at - 1].bytes == free_[at].base) {
      free_[at - 1].bytes += free_[at].bytes;
      free_.erase(free_.begin() + at);
      at--;
    }
    return at;
  }

  char* open_range(size_t i, size_t bytes) {
    char* base = free_[i].base;
    if (mprotect(base, bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;
    free_[i].base += bytes;
    free_[i].bytes -= bytes;
    if (free_[i].bytes == 0) free_.erase(free_.begin() + i);
    return base;
  }

  std::mutex mutex_;
  std::vector<Range> free_;  // by address
};

}  // namespace

CodeImage::~CodeImage() {
  if (data_ != nullptr) {
    munmap(code_, code_bytes_ + data_bytes_);
  } else if (code_ != nullptr) {
    CodeArena::instance().give_back(code_, code_bytes_);
  }
}

// ---------------------------------------------------------------------------------------------------- the reader

// One load. Nothing read from the object is trusted: every offset is checked before it is used.
class ObjectReader {
 public:
  ObjectReader(const void* object, size_t nbytes) : bytes_(static_cast<const char*>(object)), nbytes_(nbytes) {}

  std::shared_ptr<CodeImage> load() {
    read_headers();
    read_symbols();
    lay_out();
    resolve_symbols();
    for (size_t i = 0; i < sections_.size(); i++) {
      if (sections_[i].sh_type == SHT_RELA) relocate_section(i);
      if (sections_[i].sh_type == SHT_REL) fail("section %zu has relocations without addends (SHT_REL)", i);
    }
    export_functions();
    if (image_->code_bytes_ > 0 && mprotect(image_->code_, image_->code_bytes_, PROT_READ | PROT_EXEC) != 0) {
      fail("the system does not let this process make memory executable (%s)", std::strerror(errno));
    }
    return image_;
  }

 private:
  template <class... Args>
  [[noreturn]] static void fail(const char* format, Args... args) {
    char text[256];
    if constexpr (sizeof...(args) == 0) {
      std::snprintf(text, sizeof text, "%s", format);
    } else {
      std::snprintf(text, sizeof text, format, args...);
    }
    throw LoadError(std::string("load_object: ") + text);
  }

  bool in_file(uint64_t offset, uint64_t size) const { return offset <= nbytes_ && size <= nbytes_ - offset; }

  // Copies a structure out of the file, which need not be aligned.
  template <class T>
  T read(uint64_t offset) const {
    if (!in_file(offset, sizeof(T))) fail("truncated at offset %llu", static_cast<unsigned long long>(offset));
    T value;
    std::memcpy(&value, bytes_ + offset, sizeof(T));
    return value;
  }

  // The zero-terminated string at `offset` of a string table.
  const char* string_at(const Elf64_Shdr& table, uint64_t offset) const {
    if (offset >= table.sh_size) fail("a name lies outside its string table");
    const char* text = bytes_ + table.sh_offset + offset;
    if (std::memchr(text, 0, table.sh_size - offset) == nullptr) fail("a name does not end in its string table");
    return text;
  }

  void read_headers() {
    auto header = read<Elf64_Ehdr>(0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) fail("not an ELF object (wrong magic number)");
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
      fail("not a 64-bit little-endian ELF object");
    }
    if (header.e_type != ET_REL) fail("not a relocatable object (ELF type %d)", int{header.e_type});
    if (header.e_machine != EM_X86_64) {
      fail("the object is for machine %d (%s); this loader takes x86-64 only", int{header.e_machine},
           header.e_machine == EM_AARCH64 ? "aarch64" : "unknown");
    }
    if (header.e_shentsize != sizeof(Elf64_Shdr)) fail("section headers have the wrong size");
    // Objects with 65,280 sections or more keep the count in section 0; none of ours come near.
    if (header.e_shnum == 0) fail("no sections");
    if (!in_file(header.e_shoff, uint64_t{header.e_shnum} * sizeof(Elf64_Shdr))) fail("section headers are truncated");
    for (size_t i = 0; i < header.e_shnum; i++) {
      sections_.push_back(read<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr)));
      const Elf64_Shdr& section = sections_.back();
      bool has_contents = section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL;
      if (has_contents && !in_file(section.sh_offset, section.sh_size)) {
        fail("section %zu is truncated", i);
      }
    }
    if (header.e_shstrndx >= sections_.size() || sections_[header.e_shstrndx].sh_type != SHT_STRTAB) {
      fail("no table of section names");
    }
    names_ = header.e_shstrndx;
  }

  void read_symbols() {
    for (size_t i = 0; i < sections_.size(); i++) {
      const Elf64_Shdr& section = sections_[i];
      if (section.sh_type != SHT_SYMTAB) continue;
      if (symbol_section_ != 0) fail("two symbol tables");
      symbol_section_ = i;
      if (section.sh_entsize != sizeof(Elf64_Sym) || section.sh_size % sizeof(Elf64_Sym) != 0) {
        fail("symbol table entries have the wrong size");
      }
      if (section.sh_link >= sections_.size() || sections_[section.sh_link].sh_type != SHT_STRTAB) {
        fail("the symbol table has no string table");
      }
      for (uint64_t at = 0; at < section.sh_size; at += sizeof(Elf64_Sym)) {
        symbols_.push_back(read<Elf64_Sym>(section.sh_offset + at));
      }
    }
  }

  const char* symbol_name(const Elf64_Sym& symbol) const {
    return string_at(sections_[sections_[symbol_section_].sh_link], symbol.st_name);
  }

  // Whether a section is part of the running code. Unwind tables are not: nothing unwinds through kernels.
  bool is_loaded(size_t i) const {
    const Elf64_Shdr& section = sections_[i];
    if ((section.sh_flags & SHF_ALLOC) == 0 || section.sh_type == SHT_X86_64_UNWIND || section.sh_type == SHT_NOTE) {
      return false;
    }
    return std::strcmp(string_at(sections_[names_], section.sh_name), ".eh_frame") != 0;
  }

  // Gives a place of `size` bytes at the end of a region.
  uint64_t place(uint64_t* end, uint64_t size, uint64_t alignment) {
    if (alignment == 0) alignment = 1;
    if ((alignment & (alignment - 1)) != 0 || alignment > page_size()) {
      fail("an alignment is not a power of two up to a page");
    }
    uint64_t start = round_up(*end, alignment);
    if (size > kMaxImageBytes || start + size > kMaxImageBytes) {
      fail("the image is larger than %zu MiB", kMaxImageBytes >> 20);
    }
    *end = start + size;
    return start;
  }

  void lay_out() {
    uint64_t code_end = 0, data_end = 0;
    std::vector<uint64_t> offsets(sections_.size(), 0);
    std::vector<bool> writable(sections_.size(), false), loaded(sections_.size(), false);
    for (size_t i = 0; i < sections_.size(); i++) {
      const Elf64_Shdr& section = sections_[i];
      if (!is_loaded(i)) continue;
      if (section.sh_type != SHT_PROGBITS && section.sh_type != SHT_NOBITS) {
        fail("section %zu (%s) has type %u, which is not supported in loaded code (constructors, for one)", i,
             string_at(sections_[names_], section.sh_name), section.sh_type);
      }
      if ((section.sh_flags & SHF_TLS) != 0) fail("thread-local variables are not supported");
      if ((section.sh_flags & SHF_COMPRESSED) != 0) fail("section %zu is compressed", i);
      loaded[i] = true;
      writable[i] = (section.sh_flags & SHF_WRITE) != 0;
      if (writable[i] && (section.sh_flags & SHF_EXECINSTR) != 0) fail("section %zu is writable and executable", i);
      // Constants that only relocation writes to are done with writing before they are used.
      if (std::strncmp(string_at(sections_[names_], section.sh_name), ".data.rel.ro", 12) == 0) writable[i] = false;
      offsets[i] = place(writable[i] ? &data_end : &code_end, section.sh_size, section.sh_addralign);
    }
    // Common symbols (uninitialised C globals) carry their alignment in the value.
    std::vector<uint64_t> common(symbols_.size(), 0);
    uint64_t undefined = 0;
    for (size_t i = 0; i < symbols_.size(); i++) {
      if (symbols_[i].st_shndx == SHN_COMMON) common[i] = place(&data_end, symbols_[i].st_size, symbols_[i].st_value);
      if (symbols_[i].st_shndx == SHN_UNDEF) undefined++;
    }
    // A GOT entry for every symbol and a stub for every undefined one is more than enough; both are small.
    got_offset_ = place(&code_end, symbols_.size() * 8, 8);
    stub_offset_ = place(&code_end, undefined * kStubBytes, 16);

    image_ = std::shared_ptr<CodeImage>(new CodeImage);
    size_t code_bytes = round_up(code_end, page_size()), data_bytes = round_up(data_end, page_size());
    if (data_bytes > 0) {
      // Variables have a mapping of their own right behind the code, where 32-bit relative addresses reach them.
      void* base = mmap(nullptr, code_bytes + data_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (base == MAP_FAILED) fail("no memory for %zu bytes", code_bytes + data_bytes);
      image_->code_ = static_cast<char*>(base);
      image_->data_ = image_->code_ + code_bytes;
    } else if (code_bytes > 0) {
      image_->code_ = CodeArena::instance().take(code_bytes);
      if (image_->code_ == nullptr) fail("no memory for %zu bytes of code", code_bytes);
    }
    image_->code_bytes_ = code_bytes;
    image_->data_bytes_ = data_bytes;
    bases_.assign(sections_.size(), nullptr);
    for (size_t i = 0; i < sections_.size(); i++) {
      if (!loaded[i]) continue;
      bases_[i] = (writable[i] ? image_->data_ : image_->code_) + offsets[i];
      // An empty section may be the only one of its region, which then does not exist.
      if (sections_[i].sh_size > 0 && sections_[i].sh_type == SHT_PROGBITS) {
        std::memcpy(bases_[i], bytes_ + sections_[i].sh_offset, sections_[i].sh_size);
      }
    }
    values_.assign(symbols_.size(), 0);
    got_filled_.assign(symbols_.size(), false);
    stubs_.assign(symbols_.size(), 0);
    for (size_t i = 0; i < symbols_.size(); i++) {
      if (symbols_[i].st_shndx == SHN_COMMON) values_[i] = reinterpret_cast<uint64_t>(image_->data_ + common[i]);
    }
  }

  // Addresses of the symbols. Undefined ones are looked up when a relocation first needs them, so that names that
  // nothing refers to need not exist.
  void resolve_symbols() {
    for (size_t i = 0; i < symbols_.size(); i++) {
      const Elf64_Sym& symbol = symbols_[i];
      int type = ELF64_ST_TYPE(symbol.st_info);
      if (type == STT_TLS) fail("thread-local variables are not supported");
      if (type == STT_GNU_IFUNC) fail("indirect functions are not supported");
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_COMMON) continue;
      if (symbol.st_shndx == SHN_ABS) {
        values_[i] = symbol.st_value;
        continue;
      }
      if (symbol.st_shndx >= sections_.size()) fail("symbol %zu lies in a section that does not exist", i);
      if (bases_[symbol.st_shndx] == nullptr) continue;  // in a section that is not loaded, as debug information is
      uint64_t size = sections_[symbol.st_shndx].sh_size;
      if (symbol.st_value > size || symbol.st_size > size - symbol.st_value) {
        fail("symbol %zu lies outside its section", i);
      }
      values_[i] = reinterpret_cast<uint64_t>(bases_[symbol.st_shndx]) + symbol.st_value;
    }
  }

  uint64_t symbol_value(uint32_t index) {
    if (index == 0) return 0;  // "no symbol": the addend alone
    if (index >= symbols_.size()) fail("a relocation names symbol %u of %zu", index, symbols_.size());
    const Elf64_Sym& symbol = symbols_[index];
    if (values_[index] != 0 || symbol.st_shndx == SHN_ABS) return values_[index];
    if (symbol.st_shndx != SHN_UNDEF) fail("a relocation refers to symbol %u in a section that is not loaded", index);
    const char* name = symbol_name(symbol);
    // Compilers name the table itself although nothing needs its address.
    if (std::strcmp(name, "_GLOBAL_OFFSET_TABLE_") == 0) {
      return values_[index] = reinterpret_cast<uint64_t>(image_->code_ + got_offset_);
    }
    void* address = find_symbol(name);
    if (address == nullptr && ELF64_ST_BIND(symbol.st_info) != STB_WEAK) {
      throw LoadError(std::string("load_object: undefined symbol '") + name +
                      "'; make it known with register_symbol(name, address)");
    }
    return values_[index] = reinterpret_cast<uint64_t>(address);
  }

  uint64_t got_entry(uint32_t index) {
    uint64_t value = symbol_value(index);
    char* entry = image_->code_ + got_offset_ + uint64_t{index} * 8;
    if (!got_filled_[index]) {
      std::memcpy(entry, &value, 8);
      got_filled_[index] = true;
    }
    return reinterpret_cast<uint64_t>(entry);
  }

  // Where a call of the symbol goes: itself if it is part of the image, else a stub that jumps through the GOT, because
  // the target may be farther away than a call reaches.
  uint64_t call_target(uint32_t index) {
    uint64_t value = symbol_value(index);
    if (index == 0 || symbols_[index].st_shndx != SHN_UNDEF) return value;
    if (stubs_[index] != 0) return stubs_[index];
    uint64_t entry = got_entry(index);
    char* stub = image_->code_ + stub_offset_ + num_stubs_++ * kStubBytes;
    const unsigned char jump[] = {0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25};  // endbr64; jmp *rel32(%rip)
    std::memcpy(stub, jump, sizeof jump);
    int32_t distance = static_cast<int32_t>(static_cast<int64_t>(entry) - reinterpret_cast<int64_t>(stub + 10));
    std::memcpy(stub + 6, &distance, 4);
    return stubs_[index] = reinterpret_cast<uint64_t>(stub);
  }

  void relocate_section(size_t i) {
    const Elf64_Shdr& section = sections_[i];
    if (section.sh_info >= sections_.size()) fail("section %zu relocates a section that does not exist", i);
    char* base = bases_[section.sh_info];
    if (base == nullptr) return;
    if (section.sh_link != symbol_section_ || symbol_section_ == 0) {
      fail("relocations of section %zu have no symbols", i);
    }
    if (section.sh_entsize != sizeof(Elf64_Rela) || section.sh_size % sizeof(Elf64_Rela) != 0) {
      fail("relocations of section %zu have the wrong size", i);
    }
    const Elf64_Shdr& target = sections_[section.sh_info];
    if (target.sh_type == SHT_NOBITS) fail("section %zu relocates a section without contents", i);
    for (uint64_t at = 0; at < section.sh_size; at += sizeof(Elf64_Rela)) {
      relocate(read<Elf64_Rela>(section.sh_offset + at), base, target.sh_size);
    }
  }

  void relocate(const Elf64_Rela& entry, char* base, uint64_t size) {
    uint32_t type = ELF64_R_TYPE(entry.r_info), symbol = ELF64_R_SYM(entry.r_info);
    if (type == R_X86_64_NONE) return;
    uint64_t width = type == R_X86_64_64 || type == R_X86_64_PC64 ? 8 : 4;
    if (entry.r_offset > size || width > size - entry.r_offset) fail("a relocation lies outside its section");
    char* place = base + entry.r_offset;
    // Unsigned arithmetic: a corrupt addend may be anything.
    uint64_t addend = static_cast<uint64_t>(entry.r_addend), here = reinterpret_cast<uint64_t>(place), value = 0;
    switch (type) {
      case R_X86_64_64:
      case R_X86_64_32:
      case R_X86_64_32S:
        value = symbol_value(symbol) + addend;
        break;
      case R_X86_64_PC32:
      case R_X86_64_PC64: {
        // A PC32 call of something outside needs the stub as PLT32 does; data outside is reached through the GOT.
        bool external_function =
            type == R_X86_64_PC32 && symbol != 0 && symbol < symbols_.size() && symbols_[symbol].st_shndx == SHN_UNDEF;
        value = (external_function ? call_target(symbol) : symbol_value(symbol)) + addend - here;
        break;
      }
      case R_X86_64_PLT32:
        value = call_target(symbol) + addend - here;
        break;
      case R_X86_64_GOTPCREL:
      case R_X86_64_GOTPCRELX:
      case R_X86_64_REX_GOTPCRELX:
        if (symbol == 0 || symbol >= symbols_.size()) fail("a GOT relocation names no symbol");
        value = got_entry(symbol) + addend - here;
        break;
      default:
        fail("relocation type %u is not supported; compile with reloc='pic', codemodel='small'", type);
    }
    if (width == 8) {
      std::memcpy(place, &value, 8);
      return;
    }
    int64_t as_signed = static_cast<int64_t>(value);
    bool fits = type == R_X86_64_32 ? value <= UINT32_MAX : as_signed >= INT32_MIN && as_signed <= INT32_MAX;
    if (!fits) fail("relocation type %u does not reach its target; compile with reloc='pic', codemodel='small'", type);
    uint32_t low = static_cast<uint32_t>(value);
    std::memcpy(place, &low, 4);
  }

  void export_functions() {
    for (const Elf64_Sym& symbol : symbols_) {
      int bind = ELF64_ST_BIND(symbol.st_info), type = ELF64_ST_TYPE(symbol.st_info);
      if ((bind != STB_GLOBAL && bind != STB_WEAK) || (type != STT_FUNC && type != STT_NOTYPE)) continue;
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= sections_.size()) continue;
      const Elf64_Shdr& section = sections_[symbol.st_shndx];
      if (bases_[symbol.st_shndx] == nullptr || (section.sh_flags & SHF_EXECINSTR) == 0) continue;
      if (symbol.st_value >= section.sh_size) fail("a function lies outside its section");
      image_->functions_[symbol_name(symbol)] = bases_[symbol.st_shndx] + symbol.st_value;
    }
  }

  const char* bytes_;
  size_t nbytes_;
  std::vector<Elf64_Shdr> sections_;
  std::vector<Elf64_Sym> symbols_;
  size_t names_ = 0, symbol_section_ = 0;
  std::shared_ptr<CodeImage> image_;
  std::vector<char*> bases_;      // where each section is; nullptr if not loaded
  std::vector<uint64_t> values_;  // addresses of symbols; 0 until known
  std::vector<bool> got_filled_;
  std::vector<uint64_t> stubs_;
  uint64_t got_offset_ = 0, stub_offset_ = 0, num_stubs_ = 0;
};

std::shared_ptr<CodeImage> CodeImage::load(const void* object, size_t nbytes) {
#if defined(__x86_64__)
  return ObjectReader(object, nbytes).load();
#else
  (void)object, (void)nbytes;
  throw LoadError("load_object: this processor is not x86-64, and the loader supports no other");
#endif
}

}  // namespace velax
