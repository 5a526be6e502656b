/* yaml.c - from bytes to a tree of nodes; see yaml.h. */
#include "recipe/yaml.h"

#include <yaml.h>

#define MAX_KEYS 1024 /* of one map; duplicates are looked for one by one */
#define MAX_KEY_BYTES 128

/* A list or map that is still open. */
typedef struct frame {
    dg_yaml_node *node;
    const char *key; /* of a map: read, and waiting for its value */
    dg_pos key_pos;
} frame;

typedef struct builder {
    dg_arena *arena;
    dg_diagnostics *diags;
    const char *file;
    frame open[DG_YAML_MAX_DEPTH];
    size_t depth;
    dg_yaml_node *root;
    size_t documents;
    bool nomem;
} builder;

static dg_status complain(builder *b, dg_pos pos, const char *text)
{
    return dg_diagnose(b->diags, DG_SEVERITY_ERROR, pos, "%s", text);
}

static dg_pos at(const builder *b, yaml_mark_t mark)
{
    return (dg_pos){b->file, (uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

static dg_pos at_offset(const builder *b, const char *bytes, size_t offset)
{
    dg_pos pos = {b->file, 1, 1};
    for (size_t i = 0; i < offset; i++) {
        if (bytes[i] == '\n') {
            pos.line++;
            pos.col = 1;
        } else if (((unsigned char)bytes[i] & 0xc0) != 0x80)
            pos.col++;
    }
    return pos;
}

/* Offset of the first byte that is not well-formed UTF-8 (RFC 3629), or size. */
static size_t utf8_error(const unsigned char *p, size_t size)
{
    size_t i = 0;
    while (i < size) {
        unsigned c = p[i];
        size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        if (n == 0 || n > size - i) return i;
        for (size_t k = 1; k < n; k++)
            if ((p[i + k] & 0xc0) != 0x80) return i;
        if (n == 3 && ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f))) return i;
        if (n == 4 && ((c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f))) return i;
        i += n;
    }
    return size;
}

dg_yaml_item *dg_yaml_find(const dg_yaml_node *map, const char *key)
{
    for (size_t i = 0; map && map->kind == DG_YAML_MAP && i < map->n; i++)
        if (strcmp(map->items[i].key, key) == 0) return &map->items[i];
    return NULL;
}

dg_yaml_node *dg_yaml_get(const dg_yaml_node *map, const char *key)
{
    dg_yaml_item *item = dg_yaml_find(map, key);
    return item ? item->value : NULL;
}

bool dg_yaml_add(dg_arena *arena, dg_yaml_node *node, dg_yaml_item item)
{
    if (node->n == node->capacity) {
        size_t capacity = node->capacity ? node->capacity * 2 : 8;
        dg_yaml_item *items = dg_arena_alloc(arena, capacity * sizeof *items);
        if (!items) return false;
        if (node->n) memcpy(items, node->items, node->n * sizeof *items);
        node->items = items;
        node->capacity = capacity;
    }
    node->items[node->n++] = item;
    return true;
}

/* A scalar that stands where a map wants a key. */
static dg_status take_key(builder *b, frame *f, const dg_yaml_node *node)
{
    if (node->text[0] == 0) return complain(b, node->pos, "a key is missing before ':'");
    if (strlen(node->text) > MAX_KEY_BYTES)
        return complain(b, node->pos, "this key is longer than 128 bytes");
    if (strcmp(node->text, "<<") == 0)
        return complain(b, node->pos, "merge keys ('<<') are not used in recipes: use 'extends'");
    f->key = node->text;
    f->key_pos = node->pos;
    return DG_OK;
}

/* Puts a finished scalar, or a list or map that was just opened, where it belongs. Without a node the place
 * stays empty: what stood there was refused. DG_ERR_INVALID: the parsing cannot go on. */
static dg_status place(builder *b, dg_yaml_node *node)
{
    if (b->depth == 0) {
        b->root = node;
        return DG_OK;
    }
    frame *f = &b->open[b->depth - 1];
    dg_yaml_item item = {NULL, {NULL, 0, 0}, node};
    if (f->node->kind == DG_YAML_MAP) {
        if (!f->key) {
            if (!node || node->kind != DG_YAML_SCALAR)
                return complain(b, node ? node->pos : f->node->pos, "a key must be a plain word");
            return take_key(b, f, node);
        }
        item.key = f->key;
        item.key_pos = f->key_pos;
        f->key = NULL;
        if (f->node->n >= MAX_KEYS) return complain(b, item.key_pos, "more than 1024 keys in one map");
        const dg_yaml_item *first = dg_yaml_find(f->node, item.key);
        if (first) {
            dg_diagnose(b->diags, DG_SEVERITY_ERROR, item.key_pos, "duplicate key '%s'", item.key);
            dg_diagnose(b->diags, DG_SEVERITY_NOTE, first->key_pos, "it was first given here");
            return DG_OK;
        }
    }
    if (!node) return DG_OK;
    if (!dg_yaml_add(b->arena, f->node, item)) b->nomem = true;
    return DG_OK;
}

static dg_status open_node(builder *b, dg_yaml_kind kind, dg_pos pos)
{
    dg_yaml_node *node = dg_arena_alloc(b->arena, sizeof *node);
    if (!node) {
        b->nomem = true;
        return DG_OK;
    }
    node->kind = kind;
    node->pos = pos;
    if (b->depth == DG_YAML_MAX_DEPTH) return complain(b, pos, "lists and maps are nested more than 16 deep");
    DG_TRY(place(b, node));
    b->open[b->depth++] = (frame){node, NULL, {NULL, 0, 0}};
    return DG_OK;
}

static dg_status take_scalar(builder *b, const yaml_event_t *e, dg_pos pos)
{
    const char *text = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    if (n > DG_YAML_MAX_SCALAR) return complain(b, pos, "this text is longer than 65536 bytes");
    if (memchr(text, 0, n)) {
        complain(b, pos, "this text holds a NUL character");
        return place(b, NULL);
    }
    dg_yaml_node *node = dg_arena_alloc(b->arena, sizeof *node);
    char *copy = dg_arena_alloc(b->arena, n + 1);
    if (!node || !copy) {
        b->nomem = true;
        return DG_OK;
    }
    memcpy(copy, text, n);
    *node = (dg_yaml_node){.kind = DG_YAML_SCALAR, .pos = pos, .text = copy};
    node->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return place(b, node);
}

/* Anchors and tags are refused and passed over, so that what stands behind them is still looked at. */
static void refuse_properties(builder *b, const yaml_char_t *anchor, const yaml_char_t *tag, dg_pos pos)
{
    if (anchor)
        dg_diagnose(
            b->diags, DG_SEVERITY_ERROR, pos,
            "the anchor '&%.40s' is not used in recipes: use 'extends', or '${section.key}' for one value",
            (const char *)anchor);
    if (tag)
        dg_diagnose(b->diags, DG_SEVERITY_ERROR, pos,
                    "the tag '%.40s' is not used in recipes: types come from the schema", (const char *)tag);
}

/* DG_ERR_INVALID: stop. */
static dg_status take_event(builder *b, const yaml_event_t *e)
{
    dg_pos pos = at(b, e->start_mark);
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++b->documents > 1)
            return complain(b, pos, "a second document starts here: a recipe is one document");
        return DG_OK;
    case YAML_ALIAS_EVENT:
        dg_diagnose(
            b->diags, DG_SEVERITY_ERROR, pos,
            "the alias '*%.40s' is not used in recipes: use 'extends', or '${section.key}' for one value",
            (const char *)e->data.alias.anchor);
        return place(b, NULL);
    case YAML_SCALAR_EVENT:
        refuse_properties(b, e->data.scalar.anchor, e->data.scalar.tag, pos);
        return take_scalar(b, e, pos);
    case YAML_SEQUENCE_START_EVENT:
        refuse_properties(b, e->data.sequence_start.anchor, e->data.sequence_start.tag, pos);
        return open_node(b, DG_YAML_LIST, pos);
    case YAML_MAPPING_START_EVENT:
        refuse_properties(b, e->data.mapping_start.anchor, e->data.mapping_start.tag, pos);
        return open_node(b, DG_YAML_MAP, pos);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return DG_OK;
    default:
        return DG_OK;
    }
}

