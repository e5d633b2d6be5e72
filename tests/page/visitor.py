"""Somebody who looks at the page in a browser. Whatever they do, nothing comes from elsewhere or breaks the policy."""

import base64
import mimetypes
import re
import time
from typing import TYPE_CHECKING, Any

from tests.app.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

File = tuple[str, bytes]  # its name, and what is in it

_TRANSFER = """(files) => {
    const transfer = new DataTransfer();
    for (const [name, kind, content] of files) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: kind }));
    }
    return transfer;
}"""
_PASTE = "(transfer) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }))"
_NOTE_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`refused by the policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""
_NOTE_OBJECT_URLS = """
window.objectUrls = new Set();
for (const name of ["createObjectURL", "revokeObjectURL"]) {
    const original = URL[name].bind(URL);
    URL[name] = (given) => {
        const made = original(given);
        if (name === "createObjectURL") objectUrls.add(made);
        else objectUrls.delete(given);
        return made;
    };
}
"""


class Visitor:
    """`page` is a page of the browser; `origin` that of the service."""

    def __init__(self, page: "Page", origin: str) -> None:
        self.page, self.origin = page, origin
        self.requested: list[str] = []  # every address
        self.wrong: list[str] = []  # what the policy refused, and errors of scripts
        self.in_flight, self.most_in_flight = 0, 0  # of POST /classify
        page.add_init_script(_NOTE_VIOLATIONS + _NOTE_OBJECT_URLS)
        page.on("console", lambda message: self._note(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._begun(request.url))
        page.on("requestfinished", lambda request: self._ended(request.url))
        page.on("requestfailed", lambda request: self._ended(request.url))

    def opens(self, path: str = "/") -> None:
        self.page.goto(self.origin + path)
        self.sees("#lead")

    # --- pictures ---

    def chooses(self, *files: File) -> None:
        self.page.set_input_files("#choose", [_upload(*file) for file in files])

    def photographs(self, file: File) -> None:
        self.page.set_input_files("#photograph", _upload(*file))

    def drops(self, *files: File, at: str = "#drop") -> None:
        self.page.dispatch_event(at, "drop", {"dataTransfer": self._transfer(files)})

    def pastes(self, *files: File) -> None:
        self.page.evaluate(_PASTE, self._transfer(files))

    # --- what is there ---

    def at(self, selector: str) -> "Locator":
        return self.page.locator(selector)

    def sees(self, selector: str, text: str | re.Pattern[str] | None = None) -> None:
        """It is or comes into view, with this text in it."""
        from playwright.sync_api import expect  # noqa: PLC0415  # only where there is a browser

        expect(self.at(selector)).to_be_visible()
        if text is not None:
            expect(self.at(selector)).to_contain_text(text)

    def sees_no(self, selector: str) -> None:
        """It is not or goes out of view."""
        from playwright.sync_api import expect  # noqa: PLC0415

        expect(self.at(selector)).not_to_be_visible()

    def sees_rows(self, *parts: str) -> None:
        """A line of the table for each, in this order, with this in it."""
        from playwright.sync_api import expect  # noqa: PLC0415

        expect(self.at("#rows tr")).to_contain_text(list(parts))

    def hears(self, text: str | re.Pattern[str]) -> None:
        """A screen reader is told this."""
        from playwright.sync_api import expect  # noqa: PLC0415

        expect(self.at("#told")).to_contain_text(text)

    def waits_until(self, is_so: "Callable[[], bool]") -> None:
        """The page goes on until this is so, such as that a request was made; waits as long as for anything else."""
        ends = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < ends, f"not so after {PATIENCE_S} s"
            self.page.wait_for_timeout(10)

    def answers_are_in(self, count: int) -> None:
        self.sees("#count", re.compile(rf"^{count} answered(?!.*to come)"))

    def expect_nothing_wrong(self) -> None:
        assert self.wrong == []
        assert [url for url in self.requested if not url.removeprefix("blob:").startswith(f"{self.origin}/")] == []

    # --- what happens ---

    def _transfer(self, files: tuple[File, ...]) -> Any:
        listed = [[name, _kind(name), base64.b64encode(content).decode()] for name, content in files]
        return self.page.evaluate_handle(_TRANSFER, listed)

    def _note(self, text: str) -> None:
        if "policy" in text.lower():
            self.wrong.append(text)

    def _begun(self, url: str) -> None:
        self.requested.append(url)
        if url.endswith("/classify"):
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _ended(self, url: str) -> None:
        if url.endswith("/classify"):
            self.in_flight -= 1


def _kind(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _upload(name: str, content: bytes) -> Any:
    return {"name": name, "mimeType": _kind(name), "buffer": content}
