// The command that asks what the page asks. It never has the key: $MIXER_KEY stands for it.

import { address } from "./service.js";

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** The curl line for one picture. */
export function curlLine(name, model, hasKey) {
  const key = hasKey ? ['-H "Authorization: Bearer $MIXER_KEY"'] : [];
  return ["curl", ...key, "--data-binary", quoted(`@${name}`), quoted(address("classify", { model }))].join(" ");
}

/** A word for a POSIX shell. */
function quoted(word) {
  return PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
