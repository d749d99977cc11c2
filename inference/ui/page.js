// What the page does beyond Gradio: keys, following the completion, names for assistive technology.
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

  // The part of the completion that grows stays in sight: the panel when it starts, then the answer.
  const reveal = (element) => {
    if (!visible(element)) return;
    const box = element.getBoundingClientRect();
    if (box.top >= 0 && box.bottom <= innerHeight) return;
    const block = box.height > innerHeight * 0.8 ? 'start' : 'nearest';
    element.scrollIntoView({ block, behavior: calm.matches ? 'auto' : 'smooth' });
  };
  const seen = new WeakMap();
  const follow = (panel) => {
    const status = panel.querySelector('.lt-status');
    if (!status) return;
    const now = { state: status.dataset.state, revealed: false };
    const before = seen.get(panel) || now;
    const running = ['waiting', 'thinking', 'answering'].includes(now.state);
    now.revealed = before.revealed && now.state !== 'waiting' && now.state !== 'idle';
    const thought = panel.querySelector('.block.lt-thinking');
    if (thought && now.state === 'thinking') {
      const gap = thought.scrollHeight - thought.scrollTop - thought.clientHeight;
      if (gap < 80 || before.state !== now.state) thought.scrollTop = thought.scrollHeight;
    }
    if (before.state !== now.state && now.state === 'waiting' && panel.id !== 'compare-tuned') reveal(panel);
    if (!now.revealed && before.state !== now.state && (now.state === 'answering' || !running) && now.state !== 'idle') {
      now.revealed = true;
      setTimeout(() => reveal(panel.querySelector('.block.lt-answer')), 60);
    }
    seen.set(panel, now);
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
