/* What the plugin asks of the operating system; nothing else of it does. */
#ifndef AETHER_SYSTEM_H
#define AETHER_SYSTEM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A function of any library in this process, or NULL. */
void *system_find(const char *name);

/* Processors which this process may use, at least 1. */
int system_processors(void);

/* Memory whose address and size are multiples of the alignment, in large pages where there are any; or NULL. */
void *system_allocate(size_t alignment, size_t bytes);
void system_free(void *memory);

/* Seconds which this thread has computed, or where that is not told exactly, a clock's. */
double system_seconds(void);

#ifdef __cplusplus
}
#endif
#endif
