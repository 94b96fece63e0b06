import { FullconvError } from './error.js';

/** A picture to segment. A video gives its current frame. */
export type Picture =
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement
  | VideoFrame
  | ImageData;

/**
 * The picture's pixels. Transparent areas become black; those of ImageData keep their colour, and only networks with a
 * channel for alpha look at it.
 */
export async function pixels(picture: Picture): Promise<ImageData> {
  if (picture instanceof ImageData) return picture;
  if (picture instanceof HTMLImageElement && !picture.complete) {
    // An image that cannot be decoded has no size; the check below reports it.
    await picture.decode().catch(() => undefined);
  }
  const [width, height] = size(picture);
  if (width === 0 || height === 0) {
    throw new FullconvError('Picture', 'the picture has no pixels: it is not loaded, or cannot be decoded');
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
  if (context === null) {
    throw new FullconvError('Picture', `the page cannot hold a picture of ${height}x${width} pixels (height x width)`);
  }
  context.drawImage(picture, 0, 0, width, height);
  try {
    return context.getImageData(0, 0, width, height);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'SecurityError') {
      throw new FullconvError('Picture', 'the picture is from another site, which does not let this page read it');
    }
    const reason = error instanceof Error ? error.message : String(error);
    throw new FullconvError(
      'Picture',
      `the page cannot read a picture of ${height}x${width} pixels (height x width): ${reason}`,
    );
  }
}

function size(picture: Exclude<Picture, ImageData>): [number, number] {
  if (picture instanceof HTMLImageElement) return [picture.naturalWidth, picture.naturalHeight];
  if (picture instanceof HTMLVideoElement) return [picture.videoWidth, picture.videoHeight];
  if (typeof VideoFrame !== 'undefined' && picture instanceof VideoFrame) {
    return [picture.displayWidth, picture.displayHeight];
  }
  const { width, height } = picture as ImageBitmap | HTMLCanvasElement | OffscreenCanvas;
  return [width, height];
}
