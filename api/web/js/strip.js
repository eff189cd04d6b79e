// The strip below an open photograph: the files of its stack, one of them shown.

import * as api from "./api.js";
import { fill, h, icon, thumb } from "./dom.js";

// No burst that is looked through one by one is longer.
const MOST = 200;

/**
 * The strip; `onOpen(asset)` is asked for a file of it, `onLoad()` told once the files are known. `elsewhere()` takes the
 * focus where it goes.
 */
export function makeStrip({ onOpen, onLoad, elsewhere }) {
  const element = h("div", { class: "strip", role: "group", "aria-label": "Its stack", hidden: true, data: { testid: "strip" } });
  // The stack's id, and its files once they are loaded.
  let stack = null;
  let members = [];
  let open = null;

  function draw() {
    const hadFocus = element.contains(document.activeElement);
    element.hidden = members.length < 2;
    fill(element, members.map((asset) => h("button", {
      type: "button", class: "strip-file", "aria-current": asset.id === open ? "true" : null, title: asset.file_name, "aria-label": asset.file_name,
      data: { testid: "strip-file", asset: asset.id },
      on: { click: () => asset.id !== open && onOpen(asset) },
    }, asset.state === "failed" ? icon("photo") : thumb(asset.urls.thumbnail, { draggable: "false" }), h("span", { class: "strip-kind", "aria-hidden": "true" }, asset.format))));
    const current = element.querySelector("[aria-current]");
    current?.scrollIntoView({ block: "nearest", inline: "center" });
    // The buttons were made again.
    if (hadFocus) ((!element.hidden && current) || elsewhere()).focus();
  }

  return {
    element,
    /** Whether a photograph is known to be in the stack that is shown. */
    has: (id) => members.some((asset) => asset.id === id),
    stack: () => stack,
    /** The file beside the open one, or undefined. */
    beside: (step) => members[members.findIndex(({ id }) => id === open) + step],

    /** Show the stack of a photograph, if it is in one. */
    async show(asset) {
      open = asset.id;
      if (!asset.stack) {
        this.clear();
        return;
      }
      if (stack === asset.stack.id && members.some(({ id }) => id === asset.id) && members.length === Math.min(MOST, asset.stack.count)) {
        draw();
        return;
      }
      stack = asset.stack.id;
      members = [];
      draw();
      // Without the others, the photograph itself is there all the same.
      const list = await api.listAssets([["stack", asset.id], ["sort", "date"], ["limit", MOST]]).catch(() => ({ items: [] }));
      if (open !== asset.id) return;
      members = list.items;
      draw();
      onLoad();
    },

    clear() {
      stack = null;
      members = [];
      draw();
    },
  };
}
