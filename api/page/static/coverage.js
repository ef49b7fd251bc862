/**
 * How often the claims held: of each cohort, and of the series that are furthest from what was claimed.
 */

import { busy, emptyState, failure, h, replace } from './dom.js';
import { MISSING, metricName, number, percent, signed, subjectHash, subjectParts, whole } from './format.js';
import { claimBadge, rangePlot } from './claims.js';

const SPANS = /** @type {const} */ ([
  ['day', 'Day'],
  ['week', 'Week'],
  ['month', 'Month'],
]);
const PAGE = 1000;
// So many pages are looked through for the worst; more series than that are told of, not read.
const MOST_PAGES = 10;
const SHOWN = 50;
const PERIOD_MS = 60_000;

/** @param {HTMLElement} root @param {{ query: URLSearchParams }} params @param {any} context */
export async function show(root, params, context) {
  const view = new CoverageView(context, params.query.get('span') ?? 'week');
  replace(
    root,
    h('header', { class: 'view-header' }, h('h1', { tabindex: '-1' }, 'Coverage'), view.spans()),
    h(
      'p',
      { class: 'lead' },
      'Each threshold claims that so many of normal hours go beyond it. Here is how many did, with the 95 % interval of what chance leaves open: a claim inside its interval holds.',
    ),
    h('section', { class: 'stack', 'aria-labelledby': 'cohorts' }, h('h2', { id: 'cohorts' }, 'Cohorts'), view.cohorts),
    h(
      'section',
      { class: 'stack', 'aria-labelledby': 'worst' },
      h('h2', { id: 'worst' }, 'Furthest from their claim'),
      view.worst,
    ),
  );
  await view.refresh(true);
  return view;
}

class CoverageView {
  /** @param {any} context @param {string} span */
  constructor(context, span) {
    this.context = context;
    this.span = SPANS.some(([name]) => name === span) ? span : 'week';
    this.readAt = -Infinity;
    this.cohorts = h('div', null, busy());
    this.worst = h('div', null, busy());
  }

  spans() {
    const choose = (/** @type {string} */ name) => {
      this.span = name;
      for (const button of group.children) button.setAttribute('aria-pressed', String(button.dataset.span === name));
      this.context.replaceHash(`#/coverage?span=${name}`);
      void this.refresh(true);
    };
    const group = h(
      'div',
      { class: 'segments', role: 'group', 'aria-label': 'Over the last' },
      SPANS.map(([name, text]) =>
        h(
          'button',
          {
            type: 'button',
            dataset: { span: name },
            'aria-pressed': String(this.span === name),
            onclick: () => choose(name),
          },
          text,
        ),
      ),
    );
    return group;
  }

  /** It changes by the hour: so much is not read every few seconds. @param {boolean} [isAsked] */
  async refresh(isAsked = false) {
    if (!isAsked && performance.now() - this.readAt < PERIOD_MS) return;
    this.readAt = performance.now();
    await Promise.all([
      this.part(this.cohorts, () => this.drawCohorts()),
      this.part(this.worst, () => this.drawWorst()),
    ]);
  }

  destroy() {}

  /** @param {HTMLElement} part @param {() => Promise<void>} draw */
  async part(part, draw) {
    try {
      await draw();
    } catch (error) {
      if (this.context.http.isAbort(error)) return;
      replace(
        part,
        failure(error, () => void this.refresh(true)),
      );
    }
  }

  async drawCohorts() {
    const { span } = this;
    const { cohorts } = await this.context.http.getJSON('/coverage/cohorts', {
      params: { span },
      signal: this.context.signal,
    });
    if (span !== this.span) return;
    const rows = cohorts.filter((/** @type {any} */ one) => one.judged > 0);
    if (rows.length === 0)
      return replace(
        this.cohorts,
        emptyState(
          'Nothing was judged in this time',
          h('p', null, 'An hour is judged once a threshold stood before it.'),
        ),
      );
    replace(
      this.cohorts,
      table('Coverage of each cohort', ['Cohort', 'Series'], rows, (one) => [
        h('th', { scope: 'row' }, cohortName(one)),
        h(
          'td',
          { class: 'number', title: one.every_nth > 1 ? `Every ${one.every_nth}th subject was looked at` : undefined },
          whole(one.series),
        ),
      ]),
    );
  }

