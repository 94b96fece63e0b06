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
 * All calls are asynchronous and none blocks the page for long. No threads and no special headers are needed.
 */

import init, { Download, WebGpu, type InitInput, type Scores as Found, type WebSegmenter } from './wasm/fullconv_wasm.js';
import { FullconvError, translated } from './error.js';
import { Mask } from './mask.js';
import { pixels, type Picture } from './picture.js';

export { FullconvError, type ErrorKind } from './error.js';
export { Mask, type Colour, type DrawOptions } from './mask.js';
export type { Picture } from './picture.js';

/** A model file: a URL to fetch, or its bytes. */
export type ModelSource = string | URL | Request | Response | Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;

/** The progress of loading. */
export interface Progress {
  /** `download`: the file is being fetched; `prepare`: the whole file is here and goes to the device. */
  stage: 'download' | 'prepare';
  /** Bytes received so far. */
  received: number;
  /** Size of the file in bytes, if known. */
  total: number | undefined;
}

export interface LoadOptions {
  /** Called when loading starts, for each part of the file, and when the file is complete. */
  onProgress?: (progress: Progress) => void;
  /** Aborts loading: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
  /** Open the device with WebGPU's default limits, which every device supports. */
  defaultLimits?: boolean;
  /** The probability, between 0 and 1, from which a pixel is class 1 of a binary model, in place of the file's. */
  threshold?: number;
}

/** Numbers for each class, `[classes, height, width]`: `scores` or `probabilities`. A binary model has one plane of
 * scores, and two of probabilities. */
export interface Scores {
  classes: number;
  height: number;
  width: number;
  data: Float32Array;
}

let ready: Promise<unknown> | undefined;

/**
 * Compiles the WebAssembly, unless it is compiled already. `Segmenter.load` calls it; call it first with the URL of
 * `fullconv_wasm_bg.wasm` if that file is not beside this module.
 */
export async function initialize(wasm?: InitInput | Promise<InitInput>): Promise<void> {
  ready ??= init(wasm === undefined ? undefined : { module_or_path: wasm });
  try {
    await ready;
  } catch (error) {
    // The next call tries again.
    ready = undefined;
    throw new FullconvError('Fetch', `the WebAssembly of fullconv cannot be loaded: ${message(error)}`);
  }
}

/** A model on the GPU, ready for pictures of any size. */
export class Segmenter {
  /** Such as `fcn8s`. */
  readonly architecture: string;
  /** The number of classes. */
  readonly classCount: number;
  /** What makes probabilities of scores: softmax, if the classes exclude each other, or sigmoid, each for itself. */
  readonly activation: 'softmax' | 'sigmoid';
  /** The probability from which a pixel is class 1 of a binary model (one output channel); else undefined. */
  readonly threshold: number | undefined;
  /** The names of the classes; empty if the model file has none. */
  readonly classes: readonly string[];
  /** The model file's description. */
  readonly description: string;
  /** The terms of the weights. */
  readonly license: string;
  /** The device's name, for people. */
  readonly device: string;
  /** Resolves, with the reason, when the device is lost or freed. Every later call fails: load again. */
  readonly lost: Promise<string>;

  #inner: WebSegmenter | undefined;
  readonly #gpu: WebGpu;
  readonly #colours: Uint8Array;
  /** The last run: runs wait for each other, to share their buffers. */
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(gpu: WebGpu, inner: WebSegmenter, device: string) {
    this.#inner = inner;
    this.#gpu = gpu;
    this.#colours = inner.colours();
    this.architecture = inner.architecture();
    this.classCount = inner.class_count();
    this.activation = inner.activation() as 'softmax' | 'sigmoid';
    this.threshold = inner.threshold();
    this.classes = Object.freeze(inner.classes());
    this.description = inner.description();
    this.license = inner.license();
    this.device = device;
    this.lost = gpu.lost();
  }

  /**
   * Opens the GPU, fetches the model file, compiles its kernels and uploads its weights.
   *
   * Rejects with a {@link FullconvError}: `NoAdapter` without WebGPU, before the fetch; `Fetch` if the file cannot be
   * fetched completely; `Request` for a threshold that does not suit the model; `ModelFile` if the file is damaged or
   * of an unknown network; `Limit` or `Device` if the device cannot hold or run the network. When aborted, rejects with
   * the signal's reason.
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
      const inner = await gpu.segmenter(file, options.threshold);
      signal?.throwIfAborted();
      return new Segmenter(gpu, inner, await deviceName());
    } catch (error) {
      gpu?.close();
      throw signal?.aborted ? signal.reason : translated(error);
    }
  }

  /** The class of each pixel of a picture, at the picture's own size. Calls run one after the other. */
  segment(picture: Picture): Promise<Mask> {
    return this.#run(picture, async (inner, { width, height, data }) => {
      const labels = await inner.segment(width, height, bytes(data));
      return new Mask(width, height, labels, this.classes, this.#colours);
    });
  }

  /** The network's output for a picture, at its own size: the scores of each class, before softmax or sigmoid. A
   * network that ends in its softmax or sigmoid gives probabilities. */
  scores(picture: Picture): Promise<Scores> {
    return this.#run(picture, async (inner, { width, height, data }) => {
      return planes(await inner.scores(width, height, bytes(data)));
    });
  }

  /** The probability of each class at each pixel of a picture, at the picture's own size. */
  probabilities(picture: Picture): Promise<Scores> {
    return this.#run(picture, async (inner, { width, height, data }) => {
      return planes(await inner.probabilities(width, height, bytes(data)));
    });
  }

  /** Red, green and blue of a class, 0 to 255. */
  colour(label: number): [number, number, number] {
    const [r = 0, g = 0, b = 0] = this.#colours.subarray(3 * label, 3 * label + 3);
    return [r, g, b];
  }

  /** Frees the device's memory after the runs under way. */
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
    // The pixels are read now: a video moves on.
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

/** The numbers of `found`, which is freed. */
function planes(found: Found): Scores {
  const { classes, height, width, data } = found;
  found.free();
  return { classes, height, width, data };
}

/** The browser's name for its preferred device. */
async function deviceName(): Promise<string> {
  type Info = { vendor: string; architecture: string; description: string };
  type Gpu = { requestAdapter(): Promise<{ info: Info } | null> };
  const { gpu } = navigator as unknown as { gpu: Gpu };
  const info = (await gpu.requestAdapter().catch(() => null))?.info;
  return info?.description || [info?.vendor, info?.architecture].filter(Boolean).join(' ') || 'WebGPU';
}

/** Downloads the file; each part goes straight into the wasm's memory. */
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
  // A compressed response's content-length is the compressed length.
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
