"""A GPU's milliseconds per step at SD-1.5's size (random weights) and of emoji-sd: pruned against dense, in half
precision, with the 2:4 kernels that win their probe.

Its text encoder has CLIP ViT-L's size and random weights too, so that whole drawings run. On a machine without a GPU it
says so and leaves the last result as it was.

python -m benchmarks.cuda
"""

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import pruning
from benchmarks.table import publish
from pruning.models.sources import ASSETS
from pruning.timing import intervals

CASES = {"weights 50 %": {"ratio": 0.5}, "2:4": {"pattern": "2:4"}, "width 25 %": {"ratio": 0.25, "units": "width"},
         "width 50 %": {"ratio": 0.5, "units": "width"}, "width 75 %": {"ratio": 0.75, "units": "width"}}
STEPS = 4


def drawable(name: str, device: str, dtype: torch.dtype):
    """A pipeline with random values that can draw."""
    pipe = pruning.load(name, weights="random", dtype=dtype)
    if pipe.text_encoder is None:
        torch.manual_seed(0)
        pipe.tokenizer = CLIPTokenizer.from_pretrained(ASSETS / "emoji-sd" / "tokenizer", model_max_length=77)
        pipe.text_encoder = CLIPTextModel(CLIPTextConfig(
            vocab_size=len(pipe.tokenizer), hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
            num_attention_heads=12, bos_token_id=0, eos_token_id=1)).to(dtype).eval()
    return pipe.to(device)


def main(names=("sd-1.5", "emoji-sd"), device: str = "cuda", dtype: torch.dtype = torch.float16) -> None:
    """Every case against the dense model in the same run."""
    if device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.cuda: no GPU here")
        return
    rows = []
    for name in names:
        dense = drawable(name, device, dtype)
        for removed, asked in CASES.items():
            plan = pruning.plan(dense, **asked)
            pruned = pruning.apply(dense, plan)
            for images in (1, 4):
                shot = pruning.Shot("red heart on a blue background", steps=STEPS, images=images)
                taken = pruning.measure(dense, pruned, shot)
                speed = pruning.report(dense, pruned, plan, measured=taken).speed
                ran = taken.sparse.get("unet")
                rows.append({
                    "model": name, "removed": removed, "images": images, "dense, ms": taken.dense[0],
                    "pruned, ms": taken.pruned[0], "speed-up": intervals.said(taken.ratio),
                    "reachable": speed["reachable"], "theory": speed["theory"],
                    "2:4 kernels used": f"{ran.used} of {ran.used + ran.lost}" if ran else "–"})
                print(rows[-1], "|", speed["why"], flush=True)
            del pruned, plan
    publish("cuda", "python -m benchmarks.cuda", rows)


if __name__ == "__main__":
    main()
