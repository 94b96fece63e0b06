// Serves web/site, and faulty responses for the tests. `npm run serve` starts it by hand.

import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const site = fileURLToPath(new URL('../site/', import.meta.url));

const types = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.jpg': 'image/jpeg',
  '.js': 'text/javascript',
  '.png': 'image/png',
  '.wasm': 'application/wasm',
};

/** The first bytes of the demo model. */
async function head(bytes) {
  const file = await open(path.join(site, 'demo.safetensors'));
  const { buffer } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
  await file.close();
  return buffer;
}

const special = {
  '/blank': (response) => response.writeHead(200, { 'content-type': types['.html'] }).end('<!doctype html><title>blank</title>'),
  // A complete response with half the file.
  '/truncated.safetensors': async (response) => {
    const half = await head(4_000_000);
    response.writeHead(200, { 'content-length': half.length }).end(half);
  },
  // A response that breaks off.
  '/cut.safetensors': async (response) => {
    const part = await head(1_000_000);
    response.writeHead(200, { 'content-length': 7_636_946 });
    response.write(part, () => setTimeout(() => response.destroy(), 200));
  },
  // A response that never ends.
  '/endless.safetensors': async (response) => {
    response.writeHead(200, { 'content-length': 7_636_946 });
    response.write(await head(1_000_000));
  },
};

/** Starts a server on `port`, or on a free port; `/reference/…` serves the folder `reference`. */
export async function serve({ port = 0, reference } = {}) {
  const server = createServer(async (request, response) => {
    try {
      const { pathname } = new URL(request.url, 'http://localhost');
      if (pathname in special) return await special[pathname](response);
      const inReference = reference && pathname.startsWith('/reference/');
      const folder = inReference ? reference : site;
      const name = decodeURIComponent(inReference ? pathname.slice('/reference/'.length) : pathname.slice(1)) || 'index.html';
      const file = path.join(folder, name);
      if (!file.startsWith(path.resolve(folder) + path.sep)) return response.writeHead(404).end();
      const { size } = await stat(file);
      const type = types[path.extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, { 'content-type': type, 'content-length': size, 'cache-control': 'no-store' });
      createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { address: `http://localhost:${server.address().port}`, close };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { address } = await serve({ port: Number(process.env.PORT ?? 8080) });
  console.log(address);
}
