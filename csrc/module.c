/* SPDX-License-Identifier: Apache-2.0 */
/* ensconce._core: the functions of the module, and its start. */
#include "python.h"

#include <errno.h>
#include <stdarg.h>

ModuleState *state_of(PyObject *object) {
    return PyType_GetModuleState(Py_TYPE(object));
}

PyObject *raise_project_error(const char *name, const char *format, ...) {
    va_list arguments;
    PyObject *errors = PyImport_ImportModule("ensconce.errors");
    PyObject *class = errors ? PyObject_GetAttrString(errors, name) : NULL;

    if (class) {
        va_start(arguments, format);
        PyErr_FormatV(class, format, arguments);
        va_end(arguments);
    }
    Py_XDECREF(class);
    Py_XDECREF(errors);
    return NULL;
}

PyObject *raise_errno(int error) {
    if (error == -ENOMEM)
        return PyErr_NoMemory();
    errno = -error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

bool start_core(void) {
    int error = core_init();
    if (error == 0)
        return true;
    struct core_capabilities found = core_capabilities();
    if (!found.fsgsbase)
        raise_project_error("DeviceError",
                            "this machine lets no program write FS and GS bases, which every "
                            "enclave needs: boot a Linux of 5.9 or later without nofsgsbase on a "
                            "processor with FSGSBASE");
    else if (!found.xsave)
        raise_project_error("DeviceError", "this processor, or its hypervisor, has no XSAVE, "
                                           "which every enclave needs");
    else if (found.shadow_stack)
        raise_project_error("DeviceError", "this process runs with a shadow stack, which the "
                                           "emulated processor can't keep: start it without");
    else
        raise_project_error("DeviceError", "the emulated processor can't start: errno %d", -error);
    return false;
}

bool to_u64(PyObject *value, uint64_t *out) {
    *out = PyLong_AsUnsignedLongLongMask(value);
    return *out != (uint64_t)-1 || !PyErr_Occurred();
}

bool to_limited(PyObject *value, const char *name, uint64_t most, uint64_t *out) {
    unsigned long long number = PyLong_AsUnsignedLongLong(value);
    if (number == (unsigned long long)-1 && PyErr_Occurred())
        return false;
    if (number > most) {
        PyErr_Format(PyExc_ValueError, "%s is %llu, and at most %llu", name, number,
                     (unsigned long long)most);
        return false;
    }
    *out = number;
    return true;
}

static PyObject *reserve(PyObject *module, PyObject *args) {
    unsigned long long size;
    uint64_t base;

    (void)module;
    if (!PyArg_ParseTuple(args, "K:reserve", &size))
        return NULL;
    int error = core_reserve(size, &base);
    if (error == -EINVAL)
        return PyErr_Format(PyExc_ValueError,
                            "size %p must be a power of two from 4096 to 2**46", HEX(size));
    if (error)
        return raise_errno(error);
    return PyLong_FromUnsignedLongLong(base);
}

static PyObject *release(PyObject *module, PyObject *args) {
    unsigned long long base, size;

    (void)module;
    if (!PyArg_ParseTuple(args, "KK:release", &base, &size))
        return NULL;
    int error = core_release(base, size);
    if (error)
        return raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *capabilities(PyObject *module, PyObject *unused) {
    struct core_capabilities found = core_capabilities();
    (void)module;
    (void)unused;
    return Py_BuildValue("{sNsNsN}", "fsgsbase", PyBool_FromLong(found.fsgsbase),
                         "syscall_user_dispatch", PyBool_FromLong(found.syscall_user_dispatch),
                         "cpuid_faulting", PyBool_FromLong(found.cpuid_faulting));
}

static PyObject *xcr0(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong(core_xcr0());
}

static PyObject *cpuid(PyObject *module, PyObject *args) {
    unsigned int leaf, subleaf;
    uint32_t out[4];

    (void)module;
    if (!PyArg_ParseTuple(args, "II:cpuid", &leaf, &subleaf))
        return NULL;
    core_cpuid(leaf, subleaf, out);
    return Py_BuildValue("IIII", out[0], out[1], out[2], out[3]);
}

static PyObject *view(PyObject *module, PyObject *args) {
    unsigned long long address;
    Py_ssize_t length;

    (void)module;
    if (!PyArg_ParseTuple(args, "Kn:view", &address, &length))
        return NULL;
    if (length < 0)
        return PyErr_Format(PyExc_ValueError, "length %zd must not be negative", length);
    return PyMemoryView_FromMemory((char *)(uintptr_t)address, length, PyBUF_WRITE);
}

static PyObject *map_device(PyObject *module, PyObject *args) {
    int fd, protection;
    unsigned long long address, length, offset;

    (void)module;
    if (!PyArg_ParseTuple(args, "iKKiK:map_device", &fd, &address, &length, &protection, &offset))
        return NULL;
    int error = core_map_device(fd, address, length, protection, offset);
    if (error)
        return raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *vdso_enter_address(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong(core_vdso_symbol("__vdso_sgx_enter_enclave", NULL));
}

static PyObject *emulated_enter_address(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong((uintptr_t)core_enter_enclave);
}

static PyObject *rewrites_enclu(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return start_core() ? PyBool_FromLong(core_rewrites_enclu) : NULL;
}

PyObject *fill_measurement(PyObject *module, PyObject *args, PyObject *keywords) {
    static char *names[] = {"out", "offset", "flags", "pages", "count", NULL};
    const unsigned long long most = 1ull << 40;
    unsigned long long offset, flags, count;
    Py_buffer out, pages = {0};
    PyObject *source, *result = NULL;
    size_t written;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "w*KKOK:fill_measurement", names, &out,
                                     &offset, &flags, &source, &count))
        return NULL;
    if (source != Py_None && PyObject_GetBuffer(source, &pages, PyBUF_SIMPLE) != 0)
        goto done;
    if (count > most || (pages.obj && (unsigned long long)pages.len != count * CORE_PAGE)) {
        PyErr_Format(PyExc_ValueError, "%llu pages take as many times 4096 bytes, not %zd", count,
                     pages.len);
        goto done;
    }
    if ((unsigned long long)out.len < count * (pages.obj ? 5184 : 64)) {
        PyErr_Format(PyExc_ValueError, "out has %zd bytes, too few for the records of %llu pages",
                     out.len, count);
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    written = core_fill_measurement(out.buf, offset, flags, pages.buf, count);
    Py_END_ALLOW_THREADS
    result = PyLong_FromSize_t(written);
done:
    if (pages.obj)
        PyBuffer_Release(&pages);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef functions[] = {
    {"reserve", reserve, METH_VARARGS, "Reserve a naturally aligned address range."},
    {"release", release, METH_VARARGS, "Give a reserved range back."},
    {"capabilities", capabilities, METH_NOARGS, "Return what processor and kernel can do."},
    {"xcr0", xcr0, METH_NOARGS, "Return XCR0, 0 where there is no XSAVE."},
    {"cpuid", cpuid, METH_VARARGS, "Execute CPUID."},
    {"view", view, METH_VARARGS, "Return process memory as a writable buffer."},
    {"map_device", map_device, METH_VARARGS, "Map pages of a device over a reservation."},
    {"vdso_enter_address", vdso_enter_address, METH_NOARGS,
     "Return the address of the kernel's enter function, 0 where it has none."},
    {"emulated_enter_address", emulated_enter_address, METH_NOARGS,
     "Return the address of the emulated processor's enter function."},
    {"rewrites_enclu", rewrites_enclu, METH_NOARGS,
     "Return whether an executed ENCLU becomes a cheaper instruction on this host."},
    {"fill_measurement", (PyCFunction)(void (*)(void))fill_measurement,
     METH_VARARGS | METH_KEYWORDS, "Write the measurement records of consecutive pages."},
    {0},
};

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type) {
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type ? PyModule_AddType(module, *type) : -1;
}

static int execute(PyObject *module) {
    ModuleState *state = PyModule_GetState(module);

    core_interpose_loader((const void *)PyOS_setsig);
    if (add_type(module, &memory_spec, &state->memory) < 0 ||
        add_type(module, &view_spec, &state->view) < 0 ||
        add_type(module, &enclave_spec, &state->enclave) < 0 ||
        add_type(module, &frame_spec, &state->frame) < 0 ||
        add_type(module, &call_spec, &state->call) < 0)
        return -1;
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    ModuleState *state = PyModule_GetState(module);
    Py_VISIT(state->memory);
    Py_VISIT(state->view);
    Py_VISIT(state->enclave);
    Py_VISIT(state->frame);
    Py_VISIT(state->call);
    return 0;
}

static int clear(PyObject *module) {
    ModuleState *state = PyModule_GetState(module);
    Py_CLEAR(state->memory);
    Py_CLEAR(state->view);
    Py_CLEAR(state->enclave);
    Py_CLEAR(state->frame);
    Py_CLEAR(state->call);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ensconce._core",
    .m_doc = "The native part of the emulated processor.",
    .m_size = sizeof(ModuleState),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&definition);
}
