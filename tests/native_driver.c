/* The compiled core without Python, for sanitizers and valgrind: matchings of every kind of data, in buffers of exactly
   their size, beside the textbook's Hungarian method. Compile with core.c and the same -DREAL and -DISA. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core.h"

#define IS_FLOAT (sizeof(REAL) == sizeof(float))
#define TOLERANCE (IS_FLOAT ? 1e-6 : 1e-12)

extern const struct core JOIN(core, REAL, ISA);
static const struct core *const core = &JOIN(core, REAL, ISA);
static long cases;

static void check(int good, const char *what) {
    if (good) return;
    printf("failed after %ld cases: %s\n", cases, what);
    exit(1);
}

static uint64_t state = 1;
static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 9007199254740992.0;
}
static double normal(void) { return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform()); }

/* The least cost of n <= m rows, by the Hungarian method on u, v (O(n^2 m)); +inf if there is none. */
static double hungarian(const double *cost, size_t n, size_t m) {
    double *u = calloc(n + 1, sizeof *u), *v = calloc(m + 1, sizeof *v), *least = malloc((m + 1) * sizeof *least);
    size_t *row = calloc(m + 1, sizeof *row), *way = calloc(m + 1, sizeof *way);
    char *used = malloc(m + 1);
    double total = 0;
    for (size_t i = 1; i <= n && total == 0; i++) {
        size_t j0 = 0;
        row[0] = i;
        for (size_t j = 0; j <= m; j++) least[j] = HUGE_VAL, used[j] = 0;
        do {
            size_t i0 = row[j0], j1 = 0;
            double delta = HUGE_VAL;
            used[j0] = 1;
            for (size_t j = 1; j <= m; j++)
                if (!used[j]) {
                    double reduced = cost[(i0 - 1) * m + j - 1] - u[i0] - v[j];
                    if (reduced < least[j]) least[j] = reduced, way[j] = j0;
                    if (least[j] < delta) delta = least[j], j1 = j;
                }
            if (!(delta < HUGE_VAL)) {
                total = HUGE_VAL;
                break;
            }
            for (size_t j = 0; j <= m; j++)
                if (used[j])
                    u[row[j]] += delta, v[j] -= delta;
                else
                    least[j] -= delta;
            j0 = j1;
        } while (row[j0]);
        while (j0 && total == 0) {
            size_t j1 = way[j0];
            row[j0] = row[j1];
            j0 = j1;
        }
    }
    if (total == 0)
        for (size_t j = 1; j <= m; j++)
            if (row[j]) total += cost[(row[j] - 1) * m + j - 1];
    free(u), free(v), free(least), free(row), free(way), free(used);
    return total;
}

enum { NOISE, TIES, DUPLICATES, EQUAL, OFFSET, SMALL, LARGE, VANISHING, SUBNORMAL, OVERFLOWING, LARGEST, CONSTANT, KINDS };

/* A buffer of exactly n points; the unit in which their differences are numbers of ordinary size. */
static REAL *points(int kind, size_t n, size_t d, double *unit) {
    REAL *x = malloc(n * d * sizeof(REAL));
    *unit = kind == SMALL         ? 1e-6
            : kind == LARGE       ? 1e6
            : kind == VANISHING   ? ldexp(1, IS_FLOAT ? -80 : -560)
            : kind == CONSTANT    ? ldexp(1, IS_FLOAT ? -80 : -560)
            : kind == SUBNORMAL   ? ldexp(1, IS_FLOAT ? -140 : -1062)
            : kind == OVERFLOWING ? ldexp(1, IS_FLOAT ? 80 : 560)
            : kind == LARGEST     ? ldexp(1, IS_FLOAT ? 127 : 1023)
                                  : 1;
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < d; t++) {
            double a = kind == TIES ? floor(3 * uniform()) : kind == LARGEST ? 2 * uniform() - 1 : normal();
            if (kind == EQUAL) a = 0.3;
            if (kind == OFFSET) a += 1e4;
            x[i * d + t] = (REAL)(a * *unit);
            if (kind == DUPLICATES) x[i * d + t] = x[i / 3 * 3 * d + t];
            if (kind == CONSTANT && t == 0) x[i * d + t] = (REAL)ldexp(1, 100);
        }
    return x;
}

static double distance(const REAL *x, const REAL *y, size_t d, int euclidean, double unit) {
    double sum = 0;
    for (size_t t = 0; t < d; t++) {
        double gap = (double)x[t] / unit - (double)y[t] / unit;
        sum += gap * gap;
    }
    return euclidean ? sqrt(sum) : sum;
}

static int64_t *permutation(size_t n) {
    int64_t *order = malloc(n * sizeof *order);
    for (size_t i = 0; i < n; i++) order[i] = (int64_t)i;
    for (size_t i = n; i-- > 1;) {
        size_t j = (size_t)(uniform() * (double)(i + 1));
        int64_t t = order[i];
        order[i] = order[j], order[j] = t;
    }
    return order;
}

