/* The mock GPU's memory: device addresses that are no host pointers, each access checked against the allocations. */
#ifndef MOCK_DEVICE_MEMORY_H
#define MOCK_DEVICE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Returns the device address of `size` new bytes, or 0 when the GPU or the host has not that much left. */
uint64_t device_allocate(size_t size);
bool device_free(uint64_t address);
void device_free_all(void);
/* The host's bytes behind a device range, or NULL unless the whole range lies in one allocation. */
unsigned char *device_bytes(uint64_t address, size_t size);

#endif
