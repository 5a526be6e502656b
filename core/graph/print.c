/* print.c - a program for people: text, a line a node, and dot for graphviz. */
#include "graph.h"

static void print_attr(const dg_attr *a, dg_str *out)
{
    if (a->type == DG_ATTR_BYTES) {
        dg_str_printf(out, " %s=<%llu bytes>", a->name, (unsigned long long)a->n);
        return;
    }
    if (a->type == DG_ATTR_INT || a->type == DG_ATTR_FLOAT) {
        if (a->type == DG_ATTR_INT)
            dg_str_printf(out, " %s=%lld", a->name, (long long)a->v.i);
        else
            dg_str_printf(out, " %s=%.9g", a->name, a->v.f);
        return;
    }
    dg_str_printf(out, " %s=[", a->name);
    for (uint64_t i = 0; i < a->n; i++) {
        if (i) dg_str_puts(out, ",");
        if (a->type == DG_ATTR_INTS)
            dg_str_printf(out, "%lld", (long long)a->v.is[i]);
        else
            dg_str_printf(out, "%.9g", a->v.fs[i]);
    }
    dg_str_puts(out, "]");
}

static void print_value(const dg_program *p, int32_t v, dg_str *out)
{
    if (v < 0)
        dg_str_puts(out, "-");
    else if (p->values[v].leaf >= 0)
        dg_str_printf(out, "@%s", p->leaves[p->values[v].leaf].name);
    else
        dg_str_printf(out, "%%%d", v);
}

static void print_node(const dg_program *p, uint32_t i, dg_str *out)
{
    const dg_program_node *n = &p->nodes[i];
    char type[96];
    dg_str_puts(out, "  ");
    for (uint32_t k = 0; k < n->n_out; k++)
        dg_str_printf(out, "%s%%%d:%s", k ? ", " : "", n->out + (int32_t)k,
                      dg_type_text(&p->values[n->out + (int32_t)k].type, type, sizeof type));
    dg_str_printf(out, " = %s(", n->op);
    for (uint32_t k = 0; k < n->n_in; k++) {
        if (k) dg_str_puts(out, ", ");
        print_value(p, n->in[k], out);
    }
    dg_str_puts(out, ")");
    for (uint32_t k = 0; k < n->n_attrs; k++) print_attr(&n->attrs[k], out);
    dg_str_printf(out, "  # %s\n", n->scope);
}

void dg_program_print(const dg_program *p, dg_str *out)
{
    static const char *const kinds[] = {"?", "param", "frozen", "state", "input"};
    char type[96];
    dg_str_printf(out, "program %s: %u leaves, %u nodes, %u outputs\n", p->name, p->n_leaves, p->n_nodes,
                  p->n_outputs);
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        const dg_program_leaf *l = &p->leaves[i];
        dg_str_printf(out, "  %s @%s:%s", kinds[l->kind <= DG_LEAF_INPUT ? l->kind : 0], l->name,
                      dg_type_text(&p->values[l->value].type, type, sizeof type));
        if (l->update >= 0) {
            dg_str_puts(out, " <- ");
            print_value(p, l->update, out);
        }
        dg_str_puts(out, "\n");
    }
    for (uint32_t i = 0; i < p->n_nodes; i++) print_node(p, i, out);
    for (uint32_t i = 0; i < p->n_outputs; i++) {
        dg_str_printf(out, "  output %s = ", p->outputs[i].name);
        print_value(p, p->outputs[i].value, out);
        dg_str_puts(out, "\n");
    }
}

void dg_program_dot(const dg_program *p, dg_str *out)
{
    char type[96];
    dg_str_printf(out, "digraph \"%s\" {\n  node [shape=box, fontname=monospace];\n", p->name);
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        dg_str_printf(out, "  l%u [shape=oval, label=", i);
        dg_str_json(out, p->leaves[i].name);
        dg_str_puts(out, "];\n");
    }
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const dg_program_node *n = &p->nodes[i];
        dg_str_printf(out, "  n%u [label=\"%s\\n%s\", tooltip=", i, n->op,
                      dg_type_text(&p->values[n->out].type, type, sizeof type));
        dg_str_json(out, n->scope);
        dg_str_puts(out, "];\n");
        for (uint32_t k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0) continue;
            const dg_program_value *v = &p->values[n->in[k]];
            dg_str_printf(out, "  %c%d -> n%u;\n", v->leaf >= 0 ? 'l' : 'n', v->leaf >= 0 ? v->leaf : v->node,
                          i);
        }
    }
    dg_str_puts(out, "}\n");
}
