/* What the kernels take and answer.

   core.c is compiled once for each number type and instruction set; each of these objects exports one `struct core`.
   Strides count numbers, not bytes. Sizes are 64-bit. Nothing here keeps state, starts threads or knows Python. */
#ifndef KMIXUP_CORE_H
#define KMIXUP_CORE_H

#include <stddef.h>
#include <stdint.h>

/* Where one processor may have more than another; elsewhere, the baseline is all there is. */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define KMIXUP_X86
#endif

enum status { DONE, NOT_FINITE, INFEASIBLE, BAD_INDEX, NO_MEMORY };

/* A whole order, cut into blocks of k (the last may be smaller): position p of the left side, of x, meets the positions
   of the same block of the right side, of y, which is moved on by `shift` (shift = k: each block meets the one before). */
struct order {
    const void *x, *y;           /* points, size x d */
    ptrdiff_t x_row, y_row;      /* numbers from one point to the next */
    const int64_t *left, *right; /* points in their order; NULL: as they stand */
    size_t size, k, d, shift;
    int euclidean;               /* else squared Euclidean */
};

struct core {
    /* out[i * m + j] = cost of moving x_i to y_j, n x m. */
    enum status (*costs)(const void *x, ptrdiff_t x_row, size_t n, const void *y, ptrdiff_t y_row, size_t m, size_t d,
                         int euclidean, void *out);
    /* column[i] = the column of row i in an optimal matching of min(n, m) pairs, -1 without one. +inf forbids a pair, or
       it is NOT_FINITE, too, if none may be forbidden. */
    enum status (*solve)(const void *cost, ptrdiff_t row, ptrdiff_t step, size_t n, size_t m, int may_forbid,
                         int64_t *column);
    /* partner[left] = right for the optimal matching of each of the blocks first .. last - 1. */
    enum status (*match)(const struct order *order, size_t first, size_t last, int64_t *partner);
};

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)

extern const struct core core_float_baseline, core_double_baseline;
#ifdef KMIXUP_X86
extern const struct core core_float_avx2, core_double_avx2, core_float_avx512, core_double_avx512;
#endif

/* The best instruction set that this processor and its operating system have: 0 baseline, 1 AVX2 + FMA, 2 AVX-512. */
int processor_level(void);

#endif
