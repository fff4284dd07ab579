/* SPDX-License-Identifier: Apache-2.0 */
/* The Python side of the core: what its files share. */
#ifndef ENSCONCE_PYTHON_H
#define ENSCONCE_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

typedef struct {
    PyObject_HEAD
    struct core_memory memory;
    Py_ssize_t views; /* exported; the alias stays mapped until the last is gone */
    bool in_use; /* an Enclave is open on it */
    bool closed;
} MemoryObject;

typedef struct {
    PyTypeObject *memory, *view, *enclave, *frame, *call;
} ModuleState;

extern PyType_Spec memory_spec, view_spec, enclave_spec, frame_spec, call_spec;

/* A number for %p, which is how PyErr_Format writes 64 bits in hexadecimal. */
#define HEX(number) ((void *)(uintptr_t)(number))

/* The state of the module that an object of one of its types belongs to. */
ModuleState *state_of(PyObject *object);
/* Start the core, or raise DeviceError: false. */
bool start_core(void);
/* Raise ensconce.errors.<name>, OSError, or MemoryError; each returns NULL. */
PyObject *raise_project_error(const char *name, const char *format, ...);
PyObject *raise_errno(int error);
/* A register's value: a number that may be negative, modulo 2**64. False: an error is set. */
bool to_u64(PyObject *value, uint64_t *out);
/* A number from 0 to `most`. False: an error is set. */
bool to_limited(PyObject *value, const char *name, uint64_t most, uint64_t *out);
PyObject *frame_new(ModuleState *state, PyObject *enclave, struct core_frame *f);
void frame_end(PyObject *frame);
PyObject *fill_measurement(PyObject *module, PyObject *args, PyObject *keywords);

#endif
