#include "ptx.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* What the mock GPU is: the newest PTX language and the newest target that it takes. */
#define NEWEST_PTX_VERSION 9.0
#define NEWEST_TARGET 90
#define MAX_LABELS 64
#define WORD_MAX 64

struct label {
    const char *name;
    size_t instruction;
};

struct parser {
    char *word; /* the next word; words follow each other, each ended by NUL, and an empty one ends them all */
    jmp_buf refused;
    struct kernel *kernel;
    const char *registers[MAX_REGISTERS];
    struct label labels[MAX_LABELS];
    size_t label_count;
    const char *branches[MAX_INSTRUCTIONS]; /* the label that instruction N jumps to */
};

static const struct {
    const char *name;
    struct type type;
} types[] = {{"pred", {PREDICATE, 1}}, {"b8", {BITS, 1}}, {"b16", {BITS, 2}}, {"b32", {BITS, 4}}, {"b64", {BITS, 8}},
             {"u8", {UNSIGNED, 1}}, {"u16", {UNSIGNED, 2}}, {"u32", {UNSIGNED, 4}}, {"u64", {UNSIGNED, 8}},
             {"s8", {SIGNED, 1}}, {"s16", {SIGNED, 2}}, {"s32", {SIGNED, 4}}, {"s64", {SIGNED, 8}},
             {"f32", {FLOAT, 4}}, {"f64", {FLOAT, 8}}};

#define OF(kind) (1u << (kind))
#define WHOLE (OF(UNSIGNED) | OF(SIGNED))
#define LOGICAL (OF(BITS) | OF(PREDICATE))
#define STORED (OF(BITS) | WHOLE | OF(FLOAT))

static const struct {
    const char *name;
    enum operation operation;
    unsigned kinds; /* the kinds of type that may follow the name */
    size_t operands;
} operations[] = {
    {"ld.param", LOAD_PARAMETER, STORED, 2}, {"ld.global", LOAD_GLOBAL, STORED, 2},
    {"ld.global.nc", LOAD_GLOBAL, STORED, 2}, {"st.global", STORE_GLOBAL, STORED, 2},
    {"cvta.to.global", MOVE, OF(UNSIGNED), 2}, {"mov", MOVE, STORED | OF(PREDICATE), 2},
    {"add", ADD, WHOLE | OF(FLOAT), 3}, {"add.rn", ADD, OF(FLOAT), 3},
    {"sub", SUBTRACT, WHOLE | OF(FLOAT), 3}, {"sub.rn", SUBTRACT, OF(FLOAT), 3},
    {"mul", MULTIPLY, OF(FLOAT), 3}, {"mul.rn", MULTIPLY, OF(FLOAT), 3}, {"mul.lo", MULTIPLY, WHOLE, 3},
    {"mul.wide", MULTIPLY_WIDE, WHOLE, 3}, {"mad.lo", MULTIPLY_ADD, WHOLE, 4},
    {"mad.wide", MULTIPLY_ADD_WIDE, WHOLE, 4}, {"shl", SHIFT_LEFT, OF(BITS), 3},
    {"and", AND, LOGICAL, 3}, {"or", OR, LOGICAL, 3}, {"xor", XOR, LOGICAL, 3},
    {"setp.lt", SET_LT, WHOLE | OF(FLOAT), 3}, {"setp.le", SET_LE, WHOLE | OF(FLOAT), 3},
    {"setp.gt", SET_GT, WHOLE | OF(FLOAT), 3}, {"setp.ge", SET_GE, WHOLE | OF(FLOAT), 3},
    {"setp.eq", SET_EQ, STORED, 3}, {"setp.ne", SET_NE, STORED, 3},
};

_Noreturn static void refuse(struct parser *parser, enum ptx_error error) { longjmp(parser->refused, (int)error); }

static const char *take(struct parser *parser) {
    const char *word = parser->word;
    if (*word == '\0') refuse(parser, PTX_INVALID);
    parser->word += strlen(word) + 1;
    return word;
}

static bool next_is(const struct parser *parser, const char *word) { return strcmp(parser->word, word) == 0; }

static bool took(struct parser *parser, const char *word) {
    if (!next_is(parser, word)) return false;
    take(parser);
    return true;
}

