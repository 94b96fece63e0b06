// The demo page: an example of the package.
//
// ?model=ADDRESS loads another model, ?picture=ADDRESS another example picture; ?limits=default opens the device with
// WebGPU's default limits.

import { FullconvError, Segmenter } from './fullconv/fullconv.js';

const query = new URLSearchParams(location.search);
const example = query.get('picture') ?? 'street.jpg';

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);
const stage = element('stage');
const pictureCanvas = element('picture');
const overlay = element('overlay');
const status = element('status');

/** The model file. @type {string | File} */
let model = query.get('model') ?? 'demo.safetensors';
/** @type {Segmenter | undefined} */
let segmenter;
/** Aborts loading. @type {AbortController | undefined} */
let loading;
/** @type {import('./fullconv/fullconv.js').Mask | undefined} */
let mask;
/** The hidden classes, kept when the picture changes. @type {Set<number>} */
const hidden = new Set();
/** The picture on the stage, unless the camera is on. @type {{ picture: ImageBitmap, name: string } | undefined} */
let shown;
/** The camera, while it is on. @type {MediaStream | undefined} */
let camera;
/** The number of the latest request: late results of earlier ones are dropped. */
let turn = 0;

const milliseconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Shows a time, or another value, under `name`. */
function time(name, ms) {
  const times = element('times');
  let value = [...times.querySelectorAll('dd')].find((found) => found.dataset.name === name);
  if (!value) {
    value = document.createElement('dd');
    value.dataset.name = name;
    const term = document.createElement('dt');
    term.textContent = name;
    times.append(term, value);
  }
  value.textContent = ms === undefined ? '' : typeof ms === 'string' ? ms : milliseconds(ms);
}

function say(text) {
  status.textContent = text;
}

/** Shows an error and the button to go on. */
function fail(text, again = 'Start again') {
  element('error-text').textContent = text;
  element('again').textContent = again;
  element('error').hidden = false;
  element('loading').hidden = true;
  stage.classList.remove('busy');
}

/** An error's message for people. */
function explained(error) {
  if (!(error instanceof Error)) return String(error);
  if (!(error instanceof FullconvError)) return `Something unexpected failed: ${error.message}`;
  switch (error.kind) {
    case 'NoAdapter':
      if (!isSecureContext) return 'This page needs WebGPU, which browsers offer only over https.';
      return 'This browser offers no WebGPU, which this page needs. Current versions of Chrome, Edge, Safari and Firefox have WebGPU; on some systems it has to be switched on.';
    case 'ModelFile':
      return `The model file cannot be used: ${error.message}`;
    case 'DeviceLost':
      return `The graphics device was lost: ${error.message}`;
    case 'Limit':
      return `This exceeds the device's limits: ${error.message}`;
    default:
      return error.message;
  }
}

/** Loads the model. Returns whether it is ready. */
async function load() {
  element('error').hidden = true;
  stopCamera();
  void segmenter?.free();
  segmenter = undefined;
  loading?.abort();
  const mine = new AbortController();
  loading = mine;
  element('loading').hidden = false;
  const progress = element('progress');
  progress.removeAttribute('value');
  say('Opening the GPU…');
  const begin = performance.now();
  let fetched = begin;
  try {
    const loaded = await Segmenter.load(model, {
      signal: mine.signal,
      defaultLimits: query.get('limits') === 'default',
      onProgress({ stage: step, received, total }) {
        if (loading !== mine) return;
        if (step === 'prepare') {
          fetched = performance.now();
          progress.removeAttribute('value');
          say('Compiling shaders and uploading weights…');
          return;
        }
        const of = total === undefined ? '' : ` of ${megabytes(total)}`;
        say(`Fetching the model: ${megabytes(received)}${of}`);
        if (total !== undefined) {
          progress.max = total;
          progress.value = received;
        }
      },
    });
    if (loading !== mine) {
      void loaded.free();
      return false;
    }
    segmenter = loaded;
    element('loading').hidden = true;
    time('Fetching', fetched - begin);
    time('Preparing', performance.now() - fetched);
    time('Device', loaded.device);
    describe(loaded);
    hidden.clear();
    say('Ready.');
    loaded.lost.then((reason) => {
      if (segmenter !== loaded) return;
      segmenter = undefined;
      stopCamera();
      say('The device is gone.');
      fail(`The graphics device was lost (${reason}).`);
    });
    return true;
  } catch (error) {
    if (loading !== mine) return false;
    if (mine.signal.aborted) {
      say('No model is loaded.');
      fail('Loading the model was cancelled.', 'Load it');
    } else {
      say('No model is loaded.');
      fail(explained(error), 'Try again');
    }
    return false;
  }
}

