/**
 * A series over time: what was observed, the estimate and its 95 % band, the threshold as it was published, what was
 * beyond it, and the times of alerts and exclusions. Drawn by uPlot, which is loaded when the first chart is made.
 */
import { chartLibrary } from './assets.js';
import { colors, mark, shade, steps, times } from './chart_paint.js';
import { HALF_HOUR, HOUR, HOUR_MS, future, isGap, spaced } from './chart_rows.js';
import { hoursTable, legend } from './chart_table.js';
import { h, replace } from './dom.js';
import { number, span as timeSpan, value as withUnit } from './format.js';
import { onChange } from './theme.js';

const HEIGHT = 260;
// Its place among the columns.
const VALUE = 5;
// Beyond so many thresholds a value is not shown where people fit the axis to the threshold.
const FITTED = 1.6;

/**
 * One hour as `GET /history` answers it.
 * @typedef {{window_start: string, value: number, count: number, estimate: ?number, lower: ?number, upper: ?number,
 *   threshold: ?number, score: ?number, exceeded: ?boolean, credible: ?boolean, excluded: boolean}} Point
 */
/**
 * A stretch of time, in ms since the epoch; `to` null has not ended.
 * @typedef {{from: number, to: ?number, label: string}} Span
 */
/**
 * The published answer for the hour that is not closed yet.
 * @typedef {{window_start: string, estimate: ?number, lower: ?number, upper: ?number, threshold: ?number,
 *   live?: ?{value: number, count: number}}} Next
 */
/**
 * What one chart shows; `points` are the oldest first.
 * @typedef {{points: Point[], alerts: Span[], exclusions: Span[], next: ?Next}} Shown
 */

/**
 * A chart in `host`.
 * @param {HTMLElement} host
 * @param {{title: string, unit: string, operator: string, onZoom?: (range: ?{from: number, to: number}) => void}} options
 *   `onZoom` hears of what the person chose, not of `zoom()`; times are in ms.
 */
export async function chart(host, options) {
  const uPlot = await chartLibrary();
  return new Chart(uPlot, host, options);
}

class Chart {
  /** @param {any} uPlot @param {HTMLElement} host @param {any} options */
  constructor(uPlot, host, options) {
    this.options = options;
    this.shown = /** @type {Shown} */ ({ points: [], alerts: [], exclusions: [], next: null });
    this.rows = /** @type {any[]} */ ([]);
    this.zoomed = /** @type {?{from: number, to: number}} */ (null);
    this.isFitted = false;
    this.colors = colors(host);
    this.readout = h('p', { class: 'chart-readout' });
    this.spoken = h('p', { class: 'visually-hidden', 'aria-live': 'polite' });
    this.reset = h(
      'button',
      { type: 'button', class: 'button-small', hidden: true, onclick: () => this.choose(null) },
      'Reset zoom',
    );
    this.toggle = h(
      'button',
      {
        type: 'button',
        class: 'button-small',
        'aria-expanded': 'false',
        onclick: () => this.showTable(this.table.hidden),
      },
      'Show as table',
    );
    this.fitted = h(
      'button',
      {
        type: 'button',
        class: 'button-small',
        'aria-pressed': 'false',
        title: 'Leave out what is far beyond',
        onclick: () => this.fitThreshold(),
      },
      'Fit threshold',
    );
    this.canvas = h('div', {
      class: 'chart-canvas',
      tabindex: '0',
      role: 'application',
      'aria-roledescription': 'chart',
      'aria-label':
        `${options.title}. Left and right arrows read hour by hour, plus and minus zoom, 0 resets the zoom. ` +
        'Show as table has the same as text.',
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.press(event),
    });
    this.table = h('div', {
      class: 'chart-table table',
      hidden: true,
      tabindex: '0',
      role: 'region',
      'aria-label': `${options.title} as a table`,
    });
    host.replaceChildren(
      h(
        'div',
        { class: 'chart-bar' },
        this.readout,
        h('div', { class: 'chart-buttons' }, this.reset, this.fitted, this.toggle),
      ),
      this.canvas,
      legend(options.operator),
      this.spoken,
      this.table,
    );
    this.host = host;
    this.plot = new uPlot(this.drawing(uPlot), this.columns(), this.canvas);
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(this.canvas);
    this.forgetTheme = onChange(() => {
      this.colors = colors(host);
      this.plot.redraw(false);
    });
    this.read(null);
  }

  /** Show other data; what is zoomed stays zoomed. @param {Shown} shown */
  update(shown) {
    this.shown = shown;
    this.rows = spaced(shown.points);
    if (shown.next !== null && !shown.points.some((one) => one.window_start === shown.next?.window_start)) {
      this.rows.push(future(shown.next));
    }
    this.plot.setData(this.columns(), false);
    this.scale(this.zoomed);
    if (!this.table.hidden) this.fill();
    this.read(this.plot.cursor.idx ?? null);
  }

