// The package: a browser's results, compared with the CPU reference.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import path from 'node:path';
import { done, makeReferences, open, root, scores, start } from './browser.mjs';

let session;
before(async () => {
  makeReferences();
  session = await start();
});
after(() => session?.close());

/** A page without the demo: only the package. */
const blank = (before) => open(session, 'blank', { before });

/** Runs `work` with the package's exports and `argument` in a page. */
function inPage(page, work, argument) {
  const text = `async (argument) => (${work})(await import('/fullconv/fullconv.js'), argument)`;
  return page.evaluate(`(${text})(${JSON.stringify(argument ?? null)})`);
}

/** The demo model's labels of a served picture, and of a strip of it as each kind of `Picture`. */
async function label({ Segmenter }, address) {
  const blob = await (await fetch(address)).blob();
  const times = [performance.now()];
  const stages = [];
  const segmenter = await Segmenter.load('/demo.safetensors', { onProgress: (progress) => stages.push(progress) });
  times.push(performance.now());
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none' });
  const mask = await segmenter.segment(bitmap);
  times.push(performance.now());

  const image = new Image();
  image.src = '/reference/strip.png';
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext('2d').drawImage(image, 0, 0);
  const frame = new VideoFrame(canvas, { timestamp: 0 });
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  // Concurrent calls wait for each other.
  const same = await Promise.all([pixels, image, canvas, frame].map((picture) => segmenter.segment(picture)));
  frame.close();
  const differ = same.map(({ labels }) => labels.reduce((count, found, i) => count + Number(found !== same[0].labels[i]), 0));

  const drawn = document.createElement('canvas');
  mask.draw(drawn, { opacity: 0.5, hidden: [mask.labels[0]] });
  const pixel = (x, y) => [...drawn.getContext('2d').getImageData(x, y, 1, 1).data];
  const last = [mask.width - 1, mask.height - 1];
  const result = {
    width: mask.width,
    height: mask.height,
    labels: [...mask.labels],
    classes: mask.classes,
    device: segmenter.device,
    first: pixel(0, 0),
    last: pixel(...last),
    lastColour: mask.colour(mask.at(...last)),
    shares: mask.shares(),
    stages: stages.map(({ stage, received, total }) => [stage, received, total]),
    differ,
    times: times.slice(1).map((time, i) => time - times[i]),
  };
  await segmenter.free();
  const freed = await segmenter.segment(canvas).catch((error) => `${error.kind}: ${error.message}`);
  return { ...result, freed };
}

/** The number of labels that differ from the argmax of the scores, and the largest difference in score. */
function compared(labels, { classes, width, height, data }) {
  let [count, worst] = [0, 0];
  const pixels = width * height;
  for (let i = 0; i < pixels; i += 1) {
    let best = 0;
    for (let c = 1; c < classes; c += 1) if (data[c * pixels + i] > data[best * pixels + i]) best = c;
    if (labels[i] !== best) {
      count += 1;
      worst = Math.max(worst, data[best * pixels + i] - data[labels[i] * pixels + i]);
    }
  }
  return { count, worst };
}

test('the demo model labels a photograph as the reference does', async () => {
  const page = await blank();
  const found = await inPage(page, label, '/reference/street.png');
  const expected = await scores('street');
  assert.deepEqual([found.width, found.height], [expected.width, expected.height]);
  const { count, worst } = compared(found.labels, expected);
  console.log(`${count} of ${found.labels.length} labels differ, by ${worst.toExponential(1)} of the scores; the margin is ${expected.bound.toExponential(1)}`);
  const [load, first] = found.times.map(Math.round);
  console.log(`${found.device}: loaded in ${load} ms, labelled in ${first} ms`);
  assert(worst <= expected.bound, `a label is off by ${worst}, the margin is ${expected.bound}`);
  assert(count < found.labels.length / 100);

  assert.equal(found.classes[0], 'Sky');
  assert.equal(found.first[3], 0, 'a hidden class is transparent');
  assert.equal(found.last[3], 128);
  for (const [i, channel] of found.lastColour.entries()) assert(Math.abs(channel - found.last[i]) <= 1);
  const all = found.shares.reduce((sum, { share }) => sum + share, 0);
  assert(Math.abs(all - 1) < 1e-9);
  const [begin, ...parts] = found.stages;
  const end = parts.pop();
  const size = (await readFile(path.join(root, 'assets', 'demo', 'demo.safetensors'))).length;
  assert.deepEqual(begin, ['download', 0, size]);
  assert.deepEqual(end, ['prepare', size, size]);
  assert(parts.length > 1 && parts.every(([stage, received], i) => stage === 'download' && received > (parts[i - 1]?.[1] ?? 0)));
  assert.deepEqual(found.differ, [0, 0, 0, 0], 'every kind of picture gives the same labels');
  assert.equal(found.freed, 'Request: this segmenter was freed');
  await done(page);
});

