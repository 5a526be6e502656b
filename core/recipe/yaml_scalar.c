/* yaml_scalar.c - scalars: the core schema of YAML 1.2 (section 10.3.2), and writing strings. See yaml.h. */
#include "recipe/yaml.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

static bool is_plain(const dg_yaml_node *node)
{
    return node->kind == DG_YAML_SCALAR && node->plain;
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0) return true;
    return false;
}

bool dg_yaml_is_null(const dg_yaml_node *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return is_plain(node) && is_one_of(node->text, words);
}

bool dg_yaml_bool(const dg_yaml_node *node, bool *out)
{
    static const char *const yes[] = {"true", "True", "TRUE", NULL}, *const no[] = {"false", "False", "FALSE",
                                                                                    NULL};
    if (!is_plain(node)) return false;
    *out = is_one_of(node->text, yes);
    return *out || is_one_of(node->text, no);
}

bool dg_yaml_int(const dg_yaml_node *node, int64_t *out)
{
    if (!is_plain(node)) return false;
    const char *p = node->text;
    bool negative = *p == '-';
    unsigned base = 10;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'o')) {
        base = p[1] == 'x' ? 16 : 8;
        p += 2;
    } else if (*p == '-' || *p == '+')
        p++;
    if (!*p) return false;
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    for (; *p; p++) {
        unsigned c = (unsigned char)*p;
        unsigned digit = isdigit(c)             ? c - '0'
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                : 99;
        if (digit >= base || value > (limit - digit) / base) return false;
        value = value * base + digit;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool looks_like_float(const char *p)
{
    p += *p == '-' || *p == '+';
    size_t whole = strspn(p, "0123456789"), fraction = 0;
    p += whole;
    if (*p == '.') {
        p++;
        fraction = strspn(p, "0123456789");
        p += fraction;
    }
    if (whole + fraction == 0) return false;
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '-' || *p == '+';
        size_t exponent = strspn(p, "0123456789");
        if (exponent == 0) return false;
        p += exponent;
    }
    return *p == 0;
}

bool dg_yaml_float(const dg_yaml_node *node, double *out)
{
    int64_t i;
    if (!is_plain(node)) return false;
    if (looks_like_float(node->text)) {
        *out = strtod(node->text, NULL);
        return isfinite(*out);
    }
    if (!dg_yaml_int(node, &i)) return false;
    *out = (double)i;
    return true;
}

const char *dg_yaml_describe(const dg_yaml_node *node, char *out, size_t size)
{
    bool truth;
    double number;
    if (node->kind != DG_YAML_SCALAR)
        snprintf(out, size, "%s", node->kind == DG_YAML_LIST ? "a list" : "a map");
    else if (dg_yaml_is_null(node))
        snprintf(out, size, "nothing");
    else if (dg_yaml_bool(node, &truth))
        snprintf(out, size, "%s", truth ? "true" : "false");
    else if (dg_yaml_float(node, &number))
        snprintf(out, size, "the number %.40s", node->text);
    else if (strlen(node->text) <= 60)
        snprintf(out, size, "the string '%s'", node->text);
    else {
        int n = 60; /* not in the middle of a character */
        while (n > 0 && ((unsigned char)node->text[n] & 0xc0) == 0x80) n--;
        snprintf(out, size, "the string '%.*s...'", n, node->text);
    }
    return out;
}

/* Written without quotes it means this string and nothing else, inside a list too. */
static bool is_safe_plain(const char *text)
{
    dg_yaml_node node = {.kind = DG_YAML_SCALAR, .plain = true, .text = text};
    bool truth;
    double number;
    if (!(isalnum((unsigned char)text[0]) || text[0] == '/' || text[0] == '.' || text[0] == '_'))
        return false;
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("/._-+=@%^", *p)) return false;
    if (text[0] == '.' && text[1] && strchr("iInN", text[1])) return false; /* .inf, .nan */
    return strcmp(text, "...") != 0 && !dg_yaml_is_null(&node) && !dg_yaml_bool(&node, &truth) &&
           !dg_yaml_float(&node, &number) && !looks_like_float(text);
}

void dg_yaml_write_string(dg_str *out, const char *text)
{
    if (is_safe_plain(text)) {
        dg_str_puts(out, text);
        return;
    }
    dg_str_puts(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
        uint32_t code = n == 1 ? *p : *p & (0xffu >> (n + 1));
        for (size_t i = 1; i < n; i++) {
            if ((p[i] & 0xc0) != 0x80) {
                n = 1;
                code = 0xfffd;
                break;
            }
            code = code << 6 | (p[i] & 0x3fu);
        }
        /* Escaped: what libyaml refuses raw, and what it takes for a line break. */
        bool raw = code >= 0x20 && !(code >= 0x7f && code < 0xa0) && code != 0x2028 && code != 0x2029 &&
                   code != 0xfeff && code < 0xfff0;
        if (code == '"' || code == '\\')
            dg_str_printf(out, "\\%c", (char)code);
        else if (raw || code > 0xffff)
            dg_str_bytes(out, p, n);
        else
            dg_str_printf(out, "\\u%04x", (unsigned)code);
        p += n;
    }
    dg_str_puts(out, "\"");
}
