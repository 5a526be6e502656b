/* cache.c - compiled programs on disk, in a folder that only this user writes to. A file holds a header,
 * which tells a whole file from a cut or damaged one, and the plugin's own bytes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "pjrt.h"

typedef struct header {
    char magic[8];
    uint64_t bytes; /* that follow */
    uint64_t hash;  /* XXH3 of them */
} header;

static const char magic[8] = "DGPJRT1";
static const char ending[] = ".exe";
static const uint64_t most_bytes = 4ull << 30; /* of the folder; what was used longest ago goes */

static void note(const dg_pjrt *self, int level, const char *path, const char *what, const char *why)
{
    char line[PATH_MAX + 1200];
    snprintf(line, sizeof line, "pjrt: %s: %s%s%s", path, what, why ? ": " : "", why ? why : "");
    self->host->log(level, line);
}

/* ---- the folder and the names in it */

bool dg_pjrt_cache_folder(const dg_pjrt *self)
{
    char path[PATH_MAX];
    struct stat st;
    if (!*self->cache) return false;
    snprintf(path, sizeof path, "%s", self->cache);
    for (char *c = path + 1;; c++) {
        if (*c && *c != '/') continue;
        char end = *c;
        *c = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            note(self, 2, path, "no cache of compiled programs", strerror(errno));
            return false;
        }
        if (!end) break;
        *c = end;
    }
    /* Its files become code: nobody else may have written them. */
    if (stat(path, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH))) return true;
    note(self, 2, path, "no cache of compiled programs: the folder must be yours, and writable by you only",
         NULL);
    return false;
}

void dg_pjrt_cache_key(const dg_pjrt *self, const PJRT_Program *program, const char *options,
                       size_t n_options, dg_pjrt_key *key)
{
    char print[512], identity[PATH_MAX + 64];
    key->name[0] = 0;
    if (!*self->cache || !dg_pjrt_identity(self->path, identity, sizeof identity)) return;
    dg_pjrt_fingerprint(self, print, sizeof print);
    XXH3_state_t *state = XXH3_createState();
    if (!state) return;
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, identity, strlen(identity) + 1);
    XXH3_128bits_update(state, print, strlen(print) + 1);
    XXH3_128bits_update(state, options, n_options);
    XXH3_128bits_update(state, program->code, program->code_size);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(key->name, sizeof key->name, "%016llx%016llx%s", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64, ending);
}

static bool file_path(const dg_pjrt *self, const char *name, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s", self->cache, name);
    return n > 0 && n < PATH_MAX;
}

/* ---- reading */

