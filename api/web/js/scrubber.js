// The date scrubber at the right edge: a slider over the months of a list. Its length stands for the whole
// grid, so it moves with the page; dragging it, or a key, scrolls to another month.

import { fill, h } from "./dom.js";
import { plural } from "./format.js";
import { onKeys } from "./keys.js";

// Screens of photographs that a scrubber is of use for, and pixels between two years.
const SCREENS = 2;
const YEAR_GAP = 24;
const STILL_MS = 900;

/** The scrubber in `place`, for the months of `grid`. */
export function makeScrubber(place, grid) {
  const years = h("div", { class: "scrubber-years", "aria-hidden": "true" });
  const label = h("span", { class: "scrubber-label", "aria-hidden": "true", data: { testid: "scrubber-month" } });
  const thumb = h("div", {
    class: "scrubber-thumb", role: "slider", tabindex: "0", "aria-label": "Month", "aria-orientation": "vertical", "aria-valuemin": "0",
    data: { testid: "scrubber" },
  }, h("span", { class: "scrubber-grip" }), label);
  const track = h("div", { class: "scrubber-track", on: { pointerdown: press } }, years, thumb);
  fill(place, track);
  let months = [];
  let drawnFor = "";
  // Of the track, as far as the thumb moves.
  let length = 1;
  let timer = null;
  // The month that a key led to, {at, top}, which may be too near the end to come to the top.
  let picked = null;

  /** How far the top of the visible part can move. */
  function span() {
    const { top, bottom, height } = grid.extent();
    return Math.max(1, height - (bottom - top));
  }

  /** The index of the month at a place of the grid. */
  function monthAt(y) {
    const after = months.findIndex(({ top }) => top > y);
    return after < 0 ? months.length - 1 : Math.max(0, after - 1);
  }

  function show() {
    months = grid.months();
    const { top, bottom, height } = grid.extent();
    const wasHidden = place.hidden;
    place.hidden = months.length < 2 || height < SCREENS * (bottom - top);
    document.documentElement.classList.toggle("has-scrubber", !place.hidden);
    if (place.hidden) return;
    if (wasHidden) length = Math.max(1, track.clientHeight - thumb.offsetHeight);
    const share = Math.min(1, Math.max(0, top / span()));
    thumb.style.transform = `translateY(${(share * length).toFixed(1)}px)`;
    if (picked && Math.abs(picked.top - top) > 2) picked = null;
    const at = picked?.at ?? (share === 1 ? months.length - 1 : monthAt(top + 60));
    const month = months[at];
    label.textContent = month.label;
    // The newest or oldest, whichever is first, is the greatest value: up increases it.
    thumb.setAttribute("aria-valuemax", months.length - 1);
    thumb.setAttribute("aria-valuenow", months.length - 1 - at);
    thumb.setAttribute("aria-valuetext", `${month.label}, ${plural(month.count, "photo")}`);
    place.classList.add("is-moving");
    clearTimeout(timer);
    timer = setTimeout(() => place.classList.remove("is-moving"), STILL_MS);
    drawYears(span());
  }

  // A year stands where its first month comes to the top.
  function drawYears(most) {
    const key = `${Math.round(most)} ${length}`;
    if (key === drawnFor) return;
    drawnFor = key;
    let free = 0;
    const shown = [];
    for (const [position, { month, top }] of months.entries()) {
      const year = month.slice(0, 4);
      const y = Math.min(1, top / most) * length;
      if (year === months[position - 1]?.month.slice(0, 4) || y < free) continue;
      free = y + YEAR_GAP;
      shown.push(h("span", { style: { top: `${y.toFixed(1)}px` } }, year));
    }
    fill(years, shown);
  }

  function press(event) {
    if (event.button) return;
    event.preventDefault();
    thumb.focus({ preventScroll: true });
    track.setPointerCapture(event.pointerId);
    place.classList.add("is-dragged");
    const half = thumb.offsetHeight / 2;
    // The thumb is taken where it is touched; elsewhere it comes to the pointer.
    const held = event.target.closest(".scrubber-thumb") ? event.clientY - thumb.getBoundingClientRect().top : half;
    const move = ({ clientY }) => {
      const share = Math.min(1, Math.max(0, (clientY - held - track.getBoundingClientRect().top) / length));
      grid.scrollTo(share * span());
    };
    const end = () => {
      place.classList.remove("is-dragged");
      track.removeEventListener("pointermove", move);
      for (const kind of ["pointerup", "pointercancel"]) track.removeEventListener(kind, end);
    };
    track.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) track.addEventListener(kind, end);
    if (!event.target.closest(".scrubber-thumb")) move(event);
  }

  const year = (position) => months[position].month.slice(0, 4);
  // `to` a position, from the one that is shown.
  const go = (to) => () => {
    const at = Math.min(Math.max(0, to(months.length - 1 - Number(thumb.getAttribute("aria-valuenow")))), months.length - 1);
    grid.scrollToMonth(months[at]);
    picked = { at, top: grid.extent().top };
    show();
  };
  onKeys(thumb, "dates", {
    next: go((here) => here + 1), previous: go((here) => here - 1), first: go(() => 0), last: go(() => months.length - 1),
    nextYear: go((here) => {
      const found = months.findIndex((_, position) => position > here && year(position) !== year(here));
      return found < 0 ? months.length - 1 : found;
    }),
    // The first month of the year before, or of this one.
    previousYear: go((here) => months.findIndex((_, position) => year(position) === year(Math.max(0, here - 1)))),
  });

  addEventListener("resize", () => {
    if (place.hidden) return;
    place.hidden = true;
    show();
  });
  return { show };
}
