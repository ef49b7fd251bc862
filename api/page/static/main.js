/**
 * The frame around the views: which one the address names, its life, the keyboard, and what is said at the edge.
 *
 * A view module exports `async show(root, params, context)` and answers `{ refresh(), destroy(), move?(by) }`.
 * - `root` is an empty element in `<main>`; the view puts its `<h1 tabindex="-1">` in it, which takes the focus.
 * - `params` has what the address names (`subject`, `metric`, `tab`) and `query`, a URLSearchParams of `#/…?a=b`.
 * - `context` is `{ http, navigate(hash), replaceHash(hash), notify(text, kind), signal, setTitle(text) }`; `signal` is
 *   aborted when the view is left. `kind` is 'ok', 'info' or 'error'.
 * - `refresh()` is called every five seconds while the document is visible, and by the key r. It may throw a Problem:
 *   the frame then says that what is shown is old, and goes on.
 * - `move(by)` is called for j, k and the arrows; without it the elements marked `data-row` take the focus in turn.
 * - The element marked `data-search` takes the focus for /.
 */

import { failure, h, icon, openDialog, replace } from './dom.js';
import * as http from './http.js';
import { askForKey } from './key.js';
import * as theme from './theme.js';

const PERIOD_MS = 5000;
const NOTICE_MS = 6000;
const CHORD_MS = 1200;

/** Each view's module, by the first part of the address. */
const VIEWS = {
  '': { name: 'overview', load: () => import('./overview.js') },
  subject: { name: 'subject', load: () => import('./subject.js') },
  alerts: { name: 'alerts', load: () => import('./alerts.js') },
  rules: { name: 'rules', load: () => import('./rules.js') },
  pipeline: { name: 'pipeline', load: () => import('./pipeline.js') },
  coverage: { name: 'coverage', load: () => import('./coverage.js') },
};

const CHORDS = { o: '#/', a: '#/alerts', r: '#/rules', p: '#/pipeline', c: '#/coverage' };

const main = /** @type {HTMLElement} */ (document.getElementById('main'));
const connection = /** @type {HTMLElement} */ (document.getElementById('connection'));
const notices = /** @type {HTMLElement} */ (document.getElementById('notices'));
const alertCount = /** @type {HTMLElement} */ (document.getElementById('alert-count'));

/** @typedef {{ refresh(): Promise<void> | void, destroy(): void, move?(by: number): void }} View */

/** @type {View | null} */
let view = null;
let leaving = new AbortController();
let isRefreshing = false;
let wantsFocus = false;
/** @type {Date | null} */
let answeredAt = null;

