/* The VapourSynth functions aether.Reuse and aether.Reused. */
#ifndef AETHER_REUSE_H
#define AETHER_REUSE_H

#include <stdint.h>

#include "VapourSynth4.h"

#ifdef __cplusplus
extern "C" {
#endif

void aether_register_reuse(VSPlugin *plugin, const VSPLUGINAPI *vspapi);

/* So many input pixels more were asked for, and so many need not be computed; from any thread. */
void aether_count(int64_t asked, int64_t reused);

#ifdef __cplusplus
}
#endif

#endif
