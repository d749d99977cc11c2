// The replay: a slider over the checkpoints, Play, and a mark in the curves at the checkpoint's step.
const bind = () => {
  const box = element.querySelector('.lt-replay');
  if (!box || box.dataset.bound) return;
  box.dataset.bound = 'true';
  const slider = box.querySelector('input[type=range]'), play = box.querySelector('[data-play]');
  const steps = [...box.querySelectorAll('datalist option')].map((option) => Number(option.dataset.step));
  let timer = null;
  const show = (at) => {
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
  const stop = () => { clearInterval(timer); timer = null; play.textContent = 'Play'; };
  slider.addEventListener('input', () => { stop(); show(Number(slider.value)); });
  play.addEventListener('click', () => {
    if (timer) return stop();
    play.textContent = 'Pause';
    if (Number(slider.value) === steps.length - 1) show(0);
    timer = setInterval(() => {
      if (!box.isConnected || Number(slider.value) >= steps.length - 1) return stop();
      show(Number(slider.value) + 1);
    }, 1400);
  });
  show(0);
};
watch('value', bind);
bind();
