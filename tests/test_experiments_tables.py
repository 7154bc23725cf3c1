"""Tables are read as a person would read them, or refused by row, column and remedy."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmixup.experiments.datasets import load_data
from kmixup.experiments.datasets.columns import is_missing, is_number

HEAD = ["length", "width", "weight", "kind"]
KINDS = ["ant", "bee", "fly"]
N = 60


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows():
    """Sixty rows as text; their numbers have two digits after the point."""
    rng = np.random.default_rng(0)
    return [[f"{v:.2f}" for v in rng.uniform(1, 99, 3)] + [KINDS[i % 3]] for i in range(N)]


def write(rows, sep=",", end="\n", encoding="utf-8", name="t.csv"):
    Path(name).write_bytes("".join(sep.join(row) + end for row in rows).encode(encoding))


def read(dataset="csv", path="t.csv", seed=0, **options):
    return load_data(dataset, None, seed, {"path": path, **options})


def points(data):
    """All rows, points and class, in an order of their own."""
    x, y = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    return sorted([*point, label] for point, label in zip(x.tolist(), y.tolist(), strict=True))


def expected(table):
    floats = torch.tensor([[float(value) for value in row[:-1]] for row in table]).tolist()
    return sorted([*point, KINDS.index(row[-1])] for point, row in zip(floats, table, strict=True))


def changed(row, column, value):
    table = rows()
    table[row][column] = value
    return table


# --- one table, as programs write it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sep", [",", ";", "\t", "|", "   ", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "mac"])
@pytest.mark.parametrize("header", [[], [HEAD]], ids=["bare", "header"])
def test_delimiter_line_ends_and_header_are_found(sep, end, header):
    write(header + rows(), sep, end)
    assert points(read()) == expected(rows())


@pytest.mark.parametrize(
    ("typed", "header"), [("true", [HEAD]), (True, [HEAD]), ("auto", [HEAD]), ("false", []), (False, []), ("auto", [])]
)
def test_a_header_is_what_the_option_says(typed, header):
    write(header + rows())
    assert points(read(header=typed)) == expected(rows())


def test_a_header_above_words_alone_is_found_by_its_words_which_never_come_again():
    table = [[["x", "o", "b"][i % 3], ["b", "x"][i % 2], ["win", "loss"][i % 2]] for i in range(30)]
    write([["top", "middle", "class"], *table])
    with_header = points(read())
    write(table)
    assert with_header == points(read())
    assert len(with_header) == 30


def test_delimiters_that_end_every_line_make_no_column():
    for header in ([HEAD], []):
        write(header + rows(), end=",\n")
        assert points(read()) == expected(rows())
    write([HEAD], end="\n", name="head")
    write(rows(), end=",\n", name="body")
    Path("t.csv").write_bytes(Path("head").read_bytes() + Path("body").read_bytes())
    assert points(read()) == expected(rows())


def test_blank_lines_and_lines_of_delimiters_are_no_rows():
    write([HEAD, *rows()[:9], [""], ["", "", "", ""], *rows()[9:], ["", "", "", ""]])
    assert points(read()) == expected(rows())


def test_quoted_values_are_values():
    write([[f'"{value}"' for value in row] for row in [["a, b", *HEAD[1:]], *rows()]])
    assert points(read()) == expected(rows())
    write([["size", "place", "kind"], *([str(2 * i), '"Rome, ""IT"""', KINDS[i % 3]] for i in range(9))])
    assert read("table").x_train.shape[1] == 2


def test_decimal_commas_are_decimals():
    table = [[value.replace(".", ",") for value in row] for row in rows()]
    write([HEAD, *table], ";")
    assert points(read()) == expected(rows())
    write([[f'"{value}"' for value in row] for row in table])
    assert points(read()) == expected(rows())
    write([[f"1,{i:03d}", KINDS[i % 3]] for i in range(9)], ";")
    assert max(point[0] for point in points(read(decimal=","))) == pytest.approx(1.008)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_say_the_encoding(encoding):
    write([["Länge", *HEAD[1:]], *rows()], encoding=encoding)
    assert points(read(class_column="kind", drop=["Länge"])) == sorted(row[1:] for row in expected(rows()))


