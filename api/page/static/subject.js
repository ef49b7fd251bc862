/**
 * One subject: its metrics over time with what is published of each, its alerts, and what was excluded.
 */

import { badge, busy, emptyState, failure, h, replace } from './dom.js';
import { metricName, naturalOrder, statusKind, statusText, subjectHash, subjectParts } from './format.js';
import { alertCards, alertTable, renewTimes } from './alert_cards.js';
import { askExclusion, exclusionList } from './exclusion.js';
import { Panel, RANGES } from './panel.js';
import { HOUR_MS, statsPath, subjectPath } from './watched.js';

const SPANS = ['day', 'week', 'month'];
const WORST = ['stale', 'prior', 'learning', 'ready'];
const PAST_ALERTS = 20;

/** @param {HTMLElement} root @param {{ subject: string, metric?: string, query: URLSearchParams }} params @param {any} context */
export async function show(root, params, context) {
  const view = new SubjectView(root, params, context);
  await view.load();
  return view;
}

class SubjectView {
  /** @param {HTMLElement} root @param {any} params @param {any} context */
  constructor(root, params, context) {
    this.root = root;
    this.context = context;
    this.subject = params.subject ?? '';
    this.metric = params.metric;
    const range = params.query.get('range');
    this.range = RANGES.some(([name]) => name === range) ? range : '7d';
    /** @type {Map<string, Panel>} */
    this.panels = new Map();
    this.zoomed = /** @type {?{ from: number, to: number }} */ (null);
    this.exclusions = /** @type {any[]} */ ([]);
    this.alerts = /** @type {any[]} */ ([]);
    this.seen = '';
    this.shownAlerts = '';
    this.updating = Promise.resolve();
    this.head = h('div', { class: 'subject-badges' });
    this.now = h('div', { class: 'subject-now' });
    this.metrics = h('div', { class: 'subject-metrics' }, busy());
    this.past = h('div', null, busy());
    this.excluded = h('div', null, busy());
  }

  async load() {
    const { id, kind } = subjectParts(this.subject);
    this.context.setTitle(id);
    const [items, alerts] = await Promise.all([this.series(), this.openAlerts()]);
    if (items.length === 0) {
      replace(
        this.root,
        h('h1', { tabindex: '-1' }, id || 'No subject'),
        emptyState(
          'Nothing is known of it yet',
          h('p', null, 'A threshold stands here after its first hour. ', h('a', { href: '#/' }, 'To the overview')),
        ),
      );
      return;
    }
    replace(
      this.root,
      h(
        'header',
        { class: 'view-header' },
        h('nav', { class: 'crumbs', 'aria-label': 'Way back' }, h('a', { href: '#/' }, 'Overview'), ` / ${kind}`),
        h('div', { class: 'title-row' }, h('h1', { tabindex: '-1' }, id), this.head),
      ),
      this.now,
      h(
        'div',
        { class: 'toolbar' },
        this.ranges(),
        h('button', { type: 'button', onclick: () => this.exclude() }, 'Exclude a window'),
      ),
      this.metrics,
      h(
        'section',
        { class: 'card', 'aria-labelledby': 'past-alerts' },
        h('h2', { id: 'past-alerts' }, 'Alerts'),
        this.past,
      ),
      h(
        'section',
        { class: 'card', 'aria-labelledby': 'excluded-windows' },
        h('h2', { id: 'excluded-windows' }, 'Excluded windows'),
        this.excluded,
      ),
    );
    this.build(items);
    // What is known stands at once; its parts come as they are answered.
    this.showAlerts(items, alerts);
    this.updating = this.update(items, alerts, true).catch((error) => this.told(error));
    const wanted = this.panels.get(this.metric ?? '');
    if (wanted !== undefined && this.panels.size > 1)
      requestAnimationFrame(() => wanted.element.scrollIntoView({ block: 'start' }));
  }

  async refresh() {
    await this.updating;
    const [items, alerts] = await Promise.all([this.series(), this.openAlerts()]);
    if (items.some((/** @type {any} */ one) => !this.panels.has(one.metric)))
      return this.panels.size ? this.build(items, true) : this.load();
    await this.update(items, alerts, false);
  }

