/* activation.c - which GELU a CLIP was trained with. The tensors are the same for both; with the wrong one
 * the tokens are quietly worse, so it is found out from what goes with the file, or has to be said:
 *   1. config.json beside it (Hugging Face): "hidden_act" of "vision_config";
 *   2. open_clip_config.json beside it: "quick_gelu", false when it is absent;
 *   3. tensors that only OpenAI's own archives have: quick GELU;
 *   4. "quickgelu" or "openai" in the file's name: quick GELU. */
#include <ctype.h>
#include <stdio.h>
#include <sys/stat.h>

#include "clip.h"

#define CONFIG_MOST (1 << 20) /* bytes of a configuration file that are looked at */

/* The text of FOLDER/name, ended by 0, or NULL; released by the caller. */
static char *read_beside(const dg_host *host, const char *path, const char *name)
{
    char file[4096];
    struct stat st;
    const char *slash = strrchr(path, '/');
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        snprintf(file, sizeof file, "%s/%s", path, name);
    else
        snprintf(file, sizeof file, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
    FILE *f = fopen(file, "rb");
    if (!f) return NULL;
    char *text = host->allocate(CONFIG_MOST + 1);
    size_t n = text ? fread(text, 1, CONFIG_MOST, f) : 0;
    fclose(f);
    if (text) text[n] = 0;
    return text;
}

/* What follows the JSON key in text, at the first character of the value; NULL if the key is not there. */
static const char *value_of(const char *text, const char *quoted_key)
{
    const char *p = strstr(text, quoted_key);
    if (!p) return NULL;
    p += strlen(quoted_key);
    while (isspace((unsigned char)*p) || *p == ':') p++;
    return p;
}

static enum activation from_hugging_face(const char *text)
{
    if (!strstr(text, "\"clip")) return ACTIVATION_UNKNOWN; /* model_type "clip", "clip_vision_model" */
    const char *vision = value_of(text, "\"vision_config\"");
    const char *act = value_of(vision ? vision : text, "\"hidden_act\"");
    if (!act) return ACTIVATION_UNKNOWN;
    if (strncmp(act, "\"quick_gelu\"", 12) == 0) return ACTIVATION_QUICK_GELU;
    return strncmp(act, "\"gelu\"", 6) == 0 ? ACTIVATION_GELU : ACTIVATION_UNKNOWN;
}

static enum activation from_open_clip(const char *text)
{
    if (!strstr(text, "\"vision_cfg\"")) return ACTIVATION_UNKNOWN;
    const char *quick = value_of(text, "\"quick_gelu\"");
    return quick && strncmp(quick, "true", 4) == 0 ? ACTIVATION_QUICK_GELU : ACTIVATION_GELU;
}

static bool name_says_quick(const char *path)
{
    static const char *const words[] = {"quickgelu", "quick_gelu", "quick-gelu", "openai"};
    char name[256];
    const char *slash = strrchr(path, '/');
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : path);
    for (char *c = name; *c; c++) *c = (char)tolower((unsigned char)*c);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strstr(name, words[i])) return true;
    return false;
}

enum activation clip_activation_of(const dg_host *host, const dg_weights *w, const char *path, char *why,
                                   size_t size)
{
    static const struct {
        const char *file;
        enum activation (*read)(const char *text);
    } configs[] = {{"config.json", from_hugging_face}, {"open_clip_config.json", from_open_clip}};
    dg_tensor_info info;
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        char *text = read_beside(host, path, configs[i].file);
        enum activation found = text ? configs[i].read(text) : ACTIVATION_UNKNOWN;
        host->release(text);
        snprintf(why, size, "%s beside it", configs[i].file);
        if (found != ACTIVATION_UNKNOWN) return found;
    }
    snprintf(why, size, "being one of OpenAI's own archives");
    if (host->weights_find(w, "input_resolution", &info) && host->weights_find(w, "context_length", &info))
        return ACTIVATION_QUICK_GELU;
    snprintf(why, size, "its name");
    return name_says_quick(path) ? ACTIVATION_QUICK_GELU : ACTIVATION_UNKNOWN;
}
