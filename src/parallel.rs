//! Work on all cores, or on the one there is in a browser. The home of rayon.

use crate::error::Result;

/// Calls `work(i, chunk)` for every `size` elements of `data`, on all cores; the first error ends it.
pub(crate) fn try_chunks<T: Send>(
    data: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) -> Result<()> + Sync + Send,
) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        data.par_chunks_mut(size)
            .enumerate()
            .try_for_each(|(i, chunk)| work(i, chunk))
    }
    #[cfg(target_arch = "wasm32")]
    data.chunks_mut(size)
        .enumerate()
        .try_for_each(|(i, chunk)| work(i, chunk))
}

/// Calls `work` for each item on all cores and gives back the results in order; the first error ends it.
pub(crate) fn try_map<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        items.par_iter().map(work).collect()
    }
    #[cfg(target_arch = "wasm32")]
    items.iter().map(work).collect()
}

/// Calls `here` on this thread, and `meanwhile` on others at the same time.
pub(crate) fn meanwhile<T>(meanwhile: impl FnOnce() + Send, here: impl FnOnce() -> T) -> T {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::in_place_scope(|scope| {
        scope.spawn(|_| meanwhile());
        here()
    });
    #[cfg(target_arch = "wasm32")]
    {
        meanwhile();
        here()
    }
}
