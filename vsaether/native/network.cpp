#include "network.h"

#include "form.hpp"
#include "regions.hpp"
#include "system.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace aether;

struct Choice {
    const char *name;
    bool (*runs_here)();
    MakeForm *make;
    double (*peak)();
};

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512_vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

// Compilers know "avxvnni" by different versions; the processor says it in leaf 7, subleaf 1.
bool has_avx_vnni() {
    unsigned a = 7, b = 0, c = 1, d = 0, highest = 0;
    if (!has_avx2())
        return false;
    asm volatile("cpuid" : "=a"(highest), "=b"(b), "=c"(c), "=d"(d) : "0"(7), "2"(0));
    if (highest < 1)
        return false;
    asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(7), "2"(1));
    return (a >> 4 & 1) != 0;
}
#endif

bool always() { return true; }
double unknown() { return 0; }

// The fastest first.
const Choice CHOICES[] = {
#if defined(__x86_64__)
    {"avx512_vnni", has_avx512_vnni, make_avx512_vnni, peak_avx512_vnni},
    {"avx_vnni", has_avx_vnni, make_avx_vnni, peak_avx_vnni},
    {"avx2", has_avx2, make_avx2, peak_avx2},
#endif
    {"plain", always, make_plain, unknown},
};

const Choice &choose(const char *name) {
    for (const Choice &choice : CHOICES)
        if (choice.runs_here() && (!name || std::strcmp(name, choice.name) == 0))
            return choice;
    throw std::runtime_error(std::string("this processor does not run the form \"") + name + "\"; it runs " +
                             aether_forms());
}

template <class F> bool guarded(char *error, size_t error_size, F f) {
    const char *text = "there is not enough memory";
    try {
        f();
        return true;
    } catch (const std::bad_alloc &) {
        std::snprintf(error, error_size, "%s", text);
    } catch (const std::exception &e) {
        std::snprintf(error, error_size, "%s", e.what());
    }
    return false;
}

} // namespace

struct AetherNetwork {
    Model model;
    std::unique_ptr<Form> form;
    std::shared_ptr<Workers> workers;
};

AetherNetwork *aether_network_open(const void *blob, size_t size, int threads, const char *form, char *error,
                                   size_t error_size) {
    std::unique_ptr<AetherNetwork> network;
    const bool good = guarded(error, error_size, [&] {
        if (threads < 0 || threads > MAX_THREADS)
            throw std::runtime_error("threads is " + std::to_string(threads) + "; it must be from 1 to " +
                                     std::to_string(MAX_THREADS) + ", or 0 for all processors");
        const Choice &choice = choose(form);
        network = std::make_unique<AetherNetwork>();
        network->model = read_model(blob, size);
        network->form.reset(choice.make(network->model));
        network->workers = Workers::share(threads ? threads : std::min(system_processors(), MAX_THREADS));
    });
    return good ? network.release() : nullptr;
}

int aether_network_run(AetherNetwork *network, const float *const in[3], ptrdiff_t in_stride, float *const out[3],
                       ptrdiff_t out_stride, int width, int height, char *error, size_t error_size) {
    const bool good = guarded(error, error_size, [&] {
        if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
            throw std::runtime_error("a frame of " + std::to_string(width) + "x" + std::to_string(height) +
                                     " was given; each side must be from 1 to " + std::to_string(MAX_SIDE));
        const Picture picture = {{in[0], in[1], in[2]}, in_stride, {out[0], out[1], out[2]}, out_stride, width, height};
        std::lock_guard<Workers> lock(*network->workers);
        network->form->run(picture, *network->workers);
    });
    return good ? 0 : -1;
}

int aether_network_update(AetherNetwork *network, const float *const in[3], const float *const before[3],
                          ptrdiff_t in_stride, const float *const made_before[3], float *const out[3],
                          ptrdiff_t out_stride, int width, int height, int radius, int64_t *work, char *error,
                          size_t error_size) {
    int failed = 0;
    const bool good = guarded(error, error_size, [&] {
        const Picture3 now = {{in[0], in[1], in[2]}, in_stride}, then = {{before[0], before[1], before[2]}, in_stride};
        // What changed is seen as far as the radius reaches, and that is computed from as far again.
        const Changes changes(now, then, width, height, 2 * radius);
        *work = changes.work();
        const int scale = network->model.scale;
        if (*work < static_cast<int64_t>(width) * height)
            for (int plane = 0; plane < PLANES; plane++)
                std::memcpy(out[plane], made_before[plane],
                            sizeof(float) * static_cast<size_t>(out_stride) * static_cast<size_t>(height) * scale);
        std::vector<float> result;
        for (const Rect &changed : changes.rects()) {
            const Rect seen = changed.grown(2 * radius, width, height), made = changed.grown(radius, width, height);
            const int columns = seen.right - seen.left, rows = seen.bottom - seen.top;
            const bool whole = columns == width && rows == height;
            const float *from[PLANES];
            float *to[PLANES];
            const ptrdiff_t stride = whole ? out_stride : static_cast<ptrdiff_t>(columns) * scale;
            result.resize(whole ? 0 : static_cast<size_t>(PLANES) * rows * scale * stride);
            for (int plane = 0; plane < PLANES; plane++) {
                from[plane] = in[plane] + seen.top * in_stride + seen.left;
                to[plane] = whole ? out[plane] : result.data() + static_cast<ptrdiff_t>(plane) * rows * scale * stride;
            }
            failed = aether_network_run(network, from, in_stride, to, stride, columns, rows, error, error_size);
            if (failed || whole)
                return;
            for (int plane = 0; plane < PLANES; plane++)
                for (int y = made.top * scale; y < made.bottom * scale; y++)
                    std::memcpy(out[plane] + y * out_stride + static_cast<ptrdiff_t>(made.left) * scale,
                                to[plane] + (y - seen.top * scale) * stride +
                                    static_cast<ptrdiff_t>(made.left - seen.left) * scale,
                                sizeof(float) * static_cast<size_t>(made.right - made.left) * scale);
        }
    });
    return good ? failed : -1;
}

int aether_network_scale(const AetherNetwork *network) { return network->model.scale; }

void aether_network_close(AetherNetwork *network) { delete network; }

const char *aether_forms() {
    static const std::string names = [] {
        std::string text;
        for (const Choice &choice : CHOICES)
            if (choice.runs_here())
                text += (text.empty() ? "" : ",") + std::string(choice.name);
        return text;
    }();
    return names.c_str();
}

double aether_peak(const char *form) {
    for (const Choice &choice : CHOICES)
        if (choice.runs_here() && std::strcmp(form, choice.name) == 0)
            return choice.peak();
    return 0;
}
