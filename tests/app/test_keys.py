"""API keys: none leaves the service open; else one of them has to be offered."""

from pathlib import Path

import pytest

from app.errors import BadApiKey, BadSettings
from app.keys import ApiKeys, read_keys

FIRST, SECOND = "first-key-of-16-c", "second-key-0123456789"


def test_without_keys_everybody_may_enter() -> None:
    ApiKeys(()).expect_known(None, None)
    ApiKeys(()).expect_known("Bearer anything", "anything")


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (f"Bearer {FIRST}", None),
        (f"bearer   {SECOND} ", None),
        (None, SECOND),
        (f"Bearer {FIRST}", "wrong"),
        ("Basic dXNlcjpwYXNz", FIRST),
    ],
)
def test_any_of_the_keys_opens_by_either_header(authorization: str | None, api_key: str | None) -> None:
    ApiKeys((FIRST, SECOND)).expect_known(authorization, api_key)


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
    ],
)
def test_a_wrong_key_is_refused_and_not_repeated(authorization: str | None, api_key: str | None) -> None:
    with pytest.raises(BadApiKey, match=r"^The API key is not known to this service") as refused:
        ApiKeys((FIRST, SECOND)).expect_known(authorization, api_key)
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("authorization", [None, "", "Basic dXNlcjpwYXNz", FIRST])
def test_no_key_is_refused_with_what_was_expected(authorization: str | None) -> None:
    with pytest.raises(BadApiKey, match="has no API key; expected Authorization: Bearer KEY, or X-API-Key: KEY"):
        ApiKeys((FIRST,)).expect_known(authorization, None)


def test_keys_are_read_from_the_setting_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"\n  {SECOND}  \r\n\n", encoding="utf-8")
    keys = read_keys(f" {FIRST} ,,", file)
    keys.expect_known(None, FIRST)
    keys.expect_known(None, SECOND)
    with pytest.raises(BadApiKey):
        keys.expect_known(None, "")


def test_empty_settings_hold_no_keys() -> None:
    read_keys("", None).expect_known(None, None)
    read_keys(" , ", None).expect_known(None, None)


def test_a_short_key_is_refused_without_being_shown() -> None:
    with pytest.raises(BadSettings) as refused:
        read_keys("swordfish", None)
    assert str(refused.value) == "An API key has 9 characters; expected at least 16."


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSettings, match=f"MIXER_API_KEYS_FILE is {file}, which cannot be read: "):
        read_keys("", file)


def test_only_digests_are_kept() -> None:
    keys = ApiKeys((FIRST,))
    assert FIRST not in repr(vars(keys))
