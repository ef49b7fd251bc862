/**
 * Values as people read them. What is missing is an en dash. Times are in the reader's zone, with UTC in the title.
 *
 * Exports: MISSING, number, short, value, whole, compact, percent, share, signed, bytes, duration, ago, time, date, hour, clock, span,
 * timeElement, metricName, subjectParts, subjectHash, statusKind, statusText, severityKind, compareText, naturalOrder
 */

import { h } from './dom.js';

export const MISSING = '–';
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const WHOLE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const FOUR = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 4 });
const THREE = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const COMPACT = new Intl.NumberFormat(undefined, { notation: 'compact', maximumSignificantDigits: 3 });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const MINUTES = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const DAY_NAME = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });

/** @typedef {string | number | Date} Moment RFC 3339, or milliseconds since 1970 */

/** Up to four digits: 10,000 and 0.1234. @param {number | null | undefined} given */
export function number(given) {
  if (!known(given)) return MISSING;
  return Math.abs(given) >= 1000 ? WHOLE.format(given) : FOUR.format(given);
}

/** Up to three digits, for tables that are looked over. @param {number | null | undefined} given */
export function short(given) {
  if (!known(given)) return MISSING;
  return Math.abs(given) >= 1000 ? WHOLE.format(given) : THREE.format(given);
}

/** A number with its unit: `184.2 ms`, `3.1 %`; a unit of "" or "1" is left out. @param {number | null | undefined} given @param {string} [unit] */
export function value(given, unit = '') {
  if (!known(given)) return MISSING;
  return unit && unit !== '1' ? `${number(given)}\u00a0${unit}` : number(given);
}

/** @param {number | null | undefined} given */
export function whole(given) {
  return known(given) ? WHOLE.format(given) : MISSING;
}

/** 1.2K, 3.4M. @param {number | null | undefined} given */
export function compact(given) {
  return known(given) ? COMPACT.format(given) : MISSING;
}

/** Of a share from 0 to 1: `1.25 %`. @param {number | null | undefined} given */
export function percent(given) {
  return known(given) ? `${THREE.format(given * 100)}\u00a0%` : MISSING;
}

/** As `percent`. @param {number | null | undefined} given */
export const share = percent;

/** With its sign, also where it is above zero. @param {number | null | undefined} given */
export function signed(given) {
  return known(given) ? `${given > 0 ? '+' : ''}${number(given)}` : MISSING;
}

