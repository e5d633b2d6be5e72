// Pictures that wait for their answers: a few are asked for at once, and all wait while the service is busy or away.

import { Refused, Unreachable } from "./service.js";

const AT_ONCE = 4;

/**
 * `ask(picture, signal)` answers one picture or raises. Events: "change", with the picture in `detail`, and "hold",
 * when `hold` has changed: null, or why all wait: { reason: "busy", until } (until: in ms of Date.now()),
 * { reason: "unreachable" } or { reason: "key" }.
 */
export class Queue extends EventTarget {
  hold = null;
  #ask;
  #waiting = [];
  #asked = new Map(); // picture -> what ends its request
  #atOnce = AT_ONCE; // one, once the service was busy, and more with every answer
  #timer = 0;

  constructor(ask) {
    super();
    this.#ask = ask;
  }

  add(pictures) {
    this.#waiting.push(...pictures);
    this.#fill();
  }

  /** Ask for these once more, from the start. */
  again(pictures) {
    this.remove(pictures);
    for (const picture of pictures) {
      picture.wait();
      this.#tell(picture);
    }
    this.add(pictures);
  }

  remove(pictures) {
    const gone = new Set(pictures);
    this.#waiting = this.#waiting.filter((picture) => !gone.has(picture));
    for (const picture of pictures) {
      this.#asked.get(picture)?.abort();
      this.#asked.delete(picture);
    }
    if (this.#waiting.length === 0 && this.hold?.reason !== "key") this.resume();
    else this.#fill(); // into the place of what was on its way
  }

  /** Nobody waits any more. */
  resume() {
    this.#holdFor(null);
    this.#fill();
  }

  #fill() {
    while (this.hold === null && this.#asked.size < this.#atOnce && this.#waiting.length > 0) {
      this.#run(this.#waiting.shift());
    }
  }

  async #run(picture) {
    const request = new AbortController();
    this.#asked.set(picture, request);
    picture.state = "asking";
    this.#tell(picture);
    try {
      const answer = await this.#ask(picture, request.signal);
      if (request.signal.aborted) return;
      Object.assign(picture, answer, { state: "answered" });
      this.#atOnce = Math.min(this.#atOnce + 1, AT_ONCE);
    } catch (error) {
      if (request.signal.aborted) return;
      this.#failed(picture, error);
    }
    this.#asked.delete(picture);
    this.#tell(picture);
    this.#fill();
  }

  #failed(picture, error) {
    const hold = holdAfter(error);
    if (hold === null) {
      picture.state = "failed";
      picture.error = error;
      return;
    }
    picture.state = "waiting";
    this.#waiting.unshift(picture);
    if (hold.reason === "busy") this.#atOnce = 1;
    if (this.hold === null || hold.reason !== "busy" || hold.until > this.hold.until) this.#holdFor(hold);
  }

  #holdFor(hold) {
    clearTimeout(this.#timer);
    this.hold = hold;
    if (hold?.reason === "busy") this.#timer = setTimeout(() => this.resume(), hold.until - Date.now());
    this.dispatchEvent(new Event("hold"));
  }

  #tell(picture) {
    this.dispatchEvent(new CustomEvent("change", { detail: picture }));
  }
}

/** Why all have to wait after this error; null where it is about one picture. */
function holdAfter(error) {
  if (error instanceof Unreachable) return { reason: "unreachable" };
  if (!(error instanceof Refused)) return null;
  if (error.status === 401) return { reason: "key" };
  return error.retryAfterS === null ? null : { reason: "busy", until: Date.now() + error.retryAfterS * 1000 };
}