  /** Show a range without telling `onZoom`. @param {?{from: number, to: number}} range in ms; null is everything */
  zoom(range) {
    this.zoomed = range;
    this.reset.hidden = range === null;
    this.scale(range);
    if (!this.table.hidden) this.fill();
  }

  destroy() {
    this.sizes.disconnect();
    this.forgetTheme();
    this.plot.destroy();
  }

  /** @param {?{from: number, to: number}} range */
  choose(range) {
    const had = document.activeElement === this.reset;
    this.zoom(range);
    // The button that was pressed has just gone, and the focus would go with it.
    if (had) this.canvas.focus();
    this.options.onZoom?.(range);
  }

  /** @param {?{from: number, to: number}} range */
  scale(range) {
    const [xs] = this.plot.data;
    if (xs.length === 0) return;
    const min = range === null ? xs[0] - HALF_HOUR : range.from / 1000;
    // Room for the ring of the hour that is still open.
    const room = Math.max(HALF_HOUR, (xs[xs.length - 1] - xs[0]) * 0.008);
    const max = range === null ? xs[xs.length - 1] + room : range.to / 1000;
    this.plot.setScale('x', { min, max });
  }

  /** The axis of values goes just beyond what was published, or to the last value. */
  fitThreshold() {
    this.isFitted = !this.isFitted;
    this.fitted.setAttribute('aria-pressed', String(this.isFitted));
    this.scale(this.zoomed);
  }

  /** Some room on both sides; from zero where that costs little. @param {?number} min @param {?number} max */
  padded(min, max) {
    if (min === null || max === null) return [0, 1];
    let [low, high] = [min, max];
    if (this.isFitted) {
      const [from, to] = [this.plot.scales.x.min, this.plot.scales.x.max];
      const rows = this.rows.filter(
        (row) => !isGap(row) && row.start / 1000 + HALF_HOUR >= from && row.start / 1000 + HALF_HOUR <= to,
      );
      const published = rows
        .flatMap((row) => [row.threshold, row.estimate, row.upper, row.lower])
        .filter((one) => one !== null);
      if (published.length > 0) {
        const [least, most] = [Math.min(...published), Math.max(...published)];
        low = Math.max(low, least - (FITTED - 1) * (most - least));
        high = Math.min(high, most + (FITTED - 1) * (most - least));
      }
    }
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    if (low >= 0 && low < 0.5 * high) return [0, high + room];
    return [low >= 0 ? Math.max(low - room, 0) : low - room, high + room];
  }

