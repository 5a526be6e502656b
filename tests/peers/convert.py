#!/usr/bin/env python3
"""Optional: what `digpt convert` writes, loaded by timm, transformers and OpenCLIP, gives the same features: as the
model that it was converted from, and as `digpt features` gives for models that digpt has trained.

    scripts/check-weights
or  pip install torch timm transformers open_clip_torch && tests/peers/convert.py BUILD/bin/digpt

Small models, f32; every conversion must agree within 1e-5 of the largest feature.
"""
import pathlib
import subprocess
import sys
import tempfile

import open_clip
import PIL.Image
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

digpt, folder = sys.argv[1], pathlib.Path(tempfile.mkdtemp())
torch.manual_seed(0)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
failed = False


def convert(source, to):
    """The file `source` in another naming, beside a config.json if there is one; the path."""
    out = folder / f"{source.parent.name}-{to}" / "model.safetensors"
    out.parent.mkdir(exist_ok=True)
    subprocess.run([digpt, "convert", source, out, "--to", to], check=True, stdout=subprocess.DEVNULL)
    return out


def save(model, name):
    """Random weights that use every tensor, as a file."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    out = folder / name / "model.safetensors"
    out.parent.mkdir()
    if isinstance(model, transformers.PreTrainedModel):
        model.save_pretrained(out.parent)
    else:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out)
    model.eval()
    return out


def load(model, file, may_lack=()):
    """The file in a model; in one of transformers through its own reader."""
    if isinstance(model, transformers.PreTrainedModel):
        model.config.save_pretrained(file.parent)
        model, info = type(model).from_pretrained(file.parent, output_loading_info=True)
        missing, unexpected = info["missing_keys"], info["unexpected_keys"]
    else:
        missing, unexpected = model.load_state_dict(load_file(file), strict=False)
    assert not set(missing) - set(may_lack) and not unexpected, (missing, unexpected)
    return model.eval()


def compare(what, a, b):
    global failed
    error = ((a - b).abs().max() / b.abs().max()).item()
    print(f"{what:40} {error:.1e}")
    failed |= not error <= 1e-5


def vision_transformers(image):
    def timm_model():
        return timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7, depth=3)

    mine = timm_model()
    file = save(mine, "vit")
    config = transformers.ViTConfig(hidden_size=192, num_hidden_layers=3, num_attention_heads=3, image_size=64,
                                    intermediate_size=768, num_labels=7, layer_norm_eps=1e-6)
    theirs = load(transformers.ViTForImageClassification(config), convert(file, "huggingface"))
    compare("timm -> huggingface, logits", theirs(image).logits, mine(image))
    theirs = transformers.ViTForImageClassification(config)
    file = save(theirs, "hf-vit")
    for naming in "timm", "official", "mae":
        again = load(timm_model(), convert(file, naming))
        compare(f"huggingface -> {naming}, logits", again(image), theirs(image).logits)


def masked_autoencoder(image):
    config = transformers.ViTMAEConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=64,
                                       intermediate_size=96, decoder_hidden_size=32, decoder_num_hidden_layers=2,
                                       decoder_num_attention_heads=2, decoder_intermediate_size=64)
    model = transformers.ViTMAEForPreTraining(config)
    file = save(model, "hf-mae")
    # transformers 5 writes these under a name that no published file has, and reads both
    old = {k.replace("decoder_encoder.layer", "decoder_layers"): v for k, v in load_file(file).items()}
    save_file(old, file, {"format": "pt"})
    mae = convert(file, "mae")
    assert {"decoder_blocks.1.attn.qkv.weight", "mask_token"} <= load_file(mae).keys()
    again = load(transformers.ViTMAEForPreTraining(config), convert(mae, "huggingface"))
    noise = torch.rand(2, 16)
    compare("huggingface -> mae -> huggingface", again(image, noise=noise).logits, model(image, noise=noise).logits)


def clip_towers(image):
    vision = dict(layers=3, width=96, head_width=32, patch_size=16, image_size=64)
    text = dict(context_length=8, vocab_size=32, width=32, heads=2, layers=4)
    mine = open_clip.CLIP(embed_dim=40, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    file = save(mine, "clip")
    config = transformers.CLIPVisionConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=3, image_size=64,
                                           intermediate_size=384, patch_size=16, projection_dim=40,
                                           hidden_act="quick_gelu", layer_norm_eps=1e-5)
    theirs = load(transformers.CLIPVisionModelWithProjection(config), convert(file, "huggingface"))
    compare("openclip -> huggingface, embeddings", theirs(image).image_embeds, mine.encode_image(image))
    theirs = transformers.CLIPVisionModelWithProjection(config)
    file = save(theirs, "hf-clip")
    mine.load_state_dict(load_file(convert(file, "openclip")), strict=False)
    compare("huggingface -> openclip, embeddings", mine.encode_image(image), theirs(image).image_embeds)
    third = load(timm.create_model("vit_base_patch16_clip_quickgelu_224", img_size=64, patch_size=16, embed_dim=96,
                                   depth=3, num_heads=3, num_classes=40), convert(file, "timm"), ["head.bias"])
    third.head.bias.zero_()
    compare("huggingface -> timm, embeddings", third(image), theirs(image).image_embeds)


def pictures():
    """Two classes of two images of 64 x 64 in a folder; as the encoders see them, in the order of their paths."""
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    seen = []
    for i in range(4):
        pixels = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
        file = folder / "pictures" / f"class-{i // 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels.numpy()).save(file)
        seen.append((pixels.permute(2, 0, 1) / 255 - mean) / deviation)
    return torch.stack(seen)


def train(name, model):
    """The weights of a short run of digpt, whose folder is folder/NAME."""
    recipe = folder / f"{name}.yaml"
    recipe.write_text(f"""
