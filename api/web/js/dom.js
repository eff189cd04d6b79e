// Builds elements. Text from the library (file names, captions, tags) is hostile: it only ever becomes text
// nodes and attribute values here, never markup, and the page has no other way to make elements.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "indeterminate", "disabled", "hidden", "open", "htmlFor"]);

/**
 * An element with attributes and children. `on` holds listeners, `style` CSS properties, `data` data-attributes;
 * null, undefined and false leave an attribute or child out.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "style") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (PROPERTIES.has(name)) {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...shown(children));
  return element;
}

/** Replace an element's children; null, undefined and false are left out. */
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
  return element;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** An icon of `addIcons`, in the colour of the surrounding text, hidden from screen readers. */
export const icon = (name) =>
  svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#icon-${name}` }));

/** Put the icons into the page, once. Each reference into another file would fetch that file again. */
export async function addIcons() {
  const answer = await fetch("web/icons/sprite.svg");
  const file = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
  document.body.append(h("div", { class: "icons", "aria-hidden": "true" }, document.importNode(file.documentElement, true)));
}

/**
 * The outlines of land and of countries, hidden from screen readers; its viewBox says what is shown. The world is drawn
 * three times, each `width` beside the other, so that a view may cross its edge.
 */
export const world = (name, width) =>
  svg("svg", { class: name, "aria-hidden": "true", preserveAspectRatio: "none" },
    ...["land", "borders"].flatMap((part) => [-width, 0, width].map((x) => svg("use", { class: `map-${part}`, href: `web/icons/world.svg#${part}`, x }))));

/** SVG paths in the coordinates of a box [x, y, width, height], hidden from screen readers. */
export const drawing = (name, box, paths) =>
  svg("svg", { class: name, "aria-hidden": "true", viewBox: box.join(" "), preserveAspectRatio: "none" }, ...paths.map((path) => svg("path", { d: path })));

/**
 * Transparent text that can be selected, over a picture of [width, height]: each line {text, corners} fills its
 * quadrilateral.
 */
export const writing = (name, [width, height], lines) =>
  svg("svg", { class: name, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, ...lines.map(({ text, corners }) => {
    const [[x, y], along, , below] = corners;
    const length = Math.hypot(along[0] - x, along[1] - y);
    const high = Math.hypot(below[0] - x, below[1] - y);
    const angle = (Math.atan2(along[1] - y, along[0] - x) * 180) / Math.PI;
    // The baseline is about four fifths of the way down.
    return svg("text", {
      x: 0, y: 0.8 * high, "font-size": 0.9 * high, textLength: length, lengthAdjust: "spacingAndGlyphs",
      transform: `translate(${x} ${y}) rotate(${angle})`,
    }, text);
  }));

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A small picture, with an icon in its place if it fails to load. */
export function thumb(address, attributes = {}) {
  const failed = () => image.replaceWith(h("span", { class: "unseen" }, icon("photo")));
  const image = h("img", { src: address, alt: "", loading: "lazy", on: { error: failed }, ...attributes });
  return image;
}

/**
 * A button that shows only an icon; its label is also its tooltip. A `class` is added to its
 * own.
 */
export function iconButton(name, label, click, { class: more = "", ...attributes } = {}) {
  return h(
    "button",
    { type: "button", class: `icon-button ${more}`.trim(), "aria-label": label, title: label, on: { click }, ...attributes },
    icon(name),
  );
}

/** A button with text, and optionally an icon before it. A `class` is added to its own. */
export function button(words, click, { drawing, class: more = "", ...attributes } = {}) {
  return h(
    "button",
    { type: "button", class: `button ${more}`.trim(), on: { click }, ...attributes },
    drawing && icon(drawing),
    h("span", {}, words),
  );
}

/** Move a part of the page into the dialog that is open, if any, as it makes everything else inert; back when it closes. */
export function moveToDialog(element) {
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  const place = dialog ?? document.body;
  if (element.parentElement === place) return;
  place.append(element);
  dialog?.addEventListener("close", () => moveToDialog(element), { once: true });
}

/** Announce a message to screen readers. */
export function announce(text) {
  const live = document.getElementById("live");
  moveToDialog(live);
  // Repeating the same text would not be announced.
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

/** Whether a key press goes to a text field. */
export function isTyping(event) {
  const target = event.target;
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}
