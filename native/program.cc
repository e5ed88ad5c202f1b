// Decoding and checking of programs. Nothing in the stream is trusted: the executor indexes without looking again.
#include "program.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace velax {
namespace {

constexpr int64_t kMagic = 0x30474f5250584c56;  // "VLXPROG0" in memory
constexpr int64_t kVersion = 1;
constexpr int64_t kMaxBytes = int64_t{1} << 46;  // more than any machine has; keeps sums of two from overflowing
constexpr int kMaxDepth = 200;                   // of nested blocks: the executor recurses

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw ProgramError(std::string("program: ") + text);
}

#define LL(x) static_cast<long long>(x)

class Decoder {
 public:
  Decoder(const void* data, size_t nbytes) : program_(new Program), bytes_(static_cast<const char*>(data)) {
    if (nbytes % 8 != 0) fail("%zu bytes are not a whole number of words", nbytes);
    end_ = static_cast<int64_t>(nbytes / 8);
  }

  std::unique_ptr<Program> decode() {
    Program& p = *program_;
    if (word("the magic number") != kMagic) fail("not a program (wrong magic number)");
    int64_t version = word("the version");
    if (version != kVersion) fail("version %lld, but this runtime reads version %lld", LL(version), LL(kVersion));
    int64_t total = word("the length");
    if (total != end_) fail("the stream has %lld words, but says %lld", LL(end_), LL(total));
    p.work = word("work");
    if (p.work < -1) fail("work is %lld", LL(p.work));
    int64_t num_inputs = count("inputs");
    p.num_callbacks = static_cast<uint32_t>(ranged("the number of callbacks", 0, 1 << 20));
    p.arena_bytes = ranged("arena_bytes", 0, kMaxBytes);
    p.scratch_bytes = ranged("scratch_bytes", 0, kMaxBytes);
    read_names(&p.kernels, "kernels");
    read_names(&p.functions, "functions");
    read_literals();
    for (int64_t i = 0; i < num_inputs; i++) p.input_nbytes.push_back(ranged("the size of an input", 0, kMaxBytes));
    read_outputs();
    read_slots();
    read_blocks();
    if (at_ != end_) fail("%lld words are left over", LL(end_ - at_));
    check_block_graph();
    return std::move(program_);
  }

 private:
  int64_t word(const char* what) {
    if (at_ >= end_) fail("truncated where %s should be", what);
    int64_t value;
    std::memcpy(&value, bytes_ + 8 * at_++, 8);
    return value;
  }

  int64_t ranged(const char* what, int64_t low, int64_t high) {
    int64_t value = word(what);
    if (value < low || value > high) fail("%s is %lld, not in [%lld, %lld]", what, LL(value), LL(low), LL(high));
    return value;
  }

  // A number of things that take at least one word each.
  int64_t count(const char* what) {
    int64_t n = word(what);
    if (n < 0 || n > end_ - at_) fail("%lld %s in a stream of %lld words", LL(n), what, LL(end_));
    return n;
  }

  // The bytes of a string; they stay where they are.
  const char* string(const char* what, int64_t* nbytes) {
    *nbytes = word(what);
    if (*nbytes < 0 || *nbytes > 8 * (end_ - at_)) fail("%s is cut off", what);
    const char* start = bytes_ + 8 * at_;
    at_ += (*nbytes + 7) / 8;
    return start;
  }

  void read_names(std::vector<std::string>* names, const char* what) {
    int64_t n = count(what);
    for (int64_t i = 0; i < n; i++) {
      int64_t nbytes;
      const char* text = string(what, &nbytes);
      for (int64_t c = 0; c < nbytes; c++) {
        if (text[c] < 0x20 || text[c] > 0x7e) fail("a name of the %s is not printable ASCII", what);
      }
      names->emplace_back(text, static_cast<size_t>(nbytes));
    }
  }

  void read_literals() {
    Program& p = *program_;
    const char* pool = string("the literal pool", &p.literal_bytes);
    // Rounded up so that kernels may read whole vectors at the end.
    size_t size = (static_cast<size_t>(p.literal_bytes) + 127) / 64 * 64;
    void* memory = std::aligned_alloc(64, size);
    if (memory == nullptr) throw std::bad_alloc();
    p.literals = {static_cast<char*>(memory), std::free};
    std::memset(memory, 0, size);
    std::memcpy(memory, pool, static_cast<size_t>(p.literal_bytes));
  }

