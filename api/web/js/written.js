// What the service understood of a query, part by part, and where in it something is wrong. The service counts
// characters; a string of the page counts some of them twice.

import { h } from "./dom.js";

const USUAL = { wanted: 1, unwanted: 0.5 };

/** The place [begin, end] of a part in the page's own string. */
export function placeOf(query, { position, length }) {
  const letters = [...query];
  const begin = letters.slice(0, position).join("").length;
  return [begin, begin + letters.slice(position, position + length).join("").length];
}

/** The query without one of its parts. */
export function without(query, part) {
  const [begin, end] = placeOf(query, part);
  return `${query.slice(0, begin).trimEnd()} ${query.slice(end).trimStart()}`.trim();
}

/** What a part says, in words. */
export function labelOf(part) {
  const sign = part.negative ? "not " : "";
  if (part.field) return `${sign}${part.field}: ${part.value}`;
  const usual = part.negative ? USUAL.unwanted : USUAL.wanted;
  const weight = part.weight === usual ? "" : ` ×${part.weight}`;
  return `${sign}${thing(part)}${weight}`;
}

function thing({ text, phrase, image, box, like }) {
  if (like) return `like ${like}`;
  if (image) return box ? `a part of picture ${image}` : `picture ${image}`;
  return phrase ? `“${text}”` : text;
}

/** Whether a query only filters, so that its answer is a list. */
export const isList = (parts) => parts.length > 0 && parts.every((part) => part.field);

/** The query with the wrong part marked, for the reader of the notice. */
export function marked(query, problem) {
  const [begin, end] = placeOf(query, problem);
  return h(
    "p", { class: "wrong-query", data: { testid: "wrong-query" } },
    query.slice(0, begin), h("mark", {}, query.slice(begin, end) || " "), query.slice(end),
  );
}
