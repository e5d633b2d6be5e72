// The form for a key. The key goes to who asked for it, and stays in no field.

import { byId } from "./elements.js";

const SENDABLE = /^[\x21-\x7e]+$/; // what a header may have, without spaces

export class KeyForm {
  /** `use(key)`: there is another key, or, where it is empty, none any more. */
  constructor(use) {
    byId("key").addEventListener("submit", (event) => {
      event.preventDefault();
      const key = byId("key-value").value.trim();
      byId("key-error").textContent = SENDABLE.test(key) ? "" : "A key has letters, digits and signs, and no spaces.";
      if (!SENDABLE.test(key)) return;
      byId("key-value").value = "";
      use(key);
    });
    byId("forget").addEventListener("click", () => use(""));
  }

  /** The service wants a key, or, where one `wasSent`, another one. */
  ask(wasSent) {
    if (wasSent) byId("key-error").textContent = "The service does not take this key.";
    byId("forget").hidden = true;
    byId("key").hidden = false;
    byId("key-value").focus();
  }

  /** The service answers, with a key or without one. */
  taken(hasKey) {
    if (byId("key").contains(document.activeElement)) byId("choose").focus(); // the form goes
    byId("key").hidden = true;
    byId("key-error").textContent = "";
    byId("forget").hidden = !hasKey;
  }
}
