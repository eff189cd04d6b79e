// The dialogs that explain the page: its keys, and examples of queries.

import { h, iconButton } from "./dom.js";
import { keyNames, KEYS } from "./keys.js";
import { EXAMPLES } from "./written.js";

const kbd = (name) => h("kbd", {}, name);
const list = (rows) => h("dl", { class: "shortcuts" }, rows.map(([term, words]) => [h("dt", {}, term), h("dd", {}, words)]));
const examples = () => list(EXAMPLES.map(([query, words]) => [h("code", {}, query), words]));
const keysOf = ({ rows }) => list(Object.values(rows).map(([keys, words]) => [keys.map((key) => h("span", { class: "keys" }, keyNames(key).map(kbd))), words]));

/** Show all keys of the page. */
export function showKeys() {
  showSheet("Keyboard shortcuts", "is-wide", h("div", { class: "key-places" }, Object.values(KEYS).map((place) =>
    h("section", {}, h("h3", {}, place.heading), keysOf(place)))));
}

/** Show examples of queries. */
export function showExamples() {
  showSheet("What the search box understands", "", examples());
}

function showSheet(title, more, ...content) {
  const dialog = h("dialog", { class: `sheet ${more}`.trim(), "aria-labelledby": "help-title", data: { testid: "shortcuts" } },
    h("div", { class: "sheet-head" }, h("h2", { id: "help-title" }, title), iconButton("close", "Close", () => dialog.close())), content);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
