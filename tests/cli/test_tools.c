/* The tools for data and weights from outside: what they find, what they write, what they refuse. */
#include "program.h"

#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/source.h"
#include "io/weights.h"

static dg_error err = DG_ERROR_INIT;

static void shell(const char *commands)
{
    char line[2048];
    snprintf(line, sizeof line, "cd %s && %s", test_dir(), commands);
    if (system(line) != 0) fail_msg("%s", line);
}

/* ---- pictures */

/* A picture of width x height whose colours depend on `seed`. */
static void picture(const char *path, int width, int height, int seed, bool jpeg)
{
    uint8_t *pixels = dg_calloc((size_t)(width * height), 3);
    void *bytes;
    size_t size;
    for (int i = 0; i < width * height * 3; i++) pixels[i] = (uint8_t)(i / 7 * (seed + 1) + seed * 37);
    if (jpeg)
        ASSERT_OK(dg_image_encode_jpeg(pixels, width, height, 90, &bytes, &size, &err));
    else
        ASSERT_OK(dg_image_encode_png(pixels, width, height, &bytes, &size, &err));
    test_write(test_path(path), bytes, size);
    dg_free(bytes);
    dg_free(pixels);
}

/* set/{cat,dog}: five pictures, two of which have the same bytes. */
static void make_set(void)
{
    shell("rm -rf set && mkdir -p set/cat/deep set/dog");
    picture("set/cat/a.jpg", 40, 30, 1, true);
    picture("set/cat/b.png", 16, 16, 2, false);
    picture("set/cat/deep/c.JPEG", 64, 128, 3, true);
    picture("set/dog/a.jpg", 100, 50, 4, true);
    picture("set/dog/same.jpg", 40, 30, 1, true);
}

/* ---- data check */

static void a_sound_set_is_counted_and_duplicates_are_named(void **state)
{
    (void)state;
    make_set();
    expect("data check set", 0, "broken      0\n", "");
    assert_non_null(strstr(out, "images      5\n"));
    assert_non_null(strstr(out, "classes     2; 2 ('dog') to 3 ('cat') images each\n"));
    assert_non_null(strstr(out, "duplicates  1 in 1 groups, 1 of them with different labels\n"));
    assert_non_null(strstr(out, "the same bytes:\n  set/cat/a.jpg = set/dog/same.jpg\n"));
    assert_non_null(strstr(out, "pixels      16 x 16 to 64 x 128"));
    assert_non_null(strstr(out, "     16 to    31          3  "));
    assert_non_null(strstr(out, "     32 to    63          1  "));
    assert_non_null(strstr(out, "     64 to   127          1  "));
}

static void broken_images_are_named_with_the_reason_and_exit_code_1(void **state)
{
    (void)state;
    make_set();
    shell("head -c 500 set/cat/a.jpg >set/cat/cut.jpg && : >set/dog/empty.png && echo '<html>' "
          ">set/dog/page.jpg");
    expect("data check set --threads 3", 1, "broken      3\n", "");
    assert_non_null(strstr(out, "  set/cat/cut.jpg: JPEG: "));
    assert_non_null(strstr(out, "set/dog/empty.png: the file is empty (0 bytes)\n"));
    assert_non_null(strstr(out, "set/dog/page.jpg: neither a JPEG nor a PNG but an HTML page file\n"));
    expect("data check set --limit 1", 1, "  ... and 2 more\n", "");
}

static void lists_and_tars_are_checked_too(void **state)
{
    (void)state;
    make_set();
    shell("printf 'set/cat/a.jpg\\t0\\nset/gone.jpg\\t1\\n' >list.txt");
    expect("data check list.txt", 1, "set/gone.jpg", "");
    assert_non_null(strstr(out, "No such file or directory"));
    shell("tar cf set.tar -C set cat dog");
    expect("data check set.tar", 0, "source      tar, 1 shards, 5 images, 3 classes\n", "");
    shell("head -c 3000 set.tar >cut.tar");
    expect("data check cut.tar", 1, "", "it was truncated");
    expect("data check nothing", 1, "", "nothing");
    expect("data check set --threads 0", 2, "", "a whole number from 1 to 256");
}

/* ---- data pack */

/* Everything that a tar source of the shards says of sample i. */
static void read_sample(const char *pattern, int64_t i, char *name, size_t size, int *width, int *height)
{
    dg_source *source;
    dg_sample sample = {0};
    ASSERT_OK(dg_source_open_tar(&pattern, 1, NULL, &source, &err));
    ASSERT_OK(dg_source_read_image(source, i, 0, &sample, &err));
    snprintf(name, size, "%s", sample.name);
    *width = sample.image.width;
    *height = sample.image.height;
    dg_sample_free(&sample);
    dg_source_close(source);
}

