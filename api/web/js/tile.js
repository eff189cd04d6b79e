// A tile of the grid: a link to the photograph, with the matching region outlined and, on
// hover or focus, its relevance. whycard.js shows the reasons.

import { whyNoPicture } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { clock, nameOf, plural } from "./format.js";
import { withKey } from "./keys.js";
import { traceMask } from "./outline.js";
import { href } from "./state.js";
import { isGood, reasonSentence, relevanceOf } from "./why.js";

const NARROWEST = 0.42;
const MARGIN = 0.3;
const DEEPEST_ZOOM = 5;

/**
 * The part of the photograph that a tile shows, [x, y, width, height] in pixels: all of it,
 * or a region with its surroundings.
 */
function windowOf({ asset, region: nearest, refined }, target) {
  const region = refined ?? nearest;
  const width = asset.width || 4;
  const height = asset.height || 3;
  if (target !== "region" || !region) return [0, 0, width, height];
  const [x, y, w, h] = region.bbox;
  const margin = MARGIN * Math.max(w, h);
  let wide = Math.max(w + margin * 2, width / DEEPEST_ZOOM);
  let high = Math.max(h + margin * 2, height / DEEPEST_ZOOM);
  // No slivers: the shape stays between 2:3 and 2:1.
  wide = Math.min(width, Math.max(wide, high * 0.67));
  high = Math.min(height, Math.max(high, wide / 2));
  const left = Math.min(Math.max(0, x + w / 2 - wide / 2), width - wide);
  const top = Math.min(Math.max(0, y + h / 2 - high / 2), height - high);
  return [left, top, wide, high];
}

const percent = (share) => `${(share * 100).toFixed(3)}%`;

/** Where a box lies in a window, as CSS. */
function placed([x, y, w, h], [left, top, wide, high]) {
  return { left: percent((x - left) / wide), top: percent((y - top) / high), width: percent(w / wide), height: percent(h / high) };
}

/** The tile's aspect ratio, known before any picture is loaded. */
export function ratioOf(result, target) {
  const [, , wide, high] = windowOf(result, target);
  return Math.max(wide / high, NARROWEST);
}

/** The thumbnail that is sharp enough for the tile's size, of a moment if that was found; null if there is none. */
export function thumbnailFor(result, target, size) {
  const { asset } = result;
  if (asset.state === "failed") return null;
  const [, , wide] = windowOf(result, target);
  const isMoment = (result.region?.time_ms ?? null) !== null;
  const whole = (size.width * (asset.width || wide)) / wide;
  const longer = whole * Math.max(1, (asset.height || 1) / (asset.width || 1)) * Math.min(2, devicePixelRatio || 1);
  if (isMoment) return `${result.region.urls.crop}&size=${longer <= 290 ? 256 : longer <= 580 ? 512 : 1024}`;
  if (longer <= 290) return asset.urls.thumbnail;
  return longer <= 580 ? asset.urls.thumbnail_512 : asset.urls.thumbnail_1024;
}

let count = 0;

