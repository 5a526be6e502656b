/* gen_ops.c - writes digpt/ops.h, the builder functions of the SDK, from the op table. Runs on the build
 * machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    const char *name, *inputs, *attrs, *outputs, *doc;
};

static const struct row rows[] = {
#define OP(NAME, CLASS, PRECISION, INPUTS, ATTRS, OUTPUTS, DOC) {#NAME, INPUTS, ATTRS, OUTPUTS, DOC},
#include "graph/ops.def"
#undef OP
};

/* Copies the next blank-separated word of *s; false at the end. */
static int word(const char **s, char *out)
{
    while (**s == ' ') ++*s;
    if (!**s) return 0;
    while (**s && **s != ' ') *out++ = *(*s)++;
    *out = 0;
    return 1;
}

static void wrapped_comment(FILE *f, const char *doc)
{
    int column = fprintf(f, "/* ");
    for (const char *p = doc; *p; p++) {
        if (column > 100 && *p == ' ') {
            column = fprintf(f, "\n * ") - 1;
            continue;
        }
        fputc(*p, f);
        column++;
    }
    fprintf(f, " */\n");
}

static void emit(FILE *f, const struct row *r)
{
    char w[64], args[1024] = "", ins[512] = "", init[2048] = "";
    const char *s = r->inputs;
    int n_in = 0, list = 0, n_attr = 0;
    while (word(&s, w)) {
        char *mark = strpbrk(w, "?*");
        list |= mark && *mark == '*';
        if (mark) *mark = 0;
        sprintf(args + strlen(args), list ? ", const dg_value *%s, size_t n_%s" : ", dg_value %s", w, w);
        sprintf(ins + strlen(ins), "%s%s", n_in++ ? ", " : "", w);
    }
    for (s = r->attrs; word(&s, w); n_attr++) {
        char *type = strchr(w, ':');
        *type++ = 0;
        static const struct {
            char code;
            const char *argument, *field;
        } kinds[] = {
            {'i', ", int64_t %s", "DG_ATTR_INT, 0, 0, {.i = %s}"},
            {'b', ", bool %s", "DG_ATTR_INT, 0, 0, {.i = %s}"},
            {'d', ", dg_dtype %s", "DG_ATTR_INT, 0, 0, {.i = (int64_t)%s}"},
            {'f', ", double %s", "DG_ATTR_FLOAT, 0, 0, {.f = %s}"},
            {'I', ", const int64_t *%s, size_t n_%s", "DG_ATTR_INTS, 0, n_%s, {.is = %s}"},
            {'F', ", const double *%s, size_t n_%s", "DG_ATTR_FLOATS, 0, n_%s, {.fs = %s}"},
            {'B', ", const void *%s, size_t n_%s", "DG_ATTR_BYTES, 0, n_%s, {.bytes = %s}"},
        };
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            if (kinds[k].code != *type) continue;
            sprintf(args + strlen(args), kinds[k].argument, w, w);
            sprintf(init + strlen(init), "%s{\"%s\", ", n_attr ? ",\n                            " : "", w);
            sprintf(init + strlen(init), kinds[k].field, w, w);
            strcat(init, "}");
        }
    }
    wrapped_comment(f, r->doc);
    fprintf(f, "static inline DG_UNUSED dg_value dg_%s(dg_graph *g%s)\n{\n", r->name, args);
    if (n_in && !list) fprintf(f, "    const dg_value in[] = {%s};\n", ins);
    if (n_attr) fprintf(f, "    const dg_attr attrs[] = {%s};\n", init);
    char in_arg[1100] = "NULL, 0";
    if (list)
        sprintf(in_arg, "%s, n_%s", ins, ins);
    else if (n_in)
        sprintf(in_arg, "in, %d", n_in);
    fprintf(f, "    return g->api->node(g, \"%s\", %s, %s, %d);\n}\n\n", r->name, in_arg,
            n_attr ? "attrs" : "NULL", n_attr);
}

int main(int argc, char **argv)
{
    FILE *f = argc == 2 ? fopen(argv[1], "w") : NULL;
    if (!f) {
        fprintf(stderr, "usage: %s OPS_H\n", argv[0]);
        return 1;
    }
    fprintf(
        f,
        "/* digpt/ops.h - a builder for every op. Written by gen_ops from core/graph/ops.def: do not edit.\n"
        " *\n * Inputs that may be absent take DG_NO_VALUE; a dtype of DG_NONE means \"as the first "
        "input\".\n"
        " * Further outputs of a node: dg_output(v, 1), in the order of the comment \"->\". */\n"
        "#ifndef DIGPT_OPS_H\n#define DIGPT_OPS_H\n\n#include \"digpt/graph.h\"\n\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strchr(rows[i].outputs, ' ')) fprintf(f, "/* -> %s */\n", rows[i].outputs);
        emit(f, &rows[i]);
    }
    fprintf(f, "#endif\n");
    return fclose(f) ? 1 : 0;
}
