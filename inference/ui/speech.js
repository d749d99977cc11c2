// For screen readers and the keyboard: a completion is read out once it has ended, and a link skips the header.
(() => {
  const visible = (element) => Boolean(element && element.offsetParent !== null);
  const ENDED = { done: 'Answer', 'cut-off': 'Cut off. Answer so far', stopped: 'Stopped. Answer so far' };

  // Words while they grow would be read again and again, so the region gets the answer alone, at its end.
  const region = document.createElement('div');
  region.id = 'lt-spoken';
  region.setAttribute('aria-live', 'polite');
  if (document.body) document.body.append(region);
  else addEventListener('DOMContentLoaded', () => document.body.append(region));
  const states = new WeakMap();
  const say = (panel) => {
    const state = panel.querySelector('.lt-status')?.dataset.state ?? 'idle';
    const before = states.get(panel) ?? state;
    states.set(panel, state);
    if (state === before || !(state in ENDED)) return;
    setTimeout(() => {  // the answer is drawn after the state
      const answer = panel.querySelector('.block.lt-answer')?.innerText.trim() || 'none';
      const line = document.createElement('p');
      const title = panel.querySelector('.lt-panel-title')?.innerText;
      line.textContent = `${title ? `${title}. ` : ''}${ENDED[state]}: ${answer}`;
      region.append(line);
      while (region.children.length > 2) region.firstChild.remove();
    }, 200);
  };
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      document.querySelectorAll('.lt-panel').forEach(say);
    });
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-state'] });

  document.addEventListener('click', (event) => {
    if (!event.target.closest?.('.lt-skip')) return;
    event.preventDefault();
    const panel = [...document.querySelectorAll('#lt-tabs > [role=tabpanel]')].find(visible);
    if (!panel) return;
    panel.tabIndex = -1;
    panel.focus();
    panel.scrollIntoView({ block: 'start' });
  });
})();
