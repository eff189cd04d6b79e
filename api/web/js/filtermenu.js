// The menu that adds a filter: first the kind, then its values with the number of matching
// photographs.

import { fill, h, icon, iconButton } from "./dom.js";
import { SHAPE_NAMES, KINDS, firstOf, lastOf, stars } from "./filterkinds.js";
import { facet } from "./finding.js";
import { month, number } from "./format.js";
import { onKeys } from "./keys.js";
import { makePopover } from "./popover.js";
import { go, isSearch, state, withFilter } from "./state.js";

const FACETS = { tag: "tags", not_tag: "tags" };

const setFilter = (name, value) => go({ filters: withFilter(state().filters, name, value) });
const setFilters = (changes) => {
  let { filters } = state();
  for (const [name, value] of Object.entries(changes)) filters = withFilter(filters, name, value);
  go({ filters });
};

/** The menu; {toggle(button), open(button, kind)}. The focus returns to the button `home`. */
export function makeFilterMenu(home) {
  const panel = h("div", { class: "popover filter-menu", role: "dialog", "aria-label": "Filters", data: { testid: "filter-menu" } });
  const popover = makePopover(panel);
  let kindShown = null;

  const step = (by) => {
    const stops = [...panel.querySelectorAll("button, input")].filter((stop) => !stop.disabled);
    stops[(stops.indexOf(document.activeElement) + by + stops.length) % stops.length]?.focus();
  };
  onKeys(panel, "filterMenu", { next: () => step(1), previous: () => step(-1) },
    ({ target }) => target.matches("input[type=number], input[type=date]"));

  function kinds() {
    kindShown = null;
    const offered = KINDS.filter((kind) => kind.id !== "not" || isSearch(state()));
    fill(panel, h("ul", { class: "menu-list" }, offered.map((kind) =>
      h("li", {}, h("button", { type: "button", class: "menu-item", data: { testid: `filter-${kind.id}` }, on: { click: () => values(kind) } },
        icon(kind.drawing), h("span", {}, kind.label))),
    )));
    panel.querySelector("button").focus();
    popover.place();
  }

  function values(kind) {
    kindShown = kind.id;
    const body = h("div", { class: "menu-body" });
    fill(panel, h("div", { class: "menu-head" }, iconButton("back", "All filters", kinds), h("h2", {}, kind.label),
      iconButton("close", "Close", done, { "data-testid": "filter-done" })), body);
    EDITORS[kind.id](body, { done, isCurrent: () => kindShown === kind.id && popover.isOpen(), place: popover.place });
    (body.querySelector("input, button") ?? panel.querySelector("button")).focus();
    popover.place();
  }

  function done() {
    popover.close();
    home.focus();
  }

  return {
    toggle(from) {
      if (popover.isOpen()) popover.close();
      else {
        popover.toggle(from);
        if (popover.isOpen()) kinds();
      }
    },
    open(from, id) {
      popover.open(from);
      const kind = KINDS.find((each) => each.id === id);
      if (kind) values(kind);
      else kinds();
    },
  };
}

