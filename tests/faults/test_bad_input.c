/* test_bad_input.c - what a user may give the program, and is not right: every row must end in order, with a
 * message that says what is wrong, where, and what to do; or it is fine, and must work. */
#include "campaign.h"

#include <sys/stat.h>

#define MODULES DIGPT_BINARY_DIR "/tests/modules/"
#define RECIPE                                                                                               \
    "name: bad\n"                                                                                            \
    "data: {source: folder, path: sound, image_size: 32, batch: 1, workers: 1, on_bad_image: fail}\n"        \
    "tokenizer: {name: pixels, patch: 8}\n"                                                                  \
    "model: {name: digpt, size: free, width: 16, depth: 1, heads: 2, patch: 8, segments: [2, 2],\n"          \
    "        decoder_width: 16, decoder_depth: 1, decoder_heads: 2}\n"                                       \
    "loss: {name: mse}\n"                                                                                    \
    "backend: {name: reference}\n"
#define TRAIN "train: {steps: 1, log_every: 1, checkpoint_every: 1, precision: f32}\n"

typedef struct row {
    const char *item;
    const char *arguments; /* of `digpt`, which runs in the folder of the test */
    int code;              /* its exit code */
    const char *says[4];   /* what it must print */
} row;

static char said[1 << 16];

static int digpt(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd %s && exec %s/bin/digpt %s >%s 2>&1 </dev/null", test_dir(),
             DIGPT_BINARY_DIR, arguments, test_path("said"));
    int status = system(command);
    FILE *f = fopen(test_path("said"), "r");
    size_t n = f ? fread(said, 1, sizeof said - 1, f) : 0;
    said[n] = 0;
    if (f) fclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void check(const row *rows, size_t n)
{
    dg_error err;
    for (size_t i = 0; i < n; i++) {
        ASSERT_OK(dg_dir_remove(test_path("run"), &err));
        int code = digpt(rows[i].arguments);
        if (code != rows[i].code)
            fail_msg("%s: exit code %d, not %d:\n%s", rows[i].item, code, rows[i].code, said);
        for (size_t k = 0; k < 4 && rows[i].says[k]; k++)
            if (!strstr(said, rows[i].says[k]))
                fail_msg("%s: '%s' is not in:\n%s", rows[i].item, rows[i].says[k], said);
    }
}
#define CHECK(ROWS) check(ROWS, sizeof(ROWS) / sizeof(ROWS)[0])

/* ---- files that the rows name */

