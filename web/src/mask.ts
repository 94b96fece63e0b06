import { FullconvError } from './error.js';

/** Red, green and blue, 0 to 255. */
export type Colour = [number, number, number];

export interface DrawOptions {
  /** Opacity of the colours: 0 is invisible; 1, the default, is opaque. */
  opacity?: number;
  /** Classes to draw transparent. */
  hidden?: Iterable<number>;
}

/** A class for every pixel of a picture. */
export class Mask {
  readonly #colours: Uint8Array;

  constructor(
    readonly width: number,
    readonly height: number,
    /** The class of each pixel, row by row. */
    readonly labels: Uint8Array,
    /** The names of classes 0, 1, 2 … */
    readonly classes: readonly string[],
    colours: Uint8Array,
  ) {
    this.#colours = colours;
  }

  /** The name of a class. */
  className(label: number): string {
    return this.classes[label] || `class ${label}`;
  }

  /** The colour of a class. */
  colour(label: number): Colour {
    const [r = 0, g = 0, b = 0] = this.#colours.subarray(3 * label, 3 * label + 3);
    return [r, g, b];
  }

  /** The class at column `x` and row `y`; undefined outside the mask. */
  at(x: number, y: number): number | undefined {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return undefined;
    return this.labels[Math.floor(y) * this.width + Math.floor(x)];
  }

  /** The classes that occur, with their shares of all pixels (0 to 1), the most frequent first. */
  shares(): { label: number; name: string; share: number }[] {
    const counts = new Uint32Array(256);
    for (const label of this.labels) counts[label]! += 1;
    return Array.from(counts, (count, label) => ({ label, name: this.className(label), share: count / this.labels.length }))
      .filter(({ share }) => share > 0)
      .sort((a, b) => b.share - a.share);
  }

  /** The colours as pixels, to draw over the picture. */
  toImageData({ opacity = 1, hidden = [] }: DrawOptions = {}): ImageData {
    if (!(opacity >= 0 && opacity <= 1)) {
      throw new FullconvError('Request', `an opacity is from 0 to 1, not ${opacity}`);
    }
    // Each class's pixel as one word; red is the first byte in memory.
    const words = new Uint32Array(256);
    const bytes = new Uint8Array(words.buffer);
    const without = new Set(hidden);
    for (let label = 0; label < 256; label += 1) {
      const alpha = without.has(label) ? 0 : Math.round(255 * opacity);
      bytes.set([...this.colour(label), alpha], 4 * label);
    }
    const image = new ImageData(this.width, this.height);
    const pixels = new Uint32Array(image.data.buffer);
    this.labels.forEach((label, i) => {
      pixels[i] = words[label]!;
    });
    return image;
  }

  /** Resizes a canvas to the mask and draws the colours on it. */
  draw(canvas: HTMLCanvasElement | OffscreenCanvas, options: DrawOptions = {}): void {
    const image = this.toImageData(options);
    canvas.width = this.width;
    canvas.height = this.height;
    const context = canvas.getContext('2d') as CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D | null;
    if (context === null) {
      throw new FullconvError('Request', 'the canvas has no 2d context');
    }
    context.putImageData(image, 0, 0);
  }
}
