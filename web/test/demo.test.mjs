// The demo page, driven through its controls.

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import path from 'node:path';
import { done, makeReferences, open, reference, root, start } from './browser.mjs';

/** The folder for screenshots. */
const shots = path.join(root, 'target', 'web-screenshots');

let session;
before(async () => {
  await mkdir(shots, { recursive: true });
  makeReferences();
  session = await start();
});
after(() => session?.close());

/** A smaller picture than the example. */
const strip = '?picture=reference/strip.png';
const stripPixels = 751 * 80;

const shoot = (page, name) => page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
/** Waits until a picture is labelled; fails if the page shows an error. */
const labelled = async (page, name = '') => {
  const said = page.getByRole('status').filter({ hasText: `${name} is labelled` });
  const error = page.locator('#error:visible');
  await said.or(error).first().waitFor();
  assert.deepEqual(await error.allInnerTexts(), []);
};
const alert = (page, text) => page.getByRole('alert').filter({ hasText: text }).waitFor();

/** The number of overlay pixels that are not transparent. */
const seen = (page) =>
  page.evaluate(() => {
    const { data } = (({ width, height }, context) => context.getImageData(0, 0, width, height))(
      document.querySelector('#overlay'),
      document.querySelector('#overlay').getContext('2d'),
    );
    let count = 0;
    for (let i = 3; i < data.length; i += 4) count += Number(data[i] > 0);
    return count;
  });

test('the example is labelled, and the keyboard reaches every control', async () => {
  const page = await open(session);
  await labelled(page);
  await shoot(page, 'light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await shoot(page, 'dark');
  await page.emulateMedia({ colorScheme: 'light' });
  const pixels = 751 * 563;
  assert.equal(await seen(page), pixels);
  assert.match(await page.locator('#overlay').getAttribute('aria-label'), /^The picture's classes: \w+ \d+ %/);
  assert.match(await page.locator('#times').innerText(), /Labelling\s+[\d.]+ m?s/);

  // Tab reaches every control, in visual order.
  const order = [];
  for (let i = 0; i < 40; i += 1) {
    await page.keyboard.press('Tab');
    const id = await page.evaluate(() => document.activeElement?.id || document.activeElement?.localName);
    if (order.includes(id) || id === 'body') break;
    order.push(id);
  }
  assert.deepEqual(order.slice(0, 5), ['choose', 'camera', 'example', 'save', 'opacity']);
  assert(order.filter((id) => id.startsWith('class-')).length > 4, order.join());
  assert(order.includes('summary'), order.join());

  const first = page.locator('#legend input').first();
  const part = parseFloat(await page.locator('#legend .share').first().innerText()) / 100;
  await first.focus();
  await page.keyboard.press('Space');
  assert(Math.abs((await seen(page)) / pixels - (1 - part)) < 0.001);
  assert(!(await first.isChecked()));
  await page.keyboard.press('Space');
  assert.equal(await seen(page), pixels);

  await page.locator('#opacity').focus();
  for (let i = 0; i < 4; i += 1) await page.keyboard.press('ArrowRight');
  assert.equal(await page.locator('#opacity-value').innerText(), '80 %');
  assert.equal(await page.locator('#overlay').evaluate((canvas) => canvas.style.opacity), '0.8');

  await page.locator('#overlay').hover({ position: { x: 300, y: 20 } });
  assert.equal(await page.locator('#tip').innerText(), 'Sky');
  await done(page);
});

test('the page follows the colour scheme and fits a telephone', async () => {
  const page = await open(session, strip, { colorScheme: 'dark' });
  await labelled(page);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), 'rgb(17, 20, 24)');
  await page.emulateMedia({ colorScheme: 'light' });
  assert.equal(await ground(), 'rgb(244, 245, 247)');
  await page.setViewportSize({ width: 390, height: 800 });
  await shoot(page, 'telephone');
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0);
  await done(page);
});

test('a picture can be chosen, dropped, or come from the camera', async () => {
  const page = await open(session, strip);
  await labelled(page, 'The example');
  await page.locator('#file').setInputFiles(path.join(reference, 'strip.png'));
  await labelled(page, 'strip.png');
  assert.equal(await seen(page), stripPixels);

  const bytes = (await readFile(path.join(reference, 'strip.png'))).toString('base64');
  await page.evaluate((text) => {
    const data = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([data], 'dropped.png', { type: 'image/png' }));
    document.querySelector('#stage').dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer }));
  }, bytes);
  await labelled(page, 'dropped.png');
  assert.equal(await seen(page), stripPixels);

  await page.locator('#file').setInputFiles({ name: 'no.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
  await alert(page, 'no.png cannot be opened: this browser cannot read it as a picture.');

  await page.getByRole('button', { name: 'Use the camera' }).click();
  await page.locator('#times').filter({ hasText: 'Frames a second' }).waitFor();
  await page.getByRole('button', { name: 'Stop the camera' }).click();
  await page.getByRole('button', { name: 'Use the camera' }).waitFor();
  await done(page);
});

test('failures are shown, with a way on', async (t) => {
  const fails = async (query, text, before) => {
    const page = await open(session, query, { before });
    await alert(page, text);
    return page;
  };
  await t.test('no WebGPU', async () => {
    const page = await fails('', 'This browser offers no WebGPU', () => {
      Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
    });
    await shoot(page, 'without-webgpu');
    await done(page);
  });
  await t.test('WebGPU without an adapter', async () => {
    const page = await fails('', 'This browser offers no WebGPU', () => {
      GPU.prototype.requestAdapter = async () => null;
    });
    await done(page);
  });
  await t.test('a file that is not there', async () => done(await fails('?model=no.safetensors', 'the server says 404')));
  await t.test('a file that was cut short', async () =>
    done(await fails('?model=truncated.safetensors', 'The model file cannot be used: not a whole safetensors file')));
  await t.test('an answer that breaks off', async () =>
    done(await fails('?model=cut.safetensors', 'broke off after 1000000 of 7636946 bytes')));
  await t.test('a download that is cancelled', async () => {
    const page = await open(session, '?model=endless.safetensors');
    await page.getByRole('status').filter({ hasText: 'Fetching the model: 1.0 MB of 7.6 MB' }).waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await alert(page, 'Loading the model was cancelled.');
    await page.getByRole('button', { name: 'Load it' }).waitFor();
    await done(page);
  });
  await t.test('a lost device', async () => {
    const page = await open(session, strip, {
      before: () => {
        const { requestDevice } = GPUAdapter.prototype;
        GPUAdapter.prototype.requestDevice = async function (...options) {
          window.device = await requestDevice.apply(this, options);
          return window.device;
        };
      },
    });
    await labelled(page);
    await page.evaluate(() => window.device.destroy());
    await alert(page, 'The graphics device was lost');
    await shoot(page, 'lost');
    await page.getByRole('button', { name: 'Start again' }).click();
    await labelled(page);
    assert(!(await page.getByRole('alert').isVisible()));
    await done(page);
  });
});
