/**
 * A list of thousands of rows of one height, of which only those in sight are elements.
 *
 * Exports: createTable, sortText
 *
 * Columns that do not fit leave by their `priority` (the highest number first); the first column always stays. Sorting
 * is by the heads' buttons. Rows are links over their whole width (`href`), so a middle click opens another tab.
 */

import { h, icon, replace } from './dom.js';

/**
 * @typedef {{
 *   key: string, label: string, title?: string, width: number, grow?: number, priority?: number, align?: 'start' | 'end',
 *   startsDescending?: boolean, sortValue?: (row: any) => number | string | null | undefined, render: (row: any) => any,
 * }} Column `width` in pixels is the least that it needs; without `sortValue` it cannot be sorted by
 * @typedef {{ key: string, descending: boolean }} Sorting
 */

const GAP = 16;
const PADDING = 32;
// Rows beyond the edge that are elements already, so that none is missing while scrolling.
const AHEAD = 4;
// Rows, and cells of rows, that are made in one frame. Who drags the bar far sees the others some frames later: made at
// once, they would stop everything for longer than the eye forgives.
const ROWS_A_FRAME = 4;
const CELLS_A_FRAME = 6;

/**
 * A text as it sorts with digits by their value: B2 before B10. Made once a row, because a collator would need a tenth
 * of a second for five thousand.
 * @param {string} text
 */
export function sortText(text) {
  return text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(15, '0'));
}

/**
 * @param {{
 *   label: string, columns: Column[], rowHeight?: number, rowKey: (row: any) => string, href: (row: any) => string,
 *   sorting: Sorting, tieBreak?: (one: any, other: any) => number, rowClass?: (row: any) => string,
 *   onSorted?: (sorting: Sorting) => void, onSight?: (rows: any[]) => void,
 * }} options `onSight` is told which rows came into sight, after each change of them
 */
