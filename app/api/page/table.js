// Many pictures as a table: a line each, sorted by any column.

import { byId, make, percent } from "./elements.js";
import { thumbnailOf } from "./thumbnails.js";
import { milliseconds } from "./timing.js";

const KEYS = {
  name: (picture) => picture.name.toLowerCase(),
  label: (picture) => picture.best?.label.toLowerCase(),
  probability: (picture) => picture.best?.probability,
  time: (picture) => picture.totalMs ?? undefined,
};
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
const STATES = { waiting: "waiting", asking: "looking …", failed: "no answer" };

export class Table {
  #rows = new Map(); // picture -> { row, shown: what of the picture is in it }
  #column = "name";
  #direction = "none"; // as the pictures came

  /** `show(picture)`: somebody wants to see it large; `changed()`: the order is another one. */
  constructor(show, changed) {
    this.show = show;
    for (const head of document.querySelectorAll("th[data-column]")) {
      head.firstElementChild.addEventListener("click", () => {
        this.#sortBy(head);
        changed();
      });
    }
  }

  /** The pictures in the order of the table; those without a value in its column come last. */
  sorted(pictures) {
    if (this.#direction === "none") return pictures;
    const key = KEYS[this.#column];
    const sign = this.#direction === "ascending" ? 1 : -1;
    return [...pictures].sort((one, other) => {
      const [left, right] = [key(one), key(other)];
      if (left === right) return one.id - other.id;
      if (left === undefined || right === undefined) return left === undefined ? 1 : -1;
      return left < right ? -sign : sign;
    });
  }

  /** Bring the lines up to date: `pictures` in their order, `current` the one that is shown large. */
  render(pictures, current) {
    const there = new Set(pictures);
    for (const picture of [...this.#rows.keys()].filter((known) => !there.has(known))) {
      this.#rows.get(picture).row.remove();
      this.#rows.delete(picture);
    }
    const focused = document.activeElement;
    pictures.forEach((picture, at) => {
      const { row } = this.#updated(picture);
      row.classList.toggle("current", picture === current);
      row.querySelector("button").setAttribute("aria-current", String(picture === current));
      if (byId("rows").children[at] !== row) byId("rows").insertBefore(row, byId("rows").children[at] ?? null);
    });
    if (focused !== document.activeElement) focused.focus({ preventScroll: true }); // a line that moves loses it
  }

  #updated(picture) {
    const line = this.#rows.get(picture) ?? this.#added(picture);
    const known = picture.answer ?? picture.state;
    if (line.shown !== known) {
      line.shown = known;
      while (line.row.children.length > 1) line.row.lastElementChild.remove(); // the first may have the focus
      line.row.append(...cells(picture));
    }
    return line;
  }

  #added(picture) {
    const thumbnail = make("span", { className: "thumbnail", "aria-hidden": "true" });
    const dot = picture.name.lastIndexOf("."); // where a long name is best broken
    const button = make("button", { type: "button", "aria-label": picture.name },
      ...(dot > 0 ? [picture.name.slice(0, dot), make("wbr"), picture.name.slice(dot)] : [picture.name]));
    const name = make("th", { scope: "row" }, make("div", { className: "file" }, thumbnail, button));
    const line = { row: make("tr", {}, name), shown: null };
    line.row.addEventListener("click", () => this.show(picture));
    thumbnailOf(picture.file).then((canvas) => canvas !== null && thumbnail.append(canvas));
    this.#rows.set(picture, line);
    return line;
  }

  #sortBy(head) {
    const same = head.dataset.column === this.#column;
    this.#column = head.dataset.column;
    this.#direction = same ? NEXT[this.#direction] : "ascending";
    for (const other of document.querySelectorAll("th[data-column]")) other.removeAttribute("aria-sort");
    if (this.#direction !== "none") head.setAttribute("aria-sort", this.#direction);
  }
}

/** All cells of a line but the first. */
function cells(picture) {
  if (picture.state !== "answered") {
    const words = make("span", { className: `state ${picture.state}` }, STATES[picture.state]);
    return [make("td", {}, words), make("td", { className: "number" }), make("td", { className: "number time" })];
  }
  const { best, totalMs, isUnsure } = picture;
  const label = make("td", {}, make("span", { className: "label" }, best.label));
  if (isUnsure) label.append(" ", make("span", { className: "tag" }, "not sure"));
  const bar = make("span", { className: "bar", "aria-hidden": "true" }, make("span"));
  bar.firstChild.style.width = `${best.probability * 100}%`;
  return [
    label,
    make("td", { className: "number" }, bar, percent(best.probability)),
    make("td", { className: "number time" }, totalMs === null ? "" : milliseconds(totalMs)),
  ];
}
