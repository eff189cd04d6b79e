// The search box, with the query picture or photograph as a token before the text.

import * as api from "./api.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { nameOf } from "./format.js";
import { onKeys } from "./keys.js";
import { pictureOf } from "./pictures.js";
import { go, goAfresh, state } from "./state.js";
import { makeSuggesting } from "./suggesting.js";
import { placeOf, tooLong } from "./written.js";

// The width in pixels that the longer placeholder needs.
const WIDE = 290;

/**
 * Set up the form; `choosePicture` opens the file chooser, `dropLastFilter` removes the last
 * chip.
 */
export function makeSearchbar({ form, choosePicture, dropLastFilter }) {
  const field = h("input", {
    id: "q", type: "text", name: "q", autocomplete: "off", enterkeyhint: "search", spellcheck: "false",
    "aria-label": "Search photos by words", "aria-keyshortcuts": "/", data: { testid: "q" },
  });
  const token = h("span", { class: "token-place" });
  const clear = iconButton("close", "Clear the search", () => {
    goAfresh({ filters: state().filters, target: state().target });
    field.value = "";
    field.focus();
  }, { "data-testid": "clear" });
  const slash = h("kbd", { class: "slash", "aria-hidden": "true" }, "/");
  const choose = iconButton("picture", "Search by a picture", choosePicture, { "data-testid": "choose-picture" });
  const submit = h("button", { type: "submit", class: "icon-button search-go", "aria-label": "Search", title: "Search", data: { testid: "search-go" } }, icon("search"));
  fill(form, submit, token, field, slash, clear, choose);
  form.append(makeSuggesting(field, (query) => {
    field.value = query;
    form.requestSubmit();
  }));

  const show = () => {
    const { q, like, picture } = state();
    clear.hidden = !(field.value || q || like || picture);
    slash.hidden = Boolean(field.value);
    // The browser shows it when the form is sent, and keeps it from being sent.
    field.setCustomValidity(tooLong(field.value));
    const isWide = field.clientWidth > WIDE;
    if (like || picture) field.placeholder = isWide ? "Add words to refine it" : "Add words";
    else field.placeholder = isWide ? "Search by words, or drop a picture" : "Search photos";
  };
  new ResizeObserver(() => show()).observe(field);
  field.addEventListener("input", show);
  field.addEventListener("input", () => field.removeAttribute("aria-invalid"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const q = field.value.trim();
    go({ q, photo: "", view: "library" });
    if (matchMedia("(pointer: coarse)").matches) field.blur();
  });
  onKeys(field, "search", {
    dropLast() {
      if (field.value !== "") return false;
      const { like, picture } = state();
      if (like || picture) go({ like: "", picture: "" });
      else dropLastFilter();
      return true;
    },
    clear() {
      if (!field.value) field.blur();
      field.value = "";
      show();
    },
  }, () => false);

  let shownToken = null;
  async function showToken({ like, picture }) {
    const key = like || picture;
    if (key === shownToken) return;
    shownToken = key;
    fill(token);
    if (!key) return;
    const { url, name } = picture ? ofPicture(picture) : await ofStored(like);
    if (shownToken !== key) return;
    fill(token, h(
      "span", { class: "token", data: { testid: "like-token" }, title: name },
      url && h("img", { src: url, alt: "" }), h("span", { class: "token-name" }, name),
      iconButton("close", `Stop searching by ${name}`, () => {
        go({ like: "", picture: "" });
        field.focus();
      }),
    ));
  }

  return {
    focus() {
      field.focus();
      field.select();
    },
    /**
     * Mark a malformed query as invalid and select the place if the field has the focus; any other problem, or null,
     * clears the mark.
     */
    mark(problem) {
      field.removeAttribute("aria-invalid");
      if (problem?.kind !== "malformed-query") return;
      field.setAttribute("aria-invalid", "true");
      if (document.activeElement === field) field.setSelectionRange(...placeOf(state().q, problem));
    },
    show(current, before) {
      if (!before || before.q !== current.q) field.value = current.q;
      show();
      return showToken(current);
    },
  };
}

function ofPicture(token) {
  const picture = pictureOf(token);
  return { url: picture?.url, name: picture?.name ?? "a picture" };
}

async function ofStored(like) {
  try {
    if (like.startsWith("r")) {
      const region = await api.region(like);
      return { url: region.urls.crop, name: `like ${region.caption || `a part of ${nameOf(region.asset)}`}` };
    }
    const asset = await api.asset(like);
    return { url: asset.urls.thumbnail, name: `like ${nameOf(asset)}` };
  } catch {
    // The results show the reason.
    return { url: null, name: `like ${like}` };
  }
}