/* What libyaml says, at its place; it cannot go on after its first error. */
static void syntax_error(builder *b, const yaml_parser_t *p, const char *bytes, size_t size)
{
    if (p->error == YAML_READER_ERROR) {
        complain(
            b, at_offset(b, bytes, p->problem_offset < size ? p->problem_offset : size),
            "a control character stands in the text: remove it, or write it as an escape in double quotes");
        return;
    }
    size_t i =
        p->problem_mark.index; /* in characters; a tab that matters stands behind ASCII nearly always */
    if (i < size && bytes[i] == '\t') {
        complain(b, at(b, p->problem_mark), "a tab cannot indent YAML: use spaces");
        return;
    }
    dg_diagnose(b->diags, DG_SEVERITY_ERROR, at(b, p->problem_mark), "not valid YAML: %s",
                p->problem ? p->problem : "unknown error");
    if (p->context && p->context_mark.line != p->problem_mark.line)
        dg_diagnose(b->diags, DG_SEVERITY_NOTE, at(b, p->context_mark), "%s that starts here", p->context);
}

/* True if the tree can be used, though errors may have been found. */
static bool run(builder *b, const char *bytes, size_t size)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        b->nomem = true;
        return false;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, size);
    bool whole = false, stop = false;
    while (!whole && !stop && !b->nomem) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            stop = true;
            if (parser.error == YAML_MEMORY_ERROR)
                b->nomem = true;
            else
                syntax_error(b, &parser, bytes, size);
            break;
        }
        stop = take_event(b, &event) != DG_OK;
        whole = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return whole && !b->nomem;
}