test('an fc6 of full width runs under the default limits, with the kernels for GPUs', async () => {
  const page = await blank(() => {
    Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });
  });
  const work = async ({ Segmenter }) => {
    const begin = performance.now();
    const segmenter = await Segmenter.load('/reference/wide.safetensors', { defaultLimits: true });
    const loaded = performance.now();
    const bitmap = await createImageBitmap(await (await fetch('/reference/wide.png')).blob(), { colorSpaceConversion: 'none' });
    const { classes, height, width, data } = await segmenter.scores(bitmap);
    const scored = performance.now();
    const mask = await segmenter.segment(bitmap);
    return { classes, height, width, data: [...data], labels: [...mask.labels], ms: [loaded - begin, scored - loaded] };
  };
  const found = await inPage(page, work);
  const expected = await scores('wide');
  assert.deepEqual([found.classes, found.height, found.width], [expected.classes, expected.height, expected.width]);
  let [squares, norm] = [0, 0];
  expected.data.forEach((value, i) => {
    squares += (value - found.data[i]) ** 2;
    norm += value ** 2;
  });
  const error = Math.sqrt(squares / norm);
  console.log(`loaded in ${Math.round(found.ms[0])} ms, scores in ${Math.round(found.ms[1])} ms; off by ${error.toExponential(1)}, the bound is ${expected.bound.toExponential(1)}`);
  assert(norm > 0 && error <= expected.bound, `off by ${error}, the bound is ${expected.bound}`);
  assert.deepEqual(compared(found.labels, found).count, 0);
  await done(page);
});

test('a binary network has two classes, a threshold and probabilities', async () => {
  const page = await blank();
  const work = async ({ Segmenter }) => {
    // The score is 10 · (red + green + blue) − 15, for colours from 0 to 1.
    const fullconv = JSON.stringify({
      version: 1,
      preprocess: { channels: 'rgb', range: 1, mean: [0, 0, 0], std: [1, 1, 1] },
      graph: { output: 'score', nodes: [{ name: 'score', op: 'conv2d', inputs: ['input', 'weight', 'bias'] }] },
      classes: ['bright'],
    });
    const header = JSON.stringify({
      __metadata__: { fullconv },
      weight: { dtype: 'F32', shape: [1, 3, 1, 1], data_offsets: [0, 12] },
      bias: { dtype: 'F32', shape: [1], data_offsets: [12, 16] },
    });
    const length = new BigUint64Array([BigInt(header.length)]);
    const file = await new Blob([length, header, new Float32Array([10, 10, 10, -15])]).arrayBuffer();
    const greys = [0, 255, 125, 130];
    const picture = new ImageData(new Uint8ClampedArray(greys.flatMap((grey) => [grey, grey, grey, 255])), 2, 2);
    const about = ({ activation, classCount, classes, threshold }) => ({ activation, classCount, classes, threshold });
    const segmenter = await Segmenter.load(file);
    const mask = await segmenter.segment(picture);
    const { classes, data } = await segmenter.probabilities(picture);
    const scores = await segmenter.scores(picture);
    const strict = await Segmenter.load(file, { threshold: 0.9 });
    const few = await strict.segment(picture);
    const wrong = await Segmenter.load(file, { threshold: 2 }).catch((error) => `${error.kind}: ${error.message}`);
    const demo = await Segmenter.load('/demo.safetensors');
    return {
      about: about(segmenter),
      greys,
      labels: [...mask.labels],
      names: mask.shares().map(({ name }) => name),
      probabilities: [classes, ...data],
      scores: [scores.classes, ...scores.data],
      strict: [strict.threshold, ...few.labels],
      wrong,
      demo: [demo.activation, demo.threshold ?? 'none'],
    };
  };
  const found = await inPage(page, work);
  assert.deepEqual(found.about, { activation: 'sigmoid', classCount: 2, classes: ['background', 'bright'], threshold: 0.5 });
  assert.deepEqual(found.labels, [0, 1, 0, 1]);
  assert.deepEqual(found.names, ['background', 'bright']);
  const scores = found.greys.map((grey) => (30 * grey) / 255 - 15);
  const of1 = scores.map((score) => 1 / (1 + Math.exp(-score)));
  for (const [i, p] of [...of1.map((p) => 1 - p), ...of1].entries()) assert(Math.abs(found.probabilities[1 + i] - p) < 1e-5);
  for (const [i, score] of scores.entries()) assert(Math.abs(found.scores[1 + i] - score) < 1e-4);
  assert.deepEqual([found.probabilities[0], found.scores[0]], [2, 1]);
  assert(Math.abs(found.strict[0] - 0.9) < 1e-6);
  assert.deepEqual(found.strict.slice(1), [0, 1, 0, 0]);
  assert.equal(found.wrong, 'Request: a threshold is a probability between 0 and 1, not 2');
  assert.deepEqual(found.demo, ['softmax', 'none']);
  await done(page);
});

