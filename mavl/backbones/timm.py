"""timm's ViTs as image encoders."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mavl.backbones.preprocessing import Preprocessing
from mavl.backbones.protocol import BackboneError
from mavl.vocab import unknown_name


class TimmBackbone(nn.Module):
    """A timm ViT after its final norm, `NAME`, or the output of its block K, counted from 0, `NAME@K`.

    The output of a block is without the final norm, as in the release; the blocks after it are removed. NAME may have a
    timm tag (`vit_base_patch16_224.dino`). A ViT without a class token gives the mean of its patch tokens instead.
    Mean, standard deviation and interpolation are those of timm's configuration of the model.
    """

    has_class_token = True

    def __init__(self, name: str, image_size: int = 224):
        super().__init__()
        import timm

        name, _, block = name.partition("@")
        if not timm.is_model(name):
            raise BackboneError(unknown_name("timm model", name, timm.list_models()))
        try:
            self.vit: Any = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
            depth = len(self.vit.blocks)
        except (TypeError, AttributeError) as error:
            raise BackboneError(f"timm's {name} is not a ViT that takes images of any size ({error})") from error
        if block and not (block.isdigit() and int(block) < depth):
            raise BackboneError(f"timm's {name} has blocks 0 to {depth - 1}, not {block}")
        self.block = int(block) if block else depth - 1
        self.vit.prune_intermediate_layers([self.block], prune_norm=bool(block), prune_head=True)
        self.channels, self.stride = self.vit.embed_dim, self.vit.patch_embed.feat_ratio()
        self.offset = (self.stride - 1) / 2
        known = self.vit.pretrained_cfg
        self.preprocessing = Preprocessing(image_size, known["mean"], known["std"], known["interpolation"])

    @property
    def weights(self) -> nn.Module:
        return self.vit

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.vit.blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        [tokens] = self.vit.forward_intermediates(
            images,
            indices=[self.block],
            return_prefix_tokens=True,
            norm=True,
            output_fmt="NLC",  # "NCHW" copies the grid
            intermediates_only=True,
        )
        patches, prefix = tokens if self.vit.num_prefix_tokens else (tokens, None)
        class_token = patches.mean(dim=1) if prefix is None or self.vit.cls_token is None else prefix[:, 0]
        return patches.mT.unflatten(-1, self.vit.patch_embed.dynamic_feat_size(images.shape[-2:])), class_token
