/**
 * Receives records as they arrive, each once, over breaks of the connection.
 *
 * Does not know what is shown.
 */

import { address } from "./api.js";
import { parse } from "./json.js";

const RETRY_MS = 1000;
const MOST_RETRY_MS = 10000;

/**
 * A stream of the records that match a query.
 *
 * After a break it goes on behind the last record that arrived. `onBatch` gets the records that arrived since the last
 * frame was painted; `onGap` a sentence about records that cannot be shown.
 */
export class Stream {
  constructor({ onBatch, onRate, onState, onGap }) {
    this.onBatch = onBatch;
    this.onRate = onRate;
    this.onState = onState;
    this.onGap = onGap;
    this.source = null;
    this.last = "";
    this.batch = [];
    this.timer = 0;
    this.retry_ms = RETRY_MS;
    this.painting = 0;
  }

  /** Follow a query from now on, or behind a record. */
  follow(q, after = "") {
    this.stop();
    this.q = q;
    this.last = after;
    this.connect();
  }

  /** Go on behind the last record. */
  resume() {
    if (this.source === null) this.connect();
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  connect() {
    this.stop();
    const source = (this.source = new EventSource(address("/tail", { q: this.q, after: this.last })));
    source.addEventListener("open", () => {
      this.retry_ms = RETRY_MS;
      this.onState("live", "");
    });
    source.addEventListener("record", (event) => this.take(event));
    source.addEventListener("rate", (event) => this.onRate(parse(event.data)));
    source.addEventListener("gap", (event) => this.onGap(parse(event.data).message));
    source.addEventListener("error", () => this.reconnect(source.readyState === EventSource.CLOSED));
  }

  /** Try again later. The browser's own repetition gives up after an answer that is an error, so it is not used. */
  reconnect(isRefused) {
    this.stop();
    this.onState("broken", "");
    if (isRefused) this.explain();
    this.timer = setTimeout(() => this.connect(), this.retry_ms);
    this.retry_ms = Math.min(MOST_RETRY_MS, this.retry_ms * 2);
  }

  /** Ask why the stream was refused, which an EventSource does not tell. */
  async explain() {
    const asking = new AbortController();
    try {
      const answer = await fetch(address("/tail", { q: this.q, after: this.last }), { signal: asking.signal });
      if (!answer.ok && this.source === null) this.onState("broken", (await answer.json()).error.message);
    } catch {
      // The server is away, as the state says already.
    }
    asking.abort();
  }

  take(event) {
    this.last = event.lastEventId;
    this.batch.push(event.data);
    this.painting ||= requestAnimationFrame(() => this.deliver());
  }

  deliver() {
    this.painting = 0;
    const batch = this.batch;
    this.batch = [];
    this.onBatch(batch);
  }
}
