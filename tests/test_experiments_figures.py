"""The pictures: what they draw is what they were given, and the command line makes them."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from typer.testing import CliRunner

from kmixup import theory
from kmixup.cli.app import app
from kmixup.estimate import Estimate
from kmixup.experiments.pictures import couplings, toys
from kmixup.experiments.pictures import theory as pictures
from kmixup.style import save


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_bars(n=128):
    y = torch.arange(n) % 2
    return torch.rand(n, 2, generator=generator()) + 3.0 * torch.stack([y, torch.zeros(n)], 1), y


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def segments(axes):
    """Coupling lines of a panel: those within the first class, within the second, across."""
    return [[np.asarray(s) for s in c.get_segments()] for c in axes.collections if isinstance(c, LineCollection)]


def test_couplings_draws_a_column_for_every_k_and_set():
    sets = {"a": two_bars(), "b": two_bars(64)}
    figure = couplings.couplings(sets, (1, 16), 1.0, generator())
    assert len(figure.axes) == 2 * 2 * 2
    assert [axes.get_title() for axes in figure.axes[:4]] == ["a, k = 1", "b, k = 1", "a, k = 16", "b, k = 16"]


def test_couplings_join_data_points_and_are_black_exactly_across_the_classes():
    x, y = two_bars()
    figure = couplings.couplings({"bars": (x, y)}, (1, 32), 1.0, generator())
    for axes in figure.axes[:2]:
        lines = segments(axes)
        assert sum(map(len, lines)) == len(x)
        for label, kept in enumerate(lines):
            for start, end in kept:
                sides = [start[0] > 2, end[0] > 2]
                assert sides == [[False] * 2, [True] * 2][label] if label < 2 else sides[0] != sides[1]
    crossing = [len(segments(axes)[2]) for axes in figure.axes[:2]]
    assert crossing[1] < crossing[0]  # 32-mixup crosses less often than mixup


def test_vicinal_points_lie_on_the_couplings():
    x, y = two_bars()
    figure = couplings.couplings({"bars": (x, y)}, (8,), 1.0, generator())
    top, bottom = figure.axes
    ends = np.concatenate([np.stack(lines) for lines in segments(top) if lines])
    mixed = np.asarray(bottom.collections[0].get_offsets())
    along, start = ends[:, 1] - ends[:, 0], ends[:, 0]
    t = ((mixed[:, None] - start) * along).sum(-1) / (along**2).sum(-1)
    away = np.linalg.norm(mixed[:, None] - start - t.clip(0, 1)[..., None] * along, axis=-1).min(1)
    assert away.max() < 1e-5


def test_partner_distributions_names_the_share_of_the_other_class():
    x, y = two_bars(16)
    distribution = torch.zeros(16, dtype=torch.float64)
    distribution[0], distribution[1] = 0.75, 0.25  # point 1 is of the other class
    figure = toys.partner_distributions({"bars": toys.Partners(x, y, 0, distribution)}, 4)
    assert figure.axes[0].get_title() == "bars\n25 % to the other class"


def test_decision_surfaces_say_when_the_protocol_was_reduced(tmp_path):
    x, y = two_bars(16)
    surface = toys.Surface(torch.linspace(0, 1, 64).view(8, 8), (0.0, 4.0, 0.0, 1.0), x, y, 0.125)
    figure = toys.decision_surfaces({"bars": {"ERM": surface, "mixup": surface}}, note="reduced protocol: 3 epochs")
    assert [axes.get_title() for axes in figure.axes[:2]] == ["ERM: test error 12.5 %", "mixup: test error 12.5 %"]
    assert figure.get_suptitle() == "reduced protocol: 3 epochs"


def test_the_same_picture_is_the_same_file(tmp_path):
    files = [
        save(couplings.couplings({"bars": two_bars()}, (4,), 1.0, generator()), tmp_path / name)
        for name in ("first", "second")
    ]
    for first, second in zip(*files, strict=True):
        assert first.stat().st_size > 5000
        assert first.read_bytes() == second.read_bytes()
    assert [file.suffix for file in files[0]] == [".pdf", ".png"]


def test_theory_plots_draw_the_studies_they_are_given():
    supports = [theory.study_support(m, [1, 64, 128], pairs=256, generator=generator()) for m in (theory.sphere(1),)]
    left, right = pictures.manifold_support(supports).axes
    assert_line(left, supports[0].share)
    assert f"slope {supports[0].slope(64):.2f}" in right.get_legend().get_texts()[0].get_text()

    balls = theory.Balls(torch.tensor([[0.0, 0.0], [9.0, 0.0]], dtype=torch.float64), 0.5)
    studies = theory.study_clusters(balls, [4, 16], draws=20, generator=generator())
    (axes,) = pictures.crossing_matches({"two": studies}).axes
    assert_line(axes, [s.lemma_exact / s.k for s in studies])

    shares = [Estimate(0.2, 0.05, 10), Estimate(0.9, 0.01, 10)]
    (axes,) = pictures.bands({"disks": ([4, 16], {"eps": shares})}).axes
    assert_line(axes, [0.2, 0.9])
    (_, _, (bars,)) = axes.containers[0]
    assert np.ptp(bars.get_segments()[0][:, 1]) == pytest.approx(4 * 0.05)

    study = pictures.ExpansionStudy(
        [0.1, 0.2], {1: [1e-4, 8e-4]}, [1, 2], {"R": [0.5, 0.1]}, 1.0, [0.1, 1], {1: [3, 4]}
    )
    for axes, values in zip(pictures.expansion(study).axes, ([1e-4, 8e-4], [0.5, 0.1], [3, 4]), strict=True):
        assert_line(axes, values)


def assert_line(axes, values):
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]
    assert any(len(d) == len(values) and np.allclose(d, values) for d in drawn), "no line has these values"


def test_reproduce_draws_figure_2(tmp_path):
    result = run("reproduce", "figure2", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figure2.pdf", "figure2.png"]
    assert str(tmp_path / "figure2.png") in result.output


@pytest.mark.slow
def test_reproduce_draws_figure_1_with_fewer_epochs(tmp_path):
    result = run("reproduce", "figure1", "--epochs", 1, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "figure1.png").stat().st_size > 20_000


@pytest.mark.slow
def test_figure_3_and_the_theory_pictures_are_drawn(tmp_path):
    files = toys.figure3(tmp_path, draws=200) + pictures.theory_pictures(tmp_path, max_k=64)
    assert len(files) == 10
    assert all(file.stat().st_size > 5000 for file in files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("figure4",), "figure4"),
        (("figure2", "--epochs", 3), "--epochs does not apply to figure2"),
        (("theory", "--trials", 3, "--dry-run"), "--trials, --dry-run does not apply to theory"),
    ],
)
def test_reproduce_refuses_what_does_not_apply_to_a_picture(arguments, message):
    with pytest.raises(ValueError, match=message):
        CliRunner().invoke(app, ["reproduce", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)
