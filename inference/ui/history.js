// The history of this visit, kept in this browser alone (IndexedDB): pictures, question, settings and completion.
(() => {
  const { say, stateOf, RUNNING } = window.lookthink;
  const MOST = 50, MOST_BYTES = 50e6;
  const [PICTURE, QUESTION, OTHERS, THOUGHT, NOTES, NUM] = [0, 1, 7, 10, 12, 13];
  const panel = () => document.querySelector('#ask-panel');
  let place, choose, chosen;

  const opened = new Promise((done, fail) => {
    const request = indexedDB.open('lookthink', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('asked', { keyPath: 'id' });
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
  opened.catch(() => {}); // a private window may have no IndexedDB: the list then stays away
  const store = async (mode, work) => {
    const transaction = (await opened).transaction('asked', mode);
    const request = work(transaction.objectStore('asked'));
    return new Promise((done, fail) => {
      transaction.oncomplete = () => done(request?.result);
      transaction.onerror = transaction.onabort = () => fail(transaction.error);
    });
  };
  const all = () => store('readonly', (asked) => asked.getAll());

  const urls = (values) => [values[PICTURE], ...(values[OTHERS] ?? []).map((one) => one.image ?? one)].filter(Boolean);
  const blobOf = async (file) => {
    const response = await fetch(file.url);
    if (!response.ok) throw new Error(`the picture is gone (${response.status})`);
    return response.blob();
  };
  // Called with the inputs and the texts of the panel once a completion has ended. A continued one takes the place of
  // the one that it goes on from.
  let last;
  const keep = async (values) => {
    const state = stateOf(panel());
    if (!['done', 'cut-off', 'stopped'].includes(state) || !values[PICTURE]) return;
    try {
      const pictures = await Promise.all(urls(values).map(blobOf));
      const key = JSON.stringify([values.slice(QUESTION, OTHERS), values[PICTURE].path]);
      const goesOn = last?.key === key && last.state === 'cut-off';
      const id = goesOn ? last.id : Date.now();
      const kept = { id, values: values.map((value, i) => (i === PICTURE || i === OTHERS ? null : value)), pictures };
      kept.bytes = pictures.reduce((sum, blob) => sum + blob.size, 0) + JSON.stringify(kept.values).length;
      last = { key, state, id };
      await store('readwrite', (asked) => asked.put(kept));
      const entries = (await all()).reverse();
      let bytes = 0;
      const old = entries.filter((one, i) => (bytes += one.bytes) > MOST_BYTES || i >= MOST);
      if (old.length) await store('readwrite', (asked) => { old.forEach((one) => asked.delete(one.id)); });
    } catch (error) {
      console.warn('not kept in the history:', String(error));
    }
    draw();
  };

  const upload = async (blob, i) => {
    const base = (window.gradio_config?.root ?? '').replace(/\/$/, '');
    const form = new FormData();
    form.append('files', blob, `picture-${i + 1}`);
    const response = await fetch(`${base}/gradio_api/upload`, { method: 'POST', body: form });
    if (!response.ok) throw new Error((await response.json()).detail ?? `status ${response.status}`);
    const [path] = await response.json();
    return { path, url: `${base}/gradio_api/file=${path}`, orig_name: `picture-${i + 1}`, size: blob.size,
      mime_type: blob.type, meta: { _type: 'gradio.FileData' } };
  };
  // The values that an entry gives to the inputs, the panel and its buttons; its pictures are sent again.
  const restored = async (withShare) => {
    const skip = { __type__: 'update' }, show = { ...skip, visible: true }, hide = { ...skip, visible: false };
    try {
      const stop = document.querySelector('#ask-stop');
      for (let i = 0; i < 200 && RUNNING.includes(stateOf(panel())); i++) {
        if (!stop.disabled) stop.click();
        await new Promise((done) => setTimeout(done, 50));
      }
      const { values, pictures } = await store('readonly', (asked) => asked.get(chosen));
      const [first, ...others] = await Promise.all(pictures.map(upload));
      const given = values.slice(0, NUM), record = values[NUM] ?? '';
      given[PICTURE] = first;
      given[OTHERS] = others.length ? others.map((image) => ({ image, caption: null })) : null;
      last = undefined;
      scrollTo({ top: 0 });
      return [...given, values[THOUGHT] ? show : hide, answerOf(values) ? show : hide, show, hide, hide,
        ...(withShare ? [record ? show : hide, hide, record] : [])];
    } catch (error) {
      say(`This entry cannot be restored: ${error.message}`);
      return Array(NUM + (withShare ? 8 : 5)).fill(skip);
    }
  };

  const made = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const answerOf = (values) =>
    new DOMParser().parseFromString(values[NOTES], 'text/html').querySelector('.lt-notes')?.dataset.answer ?? '';
  const drop = async (id) => {
    await store('readwrite', (asked) => (id === undefined ? asked.clear() : asked.delete(id)));
    last = undefined;
    draw();
  };
  const row = ({ id, values, pictures }) => {
    const image = made('img', { src: URL.createObjectURL(pictures[0]), alt: '', loading: 'lazy' });
    image.addEventListener('load', () => URL.revokeObjectURL(image.src));
    const time = made('time', { dateTime: new Date(id).toISOString() }); // its words come from times.js
    const words = made('span', { className: 'lt-kept-words' }, made('span', {}, values[QUESTION]), made('strong', {}, answerOf(values).slice(0, 200) || 'No answer'));
    const open = made('button', { type: 'button', className: 'lt-kept', title: 'Show it again' }, image, words, time);
    open.addEventListener('click', () => { chosen = id; choose(); });
    const remove = made('button', { type: 'button', className: 'lt-drop', ariaLabel: `Delete: ${values[QUESTION]}` }, '×');
    remove.addEventListener('click', () => drop(id));
    return made('li', {}, open, remove);
  };
  const draw = async () => {
    if (!place) return;
    const entries = (await all().catch(() => [])).reverse();
    if (!entries.length) return place.replaceChildren();
    const clear = made('button', { type: 'button', className: 'lt-clear' }, 'Delete all');
    clear.addEventListener('click', () => drop());
    const note = made('p', {}, `The last ${MOST} at most, in this browser only.`);
    place.replaceChildren(made('div', { className: 'lt-history-head' }, made('h2', {}, 'History'), note, clear),
      made('ul', {}, ...entries.map(row)));
  };
  const show = (element, trigger) => { [place, choose] = [element, trigger]; draw(); };
  window.lookthinkHistory = { keep, restored, show };
})();
