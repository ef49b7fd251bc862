/**
 * One metric of a subject: its chart, what is published of it now, and how often its claim held.
 *
 * Exports: Panel, RANGES
 */

import { answerPanel } from './answer.js';
import { chart } from './chart.js';
import { claimBadge, claimSentence, rangePlot } from './claims.js';
import { busy, h, replace } from './dom.js';
import { metricName, subjectParts } from './format.js';
import { HOUR_MS, predictPath } from './watched.js';

/** Name, text, and hours; null is all that is known. */
export const RANGES = /** @type {const} */ ([
  ['24h', '24 h', 24],
  ['7d', '7 d', 7 * 24],
  ['30d', '30 d', 30 * 24],
  ['all', 'All', null],
]);
const PAGE = 5000;

/** One metric: its chart, its answer, and how often its claim held. */
export class Panel {
  /** @param {any} view its subject's @param {any} item of `GET /thresholds` */
  constructor(view, item) {
    this.view = view;
    this.metric = item.metric;
    this.item = item;
    this.chart = /** @type {any} */ (null);
    this.points = /** @type {any[]} */ ([]);
    this.answer = /** @type {any} */ (null);
    this.asked = 0;
    this.shown = '';
    this.drawing = h('div', { class: 'chart' }, busy());
    this.now = h('div', null, busy());
    this.claims = h('div', { class: 'claims' });
    const heading = `metric-${item.metric}`;
    this.element = h(
      'section',
      { class: 'card metric', 'aria-labelledby': heading },
      h('h2', { id: heading }, metricName(item.metric), item.unit && h('span', { class: 'muted' }, ` ${item.unit}`)),
      h('div', { class: 'metric-columns' }, this.drawing, this.now, this.claims),
    );
  }

  /** Where what is known of it ends, in ms. */
  get end() {
    return Date.parse(this.item.last_window ?? this.item.window_start) + (this.item.last_window ? HOUR_MS : 0);
  }

  /** @param {any} item @param {Map<string, any>} live @param {boolean} isNew */
  async update(item, live, isNew) {
    this.item = item ?? this.item;
    const { http, signal } = this.view.context;
    try {
      const answer = await http.postJSON(predictPath(this.view.subject, this.metric), undefined, { signal });
      const open = live.get(this.metric) ?? null;
      const now = open !== null && Date.parse(open.start) >= this.end ? open : null;
      const shown = JSON.stringify([answer, now]);
      if (shown !== this.shown) keepOpen(this.now, () => replace(this.now, answerPanel(answer, now)));
      this.shown = shown;
      this.answer = { ...answer, live: now };
    } catch (error) {
      this.view.failed(this.now, error, () => void this.update(item, live, false));
    }
    if (isNew || this.chart === null) await this.loadHistory(false);
    else this.draw();
  }

  /** @param {boolean} isOtherRange */
  async loadHistory(isOtherRange) {
    const asked = ++this.asked;
    try {
      const points = await this.history();
      // Another range was chosen while this one was on its way.
      if (asked !== this.asked) return;
      this.points = points;
      if (this.chart === null) {
        const { unit, operator } = this.item;
        const title = `${metricName(this.metric)} of ${subjectParts(this.view.subject).id}`;
        const made = await chart(this.drawing, {
          title,
          unit,
          operator,
          onZoom: (/** @type {any} */ range) => this.view.zoom(range, this),
        });
        if (this.view.context.signal.aborted) return made.destroy();
        this.chart = made;
      }
      if (isOtherRange) this.chart.zoom(null);
      this.draw();
    } catch (error) {
      this.chart?.destroy();
      this.chart = null;
      this.view.failed(this.drawing, error, () => void this.loadHistory(isOtherRange));
    }
  }

  /** All hours of the chosen range, the oldest first. */
  async history() {
    const hours = RANGES.find(([name]) => name === this.view.range)?.[2] ?? null;
    const from = hours === null ? undefined : new Date(this.end - hours * HOUR_MS).toISOString();
    const common = { subject: this.view.subject, metric: this.metric };
    if (hours !== null) return (await this.view.get('/history', { ...common, from, limit: PAGE })).points;
    const points = [];
    let cursor = '';
    do {
      const page = await this.view.get('/history', { ...common, from: '1970-01-01T00:00:00Z', limit: PAGE, cursor });
      points.push(...page.points);
      cursor = page.next_cursor;
    } while (cursor);
    return points;
  }

  draw() {
    if (this.chart === null) return;
    const { subject, alerts, exclusions } = this.view;
    const next =
      this.answer !== null && Date.parse(this.answer.window_start) - this.end < 24 * HOUR_MS ? this.answer : null;
    this.chart.update({
      points: withNewest(this.points, this.item),
      next,
      alerts: alerts
        .filter((one) => one.subject === subject && one.metric === this.metric)
        .map((one) => ({
          from: Date.parse(one.opened),
          to: one.resolved ? Date.parse(one.resolved) : null,
          label: one.rule,
        })),
      exclusions: exclusions
        .filter((one) => !one.metric || one.metric === this.metric)
        .map((one) => ({ from: Date.parse(one.from), to: Date.parse(one.to), label: one.reason })),
    });
  }

  /** @param {import('./claims.js').Claim[]} rows one a span */
  drawClaims(rows) {
    const most = Math.max(
      0.02,
      ...rows.map((row) => Math.max(row.interval?.[1] ?? 0, 2 * (row.claimed_exceedance ?? 0))),
    );
    const item = (/** @type {any} */ row) =>
      h(
        'li',
        null,
        h('span', { class: 'claim-span' }, `Last ${row.span}`),
        claimBadge(row),
        rangePlot(row, most),
        h('p', null, claimSentence(row)),
      );
    replace(
      this.claims,
      h('h3', null, 'How often the claim held'),
      rows.some((row) => row.judged > 0)
        ? h('ul', { class: 'claim-list' }, rows.map(item))
        : h('p', { class: 'muted' }, 'No hour was judged yet: a threshold must have stood before it.'),
    );
  }

  destroy() {
    this.chart?.destroy();
  }
}

/**
 * The history has an hour once nothing can change it any more: the one that has just closed comes from the answer.
 * @param {any[]} points
 * @param {any} item of `GET /thresholds`
 */
function withNewest(points, { last_window: start, last_value: value, operator, alert }) {
  const newest = points.at(-1)?.window_start ?? '';
  if (!start || Date.parse(start) <= Date.parse(newest) || value === null) return points;
  const evidence = alert.evidence?.source === 'hour' && alert.evidence.window_start === start ? alert.evidence : null;
  const threshold = evidence?.threshold ?? null;
  const exceeded = threshold === null ? null : operator === '<' ? value < threshold : value > threshold;
  const credible = evidence === null ? null : evidence.calls >= evidence.min_calls;
  const unknown = { estimate: null, lower: null, upper: null, score: null, excluded: false };
  const judged = { threshold, exceeded, credible };
  return [
    ...points,
    { ...unknown, ...judged, window_start: start, value, count: evidence?.calls ?? null, isSettling: true },
  ];
}

/** What is open stays open where its part is shown anew. @param {HTMLElement} part @param {() => void} change */
function keepOpen(part, change) {
  const open = [...part.querySelectorAll('details')].map((one) => one.open);
  const had = part.contains(document.activeElement);
  change();
  [...part.querySelectorAll('details')].forEach((one, index) => {
    one.open = open[index] ?? false;
    if (had) one.querySelector('summary')?.focus();
  });
}
