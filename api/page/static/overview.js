/** Every subject in a row: how it is, what it is told to people for, and how near to its threshold. */

import { badge, emptyState, h, icon, replace } from './dom.js';
import { createFleet, STATUSES } from './fleet.js';
import * as format from './format.js';
import { createSparklines } from './sparklines.js';
import { createTable } from './table.js';

const MOST_METRICS = 3;
const SEVERITIES = ['info', 'warning', 'critical'];
const NEAR = 0.8;
// How much of the distance's bar lies behind the threshold.
const BEYOND = 1.5;
const KINDS = { '': 'All', biller: 'Billers', model: 'Models' };

/**
 * @param {HTMLElement} root
 * @param {Record<string, any>} params
 * @param {any} context
 */
export async function show(root, params, context) {
  const { http, signal } = context;
  const wanted = {
    text: params.query.get('q') ?? '',
    status: params.query.get('status') ?? '',
    alert: params.query.get('alert') ?? '',
    near: params.query.get('near') ?? '',
    kind: params.query.get('kind') ?? '',
    trend: params.query.get('trend') ?? '',
  };
  const [sortKey = 'alert', direction = 'descending'] = (params.query.get('sort') ?? 'alert').split('.');
  let sorting = { key: sortKey, descending: direction !== 'ascending' };
  /** @type {string[]} */
  let metrics = [];

  const fleet = createFleet(http, signal, soon);
  const sparklines = createSparklines(http, signal, (subjects) => table.redraw('trend', subjects));
  const table = createTable({
    label: 'Subjects',
    columns: columnsOf([]),
    rowKey: (row) => row.subject,
    rowHeight: 50,
    href: (row) => format.subjectHash(row.subject),
    sorting,
    tieBreak: (one, other) => (other.nearest?.score ?? -1) - (one.nearest?.score ?? -1) || (one.order < other.order ? -1 : 1),
    rowClass: (row) => (row.alert ? `is-alert${row.alert.severity === 'critical' ? ' is-critical-row' : ''}` : ''),
    onSorted: (next) => {
      sorting = next;
      remember();
    },
    onSight: (rows) => sparklines.want(rows.map((row) => [row.subject, trendOf(row)])),
  });

  const tiles = h('div', { class: 'tiles' });
  const found = h('p', { class: 'muted small', role: 'status' });
  const trend = h('select', { 'aria-label': 'What the trend shows', onchange: () => choose('trend', trend.value) });
  const kinds = h('div', { class: 'segments', role: 'group', 'aria-label': 'Kind of subject' });
  const search = h('input', {
    type: 'search', 'data-search': '', 'aria-label': 'Search subjects', placeholder: 'Search billers and models', value: wanted.text,
    autocomplete: 'off', spellcheck: 'false', oninput: () => choose('text', search.value),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== 'ArrowDown' && event.key !== 'Enter') return;
      event.preventDefault();
      table.move(0);
    },
  });
  const toolbar = h(
    'div',
    { class: 'toolbar', role: 'search' },
    h('div', { class: 'search' }, icon('search'), search, h('kbd', { 'aria-hidden': true }, '/')),
    kinds,
    h('label', { class: 'labelled trend-choice' }, 'Trend of', trend),
    found,
  );
  /** @type {any} */
  let pipeline = null;
  let isDue = false;
  let shown = -1;

  // The broker may be slow to answer; the subjects are what people came for.
  void readPipeline().then(soon, () => undefined);
  await fleet.load();
  replace(
    root,
    h('h1', { tabindex: '-1', class: 'visually-hidden' }, 'Overview'),
    tiles,
    toolbar,
    table.element,
  );
  changed();

  async function readPipeline() {
    try {
      pipeline = await http.getJSON('/pipeline', { signal });
    } catch (error) {
      if (http.isAbort(error)) throw error;
      pipeline = null;
    }
  }

  /** @param {'text' | 'status' | 'alert' | 'near' | 'kind' | 'trend'} name @param {string} value */
  function choose(name, value) {
    wanted[name] = value;
    remember();
    changed();
  }

  /** The address says what is looked at, so that it can be kept and sent to others. */
  function remember() {
    const query = new URLSearchParams();
    if (wanted.text) query.set('q', wanted.text);
    for (const name of /** @type {const} */ (['status', 'alert', 'near', 'kind', 'trend'])) if (wanted[name]) query.set(name, wanted[name]);
    if (sorting.key !== 'alert' || !sorting.descending) query.set('sort', `${sorting.key}.${sorting.descending ? 'descending' : 'ascending'}`);
    const text = query.toString();
    context.replaceHash(text ? `#/?${text}` : '#/');
  }

  /** Several answers in a row are shown once. */
  function soon() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (signal.aborted) return;
      if (fleet.version() === shown) drawTiles(fleet.rows());
      else changed();
    });
  }

  function changed() {
    shown = fleet.version();
    const all = fleet.rows();
    const ofKind = all.filter((row) => !wanted.kind || row.kind === wanted.kind);
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = ofKind.filter(
      (row) =>
        (!wanted.status || row.status === wanted.status) &&
        (!wanted.alert || (wanted.alert === 'open' ? row.alert : row.alert?.severity === wanted.alert)) &&
        (!wanted.near || isNear(row)) &&
        words.every((word) => row.text.includes(word)),
    );
    const counts = countMetrics(ofKind);
    const common = mostCommon(counts);
    if (common.join() !== metrics.join()) {
      metrics = common;
      table.setColumns(columnsOf(metrics));
    }
    drawTiles(all);
    drawKinds(all);
    drawTrend([...counts.keys()].sort());
    table.setEmpty(emptyOf(all, rows));
    // What there is nothing to count of, or to search in, is only in the way.
    for (const part of [tiles, toolbar]) part.hidden = fleet.isComplete() && !all.length;
    table.element.classList.toggle('is-bare', tiles.hidden);
    table.setRows(rows);
    const total = fleet.total();
    const isAll = rows.length === all.length;
    const count = isAll ? format.whole(rows.length) : `${format.whole(rows.length)} of ${format.whole(all.length)}`;
    const text = fleet.isComplete() ? `${count} subjects` : `${count} subjects; loading${total ? ` ${format.whole(total)}` : ''}…`;
    if (found.textContent !== text) found.textContent = text;
  }

  /** @param {any[]} all @param {any[]} rows */
  function emptyOf(all, rows) {
    if (rows.length || !fleet.isComplete()) return null;
    if (all.length) {
      const clear = () => {
        Object.assign(wanted, { text: '', status: '', alert: '', near: '', kind: '' });
        search.value = '';
        remember();
        changed();
      };
      return emptyState('No subject matches', h('p', null, 'Nothing that is known fits the search and the filters.'), h('button', { type: 'button', onclick: clear }, 'Clear search and filters'));
    }
    return emptyState(
      'Nothing has been learned yet',
      h('p', null, 'Calls come in through the topic ', h('code', null, 'calls'), ' or ', h('code', null, 'POST /events/calls'), '. A biller appears here when its first hour has closed.'),
      h('p', null, 'To see Tidemark at work, stop it and start it with recorded calls (', h('code', null, 'make run'), '), or send made-up ones to it:'),
      h('pre', null, h('code', null, 'tidemark simulate --hours 60')),
    );
  }

  /** @param {any[]} all */
  function drawTiles(all) {
    const byStatus = Object.fromEntries(STATUSES.map((status) => [status, 0]));
    for (const row of all) byStatus[row.status] += 1;
    const alerts = all.filter((row) => row.alert);
    const critical = alerts.filter((row) => row.alert.severity === 'critical').length;
    const lag = pipeline?.topics ? pipeline.topics.reduce((/** @type {number | null} */ sum, /** @type {any} */ topic) => (topic.lag === null || sum === null ? sum : sum + topic.lag), 0) : null;
    const near = all.filter(isNear).length;
    const had = tiles.contains(document.activeElement) ? document.activeElement?.getAttribute('data-tile') : null;
    replace(
      tiles,
      tile({ name: 'Alerting', mark: alerts.length ? 'alert' : 'check', kind: critical ? 'critical' : alerts.length ? 'warning' : 'ok', value: format.whole(alerts.length), note: alerts.length ? (critical ? `${critical} critical` : 'none critical') : 'nothing is open', filter: ['alert', 'open'] }),
      tile({ name: 'Near', mark: 'up', value: format.whole(near), note: 'to a threshold: 80 % or more', filter: ['near', '1'] }),
      tile({ name: 'Ready', mark: 'check', kind: 'ok', value: format.whole(byStatus.ready), note: `of ${format.whole(all.length)} subjects`, filter: ['status', 'ready'] }),
      tile({ name: 'Learning', mark: 'learning', kind: 'learning', value: format.whole(byStatus.learning), note: 'too little known yet', filter: ['status', 'learning'] }),
      tile({ name: 'Prior', mark: 'info', value: format.whole(byStatus.prior), note: 'nothing learned yet', filter: ['status', 'prior'] }),
      tile({ name: 'Stale', mark: 'clock', value: format.whole(byStatus.stale), note: 'no data for hours', filter: ['status', 'stale'] }),
      tile({ name: 'Lag', mark: 'pause', value: format.compact(lag), note: lag === 0 ? 'everything was read' : 'records not read yet', href: '#/pipeline' }),
    );
    if (had) tiles.querySelector(`[data-tile="${had}"]`)?.focus();
  }

  /** @param {{ name: string, mark: any, kind?: string, value: string, note: any, filter?: ['alert' | 'status' | 'near', string], href?: string }} parts */
  function tile({ name, mark, kind = '', value, note, filter, href }) {
    const content = [
      h('span', { class: `tile-name ${kind ? `is-${kind}` : ''}` }, icon(mark), name),
      h('span', { class: 'tile-value' }, value),
      h('span', { class: 'tile-note' }, note),
    ];
    if (href) return h('a', { class: 'tile', href, 'data-tile': name }, content);
    if (!filter) return h('div', { class: 'tile' }, content);
    const [field, wantedValue] = filter;
    const isPressed = wanted[field] === wantedValue;
    return h('button', { type: 'button', class: 'tile', 'aria-pressed': isPressed, 'data-tile': name, onclick: () => choose(field, isPressed ? '' : wantedValue) }, content);
  }

  /** @param {any[]} all */
  function drawKinds(all) {
    const counts = { '': all.length, biller: 0, model: 0 };
    for (const row of all) counts[/** @type {'biller' | 'model'} */ (row.kind)] += 1;
    const had = kinds.contains(document.activeElement) ? document.activeElement?.getAttribute('data-kind') : null;
    replace(
      kinds,
      Object.entries(KINDS).map(([kind, name]) =>
        h('button', { type: 'button', 'data-kind': kind, 'aria-pressed': wanted.kind === kind, onclick: () => choose('kind', kind) }, name, h('span', { class: 'muted small' }, format.compact(counts[/** @type {''} */ (kind)]))),
      ),
    );
    if (had !== null) kinds.querySelector(`[data-kind="${had}"]`)?.focus();
  }

  /** @param {string[]} known metrics by slug */
  function drawTrend(known) {
    if (trend.dataset.known === known.join()) return;
    trend.dataset.known = known.join();
    replace(trend, h('option', { value: '' }, 'the nearest metric'), known.map((metric) => h('option', { value: metric, selected: metric === wanted.trend }, format.metricName(metric))));
  }

  /** @param {any} row @returns {string} */
  function trendOf(row) {
    if (wanted.trend && row.byMetric[wanted.trend]) return wanted.trend;
    return row.nearest?.metric ?? row.series[0]?.metric ?? '';
  }

  /** @param {string[]} slugs @returns {import('./table.js').Column[]} */
  function columnsOf(slugs) {
    return [
      { key: 'subject', label: 'Subject', width: 130, grow: 1.6, priority: 0, sortValue: (row) => `${row.kind} ${row.order}`, render: nameOf },
      { key: 'status', label: 'Status', width: 96, priority: 3, sortValue: (row) => STATUSES.indexOf(row.status), render: (row) => badge(row.status, format.statusKind(row.status), format.statusText(row.status)) },
      { key: 'alert', label: 'Alert', width: 92, priority: 2, startsDescending: true, sortValue: (row) => (row.alert ? SEVERITIES.indexOf(row.alert.severity) + 1 : 0), render: alertOf },
      { key: 'nearest', label: 'To its threshold', title: 'How far the last closed hour, or the last minutes, went from the estimate to the threshold: of the metric that went furthest', width: 124, grow: 2, priority: 1, startsDescending: true, sortValue: (row) => row.nearest?.score ?? null, render: distanceOf },
      { key: 'trend', label: 'Last 48 hours', width: 130, grow: 1, priority: 4, render: (row) => sparklines.draw(row.subject, trendOf(row)) },
      ...slugs.map((slug, at) => /** @type {import('./table.js').Column} */ ({
        key: slug, label: SHORT[slug] ?? format.metricName(slug), title: `${format.metricName(slug)}: its last value, and the threshold of the next hour`, width: 132, grow: 1, priority: 5 + at, align: 'end',
        startsDescending: true, sortValue: (row) => row.byMetric[slug]?.value ?? null, render: (row) => valueOf(row.byMetric[slug]),
      })),
    ];
  }

  async function refresh() {
    await Promise.all([fleet.renew(), readPipeline()]);
    soon();
  }

  return {
    refresh,
    move: table.move,
    destroy() {
      sparklines.destroy();
      table.destroy();
    },
  };
}

