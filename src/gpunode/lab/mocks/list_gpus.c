/* `nvidia-smi -L` inside a container: the GPUs that NVML shows there, a line for each. */
#include <dlfcn.h>
#include <stdio.h>

typedef int (*call)();

int main(void) {
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (nvml == NULL) {
        puts("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.");
        return 12;
    }
    unsigned count = 0;
    if (((call)dlsym(nvml, "nvmlInit_v2"))() != 0) return 9;
    ((call)dlsym(nvml, "nvmlDeviceGetCount_v2"))(&count);
    for (unsigned index = 0; index < count; index++) {
        void *gpu;
        char name[96], uuid[96];
        ((call)dlsym(nvml, "nvmlDeviceGetHandleByIndex_v2"))(index, &gpu);
        ((call)dlsym(nvml, "nvmlDeviceGetName"))(gpu, name, (unsigned)sizeof name);
        ((call)dlsym(nvml, "nvmlDeviceGetUUID"))(gpu, uuid, (unsigned)sizeof uuid);
        printf("GPU %u: %s (UUID: %s)\n", index, name, uuid);
    }
    return 0;
}
