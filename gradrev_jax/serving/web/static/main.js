// The page: what is asked (state.js) decides what is shown, and every action makes a new state.

import { Search, getAttributes, getItem, getItems } from "./api.js";
import { Asking } from "./asking.js";
import { Clock } from "./clock.js";
import { byId, element, plural, shortName, trouble } from "./dom.js";
import { Filters } from "./filters.js";
import { Gallery } from "./gallery.js";
import { Garment } from "./garment.js";
import { Photos } from "./photos.js";
import { Results } from "./results.js";
import { listenToSlider, setSlider } from "./sliders.js";
import { Steps, fromAddress, isPicked, nothing, toAddress, toggled, withChange } from "./state.js";

const FIRST = 24; // results at first, and as many more each time
const MOST = 192;
const STRONGEST = 2;
const TOGETHER = 1000; // milliseconds within which moves of one slider are one step

let state = fromAddress(location.hash);
let count = FIRST;
let lastMerge = { key: null, time: 0 };
const seen = new Map(); // items by row
const steps = new Steps();
const clock = new Clock(byId("clock"));
const search = new Search(answered, failed);
const gallery = new Gallery(
  (items) => items.forEach((item) => seen.set(item.item, item)),
  (error, again) => trouble("trouble", error, again),
);
const photos = new Photos(
  (photo, event) => go({ ...nothing(), photo, look: state.look, where: state.where }, { event }),
  (error) => trouble("trouble", error),
);
let shop, garment, asking, results, filters;

/** Goes on to another state; moves of one slider in a row, which share a key, are one step. */
function go(next, { event = null, merge = null } = {}) {
  const now = performance.now();
  const isMerged = merge !== null && merge === lastMerge.key && now - lastMerge.time < TOGETHER;
  lastMerge = { key: merge, time: now };
  const previous = state;
  if (!merge?.startsWith("typed")) clock.start(event);
  state = next;
  if (isPicked(next)) {
    if (!isPicked(previous)) steps.start(next);
    else if (isMerged) steps.replace(next);
    else if (toAddress(next) !== toAddress(previous)) steps.add(next);
  }
  const address = toAddress(next);
  if (isMerged) history.replaceState({ step: steps.index }, "", address);
  else if (address !== location.hash) history.pushState({ step: steps.index }, "", address);
  render(previous);
}

/** Takes a step back or forth. */
function step(direction, event) {
  if (!(direction < 0 ? steps.canUndo : steps.canRedo) || !isPicked(state)) return;
  const previous = state;
  state = direction < 0 ? steps.undo() : steps.redo();
  lastMerge = { key: null, time: 0 };
  clock.start(event);
  history.pushState({ step: steps.index }, "", toAddress(state));
  render(previous);
}

/** Draws the state. */
async function render(previous = null) {
  trouble("trouble");
  const picked = isPicked(state);
  const wasPicked = previous !== null && isPicked(previous);
  if (document.activeElement !== byId("name")) byId("name").value = state.name;
  if (picked && !wasPicked) gallery.scroll = scrollY;
  byId("gallery").hidden = picked;
  byId("shop").hidden = !picked;
  if (picked) await renderShop(previous, wasPicked);
  else await renderGallery(previous, wasPicked);
}

async function renderGallery(previous, wasPicked) {
  search.stop();
  byId("results").removeAttribute("aria-busy");
  document.title = shop.gallery;
  const shown = gallery.show(state.name);
  if (wasPicked) {
    scrollTo(0, gallery.scroll);
    const card = gallery.list.querySelector(`[data-item="${previous.item}"]`);
    if (document.activeElement !== byId("name"))
      (card ?? byId("gallery-title")).focus({ preventScroll: true });
  }
  if (previous !== null && previous.name !== state.name) scrollTo(0, 0);
  await shown;
  clock.shown(gallery.list);
}

async function renderShop(previous, wasPicked) {
  const current = state;
  let item;
  try {
    item = await itemOf(current);
  } catch (error) {
    if (current !== state) return;
    state = nothing();
    history.replaceState(null, "", "#");
    render(current);
    trouble("trouble", error);
    return;
  }
  if (current !== state) return;
  if (state.photo === null && item.item !== state.item) {
    state = { ...state, item: item.item };
    steps.replace(state);
    history.replaceState({ step: steps.index }, "", toAddress(state));
  }
  const isNew = !wasPicked || garment.item !== item;
  if (isNew) {
    if (!wasPicked) results.clear();
    count = FIRST;
    asking.clear();
    garment.take(null);
    document.title = `${shortName(item.name)} · ${shop.gallery}`;
  }
  garment.draw(item, state.changes);
  asking.draw(state.changes);
  filters.draw(state.where);
  byId("share").hidden = state.photo !== null;
  setSlider("strength", state.strength);
  byId("strength").disabled = state.changes.length === 0;
  setSlider("look", state.look ?? shop.look ?? 0);
  for (const [id, can] of [
    ["undo", steps.canUndo],
    ["redo", steps.canRedo],
  ])
    byId(id).setAttribute("aria-disabled", !can);
  if (isNew && previous !== null) {
    scrollTo(0, 0);
    byId("ask-title").focus({ preventScroll: true });
  }
  byId("results").setAttribute("aria-busy", "true");
  search.now(request(true), { counts: true, isMoving: !isNew, isNew });
}

async function itemOf({ item, named, photo }) {
  if (photo !== null) {
    const sent = photos.get(photo);
    if (!sent) throw new Error("An address cannot bring a photograph back. Choose it again.");
    return sent;
  }
  if (!seen.has(item)) seen.set(item, await getItem(item));
  const found = seen.get(item);
  return named === null || found.name === named ? found : itemNamed(named);
}