  void read_outputs() {
    Program& p = *program_;
    int64_t n = count("outputs");
    std::vector<bool> aliased(p.input_nbytes.size(), false);
    for (int64_t j = 0; j < n; j++) {
      auto kind = static_cast<OutputKind>(ranged("the kind of an output", 0, 2));
      int64_t input = word("the input of an output"), nbytes = ranged("the size of an output", 0, kMaxBytes);
      if (kind != OutputKind::kFresh) {
        if (input < 0 || input >= static_cast<int64_t>(p.input_nbytes.size())) {
          fail("output %lld refers to input %lld of %zu", LL(j), LL(input), p.input_nbytes.size());
        }
        if (p.input_nbytes[input] != nbytes) {
          fail("output %lld (%lld bytes) and its input %lld (%lld bytes) differ in size", LL(j), LL(nbytes), LL(input),
               LL(p.input_nbytes[input]));
        }
        if (kind == OutputKind::kAlias) {
          if (aliased[input]) fail("two outputs alias input %lld", LL(input));
          aliased[input] = true;
        }
      } else {
        input = 0;
      }
      p.outputs.push_back({kind, static_cast<uint32_t>(input), nbytes});
    }
    aliased_ = std::move(aliased);
  }

  void read_slots() {
    Program& p = *program_;
    int64_t n = count("slots");
    for (int64_t i = 0; i < n; i++) {
      auto kind = static_cast<SlotKind>(ranged("the kind of a slot", 0, 3));
      bool single = kind == SlotKind::kArena || kind == SlotKind::kLiteral;
      int64_t index = ranged("the index of a slot", 0, single ? 0 : INT32_MAX);
      int64_t offset = ranged("the offset of a slot", 0, kMaxBytes);
      int64_t nbytes = ranged("the size of a slot", 0, kMaxBytes);
      int64_t room = 0;
      switch (kind) {
        case SlotKind::kInput:
          if (index >= static_cast<int64_t>(p.input_nbytes.size()))
            fail("slot %lld: there is no input %lld", LL(i), LL(index));
          room = p.input_nbytes[index];
          break;
        case SlotKind::kOutput:
          if (index >= static_cast<int64_t>(p.outputs.size()))
            fail("slot %lld: there is no output %lld", LL(i), LL(index));
          if (p.outputs[index].kind == OutputKind::kForward) {
            fail("slot %lld: output %lld is forwarded from an input and has no memory of its own", LL(i), LL(index));
          }
          room = p.outputs[index].nbytes;
          break;
        case SlotKind::kArena:
          room = p.arena_bytes;
          break;
        case SlotKind::kLiteral:
          room = p.literal_bytes;
          break;
      }
      if (offset + nbytes > room) {
        fail("slot %lld: bytes [%lld, %lld) of %lld", LL(i), LL(offset), LL(offset + nbytes), LL(room));
      }
      p.slots.push_back({kind, static_cast<uint32_t>(index), offset, nbytes});
    }
  }

  void read_blocks() {
    Program& p = *program_;
    int64_t n = count("blocks");
    if (n == 0) fail("there are no blocks");
    num_blocks_ = n;
    for (int64_t b = 0; b < n; b++) {
      int64_t length = count("words of a block"), block_end = at_ + length;
      auto begin = static_cast<uint32_t>(p.instructions.size());
      while (at_ < block_end) {
        int64_t opcode = word("an opcode"), operands = count("operands");
        int64_t instruction_end = at_ + operands;
        if (instruction_end > block_end) fail("block %lld: an instruction runs over its end", LL(b));
        where_ = b;
        limit_ = instruction_end;
        read_instruction(opcode);
        if (at_ != instruction_end) {
          fail("block %lld: opcode %lld leaves %lld operands", LL(b), LL(opcode), LL(instruction_end - at_));
        }
      }
      p.blocks.push_back({begin, static_cast<uint32_t>(p.instructions.size())});
    }
    if (p.instructions.size() > INT32_MAX || p.operands.size() > INT32_MAX || p.words.size() > INT32_MAX) {
      fail("larger than this runtime's indices");
    }
  }

