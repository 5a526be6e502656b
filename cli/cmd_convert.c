/* cmd_convert.c - `digpt convert`: weights from one naming into another. */
#include "cli.h"

#include "io/convert.h"

static int choose(const char *word, int32_t *to)
{
    for (*to = 0; *to < DG_CONVERT_WORDS; (*to)++)
        if (!strcmp(word, dg_convert_words[*to])) return CLI_OK;
    const char *nearest = dg_nearest(word, dg_convert_words, DG_CONVERT_WORDS);
    return cli_usage(
        "convert: there is no naming '%s'%s%s%s There are official, timm, huggingface, mae, openclip", word,
        nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ".");
}

static int run(const cli_args *args)
{
    const char *in = args->words[0], *out = args->words[1], *word = cli_value(args, "to");
    int32_t to;
    int code = choose(word ? word : dg_convert_words[0], &to);
    if (code != CLI_OK) return code;
    dg_error err = DG_ERROR_INIT;
    dg_weights *w = NULL;
    dg_str report = {0};
    dg_status s = dg_weights_open(in, &w, &err);
    if (s == DG_OK) {
        s = dg_convert(w, to, out, &report, &err);
        if (s != DG_OK) dg_fail_in(&err, "'%s'", in);
    }
    dg_weights_close(w);
    if (s == DG_OK) return cli_print(&report);
    dg_str_free(&report);
    return cli_fail(&err);
}

static const cli_option options[] = {
    {"to", "NAMING", "official (the default), timm, huggingface, mae or openclip"}, {NULL, NULL, NULL}};

const cli_command cmd_convert = {
    .name = "convert",
    .words = "IN OUT.safetensors",
    .least = 2,
    .most = 2,
    .help = "write weights of a vision transformer under other names",
    .more =
        "IN is a .safetensors, .pth, .pt or .bin file, or a folder with one; its naming is found out: "
        "official\n"
        "D-iGPT, timm, MAE, Hugging Face ViT or CLIP, OpenAI's CLIP or OpenCLIP. Values keep their bits. "
        "The\n"
        "rules that were used, what is missing and what is left over are printed. Text towers stay behind.",
    .options = options,
    .run = run};
