/** The way of an event, from the broker to the history: how far behind, how fast, what was refused, and what is away. */

import { badge, failure, h, icon, replace } from './dom.js';
import * as format from './format.js';

const SHOWN_LETTERS = 20;
const STATUS_COLORS = { ready: '--ok', learning: '--learning', prior: '--border-strong', stale: '--muted' };
const STATUSES = ['ready', 'learning', 'prior', 'stale'];
const NAMES = { kafka: 'Kafka', redis: 'Redis', postgres: 'PostgreSQL' };

/**
 * @param {HTMLElement} root
 * @param {Record<string, any>} params
 * @param {any} context
 */
export async function show(root, params, { http, signal }) {
  const tiles = h('div', { class: 'tiles' });
  const topics = h('section', { class: 'stack', 'aria-labelledby': 'topics-heading' });
  const dependencies = h('section', { class: 'card', 'aria-labelledby': 'dependencies-heading' });
  const series = h('section', { class: 'card', 'aria-labelledby': 'series-heading' });
  const letters = h('section', { class: 'stack', 'aria-labelledby': 'letters-heading' });
  await refresh();
  replace(
    root,
    h('div', { class: 'view-header' }, h('h1', { tabindex: '-1' }, 'Pipeline')),
    tiles,
    h('div', { class: 'cards' }, dependencies, series),
    topics,
    letters,
  );

  async function refresh() {
    const [state, dead] = await Promise.all([
      http.getJSON('/pipeline', { signal }),
      http.getJSON('/pipeline/dead-letters', { params: { limit: SHOWN_LETTERS }, signal }).catch(refused),
    ]);
    drawTiles(state);
    drawDependencies(state.dependencies ?? {});
    drawSeries(state.series);
    drawTopics(state);
    drawLetters(dead);
  }

  /** A part that is refused must not take the others with it. @param {unknown} error */
  function refused(error) {
    if (!(error instanceof http.Problem)) throw error;
    return { error };
  }

  /** @param {any} state */
  function drawTiles(state) {
    const lag = total(state.topics, 'lag');
    const rate = total(state.topics, 'records_per_second');
    const records = state.dead_letters?.records ?? null;
    replace(
      tiles,
      tile('Lag', lag === null ? format.MISSING : format.whole(lag), lag === 0 ? 'everything was read' : 'records not read yet'),
      tile('Rate', rate === null ? format.MISSING : [format.number(rate), h('small', null, ' /s')], rate === null ? 'known from the second look on' : 'records, since the look before'),
      tile('Accepted', format.compact(state.accepted), 'events that were learned'),
      tile('Late', format.compact(state.late), 'came after their hour was closed'),
      tile('Dead letters', format.compact(records), records ? 'see below' : 'nothing was refused'),
      tile('History', format.compact(state.history_pending), state.history_pending === 0 ? 'has everything that was learned' : 'subjects have more for it'),
      tile('Clock', state.clock ? format.timeElement(state.clock, format.clock) : format.MISSING, state.clock ? `${format.date(state.clock)}, of the stream` : 'no event has come yet'),
    );
  }

  /** @param {string} name @param {any} value @param {string} note */
  function tile(name, value, note) {
    return h('div', { class: 'tile' }, h('span', { class: 'tile-name' }, name), h('span', { class: 'tile-value' }, value), h('span', { class: 'tile-note' }, note));
  }

  /** @param {Record<string, string>} states */
  function drawDependencies(states) {
    replace(
      dependencies,
      h('h2', { id: 'dependencies-heading' }, 'Dependencies'),
      h(
        'ul',
        { class: 'plain' },
        Object.entries(states).map(([name, state]) =>
          h(
            'li',
            null,
            h('span', { class: 'strong' }, /** @type {Record<string, string>} */ (NAMES)[name] ?? name),
            state === 'up' ? badge('up', 'ok') : [badge('away', 'critical'), h('p', { class: 'small muted' }, state)],
          ),
        ),
      ),
    );
  }

  /** @param {Record<string, number> | null} counts */
  function drawSeries(counts) {
    const known = /** @type {[string, number][]} */ (STATUSES.filter((status) => counts && status in counts).map((status) => [status, counts?.[status]]));
    const all = known.reduce((sum, [, count]) => sum + count, 0);
    const color = (/** @type {string} */ status) => `var(${/** @type {Record<string, string>} */ (STATUS_COLORS)[status]})`;
    replace(
      series,
      h('div', { class: 'card-header' }, h('h2', { id: 'series-heading' }, 'Series'), h('span', { class: 'muted' }, counts ? `${format.whole(all)} in all` : 'not known now')),
      h('div', { class: 'bar', 'aria-hidden': true }, known.filter(([, count]) => count).map(([status, count]) => h('span', { style: { flex: count, background: color(status) } }))),
      h(
        'ul',
        { class: 'legend plain-row' },
        known.map(([status, count]) =>
          h('li', null, h('span', { class: 'swatch', style: { background: color(status) } }), `${format.whole(count)} ${status}`),
        ),
      ),
    );
  }

  /** @param {any} state */
  function drawTopics(state) {
    const known = state.topics ?? [];
    const heading = h('h2', { id: 'topics-heading' }, 'Topics');
    if (!known.length) {
      replace(topics, heading, h('p', { class: 'muted' }, state.topics ? 'No topic was read yet.' : `Not known now: ${state.reasons?.topics ?? 'the broker does not answer'}.`));
      return;
    }
    putTable(
      topics,
      heading,
      h(
        'table',
        { 'aria-labelledby': 'topics-heading' },
        h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Topic and partition'), ['Lag', 'Reached', 'End', 'Records/s'].map((name) => h('th', { scope: 'col', class: 'number' }, name)))),
        known.map(topicRows),
      ),
    );
  }

  /** @param {any} dead */
  function drawLetters(dead) {
    const heading = h('div', { class: 'spread' }, h('h2', { id: 'letters-heading' }, 'Newest dead letters'), h('span', { class: 'muted small' }, 'What could not be used is kept with its reason: ', h('code', null, 'tidemark dead-letters replay')));
    if (dead.error) {
      replace(letters, heading, failure(dead.error));
      return;
    }
    const found = dead.dead_letters;
    if (!found.length) {
      replace(letters, heading, h('p', { class: 'quiet' }, icon('check'), 'Nothing was refused.'));
      return;
    }
    putTable(
      letters,
      heading,
      h(
        'table',
        { 'aria-labelledby': 'letters-heading' },
        h('thead', null, h('tr', null, ['When', 'Reason', 'From', 'What came'].map((name) => h('th', { scope: 'col' }, name)))),
        h('tbody', null, found.map(letterRow)),
      ),
    );
  }

  return { refresh, destroy: () => undefined };
}