def test_other_encodings_are_read_when_named():
    table = [[*row[:-1], "rosé" if row[-1] == "ant" else "blanc"] for row in rows()]
    write(table, encoding="latin-1")
    assert read(encoding="latin-1").num_classes == 2


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv"])
def test_a_gzipped_table_is_read_whatever_it_is_called(name):
    write([HEAD, *rows()])
    Path(name).write_bytes(gzip.compress(Path("t.csv").read_bytes()))
    assert points(read(path=name)) == expected(rows())


@pytest.mark.parametrize("space", ["", "\n", "% a comment\n"])
def test_arff_has_its_names_and_no_header(space):
    head = "% a comment\n@RELATION r\n@attribute 'a b' numeric\n@attribute width real\n@attribute weight real\n"
    head += "@attribute kind {ant, bee, fly}\n\n@Data\n" + space
    Path("t.arff").write_text(head + "".join(",".join(row) + "\n" for row in rows()))
    assert points(read(path="t.arff")) == expected(rows())
    assert points(read(path="t.arff", drop=["a b"])) == sorted(row[1:] for row in expected(rows()))


def write_arff(attributes, rows, name="t.arff", end="\n"):
    lines = ["@relation r", *(f"@attribute {attribute}" for attribute in attributes), "@data", *map(",".join, rows)]
    Path(name).write_bytes("".join(line + end for line in lines).encode())


