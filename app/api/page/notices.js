// What is wrong with the service as a whole, above everything else, and what can be done about it.

import { byId, make } from "./elements.js";

let timer = 0;

/** Say why all pictures wait; null: none does. `retry()`: somebody does not want to wait. */
export function showHold(hold, retry) {
  clearInterval(timer);
  const notice = hold === null ? null : noticeOf(hold, retry);
  byId("notices").replaceChildren(...(notice === null ? [] : [notice]));
}

/** Something that is over once it is said, above the rest until the next one. */
export function say(words, kind = "error", retry = null) {
  clearInterval(timer);
  byId("notices").replaceChildren(noticed(kind, [words], retry));
}

function noticeOf(hold, retry) {
  if (hold.reason === "unreachable") {
    const what = make("b", {}, "The service cannot be reached. ");
    return noticed("error", [what, "What has no answer yet waits, and nothing is lost."], retry);
  }
  if (hold.reason !== "busy") return null; // the form for the key says it
  const left = make("span", { "aria-hidden": "true" });
  const count = () => {
    left.textContent = ` Next try in ${Math.max(0, Math.ceil((hold.until - Date.now()) / 1000))} s.`;
  };
  count();
  timer = setInterval(count, 250);
  return noticed("busy", [make("b", {}, "The service is busy. "), "What has no answer yet waits.", left], retry);
}

function noticed(kind, words, retry) {
  const notice = make("div", { className: `notice ${kind}` }, make("p", {}, ...words));
  if (retry !== null) {
    notice.append(make("button", { type: "button", onclick: retry }, kind === "busy" ? "Try now" : "Try again"));
  }
  return notice;
}
