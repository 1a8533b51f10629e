/* A Vulkan layer: a device whose memory is VULKAN_LIMIT bytes. Asked for more it answers as a full card does. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void (*Function)(void);
typedef Function (*Resolve)(void *, const char *);
typedef int32_t (*Create)(void *, const void *, const void *, void **);
typedef int32_t (*CreateInstance)(const void *, const void *, void **);
typedef struct { int32_t type; const void *next; uint64_t size; uint32_t kind; } Allocate;
typedef struct Link { struct Link *next; Resolve instance, device; } Link;
typedef struct { int32_t type; const void *next; int32_t function; Link *link; } LayerInfo;
typedef struct { int32_t type; void *next; uint32_t version; Resolve instance, device, physical; } Negotiate;

enum { LOADER_INSTANCE = 47, LOADER_DEVICE = 48, OUT_OF_DEVICE_MEMORY = -2 };

static Resolve next_instance, next_device;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* pipelines are made by several threads */
static int64_t taken;
static struct { uint64_t handle, size; } blocks[4096];

static LayerInfo *find(const void *info, int32_t type) {
    LayerInfo *each = (LayerInfo *)((const LayerInfo *)info)->next;
    while (each && !(each->type == type && each->function == 0)) each = (LayerInfo *)each->next;
    return each;
}

static int32_t create_instance(const void *info, const void *callbacks, void **instance) {
    LayerInfo *layer = find(info, LOADER_INSTANCE);
    next_instance = layer->link->instance;
    layer->link = layer->link->next;
    return ((CreateInstance)next_instance(NULL, "vkCreateInstance"))(info, callbacks, instance);
}

static int32_t create_device(void *physical, const void *info, const void *callbacks, void **device) {
    LayerInfo *layer = find(info, LOADER_DEVICE);
    next_device = layer->link->device;
    layer->link = layer->link->next;
    return ((Create)next_instance(NULL, "vkCreateDevice"))(physical, info, callbacks, device);
}

static int32_t allocate(void *device, const Allocate *info, const void *callbacks, uint64_t *memory) {
    int64_t most = atoll(getenv("VULKAN_LIMIT"));
    typedef int32_t (*Next)(void *, const Allocate *, const void *, uint64_t *);
    int32_t result = OUT_OF_DEVICE_MEMORY;
    pthread_mutex_lock(&lock);
    if (taken + (int64_t)info->size <= most)
        result = ((Next)next_device(device, "vkAllocateMemory"))(device, info, callbacks, memory);
    if (!result) {
        size_t i = 0;
        while (blocks[i].handle) i++;
        blocks[i].handle = *memory;
        taken += (int64_t)(blocks[i].size = info->size);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static void release(void *device, uint64_t memory, const void *callbacks) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < 4096; i++)
        if (memory && blocks[i].handle == memory) {
            taken -= (int64_t)blocks[i].size;
            blocks[i].handle = 0;
        }
    pthread_mutex_unlock(&lock);
    ((void (*)(void *, uint64_t, const void *))next_device(device, "vkFreeMemory"))(device, memory, callbacks);
}

static Function own(const char *name) {
    if (!strcmp(name, "vkAllocateMemory")) return (Function)allocate;
    if (!strcmp(name, "vkFreeMemory")) return (Function)release;
    if (!strcmp(name, "vkCreateInstance")) return (Function)create_instance;
    if (!strcmp(name, "vkCreateDevice")) return (Function)create_device;
    return NULL;
}

static Function for_device(void *device, const char *name) {
    Function mine = own(name);
    return mine ? mine : next_device(device, name);
}

static Function for_instance(void *instance, const char *name) {
    Function mine = own(name);
    return mine ? mine : next_instance(instance, name);
}

int32_t vkNegotiateLoaderLayerInterfaceVersion(Negotiate *loader) {
    loader->version = 2;
    loader->instance = for_instance;
    loader->device = for_device;
    loader->physical = NULL;
    return 0;
}
