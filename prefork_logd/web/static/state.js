/**
 * Keeps the page's state in its address.
 *
 * Knows the parameters and their defaults. Does not know what they do.
 */

const DEFAULTS = {
  q: "",
  since: "1h",
  until: "",
  tz: "",
  store: "",
  order: "newest",
  columns: "service,name",
  record: "",
  around: "",
  same: "",
  before: "10",
  after: "10",
  view: "records",
  stats: "count by service",
};

/** Return the state of an address's search part. Unknown parameters are left out. */
export function read(search = location.search, defaults = DEFAULTS) {
  const given = new URLSearchParams(search);
  return Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, given.get(name) ?? value]));
}

/** Return the search part of the address of a state, defaults left out. */
function write(state, defaults) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(defaults)) if (state[name] !== value) query.set(name, state[name]);
  const text = query.toString();
  return text ? `?${text}` : "";
}

/** Return the address of a state of a view (`/`, `/tail`). */
export function href(state, path = location.pathname, defaults = DEFAULTS) {
  return path + write(state, defaults);
}

/** Show a state in the address bar; with `isStep` the reader comes back to the one before by the Back button. */
export function show(state, isStep, defaults = DEFAULTS) {
  const target = href(state, location.pathname, defaults);
  if (target === location.pathname + location.search) return;
  if (isStep) history.pushState(null, "", target);
  else history.replaceState(null, "", target);
}

/** Return the chosen columns: fields as they are written in a query, which may have commas in quotes. */
export function columnsOf(state) {
  return state.columns.match(/(?:"[^"]*"|[^,"])+/g) ?? [];
}