static void put(const char *name, const void *bytes, size_t size)
{
    dg_error err;
    char path[600];
    snprintf(path, sizeof path, "%s", test_path(name));
    char *folder = dg_path_dir(path);
    ASSERT_OK(dg_dir_make(folder, &err));
    dg_free(folder);
    test_write(path, bytes, size);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

/* `size` bytes of an image of tests/data, all if it is 0. */
static void put_image(const char *name, const char *from, size_t size)
{
    char path[512];
    size_t n;
    snprintf(path, sizeof path, DIGPT_TEST_DATA "/images/%s", from);
    char *bytes = read_file(path, &n);
    put(name, bytes, size ? size : n);
    dg_free(bytes);
}

static void put_images(void)
{
    dg_error err;
    size_t n;
    put_image("sound/a/1.jpg", "rgb420.jpg", 0);
    put_image("cut/a/1.jpg", "rgb420.jpg", 400);
    put_image("png/a/1.jpg", "rgb16.png", 0);
    put_text("zero/a/1.jpg", "");
    put_text("gif/a/1.jpg", "GIF89a, says the file");
    put_image("kinds/a/cmyk.jpg", "cmyk.jpg", 0);
    put_image("kinds/a/ycck.jpg", "ycck.jpg", 0);
    put_image("kinds/a/grey.jpg", "grey.jpg", 0);
    put_image("kinds/a/deep.png", "rgb16.png", 0);
    put_image("kinds/a/grey16.png", "grey16.png", 0);
    put_image("kinds/a/png.jpg", "rgba.png", 0);
    ASSERT_OK(dg_dir_make(test_path("empty"), &err));
    char *bytes = read_file(DIGPT_TEST_DATA "/images/rgba.png", &n);
    memcpy(bytes + 16, "\0\0\xff\xff\0\0\xff\xff",
           8);                 /* 65535 x 65535 pixels, in a file of a few hundred bytes */
    uint32_t crc = 0xffffffff; /* of the chunk, as PNG has it */
    for (int i = 12; i < 29; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    for (int i = 0; i < 4; i++) bytes[29 + i] = (char)(~crc >> (24 - 8 * i));
    put("bomb/a/1.png", bytes, n);
    dg_free(bytes);
}

/* Checksums are right: a member of a size that leads outside, and one whose name leads out of the folder. */
static void put_tars(void)
{
    size_t n;
    char *tar = read_file(test_path("images-0.tar"), &n);
    put("cut.tar", tar, 1000);
    static const struct {
        const char *file;
        int at;
        const char *bytes;
    } changes[] = {{"huge.tar", 124, "77777777777"},
                   {"names.tar", 0, "../../../../../../../../outside/0.png"}};
    for (int i = 0; i < 2; i++) {
        char *copy = dg_calloc(n, 1);
        unsigned sum = 0;
        memcpy(copy, tar, n);
        memcpy(copy + changes[i].at, changes[i].bytes, strlen(changes[i].bytes));
        memset(copy + 148, ' ', 8);
        for (int k = 0; k < 512; k++) sum += (unsigned char)copy[k];
        snprintf(copy + 148, 8, "%06o", sum);
        put(changes[i].file, copy, n);
        dg_free(copy);
    }
    dg_free(tar);
}

/* A header that claims 8 bytes of one tensor, wherever `offsets` says. */
static void put_safetensors(const char *name, const char *offsets)
{
    char file[256] = {0};
    int n = snprintf(file + 8, sizeof file - 8,
                     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%s]}}", offsets);
    file[0] = (char)n;
    put(name, file, 8 + (size_t)n + 8);
}

/* The weights of the recipe's model, less the first tensor or with another. */
static void put_weights(void)
{
    dg_error err;
    dg_weights *w;
    ASSERT_OK(dg_weights_open(test_path("made/checkpoints/step-0000000001/model.safetensors"), &w, &err));
    size_t n = dg_weights_count(w);
    dg_st_tensor *t = dg_calloc(n + 1, sizeof *t);
    const void **data = dg_calloc(n + 1, sizeof *data);
    static const float more[3];
    for (size_t i = 0; i < n; i++) {
        const dg_weight *from = dg_weights_at(w, i);
        t[i] = (dg_st_tensor){.name = from->name, .dtype = from->dtype, .rank = from->rank};
        memcpy(t[i].dims, from->dims, sizeof t[i].dims);
        data[i] = from->data;
    }
    t[n] = (dg_st_tensor){.name = "stranger.weight", .dtype = DG_STORED_F32, .rank = 1, .dims = {3}};
    data[n] = more;
    ASSERT_OK(dg_st_write(test_path("extra.safetensors"), t, data, n + 1, NULL, 0, &err));
    ASSERT_OK(dg_st_write(test_path("missing.safetensors"), t + 1, data + 1, n - 1, NULL, 0, &err));
    put_text("first-name", t[0].name);
    dg_free(t);
    dg_free(data);
    dg_weights_close(w);
}

/* ---- the table */

