// What stands in the place of photographs when there are none to show, or when something failed.

import { h, icon } from "./dom.js";

/** A notice with a drawing, a title, perhaps a sentence, and what one may do. */
export function notification(drawing, title, text, ...actions) {
  return h(
    "div", { class: "notice", data: { testid: "notice" } },
    h("span", { class: "notice-icon" }, icon(drawing)), h("h2", {}, title), text && h("p", {}, text),
    h("div", { class: "notice-actions" }, actions),
  );
}
