/* pycommon - what the files of the binding share.
 *
 * The binding translates and nothing more: it checks types, drops the GIL around every call that computes or reads
 * files, and turns a cch_error into the exception of that name.  Policy (defaults, stop strings, persistence) is
 * Python's.  It includes Python.h and cacher.h only.
 *
 * Rules
 *   1. The types cannot be subclassed, so Py_TYPE(self) always leads to this module's state.
 *   2. No object of the binding refers to another Python object, so none needs the cycle collector: the core counts who
 *      needs a model, a state or a tokenizer.
 *   3. Before the GIL goes, everything is a C value or held by a reference; while it is gone, no Python object is read.
 *   4. Model, State, Batch and Index serve only the process that made them (py_fork.c).
 *   5. A cancel flag belongs to the object that computes.  Ctrl-C sets it from the signal handler (py_call.c).
 * Comments of helpers that give a PyObject say "new"; nothing here gives or keeps a borrowed one.
 */
#ifndef CCH_PYTHON_PYCOMMON_H
#define CCH_PYTHON_PYCOMMON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>

#include "include/cacher.h"

#define CCH_PY_STATUSES 16 /* entries of CCH_STATUS_LIST */

typedef struct cch_py_module {
    PyObject *errors[CCH_PY_STATUSES]; /* exception class of each status, owned */
    PyObject *tokenizer_error;         /* owned: a damaged tokenizer, told apart from a damaged model */
    PyObject *model_error;             /* owned: a model that cannot be used here */
    PyObject *index_error;             /* owned: likewise an index */
    PyObject *index_file_error;        /* owned: a damaged index file */
    PyTypeObject *array_type, *tokenizer_type, *decoder_type, *model_type, *state_type, *batch_type,
        *index_type; /* owned */
} cch_py_module;

/* The module state behind an object of one of our types. */
static inline cch_py_module *cch_py_module_of(PyObject *self) {
    return PyType_GetModuleState(Py_TYPE(self));
}

/* ---- py_convert.c: errors and arguments ---- */

/* Raises the exception for `status` with the message, code and position of *err.  Always NULL. */
PyObject *cch_py_raise(const cch_py_module *module, cch_status status, const cch_error *err);
/* The same with another class for E_FORMAT. */
PyObject *cch_py_raise_as(const cch_py_module *module, PyObject *format_error, cch_status status, const cch_error *err);

/* One token id: any integer but a bool.  0, or -1 with an exception (TypeError; TokenIdError for integers that no int32
 * holds). */
int cch_py_id_get(const cch_py_module *module, PyObject *object, int32_t *out);

/* Token ids from Python: a buffer of int32 or int64 (an Array, a NumPy array), or any iterable of integers. */
typedef struct cch_py_ids {
    const int32_t *ids;
    Py_ssize_t n;
    int32_t *owned;   /* NULL when ids point into `view` */
    Py_buffer view;   /* view.obj is NULL when there is none */
} cch_py_ids;
/* 0, or -1 with the exception of cch_py_id_get. */
int cch_py_ids_get(const cch_py_module *module, PyObject *object, cch_py_ids *out);
void cch_py_ids_release(cch_py_ids *ids);

/* UTF-8 of a str, valid while the str lives; NULL with EncodingError for lone surrogates, TypeError for non-strings. */
const char *cch_py_utf8(const cch_py_module *module, PyObject *text, Py_ssize_t *out_len);
/* The same; messages call it `name`. */
const char *cch_py_utf8_of(const cch_py_module *module, PyObject *text, const char *name, Py_ssize_t *out_len);

/* Whether the state has positions [first, first + n); else false with ParameterError.  Asked before memory is taken for
 * a result, so that a wild range takes none. */
bool cch_py_range(const cch_py_module *module, const cch_state *state, int first, int n);

/* The core's state of a State, NULL for None; else false with TypeError.  Borrowed. */
bool cch_py_tape(const cch_py_module *module, PyObject *object, cch_state **out);

/* (temperature, top_k, top_p, min_p, repetition_penalty, no_repeat_ngram_size, seed, stream, min_tokens, step,
 * temperature_end, schedule_steps, adaptive_top_p, adaptive_top_k, splitmix).  0 or -1. */
int cch_py_sampling(PyObject *tuple, cch_sampling *out);

/* A one-dimensional C-contiguous buffer of float32 ("f") or float64 ("d").  0 or -1 with TypeError; release with
 * PyBuffer_Release. */
int cch_py_numbers(PyObject *object, const char *format, Py_buffer *view);

/* ---- py_call.c: calls that run without the GIL ---- */

/* Under the GIL, but for the computing thread, which only reads `set`, and the signal handler. */
typedef struct cch_py_flag {
    volatile int set;
    int calls; /* that run with it; one that the core refuses with E_BUSY must not clear it under the other */
} cch_py_flag;

typedef struct cch_py_call {
    PyThreadState *thread;    /* ours while the GIL is gone */
    cch_py_flag *cancel;      /* borrowed from the object that computes */
    PyObject *progress;       /* borrowed from the caller's arguments; NULL when there is none */
    bool failed;              /* a callback raised: its exception is set */
    bool watching;            /* our SIGINT handler is in place */
} cch_py_call;

