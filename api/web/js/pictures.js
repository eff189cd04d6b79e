// Query pictures. A URL cannot hold one, so the browser keeps it under a short name that the
// URL can hold: in memory, and in sessionStorage for a reload if there is space.

const LONGEST_SIDE = 1600;
const LARGEST_FILE = 1_500_000;
const PREFIX = "regard.picture.";

const kept = new Map();

/**
 * Store a picture; returns its short name. A large one is scaled down first, which does not
 * affect encoders.
 */
export async function keepPicture(file) {
  const blob = await smaller(file);
  const token = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const picture = { blob, name: file.name || "pasted picture", url: URL.createObjectURL(blob) };
  kept.set(token, picture);
  await store(token, picture);
  return token;
}

/** The picture {blob, name, url} stored under a name; null if this browser lacks it. */
export function pictureOf(token) {
  if (!kept.has(token)) {
    const picture = restored(token);
    if (picture === null) return null;
    kept.set(token, picture);
  }
  return kept.get(token);
}

async function smaller(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    // A format that only the server can read, such as HEIC: send the file as it is.
    return file;
  }
  const scale = LONGEST_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1 && file.size <= LARGEST_FILE) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * Math.min(1, scale));
  canvas.height = Math.round(bitmap.height * Math.min(1, scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return blob ?? file;
}

async function store(token, { blob, name }) {
  const data = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => resolve(null);
    reader.readAsDataURL(blob);
  });
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
    if (data) sessionStorage.setItem(PREFIX + token, JSON.stringify({ name, data }));
  } catch {
    // No space, or storage is disabled: the picture lasts until a reload.
  }
}

function restored(token) {
  try {
    const { name, data } = JSON.parse(sessionStorage.getItem(PREFIX + token));
    const [head, body] = data.split(",");
    const raw = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
    const blob = new Blob([raw], { type: head.slice(5).split(";")[0] });
    return { blob, name, url: URL.createObjectURL(blob) };
  } catch {
    return null;
  }
}