/** @returns {{ first: string, params: Record<string, any> }} */
function place() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?', 2);
  const [first = '', ...rest] = path.split('/').map(decoded);
  const params = { query: new URLSearchParams(query) };
  if (first === 'subject') return { first, params: { ...params, subject: rest[0], metric: rest[1] } };
  if (first === 'alerts') return { first, params: { ...params, tab: rest[0] === 'history' ? 'history' : 'open' } };
  return { first, params };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function route() {
  leaving.abort();
  leaving = new AbortController();
  view?.destroy();
  view = null;
  const { signal } = leaving;
  const { first, params } = place();
  const wanted = /** @type {Record<string, any>} */ (VIEWS)[first];
  for (const link of document.querySelectorAll('[data-view]')) {
    if (/** @type {HTMLElement} */ (link).dataset.view === wanted?.name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  showTab();
  const root = h('div', { class: `view view-${wanted?.name ?? 'unknown'}` });
  replace(main, root);
  setTitle(wanted ? wanted.name.charAt(0).toUpperCase() + wanted.name.slice(1) : 'Not found');
  if (!wanted) {
    replace(root, h('h1', { tabindex: '-1' }, 'There is nothing here'), h('p', null, h('a', { href: '#/' }, 'To the overview')));
    return focusHeading();
  }
  const module = await loaded(wanted, root, signal);
  if (!module || signal.aborted) return;
  try {
    const shown = await module.show(root, params, { http, navigate, replaceHash, notify, signal, setTitle });
    if (signal.aborted) return shown.destroy();
    view = shown;
    connected();
  } catch (error) {
    if (http.isAbort(error) || signal.aborted) return;
    disconnected(error);
    replace(root, h('h1', { tabindex: '-1' }, document.title.split(' · ')[0]), failure(error, () => void refresh()), h('p', { class: 'muted' }, `It is asked again every ${PERIOD_MS / 1000} seconds.`));
    view = again(module, params, signal);
  }
  focusHeading();
}

/**
 * In place of a view that could not be shown: each refresh tries to, and what says why stays until one succeeds.
 * @param {any} module @param {Record<string, any>} params @param {AbortSignal} signal
 * @returns {View}
 */
function again(module, params, signal) {
  const refresh = async () => {
    const root = h('div', { class: main.firstElementChild?.className });
    const shown = await module.show(root, params, { http, navigate, replaceHash, notify, signal, setTitle });
    if (signal.aborted) return shown.destroy();
    replace(main, root);
    view = shown;
  };
  return { refresh, destroy: () => undefined };
}

/** On narrow screens not all tabs are in sight. */
function showTab() {
  const tab = /** @type {HTMLElement | null} */ (document.querySelector('.tabs [aria-current]'));
  const tabs = tab?.parentElement;
  if (tab && tabs) tabs.scrollLeft = tab.offsetLeft - (tabs.clientWidth - tab.offsetWidth) / 2;
}

/** @param {any} wanted @param {HTMLElement} root @param {AbortSignal} signal */
async function loaded(wanted, root, signal) {
  try {
    return await wanted.load();
  } catch (error) {
    console.warn('view.not_loaded', wanted.name, String(error));
    if (signal.aborted) return null;
    const why = {
      title: 'This view could not be loaded',
      detail: 'The API was updated since this page was opened, or it does not answer. Reloading the page helps.',
    };
    replace(root, h('h1', { tabindex: '-1' }, document.title.split(' · ')[0]), failure(why, () => location.reload()));
    focusHeading();
    return null;
  }
}

function focusHeading() {
  // The first view of all must not take the focus from where the reader has put it.
  if (wantsFocus) /** @type {HTMLElement | null} */ (main.querySelector('h1'))?.focus({ preventScroll: true });
  if (wantsFocus) window.scrollTo(0, 0);
  wantsFocus = true;
}

/** @param {string} text */
function setTitle(text) {
  document.title = text ? `${text} · Tidemark` : 'Tidemark';
}

/** @param {string} hash */
function navigate(hash) {
  location.hash = hash;
}

/** Changes the address without showing anything anew, for what a view keeps there. @param {string} hash */
function replaceHash(hash) {
  history.replaceState(null, '', hash);
}

/** Ask for a key, and show the view again once the API has taken one. */
async function letIn() {
  if (await askForKey(tryKey)) {
    await route();
    await countAlerts();
  }
}

/** @param {Record<string, string>} headers */
async function tryKey(headers) {
  try {
    await http.getJSON('/thresholds', { params: { limit: 1 }, headers });
  } catch (error) {
    // Who may not look at this may look at other things.
    if (!(error instanceof http.Problem && error.status === 403)) throw error;
  }
}

async function refresh() {
  if (!view || isRefreshing) return;
  isRefreshing = true;
  try {
    await view.refresh();
    connected();
  } catch (error) {
    if (!http.isAbort(error)) disconnected(error);
  } finally {
    isRefreshing = false;
  }
  await countAlerts();
}

async function countAlerts() {
  try {
    const { total } = await http.getJSON('/alerts', { params: { limit: 1 } });
    alertCount.textContent = total;
    alertCount.setAttribute('aria-label', `, ${total} open`);
    alertCount.hidden = !total;
  } catch {
    // What the number was is old news by then, and the view has said why.
    alertCount.hidden = true;
  }
}

function connected() {
  answeredAt = new Date();
  connection.className = 'connection is-live';
  connection.title = `Renewed every ${PERIOD_MS / 1000} seconds`;
  setConnection('Live');
}

/** @param {unknown} error */
function disconnected(error) {
  connection.className = 'connection is-away';
  connection.title = error instanceof Error ? error.message : String(error);
  setConnection(answeredAt ? `Not renewed since ${answeredAt.toLocaleTimeString()}` : 'No data');
  if (!(error instanceof http.Problem)) console.error(error);
}

/** A status that says the same again is not read out again. @param {string} text */
function setConnection(text) {
  if (connection.textContent !== text) connection.textContent = text;
}

/** @param {string} text @param {'ok' | 'info' | 'error'} [kind] */
function notify(text, kind = 'info') {
  const close = () => notice.remove();
  const notice = h(
    'div',
    { class: `notice notice-${kind}` },
    icon(kind === 'ok' ? 'check' : kind === 'error' ? 'alert' : 'info'),
    h('span', null, text),
    h('button', { type: 'button', class: 'button-icon', 'aria-label': 'Dismiss', onclick: close }, icon('close')),
  );
  notices.append(notice);
  while (notices.childElementCount > 4) notices.firstElementChild?.remove();
  // What went wrong stays until it was read.
  if (kind !== 'error') setTimeout(close, NOTICE_MS);
}

function help() {
  const rows = [
    ['/', 'Search'],
    ['j k', 'Next and previous row; the arrows do the same'],
    ['Enter', 'Open the row'],
    ['g then o a r p c', 'Overview, alerts, rules, pipeline, coverage'],
    ['r', 'Renew now'],
    ['Escape', 'Close what is open'],
    ['?', 'This help'],
  ];
  openDialog(
    'Keyboard and help',
    h('dl', { class: 'keys' }, rows.map(([keys, text]) => [h('dt', null, keys.split(' ').map(key)), h('dd', null, text)])),
    h(
      'p',
      null,
      'A threshold is the highest value that is still normal in the next hour (the lowest, where lower is worse). ',
      'Everything here comes from the ',
      h('a', { href: '/docs' }, 'API'),
      '; see also ',
      h('a', { href: '/readyz' }, 'readiness'),
      ' and ',
      h('a', { href: '/metrics' }, 'metrics for Prometheus'),
      '.',
    ),
  );
}

/** @param {string} text */
function key(text) {
  return text === 'then' ? ' then ' : h('kbd', null, text);
}

let chordAt = -Infinity;

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector('dialog[open]')) return;
  const target = /** @type {HTMLElement} */ (event.target);
  const isTyping = target.matches('input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]');
  if (isTyping) {
    if (event.key === 'Escape') target.blur();
    return;
  }
  const isChord = event.timeStamp - chordAt < CHORD_MS;
  chordAt = -Infinity;
  if (isChord && event.key in CHORDS) navigate(/** @type {any} */ (CHORDS)[event.key]);
  else if (event.key === 'g') chordAt = event.timeStamp;
  else if (event.key === '/') /** @type {HTMLElement | null} */ (main.querySelector('[data-search]'))?.focus();
  else if (event.key === '?') help();
  else if (event.key === 'r') void refresh();
  else if (event.key === 'j' || (event.key === 'ArrowDown' && isFree(target))) move(1);
  else if (event.key === 'k' || (event.key === 'ArrowUp' && isFree(target))) move(-1);
  else return;
  event.preventDefault();
}

