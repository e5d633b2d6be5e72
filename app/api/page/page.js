// The page: pictures come in, the service is asked, and what is known of them is shown. Everything is in memory only.

import { save } from "./csv.js";
import { copyCommand } from "./curl.js";
import { byId, counted, make, percent } from "./elements.js";
import { listen } from "./intake.js";
import { KeyForm } from "./key.js";
import { say, showHold } from "./notices.js";
import { Picture } from "./picture.js";
import { Queue } from "./queue.js";
import { Refused, Service, Unreachable } from "./service.js";
import { Stage } from "./stage.js";
import { Table } from "./table.js";
import { stagesOf } from "./timing.js";

const SHOWN_LABELS = 24;
const MIB = 1 << 20;

const service = new Service();
const queue = new Queue(ask);
const stage = new Stage(explain);
const table = new Table(show, later);
const keyForm = new KeyForm(useKey);
let pictures = [];
let current = null;
let model; // the name to ask for; undefined: that of the service's choice
let limits = null;
let explains = true; // until the service says otherwise
let unmet = false; // whether a notice says that the service could not be met
let due = false; // whether the page is to be drawn soon

// --- pictures ---

function take(found) {
  if (found.length === 0) {
    say("That was no file. Save the picture first, then drop its file here.", "busy");
    return;
  }
  if (queue.hold === null) showWhyAllWait();
  const added = found.map((one) => new Picture(one));
  pictures.push(...added);
  byId("told").textContent = `${counted(added.length, "picture")} added.`;
  current = added[0];
  queue.add(added);
  later();
}

/** The answer to one picture, for the queue. */
async function ask(picture, signal) {
  const most = limits?.max_picture_bytes ?? Infinity;
  if (picture.file.size > most) {
    throw new Error(`The file has ${(picture.file.size / MIB).toFixed(1)} MiB; the service takes at most ` +
      `${(most / MIB).toFixed(1)}.`);
  }
  const bytes = await picture.bytes();
  try {
    const { body, serverTiming } = await service.classify(bytes, picture.type, { model, signal });
    return { answer: body, ...stagesOf(serverTiming) };
  } catch (error) {
    if (error instanceof Unreachable && navigator.onLine && (await service.isThere())) {
      throw new Error("The connection broke off while the picture was on its way.");
    }
    throw error;
  }
}

async function explain(picture) {
  const { answer, best: { index } } = picture;
  if (picture.explanations.has(index)) return picture.explanations.get(index);
  try {
    const explanation = await service.explain(await picture.bytes(), picture.type, { model, target: index });
    if (picture.answer !== answer) return null; // it was asked again, of another model
    picture.explanations.set(index, explanation);
    return explanation;
  } catch (error) {
    const isAbsent = error instanceof Refused && [404, 405].includes(error.status) && error.code !== "unknown_model";
    if (!isAbsent) throw error;
    explains = false;
    say("This service does not explain its answers.", "busy");
    later();
    return null;
  }
}

function remove(gone) {
  queue.remove(gone);
  const order = table.sorted(pictures);
  const at = order.indexOf(current);
  const stays = (picture) => !gone.includes(picture);
  current = [...order.slice(at), ...order.slice(0, at).reverse()].find(stays) ?? null;
  pictures = pictures.filter(stays);
  if (current === null) byId("choose").focus(); // what had the focus is hidden
  later();
}

// --- what is shown ---

function later() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    render();
  });
}

/** Look at one of many. Where the window is narrow, its place is above the table. */
function show(picture) {
  current = picture;
  later();
  if (picture.isDone) byId("told").textContent = inWords(picture);
  if (byId("stage").getBoundingClientRect().bottom < innerHeight / 4) byId("stage").scrollIntoView();
}

function render() {
  const some = pictures.length > 0;
  const many = pictures.length > 1;
  document.body.classList.toggle("working", some);
  byId("results").hidden = !some;
  byId("results").classList.toggle("many", many);
  byId("list").hidden = byId("steps").hidden = !many;
  byId("known").hidden = some || byId("known-labels").childElementCount === 0;
  const order = table.sorted(pictures);
  table.render(many ? order : [], current);
  if (!some) {
    stage.clear();
    return;
  }
  stage.show(current, { model, hasKey: service.hasKey || queue.hold?.reason === "key", explains });
  byId("position").textContent = `${order.indexOf(current) + 1} of ${order.length}`;
  renderCount();
}

