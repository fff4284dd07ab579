/* SPDX-License-Identifier: Apache-2.0 */
/* ensconce._core.Enclave: what the core knows of one enclave, and the way to its Python callbacks. */
#include "python.h"

#include <errno.h>
#include <stdlib.h>

typedef struct {
    PyObject_HEAD
    struct core_enclave *enclave; /* NULL once closed */
    MemoryObject *memory;
    PyObject *leaf, *fault;
} EnclaveObject;

/* The answer of the leaf callback: None, or (vector, error_code, address). */
static int read_answer(PyObject *answer, struct core_frame *f) {
    unsigned long vector, error_code;
    unsigned long long address;

    if (answer == Py_None) {
        f->gpr[CORE_RIP] += 3;
        return CORE_DONE;
    }
    if (!PyTuple_Check(answer)) {
        PyErr_SetString(PyExc_TypeError,
                        "a leaf callback returns None or (vector, error_code, address)");
        return CORE_ABORT;
    }
    if (!PyArg_ParseTuple(answer, "kkK", &vector, &error_code, &address))
        return CORE_ABORT;
    f->vector = (uint32_t)vector;
    f->error_code = (uint32_t)error_code;
    f->address = address;
    return CORE_FAULT;
}

static int serve_leaf(struct core_frame *f) {
    EnclaveObject *self = f->enclave->owner;
    int result = CORE_ABORT;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *frame = frame_new(state_of((PyObject *)self), (PyObject *)self, f);

    if (frame) {
        PyObject *answer = PyObject_CallFunctionObjArgs(self->leaf, frame, NULL);
        frame_end(frame);
        Py_DECREF(frame);
        if (answer) {
            result = read_answer(answer, f);
            Py_DECREF(answer);
        }
    }
    PyGILState_Release(gil);
    return result;
}

static int serve_fault(struct core_enclave *enclave, uint64_t address, uint32_t *error_code,
                       uint32_t function) {
    EnclaveObject *self = enclave->owner;
    int result = CORE_GIVE_UP;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *answer = PyObject_CallFunction(self->fault, "KII", (unsigned long long)address,
                                             *error_code, function);

    if (answer == Py_True) {
        result = CORE_RETRY;
    } else if (answer == Py_False) {
        result = CORE_DELIVER;
    } else if (answer) {
        uint64_t code;
        if (to_limited(answer, "the fault callback's error code", UINT16_MAX, &code)) {
            *error_code = (uint32_t)code;
            result = CORE_DELIVER;
        }
    }
    Py_XDECREF(answer);
    PyGILState_Release(gil);
    return result;
}

static const struct core_operations operations = {.leaf = serve_leaf, .fault = serve_fault};

static bool are_callable(PyObject *leaf, PyObject *fault) {
    if (PyCallable_Check(leaf) && PyCallable_Check(fault))
        return true;
    PyErr_SetString(PyExc_TypeError, "leaf and fault must be callable");
    return false;
}

static PyObject *enclave_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"memory", "ssa_frame_size", "misc_select", "attributes",
                            "xfrm",   "leaf",           "fault",       NULL};
    unsigned int ssa_frame_size, misc_select;
    unsigned long long attributes, xfrm;
    PyObject *memory, *leaf, *fault;
    ModuleState *state = PyType_GetModuleState(type);

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!IIKKOO:Enclave", names, state->memory,
                                     &memory, &ssa_frame_size, &misc_select, &attributes, &xfrm,
                                     &leaf, &fault) ||
        !are_callable(leaf, fault) || !start_core())
        return NULL;
    core_signals_refresh();
    MemoryObject *of = (MemoryObject *)memory;
    if (of->closed || of->in_use || of->memory.generation != core_generation)
        return PyErr_Format(PyExc_ValueError, "the Memory is %s: make a new one",
                            of->in_use ? "another enclave's" : "closed");
    EnclaveObject *self = (EnclaveObject *)PyType_GenericNew(type, NULL, NULL);
    struct core_enclave *enclave = self ? malloc(sizeof *enclave) : NULL;
    if (!enclave) {
        Py_XDECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    int error = core_enclave_open(enclave, &of->memory, ssa_frame_size, misc_select, attributes,
                                  xfrm, &operations, self);
    if (error) {
        free(enclave);
        Py_DECREF(self);
        return PyErr_Format(PyExc_ValueError,
                            "an SSA frame of %u pages has no room for the state of XFRM %p "
                            "and MISCSELECT 0x%x: make it larger",
                            ssa_frame_size, HEX(xfrm), misc_select);
    }
    Py_INCREF(leaf);
    Py_INCREF(fault);
    Py_INCREF(memory);
    self->leaf = leaf;
    self->fault = fault;
    self->memory = of;
    self->enclave = enclave;
    of->in_use = true;
    return (PyObject *)self;
}

