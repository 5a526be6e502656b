/* make_corpus.c - writes the first inputs of every fuzz target: FOLDER/NAME/... for fuzz_NAME.c. The files
 * that tests/data has already are copied. */
#include <stdlib.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/image.h"
#include "data/source.h"
#include "data/tar_write.h"
#include "io/safetensors.h"

static const char *root;

static void need(dg_status s, const dg_error *err)
{
    if (s == DG_OK) return;
    fprintf(stderr, "make_corpus: %s\n", err->message);
    exit(1);
}

/* root/target/name in a static buffer; makes the folder. */
static const char *place(const char *target, const char *name)
{
    static char path[4096];
    dg_error err = DG_ERROR_INIT;
    snprintf(path, sizeof path, "%s/%s", root, target);
    need(dg_dir_make(path, &err), &err);
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    return path;
}

static void put(const char *target, const char *name, const void *bytes, size_t size)
{
    dg_error err = DG_ERROR_INIT;
    need(dg_file_write_atomic(place(target, name), bytes, size, &err), &err);
}

static void put_text(const char *target, const char *name, const char *text)
{
    put(target, name, text, strlen(text));
}

static void copy(const char *target, const char *folder, const char *name)
{
    char path[4096];
    char *bytes;
    size_t size;
    dg_error err = DG_ERROR_INIT;
    snprintf(path, sizeof path, DIGPT_TEST_DATA "/%s%s", folder, name);
    need(dg_file_read(path, 1 << 26, &bytes, &size, &err), &err);
    put(target, name, bytes, size);
    dg_free(bytes);
}

/* ---- texts */

static void texts(void)
{
    put_text("json", "all.json",
             "{\"a\": [1, -2.5e3, true, false, null, \"\\u00e4\\ud83d\\ude00\\n\"], \"b\": {\"c\": {}, "
             "\"d\": []}, "
             "\"big\": 9223372036854775807}");
    put_text("json", "header.json",
             "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_"
             "offsets\":[0,24]}}");
    put_text("yaml", "all.yaml",
             "# comment\na: 1\nb: [1e-4, 0x1f, -7, .5, \"q\\n\\u00e4\", 'it''s', ~, null, true, no]\n"
             "c: {d: plain text, e: |\n  block\n  text\n}\nf: >-\n  folded\n  text\n? g\n: h\n");
    put_text("yaml", "refused.yaml", "a: &x 1\nb: *x\na: 2\nc: !!int 3\n---\nd: 4\n");
    put_text("recipe", "small.yaml",
             "# The smallest of all.\nname: small\nseed: 3\ndata:\n  source: synthetic\n  image_size: 32\n  "
             "batch: 4\n"
             "tokenizer:\n  name: pixels\n  width: 4\nmodel: {name: vit, taps: [1, 2, 3]}\nloss: {name: "
             "cosine}\n");
    put_text(
        "recipe", "more.yaml",
        "extends: base.yaml\noutput: ${name}/runs\ndata:\n  source: tar\n  path: [a-{000..009}.tar, b.tar]\n"
        "  crop_scale: [0.2, 1.0]\ntrain: {epochs: 10, precision: bf16, time_limit: 1.5}\n"
        "optimizer: {lr: 1e-3, betas: [0.9, 0.95], clip_norm: 1}\ntokenizer: {name: clip, weights: random, "
        "activation: quick, eps: 1e-6, bias: false, label: \"x: y\"}\nmodel: {name: vit}\nloss: {name: "
        "mse}\n");
    put_text("list", "names.txt", "a.jpg\tcat\tA cat.\nb/c.png\tdog\n\nd.JPEG\n");
    put_text("list", "numbers.txt", "\xef\xbb\xbf/abs/a.jpg\t0\r\nb.jpg\t17\tcaption\tmore\r\n");
}

static void runs(void)
{
    put_text(
        "run", "state.json",
        "{\"format\":1,\"step\":7,\"metrics_length\":120,\"timings_length\":0,\"backend\":\"b\",\"data\":"
        "\"0f\",\"precision\":\"f32\",\"plugins\":\"p\",\"weights\":\"0\",\"seconds\":1.5,\"window\":1,"
        "\"window_loss\":2.5,\"window_norm\":0,\"window_part_0\":1,\"window_part_1\":1,\"window_part_2\":0,"
        "\"window_part_3\":0,\"window_part_4\":0,\"window_part_5\":0,\"window_part_6\":0,"
        "\"window_part_7\":0,\"recipe\":\"name: x\\n\"}\n");
    put_text("run", "metrics.jsonl",
             "{\"step\":1,\"epoch\":0.1,\"loss\":2.5,\"lr\":1e-4}\n{\"step\":2,\"epoch\":0.2,\"loss\":null,"
             "\"lr\":1e-4}\n{\"step\":2,\"val_top1\":0.5}\n{\"ste");
    put_text("run", "run.json", "{\"digpt\":\"0.1.0\",\"seed\":3,\"machine\":\"m\",\"processors\":2}\n");
    put_text("run", "classes.json", "[\"cat\",\"dog\",\"n01440764\"]\n");
    put_text("run", "classes.txt", "cat\r\ndog\n\nfish\n");
}

/* The same bytes as a gzip file. */
static void put_packed(const char *target, const char *name, const char *text)
{
    gzFile f = gzopen(place(target, name), "wb");
    if (!f || gzputs(f, text) < 0 || gzclose(f) != Z_OK) exit(1);
}

