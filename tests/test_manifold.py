"""k-mixup in hidden layers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kmixup import KMixup
from kmixup.manifold import KManifoldMixup


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()


def manifold(model, layers=("0",), *, k=4, mix_input=False, seed=0):
    return KManifoldMixup(model, layers, KMixup(k, 1.0, generator=generator(seed)), mix_input=mix_input)


def batch(n=16):
    return torch.randn(n, 3, generator=generator(1), dtype=torch.float64), torch.arange(n) % 4


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_mixing_a_layer_is_the_rest_of_the_network_on_the_mixed_features():
    model = net()
    x, _ = batch()
    outputs, plan = manifold(copy.deepcopy(model))(x)
    expected = model[1:](plan.mix(model[0](x)))
    torch.testing.assert_close(outputs, expected)
    assert not torch.equal(outputs, net()(x))


def test_the_matching_is_on_the_features_of_the_layer():
    model = net()
    x, _ = batch()
    drawn = manifold(model, ["0"])
    _, plan = drawn(x)
    stream = generator()
    torch.randint(1, (), generator=stream)  # the layer's draw
    same_stream = KMixup(4, 1.0, generator=stream)
    expected = same_stream.plan(model[0](x))
    torch.testing.assert_close(plan.partner, expected.partner)
    torch.testing.assert_close(plan.lam, expected.lam)
    on_inputs = KMixup(4, 1.0, generator=generator()).plan(x)
    assert not torch.equal(plan.partner, on_inputs.partner)


def test_planted_clusters_of_a_layer_are_matched_within_themselves():
    # The layer sees only coordinate 1; the other, much larger, would match differently.
    pick = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        pick.weight.copy_(torch.tensor([[0.0, 1.0]]))
    cluster = torch.arange(16) % 2
    x = torch.stack([1000 * torch.rand(16, generator=generator()), 10.0 * cluster], 1)
    mixer = KMixup(8, 1.0, generator=generator(3))
    _, plan = KManifoldMixup(nn.Sequential(pick), ["0"], mixer, mix_input=False)(x)
    unmatched_share = (cluster == cluster[plan.unmatched]).double().mean()
    assert plan.stats(pick(x).detach(), cluster).same_class_share > unmatched_share


def test_input_and_layers_are_drawn_equally_often():
    drawn = manifold(net(), ["0", "2"], mix_input=True)
    n = 3000
    counts = dict.fromkeys((None, "0", "2"), 0)
    for _ in range(n):
        counts[drawn.draw()] += 1
    for count in counts.values():
        assert abs(count - n / 3) < 5 * (n * (1 / 3) * (2 / 3)) ** 0.5


def test_mixing_the_input_is_k_mixup():
    model = net().eval()
    x, _ = batch()
    wrapped = KManifoldMixup(model, [], KMixup(4, 1.0, generator=generator()))
    wrapped.train()
    outputs, plan = wrapped(x)
    torch.testing.assert_close(outputs, net()(plan.mix(x)))


def test_labels_are_mixed_with_the_plan_of_the_layer():
    x, y = batch()
    outputs, plan = manifold(net())(x)
    soft = plan.mix(F.one_hot(y, 4).double())
    torch.testing.assert_close(plan.loss(F.cross_entropy, outputs, y), F.cross_entropy(outputs, soft))


def test_gradients_reach_the_layers_before_and_after():
    model = net()
    x, y = batch()
    outputs, plan = manifold(model)(x)
    plan.loss(F.cross_entropy, outputs, y).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [model[0].weight, model[3].weight])


def test_nothing_is_left_on_the_model():
    model = net()
    before = set(vars(model)) | set(vars(model[0]))
    wrapped = manifold(model)
    wrapped(batch()[0])
    assert hooks(model) == 0
    assert set(vars(model)) | set(vars(model[0])) == before


def test_hooks_are_removed_when_the_pass_raises():
    class Breaks(nn.Module):
        def forward(self, x):
            raise KeyError("broken on purpose")

    model = nn.Sequential(nn.Linear(3, 8), Breaks()).double()
    with pytest.raises(KeyError, match="on purpose"):
        manifold(model)(batch()[0])
    assert hooks(model) == 0


def test_hooks_are_removed_when_the_matching_raises():
    model = net()
    x, _ = batch()
    x[3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        manifold(model)(x)
    assert hooks(model) == 0


def test_batch_norm_sees_each_batch_once():
    model = net()
    manifold(model)(batch()[0])
    assert model[1].num_batches_tracked == 1


def test_eval_mode_mixes_nothing_and_draws_nothing():
    model = net()
    wrapped = manifold(model, mix_input=True).eval()
    state = wrapped.mixer.generator.get_state()
    x, y = batch()
    outputs, plan = wrapped(x)
    torch.testing.assert_close(outputs, model(x), rtol=0, atol=0)
    torch.testing.assert_close(plan.loss(F.cross_entropy, outputs, y), F.cross_entropy(outputs, y))
    assert torch.equal(wrapped.mixer.generator.get_state(), state)


@pytest.mark.parametrize("seed", range(4))
def test_it_works_under_autocast(seed):
    model = net().float()
    x, y = batch()
    wrapped = manifold(model, ["0", "2"], mix_input=True, seed=seed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, plan = wrapped(x.float())
        loss = plan.loss(F.cross_entropy, outputs, y)
    loss.backward()
    assert outputs.dtype == torch.bfloat16
    assert torch.isfinite(model[0].weight.grad).all()


def test_equal_seeds_give_equal_passes():
    x, _ = batch()
    first = [manifold(net(), ["0", "2"], mix_input=True, seed=5)(x)[0] for _ in range(2)]
    torch.testing.assert_close(*first, rtol=0, atol=0)


def test_a_layer_that_is_called_twice_is_mixed_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = Twice().double()
    x, _ = batch()
    outputs, plan = manifold(model, ["layer"])(x)
    torch.testing.assert_close(outputs, model.layer(plan.mix(model.layer(x))))


def test_structured_outputs_and_further_arguments_pass_through():
    class Body(nn.Module):
        def forward(self, x, scale):
            return {"features": x * scale}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Body()

        def forward(self, x, scale=1.0):
            return self.body(x, scale)["features"]

    x, _ = batch()
    outputs, plan = manifold(Model(), ["body"])(x, scale=3.0)
    torch.testing.assert_close(outputs, plan.mix(3.0 * x))


def test_integer_inputs_can_be_mixed_in_a_hidden_layer():
    tokens = torch.arange(16) % 5
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 4))
    outputs, plan = manifold(model)(tokens)
    torch.testing.assert_close(outputs, model[1](plan.mix(model[0](tokens))))
    assert len(manifold(model).eval()(tokens)[1]) == 16


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match=r"no layer 'conv9'\. Its first layers are 0, 1, 2, 3"):
        manifold(net(), ["conv9"])


def test_one_name_is_no_sequence_of_names():
    with pytest.raises(TypeError, match=r"layers must be a sequence of names, got '0'\. Use layers=\['0'\]"):
        manifold(net(), "0")


def test_layers_named_twice_are_refused():
    with pytest.raises(ValueError, match="named once"):
        manifold(net(), ["0", "0"])


def test_no_place_to_mix_is_refused():
    with pytest.raises(ValueError, match="mix_input=True"):
        manifold(net(), [])


def test_a_layer_that_is_not_called_is_an_error():
    model = net()
    model.add_module("unused", nn.Identity())
    model.forward = lambda x: model[0](x)
    with pytest.raises(RuntimeError, match="'unused' was not called"):
        manifold(model, ["unused"])(batch()[0])


def test_a_layer_without_the_batch_dimension_does_not_fit_the_labels():
    class Transpose(nn.Module):
        def forward(self, x):
            return x.T.contiguous()

    model = nn.Sequential(Transpose())
    outputs, plan = manifold(model, k=1)(batch()[0])
    with pytest.raises(ValueError, match=r"batch length 3 first, got shape \[16\]"):
        plan.loss(F.cross_entropy, outputs, batch()[1])


def test_after_pooling_the_plan_is_over_graphs_and_inputs_may_be_any_object():
    class Pool(nn.Module):
        def forward(self, h, graph):
            return torch.zeros(int(graph.max()) + 1, h.shape[1], dtype=h.dtype).index_add(0, graph, h)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.head = Pool(), nn.Linear(3, 4)

        def forward(self, data):
            return self.head(self.pool(data.x, data.graph))

    class Data:
        x, graph = batch(24)[0].float(), torch.arange(24) // 2

    y = torch.arange(12) % 4
    model = Net()
    wrapped = manifold(model, ["pool"])
    outputs, plan = wrapped(Data())
    pooled = model.pool(Data.x, Data.graph)
    torch.testing.assert_close(outputs, model.head(plan.mix(pooled)))
    assert torch.isfinite(plan.loss(F.cross_entropy, outputs, y))
    assert len(wrapped.eval()(Data())[1]) == 12


def test_inputs_by_name_are_mixed_by_their_rules():
    class Net(nn.Module):
        def forward(self, values, attention_mask=None):
            return values, attention_mask

    x = batch()[0]
    mask = torch.arange(3) < torch.arange(16)[:, None] % 4
    (values, united), plan = manifold(Net(), [], mix_input=True)(values=x, attention_mask=mask)
    torch.testing.assert_close(values, plan.mix(x))
    assert torch.equal(united, mask | mask[plan.partner])


def test_a_hidden_output_may_hold_what_is_not_mixed():
    class Body(nn.Module):
        def forward(self, x):
            return x, None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Body()

        def forward(self, x):
            return self.body(x)[0]

    x = batch()[0]
    outputs, plan = manifold(Net(), ["body"])(x)
    torch.testing.assert_close(outputs, plan.mix(x))


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_without_mixing_nothing_is_drawn_and_lam_keeps_its_shape(lam_per):
    for alpha, training in ((0.0, True), (1.0, False)):
        mixer = KMixup(4, alpha, lam_per=lam_per, generator=generator())
        wrapped = KManifoldMixup(net(), ["0", "2"], mixer).train(training)
        outputs, plan = wrapped(batch()[0])
        assert plan.lam.shape == (() if lam_per == "batch" else (16,))
        assert (plan.lam == 1).all()
        assert torch.equal(mixer.generator.get_state(), generator().get_state())
        assert len(outputs) == 16


def test_an_overflow_in_a_hidden_layer_is_kept_for_the_scaler_to_see():
    model = net()
    x, y = batch()
    x[3] = float("inf")
    with pytest.raises(ValueError, match="NaN or infinite") as error:
        manifold(model)(x)
    assert "on_nonfinite" in error.value.__notes__[0]
    wrapped = KManifoldMixup(model, ["0"], KMixup(4, 1.0), mix_input=False, on_nonfinite="keep")
    outputs, plan = wrapped(x)
    assert not torch.isfinite(plan.loss(F.cross_entropy, outputs, y))
    assert len(plan) == 16
    with pytest.raises(ValueError, match="on_nonfinite must be one of raise, keep"):
        KManifoldMixup(model, ["0"], KMixup(4, 1.0), on_nonfinite="skip")


def test_a_network_compiled_before_is_named_as_the_reason():
    model = net()
    model.add_module("unused", nn.Identity())
    model.forward = lambda x: model[0](x)
    model._compiled_call_impl = model.forward
    with pytest.raises(RuntimeError, match=r"skip_nnmodule_hook_guards = False"):
        manifold(model, ["unused"])(batch()[0])
