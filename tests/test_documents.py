"""Documents: text files of any size, folders, rows with a `text`; held out by their hash, and none of them vanishes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from documents import settings, survey, texts, told
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st
from samples import pair, source, write
from samples import told as rows_told

from runner.data import documents
from runner.data import texts as files
from runner.errors import DataError

pytestmark = pytest.mark.usefixtures("here")


def rows(*given: str, **more: str) -> list[dict[str, str]]:
    return [{"text": text, **more} for text in given]


def test_rows_of_every_kind_of_file_are_documents() -> None:
    write("a.jsonl", rows("one", "two"))
    Path("b.csv").write_text('text,other\n"three\nlines",x\n')
    Path("c.json").write_text(json.dumps(rows("four")))
    Path("d.txt").write_bytes(b"\xef\xbb\xbffive\r\n")
    Path("e.md").write_text("# six")
    wanted = settings(["a.jsonl", "b.csv", "c.json", "d.txt", "e.md"])
    assert texts(wanted)["train"] == ["one", "two", "three\nlines", "four", "five\r\n", "# six"]
    write("named.jsonl", [{"body": "x", "text": "not this"}])
    assert texts(settings([source("named.jsonl", format="text", columns=(("text", "body"),))]))["train"] == ["x"]


def test_a_folder_is_its_text_files_in_order_and_empty_ones_are_named() -> None:
    for name, text in (("b/2.md", "two"), ("a.txt", "one"), ("b/3.txt", " \n"), ("c.txt", ""), (".hidden/x", "no")):
        Path("corpus", name).parent.mkdir(parents=True, exist_ok=True)
        Path("corpus", name).write_text(text)
    found = survey(settings("corpus"))
    assert texts(settings("corpus"))["train"] == ["one", "two"]
    assert found.ledger.dropped == {"empty": 2}
    assert {file.file for file in found.ledger.files if file.dropped} == {"corpus/b/3.txt", "corpus/c.txt"}
    Path("corpus/picture.png").write_bytes(b"x")
    hint = "move it away, or name the files with a pattern such as `corpus/**/*.txt`"
    assert told(settings("corpus")) == [("corpus", "`corpus` holds `picture.png` beside its text files", hint)]
    assert texts(settings("corpus/**/*.txt"))["train"] == ["one"]


@pytest.mark.parametrize("piece", [4, 5, 7, 2**20])
def test_a_byte_that_is_not_utf_8_is_told_with_its_place(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE", piece)
    Path("a.txt").write_bytes("grün\nübel ".encode() + b"\xe9t\xe9\nend")
    message, hint = "line 2 is not UTF-8 at its byte 7, 0xE9", "save the file as UTF-8"
    ((place, *said),) = told(settings("a.txt"))
    assert said == [message, hint] and place.startswith("a.txt:2:")
    Path("a.txt").write_bytes(b"abc\ndefghi\nj\0")
    assert [message for _, message, _ in told(settings("a.txt"))] == ["line 3 has a NUL byte"]
    Path("a.txt").write_bytes(b"ab\nc" + "ü".encode()[:1])
    assert [message for _, message, _ in told(settings("a.txt"))] == ["line 2 is not UTF-8 at its byte 2, 0xC3"]


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
@checked(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_in_pieces_is_the_whole_file(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("long.txt").write_bytes(b"\xef\xbb\xbf" + ("x" + text).encode())
    monkeypatch.setattr(files, "PIECE", 5)
    assert texts(settings("long.txt"))["train"] == ["x" + text]
    found = survey(settings("long.txt"))
    assert found.documents["train"] == found.ledger.read == 1
    assert found.characters["train"] == len(text) + 1


def test_rows_of_another_task_are_sent_there() -> None:
    write("a.jsonl", [pair(1), {"messages": []}, {"content": "x"}, {"text": None}, {"text": 3}, {"text": "\ud800"}])
    found = [(message, hint) for _, message, hint in told(settings("a.jsonl"))]
    assert found == [
        (
            "missing column `text`; the row has `prompt`, `completion`",
            "rows with `prompt` and `completion` belong to `task: sft`",
        ),
        ("missing column `text`; the row has `messages`", "rows with `messages` belong to `task: sft`"),
        ("missing column `text`; the row has `content`", "if these columns hold it, set `columns: {text: content}`"),
        ("`text` is `null`", None),
        ("`text` is a number, not text", None),
        (
            "`text` has half of a character at position 1: `\\ud800`",
            "an escape of this kind means something only with its other half",
        ),
    ]


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_text_is_sent_to_this_task_by_the_others(on_bad_row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE", 4)
    Path("a.md").write_text("one two three")
    message = "the file has neither `prompt` and `completion` nor `messages`; it has `text`"
    hint = "plain text belongs to `task: continued_pretraining`"
    assert rows_told("a.md", on_bad_row=on_bad_row) == [("a.md", message, hint)]


def test_bad_rows_are_left_out_where_the_recipe_says_so() -> None:
    write("a.jsonl", [*rows("one"), pair(1), "[", *rows(" "), *rows("two")])
    found = survey(settings("a.jsonl", on_bad_row="skip"))
    assert texts(settings("a.jsonl", on_bad_row="skip"))["train"] == ["one", "two"]
    assert found.ledger.dropped == {"invalid": 1, "unreadable": 1, "empty": 1}
    assert [each.place.line for each in found.rejected] == [2, 3]


# held out, weighed, limited


def many(count: int) -> list[str]:
    return [f"document {number}" for number in range(count)]


def test_a_share_is_held_out_by_the_hash_of_the_text() -> None:
    write("a.jsonl", rows(*many(400)))
    first = texts(settings("a.jsonl", evaluation_fraction=0.2))
    assert first == texts(settings("a.jsonl", evaluation_fraction=0.2))
    assert 50 < len(first["evaluation"]) < 110
    assert sorted(first["train"] + first["evaluation"]) == sorted(many(400))
    assert first["evaluation"] != texts(settings("a.jsonl", evaluation_fraction=0.2), seed=2)["evaluation"]
    write("b.jsonl", rows(*many(400), *(f"new {number}" for number in range(100))))
    grown = texts(settings("b.jsonl", evaluation_fraction=0.2))
    assert set(first["evaluation"]) <= set(grown["evaluation"]), "a corpus that grows keeps what it held out"


@given(
    chosen=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 9),
)
@checked(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_neither_side_is_empty_and_equal_texts_stay_together(chosen: list[str], fraction: float, seed: int) -> None:
    write("a.jsonl", rows(*chosen))
    found = texts(settings("a.jsonl", evaluation_fraction=fraction), seed)
    assert sorted(found["train"] + found["evaluation"]) == sorted(chosen)
    assert not set(found["train"]) & set(found["evaluation"])
    assert found["train"] and bool(found["evaluation"]) == (len(set(chosen)) > 1)


def test_weights_take_whole_documents_in_rounds() -> None:
    write("a.jsonl", rows("a", "b"))
    write("b.jsonl", rows(*many(10)))
    wanted = settings([source("a.jsonl", format="text", weight=2.0), source("b.jsonl", format="text", weight=0.5)])
    found = texts(wanted)["train"]
    assert found[:2] == ["a", "b"] and found[-2:] == ["a", "b"] and len(found) == 9
    counted = survey(wanted).ledger
    assert (counted.repeats, counted.dropped) == (2, {"weight below 1": 5})


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_limit_counts_documents_of_each_split(shuffle: bool) -> None:
    write("a.jsonl", rows(*many(30)))
    write("b.jsonl", rows("x", "y", "z"))
    wanted = settings("a.jsonl", evaluation=(source("b.jsonl", format="text"),), limit=2, shuffle=shuffle)
    found = texts(wanted)
    assert [len(found["train"]), len(found["evaluation"])] == [2, 2]
    assert (found["train"] == many(2)) is not shuffle
    assert survey(wanted).ledger.dropped == {"over the limit": 29}


def test_a_text_in_both_splits_is_counted_and_a_split_column_followed() -> None:
    write("a.jsonl", [*rows("a", "b"), *rows("b", "c", split="evaluation")])
    wanted = settings("a.jsonl")
    assert texts(wanted) == {"train": ["a", "b"], "evaluation": ["b", "c"]}
    assert survey(wanted).ledger.leaked == 1


def test_nothing_left_and_data_that_changes_are_told() -> None:
    Path("a.txt").write_text("\n")
    assert told(settings("a.txt")) == [("a.txt", "no row is left for `train`, of 1 that were read", None)]
    write("b.jsonl", rows("a", "b"))
    found = survey(settings("b.jsonl"))
    for changed in (rows("a"), rows("a", "b", "c")):
        write("b.jsonl", changed)
        with pytest.raises(DataError, match="changed while it was read"):
            list(documents.stream(settings("b.jsonl"), found))


def test_hashes_are_of_the_files() -> None:
    import hashlib

    Path("docs").mkdir()
    Path("docs/a.txt").write_text("one")
    write("b.jsonl", rows("two"))
    assert documents.hashes(settings(["docs", "b.jsonl"])) == {
        name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ("docs/a.txt", "b.jsonl")
    }
