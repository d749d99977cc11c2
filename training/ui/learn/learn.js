// The replay: a slider over the checkpoints, Play, and a mark in the curves at the checkpoint's step. Another adapter's
// record may come at any time, into the same elements or others, so nothing of them is kept.
const parts = () => {
  const box = element.querySelector('.lt-replay');
  return box && {
    box, slider: box.querySelector('input[type=range]'), play: box.querySelector('[data-play]'),
    steps: [...box.querySelectorAll('datalist option')].map((option) => Number(option.dataset.step)),
  };
};
let timer = null;
const show = ({ box, slider, steps }, at) => {
  slider.value = at;
  slider.setAttribute('aria-valuetext', steps[at] ? `Step ${steps[at]}` : 'The base');
  box.querySelectorAll('[data-at]').forEach((part) => { part.hidden = Number(part.dataset.at) !== at; });
  box.querySelectorAll('.lt-plot-area').forEach((area) => {
    const { left, right } = area.dataset, lines = area.querySelector('.lt-plot-lines');
    let mark = lines.querySelector('.lt-replay-mark');
    if (!mark) lines.append((mark = Object.assign(document.createElement('i'), { className: 'lt-replay-mark' })));
    const x = (steps[at] - left) / (right - left || 1);
    mark.style.left = `${100 * Math.min(1, Math.max(0, x))}%`;
  });
};
const stop = () => {
  clearInterval(timer);
  timer = null;
  const now = parts();
  if (now) now.play.textContent = 'Play';
};
const advance = () => {
  const now = parts(), at = Number(now?.slider.value) + 1;
  if (now && at < now.steps.length) show(now, at);
  if (!now || at >= now.steps.length - 1) stop();
};
element.addEventListener('input', (event) => {
  if (!event.target.matches('.lt-replay input[type=range]')) return;
  stop();
  show(parts(), Number(event.target.value));
});
element.addEventListener('click', (event) => {
  if (!event.target.closest('.lt-replay [data-play]')) return;
  if (timer) return stop();
  const now = parts();
  if (Number(now.slider.value) === now.steps.length - 1) show(now, 0);
  now.play.textContent = 'Pause';
  timer = setInterval(advance, 1400);
});
const restart = () => {
  stop();
  const now = parts();
  if (now) show(now, 0);
};
watch('value', () => requestAnimationFrame(restart));
restart();