test('failures reject with a FullconvError', async () => {
  const page = await blank();
  const work = async ({ FullconvError, Segmenter }) => {
    const error = (promise) =>
      promise.then(
        () => 'nothing failed',
        (error) => (error instanceof FullconvError ? `${error.kind}: ${error.message}` : `${error.name}`),
      );
    const abort = new AbortController();
    const aborted = await error(
      Segmenter.load('/endless.safetensors', {
        signal: abort.signal,
        onProgress: ({ received }) => received > 0 && abort.abort(),
      }),
    );
    const wrong = new Uint8Array(100);
    const segmenter = await Segmenter.load('/demo.safetensors');
    return {
      aborted,
      before: await error(Segmenter.load('/demo.safetensors', { signal: AbortSignal.abort() })),
      missing: await error(Segmenter.load('/missing.safetensors')),
      truncated: await error(Segmenter.load('/truncated.safetensors')),
      cut: await error(Segmenter.load('/cut.safetensors')),
      wrong: await error(Segmenter.load(wrong)),
      empty: await error(segmenter.segment(new Image())),
      after: (await segmenter.segment(new ImageData(40, 30))).labels.length,
    };
  };
  const found = await inPage(page, work);
  assert.equal(found.aborted, 'AbortError');
  assert.equal(found.before, 'AbortError');
  assert.match(found.missing, /^Fetch: .*missing\.safetensors cannot be fetched: the server says 404/);
  assert.match(found.truncated, /^ModelFile: not a whole safetensors file/);
  assert.match(found.cut, /^Fetch: .*cut\.safetensors broke off after 1000000 of 7636946 bytes: ./);
  assert.match(found.wrong, /^ModelFile: not a whole safetensors file/);
  assert.match(found.empty, /^Picture: the picture has no pixels/);
  assert.equal(found.after, 1200);
  await done(page);
});

test('a lost device has its own kind of error, and loading again works', async () => {
  const page = await blank();
  const work = async ({ Segmenter }) => {
    const devices = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...options) {
      const device = await requestDevice.apply(this, options);
      devices.push(device);
      return device;
    };
    const picture = new ImageData(64, 48);
    const segmenter = await Segmenter.load('/demo.safetensors');
    const kind = (promise) => promise.then(() => 'nothing failed', (error) => `${error.kind}: ${error.message}`);
    const underWay = kind(segmenter.segment(picture));
    await new Promise((resolve) => setTimeout(resolve));
    devices[0].destroy();
    const reason = await segmenter.lost;
    const found = { reason, underWay: await underWay, after: await kind(segmenter.segment(picture)) };
    await segmenter.free();
    const next = await Segmenter.load('/demo.safetensors');
    return { ...found, anew: (await next.segment(picture)).labels.length };
  };
  const found = await inPage(page, work);
  assert.match(found.reason, /Destroyed/);
  assert.match(found.underWay, /^DeviceLost: .* is lost/);
  assert.match(found.after, /^DeviceLost: .* is lost/);
  assert.equal(found.anew, 64 * 48);
  await done(page);
});