  /** @param {any} error */
  told(error) {
    if (!this.context.http.isAbort(error)) this.context.notify(error.message, 'error');
  }

  destroy() {
    for (const panel of this.panels.values()) panel.destroy();
  }

  /** What is published of each of its metrics. @returns {Promise<any[]>} */
  async series() {
    const { kind, id } = subjectParts(this.subject);
    if (!id) return [];
    const params = { kind, prefix: id, limit: 200 };
    const { thresholds } = await this.get('/thresholds', params);
    return thresholds
      .filter((/** @type {any} */ one) => one.subject === this.subject)
      .sort((/** @type {any} */ one, /** @type {any} */ other) => naturalOrder(one.metric, other.metric));
  }

  /** @param {string} path @param {any} [params] */
  get(path, params) {
    return this.context.http.getJSON(path, { params, signal: this.context.signal });
  }

  /** A panel for each metric that has none yet. @param {any[]} items @param {boolean} [isLate] */
  build(items, isLate = false) {
    if (!isLate) replace(this.metrics);
    for (const item of items) {
      if (this.panels.has(item.metric)) continue;
      const panel = new Panel(this, item);
      this.panels.set(item.metric, panel);
      this.metrics.append(panel.element);
    }
  }

  ranges() {
    const choose = (/** @type {string} */ name) => {
      this.range = name;
      this.zoomed = null;
      for (const button of group.children) button.setAttribute('aria-pressed', String(button.dataset.range === name));
      this.context.replaceHash(`${subjectHash(this.subject, this.metric)}?range=${name}`);
      for (const panel of this.panels.values()) void panel.loadHistory(true);
    };
    const group = h(
      'div',
      { class: 'segments', role: 'group', 'aria-label': 'Range of the charts' },
      RANGES.map(([name, text]) =>
        h(
          'button',
          {
            type: 'button',
            dataset: { range: name },
            'aria-pressed': String(this.range === name),
            onclick: () => choose(name),
          },
          text,
        ),
      ),
    );
    return group;
  }

  /** @returns {Promise<any[]>} */
  async openAlerts() {
    const { kind, id } = subjectParts(this.subject);
    if (!id) return [];
    const { alerts } = await this.get('/alerts', { kind, subject: globbed(id), limit: 100 });
    return alerts.filter((/** @type {any} */ one) => one.subject === this.subject);
  }

  /** @param {any[]} items @param {any[]} alerts */
  showAlerts(items, alerts) {
    const worst = items.map((one) => one.status).sort((one, other) => WORST.indexOf(one) - WORST.indexOf(other))[0];
    replace(
      this.head,
      badge(worst, statusKind(worst), statusText(worst)),
      alerts.length > 0 && badge(alerts.length === 1 ? '1 open alert' : `${alerts.length} open alerts`, 'critical'),
    );
    const shown = JSON.stringify(alerts);
    if (shown === this.shownAlerts) return renewTimes(this.now);
    this.shownAlerts = shown;
    const options = { changed: () => this.changed(), isOwnSubject: true };
    keepFocus(this.now, () => replace(this.now, alerts.length > 0 && alertCards(this.context, alerts, options)));
  }

  /** @param {any[]} items @param {any[]} alerts @param {boolean} isFirst */
  async update(items, alerts, isFirst) {
    this.showAlerts(items, alerts);
    const seen = JSON.stringify([
      items.map((one) => one.last_window),
      alerts.map((one) => [one.id, one.acknowledged_by, one.opinion]),
    ]);
    const isNew = isFirst || seen !== this.seen;
    if (isNew) {
      this.seen = seen;
      await Promise.all([this.loadPast(), this.loadExclusions()]);
      void this.loadClaims();
    }
    const live = await this.live();
    await Promise.all(
      [...this.panels.values()].map((panel) =>
        panel.update(
          items.find((one) => one.metric === panel.metric),
          live,
          isNew,
        ),
      ),
    );
  }

