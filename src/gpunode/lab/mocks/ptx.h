/* An interpreter for the part of PTX that element-wise kernels use. What it does not know it refuses, when loading. */
#ifndef MOCK_PTX_H
#define MOCK_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { PREDICATE, BITS, UNSIGNED, SIGNED, FLOAT };

struct type {
    enum kind kind;
    size_t bytes;
};

enum operation {
    LOAD_PARAMETER, LOAD_GLOBAL, STORE_GLOBAL, MOVE, CONVERT, ADD, SUBTRACT, MULTIPLY, MULTIPLY_WIDE, MULTIPLY_ADD,
    MULTIPLY_ADD_WIDE, SHIFT_LEFT, AND, OR, XOR, SET_LT, SET_LE, SET_GT, SET_GE, SET_EQ, SET_NE, BRANCH, RETURN
};

enum operand_kind { REGISTER, IMMEDIATE, SPECIAL, PARAMETER };

struct operand {
    enum operand_kind kind;
    uint64_t value;  /* register or special register number, an immediate's bits, a parameter's offset */
    int64_t displacement; /* bytes added to an address */
};

struct instruction {
    enum operation operation;
    struct type type;
    struct type source; /* what CONVERT converts from */
    int guard;          /* predicate register, or -1 */
    bool guard_negated;
    struct operand operands[4];
    size_t target; /* of BRANCH: an instruction's index */
};

struct parameter {
    const char *name;
    struct type type;
    size_t offset;
};

#define MAX_PARAMETERS 32
#define MAX_REGISTERS 512
#define MAX_INSTRUCTIONS 2048

struct kernel {
    const char *name;
    struct parameter parameters[MAX_PARAMETERS];
    size_t parameter_count, parameter_bytes;
    size_t register_count;
    struct instruction instructions[MAX_INSTRUCTIONS];
    size_t instruction_count;
    struct kernel *next;
};

enum ptx_error { PTX_LOADED, PTX_NO_TEXT, PTX_INVALID, PTX_NEWER_VERSION, PTX_OTHER_TARGET };

struct ptx_module {
    char *words;
    struct kernel *kernels;
};

enum ptx_error ptx_load(const char *text, struct ptx_module **module);
void ptx_unload(struct ptx_module *module);

enum ptx_fault { PTX_FINISHED, PTX_ILLEGAL_ADDRESS, PTX_MISALIGNED_ADDRESS, PTX_ENDLESS };

struct extent {
    uint32_t x, y, z;
};

/* Runs every thread of the grid, one after the other, and stops at the first fault. */
enum ptx_fault ptx_run(const struct kernel *kernel, struct extent grid, struct extent block,
                       const unsigned char *parameters);

/* Special registers, in the order of their operand values. */
#define SPECIAL_REGISTERS                                                                                              \
    {"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%nctaid.x",   \
     "%nctaid.y", "%nctaid.z"}
#define SPECIAL_REGISTER_COUNT 12

#endif
