// Shared by the tests: a browser with WebGPU, the server, pages.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

/** The repository. */
export const root = fileURLToPath(new URL('../../', import.meta.url));

/** The folder of reference.rs's files. */
export const reference = path.join(root, 'target', 'web-reference');

const programs = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** WebGPU without a GPU, a fake camera, no background traffic. */
const flags = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A started browser and server; `close` ends both. */
export async function start() {
  const executablePath = programs.find((program) => program && existsSync(program));
  assert(executablePath, 'no Chromium was found: install it, or set CHROMIUM to its path');
  const [server, browser] = await Promise.all([
    serve({ reference }),
    chromium.launch({ executablePath, args: flags }),
  ]);
  const close = async () => {
    await browser.close();
    await server.close();
  };
  return { address: server.address, browser, close };
}

/** Opens a page and collects its errors in `failures`; `before` runs in the page first. */
export async function open({ address, browser }, query = '', { before, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  context.setDefaultTimeout(180_000);
  const page = await context.newPage();
  page.failures = [];
  page.on('pageerror', (error) => page.failures.push(String(error)));
  page.on('console', (message) => {
    // Some tests fetch missing files on purpose.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) page.failures.push(message.text());
  });
  if (before) await page.addInitScript(before);
  await page.goto(`${address}/${query}`);
  return page;
}

/** Checks that a page has no failures, and closes it. */
export async function done(page) {
  assert.deepEqual(page.failures, []);
  await page.context().close();
}

/** Builds the reference program and runs it, unless this build has run already. */
export function makeReferences() {
  const target = path.join(root, 'target');
  const program = path.join(target, 'debug', 'examples', 'web_reference');
  // With --workspace, like the tests: existing build outputs are reused.
  const build = ['build', '--quiet', '--target-dir', target, '--workspace', '--example', 'web_reference'];
  execFileSync('cargo', build, { cwd: root, stdio: 'inherit' });
  const done = path.join(reference, 'done');
  if (existsSync(done) && statSync(done).mtimeMs > statSync(program).mtimeMs) return;
  execFileSync(program, [reference], { stdio: 'inherit' });
  writeFileSync(done, '');
}

/** The reference's scores `name`: classes, height, width, data, and the bound. */
export async function scores(name) {
  const text = await readFile(path.join(reference, `${name}.json`), 'utf8');
  const bytes = await readFile(path.join(reference, `${name}.scores`));
  const data = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return { ...JSON.parse(text), data };
}
