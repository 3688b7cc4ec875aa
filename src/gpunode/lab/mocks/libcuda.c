/* A mock libcuda.so.1: the driver API that a vector addition needs, over an interpreter of PTX.
   One process, one thread and one current context at a time: that is all a smoke test asks for. */
#include "device_memory.h"
#include "driver.h"
#include "ptx.h"

#include <stdlib.h>

#define ERRORS(X)                                                                                                      \
    X(SUCCESS, 0, "no error")                                                                                          \
    X(ERROR_INVALID_VALUE, 1, "invalid argument")                                                                      \
    X(ERROR_OUT_OF_MEMORY, 2, "out of memory")                                                                         \
    X(ERROR_NOT_INITIALIZED, 3, "initialization error")                                                                \
    X(ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected")                                                      \
    X(ERROR_INVALID_DEVICE, 101, "invalid device ordinal")                                                             \
    X(ERROR_INVALID_IMAGE, 200, "device kernel image is invalid")                                                      \
    X(ERROR_INVALID_CONTEXT, 201, "invalid device context")                                                            \
    X(ERROR_NO_BINARY_FOR_GPU, 209, "no kernel image is available for execution on the device")                        \
    X(ERROR_INVALID_PTX, 218, "a PTX JIT compilation failed")                                                          \
    X(ERROR_UNSUPPORTED_PTX_VERSION, 222, "the provided PTX was compiled with an unsupported toolchain.")              \
    X(ERROR_INVALID_HANDLE, 400, "invalid resource handle")                                                            \
    X(ERROR_NOT_FOUND, 500, "named symbol not found")                                                                  \
    X(ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered")                                          \
    X(ERROR_LAUNCH_TIMEOUT, 702, "the launch timed out and was terminated")                                            \
    X(ERROR_MISALIGNED_ADDRESS, 716, "misaligned address")                                                             \
    X(ERROR_SYSTEM_DRIVER_MISMATCH, 803, "system has unsupported display driver / cuda driver combination")

#define ENUMERATOR(name, code, text) CUDA_##name = (code),
typedef enum { ERRORS(ENUMERATOR) } CUresult;

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct {
    CUdevice device;
} *CUcontext;
typedef struct {
    unsigned char bytes[16];
} CUuuid;

#define MAX_THREADS_PER_BLOCK 1024U
#define MAX_PARAMETER_BYTES 4096

static bool initialized;
static CUcontext current;
static CUcontext primary;
/* A kernel's fault is told by the next call that waits for it, and spoils the context for good. */
static CUresult fault;

static CUresult ready(void) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    return current == NULL ? CUDA_ERROR_INVALID_CONTEXT : fault;
}

static CUresult known_device(CUdevice device) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    return device < 0 || device >= gpu_count() ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

EXPORT CUresult cuInit(unsigned flags) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (!driver_loaded() || gpu_count() == 0) return CUDA_ERROR_NO_DEVICE;
    if (driver_version_differs()) return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    initialized = true;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int *version) {
    if (version == NULL) return CUDA_ERROR_INVALID_VALUE;
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **name) {
#define NAME(name_, code, text) case code: *name = "CUDA_" #name_; return CUDA_SUCCESS;
    switch ((int)error) { ERRORS(NAME) }
    *name = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **string) {
#define TEXT(name, code, text) case code: *string = text; return CUDA_SUCCESS;
    switch ((int)error) { ERRORS(TEXT) }
    *string = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuDeviceGetCount(int *count) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    *count = gpu_count();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    CUresult result = known_device(ordinal);
    if (result == CUDA_SUCCESS) *device = ordinal;
    return result;
}

EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    CUresult result = known_device(device);
    if (result == CUDA_SUCCESS) snprintf(name, (size_t)length, "%s", GPU_NAME);
    return result;
}

EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    CUresult result = known_device(device);
    if (result == CUDA_SUCCESS) gpu_uuid(device, uuid->bytes);
    return result;
}

EXPORT CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    CUresult result = known_device(device);
    if (result == CUDA_SUCCESS) *bytes = GPU_MEMORY_BYTES;
    return result;
}