static void recipes_say_line_and_column(void **state)
{
    (void)state;
    put_text("broken.yaml", "name: bad\ndata: {source: folder\nmodel: x\n");
    put_text("twice.yaml", RECIPE TRAIN "seed: 1\nseed: 2\n");
    put_text("unknown.yaml", RECIPE TRAIN "optimizer: {learning: 1}\n");
    put_text("type.yaml", RECIPE "train: {steps: many}\n");
    put_text("range.yaml", RECIPE "train: {steps: -4}\n");
    static const row rows[] = {
        {"broken YAML", "run broken.yaml --dir run", 1, {"broken.yaml:3:6: error: "}},
        {"a duplicate key", "run twice.yaml --dir run", 1, {"twice.yaml:10:1: error: ", "'seed'", ":9:1"}},
        {"an unknown key",
         "run unknown.yaml --dir run",
         1,
         {"unknown.yaml:9:13: error: ", "'learning'", "optimizer"}},
        {"a wrong type", "run type.yaml --dir run", 1, {"type.yaml:8:16: error: train.steps", "many"}},
        {"out of range", "run range.yaml --dir run", 1, {"range.yaml:8:16: error: train.steps", "-4"}},
        {"no such recipe", "run nothing.yaml --dir run", 1, {"there is no recipe file 'nothing.yaml'"}},
    };
    CHECK(rows);
}

static void images_are_named_with_the_reason(void **state)
{
    (void)state;
    static const row rows[] = {
        {"a missing folder",
         "run r.yaml --dir run data.path=none",
         1,
         {"data.path", "/none'", "No such file"}},
        {"an empty folder",
         "run r.yaml --dir run data.path=empty",
         1,
         {"data.path", "/empty'", "it is empty"}},
        {"a truncated JPEG",
         "run r.yaml --dir run data.path=cut",
         1,
         {"error: ", "/cut/a/1.jpg': JPEG: Premature end of JPEG file"}},
        {"zero bytes", "run r.yaml --dir run data.path=zero", 1, {"/zero/a/1.jpg': the file is empty"}},
        {"another format", "run r.yaml --dir run data.path=gif", 1, {"/gif/a/1.jpg': ", "a GIF"}},
        {"a decompression bomb", "run r.yaml --dir run data.path=bomb", 1, {"/bomb/a/1.png': ", "bomb"}},
        {"a JPEG that is a PNG", "run r.yaml --dir run data.path=png", 0, {"1 steps done"}},
        {"CMYK, YCCK, grey, 16 bits",
         "run r.yaml --dir run data.path=kinds data.batch=6",
         0,
         {"1 steps done"}},
        {"the same, counted", "data check kinds", 0, {"images      6\n", "broken      0\n"}},
        {"broken images, listed",
         "data check cut",
         1,
         {"broken      1\n", "cut/a/1.jpg: JPEG: Premature end of JPEG file"}},
    };
    CHECK(rows);
}

static void tars_are_read_within_their_bounds(void **state)
{
    (void)state;
    static const row rows[] = {
        {"a truncated tar",
         "run r.yaml --dir run data.source=tar data.path=cut.tar",
         1,
         {"/cut.tar'", "byte ", "truncated"}},
        {"a hostile size",
         "run r.yaml --dir run data.source=tar data.path=huge.tar",
         1,
         {"/huge.tar'", "byte 0: ", "truncated"}},
        {"a hostile name", "run r.yaml --dir run data.source=tar data.path=names.tar", 0, {"1 steps done"}},
    };
    CHECK(rows);
    assert_false(dg_path_is_dir("/outside"));
}

