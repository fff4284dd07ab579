/* SPDX-License-Identifier: Apache-2.0 */
/* ensconce._core.Call: enter an enclave from Python. */
#include "python.h"

#include <errno.h>
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    struct core_call call;
} CallObject;

/* A signal handler of the host ran: it may have left a Python one to be run, which may raise. */
static int check_signals(void *unused) {
    (void)unused;
    PyGILState_STATE gil = PyGILState_Ensure();
    int raised = PyErr_CheckSignals();
    PyGILState_Release(gil);
    return raised;
}

static PyObject *call_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"enter", "stack_size", NULL};
    unsigned long long enter, stack_size = 1 << 20;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "K|K:Call", names, &enter, &stack_size))
        return NULL;
    if (enter == 0)
        return PyErr_Format(PyExc_ValueError, "there is no enter function at address 0: this "
                                              "kernel has none, or the address is wrong");
    if (!start_core())
        return NULL;
    core_signals_refresh();
    CallObject *self = (CallObject *)PyType_GenericNew(type, NULL, NULL);
    if (!self)
        return NULL;
    int error = core_call_open(&self->call, enter, stack_size);
    if (error) {
        Py_DECREF(self);
        if (error == -EINVAL)
            return PyErr_Format(PyExc_ValueError,
                                "stack_size %llu must be from 16384 bytes to 4 GiB", stack_size);
        return raise_errno(error);
    }
    self->call.interrupted = check_signals;
    return (PyObject *)self;
}

static void call_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    core_call_close(&((CallObject *)object)->call);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *raise_refusal(const CallObject *self, int error, uint64_t function, uint64_t rsp) {
    switch (error) {
    case -EBUSY:
        return raise_project_error("EnclaveError", "this Call is in use, by another thread or by an "
                                                   "entry that has not returned: make another one");
    case -ERANGE:
        return PyErr_Format(PyExc_ValueError,
                            "rsp %p must lie in this Call's stack, %p to %p, with a "
                            "page to spare",
                            HEX(rsp), HEX(self->call.low), HEX(self->call.high));
    case -EINVAL:
        return PyErr_Format(PyExc_ValueError,
                            "the enter function refused function %llu: it takes 2, EENTER, and "
                            "3, ERESUME",
                            (unsigned long long)function);
    case -ENODEV:
        return raise_project_error("EnclaveLost", "this process is a fork of the one that has the "
                                                  "enclave: load it again");
    default:
        return raise_errno(error);
    }
}

/* Positional and keyword arguments by hand: this is the fast path of every ECALL. */
static bool read_arguments(PyObject *const *args, Py_ssize_t count, PyObject *names,
                           uint64_t values[5]) {
    static const char *const known[5] = {"function", "tcs", "rdi", "rsi", "rsp"};
    Py_ssize_t keywords = names ? PyTuple_Size(names) : 0;
    unsigned given = 0;

    if (count > 5) {
        PyErr_Format(PyExc_TypeError, "enter() takes 5 arguments, not %zd", count);
        return false;
    }
    for (Py_ssize_t i = 0; i < count + keywords; i++) {
        Py_ssize_t at = i;
        if (i >= count) {
            PyObject *name = PyTuple_GetItem(names, i - count);
            for (at = 0; at < 5; at++)
                if (PyUnicode_CompareWithASCIIString(name, known[at]) == 0)
                    break;
            if (at == 5 || given >> at & 1) {
                PyErr_Format(PyExc_TypeError, "enter() got an unknown or repeated argument %R",
                             name);
                return false;
            }
        }
        if (!to_u64(args[i], &values[at]))
            return false;
        given |= 1u << at;
    }
    if ((given & 3) == 3)
        return true;
    PyErr_SetString(PyExc_TypeError, "enter() needs function and tcs");
    return false;
}

static PyObject *call_enter(PyObject *object, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    CallObject *self = (CallObject *)object;
    uint64_t values[5] = {0};
    int result;

    if (!read_arguments(args, count, names, values))
        return NULL;
    if (self->call.enter == (uint64_t)core_enter_enclave)
        core_thread_attend(); /* first: what comes after it is seen by the core */
    if (PyErr_CheckSignals() != 0)
        return NULL;
    uint32_t function = values[0] > UINT32_MAX ? UINT32_MAX : (uint32_t)values[0];
    Py_BEGIN_ALLOW_THREADS
    result = core_call_enter(&self->call, function, values[1], values[2], values[3], values[4]);
    Py_END_ALLOW_THREADS
    if (result < 0 && PyErr_Occurred())
        return NULL;
    if (result < 0)
        return raise_refusal(self, result, values[0], values[4]);
    return PyLong_FromLong(result);
}

static PyObject *call_stack(PyObject *object, void *unused) {
    const struct core_call *call = &((CallObject *)object)->call;
    (void)unused;
    return Py_BuildValue("KK", (unsigned long long)call->low, (unsigned long long)call->high);
}

static PyMethodDef call_methods[] = {
    {"enter", (PyCFunction)(void (*)(void))call_enter, METH_FASTCALL | METH_KEYWORDS,
     "Enter an enclave; 0 when it exited, 1 when it faulted."},
    {0},
};

static PyMemberDef call_members[] = {
    {"rdi", T_ULONGLONG, offsetof(CallObject, call.rdi), READONLY, NULL},
    {"rsi", T_ULONGLONG, offsetof(CallObject, call.rsi), READONLY, NULL},
    {"rdx", T_ULONGLONG, offsetof(CallObject, call.rdx), READONLY, NULL},
    {"r8", T_ULONGLONG, offsetof(CallObject, call.r8), READONLY, NULL},
    {"r9", T_ULONGLONG, offsetof(CallObject, call.r9), READONLY, NULL},
    {"rsp", T_ULONGLONG, offsetof(CallObject, call.rsp), READONLY, NULL},
    {"function", T_UINT, offsetof(CallObject, call.run.function), READONLY, NULL},
    {"vector", T_USHORT, offsetof(CallObject, call.run.vector), READONLY, NULL},
    {"error_code", T_USHORT, offsetof(CallObject, call.run.error_code), READONLY, NULL},
    {"address", T_ULONGLONG, offsetof(CallObject, call.run.address), READONLY, NULL},
    {0},
};

static PyGetSetDef call_getset[] = {
    {"stack", call_stack, NULL, NULL, NULL},
    {0},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, "A chain of entries on one untrusted stack."},
    {Py_tp_new, call_new},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {Py_tp_members, call_members},
    {Py_tp_getset, call_getset},
    {0},
};

PyType_Spec call_spec = {
    .name = "ensconce._core.Call",
    .basicsize = sizeof(CallObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = call_slots,
};
