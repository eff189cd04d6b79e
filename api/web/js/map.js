// The map: where the listed photographs were taken, over an outline of the world that the page brings along. What is
// in sight is the filter `gps_box`, so the address holds it.

import * as api from "./api.js";
import { announce, button, fill, h, iconButton, thumb, world } from "./dom.js";
import { number, plural } from "./format.js";
import { fromMiddle, onGestures, wheelFactor } from "./gestures.js";
import { onKeys, withKey } from "./keys.js";
import { notification } from "./notice.js";
import { filterPairs, go, state, withFilter } from "./state.js";

// The outline's units around the equator, in Mercator's projection, where the world is a square.
const UNITS = 65536;
const LAST_LATITUDE = 85.05;
// In pixels: between the middles of places, and around what is fitted.
const CELL = 84;
const MARGIN = 84;
// In pixels: what a place with its name takes to each side, and the buttons at the lower edge.
const BESIDE = 54;
const BUTTONS = 52;
// In pixels around the equator: about 10 m each. A single place is shown with some land around it.
const DEEPEST = 2 ** 22;
const NEAR = 2 ** 15;
const STEP = 2;
const EQUATOR_M = 40_075_017;
// Pixels that the ruler may take.
const RULER = 110;
const STILL_MS = 250;

const xOf = (longitude) => (longitude + 180) / 360;
const yOf = (latitude) => {
  const within = Math.min(LAST_LATITUDE, Math.max(-LAST_LATITUDE, latitude));
  return 0.5 - Math.asinh(Math.tan((within * Math.PI) / 180)) / (2 * Math.PI);
};
const longitudeOf = (x) => x * 360 - 180;
const latitudeOf = (y) => (Math.atan(Math.sinh((0.5 - y) * 2 * Math.PI)) * 180) / Math.PI;

