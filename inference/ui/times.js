// Times in the zone of whoever reads: the server writes them in UTC (`time_html`), for readers without scripts.
(() => {
  const two = (number) => String(number).padStart(2, '0');
  const rewrite = (time) => {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const words = `${date} ${two(at.getHours())}:${two(at.getMinutes())}`;
    if (time.textContent !== words) time.textContent = words;
    time.title = `${time.dateTime} (UTC)`;
  };
  const look = (node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    if (node.matches('time[datetime]')) rewrite(node);
    else node.querySelectorAll('time[datetime]').forEach(rewrite);
  };
  new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach(look)))
    .observe(document.documentElement, { childList: true, subtree: true });
})();