  /** After an action: everything that it can have changed. */
  changed() {
    this.seen = '';
    void this.refresh().catch((error) => this.told(error));
  }

  /** The hour that is still open, by metric; nothing where that cannot be had. */
  async live() {
    try {
      const { windows } = await this.get(statsPath(this.subject), { step: '1h', latest: true });
      const found = new Map();
      for (const { start, metrics } of windows ?? []) {
        for (const [name, one] of Object.entries(metrics))
          found.set(name.replaceAll('_', '-'), {
            start,
            value: /** @type {any} */ (one).mean,
            count: /** @type {any} */ (one).count,
          });
      }
      return found;
    } catch (error) {
      if (this.context.http.isAbort(error)) throw error;
      return new Map();
    }
  }

  async loadPast() {
    try {
      const { alerts } = await this.get('/alerts/history', { subject: this.subject, limit: 1000 });
      this.alerts = alerts;
      const { id } = subjectParts(this.subject);
      replace(
        this.past,
        alerts.length === 0
          ? h('p', { class: 'muted' }, 'None was ever opened.')
          : alertTable(alerts.slice(0, PAST_ALERTS), {
              isOwnSubject: true,
              caption: `Alerts of ${id}, the newest first`,
            }),
        alerts.length > PAST_ALERTS &&
          h(
            'p',
            null,
            h(
              'a',
              { href: `#/alerts/history?subject=${encodeURIComponent(this.subject)}` },
              `All ${alerts.length === 1000 ? 'of them' : alerts.length}`,
            ),
          ),
      );
    } catch (error) {
      this.failed(this.past, error, () => this.loadPast());
    }
  }

  /** How often the claims of all metrics held. */
  async loadClaims() {
    const panels = [...this.panels.values()];
    try {
      const asked = SPANS.map((span) => this.get('/coverage', { subject: this.subject, span, limit: 1000 }));
      const rows = (await Promise.all(asked)).flatMap((one) => one.series);
      for (const panel of panels)
        panel.drawClaims(rows.filter((/** @type {any} */ row) => row.metric === panel.metric));
    } catch (error) {
      for (const panel of panels) this.failed(panel.claims, error, () => void this.loadClaims());
    }
  }

  async loadExclusions() {
    try {
      const answer = await this.get(`${subjectPath(this.subject)}/exclusions`);
      this.exclusions = answer.exclusions;
      replace(
        this.excluded,
        exclusionList(this.context, this.subject, this.exclusions, () => this.changed()),
      );
    } catch (error) {
      this.failed(this.excluded, error, () => this.loadExclusions());
    }
  }

  /** One part could not be had: the others are shown all the same. @param {HTMLElement} part @param {any} error @param {() => void} retry */
  failed(part, error, retry) {
    if (!this.context.http.isAbort(error)) replace(part, failure(error, retry));
  }

  /** @param {string} [metric] */
  async exclude(metric) {
    const last = Math.max(...[...this.panels.values()].map((panel) => panel.end));
    const { from, to } = this.zoomed ?? { from: last - HOUR_MS, to: last };
    const done = await askExclusion(this.context, this.subject, { from, to, metric, metrics: [...this.panels.keys()] });
    if (done) this.changed();
  }

  /** All charts show the same time. @param {?{ from: number, to: number }} range @param {Panel} origin */
  zoom(range, origin) {
    this.zoomed = range;
    for (const panel of this.panels.values()) if (panel !== origin) panel.chart?.zoom(range);
  }
}

/** The focus stays on the same alert and button. @param {HTMLElement} part @param {() => void} change */
function keepFocus(part, change) {
  const label = part.contains(document.activeElement) ? document.activeElement?.getAttribute('aria-label') : null;
  change();
  if (label) /** @type {HTMLElement | null} */ (part.querySelector(`[aria-label="${CSS.escape(label)}"]`))?.focus();
}

/** What a glob takes for exactly this text. @param {string} text */
function globbed(text) {
  return text.replaceAll(/[*?[\]]/g, '?');
}
