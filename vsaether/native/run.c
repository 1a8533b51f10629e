/*
 * core.aether.Run(clip, model, threads, form, radius, period): RGBS frames through a network of a model blob
 * (network.h). core.aether.Forms(): the forms which this processor runs.
 *
 * All threads work on one frame, so the next one is not begun before it is done. With a period, of a frame is computed
 * what differs from the last one whose number leaves the same remainder: the same tile, field or alpha of another
 * moment. Which one that was decides about the work, and not about the result.
 */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>

#include "network.h"
#include "reuse.h"

#define MESSAGE_SIZE 512
#define MOST_PERIOD (1 << 20)

typedef struct Known {
    const VSFrame *source, *result;
} Known;

typedef struct Run {
    VSNode *clip;
    VSVideoInfo info;
    AetherNetwork *network;
    int radius, period; /* period 0: everything is computed */
    Known *known;       /* period of them */
} Run;

static void forget(Known *known, const VSAPI *vsapi) {
    vsapi->freeFrame(known->source);
    vsapi->freeFrame(known->result);
    known->source = known->result = NULL;
}

static int compute(const Run *run, const Known *known, const VSFrame *source, VSFrame *result, char *message,
                   const VSAPI *vsapi) {
    const float *in[3], *before[3], *made_before[3];
    float *out[3];
    for (int plane = 0; plane < 3; plane++) {
        in[plane] = (const float *)vsapi->getReadPtr(source, plane);
        before[plane] = known->source ? (const float *)vsapi->getReadPtr(known->source, plane) : NULL;
        made_before[plane] = known->source ? (const float *)vsapi->getReadPtr(known->result, plane) : NULL;
        out[plane] = (float *)vsapi->getWritePtr(result, plane);
    }
    const ptrdiff_t in_stride = vsapi->getStride(source, 0) / (ptrdiff_t)sizeof(float);
    const ptrdiff_t out_stride = vsapi->getStride(result, 0) / (ptrdiff_t)sizeof(float);
    const int width = vsapi->getFrameWidth(source, 0), height = vsapi->getFrameHeight(source, 0);
    if (!known->source)
        return aether_network_run(run->network, in, in_stride, out, out_stride, width, height, message, MESSAGE_SIZE);
    int64_t work = 0;
    const int failed = aether_network_update(run->network, in, before, in_stride, made_before, out, out_stride, width,
                                             height, run->radius, &work, message, MESSAGE_SIZE);
    const int64_t whole = (int64_t)width * height;
    aether_count(0, work < whole ? whole - work : 0);
    return failed;
}

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
    Known none = {NULL, NULL}, *known = run->period ? &run->known[n % run->period] : &none;
    const VSFrame *source = vsapi->getFrameFilter(n, run->clip, context);
    if (known->source && vsapi->getStride(known->source, 0) != vsapi->getStride(source, 0))
        forget(known, vsapi);
    VSFrame *result = vsapi->newVideoFrame(&run->info.format, run->info.width, run->info.height, source, core);
    char message[MESSAGE_SIZE];
    const int failed = compute(run, known, source, result, message, vsapi);
    if (failed) {
        vsapi->freeFrame(source);
        vsapi->freeFrame(result);
        vsapi->setFilterError(message, context);
        return NULL;
    }
    if (run->period) {
        forget(known, vsapi);
        known->source = source;
        known->result = vsapi->addFrameRef(result);
    } else {
        vsapi->freeFrame(source);
    }
    return result;
}

static void close_run(Run *run, const VSAPI *vsapi) {
    for (int i = 0; run->known && i < run->period; i++)
        forget(&run->known[i], vsapi);
    free(run->known);
    vsapi->freeNode(run->clip);
    if (run->network)
        aether_network_close(run->network);
    free(run);
}

static void VS_CC free_run(void *instance, VSCore *core, const VSAPI *vsapi) {
    (void)core;
    close_run(instance, vsapi);
}

/* Fills in a Run; 0, or -1 with a sentence. */
static int open_run(Run *run, const VSMap *in, char *message, const VSAPI *vsapi) {
    int absent;
    run->clip = vsapi->mapGetNode(in, "clip", 0, NULL);
    run->info = *vsapi->getVideoInfo(run->clip);
    const VSVideoFormat *format = &run->info.format;
    if (format->colorFamily != cfRGB || format->sampleType != stFloat || format->bitsPerSample != 32 ||
        run->info.width <= 0) {
        snprintf(message, MESSAGE_SIZE, "the clip must be of constant size and of the format RGBS");
        return -1;
    }
    const int64_t radius = vsapi->mapGetInt(in, "radius", 0, &absent);
    const int64_t period = vsapi->mapGetInt(in, "period", 0, &absent);
    if (period < 0 || period > MOST_PERIOD || radius < 0 || radius > 1 << 16) {
        snprintf(message, MESSAGE_SIZE, "radius must be from 0 to 65536, and period from 0 to %d", MOST_PERIOD);
        return -1;
    }
    run->radius = (int)radius;
    run->period = (int)period;
    run->known = run->period ? calloc((size_t)run->period, sizeof *run->known) : NULL;
    if (run->period && !run->known) {
        snprintf(message, MESSAGE_SIZE, "there is not enough memory");
        return -1;
    }
    const int64_t threads = vsapi->mapGetInt(in, "threads", 0, &absent);
    run->network = aether_network_open(vsapi->mapGetData(in, "model", 0, NULL),
                                       (size_t)vsapi->mapGetDataSize(in, "model", 0, NULL),
                                       threads < -1 || threads > 1 << 20 ? -1 : (int)threads,
                                       vsapi->mapGetData(in, "form", 0, &absent), message, MESSAGE_SIZE);
    return run->network ? 0 : -1;
}

static void VS_CC create(const VSMap *in, VSMap *out, void *user_data, VSCore *core, const VSAPI *vsapi) {
    (void)user_data;
    char message[MESSAGE_SIZE + 16] = "aether.Run: ";
    Run *run = calloc(1, sizeof *run);
    if (!run) {
        vsapi->mapSetError(out, "aether.Run: there is not enough memory");
        return;
    }
    if (open_run(run, in, message + sizeof "aether.Run: " - 1, vsapi)) {
        vsapi->mapSetError(out, message);
        close_run(run, vsapi);
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
    vspapi->registerFunction("Run",
                             "clip:vnode;model:data;threads:int:opt;form:data:opt;radius:int:opt;period:int:opt;",
                             "clip:vnode;", create, NULL, plugin);
    vspapi->registerFunction("Forms", "", "forms:data;", forms, NULL, plugin);
}
