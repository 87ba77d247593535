"""Cutting a large JSON object: the pieces together are the object, whatever the chunks, and nothing broken passes."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.formats import json_stream
from scaling.data.formats.json_stream import pieces
from scaling.errors import DataError

_TEXT = st.text(st.sampled_from('ab"\\{}[],: \né\U0001f600'), max_size=6)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3))


def merge(path):
    """What the pieces hold together."""
    merged = {}
    for start, text in pieces(path):
        piece = json.loads(text)
        assert piece
        assert not merged.keys() & piece.keys()
        assert path.read_bytes()[start:].lstrip(b" \n,").startswith(text[1:-1].strip())
        merged.update(piece)
    return merged


@settings(max_examples=3 * settings().max_examples)
@given(
    content=st.dictionaries(_TEXT, _VALUES, max_size=5),
    chunk_bytes=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_pieces_together_are_the_object_whatever_the_chunks(content, chunk_bytes, indent, ascii_only, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only) + "\n ", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK_BYTES", chunk_bytes)
        assert merge(path) == content
        assert list(merge(path)) == list(content)


@settings(max_examples=2 * settings().max_examples)
@given(content=st.dictionaries(_TEXT, _VALUES, min_size=1, max_size=4), chunk_bytes=st.integers(1, 40), data=st.data())
def test_no_beginning_of_an_object_passes_for_a_whole(content, chunk_bytes, data, tmp_path_factory):
    whole = json.dumps(content).encode()
    path = tmp_path_factory.mktemp("json") / "cut.json"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK_BYTES", chunk_bytes)
        with pytest.raises((DataError, json.JSONDecodeError)) as caught:
            merge(path)
    assert isinstance(caught.value, json.JSONDecodeError) or "cut.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no JSON object begins with b''"),
        (b" \n", "no JSON object begins with b''"),
        (b"[1, 2]", "no JSON object begins with"),
        (b"3", "no JSON object begins with"),
        (b"\x00" * 50, "no JSON object begins with"),
        (b'\xef\xbb\xbf{"a": {}}', "no JSON object begins with"),
        (b"\x1f\x8b\x08\x00 gzip", "no JSON object begins with"),
        (b'{"a": {}, "b": {"c"', "after 2 members: the file ends here"),
        (b'{"a": {}, "b": "', "after 1 members: the file ends here"),
        (b'{"a": {}}{"b": {}}', "the object ends here, but the file does not"),
        (b'{"a": {}}}', "the object ends here, but the file does not"),
        (b'{"a": {}]', "ends with another bracket"),
        (b'{"a": {}, "b": {}, "a": {}}', "key b'\"a\"' comes twice"),
        (b'{"a": ' + b"[" * 1_000_000, "nested deeper than 64"),
        (b'{"a": ' * 1_000_000, "nested deeper than 64"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 2**21])
def test_what_is_no_whole_object_is_an_error_that_names_file_and_place(
    content, problem, chunk_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", chunk_bytes)
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.json: byte \d+, after \d+ members") as caught:
        merge(tmp_path / "bad.json")
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 400


def test_missing_comma_between_pieces_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 4)
    (tmp_path / "bad.json").write_bytes(b'{"a": {} "b": {}}')
    with pytest.raises(DataError, match="a comma is missing"):
        merge(tmp_path / "bad.json")


@pytest.mark.parametrize("filling", [b'"x" ', b"[] ", b"1 "])
def test_member_that_does_not_end_is_given_up(filling, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(json_stream, "MAX_MEMBER_BYTES", 10_000)
    (tmp_path / "bad.json").write_bytes(b'{"a": [' + filling * 20_000)
    with pytest.raises(DataError, match="a member has more than 10000 bytes"):
        merge(tmp_path / "bad.json")


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 2**16)
    path = tmp_path / "large.json"
    with path.open("w") as stream:
        stream.write('{"0": {}')
        for number in range(1, 1500):
            stream.write(f', "{number}": {json.dumps({"values": [number / 7] * 200})}')
        stream.write("}")
    assert path.stat().st_size > 5e6
    tracemalloc.start()
    num_bytes = sum(len(text) for _, text in pieces(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_bytes == pytest.approx(path.stat().st_size, rel=0.01)
    assert peak < 3e6
