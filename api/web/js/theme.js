// Light or dark: the system's theme until the user chooses one, which is stored.

const KEY = "regard.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** "light" or "dark", as shown now. */
export const theme = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");

/** Give the browser's bars around the page its colour. */
function tint() {
  document.querySelector('meta[name="theme-color"]').content = getComputedStyle(document.documentElement).getPropertyValue("--page").trim();
}
system.addEventListener("change", tint);
tint();

/**
 * Switch the theme and store the choice; choosing the system's theme follows the system
 * again.
 */
export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  const isSystems = next === (system.matches ? "dark" : "light");
  if (isSystems) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (isSystems) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Storage is disabled: the choice lasts until a reload.
  }
  tint();
  return next;
}
