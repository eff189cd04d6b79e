// From a state to results: parts of a list (the library or the trash), or pages of the answer to a search. A
// result is {asset, region, channels, score, rank}; in lists the last four are null. `refined` is what the query names, once
// it was looked for.

import * as api from "./api.js";
import { pictureOf } from "./pictures.js";
import { filterPairs, isSearch } from "./state.js";
import { isList } from "./written.js";

export const PAGE = 60;
const NUMBERS = new Set(["min_width", "max_width", "min_height", "max_height", "min_rating", "max_rating", "min_duration", "max_duration"]);

/** The link's query picture is not stored in this browser. */
export class PictureMissing extends Error {}

/** One page of a search: {items, next, matched, unread, took, parts}; `unread` are words that the models can't read, `parts` are those of a query that is more than words. `cursor` is null for the first. Raises Problem, PictureMissing. */
export async function find(state, cursor, signal, { limit = PAGE, refine = false } = {}) {
  const answer = await answered(state, { cursor, limit, refine }, signal);
  const parts = answer.query.parts ?? [];
  const items = answer.hits.map((hit) => (isList(parts)
    ? { ...hit, channels: null, score: null }
    : { ...hit, channels: hit.channels ?? [], relevanceSource: answer.relevance_source }));
  // An empty list is not an answer without a match.
  return { items, next: answer.next ?? null, matched: isList(parts) || answer.matched, unread: answer.unknown_words ?? [], took: answer.took_ms, parts };
}

// Each stack is there once, in lists and their counts as in searches.
const listPairs = ({ filters, view }) => [...filterPairs(filters), ["fold_stacks", "true"], ...(view === "trash" ? [["state", "trashed"]] : [])];

/** The counts of a list: {months: [{month, count}], newest first, total, through}. Raises Problem. */
export const countList = (state, signal) => api.assetMonths(listPairs(state), signal);

/** The results of a list from `offset` on, without assets added after `through`. Raises Problem. */
export async function listFrom(state, { offset, limit, through }, signal) {
  const pairs = [...listPairs(state), ["sort", state.sort], ["offset", offset], ["limit", limit], ["through", through]];
  const list = await api.listAssets(pairs, signal);
  return list.items.map((asset) => ({ asset, region: null, channels: null, score: null, rank: null }));
}

async function answered(state, { cursor, limit, facets, refine }, signal) {
  if (!state.like && !state.picture) {
    const pairs = [
      ["q", state.q], ["not", state.not], ["target", state.target], ...filterPairs(state.filters),
      ["limit", limit], ["cursor", cursor], ["facets", facets?.join(",")],
      ["refine", refine ? "true" : ""], ["sort", state.order], ["fold_stacks", "true"],
    ];
    return api.searchText(pairs, signal);
  }
  const picture = state.picture ? pictureOf(state.picture) : null;
  if (state.picture && picture === null) throw new PictureMissing();
  const query = { target: state.target, limit, filters: filtersJson(state.filters), fold_stacks: true };
  if (state.q) query.query = state.q;
  query.terms = [];
  // A query may name the picture itself, as in "-image:1 red".
  const isNamed = /(^|\s)[-+]?image:/.test(state.q ?? "");
  if (picture && !isNamed) query.terms.push(state.box ? { image: 1, box: state.box } : { image: 1 });
  if (state.like) query.terms.push({ like: state.like });
  if (state.not) query.terms.push({ text: state.not, negative: true });
  if (cursor) query.cursor = cursor;
  if (facets) query.facets = facets;
  if (refine) query.refine = true;
  if (state.order) query.sort = state.order;
  return api.search(query, picture, signal);
}

// Custom fields travel as text here and as one object in JSON, where 3 and "3" differ.
function filtersJson(filters) {
  const out = {};
  for (const [name, value] of Object.entries(filters)) {
    if (name.startsWith("custom.")) (out.custom ??= {})[name.slice(7)] = plain(value);
    else if (NUMBERS.has(name)) out[name] = Number(value);
    else out[name] = value;
  }
  return out;
}

function plain(text) {
  if (text === "true" || text === "false") return text === "true";
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/**
 * The values of a facet with their counts, over all photographs that pass the state's filters
 * except the given ones. Raises Problem.
 */
export async function facet(state, name, leftOut, signal) {
  const filters = Object.fromEntries(Object.entries(state.filters).filter(([other]) => !leftOut.includes(other)));
  // Facets are counted over everything that passes the filters, so any query works.
  const asked = { ...state, q: state.q || "photograph", target: "image", like: "", picture: "", box: null, order: "", filters };
  const answer = await answered(asked, { limit: 1, facets: [name] }, signal);
  return answer.facets?.[name] ?? [];
}