function describe(loaded) {
  const terms = loaded.license ? ` Terms of the weights: ${loaded.license}` : '';
  element('model-text').textContent = `${loaded.architecture}, ${loaded.classCount} classes. ${loaded.description}${terms}`;
}

/** Draws a picture on the stage. */
function show(picture, width, height) {
  pictureCanvas.width = width;
  pictureCanvas.height = height;
  pictureCanvas.getContext('2d').drawImage(picture, 0, 0, width, height);
  element('frame').hidden = false;
  element('hint').hidden = true;
}

/** Labels a picture and shows the classes. Returns whether that worked. */
async function label(picture, width, height, mine) {
  if (!segmenter) return false;
  const begin = performance.now();
  try {
    const found = await segmenter.segment(picture);
    if (turn !== mine) return false;
    const ms = performance.now() - begin;
    mask = found;
    element('save').disabled = false;
    time('Labelling', ms);
    time('Picture', `${width} × ${height}`);
    draw();
    list();
    return true;
  } catch (error) {
    if (turn !== mine) return false;
    // `lost` reports a lost device too.
    if (segmenter || error.kind !== 'DeviceLost') fail(explained(error));
    say('The picture was not labelled.');
    return false;
  } finally {
    if (turn === mine) stage.classList.remove('busy');
  }
}

/** Opens a picture: a file, or an address. */
async function open(source, name) {
  stopCamera();
  turn += 1;
  const mine = turn;
  element('error').hidden = true;
  let picture;
  try {
    const blob = typeof source === 'string' ? await fetched(source) : source;
    picture = await createImageBitmap(blob);
  } catch (error) {
    const reason = error instanceof FullconvError ? error.message : 'this browser cannot read it as a picture';
    fail(`${name} cannot be opened: ${reason}.`, 'Example');
    return;
  }
  if (turn !== mine) return;
  shown?.picture.close();
  shown = { picture, name };
  mask = undefined;
  element('save').disabled = true;
  overlay.getContext('2d').clearRect(0, 0, overlay.width, overlay.height);
  overlay.setAttribute('aria-label', 'Nothing is labelled yet');
  list();
  show(picture, picture.width, picture.height);
  await labelShown();
}

/** Labels the picture on the stage, if the model is ready. */
async function labelShown() {
  if (!segmenter || !shown) return;
  turn += 1;
  const { picture, name } = shown;
  stage.classList.add('busy');
  say(`Labelling ${name}…`);
  if (await label(picture, picture.width, picture.height, turn)) say(`${name} is labelled.`);
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new FullconvError('Fetch', `the server says ${response.status} ${response.statusText}`);
  return response.blob();
}

function draw() {
  if (!mask) return;
  mask.draw(overlay, { hidden });
  const most = mask.shares().slice(0, 4);
  const text = most.map(({ name, share }) => `${name} ${Math.round(100 * share)} %`).join(', ');
  overlay.setAttribute('aria-label', `The picture's classes: ${text}`);
}

/** Fills the legend: each class that occurs, with a box to hide it. */
function list() {
  const shares = mask?.shares() ?? [];
  element('legend-empty').hidden = shares.length > 0;
  const focused = document.activeElement?.id;
  element('legend').replaceChildren(
    ...shares.map(({ label: id, name, share }) => {
      const item = document.createElement('li');
      const row = document.createElement('label');
      const box = document.createElement('input');
      box.type = 'checkbox';
      box.id = `class-${id}`;
      box.checked = !hidden.has(id);
      box.addEventListener('change', () => {
        if (box.checked) hidden.delete(id);
        else hidden.add(id);
        draw();
      });
      const swatch = document.createElement('span');
      swatch.className = 'swatch';
      swatch.style.background = `rgb(${mask?.colour(id).join(' ')})`;
      const text = document.createElement('span');
      text.textContent = name;
      const part = document.createElement('span');
      part.className = 'share';
      part.textContent = `${(100 * share).toFixed(1)} %`;
      row.append(box, swatch, text, part);
      item.append(row);
      return item;
    }),
  );
  if (focused?.startsWith('class-')) element(focused)?.focus();
}

