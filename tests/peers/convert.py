#!/usr/bin/env python3
"""Optional: what `digpt convert` writes, loaded by timm, transformers and OpenCLIP, gives the same features.

    pip install torch timm transformers open_clip_torch
    tests/peers/convert.py BUILD/bin/digpt

Random models, f32; every conversion must agree within 1e-5 of the largest feature.
"""
import subprocess
import sys
import tempfile

import open_clip
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

digpt, folder = sys.argv[1], tempfile.mkdtemp()
torch.manual_seed(0)
failed = False


def path(name):
    return f"{folder}/{name}.safetensors"


def convert(source, to):
    """The file `source` in another naming, as a state dict."""
    out = path(f"{source}-{to}")
    subprocess.run([digpt, "convert", path(source), out, "--to", to], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)


def save(model, name):
    """Random weights that use every tensor, as a file."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path(name))
    return model.eval()


def load(model, state, may_lack=()):
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [k for k in missing if not k.startswith(may_lack)] if may_lack else missing
    assert not missing and not unexpected, (missing, unexpected)
    return model.eval()


def compare(what, a, b):
    global failed
    error = ((a - b).abs().max() / b.abs().max()).item()
    print(f"{what:40} {error:.1e}")
    failed |= not error <= 1e-5


def vision_transformers():
    image = torch.randn(2, 3, 64, 64)
    mine = save(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7, depth=3), "vit")
    config = transformers.ViTConfig(hidden_size=192, num_hidden_layers=3, num_attention_heads=3, image_size=64,
                                    intermediate_size=768, num_labels=7, layer_norm_eps=1e-6)
    theirs = load(transformers.ViTForImageClassification(config), convert("vit", "huggingface"))
    with torch.no_grad():
        compare("timm -> huggingface, logits", theirs(image).logits, mine(image))
    save(theirs, "hf-vit")
    back = load(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7, depth=3),
                convert("hf-vit", "timm"))
    with torch.no_grad():
        compare("huggingface -> timm, logits", back(image), theirs(image).logits)
    for naming in "official", "mae":
        again = load(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=7, depth=3),
                     convert("hf-vit", naming))
        with torch.no_grad():
            compare(f"huggingface -> {naming}, logits", again(image), theirs(image).logits)


def masked_autoencoder():
    config = transformers.ViTMAEConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=64,
                                       intermediate_size=96, decoder_hidden_size=32, decoder_num_hidden_layers=2,
                                       decoder_num_attention_heads=2, decoder_intermediate_size=64)
    model = save(transformers.ViTMAEForPreTraining(config), "hf-mae")
    mae = convert("hf-mae", "mae")
    assert "decoder_blocks.1.attn.qkv.weight" in mae and "mask_token" in mae
    save_file(mae, path("mae"))
    again = convert("mae", "huggingface")
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())
    print("huggingface -> mae -> huggingface: the same tensors")


def clip_towers():
    image = torch.randn(2, 3, 64, 64)
    vision = dict(layers=3, width=96, head_width=32, patch_size=16, image_size=64)
    text = dict(context_length=8, vocab_size=32, width=32, heads=2, layers=4)
    mine = save(open_clip.CLIP(embed_dim=40, vision_cfg=vision, text_cfg=text, quick_gelu=True), "clip")
    config = transformers.CLIPVisionConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=3, image_size=64,
                                           intermediate_size=384, patch_size=16, projection_dim=40,
                                           hidden_act="quick_gelu", layer_norm_eps=1e-5)
    theirs = load(transformers.CLIPVisionModelWithProjection(config), convert("clip", "huggingface"),
                  ("vision_model.embeddings.position_ids",))
    with torch.no_grad():
        compare("openclip -> huggingface, embeddings", theirs(image).image_embeds, mine.encode_image(image))
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, path("hf-clip"))
    back = convert("hf-clip", "openclip")
    assert all(torch.equal(mine.state_dict()[k], v) for k, v in back.items())
    third = load(timm.create_model("vit_base_patch16_clip_quickgelu_224", img_size=64, patch_size=16, embed_dim=96,
                                   depth=3, num_heads=3, num_classes=40), convert("hf-clip", "timm"), ("head.bias",))
    with torch.no_grad():
        third.head.bias.zero_()
        compare("huggingface -> timm, embeddings", third(image), mine.encode_image(image))


vision_transformers()
masked_autoencoder()
clip_towers()
sys.exit(failed)
