/* libFuzzer's side of the fuzz targets: hands each input to a Python function and dies of whatever that raises.
 *
 * Knows nothing of records. The function is `one` in the module that the environment variable FUZZ_TARGET names;
 * sanitizers see the extension module, which is compiled with them, and every allocation, as PYTHONMALLOC=malloc.
 * https://llvm.org/docs/LibFuzzer.html
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static PyObject *one;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("FUZZ_TARGET");
    PyObject *module;

    (void)argc;
    (void)argv;
    if (name == NULL) {
        fprintf(stderr, "FUZZ_TARGET names no module\n");
        exit(2);
    }
    Py_InitializeEx(0);
    module = PyImport_ImportModule(name);
    if (module != NULL)
        one = PyObject_GetAttrString(module, "one");
    if (one == NULL) {
        PyErr_Print();
        exit(2);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *result = PyObject_CallFunction(one, "y#", (const char *)data, (Py_ssize_t)size);

    if (result == NULL) {
        PyErr_Print();
        abort();
    }
    Py_DECREF(result);
    return 0;
}
