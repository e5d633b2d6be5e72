// Why a label: how much each patch carries it, drawn over the picture and put in words.

import { make, percent } from "./elements.js";

const FOR = [[255, 72, 0], [255, 200, 50]]; // little of it, most of it
const AGAINST = [[48, 110, 255], [48, 110, 255]];
const MOST_OPAQUE = 0.85;
const CELL = 24; // pixels of the canvas
const ROWS = ["upper", "middle", "lower"];
const COLUMNS = ["left", "", "right"];

/** A canvas over the picture; `explanation` is the answer of POST /explain. */
export function heatOver({ grid, region }) {
  const canvas = make("canvas", { className: "heat", width: grid.columns * CELL, height: grid.rows * CELL });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small(grid), 0, 0, canvas.width, canvas.height);
  const place = { left: region.left / region.width, top: region.top / region.height };
  place.width = region.right / region.width - place.left;
  place.height = region.bottom / region.height - place.top;
  for (const [name, share] of Object.entries(place)) canvas.style[name] = `${share * 100}%`;
  if (region.turned) { // the model saw the picture turned back by that, around its middle
    const [x, y] = [(0.5 - place.left) / place.width, (0.5 - place.top) / place.height];
    canvas.style.transformOrigin = `${x * 100}% ${y * 100}%`;
    canvas.style.transform = `rotate(${-region.turned}deg)`;
  }
  return canvas;
}

/** One pixel for each patch. */
function small({ rows, columns, values }) {
  const canvas = make("canvas", { width: columns, height: rows });
  const pen = canvas.getContext("2d");
  const pixels = pen.createImageData(columns, rows);
  const flat = values.flat();
  const most = Math.max(...flat.map(Math.abs)) || 1;
  flat.forEach((value, at) => {
    const share = Math.abs(value) / most;
    const [little, much] = value < 0 ? AGAINST : FOR;
    const color = little.map((channel, index) => channel + (much[index] - channel) * share ** 2);
    pixels.data.set([...color, share * MOST_OPAQUE * 255], at * 4);
  });
  pen.putImageData(pixels, 0, 0);
  return canvas;
}

/** For who does not see it: where the label rests, and how much of it lies there. */
export function wordsFor({ target, grid, region }) {
  const shares = ninths(grid);
  const sum = shares.reduce((total, { share }) => total + share, 0);
  if (sum === 0) return `No part of the picture alone carries the label “${target.label}”.`;
  const [first, second] = [...shares].sort((one, other) => other.share - one.share);
  const also = second.share > first.share * 0.75 ? `, and then on ${second.where}` : "";
  const seen = region.turned ? `picture, turned upright by ${Math.abs(Math.round(region.turned))}°` : "picture";
  return `The label “${target.label}” rests most on ${first.where} of the ${seen}${also}: ` +
    `${percent(first.share / sum)} of what speaks for it lies there.`;
}

/** What speaks for the label in each ninth of the grid. */
function ninths({ rows, columns, values }) {
  const found = ROWS.flatMap((row) => COLUMNS.map((column) => ({ where: where(row, column), share: 0 })));
  values.forEach((line, row) =>
    line.forEach((value, column) => {
      const third = (at, count) => Math.min(2, Math.floor((at * 3) / count));
      found[third(row, rows) * 3 + third(column, columns)].share += Math.max(0, value);
    }),
  );
  return found;
}

function where(row, column) {
  if (column === "") return row === "middle" ? "the middle" : `the ${row} middle`;
  return `the ${row === "middle" ? "" : `${row} `}${column}`;
}