/** Whether the arrows are not taken by what has the focus. @param {HTMLElement} target */
function isFree(target) {
  return !target.closest('[role=tablist], [role=radiogroup], [data-arrows], [type=radio]');
}

/** @param {number} by */
function move(by) {
  if (view?.move) return view.move(by);
  const rows = /** @type {HTMLElement[]} */ ([...main.querySelectorAll('[data-row]')]);
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
  rows[next].focus();
}

const themeButton = /** @type {HTMLElement} */ (document.getElementById('theme'));
const showTheme = () => replace(themeButton, icon(theme.current() === 'dark' ? 'sun' : 'moon'));
themeButton.addEventListener('click', theme.toggle);
theme.onChange(showTheme);
showTheme();

const helpButton = /** @type {HTMLElement} */ (document.getElementById('help'));
replace(helpButton, icon('help'));
helpButton.addEventListener('click', help);

document.querySelector('.skip')?.addEventListener('click', (event) => {
  // The address belongs to the views.
  event.preventDefault();
  main.focus();
});
document.addEventListener('keydown', pressed);
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && void refresh());
addEventListener('hashchange', () => void route());
addEventListener(http.KEY_NEEDED, () => void letIn());
setInterval(() => document.visibilityState === 'visible' && void refresh(), PERIOD_MS);
void route().then(countAlerts);
