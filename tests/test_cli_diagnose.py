"""``kmixup diagnose``, on files of the test's own: what it reads, what it says, what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from kmixup.cli.app import app

QUICK = ("--batches", "2", "--k", "1,4")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kmixup(*arguments):
    return CliRunner().invoke(app, ["diagnose", *arguments], env={"COLUMNS": "100"}, catch_exceptions=False)


def numbers(*arguments):
    return json.loads(kmixup(*arguments, *QUICK, "--json").output)


def frame(n=60, seed=0) -> pd.DataFrame:
    """Two clusters, 10 apart, with a column of words, and the class in the middle."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    columns = {"a": rng.normal(size=n) + 10 * y, "kind": np.array(["p", "n"])[y], "word": rng.choice(["u", "v"], n)}
    return pd.DataFrame(columns | {"b": rng.normal(size=n)})


def refusal(*arguments) -> str:
    with pytest.raises((ValueError, OSError)) as refused:
        kmixup(*arguments, *QUICK)
    return str(refused.value)


def test_csv_parquet_and_their_target_by_name_or_number_give_the_same_numbers():
    frame().to_csv("t.csv", index=False)
    frame().to_parquet("t.parquet")
    by_name = numbers("t.csv", "--target", "kind")
    assert (by_name["samples"], by_name["classes"]) == (60, 2)
    assert by_name["rows"][1]["same_class"] > 0.6 > by_name["rows"][0]["same_class"]
    for arguments in (("t.csv", "--target", "1"), ("t.parquet", "--target", "kind")):
        again = numbers(*arguments)
        assert again["rows"][1]["sq_distance"] == pytest.approx(by_name["rows"][1]["sq_distance"])


def test_arrays_images_in_folders_and_named_data_sets_are_read(folder):
    np.savez("t.npz", x=np.random.default_rng(0).normal(size=(30, 3)), y=np.arange(30) % 3)
    assert numbers("t.npz")["classes"] == 3
    for label in ("cat", "dog"):
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / f"{number}.png")
    assert numbers("pictures")["classes"] == 2
    assert numbers("iris")["classes"] == 3


def test_continuous_targets_are_continuous_unless_they_are_said_to_be_classes():
    table = frame()
    table["price"] = np.random.default_rng(1).normal(size=60)
    table["grade"] = np.arange(60) % 12
    table.drop(columns="kind").to_csv("t.csv", index=False)
    found = numbers("t.csv", "--target", "price")
    assert found["classes"] is None
    assert found["rows"][0]["target_sq_distance"] > 0
    assert numbers("t.csv", "--target", "grade")["classes"] is None  # more values than sqrt(60)
    assert numbers("t.csv", "--target", "grade", "--classes")["classes"] == 12


def test_missing_values_are_refused_by_their_place_and_filled_when_told():
    table = frame()
    table.loc[3, "a"] = None
    table.to_csv("t.csv", index=False)
    assert "1 values are missing, the first in row 4 (line 5), column 0 ('a')" in refusal("t.csv", "--target", "kind")
    assert numbers("t.csv", "--target", "kind", "--set", "missing=mean")["samples"] == 60
    assert numbers("t.csv", "--target", "kind", "--set", "missing=drop")["samples"] == 59


def test_one_class_constant_columns_and_repeated_rows_are_said():
    pd.DataFrame({"a": [1.0, 2.0] * 10, "same": 5, "kind": "only"}).to_csv("t.csv", index=False)
    notes = " ".join(numbers("t.csv", "--target", "kind")["notes"])
    assert "1 of 2 columns are constant" in notes
    assert "All samples are of one class" in notes
    assert "90.0 % of rows repeat another" in notes


def test_two_rows_are_enough_and_one_is_not():
    frame(2).to_csv("t.csv", index=False)
    text = kmixup("t.csv", "--target", "kind").output
    assert "2 samples, 2 classes" in text
    frame(1).to_csv("t.csv", index=False)
    with pytest.raises(ValueError, match="x must have at least 2 samples"):
        kmixup("t.csv", "--target", "kind")


def test_the_default_ks_fit_the_data():
    frame(20).to_csv("t.csv", index=False)
    found = json.loads(kmixup("t.csv", "--target", "kind", "--json").output)
    assert [row["k"] for row in found["rows"]] == [1, 2, 4, 8]


def test_the_tables_fit_a_narrow_terminal_and_end_in_a_recommendation(folder):
    frame().to_csv("t.csv", index=False)
    done = CliRunner().invoke(
        app, ["diagnose", "t.csv", "--target", "kind", "--figure", "f.png"], env={"COLUMNS": "80"}
    )
    assert done.exit_code == 0
    assert "…" not in done.output
    for part in (
        "same class",
        "intrusion",
        "alpha_k of each alpha",
        "Entropy of the mixed labels",
        "At k = 16 partners",
    ):
        assert part in done.output
    assert (folder / "f.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("t.csv", "--target", "kin"), "must be 'kind', or another of: a, kind, word, b, got 'kin'"),
        (("u.csv",), "there is no file or folder u.csv, and unknown dataset 'u.csv'"),
        (("iriss",), "Did you mean 'iris'"),
        (("t.csv", "--target", "kind", "--set", "mising=mean"), "Did you mean 'missing'"),
        (("t.csv", "--target", "kind", "--alpha", "much"), "--alpha must be numbers with commas"),
        (("t.csv", "--target", "kind", "--metric", "hamming"), "metric must be"),
        (("t.csv", "--figure", "f.docx"), "--figure is a file that ends in .png, .pdf, .svg, got 'f.docx'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_remedy(arguments, message):
    frame().to_csv("t.csv", index=False)
    assert message in refusal(*arguments)


@pytest.mark.parametrize("columns", ["40", "60", "160"])
def test_a_narrow_terminal_cuts_no_number(columns):
    asked = ["iris", "--alpha", "0.1,1", *QUICK]
    printed = CliRunner().invoke(app, ["diagnose", *asked], env={"COLUMNS": columns}, catch_exceptions=False).output
    found = numbers(*asked)["rows"][1]
    assert "k = 4" in printed
    assert f"{found['alpha_k(exact, 0.1)']:.3g}" in printed
    assert "…" not in printed
