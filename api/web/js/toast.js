// Short messages at the bottom of the page, with at most one action; they stay while hovered
// or focused.

import { announce, button, h, iconButton, moveToDialog } from "./dom.js";

const STAY_MS = 9000;
// For an action, people need time to read and to reach it (WCAG 2.2.1).
const STAY_FOR_ACTION_MS = 20_000;
const host = document.getElementById("toasts");

/** Show a message; `action` is {words, run}. Errors stay until closed. */
export function toast(message, { action, isError = false } = {}) {
  moveToDialog(host);
  const element = h(
    "div", { class: `toast${isError ? " is-bad" : ""}`, role: isError ? "alert" : null, data: { testid: "toast" } },
    h("p", {}, message),
    action && button(action.words, () => { close(); action.run(); }, { class: "is-small", "data-testid": "toast-action" }),
    iconButton("close", "Dismiss", () => close()),
  );
  let timer = null;
  const wait = () => {
    clearTimeout(timer);
    if (!isError) timer = setTimeout(close, action ? STAY_FOR_ACTION_MS : STAY_MS);
  };
  const stay = () => clearTimeout(timer);
  function close() {
    clearTimeout(timer);
    element.remove();
  }
  element.addEventListener("pointerenter", stay);
  element.addEventListener("pointerleave", wait);
  element.addEventListener("focusin", stay);
  element.addEventListener("focusout", wait);
  host.append(element);
  while (host.childElementCount > 3) host.firstElementChild.remove();
  if (!isError) announce(message);
  wait();
}

/** Show why something failed. */
export function toastProblem(error) {
  if (error.name === "AbortError") return;
  toast([error.message, error.remedy].filter(Boolean).join(" "), { isError: true });
}
