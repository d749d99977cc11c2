// Pictures from people's hands: pasted or dropped anywhere, photographed, and made smaller before they are sent.
(() => {
  const { say, visible } = window.lookthink;
  const shown = (selector) => [...document.querySelectorAll(selector)].find((one) => visible(one.closest('.lt-picture, .lt-gallery')));
  const field = () => shown('.lt-picture input[type=file]');
  const HEIC = ['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'mif1', 'msf1'];
  const KEPT_BYTES = 1e6;

  const isHeic = async (file) => {
    const head = new TextDecoder('latin1').decode(await file.slice(4, 12).arrayBuffer());
    return head.startsWith('ftyp') && HEIC.includes(head.slice(4));
  };

  // A picture with more pixels than the model sees becomes a JPEG of as many; what the server reads itself stays as it
  // is, and so does what this browser cannot read: the server says what is wrong with it. HEIC, which the server does
  // not read, becomes a JPEG where the browser can read it.
  const smaller = async (file) => {
    const heic = await isHeic(file);
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      if (!heic) return file;
      say('This browser cannot read HEIC pictures. Export the picture as JPEG, or take a screenshot of it.');
      return null;
    }
    const most = Number(document.querySelector('.lt-examples').dataset.maxPixels);
    const scale = Math.min(1, Math.sqrt(most / (bitmap.width * bitmap.height)));
    if (!heic && (scale === 1 || file.size < KEPT_BYTES / 4)) return file;
    const canvas = document.createElement('canvas');
    canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
    canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
    const pen = canvas.getContext('2d');
    pen.fillStyle = '#fff';
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const blob = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.92));
    return blob && new File([blob], file.name.replace(/\.[^.]*$/, '') + '.jpg', { type: 'image/jpeg' });
  };

  // Files go by XMLHttpRequest, which alone tells how much has been sent: where it is slow, the page says so.
  const fetched = window.fetch;
  window.fetch = (address, options) => {
    if (!(options?.body instanceof FormData) || !/\/upload(\?|$)/.test(String(address))) return fetched(address, options);
    return new Promise((done, fail) => {
      const sent = new XMLHttpRequest(), since = performance.now();
      let said = '';
      sent.open(options.method ?? 'POST', address);
      sent.withCredentials = options.credentials === 'include';
      for (const [name, value] of new Headers(options.headers)) sent.setRequestHeader(name, value);
      sent.upload.onprogress = ({ loaded, total }) => {
        const words = `Sending: ${Math.floor((10 * loaded) / total) * 10} %`; // in tens, as a screen reader says each
        if (performance.now() - since > 400 && words !== said) say((said = words), true);
      };
      sent.onload = () => done(new Response(sent.response, { status: sent.status, headers: { 'content-type': 'application/json' } }));
      sent.onerror = () => fail(new TypeError('The file could not be sent.'));
      sent.onloadend = () => { if (said) say(''); };
      sent.send(options.body);
    });
  };

  // Gradio's own field uploads: it gets the smaller files as if they had been chosen there.
  const ours = new WeakSet();
  const give = async (input, files) => {
    if (files.some((file) => file.size > KEPT_BYTES)) say('Making the picture smaller…', true);
    const all = (await Promise.all(files.map(smaller))).filter(Boolean);
    if (document.querySelector('.lt-say')?.textContent.startsWith('Making')) say('');
    if (!all.length) return;
    const carried = new DataTransfer();
    all.forEach((file) => carried.items.add(file));
    input.files = carried.files;
    const event = new Event('change', { bubbles: true });
    ours.add(event);
    input.dispatchEvent(event);
  };
  const take = (files) => {
    const pictures = [...files].filter((file) => file.type.startsWith('image/') || /\.(heic|heif|avif)$/i.test(file.name));
    const input = field();
    if (!pictures.length || !input) return;
    if (pictures.length > 1) say('The first picture was taken. Add the others under More pictures.');
    give(input, pictures.slice(0, 1));
  };

  document.addEventListener('change', (event) => {
    const input = event.target;
    if (ours.has(event) || !input.matches?.(':is(.lt-picture, .lt-gallery) input[type=file]') || !input.files.length) return;
    event.stopImmediatePropagation();
    give(input, [...input.files]);
  }, true);

  document.addEventListener('paste', (event) => {
    if (!event.clipboardData?.files.length || !field()) return;
    event.preventDefault();
    event.stopPropagation();
    take(event.clipboardData.files);
  }, true);

  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files') && field();
  const root = document.documentElement;
  let leaving;
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    clearTimeout(leaving); // there is no event for a drag that leaves the window; dragover comes all the time
    leaving = setTimeout(() => root.removeAttribute('data-lt-drop'), 300);
    root.setAttribute('data-lt-drop', '');
  }, true);
  document.addEventListener('drop', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    root.removeAttribute('data-lt-drop');
    const gallery = event.target.closest?.('.lt-gallery')?.querySelector('input[type=file]');
    if (gallery) give(gallery, [...event.dataTransfer.files]);
    else take(event.dataTransfer.files);
  }, true);

  // On a phone the system's camera takes better pictures than the browser's preview, and needs no permission.
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('.lt-picture .source-selection button:nth-of-type(2)');
    if (!button || !matchMedia('(pointer: coarse)').matches) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const camera = Object.assign(document.createElement('input'), { type: 'file', accept: 'image/*', capture: 'environment' });
    camera.addEventListener('change', () => take(camera.files));
    camera.click();
  }, true);
})();
