// The kinds of filters: name, text on the chip, and what each sets.

import { area, clock, day, month } from "./format.js";

const NAMES = ["camera", "lens", "format", "country", "city"];
const SHAPES = { landscape: "Landscape", portrait: "Portrait", square: "Square" };

/** The kinds in the menu's order. `sets` are the state's filters that a kind stands for. */
export const KINDS = [
  { id: "collection", label: "Collection", drawing: "collection", sets: ["collection"] },
  { id: "taken", label: "Date taken", drawing: "calendar", sets: ["taken_from", "taken_to"] },
  { id: "tag", label: "Tag", drawing: "tag", sets: ["tag"] },
  { id: "not_tag", label: "Without tag", drawing: "tag-off", sets: ["not_tag"] },
  { id: "camera", label: "Camera", drawing: "camera", sets: ["camera"] },
  { id: "orientation", label: "Shape", drawing: "shape", sets: ["orientation"] },
  { id: "size", label: "Size", drawing: "size", sets: ["min_width", "max_width", "min_height", "max_height"] },
  { id: "lens", label: "Lens", drawing: "lens", sets: ["lens"] },
  { id: "rating", label: "Rating", drawing: "star", sets: ["min_rating", "max_rating"] },
  { id: "duration", label: "Duration of videos", drawing: "play", sets: ["min_duration", "max_duration"] },
  { id: "format", label: "Type of file", drawing: "photo", sets: ["format"] },
  { id: "country", label: "Country", drawing: "country", sets: ["country"] },
  { id: "city", label: "City", drawing: "city", sets: ["city"] },
  { id: "gps", label: "Place", drawing: "place", sets: ["gps_near", "gps_box"] },
  { id: "path_prefix", label: "Folder", drawing: "folder", sets: ["path_prefix"] },
  { id: "custom", label: "Custom field", drawing: "field", sets: [] },
  { id: "not", label: "Without words", drawing: "minus", sets: [] },
];

/**
 * The chips of a state: [{kind, label, remove}], where `remove` is the change of state that
 * removes the filter.
 */
export function chips(state) {
  const { filters } = state;
  const without = (names) => ({ filters: Object.fromEntries(Object.entries(filters).filter(([name]) => !names.includes(name))) });
  const less = (name, value) => {
    const left = filters[name].filter((other) => other !== value);
    return left.length ? { filters: { ...filters, [name]: left } } : without([name]);
  };
  const out = [];
  const add = (kind, label, remove) => out.push({ kind, label, remove });
  for (const value of filters.collection ?? []) add("collection", value, less("collection", value));
  if (filters.taken_from || filters.taken_to) add("taken", taken(filters.taken_from, filters.taken_to), without(["taken_from", "taken_to"]));
  for (const value of filters.tag ?? []) add("tag", value, less("tag", value));
  for (const value of filters.not_tag ?? []) add("not_tag", `not ${value}`, less("not_tag", value));
  for (const name of NAMES) for (const value of filters[name] ?? []) add(name, value, less(name, value));
  if (filters.min_rating || filters.max_rating) add("rating", rated(filters.min_rating, filters.max_rating), without(["min_rating", "max_rating"]));
  const durations = ["min_duration", "max_duration"].filter((name) => filters[name]);
  if (durations.length) add("duration", durations.map((name) => `duration ${name.startsWith("min") ? "≥" : "≤"} ${clock(1000 * filters[name])}`).join(", "), without(durations));
  if (filters.orientation) add("orientation", SHAPES[filters.orientation] ?? filters.orientation, without(["orientation"]));
  const sizes = ["min_width", "max_width", "min_height", "max_height"].filter((name) => filters[name]);
  if (sizes.length) add("size", sizes.map((name) => sized(name, filters[name])).join(", "), without(sizes));
  if (filters.gps_near) {
    const [latitude, longitude, km] = filters.gps_near.split(",");
    add("gps", `within ${km} km of ${Number(latitude).toFixed(2)}, ${Number(longitude).toFixed(2)}`, without(["gps_near"]));
  }
  if (filters.gps_box) add("gps", area(filters.gps_box.split(",").map(Number)), without(["gps_box"]));
  if (filters.path_prefix) add("path_prefix", filters.path_prefix, without(["path_prefix"]));
  for (const name of Object.keys(filters)) {
    if (name.startsWith("custom.")) add("custom", `${name.slice(7)} = ${filters[name]}`, without([name]));
  }
  if (state.not) add("not", `without “${state.not}”`, { not: "" });
  return out;
}

function rated(least, most) {
  if (least === most) return least === "-1" ? "rejected" : stars(least);
  return [least && `from ${stars(least)}`, most && `up to ${stars(most)}`].filter(Boolean).join(" ");
}

/** A rating in words. */
export const stars = (count) => (count === "-1" ? "Rejected" : count === "1" ? "1 star" : `${count} stars`);

function sized(name, value) {
  const [bound, side] = name.split("_");
  return `${side} ${bound === "min" ? "≥" : "≤"} ${value}`;
}

function taken(from, to) {
  const wrong = [from, to].find((date) => date && !isDate(date));
  if (wrong) return `“${wrong}” is not a date`;
  if (from && to && from === firstOf(from.slice(0, 4)) && to === lastOf(from.slice(0, 4))) return from.slice(0, 4);
  if (from && to && /^\d{4}-\d\d-01$/.test(from) && to === lastOf(from.slice(0, 7))) return month(from.slice(0, 7));
  if (from && to) return from === to ? day(from) : `${day(from)} – ${day(to)}`;
  return from ? `since ${day(from)}` : `until ${day(to)}`;
}

/** Whether a text of the address is a date, with or without hyphens and a time. */
const isDate = (text) => !Number.isNaN(Date.parse(text.replace(/^(\d{4})(\d\d)(\d\d)/, "$1-$2-$3")));

/** The first day of a month or a year. */
export const firstOf = (of) => (of.length === 4 ? `${of}-01-01` : `${of}-01`);

/** The last day of a month or a year: 2024-02 → 2024-02-29. */
export function lastOf(of) {
  if (of.length === 4) return `${of}-12-31`;
  const [year, which] = of.split("-").map(Number);
  return `${of}-${String(new Date(Date.UTC(year, which, 0)).getUTCDate()).padStart(2, "0")}`;
}

export const SHAPE_NAMES = SHAPES;
