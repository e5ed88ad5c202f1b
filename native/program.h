// The program: what the compiler hands to the executor. Plain data, no addresses; kernels by index into a table of
// names, library functions by symbol name. `velax/_ir/program.py` is the Python form and writes the encoding read
// here.
//
// Encoding: a stream of little-endian int64 words. A "string" is a word with its length in bytes, then the bytes padded
// with zeros to whole words.
//
//   magic version total_words work num_inputs num_callbacks arena_bytes scratch_bytes
//   num_kernels    string...                        names, for messages and profiles
//   num_functions  string...                        library functions, looked up by name
//   literal pool   string                           copied to a 64-byte aligned place
//   num_inputs x   nbytes
//   num_outputs    { kind input nbytes }...         kind: 0 FRESH, 1 FORWARD, 2 ALIAS
//   num_slots      { kind index offset nbytes }...  kind: 0 INPUT, 1 OUTPUT, 2 ARENA, 3 LITERAL
//   num_blocks     { num_words instruction... }...  block 0 is the program; no block reaches itself
//
// An instruction is `opcode operand_count operand...`:
//
//   LAUNCH   kernel nbuf slot... next extent... total grain   the kernel over [0, total) in chunks of `grain`
//   COPY     dst dst_offset src src_offset nbytes             memmove semantics
//   SWAP     a b                                              two ARENA slots of one size trade places in this frame
//   CALL     function nbuf slot... nparam param...
//   WHILE    cond_block pred_slot body_block                  pred: one byte, nonzero = go on
//   LOOP     trip_count counter_slot body_block reverse       counter: i64, 0..trip_count-1, or downwards
//   COND     index_slot nblocks block...                      index: i32, clamped into [0, nblocks)
//   CALLBACK id nin slot... nout slot...
//
// Outputs. FRESH memory comes from the allocator with unspecified contents. FORWARD output is input `input` itself:
// the same buffer, not a copy, and it has no OUTPUT slot. ALIAS output starts with the contents of input `input`, and
// in this frame the slots of that input and of this output are the same memory (so a write to one is seen through the
// other): the input's own memory if the caller donated it, it is uniquely owned and nobody outside holds it;
// otherwise a copy. A program therefore means the same whether or not the donation could be used.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace velax {

// What a kernel or library function receives besides its buffers. `scratch` is the calling thread's own,
// at least the program's `scratch_bytes` long, aligned to 64; nothing survives in it between calls. `thread_id` is
// unique among the threads that work on one launch.
struct Ctx {
  volatile int32_t* interrupt;  // nonzero: return kStopInterrupted soon
  void* scratch;
  int64_t scratch_bytes;
  int64_t thread_id;
  int32_t* error;  // a code that outlives the return value (an error noted where the kernel could not return)
};

// Nonzero results of kernels and library functions, and values of `*ctx->error`.
enum StopCode : int32_t {
  kStopInterrupted = 1,
  kStopOutOfMemory = 2,
  kStopBadParams = 3,
  kStopFailed = 4,  // the callee set a Python exception while holding the GIL
};

using KernelFn = int32_t (*)(Ctx* ctx, void** buffers, const int64_t* extents, int64_t lo, int64_t hi);
using LibraryFn = int32_t (*)(Ctx* ctx, void** buffers, const int64_t* params);

enum class SlotKind : uint8_t { kInput = 0, kOutput = 1, kArena = 2, kLiteral = 3 };
enum class OutputKind : uint8_t { kFresh = 0, kForward = 1, kAlias = 2 };
enum class Opcode : uint8_t {
  kLaunch = 1, kCopy = 2, kSwap = 3, kCall = 4, kWhile = 5, kLoop = 6, kCond = 7, kCallback = 8,
};

struct Slot {
  SlotKind kind;
  uint32_t index;  // which input or output; 0 for ARENA and LITERAL
  int64_t offset;  // in bytes, inside the input, output, arena or pool
  int64_t nbytes;
};

struct Output {
  OutputKind kind;
  uint32_t input;
  int64_t nbytes;
};

// One decoded instruction; its lists are ranges of Program::operands and Program::words.
struct Instruction {
  Opcode op;
  uint32_t target;      // kernel, function, callback; cond block of WHILE; body of LOOP
  uint32_t a, b;        // COPY dst, src; SWAP a, b; WHILE pred slot, body; LOOP counter slot, reverse; COND index slot
  uint32_t nslots;      // buffers of LAUNCH and CALL; inputs of CALLBACK; blocks of COND
  uint32_t nslots2;     // outputs of CALLBACK
  uint32_t slots;       // start in Program::operands of the slot (or block) list(s)
  uint32_t params;      // start in Program::words of extents or params
  uint32_t nparams;
  int64_t x, y, z;      // LAUNCH total, grain; COPY dst_offset, src_offset, nbytes; LOOP trip count
};

struct Block {
  uint32_t begin, end;  // range in Program::instructions
};

struct ProgramError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Program {
  int64_t work = -1;  // estimated nanoseconds on one thread; -1: unknown
  int64_t arena_bytes = 0;
  int64_t scratch_bytes = 0;
  uint32_t num_callbacks = 0;
  std::vector<std::string> kernels;
  std::vector<std::string> functions;
  std::vector<int64_t> input_nbytes;
  std::vector<Output> outputs;
  std::vector<Slot> slots;
  std::vector<Block> blocks;
  std::vector<Instruction> instructions;
  std::vector<uint32_t> operands;  // slot and block lists
  std::vector<int64_t> words;      // extents and params
  std::unique_ptr<char, void (*)(void*)> literals{nullptr, nullptr};
  int64_t literal_bytes = 0;
  uint32_t max_buffers = 0;  // the longest slot list of a LAUNCH or CALL
  bool has_loops = false;    // any WHILE or LOOP
};

// Decodes and checks everything that is checkable without the kernels: every index, offset and size. Throws
// ProgramError.
std::unique_ptr<Program> decode_program(const void* data, size_t nbytes);

}  // namespace velax
