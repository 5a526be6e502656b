/* schema_text.c - a schema as help for a terminal and as the recipe reference in Markdown. See schema.h. */
#include "recipe/schema.h"

#include <math.h>

static const char *const type_name[] = {
    "?",    "true or false", "integer",          "number",          "string",
    "word", "path",          "list of integers", "list of numbers", "list of paths"};

static bool is_list(const dg_param_spec *s)
{
    return s->type == DG_PARAM_INTS || s->type == DG_PARAM_FLOATS || s->type == DG_PARAM_PATHS;
}

/* "integer 1..4096, pixels", "one of: exact, fast". */
static void write_type(const dg_param_spec *s, dg_str *out)
{
    size_t known = sizeof type_name / sizeof type_name[0];
    if (s->type == DG_PARAM_CHOICE)
        dg_str_puts(out, "one of: ");
    else
        dg_str_puts(out, type_name[s->type < known ? s->type : 0]);
    if (s->type == DG_PARAM_PATH && s->choices && s->choices[0]) dg_str_puts(out, ", or: ");
    for (size_t i = 0; s->choices && s->choices[i]; i++)
        dg_str_printf(out, "%s%s", i ? ", " : "", s->choices[i]);
    if (s->min != 0 || s->max != 0) {
        if (isinf(s->max))
            dg_str_printf(out, " >= %.10g", s->min);
        else if (isinf(s->min))
            dg_str_printf(out, " <= %.10g", s->max);
        else
            dg_str_printf(out, " %.10g..%.17g", s->min, s->max);
    }
    if (is_list(s) && s->max_items) {
        if (s->min_items == s->max_items)
            dg_str_printf(out, ", %u of them", s->max_items);
        else
            dg_str_printf(out, ", %u to %u of them", s->min_items, s->max_items);
    }
    if (s->unit && s->unit[0]) dg_str_printf(out, ", %s", s->unit);
}

static const char *default_text(const dg_param_spec *s)
{
    return !s->def ? "required" : s->def[0] ? s->def : "not set";
}

void dg_schema_help(const dg_param_spec *specs, size_t n, dg_str *out)
{
    size_t width = 0;
    for (size_t i = 0; i < n; i++) {
        size_t w = strlen(dg_spec_at(specs, i).key);
        if (w > width) width = w;
    }
    for (size_t i = 0; i < n; i++) {
        dg_param_spec s = dg_spec_at(specs, i);
        dg_str_printf(out, "  %-*s  %s\n  %*s  ", (int)width, s.key, s.help ? s.help : "", (int)width, "");
        write_type(&s, out);
        dg_str_printf(out, "; default: %s\n", default_text(&s));
    }
}

/* Text of a table's cell: a bar would end it. */
static void write_cell(const char *text, dg_str *out)
{
    for (const char *p = text; *p; p++) {
        if (*p == '|') dg_str_puts(out, "\\");
        dg_str_bytes(out, p, 1);
    }
}

void dg_schema_markdown(const dg_param_spec *specs, size_t n, dg_str *out)
{
    if (n == 0) {
        dg_str_puts(out, "It has no parameters.\n");
        return;
    }
    dg_str_puts(out, "| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < n; i++) {
        dg_param_spec s = dg_spec_at(specs, i);
        bool literal = s.def && s.def[0];
        dg_str type = {0};
        write_type(&s, &type);
        dg_str_printf(out, "| `%s` | ", s.key);
        write_cell(type.text ? type.text : "", out);
        dg_str_printf(out, " | %s", literal ? "`" : "");
        write_cell(default_text(&s), out);
        dg_str_printf(out, "%s | ", literal ? "`" : "");
        write_cell(s.help ? s.help : "", out);
        dg_str_puts(out, " |\n");
        dg_str_free(&type);
    }
}

static void write_component(const dg_section *s, dg_str *out, const char *quote)
{
    dg_str_printf(out, "A component: %sname%s selects it, the other keys are its own.", quote, quote);
    if (s->default_name)
        dg_str_printf(out, " Default: %s%s%s.", quote, s->default_name, quote);
    else
        dg_str_puts(out, s->required ? " Required." : " May be absent.");
    dg_str_puts(out, "\n");
}

void dg_schema_help_all(dg_str *out)
{
    size_t n;
    const dg_section *sections = dg_schema_sections(&n);
    for (size_t i = 0; i < n; i++) {
        if (i) dg_str_puts(out, "\n");
        dg_str_printf(out, "%s: %s\n", sections[i].name[0] ? sections[i].name : "(top level)",
                      sections[i].help);
        if (sections[i].specs)
            dg_schema_help(sections[i].specs, sections[i].n, out);
        else {
            dg_str_puts(out, "  ");
            write_component(&sections[i], out, "");
            if (sections[i].n_shared) dg_schema_help(sections[i].shared, sections[i].n_shared, out);
        }
    }
}

void dg_schema_markdown_all(dg_str *out)
{
    static const char opening[] =
        "# What a recipe may say\n\n"
        "A recipe is one YAML file: keys of the top level, and sections of keys. Unknown keys are errors.\n\n"
        "- `extends: FILE` or a list of files: they are read first, at most three deep. Maps merge, lists "
        "replace, and a\n"
        "  component whose `name` changes drops the parameters of the old one. `tokenizer: null` removes a "
        "component.\n"
        "- `section.key=VALUE` on the command line sets a value, `~section.key` removes what the files say.\n"
        "- `${section.key}` is the value of another key, alone or inside a string; `$${` is a plain `${`.\n"
        "- Relative paths start at the folder of the file that has them; those of the command line, and of "
        "defaults, at\n"
        "  the working folder.\n"
        "- `key: null` means not set, for keys whose default is \"not set\".\n";
    size_t n;
    const dg_section *sections = dg_schema_sections(&n);
    dg_str_puts(out, opening);
    for (size_t i = 0; i < n; i++) {
        if (sections[i].name[0])
            dg_str_printf(out, "\n## `%s`\n\n", sections[i].name);
        else
            dg_str_puts(out, "\n## Top level\n\n");
        dg_str_printf(out, "%c%s.\n\n", sections[i].help[0] - 'a' + 'A', sections[i].help + 1);
        if (sections[i].specs)
            dg_schema_markdown(sections[i].specs, sections[i].n, out);
        else
            write_component(&sections[i], out, "`");
        if (sections[i].n_shared) {
            dg_str_puts(out, "\nAll of them have:\n\n");
            dg_schema_markdown(sections[i].shared, sections[i].n_shared, out);
        }
    }
}
