// The menu on the right: library, albums, map, duplicates, trash, theme, keyboard shortcuts, sign out.

import * as api from "./api.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { showKeys } from "./help.js";
import { makePopover } from "./popover.js";
import { info } from "./session.js";
import { goAfresh, isSearch, state } from "./state.js";
import { theme, toggleTheme } from "./theme.js";
import { toastProblem } from "./toast.js";

/** Put the menu's button in `place`. */
export function makeMenu(place) {
  const list = h("ul", { class: "menu-list" });
  const panel = h("div", { class: "popover", role: "dialog", "aria-label": "Menu" }, list);
  const about = h("p", { class: "hint menu-about" });
  panel.append(about);
  const popover = makePopover(panel, { onOpen: draw });
  const open = iconButton("menu", "Menu", () => popover.toggle(open), { "aria-expanded": "false", "aria-haspopup": "dialog", "data-testid": "menu" });
  place.append(open);

  const item = (drawing, words, run, testid) => h("li", {}, h("button", { type: "button", class: "menu-item", data: { testid }, on: { click: run } }, icon(drawing), h("span", {}, words)));

  function draw() {
    const isDark = theme() === "dark";
    fill(list,
      item("photo", "Library", () => { popover.close(); goAfresh(); }, "menu-library"),
      item("album", "Albums", () => { popover.close(); goAfresh({ view: "albums" }); }, "menu-albums"),
      item("place", "Map", () => { popover.close(); goAfresh({ view: "map", filters: isSearch(state()) ? {} : state().filters }); }, "menu-map"),
      item("similar", "Duplicates", () => { popover.close(); goAfresh({ view: "duplicates" }); }, "menu-duplicates"),
      item("trash", "Trash", () => { popover.close(); goAfresh({ view: "trash" }); }, "menu-trash"),
      item(isDark ? "sun" : "moon", isDark ? "Light" : "Dark", () => { toggleTheme(); draw(); list.querySelector('[data-testid="menu-theme"]').focus(); }, "menu-theme"),
      item("keyboard", "Keyboard shortcuts", () => { popover.close(); showKeys(); }, "menu-shortcuts"),
      info().keys_required && item("sign-out", "Sign out", signOut, "menu-sign-out"));
    const { version, profile } = info();
    about.textContent = version ? `regard ${version} · ${profile}` : "regard";
    list.querySelector("button").focus();
  }

  async function signOut() {
    try {
      await api.endSession();
      location.assign("./");
    } catch (problem) {
      toastProblem(problem);
    }
  }
}
