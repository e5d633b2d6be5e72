"""API keys: none leaves the service open; else one of them has to be offered, and its name is told, never the key."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.errors import BadApiKey, BadSettings
from app.http import api_keys
from app.http.api_keys import ApiKeys, KeySource, new_key
from cli import main

FIRST, SECOND, THIRD = "first-key-of-16-c", "second-key-0123456789", "third/key+with=signs#!"
VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",:#")
KEYS = st.text(VISIBLE, min_size=16, max_size=64)


def digest_of(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def from_variable(inline: str) -> ApiKeys:
    return ApiKeys(KeySource("MIXER_API_KEYS", inline, None))


def from_file(folder: Path, content: str | bytes) -> ApiKeys:
    file = folder / "keys"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return ApiKeys(KeySource("MIXER_API_KEYS", "", file))


def refusal_of(entry: str) -> str:
    with pytest.raises(BadSettings) as refused:
        from_variable(entry)
    assert refused.value.exit_code == 2
    return str(refused.value)


# --- who may enter ---


@pytest.mark.parametrize("nothing", ["", " "])
def test_without_keys_nobody_is_asked_for_one(nothing: str) -> None:
    assert not from_variable(nothing).locked


@pytest.mark.parametrize(
    ("authorization", "api_key", "name"),
    [
        (f"Bearer {FIRST}", None, "key-1"),
        (f"bearer   {SECOND} ", None, "key-2"),
        (f"  Bearer\t{SECOND}", None, "key-2"),
        (None, f" {FIRST} ", "key-1"),
        ("Basic abc", f"{FIRST}\t", "key-1"),
        (None, SECOND, "key-2"),
        (f"Bearer {FIRST}", "wrong", "key-1"),
        ("Basic dXNlcjpwYXNz", FIRST, "key-1"),
    ],
)
def test_any_of_the_keys_opens_by_either_header(authorization: str | None, api_key: str | None, name: str) -> None:
    known = from_variable(f"{FIRST},{SECOND}")
    assert known.locked
    assert known.expect_known(authorization, api_key) == name


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ("Bearer wrong", None),
        ("Bearer ", None),
        (None, FIRST[:-1]),
        (None, FIRST + "x"),
        (None, ""),
        ("Bearer wrong", FIRST),
        (None, "schlüssel-ÿ"),
        (None, digest_of(FIRST)),  # whoever reads the file has no key
        (None, f"key-1:{FIRST}"),
    ],
)
def test_a_wrong_key_is_refused_and_not_repeated(authorization: str | None, api_key: str | None) -> None:
    with pytest.raises(BadApiKey, match=r"^The API key is not known to this service") as refused:
        from_variable(f"{FIRST},{SECOND}").expect_known(authorization, api_key)
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("authorization", [None, "", "Basic dXNlcjpwYXNz", FIRST])
def test_no_key_is_refused_with_what_was_expected(authorization: str | None) -> None:
    with pytest.raises(BadApiKey, match="has no API key; expected Authorization: Bearer KEY, or X-API-Key: KEY"):
        from_variable(FIRST).expect_known(authorization, None)


def test_every_key_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    known = from_variable(f"{FIRST},{SECOND},{THIRD}")
    compared: list[bytes] = []

    class Counting:
        @staticmethod
        def compare_digest(offered: bytes, stored: bytes) -> bool:
            compared.append(stored)
            return offered == stored

    monkeypatch.setattr(api_keys, "hmac", Counting)
    for key in (FIRST, THIRD):
        known.expect_known(None, key)
        assert len(set(compared)) == 3
        compared.clear()


@given(st.lists(KEYS, min_size=1, max_size=6, unique=True), st.data())
def test_exactly_the_configured_keys_open(secrets: list[str], data: st.DataObject) -> None:
    known = from_variable(",".join(f"n{index}:{secret}" for index, secret in enumerate(secrets)))
    for index, secret in enumerate(secrets):
        assert known.expect_known(None, secret) == f"n{index}"
    offered = data.draw(KEYS)
    if offered not in secrets:
        with pytest.raises(BadApiKey):
            known.expect_known(None, offered)


# --- how keys are written down ---


def test_names_are_told_and_those_without_one_are_counted() -> None:
    known = from_variable(f"phone:{FIRST}, {SECOND} ,web:{digest_of(THIRD)},{digest_of('x' * 16)}")
    names = [known.expect_known(None, key) for key in (FIRST, SECOND, THIRD, "x" * 16)]
    assert names == ["phone", "key-1", "web", "key-2"]


def test_one_name_may_have_two_keys_while_they_are_exchanged() -> None:
    known = from_variable(f"phone:{FIRST},phone:{SECOND}")
    assert known.expect_known(None, FIRST) == known.expect_known(None, SECOND) == "phone"


def test_a_file_has_a_key_a_line_and_comments(tmp_path: Path) -> None:
    content = f"\ufeff# keys of May\r\n\r\nphone:{FIRST}\r\n  {SECOND}  # the old one\n\t#\n{THIRD}\n"
    known = from_file(tmp_path, content)
    assert [known.expect_known(None, key) for key in (FIRST, SECOND, THIRD)] == ["phone", "key-1", "key-2"]


def test_keys_come_from_the_variable_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(SECOND, encoding="utf-8")
    known = ApiKeys(KeySource("MIXER_ADMIN_KEYS", FIRST, file, "admin"))
    assert [known.expect_known(None, key) for key in (FIRST, SECOND)] == ["admin-1", "admin-2"]


def test_only_digests_are_kept() -> None:
    known = ApiKeys(KeySource("MIXER_API_KEYS", f"phone:{FIRST}", None))
    assert FIRST not in repr(known._keys)


# --- what is refused, and never shown ---


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("swordfish", "the key has 9 characters; expected at least 16."),
        ("phone:swordfish", "the key has 9 characters; expected at least 16."),
        ("phone:", "the key has 0 characters; expected at least 16."),
        ("swordfish with white space", "the key has white space, ':', ',' or other than ASCII; expected none of them."),
        ("swordfish-schlüssel-ÿ", "the key has white space, ':', ',' or other than ASCII; expected none of them."),
        ("a:swordfish:swordfish", "the key has white space, ':', ',' or other than ASCII; expected none of them."),
        (
            "swordfish!!!:abcdefghijklmnop",
            "the name has other characters than A-Z, a-z, 0-9, '.', '_', '-', or over 64.",
        ),
        (":swordfish-swordfish", "the name has other characters than A-Z, a-z, 0-9, '.', '_', '-', or over 64."),
        ("sha256:swordfish", "the digest is none of SHA-256; expected 64 hexadecimal digits."),
        ("phone:sha256:swordfish", "the digest is none of SHA-256; expected 64 hexadecimal digits."),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(entry: str, words: str) -> None:
    assert refusal_of(f"{FIRST},{entry}") == f"MIXER_API_KEYS, entry 2: {words}"


@pytest.mark.parametrize("again", [f"b:{FIRST}", f"b:{digest_of(FIRST)}"])
def test_one_key_under_two_names_is_refused(again: str) -> None:
    assert (
        refusal_of(f"a:{FIRST},{again}") == "MIXER_API_KEYS, entry 2: the key of b is that of a, too; expected another."
    )


def test_a_line_that_is_refused_is_counted(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"^MIXER_API_KEYS_FILE, line 3: the key has 5 characters; expected at least"):
        from_file(tmp_path, f"# mine\n{FIRST}\nshort\n")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSettings, match=f"^MIXER_API_KEYS_FILE is {file}, which cannot be read: "):
        ApiKeys(KeySource("MIXER_API_KEYS", "", file))


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"])
def test_a_file_without_a_key_does_not_leave_the_service_open(content: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="which holds no key; expected one a line"):
        from_file(tmp_path, content)


@pytest.mark.parametrize("nothing", [",", " , ,"])
def test_commas_without_a_key_do_not_leave_the_service_open(nothing: str) -> None:
    assert refusal_of(nothing) == f"MIXER_API_KEYS is {nothing!r}, which holds no key; expected one, or nothing."


# --- keys that change while the service runs ---


def test_a_file_read_again_lets_the_new_key_in_and_the_old_one_no_longer(tmp_path: Path) -> None:
    known = from_file(tmp_path, FIRST)
    (tmp_path / "keys").write_text(SECOND, encoding="utf-8")
    known.expect_known(None, FIRST)
    known.read_again()
    assert known.expect_known(None, SECOND) == "key-1"
    with pytest.raises(BadApiKey):
        known.expect_known(None, FIRST)


@pytest.mark.parametrize("content", ["short", "", None])
def test_a_file_that_is_refused_when_it_is_read_again_changes_nothing(content: str | None, tmp_path: Path) -> None:
    known = from_file(tmp_path, FIRST)
    if content is None:
        (tmp_path / "keys").unlink()
    else:
        (tmp_path / "keys").write_text(content, encoding="utf-8")
    with pytest.raises(BadSettings):
        known.read_again()
    assert known.expect_known(None, FIRST) == "key-1"


# --- new ones ---


@pytest.mark.parametrize(("name", "shown"), [("phone", "phone"), (None, "key-1")])
def test_a_new_key_opens_by_the_line_that_does_not_tell_it(name: str | None, shown: str, tmp_path: Path) -> None:
    key, line = new_key(name)
    assert len(key) == 43
    assert key not in line
    assert from_file(tmp_path, line + "\n").expect_known(f"Bearer {key}", None) == shown
    assert from_variable(key).expect_known(None, key) == "key-1"
    assert new_key(name)[0] != key


@pytest.mark.parametrize("name", ["", "two words", "a:b", "x" * 65, "ü"])
def test_a_name_that_cannot_be_written_down_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match=r"^The name is "):
        new_key(name)


def test_the_command_prints_a_key_and_its_line(tmp_path: Path) -> None:
    told = CliRunner().invoke(main.app, ["key", "phone"])
    assert told.exit_code == 0
    first, second = told.output.splitlines()
    key, line = first.removeprefix("key:  "), second.removeprefix("line: ")
    assert from_file(tmp_path, line).expect_known(None, key) == "phone"