static void expect(struct parser *parser, const char *word) {
    if (!took(parser, word)) refuse(parser, PTX_INVALID);
}

static bool in_word(const char *text) {
    return isalnum((unsigned char)*text) || strchr("_$%.", *text) != NULL ||
           (*text == '-' && isdigit((unsigned char)text[1]));
}

static const char *after_comment(const char *text) {
    bool line = text[1] == '/';
    const char *end = strstr(text + 2, line ? "\n" : "*/");
    return end == NULL ? text + strlen(text) : end + (line ? 1 : 2);
}

/* The text's words and punctuation marks, each ended by NUL: at most twice as long as the text. */
static char *words_of(const char *text) {
    char *words = calloc(2, strlen(text) + 2), *end = words;
    while (words != NULL && *text != '\0') {
        if (text[0] == '/' && (text[1] == '/' || text[1] == '*')) text = after_comment(text);
        else if (isspace((unsigned char)*text)) text++;
        else {
            *end++ = *text;
            while (in_word(text) && text[1] != '\0' && in_word(text + 1)) *end++ = *++text;
            text++;
            *end++ = '\0';
        }
    }
    return words;
}

static bool find_type(const char *name, struct type *type) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, name) == 0) {
            *type = types[i].type;
            return true;
        }
    return false;
}

static struct type take_type(struct parser *parser) {
    struct type type;
    const char *word = take(parser);
    if (word[0] != '.' || !find_type(word + 1, &type)) refuse(parser, PTX_INVALID);
    return type;
}

static uint64_t take_number(struct parser *parser) {
    const char *word = take(parser);
    char *end;
    bool real = word[0] == '0' && strchr("fFdD", word[1] ? word[1] : ' ') != NULL;
    uint64_t value = real ? strtoull(word + 2, &end, 16) : (uint64_t)strtoll(word, &end, 0);
    if (*end == 'U' && !real) end++;
    if (*end != '\0') refuse(parser, PTX_INVALID);
    return value;
}

static void declare_register(struct parser *parser, const char *name) {
    if (parser->kernel->register_count == MAX_REGISTERS) refuse(parser, PTX_INVALID);
    parser->registers[parser->kernel->register_count++] = name;
}

/* `.reg .b32 %a, %b;` or `.reg .b32 %r<6>;`, which declares %r0 to %r5, each entered under the family's stem. */
static void read_registers(struct parser *parser) {
    take_type(parser);
    do {
        const char *name = take(parser);
        if (!took(parser, "<")) {
            declare_register(parser, name);
            continue;
        }
        uint64_t count = take_number(parser);
        expect(parser, ">");
        for (uint64_t number = 0; number < count; number++) declare_register(parser, name);
    } while (took(parser, ","));
    expect(parser, ";");
}

/* The register's number in the kernel. Members of one family follow each other under the family's stem. */
static bool find_register(const struct parser *parser, const char *name, uint64_t *number) {
    for (size_t i = 0, count = parser->kernel->register_count; i < count;) {
        const char *stem = parser->registers[i];
        size_t family = 1, length = strlen(stem);
        while (i + family < count && parser->registers[i + family] == stem) family++;
        if (strcmp(stem, name) == 0) {
            *number = i;
            return true;
        }
        char *end;
        if (strncmp(stem, name, length) == 0 && isdigit((unsigned char)name[length])) {
            uint64_t member = strtoull(name + length, &end, 10);
            if (*end == '\0' && member < family) {
                *number = i + member;
                return true;
            }
        }
        i += family;
    }
    return false;
}

static bool find_special(const char *name, uint64_t *number) {
    static const char *const names[SPECIAL_REGISTER_COUNT] = SPECIAL_REGISTERS;
    for (*number = 0; *number < SPECIAL_REGISTER_COUNT; ++*number)
        if (strcmp(names[*number], name) == 0) return true;
    return false;
}

static uint64_t take_register(struct parser *parser) {
    uint64_t number;
    if (!find_register(parser, take(parser), &number)) refuse(parser, PTX_INVALID);
    return number;
}