dg_status dg_yaml_parse(const char *bytes, size_t size, const char *file, dg_arena *arena,
                        dg_yaml_node **root, dg_diagnostics *diags)
{
    *root = NULL;
    size_t errors = diags->n_errors;
    builder b = {.arena = arena, .diags = diags, .file = dg_arena_strdup(arena, file)};
    if (!b.file) return DG_ERR_NOMEM;
    if (size > DG_YAML_MAX_BYTES) {
        complain(&b, (dg_pos){b.file, 0, 0}, "longer than the 1 MiB that a recipe may have");
        return DG_ERR_FORMAT;
    }
    size_t bad = utf8_error((const unsigned char *)bytes, size);
    if (bad < size) {
        dg_diagnose(diags, DG_SEVERITY_ERROR, at_offset(&b, bytes, bad),
                    "byte %zu (0x%02x) is not UTF-8: save the file in UTF-8", bad, (unsigned char)bytes[bad]);
        return DG_ERR_FORMAT;
    }
    bool usable = run(&b, bytes, size);
    if (b.nomem || diags->out_of_memory) return DG_ERR_NOMEM;
    if (usable && !b.root) {
        b.root = dg_arena_alloc(arena, sizeof *b.root);
        if (!b.root) return DG_ERR_NOMEM;
        *b.root = (dg_yaml_node){.kind = DG_YAML_SCALAR, .plain = true, .pos = {b.file, 1, 1}, .text = ""};
    }
    if (usable) *root = b.root;
    return diags->n_errors == errors ? DG_OK : DG_ERR_FORMAT;
}

static void set_pos(dg_yaml_node *node, dg_pos pos)
{
    node->pos = pos;
    for (size_t i = 0; i < node->n; i++) {
        node->items[i].key_pos = pos;
        set_pos(node->items[i].value, pos); /* at most DG_YAML_MAX_DEPTH deep */
    }
}

dg_status dg_yaml_parse_value(const char *text, dg_pos pos, dg_arena *arena, dg_yaml_node **root,
                              dg_diagnostics *diags)
{
    dg_diagnostics found = {0};
    dg_status s = dg_yaml_parse(text, strlen(text), pos.file, arena, root, &found);
    for (size_t i = 0; i < found.n; i++)
        dg_diagnose(diags, found.items[i].severity, pos, "%s", found.items[i].message);
    dg_diagnostics_free(&found);
    if (*root) set_pos(*root, pos);
    return s;
}
