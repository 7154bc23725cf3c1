"""Labels: to soft targets, and compared with a model's outputs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kmixup import KMixup
from kmixup.targets import correct, refuse_unknown, soft_targets

Y = torch.arange(8) % 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_class_indices_become_one_hot_in_float32(dtype, shape):
    expected = F.one_hot(Y, 3).float()
    torch.testing.assert_close(soft_targets(Y.to(dtype).view(shape), 3), expected)
    np.testing.assert_array_equal(soft_targets(Y.to(dtype).view(shape).numpy(), 3), expected.numpy())


@pytest.mark.parametrize(
    ("y", "num_classes", "error", "message"),
    [
        (torch.full((8, 5), 0.2), 3, ValueError, r"soft targets must be \[B, 3\].*got torch.float32 \[8, 5\]"),
        (Y.float(), 3, ValueError, "class indices as integers; for regression targets leave num_classes out"),
        (Y.float().view(8, 1), 3, ValueError, r"must be \[B, 3\].*\[8, 1\]"),
        (Y.bool(), 3, TypeError, r"^y must not be bool: use y.long\(\) .*\(arrays: astype\).$"),
        (
            Y, None, ValueError,
            r"^num_classes is required to turn torch.int64 labels into soft targets. Use KMixup\(..., num_classes=C\), "
            r"or plan.loss\(loss_fn, outputs, y\) with class indices, or y.float\(\) for regression targets.$",
        ),
        (
            {"a": Y}, 3, TypeError,
            r"^y must be a tensor or a numpy array, got dict. Use torch.as_tensor\(y\); labels of another structure go "
            r"to plan.loss\(loss_fn, outputs, y\).$",
        ),
        (Y[0], 3, ValueError, r"got \[\]. Mixing acts on batches: mix after the DataLoader or in its collate_fn.$"),
        (Y - 1, 3, ValueError, "in 0..2.*got 3 outside, the first -1 at row 0.*takes labels that its loss ignores.$"),
        (Y.view(2, 2, 2), 3, ValueError, r"got \[2, 2, 2\]. Use plan.loss for maps of classes, floats for .*targets.$"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_what_they_should_are_refused(y, num_classes, error, message):
    with pytest.raises(error, match=message):
        soft_targets(y, num_classes)


def test_labels_stay_on_their_device_where_values_cannot_be_looked_at():
    soft = soft_targets(Y.to("meta"), 3)
    assert soft.is_meta
    assert soft.shape == (8, 3)
    refuse_unknown(soft)


def test_regression_targets_and_one_hot_maps_pass():
    assert soft_targets(torch.randn(8, 2)).shape == (8, 2)
    assert soft_targets(torch.randn(8)).shape == (8,)
    assert soft_targets(torch.rand(8, 3, 4, 4), 3).shape == (8, 3, 4, 4)
    assert soft_targets(torch.rand(8, 3).half(), 3).dtype == torch.float32


@pytest.mark.parametrize("make", [lambda y: y, lambda y: y.half(), lambda y: y.double(), lambda y: y.numpy()])
def test_distributions_with_nan_are_refused_where_they_would_be_mixed(make):
    soft = F.one_hot(Y, 3).float()
    soft[2, 1], x = float("nan"), torch.randn(8, 2)
    y, mixer = make(soft), KMixup(2, 1.0, num_classes=3)
    with pytest.raises(ValueError, match=r"1 row\(s\) with NaN or infinite values, the first is row 2.*plan.loss"):
        mixer(x, y)
    mixed = torch.as_tensor(mixer(x, y, where=torch.arange(8) != 2)[1])
    assert mixed.isnan().nonzero().tolist() == [[2, 1]]
    torch.testing.assert_close(
        torch.as_tensor(mixer.eval()(x, y)[1]), torch.as_tensor(y), equal_nan=True, check_dtype=False
    )


# --- predictions ------------------------------------------------------------------------------------------------------

WRONG = torch.where(Y.bool(), -0.5, 0.5)


@pytest.mark.parametrize(
    ("outputs", "y"),
    [
        (WRONG, Y.bool().long()),
        (WRONG, Y.bool()),
        (WRONG, Y.bool().float().view(8, 1)),
        (WRONG.view(8, 1), Y.bool().long()),
        (WRONG.view(8, 1), Y.bool().float().view(8, 1)),
        (WRONG.view(8, 1, 1).expand(8, 1, 5), Y.bool().long().view(8, 1).expand(8, 5)),
    ],
)
def test_one_logit_predicts_class_one_above_zero(outputs, y):
    assert not correct(outputs, y)[0].any()
    assert correct(-outputs, y)[0].all()


def test_soft_targets_count_by_their_largest_entry_and_several_labels_each():
    scores = F.one_hot(Y, 3).float()
    assert correct(scores, Y)[0].all()
    assert correct(scores, Y.view(8, 1))[0].all()
    assert correct(scores, 0.9 * scores + 0.1 / 3)[0].all()
    many = torch.ones(8, 3)
    with pytest.raises(
        ValueError,
        match=r"^soft targets must sum to one .*\(for several labels at once use multi_label=True\), got 8 that",
    ):
        correct(scores, many)
    with pytest.raises(ValueError, match="must sum to one"):  # 1.011, which is 1.0078 in bfloat16
        correct(torch.eye(2), torch.tensor([[1.0, 0.011], [0.0, 1.0]]).bfloat16())
    right, there = correct(torch.full((8, 3), 2.0), many, multi_label=True)
    assert right.all()
    assert right.shape == there.shape == (8, 3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_only_what_is_ignored_has_no_label(dtype):
    y = torch.tensor([0, 1, 255, 156]).to(dtype)
    outputs = torch.zeros(4, 2)
    assert correct(outputs, y)[1].all()
    assert correct(outputs, y, ignore_index=255)[1].tolist() == [True, True, False, True]
    assert correct(outputs, torch.tensor([0, -100, 1, 2**32 - 100]))[1].tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("outputs", "y", "options", "message"),
    [
        (torch.zeros(8, 3), torch.zeros(8), {}, r"class indices \[8\].*got torch.float32 \[8\]"),
        (torch.zeros(8, 3), torch.zeros(8, 2).long(), {}, r"class indices \[8\]"),
        (torch.zeros(8), torch.full((8,), 3.0), {}, r"^targets of a logit must lie in \[0, 1\], got 8 that do not.$"),
        (torch.zeros(8, 3), torch.zeros(8).long(), {"multi_label": True}, "shape of the outputs"),
    ],
)
def test_labels_that_do_not_fit_the_outputs_are_refused(outputs, y, options, message):
    with pytest.raises(ValueError, match=message):
        correct(outputs, y, **options)
