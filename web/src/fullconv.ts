/**
 * Labels every pixel of a picture, in the browser, on the GPU.
 *
 * ```js
 * import { Segmenter } from 'fullconv';
 *
 * const segmenter = await Segmenter.load('demo.safetensors');
 * const mask = await segmenter.segment(document.querySelector('img'));
 * mask.draw(document.querySelector('canvas'), { opacity: 0.5 });
 * ```
 *
 * Everything is asynchronous and nothing blocks the page for long; no thread and no special header is needed.
 */

import init, { Download, WebGpu, type InitInput, type WebSegmenter } from './wasm/fullconv_wasm.js';
import { FullconvError, translated } from './error.js';
import { Mask } from './mask.js';
import { pixels, type Picture } from './picture.js';

export { FullconvError, type ErrorKind } from './error.js';
export { Mask, type Colour, type DrawOptions } from './mask.js';
export type { Picture } from './picture.js';

/** Where a model file comes from: an address to fetch, or its bytes. */
export type ModelSource = string | URL | Request | Response | Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;

/** How far loading is. */
export interface Progress {
  /** `download`: the file is on its way; `prepare`: it is whole, and goes to the device. */
  stage: 'download' | 'prepare';
  /** Bytes that have come. */
  received: number;
  /** Bytes that are to come in all, where that is known. */
  total: number | undefined;
}

export interface LoadOptions {
  /** Called when loading starts, for each part of the file, and when the file is there. */
  onProgress?: (progress: Progress) => void;
  /** Ends loading: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
  /** Use no more of the device than every WebGPU device can do: what runs so runs everywhere. */
  defaultLimits?: boolean;
}

/** Class scores before softmax, `[classes, height, width]`, at the size at which the network sees a picture. */
export interface Scores {
  classes: number;
  height: number;
  width: number;
  data: Float32Array;
}

let ready: Promise<unknown> | undefined;

/**
 * Compiles the WebAssembly. `Segmenter.load` does it where it is not done yet; call it first to say where the
 * file `fullconv_wasm_bg.wasm` is, if that is not beside this module.
 */
export async function initialize(wasm?: InitInput | Promise<InitInput>): Promise<void> {
  ready ??= init(wasm === undefined ? undefined : { module_or_path: wasm });
  try {
    await ready;
  } catch (error) {
    // The next call may have more luck.
    ready = undefined;
    throw new FullconvError('Fetch', `the WebAssembly of fullconv cannot be loaded: ${message(error)}`);
  }
}

/** A model on the GPU, ready for pictures of any size. */
export class Segmenter {
  /** Such as `fcn8s`. */
  readonly architecture: string;
  /** How many classes it tells apart. */
  readonly classCount: number;
  /** The names of its classes; empty if the model file does not say. */
  readonly classes: readonly string[];
  /** What the model file says of itself. */
  readonly description: string;
  /** The terms of its weights. */
  readonly license: string;
  /** The device, for people. */
  readonly device: string;
  /** Resolves, with the reason, when the device is lost or freed: every call fails from then on; load anew. */
  readonly lost: Promise<string>;

  #inner: WebSegmenter | undefined;
  readonly #gpu: WebGpu;
  readonly #colours: Uint8Array;
  /** What is under way: runs come one after the other, so that their buffers serve the next. */
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(gpu: WebGpu, inner: WebSegmenter, device: string) {
    this.#inner = inner;
    this.#gpu = gpu;
    this.#colours = inner.colours();
    this.architecture = inner.architecture();
    this.classCount = inner.class_count();
    this.classes = Object.freeze(inner.classes());
    this.description = inner.description();
    this.license = inner.license();
    this.device = device;
    this.lost = gpu.lost();
  }

  /**
   * Opens the GPU, fetches the model file, and makes it ready.
   *
   * Rejects with a {@link FullconvError}: `NoAdapter` where there is no WebGPU, before anything is fetched;
   * `Fetch` if the file cannot be had or breaks off; `ModelFile` if it is damaged or of no known network; `Limit`
   * or `Device` if the device cannot hold or run it. Aborted, it rejects with the signal's reason.
   */
  static async load(source: ModelSource, options: LoadOptions = {}): Promise<Segmenter> {
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    await initialize();
    let gpu: WebGpu | undefined;
    try {
      gpu = await WebGpu.open(options.defaultLimits ?? false);
      const file = await download(source, options);
      const received = file.length();
      signal?.throwIfAborted();
      onProgress?.({ stage: 'prepare', received, total: received });
      const inner = await gpu.segmenter(file);
      signal?.throwIfAborted();
      return new Segmenter(gpu, inner, await deviceName());
    } catch (error) {
      gpu?.close();
      throw signal?.aborted ? signal.reason : translated(error);
    }
  }

