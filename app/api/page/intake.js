// Where pictures come from: dropped, also as folders, pasted, chosen, or photographed.

import { byId } from "./elements.js";

const HIDDEN_FILE = /^\./;

/** Call `take(found)` with what comes in, anywhere on the page: each a `file`, and its `name`, in a dropped folder with
    the path from there; none came where something else was dropped. */
export function listen(take) {
  for (const id of ["choose", "photograph"]) {
    byId(id).addEventListener("change", ({ target }) => {
      take([...target.files].map(named));
      target.value = ""; // the same file may be chosen again
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length === 0) return;
    event.preventDefault();
    take(files.map(named));
  });
  listenForDrops(take);
}

function listenForDrops(take) {
  const veil = byId("veil");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (hasFiles(event)) veil.hidden = false;
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) veil.hidden = true; // it has left the window, whatever became of what it was over
  });
  const isText = (event) => event.target.localName === "input" && !hasFiles(event);
  document.addEventListener("dragover", (event) => isText(event) || event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (isText(event)) return;
    event.preventDefault(); // a browser would go to what was dropped, and leave the page
    veil.hidden = true;
    take(await filesOf(event.dataTransfer).catch(() => []));
  });
}

/** Every file that was dropped and can be read, those in folders too. The entries have to be asked for before anything is awaited. */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files].map(named);
  return (await Promise.all(entries.map(readBelow))).flat();
}

const named = (file) => ({ file, name: file.name });

/** One that cannot be read, as no one may, keeps the others from nobody. */
const readBelow = (entry) => filesBelow(entry).catch(() => []);

async function filesBelow(entry) {
  if (HIDDEN_FILE.test(entry.name)) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: entry.fullPath.slice(1) }]; // it begins with a slash
  }
  const reader = entry.createReader();
  const files = [];
  for (let batch = [null]; batch.length > 0; ) { // a reader gives a part of its entries at a time
    batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    files.push(...(await Promise.all(batch.map(readBelow))).flat());
  }
  return files;
}
