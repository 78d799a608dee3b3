"""Reading jsonl: what is accepted, and what is said about each kind of bad row."""

import json

import pytest

from minimind.errors import UserError
from minimind.text.jsonl import (
    check_any,
    check_conversation,
    check_preference,
    check_text,
    read_jsonl,
    read_lines,
    split_file,
)

GOOD = b'{"text": "Fine."}\n'


def read(path, data, check=check_text, **options):
    path.write_bytes(data)
    return list(read_jsonl(path, check, **options))


@pytest.mark.parametrize(
    "data",
    [
        '{"text": "猫"}\n{"text": "b"}'.encode(),  # no newline at the end
        '{"text": "猫"}\r\n\r\n \n{"text": "b"}\n'.encode(),  # Windows, blank lines
        b"\xef\xbb\xbf" + '{"text": "猫"}\n{"text": "b"}\n'.encode(),  # BOM
        b'{"text": "\\u732b", "id": 7}\n{"text": "b"}\n',  # escapes, another field
    ],
)
def test_good_rows(tmp_path, data):
    assert [row["text"] for row in read(tmp_path / "a.jsonl", data)] == ["猫", "b"]


def test_only_newlines_end_a_row(tmp_path):
    text = "one\u2028two\x85three\x0bfour"
    data = json.dumps({"text": text}, ensure_ascii=False).encode()
    assert read(tmp_path / "a.jsonl", data) == [{"text": text}]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (b'{"text": "cut', "not JSON"),
        (b"plain words", "not JSON"),
        (b'["text"]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"txt": "a"}', "'text' is missing"),
        (b'{"text": 3}', "'text' is of type int, not a string"),
        (b'{"text": null}', "'text' is of type NoneType, not a string"),
        (b'{"text": " \\n\\t"}', "'text' is empty"),
        (b'{"text": "\xff\xfe"}', "not UTF-8"),
        ('{"text": "a"}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "not a row"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "not a row"),
    ],
)
def test_bad_rows(tmp_path, row, what):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError) as caught:
        read(path, GOOD + b"\n" + row + b"\n" + GOOD)
    message = str(caught.value)
    assert f"{path}, line 3: " in message and what in message
    assert "--skip-bad" in message and "\n" not in message


def test_skipped_rows_are_counted_by_the_reader(tmp_path):
    rows = read(tmp_path / "a.jsonl", GOOD + b"{\n" + GOOD + b"7\n", skip_bad=True)
    assert rows == [{"text": "Fine."}, None, {"text": "Fine."}, None]


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl", check_text))


def test_rows_come_one_at_a_time(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"bad\n")
    rows = read_jsonl(path, check_text)
    assert next(rows) == {"text": "Fine."}
    with pytest.raises(UserError, match="line 2"):
        next(rows)


def turn(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "a"}, "'conversations' is missing"),
        ({"conversations": "hello"}, "not a list of turns"),
        ({"conversations": []}, "not a list of turns"),
        ({"conversations": ["hello"]}, "turn 0 .* 'role'"),
        ({"conversations": [turn("user", "a"), {"role": "assistant"}]}, "turn 1"),
        ({"conversations": [turn("user", 5)]}, "turn 0 .* 'content'"),
        ({"conversations": [turn("user", "a")]}, "no answer"),
        (
            {"conversations": [turn("user", "a"), turn("assistant", " ")]},
            "'content' of turn 1 of 'conversations'.* empty",
        ),
        (
            {
                "conversations": [
                    *[turn("user", "a"), turn("assistant", "b")],
                    *[turn("user", "c"), turn("assistant", "\n\t")],
                ]
            },
            "line 1: 'content' of turn 3 of 'conversations'.* empty",
        ),
    ],
)
def test_bad_conversations(tmp_path, row, what):
    with pytest.raises(UserError, match=what):
        read(tmp_path / "a.jsonl", json.dumps(row).encode(), check_conversation)


def test_good_conversation(tmp_path):
    row = {"conversations": [turn("user", "a"), turn("assistant", "b")]}
    data = json.dumps(row).encode()
    assert read(tmp_path / "a.jsonl", data, check_conversation) == [row]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_parts_hold_every_line_once_under_its_number(tmp_path, size):
    lines = [b"x" * n + b"\n" for n in (0, 3, 40, 0, 1, 100, 2)] + [b"no newline"]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(lines))
    parts = list(split_file(path, size))
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[-1].end == path.stat().st_size
    read = [pair for part in parts for pair in read_lines(part)]
    assert read == list(enumerate(lines, start=1))


def test_an_empty_file_has_no_parts(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    assert list(split_file(tmp_path / "a.jsonl", 10)) == []


def preference(chosen, rejected, prompt="Hi?"):
    return {
        name: [turn("user", prompt), turn("assistant", answer)]
        for name, answer in (("chosen", chosen), ("rejected", rejected))
    }


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: row.pop("chosen"), "'chosen' is missing"),
        (lambda row: row.pop("rejected"), "'rejected' is missing"),
        (lambda row: row.update(rejected="no"), "'rejected' is not a list of turns"),
        (lambda row: row["chosen"][1].pop("content"), "turn 1 of 'chosen'"),
        (
            lambda row: row["chosen"][1].update(content=" "),
            "turn 1 of 'chosen'.* empty",
        ),
        (lambda row: row["rejected"].append(turn("user", "?")), "'rejected' does not"),
        (lambda row: row["chosen"][0].update(content="?"), "the same prompt"),
    ],
)
def test_bad_preferences(tmp_path, change, what):
    row = preference("Yes.", "No.")
    assert check_preference(row) is None and check_any(row) is None
    change(row)
    with pytest.raises(UserError, match=what):
        read(tmp_path / "a.jsonl", json.dumps(row).encode(), check_any)


def test_check_any_goes_by_the_fields():
    assert check_any({"text": "a"}) is None
    assert "'text' is missing" in check_any({})
    assert "list of turns" in check_any({"conversations": 1, "text": "a"})
