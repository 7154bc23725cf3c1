"""The playground in a real browser: its solver and numbers are kmixup's; hands, keys and small screens can use it."""

import json
import re

import numpy as np
import pytest
import torch
from scipy.stats import beta

from kmixup import KMixup, assign, diagnose, min_lam_sq, theory, transport_cost
from kmixup.cli.app import app
from kmixup.experiments.playground.page import playground
from kmixup.geometry import intrusions
from kmixup.matching import partners
from kmixup.measure import mean_sq_distance

SIZES = {"wide": (1280, 860), "tablet": (800, 1000), "phone": (400, 860)}
SETS = ("one-ring", "four-bars", "swiss-roll", "two-moons", "three-clusters")
QUICK = 0.1  # seconds that a change may take
NOISE = 3  # how much slower a busy machine may be


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    path.write_text(playground(), encoding="utf-8")
    return path


@pytest.fixture
def opened(page, file):
    """Opens the page at an address of its own."""

    def open_at(address="", size="wide"):
        page.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
        page.goto(f"{file.as_uri()}#{address}")
        return page

    return open_at


def until(page, expression):
    """Waits until this is true. (Playwright's own waiting evaluates text in the page, whose policy forbids that.)"""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"never true: {expression}")


def state(page):
    """What is shown once it has settled."""
    until(page, "kmixupPlayground.state().classes.length < 2 || kmixupPlayground.state().means !== null")
    return page.evaluate("kmixupPlayground.state()")


def load(page, x, y, **settings):
    given = {"points": x.flatten().tolist(), "classes": y.tolist(), **settings}
    return page.evaluate("given => kmixupPlayground.load(given)", given)


def place(page, x, y):
    """Where a point of the square [-1, 1]^2 lies on the canvas of the couplings, in pixels of the page."""
    box = page.locator("#couplings").bounding_box()
    return box["x"] + (x + 1.08) / 2.16 * box["width"], box["y"] + (1.08 - y) / 2.16 * box["height"]


def data(shown):
    return torch.tensor(shown["points"], dtype=torch.float64).view(-1, 2), torch.tensor(shown["classes"])


def problems(count=200):
    """Square cost matrices of 1 to 64 rows: plain, of points, tied, with equal rows, far from zero, of mixed scales."""
    rng = np.random.default_rng(0)
    for number in range(count):
        k = 1 + number * 63 // (count - 1)
        cost = rng.random((k, k))
        match number % 6:
            case 1:
                left, right = rng.normal(size=(2, k, 2))
                cost = np.square(left[:, None] - right).sum(2)
            case 2:
                cost = rng.integers(0, 3, (k, k)).astype(float)
            case 3:
                cost = cost[rng.integers(0, k, k)]
            case 4:
                cost = 1e6 + cost
            case 5:
                cost = cost * 10.0 ** rng.integers(-6, 6, (k, 1)) - 1
        yield cost


def test_its_assignments_cost_what_those_of_kmixup_cost(opened):
    costs = list(problems())
    given = [[cost.flatten().tolist(), len(cost)] for cost in costs]
    found = opened().evaluate("given => given.map(([cost, k]) => kmixupPlayground.assign(cost, k))", given)
    for cost, sigma in zip(map(torch.from_numpy, costs), map(torch.tensor, found), strict=True):
        assert sigma.sort().values.equal(torch.arange(len(cost)))
        best, got = transport_cost(cost, assign(cost)), transport_cost(cost, sigma)
        torch.testing.assert_close(got, best, rtol=1e-9, atol=1e-12 * float(cost.abs().max()))


