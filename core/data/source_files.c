/* source_files.c - images that are files on disk: class folders and list files. */
#include "source_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"

#define MAX_DEPTH 16 /* of folders in a class: more is a link that leads back */
#define MAX_LIST_BYTES ((size_t)4 << 30)

typedef struct file_source {
    dg_source base;
    dg_file_entry *entries; /* [count] */
} file_source;

static dg_status read_file(int fd, dg_sample *sample, dg_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return dg_fail(err, DG_ERR_IO, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode)) return dg_fail(err, DG_ERR_FORMAT, "not a regular file");
    if ((uint64_t)st.st_size > DG_MAX_FILE_BYTES)
        return dg_fail(err, DG_ERR_FORMAT, "the file has %lld bytes, too many for an image",
                       (long long)st.st_size);
    DG_TRY(dg_sample_reserve(sample, (size_t)st.st_size, err));
    DG_TRY(dg_read_at(fd, 0, sample->bytes, (size_t)st.st_size, err));
    sample->size = (size_t)st.st_size;
    return DG_OK;
}

static dg_status files_read(const dg_source *source, int64_t id, dg_sample *sample, dg_error *err)
{
    const dg_file_entry *e = &((const file_source *)source)->entries[id];
    const size_t length = strlen(e->caption);
    sample->name = e->path;
    sample->label = e->label;
    DG_TRY(dg_sample_caption(sample, length, err));
    memcpy(sample->caption, e->caption, length);
    int fd = open(e->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return dg_fail(err, errno == ENOENT ? DG_ERR_NOT_FOUND : DG_ERR_IO, "cannot open: %s",
                       strerror(errno));
    dg_status s = read_file(fd, sample, err);
    close(fd);
    return s;
}

static void files_close(dg_source *source)
{
    dg_free(((file_source *)source)->entries);
}

static const dg_source_kind files_kind = {files_read, files_close};

static uint64_t fingerprint(const dg_file_entry *entries, size_t count, XXH3_state_t *state)
{
    XXH3_64bits_reset(state);
    for (size_t i = 0; i < count; i++) {
        XXH3_64bits_update(state, entries[i].path, strlen(entries[i].path) + 1);
        XXH3_64bits_update(state, &entries[i].label, sizeof entries[i].label);
    }
    return XXH3_64bits_digest(state);
}

dg_status dg_source_of_files(dg_file_entry *entries, size_t count, dg_arena *arena, const dg_names *classes,
                             const char *description, dg_source **source, dg_error *err)
{
    file_source *f = NULL;
    XXH3_state_t *state = NULL;
    dg_status s = dg_source_new(sizeof *f, &files_kind, &f, err);
    if (s != DG_OK) {
        dg_free(entries);
        return s;
    }
    f->entries = entries;
    f->base.count = (int64_t)count;
    f->base.arena = *arena;
    *arena = (dg_arena){0};
    if (classes) s = dg_names_to_classes(classes, &f->base, err);
    for (size_t i = 0; i < count; i++) {
        if (!classes && entries[i].label >= f->base.classes) f->base.classes = entries[i].label + 1;
        if (entries[i].caption[0]) f->base.has_captions = true;
    }
    if (s == DG_OK && !(state = XXH3_createState())) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) f->base.fingerprint = fingerprint(entries, count, state);
    XXH3_freeState(state);
    snprintf(f->base.description, sizeof f->base.description, "%s, %zu images, %d classes", description,
             count, f->base.classes);
    if (s != DG_OK) {
        dg_source_close(&f->base);
        return s;
    }
    *source = &f->base;
    return DG_OK;
}

/* ---- class folders */

typedef struct found_file {
    const char *dir, *name, *class_name;
} found_file;

typedef struct walk {
    dg_arena arena;
    found_file *files;
    size_t count, capacity;
    dg_names classes;
    size_t loose_images; /* directly in the root */
} walk;

static bool is_folder(const char *path, unsigned char type)
{
    if (type == DT_DIR) return true;
    return (type == DT_LNK || type == DT_UNKNOWN) && dg_path_is_dir(path);
}

static dg_status walk_class(walk *w, const char *dir, const char *class_name, int depth, dg_error *err);

