"""A few thousand inputs of what scripts/fuzz does, always the same ones; and that a finding would be found."""

import io
import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from app.errors import BadImage, OutOfMemory
from tests.app.color_bundle import color_spec, write_bundle
from tests.fuzzing import extremes, http, load, seeds
from tests.fuzzing.__main__ import table
from tests.fuzzing.blackbox import BlackBox
from tests.fuzzing.bounds import Bounds
from tests.fuzzing.campaign import Campaign
from tests.fuzzing.containers import kind_of, split
from tests.fuzzing.decode import outcome_of
from tests.fuzzing.extremes import extreme
from tests.fuzzing.multipart import Sent, sent
from tests.fuzzing.neighbors import Fared
from tests.fuzzing.nested import inner, jpeg_of, nested
from tests.fuzzing.repeated import repeated
from tests.fuzzing.targets import ACCEPTED, Checked, Cost, Finding, Target, target_named
from tests.fuzzing.tiff_files import tiff_image
from tests.fuzzing.volleys import from_json, to_json, volley, whole_requests
from tests.fuzzing.worker import Dearest, Watched, place_of
from tests.pace import slowness_at_first

from tests.faults.wire import Answer  # isort: skip


def tried(target: Target, count: int, seed: int) -> "dict[tuple[str, str], int]":
    """How many inputs of which kind came to what."""
    rng, pool = random.Random(seed), list(target.seeds().values())
    seen: dict[tuple[str, str], int] = {}
    for _ in range(count):
        checked = target.check(target.mutated(rng.choice(pool), rng.choice(pool), rng))
        seen[checked.kind, checked.outcome] = seen.get((checked.kind, checked.outcome), 0) + 1
    return seen


# --- decode ---


@pytest.mark.parametrize("name", seeds.images())
def test_every_seed_is_a_picture(name: str) -> None:
    payload = seeds.images()[name]
    checked = target_named("decode").check(payload)
    assert (checked.kind, checked.outcome) == (name.split(maxsplit=1)[0], ACCEPTED)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "tiff"])
def test_a_file_taken_apart_and_put_together_is_the_same_picture(kind: str) -> None:
    target = target_named("decode")
    for name, payload in seeds.images().items():
        if name.startswith(kind):
            container = split(payload)
            assert container is not None
            again = container.join(container.pieces)
            assert again == payload or kind == "tiff"
            assert target.check(again).outcome == ACCEPTED, name


@pytest.mark.heavy
def test_thousands_of_broken_pictures_are_decoded_or_refused() -> None:
    seen = tried(target_named("decode"), 2000, seed=1)
    for kind in ("png", "jpeg", "gif", "webp", "bmp", "tiff"):
        assert seen[kind, ACCEPTED] > 10, "Fuzzing that hardly gets past the door proves little."
        assert seen[kind, "bad_picture"] > 10


def test_a_refusal_that_blames_the_service_is_a_finding() -> None:
    assert outcome_of(BadImage("The file is none.")) == "bad_picture"
    with pytest.raises(Finding, match="503 out_of_memory"):
        outcome_of(OutOfMemory("There is none left."))


# --- structures ---


@pytest.mark.heavy
def test_thousands_of_made_up_structures_are_decoded_or_refused() -> None:
    seen = tried(target_named("structures"), 2000, seed=8)
    for kind in ("png", "jpeg", "gif", "webp", "bmp", "tiff"):
        assert seen[kind, ACCEPTED] > 10, "Fuzzing that hardly gets past the door proves little."
        assert seen[kind, "bad_picture"] > 10


@pytest.mark.heavy
def test_tiffs_of_every_coding_and_kind_of_pixel_get_as_far_as_their_decoder() -> None:
    rng, accepted = random.Random(4), set()
    for _ in range(1500):
        payload = tiff_image(rng, partial(jpeg_of, rng=rng))
        if target_named("structures").check(payload).outcome == ACCEPTED:
            with Image.open(io.BytesIO(payload)) as image:
                accepted.add(image.info.get("compression"))
    assert {"raw", "tiff_adobe_deflate", "tiff_deflate", "tiff_lzw", "packbits", "jpeg", "group3", "group4"} <= accepted


@pytest.mark.heavy
def test_what_is_in_a_file_is_found_inside_the_file() -> None:
    rng, found = random.Random(3), set()
    for _ in range(1500):
        payload = nested(rng)
        marks = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8", "webp": b"WEBPVP8", "tiff": b"II*\0"}
        found |= {(kind_of(payload), kind) for kind, mark in marks.items() if payload.find(mark, 1) > 0}
    expected = {("tiff", "jpeg"), ("jpeg", "tiff"), ("png", "png"), ("webp", "webp"), ("gif", "gif"), ("bmp", "jpeg")}
    assert expected <= found


