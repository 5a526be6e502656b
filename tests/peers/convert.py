#!/usr/bin/env python3
"""Optional: what `digpt convert` writes, loaded by timm, transformers and OpenCLIP, gives the same features.

    pip install torch timm transformers open_clip_torch
    tests/peers/convert.py BUILD/bin/digpt

Random models, f32; every conversion must agree within 1e-5 of the largest feature.
"""
import pathlib
import subprocess
import sys
import tempfile

import open_clip
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

digpt, folder = sys.argv[1], pathlib.Path(tempfile.mkdtemp())
torch.manual_seed(0)
transformers.utils.logging.disable_progress_bar()
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


with torch.no_grad():
    for check in vision_transformers, masked_autoencoder, clip_towers:
        check(torch.randn(2, 3, 64, 64))
sys.exit(failed)
