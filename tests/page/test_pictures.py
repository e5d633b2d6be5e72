"""Pictures come in by every way there is, and their answers are shown, told, sorted and saved."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.page.conftest import KEY, Site, Visit
from tests.page.visitor import File

pytestmark = [pytest.mark.browser, pytest.mark.process]

NOTES: File = ("notes.txt", b"These are notes, and no picture.")


def named(files: list[File], name: str) -> File:
    return next(file for file in files if file[0] == name)


def test_before_any_picture_the_page_says_what_the_model_knows(site: Site, visit: Visit) -> None:
    visitor = visit(site)
    visitor.sees("#lead", "which of 10 things")
    visitor.sees("#known", re.compile("dress.*hat.*T-shirt"))
    visitor.sees("#version", re.compile(r"clothes 1, \w+"))
    visitor.sees_no("#chooser")  # there is one model
    visitor.sees_no("#key")


@pytest.mark.parametrize("way", ["chooses", "photographs", "drops", "pastes"])
def test_a_picture_comes_in_by_any_way_and_is_answered(way: str, site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    getattr(visitor, way)(named(clothes, "pants.jpg"))
    visitor.sees("#stage-answer", "pants")
    visitor.sees(".share", re.compile(r"9\d\.\d%"))
    visitor.sees("#stage-name", "pants.jpg")
    visitor.hears(re.compile(r"pants, 9\d\.\d%\."))
    visitor.sees_no("#list")


def test_a_picture_may_be_dropped_anywhere(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.drops(named(clothes, "skirt.jpg"), at=".bottom")
    visitor.sees("#stage-answer", "skirt")


def test_while_something_is_dragged_the_page_says_where_to_drop_it(site: Site, visit: Visit) -> None:
    visitor = visit(site)
    transfer = visitor._transfer((NOTES,))
    visitor.page.dispatch_event("#drop", "dragenter", {"dataTransfer": transfer})
    visitor.sees("#veil", "Drop them anywhere")
    visitor.page.dispatch_event("#drop", "dragleave", {"dataTransfer": transfer})
    visitor.sees_no("#veil")


def test_pasted_text_is_left_alone(site: Site, visit: Visit) -> None:
    visitor = visit(site)
    visitor.pastes()
    visitor.sees_no("#results")


def test_what_the_model_does_not_know_is_not_sure(site: Site, visit: Visit, drawing: File) -> None:
    visitor = visit(site)
    visitor.chooses(drawing)
    visitor.sees("#stage-answer", "Not sure")
    visitor.hears(re.compile(r"^Not sure\. Nearest is \w+"))
    assert visitor.at(".bars li").count() == 5


def test_the_bytes_are_sent_as_they_are(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    with visitor.page.expect_request("**/classify") as asked:
        visitor.chooses(named(clothes, "dress.jpg"))
    assert asked.value.post_data_buffer == named(clothes, "dress.jpg")[1]
    assert asked.value.headers["content-type"] == "image/jpeg"
    visitor.sees("#stage-answer", "dress")


def test_the_time_of_each_stage_is_that_of_the_service(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    with visitor.page.expect_response("**/classify") as answered:
        visitor.chooses(named(clothes, "dress.jpg"))
    told = answered.value.header_value("server-timing") or ""
    (infer_ms,) = re.findall(r"infer;dur=([\d.]+)", told)
    visitor.sees("#timing-title", re.compile(r"Answered in [\d.,]+ ms"))
    shown = visitor.at("#timing-legend").inner_text()
    (shown_ms,) = re.findall(r"the network ([\d.]+) ms", shown)
    assert float(shown_ms) == pytest.approx(float(infer_ms), abs=0.06 if float(infer_ms) < 100 else 0.6)
    assert re.findall("receiving|decoding|waiting", shown) == ["receiving", "decoding", "waiting"]


def test_sixty_four_at_once_are_all_answered_four_at_a_time(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.chooses(*((f"{number:02}-{clothes[number % 6][0]}", clothes[number % 6][1]) for number in range(64)))
    visitor.answers_are_in(64)
    assert visitor.at("#rows tr").count() == 64
    assert visitor.most_in_flight == 4
    visitor.hears("64 answered")


def test_a_bad_file_spoils_only_its_own_line(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    heic = ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    visitor.chooses(clothes[0], NOTES, heic, clothes[1])
    visitor.sees("#count", "2 answered · 2 without an answer")
    visitor.sees_rows("dress", "no answer", "no answer", "long sleeve")
    visitor.page.get_by_role("button", name="notes.txt").click()
    visitor.sees("#stage-answer", "No answer")
    visitor.sees("#stage-body", "is no picture; expected JPEG")
    visitor.page.get_by_role("button", name="phone.heic").click()
    visitor.sees("#stage-body", "HEIC")
    visitor.sees("#picture", "This browser cannot show the file")


def test_a_file_over_the_limit_is_told_so_before_it_is_sent(site: Site, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(site)
    visitor.sees("#version", "clothes 1")  # until the page knows the limit, the service tells of it
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate((20 << 20) + 1)
    visitor.page.set_input_files("#choose", tmp_path / "large.jpg")
    visitor.sees("#stage-body", "The file has 20.0 MiB; the service takes at most 20.0.")
    assert not any(url.endswith("/classify") for url in visitor.requested)


def test_the_table_is_sorted_by_its_headings_and_by_the_keyboard(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.chooses(clothes[2], NOTES, clothes[0], clothes[4])
    visitor.answers_are_in(3)
    visitor.sees_rows("pants.jpg", "notes.txt", "dress.jpg", "skirt.jpg")
    heading = visitor.at("th[data-column=label]")
    heading.get_by_role("button").focus()
    for direction, rows in (
        ("ascending", ("dress.jpg", "pants.jpg", "skirt.jpg", "notes.txt")),
        ("descending", ("skirt.jpg", "pants.jpg", "dress.jpg", "notes.txt")),
        (None, ("pants.jpg", "notes.txt", "dress.jpg", "skirt.jpg")),
    ):
        visitor.page.keyboard.press("Enter")
        visitor.sees_rows(*rows)
        assert heading.get_attribute("aria-sort") == direction


def test_one_of_many_is_looked_at_by_its_line_or_by_the_arrows(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    visitor.chooses(*clothes)
    visitor.answers_are_in(6)
    visitor.sees("#position", "1 of 6")
    visitor.at("#next").click()
    visitor.sees("#stage-name", "long-sleeve.jpg")
    visitor.at("#rows tr").last.click()
    visitor.sees("#stage-name", "t-shirt.jpg")
    visitor.at("#next").click()
    visitor.sees("#position", "1 of 6")
    visitor.at("#remove").click()
    visitor.sees("#stage-name", "long-sleeve.jpg")
    visitor.sees("#list-title", "5 pictures")


def test_on_a_phone_the_picture_that_is_looked_at_comes_into_view(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site, viewport={"width": 320, "height": 640})
    visitor.chooses(*clothes)
    visitor.answers_are_in(6)
    visitor.at("#rows tr").last.click()
    visitor.sees("#stage-name", "t-shirt.jpg")
    visitor.hears(re.compile(r"^T-shirt, \d+\.\d%\.$"))
    box = visitor.at("#picture").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 320


def test_the_answers_are_saved_as_csv_in_which_nothing_is_a_formula(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    dangerous = [f"{sign}1+2{name}" for sign, name in zip("=+-@", ("a.jpg", 'b",.jpg', "c.jpg", "d.jpg"), strict=True)]
    visitor.chooses(*((name, clothes[0][1]) for name in dangerous), NOTES)
    visitor.answers_are_in(4)
    with visitor.page.expect_download() as saved:
        visitor.at("#csv").click()
    assert saved.value.suggested_filename == "answers.csv"
    text = Path(saved.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["file"] for row in rows] == [f"'{name}" for name in dangerous] + ["notes.txt"]
    assert {row["label"] for row in rows[:4]} == {"dress"}
    assert 0.9 < float(rows[0]["probability"]) <= 1
    assert (rows[0]["uncertain"], rows[0]["model"], rows[0]["label_2"]) == ("false", "clothes", "skirt")
    assert "is no picture" in rows[4]["error"]
    assert rows[4]["label"] == ""


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_curl_line_gets_the_same_answer(site: Site, visit: Visit, clothes: list[File], tmp_path: Path) -> None:
    visitor = visit(site)
    name = "it's mine; $HOME `id`.jpg"
    (tmp_path / name).write_bytes(clothes[5][1])
    visitor.chooses((name, clothes[5][1]))
    visitor.sees("#stage-answer", "T-shirt")
    visitor.at("#curl summary").click()
    visitor.sees("#command", "curl --data-binary")
    command = visitor.at("#command").inner_text()
    answer = subprocess.run(
        ["sh", "-c", f"{command} --silent"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert '"predictions":[{"label":"T-shirt"' in answer.stdout


def test_the_curl_line_is_copied(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site, permissions=["clipboard-read", "clipboard-write"])
    visitor.chooses(clothes[0])
    visitor.sees("#stage-answer", "dress")
    visitor.at("#curl summary").click()
    visitor.at("#copy").click()
    visitor.sees("#copy", "Copied")
    command = visitor.at("#command").inner_text()
    assert visitor.page.evaluate("() => navigator.clipboard.readText()") == command


def test_pictures_stay_in_memory_and_no_longer_than_they_are_shown(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.chooses(*clothes)
    visitor.answers_are_in(6)
    for _ in range(3):
        visitor.at("#next").click()
    visitor.sees("#position", "4 of 6")
    assert visitor.page.evaluate("() => objectUrls.size") == 1
    visitor.at("#clear").click()
    visitor.sees_no("#results")
    assert visitor.page.evaluate("() => document.activeElement.id") == "choose"
    assert visitor.page.evaluate("() => objectUrls.size") == 0
    kept = visitor.page.context.storage_state(indexed_db=True)
    assert (kept["cookies"], kept["origins"]) == ([], [])
    assert visitor.page.evaluate("() => localStorage.length + sessionStorage.length") == 0


def test_of_several_models_one_is_chosen_and_asked_about_what_is_there(
    locked_site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(locked_site)
    visitor.at("#key-value").fill(KEY)
    visitor.at("#key-value").press("Enter")
    visitor.chooses(clothes[2])
    visitor.sees("#stage-answer", "pants")
    with visitor.page.expect_response("**/classify?model=fashion-mnist"):
        visitor.page.get_by_label("Model").select_option("fashion-mnist")
    visitor.sees("#stage-answer", re.compile("^[A-Z]"))  # as its labels begin
    visitor.sees("#version", "fashion-mnist")
    assert "model=fashion-mnist" in (visitor.at("#command").text_content() or "")


def test_what_is_no_file_does_not_lead_away_from_the_page(site: Site, visit: Visit) -> None:
    visitor = visit(site)
    stayed = visitor.page.evaluate("""() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.setData("text/uri-list", "https://elsewhere.example/cat.jpg");
        return !document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }""")
    assert stayed
    visitor.sees("#notices", "That was no file.")
    visitor.chooses(NOTES)
    visitor.sees_no("#notices .notice")


_FOLDER = """() => {
    DataTransferItem.prototype.webkitGetAsEntry = function () {
        const file = this.getAsFile();
        const found = { isFile: true, name: file.name, fullPath: `/folder/${file.name}`, file: (take) => take(file) };
        const unread = { isFile: true, name: "none.jpg", file: (_, fail) => fail(new DOMException("no right to it")) };
        const parts = [[unread, found], []];
        const reader = { readEntries: (take) => take(parts.shift()) };
        return { isDirectory: true, name: "folder", createReader: () => reader };
    };
}"""


def test_a_file_of_a_folder_that_cannot_be_read_keeps_the_others_from_nobody(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    visitor.page.evaluate(_FOLDER)
    visitor.drops(named(clothes, "dress.jpg"))
    visitor.sees("#stage-answer", "dress")
    visitor.sees("#stage-name", "folder/dress.jpg")  # so that files of one name in two folders are told apart
    visitor.sees_no("#notices .notice")


def test_what_is_dragged_away_is_noticed_though_it_was_over_what_is_gone(
    site: Site, visit: Visit, clothes: list[File]
) -> None:
    visitor = visit(site)
    transfer = visitor._transfer((NOTES,))
    visitor.page.dispatch_event(".motif", "dragenter", {"dataTransfer": transfer})
    visitor.sees("#veil")
    visitor.page.evaluate("() => document.querySelector('.motif').remove()")
    visitor.page.dispatch_event("#drop", "dragenter", {"dataTransfer": transfer})
    visitor.page.dispatch_event("#drop", "dragleave", {"dataTransfer": transfer})
    visitor.sees_no("#veil")


def test_timings_of_a_proxy_are_left_out(site: Site, visit: Visit, clothes: list[File]) -> None:
    visitor = visit(site)
    answer = {"model": {}, "predictions": [{"label": "sock", "index": 0, "probability": 0.5}]}
    told = "toString;dur=1, infer;dur=2.0, total;dur=2.5.1"
    visitor.page.route("**/classify", lambda route: route.fulfill(json=answer, headers={"Server-Timing": told}))
    visitor.chooses(clothes[0])
    visitor.sees("#timing-title", "Answered in 2.5 ms")
    assert visitor.at("#timing-legend").inner_text().split("\n") == ["the network 2.0 ms", "the rest 0.5 ms"]
