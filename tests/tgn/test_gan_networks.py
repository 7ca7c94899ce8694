"""The generator and the discriminator: shapes, sizes, modulation, labels, mixing, the minibatch deviation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ltgc_local.methods.tgn.cdtg.discriminator import Discriminator, with_deviation
from ltgc_local.methods.tgn.cdtg.generator import Generator, Widths
from ltgc_local.methods.tgn.cdtg.layers import EqualConv, ModulatedConv, pixel_norm
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator

SMALL = {"style_dim": 16, "mlp_layers": 2, "max_channels": 8}


def num_weights(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_at_256_px_the_networks_have_the_published_sizes() -> None:
    widths = Widths(256, 12)
    assert widths.resolutions == [4, 8, 16, 32, 64, 128] and widths.num_latents == 12
    assert [widths.channels(r) for r in (4, 32, 64, 128)] == [512, 512, 512, 256]
    assert num_weights(Generator(widths)) == 29_360_211  # 29.36 million, as the released one
    assert num_weights(Discriminator(widths)) / 1e6 == pytest.approx(30.94, abs=0.005)


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("label_fusion", ["concat", "projection"])
def test_every_size_has_its_images_and_logits(size: int, label_fusion: str) -> None:
    widths = Widths(size, 5, **SMALL)
    generator, discriminator = TailGenerator(widths), Discriminator(widths, label_fusion)  # type: ignore[arg-type]
    random, labels = generator.draw(2, 1.0, torch.Generator().manual_seed(0)), torch.tensor([0, 4])
    assert [noise.shape[-1] for noise in random.maps] == generator.generator.noise_sizes()
    images = generator(random, labels)
    assert images.shape == (2, 3, size, size)
    assert discriminator(images, labels).shape == (2, 1)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_convolution_is_convolving_each_image_with_its_own_weights(demodulate: bool, up: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(5, 7, 3, 4, demodulate=demodulate, up=up).double()
    maps, style = torch.randn(3, 5, 6, 6).double(), torch.randn(3, 4).double()
    found = layer(maps, style)
    for image, one_style, result in zip(maps, style, found, strict=True):
        weight = layer.weight * layer.scale * layer.modulation(one_style[None])[0][None, :, None, None]
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            grown = F.conv_transpose2d(image[None], weight.transpose(0, 1), stride=2)
            taps, channels = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 4, grown.shape[1]
            kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
            expected = F.conv2d(grown, kernel, padding=1, groups=channels)
        else:
            expected = F.conv2d(image[None], weight, padding=1)
        # demodulation is done in float32 so that autocast cannot hurt it
        assert torch.allclose(result, expected[0], rtol=1e-5, atol=1e-6)


def test_demodulation_brings_maps_of_variance_1_back_to_variance_1() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(32, 16, 3, 8)
    found = layer(torch.randn(8, 32, 16, 16), 3 * torch.randn(8, 8))[..., 1:-1, 1:-1]
    assert float(found.detach().std()) == pytest.approx(1, abs=0.05)


def test_equalised_convolution_halves_and_keeps_variance() -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 16, 16, 16)
    assert EqualConv(16, 8, 3, down=True)(maps).shape == (4, 8, 8, 8)
    assert EqualConv(16, 8, 1)(maps).shape == (4, 8, 16, 16)
    assert float(EqualConv(16, 64, 3)(maps).detach().square().mean()) == pytest.approx(1, abs=0.1)


def test_pixel_norm_makes_the_mean_square_1() -> None:
    assert pixel_norm(torch.tensor([[3.0, 4.0]])).square().mean().item() == pytest.approx(1)


def test_the_deviation_is_of_each_group_of_four() -> None:
    maps = torch.zeros(8, 2, 4, 4)
    maps[0::2, 0] = 2.0  # with stride 2 each group (rows i, i+2, i+4, i+6) is constant: deviation 0
    assert with_deviation(maps).shape == (8, 3, 4, 4)
    assert with_deviation(maps)[:, 2].abs().max() < 1e-3
    maps = torch.zeros(8, 2, 4, 4)
    maps[:4, 0] = 2.0  # two 2s and two 0s in every group: deviation 1 in one channel of two, so 1/2
    assert torch.allclose(with_deviation(maps)[:, 2], torch.full((8, 4, 4), 0.5), atol=1e-3)


@pytest.mark.parametrize("label_fusion", ["concat", "projection"])
def test_two_batches_at_once_are_seen_as_each_by_itself(label_fusion: str) -> None:
    torch.manual_seed(0)
    network = Discriminator(Widths(16, 5, **SMALL), label_fusion)  # type: ignore[arg-type]
    one, other = torch.randn(8, 3, 16, 16), 3 * torch.randn(8, 3, 16, 16)
    labels = torch.arange(8) % 5
    both = network(torch.cat([one, other]), labels.repeat(2), sets=2)
    assert torch.allclose(both, torch.cat([network(one, labels), network(other, labels)]), atol=1e-4)
    assert not torch.allclose(both, network(torch.cat([one, other]), labels.repeat(2)), atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3, 5, 6])
def test_a_batch_that_four_does_not_divide_has_a_deviation_too(batch: int) -> None:
    assert with_deviation(torch.randn(batch, 2, 4, 4)).shape == (batch, 3, 4, 4)


@pytest.mark.parametrize("label_fusion", ["concat", "projection"])
def test_both_networks_see_the_label(label_fusion: str) -> None:
    torch.manual_seed(0)
    widths = Widths(16, 3, **SMALL)
    generator, discriminator = TailGenerator(widths), Discriminator(widths, label_fusion)  # type: ignore[arg-type]
    random = generator.draw(2, 0.0, torch.Generator().manual_seed(0))
    same, other = torch.tensor([1, 1]), torch.tensor([1, 2])
    images, changed = generator(random, same), generator(random, other)
    assert torch.equal(images[0], changed[0]) and not torch.allclose(images[1], changed[1])
    one, two = discriminator(images[1:], same[1:]), discriminator(images[1:], other[1:])
    assert not torch.allclose(one, two)


def test_mixing_uses_the_second_style_from_the_crossover_on() -> None:
    torch.manual_seed(0)
    network = Generator(Widths(16, 2, **SMALL))
    labels, latents = torch.zeros(4, dtype=torch.long), (torch.randn(4, 16), torch.randn(4, 16))
    styles = network.mixed_styles(latents, labels, torch.tensor([1, 2, 3, 4]))
    one, other = network.map(latents[0], labels), network.map(latents[1], labels)
    for image, crossover in enumerate([1, 2, 3, 4]):
        expected = [one[image]] * crossover + [other[image]] * (4 - crossover)
        assert torch.equal(styles[image], torch.stack(expected))


@pytest.mark.parametrize(("probability", "mixed"), [(0.0, 0), (1.0, 200)])
def test_style_mixing_is_as_frequent_as_asked(probability: float, mixed: int) -> None:
    network = TailGenerator(Widths(32, 2, **SMALL))
    random = network.draw(200, probability, torch.Generator().manual_seed(0))
    assert int((random.crossover < 6).sum()) == mixed
    assert set(random.crossover.tolist()) <= {1, 2, 3, 4, 5, 6}


def test_text_features_of_the_class_change_the_styles() -> None:
    torch.manual_seed(0)
    texts = torch.randn(2, 7)
    network = Generator(Widths(16, 2, **SMALL), texts)
    labels, latents = torch.tensor([0]), torch.randn(1, 16)
    before = network.map(latents, labels)
    with torch.no_grad():
        network.text_features[0] += 1  # type: ignore[index]
    assert not torch.allclose(network.map(latents, labels), before)
    network.map(latents, labels).sum().backward()
    assert network.text_map.weight.grad is not None and network.text_map.weight.grad.abs().max() > 0


@pytest.mark.slow
def test_both_networks_compile_whole_and_give_the_same_gradients() -> None:
    """``aot_eager`` is torch.compile without its code generation: what a GPU compiles can be traced in one piece."""
    torch.manual_seed(0)
    widths = Widths(16, 3, **SMALL)
    generator, discriminator = TailGenerator(widths, "pool", (5, 2, 2)), Discriminator(widths)
    random, labels = generator.draw(4, 1.0, torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    features, r = torch.randn(4, 5, 2, 2), torch.full((4, 1), 0.5)
    gradients = []
    for compiled in (False, True):
        made, judged = (
            torch.compile(network, backend="aot_eager", fullgraph=True) if compiled else network
            for network in (generator, discriminator)
        )
        generator.zero_grad()
        judged(made(random, labels, features, r), labels).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-4) for name in gradients[0])
