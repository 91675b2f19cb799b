"""Pictures with captions, as latents: those that are shipped with a model, those of a folder, or drawn by the model."""

import csv
import inspect
import io
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pruning.drawing import canvas, images
from pruning.errors import Refused
from pruning.network.notes import source_of
from pruning.progress import Looked
from pruning.types import Shot

MODELS = Path(__file__).resolve().parents[2] / "assets" / "models"
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAPTIONS, TABLES, TEXTS = (".txt", ".caption"), ("metadata.jsonl", "metadata.csv"), ("text", "caption", "prompt")
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # that begin a text; UTF-8's own is left out when reading
DEEP = {"I": 65535.0, "F": 1.0}  # what is white, by Pillow's mode; in those of 16 bits 65535
STEPS, GUIDANCE = 20, 3.0  # of what a model draws for itself
AT_ONCE = 4

Captioned = list[tuple[Path, str]]
Latents = Generator[Looked, None, list[Tensor]]  # each (1, channels, h, w) float32 on the CPU, as the denoiser has them


def shipped(pipe: Any) -> Path | None:
    """The folder of pictures that comes with a bundled model; None for other models."""
    source = source_of(pipe)
    folder = MODELS / source / "calibration"
    return folder if Path(source).name == source != "" and folder.is_dir() else None


def captioned(folder: Path) -> Captioned:
    """The shipped pictures with their captions."""
    listed = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    return [(folder / name, caption) for name, caption in listed.items()]


def inside(folder: Path, prompts: Sequence[str] = ()) -> Captioned:
    """The pictures of a folder by name, with the caption of each; where there is none, the prompts in turn, or "".

    A caption stands in a file of the picture's name (``.txt``, ``.caption``) or in a table of all (``metadata.jsonl``,
    ``metadata.csv``: ``file_name`` and ``text``, ``caption`` or ``prompt``).

    Raises:
        Refused: a caption cannot be read; the file is named.
    """
    listed, table = [], _table(folder)
    for i, file in enumerate(sorted(file for file in folder.iterdir() if file.suffix.lower() in KINDS)):
        beside = next((text for text in _beside(file) if text.is_file()), None)
        prompt = prompts[i % len(prompts)] if prompts else ""
        listed.append((file, read(beside).strip() if beside else table.get(file.name, prompt)))
    return listed


def sources(picture: Path) -> list[Path]:
    """The files that a picture and its caption come from, as far as they are there."""
    tables = [picture.parent / name for name in TABLES]
    return [file for file in (picture, *_beside(picture), *tables) if file.is_file()]


def _beside(picture: Path) -> list[Path]:
    return [picture.with_suffix(ending) for ending in CAPTIONS]


def _table(folder: Path) -> dict[str, str]:
    """Captions by file name, of the first table that there is."""
    file = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if file is None:
        return {}
    try:
        rows = (list(csv.DictReader(io.StringIO(read(file)))) if file.suffix == ".csv" else
                [json.loads(line) for line in read(file).splitlines() if line.strip()])
        told = [(row["file_name"], next((row[name] for name in TEXTS if row.get(name)), None)) for row in rows]
        return {name: text.strip() for name, text in told if isinstance(text, str)}
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise Refused(f"{file} cannot be read as a table of captions.",
                      'A row has a file_name and a text: {"file_name": "a.png", "text": "a cat"}.') from error


def read(file: Path) -> str:
    """A text file, in UTF-8 or in what its mark says (UTF-16).

    Raises:
        Refused: its bytes are not text of that kind.
    """
    content = file.read_bytes()
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(marked)
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not a text in UTF-8: byte {error.start + 1} is {content[error.start]:#04x}.",
                      "Save it again as UTF-8.") from error