static struct operand take_operand(struct parser *parser) {
    uint64_t number;
    if (!isdigit((unsigned char)parser->word[0]) && parser->word[0] != '-') {
        const char *name = parser->word;
        if (find_special(name, &number)) {
            take(parser);
            return (struct operand){SPECIAL, number, 0};
        }
        return (struct operand){REGISTER, take_register(parser), 0};
    }
    return (struct operand){IMMEDIATE, take_number(parser), 0};
}

static uint64_t parameter_offset(struct parser *parser, const char *name) {
    for (size_t i = 0; i < parser->kernel->parameter_count; i++)
        if (strcmp(parser->kernel->parameters[i].name, name) == 0) return parser->kernel->parameters[i].offset;
    refuse(parser, PTX_INVALID);
}

/* `[%rd1+4]`, or `[name]` of a parameter. */
static struct operand take_address(struct parser *parser, const struct instruction *instruction) {
    bool parameter = instruction->operation == LOAD_PARAMETER;
    struct operand operand = {parameter ? PARAMETER : REGISTER, 0, 0};
    expect(parser, "[");
    operand.value = parameter ? parameter_offset(parser, take(parser)) : take_register(parser);
    if (took(parser, "+")) operand.displacement = (int64_t)take_number(parser);
    expect(parser, "]");
    if (!parameter) return operand;
    operand.value += (uint64_t)operand.displacement;
    if (operand.value + instruction->type.bytes > parser->kernel->parameter_bytes) refuse(parser, PTX_INVALID);
    return operand;
}

/* `cvt.u64.u32` and `cvt.rn.f32.s32`: the last part is the source, the one before it the result. */
static bool find_conversion(char *stem, struct instruction *instruction) {
    char *dot = strrchr(stem, '.');
    if (strncmp(stem, "cvt.", 4) != 0 || !find_type(dot + 1, &instruction->type)) return false;
    *dot = '\0';
    bool rounded = strcmp(stem, "cvt.rn") == 0;
    bool to_real = instruction->type.kind == FLOAT, from_real = instruction->source.kind == FLOAT;
    instruction->operation = CONVERT;
    return (strcmp(stem, "cvt") == 0 || (rounded && to_real)) && (to_real || !from_real);
}

/* Fills in the operation and its type; returns how many operands follow. */
static size_t decode(struct parser *parser, const char *word, struct instruction *instruction) {
    char stem[WORD_MAX];
    const char *dot = strrchr(word, '.');
    if (dot == NULL || strlen(word) >= sizeof stem || !find_type(dot + 1, &instruction->type))
        refuse(parser, PTX_INVALID);
    memcpy(stem, word, (size_t)(dot - word));
    stem[dot - word] = '\0';
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        if (strcmp(operations[i].name, stem) == 0 && operations[i].kinds & OF(instruction->type.kind)) {
            instruction->operation = operations[i].operation;
            return operations[i].operands;
        }
    instruction->source = instruction->type;
    if (!find_conversion(stem, instruction)) refuse(parser, PTX_INVALID);
    return 2;
}

static void read_operands(struct parser *parser, struct instruction *instruction, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (i > 0) expect(parser, ",");
        bool result = i == 0 && instruction->operation != STORE_GLOBAL;
        if (next_is(parser, "[")) instruction->operands[i] = take_address(parser, instruction);
        else if (result) instruction->operands[i] = (struct operand){REGISTER, take_register(parser), 0};
        else instruction->operands[i] = take_operand(parser);
    }
}

static void read_guard(struct parser *parser, struct instruction *instruction) {
    instruction->guard = -1;
    if (!took(parser, "@")) return;
    instruction->guard_negated = took(parser, "!");
    instruction->guard = (int)take_register(parser);
}

static void read_instruction(struct parser *parser) {
    struct kernel *kernel = parser->kernel;
    if (kernel->instruction_count == MAX_INSTRUCTIONS) refuse(parser, PTX_INVALID);
    struct instruction *instruction = &kernel->instructions[kernel->instruction_count];
    read_guard(parser, instruction);
    const char *word = take(parser);
    if (strcmp(word, "ret") == 0 || strcmp(word, "exit") == 0) instruction->operation = RETURN;
    else if (strcmp(word, "bra") == 0 || strcmp(word, "bra.uni") == 0) {
        instruction->operation = BRANCH;
        parser->branches[kernel->instruction_count] = take(parser);
    } else read_operands(parser, instruction, decode(parser, word, instruction));
    expect(parser, ";");
    kernel->instruction_count++;
}

