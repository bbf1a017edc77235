/**
 * Runs the view of errors: the list of groups and the page of one, each asked for again while the tab is seen.
 *
 * Does not know how they are drawn.
 */

import { get } from "./api.js";
import { button, h, shown } from "./dom.js";
import { ErrorGroup } from "./error_group.js";
import { ErrorList } from "./error_list.js";
import { fillFrame } from "./frame.js";
import { groupPath, plainTitle } from "./group_texts.js";
import { bind } from "./keyboard.js";
import { formatCount, number } from "./numbers.js";
import { href, read, show } from "./state.js";
import { clock, zoneName } from "./time.js";

const DEFAULTS = { show: "unresolved", service: "", text: "", order: "last", tz: "" };
const STATES = { unresolved: ["open", "regressed"], regressed: ["regressed"], muted: ["muted"], resolved: ["resolved"], all: [] };
const NAMES = { unresolved: "Unresolved", regressed: "Regressed", muted: "Muted", resolved: "Resolved", all: "All" };
const PAGE = 50;
const MOST = 1000;
const LIST_AGAIN_MS = 2000;
const GROUP_AGAIN_MS = 1000;
const TYPING_MS = 250;
const FINAL = new Set([401, 403, 404]);
const place = (id) => document.getElementById(id);
const now_s = () => Date.now() / 1000;

let state = filtersOfAddress();
let limit = PAGE;
let running = null;
let timer = 0;
let typing = 0;
let listScroll = 0;
let hasServices = false;

const zone = zoneName(state.tz);
const area = place("groups-area");
const list = new ErrorList(place("groups"), { open: openGroup, service: (service) => change({ service }) });
const page = new ErrorGroup(place("error-group"), zone, { changed: refresh, open: openGroup });
const [textField, serviceField, orderField] = [place("text"), place("service"), place("order")];

/** Return the filters in the address. */
function filtersOfAddress() {
  const found = read(location.search, DEFAULTS);
  return Object.hasOwn(STATES, found.show) ? found : { ...found, show: DEFAULTS.show };
}

/** Return the id in the address; "" for the list. */
function groupOfAddress() {
  const id = /^\/errors\/(.+)$/.exec(location.pathname)?.[1] ?? "";
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** Change a part of the filters. */
function change(part, isStep = true) {
  state = { ...state, ...part };
  show(state, isStep, DEFAULTS);
  showList();
}

function openGroup(id) {
  listScroll = area.scrollTop || scrollY;
  history.pushState(null, "", groupPath(id));
  showGroup();
}

function backToList() {
  history.pushState(null, "", href(state, "/errors", DEFAULTS));
  showList();
}

/** Show the list with the filters of the state. */
function showList() {
  const left = place("group-view").hidden ? null : page.details?.group.id;
  place("group-view").hidden = true;
  place("error-list").hidden = false;
  document.title = "Errors - prefork-logd";
  drawFilters();
  if (list.ids.length === 0) list.showLoading();
  list.release();
  if (left) {
    area.scrollTop = listScroll;
    scrollTo(0, listScroll);
    list.focus(left);
  } else {
    limit = PAGE;
  }
  refresh();
  if (!hasServices) loadServices();
}

/** Show the group in the address. */
function showGroup() {
  place("error-list").hidden = true;
  place("group-view").hidden = false;
  // Nothing moves while it loads: the page of the group appears as a whole.
  place("group-problem").replaceChildren(h("div", { class: "group-loading", "aria-label": "Loading" }, Array.from({ length: 4 }, () => h("span", {}))));
  place("error-group").hidden = true;
  page.clear();
  place("group-view").scrollTop = 0;
  scrollTo(0, 0);
  refresh();
}

/** Ask for what is seen, now and again; in place of the request that runs. */
async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const now = (running = new AbortController());
  try {
    if (groupOfAddress()) await refreshGroup(now.signal);
    else await refreshList(now.signal);
  } catch (error) {
    if (error.name === "AbortError" || now !== running) return;
    complain(error);
    if (FINAL.has(error.status)) return;
  }
  if (now === running && !document.hidden) timer = setTimeout(refresh, groupOfAddress() ? GROUP_AGAIN_MS : LIST_AGAIN_MS);
}

async function refreshList(signal) {
  const answer = await get("/errors", { state: STATES[state.show] ?? [], service: state.service, text: state.text, order: state.order, limit }, signal);
  drawCounts(answer.counts);
  if (answer.groups.length === 0) sayEmpty(answer.counts);
  else if (list.isInUse && list.ids.length > 0) list.update(answer.groups, zone, now_s());
  else list.show(answer.groups, zone, now_s());
  drawEnd(answer);
  const summary = place("summary");
  summary.classList.remove("error-text");
  summary.replaceChildren(h("b", {}, formatCount(answer.matching, "group")), ` of errors, as of ${clock(now_s(), zone)}`);
}

function drawEnd({ groups, matching }) {
  const end = place("groups-end");
  const isPart = groups.length < Number(matching);
  end.hidden = groups.length === 0 || !isPart;
  if (end.hidden) return end.replaceChildren();
  if (limit >= MOST) return end.replaceChildren(h("span", {}, `The first ${formatCount(MOST, "group")}. A filter finds the others.`));
  if (end.querySelector("button")) return null;
  return end.replaceChildren(button({ text: `Show ${PAGE} more`, onclick: () => {
    limit = Math.min(MOST, limit + PAGE);
    list.release();
    end.replaceChildren();
    refresh();
  } }));
}

