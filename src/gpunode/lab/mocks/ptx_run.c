#include "device_memory.h"
#include "ptx.h"

#include <stdlib.h>
#include <string.h>

/* A thread that runs longer than this is taken for an endless loop. */
#define MAX_STEPS 10000000L

struct thread {
    uint64_t registers[MAX_REGISTERS];
    uint32_t special[SPECIAL_REGISTER_COUNT];
    const unsigned char *parameters;
};

static uint64_t truncated(uint64_t bits, size_t bytes) {
    return bytes >= 8 ? bits : bits & ((1ULL << (bytes * 8)) - 1);
}

static int64_t sign_extended(uint64_t bits, size_t bytes) {
    unsigned shift = (unsigned)(8 - bytes) * 8;
    return (int64_t)(bits << shift) >> shift;
}

/* An integer of the given type, widened to 64 bits as that type widens. */
static uint64_t widened(uint64_t bits, struct type type) {
    return type.kind == SIGNED ? (uint64_t)sign_extended(bits, type.bytes) : truncated(bits, type.bytes);
}

static double real(uint64_t bits, size_t bytes) {
    float single;
    double wide;
    if (bytes == 4) {
        uint32_t low = (uint32_t)bits;
        memcpy(&single, &low, sizeof single);
        return single;
    }
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* A double holds the exact sum and product of two floats closely enough that rounding once more changes nothing. */
static uint64_t real_bits(double value, size_t bytes) {
    uint64_t bits = 0;
    float single = (float)value;
    if (bytes == 4) memcpy(&bits, &single, sizeof single);
    else memcpy(&bits, &value, sizeof value);
    return bits;
}

static uint64_t value_of(const struct thread *thread, const struct operand *operand) {
    switch (operand->kind) {
    case REGISTER: return thread->registers[operand->value];
    case SPECIAL: return thread->special[operand->value];
    default: return operand->value;
    }
}

static uint64_t calculated_real(enum operation operation, uint64_t left, uint64_t right, size_t bytes) {
    double a = real(left, bytes), b = real(right, bytes);
    switch (operation) {
    case ADD: return real_bits(a + b, bytes);
    case SUBTRACT: return real_bits(a - b, bytes);
    default: return real_bits(a * b, bytes);
    }
}

static uint64_t calculated(enum operation operation, struct type type, uint64_t a, uint64_t b, uint64_t c) {
    if (type.kind == FLOAT) return calculated_real(operation, a, b, type.bytes);
    switch (operation) {
    case ADD: return truncated(a + b, type.bytes);
    case SUBTRACT: return truncated(a - b, type.bytes);
    case MULTIPLY: return truncated(a * b, type.bytes);
    case MULTIPLY_ADD: return truncated(a * b + c, type.bytes);
    case MULTIPLY_WIDE: return truncated(widened(a, type) * widened(b, type), type.bytes * 2);
    case MULTIPLY_ADD_WIDE: return truncated(widened(a, type) * widened(b, type) + c, type.bytes * 2);
    case SHIFT_LEFT: return (uint32_t)b >= type.bytes * 8 ? 0 : truncated(a << (uint32_t)b, type.bytes);
    case AND: return a & b;
    case OR: return a | b;
    default: return a ^ b;
    }
}

static bool chosen(enum operation operation, bool less, bool equal, bool greater) {
    switch (operation) {
    case SET_LT: return less;
    case SET_LE: return less || equal;
    case SET_GT: return greater;
    case SET_GE: return greater || equal;
    case SET_EQ: return equal;
    default: return less || greater;
    }
}

static bool compared(enum operation operation, struct type type, uint64_t left, uint64_t right) {
    if (type.kind == FLOAT) {
        double a = real(left, type.bytes), b = real(right, type.bytes);
        return chosen(operation, a < b, a == b, a > b);
    }
    uint64_t a = widened(left, type), b = widened(right, type);
    if (type.kind == SIGNED) return chosen(operation, (int64_t)a < (int64_t)b, a == b, (int64_t)a > (int64_t)b);
    return chosen(operation, a < b, a == b, a > b);
}

static uint64_t converted(uint64_t bits, struct type from, struct type to) {
    if (from.kind == FLOAT) return real_bits(real(bits, from.bytes), to.bytes);
    uint64_t whole = widened(bits, from);
    if (to.kind != FLOAT) return truncated(whole, to.bytes);
    if (to.bytes == 8) return real_bits(from.kind == SIGNED ? (double)(int64_t)whole : (double)whole, 8);
    float single = from.kind == SIGNED ? (float)(int64_t)whole : (float)whole;
    return real_bits(single, 4);
}

static enum ptx_fault access_global(struct thread *thread, const struct instruction *instruction, bool store) {
    const struct operand *address = &instruction->operands[store ? 0 : 1];
    size_t bytes = instruction->type.bytes;
    uint64_t where = value_of(thread, address) + (uint64_t)address->displacement;
    if (where % bytes != 0) return PTX_MISALIGNED_ADDRESS;
    unsigned char *memory = device_bytes(where, bytes);
    if (memory == NULL) return PTX_ILLEGAL_ADDRESS;
    if (store) {
        uint64_t value = value_of(thread, &instruction->operands[1]);
        memcpy(memory, &value, bytes);
        return PTX_FINISHED;
    }
    uint64_t value = 0;
    memcpy(&value, memory, bytes);
    thread->registers[instruction->operands[0].value] = widened(value, instruction->type);
    return PTX_FINISHED;
}

/* Runs one instruction that is neither a branch nor a return. */
static enum ptx_fault step(struct thread *thread, const struct instruction *instruction) {
    const struct operand *operands = instruction->operands;
    struct type type = instruction->type;
    enum operation operation = instruction->operation;
    if (operation == LOAD_GLOBAL || operation == STORE_GLOBAL)
        return access_global(thread, instruction, operation == STORE_GLOBAL);
    uint64_t *result = &thread->registers[operands[0].value];
    if (operation == LOAD_PARAMETER) {
        *result = 0;
        memcpy(result, thread->parameters + operands[1].value, type.bytes);
        return PTX_FINISHED;
    }
    uint64_t a = value_of(thread, &operands[1]), b = value_of(thread, &operands[2]);
    if (operation == MOVE) *result = truncated(a, type.bytes);
    else if (operation == CONVERT) *result = converted(a, instruction->source, type);
    else if (operation >= SET_LT && operation <= SET_NE) *result = compared(operation, type, a, b);
    else *result = calculated(operation, type, a, b, value_of(thread, &operands[3]));
    return PTX_FINISHED;
}

static enum ptx_fault run_thread(const struct kernel *kernel, struct thread *thread) {
    size_t at = 0;
    for (long steps = 0; at < kernel->instruction_count; steps++) {
        if (steps == MAX_STEPS) return PTX_ENDLESS;
        const struct instruction *instruction = &kernel->instructions[at++];
        if (instruction->guard >= 0 && (thread->registers[instruction->guard] != 0) == instruction->guard_negated)
            continue;
        if (instruction->operation == RETURN) break;
        if (instruction->operation == BRANCH) {
            at = instruction->target;
            continue;
        }
        enum ptx_fault fault = step(thread, instruction);
        if (fault != PTX_FINISHED) return fault;
    }
    return PTX_FINISHED;
}

static struct extent position(uint64_t number, struct extent size) {
    return (struct extent){(uint32_t)(number % size.x), (uint32_t)(number / size.x % size.y),
                           (uint32_t)(number / size.x / size.y)};
}

enum ptx_fault ptx_run(const struct kernel *kernel, struct extent grid, struct extent block,
                       const unsigned char *parameters) {
    static struct thread thread;
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, threads = (uint64_t)block.x * block.y * block.z;
    for (uint64_t number = 0; number < blocks * threads; number++) {
        struct extent in_block = position(number % threads, block), in_grid = position(number / threads, grid);
        memset(thread.registers, 0xa5, kernel->register_count * sizeof thread.registers[0]);
        thread.parameters = parameters;
        const struct extent special[] = {in_block, block, in_grid, grid};
        memcpy(thread.special, special, sizeof thread.special);
        enum ptx_fault fault = run_thread(kernel, &thread);
        if (fault != PTX_FINISHED) return fault;
    }
    return PTX_FINISHED;
}
