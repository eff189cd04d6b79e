// The reasons for a hit, and its relevance, in words.

import { clock } from "./format.js";

const KINDS = {
  image: "Whole picture",
  region: "A part of it",
  caption: "Caption's meaning",
  keyword: "Words about it",
  text: "Text in the picture",
};
const FIELDS = {
  title: "the title", tag: "a tag", file_name: "the file's name", folder: "a folder's name", description: "the description",
  caption: "the caption", region_caption: "a part's caption",
  text: "text in the picture", similar_text: "similar text in the picture",
};
// Relevance is a probability: from `GOOD` on a hit is more likely right than not.
const GOOD = 0.5;
/** From here on a hit may be right. */
export const POSSIBLE = 0.3;
const DEGREES = [[0.9, "Surely"], [GOOD, "Probably"], [POSSIBLE, "Perhaps"], [0, "Hardly"]];

/** {word, percent} for a result's relevance, 1 to 99; null if it is unknown. */
export function relevanceOf({ relevance }) {
  if (!Number.isFinite(relevance)) return null;
  const [, word] = DEGREES.find(([least]) => relevance >= least);
  return { word, percent: Math.min(99, Math.max(1, Math.round(relevance * 100))) };
}

/** Whether to outline the matching region: it is likely right, or its relevance is unknown. */
export const isGood = ({ relevance }) => !Number.isFinite(relevance) || relevance >= GOOD;

/**
 * [{kind, label, place, share, details, space}] of a result's channels, the largest part of the score first: `share` is that
 * part in percent, null where there is no score; `details` say what of the photograph matched.
 */
export function reasons(result) {
  return [...(result.channels ?? [])]
    .sort((one, other) => other.contribution - one.contribution || one.rank - other.rank)
    .map((channel) => ({
      kind: channel.kind,
      label: KINDS[channel.kind] ?? channel.kind,
      place: `no. ${channel.rank}`,
      share: result.score > 0 ? Math.max(0, Math.round((channel.contribution / result.score) * 100)) : null,
      details: detailsOf(channel, result),
      space: channel.space ?? "",
    }));
}

function detailsOf({ kind, words }, { asset, region }) {
  if (kind === "region" && (region?.time_ms ?? null) !== null) return [`${region.caption ? `“${region.caption}” ` : ""}at ${clock(region.time_ms)}`];
  // A line of text, which has no vector, is outlined for its words.
  if (kind === "region" && region?.text) return [];
  if (kind === "region") return region ? [region.caption ? `“${region.caption}”, outlined` : "the part that is outlined"] : [];
  if (kind === "caption") return [asset.caption, region?.caption].filter(Boolean).map((caption) => `“${caption}”`);
  if (kind !== "keyword" && kind !== "text") return [];
  const found = Map.groupBy(words ?? [], (word) => word.field);
  const where = [...found].map(([field, each]) => `${each.map(({ text }) => `“${text}”`).join(", ")} in ${FIELDS[field] ?? field}`);
  return kind === "text" && region?.text ? [...where, `“${region.text}”, outlined`] : where;
}

/** The same as sentences, for screen readers. */
export function reasonSentence(result) {
  const known = relevanceOf(result);
  const parts = reasons(result).map(({ label, place, share, details }) =>
    [`${label}: ${place}`, share !== null && `${share}% of the score`, ...details].filter(Boolean).join(", "));
  return [known && `${known.word} what you asked for, ${known.percent}%.`, parts.length > 0 && `Found by ${parts.join("; ")}.`]
    .filter(Boolean).join(" ");
}

/** The name of a region: its text or caption, else its number on the photograph. */
export const regionName = (region, position) => (region.text ? `“${region.text}”` : region.caption || `Part ${position}`);
