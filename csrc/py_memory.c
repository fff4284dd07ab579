/* SPDX-License-Identifier: Apache-2.0 */
/* ensconce._core.Memory and the buffers over it. */
#include "python.h"

#include <errno.h>
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    MemoryObject *memory;
    uint8_t *start;
    Py_ssize_t length;
} ViewObject;

static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"base", "size", NULL};
    unsigned long long base, size;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "KK:Memory", names, &base, &size))
        return NULL;
    MemoryObject *self = (MemoryObject *)PyType_GenericNew(type, NULL, NULL);
    if (!self)
        return NULL;
    int error = core_memory_open(&self->memory, base, size);
    if (error == 0)
        return (PyObject *)self;
    Py_DECREF(self);
    if (error == -EINVAL)
        return PyErr_Format(PyExc_ValueError,
                            "base %p and size %p must be multiples of 4096, and what "
                            "reserve() gave",
                            HEX(base), HEX(size));
    return raise_errno(error);
}

static void close_if_unused(MemoryObject *self) {
    if (self->closed && self->views == 0)
        core_memory_close(&self->memory);
}

static void memory_dealloc(PyObject *object) {
    MemoryObject *self = (MemoryObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->closed = true;
    close_if_unused(self);
    PyObject_Free(object);
    Py_DECREF(type);
}

static bool is_open(const MemoryObject *self) {
    if (self->closed) {
        PyErr_SetString(PyExc_ValueError, "this Memory is closed");
        return false;
    }
    if (self->memory.generation != core_generation) {
        raise_project_error("EnclaveLost", "enclave memory stays with the process that made it, "
                                           "and this is a fork of it: load the enclave again");
        return false;
    }
    return true;
}

static PyObject *outside(const MemoryObject *self, unsigned long long offset,
                         unsigned long long length) {
    return PyErr_Format(PyExc_ValueError,
                        "offset %p and length %p must be pages within the enclave's "
                        "%p bytes",
                        HEX(offset), HEX(length), HEX(self->memory.size));
}

static PyObject *memory_protect(PyObject *object, PyObject *args) {
    MemoryObject *self = (MemoryObject *)object;
    unsigned long long offset, length;
    int protection, error;

    if (!PyArg_ParseTuple(args, "KKi:protect", &offset, &length, &protection) || !is_open(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = core_memory_protect(&self->memory, offset, length, protection);
    Py_END_ALLOW_THREADS
    if (error == -EINVAL)
        return outside(self, offset, length);
    if (error)
        return raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *memory_discard(PyObject *object, PyObject *args) {
    MemoryObject *self = (MemoryObject *)object;
    unsigned long long offset, length;
    int error;

    if (!PyArg_ParseTuple(args, "KK:discard", &offset, &length) || !is_open(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = core_memory_discard(&self->memory, offset, length);
    Py_END_ALLOW_THREADS
    if (error == -EINVAL)
        return outside(self, offset, length);
    if (error)
        return raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *memory_alias_view(PyObject *object, PyObject *args) {
    MemoryObject *self = (MemoryObject *)object;
    unsigned long long offset, length;

    if (!PyArg_ParseTuple(args, "KK:alias_view", &offset, &length) || !is_open(self))
        return NULL;
    if (offset > self->memory.size || length > self->memory.size - offset)
        return PyErr_Format(PyExc_ValueError,
                            "offset %p and length %p must lie within the enclave's "
                            "%p bytes",
                            HEX(offset), HEX(length), HEX(self->memory.size));
    ViewObject *view = (ViewObject *)PyType_GenericNew(state_of(object)->view, NULL, NULL);
    if (!view)
        return NULL;
    Py_INCREF(object);
    self->views++;
    view->memory = self;
    view->start = self->memory.alias + offset;
    view->length = (Py_ssize_t)length;
    PyObject *result = PyMemoryView_FromObject((PyObject *)view);
    Py_DECREF(view);
    return result;
}

static PyObject *memory_close(PyObject *object, PyObject *unused) {
    MemoryObject *self = (MemoryObject *)object;

    (void)unused;
    if (self->in_use)
        return raise_project_error("EnclaveError", "this memory belongs to an open enclave: close "
                                                   "the enclave first");
    if (!self->closed) {
        self->closed = true;
        core_memory_unmap(&self->memory);
        if (self->views && self->memory.generation == core_generation) /* not a parent's file */
            core_memory_discard(&self->memory, 0, self->memory.size);
    }
    close_if_unused(self);
    Py_RETURN_NONE;
}

static PyObject *memory_fd(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromLong(((MemoryObject *)object)->memory.fd);
}

static PyObject *memory_alias(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromVoidPtr(((MemoryObject *)object)->memory.alias);
}

static PyMethodDef memory_methods[] = {
    {"protect", memory_protect, METH_VARARGS, "Set what the enclave may do with its pages."},
    {"discard", memory_discard, METH_VARARGS, "Give pages back to the host; they read as zero."},
    {"alias_view", memory_alias_view, METH_VARARGS, "Return the bytes as the processor has them."},
    {"close", memory_close, METH_NOARGS, "Free the memory; ELRANGE stays reserved."},
    {0},
};

static PyMemberDef memory_members[] = {
    {"base", T_ULONGLONG, offsetof(MemoryObject, memory.base), READONLY, NULL},
    {"size", T_ULONGLONG, offsetof(MemoryObject, memory.size), READONLY, NULL},
    {0},
};

static PyGetSetDef memory_getset[] = {
    {"fd", memory_fd, NULL, NULL, NULL},
    {"alias", memory_alias, NULL, NULL, NULL},
    {0},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, "The memory of one enclave, mapped at ELRANGE and as an alias for the processor."},
    {Py_tp_new, memory_new},
    {Py_tp_dealloc, memory_dealloc},
    {Py_tp_methods, memory_methods},
    {Py_tp_members, memory_members},
    {Py_tp_getset, memory_getset},
    {0},
};

PyType_Spec memory_spec = {
    .name = "ensconce._core.Memory",
    .basicsize = sizeof(MemoryObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = memory_slots,
};

static int view_getbuffer(PyObject *object, Py_buffer *buffer, int flags) {
    ViewObject *self = (ViewObject *)object;
    return PyBuffer_FillInfo(buffer, object, self->start, self->length, 0, flags);
}

static void view_dealloc(PyObject *object) {
    ViewObject *self = (ViewObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    MemoryObject *memory = self->memory;

    PyObject_Free(object);
    Py_DECREF(type);
    if (memory) {
        memory->views--;
        close_if_unused(memory);
        Py_DECREF(memory);
    }
}

static PyType_Slot view_slots[] = {
    {Py_tp_doc, "What a memoryview of enclave memory holds on to."},
    {Py_tp_dealloc, view_dealloc},
    {Py_bf_getbuffer, view_getbuffer},
    {0},
};

PyType_Spec view_spec = {
    .name = "ensconce._core._View",
    .basicsize = sizeof(ViewObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = view_slots,
};
