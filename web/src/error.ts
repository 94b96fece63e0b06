/**
 * The kind of a failure. `Fetch`: a file could not be fetched; `Panic`: a bug of fullconv, after which the page has to
 * be reloaded; the others are the Rust library's `ErrorKind`.
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

/** The error of every function of this package. The message is one line for people. */
export class FullconvError extends Error {
  override readonly name = 'FullconvError';

  constructor(
    /** The kind, for programs. */
    readonly kind: ErrorKind,
    message: string,
  ) {
    super(message);
  }
}

/** Turns an error of the wasm into a `FullconvError`; returns other errors unchanged. */
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
