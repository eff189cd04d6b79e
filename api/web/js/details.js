// The panel beside a photograph: name, captions, tags, facts, regions and actions.

import { albumToFill, albumsToFill } from "./albums.js";
import * as api from "./api.js";
import { button, fill, h, icon, iconButton, thumb } from "./dom.js";
import { facet } from "./finding.js";
import { bytes, clock, exposure, known, moment, nameOf, number, place } from "./format.js";
import { onKeys } from "./keys.js";
import { ALBUMS, makeNames, TAGS } from "./names.js";
import { makeRating } from "./rating.js";
import { canWrite } from "./session.js";
import { state } from "./state.js";
import { toastProblem } from "./toast.js";
import { regionName } from "./why.js";
import { whyParts } from "./whycard.js";

/**
 * The details of `asset` (whole, with regions) in `place`. `actions`: {changed(asset), similar(id, target),
 * filter(name, value), album(name), part(asset), remove(asset), restore(asset), point(region | null)}.
 */
export function showDetails(place_, asset, result, actions) {
  const canEdit = canWrite() && asset.state !== "trashed";
  fill(
    place_,
    title(asset, canEdit, actions),
    captions(asset),
    trouble(asset),
    whyFound(result),
    h("div", { class: "detail-actions" }, deeds(asset, actions)),
    rated(asset, canEdit, actions),
    section("Tags", makeNames({
      kind: TAGS, names: asset.tags, canEdit, onProblem: toastProblem, onOpen: (tag) => actions.filter("tag", [tag]),
      suggest: async () => (await facet(state(), "tags", Object.keys(state().filters))).map(({ value }) => value),
      async change(tags) {
        const changed = await api.patchAsset(asset.id, { tags });
        actions.changed(changed);
        return changed.tags;
      },
    })),
    asset.state !== "trashed" && section("Albums", makeNames({
      kind: ALBUMS, names: asset.albums.map(({ name }) => name), canEdit, onProblem: toastProblem, onOpen: actions.album,
      suggest: async () => (await albumsToFill()).map(({ name }) => name),
      change: (names) => putInto(asset, names),
    })),
    asset.regions.length > 0 && (isVideo(asset) ? section("Moments", moments(asset, actions)) : section("Things in it", regions(asset, actions))),
    asset.texts?.length > 0 && section("Text in it", h("div", { class: "texts", data: { testid: "read-text" } }, asset.texts.map(({ text }) => h("p", { dir: "auto" }, text)))),
    section("Facts", facts(asset, actions)),
    Object.keys(asset.custom ?? {}).length > 0 && section("Custom fields", custom(asset, actions)),
  );
}

/** Let a photograph be in these albums, and in no others; their names as they are then. */
async function putInto(asset, names) {
  const former = asset.albums.map(({ name }) => name);
  for (const { id, name } of asset.albums) if (!names.includes(name)) await api.changeAlbum(id, { remove: [asset.id] });
  for (const name of names) if (!former.includes(name)) await api.changeAlbum((await albumToFill(name)).id, { add: [asset.id] });
  asset.albums = (await api.asset(asset.id)).albums;
  return asset.albums.map(({ name }) => name);
}

function rated(asset, canEdit, actions) {
  const stars = makeRating({
    rating: asset.facts?.rating, canEdit, onProblem: toastProblem,
    async change(rating) {
      const changed = await api.patchAsset(asset.id, { rating });
      asset.facts = changed.facts;
      actions.changed(changed);
    },
  });
  return stars && section("Rating", stars);
}

const section = (heading, ...content) => h("section", { class: "detail" }, h("h3", {}, heading), content);