async function startCamera() {
  turn += 1;
  const mine = turn;
  let stream;
  try {
    if (!navigator.mediaDevices) throw new Error('browsers offer cameras only over https');
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (error) {
    fail(`The camera cannot be used: ${error.message}`, 'Example');
    return;
  }
  if (turn !== mine) {
    stream.getTracks().forEach((track) => track.stop());
    return;
  }
  camera = stream;
  shown?.picture.close();
  shown = undefined;
  element('camera').setAttribute('aria-pressed', 'true');
  element('camera').textContent = 'Stop the camera';
  const video = document.createElement('video');
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  await video.play();
  say('The camera is on.');
  while (camera === stream && turn === mine) {
    const frame = await createImageBitmap(video);
    const begin = performance.now();
    if (!(await label(frame, frame.width, frame.height, mine))) break;
    show(frame, frame.width, frame.height);
    frame.close();
    time('Frames a second', (1000 / (performance.now() - begin)).toFixed(1));
    await new Promise(requestAnimationFrame);
  }
  if (camera === stream) stopCamera();
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = undefined;
  element('camera').setAttribute('aria-pressed', 'false');
  element('camera').textContent = 'Use the camera';
}

/** Saves the picture with its overlay as a PNG. */
function save() {
  const canvas = document.createElement('canvas');
  canvas.width = pictureCanvas.width;
  canvas.height = pictureCanvas.height;
  const context = canvas.getContext('2d');
  if (!context) return;
  context.drawImage(pictureCanvas, 0, 0);
  context.globalAlpha = Number(element('opacity').value) / 100;
  context.drawImage(overlay, 0, 0);
  canvas.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = 'labelled.png';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

function fade() {
  const value = element('opacity').value;
  overlay.style.opacity = String(value / 100);
  element('opacity-value').textContent = `${value} %`;
}

/** Loads the model, and shows the example unless there is a picture already. */
async function start() {
  if (!shown) void open(example, 'The example');
  if (await load()) await labelShown();
}

element('choose').addEventListener('click', () => element('file').click());
element('file').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  target.value = '';
  if (file) void open(file, file.name);
});
element('camera').addEventListener('click', () => (camera ? stopCamera() : void startCamera()));
element('example').addEventListener('click', () => void open(example, 'The example'));
element('save').addEventListener('click', save);
element('opacity').addEventListener('input', fade);
element('cancel').addEventListener('click', () => loading?.abort());
element('again').addEventListener('click', () => {
  element('error').hidden = true;
  if (segmenter) void open(example, 'The example');
  else void start();
});
element('model').addEventListener('click', () => element('model-file').click());
element('model-file').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  target.value = '';
  if (!file) return;
  model = file;
  void start();
});

let over = 0;
addEventListener('dragenter', (event) => {
  event.preventDefault();
  over += 1;
  stage.classList.add('over');
});
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('dragleave', () => {
  over = Math.max(0, over - 1);
  if (over === 0) stage.classList.remove('over');
});
addEventListener('drop', (event) => {
  event.preventDefault();
  over = 0;
  stage.classList.remove('over');
  const [file] = event.dataTransfer?.files ?? [];
  if (file) void open(file, file.name);
});
addEventListener('paste', (event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (file) void open(file, 'The pasted picture');
});

overlay.addEventListener('pointermove', (event) => {
  const box = overlay.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const found = mask?.at((x / box.width) * mask.width, (y / box.height) * mask.height);
  const tip = element('tip');
  tip.hidden = found === undefined || hidden.has(found);
  if (tip.hidden || !mask || found === undefined) return;
  tip.textContent = mask.className(found);
  tip.style.left = `${x}px`;
  tip.style.top = `${y}px`;
});
overlay.addEventListener('pointerleave', () => {
  element('tip').hidden = true;
});

fade();
void start();
