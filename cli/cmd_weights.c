/* cmd_weights.c - `digpt weights`: the public tokenizers that are known by name, and what a weights file is.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <sha256.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "io/names.h"

/* ---- what is known */

typedef struct tower_size {
    const char *name;
    int64_t width, layers, hidden, patch, out;
} tower_size;

/* Image towers as OpenAI and OpenCLIP trained them. */
enum { B32, B16, L14, H14, G14, BIG_G14 };
static const tower_size towers[] = {
    [B32] = {"ViT-B/32", 768, 12, 3072, 32, 512},   [B16] = {"ViT-B/16", 768, 12, 3072, 16, 512},
    [L14] = {"ViT-L/14", 1024, 24, 4096, 14, 768},  [H14] = {"ViT-H/14", 1280, 32, 5120, 14, 1024},
    [G14] = {"ViT-g/14", 1408, 40, 6144, 14, 1024}, [BIG_G14] = {"ViT-bigG/14", 1664, 48, 8192, 14, 1280},
};

typedef struct known_file {
    int tower;
    int64_t image; /* pixels a side */
    const char *trained_on, *source, *file, *licence, *activation, *normalisation;
    int64_t bytes;      /* 0: not known for certain */
    const char *sha256; /* NULL: the same */
} known_file;

static const char quick[] = "quick_gelu", gelu[] = "gelu", clip_norm[] = "clip", half[] = "half";

/* Sources are repositories by owner and name: openai/CLIP and facebookresearch/MetaCLIP on GitHub, the others
 * on the Hugging Face hub. Activations and normalisations are those of OpenCLIP's table of pretrained models;
 * hashes of OpenAI's files are part of its download links. */
static const known_file known_files[] = {
    {B32, 224, "OpenAI WIT", "openai/CLIP", "ViT-B-32.pt", "MIT", quick, clip_norm, 353976522,
     "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"},
    {B16, 224, "OpenAI WIT", "openai/CLIP", "ViT-B-16.pt", "MIT", quick, clip_norm, 350837078,
     "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"},
    {L14, 224, "OpenAI WIT", "openai/CLIP", "ViT-L-14.pt", "MIT", quick, clip_norm, 932768134,
     "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"},
    {L14, 336, "OpenAI WIT", "openai/CLIP", "ViT-L-14-336px.pt", "MIT", quick, clip_norm, 934088680,
     "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"},
    {B32, 224, "LAION-2B", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors", "MIT",
     gelu, clip_norm, 0, NULL},
    {B16, 224, "LAION-2B", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors", "MIT",
     gelu, clip_norm, 0, NULL},
    {L14, 224, "LAION-2B", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "open_clip_model.safetensors", "MIT",
     gelu, half, 0, NULL},
    {H14, 224, "LAION-2B", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "open_clip_model.safetensors", "MIT",
     gelu, clip_norm, 3944517836, "0084e75319a50ad85ef45377bad5bc38f2f58824459eb690048d51c9f8863be5"},
    {G14, 224, "LAION-2B", "laion/CLIP-ViT-g-14-laion2B-s34B-b88K", "open_clip_model.safetensors", "MIT",
     gelu, clip_norm, 0, NULL},
    {BIG_G14, 224, "LAION-2B", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "open_clip_model.safetensors",
     "MIT", gelu, clip_norm, 0, NULL},
    {B32, 224, "DataComp-1B", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", "open_clip_model.safetensors",
     "MIT", gelu, clip_norm, 0, NULL},
    {B16, 224, "DataComp-1B", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "open_clip_model.safetensors",
     "MIT", gelu, clip_norm, 0, NULL},
    {L14, 224, "DataComp-1B", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", "open_clip_model.safetensors",
     "MIT", gelu, clip_norm, 0, NULL},
    {H14, 224, "MetaCLIP 2.5B", "facebookresearch/MetaCLIP", "h14_fullcc2.5b.pt", "CC BY-NC 4.0", quick,
     clip_norm, 0, NULL},
};
enum { N_KNOWN = sizeof known_files / sizeof known_files[0] };