@pytest.mark.heavy
@pytest.mark.parametrize("make", [nested, inner, extreme])
def test_what_is_made_has_few_megabytes_however_often_it_is_repeated(make: Callable[[random.Random], bytes]) -> None:
    rng = random.Random(11)
    assert max(len(make(rng)) for _ in range(4000)) < 4_000_000


def test_a_piece_is_repeated_up_to_thousands_of_times_within_the_most_bytes() -> None:
    rng, whole = random.Random(2), seeds.images()["jpeg progressive 0"]
    before = split(whole)
    assert before is not None
    numbers = []
    for _ in range(400):
        payload = repeated(whole, rng, 1 << 18)
        after = split(payload)
        if after is not None:  # it still begins as a JPEG does
            numbers.append(len(after.pieces) - len(before.pieces))
        assert len(payload) < 1 << 19
    assert len(numbers) > 300
    assert max(numbers) > 1000
    assert min(numbers) >= 0


def test_sides_are_small_mostly_and_as_long_as_may_be_sometimes() -> None:
    rng = random.Random(1)
    sizes = [extremes.size(rng) for _ in range(3000)]
    assert sum(max(one) <= 70 for one in sizes) > 1800
    assert {0, 65_535, 65_536, (1 << 32) - 1} <= {side for one in sizes for side in one}
    assert any(20_000_000 < width * height <= 50_000_000 for width, height in sizes)


# --- multipart ---


def test_an_input_says_what_is_sent_and_how() -> None:
    request = sent(b"text/plain\n7\n\x01\x02!\nabcdefg")
    assert request == Sent(b"text/plain", b"7", (b"a", b"bc", b"d", b"ef", b"g"), hangs_up=True)
    assert request.at_once().pieces == (b"abcdefg",)
    assert sent(b"") == Sent(b"", b"", (), hangs_up=False)


@pytest.mark.heavy
def test_thousands_of_broken_forms_are_read_or_refused_however_they_are_cut() -> None:
    with closing(target_named("multipart")) as target:
        seen = tried(target, 1500, seed=2)
    assert seen["form", ACCEPTED] > 100
    assert seen["form", "bad_request"] > 100


# --- dialects ---


def test_every_request_to_begin_with_asks_about_pictures() -> None:
    with closing(target_named("dialects")) as target:
        outcomes = {name: target.check(payload).outcome for name, payload in target.seeds().items()}
    assert outcomes == dict.fromkeys(outcomes, ACCEPTED)


@pytest.mark.heavy
def test_thousands_of_broken_requests_of_other_protocols_are_read_or_refused() -> None:
    with closing(target_named("dialects")) as target:
        seen = tried(target, 3000, seed=5)
    infer = "/v2/models/{model}/infer"
    assert seen[infer, ACCEPTED] > 100, "Fuzzing that hardly gets past the door proves little."
    assert min(seen[infer, code] for code in ("bad_request", "bad_parameter")) > 100
    assert len({kind for kind, outcome in seen if outcome == ACCEPTED}) >= 8


# --- http ---


@pytest.mark.process
def test_hundreds_of_broken_requests_and_the_service_serves(tmp_path: Path) -> None:
    said: list[str] = []
    bundle = write_bundle(tmp_path / "bundle", color_spec())
    assert http.by_hand(bundle, 300, 20.0, tmp_path, 3, said.append) == 0, said


@pytest.mark.process
def test_requests_made_up_from_the_schema_get_what_it_says(tmp_path: Path) -> None:
    said: list[str] = []
    bundle = write_bundle(tmp_path / "bundle", color_spec())
    assert http.by_schema(bundle, 60, 60.0, 4, said.append, tmp_path) == 0, said


def test_volleys_can_be_kept_and_fired_again() -> None:
    lines = volley(whole_requests(), random.Random(5))
    assert from_json(to_json(lines)) == lines
    assert volley(whole_requests(), random.Random(5)) == lines


# --- load ---


@pytest.mark.process
def test_hostile_files_one_by_one_in_batches_and_all_at_once_and_good_pictures_are_answered() -> None:
    said: list[str] = []
    makers = load.known_files()
    names = (
        "bomb: tiff, scans in its strips",
        "bomb: bmp, one run",
        "broken: png, notes that unfold",
        "odd: 1 x 60000",
    )
    files = {name: makers[name]() for name in names}
    assert load.run(files, workers=2, copies=2, say=said.append) == []
    rows = [line for line in said if line.startswith("| ")]
    assert len(rows) == 1 + 2 * len(names) + 1, said  # with the head, and all of them at once
    assert "workers replaced: no" in said[-1]
    assert "good pictures: 0 right" not in said[-1]