static void weights_are_refused_or_what_differs_is_listed(void **state)
{
    (void)state;
    char touch[400], executed[300], pickle[1024];
    size_t n;
    snprintf(executed, sizeof executed, "%s", test_path("executed"));
    snprintf(touch, sizeof touch, "touch %s", executed);
    int size =
        snprintf(pickle, sizeof pickle,
                 "%s"
                 "cposix\nsystem\n(S'%s'\ntR.",
                 "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02", touch);
    put("code.pth", pickle, (size_t)size);
    put_safetensors("outside.safetensors", "0,80000");
    put_safetensors("overlap.safetensors",
                    "0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8");
    put_safetensors("overflow.safetensors",
                    "0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
                    "\"data_offsets\":[8,8");
    put_text("short.safetensors", "\x10\xff\xff\xff");
    assert_int_equal(digpt("run r.yaml --dir made"), 0);
    put_weights();
    char *first = read_file(test_path("first-name"), &n);
    const row rows[] = {
        {"no such weights", "run r.yaml --dir run train.init_from=none.safetensors", 1, {"No such file"}},
        {"a truncated header",
         "run r.yaml --dir run train.init_from=short.safetensors",
         1,
         {"train.init_from"}},
        {"offsets past the end",
         "run r.yaml --dir run train.init_from=outside.safetensors",
         1,
         {"train.init_from", "outside.safetensors", "'a'"}},
        {"tensors that overlap",
         "run r.yaml --dir run train.init_from=overlap.safetensors",
         1,
         {"train.init_from", "overlap.safetensors", "overlap"}},
        {"a shape that overflows",
         "run r.yaml --dir run train.init_from=overflow.safetensors",
         1,
         {"overflow.safetensors", "'b'", "2^63"}},
        {"code in a pickle",
         "run r.yaml --dir run train.init_from=code.pth",
         1,
         {"code.pth", "posix.system", "refused, nothing was executed"}},
        {"a missing tensor",
         "run r.yaml --dir run train.init_from=missing.safetensors",
         0,
         {"missing in the file: 1", first}},
        {"an extra tensor",
         "run r.yaml --dir run train.init_from=extra.safetensors",
         0,
         {"left over in the file: 1", "stranger.weight [3]"}},
    };
    CHECK(rows);
    assert_false(dg_path_is_file(executed));
    dg_free(first);
}

static void runs_say_what_stopped_them(void **state)
{
    (void)state;
    put_text("file", "");
    static const row rows[] = {
        {"a NaN loss",
         "run r.yaml --dir run optimizer.lr=1e30 train.steps=9",
         1,
         {"the loss is ", " at step ", "First tensor that is not finite: ", "The last checkpoint is intact"}},
        {"an unwritable folder",
         "run r.yaml --dir file/run",
         1,
         {"cannot make the folder 'file/run'", "Not a directory", "--dir"}},
        {"a folder of the system",
         "run r.yaml --dir /proc/run",
         1,
         {"cannot make the folder '/proc/run'", "--dir"}},
    };
    CHECK(rows);
}

static void plugins_are_refused_by_name(void **state)
{
    (void)state;
    static const row rows[] = {
        {"another ABI major",
         "run r.yaml --dir run plugins=[" MODULES "wrong_major.so]",
         1,
         {"wrong_major.so'", "plugin ABI 7.3", "build it against these headers"}},
        {"no symbol",
         "run r.yaml --dir run plugins=[" MODULES "no_entry.so]",
         1,
         {"no_entry.so'", "has no symbol digpt_plugin_entry"}},
        {"duplicate ids",
         "run r.yaml --dir run plugins=[" MODULES "good.so," MODULES "twin.so]",
         1,
         {"the id test.good is in two files", "good.so'", "twin.so'", "remove one of them"}},
        {"a crash while loading",
         "run r.yaml --dir run plugins=[" MODULES "crash_entry.so]",
         1000 + SIGSEGV,
         {"the plugin '" MODULES "crash_entry.so' crashed while it was being loaded"}},
    };
    CHECK(rows);
}

static int open_group(void **state)
{
    (void)state;
    put_text("r.yaml", RECIPE TRAIN);
    campaign_write_images();
    put_images();
    put_tars();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipes_say_line_and_column),
        cmocka_unit_test(images_are_named_with_the_reason),
        cmocka_unit_test(tars_are_read_within_their_bounds),
        cmocka_unit_test(weights_are_refused_or_what_differs_is_listed),
        cmocka_unit_test(runs_say_what_stopped_them),
        cmocka_unit_test(plugins_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("faults bad input", tests, open_group, NULL);
}
