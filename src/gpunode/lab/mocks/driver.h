/* What both mock libraries know of the driver on this host: its device nodes, its version, its GPUs. */
#ifndef MOCK_DRIVER_H
#define MOCK_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef MOCK_VERSION
#error "MOCK_VERSION must name the driver version that the library belongs to, such as \"580.159.04\""
#endif
#ifndef DEV_DIR
#define DEV_DIR "/dev"
#endif
#ifndef PROC_VERSION
#define PROC_VERSION "/proc/driver/nvidia/version"
#endif

#define EXPORT __attribute__((visibility("default")))
#define CUDA_VERSION 13000
#define GPU_NAME "NVIDIA H100 80GB HBM3"
#define GPU_MEMORY_BYTES 85520809984ULL
#define GPU_PCI_DEVICE_ID 0x233010deU
#define GPU_PCI_FIRST_BUS 0x65U
#define MAX_GPUS 16

static inline bool driver_loaded(void) { return access(DEV_DIR "/nvidiactl", F_OK) == 0; }

/* GPUs are numbered without gaps: the first missing node ends the count. */
static inline int gpu_count(void) {
    for (int index = 0; index < MAX_GPUS; index++) {
        char node[4096];
        snprintf(node, sizeof node, "%s/nvidia%d", DEV_DIR, index);
        if (access(node, F_OK) != 0) return index;
    }
    return MAX_GPUS;
}

/* The version in the kernel's first line, after "Kernel Module" (and "for x86_64" of the open modules). Inside a container
   the emulated /proc/driver cannot be seen; a real one could, so an unreadable file is no difference. */
static inline bool driver_version_differs(void) {
    FILE *file = fopen(PROC_VERSION, "r");
    if (file == NULL) return false;
    char line[512] = "";
    bool differs = false;
    if (fgets(line, sizeof line, file) != NULL) {
        char *words = strstr(line, "Kernel Module");
        int major, minor;
        for (char *word = words ? strtok(words, " \t\n") : NULL; word != NULL; word = strtok(NULL, " \t\n"))
            if (sscanf(word, "%d.%d", &major, &minor) == 2) {
                differs = strcmp(word, MOCK_VERSION) != 0;
                break;
            }
    }
    fclose(file);
    return differs;
}

/* The same GPU has the same UUID in NVML and CUDA; only the last byte tells the GPUs apart. */
static inline void gpu_uuid(int index, unsigned char bytes[16]) {
    static const unsigned char first[16] = {0x4f, 0x1c, 0x6a, 0x2e, 0x9d, 0x3b, 0x5c, 0x87,
                                            0xa1, 0xf0, 0x6e, 0x2d, 0x8b, 0x7c, 0x03, 0x00};
    memcpy(bytes, first, sizeof first);
    bytes[15] = (unsigned char)index;
}

#endif