def test_a_cost_that_is_no_number_is_refused(opened):
    said = opened().evaluate(
        "() => { try { kmixupPlayground.assign([0, NaN, 1, 2], 2) } catch (e) { return e.message } }"
    )
    assert said == "cost must be finite."


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 2.0, 16.0, 100.0])
def test_lam_has_the_law_of_lam(opened, alpha):
    us = [1e-6, 0.01, 0.2, 0.499, 0.5, 0.7, 0.99]
    page = opened()
    found = page.evaluate("([us, alpha]) => kmixupPlayground.lamsAt(us, alpha)", [us, alpha])
    np.testing.assert_allclose(found, beta.ppf(us, alpha, alpha), rtol=1e-8)
    assert page.evaluate("alpha => kmixupPlayground.minLamSq(alpha)", alpha) == pytest.approx(
        min_lam_sq(alpha), rel=1e-10
    )


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [1, 7, 64])
def test_the_numbers_on_the_page_are_those_of_kmixup(opened, name, k):
    page = opened(f"set={name}&n=300&k={k}&alpha=0.5&seed=3")
    shown = state(page)
    x, y = data(shown)
    order, partner, lam = (torch.tensor(shown[part]) for part in ("order", "partner", "lam"))
    assert shown["k"] == k
    assert order.sort().values.equal(torch.arange(300))
    plan = KMixup(k, 0.5, lam_per="sample").meet(x, order=order, lam=lam.double())
    distance = plan.stats(x).matched_sq_distance
    assert float((x - x[partner]).square().sum(1).mean()) == pytest.approx(distance, rel=1e-9)
    assert partner.equal(partners(x, order, k))
    share = float((y == y[partner]).double().mean())
    itself = torch.zeros(300, 300, dtype=torch.bool)
    itself[torch.arange(300), torch.arange(300)] = itself[torch.arange(300), partner] = True
    intruding = float(intrusions((x, x[partner]), (y, y[partner]), x, y, itself).double().mean())
    relative, xi = (distance / mean_sq_distance(x)) ** 0.5, (min_lam_sq(0.5) * distance) ** 0.5
    for element, value in {"same": share, "intrusion": intruding, "relative": relative}.items():
        assert abs(float(page.locator(f"#{element}-is").inner_text().removesuffix(" %")) - 100 * value) < 0.0501
    assert float(page.locator("#xi-is").inner_text()) == pytest.approx(xi, rel=0.006)
    means = page.locator("#same-mean-is").inner_text()
    assert (
        means
        == f"{100 * shown['means']['sameClass']['mean']:.1f} ± {100 * shown['means']['sameClass']['stdError']:.1f} %"
    )


def test_its_means_are_those_of_diagnose(opened):
    page = opened("set=three-clusters&n=128&k=8")
    means = state(page)["means"]
    x, y = data(state(page))
    row = diagnose(x, y, ks=(8,), batch_size=128, batches=200, generator=torch.Generator().manual_seed(0)).rows[0]
    for got, expected in ((means["sameClass"], row.same_class), (means["intrusion"], row.intrusion)):
        assert got["stdError"] > 0
        assert abs(got["mean"] - expected.mean) < 5 * (got["stdError"] ** 2 + expected.std_error**2) ** 0.5


def test_the_partners_of_a_point_follow_its_locally_informed_distribution(opened):
    page = opened()
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(10, 2, dtype=torch.float64, generator=generator), torch.arange(10) % 3
    load(page, x, y, k=3, pick=4)
    until(page, "kmixupPlayground.state().draws === 2000")
    counts = torch.tensor(state(page)["counts"]).double()
    exact = theory.local_distributions(x, 3)[4]
    assert counts.sum() == 2000
    assert counts[exact == 0].sum() == 0
    assert ((counts / 2000 - exact).abs() <= 5 * (exact * (1 - exact) / 2000).sqrt()).all()
    words = page.locator("#local-words").inner_text()
    assert words.startswith(f"Point 5, class 2: {int((counts > 0).sum())} different partners in 2000 draws")


def test_a_click_asks_about_the_nearest_point(opened):
    page = opened()
    load(page, torch.tensor([[-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]]), torch.tensor([0, 1, 0, 1]), k=2)
    page.mouse.click(*place(page, 0.45, -0.4))
    assert state(page)["picked"] == 2
    assert page.locator("#local-words").inner_text().startswith("Point 3, class 1:")
    assert page.locator("#pick").input_value() == "3"


