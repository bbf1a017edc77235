/**
 * Runs the view of alerts: the rules with their states, one rule, and incidents, asked for again while the tab is seen.
 *
 * Does not know how they are drawn.
 */

import { AlertActions } from "./alert_actions.js";
import { EMPTY_RULE, openForm } from "./alert_form.js";
import { incidentTable, ruleTable } from "./alert_tables.js";
import { isSilenced, ruleAddress, ruleSentence, stateBadge, thresholdOf, valueOf } from "./alert_texts.js";
import { get } from "./api.js";
import { button, h, icon, shown } from "./dom.js";
import { fillFrame } from "./frame.js";
import { ago, moment } from "./group_texts.js";
import { bind } from "./keyboard.js";
import { formatCount } from "./numbers.js";
import { panel } from "./panel.js";
import { isAdmin } from "./rights.js";
import { read } from "./state.js";
import { clock, zoneName } from "./time.js";

const AGAIN_MS = 3000;
const DEFAULTS = { rule: "", new: "", query: "", store: "", tz: "" };
const EXAMPLE = '[[receiver]]\nname = "ops"\ntype = "smtp"\nhost = "mail.example.org"\nfrom = "logs@example.org"\nto = ["ops@example.org"]';
const ENDINGS = new Set([401, 403]);
const place = (id) => document.getElementById(id);
const now_s = () => Date.now() / 1000;

let state = read(location.search, DEFAULTS);
let answer = null;
let running = null;
let timer = 0;

const zone = zoneName(state.tz);
const actions = new AlertActions({ changed: refresh, removed: () => go("/alerts"), edit });
const makeButton = button({ text: "New rule", name: "plus", kind: "primary", hidden: true, onclick: () => make({}) });

function go(address) {
  history.pushState(null, "", address);
  state = read(location.search, DEFAULTS);
  scrollTo(0, 0);
  place("panels").replaceChildren();
  refresh();
}

function edit(rule) {
  openForm(rule, rule.name, answer.receivers, (saved) => go(ruleAddress(saved.name)));
}

function make(part) {
  if (answer === null || answer.receivers.length === 0) return;
  openForm({ ...EMPTY_RULE, ...part }, "", answer.receivers, (saved) => go(ruleAddress(saved.name)));
}

/** Ask for what is seen, now and again; in place of the request that runs. */
async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const now = (running = new AbortController());
  try {
    const [alerts, { incidents }] = await Promise.all([get("/alerts", {}, now.signal), get("/alerts/incidents", { rule: state.rule, limit: 50 }, now.signal)]);
    answer = alerts;
    draw(incidents);
  } catch (error) {
    if (error.name === "AbortError" || now !== running) return;
    complain(error);
    if (ENDINGS.has(error.status)) return;
  }
  if (now === running && !document.hidden) timer = setTimeout(refresh, AGAIN_MS);
}

/** Put an element into its place on the page. One that is the same as before stays. */
function put(name, element) {
  let part = place(`part-${name}`);
  if (part === null) place("panels").append((part = h("div", { class: "slot", id: `part-${name}` })));
  if (part.childElementCount === 1 && part.firstElementChild.isEqualNode(element)) return;
  part.replaceChildren(element);
}

function draw(incidents) {
  const rule = answer.rules.find((one) => one.name === state.rule) ?? null;
  makeButton.hidden = !isAdmin || answer.receivers.length === 0 || state.rule !== "";
  actions.show(rule, isAdmin, now_s());
  const firing = answer.rules.filter((one) => one.state === "firing").length;
  const summary = place("summary");
  summary.classList.toggle("error-text", answer.problem !== "");
  if (answer.problem) summary.replaceChildren("Rules are not evaluated: ", shown(answer.problem, false));
  else if (rule) summary.replaceChildren(...(Number(rule.state_since) ? ["Since ", moment(rule.state_since, zone), ", as of "] : ["As of "]), clock(now_s(), zone));
  else summary.replaceChildren(firing ? h("b", {}, `${firing} firing`) : "Nothing is firing", `, ${formatCount(answer.rules.length, "rule")}, as of ${clock(now_s(), zone)}`);
  drawHead(rule);
  if (state.rule && rule === null) return put("rules", noRule());
  if (rule === null) put("rules", answer.rules.length ? panel("Rules", "", ruleTable(answer.rules, zone, now_s())) : noRules());
  else put("rules", definition(rule));
  if (answer.rules.length + incidents.length > 0) put("incidents", incidentPanel(incidents, rule === null));
  return null;
}