function title(asset, canEdit, actions) {
  const place_ = h("div", { class: "detail-title" });
  const show = () => fill(place_, h("h2", { id: "viewer-title", dir: "auto", data: { testid: "viewer-title" } }, nameOf(asset)),
    canEdit && iconButton("edit", "Edit the title", edit, { "data-testid": "title-edit" }));
  function edit() {
    const field = h("input", { type: "text", value: asset.title ?? "", maxlength: "500", "aria-label": "Title", placeholder: asset.file_name ?? "", data: { testid: "title-input" } });
    const back = () => {
      show();
      place_.querySelector("button").focus();
    };
    const form = h("form", {
      class: "title-form", on: {
        async submit(event) {
          event.preventDefault();
          try {
            const changed = await api.patchAsset(asset.id, { title: field.value.trim() || null });
            asset.title = changed.title;
            actions.changed(changed);
            back();
          } catch (problem) {
            toastProblem(problem);
          }
        },
      },
    }, field, h("button", { type: "submit", class: "button is-small" }, "Save"));
    // The viewer stays open.
    onKeys(form, "escape", { close: (event) => { event.stopPropagation(); back(); } }, () => false);
    fill(place_, form);
    field.select();
  }
  show();
  return place_;
}

function captions(asset) {
  const whole = asset.captions.filter((caption) => !caption.region);
  if (!whole.length) return null;
  return h("div", { class: "captions", data: { testid: "captions" } }, whole.map(({ text, model }) => h("p", { dir: "auto", title: `Written by ${model}` }, text)));
}

function trouble(asset) {
  if (asset.state === "failed") return h("p", { class: "detail-trouble is-bad" }, icon("alert"), h("span", {}, `It can't be read: ${asset.failure ?? "unknown reason"}.`));
  if (asset.state === "pending") return h("p", { class: "detail-trouble" }, icon("clock"), h("span", {}, "It is waiting to be indexed. Searches find it after that."));
  if (asset.state === "trashed") return h("p", { class: "detail-trouble" }, icon("trash"), h("span", {}, "It is in the trash, so searches don't find it."));
  return null;
}

function whyFound(result) {
  const why = result ? whyParts(result) : [];
  return why.length > 0 && section("Why it was found", h("div", { class: "why-found", data: { testid: "viewer-why" } }, why));
}

function deeds(asset, actions) {
  const download = h("a", {
    class: "button", href: `${asset.urls.original}?download=true`, download: asset.file_name ?? "", data: { testid: "download" },
  }, icon("download"), h("span", {}, "Original"));
  if (asset.state === "trashed") return [canWrite() && button("Restore", () => actions.restore(asset), { drawing: "restore", class: "is-primary", "data-testid": "restore" }), download];
  return [
    asset.state === "indexed" && button("More like this", () => actions.similar(asset.id, "image"), { drawing: "similar", class: "is-primary", "data-testid": "similar" }),
    asset.width && !isVideo(asset) && button("Search by a part", () => actions.part(asset), { drawing: "crop", "data-testid": "part" }),
    download,
    canWrite() && asset.stack && button("Take out of stack", () => actions.unstack(asset), { drawing: "stack", "data-testid": "unstack" }),
    canWrite() && button("Delete", () => actions.remove(asset), { drawing: "trash", "data-testid": "delete" }),
  ];
}

function regions(asset, actions) {
  const all = asset.width * asset.height;
  return h("ol", { class: "regions", data: { testid: "regions" } }, asset.regions.map((region, position) => {
    const name = regionName(region, position + 1);
    const share = Math.max(1, Math.round((region.area / all) * 100));
    return h(
      "li",
      {
        class: "region", data: { testid: "region", region: region.id }, on: {
          pointerenter: () => actions.point(region.id), pointerleave: () => actions.point(null),
          focusin: () => actions.point(region.id), focusout: () => actions.point(null),
        },
      },
      h("button", {
        type: "button", class: "region-go", "aria-label": `More like ${name}`, title: "More like this part", data: { testid: "region-similar" },
        on: { click: () => actions.similar(region.id, "region") },
      },
      thumb(region.urls.crop),
      h("span", { class: "region-words" }, h("span", {}, name), h("span", { class: "region-size" }, `${share}% of the photo`)),
      icon("similar")),
    );
  }));
}

const isVideo = (asset) => (asset.duration_ms ?? null) !== null;

