"""Options mean what they say; names of a user's own code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch

from kmixup.experiments import named
from kmixup.experiments.datasets import DATASETS, Data, load_data, read_dataset_options
from kmixup.experiments.models import MODELS
from kmixup.experiments.named import read_options

SWITCHES = [(text, False) for text in ("false", "False", "no", "off", "0", 0, False)] + [
    (text, True) for text in ("true", "True", "yes", "on", "1", 1, True)
]


def loader(data_dir=None, seed=0, *, augment: bool = True, n: int = 3, share: float = 0.5, words: Sequence[str] = ()):
    """Takes one option of each kind."""


def read(**options):
    return read_options("dataset", "mine", loader, options, given=("data_dir", "seed"))


@pytest.mark.parametrize(("typed", "meant"), SWITCHES)
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "tiny-imagenet", "imagefolder"])
def test_a_switch_means_the_same_however_it_is_typed(name, typed, meant):
    assert read_dataset_options(name, {"augment": typed})["augment"] is meant


def test_options_are_read_by_their_types_and_defaults_are_written_out():
    read_as = read(augment="off", n="7", share="0.25", words=["up"])
    assert read_as == {"augment": False, "n": 7, "share": 0.25, "words": ["up"]}
    assert read(words="up")["words"] == ["up"]  # one word is a list of one
    assert read() == {"augment": True, "n": 3, "share": 0.5, "words": ()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "maybe"}, r"dataset_options.augment must be a valid boolean.*, got 'maybe'\."),
        ({"n": True}, r"dataset_options.n must be a number, got True"),
        ({"share": False}, r"dataset_options.share must be a number, got False"),
        ({"n": 1.5}, r"dataset_options.n must be a valid integer.*, got 1.5"),
        ({"share": "half"}, "dataset_options.share must be a valid number.*, got 'half'"),
        ({"words": {"up": 1}}, "dataset_options.words .*, got {'up': 1}"),
        (
            {"augmnt": False},
            r"unknown option of dataset 'mine': 'augmnt'. Did you mean 'augment'\? Known: augment, ",
        ),
        ({"seed": 3}, "seed is no option of dataset 'mine': it is given by the trial"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        read(**options)


def test_a_missing_option_and_one_too_many_are_named():
    with pytest.raises(ValueError, match=r"dataset 'csv' needs the option path: dataset_options.path=..."):
        load_data("csv")
    with pytest.raises(ValueError, match=r"dataset 'mnist' has no options, got 'augment'"):
        load_data("mnist", options={"augment": True})


@pytest.mark.parametrize("name", MODELS)
def test_the_same_mechanism_serves_models(name):
    given = ("input_shape", "num_classes")
    with pytest.raises(ValueError, match=f"model '{name}'"):
        read_options("model", name, MODELS[name], {"hiden": [3]}, given=given)


def test_a_function_without_types_gets_what_was_typed_but_for_switches():
    def untyped(data_dir, seed, shape=None, shuffle=True):
        pass

    options = read_options("dataset", "u", untyped, {"shape": "3", "shuffle": "no"}, given=("data_dir", "seed"))
    assert options == {"shape": "3", "shuffle": False}


def test_a_function_that_takes_any_option_gets_it():
    def anything(data_dir, seed, kind: Literal["a", "b"] = "a", **rest):
        pass

    assert read_options("dataset", "a", anything, {"n": "3"}, given=("data_dir", "seed")) == {"n": "3", "kind": "a"}
    with pytest.raises(ValueError, match="kind must be 'a' or 'b', got 'c'"):
        read_options("dataset", "a", anything, {"kind": "c"}, given=("data_dir", "seed"))


@pytest.mark.parametrize("name", DATASETS)
def test_every_loader_declares_the_types_of_its_options(name):
    given, required = ("data_dir", "seed"), {"table": {"path": "x"}, "csv": {"path": "x"}}.get(name, {})
    assert read_dataset_options(name, required).keys() >= set(required)
    with pytest.raises(ValueError, match=f"dataset '{name}'"):
        read_options("dataset", name, DATASETS[name], {**required, "no_such_option": 1}, given=given)


def test_an_unknown_data_set_is_refused_with_the_nearest():
    said = r"unknown dataset 'cifar11'. Did you mean 'cifar10' or 'cifar100'\?.*module:function"
    with pytest.raises(ValueError, match=said):
        load_data("cifar11")


# --- a user's own -----------------------------------------------------------------------------------------------------

MINE = """
import numpy as np

def load(data_dir=None, seed=0, n: int = 40, shuffle=False):
    assert 0 <= seed < 2**31
    rng = np.random.RandomState(seed)
    x = rng.rand(n, 3)
    y = np.array(["no", "yes"])[(x[:, 0] > 0.5).astype(int)]
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]

def read(data_dir, seed):
    table = np.loadtxt(data_dir / "mine.txt")
    order = np.random.RandomState(seed).permutation(len(table))
    x, y = table[order, :-1], table[order, -1]
    return x[5:], y[5:], x[:5], y[:5]

def one(data_dir, seed):
    return 3
