// The grid of a listing, however long: only tiles near the visible part exist. Parts that are not loaded have
// an estimated height; when the real one is known, what is visible stays where it is.

import { h, icon } from "./dom.js";
import { month as monthName } from "./format.js";
import { justify } from "./justified.js";
import { onKeys } from "./keys.js";
import { ratioOf, thumbnailFor, tile } from "./tile.js";
import { makeWhyCard } from "./whycard.js";

const GAP = 6;
// How far beyond the visible part tiles exist, and parts are loaded, in pixels.
const OVER = 500;
const AHEAD = 1200;
const USUAL_RATIO = 1.35;
// Browsers limit the height of elements. A longer grid shows a window of it, which moves along.
const LONGEST = 8_000_000;
// In rem, with the space around it.
const HEADING = 2.5;
const SETTLED_MS = 150;

/**
 * A grid in a <ul>. `actions`: those of the tiles; need(blocks, isFast), which are near and not loaded; end(), which
 * is near; moved(), after each change of what is visible; settled(place), when scrolling has ended. `isSelected` tells
 * by asset id.
 */
export function makeGrid(list, actions, isSelected) {
  let listing = null;
  // Of the rows, the width and height that they are laid out for.
  let width = 0;
  let target = 220;
  let headingHeight = 40;
  let height = 0;
  let months = [];
  // Where the window begins in the grid: tiles lie at their place minus this.
  let base = 0;
  // What stays where it is when heights change: {index, isHeading, below: pixels from its top}.
  let anchor = null;
  // A position to focus as soon as its tile exists.
  let goal = null;
  // Where the page was scrolled to when the grid last looked.
  let known = 0;
  // The visible part when it was last drawn.
  let seen = { top: 0, bottom: 0 };
  let isSelecting = false;
  let timer = null;
  // What exists, by result, row of a heading, or block that is not loaded: {element, …}.
  const drawn = new Map();
  const owners = new WeakMap();
  const whyCard = makeWhyCard(list, (element) => owners.get(element)?.result);

  const headerHeight = () => document.querySelector(".top").offsetHeight;

  function view() {
    const top = base - list.getBoundingClientRect().top + headerHeight();
    return { top, bottom: top - headerHeight() + innerHeight };
  }

  // --- layout -------------------------------------------------------------------------------

  function measure() {
    // Not clientWidth, which may round up: a row that is too wide by a fraction of a pixel
    // would stick out.
    width = Math.max(1, Math.floor(list.getBoundingClientRect().width));
    target = innerWidth < 560 ? 124 : innerWidth < 1000 ? 176 : innerWidth < 2300 ? 220 : 290;
    headingHeight = Math.round(HEADING * parseFloat(getComputedStyle(document.documentElement).fontSize));
  }

  const isLaidOut = (block) => block.rows && block.width === width;
  const neighbour = (block, step) => listing.blocks[listing.indexOfBlock(block) + step];
  const isSectionStart = (block) => listing.hasMonths && neighbour(block, -1)?.month !== block.month;
  const isSectionEnd = (block) => {
    const next = neighbour(block, 1);
    return next ? listing.hasMonths && next.month !== block.month : !listing.next;
  };

  /** Rows of a loaded block, each {top, height} within it and a heading, or tiles {from, widths}. */
  function layOut(block) {
    const rows = [];
    const heading = (position) => listing.headingOf(block.items[position], block.start + position);
    let top = 0;
    for (let from = 0, to = 0; from < block.count; from = to) {
      const words = heading(from);
      for (to = from + 1; to < block.count && heading(to) === words; to += 1);
      if (words !== null && (from > 0 || words !== headingBefore(block))) {
        rows.push({ top, height: headingHeight, heading: words, from });
        top += headingHeight;
      }
      const ratios = block.items.slice(from, to).map((result) => ratioOf(result, listing.state.target));
      for (const { start, height: high, widths } of justify(ratios, width, target, GAP, to < block.count || isSectionEnd(block))) {
        rows.push({ top, height: high, heading: null, from: from + start, widths });
        top += high + GAP;
      }
    }
    Object.assign(block, { rows, height: top, width });
  }

  function headingBefore(block) {
    const before = isSectionStart(block) ? null : neighbour(block, -1);
    return before ? listing.headingOf(before.items?.at(-1) ?? block.items[0], block.start - 1) : null;
  }

  function estimate(block) {
    const rows = (block.count * USUAL_RATIO * target) / width;
    const most = Math.max(1, isSectionEnd(block) ? Math.ceil(rows) : Math.round(rows));
    return most * (target + GAP) + (isSectionStart(block) ? headingHeight : 0);
  }

  /** Place the blocks one below the other. */
  function arrange() {
    let top = 0;
    months = [];
    for (const block of listing.blocks) {
      block.top = top;
      if (months.at(-1)?.month === block.month) months.at(-1).count += block.count;
      else months.push({ month: block.month, label: block.month && monthName(block.month), start: block.start, count: block.count, top });
      if (block.width !== width) Object.assign(block, { rows: null, width, height: estimate(block) });
      top += block.height;
    }
    height = top;
    base = Math.min(base, Math.max(0, height - LONGEST));
    list.style.height = `${Math.min(height, LONGEST)}px`;
  }

  /** The index of the first block that ends below a place. */
  function blockAt(y) {
    let [low, high] = [0, listing.blocks.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (listing.blocks[middle].top + listing.blocks[middle].height > y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  function blocksBetween(top, bottom) {
    const found = [];
    for (let at = blockAt(top); at < listing.blocks.length && listing.blocks[at].top < bottom; at += 1) found.push(listing.blocks[at]);
    return found;
  }

  /** Where a position lies: {top, height} of its row, or estimated. */
  function placeOf(index, isHeading = false) {
    const block = listing.blockOf(index);
    const within = index - block.start;
    if (!isLaidOut(block)) {
      const head = isSectionStart(block) ? headingHeight : 0;
      if (isHeading) return { top: block.top, height: head };
      return { top: block.top + head + ((block.height - head) * within) / block.count, height: target };
    }
    const at = block.rows.findLastIndex((row) => row.from <= within);
    const row = isHeading && block.rows[at - 1]?.heading ? block.rows[at - 1] : block.rows[at];
    return { top: block.top + row.top, height: row.height };
  }

  // --- scrolling ----------------------------------------------------------------------------

  function takeAnchor() {
    const { top } = view();
    anchor = null;
    if (!listing?.blocks.length || top <= 0) return;
    const block = listing.blocks[blockAt(top)];
    const row = isLaidOut(block) ? block.rows.find((each) => block.top + each.top + each.height + GAP > top) ?? block.rows.at(-1) : null;
    const within = row ? row.from : Math.min(block.count - 1, Math.max(0, Math.floor((block.count * (top - block.top)) / block.height)));
    const isHeading = row ? row.heading !== null : within === 0 && isSectionStart(block) && top - block.top < headingHeight;
    anchor = { index: block.start + within, isHeading };
    anchor.below = top - placeOf(anchor.index, isHeading).top;
  }

  /** Bring a place of the grid to the top of the visible part. */
  function scrollToPlace(y) {
    const last = Math.max(0, height - LONGEST);
    const isFar = y - base < LONGEST / 8 || y - base > (LONGEST * 7) / 8;
    if (isFar) base = Math.min(last, Math.max(0, y - LONGEST / 2));
    const { top } = view();
    if (Math.abs(y - top) >= 1) scrollTo(0, scrollY + y - top);
    known = scrollY;
  }

  function keepAnchor() {
    if (anchor) scrollToPlace(placeOf(anchor.index, anchor.isHeading).top + anchor.below);
  }

  /** Lay out the blocks near the visible part; those above may push it down, so it is put back. */
  function settle() {
    for (;;) {
      const { top, bottom } = view();
      const focused = focusedTile();
      const near = [...blocksBetween(top - OVER, bottom + OVER), ...(focused ? [listing.blockOf(focused.index)] : [])];
      const stale = near.filter((block) => block.items && !isLaidOut(block));
      if (!stale.length) return;
      stale.forEach(layOut);
      arrange();
      keepAnchor();
    }
  }

  /** Take notice if somebody has scrolled; before heights change, or it would be undone. */
  function notice() {
    if (Math.abs(scrollY - known) <= 1) return;
    if (goal !== null) {
      // Nobody did, or there would be no goal: the browser moved the page.
      keepAnchor();
      return;
    }
    known = scrollY;
    takeAnchor();
    // At the ends of the window, move it.
    if (anchor && height > LONGEST) scrollToPlace(view().top);
  }

  function onScroll() {
    if (!listing?.blocks.length || list.hidden) return;
    notice();
    render();
    clearTimeout(timer);
    timer = setTimeout(() => actions.settled(place()), SETTLED_MS);
  }

  // --- elements -----------------------------------------------------------------------------

  function render() {
    settle();
    const before = seen;
    seen = view();
    const { top, bottom } = seen;
    const wanted = wantedBetween(top - OVER, bottom + OVER);
    for (const [key, each] of drawn) {
      if (wanted.has(key)) continue;
      each.element.remove();
      // Pictures that are out of sight need not arrive.
      if (each.image && !each.image.complete) each.image.removeAttribute("src");
      drawn.delete(key);
    }
    let next = list.firstChild;
    for (const [key, { make, index, at }] of wanted) {
      if (!drawn.has(key)) drawn.set(key, make());
      const each = drawn.get(key);
      position(each, index, at);
      if (each.element === next) next = next.nextSibling;
      else list.insertBefore(each.element, next);
    }
    if (goal !== null) focusGoal();
    const missing = blocksBetween(top - AHEAD, bottom + AHEAD).filter((block) => !block.items);
    const isFast = Math.abs(top - before.top) > innerHeight;
    const middle = (top + bottom) / 2;
    const distance = (block) => Math.max(block.top - middle, middle - block.top - block.height);
    actions.need(missing.sort((one, other) => distance(one) - distance(other)), isFast);
    if (listing.next && bottom + AHEAD > height) actions.end();
    actions.moved();
  }

  /** What belongs between two places, in order: key → {make(), index, at: [left, top, width, height]}. */
  function wantedBetween(top, bottom) {
    const wanted = new Map();
    const blocks = blocksBetween(top, bottom);
    // A tile keeps the focus when it is scrolled away.
    const focused = focusedTile();
    const kept = focused && listing.blockOf(focused.index);
    const isAway = kept?.items && !blocks.includes(kept);
    const first = blocks[0]?.start ?? 0;
    if (isAway && kept.start < first) wantRows(wanted, kept, focused.index);
    for (const block of blocks) {
      if (block.items) {
        wantRows(wanted, block, null, top - block.top, bottom - block.top, kept === block ? focused.index : null);
        continue;
      }
      let head = 0;
      if (isSectionStart(block)) {
        head = headingHeight;
        block.head ??= { heading: monthName(block.month) };
        wanted.set(block.head, { make: () => drawHeading(block.head), at: [0, block.top, width, head] });
      }
      wanted.set(block, { make: drawBlank, at: [0, block.top + head, width, block.height - head - GAP] });
    }
    if (isAway && kept.start >= first) wantRows(wanted, kept, focused.index);
    return wanted;
  }

  /** Want the rows of a block between two places in it and one further tile; or that `only`. */
  function wantRows(wanted, block, only, top = 0, bottom = 0, further = null) {
    for (const row of block.rows) {
      const isNear = only === null && row.top + row.height >= top && row.top <= bottom;
      if (row.heading !== null) {
        if (isNear) wanted.set(row, { make: () => drawHeading(row), at: [0, block.top + row.top, width, row.height] });
        continue;
      }
      let left = 0;
      row.widths.forEach((wide, column) => {
        const index = block.start + row.from + column;
        const result = block.items[row.from + column];
        if (isNear || index === only || index === further) {
          const size = { width: wide, height: row.height };
          wanted.set(result, { make: () => drawTile(result, size), index, at: [left, block.top + row.top, wide, row.height] });
        }
        left += wide + GAP;
      });
    }
    listing.touch([block]);
  }

  const drawHeading = ({ heading }) => ({ element: h("li", { class: "grid-heading" }, h("h2", {}, heading)) });
  const drawBlank = () => ({ element: h("li", { class: "blank", "aria-hidden": "true", style: { "--row": `${target + GAP}px` } }) });

  function drawTile(result, size) {
    const made = { result, ...tile(result, listing.state, actions, isSelected(result.asset.id)) };
    owners.set(made.element, made);
    mark(made);
    const thumbnail = thumbnailFor(result, listing.state.target, size);
    if (thumbnail !== null) made.image.src = thumbnail;
    if (made.image.complete && thumbnail !== null) made.element.classList.add("is-loaded");
    return made;
  }

  function position(each, index, [left, top, wide, high]) {
    const at = `${left} ${top - base} ${wide} ${high}`;
    if (each.at !== at) {
      each.at = at;
      Object.assign(each.element.style, { left: `${left}px`, top: `${top - base}px`, width: `${wide}px`, height: `${high}px` });
    }
    if (index === undefined) return;
    const set = listing.next ? -1 : listing.length;
    if (each.index === index && each.set === set) return;
    Object.assign(each, { index, set });
    each.element.setAttribute("aria-posinset", index + 1);
    each.element.setAttribute("aria-setsize", set);
  }

  // Icons are the costliest elements of a tile, so its buttons have none until they are visible.
  function drawIcons({ element }) {
    for (const each of element.querySelectorAll("[data-icon]:empty")) each.append(icon(each.dataset.icon));
  }

  function mark(each) {
    const { element, result } = each;
    if (isSelecting) drawIcons(each);
    const selected = isSelected(result.asset.id);
    element.classList.toggle("is-selected", selected);
    const check = element.querySelector(".tile-check");
    check.setAttribute("aria-pressed", String(selected));
    check.tabIndex = isSelecting ? 0 : -1;
  }

  function update() {
    if (!listing) return;
    notice();
    arrange();
    keepAnchor();
    render();
  }

  function clear() {
    clearTimeout(timer);
    whyCard.close();
    drawn.clear();
    list.replaceChildren();
    list.style.height = "";
  }

  new ResizeObserver(() => {
    if (!listing || list.hidden || Math.floor(list.getBoundingClientRect().width) === width) return;
    notice();
    measure();
    update();
  }).observe(list);
  for (const kind of ["pointerover", "focusin"]) {
    list.addEventListener(kind, ({ target: on }) => {
      const each = owners.get(on.closest(".tile"));
      if (each) drawIcons(each);
    });
  }
  addEventListener("scroll", onScroll, { passive: true });
  // Somebody who moves on gives the goal up.
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    addEventListener(kind, (event) => { if (!event.defaultPrevented) goal = null; }, { passive: true });
  }
  addEventListener("resize", () => listing && !list.hidden && update());

  // --- focus --------------------------------------------------------------------------------

  const focusedTile = () => owners.get(list.contains(document.activeElement) ? document.activeElement.closest(".tile") : null) ?? null;

  /** Focus the tile at a position, which is brought into sight first. */
  function focusOn(index) {
    if (!listing?.length) return false;
    goal = Math.min(Math.max(0, index), listing.length - 1);
    const { top, bottom } = view();
    const row = placeOf(goal);
    // With the first row, its heading.
    if (row.top < top) scrollToPlace(goal === 0 ? 0 : row.top - GAP);
    else if (row.top + row.height > bottom) scrollToPlace(row.top + row.height + GAP - (bottom - top));
    anchor = { index: goal, isHeading: false, below: view().top - row.top };
    render();
    return true;
  }

  function focusGoal() {
    const result = listing.at(goal);
    if (!result || !drawn.has(result)) return;
    drawn.get(result).element.querySelector(".tile-link").focus({ preventScroll: true });
    goal = null;
  }

  // Deeds for the tile that has the focus.
  const tileOf = ({ target }) => owners.get(target.closest?.(".tile-link")?.closest(".tile"));
  const at = (event) => goal ?? tileOf(event).index;
  const moves = (to) => (event) => void focusOn(to(at(event)));
  onKeys(list, "photos", {
    next: moves((here) => here + 1), previous: moves((here) => here - 1), first: moves(() => 0), last: moves(() => listing.length - 1),
    below: moves((here) => beside(here, 1)), above: moves((here) => beside(here, -1)),
    select: (event) => actions.toggle(tileOf(event).result, event),
    similar(event) {
      const { result } = tileOf(event);
      if (result.asset.state === "indexed") actions.similar(result, event);
    },
    // The tile is a link.
    open: () => false,
  }, (event) => !tileOf(event));

  // The nearest tile in the row above or below, by its middle.
  function beside(index, step) {
    const block = listing.blockOf(index);
    if (!isLaidOut(block)) return index;
    const tileRows = (of) => of.rows.filter((row) => row.heading === null);
    const rows = tileRows(block);
    const at = rows.findLastIndex((row) => row.from <= index - block.start);
    const middle = middles(rows[at])[index - block.start - rows[at].from];
    const other = rows[at + step] ? block : neighbour(block, step);
    if (!other) return index;
    if (other.items && !isLaidOut(other)) {
      layOut(other);
      update();
    }
    if (!other.items) return step > 0 ? other.start : other.start + other.count - 1;
    const row = rows[at + step] ?? tileRows(other).at(step > 0 ? 0 : -1);
    const distances = middles(row).map((each) => Math.abs(each - middle));
    return other.start + row.from + distances.indexOf(Math.min(...distances));
  }

  function middles({ widths }) {
    let left = 0;
    return widths.map((wide) => {
      left += wide + GAP;
      return left - GAP - wide / 2;
    });
  }

  /** What is at the top of the visible part, to return to: null at the very top. */
  function place() {
    return anchor && listing?.blocks.length ? { ...anchor, id: listing.at(anchor.index)?.asset.id ?? null } : null;
  }

  return {
    /** Show a listing, with a place of it on top; null shows nothing. */
    show(shown, at = null) {
      const focused = focusedTile();
      // The same results, loaded again.
      const awaited = shown?.key === listing?.key ? goal : null;
      clear();
      listing = shown;
      base = 0;
      anchor = null;
      goal = null;
      if (!listing?.blocks.length) {
        listing = null;
        actions.moved();
        return;
      }
      measure();
      for (const block of listing.blocks) if (block.width !== width) block.width = null;
      if (at && at.index < listing.length) anchor = { index: at.index, isHeading: at.isHeading, below: at.below };
      arrange();
      keepAnchor();
      known = scrollY;
      render();
      const again = awaited ?? (focused ? listing.find(({ asset }) => asset.id === focused.result.asset.id) : -1);
      if (again >= 0) focusOn(again);
    },
    /** More is loaded, or results are gone. */
    update,
    place,

    /** Redraw a photograph's tiles after a change. */
    refresh(asset) {
      for (const result of listing?.loaded() ?? []) {
        if (result.asset.id !== asset.id) continue;
        result.asset = { ...result.asset, ...asset };
        listing.blocks.filter(({ items }) => items?.includes(result)).forEach((block) => { block.rows = null; });
        const old = drawn.get(result);
        if (!old) continue;
        const had = old.element.contains(document.activeElement);
        const { width: wide, height: high } = old.element.getBoundingClientRect();
        const made = drawTile(result, { width: wide, height: high });
        old.element.replaceWith(made.element);
        drawn.set(result, made);
        if (had) goal = old.index;
      }
      update();
    },

    /** Draw again after `remove()` took photographs out of the listing; the focus goes to a neighbour. */
    remove(remove) {
      if (listing) notice();
      const focused = focusedTile();
      const held = anchor && listing.at(anchor.index);
      remove();
      if (!listing) return;
      if (!listing.blocks.length) {
        this.show(null);
        return;
      }
      const again = held ? listing.find((result) => result === held) : -1;
      if (anchor) anchor.index = again < 0 ? Math.min(anchor.index, listing.length - 1) : again;
      update();
      if (focused && !focusedTile()) focusOn(focused.index);
    },

    /** Update the marks of selected tiles. */
    markSelected(isOn) {
      isSelecting = isOn;
      list.classList.toggle("is-selecting", isOn);
      for (const each of drawn.values()) if (each.result) mark(each);
    },

    /** Focus a photograph's tile; returns whether there is one. */
    focus(id) {
      const index = listing ? listing.find(({ asset }) => asset.id === id) : -1;
      return index >= 0 && focusOn(index);
    },
    /** What was to be focused can't be loaded. */
    giveUp() {
      goal = null;
    },
    /** The position of the focused photograph, or of the first in sight. */
    current: () => focusedTile()?.index ?? anchor?.index ?? 0,
    focusFirst: () => focusOn(0),

    /** The months of the listing: [{ month, label, start, count, top }]; none where they have no headings. */
    months: () => (listing?.hasMonths ? months : []),
    /** Where the visible part lay when it was last drawn: {top, bottom, height} in pixels of the whole grid. */
    extent: () => ({ ...seen, height }),
    /** Scroll to a place, or to a month's heading. */
    scrollTo(y) {
      goal = null;
      scrollToPlace(y);
      takeAnchor();
      render();
    },
    scrollToMonth({ start }) {
      goal = null;
      anchor = { index: start, isHeading: true, below: 0 };
      keepAnchor();
      render();
    },
  };
}
