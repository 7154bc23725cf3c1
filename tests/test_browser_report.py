"""The page of a report in a real browser: what a reader clicks, types, prints and downloads."""

import csv
import io
import re

import pytest

from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.report import write_page
from kmixup.experiments.run import Curves, Environment, Match, Run, Seconds
from kmixup.experiments.scorecard import make_scorecard

SIZES = {"wide": (1280, 900), "tablet": (800, 1000), "phone": (400, 800)}
HOSTILE = "<img src=x onerror=alert(1)></script>"

# Effective contrast of text and background, as WCAG has it; colours are drawn, so that any notation is read.
CONTRAST = """
(elements) => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour, under) => {
    pen.fillStyle = under || "#000"; pen.fillRect(0, 0, 1, 1);
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (parts) => parts.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  return elements.map((element) => {
    let under = element;
    while (under && getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
    const [a, b] = [getComputedStyle(element).color, getComputedStyle(under || document.body).backgroundColor]
      .map((colour) => light(rgb(colour)));
    return { text: element.textContent.slice(0, 40), ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
  }).filter(({ text }) => text.trim());
}
"""


def run(trial, error, *, diverged=False):
    curves = Curves(
        train_loss=[2, 1, 0.5], train_accuracy=[0.3, 0.5, 0.7], test_error=[0.5, 0.4, error], epochs=[1, 2, 3]
    )
    return Run(
        id=trial.id,
        trial=trial,
        source="",
        final_error=None if diverged else error,
        best_error=None if diverged else error,
        diverged=diverged,
        attack_error={"4": error + 0.1, "16": error + 0.3},
        noise_error={"0.1": error + 0.05, "0.5": error + 0.2},
        match=Match(matched_sq_distance=20, unmatched_sq_distance=100, self_share=0, same_class_share=0.9),
        curves=curves,
        seconds=Seconds(total=2, matching=0.5),
        environment=Environment(commit="abcdef123456", versions={}, device="cpu", processor="p", threads=1),
        note=HOSTILE,
    )


@pytest.fixture(scope="module")
def runs():
    """Of Table 7 (FGSM beside it) and Table 1: most cells, some without runs, one diverged, two readings of some."""
    made = []
    for name in ("table7", "table1"):
        for place, cell in enumerate(read_recipe(name).where(group="b").cells):
            for seed in range(3 if place % 5 else 1 - place % 2):
                made.append(run(cell.trial(seed), 0.01 + 0.002 * place + 0.001 * seed, diverged=place == 2))
    printed = read_recipe("table7").where(group="b", k=16).read_as("as-printed").cells[0]
    return [*made, *(run(printed.trial(seed), 0.123) for seed in range(2))]


@pytest.fixture(scope="module")
def scorecard(runs):
    return make_scorecard([read_recipe("table7"), read_recipe("table1")], runs)


