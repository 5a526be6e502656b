/* file.c - see file.h. */
#include "file.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static dg_status io_fail(dg_error *err, const char *what, const char *path)
{
    int e = errno;
    return dg_fail(err,
                   e == ENOENT   ? DG_ERR_NOT_FOUND
                   : e == ENOMEM ? DG_ERR_NOMEM
                                 : DG_ERR_IO,
                   "%s '%s': %s", what, path, strerror(e));
}

static dg_status read_fd(int fd, const char *path, size_t limit, char **bytes, size_t *size, dg_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return io_fail(err, "cannot read", path);
    if (S_ISDIR(st.st_mode)) return dg_fail(err, DG_ERR_IO, "cannot read '%s': it is a folder", path);
    size_t capacity = st.st_size > 0 ? (size_t)st.st_size : 4096, n = 0;
    if (capacity > limit)
        return dg_fail(err, DG_ERR_FORMAT, "'%s' has %zu bytes, more than the %zu allowed", path, capacity,
                       limit);
    char *p = dg_calloc(capacity + 1, 1);
    if (!p) return dg_fail(err, DG_ERR_NOMEM, "no memory for the %zu bytes of '%s'", capacity, path);
    for (;;) {
        ssize_t r = read(fd, p + n, capacity - n);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) {
            dg_free(p);
            return io_fail(err, "cannot read", path);
        }
        if (r == 0) break;
        n += (size_t)r;
        if (n < capacity) continue;
        if (S_ISREG(st.st_mode)) break;
        char *grown =
            capacity < limit ? dg_realloc(p, capacity * 2 + 1) : NULL; /* a pipe: its size is not known */
        if (!grown) {
            dg_free(p);
            return dg_fail(err, DG_ERR_FORMAT, "'%s' has more than the %zu bytes allowed", path, limit);
        }
        p = grown;
        capacity *= 2;
    }
    p[n] = 0;
    *bytes = p;
    *size = n;
    return DG_OK;
}

dg_status dg_file_read(const char *path, size_t limit, char **bytes, size_t *size, dg_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_fail(err, "cannot open", path);
    dg_status s = read_fd(fd, path, limit, bytes, size, err);
    close(fd);
    return s;
}

dg_status dg_fd_write_all(int fd, const void *bytes, size_t size, const char *path, dg_error *err)
{
    const char *p = bytes;
    while (size) {
        ssize_t w = write(fd, p, size);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return io_fail(err, "cannot write", path);
        if (w == 0) {
            errno = ENOSPC;
            return io_fail(err, "cannot write", path);
        }
        p += w;
        size -= (size_t)w;
    }
    return DG_OK;
}

dg_status dg_dir_sync(const char *path, dg_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_fail(err, "cannot open the folder", path);
    dg_status s = fsync(fd) == 0 || errno == EINVAL ? DG_OK : io_fail(err, "cannot sync the folder", path);
    close(fd);
    return s;
}

dg_status dg_file_write_atomic(const char *path, const void *bytes, size_t size, dg_error *err)
{
    size_t n = strlen(path);
    char *tmp = dg_calloc(n + 5, 1), *dir = dg_path_dir(path);
    dg_status s = tmp && dir ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    int fd = -1;
    if (s == DG_OK) {
        memcpy(tmp, path, n);
        memcpy(tmp + n, ".tmp", 5);
        fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0) s = io_fail(err, "cannot create", tmp);
    }
    if (s == DG_OK) s = dg_fd_write_all(fd, bytes, size, tmp, err);
    if (s == DG_OK && fsync(fd) != 0) s = io_fail(err, "cannot sync", tmp);
    if (fd >= 0 && close(fd) != 0 && s == DG_OK) s = io_fail(err, "cannot close", tmp);
    if (s == DG_OK && rename(tmp, path) != 0) s = io_fail(err, "cannot rename a new file to", path);
    if (s == DG_OK) s = dg_dir_sync(dir, err);
    if (s != DG_OK && fd >= 0) unlink(tmp);
    dg_free(tmp);
    dg_free(dir);
    return s;
}

dg_status dg_dir_make(const char *path, dg_error *err)
{
    char *p = dg_strdup(path);
    if (!p) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = DG_OK;
    for (char *q = p + 1; s == DG_OK && *p; q++) {
        if (*q != '/' && *q != 0) continue;
        char c = *q;
        *q = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) s = io_fail(err, "cannot make the folder", p);
        *q = c;
        if (c == 0) break;
    }
    if (s == DG_OK && !dg_path_is_dir(path))
        s = dg_fail(err, DG_ERR_IO, "'%s' is there and is not a folder", path);
    dg_free(p);
    return s;
}

static dg_status remove_in(int parent, const char *name, const char *path, dg_error *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? DG_OK : io_fail(err, "cannot remove", path);
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return io_fail(err, "cannot remove", path);
    }
    dg_status s = DG_OK;
    for (struct dirent *e; s == DG_OK && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (unlinkat(fd, e->d_name, 0) == 0) continue;
        if (errno == EISDIR || errno == EPERM)
            s = remove_in(fd, e->d_name, path, err);
        else
            s = io_fail(err, "cannot remove a file in", path);
    }
    closedir(d);
    if (s == DG_OK && unlinkat(parent, name, AT_REMOVEDIR) != 0) s = io_fail(err, "cannot remove", path);
    return s;
}

dg_status dg_dir_remove(const char *path, dg_error *err)
{
    return remove_in(AT_FDCWD, path, path, err);
}

bool dg_path_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool dg_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *dg_path_join(const char *dir, const char *name)
{
    if (name[0] == '/' || dir[0] == 0) return dg_strdup(name);
    size_t n = strlen(dir), m = strlen(name), slash = dir[n - 1] != '/';
    char *p = dg_calloc(n + m + 2, 1);
    if (!p) return NULL;
    memcpy(p, dir, n);
    if (slash) p[n] = '/';
    memcpy(p + n + slash, name, m);
    return p;
}

char *dg_path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return dg_strdup(".");
    if (slash == path) return dg_strdup("/");
    size_t n = (size_t)(slash - path);
    char *p = dg_calloc(n + 1, 1);
    if (p) memcpy(p, path, n);
    return p;
}

dg_status dg_map_open(const char *path, dg_map *map, dg_error *err)
{
    *map = (dg_map){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_fail(err, "cannot open", path);
    struct stat st;
    dg_status s = DG_OK;
    if (fstat(fd, &st) != 0)
        s = io_fail(err, "cannot read", path);
    else if (!S_ISREG(st.st_mode))
        s = dg_fail(err, DG_ERR_IO, "cannot read '%s': it is not a regular file", path);
    else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = io_fail(err, "cannot map", path);
        else
            *map = (dg_map){p, (size_t)st.st_size};
    }
    close(fd);
    return s;
}

void dg_map_close(dg_map *map)
{
    if (map->bytes) munmap((void *)(uintptr_t)map->bytes, map->size);
    *map = (dg_map){NULL, 0};
}
