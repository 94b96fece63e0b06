/**
 * What failed. `Fetch`: something could not be fetched; `Panic`: a bug of fullconv, after which the page has to be
 * loaded anew; the others are those of the Rust library's `ErrorKind`.
 */
export type ErrorKind =
  | 'Fetch'
  | 'Io'
  | 'ModelFile'
  | 'Picture'
  | 'Shape'
  | 'Request'
  | 'Unsupported'
  | 'Limit'
  | 'NotFinite'
  | 'NoAdapter'
  | 'Device'
  | 'DeviceLost'
  | 'Internal'
  | 'Panic';

/** What every function of this package rejects with. The message is one line for people. */
export class FullconvError extends Error {
  override readonly name = 'FullconvError';

  constructor(
    /** For programs. */
    readonly kind: ErrorKind,
    message: string,
  ) {
    super(message);
  }
}

/** The errors of the wasm, as those of this package. What is none of its own stays as it is. */
export function translated(error: unknown): unknown {
  if (error instanceof FullconvError) return error;
  if (error instanceof WebAssembly.RuntimeError) {
    return new FullconvError('Panic', `fullconv failed (the console says where): ${error.message}`);
  }
  if (error instanceof Error && 'kind' in error) {
    return new FullconvError(error.kind as ErrorKind, error.message);
  }
  return error;
}
