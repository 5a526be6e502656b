/* cmd_doctor.c - `digpt doctor`: what this machine offers, what is missing, what to do. */
#include "cli.h"

#include <errno.h>
#include <jpeglib.h>
#include <png.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>
#include <yaml.h>
#include <zlib.h>

#include "digpt/backend.h"
#include "train/ranks.h"

/* What the report gathers; printed as one table, with the advice under it. */
typedef struct report {
    dg_str rows, advice;
    size_t n_usable; /* backends that can train */
} report;

/* The value after "key : " in a /proc file, into out; "" if there is none. */
static void proc_value(const char *file, const char *key, char *out, size_t size)
{
    char line[8192];
    FILE *f = fopen(file, "r");
    out[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key))) continue;
        const char *p = strchr(line, ':');
        if (!p) continue;
        p += 1 + strspn(p + 1, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
        break;
    }
    if (f) fclose(f);
}

/* The first line of a file, into out; "" if it cannot be read. */
static void first_line(const char *file, char *out, size_t size)
{
    FILE *f = fopen(file, "r");
    out[0] = 0;
    if (f && fgets(out, (int)size, f)) out[strcspn(out, "\n")] = 0;
    if (f) fclose(f);
}

static void report_processor(report *r)
{
    /* Those that change which kernels a backend picks. */
    static const char *const known[] = {"avx2",     "fma",   "f16c", "avx512f", "avx512_bf16", "avx512_fp16",
                                        "amx_bf16", "asimd", "bf16", "i8mm",    "sve"};
    char model[256], flags[8192], limit[64];
    proc_value("/proc/cpuinfo", "model name", model, sizeof model);
    proc_value("/proc/cpuinfo", "flags", flags, sizeof flags);
    if (!flags[0]) proc_value("/proc/cpuinfo", "Features", flags, sizeof flags);
    dg_str_printf(&r->rows, "processor\t%s\n", model[0] ? model : "not known");
    cpu_set_t set;
    CPU_ZERO(&set);
    int usable = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    dg_str_printf(&r->rows, "cores\t%ld, of which this process may use %d", sysconf(_SC_NPROCESSORS_ONLN),
                  usable);
    first_line("/sys/fs/cgroup/cpu.max", limit, sizeof limit);
    double quota, period;
    if (sscanf(limit, "%lf %lf", &quota, &period) == 2 && period > 0)
        dg_str_printf(&r->rows, "; the control group allows %.2g at a time", quota / period);
    dg_str_puts(&r->rows, "\ninstructions\t");
    size_t n = 0;
    char *save = NULL;
    for (char *p = strtok_r(flags, " ", &save); p; p = strtok_r(NULL, " ", &save))
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (!strcmp(p, known[i])) dg_str_printf(&r->rows, "%s%s", n++ ? " " : "", p);
    dg_str_puts(&r->rows, n ? "\n" : "none beyond the basic ones\n");
}

static void report_memory(report *r)
{
    char total[64], available[64], limit[64], a[32], b[32];
    proc_value("/proc/meminfo", "MemTotal", total, sizeof total);
    proc_value("/proc/meminfo", "MemAvailable", available, sizeof available);
    dg_str_printf(&r->rows, "memory\t%s, %s available", cli_bytes(1024 * strtod(total, NULL), a, sizeof a),
                  cli_bytes(1024 * strtod(available, NULL), b, sizeof b));
    first_line("/sys/fs/cgroup/memory.max", limit, sizeof limit);
    if (strtod(limit, NULL) > 0)
        dg_str_printf(&r->rows, "; the control group allows %s", cli_bytes(strtod(limit, NULL), a, sizeof a));
    dg_str_puts(&r->rows, "\n");
}

static void report_disk(report *r)
{
    struct statvfs v;
    char text[32], here[1024];
    if (!getcwd(here, sizeof here) || statvfs(".", &v) != 0) {
        dg_str_printf(&r->rows, "disk\tthe working folder cannot be looked at: %s\n", strerror(errno));
        return;
    }
    double free = (double)v.f_bavail * (double)v.f_frsize;
    dg_str_printf(&r->rows, "disk\t%s free in %s%s\n", cli_bytes(free, text, sizeof text), here,
                  access(".", W_OK) == 0 ? "" : ", which this user cannot write");
    /* A ViT-B checkpoint with its moments is 1.6 GB, and two exist while one replaces the other. */
    if (free < 4e9)
        dg_str_puts(
            &r->advice,
            "Little disk is free: let `output` of recipes name a folder with room for checkpoints.\n");
}

