/* value.c - one value by its row of a schema: read, compared, written. See schema.h. */
#include "recipe/schema.h"

#include <math.h>
#include <stdlib.h>

dg_param_spec dg_spec_at(const dg_param_spec *specs, size_t i)
{
    dg_param_spec spec = {0};
    size_t stride = specs->struct_size;
    memcpy(&spec, (const char *)specs + i * stride, stride < sizeof spec ? stride : sizeof spec);
    return spec;
}

/* What is being read, for messages. */
typedef struct reader {
    const dg_param_spec *spec;
    const char *key;
    dg_arena *arena;
    dg_diagnostics *diags;
} reader;

static dg_status wrong_type(const reader *r, const dg_yaml_node *node, const char *expected)
{
    char got[128];
    return dg_diagnose(r->diags, DG_SEVERITY_ERROR, node->pos, "%s: expected %s, found %s", r->key, expected,
                       dg_yaml_describe(node, got, sizeof got));
}

static dg_status check_range(const reader *r, const dg_yaml_node *node, double value)
{
    const dg_param_spec *s = r->spec;
    if ((s->min == 0 && s->max == 0) || (value >= s->min && value <= s->max)) return DG_OK;
    char limits[96];
    if (isinf(s->max))
        snprintf(limits, sizeof limits, "at least %.10g", s->min);
    else if (isinf(s->min))
        snprintf(limits, sizeof limits, "at most %.10g", s->max);
    else
        snprintf(limits, sizeof limits, "between %.10g and %.10g", s->min, s->max);
    return dg_diagnose(r->diags, DG_SEVERITY_ERROR, node->pos, "%s: %.40s is out of range, it must be %s%s%s",
                       r->key, node->text, limits, s->unit && s->unit[0] ? " " : "", s->unit ? s->unit : "");
}

static dg_status read_int(const reader *r, const dg_yaml_node *node, int64_t *out)
{
    if (!dg_yaml_int(node, out)) return wrong_type(r, node, "a 64-bit integer");
    return check_range(r, node, (double)*out);
}

static dg_status read_float(const reader *r, const dg_yaml_node *node, double *out)
{
    if (!dg_yaml_float(node, out)) return wrong_type(r, node, "a finite number");
    return check_range(r, node, *out);
}

static dg_status read_bool(const reader *r, const dg_yaml_node *node, dg_param_value *out)
{
    bool truth;
    if (!dg_yaml_bool(node, &truth)) return wrong_type(r, node, "true or false");
    out->v.i = truth;
    return DG_OK;
}

static dg_status read_choice(const reader *r, const dg_yaml_node *node, dg_param_value *out)
{
    const char *const *choices = r->spec->choices;
    size_t n = 0;
    if (node->kind != DG_YAML_SCALAR) return wrong_type(r, node, "one word");
    for (; choices && choices[n]; n++)
        if (strcmp(choices[n], node->text) == 0) {
            out->v.i = (int64_t)n;
            return DG_OK;
        }
    dg_str list = {0};
    for (size_t i = 0; i < n; i++) dg_str_printf(&list, "%s%s", i ? ", " : "", choices[i]);
    const char *near = dg_nearest(node->text, choices, n);
    dg_status s = dg_diagnose(r->diags, DG_SEVERITY_ERROR, node->pos, "%s: '%.60s' is not one of: %s%s%s%s",
                              r->key, node->text, list.text ? list.text : "", near ? "; did you mean '" : "",
                              near ? near : "", near ? "'?" : "");
    dg_str_free(&list);
    return s;
}

static dg_status read_path(const reader *r, const dg_yaml_node *node, const char **out)
{
    if (node->kind != DG_YAML_SCALAR || dg_yaml_is_null(node)) return wrong_type(r, node, "a path");
    if (node->text[0] == 0)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, node->pos, "%s: the path is empty", r->key);
    *out = node->text;
    return DG_OK;
}

static dg_status check_length(const reader *r, const dg_yaml_node *node, size_t n)
{
    const dg_param_spec *s = r->spec;
    if ((s->min_items == 0 && s->max_items == 0) || (n >= s->min_items && n <= s->max_items)) return DG_OK;
    char wanted[64];
    if (s->min_items == s->max_items)
        snprintf(wanted, sizeof wanted, "%u", s->min_items);
    else
        snprintf(wanted, sizeof wanted, "%u to %u", s->min_items, s->max_items);
    return dg_diagnose(r->diags, DG_SEVERITY_ERROR, node->pos, "%s: expected %s items, found %zu", r->key,
                       wanted, n);
}

