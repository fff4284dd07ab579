/* SPDX-License-Identifier: Apache-2.0 */
/* ensconce._core.Frame: the registers of a thread that executed ENCLU. */
#include "python.h"

typedef struct {
    PyObject_HEAD
    struct core_frame *f; /* NULL once the leaf is done */
    PyObject *enclave;
} FrameObject;

PyObject *frame_new(ModuleState *state, PyObject *enclave, struct core_frame *f) {
    FrameObject *self = (FrameObject *)PyType_GenericNew(state->frame, NULL, NULL);
    if (!self)
        return NULL;
    Py_INCREF(enclave);
    self->enclave = enclave;
    self->f = f;
    return (PyObject *)self;
}

/* The registers are not there any more; the object may be. */
void frame_end(PyObject *frame) {
    ((FrameObject *)frame)->f = NULL;
}

static void frame_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(((FrameObject *)object)->enclave);
    PyObject_Free(object);
    Py_DECREF(type);
}

static struct core_frame *live(PyObject *object) {
    struct core_frame *f = ((FrameObject *)object)->f;
    if (!f)
        PyErr_SetString(PyExc_ValueError, "this Frame's leaf is done: its registers are gone");
    return f;
}

static PyObject *get_register(PyObject *object, void *index) {
    struct core_frame *f = live(object);
    return f ? PyLong_FromUnsignedLongLong(f->gpr[(uintptr_t)index]) : NULL;
}

static int set_register(PyObject *object, PyObject *value, void *index) {
    struct core_frame *f = live(object);
    uint64_t number;

    if (!f)
        return -1;
    if (!value) {
        PyErr_SetString(PyExc_AttributeError, "a register can't be deleted");
        return -1;
    }
    if (!to_u64(value, &number))
        return -1;
    f->gpr[(uintptr_t)index] = number;
    return 0;
}

static PyObject *get_tcs(PyObject *object, void *unused) {
    struct core_frame *f = live(object);
    (void)unused;
    return f ? PyLong_FromUnsignedLongLong(f->tcs_address) : NULL;
}

static PyObject *get_enclave(PyObject *object, void *unused) {
    PyObject *enclave = ((FrameObject *)object)->enclave;
    (void)unused;
    Py_INCREF(enclave);
    return enclave;
}

#define REGISTER(name, index) \
    { name, get_register, set_register, NULL, (void *)(uintptr_t)(index) }

static PyGetSetDef frame_getset[] = {
    REGISTER("rax", CORE_RAX),
    REGISTER("rcx", CORE_RCX),
    REGISTER("rdx", CORE_RDX),
    REGISTER("rbx", CORE_RBX),
    REGISTER("rsp", CORE_RSP),
    REGISTER("rbp", CORE_RBP),
    REGISTER("rsi", CORE_RSI),
    REGISTER("rdi", CORE_RDI),
    REGISTER("r8", CORE_R8),
    REGISTER("r9", CORE_R9),
    REGISTER("r10", CORE_R10),
    REGISTER("r11", CORE_R11),
    REGISTER("r12", CORE_R12),
    REGISTER("r13", CORE_R13),
    REGISTER("r14", CORE_R14),
    REGISTER("r15", CORE_R15),
    REGISTER("rflags", CORE_RFLAGS),
    REGISTER("rip", CORE_RIP),
    {"tcs", get_tcs, NULL, NULL, NULL},
    {"enclave", get_enclave, NULL, NULL, NULL},
    {0},
};

static PyType_Slot frame_slots[] = {
    {Py_tp_doc, "The registers of an enclave thread that executed ENCLU, while it is served."},
    {Py_tp_dealloc, frame_dealloc},
    {Py_tp_getset, frame_getset},
    {0},
};

PyType_Spec frame_spec = {
    .name = "ensconce._core.Frame",
    .basicsize = sizeof(FrameObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = frame_slots,
};
