#include "device_memory.h"
#include "driver.h"

#include <stdlib.h>

/* Allocations lie far apart, so that running over the end of one never lands in the next. */
#define FIRST_ADDRESS 0x302000000ULL
#define ALIGNMENT 512ULL
#define GUARD_BYTES (1ULL << 20)

struct allocation {
    uint64_t address;
    size_t size;
    unsigned char *bytes;
    struct allocation *next;
};

static struct allocation *allocations;
static uint64_t next_address = FIRST_ADDRESS;
static uint64_t bytes_in_use;

uint64_t device_allocate(size_t size) {
    if (size > GPU_MEMORY_BYTES - bytes_in_use) return 0;
    struct allocation *allocation = malloc(sizeof *allocation);
    unsigned char *bytes = malloc(size);
    if (allocation == NULL || bytes == NULL) {
        free(allocation);
        free(bytes);
        return 0;
    }
    memset(bytes, 0xa5, size); /* as on a GPU, new memory holds nothing to rely on */
    *allocation = (struct allocation){next_address, size, bytes, allocations};
    allocations = allocation;
    next_address += (size + GUARD_BYTES + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    bytes_in_use += size;
    return allocation->address;
}

bool device_free(uint64_t address) {
    for (struct allocation **link = &allocations; *link != NULL; link = &(*link)->next) {
        struct allocation *allocation = *link;
        if (allocation->address != address) continue;
        *link = allocation->next;
        bytes_in_use -= allocation->size;
        free(allocation->bytes);
        free(allocation);
        return true;
    }
    return false;
}

void device_free_all(void) {
    while (allocations != NULL) device_free(allocations->address);
}

unsigned char *device_bytes(uint64_t address, size_t size) {
    for (struct allocation *allocation = allocations; allocation != NULL; allocation = allocation->next) {
        if (address < allocation->address || address - allocation->address > allocation->size) continue;
        uint64_t offset = address - allocation->address;
        return allocation->size - offset >= size ? allocation->bytes + offset : NULL;
    }
    return NULL;
}