function sayEmpty(counts) {
  const all = Object.values(counts).reduce((sum, number) => sum + Number(number), 0);
  const showAll = button({ text: "Show all groups", kind: "primary", onclick: () => change({ show: "all", service: "", text: "" }) });
  if (all === 0) return list.say("No errors so far", "An error is a record from level ERROR on, or with an exception. Its group appears here within a second or two. `prefork-logd send --level ERROR hello` makes one.");
  if (state.service || state.text) return list.say("No group matches", "No group of errors has this state, service and text.", [showAll]);
  if (state.show === "unresolved") return list.say("Nothing is unresolved", "Every group of errors is resolved or muted. One that happens again comes back by itself.", [showAll]);
  return list.say(`No group is ${NAMES[state.show].toLowerCase()}`, "Groups come here when somebody changes their state, or when a resolved error happens again.", [showAll]);
}

async function refreshGroup(signal) {
  const details = await get(`/errors/${encodeURIComponent(groupOfAddress())}`, {}, signal);
  const { id } = details.group;
  await page.ready;
  if (signal.aborted) return;
  if (id !== groupOfAddress()) history.replaceState(null, "", groupPath(id));
  place("group-problem").replaceChildren();
  place("error-group").hidden = false;
  page.show(details, now_s());
  document.title = `${plainTitle(details.group)} - prefork-logd`;
}

function complain(error) {
  const again = FINAL.has(error.status) ? "" : " This page tries again by itself.";
  if (!groupOfAddress()) {
    const summary = place("summary");
    // It is said once: above the groups that are seen, else in their place.
    const isAlone = list.ids.length === 0;
    summary.classList.toggle("error-text", !isAlone);
    summary.textContent = isAlone ? "No groups" : error.message;
    if (isAlone) list.say("Groups of errors cannot be shown", `${sentenceOf(error.message)}${again}`);
    return;
  }
  const isMissing = error.status === 404;
  place("error-group").hidden = page.details === null;
  const sentence = isMissing ? "It was removed, because there were too many groups, or the link is not complete." : again;
  place("group-problem").replaceChildren(h("div", { class: "state", role: "alert" }, h("h2", {}, isMissing ? "There is no such group" : "The group cannot be shown"), h("p", {}, shown(sentenceOf(error.message)), " ", sentence), h("div", { class: "state-actions" }, h("a", { class: "button primary", href: "/errors" }, "All groups"))));
}

/** Return a message of the server as a sentence with a full stop. */
function sentenceOf(message) {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}

function drawFilters() {
  if (document.activeElement !== textField) textField.value = state.text;
  orderField.value = state.order;
  if (![...serviceField.options].some((option) => option.value === state.service)) serviceField.append(h("option", { value: state.service }, shown(state.service, false)));
  serviceField.value = state.service;
  for (const link of place("states").querySelectorAll("a")) {
    link.href = href({ ...state, show: link.dataset.show }, "/errors", DEFAULTS);
    if (link.dataset.show === state.show) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function drawCounts(counts) {
  for (const link of place("states").querySelectorAll("a")) {
    const states = STATES[link.dataset.show];
    const sum = Object.entries(counts).reduce((total, [name, number]) => total + (states.length === 0 || states.includes(name) ? Number(number) : 0), 0);
    link.querySelector("small").textContent = number(sum);
  }
}

async function loadServices() {
  try {
    const { services } = await get("/errors/services");
    hasServices = true;
    const chosen = state.service;
    serviceField.replaceChildren(h("option", { value: "" }, "All services"), ...services.map((name) => h("option", { value: name }, shown(name, false))));
    if (chosen && !services.includes(chosen)) serviceField.append(h("option", { value: chosen }, shown(chosen, false)));
    serviceField.value = chosen;
  } catch {
    // The list has said what is wrong; the filter offers no services then.
  }
}

function moveToNeighbour(direction) {
  const { ids } = list;
  const next = ids[ids.indexOf(page.details?.group.id) + direction];
  if (next === undefined || !ids.includes(page.details?.group.id)) return;
  history.replaceState(null, "", groupPath(next));
  showGroup();
}

place("states").append(...Object.entries(NAMES).map(([name, text]) => h("a", { data: { show: name } }, h("span", {}, text), h("small", {}, "\u2007"))));
place("states").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  change({ show: link.dataset.show });
});
place("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  change({ text: textField.value.trim() });
});
textField.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ text: textField.value.trim() }, false), TYPING_MS);
});
serviceField.addEventListener("change", () => change({ service: serviceField.value }));
orderField.addEventListener("change", () => change({ order: orderField.value }));
place("error-group").addEventListener("click", (event) => {
  if (!event.target.closest("a.back") || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  backToList();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
addEventListener("popstate", () => {
  if (groupOfAddress()) return showGroup();
  state = filtersOfAddress();
  return showList();
});

bind("/", "Find groups by a text", () => !place("error-list").hidden && textField.focus());
bind("j", "Next group", () => (groupOfAddress() ? moveToNeighbour(1) : list.move(1)));
bind("k", "Group before", () => (groupOfAddress() ? moveToNeighbour(-1) : list.move(-1)));
bind("Enter", "Open the group", (event) => {
  if (groupOfAddress() || !list.chosen || event.target.closest("a, button, summary")) return false;
  openGroup(list.chosen);
  return true;
});
bind("Escape", "Back to the list", () => (groupOfAddress() ? backToList() : false));

fillFrame();
if (groupOfAddress()) showGroup();
else showList();