static void report_libraries(report *r)
{
    unsigned x = XXH_versionNumber();
#ifdef LIBJPEG_TURBO_VERSION
#define TEXT(X) #X
#define TEXT_OF(X) TEXT(X)
    const char *jpeg = "libjpeg-turbo " TEXT_OF(LIBJPEG_TURBO_VERSION);
#else
    const char *jpeg = "libjpeg, not libjpeg-turbo";
    dg_str_puts(&r->advice, "Decoding is several times faster with libjpeg-turbo: install its development "
                            "files and build again.\n");
#endif
    dg_str_printf(&r->rows, "libraries\t%s, libpng %s, libyaml %s, zlib %s, xxHash %u.%u.%u\n", jpeg,
                  png_get_libpng_ver(NULL), yaml_get_version_string(), zlibVersion(), x / 10000,
                  x / 100 % 100, x % 100);
}

static void report_terminal(report *r)
{
    const char *term = getenv("TERM");
    if (isatty(STDERR_FILENO))
        dg_str_printf(&r->rows, "terminal\t%s: runs show a progress bar\n",
                      term ? term : "of an unknown kind");
    else
        dg_str_puts(&r->rows, "terminal\tstandard error is no terminal: runs print plain lines\n");
}

static dg_status list_devices(const dg_component *c, report *r, dg_error *err)
{
    const dg_backend_interface *b = c->ref.factory->interface;
    dg_device_info devices[16];
    uint32_t n = 0;
    char print[256] = "", memory[32];
    memset(devices, 0, sizeof devices);
    for (size_t i = 0; i < 16; i++) devices[i].struct_size = (uint32_t)sizeof devices[i];
    DG_TRY(b->devices(c->self, devices, 16, &n, err));
    if (n == 0) return dg_fail(err, DG_ERR_NOT_FOUND, "it finds no device");
    b->fingerprint(c->self, print, sizeof print);
    for (uint32_t i = 0; i < n && i < 16; i++) {
        dg_str_printf(&r->rows, "backend %s\t%s", c->ref.factory->name, devices[i].name);
        if (devices[i].memory)
            dg_str_printf(&r->rows, ", %s", cli_bytes((double)devices[i].memory, memory, sizeof memory));
        dg_str_printf(&r->rows, "%s%s; precision auto is %s\n", devices[i].detail[0] ? ", " : "",
                      devices[i].detail, dg_dtype_name(b->preferred(c->self)));
    }
    if (print[0]) dg_str_printf(&r->rows, "\tresults depend on: %s\n", print);
    return DG_OK;
}

static void report_backends(const dg_registry *plugins, report *r)
{
    for (size_t i = 0; i < dg_registry_components(plugins); i++) {
        const dg_component_ref *ref = dg_registry_component(plugins, i);
        if (strcmp(ref->interface, DG_BACKEND_INTERFACE)) continue;
        dg_error err = DG_ERROR_INIT;
        dg_component c = {0};
        dg_status s =
            dg_component_make(plugins, DG_BACKEND_INTERFACE, ref->factory->name, NULL, 0, NULL, &c, &err);
        if (s == DG_OK) s = list_devices(&c, r, &err);
        if (s != DG_OK)
            dg_str_printf(&r->rows, "backend %s\tnot usable here: %s\n", ref->factory->name, err.message);
        else
            r->n_usable += strcmp(ref->factory->name, "reference") != 0;
        dg_component_destroy(&c);
    }
    if (r->n_usable == 0)
        dg_str_puts(
            &r->advice,
            "No backend but the slow `reference` is usable: for the cpu backend install oneDNN's development "
            "files (Debian: libdnnl-dev) and build again.\n");
}