/** A tile; `actions` are {open, toggle, similar}, each called with the result and the event. */
export function tile(result, state, actions, isSelected) {
  const { asset, region } = result;
  const isVideo = (asset.duration_ms ?? null) !== null;
  // The region of a video is a whole frame.
  const place = isVideo ? null : result.refined ?? region;
  const shown = windowOf(result, state.target);
  const [, , wide, high] = shown;
  const caption = (state.target === "region" && region?.caption) || asset.caption || "";
  count += 1;
  const whyId = `why-${count}`;
  const why = reasonSentence(result);
  const known = relevanceOf(result);
  const similar = region && state.target === "region" ? "More like this part" : "More like this";

  const image = h("img", {
    alt: caption ? `${nameOf(asset)}: ${caption}` : nameOf(asset), decoding: "async", draggable: "false",
    style: placed([0, 0, asset.width || wide, asset.height || high], shown),
    on: {
      load: () => {
        element.classList.add("is-loaded");
        if (mark && !mark.firstChild) traceMask(mark, place);
      },
      error: fail,
    },
  });
  const broken = h("span", { class: "broken" });
  let isRetried = false;
  async function fail() {
    element.classList.add("is-broken");
    const failure = h("span", { class: "broken-why" });
    fill(broken, icon("photo"), h("span", { dir: "auto" }, nameOf(asset)), failure);
    if (!image.src) return;
    const problem = await whyNoPicture(image.src);
    if (problem) {
      failure.textContent = [problem.message, problem.remedy].filter(Boolean).join(" ");
    } else if (!isRetried) {
      isRetried = true;
      element.classList.remove("is-broken");
      image.setAttribute("src", image.getAttribute("src"));
    }
  }
  const mark = place && h("span", { class: `outline ${isGood(result) ? "is-strong" : ""}`.trim(), style: placed(place.bbox, shown) });
  const frame = h("span", { class: "frame", style: { width: percent(Math.min(1, wide / high / NARROWEST)) } }, image, mark);
  const link = h(
    "a",
    {
      class: "tile-link", href: href({ ...state, photo: asset.id }), "aria-describedby": why ? whyId : null,
      data: { testid: "hit-link" },
      on: {
        click: (event) => {
          // With a modifier key it acts as a normal link.
          if (event.metaKey || event.ctrlKey || event.altKey || event.button) return;
          event.preventDefault();
          actions.open(result, event);
        },
      },
    },
    frame,
    broken,
    badge(asset),
    (isVideo || asset.stack) && h("span", { class: "tile-marks" },
      asset.stack && h("span", { class: "tile-mark", data: { testid: "tile-stack" } }, icon("stack"), String(asset.stack.count), h("span", { class: "visually-hidden" }, " files in its stack")),
      isVideo && h("span", { class: "tile-mark", data: { testid: "tile-time" } }, icon("play"), h("span", { class: "visually-hidden" }, "Video, "), [region?.time_ms, asset.duration_ms].filter((time) => (time ?? null) !== null).map(clock).join(" / "))),
    !why && h("span", { class: "tile-caption", "aria-hidden": "true" }, h("span", { class: "tile-name", dir: "auto" }, nameOf(asset)), caption && h("span", {}, caption)),
  );
  const element = h(
    "li",
    {
      class: ["tile", isSelected && "is-selected"].filter(Boolean).join(" "),
      data: { testid: "hit", asset: asset.id, ...(region ? { region: region.id } : {}), ...(result.refined ? { refined: "" } : {}) },
    },
    link,
    why && h("span", { id: whyId, hidden: true }, why),
    why && h("button", {
      type: "button", class: "tile-why", tabindex: "-1", "aria-label": `Why ${nameOf(asset)} was found`, data: { testid: "tile-why" },
    }, known ? [h("span", { class: "tile-word" }, `${known.word} · `), `${known.percent}%`] : "Why?"),
    h(
      "button",
      {
        type: "button", class: "tile-check", tabindex: "-1", "aria-pressed": String(Boolean(isSelected)),
        "aria-label": `Select ${nameOf(asset)}`, title: withKey("Select", "photos", "select"), data: { testid: "select", icon: "check" },
        on: { click: (event) => actions.toggle(result, event) },
      },
    ),
    asset.state === "indexed" && h("button", {
      type: "button", class: "icon-button tile-similar", tabindex: "-1", "aria-label": similar, title: withKey(similar, "photos", "similar"), data: { testid: "hit-similar", icon: "similar" },
      on: { click: (event) => actions.similar(result, event) },
    }),
  );
  if (asset.state === "failed") fail();
  return { element, image };
}

function badge(asset) {
  if (asset.state === "pending") return h("span", { class: "badge", data: { testid: "pending" } }, "Waiting to be indexed");
  if (asset.state === "failed") return h("span", { class: "badge is-bad" }, "Can't be read");
  return null;
}

/** The noun for a number of tiles. */
export const tileCount = (number, target) =>
  target === "region" ? plural(number, "thing") : plural(number, "photo");