def test_points_are_drawn_erased_and_kept_in_the_address(opened):
    page = opened()
    page.get_by_role("button", name="Empty page").click()
    assert page.locator("#empty").is_visible()
    assert state(page)["classes"] == []
    page.mouse.click(*place(page, -0.5, 0.25))
    page.get_by_label("adds class 2").check()
    page.mouse.click(*place(page, 0.5, 0.25))
    page.get_by_label("adds class 3").check()
    page.mouse.move(*place(page, -0.5, -0.5))
    page.mouse.down()
    page.mouse.move(*place(page, 0.5, -0.5), steps=20)
    page.mouse.up()
    shown = state(page)
    assert shown["classes"][:2] == [0, 1]
    assert set(shown["classes"][2:]) == {2}
    assert len(shown["classes"]) > 8
    np.testing.assert_allclose(shown["points"][:4], [-0.5, 0.25, 0.5, 0.25], atol=0.01)
    page.get_by_label("erases a point").check()
    page.mouse.click(*place(page, -0.5, 0.25))
    until(page, "location.hash.includes('points=')")
    page.wait_for_timeout(400)
    page.reload()
    again = state(page)
    assert again["classes"] == shown["classes"][1:]
    np.testing.assert_allclose(again["points"], shown["points"][2:], atol=1e-3)


def test_a_set_that_is_drawn_on_keeps_its_points_where_they_are(opened):
    page = opened("set=four-bars&n=64")
    first = data(state(page))[0]
    page.get_by_label("adds class 1").check()
    page.mouse.click(*place(page, 0.0, 0.0))
    shown = data(state(page))[0]
    assert state(page)["set"] == "own"
    assert len(shown) == 65
    scale = (shown[1] - shown[0]).norm() / (first[1] - first[0]).norm()
    torch.testing.assert_close(shown[:64] - shown[0], (first - first[0]) * scale)


def test_a_change_shows_at_once(opened):
    """512 points at k = 64: a step of the slider, the pictures with it."""
    page = opened("set=swiss-roll&n=512&k=48&alpha=1&pick=1")
    state(page)
    seconds = page.evaluate(
        """async () => {
          const slider = document.getElementById("k"), taken = [];
          for (let turn = 0; turn < 20; turn++) {
            slider.value = turn % 2 ? 10 : 11;
            const start = performance.now();
            slider.dispatchEvent(new Event("input"));
            const k = kmixupPlayground.state().k;
            if (k === 64) taken.push((performance.now() - start) / 1000);
            await new Promise(requestAnimationFrame);
          }
          return taken;
        }"""
    )
    assert len(seconds) == 10
    print(f"512 points, k = 64: at best {1000 * min(seconds):.1f} ms, median {1000 * float(np.median(seconds)):.1f} ms")
    assert min(seconds) < NOISE * QUICK


def test_keys_alone_reach_everything_and_do_what_a_hand_does(opened):
    page = opened()
    reached = []
    while not reached or reached[-1] != "SUMMARY":
        page.keyboard.press("Tab")
        focused = "document.activeElement"
        reached.append(page.evaluate(f"{focused}.id || {focused}.value || {focused}.tagName"))
        assert len(reached) < 20
    choices = ["ask", "clear", "couplings", "together", "play", "SUMMARY"]  # a group of choices is one stop
    assert reached == ["set", "n", "seed", "redraw", "k", "alpha", "pick", *choices]
    page.locator("#k").focus()
    page.keyboard.press("ArrowRight")
    assert (state(page)["k"], page.locator("#k").get_attribute("aria-valuetext")) == (24, "24")
    page.locator("#alpha").focus()
    page.keyboard.press("End")
    assert state(page)["lam"] == [0.5] * 512
    page.locator("#redraw").focus()
    page.keyboard.press("Enter")
    assert state(page)["seed"] == 1
    page.locator("#couplings").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    assert state(page)["picked"] >= 0
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    page.locator("#couplings").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")
    shown = state(page)
    assert shown["classes"] == [0, 0]
    assert shown["points"][3] > shown["points"][1]
    until(page, "document.getElementById('said').textContent.startsWith('2 points, k = 1, alpha = inf')")


