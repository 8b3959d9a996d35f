/* py_fork - what a forked process may do with the objects of its parent: nothing, and it is told so.
 *
 * fork() copies the memory but only one thread: in the child a model's workers are gone, and a lock that another thread
 * held stays held for ever.  A computation would wait without end, and so would freeing the model.  So a Model, State,
 * Batch or Index belongs to the process that made it: in a child each of its methods raises ModelError (an Index's
 * VectorIndexError), and its deallocation leaves the core's part alone, in pages the child shares with its parent.
 * Tokenizers have no threads and go on.
 */
#include "python/pycommon.h"

#include <pthread.h>

static unsigned forks; /* from the process that imported the module first down to this one */
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void in_child(void) {
    forks++;
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, in_child);
}

void cch_py_fork_watch(void) {
    pthread_once(&watch_once, watch_forks);
}

void cch_py_owned_init(cch_py_owned *self) {
    self->forks = forks;
}

bool cch_py_owned_here(const cch_py_owned *self) {
    return self->forks == forks;
}

PyObject *cch_py_owned_getattro(PyObject *object, PyObject *name) {
    if (cch_py_owned_here((cch_py_owned *)object)) return PyObject_GenericGetAttr(object, name);
    const cch_py_module *module = cch_py_module_of(object);
    const bool is_index = Py_IS_TYPE(object, module->index_type);
    PyErr_Format(is_index ? module->index_error : module->model_error,
                 "the %s before this process was forked, and a forked process has none of its threads: %s it in the "
                 "child, or start children by \"spawn\"",
                 is_index ? "index was made" : "model was opened", is_index ? "make" : "open");
    return NULL;
}
