/**
 * Runs the system view: asks for the state of the collector while the tab is seen.
 *
 * Does not know how a part is drawn.
 */

import { get } from "./api.js";
import { h } from "./dom.js";
import { figures, Rates } from "./figures.js";
import { fillFrame } from "./frame.js";
import * as panels from "./panels.js";
import { isAdmin } from "./rights.js";
import { clock, duration, LOCAL_ZONE } from "./time.js";

const STATE_MS = 2000;
const FIRST_MS = 500;
const DETAILS_MS = 30000;
const place = (id) => document.getElementById(id);
const rates = new Rates();
const parts = new Map();
let stateTimer = 0;
let detailsTimer = 0;

/** Put a panel in the place of the one with this name. A panel that is the same as before stays. */
function put(name, panel) {
  const known = parts.get(name);
  if (known?.isEqualNode(panel)) return;
  if (known) known.replaceWith(panel);
  else place("panels").append(panel);
  parts.set(name, panel);
}

async function showState() {
  clearTimeout(stateTimer);
  try {
    const state = await get("/status");
    const { collector } = state;
    rates.add(collector);
    const wasEmpty = parts.size === 0;
    if (wasEmpty) place("panels").replaceChildren();
    put("figures", figures(state, rates));
    put("stores", panels.stores(state));
    put("room", panels.room(state));
    put("processes", panels.processes(collector));
    put("connections", panels.connections(collector));
    put("outputs", panels.outputs(collector));
    put("missing", panels.missing(state));
    if (wasEmpty) showDetails();
    const summary = place("summary");
    summary.classList.remove("error-text");
    summary.textContent = `${collector.version}, up ${duration(Number(collector.uptime_s ?? 0))}, as of ${clock(Date.now() / 1000, LOCAL_ZONE)}`;
  } catch (error) {
    complain(error);
  }
  if (!document.hidden) stateTimer = setTimeout(showState, rates.rate("records") === null ? FIRST_MS : STATE_MS);
}

function complain(error) {
  place("summary").classList.add("error-text");
  place("summary").textContent = error.message;
  if (parts.size > 0) return;
  const text = "`prefork-logd status` on the collector's host tells whether it runs. This page tries again by itself.";
  place("panels").replaceChildren(h("div", { class: "state" }, h("h2", {}, "The state of the collector is not known"), h("p", {}, text)));
}

async function showDetails() {
  clearTimeout(detailsTimer);
  const details = [
    ["services", panels.services, () => Promise.all([get("/facets", { field: "service", since: "15m", top: 50 }), get("/facets", { field: "service", since: "15m", top: 50, q: "level>=ERROR" })])],
  ];
  if (isAdmin) {
    details.push(["rejected", panels.rejected, () => get("/rejected", { limit: 50 })]);
    details.push(["configuration", panels.configuration, () => get("/configuration")]);
  }
  for (const [name, draw, ask] of details) {
    try {
      put(name, draw(await ask()));
    } catch (error) {
      put(name, panels.unknown(name, error));
    }
  }
  if (!document.hidden) detailsTimer = setTimeout(showDetails, DETAILS_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(stateTimer);
  clearTimeout(detailsTimer);
  if (!document.hidden) {
    showState();
    if (parts.size > 0) showDetails();
  }
});

fillFrame();
showState();
