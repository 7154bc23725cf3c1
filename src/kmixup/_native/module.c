/* The entry points for Python: buffers in, buffers out, the interpreter lock released. native.py prepares the buffers and
   says what went wrong; here they are checked as far as memory depends on it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

static const char *const level_names[] = {"baseline", "avx2", "avx512"};
static const struct core *const cores[][2] = {
    {&core_float_baseline, &core_double_baseline},
#ifdef KMIXUP_X86
    {&core_float_avx2, &core_double_avx2},
    {&core_float_avx512, &core_double_avx512},
#endif
};

/* A buffer and its element size, of as many dimensions as given, aligned; strides in numbers. */
struct array {
    Py_buffer view;
    Py_ssize_t size[3], stride[3];
    char kind; /* f, d, or i for int64 */
};

static int open_array(PyObject *object, struct array *a, int low, int high, int writable, const char *name) {
    int flags = PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &a->view, flags) < 0) return -1;
    Py_buffer *v = &a->view;
    char format = v->format && v->format[0] && !v->format[1] ? v->format[0] : 0;
    a->kind = (format == 'l' || format == 'q') && v->itemsize == 8 ? 'i' : format == 'f' || format == 'd' ? format : 0;
    int fits = a->kind && v->ndim >= low && v->ndim <= high && (uintptr_t)v->buf % (size_t)v->itemsize == 0;
    for (int i = 0; fits && i < v->ndim; i++) {
        a->size[i] = v->shape[i];
        a->stride[i] = v->strides[i] / v->itemsize;
        fits = v->strides[i] % v->itemsize == 0 || v->shape[i] < 2;
    }
    if (!fits) {
        PyErr_Format(PyExc_TypeError, "%s must be a buffer of numbers with %d to %d dimensions.", name, low, high);
        PyBuffer_Release(v);
        return -1;
    }
    /* Missing leading dimensions have size 1: every problem of a batch reads the same. */
    while (v->ndim && high > low && a->view.ndim < high && low < high) {
        int missing = high - v->ndim;
        for (int i = high - 1; i >= 0; i--) {
            a->size[i] = i >= missing ? a->size[i - missing] : 1;
            a->stride[i] = i >= missing ? a->stride[i - missing] : 0;
        }
        break;
    }
    return 0;
}

static const char *at(const struct array *a, Py_ssize_t problem) {
    Py_ssize_t step = a->size[0] == 1 ? 0 : a->stride[0];
    return (const char *)a->view.buf + problem * step * a->view.itemsize;
}

static const struct core *core_of(PyObject *level, char kind) {
    long index = PyLong_AsLong(level);
    if (index == -1 && PyErr_Occurred()) return NULL;
    if (index < 0 || index > processor_level() || (kind != 'f' && kind != 'd')) {
        PyErr_SetString(PyExc_ValueError, "no such kernels");
        return NULL;
    }
    return cores[index][kind == 'd'];
}

/* None if all is well, else the index of the problem that is not. */
static PyObject *answer(enum status status, Py_ssize_t problem) {
    switch (status) {
    case DONE: Py_RETURN_NONE;
    case BAD_INDEX: PyErr_SetString(PyExc_IndexError, "an order must hold indices of points"); return NULL;
    case NO_MEMORY: return PyErr_NoMemory();
    default: return Py_BuildValue("in", status == INFEASIBLE, problem);
    }
}

static int takes(Py_ssize_t given, Py_ssize_t wanted) {
    if (given != wanted) PyErr_Format(PyExc_TypeError, "takes %zd arguments, got %zd", wanted, given);
    return given == wanted;
}

static int fits(int condition, const char *what) {
    if (!condition && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, what);
    return condition;
}

/* costs(level, x[n, k, d], y[n, m, d], euclidean, out[n, k, m]) */
static PyObject *costs(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)self;
    struct array x, y, out;
    PyObject *result = NULL;
    if (!takes(nargs, 5)) return NULL;
    int euclidean = PyObject_IsTrue(args[3]);
    if (open_array(args[1], &x, 3, 3, 0, "x") < 0) return NULL;
    if (open_array(args[2], &y, 3, 3, 0, "y") < 0) goto release_x;
    if (open_array(args[4], &out, 3, 3, 1, "out") < 0) goto release_y;
    const struct core *core = core_of(args[0], x.kind);
    Py_ssize_t n = out.size[0], k = out.size[1], m = out.size[2], d = x.size[2], done = 0;
    int rows = d < 2 || (x.stride[2] == 1 && y.stride[2] == 1);
    int dense = (m < 2 || out.stride[2] == 1) && (k < 2 || out.stride[1] == m);
    if (!core || !fits(x.kind == y.kind && x.kind == out.kind && x.size[0] == n && y.size[0] == n && x.size[1] == k &&
                       y.size[1] == m && y.size[2] == d && n * k * m * d > 0 && rows && dense, "shapes do not fit"))
        goto release;
    enum status status = DONE;
    Py_BEGIN_ALLOW_THREADS
    for (; done < n && status == DONE; done++)
        status = core->costs(at(&x, done), x.stride[1], (size_t)k, at(&y, done), y.stride[1], (size_t)m, (size_t)d,
                             euclidean, (char *)at(&out, done));
    Py_END_ALLOW_THREADS
    result = answer(status, done - 1);
release:
    PyBuffer_Release(&out.view);
release_y:
    PyBuffer_Release(&y.view);
release_x:
    PyBuffer_Release(&x.view);
    return result;
}