function renderCount() {
  const answered = pictures.filter(({ state }) => state === "answered");
  const failed = pictures.filter(({ state }) => state === "failed").length;
  const unsure = answered.filter((picture) => picture.isUnsure).length;
  const done = answered.length + failed;
  const parts = [`${answered.length} answered`];
  if (unsure > 0) parts.push(`${unsure} not sure`);
  if (failed > 0) parts.push(`${failed} without an answer`);
  if (done < pictures.length) parts.push(`${pictures.length - done} to come`);
  byId("list-title").textContent = counted(pictures.length, "picture");
  byId("count").textContent = parts.join(" · ");
  byId("progress").max = pictures.length;
  byId("progress").value = done;
  byId("progress").classList.toggle("done", done === pictures.length);
}

/** For who listens: the answer to a single picture, or that all of many have theirs. */
function tell(picture) {
  if (!pictures.every(({ isDone }) => isDone)) return;
  byId("told").textContent = pictures.length === 1 ? inWords(picture) : byId("count").textContent;
}

function inWords({ state, best, error, isUnsure }) {
  if (state === "failed") return `No answer. ${error.message}`;
  return `${isUnsure ? "Not sure. Nearest is " : ""}${best.label}, ${percent(best.probability)}.`;
}

// --- the service ---

/** What can be told before there is a picture: which models there are, and what they know. */
async function meet() {
  try {
    const { models, default: usual } = await service.models();
    showModels(models, usual);
    await showModel();
    keyForm.taken(service.hasKey);
    if (queue.hold?.reason === "key" || queue.hold?.reason === "unreachable") queue.resume();
    else if (unmet) showWhyAllWait();
    unmet = false;
  } catch (error) {
    unmet = true;
    if (error instanceof Refused && error.status === 401) askForKey();
    else say(error.message, "error", meet);
  }
}

function showModels(models, usual) {
  const names = models.map(({ name }) => name);
  if (!names.includes(model)) model = undefined;
  byId("chooser").hidden = names.length < 2;
  byId("model").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  byId("model").value = model ?? usual;
}

async function showModel() {
  const asked = model;
  const { spec, precision, limits: kept } = await service.model(asked);
  if (asked !== model) return; // another one was chosen meanwhile
  limits = kept;
  byId("lead").textContent =
    `Drop a photograph here, and the model says which of ${counted(spec.labels.length, "thing")} it shows.`;
  byId("known-title").textContent = `What ${spec.name} knows`;
  const shown = spec.labels.slice(0, SHOWN_LABELS).map((label) => make("li", {}, label));
  const more = spec.labels.length - shown.length;
  if (more > 0) shown.push(make("li", { className: "more" }, `and ${more.toLocaleString("en")} more`));
  byId("known-labels").replaceChildren(...shown);
  byId("version").textContent = `${spec.name} ${spec.version}, ${precision}`;
  later();
}

function askForKey() {
  keyForm.ask(service.hasKey);
  service.useKey("");
}

function showWhyAllWait() {
  showHold(queue.hold, () => queue.resume());
}

function useKey(key) {
  service.useKey(key);
  meet();
}

// --- what people do ---

listen(take);
queue.addEventListener("change", ({ detail: picture }) => {
  if (!pictures.includes(picture)) return;
  later();
  renderCount();
  tell(picture);
});
queue.addEventListener("hold", () => {
  if (queue.hold?.reason === "key") askForKey();
  showWhyAllWait();
});
window.addEventListener("online", () => {
  if (limits === null) meet();
  else if (queue.hold?.reason === "unreachable") queue.resume();
});

byId("model").addEventListener("change", ({ target }) => {
  model = target.value;
  queue.again(pictures);
  showModel().catch((error) => say(error.message));
});
byId("again").addEventListener("click", () => {
  byId("stage").focus(); // the button goes
  queue.again([current]);
});
byId("remove").addEventListener("click", () => remove([current]));
byId("clear").addEventListener("click", () => {
  remove(pictures);
  byId("told").textContent = "All pictures removed.";
});
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  byId(id).addEventListener("click", () => {
    const order = table.sorted(pictures);
    show(order[(order.indexOf(current) + step + order.length) % order.length]);
  });
}
byId("copy").addEventListener("click", copyCommand);
byId("csv").addEventListener("click", () => save(table.sorted(pictures)));

meet();
