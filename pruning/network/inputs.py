"""How each class of network is called: the input that its costs are counted at, and its usual size."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # whose weights multiply what they are given


@dataclass(frozen=True)
class Example:
    """The input that MACs are counted at: latent width, text tokens (0: no text), batch 1."""

    latent: int | None = None
    tokens: int = 77

    def to_dict(self) -> dict[str, Any]:
        """As the report and ``inspect`` print it."""
        return {"latent": self.latent, "tokens": self.tokens, "batch": 1}


TOKENS = {"UNet2DModel": 0, "DiTTransformer2DModel": 0, "PixArtTransformer2DModel": 300,
          "SD3Transformer2DModel": 77 + 256, "FluxTransformer2DModel": 512}  # of a usual prompt; other classes: 77
KL = "diffusers.models.autoencoders.vae"  # where the decoder of AutoencoderKL is from: others are called so, too
SIDES = {"FluxTransformer2DModel": 128}  # 1024 px; other classes have it in their settings


def side_of(net: Any) -> int | None:
    """The width of a denoiser's latents; None for a network of any size, or of a rectangle."""
    side = getattr(getattr(net, "config", None), "sample_size", None) or SIDES.get(type(net).__name__)
    return side if isinstance(side, int) else None


def tokens_of(net: Any, longest: int | None = None) -> int:
    """The tokens of a denoiser's usual prompt, no more than the ``longest`` that its tokenizer gives.

    A setting ``_tokens`` goes before the table of classes: LDM's class-conditional U-Net sees its class as one token.
    """
    own = getattr(getattr(net, "config", None), "_tokens", TOKENS.get(type(net).__name__))
    if longest is None:
        return 77 if own is None else own
    return min(longest, 512 if own is None else own)


def arguments(net: Any, example: Example) -> dict[str, Any] | None:
    """Inputs of one forward pass on the meta device, or None: the class is not listed, or it has no size."""
    config: Any = getattr(net, "config", None)
    side, step = example.latent or side_of(net), torch.zeros(1)
    match type(net).__name__:
        case "CLIPTextModel" | "CLIPTextModelWithProjection":
            return {"input_ids": torch.zeros(1, min(example.tokens, config.max_position_embeddings), dtype=torch.long)}
        case _ if side is None:
            return None
        case "Decoder" if type(net).__module__ == KL:
            return {"sample": torch.zeros(1, net.conv_in.in_channels, side, side)}
        case "UNet2DModel" if config.class_embed_type is None:
            return {"sample": torch.zeros(1, config.in_channels, side, side), "timestep": step, **_label(config)}
        case "UNet2DConditionModel" if _plain(config):
            return {"sample": torch.zeros(1, config.in_channels, side, side), "timestep": step, **_label(config),
                    "encoder_hidden_states": torch.zeros(1, example.tokens, config.cross_attention_dim),
                    "added_cond_kwargs": _added(config)}
        case "DiTTransformer2DModel":
            return {"hidden_states": torch.zeros(1, config.in_channels, side, side), "timestep": step,
                    "class_labels": torch.zeros(1, dtype=torch.long)}
        case "PixArtTransformer2DModel":
            sizes = {"resolution": torch.zeros(1, 2), "aspect_ratio": torch.zeros(1, 1)}  # PixArt-alpha looks at them
            return {"hidden_states": torch.zeros(1, config.in_channels, side, side), "timestep": step,
                    "encoder_hidden_states": torch.zeros(1, example.tokens, config.caption_channels),
                    "added_cond_kwargs": sizes}
        case "SD3Transformer2DModel":
            return {"hidden_states": torch.zeros(1, config.in_channels, side, side), "timestep": step,
                    "encoder_hidden_states": torch.zeros(1, example.tokens, config.joint_attention_dim),
                    "pooled_projections": torch.zeros(1, config.pooled_projection_dim)}
        case "FluxTransformer2DModel":  # its pipeline packs 2 x 2 latents into one token
            return {"hidden_states": torch.zeros(1, (side // 2) ** 2, config.in_channels), "timestep": step,
                    "encoder_hidden_states": torch.zeros(1, example.tokens, config.joint_attention_dim),
                    "pooled_projections": torch.zeros(1, config.pooled_projection_dim),
                    "img_ids": torch.zeros((side // 2) ** 2, 3), "txt_ids": torch.zeros(example.tokens, 3),
                    "guidance": step if config.guidance_embeds else None}
    return None


def _plain(config: Any) -> bool:
    """Whether a U-Net is conditioned on text as SD and SDXL are, and not on images or hints."""
    return (isinstance(config.cross_attention_dim, int)
            and config.encoder_hid_dim is None and config.encoder_hid_dim_type is None
            and config.class_embed_type is None and config.addition_embed_type in (None, "text_time"))


def _label(config: Any) -> dict[str, Any]:
    """The class of a U-Net that has a table of classes."""
    return {"class_labels": torch.zeros(1, dtype=torch.long)} if config.num_class_embeds else {}


def _added(config: Any) -> dict[str, Any]:
    """What SDXL is told besides the prompt: the pooled text, and the sizes of the picture."""
    if config.addition_embed_type is None:
        return {}
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)}