static void matchings(int kind, size_t size, size_t k, size_t d, int euclidean, int ordered) {
    double unit;
    REAL *x = points(kind, size, d, &unit);
    int64_t *order = ordered ? permutation(size) : NULL, *partner = malloc(size * sizeof *partner);
    struct order o = {.x = x, .y = x, .x_row = (ptrdiff_t)d, .y_row = (ptrdiff_t)d, .left = order, .right = order,
                      .size = size, .k = k, .d = d, .shift = k, .euclidean = euclidean};
    check(core->match(&o, 0, (size - 1) / k + 1, partner) == DONE, "an order");
    double *cost = malloc(k * k * sizeof *cost);
    for (size_t start = 0; start < size; start += k) {
        size_t n = size - start < k ? size - start : k;
        double total = 0;
        for (size_t i = 0; i < n; i++) {
            int64_t left = order ? order[start + i] : (int64_t)(start + i);
            total += distance(x + (size_t)left * d, x + (size_t)partner[left] * d, d, euclidean, unit);
            for (size_t j = 0; j < n; j++) {
                size_t at = (start + j + size - k % size) % size;
                int64_t right = order ? order[at] : (int64_t)at;
                cost[i * n + j] = distance(x + (size_t)left * d, x + (size_t)right * d, d, euclidean, unit);
            }
        }
        check(total <= hungarian(cost, n, n) * (1 + TOLERANCE), "optimal");
        cases++;
    }
    if (size > 1 && k > 1) {
        x[(order ? (size_t)order[size / 2] : size / 2) * d + d - 1] = (REAL)HUGE_VAL;
        check(core->match(&o, 0, (size - 1) / k + 1, partner) == NOT_FINITE, "a point at infinity");
        if (order) {
            order[0] = (int64_t)size;
            check(core->match(&o, 0, (size - 1) / k + 1, partner) == BAD_INDEX, "an index outside");
        }
    }
    free(x), free(order), free(partner), free(cost);
}

static void assignments(size_t n, size_t m, int kind, double forbidden) {
    REAL *cost = malloc(n * m * sizeof(REAL));
    double *reference = malloc(n * m * sizeof(double));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            double c = kind ? floor(4 * normal()) : normal();
            cost[i * m + j] = (REAL)(uniform() < forbidden ? HUGE_VAL : c);
            reference[n <= m ? i * m + j : j * n + i] = (double)cost[i * m + j];
        }
    int64_t *column = malloc(n * sizeof *column);
    enum status status = core->solve(cost, (ptrdiff_t)m, 1, n, m, 1, column);
    double optimum = n <= m ? hungarian(reference, n, m) : hungarian(reference, m, n), total = 0;
    size_t pairs = 0;
    check((status == INFEASIBLE) == (optimum == HUGE_VAL), "feasible");
    if (status == DONE) {
        for (size_t i = 0; i < n; i++)
            if (column[i] >= 0) total += (double)cost[i * m + (size_t)column[i]], pairs++;
        check(pairs == (n < m ? n : m) && total <= optimum + 1e-10, "an assignment");
    }
    for (size_t c = 0; c < n * m; c++)
        if (cost[c] > DBL_MAX) {
            check(core->solve(cost, (ptrdiff_t)m, 1, n, m, 0, column) == NOT_FINITE, "nothing may be forbidden");
            break;
        }
    cost[n * m / 2] = (REAL)NAN;
    check(core->solve(cost, (ptrdiff_t)m, 1, n, m, 1, column) == NOT_FINITE, "NaN");
    cases++;
    free(cost), free(reference), free(column);
}

static void costs(size_t n, size_t m, size_t d, int euclidean) {
    double unit;
    REAL *x = points(NOISE, n, d, &unit), *y = points(NOISE, m, d, &unit), *out = malloc(n * m * sizeof(REAL));
    check(core->costs(x, (ptrdiff_t)d, n, y, (ptrdiff_t)d, m, d, euclidean, out) == DONE, "costs");
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            double exact = distance(x + i * d, y + j * d, d, euclidean, 1);
            check(fabs((double)out[i * m + j] - exact) <= TOLERANCE * exact, "a cost");
        }
    cases++;
    free(x), free(y), free(out);
}

int main(void) {
    static const size_t sizes[][3] = {{1, 1, 1},   {5, 1, 3},    {7, 3, 1},    {9, 16, 2},    {40, 16, 2},  {33, 8, 15},
                                      {35, 17, 16}, {23, 5, 63}, {23, 5, 64}, {23, 6, 65}, {20, 7, 130}, {70, 33, 30},
                                      {9, 4, 2050}, {6, 3, 5000}};
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int flags = 0; flags < 4; flags++)
                matchings(kind, sizes[s][0], sizes[s][1], sizes[s][2], flags & 1, flags >> 1);
    for (size_t n = 1; n <= 20; n += 1 + n / 6)
        for (size_t m = 1; m <= 40; m += 1 + m / 6)
            for (int kind = 0; kind < 8; kind++) assignments(n, m, kind & 1, 0.3 * (kind >> 1));
    assignments(70, 70, 0, 0), assignments(70, 70, 1, 0.9), assignments(100, 130, 0, 0.5), assignments(130, 100, 1, 0);
    for (size_t d = 1; d < 200; d += 1 + d / 5)
        for (int euclidean = 0; euclidean < 2; euclidean++) costs(19, 21, d, euclidean), costs(1, 3, d, euclidean);
    printf("%ld cases\n", cases);
    return 0;
}