/* Parameters of an image tower: patches, class token, positions, norms, blocks, projection. */
static int64_t tower_parameters(const tower_size *t, int64_t image)
{
    int64_t w = t->width, h = t->hidden, tokens = (image / t->patch) * (image / t->patch) + 1;
    int64_t block = 4 * w + 3 * w * (w + 1) + w * (w + 1) + h * (w + 1) + w * (h + 1);
    return 3 * t->patch * t->patch * w + w + tokens * w + 4 * w + t->layers * block + w * t->out;
}

static int list(bool hashes)
{
    dg_str rows = {0};
    char size[32];
    dg_str_puts(&rows,
                hashes ? "FILE\tSOURCE\tSHA-256\n"
                       : "TOWER\tPIXELS\tPARAMETERS\tTRAINED ON\tACTIVATION\tNORMALISATION\tLICENCE\tSIZE\t"
                         "SOURCE, FILE\n");
    for (int i = 0; i < N_KNOWN; i++) {
        const known_file *k = &known_files[i];
        const tower_size *t = &towers[k->tower];
        if (hashes)
            dg_str_printf(&rows, "%s\t%s\t%s\n", k->file, k->source, k->sha256 ? k->sha256 : "-");
        else
            dg_str_printf(&rows, "%s\t%lld\t%.1f M\t%s\t%s\t%s\t%s\t%s\t%s, %s\n", t->name,
                          (long long)k->image, (double)tower_parameters(t, k->image) / 1e6, k->trained_on,
                          k->activation, k->normalisation, k->licence,
                          k->bytes ? cli_bytes((double)k->bytes, size, sizeof size) : "-", k->source,
                          k->file);
    }
    return cli_table(&rows);
}

/* ---- one file */

/* SHA-256 of a file as 64 hexadecimal digits. */
static dg_status hash_file(const char *path, char out[SHA256_DIGEST_STRING_LENGTH], dg_error *err)
{
    enum { PART = 1 << 20 };
    SHA256_CTX context;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return dg_fail(err, DG_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    unsigned char *part = dg_calloc(PART, 1);
    dg_status s = part ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    SHA256Init(&context);
    while (s == DG_OK) {
        ssize_t n = read(fd, part, PART);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) s = dg_fail(err, DG_ERR_IO, "cannot read '%s': %s", path, strerror(errno));
        if (n <= 0) break;
        SHA256Update(&context, part, (size_t)n);
    }
    close(fd);
    dg_free(part);
    SHA256End(&context, out);
    return s;
}

/* Sizes read from the tensors, in our names. */
typedef struct anatomy {
    const dg_wanted *known; /* [n] */
    size_t n;
    int64_t width, patch, layers, hidden, tokens, head; /* 0: not there */
} anatomy;

static const dg_wanted *find(const anatomy *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (!strcmp(a->known[i].name, name)) return &a->known[i];
    return NULL;
}

static bool begins(const anatomy *a, const char *prefix)
{
    size_t length = strlen(prefix);
    for (size_t i = 0; i < a->n; i++)
        if (!strncmp(a->known[i].name, prefix, length)) return true;
    return false;
}

static void measure(anatomy *a)
{
    const dg_wanted *patch = find(a, "patch_embed.proj.weight"), *fc1 = find(a, "blocks.0.mlp.fc1.weight"),
                    *pos = find(a, "pos_embed"), *head = find(a, "head.weight");
    if (patch && patch->rank == 4) a->width = patch->dims[0];
    if (patch && patch->rank == 4) a->patch = patch->dims[2];
    if (fc1 && fc1->rank == 2) a->hidden = fc1->dims[0];
    if (pos && pos->rank == 3) a->tokens = pos->dims[1];
    if (head && head->rank == 2) a->head = head->dims[0];
    for (size_t i = 0; i < a->n; i++) {
        long long number;
        if (sscanf(a->known[i].name, "blocks.%lld.", &number) == 1 && number >= a->layers && number < 1 << 20)
            a->layers = number + 1;
    }
}