  // The next operand, in [0, bound).
  uint32_t operand(const char* what, int64_t bound) {
    int64_t value = plain(what);
    if (value < 0 || value >= bound) fail("block %lld: there is no %s %lld", LL(where_), what, LL(value));
    return static_cast<uint32_t>(value);
  }

  int64_t plain(const char* what) {
    if (at_ >= limit_) fail("block %lld: an instruction has too few operands (no %s)", LL(where_), what);
    return word(what);
  }

  uint32_t slot() { return operand("slot", static_cast<int64_t>(program_->slots.size())); }

  // A slot that is read as, or written with, `nbytes` bytes.
  uint32_t sized_slot(const char* what, int64_t nbytes, bool written) {
    uint32_t s = slot();
    if (program_->slots[s].nbytes < nbytes) {
      fail("block %lld: the %s needs %lld bytes, slot %u has %lld", LL(where_), what, LL(nbytes), s,
           LL(program_->slots[s].nbytes));
    }
    if (written) check_writable(what, s);
    return s;
  }

  void check_writable(const char* what, uint32_t s) {
    const Slot& target = program_->slots[s];
    if (target.kind == SlotKind::kLiteral || (target.kind == SlotKind::kInput && !aliased_[target.index])) {
      fail("block %lld: the %s is slot %u, which is read-only", LL(where_), what, s);
    }
  }

  uint32_t list_length(const char* what) {
    int64_t n = plain(what);
    if (n < 0 || n > limit_ - at_) fail("block %lld: %lld %s in an instruction", LL(where_), LL(n), what);
    return static_cast<uint32_t>(n);
  }

  uint32_t slot_list(uint32_t* start) {
    Program& p = *program_;
    *start = static_cast<uint32_t>(p.operands.size());
    uint32_t n = list_length("buffers");
    for (uint32_t i = 0; i < n; i++) p.operands.push_back(slot());
    return n;
  }

  uint32_t word_list(const char* what, uint32_t* start) {
    Program& p = *program_;
    *start = static_cast<uint32_t>(p.words.size());
    uint32_t n = list_length(what);
    for (uint32_t i = 0; i < n; i++) p.words.push_back(word(what));
    return n;
  }

  void read_instruction(int64_t opcode) {
    Program& p = *program_;
    Instruction in{};
    in.op = static_cast<Opcode>(opcode);
    switch (opcode) {
      case static_cast<int>(Opcode::kLaunch):
        in.target = operand("kernel", static_cast<int64_t>(p.kernels.size()));
        in.nslots = slot_list(&in.slots);
        in.nparams = word_list("extents", &in.params);
        in.x = plain("total");
        in.y = plain("grain");
        if (in.x < 0 || in.y < 1)
          fail("block %lld: a launch over %lld in chunks of %lld", LL(where_), LL(in.x), LL(in.y));
        p.max_buffers = std::max(p.max_buffers, in.nslots);
        break;
      case static_cast<int>(Opcode::kCopy): {
        in.a = slot();
        in.x = plain("offset");
        in.b = slot();
        in.y = plain("offset");
        in.z = plain("size");
        check_writable("destination of a copy", in.a);
        for (auto [offset, s] : {std::pair{in.x, in.a}, std::pair{in.y, in.b}}) {
          int64_t room = p.slots[s].nbytes;
          if (offset < 0 || in.z < 0 || offset > room || in.z > room - offset) {
            fail("block %lld: a copy of bytes [%lld, %lld + %lld) of slot %u, which has %lld", LL(where_), LL(offset),
                 LL(offset), LL(in.z), s, LL(room));
          }
        }
        break;
      }
      case static_cast<int>(Opcode::kSwap):
        in.a = slot();
        in.b = slot();
        for (uint32_t s : {in.a, in.b}) {
          if (p.slots[s].kind != SlotKind::kArena)
            fail("block %lld: a swap of slot %u, not in the arena", LL(where_), s);
        }
        if (p.slots[in.a].nbytes != p.slots[in.b].nbytes)
          fail("block %lld: a swap of slots of different sizes", LL(where_));
        break;
      case static_cast<int>(Opcode::kCall):
        in.target = operand("function", static_cast<int64_t>(p.functions.size()));
        in.nslots = slot_list(&in.slots);
        in.nparams = word_list("params", &in.params);
        p.max_buffers = std::max(p.max_buffers, in.nslots);
        break;
      case static_cast<int>(Opcode::kWhile):
        in.target = operand("block", num_blocks_);
        in.a = sized_slot("predicate", 1, false);
        in.b = operand("block", num_blocks_);
        p.has_loops = true;
        break;
      case static_cast<int>(Opcode::kLoop):
        in.x = plain("trip count");
        if (in.x < 0) fail("block %lld: a trip count of %lld", LL(where_), LL(in.x));
        in.a = sized_slot("counter", 8, true);
        in.target = operand("block", num_blocks_);
        in.b = operand("direction", 2);
        p.has_loops = true;
        break;
      case static_cast<int>(Opcode::kCond):
        in.a = sized_slot("branch index", 4, false);
        in.slots = static_cast<uint32_t>(p.operands.size());
        in.nslots = list_length("branches");
        if (in.nslots == 0) fail("block %lld: a conditional without branches", LL(where_));
        for (uint32_t i = 0; i < in.nslots; i++) p.operands.push_back(operand("block", num_blocks_));
        break;
      case static_cast<int>(Opcode::kCallback): {
        in.target = operand("callback", p.num_callbacks);
        in.nslots = slot_list(&in.slots);
        uint32_t outputs = 0;
        in.nslots2 = slot_list(&outputs);
        for (uint32_t i = 0; i < in.nslots2; i++) check_writable("output of a callback", p.operands[outputs + i]);
        break;
      }
      default:
        fail("block %lld: unknown opcode %lld", LL(where_), LL(opcode));
    }
    p.instructions.push_back(in);
  }

