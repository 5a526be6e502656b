/* json.c - see json.h. */
#include "json.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"

enum { MAX_DEPTH = 64, MAX_VALUES = 4000000 };

typedef struct parser {
    const char *p, *end, *line_start;
    uint32_t line, depth;
    size_t values;
    const char *where;
    dg_arena *arena;
    dg_error *err;
} parser;

static dg_status wrong(const parser *s, const char *what)
{
    return dg_fail(s->err, DG_ERR_FORMAT, "%s:%u:%lld: not valid JSON: %s", s->where, s->line,
                   (long long)(s->p - s->line_start) + 1, what);
}

static dg_status no_memory(const parser *s)
{
    return dg_fail(s->err, DG_ERR_NOMEM, "out of memory while reading the JSON of %s", s->where);
}

static void skip_space(parser *s)
{
    for (; s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'); s->p++)
        if (*s->p == '\n') {
            s->line++;
            s->line_start = s->p + 1;
        }
}

static bool take(parser *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n)) return false;
    s->p += n;
    return true;
}

/* ---- strings */

static bool hex4(const char *p, const char *end, uint32_t *out)
{
    if (end - p < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                            : 16;
        if (d == 16) return false;
        *out = *out << 4 | d;
    }
    return true;
}

static char *put_utf8(char *q, uint32_t c)
{
    if (c < 0x80) {
        *q++ = (char)c;
    } else if (c < 0x800) {
        *q++ = (char)(0xc0 | c >> 6);
        *q++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *q++ = (char)(0xe0 | c >> 12);
        *q++ = (char)(0x80 | (c >> 6 & 0x3f));
        *q++ = (char)(0x80 | (c & 0x3f));
    } else {
        *q++ = (char)(0xf0 | c >> 18);
        *q++ = (char)(0x80 | (c >> 12 & 0x3f));
        *q++ = (char)(0x80 | (c >> 6 & 0x3f));
        *q++ = (char)(0x80 | (c & 0x3f));
    }
    return q;
}

/* Bytes of the well-formed UTF-8 sequence at p (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    unsigned c = p[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : (c & 0xf0) == 0xe0    ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if ((size_t)(end - p) < n) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f))) return 0;
    if (n == 4 && ((c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))) return 0;
    return n;
}

/* After the backslash; writes one character. */
static dg_status parse_escape(parser *s, char **q)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *hit = s->p < s->end && *s->p ? strchr(from, *s->p) : NULL;
    if (hit) {
        *(*q)++ = to[hit - from];
        s->p++;
        return DG_OK;
    }
    uint32_t c, low;
    if (s->p == s->end || *s->p != 'u' || !hex4(s->p + 1, s->end, &c))
        return wrong(s, "an unknown escape in a string");
    s->p += 5;
    if (c >= 0xd800 && c < 0xdc00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u' &&
        hex4(s->p + 2, s->end, &low) && low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        s->p += 6;
    }
    if (c >= 0xd800 && c < 0xe000) return wrong(s, "half of a surrogate pair in a string");
    if (c == 0) return wrong(s, "a NUL character in a string");
    *q = put_utf8(*q, c);
    return DG_OK;
}

static dg_status parse_string(parser *s, const char **out)
{
    const char *close = ++s->p;
    for (; close < s->end && *close != '"'; close++)
        if (*close == '\\' && s->end - close > 1) close++;
    if (close >= s->end) return wrong(s, "a string without its closing quote");
    /* no escape is shorter than what it stands for */
    char *text = dg_arena_alloc(s->arena, (size_t)(close - s->p) + 1), *q = text;
    if (!text) return no_memory(s);
    while (s->p < close) {
        unsigned char c = (unsigned char)*s->p;
        if (c == '\\') {
            s->p++;
            DG_TRY(parse_escape(s, &q));
            continue;
        }
        if (c < 0x20) return wrong(s, "a control character in a string; it must be escaped");
        size_t n = utf8_length((const unsigned char *)s->p, (const unsigned char *)close);
        if (n == 0) return wrong(s, "a string that is not UTF-8");
        memcpy(q, s->p, n);
        q += n;
        s->p += n;
    }
    s->p++;
    *out = text;
    return DG_OK;
}

/* ---- numbers */

