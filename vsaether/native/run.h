/* The VapourSynth function aether.Run. */
#ifndef AETHER_RUN_H
#define AETHER_RUN_H

#include "VapourSynth4.h"

#ifdef __cplusplus
extern "C" {
#endif

void aether_register_run(VSPlugin *plugin, const VSPLUGINAPI *vspapi);

#ifdef __cplusplus
}
#endif

#endif
