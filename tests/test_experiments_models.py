"""The paper's networks: parameter counts against stated sources, and one training step of each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kmixup.experiments.models import MODELS


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def one_step_lowers_the_loss(model, shape, classes, batch=8, lr=0.01):
    torch.manual_seed(0)
    x, y = torch.rand(batch, *shape), torch.arange(batch) % classes
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    model.train()
    before = F.cross_entropy(model(x), y)
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(model(x), y) < before


@pytest.mark.parametrize(
    ("shape", "classes", "count"),
    [
        # LeCun et al. (1998), LeNet-5 with full connections in C3: 156 + 2416 + 48120 + 10164 + 850.
        ((1, 32, 32), 10, 61_706),
        # The same on digits as they come, 28 x 28: the third kernel is 4 x 4, 120 * (16 * 16 + 1) = 30840 for 48120.
        ((1, 28, 28), 10, 61_706 - 48_120 + 30_840),
        # The released code's speech LeNet: the same convolutions, 71280 -> 84 -> 30.
        ((1, 160, 101), 30, 156 + 2_416 + 48_120 + 71_280 * 84 + 84 + 84 * 30 + 30),
    ],
)
def test_lenet_has_the_parameters_of_its_source(shape, classes, count):
    assert parameters(MODELS["lenet"](shape, classes)) == count


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 160, 101), (3, 32, 32), (1, 29, 40), (1, 8, 9)])
def test_lenet_trains_on_any_image_shape(shape):
    torch.manual_seed(0)
    assert one_step_lowers_the_loss(MODELS["lenet"](shape, 10), shape, 10)


def test_lenet_refuses_inputs_that_are_no_images():
    with pytest.raises(ValueError, match=r"\(channels, height, width\)"):
        MODELS["lenet"]((784,), 10)


def test_preact_resnet18_has_the_parameters_of_its_parts():
    def block(channels, width):
        shortcut = channels * width if channels != width else 0
        return 2 * channels + 9 * channels * width + 2 * width + 9 * width * width + shortcut

    widths = [(64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    expected = 27 * 64 + sum(block(*pair) for pair in widths) + 512 * 10 + 10
    assert expected == 11_171_146  # the number known for this network on CIFAR-10
    assert parameters(MODELS["preact-resnet18"]((3, 32, 32), 10)) == expected
    assert parameters(MODELS["preact-resnet18-release"]((3, 32, 32), 10)) == expected + 2 * 64


def test_densenet_bc_190_has_the_parameters_of_its_source():
    with torch.device("meta"):
        model = MODELS["densenet-bc"]((3, 32, 32), 10)
        of_100 = MODELS["densenet-bc"]((3, 32, 32), 10, depth=100, growth=12)
    # Huang et al. (2017), Table 2: 25.6M for L = 190, k = 40, and 0.8M for L = 100, k = 12.
    assert round(parameters(model) / 1e6, 1) == 25.6
    assert round(parameters(of_100) / 1e6, 1) == 0.8
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == 190  # and the last, fully connected layer


def test_wide_resnet101_has_the_parameters_of_its_source():
    with torch.device("meta"):
        model = MODELS["wide-resnet101"]((3, 224, 224), 1000)
    assert parameters(model) == 126_886_696  # torchvision's documentation of Wide_ResNet101_2_Weights


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("preact-resnet18", (3, 32, 32), {}),
        ("preact-resnet18", (3, 64, 64), {"width": 16}),
        ("preact-resnet18-release", (3, 32, 32), {"width": 16}),
        ("densenet-bc", (3, 32, 32), {"depth": 40, "growth": 12}),
    ],
)
def test_networks_for_colour_images_train(name, shape, options):
    torch.manual_seed(0)
    assert one_step_lowers_the_loss(MODELS[name](shape, 10, **options), shape, 10, batch=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet-bc", "wide-resnet101"])
def test_the_large_networks_train_as_published(name):
    torch.manual_seed(0)
    assert one_step_lowers_the_loss(MODELS[name]((3, 32, 32), 10), (3, 32, 32), 10, batch=4)


def test_width_is_the_only_thing_that_width_changes():
    names = [[n for n, _ in MODELS["preact-resnet18"]((3, 32, 32), 10, width=w).named_parameters()] for w in (8, 64)]
    assert names[0] == names[1]


def test_a_pre_activation_block_is_the_published_formula():
    from kmixup.experiments.models.preact_resnet import PreActBlock

    torch.manual_seed(0)
    block = PreActBlock(4, 4, 1).eval()
    x = torch.randn(2, 4, 6, 6)
    activated = x.relu() / (1 + block.bn1.eps) ** 0.5  # a fresh batch norm only scales, and eps is all it knows
    inner = torch.conv2d(activated, block.conv1.weight, padding=1).relu() / (1 + block.bn2.eps) ** 0.5
    torch.testing.assert_close(block(x), x + torch.conv2d(inner, block.conv2.weight, padding=1))


@pytest.mark.parametrize("depth", [4, 41])
def test_depths_that_no_densenet_has_are_refused(depth):
    with pytest.raises(ValueError, match=r"6 n \+ 4"):
        MODELS["densenet-bc"]((3, 32, 32), 10, depth=depth)


@pytest.mark.parametrize("name", ["preact-resnet18", "densenet-bc", "wide-resnet101"])
def test_networks_for_images_refuse_other_inputs(name):
    with pytest.raises(ValueError, match=r"images \("):
        MODELS[name]((784,), 10)
