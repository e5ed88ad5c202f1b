// What loaded objects may import: a fixed table of C and compiler-runtime functions, and what was registered.
//
//   memory      memcpy memmove memset memcmp bcmp
//   libm        the functions of <cmath> listed below, in double and float ("sin", "sinf")
//   half        __extendhfsf2 __truncsfhf2 __truncdfhf2 __extendhfdf2 __gnu_h2f_ieee __gnu_f2h_ieee (IEEE half),
//               __truncsfbf2 __truncdfbf2 (bfloat16)
//   integers    __divti3 __modti3 __udivti3 __umodti3 __multi3 (128 bit), __powisf2 __powidf2
#include <pthread.h>

#include <cmath>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

#include "loader.h"

namespace velax {
namespace {

// Half-precision values travel in the low 16 bits of an SSE register, where compilers without the type see a float.
uint16_t low_bits(float in_register) {
  uint32_t bits;
  std::memcpy(&bits, &in_register, 4);
  return static_cast<uint16_t>(bits);
}

float in_low_bits(uint16_t half) {
  uint32_t bits = half;
  float in_register;
  std::memcpy(&in_register, &bits, 4);
  return in_register;
}

float half_to_float(uint16_t half) {
  uint32_t sign = uint32_t{half & 0x8000u} << 16, exponent = (half >> 10) & 31, mantissa = half & 0x3ff, bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x400000u : 0);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else {
    float magnitude = std::ldexp(static_cast<float>(mantissa), -24);  // exact
    std::memcpy(&bits, &magnitude, 4);
    bits |= sign;
  }
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Rounds a double (exactly holding a float too) to nearest even in a format with `mantissa_bits` and the given
// least normal exponent. Works on the double's bits, so that there is one rounding only.
uint16_t round_to_16(double value, int mantissa_bits, int min_exponent, int max_exponent) {
  uint64_t bits;
  std::memcpy(&bits, &value, 8);
  uint16_t sign = static_cast<uint16_t>(bits >> 48) & 0x8000;
  uint16_t infinity = static_cast<uint16_t>((max_exponent - min_exponent + 2) << mantissa_bits);
  if (std::isnan(value)) return sign | infinity | static_cast<uint16_t>(1 << (mantissa_bits - 1));
  double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  if (std::isinf(magnitude)) return sign | infinity;
  int exponent = std::ilogb(magnitude);
  if (exponent > max_exponent) return sign | infinity;
  if (exponent < min_exponent) exponent = min_exponent;  // denormal: fewer bits
  // Units of the last place: exact scaling, then one rounding to nearest even.
  double units = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));
  uint32_t encoded = static_cast<uint32_t>(units);
  // A normal number has its implicit bit in `units`; a carry out of the mantissa moves the exponent up by itself.
  uint32_t base = static_cast<uint32_t>(exponent - min_exponent) << mantissa_bits;
  uint32_t result = base + encoded;
  return sign | static_cast<uint16_t>(result > infinity ? infinity : result);
}

uint16_t to_half(double value) { return round_to_16(value, 10, -14, 15); }
uint16_t to_bfloat16(double value) { return round_to_16(value, 7, -126, 127); }

float extend_half(float half) { return half_to_float(low_bits(half)); }
double extend_half_to_double(float half) { return half_to_float(low_bits(half)); }
float truncate_to_half(float value) { return in_low_bits(to_half(value)); }
float truncate_double_to_half(double value) { return in_low_bits(to_half(value)); }
float truncate_to_bfloat16(float value) { return in_low_bits(to_bfloat16(value)); }
float truncate_double_to_bfloat16(double value) { return in_low_bits(to_bfloat16(value)); }
float half_bits_to_float(uint16_t half) { return half_to_float(half); }
uint16_t float_to_half_bits(float value) { return to_half(value); }

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;
int128 divide_128(int128 a, int128 b) { return a / b; }
int128 remainder_128(int128 a, int128 b) { return a % b; }
uint128 divide_u128(uint128 a, uint128 b) { return a / b; }
uint128 remainder_u128(uint128 a, uint128 b) { return a % b; }
int128 multiply_128(int128 a, int128 b) { return a * b; }
double power_double(double x, int n) { return __builtin_powi(x, n); }
float power_float(float x, int n) { return __builtin_powif(x, n); }

