// What the page says: a line that changes, errors and notes that stay until they are dismissed, and, for those who do
// not see it, what has changed.

import { Refused } from "./api.js";
import { $ } from "./dom.js";

// With a `share` it is one step of many, which is not read out.
export function say(text, share = null) {
  $("status-text").textContent = text;
  $("status-bar").hidden = share === null;
  $("status-bar").value = share ?? 0;
  if (share === null && text) announce(text);
}

const LINES = 5; // that are kept; each is read out when it is added

export function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("announcements").append(line);
  if ($("announcements").childElementCount > LINES) $("announcements").firstElementChild.remove();
}

function add(box, message) {
  const text = box.querySelector("p");
  text.textContent = text.textContent ? `${text.textContent}\n${message}` : message;
  box.hidden = false;
}

export function fail(error) {
  if (!(error instanceof Refused)) console.error(error);
  add($("error"), error.message);
}

export const note = (message) => add($("note"), message);

export function forgive() {
  for (const box of [$("error"), $("note")]) {
    box.hidden = true;
    box.querySelector("p").textContent = "";
  }
}
