/* Vectors of numbers, as wide as the instruction set that this object is compiled for.

   GCC and Clang have them as a type, with the operators of C; other compilers (and tests, by KMIXUP_SCALAR) get vectors
   of one number. */
#ifndef KMIXUP_VECTOR_H
#define KMIXUP_VECTOR_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if (defined(__GNUC__) || defined(__clang__)) && !defined(KMIXUP_SCALAR)
#define VECTOR_TYPES 1
#ifndef VECTOR_BYTES /* given by tests: any width will do */
#define NATIVE_WIDTH 1
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#endif
#define INLINE static inline __attribute__((always_inline))
enum { LANES = VECTOR_BYTES / sizeof(REAL), WIDE = VECTOR_BYTES / sizeof(double) };
typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));             /* LANES numbers of the points' type */
typedef double wide __attribute__((vector_size(VECTOR_BYTES)));          /* WIDE numbers for the solver */
typedef int64_t whole __attribute__((vector_size(VECTOR_BYTES)));        /* as many integers, and answers of < */
typedef REAL narrow __attribute__((vector_size(WIDE * sizeof(REAL))));   /* WIDE numbers of the points' type */
INLINE wide widened(narrow v) { return __builtin_convertvector(v, wide); }
INLINE double lane(wide v, int i) { return v[i]; }
INLINE int64_t lane_whole(whole v, int i) { return v[i]; }
INLINE wide all_wide(double a) { return a - (wide){0}; }
INLINE whole all_whole(int64_t a) { return a - (whole){0}; }
INLINE vec all(REAL a) { return a - (vec){0}; }
#else
#define INLINE static __inline
enum { LANES = 1, WIDE = 1 };
typedef REAL vec;
typedef double wide;
typedef int64_t whole;
typedef REAL narrow;
INLINE wide widened(narrow v) { return v; }
INLINE double lane(wide v, int i) { (void)i; return v; }
INLINE int64_t lane_whole(whole v, int i) { (void)i; return v; }
INLINE wide all_wide(double a) { return a; }
INLINE whole all_whole(int64_t a) { return a; }
INLINE vec all(REAL a) { return a; }
#endif

INLINE vec load(const REAL *from) { vec v; memcpy(&v, from, sizeof v); return v; }
INLINE void store(REAL *to, vec v) { memcpy(to, &v, sizeof v); }
INLINE wide load_wide(const double *from) { wide v; memcpy(&v, from, sizeof v); return v; }
INLINE void store_wide(double *to, wide v) { memcpy(to, &v, sizeof v); }
INLINE whole load_whole(const int64_t *from) { whole v; memcpy(&v, from, sizeof v); return v; }
INLINE void store_whole(int64_t *to, whole v) { memcpy(to, &v, sizeof v); }

/* WIDE numbers of the points' type as doubles. GCC's own conversion goes by halves. */
#if defined(NATIVE_WIDTH) && defined(__AVX512F__)
INLINE wide wide_floats(const float *from) { return (wide)_mm512_cvtps_pd(_mm256_loadu_ps(from)); }
INLINE wide wide_doubles(const double *from) { return load_wide(from); }
#define load_widened(from) _Generic((from), const float *: wide_floats, const double *: wide_doubles)(from)
#elif defined(NATIVE_WIDTH) && defined(__AVX2__)
INLINE wide wide_floats(const float *from) { return (wide)_mm256_cvtps_pd(_mm_loadu_ps(from)); }
INLINE wide wide_doubles(const double *from) { return load_wide(from); }
#define load_widened(from) _Generic((from), const float *: wide_floats, const double *: wide_doubles)(from)
#else
INLINE wide load_widened(const REAL *from) { narrow v; memcpy(&v, from, sizeof v); return widened(v); }
#endif

/* less(a, b): which lanes have a < b; chosen(which, a, b): a there, else b; smaller(a, b): the lesser, b for NaN. */
INLINE whole less(wide a, wide b) { return a < b; }
#if !defined(VECTOR_TYPES)
INLINE whole chosen(whole which, whole a, whole b) { return which ? a : b; }
INLINE wide smaller(wide a, wide b) { return a < b ? a : b; }
#elif defined(NATIVE_WIDTH) && defined(__AVX512F__)
INLINE whole chosen(whole which, whole a, whole b) { return (which & a) | (~which & b); }
INLINE wide smaller(wide a, wide b) { return (wide)_mm512_min_pd((__m512d)a, (__m512d)b); }
#elif defined(NATIVE_WIDTH) && defined(__AVX2__)
INLINE whole chosen(whole which, whole a, whole b) {
    return (whole)_mm256_blendv_pd((__m256d)b, (__m256d)a, (__m256d)which);
}
INLINE wide smaller(wide a, wide b) { return (wide)_mm256_min_pd((__m256d)a, (__m256d)b); }
#elif defined(NATIVE_WIDTH) && defined(__SSE2__)
INLINE whole chosen(whole which, whole a, whole b) { return (which & a) | (~which & b); }
INLINE wide smaller(wide a, wide b) { return (wide)_mm_min_pd((__m128d)a, (__m128d)b); }
#else
INLINE whole chosen(whole which, whole a, whole b) { return (which & a) | (~which & b); }
INLINE wide smaller(wide a, wide b) { return (wide)chosen(less(a, b), (whole)a, (whole)b); }
#endif

INLINE double smallest(wide v) {
    double least = lane(v, 0);
    for (int i = 1; i < WIDE; i++) least = lane(v, i) < least ? lane(v, i) : least;
    return least;
}

/* Keeps a number that was loaded in a register, where GCC would load it again for each use. */
INLINE vec in_register(vec v) {
#if defined(NATIVE_WIDTH) && defined(__SSE2__)
    __asm__("" : "+v"(v));
#endif
    return v;
}

INLINE size_t rounded_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#endif