static dg_status parse_number(parser *s, dg_json *v)
{
    const char *p = s->p, *start = p;
    bool integer = true;
    if (p < s->end && *p == '-') p++;
    const char *digits = p;
    while (p < s->end && *p >= '0' && *p <= '9') p++;
    if (p == digits) return wrong(s, "a value was expected");
    if (*digits == '0' && p - digits > 1) return wrong(s, "a number that begins with 0");
    if (p < s->end && *p == '.') {
        integer = false;
        for (digits = ++p; p < s->end && *p >= '0' && *p <= '9';) p++;
        if (p == digits) return wrong(s, "a number without digits after its point");
    }
    if (p < s->end && (*p == 'e' || *p == 'E')) {
        integer = false;
        if (++p < s->end && (*p == '+' || *p == '-')) p++;
        for (digits = p; p < s->end && *p >= '0' && *p <= '9';) p++;
        if (p == digits) return wrong(s, "a number without digits in its exponent");
    }
    char text[64]; /* longer numbers are nobody's */
    size_t n = (size_t)(p - start);
    if (n >= sizeof text) return wrong(s, "a number of more than 63 characters");
    memcpy(text, start, n);
    text[n] = 0;
    uint64_t u = 0;
    bool negative = text[0] == '-';
    for (const char *d = text + negative; integer && *d; d++)
        integer = !__builtin_mul_overflow(u, (uint64_t)10, &u) &&
                  !__builtin_add_overflow(u, (uint64_t)(*d - '0'), &u);
    if (integer && u <= (uint64_t)INT64_MAX + negative) {
        v->type = DG_JSON_INT;
        v->v.integer = negative ? (int64_t)(0 - u) : (int64_t)u;
    } else {
        v->type = DG_JSON_FLOAT;
        v->v.number = strtod(text, NULL);
    }
    s->p = p;
    return DG_OK;
}

/* ---- arrays and objects */

static dg_status parse_value(parser *s, const char *key, const dg_json **out);

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const dg_json *const *)a)->key, (*(const dg_json *const *)b)->key);
}

static dg_status sort_members(parser *s, dg_json *v)
{
    const dg_json **sorted = dg_arena_alloc(s->arena, ((size_t)v->count + 1) * sizeof *sorted);
    if (!sorted) return no_memory(s);
    size_t n = 0;
    for (const dg_json *m = v->v.first; m; m = m->next) sorted[n++] = m;
    qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(sorted[i - 1]->key, sorted[i]->key))
            return dg_fail(s->err, DG_ERR_FORMAT, "%s:%u:%u: the key \"%.200s\" is there twice", s->where,
                           sorted[i]->line, sorted[i]->col, sorted[i]->key);
    v->sorted = sorted;
    return DG_OK;
}

static dg_status parse_children(parser *s, dg_json *v, char close)
{
    const dg_json **link = &v->v.first;
    s->p++;
    if (++s->depth > MAX_DEPTH) return wrong(s, "more than 64 levels");
    skip_space(s);
    bool more = !(s->p < s->end && *s->p == close);
    if (!more) s->p++;
    while (more) {
        const char *key = NULL;
        skip_space(s);
        if (v->type == DG_JSON_OBJECT) {
            if (s->p == s->end || *s->p != '"') return wrong(s, "a key in quotes was expected");
            DG_TRY(parse_string(s, &key));
            skip_space(s);
            if (!take(s, ":")) return wrong(s, "':' was expected after a key");
            skip_space(s);
        }
        const dg_json *child = NULL;
        DG_TRY(parse_value(s, key, &child));
        *link = child;
        link = &((dg_json *)(uintptr_t)child)->next;
        v->count++;
        skip_space(s);
        more = take(s, ",");
        if (!more && (s->p == s->end || *s->p++ != close))
            return wrong(s, close == '}' ? "',' or '}' was expected" : "',' or ']' was expected");
    }
    s->depth--;
    return v->type == DG_JSON_OBJECT ? sort_members(s, v) : DG_OK;
}