/** The view in `place`. */
export function makeMap(place, summary) {
  const outline = world("map-world", UNITS);
  const ruler = h("div", { class: "map-ruler", "aria-hidden": "true", data: { testid: "map-ruler" } });
  const list = h("ul", { class: "map-places", "aria-label": "Places" });
  const open = button("Show these photos", () => go({ view: "library", filters: withFilter(state().filters, "gps_box", sight().join(",")) }), { class: "is-primary", "data-testid": "map-open" });
  const notice = h("div", { class: "map-notice", hidden: true });
  const stage = h("div", { class: "map-stage", tabindex: "0", role: "group", "aria-label": "Map", data: { testid: "map-stage" } }, outline, list);
  fill(place, stage, ruler, notice, h("div", { class: "map-tools" },
    iconButton("zoom-in", withKey("Zoom in", "map", "zoomIn"), () => zoomBy(STEP), { "data-testid": "map-in" }),
    iconButton("zoom-out", withKey("Zoom out", "map", "zoomOut"), () => zoomBy(1 / STEP), { "data-testid": "map-out" }),
    open));

  // The middle, as shares of the world, and how many pixels the equator takes.
  let [x, y, scale] = [0.5, 0.4, 1];
  let size = [0, 0];
  // What is shown for: the filters, with the box in sight.
  let shownFor = null;
  let isShown = false;
  let places = new Map();
  let timer = null;
  let controller = null;

  function clamp() {
    // The whole world, with places at both its edges.
    scale = Math.min(DEEPEST, Math.max(scale, size[0] - 2 * BESIDE, 1));
    const high = Math.min(0.5, size[1] / scale / 2);
    x -= Math.floor(x);
    y = Math.min(1 - high, Math.max(high, y));
  }

  function draw() {
    clamp();
    const [wide, high] = size.map((side) => side / scale);
    outline.setAttribute("viewBox", [x - wide / 2, y - high / 2, wide, high].map((one) => one * UNITS).join(" "));
    measureRuler();
    for (const { element, at } of places.values()) {
      element.style.transform = `translate(${(across(at[0]) * scale + size[0] / 2).toFixed(1)}px, ${((at[1] - y) * scale + size[1] / 2).toFixed(1)}px)`;
    }
  }

  /** How far east of the middle something is, as a share of the world: the nearer way around. */
  const across = (at) => at - x - Math.round(at - x);

  /** A length of 1, 2 or 5 with zeros, in the middle of the map. */
  function measureRuler() {
    const pixel = (EQUATOR_M * Math.cos((latitudeOf(y) * Math.PI) / 180)) / scale;
    const most = pixel * RULER;
    const ten = 10 ** Math.floor(Math.log10(most));
    const metres = [5, 2, 1].find((times) => times * ten <= most) * ten;
    ruler.style.width = `${(metres / pixel).toFixed(1)}px`;
    ruler.textContent = metres < 1000 ? `${metres} m` : `${number(metres / 1000)} km`;
  }

  function moved() {
    draw();
    list.setAttribute("aria-busy", "true");
    // What is loading is of a sight that has passed.
    controller?.abort();
    controller = null;
    clearTimeout(timer);
    timer = setTimeout(() => {
      shownFor = withFilter(state().filters, "gps_box", sight().join(","));
      go({ filters: shownFor }, { replace: true });
      load();
    }, STILL_MS);
  }

  function pan(dx, dy) {
    x -= dx / scale;
    y -= dy / scale;
    moved();
  }

  /** Zoom; the point `at`, from the middle, stays where it is. */
  function zoomBy(factor, at = [0, 0]) {
    const before = scale;
    scale *= factor;
    clamp();
    x += at[0] / before - at[0] / scale;
    y += at[1] / before - at[1] / scale;
    moved();
  }

  /** What is in sight, as west, south, east, north, rounded outwards; west > east across the date line. */
  function sight() {
    const [wide, high] = size.map((side) => side / scale / 2);
    const out = (value, up) => (up ? Math.ceil : Math.floor)(value * 1e5) / 1e5;
    const turned = (longitude) => Number((longitude - 360 * Math.round(longitude / 360)).toFixed(5));
    const isWhole = wide > 0.4999;
    const west = isWhole ? -180 : turned(out(longitudeOf(x - wide), false));
    const east = isWhole ? 180 : turned(out(longitudeOf(x + wide), true));
    // The whole world has poles, too.
    const south = y + high > 0.999 ? -90 : latitudeOf(y + high);
    const north = y - high < 0.001 ? 90 : latitudeOf(y - high);
    return [west, Math.max(-90, out(south, false)), east, Math.min(90, out(north, true))];
  }

  /** Bring a box of degrees into sight, with pixels around it. */
  function fit([west, south, east, north], margin) {
    const [left, right, top, bottom] = [xOf(west), xOf(east) + (east < west), yOf(north), yOf(south)];
    const below = margin ? BUTTONS : 0;
    const room = [size[0] - 2 * margin, size[1] - 2 * margin - below].map((side) => Math.max(1, side));
    scale = Math.min(margin ? NEAR : DEEPEST, room[0] / (right - left), room[1] / (bottom - top));
    [x, y] = [(left + right) / 2, (top + bottom) / 2];
    clamp();
    y += below / 2 / scale;
    draw();
  }

  function measure() {
    const next = [stage.clientWidth, stage.clientHeight];
    if (next[0] === size[0] && next[1] === size[1]) return;
    const isFirst = !size[0];
    size = next;
    if (!isShown || !size[0]) return;
    if (isFirst) begin(state());
    else moved();
  }
  new ResizeObserver(measure).observe(stage);

  /** Show the box of the state, or else all places. */
  async function begin({ filters }) {
    shownFor = filters;
    const box = filters.gps_box?.split(",").map(Number);
    if (box?.length === 4 && box.every(Number.isFinite)) {
      fit(box, 0);
      await load();
      return;
    }
    [x, y, scale] = [0.5, 0.4, 1];
    draw();
    const boxes = (await load([-180, -90, 180, 90]))?.map((each) => each.box);
    if (!boxes?.length || shownFor !== filters) return;
    const [west, south, east, north] = boxes[0].map((_, side) => Math[side < 2 ? "min" : "max"](...boxes.map((each) => each[side])));
    fit([west, south, east, north], MARGIN);
    await load();
  }

  // Cells of a power of two, so that zooming in divides them.
  const cellOf = () => Math.min(90, 360 / 2 ** Math.round(Math.log2(scale / CELL)));

  /** Load what is in a box, at first in sight; the places, or undefined. */
  async function load(box = sight()) {
    clearTimeout(timer);
    controller?.abort();
    const mine = (controller = new AbortController());
    const cell = cellOf();
    list.setAttribute("aria-busy", "true");
    try {
      const filters = withFilter(state().filters, "gps_box", box.join(","));
      const found = await api.assetPlaces([...filterPairs(filters), ["fold_stacks", "true"], ["cell", cell]], mine.signal);
      if (mine !== controller || !isShown) return undefined;
      show(found, cell);
      return found.places;
    } catch (problem) {
      if (problem.name !== "AbortError" && mine === controller && isShown) {
        list.removeAttribute("aria-busy");
        say(notification("alert", problem.message, problem.remedy || "", button("Try again", () => load(), { class: "is-primary" })));
      }
      return undefined;
    }
  }

  function show({ places: found, total }, cell) {
    const next = new Map();
    // From the west and the north, as the keyboard goes through them.
    const order = (one, other) => across(xOf(one.longitude)) - across(xOf(other.longitude)) || other.latitude - one.latitude;
    for (const each of found.sort(order)) {
      const key = [cell, Math.floor(each.longitude / cell), Math.floor(each.latitude / cell), each.asset, each.count].join(" ");
      next.set(key, places.get(key) ?? { element: marker(each), at: [xOf(each.longitude), yOf(each.latitude)] });
    }
    for (const [key, { element }] of places) if (!next.has(key)) element.remove();
    places = next;
    // Elements that stay keep the focus.
    let before = null;
    for (const { element } of next.values()) {
      if (element.previousSibling !== before || !element.isConnected) list.insertBefore(element, before ? before.nextSibling : list.firstChild);
      before = element;
    }
    list.removeAttribute("aria-busy");
    open.hidden = !total;
    summary.textContent = total ? `${plural(total, "photo")} here` : "";
    say(!total && notification("place", "No photo was taken here", "Zoom out, or remove filters. Only photos with a position are on the map."));
    announce(total ? `${plural(total, "photo")} in ${plural(found.length, "place")}` : "No photo was taken here");
    draw();
  }

  function say(what) {
    fill(notice, what);
    notice.hidden = !what;
  }

  function marker({ box, count, thumbnail, city, country }) {
    const where = [city, country].filter(Boolean).join(", ");
    const label = `${plural(count, "photo")}${where ? ` near ${where}` : ""}`;
    return h("li", { class: "map-place" }, h(
      "button", {
        type: "button", "aria-label": label, title: label, data: { testid: "map-place" },
        on: { click: () => go({ view: "library", filters: withFilter(state().filters, "gps_box", box.join(",")) }) },
      },
      thumb(thumbnail, { draggable: "false" }), count > 1 && h("span", { class: "map-count" }, number(count)),
      city && h("span", { class: "map-name" }, city),
    ));
  }

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(wheelFactor(event), fromMiddle(stage, event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => !event.target.closest("button") && zoomBy(STEP, fromMiddle(stage, event)));
  onGestures(stage, { pan, zoomBy, isIgnored: () => false, canPan: () => true });
  const look = (right, down) => () => pan((-right * size[0]) / 4, (-down * size[1]) / 4);
  onKeys(place, "map", {
    zoomIn: () => zoomBy(STEP), zoomOut: () => zoomBy(1 / STEP),
    whole: () => go({ filters: withFilter(state().filters, "gps_box", "") }, { replace: true }),
    left: look(-1, 0), right: look(1, 0), up: look(0, -1), down: look(0, 1),
  });

  return {
    show(current) {
      const was = isShown;
      isShown = current.view === "map";
      place.hidden = !isShown;
      document.documentElement.classList.toggle("has-map", isShown);
      if (!isShown) {
        controller?.abort();
        clearTimeout(timer);
        return;
      }
      if (was && shownFor === current.filters) return;
      // A part of the page may have been shown or hidden above.
      size = [stage.clientWidth, stage.clientHeight];
      begin(current);
    },
  };
}
