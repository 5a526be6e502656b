/* check.c - the list of checks of one file, in order, and the checks of the file itself; see check.h. */
#include "checks.h"

dg_verdict dg_check_fail(const dg_checked *c, const char *fmt, ...)
{
    char text[1400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    dg_str_puts(c->detail, text);
    return DG_CHECK_FAIL;
}

/* ---- the file */

static dg_verdict loads(const dg_checked *c)
{
    if (c->file->status != DG_OK) return dg_check_fail(c, "%s", c->file->why);
    dg_str_printf(c->detail, "%s %s, ABI %u.%u", c->file->plugin->id, c->file->plugin->version,
                  c->file->plugin->abi_major, c->file->plugin->abi_minor);
    return DG_CHECK_PASS;
}

static dg_verdict loads_quickly(const dg_checked *c)
{
    if (c->file->seconds > 0.1)
        return dg_check_fail(c, "loading takes %.0f ms: the entry must open no files and start nothing",
                             c->file->seconds * 1e3);
    dg_str_printf(c->detail, "%.1f ms", c->file->seconds * 1e3);
    return DG_CHECK_PASS;
}

static dg_verdict unknown_interfaces(const dg_checked *c)
{
    static const char *const unknown[] = {"", "digpt.loss", "digpt.loss/999", "digpt.unheard/1", "loss"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        if (c->file->plugin->factory(unknown[i], 0))
            return dg_check_fail(c, "asked for the interface '%s' it returns a factory and not NULL",
                                 unknown[i]);
    for (size_t i = 0; i < dg_interface_count(); i++)
        if (c->file->plugin->factory(dg_interface_at(i)->name, UINT32_MAX))
            return dg_check_fail(c, "%s number 4294967295 is a factory and not NULL",
                                 dg_interface_at(i)->section);
    return DG_CHECK_PASS;
}

const dg_check dg_file_checks[] = {{"loads, and its descriptions are right", NULL, loads},
                                   {"loads in under 100 ms", NULL, loads_quickly},
                                   {"knows what it does not know", NULL, unknown_interfaces},
                                   {NULL, NULL, NULL}};

/* ---- the list */

typedef struct progress {
    const dg_check_sink *sink;
    size_t next, first;
    const dg_plugin_file *file;
} progress;

static dg_verdict run_one(progress *p, const dg_check *check, const dg_component_ref *ref)
{
    char subject[160] = "";
    dg_str detail = {0};
    const dg_checked c = {p->file, ref, &detail};
    size_t number = p->next++;
    if (number < p->first) return DG_CHECK_PASS;
    if (ref)
        snprintf(subject, sizeof subject, "%s '%s'", dg_interface_find(ref->interface)->section,
                 ref->factory->name);
    if (number > 0) p->sink->begin(p->sink->user, number, subject, check->name);
    dg_verdict v = check->run(&c);
    p->sink->end(p->sink->user, number, v, detail.text ? detail.text : "");
    dg_str_free(&detail);
    return v;
}

static void run_component(progress *p, const dg_component_ref *ref)
{
    static const dg_check *const lists[] = {dg_create_checks, dg_loss_checks, dg_model_checks,
                                            dg_backend_checks};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const dg_check *check = lists[i]; check->name; check++)
            if (!check->interface[0] || !strcmp(check->interface, ref->interface)) run_one(p, check, ref);
}

void dg_plugin_check(const char *path, size_t first, const dg_check_sink *sink)
{
    dg_error err = DG_ERROR_INIT;
    dg_registry *r = NULL;
    const char *const paths[] = {path};
    const dg_search search = {NULL, 0, paths, 1, true, dg_check_host()};
    /* Loading is itself what number 0 checks, and may crash. */
    if (first == 0) sink->begin(sink->user, 0, "", dg_file_checks[0].name);
    if (dg_registry_create(&search, &r, &err) != DG_OK || dg_registry_files(r) < 2) {
        sink->end(sink->user, 0, DG_CHECK_FAIL, err.message[0] ? err.message : "there is no plugin");
        dg_registry_destroy(r);
        return;
    }
    progress p = {sink, 0, first, dg_registry_file(r, 1)};
    for (const dg_check *check = dg_file_checks; check->name; check++)
        if (run_one(&p, check, NULL) == DG_CHECK_FAIL && p.file->status != DG_OK) break;
    for (size_t i = 0; i < dg_registry_components(r); i++)
        if (dg_registry_component(r, i)->file == p.file) run_component(&p, dg_registry_component(r, i));
    dg_registry_destroy(r);
}
