"""timm's ViTs as image encoders."""

from torch import Tensor, nn

from mavl.backbones.preprocessing import Preprocessing
from mavl.backbones.protocol import BackboneError
from mavl.vocab import unknown_name


class TimmBackbone(nn.Module):
    """A timm ViT after its final norm, `NAME`, or the output of its block K, counted from 0, `NAME@K`.

    The output of a block is used without the final norm, as in the release; the blocks after it are removed. NAME may
    carry a timm tag (`vit_base_patch16_224.dino`). For a ViT without a class token the mean of its patch tokens takes
    its place. Mean, standard deviation and interpolation are those of timm's configuration of the model.
    """

    has_class_token = True

    def __init__(self, name: str, image_size: int = 224):
        super().__init__()
        import timm

        name, _, block = name.partition("@")
        if not timm.is_model(name):
            raise BackboneError(unknown_name("timm model", name, timm.list_models()))
        try:
            self.vit = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError as error:
            raise BackboneError(f"timm's {name} is not a ViT that takes images of any size ({error})") from error
        depth = len(self.vit.blocks)
        if block and not (block.isdigit() and int(block) < depth):
            raise BackboneError(f"timm's {name} has blocks 0 to {depth - 1}, not {block}")
        self.block = int(block) if block else depth - 1
        self.vit.prune_intermediate_layers([self.block], prune_norm=bool(block), prune_head=True)
        self.channels, self.stride = self.vit.embed_dim, self.vit.patch_embed.patch_size[0]
        self.offset = (self.stride - 1) / 2
        known = self.vit.pretrained_cfg
        self.preprocessing = Preprocessing(image_size, known["mean"], known["std"], known["interpolation"])

    @property
    def weights(self) -> nn.Module:
        return self.vit

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        [tokens] = self.vit.forward_intermediates(
            images, indices=[self.block], return_prefix_tokens=True, norm=True, intermediates_only=True
        )
        grid, prefix = tokens if self.vit.num_prefix_tokens else (tokens, None)
        return grid, grid.mean(dim=(2, 3)) if self.vit.cls_token is None else prefix[:, 0]
