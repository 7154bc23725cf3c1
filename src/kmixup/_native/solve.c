/* The assignment problem: shortest augmenting paths (Jonker and Volgenant 1987), dense, from two dual starts.

   Minimises sum_i C[i][column(i)] over the matchings of all n <= m rows. Prices v_j of the columns and the implied
   u_i = C[i][column(i)] - v_j keep u_i + v_j <= C_ij, with equality on matched pairs; v_j = 0 for free columns if
   n < m (at n = m any v_j will do). Rows of C end in +inf up to `ld`, a multiple of PAD. +inf forbids a pair. */

struct solver {
    double *v;             /* prices of the columns */
    double *open;          /* v, but -inf for columns that the search has done with, so that nothing reaches them */
    double *key;           /* length of the shortest path to each column, +inf once done */
    int64_t *from;         /* the row before the column on that path */
    int64_t *row, *column; /* the matching: row of a column, column of a row, -1 if free */
    int64_t *done, *free;  /* columns the search has done with, in order; free columns */
    double *length;        /* and the lengths of their paths */
    double *mean, *u, *other_u, *other_v; /* for the two starts */
    int64_t *other_row;
};

/* The first start keeps v = 0, the second the columns' means. Each then takes u_i = min_j (C_ij - v_j) and
   v_j = min_i (C_ij - u_i), attained at row[j]; the larger dual sum is nearer to the optimum. */
static enum status start_square(const REAL *cost, size_t n, size_t ld, struct solver *s, int *finite) {
    double total = 0;
    for (size_t j = 0; j < ld; j += WIDE) {
        wide column_sum = all_wide(0);
        for (size_t i = 0; i < n; i++) column_sum += load_widened(cost + i * ld + j);
        store_wide(s->mean + j, column_sum);
    }
    for (size_t j = 0; j < n; j++) total += s->mean[j];
    *finite = total - total == 0;
    for (size_t j = 0; j < ld; j++) s->mean[j] = *finite && j < n ? s->mean[j] / (double)n : 0;

    const wide none = all_wide(HUGE_VAL);
    double sum = 0, other_sum = 0;
    for (size_t i = 0; i < n; i++) {
        wide least = none, other_least = none;
        for (size_t j = 0; j < ld; j += WIDE) {
            wide c = load_widened(cost + i * ld + j);
            least = smaller(c, least);
            other_least = smaller(c - load_wide(s->mean + j), other_least);
        }
        sum += s->u[i] = smallest(least);
        other_sum += s->other_u[i] = smallest(other_least);
    }
    if (!(sum < HUGE_VAL)) return INFEASIBLE; /* a row of +inf */
    for (size_t j = 0; j < ld; j += WIDE) {
        wide v = none, other_v = none;
        whole row = all_whole(0), other_row = row;
        for (size_t i = 0; i < n; i++) {
            wide c = load_widened(cost + i * ld + j), price = c - all_wide(s->u[i]);
            wide other_price = c - all_wide(s->other_u[i]);
            row = chosen(less(price, v), all_whole((int64_t)i), row);
            v = smaller(price, v);
            other_row = chosen(less(other_price, other_v), all_whole((int64_t)i), other_row);
            other_v = smaller(other_price, other_v);
        }
        store_wide(s->v + j, v);
        store_whole(s->row + j, row);
        store_wide(s->other_v + j, other_v);
        store_whole(s->other_row + j, other_row);
    }
    for (size_t j = 0; j < n; j++) {
        sum += s->v[j];
        other_sum += s->other_v[j];
    }
    if (!(sum < HUGE_VAL)) return INFEASIBLE; /* a column of +inf */
    if (other_sum > sum) {
        memcpy(s->v, s->other_v, ld * sizeof(double));
        memcpy(s->row, s->other_row, ld * sizeof(int64_t));
    }
    /* Each column takes its row if that is still free. */
    for (size_t i = 0; i < n; i++) s->column[i] = -1;
    for (size_t j = 0; j < n; j++) {
        int64_t i = s->row[j];
        if (s->column[i] < 0)
            s->column[i] = (int64_t)j;
        else
            s->row[j] = -1;
    }
    return DONE;
}

/* v = 0, and each row takes its cheapest column if that is still free. */
static enum status start_rectangular(const REAL *cost, size_t n, size_t m, size_t ld, struct solver *s) {
    for (size_t j = 0; j < ld; j++) s->v[j] = 0, s->row[j] = -1;
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        for (size_t j = 1; j < m; j++)
            if (cost[i * ld + j] < cost[i * ld + best]) best = j;
        if (!(cost[i * ld + best] < HUGE_VAL)) return INFEASIBLE;
        s->column[i] = -1;
        if (s->row[best] < 0) {
            s->row[best] = (int64_t)i;
            s->column[i] = (int64_t)best;
        }
    }
    return DONE;
}