static bool read_label(struct parser *parser) {
    const char *second = parser->word + strlen(parser->word) + 1;
    if (strcmp(second, ":") != 0) return false;
    if (parser->label_count == MAX_LABELS) refuse(parser, PTX_INVALID);
    parser->labels[parser->label_count++] = (struct label){take(parser), parser->kernel->instruction_count};
    expect(parser, ":");
    return true;
}

static void resolve_branches(struct parser *parser) {
    for (size_t i = 0; i < parser->kernel->instruction_count; i++) {
        if (parser->kernel->instructions[i].operation != BRANCH) continue;
        size_t label = 0;
        while (label < parser->label_count && strcmp(parser->labels[label].name, parser->branches[i]) != 0) label++;
        if (label == parser->label_count) refuse(parser, PTX_INVALID);
        parser->kernel->instructions[i].target = parser->labels[label].instruction;
    }
}

static void read_parameter(struct parser *parser) {
    struct kernel *kernel = parser->kernel;
    expect(parser, ".param");
    struct type type = take_type(parser);
    const char *name = take(parser);
    while (!next_is(parser, ",") && !next_is(parser, ")")) name = take(parser); /* such as `.ptr .global .align 4 a` */
    if (kernel->parameter_count == MAX_PARAMETERS) refuse(parser, PTX_INVALID);
    size_t offset = (kernel->parameter_bytes + type.bytes - 1) / type.bytes * type.bytes;
    kernel->parameters[kernel->parameter_count++] = (struct parameter){name, type, offset};
    kernel->parameter_bytes = offset + type.bytes;
}

static void read_kernel(struct parser *parser) {
    parser->label_count = 0;
    parser->kernel->name = take(parser);
    expect(parser, "(");
    if (!next_is(parser, ")")) do read_parameter(parser);
        while (took(parser, ","));
    expect(parser, ")");
    expect(parser, "{");
    while (!took(parser, "}")) {
        if (took(parser, ".reg")) read_registers(parser);
        else if (!read_label(parser)) read_instruction(parser);
    }
    resolve_branches(parser);
}

static void read_header(struct parser *parser) {
    expect(parser, ".version");
    if (strtod(take(parser), NULL) > NEWEST_PTX_VERSION) refuse(parser, PTX_NEWER_VERSION);
    expect(parser, ".target");
    const char *target = take(parser);
    if (strncmp(target, "sm_", 3) != 0) refuse(parser, PTX_INVALID);
    if (strtol(target + 3, NULL, 10) > NEWEST_TARGET) refuse(parser, PTX_OTHER_TARGET);
    expect(parser, ".address_size");
    expect(parser, "64");
}

static void read_kernels(struct parser *parser, struct ptx_module *module) {
    read_header(parser);
    while (*parser->word != '\0') {
        took(parser, ".visible");
        expect(parser, ".entry");
        parser->kernel = calloc(1, sizeof *parser->kernel);
        if (parser->kernel == NULL) refuse(parser, PTX_INVALID);
        parser->kernel->next = module->kernels;
        module->kernels = parser->kernel;
        read_kernel(parser);
    }
}

enum ptx_error ptx_load(const char *text, struct ptx_module **module) {
    static struct parser parser;
    *module = calloc(1, sizeof **module);
    if (*module == NULL) return PTX_INVALID;
    (*module)->words = parser.word = words_of(text);
    int error = PTX_NO_TEXT;
    if (parser.word != NULL && next_is(&parser, ".version")) {
        error = setjmp(parser.refused);
        if (error == 0) read_kernels(&parser, *module);
    }
    if (error == 0) return PTX_LOADED;
    ptx_unload(*module);
    *module = NULL;
    return (enum ptx_error)error;
}

void ptx_unload(struct ptx_module *module) {
    while (module->kernels != NULL) {
        struct kernel *kernel = module->kernels;
        module->kernels = kernel->next;
        free(kernel);
    }
    free(module->words);
    free(module);
}