@pytest.fixture(scope="module")
def file(scorecard, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(scorecard, path)
    return path


@pytest.fixture
def opened(page, file):
    page.set_default_timeout(120_000)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(file.as_uri())
    return page


def cell(page, name, table="table7", part="MNIST, LeNet"):
    """The button of a cell."""
    number = page.evaluate(
        "([table, part, name]) => cells.findIndex((c) => c.table === table && c.part === part && c.name === name)",
        [table, part, name],
    )
    return page.locator(f'button[data-cell="{number}"]')


def open_cell(page, name="k = 16, alpha = 10"):
    cell(page, name).click()
    page.locator("dialog .main-svg").first.wait_for()
    return page.locator("dialog")


def download(page, button):
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, waiting.value.path().read_text(encoding="utf-8")


@pytest.mark.parametrize("size", SIZES)
def test_the_page_opens_at_every_size_and_never_scrolls_sideways(page, file, size, tmp_path):
    width, height = SIZES[size]
    page.set_default_timeout(120_000)
    page.set_viewport_size({"width": width, "height": height})
    page.goto(file.as_uri())
    assert page.locator("h1").text_content() == "k-mixup: what our runs say beside the paper"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dialog = open_cell(page)
    box = dialog.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert dialog.evaluate("(d) => d.scrollWidth <= d.clientWidth")
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_every_number_in_a_cell_is_that_of_its_report(opened, scorecard):
    written = opened.locator("td.cell > button").evaluate_all("(all) => all.map((b) => [b.dataset.cell, b.innerText])")
    data = opened.evaluate("cells.map((c) => [c.table, c.part, c.name])")
    shown = {tuple(data[int(number)]): text.split("\n") for number, text in written}
    (main, *_) = next(cards for cards in scorecard.tables if cards[0].table == "table7")
    group = main.report.recipe.groups["b"]
    found = [each for each in main.report.cells if each.cell.group == "b" and each.cell.settings.k == 16]
    assert found
    for each in found:
        lines = shown["table7", group, f"k = 16, alpha = {each.cell.settings.alpha:g}"]
        assert lines[0] == each.text()


def test_a_cell_opens_with_curves_attacks_noise_runs_matching_and_its_command(opened):
    dialog = open_cell(opened)
    titles = dialog.locator("figcaption > :first-child").all_text_contents()
    assert [title.partition(":")[0] for title in titles] == [
        *("Learning curves", "Error under FGSM", "Error under Gaussian noise", "Every run")
    ]
    for figure in dialog.locator("figure").all():  # drawn when it is seen
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    text = dialog.inner_text()
    assert "as printed" in text
    assert "abcdef123" in text
    assert "90.0 %" in text  # pairs of one class
    assert HOSTILE in text
    assert dialog.locator("img").count() == 0
    commands = dialog.locator(".command code").all_text_contents()
    assert commands[0].startswith("kmixup reproduce table7 --where group=b")
    assert any("--reading as-printed" in command for command in commands)


def test_a_figure_is_redrawn_for_another_measure_and_other_lines(opened):
    figure = open_cell(opened).locator("figure").first
    measure, lines = figure.locator("select").all()
    assert figure.locator(".legend .traces").count() == 2  # two readings
    lines.select_option("alpha")
    opened.wait_for_function("document.querySelectorAll('dialog figure .legend')[0].textContent.includes('k = 1,')")
    measure.select_option("train_loss")
    assert "training loss" in figure.locator(".ytitle").text_content()


def test_figures_are_downloaded_as_svg_and_their_numbers_as_csv(opened, runs):
    figure = open_cell(opened, "k = 16, alpha = 10").locator("figure").first
    name, text = download(opened, figure.get_by_role("button", name="CSV"))
    assert name.endswith(".csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["epoch"] for row in rows if row["line"] == "as printed"] == ["1", "2", "3"]
    assert [float(row["test_error"]) for row in rows if row["line"] == "as printed"] == [50, 40, 12.3]
    name, text = download(opened, figure.get_by_role("button", name="SVG"))
    assert name.endswith(".svg")
    assert text.startswith("<svg")
    assert "test error" in text


def test_a_heat_map_is_a_figure_too(opened):
    details = opened.locator("details.figure").first
    details.locator("summary").click()
    details.locator(".main-svg").first.wait_for()
    _, text = download(opened, details.get_by_role("button", name="CSV"))
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["row", "alpha", "ours", "standard_error", "n", "published", "difference"]
    assert rows


def test_a_heat_map_shows_the_reading_that_is_asked_for(page, tmp_path):
    """A cell that a reading does not touch has no entry of its own, so a place in the list is no name."""
    recipe = read_recipe("table7").where(group="b", k=(1, 16))
    mixup, k_mixup = (recipe.where(k=k) for k in (1, 16))
    made = [run(mixup.cells[0].trial(0), 0.10), run(mixup.read_as("as-released").cells[0].trial(0), 0.11)]
    for reading, error in (("as-trained", 0.20), ("as-printed", 0.21), ("as-released", 0.22)):
        made.append(run(k_mixup.read_as(reading).cells[0].trial(0), error))
    write_page(make_scorecard([recipe], made), tmp_path / "r.html")
    page.goto((tmp_path / "r.html").as_uri())
    details = page.locator("details.figure").first
    details.locator("summary").click()
    details.locator(".main-svg").first.wait_for()
    expected = {"as trained": ["10", "20"], "as printed": ["10", "21"], "as released": ["11", "22"]}
    for reading, errors in expected.items():
        details.get_by_label("Reading").select_option(reading)
        _, text = download(page, details.get_by_role("button", name="CSV"))
        assert [row["ours"] for row in csv.DictReader(io.StringIO(text))] == errors, reading


def test_a_cell_of_infinite_alpha_opens(page, tmp_path):
    recipe = read_recipe("table7").where(group="b", k=16).override(alpha=float("inf"), max_alpha=float("inf"))
    made = run(recipe.cells[0].trial(0), 0.2).model_copy(update={"alpha_k": float("inf")})
    write_page(make_scorecard([recipe], [made]), tmp_path / "r.html")
    page.goto((tmp_path / "r.html").as_uri())
    page.locator("td.cell button").first.click()
    assert page.get_by_role("row", name="alpha_k that trained").locator("td").text_content() == "inf"


def test_filters_show_what_fits_and_count_it(opened):
    form, count = opened.locator("#filters"), opened.locator("#filters output")
    everything = opened.evaluate("cells.length")
    assert count.text_content() == f"{everything} of {everything} cells"
    form.get_by_label("Table").select_option("table7")
    form.locator("select[name=k]").select_option("16")
    expected = opened.evaluate("cells.filter((c) => c.table === 'table7' && c.row === 'k = 16').length")
    assert count.text_content() == f"{expected} of {everything} cells"
    assert opened.locator("td.cell button:visible").count() == expected
    assert not opened.locator("#table-table1-1").is_visible()
    form.get_by_label("only cells with runs").check()
    assert opened.locator("td.cell button:visible").count() < expected
    form.get_by_role("button", name="Reset").click()
    opened.wait_for_function(f"document.querySelector('#filters output').value.startsWith('{everything} ')")


def test_colours_follow_what_is_asked_for_and_the_legend_says_so(opened):
    colours = set()
    for choice, said in (
        ("ours", "our error"),
        ("published", "published error"),
        ("difference", "ours less published"),
    ):
        opened.locator("#filters").get_by_label("Colour").select_option(choice)
        tds = opened.locator("td.cell:visible")
        colours.add(tuple(tds.evaluate_all("(all) => all.map((e) => getComputedStyle(e).backgroundColor)")))
        legends = opened.locator(".legend span:visible").all_text_contents()
        assert legends
        assert all(said in legend for legend in legends)
    assert len(colours) == 3
    opened.locator("#filters").get_by_label("other readings").uncheck()
    assert opened.locator(".other:visible").count() == 0


def test_commands_are_copied(opened):
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog = open_cell(opened)
    command = dialog.locator(".command code").first.text_content()
    dialog.get_by_role("button", name="Copy").first.click()
    dialog.get_by_role("button", name="Copied").wait_for()
    assert opened.evaluate("navigator.clipboard.readText()") == command


def test_the_keyboard_alone_opens_reads_and_closes_a_cell(opened):
    button = cell(opened, "k = 16, alpha = 10")
    button.focus()
    opened.keyboard.press("Enter")
    opened.locator("dialog .main-svg").first.wait_for()
    assert opened.evaluate("document.activeElement.textContent") == "Close"
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.closest('dialog') !== null")
    opened.keyboard.press("Escape")
    assert not opened.locator("dialog").is_visible()
    assert opened.evaluate("document.activeElement.dataset.cell") == button.get_attribute("data-cell")


def test_a_cell_without_runs_says_how_to_run_it(opened):
    number = opened.evaluate("cells.findIndex((c) => c.readings.every((r) => r.n === 0 && !r.seeds))")
    opened.locator(f'button[data-cell="{number}"]').click()
    assert "No run has finished yet. This runs it:" in opened.locator("dialog").inner_text()
    assert opened.locator("dialog .command code").count() >= 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(opened, theme):
    opened.emulate_media(color_scheme=theme)
    texts = "h1, h2, h3, p, li, th, td b, td small, button, label, summary, a, td.cell b, code, option"
    for choice in ("ours", "published", "difference"):
        opened.locator("#filters").get_by_label("Colour").select_option(choice)
        found = opened.locator(texts).evaluate_all(CONTRAST)
        assert len(found) > 100
        worst = min(found, key=lambda each: each["ratio"])
        assert worst["ratio"] >= 4.5, worst


def test_the_switch_of_the_theme_wins_over_the_system_and_is_kept(opened):
    opened.emulate_media(color_scheme="light")
    page_colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(page_colour)
    switch = opened.locator("#theme")
    switch.click()
    assert (switch.text_content(), opened.evaluate(page_colour)) == ("Theme: light", light)
    switch.click()
    assert switch.text_content() == "Theme: dark"
    assert opened.evaluate(page_colour) != light
    opened.reload()
    assert opened.locator("#theme").text_content() == "Theme: dark"


def test_paper_gets_the_tables_and_no_controls(opened):
    opened.emulate_media(media="print", color_scheme="dark")
    assert not opened.locator("#filters").is_visible()
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert cell(opened, "k = 16, alpha = 10").is_visible()


def test_a_page_without_any_run_opens_and_says_so(page, tmp_path):
    write_page(make_scorecard([read_recipe("table7")], []), tmp_path / "empty.html")
    page.goto((tmp_path / "empty.html").as_uri())
    assert re.search(r"0 held, 0 contradicted, 0 undecided, 3 not tested", page.inner_text("#scorecard"))
    assert page.locator("section.table > details[open]").count() == 0
