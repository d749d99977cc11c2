// An address for each tab, adapter, section of Train, run and comparison, after the "#" of the page's own:
//   #/ask  #/compare/ADAPTER  #/learn/ADAPTER  #/about  #/train/watch/RUN/STEP/PROBLEM/ANSWER  #/train/runs/RUN,RUN
//   #/train/adapters/ADAPTER  #/train/rewards/RUN
// Moving about adds to the browser's history; back, forward, a reload and a link open what they name. What runs on
// the server to get there is reached through `lookthinkGo`, which hidden components of the page and of Train fill.
(() => {
  const TABS = ['ask', 'compare', 'learn', 'train', 'about'];
  const SECTIONS = { watch: '#lt-watch', rewards: '#lt-rewards', data: '#lt-data', runs: '#train-runs', adapters: '#lt-adapters', start: '#train-start' };
  const SECONDS = 8;
  const visible = (element) => Boolean(element && element.offsetParent !== null);
  const tabButton = (name) => document.querySelector(`#lt-tabs > .tab-wrapper [role=tab][data-tab-id=${name}]`);
  const shown = (selector) => [...document.querySelectorAll(selector)].some(visible);

  // An adapter that was chosen; the one that is served has no name in an address, so that a link follows promotions.
  const adapters = {};  // as they were last seen: the field is not in the page while More is folded
  const adapterField = (tab) => document.querySelector(`#${tab}-adapter input`);
  const adapterOf = (tab) => {
    const label = adapterField(tab)?.value;
    if (label) adapters[tab] = label.endsWith(' (served now)') ? '' : label === 'Base alone' ? 'base' : label.replace(/ \(only you\)$/, '');
    return adapters[tab] ?? '';
  };
  const itemOf = (section) => {
    if (section === 'watch') {
      const [run, state] = (document.querySelector('#watch-run input')?.value ?? '').split(' · ');
      const isHeld = state && document.querySelector('#watch-follow input')?.checked === false;
      return state ? [run, isHeld && document.querySelector('#watch-step input[type=number]')?.value] : '';
    }
    if (section === 'rewards') return document.querySelector('#rewards-status [data-run]')?.dataset.run ?? '';
    if (section !== 'runs') return '';
    return [...document.querySelectorAll('#train-runs input[data-run]:checked')].map((box) => box.dataset.run).join(',');
  };
  const written = (parts) => '#/' + parts.filter(Boolean).map((part) => encodeURIComponent(part).replaceAll('%2C', ',')).join('/');
  const read = (hash) => {
    const parts = hash.startsWith('#/') ? hash.slice(2).split('/') : [];
    try {
      const [tab, ...rest] = parts.map(decodeURIComponent);
      return TABS.includes(tab) ? [tab, ...rest.filter(Boolean)] : ['ask'];
    } catch {
      return ['ask'];
    }
  };
  const here = () => {
    const tab = TABS.find((name) => tabButton(name)?.getAttribute('aria-selected') === 'true') ?? 'ask';
    if (tab !== 'train') return [tab, adapterOf(tab)].filter(Boolean);
    if (!shown('#train-sections')) return [tab];
    const section = Object.keys(SECTIONS).find((name) => shown(SECTIONS[name]));
    return [tab, section, itemOf(section)].flat().filter(Boolean);
  };

  let wanted = null;  // the address that is being opened
  let until = 0;
  let asked = false;  // the server for it
  let times = 0;  // as often for an adapter, the last time at
  let askedAt = 0;
  const LINKED = { adapters: 2, watch: 4 };  // an address in that section with more parts is that of a link in it
  const isLinked = (parts) => parts[0] === 'train' && parts.length > (LINKED[parts[1]] ?? 99);
  const arrived = (parts) => {
    const now = here();
    if (isLinked(parts) && written(now) === written(parts.slice(0, LINKED[parts[1]]))) {
      const links = [...document.querySelectorAll(`${SECTIONS[parts[1]]} a[href]`)];
      const link = links.find((one) => written(read(one.getAttribute('href'))) === written(parts));
      link?.closest('details')?.setAttribute('open', '');
      link?.scrollIntoView({ block: parts[1] === 'watch' ? 'center' : 'start' });
      link?.focus({ preventScroll: true });
      return Boolean(link);
    }
    return written(now) === written(parts);
  };
  const tick = (parts) => {  // of a comparison, which runs
    const names = new Set(parts[2].split(','));
    const boxes = [...document.querySelectorAll('#train-runs input[data-run]')];
    const wrong = boxes.filter((box) => box.checked !== names.has(box.dataset.run));
    wrong.forEach((box) => { box.checked = !box.checked; });
    wrong[0]?.dispatchEvent(new Event('change', { bubbles: true }));
    return boxes.length > 0;
  };
  const approach = () => {
    const [tab, section, item] = wanted;
    if (arrived(wanted) || Date.now() > until) {
      wanted = null;
      return;
    }
    if (here()[0] !== tab) {
      tabButton(tab)?.click();
      return;
    }
    const go = window.lookthinkGo ?? {};
    if (tab === 'train' && !shown('#train-sections')) {
      until = Date.now() + SECONDS * 1000;  // it waits for the log-in
    } else if (tab === 'train' && section && go.train && !asked) {
      asked = true;
      go.train({ section, item: item ?? '', step: wanted[3] ?? '', number: wanted[4] ?? '' });
    } else if (section === 'runs' && item && asked && here()[1] === 'runs') {
      tick(wanted);
    } else if (section && !adapterField(tab)) {
      document.querySelector(`#${tab}-more > button`)?.click();  // which adapter answers is to be seen
    } else if (tab !== 'train' && go.page && times < 3 && Date.now() - askedAt > 2000 && !(times && shown('.toast-body'))) {
      times += 1;  // a refresh of the tab that was under way may have put the adapter back
      askedAt = Date.now();
      go.page({ tab, adapter: section ?? '' });
    }
  };
  const open = () => {
    wanted = read(location.hash);
    until = Date.now() + SECONDS * 1000;
    asked = false;
    times = askedAt = 0;
    approach();
  };
  const follow = () => {
    if (wanted) {
      approach();
      if (wanted) return;
    }
    const now = here(), before = read(location.hash);
    if (written(now) === written(isLinked(before) ? before.slice(0, LINKED[before[1]]) : before)) return;
    const moved = now[0] !== before[0] || now[1] !== before[1];
    history[moved ? 'pushState' : 'replaceState'](null, '', written(now));
  };

  addEventListener('popstate', open);
  addEventListener('click', (event) => {
    if (event.isTrusted && event.target.closest?.('[role=tab], .overflow-dropdown button')) wanted = null;
  }, true);
  const begin = () => {
    if (!tabButton('ask')) return;
    clearInterval(waiting);
    if (location.hash.startsWith('#/')) open();
    setInterval(follow, 250);
  };
  const waiting = setInterval(begin, 50);
})();
