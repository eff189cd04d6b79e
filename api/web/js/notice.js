// Shown in place of photographs if there are none, or if something failed.

import { h, icon } from "./dom.js";

/** A notice with an icon, a title, an optional sentence, and actions. */
export function notification(drawing, title, text, ...actions) {
  return h(
    "div", { class: "notice", data: { testid: "notice" } },
    h("span", { class: "notice-icon" }, icon(drawing)), h("h2", {}, title), text && h("p", {}, text),
    h("div", { class: "notice-actions" }, actions),
  );
}