static void vocabularies(void)
{
    static const char pairs[] = "#version: 0.2\nt h\nth e</w>\na n\nan d</w>\n\xc3\xa4 \xc3\xa4</w>\n";
    put_text("text", "words.txt", "the\nand\ncat\nn01\n\xc3\xa4rger\n");
    put_text("text", "pairs.txt", pairs);
    put_packed("text", "pairs.gz", pairs);
    put_text("text", "caption", "The cat's 2 d\xc3\xb6gs, and  I'll \xf0\x9f\x98\x80 don't they've!");
}

/* ---- pictures and tars */

/* dg_free it. */
static void *picture(bool jpeg, size_t *size)
{
    enum { W = 13, H = 9 };
    uint8_t pixels[W * H * 3];
    void *bytes;
    dg_error err = DG_ERROR_INIT;
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 7);
    need(jpeg ? dg_image_encode_jpeg(pixels, W, H, 80, &bytes, size, &err)
              : dg_image_encode_png(pixels, W, H, &bytes, size, &err),
         &err);
    return bytes;
}

static void images(void)
{
    static const char *const names[] = {"cmyk.jpg",   "exif_rotated.jpg", "grey.jpg",    "grey1.png",
                                        "grey16.png", "interlaced.png",   "palette.png", "progressive422.jpg",
                                        "rgb16.png",  "rgb420.jpg",       "rgba.png",    "ycck.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) copy("image", "images/", names[i]);
    size_t size;
    for (int jpeg = 0; jpeg < 2; jpeg++) {
        void *bytes = picture(jpeg, &size);
        put("image", jpeg ? "small.jpg" : "small.png", bytes, size);
        dg_free(bytes);
    }
}

typedef struct member {
    const char *name, *text; /* text NULL: a picture */
} member;

static void put_tar(const char *name, const member *members, size_t n)
{
    size_t size, shards;
    dg_tar_writer *w;
    dg_error err = DG_ERROR_INIT;
    void *bytes = picture(true, &size);
    char pattern[4200], path[4096];
    snprintf(path, sizeof path, "%s", place("tar", name));
    remove(path);
    /* The writer numbers its shards: the only one is renamed. */
    snprintf(pattern, sizeof pattern, "%s-%%d", path);
    need(dg_tar_create(pattern, 1000, 0, &w, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const char *text = members[i].text;
        need(dg_tar_add(w, members[i].name, text ? text : bytes, text ? strlen(text) : size, &err), &err);
    }
    need(dg_tar_finish(w, &shards, &err), &err);
    snprintf(pattern, sizeof pattern, "%s-0", path);
    if (rename(pattern, path) != 0) exit(1);
    dg_free(bytes);
}

/* The index file of a tar that is there; its own name has a hash of the path in it. */
static void put_index(const char *name)
{
    char path[4096];
    const char *paths[] = {path};
    dg_source *source;
    dg_error err = DG_ERROR_INIT;
    snprintf(path, sizeof path, "%s", place("tar", name));
    need(dg_source_open_tar(paths, 1, place("index", ""), &source, &err), &err);
    dg_source_close(source);
}

static void tars(void)
{
    static const member classes[] = {{"cat/1.jpg", NULL}, {"cat/2.jpg", NULL}, {"dog/1.jpg", NULL}};
    static const member groups[] = {{"0001.jpg", NULL},
                                    {"0001.cls", "3\n"},
                                    {"0001.txt", "A caption."},
                                    {"0002.cls", "0"},
                                    {"0002.jpg", NULL}};
    static char longest[300];
    memset(longest, 'n', sizeof longest - 1);
    memcpy(longest, "class/", 6);
    memcpy(longest + sizeof longest - 5, ".jpg", 4);
    const member names[] = {{longest, NULL}, {"b/c.jpg", NULL}};
    put_tar("classes.tar", classes, 3);
    put_tar("groups.tar", groups, 5);
    put_tar("names.tar", names, 2);
    put_index("classes.tar");
    put_index("groups.tar");
    put_index("names.tar");
}

/* ---- weights */

static void weights(void)
{
    static const char *const files[] = {"mixed.pth", "mixed_deflated.pth", "mixed_legacy.pth",
                                        "torchscript.pt"};
    static const float zeros[64];
    static const dg_st_tensor tensors[] = {
        {"model.patch_embed.proj.weight", DG_STORED_F32, 4, {2, 3, 2, 2}},
        {"model.blocks.0.attn.qkv.weight", DG_STORED_BF16, 2, {6, 2}},
        {"empty", DG_STORED_I64, 2, {0, 4}},
        {"scalar", DG_STORED_F8_E4M3, 0, {0}},
    };
    static const void *const data[] = {zeros, zeros, zeros, zeros};
    static const dg_st_meta meta[] = {{"format", "pt"}};
    static const dg_st_tensor face[] = {
        {"vit.embeddings.patch_embeddings.projection.weight", DG_STORED_F16, 4, {2, 3, 2, 2}},
        {"vit.encoder.layer.0.attention.attention.query.bias", DG_STORED_F16, 1, {2}},
        {"vit.encoder.layer.0.attention.attention.key.bias", DG_STORED_F16, 1, {2}},
        {"vit.encoder.layer.0.attention.attention.value.bias", DG_STORED_F16, 1, {2}},
    };
    dg_error err = DG_ERROR_INIT;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) copy("weights", "io/", files[i]);
    need(dg_st_write(place("weights", "small.safetensors"), tensors, data, 4, meta, 1, &err), &err);
    need(dg_st_write(place("weights", "names.safetensors"), face, data, 4, NULL, 0, &err), &err);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus FOLDER\n");
        return 2;
    }
    root = argv[1];
    texts();
    runs();
    vocabularies();
    images();
    tars();
    weights();
    return 0;
}
