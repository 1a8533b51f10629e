#define _GNU_SOURCE /* RTLD_DEFAULT, sched_getaffinity */
#include "system.h"

#include <stdlib.h>

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#define PSAPI_VERSION 2 /* in kernel32 */
#include <windows.h>

#include <malloc.h>
#include <psapi.h>

#define MODULES 4096

void *system_find(const char *name) {
    static HMODULE modules[MODULES]; /* the same for every caller */
    DWORD bytes = 0;
    if (!EnumProcessModules(GetCurrentProcess(), modules, sizeof modules, &bytes))
        return NULL;
    DWORD count = bytes / sizeof *modules;
    for (DWORD i = 0; i < (count < MODULES ? count : MODULES); i++) {
        FARPROC found = GetProcAddress(modules[i], name);
        if (found)
            return (void *)found;
    }
    return NULL;
}

int system_processors(void) {
    DWORD_PTR ours = 0, all = 0;
    int count = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &ours, &all))
        for (; ours; ours &= ours - 1)
            count++;
    /* 0: it runs in several groups of 64 processors. */
    if (!count)
        count = (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return count < 1 ? 1 : count;
}

void *system_allocate(size_t alignment, size_t bytes) { return _aligned_malloc(bytes, alignment); }

void system_free(void *memory) { _aligned_free(memory); }

double system_seconds(void) {
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    return (double)now.QuadPart / (double)rate.QuadPart;
}

#else

#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sched.h>
#include <sys/mman.h>
#endif

void *system_find(const char *name) { return dlsym(RTLD_DEFAULT, name); }

int system_processors(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (int)count;
}

void *system_allocate(size_t alignment, size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, bytes))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (alignment >= (size_t)2 << 20)
        madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void system_free(void *memory) { free(memory); }

double system_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
