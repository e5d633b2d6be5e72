"""Where a request comes from, by the words of https://www.w3.org/TR/trace-context/."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.trace_context import Parent, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WHOLE = f"00-{TRACE}-{SPAN}-01"


def parent(*said: str, state: tuple[str, ...] = ()) -> Parent | None:
    headers = [(b"traceparent", one.encode("latin-1")) for one in said]
    return parent_of([(b"accept", b"*/*"), *headers, *((b"tracestate", one.encode("latin-1")) for one in state)])


def test_the_ids_and_the_decision_of_a_parent() -> None:
    assert parent(WHOLE) == Parent(int(TRACE, 16), int(SPAN, 16), is_sampled=True)
    assert parent(f"00-{TRACE}-{SPAN}-00") == Parent(int(TRACE, 16), int(SPAN, 16), is_sampled=False)


def test_without_the_header_there_is_none() -> None:
    assert parent() is None
    assert parent(state=("a=1",)) is None


@pytest.mark.parametrize(("flags", "is_sampled"), [("02", False), ("03", True), ("ff", True), ("fe", False)])
def test_other_flags_than_that_of_sampling_mean_nothing(flags: str, is_sampled: bool) -> None:
    found = parent(f"00-{TRACE}-{SPAN}-{flags}")
    assert found is not None
    assert found.is_sampled is is_sampled


@pytest.mark.parametrize(
    "said",
    [
        "",
        "00",
        WHOLE[:-1],
        WHOLE + "0",
        WHOLE + "-",
        WHOLE + "-what-the-future-will-be-like",
        WHOLE.upper(),
        WHOLE.replace("00-0af", "00-0AF"),
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"FF-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE} -{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, {WHOLE}",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"cc-{TRACE}-{SPAN}-1",
    ],
)
def test_what_is_not_valid_is_none(said: str) -> None:
    assert parent(said) is None


def test_several_headers_are_none() -> None:
    assert parent(WHOLE, WHOLE) is None
    assert parent("no", WHOLE) is None


@pytest.mark.parametrize("said", [f" {WHOLE}", f"\t{WHOLE}\t", f"{WHOLE} "])
def test_space_around_it_does_not_count(said: str) -> None:
    assert parent(said) == parent(WHOLE)


@pytest.mark.parametrize("more", ["", "-", "-what-the-future-will-be-like"])
def test_of_a_later_version_what_is_known_is_read(more: str) -> None:
    assert parent(f"cc-{TRACE}-{SPAN}-01{more}") == parent(WHOLE)


def state_of(*said: str) -> tuple[str, ...]:
    found = parent(WHOLE, state=said)
    assert found is not None
    return found.state


def test_the_state_is_kept_in_its_order_over_several_headers() -> None:
    assert state_of("foo=1,bar=2") == ("foo=1", "bar=2")
    assert state_of("foo=1 ,\t bar=2", "rojo=00f067aa0ba902b7") == ("foo=1", "bar=2", "rojo=00f067aa0ba902b7")
    assert state_of("foo=1,,bar=2,", "") == ("foo=1", "bar=2")
    assert state_of("fw529a3039@dt=FfAkDEg1,1a-_*/@b=x y") == ("fw529a3039@dt=FfAkDEg1", "1a-_*/@b=x y")


@pytest.mark.parametrize(
    "said", ["foo=1,foo=2", "foo", "foo=", "=1", "Foo=1", "foo =1", "foo=1=2", "foo=1,b ar=2", "é=1"]
)
def test_a_state_that_is_not_valid_is_left_out_and_its_parent_kept(said: str) -> None:
    assert state_of(said) == ()


@pytest.mark.parametrize(
    ("key", "is_kept"),
    [("z" * 256, True), ("z" * 257, False), ("9", False), ("9@a", True), ("-a", False), ("a@b@c", False)],
)
def test_keys_have_a_form_and_a_length(key: str, is_kept: bool) -> None:
    assert state_of(f"{key}=1") == ((f"{key}=1",) if is_kept else ())


def test_what_is_too_much_of_a_state_is_left_out_at_its_end_and_by_whole_members() -> None:
    many = [f"k{number}=v" for number in range(40)]
    assert state_of(",".join(many)) == tuple(many[:32])
    long = [f"k{number}={'v' * 200}" for number in range(5)]
    assert state_of(",".join(long)) == tuple(long[:2])


@given(st.binary(max_size=80), st.binary(max_size=200))
def test_no_bytes_are_an_error(said: bytes, state: bytes) -> None:
    found = parent_of([(b"traceparent", said), (b"tracestate", state)])
    assert found is None or found.trace_id


@given(st.binary(max_size=600))
def test_whatever_state_is_kept_is_short_enough_to_be_sent_on(state: bytes) -> None:
    found = parent_of([(b"traceparent", WHOLE.encode()), (b"tracestate", state)])
    assert found is not None
    assert len(found.state) <= 32
    assert len(",".join(found.state)) <= 512