@pytest.mark.parametrize("one", ["'dark, red'", '"dark, red"', "'dark, \\'red'", "'say \"x\", y'", "it's"])
@pytest.mark.parametrize("other", ["'light, red'", '"light, red"', "won't"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_arff_values_stand_in_quotes_of_either_kind(one, other, end):
    table = [[f"'{i / 7:.2f}'", f"{[one, other][i % 2]} ", f" '{KINDS[i % 3]}'"] for i in range(30)]
    write_arff(["a numeric", f"colour {{{one}, {other}}}", "kind {ant,bee,fly}"], table, end=end)
    data = read("table", "t.arff", scaling="raw")
    assert data.num_classes == 3
    x = torch.cat([data.x_train, data.x_test])
    assert x.shape == (30, 3)
    assert x[:, 0].max() == pytest.approx(4.14)
    assert x[:, 1:].sum(0).tolist() == [15, 15]


def test_nominal_attributes_of_arff_are_words_if_one_is_a_word_and_numbers_if_all_are():
    table = [[str(i % 2), ["1", "2", "3A"][i % 3 % 2], f"A{i % 25}", KINDS[i % 3]] for i in range(60)]
    codes = ",".join(f"A{i}" for i in range(25))
    write_arff(["a { -1,0,1 }", "b {1,2,'3A'} % of three", f"code {{{codes}}}", "kind {ant, bee, fly}"], table)
    assert read("table", "t.arff").x_train.shape[1] == 1 + 2 + 25
    assert read("table", "t.arff", categorical=["a"]).x_train.shape[1] == 2 + 2 + 25
    table[4][1] = "3A"
    write_arff(["a { -1,0,1 }", "b {1,2,'3A'} % of three", f"code{{{codes}}}", "kind {ant, bee, fly}"], table)
    assert read("table", "t.arff").x_train.shape[1] == 1 + 3 + 25
    write_arff(["a { -1,0,1 }", "b numeric", "code string", "kind string"], table)
    with pytest.raises(ValueError, match=r"column 1 \('b'\) .*59 numbers and 1 other value: '3A' in row 5"):
        read("table", "t.arff")


@pytest.mark.parametrize("name", ["T.ARFF", "t.Arff.GZ", "t.NPZ"])
def test_endings_are_known_in_upper_and_lower_case(name):
    if name.endswith("NPZ"):
        with Path(name).open("wb") as file:
            np.savez(file, x=np.array([[float(v) for v in row[:-1]] for row in rows()]), y=[row[-1] for row in rows()])
    else:
        write_arff(["a real", "b real", "c real", "kind {ant,bee,fly}"], rows(), name)
    assert points(read(path=name)) == expected(rows())


# --- classes ----------------------------------------------------------------------------------------------------------


def test_classes_are_numbers_where_all_are_and_1_is_1_point_0():
    write([[*row[:-1], str(9 + i % 3) + (".0" if i % 5 == 0 else "")] for i, row in enumerate(rows())])
    assert points(read()) == expected(rows())  # 9, 10, 11: as words, 9 would come last


@pytest.mark.parametrize("column", [-1, 3, "3", "-1", "kind"])
def test_the_class_column_is_named_or_counted(column):
    write([HEAD, *rows()])
    assert points(read(class_column=column)) == expected(rows())
    first = [[row[-1], *row[:-1]] for row in [HEAD, *rows()]]
    write(first)
    assert points(read(class_column=0)) == expected(rows())


def test_rows_without_a_class_are_refused_or_left_out_and_said():
    table = rows()
    table[7][3], table[9][3] = "?", ""
    write([HEAD, *table])
    with pytest.raises(ValueError, match=r"2 rows have no class, the first is row 8 \(line 9\), .*unlabelled=drop"):
        read()
    data = read(unlabelled="drop")
    assert points(data) == expected([row for i, row in enumerate(rows()) if i not in (7, 9)])
    assert data.note == "2 rows without a class left out"


# --- numbers and words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "?", "NA", "N/A", "nan", "NaN", "null", "NULL", "#N/A", "<NA>"])
def test_a_missing_value_is_refused_by_its_place_or_filled(token):
    write([HEAD, *changed(5, 2, token)])
    with pytest.raises(ValueError, match=r"first in row 6 \(line 7\), column 2 \('weight'\) of t.csv. Say missing=0"):
        read()
    assert points(read(missing=0)) == expected(changed(5, 2, "0"))
    left_out = read(missing="drop")
    assert points(left_out) == expected(rows()[:5] + rows()[6:])
    assert left_out.note == "1 rows with missing values left out"


def write_as(kind, table):
    """A table of numbers and a class that is a number, as text (with decimal commas: German) or stored."""
    values = np.array([[float(value) for value in row] for row in table])
    if kind == "german":
        write([[value.replace(".", ",") for value in row] for row in table], ";", name="t")
    elif kind == "text":
        write(table, name="t")
    elif kind == "parquet":
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(arrow.table({str(i): column for i, column in enumerate(values.T)}), "t")
    else:
        np.savez("t.npz", x=values[:, :-1].astype(kind), y=values[:, -1])


@pytest.mark.parametrize("kind", ["text", "german", "float32", "float64", "parquet"])
@pytest.mark.parametrize("typed", [["-99.9"], [-99.9], -99.9, ["-99.90", "?"]])
def test_numbers_that_stand_for_missing_values_are_missing_however_they_are_stored(kind, typed):
    table = [[*row[:-1], str(i % 3)] for i, row in enumerate(changed(5, 2, "-99.9"))]
    write_as(kind, table)
    options = {"path": "t.npz" if kind.startswith("float") else "t", "na": typed}
    with pytest.raises(ValueError, match=r"1 values are missing, the first in row 6.*column 2"):
        read(**options)
    table[5][2] = "0"
    assert points(read(**options, missing=0)) == expected([[*row[:-1], KINDS[int(row[-1])]] for row in table])


@pytest.mark.parametrize("kind", ["text", "float64", "parquet"])
@pytest.mark.parametrize("typed", [["-1"], [-1], -1])
def test_classes_that_stand_for_none_are_left_out_however_they_are_stored(kind, typed):
    write_as(kind, [[*row[:-1], str(i % 3 - 1)] for i, row in enumerate(rows())])
    path = "t.npz" if kind == "float64" else "t"
    data = read(path=path, na=typed, unlabelled="drop")
    assert (data.num_classes, data.note) == (2, "20 rows without a class left out")
    assert points(data) == sorted([*row[:-1], row[-1] - 1] for row in expected(rows()) if row[-1])


def test_a_number_that_stands_for_a_missing_word_makes_no_mixed_column():
    table = [["-999" if i % 5 == 0 else "ab"[i % 2], str(7 * i % 11), KINDS[i % 3]] for i in range(N)]
    write([["letter", "x", "kind"], *table])
    assert read("table", na=[-999], missing=0).x_train.shape[1] == 4  # missing, a, b; x
    with pytest.raises(ValueError, match=r"12 numbers and 48 other values"):
        read("table")


@pytest.mark.parametrize("typed", [[True], ["true"]])
def test_a_truth_value_that_stands_for_a_missing_one_is_a_word_not_1(typed):
    write(changed(5, 2, "TRUE"))
    table = changed(5, 2, "1.00")
    write(table, name="ones.csv")
    with pytest.raises(ValueError, match=r"1 values are missing, the first in row 6"):
        read(na=typed)
    assert points(read(path="ones.csv", na=typed)) == expected(table)


@pytest.mark.parametrize("seed", range(4))
def test_means_and_medians_for_missing_values_are_those_of_the_training_rows(seed):
    write(changed(5, 2, "NA"))
    for missing, centre in (("mean", torch.mean), ("median", torch.median)):
        data = read(missing=missing, seed=seed)
        x = torch.cat([data.x_train, data.x_test])
        filled = (x[:, 0] == float(rows()[5][0])).nonzero().item()
        in_training = [value for i, value in enumerate(data.x_train[:, 2]) if i != filled]
        torch.testing.assert_close(x[filled, 2], centre(torch.stack(in_training)))


def test_words_become_columns_of_their_own_or_codes():
    table = [[str(i % 7), ["red", "blue", "NA"][i % 3], KINDS[i % 2]] for i in range(30)]
    write([["size", "colour", "kind"], *table])
    with pytest.raises(ValueError, match=r"10 values are missing, the first in row 3 .*'colour'"):
        read("table")
    x = torch.tensor(points(read("table", missing=0, scaling="raw")))
    assert x.shape == (30, 5)  # size; missing, blue, red; the class
    assert x[:, 1:4].sum(0).tolist() == [10, 10, 10]
    assert (x[:, 1:4].sum(1) == 1).all()
    codes = torch.tensor(points(read("table", missing=0, scaling="raw", words="codes")))
    assert codes.shape == (30, 3)
    assert sorted(codes[:, 1].tolist()) == [0] * 10 + [1] * 10 + [2] * 10
    assert read("table", na=["?"]).x_train.shape[1] == 4  # NA is a word then


def test_numbers_that_are_names_are_coded_as_words_when_asked():
    table = [[["010", "10", "20"][i % 3], str(2 * i), KINDS[i % 2]] for i in range(30)]
    write([["code", "x", "kind"], *table])
    assert read("table").x_train.shape[1] == 2
    assert read("table", categorical=["code"]).x_train.shape[1] == 3
    table[4][0] = "2A"
    write([["code", "x", "kind"], *table])
    with pytest.raises(ValueError, match=r"29 numbers and 1 other value: '2A' in row 5 .*categorical=\[0\]"):
        read("table")
    assert read("table", categorical=[0]).x_train.shape[1] == 4


@pytest.mark.parametrize("start", [0, 1])
def test_an_index_among_arrays_is_refused_and_a_time_from_elsewhere_is_a_quantity(start):
    x = np.array([[float(value) for value in row[:-1]] for row in rows()])
    for first, refused in ((start, True), (1990, False)):
        x[:, 1] = first + np.arange(N)
        np.savez("t.npz", x=x, y=np.arange(N) % 3)
        if refused:
            with pytest.raises(ValueError, match=r"column 1 of t.npz counts the rows.*drop=\[1\].*a time"):
                read(path="t.npz")
        assert read(path="t.npz", drop=[1] * refused).x_train.shape[1] == 3 - refused
    x[:, 1] = np.roll(np.arange(N), 1)  # the same numbers in another order
    np.savez("t.npz", x=x, y=np.arange(N) % 3)
    assert read(path="t.npz").x_train.shape[1] == 3


@pytest.mark.parametrize("write_one", ["{}%", "${}", "2020-01-{}", "{} kg", "A{}"])
def test_quantities_that_are_no_numbers_are_refused_however_often_they_repeat_unless_they_are_said_to_be_words(
    write_one,
):
    def several(different):
        write([["x", "kind"], *([write_one.format(10 + i % different), KINDS[i % 3]] for i in range(400))])

    several(21)
    with pytest.raises(ValueError, match=r"column 0 \('x'\) .* 21 different words with digits.*categorical=\[0\]"):
        read("table")
    assert read("table", categorical=["x"]).x_train.shape[1] == 21
    several(20)
    assert read("table").x_train.shape[1] == 20


def test_columns_are_left_out_by_name_or_number():
    write([HEAD, *rows()])
    assert points(read(drop=["length", 1])) == sorted(row[2:] for row in expected(rows()))


# --- the split --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_a_stratified_split_has_each_class_in_its_share_and_trains_on_every_class(seed, share):
    sizes = [1, 2, 9, 40, 101]
    kinds = [label for label, size in enumerate(sizes) for _ in range(size)]
    write([[f"{i}.5", str(label)] for i, label in enumerate(kinds)], name="s.csv")
    data = load_data("table", None, seed, {"path": "s.csv", "test_share": share})
    counts = data.y_test.bincount(minlength=5)
    assert len(data.y_test) == round(share * len(kinds))
    for count, size in zip(counts.tolist(), sizes, strict=True):
        assert abs(count - share * size) <= 1.5
        assert count < size


def test_a_class_of_one_row_is_trained_on_and_said():
    write(changed(5, 3, "antt"))
    for seed in range(5):
        data = read("table", seed=seed)
        assert 1 in data.y_train.bincount().tolist()
        assert data.note == "1 classes of one row, such as 'antt'"


def test_a_split_is_drawn_by_its_seed():
    write(rows())
    same, again, other = (read("table", seed=seed).x_test for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_scalings_take_their_moments_from_the_training_rows():
    rng = np.random.default_rng(0)
    table = rng.normal([10, -3, 7], [1, 5, 0], (200, 3))
    write([[f"{a}", f"{b}", f"{c}", str(i % 2)] for i, (a, b, c) in enumerate(table)])
    raw, scalar, standard = (read(scaling=scaling) for scaling in ("raw", "scalar", "standard"))
    x = raw.x_train.double()
    torch.testing.assert_close(scalar.x_train.double(), (x - x.mean()) / x.std(correction=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(standard.x_train.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.x_train.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))
    assert standard.x_test.mean(0).abs().max() > 1e-3


# --- other formats ----------------------------------------------------------------------------------------------------


def test_parquet_is_the_same_table(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = rows()
    columns = {name: [float(row[i]) for row in table] for i, name in enumerate(HEAD[:-1])}
    kinds = arrow.array([row[-1] for row in table])
    parquet.write_table(arrow.table({**columns, "kind": kinds}), "t.parquet")
    assert points(read(path="t.parquet")) == expected(table)
    parquet.write_table(arrow.table({"kind": kinds.dictionary_encode(), **columns}), "t.parquet")
    assert points(read(path="t.parquet", class_column="kind")) == expected(table)
    columns["width"][3] = None
    parquet.write_table(arrow.table({**columns, "kind": kinds}), "t.parquet")
    with pytest.raises(ValueError, match=r"row 4, column 1 \('width'\) of t.parquet. Say missing=0"):
        read(path="t.parquet")
    assert points(read(path="t.parquet", missing=0)) == expected(changed(3, 1, "0"))
    times = arrow.array(range(N), arrow.timestamp("s"))
    parquet.write_table(arrow.table({"when": times, "kind": kinds}), "t.parquet")
    with pytest.raises(
        ValueError, match=r"column 0 \('when'\) of t.parquet holds timestamp.*neither numbers nor words"
    ):
        read(path="t.parquet")
    Path("t.parquet").write_bytes(Path("t.parquet").read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        read(path="t.parquet")


def test_parquet_without_its_reader_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    Path("t.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read(path="t.parquet")


@pytest.mark.parametrize("words", [True, False])
def test_arrays_are_the_same_table(words):
    table = rows()
    x = np.array([[float(value) for value in row[:-1]] for row in table])
    labels = [row[-1] if words else KINDS.index(row[-1]) for row in table]
    np.savez("t.npz", x=x, y=np.array(labels))
    assert points(read(path="t.npz")) == expected(table)
    x[4, 2] = np.nan
    np.savez_compressed("t.npz", x=x, y=np.array(labels))
    with pytest.raises(ValueError, match=r"row 5, column 2 of t.npz. Say missing=0"):
        read(path="t.npz")
    damaged = bytearray(Path("t.npz").read_bytes())
    damaged[200] ^= 1
    Path("t.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match="not a whole"):
        read(path="t.npz")


@pytest.mark.parametrize("arrays", [{"x": np.zeros((3, 2))}, {"x": np.zeros((3, 2, 2)), "y": np.zeros(3)}])
def test_other_arrays_are_refused_with_their_shapes(arrays):
    np.savez("t.npz", **arrays)
    with pytest.raises(
        ValueError, match=r"must hold numbers x \[n, d\] and classes y \[n\], got x \[3, 2.*module:function"
    ):
        read(path="t.npz")


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            [HEAD, *changed(39, 2, "7l8")],
            {},
            r"column 2 \('weight'\) of t.csv has 59 numbers and 1 other value: '7l8' in row 40 \(line 41\)",
        ),
        (
            changed(0, 2, "7l8"),
            {},
            r"first line of t.csv is neither.*'7l8' stands above numbers.*header=true or header=false",
        ),
        (changed(4, 1, "inf"), {}, r"59 numbers and 1 other value: 'inf' in row 5"),
        (changed(4, 1, "1e999"), {}, r"row 5 \(line 5\), column 1 of t.csv is infinite"),
        (changed(4, 1, "1_000"), {}, r"1 other value: '1_000' in row 5"),
        (
            changed(4, 1, '"1,000"'),
            {},
            r"column 1 of t.csv has '1,000' and column 0 has '.*what are the commas\? Say decimal",
        ),
        ([["1,5;x"], ["2,5;x"], ["1.250,75;y"], ["3,5;y"]], {"decimal": ","}, r"3 numbers.*'1.250,75' in row 3"),
        ([[f"1,{i:03d};{'ab'[i % 2]}"] for i in range(9)], {}, "may stand between thousands. Say decimal"),
        ([HEAD, *rows()[:5], rows()[5][:3], *rows()[6:]], {}, r"as many values as most, 4; line 7 of t.csv has 3"),
        (
            [HEAD, *([str(i), *row] for i, row in enumerate(rows()))],
            {},
            "as most, 5; line 1 of t.csv has 4.*a header that lacks a name",
        ),
        *(
            (
                [[name, *HEAD]] * (name is not None) + [[str(start + i), *row] for i, row in enumerate(rows())],
                {},
                r"column 0 .*counts the rows.*drop=\[0\]",
            )
            for name, start in (("", 1), ("Unnamed: 0", 0), ("Id", 1), ("n", 0), (None, 1), (None, 0))
        ),
        ([HEAD, *rows()], {"class_column": 99}, r"class_column must be 0 \.\.\. 3.*got 99; t.csv has 4 columns"),
        ([HEAD, *rows()], {"class_column": "knd"}, r"class_column must be 'kind', or another of: length, .*got 'knd'"),
        (rows(), {"class_column": "kind"}, "class_column must be .* for the file has no header, got 'kind'"),
        ([["a", "a", "b", "c"], *rows()], {"drop": ["a"]}, "drop must be a number, for 2 columns have this name"),
        ([HEAD, *rows()], {"class_column": 0}, r"column 0 \('length'\) of t.csv has 60 different values in 60 rows"),
        ([HEAD, *([f"2020-01-{i}", *row[1:]] for i, row in enumerate(rows()))], {}, "60 different words.*dates.*drop="),
        ([HEAD, *([*row[:-1], "ant"] for row in rows())], {}, r"must hold at least two classes, got \['ant'\]"),
        (
            [HEAD, *([*row[:2], "NA", row[-1]] for row in rows())],
            {},
            r"column 2 \('weight'\) of t.csv has no values.*drop=\[2\]",
        ),
        (
            [["1999", "2000", "kind"], *([str(2 * i), "1", KINDS[i % 3]] for i in range(9))],
            {},
            "a header.*'kind' has no other row",
        ),
        ([["kind"], ["ant"], ["bee"]], {}, "one value a line.*delimiter="),
        ([[f'"{HEAD[0]}', *HEAD[1:]], *rows()], {}, "Is there a quotation mark too many"),
        ([HEAD, ['"1', "2", "3", "ant"], *rows()], {"delimiter": ","}, "from line 2 on.*a quotation mark too many"),
        ([HEAD], {"header": True}, "has a header and no rows"),
        ([], {}, "t.csv has no rows"),
        ([["<!DOCTYPE html>"]], {}, "t.csv is a web page"),
        ([["PK\x03\x04"]], {}, "ZIP archive or an Excel workbook.*save it as CSV"),
        ([["1\x00", "2"]], {}, "NUL byte in line 1"),
        ([HEAD, *rows()], {"delimiter": "::"}, "delimiter must be one character, or auto, got '::'"),
        ([HEAD, *rows()], {"encoding": "klingon"}, "encoding must be one that Python knows"),
        ([HEAD, *rows()], {"scaling": "robust"}, "scaling must be 'raw', 'scalar' or 'standard', got 'robust'"),
        (
            [HEAD, *rows()],
            {"missing": "zero"},
            "missing must be a valid number.* or must be 'mean', 'median' or 'drop'",
        ),
        ([HEAD, *rows()], {"test_share": 1.0}, r"test_share must be in \(0, 1\), got 1.0"),
        ([HEAD, *rows()], {"test_share": 0.001}, "leaves 0 to test on"),
        ([HEAD, *rows()], {"test_share": 0.99}, "leave no training row for some of 3 classes"),
        ([HEAD, *rows()], {"drop": [0, 1, 2]}, "has no column but the class"),
    ],
)
def test_what_a_person_would_have_to_ask_is_refused_with_the_answer_to_give(table, options, message):
    write(table)
    with pytest.raises(ValueError, match=message):
        read("table", **options)


def test_the_line_of_a_byte_in_another_encoding_is_named():
    write([HEAD, *changed(2, 3, "rosé")], encoding="latin-1")
    with pytest.raises(ValueError, match=r"t.csv is not utf-8: line 4 has the byte 0xe9.*encoding=latin-1"):
        read()


def test_a_damaged_gzip_file_is_named():
    packed = bytearray(gzip.compress("".join(",".join(row) + "\n" for row in rows()).encode()))
    packed[len(packed) // 2] ^= 4
    for content in (packed, packed[:300]):
        Path("t.csv.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"t.csv.gz is a damaged gzip file .*again"):
            read(path="t.csv.gz")


def test_two_files_of_one_name_are_two_sources(tmp_path):
    write(rows())
    first = read().source
    write(changed(3, 3, "bee"))
    assert read().source != first
    write(rows(), end="\r\n", name="same.csv")
    assert read(path="same.csv").source != first
    write(rows(), name="copy.csv")
    assert read(path="copy.csv").source == first


# --- any table, as any program would write it -------------------------------------------------------------------------

cells = st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}") | st.integers(-999, 999).map(lambda value: f"{value}.5")
labels = st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), min_size=2, max_size=4, unique=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=12, max_size=30),
    kinds=labels.filter(lambda words: not any(is_missing(word) or is_number(word) for word in words)),
    delimiter=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    header=st.booleans(),
    packed=st.booleans(),
)
def test_a_table_is_the_same_however_it_is_written(
    numbers, kinds, delimiter, decimal, end, quoting, encoding, header, packed
):
    table = [[*row, kinds[i % len(kinds)]] for i, row in enumerate(numbers)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([["a b", "c", "d", "the class"]] * header)
    writer.writerows([*(value.replace(".", decimal) for value in row[:-1]), row[-1]] for row in table)
    content = text.getvalue().encode(encoding)
    Path("t.csv").write_bytes(gzip.compress(content) if packed else content)
    order = sorted(set(kinds))
    floats = torch.tensor([[float(value) for value in row] for row in numbers]).tolist()
    wanted = sorted([*point, order.index(row[-1])] for point, row in zip(floats, table, strict=True))
    assert points(read()) == wanted


def test_a_table_that_was_edited_between_two_trials_is_read_again(tmp_path):
    file = tmp_path / "t.csv"
    rows = [f"{2 * i},{i % 3 * 10},{i % 2}" for i in range(20)]
    file.write_text("\n".join(["a,b,class", *rows]))
    options = {"path": str(file), "scaling": "raw"}
    first = load_data("table", seed=1, options=options)
    assert torch.equal(load_data("table", seed=1, options=options).x_train, first.x_train)
    assert not torch.equal(load_data("table", seed=2, options=options).x_train, first.x_train)
    assert load_data("table", seed=1, options={**options, "drop": ["a"]}).x_train.shape[1] == 1
    file.write_text("\n".join(["a,b,class", *rows[:-1], "38,999,1"]))
    second = load_data("table", seed=1, options=options)
    assert second.source != first.source
    assert 999 in torch.cat([second.x_train, second.x_test])