/** A list of checkboxes for a facet's values, with a field that narrows it or adds a value. */
function choices(name) {
  return async (body, { isCurrent, place }) => {
    const list = h("ul", { class: "menu-list choice-list" });
    const narrow = h("input", { type: "search", placeholder: "Type to narrow", "aria-label": "Narrow the list", data: { testid: "filter-narrow" } });
    const wait = h("p", { class: "hint", role: "status" }, "Counting…");
    fill(body, narrow, wait, list);
    let found = [];
    try {
      // All tags must match, so each is counted together with the others; for other facets any
      // value may match.
      found = await facet(state(), FACETS[name] ?? name, name === "tag" ? [] : [name]);
      wait.remove();
    } catch (problem) {
      wait.textContent = `${problem.message} You can still type a value and press Enter.`;
    }
    if (!isCurrent()) return;
    const chosen = () => state().filters[name] ?? [];
    const flip = (value, isOn) => setFilter(name, isOn ? [...new Set([...chosen(), value])] : chosen().filter((other) => other !== value));
    const draw = () => {
      const typed = narrow.value.trim().toLocaleLowerCase();
      const missing = chosen().filter((value) => !found.some((each) => each.value === value)).map((value) => ({ value, count: 0 }));
      const shown = [...missing, ...found].filter((each) => each.value.toLocaleLowerCase().includes(typed));
      fill(list, shown.map(({ value, count }) => h("li", {}, h(
        "label", { class: "menu-item" },
        h("input", { type: "checkbox", checked: chosen().includes(value), data: { testid: "filter-value" }, on: { change: (event) => flip(value, event.currentTarget.checked) } }),
        h("span", { class: "menu-value" }, value), h("span", { class: "menu-count" }, number(count)),
      ))));
      if (!shown.length) fill(list, h("li", { class: "hint" }, typed ? "No such value. Press Enter to use it anyway." : "There are none yet."));
      place();
    };
    narrow.addEventListener("input", draw);
    onKeys(narrow, "filterValue", {
      take() {
        const typed = narrow.value.trim();
        const only = found.find((each) => each.value.toLocaleLowerCase() === typed.toLocaleLowerCase());
        flip(only?.value ?? typed, true);
        narrow.value = "";
        draw();
      },
    }, () => !narrow.value.trim());
    draw();
  };
}

/** A form with labelled fields that sets filters when sent. `fields` are [name, label, attributes]. */
function fields(list, { read, hint, write }) {
  return (body, { done }) => {
    const present = read(state());
    const inputs = Object.fromEntries(list.map(([name, , attributes]) =>
      [name, h("input", { ...attributes, value: present[name] ?? "", data: { testid: `filter-${name}` } })]));
    const error = h("p", { class: "field-error", role: "alert" });
    fill(body, h(
      "form", {
        class: "menu-form", on: {
          submit: (event) => {
            event.preventDefault();
            const problem = write(Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()])));
            if (problem) error.textContent = problem;
            else done();
          },
        },
      },
      list.map(([name, label]) => h("label", { class: "field" }, h("span", {}, label), inputs[name])),
      hint && h("p", { class: "hint" }, hint), error,
      h("button", { type: "submit", class: "button is-primary", data: { testid: "filter-apply" } }, "Apply"),
    ));
  };
}

const whole = { type: "number", min: "1", step: "1", inputmode: "numeric" };
const degrees = { type: "number", step: "any", inputmode: "decimal" };

