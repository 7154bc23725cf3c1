"""Toy and tabular data, and what every data set promises."""

import gzip
import math
import os

import numpy as np
import pytest
import torch

from kmixup import calibrate
from kmixup.experiments.datasets import DATASETS, Data, load_data
from kmixup.experiments.datasets.fetch import fetch_dataset
from kmixup.experiments.datasets.source import files_source
from kmixup.experiments.recipe import read_recipe

TOYS = ("one-ring", "four-bars", "swiss-roll")


@pytest.mark.parametrize("name", TOYS)
def test_toy_data_are_drawn_anew_by_each_seed_and_the_same_by_the_same(name):
    first, again, other = (DATASETS[name](None, seed) for seed in (0, 0, 1))
    assert torch.equal(first.x_train, again.x_train)
    assert not torch.equal(first.x_train, other.x_train)
    assert len(first.x_train) == len(first.x_test) == 1000
    assert "reconstruction" in first.note


@pytest.mark.parametrize("name", TOYS)
def test_toy_classes_are_apart_but_each_point_has_a_near_one_of_its_class(name):
    data = DATASETS[name](None, 0)
    distance = torch.cdist(data.x_train, data.x_train).fill_diagonal_(math.inf)
    same = data.y_train[:, None] == data.y_train
    assert distance[~same].min() > 0.02
    assert distance.where(same, math.inf).min(1).values.max() < distance.where(same, 0).max() / 4


@pytest.mark.parametrize("group", ["a", "b", "c"])
def test_toy_data_have_the_printed_xi_within_the_rounding_and_a_few_percent(group):
    for cell in read_recipe("table1").where(group=group, k=1, method="mixup").cells:
        data = DATASETS[cell.settings.dataset](None, 0, **cell.settings.dataset_options)
        printed = cell.published.xi
        assert calibrate(data.x_train, 1, cell.settings.alpha).printed_xi == pytest.approx(printed, rel=0.1)


@pytest.mark.parametrize(
    ("name", "size", "dimension", "classes", "printed"),
    [("iris", 150, 4, 3, [0.07, 0.10, 0.22]), ("breast-cancer", 569, 30, 2, [0.19, 0.26, 0.59])],
)
def test_uci_data_from_scikit_learn_have_the_printed_size_and_xi(name, size, dimension, classes, printed):
    data = DATASETS[name](None, 0)
    assert len(data.x_train) + len(data.x_test) == size
    assert data.x_train.shape[1] == dimension
    assert data.num_classes == classes
    xi = [calibrate(data.x_train, 1, alpha).printed_xi for alpha in (0.05, 0.1, 1.0)]
    assert xi == pytest.approx(printed, rel=0.06)


def test_abalone_codes_sex_as_m_f_i(tmp_path):
    (tmp_path / "abalone.data").write_text("M,0.5,15\nF,0.6,7\nI,0.7,9\nM,0.8,7\nF,0.9,15\n")
    data = DATASETS["abalone"](tmp_path, 0)
    x, y = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    assert dict(zip(x[:, 1].tolist(), x[:, 0].tolist(), strict=True)) == pytest.approx(
        {np.float32(v).item(): s for v, s in ((0.5, 0), (0.6, 1), (0.7, 2), (0.8, 0), (0.9, 1))}
    )
    assert data.num_classes == 3
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2]  # as words, "15" comes before "7"


def test_arrhythmia_takes_missing_values_as_0(tmp_path):
    (tmp_path / "arrhythmia.data").write_text("75,?,8\n56,1,6\n54,0,10\n55,2,6\n13,3,6\n")
    data = DATASETS["arrhythmia"](tmp_path, 0)
    x = torch.cat([data.x_train, data.x_test])
    assert x[x[:, 0] == 75, 1].item() == 0
    assert data.num_classes == 3


@pytest.mark.parametrize("name", ["phishing_websites.csv", "Training Dataset.arff"])
def test_phishing_is_read_as_csv_and_in_ucis_own_format(tmp_path, name):
    header = "@relation phishing\n\n" + "".join(f"@attribute {name} {{ -1,0,1 }}\n" for name in ("a", "b", "Result"))
    header += "\n\n@data\n"
    rows = "-1,1,-1\n1,1,1\n0,-1,1\n1,0,-1\n-1,-1,1\n"
    (tmp_path / name).write_text((header if name.endswith("arff") else "") + rows)
    data = DATASETS["phishing"](tmp_path, 0)
    assert sorted(torch.cat([data.y_train, data.y_test]).tolist()) == [0, 0, 1, 1, 1]
    assert data.x_train.shape == (4, 2)
    assert "duplicates" in data.note


def test_an_arff_file_whose_attributes_are_not_its_values_is_refused(tmp_path):
    (tmp_path / "t.arff").write_text("@relation t\n@attribute a numeric\n@data\n1,2,x\n2,3,y\n")
    with pytest.raises(ValueError, match=r"t.arff has 1 lines @attribute and 3 values a line"):
        DATASETS["table"](tmp_path, 0, path="t.arff")


