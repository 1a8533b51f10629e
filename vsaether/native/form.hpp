// A form: the network in one processor's instructions.
#pragma once
#include "model.hpp"
#include "workers.hpp"

#include <cstddef>

namespace aether {

/// One frame: three planes of float32 in, three of scale times the size out. Strides are in floats.
struct Picture {
    const float *in[IMAGE_CHANNELS];
    ptrdiff_t in_stride;
    float *out[IMAGE_CHANNELS];
    ptrdiff_t out_stride;
    int width, height;
};

class Form {
  public:
    virtual ~Form() = default;
    /// Computes a frame. The caller holds the workers' lock.
    virtual void run(const Picture &picture, Workers &workers) = 0;
};

/// Makes a form; the model must outlive it.
using MakeForm = Form *(const Model &);
MakeForm make_plain;
#if defined(__x86_64__)
MakeForm make_avx2, make_avx_vnni, make_avx512_vnni;

/// Multiply-adds of int8 a second on one core, as fast as the instructions alone go.
double peak_avx2(), peak_avx_vnni(), peak_avx512_vnni();
#endif

} // namespace aether
