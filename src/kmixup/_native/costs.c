/* Costs of a block by differences: sum over t of (x_i[t] - y_j[t])^2, which cannot cancel.

   Points are given by pointers to their rows, so that nothing is gathered. The costs are the rows of a matrix whose
   sizes are multiples of PAD; what lies beyond n x m is of no meaning. */

enum { PAD = 16 };

/* Rows that meet in one tile: as many running sums as the registers hold. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_X = 4, TILE_Y = 4 };
#else
enum { TILE_X = 4, TILE_Y = 2 };
#endif

enum {
    SHORT_ROWS = 128,    /* up to this d, vectors run along the points y_j, not along t */
    PIECE = 128 * LANES, /* t in pieces: what a group reads stays in cache, and a sum of few terms rounds little */
    GROUP = 16           /* points y_j whose pieces stay in cache while the points x_i pass by */
};

struct block {
    const REAL **x, **y; /* pointers to n and m rows, and to the last row again up to a multiple of PAD */
    REAL *x_tails, *y_tails; /* the last d % LANES numbers of each row, and zeros */
    REAL *columns;           /* y transposed, for short rows */
    size_t n, m, d;
};

/* out[s] = the sum of the lanes of v[s], for all sums of a tile. */
INLINE void lane_sums(const vec *v, REAL *out) {
    for (int s = 0; s < TILE_X * TILE_Y; s++) {
        REAL lanes[LANES];
        store(lanes, v[s]);
        for (int width = LANES / 2; width > 0; width /= 2)
            for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
        out[s] = lanes[0];
    }
}

#if defined(NATIVE_WIDTH) && defined(__AVX2__) && VECTOR_BYTES == 32
/* The same for float32, four sums at a time: at d = 784 a tenth of the whole. */
INLINE void lane_sums_of_floats(const vec *v, float *out) {
    for (int s = 0; s < TILE_X * TILE_Y; s += 4) {
        __m256 first = _mm256_hadd_ps((__m256)v[s], (__m256)v[s + 1]);
        __m256 second = _mm256_hadd_ps((__m256)v[s + 2], (__m256)v[s + 3]);
        __m256 halves = _mm256_hadd_ps(first, second);
        _mm_storeu_ps(out + s, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
    }
}
#define lane_sums(v, out) _Generic((out), float *: lane_sums_of_floats, double *: lane_sums)(v, out)
#endif

/* Adds to out the costs of TILE_X rows against TILE_Y rows, over t = from .. from + length - 1. */
static void tile_along_rows(const REAL *const *x, const REAL *const *y, size_t from, size_t length, REAL *out, size_t ld,
                            int first) {
    vec sums[TILE_X][TILE_Y] = {{all(0)}};
    for (size_t t = from; t < from + length; t += LANES) {
        vec y_t[TILE_Y];
        for (int j = 0; j < TILE_Y; j++) y_t[j] = load(y[j] + t);
        for (int i = 0; i < TILE_X; i++) {
            vec x_t = in_register(load(x[i] + t));
            for (int j = 0; j < TILE_Y; j++) {
                vec gap = x_t - y_t[j];
                sums[i][j] += gap * gap;
            }
        }
    }
    REAL parts[TILE_X * TILE_Y];
    lane_sums(sums[0], parts);
    for (int i = 0; i < TILE_X; i++)
        for (int j = 0; j < TILE_Y; j++) {
            REAL part = parts[i * TILE_Y + j];
            out[i * ld + j] = first ? part : out[i * ld + j] + part;
        }
}

static void piece_along_rows(const REAL *const *x, size_t n, const REAL *const *y, size_t m, size_t from, size_t length,
                             REAL *out, size_t ld, int first) {
    for (size_t group = 0; group < m; group += GROUP)
        for (size_t i = 0; i < n; i += TILE_X)
            for (size_t j = group; j < m && j < group + GROUP; j += TILE_Y)
                tile_along_rows(x + i, y + j, from, length, out + i * ld + j, ld, first);
}

static void tails(const REAL **rows, size_t n, size_t d, REAL *tails) {
    size_t length = d % LANES;
    for (size_t i = 0; i < n; i++) {
        memcpy(tails + i * LANES, rows[i] + d - length, length * sizeof(REAL));
        memset(tails + i * LANES + length, 0, (LANES - length) * sizeof(REAL));
    }
}

static void costs_along_rows(struct block *b, REAL *out, size_t ld) {
    size_t whole_part = b->d - b->d % LANES;
    for (size_t from = 0; from < whole_part; from += PIECE) {
        size_t length = whole_part - from < PIECE ? whole_part - from : PIECE;
        piece_along_rows(b->x, b->n, b->y, b->m, from, length, out, ld, from == 0);
    }
    if (b->d % LANES) {
        size_t n = rounded_up(b->n, PAD), m = rounded_up(b->m, PAD);
        tails(b->x, n, b->d, b->x_tails);
        tails(b->y, m, b->d, b->y_tails);
        for (size_t i = 0; i < n; i++) b->x[i] = b->x_tails + i * LANES;
        for (size_t j = 0; j < m; j++) b->y[j] = b->y_tails + j * LANES;
        piece_along_rows(b->x, b->n, b->y, b->m, 0, LANES, out, ld, whole_part == 0);
    }
}

/* TILE_X rows against `vectors` vectors of columns. */
INLINE void tile_along_columns(const REAL *const *x, const REAL *columns, size_t d, int vectors, REAL *out, size_t ld) {
    vec sums[TILE_X][2] = {{all(0)}};
    for (size_t t = 0; t < d; t++)
        for (int j = 0; j < vectors; j++) {
            vec y_t = load(columns + t * ld + j * LANES);
            for (int i = 0; i < TILE_X; i++) {
                vec gap = all(x[i][t]) - y_t;
                sums[i][j] += gap * gap;
            }
        }
    for (int i = 0; i < TILE_X; i++)
        for (int j = 0; j < vectors; j++) store(out + i * ld + j * LANES, sums[i][j]);
}

static void costs_along_columns(struct block *b, REAL *out, size_t ld) {
    size_t used = rounded_up(b->m, LANES);
    for (size_t j = 0; j < used; j++)
        for (size_t t = 0; t < b->d; t++) b->columns[t * ld + j] = b->y[j][t];
    for (size_t i = 0; i < b->n; i += TILE_X) {
        size_t j = 0;
        for (; j + 2 * LANES <= used; j += 2 * LANES)
            tile_along_columns(b->x + i, b->columns + j, b->d, 2, out + i * ld + j, ld);
        if (j < used) tile_along_columns(b->x + i, b->columns + j, b->d, 1, out + i * ld + j, ld);
    }
}

/* Needs the pointers of the first n and m rows; out has rows of ld numbers. The pointers are used up. */
static void block_costs(struct block *b, int euclidean, REAL *out, size_t ld) {
    for (size_t i = b->n; i % PAD; i++) b->x[i] = b->x[b->n - 1];
    for (size_t j = b->m; j % PAD; j++) b->y[j] = b->y[b->m - 1];
    if (b->d <= SHORT_ROWS)
        costs_along_columns(b, out, ld);
    else
        costs_along_rows(b, out, ld);
    if (euclidean)
        for (size_t i = 0; i < b->n; i++)
            for (size_t j = 0; j < b->m; j++) out[i * ld + j] = (REAL)SQRT(out[i * ld + j]);
}