def test_a_lam_for_all_moves_every_point_to_its_partner(opened):
    page = opened("set=two-moons&n=64")
    page.get_by_label("one lam for all").check()
    page.locator("#lam").focus()
    page.keyboard.press("Home")
    assert state(page)["lam"] == [0] * 64
    page.get_by_role("button", name="Play").click()
    until(page, "kmixupPlayground.state().lam[0] > 0.5")
    page.get_by_role("button", name="Stop").click()
    page.get_by_label("one lam for all").uncheck()
    assert len(set(state(page)["lam"])) == 64


@pytest.mark.parametrize("size", SIZES)
def test_no_size_cuts_anything(opened, size):
    page = opened("set=one-ring&pick=2", size)
    state(page)
    page.locator("summary").click()
    width = SIZES[size][0]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.locator("input, output, button, canvas, dd, label").evaluate_all(
        "found => found.map(e => e.getBoundingClientRect()).filter(b => b.width > 1).map(b => [b.left, b.right])"
    )
    assert len(boxes) > 30
    assert all(left >= 0 and right <= width for left, right in boxes)
    # The slider and the whole picture that it changes are seen together.
    page.locator("#couplings").evaluate("e => e.scrollIntoView({ block: 'end', behavior: 'instant' })")
    slider, picture = (page.locator(name).bounding_box() for name in ("#k", "#couplings"))
    assert 0 <= slider["y"] < picture["y"]
    assert picture["y"] + picture["height"] <= SIZES[size][1] + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_in_light_and_dark(opened, scheme):
    page = opened()
    page.emulate_media(color_scheme=scheme)
    colour = page.evaluate(
        """names => {
          const look = getComputedStyle(document.documentElement);
          return Object.fromEntries(names.map(name => [name, look.getPropertyValue("--" + name).trim()]));
        }""",
        ["paper", "card", "ink", "quiet", "picked", "class-1", "class-2", "class-3"],
    )

    def light(name):
        parts = [int(colour[name][at : at + 2], 16) / 255 for at in (1, 3, 5)]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], parts))

    def contrast(one, other):
        low, high = sorted((light(one), light(other)))
        return (high + 0.05) / (low + 0.05)

    assert (light("paper") > 0.5) == (scheme == "light")
    assert all(contrast(text, paper) >= 4.5 for text in ("ink", "quiet", "picked") for paper in ("paper", "card"))
    assert all(contrast(f"class-{number}", "paper") >= 3 for number in (1, 2, 3))


def test_who_wants_no_motion_gets_none(opened):
    page = opened()
    assert page.locator("#play").is_visible()
    page.emulate_media(reduced_motion="reduce")
    assert page.locator("#play").is_hidden()


def test_a_hostile_address_is_refused_by_name_and_never_becomes_markup(opened):
    page = opened("set=<img src=x onerror=alert(1)>&k=-3&alpha=nan&n=1e9&seed=0.5&points=1,2,1;<b>,x,7")
    said = page.locator("#refused").inner_text()
    assert said == "Not understood in the address, and left out: set, n, k, alpha, seed, points."
    assert page.locator("img").count() == 0
    assert state(page)["k"] == 16


def test_a_seed_and_an_address_show_the_same_again(opened):
    address = "set=one-ring&n=200&k=12&alpha=0.2&seed=7"
    first, again = state(opened(address)), state(opened(f"{address}&pick=1"))
    other = state(opened("set=one-ring&n=200&k=12&alpha=0.2&seed=8"))
    assert all(first[part] == again[part] for part in ("order", "partner", "lam", "means"))
    assert all(first[part] != other[part] for part in ("order", "partner", "lam", "means"))


def test_the_page_is_one_file_that_names_no_other(file, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["playground", "--to", "site/play.html"], catch_exceptions=False)
    assert result.output == "wrote site/play.html. Open it in a browser.\n"
    written = (tmp_path / "site" / "play.html").read_text(encoding="utf-8")
    assert written == file.read_text(encoding="utf-8")
    assert len(written) < 200_000
    assert not re.search(r"https?://|src=|@import|url\(", written)
    given = json.loads(re.search(r'id="given">(.*?)</script>', written)[1])
    assert [each["name"] for each in given["sets"]] == list(SETS)
