"""A few thousand inputs of what scripts/fuzz does, always the same ones; and that a finding would be found."""

import random
from contextlib import closing
from pathlib import Path

import pytest
from pace import slowness_at_first

from fuzzing import http, seeds
from fuzzing.blackbox import BlackBox
from fuzzing.campaign import Campaign
from fuzzing.containers import kind_of, split
from fuzzing.multipart import Sent, sent
from fuzzing.targets import ACCEPTED, Target, target_named
from fuzzing.volleys import from_json, to_json, volley, whole_requests
from fuzzing.worker import Watched, place_of

from colour_bundle import colour_spec, write_bundle  # isort: skip -- found once fuzzing.seeds is


def tried(target: Target, count: int, seed: int) -> "dict[tuple[str, str], int]":
    """How many inputs of which kind came to what."""
    chance, pool = random.Random(seed), list(target.seeds().values())
    seen: dict[tuple[str, str], int] = {}
    for _ in range(count):
        checked = target.check(target.mutated(chance.choice(pool), chance.choice(pool), chance))
        seen[checked.kind, checked.outcome] = seen.get((checked.kind, checked.outcome), 0) + 1
    return seen


# --- decode ---


@pytest.mark.parametrize("name", seeds.pictures())
def test_every_seed_is_a_picture(name: str) -> None:
    payload = seeds.pictures()[name]
    checked = target_named("decode").check(payload)
    assert (checked.kind, checked.outcome) == (name.split(maxsplit=1)[0], ACCEPTED)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "tiff"])
def test_a_file_taken_apart_and_put_together_is_the_same_picture(kind: str) -> None:
    target = target_named("decode")
    for name, payload in seeds.pictures().items():
        if name.startswith(kind):
            container = split(payload)
            assert container is not None
            again = container.join(container.pieces)
            assert again == payload or kind == "tiff"
            assert target.check(again).outcome == ACCEPTED, name


def test_thousands_of_broken_pictures_are_decoded_or_refused() -> None:
    seen = tried(target_named("decode"), 2000, seed=1)
    for kind in ("png", "jpeg", "gif", "webp", "bmp", "tiff"):
        assert seen[kind, ACCEPTED] > 10, "Fuzzing that hardly gets past the door proves little."
        assert seen[kind, "bad_picture"] > 10


# --- multipart ---


def test_an_input_says_what_is_sent_and_how() -> None:
    request = sent(b"text/plain\n7\n\x01\x02!\nabcdefg")
    assert request == Sent(b"text/plain", b"7", (b"a", b"bc", b"d", b"ef", b"g"), hangs_up=True)
    assert request.at_once().pieces == (b"abcdefg",)
    assert sent(b"") == Sent(b"", b"", (), hangs_up=False)


def test_thousands_of_broken_forms_are_read_or_refused_however_they_are_cut() -> None:
    with closing(target_named("multipart")) as target:
        seen = tried(target, 1500, seed=2)
    assert seen["form", ACCEPTED] > 100
    assert seen["form", "bad_request"] > 100


# --- http ---


def test_hundreds_of_broken_requests_and_the_service_serves(tmp_path: Path) -> None:
    said: list[str] = []
    bundle = write_bundle(tmp_path / "bundle", colour_spec())
    assert http.by_hand(bundle, 300, 20.0, tmp_path, 3, said.append) == 0, said


def test_requests_made_up_from_the_schema_get_what_it_says(tmp_path: Path) -> None:
    said: list[str] = []
    bundle = write_bundle(tmp_path / "bundle", colour_spec())
    assert http.by_schema(bundle, 60, 60.0, 4, said.append, tmp_path) == 0, said


def test_volleys_can_be_kept_and_fired_again() -> None:
    lines = volley(whole_requests(), random.Random(5))
    assert from_json(to_json(lines)) == lines
    assert volley(whole_requests(), random.Random(5)) == lines


# --- what finds ---


def test_the_same_chance_gives_the_same_inputs() -> None:
    for name in ("decode", "multipart"):
        with closing(target_named(name)) as target:
            pool = list(target.seeds().values())
            first, second = ([target.mutated(*pool[:2], random.Random(6)) for _ in range(5)] for _ in range(2))
        assert first == second
        assert first[0] not in pool


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"raise", "ZeroDivisionError"),
        (b"find", "This is a finding."),
        (b"warn", "A warning"),
        (b"burn", "of processor time"),
        (b"fill", "MB; expected at most 200"),
        (b"talk", "to standard error"),
        (b"crash", "SIGSEGV"),
        (b"leave", "ended with 7"),
        (b"sleep", "A hang"),
    ],
)
def test_whatever_must_not_happen_is_found_and_the_next_worker_goes_on(
    payload: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISDEED", payload.decode())
    said: list[str] = []
    patience_s = slowness_at_first() * (1.0 if payload == b"sleep" else 60.0)
    name = "fuzzing.misdeeds"
    campaign = Campaign(name, target_named(name), tmp_path, 7, said.append, guided=False, patience_s=patience_s)
    report = campaign.run(runs=4, seconds=60 * slowness_at_first())
    assert report.begun == 4
    assert len(report.findings) == 1, said
    (found,) = report.findings
    assert found.read_bytes() == payload
    assert words in found.with_suffix(".txt").read_text()
    assert report.tally.total() == 3  # the others came to something


def test_findings_with_one_cause_are_kept_a_few_times_only(tmp_path: Path) -> None:
    target = target_named("fuzzing.misdeeds")
    with BlackBox(tmp_path / "box", target.kinds) as box:
        watched = Watched(target, box, tmp_path / "suspects")
        for number in range(50):
            watched(b"raise" + bytes([number]))
        assert box.begun == 50
        assert box.current == b"raise\x31"
    assert len(list((tmp_path / "suspects").glob("*.txt"))) == 3


def test_a_place_is_a_line_of_code() -> None:
    def error_of(payload: bytes) -> BaseException:
        with pytest.raises(ZeroDivisionError) as raised:
            target_named("fuzzing.misdeeds").check(payload)
        return raised.value

    assert place_of(error_of(b"raise")) == place_of(error_of(b"raise again"))
    assert place_of(error_of(b"raise")).startswith("ZeroDivisionError misdeeds.py:")


def test_the_first_bytes_tell_the_format() -> None:
    assert [kind_of(head) for head in (b"", b"BM", b"II", b"RIFF....WEBP", b"RIFF....AVI ")] == [
        *("other", "bmp", "tiff", "webp", "other")
    ]  # fmt: skip
