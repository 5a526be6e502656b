/* digpt/params.h - what a component lets a recipe set: a schema, and the typed values that come back.
 *
 * From the schema alone the core checks recipes, prints help and writes the recipe reference; a plugin never sees
 * YAML. Values arrive in the order of the schema, one each, defaults filled in, ranges and choices checked. */
#ifndef DIGPT_PARAMS_H
#define DIGPT_PARAMS_H

#include "digpt/base.h"

typedef enum dg_param_type {
    DG_PARAM_BOOL = 1,   /* true or false */
    DG_PARAM_INT = 2,    /* int64 */
    DG_PARAM_FLOAT = 3,  /* double; an integer literal is accepted */
    DG_PARAM_STRING = 4, /* any text */
    DG_PARAM_CHOICE = 5, /* one of `choices` */
    DG_PARAM_PATH = 6,   /* a path, already made absolute from the file that declared it; special words in `choices` */
    DG_PARAM_INTS = 7,   /* list of integers; min and max hold for each */
    DG_PARAM_FLOATS = 8, /* list of numbers; min and max hold for each */
    DG_PARAM_PATHS = 9   /* list of paths, each as PATH; a list of one may be written without brackets, as INTS too */
} dg_param_type;

typedef struct dg_param_spec {
    uint32_t struct_size; /* DG_PARAM sets it */
    uint32_t type;        /* dg_param_type */
    const char *key;      /* snake_case */
    const char *def;      /* default as YAML text ("0.1", "[2, 2]", "random"); NULL: required; "": not set */
    const char *unit;     /* "pixels", "tokens", "images"; "" for pure numbers */
    const char *help;     /* one line */
    double min, max;      /* for numbers; both 0: no limits */
    const char *const *choices; /* NULL-terminated; for CHOICE and the special words of PATH; else NULL */
    uint32_t min_items, max_items; /* for lists; both 0: any length */
} dg_param_spec;

/* Rows of a schema:
 *   static const dg_param_spec params[] = {
 *       DG_PARAM(INT, "depth", "12", "blocks", "number of transformer blocks", 1, 1024, NULL),
 *   }; */
#define DG_PARAM(TYPE, KEY, DEF, UNIT, HELP, MIN, MAX, CHOICES)                                                        \
    {(uint32_t)sizeof(dg_param_spec), DG_PARAM_##TYPE, KEY, DEF, UNIT, HELP, MIN, MAX, CHOICES, 0, 0}
/* A list of MIN_ITEMS to MAX_ITEMS. */
#define DG_PARAM_LIST(TYPE, KEY, DEF, UNIT, HELP, MIN, MAX, MIN_ITEMS, MAX_ITEMS)                                      \
    {(uint32_t)sizeof(dg_param_spec), DG_PARAM_##TYPE, KEY, DEF, UNIT, HELP, MIN, MAX, NULL, MIN_ITEMS, MAX_ITEMS}

typedef struct dg_param_value {
    uint32_t type;   /* dg_param_type */
    uint32_t is_set; /* 0: the recipe does not give it and the default is "" */
    union {
        int64_t i;      /* BOOL (0 or 1), INT; CHOICE: index into choices */
        double f;       /* FLOAT */
        const char *s;  /* STRING, PATH */
        struct {
            const int64_t *items;
            size_t n;
        } ints;
        struct {
            const double *items;
            size_t n;
        } floats;
        struct {
            const char *const *items;
            size_t n;
        } paths;
    } v;
    const char *text; /* the value as YAML text, "" when not set; for CHOICE, STRING and PATH the bare text */
} dg_param_value;

/* The values of one component; owned by the core, valid as long as the component. */
typedef struct dg_params {
    uint32_t struct_size;
    uint32_t count;
    const dg_param_value *values; /* [count], in the order of the schema */
} dg_params;

#endif