static dg_status walk_entry(walk *w, const char *dir, const struct dirent *e, const char *class_name,
                            int depth, dg_error *err)
{
    if (e->d_name[0] == '.') return DG_OK;
    char *path = dg_path_join(dir, e->d_name);
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = DG_OK;
    if (is_folder(path, e->d_type)) {
        const char *name = class_name ? class_name : dg_arena_strdup(&w->arena, e->d_name);
        const char *kept = dg_arena_strdup(&w->arena, path);
        if (!name || !kept)
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        else if (!class_name)
            s = dg_names_add(&w->classes, &w->arena, name, err);
        if (s == DG_OK) s = walk_class(w, kept, name, depth + 1, err);
    } else if (dg_is_image_name(e->d_name) && !class_name) {
        w->loose_images++;
    } else if (dg_is_image_name(e->d_name)) {
        const char *name = dg_arena_strdup(&w->arena, e->d_name);
        if (!name || !dg_grow(&w->files, w->count, &w->capacity, sizeof *w->files))
            s = dg_fail(err, DG_ERR_NOMEM, "no memory for the list of files");
        else
            w->files[w->count++] = (found_file){dir, name, class_name};
    }
    dg_free(path);
    return s;
}

/* dir lives in the arena. class_name NULL: dir is the root. */
static dg_status walk_class(walk *w, const char *dir, const char *class_name, int depth, dg_error *err)
{
    if (depth > MAX_DEPTH)
        return dg_fail(err, DG_ERR_FORMAT, "'%s' lies more than %d folders deep: a link that leads back?",
                       dir, MAX_DEPTH);
    DIR *d = opendir(dir);
    if (!d)
        return dg_fail(err, errno == ENOENT ? DG_ERR_NOT_FOUND : DG_ERR_IO, "cannot open the folder '%s': %s",
                       dir, strerror(errno));
    dg_status s = DG_OK;
    while (s == DG_OK) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e && errno) s = dg_fail(err, DG_ERR_IO, "cannot read the folder '%s': %s", dir, strerror(errno));
        if (!e) break;
        s = walk_entry(w, dir, e, class_name, depth, err);
    }
    closedir(d);
    return s;
}

/* The order of torchvision's make_dataset: class, then folder, then file. */
static int compare_files(const void *a, const void *b)
{
    const found_file *x = a, *y = b;
    int c = strcmp(x->class_name, y->class_name);
    if (!c) c = strcmp(x->dir, y->dir);
    return c ? c : strcmp(x->name, y->name);
}

static dg_status entries_of(walk *w, dg_file_entry **entries, dg_error *err)
{
    dg_file_entry *out = dg_calloc(w->count, sizeof *out);
    bool *used = dg_calloc(w->classes.count, sizeof *used);
    dg_status s = out && used ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory for the list of files");
    qsort(w->files, w->count, sizeof *w->files, compare_files);
    for (size_t i = 0; s == DG_OK && i < w->count; i++) {
        const found_file *f = &w->files[i];
        char *path = dg_path_join(f->dir, f->name);
        out[i] = (dg_file_entry){path ? dg_arena_strdup(&w->arena, path) : NULL, "",
                                 dg_names_find(&w->classes, f->class_name)};
        dg_free(path);
        if (!out[i].path)
            s = dg_fail(err, DG_ERR_NOMEM, "no memory for the list of files");
        else
            used[out[i].label] = true;
    }
    for (size_t i = 0; s == DG_OK && i < w->classes.count; i++)
        if (!used[i]) dg_logf(DG_LOG_WARNING, "class folder '%s' has no image", w->classes.names[i]);
    dg_free(used);
    if (s == DG_OK)
        *entries = out;
    else
        dg_free(out);
    return s;
}

static dg_status check_found(const walk *w, const char *path, dg_error *err)
{
    if (w->count) return DG_OK;
    if (w->loose_images)
        return dg_fail(
            err, DG_ERR_FORMAT,
            "'%s' has %zu images directly in it and none in class folders: give each class a folder, "
            "or use a list file",
            path, w->loose_images);
    if (w->classes.count)
        return dg_fail(err, DG_ERR_FORMAT,
                       "'%s' has %zu class folders and not one .jpg, .jpeg or .png in them", path,
                       w->classes.count);
    return dg_fail(err, DG_ERR_FORMAT, "'%s' has no class folders: it is empty", path);
}

