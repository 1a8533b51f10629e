/*
 * A host without Python: loads VapourSynth and the plugin, on Linux and on Windows.
 *
 *     plugin_host LIBRARY PLUGIN [BLOB] : what core.aether.Upscale answers; with a model blob, every form that runs
 *     here, and a hash of what core.aether.Run makes of a small picture in it
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <VapourSynth4.h>

#ifdef _WIN32
#include <windows.h>
#define OPEN(path) ((void *)LoadLibraryA(path))
#define FIND(library, name) ((void *)GetProcAddress(library, name))
#else
#include <dlfcn.h>
#define OPEN(path) dlopen(path, RTLD_NOW)
#define FIND(library, name) dlsym(library, name)
#endif

static const VSAPI *vs;
static VSCore *core;
static VSMap *arguments;

/* A function of a plugin with `arguments`; ends the program if it fails. */
static VSMap *call(const char *space, const char *name) {
    VSMap *out = vs->invoke(vs->getPluginByNamespace(space, core), name, arguments);
    if (vs->mapGetError(out)) {
        printf("%s.%s: %s\n", space, name, vs->mapGetError(out));
        exit(1);
    }
    vs->clearMap(arguments);
    return out;
}

/* The clip that a function gives becomes the next one's. */
static void chain(const char *space, const char *name) {
    VSMap *out = call(space, name);
    vs->mapConsumeNode(arguments, "clip", vs->mapGetNode(out, "clip", 0, NULL), maReplace);
    vs->freeMap(out);
}

static void set_floats(const char *name, double r, double g, double b) {
    const double values[] = {r, g, b};
    vs->mapSetFloatArray(arguments, name, values, 3);
}

/* FNV-1a of a frame's samples. */
static uint64_t hash(const VSFrame *frame) {
    uint64_t value = 14695981039346656037U;
    for (int plane = 0; plane < 3; plane++)
        for (int y = 0; y < vs->getFrameHeight(frame, plane); y++) {
            const uint8_t *row = vs->getReadPtr(frame, plane) + y * vs->getStride(frame, plane);
            for (int x = 0; x < 4 * vs->getFrameWidth(frame, plane); x++)
                value = (value ^ row[x]) * 1099511628211U;
        }
    return value;
}

static void run_forms(const char *path) {
    static char blob[1 << 22];
    FILE *file = fopen(path, "rb");
    const int size = file ? (int)fread(blob, 1, sizeof blob, file) : 0;
    VSMap *forms = call("aether", "Forms");
    char *form = (char *)vs->mapGetData(forms, "forms", 0, NULL);
    for (char *end = form; *end || form < end; form = *end ? end + 1 : end) {
        for (end = form; *end && *end != ','; end++)
            continue;
        vs->mapSetInt(arguments, "format", pfRGBS, maReplace);
        vs->mapSetInt(arguments, "width", 9, maReplace);
        vs->mapSetInt(arguments, "height", 7, maReplace);
        set_floats("color", 0.2, 0.7, 0.4);
        chain("std", "BlankClip");
        vs->mapSetInt(arguments, "left", 5, maReplace);
        vs->mapSetInt(arguments, "top", 4, maReplace);
        set_floats("color", 0.9, 0.1, 0.3);
        chain("std", "AddBorders");
        vs->mapSetData(arguments, "model", blob, size, dtBinary, maReplace);
        vs->mapSetData(arguments, "form", form, (int)(end - form), dtUtf8, maReplace);
        vs->mapSetInt(arguments, "threads", 3, maReplace);
        VSMap *out = call("aether", "Run");
        VSNode *clip = vs->mapGetNode(out, "clip", 0, NULL);
        char error[256] = "";
        const VSFrame *frame = vs->getFrame(0, clip, error, sizeof error);
        if (frame)
            printf("%.*s %016llx\n", (int)(end - form), form, (unsigned long long)hash(frame));
        else
            printf("%.*s %s\n", (int)(end - form), form, error);
        vs->freeFrame(frame);
        vs->freeNode(clip);
        vs->freeMap(out);
    }
    vs->freeMap(forms);
}

int main(int count, char **argv) {
    void *library = OPEN(argv[1]);
    const VSAPI *(*get)(int) = library ? (const VSAPI *(*)(int))FIND(library, "getVapourSynthAPI") : NULL;
    if (!get || !(vs = get(VAPOURSYNTH_API_VERSION))) {
        puts("VapourSynth cannot be loaded");
        return 1;
    }
    core = vs->createCore(ccfDisableAutoLoading);
    arguments = vs->createMap();
    vs->mapSetData(arguments, "path", argv[2], -1, dtUtf8, maReplace);
    vs->freeMap(call("std", "LoadPlugin"));
    chain("std", "BlankClip");
    VSMap *out = vs->invoke(vs->getPluginByNamespace("aether", core), "Upscale", arguments);
    puts(vs->mapGetError(out) ? vs->mapGetError(out) : "no error");
    vs->freeMap(out);
    vs->clearMap(arguments);
    if (count > 3)
        run_forms(argv[3]);
    vs->freeMap(arguments);
    vs->freeCore(core);
    return 0;
}
