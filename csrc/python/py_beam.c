/* py_beam - beam search from a State, with stop sequences decided in Python. */
#include "python/pycommon.h"

typedef struct stop_call {
    cch_py_call *call;
    PyObject *callable; /* borrowed from the arguments */
} stop_call;

static PyObject *ids_tuple(const int32_t *ids, int32_t n) {
    PyObject *tuple = PyTuple_New(n);
    for (int32_t i = 0; tuple != NULL && i < n; i++) {
        PyObject *id = PyLong_FromLong(ids[i]);
        if (id == NULL) Py_CLEAR(tuple);
        else PyTuple_SET_ITEM(tuple, i, id);
    }
    return tuple;
}

static bool ask_stop(void *arg, const int32_t *tokens, int32_t n) {
    stop_call *stop = arg;
    if (stop->call->failed) return false;
    cch_py_call_enter(stop->call);
    PyObject *ids = ids_tuple(tokens, n);
    PyObject *answer = ids != NULL ? PyObject_CallOneArg(stop->callable, ids) : NULL;
    int truth = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(ids);
    Py_XDECREF(answer);
    cch_py_call_leave(stop->call, truth < 0);
    return truth > 0;
}

/* (score, logprob, ids, logprobs, group, eos) */
static PyObject *beam_tuple(const cch_beams *beams, size_t i) {
    cch_beam beam;
    cch_beams_get(beams, i, &beam);
    PyObject *ids = ids_tuple(beam.tokens, beam.n_tokens);
    PyObject *logprobs = PyTuple_New(beam.n_tokens);
    for (int32_t t = 0; logprobs != NULL && t < beam.n_tokens; t++) {
        PyObject *value = PyFloat_FromDouble((double)beam.logprobs[t]);
        if (value == NULL) Py_CLEAR(logprobs);
        else PyTuple_SET_ITEM(logprobs, t, value);
    }
    if (ids == NULL || logprobs == NULL) {
        Py_XDECREF(ids);
        Py_XDECREF(logprobs);
        return NULL;
    }
    return Py_BuildValue("(ddNNiN)", beam.score, beam.logprob, ids, logprobs, beam.group, PyBool_FromLong(beam.eos));
}

/* (step, group, token_id, parent, logprob) */
static PyObject *node_tuple(const cch_beams *beams, size_t i) {
    cch_beam_node node;
    cch_beams_trace_get(beams, i, &node);
    return Py_BuildValue("(iiiid)", node.step, node.group, node.token_id, node.parent, node.logprob);
}

static PyObject *list_of(const cch_beams *beams, size_t n, PyObject *(*item)(const cch_beams *, size_t)) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *value = item(beams, i);
        if (value == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, (Py_ssize_t)i, value);
    }
    return list;
}

PyObject *cch_py_state_beam(PyObject *object, PyObject *args) {
    cch_py_state *self = (cch_py_state *)object;
    cch_beam_params params = CCH_BEAM_PARAMS_INIT;
    int trace = 0;
    PyObject *callable = Py_None, *tape = Py_None;
    if (!PyArg_ParseTuple(args, "(iifiifififip)|OO:beam", &params.n_beams, &params.max_tokens, &params.length_penalty,
                          &params.early_stopping, &params.n_groups, &params.diversity_penalty,
                          &params.no_repeat_ngram_size, &params.repetition_penalty, &params.top_k, &params.min_p,
                          &params.min_tokens, &trace, &callable, &tape))
        return NULL;
    if (!cch_py_tape(cch_py_module_of(object), tape, &params.tape)) return NULL;
    params.trace = trace;
    params.cancel = &self->cancel.set;
    cch_py_call call;
    stop_call stop = {&call, callable};
    cch_beams *beams = NULL;
    cch_error err = {0};
    bool asks = callable != Py_None;
    cch_py_call_begin(&call, &self->cancel, NULL);
    cch_status status =
        cch_beam_search(self->state, &params, asks ? ask_stop : NULL, asks ? &stop : NULL, &beams, &err);
    if (!cch_py_call_end(&call, cch_py_module_of(object), status, &err)) {
        cch_beams_free(beams);
        return NULL;
    }
    PyObject *found = list_of(beams, cch_beams_len(beams), beam_tuple);
    PyObject *nodes = found != NULL ? list_of(beams, cch_beams_trace_len(beams), node_tuple) : NULL;
    cch_beams_free(beams);
    if (nodes == NULL) {
        Py_XDECREF(found);
        return NULL;
    }
    return Py_BuildValue("(NN)", found, nodes);
}
