"""Labelled texts of every kind of file, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trifecta.data.tasks import Labelled, LabelledSet, labels, read_labelled, tables
from trifecta.data.tasks import labelled as module
from trifecta.errors import DataError

pytestmark = pytest.mark.fast
Write = Callable[..., str]

ROWS = [("good, really", "pos"), ("two\nlines", "pos"), ('a "bad" one', "neg")]


def as_jsonl(records: list[Any]) -> str:
    return "\n".join(json.dumps(record) for record in records)


def triples(found: LabelledSet) -> list[tuple[str, str | None, object]]:
    return [(record.text, record.pair, record.label) for record in found.records]


def refused(write: Write, name: str, content: str, **options: Any) -> DataError:
    """The error that reading gives, with a way out."""
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_labelled([path], **options)
    assert caught.value.exit_code == 3
    assert caught.value.fix
    caught.value.where = (caught.value.where or "").replace(path, name)
    return caught.value


def test_csv_tsv_jsonl_and_json_give_the_same(write: Write) -> None:
    rows = [{"id": 1, "Text": text, "Label": label} for text, label in ROWS]
    quoted = ['"' + text.replace('"', '""') + '"' for text, _ in ROWS]
    files = {
        "a.csv": "id,Text,Label\n" + "\n".join(f"1,{q},{r[1]}" for q, r in zip(quoted, ROWS, strict=True)),
        "a.tsv": "id\t Text\tLabel\n" + "\n".join(f"1\t{q}\t {r[1]}" for q, r in zip(quoted, ROWS, strict=True)),
        "a.jsonl": "\n" + as_jsonl(rows), "a.json": json.dumps(rows, indent=1), "b.json": as_jsonl(rows),
    }  # fmt: skip
    files["a.csv"] = "\ufeff" + files["a.csv"]
    places = {"a.csv": [2, 3, 5], "a.tsv": [2, 3, 5], "a.jsonl": [2, 3, 4], "a.json": [2, 7, 12], "b.json": [1, 2, 3]}
    for name, content in files.items():
        path = write(name, content)
        found = read_labelled([path])
        assert triples(found) == [(text, None, label) for text, label in ROWS], name
        assert [record.place for record in found.records] == [f"{path}:{line}" for line in places[name]]
        assert (found.kind, found.labels) == ("single", ("neg", "pos"))
        assert read_labelled([path], text_field="Text", label_field="Label") == found
        packed = write(f"{name}.gz", gzip.compress(content.encode()))
        assert triples(read_labelled([Path(packed)])) == triples(found)


def test_a_tsv_without_quoting(write: Write) -> None:
    found = read_labelled([write("a.tsv", 'sentence\tlabel\n"so" he said\t0\nan "odd\t1\n')])
    assert triples(found) == [('"so" he said', None, "0"), ('an "odd', None, "1")]


def test_a_folder_for_each_class(write: Write, tmp_path: Path) -> None:
    for name in ("d/pos/1.txt", "d/pos/2.txt", "d/neg/1.txt"):
        write(name, f"text of {name}\n")
    found = read_labelled([tmp_path / "d"])
    assert triples(found) == [
        ("text of d/neg/1.txt\n", None, "neg"), ("text of d/pos/1.txt\n", None, "pos"),
        ("text of d/pos/2.txt\n", None, "pos"),
    ]  # fmt: skip
    assert found.records[0].place == f"{tmp_path}/d/neg/1.txt:1"
    assert read_labelled([f"{tmp_path}/d/*/*.txt"]) == found
    with pytest.raises(DataError, match="lies 2 folders deep"):
        read_labelled([tmp_path])
    write("d/readme.txt", "about")
    with pytest.raises(DataError, match="lies 0 folders deep"):
        read_labelled([tmp_path / "d"])
    assert read_labelled([f"{tmp_path}/d/*/*.txt"]) == found
    write("e/pos/1", "text")
    with pytest.raises(DataError, match=r"no \.txt file") as caught:
        read_labelled([tmp_path / "e"])
    assert "'FOLDER/*/*.txt'" in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "text", "pair", "label"),
    [
        (["label", "text"], "text", None, "label"), (["title", "content", "category"], "content", None, "category"),
        (["premise", "hypothesis", "label"], "premise", "hypothesis", "label"),
        (["question", "sentence", "label"], "question", "sentence", "label"),
        (["sentence2", "sentence1", "score"], "sentence1", "sentence2", "score"),
        (["text", "pair", "class"], "text", "pair", "class"), (["review", "sentiment"], "review", None, "sentiment"),
        (["target", "label", "text"], "text", None, "label"),
    ],
)  # fmt: skip
def test_columns_are_found(write: Write, columns: list[str], text: str, pair: str | None, label: str) -> None:
    rows = [dict.fromkeys(columns, "x") | {label: name, text: "the text", pair or "?": "the pair"} for name in "ab"]
    found = read_labelled([write("a.jsonl", as_jsonl(rows))])
    assert triples(found) == [("the text", pair and "the pair", name) for name in "ab"]


def test_columns_are_named(write: Write) -> None:
    path = write("a.csv", "text,other,pair,label,mine\na,b,c,d,e\nf,g,h,i,j\n")
    assert triples(read_labelled([path]))[0] == ("a", "c", "d")
    assert triples(read_labelled([path], text_field="other"))[0] == ("b", "c", "d")
    assert triples(read_labelled([path], pair_field="", label_field="mine"))[0] == ("a", None, "e")
    assert triples(read_labelled([path], text_field="pair", pair_field="text"))[0] == ("c", "a", "d")
    error = refused(write, "a.csv", "text,label\na,b\n", label_field="lable")
    assert error.what == "no column 'lable'; there are: 'text', 'label'; did you mean 'label'?"
    assert "data.label_field" in str(error.fix)


@pytest.mark.parametrize("content", ["id,words,kind\n1,a,b\n", "this is fine,1\nthat is not,0\n"])
def test_columns_that_cannot_be_found_are_listed(write: Write, content: str) -> None:
    error = refused(write, "a.csv", content)
    assert error.where == "a.csv:1"
    assert ", ".join(map(repr, content.split("\n")[0].split(","))) in error.what
    assert "data.text_field=COLUMN data.label_field=COLUMN" in str(error.fix)
    assert "header" in str(error.fix)


@pytest.mark.parametrize(
    ("column", "labels", "kind", "found"),
    [
        ("label", ["b", " a "], "single", ["b", "a"]), ("label", [1, 0], "single", ["1", "0"]),
        ("label", [True, False], "single", ["true", "false"]), ("label", ["1", "01"], "single", ["1", "01"]),
        ("label", ["1.5", "x"], "single", ["1.5", "x"]), ("label", [2.0, 1], "single", ["2", "1"]),
        ("label", ["a|b", "b"], "single", ["a|b", "b"]), ("label", ["1_0", "0.5"], "single", ["1_0", "0.5"]),
        ("labels", ["a|b", "b"], "multi", [("a", "b"), ("b",)]),
        ("Labels", ["a; b", "c"], "multi", [("a", "b"), ("c",)]),
        ("label", [["b", "a", "b"], []], "multi", [("b", "a"), ()]),
        ("label", [[1], [2, 3]], "multi", [("1",), ("2", "3")]),
        ("label", [["a"], "b"], "multi", [("a",), ("b",)]),
        ("score", [0.5, 2], "regression", [0.5, 2.0]),
        ("score", ["-1e-3", "+.5", "3"], "regression", [-0.001, 0.5, 3.0]),
    ],
)  # fmt: skip
def test_kinds(write: Write, column: str, labels: list[Any], kind: str, found: list[Any]) -> None:
    read = read_labelled([write("a.jsonl", as_jsonl([{"text": "t", column: label} for label in labels]))])
    assert read.kind == kind
    assert [record.label for record in read.records] == found
    names = {name for label in found if kind != "regression" for name in ([label] if isinstance(label, str) else label)}
    assert read.labels == tuple(sorted(names))


def test_kinds_that_are_given(write: Write) -> None:
    path = write("a.csv", "text,label\na,1\nb,2\nc,1\n")
    assert [record.label for record in read_labelled([path], kind="regression").records] == [1.0, 2.0, 1.0]
    assert read_labelled([path], kind="regression").labels == ()
    assert [record.label for record in read_labelled([path], kind="multi").records] == [("1",), ("2",), ("1",)]
    path = write("b.csv", "text,label\na,1.5\nb,2\n")
    assert read_labelled([path], kind="single").labels == ("1.5", "2")
    assert refused(write, "c.jsonl", '{"text": "a", "label": ["x"]}', kind="single").where == "c.jsonl:1"


def check_label(write: Write) -> None:
    good = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)]
    for bad, found in [("", "blank"), ("  ", "blank"), (None, "null"), ({"a": 1}, "an object was found")]:
        for kind in ("auto", "single", "multi"):
            lines = [*good[:16], {"text": "x", "label": bad}, *good[16:]]
            error = refused(write, "a.jsonl", as_jsonl(lines), kind=kind)
            assert error.where == "a.jsonl:17"
            assert found in error.what
    assert refused(write, "a.csv", "text,label\nx,a\ny,\nz,b\n").where == "a.csv:3"
    assert refused(write, "a.csv", "text,labels\nx,a|b\ny,a||b\n").where == "a.csv:3"
    error = refused(
        write, "a.jsonl", as_jsonl([*good[:16], {"text": "x", "label": "pozitive"}]), allowed=["a", "b", "positive"]
    )
    assert error.where == "a.jsonl:17"
    assert error.what == "the label 'pozitive' isn't one of: 'a', 'b', 'positive'; did you mean 'positive'?"
    error = refused(write, "a.csv", "text,label\nx,1\ny,3\nz,0\n", allowed=["0", "1", "2"])
    assert (error.where, "'0', '1', '2'" in error.what) == ("a.csv:3", True)
    assert refused(write, "a.csv", "text,label\nx,0.5\ny,1\n", allowed=["0", "1"]).where == "a.csv:2"


def test_fault_051_a_label_that_is_none(write: Write) -> None:
    """A label that is blank, null, no label, or none of the allowed ones is refused (3) with file and line, and the
    allowed ones."""
    check_label(write)


def test_fault_051_control_blank_labels_as_a_class_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank labels taken as a class fail the test."""
    monkeypatch.setattr(module, "require_label", lambda _: None)
    monkeypatch.setattr(labels, "require_text", lambda value, *_: str(value))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_label(write)


