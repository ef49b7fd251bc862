/**
 * Elements, made of values. Text is always text: nothing here parses HTML.
 *
 * Exports: h, svg, replace, icon, badge, openDialog, field, busy, failure, emptyState
 */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * An element with attributes and children.
 *
 * Attributes: `class`, `dataset` (object), `style` (object, set through the CSSOM, which the page's policy allows),
 * `onclick` and other listeners (functions), properties `value`, `checked`, `disabled`, `hidden`, `open`; the rest are
 * attributes. null, undefined and false leave one out (but `aria-…: false` says "false"). Children: nodes, text, numbers, arrays of them; null, undefined
 * and booleans are skipped.
 *
 * @param {string} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...any} children
 * @returns {any}
 */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * As `h`, in the namespace of SVG.
 * @param {string} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...any} children
 * @returns {any}
 */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * Puts these children in place of all that an element has.
 * @param {Element} element
 * @param {...any} children
 */
export function replace(element, ...children) {
  element.replaceChildren(...nodes(children));
}

const ICONS = {
  alert: 'M8 1.8 15 14H1L8 1.8Zm0 4.4v3.6m0 1.7v.4',
  check: 'm2.8 8.6 3.4 3.4 7-8',
  clock: 'M8 1.5a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13Zm0 3v3.7l2.6 1.7',
  close: 'm3.5 3.5 9 9m0-9-9 9',
  cross: 'm4 4 8 8m0-8-8 8',
  down: 'm3.5 6 4.5 4.5L12.5 6',
  up: 'm3.5 10 4.5-4.5 4.5 4.5',
  sort: 'm5 6 3-3 3 3m-6 4 3 3 3-3',
  help: 'M8 1.5a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13ZM6.2 6.3c0-2.4 3.6-2.4 3.6 0 0 1.4-1.8 1.4-1.8 2.9m0 1.9v.3',
  info: 'M8 1.5a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13Zm0 5.7v3.8m0-6v.3',
  learning: 'M2 12.5c2-.2 3-1.5 4.2-4.4C7.5 5 9 3.7 14 3.5M2 14.3h12',
  moon: 'M13.5 9.7A6 6 0 0 1 6.3 2.5a6 6 0 1 0 7.2 7.2Z',
  pause: 'M5.5 3v10m5-10v10',
  search: 'M7 2.3a4.7 4.7 0 1 1 0 9.4 4.7 4.7 0 0 1 0-9.4Zm3.5 8.2 3.7 3.7',
  sun: 'M8 4.8a3.2 3.2 0 1 1 0 6.4 3.2 3.2 0 0 1 0-6.4ZM8 .8v1.7m0 11v1.7M.8 8h1.7m11 0h1.7M2.9 2.9l1.2 1.2m7.8 7.8 1.2 1.2m0-10.2-1.2 1.2M4.1 11.9l-1.2 1.2',
};

/**
 * A small drawing of 16 by 16 that takes the colour of the text; it says nothing to a screen reader.
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
export function icon(name) {
  return svg(
    'svg',
    { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: ICONS[name] }),
  );
}

const KIND_ICONS = { ok: 'check', warning: 'alert', critical: 'alert', info: 'info', learning: 'learning', muted: 'clock' };

/**
 * A word with a shape and a colour, so that the colour never says it alone.
 * @param {string} text
 * @param {'ok' | 'warning' | 'critical' | 'info' | 'learning' | 'muted'} [kind]
 * @param {string} [title]
 */
export function badge(text, kind = 'muted', title) {
  return h('span', { class: `badge badge-${kind}`, title }, icon(KIND_ICONS[kind]), h('span', null, text));
}

/**
 * A modal dialog that is open; Escape and its button close it, and the focus goes back to where it was.
 * @param {string} title
 * @param {...any} children
 * @returns {{ element: HTMLDialogElement, close(): void, closed: Promise<void> }}
 */
export function openDialog(title, ...children) {
  const before = document.activeElement;
  const heading = `dialog-${++dialogs}`;
  const close = () => element.close();
  const element = h(
    'dialog',
    { 'aria-labelledby': heading },
    h(
      'header',
      { class: 'dialog-header' },
      h('h2', { id: heading }, title),
      h('button', { type: 'button', class: 'button-icon', 'aria-label': 'Close', onclick: close }, icon('close')),
    ),
    h('div', { class: 'dialog-body' }, children),
  );
  const closed = new Promise((resolve) => {
    element.addEventListener('close', () => {
      element.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(undefined);
    });
  });
  // A press on what lies behind closes it, as people expect.
  element.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
    if (event.target === element) close();
  });
  document.body.append(element);
  element.showModal();
  return { element, close, closed };
}

let dialogs = 0;
let fields = 0;

/**
 * An input under its label, with a hint that is read out with it.
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
export function field(label, input, hint) {
  if (!input.id) input.id = `field-${++fields}`;
  if (hint) input.setAttribute('aria-describedby', `${input.id}-hint`);
  return h(
    'div',
    { class: 'field' },
    h('label', { for: input.id }, label),
    input,
    hint && h('p', { class: 'hint', id: `${input.id}-hint` }, hint),
  );
}

/** What stands where something is being loaded. @param {string} [text] */
export function busy(text = 'Loading…') {
  return h('p', { class: 'busy', role: 'status' }, text);
}

/**
 * What stands in place of a part that could not be loaded: what is wrong, and a way to try again.
 * @param {unknown} error
 * @param {() => void} [retry]
 */
export function failure(error, retry) {
  const { title, detail } = /** @type {any} */ (error ?? {});
  return h(
    'div',
    { class: 'failure', role: 'alert' },
    icon('alert'),
    h('div', null, h('strong', null, title ?? 'This part could not be loaded'), detailText(detail ?? error)),
    retry && h('button', { type: 'button', onclick: retry }, 'Try again'),
  );
}

/** @param {unknown} detail */
function detailText(detail) {
  const text = detail instanceof Error ? detail.message : detail;
  return typeof text === 'string' && text ? h('p', null, text) : null;
}

/**
 * What stands where there is nothing yet: why, and what to do about it.
 * @param {string} title
 * @param {...any} children
 */
export function emptyState(title, ...children) {
  return h('div', { class: 'empty' }, icon('learning'), h('h2', null, title), children);
}

/** @param {any} element @param {Record<string, any> | null | undefined} attributes @param {any[]} children */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'open', 'selected', 'indeterminate']);

/** @param {any} element @param {string} name @param {any} value */
function set(element, name, value) {
  if (value === null || value === undefined) return;
  if (name.startsWith('aria-')) element.setAttribute(name, String(value));
  else if (value === false && !PROPERTIES.has(name)) return;
  else if (name === 'style') for (const [key, text] of Object.entries(value)) element.style.setProperty(key, String(text));
  else if (name === 'dataset') Object.assign(element.dataset, value);
  else if (typeof value === 'function') element.addEventListener(name.slice(2), value);
  else if (PROPERTIES.has(name)) element[name] = value;
  else element.setAttribute(name, value === true ? '' : String(value));
}

/** @param {any[]} children @returns {(Node | string)[]} */
function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && typeof child !== 'boolean')
    .map((child) => (child instanceof Node ? child : String(child)));
}
