/*
 * VapourSynth plugin "aether": core.aether.Upscale(clip, engine=...), the kernels of the backend native (run.h),
 * and the reuse of results (reuse.h).
 *
 * The filter itself is the Python function vsaether.upscale; this file makes it a native VapourSynth function, so that
 * it autoloads, is listed with its typed arguments, and works in scripts which import nothing.
 *
 * A call goes: Upscale -> Python's vsaether.plugin.register_handler() -> aether.SetHandler(handler) -> Upscale calls
 * the handler.
 * The handler is handed over anew for every call and freed at its end. Nothing is kept between calls, so no reference
 * outlives its core, and several cores or script environments in one process do not meet here.
 *
 * Python's functions are looked up in the running process (all are in its stable ABI): the plugin links to neither
 * Python nor libvapoursynth, and one binary serves every Python version.
 */
#include <stddef.h>
#include <stdio.h>

#include "VapourSynth4.h"

#include "reuse.h"
#include "run.h"
#include "system.h"

#define FILTER "aether.Upscale: "
#define MESSAGE_SIZE 2048

typedef struct PyObject PyObject;

typedef struct Python {
    int (*is_initialized)(void);
    int (*gil_ensure)(void);
    void (*gil_release)(int);
    PyObject *(*import_module)(const char *);
    PyObject *(*get_attribute)(PyObject *, const char *);
    PyObject *(*call)(PyObject *);
    PyObject *(*raised_exception)(void);
    PyObject *(*str)(PyObject *);
    const char *(*utf8)(PyObject *, ptrdiff_t *);
    void (*clear_exception)(void);
    void (*decref)(PyObject *);
} Python;

/* A call of Upscale which waits, on its own thread, for its handler. */
typedef struct Call {
    VSCore *core;
    VSFunction *handler;
} Call;

static _Thread_local Call *waiting;

/* False where the process has no running Python 3.12 or later. */
static int find_python(Python *py) {
#define FIND(slot, name)                                                                                               \
    if (!(*(void **)&py->slot = system_find(name)))                                                            \
        return 0
    FIND(is_initialized, "Py_IsInitialized");
    FIND(gil_ensure, "PyGILState_Ensure");
    FIND(gil_release, "PyGILState_Release");
    FIND(import_module, "PyImport_ImportModule");
    FIND(get_attribute, "PyObject_GetAttrString");
    FIND(call, "PyObject_CallNoArgs");
    FIND(raised_exception, "PyErr_GetRaisedException");
    FIND(str, "PyObject_Str");
    FIND(utf8, "PyUnicode_AsUTF8AndSize");
    FIND(clear_exception, "PyErr_Clear");
    FIND(decref, "Py_DecRef");
#undef FIND
    return py->is_initialized();
}

static void describe_exception(const Python *py, char *message) {
    PyObject *exception = py->raised_exception();
    PyObject *string = exception ? py->str(exception) : NULL;
    const char *text = string ? py->utf8(string, NULL) : NULL;
    snprintf(message, MESSAGE_SIZE, FILTER "the Python package vsaether cannot be used: %s",
             text && *text ? text : "unknown error");
    py->clear_exception();
    if (string)
        py->decref(string);
    if (exception)
        py->decref(exception);
}

/* Asks Python for the handler of this call. On failure the reason is in message. */
static VSFunction *request_handler(VSCore *core, char *message) {
    Python py;
    if (!find_python(&py)) {
        snprintf(message, MESSAGE_SIZE, FILTER "this program runs no Python 3.12 or later, in which the filter lives; "
                                               "use it from Python, vspipe or another VSScript host");
        return NULL;
    }
    Call call = {core, NULL};
    Call *outer = waiting;
    waiting = &call;
    int gil = py.gil_ensure();
    PyObject *module = py.import_module("vsaether.plugin");
    PyObject *function = module ? py.get_attribute(module, "register_handler") : NULL;
    PyObject *result = function ? py.call(function) : NULL;
    if (!result)
        describe_exception(&py, message);
    else if (!call.handler)
        snprintf(message, MESSAGE_SIZE, FILTER "the script environment that runs now belongs to another core");
    if (result)
        py.decref(result);
    if (function)
        py.decref(function);
    if (module)
        py.decref(module);
    py.gil_release(gil);
    waiting = outer;
    return call.handler;
}

static void VS_CC set_handler(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    (void)user_data;
    if (!waiting || waiting->core != core) {
        vsapi->mapSetError(out, "aether.SetHandler: for vsaether's own use, during a call of aether.Upscale");
        return;
    }
    vsapi->freeFunction(waiting->handler);
    waiting->handler = vsapi->mapGetFunction(in, "handler", 0, NULL);
}

static void VS_CC upscale(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    (void)user_data;
    char message[MESSAGE_SIZE];
    VSFunction *handler = request_handler(core, message);
    if (!handler) {
        vsapi->mapSetError(out, message);
        return;
    }
    /* The handler's answer stands in "val": the clip, or the sentence that says why there is none. */
    VSMap *answer = vsapi->createMap();
    vsapi->callFunction(handler, in, answer);
    const char *error = vsapi->mapGetError(answer);
    if (!error)
        error = vsapi->mapGetData(answer, "val", 0, &(int){0});
    VSNode *clip = error ? NULL : vsapi->mapGetNode(answer, "val", 0, &(int){0});
    if (clip)
        vsapi->mapConsumeNode(out, "clip", clip, maReplace);
    else
        vsapi->mapSetError(out, error ? error : FILTER "internal error: no clip came back");
    vsapi->freeMap(answer);
    vsapi->freeFunction(handler);
}

VS_EXTERNAL_API(void)
VapourSynthPluginInit2(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->configPlugin("net.aethernet.vsaether", "aether", "AetherNet super-resolution", VS_MAKE_VERSION(0, 1),
                         VAPOURSYNTH_API_VERSION, 0, plugin);
    vspapi->registerFunction("Upscale",
                             "clip:vnode;engine:data:opt;backend:data:opt;tile:int[]:opt;overlap:int[]:opt;"
                             "num_streams:int:opt;device_id:int:opt;matrix:int:opt;range:int:opt;dither:data:opt;"
                             "matrix_s:data:opt;range_s:data:opt;dither_type:data:opt;reuse:int:opt;"
                             "width:int:opt;height:int:opt;",
                             "clip:vnode;", upscale, NULL, plugin);
    vspapi->registerFunction("SetHandler", "handler:func;", "", set_handler, NULL, plugin);
    aether_register_run(plugin, vspapi);
    aether_register_reuse(plugin, vspapi);
}