def test_what_good_pictures_must_not_get_is_told() -> None:
    fared = Fared(Counter(right=5, refused=2, late=1, lost=1))
    answers = [Answer(500, b""), Answer(200, b"")]
    rows = [load.Row("one", 1, answers, 0.1, 1000.0, 0.0, fared), load.Row("many", 900, [], 9.0, 1000.0, 0.0, Fared())]
    assert [fault.split(":")[0] for fault in load.faults_in(rows)] == ["one", "one", "one"]


def test_the_lag_is_the_bound_of_the_highest_bucket_that_something_is_in() -> None:
    name = "mixer_event_loop_lag_seconds_bucket"
    assert load.longest_lag(f'{name}{{le="0.1"}} 3\n{name}{{le="0.25"}} 5\n{name}{{le="+Inf"}} 5\n') == "0.25"
    assert load.longest_lag(f'{name}{{le="0.1"}} 3\n{name}{{le="+Inf"}} 5\n') == "+Inf"


# --- what finds ---


def test_the_same_chance_gives_the_same_inputs() -> None:
    for name in ("decode", "multipart"):
        with closing(target_named(name)) as target:
            pool = list(target.seeds().values())
            first, second = ([target.mutated(*pool[:2], random.Random(6)) for _ in range(5)] for _ in range(2))
        assert first == second
        assert first[0] not in pool


@pytest.mark.process
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
    name = "tests.fuzzing.misdeeds"
    campaign = Campaign(name, target_named(name), tmp_path, 7, said.append, guided=False, patience_s=patience_s)
    report = campaign.run(runs=4, seconds=60 * slowness_at_first())
    assert report.begun == 4
    assert len(report.findings) == 1, said
    (found,) = report.findings
    assert found.read_bytes() == payload
    assert words in found.with_suffix(".txt").read_text()
    assert report.tally.total() == 3  # the others came to something
    assert "| deed | 3 | 3 | " in table(report)


def test_the_most_that_an_input_of_a_kind_cost_is_told(tmp_path: Path) -> None:
    with BlackBox(tmp_path / "box", ("one", "other")) as box:
        for cost in (Cost(0.5, 10), Cost(0.25, 20)):
            box.end(Checked("one", ACCEPTED), cost)
        assert box.worst() == {"one": Cost(0.5, 20), "other": Cost()}


def test_each_input_is_weighed_for_itself() -> None:
    bounds, peaks = Bounds(), []
    for count in (0, 90_000_000, 0):
        with bounds:
            bytearray(b"x") * count
        peaks.append(bounds.peak_bytes)
    assert peaks[1] > 80_000_000
    assert max(peaks[0], peaks[2]) < 40_000_000


def test_findings_with_one_cause_are_kept_a_few_times_only(tmp_path: Path) -> None:
    target = target_named("tests.fuzzing.misdeeds")
    with BlackBox(tmp_path / "box", target.kinds) as box:
        watched = Watched(target, box, tmp_path / "suspects")
        for number in range(50):
            watched(b"raise" + bytes([number]))
        assert box.begun == 50
        assert box.current == b"raise\x31"
    assert len(list((tmp_path / "suspects").glob("*.txt"))) == 3


def test_what_cost_the_most_time_or_memory_is_kept_to_be_changed_further() -> None:
    dearest = Dearest()
    for number in range(500):
        dearest.add(b"%d" % number, Cost(number / 500, 500 - number))
    chosen = {int(dearest.choice(random.Random(seed))) for seed in range(500)}
    assert chosen == {*range(40), *range(460, 500)}


def test_a_place_is_a_line_of_code() -> None:
    def error_of(payload: bytes) -> BaseException:
        with pytest.raises(ZeroDivisionError) as raised:
            target_named("tests.fuzzing.misdeeds").check(payload)
        return raised.value

    assert place_of(error_of(b"raise")) == place_of(error_of(b"raise again"))
    assert place_of(error_of(b"raise")).startswith("ZeroDivisionError misdeeds.py:")


def test_the_first_bytes_tell_the_format() -> None:
    assert [kind_of(head) for head in (b"", b"BM", b"II", b"RIFF....WEBP", b"RIFF....AVI ")] == [
        *("other", "bmp", "tiff", "webp", "other")
    ]  # fmt: skip
