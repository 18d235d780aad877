"""The image network: a true tree over sets of images in any order."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from diskern.nets.image_set import ImageSetNet, ImageSets


@cache
def net() -> ImageSetNet:
    torch.manual_seed(0)
    made = ImageSetNet(18, 4, set_width=16, set_layers=1).eval()
    with torch.no_grad():
        # Beyond the small first weights, so that differences show.
        for name, p in made.named_parameters():
            if not name.startswith("read_image"):
                p.add_(0.3 * torch.randn_like(p))
    return made


def sets() -> ImageSets:
    g = torch.Generator().manual_seed(1)
    known = torch.tensor([0.3, 1.0, 0.0, 1.0]).expand(1, 3, 4).clone()
    there = torch.ones(1, 3, dtype=torch.bool)
    return ImageSets(torch.rand(3, 40, 40, generator=g), torch.arange(3)[None], there, known)


@torch.inference_mode()
def log_groups(given: ImageSets) -> torch.Tensor:
    found: torch.Tensor = net()(given).log_groups
    return found


def test_probabilities_sum_to_one() -> None:
    p = log_groups(sets()).exp()
    assert p.shape == (1, 230)
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)


def test_order_does_not_matter_and_what_is_not_there_says_nothing() -> None:
    given = sets()
    turned = given._replace(member=given.member[:, [2, 0, 1]])
    torch.testing.assert_close(log_groups(given), log_groups(turned), atol=1e-4, rtol=1e-4)
    there = torch.tensor([[True, True, False]])
    fewer = log_groups(given._replace(member_there=there))
    other = given._replace(member_there=there, member=torch.tensor([[0, 1, 1]]))
    torch.testing.assert_close(fewer, log_groups(other), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(fewer, log_groups(given), atol=1e-3)


def test_images_and_their_scale_are_both_seen() -> None:
    given = sets()
    assert not torch.allclose(
        log_groups(given), log_groups(given._replace(image=given.image.flip(2))), atol=1e-3
    )
    larger = given._replace(known=given.known + torch.tensor([1.0, 0, 0, 0]))
    assert not torch.allclose(log_groups(given), log_groups(larger), atol=1e-3)
