/* py_batch - Batch of the extension: states join, get a token per pass, and leave.
 *
 * The core's batch holds the states that are in it, whatever becomes of their Python objects.  One call may run several
 * passes: Python's caches are cold after each, so that what surrounds a pass costs more than it seems.
 */
#include "python/pycommon.h"

#include <stdatomic.h>

enum { MOST_STEPS = 64, MOST_TOP = 20 };

typedef struct batch {
    cch_py_owned owned;
    cch_batch *batch;   /* owned */
    int32_t vocab_size;
    bool stepping;      /* a step runs without the GIL */
    cch_py_flag cancel;
    atomic_bool interrupt; /* another thread wants the step to end after the pass that runs */
} batch;

typedef struct entry {
    cch_step step;
    int32_t n_top; /* likeliest tokens at its position, best first */
    int32_t ids[MOST_TOP];
    float values[MOST_TOP];
    double lse;
    bool traced;
    cch_trace trace;
    float *attention; /* owned: a copy of the trace's, NULL where it has none or memory was short */
} entry;

static PyObject *batch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"model", "max_rows", "chunk_tokens", "store_top_k", NULL};
    const cch_py_module *module = PyType_GetModuleState(type);
    cch_batch_options options = CCH_BATCH_OPTIONS_INIT;
    PyObject *model = NULL;
    cch_model_info info;
    cch_error err = {0};
    cch_status status = CCH_OK;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|iii:Batch", names, module->model_type, &model, &options.max_rows,
                                     &options.chunk_tokens, &options.store_top_k))
        return NULL;
    batch *self = PyObject_New(batch, type);
    if (self == NULL) return NULL;
    cch_py_owned_init(&self->owned);
    self->batch = NULL;
    self->stepping = false;
    self->cancel = (cch_py_flag){0, 0};
    atomic_init(&self->interrupt, false);
    cch_model_get_info(((cch_py_model *)model)->model, &info);
    self->vocab_size = info.vocab_size;
    options.cancel = &self->cancel.set;
    status = cch_batch_new(((cch_py_model *)model)->model, &options, &self->batch, &err);
    if (status == CCH_OK) return (PyObject *)self;
    Py_DECREF(self);
    return cch_py_raise(module, status, &err);
}

static void batch_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (cch_py_owned_here(&((batch *)object)->owned)) cch_batch_free(((batch *)object)->batch);
    PyObject_Free(object);
    Py_DECREF(type);
}

static bool refuse_while_stepping(batch *self) {
    if (!self->stepping) return false;
    PyErr_SetString(cch_py_module_of((PyObject *)self)->errors[CCH_E_BUSY], "the batch is in a step of another thread");
    return true;
}

static PyObject *batch_add(PyObject *object, PyObject *args) {
    batch *self = (batch *)object;
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *state = NULL, *tuple = NULL, *tape_object = Py_None;
    cch_sampling sampling;
    cch_state *tape = NULL;
    int n_ctx = 0, trace_layer = -1;
    if (!PyArg_ParseTuple(args, "O!O|iOi:add", module->state_type, &state, &tuple, &n_ctx, &tape_object, &trace_layer))
        return NULL;
    if (!cch_py_tape(module, tape_object, &tape)) return NULL;
    bool reads = tuple == Py_None;
    if ((!reads && cch_py_sampling(tuple, &sampling) < 0) || refuse_while_stepping(self)) return NULL;
    int32_t row = 0;
    cch_error err = {0};
    cch_state *joining = ((cch_py_state *)state)->state;
    cch_status status = reads ? cch_batch_add_reader(self->batch, joining, &row, &err)
                              : cch_batch_add_window(self->batch, joining, tape, &sampling, n_ctx, &row, &err);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    if (trace_layer != -1) status = cch_batch_trace(self->batch, row, trace_layer, &err);
    if (status != CCH_OK) cch_batch_remove(self->batch, row);
    if (status != CCH_OK) return cch_py_raise(module, status, &err);
    PyObject *number = PyLong_FromLong(row);
    if (number == NULL) cch_batch_remove(self->batch, row);
    return number;
}

static PyObject *batch_remove(PyObject *object, PyObject *args) {
    int row = 0;
    if (!PyArg_ParseTuple(args, "i:remove", &row)) return NULL;
    batch *self = (batch *)object;
    if (self->stepping) cch_batch_leave(self->batch, row); /* what was drawn for it is perhaps being read */
    else cch_batch_remove(self->batch, row);
    Py_RETURN_NONE;
}

