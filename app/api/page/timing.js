// Where the time of an answer went, as Server-Timing says, and how it is drawn.

import { byId, make } from "./elements.js";

const WORDS = {
  receive: "receiving",
  decode: "decoding",
  queue: "waiting",
  infer: "the network",
  rest: "the rest",
};

/** "receive;dur=1.20, infer;dur=3.40, total;dur=5.00" -> { stages: [{ name, ms }], totalMs }; the rest is a stage. */
export function stagesOf(serverTiming) {
  const stages = [];
  let totalMs = null;
  for (const part of serverTiming.split(",")) {
    const [, name, duration] = /^\s*([\w-]+)\s*;(?:.*;)?\s*dur=(\d+(?:\.\d+)?)/.exec(part) ?? [];
    if (name === "total") totalMs = Number(duration);
    else if (Object.hasOwn(WORDS, name)) stages.push({ name, ms: Number(duration) });
  }
  const rest = (totalMs ?? 0) - stages.reduce((sum, stage) => sum + stage.ms, 0);
  if (rest >= 0.05) stages.push({ name: "rest", ms: rest });
  return { stages, totalMs };
}

export const milliseconds = (ms) => (ms < 100 ? `${ms.toFixed(1)} ms` : `${Math.round(ms).toLocaleString("en")} ms`);

/** Draw the stages of a picture, or nothing where they are not known. */
export function showTiming({ stages, totalMs }) {
  byId("timing").hidden = totalMs === null;
  if (totalMs === null) return;
  byId("timing-title").textContent = `Answered in ${milliseconds(totalMs)}`;
  byId("timing-bar").replaceChildren(...stages.map(piece));
  byId("timing-legend").replaceChildren(...stages.map(key));
}

function piece({ name, ms }) {
  const element = make("span", { className: `stage-${name}` });
  element.style.flexGrow = ms;
  return element;
}

const key = ({ name, ms }) =>
  make("li", {}, make("span", { className: `dot stage-${name}`, "aria-hidden": "true" }), `${WORDS[name]} `,
    make("b", {}, milliseconds(ms)));
