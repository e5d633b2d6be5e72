// The answers as CSV (RFC 4180), for spreadsheets: what one would take for a formula is given a quote before it.

import { make } from "./elements.js";

const MARK = "\ufeff"; // by which spreadsheets know UTF-8
const MOST_LABELS = 5;
const FORMULA = /^[=+\-@\t\r]/;
const HEAD = [
  "file", "label", "probability", "uncertain", "energy", "model", "version", "precision", "time_ms", "error",
];

/** Let the browser save the answers as answers.csv. */
export function save(pictures) {
  const url = URL.createObjectURL(new Blob([MARK, csvOf(pictures)], { type: "text/csv" }));
  make("a", { href: url, download: "answers.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** One line for each picture, the further labels last. */
function csvOf(pictures) {
  const further = Array.from({ length: MOST_LABELS - 1 }, (_, at) => [`label_${at + 2}`, `probability_${at + 2}`]);
  const lines = [[...HEAD, ...further.flat()], ...pictures.map(line)];
  return lines.map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function line(picture) {
  const { name, answer, best, totalMs, error } = picture;
  const { name: model, version, precision } = answer?.model ?? {};
  const rest = answer?.predictions.slice(1, MOST_LABELS) ?? [];
  return [
    name, best?.label, best?.probability, answer?.uncertain, answer?.energy, model, version, precision,
    totalMs, error?.message, ...rest.flatMap(({ label, probability }) => [label, probability]),
  ];
}

/** A number stays one, also below zero. */
function cell(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
