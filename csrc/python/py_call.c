/* py_call - a computation without the GIL, and Ctrl-C.
 *
 * Python's own SIGINT handler only leaves a note that the interpreter reads when it runs bytecode again: too late for
 * a long forward pass.  So while the main thread computes, our handler stands in front of it: it sets the cancel flag
 * of the object that computes, which the core reads between layers, and then calls Python's.  The call ends with
 * CCH_E_CANCELLED, and PyErr_CheckSignals raises what Python's handler raises.  Other threads never see signals in
 * Python, so the two statics below have one user at a time.
 */
#include "python/pycommon.h"

#include <unistd.h>

static volatile int *volatile interrupt_flag; /* flag of the computation that the main thread runs, else NULL */
static struct sigaction interrupt_next;       /* the handler behind ours */

static void on_interrupt(int number, siginfo_t *info, void *context) {
    volatile int *flag = interrupt_flag;
    if (flag != NULL) *flag = 1;
    if (interrupt_next.sa_flags & SA_SIGINFO) interrupt_next.sa_sigaction(number, info, context);
    else interrupt_next.sa_handler(number);
}

static bool in_main_thread(void) {
    return gettid() == getpid();
}

/* With the default or no action on SIGINT there is nobody to pass the signal to: it is left as it is. */
static void watch(cch_py_call *call) {
    struct sigaction ours;
    if (!in_main_thread() || sigaction(SIGINT, NULL, &interrupt_next) != 0) return;
    if (!(interrupt_next.sa_flags & SA_SIGINFO) &&
        (interrupt_next.sa_handler == SIG_DFL || interrupt_next.sa_handler == SIG_IGN))
        return;
    interrupt_flag = &call->cancel->set;
    ours = interrupt_next;
    ours.sa_flags = (interrupt_next.sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO;
    ours.sa_sigaction = on_interrupt;
    call->watching = sigaction(SIGINT, &ours, NULL) == 0;
}

static void unwatch(cch_py_call *call) {
    if (!call->watching) return;
    sigaction(SIGINT, &interrupt_next, NULL);
    interrupt_flag = NULL;
    call->watching = false;
}

void cch_py_call_begin(cch_py_call *call, cch_py_flag *cancel, PyObject *progress) {
    *call = (cch_py_call){NULL, cancel, progress == Py_None ? NULL : progress, false, false};
    if (cancel->calls++ == 0) cancel->set = 0;
    watch(call);
    call->thread = PyEval_SaveThread();
}

bool cch_py_call_end(cch_py_call *call, const cch_py_module *module, cch_status status, const cch_error *err) {
    PyEval_RestoreThread(call->thread);
    unwatch(call);
    call->cancel->calls--;
    if (call->failed) return false;
    if (status == CCH_OK) return true;
    if (status == CCH_E_CANCELLED && PyErr_CheckSignals() < 0) return false;
    cch_py_raise(module, status, err);
    return false;
}

void cch_py_call_enter(cch_py_call *call) {
    PyEval_RestoreThread(call->thread);
    unwatch(call);
}

void cch_py_call_leave(cch_py_call *call, bool raised) {
    if (!raised && PyErr_CheckSignals() < 0) raised = true;
    if (raised) {
        call->failed = true;
        call->cancel->set = 1;
    } else {
        watch(call);
    }
    call->thread = PyEval_SaveThread();
}

static void report_progress(void *arg, int64_t done, int64_t total) {
    cch_py_call *call = arg;
    if (call->failed) return;
    cch_py_call_enter(call);
    PyObject *result = PyObject_CallFunction(call->progress, "LL", (long long)done, (long long)total);
    Py_XDECREF(result);
    cch_py_call_leave(call, result == NULL);
}

cch_eval_options cch_py_eval_options(cch_py_call *call, int32_t chunk_tokens, int32_t store_top_k) {
    cch_eval_options options = CCH_EVAL_OPTIONS_INIT;
    options.chunk_tokens = chunk_tokens;
    options.store_top_k = store_top_k;
    options.cancel = &call->cancel->set;
    if (call->progress != NULL) {
        options.progress = report_progress;
        options.progress_arg = call;
    }
    return options;
}
