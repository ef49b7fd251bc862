/**
 * All subjects, as `GET /overview` answers page by page: the first ones at once, the others behind them.
 *
 * Exports: createFleet, STATUSES
 */

import { subjectParts } from './format.js';
import { sortText } from './table.js';

const FIRST = 100;
const MOST = 1000;
// Subjects that are read without letting the browser draw in between.
const AT_ONCE = 200;
// Status from the worst: a row shows the worst of its series.
export const STATUSES = ['stale', 'prior', 'learning', 'ready'];

/**
 * @typedef {{
 *   subject: string, status: string, alert: any, nearest: any, series: any[],
 *   kind: string, id: string, order: string, text: string, byMetric: Record<string, any>,
 * }} Row as answered, with what is searched and sorted by
 */

/**
 * @param {any} http
 * @param {AbortSignal} signal
 * @param {() => void} onChange
 */
export function createFleet(http, signal, onChange) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  /** @type {Map<string, string>} */
  const sources = new Map();
  let isComplete = false;
  /** @type {number | null} */
  let totalKnown = null;
  // Where the next renewal goes on, and who was met since it began at the first subject.
  let cursor = '';
  let met = new Set();
  // One at a time: two that go through the subjects would take what the other has met for gone.
  let isUnderWay = false;
  // Counts what has changed, so that nothing is sorted and drawn anew that is as it was.
  let version = 0;

  /** @param {number} limit @param {string} from @returns {Promise<string | null>} */
  async function page(limit, from) {
    const answer = await http.getJSON('/overview', { params: { limit, cursor: from }, signal });
    totalKnown = answer.total_known ?? totalKnown;
    let isChanged = false;
    for (const [at, one] of answer.subjects.entries()) {
      if (at % AT_ONCE === AT_ONCE - 1) await breath();
      met.add(one.subject);
      const source = JSON.stringify(one);
      if (sources.get(one.subject) === source) continue;
      sources.set(one.subject, source);
      rows.set(one.subject, rowOf(one));
      isChanged = true;
    }
    if (isChanged) version += 1;
    if (isChanged || !from) onChange();
    return answer.next_cursor;
  }

  /** The first page; the others follow without being waited for. */
  async function load() {
    isUnderWay = true;
    try {
      await step(FIRST);
    } finally {
      isUnderWay = false;
    }
    if (!isComplete) void loadRest();
  }

  async function loadRest() {
    isUnderWay = true;
    try {
      while (!isComplete && !signal.aborted) {
        await step(MOST);
        // What the reader does comes first.
        await breath(30);
      }
    } catch {
      // The next renewal goes on from here, and says what is wrong.
    } finally {
      isUnderWay = false;
    }
  }

  /** Renews up to a thousand subjects, those that were renewed longest ago. */
  async function renew() {
    if (isUnderWay) return;
    isUnderWay = true;
    try {
      await step(MOST);
    } finally {
      isUnderWay = false;
    }
  }

  /** @param {number} limit */
  async function step(limit) {
    const next = await page(limit, cursor);
    if (next === null) finish();
    else cursor = next;
  }

  function finish() {
    cursor = '';
    let isChanged = !isComplete;
    isComplete = true;
    for (const subject of rows.keys()) {
      if (met.has(subject)) continue;
      rows.delete(subject);
      sources.delete(subject);
      isChanged = true;
    }
    met = new Set();
    if (isChanged) version += 1;
    if (isChanged) onChange();
  }

  return {
    load,
    renew,
    rows: () => [...rows.values()],
    isComplete: () => isComplete,
    version: () => version,
    total: () => (isComplete ? rows.size : totalKnown),
  };
}

/** Lets the browser draw, and hear the reader. @param {number} [ms] */
function breath(ms = 0) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** @param {any} one @returns {Row} */
function rowOf(one) {
  const { kind, id } = subjectParts(one.subject);
  return {
    ...one,
    kind,
    id,
    order: sortText(id),
    text: `${one.subject} ${one.alert?.rule ?? ''} ${one.alert?.metric ?? ''}`.toLowerCase(),
    byMetric: Object.fromEntries(one.series.map((/** @type {any} */ each) => [each.metric, each])),
  };
}
