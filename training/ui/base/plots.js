// Plots: the values under the pointer (or, with the arrow keys, at a step), zoom by dragging over the steps, and back by
// a double click or Escape. All plots of one component share step and zoom. `element`, `watch`: see Gradio's gr.HTML.
const opened = new Set();
let zoom = null; // [first step, last step], or null for all
let drag = null; // {area, from} while the pointer is down
const areas = () => [...element.querySelectorAll('.lt-plot-area')];
const frameOf = (area) => {
  const [left, right, low, high] = ['left', 'right', 'low', 'high'].map((name) => parseFloat(area.dataset[name]));
  const [from, to] = zoom ?? [left, right];
  return { left, right, low, high, from, to, width: right - left || 1, shown: to - from || 1 };
};
const pointsOf = (path, frame) => path.getAttribute('d').slice(1).split('L').map((pair) => {
  const [x, y] = pair.split(' ').map(Number);
  return [frame.left + (x / 100) * frame.width, frame.high - (y / 100) * (frame.high - frame.low)];
});
const worded = (value, unit) => {
  if (unit === '%') return `${Math.round(100 * value)} %`;
  const size = Math.abs(value);
  const text = size >= 100 || value === 0 ? value.toFixed(0) : size >= 0.0005 ? String(+value.toPrecision(3)) : value.toExponential(0);
  return (unit ? `${text} ${unit}` : text).replace('-', '−');
};
const inner = (area, name, className) => {
  const lines = area.querySelector('.lt-plot-lines');
  let part = lines.querySelector(`.${className}`);
  if (!part) {
    part = document.createElement(name);
    part.className = className;
    lines.append(part);
  }
  return part;
};
const show = (step) => areas().forEach((area) => {
  const frame = frameOf(area), tip = inner(area, 'p', 'lt-plot-tip'), mark = inner(area, 'i', 'lt-plot-mark');
  const paths = [...area.querySelectorAll('path[class^="lt-s"]')];
  const near = paths.map((path) => pointsOf(path, frame).reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a)));
  const at = near.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a), near[0] ?? [NaN, 0])[0];
  const share = (at - frame.from) / frame.shown;
  tip.hidden = mark.hidden = !(share >= 0 && share <= 1);
  if (tip.hidden) return;
  mark.style.left = `${100 * share}%`;
  tip.classList.toggle('lt-left', share > 0.5);
  tip.style.left = share > 0.5 ? '' : `${100 * share}%`;
  tip.style.right = share > 0.5 ? `${100 * (1 - share)}%` : '';
  tip.replaceChildren(`step ${Math.round(at)}`, ...near.map(([, value], index) => {
    const line = document.createElement('b');
    line.className = `lt-plot-value ${paths[index].getAttribute('class')}`;
    line.textContent = worded(value, area.dataset.unit);
    return line;
  }));
});
const hide = () => areas().forEach((area) => {
  area.querySelectorAll('.lt-plot-tip, .lt-plot-mark').forEach((part) => { part.hidden = true; });
});
const draw = () => areas().forEach((area) => {
  const frame = frameOf(area), start = (100 * (frame.from - frame.left)) / frame.width, width = (100 * frame.shown) / frame.width;
  area.querySelector('svg').setAttribute('viewBox', zoom ? `${start} 0 ${width} 100` : '0 0 100 100');
  area.classList.toggle('lt-zoomed', zoom !== null);
  const [first, , last] = area.querySelectorAll('.lt-plot-x span');
  [first.textContent, last.textContent] = [Math.round(frame.from), Math.round(frame.to)];
});
const stepAt = (area, event) => {
  const box = area.querySelector('.lt-plot-lines').getBoundingClientRect(), frame = frameOf(area);
  return frame.from + frame.shown * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
};
const areaOf = (event) => event.target.closest?.('.lt-plot-area');
element.addEventListener('pointerdown', (event) => {
  const area = event.button === 0 && event.pointerType === 'mouse' ? areaOf(event) : null;
  drag = area && { area, from: stepAt(area, event) };
});
element.addEventListener('pointermove', (event) => {
  const area = drag?.area ?? areaOf(event);
  if (!area?.isConnected) return hide();
  show(stepAt(area, event));
  if (!drag) return;
  const frame = frameOf(area), band = inner(area, 'i', 'lt-plot-band');
  const ends = [drag.from, stepAt(area, event)].sort((a, b) => a - b).map((step) => (100 * (step - frame.from)) / frame.shown);
  [band.style.left, band.style.width] = [`${ends[0]}%`, `${ends[1] - ends[0]}%`];
});
element.addEventListener('pointerup', (event) => {
  if (!drag) return;
  const ends = [drag.from, drag.area.isConnected ? stepAt(drag.area, event) : drag.from].sort((a, b) => a - b);
  areas().forEach((area) => area.querySelector('.lt-plot-band')?.remove());
  drag = null;
  if (ends[1] - ends[0] < 1) return;
  zoom = ends;
  draw();
});
element.addEventListener('pointerleave', hide);
const back = () => { zoom = null; draw(); };
element.addEventListener('dblclick', (event) => { if (areaOf(event)) back(); });
let step = null;
element.addEventListener('keydown', (event) => {
  const area = areaOf(event), moves = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 };
  if (!area) return;
  if (event.key === 'Escape') { hide(); back(); }
  if (!(event.key in moves)) return;
  event.preventDefault();
  const frame = frameOf(area);
  step = Math.min(frame.to, Math.max(frame.from, Math.round((step ?? frame.to) + moves[event.key])));
  show(step);
});
element.addEventListener('click', (event) => {
  const fold = event.target.closest('summary')?.parentElement;
  if (fold) fold.open ? opened.delete(fold.dataset.key) : opened.add(fold.dataset.key);
});
watch('value', () => {
  element.querySelectorAll('.lt-fold').forEach((fold) => { fold.open = opened.has(fold.dataset.key); });
  if (zoom) draw();
});