def test_phishing_from_openml_is_the_same_table(tmp_path, monkeypatch):
    """The answer of scikit-learn's reader, which numbers the words of nominal columns, is put back into values."""
    import sklearn.datasets
    from sklearn.utils import Bunch

    answer = Bunch(
        data=np.array([[0.0, 2.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 2.0]]),
        feature_names=["a", "b"],
        categories={"a": ["-1", "1"], "b": ["-1", "0", "1"]},
        target=np.array(["-1", "1", "1", "-1", "1"]),
    )
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda *arguments, **options: answer)
    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path))
    folder = fetch_dataset("phishing")
    assert (folder / "phishing_websites.csv").read_text() == "-1,1,-1\n1,-1,1\n1,0,1\n-1,0,-1\n1,1,1\n"
    data = DATASETS["phishing"](None, 0)
    assert sorted(torch.cat([data.x_train, data.x_test]).unique().tolist()) == [-1, 0, 1]


def test_a_missing_file_is_an_error_that_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=r"no abalone.data in .*--data-dir.*kmixup data fetch abalone"):
        DATASETS["abalone"](tmp_path, 0)
    with pytest.raises(FileNotFoundError, match=r"no file .*none.csv"):
        DATASETS["table"](tmp_path, 0, path="none.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": torch.zeros(3, dtype=torch.int64)}, "the same length > 0, got 4 and 3"),
        ({"x_test": torch.zeros(4, 1, dtype=torch.float64)}, "x_test must be float32"),
        ({"y_test": torch.full((4,), 2)}, r"classes must be 0 ... 1, got 2 ... 2 in y_test"),
        ({"mean": torch.zeros(1)}, "mean and std belong together"),
        ({"x_test": torch.tensor([[0.0], [0.0], [math.nan], [math.inf]])}, "x_test must be finite.*2 of 4.*sample 2"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    x, y = torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)
    with pytest.raises((ValueError, TypeError), match=message):
        Data(**{"x_train": x, "y_train": y, "x_test": x, "y_test": y, "num_classes": 2, **change})


def test_the_uci_data_name_the_row_and_column_of_a_mistake(tmp_path):
    (tmp_path / "abalone.data").write_text("M,0.5,15\nX,0.6,7\n")
    with pytest.raises(ValueError, match=r"row 2 \(line 2\), column 0 .* must be M, F or I, got 'X'"):
        DATASETS["abalone"](tmp_path, 0)
    (tmp_path / "abalone.data").write_text("M,0.5,15\nF,,7\nF,1.5,7\n")
    with pytest.raises(ValueError, match=r"row 2 \(line 2\), column 1 .* is missing"):
        DATASETS["abalone"](tmp_path, 0)


# --- where data come from ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TOYS, "iris", "breast-cancer", "wine", "digits", "mnist-5000"])
def test_a_source_is_the_same_for_every_seed(name):
    sources = {load_data(name, seed=seed).source for seed in (0, 1)}
    assert len(sources) == 1
    assert len(bytes.fromhex(sources.pop())) == 32


def test_sources_of_different_data_differ():
    options = [{}, {"n_train": 500}, {"scale": 1.0}]
    generated = {load_data("swiss-roll", options=chosen).source for chosen in options}
    assert len(generated | {load_data(name).source for name in ("one-ring", "iris", "breast-cancer")}) == 6


def test_a_source_of_generated_data_takes_a_number_as_the_same_however_it_is_typed():
    assert len({load_data("four-bars", options={"spacing": typed}).source for typed in (3, 3.0, "3")}) == 1


def test_a_source_is_of_the_files_bytes_not_of_their_dates_places_or_packing(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "x").write_text("one")
    (second / "y").write_text("two")
    os.utime(second / "x", (0, 0))
    assert files_source([first / "x"], first) == files_source([second / "x"], second)
    assert files_source([second / "x", second / "y"], second) == files_source([second / "y", second / "x"], second)
    (first / "x.gz").write_bytes(gzip.compress(b"one"))
    assert files_source([first / "x.gz"], first) == files_source([second / "x"], second)
    (second / "x").rename(second / "z")
    assert files_source([first / "x"], first) != files_source([second / "z"], second)  # a name may be a class
    assert files_source([first / "x"]) == files_source([second / "z"])
    (second / "z").write_text("One")
    assert files_source([first / "x"]) != files_source([second / "z"])


@pytest.mark.parametrize(("name", "shape", "classes"), [("wine", (178, 13), 3), ("digits", (1797, 64), 10)])
def test_what_scikit_learn_ships_is_there_by_name(name, shape, classes):
    data = load_data(name, seed=3)
    x = torch.cat([data.x_train, data.x_test])
    assert (x.shape, data.num_classes) == (shape, classes)
    assert len(data.x_test) == round(0.2 * shape[0])