static PyObject *batch_give(PyObject *object, PyObject *args) {
    batch *self = (batch *)object;
    int row = 0;
    Py_buffer logits;
    if (!PyArg_ParseTuple(args, "iy*:give", &row, &logits)) return NULL;
    const cch_py_module *module = cch_py_module_of(object);
    PyObject *result = NULL;
    cch_error err = {0};
    cch_status status = CCH_OK;
    if (logits.len != (Py_ssize_t)sizeof(float) * self->vocab_size)
        PyErr_Format(module->errors[CCH_E_ARGUMENT], "logits have %zd bytes, allowed: 4 for each of %d tokens",
                     logits.len, (int)self->vocab_size);
    else if ((status = cch_batch_give(self->batch, row, logits.buf, &err)) != CCH_OK)
        cch_py_raise(module, status, &err);
    else
        result = Py_NewRef(Py_None);
    PyBuffer_Release(&logits);
    return result;
}

static void take_trace(const cch_trace *trace, entry *e) {
    e->traced = trace != NULL;
    e->attention = NULL;
    if (trace == NULL) return;
    e->trace = *trace;
    if (trace->attention == NULL) return;
    size_t bytes = (size_t)trace->n_heads * (size_t)trace->n_keys * sizeof(float);
    e->attention = PyMem_RawMalloc(bytes);
    if (e->attention != NULL) memcpy(e->attention, trace->attention, bytes);
}

/* Up to n_steps of them into entries [n_steps * rows]: until a row has left or still has something to read, or
 * somebody interrupts.  A failure after the first step is left to the next call, which meets it again. */
static cch_status run(batch *self, int n_steps, int k, cch_step *steps, entry *entries, size_t *out_n,
                      cch_error *err) {
    bool again = true;
    for (int step = 0; step < n_steps && again; step++) {
        size_t n = 0;
        int64_t passes = cch_batch_passes(self->batch);
        cch_status status = cch_batch_step(self->batch, steps, &n, err);
        if (status != CCH_OK) return step > 0 ? CCH_OK : status;
        again = n == cch_batch_len(self->batch) || cch_batch_passes(self->batch) == passes;
        for (size_t i = 0; i < n; i++) {
            entry *e = &entries[(*out_n)++];
            e->step = steps[i];
            e->n_top = k > 0 ? cch_batch_top(self->batch, e->step.row, k, e->ids, e->values, &e->lse) : 0;
            take_trace(cch_batch_trace_view(self->batch, e->step.row), e);
            again &= e->step.finish == CCH_RUNNING;
        }
        if (atomic_exchange(&self->interrupt, false)) break;
    }
    return CCH_OK;
}

static PyObject *top_tuple(const entry *e) {
    PyObject *top = PyTuple_New(e->n_top);
    for (int32_t i = 0; top != NULL && i < e->n_top; i++) {
        PyObject *pair = Py_BuildValue("(id)", e->ids[i], (double)e->values[i] - e->lse);
        if (pair == NULL) Py_CLEAR(top);
        else PyTuple_SET_ITEM(top, i, pair);
    }
    return top;
}

PyObject *cch_py_trace_top(const cch_trace *trace) {
    PyObject *top = PyTuple_New(trace->n_top);
    for (int32_t i = 0; top != NULL && i < trace->n_top; i++) {
        PyObject *pair = Py_BuildValue("(id)", trace->ids[i], trace->probabilities[i]);
        if (pair == NULL) Py_CLEAR(top);
        else PyTuple_SET_ITEM(top, i, pair);
    }
    return top;
}

static PyObject *attention_array(const cch_py_module *module, const entry *e) {
    if (e->trace.attention == NULL) return Py_NewRef(Py_None);
    if (e->attention == NULL) return PyErr_NoMemory();
    Py_ssize_t shape[2] = {e->trace.n_heads, e->trace.n_keys};
    float *data = NULL;
    PyObject *array = cch_py_array_new(module, 'f', 2, shape, &data);
    if (array != NULL) memcpy(data, e->attention, (size_t)(shape[0] * shape[1]) * sizeof *data);
    return array;
}

static PyObject *trace_tuple(const cch_py_module *module, const entry *e) {
    if (!e->traced) return Py_NewRef(Py_None);
    return Py_BuildValue("(dNN)", e->trace.entropy, cch_py_trace_top(&e->trace), attention_array(module, e));
}

