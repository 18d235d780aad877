"""The published network: shapes, and a correlation that knows where the disk is."""

import torch

from diskern.nets.fourier_unet import FourierUNet, _spectrum


def test_images_of_the_patterns_size() -> None:
    net = FourierUNet(width=4, levels=3)
    out = net(torch.rand(2, 32, 48), torch.rand(2, 32, 48))
    assert out.shape == (2, 2, 32, 48)
    out.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_size_is_free() -> None:
    count = [
        sum(p.numel() for p in FourierUNet(w, n, d).parameters())
        for w, n, d in ((4, 3, 1), (8, 3, 1), (8, 4, 2))
    ]
    assert count == sorted(count)


def test_spectrum_is_that_of_the_correlation() -> None:
    probe = torch.zeros(1, 32, 32)
    probe[0, 14:19, 14:19] = 1
    pattern = probe.roll((5, -7), (1, 2))
    real, imaginary = _spectrum(pattern, probe)[0]
    product = torch.fft.ifftshift(torch.complex(real, imaginary))
    image = torch.fft.ifft2(product).real
    assert divmod(int(image.argmax()), 32) == (16 + 5, 16 - 7)
    assert torch.isclose((real**2 + imaginary**2).mean(), torch.tensor(1.0))
