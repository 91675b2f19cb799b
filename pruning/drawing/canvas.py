"""What stands around a denoiser when it draws: what it is told, what it begins with, how latents become pictures.

One class for each kind of pipeline; the names of theirs stand here.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.drawing import samplers
from pruning.errors import Refused
from pruning.types import Shot

Told = Mapping[str, Tensor]  # what a denoiser is given besides the latents and the timestep, by argument
Generators = list[torch.Generator]  # one for each picture
WHOLE = "It can be planned, pruned and counted; to draw, load a whole model."
MODES = {1: "L", 3: "RGB"}  # of pictures, by their channels


@dataclass(frozen=True, eq=False)
class Prompted:
    """A text encoder reads the prompt, and an autoencoder stands between latents and pictures."""

    pipe: Any
    needs: ClassVar = ("unet", "scheduler", "text_encoder", "tokenizer", "vae")
    prompted: ClassVar = True
    channels: ClassVar = 3  # of a picture
    usual: ClassVar = {"clip_sample": False, "steps_offset": 1}  # as StableDiffusionPipeline sets its own schedule

    @property
    def parts(self) -> tuple[str, ...]:
        """What draws, the denoiser first; a consistency decoder decodes with a U-Net of its own."""
        return ("unet", "text_encoder", "vae.decoder" if hasattr(self.pipe.vae, "decoder") else "vae")

    @property
    def factor(self) -> int:
        """Pixels of a picture's side for each of the latents'."""
        return self.pipe.vae_scale_factor

    @property
    def grid(self) -> int:
        """What a picture's sides are multiples of: this U-Net brings its levels to any size of latents."""
        return self.factor

    def unfit(self) -> Iterator[str]:
        """What the denoiser wants that a prompt does not give, each as a sentence."""
        unet, vae, text = (part.config for part in (self.pipe.unet, self.pipe.vae, self.pipe.text_encoder))
        yield from _unfit(unet, vae.latent_channels, "latents have")
        if getattr(unet, "addition_embed_type", None):
            yield f"This U-Net is told more than the prompt (added_cond_kwargs, {unet.addition_embed_type!r})."
        if getattr(unet, "encoder_hid_dim_type", None) not in (None, "text_proj"):
            yield f"This U-Net is shown a picture besides the prompt ({unet.encoder_hid_dim_type!r})."
        takes = unet.get("encoder_hid_dim") or unet.get("cross_attention_dim")
        if isinstance(takes, int) and takes != (gives := getattr(text, "hidden_size", takes)):
            yield f"This U-Net takes prompts of {takes} values a token, and the text encoder gives {gives}."
        longest, places = self.pipe.tokenizer.model_max_length, getattr(text, "max_position_embeddings", None)
        if places and longest > places:
            yield f"The tokenizer gives up to {longest} tokens (model_max_length), and the text encoder reads {places}."

    def guided(self, guidance: float) -> bool:
        """Whether the denoiser is called with the prompt and without. One that is told the guidance is not (LCM)."""
        return guidance > 1 and self.pipe.unet.config.get("time_cond_proj_dim") is None

    def told(self, shot: Shot) -> Told:
        """The prompts, one row for each picture; guided, the negative ones come first."""
        guided = self.guided(shot.guidance)
        positive, negative = self.pipe.encode_prompt(list(shot.prompts), self.pipe.unet.device, shot.images, guided,
                                                     [shot.negative] * len(shot.prompts))
        return {"encoder_hidden_states": torch.cat([negative, positive]) if guided else positive,
                **self._guidance(shot.guidance, len(positive))}

    def captioned(self, captions: list[str], guidance: float = 0.0) -> Told:
        """One caption for each sample. A denoiser that is told the guidance is told the usual one unless it is > 1."""
        known = {caption: self.pipe.encode_prompt(caption, self.pipe.unet.device, 1, False)[0]
                 for caption in dict.fromkeys(captions)}
        return {"encoder_hidden_states": torch.cat([known[caption] for caption in captions]),
                **self._guidance(guidance if guidance > 1 else Shot.guidance, len(captions))}

    def _guidance(self, guidance: float, count: int) -> Told:
        """The guidance as an embedding, for a denoiser that takes it so."""
        width = self.pipe.unet.config.get("time_cond_proj_dim")
        if width is None:
            return {}
        embedded = self.pipe.get_guidance_scale_embedding(torch.tensor(guidance - 1).repeat(count), embedding_dim=width)
        return {"timestep_cond": embedded.to(self.pipe.unet.device, self.pipe.unet.dtype)}

    def notes(self, shot: Shot) -> tuple[str, ...]:
        """What of the prompts the text encoder does not read, a sentence each."""
        several = len(shot.prompts) > 1
        asked = [(f"Prompt {i + 1}" if several else "The prompt", text) for i, text in enumerate(shot.prompts)]
        asked += [("The negative prompt", shot.negative)] if self.guided(shot.guidance) else []
        return tuple(f"{name} was cut after {self.pipe.tokenizer.model_max_length} tokens: “{rest}” was not read."
                     for name, text in asked if (rest := self.unread(text)))

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is beyond the text encoder's last token; mostly none."""
        reader = self.pipe.tokenizer
        ids = reader(self.pipe.maybe_convert_prompt(prompt, reader)).input_ids
        return reader.decode(ids[reader.model_max_length - 1:-1]).strip() if len(ids) > reader.model_max_length else ""

    def pixels(self, latents: Tensor, generators: Generators | None = None) -> Tensor:
        """Pictures as values of about -1 to 1. A consistency decoder draws noise, from each picture's generator."""
        vae = self.pipe.vae
        takes = "generator" in inspect.signature(vae.decode).parameters
        more = {"generator": generators} if takes and generators else {}
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False, **more)[0]

    def latents(self, pixels: Tensor) -> Tensor:
        """Pictures of -1 to 1 as the means of their latents on the denoiser's scale, float32 on the CPU."""
        vae = self.pipe.vae
        found = vae.encode(pixels.to(vae.device, vae.dtype))
        means = (found.latent_dist.mean if hasattr(found, "latent_dist") else found.latents).float().cpu()
        return (means - (vae.config.get("shift_factor") or 0)) * vae.config.scaling_factor

    def colours(self) -> Tensor:
        """The linear map from latents to colours, (channels + 1, 3), the last row an offset.

        Fitted: a few smooth random latents are decoded and pooled to their own size; then least squares.
        """
        vae, gen = self.pipe.vae, torch.Generator().manual_seed(0)
        channels, side = vae.config.latent_channels, 16
        coarse = torch.randn(24, channels, 4, 4, generator=gen)
        latents = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear").to(vae.device, vae.dtype)
        pixels = self.pixels(latents, [gen] * len(latents)).float().cpu() / 2 + 0.5
        pooled = torch.nn.functional.adaptive_avg_pool2d(pixels.clamp(0, 1), side)
        inputs = latents.float().cpu().movedim(1, -1).reshape(-1, channels)
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
        return torch.linalg.lstsq(inputs, pooled.movedim(1, -1).reshape(-1, 3)).solution


