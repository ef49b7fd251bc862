/**
 * What a chart draws beside the lines of uPlot: shaded spans, triangles, steps, axes; and the colours of the theme.
 *
 * Exports: shade, mark, steps, times, colors
 */

import { color as colorOf } from './theme.js';
import { HALF_HOUR, HOUR, isGap, merged } from './chart_rows.js';

/**
 * Alerts as a tint with a bar on top, exclusions hatched, both named where there is room; a line before the next hour.
 * @param {any} plot
 * @param {import('./chart.js').Shown} shown
 * @param {Record<string, string>} palette
 */
export function shade(plot, shown, palette) {
  const { ctx } = plot;
  const ratio = devicePixelRatio;
  const { left, top, width, height } = plot.bbox;
  const at = (/** @type {number} */ ms) => plot.valToPos(ms / 1000, 'x', true);
  const span = (/** @type {any} */ { from, to }, /** @type {any} */ { fill, color, name, base }) => {
    const start = Math.max(at(from), left);
    const end = Math.min(to === null ? left + width : at(to), left + width);
    if (end < left || start > left + width) return;
    const wide = Math.max(end - start, 3 * ratio);
    ctx.fillStyle = fill;
    ctx.fillRect(start, top, wide, height);
    ctx.fillStyle = color;
    ctx.fillRect(start, top - 2 * ratio, wide, 3 * ratio);
    if (ctx.measureText(name).width + 4 * ratio < wide) ctx.fillText(name, start + 2 * ratio, top + base * ratio);
  };
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top - 16 * ratio, width, height + 16 * ratio);
  ctx.clip();
  ctx.font = scaled(palette.font, ratio);
  const excluded = { fill: hatched(ctx, palette.excluded, ratio), color: palette.excluded, name: 'excluded', base: 14 };
  for (const one of merged(shown.exclusions)) span(one, excluded);
  const alert = { fill: palette.alert, color: palette.exceedance, name: 'alert', base: -5 };
  for (const one of merged(shown.alerts)) span(one, alert);
  if (shown.next !== null) line(ctx, at(Date.parse(shown.next.window_start)), plot.bbox, palette.text, ratio);
  ctx.restore();
}

/**
 * Triangles that point to the bad side, hollow where too few calls stood behind the value; a ring around what was seen
 * of the hour that is still open.
 * @param {any} plot
 * @param {any[]} rows
 * @param {string} operator
 * @param {Record<string, string>} palette
 */
export function mark(plot, rows, operator, palette) {
  const { ctx } = plot;
  const ratio = devicePixelRatio;
  const size = 5 * ratio;
  const up = operator === '<' ? -1 : 1;
  const { left, top, width, height } = plot.bbox;
  const inside = (/** @type {number} */ y) => Math.min(Math.max(y, top + 2 * size), top + height - 2 * size);
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top - 2 * size, width, height + 4 * size);
  ctx.clip();
  ctx.lineWidth = 1.5 * ratio;
  for (const row of rows) {
    if (isGap(row)) continue;
    const x = plot.valToPos(row.start / 1000 + HALF_HOUR, 'x', true);
    if (row.exceeded && row.value !== null) {
      ctx.fillStyle = ctx.strokeStyle = palette.exceedance;
      const y = inside(plot.valToPos(row.value, 'y', true)) - up * 2.2 * size;
      ctx.beginPath();
      ctx.moveTo(x, y - up * size);
      ctx.lineTo(x + size, y + up * size * 0.8);
      ctx.lineTo(x - size, y + up * size * 0.8);
      ctx.closePath();
      if (row.credible === false) ctx.stroke();
      else ctx.fill();
    }
    if (row.live) {
      ctx.strokeStyle = palette.observed;
      ctx.beginPath();
      ctx.arc(x, inside(plot.valToPos(row.live.value, 'y', true)), 4 * ratio, 0, 2 * Math.PI);
      ctx.stroke();
    }
  }
  ctx.restore();
}

/** The threshold holds for the whole hour: a step from its start to its end. @param {any} plot @param {number} series @param {number} from @param {number} to */
export function steps(plot, series, from, to) {
  const stroke = new Path2D();
  const [xs, ys] = [plot.data[0], plot.data[series]];
  let before = null;
  for (let index = from; index <= to; index++) {
    const y = ys[index];
    if (y === null || y === undefined) {
      before = null;
      continue;
    }
    const start = plot.valToPos(xs[index] - HALF_HOUR, 'x', true);
    const level = plot.valToPos(y, 'y', true);
    if (before === null || xs[index] - before > HOUR * 1.5) stroke.moveTo(start, level);
    else stroke.lineTo(start, level);
    stroke.lineTo(plot.valToPos(xs[index] + HALF_HOUR, 'x', true), level);
    before = xs[index];
  }
  return { stroke, fill: null, clip: null, band: null, gaps: null, flags: 0 };
}

/** Days and times as the person's own zone and language have them. @param {any} _ @param {number[]} ticks @param {number} _axis @param {number} _space @param {number} step in s */
export function times(_, ticks, _axis, _space, step) {
  const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
  const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
  let shown = '';
  return ticks.map((tick) => {
    const moment = new Date(tick * 1000);
    const date = day.format(moment);
    const isNew = date !== shown;
    shown = date;
    if (step >= 24 * HOUR) return date;
    return isNew ? `${time.format(moment)}\n${date}` : time.format(moment);
  });
}

/** The colours of the theme that holds now. @param {HTMLElement} host */
export function colors(host) {
  const style = getComputedStyle(host);
  const of = (/** @type {string} */ name) => colorOf(`--chart-${name}`);
  return {
    observed: of('value'),
    estimate: of('estimate'),
    band: of('band'),
    threshold: of('threshold'),
    exceedance: of('exceedance'),
    alert: of('alert'),
    excluded: colorOf('--muted'),
    grid: of('grid'),
    text: of('axis'),
    font: `12px ${style.fontFamily || 'sans-serif'}`,
  };
}

/** @param {CanvasRenderingContext2D} ctx @param {number} x @param {any} box @param {string} color @param {number} ratio */
function line(ctx, x, { top, height }, color, ratio) {
  ctx.strokeStyle = color;
  ctx.setLineDash([2 * ratio, 4 * ratio]);
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
}

/** @param {string} font @param {number} ratio */
function scaled(font, ratio) {
  return font.replace(/([\d.]+)px/, (_, size) => `${Number(size) * ratio}px`);
}

/** @param {CanvasRenderingContext2D} ctx @param {string} color @param {number} ratio */
function hatched(ctx, color, ratio) {
  const size = 8 * ratio;
  const tile = new OffscreenCanvas(size, size);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (tile.getContext('2d'));
  pen.strokeStyle = color;
  pen.globalAlpha = 0.45;
  pen.lineWidth = ratio;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  return ctx.createPattern(tile, 'repeat') ?? color;
}
