// What the page does beyond Gradio: keys, following the completion, folding, copying, names for assistive technology.
(() => {
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  const visible = (element) => element && element.offsetParent !== null;
  const first = (selector) => [...document.querySelectorAll(selector)].find(visible);

  // Ctrl/Cmd + Enter asks, Escape stops.
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      const button = first('button.lt-run');
      if (!button || button.disabled) return;
      event.preventDefault();
      event.stopPropagation();
      // Gradio takes over what was typed on input, before this click arrives.
      setTimeout(() => button.click(), 0);
    } else if (event.key === 'Escape') {
      const button = first('button.lt-stop');
      if (button && !button.disabled) button.click();
    }
  }, true);

  // The part of the completion that grows stays in sight: the panel when it starts, then the answer. Whoever scrolls
  // meanwhile is left alone.
  const RUNNING = ['waiting', 'thinking', 'answering'];
  const stateOf = (panel) => panel.querySelector('.lt-status')?.dataset.state ?? 'idle';
  const around = (elements) => {
    const boxes = elements.filter(visible).map((element) => element.getBoundingClientRect());
    return { top: Math.min(...boxes.map((box) => box.top)), bottom: Math.max(...boxes.map((box) => box.bottom)) };
  };
  const MARGIN = 12;
  const fits = (box) => box.bottom - box.top <= innerHeight - 2 * MARGIN;
  // Scrolls as little as needed; what is too long to fit is shown from its beginning.
  const reveal = (...elements) => {
    if (!elements.some(visible)) return;
    const { top, bottom } = around(elements);
    if (top >= 0 && bottom <= innerHeight) return;
    const isBelow = bottom > innerHeight && fits({ top, bottom });
    scrollBy({ top: isBelow ? bottom - innerHeight + MARGIN : top - MARGIN, behavior: calm.matches ? 'auto' : 'smooth' });
  };
  // The most that fits: all answers of the tab with what is said of them, all answers, the answer of this panel.
  const revealAnswers = (panel) => {
    if (!visible(panel)) return;
    const panels = [...document.querySelectorAll('.lt-panel')].filter(
      (one) => visible(one) && !['idle', 'waiting', 'thinking'].includes(stateOf(one)));
    const answers = panels.map((one) => one.querySelector('.block.lt-answer'));
    const notes = panels.map((one) => one.querySelector('.lt-notes'));
    const own = panel.querySelector('.lt-notes .lt-bad[role="alert"]') || panel.querySelector('.block.lt-answer');
    const choices = [[...answers, ...notes], answers].filter((some) => some.some(visible) && fits(around(some)));
    reveal(...(choices[0] || [own]));
  };
  let followsAnswer = true;
  for (const gesture of ['wheel', 'touchmove']) document.addEventListener(gesture, () => { followsAnswer = false; }, { passive: true });
  const settle = (panel, state) => {
    // A thought folds and notes come with the end of a completion: once now, and once when that has been drawn.
    const look = () => { if (followsAnswer && stateOf(panel) === state) revealAnswers(panel); };
    for (const wait of [60, 350]) setTimeout(look, wait);
  };
  // A long thought folds to its first lines; whoever unfolds one unfolds all, also on the next visit.
  const root = document.documentElement;
  const recall = (key) => { try { return localStorage.getItem(`lookthink-${key}`); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(`lookthink-${key}`, value); } catch { /* for this visit */ } };
  for (const key of ['unfolded', 'closed', 'played']) root.toggleAttribute(`data-lt-${key}`, recall(key) === 'yes');
  const set = (key, value) => { root.toggleAttribute(`data-lt-${key}`, value); remember(key, value ? 'yes' : 'no'); };
  const FOLDED = 216;
  const measure = (thought, hasEnded) => {
    const column = thought.closest('.lt-thought');
    column.toggleAttribute('data-long', thought.scrollHeight > FOLDED + 4);
    column.toggleAttribute('data-ended', hasEnded);
  };
  addEventListener('resize', () => document.querySelectorAll('.lt-panel').forEach(follow));

  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no clipboard for pages that did not come over HTTPS
      const field = Object.assign(document.createElement('textarea'), { value: text });
      document.body.append(field);
      field.select();
      document.execCommand('copy');
      field.remove();
    }
  };
  document.addEventListener('click', async (event) => {
    const button = event.target.closest?.('button');
    if (!button) return;
    set('played', true);
    if (button.matches('.lt-unfold')) set('unfolded', !root.hasAttribute('data-lt-unfolded'));
    if (button.matches('.lt-close')) set('closed', true);
    if (button.matches('.lt-copy')) {
      await copied(button.closest('.lt-panel').querySelector('.lt-notes').dataset.answer);
      button.dataset.copied = '';
      say('Copied');
      setTimeout(() => { delete button.dataset.copied; }, 1500);
    }
  });
  setTimeout(() => remember('played', 'yes'), 8000);

  // A short message for eyes and screen readers; it goes by itself.
  const say = (text, isLasting = false) => {
    let box = document.querySelector('.lt-say');
    if (!box) {
      box = Object.assign(document.createElement('div'), { className: 'lt-say', role: 'status' });
      document.querySelector('.gradio-container').append(box);
    }
    box.textContent = text;
    clearTimeout(say.timer);
    if (!isLasting) say.timer = setTimeout(() => { box.textContent = ''; }, text.length > 20 ? 8000 : 1500);
  };
  window.lookthink = { say, visible, stateOf, RUNNING, copied };

  const seen = new WeakMap();
  const follow = (panel) => {
    const state = stateOf(panel);
    const before = seen.get(panel) ?? state;
    seen.set(panel, state);
    const thought = panel.querySelector('.block.lt-thinking');
    if (thought) {
      const gap = thought.scrollHeight - thought.scrollTop - thought.clientHeight;
      if (state === 'thinking' && (gap < 80 || before !== state)) thought.scrollTop = thought.scrollHeight;
      if (RUNNING.includes(before) && !RUNNING.includes(state)) thought.scrollTop = 0;
      measure(thought, !RUNNING.includes(state));
    }
    if (before === state || state === 'idle') return;
    if (!RUNNING.includes(before)) followsAnswer = true;
    if (state === 'waiting') {
      if (panel.id !== 'compare-tuned') reveal(panel);
    } else if (state === 'answering' || !RUNNING.includes(state)) {
      settle(panel, state);
    }
  };

  // Gradio leaves these without a name or out of reach of the keyboard.
  const name = () => {
    document.querySelectorAll('.block.lt-thinking:not([tabindex])').forEach((element) => {
      element.tabIndex = 0;
      element.setAttribute('role', 'group');
      element.setAttribute('aria-label', 'Thinking');
    });
  };
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      name();
      document.querySelectorAll('.lt-panel').forEach(follow);
    });
  }).observe(document, { subtree: true, childList: true, characterData: true });
})();
