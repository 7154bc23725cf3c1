"""Where torch users meet the mixer: compile, autocast, torchvision's transforms, a DataLoader, a training loop."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from kmixup import Coupling, KManifoldMixup, KMixup, assign, calibrate, cut, match


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 24) -> torch.Tensor:
    return torch.rand(batch, 3, 8, 8, generator=generator())


def labels(batch: int = 24) -> torch.Tensor:
    return torch.randint(5, (batch,), generator=generator())


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("k", [1, 4, 8])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_the_compiled_mixer_draws_what_the_eager_one_draws(k, lam_per):
    eager, compiled = (KMixup(k, 1.0, lam_per=lam_per, num_classes=5, generator=generator()) for _ in range(2))
    compiled = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for batch in (24, 24, 19):  # a ragged last batch recompiles, and draws on
        expected, found = eager(images(batch), labels(batch)), compiled(images(batch), labels(batch))
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_a_compiled_step_follows_alpha_and_the_mode(lam_per):
    mixer = KMixup(4, 0.0, lam_per=lam_per, num_classes=5, generator=generator())

    @torch.compile(fullgraph=True, backend="aot_eager")
    def prepare(x, y):
        plan = mixer.plan(x)
        return plan.mix(x), plan.mix(F.one_hot(y, 5).float()), plan.lam, plan.partner

    for alpha, training in ((0.0, True), (1.0, True), (0.4, True), (1.0, False), (1.0, True)):
        mixer.alpha = alpha
        x, soft, lam, partner = prepare(images(), labels()) if mixer.train(training) else ()
        weight = lam.float().view(-1, 1, 1, 1)
        torch.testing.assert_close(x, weight * images() + (1 - weight) * images()[partner])
        torch.testing.assert_close(soft.sum(1), torch.ones(24))
        assert bool((lam == 1).all()) == (alpha == 0 or not training)


@pytest.mark.usefixtures("fresh_compiler")
def test_structured_batches_compile_whole():
    batch = {"views": {"image": images(), "attention_mask": labels() > 2}, "label": labels(), "path": ["a"] * 24}
    eager, compiled = (KMixup(4, 1.0, num_classes=5, generator=generator()) for _ in range(2))
    expected, found = eager(batch), torch.compile(compiled, fullgraph=True, backend="aot_eager")(batch)
    torch.testing.assert_close(found["views"]["image"], expected["views"]["image"])
    assert torch.equal(found["views"]["attention_mask"], expected["views"]["attention_mask"])
    torch.testing.assert_close(found["label"], expected["label"])


@pytest.mark.usefixtures("fresh_compiler")
def test_two_plans_in_one_compiled_graph_are_two_draws():
    mixer = KMixup(4, 1.0)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def twice(x):
        return mixer.plan(x).partner, mixer.plan(x).partner

    first, second = twice(images())
    assert not torch.equal(first, second)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_a_training_step_compiles_whole_with_the_default_backend():
    mixer, model = KMixup(4, 1.0, num_classes=5, generator=generator()), torch.nn.Linear(192, 5)

    @torch.compile(fullgraph=True)
    def step(x, y):
        x, y = mixer(x, y)
        return F.cross_entropy(model(x.flatten(1)), y)

    compiled_loss = step(images(), labels())
    x, y = KMixup(4, 1.0, num_classes=5, generator=generator())(images(), labels())
    torch.testing.assert_close(compiled_loss, F.cross_entropy(model(x.flatten(1)), y))
    compiled_loss.backward()
    assert model.weight.grad is not None


# --- function transforms ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:FutureWarning")  # jvp of torch itself uses it
@pytest.mark.parametrize("options", [{}, {"lam_per": "sample"}, {"within": "label"}, {"metric": torch.cdist}])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_derivatives_of_torch_func_are_those_of_autograd(k, options):
    x, y, net = torch.randn(10, 4, generator=generator(1)), torch.arange(10) % 2, torch.nn.Linear(4, 2)

    def loss(parameters, x):
        x, y_soft = KMixup(k, 1.0, num_classes=2, generator=generator(), **options)(x, y)
        return F.cross_entropy(torch.func.functional_call(net, parameters, x), y_soft)

    trained = dict(net.named_parameters()), x.clone().requires_grad_()
    expected = torch.autograd.grad(loss(*trained), [*trained[0].values(), trained[1]])
    frozen = {name: each.detach() for name, each in net.named_parameters()}
    to_parameters, to_x = torch.func.grad(loss, argnums=(0, 1))(frozen, x)
    torch.testing.assert_close((*to_parameters.values(), to_x), expected)
    (alone,) = torch.func.vjp(lambda parameters: loss(parameters, x), frozen)[1](torch.ones(()))
    torch.testing.assert_close(alone, to_parameters)
    _, along = torch.func.jvp(lambda x: loss(frozen, x), (x,), (torch.ones(10, 4),))
    torch.testing.assert_close(along, to_x.sum())


@pytest.mark.parametrize("solve", [assign, match])
def test_a_matched_cost_has_a_derivative_under_torch_func(solve):
    cost = torch.rand(3, 5, 5, generator=generator())
    found = torch.func.grad(lambda cost: cost.gather(-1, solve(cost).unsqueeze(-1)).sum())(cost)
    torch.testing.assert_close(found, F.one_hot(assign(cost), 5).float())


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_a_plan_may_be_applied_to_many_batches_by_vmap(lam_per):
    many, mixer = torch.randn(3, 8, 4, generator=generator()), KMixup(2, 1.0, lam_per=lam_per)
    for plan, x2 in ((mixer.plan(many[0]), None), (mixer.plan(many[0], many[1]), many[2])):
        expected = torch.stack([plan.mix(x, x2) for x in many])
        torch.testing.assert_close(torch.vmap(lambda x, plan=plan, x2=x2: plan.mix(x, x2))(many), expected)
    assert torch.equal(many, torch.randn(3, 8, 4, generator=generator()))


def test_fake_tensors_are_mixed_to_the_shapes_and_types_that_real_ones_get():
    x, y, mixer = torch.randn(8, 4, dtype=torch.float16), torch.arange(8) % 3, KMixup(2, 1.0, num_classes=3)
    with FakeTensorMode() as mode:
        fake = mixer(mode.from_tensor(x), mode.from_tensor(y))
    for found, expected in zip(fake, mixer(x, y), strict=True):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


# --- defaults of the process ------------------------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


POINTS, NETWORK = images().flatten(1), torch.nn.Identity()
EVERYTHING = {
    "plain": lambda x, y: KMixup(4, 1.0, num_classes=5)(x, y),
    "arrays": lambda x, y: KMixup(4, 1.0, num_classes=5)(x.numpy(), y.numpy()),
    "seeded": lambda x, y: KMixup(4, 1.0, num_classes=5, generator=generator(), p=0.5, lam_per="sample")(x, y),
    "within": lambda x, y: KMixup(4, 1.0, num_classes=5, within="label", lam_per="block")(x, y),
    "where": lambda x, y: KMixup(4, 1.0, num_classes=5, label_weight=1.0)(x, y, where=y != 3),
    "both": lambda x, y: KMixup(4, 1.0, match_on="both")(x, x[:, :2]),
    "off": lambda x, y: KMixup(4, 0.0, num_classes=5)(x, y),
    "parts": lambda x, y: [part.mix(x) for part in KMixup(4, 1.0).plan(x).split(7)],
    "cut": lambda x, y: cut(KMixup(4, 1.0).plan(x), (8, 8)).boxes,
    "hidden": lambda x, y: KManifoldMixup(NETWORK, [], KMixup(4, 1.0))(x)[0],
    "coupling": lambda x, y: Coupling(4)(x, x.flip(0), x[:, :2], x[:, :2]).mix(x, x.flip(0)),
    "match": lambda x, y: match(x[:, :6].view(4, 6, 6), rows=[3, 6, 2, 1]),
    "scipy": lambda x, y: match(x[:, :6].view(4, 6, 6), rows=[3, 6, 2, 1], solver="scipy"),
    "calibrate": lambda x, y: torch.tensor(calibrate(x, 4, 0.2, pairs=64).alpha_k, dtype=torch.float64, device="cpu"),
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize(
    "ambient",
    [lambda: torch.device("meta"), lambda: default_dtype(torch.bfloat16), lambda: default_dtype(torch.float64)],
    ids=["device", "bfloat16", "float64"],
)
def test_neither_draws_nor_results_depend_on_torchs_default_device_and_dtype(ambient, name):
    y, call = labels(), EVERYTHING[name]
    torch.manual_seed(0)
    expected = call(POINTS, y)
    torch.manual_seed(0)
    with ambient():
        found = call(POINTS, y)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


# --- beside other parts of torch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_neither_partners_nor_dtypes(dtype):
    outside = KMixup(8, 1.0, num_classes=5, generator=generator())(images(), labels())
    with torch.autocast("cpu", dtype):
        inside = KMixup(8, 1.0, num_classes=5, generator=generator())(images(), labels())
    for found, expected in zip(inside, outside, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)


def test_random_choice_of_torchvision_takes_the_mixer_beside_cutmix():
    choice = v2.RandomChoice([v2.CutMix(num_classes=5), KMixup(8, 1.0, num_classes=5)])
    torch.manual_seed(0)
    for _ in range(6):
        x, y = choice(images(), labels())
        assert x.shape == (24, 3, 8, 8)
        torch.testing.assert_close(y.sum(1), torch.ones(24))


def test_one_mixed_batch_equals_torchvisions_mixup_with_the_same_partner_and_lam():
    # v2.MixUp rolls the batch by one; a plan with that partner and its lam gives its answer.
    torch.manual_seed(3)
    x_theirs, y_theirs = v2.MixUp(alpha=1.0, num_classes=5)(images(), labels())
    torch.manual_seed(3)
    lam = torch._sample_dirichlet(torch.tensor([1.0, 1.0]))[0]
    plan = KMixup(1, 1.0).plan(images())
    same = type(plan)(partner=torch.arange(24).roll(1), lam=lam, unmatched=plan.unmatched)
    torch.testing.assert_close(same.mix(images()), x_theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(same.mix(F.one_hot(labels(), 5).float()), y_theirs, rtol=0, atol=1e-6)


def test_a_collate_function_mixes_in_the_main_process_too():
    mixer = KMixup(4, 1.0, num_classes=5)
    loader = DataLoader(
        TensorDataset(images(), labels()), batch_size=8, collate_fn=lambda batch: mixer(*default_collate(batch))
    )
    for x, y in loader:
        assert x.shape == (8, 3, 8, 8)
        assert y.shape == (8, 5)


def test_a_small_network_learns_with_both_forms_of_the_loss():
    x = torch.randn(256, 2, generator=generator())
    y = (x[:, 0] > 0).long()
    accuracy = {}
    for form in ("soft", "two-target"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        mixer = KMixup(16, 1.0, num_classes=2, generator=generator())
        for _ in range(100):
            if form == "soft":
                x_mixed, y_soft = mixer(x, y)
                loss = F.cross_entropy(model(x_mixed), y_soft)
            else:
                plan = mixer.plan(x)
                loss = plan.loss(F.cross_entropy, model(plan.mix(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy[form] = float((model(x).argmax(1) == y).double().mean())
    assert accuracy["soft"] > 0.95
    assert accuracy["two-target"] == pytest.approx(accuracy["soft"], abs=0.02)
