// The keys of the page, in one table: the help lists it, and every listener for keys takes its keys from it.

import { isTyping } from "./dom.js";

// Every key that has no row of its own.
const OTHER = "Any other";
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

/** By place: a heading, and what each row does: [its keys, words]. */
export const KEYS = {
  page: {
    heading: "On the page",
    rows: {
      search: [["/"], "Search"],
      target: [["t"], "Find photos, or things in them"],
      slideshow: [["s"], "Slideshow of what is listed"],
      upload: [["u"], "Upload"],
      help: [["?"], "Show these keys"],
    },
  },
  escape: {
    heading: "Everywhere",
    rows: { close: [["Escape"], "Close what is open, or stop selecting"] },
  },
  photos: {
    heading: "On a photo of the list",
    rows: {
      open: [["Enter"], "Open it"],
      next: [["ArrowRight"], "Next"],
      previous: [["ArrowLeft"], "Previous"],
      above: [["ArrowUp"], "The one above"],
      below: [["ArrowDown"], "The one below"],
      first: [["Home"], "First"],
      last: [["End"], "Last"],
      select: [["x"], "Select it"],
      similar: [["m"], "More like this"],
    },
  },
  viewer: {
    heading: "In an open photo",
    rows: {
      next: [["ArrowRight"], "Next"],
      previous: [["ArrowLeft"], "Previous"],
      zoomIn: [["+", "="], "Zoom in"],
      zoomOut: [["-"], "Zoom out"],
      whole: [["0"], "Show the whole photo"],
      look: [ARROWS.map((key) => `Shift+${key}`), "Move over the enlarged photo"],
      nextOfStack: [["."], "Next file of its stack"],
      previousOfStack: [[","], "Previous file of its stack"],
      rate: [["1", "2", "3", "4", "5"], "Give it stars; the same number again takes them away"],
      outlines: [["o"], "Outline the things in it"],
      similar: [["m"], "More like this"],
      slideshow: [["s"], "Slideshow from here on"],
      remove: [["Delete"], "Move it to the trash"],
      help: [["?"], "Show these keys"],
    },
  },
  slideshow: {
    heading: "In a slideshow",
    rows: {
      pause: [[" "], "Pause, or continue"],
      stop: [[OTHER], "Stop"],
    },
  },
  search: {
    heading: "In the search box",
    rows: {
      clear: [["Escape"], "Clear it"],
      dropLast: [["Backspace"], "If it is empty: remove the last part of the search"],
    },
  },
  suggestions: {
    heading: "While there are suggestions",
    rows: {
      next: [["ArrowDown"], "Next"],
      previous: [["ArrowUp"], "Previous"],
      take: [["Enter"], "Take it"],
      close: [["Escape"], "Hide them"],
    },
  },
  filter: {
    heading: "On a filter",
    rows: { remove: [["Delete", "Backspace"], "Remove it"] },
  },
  filterMenu: {
    heading: "In the menu of filters",
    rows: {
      next: [["ArrowDown"], "Next"],
      previous: [["ArrowUp"], "Previous"],
    },
  },
  filterValue: {
    heading: "In the field of a filter",
    rows: { take: [["Enter"], "Filter by what is typed"] },
  },
  names: {
    heading: "In the field for tags, or for albums",
    rows: { last: [["Backspace"], "If it is empty: go to the last one"] },
  },
  dates: {
    heading: "On the bar of dates",
    rows: {
      next: [["ArrowDown", "ArrowRight"], "Next month"],
      previous: [["ArrowUp", "ArrowLeft"], "Previous month"],
      nextYear: [["PageDown"], "Next year"],
      previousYear: [["PageUp"], "Previous year"],
      first: [["Home"], "First month"],
      last: [["End"], "Last month"],
    },
  },
  map: {
    heading: "On the map",
    rows: {
      zoomIn: [["+", "="], "Zoom in"],
      zoomOut: [["-"], "Zoom out"],
      whole: [["0"], "Show all places"],
      left: [["ArrowLeft"], "Move to the west"],
      right: [["ArrowRight"], "Move to the east"],
      up: [["ArrowUp"], "Move to the north"],
      down: [["ArrowDown"], "Move to the south"],
    },
  },
  box: {
    heading: "On the picture to search by",
    rows: {
      move: [ARROWS, "Move the box"],
      resize: [ARROWS.map((key) => `Shift+${key}`), "Change its size"],
      whole: [["Escape"], "Search by the whole picture"],
    },
  },
};

// These move the focus, belong to other keys, or are the browser's.
const NEVER_OTHER = /^(Tab|Shift|Control|Alt|AltGraph|Meta|CapsLock|F\d+)$/u;
const NAMES = {
  " ": "Space",
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", PageDown: "Page Down", PageUp: "Page Up",
};

/** The names of a key and of those held with it, as people read them. */
export const keyNames = (key) => (key.length > 1 ? key.split("+") : [key]).map((each) => NAMES[each] ?? each);

/** A button's label, with the key that does the same. */
export const withKey = (words, place, row) => `${words} (${keyNames(KEYS[place].rows[row][0][0]).join(" ")})`;

/**
 * Call one of `deeds`, {row(event, key)} for every row of a place, when its key is pressed in `element`, unless
 * `isIdle(event)`. A deed that returns false leaves the key to the browser.
 */
export function onKeys(element, place, deeds, isIdle = isTyping) {
  const rows = Object.entries(KEYS[place].rows).map(([row, [keys]]) => {
    if (!deeds[row]) throw new TypeError(`nothing is done for the keys ${keys} of ${place}`);
    return [keys, deeds[row]];
  });
  if (rows.length !== Object.keys(deeds).length) throw new TypeError(`the help lacks keys of ${place}`);
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isIdle(event)) return;
    // For a character, Shift may be needed to type it.
    const pressed = event.shiftKey && event.key.length > 1 ? `Shift+${event.key}` : event.key;
    const row = rows.find(([keys]) => keys.includes(pressed)) ?? (!NEVER_OTHER.test(event.key) && rows.find(([keys]) => keys.includes(OTHER)));
    if (row && row[1](event, event.key) !== false) event.preventDefault();
  });
}