/* INTS, FLOATS and PATHS; a scalar is a list of one. All bad items are reported. */
static dg_status read_list(const reader *r, const dg_yaml_node *node, dg_param_value *out)
{
    if (node->kind == DG_YAML_MAP)
        return wrong_type(r, node, r->spec->type == DG_PARAM_PATHS ? "a list of paths" : "a list of numbers");
    dg_yaml_item alone = {NULL, node->pos, (dg_yaml_node *)node};
    const dg_yaml_item *items = node->kind == DG_YAML_LIST ? node->items : &alone;
    size_t n = node->kind == DG_YAML_LIST ? node->n : 1;
    DG_TRY(check_length(r, node, n));
    void *room = dg_arena_alloc(r->arena, (n ? n : 1) * 8); /* int64, double or pointer */
    if (!room) return DG_ERR_NOMEM;
    dg_status status = DG_OK;
    for (size_t i = 0; i < n; i++) {
        dg_status s;
        if (r->spec->type == DG_PARAM_INTS)
            s = read_int(r, items[i].value, (int64_t *)room + i);
        else if (r->spec->type == DG_PARAM_FLOATS)
            s = read_float(r, items[i].value, (double *)room + i);
        else
            s = read_path(r, items[i].value, (const char **)room + i);
        if (s != DG_OK) status = s;
    }
    DG_TRY(status);
    if (r->spec->type == DG_PARAM_INTS) {
        out->v.ints.items = room;
        out->v.ints.n = n;
    } else if (r->spec->type == DG_PARAM_FLOATS) {
        out->v.floats.items = room;
        out->v.floats.n = n;
    } else {
        out->v.paths.items = room;
        out->v.paths.n = n;
    }
    dg_str text = {0};
    dg_str_puts(&text, "[");
    for (size_t i = 0; i < n; i++) {
        if (i) dg_str_puts(&text, ", ");
        if (r->spec->type == DG_PARAM_PATHS)
            dg_yaml_write_string(&text, items[i].value->text);
        else
            dg_str_puts(&text, items[i].value->text);
    }
    dg_str_puts(&text, "]");
    out->text = text.failed ? NULL : dg_arena_strdup(r->arena, text.text);
    dg_str_free(&text);
    return out->text ? DG_OK : DG_ERR_NOMEM;
}

static dg_status read_node(const reader *r, const dg_yaml_node *node, dg_param_value *out)
{
    out->text = node->text;
    switch (r->spec->type) {
    case DG_PARAM_BOOL:
        return read_bool(r, node, out);
    case DG_PARAM_INT:
        return read_int(r, node, &out->v.i);
    case DG_PARAM_FLOAT:
        return read_float(r, node, &out->v.f);
    case DG_PARAM_CHOICE:
        return read_choice(r, node, out);
    case DG_PARAM_PATH:
        return read_path(r, node, &out->v.s);
    case DG_PARAM_STRING:
        if (node->kind != DG_YAML_SCALAR) return wrong_type(r, node, "a string");
        out->v.s = node->text;
        return DG_OK;
    case DG_PARAM_INTS:
    case DG_PARAM_FLOATS:
    case DG_PARAM_PATHS:
        return read_list(r, node, out);
    default:
        return dg_diagnose(
            r->diags, DG_SEVERITY_ERROR, node->pos,
            "%s: its schema says type %u, which is unknown here: is the plugin newer than digpt?", r->key,
            r->spec->type);
    }
}

dg_status dg_param_default(const dg_param_spec *spec, const char *key, dg_pos pos, dg_arena *arena,
                           dg_yaml_node **node, dg_diagnostics *diags)
{
    *node = NULL;
    if (!spec->def)
        return dg_diagnose(diags, DG_SEVERITY_ERROR, pos, "'%s' is required (%s)", key,
                           spec->help ? spec->help : "");
    dg_diagnostics found = {0};
    dg_status s = dg_yaml_parse(spec->def, strlen(spec->def), "default", arena, node, &found);
    dg_diagnostics_free(&found);
    if (s == DG_ERR_NOMEM) return s;
    if (s != DG_OK)
        return dg_diagnose(diags, DG_SEVERITY_ERROR, pos, "%s: the schema's own default '%.60s' is not YAML",
                           key, spec->def);
    (*node)->pos = pos;
    return DG_OK;
}

