/* Costs and assignment of every block of an order, and the entry points of this object. */

/* What one call works with, in one piece of memory. */
struct workspace {
    struct block block;
    struct solver solver;
    REAL *cost; /* n x ld, both multiples of PAD */
    int64_t *left, *right;
    void *memory;
};

/* Memory for blocks of at most n x m points of d numbers (d = 0: for the solver alone). */
static enum status open_workspace(struct workspace *w, size_t n, size_t m, size_t d) {
    n = rounded_up(n, PAD), m = rounded_up(m, PAD);
    size_t points = d ? n + m : 0;
    size_t reals = n * m + points * LANES + (d && d <= SHORT_ROWS ? d * m : 0);
    size_t bytes = reals * sizeof(REAL) + points * (sizeof(REAL *) + sizeof(int64_t));
    bytes += place_solver(&w->solver, NULL, m) * sizeof(double) + 64;
    char *at = w->memory = malloc(bytes);
    if (!at) return NO_MEMORY;
    at += (64 - (uintptr_t)at % 64) % 64;
    at += place_solver(&w->solver, (double *)at, m) * sizeof(double);
    w->left = (int64_t *)at, at += (d ? n : 0) * sizeof(int64_t);
    w->right = (int64_t *)at, at += (d ? m : 0) * sizeof(int64_t);
    w->block.x = (const REAL **)at, at += (d ? n : 0) * sizeof(REAL *);
    w->block.y = (const REAL **)at, at += (d ? m : 0) * sizeof(REAL *);
    w->cost = (REAL *)at, at += n * m * sizeof(REAL);
    w->block.x_tails = (REAL *)at, at += (d ? n : 0) * LANES * sizeof(REAL);
    w->block.y_tails = (REAL *)at, at += (d ? m : 0) * LANES * sizeof(REAL);
    w->block.columns = (REAL *)at;
    w->block.d = d;
    return DONE;
}

/* The exponent that brings the largest difference between the points to the middle of the range in which d squares
   neither overflow nor vanish. Points that are not finite have none. */
static enum status exponent(const REAL *const *x, size_t n, const REAL *const *y, size_t m, size_t d, int *shift) {
    for (size_t i = 0; i < n + m; i++)
        for (size_t t = 0; t < d; t++) {
            REAL a = i < n ? x[i][t] : y[i - n][t];
            if (!(a - a == 0)) return NOT_FINITE;
        }
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            for (size_t t = 0; t < d; t++) {
                double gap = fabs((double)x[i][t] - (double)y[j][t]);
                if (gap > largest) largest = gap;
            }
    int power = DBL_MAX_EXP + 1;
    if (largest <= DBL_MAX) frexp(largest, &power);
    *shift = (MAX_EXPONENT - 4 - ilogb((double)d)) / 2 - power;
    return DONE;
}

static void scaled(const REAL **rows, size_t n, size_t d, int shift, REAL *to) {
    for (size_t i = 0; i < n; i++, to += d) {
        for (size_t t = 0; t < d; t++) {
            REAL a = (REAL)ldexp((double)rows[i][t], shift);
            to[t] = a - a == 0 ? a : 0; /* so large beside the differences that all points have the same number here */
        }
        rows[i] = to;
    }
}

static enum status rescaled_costs(struct workspace *w, int euclidean, size_t ld) {
    struct block *b = &w->block;
    int shift = 0;
    enum status status = exponent(b->x, b->n, b->y, b->m, b->d, &shift);
    if (status != DONE) return status;
    REAL *copies = malloc((b->n + b->m) * b->d * sizeof(REAL));
    if (!copies) return NO_MEMORY;
    scaled(b->x, b->n, b->d, shift, copies);
    scaled(b->y, b->m, b->d, shift, copies + b->n * b->d);
    block_costs(b, euclidean, w->cost, ld);
    free(copies);
    return DONE;
}

static void pad_with_infinity(REAL *cost, size_t n, size_t m, size_t ld) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = m; j < ld; j++) cost[i * ld + j] = (REAL)HUGE_VAL;
}

static const REAL *row(const void *points, ptrdiff_t stride, int64_t index) {
    return (const REAL *)points + stride * (ptrdiff_t)index;
}

static void point_at_rows(const struct order *o, struct block *b, const struct workspace *w) {
    for (size_t i = 0; i < b->n; i++) b->x[i] = row(o->x, o->x_row, w->left[i]);
    for (size_t j = 0; j < b->m; j++) b->y[j] = row(o->y, o->y_row, w->right[j]);
}

/* Whether rounding decides nothing: the cost of the matching is large beside what squares lose that vanish (each at
   most the smallest number of full precision), or it is zero because the points themselves are equal. */
static int trusted(const struct order *o, const struct workspace *w, size_t n, size_t ld) {
    double total = 0, lost = (double)n * (double)o->d * SMALLEST;
    if (o->euclidean) lost = (double)n * sqrt((double)o->d * SMALLEST) * 32768;
    for (size_t i = 0; i < n; i++) total += w->cost[i * ld + (size_t)w->solver.column[i]];
    if (total >= lost) return 1;
    for (size_t i = 0; i < n; i++) {
        const REAL *a = row(o->x, o->x_row, w->left[i]);
        const REAL *b = row(o->y, o->y_row, w->right[w->solver.column[i]]);
        for (size_t t = 0; t < o->d; t++)
            if (a[t] != b[t]) return 0;
    }
    return 1;
}