enum kind { NOT_KNOWN, CLIP, DIGPT, MAE, CLASSIFIER, ENCODER };
static const char *const kind_text[] = {
    [NOT_KNOWN] = "no vision transformer that is known here",
    [CLIP] = "the image tower of a CLIP",
    [DIGPT] = "a D-iGPT pretraining checkpoint: encoder and decoders",
    [MAE] = "a masked autoencoder: encoder and decoder",
    [CLASSIFIER] = "a vision transformer with a head",
    [ENCODER] = "a vision transformer's encoder",
};

static enum kind kind_of(const anatomy *a)
{
    if (!a->n) return NOT_KNOWN;
    if (begins(a, "norm_pre.")) return CLIP;
    if (begins(a, "kd_") || begins(a, "ar_")) return DIGPT;
    if (begins(a, "mask_token") && begins(a, "decoder_embed.")) return MAE;
    return a->head ? CLASSIFIER : ENCODER;
}

static const known_file *find_known(const char *hash)
{
    for (int i = 0; i < N_KNOWN; i++)
        if (known_files[i].sha256 && !strcmp(hash, known_files[i].sha256)) return &known_files[i];
    return NULL;
}

/* One that should have had another hash: by its size, or by a name that only OpenAI's files have. */
static const known_file *find_pretender(const char *path, int64_t bytes)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    for (int i = 0; i < N_KNOWN; i++)
        if (known_files[i].sha256 && !strcmp(base, known_files[i].file) &&
            (known_files[i].bytes == bytes || !strncmp(base, "ViT-", 4)))
            return &known_files[i];
    return NULL;
}

static void describe_tensors(const dg_weights *w, dg_str *rows)
{
    int64_t count[DG_STORED_COUNT] = {0}, total = 0;
    char size[32];
    double bytes = 0;
    for (size_t i = 0; i < dg_weights_count(w); i++) {
        const dg_weight *t = dg_weights_at(w, i);
        count[t->dtype] += t->count;
        total += t->count;
        bytes += (double)t->bytes;
    }
    dg_str_printf(rows, "tensors\t%zu, %.1f M elements, %s:", dg_weights_count(w), (double)total / 1e6,
                  cli_bytes(bytes, size, sizeof size));
    for (int t = 0; t < DG_STORED_COUNT; t++)
        if (count[t])
            dg_str_printf(rows, " %s %.3g %%", dg_stored_name((dg_stored)t),
                          100 * (double)count[t] / (double)(total ? total : 1));
    dg_str_puts(rows, "\n");
}

static void describe_model(const anatomy *a, enum kind kind, dg_str *rows)
{
    dg_str_printf(rows, "is\t%s\n", kind_text[kind]);
    if (kind == NOT_KNOWN) return;
    dg_str_printf(rows, "sizes\twidth %lld, %lld blocks, MLP %lld, patch %lld", (long long)a->width,
                  (long long)a->layers, (long long)a->hidden, (long long)a->patch);
    for (size_t i = 0; i < sizeof towers / sizeof towers[0]; i++)
        if (kind == CLIP && a->width == towers[i].width && a->layers == towers[i].layers &&
            a->patch == towers[i].patch && a->hidden == towers[i].hidden)
            dg_str_printf(rows, " (%s)", towers[i].name);
    if (a->tokens) dg_str_printf(rows, ", %lld positions", (long long)a->tokens);
    if (a->head)
        dg_str_printf(rows, ", %s %lld", kind == CLIP ? "projection to" : "head of", (long long)a->head);
    dg_str_puts(rows, "\n");
}