function moments(asset, actions) {
  return h("ol", { class: "regions", data: { testid: "moments" } }, asset.regions.map((moment) => h(
    "li", { class: "region is-moment", data: { testid: "moment", region: moment.id } },
    h("button", {
      type: "button", class: "region-go", "aria-label": `Go to ${clock(moment.time_ms)}`, data: { testid: "moment-go" },
      on: { click: () => actions.seek(moment) },
    },
    thumb(`${moment.urls.crop}&size=256`),
    h("span", { class: "region-words" }, h("span", {}, clock(moment.time_ms)), moment.caption && h("span", { class: "region-size", dir: "auto" }, moment.caption))),
    iconButton("similar", `More like ${clock(moment.time_ms)}`, () => actions.similar(moment.id, "region"), { "data-testid": "moment-similar" }),
  )));
}

function facts(asset, actions) {
  const of = asset.facts ?? {};
  const shot = [
    of.exposure_seconds && exposure(of.exposure_seconds), of.f_number && `f/${Number(of.f_number.toFixed(1))}`,
    of.iso && `ISO ${of.iso}`, of.focal_length_mm && `${Number(of.focal_length_mm.toFixed(1))} mm`,
  ].filter(Boolean).join(" · ");
  const camera = [of.camera_make, of.camera_model].filter(Boolean);
  const make = camera.length === 2 && camera[1].toLowerCase().startsWith(camera[0].split(" ")[0].toLowerCase()) ? camera[1] : camera.join(" ");
  const hasPlace = Number.isFinite(of.latitude) && Number.isFinite(of.longitude);
  const rows = [
    ["Taken", asset.taken_at && known(asset.taken_at, asset.taken_precision)],
    ["Camera", make && link(make, "Show all photos of this camera", () => actions.filter("camera", [of.camera_model ?? make]))],
    ["Lens", of.lens],
    ["Exposure", shot],
    ["Place", hasPlace && [h("span", {}, place(of.latitude, of.longitude)), " ", link("Photos nearby", "Show all photos within 5 km", () => actions.filter("gps_near", `${of.latitude},${of.longitude},5`))]],
    ["City", of.city && link(of.city, "Show all photos of this city", () => actions.filter("city", [of.city]))],
    ["Country", of.country && link(of.country, "Show all photos of this country", () => actions.filter("country", [of.country]))],
    ["Altitude", Number.isFinite(of.altitude_m) && `${number(Math.round(of.altitude_m))} m`],
    ["Description", of.description],
    ["Duration", isVideo(asset) && clock(asset.duration_ms)],
    ["Motion", Number.isFinite(of.motion_video_offset) && `${bytes(asset.size - of.motion_video_offset)} of video in the file`],
    ["Size", asset.width && `${number(asset.width)} × ${number(asset.height)} · ${bytes(asset.size)}${asset.format ? ` · ${asset.format}` : ""}`],
    ["Collection", link(asset.collection.name, "Show this collection", () => actions.filter("collection", [asset.collection.name]))],
    ["File", asset.file_name],
    ["Folder", asset.path?.includes("/") && link(asset.path.replace(/\/[^/]*$/, ""), "Show this folder", () => actions.filter("path_prefix", asset.path.replace(/\/[^/]*$/, "")))],
    ["Path", !asset.path && !/^(https?:|\/v1\/)/.test(asset.uri ?? "") && asset.uri],
    ["External id", asset.external_id],
    ["Added", asset.added_at && moment(asset.added_at)],
  ];
  return h("dl", { class: "facts", data: { testid: "facts" } }, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

const link = (words, tip, click) => h("button", { type: "button", class: "link", title: tip, on: { click } }, words);

function custom(asset, actions) {
  return h("dl", { class: "facts", data: { testid: "custom" } }, Object.entries(asset.custom).map(([name, value]) => {
    const isSingle = ["string", "number", "boolean"].includes(typeof value);
    const text = isSingle ? String(value) : JSON.stringify(value);
    return [h("dt", {}, name), h("dd", {}, isSingle ? link(text, `Show all photos with this ${name}`, () => actions.filter(`custom.${name}`, text)) : text)];
  }));
}