  async drawWorst() {
    const { span } = this;
    const found = [];
    let cursor = '';
    for (let page = 0; page === 0 || (cursor && page < MOST_PAGES); page++) {
      const answer = await this.context.http.getJSON('/coverage', {
        params: { span, limit: PAGE, cursor },
        signal: this.context.signal,
      });
      found.push(...answer.series.filter((/** @type {any} */ one) => one.judged > 0));
      cursor = answer.next_cursor;
    }
    if (span !== this.span) return;
    if (found.length === 0) return replace(this.worst, h('p', { class: 'muted' }, 'None was judged.'));
    const worst = found.sort((one, other) => distance(other) - distance(one)).slice(0, SHOWN);
    replace(
      this.worst,
      h(
        'p',
        { class: 'muted' },
        `${worst.length} of ${whole(found.length)}${cursor ? ' and more' : ''} series that were judged`,
      ),
      table('Series furthest from their claim', ['Subject', 'Metric'], worst, (one) => [
        h('th', { scope: 'row' }, h('a', { href: subjectHash(one.subject, one.metric) }, subjectParts(one.subject).id)),
        h('td', null, metricName(one.metric)),
      ]),
    );
  }
}

/**
 * @param {string} caption
 * @param {string[]} first names of the columns before those that all tables have
 * @param {any[]} rows
 * @param {(row: any) => any[]} cells of the first columns
 */
function table(caption, first, rows, cells) {
  const most = Math.max(0.02, ...rows.map((row) => row.interval?.[1] ?? 0));
  const names = [
    ...first,
    'Judged',
    'Beyond',
    'Claimed',
    'Observed',
    `0 to ${percent(most)}`,
    'Claim',
    'Pinball loss',
    'Skill',
  ];
  const numbers = new Set(['Series', 'Judged', 'Beyond', 'Claimed', 'Observed', 'Pinball loss', 'Skill']);
  return h(
    'div',
    { class: 'table', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      { class: 'claims-table' },
      h('caption', { class: 'visually-hidden' }, caption),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          names.map((name) =>
            h('th', { scope: 'col', class: numbers.has(name) && 'number', title: TITLES[name] }, name),
          ),
        ),
      ),
      h(
        'tbody',
        null,
        rows.map((row) =>
          h(
            'tr',
            null,
            cells(row),
            h('td', { class: 'number' }, whole(row.judged)),
            h('td', { class: 'number' }, whole(row.exceeded)),
            h('td', { class: 'number' }, percent(row.claimed_exceedance)),
            h('td', { class: 'number' }, percent(row.observed_exceedance)),
            h('td', null, rangePlot(row, most)),
            h('td', null, claimBadge(row)),
            h('td', { class: 'number' }, number(row.pinball_loss)),
            h(
              'td',
              { class: 'number' },
              row.skill === null || row.skill === undefined ? MISSING : signed(Math.round(row.skill * 1000) / 1000),
            ),
          ),
        ),
      ),
    ),
  );
}

/** @type {Record<string, string>} */
const TITLES = {
  Judged: 'Hours that had a threshold before they came',
  Beyond: 'Hours beyond their threshold, incidents among them',
  'Pinball loss': "Mean loss of the threshold as a quantile, in the metric's unit: less is better",
  Skill:
    'How much better the threshold is than the value of a week before: 1 is perfect, 0 is no better, below 0 is worse',
};

/** `error-rate/10-100` in words. @param {any} cohort */
function cohortName({ metric, size }) {
  return [
    metricName(metric),
    size &&
      h(
        'span',
        { class: 'muted' },
        size === 'any' ? ' any size' : ` ${size.replace('<', 'under ').replace('-', ' to ')} an hour`,
      ),
  ];
}

/** How far the claim lies outside the interval, in claims; inside, how far the observed share is from it. @param {any} row */
function distance(row) {
  const claimed = row.claimed_exceedance || 0.01;
  const [low, high] = row.interval ?? [0, 1];
  if (low > claimed) return 10 + low / claimed;
  if (high < claimed) return 5 + claimed / Math.max(high, 1e-6);
  return Math.abs((row.observed_exceedance ?? claimed) - claimed) / claimed / 1000;
}