const EDITORS = {
  collection: choices("collection"),
  camera: choices("camera"),
  lens: choices("lens"),
  format: choices("format"),
  country: choices("country"),
  city: choices("city"),
  async rating(body, { done, isCurrent, place }) {
    const found = await facet(state(), "rating", ["min_rating", "max_rating"]).catch(() => []);
    if (!isCurrent()) return;
    const counts = new Map(found.map(({ value, count }) => [value, count]));
    const choice = (words, least, most, count) => h("li", {}, h(
      "button", {
        type: "button", class: "menu-item", data: { testid: "filter-stars" },
        "aria-pressed": String(state().filters.min_rating === least && state().filters.max_rating === most),
        on: { click: () => { setFilters({ min_rating: least, max_rating: most }); done(); } },
      },
      h("span", { class: "menu-value" }, words), h("span", { class: "menu-count" }, number(count)),
    ));
    const atLeast = (least) => [...counts].reduce((sum, [value, count]) => sum + (Number(value) >= least ? count : 0), 0);
    fill(body, h("ul", { class: "menu-list" },
      ["5", "4", "3", "2", "1"].map((least) => choice(least === "5" ? stars("5") : `${stars(least)} or more`, least, undefined, atLeast(Number(least)))),
      choice(stars("-1"), "-1", "-1", counts.get("-1") ?? 0)));
    (body.querySelector("button")).focus();
    place();
  },
  tag: choices("tag"),
  not_tag: choices("not_tag"),
  async taken(body, context) {
    fields([["taken_from", "From", { type: "date" }], ["taken_to", "To", { type: "date" }]], {
      read: ({ filters }) => ({ taken_from: filters.taken_from?.slice(0, 10), taken_to: filters.taken_to?.slice(0, 10) }),
      write(values) {
        if (values.taken_from && values.taken_to && values.taken_from > values.taken_to) return "The first day is after the last one.";
        setFilters(values);
        return null;
      },
    })(body, context);
    const months = await facet(state(), "month", ["taken_from", "taken_to"]).catch(() => []);
    if (!context.isCurrent() || !months.length) return;
    months.sort((one, other) => (one.value < other.value ? 1 : -1));
    body.append(h("h3", { class: "menu-sub" }, "Months"), h("ul", { class: "menu-list choice-list" }, months.map(({ value, count }) => h("li", {}, h(
      "button", {
        type: "button", class: "menu-item", data: { testid: "filter-month" },
        on: { click: () => { setFilters({ taken_from: firstOf(value), taken_to: lastOf(value) }); context.done(); } },
      },
      h("span", { class: "menu-value" }, month(value)), h("span", { class: "menu-count" }, number(count)),
    )))));
    context.place();
  },
  orientation(body, { done }) {
    fill(body, h("ul", { class: "menu-list" }, Object.entries(SHAPE_NAMES).map(([value, words]) => h("li", {}, h(
      "button", { type: "button", class: "menu-item", "aria-pressed": String(state().filters.orientation === value), data: { testid: `filter-${value}` }, on: { click: () => { setFilter("orientation", value); done(); } } },
      h("span", { class: `shape is-${value}`, "aria-hidden": "true" }), h("span", {}, words),
    )))));
  },
  size: fields([["min_width", "Width from", whole], ["max_width", "Width to", whole], ["min_height", "Height from", whole], ["max_height", "Height to", whole]], {
    read: ({ filters }) => filters,
    hint: "In pixels. Leave a field empty for no limit.",
    write(values) {
      if (["width", "height"].some((side) => values[`min_${side}`] && values[`max_${side}`] && Number(values[`min_${side}`]) > Number(values[`max_${side}`]))) return "A lower bound is above its upper bound.";
      setFilters(values);
      return null;
    },
  }),
  duration: fields([["min_duration", "From", { ...whole, min: "0" }], ["max_duration", "To", { ...whole, min: "0" }]], {
    read: ({ filters }) => filters,
    hint: "In seconds. From 0 finds all videos.",
    write(values) {
      if (values.min_duration && values.max_duration && Number(values.min_duration) > Number(values.max_duration)) return "The lower bound is above the upper bound.";
      setFilters(values);
      return null;
    },
  }),
  gps: fields([["latitude", "Latitude", { ...degrees, min: "-90", max: "90" }], ["longitude", "Longitude", { ...degrees, min: "-180", max: "180" }], ["km", "Within km", { ...degrees, min: "0.01" }]], {
    read: ({ filters }) => {
      const [latitude, longitude, km] = filters.gps_near?.split(",") ?? [];
      return { latitude, longitude, km: km ?? "5" };
    },
    hint: "Degrees, positive for north and east. A photo's details have a link to nearby photos.",
    write({ latitude, longitude, km }) {
      if (!latitude || !longitude || !km) return "Enter latitude, longitude and a distance.";
      setFilter("gps_near", `${latitude},${longitude},${km}`);
      return null;
    },
  }),
  path_prefix: fields([["path_prefix", "Folder", { type: "text", spellcheck: "false", autocomplete: "off" }]], {
    read: ({ filters }) => filters,
    hint: "ROOT/folder, as shown in a photo's details. Includes subfolders.",
    write({ path_prefix: value }) {
      setFilter("path_prefix", value);
      return null;
    },
  }),
  custom: fields([["name", "Field", { type: "text", autocomplete: "off" }], ["value", "Value", { type: "text", autocomplete: "off" }]], {
    read: () => ({}),
    write({ name, value }) {
      if (!name || !value) return "Enter the field's name and its value.";
      setFilter(`custom.${name}`, value);
      return null;
    },
  }),
  not: fields([["not", "Not like these words", { type: "text", autocomplete: "off" }]], {
    read: (current) => ({ not: current.not }),
    hint: "Photos that match these words move down.",
    write({ not }) {
      go({ not });
      return null;
    },
  }),
};

