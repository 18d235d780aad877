"""Symmetry of a crystal from images of one or more patterns, not from their spots.

A residual network makes one vector of each image; `diskern.nets.set_net` makes the verdict of
these, as it does for the spot-set network, so that the two differ in nothing but what they look
at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from diskern.nets.resnet import ResNet
from diskern.nets.set_net import SetNet, Sets, Verdicts


class ImageSets(NamedTuple):
    """Images of patterns and the sets that are made of them.

    Attributes
    ----------
    image : (B, H, W) in [0, 1].
    member, member_there, known : see `diskern.nets.set_net.Sets`; the unit of length is half the
        image's side.
    """

    image: torch.Tensor
    member: torch.Tensor
    member_there: torch.Tensor
    known: torch.Tensor


class ImageSetNet(SetNet):
    """See the module.

    Parameters
    ----------
    depth, width : of the residual network, see `diskern.nets.resnet.ResNet`.
    set_width, set_layers : of the attention among patterns.
    """

    def __init__(
        self, depth: int = 18, width: int = 32, *, set_width: int = 128, set_layers: int = 2
    ) -> None:
        super().__init__(set_width, set_layers)
        self.read_image = ResNet(depth, set_width, width)

    def forward(self, sets: ImageSets) -> Verdicts:
        """Verdicts on every set, and whether each pattern is of a crystal."""
        vector = self.read_image(sets.image)
        # Nobody has looked for nets: lengths other than the camera's are left to the network.
        no_net = vector.new_zeros(len(vector), 3)
        return self.verdicts(vector, no_net, Sets(sets.member, sets.member_there, sets.known))