static void packing_keeps_bytes_and_order_and_is_deterministic(void **state)
{
    (void)state;
    make_set();
    shell("rm -rf a b x && mkdir x");
    expect("data pack set a/s-%03d.tar --images 2 --threads 1", 0, "5 images in 3 shards\n", "");
    expect("data pack set/ b/s-%03d.tar --images 2 --threads 4", 0, "5 images in 3 shards\n", "");
    for (int i = 0; i < 3; i++) {
        char line[128];
        snprintf(line, sizeof line, "cmp a/s-%03d.tar b/s-%03d.tar && tar xf a/s-%03d.tar -C x", i, i, i);
        shell(line);
    }
    shell("test $(tar tf a/s-000.tar | tr '\\n' ,) = cat/a.jpg,cat/b.png,");
    shell("cmp x/cat/deep_c.JPEG set/cat/deep/c.JPEG && cmp x/dog/same.jpg set/dog/same.jpg");
    expect("data check a", 0, "source      tar, 3 shards, 5 images, 2 classes\n", "");
    expect("data pack set by-bytes-%d.tar --bytes 1", 0, "5 images in 5 shards\n", "");
}

static void resizing_makes_the_shorter_side_as_asked_and_leaves_small_images(void **state)
{
    (void)state;
    make_set();
    shell("rm -rf r");
    expect("data pack set r/%d.tar --size 25", 0, "5 images in 1 shard\n", "");
    char name[64];
    int width, height;
    read_sample(test_path("r/0.tar"), 0, name, sizeof name, &width, &height);
    assert_string_equal(name, "cat/a.jpg");
    assert_int_equal(width, 33); /* 40 * 25 / 30, rounded down */
    assert_int_equal(height, 25);
    read_sample(test_path("r/0.tar"), 1, name, sizeof name, &width, &height);
    assert_string_equal(name, "cat/b.png");
    assert_int_equal(width, 16);
    read_sample(test_path("r/0.tar"), 2, name, sizeof name, &width, &height);
    assert_string_equal(name, "cat/deep_c.jpg");
    assert_int_equal(width, 25);
    assert_int_equal(height, 50);
}

static void what_is_no_image_is_left_out_and_named(void **state)
{
    (void)state;
    make_set();
    shell("rm -rf o && echo no >set/dog/bad.png");
    expect("data pack set o/%d.tar", 0, "5 images in 1 shard; 1 left out, named above\n",
           "left out: 'set/dog/bad.png': neither a JPEG nor a PNG");
    shell("rm -rf only && mkdir -p only/cat && echo no >only/cat/bad.png");
    expect("data pack only o/only-%d.tar", 1, "", "not one of the 1 images can be used");
}

static void a_failed_pack_leaves_nothing_and_replaces_nothing(void **state)
{
    (void)state;
    make_set();
    shell("rm -rf f && mkdir f && echo mine >f/1.tar");
    expect("data pack set f/%d.tar --images 2", 1, "", "'f/1.tar' is there already");
    shell("test \"$(ls f)\" = 1.tar && grep -q mine f/1.tar");
    /* Files of at most 2 blocks of 512 bytes: a full disk, as a program sees it. */
    shell("rm -rf f");
    expect_after("trap '' XFSZ; ulimit -f 2;", "data pack set f/%d.tar", 1, "",
                 "cannot write 'f/0.tar.tmp': ");
    shell("test -z \"$(ls f)\"");
    expect("data pack set f/one.tar", 1, "", "'f/one.tar': the name of the shards needs one %d or %05d");
    expect("data pack set f/%d-%d.tar", 1, "", "needs one %d");
    expect("data pack set f/%s.tar", 1, "", "needs one %d");
    expect("data pack nothing f/%d.tar", 1, "", "cannot open the image folder 'nothing'");
}

static void names_longer_than_a_header_survive(void **state)
{
    (void)state;
    char folder[160], file[220], line[1024], name[1024];
    int width, height;
    memset(folder, 'd', 150);
    folder[150] = 0;
    memset(file, 'f', 200);
    strcpy(file + 200, ".png");
    shell("rm -rf long l");
    picture("p.png", 8, 8, 5, false);
    snprintf(line, sizeof line, "mkdir -p long/%s long/e && cp p.png long/%s/%s && cp p.png long/%s/z.png",
             folder, folder, file, folder);
    shell(line);
    snprintf(line, sizeof line, "cp p.png long/e/%s", file + 103);
    shell(line);
    expect("data pack long l/%d.tar", 0, "3 images in 1 shard\n", "");
    read_sample(test_path("l/0.tar"), 0, name, sizeof name, &width, &height);
    snprintf(line, sizeof line, "%s/%s", folder, file);
    assert_string_equal(name, line);
    read_sample(test_path("l/0.tar"), 1, name, sizeof name, &width, &height);
    snprintf(line, sizeof line, "%s/z.png", folder);
    assert_string_equal(name, line);
    snprintf(line, sizeof line, "mkdir -p lx && tar xf l/0.tar -C lx && test -s lx/%s/%s && test -s lx/e/%s",
             folder, file, file + 103);
    shell(line);
}