name: {name}
data: {{source: folder, path: pictures, image_size: 64, batch: 4, eval_crop: 1}}
tokenizer: {{name: pixels, patch: 16}}
model: {{{model}, size: free, width: 48, depth: 3, heads: 3, patch: 16, decoder_width: 32, decoder_heads: 2}}
loss: {{name: mse}}
optimizer: {{lr: 1e-2, warmup_steps: 0}}
train: {{steps: 3, precision: f32}}
""")
    subprocess.run([digpt, "run", recipe, "--dir", folder / name], check=True, stderr=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    return next((folder / name / "checkpoints").glob("*/model.safetensors"))


def features(name, *options):
    out = folder / f"{name}-features.safetensors"
    subprocess.run([digpt, "features", folder / name, folder / "pictures", "--out", out, *options], check=True,
                   stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return load_file(out)["features"]


def models_of_digpt(_):
    """Trained here: D-iGPT's encoder, which has no last norm, and MAE's, which has one."""
    image = pictures()

    def timm_model():
        return timm.models.VisionTransformer(img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3,
                                             num_classes=0, global_pool="")

    def face_model():
        return transformers.ViTModel(transformers.ViTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=3,
                                                            intermediate_size=192, image_size=64, layer_norm_eps=1e-6),
                                     add_pooling_layer=False)

    file = train("digpt", "name: digpt, segments: [2, 2], decoder_depth: 1, taps: [1, 3]")
    timms = load(timm_model(), convert(file, "timm"), ["norm.weight", "norm.bias"])
    faces = load(face_model(), convert(file, "huggingface"),
                 ["layernorm.weight", "layernorm.bias", "pooler.dense.weight", "pooler.dense.bias"])
    timms.norm = faces.layernorm = torch.nn.Identity()
    ours = features("digpt", "--pool", "class", "--no-norm")
    compare("digpt -> timm, class token", timms(image)[:, 0], ours)
    compare("digpt -> huggingface, class token", faces(image).last_hidden_state[:, 0], ours)
    ours = features("digpt", "--pool", "mean", "--no-norm")
    compare("digpt -> timm, mean of tokens", timms(image)[:, 1:].mean(1), ours)

    file = train("mae", "name: mae, decoder_depth: 1")
    timms = load(timm_model(), convert(file, "timm"))
    compare("mae of digpt -> timm, mean of tokens", timms(image)[:, 1:].mean(1), features("mae"))


with torch.no_grad():
    for check in vision_transformers, masked_autoencoder, clip_towers, models_of_digpt:
        check(torch.randn(2, 3, 64, 64))
sys.exit(failed)
