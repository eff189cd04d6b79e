// How the service read a query, part by part, and the place of an error. The service counts
// code points; JavaScript counts some of them twice.

import { h } from "./dom.js";
import { number } from "./format.js";

/** Example queries, and what they find. */
export const EXAMPLES = [
  ["a red bus at night", "What the words say"], ['"red bus"', "Exactly these words, side by side"], ["-people", "Less of this"],
  ["dogs OR cats", "Either of two texts"], ["(dogs OR cats) tag:beach", "Either, with a tag"], ["tag:a OR (tag:b -tag:c)", "Either of two filters"], ["rating:>=4", "Four stars or more"],
  ["sunset^2 beach", "Two texts; the first counts twice"], ["taken:2024-05..2024-06", "From these months"],
  ["tag:harbour -tag:draft", "With one tag, and without another"], ['camera:"EOS R5"', "Taken with this camera"],
  ["near:52.5,13.4,10km", "Near this place"], ["city:Paris", "Taken in this city"], ["path:2024/trip", "In a folder"], ["has:gps", "With a place"],
  ["width:>=2000", "Large ones"], ["like:a12", "Like a photo, by its id"], ["image:1", "Like the picture that you search by"],
];

// The service takes no longer query.
const LONGEST = 2000;

/** Why a query is too long, with its length; "" if it is not. */
export function tooLong(query) {
  const { length } = [...query];
  return length > LONGEST ? `The search has ${number(length)} characters; at most ${number(LONGEST)} are possible.` : "";
}

/** Whether a search compares with a stored photograph or a part of one. */
export const namesPhoto = ({ like, q }) => Boolean(like) || /(^|[\s(+-])like:/iu.test(q);

const USUAL = { wanted: 1, unwanted: 0.5 };

/** The place [begin, end] of a part in the JavaScript string. */
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

/** A part in words. */
export function labelOf(part) {
  const sign = part.negative ? "not " : "";
  if (part.field) return `${sign}${part.field}: ${part.value}`;
  if (part.any_of) {
    const options = part.any_of.map((items) => items.map(labelOf).join(", "));
    return part.negative ? `not (${options.join(" or ")})` : options.join(" or ");
  }
  const usual = part.negative ? USUAL.unwanted : USUAL.wanted;
  const weight = part.weight === usual ? "" : ` ×${part.weight}`;
  return `${sign}${thing(part)}${weight}`;
}

function thing({ text, phrase, image, box, like }) {
  if (like) return `like ${like}`;
  if (image) return box ? `a part of picture ${image}` : `picture ${image}`;
  return phrase ? `“${text}”` : text;
}

const isFilter = (part) => (part.any_of ? part.any_of.flat().every(isFilter) : Boolean(part.field));

/** Whether a query only filters, so that its answer is a list. */
export const isList = (parts) => parts.length > 0 && parts.every(isFilter);

/** A filter by a name, as a part of a query. */
export function filterBy(field, value) {
  const isPlain = /^[^\s"“”„\\^:()-][^\s"“”„\\^:()]*$/u.test(value);
  return `${field}:${isPlain ? value : quoted(value)}`;
}

const quoted = (text) => `"${text.replace(/["“”„\\]/gu, "\\$&")}"`;

/** Words and filters of a state as one query; "" if there are none. */
export function queryOf({ q, not, filters }) {
  const parts = [q, not && `-${quoted(not)}`];
  for (const name of ["collection", "camera", "lens", "format", "country", "city", "tag"]) {
    for (const value of filters[name] ?? []) parts.push(filterBy(name, value));
  }
  for (const value of filters.not_tag ?? []) parts.push(`-${filterBy("tag", value)}`);
  const range = (field, least, most) => (least || most) && parts.push(`${field}:${least ?? ""}..${most ?? ""}`);
  range("taken", filters.taken_from, filters.taken_to);
  range("rating", filters.min_rating, filters.max_rating);
  range("duration", filters.min_duration, filters.max_duration);
  range("width", filters.min_width, filters.max_width);
  range("height", filters.min_height, filters.max_height);
  if (filters.orientation) parts.push(`orientation:${filters.orientation}`);
  if (filters.gps_near) parts.push(`near:${filters.gps_near}`);
  if (filters.gps_box) parts.push(`within:${filters.gps_box}`);
  if (filters.path_prefix) parts.push(filterBy("path", filters.path_prefix));
  for (const [name, value] of Object.entries(filters)) {
    // Without quotes, numbers and booleans are read as such, as in the address.
    if (name.startsWith("custom.")) parts.push(/^(true|false|-?\d+(\.\d+)?)$/.test(value) ? `${name}:${value}` : `${name}:${quoted(value)}`);
  }
  return parts.filter(Boolean).join(" ");
}

/** The query with the wrong part marked, for the notice. */
export function marked(query, problem) {
  const [begin, end] = placeOf(query, problem);
  return h(
    "p", { class: "wrong-query", data: { testid: "wrong-query" } },
    query.slice(0, begin), h("mark", {}, query.slice(begin, end) || " "), query.slice(end),
  );
}