/** @param {any} letter */
function letterRow(letter) {
  return h(
    'tr',
    null,
    h('td', { class: 'nowrap' }, format.timeElement(letter.time)),
    h('td', null, badge(letter.reason, letter.reason === 'late' ? 'info' : 'warning'), letter.detail && h('p', { class: 'small muted' }, letter.detail)),
    h('td', { class: 'nowrap' }, h('code', null, originOf(letter.origin))),
    h('td', null, h('code', { class: 'excerpt' }, letter.excerpt)),
  );
}

/**
 * Puts a table under its heading. It scrolls sideways where it must, by keyboard too; renewed, it stays where it was.
 * @param {HTMLElement} section @param {HTMLElement} heading @param {HTMLElement} table
 */
function putTable(section, heading, table) {
  const known = section.querySelector('.table');
  if (known) replace(known, table);
  else replace(section, heading, h('div', { class: 'table', role: 'region', tabindex: '0', 'aria-labelledby': table.getAttribute('aria-labelledby') }, table));
}

/** @param {any} topic */
function topicRows({ topic, partitions, lag, records_per_second: rate }) {
  const cell = (/** @type {any} */ content) => h('td', { class: 'number' }, content);
  return h(
    'tbody',
    null,
    h('tr', null, h('th', { scope: 'rowgroup' }, topic), cell(format.whole(lag)), cell(format.whole(total(partitions, 'reached'))), cell(format.whole(total(partitions, 'end'))), cell(format.number(rate))),
    partitions.map((/** @type {any} */ one) =>
      h('tr', { class: 'is-part' }, h('th', { scope: 'row' }, `partition ${one.partition}`), cell(format.whole(one.lag)), cell(format.whole(one.reached)), cell(format.whole(one.end)), cell('')),
    ),
  );
}

/** @param {any} origin */
function originOf({ topic, partition, offset }) {
  return [topic, partition, offset].map((part) => part ?? '?').join('/');
}

/** Null where any part is not known. @param {any[] | null} parts @param {string} name @returns {number | null} */
function total(parts, name) {
  if (!parts?.length) return null;
  return parts.reduce((sum, part) => (sum === null || part[name] === null ? null : sum + part[name]), 0);
}