/* Who can join several processes, and whether this is one of them. */
static void report_ranks(const dg_registry *plugins, report *r)
{
    int64_t rank, world;
    const char *launcher;
    size_t n = 0;
    dg_error err = DG_ERROR_INIT;
    for (size_t i = 0; i < dg_registry_components(plugins); i++) {
        const dg_component_ref *ref = dg_registry_component(plugins, i);
        const dg_collective_interface *engine = ref->factory->interface;
        dg_component c = {0};
        char text[256] = "";
        if (strcmp(ref->interface, DG_COLLECTIVE_INTERFACE)) continue;
        n++;
        if (dg_component_make(plugins, ref->interface, ref->factory->name, NULL, 0, NULL, &c, &err) == DG_OK)
            engine->describe(c.self, text, sizeof text);
        dg_str_printf(&r->rows, "ranks over %s\t%s\n", ref->factory->name, c.self ? text : err.message);
        dg_component_destroy(&c);
    }
    if (n == 0)
        dg_str_puts(&r->rows, "ranks\tone process only: this build found no MPI (Debian: libopenmpi-dev)\n");
    if (dg_ranks_announced(&rank, &world, &launcher, &err) != DG_OK)
        dg_str_printf(&r->advice, "%s.\n", err.message);
    else if (world > 1)
        dg_str_printf(&r->rows, "\tthis is process %lld of %lld, by %s\n", (long long)rank, (long long)world,
                      launcher);
}

static void report_plugins(const dg_registry *plugins, report *r)
{
    size_t counts[8] = {0}, failed = 0;
    for (size_t i = 0; i < dg_registry_components(plugins); i++)
        for (size_t k = 0; k < dg_interface_count() && k < 8; k++)
            counts[k] += !strcmp(dg_registry_component(plugins, i)->interface, dg_interface_at(k)->name);
    dg_str_puts(&r->rows, "plugins\t");
    for (size_t k = 0; k < dg_interface_count() && k < 8; k++)
        dg_str_printf(&r->rows, "%s%zu %s", k ? ", " : "", counts[k], dg_interface_at(k)->plural);
    dg_str_puts(&r->rows, "\n");
    for (size_t i = 0; i < dg_registry_files(plugins); i++) {
        const dg_plugin_file *f = dg_registry_file(plugins, i);
        if (f->status == DG_OK) continue;
        failed++;
        dg_str_printf(&r->rows, "not usable\t%s: %s\n", f->path, f->why);
    }
    if (failed)
        dg_str_puts(&r->advice, "Some plugins cannot be used: digpt plugins --why says more of each.\n");
    if (counts[0] == 0 || counts[1] == 0 || counts[2] == 0)
        dg_str_printf(
            &r->advice,
            "A tokenizer, a model and a loss are needed and not all are there: set DIGPT_PLUGIN_PATH to the "
            "folder with digpt's plugins, or install digpt.\n");
}

static int run(const cli_args *args)
{
    report r = {{0}, {0}, 0};
    dg_registry *plugins = NULL;
    int code = cli_registry(args, &plugins);
    if (code != CLI_OK) return code;
    dg_str_printf(&r.rows, "digpt\t%s, plugin ABI %d.%d, %s\n", DIGPT_VERSION, DG_ABI_MAJOR, DG_ABI_MINOR,
                  DG_BUILD_TEXT);
    report_processor(&r);
    report_memory(&r);
    report_disk(&r);
    report_libraries(&r);
    report_terminal(&r);
    report_plugins(plugins, &r);
    report_backends(plugins, &r);
    report_ranks(plugins, &r);
    bool lacking = r.advice.length > 0;
    code = cli_table(&r.rows);
    if (lacking) {
        printf("\nto do:\n");
        code = cli_print(&r.advice);
    } else
        printf("\nnothing is missing\n");
    dg_registry_destroy(plugins);
    return code == CLI_OK && (r.n_usable == 0) ? CLI_FAILED : code;
}

static const cli_option options[] = {CLI_PLUGIN_PATH, {NULL, NULL, NULL}};

const cli_command cmd_doctor = {"doctor",
                                "",
                                0,
                                0,
                                "say what this machine offers, what is missing and what to do",
                                "Exit code 1 if no backend can train here.",
                                options,
                                run};