  // No block reaches itself, and nesting is shallow enough for recursion.
  void check_block_graph() {
    const Program& p = *program_;
    std::vector<int> height(p.blocks.size(), -1);  // -1 unseen, -2 being visited
    struct Visit {
      uint32_t block, instruction, branch;
    };
    for (uint32_t root = 0; root < p.blocks.size(); root++) {
      if (height[root] >= 0) continue;
      std::vector<Visit> stack{{root, p.blocks[root].begin, 0}};
      height[root] = -2;
      std::vector<int> reached{0};
      while (!stack.empty()) {
        Visit& top = stack.back();
        if (top.instruction == p.blocks[top.block].end) {
          int own = reached.back();
          height[top.block] = own;
          if (own > kMaxDepth) fail("blocks are nested more than %d deep", kMaxDepth);
          stack.pop_back();
          reached.pop_back();
          if (!stack.empty()) reached.back() = std::max(reached.back(), own + 1);
          continue;
        }
        const Instruction& in = p.instructions[top.instruction];
        uint32_t child = 0;
        if (!child_block(in, top.branch, &child)) {
          top.instruction++;
          top.branch = 0;
          continue;
        }
        top.branch++;
        if (height[child] == -2) fail("block %u reaches itself", child);
        if (height[child] >= 0) {
          reached.back() = std::max(reached.back(), height[child] + 1);
          continue;
        }
        height[child] = -2;
        stack.push_back({child, p.blocks[child].begin, 0});
        reached.push_back(0);
      }
    }
  }

  bool child_block(const Instruction& in, uint32_t i, uint32_t* child) const {
    switch (in.op) {
      case Opcode::kWhile:
        *child = i == 0 ? in.target : in.b;
        return i < 2;
      case Opcode::kLoop:
        *child = in.target;
        return i < 1;
      case Opcode::kCond:
        if (i >= in.nslots) return false;
        *child = program_->operands[in.slots + i];
        return true;
      default:
        return false;
    }
  }

  std::unique_ptr<Program> program_;
  const char* bytes_;
  int64_t at_ = 0, end_ = 0;
  int64_t where_ = 0, limit_ = 0, num_blocks_ = 0;  // the instruction being read
  std::vector<bool> aliased_;
};

}  // namespace

std::unique_ptr<Program> decode_program(const void* data, size_t nbytes) { return Decoder(data, nbytes).decode(); }

}  // namespace velax