def opened(file: Path, size: int | tuple[int, int], mode: str = "RGB") -> Image.Image:
    """A picture on white, cropped to (width, height), or to a square; in 8 bits, of a film the first frame.

    Raises:
        Refused: it cannot be read, or is too large to be.
    """
    try:
        with Image.open(file) as source:
            if source.width * source.height > (Image.MAX_IMAGE_PIXELS or 1 << 30):  # Pillow only warns up to twice that
                raise Image.DecompressionBombError
            picture = _eight_bits(ImageOps.exif_transpose(source), file).convert("RGBA")
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"{file} has too many pixels to be opened safely.", "Make it smaller, or take it out.") from error
    except Exception as error:  # of broken files decoders say OSError, SyntaxError, ValueError, struct.error ...
        raise Refused(f"{file} cannot be read as a picture.", "Take it out of the folder.") from error
    on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return ImageOps.fit(on_white.convert(mode), (size, size) if isinstance(size, int) else size)


def _eight_bits(picture: Image.Image, file: Path) -> Image.Image:
    """A picture of more than 8 bits a pixel in 8; any other as it is. Pillow's own conversion cuts all above 255."""
    if picture.mode not in DEEP and not picture.mode.startswith("I;16"):
        return picture
    values, white = np.asarray(picture, np.float64), DEEP.get(picture.mode, 65535.0)
    if not 0 <= values.min() <= values.max() <= white:  # NaN, too
        raise Refused(f"{file} has values from {values.min():.4g} to {values.max():.4g}, so its white is not known.",
                      f"Scale it to 0 to {white:g}, or save it in 8 bits.")
    return Image.fromarray((values / white * 255).round().astype(np.uint8))


def encoding(pipe: Any, files: Sequence[Path]) -> Latents:
    """Pictures as the means of their latents; as they are, where the denoiser sees pixels."""
    around = canvas.drawing(pipe)
    height, width = (side * around.factor for side in canvas.size(around))
    latents: list[Tensor] = []
    for start in range(0, len(files), AT_ONCE):
        some = np.stack([np.asarray(opened(file, (width, height), canvas.MODES[around.channels])).reshape(
            height, width, around.channels) for file in files[start : start + AT_ONCE]])
        with torch.no_grad():
            latents += around.latents(torch.from_numpy(some).movedim(-1, 1).float() / 255 * 2 - 1).split(1)
        yield Looked(len(latents), len(files), "encoding pictures")
    return latents


@torch.no_grad()
def decodable(vae: Any, latents: Tensor) -> dict[str, Tensor]:
    """What an autoencoder hands its decoder for latents of the denoiser's scale, by argument."""
    config = vae.config
    inputs = (latents / config.scaling_factor + (config.get("shift_factor") or 0)).to(vae.device, vae.dtype)
    quantized = vae.quantize(inputs)[0] if getattr(vae, "quantize", None) is not None else inputs  # VQModel
    conv = getattr(vae, "post_quant_conv", None)  # AutoencoderTiny has none
    _, first, *_ = inspect.signature(type(vae.decoder).forward).parameters
    more = {"latent_embeds": quantized} if config.get("norm_type") == "spatial" else {}
    return {first: quantized if conv is None else conv(quantized), **more}


def drawing(pipe: Any, prompts: Sequence[str], seed: int, guidance: float) -> Latents:
    """What the model itself draws, one picture a prompt: 20 DDIM steps at the guidance when that is above 1, else 3.

    A model that takes no prompt draws one picture for each all the same.
    """
    latents: list[Tensor] = []
    for start in range(0, len(prompts), AT_ONCE):
        some = tuple(prompts[start : start + AT_ONCE])
        run = images.Run(pipe, Shot(some, seed=(seed + start) % (1 << 31), steps=STEPS,
                                    guidance=guidance if guidance > 1 else GUIDANCE))
        for index in range(len(run.scheduler.timesteps)):
            run.step(index)
            yield Looked(start * STEPS + (index + 1) * len(some), len(prompts) * STEPS, "drawing pictures to look at")
        latents += run.latents.float().cpu().split(1)
    return latents