/* solve(level, cost[n, k, m], column[n, k]) */
static PyObject *solve(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)self;
    struct array cost, column;
    PyObject *result = NULL;
    if (!takes(nargs, 3) || open_array(args[1], &cost, 3, 3, 0, "cost") < 0) return NULL;
    if (open_array(args[2], &column, 2, 2, 1, "column") < 0) goto release_cost;
    const struct core *core = core_of(args[0], cost.kind);
    Py_ssize_t n = cost.size[0], k = cost.size[1], m = cost.size[2], done = 0;
    if (!core || !fits(column.kind == 'i' && column.size[0] == n && column.size[1] == k && n * k * m > 0 &&
                       (k < 2 || column.stride[1] == 1), "shapes do not fit"))
        goto release;
    enum status status = DONE;
    Py_BEGIN_ALLOW_THREADS
    for (; done < n && status == DONE; done++)
        status = core->solve(at(&cost, done), cost.stride[1], cost.stride[2], (size_t)k, (size_t)m,
                             (int64_t *)at(&column, done));
    Py_END_ALLOW_THREADS
    result = answer(status, done - 1);
release:
    PyBuffer_Release(&column.view);
release_cost:
    PyBuffer_Release(&cost.view);
    return result;
}

/* match(level, x[(n,) B, d], y or None for x, left[(n,) B] or None, right or None, partner[(n,) B], k, shift, euclidean,
   part, parts): the blocks of all n orders are one sequence, of which this call takes the given part. */
static PyObject *match(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)self;
    struct array x, y, left, right, partner;
    struct array *const arrays[] = {&x, &y, &left, &right, &partner};
    static const char *const names[] = {"x", "y", "left", "right", "partner"};
    PyObject *result = NULL;
    int opened[5] = {0};
    if (!takes(nargs, 11)) return NULL;
    Py_ssize_t k = PyLong_AsSsize_t(args[6]), shift = PyLong_AsSsize_t(args[7]);
    Py_ssize_t part = PyLong_AsSsize_t(args[9]), parts = PyLong_AsSsize_t(args[10]);
    int euclidean = PyObject_IsTrue(args[8]);
    if (PyErr_Occurred()) return NULL;
    for (int a = 0; a < 5; a++) {
        if (args[1 + a] == Py_None) continue;
        int high = a < 2 ? 3 : 2;
        if (open_array(args[1 + a], arrays[a], high - 1, high, a == 4, names[a]) < 0) goto release;
        opened[a] = 1;
    }
    if (!fits(opened[0] && opened[4], "x and partner are missing")) goto release;
    const struct core *core = core_of(args[0], x.kind);
    Py_ssize_t n = partner.size[0], size = x.size[1], d = x.size[2];
    int good = k > 0 && shift >= 0 && part >= 0 && part < parts && n * size * d > 0 && (x.size[0] == n || x.size[0] == 1);
    for (int a = 2; a < 5; a++)
        good = good && (!opened[a] || (arrays[a]->kind == 'i' && (arrays[a]->size[0] == n || arrays[a]->size[0] == 1) &&
                                       arrays[a]->size[1] == size && (size < 2 || arrays[a]->stride[1] == 1)));
    good = good && (d < 2 || x.stride[2] == 1) && partner.size[0] == n;
    if (opened[1])
        good = good && y.kind == x.kind && (y.size[0] == n || y.size[0] == 1) && y.size[1] == size && y.size[2] == d &&
               (d < 2 || y.stride[2] == 1);
    if (!core || !fits(good, "shapes do not fit")) goto release;

    const struct array *to = opened[1] ? &y : &x;
    struct order order = {.x_row = x.stride[1], .y_row = to->stride[1], .size = (size_t)size, .k = (size_t)k,
                          .d = (size_t)d, .shift = (size_t)shift, .euclidean = euclidean};
    Py_ssize_t blocks = (size - 1) / k + 1, all = n * blocks, step = (all - 1) / parts + 1;
    Py_ssize_t next = part * step, end = next + step < all ? next + step : all, problem = 0;
    enum status status = DONE;
    Py_BEGIN_ALLOW_THREADS
    while (next < end && status == DONE) {
        Py_ssize_t first = next % blocks, last = first + (end - next) < blocks ? first + (end - next) : blocks;
        problem = next / blocks;
        order.x = at(&x, problem), order.y = at(to, problem);
        order.left = opened[2] ? (const int64_t *)at(&left, problem) : NULL;
        order.right = opened[3] ? (const int64_t *)at(&right, problem) : NULL;
        status = core->match(&order, (size_t)first, (size_t)last, (int64_t *)at(&partner, problem));
        next += last - first;
    }
    Py_END_ALLOW_THREADS
    result = answer(status, problem);
release:
    for (int a = 0; a < 5; a++)
        if (opened[a]) PyBuffer_Release(&arrays[a]->view);
    return result;
}

/* levels() -> the names of the instruction sets that this processor can run, the best last */
static PyObject *levels(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    int n = processor_level() + 1;
    PyObject *names = PyTuple_New(n);
    for (int i = 0; names && i < n; i++) {
        PyObject *name = PyUnicode_FromString(level_names[i]);
        if (!name || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    return names;
}

static PyMethodDef methods[] = {
    {"levels", levels, METH_NOARGS, "Names of the instruction sets that this processor can run, the best last."},
    {"costs", (PyCFunction)(void (*)(void))costs, METH_FASTCALL, "Costs of blocks."},
    {"solve", (PyCFunction)(void (*)(void))solve, METH_FASTCALL, "Optimal matchings of cost matrices."},
    {"match", (PyCFunction)(void (*)(void))match, METH_FASTCALL, "Partners along the blocks of an order."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "core", "The compiled core of kmixup.", 0, methods, slots, NULL,
                                    NULL, NULL};

PyMODINIT_FUNC PyInit_core(void) { return PyModuleDef_Init(&module); }
