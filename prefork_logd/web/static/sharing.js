/**
 * Makes the times of a state absolute, so that its address shows the same records later.
 *
 * Does not know how times are written: the server reads them, by its own clock.
 */

import { get } from "./api.js";
import { href, read } from "./state.js";
import { bound, iso, zoneName } from "./time.js";

/** Return the state with absolute times. Raises ApiError. */
export async function fixed(state) {
  const until = state.until || (state.since === "all" ? "" : "now");
  const range = await get("/range", { since: bound(state.since), until, tz: zoneName(state.tz) });
  const text = (time, none) => (time === null ? none : iso(Number(time)));
  return { ...state, since: text(range.since, "all"), until: text(range.until, "") };
}

/** Return an address of the page with absolute times, as a whole URL. Raises ApiError. */
export async function lasting(address) {
  const url = new URL(address, location.href);
  return new URL(href(await fixed(read(url.search)), url.pathname), url).href;
}
