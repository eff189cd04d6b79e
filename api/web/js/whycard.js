// Why a photograph was found, drawn: as a card beside its tile, and among the details of an open one.
//
// The card comes beside the tile that has the keyboard's focus, and at the pointer's wish beside the one whose
// "why" is pointed at; it stays while pointed at, and Escape closes it. It covers no part of the photograph it is about.

import { fill, h } from "./dom.js";
import { onKeys } from "./keys.js";
import { reasons, relevanceOf } from "./why.js";

const GAP = 6;
const LEAVE_MS = 240;

/** A result's reasons as elements; empty if it is not a search result. */
export function whyParts(result) {
  const why = reasons(result);
  if (!why.length) return [];
  const known = relevanceOf(result);
  return [
    known && h(
      "p", { class: "relevance", data: { testid: "relevance" } },
      h("span", {}, h("strong", {}, known.word), " what you asked for"), h("span", { class: "relevance-figure" }, `${known.percent}%`), meter(known.percent),
      result.relevanceSource === "library" && h("span", { class: "relevance-source" }, "Estimated from this library alone"),
    ),
    h("p", { class: "reasons-head", "aria-hidden": "true" }, h("span", {}, "Found by"), why[0].share !== null && h("span", {}, "share of the score")),
    h("ul", { class: "reasons" }, why.map(({ kind, label, place, share, details, space }) => h(
      "li", { class: "reason", title: space || null, data: { testid: "reason", kind } },
      h("span", { class: "reason-label" }, label), h("span", { class: "reason-place" }, place),
      h("span", { class: "reason-share" }, share === null ? "" : `${share}%`),
      share !== null && meter(share), details.map((each) => h("span", { class: "reason-detail" }, each)),
    ))),
  ];
}

const meter = (percent) => h("span", { class: "meter", "aria-hidden": "true" }, h("span", { style: { width: `${percent}%` } }));

/** Show cards for the tiles of `list`; `resultOf(tile)` is a tile's result. */
export function makeWhyCard(list, resultOf) {
  // The description of the tile's link has the same text.
  const card = h("div", { class: "why-card", popover: "manual", "aria-hidden": "true", data: { testid: "why" } });
  document.body.append(card);
  let tile = null;
  let timer = null;

  function open(of) {
    clearTimeout(timer);
    const parts = whyParts(resultOf(of) ?? {});
    if (!parts.length) {
      close();
      return;
    }
    tile = of;
    fill(card, parts);
    if (!card.matches(":popover-open")) card.showPopover();
    place();
  }

  function close() {
    clearTimeout(timer);
    tile = null;
    if (card.matches(":popover-open")) card.hidePopover();
  }

  const closeSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(close, LEAVE_MS);
  };

  // Beside the tile if its row ends early, else below it, above it if there is no space, or
  // over its neighbour.
  function place() {
    if (!tile?.isConnected) {
      close();
      return;
    }
    const around = tile.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = card;
    let left = around.left;
    let top = around.bottom + GAP;
    if (top + height > innerHeight - GAP) top = around.top - GAP - height;
    const beside = tile.nextElementSibling;
    const isLastOfRow = !beside || beside.offsetTop > tile.offsetTop;
    if (top < GAP || (isLastOfRow && around.right + GAP + width <= innerWidth)) {
      top = Math.min(Math.max(GAP, around.top), innerHeight - height - GAP);
      left = around.right + GAP + width <= innerWidth ? around.right + GAP : around.left - GAP - width;
    }
    card.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
    card.style.top = `${Math.max(GAP, top)}px`;
  }

  const isWhy = (event) => event.target.closest?.(".tile-why");
  list.addEventListener("pointerover", (event) => isWhy(event) && event.pointerType === "mouse" && open(event.target.closest(".tile")));
  list.addEventListener("pointerout", (event) => isWhy(event) && closeSoon());
  list.addEventListener("click", (event) => isWhy(event) && open(event.target.closest(".tile")));
  list.addEventListener("focusin", (event) => event.target.matches(".tile-link:focus-visible") && open(event.target.closest(".tile")));
  list.addEventListener("focusout", close);
  card.addEventListener("pointerenter", () => clearTimeout(timer));
  card.addEventListener("pointerleave", closeSoon);
  addEventListener("scroll", () => tile && place(), { passive: true });
  addEventListener("resize", () => tile && place());
  onKeys(document, "escape", { close: () => { close(); return false; } }, () => false);
  return { close };
}