static CUresult new_context(CUcontext *context, CUdevice device) {
    CUresult result = known_device(device);
    if (result != CUDA_SUCCESS) return result;
    *context = calloc(1, sizeof **context);
    if (*context == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    (*context)->device = device;
    return CUDA_SUCCESS;
}

static void end_context(CUcontext context) {
    if (context == current) current = NULL;
    device_free_all();
    fault = CUDA_SUCCESS;
    free(context);
}

EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
    (void)flags;
    CUresult result = new_context(context, device);
    if (result == CUDA_SUCCESS) current = *context;
    return result;
}

EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
    if (context == NULL) return CUDA_ERROR_INVALID_CONTEXT;
    end_context(context);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    if (primary == NULL || primary->device != device) {
        CUresult result = new_context(&primary, device);
        if (result != CUDA_SUCCESS) return result;
    }
    *context = primary;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    if (primary == NULL || primary->device != device) return CUDA_ERROR_INVALID_CONTEXT;
    end_context(primary);
    primary = NULL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    current = context;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSynchronize(void) { return ready(); }

EXPORT CUresult cuModuleLoadData(struct ptx_module **module, const void *image) {
    static const CUresult results[] = {[PTX_LOADED] = CUDA_SUCCESS,
                                       [PTX_NO_TEXT] = CUDA_ERROR_INVALID_IMAGE,
                                       [PTX_INVALID] = CUDA_ERROR_INVALID_PTX,
                                       [PTX_NEWER_VERSION] = CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
                                       [PTX_OTHER_TARGET] = CUDA_ERROR_NO_BINARY_FOR_GPU};
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    return image == NULL ? CUDA_ERROR_INVALID_VALUE : results[ptx_load(image, module)];
}

EXPORT CUresult cuModuleUnload(struct ptx_module *module) {
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    if (module == NULL) return CUDA_ERROR_INVALID_HANDLE;
    ptx_unload(module);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(struct kernel **function, struct ptx_module *module, const char *name) {
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    if (module == NULL) return CUDA_ERROR_INVALID_HANDLE;
    for (*function = module->kernels; *function != NULL; *function = (*function)->next)
        if (strcmp((*function)->name, name) == 0) return CUDA_SUCCESS;
    return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = device_allocate(size);
    return *address == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    return device_free(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    unsigned char *bytes = device_bytes(to, size);
    if (bytes == NULL || from == NULL) return CUDA_ERROR_INVALID_VALUE;
    memcpy(bytes, from, size);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) {
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    const unsigned char *bytes = device_bytes(from, size);
    if (bytes == NULL || to == NULL) return CUDA_ERROR_INVALID_VALUE;
    memcpy(to, bytes, size);
    return CUDA_SUCCESS;
}

static bool launchable(struct extent grid, struct extent block) {
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    return threads > 0 && threads <= MAX_THREADS_PER_BLOCK && grid.x > 0 && grid.y > 0 && grid.z > 0;
}

/* Copies each parameter from the address that the caller gives for it to where the kernel reads it. */
static bool pack_parameters(const struct kernel *kernel, void **addresses, unsigned char *packed) {
    if (kernel->parameter_count > 0 && addresses == NULL) return false;
    for (size_t i = 0; i < kernel->parameter_count; i++) {
        if (addresses[i] == NULL) return false;
        memcpy(packed + kernel->parameters[i].offset, addresses[i], kernel->parameters[i].type.bytes);
    }
    return true;
}

EXPORT CUresult cuLaunchKernel(const struct kernel *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                               void *stream, void **parameters, void **extra) {
    static const CUresult results[] = {[PTX_FINISHED] = CUDA_SUCCESS,
                                       [PTX_ILLEGAL_ADDRESS] = CUDA_ERROR_ILLEGAL_ADDRESS,
                                       [PTX_MISALIGNED_ADDRESS] = CUDA_ERROR_MISALIGNED_ADDRESS,
                                       [PTX_ENDLESS] = CUDA_ERROR_LAUNCH_TIMEOUT};
    static unsigned char packed[MAX_PARAMETER_BYTES];
    struct extent grid = {grid_x, grid_y, grid_z}, block = {block_x, block_y, block_z};
    CUresult result = ready();
    if (result != CUDA_SUCCESS) return result;
    if (kernel == NULL) return CUDA_ERROR_INVALID_HANDLE;
    if (shared_bytes != 0 || stream != NULL || extra != NULL || !launchable(grid, block) ||
        !pack_parameters(kernel, parameters, packed))
        return CUDA_ERROR_INVALID_VALUE;
    fault = results[ptx_run(kernel, grid, block, packed)];
    return CUDA_SUCCESS;
}