static bool read_all(int file, void *out, size_t size)
{
    char *at = out;
    while (size > 0) {
        ssize_t n = read(file, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* The plugin's bytes of a whole file, NULL otherwise; released by the caller. */
static char *read_file(const dg_pjrt *self, const char *path, size_t *size)
{
    header h;
    struct stat st;
    char *bytes = NULL;
    const char *why = "it is cut short";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    if (fstat(file, &st) == 0 && st.st_uid == geteuid() && read_all(file, &h, sizeof h) &&
        memcmp(h.magic, magic, sizeof magic) == 0 && (uint64_t)st.st_size - sizeof h == h.bytes) {
        *size = (size_t)h.bytes;
        bytes = self->host->allocate(*size);
        bool whole = bytes && read_all(file, bytes, *size);
        if (whole && XXH3_64bits(bytes, *size) == h.hash) {
            why = NULL;
            futimens(file, NULL); /* used now */
        } else if (whole)
            why = "its checksum is wrong";
    }
    close(file);
    if (!why) return bytes;
    note(self, 2, path, "compiling anew, this file of the cache is not good", why);
    if (bytes) self->host->release(bytes);
    return NULL;
}

PJRT_LoadedExecutable *dg_pjrt_from_bytes(const dg_pjrt *self, const char *bytes, size_t size, dg_error *err)
{
    if (!DG_PJRT_HAS(self->api, PJRT_Executable_DeserializeAndLoad)) {
        dg_fail(err, DG_ERR_UNSUPPORTED, "this plugin cannot load compiled programs");
        return NULL;
    }
    DG_PJRT_ARGS(PJRT_Executable_DeserializeAndLoad, args);
    args.client = self->client;
    args.serialized_executable = bytes;
    args.serialized_executable_size = size;
    dg_status status = DG_PJRT_CALL(self->api, PJRT_Executable_DeserializeAndLoad, args, err);
    return status == DG_OK ? args.loaded_executable : NULL;
}

PJRT_LoadedExecutable *dg_pjrt_cache_load(const dg_pjrt *self, const dg_pjrt_key *key)
{
    char path[PATH_MAX];
    size_t size = 0;
    dg_error err = DG_ERROR_INIT;
    if (!*key->name) return NULL;
    if (!file_path(self, key->name, path) || access(path, F_OK) != 0 || !dg_pjrt_cache_folder(self))
        return NULL;
    char *bytes = read_file(self, path, &size);
    if (!bytes) return NULL;
    PJRT_LoadedExecutable *loaded = dg_pjrt_from_bytes(self, bytes, size, &err);
    self->host->release(bytes);
    if (loaded)
        note(self, 0, path, "compiled before", NULL);
    else
        note(self, 2, path, "compiling anew, the plugin does not take this file of the cache", err.message);
    return loaded;
}

/* ---- writing */

static bool write_all(int file, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(file, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* Beside its place, then renamed: other processes see the whole file or none. */
static void write_file(const dg_pjrt *self, const char *path, const char *bytes, size_t size)
{
    char part[PATH_MAX + 32];
    header h = {.bytes = size, .hash = XXH3_64bits(bytes, size)};
    memcpy(h.magic, magic, sizeof magic);
    snprintf(part, sizeof part, "%s.%ld", path, (long)getpid());
    int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = file >= 0 && write_all(file, &h, sizeof h) && write_all(file, bytes, size);
    if (file >= 0 && close(file) != 0) good = false;
    if (good && rename(part, path) == 0) return;
    note(self, 2, path, "not kept for the next run", strerror(errno));
    if (file >= 0) unlink(part);
}

/* Removes what was used longest ago while the folder is too large. */
static void make_room(const dg_pjrt *self)
{
    for (;;) {
        char oldest[PATH_MAX] = "", path[PATH_MAX];
        struct timespec first = {0};
        struct stat st;
        uint64_t total = 0;
        DIR *folder = opendir(self->cache);
        if (!folder) return;
        for (struct dirent *d; (d = readdir(folder));) {
            if (!strstr(d->d_name, ending) || !file_path(self, d->d_name, path) || stat(path, &st) != 0)
                continue;
            total += (uint64_t)st.st_size;
            bool older = st.st_mtim.tv_sec < first.tv_sec ||
                         (st.st_mtim.tv_sec == first.tv_sec && st.st_mtim.tv_nsec < first.tv_nsec);
            if (*oldest && !older) continue;
            first = st.st_mtim;
            strcpy(oldest, path);
        }
        closedir(folder);
        if (total <= most_bytes || unlink(oldest) != 0) return;
    }
}

void dg_pjrt_cache_keep(const dg_pjrt *self, const dg_pjrt_key *key, const char *bytes, size_t size)
{
    char path[PATH_MAX];
    if (!*key->name || !file_path(self, key->name, path) || !dg_pjrt_cache_folder(self)) return;
    write_file(self, path, bytes, size);
    make_room(self);
}

void dg_pjrt_cache_save(const dg_pjrt *self, const dg_pjrt_key *key, PJRT_LoadedExecutable *loaded)
{
    dg_error err = DG_ERROR_INIT;
    if (!*key->name || !DG_PJRT_HAS(self->api, PJRT_Executable_Serialize)) return;
    DG_PJRT_ARGS(PJRT_LoadedExecutable_GetExecutable, get);
    get.loaded_executable = loaded;
    if (DG_PJRT_CALL(self->api, PJRT_LoadedExecutable_GetExecutable, get, &err) != DG_OK) return;
    DG_PJRT_ARGS(PJRT_Executable_Serialize, args);
    args.executable = get.executable;
    if (DG_PJRT_CALL(self->api, PJRT_Executable_Serialize, args, &err) == DG_OK) {
        dg_pjrt_cache_keep(self, key, args.serialized_bytes, args.serialized_bytes_size);
        if (args.serialized_executable_deleter)
            args.serialized_executable_deleter(args.serialized_executable);
    } else
        note(self, 0, key->name, "this plugin's programs cannot be kept", err.message);
    DG_PJRT_ARGS(PJRT_Executable_Destroy, destroy);
    destroy.executable = get.executable;
    DG_PJRT_CALL(self->api, PJRT_Executable_Destroy, destroy, &err);
}