static PyObject *step_list(const cch_py_module *module, const entry *entries, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        const cch_step *step = &entries[i].step;
        PyObject *item = Py_BuildValue("(iiiifffNN)", step->row, (int)step->finish, step->position,
                                       step->sampled.token_id, (double)step->sampled.probability,
                                       (double)step->sampled.logprob, (double)step->sampled.entropy,
                                       top_tuple(&entries[i]), trace_tuple(module, &entries[i]));
        if (item == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static bool in_range(PyObject *object, const char *name, int value, int least, int most) {
    if (value >= least && value <= most) return true;
    PyErr_Format(cch_py_module_of(object)->errors[CCH_E_ARGUMENT], "%s is %d, allowed: %d to %d", name, value, least,
                 most);
    return false;
}

static PyObject *batch_step(PyObject *object, PyObject *args) {
    batch *self = (batch *)object;
    int chunk_tokens = 0, n_steps = 1, top = 0;
    if (!PyArg_ParseTuple(args, "|iii:step", &chunk_tokens, &n_steps, &top) || refuse_while_stepping(self)) return NULL;
    if (!in_range(object, "steps", n_steps, 1, MOST_STEPS) || !in_range(object, "top", top, 0, MOST_TOP)) return NULL;
    cch_error err = {0};
    if (chunk_tokens != 0 && cch_batch_set_chunk(self->batch, chunk_tokens, &err) != CCH_OK)
        return cch_py_raise(cch_py_module_of(object), err.code, &err);
    size_t rows = cch_batch_len(self->batch) + 1, n = 0;
    cch_step *steps = PyMem_New(cch_step, rows);
    entry *entries = PyMem_New(entry, rows * (size_t)n_steps);
    PyObject *list = NULL;
    if (steps == NULL || entries == NULL) {
        PyErr_NoMemory();
    } else {
        cch_py_call call;
        self->stepping = true;
        cch_py_call_begin(&call, &self->cancel, NULL);
        cch_status status = run(self, n_steps, top, steps, entries, &n, &err);
        bool ok = cch_py_call_end(&call, cch_py_module_of(object), status, &err);
        self->stepping = false;
        cch_batch_remove(self->batch, -1); /* those that were only marked */
        if (ok) list = step_list(cch_py_module_of(object), entries, n);
        for (size_t i = 0; i < n; i++) PyMem_RawFree(entries[i].attention);
    }
    PyMem_Free(steps);
    PyMem_Free(entries);
    return list;
}

static PyObject *batch_read(PyObject *object, PyObject *args) {
    batch *self = (batch *)object;
    int row = 0;
    if (!PyArg_ParseTuple(args, "i:read", &row) || refuse_while_stepping(self)) return NULL;
    return PyLong_FromLong(cch_batch_read(self->batch, row));
}

static PyObject *batch_passes(PyObject *object, void *unused) {
    (void)unused;
    batch *self = (batch *)object;
    return refuse_while_stepping(self) ? NULL : PyLong_FromLongLong(cch_batch_passes(self->batch));
}

static PyObject *batch_logits(PyObject *object, PyObject *args) {
    batch *self = (batch *)object;
    int row = 0;
    if (!PyArg_ParseTuple(args, "i:logits", &row) || refuse_while_stepping(self)) return NULL;
    const float *logits = cch_batch_logits_view(self->batch, row);
    if (logits == NULL) Py_RETURN_NONE;
    float *data = NULL;
    Py_ssize_t shape = self->vocab_size;
    PyObject *result = cch_py_array_new(cch_py_module_of(object), 'f', 1, &shape, &data);
    if (result != NULL) memcpy(data, logits, (size_t)shape * sizeof *data);
    return result;
}

static PyObject *batch_interrupt(PyObject *object, PyObject *unused) {
    (void)unused;
    atomic_store(&((batch *)object)->interrupt, true);
    Py_RETURN_NONE;
}

static Py_ssize_t batch_length(PyObject *object) {
    return (Py_ssize_t)cch_batch_len(((batch *)object)->batch);
}

static PyMethodDef batch_methods[] = {
    {"add", batch_add, METH_VARARGS,
     PyDoc_STR("add(state, sampling, n_ctx=0, tape=None, trace_layer=-1) -> row; sampling None: it only reads")},
    {"give", batch_give, METH_VARARGS, PyDoc_STR("give(row, logits): of an earlier call, to draw from first")},
    {"remove", batch_remove, METH_VARARGS, PyDoc_STR("remove(row)")},
    {"step", batch_step, METH_VARARGS,
     PyDoc_STR("step(chunk_tokens=0, steps=1, top=0) -> [(row, finish, position, token_id, probability, logprob, "
               "entropy, ((id, logprob), ...), trace)]: several steps while all rows draw; the top likeliest at a "
               "position; trace: (entropy, ((id, probability), ...), attention Array [heads, keys]) or None")},
    {"interrupt", batch_interrupt, METH_NOARGS,
     PyDoc_STR("interrupt(): the step of another thread, or the next, ends after the pass it is in")},
    {"read", batch_read, METH_VARARGS, PyDoc_STR("read(row) -> how many of its tokens have been read")},
    {"logits", batch_logits, METH_VARARGS, PyDoc_STR("logits(row) -> Array [vocab] of the last step, or None")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef batch_getset[] = {
    {"passes", batch_passes, NULL, PyDoc_STR("forward passes run by its steps"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot batch_slots[] = {
    {Py_tp_new, batch_new},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_getattro, cch_py_owned_getattro},
    {Py_tp_methods, batch_methods},
    {Py_tp_getset, batch_getset},
    {Py_sq_length, batch_length},
    {Py_tp_doc, PyDoc_STR("Batch(model, max_rows=0, chunk_tokens=0, store_top_k=0): continuous batching.")},
    {0, NULL},
};

PyType_Spec cch_py_batch_spec = {
    .name = "cacher._core.Batch",
    .basicsize = sizeof(batch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = batch_slots,
};
