// Small copies of pictures for the table, made one after the other: a large photograph takes 50 MB while it is decoded.

const SIDE = 112; // pixels, twice what is shown
let last = Promise.resolve();

/** Resolves to a canvas, or to null where the browser cannot read the file. */
export function thumbnailOf(file) {
  last = last.then(() => drawn(file).catch(() => null));
  return last;
}

async function drawn(file) {
  const whole = await createImageBitmap(file);
  const side = Math.min(whole.width, whole.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(whole, (whole.width - side) / 2, (whole.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  whole.close();
  return canvas;
}
