"""What a mirror's password is never seen in."""

import pytest

from model.hubs.address import without_user


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://mirror.test/a@b/c", "https://mirror.test/a@b/c"),
        ("https://user:word@mirror.test:80/a@b", "https://mirror.test:80/a@b"),
        ("https://user:w@rd@mirror.test/", "https://mirror.test/"),
        ("https://token@mirror.test", "https://mirror.test"),
        ("500 for 'http://u:p@a.test/b' and http://u:p@c.test", "500 for 'http://a.test/b' and http://c.test"),
    ],
)
def test_the_user_of_an_address_is_left_out(text: str, told: str) -> None:
    assert without_user(text) == told