@dataclass(frozen=True, eq=False)
class Unprompted:
    """Nothing is told, and the latents are the picture."""

    pipe: Any
    parts: ClassVar = ("unet",)
    needs: ClassVar = ("unet", "scheduler")
    prompted: ClassVar = False
    factor: ClassVar = 1
    usual: ClassVar[Mapping[str, Any]] = {}

    @property
    def channels(self) -> int:
        """Of a picture: 1 gray, 3 colours."""
        return self.pipe.unet.config.in_channels

    @property
    def grid(self) -> int:
        """What a picture's sides are multiples of: each level but the last halves them."""
        halved = sum(bool(getattr(block, "downsamplers", None)) for block in self.pipe.unet.down_blocks)
        return 2**halved

    def unfit(self) -> Iterator[str]:
        """What the denoiser wants that nobody gives, or why its output is not a picture; each as a sentence."""
        unet = self.pipe.unet.config
        if "cross_attention_dim" in unet:
            yield "This U-Net reads a prompt, and DDPMPipeline gives none."
        if not isinstance(unet.get("in_channels"), int) or not hasattr(self.pipe.unet, "down_blocks"):
            yield f"Which inputs {type(self.pipe.unet).__name__} takes is not known to this version."
            return
        if unet.in_channels not in MODES:
            yield f"Pictures of {unet.in_channels} channels cannot be shown: gray ones have 1, colours 3."
        yield from _unfit(unet, unet.in_channels, "its pictures have")

    def guided(self, guidance: float) -> bool:
        """Never."""
        return False

    def notes(self, shot: Shot) -> tuple[str, ...]:
        """Nothing: there is no prompt."""
        return ()

    def unread(self, prompt: str) -> str:
        """Nothing."""
        return ""

    def told(self, shot: Shot) -> Told:
        """Nothing.

        Raises:
            Refused: there is a prompt that would go unheard.
        """
        if any(shot.prompts) or shot.negative:
            raise Refused("This model draws whatever comes: it takes no prompt.", 'Leave the prompt empty: "".')
        return {}

    def captioned(self, captions: list[str], guidance: float = 0.0) -> Told:
        """Nothing."""
        return {}

    def pixels(self, latents: Tensor, generators: Generators | None = None) -> Tensor:
        """The latents themselves."""
        return latents

    def latents(self, pixels: Tensor) -> Tensor:
        """The pixels themselves, float32 on the CPU."""
        return pixels.float().cpu()

    def colours(self) -> Tensor:
        """From -1..1 to 0..1; gray is the same in all three colours."""
        own = torch.eye(3) if self.channels == 3 else torch.ones(1, 3)
        return torch.cat([own / 2, torch.full((1, 3), 0.5)])


