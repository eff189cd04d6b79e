// Light or dark: the system's choice until the person makes their own, which is remembered.

const KEY = "regard.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** "light" or "dark", as shown now. */
export const theme = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");

/** Show the other one, and remember it; choosing what the system has means following the system again. */
export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  const isSystems = next === (system.matches ? "dark" : "light");
  if (isSystems) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (isSystems) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Storage is switched off: the choice lasts until a reload.
  }
  return next;
}
