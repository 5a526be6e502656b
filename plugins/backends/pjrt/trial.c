/* trial.c - a plugin's first start and first compile, in a child process: one that aborts there takes the
 * child along and becomes a message. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "child.h"
#include "pjrt.h"

static const double limit = 300; /* seconds; a TPU takes some ten to start */

static const char smallest[] = "module @trial {\n"
                               "  func.func public @main(%x: tensor<8xf32>) -> tensor<8xf32> {\n"
                               "    %y = stablehlo.add %x, %x : tensor<8xf32>\n"
                               "    return %y : tensor<8xf32>\n"
                               "  }\n"
                               "}\n";

static dg_status try_plugin(void *user, void *result, dg_error *err)
{
    dg_pjrt self = *(const dg_pjrt *)user; /* the child's own */
    char options[DG_PJRT_OPTIONS_SIZE];
    (void)result;
    self.n_replicas = 1;
    DG_TRY(dg_pjrt_load(self.plugin, self.path, true, &self.api, err));
    DG_TRY(dg_pjrt_make_client(&self, err));
    PJRT_Program program = {0};
    program.struct_size = PJRT_Program_STRUCT_SIZE;
    program.code = (char *)(uintptr_t)smallest;
    program.code_size = strlen(smallest);
    program.format = "mlir";
    program.format_size = strlen(program.format);
    DG_PJRT_ARGS(PJRT_Client_Compile, args);
    args.client = self.client;
    args.program = &program;
    args.compile_options_size = dg_pjrt_options(1, options);
    args.compile_options = options;
    dg_status status = DG_PJRT_CALL(self.api, PJRT_Client_Compile, args, err);
    if (status == DG_OK) {
        DG_PJRT_ARGS(PJRT_LoadedExecutable_Destroy, destroy);
        destroy.executable = args.executable;
        status = DG_PJRT_CALL(self.api, PJRT_LoadedExecutable_Destroy, destroy, err);
    }
    dg_pjrt_close_client(&self); /* gives the device back before the parent asks for it */
    return status;
}

/* The file that stands for a trial passed; "" if there can be none. */
static void stamp_path(const dg_pjrt *self, char out[PATH_MAX])
{
    char identity[PATH_MAX + 64];
    out[0] = 0;
    if (!*self->cache || !dg_pjrt_identity(self->path, identity, sizeof identity)) return;
    unsigned long long hash = XXH3_64bits(identity, strlen(identity));
    int n = snprintf(out, PATH_MAX, "%s/plugin-%016llx.good", self->cache, hash);
    if (n >= PATH_MAX) out[0] = 0;
}

dg_status dg_pjrt_trial(const dg_pjrt *self, bool always, dg_error *err)
{
    char stamp[PATH_MAX], what[PATH_MAX + 128];
    if (dg_pjrt_is_loaded(self->path)) return DG_OK;
    stamp_path(self, stamp);
    if (!always && *stamp && access(stamp, F_OK) == 0) return DG_OK;
    snprintf(what, sizeof what, "the PJRT plugin %s, tried with a program of one op in a child process",
             self->path);
    DG_TRY(dg_child_run(what, limit, try_plugin, (void *)(uintptr_t)self, NULL, 0, err));
    if (*stamp && dg_pjrt_cache_folder(self)) {
        int file = open(stamp, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (file >= 0) close(file);
    }
    return DG_OK;
}