/* Clears *cancel if no other call runs with it, puts Ctrl-C on it when this is the main thread, and drops the GIL.
 * progress: borrowed, None for none. */
void cch_py_call_begin(cch_py_call *call, cch_py_flag *cancel, PyObject *progress);
/* Takes the GIL back; every begin needs its end.  True when `status` is CCH_OK; else false with the exception: a
 * callback's own, the one of the signal's handler (KeyboardInterrupt), or the status's. */
bool cch_py_call_end(cch_py_call *call, const cch_py_module *module, cch_status status, const cch_error *err);
/* For callbacks of the core in the calling thread: the GIL is held between enter and leave.  A callback that raised
 * says so in leave; the computation is then cancelled. */
void cch_py_call_enter(cch_py_call *call);
void cch_py_call_leave(cch_py_call *call, bool raised);
/* Evaluation options with the call's cancel flag and progress callback. */
cch_eval_options cch_py_eval_options(cch_py_call *call, int32_t chunk_tokens, int32_t store_top_k);

/* ---- py_checkpoint.c ---- */

PyObject *cch_py_read_checkpoint(PyObject *self, PyObject *path);

/* ---- py_array.c ---- */

/* New Array of zeroes, 1 to 3 dimensions, type 'f' (float32), 'd' (float64), 'i' (int32) or 'l' (int64); *out_data is
 * its memory.
 * NULL with MemoryError. */
PyObject *cch_py_array_new(const cch_py_module *module, char type, int n_dims, const Py_ssize_t *shape, void *out_data);

/* ---- py_fork.c: objects that a forked process must not use ---- */

typedef struct cch_py_owned {
    PyObject_HEAD
    unsigned forks; /* of this process when the object was made */
} cch_py_owned;

/* Counts forks from now on; once is enough. */
void cch_py_fork_watch(void);
/* Notes whose the object is. */
void cch_py_owned_init(cch_py_owned *self);
/* False in a child of the process that made the object: its core part must not even be freed. */
bool cch_py_owned_here(const cch_py_owned *self);
/* Attribute lookup: ModelError in a child. */
PyObject *cch_py_owned_getattro(PyObject *object, PyObject *name);

/* ---- one file per type ---- */

typedef struct cch_py_model {
    cch_py_owned owned;
    cch_model *model; /* owned reference */
} cch_py_model;

typedef struct cch_py_state {
    cch_py_owned owned;
    cch_state *state; /* owned */
    cch_py_flag cancel;
} cch_py_state;

extern PyType_Spec cch_py_array_spec, cch_py_tokenizer_spec, cch_py_decoder_spec, cch_py_model_spec, cch_py_state_spec,
    cch_py_batch_spec, cch_py_index_spec;

/* New Tokenizer around a reference that is taken over, also on failure. */
PyObject *cch_py_tokenizer_take(const cch_py_module *module, cch_tokenizer *tok);
/* New State around a state that is taken over, also on failure. */
PyObject *cch_py_state_take(const cch_py_module *module, cch_state *state);

/* ((id, probability), ...) of a trace; py_batch.c. */
PyObject *cch_py_trace_top(const cch_trace *trace);

/* Methods of State that live in py_scores.c, py_inspect.c and py_beam.c; documented in cacher/_core.pyi. */
PyObject *cch_py_state_scores(PyObject *self, PyObject *args);
PyObject *cch_py_state_restore_scores(PyObject *self, PyObject *args);
PyObject *cch_py_state_lse(PyObject *self, PyObject *args);
PyObject *cch_py_state_restore_lse(PyObject *self, PyObject *args);
PyObject *cch_py_state_analyze(PyObject *self, PyObject *args);
PyObject *cch_py_state_next_logits(PyObject *self, PyObject *args);
PyObject *cch_py_state_logits(PyObject *self, PyObject *args);
PyObject *cch_py_state_classify(PyObject *self, PyObject *args);
PyObject *cch_py_state_attention(PyObject *self, PyObject *args);
PyObject *cch_py_state_attention_layers(PyObject *self, PyObject *args);
PyObject *cch_py_state_hidden(PyObject *self, PyObject *args);
PyObject *cch_py_state_kv(PyObject *self, PyObject *args);
PyObject *cch_py_state_beam(PyObject *self, PyObject *args);

/* Methods of Model that live in py_embed.c. */
PyObject *cch_py_model_embed(PyObject *self, PyObject *args);
PyObject *cch_py_model_embed_tokens(PyObject *self, PyObject *ids);

/* Functions of the module that live in py_sampling.c. */
PyObject *cch_py_distribution(PyObject *module, PyObject *args);
PyObject *cch_py_sample(PyObject *module, PyObject *args);
PyObject *cch_py_sample_traced(PyObject *module, PyObject *args);
PyObject *cch_py_top_logits(PyObject *module, PyObject *args);
PyObject *cch_py_uniform(PyObject *module, PyObject *args);
PyObject *cch_py_splitmix_uniform(PyObject *module, PyObject *args);

#endif
