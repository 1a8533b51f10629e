/* The kernels behind a C interface: for the VapourSynth plugin beside it, and for whoever loads the library alone. */
#ifndef AETHER_NETWORK_H
#define AETHER_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef _WIN32
#define AETHER_API __declspec(dllexport)
#else
#define AETHER_API __attribute__((visibility("default")))
#endif

typedef struct AetherNetwork AetherNetwork;

/*
 * A network of a model blob, which need not be kept. threads: 0 for as many as this process may run on. form: one of
 * aether_forms(), or NULL for the fastest. On failure NULL, and one sentence in error.
 */
AETHER_API AetherNetwork *aether_network_open(const void *blob, size_t size, int threads, const char *form, char *error,
                                              size_t error_size);

/*
 * One frame: three planes of width x height floats in, three of scale times the size out; strides are in floats.
 * Any number of threads may call it; they wait for each other. Returns 0, or -1 with one sentence in error.
 */
AETHER_API int aether_network_run(AetherNetwork *network, const float *const in[3], ptrdiff_t in_stride,
                                  float *const out[3], ptrdiff_t out_stride, int width, int height, char *error,
                                  size_t error_size);

/*
 * As aether_network_run, where `before` are three planes of another frame, of the stride of `in`, and `made_before` that
 * frame's result, of the stride of `out`: only what may come out otherwise is computed, to the same bytes as the whole.
 * radius: how far, in input pixels, an output depends on its surroundings. Gives the number of input pixels computed in
 * *work; where that is not less than the frame's, everything has been computed.
 */
AETHER_API int aether_network_update(AetherNetwork *network, const float *const in[3], const float *const before[3],
                                     ptrdiff_t in_stride, const float *const made_before[3], float *const out[3],
                                     ptrdiff_t out_stride, int width, int height, int radius, int64_t *work,
                                     char *error, size_t error_size);

AETHER_API int aether_network_scale(const AetherNetwork *network);
AETHER_API void aether_network_close(AetherNetwork *network);

/* The forms which this processor runs, the fastest first, separated by commas. */
AETHER_API const char *aether_forms(void);

/* Multiply-adds of int8 a second of one core in a form's instructions; 0 if it is not one of aether_forms(). */
AETHER_API double aether_peak(const char *form);

#ifdef __cplusplus
}
#endif

#endif