function drawHead(rule) {
  place("head").hidden = false;
  document.title = `${rule ? shown(rule.name, false).textContent : "Alerts"} - prefork-logd`;
  place("back").hidden = state.rule === "";
  place("title").replaceChildren(state.rule ? shown(state.rule, false) : "Alerts");
  place("sign").replaceChildren(...(rule ? [stateBadge(rule)] : []));
  place("results").hidden = rule === null;
}

/** Return the panel of a rule's state and its definition. */
function definition(rule) {
  const rows = [
    ["Looks for", h("span", {}, ruleSentence(rule))],
    ["Last evaluation", Number(rule.evaluated_at) ? h("span", {}, ago(rule.evaluated_at, zone, now_s()), ": ", h("b", {}, valueOf(rule)), `, ${thresholdOf(rule)}`) : "-"],
    rule.problem ? ["Problem", h("span", { class: "error-text" }, shown(rule.problem, false))] : null,
    ["Evaluated", `every ${rule.every}${rule.for && rule.for !== "0s" ? `; has to hold for ${rule.for}` : ""}`],
    ["Tells", h("span", {}, shown(rule.send.join(", "), false), rule.repeat ? `, again after ${rule.repeat}` : "", rule.resolved ? ", and when it is over" : "")],
    isSilenced(rule, now_s()) ? ["Silenced", h("span", {}, "until ", moment(rule.silenced_until, zone), rule.silenced_by ? [" by ", shown(rule.silenced_by, false)] : null)] : null,
    ["Made", rule.source === "page" ? h("span", {}, "on this page", rule.author ? [" by ", shown(rule.author, false)] : null) : "in the configuration file, where it is changed"],
  ];
  return panel("Rule", "", h("dl", { class: "definition" }, rows.filter((row) => row !== null).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

function incidentPanel(incidents, hasRules) {
  if (incidents.length === 0) return panel("Incidents", "", h("p", {}, "None so far. An incident begins when the condition of a rule holds, and is over when it no longer does."));
  return panel("Incidents", "", incidentTable(incidents, zone, now_s(), hasRules));
}

function noRules() {
  if (answer.receivers.length === 0) {
    const text = "A receiver is where notices go: a chat, a mailbox, a program. Add a [[receiver]] table to the configuration and reload; then rules can be made here.";
    return h("div", { class: "state" }, h("h2", {}, "Nobody can be told yet"), h("p", {}, text), h("pre", { class: "example", tabindex: 0, role: "group", "aria-label": "Example" }, EXAMPLE));
  }
  const text = "A rule looks for records, or for their absence, again and again, and tells people when it finds something.";
  return h("div", { class: "state" }, h("h2", {}, "No rules yet"), h("p", {}, text), isAdmin ? h("div", { class: "state-actions" }, button({ text: "Make a rule", kind: "primary", onclick: () => make({}) })) : h("p", {}, "Users with the role admin make rules."));
}

function noRule() {
  return h("div", { class: "state" }, h("h2", {}, "There is no such rule"), h("p", {}, "It was removed, or it has another name."), h("div", { class: "state-actions" }, h("a", { class: "button primary", href: "/alerts" }, "All rules")));
}

function complain(error) {
  if (place("head").hidden) drawHead(null);
  place("summary").classList.add("error-text");
  place("summary").textContent = error.message;
  if (place("panels").childElementCount === 0) put("rules", h("div", { class: "state" }, h("h2", {}, "Alerts cannot be shown"), h("p", {}, ENDINGS.has(error.status) ? "" : "This page tries again by itself.")));
}

function onClick(event) {
  const link = event.target.closest("a[data-rule], a.back");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(link.getAttribute("href"));
}

async function start() {
  fillFrame();
  place("make").append(makeButton);
  place("back").prepend(icon("back"));
  place("actions").append(actions.buttons);
  place("results").append(actions.results);
  await refresh();
  if (state.new && isAdmin) {
    const { query, store } = state;
    history.replaceState(null, "", "/alerts");
    make({ query, store });
  }
}

place("main").addEventListener("click", onClick);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
addEventListener("popstate", () => {
  state = read(location.search, DEFAULTS);
  place("panels").replaceChildren();
  refresh();
});

bind("n", "New rule", () => !makeButton.hidden && make({}));
bind("Escape", "Back to the list", () => (state.rule ? go("/alerts") : false));
start();
