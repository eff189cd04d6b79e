// The session: what the key allows, and the form that asks for a key if the service needs one.

import * as api from "./api.js";
import { button, h } from "./dom.js";

let known = { scope: "read", keys_required: false };
let waiting = null;
let signedIn = () => {};

/** Called after each sign-in: another key may allow other things. */
export function onSignedIn(handler) {
  signedIn = handler;
}

/** Read the service's info and the caller's permissions. Raises Problem. */
export async function learn() {
  known = await api.info();
  return known;
}

export const info = () => known;
export const canWrite = () => known.scope === "write" || known.scope === "admin";
export const isAdmin = () => known.scope === "admin";

/** Ask for a key until one is valid; other calls meanwhile wait for the same result. */
export function signIn() {
  waiting ??= new Promise((resolve) => {
    const field = h("input", {
      id: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: "false",
      "aria-describedby": "key-error", data: { testid: "key" },
    });
    const error = h("p", { id: "key-error", class: "field-error", role: "alert" });
    const submit = button("Sign in", () => {}, { type: "submit", class: "is-primary", "data-testid": "sign-in" });
    const form = h(
      "form", { method: "dialog", class: "sign-in" },
      h("h2", { id: "sign-in-title" }, "This library needs a key"),
      h("p", {}, "The operator of the service creates one with:"), h("code", { class: "command" }, "regard keys create NAME"),
      h("label", { for: "key" }, "Key"), field, error, submit,
    );
    const dialog = h("dialog", { class: "sheet", "aria-labelledby": "sign-in-title", data: { testid: "sign-in-dialog" } }, form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      error.textContent = "";
      try {
        await api.startSession(field.value.trim());
        dialog.close();
        dialog.remove();
        waiting = null;
        resolve();
        signedIn();
      } catch (problem) {
        error.textContent = [problem.message, problem.remedy].filter(Boolean).join(" ");
        field.select();
      } finally {
        submit.disabled = false;
      }
    });
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
  return waiting;
}