dg_status dg_param_read(const dg_param_spec *spec, const char *key, const dg_yaml_node *node, dg_pos pos,
                        dg_arena *arena, dg_param_value *out, dg_diagnostics *diags)
{
    reader r = {spec, key, arena, diags};
    dg_yaml_node *def;
    memset(out, 0, sizeof *out);
    out->type = spec->type;
    out->text = "";
    bool optional = spec->def && spec->def[0] == 0;
    if (optional && (!node || dg_yaml_is_null(node))) return DG_OK;
    if (!node) {
        DG_TRY(dg_param_default(spec, key, pos, arena, &def, diags));
        node = def;
    } else if (dg_yaml_is_null(node)) {
        if (spec->def)
            return dg_diagnose(diags, DG_SEVERITY_ERROR, node->pos,
                               "%s: it has no value; leave the key out to get the default, %s", key,
                               spec->def);
        return dg_diagnose(diags, DG_SEVERITY_ERROR, node->pos, "%s: it has no value, and it is required",
                           key);
    }
    DG_TRY(read_node(&r, node, out));
    out->is_set = 1;
    return DG_OK;
}

bool dg_param_same(const dg_param_value *a, const dg_param_value *b)
{
    if (a->type != b->type || a->is_set != b->is_set) return false;
    if (!a->is_set) return true;
    switch (a->type) {
    case DG_PARAM_BOOL:
    case DG_PARAM_INT:
        return a->v.i == b->v.i;
    case DG_PARAM_FLOAT:
        return a->v.f == b->v.f;
    case DG_PARAM_INTS:
        return a->v.ints.n == b->v.ints.n &&
               memcmp(a->v.ints.items, b->v.ints.items, a->v.ints.n * sizeof(int64_t)) == 0;
    case DG_PARAM_FLOATS:
        if (a->v.floats.n != b->v.floats.n) return false;
        for (size_t i = 0; i < a->v.floats.n; i++)
            if (a->v.floats.items[i] != b->v.floats.items[i]) return false;
        return true;
    default:
        return strcmp(a->text, b->text) == 0; /* words and paths */
    }
}

/* "${" inside a value would be a reference when it is read again; "$${" stands for it. */
static void write_escaped(const char *text, dg_str *out)
{
    dg_str escaped = {0};
    for (const char *p = text; *p; p++) {
        if (p[0] == '$' && p[1] == '{') dg_str_puts(&escaped, "$");
        dg_str_bytes(&escaped, p, 1);
    }
    if (escaped.failed)
        out->failed = true;
    else
        dg_yaml_write_string(out, escaped.text ? escaped.text : "");
    dg_str_free(&escaped);
}

void dg_param_write(const dg_param_value *value, dg_str *out)
{
    if (!value->is_set)
        dg_str_puts(out, "null");
    else if (value->type == DG_PARAM_STRING || value->type == DG_PARAM_PATH || value->type == DG_PARAM_CHOICE)
        write_escaped(value->text, out);
    else if (value->type == DG_PARAM_PATHS) {
        dg_str_puts(out, "[");
        for (size_t i = 0; i < value->v.paths.n; i++) {
            if (i) dg_str_puts(out, ", ");
            write_escaped(value->v.paths.items[i], out);
        }
        dg_str_puts(out, "]");
    } else
        dg_str_puts(out, value->text);
}

dg_status dg_unknown_key(dg_diagnostics *diags, dg_pos pos, const char *section, const char *key,
                         const dg_param_spec *specs, size_t n, const char *const *more, size_t n_more)
{
    const char **names = dg_calloc(n + n_more, sizeof *names);
    if (!names) return DG_ERR_NOMEM;
    size_t known = 0;
    for (size_t i = 0; i < n_more; i++) names[known++] = more[i];
    for (size_t i = 0; i < n; i++) names[known++] = dg_spec_at(specs, i).key;
    const char *near = dg_nearest(key, names, known);
    dg_str list = {0};
    for (size_t i = 0; i < known; i++) dg_str_printf(&list, "%s%s", i ? ", " : "", names[i]);
    char where[192] = "";
    if (section[0]) snprintf(where, sizeof where, " in '%s'", section);
    dg_status s;
    if (near)
        s = dg_diagnose(diags, DG_SEVERITY_ERROR, pos, "unknown key '%.128s'%s; did you mean '%s'?", key,
                        where, near);
    else
        s = dg_diagnose(diags, DG_SEVERITY_ERROR, pos, "unknown key '%.128s'%s; known are: %s", key, where,
                        list.text ? list.text : "none");
    dg_str_free(&list);
    dg_free(names);
    return s;
}

