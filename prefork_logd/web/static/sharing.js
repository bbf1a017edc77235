/**
 * Makes a state lasting, so that its address shows the same records later.
 *
 * Does not know how times are written: the server reads them, by its own clock.
 */

import { get } from "./api.js";
import { href, read } from "./state.js";
import { bound, iso, zoneName } from "./time.js";

/** Return the state with absolute times, and without the records that arrive from now on. Raises ApiError. */
export async function fixed(state) {
  if (state.since === "all" && !state.until) return state;
  const { q, since, until, store } = state;
  const found = await get("/lasting", { q, since: bound(since), until: bound(until), tz: zoneName(state.tz), store });
  return { ...state, q: found.q, since: found.since === null ? "all" : iso(Number(found.since)), until: iso(Number(found.until)) };
}

/** Return an address of the page with absolute times, as a whole URL. Raises ApiError. */
export async function lasting(address) {
  const url = new URL(address, location.href);
  return new URL(href(await fixed(read(url.search)), url.pathname), url).href;
}