"""


ARRAYS = """
import numpy as np
X, Y = np.zeros((4, 2)), np.arange(4)

def load(data_dir, seed):
"""


@pytest.fixture(name="module")
def _module(tmp_path, monkeypatch):
    """Name of a module in the current folder, which lies on no path yet."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"mine_{abs(hash(str(tmp_path)))}"
    (folder / f"{name}.py").write_text(MINE)
    yield name
    sys.modules.pop(name, None)


def test_a_function_of_your_own_loads_data_from_the_current_folder(module):
    data = load_data(f"{module}:load", seed=2**55 + 3, options={"n": "20", "shuffle": "false"})
    assert isinstance(data, Data)
    assert data.x_train.shape == data.x_test.shape == (10, 3)
    assert data.x_train.dtype == torch.float32
    assert data.num_classes == 2
    torch.testing.assert_close(data.y_train, (data.x_train[:, 0] > 0.5).long())  # "no" before "yes"


def test_a_source_of_your_own_changes_with_the_module_and_the_data_but_not_with_the_seed(module, tmp_path, monkeypatch):
    table = np.column_stack([np.arange(20.0), np.arange(20) % 2])
    np.savetxt(tmp_path / "mine.txt", table)

    def source(seed=0):
        return load_data(f"{module}:read", tmp_path, seed).source

    first = source()
    assert source(seed=5) == first
    table[3, -1] = 0
    np.savetxt(tmp_path / "mine.txt", table)
    other_data = source()
    assert other_data != first
    file = tmp_path / "here" / f"{module}.py"
    file.write_text(MINE + "\n# edited\n")
    assert source() not in (first, other_data)


def test_an_edited_module_is_loaded_anew(module, tmp_path):
    assert load_data(f"{module}:load").x_train.shape == (20, 3)
    (tmp_path / "here" / f"{module}.py").write_text(MINE.replace("n, 3", "n, 4"))
    assert load_data(f"{module}:load").x_train.shape == (20, 4)


def test_data_that_know_their_source_are_not_loaded_twice(module, tmp_path):
    (tmp_path / "here" / f"{module}.py").write_text(
        "import torch\nfrom kmixup.experiments.datasets import Data\ncalls = []\n"
        "def load(data_dir, seed):\n    calls.append(seed)\n    x, y = torch.rand(4, 2), torch.arange(4) % 2\n"
        "    return Data(x, y, x, y, 2, source='mine')\n"
    )
    assert load_data(f"{module}:load", seed=1).source == load_data(f"{module}:load", seed=2).source
    assert sys.modules[module].calls == [1, 2]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere_at_all:load", ValueError, r"no module 'nowhere_at_all' in .*Run in the folder of nowhere_at_all.py"),
        ("{}:lod", ValueError, r"unknown function of .*\.py 'lod'. Did you mean 'load'\?"),
        ("{}.py:load", ValueError, "must be module:function"),
        ("{}:", ValueError, "must be module:function"),
        ("{}:one", TypeError, r"must return Data or \(x_train, y_train, x_test, y_test\), got int"),
    ],
)
def test_a_name_of_your_own_that_leads_nowhere_is_refused(module, name, error, message):
    with pytest.raises(error, match=message):
        load_data(name.format(module))


def test_a_module_that_lacks_another_says_which(module, tmp_path):
    (tmp_path / "here" / f"{module}.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        load_data(f"{module}:load")


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (
            "return np.zeros((4, 2)), np.arange(4) / 2, X, Y",
            TypeError,
            "whole numbers or words",
        ),
        ("return X, Y, np.zeros((4, 3)), Y", ValueError, r"\(2,\) and \(3,\)"),
        (
            "return X, Y, X, np.arange(3)",
            ValueError,
            "x_test and y_test.*4 and 3",
        ),
        (
            "return np.zeros((4, 8, 8), 'u1'), Y, np.zeros((4, 8, 8)), Y",
            TypeError,
            "Divide by 255",
        ),
        (
            "return np.full((4, 2), np.nan), Y, X, Y",
            ValueError,
            "x_train must be finite",
        ),
        ("return X, Y", TypeError, "got tuple of 2"),
    ],
)
def test_arrays_that_are_no_data_are_refused(module, tmp_path, line, error, message):
    (tmp_path / "here" / f"{module}.py").write_text(ARRAYS + f"    {line}\n")
    with pytest.raises(error, match=message):
        load_data(f"{module}:load")


def test_a_function_that_takes_no_seed_is_refused(module, tmp_path):
    (tmp_path / "here" / f"{module}.py").write_text("def load(data_dir): pass\n")
    with pytest.raises(ValueError, match="must take data_dir and seed; it lacks seed"):
        load_data(f"{module}:load")


def test_a_module_of_the_current_folder_comes_before_one_of_its_name_from_an_earlier_folder(tmp_path, monkeypatch):
    found = []
    for number in (1, 2, 1):
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "of_two_folders.py").write_text(f"def number():\n    return {number}\n")
        monkeypatch.chdir(folder)
        found.append(named.own("of_two_folders:number")[0]())
    assert found == [1, 2, 1]
