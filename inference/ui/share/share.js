// Opens the address of a shared answer, and keeps in this browser the keys that delete what it shared.
const keyOf = (id) => `lookthink-share-${id}`;
const recall = (id) => { try { return localStorage.getItem(keyOf(id)); } catch { return null; } };
const remember = (id, key) => { try { localStorage.setItem(keyOf(id), key); } catch { /* the owner can delete it */ } };
const forget = (id) => { try { localStorage.removeItem(keyOf(id)); } catch { /* nothing was kept */ } };
const opened = () => new URLSearchParams(location.search).get('share');
const addressOf = (id) => `${location.origin}${location.pathname}?share=${id}`;

// What the panel says was done: an address was made, or a share was deleted.
window.lookthinkShare = (panel) => {
  const { made, deleted, key } = panel.querySelector('.lt-share')?.dataset ?? {};
  if (made) {
    remember(made, key);
    panel.querySelector('input').value = addressOf(made);
  }
  if (!deleted) return;
  forget(deleted);
  document.querySelectorAll(`button[data-share-act="delete"][data-id="${deleted}"]`).forEach((button) => button.remove());
  if (opened() === deleted) history.replaceState(history.state, '', location.pathname);
};
document.addEventListener('click', async (event) => {
  const button = event.target.closest?.('button[data-share-act]');
  if (!button) return;
  const { shareAct: act, id = '' } = button.dataset;
  if (act !== 'copy') return trigger('submit', { act, id, key: recall(id) ?? '' });
  await window.lookthink.copied(addressOf(id));
  window.lookthink.say('Copied');
});
// Called once the page knows the adapters of this moment, as the shared answer chooses one.
window.lookthinkOpenShare = () => {
  if (opened()) trigger('select', { id: opened(), is_own: recall(opened()) !== null });
};