static void advise(const char *path, enum kind kind, const known_file *k, dg_str *text)
{
    dg_str quoted = {0};
    dg_yaml_write_string(&quoted, path);
    const char *p = quoted.text ? quoted.text : path;
    if (kind == CLIP) {
        dg_str_printf(text, "\nin a recipe, as the teacher:\n  tokenizer:\n    name: clip\n    weights: %s\n",
                      p);
        if (k)
            dg_str_printf(text, "    activation: %s\n    normalise: %s\n", k->activation, k->normalisation);
        else
            dg_str_puts(text, "    activation: auto   # or gelu, quick_gelu\n"
                              "    normalise: clip    # or imagenet, half: as its makers say\n");
    } else if (kind != NOT_KNOWN)
        dg_str_printf(text,
                      "\nin a recipe, to start from it:\n  train:\n    init_from: %s\n"
                      "or as the teacher:\n  tokenizer:\n    name: vit\n    weights: %s\n",
                      p, p);
    dg_str_free(&quoted);
}

/* Hashes the file and compares; *verified is false if it should be a known file and is not. */
static dg_status verify(const char *path, const known_file **k, bool *verified, dg_str *rows, dg_error *err)
{
    struct stat st;
    char hash[SHA256_DIGEST_STRING_LENGTH], size[32];
    *k = NULL;
    *verified = true;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return DG_OK; /* a folder */
    DG_TRY(hash_file(path, hash, err));
    *k = find_known(hash);
    const known_file *p = *k ? NULL : find_pretender(path, st.st_size);
    *verified = !p;
    dg_str_printf(rows, "file\t%s, %lld bytes (%s)\nSHA-256\t%s\nverified\t", path, (long long)st.st_size,
                  cli_bytes((double)st.st_size, size, sizeof size), hash);
    if (*k)
        dg_str_printf(rows, "yes: %s of %s, %s\n", (*k)->file, (*k)->source, (*k)->licence);
    else if (p)
        dg_str_printf(rows,
                      "NO: %s of %s has %lld bytes and the SHA-256 %s; this is another file, or damaged\n",
                      p->file, p->source, (long long)p->bytes, p->sha256);
    else
        dg_str_puts(rows, "no: its hash is not among those of digpt weights --hashes\n");
    return DG_OK;
}

static dg_status inspect(const char *path, bool *verified, dg_str *rows, dg_str *text, dg_error *err)
{
    dg_weights *w = NULL;
    dg_arena arena = {0};
    dg_wanted *known = NULL;
    anatomy a = {0};
    const known_file *k = NULL;
    DG_TRY(dg_weights_open(path, &w, err));
    dg_status s = dg_names_known(w, &arena, &known, &a.n, err);
    a.known = known;
    if (s == DG_OK) s = verify(path, &k, verified, rows, err);
    if (s == DG_OK) {
        measure(&a);
        describe_tensors(w, rows);
        describe_model(&a, kind_of(&a), rows);
        advise(path, kind_of(&a), k, text);
        s = dg_str_check(rows, err);
    }
    dg_arena_free(&arena);
    dg_weights_close(w);
    return s;
}

static int run(const cli_args *args)
{
    if (!args->n_words) return list(cli_has(args, "hashes"));
    dg_error err = DG_ERROR_INIT;
    dg_str rows = {0}, text = {0};
    bool verified = true;
    int code;
    if (inspect(args->words[0], &verified, &rows, &text, &err) == DG_OK) {
        code = cli_table(&rows);
        if (code == CLI_OK && text.length) code = cli_print(&text);
        if (code == CLI_OK && !verified) code = CLI_FAILED;
    } else {
        dg_str_free(&rows);
        code = cli_fail(&err);
    }
    dg_str_free(&text);
    return code;
}

static const cli_option options[] = {{"hashes", NULL, "list the SHA-256 of the known files"},
                                     {NULL, NULL, NULL}};

const cli_command cmd_weights = {
    .name = "weights",
    .words = "[FILE]",
    .least = 0,
    .most = 1,
    .help = "list public tokenizers, or say what a weights file is and verify it",
    .more = "Nothing is downloaded: SOURCE names the repository that offers the file. A wrong activation or\n"
            "normalisation makes a teacher quietly worse, so both are listed.\n"
            "Exit code 1 if FILE has the name of a known file and not its hash.",
    .options = options,
    .run = run};