export function createTable({
  label, columns, rowHeight = 52, rowKey, href, sorting, tieBreak, rowClass, onSorted, onSight,
}) {
  const head = h('div', { class: 'grid-head', role: 'rowgroup' });
  const body = h('div', { class: 'grid-body', role: 'rowgroup' });
  const table = h('div', { role: 'table', 'aria-label': label }, head, body);
  const scroll = h('div', { class: 'grid-scroll' }, table);
  const empty = h('div', { hidden: true });
  const element = h('div', { class: 'grid' }, scroll, empty);

  /** @type {any[]} */
  let rows = [];
  /** @type {Column[]} */
  let shown = [];
  /** @type {Map<string, { element: any, row: any, index: number }>} */
  const drawn = new Map();
  /** @type {any[]} */
  const spare = [];
  let current = '';
  // Until the reader has been in the rows, it is the first one.
  let isChosen = false;
  /** @type {Map<string, number>} */
  let positions = new Map();
  let height = 0;
  /** Of which frame, and how many rows may still be made in it. */
  const budget = { frame: /** @type {any} */ (null), rows: 0 };
  let isBehind = false;
  /** The row that is about to get the focus cannot wait. */
  let wantsFocus = '';
  /** Cells that are to be drawn again: columns by the key of their row. @type {Map<string, Set<string>>} */
  const worn = new Map();

  const observer = new ResizeObserver(() => {
    height = scroll.clientHeight;
    fit();
    draw();
  });
  observer.observe(scroll);
  scroll.addEventListener('scroll', draw, { passive: true });
  body.addEventListener('focusin', (/** @type {FocusEvent} */ event) => {
    const key = /** @type {HTMLElement} */ (event.target).closest('[data-key]')?.getAttribute('data-key');
    if (!key) return;
    isChosen = true;
    setCurrent(key);
  });

  /** Chooses the columns that fit, and draws the heads anew where that changes them. */
  function fit() {
    const narrow = scroll.clientWidth < 640;
    let room = scroll.clientWidth - (narrow ? 24 : PADDING) + (narrow ? 12 : GAP);
    const chosen = new Set();
    for (const column of [...columns].sort((one, other) => (one.priority ?? 0) - (other.priority ?? 0))) {
      room -= column.width + (narrow ? 12 : GAP);
      if (room < 0 && chosen.size) break;
      chosen.add(column);
    }
    const next = columns.filter((column) => chosen.has(column));
    if (next.length === shown.length && next.every((column, at) => column === shown[at])) return;
    shown = next;
    forget();
    drawHead();
  }

  function drawHead() {
    const focused = head.contains(document.activeElement) ? document.activeElement?.closest('[data-column]') : null;
    const key = focused?.getAttribute('data-column');
    replace(head, h('div', { class: 'grid-row', role: 'row', 'aria-rowindex': 1, style: { 'grid-template-columns': fixed() } }, shown.map(headOf)));
    table.setAttribute('aria-colcount', String(columns.length));
    if (key) /** @type {any} */ (head.querySelector(`[data-column="${key}"] button`))?.focus();
  }

  /** Each row is a grid of its own, so no width may come from what a row holds. */
  function fixed() {
    return shown.map(({ width, grow = 0 }) => (grow ? `minmax(${width}px, ${grow}fr)` : `${width}px`)).join(' ');
  }

  /** @param {Column} column */
  function headOf(column) {
    const isSorted = sorting.key === column.key;
    const direction = isSorted ? (sorting.descending ? 'descending' : 'ascending') : 'none';
    const attributes = {
      role: 'columnheader', class: column.align === 'end' ? 'is-end' : '', title: column.title, 'data-column': column.key,
      'aria-colindex': columns.indexOf(column) + 1,
    };
    if (!column.sortValue) return h('div', attributes, h('span', { class: 'grid-label' }, column.label));
    const sortBy = () => sort({ key: column.key, descending: isSorted ? !sorting.descending : Boolean(column.startsDescending) });
    const mark = icon(isSorted ? (sorting.descending ? 'down' : 'up') : 'sort');
    return h('div', { ...attributes, 'aria-sort': direction }, h('button', { type: 'button', onclick: sortBy }, h('span', null, column.label), mark));
  }

  /** @param {Sorting} next */
  function sort(next) {
    sorting = next;
    drawHead();
    order();
    isChosen = false;
    if (rows.length) setCurrent(rowKey(rows[0]));
    scroll.scrollTop = 0;
    draw();
    onSorted?.(next);
  }

  /** What is missing comes last, whichever way round. */
  function order() {
    const column = columns.find((one) => one.key === sorting.key);
    const valueOf = column?.sortValue;
    const factor = sorting.descending ? -1 : 1;
    const valued = rows.map((row) => ({ row, value: valueOf?.(row) ?? null }));
    valued.sort((one, other) => {
      if (one.value === other.value) return tieBreak ? tieBreak(one.row, other.row) : 0;
      if (one.value === null) return 1;
      if (other.value === null) return -1;
      return one.value < other.value ? -factor : factor;
    });
    rows = valued.map(({ row }) => row);
    positions = new Map(rows.map((row, index) => [rowKey(row), index]));
  }

  /** Makes elements of the rows in sight; those that left are used for those that came. */
  function draw() {
    if (!shown.length) return;
    const first = Math.max(Math.floor(scroll.scrollTop / rowHeight) - AHEAD, 0);
    const last = Math.min(Math.ceil((scroll.scrollTop + height) / rowHeight) + AHEAD, rows.length);
    renewBudget();
    const wanted = new Set();
    for (let index = first; index < last; index += 1) wanted.add(rowKey(rows[index]));
    for (const [key, { element: one }] of drawn) {
      // A row that has the focus stays, or the reader would lose the place.
      if (wanted.has(key)) continue;
      const index = positions.get(key);
      if (index !== undefined && one.contains(document.activeElement)) {
        put(index);
        continue;
      }
      drawn.delete(key);
      one.remove();
      if (spare.length < 4 * AHEAD) spare.push(one);
    }
    // Screen readers go by the order of the elements, so it is that of the rows. What has the focus would lose it by moving.
    let next = body.firstElementChild;
    for (let index = first; index < last; index += 1) {
      const one = put(index);
      if (!one) continue;
      if (one === next || one.contains(document.activeElement)) next = one.nextElementSibling;
      else body.insertBefore(one, next);
    }
    onSight?.(rows.slice(first, last));
  }

  /** Frames share one time, however often they draw. */
  function renewBudget() {
    const frame = document.timeline.currentTime;
    if (budget.frame === frame) return;
    budget.frame = frame;
    budget.rows = ROWS_A_FRAME;
  }

  /** What was too much for a frame is gone on with in the next one. */
  function goOn() {
    if (isBehind) return;
    isBehind = true;
    requestAnimationFrame(() => {
      isBehind = false;
      draw();
      mend();
    });
  }

  /** Draws worn cells again, some of them in each frame. */
  function mend() {
    let left = CELLS_A_FRAME;
    for (const [key, names] of worn) {
      if (!left) return goOn();
      worn.delete(key);
      const known = drawn.get(key);
      // A row that is behind gets all its cells anyway.
      if (!known || known.row !== rows[known.index]) continue;
      for (const name of names) {
        const at = shown.findIndex((one) => one.key === name);
        if (at < 0) continue;
        replace(known.element.children[at], shown[at].render(known.row));
        left = Math.max(left - 1, 0);
      }
    }
    return undefined;
  }

  /**
   * The element of a row in its place, or null when it is to be made in a later frame; one that only shows an older
   * content stays until then.
   * @param {number} index
   */
  function put(index) {
    const row = rows[index];
    const key = rowKey(row);
    let known = drawn.get(key);
    const mayMake = budget.rows > 0 || key === wantsFocus;
    if (known?.row !== row) {
      if (mayMake) budget.rows -= 1;
      else goOn();
    }
    if (!known && !mayMake) return null;
    if (!known) {
      known = { element: spare.pop() ?? h('div', { role: 'row', class: 'grid-row' }), row: null, index: -1 };
      drawn.set(key, known);
    }
    if (known.index !== index) {
      known.index = index;
      known.element.style.setProperty('transform', `translateY(${index * rowHeight}px)`);
      known.element.setAttribute('aria-rowindex', String(index + 2));
    }
    if (known.row !== row && mayMake) {
      known.row = row;
      fill(known.element, row, key);
    }
    return known.element;
  }

  /** @param {any} element @param {any} row @param {string} key */
  function fill(element, row, key) {
    const hadFocus = element.contains(document.activeElement);
    element.className = `grid-row ${rowClass?.(row) ?? ''}`;
    element.dataset.key = key;
    element.style.setProperty('grid-template-columns', fixed());
    element.style.setProperty('height', `${rowHeight}px`);
    replace(
      element,
      shown.map((column, at) =>
        h(
          'div',
          { role: at ? 'cell' : 'rowheader', class: column.align === 'end' ? 'is-end' : null, 'data-column': column.key, 'aria-colindex': columns.indexOf(column) + 1 },
          at ? column.render(row) : h('a', { class: 'row-link', href: href(row), tabindex: key === current ? '0' : '-1' }, column.render(row)),
        ),
      ),
    );
    if (hadFocus) element.querySelector('.row-link').focus({ preventScroll: true });
  }

  /** One row takes part in the order of Tab; the others are reached from there. @param {string} key */
  function setCurrent(key) {
    if (key === current) return;
    drawn.get(current)?.element.querySelector('.row-link')?.setAttribute('tabindex', '-1');
    current = key;
    drawn.get(key)?.element.querySelector('.row-link')?.setAttribute('tabindex', '0');
  }

  function forget() {
    for (const known of drawn.values()) known.row = null;
  }

  return {
    element,

    /** Shows these rows in the order that was chosen. @param {any[]} next */
    setRows(next) {
      rows = [...next];
      order();
      table.setAttribute('aria-rowcount', String(rows.length + 1));
      body.style.setProperty('height', `${rows.length * rowHeight}px`);
      if (rows.length && !(isChosen && positions.has(current))) setCurrent(rowKey(rows[0]));
      draw();
    },

    /** Shows other columns. @param {Column[]} next */
    setColumns(next) {
      columns = next;
      shown = [];
      fit();
      order();
      draw();
    },

    /** What stands in place of the rows; nothing takes it away. @param {any} [content] */
    setEmpty(content) {
      replace(empty, content);
      empty.hidden = !content;
    },

    /** Draws one column of these rows again, because what it shows comes from elsewhere. @param {string} column @param {Iterable<string>} keys */
    redraw(column, keys) {
      for (const key of keys) if (drawn.has(key)) worn.set(key, (worn.get(key) ?? new Set()).add(column));
      mend();
    },

    /** Moves the focus by so many rows. @param {number} by */
    move(by) {
      if (!rows.length) return;
      const hasFocus = body.contains(document.activeElement);
      const at = positions.get(current) ?? 0;
      const index = Math.min(Math.max(hasFocus ? at + by : at, 0), rows.length - 1);
      const top = index * rowHeight;
      const space = height - head.offsetHeight;
      if (top < scroll.scrollTop) scroll.scrollTop = top;
      else if (top + rowHeight > scroll.scrollTop + space) scroll.scrollTop = top + rowHeight - space;
      setCurrent(rowKey(rows[index]));
      wantsFocus = current;
      draw();
      wantsFocus = '';
      drawn.get(current)?.element.querySelector('.row-link').focus({ preventScroll: true });
    },

    /** The rows in their order. */
    rows: () => rows,
    sorting: () => sorting,
    destroy: () => observer.disconnect(),
  };
}