/** Returns the garment of a name, which is in another row than it was. */
async function itemNamed(name) {
  const { items } = await getItems({ name, limit: 200 });
  const found = items.find((item) => item.name === name);
  if (!found) throw new Error(`${shortName(name)} is no longer in this gallery.`);
  seen.set(found.item, found);
  return found;
}

/** Returns the body of a search for the state. */
function request(counts) {
  const { item, named, photo, changes, strength, where } = state;
  return {
    ...(photo === null ? { item, exclude: [item] } : { photo, exclude: [] }),
    ...(named === null ? {} : { name: named }),
    changes: changes.map((change) => ({ ...change, strength })),
    where,
    k: count,
    counts,
    ...(shop.has_look ? { look: state.look ?? shop.look } : {}),
  };
}

function answered(answer, { counts, isMoving }) {
  trouble("search-trouble");
  if (counts) garment.take(answer.counts ?? {});
  results.show(answer, { isMoving });
  byId("results").removeAttribute("aria-busy");
  byId("more").hidden = answer.items.length < count || count >= MOST;
  clock.shown(byId("results"));
}

function failed(error, { isNew }) {
  byId("results").removeAttribute("aria-busy");
  if (isNew) results.clear();
  byId("more").hidden = true;
  trouble("search-trouble", error, () => search.now(request(true), { counts: true, isMoving: true }));
}

/** Searches while a slider moves, one request at a time. */
function preview(name, value) {
  const body = request(false);
  if (name === "look") body.look = value;
  else body.changes = body.changes.map((change) => ({ ...change, strength: value }));
  search.whenFree(body, { counts: false, isMoving: true });
}

function choose(attribute, value, event) {
  const changes =
    value !== null && garment.label(attribute) === value
      ? state.changes.filter((change) => change.attribute !== attribute)
      : withChange(state.changes, attribute, value);
  go({ ...state, changes }, { event });
}

function apply(changes, event) {
  const all = changes.reduce(
    (sum, { attribute, to, unwanted }) => withChange(sum, attribute, to, unwanted),
    state.changes,
  );
  const kept = all.filter(({ attribute, to }) => to === null || to !== garment.label(attribute));
  const said = changes.map((change) => change.strength ?? 1).find((strength) => strength !== 1);
  const strength = said === undefined ? state.strength : Math.min(Math.max(said, 0), STRONGEST);
  go({ ...state, changes: kept, strength }, { event });
}

function listen() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0)
      return;
    event.preventDefault();
    const { item, named } = fromAddress(link.hash);
    if (item === null) go({ ...nothing(), name: link.id === "back" ? state.name : "" }, { event });
    else go({ ...nothing(), item, named, look: state.look, where: state.where, name: state.name }, { event });
  });
  addEventListener("popstate", (event) => {
    const previous = state;
    state = fromAddress(location.hash);
    lastMerge = { key: null, time: 0 };
    if (isPicked(state)) steps.follow(event.state?.step, state);
    clock.start(event);
    render(previous);
  });
  byId("names").addEventListener("submit", (event) => event.preventDefault());
  let typing = null;
  byId("name").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => go({ ...nothing(), name: byId("name").value.trim() }, { merge: "typed" }), 120);
  });
  byId("skip").addEventListener("click", () => {
    (isPicked(state) ? byId("results") : gallery.list).querySelector("a")?.focus();
  });
  byId("undo").addEventListener("click", (event) => step(-1, event));
  byId("redo").addEventListener("click", (event) => step(1, event));
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    if (event.target.matches("input:not([type=range], [type=checkbox])") && event.target.value) return; // the browser's own
    event.preventDefault();
    step(event.shiftKey ? 1 : -1, event);
  });
  byId("share").addEventListener("click", copyLink);
  byId("more").addEventListener("click", () => {
    count = Math.min(count + FIRST, MOST);
    search.now(request(false), { counts: false, isMoving: false });
  });
  for (const name of ["strength", "look"]) {
    listenToSlider(name, {
      onMove: (value) => preview(name, value),
      onStop: (value, event) => go({ ...state, [name]: value }, { event, merge: name }),
    });
  }
}

async function copyLink() {
  const share = byId("share");
  try {
    await navigator.clipboard.writeText(location.href);
    byId("announcement").textContent = share.textContent = "Copied";
  } catch {
    share.textContent = "Copy the address above";
  }
  setTimeout(() => {
    share.textContent = "Copy link";
  }, 2000);
}

async function start() {
  history.scrollRestoration = "manual";
  if (!isPicked(state)) gallery.show(state.name);
  try {
    shop = await getAttributes();
  } catch (error) {
    trouble("trouble", error, start);
    return;
  }
  garment = new Garment(shop, choose);
  asking = new Asking(garment, {
    apply,
    remove: (attribute, event) =>
      go({ ...state, changes: state.changes.filter((change) => change.attribute !== attribute) }, { event }),
  });
  results = new Results(garment);
  filters = new Filters(shop, garment, (attribute, value, event) =>
    go({ ...state, where: toggled(state.where, attribute, value) }, { event }),
  );
  byId("brand").textContent = shop.gallery;
  byId("look-slider").hidden = !shop.has_look;
  byId("about").replaceChildren(element("span", {}, plural(shop.items, "garment", "garments")));
  listen();
  if (isPicked(state)) {
    steps.start(state);
    history.replaceState({ step: 0 }, "", toAddress(state));
  }
  await render();
}

start();
