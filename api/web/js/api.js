// The calls to the service, relative to the page, which may lie below a proxy's sub-path. Every failure is a `Problem`: a sentence and, where there is one, a remedy.

/** Why a call failed; `status` 0 when no answer came at all. */
export class Problem extends Error {
  constructor({ status = 0, type = "", title = "", detail = "", remedy = null, errors = [], position = null, length = null }) {
    super(sentence([detail, ...errors.map((each) => `${each.where}: ${each.message}`)].filter(Boolean).join("; ") || title));
    this.name = "Problem";
    this.status = status;
    this.kind = type.split("/").pop();
    this.remedy = remedy && sentence(remedy);
    // For a malformed query: its place, in characters.
    this.position = position;
    this.length = length;
  }
}

function sentence(text) {
  return text && text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

let signIn = null;
/** Called when a key is needed; resolves once there is a session, and the call is made again. */
export function onKeyRequired(handler) {
  signIn = handler;
}

/** The problem that a response describes. */
export function problemOf(status, text) {
  try {
    return new Problem({ status, ...JSON.parse(text) });
  } catch {
    return new Problem({
      status,
      detail: `the server answered ${status}`,
      remedy: status === 413 ? "choose a smaller file" : "try again; if it keeps failing, look at the server's log",
    });
  }
}

/** Why a picture or a video failed to load, which its element cannot tell; a key is asked for if it needs one. Null if it would load now. */
export async function whyNoPicture(address) {
  try {
    // Of a video, no more than that.
    const answer = await fetch(address, { headers: { Range: "bytes=0-0" } });
    if (answer.status === 401 && signIn !== null) {
      await signIn();
      return whyNoPicture(address);
    }
    return answer.ok ? null : problemOf(answer.status, await answer.text());
  } catch {
    return unreachable();
  }
}

/** The problem for a response that never arrived. */
export const unreachable = () =>
  new Problem({ detail: "the server can't be reached", remedy: "check that regard serve is running, then try again" });

// Nobody is asked for a key to answer a call that was made on the side.
async function call(path, { method = "GET", json, body, signal, key, aside = false } = {}) {
  const headers = { Accept: "application/json" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const request = { method, headers, signal, body: json === undefined ? body : JSON.stringify(json) };
  let answer;
  try {
    answer = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (answer.status === 401 && !aside && signIn !== null && path !== "v1/session") {
    await signIn();
    return call(path, { method, json, body, signal, key });
  }
  const text = await answer.text();
  if (!answer.ok) throw problemOf(answer.status, text);
  return text ? JSON.parse(text) : null;
}

/** A query string of [name, value] pairs; empty values are left out. */
function address(path, pairs) {
  const query = new URLSearchParams(pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `${path}?${query}`;
}

const id = encodeURIComponent;

export const info = () => call("v1/info");
export const startSession = (key) => call("v1/session", { method: "POST", json: { key } });
export const endSession = () => call("v1/session", { method: "DELETE" });

export const collections = () => call("v1/collections?limit=200");

export const listAssets = (pairs, signal) => call(address("v1/assets", pairs), { signal });
export const assetMonths = (pairs, signal) => call(address("v1/assets/months", pairs), { signal });
export const assetPlaces = (pairs, signal) => call(address("v1/assets/places", pairs), { signal });
export const asset = (which, signal) => call(`v1/assets/${id(which)}`, { signal });
export const patchAsset = (which, change) => call(`v1/assets/${id(which)}`, { method: "PATCH", json: change });
export const trashAsset = (which) => call(`v1/assets/${id(which)}`, { method: "DELETE" });
export const restoreAsset = (which) => call(`v1/assets/${id(which)}/restore`, { method: "POST" });
/** Change many assets; `said` are the { tags } or the { rating } of the action. */
export const bulk = (ids, action, said = {}) => call("v1/assets/bulk", { method: "POST", json: { ids, action, ...said } });
/** All albums; those with a `query` are saved searches. */
export async function albums() {
  const all = [];
  let next = null;
  do {
    const page = await call(address("v1/albums", [["limit", 1000], ["cursor", next]]));
    all.push(...page.items);
    next = page.next;
  } while (next);
  return all;
}
export const createAlbum = (name, query) => call("v1/albums", { method: "POST", json: { name, query } });
export const renameAlbum = (which, name) => call(`v1/albums/${id(which)}`, { method: "PATCH", json: { name } });
export const deleteAlbum = (which) => call(`v1/albums/${id(which)}`, { method: "DELETE" });
/** Change an album by { add, remove }, lists of ids. */
export const changeAlbum = (which, change) => call(`v1/albums/${id(which)}/assets`, { method: "POST", json: change });
export const duplicates = (pairs, signal) => call(address("v1/duplicates", pairs), { signal });
export const mergeDuplicates = (keep, discard) => call("v1/duplicates/merge", { method: "POST", json: { keep, discard } });
export const markDistinct = (ids, distinct) => call("v1/duplicates/distinct", { method: "POST", json: { ids, distinct } });
export const emptyTrash = () => call("v1/trash/empty", { method: "POST", json: {} });

export const suggestions = (q, signal) => call(address("v1/suggestions", [["q", q]]), { signal, aside: true });

export const region = (which, signal) => call(`v1/regions/${id(which)}`, { signal });

/** The outline of a region's mask as an SVG path in half pixels of the photograph; null if it can't be had. */
export async function outline(region) {
  try {
    const answer = await fetch(`${region.urls.mask}&format=svg`);
    if (!answer.ok) return null;
    const drawn = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
    return drawn.querySelector("path").getAttribute("d");
  } catch {
    return null;
  }
}

export const searchText = (pairs, signal) => call(address("v1/search", pairs), { signal });
/** Run any search; a picture is sent along with the query. */
export function search(query, picture, signal) {
  if (!picture) return call("v1/search", { method: "POST", json: query, signal });
  const body = new FormData();
  body.append("query", JSON.stringify(query));
  body.append("image", picture.blob, picture.name || "picture");
  return call("v1/search", { method: "POST", body, signal });
}

export const jobs = (pairs = []) => call(address("v1/jobs", pairs));
export const cancelJob = (which) => call(`v1/jobs/${id(which)}/cancel`, { method: "POST" });
export const retryJob = (which) => call(`v1/jobs/${id(which)}/retry`, { method: "POST" });
export const jobFailures = (which) => call(`v1/jobs/${id(which)}/failures?limit=100`);
export const jobEvents = (which) => new EventSource(`v1/jobs/${id(which)}/events`);
