// The command that asks what the page asks. It never has the key: $API_KEY stands for it.

import { byId } from "./elements.js";
import { address } from "./service.js";

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** The curl line for one picture. */
export function curlLine(name, model, hasKey) {
  const key = hasKey ? ['-H "Authorization: Bearer $API_KEY"'] : [];
  return ["curl", ...key, "--data-binary", quoted(`@${name}`), quoted(address("classify", { model }))].join(" ");
}

/** Copy the command that is shown; where the browser does not let the page do that, select it. */
export async function copyCommand() {
  const command = byId("command");
  const copied = await navigator.clipboard?.writeText(command.textContent).then(() => true, () => false);
  if (!copied) getSelection().selectAllChildren(command);
  byId("copy").textContent = copied ? "Copied" : "Selected";
  setTimeout(() => (byId("copy").textContent = "Copy"), 2000);
}

/** A word for a POSIX shell. */
function quoted(word) {
  return PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
