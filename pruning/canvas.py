"""What stands around a denoiser when it draws: what it is told, what it begins with, how latents become pictures.

One class for each kind of pipeline; the names of theirs stand here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.errors import Refused
from pruning.types import Shot

Told = Mapping[str, Tensor]  # what a denoiser is given besides the latents and the timestep, by argument


@dataclass(frozen=True, eq=False)
class Prompted:
    """A text encoder reads the prompt, and an autoencoder stands between latents and pictures."""

    pipe: Any
    parts: ClassVar = ("unet", "text_encoder", "vae.decoder")  # what draws, the denoiser first
    needs: ClassVar = ("text_encoder", "tokenizer", "vae")
    prompted: ClassVar = True

    @property
    def factor(self) -> int:
        """Pixels of a picture's side for each of the latents'."""
        return self.pipe.vae_scale_factor

    def told(self, shot: Shot) -> Told:
        """The prompts, one row for each picture; guided, the negative ones come first."""
        guided = shot.guidance > 1
        positive, negative = self.pipe.encode_prompt(list(shot.prompts), self.pipe.unet.device, shot.images, guided,
                                                     [shot.negative] * len(shot.prompts))
        return {"encoder_hidden_states": torch.cat([negative, positive]) if guided else positive}

    def captioned(self, captions: list[str]) -> Told:
        """One caption for each sample."""
        known = {caption: self.pipe.encode_prompt(caption, self.pipe.unet.device, 1, False)[0]
                 for caption in dict.fromkeys(captions)}
        return {"encoder_hidden_states": torch.cat([known[caption] for caption in captions])}

    def pixels(self, latents: Tensor) -> Tensor:
        """Pictures as values of about -1 to 1."""
        vae = self.pipe.vae
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]

    def latents(self, pixels: Tensor) -> Tensor:
        """Pictures of -1 to 1 as the means of their latents on the denoiser's scale, float32 on the CPU."""
        vae = self.pipe.vae
        means = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mean.float().cpu()
        return (means - (vae.config.shift_factor or 0)) * vae.config.scaling_factor

    def colours(self) -> Tensor:
        """The linear map from latents to colours, (channels + 1, 3), the last row an offset.

        Fitted: a few smooth random latents are decoded and pooled to their own size; then least squares.
        """
        vae, gen = self.pipe.vae, torch.Generator().manual_seed(0)
        channels, side = vae.config.latent_channels, 16
        coarse = torch.randn(24, channels, 4, 4, generator=gen) / vae.config.scaling_factor
        latents = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear").to(vae.device, vae.dtype)
        pixels = vae.decode(latents, return_dict=False)[0].float().cpu() / 2 + 0.5
        pooled = torch.nn.functional.adaptive_avg_pool2d(pixels.clamp(0, 1), side)
        inputs = latents.float().cpu().movedim(1, -1).reshape(-1, channels) * vae.config.scaling_factor
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
        return torch.linalg.lstsq(inputs, pooled.movedim(1, -1).reshape(-1, 3)).solution


@dataclass(frozen=True, eq=False)
class Unprompted:
    """Nothing is told, and the latents are the picture."""

    pipe: Any
    parts: ClassVar = ("unet",)
    needs: ClassVar = ()
    prompted: ClassVar = False
    factor: ClassVar = 1

    def told(self, shot: Shot) -> Told:
        """Nothing.

        Raises:
            Refused: there is a prompt that would go unheard.
        """
        if any(shot.prompts) or shot.negative:
            raise Refused("This model draws whatever comes: it takes no prompt.", 'Leave the prompt empty: "".')
        return {}

    def captioned(self, captions: list[str]) -> Told:
        """Nothing."""
        return {}

    def pixels(self, latents: Tensor) -> Tensor:
        """The latents themselves."""
        return latents

    def latents(self, pixels: Tensor) -> Tensor:
        """The pixels themselves, float32 on the CPU."""
        return pixels.float().cpu()

    def colours(self) -> Tensor:
        """From -1..1 to 0..1."""
        return torch.cat([torch.eye(3) / 2, torch.full((1, 3), 0.5)])


Canvas = Prompted | Unprompted
KINDS: dict[str, type[Canvas]] = {"StableDiffusionPipeline": Prompted, "DDPMPipeline": Unprompted}


def of(pipe: Any) -> Canvas | None:
    """What stands around a pipeline's denoiser; None for a kind that cannot draw here."""
    return next((KINDS[kind.__name__](pipe) for kind in type(pipe).__mro__ if kind.__name__ in KINDS), None)


def lacking(canvas: Canvas) -> list[str]:
    """The components that its pipeline would need to draw and does not have."""
    return [name for name in canvas.needs if getattr(canvas.pipe, name, None) is None]


def drawing(pipe: Any) -> Canvas:
    """The same, for a pipeline that is to draw.

    Raises:
        Refused: it cannot; the sentence says why.
    """
    canvas = of(pipe)
    if canvas is None:
        raise Refused(f"Drawing with {type(pipe).__name__} is not part of this version.",
                      f"{' and '.join(KINDS)} draw; other pipelines can be planned and pruned.")
    if absent := lacking(canvas):
        raise Refused(f"This pipeline cannot draw: it has no {', '.join(absent)}.",
                      "It can be planned, pruned and counted; to draw, load a whole model.")
    if pipe.unet.device.type == "meta":
        raise Refused("This model has shapes and no weights, so it cannot draw.",
                      'Load it with weights="trained" or weights="random".')
    return canvas