dg_status dg_source_open_folder(const char *path, dg_source **source, dg_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return dg_fail(err, DG_ERR_NOT_FOUND, "cannot open the image folder '%s': %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) return dg_fail(err, DG_ERR_INVALID, "'%s' is not a folder", path);
    walk w = {0};
    dg_file_entry *entries = NULL;
    const char *root = dg_arena_strdup(&w.arena, path);
    dg_status s = root ? walk_class(&w, root, NULL, 0, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = check_found(&w, path, err);
    if (s == DG_OK) {
        dg_names_finish(&w.classes);
        if (w.loose_images)
            dg_logf(DG_LOG_WARNING, "'%s': %zu images outside class folders are left out", path,
                    w.loose_images);
        s = entries_of(&w, &entries, err);
    }
    if (s == DG_OK) s = dg_source_of_files(entries, w.count, &w.arena, &w.classes, "folder", source, err);
    dg_free(w.files);
    dg_free(w.classes.names);
    dg_arena_free(&w.arena);
    return s;
}

/* ---- list files */

typedef struct list {
    dg_arena arena;
    dg_file_entry *entries;
    const char **labels; /* [count], "" for none */
    size_t count, capacity, label_capacity;
    const char *dir;
} list;

/* line is NUL-terminated and cut up in place. */
static dg_status list_line(list *l, char *line, dg_error *err)
{
    char *label = strchr(line, '\t'), *caption = NULL;
    if (label) *label++ = 0;
    if (label) caption = strchr(label, '\t');
    if (caption) *caption++ = 0;
    if (!line[0]) return dg_fail(err, DG_ERR_FORMAT, "no path before the tab");
    if (caption && strlen(caption) > DG_MAX_CAPTION_BYTES)
        return dg_fail(err, DG_ERR_FORMAT, "the caption has more than %zu bytes", DG_MAX_CAPTION_BYTES);
    char *path = dg_path_join(l->dir, line);
    dg_file_entry e = {path ? dg_arena_strdup(&l->arena, path) : NULL,
                       dg_arena_strdup(&l->arena, caption ? caption : ""), -1};
    const char *kept = dg_arena_strdup(&l->arena, label ? label : "");
    dg_free(path);
    if (!e.path || !e.caption || !kept || !dg_grow(&l->entries, l->count, &l->capacity, sizeof *l->entries) ||
        !dg_grow(&l->labels, l->count, &l->label_capacity, sizeof *l->labels))
        return dg_fail(err, DG_ERR_NOMEM, "no memory for the list");
    l->entries[l->count] = e;
    l->labels[l->count++] = kept;
    return DG_OK;
}

static dg_status list_lines(list *l, const char *path, char *text, size_t size, dg_error *err)
{
    size_t number = 1, at = size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    for (; at < size; number++) {
        char *line = text + at, *end = memchr(line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        at += length + 1;
        dg_status s = DG_OK;
        if (memchr(line, 0, length)) s = dg_fail(err, DG_ERR_FORMAT, "a zero byte: is this a text file?");
        if (length && line[length - 1] == '\r') length--;
        line[length] = 0;
        if (s == DG_OK && length) s = list_line(l, line, err);
        if (s != DG_OK) {
            dg_fail_in(err, "%s:%zu", path, number);
            return s;
        }
    }
    return l->count ? DG_OK : dg_fail(err, DG_ERR_FORMAT, "'%s' lists no images", path);
}

/* Integers when all of them are, class names else. */
static dg_status list_labels(list *l, dg_names *names, bool *are_names, dg_error *err)
{
    for (size_t i = 0; i < l->count && !*are_names; i++) {
        if (!l->labels[i][0]) continue;
        l->entries[i].label = dg_parse_label(l->labels[i], strlen(l->labels[i]));
        *are_names = l->entries[i].label < 0;
    }
    if (!*are_names) return DG_OK;
    for (size_t i = 0; i < l->count; i++)
        if (l->labels[i][0]) DG_TRY(dg_names_add(names, &l->arena, l->labels[i], err));
    dg_names_finish(names);
    for (size_t i = 0; i < l->count; i++)
        l->entries[i].label = l->labels[i][0] ? dg_names_find(names, l->labels[i]) : -1;
    return DG_OK;
}

dg_status dg_source_open_list(const char *path, dg_source **source, dg_error *err)
{
    char *text = NULL, *dir = NULL;
    size_t size = 0;
    list l = {0};
    dg_names names = {0};
    bool are_names = false;
    dg_status s = dg_file_read(path, MAX_LIST_BYTES, &text, &size, err);
    if (s == DG_OK && !(dir = dg_path_dir(path))) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    l.dir = dir;
    if (s == DG_OK) s = list_lines(&l, path, text, size, err);
    if (s == DG_OK) s = list_labels(&l, &names, &are_names, err);
    if (s == DG_OK) {
        s = dg_source_of_files(l.entries, l.count, &l.arena, are_names ? &names : NULL, "list", source, err);
        l.entries = NULL;
    }
    dg_free(text);
    dg_free(dir);
    dg_free(l.entries);
    dg_free(l.labels);
    dg_free(names.names);
    dg_arena_free(&l.arena);
    return s;
}
