// What the page shows lives in its URL, so that back, forward, reload and a shared link all work.
//
// A state is {q, not, like, picture, box, target, view, kind, sort, order, nearest, refine, photo, filters}. `picture` names an uploaded query
// picture that this browser keeps (see pictures.js); `nearest` asks for what comes nearest where nothing matches; `refine`
// for the places of what the query names;
// `filters` holds the API's filters under the API's names.

export const MANY = ["collection", "camera", "lens", "format", "country", "city", "tag", "not_tag"];
const SINGLE = [
  "taken_from", "taken_to", "orientation", "min_width", "max_width", "min_height", "max_height",
  "gps_near", "gps_box", "path_prefix", "min_rating", "max_rating",
  "min_duration", "max_duration",
];
export const SORTS = { "-date": "Newest first", date: "Oldest first", "-added": "Last added", added: "First added" };
export const KINDS = ["exact", "edited", "burst", "object"];
const VIEWS = ["library", "trash", "duplicates", "albums", "map"];
/** The orders of search results; lists have their own, `SORTS`. */
export const ORDERS = { "": "Most relevant", newest: "Newest first", oldest: "Oldest first" };
const DEFAULT_SORT = "-date";

const listeners = new Set();

/** The state of a query string; unknown parameters are ignored. */
export function parse(search) {
  const given = new URLSearchParams(search);
  const filters = {};
  for (const name of MANY) {
    const values = given.getAll(name).filter(Boolean);
    if (values.length) filters[name] = values;
  }
  for (const [name, value] of given) {
    if ((SINGLE.includes(name) || name.startsWith("custom.")) && value) filters[name] = value;
  }
  const box = (given.get("box") ?? "").split(",").map(Number);
  const isBox = box.length === 4 && box.every(Number.isInteger) && box[2] > 0 && box[3] > 0;
  return normal({
    q: given.get("q")?.trim() ?? "",
    not: given.get("not")?.trim() ?? "",
    like: given.get("like") ?? "",
    picture: given.get("picture") ?? "",
    box: isBox ? box : null,
    target: given.get("target") === "region" ? "region" : "image",
    view: VIEWS.includes(given.get("view")) ? given.get("view") : "library",
    kind: KINDS.includes(given.get("kind")) ? given.get("kind") : "",
    sort: given.get("sort") in SORTS ? given.get("sort") : DEFAULT_SORT,
    order: given.get("order") in ORDERS ? given.get("order") : "",
    nearest: given.get("nearest") === "true",
    refine: given.get("refine") === "true",
    photo: given.get("photo") ?? "",
    filters,
  });
}

// Drop a parameter that needs another one which is missing.
function normal(state) {
  const asked = isSearch(state);
  const isDuplicates = !asked && state.view === "duplicates";
  const { collection } = state.filters;
  return {
    ...state,
    kind: isDuplicates ? state.kind : "",
    // The service filters duplicates by collection only.
    filters: isDuplicates ? (collection ? { collection } : {}) : state.view === "albums" && !asked ? {} : state.filters,
    order: asked ? state.order : "",
    not: asked ? state.not : "",
    box: state.picture ? state.box : null,
    view: asked ? "library" : state.view,
    nearest: asked && state.nearest,
    refine: asked && state.refine,
  };
}

/**
 * Whether the state is a search; otherwise the page shows the library, the trash,
 * duplicates, albums or the map.
 */
export const isSearch = (state) => Boolean(state.q || state.like || state.picture);

/** The page's address for a state. */
export function href(state) {
  const out = new URLSearchParams();
  for (const name of ["q", "not", "like", "picture"]) if (state[name]) out.set(name, state[name]);
  if (state.box) out.set("box", state.box.join(","));
  if (state.target !== "image") out.set("target", state.target);
  if (state.view !== "library") out.set("view", state.view);
  if (state.kind) out.set("kind", state.kind);
  for (const [name, value] of filterPairs(state.filters)) out.append(name, value);
  if (state.sort !== DEFAULT_SORT) out.set("sort", state.sort);
  if (state.order) out.set("order", state.order);
  if (state.nearest) out.set("nearest", "true");
  if (state.refine) out.set("refine", "true");
  if (state.photo) out.set("photo", state.photo);
  const query = out.toString();
  return query ? `./?${query}` : "./";
}

/** The filters as [name, value] pairs, one for each value. */
export function filterPairs(filters) {
  return Object.entries(filters).flatMap(([name, value]) =>
    Array.isArray(value) ? value.map((each) => [name, each]) : [[name, value]],
  );
}

/** The filters with one of them replaced; an empty value removes it. */
export function withFilter(filters, name, value) {
  const rest = Object.fromEntries(Object.entries(filters).filter(([other]) => other !== name));
  const isEmpty = Array.isArray(value) ? value.length === 0 : !value;
  return isEmpty ? rest : { ...rest, [name]: value };
}

/** What the results depend on: the state without the open photograph, `nearest` and `refine`. */
export const resultsKey = (state) => href({ ...state, photo: "", nearest: false, refine: false });

let current = parse(location.search);

/** The current state. */
export const state = () => current;

/** Change the state; one step of the browser's history unless `replace` is set. */
export function go(patch, { replace = false, note = {} } = {}) {
  const next = normal({ ...current, ...patch });
  // Showing poor matches applies to one search only.
  if (!("nearest" in patch) && resultsKey(next) !== resultsKey(current)) next.nearest = false;
  const address = href(next);
  if (address === href(current)) return;
  current = next;
  if (replace) history.replaceState({ ...history.state, ...note }, "", address);
  else history.pushState(note, "", address);
  tell();
}

/** Return to the library, keeping only the given fields. */
export const goAfresh = (patch = {}) => go({ ...parse(""), ...patch });

/** Call a function with (state, before) after each change. */
export function onChange(listener) {
  listeners.add(listener);
}

let told = null;
/** Notify all listeners of the current state. */
export function tell() {
  const before = told;
  told = current;
  for (const listener of listeners) listener(current, before);
}

window.addEventListener("popstate", () => {
  current = parse(location.search);
  tell();
});