template <class F>
void* address(F* function) {
  return reinterpret_cast<void*>(function);
}

using D1 = double(double);
using F1 = float(float);
using D2 = double(double, double);
using F2 = float(float, float);

#define UNARY(name) {#name, address<D1>(::name)}, {#name "f", address<F1>(::name##f)}
#define BINARY(name) {#name, address<D2>(::name)}, {#name "f", address<F2>(::name##f)}

struct SymbolTable {
  std::mutex mutex;
  std::unordered_map<std::string, void*> addresses{
      {"memcpy", address<void*(void*, const void*, size_t)>(::memcpy)},
      {"memmove", address<void*(void*, const void*, size_t)>(::memmove)},
      {"memset", address<void*(void*, int, size_t)>(::memset)},
      {"memcmp", address<int(const void*, const void*, size_t)>(::memcmp)},
      {"bcmp", address<int(const void*, const void*, size_t)>(::memcmp)},
      UNARY(acos), UNARY(acosh), UNARY(asin), UNARY(asinh), UNARY(atan), UNARY(atanh), UNARY(cbrt), UNARY(ceil),
      UNARY(cos), UNARY(cosh), UNARY(erf), UNARY(erfc), UNARY(exp), UNARY(exp2), UNARY(expm1), UNARY(fabs),
      UNARY(floor), UNARY(j0), UNARY(j1), UNARY(lgamma), UNARY(log), UNARY(log10), UNARY(log1p), UNARY(log2),
      UNARY(logb), UNARY(nearbyint), UNARY(rint), UNARY(round), UNARY(sin), UNARY(sinh), UNARY(sqrt), UNARY(tan),
      UNARY(tanh), UNARY(tgamma), UNARY(trunc), UNARY(y0), UNARY(y1),
      BINARY(atan2), BINARY(copysign), BINARY(fdim), BINARY(fmax), BINARY(fmin), BINARY(fmod), BINARY(hypot),
      BINARY(nextafter), BINARY(pow), BINARY(remainder),
      {"fma", address<double(double, double, double)>(::fma)},
      {"fmaf", address<float(float, float, float)>(::fmaf)},
      {"ldexp", address<double(double, int)>(::ldexp)}, {"ldexpf", address<float(float, int)>(::ldexpf)},
      {"frexp", address<double(double, int*)>(::frexp)}, {"frexpf", address<float(float, int*)>(::frexpf)},
      {"modf", address<double(double, double*)>(::modf)}, {"modff", address<float(float, float*)>(::modff)},
      {"sincos", address<void(double, double*, double*)>(::sincos)},
      {"sincosf", address<void(float, float*, float*)>(::sincosf)},
      {"__extendhfsf2", address(extend_half)}, {"__extendhfdf2", address(extend_half_to_double)},
      {"__truncsfhf2", address(truncate_to_half)}, {"__truncdfhf2", address(truncate_double_to_half)},
      {"__gnu_h2f_ieee", address(half_bits_to_float)}, {"__gnu_f2h_ieee", address(float_to_half_bits)},
      {"__truncsfbf2", address(truncate_to_bfloat16)}, {"__truncdfbf2", address(truncate_double_to_bfloat16)},
      {"__divti3", address(divide_128)}, {"__modti3", address(remainder_128)},
      {"__udivti3", address(divide_u128)}, {"__umodti3", address(remainder_u128)},
      {"__multi3", address(multiply_128)},
      {"__powidf2", address(power_double)}, {"__powisf2", address(power_float)},
  };
};

#undef UNARY
#undef BINARY

SymbolTable& table() {
  static SymbolTable* made = [] {
    static SymbolTable* symbols = new SymbolTable;
    pthread_atfork([] { symbols->mutex.lock(); }, [] { symbols->mutex.unlock(); }, [] { symbols->mutex.unlock(); });
    return symbols;
  }();
  return *made;
}

}  // namespace

void register_symbol(const std::string& name, void* address) {
  SymbolTable& symbols = table();
  std::lock_guard<std::mutex> lock(symbols.mutex);
  symbols.addresses[name] = address;
}

void* find_symbol(const std::string& name) {
  SymbolTable& symbols = table();
  std::lock_guard<std::mutex> lock(symbols.mutex);
  auto found = symbols.addresses.find(name);
  return found == symbols.addresses.end() ? nullptr : found->second;
}

}  // namespace velax
