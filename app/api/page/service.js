// The service over HTTP: what it is asked, and what comes back or goes wrong. Knows nothing of the page.

export const ROOT = new URL("../../", import.meta.url); // this file is ROOT/page/VERSION/service.js

const BUSY = [429, 503];
const BUSY_S = 5; // where the service does not say when to come again
const LEAST_S = 1; // a service that says 0, or less, is asked no faster
const MOST_S = 600;

/** The service has answered, with an error. `retryAfterS`: when to come again, where that helps; else null. */
export class Refused extends Error {
  constructor(status, problem, retryAfterS) {
    super(typeof problem.detail === "string" ? problem.detail : `The service answered with status ${status}.`);
    this.status = status;
    this.code = problem.code ?? "";
    this.retryAfterS = retryAfterS;
  }
}

/** There was no answer. */
export class Unreachable extends Error {}

export class Service {
  #key = ""; // here and nowhere else
  #changes = 0; // of the key
  #client = crypto.getRandomValues(new Uint32Array(4)).join("-"); // whom answers are for, where no key says so

  get hasKey() {
    return this.#key !== "";
  }

  /** Send this key from now on; none where it is empty. It has only what a header may have. */
  useKey(key) {
    this.#key = key;
    this.#changes += 1;
  }

  /** The names of the models, and which answers where none is named. */
  async models() {
    return (await this.#ask("models")).body;
  }

  /** What a model knows, and the limits of the service. */
  async model(name) {
    return (await this.#ask("model", { model: name })).body;
  }

  /** The answer to one picture. `bytes` are sent as they are. Raises where somebody else has answered. */
  async classify(bytes, type, { model, signal }) {
    const answer = await this.#ask("classify", { model }, { method: "POST", body: bytes, type, signal });
    if (!isClassification(answer.body)) throw new Error("The answer is none of this service.");
    return answer;
  }

  /** How much each patch of the picture carries the label with this index. */
  async explain(bytes, type, { model, target, signal }) {
    const query = { target, method: "occlusion", baseline: "mean", model };
    return (await this.#ask("explain", query, { method: "POST", body: bytes, type, signal })).body;
  }

  /** Whether the service answers at all. */
  async isThere() {
    try {
      await this.#ask("health/live");
      return true;
    } catch (error) {
      return error instanceof Refused;
    }
  }

  async #ask(path, query = {}, { type, ...options } = {}) {
    const headers = { Accept: "application/json" };
    const changes = this.#changes;
    const isOfPicture = type !== undefined;
    if (this.hasKey) headers.Authorization = `Bearer ${this.#key}`;
    else if (isOfPicture) headers["X-Client-ID"] = this.#client; // so that the model that answered explains, too
    if (isOfPicture) headers["Content-Type"] = type;
    const answer = await fetched(address(path, query), { ...options, headers, mode: "same-origin", redirect: "error" });
    const body = await answer.json().catch(() => null);
    const isOfAnotherKey = answer.status === 401 && this.hasKey && changes !== this.#changes;
    if (isOfAnotherKey) return this.#ask(path, query, { type, ...options });
    if (!answer.ok) throw new Refused(answer.status, body ?? {}, retryAfterS(answer));
    if (body === null) throw new Unreachable("The answer broke off.");
    return { body, serverTiming: answer.headers.get("Server-Timing") ?? "" };
  }
}

/** The address of an endpoint, wherever a proxy puts the service. */
export function address(path, query = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url.href;
}

function isClassification({ predictions }) {
  const isOne = (prediction) => typeof prediction?.label === "string" && typeof prediction.probability === "number";
  return Array.isArray(predictions) && predictions.length > 0 && predictions.every(isOne);
}

async function fetched(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The service cannot be reached.");
  }
}

/** Retry-After is a number of seconds or a date. */
function retryAfterS(answer) {
  if (!BUSY.includes(answer.status)) return null;
  const said = answer.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(said) ? Number(said) : (Date.parse(said) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, LEAST_S), MOST_S) : BUSY_S;
}
