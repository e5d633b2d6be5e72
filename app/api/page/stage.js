// One picture, large, with all that is known of it: its answer, where the time went, the curl line, and why.

import { curlLine } from "./curl.js";
import { byId, make, percent } from "./elements.js";
import { heatOver, wordsFor } from "./heat.js";
import { showTiming } from "./timing.js";

const TINY = 200; // pixels of a width, below which a picture is enlarged

export class Stage {
  picture = null;
  #explain;
  #url = null; // of the picture in memory, until another one is shown
  #frame = null;
  #shown = null; // what of the picture is said: its answer, its error or its state

  /** `explain(picture)` gives the answer of POST /explain, or null where the service does not explain. */
  constructor(explain) {
    this.#explain = explain;
    byId("why").addEventListener("click", () => this.#toggleHeat());
  }

  /** Show what is known of a picture now. `model`: the name that was asked for; `hasKey`: whether one is needed. */
  show(picture, { model, hasKey, explains }) {
    if (picture !== this.picture) this.#exchange(picture);
    this.#say(picture);
    byId("stage").setAttribute("aria-busy", String(picture.state === "asking"));
    byId("again").hidden = picture.state !== "failed";
    byId("why").hidden = picture.state !== "answered" || !explains;
    if (byId("why").hidden) this.#hideHeat();
    byId("command").textContent = curlLine(picture.name, model, hasKey);
  }

  /** Show nothing, and let go of the picture. */
  clear() {
    if (this.#url !== null) URL.revokeObjectURL(this.#url);
    this.#url = this.#frame = this.#shown = this.picture = null;
    byId("picture").replaceChildren();
    this.#hideHeat();
  }

  /** Nothing that stands there already is put there again: somebody may be reading it. */
  #say(picture) {
    const known = picture.answer ?? picture.error ?? picture.state;
    if (known === this.#shown) return;
    this.#shown = known;
    byId("stage-name").textContent = picture.name;
    byId("stage-body").replaceChildren(...said(picture));
    showTiming(picture);
  }

  #exchange(picture) {
    this.clear();
    this.picture = picture;
    this.#url = URL.createObjectURL(picture.file);
    const image = make("img", { src: this.#url, alt: `The picture ${picture.name}` });
    this.#frame = make("div", { className: "frame" }, image);
    image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < TINY));
    image.addEventListener("error", () => image.isConnected && this.#replaceByWords());
    byId("picture").replaceChildren(this.#frame);
  }

  #replaceByWords() {
    this.#frame.replaceChildren(make("p", { className: "unseen" }, "This browser cannot show the file."));
  }

  async #toggleHeat() {
    if (byId("why").getAttribute("aria-pressed") === "true") return this.#hideHeat();
    const { picture } = this;
    byId("why").disabled = true;
    byId("why").textContent = "Looking …";
    const explanation = await this.#explain(picture).catch((error) => error);
    byId("why").disabled = false;
    byId("why").textContent = "Why?";
    if (picture === this.picture && explanation !== null) this.#showHeat(explanation);
  }

  #showHeat(explanation) {
    const failed = explanation instanceof Error;
    byId("heat-legend").hidden = false;
    byId("heat-legend").classList.toggle("failed", failed);
    byId("heat-words").textContent = failed ? explanation.message : wordsFor(explanation);
    byId("told").textContent = byId("heat-words").textContent;
    if (failed) return;
    byId("why").setAttribute("aria-pressed", "true");
    if (!this.#isShownAs(explanation.region)) return;
    this.#frame.classList.add("heated");
    this.#frame.append(heatOver(explanation));
  }

  /** Whether the browser shows the picture as the service sees it. Not every one turns WebP, or can show TIFF. */
  #isShownAs({ width, height }) {
    const image = this.#frame.querySelector("img");
    if (image === null) return false;
    return Math.abs(image.naturalWidth * height - image.naturalHeight * width) <= 0.02 * image.naturalWidth * height;
  }

  #hideHeat() {
    byId("why").setAttribute("aria-pressed", "false");
    byId("heat-legend").hidden = true;
    this.#frame?.classList.remove("heated");
    this.#frame?.querySelector("canvas")?.remove();
  }
}

/** What stands beside the picture. */
function said(picture) {
  if (picture.state === "answered") return picture.isUnsure ? unsure(picture) : sure(picture);
  if (picture.state === "failed") {
    return [heading("No answer", "failed"), make("p", { className: "detail" }, picture.error.message)];
  }
  const words = picture.state === "asking" ? "Looking …" : "Waiting …";
  const lines = [make("span"), make("span"), make("span")];
  return [heading(words, "open"), make("div", { className: "skeleton", "aria-hidden": "true" }, ...lines)];
}

const heading = (words, kind) => make("h2", { id: "stage-answer", className: `answer ${kind}` }, words);

function sure({ best, answer }) {
  return [heading(best.label, "sure"), share(best), bars(answer.predictions.slice(1))];
}

function unsure({ best, answer }) {
  const nearest = make("p", { className: "detail" },
    "The picture is unlike those that the model has learned from. Nearest to it is ", make("b", {}, best.label), ".");
  return [heading("Not sure", "unsure"), nearest, bars(answer.predictions)];
}

function share({ probability }) {
  const line = make("span", { className: "bar", "aria-hidden": "true" }, make("span"));
  line.firstChild.style.width = `${probability * 100}%`;
  return make("div", { className: "share" }, make("p", {}, percent(probability)), line);
}

function bars(predictions) {
  return make("ol", { className: "bars", "aria-label": "Labels, the most probable first" }, ...predictions.map(bar));
}

function bar({ label, probability }) {
  const line = make("span", { className: "bar", "aria-hidden": "true" }, make("span"));
  line.firstChild.style.width = `${probability * 100}%`;
  return make("li", {}, make("span", { className: "label" }, label), line,
    make("span", { className: "number" }, percent(probability)));
}