  /** The class of each pixel of a picture, at the picture's own size. Pictures are taken one after the other. */
  segment(picture: Picture): Promise<Mask> {
    return this.#run(picture, async (inner, { width, height, data }) => {
      const labels = await inner.segment(width, height, bytes(data));
      return new Mask(width, height, labels, this.classes, this.#colours);
    });
  }

  /** The scores of each class for a picture. */
  scores(picture: Picture): Promise<Scores> {
    return this.#run(picture, async (inner, { width, height, data }) => {
      const found = await inner.scores(width, height, bytes(data));
      const scores = { classes: found.classes, height: found.height, width: found.width, data: found.data };
      found.free();
      return scores;
    });
  }

  /** Red, green and blue of a class, 0 to 255. */
  colour(label: number): [number, number, number] {
    const [r = 0, g = 0, b = 0] = this.#colours.subarray(3 * label, 3 * label + 3);
    return [r, g, b];
  }

  /** Lets go of the device's memory, when what is under way is done. */
  async free(): Promise<void> {
    const inner = this.#inner;
    this.#inner = undefined;
    await this.#queue;
    if (inner === undefined) return;
    inner.free();
    this.#gpu.close();
    this.#gpu.free();
  }

  #run<T>(picture: Picture, work: (inner: WebSegmenter, image: ImageData) => Promise<T>): Promise<T> {
    const inner = this.#inner;
    if (inner === undefined) {
      return Promise.reject(new FullconvError('Request', 'this segmenter was freed'));
    }
    // The picture as it is now: a video goes on.
    const image = pixels(picture);
    image.catch(() => undefined);
    const result = this.#queue.then(async () => {
      try {
        return await work(inner, await image);
      } catch (error) {
        throw translated(error);
      }
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }
}

/** What the browser tells of the device that it prefers. */
async function deviceName(): Promise<string> {
  type Info = { vendor: string; architecture: string; description: string };
  type Gpu = { requestAdapter(): Promise<{ info: Info } | null> };
  const { gpu } = navigator as unknown as { gpu: Gpu };
  const info = (await gpu.requestAdapter().catch(() => null))?.info;
  return info?.description || [info?.vendor, info?.architecture].filter(Boolean).join(' ') || 'WebGPU';
}

/** Each part goes to the wasm's memory when it comes, to where it stays. */
async function download(source: ModelSource, options: LoadOptions): Promise<Download> {
  const { signal, onProgress } = options;
  if (source instanceof ArrayBuffer || source instanceof Uint8Array) {
    const whole = source instanceof Uint8Array ? source : new Uint8Array(source);
    const file = new Download(whole.byteLength);
    file.push(whole);
    return file;
  }
  const { name, stream, total } = await open(source, signal);
  const file = new Download(total ?? 0);
  const reader = stream.getReader();
  const stop = () => void reader.cancel(signal?.reason).catch(() => undefined);
  signal?.addEventListener('abort', stop);
  try {
    onProgress?.({ stage: 'download', received: 0, total });
    for (;;) {
      const { done, value } = await chunk(reader, name, file.length(), total);
      signal?.throwIfAborted();
      if (done) break;
      file.push(value);
      onProgress?.({ stage: 'download', received: file.length(), total });
    }
    if (total !== undefined && file.length() < total) {
      throw cut(name, file.length(), total, 'the file ended');
    }
    return file;
  } catch (error) {
    stop();
    file.free();
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

interface Opened {
  name: string;
  stream: ReadableStream<Uint8Array<ArrayBuffer>>;
  total: number | undefined;
}

async function open(source: string | URL | Request | Response | Blob, signal?: AbortSignal): Promise<Opened> {
  if (source instanceof Blob) {
    const name = source instanceof File ? source.name : 'the model file';
    return { name, stream: source.stream(), total: source.size };
  }
  let response: Response;
  if (source instanceof Response) {
    response = source;
  } else {
    const address = source instanceof Request ? source.url : String(source);
    try {
      response = await fetch(source, signal ? { signal } : {});
    } catch (error) {
      signal?.throwIfAborted();
      throw new FullconvError('Fetch', `${address} cannot be fetched: ${message(error)}`);
    }
  }
  const name = response.url || 'the model file';
  if (!response.ok || response.body === null) {
    const reason = `${response.status} ${response.statusText}`.trim();
    throw new FullconvError('Fetch', `${name} cannot be fetched: the server says ${reason}`);
  }
  // Of a compressed answer the header tells the compressed length.
  const length = Number(response.headers.get('content-length') ?? NaN);
  const isPlain = (response.headers.get('content-encoding') ?? 'identity') === 'identity';
  const total = isPlain && Number.isSafeInteger(length) && length > 0 ? length : undefined;
  return { name, stream: response.body, total };
}

async function chunk(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  name: string,
  received: number,
  total: number | undefined,
) {
  try {
    return await reader.read();
  } catch (error) {
    throw cut(name, received, total, message(error));
  }
}

function cut(name: string, received: number, total: number | undefined, reason: string): FullconvError {
  const of = total === undefined ? '' : ` of ${total}`;
  return new FullconvError('Fetch', `${name} broke off after ${received}${of} bytes: ${reason}`);
}

function bytes(data: ArrayLike<number> & ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
