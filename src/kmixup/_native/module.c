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

/* A buffer as `dims` dimensions, strides in numbers; missing leading dimensions have size 1. No format is asked for, which
   would take numpy longer than a small problem takes to solve: numbers of 4 bytes are float32, of 8 float64 or int64. */
struct array {
    Py_buffer view;
    Py_ssize_t size[3], stride[3];
};

/* BufferError: not in a layout that the kernels read, a copy will be. */
static int open_array(PyObject *object, struct array *a, int least, int dims, int writable, const char *name) {
    if (PyObject_GetBuffer(object, &a->view, PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) < 0) return -1;
    const Py_buffer *v = &a->view;
    int missing = dims - v->ndim, fits = v->ndim >= least && missing >= 0;
    fits = fits && (v->itemsize == 4 || v->itemsize == 8) && (uintptr_t)v->buf % (size_t)v->itemsize == 0;
    for (int i = 0; fits && i < dims; i++) {
        a->size[i] = i < missing ? 1 : v->shape[i - missing];
        a->stride[i] = a->size[i] < 2 ? 0 : v->strides[i - missing] / v->itemsize;
        fits = a->size[i] < 2 || v->strides[i - missing] % v->itemsize == 0;
    }
    if (fits) return 0;
    PyErr_Format(PyExc_BufferError, "%s must have %d to %d dimensions of aligned numbers", name, least, dims);
    PyBuffer_Release(&a->view);
    return -1;
}

/* Whether the last dimension is contiguous. */
static int dense(const struct array *a, int dims, const char *name) {
    if (a->size[dims - 1] < 2 || a->stride[dims - 1] == 1) return 1;
    PyErr_Format(PyExc_BufferError, "%s must be contiguous in its last dimension", name);
    return 0;
}

static const char *at(const struct array *a, Py_ssize_t problem) {
    return (const char *)a->view.buf + problem * a->stride[0] * a->view.itemsize;
}

static const struct core *core_of(PyObject *level, const struct array *a) {
    long index = PyLong_AsLong(level);
    if (index == -1 && PyErr_Occurred()) return NULL;
    if (index < 0 || index >= (long)(sizeof cores / sizeof *cores)) {
        PyErr_SetString(PyExc_ValueError, "no such instruction set");
        return NULL;
    }
    return cores[index][a->view.itemsize == 8];
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

static int fits(int shapes_do) {
    if (!shapes_do) PyErr_SetString(PyExc_ValueError, "shapes do not fit");
    return shapes_do;
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
    const struct core *core = core_of(args[0], &x);
    Py_ssize_t n = out.size[0], k = out.size[1], m = out.size[2], d = x.size[2], done = 0, item = x.view.itemsize;
    int fit = x.size[0] == n && y.size[0] == n && x.size[1] == k && y.size[1] == m && y.size[2] == d && n * k * m * d > 0;
    fit = fit && y.view.itemsize == item && out.view.itemsize == item && (k < 2 || out.stride[1] == m);
    if (!core || !fits(fit) || !dense(&x, 3, "x") || !dense(&y, 3, "y") || !dense(&out, 3, "out")) goto release;
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

/* solve(level, cost[n, k, m], sizes[n, 2] or None, may_forbid, column[n, k]): of each problem the first rows and columns,
   as many as its sizes say (at most all); the columns of the other rows are left alone. */
static PyObject *solve(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)self;
    struct array cost, sizes, column;
    PyObject *result = NULL;
    if (!takes(nargs, 5)) return NULL;
    int sized = args[2] != Py_None, may_forbid = PyObject_IsTrue(args[3]);
    if (open_array(args[1], &cost, 3, 3, 0, "cost") < 0) return NULL;
    if (open_array(args[4], &column, 2, 2, 1, "column") < 0) goto release_cost;
    if (sized && open_array(args[2], &sizes, 2, 2, 0, "sizes") < 0) goto release_column;
    const struct core *core = core_of(args[0], &cost);
    Py_ssize_t n = cost.size[0], k = cost.size[1], m = cost.size[2], done = 0;
    int fit = column.size[0] == n && column.size[1] == k && n * k * m > 0 && column.view.itemsize == 8;
    if (sized) fit = fit && sizes.size[0] == n && sizes.size[1] == 2 && sizes.view.itemsize == 8;
    if (!core || !fits(fit) || !dense(&column, 2, "column") || (sized && !dense(&sizes, 2, "sizes"))) goto release;
    enum status status = DONE;
    Py_BEGIN_ALLOW_THREADS
    for (; done < n && status == DONE; done++) {
        int64_t rows = k, columns = m;
        if (sized) {
            const int64_t *size = (const int64_t *)at(&sizes, done);
            rows = size[0], columns = size[1];
            if (rows > k) rows = k;
            if (columns > m) columns = m;
        }
        if (rows > 0 && columns > 0)
            status = core->solve(at(&cost, done), cost.stride[1], cost.stride[2], (size_t)rows, (size_t)columns, may_forbid,
                                 (int64_t *)at(&column, done));
    }
    Py_END_ALLOW_THREADS
    result = answer(status, done - 1);
release:
    if (sized) PyBuffer_Release(&sizes.view);
release_column:
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
        int dims = a < 2 ? 3 : 2;
        if (open_array(args[1 + a], arrays[a], dims - 1, dims, a == 4, names[a]) < 0) goto release;
        opened[a] = 1;
        if (!dense(arrays[a], dims, names[a])) goto release;
    }
    if (!fits(opened[0] && opened[4])) goto release;
    const struct core *core = core_of(args[0], &x);
    Py_ssize_t n = partner.size[0], size = x.size[1], d = x.size[2];
    int fit = k > 0 && shift >= 0 && part >= 0 && part < parts && n * size * d > 0;
    for (int a = 0; a < 5; a++)
        if (opened[a]) {
            const struct array *b = arrays[a];
            fit = fit && (b->size[0] == n || b->size[0] == 1) && b->size[1] == size;
            fit = fit && (a < 2 ? b->size[2] == d && b->view.itemsize == x.view.itemsize : b->view.itemsize == 8);
        }
    if (!core || !fits(fit)) goto release;

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

/* native.py and this file agree on the arguments above by this number: a core that lies about from an earlier build is
   not called. Raise it in both with every change of arguments. */
static int name_interface(PyObject *module) { return PyModule_AddIntConstant(module, "INTERFACE", 2); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)name_interface}, {0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "core", "The compiled core of kmixup.", 0, methods, slots, NULL,
                                    NULL, NULL};

PyMODINIT_FUNC PyInit_core(void) { return PyModuleDef_Init(&module); }