/* ---- data import */

enum { RECORD = 3073, SHARD_BLOCK = 512 };

static void put_member(gzFile f, const char *name, const unsigned char *bytes, size_t size)
{
    unsigned char h[SHARD_BLOCK] = {0}, zeros[SHARD_BLOCK] = {0};
    unsigned sum = 8 * ' ';
    snprintf((char *)h, 100, "cifar-10-batches-bin/%s", name);
    snprintf((char *)h + 124, 12, "%011zo", size);
    h[156] = '0';
    memcpy(h + 257, "ustar\00000", 8);
    for (int i = 0; i < SHARD_BLOCK; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
    assert_int_equal(gzwrite(f, h, sizeof h), sizeof h);
    if (size) assert_int_equal(gzwrite(f, bytes, (unsigned)size), (int)size);
    size_t rest = (SHARD_BLOCK - size % SHARD_BLOCK) % SHARD_BLOCK;
    if (rest) assert_int_equal(gzwrite(f, zeros, (unsigned)rest), (int)rest);
}

/* An archive like the official one with 3 training images and 1 test image. */
static void make_archive(const char *name, int label, size_t cut, const char *train)
{
    static unsigned char records[3 * RECORD], zeros[2 * SHARD_BLOCK];
    for (size_t i = 0; i < sizeof records; i++) records[i] = (unsigned char)(i * i / 31);
    for (int i = 0; i < 3; i++) records[i * RECORD] = (unsigned char)(i == 2 ? label : i);
    gzFile f = gzopen(test_path(name), "wb");
    assert_non_null(f);
    put_member(f, "batches.meta.txt", (const unsigned char *)"airplane\n", 9);
    put_member(f, train, records, 2 * RECORD);
    put_member(f, "data_batch_2.bin", records + 2 * RECORD, RECORD - cut);
    put_member(f, "test_batch.bin", records + RECORD, RECORD);
    assert_int_equal(gzwrite(f, zeros, sizeof zeros), sizeof zeros);
    assert_int_equal(gzclose(f), Z_OK);
}

static void cifar10_becomes_shards_of_the_same_pixels(void **state)
{
    (void)state;
    make_archive("cifar.tar.gz", 9, 0, "data_batch_1.bin");
    shell("rm -rf c");
    expect("data import cifar10 cifar.tar.gz c", 0,
           "3 training images in 1 shards and 1 test images in 1, in c\n",
           "has 3 training images; the official archive has 50000");
    const char *pattern = test_path("c/train-*.tar");
    dg_source *source;
    dg_sample sample = {0};
    char name[32];
    ASSERT_OK(dg_source_open_tar(&pattern, 1, NULL, &source, &err));
    assert_int_equal(dg_source_count(source), 3);
    assert_int_equal(dg_source_classes(source), 3);
    ASSERT_OK(dg_source_read_image(source, 2, 0, &sample, &err));
    assert_string_equal(dg_source_class_name(source, sample.label, name, sizeof name), "truck");
    assert_string_equal(sample.name, "truck/00002.png");
    assert_int_equal(sample.image.width, 32);
    for (size_t i = 0; i < 1024; i++)
        for (size_t c = 0; c < 3; c++) {
            size_t at = 2 * RECORD + 1 + c * 1024 + i;
            assert_int_equal(sample.image.pixels[3 * i + c], (unsigned char)(at * at / 31));
        }
    dg_sample_free(&sample);
    dg_source_close(source);
    expect("data import cifar10 cifar.tar.gz j --format jpeg --images 2", 0, "3 training images in 2 shards",
           "");
}

static void wrong_archives_are_explained_and_leave_nothing(void **state)
{
    (void)state;
    shell("rm -rf w");
    make_archive("label.tar.gz", 10, 0, "data_batch_1.bin");
    expect("data import cifar10 label.tar.gz w", 1, "", "record 0 has the label 10; there are 0 to 9");
    make_archive("size.tar.gz", 9, 1, "data_batch_1.bin");
    expect("data import cifar10 size.tar.gz w", 1, "",
           "has 3072 bytes, which is no number of records of 3073");
    make_archive("good.tar.gz", 9, 0, "data_batch_1.bin");
    shell("head -c 2000 good.tar.gz >cut.tar.gz && head -c -4 good.tar.gz >tail.tar.gz");
    expect("data import cifar10 cut.tar.gz w", 1, "", "fetch it again");
    expect("data import cifar10 tail.tar.gz w", 1, "", "fetch it again");
    shell("echo hello | gzip >hello.gz && head -c 5000 /dev/zero | tr '\\0' x | gzip >x.gz");
    expect("data import cifar10 hello.gz w", 1, "", "it ends at byte ");
    expect("data import cifar10 x.gz w", 1, "", "is not the CIFAR-10 binary archive");
    shell("mkdir -p py && echo 1 >py/data_batch_1 && tar czf py.tar.gz py");
    expect("data import cifar10 py.tar.gz w", 1, "", "has no training images: is it cifar-10-binary.tar.gz?");
    expect("data import cifar10 nothing w", 1, "", "cannot open 'nothing'");
    shell("test -z \"$(ls w)\"");
    expect("data import cifar100 x w", 2, "", "the set 'cifar100' is not known; there is cifar10");
    expect("data import cifar10 x w --format gif", 2, "", "png or jpeg is needed");
}

/* ---- weights */

static void weights_lists_tokenizers_and_their_hashes(void **state)
{
    (void)state;
    expect("weights", 0, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "");
    assert_non_null(strstr(out, "ViT-B/32     224     87.8 M      OpenAI WIT     quick_gelu"));
    expect("weights --hashes", 0, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", "");
}

static void a_weights_file_is_recognised_hashed_and_put_into_a_recipe(void **state)
{
    (void)state;
    expect("weights " DIGPT_TEST_DATA "/C_h14_hf.safetensors", 0, "is        the image tower of a CLIP\n",
           "");
    assert_non_null(
        strstr(out, "sizes     width 48, 2 blocks, MLP 192, patch 14, 17 positions, projection to 24\n"));
    assert_non_null(strstr(out, "    name: clip\n    weights: "));
    assert_non_null(strstr(out, "    normalise: clip"));
    expect("weights " DIGPT_TEST_DATA "/H_legacy.pth", 0, "is        a D-iGPT pretraining checkpoint", "");
    assert_non_null(strstr(out, "    init_from: "));
    test_write(test_path("abc"), "abc", 3);
    expect("weights abc", 1, "", "abc");
    shell("cp " DIGPT_TEST_DATA "/H_legacy.pth ViT-B-32.pt && printf 'SHA-256   ' >sum &&"
          " sha256sum <ViT-B-32.pt | cut -c1-64 >>sum");
    expect("weights ViT-B-32.pt", 1, "verified  NO: ViT-B-32.pt of openai/CLIP has 353976522 bytes", "");
    char sum[128];
    read_back(test_path("sum"), sum, sizeof sum);
    assert_non_null(strstr(out, sum));
    expect("weights nothing", 1, "", "nothing");
}

static void convert_writes_another_naming_and_says_what_it_did(void **state)
{
    (void)state;
    dg_weights *w;
    expect("convert " DIGPT_TEST_DATA "/C_h14_hf.safetensors o.safetensors --to openclip", 0,
           "rule pre_layrnorm.* -> norm_pre.*: 2 tensors\n", "");
    assert_non_null(strstr(out, "left over in the file: 1\n  vision_model.embeddings.position_ids"));
    assert_non_null(strstr(out, "written by proj -> head.weight (transposed), backwards: 1 tensors\n"));
    ASSERT_OK(dg_weights_open(test_path("o.safetensors"), &w, &err));
    assert_non_null(dg_weights_find(w, "visual.transformer.resblocks.0.attn.in_proj_weight"));
    dg_weights_close(w);
    expect("convert a b --to tim", 2, "", "there is no naming 'tim'; did you mean 'timm'?");
    expect("convert nothing b", 1, "", "nothing");
    expect("convert " DIGPT_TEST_DATA "/C_h14_hf.safetensors no/such/folder --to timm", 1, "",
           "no/such/folder");
    expect("convert " DIGPT_TEST_DATA "/C_h14_hf.safetensors m.safetensors --to mae", 1, "",
           "which MAE's models lack");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_set_is_counted_and_duplicates_are_named),
        cmocka_unit_test(broken_images_are_named_with_the_reason_and_exit_code_1),
        cmocka_unit_test(lists_and_tars_are_checked_too),
        cmocka_unit_test(packing_keeps_bytes_and_order_and_is_deterministic),
        cmocka_unit_test(resizing_makes_the_shorter_side_as_asked_and_leaves_small_images),
        cmocka_unit_test(what_is_no_image_is_left_out_and_named),
        cmocka_unit_test(a_failed_pack_leaves_nothing_and_replaces_nothing),
        cmocka_unit_test(names_longer_than_a_header_survive),
        cmocka_unit_test(cifar10_becomes_shards_of_the_same_pixels),
        cmocka_unit_test(wrong_archives_are_explained_and_leave_nothing),
        cmocka_unit_test(weights_lists_tokenizers_and_their_hashes),
        cmocka_unit_test(a_weights_file_is_recognised_hashed_and_put_into_a_recipe),
        cmocka_unit_test(convert_writes_another_naming_and_says_what_it_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