  fit() {
    const width = this.canvas.clientWidth;
    if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  /** Columns as uPlot takes them: times in s, in the middle of each hour. */
  columns() {
    const column = (/** @type {(row: any) => ?number} */ of) => this.rows.map((row) => (isGap(row) ? null : of(row)));
    return [
      this.rows.map((row) => row.start / 1000 + HALF_HOUR),
      column((row) => row.upper),
      column((row) => row.lower),
      column((row) => row.estimate),
      column((row) => row.threshold),
      column((row) => row.value),
    ];
  }

  /** @param {any} uPlot */
  drawing(uPlot) {
    const color = (/** @type {string} */ name) => () => this.colors[name];
    const none = { show: false };
    const axis = {
      stroke: color('text'),
      grid: { stroke: color('grid'), width: 1 },
      ticks: { stroke: color('grid'), width: 1 },
      font: this.colors.font,
    };
    return {
      width: this.canvas.clientWidth || 600,
      height: HEIGHT,
      legend: none,
      padding: [14, 8, 0, 0],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        // All series have a point or none has: those that are not followed are of no size.
        points: {
          size: (/** @type {any} */ _, /** @type {number} */ series) => (series === VALUE ? 9 : 0),
          fill: color('observed'),
        },
        y: false,
        bind: { dblclick: () => () => (this.choose(null), null) },
      },
      scales: {
        x: {
          time: true,
          range: (/** @type {any} */ _, /** @type {number} */ min, /** @type {number} */ max) => [min, max],
        },
        y: {
          range: (/** @type {any} */ _, /** @type {?number} */ min, /** @type {?number} */ max) =>
            this.padded(min, max),
        },
      },
      axes: [
        { ...axis, values: times, space: 64 },
        {
          ...axis,
          size: 62,
          values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => number(tick)),
        },
      ],
      bands: [{ series: [1, 2], fill: color('band') }],
      series: [
        {},
        { stroke: 'transparent', width: 1, points: none, spanGaps: false },
        { stroke: 'transparent', width: 1, points: none, spanGaps: false },
        { stroke: color('estimate'), width: 1.5, dash: [2, 3], points: none, spanGaps: false },
        { stroke: color('threshold'), width: 2, dash: [8, 4], points: none, paths: steps },
        {
          stroke: color('observed'),
          width: 1.5,
          spanGaps: false,
          points: { size: 4, fill: color('observed'), stroke: color('observed') },
        },
      ],
      hooks: {
        drawClear: [(/** @type {any} */ plot) => shade(plot, this.shown, this.colors)],
        draw: [(/** @type {any} */ plot) => mark(plot, this.rows, this.options.operator, this.colors)],
        setCursor: [(/** @type {any} */ plot) => this.read(plot.cursor.idx ?? null)],
        setSelect: [(/** @type {any} */ plot) => this.selected(plot)],
      },
    };
  }

  /** @param {any} plot */
  selected(plot) {
    const { left, width } = plot.select;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (width < 6) return;
    this.choose({
      from: Math.round(plot.posToVal(left, 'x') * 1000),
      to: Math.round(plot.posToVal(left + width, 'x') * 1000),
    });
  }

  /** @param {?number} index of the hour under the cursor; null shows the last one that closed */
  read(index) {
    const row = index === null ? this.rows.findLast((one) => !isGap(one) && one.value !== null) : this.rows[index];
    const text = row === undefined ? 'No closed hour is known yet.' : this.sentence(row);
    if (this.readout.textContent !== text) this.readout.textContent = text;
    return text;
  }

  /** @param {any} row */
  sentence(row) {
    const span = timeSpan(row.start, row.start + HOUR_MS);
    if (isGap(row)) return `${span}: nothing was observed`;
    const of = (/** @type {?number} */ one) => withUnit(one, this.options.unit);
    const said = [
      row.value === null
        ? `${span}, the next to close`
        : `${span}: ${of(row.value)}${row.count === null ? '' : ` (${number(row.count)} calls)`}`,
    ];
    if (row.live) said.push(`so far ${of(row.live.value)} (${number(row.live.count)} calls)`);
    if (row.estimate !== null) said.push(`expected ${of(row.estimate)}`);
    if (row.lower !== null && row.upper !== null) said.push(`95 % band ${number(row.lower)} – ${of(row.upper)}`);
    if (row.threshold !== null) said.push(`threshold ${this.options.operator} ${of(row.threshold)}`);
    if (row.isSettling) said.push('just closed, late calls may still change it');
    else if (row.estimate === null && row.value !== null) said.push('learned, not judged');
    if (row.exceeded)
      said.push(row.credible === false ? 'beyond it, by too few calls to count' : 'beyond its threshold');
    if (row.excluded) said.push('excluded from learning');
    return said.join(' · ');
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.canvas) return;
    const { min, max } = this.plot.scales.x;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (this.rows.length === 0 || min === null) return;
    if (move !== undefined) this.step(move, min, max);
    else if (event.key === '+' || event.key === '=') this.around(0.5, min, max);
    else if (event.key === '-') this.around(2, min, max);
    else if (event.key === '0') this.choose(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} by @param {number} min @param {number} max */
  step(by, min, max) {
    const now = this.plot.cursor.idx ?? (by > 0 ? -1 : this.rows.length);
    const index = Math.min(Math.max(now + by, 0), this.rows.length - 1);
    const x = this.plot.data[0][index];
    if (x < min || x > max) {
      const shift = x < min ? x - HOUR - min : x + HOUR - max;
      this.choose({ from: (min + shift) * 1000, to: (max + shift) * 1000 });
    }
    const value = this.plot.data[5][index] ?? this.plot.data[3][index] ?? this.plot.scales.y.min;
    this.plot.setCursor({ left: this.plot.valToPos(x, 'x'), top: this.plot.valToPos(value, 'y') });
    this.spoken.textContent = this.read(index);
  }

  /** @param {number} factor @param {number} min @param {number} max */
  around(factor, min, max) {
    const [xs] = this.plot.data;
    const [first, last] = [xs[0] - HALF_HOUR, xs[xs.length - 1] + HALF_HOUR];
    const index = this.plot.cursor.idx;
    const middle = index == null ? (min + max) / 2 : xs[index];
    const half = Math.max(((max - min) * factor) / 2, 2 * HOUR);
    if (middle - half <= first && middle + half >= last) this.choose(null);
    else this.choose({ from: Math.max(middle - half, first) * 1000, to: Math.min(middle + half, last) * 1000 });
  }

  /** @param {boolean} isShown */
  showTable(isShown) {
    this.table.hidden = !isShown;
    this.toggle.setAttribute('aria-expanded', String(isShown));
    this.toggle.textContent = isShown ? 'Hide the table' : 'Show as table';
    if (isShown) this.fill();
  }

  fill() {
    // uPlot has a new scale only after the task that asked for it.
    const { from, to } = this.zoomed ?? { from: -Infinity, to: Infinity };
    const rows = this.rows.filter((row) => !isGap(row) && row.start + HOUR_MS > from && row.start < to);
    replace(this.table, hoursTable(rows.reverse(), this.options));
  }
}