def test_fault_051_control_unknown_labels_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that the training data doesn't have, let through, fail the test."""
    monkeypatch.setattr(module, "require_known", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_label(write)


def check_broken(write: Write) -> None:
    good = [as_jsonl([{"text": f"text {n}", "label": "ab"[n % 2]}]) for n in range(20)]
    for bad, found in [
        ('{"text": "a"', "no valid JSON"), ('["a"]', "a list was found"), ('{"text": "a"}', "no field 'label'"),
        ('{"label": "a"}', "no field 'text'"), ('{"text": " ", "label": "a"}', "is empty"),
        ('{"text": 5, "label": "a"}', "a number: 5"), ('{"text": "\\ud800", "label": "a"}', "surrogate"),
        ('{"text": "\\u0000", "label": "a"}', "NUL"), ('{"text": "a", "label": "a", "label": "b"}', "twice"),
    ]:  # fmt: skip
        error = refused(write, "a.jsonl", "\n".join([*good[:16], bad, *good[16:]]))
        assert error.where == "a.jsonl:17", bad
        assert found in error.what
        error = refused(write, "a.json", "[" + ",\n".join([*good[:16], bad, *good[16:]]) + "]")
        assert (error.where, bad) in [("a.json:17", bad), ("a.json:18", '{"text": "a"')]
    rows = [f"{n},text {n},{'ab'[n % 2]}" for n in range(15)]
    for bad, found in [
        ("1,2", "2 columns"),
        ("1,2,3,4", "4 columns"),
        ('1,"a"b,a', "broken CSV"),
        ("1,,a", "is empty"),
    ]:
        for name, sign in (("a.csv", ","), ("a.tsv", "\t")):
            content = "\n".join(["id,text,label", *rows, bad, "9,x,a"]).replace(",", sign)
            if not (name == "a.tsv" and found == "broken CSV"):  # there a quote is a sign like any other
                error = refused(write, name, content)
                assert (error.where, found in error.what) == (f"{name}:17", True)


def test_fault_052_broken_records(write: Write) -> None:
    """A broken or incomplete line of labelled JSONL, item of a JSON list or row of CSV is refused (3) with file and
    line."""
    check_broken(write)


def test_fault_052_control_rows_left_out_are_noticed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that leaves out rows with a wrong number of columns fails the test."""

    def lenient(text: str, place: str, delimiter: str, **_: bool) -> list[tuple[str, list[str]]]:
        rows = [(f"{place}:{n}", line.split(delimiter)) for n, line in enumerate(text.splitlines(), 1)]
        return [(where, row) for where, row in rows if len(row) == len(rows[0][1])]

    monkeypatch.setattr(tables, "_cells", lenient)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_broken(write)


def check_one_class(write: Write, tmp_path: Path) -> None:
    for content in ("text,label\na,spam\nb,spam\n", "text,labels\na,spam\nb,spam\n"):
        for kind in ("auto", "multi", "single"):
            assert "the label 'spam'" in refused(write, "a.csv", content, kind=kind).what
    write("d/spam/1.txt", "text")
    with pytest.raises(DataError, match="the label 'spam'"):
        read_labelled([tmp_path / "d"])
    assert "no record has a label" in refused(write, "a.jsonl", '{"text": "a", "labels": []}').what


def test_fault_053_one_class_only(write: Write, tmp_path: Path) -> None:
    """Data of one class only is refused (3) with the name of the class."""
    check_one_class(write, tmp_path)


def test_fault_053_control_one_class_let_through_is_noticed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that takes one class for enough fails the test."""
    monkeypatch.setattr(module, "_require_classes", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_one_class(write, tmp_path)


def test_one_class_is_enough_where_the_classes_are_known(write: Write) -> None:
    found = read_labelled([write("a.csv", "text,label\na,y\n")], allowed=("y", "x"))
    assert found.labels == ("y", "x")
    assert found.records == [Labelled("a", None, "y", found.records[0].place)]
    found = read_labelled([write("b.jsonl", as_jsonl([{"text": "a", "label": ["y"]}, {"text": "b", "label": []}]))])
    assert (found.kind, found.labels) == ("multi", ("y",))


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-1e999", '"nan"', '"inf"', '"abc"', "[0.5]", "1" * 4000, "true"])
def test_targets_of_regression_are_finite_numbers(write: Write, bad: str) -> None:
    content = '{"text": "a", "label": 0.5}\n{"text": "b", "label": %s}\n' % bad  # noqa: UP031 - braces
    assert refused(write, "a.jsonl", content, kind="regression").where == "a.jsonl:2"
    if bad not in ('"abc"', "[0.5]", "true"):
        assert refused(write, "a.jsonl", content).where == "a.jsonl:2"


def test_second_texts_in_all_files_or_in_none(write: Write) -> None:
    one, other = write("a.csv", "text,pair,label\na,b,c\n"), write("b.csv", "text,label\na,d\n")
    for paths in ([one, other], [other, one]):
        with pytest.raises(DataError, match=r"a\.csv:2 has one") as caught:
            read_labelled(paths)
        assert caught.value.where == f"{other}:2"
    assert read_labelled([one, other], pair_field="").labels == ("c", "d")


def test_nothing_to_read(write: Write, tmp_path: Path) -> None:
    for name, content in [
        ("a.csv", ""),
        ("a.csv", "text,label\n"),
        ("a.jsonl", "\n"),
        ("a.json", "[ ]"),
        ("a.json", "["),
    ]:
        assert refused(write, name, content).where.startswith(name)
    assert "2 columns have the name" in refused(write, "a.csv", "text,text,label\na,b,c\n").what
    assert "kind of file" in refused(write, "a.parquet", "PAR1").what
    for content, line in [('[{"a": 1}\n\n{"a": 1}]', 3), ('[{"a": 1},\n]', 2), ('[{"a": 1}]\n\nx', 3), ("[\n1]", 2)]:
        assert refused(write, "a.json", content).where == f"a.json:{line}"
    with pytest.raises(DataError, match="no file"):
        read_labelled([])
    with pytest.raises(DataError, match="no such file"):
        read_labelled([tmp_path / "absent.csv"])


def test_places_in_a_list_tell_records_apart(write: Write) -> None:
    path = write("a.json", '[{"text": "a", "label": 1},\n{"text": "b", "label": 2}, {"text": "c", "label": 3}]')
    places = [record.place for record in read_labelled([path]).records]
    assert places == [f"{path}:1", f"{path}:2", f"{path}:2:28"]
