// Why something was found, in words.

const KINDS = {
  image: "Whole picture",
  region: "A part of it",
  caption: "Caption's meaning",
  keyword: "Words in its text",
};

/** [{label, place, score}] of a result's channels, best place first. */
export function reasons(result) {
  return [...(result.channels ?? [])]
    .sort((one, other) => one.rank - other.rank)
    .map((channel) => ({
      label: KINDS[channel.kind] ?? channel.kind,
      place: `no. ${channel.rank}`,
      score: Number.isFinite(channel.score) ? channel.score.toFixed(2) : "",
      space: channel.space ?? "",
    }));
}

/** One sentence of the same. */
export function reasonSentence(result) {
  const parts = reasons(result).map(({ label, place, score }) => `${label}: ${place}${score && `, score ${score}`}`);
  return parts.length ? `Found by ${parts.join("; ")}.` : "";
}

/** What a region is called: its caption, else its number on the photograph. */
export const regionName = (region, position) => region.caption || `Part ${position}`;
