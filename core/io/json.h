/* json.h - strict JSON (RFC 8259) read into a tree, for headers and records that may be hostile.
 *
 * Refused, with line and column: anything after the value, duplicate keys, text that is not UTF-8, NUL
 * characters, lone surrogates, more than 64 levels, more than 4 million values. Integers of up to 64 bits are
 * exact. */
#ifndef DG_IO_JSON_H
#define DG_IO_JSON_H

#include "base/mem.h"
#include "base/str.h"

typedef enum dg_json_type {
    DG_JSON_NULL,
    DG_JSON_BOOL,
    DG_JSON_INT,   /* a number without fraction or exponent that fits int64 */
    DG_JSON_FLOAT, /* any other number, nearest double */
    DG_JSON_STRING,
    DG_JSON_ARRAY,
    DG_JSON_OBJECT
} dg_json_type;

typedef struct dg_json {
    dg_json_type type;
    uint32_t line, col; /* of its first character, counted from 1; col in bytes */
    uint32_t count;     /* ARRAY, OBJECT: number of children */
    const char *key;    /* the name, if this is a member of an object; else NULL */
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *text;
        const struct dg_json *first; /* ARRAY, OBJECT: children in the file's order, linked by next */
    } v;
    const struct dg_json *next;
    const struct dg_json *const *sorted; /* OBJECT: [count] members by key */
} dg_json;

/* The tree lies in `arena` and needs `bytes` no more. `where` names the source in messages. */
dg_status dg_json_parse(const char *bytes, size_t size, const char *where, dg_arena *arena,
                        const dg_json **root, dg_error *err);
/* A file of at most `limit` bytes. */
dg_status dg_json_read_file(const char *path, size_t limit, dg_arena *arena, const dg_json **root,
                            dg_error *err);

/* The member of an object, or NULL (also when `object` is NULL or no object). */
const dg_json *dg_json_get(const dg_json *object, const char *key);
/* Members that must be there and of the type asked for; messages say "where:line:col". A FLOAT is asked for
 * as a number: integers are taken too. */
dg_status dg_json_need_int(const dg_json *object, const char *key, const char *where, int64_t *out,
                           dg_error *err);
dg_status dg_json_need_number(const dg_json *object, const char *key, const char *where, double *out,
                              dg_error *err);
dg_status dg_json_need_text(const dg_json *object, const char *key, const char *where, const char **out,
                            dg_error *err);

/* Writes the shortest decimal that reads back as the same double; inf and nan as the strings "inf", "-inf",
 * "nan", which JSON has no numbers for. */
void dg_json_put_number(dg_str *s, double value);

#endif
