/* yaml.h - strict YAML 1.2 (https://yaml.org/spec/1.2.2, core schema) as a tree in which every node knows its
 * place.
 *
 * Stricter than YAML where a mistake would hide: a duplicate key, an anchor, an alias, a tag, a second
 * document and a key that is no short scalar are errors. `1e-4` is a number; `yes`, `no`, `on` and `off` are
 * strings. Any bytes are fine as input: what is wrong ends in the diagnostics. Bytes are scanned by libyaml.
 */
#ifndef DG_RECIPE_YAML_H
#define DG_RECIPE_YAML_H

#include "recipe/diagnostics.h"

#define DG_YAML_MAX_BYTES ((size_t)1 << 20)  /* of one text */
#define DG_YAML_MAX_SCALAR ((size_t)1 << 16) /* bytes of one scalar */
#define DG_YAML_MAX_DEPTH 16                 /* lists and maps inside each other */

typedef enum dg_yaml_kind { DG_YAML_SCALAR, DG_YAML_LIST, DG_YAML_MAP } dg_yaml_kind;

typedef struct dg_yaml_node dg_yaml_node;

typedef struct dg_yaml_item {
    const char *key; /* NULL in a list */
    dg_pos key_pos;
    dg_yaml_node *value;
} dg_yaml_item;

struct dg_yaml_node {
    dg_yaml_kind kind;
    bool plain;          /* scalar without quotes: only these can be numbers, booleans and null */
    dg_pos pos;          /* of the value */
    const char *text;    /* scalar; NUL-terminated, UTF-8, without NUL inside */
    dg_yaml_item *items; /* [n]; of a list or a map, in the order of the file */
    size_t n, capacity;
};

/* Parses bytes[0..size); nodes and texts live in `arena`; `file` names the text in positions and is copied
 * there. An empty text is a null scalar. DG_ERR_FORMAT: see the diagnostics; *root is then NULL after an
 * error of syntax, and else the tree without what was refused, so that the rest can be checked. DG_ERR_NOMEM.
 */
dg_status dg_yaml_parse(const char *bytes, size_t size, const char *file, dg_arena *arena,
                        dg_yaml_node **root, dg_diagnostics *diags);

/* A value that stands in no file, such as that of a command-line argument: every position becomes `pos`. */
dg_status dg_yaml_parse_value(const char *text, dg_pos pos, dg_arena *arena, dg_yaml_node **root,
                              dg_diagnostics *diags);

/* The value of a key in a map, or NULL. */
dg_yaml_node *dg_yaml_get(const dg_yaml_node *map, const char *key);
/* As dg_yaml_get, the whole item. */
dg_yaml_item *dg_yaml_find(const dg_yaml_node *map, const char *key);
/* Adds to a map or a list; false when out of memory. */
bool dg_yaml_add(dg_arena *arena, dg_yaml_node *node, dg_yaml_item item);

/* Scalars by the core schema; false if the node is something else. Integers are decimal, 0x or 0o, and int64.
 */
bool dg_yaml_is_null(const dg_yaml_node *node);
bool dg_yaml_bool(const dg_yaml_node *node, bool *out);
bool dg_yaml_int(const dg_yaml_node *node, int64_t *out);
bool dg_yaml_float(const dg_yaml_node *node, double *out); /* integers too; .inf and .nan are refused */

/* Writes text as a scalar that reads back as the same string: plain where that is safe, else in double
 * quotes. */
void dg_yaml_write_string(dg_str *out, const char *text);
/* What a node is, for messages: "the string \"abc\"", "the number 3", "a list", "nothing". */
const char *dg_yaml_describe(const dg_yaml_node *node, char *out, size_t size);

#endif