/** @param {number | null | undefined} given */
export function bytes(given) {
  if (!known(given)) return MISSING;
  const power = given < 1024 ? 0 : Math.min(Math.floor(Math.log2(given) / 10), 4);
  return `${THREE.format(given / 1024 ** power)}\u00a0${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

/** Of milliseconds, its two largest parts: `2 h 5 min`. @param {number | null | undefined} ms */
export function duration(ms) {
  if (!known(ms)) return MISSING;
  if (ms < SECOND) return `${Math.round(ms)}\u00a0ms`;
  const parts = /** @type {[number, string][]} */ ([[DAY, 'd'], [HOUR, 'h'], [MINUTE, 'min'], [SECOND, 's']]);
  const first = parts.findIndex(([size]) => ms >= size);
  const shown = [];
  let rest = ms;
  for (const [size, name] of parts.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) shown.push(`${count}\u00a0${name}`);
  }
  return shown.join(' ');
}

/** How long before `now` a moment was. @param {Moment | null | undefined} moment @param {Moment} [now] */
export function ago(moment, now = Date.now()) {
  const ms = milliseconds(moment);
  if (ms === null) return MISSING;
  const passed = (milliseconds(now) ?? 0) - ms;
  return passed < SECOND ? 'just now' : `${duration(passed)} ago`;
}

/** A moment, to the second. @param {Moment | null | undefined} moment */
export function time(moment) {
  const ms = milliseconds(moment);
  return ms === null ? MISSING : MOMENT.format(ms);
}

/** A moment, to the minute and without the year. @param {Moment | null | undefined} moment */
export function hour(moment) {
  const ms = milliseconds(moment);
  return ms === null ? MISSING : MINUTES.format(ms);
}

/** A day. @param {Moment | null | undefined} moment */
export function date(moment) {
  const ms = milliseconds(moment);
  return ms === null ? MISSING : DAY_NAME.format(ms);
}

/** The time of day, to the minute. @param {Moment | null | undefined} moment */
export function clock(moment) {
  const ms = milliseconds(moment);
  return ms === null ? MISSING : CLOCK.format(ms);
}

/** From one moment to another, the day of the second only where it is another one. @param {Moment} start @param {Moment} end */
export function span(start, end) {
  const [from, to] = [milliseconds(start), milliseconds(end)];
  if (from === null || to === null) return `${hour(start)} – ${hour(end)}`;
  const isSameDay = new Date(from).toDateString() === new Date(to).toDateString();
  return `${hour(from)} – ${isSameDay ? CLOCK.format(to) : hour(to)}`;
}

/**
 * A `<time>` with UTC as its title.
 * @param {Moment | null | undefined} moment
 * @param {(moment: Moment) => string} [shown]
 */
export function timeElement(moment, shown = time) {
  const ms = milliseconds(moment);
  if (ms === null) return h('span', null, MISSING);
  const utc = new Date(ms).toISOString();
  return h('time', { datetime: utc, title: `${utc.slice(0, 19).replace('T', ' ')} UTC` }, shown(ms));
}

/** `average-response-time` as a heading: Average response time. @param {string} slug */
export function metricName(slug) {
  const text = slug.replaceAll('-', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `biller:B1` in its parts. @param {string} subject @returns {{ kind: string, id: string }} */
export function subjectParts(subject) {
  const colon = subject.indexOf(':');
  return colon < 0 ? { kind: '', id: subject } : { kind: subject.slice(0, colon), id: subject.slice(colon + 1) };
}

/** Where a subject, or one metric of it, is shown. @param {string} subject @param {string} [metric] */
export function subjectHash(subject, metric) {
  return `#/subject/${encodeURIComponent(subject)}${metric ? `/${encodeURIComponent(metric)}` : ''}`;
}

/** The kind of badge of a series' status. @param {string} status @returns {'ok' | 'learning' | 'muted'} */
export function statusKind(status) {
  return status === 'ready' ? 'ok' : status === 'stale' ? 'muted' : 'learning';
}

const STATUS_TEXTS = {
  ready: 'Judged by what was learned of it.',
  learning: 'Too little was learned to judge it alone yet.',
  prior: 'Nothing was learned of it yet: what is known of others like it speaks.',
  stale: 'No data has come for hours: the last known state is shown.',
};

/** A status in a sentence. @param {string} status @returns {string} */
export function statusText(status) {
  return /** @type {Record<string, string>} */ (STATUS_TEXTS)[status] ?? '';
}

/** The kind of badge of a severity. @param {string} severity @returns {'critical' | 'warning' | 'info'} */
export function severityKind(severity) {
  return severity === 'critical' || severity === 'warning' ? severity : 'info';
}

/** `>` as "above", `<` as "below". @param {string} operator */
export function compareText(operator) {
  return operator.startsWith('<') ? 'below' : 'above';
}

/** Compares texts as people order them: B2 before B10. */
export const naturalOrder = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' }).compare;

/** @param {unknown} given @returns {given is number} */
function known(given) {
  return typeof given === 'number' && Number.isFinite(given);
}

/** @param {Moment | null | undefined} moment @returns {number | null} */
function milliseconds(moment) {
  if (moment === null || moment === undefined || moment === '') return null;
  const ms = moment instanceof Date ? moment.getTime() : typeof moment === 'number' ? moment : Date.parse(moment);
  return Number.isFinite(ms) ? ms : null;
}
