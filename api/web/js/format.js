// Facts formatted for people.

const NUMBER = new Intl.NumberFormat("en-GB");
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric" });

/** 12,345 */
export const number = (value) => NUMBER.format(value);

/** 1 photo, 2 photos */
export const plural = (count, word, many = `${word}s`) => `${number(count)} ${count === 1 ? word : many}`;

/** 3.2 MB */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A time in a video: 0:07, 12:30 or 1:02:03. */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (count) => String(count).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
}

/** 3 May 2024, 10:12. Times without a zone are the camera's own and are shown as they are. */
export const moment = (iso) => dated(iso, MOMENT);
/** 3 May 2024 */
export const day = (iso) => dated(/^\d{4}-\d\d-\d\d$/.test(iso) ? `${iso}T00:00:00` : iso, DAY);
/** May 2024, from 2024-05; a year as it is. */
export const month = (iso) => (iso.length === 4 ? iso : dated(`${iso}-01T00:00:00`, MONTH));
/** As much of a date as is known: 1985, May 2024, 3 May 2024, or 3 May 2024, 10:12. */
export function known(iso, precision) {
  if (precision === "time") return moment(iso);
  return precision === "day" ? day(iso.slice(0, 10)) : month(iso.slice(0, precision === "year" ? 4 : 7));
}

function dated(iso, form) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : form.format(date);
}

/** 1/250 s */
export const exposure = (seconds) =>
  seconds >= 0.4 ? `${Number(seconds.toFixed(1))} s` : `1/${Math.round(1 / seconds)} s`;

/** 48.85840° N, 2.29450° E */
export function place(latitude, longitude) {
  const north = `${Math.abs(latitude).toFixed(5)}° ${latitude < 0 ? "S" : "N"}`;
  return `${north}, ${Math.abs(longitude).toFixed(5)}° ${longitude < 0 ? "W" : "E"}`;
}

/** 52.499–52.516° N, 13.378–13.392° E: a part of the map, told the finer the smaller it is. */
export function area([west, south, east, north]) {
  const wide = Math.max(north - south, (east - west + 360) % 360);
  const digits = [10, 1, 0.1].filter((degrees) => wide < degrees).length;
  const range = (from, to, letters) => {
    const [first, last] = [from, to].map((side) => ({ degrees: Math.abs(side).toFixed(digits), letter: letters[side < 0 ? 0 : 1] }));
    if (first.letter !== last.letter) return `${first.degrees}° ${first.letter} – ${last.degrees}° ${last.letter}`;
    return `${[...new Set([first.degrees, last.degrees])].join("–")}° ${first.letter}`;
  };
  return `${range(south, north, "SN")}, ${range(west, east, "WE")}`;
}

/** The name of a photograph: its title, else its file name. */
export const nameOf = (asset) => asset.title || asset.file_name || asset.id;
