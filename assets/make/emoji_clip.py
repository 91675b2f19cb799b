"""Make ``emoji-clip``: a CLIP model and its tokenizer, from scratch.

    python -m assets.make.emoji_clip --minutes 15

Its text tower is the text encoder of ``emoji-sd``; whole, it measures how well a picture fits a caption. Where no
checkpoint is left, ``--resume-shipped`` starts from the folder's weights and keeps its tokenizer.
"""

import argparse
import json
import signal
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from assets.make import glyphs
from assets.make.autoencoder import signed
from assets.make.captions import WORDS, Captions, tokens
from assets.make.folders import furnish
from assets.make.training import Run, describe, fast, in_batches, write_json

FOLDER = Path("assets/models/emoji-clip")
PX = 64  # the width of the pictures it sees
TOWER = {"num_hidden_layers": 4, "hidden_act": "quick_gelu"}


def train_tokenizer(vocabulary: list[glyphs.Glyph], size: int = 2000) -> CLIPTokenizer:
    """CLIP's byte-level BPE, with merges learned from the names, tags and colours."""
    special = ["<|startoftext|>", "<|endoftext|>"]
    blank = CLIPTokenizer(vocab={word: i for i, word in enumerate(special)}, merges=[])
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = blank.backend_tokenizer.normalizer
    bpe.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())  # the 256 printable stand-ins for bytes
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet,
                                  end_of_word_suffix="</w>", show_progress=False)
    texts = [f"{glyph.name} {' '.join(glyph.tags)}" for glyph in vocabulary]
    texts += [glyphs.caption("a an", colour) for colour in glyphs.COLOURS] * 20
    bpe.train_from_iterator(texts, trainer)
    model = json.loads(bpe.to_str())["model"]
    vocab = dict(model["vocab"])
    for character in alphabet:  # every byte may also end a word
        vocab.setdefault(f"{character}</w>", len(vocab))
    merges = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=WORDS)


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """The untrained model."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id}
    text = TOWER | ends | {"vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 768,
                           "num_attention_heads": 6, "max_position_embeddings": WORDS, "projection_dim": 128}
    vision = TOWER | {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "image_size": PX,
                      "patch_size": 8, "projection_dim": 128}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def roughened(pixels: torch.Tensor, generator: torch.Generator, noise: torch.Generator) -> torch.Tensor:
    """Pictures moved by up to 4 px, some blurred, some noisy: drawn pictures are never as clean as glyphs."""
    n = len(pixels)
    padded = F.pad(pixels, (4, 4, 4, 4), mode="replicate")
    top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
    moved = padded[:, :, top : top + PX, left : left + PX]
    blurred = F.interpolate(F.avg_pool2d(moved, 2), scale_factor=2.0, mode="bilinear")
    some, share, loud = torch.rand(3, n, 1, 1, 1, generator=noise, device=noise.device)
    grain = torch.randn(moved.shape, generator=noise, device=noise.device)
    return torch.lerp(moved, blurred, share * (some < 0.4)) + 0.1 * loud * grain


def image_features(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Unit vectors of pictures, (n, projection)."""
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def text_features(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """Unit vectors of captions, (n, projection)."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def train(work: Path, vocabulary: list[glyphs.Glyph], *, minutes: float, batch: int, seed: int, device: str,
          shipped: Path | None = None) -> tuple[CLIPModel, CLIPTokenizer, Run]:
    """Contrastive training; every batch holds each of its glyphs over two colours, so that both words must count.

    ``shipped`` is a folder to go on from, at a lower learning rate.
    """
    torch.manual_seed(seed)
    if shipped:
        tokenizer = CLIPTokenizer.from_pretrained(shipped)
        model = CLIPModel.from_pretrained(shipped, dtype=torch.float32).to(device)
    else:
        tokenizer = train_tokenizer(vocabulary)
        model = build(tokenizer).to(device)
    run = Run(work / "clip.pt", {"clip": model}, minutes=minutes, rate=4e-4 if shipped else 1e-3, seed=seed, decay=0.05,
              device=device)
    if run.seconds >= run.budget:
        return model, tokenizer, run
    data = torch.from_numpy(glyphs.pictures(vocabulary, PX, 3, seed)).to(device)  # (glyphs, ways, colours, px, px, 3)
    captions = Captions(vocabulary, tokenizer, seed=seed, device=device)
    half = min(batch // 2, len(vocabulary))
    for _ in run.steps():
        which = torch.randperm(len(vocabulary), generator=run.generator)[:half].repeat(2)
        first = torch.randint(12, (half,), generator=run.generator)
        other = (first + torch.randint(1, 12, (half,), generator=run.generator)) % 12
        colours = torch.cat([first, other])
        way = torch.randint(3, (2 * half,), generator=run.generator)
        which, colours, way = (chosen.to(device) for chosen in (which, colours, way))
        pixels = roughened(signed(data[which, way, colours]), run.generator, run.noise)
        ids = captions.pick(which, colours, run.generator)
        with fast(device):
            seen, read = image_features(model, pixels), text_features(model, ids)
            logits = seen @ read.T * model.logit_scale.exp().clamp(max=100)
        target = torch.arange(len(logits), device=device)
        run.learn((F.cross_entropy(logits.float(), target) + F.cross_entropy(logits.float().T, target)) / 2)
    return model, tokenizer, run


@torch.no_grad()
def ranks(model: CLIPModel, tokenizer: CLIPTokenizer, pixels: torch.Tensor, candidates: list[str]) -> torch.Tensor:
    """For picture i, how many other captions fit it as well as caption i or better (0 is best), (pictures,)."""
    device = next(model.parameters()).device
    read = in_batches(lambda part: text_features(model, part.to(device)), tokens(tokenizer, candidates), 100)
    seen = in_batches(lambda part: image_features(model, part.to(device)), pixels, 64)
    fit = seen @ read.T
    own = fit.diagonal().unsqueeze(1)
    return ((fit < own).logical_not().sum(1) - 1).cpu()  # ties and NaN count against it


def write(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """The folder in half precision; the configs say float32, the type to compute in."""
    model.half().save_pretrained(folder, max_shard_size="9MB")
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"height": PX, "width": PX}, do_center_crop=False, image_mean=[0.5] * 3,
                          image_std=[0.5] * 3).save_pretrained(folder)
    model.float()


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--minutes", type=float, default=15, help="wall-clock budget, earlier runs counted in")
    parse.add_argument("--batch", type=int, default=192, help="pictures a step, two of each glyph")
    parse.add_argument("--glyphs", type=int, default=0, help="only the first so many of the vocabulary; 0 is all")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--resume-shipped", action="store_true", help="start from the weights in --out")
    parse.add_argument("--work", type=Path, default=Path("build/emoji-clip"), help="where checkpoints are kept")
    parse.add_argument("--out", type=Path, default=FOLDER)
    parse.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parse.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the checkpoint is kept
    vocabulary = glyphs.vocabulary()[: options.glyphs or None]
    shipped = options.out if options.resume_shipped else None
    model, tokenizer, run = train(options.work, vocabulary, minutes=options.minutes, batch=options.batch,
                                  seed=options.seed, device=options.device, shipped=shipped)
    stages = json.loads((shipped / "training.json").read_text())["stages"] if shipped else {}
    with run.averaged():
        model.eval()
        write(model, tokenizer, options.out)
    furnish(options.out, vocabulary)
    write_json(options.out / "training.json", {
        "command": "python -m assets.make.emoji_clip", "seed": options.seed, "minutes": options.minutes,
        "batch": options.batch, "glyphs": len(vocabulary), "device": describe(options.device),
        "stages": stages | {f"clip, {len(vocabulary)} glyphs": run.record()}})


if __name__ == "__main__":
    main()