/* The node of one "key=value". */
static dg_status read_assignment(const char *text, dg_arena *arena, dg_yaml_item *item, dg_diagnostics *diags)
{
    dg_pos pos = {text, 0, 0};
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) return dg_diagnose(diags, DG_SEVERITY_ERROR, pos, "expected key=value");
    char *key = dg_arena_alloc(arena, (size_t)(equals - text) + 1);
    if (!key) return DG_ERR_NOMEM;
    memcpy(key, text, (size_t)(equals - text));
    *item = (dg_yaml_item){key, pos, NULL};
    return dg_yaml_parse_value(equals + 1, pos, arena, &item->value, diags);
}

/* Reads all rows, reporting everything that is wrong. */
static dg_status read_rows(const dg_param_spec *specs, size_t n, const dg_yaml_node *map, dg_arena *arena,
                           dg_param_value *values, dg_diagnostics *diags)
{
    dg_pos pos = {"parameters", 0, 0};
    for (size_t k = 0; k < map->n; k++) {
        bool known = false;
        for (size_t i = 0; i < n; i++) known |= strcmp(dg_spec_at(specs, i).key, map->items[k].key) == 0;
        if (!known && dg_unknown_key(diags, map->items[k].key_pos, "", map->items[k].key, specs, n, NULL,
                                     0) == DG_ERR_NOMEM)
            return DG_ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        dg_param_spec spec = dg_spec_at(specs, i);
        if (dg_param_read(&spec, spec.key, dg_yaml_get(map, spec.key), pos, arena, &values[i], diags) ==
            DG_ERR_NOMEM)
            return DG_ERR_NOMEM;
    }
    return DG_OK;
}

dg_status dg_params_from_text(const dg_param_spec *specs, size_t n, const char *const *assignments,
                              size_t n_assignments, dg_arena *arena, const dg_params **out, dg_error *err)
{
    dg_diagnostics diags = {0};
    dg_status s = DG_OK;
    dg_yaml_node map = {.kind = DG_YAML_MAP};
    dg_params *params = dg_arena_alloc(arena, sizeof *params);
    dg_param_value *values = dg_arena_alloc(arena, (n ? n : 1) * sizeof *values);
    if (!params || !values) s = DG_ERR_NOMEM;
    for (size_t i = 0; s != DG_ERR_NOMEM && i < n_assignments; i++) {
        dg_yaml_item item;
        s = read_assignment(assignments[i], arena, &item, &diags);
        dg_yaml_item *old = s == DG_OK ? dg_yaml_find(&map, item.key) : NULL;
        if (old)
            *old = item; /* the last one wins, as on a command line */
        else if (s == DG_OK && !dg_yaml_add(arena, &map, item))
            s = DG_ERR_NOMEM;
    }
    if (s != DG_ERR_NOMEM) s = read_rows(specs, n, &map, arena, values, &diags);
    if (s == DG_ERR_NOMEM || diags.out_of_memory)
        s = dg_fail(err, DG_ERR_NOMEM, "out of memory while reading parameters");
    else if (diags.n_errors) {
        dg_str all = {0};
        char pos[256];
        for (size_t i = 0; i < diags.n; i++)
            dg_str_printf(&all, "%s%s: %s", i ? "; " : "", dg_pos_text(diags.items[i].pos, pos, sizeof pos),
                          diags.items[i].message);
        s = dg_fail(err, DG_ERR_INVALID, "%s", all.text ? all.text : "bad parameters");
        dg_str_free(&all);
    } else {
        *params = (dg_params){(uint32_t)sizeof *params, (uint32_t)n, values};
        *out = params;
    }
    dg_diagnostics_free(&diags);
    return s;
}
