/* The image's program: adds two vectors on the GPU and says what NVIDIA's vectorAdd sample says. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define ELEMENTS 50000
#define THREADS 256
#define BLOCKS ((ELEMENTS + THREADS - 1) / THREADS)

/* The kernel's text, ended by NUL: PTX_FILE names the file at build time. */
__asm__(".section .rodata\n.global kernel_text\nkernel_text:\n.incbin \"" PTX_FILE "\"\n.byte 0\n.previous\n");
extern const char kernel_text[];

typedef int CUresult;
typedef unsigned long long CUdeviceptr;

static void *library;
static float a[ELEMENTS], b[ELEMENTS], c[ELEMENTS];

_Noreturn static void give_up(const char *what, const char *why) {
    fprintf(stderr, "Failed to %s (error code %s)!\n", what, why);
    exit(EXIT_FAILURE);
}

static void *function(const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) give_up("find a function of the CUDA driver", dlerror());
    return found;
}

static void check(CUresult result, const char *what) {
    const char *text = "unrecognized error code";
    if (result == 0) return;
    ((CUresult (*)(CUresult, const char **))function("cuGetErrorString"))(result, &text);
    give_up(what, text);
}

/* Initialises the first GPU. The runtime tells a missing driver library as a driver that is too old. */
static void start(void) {
    int device;
    void *context;
    const char *what = "allocate device vector A";
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        give_up(what, "CUDA driver version is insufficient for CUDA runtime version");
    }
    check(((CUresult (*)(unsigned))function("cuInit"))(0), what);
    check(((CUresult (*)(int *, int))function("cuDeviceGet"))(&device, 0), what);
    check(((CUresult (*)(void **, int))function("cuDevicePrimaryCtxRetain"))(&context, device), what);
    check(((CUresult (*)(void *))function("cuCtxSetCurrent"))(context), what);
}

static CUdeviceptr vector(const char *what) {
    CUdeviceptr address;
    check(((CUresult (*)(CUdeviceptr *, size_t))function("cuMemAlloc_v2"))(&address, sizeof a), what);
    return address;
}

static void upload(CUdeviceptr to, const float *from, const char *what) {
    check(((CUresult (*)(CUdeviceptr, const void *, size_t))function("cuMemcpyHtoD_v2"))(to, from, sizeof a), what);
}

static void launch(CUdeviceptr da, CUdeviceptr db, CUdeviceptr dc) {
    void *module, *kernel;
    unsigned elements = ELEMENTS;
    void *parameters[] = {&da, &db, &dc, &elements};
    const char *what = "launch vectorAdd kernel";
    check(((CUresult (*)(void **, const void *))function("cuModuleLoadData"))(&module, kernel_text), what);
    check(((CUresult (*)(void **, void *, const char *))function("cuModuleGetFunction"))(&kernel, module, "vector_add"),
          what);
    printf("CUDA kernel launch with %d blocks of %d threads\n", BLOCKS, THREADS);
    check(((CUresult (*)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                         void **))function("cuLaunchKernel"))(kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, NULL, parameters,
                                                              NULL),
          what);
    check(((CUresult (*)(void))function("cuCtxSynchronize"))(), what);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("[Vector addition of %d elements]\n", ELEMENTS);
    for (int i = 0; i < ELEMENTS; i++) {
        a[i] = (float)i;
        b[i] = (float)(2 * i + 1);
        c[i] = -1;
    }
    start();
    CUdeviceptr da = vector("allocate device vector A"), db = vector("allocate device vector B"),
                dc = vector("allocate device vector C");
    printf("Copy input data from the host memory to the CUDA device\n");
    upload(da, a, "copy vector A from host to device");
    upload(db, b, "copy vector B from host to device");
    upload(dc, c, "copy vector C from host to device");
    launch(da, db, dc);
    printf("Copy output data from the CUDA device to the host memory\n");
    check(((CUresult (*)(void *, CUdeviceptr, size_t))function("cuMemcpyDtoH_v2"))(c, dc, sizeof c),
          "copy vector C from device to host");
    for (int i = 0; i < ELEMENTS; i++)
        if (c[i] != a[i] + b[i]) {
            fprintf(stderr, "Result verification failed at element %d!\n", i);
            printf("Test FAILED\n");
            return EXIT_FAILURE;
        }
    printf("Test PASSED\nDone\n");
    return EXIT_SUCCESS;
}