/** @type {Record<string, string>} */
const SHORT = { 'average-response-time': 'Response time', 'timeout-error-rate': 'Timeouts' };

/** Not told to anybody yet, but soon perhaps. @param {any} row */
function isNear(row) {
  return !row.alert && (row.nearest?.score ?? 0) >= NEAR;
}

/** How many rows have each metric. @param {any[]} rows */
function countMetrics(rows) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const row of rows) for (const one of row.series) counts.set(one.metric, (counts.get(one.metric) ?? 0) + 1);
  return counts;
}

/** The metrics of most rows. @param {Map<string, number>} counts */
function mostCommon(counts) {
  return [...counts]
    .sort(([one, many], [other, more]) => more - many || (one < other ? -1 : 1))
    .slice(0, MOST_METRICS)
    .map(([metric]) => metric)
    .sort();
}

/** @param {any} row */
function nameOf(row) {
  if (row.kind !== 'model') return row.id;
  const [name, version] = row.id.split('/');
  return [name, ' ', h('span', { class: 'tag' }, version)];
}

/** @param {any} row */
function alertOf(row) {
  if (!row.alert) return h('span', { class: 'muted' }, format.MISSING, h('span', { class: 'visually-hidden' }, 'none'));
  const { severity, metric, rule, since } = row.alert;
  return badge(severity, format.severityKind(severity), `${format.metricName(metric)}, rule ${rule}, since ${format.time(since)}`);
}

