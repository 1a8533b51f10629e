/*
 * core.aether.Run(clip, model, threads, form): RGBS frames through a network of a model blob (network.h).
 * core.aether.Forms(): the forms which this processor runs.
 *
 * All threads work on one frame, so the next one is not begun before it is done.
 */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>

#include "network.h"

#define MESSAGE_SIZE 512

typedef struct Run {
    VSNode *clip;
    VSVideoInfo info;
    AetherNetwork *network;
} Run;

static const VSFrame *VS_CC get_frame(int n, int reason, void *instance, void **frame_data, VSFrameContext *context,
                                      VSCore *core, const VSAPI *vsapi) {
    (void)frame_data;
    const Run *run = instance;
    if (reason == arInitial) {
        vsapi->requestFrameFilter(n, run->clip, context);
        return NULL;
    }
    if (reason != arAllFramesReady)
        return NULL;
    const VSFrame *source = vsapi->getFrameFilter(n, run->clip, context);
    VSFrame *result = vsapi->newVideoFrame(&run->info.format, run->info.width, run->info.height, source, core);
    const float *in[3];
    float *out[3];
    for (int plane = 0; plane < 3; plane++) {
        in[plane] = (const float *)vsapi->getReadPtr(source, plane);
        out[plane] = (float *)vsapi->getWritePtr(result, plane);
    }
    char message[MESSAGE_SIZE];
    const int failed = aether_network_run(run->network, in, vsapi->getStride(source, 0) / (ptrdiff_t)sizeof(float), out,
                                          vsapi->getStride(result, 0) / (ptrdiff_t)sizeof(float),
                                          vsapi->getFrameWidth(source, 0), vsapi->getFrameHeight(source, 0), message,
                                          sizeof message);
    vsapi->freeFrame(source);
    if (!failed)
        return result;
    vsapi->freeFrame(result);
    vsapi->setFilterError(message, context);
    return NULL;
}

static void VS_CC free_run(void *instance, VSCore *core, const VSAPI *vsapi) {
    (void)core;
    Run *run = instance;
    vsapi->freeNode(run->clip);
    aether_network_close(run->network);
    free(run);
}

static void VS_CC create(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    (void)user_data;
    int absent;
    char message[MESSAGE_SIZE + 16] = "aether.Run: ";
    const size_t prefix = sizeof "aether.Run: " - 1;
    Run *run = calloc(1, sizeof *run);
    if (!run) {
        vsapi->mapSetError(out, "aether.Run: there is not enough memory");
        return;
    }
    run->clip = vsapi->mapGetNode(in, "clip", 0, NULL);
    run->info = *vsapi->getVideoInfo(run->clip);
    const VSVideoFormat *format = &run->info.format;
    if (format->colorFamily != cfRGB || format->sampleType != stFloat || format->bitsPerSample != 32 ||
        run->info.width <= 0) {
        snprintf(message + prefix, MESSAGE_SIZE, "the clip must be of constant size and of the format RGBS");
    } else {
        const int64_t threads = vsapi->mapGetInt(in, "threads", 0, &absent);
        run->network = aether_network_open(vsapi->mapGetData(in, "model", 0, NULL),
                                           (size_t)vsapi->mapGetDataSize(in, "model", 0, NULL),
                                           threads < -1 || threads > 1 << 20 ? -1 : (int)threads,
                                           vsapi->mapGetData(in, "form", 0, &absent), message + prefix, MESSAGE_SIZE);
    }
    if (!run->network) {
        vsapi->mapSetError(out, message);
        vsapi->freeNode(run->clip);
        free(run);
        return;
    }
    run->info.width *= aether_network_scale(run->network);
    run->info.height *= aether_network_scale(run->network);
    const VSFilterDependency dependency = {run->clip, rpStrictSpatial};
    vsapi->createVideoFilter(out, "Run", &run->info, get_frame, free_run, fmParallelRequests, &dependency, 1, run,
                             core);
}

static void VS_CC forms(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    (void)in, (void)user_data, (void)core;
    vsapi->mapSetData(out, "forms", aether_forms(), -1, dtUtf8, maReplace);
}

void aether_register_run(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->registerFunction("Run", "clip:vnode;model:data;threads:int:opt;form:data:opt;", "clip:vnode;", create, NULL,
                             plugin);
    vspapi->registerFunction("Forms", "", "forms:data;", forms, NULL, plugin);
}
