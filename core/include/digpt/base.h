/* digpt/base.h - what every header of the SDK rests on: status codes, the error record, data types, shapes.
 *
 * The SDK is header-only: a plugin includes digpt/ headers and links to nothing of ours.
 * Every struct that crosses the plugin boundary begins with struct_size; minors only append members. */
#ifndef DIGPT_BASE_H
#define DIGPT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DG_ABI_MAJOR 1
#define DG_ABI_MINOR 0

#if defined(__GNUC__)
#define DG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DG_UNUSED __attribute__((unused))
#else
#define DG_PRINTF(fmt, args)
#define DG_UNUSED
#endif

/* True if the member M of the sized struct *P of type T is there: the sender may be older than this header.
 */
#define DG_HAS(P, T, M) ((P)->struct_size >= offsetof(T, M) + sizeof((P)->M))

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dg_status {
    DG_OK = 0,
    DG_ERR_INVALID = 1,     /* an argument or a recipe value is wrong */
    DG_ERR_NOMEM = 2,       /* memory ran out, on the host or on a device */
    DG_ERR_IO = 3,          /* the operating system refused a read or a write */
    DG_ERR_FORMAT = 4,      /* foreign bytes are not what they should be */
    DG_ERR_UNSUPPORTED = 5, /* understood, and not done here; the message says why */
    DG_ERR_NOT_FOUND = 6,   /* a file, a name, a device that is not there */
    DG_ERR_VERSION = 7,     /* made for another version */
    DG_ERR_MISMATCH = 8,    /* two parts that do not go together, such as discrete tokens and a cosine loss */
    DG_ERR_NOT_FINITE = 9,  /* a loss or gradient became inf or nan */
    DG_ERR_STOPPED = 10,    /* a signal or a time limit asked for an orderly stop */
    DG_ERR_INTERNAL = 11    /* a bug of ours */
} dg_status;

/* Filled by whoever fails, owned by the caller. `key` names the recipe key that is to blame where one is
 * known
 * ("tokenizer.weights"), so that the core can add file:line:col. */
typedef struct dg_error {
    uint32_t struct_size; /* DG_ERROR_INIT sets it */
    int32_t code;         /* dg_status */
    char key[128];
    char message[1024]; /* what is wrong, where, and what to do; no newline at the end */
} dg_error;

#define DG_ERROR_INIT                                                                                        \
    {                                                                                                        \
        (uint32_t)sizeof(dg_error), 0, "", ""                                                                \
    }

/* Records a failure and returns its code, so that `return dg_fail(err, ...)` reads well. err may be NULL. */
DG_PRINTF(3, 4) static inline DG_UNUSED dg_status dg_fail(dg_error *err, dg_status code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        err->code = code;
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
    }
    return code;
}

/* As dg_fail, and blames the recipe key `key`. */
DG_PRINTF(4, 5)
static inline DG_UNUSED dg_status dg_fail_key(dg_error *err, dg_status code, const char *key, const char *fmt,
                                              ...)
{
    if (err) {
        va_list ap;
        err->code = code;
        snprintf(err->key, sizeof err->key, "%s", key);
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
    }
    return code;
}

/* Puts "context: " before a message that is already there, and returns the code. */
DG_PRINTF(2, 3) static inline DG_UNUSED dg_status dg_fail_in(dg_error *err, const char *fmt, ...)
{
    if (!err) return DG_ERR_INTERNAL;
    char old[sizeof err->message], context[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    memcpy(old, err->message, sizeof old);
    snprintf(err->message, sizeof err->message, "%s: %.*s", context, (int)(sizeof old - sizeof context - 3),
             old);
    return (dg_status)err->code;
}

/* Returns from the calling function with the status of EXPR when it failed. */
#define DG_TRY(EXPR)                                                                                         \
    do {                                                                                                     \
        dg_status dg_try_ = (EXPR);                                                                          \
        if (dg_try_ != DG_OK) return dg_try_;                                                                \
    } while (0)

/* ---- data types */

typedef enum dg_dtype {
    DG_NONE = 0, /* "not said": the default of optional dtype attributes */
    DG_F32 = 1,
    DG_BF16 = 2,
    DG_F16 = 3,
    DG_F8E4M3 = 4,
    DG_I32 = 5,
    DG_U8 = 6,
    DG_BOOL = 7, /* one byte, 0 or 1 */
    DG_DTYPE_COUNT = 8
} dg_dtype;

static inline DG_UNUSED size_t dg_dtype_size(dg_dtype t)
{
    static const uint8_t size[DG_DTYPE_COUNT] = {0, 4, 2, 2, 1, 4, 1, 1};
    return (unsigned)t < DG_DTYPE_COUNT ? size[t] : 0;
}

static inline DG_UNUSED const char *dg_dtype_name(dg_dtype t)
{
    static const char *const name[DG_DTYPE_COUNT] = {"none",   "f32", "bf16", "f16",
                                                     "f8e4m3", "i32", "u8",   "bool"};
    return (unsigned)t < DG_DTYPE_COUNT ? name[t] : "?";
}

static inline DG_UNUSED bool dg_dtype_is_float(dg_dtype t)
{
    return t >= DG_F32 && t <= DG_F8E4M3;
}

/* bf16 is the upper half of an f32; to nearest, ties to even; NaN stays NaN. */
static inline DG_UNUSED float dg_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline DG_UNUSED uint16_t dg_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* ---- shapes */

#define DG_MAX_RANK 6

/* dtype and static shape of a value; row-major and dense. rank 0 is a scalar. */
typedef struct dg_type {
    int32_t dtype; /* dg_dtype */
    int32_t rank;
    int64_t dims[DG_MAX_RANK];
} dg_type;

static inline DG_UNUSED int64_t dg_type_count(const dg_type *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

static inline DG_UNUSED int64_t dg_type_bytes(const dg_type *t)
{
    return dg_type_count(t) * (int64_t)dg_dtype_size((dg_dtype)t->dtype);
}

static inline DG_UNUSED bool dg_same_dims(const dg_type *a, const dg_type *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

/* Writes "bf16[8,148,768]" into out and returns it. */
static inline DG_UNUSED const char *dg_type_text(const dg_type *t, char *out, size_t size)
{
    int n = snprintf(out, size, "%s[", dg_dtype_name((dg_dtype)t->dtype));
    for (int i = 0; i < t->rank && n >= 0 && (size_t)n < size; i++)
        n += snprintf(out + n, size - (size_t)n, i ? ",%lld" : "%lld", (long long)t->dims[i]);
    if (n >= 0 && (size_t)n < size) snprintf(out + n, size - (size_t)n, "]");
    return out;
}

#ifdef __cplusplus
}
#endif
#endif