/** @param {any} row */
function distanceOf(row) {
  const score = row.nearest?.score;
  if (typeof score !== 'number') return h('span', { class: 'muted' }, format.MISSING);
  const filled = Math.min(Math.max(score, 0), BEYOND) / BEYOND;
  const state = score >= 1 ? 'is-beyond' : score >= NEAR ? 'is-near' : '';
  const text = score >= 2 ? `${Math.min(score, 999).toFixed(score < 100 ? 1 : 0)}×` : `${Math.round(Math.max(score, 0) * 100)} %`;
  return h(
    'div',
    { class: `distance ${state}`, title: `${text} of the way from the estimate to the threshold` },
    h('span', { class: 'distance-track', 'aria-hidden': true, style: { '--distance': `${(100 * filled).toFixed(1)}%` } }),
    h('span', { class: 'distance-text' }, text, score >= 1 ? h('span', { class: 'visually-hidden' }, ', beyond the threshold') : null),
    h('small', null, format.metricName(row.nearest.metric)),
  );
}

/** @param {any} series */
function unitOf({ unit, value }) {
  return unit && unit !== '1' && value !== null ? h('span', { class: 'unit' }, `\u00a0${unit}`) : null;
}

/** @param {any} series */
function valueOf(series) {
  if (!series) return h('span', { class: 'muted' }, format.MISSING);
  const isBeyond = typeof series.score === 'number' && series.score >= 1;
  return h(
    'div',
    { class: 'cell-two' },
    h('span', { class: isBeyond ? 'beyond' : null }, format.short(series.value), unitOf(series)),
    h('small', null, `${series.operator} ${format.short(series.threshold)}`),
  );
}
