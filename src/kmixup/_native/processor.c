/* What this processor has: every feature that the objects of a level are compiled for, and registers that the operating
   system saves. */
#include "core.h"

#ifndef KMIXUP_X86
int processor_level(void) { return 0; }
#else
#include <cpuid.h>

static void cpuid(int leaf, unsigned out[4]) { __cpuid_count(leaf, 0, out[0], out[1], out[2], out[3]); }

static unsigned saved_registers(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int all_bits(unsigned word, unsigned bits) { return (word & bits) == bits; }

int processor_level(void) {
    enum { A, B, C, D };
    unsigned r[4];
    cpuid(0, r);
    if (r[A] < 7) return 0;
    cpuid(1, r);
    unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;
    if (!all_bits(r[C], fma | osxsave | avx)) return 0;
    unsigned saved = saved_registers(), ymm = 0x6, zmm = 0xe6;
    cpuid(7, r);
    unsigned avx2 = 1u << 5, avx512f = 1u << 16, avx512dq = 1u << 17, avx512bw = 1u << 30, avx512vl = 1u << 31;
    if (!all_bits(saved, ymm) || !all_bits(r[B], avx2)) return 0;
    return all_bits(saved, zmm) && all_bits(r[B], avx512f | avx512dq | avx512bw | avx512vl) ? 2 : 1;
}
#endif