static enum status match_block(const struct order *o, size_t start, size_t n, struct workspace *w, int64_t *partner) {
    size_t there = start >= o->shift % o->size ? start - o->shift % o->size : start + o->size - o->shift % o->size;
    for (size_t i = 0; i < n; i++, there++) {
        size_t here = start + i;
        if (there == o->size) there = 0;
        w->left[i] = o->left ? o->left[here] : (int64_t)here;
        w->right[i] = o->right ? o->right[there] : (int64_t)there;
        if ((uint64_t)w->left[i] >= o->size || (uint64_t)w->right[i] >= o->size) return BAD_INDEX;
    }
    size_t ld = rounded_up(n, PAD);
    int finite = 0, shift;
    w->block.n = w->block.m = n;
    point_at_rows(o, &w->block, w);
    if (n == 1) { /* nothing to choose, but points that are not finite are refused all the same */
        partner[w->left[0]] = w->right[0];
        return exponent(w->block.x, 1, w->block.y, 1, w->block.d, &shift);
    }
    block_costs(&w->block, o->euclidean, w->cost, ld);
    pad_with_infinity(w->cost, n, n, ld);
    enum status status = solve_block(w->cost, n, n, ld, &w->solver, &finite);
    if (status != DONE || !finite || !trusted(o, w, n, ld)) {
        point_at_rows(o, &w->block, w);
        status = rescaled_costs(w, o->euclidean, ld);
        if (status != DONE) return status;
        pad_with_infinity(w->cost, n, n, ld);
        status = solve_block(w->cost, n, n, ld, &w->solver, &finite);
        if (status != DONE) return status;
    }
    for (size_t i = 0; i < n; i++) partner[w->left[i]] = w->right[w->solver.column[i]];
    return DONE;
}

static enum status match(const struct order *o, size_t first, size_t last, int64_t *partner) {
    struct workspace w;
    size_t k = o->k < o->size ? o->k : o->size;
    enum status status = open_workspace(&w, k, k, o->d);
    for (size_t b = first; b < last && status == DONE; b++) {
        size_t start = b * k, n = o->size - start < k ? o->size - start : k;
        status = match_block(o, start, n, &w, partner);
    }
    free(w.memory);
    return status;
}

static enum status costs(const void *x, ptrdiff_t x_row, size_t n, const void *y, ptrdiff_t y_row, size_t m, size_t d,
                         int euclidean, void *out) {
    struct workspace w;
    enum status status = open_workspace(&w, n, m, d);
    if (status == DONE) {
        size_t ld = rounded_up(m, PAD);
        w.block.n = n, w.block.m = m;
        for (size_t i = 0; i < n; i++) w.block.x[i] = row(x, x_row, (int64_t)i);
        for (size_t j = 0; j < m; j++) w.block.y[j] = row(y, y_row, (int64_t)j);
        block_costs(&w.block, euclidean, w.cost, ld);
        for (size_t i = 0; i < n; i++) memcpy((REAL *)out + i * m, w.cost + i * ld, m * sizeof(REAL));
    }
    free(w.memory);
    return status;
}

/* The sum of all |C_ij|: a number if and only if they all are, unless it overflows. */
static double sum_of_sizes(const REAL *cost, size_t n, size_t m, size_t ld) {
    wide sizes = all_wide(0);
    double sum = 0;
    for (size_t i = 0; i < n; i++, cost += ld) {
        size_t j = 0;
        for (; j + WIDE <= m; j += WIDE) {
            wide c = load_widened(cost + j);
            sizes -= smaller(c, -c);
        }
        for (; j < m; j++) sum += fabs((double)cost[j]);
    }
    for (int l = 0; l < WIDE; l++) sum += lane(sizes, l);
    return sum;
}

/* The matrix as it is needed: no more rows than columns, padded, its entries numbers or (if it may forbid) +inf, and so
   large ones that sums of them overflow scaled down. */
static enum status copied(const REAL *cost, ptrdiff_t row, ptrdiff_t step, size_t n, size_t m, size_t ld, int may_forbid,
                          REAL *to) {
    for (size_t i = 0; i < n; i++)
        if (step == 1)
            memcpy(to + i * ld, cost + (ptrdiff_t)i * row, m * sizeof(REAL));
        else
            for (size_t j = 0; j < m; j++) to[i * ld + j] = cost[(ptrdiff_t)i * row + (ptrdiff_t)j * step];
    if (!(sum_of_sizes(to, n, m, ld) < 1e280)) {
        double largest = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++) {
                double c = (double)to[i * ld + j];
                if (!(c >= -DBL_MAX) || (c > DBL_MAX && !may_forbid)) return NOT_FINITE;
                if (c <= DBL_MAX && fabs(c) > largest) largest = fabs(c);
            }
        if (largest > 1e270)
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < m; j++) to[i * ld + j] *= (REAL)ldexp(1, -100);
    }
    pad_with_infinity(to, n, m, ld);
    return DONE;
}

static enum status solve(const void *cost, ptrdiff_t row, ptrdiff_t step, size_t n, size_t m, int may_forbid,
                         int64_t *column) {
    struct workspace w;
    int tall = n > m, finite = 0;
    size_t rows = tall ? m : n, columns = tall ? n : m, ld = rounded_up(columns, PAD);
    enum status status = open_workspace(&w, rows, columns, 0);
    if (status == DONE)
        status = copied(cost, tall ? step : row, tall ? row : step, rows, columns, ld, may_forbid, w.cost);
    if (status == DONE) status = solve_block(w.cost, rows, columns, ld, &w.solver, &finite);
    if (status == DONE)
        for (size_t i = 0; i < n; i++) column[i] = tall ? w.solver.row[i] : w.solver.column[i];
    free(w.memory);
    return status;
}