static dg_status parse_value(parser *s, const char *key, const dg_json **out)
{
    if (++s->values > MAX_VALUES) return wrong(s, "more than 4 million values");
    dg_json *v = dg_arena_alloc(s->arena, sizeof *v);
    if (!v) return no_memory(s);
    *out = v;
    v->key = key;
    v->line = s->line;
    v->col = (uint32_t)(s->p - s->line_start) + 1;
    if (s->p == s->end) return wrong(s, "it ends where a value was expected");
    switch (*s->p) {
    case '{':
        v->type = DG_JSON_OBJECT;
        return parse_children(s, v, '}');
    case '[':
        v->type = DG_JSON_ARRAY;
        return parse_children(s, v, ']');
    case '"':
        v->type = DG_JSON_STRING;
        return parse_string(s, &v->v.text);
    default:
        break;
    }
    if (take(s, "null")) return DG_OK;
    if (take(s, "true") || take(s, "false")) {
        v->type = DG_JSON_BOOL;
        v->v.boolean = s->p[-2] == 'u';
        return DG_OK;
    }
    return parse_number(s, v);
}

dg_status dg_json_parse(const char *bytes, size_t size, const char *where, dg_arena *arena,
                        const dg_json **root, dg_error *err)
{
    parser s = {.p = bytes,
                .end = bytes + size,
                .line_start = bytes,
                .line = 1,
                .where = where,
                .arena = arena,
                .err = err};
    skip_space(&s);
    DG_TRY(parse_value(&s, NULL, root));
    skip_space(&s);
    return s.p == s.end ? DG_OK : wrong(&s, "something follows after the value");
}

dg_status dg_json_read_file(const char *path, size_t limit, dg_arena *arena, const dg_json **root,
                            dg_error *err)
{
    char *bytes;
    size_t size;
    DG_TRY(dg_file_read(path, limit, &bytes, &size, err));
    dg_status s = dg_json_parse(bytes, size, path, arena, root, err);
    dg_free(bytes);
    return s;
}

/* ---- asking */

const dg_json *dg_json_get(const dg_json *object, const char *key)
{
    if (!object || object->type != DG_JSON_OBJECT) return NULL;
    size_t low = 0, high = object->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strcmp(key, object->sorted[mid]->key);
        if (c == 0) return object->sorted[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static const char *const type_names[] = {"null",     "true or false", "an integer", "a number",
                                         "a string", "an array",      "an object"};

static dg_status need(const dg_json *object, const char *key, const char *where, dg_json_type type,
                      const dg_json **out, dg_error *err)
{
    const dg_json *m = dg_json_get(object, key);
    if (!object || object->type != DG_JSON_OBJECT || !m)
        return dg_fail(err, DG_ERR_FORMAT, "%s:%u:%u: the key \"%s\" is missing", where,
                       object ? object->line : 1, object ? object->col : 1, key);
    if (m->type != type && !(type == DG_JSON_FLOAT && m->type == DG_JSON_INT))
        return dg_fail(err, DG_ERR_FORMAT, "%s:%u:%u: \"%s\" must be %s, not %s", where, m->line, m->col, key,
                       type_names[type], type_names[m->type]);
    *out = m;
    return DG_OK;
}

dg_status dg_json_need_int(const dg_json *object, const char *key, const char *where, int64_t *out,
                           dg_error *err)
{
    const dg_json *m = NULL;
    DG_TRY(need(object, key, where, DG_JSON_INT, &m, err));
    *out = m->v.integer;
    return DG_OK;
}

dg_status dg_json_need_number(const dg_json *object, const char *key, const char *where, double *out,
                              dg_error *err)
{
    const dg_json *m = NULL;
    DG_TRY(need(object, key, where, DG_JSON_FLOAT, &m, err));
    *out = m->type == DG_JSON_INT ? (double)m->v.integer : m->v.number;
    return DG_OK;
}

dg_status dg_json_need_text(const dg_json *object, const char *key, const char *where, const char **out,
                            dg_error *err)
{
    const dg_json *m = NULL;
    DG_TRY(need(object, key, where, DG_JSON_STRING, &m, err));
    *out = m->v.text;
    return DG_OK;
}

/* ---- writing */

void dg_json_put_number(dg_str *s, double value)
{
    if (isnan(value) || isinf(value)) {
        dg_str_puts(s, isnan(value) ? "\"nan\"" : value > 0 ? "\"inf\"" : "\"-inf\"");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    dg_str_puts(s, text);
}
