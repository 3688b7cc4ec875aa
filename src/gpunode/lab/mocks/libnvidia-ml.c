/* A mock libnvidia-ml.so.1: what a node's smoke test, nvidia-smi's first page and a device plugin ask NVML. */
#include "driver.h"

#define ERRORS(X)                                                                                                      \
    X(SUCCESS, 0, "Success")                                                                                           \
    X(ERROR_UNINITIALIZED, 1, "Uninitialized")                                                                         \
    X(ERROR_INVALID_ARGUMENT, 2, "Invalid Argument")                                                                   \
    X(ERROR_NOT_SUPPORTED, 3, "Not Supported")                                                                         \
    X(ERROR_NO_PERMISSION, 4, "Insufficient Permissions")                                                              \
    X(ERROR_NOT_FOUND, 6, "Not Found")                                                                                 \
    X(ERROR_INSUFFICIENT_SIZE, 7, "Insufficient Size")                                                                 \
    X(ERROR_DRIVER_NOT_LOADED, 9, "Driver Not Loaded")                                                                 \
    X(ERROR_LIBRARY_NOT_FOUND, 12, "NVML Shared Library Not Found")                                                    \
    X(ERROR_FUNCTION_NOT_FOUND, 13, "Function Not Found")                                                              \
    X(ERROR_GPU_IS_LOST, 15, "GPU is lost")                                                                            \
    X(ERROR_LIB_RM_VERSION_MISMATCH, 18, "Driver/library version mismatch")                                            \
    X(ERROR_UNKNOWN, 999, "Unknown Error")

#define ENUMERATOR(name, code, text) NVML_##name = (code),
typedef enum { ERRORS(ENUMERATOR) } nvmlReturn_t;

typedef struct gpu {
    int index;
} *nvmlDevice_t;

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

static struct gpu gpus[MAX_GPUS];
static unsigned users; /* nvmlInit_v2 may be called several times: each wants its nvmlShutdown */

static nvmlReturn_t put(char *to, unsigned length, const char *text) {
    if (users == 0) return NVML_ERROR_UNINITIALIZED;
    if (to == NULL) return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, text);
    return NVML_SUCCESS;
}

static nvmlReturn_t known(nvmlDevice_t device, const void *result) {
    if (users == 0) return NVML_ERROR_UNINITIALIZED;
    return device < gpus || device >= gpus + gpu_count() || result == NULL ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t error) {
#define TEXT(name, code, text) case code: return text;
    switch ((int)error) { ERRORS(TEXT) }
    return "Unknown Error";
}

EXPORT nvmlReturn_t nvmlInit_v2(void) {
    if (!driver_loaded()) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (driver_version_differs()) return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    users++;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags) { return flags > 3 ? NVML_ERROR_INVALID_ARGUMENT : nvmlInit_v2(); }

EXPORT nvmlReturn_t nvmlShutdown(void) {
    if (users == 0) return NVML_ERROR_UNINITIALIZED;
    users--;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    return put(version, length, MOCK_VERSION);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    /* NVML's own version is "13." (its CUDA release) before the driver's; it answers without nvmlInit */
    const char text[] = "13." MOCK_VERSION;
    if (version == NULL) return NVML_ERROR_INVALID_ARGUMENT;
    if (sizeof text > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(version, text);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    if (version == NULL) return NVML_ERROR_INVALID_ARGUMENT;
    *version = CUDA_VERSION;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    if (users == 0) return NVML_ERROR_UNINITIALIZED;
    if (count == NULL) return NVML_ERROR_INVALID_ARGUMENT;
    *count = (unsigned)gpu_count();
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    if (users == 0) return NVML_ERROR_UNINITIALIZED;
    if (index >= (unsigned)gpu_count() || device == NULL) return NVML_ERROR_INVALID_ARGUMENT;
    gpus[index].index = (int)index;
    *device = &gpus[index];
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    nvmlReturn_t result = known(device, name);
    return result == NVML_SUCCESS ? put(name, length, GPU_NAME) : result;
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    unsigned char bytes[16];
    char text[64] = "GPU-";
    nvmlReturn_t result = known(device, uuid);
    if (result != NVML_SUCCESS) return result;
    gpu_uuid(device->index, bytes);
    for (int i = 0; i < 16; i++)
        sprintf(text + strlen(text), "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
    return put(uuid, length, text);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    nvmlReturn_t result = known(device, pci);
    if (result != NVML_SUCCESS) return result;
    memset(pci, 0, sizeof *pci);
    pci->bus = GPU_PCI_FIRST_BUS + (unsigned)device->index;
    pci->pciDeviceId = GPU_PCI_DEVICE_ID;
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus);
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlReturn_t result = known(device, memory);
    if (result == NVML_SUCCESS) *memory = (nvmlMemory_t){GPU_MEMORY_BYTES, GPU_MEMORY_BYTES, 0};
    return result;
}

/* nvidia-persistenced has its directory in /run for as long as it runs. */
EXPORT nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned *mode) {
    nvmlReturn_t result = known(device, mode);
    if (result == NVML_SUCCESS) *mode = access("/run/nvidia-persistenced", F_OK) == 0;
    return result;
}