Canvas = Prompted | Unprompted
KINDS: dict[str, type[Canvas]] = {"StableDiffusionPipeline": Prompted, "DDPMPipeline": Unprompted}


def _unfit(unet: Any, channels: int, whose: str) -> Iterator[str]:
    """What any U-Net wants besides noisy latents of so many channels, or gives besides noise of as many."""
    if unet.in_channels != channels:
        kind = {9: "is for inpainting: it ", 8: "edits pictures (instruct-pix2pix): it ", 5: "is for depth maps: it "}
        what = kind.get(unet.in_channels, "") if channels == 4 else ""
        yield f"This U-Net {what}takes {unet.in_channels} channels, and {whose} {channels}."
    elif unet.out_channels not in (channels, 2 * channels):  # twice: its variances follow
        yield f"This U-Net gives {unet.out_channels} channels, and {whose} {channels}."
    if unet.get("num_class_embeds") or unet.get("class_embed_type"):
        yield "This U-Net is told a class (class_labels), which a shot does not have."


def of(pipe: Any) -> Canvas | None:
    """What stands around a pipeline's denoiser; None for a kind that cannot draw here."""
    return next((KINDS[kind.__name__](pipe) for kind in type(pipe).__mro__ if kind.__name__ in KINDS), None)


def lacking(canvas: Canvas) -> list[str]:
    """The components that its pipeline would need to draw and does not have.

    For one that was deleted diffusers answers with what its settings say of it: two names in a tuple.
    """
    return [name for name in canvas.needs if isinstance(getattr(canvas.pipe, name, None), tuple | None)]


def why_not(pipe: Any) -> Refused | None:
    """Why a pipeline cannot draw, whatever the shot and its weights are; None where it can."""
    canvas = of(pipe)
    if canvas is None:
        return Refused(f"Drawing with {type(pipe).__name__} is not part of this version.",
                       f"{' and '.join(KINDS)} draw; other pipelines can be planned and pruned.")
    if absent := lacking(canvas):
        return Refused(f"This pipeline cannot draw: it has no {', '.join(absent)}.", WHOLE)
    if wrapped := [name for name in canvas.needs if isinstance(part := getattr(pipe, name), nn.Module)
                   and not hasattr(part, "config")]:
        name = wrapped[0]
        return Refused(f"The {name} of this pipeline is a {type(getattr(pipe, name)).__name__}, not a model of "
                       "diffusers or transformers.", f"Unwrap it first: pipe.{name} = pipe.{name}.module.")
    if reason := next(canvas.unfit(), None):
        return Refused(f"{reason} {type(pipe).__name__} cannot draw with it.",
                       "It can be planned, pruned and counted.")
    if reason := samplers.why_not(pipe.scheduler):
        return Refused(f"No sampler of this version follows {type(pipe.scheduler).__name__}: {reason}.",
                       "The model can be planned, pruned and counted.")
    return None


def drawing(pipe: Any) -> Canvas:
    """The same, for a pipeline that is to draw.

    Raises:
        Refused: it cannot; the sentence says why.
    """
    canvas = of(pipe)
    if refusal := why_not(pipe):
        raise refusal
    assert canvas is not None
    if pipe.unet.device.type == "meta":
        raise Refused("This model has shapes and no weights, so it cannot draw.",
                      'Load it with weights="trained" or weights="random".')
    return canvas


def size(canvas: Canvas, asked: int | None = None) -> tuple[int, int]:
    """(height, width) of the latents of a picture ``asked`` pixels wide and high; None is the model's own size.

    Raises:
        Refused: the model has no size of its own, or its denoiser cannot run at this one; the nearest are named.
    """
    own = canvas.pipe.unet.config.sample_size
    if asked is None and own is None:
        raise Refused("This model has no size of its own (sample_size).", "Give the shot a size in pixels.")
    if asked is not None:
        sides = (asked, asked)
    else:
        latents = (own, own) if isinstance(own, int) else tuple(own)
        sides = (latents[0] * canvas.factor, latents[1] * canvas.factor)
    odd = next((side for side in sides if side < canvas.grid or side % canvas.grid), None)
    if odd is not None:
        why = (f"a latent is {canvas.factor} px wide" if canvas.prompted else
               f"its U-Net halves a picture {canvas.grid.bit_length() - 1} times")
        raise Refused(f"A picture of this model cannot be {odd} px wide: {why}.",
                      f"Choose a multiple of {canvas.grid}, such as {_near(odd, canvas.grid)}.")
    return sides[0] // canvas.factor, sides[1] // canvas.factor


def _near(side: int, grid: int) -> str:
    """The nearest sizes that work."""
    below = max(side // grid, 0) * grid
    return f"{below} or {below + grid}" if below else str(grid)