static int shut(EnclaveObject *self) {
    if (!self->enclave)
        return 0;
    int error = core_enclave_close(self->enclave);
    if (error)
        return error;
    free(self->enclave);
    self->enclave = NULL;
    self->memory->in_use = false;
    return 0;
}

static int enclave_traverse(PyObject *object, visitproc visit, void *arg) {
    EnclaveObject *self = (EnclaveObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->leaf);
    Py_VISIT(self->fault);
    Py_VISIT(self->memory);
    return 0;
}

static int enclave_clear(PyObject *object) {
    EnclaveObject *self = (EnclaveObject *)object;
    if (shut(self) != 0)
        return 0; /* a thread is inside, and needs all of it */
    Py_CLEAR(self->leaf);
    Py_CLEAR(self->fault);
    Py_CLEAR(self->memory);
    return 0;
}

static void enclave_dealloc(PyObject *object) {
    EnclaveObject *self = (EnclaveObject *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    enclave_clear(object);
    if (self->enclave)
        return; /* a thread is inside without a reference: better to leak than to pull it away */
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static struct core_enclave *live(PyObject *object) {
    struct core_enclave *enclave = ((EnclaveObject *)object)->enclave;
    if (!enclave)
        PyErr_SetString(PyExc_ValueError, "this Enclave is closed");
    return enclave;
}

static PyObject *answer_tcs(int error, unsigned long long offset) {
    switch (error) {
    case 0:
        Py_RETURN_NONE;
    case -EBUSY:
        return raise_project_error("EnclaveError", "the TCS at offset %p is in use: wait until "
                                                   "its thread has left",
                                   HEX(offset));
    case -ENOENT:
        return PyErr_Format(PyExc_ValueError, "there is no TCS at offset %p: set_tcs() makes one",
                            HEX(offset));
    case -ERANGE:
        return PyErr_Format(PyExc_ValueError, "the SSA frame for that CSSA of the TCS at offset "
                                              "%p lies outside the enclave",
                            HEX(offset));
    case -EINVAL:
        return PyErr_Format(PyExc_ValueError, "offset %p is not that of a page of the enclave",
                            HEX(offset));
    default:
        return raise_errno(error);
    }
}

static PyObject *enclave_set_tcs(PyObject *object, PyObject *args, PyObject *keywords) {
    static char *names[] = {"offset", "flags",  "ossa",    "nssa",    "cssa",
                            "oentry", "ofsbase", "ogsbase", NULL};
    struct core_enclave *enclave = live(object);
    unsigned long long offset, flags, ossa, oentry, ofsbase, ogsbase;
    unsigned int nssa, cssa;

    if (!enclave ||
        !PyArg_ParseTupleAndKeywords(args, keywords, "K$KKIIKKK:set_tcs", names, &offset, &flags,
                                     &ossa, &nssa, &cssa, &oentry, &ofsbase, &ogsbase))
        return NULL;
    struct core_tcs tcs = {.offset = offset,
                           .flags = flags,
                           .ossa = ossa,
                           .oentry = oentry,
                           .ofsbase = ofsbase,
                           .ogsbase = ogsbase,
                           .cssa = cssa,
                           .nssa = nssa};
    return answer_tcs(core_tcs_set(enclave, &tcs), offset);
}

static PyObject *enclave_block_tcs(PyObject *object, PyObject *args) {
    struct core_enclave *enclave = live(object);
    unsigned long long offset;
    int blocked;

    if (!enclave || !PyArg_ParseTuple(args, "Kp:block_tcs", &offset, &blocked))
        return NULL;
    return answer_tcs(core_tcs_block(enclave, offset, blocked), offset);
}

static PyObject *enclave_remove_tcs(PyObject *object, PyObject *args) {
    struct core_enclave *enclave = live(object);
    unsigned long long offset;

    if (!enclave || !PyArg_ParseTuple(args, "K:remove_tcs", &offset))
        return NULL;
    return answer_tcs(core_tcs_remove(enclave, offset), offset);
}

static PyObject *enclave_tcs(PyObject *object, PyObject *args) {
    struct core_enclave *enclave = live(object);
    unsigned long long offset;
    struct core_tcs tcs;

    if (!enclave || !PyArg_ParseTuple(args, "K:tcs", &offset))
        return NULL;
    int error = core_tcs_get(enclave, offset, &tcs);
    if (error)
        return answer_tcs(error, offset);
    return Py_BuildValue("INK", tcs.cssa, PyBool_FromLong(tcs.state != CORE_TCS_IDLE),
                         (unsigned long long)tcs.epoch);
}

static PyObject *enclave_set_cssa(PyObject *object, PyObject *args) {
    struct core_enclave *enclave = live(object);
    unsigned long long offset;
    unsigned int cssa;

    if (!enclave || !PyArg_ParseTuple(args, "KI:set_cssa", &offset, &cssa))
        return NULL;
    return answer_tcs(core_tcs_set_cssa(enclave, offset, cssa), offset);
}

static PyObject *enclave_advance_epoch(PyObject *object, PyObject *unused) {
    struct core_enclave *enclave = live(object);
    (void)unused;
    return enclave ? PyLong_FromUnsignedLongLong(atomic_fetch_add(&enclave->epoch, 1) + 1) : NULL;
}

static PyObject *enclave_inside_before(PyObject *object, PyObject *args) {
    struct core_enclave *enclave = live(object);
    unsigned long long epoch;

    if (!enclave || !PyArg_ParseTuple(args, "K:inside_before", &epoch))
        return NULL;
    return PyLong_FromUnsignedLong(core_enclave_inside_before(enclave, epoch));
}

static PyObject *enclave_kick(PyObject *object, PyObject *unused) {
    struct core_enclave *enclave = live(object);
    (void)unused;
    if (!enclave)
        return NULL;
    enclave->users++; /* so that nobody closes it meanwhile */
    Py_BEGIN_ALLOW_THREADS
    core_enclave_kick(enclave);
    Py_END_ALLOW_THREADS
    core_enclave_release(enclave);
    Py_RETURN_NONE;
}

static PyObject *enclave_enable(PyObject *object, PyObject *args) {
    struct core_enclave *enclave = live(object);
    int on;

    if (!enclave || !PyArg_ParseTuple(args, "p:enable", &on))
        return NULL;
    enclave->enabled = on;
    Py_RETURN_NONE;
}

static PyObject *enclave_close(PyObject *object, PyObject *unused) {
    (void)unused;
    if (shut((EnclaveObject *)object) != 0)
        return raise_project_error("EnclaveError", "a thread is inside the enclave: wait until it "
                                                   "has left");
    Py_RETURN_NONE;
}

static PyObject *enclave_epoch(PyObject *object, void *unused) {
    struct core_enclave *enclave = live(object);
    (void)unused;
    return enclave ? PyLong_FromUnsignedLongLong(enclave->epoch) : NULL;
}

static PyObject *enclave_memory(PyObject *object, void *unused) {
    PyObject *memory = (PyObject *)((EnclaveObject *)object)->memory;
    (void)unused;
    Py_INCREF(memory);
    return memory;
}

static PyMethodDef enclave_methods[] = {
    {"set_tcs", (PyCFunction)(void (*)(void))enclave_set_tcs, METH_VARARGS | METH_KEYWORDS,
     "Add a TCS, or replace one that is idle."},
    {"block_tcs", enclave_block_tcs, METH_VARARGS, "Make entries by a TCS fail, or not."},
    {"remove_tcs", enclave_remove_tcs, METH_VARARGS, "Forget an idle TCS."},
    {"tcs", enclave_tcs, METH_VARARGS, "Return (cssa, busy, epoch of the last entry) of a TCS."},
    {"set_cssa", enclave_set_cssa, METH_VARARGS, "Set a TCS's current SSA frame."},
    {"advance_epoch", enclave_advance_epoch, METH_NOARGS, "Start an epoch and return its number."},
    {"inside_before", enclave_inside_before, METH_VARARGS,
     "Count the threads that run inside since before an epoch."},
    {"kick", enclave_kick, METH_NOARGS, "Force an AEX in every thread that runs inside."},
    {"enable", enclave_enable, METH_VARARGS, "Allow entries, or not."},
    {"close", enclave_close, METH_NOARGS, "Forget the enclave; refused while a thread is inside."},
    {0},
};

static PyGetSetDef enclave_getset[] = {
    {"epoch", enclave_epoch, NULL, NULL, NULL},
    {"memory", enclave_memory, NULL, NULL, NULL},
    {0},
};

static PyType_Slot enclave_slots[] = {
    {Py_tp_doc, "What the core must know of one enclave to run its threads."},
    {Py_tp_new, enclave_new},
    {Py_tp_dealloc, enclave_dealloc},
    {Py_tp_traverse, enclave_traverse},
    {Py_tp_clear, enclave_clear},
    {Py_tp_methods, enclave_methods},
    {Py_tp_getset, enclave_getset},
    {0},
};

PyType_Spec enclave_spec = {
    .name = "ensconce._core.Enclave",
    .basicsize = sizeof(EnclaveObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = enclave_slots,
};
