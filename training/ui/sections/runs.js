// The table of runs: sorting, search, pages of 25, ticks. Its ticks win over those of an update that was under way.
let column = -1, down = true, ticked = null, page = 0, wanted = { text: '', status: '' };
const A_PAGE = 25;
const boxes = () => [...element.querySelectorAll('input[data-run]')];
const key = (row) => {
  const cell = row.cells[column];
  const number = parseFloat(cell.dataset.key);
  return Number.isNaN(number) ? cell.dataset.key : number;
};
const sort = () => {
  const heads = [...element.querySelectorAll('th[aria-sort]')];
  heads.forEach((head) => head.setAttribute('aria-sort', 'none'));
  const body = element.querySelector('tbody');
  if (column < 0 || !body) return;
  heads.find((head) => head.cellIndex === column).setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
  rows.forEach(([, row]) => body.append(row));
};
// Rows that match the search, 25 at a time; ticked ones stay in sight.
const filter = () => {
  const body = element.querySelector('tbody'), foot = element.querySelector('.lt-pages');
  if (!body || !foot) return;
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...body.rows].filter((row) => {
    const text = row.dataset.text;
    return words.every((word) => text.includes(word)) && (!wanted.status || row.dataset.status === wanted.status);
  });
  const last = Math.max(0, Math.ceil(found.length / A_PAGE) - 1);
  page = Math.min(page, last);
  const shown = new Set(found.slice(page * A_PAGE, (page + 1) * A_PAGE));
  [...body.rows].forEach((row) => { row.hidden = !shown.has(row); });
  const [before, count, after] = foot.children;
  count.textContent = found.length
    ? `${page * A_PAGE + 1} to ${page * A_PAGE + shown.size} of ${found.length} runs`
    : 'No run is like that. Change the search.';
  before.hidden = after.hidden = !last;
  [before.disabled, after.disabled] = [page === 0, page === last];
};
document.querySelector('#train-runs-search')?.addEventListener('input', (event) => {
  const { name, value } = event.target;
  wanted[name] = value;
  page = 0;
  filter();
});
const mark = () => boxes().forEach((box) => {
  if (ticked) box.checked = ticked.has(box.dataset.run);
  box.closest('tr').classList.toggle('lt-chosen', box.checked);
});
element.addEventListener('click', (event) => {
  const turn = event.target.closest('.lt-pages button');
  if (turn) { page += Number(turn.dataset.by); filter(); }
  const link = event.target.closest('a[data-open]');
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    trigger('submit', { id: link.dataset.open });
  }
  const button = event.target.closest('th button');
  if (!button) return;
  const clicked = button.closest('th').cellIndex;
  down = column === clicked ? !down : true;
  column = clicked;
  sort();
  filter();
});
element.addEventListener('change', (event) => {
  if (!event.target.matches('input[data-run]')) return;
  ticked = new Set(boxes().filter((box) => box.checked).map((box) => box.dataset.run));
  mark();
  trigger('select', { ids: [...ticked] });
});
watch('value', () => { sort(); mark(); filter(); });
filter();