/* Paths through row i: shortens `key` where C_ij - v_j - offset is less, and returns the nearest open column. */
INLINE size_t reach(const REAL *c, double offset, int64_t i, size_t ld, struct solver *s, double *length) {
    const double *const open = s->open;
    double *const key = s->key;
    int64_t *const from = s->from;
    static const int64_t first[] = {0, 1, 2, 3, 4, 5, 6, 7};
    wide nearest = all_wide(HUGE_VAL);
    whole where = all_whole(0), at = load_whole(first);
    for (size_t j = 0; j < ld; j += WIDE) {
        wide via = load_widened(c + j) - load_wide(open + j) - all_wide(offset), before = load_wide(key + j);
        wide now = smaller(via, before);
        store_whole(from + j, chosen(less(via, before), all_whole(i), load_whole(from + j)));
        store_wide(key + j, now);
        where = chosen(less(now, nearest), at, where);
        nearest = smaller(now, nearest);
        at += all_whole(WIDE);
    }
    double best = lane(nearest, 0);
    int64_t column = lane_whole(where, 0);
    for (int l = 1; l < WIDE; l++) {
        int nearer = lane(nearest, l) < best;
        column = nearer ? lane_whole(where, l) : column;
        best = nearer ? lane(nearest, l) : best;
    }
    *length = best;
    return (size_t)column;
}

/* Dijkstra's search from a free row to the nearest free column; then prices move, and the pairs along the path swap. */
static enum status augment(const REAL *cost, size_t start, size_t ld, struct solver *s, size_t *n_free) {
    memcpy(s->open, s->v, ld * sizeof(double));
    for (size_t j = 0; j < ld; j++) s->key[j] = HUGE_VAL;
    double reached = -HUGE_VAL, length;
    size_t n_done = 0;
    size_t j = reach(cost + start * ld, 0, (int64_t)start, ld, s, &length);
    for (;;) {
        if (!(length < HUGE_VAL)) return INFEASIBLE;
        if (s->row[j] >= 0 && length <= reached) /* of equally near columns, a free one ends the search */
            for (size_t f = 0; f < *n_free; f++)
                if (s->key[s->free[f]] <= length) j = (size_t)s->free[f];
        if (s->row[j] < 0) break;
        reached = length;
        s->done[n_done] = (int64_t)j;
        s->length[n_done++] = length;
        s->open[j] = -HUGE_VAL;
        s->key[j] = HUGE_VAL;
        size_t i = (size_t)s->row[j];
        j = reach(cost + i * ld, (double)cost[i * ld + j] - s->v[j] - length, (int64_t)i, ld, s, &length);
    }
    for (size_t t = 0; t < n_done; t++) s->v[s->done[t]] += s->length[t] - length;
    for (size_t f = 0; f < *n_free; f++)
        if (s->free[f] == (int64_t)j) {
            s->free[f] = s->free[--*n_free];
            break;
        }
    for (int64_t column = (int64_t)j;;) {
        int64_t i = s->from[column], next = s->column[i];
        s->row[column] = i;
        s->column[i] = column;
        if (i == (int64_t)start) break;
        column = next;
    }
    return DONE;
}

/* s->column[i] for all rows. *finite: whether all costs are, if n = m. */
static enum status solve_block(const REAL *cost, size_t n, size_t m, size_t ld, struct solver *s, int *finite) {
    enum status status = n == m ? start_square(cost, n, ld, s, finite) : start_rectangular(cost, n, m, ld, s);
    size_t n_free = 0;
    if (status == DONE)
        for (size_t j = 0; j < ld; j++) {
            if (j >= m) s->v[j] = 0; /* the padding has no price */
            if (j < m && s->row[j] < 0) s->free[n_free++] = (int64_t)j;
        }
    for (size_t i = 0; i < n && status == DONE; i++)
        if (s->column[i] < 0) status = augment(cost, i, ld, s, &n_free);
    return status;
}

/* Places the arrays for rows of ld numbers; returns how many numbers of 8 bytes they take. */
static size_t place_solver(struct solver *s, double *at, size_t ld) {
    double **reals[] = {&s->v, &s->open, &s->key, &s->length, &s->mean, &s->u, &s->other_u, &s->other_v};
    int64_t **wholes[] = {&s->from, &s->row, &s->column, &s->done, &s->free, &s->other_row};
    enum { REALS = sizeof reals / sizeof *reals, WHOLES = sizeof wholes / sizeof *wholes };
    for (size_t a = 0; at && a < REALS; a++, at += ld) *reals[a] = at;
    for (size_t a = 0; at && a < WHOLES; a++, at += ld) *wholes[a] = (int64_t *)at;
    return (REALS + WHOLES) * ld;
}
